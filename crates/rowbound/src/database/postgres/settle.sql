-- Decided: out of the queue and into the ledger, and to whoever follows, in one statement. What another worker has claimed meanwhile is left alone.
-- The owner is compared within a CASE, which hides it from the planner: statistics gathered while nothing was claimed say that no row has
-- an owner, and a plan for one row compares every candidate with every decision (6 s instead of 60 ms for a batch of 4000).
-- A follower's row is locked, so that it is not forgotten between this statement and the transaction's end.
-- $1 owner, $2 storage, then one array element per candidate: $3 id, $4 outcome, $5 name, $6 size, $7 place, $8 note
with gone as (
    delete from rowbound.candidate c
    using unnest($3::int8[], $4::text[], $5::text[], $6::int8[], $7::text[], $8::text[]) with ordinality
        as d(id, outcome, name, size, place, note, n)
    where c.id = d.id
        -- what has an owner has a due_at: the index candidate_claimed
        and case when c.due_at is null then false else true end
        and case when c.owner = $1 then true else false end
    returning c.binding, c.value, c.key, c.event, c.released_at, d.outcome, d.name, d.size, d.place, d.note, d.n
), entered as (
    insert into rowbound.ledger (storage, binding, name, key, event, released_at, outcome, size, place, note, owner)
    select $2, binding, coalesce(name, value), key, event, released_at, outcome, size, place, note, $1
    from gone
    order by n
    returning id, storage, name, outcome
), told as (
    insert into rowbound.delivery (follower, entry, lane)
    select f.id, e.id, hashtextextended(e.storage || '/' || e.name, 0)
    from (select id, outcomes from rowbound.follower for key share) f
    join entered e on e.outcome = any (f.outcomes)
)
select count(*) from entered
