//! One candidate that cannot be collected keeps no other one.
//!
//! In: a batch that failed as a whole. Out: halves of it, until the candidates that fail are alone. Promise: each of them carries its own
//! error, and all others are collected in the same batch.
//!
//! Most errors are those of one file, and come with its name. These here have none: a statement that is too large for the server because of
//! one value, an answer of a service that one name garbles, a panic. An error that says that the database or the storage is away would be
//! the same for every half, and is none of these.

use std::{
    any::Any,
    collections::HashMap,
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use futures_util::FutureExt;

use super::{
    Claimant, Collector, Done, StorageState, steps,
    verdict::{Decided, Verdict},
};
use crate::{
    database::LockGuard,
    error::{Error, Kind, Result, Retry},
    queue::{Candidate, Decision, PutBack, Settlement, Waits, backoff},
};

/// So many candidates in a row that fail alone, with nothing that succeeds in between, are no accident: the rest waits.
const IN_A_ROW: u32 = 8;

/// Candidates of one claim that are yet to be decided, in pieces.
#[derive(Debug)]
pub(super) struct Pieces {
    /// The next one is the last.
    left: Vec<Vec<Candidate>>,
    until: Instant,
    in_a_row: u32,
}

/// What follows from a piece that failed.
#[derive(Debug)]
pub(super) enum Failed {
    /// It was halved.
    Halved,
    /// This one fails by itself.
    Alone(Box<Candidate>),
    /// All that is left of the claim would fail, or too much of its lease is used up.
    Whole(Vec<Candidate>),
}

impl Pieces {
    /// All in one piece; `lease` is that of the claim.
    pub(super) fn of(candidates: Vec<Candidate>, lease: Duration) -> Self {
        Pieces { left: vec![candidates], until: Instant::now() + lease / 2, in_a_row: 0 }
    }

    /// The next one.
    pub(super) fn next(&mut self) -> Option<Vec<Candidate>> {
        self.left.pop()
    }

    /// A piece was decided.
    pub(super) fn succeeded(&mut self) {
        self.in_a_row = 0;
    }

    /// A piece failed with `e`.
    pub(super) fn failed(&mut self, mut piece: Vec<Candidate>, e: &Error) -> Failed {
        let one = piece.len() == 1;
        self.in_a_row += u32::from(one);
        if is_everybodys(e) || self.in_a_row > IN_A_ROW || !one && Instant::now() > self.until {
            piece.extend(self.left.drain(..).rev().flatten());
            return Failed::Whole(piece);
        }
        if let Some(c) = piece.pop_if(|_| one) {
            return Failed::Alone(Box::new(c));
        }
        let second = piece.split_off(piece.len() / 2);
        self.left.extend([second, piece]);
        Failed::Halved
    }
}

/// Whether every other candidate would meet the same error: one that goes away by itself, such as a full disk or a service that stumbles, is nobody's fault.
pub(super) fn is_everybodys(e: &Error) -> bool {
    e.retry_status() == Retry::Later || !matches!(e.kind(), Kind::Database | Kind::Storage | Kind::Bug | Kind::NotFound)
}

/// What `work` comes to; a panic is an error.
pub(super) async fn caught<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|panic| Err(panicked(panic.as_ref())))
}

fn panicked(panic: &(dyn Any + Send)) -> Error {
    let said = panic.downcast_ref::<&str>().map(ToString::to_string).or_else(|| panic.downcast_ref::<String>().cloned());
    Error::new(Kind::Bug, format!("a panic: {}", said.unwrap_or_else(|| "without a message".to_owned())))
        .hint("this is a fault of Rowbound: please report it with the lines that it logged")
}

