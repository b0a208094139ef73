//! Signs of life.
//!
//! In: a collector that works. Out: its sign, in the database's own time. Promise: a collector whose workers do not come round gives none,
//! so that somebody looks after it.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::{Collector, Lane};
use crate::heartbeat::{Beat, EVERY, Job};

/// A worker that has not come round for so long hangs in a storage or in the database: nothing that it does takes longer.
const HANGS: Duration = Duration::from_secs(10 * 60);

impl Collector {
    fn beat(&self, job: Job, every: u64, ended: bool) -> Beat {
        let clock = self.lanes.iter().find_map(|(name, lane)| lane.clocks.known()?.apart(name)).map(|e| e.full());
        Beat { job, place: self.owner.clone(), since: self.since, every, ended, clock }
    }

    /// Gives a sign now and then, until `stop` becomes true. What keeps it from the database is the workers' trouble, too, and is said by
    /// them.
    pub(super) async fn heart(&self, mut stop: watch::Receiver<bool>) {
        let mut hung = false;
        while !*stop.borrow() {
            let round = |lane: &Lane| lane.round.lock().unwrap_or_else(|e| e.into_inner()).elapsed();
            let hangs = self.lanes.iter().find(|(_, lane)| round(lane) > HANGS);
            match hangs {
                Some((storage, lane)) if !hung => {
                    let minutes = round(lane).as_secs() / 60;
                    tracing::error!(
                        storage,
                        "its worker has not come round for {minutes} min: the storage or the database does not answer"
                    );
                }
                None if hung => tracing::info!("the workers come round again"),
                _ => {}
            }
            hung = hangs.is_some();
            if !hung && let Err(e) = self.db.beat(&self.beat(Job::Run, 0, false)).await {
                tracing::debug!("cannot give a sign of life: {}", e.full());
            }
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }

    /// The last sign of a collector that ends as it should.
    pub(super) async fn last_beat(&self) {
        if let Err(e) = self.db.beat(&self.beat(Job::Run, 0, true)).await {
            tracing::debug!("cannot say that this worker has ended: {}", e.full());
        }
    }

    /// A drain has ended. The time since the one before it tells when the next is to be expected. Who drains again and again gives no more
    /// signs than `run`.
    pub(super) async fn drained(&self) {
        if self.drained_at.lock().unwrap_or_else(|e| e.into_inner()).is_some_and(|at| at.elapsed() < EVERY) {
            return;
        }
        *self.drained_at.lock().unwrap_or_else(|e| e.into_inner()) = Some(Instant::now());
        let beat = self.beat(Job::Collect, 0, true);
        let told = async {
            let before = self.db.beats().await?.into_iter().find(|h| h.beat.key() == beat.key());
            // Two in a row by hand are no timer.
            let every = before.map_or(0, |h| if h.seconds < EVERY.as_secs() { h.beat.every } else { h.seconds });
            self.db.beat(&Beat { every, ..beat }).await
        };
        if let Err(e) = told.await {
            tracing::warn!("cannot give a sign of life: {}", e.full());
        }
    }
}
