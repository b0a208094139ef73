//! Heartbeats.
//!
//! In: a collector that works. Out: its heartbeat, in the database's own time. Promise: a collector whose workers do not come round gives none,
//! so that somebody looks after it.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::{Collector, StorageState};
use crate::heartbeat::{EVERY, Heartbeat, Job};

/// A worker that has not come round for so long hangs in a storage or in the database: nothing that it does takes longer.
const HANGS: Duration = Duration::from_secs(10 * 60);

impl Collector {
    fn beat(&self, job: Job, every: u64, ended: bool) -> Heartbeat {
        let clock = self.storages.iter().find_map(|(name, state)| state.clocks.known()?.apart(name)).map(|e| e.full());
        Heartbeat { job, place: self.owner.clone(), since: self.since, every, ended, clock }
    }

    /// Writes a heartbeat now and then, until `stop` becomes true. An error of the database is the workers' too, and they
    /// report it.
    pub(super) async fn heartbeat_loop(&self, mut stop: watch::Receiver<bool>) {
        let mut hung = false;
        while !*stop.borrow() {
            let round = |state: &StorageState| state.round.lock().unwrap_or_else(|e| e.into_inner()).elapsed();
            let hangs = self.storages.iter().find(|(_, state)| round(state) > HANGS);
            match hangs {
                Some((storage, state)) if !hung => {
                    let minutes = round(state).as_secs() / 60;
                    tracing::error!(
                        storage,
                        "its worker has not come round for {minutes} min: the storage or the database does not answer"
                    );
                }
                None if hung => tracing::info!("the workers come round again"),
                _ => {}
            }
            hung = hangs.is_some();
            if !hung && let Err(e) = self.db.heartbeat(&self.beat(Job::Run, 0, false)).await {
                tracing::debug!("cannot write a heartbeat: {}", e.full());
            }
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }

    /// The last heartbeat of a collector that ends as it should.
    pub(super) async fn last_beat(&self) {
        if let Err(e) = self.db.heartbeat(&self.beat(Job::Run, 0, true)).await {
            tracing::debug!("cannot say that this worker has ended: {}", e.full());
        }
    }

    /// A drain has ended. The time since the one before it tells when the next is to be expected. Who drains again and again writes no more
    /// heartbeats than `run`.
    pub(super) async fn drained(&self) {
        if self.drained_at.lock().unwrap_or_else(|e| e.into_inner()).is_some_and(|at| at.elapsed() < EVERY) {
            return;
        }
        *self.drained_at.lock().unwrap_or_else(|e| e.into_inner()) = Some(Instant::now());
        let beat = self.beat(Job::Collect, 0, true);
        let told = async {
            let before = self.db.heartbeats().await?.into_iter().find(|h| h.beat.key() == beat.key());
            // Two in a row by hand are no timer.
            let every = before.map_or(0, |h| if h.seconds < EVERY.as_secs() { h.beat.every } else { h.seconds });
            self.db.heartbeat(&Heartbeat { every, ..beat }).await
        };
        if let Err(e) = told.await {
            tracing::warn!("cannot write a heartbeat: {}", e.full());
        }
    }
}
