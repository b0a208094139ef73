//! The contract of [`Database`], sentence by sentence: a case for each, which every implementation passes.
//!
//! A case takes a [`Fixture`], an empty database and a way to open it, and panics when a promise is broken. [`CASES`] and
//! [`EVENTS`] list them; [`crate::database_cases`] lists their names, so that a test file can make one test of each:
//!
//! ```
//! macro_rules! tests {
//!     ($($name:ident)*) => {
//!         $(
//!             #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
//!             async fn $name() {
//!                 let db = rowbound_testkit::TestDb::new(rowbound_testkit::Backend::Sqlite).await;
//!                 let fixture = rowbound_testkit::database_suite::Fixture::new(db);
//!                 rowbound_testkit::database_suite::run(stringify!($name), &fixture).await;
//!             }
//!         )*
//!     };
//! }
//! rowbound_testkit::database_cases!(tests);
//! ```
//!
//! An implementation of one's own comes in through [`Fixture::with`].

use std::{collections::BTreeMap, future::Future, pin::Pin, sync::Arc, time::Duration};

use rowbound::{
    Binding, Result,
    binding::Search,
    capture::{Bound, Installation, Snapshot},
    database::{ColumnSearch, Database, Options},
    queue::{Candidate, Claim, Decision, Outcome, Settlement},
};

use crate::db::TestDb;

pub mod check; // references: found, never overlooked
pub mod events; // event x database -> captured or listed as blind
pub mod forget; // old entries leave the ledger, what is needed stays
pub mod follow; // who hears of the ledger: registered, leased, in order, never lost
pub mod install; // attach, repair, drift, detach
pub mod names; // values and keys arrive as they stood in the row
pub mod readings; // what a value could mean holds a file; which rows count
pub mod row; // a row by its key
pub mod scan; // a column from one end to the other
pub mod queue; // claim, put back, settle, ledger
pub mod survey; // text columns and samples
pub mod upkeep; // who keeps a storage's trash

pub use events::{EVENTS, Event};

/// What opening a database promises.
pub type Opening = Pin<Box<dyn Future<Output = Result<Arc<dyn Database>>> + Send>>;

/// One case: a name, and what it does.
pub type Case = for<'a> fn(&'a Fixture) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// How long a case waits for something that must happen.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// An empty database and a way to open it.
#[derive(Debug)]
pub struct Fixture {
    /// The database, with the application's side of it.
    pub db: TestDb,
    open: fn(String, Options) -> Opening,
}

/// A database to which bindings are attached.
#[derive(Debug)]
pub struct Attached {
    /// As the engine sees it.
    pub database: Arc<dyn Database>,
    /// What is bound, numbered from 1.
    pub bound: Vec<Bound>,
    /// The record that `install` returned.
    pub record: Installation,
}

impl Fixture {
    /// A fresh database, opened by this engine's own implementation.
    pub fn new(db: TestDb) -> Fixture {
        Self::with(db, |url, options| Box::pin(async move { rowbound::database::open(&url, &options).await }))
    }

    /// A database of any implementation: `open` takes [`TestDb::url`].
    pub fn with(db: TestDb, open: fn(String, Options) -> Opening) -> Fixture {
        Fixture { db, open }
    }

    /// Another database, opened in the same way.
    pub fn beside(&self, db: TestDb) -> Fixture {
        Self::with(db, self.open)
    }

    /// Opens the database, or does not.
    ///
    /// # Errors
    /// The implementation's.
    pub async fn try_open(&self) -> Result<Arc<dyn Database>> {
        (self.open)(self.db.url().to_owned(), Options::default()).await
    }

    /// The same by another URL.
    ///
    /// # Errors
    /// The implementation's.
    pub async fn try_open_at(&self, url: &str) -> Result<Arc<dyn Database>> {
        (self.open)(url.to_owned(), Options::default()).await
    }

    /// Opens the database, as a process of its own would.
    pub async fn open(&self) -> Arc<dyn Database> {
        self.open_with(Options { lock_patience: DEADLINE, ..Options::default() }).await
    }

