-- A claim is a visibility timeout. Both kinds are read oldest first, and the oldest of both are taken; rows that are locked but not
-- taken are free again a moment later. Runs under READ COMMITTED: a row that changed under us is looked at again, not an error.
-- Locked rows are updated by their place, since a fresh one has no index on its id. A lock keeps a row where it is; the place of a row that
-- another worker changed while we waited is too new for this statement to see, so that the next claim takes it.
-- The values of a claim are limited in bytes, too: one may be a text of megabytes. $7 is that limit.
-- $1 storage, $2 grace in microseconds, $3 limit, $4 owner, $5 lease in microseconds, $6 whether put-back rows are taken early
with fresh as materialized (
    select ctid as place, id, released_at, octet_length(value)::int8 as size
    from rowbound.candidate
    where storage = $1 and due_at is null and released_at <= now() - $2::int8 * interval '1 microsecond'
    order by released_at
    limit $3::int8
    for update skip locked
), later as materialized (
    select ctid as place, id, released_at, octet_length(value)::int8 as size
    from rowbound.candidate
    -- A note without an owner is a row that was put back; an announced upload has neither, and its time is not ours to shorten.
    where storage = $1 and due_at is not null and (due_at <= now() or $6::bool and owner is null and note is not null)
    order by due_at
    limit $3::int8
    for update skip locked
), oldest as (
    select place, sum(size) over (order by released_at, id) - size as before
    from (table fresh union all table later) as due
    order by released_at, id
    limit $3::int8
)
update rowbound.candidate c
-- A try counts from its beginning: one that kills its worker has no end.
set due_at = now() + $5::int8 * interval '1 microsecond', owner = $4, attempts = c.attempts + 1
where c.ctid = any (array(select place from oldest where before < $7::int8))
returning c.id, c.binding, c.value, c.key, c.event, (extract(epoch from c.released_at) * 1000000)::int8 as released_at,
    c.attempts - 1 as attempts, c.opened, c.waits
