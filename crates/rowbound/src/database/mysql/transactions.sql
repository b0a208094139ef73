-- Every InnoDB transaction of the server. Two servers' ways to print a read-only transaction's id (0, or its address above 2^48)
-- are both told from a true one. Autocommit reads cannot commit a reference.
select cast(trx_id as char), cast(trx_mysql_thread_id as signed), cast(trx_started as char), trx_state,
       substring(coalesce(trx_query, ''), 1, 200), cast(trx_is_read_only as signed), cast(@@global.read_only as char)
  from information_schema.innodb_trx
 where trx_autocommit_non_locking = 0
