//! Clocks that differ from the database's.
//!
//! In: what the database, this machine and a storage say at one moment. Out: how far they are apart. Promise: ages are judged by the database's clock alone, and where
//! another one is off by more than a minute nothing is erased.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use jiff::{SignedDuration, Timestamp};

use super::Storage;
use crate::{
    clock,
    database::Database,
    error::{Error, Kind, Result},
};

/// What was measured is measured anew after so long, or when this machine's clock was set.
const AGE: Duration = Duration::from_secs(600);

/// Clocks that are closer than this are taken for the same: a server that answers late, a service that tells whole seconds.
const SAME: SignedDuration = SignedDuration::from_secs(2);

/// While a clock is off by more than this, nothing is erased.
const MARGIN: SignedDuration = SignedDuration::from_secs(60);

/// How far clocks are ahead of the database's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Skew {
    /// This machine's.
    pub(crate) machine: SignedDuration,
    /// The storage's, by which it says when a file was modified.
    pub(crate) storage: SignedDuration,
}

impl Skew {
    /// What the storage said, by the database's clock.
    pub(crate) fn told(&self, at: Timestamp) -> Timestamp {
        // The ends of the calendar stay where they are: they are no moments.
        at.checked_sub(self.storage).unwrap_or(at)
    }

    /// Why nothing may be erased.
    pub(crate) fn apart(&self, storage: &str) -> Option<Error> {
        let (whose, by) = match (self.machine.abs() > MARGIN, self.storage.abs() > MARGIN) {
            (true, _) => ("this machine's clock".to_owned(), self.machine),
            (_, true) => (format!("the clock of storage {storage}"), self.storage),
            _ => return None,
        };
        let way = if by.is_negative() { "behind" } else { "ahead of" };
        let e = Error::new(Kind::Clock, format!("{whose} is {} {way} the database's: nothing is erased", about(by)));
        Some(e.hint("set the clocks (NTP): what lies in the trash is erased when they agree"))
    }
}

/// As exactly as it matters: what is off by minutes is told in minutes.
fn about(time: SignedDuration) -> String {
    let by = time.unsigned_abs();
    clock::spoken(if by < Duration::from_secs(120) { by } else { Duration::from_secs((by.as_secs() + 30) / 60 * 60) })
}

/// What was measured, for all who work on a storage.
#[derive(Debug)]
pub(crate) struct Clocks {
    db: Arc<dyn Database>,
    storage: Arc<dyn Storage>,
    known: Mutex<Option<(Instant, SystemTime, Skew)>>,
}

impl Clocks {
    /// Of a storage. Measures nothing yet.
    pub(crate) fn new(db: Arc<dyn Database>, storage: Arc<dyn Storage>) -> Self {
        Clocks { db, storage, known: Mutex::default() }
    }

    /// What was measured last.
    pub(crate) fn known(&self) -> Option<Skew> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).map(|(.., skew)| skew)
    }

    /// How far they are apart. From now on the storage stamps what it moves with the database's time.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn get(&self) -> Result<Skew> {
        let known = *self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, _, skew)) = known.filter(|(at, wall, _)| at.elapsed() < AGE && !was_set(*at, *wall)) {
            return Ok(skew);
        }
        let (at, wall) = (Instant::now(), SystemTime::now());
        let machine = -ahead(|| async { self.db.now().await }, SignedDuration::ZERO).await?;
        // Where it costs requests, and leaves versions behind, it is not asked: its answers tell, or its clock is taken for the database's.
        let storage = match self.storage.quick() {
            true => match ahead(|| async { self.storage.now().await }, SignedDuration::from_secs(1)).await {
                Ok(of_machine) => machine + of_machine,
                // A full disk takes no file that could tell its clock, and is to be emptied all the same.
                Err(e) => {
                    tracing::debug!("the storage's clock cannot be told: {}", e.full());
                    known.map_or(machine, |(.., skew)| skew.storage)
                }
            },
            false => {
                let known = known.map_or(SignedDuration::ZERO, |(.., skew)| skew.storage);
                self.storage.ahead_of_machine().await.map_or(known, |of_machine| machine + of_machine)
            }
        };
        let same = |by: SignedDuration| if by.abs() <= SAME { SignedDuration::ZERO } else { by };
        let skew = Skew { machine: same(machine), storage: same(storage) };
        self.storage.ahead().set(skew.machine);
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((at, wall, skew));
        Ok(skew)
    }
}

/// Whether this machine's clock was set since a moment, or the machine was suspended.
pub(super) fn was_set(at: Instant, wall: SystemTime) -> bool {
    let by_wall = wall.elapsed().unwrap_or_default();
    by_wall.abs_diff(at.elapsed()) > Duration::from_secs(1)
}

/// How far what is `asked` is ahead of this machine's clock; `coarse` is how exactly it tells.
async fn ahead<F, Fut>(asked: F, coarse: SignedDuration) -> Result<SignedDuration>
where
    F: FnOnce() -> Fut,
    Fut: Future<Output = Result<Timestamp>>,
{
    let before = Timestamp::now();
    let said = asked().await?;
    let after = Timestamp::now();
    // What it takes to ask is no difference.
    let by = if said < before {
        said.duration_since(before) + coarse
    } else if said > after {
        said.duration_since(after)
    } else {
        return Ok(SignedDuration::ZERO);
    };
    Ok(if said < before { by.min(SignedDuration::ZERO) } else { by })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(machine: i64, storage: i64) -> Skew {
        Skew { machine: SignedDuration::from_secs(machine), storage: SignedDuration::from_secs(storage) }
    }

    #[test]
    fn a_clock_that_is_off_by_more_than_a_minute_keeps_the_trash() {
        assert!(of(60, -60).apart("default").is_none());
        let said = |skew: Skew| skew.apart("default").unwrap().to_string();
        assert!(said(of(7_200, 0)).contains("this machine's clock is 2 h ahead of the database's"), "{}", said(of(7_200, 0)));
        assert!(said(of(0, -259_200)).contains("the clock of storage default is 3 d behind the database's"), "{}", said(of(0, -259_200)));
    }

    #[test]
    fn a_storage_s_time_is_told_by_the_database_s_clock() {
        let at = Timestamp::from_second(1_800_000_000).unwrap();
        assert_eq!(of(0, 3_600).told(at), at - SignedDuration::from_hours(1));
        assert_eq!(of(0, 3_600).told(Timestamp::MIN), Timestamp::MIN);
        assert_eq!(of(0, -3_600).told(Timestamp::MAX), Timestamp::MAX);
    }

    #[tokio::test]
    async fn what_it_takes_to_ask_is_no_difference() {
        let exact = SignedDuration::ZERO;
        assert_eq!(ahead(|| async { Ok(Timestamp::now()) }, exact).await.unwrap(), SignedDuration::ZERO);
        let hour = SignedDuration::from_hours(1);
        let off = ahead(|| async { Ok(Timestamp::now() - hour) }, exact).await.unwrap();
        assert!((off + hour).abs() < SignedDuration::from_secs(1), "{off:?}");
        let off = ahead(|| async { Ok(Timestamp::now() + hour) }, exact).await.unwrap();
        assert!((off - hour).abs() < SignedDuration::from_secs(1), "{off:?}");
        let whole =
            ahead(|| async { Ok(Timestamp::now() - SignedDuration::from_millis(900)) }, SignedDuration::from_secs(1)).await.unwrap();
        assert_eq!(whole, SignedDuration::ZERO);
    }
}
