//! A trash is emptied of what has waited long enough.
//!
//! In: a storage's trash, a page at a time. Out: files erased, or brought back if a row references one; what could not be erased, with the reason. Promise: one
//! file, or one folder, that cannot be erased keeps neither the others nor any candidate: candidates come first, then one page of the trash.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::watch;

use super::{Collector, Counters, Lane, Shadow, Trouble};
use crate::{
    clock,
    error::{Error, Kind, Result},
    trash,
};

/// Files of one page.
const PAGE: usize = 1_000;

/// Where an emptying of a trash stands.
#[derive(Debug, Default)]
pub(super) struct Emptying {
    /// Where the next page begins.
    after: Option<String>,
    /// What could not be erased so far: how many, and the first.
    failed: u64,
    first: Option<Error>,
}

impl Emptying {
    fn failed(&mut self, e: Error) {
        self.failed += 1;
        self.first.get_or_insert(e);
    }

    /// What could not be erased, as one error that names the first file.
    fn verdict(&mut self) -> Option<Error> {
        let first = self.first.take()?;
        let e = Error::new(Kind::Storage, "files stay in the trash, because they could not be erased").with("errors", self.failed);
        let hint = first.hint_text().map_or_else(|| "look at the first of them with `ls -la`".to_owned(), str::to_owned);
        Some(e.because(first.full()).hint(hint))
    }
}

/// How a worker keeps its storage's trash.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    /// When the next emptying begins.
    due: Option<Instant>,
    now: Emptying,
    /// What was said in the log.
    said: Option<String>,
}

impl Keeper {
    /// Whether there is something to do now.
    pub(super) fn is_due(&self) -> bool {
        self.due.is_none_or(|due| due <= Instant::now())
    }
}

impl Collector {
    /// Empties a trash of one page more; `true` while there are more.
    ///
    /// # Errors
    /// What keeps the emptying as a whole: the database's, and a storage that is away.
    async fn empty_page(&self, lane: &Lane, emptying: &mut Emptying) -> Result<bool> {
        let Some(retention) = lane.plan.trash.retention() else { return Ok(false) };
        let before = clock::before(Timestamp::now(), retention);
        let page = match lane.storage.expired(before, emptying.after.as_deref(), PAGE).await {
            Ok(page) => page,
            Err(e) if e.kind() == Kind::StorageUnreachable => return Err(e),
            Err(e) => {
                emptying.failed(e);
                return Ok(false);
            }
        };
        page.errors.into_iter().for_each(|e| emptying.failed(e));
        if !page.files.is_empty() {
            let record = self.verify().await?;
            // What somebody put into shadow mode because too much had gone must not go on losing what lies in the trash.
            if Shadow::of(&record, self.on(&lane.plan.name)).all() {
                return Ok(false);
            }
            self.apart(lane, &record).await?;
            let (name, storage) = (&lane.plan.name, lane.storage.as_ref());
            let mut files = page.files;
            if storage.marker().await?.is_some_and(|marker| marker.is_shared(&record.id)) {
                files = trash::moved_by_us(self.db.as_ref(), name, files).await?;
            }
            let done = trash::purge(self.db.as_ref(), &self.bound, &record.snapshot, name, storage, &files).await?;
            Counters::add(&self.counters.purged, done.purged);
            Counters::add(&self.counters.bytes_freed, done.bytes);
            done.failed.into_iter().for_each(|e| emptying.failed(e));
        }
        emptying.after = page.next;
        Ok(emptying.after.is_some())
    }

    /// Empties a trash of all that has waited long enough. What could not be erased is said in the summary.
    ///
    /// # Errors
    /// What keeps the emptying as a whole.
    pub(super) async fn empty_trash(&self, lane: &Lane, stop: &watch::Receiver<bool>) -> Result<()> {
        let mut emptying = Emptying::default();
        while !*stop.borrow() && self.empty_page(lane, &mut emptying).await? {}
        self.note(lane, emptying.verdict().as_ref());
        Ok(())
    }

    fn note(&self, lane: &Lane, e: Option<&Error>) {
        let mut total = self.total.lock().unwrap_or_else(|e| e.into_inner());
        match e {
            Some(e) => drop(total.trash.insert(lane.plan.name.clone(), Trouble::of(e))),
            None => drop(total.trash.remove(&lane.plan.name)),
        }
    }

    /// One step of a keeper: a page. `true` while there are more. What goes wrong is the storage's trouble, and is said once.
    pub(super) async fn keep_trash(&self, lane: &Lane, keeper: &mut Keeper) -> bool {
        let mut step = self.empty_page(lane, &mut keeper.now).await;
        // Triggers that a migration dropped meanwhile are put back.
        if step.as_ref().is_err_and(|e| e.kind() == Kind::Drift) && self.verify().await.is_ok() {
            step = self.empty_page(lane, &mut keeper.now).await;
        }
        let trouble = match step {
            Ok(true) => return true,
            Ok(false) => keeper.now.verdict(),
            Err(e) => Some(e),
        };
        keeper.now = Emptying::default();
        keeper.due = Some(clock::deadline(interval(lane)));
        self.note(lane, trouble.as_ref());
        let mut troubles = lane.troubles.lock().unwrap_or_else(|e| e.into_inner());
        match trouble {
            None => {
                troubles.trash_has_none();
                if keeper.said.take().is_some() {
                    tracing::info!(storage = lane.plan.name, "the trash is emptied again");
                }
            }
            Some(e) => {
                troubles.trash_has(&e);
                // Said once for each reason, however many files have it.
                let reason = std::error::Error::source(&e).map_or_else(|| e.full(), ToString::to_string);
                if keeper.said.as_ref() != Some(&reason) {
                    tracing::error!(storage = lane.plan.name, kind = ?e.kind(), hint = e.hint_text(), "{}", e.full());
                }
                keeper.said = Some(reason);
            }
        }
        false
    }
}

fn interval(lane: &Lane) -> Duration {
    let retention = lane.plan.trash.retention().unwrap_or(Duration::from_secs(3600));
    (retention / 10).clamp(Duration::from_secs(1), Duration::from_secs(60))
}
