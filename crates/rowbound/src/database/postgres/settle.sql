-- Decided: out of the queue and into the ledger, in one statement. What another worker has claimed meanwhile is left alone.
-- $1 owner, $2 storage, then one array element per candidate: $3 id, $4 outcome, $5 name, $6 size, $7 place, $8 note
with decided as (
    select * from unnest($3::int8[], $4::text[], $5::text[], $6::int8[], $7::text[], $8::text[]) with ordinality
        as d(id, outcome, name, size, place, note, n)
), gone as (
    delete from rowbound.candidate c
    using decided d
    where c.id = d.id and c.owner = $1
    returning c.*
)
insert into rowbound.ledger (storage, binding, name, key, event, released_at, outcome, size, place, note, owner)
select $2, g.binding, coalesce(d.name, g.value), g.key, g.event, g.released_at, d.outcome, d.size, d.place, d.note, $1
from gone g
join decided d on d.id = g.id
order by d.n
