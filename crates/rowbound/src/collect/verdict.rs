//! What becomes of a candidate, and how it gets into the settlement.

use std::{collections::HashMap, time::Duration};

use serde_json::{Value, json};

use super::{Claimant, Summary, derived::FoundDerivatives, moved_twice::Mover};
use crate::{
    error::Error,
    ledger::{LONGEST_NAME, LONGEST_VALUE, cut},
    name::FileName,
    queue::{Candidate, Decision, Derived, Outcome, PutBack, Settlement, Waits, backoff, shortened},
    trace,
};

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

    /// The next batch is to take it at once: what it needs has changed meanwhile.
    pub(super) fn again(note: impl Into<String>) -> Self {
        Verdict::wait(Duration::ZERO, note)
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

    /// As a trace says it, with what the ledger is told of a file that lies in the trash.
    fn trace_fact(&self) -> (Value, Option<Value>) {
        match self {
            Verdict::Settle(Outcome::Trashed, _, Some(place), note) => {
                let key = if note.is_some() { "found" } else { "trashed" };
                ("trashed".into(), Some(json!({ key: place })))
            }
            // Its mover enters it: for the protocol the file is settled as lying there.
            Verdict::Settle(Outcome::Duplicate, _, Some(place), _) => ("trashed".into(), Some(json!({ "found": place }))),
            Verdict::Settle(outcome, _, place, _) => (outcome.word().into(), place.as_ref().map(|place| json!({ "found": place }))),
            Verdict::Back(_, false, _, Some(waits)) if !waits.young => {
                (json!({ "back": if waits.moved { "stopped" } else { "barrier" } }), None)
            }
            Verdict::Back(_, failed, ..) => (json!({ "back": if *failed { "failed" } else { "later" } }), None),
        }
    }
}

/// Verdicts, as they are written down together.
#[derive(Debug, Default)]
pub(super) struct Decided {
    pub(super) settlement: Settlement,
    pub(super) summary: Summary,
    /// What goes with an original if that goes.
    pub(super) derived: HashMap<FileName, FoundDerivatives>,
    /// Files that are settled as moved, with their places in the trash.
    pub(super) moved: Vec<(FileName, String)>,
    /// How often candidates that are settled were tried before, as far as they were.
    pub(super) attempts: HashMap<i64, u32>,
    /// Candidates that the next batch is to take at once.
    pub(super) again: u64,
    /// For the files that this batch has moved, and that others find in the trash meanwhile.
    pub(super) movers: Vec<Mover>,
    /// What a trace says of it.
    pub(super) traced: trace::BatchTrace,
    pub(super) facts: trace::SettledFacts,
}

impl Decided {
    /// Of a claimant on a storage.
    pub(super) fn new(claimant: &Claimant, storage: &str) -> Self {
        let settlement = Settlement { owner: claimant.owner.clone(), storage: storage.to_owned(), ..Settlement::default() };
        Decided { settlement, traced: claimant.traced.clone(), ..Decided::default() }
    }

    /// Another part of the same batch.
    pub(super) fn part(&self) -> Self {
        let (owner, storage) = (self.settlement.owner.clone(), self.settlement.storage.clone());
        Decided { settlement: Settlement { owner, storage, ..Settlement::default() }, traced: self.traced.clone(), ..Decided::default() }
    }

    /// Who holds the candidates.
    pub(super) fn owner(&self) -> &str {
        &self.settlement.owner
    }

    /// The same, with another's verdicts behind these.
    pub(super) fn and(mut self, other: Decided) -> Self {
        let Settlement { settled, empty, back, derived, opened, .. } = other.settlement;
        self.settlement.settled.extend(settled);
        self.settlement.empty.extend(empty);
        self.settlement.back.extend(back);
        self.settlement.derived.extend(derived);
        self.settlement.opened.extend(opened);
        self.summary.add(&other.summary);
        self.moved.extend(other.moved);
        self.attempts.extend(other.attempts);
        self.again += other.again;
        self.movers.extend(other.movers);
        self.facts.extend(other.facts);
        self
    }

