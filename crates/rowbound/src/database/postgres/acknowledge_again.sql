-- Not delivered: free again, and due later.
-- $1 follower's name, $2 owner, then one array element per delivery: $3 entry, $4 wait in microseconds, $5 error (null: not tried)
update rowbound.delivery d
set due_at = now() + a.wait * interval '1 microsecond', owner = null,
    attempts = d.attempts + (a.error is not null)::int, note = coalesce(a.error, d.note)
from unnest($3::int8[], $4::int8[], $5::text[]) as a(entry, wait, error)
where d.follower = (select id from rowbound.follower where name = $1) and d.entry = a.entry and d.owner = $2
