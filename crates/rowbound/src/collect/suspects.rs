//! A candidate that ends its whole worker keeps no other one.
//!
//! In: claimed candidates whose last tries had no end: the worker died, perhaps of one of them. Out: a few of them tried, the others back in the queue. Promise: each
//! time a worker dies, fewer are tried together, until the one that ends it is alone; that one is set apart, with what happened to it, and all
//! others are collected.
//!
//! An error and a panic come with an end, and are [`super::narrow`]'s. These here have none: memory that ran out, a stack that overflowed, a fault in a library of
//! the system. Most that are found here had no part in it.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

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

/// After so many tries without an end one is tried alone, and set apart after so many. Between the two a worker may die of something else.
const ALONE: u32 = 4;
const APART: u32 = 7;

/// While another worker of this process tries some: it may be ended with them.
const NEXT: Duration = Duration::from_secs(1);

/// How many are tried together of which `tries` had no end; `limit` is a whole batch.
fn together(limit: u32, tries: u32) -> usize {
    let size = limit.checked_shr(tries.saturating_mul(NARROWER)).unwrap_or(0).max(1);
    if tries >= ALONE { 1 } else { size as usize }
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
    let is_apart = |c: &Candidate| c.unended() >= APART && c.waits.as_ref().is_none_or(|w| w.apart != c.attempts);
    let (apart, rest): (Vec<_>, Vec<_>) = suspects.into_iter().partition(|c| !at_once && is_apart(c));
    let Some(least) = rest.iter().map(Candidate::unended).min() else { return Split { apart, ..Split::default() } };
    // Those that have as many were together, or could have been.
    let (mut now, mut later): (Vec<_>, Vec<_>) = rest.into_iter().partition(|c| c.unended() == least);
    later.extend(now.split_off(together(limit, least).min(now.len())));
    Split { now, later, apart }
}

impl Collector {
    /// What a batch takes of its claim: suspects, or others. Where it claimed both, one kind goes back before anything is begun, in turns: what a worker dies of
    /// counts for those alone that it had begun.
    pub(super) async fn apart_from_suspects(
        &self,
        lane: &Lane,
        claimed: Vec<Candidate>,
        claimant: &Claimant,
        batch: &mut Batch,
    ) -> Result<(Vec<Candidate>, Vec<Candidate>)> {
        let (suspects, others): (Vec<_>, Vec<_>) = claimed.into_iter().partition(|c| c.unended() > 0);
        lane.counts.store(!suspects.is_empty(), Relaxed);
        if suspects.is_empty() || others.is_empty() {
            return Ok((suspects, others));
        }
        let (mut taken, back) = (suspects, others);
        let suspects_now = lane.suspects_first.fetch_xor(true, Relaxed);
        let back = if suspects_now { back } else { std::mem::replace(&mut taken, back) };
        let mut decided = Decided::new(claimant, &lane.plan.name);
        for c in &back {
            decided.one(c, None, Verdict::again("a worker died while it had some of these: they are tried apart from others"));
        }
        batch.again += decided.again;
        self.finish(lane, Settled(decided), None).await?;
        Ok(if suspects_now { (taken, Vec::new()) } else { (Vec::new(), taken) })
    }

    /// Tries some of what may have ended a worker, from end to end, and gives back the rest before.
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
        wait: backoff(tries - APART),
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
        let (mut deaths, mut innocent, mut rounds, mut turn) = (0, 0, 0, false);
        while queue.keys().any(|id| !culprits.contains(id)) || queue.values().any(|c| c.waits.as_ref().is_none_or(|w| w.apart == 0)) {
            rounds += 1;
            assert!(rounds < 10_000, "{} are left", queue.len());
            // What was set apart waits.
            let due = queue.values().filter(|c| c.waits.as_ref().is_none_or(|w| w.apart == 0));
            let claimed: Vec<Candidate> = due.take(limit as usize).cloned().collect();
            let (suspects, fresh): (Vec<_>, Vec<_>) = claimed.iter().cloned().partition(|c| c.unended() > 0);
            let dies = |piece: &[Candidate]| piece.iter().any(|c| culprits.contains(&c.id));
            turn = !turn;
            let (tried, dead) = if suspects.is_empty() || !fresh.is_empty() && turn {
                let dead = dies(&fresh);
                if !dead {
                    fresh.iter().for_each(|c| drop(queue.remove(&c.id)));
                }
                (fresh, dead)
            } else {
                let Split { now, apart, .. } = split(suspects, limit, false);
                for c in apart {
                    innocent += u32::from(!culprits.contains(&c.id));
                    let c = queue.get_mut(&c.id).unwrap();
                    c.waits = Some(Waits { young: true, apart: c.attempts, ..Waits::default() });
                }
                let dead = dies(&now);
                if !dead {
                    now.iter().for_each(|c| drop(queue.remove(&c.id)));
                }
                (now, dead)
            };
            if dead {
                deaths += 1;
                tried.iter().for_each(|c| queue.get_mut(&c.id).unwrap().attempts += 1);
            }
        }
        (deaths, innocent)
    }

    #[test]
    fn what_ends_its_worker_is_found_and_all_others_are_collected() {
        assert_eq!(run(4_000, &[1_234], 4_000), (APART, 0));
        assert_eq!(run(4_000, &[0], 500), (APART, 0));
        let (deaths, innocent) = run(4_000, &[3, 4, 5, 700, 3_999], 4_000);
        assert!(deaths <= 5 * APART && innocent == 0, "{deaths} {innocent}");
    }

    #[test]
    fn what_was_set_apart_is_tried_again_and_set_apart_again_if_it_does_not_end() {
        let mut c = Candidate { attempts: APART, ..candidate(1) };
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
