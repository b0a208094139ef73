//! Deliveries: which ledger entries a follower has not received yet.
//!
//! In: entries as they enter the ledger. Out: [`Pending`] ones, claimed by one process at a time, and an [`Acknowledgement`], which removes what was
//! delivered and puts back what was not. Promise: an entry and the deliveries of it are written in one transaction, and a delivery goes only when it was
//! made or its follower is forgotten.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    error::{Error, Kind, Result},
    ledger::Entry,
    queue::Outcome,
};

/// The outcomes that a follower receives by default: a file is no longer under its name. [`Outcome::Missing`] is among them, because a worker that is killed between the removal and its settlement
/// leaves a file that the next one finds missing. That the trash was emptied of one ([`Outcome::Purged`]) comes a second time and later, when a new file may have the name.
pub const DEFAULT_OUTCOMES: [Outcome; 3] = [Outcome::Trashed, Outcome::Erased, Outcome::Missing];

/// The longest name of a follower, in characters.
pub const NAME: usize = 100;

/// A follower as the database knows it, and what it has not received yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Registered {
    /// Its name.
    pub name: String,
    /// When it was registered: it receives what was settled since.
    pub since: Timestamp,
    /// The outcomes that it receives.
    pub outcomes: Vec<Outcome>,
    /// Entries that it has not received yet.
    pub waiting: u64,
    /// Those that nobody holds and whose time has come.
    pub due: u64,
    /// Those that were tried at least once, and failed.
    pub failing: u64,
    /// The age of the oldest of them all, in seconds.
    pub oldest_seconds: Option<u64>,
    /// For how many seconds the longest overdue one has been due: nobody delivers.
    pub overdue_seconds: Option<u64>,
    /// A few of those that fail, the oldest first.
    pub sample: Vec<Failing>,
}

/// A delivery that failed, as `status` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failing {
    /// The ledger entry's number.
    pub entry: i64,
    /// The storage's name; `None` where somebody deleted the entry from the ledger.
    pub storage: Option<String>,
    /// The file's name.
    pub name: Option<String>,
    /// When it is tried again, or its lease ends.
    pub due_at: Timestamp,
    /// Failed attempts.
    pub attempts: u32,
    /// The last error.
    pub note: Option<String>,
}

/// Which deliveries a process asks for.
#[derive(Debug, Clone)]
pub struct DeliveryClaim {
    /// The follower's name.
    pub follower: String,
    /// Who asks: unique per process and follower.
    pub owner: String,
    /// At most so many.
    pub limit: u32,
    /// How long they are held. After that another process may take them.
    pub lease: Duration,
}

/// A claimed delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// The ledger entry's number.
    pub id: i64,
    /// How many times it was tried and failed.
    pub attempts: u32,
    /// The entry; `None` where somebody deleted it from the ledger.
    pub entry: Option<Entry>,
}

/// A delivery that was not made: it goes back and is due again later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redelivery {
    /// The ledger entry's number.
    pub id: i64,
    /// How long until it is due again.
    pub wait: Duration,
    /// The error, which counts as a failed attempt; `None` where it was not tried at all: then it stands as before.
    pub error: Option<String>,
}

/// What became of claimed deliveries: written in one transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Acknowledgement {
    /// The follower's name.
    pub follower: String,
    /// The claimant, as in [`DeliveryClaim::owner`]: what another process holds by now is left alone.
    pub owner: String,
    /// Ledger entries that were delivered.
    pub delivered: Vec<i64>,
    /// Those that were not.
    pub again: Vec<Redelivery>,
}

impl Acknowledgement {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.delivered.is_empty() && self.again.is_empty()
    }
}

/// Outcomes as one text, in which a database looks for a word between commas.
#[cfg_attr(not(any(feature = "sqlite", feature = "mysql")), allow(dead_code))]
pub(crate) fn words(outcomes: &[Outcome]) -> String {
    outcomes.iter().map(|o| o.word()).collect::<Vec<_>>().join(",")
}

/// Checks a follower's name.
///
/// # Errors
/// [`Kind::Config`] for one that is empty, longer than [`NAME`] or holds anything but ASCII letters, digits, `.`, `_` and `-`.
pub fn check_name(name: &str) -> Result<()> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > NAME || !name.chars().all(fine) {
        return Err(Error::new(Kind::Config, "this is no name for a follower")
            .with("name", format_args!("{name:?}"))
            .hint(format!("up to {NAME} letters, digits, dots, underscores and hyphens, such as cdn-purge")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_stand_in_a_header_and_a_file_name() {
        for good in ["cdn", "cdn-purge.2_x", &"x".repeat(NAME)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a/b", "ä", "a\n", &"x".repeat(NAME + 1)] {
            assert_eq!(check_name(bad).unwrap_err().kind(), Kind::Config, "{bad:?}");
        }
    }
}
