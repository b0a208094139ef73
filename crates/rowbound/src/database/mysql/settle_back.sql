-- What is not decided goes back. What it waits for is the same for all, or its own. Its owner goes, so that it is told from a live lease.
update json_table(?, '$[*]' columns (
         id bigint path '$.id', wait bigint path '$.wait', attempts int path '$.attempts', note longtext path '$.note',
         waits longtext path '$.waits')) j
  straight_join rowbound_candidate c force index (primary) on c.id = j.id
   set c.due_at = utc_timestamp(6) + interval j.wait microsecond, c.owner = null, c.attempts = j.attempts,
       c.note = convert(unhex(j.note) using utf8mb4), 
       c.waits = coalesce(convert(unhex(j.waits) using utf8mb4), ?)
 where c.owner = ?
