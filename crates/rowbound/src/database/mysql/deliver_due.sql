-- What is due, the longest due first; of one storage and name only the earliest entry, which is looked up row by row in its index.
select d.entry
  from rowbound_delivery d force index (rowbound_delivery_due)
 where d.follower = ? and d.due_at <= utc_timestamp(6)
   and d.entry = (select min(e.entry) from rowbound_delivery e force index (rowbound_delivery_lane)
                   where e.follower = d.follower and e.lane = d.lane)
 order by d.due_at, d.entry
 limit ?
