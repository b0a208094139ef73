//! The ledger: the append-only record of what was decided, when, why, and which row released it.
//!
//! In: settlements and what happens in the trash. Out: [`Entry`]s for `history`, `status` and `explain`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::queue::Outcome;

/// The longest value that enters the ledger whole, in bytes, where it references no file: its first so many bytes are kept. S3 takes no longer names
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html>), and a path of Linux is rarely as long.
pub const LONGEST_VALUE: usize = 1_024;

/// The same for what could still be a name: the longest path that Linux takes at once (`PATH_MAX`).
pub(crate) const LONGEST_NAME: usize = 4_096;

/// What the ledger stores instead of a value that is longer than `longest`: its first bytes, its length, and a hash, so that equal values are equal still.
/// `None`: it is stored whole. Never used for the name of a file that was deleted or could be: re-checks and erasures look it up.
pub(crate) fn cut(value: &[u8], longest: usize) -> Option<String> {
    if value.len() <= longest {
        return None;
    }
    // No character is cut in two.
    let inside = |at: usize| value[at] & 0xc0 == 0x80;
    let end = (LONGEST_VALUE - 3..=LONGEST_VALUE).rev().find(|at| !inside(*at)).unwrap_or(LONGEST_VALUE);
    let hash: String = Sha256::digest(value).iter().map(|byte| format!("{byte:02x}")).collect();
    Some(format!("{}..[{} bytes, sha256:{hash}]", String::from_utf8_lossy(&value[..end]), value.len()))
}

/// One line of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its number; grows with time.
    pub id: i64,
    /// When it was written, by the database's clock.
    pub at: Timestamp,
    /// The storage's name.
    pub storage: String,
    /// The binding's number, where a row released the name.
    pub binding: Option<i32>,
    /// The name, or the value where it is none: of one that is longer than [`LONGEST_VALUE`] the beginning, its length and a hash.
    pub name: String,
    /// The row's key.
    pub key: Option<String>,
    /// What happened to the row, or who asked (`delete`, `update`, .., `trash`, `restore`).
    pub event: String,
    /// When the row released it.
    pub released_at: Option<Timestamp>,
    /// What was decided.
    pub outcome: Outcome,
    /// The file's size in bytes.
    pub size: Option<u64>,
    /// Where in the trash it lies or lay.
    pub place: Option<String>,
    /// Why, where the outcome does not say it all.
    pub note: Option<String>,
}

/// An entry that no candidate stands behind: something happened to a file in the trash.
#[derive(Debug, Clone)]
pub struct NewEntry {
    /// The storage's name.
    pub storage: String,
    /// The file's name.
    pub name: String,
    /// What happened.
    pub outcome: Outcome,
    /// Who asked: `trash` (its retention) or `restore` (a person).
    pub event: &'static str,
    /// The file's size in bytes.
    pub size: Option<u64>,
    /// Where in the trash it lay.
    pub place: Option<String>,
    /// Why.
    pub note: Option<String>,
}

/// What is known of a storage's trash, by the process that keeps it: stored as JSON, one for each storage.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Upkeep {
    /// When what was moved lately was checked again, by the database's clock.
    pub checked: Option<Timestamp>,
    /// When the columns that must be read whole were read for that last.
    pub read: Option<Timestamp>,
    /// How long that took, in milliseconds.
    pub took: u64,
    /// How long the other columns took.
    pub took_quick: u64,
    /// When all else that lies in the trash was checked last.
    pub reviewed: Option<Timestamp>,
    /// How long that took.
    pub took_review: u64,
    /// The barrier before an erasure.
    pub clearing: Option<Clearing>,
    /// What is about to be erased: after a kill it tells which files were.
    pub erasing: Vec<Erasing>,
    /// The history that the database followed when this was stored.
    pub timeline: Option<Timeline>,
    /// When the database was last seen to follow another history than before, and what came of it.
    pub rewound: Option<Rewound>,
}

