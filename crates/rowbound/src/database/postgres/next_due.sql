-- In microseconds from now, negative if overdue; null if nothing waits. Looks at the edge of an index: not min(), for
-- which the planner reads every claimed row when statistics say that there are none.
-- $1 storage, $2 grace in microseconds, $3 whether put-back rows are taken early
select (extract(epoch from least(
    (select released_at from rowbound.candidate where storage = $1 and due_at is null order by released_at limit 1) + $2::int8 * interval '1 microsecond',
    (select due_at from rowbound.candidate where storage = $1 and due_at is not null order by due_at limit 1),
    case when $3::bool and exists (
        select from rowbound.candidate where storage = $1 and due_at is not null and owner is null and note is not null
    ) then now() end
) - now()) * 1000000)::int8 as wait
