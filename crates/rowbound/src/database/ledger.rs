//! The ledger: what was decided, and what is known of each storage's trash.
//!
//! In: entries that no candidate stands behind, and what a trash's keeper knows. Out: entries and their sums. Promise: an entry is never changed, and one that
//! something still needs is never removed.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    error::Result,
    ledger::{Entry, Filter, NewEntry, Timeline, Total, Upkeep},
    name::FileName,
    queue::Outcome,
};

/// What would have been deleted by a binding that is in shadow mode.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Shadowed {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When the first of them would have gone.
    pub oldest: Option<Timestamp>,
}

/// What [`Ledger::forget_entries`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Entries that it removed.
    pub removed: u64,
    /// After which entry to go on; `None`: no later one is old enough.
    pub next: Option<i64>,
}

/// The append-only record, and who keeps each trash by it. An answer is read from what was committed before the call began.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// Writes ledger entries that have no candidate, and a delivery for each follower of their outcomes, in one transaction.
    async fn enter(&self, entries: &[NewEntry]) -> Result<()>;

    /// Ledger entries, the newest first.
    async fn history(&self, filter: &Filter) -> Result<Vec<Entry>>;

    /// Sums over the ledger since `since` (or ever).
    async fn totals(&self, since: Option<Timestamp>) -> Result<Vec<Total>>;

    /// What the ledger says of a binding in shadow mode since a moment, or ever: each file counts once, with what was seen of it last.
    async fn shadowed(&self, binding: i32, since: Option<Timestamp>) -> Result<Shadowed>;

    /// Of these files: what happened at their places in the trash since `since`, as the ledger says, the oldest first. Entries without a place, and those of a
    /// candidate that another one stood for ([`Outcome::Duplicate`]), are left out.
    async fn in_places(&self, storage: &str, names: &[FileName], since: Timestamp) -> Result<Vec<(String, Outcome)>>;

    /// Of these files: those that came back from the trash since `since`, as the ledger says, and when that was entered last.
    async fn came_back(&self, storage: &str, names: &[FileName], since: Timestamp) -> Result<Vec<(String, Timestamp)>>;

    /// Removes entries that were written before `before`, of the `limit` that follow the one with the number `after`. One that is still needed stays:
    ///
    /// - with a place in the trash, unless a later one says that the file has left it (purged, erased, restored);
    /// - that says so, while an earlier one of the same place is there;
    /// - that a follower has not received yet.
    ///
    /// What it removes is committed when it returns. Several at once do not disturb each other.
    async fn forget_entries(&self, before: Timestamp, after: i64, limit: u32) -> Result<Forgotten>;

    /// Takes the right to keep a storage's trash (re-checks, erasures), or prolongs it by `lease`: one process has it at a time. `None`: another one has
    /// it. A `lease` of zero gives it back. On SQLite, where there is one worker, it is had without a write.
    async fn keep(&self, storage: &str, owner: &str, lease: Duration) -> Result<Option<Upkeep>>;

    /// Writes what is known of a storage's trash, and ledger entries as [`Ledger::enter`] does, in one transaction. `false`: `owner` does not have the right
    /// to keep it any more, and nothing was written.
    async fn kept(&self, storage: &str, owner: &str, upkeep: &Upkeep, entries: &[NewEntry]) -> Result<bool>;

    /// What is known of a storage's trash; `None` if nobody has kept it yet.
    async fn upkeep(&self, storage: &str) -> Result<Option<Upkeep>>;

    /// Which history the database follows, and how far it has come: another id, or a position behind one that was seen before, says that commits may be gone.
    /// A copy, or a dump that was restored into another database, has another id.
    /// Two of a row, with a commit between them, are the same history and differ in their positions.
    ///
    /// # Errors
    /// [`Kind::Database`](crate::Kind::Database) when it cannot be told now; those of a database that is away.
    async fn timeline(&self) -> Result<Timeline>;
}
