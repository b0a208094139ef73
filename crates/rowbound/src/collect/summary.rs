//! What a collector did.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::CurrentError;
use crate::{
    error::Error,
    queue::{Decision, Outcome},
};

/// What a collector did, summed up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Settled candidates by outcome.
    pub outcomes: BTreeMap<Outcome, u64>,
    /// Candidates whose values could hold many names and held none, such as a text without pictures: they leave the queue without an entry in the ledger.
    pub empty: u64,
    /// Candidates put back because something failed.
    pub failed: u64,
    /// Candidates put back because it is too early: a young file, an open transaction.
    pub waiting: u64,
    /// Of those that wait, or failed: files that were moved to the trash, and whose candidates wait there for open transactions.
    pub held: u64,
    /// Bytes of the files taken away.
    pub bytes: u64,
    /// A few of the errors and reasons, each with its first name.
    pub notes: BTreeMap<String, String>,
    /// By storage: until when the files lie in the trash that were moved there now.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub until: BTreeMap<String, Timestamp>,
    /// By storage: what keeps files in the trash though their retention is over. It names the first of them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub trash: BTreeMap<String, CurrentError>,
    /// What keeps entries in the ledger though `keep_history` is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<CurrentError>,
}

impl Summary {
    /// How many candidates were settled.
    pub fn settled(&self) -> u64 {
        self.outcomes.values().sum::<u64>() + self.empty
    }

    /// How many had this outcome.
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.outcomes.get(&outcome).copied().unwrap_or(0)
    }

    /// The database refused these settlements: they are no outcomes, but failures.
    pub(super) fn refused(&mut self, refused: &[(Decision, Error)]) {
        for (s, e) in refused {
            if let Some(n) = self.outcomes.get_mut(&s.outcome) {
                *n -= 1;
            }
            self.outcomes.retain(|_, n| *n > 0);
            self.failed += 1;
            if matches!(s.outcome, Outcome::Erased | Outcome::Trashed) {
                self.bytes = self.bytes.saturating_sub(s.size.unwrap_or(0));
            }
            self.notes.entry(e.full()).or_insert_with(|| s.name.clone().unwrap_or_else(|| format!("candidate {}", s.id)));
        }
    }

    /// Adds another summary.
    pub fn add(&mut self, other: &Summary) {
        for (outcome, n) in &other.outcomes {
            *self.outcomes.entry(*outcome).or_default() += n;
        }
        self.empty += other.empty;
        self.failed += other.failed;
        self.waiting += other.waiting;
        self.held += other.held;
        self.bytes += other.bytes;
        for (note, name) in &other.notes {
            if self.notes.len() < 20 {
                self.notes.entry(note.clone()).or_insert_with(|| name.clone());
            }
        }
        self.until.extend(other.until.clone());
        self.trash.extend(other.trash.clone());
        if other.history.is_some() {
            self.history.clone_from(&other.history);
        }
    }
}
