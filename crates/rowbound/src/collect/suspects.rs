//! A candidate that ends its whole worker keeps no other one.
//!
//! In: claimed candidates whose last tries had no end: the worker died, perhaps of one of them. Out: a few of them tried, the others back in the queue. Promise: each
//! time a worker dies, fewer are tried together, until the one that ends it is left alone; that one is set apart, with what happened to it, and all
//! others are collected.
//!
//! An error and a panic come with an end, and are [`super::narrow`]'s. These here have none: memory that ran out, a stack that overflowed, a fault in a library of
//! the system. Most that are found here had no part in it.

use std::{
    sync::{Mutex, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use super::{
    BatchResult, Claimant, Collector, Moved, StorageState,
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

/// After so many tries without an end one is tried alone.
const ALONE: u32 = 4;

/// So many pieces are as many as died together the last time. When more have come to an end, the workers were killed by something else: so many times more are tried
/// together then, since each piece costs two barriers and there may be thousands.
const PIECES: u32 = 8;
const WIDER: usize = 4;

/// One that is left alone after so many tries is set apart: a worker may have died of something else some of the times.
const APART: u32 = 7;

/// Said of those whose turn has not come.
const LATER: &str = "a worker that had this one and others came to no end: they are tried again, fewer at a time";

/// While another worker of this process tries some: it may be ended with them.
const NEXT: Duration = Duration::from_secs(1);

/// What a process has seen of suspects: how many pieces of those with one number of tries have come to an end, and how many had the last.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ended {
    tries: u32,
    pieces: u32,
    last: usize,
}

impl Ended {
    /// How many are tried together of which `tries` had no end; `limit` is a whole batch.
    fn together(&self, limit: u32, tries: u32) -> usize {
        let first = if tries >= ALONE { 1 } else { limit.checked_shr(tries.saturating_mul(NARROWER)).unwrap_or(0).max(1) as usize };
        // From then on one was alone when its worker died.
        let pieces = if tries > ALONE { 1 } else { PIECES };
        match self.tries == tries && self.pieces >= pieces {
            true => self.last.saturating_mul(WIDER).min(limit as usize),
            false => first,
        }
    }

    /// So many of which `tries` had no end have come to theirs.
    fn add(&mut self, tries: u32, count: usize) {
        let before = if self.tries == tries { self.pieces } else { 0 };
        *self = Ended { tries, pieces: before + 1, last: count };
    }
}

/// Whose turn it is among the workers of a process: one batch has suspects at a time, and what became of earlier ones.
#[derive(Debug, Default)]
pub(super) struct SuspectSlot {
    since: Option<Instant>,
    seen: Ended,
}

/// A batch has its turn until this is dropped, but no longer than a lease: one that hangs keeps no other from them.
struct SlotGuard<'a> {
    turn: &'a Mutex<SuspectSlot>,
    at: Instant,
    seen: Ended,
}

impl<'a> SlotGuard<'a> {
    fn new(turn: &'a Mutex<SuspectSlot>, lease: Duration) -> Option<Self> {
        let mut now = turn.lock().unwrap_or_else(|e| e.into_inner());
        if now.since.is_some_and(|since| since.elapsed() < lease) {
            return None;
        }
        let at = Instant::now();
        now.since = Some(at);
        Some(SlotGuard { turn, at, seen: now.seen })
    }
}

impl Drop for SlotGuard<'_> {
    fn drop(&mut self) {
        let mut now = self.turn.lock().unwrap_or_else(|e| e.into_inner());
        if now.since == Some(self.at) {
            *now = SuspectSlot { since: None, seen: self.seen };
        }
    }
}

/// What is done with suspects.
#[derive(Debug, Default, PartialEq, Eq)]
struct Split {
    now: Vec<Candidate>,
    later: Vec<Candidate>,
    apart: Vec<Candidate>,
}