    /// The same with options.
    pub async fn open_with(&self, options: Options) -> Arc<dyn Database> {
        self.open_at(self.db.url(), options).await
    }

    /// The same for another database of the same kind.
    pub async fn open_at(&self, url: &str, options: Options) -> Arc<dyn Database> {
        ok((self.open)(url.to_owned(), options).await)
    }

    /// Makes `doc(id, file, title)` with a row for each name, numbered from 1.
    pub async fn docs(&self, names: &[&str]) {
        // As wide as MariaDB can index in utf8mb4.
        self.db.exec("create table doc (id integer primary key, file varchar(768), title varchar(50))").await;
        for (i, name) in names.iter().enumerate() {
            let name = self.db.backend().literal(name);
            self.db.exec(&format!("insert into doc values ({}, {name}, 'x')", i + 1)).await;
        }
    }

    /// Attaches columns whose values are names in the storage `default`.
    pub async fn attach(&self, columns: &[&str]) -> Attached {
        self.attach_bindings(columns.iter().map(|c| ok(Binding::name(c, "default"))).collect()).await
    }

    /// Attaches bindings, numbered from 1.
    pub async fn attach_bindings(&self, bindings: Vec<Binding>) -> Attached {
        let database = self.open().await;
        let bound = number(bindings);
        let record = fresh_record(&*database, &bound).await;
        let mut record = ok(database.install(&bound, &record).await);
        // As `attach` does: where the identity lies in Rowbound's own tables, it is known only now.
        record.identity = ok(database.identity().await);
        ok(database.record(&record).await);
        Attached { database, bound, record }
    }
}

impl Attached {
    /// A claim of everything that is due in the storage `default`.
    pub fn claim(&self) -> Claim {
        Claim {
            storage: "default".into(),
            bindings: self.bound.iter().filter(|b| b.binding.storage == "default").map(|b| b.id).collect(),
            grace: Duration::ZERO,
            limit: 10_000,
            owner: "suite".into(),
            lease: Duration::from_secs(600),
            not_due_too: false,
            counted: false,
        }
    }

    /// Claims everything that is due and settles it: what was captured since the last call.
    pub async fn released(&self) -> Vec<Candidate> {
        let claimed = ok(self.database.claim(&self.claim()).await);
        let count = ok(self.database.settle(&settle_all(&claimed, Outcome::Kept), None).await);
        assert_eq!(count, claimed.len() as u64, "what was claimed can be settled");
        claimed
    }

    /// The values of [`Attached::released`], sorted.
    pub async fn values(&self) -> Vec<String> {
        let mut values: Vec<_> = self.released().await.iter().map(value).collect();
        values.sort();
        values
    }

    /// What stands there now.
    pub async fn snapshot(&self) -> Snapshot {
        ok(self.database.snapshot(&self.bound).await)
    }

    /// A search for names in every bound column.
    pub fn search(&self, names: &[&str]) -> Vec<ColumnSearch> {
        let names: Vec<_> = names.iter().map(|n| crate::World::file_name(n)).collect();
        self.bound.iter().map(|b| ColumnSearch::of(b, &names)).collect()
    }

    /// Checks for names: the values found, sorted, once each. Releases the lock.
    pub async fn found(&self, names: &[&str]) -> Vec<String> {
        let checked = ok(self.database.check(&self.bound, &self.record.snapshot, &self.search(names)).await);
        let mut values: Vec<_> = checked.found.iter().map(|f| String::from_utf8_lossy(&f.value).into_owned()).collect();
        drop(checked);
        values.sort();
        values.dedup();
        values
    }
}

/// The value of a contract call.
///
/// # Panics
/// With the whole story of the error.
#[track_caller]
pub fn ok<T>(result: Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(e) => panic!("{:?}: {}{}", e.kind(), e.full(), e.hint_text().map(|h| format!(" [{h}]")).unwrap_or_default()),
    }
}

