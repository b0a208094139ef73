//! A candidate that ends its whole worker keeps no other one.
//!
//! In: claimed candidates whose last tries had no end: the worker died, perhaps of one of them. Out: a few of them tried, the others back in the queue. Promise: each
//! time a worker dies, fewer are tried together, until the one that ends it is alone; that one is set apart, with what happened to it, and all
//! others are collected.
//!
//! An error and a panic come with an end, and are [`super::narrow`]'s. These here have none: memory that ran out, a stack that overflowed, a fault in a library of
//! the system. Most that are found here had no part in it.

use std::time::Duration;

use super::{
    Batch, Claimant, Collector, Lane, Moved,
    steps::Settled,
    verdict::{Decided, Verdict},
};
use crate::{
    capture::Installation,
    error::Result,
    queue::{Candidate, PutBack, Waits, backoff, shortened},
};

/// After each try without an end so many times fewer are tried together: three bits.
const NARROWER: u32 = 3;

/// So many tries had no end: it was alone in the last of them, and has itself ended a worker.
pub(super) const ALONE: u32 = 5;

/// While another worker of this process tries some: it may be ended with them.
const NEXT: Duration = Duration::from_secs(1);

/// How many are tried together of which `tries` had no end; `limit` is a whole batch.
fn together(limit: u32, tries: u32) -> usize {
    let size = limit.checked_shr(tries.saturating_mul(NARROWER)).unwrap_or(0).max(1);
    if tries + 1 >= ALONE { 1 } else { size as usize }
}

/// What is done with suspects.
#[derive(Debug, Default, PartialEq, Eq)]
struct Split {
    now: Vec<Candidate>,
    later: Vec<Candidate>,
    apart: Vec<Candidate>,
}

/// Those that are tried now, those that are the next batches', and those that are set apart: each was alone when its worker died. What was set apart the last time is
/// tried again, last of all. `limit` is a whole batch.
fn split(suspects: Vec<Candidate>, limit: u32, at_once: bool) -> Split {
    let is_apart = |c: &Candidate| c.unended() >= ALONE && c.waits.as_ref().is_none_or(|w| w.apart != c.attempts);
    let (apart, rest): (Vec<_>, Vec<_>) = suspects.into_iter().partition(|c| !at_once && is_apart(c));
    let Some(least) = rest.iter().map(Candidate::unended).min() else { return Split { apart, ..Split::default() } };
    // Those that have as many were together, or could have been.
    let (mut now, mut later): (Vec<_>, Vec<_>) = rest.into_iter().partition(|c| c.unended() == least);
    later.extend(now.split_off(together(limit, least).min(now.len())));
    Split { now, later, apart }
}

impl Collector {
    /// Tries some of what may have ended a worker, from end to end, and gives back the rest before. What else the batch has moved is settled first.
    #[allow(clippy::too_many_arguments)]
    pub(super) async fn suspects(
        &self,
        lane: &Lane,
        record: Installation,
        suspects: Vec<Candidate>,
        limit: u32,
        claimant: Claimant,
        batch: &mut Batch,
        waiting: &mut Vec<Moved>,
    ) -> Result<()> {
        self.see_through(lane, waiting, batch).await?;
        let mut decided = Decided::new(&claimant, &lane.plan.name);
        let Ok(_one) = lane.suspects.try_lock() else {
            for c in &suspects {
                decided.one(
                    c,
                    None,
                    Verdict::wait(NEXT, "a worker died while it had this one and others: they are tried again, fewer at a time"),
                );
            }
            batch.summary.add(&decided.summary);
            return self.finish(lane, Settled(decided), None).await;
        };
        let Split { now, later, apart } = split(suspects, limit, self.settings.retry_now);
        for c in &later {
            decided.one(c, None, Verdict::again("a worker died while it had this one and others: they are tried again, fewer at a time"));
        }
        for c in &apart {
            set_apart(&mut decided, c);
        }
        batch.again += decided.again;
        batch.summary.add(&decided.summary);
        self.finish(lane, Settled(decided), None).await?;
        if now.is_empty() {
            return Ok(());
        }
        self.pieces(lane, record, now, limit, claimant.again(self), batch, waiting).await?;
        self.see_through(lane, waiting, batch).await
    }
}

