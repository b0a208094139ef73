//! The checker: two passes. The first learns from all lines what was true when; the second replays Rowbound's lines through the guards.

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::{FxHashMap as Map, FxHashSet as Set};
use serde_json::Value;

use super::{
    event::Event,
    guard::{How, Stage, held, place},
    truth::Truth,
    turn::{LOOP_STEPS, Loop},
    writers,
};

/// A line that the model does not allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its number, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}", self.line, self.why)
    }
}

/// Replays a trace.
///
/// # Errors
/// The first line that the model does not allow.
pub fn check(events: &[Event]) -> Result<(), Refusal> {
    let truth = writers::learn(events)?;
    let back = events.iter().filter(|e| e.step == "settled").flat_map(|e| {
        let names = e.names.iter().filter(|(_, fact)| fact.get("back").is_some());
        names.map(move |(name, _)| ((e.who.clone(), e.batch, name.clone()), e.begin()))
    });
    let mut checker = Checker { truth, given_back: back.collect(), ..Checker::default() };
    let mut last = 0;
    for (at, e) in events.iter().enumerate() {
        let refuse = |why| Refusal { line: at + 1, why };
        if e.t < last {
            return Err(refuse("lines are not in order of time".to_owned()));
        }
        last = e.t;
        checker.step(at, e).map_err(refuse)?;
    }
    checker.finish().map_err(|why| Refusal { line: events.len(), why })
}

fn is_step(step: &str) -> bool {
    [crate::STEPS, crate::APPLICATION_STEPS, crate::TRACE_STEPS].iter().any(|list| list.contains(&step))
}

/// One name of a batch.
#[derive(Debug)]
struct Name {
    stage: Stage,
    ids: Vec<u64>,
    round: u64,
    rested: u64,
    /// Places that this batch made, by file.
    moved: BTreeMap<String, String>,
    /// Places that it brought back.
    back: BTreeSet<String>,
}

/// One batch of a worker.
#[derive(Debug, Default)]
struct Batch {
    names: BTreeMap<String, Name>,
    /// Derivative -> original.
    derivatives: Map<String, String>,
}

/// Who holds a candidate.
#[derive(Debug)]
struct Lease {
    who: String,
    batch: u64,
    until: u64,
    /// Its first claim, when the first barrier was noted.
    noted: u64,
    /// When its second barrier was noted, if it went back to the queue with that.
    rested: Option<u64>,
    /// Its process was killed, and may have settled it, or put it back, without a line.
    doubt: bool,
    state: Candidate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Candidate {
    Claimed,
    Waits,
    Settled,
    /// Settled, or another's: its batch had lost some leases.
    Unknown,
}

/// A place in the trash.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// Its mover has said so. A successor may find a place before its paused mover can report it.
    made: bool,
    /// When, at the earliest.
    pub(super) since: u64,
    entered: bool,
    /// Another candidate's batch has found it, and has entered that.
    found: bool,
    pub(super) left: bool,
    pub(super) left_at: u64,
    /// A loop has erased it, and some loop has entered that.
    pub(super) erased: bool,
    pub(super) purged: bool,
}

/// What the second pass knows.
#[derive(Debug, Default)]
pub(super) struct Checker {
    pub(super) truth: Truth,
    pub(super) how: How,
    lease: u64,
    started: bool,
    ended: Set<String>,
    seen: Set<String>,
    batches: BTreeMap<(String, u64), Batch>,
    candidates: Map<u64, Lease>,
    /// When a batch put a name back into the queue, at the earliest.
    given_back: Map<(String, u64, String), u64>,
    /// Derivative -> original, of all batches.
    pub(super) derivatives: Map<String, String>,
    pub(super) places: Map<String, Place>,
    pub(super) loops: Map<String, (Loop, u64)>,
    /// Places that a loop has noted, with the loop: one that is killed or paused leaves them to the next.
    pub(super) notes: Map<String, String>,
    /// Places that each loop has entered as purged.
    pub(super) purges: Set<(String, String)>,
    reported: Set<String>,
    /// When the barrier of the erasure under way was noted.
    pub(super) clearing: u64,
    /// Whether a process was killed that may have moved or brought back something without a line about it.
    pub(super) unknown_places: bool,
}

