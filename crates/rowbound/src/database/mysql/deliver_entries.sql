-- Deliveries of what this transaction has entered into the ledger. Its rows have ids from the first one on, but others' may lie between them
-- (innodb_autoinc_lock_mode = 2) and MySQL knows no RETURNING: the mark in `owner` tells. Under READ COMMITTED the ledger is read without locks, so
-- that nobody waits for another's rows.
insert into rowbound_delivery (follower, entry, lane, due_at)
select f.id, l.id, unhex(left(sha2(concat(l.storage, '/', l.name), 256), 32)), utc_timestamp(6)
  from rowbound_ledger l force index (primary)
  join rowbound_follower f on find_in_set(l.outcome, f.outcomes) > 0
 where l.id >= ? and l.owner = ?
