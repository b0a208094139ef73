-- What was not delivered is free again, and due later. Without an error it was not tried.
update json_table(?, '$[*]' columns (
         entry bigint path '$.entry', wait bigint path '$.wait', failed int path '$.failed', error longtext path '$.error')) j
  straight_join rowbound_delivery d force index (primary) on d.follower = ? and d.entry = j.entry
   set d.due_at = utc_timestamp(6) + interval j.wait microsecond, d.owner = null, d.attempts = d.attempts + j.failed,
       d.note = if(j.failed, convert(unhex(j.error) using utf8mb4), d.note)
 where d.owner = ?
