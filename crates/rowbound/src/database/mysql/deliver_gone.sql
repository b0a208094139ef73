-- What was delivered goes; by primary key, as in settle_delete.sql.
delete d from json_table(?, '$[*]' columns (entry bigint path '$')) j
  straight_join rowbound_delivery d force index (primary) on d.follower = ? and d.entry = j.entry
 where d.owner = ?
