-- The lease of what was just found due, if it still is; by primary key, as in settle_delete.sql.
update json_table(?, '$[*]' columns (entry bigint path '$')) j
  straight_join rowbound_delivery d force index (primary) on d.follower = ? and d.entry = j.entry
   set d.due_at = utc_timestamp(6) + interval ? microsecond, d.owner = ?
 where d.due_at <= utc_timestamp(6)
