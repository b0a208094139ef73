-- The lease of what the owner still holds begins anew. A row that another worker has just taken is looked at again once he has committed. Each CASE as
-- in settle.sql.
-- $1 owner, $2 ids, $3 lease in microseconds
update rowbound.candidate c
set due_at = clock_timestamp() + $3::int8 * interval '1 microsecond'
from unnest($2::int8[]) as h(id)
where c.id = h.id
    and case when c.due_at is null then false else true end
    and case when c.owner = $1 then true else false end
    and c.due_at > clock_timestamp()
returning c.id
