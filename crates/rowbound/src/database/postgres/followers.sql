-- Ages in seconds. The oldest entry is the one with the smallest number.
select
    f.id, f.name, f.outcomes,
    (extract(epoch from f.since) * 1000000)::int8 as since,
    w.waiting, w.due, w.failing,
    (select extract(epoch from now() - l.at)::int8 from rowbound.ledger l where l.id = w.oldest) as oldest_seconds,
    extract(epoch from now() - w.overdue)::int8 as overdue_seconds
from rowbound.follower f
cross join lateral (
    select
        count(*) as waiting,
        count(*) filter (where d.due_at <= now()) as due,
        count(*) filter (where d.attempts > 0) as failing,
        min(d.entry) as oldest,
        min(d.due_at) filter (where d.due_at <= now()) as overdue
    from rowbound.delivery d
    where d.follower = f.id
) w
order by f.name
