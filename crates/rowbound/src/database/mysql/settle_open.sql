-- The names out of values with many names become candidates of their own, if `owner` still holds the candidate they came out of. Names come as hex, as in
-- settle_ledger.sql; COALESCE, because MariaDB 10.11 stores an empty text for a bare UNHEX here.
insert into rowbound_candidate (storage, binding, value, `key`, event, released_at, opened)
select c.storage, c.binding, coalesce(unhex(j.name), c.value), c.`key`, c.event, c.released_at, true
  from json_table(?, '$[*]' columns (id bigint path '$.id', name longtext path '$.name')) j
  straight_join rowbound_candidate c force index (primary) on c.id = j.id
 where c.owner = ?
