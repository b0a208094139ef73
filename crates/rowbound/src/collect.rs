//! Collect: the only deleter.
//!
//! In: due candidates. Out: settlements. The order of the steps is the safety argument (ARCHITECTURE.md): claim, wait for
//! open transactions, look at the files, check for references, move to the trash, rest and wait again, check again, settle. They are types
//! (`collect/steps.rs`). A process killed between any two steps loses nothing: its lease runs out, the next worker repeats the work, and every step is
//! idempotent.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use rand::Rng;
use tokio::sync::watch;

use crate::{
    attach::{Looks, apart, open_storages},
    capture::Installation,
    clock,
    database::{Database, Dialect, LockGuard},
    error::{Error, Kind, Result},
    guard::{Guard, installed, same_bindings},
    ledger::Filter,
    plan::{Plan, Trash},
    queue::{Claim, Outcome},
    trash::Keeper,
};

pub(crate) mod age; // how old a file is, and whether that is old enough
mod attend; // moved batches, until their second barrier has passed
mod batch; // one batch, from claim to settlement
mod daemon; // workers that go on for ever
mod derived; // what was made from a file that goes; what a file was made from
mod heartbeat; // heartbeats
mod health; // the errors of its loops
mod history; // old entries leave the ledger
mod storage_state; // one storage, with what the collector keeps about it
mod metrics; // what it counts, for export
mod moved_twice; // one file, two candidates: told once
mod narrow; // a batch that fails as a whole
mod hold_until_done; // a lock that is held until the storage has ended, whatever becomes of the caller
mod pace; // barriers, sizes, rests
mod steps; // one batch, step by step
mod summary; // what a collector did
mod suspects; // a batch whose worker died
mod surveys; // what came since the database was attached
mod verdict; // a candidate's end -> settlement

pub use crate::guard::attached;
pub use batch::BatchResult;
use batch::{Claimant, Done};
pub use health::{CollectorHealth, CurrentError};
use metrics::Counters;
pub use metrics::{Metrics, StorageMetrics};
use steps::Moved;
use storage_state::StorageState;
pub use summary::Summary;

/// A drain that has nothing else to do notes the second barrier so soon after a move.
const SHORT_REST: Duration = Duration::from_millis(50);

/// How a collector works. The defaults suit production.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Candidates per batch. Default: 4,000; on SQLite it follows the time for which the write lock is held.
    pub batch: u32,
    /// How long a claim holds before another worker may take over. Default: 60 s.
    pub lease: Duration,
    /// How long a batch waits for open transactions before it is put back. Default: 2 s.
    pub patience: Duration,
    /// How long after a move to the trash the transactions are noted that must end before it is final. Default: 1 s; a drain that has nothing else to do
    /// waits less.
    pub rest: Duration,
    /// Workers per storage; SQLite has one. Default: 2.
    pub workers: usize,
    /// The longest pause between two looks at an empty queue. Default: 1 s.
    pub poll: Duration,
    /// How often an idle collector verifies capture. Default: 2 s.
    pub verify: Duration,
    /// How often a collector looks for columns that came since the database was attached, and for values that need a deeper check. Default: 60 s; longer where
    /// that would take more than a twentieth of the time.
    pub survey: Duration,
    /// Whether candidates that wait after a failure are tried at once. Default: no.
    pub retry_now: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            batch: 4_000,
            lease: Duration::from_secs(60),
            patience: Duration::from_secs(2),
            rest: Duration::from_secs(1),
            workers: 2,
            poll: Duration::from_secs(1),
            verify: Duration::from_secs(2),
            survey: surveys::DEFAULT,
            retry_now: false,
        }
    }
}

/// The collector of one plan.
#[derive(Debug)]
pub struct Collector {
    db: Arc<dyn Database>,
    guard: Arc<Guard>,
    storages: BTreeMap<String, StorageState>,
    settings: Settings,
    owner: String,
    total: Mutex<Summary>,
    since: Timestamp,
    /// How long entries stay in the ledger; `None`: for ever.
    keep_history: Option<Duration>,
    /// When a drain has looked for older ones, and when one has written its heartbeat.
    forgot: Mutex<Option<Instant>>,
    drained_at: Mutex<Option<Instant>>,
    /// When a drain has looked for new columns.
    surveyed: Mutex<Option<Instant>>,
    counters: Counters,
    /// Whether each settlement is said in the log.
    talks: AtomicBool,
    /// Batches that were begun.
    batches: AtomicU64,
    /// SQLite: the right to be the only worker.
    worker_lock: Mutex<Option<LockGuard>>,
    /// Where the storages were a moment ago.
    looks: Looks,
}

