//! How fast a collector goes: barriers, sizes of batches and chunks, rests.
//!
//! In: how long things took. Out: how much is done next, and when. Promise: no chunk is planned to take longer than [`CHUNK_TIME`], and SQLite's write lock is
//! held for one chunk beyond [`LOCK_LIMIT`] at most.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::{Duration, Instant},
};

use super::{Collector, StorageState};
use crate::{
    clock,
    database::OpenTransaction,
    delays::delays,
    error::{Error, Result},
};

/// On a storage with requests a batch with derivatives to list is no larger, so that it is settled well within its lease.
pub(super) const LISTED: u32 = 500;

/// On a storage with requests the first batch is no larger: how long a file takes there is not known yet.
pub(super) const FIRST: u32 = 500;

/// Where values are read one by one, a batch is no smaller, so that a column is read for many names at once.
pub(super) const SCANNED: u32 = 500;

/// After a check the daemon rests for so many times as long as it took, where a column was read from end to end; at most [`LONGEST_REST`].
const REST: u32 = 4;
const LONGEST_REST: Duration = Duration::from_secs(60);

/// However long a file takes, a batch is no smaller.
pub(super) const LEAST: u32 = 10;

/// On SQLite a batch aims at holding the write lock no longer than this.
const LOCK_GOAL: Duration = Duration::from_millis(50);

/// SQLite: once the write lock has been held for so long, no further chunk is begun.
pub(super) const LOCK_LIMIT: Duration = Duration::from_millis(100);

/// A chunk is moved in no more than this: so old is the confirmation of the lease at most, and where nothing can be moved the check.
pub(super) const CHUNK_TIME: Duration = Duration::from_secs(1);

/// Files of the first chunk: how long one takes is not known yet.
pub(super) const FIRST_CHUNK: u32 = 100;

/// Files of a chunk at most.
const LARGEST_CHUNK: u32 = 4_000;

/// The next batch has at most so many times as many candidates, the next chunk so many times as many files: each chunk costs a question to the database.
const BATCH_GROWTH: u32 = 2;
const CHUNK_GROWTH: u32 = 8;

/// A chunk under way.
#[derive(Debug)]
pub(super) struct Chunk {
    size: u32,
    began: Instant,
}

impl Chunk {
    /// The next one.
    pub(super) fn begin(size: &AtomicU32) -> Self {
        Chunk { size: size.load(Relaxed), began: Instant::now() }
    }

    /// How many files it takes.
    pub(super) fn size(&self) -> usize {
        self.size as usize
    }

    /// It has ended, and had `taken` files; the next one is as large as fits. One that was not full says nothing of larger ones.
    pub(super) fn end(self, size: &AtomicU32, taken: usize) {
        size.store(paced(self.size, taken, self.began.elapsed(), CHUNK_TIME / 4, CHUNK_GROWTH, 1, LARGEST_CHUNK), Relaxed);
    }
}

impl StorageState {
    /// A column was, or could have been, read from end to end: the daemon's next check waits for a while, in which names gather for it.
    pub(super) fn has_read(&self, took: Duration) {
        if self.scans {
            let rest = (took * REST).min(LONGEST_REST);
            *self.scan_at.lock().unwrap_or_else(|e| e.into_inner()) = Some(Instant::now() + rest);
        }
    }

    /// How long the daemon's next check waits.
    pub(super) fn reads_in(&self) -> Option<Duration> {
        let at = *self.scan_at.lock().unwrap_or_else(|e| e.into_inner());
        at.map(|at| at.saturating_duration_since(Instant::now())).filter(|rest| !rest.is_zero())
    }

    /// SQLite: follows the time the lock was held, and sees to it that the application gets in before the next batch takes it.
    pub(super) fn held_lock(&self, held: Duration, claimed: usize) {
        let size = self.batch.load(Relaxed);
        if held > LOCK_GOAL * 2 {
            self.batch.store((size / 2).max(if self.scans { SCANNED } else { 50 }), Relaxed);
        } else if held < LOCK_GOAL && claimed as u32 == size {
            self.batch.store((size * 2).min(self.most), Relaxed);
        }
        *self.rest.lock().unwrap_or_else(|e| e.into_inner()) = Some(Instant::now() + held / 4);
    }

    /// Elsewhere: a claim that takes longer than its lease becomes another worker's, which does all of it again, and may take too long as well.
    pub(super) fn took(&self, limit: u32, claimed: usize, took: Duration, lease: Duration) {
        let least = if self.scans { SCANNED } else { LEAST };
        self.batch.store(paced(limit, claimed, took, lease / 4, BATCH_GROWTH, least, self.most), Relaxed);
    }
}

impl Collector {
    /// SQLite: waits before the write lock is taken again. What needs no lock (claim, look) is done meanwhile.
    pub(super) async fn rest(&self, state: &StorageState) {
        let until = state.rest.lock().unwrap_or_else(|e| e.into_inner()).take();
        if let Some(until) = until {
            tokio::time::sleep_until(until.into()).await;
        }
    }

