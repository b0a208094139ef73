-- Entries without a candidate, and their deliveries as in settle.sql.
-- One array element per entry: $1 storage, $2 name, $3 event, $4 outcome, $5 size, $6 place, $7 note
with entered as (
    insert into rowbound.ledger (storage, name, event, outcome, size, place, note)
    select storage, name, event, outcome, size, place, note
    from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::int8[], $6::text[], $7::text[]) with ordinality
        as e(storage, name, event, outcome, size, place, note, n)
    order by n
    returning id, storage, name, outcome
)
insert into rowbound.delivery (follower, entry, lane)
select f.id, e.id, hashtextextended(e.storage || '/' || e.name, 0)
from (select id, outcomes from rowbound.follower for key share) f
join entered e on e.outcome = any (f.outcomes)
