//! A collector within an application.
//!
//! In: a plan, an open database. Out: a [`Worker`], which collects on the application's own runtime until it is stopped, and answers how healthy it is. Promise: it
//! never ends by itself. What is away is waited for; what stops it for safety (drift, a copy of the database) keeps it stopped until a person has acted;
//! on SQLite, where one process collects, the others stand by and one of them takes over.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, Weak},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::watch;

use crate::{
    collect::{Collector, CurrentError, Metrics, Settings},
    database::Database,
    error::{Error, Kind},
    plan::Plan,
};

/// Between two tries to begin.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How often the lock of a SQLite database is tried for.
const STANDBY: Duration = Duration::from_millis(500);

/// [`Worker::health`] asks the database no more often than this,
const FRESH: Duration = Duration::from_secs(1);

/// and waits no longer for its answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum State {
    /// It has not looked yet.
    Starting,
    /// It collects. A storage is looked at when there is something to collect in it, and not before.
    Running,
    /// Another process collects on this SQLite database; this one takes over when that ends.
    Standby,
    /// The database or a storage is away or fails: it tries again by itself. Other storages are collected meanwhile.
    Waiting,
    /// Stopped for safety: the database is not as attached. It goes on when a person has acted (`rowbound attach`).
    Stopped,
    /// [`Worker::stop`] was called, or the runtime ended.
    Ended,
}

/// The health of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// What it does.
    pub state: State,
    /// Since when.
    pub since: Timestamp,
    /// Why it waits, stands by or is stopped.
    pub why: Option<CurrentError>,
    /// When it settled a batch last; `None`: not since its start.
    pub last_batch: Option<Timestamp>,
    /// Candidates that wait, as others here: `None` when the database did not say.
    pub backlog: Option<u64>,
    /// Those that are due.
    pub due: Option<u64>,
    /// Those that failed before and are tried again.
    pub failing: Option<u64>,
    /// Age of the oldest in seconds; `None` also when none waits.
    pub oldest_seconds: Option<u64>,
    /// The same by storage.
    pub storages: BTreeMap<String, StorageHealth>,
}

/// The health of one storage, within a worker's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StorageHealth {
    /// What keeps its files from being collected.
    pub why: Option<CurrentError>,
    /// When a batch of it was settled last.
    pub last_batch: Option<Timestamp>,
    /// Open transactions that its candidates wait for.
    pub transactions: Vec<String>,
    /// Candidates that wait.
    pub backlog: Option<u64>,
    /// Those that are due.
    pub due: Option<u64>,
    /// Those that failed before and are tried again.
    pub failing: Option<u64>,
    /// Age of the oldest in seconds.
    pub oldest_seconds: Option<u64>,
}

impl Health {
    /// Whether all is as it should be: files are collected, by this process or by another one.
    pub fn is_well(&self) -> bool {
        matches!(self.state, State::Running | State::Standby)
    }
}

/// A collector that runs within an application. Dropping it stops it: the batch under way is finished by the runtime.
#[derive(Debug)]
pub struct Worker {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    ended: watch::Receiver<()>,
}

#[derive(Debug)]
struct Shared {
    phase: Mutex<Phase>,
    figures: tokio::sync::Mutex<Option<(Instant, Option<Metrics>)>>,
}

/// What it does as long as no collector runs, and the one that does.
#[derive(Debug, Clone)]
struct Phase {
    state: State,
    since: Timestamp,
    why: Option<CurrentError>,
    collector: Weak<Collector>,
}

impl Shared {
    fn phase(&self) -> Phase {
        self.phase.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// Goes over to another state; one that goes on keeps its beginning.
    fn now(&self, state: State, why: Option<CurrentError>, collector: Weak<Collector>) {
        let mut phase = self.phase.lock().unwrap_or_else(|e| e.into_inner());
        let since = if phase.state == state { phase.since } else { Timestamp::now() };
        let why = why.map(|new| match &phase.why {
            Some(old) if old.kind == new.kind => CurrentError { since: old.since, ..new },
            _ => new,
        });
        *phase = Phase { state, since, why, collector };
    }
}

impl Worker {
    /// Starts collecting on the current runtime.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(plan: Plan, db: Arc<dyn Database>, settings: Settings) -> Worker {
        let phase = Phase { state: State::Starting, since: Timestamp::now(), why: None, collector: Weak::new() };
        let shared = Arc::new(Shared { phase: Mutex::new(phase), figures: tokio::sync::Mutex::default() });
        let (stop, stopping) = watch::channel(false);
        let (alive, ended) = watch::channel(());
        let theirs = shared.clone();
        tokio::spawn(async move {
            // Dropped at the end, however it comes.
            let _alive = alive;
            live(&plan, db, settings, &theirs, stopping).await;
            theirs.now(State::Ended, None, Weak::new());
        });
        Worker { shared, stop, ended }
    }

