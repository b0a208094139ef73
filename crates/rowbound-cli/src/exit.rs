//! Exit statuses: the contract of docs/cli.md.

use rowbound::{Error, Kind};

/// Done, nothing left.
pub const DONE: u8 = 0;
/// Done, but something waits or fails, and the output names it.
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
  1  done, but something waits or fails (named in the output)
  2  usage or configuration: nothing was done
  3  the database or a storage cannot be reached
  4  stopped for safety: the schema, the database or a storage is not what was attached";

/// The status for an error.
pub fn status(e: &Error) -> u8 {
    match e.kind() {
        Kind::Config | Kind::Schema | Kind::Permission | Kind::NotAttached => USAGE,
        Kind::DatabaseUnreachable | Kind::StorageUnreachable => UNREACHABLE,
        Kind::Drift | Kind::Identity => STOPPED,
        _ => LEFT,
    }
}
