//! One chunk of files: moved to the trash, or erased where nothing can be moved.
//!
//! In: files that no row references, under leases that the database has confirmed. Out: what became of each. Promise: what is erased where it lies was checked
//! immediately before.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{Groups, Moved};
use crate::{
    capture::Installation,
    clock,
    collect::{
        Collector, StorageState,
        hold_until_done::hold_until_done,
        verdict::{Decided, Verdict},
    },
    database::LockGuard,
    error::Result,
    name::FileName,
    originals::Origin,
    queue::{Candidate, Outcome},
    references::{self, CheckDepth, References},
    storage::{FileVersion, Removed, unmovable},
};

/// A batch lasts no longer between its look and its moves.
const LATELY: Duration = Duration::from_secs(60);

/// The fate of a file, as a trace says it.
pub(super) fn trace_fate(fate: &Result<Removed>) -> Value {
    match fate {
        Ok(Removed::Trashed(place)) => json!({ "moved": place }),
        Ok(Removed::Erased) => "erased".into(),
        Ok(Removed::Missing) => "missing".into(),
        Ok(Removed::Changed) => "changed".into(),
        Err(_) => "failed".into(),
    }
}

/// What becomes of a candidate whose file could not be moved.
pub(super) fn fate_of(fate: Result<Removed>, group: &[Candidate], s: &FileVersion, state: &StorageState) -> Verdict {
    match fate {
        Ok(Removed::Trashed(place)) => Verdict::Settle(Outcome::Trashed, Some(s.size), Some(place), None),
        Ok(Removed::Erased) => Verdict::Settle(Outcome::Erased, Some(s.size), None, None),
        Ok(Removed::Missing) => Verdict::wait(Duration::from_secs(1), "the file went away while it was being collected"),
        Ok(Removed::Changed) => {
            Verdict::wait(state.plan.min_age.max(Duration::from_secs(1)), "the file was replaced while it was being collected")
        }
        Err(e) => Verdict::failure(&group[0], &e),
    }
}

/// Of files that went away between the look and the move: those that another batch has moved to the trash. Of one file that two columns release at once, each
/// has a candidate, and two batches may take them side by side.
pub(super) async fn taken_by_others(
    state: &StorageState,
    items: &[(FileName, FileVersion)],
    removed: &[Result<Removed>],
) -> Result<HashSet<FileName>> {
    let gone = items.iter().zip(removed).filter(|(_, fate)| matches!(fate, Ok(Removed::Missing)));
    let gone: Vec<FileName> = gone.map(|((name, _), _)| name.clone()).collect();
    if gone.is_empty() || !state.keeps().await? {
        return Ok(HashSet::new());
    }
    let found = state.storage.trashed(&gone).await?;
    // An earlier file of the name may lie there for long.
    let lately = clock::before(state.storage.ahead().now(), LATELY);
    let found = gone.into_iter().zip(found).filter(|(_, found)| matches!(found, Ok(Some(t)) if t.at >= lately));
    Ok(found.map(|(name, _)| name).collect())
}

/// Moves one chunk, under the lock if there is one. The lock is held until the work is done, whatever becomes of the caller.
pub(super) async fn take_chunk(
    state: &StorageState,
    taken: &mut Moved,
    items: &mut Vec<(FileName, FileVersion)>,
) -> Result<Vec<Result<Removed>>> {
    let removed = match taken.lock.take() {
        Some(lock) => {
            let (storage, mine) = (state.storage.clone(), std::mem::take(items));
            let work = async move { (storage.remove(&mine).await, mine) };
            let ((removed, mine), lock) = hold_until_done(lock, work).await?;
            *items = mine;
            taken.lock = Some(lock);
            removed
        }
        None => state.storage.remove(items).await,
    };
    match removed {
        // The trash itself cannot be made: no file can be moved, and each candidate says why.
        Err(e) if unmovable(&e) => Ok(items.iter().map(|_| Err(e.clone())).collect()),
        removed => removed,
    }
}

/// Takes out of a chunk what is referenced by now. The lock under which that stays true comes back.
pub(super) async fn keep_referenced(
    c: &Collector,
    state: &StorageState,
    record: &Installation,
    groups: &Groups,
    items: &mut Vec<(FileName, FileVersion)>,
    origins: &HashMap<FileName, Origin>,
    decided: &mut Decided,
) -> Result<Option<LockGuard>> {
    fn originals<'o>(origins: &'o HashMap<FileName, Origin>, name: &FileName) -> impl Iterator<Item = &'o FileName> + use<'o> {
        origins.get(name).into_iter().flat_map(|o| &o.names)
    }
    let asked: BTreeSet<FileName> = items.iter().flat_map(|(name, _)| originals(origins, name).chain([name]).cloned()).collect();
    let asked: Vec<FileName> = asked.into_iter().collect();
    let began = Instant::now();
    // It is erased where it lies, and does not come back.
    let References { held, lock, .. } =
        references::find(c.db.as_ref(), c.guard.bound(), record, &state.plan.name, &asked, CheckDepth::Whole)
            .await?
            .looked_up(state.storage.as_ref())
            .await;
    state.has_read(began.elapsed());
    items.retain(|(name, _)| {
        let lives = held.contains(name) || originals(origins, name).any(|o| held.contains(o));
        if lives {
            decided.all(&groups[name], name, Verdict::plain(Outcome::Kept));
        }
        !lives
    });
    Ok(lock)
}

/// `trash = "off"`, and no room to hold a file for a moment: it is erased where it lies, after a check of its own.
#[allow(clippy::too_many_arguments)]
pub(super) async fn erase_in_place(
    c: &Collector,
    state: &StorageState,
    record: &Installation,
    taken: &mut Moved,
    groups: &mut Groups,
    mut stuck: Vec<(FileName, FileVersion)>,
    origins: &HashMap<FileName, Origin>,
    decided: &mut Decided,
) {
    let all: Vec<FileName> = stuck.iter().map(|(name, _)| name.clone()).collect();
    let done = async {
        // A lock stands behind a check that looked as deep as is enough for what can come back. This one looks at every value, and takes the lock itself.
        drop(taken.lock.take());
        let lock = keep_referenced(c, state, record, groups, &mut stuck, origins, decided).await?;
        c.db.flushed().await?;
        match lock.filter(|_| state.storage.quick()) {
            Some(lock) => {
                let (storage, mine) = (state.storage.clone(), stuck.clone());
                let (done, lock) = hold_until_done(lock, async move { storage.erase(&mine).await }).await?;
                drop(lock);
                done
            }
            // A slow storage must not keep the application's writers out.
            None => state.storage.erase(&stuck).await,
        }
    };
    match done.await {
        Ok(done) => {
            for ((name, s), fate) in stuck.into_iter().zip(done) {
                let erased = matches!(fate, Ok(Removed::Erased));
                let verdict = match fate_of(fate, &groups[&name], &s, state) {
                    Verdict::Settle(outcome, size, place, None) if erased => {
                        Verdict::Settle(outcome, size, place, Some("it could not be held for a moment: it was erased where it lay".into()))
                    }
                    verdict => verdict,
                };
                decided.all(&groups[&name], &name, verdict);
            }
        }
        Err(e) => stuck.iter().for_each(|(name, _)| decided.all(&groups[name], name, Verdict::failure(&groups[name][0], &e))),
    }
    all.iter().for_each(|name| drop(groups.remove(name)));
}