impl Checker {
    fn step(&mut self, at: usize, e: &Event) -> Result<(), String> {
        if !self.started && e.step != "start" {
            return Err("a trace begins with `start`".to_owned());
        }
        if self.ended.contains(&e.who) {
            return Err(format!("{} has ended", e.who));
        }
        if e.step != "start" && e.step != "quiet" {
            self.seen.insert(e.who.clone());
        }
        match e.step.as_str() {
            "start" => self.start(e),
            "end" => self.end(e),
            "killed" => self.killed(e),
            "quiet" => self.quiet(e),
            "claimed" => self.claimed(e),
            "barrier-passed"
            | "looked"
            | "listed"
            | "checked"
            | "confirmed"
            | "removed"
            | "rested"
            | "second-barrier-passed"
            | "checked-again"
            | "returned"
            | "resumed" => self.batch(at, e),
            "renewed" => self.renewed(e),
            "erasure-barrier" => {
                self.clearing = e.begin();
                Ok(())
            }
            "settled" => self.settled(e),
            "look" => self.look(at, e),
            "restore" => self.restore(e),
            "reported" => {
                self.reported.extend(e.names.keys().cloned());
                Ok(())
            }
            step if LOOP_STEPS.contains(&step) => self.turn(at, e),
            step if is_step(step) => Ok(()),
            other => Err(format!("the model has no step `{other}`")),
        }
    }

    fn start(&mut self, e: &Event) -> Result<(), String> {
        if self.started {
            return Err("a trace begins once".to_owned());
        }
        (self.started, self.how, self.lease) = (true, How { locks: e.locks, units: e.units }, e.lease);
        Ok(())
    }

    fn end(&mut self, e: &Event) -> Result<(), String> {
        for ((_, number), batch) in self.batches.range((e.who.clone(), 0)..=(e.who.clone(), u64::MAX)) {
            if let Some((name, n)) = batch.names.iter().find(|(_, n)| n.stage != Stage::Done) {
                return Err(format!("{} ends, but {name} of batch {number} is at {:?}", e.who, n.stage));
            }
        }
        if let Some((turn, round)) = self.loops.get(&e.who) {
            if !matches!(turn, Loop::Idle) {
                return Err(format!("{} ends in the middle of {turn:?}", e.who));
            }
            if *round != e.round {
                return Err(format!("{} ends after re-check {}, but the last one was {round}", e.who, e.round));
            }
        }
        self.ended.insert(e.who.clone());
        Ok(())
    }

    fn killed(&mut self, e: &Event) -> Result<(), String> {
        let range = (e.who.clone(), 0)..=(e.who.clone(), u64::MAX);
        let open: Vec<_> = self.batches.range(range).map(|(key, _)| key.clone()).collect();
        for key in open {
            // What it settled last, it may not have said.
            let names = self.batches.remove(&key).map(|batch| batch.names).unwrap_or_default();
            let decided = names.values().any(|n| n.stage != Stage::Claimed) && !names.values().any(|n| n.stage.is_undecided());
            for id in names.values().filter(|n| n.stage.may_have_ended(decided, self.how.locks)).flat_map(|n| &n.ids) {
                if let Some(l) = self.candidates.get_mut(id)
                    && (&l.who, l.batch) == (&key.0, key.1)
                {
                    l.doubt = true;
                }
            }
        }
        self.unknown_places = true;
        self.loops.remove(&e.who);
        self.ended.insert(e.who.clone());
        Ok(())
    }

