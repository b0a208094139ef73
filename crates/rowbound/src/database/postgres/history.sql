-- $1 storage, $2 name, $3 outcomes (null: all), $4 since in microseconds, $5 limit, $6 before which id; null: any
select
    id, storage, binding, name, key, event, outcome, size, place, note,
    (extract(epoch from at) * 1000000)::int8 as at,
    (extract(epoch from released_at) * 1000000)::int8 as released_at
from rowbound.ledger
where ($1::text is null or storage = $1)
    and ($2::text is null or name = $2)
    and ($3::text[] is null or outcome = any ($3))
    and ($4::int8 is null or at >= timestamptz 'epoch' + $4 * interval '1 microsecond')
    and ($6::int8 is null or id < $6)
order by id desc
limit $5::int8