    /// Its health. Asks the database for what waits, at most once a second and for at most two seconds.
    pub async fn health(&self) -> Health {
        let phase = self.shared.phase();
        // The task that holds the sender of `ended` is alive.
        if phase.state == State::Ended || self.ended.has_changed().is_err() {
            let e = Error::new(Kind::Bug, "the worker was given up").hint("did its runtime end before `stop` was called?");
            let why = (!*self.stop.borrow()).then(|| CurrentError::of(&e));
            return Health::of(State::Ended, phase.since, why);
        }
        let Some(collector) = phase.collector.upgrade() else { return Health::of(phase.state, phase.since, phase.why) };
        let by_storage = collector.health();
        let figures = self.figures(&collector).await;
        drop(collector);
        let errors = by_storage.values().filter_map(|s| s.error.as_ref());
        let mut health = match errors.min_by_key(|t| (!t.is_stop(), t.since)) {
            Some(worst) if worst.is_stop() => Health::of(State::Stopped, worst.since, Some(worst.clone())),
            Some(worst) => Health::of(State::Waiting, worst.since, Some(worst.clone())),
            None => Health::of(State::Running, by_storage.values().map(|s| s.since).max().unwrap_or(phase.since), None),
        };
        for (name, storage) in by_storage {
            let own = figures.as_ref().and_then(|f| f.storages.get(&name));
            health.last_batch = health.last_batch.max(storage.last_batch);
            let storage = StorageHealth {
                why: storage.error,
                last_batch: storage.last_batch,
                transactions: storage.transactions,
                backlog: own.map(|s| s.backlog),
                due: own.map(|s| s.due),
                failing: own.map(|s| s.failing),
                oldest_seconds: own.and_then(|s| s.oldest_seconds),
            };
            health.storages.insert(name, storage);
        }
        let sum = |of: fn(&StorageHealth) -> Option<u64>| figures.as_ref().map(|_| health.storages.values().filter_map(of).sum());
        (health.backlog, health.due, health.failing) = (sum(|s| s.backlog), sum(|s| s.due), sum(|s| s.failing));
        health.oldest_seconds = health.storages.values().filter_map(|s| s.oldest_seconds).max();
        health
    }

    /// What waits, as the database says; `None` if it does not.
    async fn figures(&self, collector: &Collector) -> Option<Metrics> {
        // One asks, the others wait for its answer.
        let mut known = self.shared.figures.lock().await;
        match &*known {
            Some((at, figures)) if at.elapsed() < FRESH => figures.clone(),
            _ => {
                let figures = tokio::time::timeout(PATIENCE, collector.metrics()).await.ok().and_then(Result::ok);
                *known = Some((Instant::now(), figures.clone()));
                figures
            }
        }
    }

    /// Ends it: the batches under way are settled when this returns, and on SQLite another process may collect.
    pub async fn stop(&self) {
        self.stop.send_replace(true);
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
    }
}

impl Drop for Worker {
    /// Without waiting: an abortion would cut a batch short, which is safe, but leaves it to be done again.
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

impl Health {
    fn of(state: State, since: Timestamp, why: Option<CurrentError>) -> Self {
        Health {
            state,
            since,
            why,
            last_batch: None,
            backlog: None,
            due: None,
            failing: None,
            oldest_seconds: None,
            storages: BTreeMap::new(),
        }
    }
}

/// Begins until it can, then collects until `stop` becomes true.
async fn live(plan: &Plan, db: Arc<dyn Database>, settings: Settings, shared: &Shared, mut stop: watch::Receiver<bool>) {
    let mut pause = PAUSES.0;
    let mut said = None;
    loop {
        let begun = tokio::select! {
            // Given up in the middle, a beginning leaves nothing behind.
            _ = stop.wait_for(|stop| *stop) => return,
            begun = begin(plan, &db, &settings) => begun,
        };
        let (state, why) = match begun {
            Begun::Collector(collector) => {
                tracing::info!(database = crate::database::redact(&plan.database), "collecting");
                shared.now(State::Running, None, Arc::downgrade(&collector));
                collector.clone().run(stop).await;
                // A caller that asks for its health at this moment still holds the collector.
                collector.release_lock();
                tracing::info!("collecting ended");
                return;
            }
            Begun::Standby(e) => {
                pause = STANDBY;
                (State::Standby, CurrentError { hint: None, ..CurrentError::of(&e) })
            }
            Begun::Not(e) => {
                let why = CurrentError::of(&e);
                (if why.is_stop() { State::Stopped } else { State::Waiting }, why)
            }
        };
        // Said once, not at every try.
        if said.as_ref() != Some(&why.message) {
            match state {
                State::Standby => tracing::info!("{}: standing by", why.message),
                _ => tracing::error!(kind = ?why.kind, hint = why.hint.as_deref(), "{}", why.message),
            }
            said = Some(why.message.clone());
        }
        shared.now(state, Some(why), Weak::new());
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSES.1),
        }
    }
}

enum Begun {
    Collector(Arc<Collector>),
    Standby(Error),
    Not(Error),
}

async fn begin(plan: &Plan, db: &Arc<dyn Database>, settings: &Settings) -> Begun {
    let lock = match db.lock_worker().await {
        Ok(lock) => lock,
        Err(e) if e.kind() == Kind::Busy => return Begun::Standby(e),
        Err(e) => return Begun::Not(e),
    };
    match Collector::with_lock(plan, db.clone(), settings.clone(), lock).await {
        Ok(collector) => Begun::Collector(Arc::new(collector)),
        Err(e) => Begun::Not(e),
    }
}
