-- What the owner still holds, and whether less is left of its lease than should be. Read without locks; by primary key, as in settle_delete.sql.
select c.id, c.due_at < utc_timestamp(6) + interval ? microsecond
  from json_table(?, '$[*]' columns (id bigint path '$')) j
  straight_join rowbound_candidate c force index (primary) on c.id = j.id
 where c.owner = ? and c.due_at > utc_timestamp(6)
