//! What becomes of a candidate, and how it gets into the settlement.

use std::{collections::HashMap, time::Duration};

use super::{Summary, derived::Found};
use crate::{
    name::FileName,
    queue::{Candidate, Derived, Outcome, PutBack, Settled, Settlement, shortened},
};

/// The longest value that enters the ledger as it is, in bytes: the longest name that any storage takes is shorter.
const LEDGER: usize = 4_096;

/// What becomes of a candidate.
pub(super) enum Verdict {
    Settle(Outcome, Option<u64>, Option<String>, Option<String>),
    Back(Duration, bool, String),
}

impl Verdict {
    pub(super) fn plain(outcome: Outcome) -> Self {
        Verdict::Settle(outcome, None, None, None)
    }

    pub(super) fn noted(outcome: Outcome, note: impl Into<String>) -> Self {
        Verdict::Settle(outcome, None, None, Some(note.into()))
    }
}

/// Where verdicts are written down.
pub(super) struct Settle<'a> {
    pub(super) settlement: &'a mut Settlement,
    pub(super) summary: &'a mut Summary,
    /// What goes with an original if that goes.
    pub(super) derived: HashMap<FileName, Found>,
}

impl Settle<'_> {
    /// The verdict for a name: one of its candidates has it, the others are duplicates; all go back together. Where the file is gone,
    /// its derivatives become candidates.
    ///
    /// The one is the latest that a row let go of, so that the ledger, and who follows it, knows which: an upload whose row was deleted within its
    /// `stage_ttl` may come due together with it.
    pub(super) fn all(&mut self, group: &[&Candidate], name: &FileName, mut verdict: Verdict) {
        match &mut verdict {
            Verdict::Settle(Outcome::Trashed | Outcome::Erased | Outcome::Missing, ..) => {
                let found = self.derived.remove(name).filter(|f| !f.shadow).unwrap_or_default();
                let derived = found.names.into_iter().map(|d| Derived { name: d, original: name.clone() });
                self.settlement.derived.extend(derived);
            }
            Verdict::Settle(Outcome::Shadow, _, _, note) => {
                let count = self.derived.remove(name).map_or(0, |f| f.names.len());
                if count > 0 {
                    *note = Some(format!("and {count} derivatives with it"));
                }
            }
            _ => {}
        }
        let told = group.iter().position(|c| c.binding.is_some()).unwrap_or(0);
        for (i, c) in group.iter().enumerate() {
            let same = match &verdict {
                Verdict::Settle(..) if i != told => Verdict::plain(Outcome::Duplicate),
                Verdict::Settle(o, size, place, note) => Verdict::Settle(*o, *size, place.clone(), note.clone()),
                Verdict::Back(wait, failed, note) => Verdict::Back(*wait, *failed, note.clone()),
            };
            self.one(c, Some(name), same);
        }
    }

    pub(super) fn one(&mut self, c: &Candidate, name: Option<&FileName>, verdict: Verdict) {
        let shown = || name.map_or_else(|| shortened(&c.value), ToString::to_string);
        match verdict {
            Verdict::Settle(outcome, size, place, note) => {
                *self.summary.outcomes.entry(outcome).or_default() += 1;
                if matches!(outcome, Outcome::Erased | Outcome::Trashed) {
                    self.summary.bytes += size.unwrap_or(0);
                }
                if outcome == Outcome::Refused && self.summary.notes.len() < 20 {
                    self.summary.notes.entry(note.clone().unwrap_or_default()).or_insert_with(shown);
                }
                // What is no name may be a text of megabytes, of which the ledger keeps the beginning.
                let name = match name {
                    None if c.value.len() > LEDGER || matches!(outcome, Outcome::Opened) => Some(shortened(&c.value)),
                    None => None,
                    Some(n) => (n.as_str().as_bytes() != c.value).then(|| n.to_string()),
                };
                self.settlement.settled.push(Settled { id: c.id, outcome, name, size, place, note });
            }
            Verdict::Back(wait, failed, note) => {
                if failed {
                    self.summary.failed += 1;
                } else {
                    self.summary.waiting += 1;
                }
                if self.summary.notes.len() < 20 {
                    self.summary.notes.entry(note.clone()).or_insert_with(shown);
                }
                self.settlement.back.push(PutBack { id: c.id, wait, failed, note, waits: None });
            }
        }
    }
}
