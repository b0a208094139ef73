//! The database's history may go back: a standby that was behind becomes the primary, a backup is restored in place, a volume is set back. Then rows are
//! there again whose files were collected, and the ledger knows nothing of it.
//!
//! In: which history the database follows. Out: when that has changed, files that came back, and what is said of it. Promise: the whole trash is compared
//! with the rows once, to its end. A file of which the ledger does not tell the move was moved in the time that is lost; if a row references it, and nothing
//! has its name, it comes back however long ago that was, because the row is from before.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{
    Keeper, WINDOW,
    recheck::{Returned, newest},
};
use crate::{
    clock,
    error::{Error, Kind, Result},
    ledger::{NewEntry, Rewound, Timeline},
    name::FileName,
    queue::Outcome,
    references,
    storage::{Look, Trashed},
};

/// Files of one page.
const PAGE: usize = 1_000;

/// Whatever lies in the trash was moved before this is over.
const LONG: Duration = Duration::from_secs(365 * 86_400);

/// What could not be read, or could not come back, is tried again so often.
const AGAIN: Duration = Duration::from_secs(60);

/// A comparison that is to be made, or did not come to its end. It is remembered: a database that was set back by little is soon as far as it was.
#[derive(Debug)]
pub(super) struct Behind {
    was: Timeline,
    /// When it was tried last, and what was in the way.
    tried: Option<(Instant, Error)>,
    /// Files that came back by then.
    came_back: u64,
}

impl Behind {
    pub(super) fn error(&self) -> Option<Error> {
        self.tried.as_ref().map(|(_, e)| e.clone())
    }
}

/// How a comparison ended.
enum Compared {
    /// With what it could not read, or could not bring back.
    All(Option<Error>),
    /// Another process keeps this trash by now, and does the same.
    Another,
}

impl Keeper {
    /// Compares the trash with the rows, if the database follows another history than it did. `false`: another process keeps this trash by now.
    ///
    /// # Errors
    /// Those of the database, and a storage that is away. Then it is done again.
    pub(super) async fn follow_history(&mut self, now: Timestamp) -> Result<bool> {
        let timeline = self.db.timeline().await?;
        let before = [self.timeline.as_ref(), self.upkeep.timeline.as_ref()];
        let was = before.into_iter().flatten().find(|before| timeline.has_left(before)).cloned();
        if self.behind.is_none() {
            self.behind = was.map(|was| Behind { was, tried: None, came_back: 0 });
        }
        if let Some(behind) = &self.behind {
            if behind.tried.as_ref().is_some_and(|(at, _)| at.elapsed() < AGAIN) {
                return Ok(true);
            }
            let was = behind.was.clone();
            let mut rewound = Rewound { at: now, was: was.to_string(), is: timeline.to_string(), came_back: behind.came_back, stay: 0 };
            let failed = match self.compare(now, &was, &timeline, &mut rewound).await {
                Ok(Compared::All(failed)) => failed,
                Ok(Compared::Another) => return Ok(false),
                // It keeps nothing else in the trash from its work: before anything is erased it is checked once more.
                Err(e) if matches!(e.kind(), Kind::Storage | Kind::Permission) => Some(e),
                Err(e) => return Err(e),
            };
            let came_back = rewound.came_back;
            self.upkeep.rewound = Some(rewound);
            if let Some(error) = failed {
                self.behind = Some(Behind { was, tried: Some((Instant::now(), error)), came_back });
                return self.store(&[]).await;
            }
        }
        self.behind = None;
        let another = self.upkeep.timeline.as_ref().is_none_or(|stored| timeline.has_left(stored));
        self.timeline = Some(timeline.clone());
        // How far it has come is stored along with something else only: an idle database is not written to.
        if another || self.upkeep.rewound != self.stored.rewound {
            self.upkeep.timeline = Some(timeline);
            return self.store(&[]).await;
        }
        Ok(true)
    }

