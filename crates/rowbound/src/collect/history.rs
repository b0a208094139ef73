//! Old entries leave the ledger: `keep_history`.
//!
//! In: how long they are kept. Out: fewer entries. Promise: what something still needs stays ([`Ledger::forget_entries`](crate::database::Ledger)); a
//! failure is said and keeps nothing else from its work.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::{Collector, CurrentError};
use crate::{clock, error::Result, trash::WINDOW};

/// `run` looks so often.
const EVERY: Duration = Duration::from_secs(3600);

/// After a failure.
const AGAIN: Duration = Duration::from_secs(60);

/// Entries of one statement, so that it holds locks for a moment only.
const PAGE: u32 = 1_000;

/// Between two statements at least.
const REST: Duration = Duration::from_millis(5);

impl Collector {
    /// Removes what is old enough, a page at a time, with rests as long as a page took. Returns how many entries went.
    ///
    /// # Errors
    /// The database's; what stops deletion stops this, too: a copy's ledger is not its own.
    pub(super) async fn forget_history(&self, stop: &watch::Receiver<bool>) -> Result<u64> {
        let Some(keep) = self.keep_history else { return Ok(0) };
        self.guard.verify().await?;
        let before = clock::before(self.db.now().await?, keep.max(WINDOW));
        let (mut removed, mut after) = (0, 0);
        while !*stop.borrow() {
            let began = Instant::now();
            let done = self.db.forget_entries(before, after, PAGE).await?;
            removed += done.removed;
            let Some(next) = done.next else { break };
            after = next;
            tokio::time::sleep(began.elapsed().max(REST)).await;
        }
        Ok(removed)
    }

    /// The same, with a failure noted in the summary instead. Who drains again and again looks no more often than `run`.
    pub(super) async fn forget_history_once(&self, stop: &watch::Receiver<bool>) {
        if self.forgot.lock().unwrap_or_else(|e| e.into_inner()).is_some_and(|at| at.elapsed() < EVERY) {
            return;
        }
        let done = self.forget_history(stop).await;
        *self.forgot.lock().unwrap_or_else(|e| e.into_inner()) = done.is_ok().then(Instant::now);
        self.total.lock().unwrap_or_else(|e| e.into_inner()).history = done.err().map(|e| CurrentError::of(&e));
    }

    /// Every hour, until `stop` becomes true.
    pub(super) async fn forget_history_hourly(&self, mut stop: watch::Receiver<bool>) {
        let mut said: Option<String> = None;
        while !*stop.borrow() {
            let done = self.forget_history(&stop).await;
            self.total.lock().unwrap_or_else(|e| e.into_inner()).history = done.as_ref().err().map(CurrentError::of);
            let pause = match done {
                Ok(removed) => {
                    if removed > 0 {
                        tracing::info!(removed, "old entries left the ledger");
                    }
                    said = None;
                    EVERY
                }
                Err(e) => {
                    let text = e.full();
                    // Said once, not at every try.
                    if said.as_ref() != Some(&text) {
                        tracing::error!(kind = ?e.kind(), hint = e.hint_text(), "old entries stay in the ledger: {text}");
                    }
                    said = Some(text);
                    AGAIN
                }
            };
            tokio::select! {
                // Who could say stop is gone: nobody will.
                changed = stop.changed() => if changed.is_err() { break },
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}
