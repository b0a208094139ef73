//! Workers that go on for ever.
//!
//! In: a collector, and a signal to stop. Out: nothing; an error goes into the log and into the storage's health. Promise: each worker, the keeper of
//! each trash, who looks whether everything is as it was attached, what shortens the ledger, and the heartbeats are loops of their own, and what fails in one
//! delays no other.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{BatchResult, Collector, attend, health::Source};
use crate::{
    database::Dialect,
    error::{Error, Kind},
};

/// Without work only a storage's first worker looks for some; the others wait until somebody claims, or so many times the longest pause.
const RESERVE: u32 = 10;

/// A loop that panicked starts again after so long.
const AFTER_A_PANIC: Duration = Duration::from_secs(5);

/// How long the first look for new columns may take.
const FIRST_LOOK: Duration = Duration::from_secs(30);

/// A loop: a worker's, a trash's, or the verifier's of one storage; or one that belongs to no storage: the ledger's, that of heartbeats, and the survey's.
#[derive(Debug, Clone, Copy)]
enum Loop {
    Worker(usize),
    Trash,
    Verifier,
    History,
    Heartbeat,
    Surveyor,
}

impl Collector {
    /// Collects for ever: returns when `stop` becomes true, after the batches under way are settled. What goes wrong is said in the log
    /// and tried again; what fails stays in the queue.
    pub async fn run(self: Arc<Self>, stop: watch::Receiver<bool>) {
        self.talks.store(true, Relaxed);
        let workers = if self.db.dialect() == Dialect::Sqlite { 1 } else { self.settings.workers.max(1) };
        // Before anything is deleted. What goes wrong meets the loops, too.
        let mut stopped = stop.clone();
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => {}
            // Who is slow keeps nobody else waiting for longer.
            looked = tokio::time::timeout(FIRST_LOOK, self.survey(false)) => if let Ok(Err(e)) = looked {
                tracing::debug!("no look for new columns: {}", e.full());
            },
        }
        let mut tasks = tokio::task::JoinSet::new();
        let mut loops = HashMap::new();
        for name in self.storages.keys() {
            for which in (0..workers).map(Loop::Worker).chain([Loop::Trash, Loop::Verifier]) {
                let task = tasks.spawn(self.clone().run_loop(name.clone(), which, Duration::ZERO, stop.clone()));
                loops.insert(task.id(), (name.clone(), which));
            }
        }
        for which in self.keep_history.map(|_| Loop::History).into_iter().chain([Loop::Heartbeat, Loop::Surveyor]) {
            let task = tasks.spawn(self.clone().run_loop(String::new(), which, Duration::ZERO, stop.clone()));
            loops.insert(task.id(), (String::new(), which));
        }
        while let Some(ended) = tasks.join_next_with_id().await {
            let Err(e) = ended else { continue };
            // A worker that panicked is a bug; its lease runs out. The others go on, and its loop starts again.
            tracing::error!(error = %e, "a worker ended unexpectedly");
            let Some((name, which)) = loops.remove(&e.id()) else { continue };
            let e = ended_unexpectedly(e);
            let errors = || self.storages[&name].errors.lock().unwrap_or_else(|e| e.into_inner());
            match which {
                Loop::Worker(worker) => errors().set(Source::Worker(worker), &e),
                Loop::Trash => errors().set(Source::Trash, &e),
                Loop::Verifier => errors().set(Source::Verifier, &e),
                Loop::History | Loop::Heartbeat | Loop::Surveyor => {}
            }
            let task = tasks.spawn(self.clone().run_loop(name.clone(), which, AFTER_A_PANIC, stop.clone()));
            loops.insert(task.id(), (name, which));
        }
        self.last_beat().await;
    }

    /// One loop, after a pause.
    async fn run_loop(self: Arc<Self>, name: String, which: Loop, pause: Duration, mut stop: watch::Receiver<bool>) {
        if !pause.is_zero() {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
        match which {
            Loop::Worker(worker) => self.worker_loop(&name, worker, stop).await,
            Loop::Trash => self.keep_trash(&name, stop).await,
            Loop::Verifier => self.verify_often(&name, stop).await,
            Loop::History => self.forget_history_hourly(stop).await,
            Loop::Heartbeat => self.heartbeat_loop(stop).await,
            Loop::Surveyor => self.survey_often(stop).await,
        }
    }

    /// The loop of a trash's keeper. An error goes into the storage's health, and into the log once for each reason.
    async fn keep_trash(&self, name: &str, stop: watch::Receiver<bool>) {
        let state = &self.storages[name];
        let mut keeper = self.keeper(state);
        let mut said: Option<String> = None;
        keeper
            .keep(stop, |counts, e| {
                self.count_kept(counts);
                self.note_trash(state, e);
                let mut errors = state.errors.lock().unwrap_or_else(|e| e.into_inner());
                let Some(e) = e else {
                    errors.clear(Source::Trash);
                    if said.take().is_some() {
                        tracing::info!(storage = name, "the trash is kept again");
                    }
                    return;
                };
                errors.set(Source::Trash, e);
                // However many files have the same.
                let reason = std::error::Error::source(e).map_or_else(|| e.full(), ToString::to_string);
                if said.as_ref() != Some(&reason) {
                    tracing::error!(storage = name, kind = ?e.kind(), hint = e.hint_text(), "{}", e.full());
                }
                said = Some(reason);
            })
            .await;
    }

    /// Looks now and then whether the database is the one that was attached, and as it was, and so is the storage; puts capture back that is missing. An error
    /// goes into the storage's health, and into the log once for each reason.
    async fn verify_often(&self, name: &str, mut stop: watch::Receiver<bool>) {
        let state = &self.storages[name];
        let mut said: Option<String> = None;
        while !*stop.borrow() {
            let found = async {
                let record = match self.guard.verify().await {
                    // Triggers that a migration dropped while it looked are put back at the second look, and nobody has to act on it.
                    Err(e) if e.kind() == Kind::Drift => self.guard.verify().await,
                    record => record,
                }?;
                // Where it costs a request, the next batch asks.
                if state.storage.quick() { self.apart(state, &record).await } else { Ok(()) }
            };
            let found = found.await.err();
            {
                let mut errors = state.errors.lock().unwrap_or_else(|e| e.into_inner());
                match &found {
                    Some(e) => errors.set(Source::Verifier, e),
                    None => errors.clear(Source::Verifier),
                }
            }
            let text = found.as_ref().map(Error::full);
            match &found {
                // That is the workers' to say.
                Some(e) if e.kind() == Kind::DatabaseUnreachable => {}
                Some(e) if said != text => {
                    tracing::error!(storage = name, kind = ?e.kind(), hint = e.hint_text(), "{}; {}", e.full(), what_next(e));
                }
                None if said.is_some() => tracing::info!(storage = name, "everything is as it was attached again"),
                _ => {}
            }
            said = text;
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                () = tokio::time::sleep(self.settings.verify) => {}
            }
        }
    }

    /// The loop of one worker.
    async fn worker_loop(&self, name: &str, worker: usize, mut stop: watch::Receiver<bool>) {
        let state = &self.storages[name];
        let first = worker == 0;
        let errors = || state.errors.lock().unwrap_or_else(|e| e.into_inner());
        let poll = self.settings.poll;
        let shortest = Duration::from_millis(20).min(poll);
        let mut idle = shortest;
        let mut last_error: Option<(String, Duration)> = None;
        let mut mended = false;
        let mut moved = Vec::new();
        while !*stop.borrow() {
            *state.round.lock().unwrap_or_else(|e| e.into_inner()) = Instant::now();
            let attended = self.attend(state, &mut moved, self.settings.rest).await;
            let (look, failed) = (attended.next, attended.error);
            let step = async {
                if let Some(e) = failed {
                    return Err(e);
                }
                if let Some(rest) = state.reads_in() {
                    // Meanwhile names gather for the next reading.
                    return Ok((BatchResult::default(), rest));
                }
                if attend::many(&moved) {
                    return Ok((BatchResult::default(), shortest));
                }
                match self.db.next_due(&self.claim(state, 1)).await? {
                    Some(wait) if wait.is_zero() => {
                        let (batch, taken) = self.begin_batch(state).await?;
                        // Without a lease another claim would take the same candidates.
                        match self.db.dialect() {
                            Dialect::Sqlite => self.park(state, taken, self.settings.rest).await?,
                            _ => moved.extend(taken),
                        }
                        Ok((batch, Duration::ZERO))
                    }
                    Some(wait) => Ok((BatchResult::default(), wait)),
                    None => Ok((BatchResult::default(), poll)),
                }
            };
            let pause = match step.await {
                Ok((batch, next)) => {
                    mended = false;
                    errors().clear(Source::Worker(worker));
                    if last_error.take().is_some() {
                        tracing::info!(storage = name, "works again");
                    }
                    if batch.claimed > 0 {
                        idle = shortest;
                        if batch.full { Duration::ZERO } else { shortest }
                    } else if first {
                        idle = (idle * 2).min(poll);
                        idle.min(next.max(shortest))
                    } else {
                        poll.saturating_mul(RESERVE)
                    }
                }
                // Triggers that a migration dropped between two steps of a batch are put back here and that is said; nobody has to act on it.
                Err(e) if e.kind() == Kind::Drift && !mended && self.guard.verify().await.is_ok() => {
                    mended = true;
                    shortest
                }
                Err(e) => {
                    errors().set(Source::Worker(worker), &e);
                    let text = e.full();
                    let mut wait = Duration::from_millis(100);
                    match &last_error {
                        Some((same, last)) if *same == text => wait = (*last * 2).min(Duration::from_secs(5)),
                        // Said once, not at every try.
                        _ => {
                            tracing::error!(storage = name, kind = ?e.kind(), hint = e.hint_text(), "{text}; {}", what_next(&e));
                        }
                    }
                    last_error = Some((text, wait));
                    wait
                }
            };
            let pause = match look {
                Some(next) => pause.min(next),
                None if !moved.is_empty() => pause.min(self.settings.rest),
                None => pause,
            };
            if !pause.is_zero() {
                tokio::select! {
                    // Who could say stop is gone: nobody will.
                    changed = stop.changed() => if changed.is_err() { break },
                    () = tokio::time::sleep(pause) => {}
                    () = state.claimed.notified(), if !first => {}
                }
            }
        }
        if let Err(e) = self.park(state, moved, Duration::ZERO).await {
            // Their leases run out.
            tracing::error!(storage = name, kind = ?e.kind(), hint = e.hint_text(), "{}", e.full());
        }
    }
}

/// A worker's task panicked, which is a fault of ours.
pub(super) fn ended_unexpectedly(e: tokio::task::JoinError) -> Error {
    Error::new(Kind::Bug, "a worker ended unexpectedly").because(e).hint("report it; its candidates are tried again")
}

/// What is done after an error that ends no loop.
fn what_next(e: &Error) -> &'static str {
    match e.kind() {
        Kind::DatabaseUnreachable => "it waits for the database",
        Kind::StorageUnreachable => "it waits for the storage",
        _ => "it is tried again",
    }
}
