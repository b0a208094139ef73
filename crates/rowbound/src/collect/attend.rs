//! Moved batches wait for their second barrier, and the worker goes on with others.
//!
//! In: batches whose files lie in the trash. Out: their settlements, when the barrier has passed. Promise: nothing is settled as deleted before, and what is
//! referenced comes back meanwhile, however long a transaction is open.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    Collector, StorageState, Summary,
    steps::{Moved, Settled},
};
use crate::{
    database::OpenTransaction,
    error::{Error, Kind, Result},
    trace,
};

/// A moved batch whose second barrier does not pass is checked so often all the same: what is referenced comes back, whatever else is open. Where a column
/// must be read whole, that is done less often.
const LOOK_AFTER: Duration = Duration::from_secs(3);
const READ_AFTER: Duration = Duration::from_secs(60);

/// So many files may wait for their second barrier in a worker's memory before it claims no more: each takes about 1.3 kB.
const MOVED: usize = 20_000;

/// How often open transactions are looked at while a moved batch waits for them.
const BARRIER_POLL: Duration = Duration::from_millis(200);

/// After the list of open transactions could not be had in time.
const BUSY_POLL: Duration = Duration::from_secs(1);

/// What came of going on with moved batches.
#[derive(Debug, Default)]
pub(super) struct Attended {
    /// When to look again.
    pub(super) next: Option<Duration>,
    pub(super) derived: u64,
    pub(super) summary: Summary,
    pub(super) error: Option<Error>,
}

impl Attended {
    fn within(&mut self, time: Duration) {
        self.next = Some(self.next.map_or(time, |next| next.min(time)));
    }
}

/// Whether a worker claims no more until some of these are settled.
pub(super) fn many(moved: &[Moved]) -> bool {
    moved.iter().map(Moved::len).sum::<usize>() >= MOVED
}

impl Collector {
    /// Goes on with moved batches: notes their second barrier when they have rested, and settles those whose barrier has passed.
    pub(super) async fn attend(&self, state: &StorageState, moved: &mut Vec<Moved>, rest: Duration) -> Attended {
        let mut done = Attended::default();
        if moved.is_empty() {
            return done;
        }
        let (asked, asked_at) = (Instant::now(), trace::now());
        let open = match moved.iter().any(|m| m.barrier.is_some() || m.at.elapsed() >= rest) {
            true => match self.db.open_transactions().await {
                Ok(open) => open,
                // A list that could not be had in time says nothing: the barrier has not passed yet.
                Err(e) if e.kind() == Kind::Busy => {
                    done.within(BUSY_POLL);
                    return done;
                }
                Err(e) => return Attended { error: Some(e), ..done },
            },
            false => Vec::new(),
        };
        // Where a look is dear (MariaDB gives about nine a second to all who ask), it is not asked for all the time.
        let poll = BARRIER_POLL.max(asked.elapsed() * 5);
        let mut waits: BTreeMap<&str, &OpenTransaction> = BTreeMap::new();
        for mut m in std::mem::take(moved) {
            if m.confirmed.elapsed() > self.settings.lease / 3
                && let Err(e) = m.renew(self).await
            {
                done.error.get_or_insert(e);
            }
            if m.barrier.is_none() {
                if let Some(left) = rest.checked_sub(m.at.elapsed()).filter(|left| !left.is_zero()) {
                    done.within(left);
                    moved.push(m);
                    continue;
                }
                m.note_barrier(asked_at, open.iter().map(|t| t.key.clone()));
            }
            let left = m.barrier.get_or_insert_default();
            left.retain(|key| open.iter().any(|t| t.key == *key));
            if left.is_empty() {
                self.settle_moved(state, m, &mut done).await;
                continue;
            }
            waits.extend(open.iter().filter(|t| left.contains(&t.key)).map(|t| (t.key.as_str(), t)));
            done.within(poll);
            if m.checked.elapsed() > if state.scans { READ_AFTER } else { LOOK_AFTER } {
                match m.look_after(self, state).await {
                    Ok((settled, rest)) => {
                        if let Err(e) = self.finish_part(state, settled, &mut done).await {
                            done.error.get_or_insert(e);
                        }
                        if rest.len() > 0 {
                            moved.push(rest);
                        }
                    }
                    Err((e, rest)) => {
                        done.error.get_or_insert(e);
                        moved.push(*rest);
                    }
                }
                continue;
            }
            moved.push(m);
        }
        self.tell_delays(state, waits.values().copied()).await;
        *state.waited_for.lock().unwrap_or_else(|e| e.into_inner()) = waits.into_values().map(|t| t.description.clone()).collect();
        done
    }

    async fn settle_moved(&self, state: &StorageState, m: Moved, done: &mut Attended) {
        let settled = match m.check_again(self, state).await {
            Ok(again) => again.bring_back(self, state).await,
            Err((e, parked)) => {
                done.error.get_or_insert(e);
                Ok(parked)
            }
        };
        let finished = match settled {
            Ok(settled) => self.finish_part(state, settled, done).await,
            Err(e) => Err(e),
        };
        if let Err(e) = finished {
            done.error.get_or_insert(e);
        }
    }

    async fn finish_part(&self, state: &StorageState, settled: Settled, done: &mut Attended) -> Result<()> {
        let derived = settled.0.settlement.derived.len() as u64;
        let summary = settled.0.summary.clone();
        self.finish(state, settled, None).await?;
        done.derived += derived;
        done.summary.add(&summary);
        Ok(())
    }

    /// Puts moved batches back into the queue, due after `wait`: the worker that claims them goes on with the second barrier that was noted.
    pub(super) async fn park(&self, state: &StorageState, moved: Vec<Moved>, wait: Duration) -> Result<()> {
        if moved.is_empty() {
            return Ok(());
        }
        let asked_at = trace::now();
        let open = self.db.open_transactions().await?;
        for m in moved {
            self.finish(state, m.park(wait, asked_at, &open), None).await?;
        }
        Ok(())
    }
}
