//! Collect: the only deleter.
//!
//! In: due candidates. Out: settlements. The order of the steps is the safety argument (ARCHITECTURE.md): claim, wait for
//! open transactions, look at the files, check for references, take away, check again, settle. A process killed between any two
//! steps loses nothing: its lease runs out, the next worker repeats the work, and every step is idempotent.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use rand::Rng;
use tokio::sync::{Notify, watch};

use crate::{
    attach::{apart, copied, drop_flag, last_whole, number, open_storages, own_places},
    binding::{Keep, Resolved},
    capture::{Bound, Drift, Gap, Installation, VERSION},
    clock, crash,
    database::{Database, Dialect, Hold, OpenTransaction, drifted},
    derivative::Derivatives,
    error::{Error, Kind, Result, Retry},
    name::FileName,
    plan::{Plan, StoragePlan},
    queue::{Candidate, Claim, Opened, Outcome, PutBack, Settlement, backoff},
    references,
    storage::{Look, Removed, Restored, Seen, Storage, Trashed},
};

mod derived; // what was made from a file that goes; what a file was made from
mod emptying; // the trash, a page at a time
mod metrics; // what it counts, for export
mod outlast; // a lock that is held until the storage has ended, whatever becomes of the caller
mod shadow; // whose candidates only say what would have gone
mod summary; // what a collector did
mod trouble; // what keeps it from its work
mod verdict; // a candidate's end -> settlement

use derived::Origin;
pub(crate) use derived::living_originals;
use emptying::Keeper;
use metrics::Counters;
pub use metrics::{Metrics, StorageMetrics};
pub(crate) use shadow::Shadow;
pub use summary::Summary;
use trouble::Troubles;
pub use trouble::{Faring, Trouble};
use verdict::{Settle, Verdict};

/// Modification times and releases this close cannot be put in order: the database's clock and the storage's differ, kernels stamp files with a
/// coarse clock (up to 10 ms behind), FAT counts in 2 s.
const CLOCK_MARGIN: Duration = Duration::from_secs(2);

/// How a collector works. The defaults suit production.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Candidates per batch. Default: 4,000; on SQLite it follows the time for which the write lock is held.
    pub batch: u32,
    /// How long a claim holds before another worker may take over. Default: 60 s.
    pub lease: Duration,
    /// How long a batch waits for open transactions before it is put back. Default: 2 s.
    pub patience: Duration,
    /// Workers per storage; SQLite has one. Default: 2.
    pub workers: usize,
    /// The longest pause between two looks at an empty queue. Default: 1 s.
    pub poll: Duration,
    /// How often an idle collector verifies capture. Default: 2 s.
    pub verify: Duration,
    /// Whether candidates that wait after a failure are tried at once. Default: no.
    pub retry_now: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            batch: 4_000,
            lease: Duration::from_secs(60),
            patience: Duration::from_secs(2),
            workers: 2,
            poll: Duration::from_secs(1),
            verify: Duration::from_secs(2),
            retry_now: false,
        }
    }
}

/// Without work only a storage's first worker looks for some; the others wait until somebody claims, or so many times the longest pause.
const RESERVE: u32 = 10;

/// On a storage with requests a batch with derivatives to list is no larger, so that it is settled well within its lease.
const LISTED: u32 = 500;

/// On a storage with requests the first batch is no larger: how long a file takes there is not known yet.
const FIRST: u32 = 500;

/// Where values are read one by one, a batch is no smaller, so that a column is read for many names at once.
const SCANNED: u32 = 500;

/// After a check the daemon rests for so many times as long as it took, where a column was read from end to end; at most [`LONGEST_REST`].
const REST: u32 = 4;
const LONGEST_REST: Duration = Duration::from_secs(60);

/// After a worker's panic its post is empty for so long.
const AFTER_A_PANIC: Duration = Duration::from_secs(5);

/// However long a file takes, a batch is no smaller.
const LEAST: u32 = 10;

/// On SQLite a batch aims at holding the write lock no longer than this.
const LOCK_GOAL: Duration = Duration::from_millis(50);

/// What a batch came to.
#[derive(Debug, Default)]
pub struct Batch {
    /// Candidates claimed.
    pub claimed: usize,
    /// Whether there may be more right now.
    pub full: bool,
    /// Derivatives, and names out of values with many, that became candidates.
    pub derived: usize,
    /// What became of them.
    pub summary: Summary,
}

/// One storage with what the collector keeps about it.
#[derive(Debug)]
struct Lane {
    plan: StoragePlan,
    storage: Arc<dyn Storage>,
    keep: Keep,
    /// Numbers of the bindings on this storage.
    bindings: Vec<i32>,
    /// How derivatives are named: by binding, and of all.
    derivatives: HashMap<i32, Derivatives>,
    all_derivatives: Derivatives,
    /// Candidates of the next batch, and of any.
    batch: AtomicU32,
    most: u32,
    /// Whether a check reads a column, or a query, from end to end; and until when the daemon's next one waits.
    scans: bool,
    scan_at: Mutex<Option<Instant>>,
    /// Somebody claimed candidates: there may be more.
    claimed: Notify,
    /// SQLite: until when the application has the write lock to itself after a batch has held it.
    rest: Mutex<Option<Instant>>,
    /// Transactions that made a batch go back. As long as one is open, claiming more is pointless: it would have to wait for the same.
    blockers: Mutex<Vec<OpenTransaction>>,
    /// What keeps its workers from their work, by worker, and since when nothing does.
    troubles: Mutex<Troubles>,
    /// When a batch was settled last.
    settled: Mutex<Option<Timestamp>>,
}

