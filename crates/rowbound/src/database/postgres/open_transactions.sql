-- Every transaction that is open now holds a lock on its own virtual id, whether it has written yet or not; it goes after the
-- transaction has become visible. A prepared one has none, but stands in pg_prepared_xacts.
-- An unprivileged role sees pid, datid, usesysid and application_name of everybody; backend_type, times and texts of others are null.
-- Whatever is unknown counts as a transaction: only what certainly cannot write an application's row here is left out. A prepared one always counts:
-- whoever commits it need not be the one who prepared it.
-- $1 roles and $2 applications that are ignored
with lock as materialized (
    -- Once, so that a lock and the session that holds it are of one moment.
    select locktype, mode, granted, pid, virtualtransaction, database, (classid::int8 << 32) | objid::int8 as key, objsubid
    from pg_locks
), here as materialized (
    select oid from pg_database where datname = current_database()
), ours as materialized (
    -- Sessions of Rowbound's, in whatever process, that never write an application's row: see mark.sql. Their transactions are short, but for a sweep's.
    select l.pid
    from lock l
    where l.locktype = 'advisory' and l.objsubid = 1 and l.mode = 'ShareLock' and l.granted
        and l.database = (select oid from here)
        and l.key = nullif(current_setting('rowbound.mark', true), '')::int8
)
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
    l.pid,
    -- The very transaction that asks. An answer without it is none.
    l.pid = pg_backend_pid() as asking
from lock l
left join pg_stat_activity a on a.pid = l.pid
where l.locktype = 'virtualxid' and l.mode = 'ExclusiveLock' and l.granted
    and (
        l.pid = pg_backend_pid()
        or
        -- another database (0: none)
        (a.datid is null or a.datid = (select oid from here))
        -- Only a process of the server itself has an activity without a role: autovacuum, whose work may take hours.
        and (a.pid is null or a.usesysid is not null)
        and not exists (select from ours o where o.pid = l.pid)
        -- Somebody says that these write no references. A session of which nothing is known is none of them.
        and not coalesce(pg_get_userbyid(a.usesysid)::text = any ($1::text[]), false)
        and not coalesce(a.application_name = any ($2::text[]), false)
    )
union all
select
    concat_ws(' ', 'prepared', p.transaction, extract(epoch from p.prepared)),
    concat_ws(', ', 'prepared transaction ' || p.gid, 'role ' || p.owner, 'since ' || to_char(p.prepared at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')),
    (extract(epoch from p.prepared) * 1000000)::int8,
    p.owner::text,
    null,
    null,
    null,
    false
from pg_prepared_xacts p
where p.database = current_database()
