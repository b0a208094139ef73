//! One file, released by two columns: it is moved once, and told once.
//!
//! In: files that a batch found in the trash. Out: those that another candidate stands for, which has entered the move into the ledger or will. Promise: this
//! decides what is told, never what is checked, moved or brought back; and of every move some candidate enters the ledger. Where that is not certain, this one
//! does.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
};

use super::{Collector, StorageState};
use crate::{clock, error::Result, name::FileName, queue::Outcome, trash::WINDOW};

/// The note of a candidate whose file another one has moved.
pub(super) const MOVED_BY_ANOTHER: &str = "another candidate had the same file, and has moved it";

/// Places in the trash whose movers, batches of this process, have yet to settle them. A mover that goes back to the queue is none any more: the worker that claims its
/// candidate then enters the move.
#[derive(Debug, Clone, Default)]
pub(super) struct Unsettled(Arc<Mutex<HashSet<String>>>);

/// Held by a batch for the files that it has moved, until its settlement is over.
#[derive(Debug)]
pub(super) struct Mover {
    places: Vec<String>,
    all: Unsettled,
}

impl Unsettled {
    /// Files were moved to these places. They are unsettled as long as what this returns lives.
    pub(super) fn moved(&self, places: Vec<String>) -> Mover {
        self.places().extend(places.iter().cloned());
        Mover { places, all: self.clone() }
    }

    fn has(&self, place: &str) -> bool {
        self.places().contains(place)
    }

    fn places(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Drop for Mover {
    fn drop(&mut self) {
        let mut all = self.all.places();
        for place in &self.places {
            all.remove(place);
        }
    }
}

impl Collector {
    /// Of files that were found in the trash, with their places: those whose move is told by another candidate. The ledger's entry counts only while the move is
    /// checked again because of it: a later one begins that time anew.
    ///
    /// # Errors
    /// The database's.
    pub(super) async fn recorded_elsewhere(&self, state: &StorageState, found: &[(FileName, String)]) -> Result<HashSet<FileName>> {
        // First: a mover that settles in this moment is in the ledger then.
        let mut told: HashSet<FileName> =
            found.iter().filter(|(_, place)| state.unsettled.has(place)).map(|(name, _)| name.clone()).collect();
        let rest: Vec<FileName> = found.iter().map(|(name, _)| name).filter(|name| !told.contains(*name)).cloned().collect();
        if rest.is_empty() {
            return Ok(told);
        }
        let since = clock::before(self.db.now().await?, WINDOW);
        let mut last: HashMap<String, Outcome> = HashMap::new();
        for (place, outcome) in self.db.in_places(&state.plan.name, &rest, since).await? {
            last.insert(place, outcome);
        }
        told.extend(found.iter().filter(|(_, place)| last.get(place) == Some(&Outcome::Trashed)).map(|(name, _)| name.clone()));
        Ok(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_unsettled_as_long_as_its_mover_lives() {
        let unsettled = Unsettled::default();
        let movers: Vec<Mover> = (0..2).map(|i| unsettled.moved(vec![i.to_string(), (i + 10).to_string()])).collect();
        assert!(unsettled.has("0") && unsettled.has("11") && !unsettled.has("2"));
        drop(movers);
        assert!(unsettled.places().is_empty());
    }
}
