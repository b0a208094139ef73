//! What should have been done by now, and whether anybody does it.
//!
//! In: what waits, and the heartbeats. Out: a problem for each storage whose names wait for longer than they should. Promise: what nobody
//! works on is a problem within two minutes, whatever became of the worker: killed, suspended with its machine, never started.

use std::time::Duration;

use super::StorageStatus;
use crate::{
    clock::spoken,
    error::{Error, Kind},
    heartbeat::{Job, LastHeartbeat},
};

/// A name that is due waits no longer than this for a worker that is well, but for those that a transaction keeps.
pub const OVERDUE: Duration = Duration::from_secs(15 * 60);

/// For so long nobody is missed: a worker comes round within seconds.
const MISSED: Duration = Duration::from_secs(60);

/// What to say of a storage; `transaction` is the age of the oldest transaction that deletions wait for.
pub(super) fn late(storage: &StorageStatus, workers: &[LastHeartbeat], transaction: Duration) -> Option<Error> {
    let waits = storage.backlog.due_seconds.map(Duration::from_secs).filter(|_| storage.backlog.due > 0)?;
    let due = format!("{} due, the first for {}", names(storage.backlog.due, "is", "are"), spoken(waits));
    let working = workers.iter().filter(|h| h.works());
    let Some(patience) = working.map(LastHeartbeat::patience).max() else {
        if waits <= MISSED {
            return None;
        }
        let e = Error::new(Kind::Overdue, format!("{due}, and nobody works: {}", last(workers))).with("storage", &storage.name);
        return Some(e.hint("start `rowbound run`, or let a timer start `rowbound collect`"));
    };
    if waits <= OVERDUE.max(patience).saturating_add(transaction) {
        return None;
    }
    let e = Error::new(Kind::Overdue, format!("{due}, although somebody works")).with("storage", &storage.name);
    Some(e.hint("the log of `rowbound run` says what keeps it; `rowbound collect` tries at once"))
}

/// So many names, with the verb.
pub(super) fn names(n: u64, one: &str, many: &str) -> String {
    if n == 1 { format!("1 name {one}") } else { format!("{n} names {many}") }
}

/// The latest heartbeat.
fn last(workers: &[LastHeartbeat]) -> String {
    let Some(h) = workers.iter().min_by_key(|h| h.seconds) else { return "nobody has since `attach`".to_owned() };
    let (ago, place) = (spoken(Duration::from_secs(h.seconds)), place(&h.beat.place));
    match (h.beat.job, h.beat.ended) {
        (Job::Run, true) => format!("a worker on {place} was stopped {ago} ago"),
        (Job::Run, false) => format!("a worker on {place} was seen {ago} ago, and has not ended as it should"),
        (Job::Collect, _) if h.beat.every > 0 => {
            format!("`rowbound collect` on {place} ended {ago} ago, and came every {} before", spoken(Duration::from_secs(h.beat.every)))
        }
        (Job::Collect, _) => format!("`rowbound collect` on {place} ended {ago} ago"),
    }
}

/// The machine and the process' number.
pub fn place(owner: &str) -> String {
    let mut parts = owner.split(':');
    match (parts.next(), parts.next()) {
        (Some(host), Some(pid)) => format!("{host} (process {pid})"),
        _ => owner.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::{heartbeat::Heartbeat, queue::Backlog};

    fn waits(due: u64, seconds: u64) -> StorageStatus {
        StorageStatus {
            name: "default".to_owned(),
            url: String::new(),
            reachable: true,
            proved: None,
            backlog: Backlog { total: due, due, due_seconds: (due > 0).then_some(seconds), ..Backlog::default() },
            checked: None,
            read: None,
            stranded: 0,
            rewound: None,
        }
    }

    fn heard(job: Job, every: u64, ended: bool, seconds: u64) -> LastHeartbeat {
        LastHeartbeat {
            beat: Heartbeat { job, place: "web-1:42:0123abcd".to_owned(), since: Timestamp::UNIX_EPOCH, every, ended, clock: None },
            seconds,
        }
    }

    fn said(storage: &StorageStatus, workers: &[LastHeartbeat], transaction: u64) -> Option<String> {
        late(storage, workers, Duration::from_secs(transaction)).map(|e| e.to_string())
    }

    #[test]
    fn what_nobody_works_on_is_said_after_a_minute() {
        assert_eq!(said(&waits(0, 0), &[], 0), None);
        assert_eq!(said(&waits(3, 60), &[], 0), None);
        let nobody = said(&waits(3, 61), &[], 0).unwrap();
        assert!(nobody.contains("3 names are due, the first for 1 min 1 s, and nobody works: nobody has since `attach`"), "{nobody}");
        let killed = said(&waits(1, 1_200), &[heard(Job::Run, 0, false, 1_260)], 0).unwrap();
        assert!(killed.contains("a worker on web-1 (process 42) was seen 21 min ago, and has not ended as it should"), "{killed}");
        let stopped = said(&waits(1, 90), &[heard(Job::Run, 0, true, 30)], 0).unwrap();
        assert!(stopped.contains("was stopped 30 s ago"), "{stopped}");
    }

    #[test]
    fn a_worker_that_lives_has_a_quarter_of_an_hour_and_what_a_transaction_takes() {
        let alive = [heard(Job::Run, 0, false, 10)];
        assert_eq!(said(&waits(1, 900), &alive, 0), None);
        assert!(said(&waits(1, 901), &alive, 0).unwrap().contains("although somebody works"));
        assert_eq!(said(&waits(1, 4_000), &alive, 3_600), None, "a dump keeps them");
        assert!(said(&waits(1, 4_600), &alive, 3_600).is_some());
    }

    #[test]
    fn a_timer_has_its_own_interval() {
        let hourly = [heard(Job::Collect, 3_600, true, 3_000)];
        assert_eq!(said(&waits(1, 3_000), &hourly, 0), None);
        let late = said(&waits(1, 9_000), &[heard(Job::Collect, 3_600, true, 9_000)], 0).unwrap();
        assert!(late.contains("ended 2 h 30 min ago, and came every 1 h before"), "{late}");
    }
}