/// Those that are tried now, those that are the next batches', and what is set apart: that of which workers died the oftenest, so that all that were tried with it have
/// come to an end since. What was set apart the last time is tried again, last of all. `limit` is a whole batch.
fn split(suspects: Vec<Candidate>, limit: u32, seen: &Ended, at_once: bool) -> Split {
    let was_apart = |c: &Candidate| c.waits.as_ref().is_some_and(|w| w.apart == c.attempts);
    let tries = suspects.iter().filter(|c| !was_apart(c)).map(Candidate::unended);
    let most = tries.clone().max().filter(|most| !at_once && *most >= APART && tries.filter(|t| t == most).count() == 1);
    let (apart, rest): (Vec<_>, Vec<_>) = suspects.into_iter().partition(|c| Some(c.unended()) == most && !was_apart(c));
    let Some(least) = rest.iter().map(Candidate::unended).min() else { return Split { apart, ..Split::default() } };
    // Those that have as many were together, or could have been.
    let (mut now, mut later): (Vec<_>, Vec<_>) = rest.into_iter().partition(|c| c.unended() == least);
    later.extend(now.split_off(seen.together(limit, least).min(now.len())));
    Split { now, later, apart }
}

impl Collector {
    /// What a batch takes of its claim: suspects, or others. Where it claimed both, one kind goes back before anything is begun, in turns: what a worker dies of
    /// counts for those alone that it had begun.
    pub(super) async fn apart_from_suspects(
        &self,
        state: &StorageState,
        claimed: Vec<Candidate>,
        claimant: &Claimant,
        batch: &mut BatchResult,
    ) -> Result<(Vec<Candidate>, Vec<Candidate>)> {
        let (suspects, others): (Vec<_>, Vec<_>) = claimed.into_iter().partition(|c| c.unended() > 0);
        state.counts.store(!suspects.is_empty(), Relaxed);
        if suspects.is_empty() || others.is_empty() {
            return Ok((suspects, others));
        }
        let (mut taken, back) = (suspects, others);
        let suspects_now = state.suspects_first.fetch_xor(true, Relaxed);
        let back = if suspects_now { back } else { std::mem::replace(&mut taken, back) };
        let mut decided = Decided::new(claimant, &state.plan.name);
        for c in &back {
            decided.one(c, None, Verdict::again("a worker that had some of these came to no end: they are tried apart from others"));
        }
        batch.again += decided.again;
        self.finish(state, Settled(decided), None).await?;
        Ok(if suspects_now { (taken, Vec::new()) } else { (Vec::new(), taken) })
    }

    /// Tries some of what may have ended a worker, from end to end, and gives back the rest before.
    #[allow(clippy::too_many_arguments)]
    pub(super) async fn suspects(
        &self,
        state: &StorageState,
        record: Installation,
        suspects: Vec<Candidate>,
        limit: u32,
        claimant: Claimant,
        batch: &mut BatchResult,
        waiting: &mut Vec<Moved>,
    ) -> Result<()> {
        let mut decided = Decided::new(&claimant, &state.plan.name);
        let Some(mut turn) = SlotGuard::new(&state.suspects, self.settings.lease) else {
            for c in &suspects {
                decided.one(c, None, Verdict::wait(NEXT, LATER));
            }
            batch.summary.add(&decided.summary);
            return self.finish(state, Settled(decided), None).await;
        };
        let Split { now, later, apart } = split(suspects, limit, &turn.seen, self.settings.retry_now);
        for c in &later {
            decided.one(c, None, Verdict::again(LATER));
        }
        for c in &apart {
            set_apart(&mut decided, c);
        }
        batch.again += decided.again;
        batch.summary.add(&decided.summary);
        self.finish(state, Settled(decided), None).await?;
        let Some(tries) = now.first().map(Candidate::unended) else { return Ok(()) };
        let count = now.len();
        self.pieces(state, record, now, limit, claimant.again(self), batch, waiting).await?;
        self.see_through(state, waiting, batch).await?;
        turn.seen.add(tries, count);
        Ok(())
    }
}