impl Collector {
    /// Writes a settlement. If the database refuses it as a whole it is halved, until the candidates that it refuses are alone: they go
    /// back with its error, and are returned. `attempts` are the earlier ones of candidates that had some.
    ///
    /// # Errors
    /// Those that every other candidate would meet, and any under a lock, which ends with it.
    pub(super) async fn settle(
        &self,
        mut settlement: Settlement,
        attempts: &HashMap<i64, u32>,
        lock: Option<LockGuard>,
    ) -> Result<(u64, Vec<(Decision, Error)>)> {
        let locked = lock.is_some();
        match self.db.settle(&settlement, lock).await {
            Ok(count) => return Ok((count, Vec::new())),
            Err(e) if locked || is_everybodys(&e) => return Err(e),
            Err(_) => {}
        }
        let (owner, storage) = (settlement.owner.clone(), settlement.storage.clone());
        let with = |settled: Vec<Decision>, back: Vec<PutBack>| Settlement {
            owner: owner.clone(),
            storage: storage.clone(),
            settled,
            back,
            ..Settlement::default()
        };
        // What goes with a file is a hint, whatever becomes of the file's own settlement.
        let (derived, empty) = (std::mem::take(&mut settlement.derived), std::mem::take(&mut settlement.empty));
        let hints = Settlement { derived, empty, ..with(Vec::new(), std::mem::take(&mut settlement.back)) };
        self.db.settle(&hints, None).await?;
        let (mut count, mut failed) = (0, Vec::new());
        let (mut left, mut in_a_row) = (vec![settlement.settled], 0);
        while let Some(mut piece) = left.pop() {
            if piece.is_empty() {
                continue;
            }
            let one = with(piece, Vec::new());
            let error = match self.db.settle(&one, None).await {
                Ok(n) => {
                    count += n;
                    in_a_row = 0;
                    continue;
                }
                Err(e) => e,
            };
            piece = one.settled;
            if is_everybodys(&error) || in_a_row >= IN_A_ROW {
                return Err(error);
            }
            if piece.len() > 1 {
                let second = piece.split_off(piece.len() / 2);
                left.extend([second, piece]);
                continue;
            }
            in_a_row += 1;
            for s in piece {
                let before = attempts.get(&s.id).copied().unwrap_or(0);
                let moved = s.place.is_some();
                let waits = Some(Waits { young: !moved, moved, ended: before + 1, ..Waits::default() });
                let back = PutBack { id: s.id, wait: backoff(before), attempts: before + 1, note: error.full(), waits };
                self.db.settle(&with(Vec::new(), vec![back]), None).await?;
                failed.push((s, error.clone()));
            }
        }
        Ok((count, failed))
    }

    /// The end of a candidate's try that failed by itself: it is due again later, with its error.
    pub(super) async fn failed_alone(&self, state: &StorageState, c: &Candidate, e: &Error, claimant: &Claimant) -> Result<Done> {
        let mut decided = Decided::new(claimant, &state.plan.name);
        decided.one(c, None, Verdict::failure(c, e));
        let done = Done { summary: decided.summary.clone(), ..Done::default() };
        self.finish(state, steps::Settled(decided), None).await?;
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(60);

    /// What becomes of `count` candidates of which those in `bad` fail, however many are with them: collected, failed alone, left; and how
    /// many pieces that took.
    fn run(count: i64, bad: &[i64], kind: Kind) -> (Vec<i64>, Vec<i64>, usize, usize) {
        let mut pieces = Pieces::of((0..count).map(Candidate::sample).collect(), LEASE);
        let (mut good, mut alone, mut left, mut tries) = (Vec::new(), Vec::new(), 0, 0);
        while let Some(piece) = pieces.next() {
            tries += 1;
            if !piece.iter().any(|c| bad.contains(&c.id)) {
                good.extend(piece.iter().map(|c| c.id));
                pieces.succeeded();
                continue;
            }
            match pieces.failed(piece, &Error::new(kind, "one of them")) {
                Failed::Halved => {}
                Failed::Alone(c) => alone.push(c.id),
                Failed::Whole(all) => left += all.len(),
            }
        }
        good.sort_unstable();
        (good, alone, left, tries)
    }

    #[test]
    fn what_fails_is_found_and_all_others_are_collected() {
        let bad: Vec<i64> = (0..20).map(|n| n * 197 + 3).collect();
        let (good, alone, left, tries) = run(4_000, &bad, Kind::Database);
        assert_eq!((good.len(), alone, left), (3_980, bad, 0));
        assert!(tries < 500, "{tries}");
        assert_eq!(run(1, &[0], Kind::Storage), (vec![], vec![0], 0, 1));
    }

    #[test]
    fn what_would_be_the_same_for_all_is_not_tried_for_each() {
        assert_eq!(run(4_000, &[7], Kind::StorageUnreachable), (vec![], vec![], 4_000, 1));
        assert!(is_everybodys(&Error::new(Kind::Storage, "the disk is full").retry(Retry::Later)));
        let all: Vec<i64> = (0..4_000).collect();
        let (good, alone, left, tries) = run(4_000, &all, Kind::Database);
        assert_eq!((good.len(), alone.len(), left), (0, IN_A_ROW as usize, 4_000 - IN_A_ROW as usize));
        assert!(tries < 40, "{tries}");
    }

    #[tokio::test]
    async fn a_panic_is_an_error() {
        let e = caught(async { panic!("of {}", "one") as Result<()> }).await.unwrap_err();
        assert_eq!((e.kind(), e.to_string()), (Kind::Bug, "a panic: of one".to_owned()));
        assert!(!is_everybodys(&e));
    }
}
