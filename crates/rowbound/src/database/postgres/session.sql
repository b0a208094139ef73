-- What every session of ours is, whatever the server, the database, the role and the URL say. Every name is qualified: until the path is closed, a
-- function of the application could have the name of one of the server's. tests/postgres/sessions.rs reads all settings of such a session from a real
-- server, and fails on one that is neither set here nor listed in tests/postgres/session_settings.txt.
--
-- Each is set even where it has the value already: what a session has set itself, no reload of the configuration changes.

-- Tables that the plan names without a schema are looked for where the role looks for them.
select pg_catalog.set_config('rowbound.schemas', pg_catalog.current_schemas(false)::pg_catalog.text, false),
    pg_catalog.set_config('rowbound.search_path', pg_catalog.current_setting('search_path'), false),
    -- What a claim or a check saw must be on disk before a file goes. Another session may commit without waiting for that, and after a crash its
    -- row would be back. Our own commit, which comes later, takes everything before it to the disk.
    pg_catalog.set_config(
        'synchronous_commit',
        case
            when pg_catalog.current_setting('synchronous_commit') operator(pg_catalog.=) 'remote_apply' then 'remote_apply'
            else 'on'
        end,
        false
    );

select pg_catalog.set_config(s.name, s.value, false)
from (values
    -- No function, operator or table of ours means another's.
    ('search_path', 'pg_catalog, pg_temp'),

    -- Cuts what an index of the kind GIN finds, at random and without an error. A reference that is not read is a file that is deleted.
    ('gin_fuzzy_search_limit', '0'),
    -- An error instead of fewer rows, where row level security hides some from us.
    ('row_security', 'off'),

    -- How a value becomes text: in a key, in a bound query, in what the catalogs say of tables.
    ('datestyle', 'ISO, MDY'),
    ('timezone', 'UTC'),
    ('intervalstyle', 'postgres'),
    ('extra_float_digits', '1'),
    ('bytea_output', 'hex'),
    ('quote_all_identifiers', 'off'),
    -- How text becomes a statement.
    ('standard_conforming_strings', 'on'),
    ('array_nulls', 'on'),

    -- Limits for people and for requests. A check may have to read a whole table, and one that is refused is refused for ever.
    ('statement_timeout', '0'),
    ('transaction_timeout', '0'),
    ('idle_session_timeout', '0'),
    ('lock_timeout', '20s'),
    -- No transaction of ours is idle for long, but one of a process that was stopped in the middle of it: others must not wait for it for ever.
    ('idle_in_transaction_session_timeout', '60s'),
    ('default_transaction_isolation', 'read committed'),
    ('default_transaction_deferrable', 'off'),

    -- What our own tables are: a kind of storage without updates could not hold the queue.
    ('default_table_access_method', 'heap'),
    -- Costs more than it saves on statements that are planned anew each time.
    ('jit', 'off')
) as s (name, value)
-- One that this version of the server does not know is left out.
where pg_catalog.current_setting(s.name, true) is not null;

-- Whether the installation's record is there, and may be read.
select exists (
    select from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'rowbound' and c.relname = 'installation'
        and has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select')
)
