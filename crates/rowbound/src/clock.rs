//! Sums of moments and lengths of time.
//!
//! In: what files, databases and people say, which may lie anywhere: a file from the year 11476, a retention of 5,000,000 days. Out: sums that
//! end where the calendar does (the years -9999 and 9999). Promise: nothing here panics, and no end of the calendar makes a file look older, a
//! lease last longer or a retention end sooner.

use std::{
    sync::atomic::{AtomicI64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};

/// A wait that nobody sees the end of: thirty years.
const ENDLESS: Duration = Duration::from_secs(30 * 366 * 86_400);

/// The moment `by` before `at`, or the first of all moments: nothing lies before that one.
pub fn before(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_sub(by).unwrap_or(Timestamp::MIN)
}

/// The moment `by` after `at`, or the last of all moments. Do not compare it with another that may be the last one too: see [`passed`].
#[cfg_attr(not(any(feature = "s3", feature = "service")), allow(dead_code))]
pub(crate) fn after(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// Whether at least `by` has passed from `since` until `now`. Beyond the calendar's end it has not.
pub(crate) fn passed(since: Timestamp, by: Duration, now: Timestamp) -> bool {
    since.checked_add(by).is_ok_and(|end| end <= now)
}

/// How long ago `since` was; nothing if it is still to come.
pub(crate) fn age(since: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(since)).unwrap_or(Duration::ZERO)
}

/// A length of time for people: its two largest units.
pub fn spoken(time: Duration) -> String {
    let s = time.as_secs();
    let parts = [(s / 86_400, "d"), (s / 3600 % 24, "h"), (s / 60 % 60, "min"), (s % 60, "s")];
    let said: Vec<_> = parts.iter().skip_while(|(n, _)| *n == 0).take(2).filter(|(n, _)| *n > 0).map(|(n, u)| format!("{n} {u}")).collect();
    if said.is_empty() { "0 s".to_owned() } else { said.join(" ") }
}

/// How far this machine's clock is ahead of the database's. What goes to a trash is stamped with the database's time, which is the same for
/// every worker whatever its own machine says.
#[derive(Debug, Default)]
pub struct Ahead(AtomicI64);

impl Ahead {
    /// Takes over what was measured.
    pub(crate) fn set(&self, ahead: SignedDuration) {
        self.0.store(i64::try_from(ahead.as_millis()).unwrap_or(0), Relaxed);
    }

    /// The database's time, as far as it was measured.
    pub fn now(&self) -> Timestamp {
        Timestamp::now().checked_sub(SignedDuration::from_millis(self.0.load(Relaxed))).unwrap_or_else(|_| Timestamp::now())
    }
}

/// The moment of this process' clock at which a wait of `wait` ends.
pub fn deadline(wait: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(wait).unwrap_or_else(|| now + ENDLESS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn moments() -> impl Strategy<Value = Timestamp> {
        let seconds = Timestamp::MIN.as_second()..=Timestamp::MAX.as_second();
        prop_oneof![
            4 => (seconds, 0..1_000_000_000).prop_map(|(s, n)| Timestamp::new(s, n).unwrap_or(Timestamp::MAX)),
            1 => Just(Timestamp::MIN),
            1 => Just(Timestamp::MAX),
        ]
    }

    fn lengths() -> impl Strategy<Value = Duration> {
        prop_oneof![
            4 => (0..1_000_000_000_000_u64, 0..1_000_000_000_u32).prop_map(|(s, n)| Duration::new(s, n)),
            1 => (any::<u64>(), 0..1_000_000_000_u32).prop_map(|(s, n)| Duration::new(s, n)),
            1 => Just(Duration::MAX),
            1 => Just(Duration::ZERO),
        ]
    }

    proptest! {
        #[test]
        fn no_sum_panics_and_none_goes_the_wrong_way(at in moments(), now in moments(), by in lengths(), more in lengths()) {
            prop_assert!(before(at, by) <= at && at <= after(at, by));
            // A longer retention never ends sooner, a longer wait never either.
            let longer = by.saturating_add(more);
            prop_assert!(before(at, longer) <= before(at, by));
            prop_assert!(after(at, longer) >= after(at, by));
            prop_assert!(!passed(at, longer, now) || passed(at, by, now));
            prop_assert!(deadline(by) >= Instant::now() || by < Duration::from_secs(1));
        }

        #[test]
        fn what_is_said_of_an_age_is_never_more_than_it_is(since in moments(), now in moments(), by in lengths()) {
            let truly = i128::from(now.as_second()) * 1_000_000_000 + i128::from(now.subsec_nanosecond())
                - i128::from(since.as_second()) * 1_000_000_000 - i128::from(since.subsec_nanosecond());
            prop_assert_eq!(age(since, now).as_nanos() as i128, truly.max(0));
            // Where the sum leaves the calendar, even a true answer is not given: the file counts as young.
            if passed(since, by, now) {
                prop_assert!(i128::try_from(by.as_nanos()).is_ok_and(|by| by <= truly));
            }
            // What is not before the end of its retention has not lain there so long.
            if since < before(now, by) {
                prop_assert!(i128::try_from(by.as_nanos()).is_ok_and(|by| by < truly));
            }
        }

        #[test]
        fn an_older_file_is_never_the_younger_one(one in moments(), other in moments(), by in lengths(), now in moments()) {
            let (older, newer) = (one.min(other), one.max(other));
            prop_assert!(age(older, now) >= age(newer, now));
            prop_assert!(!passed(newer, by, now) || passed(older, by, now));
        }
    }
}
