-- Old entries leave the ledger. Only what goes is locked; what another process removes in this moment is left to it.
-- A place is known as left by a later entry (purged, erased, restored), which goes with the entries before it: not while one of those is still to be heard of.
-- Deliveries are found by their key, follower and entry.
-- $1 before, in microseconds; $2 after which id, $3 limit
with page as materialized (
    select id, at < timestamptz 'epoch' + $1::int8 * interval '1 microsecond' as old, storage, name, place, outcome
    from rowbound.ledger
    where id > $2
    order by id
    limit $3::int8
), doomed as materialized (
    select l.id
    from page p
    join rowbound.ledger l on l.id = p.id
    where p.old
        and not exists (select from rowbound.follower f join rowbound.delivery d on d.follower = f.id and d.entry = p.id)
        and case
            when p.place is null then true
            when p.outcome in ('purged', 'erased', 'restored') then not exists (
                select from rowbound.ledger e
                where e.name = p.name and e.storage = p.storage and e.place = p.place and e.id < p.id
                    and (
                        e.at >= timestamptz 'epoch' + $1::int8 * interval '1 microsecond'
                        or exists (select from rowbound.follower f join rowbound.delivery d on d.follower = f.id and d.entry = e.id)
                    )
            )
            else exists (
                select from rowbound.ledger e
                where e.name = p.name and e.storage = p.storage and e.place = p.place and e.id > p.id
                    and e.outcome in ('purged', 'erased', 'restored')
            )
        end
    order by l.id
    for update of l skip locked
), gone as (
    delete from rowbound.ledger l using doomed d where l.id = d.id returning 1
)
select (select count(*) from gone), max(id), coalesce(bool_or(old), false) and count(*) = $3::int8 from page
