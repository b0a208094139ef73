-- What capture and check depend on, item by item. What is missing has no row.
-- tables:  $1 label, $2 schema or null, $3 name, $4 whether its triggers name columns (`fast`)
-- columns: $5 label of the table, $6 name, $7 name as shown
with recursive root as materialized (
    select w.label, w.fast, c.*
    from unnest($1::text[], $2::text[], $3::text[], $4::bool[]) as w(label, s, t, fast)
    cross join lateral (
        select c.oid, c.relkind, c.relrowsecurity, c.relforcerowsecurity
        from pg_class c
        join pg_namespace p on p.oid = c.relnamespace
        where c.relname = w.t and c.relkind in ('r', 'p', 'v', 'm', 'f')
            and (p.nspname = w.s or w.s is null and p.nspname::text = any (current_setting('rowbound.schemas')::text[]))
        order by array_position(current_setting('rowbound.schemas')::text[], p.nspname::text)
        limit 1
    ) c
), family(label, root, oid) as (
    select label, oid, oid from root
    union
    select f.label, f.root, i.inhrelid from family f join pg_inherits i on i.inhparent = f.oid
)
select
    'table ' || r.label as item,
    concat_ws(
        ', ',
        'oid ' || r.oid,
        'kind ' || r.relkind::text,
        case when r.relrowsecurity then 'row security' end,
        case when r.relforcerowsecurity then 'forced row security' end,
        'below ' || (select string_agg(i.inhparent::text, ' ' order by i.inhseqno) from pg_inherits i where i.inhrelid = r.oid),
        'above ' || (select string_agg(f.oid::text, ' ' order by f.oid) from family f where f.root = r.oid and f.label = r.label and f.oid <> r.oid),
        (select 'subscribed' from pg_subscription_rel s where s.srrelid = r.oid limit 1)
    ) as text
from root r
union all
select
    'column ' || r.label || '.' || w.shown,
    concat_ws(', ', 'table ' || r.oid, 'number ' || a.attnum, format_type(a.atttypid, null), 'collation ' || a.attcollation::text, nullif('generated ' || a.attgenerated::text, 'generated '))
from unnest($5::text[], $6::text[], $7::text[]) as w(label, c, shown)
join root r on r.label = w.label
join pg_attribute a on a.attrelid = r.oid and a.attname = w.c and a.attnum > 0 and not a.attisdropped
union all
select 'primary key of ' || r.label, string_agg(k.attnum || ' ' || k.attname, ', ' order by u.pos)
from root r
join pg_index i on i.indrelid = r.oid and i.indisprimary
cross join lateral unnest(i.indkey::int2[]) with ordinality as u(attnum, pos)
join pg_attribute k on k.attrelid = i.indrelid and k.attnum = u.attnum
group by r.label
union all
select 'before-update triggers on ' || r.label, string_agg(t.tgname, ', ' order by t.tgname, t.oid)
from root r
join family f on f.label = r.label
join pg_trigger t on t.tgrelid = f.oid and t.tgtype & 19 = 19
where r.fast
group by r.label
union all
select
    'trigger ' || t.tgname || ' on ' || case when f.oid = f.root then f.label else f.oid::regclass::text end,
    concat_ws(
        '; ',
        -- Not pg_get_triggerdef(): with a WHEN it locks the table, and would wait behind a migration.
        'type ' || t.tgtype,
        'columns ' || nullif(t.tgattr::text, ''),
        'when ' || md5(t.tgqual::text),
        'old table ' || t.tgoldtable,
        'calls ' || p.proname || ' ' || encode(t.tgargs, 'escape'),
        'enabled ' || t.tgenabled::text,
        'body ' || md5(concat_ws(' ', p.prosrc, p.prosecdef, p.proconfig, p.proowner))
    )
from family f
join pg_trigger t on t.tgrelid = f.oid
join pg_proc p on p.oid = t.tgfoid
where p.pronamespace = (select oid from pg_namespace where nspname = 'rowbound')
union all
-- A table that has our triggers and no longer lies below the bound one: its rows may name files, and are not looked at any more.
-- An item of the column, because that is what changed: which rows it has.
select 'column of ' || r.label || ' in ' || o.tgrelid::regclass || ', which was detached', 'oid ' || o.tgrelid
from root r
join pg_trigger t on t.tgrelid = r.oid and t.tgname = 'rowbound_truncate'
join pg_trigger o on o.tgfoid = t.tgfoid and o.tgrelid <> r.oid
where not exists (select from family f where f.label = r.label and f.oid = o.tgrelid)