/// Which history a database follows, and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// Another one after a failover to another server, or a recovery to an earlier moment, as far as the database tells.
    pub id: String,
    /// Grows with what is committed, and never falls while the history is the same; 0: it is not known.
    pub position: u64,
}

impl Timeline {
    /// The history of the database that says `identity` of itself: what was restored from its dump into another one follows another history.
    #[cfg_attr(not(any(feature = "postgres", feature = "mysql")), allow(dead_code))]
    pub(crate) fn of(self, identity: &str) -> Timeline {
        Timeline { id: format!("{} of {identity}", self.id), ..self }
    }

    /// Whether this is not what came after `before`: something that was committed then may be gone.
    pub fn has_left(&self, before: &Timeline) -> bool {
        self.id != before.id || self.position != 0 && self.position < before.position
    }
}

impl std::fmt::Display for Timeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {}", self.id, self.position)
    }
}

/// A database was seen to follow another history than before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewound {
    /// When that was seen, by the database's clock.
    pub at: Timestamp,
    /// The history before.
    pub was: String,
    /// The history since.
    pub is: String,
    /// Files that came back from the trash because a row references them again.
    pub came_back: u64,
    /// Files that a row references and that stay in the trash until a person decides: another file may have their name by now.
    pub stay: u64,
}

/// The barrier before an erasure: what was due when it was noted goes when these transactions have ended. It is not begun anew, so that transactions which
/// overlap for ever do not keep the trash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clearing {
    /// Files that went to the trash before this moment are due.
    pub before: Timestamp,
    /// The transactions that were open then, and are still.
    pub transactions: Vec<String>,
}

/// A file of the trash that is about to be erased.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erasing {
    /// The name it had.
    pub name: crate::name::FileName,
    /// Where in the trash it lies.
    pub place: String,
    /// Bytes.
    pub size: u64,
}

/// Which entries `history` shows; the newest first.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this storage only.
    pub storage: Option<String>,
    /// Of this name only, exactly.
    pub name: Option<String>,
    /// With one of these outcomes only; empty means all.
    pub outcomes: Vec<Outcome>,
    /// Not older than this.
    pub since: Option<Timestamp>,
    /// With a smaller number than this one: the next page of an earlier answer.
    pub before: Option<i64>,
    /// At most so many; `None` means all.
    pub limit: Option<u32>,
}

/// Sums over the ledger of one storage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Total {
    /// The storage's name.
    pub storage: String,
    /// The outcome.
    pub outcome: Outcome,
    /// How many entries.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_value_is_cut_so_that_equal_ones_are_equal() {
        assert_eq!(cut(&[b'a'; LONGEST_VALUE], LONGEST_VALUE), None);
        let long = |last: char| format!("{}{last}", "a".repeat(LONGEST_VALUE)).into_bytes();
        let (one, other) = (cut(&long('1'), LONGEST_VALUE).unwrap(), cut(&long('2'), LONGEST_VALUE).unwrap());
        assert!(
            one.starts_with(&format!("{}..[1025 bytes, sha256:", "a".repeat(LONGEST_VALUE))) && one.len() < LONGEST_VALUE + 100,
            "{one}"
        );
        assert_eq!(Some(&one), cut(&long('1'), LONGEST_VALUE).as_ref());
        assert_ne!(one, other);
    }

    #[test]
    fn no_character_is_cut_in_two() {
        for before in 0..8 {
            let value = format!("{}{}", "a".repeat(before), "\u{1f5bc}".repeat(1_000));
            let short = cut(value.as_bytes(), LONGEST_VALUE).unwrap();
            let (begin, _) = short.split_once("..[").unwrap();
            assert!(value.starts_with(begin) && begin.len() > LONGEST_VALUE - 4, "{before}: {begin}");
        }
        // What is no text at all has its length and hash all the same.
        assert!(cut(&[0xff; 5_000], LONGEST_NAME).unwrap().contains("..[5000 bytes, sha256:"));
    }
}
