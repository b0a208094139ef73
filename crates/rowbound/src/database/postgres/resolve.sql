-- One row per wanted column: what its table is, and what the column is. Names are looked up in the catalogs, not by the parser,
-- so that a missing one is a null and not an error.
-- $1 schemas (null: the role's own search_path, kept at connect), $2 tables, $3 columns
select
    w.n::int4 as n,
    c.oid::int8 as oid,
    ns.nspname::text as schema,
    c.relname::text as name,
    c.relkind::text as kind,
    c.relpersistence::text as persistence,
    a.attnum::int4 as attnum,
    format_type(a.atttypid, a.atttypmod) as type,
    base.schema as base_schema,
    base.name as base_name,
    coalesce(a.attgenerated <> '', false) as generated,
    coalesce(a.attgenerated = 'v', false) as virtual,
    coalesce(row_security_active(c.oid), false) as filtered,
    coalesce(has_schema_privilege(ns.oid, 'usage'), false) as usable,
    coalesce(c.reltuples, 0)::float8 as rows,
    exists (select from pg_index i where i.indrelid = c.oid and i.indisvalid and i.indkey[0] = a.attnum) as indexed,
    exists (select from pg_subscription_rel s where s.srrelid = c.oid) as subscribed,
    exists (select from pg_inherits i where i.inhrelid = c.oid) as has_parent,
    array(
        select k.attname::text
        from pg_index i
        cross join lateral unnest(i.indkey::int2[]) with ordinality as u(attnum, pos)
        join pg_attribute k on k.attrelid = i.indrelid and k.attnum = u.attnum
        where i.indrelid = c.oid and i.indisprimary
        order by u.pos
    ) as key
from unnest($1::text[], $2::text[], $3::text[]) with ordinality as w(s, t, c, n)
left join lateral (
    select c.*
    from pg_class c
    join pg_namespace p on p.oid = c.relnamespace
    where c.relname = w.t and c.relkind in ('r', 'p', 'v', 'm', 'f')
        and (p.nspname = w.s or w.s is null and p.nspname::text = any (current_setting('rowbound.schemas')::text[]))
    order by array_position(current_setting('rowbound.schemas')::text[], p.nspname::text)
    limit 1
) c on true
left join pg_namespace ns on ns.oid = c.relnamespace
left join pg_attribute a on a.attrelid = c.oid and a.attname = w.c and a.attnum > 0 and not a.attisdropped
left join lateral (
    with recursive down as (
        select t.* from pg_type t where t.oid = a.atttypid
        union all
        select t.* from pg_type t join down d on d.typtype = 'd' and t.oid = d.typbasetype
    )
    select p.nspname::text as schema, d.typname::text as name
    from down d
    join pg_namespace p on p.oid = d.typnamespace
    where d.typtype <> 'd'
) base on true
order by w.n
