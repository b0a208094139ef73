-- What every session of ours is. What stands in /*M! */ is a comment to MySQL, what stands in /*!80000 */ is one to MariaDB.

set names utf8mb4;

set session
    sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION', time_zone = '+00:00', autocommit = 1,
    innodb_lock_wait_timeout = 20, lock_wait_timeout = 20,
    -- Longer than a connection of ours is kept idle. What holds something for others has a minute: see session.rs.
    wait_timeout = 900,

    -- Cuts every SELECT without an error. A reference that is not read is a file that is deleted.
    sql_select_limit = 18446744073709551615,
    -- Cuts what GROUP_CONCAT makes in a bound query, with a warning that nobody reads.
    group_concat_max_len = 1073741824,
    -- Turns `column is null` into a search for the last row inserted.
    sql_auto_is_null = 0,
    -- How many bytes ORDER BY compares. The sweep merges two sorted lists, and a name has at most 1,024.
    max_sort_length = 1024,

    -- Refuse long statements and those without a key. They were made for people and for requests; a check that is refused is refused for ever.
    -- The order counts: the first switches the second off.
    max_join_size = 18446744073709551615, sql_big_selects = 1, sql_safe_updates = 0,

    -- A COMMIT that begins the next transaction would leave a session of ours in one, and one that closes the session would break the pool.
    completion_type = 'NO_CHAIN',
    -- `put` writes into the application's tables: their keys and constraints hold for it too.
    foreign_key_checks = 1, unique_checks = 1,
    -- SHOW GRANTS is read with its quotes.
    sql_quote_show_create = 1

    /*M! ,
    -- Shows versioned tables as they were: rows that came later are hidden.
    system_versioning_asof = default,
    -- Cuts what a recursive bound query finds, with a warning; 1,000 steps by default. (MySQL ends it with an error.)
    max_recursive_iterations = 4294967295,
    check_constraint_checks = 1, max_statement_time = 0, in_predicate_conversion_threshold = 0,
    -- Answers from an earlier answer. What a cascade of a foreign key has changed since is a matter of trust.
    query_cache_type = 0,
    -- No transaction of ours is idle for long, but one of a process that was stopped in the middle of it: others must not wait for it for ever.
    idle_transaction_timeout = 60, idle_readonly_transaction_timeout = 0, idle_write_transaction_timeout = 0 */

    /*!80000 , max_execution_time = 0 */
    -- Reads from a copy of the table in another engine (HeatWave), which comes a moment later.
    /*!80013 , use_secondary_engine = off */
    -- The next primary of a group answers only when it has what the last one wrote.
    /*!80014 , group_replication_consistency = 'BEFORE_ON_PRIMARY_FAILOVER' */
    -- Hides generated keys, which the triggers record.
    /*!80030 , show_gipk_in_create_table_and_information_schema = 1 */;

-- Stops the clock that says what is due. A server that forbids to set it (MariaDB's secure_timestamp) has not let it be set either.
/*M! begin not atomic if @@global.secure_timestamp = 'NO' then */ set session timestamp = default /*M! ; end if; end */;

set session transaction isolation level read committed, read write
