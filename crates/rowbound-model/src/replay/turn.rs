//! The guards of a loop that checks again and erases.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

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

/// Places with the files that lie there.
type Places = BTreeMap<String, String>;

/// Where a loop stands that checks again and erases.
#[derive(Debug, Default)]
pub(super) enum Loop {
    #[default]
    Idle,
    Checked(BTreeSet<String>),
    Returned(Places),
    Barrier(Places),
    Free(Places),
    Noted(Places),
    Purging(Places),
}

/// The places of an event, each a text, or several of one file in an array.
fn places(e: &Event) -> Places {
    let each = |(file, fact): (&String, &Value)| -> Vec<(String, String)> {
        let all: Vec<&Value> = fact.as_array().map_or_else(|| vec![fact], |all| all.iter().collect());
        all.into_iter().map(|place| (place.as_str().unwrap_or_default().to_owned(), file.clone())).collect()
    };
    e.names.iter().flat_map(each).collect()
}

impl Checker {
    /// A step of a loop that checks again and erases.
    pub(super) fn turn(&mut self, at: usize, e: &Event) -> Result<(), String> {
        let (turn, round) = self.loops.remove(&e.who).unwrap_or_default();
        let mut next_round = round;
        let next = match (turn, e.step.as_str()) {
            (_, "adopted") => Loop::Idle,
            (Loop::Idle, "gone") => {
                for (place, file) in places(e) {
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
                let mut back = Places::new();
                for (file, fact) in &e.names {
                    if !due.contains(file) && !self.derivatives.get(file).is_some_and(|original| due.contains(original)) {
                        return Err(format!("{file}: it came back, but nothing references it"));
                    }
                    let Some(place) = place(fact, "back") else { continue };
                    if !self.truth.may_be(file, e.begin(), e.t, at).1 {
                        return Err(format!("{file}: it came back over another file"));
                    }
                    self.leave(e, file, place)?;
                    back.insert(place.to_owned(), file.clone());
                }
                Loop::Returned(back)
            }
            (Loop::Returned(back), "recheck-entered") => {
                if places(e) != back {
                    return Err(format!("what came back is {back:?}, not what was entered"));
                }
                Loop::Idle
            }
            (Loop::Idle, "erasure-barrier-passed") => {
                let noted = if e.noted > 0 { e.noted } else { self.clearing };
                if noted == 0 {
                    return Err("no barrier was noted".to_owned());
                }
                self.passed(noted, e.t)?;
                let all = places(e);
                // What came to the trash after the barrier was noted has transactions of its own to wait for.
                let later = all.iter().find(|(place, _)| self.places.get(*place).is_some_and(|p| p.since > noted));
                if let Some((place, file)) = later.filter(|_| !self.how.units) {
                    return Err(format!("{file}: it came to {place} after the barrier was noted"));
                }
                Loop::Barrier(all)
            }
            (Loop::Barrier(at_barrier), "erasure-checked") => {
                let mut free = Places::new();
                // What has a candidate in the queue is its worker's.
                for (name, fact) in e.names.iter().filter(|(_, fact)| *fact != "queued") {
                    let of_name = |file: &String| self.how.units || file == name;
                    if fact == "taken" {
                        // Referenced, but the rows mean another file, which has the name by now.
                        if !self.truth.may_be(name, e.begin(), e.t, at).0 {
                            return Err(format!("{name}: no other file has its name"));
                        }
                    } else {
                        self.referenced(e, name, fact)?;
                        if held(fact)? {
                            continue;
                        }
                    }
                    free.extend(at_barrier.iter().filter(|(_, file)| of_name(file)).map(|(place, file)| (place.clone(), file.clone())));
                }
                if free.is_empty() { Loop::Idle } else { Loop::Free(free) }
            }
            (Loop::Free(free), "erasure-noted") => {
                let noted = places(e);
                if noted.iter().any(|(place, file)| free.get(place) != Some(file)) {
                    return Err("what was noted is not what was checked".to_owned());
                }
                self.notes.extend(noted.keys().map(|place| (place.clone(), e.who.clone())));
                Loop::Noted(noted)
            }
            (Loop::Noted(noted), "purging") => {
                let mut erased = Places::new();
                for (file, fact) in &e.names {
                    // Of one name several files may go.
                    let each: Vec<(&String, &Value)> = match fact.as_object() {
                        Some(each) => each.iter().collect(),
                        None => noted.iter().filter(|(_, noted)| *noted == file).map(|(place, _)| (place, fact)).collect(),
                    };
                    if each.is_empty() || each.iter().any(|(place, _)| noted.get(*place) != Some(file)) {
                        return Err(format!("{file}: erased, but not noted"));
                    }
                    for (place, _) in each.iter().filter(|(_, fact)| *fact == "erased") {
                        self.leave(e, file, place)?;
                        self.places.entry((*place).clone()).or_default().erased = true;
                        erased.insert((*place).clone(), file.clone());
                    }
                }
                Loop::Purging(erased)
            }
            (Loop::Purging(erased), "purged") => {
                if places(e) != erased {
                    return Err(format!("what was erased is {erased:?}, not what was entered"));
                }
                for place in erased.keys() {
                    self.purged(e, place)?;
                }
                Loop::Idle
            }
            (Loop::Idle, "purged") => {
                // What a dead process had noted.
                if e.names.is_empty() {
                    return Err("nothing was erased".to_owned());
                }
                for (place, file) in places(e) {
                    if self.notes.get(&place).is_none_or(|noter| *noter == e.who && self.how.units) {
                        return Err(format!("{file}: nobody else noted {place}"));
                    }
                    self.purged(e, &place)?;
                }
                Loop::Idle
            }
            (Loop::Free(_) | Loop::Checked(_), "stopped") => Loop::Idle,
            // An error has ended the turn, or another process keeps this trash.
            (_, "stopped") if !self.how.units => Loop::Idle,
            (turn, step) => return Err(format!("`{step}` does not follow {turn:?}")),
        };
        self.loops.insert(e.who.clone(), (next, next_round));
        Ok(())
    }

    /// A loop enters a place as purged: once, though another loop may have done so for it.
    fn purged(&mut self, e: &Event, place: &str) -> Result<(), String> {
        if !self.purges.insert((e.who.clone(), place.to_owned())) {
            return Err(format!("{place} was entered as purged before"));
        }
        let known = self.places.entry(place.to_owned()).or_default();
        known.purged = true;
        if !self.how.units && !known.left {
            (known.left, known.left_at) = (true, e.t);
        }
        Ok(())
    }
}