/// The error of a contract call that must fail.
///
/// # Panics
/// When it did not.
#[track_caller]
pub fn refused<T>(result: Result<T>, why: &str) -> rowbound::Error {
    match result {
        Ok(_) => panic!("this must fail: {why}"),
        Err(e) => e,
    }
}

/// A candidate's value as text.
pub fn value(candidate: &Candidate) -> String {
    String::from_utf8_lossy(&candidate.value).into_owned()
}

/// Bindings with numbers from 1.
pub fn number(bindings: Vec<Binding>) -> Vec<Bound> {
    (1..).zip(bindings).map(|(id, binding)| Bound { id, binding }).collect()
}

/// A record as `attach` would make it the first time.
pub async fn fresh_record(database: &dyn Database, bound: &[Bound]) -> Installation {
    Installation {
        bindings: bound.iter().map(|b| (b.binding.key(), b.id)).collect(),
        active: bound.iter().map(|b| b.id).collect(),
        storages: BTreeMap::from([("default".to_owned(), "a storage's id".to_owned())]),
        ..Installation::new(format!("{:032x}", rand::random::<u128>()), ok(database.identity().await))
    }
}

/// A settlement of the owner `suite` that gives all candidates one outcome.
pub fn settle_all(candidates: &[Candidate], outcome: Outcome) -> Settlement {
    Settlement {
        owner: "suite".into(),
        storage: "default".into(),
        settled: candidates.iter().map(|c| Decision { id: c.id, outcome, name: None, size: None, place: None, note: None }).collect(),
        empty: Vec::new(),
        back: Vec::new(),
        derived: Vec::new(),
        opened: Vec::new(),
    }
}

/// A search for values by equality in one bound column.
pub fn equal(bound: &Bound, values: &[&str]) -> ColumnSearch {
    ColumnSearch {
        binding: bound.id,
        column: bound.binding.column.clone(),
        search: Search { values: values.iter().map(|v| (*v).to_owned()).collect(), ..Search::default() },
        query: None,
    }
}

/// The triggers on the application's tables: name and table. (One on a table of Rowbound's own is no capture.)
pub async fn capture_triggers(f: &Fixture) -> Vec<(String, String)> {
    let mut triggers = f.db.triggers().await;
    triggers.retain(|(_, table)| !table.contains("rowbound"));
    assert!(!triggers.is_empty(), "no trigger stands on the application's tables");
    triggers
}

/// Runs the case or the event `name`.
///
/// # Panics
/// When the contract is broken, and when there is no such case.
pub async fn run(name: &str, fixture: &Fixture) {
    if let Some(event) = EVENTS.iter().find(|e| e.name == name) {
        events::run(event, fixture).await;
    } else {
        let (_, case) = CASES.iter().find(|(n, _)| *n == name).unwrap_or_else(|| panic!("there is no case {name}"));
        case(fixture).await;
    }
}

macro_rules! cases {
    ($($module:ident: $($name:ident)*;)*) => {
        /// Every case that is no event, in the order of the modules.
        pub const CASES: &[(&str, Case)] = &[$($((stringify!($name), |fixture| Box::pin($module::$name(fixture))),)*)*];
    };
}

