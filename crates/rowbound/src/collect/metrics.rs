//! What a collector counts, for export.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use jiff::Timestamp;
use serde::Serialize;

use crate::queue::Outcome;

/// A collector's figures. Counters count since [`Metrics::since`] and never fall; what a storage has waiting is of the moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Metrics {
    /// Since when is counted: the collector's start.
    pub since: Timestamp,
    /// Counter, candidates: claims. One that was put back counts again when it is claimed again.
    pub claimed: u64,
    /// Counter, candidates: released names on which was decided, whatever the decision.
    pub released: u64,
    /// Counter, candidates: decided so that the file stays: kept, protected.
    pub kept: u64,
    /// Counter, files: taken away, for good or into the trash.
    pub deleted: u64,
    /// Counter, candidates: put back because something failed; each failed attempt counts.
    pub failed: u64,
    /// Counter, candidates: put back because it was too early; each time counts.
    pub waiting: u64,
    /// Counter, candidates by outcome, all of them.
    pub outcomes: BTreeMap<Outcome, u64>,
    /// Counter, files: erased out of the trash when their retention was over.
    pub purged: u64,
    /// Counter, bytes: of files that were moved to the trash, where they still take up room.
    pub bytes_trashed: u64,
    /// Counter, bytes: of files that were erased, at once or out of the trash.
    pub bytes_freed: u64,
    /// By storage.
    pub storages: BTreeMap<String, StorageMetrics>,
}

/// The figures of one storage.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct StorageMetrics {
    /// Counter, requests: sent to the storage since the collector's start. System calls are not counted: a folder has none.
    pub requests: u64,
    /// Gauge, candidates: in the queue now.
    pub backlog: u64,
    /// Gauge, candidates: of those, due now and held by nobody.
    pub due: u64,
    /// Gauge, candidates: of those, waiting after at least one failure.
    pub failing: u64,
    /// Gauge, seconds: the age of the oldest candidate; `None` in an empty queue. When it grows, deletion does not keep up or is stopped.
    pub oldest_seconds: Option<u64>,
}

/// What [`super::Summary`] does not hold.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) claimed: AtomicU64,
    pub(super) purged: AtomicU64,
    pub(super) bytes_trashed: AtomicU64,
    pub(super) bytes_freed: AtomicU64,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Relaxed);
    }
}