impl Collector {
    /// A collector for a plan that is attached.
    ///
    /// # Errors
    /// [`Kind::NotAttached`] when the database or one of the bindings is not; [`Kind::Identity`] on a copy; [`Kind::Busy`] when a SQLite
    /// database has its worker already.
    pub async fn new(plan: &Plan, db: Arc<dyn Database>, settings: Settings) -> Result<Self> {
        // Before the lock is waited for.
        same_bindings(plan, &installed(db.as_ref()).await?)?;
        let lock = db.lock_worker().await?;
        Self::with_lock(plan, db, settings, lock).await
    }

    /// The same with the lock that [`Database::lock_worker`] has given.
    pub(crate) async fn with_lock(plan: &Plan, db: Arc<dyn Database>, settings: Settings, lock: Option<LockGuard>) -> Result<Self> {
        let record = installed(db.as_ref()).await?;
        let guard = Arc::new(Guard::new(plan, db.clone(), &record)?);
        let mut storages = BTreeMap::new();
        for (name, storage) in open_storages(plan)? {
            let id = record.storages.get(&name).ok_or_else(|| {
                Error::new(Kind::NotAttached, "this storage is not attached yet").with("storage", &name).hint("rowbound attach")
            })?;
            storage.expect(id);
            let state = StorageState::new(plan, &guard, &name, storage, &db, settings.batch)?;
            storages.insert(name, state);
        }
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let owner = format!("{host}:{}:{:08x}", std::process::id(), rand::rng().random::<u32>());
        Ok(Collector {
            db,
            guard,
            storages,
            settings,
            owner,
            total: Mutex::default(),
            since: Timestamp::now(),
            keep_history: plan.keep_history,
            forgot: Mutex::new(None),
            drained_at: Mutex::new(None),
            surveyed: Mutex::new(None),
            counters: Counters::default(),
            talks: AtomicBool::new(false),
            batches: AtomicU64::new(0),
            worker_lock: Mutex::new(lock),
            looks: Looks::default(),
        })
    }

    /// Releases the lock, so that another process may collect: after the end of [`Collector::run`].
    pub(crate) fn release_lock(&self) {
        self.worker_lock.lock().unwrap_or_else(|e| e.into_inner()).take();
    }

    /// The health of each storage, as [`Collector::run`] sees it. Asks nobody.
    pub fn health(&self) -> BTreeMap<String, CollectorHealth> {
        let of = |state: &StorageState| {
            let errors = state.errors.lock().unwrap_or_else(|e| e.into_inner());
            let waited_for = state.waited_for.lock().unwrap_or_else(|e| e.into_inner());
            let blockers = state.blockers.lock().unwrap_or_else(|e| e.into_inner());
            CollectorHealth {
                error: errors.worst().cloned(),
                since: errors.worst().map_or(errors.none_since, |t| t.since),
                last_batch: *state.settled.lock().unwrap_or_else(|e| e.into_inner()),
                transactions: blockers.iter().map(|b| b.description.clone()).chain(waited_for.iter().cloned()).collect(),
            }
        };
        self.storages.iter().map(|(name, state)| (name.clone(), of(state))).collect()
    }

    /// What was done so far, by all workers of this collector.
    pub fn summary(&self) -> Summary {
        self.total.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// Its figures: counted since its start, by all its workers, and what waits now, out of the database.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn metrics(&self) -> Result<Metrics> {
        let mut storages = BTreeMap::new();
        for (name, state) in &self.storages {
            let waits = self.db.backlog(&self.claim(state, 1)).await?;
            let figures = StorageMetrics {
                requests: state.storage.requests(),
                backlog: waits.total,
                due: waits.due,
                failing: waits.failing,
                oldest_seconds: waits.oldest_seconds,
            };
            storages.insert(name.clone(), figures);
        }
        let summary = self.summary();
        let count = |outcomes: &[Outcome]| outcomes.iter().map(|o| summary.count(*o)).sum();
        Ok(Metrics {
            since: self.since,
            claimed: self.counters.claimed.load(Relaxed),
            released: summary.settled(),
            kept: count(&[Outcome::Kept, Outcome::Protected]),
            deleted: count(&[Outcome::Erased, Outcome::Trashed]),
            failed: summary.failed,
            waiting: summary.waiting,
            purged: self.counters.purged.load(Relaxed),
            bytes_trashed: self.counters.bytes_trashed.load(Relaxed),
            bytes_freed: self.counters.bytes_freed.load(Relaxed),
            storages,
            outcomes: summary.outcomes,
        })
    }

