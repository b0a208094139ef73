//! Crash points: places between two steps at which a test kills the process.
//!
//! Built only with the feature `crash-points`, which the tests switch on; otherwise a point is nothing.

/// Every point, in the order in which a batch passes them. A test kills the process at each.
pub const POINTS: [&str; 11] = [
    "claimed",        // the lease is committed, nothing else was done
    "barrier-passed", // every older transaction has ended
    "looked",         // files were seen
    "listed",         // the derivatives of what may go are known
    "checked",        // references were looked for; on SQLite the write lock is held
    "remove-one",     // one file of the batch was taken away, others were not
    "removed",        // files are gone or in the trash, the queue does not know yet
    "checked-again",  // what went to the trash was checked a second time
    "settling",       // just before the settlement
    "settled",        // just after
    "purging",        // a file of the trash was erased, the ledger does not know yet
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
    "placed",  // the file has its name, no row names it
];

/// Points of a sweep.
pub const SWEEP_POINTS: [&str; 2] = [
    "compared",          // everything up to a name is known and written down
    "orphans-announced", // some orphans are candidates, others not yet
];

/// Points of a follower's turn, in the order in which it passes them.
pub const FOLLOW_POINTS: [&str; 3] = [
    "delivering",   // deliveries are leased, the handler was not called
    "delivered",    // the handler has heard of an entry, the database does not know yet
    "acknowledged", // the delivery is gone
];

/// Kills this process by SIGKILL if `ROWBOUND_CRASH_AT` is `name`, or `name:N` and this is the Nth time it is passed.
#[inline]
pub fn point(name: &str) {
    #[cfg(feature = "crash-points")]
    {
        use std::sync::{
            LazyLock,
            atomic::{AtomicU64, Ordering::Relaxed},
        };
        static WANTED: LazyLock<Option<(String, u64)>> = LazyLock::new(|| {
            let text = std::env::var("ROWBOUND_CRASH_AT").ok()?;
            let (name, nth) = text.split_once(':').map_or((text.as_str(), 1), |(n, k)| (n, k.parse().unwrap_or(1)));
            Some((name.to_owned(), nth))
        });
        static PASSED: AtomicU64 = AtomicU64::new(0);
        debug_assert!(
            [&POINTS[..], &STORAGE_POINTS, &UPLOAD_POINTS, &SWEEP_POINTS, &FOLLOW_POINTS].iter().any(|p| p.contains(&name)),
            "{name} is not listed"
        );
        if let Some((wanted, nth)) = &*WANTED
            && wanted == name
            && PASSED.fetch_add(1, Relaxed) + 1 == *nth
        {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    }
    #[cfg(not(feature = "crash-points"))]
    let _ = name;
}