cases! {
    names:
        every_name_arrives_byte_for_byte
        bytes_that_are_no_text_arrive
        null_and_empty_are_no_names
        only_a_change_of_bytes_lets_go
        several_columns_of_one_table_are_told_apart
        two_storages_may_share_a_column
        the_candidate_tells_the_row_and_the_event
        the_key_of_several_columns_is_a_json_array
        a_row_without_a_primary_key_is_captured
        odd_table_and_column_names_are_quoted
        a_table_in_another_schema_is_captured
        an_application_user_needs_no_right
        another_encoding_is_read_right
        the_settings_of_a_session_do_not_matter;
    queue:
        claims_take_the_oldest_up_to_the_limit
        claims_are_disjoint
        an_expired_lease_is_claimed_again
        a_claim_waits_for_the_grace
        a_claim_stays_in_its_storage
        a_claim_does_not_block_the_application
        next_due_tells_the_wait
        next_due_is_the_earliest_not_the_first
        what_is_put_back_is_due_later
        what_a_candidate_waits_for_is_remembered
        what_a_candidate_waits_for_must_be_readable
        a_lease_is_confirmed_to_who_holds_it
        a_lease_that_ran_out_is_not_confirmed
        a_lease_that_is_half_over_begins_anew
        ten_thousand_leases_are_confirmed_at_once
        not_due_too_takes_what_waits
        what_is_settled_moves_to_the_ledger
        settling_twice_writes_one_entry
        another_owner_settles_nothing
        what_held_no_name_leaves_without_an_entry
        derivatives_enter_with_the_settlement
        names_of_a_value_become_candidates_of_their_own
        a_claim_is_limited_in_bytes
        the_announced_is_due_after_its_wait
        the_announced_stays_when_the_application_rolls_back
        announcing_under_a_lock_says_so
        nothing_is_announced_for_what_is_not_attached
        entries_without_a_candidate_are_kept
        history_filters_and_begins_with_the_newest
        history_goes_on_before_an_entry
        every_outcome_is_entered
        totals_sum_the_ledger
        shadowed_counts_each_file_once
        the_backlog_counts
        waiting_finds_exact_values
        one_works_where_only_one_may;
    forget:
        old_entries_are_forgotten
        what_lies_in_the_trash_is_not_forgotten
        what_is_yet_to_be_heard_is_not_forgotten
        entries_are_forgotten_page_by_page
        what_happened_in_a_place_is_told;
    upkeep:
        a_trash_is_kept_by_one
        of_several_that_ask_at_once_one_keeps
        a_right_that_ran_out_is_taken_over
        what_is_known_of_a_trash_comes_back
        what_is_kept_is_entered_with_it
        a_history_goes_on;
    follow:
        a_follower_hears_of_what_is_settled_from_then_on
        what_is_rolled_back_is_never_heard
        followers_hear_each_for_themselves
        other_outcomes_count_from_then_on
        a_forgotten_follower_hears_nothing
        what_was_not_delivered_is_due_again
        each_delivery_is_held_by_one
        an_expired_turn_is_taken_over
        entries_of_one_name_are_heard_in_order
        every_name_is_heard_byte_for_byte
        several_that_settle_at_once_skip_no_follower
        an_entry_that_was_deleted_is_not_lost
        a_handler_hears_once_and_again_after_an_error
        a_handler_gets_batches_and_what_failed_alone
        a_handler_that_asks_for_time_is_left_alone
        a_handler_that_takes_long_keeps_its_deliveries
        a_handler_is_stopped_between_two_calls
        two_processes_of_one_name_share_the_work
        a_copy_delivers_nothing;
    check:
        check_finds_values_byte_for_byte
        check_finds_each_of_many_names
        check_finds_every_spelling_of_a_url
        check_looks_into_every_column
        check_sees_what_was_committed_just_before
        check_fails_on_a_missing_table
        check_fails_on_a_missing_column
        check_fails_on_a_dropped_trigger
        an_uncommitted_reference_is_not_overlooked
        a_reader_with_an_old_snapshot_is_waited_for
        a_prepared_transaction_is_waited_for
        an_ignored_session_is_not_waited_for
        an_ignored_application_is_not_waited_for
        it_is_told_how_many_wait_for_a_transaction
        the_engine_does_not_wait_for_itself
        a_hold_keeps_writers_out_until_settled
        holders_name_the_rows
        check_reads_the_names_in_texts_and_json
        an_unreadable_value_holds_what_it_mentions
        lists_of_names_are_captured_and_checked
        check_reads_a_query
        a_query_that_cannot_be_used_is_refused
        a_query_that_fails_stops_the_check
        holders_are_limited
        a_name_that_no_row_can_hold_is_absent;
    readings:
        a_url_holds_the_raw_and_the_decoded_name
        a_host_that_nobody_named_holds_its_file
        another_spelling_of_a_name_holds_its_file
        a_name_is_held_by_what_it_comes_to
        a_key_is_held_by_each_reading
        a_value_that_is_no_single_name_holds_what_it_mentions
        json_holds_what_its_path_does_not_reach
        only_rows_that_count_release_and_hold
        a_length_byte_hides_no_name
        bytes_and_uuids_are_names;
    scan:
        scan_reads_every_value_in_the_order_of_bytes
        scan_of_a_range_leaves_out_nothing_of_it
        scan_of_what_is_not_there_is_an_error
        scan_that_is_dropped_keeps_nobody;
    install:
        before_attach_there_is_no_record
        the_record_comes_back_as_stored
        a_stored_record_ends_no_shadow_mode
        values_that_were_seen_are_added_to_what_stands
        install_twice_changes_nothing
        install_repairs_a_dropped_trigger
        install_removes_what_left_the_plan
        an_attach_that_was_overtaken_changes_nothing
        install_changes_no_row
        install_gives_up_on_a_held_lock
        an_older_version_is_upgraded
        the_script_upgrades_an_older_version
        an_upgrade_gives_up_on_a_held_queue
        the_script_does_what_install_does
        remove_leaves_the_schema_as_before
        remove_after_the_table_is_gone
        the_remove_script_does_what_remove_does
        identity_is_stable_and_a_copy_has_another
        inspect_changes_nothing
        inspect_refuses_a_missing_table
        inspect_refuses_a_missing_column
        inspect_refuses_an_unusable_type
        inspect_refuses_a_view
        drift_adding_a_column_stops_nothing
        drift_renaming_the_column_is_noticed
        drift_dropping_the_column_is_noticed
        drift_altering_the_type_breaks_nothing
        drift_renaming_the_key_is_noticed
        drift_renaming_the_table_is_noticed
        drift_dropping_the_table_is_noticed
        drift_swapping_the_table_is_noticed
        drift_dropping_a_trigger_is_noticed
        drift_replacing_a_trigger_is_noticed
        drift_adding_a_unique_key_is_noticed
        drift_adding_a_cascade_is_noticed;
    survey:
        text_columns_are_those_that_can_hold_names
        any_text_column_is_read_to_its_end
        a_column_of_long_values_is_read_to_its_end
        long_values_come_in_pieces
        what_stands_beside_a_value_is_told
        a_sample_holds_distinct_values
        a_sample_of_a_big_table_comes_from_everywhere
        a_sample_of_a_locked_table_is_an_error
        the_clock_is_read;
    row:
        a_row_is_found_by_its_key
        a_row_that_is_set_releases_what_it_named;
}