    /// The installation record, if capture is whole. Where only triggers are missing (a table was rebuilt, a partition was attached) they
    /// are put back and the gap is recorded.
    ///
    /// # Errors
    /// [`Kind::Drift`] when a person has to look: a bound column is gone or another one.
    pub async fn verify(&self) -> Result<Installation> {
        self.guard.verify().await
    }

    /// Collects what is due on every storage now, then empties the trash of what has waited long enough. What is released
    /// meanwhile is another drain's: under an application that never rests, "until nothing is due" would never end. Last, old entries leave the ledger.
    ///
    /// # Errors
    /// The first error that stopped a storage; other storages are drained all the same. A file of the trash that could not be erased stops nothing:
    /// see [`Summary::trash`]. So does what keeps old entries in the ledger: [`Summary::history`].
    pub async fn drain(&self, stop: &watch::Receiver<bool>) -> Result<Summary> {
        self.drain_by(None, stop).await
    }

    /// The same, with each worker a task of its own: on a runtime of several threads they work side by side.
    ///
    /// # Errors
    /// Those of [`Collector::drain`].
    pub async fn drain_with_tasks(self: &Arc<Self>, stop: &watch::Receiver<bool>) -> Result<Summary> {
        self.drain_by(Some(self), stop).await
    }

    async fn drain_by(&self, tasks: Option<&Arc<Self>>, stop: &watch::Receiver<bool>) -> Result<Summary> {
        let mut first = None;
        for (name, state) in &self.storages {
            if let Err(e) = self.drain_storage(state, tasks, stop).await {
                first.get_or_insert(e.with("storage", name));
            }
        }
        match first {
            Some(e) => Err(e),
            None => {
                self.forget_history_once(stop).await;
                self.drained().await;
                Ok(self.summary())
            }
        }
    }

    async fn drain_storage(&self, state: &StorageState, tasks: Option<&Arc<Self>>, stop: &watch::Receiver<bool>) -> Result<()> {
        // Whatever is due, what is not there or not as attached is said.
        state.storage.verify_marker().await?;
        // Before a stop for a new column is said: it may be over.
        self.guard.verify_attached().await?;
        self.survey_once().await?;
        let record = self.guard.verify().await?;
        self.apart(state, &record).await?;
        let newest = Filter { storage: Some(state.plan.name.clone()), limit: Some(1), ..Filter::default() };
        let before = self.db.history(&newest).await?.first().map_or(0, |e| e.id + 1);
        let waiting = self.db.backlog(&self.claim(state, 1)).await?;
        // The oldest come first, so those that are due now are among the first so many claims of all workers.
        let goal = Arc::new(AtomicU64::new(if self.settings.retry_now { waiting.total } else { waiting.due }));
        let claimed = Arc::new(AtomicU64::new(0));
        let workers = if self.db.dialect() == Dialect::Sqlite { 1 } else { self.settings.workers.max(1) };
        let ended: Vec<Result<()>> = match tasks {
            Some(me) if workers > 1 => {
                let mut tasks = tokio::task::JoinSet::new();
                for _ in 0..workers {
                    let (me, name, stop) = (me.clone(), state.plan.name.clone(), stop.clone());
                    let (goal, claimed) = (goal.clone(), claimed.clone());
                    tasks.spawn(async move { me.drain_worker(&me.storages[&name], &goal, &claimed, &stop).await });
                }
                let mut ended = Vec::new();
                while let Some(one) = tasks.join_next().await {
                    ended.push(one.unwrap_or_else(|e| Err(daemon::ended_unexpectedly(e))));
                }
                ended
            }
            _ => futures_util::future::join_all((0..workers).map(|_| self.drain_worker(state, &goal, &claimed, stop))).await,
        };
        // Whatever became of the candidates: neither waits for the other.
        let kept = self.keep_trash_once(state, before, stop).await;
        ended.into_iter().collect::<Result<()>>().and(kept)
    }

