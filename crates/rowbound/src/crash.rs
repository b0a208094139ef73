//! Crash points: places between two steps at which a test kills the process.
//!
//! Built only with the feature `crash-points`, which the tests switch on; otherwise a point is nothing.

/// Every point of a batch, in the order in which it passes them. These are the steps of the protocol, and `rowbound-model` has the same.
pub const POINTS: [&str; 15] = [
    "claimed",               // the lease is committed, nothing else was done
    "barrier-passed",        // every transaction that was open at the first try has ended
    "looked",                // files were seen
    "listed",                // the derivatives of what may go are known
    "checked",               // references were looked for; on SQLite the write lock is held
    "confirmed",             // the database has confirmed that the lease of a chunk still holds
    "remove-one",            // one file of a chunk was moved, others were not
    "removed",               // a chunk lies in the trash, the queue does not know yet
    "rested",                // the transactions that are open some time after the move are known
    "second-barrier-passed", // they have ended
    "checked-again",         // what was moved was checked a second time
    "returned",              // what is referenced came back
    "settling",              // just before the settlement
    "settled",               // just after
    "moved-batch-stopped",   // a stopping worker has put its moved batch back into the queue
];

/// Those points that a batch passes in the ordinary course: nothing comes back, nobody stops the worker. Where a lock keeps every writer out (`locked`: a
/// folder on SQLite), it takes the place of the second barrier.
pub fn ordinary(locked: bool) -> impl Iterator<Item = &'static str> {
    let seldom = ["returned", "moved-batch-stopped"];
    let barrier = ["rested", "second-barrier-passed", "checked-again"];
    POINTS.into_iter().filter(move |point| !(seldom.contains(point) || locked && barrier.contains(point)))
}

/// Points of a re-check of what was moved lately.
pub const RECHECK_POINTS: [&str; 3] = [
    "recheck-checked",  // references were looked for
    "recheck-returned", // what is referenced came back, the ledger does not know yet
    "recheck-entered",  // the ledger knows
];

/// Points of an erasure, in the order in which it passes them.
pub const ERASURE_POINTS: [&str; 6] = [
    "erasure-barrier-passed", // the transactions that were open when the files were due have ended
    "erasure-checked",        // references were looked for
    "erasure-noted",          // what is to be erased is written down
    "purge-one",              // one file was erased, others were not
    "purging",                // files are erased, the ledger does not know yet
    "purged",                 // the ledger knows
];

/// Points within a storage that others have not: a bucket's trash.
pub const STORAGE_POINTS: [&str; 3] = [
    "announced", // what is about to go to the trash is written down, nothing was taken
    "copied",    // a file lies in the trash and under its name
    "moved",     // a file lies in the trash, nobody was told
];

/// Points of an upload, in the order in which it passes them.
pub const UPLOAD_POINTS: [&str; 3] = [
    "staged",  // the name is a candidate, and there is no such file yet
    "written", // the bytes are on the disk, and no name leads to them
    "placed",  // the file has its name, no row references it
];

/// Points of a sweep.
pub const SWEEP_POINTS: [&str; 3] = [
    "compared",          // everything up to a name is known and written down
    "searched",          // the counter-search is over, no orphan is a candidate yet
    "orphans-announced", // some orphans are candidates, others not yet
];

/// Points of a follower's turn, in the order in which it passes them.
pub const FOLLOW_POINTS: [&str; 3] = [
    "delivering",   // deliveries are leased, the handler was not called
    "delivered",    // the handler has received an entry, the database does not know yet
    "acknowledged", // the delivery is gone
];

/// Points of an `attach`.
pub const ATTACH_POINTS: [&str; 1] = [
    "attach-step", // before each statement, each marker and each commit
];

