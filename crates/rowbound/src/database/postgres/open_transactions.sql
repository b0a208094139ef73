-- Every transaction that is open now holds a lock on its own virtual id, whether it has written yet or not; it goes after the
-- transaction has become visible. A prepared one has none, but stands in pg_prepared_xacts.
-- An unprivileged role sees pid, datid, usesysid and application_name of everybody; backend_type, times and texts of others are null.
-- Whatever is unknown counts as a transaction: only what certainly cannot write an application's row here is left out. A prepared one always counts:
-- whoever commits it need not be the one who prepared it.
-- $1 roles and $2 applications that are ignored
select
    concat_ws(' ', l.virtualtransaction, l.pid, extract(epoch from pg_postmaster_start_time())) as key,
    concat_ws(
        ', ',
        'pid ' || l.pid,
        'role ' || pg_get_userbyid(a.usesysid),
        'application ' || nullif(a.application_name, ''),
        'from ' || host(a.client_addr),
        a.state,
        'since ' || to_char(a.xact_start at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
    ) as description,
    (extract(epoch from a.xact_start) * 1000000)::int8 as since,
    pg_get_userbyid(a.usesysid)::text as role,
    nullif(a.application_name, '') as application,
    host(a.client_addr) as address,
    l.pid
from pg_locks l
left join pg_stat_activity a on a.pid = l.pid
where l.locktype = 'virtualxid' and l.mode = 'ExclusiveLock' and l.granted
    and l.pid <> pg_backend_pid()
    -- another database (0: none)
    and (a.datid is null or a.datid = (select oid from pg_database where datname = current_database()))
    -- Only a process of the server itself has an activity without a role: autovacuum, whose work may take hours.
    and (a.pid is null or a.usesysid is not null)
    -- Our own transactions are short and never write an application's row.
    and not coalesce(a.application_name = 'rowbound' and a.usesysid = (select oid from pg_roles where rolname = session_user), false)
    -- Somebody says that these write no references. A session of which nothing is known is none of them.
    and not coalesce(pg_get_userbyid(a.usesysid)::text = any ($1::text[]), false)
    and not coalesce(a.application_name = any ($2::text[]), false)
union all
select
    concat_ws(' ', 'prepared', p.transaction, extract(epoch from p.prepared)),
    concat_ws(', ', 'prepared transaction ' || p.gid, 'role ' || p.owner, 'since ' || to_char(p.prepared at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')),
    (extract(epoch from p.prepared) * 1000000)::int8,
    p.owner::text,
    null,
    null,
    null
from pg_prepared_xacts p
where p.database = current_database()
