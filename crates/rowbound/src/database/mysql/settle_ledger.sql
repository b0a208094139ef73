-- The decided candidates that `owner` still holds enter the ledger. Text comes as hex within the JSON, so that no character
-- set of the server, the database or the connection can touch a name. STRAIGHT_JOIN: the batch leads, the queue is looked up by
-- its primary key. Where somebody follows, the owner carries a mark by which deliver_entries.sql finds the rows. FOR UPDATE: nobody else takes such a
-- candidate between this statement and the DELETE. MySQL refuses it for a table function (error 3569) and wants the table named; MariaDB knows no OF.
insert into rowbound_ledger (at, storage, binding, name, `key`, event, released_at, outcome, size, place, note, owner)
select utc_timestamp(6), ?, c.binding, coalesce(unhex(j.name), c.value), c.`key`, c.event, c.released_at, j.outcome, j.size,
       convert(unhex(j.place) using utf8mb4), convert(unhex(j.note) using utf8mb4), coalesce(?, c.owner)
  from json_table(?, '$[*]' columns (
         id bigint path '$.id', outcome varchar(16) path '$.outcome', name longtext path '$.name',
         size bigint unsigned path '$.size', place longtext path '$.place', note longtext path '$.note')) j
  straight_join rowbound_candidate c force index (primary) on c.id = j.id
 where c.owner = ?
   for update /*!80001 of c */
