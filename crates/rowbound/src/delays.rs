//! Whose open transactions keep candidates waiting, and for how long.
//!
//! In: open transactions, and what candidates wait for. Out: [`Delay`]s, the longest first, for `status` and the log.

use std::{
    collections::HashMap,
    sync::Mutex,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    clock,
    database::{OpenTransaction, Who},
    queue::Waits,
};

/// A transaction that is open for so long is told, also where no candidate was put back because of it: a worker keeps the files that wait for it in hand.
pub const LONG: Duration = Duration::from_secs(60);

/// A session that was not met for so long is another delay when it is met again.
const FORGOTTEN: Duration = Duration::from_secs(300);

/// A session whose open transaction delays deletions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Delay {
    /// For people: whose it is and since when.
    pub transaction: String,
    /// Its session.
    #[serde(flatten)]
    pub who: Who,
    /// Since when it is open, if the database says it.
    pub since: Option<Timestamp>,
    /// For how many seconds that is.
    pub seconds: Option<u64>,
    /// Candidates that wait for it: those that were put back because of it, and those that are due or claimed and cannot end before it does.
    pub waiting: u64,
}

/// Those of `open` for which candidates wait.
pub(crate) fn delays(open: &[OpenTransaction], waits: &[(Option<Waits>, u64)], now: Timestamp) -> Vec<Delay> {
    let untried: u64 = waits.iter().filter(|(waits, _)| waits.is_none()).map(|(_, n)| n).sum();
    let mut found: Vec<Delay> = Vec::new();
    for (i, t) in open.iter().enumerate() {
        // One that is prepared may stand there with several keys.
        if open[..i].iter().any(|earlier| earlier.description == t.description) {
            continue;
        }
        let keys: Vec<&str> = open[i..].iter().filter(|o| o.description == t.description).map(|o| &*o.key).collect();
        let waits_for_it = |w: &Waits| w.transactions.iter().any(|key| keys.contains(&&**key));
        let remembered: u64 = waits.iter().filter(|(w, _)| w.as_ref().is_some_and(waits_for_it)).map(|(_, n)| n).sum();
        let long = t.since.is_some_and(|since| clock::passed(since, LONG, now));
        let waiting = remembered + if remembered > 0 || long { untried } else { 0 };
        if waiting > 0 {
            let seconds = t.since.map(|since| clock::age(since, now).as_secs());
            found.push(Delay { transaction: t.description.clone(), who: t.who.clone(), since: t.since, seconds, waiting });
        }
    }
    found.sort_by_key(|d| d.since.unwrap_or(Timestamp::MIN));
    found
}

/// Which delays a collector has met, and for how long.
#[derive(Debug, Default)]
pub(crate) struct Met(Mutex<HashMap<String, Meeting>>);

#[derive(Debug)]
struct Meeting {
    first: Instant,
    last: Instant,
    said: bool,
}

impl Met {
    /// Something waits for these now. Returns those that are to be said: each once, when it has been met for [`LONG`].
    pub(crate) fn now<'t>(&self, waited_for: impl IntoIterator<Item = &'t OpenTransaction>) -> Vec<&'t OpenTransaction> {
        self.at(Instant::now(), waited_for)
    }

    fn at<'t>(&self, now: Instant, waited_for: impl IntoIterator<Item = &'t OpenTransaction>) -> Vec<&'t OpenTransaction> {
        let mut met = self.0.lock().unwrap_or_else(|e| e.into_inner());
        met.retain(|_, meeting| now.duration_since(meeting.last) < FORGOTTEN);
        let mut say = Vec::new();
        for t in waited_for {
            let meeting = met.entry(t.key.clone()).or_insert(Meeting { first: now, last: now, said: false });
            meeting.last = now;
            if !meeting.said && now.duration_since(meeting.first) >= LONG {
                meeting.said = true;
                say.push(t);
            }
        }
        say
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(key: &str, minutes: i64) -> OpenTransaction {
        let since = Timestamp::from_second(1_800_000_000 - minutes * 60).ok();
        OpenTransaction { key: key.into(), description: format!("the session of {key}"), since, who: Who::default() }
    }

    fn waits(keys: &[&str], count: u64) -> (Option<Waits>, u64) {
        (Some(Waits { transactions: keys.iter().map(|k| (*k).to_owned()).collect(), ..Waits::default() }), count)
    }

    #[test]
    fn candidates_wait_for_those_that_they_remember() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let all = [open("young", 0), open("old", 90), open("ten", 10)];
        let waiting = |waits: &[_]| delays(&all, waits, now).into_iter().map(|d| (d.transaction, d.waiting)).collect::<Vec<_>>();
        let said = |key: &str, n| (format!("the session of {key}"), n);
        assert_eq!(waiting(&[]), []);
        assert_eq!(waiting(&[waits(&["gone"], 7)]), []);
        assert_eq!(waiting(&[waits(&["young", "old"], 2), waits(&["old"], 3)]), [said("old", 5), said("young", 2)]);
        // What was not put back waits for the long ones, and for those that others wait for.
        assert_eq!(waiting(&[(None, 4)]), [said("old", 4), said("ten", 4)]);
        assert_eq!(waiting(&[(None, 4), waits(&["young"], 1)]), [said("old", 4), said("ten", 4), said("young", 5)]);
        assert_eq!(delays(&all, &[(None, 4)], now)[0].seconds, Some(5_400));
        // A prepared transaction with two keys is one.
        let mut prepared = [open("a", 10), open("b", 10)];
        prepared[1].description = prepared[0].description.clone();
        let found = delays(&prepared, &[waits(&["b"], 1), waits(&["a", "b"], 1)], now);
        assert_eq!((found.len(), found[0].waiting), (1, 2));
    }

    #[test]
    fn a_delay_is_said_once_when_it_has_lasted() {
        let (met, long, other) = (Met::default(), open("long", 1), open("other", 1));
        let begin = Instant::now();
        let after = |seconds: u64| begin + Duration::from_secs(seconds);
        assert!(met.at(begin, [&long]).is_empty());
        assert!(met.at(after(59), [&long, &other]).is_empty());
        assert_eq!(met.at(after(60), [&long, &other]), [&long]);
        assert_eq!(met.at(after(119), [&long, &other]), [&other]);
        assert!(met.at(after(240), [&long, &other]).is_empty(), "once");
        // Met again long after: another delay.
        assert!(met.at(after(600), [&long]).is_empty());
        assert_eq!(met.at(after(660), [&long]), [&long]);
    }
}
