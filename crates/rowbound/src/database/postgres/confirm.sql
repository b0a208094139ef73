-- What the owner still holds, and whether its lease should begin anew. The clock is read at each row, because it is this moment that counts. Each CASE
-- as in settle.sql.
-- $1 owner, $2 ids, $3 the least that should be left of the lease, in microseconds
select c.id, c.due_at < clock_timestamp() + $3::int8 * interval '1 microsecond' as short
from unnest($2::int8[]) as h(id)
join rowbound.candidate c on c.id = h.id
    and case when c.due_at is null then false else true end
    and case when c.owner = $1 then true else false end
where c.due_at > clock_timestamp()
