//! One storage, with what the collector keeps about it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::sync::Notify;

use super::{
    health::CurrentErrors,
    moved_twice::Unsettled,
    pace::{FIRST, FIRST_CHUNK, LISTED},
    suspects::SuspectSlot,
};
use crate::{
    binding::Keep,
    capture::Bound,
    database::{Database, Dialect, OpenTransaction},
    delays::Met,
    derivative::Derivatives,
    error::Result,
    guard::Guard,
    plan::{Plan, StoragePlan},
    storage::{Storage, capabilities::CapabilityCache, clocks::Clocks},
};

/// What is known of a storage from its marker is read anew after so long.
const MARKER_AGE: Duration = Duration::from_secs(60);

/// One storage with what the collector keeps about it.
#[derive(Debug)]
pub(super) struct StorageState {
    pub(super) plan: StoragePlan,
    pub(super) storage: Arc<dyn Storage>,
    pub(super) keep: Keep,
    /// Numbers of the bindings on this storage.
    pub(super) bindings: Vec<i32>,
    /// How derivatives are named: by binding, and of all.
    pub(super) derivatives: HashMap<i32, Derivatives>,
    pub(super) all_derivatives: Derivatives,
    /// Candidates of the next batch, and of any; files of the next chunk.
    pub(super) batch: AtomicU32,
    pub(super) most: u32,
    pub(super) chunk: AtomicU32,
    /// Whether a check reads a column, or a query, from end to end; and until when the daemon's next one waits.
    pub(super) scans: bool,
    pub(super) scan_at: Mutex<Option<Instant>>,
    /// Somebody claimed candidates: there may be more.
    pub(super) claimed: Notify,
    /// One at a time takes what may have ended a worker.
    pub(super) suspects: Mutex<SuspectSlot>,
    /// Whether a claim of both takes them, and not the others.
    pub(super) suspects_first: AtomicBool,
    /// SQLite: whether the next claim is counted in the rows. The first one of a process always is: that its predecessor died says nobody else.
    pub(super) counts: AtomicBool,
    /// SQLite: until when the application has the write lock to itself after a batch has held it.
    pub(super) rest: Mutex<Option<Instant>>,
    /// Transactions that made a batch go back.
    pub(super) blockers: Mutex<Vec<OpenTransaction>>,
    /// Transactions that moved batches wait for.
    pub(super) waited_for: Mutex<Vec<String>>,
    /// Which transactions have delayed it, and for how long.
    pub(super) met: Met,
    /// Places of files that this process has moved to the trash and not settled yet.
    pub(super) unsettled: Unsettled,
    /// What keeps its workers from their work, by worker, and since when nothing does.
    pub(super) errors: Mutex<CurrentErrors>,
    /// When one of its workers came round last.
    pub(super) round: Mutex<Instant>,
    /// When a batch was settled last.
    pub(super) settled: Mutex<Option<Timestamp>>,
    pub(super) capabilities: Arc<CapabilityCache>,
    pub(super) clocks: Arc<Clocks>,
}

impl StorageState {
    /// The storage `name` of an attached plan.
    ///
    /// # Errors
    /// Those of patterns that cannot be used.
    pub(super) fn new(
        plan: &Plan,
        guard: &Guard,
        name: &str,
        storage: Arc<dyn Storage>,
        db: &Arc<dyn Database>,
        batch: u32,
    ) -> Result<Self> {
        let own: Vec<&Bound> = guard.on(name).collect();
        let most = match own.iter().any(|b| !b.binding.derivatives.is_empty()) && !storage.quick() {
            true => batch.min(LISTED),
            false => batch,
        };
        let batch = if db.dialect() == Dialect::Sqlite || !storage.quick() { most.min(FIRST) } else { most };
        Ok(StorageState {
            derivatives: own.iter().map(|b| Ok((b.id, Derivatives::new([&b.binding])?))).collect::<Result<_>>()?,
            all_derivatives: Derivatives::new(own.iter().map(|b| &b.binding))?,
            plan: plan.storages[name].clone(),
            clocks: Arc::new(Clocks::new(db.clone(), storage.clone())),
            capabilities: Arc::new(CapabilityCache::new(storage.clone(), plan.storages[name].trash)),
            storage,
            keep: Keep::new(plan.on_storage(name))?,
            bindings: own.iter().map(|b| b.id).collect(),
            batch: AtomicU32::new(batch),
            most,
            chunk: AtomicU32::new(FIRST_CHUNK),
            scans: own.iter().any(|b| b.binding.scans()),
            scan_at: Mutex::new(None),
            claimed: Notify::new(),
            suspects: Mutex::default(),
            suspects_first: AtomicBool::new(false),
            counts: AtomicBool::new(true),
            rest: Mutex::new(None),
            blockers: Mutex::default(),
            waited_for: Mutex::default(),
            met: Met::default(),
            unsettled: Unsettled::default(),
            errors: Mutex::default(),
            round: Mutex::new(Instant::now()),
            settled: Mutex::new(None),
        })
    }

    pub(super) async fn moves(&self) -> Result<bool> {
        Ok(self.capabilities.get(MARKER_AGE).await?.moves)
    }

    pub(super) async fn keeps(&self) -> Result<bool> {
        Ok(self.capabilities.get(MARKER_AGE).await?.keeps)
    }

    pub(super) async fn returns(&self) -> Result<bool> {
        Ok(self.capabilities.get(MARKER_AGE).await?.returns)
    }
}
