-- The lease of what the owner still holds begins anew; by primary key, as in settle_delete.sql.
update json_table(?, '$[*]' columns (id bigint path '$')) j
  straight_join rowbound_candidate c force index (primary) on c.id = j.id
   set c.due_at = utc_timestamp(6) + interval ? microsecond
 where c.owner = ? and c.due_at > utc_timestamp(6)
