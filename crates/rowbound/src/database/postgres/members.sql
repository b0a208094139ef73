-- Every table in which rows of a bound table live: itself, its partitions and its INHERITS children, to any depth.
-- $1 oids of the bound tables
with recursive family(root, oid) as (
    select r, r::oid from unnest($1::int8[]) as r
    union
    select f.root, i.inhrelid from family f join pg_inherits i on i.inhparent = f.oid
)
select
    f.root,
    c.oid::int8 as oid,
    n.nspname::text as schema,
    c.relname::text as name,
    c.relkind::text as kind,
    pg_has_role(c.relowner, 'usage') as owned,
    has_table_privilege(c.oid, 'trigger') as can_trigger,
    has_table_privilege(c.oid, 'select') as can_select,
    -- A BEFORE UPDATE row trigger may change a column that the statement does not mention (tgtype: 1 row, 2 before, 16 update).
    exists (select from pg_trigger t where t.tgrelid = c.oid and t.tgtype & 19 = 19) as meddled
from family f
join pg_class c on c.oid = f.oid
join pg_namespace n on n.oid = c.relnamespace
order by f.root, c.oid <> f.root::oid, c.oid
