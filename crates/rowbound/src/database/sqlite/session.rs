//! What a connection of ours is, whatever the pool of the application sets in its own.
//!
//! In: what is connected with. Out: the same with our pragmas. `tests/sqlite.rs` of the test kit reads every pragma, and fails on one that is neither
//! set here nor listed in its `sqlite/pragmas.txt`.

use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteLockingMode, SqliteSynchronous};

/// Pragmas by their names, their values and why.
const PRAGMAS: &[(&str, &str)] = &[
    // With it a damaged entry of the schema is passed over without an error, and a table that is not there has no references.
    ("writable_schema", "OFF"),
    // Rows that another connection may yet roll back (of a shared cache, which ours is not).
    ("read_uncommitted", "OFF"),
    // The order of what is asked for without one. Nothing of ours depends on it.
    ("reverse_unordered_selects", "OFF"),
    // Above all: a pool may set it as a pragma, which comes after the driver's own way.
    ("busy_timeout", "5000"),
    // We settle, and `put` sets a column.
    ("query_only", "OFF"),
    // `put` writes into the application's tables: their constraints hold for it too.
    ("ignore_check_constraints", "OFF"),
    // Old names and numbers for columns of an answer, and a row where none is asked for.
    ("count_changes", "OFF"),
    ("empty_result_callbacks", "OFF"),
    ("full_column_names", "OFF"),
    ("short_column_names", "ON"),
];

/// What our connections have in common. Foreign keys: those of the application are its own connections' business.
pub(super) fn ours(connect: SqliteConnectOptions) -> SqliteConnectOptions {
    let connect = connect.busy_timeout(Duration::from_secs(5)).locking_mode(SqliteLockingMode::Normal).foreign_keys(false);
    // What we have settled stays so.
    let connect = connect.synchronous(SqliteSynchronous::Full);
    PRAGMAS.iter().fold(connect, |connect, (name, value)| connect.pragma(*name, *value))
}
