//! What becomes of a candidate, and how it gets into the settlement.

use std::{collections::HashMap, time::Duration};

use super::{Summary, derived::Found};
use crate::{
    error::Error,
    name::FileName,
    queue::{Candidate, Derived, Outcome, PutBack, Settled, Settlement, Waits, backoff, shortened},
};

/// The longest value that enters the ledger as it is, in bytes: the longest name that any storage takes is shorter.
const LEDGER: usize = 4_096;

/// What becomes of a candidate.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It is decided: outcome, size, place in the trash, note.
    Settle(Outcome, Option<u64>, Option<String>, Option<String>),
    /// It is due again after a while; whether that is a failed try; why; which transactions it waits for.
    Back(Duration, bool, String, Option<Waits>),
}

impl Verdict {
    pub(super) fn plain(outcome: Outcome) -> Self {
        Verdict::Settle(outcome, None, None, None)
    }

    pub(super) fn noted(outcome: Outcome, note: impl Into<String>) -> Self {
        Verdict::Settle(outcome, None, None, Some(note.into()))
    }

    /// It is too early.
    pub(super) fn wait(time: Duration, note: impl Into<String>) -> Self {
        Verdict::Back(time, false, note.into(), None)
    }

    /// Something failed that may succeed later.
    pub(super) fn failure(c: &Candidate, e: &Error) -> Self {
        let note = match e.hint_text() {
            Some(hint) => format!("{}; {hint}", e.full()),
            None => e.full(),
        };
        Verdict::Back(backoff(c.attempts), true, note, None)
    }
}

/// Verdicts, as they are written down together.
#[derive(Debug, Default)]
pub(super) struct Decided {
    pub(super) settlement: Settlement,
    pub(super) summary: Summary,
    /// What goes with an original if that goes.
    pub(super) derived: HashMap<FileName, Found>,
}

impl Decided {
    /// Of a claimant on a storage.
    pub(super) fn new(owner: &str, storage: &str) -> Self {
        let settlement = Settlement { owner: owner.to_owned(), storage: storage.to_owned(), ..Settlement::default() };
        Decided { settlement, ..Decided::default() }
    }

    /// The same, with another's verdicts behind these.
    pub(super) fn and(mut self, other: Decided) -> Self {
        let Settlement { settled, back, derived, opened, .. } = other.settlement;
        self.settlement.settled.extend(settled);
        self.settlement.back.extend(back);
        self.settlement.derived.extend(derived);
        self.settlement.opened.extend(opened);
        self.summary.add(&other.summary);
        self
    }

    /// The verdict for a name: one of its candidates has it, the others are duplicates; all go back together. Where the file is gone,
    /// its derivatives become candidates.
    ///
    /// The one is the latest that a row released, so that the ledger, and who follows it, knows which: an upload whose row was deleted within its
    /// `stage_ttl` may come due together with it.
    pub(super) fn all(&mut self, group: &[Candidate], name: &FileName, mut verdict: Verdict) {
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
                Verdict::Back(wait, failed, note, waits) => Verdict::Back(*wait, *failed, note.clone(), waits.clone()),
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
            Verdict::Back(wait, failed, note, waits) => {
                if failed {
                    self.summary.failed += 1;
                } else {
                    self.summary.waiting += 1;
                }
                if self.summary.notes.len() < 20 {
                    self.summary.notes.entry(note.clone()).or_insert_with(shown);
                }
                self.settlement.back.push(PutBack { id: c.id, wait, failed, note, waits });
            }
        }
    }
}
