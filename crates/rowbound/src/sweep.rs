//! Sweep: a whole storage against all references, both ways.
//!
//! In: the ordered listing of a storage, and the ordered references of every binding on it. Out: orphans (a file, no row), which become
//! candidates, and dangling references (a row, no file), which are reported. Listing and rows are read at the same time, so that both
//! findings are hints: the collector, with all its checks, is still the only deleter.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::name::FileName;

/// Files, counted and weighed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// How many.
    pub files: u64,
    /// Their bytes in all.
    pub bytes: u64,
}

/// A part of the orphans: those of one folder, or of one age.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// The folder (`2024/03/`; empty: the storage's root) or the age (`1 to 7 days`).
    pub label: String,
    /// What is in it.
    #[serde(flatten)]
    pub amount: Amount,
}

/// A file that no row names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orphan {
    /// Its name.
    pub name: FileName,
    /// Bytes.
    pub size: u64,
    /// Last modification, by the storage's clock.
    pub modified: Timestamp,
}

/// A row that names a file that is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dangling {
    /// The name.
    pub name: FileName,
    /// The column, `table.column`.
    pub column: String,
    /// The row's key as text, a JSON array where it has several columns.
    pub key: Option<String>,
    /// Whether the trash still holds the file.
    pub in_trash: bool,
    /// Whether it was brought back.
    pub healed: bool,
}

/// Why a sweep stopped before it changed anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brake {
    /// What was found.
    pub why: String,
    /// What to look at, and which flag confirms.
    pub hint: String,
}

/// What a sweep of one storage found and did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The storage's name in the plan.
    pub storage: String,
    /// Where it is.
    pub url: String,
    /// The database, without its password.
    pub database: String,
    /// When the sweep began (at first, if it was interrupted and taken up again).
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// Only names that begin with this; empty: all.
    pub prefix: String,
    /// Plain files that were listed.
    pub files: u64,
    /// Distinct names that rows hold.
    pub references: u64,
    /// Files that no row names, old enough to go.
    pub orphans: Amount,
    /// Files that no row names, but too young to judge.
    pub young: Amount,
    /// Files that no row names, but made from one that is there.
    pub derived: Amount,
    /// Files that no row names, under a `keep` or an `ignore` pattern.
    pub protected: u64,
    /// Entries that no row could name: links, names that are refused.
    pub odd: u64,
    /// Distinct names that rows hold and that have no file.
    pub dangling: u64,
    /// Of these, how many the trash still holds.
    pub in_trash: u64,
    /// The orphans by folder, the heaviest first; at most twenty, then the others.
    pub by_folder: Vec<Group>,
    /// The orphans by age, the youngest first.
    pub by_age: Vec<Group>,
    /// Why nothing may be deleted on these findings, if it is so.
    pub brake: Option<Brake>,
    /// Orphans that became candidates.
    pub announced: u64,
    /// Files that came back from the trash.
    pub healed: u64,
}