    /// The verdict for a name: one of its candidates has it, the others are duplicates; all go back together. Where the file is gone,
    /// its derivatives become candidates.
    ///
    /// The one is the latest that a row released, so that the ledger, and who follows it, knows which: an upload whose row was deleted within its
    /// `stage_ttl` may come due together with it.
    pub(super) fn all(&mut self, group: &[Candidate], name: &FileName, mut verdict: Verdict) {
        if let Verdict::Settle(Outcome::Trashed, _, Some(place), _) = &verdict {
            self.moved.push((name.clone(), place.clone()));
        }
        match &mut verdict {
            Verdict::Settle(Outcome::Trashed | Outcome::Erased | Outcome::Missing | Outcome::Duplicate, ..) => {
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
        if self.traced.listens() {
            let (fact, entered) = verdict.trace_fact();
            self.facts.add(name.as_str(), fact, entered);
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

    /// A value with many names that held none: nothing is recorded.
    pub(super) fn empty(&mut self, c: &Candidate) {
        self.summary.empty += 1;
        self.settlement.empty.push(c.id);
    }

    pub(super) fn one(&mut self, c: &Candidate, name: Option<&FileName>, verdict: Verdict) {
        let shown = || name.map_or_else(|| shortened(&c.value), ToString::to_string);
        match verdict {
            Verdict::Settle(outcome, size, place, note) => {
                *self.summary.outcomes.entry(outcome).or_default() += 1;
                if matches!(outcome, Outcome::Erased | Outcome::Trashed) {
                    self.summary.bytes += size.unwrap_or(0);
                }
                // Its mover's entry has the place, by which a move is known to be told.
                let place = place.filter(|_| outcome != Outcome::Duplicate);
                if outcome == Outcome::Refused && self.summary.notes.len() < 20 {
                    self.summary.notes.entry(note.clone().unwrap_or_default()).or_insert_with(shown);
                }
                let name = entered(outcome, name, &c.value);
                if c.attempts > 0 {
                    self.attempts.insert(c.id, c.attempts);
                }
                self.settlement.settled.push(Decision { id: c.id, outcome, name, size, place, note });
            }
            Verdict::Back(wait, failed, note, waits) => {
                let again = wait.is_zero() && !failed && waits.is_none();
                match (again, failed) {
                    (true, _) => self.again += 1,
                    (_, true) => self.summary.failed += 1,
                    (_, false) => self.summary.waiting += 1,
                }
                if !again && self.summary.notes.len() < 20 {
                    self.summary.notes.entry(note.clone()).or_insert_with(shown);
                }
                // How its file looked is remembered whatever comes between, or `min_age` would begin anew each time.
                let sight = || c.waits.as_ref().filter(|w| !w.moved).and_then(|w| w.sight.clone());
                let waits = waits.or_else(|| sight().map(|sight| Waits { young: true, sight: Some(sight), ..Waits::default() }));
                let attempts = c.attempts + u32::from(failed);
                // So are the tries of which the end was seen.
                let (ended, apart) = c.waits.as_ref().map_or((0, 0), |w| (w.ended, w.apart));
                let ended = if failed { attempts } else { ended };
                let waits = match (ended, apart) {
                    (0, 0) => waits,
                    _ => Some(Waits { ended, apart, ..waits.unwrap_or_else(|| Waits { young: true, ..Waits::default() }) }),
                };
                self.settlement.back.push(PutBack { id: c.id, wait, attempts, note, waits });
            }
        }
    }
}

/// What the ledger stores instead of the candidate's value; `None`: the value as it is. What is no name may be a text of megabytes, of which the beginning is
/// kept; the name of a file that was deleted, or could be, is kept whole.
fn entered(outcome: Outcome, name: Option<&FileName>, value: &[u8]) -> Option<String> {
    let shown = name.map_or(value, |name| name.as_str().as_bytes());
    let longest = match (outcome, name) {
        (Outcome::Foreign | Outcome::Opened, _) | (Outcome::Refused, None) => LONGEST_VALUE,
        // Something may lie under such a name, or its binding may come back.
        (Outcome::Refused, Some(_)) | (_, None) => LONGEST_NAME,
        (_, Some(_)) => usize::MAX,
    };
    cut(shown, longest).or_else(|| name.filter(|_| shown != value).map(ToString::to_string))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::queue::Observation;

    #[test]
    fn what_was_moved_is_known_by_its_name_whatever_the_settlement_stores() {
        let name = FileName::parse("a.jpg").unwrap();
        let candidate = |value: &str| Candidate { binding: Some(1), value: value.into(), ..Candidate::sample(1) };
        // A value that is the name itself is not stored a second time.
        for value in ["a.jpg", "/media/a.jpg"] {
            let mut decided = Decided::default();
            decided.all(&[candidate(value)], &name, Verdict::Settle(Outcome::Trashed, Some(1), Some("1/a.jpg".into()), None));
            assert_eq!(decided.moved, [(name.clone(), "1/a.jpg".to_owned())], "{value}");
            assert_eq!(decided.settlement.settled[0].name.is_some(), value != "a.jpg");
        }
    }

    #[test]
    fn how_a_file_looked_is_remembered_whatever_comes_between() {
        let sight = Observation { at: Timestamp::UNIX_EPOCH, content: "1".to_owned() };
        let young = Waits { young: true, sight: Some(sight), ..Waits::default() };
        let moved = Waits { moved: true, ..young.clone() };
        let candidate =
            |waits: &Waits| Candidate { binding: Some(1), value: b"a.jpg".to_vec(), waits: Some(waits.clone()), ..Candidate::sample(1) };
        let failed = |c: &Candidate| Verdict::failure(c, &crate::error::Error::new(crate::error::Kind::Storage, "refused"));
        for (waits, kept) in [(&young, Some(&young)), (&moved, None)] {
            let c = candidate(waits);
            for verdict in [Verdict::again("at once"), Verdict::wait(Duration::from_secs(1), "too early")] {
                let mut decided = Decided::default();
                decided.one(&c, None, verdict);
                assert_eq!(decided.settlement.back[0].waits.as_ref(), kept);
            }
            let mut decided = Decided::default();
            decided.one(&c, None, failed(&c));
            let ended = Waits { young: true, ended: 1, ..kept.cloned().unwrap_or_default() };
            assert_eq!((decided.settlement.back[0].waits.as_ref(), decided.settlement.back[0].attempts), (Some(&ended), 1));
        }
        let mut decided = Decided::default();
        decided.one(&candidate(&young), None, Verdict::again("at once"));
        assert_eq!((decided.again, decided.summary.waiting), (1, 0));
    }

    #[test]
    fn only_what_is_no_name_is_cut() {
        let long = "a/".repeat(3_000) + "b";
        let name = FileName::parse(&long).unwrap();
        for (outcome, _) in Outcome::ALL {
            let is_cut = matches!(outcome, Outcome::Foreign | Outcome::Opened | Outcome::Refused);
            assert_eq!(entered(outcome, Some(&name), long.as_bytes()).is_some(), is_cut, "{outcome:?}");
            // 2,000 bytes could be the name of a file that is there after all.
            let may_be = matches!(outcome, Outcome::Foreign | Outcome::Opened);
            let name = FileName::parse(&long[..1_999]).unwrap();
            assert_eq!(entered(outcome, Some(&name), name.as_str().as_bytes()).is_some(), may_be, "{outcome:?}");
            assert_eq!(entered(outcome, None, &long.as_bytes()[..1_999]).is_some(), is_cut, "{outcome:?}");
        }
        assert_eq!(entered(Outcome::Trashed, Some(&name), b"/media/x").as_deref(), Some(&*long));
    }
}
