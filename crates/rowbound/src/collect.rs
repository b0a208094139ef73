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
    attach::{apart, open_storages},
    capture::Installation,
    clock, crash,
    database::{Database, Dialect, Hold},
    error::{Error, Kind, Result},
    guard::{Guard, installed, same_bindings},
    ledger::Filter,
    name::FileName,
    plan::{Plan, Trash},
    queue::{Announce, Candidate, Claim, Outcome, PutBack, RETURN, Settlement},
    trash::Keeper,
};

mod attend; // moved batches, until their second barrier has passed
mod daemon; // workers that go on for ever
mod derived; // what was made from a file that goes; what a file was made from
mod health; // what keeps it from its work
mod lane; // one storage
mod metrics; // what it counts, for export
mod outlast; // a lock that is held until the storage has ended, whatever becomes of the caller
mod pace; // barriers, sizes, rests
mod steps; // one batch, step by step
mod summary; // what a collector did
mod verdict; // a candidate's end -> settlement

pub use crate::guard::attached;
pub use health::{Faring, Trouble};
use lane::Lane;
use metrics::Counters;
pub use metrics::{Metrics, StorageMetrics};
use steps::{Claimed, Held, Moved, Settled};
pub use summary::Summary;
use verdict::Decided;

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
            retry_now: false,
        }
    }
}

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