    async fn compare(&mut self, now: Timestamp, was: &Timeline, is: &Timeline, rewound: &mut Rewound) -> Result<Compared> {
        tracing::warn!(
            storage = self.plan.name,
            was = %was,
            is = %is,
            "the database follows another history than before (a failover, a restored backup): the trash is compared with its rows"
        );
        let record = self.verify().await?;
        // Another database's files may lie there too, of which this one's ledger never knew.
        if self.storage.marker().await?.is_some_and(|marker| marker.is_shared(&record.id)) {
            tracing::warn!(storage = self.plan.name, "several databases share this storage: what rows miss does not come back by itself");
            return Ok(Compared::All(None));
        }
        let mut failed: Option<Error> = None;
        let mut after: Option<String> = None;
        loop {
            let page = self.storage.expired(now.checked_add(LONG).unwrap_or(Timestamp::MAX), after.as_deref(), PAGE).await?;
            // A part that cannot be read hides no other.
            failed = failed.or(page.errors.into_iter().next());
            let entries = self.compare_page(now, &page.files, rewound, &mut failed).await?;
            if !entries.is_empty() {
                let stored = self.store(&entries).await?;
                if entries.iter().any(|e| e.outcome == Outcome::Restored) {
                    self.tell_returned(&entries, stored);
                }
                if !stored {
                    return Ok(Compared::Another);
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(Compared::All(failed));
            }
        }
    }

    async fn compare_page(
        &mut self,
        now: Timestamp,
        files: &[Trashed],
        rewound: &mut Rewound,
        failed: &mut Option<Error>,
    ) -> Result<Vec<NewEntry>> {
        let names: BTreeSet<&FileName> = files.iter().map(|t| &t.name).collect();
        let mut names: Vec<FileName> = names.into_iter().cloned().collect();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let record = self.verify().await?;
        let (held, lock) = references::find(self.db.as_ref(), self.guard.bound(), &record.snapshot, &self.plan.name, &names).await?;
        drop(lock);
        names.retain(|name| held.contains(name));
        let mut missing = HashSet::new();
        for (name, look) in names.iter().zip(self.storage.look(&names).await?) {
            match look {
                Ok(Look::Missing) => drop(missing.insert(name.clone())),
                Ok(_) => {}
                Err(e) => drop(failed.get_or_insert(e)),
            }
        }
        let wanted = files.iter().filter(|t| missing.contains(&t.name)).map(|t| (&t.name, t.place.as_str()));
        let away = newest(self.storage.as_ref(), wanted).await?;
        let names: Vec<FileName> = away.iter().map(|t| t.name.clone()).collect();
        // The last that the ledger says of each place.
        let told = self.db.in_places(&self.plan.name, &names, Timestamp::UNIX_EPOCH).await?;
        let told: HashMap<String, Outcome> = told.into_iter().collect();
        let is_known = |t: &Trashed| matches!(told.get(&t.place), Some(Outcome::Trashed | Outcome::Dangling));
        let (known, lost): (Vec<Trashed>, Vec<Trashed>) = away.into_iter().partition(is_known);
        let Returned { mut entries, failed: not_back } = self.bring_back(&lost).await?;
        // The ledger does not know of those, so that no re-check would bring them back.
        if let Some(e) = not_back {
            failed.get_or_insert(e);
        }
        let came_back = entries.iter().filter(|e| e.outcome == Outcome::Restored).count() as u64;
        rewound.came_back += came_back;
        rewound.stay += (lost.len() as u64).saturating_sub(came_back);
        // What the ledger knows is as it was: lately moved, it comes back with the next re-check; else a person decides.
        for t in known.iter().filter(|t| clock::passed(t.at, WINDOW, now)) {
            rewound.stay += 1;
            if told.get(&t.place) == Some(&Outcome::Trashed) {
                entries.push(self.dangling(t));
            }
        }
        Ok(entries)
    }
}
