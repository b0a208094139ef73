-- Triggers that call a function of ours, wherever they stand.
select
    t.tgrelid::int8 as oid,
    n.nspname::text as schema,
    c.relname::text as name,
    t.tgname::text as trigger,
    t.tgenabled::text as enabled,
    t.tgparentid <> 0 as clone,
    encode(t.tgargs, 'escape') as mark,
    p.proname::text as function,
    pg_has_role(c.relowner, 'usage') as owned
from pg_trigger t
join pg_proc p on p.oid = t.tgfoid
join pg_class c on c.oid = t.tgrelid
join pg_namespace n on n.oid = c.relnamespace
where p.pronamespace = (select oid from pg_namespace where nspname = 'rowbound')
order by t.tgrelid, t.tgname
