//! One storage, with what the collector keeps about it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, atomic::AtomicU32},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::sync::Notify;

use super::{
    health::Troubles,
    pace::{FIRST, FIRST_CHUNK, LISTED},
};
use crate::{
    binding::Keep,
    capture::Bound,
    database::{Dialect, OpenTransaction},
    derivative::Derivatives,
    error::Result,
    guard::Guard,
    plan::{Plan, StoragePlan, Trash},
    storage::{Kept, Storage},
};

/// What is known of a storage from its marker is read anew after so long.
const MARKER_AGE: Duration = Duration::from_secs(60);

/// What a storage was seen to honour.
#[derive(Debug, Clone, Copy)]
pub(super) struct Capabilities {
    /// Files are moved to a trash: none is erased at once.
    moves: bool,
    /// A file may lie in a trash.
    keeps: bool,
    /// A file comes back only where there is none.
    returns: bool,
}

/// One storage with what the collector keeps about it.
#[derive(Debug)]
pub(super) struct Lane {
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
    /// SQLite: until when the application has the write lock to itself after a batch has held it.
    pub(super) rest: Mutex<Option<Instant>>,
    /// Transactions that made a batch go back.
    pub(super) blockers: Mutex<Vec<OpenTransaction>>,
    /// Transactions that moved batches wait for.
    pub(super) waited_for: Mutex<Vec<String>>,
    /// What keeps its workers from their work, by worker, and since when nothing does.
    pub(super) troubles: Mutex<Troubles>,
    /// When a batch was settled last.
    pub(super) settled: Mutex<Option<Timestamp>>,
    pub(super) capabilities: Mutex<Option<(Instant, Capabilities)>>,
}

impl Lane {
    /// The storage `name` of an attached plan.
    ///
    /// # Errors
    /// Those of patterns that cannot be used.
    pub(super) fn new(plan: &Plan, guard: &Guard, name: &str, storage: Arc<dyn Storage>, dialect: Dialect, batch: u32) -> Result<Self> {
        let own: Vec<&Bound> = guard.on(name).collect();
        let most = match own.iter().any(|b| !b.binding.derivatives.is_empty()) && !storage.quick() {
            true => batch.min(LISTED),
            false => batch,
        };
        let batch = if dialect == Dialect::Sqlite || !storage.quick() { most.min(FIRST) } else { most };
        Ok(Lane {
            derivatives: own.iter().map(|b| Ok((b.id, Derivatives::new([&b.binding])?))).collect::<Result<_>>()?,
            all_derivatives: Derivatives::new(own.iter().map(|b| &b.binding))?,
            plan: plan.storages[name].clone(),
            storage,
            keep: Keep::new(plan.on_storage(name))?,
            bindings: own.iter().map(|b| b.id).collect(),
            batch: AtomicU32::new(batch),
            most,
            chunk: AtomicU32::new(FIRST_CHUNK),
            scans: own.iter().any(|b| b.binding.scans()),
            scan_at: Mutex::new(None),
            claimed: Notify::new(),
            rest: Mutex::new(None),
            blockers: Mutex::default(),
            waited_for: Mutex::default(),
            troubles: Mutex::default(),
            settled: Mutex::new(None),
            capabilities: Mutex::new(None),
        })
    }

    async fn capabilities(&self) -> Result<Capabilities> {
        let known = *self.capabilities.lock().unwrap_or_else(|e| e.into_inner());
        if let Some((_, known)) = known.filter(|(at, _)| at.elapsed() < MARKER_AGE) {
            return Ok(known);
        }
        let proved = self.storage.marker().await?.and_then(|marker| marker.proved);
        let known = match proved {
            Some(p) => Capabilities { moves: p.trash != Kept::No, keeps: p.trash != Kept::No, returns: p.create },
            // A marker of an earlier version says nothing: the careful answer to each.
            None => Capabilities { moves: false, keeps: self.storage.quick() || self.plan.trash != Trash::Off, returns: false },
        };
        *self.capabilities.lock().unwrap_or_else(|e| e.into_inner()) = Some((Instant::now(), known));
        Ok(known)
    }

    pub(super) async fn moves(&self) -> Result<bool> {
        Ok(self.capabilities().await?.moves)
    }

    pub(super) async fn keeps(&self) -> Result<bool> {
        Ok(self.capabilities().await?.keeps)
    }

    pub(super) async fn returns(&self) -> Result<bool> {
        Ok(self.capabilities().await?.returns)
    }
}
