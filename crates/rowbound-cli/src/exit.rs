//! Exit statuses: the contract of docs/cli.md.

use rowbound::{Error, Kind};

/// Done, nothing left.
pub const DONE: u8 = 0;
/// Something waits or failed, and the output says what.
pub const LEFT: u8 = 1;
/// Usage or configuration: nothing was done.
pub const USAGE: u8 = 2;
/// The database or a storage cannot be reached.
pub const UNREACHABLE: u8 = 3;
/// Stopped for safety.
pub const STOPPED: u8 = 4;

/// Every status with its meaning, as `--help` shows them.
pub const ALL: &str = "\
Exit status:
  0  done, nothing left
  1  something waits or failed, and the output says what
  2  usage, configuration, a missing right, or not attached yet: nothing was done
  3  the database or a storage cannot be reached, or the storage has not proved to be the right one
  4  stopped for safety: the schema, the triggers or the database is not what was attached, a column
     that references files is not bound, or a sweep found too much";

/// The status for an error.
pub fn status(e: &Error) -> u8 {
    of(e.kind())
}

/// The status for a kind of error. The graver has the higher number.
pub fn of(kind: Kind) -> u8 {
    match kind {
        Kind::Config | Kind::Schema | Kind::Permission | Kind::NotAttached => USAGE,
        Kind::DatabaseUnreachable | Kind::StorageUnreachable => UNREACHABLE,
        Kind::Drift | Kind::Identity | Kind::Brake | Kind::Unbound => STOPPED,
        _ => LEFT,
    }
}