/// Kills this process by SIGKILL if `ROWBOUND_CRASH_AT` is `name`, or `name:N` and this is the Nth time it is passed. If `ROWBOUND_WAIT_AT` is, the task
/// waits: it makes the file `ROWBOUND_WAIT_FILE` and goes on when somebody has removed it. If `ROWBOUND_PANIC_AT` is, it panics.
#[inline]
pub fn point(name: &str) {
    #[cfg(feature = "crash-points")]
    {
        debug_assert!(
            [&POINTS[..], &RECHECK_POINTS, &ERASURE_POINTS, &STORAGE_POINTS, &UPLOAD_POINTS, &SWEEP_POINTS, &FOLLOW_POINTS, &ATTACH_POINTS]
                .iter()
                .any(|p| p.contains(&name)),
            "{name} is not listed"
        );
        places::passed(name);
    }
    #[cfg(not(feature = "crash-points"))]
    let _ = name;
}

/// Kills this process by SIGKILL if one of the names is `ROWBOUND_CRASH_OF`: a candidate that ends every worker.
#[inline]
pub(crate) fn of<'a>(names: impl Iterator<Item = &'a str>) {
    #[cfg(feature = "crash-points")]
    if let Ok(of) = std::env::var("ROWBOUND_CRASH_OF")
        && { names }.any(|name| name == of)
    {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
    #[cfg(not(feature = "crash-points"))]
    let _ = names;
}

/// How long a file is held without a trash: `usual`, unless a test sets `ROWBOUND_HOLD`, in milliseconds.
pub(crate) fn hold(usual: std::time::Duration) -> std::time::Duration {
    #[cfg(feature = "crash-points")]
    if let Some(millis) = std::env::var("ROWBOUND_HOLD").ok().and_then(|text| text.parse().ok()) {
        return std::time::Duration::from_millis(millis);
    }
    usual
}

#[cfg(feature = "crash-points")]
mod places {
    use std::{
        path::PathBuf,
        sync::{
            LazyLock,
            atomic::{AtomicU64, Ordering::Relaxed},
        },
        time::Duration,
    };

    /// A point, and which passage of it.
    struct Place {
        name: String,
        nth: u64,
        passed: AtomicU64,
    }

    impl Place {
        fn of(variable: &str) -> Option<Self> {
            let text = std::env::var(variable).ok()?;
            let (name, nth) = text.split_once(':').map_or((text.as_str(), 1), |(n, k)| (n, k.parse().unwrap_or(1)));
            Some(Place { name: name.to_owned(), nth, passed: AtomicU64::new(0) })
        }

        fn is(&self, name: &str) -> bool {
            self.name == name && self.passed.fetch_add(1, Relaxed) + 1 == self.nth
        }
    }

    static CRASH: LazyLock<Option<Place>> = LazyLock::new(|| Place::of("ROWBOUND_CRASH_AT"));
    static PANIC: LazyLock<Option<Place>> = LazyLock::new(|| Place::of("ROWBOUND_PANIC_AT"));
    static WAIT: LazyLock<Option<Place>> = LazyLock::new(|| Place::of("ROWBOUND_WAIT_AT"));
    static FILE: LazyLock<Option<PathBuf>> = LazyLock::new(|| std::env::var_os("ROWBOUND_WAIT_FILE").map(PathBuf::from));

    /// Blocks this task alone: the other workers of the process go on, with the network and the clock, which this thread may have been watching for all.
    fn stand_still(until: impl FnOnce()) {
        use tokio::runtime::{Handle, RuntimeFlavor};
        match Handle::try_current() {
            Ok(runtime) if runtime.runtime_flavor() == RuntimeFlavor::MultiThread => tokio::task::block_in_place(until),
            _ => until(),
        }
    }

    pub(super) fn passed(name: &str) {
        if CRASH.as_ref().is_some_and(|place| place.is(name)) {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
        assert!(PANIC.as_ref().is_none_or(|place| !place.is(name)), "a test wants one at {name}");
        if let Some(file) = FILE.as_ref().filter(|_| WAIT.as_ref().is_some_and(|place| place.is(name)))
            && std::fs::write(file, name).is_ok()
        {
            stand_still(|| {
                while file.exists() {
                    std::thread::sleep(Duration::from_millis(2));
                }
            });
        }
    }
}
