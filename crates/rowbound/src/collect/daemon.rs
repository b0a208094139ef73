//! Workers that go on for ever.
//!
//! In: a collector, and a signal to stop. Out: nothing; what goes wrong is said in the log and is the storage's trouble. Promise: each worker, the keeper of
//! each trash, who looks whether everything is as it was attached, what shortens the ledger, and the signs of life are loops of their own, and what fails in one
//! delays no other.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{Batch, Collector, attend, health::Whose};
use crate::{
    database::Dialect,
    error::{Error, Kind},
};

/// Without work only a storage's first worker looks for some; the others wait until somebody claims, or so many times the longest pause.
const RESERVE: u32 = 10;

/// After a worker's panic its post is empty for so long.
const AFTER_A_PANIC: Duration = Duration::from_secs(5);

/// How long the first look for new columns may take.
const FIRST_LOOK: Duration = Duration::from_secs(30);

/// Whose loop it is: a worker's, that of a trash, that of who verifies, or one that belongs to no storage: the ledger's, that of the signs of life, and that of new columns.
#[derive(Debug, Clone, Copy)]
enum Post {
    Worker(usize),
    Trash,
    Verifier,
    History,
    Heart,
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
        let mut posts = HashMap::new();
        for name in self.lanes.keys() {
            for post in (0..workers).map(Post::Worker).chain([Post::Trash, Post::Verifier]) {
                let task = tasks.spawn(self.clone().post(name.clone(), post, Duration::ZERO, stop.clone()));
                posts.insert(task.id(), (name.clone(), post));
            }
        }
        for post in self.keep_history.map(|_| Post::History).into_iter().chain([Post::Heart, Post::Surveyor]) {
            let task = tasks.spawn(self.clone().post(String::new(), post, Duration::ZERO, stop.clone()));
            posts.insert(task.id(), (String::new(), post));
        }
        while let Some(ended) = tasks.join_next_with_id().await {
            let Err(e) = ended else { continue };
            // A worker that panicked is a bug; its lease runs out. The others go on, and another takes its post.
            tracing::error!(error = %e, "a worker ended unexpectedly");
            let Some((name, post)) = posts.remove(&e.id()) else { continue };
            let e = ended_unexpectedly(e);
            let troubles = || self.lanes[&name].troubles.lock().unwrap_or_else(|e| e.into_inner());
            match post {
                Post::Worker(worker) => troubles().has(Whose::Worker(worker), &e),
                Post::Trash => troubles().has(Whose::Trash, &e),
                Post::Verifier => troubles().has(Whose::Verifier, &e),
                Post::History | Post::Heart | Post::Surveyor => {}
            }
            let task = tasks.spawn(self.clone().post(name.clone(), post, AFTER_A_PANIC, stop.clone()));
            posts.insert(task.id(), (name, post));
        }
        self.last_beat().await;
    }

    /// A loop's life, after a pause.
    async fn post(self: Arc<Self>, name: String, post: Post, pause: Duration, mut stop: watch::Receiver<bool>) {
        if !pause.is_zero() {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
        match post {
            Post::Worker(worker) => self.work(&name, worker, stop).await,
            Post::Trash => self.keep_trash(&name, stop).await,
            Post::Verifier => self.verify_often(&name, stop).await,
            Post::History => self.forget_history_hourly(stop).await,
            Post::Heart => self.heart(stop).await,
            Post::Surveyor => self.survey_often(stop).await,
        }
    }

    /// The life of a trash's keeper. What goes wrong is the storage's trouble, and is said once for each reason.
    async fn keep_trash(&self, name: &str, stop: watch::Receiver<bool>) {
        let lane = &self.lanes[name];
        let mut keeper = self.keeper(lane);
        let mut said: Option<String> = None;
        keeper
            .keep(stop, |counts, e| {
                self.count_kept(counts);
                self.note_trash(lane, e);
                let mut troubles = lane.troubles.lock().unwrap_or_else(|e| e.into_inner());
                let Some(e) = e else {
                    troubles.has_none(Whose::Trash);
                    if said.take().is_some() {
                        tracing::info!(storage = name, "the trash is kept again");
                    }
                    return;
                };
                troubles.has(Whose::Trash, e);
                // However many files have the same.
                let reason = std::error::Error::source(e).map_or_else(|| e.full(), ToString::to_string);
                if said.as_ref() != Some(&reason) {
                    tracing::error!(storage = name, kind = ?e.kind(), hint = e.hint_text(), "{}", e.full());
                }
                said = Some(reason);
            })
            .await;
    }

    /// Looks now and then whether the database is the one that was attached, and as it was, and so is the storage; puts capture back that is missing. What goes wrong
    /// is the storage's trouble, and is said once for each reason.
    async fn verify_often(&self, name: &str, mut stop: watch::Receiver<bool>) {
        let lane = &self.lanes[name];
        let mut said: Option<String> = None;
        while !*stop.borrow() {
            let found = async {
                let record = match self.guard.verify().await {
                    // Triggers that a migration dropped while it looked are put back at the second look, and nobody has to act on it.
                    Err(e) if e.kind() == Kind::Drift => self.guard.verify().await,
                    record => record,
                }?;
                // Where it costs a request, the next batch asks.
                if lane.storage.quick() { self.apart(lane, &record).await } else { Ok(()) }
            };
            let found = found.await.err();
            {
                let mut troubles = lane.troubles.lock().unwrap_or_else(|e| e.into_inner());
                match &found {
                    Some(e) => troubles.has(Whose::Verifier, e),
                    None => troubles.has_none(Whose::Verifier),
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

    /// One worker's life.
    async fn work(&self, name: &str, worker: usize, mut stop: watch::Receiver<bool>) {
        let lane = &self.lanes[name];
        let first = worker == 0;
        let troubles = || lane.troubles.lock().unwrap_or_else(|e| e.into_inner());
        let poll = self.settings.poll;
        let shortest = Duration::from_millis(20).min(poll);
        let mut idle = shortest;
        let mut trouble: Option<(String, Duration)> = None;
        let mut mended = false;
        let mut moved = Vec::new();
        while !*stop.borrow() {
            *lane.round.lock().unwrap_or_else(|e| e.into_inner()) = Instant::now();
            let attended = self.attend(lane, &mut moved, self.settings.rest).await;
            let (look, failed) = (attended.next, attended.error);
            let step = async {
                if let Some(e) = failed {
                    return Err(e);
                }
                if let Some(rest) = lane.reads_in() {
                    // Meanwhile names gather for the next reading.
                    return Ok((Batch::default(), rest));
                }
                if attend::many(&moved) {
                    return Ok((Batch::default(), shortest));
                }
                match self.db.next_due(&self.claim(lane, 1)).await? {
                    Some(wait) if wait.is_zero() => {
                        let (batch, taken) = self.begin_batch(lane).await?;
                        // Without a lease another claim would take the same candidates.
                        match self.db.dialect() {
                            Dialect::Sqlite => self.park(lane, taken, self.settings.rest).await?,
                            _ => moved.extend(taken),
                        }
                        Ok((batch, Duration::ZERO))
                    }
                    Some(wait) => Ok((Batch::default(), wait)),
                    None => Ok((Batch::default(), poll)),
                }
            };
            let pause = match step.await {
                Ok((batch, next)) => {
                    mended = false;
                    troubles().has_none(Whose::Worker(worker));
                    if trouble.take().is_some() {
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
                    troubles().has(Whose::Worker(worker), &e);
                    let text = e.full();
                    let mut wait = Duration::from_millis(100);
                    match &trouble {
                        Some((same, last)) if *same == text => wait = (*last * 2).min(Duration::from_secs(5)),
                        // Said once, not at every try.
                        _ => {
                            tracing::error!(storage = name, kind = ?e.kind(), hint = e.hint_text(), "{text}; {}", what_next(&e));
                        }
                    }
                    trouble = Some((text, wait));
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
                    () = lane.claimed.notified(), if !first => {}
                }
            }
        }
        if let Err(e) = self.park(lane, moved, Duration::ZERO).await {
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