    async fn drain_worker(&self, state: &StorageState, goal: &AtomicU64, claimed: &AtomicU64, stop: &watch::Receiver<bool>) -> Result<()> {
        let mut moved = Vec::new();
        let mut failed: Option<Error> = None;
        let mut until = None;
        loop {
            let full = attend::many(&moved);
            let more = !full && !*stop.borrow() && failed.is_none() && claimed.load(Relaxed) < goal.load(Relaxed);
            let mut idle = true;
            if more {
                match self.begin_batch(state).await {
                    Ok((mut batch, mut taken)) => {
                        // Without a lease the next claim would take the same candidates.
                        if self.db.dialect() == Dialect::Sqlite {
                            failed = self.see_through(state, &mut taken, &mut batch).await.err();
                        }
                        claimed.fetch_add(batch.claimed as u64, Relaxed);
                        // What goes with a file is this drain's too.
                        goal.fetch_add(batch.derived as u64 + batch.again, Relaxed);
                        moved.extend(taken);
                        idle = batch.claimed == 0;
                    }
                    Err(e) => failed = Some(e),
                }
            }
            let rest = if idle { SHORT_REST.min(self.settings.rest) } else { self.settings.rest };
            let attended = self.attend(state, &mut moved, rest).await;
            goal.fetch_add(attended.derived, Relaxed);
            if let Some(e) = attended.error {
                failed.get_or_insert(e);
            }
            if !idle || attended.derived > 0 {
                until = None;
                continue;
            }
            if moved.is_empty() {
                break;
            }
            let until = *until.get_or_insert_with(|| clock::deadline(self.settings.patience));
            if *stop.borrow() || failed.is_some() || Instant::now() >= until {
                let others = full && !*stop.borrow() && failed.is_none();
                // What is due is moved, however many wait: these come after the others.
                let wait = if others { self.settings.patience } else { Duration::ZERO };
                let parked = self.park(state, std::mem::take(&mut moved), wait).await;
                if others && parked.is_ok() {
                    continue;
                }
                return failed.map_or(parked, Err);
            }
            tokio::time::sleep(attended.next.unwrap_or(SHORT_REST)).await;
        }
        failed.map_or(Ok(()), Err)
    }

    /// Whether no storage without a trash holds a file for a moment still.
    ///
    /// # Errors
    /// Those of the storages.
    pub async fn holds_nothing(&self) -> Result<bool> {
        for state in self.storages.values().filter(|state| state.plan.trash == Trash::Off) {
            if state.keeps().await? && !state.storage.expired(Timestamp::MAX, None, 1).await?.files.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Insists that the storage is still ours, and no other one of the plan.
    async fn apart(&self, state: &StorageState, record: &Installation) -> Result<()> {
        apart(record, &state.plan.name, self.storages.values().map(|state| (&state.plan, &state.storage)), &self.looks).await
    }

    fn claim(&self, state: &StorageState, limit: u32) -> Claim {
        Claim {
            storage: state.plan.name.clone(),
            bindings: state.bindings.clone(),
            grace: state.plan.grace,
            limit,
            owner: self.owner.clone(),
            lease: self.settings.lease,
            not_due_too: self.settings.retry_now,
            counted: state.counts.load(Relaxed),
        }
    }

    fn keeper(&self, state: &StorageState) -> Keeper {
        let places = self.storages.values().map(|state| (state.plan.clone(), state.storage.clone())).collect();
        Keeper::new(
            self.db.clone(),
            self.guard.clone(),
            state.plan.clone(),
            state.storage.clone(),
            state.capabilities.clone(),
            state.clocks.clone(),
            places,
            self.looks.clone(),
            &self.owner,
            self.settings.lease,
        )
    }

    /// Re-checks what was moved lately, up to the entry `before` of the ledger: what this drain has moved, it has checked itself a moment ago. Then empties the
    /// trash of what has waited long enough. What could not be erased is said in the summary.
    ///
    /// # Errors
    /// What keeps it as a whole.
    async fn keep_trash_once(&self, state: &StorageState, before: i64, stop: &watch::Receiver<bool>) -> Result<()> {
        let mut keeper = self.keeper(state);
        let done = keeper.once(before, self.settings.patience, stop).await;
        self.count_kept(&keeper.take_counts());
        let done = done?;
        self.note_trash(state, done.as_ref());
        Ok(())
    }

    fn count_kept(&self, counts: &crate::trash::Counts) {
        Counters::add(&self.counters.purged, counts.purged);
        Counters::add(&self.counters.bytes_freed, counts.bytes);
    }

    fn note_trash(&self, state: &StorageState, e: Option<&Error>) {
        let mut total = self.total.lock().unwrap_or_else(|e| e.into_inner());
        match e {
            Some(e) => drop(total.trash.insert(state.plan.name.clone(), CurrentError::of(e))),
            None => drop(total.trash.remove(&state.plan.name)),
        }
    }
}