/// The collector of one plan.
#[derive(Debug)]
pub struct Collector {
    db: Arc<dyn Database>,
    guard: Arc<Guard>,
    lanes: BTreeMap<String, Lane>,
    settings: Settings,
    owner: String,
    total: Mutex<Summary>,
    since: Timestamp,
    counters: Counters,
    /// Whether each settlement is said in the log.
    talks: AtomicBool,
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
        let guard = Arc::new(Guard::new(plan, db.clone(), &record)?);
        let mut lanes = BTreeMap::new();
        for (name, storage) in open_storages(plan)? {
            let id = record.storages.get(&name).ok_or_else(|| {
                Error::new(Kind::NotAttached, "this storage is not attached yet").with("storage", &name).hint("rowbound attach")
            })?;
            storage.expect(id);
            let lane = Lane::new(plan, &guard, &name, storage, db.dialect(), settings.batch)?;
            lanes.insert(name, lane);
        }
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let owner = format!("{host}:{}:{:08x}", std::process::id(), rand::rng().random::<u32>());
        Ok(Collector {
            db,
            guard,
            lanes,
            settings,
            owner,
            total: Mutex::default(),
            since: Timestamp::now(),
            counters: Counters::default(),
            talks: AtomicBool::new(false),
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
            let waited_for = lane.waited_for.lock().unwrap_or_else(|e| e.into_inner());
            let blockers = lane.blockers.lock().unwrap_or_else(|e| e.into_inner());
            Faring {
                trouble: troubles.worst().cloned(),
                since: troubles.worst().map_or(troubles.none_since, |t| t.since),
                last_batch: *lane.settled.lock().unwrap_or_else(|e| e.into_inner()),
                transactions: blockers.iter().map(|b| b.description.clone()).chain(waited_for.iter().cloned()).collect(),
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
        self.guard.verify().await
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
            if let Err(e) = self.drain_lane(lane, stop).await {
                first.get_or_insert(e.with("storage", name));
            }
        }
        match first {
            Some(e) => Err(e),
            None => Ok(self.summary()),
        }
    }

    async fn drain_lane(&self, lane: &Lane, stop: &watch::Receiver<bool>) -> Result<()> {
        // Whatever is due, what is not there or not as attached is said.
        lane.storage.prove().await?;
        self.apart(lane, &self.guard.verify().await?).await?;
        let waiting = self.db.backlog(&self.claim(lane, 1)).await?;
        // The oldest come first, so those that are due now are among the first so many claims, whoever makes them.
        let goal = AtomicU64::new(if self.settings.retry_now { waiting.total } else { waiting.due });
        let claimed = AtomicU64::new(0);
        let workers = if self.db.dialect() == Dialect::Sqlite { 1 } else { self.settings.workers.max(1) };
        let ended = futures_util::future::join_all((0..workers).map(|_| self.drain_worker(lane, &goal, &claimed, stop))).await;
        // Whatever became of the candidates: neither waits for the other.
        let kept = self.keep_trash_once(lane, stop).await;
        ended.into_iter().collect::<Result<()>>().and(kept)
    }

    async fn drain_worker(&self, lane: &Lane, goal: &AtomicU64, claimed: &AtomicU64, stop: &watch::Receiver<bool>) -> Result<()> {
        let mut moved = Vec::new();
        let mut failed: Option<Error> = None;
        let mut until = None;
        loop {
            let more = !*stop.borrow() && failed.is_none() && claimed.load(Relaxed) < goal.load(Relaxed);
            let mut idle = true;
            if more {
                match self.begin_batch(lane).await {
                    Ok((batch, taken)) => {
                        claimed.fetch_add(batch.claimed as u64, Relaxed);
                        // What goes with a file is this drain's too.
                        goal.fetch_add(batch.derived as u64, Relaxed);
                        moved.extend(taken);
                        idle = batch.claimed == 0;
                    }
                    Err(e) => failed = Some(e),
                }
            }
            let rest = if idle { SHORT_REST.min(self.settings.rest) } else { self.settings.rest };
            let attended = self.attend(lane, &mut moved, rest).await;
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
                let parked = self.park(lane, std::mem::take(&mut moved)).await;
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
        for lane in self.lanes.values().filter(|lane| lane.plan.trash == Trash::Off) {
            if lane.keeps().await? && !lane.storage.expired(Timestamp::MAX, None, 1).await?.files.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Insists that the storage is still ours, and no other one of the plan.
    async fn apart(&self, lane: &Lane, record: &Installation) -> Result<()> {
        apart(record, &lane.plan.name, self.lanes.values().map(|lane| (&lane.plan, &lane.storage))).await
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

    /// One batch, from its claim to its settlement: what transactions keep from its end for longer than patience lasts goes back to the queue.
    ///
    /// # Errors
    /// What stopped the batch as a whole. Its candidates are back in the queue, or come back when the lease runs out.
    pub async fn batch(&self, storage: &str) -> Result<Batch> {
        let lane =
            self.lanes.get(storage).ok_or_else(|| Error::new(Kind::Config, "the plan has no such storage").with("storage", storage))?;
        let (mut batch, mut moved) = self.begin_batch(lane).await?;
        let until = clock::deadline(self.settings.patience);
        while !moved.is_empty() && Instant::now() < until {
            let attended = self.attend(lane, &mut moved, SHORT_REST.min(self.settings.rest)).await;
            batch.derived += attended.derived as usize;
            batch.summary.add(&attended.summary);
            if let Some(e) = attended.error {
                return Err(e);
            }
            if !moved.is_empty() {
                tokio::time::sleep(attended.next.unwrap_or(SHORT_REST)).await;
            }
        }
        self.park(lane, moved).await?;
        Ok(batch)
    }

    /// Steps 1 to 5; what is decided by then is settled. What was moved waits for its second barrier, unless a lock has made it final.
    async fn begin_batch(&self, lane: &Lane) -> Result<(Batch, Vec<Moved>)> {
        // Nothing is claimed for a storage that is not there, nor on a picture of the schema that is not true.
        lane.storage.prove().await?;
        let record = self.guard.verify().await?;
        self.apart(lane, &record).await?;
        if self.still_blocked(lane).await? {
            return Ok((Batch::default(), Vec::new()));
        }

        // 1. Claim.
        let limit = lane.batch.load(Relaxed);
        let candidates = self.db.claim(&self.claim(lane, limit)).await?;
        let count = candidates.len();
        let mut batch = Batch { claimed: count, full: count as u32 == limit, ..Batch::default() };
        if candidates.is_empty() {
            return Ok((batch, Vec::new()));
        }
        lane.claimed.notify_waiters();
        Counters::add(&self.counters.claimed, count as u64);
        crash::point("claimed");
        let ids: Vec<i64> = candidates.iter().map(|c| c.id).collect();
        let (moved, decided, began) = match self.decide(lane, record, candidates).await {
            Ok(done) => done,
            Err(e) => return Err(self.give_back(lane, &ids, e).await),
        };

        let (mut decided, mut lock, mut waiting) = (decided, None, Vec::new());
        for m in moved {
            if m.is_locked() {
                let (settled, held) = m.conclude(self, lane).await?;
                decided = decided.and(settled.0);
                lock = held;
            } else {
                waiting.push(m);
            }
        }
        if lock.is_none() {
            self.rest(lane).await;
            lane.took(limit, count, began.elapsed(), self.settings.lease);
        }
        batch.derived = decided.settlement.derived.len() + decided.settlement.opened.len();
        batch.summary = decided.summary.clone();
        let locked = lock.as_ref().map(|(_, since)| *since);
        self.finish(lane, Settled(decided), lock).await?;
        if let Some(since) = locked {
            lane.held_lock(since.elapsed(), count);
        }
        Ok((batch, waiting))
    }

    /// Steps 2 to 5, and when the barrier had passed.
    async fn decide(&self, lane: &Lane, record: Installation, candidates: Vec<Candidate>) -> Result<(Vec<Moved>, Decided, Instant)> {
        let claimed = Claimed::new(self, lane, record, candidates);
        let clear = claimed.clear(self, lane).await?;
        // How long others' transactions take says nothing of how long a batch does.
        let began = Instant::now();
        let looked = clear.look(self, lane).await?;
        let checked = looked.check(self, lane).await?;
        let (moved, decided) = checked.take_away(self, lane).await?;
        Ok((moved, decided, began))
    }

    /// The batch as a whole failed before anything was moved. A claim that was written goes back at once; if that fails too, the lease runs out.
    async fn give_back(&self, lane: &Lane, ids: &[i64], e: Error) -> Error {
        if self.db.dialect() == Dialect::Sqlite {
            return e;
        }
        let back = ids.iter().map(|id| PutBack { id: *id, wait: Duration::from_secs(1), failed: false, note: e.full(), waits: None });
        let storage = lane.plan.name.clone();
        let settlement = Settlement { owner: self.owner.clone(), storage, back: back.collect(), ..Settlement::default() };
        match self.db.settle(&settlement, None).await {
            Ok(_) => e,
            Err(also) => e.because(also),
        }
    }

    /// Step 7: settles.
    async fn finish(&self, lane: &Lane, settled: Settled, lock: Option<Held>) -> Result<()> {
        let Decided { settlement, summary, .. } = settled.0;
        if settlement.settled.is_empty() && settlement.back.is_empty() {
            return Ok(());
        }
        crash::point("settling");
        let count = self.db.settle(&settlement, lock.map(|(hold, _)| hold)).await?;
        crash::point("settled");
        if count < settlement.settled.len() as u64 {
            self.adopt(&settlement).await?;
        }
        *lane.settled.lock().unwrap_or_else(|e| e.into_inner()) = Some(Timestamp::now());
        for s in &settlement.settled {
            match s.outcome {
                Outcome::Erased => Counters::add(&self.counters.bytes_freed, s.size.unwrap_or(0)),
                Outcome::Trashed => Counters::add(&self.counters.bytes_trashed, s.size.unwrap_or(0)),
                _ => {}
            }
        }
        if self.talks.load(Relaxed) {
            log_settled(&lane.plan.name, &summary);
        }
        let mut total = self.total.lock().unwrap_or_else(|e| e.into_inner());
        if summary.count(Outcome::Trashed) > 0 {
            total.until.insert(lane.plan.name.clone(), clock::after(Timestamp::now(), lane.plan.trash.hold()));
        }
        total.add(&summary);
        Ok(())
    }

    /// Some candidates were another worker's when they were to be settled: this one has lost its lease. What it moved and no entry of the ledger knows becomes a
    /// candidate, so that it is checked again and does not lie in the trash unseen.
    async fn adopt(&self, settlement: &Settlement) -> Result<()> {
        let mut unknown = Vec::new();
        for s in settlement.settled.iter().filter(|s| s.outcome == Outcome::Trashed) {
            let Some((name, place)) = s.name.as_deref().and_then(|n| FileName::parse(n).ok()).zip(s.place.as_deref()) else { continue };
            let filter = Filter { storage: Some(settlement.storage.clone()), name: Some(name.to_string()), ..Filter::default() };
            if self.db.history(&filter).await?.iter().all(|e| e.place.as_deref() != Some(place)) {
                unknown.push(Announce { storage: settlement.storage.clone(), name, event: RETURN, wait: Duration::ZERO });
            }
        }
        if !unknown.is_empty() {
            self.db.announce(&unknown).await?;
        }
        Ok(())
    }

    fn keeper(&self, lane: &Lane) -> Keeper {
        let places = self.lanes.values().map(|lane| (lane.plan.clone(), lane.storage.clone())).collect();
        Keeper::new(self.db.clone(), self.guard.clone(), lane.plan.clone(), lane.storage.clone(), places, &self.owner, self.settings.lease)
    }

    /// Re-checks what was moved lately, and empties the trash of what has waited long enough. What could not be erased is said in the summary.
    ///
    /// # Errors
    /// What keeps it as a whole.
    async fn keep_trash_once(&self, lane: &Lane, stop: &watch::Receiver<bool>) -> Result<()> {
        let mut keeper = self.keeper(lane);
        let done = keeper.once(self.settings.patience, stop).await;
        self.count_kept(&keeper.take_counts());
        let done = done?;
        self.note_trash(lane, done.as_ref());
        Ok(())
    }

    fn count_kept(&self, counts: &crate::trash::Counts) {
        Counters::add(&self.counters.purged, counts.purged);
        Counters::add(&self.counters.bytes_freed, counts.bytes);
    }

    fn note_trash(&self, lane: &Lane, e: Option<&Error>) {
        let mut total = self.total.lock().unwrap_or_else(|e| e.into_inner());
        match e {
            Some(e) => drop(total.trash.insert(lane.plan.name.clone(), Trouble::of(e))),
            None => drop(total.trash.remove(&lane.plan.name)),
        }
    }
}

fn log_settled(storage: &str, s: &Summary) {
    let outcomes: Vec<_> = s.outcomes.iter().map(|(o, n)| format!("{} {n}", o.word())).collect();
    let claimed = s.settled() + s.waiting + s.failed;
    tracing::info!(storage, claimed, bytes = s.bytes, waiting = s.waiting, failed = s.failed, "{}", outcomes.join(", "));
    for (note, name) in &s.notes {
        tracing::warn!(storage, name, "{note}");
    }
}
