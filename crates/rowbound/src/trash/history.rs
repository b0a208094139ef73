//! The database's history may go back: a standby that was behind becomes the primary, a backup is restored in place, a volume is set back. Then rows are
//! there again whose files were collected, and the ledger knows nothing of it.
//!
//! In: which history the database follows. Out: when that has changed, files that came back, and what is said of it. Promise: the whole trash is compared
//! with the rows once, to its end. A file of which the ledger does not tell the move was moved in the time that is lost; if a row references it, and nothing
//! has its name, it comes back however long ago that was, because the row is from before. Of several such files of one name it is the first that was moved: the
//! others had the name afterwards.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{Keeper, WINDOW, recheck::Returned};
use crate::{
    clock,
    error::{Error, Kind, Result},
    ledger::{NewEntry, Rewound, Timeline},
    name::FileName,
    queue::Outcome,
    references::{self, CheckDepth, References},
    storage::{Stat, Trashed},
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
    /// Names whose files came back by then.
    came_back: HashSet<String>,
}

/// What one comparison has come to so far.
#[derive(Debug, Default)]
struct Progress {
    /// Names whose files came back, by this comparison or an earlier one that did not come to its end.
    came_back: HashSet<String>,
    /// Names that were decided upon, whatever came of it: later files of theirs are not what rows of before mean.
    decided: HashSet<String>,
    /// Files that a row references and that stay.
    stay: u64,
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
        let timeline = match self.db.timeline().await {
            Ok(timeline) => timeline,
            // What a server does not say of its history keeps nothing else in the trash from its work. It is asked again at the next turn.
            Err(e) if e.kind() == Kind::Database => {
                tracing::warn!(storage = self.plan.name, kind = ?e.kind(), "cannot tell which history the database follows: {}", e.full());
                return Ok(true);
            }
            Err(e) => return Err(e),
        };
        let before = [self.timeline.as_ref(), self.upkeep.timeline.as_ref()];
        let was = before.into_iter().flatten().find(|before| timeline.has_left(before)).cloned();
        if self.behind.is_none() {
            self.behind = was.map(|was| Behind { was, tried: None, came_back: HashSet::new() });
        }
        if let Some(behind) = &self.behind {
            if behind.tried.as_ref().is_some_and(|(at, _)| at.elapsed() < AGAIN) {
                return Ok(true);
            }
            let was = behind.was.clone();
            let mut progress = Progress { came_back: behind.came_back.clone(), ..Progress::default() };
            let failed = match self.compare(now, &was, &timeline, &mut progress).await {
                Ok(Compared::All(failed)) => failed,
                Ok(Compared::Another) => return Ok(false),
                // It keeps nothing else in the trash from its work: before anything is erased it is checked once more.
                Err(e) if matches!(e.kind(), Kind::Storage | Kind::Permission | Kind::Database) => Some(e),
                Err(e) => return Err(e),
            };
            let Progress { came_back, stay, .. } = progress;
            self.upkeep.rewound =
                Some(Rewound { at: now, was: was.to_string(), is: timeline.to_string(), came_back: came_back.len() as u64, stay });
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

    async fn compare(&mut self, now: Timestamp, was: &Timeline, is: &Timeline, progress: &mut Progress) -> Result<Compared> {
        tracing::warn!(
            storage = self.plan.name,
            was = %was,
            is = %is,
            "the database follows another history than before (a failover, a restored backup): the trash is compared with its rows"
        );
        let record = self.verify_to_return().await?;
        // Another database's files may lie there too, of which this one's ledger never knew.
        if self.storage.marker().await?.is_some_and(|marker| marker.is_shared(&record.id)) {
            tracing::warn!(
                storage = self.plan.name,
                "several databases share this storage: files that rows miss do not come back by themselves"
            );
            return Ok(Compared::All(None));
        }
        let mut failed: Option<Error> = None;
        let mut after: Option<String> = None;
        loop {
            let page = self.storage.expired(now.checked_add(LONG).unwrap_or(Timestamp::MAX), after.as_deref(), PAGE).await?;
            // A part that cannot be read hides no other.
            failed = failed.or(page.errors.into_iter().next());
            let entries = self.compare_page(now, &page.files, progress, &mut failed).await?;
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
        progress: &mut Progress,
        failed: &mut Option<Error>,
    ) -> Result<Vec<NewEntry>> {
        let names: BTreeSet<&FileName> = files.iter().map(|t| &t.name).collect();
        let mut names: Vec<FileName> = names.into_iter().cloned().collect();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let record = self.verify_to_return().await?;
        // The rows are from another time than what was seen of their values, so every value counts.
        let References { held, lock, .. } =
            references::find(self.db.as_ref(), self.guard.bound(), &record, &self.plan.name, &names, CheckDepth::Whole)
                .await?
                .looked_up(self.storage.as_ref())
                .await;
        drop(lock);
        names
            .retain(|name| held.contains(name) && !progress.came_back.contains(name.as_str()) && !progress.decided.contains(name.as_str()));
        let (mut missing, mut taken) = (Vec::new(), Vec::new());
        for (name, look) in names.iter().zip(self.storage.stat(&names).await?) {
            match look {
                Ok(Stat::Missing) => missing.push(name.clone()),
                Ok(_) => taken.push(name),
                Err(e) => drop(failed.get_or_insert(e)),
            }
        }
        // The last that the ledger says of each place.
        let told = self.db.in_places(&self.plan.name, &names, Timestamp::UNIX_EPOCH).await?;
        let told: HashMap<String, Outcome> = told.into_iter().collect();
        let is_known = |t: &Trashed| matches!(told.get(&t.place), Some(Outcome::Trashed | Outcome::Dangling));
        // They come in the order in which they were moved.
        let mut first: HashMap<&FileName, &Trashed> = HashMap::new();
        for t in files.iter().filter(|t| !is_known(t)) {
            first.entry(&t.name).or_insert(t);
        }
        // What the row means may lie in the trash while another file has its name: only a person can tell.
        for name in taken.into_iter().filter(|name| first.contains_key(name)) {
            progress.stay += 1;
            progress.decided.insert(name.to_string());
        }
        let here: HashSet<(&FileName, &str)> = files.iter().map(|t| (&t.name, t.place.as_str())).collect();
        let newest = if missing.is_empty() { Vec::new() } else { self.storage.trashed(&missing).await? };
        let (mut known, mut lost) = (Vec::new(), Vec::new());
        for newest in newest {
            let Some(newest) = newest? else { continue };
            if is_known(&newest) {
                known.extend(here.contains(&(&newest.name, newest.place.as_str())).then_some(newest));
            } else if let Some(first) = first.get(&newest.name) {
                progress.decided.insert(newest.name.to_string());
                lost.push((*first).clone());
            }
        }
        let Returned { mut entries, failed: not_back } = self.bring_back(&lost).await?;
        // The ledger does not know of those, so that no re-check would bring them back.
        if let Some(e) = not_back {
            failed.get_or_insert(e);
        }
        let back: Vec<&NewEntry> = entries.iter().filter(|e| e.outcome == Outcome::Restored).collect();
        progress.stay += lost.len().saturating_sub(back.len()) as u64;
        progress.came_back.extend(back.into_iter().map(|e| e.name.clone()));
        // What the ledger knows is as it was: lately moved, it comes back with the next re-check; else a person decides.
        for t in known.iter().filter(|t| clock::passed(t.at, WINDOW, now)) {
            progress.stay += 1;
            if told.get(&t.place) == Some(&Outcome::Trashed) {
                entries.push(self.dangling(t));
            }
        }
        Ok(entries)
    }
}
