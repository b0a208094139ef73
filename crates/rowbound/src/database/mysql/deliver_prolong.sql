-- A lease begins anew; by primary key, as in settle_delete.sql.
update json_table(?, '$[*]' columns (entry bigint path '$')) j
  straight_join rowbound_delivery d force index (primary) on d.follower = ? and d.entry = j.entry
   set d.due_at = utc_timestamp(6) + interval ? microsecond
 where d.owner = ?