/// Its try is not begun: it waits for the longer, the oftener a worker has died of it.
fn set_apart(decided: &mut Decided, c: &Candidate) {
    let tries = c.unended();
    let note = format!(
        "a worker died each of the last {tries} times that it was tried, the last time of this one alone: look at its file, and into the log of the system \
         (memory?); `rowbound collect --retry-now` tries it at once"
    );
    let before = c.waits.clone().unwrap_or_else(|| Waits { young: true, ..Waits::default() });
    decided.summary.failed += 1;
    decided.summary.notes.entry(note.clone()).or_insert_with(|| shortened(&c.value));
    decided.settlement.back.push(PutBack {
        id: c.id,
        wait: backoff(tries - ALONE),
        attempts: c.attempts,
        note,
        waits: Some(Waits { apart: c.attempts, ..before }),
    });
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::Timestamp;

    use super::*;

    fn candidate(id: i64) -> Candidate {
        Candidate {
            id,
            binding: None,
            value: id.to_string().into_bytes(),
            key: None,
            event: "delete".to_owned(),
            released_at: Timestamp::UNIX_EPOCH,
            attempts: 0,
            opened: false,
            waits: None,
        }
    }

    /// Collects `count` candidates of which some end their worker; a claim takes those with the lowest ids. Returns the deaths, and how often others than the
    /// culprits were set apart.
    fn run(count: i64, culprits: &[i64], limit: u32) -> (u32, u32) {
        let mut queue: BTreeMap<i64, Candidate> = (0..count).map(|id| (id, candidate(id))).collect();
        let (mut deaths, mut innocent, mut rounds) = (0, 0, 0);
        while queue.keys().any(|id| !culprits.contains(id)) || queue.values().any(|c| c.waits.as_ref().is_none_or(|w| w.apart == 0)) {
            rounds += 1;
            assert!(rounds < 10_000, "{} are left", queue.len());
            // What was set apart waits.
            let due = queue.values().filter(|c| c.waits.as_ref().is_none_or(|w| w.apart == 0));
            let claimed: Vec<Candidate> = due.take(limit as usize).cloned().collect();
            let (suspects, fresh): (Vec<_>, Vec<_>) = claimed.iter().cloned().partition(|c| c.unended() > 0);
            let dies = |piece: &[Candidate]| piece.iter().any(|c| culprits.contains(&c.id));
            let mut tried = fresh.clone();
            let mut dead = dies(&fresh);
            if !dead {
                fresh.iter().for_each(|c| drop(queue.remove(&c.id)));
                let Split { now, apart, .. } = split(suspects.clone(), limit, false);
                for c in apart {
                    innocent += u32::from(!culprits.contains(&c.id));
                    let c = queue.get_mut(&c.id).unwrap();
                    c.waits = Some(Waits { young: true, apart: c.attempts, ..Waits::default() });
                }
                dead = dies(&now);
                if !dead {
                    now.iter().for_each(|c| drop(queue.remove(&c.id)));
                }
                tried = now;
            } else {
                tried.extend(suspects);
            }
            if dead {
                deaths += 1;
                tried.iter().for_each(|c| queue.get_mut(&c.id).unwrap().attempts += 1);
            }
        }
        (deaths, innocent)
    }

    #[test]
    fn what_ends_its_worker_is_found_and_all_others_are_collected() {
        assert_eq!(run(4_000, &[1_234], 4_000), (5, 0));
        assert_eq!(run(4_000, &[0], 500), (5, 0));
        let (deaths, innocent) = run(4_000, &[3, 4, 5, 700, 3_999], 4_000);
        assert!(deaths <= 25 && innocent == 0, "{deaths} {innocent}");
    }

    #[test]
    fn what_was_set_apart_is_tried_again_and_set_apart_again_if_it_does_not_end() {
        let mut c = Candidate { attempts: ALONE, ..candidate(1) };
        assert_eq!(split(vec![c.clone()], 4_000, false).apart.len(), 1);
        assert_eq!(split(vec![c.clone()], 4_000, true).now.len(), 1, "a person asks");
        c.waits = Some(Waits { young: true, apart: c.attempts, ..Waits::default() });
        assert_eq!(split(vec![c.clone(), candidate(2)], 4_000, false).now, [candidate(2)]);
        assert_eq!(split(vec![c.clone()], 4_000, false).now.len(), 1);
        // The claim of that try counted, and it had no end.
        c.attempts += 1;
        assert_eq!(split(vec![c], 4_000, false).apart.len(), 1);
        // Failures have an end.
        let failing = Candidate { attempts: 9, waits: Some(Waits { young: true, ended: 9, ..Waits::default() }), ..candidate(3) };
        assert_eq!(failing.unended(), 0);
    }
}
