//! The database's history may go back: a standby that was behind becomes the primary, a backup is restored in place, a volume is set back. Then rows are
//! there again whose files were collected, and the ledger knows nothing of it.
//!
//! In: which history the database follows. Out: when that has changed, files that came back, and what is said of it. Promise: the whole trash is compared
//! with the rows once. A file of which the ledger does not tell the move was moved in the time that is lost; if a row references it, and nothing has its name,
//! it comes back however long ago that was, because the row is from before.

use std::collections::{BTreeSet, HashSet};

use jiff::Timestamp;

use super::{
    Keeper, WINDOW,
    recheck::{Returned, newest},
};
use crate::{
    clock,
    error::Result,
    ledger::{NewEntry, Rewound, Timeline},
    name::FileName,
    queue::Outcome,
    references,
    storage::{Look, Trashed},
};

/// Files of one page.
const PAGE: usize = 1_000;

/// Whatever lies in the trash was moved before this is over.
const LONG: std::time::Duration = std::time::Duration::from_secs(365 * 86_400);

impl Keeper {
    /// Compares the trash with the rows, if the database follows another history than it did.
    ///
    /// # Errors
    /// Those of the database and the storage. Then it is done again.
    pub(super) async fn follow_history(&mut self, now: Timestamp) -> Result<()> {
        let timeline = self.db.timeline().await?;
        let was =
            [self.timeline.as_ref(), self.upkeep.timeline.as_ref()].into_iter().flatten().find(|before| timeline.has_left(before)).cloned();
        if let Some(was) = was {
            self.compare(now, &was, &timeline).await?;
        }
        let another = self.upkeep.timeline.as_ref().is_none_or(|stored| stored.id != timeline.id);
        self.timeline = Some(timeline.clone());
        // How far it has come is stored along with something else only: an idle database is not written to.
        if another {
            self.upkeep.timeline = Some(timeline);
            self.store(&[]).await?;
        }
        Ok(())
    }

    async fn compare(&mut self, now: Timestamp, was: &Timeline, is: &Timeline) -> Result<()> {
        tracing::warn!(
            storage = self.plan.name,
            was = %was,
            is = %is,
            "the database follows another history than before (a failover, a restored backup): the trash is compared with its rows"
        );
        let record = self.verify().await?;
        // Another database's files may lie there too, of which this one's ledger never knew.
        let shared = self.storage.marker().await?.is_some_and(|marker| marker.is_shared(&record.id));
        let mut rewound = Rewound { at: now, was: was.to_string(), is: is.to_string(), came_back: 0, stay: 0 };
        let mut after: Option<String> = None;
        while !shared {
            let page = self.storage.expired(now.checked_add(LONG).unwrap_or(Timestamp::MAX), after.as_deref(), PAGE).await?;
            // A part that cannot be read keeps nothing else. Before anything of it is erased it is checked once more.
            for e in &page.errors {
                tracing::warn!(storage = self.plan.name, kind = ?e.kind(), "{}", e.full());
            }
            let entries = self.compare_page(now, &page.files, &mut rewound).await?;
            if !entries.is_empty() && !self.store(&entries).await? {
                return Ok(()); // another process keeps this trash by now, and does the same
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        self.timeline = Some(is.clone());
        self.upkeep.rewound = Some(rewound);
        self.store(&[]).await.map(drop)
    }

    async fn compare_page(&mut self, now: Timestamp, files: &[Trashed], rewound: &mut Rewound) -> Result<Vec<NewEntry>> {
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
            if look? == Look::Missing {
                missing.insert(name.clone());
            }
        }
        let wanted = files.iter().filter(|t| missing.contains(&t.name)).map(|t| (&t.name, t.place.as_str()));
        let away = newest(self.storage.as_ref(), wanted).await?;
        let names: Vec<FileName> = away.iter().map(|t| t.name.clone()).collect();
        let told = self.db.in_places(&self.plan.name, &names, Timestamp::UNIX_EPOCH).await?;
        let told: HashSet<String> = told.into_iter().map(|(place, _)| place).collect();
        let (known, lost): (Vec<Trashed>, Vec<Trashed>) = away.into_iter().partition(|t| told.contains(&t.place));
        let Returned { mut entries, failed } = self.bring_back(&lost).await?;
        if let Some(e) = failed {
            tracing::warn!(storage = self.plan.name, kind = ?e.kind(), "{}", e.full());
        }
        let came_back = entries.iter().filter(|e| e.outcome == Outcome::Restored).count() as u64;
        rewound.came_back += came_back;
        rewound.stay += lost.len() as u64 - came_back.min(lost.len() as u64);
        // What the ledger knows is as it was: lately moved, it comes back with the next re-check; else a person decides.
        for t in known.iter().filter(|t| clock::passed(t.at, WINDOW, now)) {
            rewound.stay += 1;
            entries.push(self.dangling(t));
        }
        Ok(entries)
    }
}
