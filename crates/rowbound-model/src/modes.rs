//! The scenarios that are searched for each mode, and what came of them.

use std::time::{Duration, Instant};

use crate::{
    mode::{Faults, Kind, Scenario, Storage, Visibility},
    search::{Fault, Model},
    verdict::Verdict,
};

/// How much is searched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Depth {
    /// Fits into `cargo test` without optimisation.
    Test,
    /// Two faults, more transactions: for the report, built with optimisation.
    Full,
}

/// What came of a mode.
#[derive(Debug)]
pub struct Outcome {
    /// Scenarios that were searched.
    pub scenarios: usize,
    /// States of all of them.
    pub states: usize,
    /// How long it took.
    pub took: Duration,
    /// The first scenario that fails, with its trace.
    pub fault: Option<(Scenario, Fault)>,
}

use Kind::{Delete, Dump, Reader, Reference, Replace, Restore, Touch, Undo, Upload};

/// One transaction beside the deletion of the last reference.
const PAIRS: [&[Kind]; 9] = [
    &[Delete],
    &[Delete, Reference],
    &[Delete, Undo],
    &[Delete, Upload],
    &[Touch, Delete],
    &[Delete, Reader, Reader],
    &[Delete, Replace],
    &[Delete, Restore],
    &[Delete, Dump],
];

/// Several.
const MORE: [&[Kind]; 12] = [
    &[Delete, Reference, Reference],
    &[Delete, Reference, Delete],
    &[Delete, Undo, Delete],
    &[Delete, Undo, Upload],
    &[Delete, Reference, Upload],
    &[Delete, Upload, Delete],
    &[Delete, Replace, Delete],
    &[Delete, Replace, Reference],
    &[Delete, Restore, Undo],
    &[Delete, Reference, Dump],
    &[Delete, Undo, Dump],
    &[Delete, Replace, Dump],
];

/// Four.
const MOST: [&[Kind]; 3] =
    [&[Delete, Replace, Reference, Delete], &[Delete, Undo, Delete, Reference], &[Delete, Restore, Reference, Delete]];

/// Whether a workload keeps clear of a plain bucket's window: nobody references, writes over or restores a file that may go.
pub fn fits_a_plain_bucket(workload: &[Kind]) -> bool {
    workload.iter().all(|k| matches!(k, Delete | Touch | Upload | Reader | Dump))
}

/// The scenarios of a mode.
pub fn scenarios(visibility: Visibility, storage: Storage, depth: Depth) -> Vec<Scenario> {
    let mut all = Vec::new();
    let mut add = |workloads: &[&[Kind]], faults: u8| {
        for workload in workloads {
            let endless_undo = |k: &Kind| *k == Dump && visibility.locks();
            if (storage == Storage::Plain && !fits_a_plain_bucket(workload)) || workload.iter().any(endless_undo) {
                continue;
            }
            all.push(Scenario::new(visibility, storage, workload, Faults::any(faults)));
        }
    };
    match depth {
        Depth::Test => {
            let faults = match (visibility, storage) {
                // One worker without leases has few states.
                (Visibility::Deferred, _) => (2, PAIRS.len()),
                (_, Storage::Plain) => (1, PAIRS.len()),
                (Visibility::DriverBegin, Storage::Folder) => (1, PAIRS.len()),
                (_, Storage::Off) => (1, 3),
                // InnoDB's first access has the same steps as the driver's BEGIN: see `Visibility`.
                _ => (1, 6),
            };
            add(&PAIRS[..faults.1], faults.0);
            add(&PAIRS[faults.1..], 0);
            add(&MORE, 0);
        }
        // The same steps as the driver's BEGIN.
        Depth::Full if visibility == Visibility::FirstAccess => {
            add(&PAIRS, 1);
            add(&MORE, 0);
        }
        Depth::Full => {
            let (two, one) = if storage == Storage::Off { PAIRS.split_at(6) } else { PAIRS.split_at(PAIRS.len()) };
            add(two, 2);
            add(one, 1);
            add(&MORE, 1);
            add(&MOST, 0);
        }
    }
    all
}

/// Searches a mode: all its scenarios, until one fails.
pub fn run(visibility: Visibility, storage: Storage, depth: Depth) -> Outcome {
    let began = Instant::now();
    let mut outcome = Outcome { scenarios: 0, states: 0, took: Duration::ZERO, fault: None };
    for scenario in scenarios(visibility, storage, depth) {
        let found = Model::new(scenario.clone()).search(usize::MAX);
        outcome.scenarios += 1;
        outcome.states += found.states;
        if let Some(fault) = found.fault {
            outcome.fault = Some((scenario, fault));
            break;
        }
    }
    outcome.took = began.elapsed();
    outcome
}

/// A scenario in which an assumption is taken away: what it is good for.
#[derive(Debug)]
pub struct Without {
    /// The assumption in words.
    pub assumption: &'static str,
    /// The scenario without it.
    pub scenario: Scenario,
    /// What then happens, or nothing.
    pub verdict: Option<Verdict>,
}

/// What the assumptions are good for, and what a plain bucket's window is.
pub fn without_assumptions() -> Vec<Without> {
    let base = |visibility, storage, workload: &[Kind]| Scenario::new(visibility, storage, workload, Faults::NONE);
    let mut all = Vec::new();
    let mut add = |assumption, scenario, verdict| all.push(Without { assumption, scenario, verdict });

    let mut s = base(Visibility::DriverBegin, Storage::Folder, &[Delete, Reference]);
    s.assume.hold_outlives_lookers = false;
    s.assume.window_outlives_lookers = false;
    add("a transaction that looked before the move ends before the retention", s, Some(Verdict::Lost));

    let mut s = base(Visibility::DriverBegin, Storage::Folder, &[Delete, Reference]);
    s.assume.window_outlives_lookers = false;
    add("it ends before the 30 minutes of the re-checks (it is reported then, and kept)", s, None);

    let mut s = base(Visibility::DriverBegin, Storage::Folder, &[Delete, Upload]);
    s.assume.stage_outlives_placing = false;
    add("an announced upload is placed before it is due", s, Some(Verdict::Leak));

    let mut s = base(Visibility::DriverBegin, Storage::Plain, &[Delete, Upload]);
    s.assume.min_age_outlives_uploads = false;
    add("plain bucket: min_age outlives the transaction of an upload", s, Some(Verdict::Lost));

    let s = base(Visibility::DriverBegin, Storage::Plain, &[Delete, Reference]);
    add("plain bucket: nobody references what may go (the window)", s, Some(Verdict::Lost));
    let s = base(Visibility::DriverBegin, Storage::Plain, &[Delete, Replace]);
    add("plain bucket: nobody writes over what may go (the window)", s, Some(Verdict::Lost));
    let s = base(Visibility::DriverBegin, Storage::Plain, &[Delete, Undo]);
    add("plain bucket: nobody undoes a deletion (the window)", s, Some(Verdict::Lost));
    all
}
