//! A line of a trace.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Refusal;

/// One event. See the module's head for the fields.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Event {
    /// The event took effect at or after this moment; 0 means: at `t`.
    #[serde(skip_serializing_if = "is_zero")]
    pub t0: u64,
    /// The event took effect at or before this moment.
    pub t: u64,
    /// Who did it.
    pub who: String,
    /// What was done.
    pub step: String,
    /// A worker's batch.
    #[serde(skip_serializing_if = "is_zero")]
    pub batch: u64,
    /// Which check of its kind.
    #[serde(skip_serializing_if = "is_zero")]
    pub round: u64,
    /// A `checked-again` while the second barrier still waits: `free` is not final.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub interim: bool,
    /// When an erasure noted its barrier.
    #[serde(skip_serializing_if = "is_zero")]
    pub noted: u64,
    /// Facts by name or file.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub names: BTreeMap<String, Value>,
    /// Ledger entries of a settlement, by file.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub entered: BTreeMap<String, Value>,
    /// The name that a writer is about.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The row that a writer writes or deletes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub row: String,
    /// What a look found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<bool>,
    /// A write without a look.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub blind: bool,
    /// `commit` and `rollback`: rows that the transaction wrote and deleted.
    #[serde(skip_serializing_if = "is_zero")]
    pub count: u64,
    /// `start`: the lease in nanoseconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub lease: u64,
    /// `start`: whether the database has one writer at a time and no leases.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub locks: bool,
    /// `start`: whether an original and its derivatives are one unit of a batch, as in the model. Otherwise derivatives become candidates of their own, as in
    /// the engine.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub units: bool,
    /// `settled`: of some candidates another worker held the lease, and it is not known of which.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Event {
    /// The earliest moment at which it took effect.
    pub fn begin(&self) -> u64 {
        if self.t0 == 0 { self.t } else { self.t0.min(self.t) }
    }
}

/// Reads a trace. Empty lines are skipped.
///
/// # Errors
/// The first line that is no event.
pub fn parse(text: &str) -> Result<Vec<Event>, Refusal> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(at, line)| serde_json::from_str(line).map_err(|e| Refusal { line: at + 1, why: format!("no event: {e}") })).collect()
}
