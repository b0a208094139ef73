-- The lease of what was just selected and locked; by primary key, as in settle_delete.sql. A try counts from its beginning: one that kills its worker has no end.
update json_table(?, '$[*]' columns (id bigint path '$')) j
  straight_join rowbound_candidate c force index (primary) on c.id = j.id
   set c.due_at = utc_timestamp(6) + interval ? microsecond, c.owner = ?, c.attempts = c.attempts + 1
