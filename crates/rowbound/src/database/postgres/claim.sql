-- A claim is a visibility timeout. Both kinds are read oldest first, and the oldest of both are taken; rows that are locked but not
-- taken are free again a moment later. Runs under READ COMMITTED: a row that changed under us is looked at again, not an error.
-- $1 storage, $2 grace in microseconds, $3 limit, $4 owner, $5 lease in microseconds, $6 whether put-back rows are taken early
with fresh as materialized (
    select id, released_at
    from rowbound.candidate
    where storage = $1 and due_at is null and released_at <= now() - $2::int8 * interval '1 microsecond'
    order by released_at
    limit $3::int8
    for update skip locked
), later as materialized (
    select id, released_at
    from rowbound.candidate
    -- A note without an owner is a row that was put back; an announced upload has neither, and its time is not ours to shorten.
    where storage = $1 and due_at is not null and (due_at <= now() or $6::bool and owner is null and note is not null)
    order by due_at
    limit $3::int8
    for update skip locked
), oldest as (
    select id from (table fresh union all table later) as due order by released_at, id limit $3::int8
)
update rowbound.candidate c
set due_at = now() + $5::int8 * interval '1 microsecond', owner = $4
from oldest
where c.id = oldest.id
returning c.id, c.binding, c.value, c.key, c.event, (extract(epoch from c.released_at) * 1000000)::int8 as released_at, c.attempts
