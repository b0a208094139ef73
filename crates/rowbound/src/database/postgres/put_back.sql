-- Not decided: free again, and due later. Each CASE as in settle.sql.
-- $1 owner, then one array element per candidate: $2 id, $3 wait in microseconds, $4 how many tries count, $5 note; $6 waits of all of them, $7 or its own
update rowbound.candidate c
set due_at = now() + b.wait * interval '1 microsecond', owner = null, attempts = b.attempts, note = b.note, 
    waits = coalesce(b.waits, $6::text)
from unnest($2::int8[], $3::int8[], $4::int4[], $5::text[], $7::text[]) as b(id, wait, attempts, note, waits)
where c.id = b.id
    and case when c.due_at is null then false else true end
    and case when c.owner = $1 then true else false end
