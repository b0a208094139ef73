//! Who works: what a worker says of itself now and then, so that its silence is noticed.
//!
//! In: what a process does. Out: a heartbeat, which `status` reads. Promise: a heartbeat is as old as the database's clock says, and a process
//! that is gone, killed or cut off writes none.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A process that collects for ever writes a heartbeat so often.
pub const EVERY: Duration = Duration::from_secs(20);

/// A heartbeat that is older than this has been missed.
const LATE: Duration = Duration::from_secs(60);

/// How long a `collect` counts if nobody knows yet when the next one comes.
const ONCE: Duration = Duration::from_secs(15 * 60);

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Job {
    /// It collects for ever: `rowbound run`, or an application's worker.
    Run,
    /// It collects what is due and ends: `rowbound collect`, of which a timer starts the next.
    Collect,
}

/// A heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// What the process does.
    pub job: Job,
    /// The machine, and the process' number.
    pub place: String,
    /// When it began.
    pub since: Timestamp,
    /// A `collect`: the time from the one before it to this one, in seconds; 0 where there was none.
    #[serde(default)]
    pub every: u64,
    /// Whether it has ended as it should.
    #[serde(default)]
    pub ended: bool,
    /// Why it erases nothing: a clock that is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<String>,
}

impl Heartbeat {
    /// The key under which it is kept: of a `collect`, the machine's latest.
    pub fn key(&self) -> String {
        match self.job {
            Job::Run => format!("run {}", self.place),
            Job::Collect => format!("collect {}", self.place.split(':').next().unwrap_or_default()),
        }
    }
}

/// A heartbeat, as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LastHeartbeat {
    /// What was said.
    #[serde(flatten)]
    pub beat: Heartbeat,
    /// How many seconds ago, by the database's clock.
    pub seconds: u64,
}

impl LastHeartbeat {
    /// Whether somebody still works, as far as this heartbeat says.
    pub fn works(&self) -> bool {
        match self.beat.job {
            Job::Run => !self.beat.ended && self.seconds <= LATE.as_secs(),
            Job::Collect => self.seconds <= self.patience().as_secs(),
        }
    }

    /// For how long nothing else is expected of it.
    pub fn patience(&self) -> Duration {
        match (self.beat.job, self.beat.every) {
            (Job::Run, _) => LATE,
            (Job::Collect, 0) => ONCE,
            // A timer's next one may be late, and takes its time.
            (Job::Collect, every) => Duration::from_secs(every.saturating_mul(2)).max(LATE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(job: Job, every: u64, ended: bool, seconds: u64) -> LastHeartbeat {
        let beat = Heartbeat { job, place: "web-1:42".to_owned(), since: Timestamp::UNIX_EPOCH, every, ended, clock: None };
        LastHeartbeat { beat, seconds }
    }

    #[test]
    fn a_sign_of_life_counts_for_as_long_as_the_next_one_takes() {
        assert!(heard(Job::Run, 0, false, 59).works());
        assert!(!heard(Job::Run, 0, false, 61).works());
        assert!(!heard(Job::Run, 0, true, 1).works(), "it has ended");
        assert!(heard(Job::Collect, 3_600, true, 7_000).works(), "every hour");
        assert!(!heard(Job::Collect, 3_600, true, 7_300).works());
        assert!(heard(Job::Collect, 0, true, 600).works() && !heard(Job::Collect, 0, true, 1_000).works());
        assert_eq!(heard(Job::Collect, 0, true, 1).beat.key(), "collect web-1");
    }
}
