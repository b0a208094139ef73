//! The guards of a loop that checks again and erases.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    check::Checker,
    event::Event,
    guard::{held, place},
};

/// Steps of a loop that checks again and erases.
pub(super) const LOOP_STEPS: &[&str] = &[
    "recheck-checked",
    "recheck-returned",
    "recheck-entered",
    "erasure-barrier-passed",
    "erasure-checked",
    "erasure-noted",
    "purging",
    "purged",
    "gone",
    "adopted",
    "stopped",
];

/// Where a loop stands that checks again and erases.
#[derive(Debug, Default)]
pub(super) enum Loop {
    #[default]
    Idle,
    Checked(BTreeSet<String>),
    Returned(BTreeMap<String, String>),
    Barrier(BTreeMap<String, String>),
    Free(BTreeMap<String, String>),
    Noted(BTreeMap<String, String>),
    Purging(BTreeMap<String, String>),
}

impl Checker {
    /// A step of a loop that checks again and erases.
    pub(super) fn turn(&mut self, at: usize, e: &Event) -> Result<(), String> {
        let (turn, round) = self.loops.remove(&e.who).unwrap_or_default();
        let places = || -> BTreeMap<String, String> {
            e.names.iter().map(|(file, fact)| (file.clone(), fact.as_str().unwrap_or_default().to_owned())).collect()
        };
        let mut next_round = round;
        let next = match (turn, e.step.as_str()) {
            (_, "adopted") => Loop::Idle,
            (Loop::Idle, "gone") => {
                for (file, place) in places() {
                    if self.places.get(&place).is_some_and(|p| !p.left) && !self.unknown_places {
                        return Err(format!("{file}: entered as gone, but it is in {place}"));
                    }
                }
                Loop::Idle
            }
            (Loop::Idle, "recheck-checked") => {
                if e.round != round + 1 {
                    return Err(format!("re-check {} follows re-check {round}", e.round));
                }
                next_round = e.round;
                let mut due = BTreeSet::new();
                for (name, fact) in &e.names {
                    self.referenced(e, name, fact)?;
                    if held(fact)? {
                        due.insert(name.clone());
                    }
                }
                if due.is_empty() { Loop::Idle } else { Loop::Checked(due) }
            }
            (Loop::Checked(due), "recheck-returned") => {
                let mut back = BTreeMap::new();
                for (file, fact) in &e.names {
                    if !due.contains(file) && !self.derivatives.get(file).is_some_and(|original| due.contains(original)) {
                        return Err(format!("{file}: it came back, but nothing references it"));
                    }
                    let Some(place) = place(fact, "back") else { continue };
                    if !self.truth.may_be(file, e.begin(), e.t, at).1 {
                        return Err(format!("{file}: it came back over another file"));
                    }
                    self.leave(file, place)?;
                    back.insert(file.clone(), place.to_owned());
                }
                Loop::Returned(back)
            }
            (Loop::Returned(back), "recheck-entered") => {
                if places() != back {
                    return Err(format!("what came back is {back:?}, not what was entered"));
                }
                Loop::Idle
            }
            (Loop::Idle, "erasure-barrier-passed") => {
                self.passed(e.noted, e.t)?;
                Loop::Barrier(places())
            }
            (Loop::Barrier(at_barrier), "erasure-checked") => {
                let mut free = BTreeMap::new();
                // What has a candidate in the queue is its worker's.
                for (name, fact) in e.names.iter().filter(|(_, fact)| *fact != "queued") {
                    self.referenced(e, name, fact)?;
                    if !held(fact)? {
                        free.extend(at_barrier.iter().map(|(file, place)| (file.clone(), place.clone())));
                    }
                }
                if free.is_empty() { Loop::Idle } else { Loop::Free(free) }
            }
            (Loop::Free(free), "erasure-noted") => {
                let noted = places();
                if noted.iter().any(|(file, place)| free.get(file) != Some(place)) {
                    return Err("what was noted is not what was checked".to_owned());
                }
                self.notes.extend(noted.values().map(|place| (place.clone(), e.who.clone())));
                Loop::Noted(noted)
            }
            (Loop::Noted(noted), "purging") => {
                let mut erased = BTreeMap::new();
                for (file, fact) in &e.names {
                    let place = noted.get(file).ok_or_else(|| format!("{file}: erased, but not noted"))?;
                    if fact == "erased" {
                        self.leave(file, place)?;
                        self.places.entry(place.clone()).or_default().erased = true;
                        erased.insert(file.clone(), place.clone());
                    }
                }
                Loop::Purging(erased)
            }
            (Loop::Purging(erased), "purged") => {
                if places() != erased {
                    return Err(format!("what was erased is {erased:?}, not what was entered"));
                }
                for place in erased.values() {
                    self.purged(&e.who, place)?;
                }
                Loop::Idle
            }
            (Loop::Idle, "purged") => {
                // What a dead process had noted.
                if e.names.is_empty() {
                    return Err("nothing was erased".to_owned());
                }
                for (file, place) in places() {
                    if self.notes.get(&place).is_none_or(|noter| *noter == e.who) {
                        return Err(format!("{file}: nobody else noted {place}"));
                    }
                    self.purged(&e.who, &place)?;
                }
                Loop::Idle
            }
            (Loop::Free(_) | Loop::Checked(_), "stopped") => Loop::Idle,
            (turn, step) => return Err(format!("`{step}` does not follow {turn:?}")),
        };
        self.loops.insert(e.who.clone(), (next, next_round));
        Ok(())
    }

    /// A loop enters a place as purged: once, though another loop may have done so for it.
    fn purged(&mut self, who: &str, place: &str) -> Result<(), String> {
        if !self.purges.insert((who.to_owned(), place.to_owned())) {
            return Err(format!("{place} was entered as purged before"));
        }
        self.places.entry(place.to_owned()).or_default().purged = true;
        Ok(())
    }
}