/// The collector of one plan.
#[derive(Debug)]
pub struct Collector {
    db: Arc<dyn Database>,
    lanes: BTreeMap<String, Lane>,
    bound: Vec<Bound>,
    settings: Settings,
    owner: String,
    total: Mutex<Summary>,
    since: Timestamp,
    counters: Counters,
    /// When capture was last seen whole.
    whole: Mutex<Timestamp>,
    /// SQLite: the right to be the only worker.
    only: Mutex<Option<Hold>>,
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
        let only = db.lock_worker().await?;
        Self::entitled(plan, db, settings, only).await
    }

    /// The same for whoever holds already what [`Database::lock_worker`] gives.
    pub(crate) async fn entitled(plan: &Plan, db: Arc<dyn Database>, settings: Settings, only: Option<Hold>) -> Result<Self> {
        let record = installed(db.as_ref()).await?;
        let bound = same_bindings(plan, &record)?;
        let mut lanes = BTreeMap::new();
        for (name, storage) in open_storages(plan)? {
            let id = record.storages.get(&name).ok_or_else(|| {
                Error::new(Kind::NotAttached, "this storage is not attached yet").with("storage", &name).hint("rowbound attach")
            })?;
            storage.expect(id);
            let own: Vec<&Bound> = bound.iter().filter(|b| b.binding.storage == name).collect();
            let most = match own.iter().any(|b| !b.binding.derivatives.is_empty()) && !storage.quick() {
                true => settings.batch.min(LISTED),
                false => settings.batch,
            };
            let batch = if db.dialect() == Dialect::Sqlite || !storage.quick() { most.min(FIRST) } else { most };
            let lane = Lane {
                derivatives: own.iter().map(|b| Ok((b.id, Derivatives::new([&b.binding])?))).collect::<Result<_>>()?,
                all_derivatives: Derivatives::new(own.iter().map(|b| &b.binding))?,
                plan: plan.storages[&name].clone(),
                storage,
                keep: Keep::new(plan.on_storage(&name))?,
                bindings: own.iter().map(|b| b.id).collect(),
                batch: AtomicU32::new(batch),
                most,
                scans: own.iter().any(|b| b.binding.scans()),
                scan_at: Mutex::new(None),
                claimed: Notify::new(),
                rest: Mutex::new(None),
                blockers: Mutex::new(Vec::new()),
                troubles: Mutex::default(),
                settled: Mutex::new(None),
            };
            lanes.insert(name, lane);
        }
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let owner = format!("{host}:{}:{:08x}", std::process::id(), rand::rng().random::<u32>());
        Ok(Collector {
            db,
            lanes,
            bound,
            settings,
            owner,
            total: Mutex::default(),
            since: Timestamp::now(),
            counters: Counters::default(),
            whole: Mutex::new(last_whole(&record).max(record.attached_at)),
            only: Mutex::new(only),
        })
    }

    /// Lets another be the only worker: after the end of [`Collector::run`].
    pub(crate) fn let_go(&self) {
        self.only.lock().unwrap_or_else(|e| e.into_inner()).take();
    }

    /// How each storage fares, as [`Collector::run`] sees it. Asks nobody.
    pub fn faring(&self) -> BTreeMap<String, Faring> {
        let of = |lane: &Lane| {
            let troubles = lane.troubles.lock().unwrap_or_else(|e| e.into_inner());
            let blockers = lane.blockers.lock().unwrap_or_else(|e| e.into_inner());
            Faring {
                trouble: troubles.worst().cloned(),
                since: troubles.worst().map_or(troubles.none_since, |t| t.since),
                last_batch: *lane.settled.lock().unwrap_or_else(|e| e.into_inner()),
                transactions: blockers.iter().map(|b| b.description.clone()).collect(),
            }
        };
        self.lanes.iter().map(|(name, lane)| (name.clone(), of(lane))).collect()
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
        for (name, lane) in &self.lanes {
            let waits = self.db.backlog(&self.claim(lane, 1)).await?;
            let figures = StorageMetrics {
                requests: lane.storage.requests(),
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
        let record = installed(self.db.as_ref()).await?;
        if record.active.len() != self.bound.len() || self.bound.iter().any(|b| !record.active.contains(&b.id)) {
            return Err(Error::new(Kind::Drift, "another set of bindings was attached meanwhile")
                .hint("start rowbound again with that rowbound.toml"));
        }
        let identity = self.db.identity().await?;
        if identity != record.identity {
            return Err(copied(&record.identity, &identity));
        }
        let drift = record.snapshot.drift(&self.db.snapshot(&self.bound).await?);
        let now = Timestamp::now();
        if drift.is_empty() {
            *self.whole.lock().unwrap_or_else(|e| e.into_inner()) = now;
            return Ok(record);
        }
        if !self.repairable(&drift) {
            return Err(drifted(&drift));
        }
        let why: Vec<_> = drift.iter().map(Drift::to_string).collect();
        let why = why.join("; ");
        let since = *self.whole.lock().unwrap_or_else(|e| e.into_inner());
        let mut repaired = record.clone();
        repaired.gaps.push(Gap { since, until: Some(now), why: why.clone() });
        let repaired = self.db.install_after(Some(&record), &self.bound, &repaired).await?;
        tracing::warn!(%why, since = %since, "capture was incomplete and is back; files that were released in between may be left over");
        Ok(repaired)
    }

    /// Whether capture can be put back without asking: every bound column is still the one it was.
    fn repairable(&self, drift: &[Drift]) -> bool {
        drift.iter().all(|d| {
            if d.item.starts_with("column ") || d.item.starts_with("query ") {
                return false;
            }
            // SQLite rewrites a trigger when its column or table is renamed: then the name in the plan may mean another column now.
            !(self.db.dialect() == Dialect::Sqlite && d.item.starts_with("trigger ") && d.is.is_some())
        })
    }

    /// Collects what is due on every storage now, then empties the trash of what has waited long enough. What is released
    /// meanwhile is another drain's: under an application that never rests, "until nothing is due" would never end.
    ///
    /// # Errors
    /// The first error that stopped a storage; other storages are drained all the same. A file of the trash that could not be erased stops nothing:
    /// see [`Summary::trash`].
    pub async fn drain(&self, stop: &watch::Receiver<bool>) -> Result<Summary> {
        let mut first = None;
        for (name, lane) in &self.lanes {
            if let Err(e) = self.drain_lane(name, lane, stop).await {
                first.get_or_insert(e.with("storage", name));
            }
        }
        match first {
            Some(e) => Err(e),
            None => Ok(self.summary()),
        }
    }

    async fn drain_lane(&self, name: &str, lane: &Lane, stop: &watch::Receiver<bool>) -> Result<()> {
        // Whatever is due, what is not there or not as attached is said.
        lane.storage.prove().await?;
        self.apart(lane, &self.verify().await?).await?;
        let waiting = self.db.backlog(&self.claim(lane, 1)).await?;
        // The oldest come first, so those that are due now are among the first so many claims, whoever makes them.
        let goal = AtomicU64::new(if self.settings.retry_now { waiting.total } else { waiting.due });
        let claimed = AtomicU64::new(0);
        let workers = if self.db.dialect() == Dialect::Sqlite { 1 } else { self.settings.workers.max(1) };
        let ended = futures_util::future::join_all((0..workers).map(|_| async {
            while !*stop.borrow() && claimed.load(Relaxed) < goal.load(Relaxed) {
                let batch = self.batch(name).await?;
                if batch.claimed == 0 {
                    break;
                }
                claimed.fetch_add(batch.claimed as u64, Relaxed);
                // What goes with a file is this drain's too.
                goal.fetch_add(batch.derived as u64, Relaxed);
            }
            Ok::<_, Error>(())
        }))
        .await;
        // Whatever became of the candidates: neither waits for the other.
        let emptied = self.empty_trash(lane, stop).await;
        ended.into_iter().collect::<Result<()>>().and(emptied)
    }

    /// Collects for ever: returns when `stop` becomes true, after the batches under way are settled. What goes wrong is said in the log
    /// and tried again; what fails stays in the queue.
    pub async fn run(self: Arc<Self>, stop: watch::Receiver<bool>) {
        let workers = if self.db.dialect() == Dialect::Sqlite { 1 } else { self.settings.workers.max(1) };
        let mut tasks = tokio::task::JoinSet::new();
        let mut posts = HashMap::new();
        for name in self.lanes.keys() {
            for worker in 0..workers {
                let task = tasks.spawn(self.clone().post(name.clone(), worker, Duration::ZERO, stop.clone()));
                posts.insert(task.id(), (name.clone(), worker));
            }
        }
        while let Some(ended) = tasks.join_next_with_id().await {
            let Err(e) = ended else { continue };
            // A worker that panicked is a bug; its lease runs out. The others go on, and another takes its post.
            tracing::error!(error = %e, "a worker ended unexpectedly");
            let Some((name, worker)) = posts.remove(&e.id()) else { continue };
            let e = Error::new(Kind::Bug, "a worker ended unexpectedly").because(e).hint("report it; its candidates are tried again");
            self.lanes[&name].troubles.lock().unwrap_or_else(|e| e.into_inner()).has(worker, &e);
            let task = tasks.spawn(self.clone().post(name.clone(), worker, AFTER_A_PANIC, stop.clone()));
            posts.insert(task.id(), (name, worker));
        }
    }

    /// A worker's life, after a pause.
    async fn post(self: Arc<Self>, name: String, worker: usize, pause: Duration, mut stop: watch::Receiver<bool>) {
        if !pause.is_zero() {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.work(&name, worker, stop).await;
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
        let mut verified = Instant::now();
        let mut keeper = Keeper::default();
        while !*stop.borrow() {
            let step = async {
                if first && verified.elapsed() >= self.settings.verify {
                    let record = self.verify().await?;
                    // Where it costs a request, the next batch asks.
                    if lane.storage.quick() {
                        self.apart(lane, &record).await?;
                    }
                    verified = Instant::now();
                }
                let rest = lane.scan_at.lock().unwrap_or_else(|e| e.into_inner()).map(|at| at.saturating_duration_since(Instant::now()));
                if let Some(rest) = rest.filter(|r| !r.is_zero()) {
                    // Meanwhile names gather for the next reading.
                    return Ok((Batch::default(), rest));
                }
                match self.db.next_due(&self.claim(lane, 1)).await? {
                    Some(wait) if wait.is_zero() => self.batch(name).await.map(|b| (b, Duration::ZERO)),
                    Some(wait) => Ok((Batch::default(), wait)),
                    None => Ok((Batch::default(), poll)),
                }
            };
            let step = step.await;
            // Not while nothing at all can be done: that is said once.
            let fit = step.as_ref().err().is_none_or(|e| !Trouble::of(e).is_stop() && e.retry_status() == Retry::Never);
            let pause = match step {
                Ok((batch, next)) => {
                    mended = false;
                    troubles().has_none(worker);
                    if trouble.take().is_some() {
                        tracing::info!(storage = name, "works again");
                    }
                    log_batch(name, &batch);
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
                Err(e) if e.kind() == Kind::Drift && !mended && self.verify().await.is_ok() => {
                    mended = true;
                    shortest
                }
                Err(e) => {
                    troubles().has(worker, &e);
                    let text = e.full();
                    let mut wait = Duration::from_millis(100);
                    match &trouble {
                        Some((same, last)) if *same == text => wait = (*last * 2).min(Duration::from_secs(5)),
                        // Said once, not at every try.
                        _ => tracing::error!(storage = name, kind = ?e.kind(), hint = e.hint_text(), "{text}"),
                    }
                    trouble = Some((text, wait));
                    wait
                }
            };
            // After the candidates, so that no failure of the trash keeps them; a page, so that they never wait for long.
            let more = first && fit && keeper.is_due() && self.keep_trash(lane, &mut keeper).await;
            let pause = if more { Duration::ZERO } else { pause };
            if !pause.is_zero() {
                tokio::select! {
                    _ = stop.changed() => {}
                    () = tokio::time::sleep(pause) => {}
                    () = lane.claimed.notified(), if !first => {}
                }
            }
        }
    }

    /// Insists that the storage is still ours, and no other one of the plan.
    async fn apart(&self, lane: &Lane, record: &Installation) -> Result<()> {
        apart(record, &lane.plan.name, self.lanes.values().map(|lane| (&lane.plan, &lane.storage))).await
    }

    fn on<'a>(&'a self, storage: &'a str) -> impl Iterator<Item = &'a Bound> {
        self.bound.iter().filter(move |b| b.binding.storage == storage)
    }

    fn claim(&self, lane: &Lane, limit: u32) -> Claim {
        Claim {
            storage: lane.plan.name.clone(),
            bindings: lane.bindings.clone(),
            grace: lane.plan.grace,
            limit,
            owner: self.owner.clone(),
            lease: self.settings.lease,
            not_due_too: self.settings.retry_now,
        }
    }

    /// One batch: the seven steps.
    ///
    /// # Errors
    /// What stopped the batch as a whole. Its candidates are back in the queue, or come back when the lease runs out.
    pub async fn batch(&self, storage: &str) -> Result<Batch> {
        let lane =
            self.lanes.get(storage).ok_or_else(|| Error::new(Kind::Config, "the plan has no such storage").with("storage", storage))?;
        // Nothing is claimed for a storage that is not there, nor on a picture of the schema that is not true.
        lane.storage.prove().await?;
        let record = self.verify().await?;
        self.apart(lane, &record).await?;
        if self.still_blocked(lane).await? {
            return Ok(Batch::default());
        }

        // 1. Claim.
        let limit = lane.batch.load(Relaxed);
        let began = Instant::now();
        let candidates = self.db.claim(&self.claim(lane, limit)).await?;
        let mut batch = Batch { claimed: candidates.len(), full: candidates.len() as u32 == limit, ..Batch::default() };
        if candidates.is_empty() {
            return Ok(batch);
        }
        lane.claimed.notify_waiters();
        Counters::add(&self.counters.claimed, candidates.len() as u64);
        crash::point("claimed");

        let mut settlement = Settlement { owner: self.owner.clone(), storage: storage.to_owned(), ..Settlement::default() };
        self.open_up(&candidates, &mut settlement, &mut batch.summary);
        let outcome = self.decide(lane, &record, &candidates, &mut settlement, &mut batch.summary).await;
        let hold = match outcome {
            Ok(hold) => hold,
            Err(e) => {
                // The batch as a whole failed before anything was taken away. A claim that was written goes back at once;
                // if that fails too, the lease runs out.
                if self.db.dialect() != Dialect::Sqlite {
                    let back = candidates.iter().map(|c| PutBack {
                        id: c.id,
                        wait: Duration::from_secs(1),
                        failed: false,
                        note: e.full(),
                        waits: None,
                    });
                    let settlement =
                        Settlement { settled: Vec::new(), derived: Vec::new(), opened: Vec::new(), back: back.collect(), ..settlement };
                    if let Err(also) = self.db.settle(&settlement, None).await {
                        return Err(e.because(also));
                    }
                }
                return Err(e);
            }
        };

        // 7. Settle.
        if hold.is_none() {
            self.rest(lane).await;
        }
        crash::point("settling");
        batch.derived = settlement.derived.len() + settlement.opened.len();
        let locked = hold.as_ref().map(|(_, since)| *since);
        self.db.settle(&settlement, hold.map(|(h, _)| h)).await?;
        crash::point("settled");
        *lane.settled.lock().unwrap_or_else(|e| e.into_inner()) = Some(Timestamp::now());
        match locked {
            Some(since) => self.adapt(lane, since.elapsed(), candidates.len()),
            // A claim that outlasts its lease is another worker's, who does all of it again, and may outlast his.
            None => {
                let least = if lane.scans { SCANNED } else { LEAST };
                lane.batch.store(paced(limit, candidates.len(), began.elapsed(), self.settings.lease / 4, least, lane.most), Relaxed);
            }
        }
        for s in &settlement.settled {
            match s.outcome {
                Outcome::Erased => Counters::add(&self.counters.bytes_freed, s.size.unwrap_or(0)),
                Outcome::Trashed => Counters::add(&self.counters.bytes_trashed, s.size.unwrap_or(0)),
                _ => {}
            }
        }
        self.total.lock().unwrap_or_else(|e| e.into_inner()).add(&batch.summary);
        Ok(batch)
    }

    /// SQLite: follows the time the lock was held, and sees to it that the application gets in before the next batch takes it.
    fn adapt(&self, lane: &Lane, held: Duration, claimed: usize) {
        let size = lane.batch.load(Relaxed);
        if held > LOCK_GOAL * 2 {
            lane.batch.store((size / 2).max(if lane.scans { SCANNED } else { 50 }), Relaxed);
        } else if held < LOCK_GOAL && claimed as u32 == size {
            lane.batch.store((size * 2).min(lane.most), Relaxed);
        }
        *lane.rest.lock().unwrap_or_else(|e| e.into_inner()) = Some(Instant::now() + held / 4);
    }

    /// Waits before the write lock is taken again. What needs no lock (claim, look) is done meanwhile.
    async fn rest(&self, lane: &Lane) {
        let until = lane.rest.lock().unwrap_or_else(|e| e.into_inner()).take();
        if let Some(until) = until {
            tokio::time::sleep_until(until.into()).await;
        }
    }

    /// Whether a transaction that made an earlier batch go back is open still.
    async fn still_blocked(&self, lane: &Lane) -> Result<bool> {
        let blockers = lane.blockers.lock().unwrap_or_else(|e| e.into_inner()).clone();
        if blockers.is_empty() {
            return Ok(false);
        }
        let open = self.db.open_transactions().await?;
        let left: Vec<_> = blockers.into_iter().filter(|b| open.iter().any(|o| o.key == b.key)).collect();
        let blocked = !left.is_empty();
        *lane.blockers.lock().unwrap_or_else(|e| e.into_inner()) = left;
        Ok(blocked)
    }

    /// Step 2: waits until every transaction that is open now has ended. Returns those that have not.
    async fn barrier(&self) -> Result<Vec<OpenTransaction>> {
        let mut left = self.db.open_transactions().await?;
        let deadline = clock::deadline(self.settings.patience);
        let mut pause = Duration::from_millis(1);
        while !left.is_empty() && Instant::now() < deadline {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(100));
            let open: HashSet<_> = self.db.open_transactions().await?.into_iter().map(|t| t.key).collect();
            left.retain(|t| open.contains(&t.key));
        }
        Ok(left)
    }

    /// The binding of a candidate that is to be opened up: its value may hold many names.
    fn many(&self, c: &Candidate) -> Option<&Bound> {
        self.bound.iter().find(|b| !c.opened && Some(b.id) == c.binding && b.binding.reading.is_many())
    }

    /// Names out of values with many become candidates of their own, which then take the way of all others.
    fn open_up(&self, candidates: &[Candidate], settlement: &mut Settlement, summary: &mut Summary) {
        let mut file = Settle { settlement, summary, derived: HashMap::new() };
        for c in candidates {
            let Some(b) = self.many(c) else { continue };
            let mut names = BTreeSet::new();
            let (mut refused, mut unreadable) = (None, None);
            b.binding.each_name(&c.value, |found| match found {
                Resolved::Name(name) => {
                    names.insert(name);
                }
                Resolved::Nothing => {}
                Resolved::Refused(why) => refused = Some(why),
                Resolved::Unreadable(why) => unreadable = Some(why),
            });
            let row = c.key.as_ref().map_or_else(String::new, |key| format!(" of row {key}"));
            let verdict = match (unreadable, refused, names.len()) {
                (Some(why), ..) => {
                    Verdict::noted(Outcome::Refused, format!("the value{row} in {} {why}: what it named stays", b.binding.column))
                }
                (None, Some(why), 0) => {
                    Verdict::noted(Outcome::Refused, format!("the value{row} in {} holds a name that {why}", b.binding.column))
                }
                (None, None, 0) => Verdict::plain(Outcome::Foreign),
                (None, refused, n) => {
                    let also = refused.map_or_else(String::new, |why| format!("; another {why} and is left alone"));
                    Verdict::noted(Outcome::Opened, format!("{n} names{also}"))
                }
            };
            if matches!(verdict, Verdict::Settle(Outcome::Opened, ..)) {
                file.settlement.opened.extend(names.into_iter().map(|name| Opened { id: c.id, name }));
            }
            file.one(c, None, verdict);
        }
    }

    /// Steps 2 to 6: fills the settlement.
    async fn decide(
        &self,
        lane: &Lane,
        record: &Installation,
        candidates: &[Candidate],
        settlement: &mut Settlement,
        summary: &mut Summary,
    ) -> Result<Option<(Hold, Instant)>> {
        let storage = &lane.plan.name;
        let now = Timestamp::now();
        let shadow = Shadow::of(record, self.on(storage));
        let mut file = Settle { settlement, summary, derived: HashMap::new() };

        // What a value names. Equal names of a batch share one fate, that of the latest release.
        // Sorted, so that a batch reads in the ledger as a listing does.
        let mut groups: BTreeMap<FileName, Vec<&Candidate>> = BTreeMap::new();
        for c in candidates.iter().filter(|c| self.many(c).is_none()) {
            match self.resolve(lane, c) {
                Ok(name) => groups.entry(name).or_default().push(c),
                Err(verdict) => file.one(c, None, verdict),
            }
        }
        for group in groups.values_mut() {
            group.sort_by_key(|c| std::cmp::Reverse((c.released_at, c.id)));
        }

        // 2. Barrier.
        let blockers = self.barrier().await?;
        if !blockers.is_empty() {
            let said: Vec<_> = blockers.iter().take(3).map(|b| b.description.clone()).collect();
            let note = format!("waits for open transactions: {}", said.join("; "));
            for (name, group) in &groups {
                file.all(group, name, Verdict::Back(Duration::from_secs(1), false, note.clone()));
            }
            *lane.blockers.lock().unwrap_or_else(|e| e.into_inner()) = blockers;
            return Ok(None);
        }
        crash::point("barrier-passed");

        // 3. Look.
        let names: Vec<FileName> = groups.keys().cloned().collect();
        let looks = lane.storage.look(&names).await?;
        crash::point("looked");
        let mut seen: BTreeMap<FileName, Seen> = BTreeMap::new();
        let mut missing = Vec::new();
        for (name, look) in names.into_iter().zip(looks) {
            match look {
                Ok(Look::Seen(s)) => {
                    seen.insert(name, s);
                }
                Ok(Look::Missing) => missing.push(name),
                Ok(Look::Refused(why)) => file.all(&groups[&name], &name, Verdict::noted(Outcome::Refused, why)),
                Err(e) => file.all(&groups[&name], &name, self.failure(groups[&name][0], &e)),
            }
        }
        // Derivatives are listed before anything is taken away: once their original is gone without them, nobody would look for them.
        for (name, found) in derived::list(lane, &shadow, &groups, seen.keys().chain(&missing)).await {
            match found {
                Ok(found) => drop(file.derived.insert(name, found)),
                Err(e) => {
                    file.all(&groups[&name], &name, self.failure(groups[&name][0], &e));
                    seen.remove(&name);
                    missing.retain(|m| *m != name);
                }
            }
        }
        crash::point("listed");
        let mut origins: HashMap<FileName, Origin> = HashMap::new();
        for (name, origin) in derived::origins(lane, &groups, seen.keys()).await? {
            match origin {
                Ok(origin) => drop(origins.insert(name, origin)),
                Err(e) => {
                    file.all(&groups[&name], &name, self.failure(groups[&name][0], &e));
                    seen.remove(&name);
                }
            }
        }
        self.settle_missing(lane, &groups, &missing, &mut file).await?;

        // 4. Check.
        let names: Vec<FileName> = seen.keys().cloned().collect();
        if names.is_empty() {
            return Ok(None);
        }
        let asked: BTreeSet<&FileName> = names.iter().chain(origins.values().flat_map(|o| &o.names)).collect();
        let asked: Vec<FileName> = asked.into_iter().cloned().collect();
        self.rest(lane).await;
        let began = Instant::now();
        let (held, hold) = references::find(self.db.as_ref(), &self.bound, &record.snapshot, storage, &asked).await?;
        if lane.scans {
            let rest = (began.elapsed() * REST).min(LONGEST_REST);
            *lane.scan_at.lock().unwrap_or_else(|e| e.into_inner()) = Some(Instant::now() + rest);
        }
        let hold = hold.map(|h| (h, Instant::now()));
        crash::point("checked");
        let mut doomed = Vec::with_capacity(names.len());
        for name in names {
            let group = &groups[&name];
            let s = &seen[&name];
            if held.contains(&name) {
                file.all(group, &name, Verdict::plain(Outcome::Kept));
            } else if let Some(why) = origins.get(&name).and_then(|o| o.lives(&held)) {
                file.all(group, &name, Verdict::noted(Outcome::Kept, why));
            } else if let Some(wait) = young(s, group[0].released_at, now, lane.plan.min_age) {
                file.all(
                    group,
                    &name,
                    Verdict::Back(wait, false, "the file is newer than its release: waits until it is older than min_age".into()),
                );
            } else if group.iter().any(|c| shadow.holds(c.binding, &c.event)) {
                file.all(group, &name, Verdict::Settle(Outcome::Shadow, Some(s.size), None, None));
            } else {
                doomed.push(name);
            }
        }
        // What keeps one derivative keeps what was made from it.
        loop {
            let go: HashSet<&FileName> = doomed.iter().collect();
            let stays = |name: &FileName| origins.get(name).and_then(|o| o.going.iter().find(|g| !go.contains(*g)));
            let kept: Vec<_> = doomed.iter().filter_map(|n| Some((n.clone(), stays(n)?))).collect();
            if kept.is_empty() {
                break;
            }
            for (name, original) in &kept {
                file.all(&groups[name], name, Verdict::noted(Outcome::Kept, format!("a derivative of {original}, which is there")));
            }
            let kept: HashSet<FileName> = kept.into_iter().map(|(name, _)| name).collect();
            doomed.retain(|n| !kept.contains(n));
        }
        if doomed.is_empty() {
            return Ok(hold);
        }
        // A slow storage must not keep the application's writers out; its trash and the second check cover for the lock.
        let hold = hold.filter(|_| lane.storage.quick());

        // 5. Take away.
        let items: Vec<(FileName, Seen)> = doomed.into_iter().filter_map(|name| seen.remove_entry(&name)).collect();
        let (items, removed, hold) = match hold {
            Some(hold) => {
                let storage = lane.storage.clone();
                let work = async move { (storage.remove(&items).await, items) };
                let ((removed, items), hold) = outlast::outlast(hold, work).await?;
                (items, removed?, Some(hold))
            }
            None => {
                let removed = lane.storage.remove(&items).await?;
                (items, removed, None)
            }
        };
        crash::point("removed");

        // 6. Check again what went to the trash, unless the lock has kept everybody out.
        let mut trashed: Vec<Trashed> = Vec::new();
        let mut fates = Vec::with_capacity(items.len());
        for ((name, s), fate) in items.into_iter().zip(removed) {
            if let Ok(Removed::Trashed(place)) = &fate {
                trashed.push(Trashed { name: name.clone(), place: place.clone(), at: now, size: s.size });
            }
            fates.push((name, s, fate));
        }
        let mut back: HashMap<FileName, Result<Restored>> = HashMap::new();
        if hold.is_none() && !trashed.is_empty() {
            back = self.check_again(lane, record, trashed, &origins).await;
        }
        crash::point("checked-again");

        for (name, s, fate) in fates {
            let group = &groups[&name];
            let verdict = match (fate, back.remove(&name)) {
                (Ok(Removed::Trashed(_)), Some(Ok(Restored::Back))) => {
                    Verdict::noted(Outcome::Kept, "a row named it meanwhile: it came back from the trash")
                }
                (Ok(Removed::Trashed(place)), Some(Ok(Restored::Occupied))) => Verdict::Settle(
                    Outcome::Kept,
                    None,
                    Some(place),
                    Some("a row names it, and a newer file has the name; the older one lies in the trash".into()),
                ),
                (Ok(Removed::Trashed(_)), Some(Ok(Restored::Missing))) => {
                    Verdict::Back(Duration::from_secs(5), true, "a row named it meanwhile, but it is not in the trash any more".into())
                }
                (Ok(Removed::Trashed(_)), Some(Err(e))) => self.failure(group[0], &e),
                (Ok(Removed::Trashed(place)), None) => Verdict::Settle(Outcome::Trashed, Some(s.size), Some(place), None),
                (Ok(Removed::Erased), _) => Verdict::Settle(Outcome::Erased, Some(s.size), None, None),
                (Ok(Removed::Missing), _) => Verdict::plain(Outcome::Missing),
                (Ok(Removed::Changed), _) => Verdict::Back(
                    lane.plan.min_age.max(Duration::from_secs(1)),
                    false,
                    "the file was replaced while it was being collected".into(),
                ),
                (Err(e), _) => self.failure(group[0], &e),
            };
            file.all(group, &name, verdict);
        }
        Ok(hold)
    }

    /// Step 6. A check that fails leaves its names in the trash unverified: they go back to the queue and are looked at again, in the trash too.
    async fn check_again(
        &self,
        lane: &Lane,
        record: &Installation,
        trashed: Vec<Trashed>,
        origins: &HashMap<FileName, Origin>,
    ) -> HashMap<FileName, Result<Restored>> {
        let none = Origin::default();
        let originals = |name: &FileName| &origins.get(name).unwrap_or(&none).names;
        let names: BTreeSet<FileName> = trashed.iter().flat_map(|t| originals(&t.name).iter().chain([&t.name])).cloned().collect();
        let names: Vec<FileName> = names.into_iter().collect();
        let found = references::find(self.db.as_ref(), &self.bound, &record.snapshot, &lane.plan.name, &names).await;
        let wanted: Vec<Trashed> = match &found {
            Ok((held, _)) => {
                let lives = |name: &FileName| held.contains(name) || originals(name).iter().any(|o| held.contains(o));
                trashed.into_iter().filter(|t| lives(&t.name)).collect()
            }
            // Not known: the safe answer is to bring all of them back.
            Err(_) => trashed,
        };
        if wanted.is_empty() {
            return HashMap::new();
        }
        let restored = match lane.storage.restore(&wanted).await {
            Ok(results) => results,
            Err(e) => {
                let text = e.full();
                wanted.iter().map(|_| Err(Error::new(Kind::Storage, text.clone()).retry(Retry::Later))).collect()
            }
        };
        let unknown = found.err().map(|e| e.full());
        wanted
            .into_iter()
            .zip(restored)
            .map(|(t, r)| match (&unknown, r) {
                (Some(why), Ok(_)) => (
                    t.name,
                    Err(Error::new(Kind::Database, format!("the second check failed, the file was brought back: {why}"))
                        .retry(Retry::Later)),
                ),
                (_, r) => (t.name, r),
            })
            .collect()
    }

    /// Names without a file. One that a killed worker has moved to the trash without settling is checked again there.
    async fn settle_missing(
        &self,
        lane: &Lane,
        groups: &BTreeMap<FileName, Vec<&Candidate>>,
        missing: &[FileName],
        file: &mut Settle<'_>,
    ) -> Result<()> {
        if missing.is_empty() {
            return Ok(());
        }
        let in_trash = if lane.plan.trash.retention().is_some() {
            lane.storage.trashed(missing).await?
        } else {
            missing.iter().map(|_| Ok(None)).collect()
        };
        let mut found = Vec::new();
        for (name, trashed) in missing.iter().zip(in_trash) {
            let group = &groups[name];
            match trashed {
                Ok(Some(t)) => found.push(t),
                Ok(None) => file.all(group, name, Verdict::plain(Outcome::Missing)),
                Err(e) => file.all(group, name, self.failure(group[0], &e)),
            }
        }
        if found.is_empty() {
            return Ok(());
        }
        let names: Vec<FileName> = found.iter().map(|t| t.name.clone()).collect();
        let record = self.verify().await?;
        let (held, hold) = references::find(self.db.as_ref(), &self.bound, &record.snapshot, &lane.plan.name, &names).await?;
        drop(hold);
        let (wanted, rest): (Vec<_>, Vec<_>) = found.into_iter().partition(|t| held.contains(&t.name));
        for t in rest {
            let note = "it lay in the trash already: an earlier worker was interrupted, or it was collected before".to_owned();
            file.all(&groups[&t.name], &t.name, Verdict::Settle(Outcome::Trashed, Some(t.size), Some(t.place), Some(note)));
        }
        if !wanted.is_empty() {
            for (t, r) in wanted.iter().zip(lane.storage.restore(&wanted).await?) {
                let group = &groups[&t.name];
                let verdict = match r {
                    Ok(Restored::Back | Restored::Occupied) => Verdict::noted(Outcome::Kept, "a row names it: it came back from the trash"),
                    Ok(Restored::Missing) => Verdict::plain(Outcome::Missing),
                    Err(e) => self.failure(group[0], &e),
                };
                file.all(group, &t.name, verdict);
            }
        }
        Ok(())
    }

    /// The name that a candidate stands for, or what becomes of it without a look at the storage.
    fn resolve(&self, lane: &Lane, c: &Candidate) -> Result<FileName, Verdict> {
        let resolved = match c.binding {
            None => match FileName::from_bytes(&c.value) {
                Ok(name) => Resolved::Name(name),
                Err(why) => Resolved::Refused(why),
            },
            Some(id) => match self.bound.iter().find(|b| b.id == id) {
                Some(b) => b.binding.resolve(&c.value),
                None => return Err(Verdict::plain(Outcome::Unbound)),
            },
        };
        match resolved {
            Resolved::Name(name) if lane.keep.protects(&name) => Err(Verdict::plain(Outcome::Protected)),
            Resolved::Name(name) => Ok(name),
            Resolved::Nothing => Err(Verdict::plain(Outcome::Foreign)),
            Resolved::Refused(why) => Err(Verdict::noted(Outcome::Refused, format!("the name {why}"))),
            Resolved::Unreadable(why) => Err(Verdict::noted(Outcome::Refused, format!("the value {why}"))),
        }
    }

    fn failure(&self, c: &Candidate, e: &Error) -> Verdict {
        Verdict::Back(
            backoff(c.attempts),
            true,
            match e.hint_text() {
                Some(hint) => format!("{}; {hint}", e.full()),
                None => e.full(),
            },
        )
    }
}

/// How long a file must wait because it is newer than its release and younger than `min_age`; `None` if it need not.
fn young(seen: &Seen, released: Timestamp, now: Timestamp, min_age: Duration) -> Option<Duration> {
    if clock::passed(seen.modified, CLOCK_MARGIN, released) {
        return None;
    }
    // A time to come is no age.
    let age = clock::age(seen.modified, now);
    (age < min_age).then(|| (min_age - age).max(Duration::from_millis(50)))
}

/// How many candidates the next batch has, after one of `claimed` took so long: as many as take no longer than `goal`, and twice as many after a full one that took less than half of it.
fn paced(size: u32, claimed: usize, took: Duration, goal: Duration, least: u32, most: u32) -> u32 {
    if took > goal {
        let fitting = claimed as f64 * goal.as_secs_f64() / took.as_secs_f64();
        (fitting as u32).max(least).min(most)
    } else if claimed as u32 >= size && took < goal / 2 {
        size.saturating_mul(2).min(most)
    } else {
        size
    }
}

fn log_batch(storage: &str, batch: &Batch) {
    if batch.claimed == 0 {
        return;
    }
    let s = &batch.summary;
    let outcomes: Vec<_> = s.outcomes.iter().map(|(o, n)| format!("{} {n}", o.word())).collect();
    tracing::info!(storage, claimed = batch.claimed, bytes = s.bytes, waiting = s.waiting, failed = s.failed, "{}", outcomes.join(", "));
    for (note, name) in &s.notes {
        tracing::warn!(storage, name, "{note}");
    }
}

/// The record of an attached database.
pub(crate) async fn installed(db: &dyn Database) -> Result<Installation> {
    let record = db
        .installation()
        .await?
        .ok_or_else(|| Error::new(Kind::NotAttached, "Rowbound is not attached to this database").hint("rowbound attach"))?;
    if record.version != VERSION {
        return Err(Error::new(Kind::NotAttached, "an older rowbound attached to this database")
            .with("its version", record.version)
            .with("this version", VERSION)
            .hint("rowbound attach"));
    }
    let identity = db.identity().await?;
    if identity != record.identity {
        return Err(copied(&record.identity, &identity));
    }
    Ok(record)
}

/// The record of a database to which exactly this plan is attached.
///
/// # Errors
/// [`Kind::NotAttached`], [`Kind::Identity`] on a copy, [`Kind::Drift`] where another set of bindings is attached.
pub async fn attached(plan: &Plan, db: &dyn Database) -> Result<Installation> {
    let record = installed(db).await?;
    same_bindings(plan, &record)?;
    Ok(record)
}

/// The plan's bindings with their numbers, if they are exactly those that are attached: a column that is bound but not in the plan would
/// hold references that nobody looks for.
pub(crate) fn same_bindings(plan: &Plan, record: &Installation) -> Result<Vec<Bound>> {
    own_places(plan, &record.storages)?;
    let bound = number(plan, &record.bindings);
    for b in &bound {
        if !record.active.contains(&b.id) {
            return Err(Error::new(Kind::NotAttached, "this binding is not attached yet")
                .with("binding", b.binding.key())
                .hint("rowbound attach"));
        }
    }
    for (key, id) in &record.bindings {
        if record.active.contains(id) && bound.iter().all(|b| b.id != *id) {
            return Err(Error::new(Kind::Drift, "this binding is attached, but not in the plan: its references would not be looked for")
                .with("binding", key)
                .hint(format!(
                    "put it back into rowbound.toml; or, if no file is named there any more: rowbound attach {}",
                    drop_flag(key)
                )));
        }
    }
    Ok(bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    #[test]
    fn a_batch_fits_into_its_lease_whatever_a_file_takes() {
        let lease = Duration::from_secs(60);
        for each in [1, 10, 100, 1_000, 3_000].map(Duration::from_millis) {
            let mut size = FIRST;
            let mut took = Vec::new();
            for _ in 0..20 {
                took.push(each * size);
                size = paced(size, size as usize, each * size, lease / 4, LEAST, 4_000);
            }
            // The first is as long as it is; all others are far from the lease.
            assert!(took[1..].iter().all(|took| *took <= lease / 2), "{each:?}: {took:?}");
            assert!(each * size * 5 >= lease / 4 || size == 4_000, "no smaller than it need be: {each:?}: {size}");
        }
        // One that was not full says nothing of larger ones.
        assert_eq!(paced(500, 3, Duration::from_millis(1), lease / 4, LEAST, 4_000), 500);
    }

    #[test]
    fn a_file_newer_than_its_release_waits_for_min_age() {
        let seen = |s| Seen { size: 1, modified: at(s), version: String::new() };
        let hour = Duration::from_secs(3600);
        // Written long before its release: at once.
        assert_eq!(young(&seen(0), at(100), at(110), hour), None);
        // Written after it: somebody's new upload.
        assert_eq!(young(&seen(105), at(100), at(110), hour), Some(hour - Duration::from_secs(5)));
        assert_eq!(young(&seen(105), at(100), at(105 + 3600), hour), None);
        // Within the clocks' margin counts as after.
        assert!(young(&seen(99), at(100), at(110), hour).is_some());
        // A clock that runs ahead never makes a file older.
        assert_eq!(young(&seen(500), at(100), at(110), hour), Some(hour));
        assert_eq!(young(&seen(105), at(100), at(110), Duration::ZERO), None);
    }

    #[test]
    fn a_file_from_beyond_the_calendar_is_young() {
        // File systems with 64 bits for seconds tell such times: `touch -d @300000000000`.
        let seen = |modified| Seen { size: 1, modified, version: String::new() };
        let hour = Duration::from_secs(3600);
        for released in [at(100), Timestamp::MAX, Timestamp::MIN] {
            assert_eq!(young(&seen(Timestamp::MAX), released, at(110), hour), Some(hour), "{released}");
        }
        assert_eq!(young(&seen(Timestamp::MIN), at(100), at(110), hour), None);
        assert_eq!(young(&seen(Timestamp::MIN), Timestamp::MIN, at(110), hour), None, "old, if not older than its release");
        assert_eq!(young(&seen(at(105)), at(100), at(110), Duration::MAX), Some(Duration::MAX - Duration::from_secs(5)));
    }
}
