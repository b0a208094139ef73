-- $1 storage, $2 grace in microseconds
select
    count(*) as total,
    count(*) filter (where case when due_at is null then released_at <= now() - $2::int8 * interval '1 microsecond' else due_at <= now() end) as due,
    -- A try that is under way has not failed yet.
    count(*) filter (where attempts > (owner is not null and due_at > now())::int) as failing,
    count(*) filter (where event in ('stage', 'direct', 'return') and due_at > now() and owner is null and note is null) as staged,
    -- An upload that waits for its row is not late.
    extract(epoch from now() - min(released_at) filter (where event not in ('stage', 'direct') or due_at <= now()))::int8 as oldest,
    extract(epoch from now() - min(coalesce(due_at, released_at + $2::int8 * interval '1 microsecond')))::int8 as longest
from rowbound.candidate
where storage = $1