    fn claimed(&mut self, e: &Event) -> Result<(), String> {
        let batch = self.batches.entry((e.who.clone(), e.batch)).or_default();
        for (name, fact) in &e.names {
            let ids: Vec<u64> = fact.as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
            if ids.is_empty() {
                return Err(format!("{name} is claimed without a candidate"));
            }
            if batch.names.contains_key(name) {
                return Err(format!("{name} is in this batch already"));
            }
            // It may have been put back at the same moment, in a line that stands after this one.
            let given_back = |l: &Lease| {
                let key = (l.who.clone(), l.batch, name.clone());
                self.given_back.get(&key).is_some_and(|began| *began <= e.t)
            };
            for id in &ids {
                let noted = match self.candidates.get(id) {
                    None => e.begin(),
                    // SQLite gives a number anew.
                    Some(l) if l.state == Candidate::Settled && self.how.locks => e.begin(),
                    Some(l) if l.state == Candidate::Settled => return Err(format!("candidate {id} was settled")),
                    Some(l) if l.state == Candidate::Claimed && !self.how.locks && e.t < l.until && !l.doubt && !given_back(l) => {
                        return Err(format!("candidate {id} is under the lease of {}", l.who));
                    }
                    Some(l) => l.noted,
                };
                let until = e.begin() + self.lease;
                let rested = self.candidates.get(id).and_then(|l| l.rested);
                let lease = Lease { who: e.who.clone(), batch: e.batch, until, noted, rested, doubt: false, state: Candidate::Claimed };
                self.candidates.insert(*id, lease);
            }
            let new = Name { stage: Stage::Claimed, ids, round: 0, rested: 0, moved: BTreeMap::new(), back: BTreeSet::new() };
            batch.names.insert(name.clone(), new);
        }
        Ok(())
    }

    /// Whether a candidate is still the batch's.
    fn holds(&self, e: &Event, id: u64) -> bool {
        let lease = &self.candidates[&id];
        lease.state == Candidate::Claimed && lease.who == e.who && lease.batch == e.batch
    }

    /// A step of a batch: the truth of its facts, then the guard of each name that it is about.
    fn batch(&mut self, at: usize, e: &Event) -> Result<(), String> {
        let key = (e.who.clone(), e.batch);
        let mut batch = self.batches.remove(&key).ok_or_else(|| format!("{} has no batch {}", e.who, e.batch))?;
        let done = self.facts(at, e, &mut batch);
        self.batches.insert(key, batch);
        done
    }

    fn facts(&mut self, at: usize, e: &Event, batch: &mut Batch) -> Result<(), String> {
        let mut about: BTreeMap<String, Value> = BTreeMap::new();
        for (file, fact) in &e.names {
            // A derivative that lies in the trash was listed by an earlier batch.
            if !batch.names.contains_key(file)
                && !batch.derivatives.contains_key(file)
                && let Some(original) = self.derivatives.get(file)
            {
                batch.derivatives.insert(file.clone(), original.clone());
            }
            match batch.derivatives.get(file) {
                Some(original) if !batch.names.contains_key(file) => drop(about.entry(original.clone()).or_insert(Value::Null)),
                _ => drop(about.insert(file.clone(), fact.clone())),
            }
        }
        for (file, fact) in &e.names {
            self.fact(at, e, batch, file, fact)?;
        }
        for (name, fact) in about {
            let n = batch.names.get_mut(&name).ok_or_else(|| format!("{name} is not in this batch"))?;
            let step = if e.interim { "interim-check" } else { e.step.as_str() };
            let next = n.stage.next(step, &fact, self.how).map_err(|why| format!("{name}: {why}"))?;
            match e.step.as_str() {
                "checked-again" if e.round != n.round + 1 => return Err(format!("{name}: check {} follows check {}", e.round, n.round)),
                "checked-again" => n.round = e.round,
                "rested" => n.rested = e.begin(),
                "resumed" => {
                    let noted = n.ids.iter().filter_map(|id| self.candidates[id].rested).max();
                    n.rested = noted.ok_or_else(|| format!("{name}: no earlier worker noted a second barrier"))?;
                }
                "second-barrier-passed" => self.passed(n.rested, e.t)?,
                "barrier-passed" => {
                    for id in &n.ids {
                        self.passed(self.candidates[id].noted, e.t)?;
                    }
                }
                "confirmed" if !self.how.locks => {
                    let ids = n.ids.clone();
                    if let Some(id) = ids.iter().find(|id| !self.holds(e, **id)) {
                        return Err(format!("{name}: the lease of candidate {id} was lost"));
                    }
                }
                _ => {}
            }
            if e.step == "confirmed" || e.step == "rested" && self.how.units {
                self.renew(e, &n.ids);
            }
            n.stage = next;
        }
        Ok(())
    }

