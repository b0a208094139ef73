-- The decided candidates go. By way of the list and the primary key: a scan, which the server prefers for a short queue, would wait for the
-- rows of the application's open transactions.
delete c from json_table(?, '$[*]' columns (id bigint path '$.id')) j
  straight_join rowbound_candidate c force index (primary) on c.id = j.id
 where c.owner = ?