/// Its try is not begun: it waits for the longer, the oftener a worker has died of it.
fn set_apart(decided: &mut Decided, c: &Candidate) {
    let tries = c.unended();
    let note = format!(
        "its worker came to no end the last {tries} times that it was tried (it died, or its lease ran out), and what was tried with it has ended since: look at \
         its file, and into the log of the system (memory?); `rowbound collect --retry-now` tries it at once"
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

    use super::*;

    /// Collects `count` candidates of which some end their worker, and all have had so many tries without an end; a claim takes those with the lowest ids. Returns the
    /// deaths, how often others than the culprits were set apart, and the batches.
    fn run(count: i64, tries: u32, culprits: &[i64], limit: u32) -> (u32, u32, u32) {
        let mut queue: BTreeMap<i64, Candidate> =
            (0..count).map(|id| (id, Candidate { attempts: tries, ..Candidate::sample(id) })).collect();
        let (mut deaths, mut innocent, mut rounds, mut turn) = (0, 0, 0, false);
        let mut seen = Ended::default();
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
                let Split { now, apart, .. } = split(suspects, limit, &seen, false);
                for c in apart {
                    innocent += u32::from(!culprits.contains(&c.id));
                    let c = queue.get_mut(&c.id).unwrap();
                    c.waits = Some(Waits { young: true, apart: c.attempts, ..Waits::default() });
                }
                let dead = dies(&now);
                if !dead && !now.is_empty() {
                    seen.add(now[0].unended(), now.len());
                    now.iter().for_each(|c| drop(queue.remove(&c.id)));
                }
                (now, dead)
            };
            if dead {
                deaths += 1;
                seen = Ended::default();
                tried.iter().for_each(|c| queue.get_mut(&c.id).unwrap().attempts += 1);
            }
        }
        (deaths, innocent, rounds)
    }

    #[test]
    fn what_ends_its_worker_is_found_and_all_others_are_collected() {
        for (culprit, limit) in [(1_234, 4_000), (0, 500), (3_999, 4_000)] {
            let (deaths, innocent, _) = run(4_000, 0, &[culprit], limit);
            assert!((APART..APART + 3).contains(&deaths) && innocent == 0, "{culprit}: {deaths} {innocent}");
        }
        // Workers that were killed by something else, each after a claim that counted for all.
        for tries in [1, ALONE, APART, 20] {
            let (deaths, innocent, batches) = run(4_000, tries, &[], 4_000);
            assert!(deaths == 0 && innocent == 0 && batches <= 70, "{tries}: {deaths} {innocent} {batches}");
        }
        let (deaths, innocent, _) = run(4_000, 20, &[1_234], 4_000);
        assert!(deaths <= 14 && innocent == 0, "{deaths} {innocent}");
        let (deaths, innocent, _) = run(4_000, 0, &[3, 4, 5, 700, 3_999], 4_000);
        assert!(deaths <= 5 * APART && innocent == 0, "{deaths} {innocent}");
    }

    #[test]
    fn what_was_set_apart_is_tried_again_and_set_apart_again_if_it_does_not_end() {
        let mut c = Candidate { attempts: APART, ..Candidate::sample(1) };
        assert_eq!(split(vec![c.clone()], 4_000, &Ended::default(), false).apart.len(), 1);
        assert_eq!(split(vec![c.clone()], 4_000, &Ended::default(), true).now.len(), 1, "a person asks");
        c.waits = Some(Waits { young: true, apart: c.attempts, ..Waits::default() });
        assert_eq!(split(vec![c.clone(), Candidate::sample(2)], 4_000, &Ended::default(), false).now, [Candidate::sample(2)]);
        assert_eq!(split(vec![c.clone()], 4_000, &Ended::default(), false).now.len(), 1);
        // The claim of that try counted, and it had no end.
        c.attempts += 1;
        assert_eq!(split(vec![c], 4_000, &Ended::default(), false).apart.len(), 1);
        // Failures have an end.
        let failing = Candidate { attempts: 9, waits: Some(Waits { young: true, ended: 9, ..Waits::default() }), ..Candidate::sample(3) };
        assert_eq!(failing.unended(), 0);
    }
}
