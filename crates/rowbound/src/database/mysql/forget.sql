-- Which of a page of the ledger's entries are old, and which of those may go: see postgres/forget.sql. `? microsecond` is the moment before which one is old.
select p.id, p.old,
       p.old
         and not exists (select 1 from rowbound_follower f join rowbound_delivery d on d.follower = f.id and d.entry = p.id)
         and case
               when p.place is null then true
               when p.outcome in ('purged', 'erased', 'restored') then not exists (
                 select 1 from rowbound_ledger e
                  where e.name = p.name and e.storage = p.storage and e.place = p.place and e.id < p.id
                    and (e.at >= '1970-01-01' + interval ? microsecond
                         or exists (select 1 from rowbound_follower f join rowbound_delivery d on d.follower = f.id and d.entry = e.id)))
               else exists (
                 select 1 from rowbound_ledger e
                  where e.name = p.name and e.storage = p.storage and e.place = p.place and e.id > p.id
                    and e.outcome in ('purged', 'erased', 'restored'))
             end
  from (select id, at < '1970-01-01' + interval ? microsecond as old, storage, name, place, outcome
          from rowbound_ledger where id > ? order by id limit ?) p
 order by p.id
