-- The longest due first; of one storage and name only the earliest. That is looked up row by row in its index, because a join may read the whole
-- table for each row where statistics were gathered while it was empty. Updated by their places, as in claim.sql.
-- $1 follower's name, $2 limit, $3 owner, $4 lease in microseconds
with due as materialized (
    select d.ctid as place
    from rowbound.delivery d
    where d.follower = (select id from rowbound.follower where name = $1)
        and d.due_at <= now()
        and d.entry = (
            select e.entry from rowbound.delivery e
            where e.follower = d.follower and e.lane = d.lane
            order by e.entry
            limit 1
        )
    order by d.due_at, d.entry
    limit $2::int8
    for update of d skip locked
), taken as (
    update rowbound.delivery d
    set due_at = now() + $4::int8 * interval '1 microsecond', owner = $3
    where d.ctid = any (array(select place from due))
    returning d.entry, d.attempts
)
select
    t.entry, t.attempts,
    l.id, l.storage, l.binding, l.name, l.key, l.event, l.outcome, l.size, l.place, l.note,
    (extract(epoch from l.at) * 1000000)::int8 as at,
    (extract(epoch from l.released_at) * 1000000)::int8 as released_at
from taken t
left join rowbound.ledger l on l.id = t.entry
order by t.entry