    /// Whether a transaction that made an earlier batch go back is open still: claiming more is pointless then, it would have to wait for the same.
    pub(super) async fn still_blocked(&self, state: &StorageState) -> Result<bool> {
        let blockers = state.blockers.lock().unwrap_or_else(|e| e.into_inner()).clone();
        if blockers.is_empty() {
            return Ok(false);
        }
        let open = self.db.open_transactions().await?;
        let left: Vec<_> = blockers.into_iter().filter(|b| open.iter().any(|o| o.key == b.key)).collect();
        let blocked = !left.is_empty();
        self.tell_delays(state, &left).await;
        *state.blockers.lock().unwrap_or_else(|e| e.into_inner()) = left;
        Ok(blocked)
    }

    /// Says whose transaction delays deletions, once for each when it has for long.
    pub(super) async fn tell_delays(&self, state: &StorageState, waited_for: impl IntoIterator<Item = &OpenTransaction>) {
        let say = state.met.now(waited_for);
        if say.is_empty() || !self.talks.load(Relaxed) {
            return;
        }
        // The number is worth an attempt, not an error.
        let asked = async { Ok::<_, Error>((self.db.waits(&self.claim(state, 1)).await?, self.db.now().await?)) };
        let asked = asked.await.ok();
        for t in say {
            let delay = asked.as_ref().and_then(|(waits, now)| delays(std::slice::from_ref(t), waits, *now).pop());
            let (waiting, seconds) = (delay.as_ref().map(|d| d.waiting), delay.as_ref().and_then(|d| d.seconds));
            tracing::warn!(storage = state.plan.name, waiting, seconds, "an open transaction delays deletions: {}", t.description);
        }
    }

    /// Waits, as long as patience lasts, until the transactions of every set have ended; what is left of a set is still open. `open` are those that were open
    /// a moment ago. Returns those that are still waited for.
    ///
    /// # Errors
    /// Those of the database.
    pub(super) async fn outwait(&self, open: Vec<OpenTransaction>, mut sets: Vec<&mut HashSet<String>>) -> Result<Vec<OpenTransaction>> {
        let deadline = clock::deadline(self.settings.patience);
        let mut pause = Duration::from_millis(1);
        let mut open = open;
        while sets.iter().any(|set| !set.is_empty()) && Instant::now() < deadline {
            tokio::time::sleep(pause).await;
            let asked = Instant::now();
            open = self.db.open_transactions().await?;
            pause = (pause * 2).min(Duration::from_millis(100)).max(asked.elapsed());
            let keys: HashSet<&str> = open.iter().map(|t| t.key.as_str()).collect();
            sets.iter_mut().for_each(|set| set.retain(|key| keys.contains(key.as_str())));
        }
        open.retain(|t| sets.iter().any(|set| set.contains(&t.key)));
        Ok(open)
    }
}

/// How many the next batch, or chunk, has, after one of `size` in which `done` took so long: as many as take no longer than `goal`; after a full one that took less
/// than half of it more, at most `growth` times as many.
pub(super) fn paced(size: u32, done: usize, took: Duration, goal: Duration, growth: u32, least: u32, most: u32) -> u32 {
    let fitting = (done as f64 * goal.as_secs_f64() / took.as_secs_f64()) as u32;
    if took > goal {
        fitting.max(least).min(most)
    } else if done as u32 >= size && took < goal / 2 {
        fitting.min(size.saturating_mul(growth)).min(most)
    } else {
        size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_fits_into_its_lease_whatever_a_file_takes() {
        let lease = Duration::from_secs(60);
        for each in [1, 10, 100, 1_000, 3_000].map(Duration::from_millis) {
            let mut size = FIRST;
            let mut took = Vec::new();
            for _ in 0..20 {
                took.push(each * size);
                size = paced(size, size as usize, each * size, lease / 4, BATCH_GROWTH, LEAST, 4_000);
            }
            // The first is as long as it is; all others are far from the lease.
            assert!(took[1..].iter().all(|took| *took <= lease / 2), "{each:?}: {took:?}");
            assert!(each * size * 5 >= lease / 4 || size == 4_000, "no smaller than it need be: {each:?}: {size}");
        }
        // One that was not full says nothing of larger ones.
        assert_eq!(paced(500, 3, Duration::from_millis(1), lease / 4, BATCH_GROWTH, LEAST, 4_000), 500);
    }

    #[test]
    fn a_chunk_that_was_not_full_makes_the_next_no_larger() {
        let size = AtomicU32::new(FIRST_CHUNK);
        for _ in 0..20 {
            Chunk::begin(&size).end(&size, 1);
        }
        assert_eq!(size.load(Relaxed), FIRST_CHUNK);
        Chunk::begin(&size).end(&size, FIRST_CHUNK as usize);
        assert_eq!(size.load(Relaxed), FIRST_CHUNK * CHUNK_GROWTH);
    }
}