/// Calls `$then!` with the name of every case and every event, separated by blanks: `database_cases!(tests)`. What stands after a comma comes
/// first, in parentheses: `database_cases!(tests, sqlite Sqlite)`. A test of the kit insists that the list is complete.
#[macro_export]
macro_rules! database_cases {
    ($then:ident $(, $($with:tt)+)?) => {
        $then! {
            $(($($with)+))?
            insert_lets_go_of_nothing
            delete_one
            delete_bulk
            delete_without_where
            update_file
            update_many
            update_file_to_itself
            update_another_column
            update_to_null
            update_to_empty
            update_of_case_only
            update_of_key_and_file
            update_of_the_key
            swap_of_two_rows
            update_from
            delete_using
            delete_from_two_tables
            delete_from_parent_and_child
            delete_in_a_cte
            merge
            rollback
            savepoint
            delete_and_insert_again
            there_and_back
            upsert_that_updates
            upsert_that_does_nothing
            replace_by_primary_key
            replace_by_unique_key
            replace_of_two_rows
            replace_by_two_columns
            replace_by_a_key_that_folds_case
            replace_without_rowid
            replace_by_a_unique_expression
            replace_by_the_schema
            replace_with_the_same_file
            update_or_replace_by_primary_key
            update_or_replace_by_unique_key
            replace_of_a_parent
            cascade_of_three_levels
            cascade_from_the_middle
            cascade_from_unbound_tables
            cascade_within_a_table
            cascade_by_two_paths
            set_null_of_the_file_column
            set_default_of_the_file_column
            update_cascade_into_the_file_column
            update_of_a_parent_that_cascades_nothing
            delete_of_a_multi_table_row
            change_by_an_application_trigger
            delete_by_an_application_trigger
            delete_through_a_view
            delete_by_an_instead_of_trigger
            update_by_a_rule
            generated_stored_column
            generated_virtual_column
            fixed_width_column
            truncate
            truncate_rolled_back
            truncate_cascade
            drop_table
            drop_of_a_parent
            partition_delete
            partition_delete_on_the_leaf
            partition_later
            partition_attached
            partition_move
            partition_truncated
            partition_truncated_later
            partition_dropped
            inherited_delete_by_the_parent
            inherited_delete_on_the_child
            inherited_truncate
            inherited_later
            replica_role
            triggers_disabled
            recursive_triggers
            myisam_delete
            myisam_rollback
            every_name_arrives_byte_for_byte
            bytes_that_are_no_text_arrive
            null_and_empty_are_no_names
            only_a_change_of_bytes_lets_go
            several_columns_of_one_table_are_told_apart
            two_storages_may_share_a_column
            the_candidate_tells_the_row_and_the_event
            the_key_of_several_columns_is_a_json_array
            a_row_without_a_primary_key_is_captured
            odd_table_and_column_names_are_quoted
            a_table_in_another_schema_is_captured
            an_application_user_needs_no_right
            another_encoding_is_read_right
            the_settings_of_a_session_do_not_matter
            claims_take_the_oldest_up_to_the_limit
            claims_are_disjoint
            an_expired_lease_is_claimed_again
            a_claim_waits_for_the_grace
            a_claim_stays_in_its_storage
            a_claim_does_not_block_the_application
            next_due_tells_the_wait
            next_due_is_the_earliest_not_the_first
            what_is_put_back_is_due_later
            what_a_candidate_waits_for_is_remembered
            what_a_candidate_waits_for_must_be_readable
            a_lease_is_confirmed_to_who_holds_it
            a_lease_that_ran_out_is_not_confirmed
            a_lease_that_is_half_over_begins_anew
            ten_thousand_leases_are_confirmed_at_once
            not_due_too_takes_what_waits
            what_is_settled_moves_to_the_ledger
            settling_twice_writes_one_entry
            another_owner_settles_nothing
            what_held_no_name_leaves_without_an_entry
            derivatives_enter_with_the_settlement
            names_of_a_value_become_candidates_of_their_own
            a_claim_is_limited_in_bytes
            the_announced_is_due_after_its_wait
            the_announced_stays_when_the_application_rolls_back
            announcing_under_a_lock_says_so
            nothing_is_announced_for_what_is_not_attached
            entries_without_a_candidate_are_kept
            history_filters_and_begins_with_the_newest
            history_goes_on_before_an_entry
            every_outcome_is_entered
            totals_sum_the_ledger
            shadowed_counts_each_file_once
            the_backlog_counts
            waiting_finds_exact_values
            one_works_where_only_one_may
            old_entries_are_forgotten
            what_lies_in_the_trash_is_not_forgotten
            what_is_yet_to_be_heard_is_not_forgotten
            entries_are_forgotten_page_by_page
            what_happened_in_a_place_is_told
            a_trash_is_kept_by_one
            a_history_goes_on
            of_several_that_ask_at_once_one_keeps
            a_right_that_ran_out_is_taken_over
            what_is_known_of_a_trash_comes_back
            what_is_kept_is_entered_with_it
            a_follower_hears_of_what_is_settled_from_then_on
            what_is_rolled_back_is_never_heard
            followers_hear_each_for_themselves
            other_outcomes_count_from_then_on
            a_forgotten_follower_hears_nothing
            what_was_not_delivered_is_due_again
            each_delivery_is_held_by_one
            an_expired_turn_is_taken_over
            entries_of_one_name_are_heard_in_order
            every_name_is_heard_byte_for_byte
            several_that_settle_at_once_skip_no_follower
            an_entry_that_was_deleted_is_not_lost
            a_handler_hears_once_and_again_after_an_error
            a_handler_gets_batches_and_what_failed_alone
            a_handler_that_asks_for_time_is_left_alone
            a_handler_that_takes_long_keeps_its_deliveries
            a_handler_is_stopped_between_two_calls
            two_processes_of_one_name_share_the_work
            a_copy_delivers_nothing
            check_finds_values_byte_for_byte
            check_finds_each_of_many_names
            check_finds_every_spelling_of_a_url
            check_looks_into_every_column
            check_sees_what_was_committed_just_before
            check_fails_on_a_missing_table
            check_fails_on_a_missing_column
            check_fails_on_a_dropped_trigger
            an_uncommitted_reference_is_not_overlooked
            a_reader_with_an_old_snapshot_is_waited_for
            a_prepared_transaction_is_waited_for
            an_ignored_session_is_not_waited_for
            an_ignored_application_is_not_waited_for
            it_is_told_how_many_wait_for_a_transaction
            the_engine_does_not_wait_for_itself
            a_hold_keeps_writers_out_until_settled
            holders_name_the_rows
            check_reads_the_names_in_texts_and_json
            an_unreadable_value_holds_what_it_mentions
            lists_of_names_are_captured_and_checked
            check_reads_a_query
            a_query_that_cannot_be_used_is_refused
            a_query_that_fails_stops_the_check
            holders_are_limited
            a_name_that_no_row_can_hold_is_absent
            a_url_holds_the_raw_and_the_decoded_name
            a_host_that_nobody_named_holds_its_file
            another_spelling_of_a_name_holds_its_file
            a_name_is_held_by_what_it_comes_to
            a_key_is_held_by_each_reading
            a_value_that_is_no_single_name_holds_what_it_mentions
            json_holds_what_its_path_does_not_reach
            only_rows_that_count_release_and_hold
            a_length_byte_hides_no_name
            bytes_and_uuids_are_names
            scan_reads_every_value_in_the_order_of_bytes
            scan_of_a_range_leaves_out_nothing_of_it
            scan_of_what_is_not_there_is_an_error
            scan_that_is_dropped_keeps_nobody
            before_attach_there_is_no_record
            the_record_comes_back_as_stored
            a_stored_record_ends_no_shadow_mode
            values_that_were_seen_are_added_to_what_stands
            install_twice_changes_nothing
            install_repairs_a_dropped_trigger
            install_removes_what_left_the_plan
            an_attach_that_was_overtaken_changes_nothing
            install_changes_no_row
            install_gives_up_on_a_held_lock
            an_older_version_is_upgraded
            the_script_upgrades_an_older_version
            an_upgrade_gives_up_on_a_held_queue
            the_script_does_what_install_does
            remove_leaves_the_schema_as_before
            remove_after_the_table_is_gone
            the_remove_script_does_what_remove_does
            identity_is_stable_and_a_copy_has_another
            inspect_changes_nothing
            inspect_refuses_a_missing_table
            inspect_refuses_a_missing_column
            inspect_refuses_an_unusable_type
            inspect_refuses_a_view
            drift_adding_a_column_stops_nothing
            drift_renaming_the_column_is_noticed
            drift_dropping_the_column_is_noticed
            drift_altering_the_type_breaks_nothing
            drift_renaming_the_key_is_noticed
            drift_renaming_the_table_is_noticed
            drift_dropping_the_table_is_noticed
            drift_swapping_the_table_is_noticed
            drift_dropping_a_trigger_is_noticed
            drift_replacing_a_trigger_is_noticed
            drift_adding_a_unique_key_is_noticed
            drift_adding_a_cascade_is_noticed
            text_columns_are_those_that_can_hold_names
            any_text_column_is_read_to_its_end
            a_column_of_long_values_is_read_to_its_end
            long_values_come_in_pieces
            what_stands_beside_a_value_is_told
            a_sample_holds_distinct_values
            a_sample_of_a_big_table_comes_from_everywhere
            a_sample_of_a_locked_table_is_an_error
            the_clock_is_read
            a_row_is_found_by_its_key
            a_row_that_is_set_releases_what_it_named
        }
    };
}