    pub(super) fn passed(&self, noted: u64, passed: u64) -> Result<(), String> {
        match self.truth.missed(noted, passed) {
            Some(v) if !self.how.locks => Err(format!(
                "a transaction that was visible at {} and open at {} did not end before the barrier passed",
                v.from, v.open_until
            )),
            _ => Ok(()),
        }
    }

    /// The truth of one fact, and what it changes.
    fn fact(&mut self, at: usize, e: &Event, batch: &mut Batch, file: &str, fact: &Value) -> Result<(), String> {
        let (there, missing) = self.truth.may_be(file, e.begin(), e.t, at);
        let wrong = |what: &str| Err(format!("{file}: {what}"));
        match e.step.as_str() {
            "looked" => match fact {
                Value::String(_) if !there => return wrong("seen, but it was not there"),
                Value::Null | Value::Object(_) if !missing => return wrong("missing, but it was there"),
                Value::Object(_) => self.find(place(fact, "trash").unwrap_or_default()),
                _ => {}
            },
            "listed" => {
                for derivative in fact.as_array().into_iter().flatten().filter_map(Value::as_str) {
                    if !self.truth.may_be(derivative, e.begin(), e.t, at).0 {
                        return Err(format!("{derivative}: listed, but it was not there"));
                    }
                    batch.derivatives.insert(derivative.to_owned(), file.to_owned());
                    self.derivatives.insert(derivative.to_owned(), file.to_owned());
                }
            }
            "checked" | "checked-again" => self.referenced(e, file, fact)?,
            "removed" => {
                if let Some(place) = place(fact, "moved") {
                    if !there {
                        return wrong("moved, but it was not there");
                    }
                    self.make(e, file, place)?;
                    let original = batch.derivatives.get(file).map_or(file, String::as_str).to_owned();
                    if let Some(n) = batch.names.get_mut(&original) {
                        n.moved.insert(file.to_owned(), place.to_owned());
                    }
                } else if fact == "erased" && !there {
                    return wrong("erased, but it was not there");
                } else if fact == "missing" && !missing {
                    return wrong("missing at its removal, but it was there");
                }
            }
            "returned" => {
                if let Some(place) = place(fact, "back") {
                    if !missing {
                        return wrong("it came back over another file");
                    }
                    self.leave(e, file, place)?;
                    let original = batch.derivatives.get(file).map_or(file, String::as_str).to_owned();
                    if let Some(n) = batch.names.get_mut(&original) {
                        n.back.insert(place.to_owned());
                    }
                } else if fact == "occupied" && !there {
                    return wrong("occupied, but nothing was there");
                }
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn referenced(&self, e: &Event, name: &str, fact: &Value) -> Result<(), String> {
        // What references an original holds its derivatives.
        let mut names = vec![name];
        names.extend(self.derivatives.get(name).map(String::as_str));
        let right = if held(fact)? {
            names.iter().any(|n| self.truth.may_be_held(n, e.begin(), e.t))
        } else {
            names.iter().all(|n| self.truth.may_be_free(n, e.begin(), e.t))
        };
        if right { Ok(()) } else { Err(format!("{name}: a check cannot have said {fact} then")) }
    }

    /// A file comes to a place in the trash. One that was left may be taken again.
    fn make(&mut self, e: &Event, file: &str, place: &str) -> Result<(), String> {
        let unknown = self.unknown_places;
        match self.places.get(place) {
            Some(p) if p.made && !p.left && !unknown => return Err(format!("{file}: moved to a place that is taken")),
            Some(p) if p.made || p.left && p.left_at < e.begin() => self.forget(place),
            // Whoever found it has taken it away before its paused mover could report it.
            _ => {}
        }
        let known = self.places.entry(place.to_owned()).or_default();
        (known.made, known.since) = (true, e.begin());
        Ok(())
    }

    /// A file lies at a place that was left: a process that was killed has moved another one there.
    fn find(&mut self, place: &str) {
        if self.unknown_places && self.places.get(place).is_some_and(|p| p.left) {
            self.forget(place);
        }
    }

    fn forget(&mut self, place: &str) {
        self.places.remove(place);
        self.purges.retain(|(_, purged)| purged != place);
        self.notes.remove(place);
    }

    /// The leases hold still: all that its batch has of these.
    fn renewed(&mut self, e: &Event) -> Result<(), String> {
        let batch = self.batches.get(&(e.who.clone(), e.batch)).ok_or_else(|| format!("{} has no batch {}", e.who, e.batch))?;
        let ids: Vec<u64> = e.names.keys().filter_map(|name| batch.names.get(name)).flat_map(|n| n.ids.iter().copied()).collect();
        self.renew(e, &ids);
        Ok(())
    }

    fn renew(&mut self, e: &Event, ids: &[u64]) {
        // The engine lets a lease begin anew only when less than half of it is left.
        let least = e.begin() + if self.how.units { self.lease } else { self.lease / 2 };
        for id in ids {
            if let Some(l) = self.candidates.get_mut(id)
                && l.who == e.who
                && l.batch == e.batch
                && e.begin() < l.until
            {
                l.until = l.until.max(least);
            }
        }
    }

    /// A file leaves its place in the trash.
    pub(super) fn leave(&mut self, e: &Event, file: &str, place: &str) -> Result<(), String> {
        match self.places.get_mut(place) {
            Some(p) if p.left => return Err(format!("{file}: {place} was left before")),
            Some(p) => (p.left, p.left_at) = (true, e.t),
            // A killed process may have moved it.
            None if self.unknown_places => {
                self.places.insert(place.to_owned(), Place { left: true, left_at: e.t, ..Place::default() });
            }
            None => return Err(format!("{file}: nothing was moved to {place}")),
        }
        Ok(())
    }

    fn settled(&mut self, e: &Event) -> Result<(), String> {
        let key = (e.who.clone(), e.batch);
        let mut batch = self.batches.remove(&key).ok_or_else(|| format!("{} has no batch {}", e.who, e.batch))?;
        for (name, fact) in &e.names {
            let n = batch.names.get_mut(name).ok_or_else(|| format!("{name} is not in this batch"))?;
            let next = n.stage.next("settled", fact, self.how).map_err(|why| format!("{name}: {why}"))?;
            let ids = n.ids.clone();
            let held: Vec<u64> = ids.iter().copied().filter(|id| self.holds(e, *id)).collect();
            let back = fact.get("back").is_some();
            let parked = fact.get("back").is_some_and(|why| why == "stopped").then_some(n.rested);
            let expired = |id: &u64| self.candidates[id].until <= e.t;
            if fact == "lost" && held.iter().any(|id| !expired(id)) {
                return Err(format!("{name}: candidate {} was not lost", held[0]));
            }
            // Of these the database does not say whether they were still its own.
            let unsure = e.partial && !back && (held.len() < ids.len() || held.iter().any(expired));
            if fact != "lost" && !back && !unsure && held.is_empty() && !self.how.locks {
                return Err(format!("{name}: settled without a lease"));
            }
            for id in held {
                if let Some(l) = self.candidates.get_mut(&id) {
                    l.rested = parked.or(l.rested);
                    l.state = match back || fact == "lost" {
                        true => Candidate::Waits,
                        false if unsure => Candidate::Unknown,
                        false => Candidate::Settled,
                    };
                }
            }
            let of_unit =
                |file: &String| file == name || [&batch.derivatives, &self.derivatives].iter().any(|known| known.get(file) == Some(name));
            let entered: Vec<_> = e.entered.iter().filter(|(file, _)| of_unit(file)).collect();
            for (file, fact) in entered {
                if unsure {
                    continue;
                }
                if let Some(place) = place(fact, "trashed") {
                    self.enter(file, place)?;
                } else if let Some(place) = place(fact, "found") {
                    // It may have been entered long ago, or its mover may do so yet.
                    self.places.entry(place.to_owned()).or_default().found = true;
                } else if let Some(place) = place(fact, "restored")
                    && !n.back.contains(place)
                    && !self.unknown_places
                    && self.places.get(place).is_some_and(|p| !p.left)
                {
                    return Err(format!("{file}: entered as restored, but {place} was not left"));
                }
            }
            n.stage = next;
        }
        self.batches.insert(key, batch);
        Ok(())
    }

    fn enter(&mut self, file: &str, place: &str) -> Result<(), String> {
        match self.places.get_mut(place) {
            Some(p) if p.entered => return Err(format!("{file}: {place} was entered before")),
            Some(p) => p.entered = true,
            None if self.unknown_places => {
                self.places.insert(place.to_owned(), Place { entered: true, ..Place::default() });
            }
            None => return Err(format!("{file}: entered as moved to {place}, which nobody did")),
        }
        Ok(())
    }

    fn look(&self, at: usize, e: &Event) -> Result<(), String> {
        let (there, missing) = self.truth.may_be(&e.name, e.begin(), e.t, at);
        match e.found {
            Some(true) if !there => Err(format!("{}: found, but it was not there", e.name)),
            Some(false) if !missing => Err(format!("{}: not found, but it was there", e.name)),
            Some(_) => Ok(()),
            None => Err("a look says what it found".to_owned()),
        }
    }

    fn restore(&mut self, e: &Event) -> Result<(), String> {
        for (file, fact) in &e.names {
            self.leave(e, file, fact.as_str().unwrap_or_default())?;
        }
        Ok(())
    }

    /// Everything was done: rows and files agree.
    fn quiet(&mut self, e: &Event) -> Result<(), String> {
        if let Some((id, l)) = self.candidates.iter().find(|(_, l)| !l.doubt && !matches!(l.state, Candidate::Settled | Candidate::Unknown))
        {
            return Err(format!("candidate {id} of {} waits still", l.who));
        }
        if let Some((place, _)) = self.places.iter().find(|(_, p)| p.made && !p.entered && !p.found && !p.left && !self.unknown_places) {
            return Err(format!("a file lies at {place}, and the ledger does not know it"));
        }
        if let Some((place, _)) = self.places.iter().find(|(_, p)| p.erased && !p.purged) {
            return Err(format!("{place} was erased, and the ledger does not say so"));
        }
        for name in self.truth.references.keys() {
            let (there, missing) = self.truth.may_be(name, e.t, e.t, usize::MAX);
            if !self.truth.may_be_free(name, e.t, e.t) && !there && !self.reported.contains(name) {
                return Err(format!("{name}: referenced, and its file is away"));
            }
            if !self.truth.may_be_held(name, e.t, e.t) && !missing {
                return Err(format!("{name}: not referenced, and its file is there"));
            }
        }
        Ok(())
    }

    fn finish(&self) -> Result<(), String> {
        match self.seen.iter().find(|who| !self.ended.contains(*who)) {
            Some(who) => Err(format!("{who} neither ended nor was killed")),
            None => Ok(()),
        }
    }
}
