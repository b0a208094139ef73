-- Every column of the application that can hold text, as text, JSON or bytes, also within a composite type. Partitions and children are left out (attinhcount): their
-- rows count with the table above them. So are views, temporary and foreign tables, arrays of bytes (their text is hexadecimal), and what belongs to an extension.
select
    n.nspname::text as schema,
    c.relname::text as "table",
    a.attname::text as "column",
    coalesce(c.oid = seen.oid, false) as unqualified,
    format_type(a.atttypid, a.atttypmod) as type,
    case
        when t.typcategory in ('S', 'C') then 'text'
        when t.typcategory = 'A' then 'array'
        when t.typname = 'bytea' then 'blob'
        when t.typname in ('xml', 'hstore', 'uuid') then 'text'
        else 'json'
    end as class,
    greatest(c.reltuples, 0)::float8 as rows,
    exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary and a.attnum = any (i.indkey::int2[])) as key,
    exists (select from pg_constraint k where k.conrelid = c.oid and k.contype = 'f' and a.attnum = any (k.conkey)) as foreign_key,
    a.attgenerated <> '' as generated,
    exists (select from pg_index i where i.indrelid = c.oid and i.indisvalid and i.indkey[0] = a.attnum) as indexed
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attinhcount = 0
join pg_type own on own.oid = a.atttypid
-- A domain holds what the type below it holds, through however many domains.
join pg_type t on t.oid = case when own.typtype <> 'd' then own.oid else (
    with recursive below(oid, base) as (
        select own.oid, own.typbasetype
        union all
        select d.oid, d.typbasetype from below join pg_type d on d.oid = below.base
    )
    select below.oid from below where below.base = 0
) end
left join pg_type e on e.oid = t.typelem and t.typcategory = 'A'
-- What the name alone means to the role's own search_path, kept at connect.
left join lateral (
    select o.oid
    from pg_class o
    join pg_namespace p on p.oid = o.relnamespace
    where o.relname = c.relname and p.nspname::text = any (current_setting('rowbound.schemas')::text[])
    order by array_position(current_setting('rowbound.schemas')::text[], p.nspname::text)
    limit 1
) seen on true
where c.relkind in ('r', 'p')
    and c.relpersistence <> 't'
    and n.nspname !~ '^pg_'
    and n.nspname not in ('information_schema', 'rowbound')
    and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
    and (
        t.typcategory in ('S', 'C') or t.typname in ('json', 'jsonb', 'bytea', 'xml', 'hstore', 'uuid')
        or e.typcategory in ('S', 'C') or e.typname in ('json', 'jsonb', 'xml', 'uuid')
    )
order by 1, 2, a.attnum
