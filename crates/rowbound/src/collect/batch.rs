//! One batch, from its claim to its settlement.
//!
//! In: due candidates. Out: what became of them. Promise: what is claimed is settled, put back, or free again when its lease runs out; one
//! candidate that cannot be collected keeps no other one.

use std::{
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{
    Collector, Counters, SHORT_REST, StorageState, Summary, narrow,
    narrow::{Failed, Pieces},
    steps::{Claimed, HeldLock, Moved, Settled},
    verdict::Decided,
};
use crate::{
    capture::Installation,
    clock, crash,
    database::Dialect,
    error::{Error, Kind, Result},
    ledger::Filter,
    name::FileName,
    queue::{Announce, Candidate, Claim, Outcome, PutBack, RETURN, Settlement},
    trace,
};

/// So many bytes of names are written at once when a value with many names is opened up, and so many count for each beside its own. A
/// statement has a name twice as long, and servers of MySQL are set to packets of 1 MiB at least.
const OPENED_BYTES: usize = 256 << 10;
const OPENED_EACH: usize = 32;

/// What a batch came to.
#[derive(Debug, Default)]
pub struct BatchResult {
    /// Candidates claimed.
    pub claimed: usize,
    /// Whether there may be more right now.
    pub full: bool,
    /// Derivatives, and names out of values with many, that became candidates.
    pub derived: usize,
    /// Candidates that the next batch is to take at once.
    pub again: u64,
    /// What became of them.
    pub summary: Summary,
}

/// What a part of a batch came to.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) derived: usize,
    pub(super) again: u64,
    pub(super) summary: Summary,
}

/// Who holds the candidates of one batch.
#[derive(Debug)]
pub(super) struct Claimant {
    /// Unique for this batch: of two batches of one process that claim the same candidate, the first when its lease had run out, one holds it.
    pub(super) owner: String,
    pub(super) traced: trace::BatchTrace,
    /// When it began, for a trace.
    pub(super) began: u64,
    /// Whether its claim stands in the candidates' rows: a lease, or on SQLite a counted try.
    written: bool,
}

impl Claimant {
    fn new(c: &Collector, counted: bool) -> Self {
        let number = c.batches.fetch_add(1, Relaxed) + 1;
        let written = counted || c.db.dialect() != Dialect::Sqlite;
        Claimant { owner: format!("{}:{number}", c.owner), traced: trace::BatchTrace::new(&c.owner, number), began: trace::now(), written }
    }

    /// The same for a part of its batch that is begun anew. For a trace it is another batch, which claims what that one gave back.
    pub(super) fn again(&self, c: &Collector) -> Self {
        let number = c.batches.fetch_add(1, Relaxed) + 1;
        Claimant { owner: self.owner.clone(), traced: trace::BatchTrace::new(&c.owner, number), began: self.began, written: self.written }
    }
}

impl Collector {
    /// One batch, from its claim to its settlement: what transactions keep from its end for longer than patience lasts goes back to the queue.
    ///
    /// # Errors
    /// What stopped the batch as a whole. Its candidates are back in the queue, or come back when the lease runs out.
    pub async fn batch(&self, storage: &str) -> Result<BatchResult> {
        let state =
            self.storages.get(storage).ok_or_else(|| Error::new(Kind::Config, "the plan has no such storage").with("storage", storage))?;
        let (mut batch, mut moved) = self.begin_batch(state).await?;
        self.see_through(state, &mut moved, &mut batch).await?;
        Ok(batch)
    }

    /// Waits, as long as patience lasts, until moved batches are settled; the rest goes back to the queue.
    ///
    /// # Errors
    /// The first that kept one of them from its end. Those that are left are still in `moved`.
    pub(super) async fn see_through(&self, state: &StorageState, moved: &mut Vec<Moved>, batch: &mut BatchResult) -> Result<()> {
        let until = clock::deadline(self.settings.patience);
        while !moved.is_empty() && Instant::now() < until {
            let attended = self.attend(state, moved, SHORT_REST.min(self.settings.rest)).await;
            batch.derived += attended.derived as usize;
            batch.summary.add(&attended.summary);
            if let Some(e) = attended.error {
                return Err(e);
            }
            if !moved.is_empty() {
                tokio::time::sleep(attended.next.unwrap_or(SHORT_REST)).await;
            }
        }
        self.park(state, std::mem::take(moved), Duration::ZERO).await
    }

    /// Steps 1 to 5; what is decided by then is settled. What was moved waits for its second barrier, unless a lock has made it final.
    pub(super) async fn begin_batch(&self, state: &StorageState) -> Result<(BatchResult, Vec<Moved>)> {
        // Nothing is claimed for a storage that is not there, nor on a picture of the schema that is not true.
        state.storage.verify_marker().await?;
        let record = self.guard.verify().await?;
        self.apart(state, &record).await?;
        if self.still_blocked(state).await? {
            return Ok((BatchResult::default(), Vec::new()));
        }

        // 1. Claim.
        let limit = state.batch.load(Relaxed);
        let claim = self.claim(state, limit);
        let claimant = Claimant::new(self, claim.counted);
        let candidates = self.db.claim(&Claim { owner: claimant.owner.clone(), ..claim }).await?;
        let count = candidates.len();
        let mut batch = BatchResult { claimed: count, full: count as u32 == limit, ..BatchResult::default() };
        if candidates.is_empty() {
            return Ok((batch, Vec::new()));
        }
        state.claimed.notify_waiters();
        Counters::add(&self.counters.claimed, count as u64);
        crash::point("claimed");
        let mut waiting = Vec::new();
        let work = async {
            let (suspects, candidates) = self.apart_from_suspects(state, candidates, &claimant, &mut batch).await?;
            match suspects.is_empty() {
                true => self.pieces(state, record, candidates, limit, claimant.again(self), &mut batch, &mut waiting).await,
                false => self.suspects(state, record, suspects, limit, claimant, &mut batch, &mut waiting).await,
            }
        };
        match work.await {
            Ok(()) => Ok((batch, waiting)),
            Err(e) => {
                // What was moved by then waits for its second barrier in the queue.
                match self.park(state, waiting, Duration::ZERO).await {
                    Ok(()) => Err(e),
                    Err(also) => Err(e.because(also)),
                }
            }
        }
    }

    /// What was claimed, in one piece, or in as many as it takes until those that fail are alone.
    #[allow(clippy::too_many_arguments)]
    pub(super) async fn pieces(
        &self,
        state: &StorageState,
        record: Installation,
        candidates: Vec<Candidate>,
        limit: u32,
        mut claimant: Claimant,
        batch: &mut BatchResult,
        waiting: &mut Vec<Moved>,
    ) -> Result<()> {
        let mut pieces = Pieces::of(candidates, self.settings.lease);
        while let Some(piece) = pieces.next() {
            let done = match narrow::caught(self.piece(state, record.clone(), piece.clone(), limit, &claimant)).await {
                Ok((done, moved)) => {
                    pieces.succeeded();
                    waiting.extend(moved);
                    done
                }
                Err(e) => match pieces.failed(piece, &e) {
                    Failed::Whole(left) => return Err(self.give_back(state, left, &claimant, e).await),
                    Failed::Alone(c) => self.failed_alone(state, &c, &e, &claimant).await?,
                    Failed::Halved => {
                        claimant.traced.gave_back(trace::now());
                        claimant = claimant.again(self);
                        continue;
                    }
                },
            };
            claimant = claimant.again(self);
            batch.derived += done.derived;
            batch.again += done.again;
            batch.summary.add(&done.summary);
        }
        Ok(())
    }

    /// Steps 2 to 5 for candidates that are claimed, and the settlement of what is decided by then, which is returned without it.
    async fn piece(
        &self,
        state: &StorageState,
        record: Installation,
        candidates: Vec<Candidate>,
        limit: u32,
        claimant: &Claimant,
    ) -> Result<(Done, Vec<Moved>)> {
        let count = candidates.len();
        let (claimed, opened) = Claimed::new(self, state, record, candidates, claimant);
        let mut done = self.open(state, opened).await?;
        let (moved, mut decided, began) = self.decide(state, claimed).await?;
        let (mut lock, mut waiting) = (None, Vec::new());
        for m in moved {
            if m.is_locked() {
                let (settled, held) = m.conclude(self, state).await?;
                decided = decided.and(settled.0);
                lock = held;
            } else {
                waiting.push(m);
            }
        }
        if lock.is_none() {
            self.rest(state).await;
            state.took(limit, count, began.elapsed(), self.settings.lease);
        }
        done.derived += decided.settlement.derived.len();
        done.again += decided.again;
        done.summary.add(&decided.summary);
        let locked = lock.as_ref().map(|(_, since)| *since);
        self.finish(state, Settled(decided), lock).await?;
        if let Some(since) = locked {
            state.held_lock(since.elapsed(), count);
        }
        Ok((done, waiting))
    }

    /// Writes the names out of values with many as candidates, then settles the values. The names are written in pieces: a statement has
    /// its limits, and writers of SQLite wait for it. What is written twice after a kill is settled twice.
    async fn open(&self, state: &StorageState, mut opened: Decided) -> Result<Done> {
        let done = Done { derived: opened.settlement.opened.len(), again: 0, summary: opened.summary.clone() };
        let mut names = std::mem::take(&mut opened.settlement.opened).into_iter().peekable();
        while names.peek().is_some() {
            let (mut piece, mut size) = (opened.part(), 0);
            while let Some(next) = names.next_if(|next| size == 0 || size + next.name.as_str().len() <= OPENED_BYTES) {
                size += next.name.as_str().len() + OPENED_EACH;
                piece.settlement.opened.push(next);
            }
            self.db.settle(&piece.settlement, None).await?;
        }
        self.finish(state, Settled(opened), None).await?;
        Ok(done)
    }

    /// Steps 2 to 5, and when the barrier had passed.
    async fn decide(&self, state: &StorageState, claimed: Claimed) -> Result<(Vec<Moved>, Decided, Instant)> {
        let clear = claimed.clear(self, state).await?;
        // How long others' transactions take says nothing of how long a batch does.
        let began = Instant::now();
        let looked = clear.look(self, state).await?;
        let checked = looked.check(self, state).await?;
        let (moved, decided) = checked.take_away(self, state).await?;
        Ok((moved, decided, began))
    }

    /// What is left of a batch failed as a whole. A claim that was written goes back at once; if that fails too, the lease runs out.
    async fn give_back(&self, state: &StorageState, left: Vec<Candidate>, claimant: &Claimant, e: Error) -> Error {
        let began = trace::now();
        if !claimant.written {
            claimant.traced.gave_back(began);
            return e;
        }
        // What they wait for is remembered still.
        let back = left.into_iter().map(|c| PutBack {
            id: c.id,
            wait: Duration::from_secs(1),
            attempts: c.attempts,
            note: e.full(),
            waits: c.waits,
        });
        let storage = state.plan.name.clone();
        let settlement = Settlement { owner: claimant.owner.clone(), storage, back: back.collect(), ..Settlement::default() };
        match self.db.settle(&settlement, None).await {
            Ok(_) => {
                claimant.traced.gave_back(began);
                e
            }
            Err(also) => e.because(also),
        }
    }

    /// Step 7: settles.
    pub(super) async fn finish(&self, state: &StorageState, settled: Settled, lock: Option<HeldLock>) -> Result<()> {
        // Until the end of this call others see that what was moved is told here.
        let Decided { settlement, mut summary, moved, attempts, movers: _movers, traced, facts, .. } = settled.0;
        if settlement.settled.is_empty() && settlement.back.is_empty() && settlement.empty.is_empty() {
            return Ok(());
        }
        crash::point("settling");
        let began = trace::now();
        let (storage, all) = (settlement.storage.clone(), settlement.settled.len() as u64);
        let bytes = |of| settlement.settled.iter().filter(|s| s.outcome == of).map(|s| s.size.unwrap_or(0)).sum();
        let (erased, trashed) = (bytes(Outcome::Erased), bytes(Outcome::Trashed));
        let (count, refused) = self.settle(settlement, &attempts, lock.map(|(guard, _)| guard)).await?;
        summary.refused(&refused);
        Counters::add(&self.counters.bytes_freed, erased);
        Counters::add(&self.counters.bytes_trashed, trashed);
        let lost = count + (refused.len() as u64) < all;
        traced.settled(began, facts, lost);
        crash::point("settled");
        if lost {
            self.adopt(&storage, moved).await?;
        }
        *state.settled.lock().unwrap_or_else(|e| e.into_inner()) = Some(Timestamp::now());
        if self.talks.load(Relaxed) {
            log_settled(&state.plan.name, &summary);
        }
        let mut total = self.total.lock().unwrap_or_else(|e| e.into_inner());
        if summary.count(Outcome::Trashed) > 0 {
            total.until.insert(state.plan.name.clone(), clock::after(Timestamp::now(), state.plan.trash.hold()));
        }
        total.add(&summary);
        Ok(())
    }

    /// Some candidates were another worker's when they were to be settled: this one has lost its lease. What it moved and no entry of the ledger knows becomes a
    /// candidate, so that it is checked again and does not lie in the trash unseen.
    async fn adopt(&self, storage: &str, moved: Vec<(FileName, String)>) -> Result<()> {
        let mut unknown = Vec::new();
        for (name, place) in moved {
            let filter = Filter { storage: Some(storage.to_owned()), name: Some(name.to_string()), ..Filter::default() };
            if self.db.history(&filter).await?.iter().all(|e| e.place.as_ref() != Some(&place)) {
                unknown.push(Announce { storage: storage.to_owned(), name, event: RETURN, wait: Duration::ZERO });
            }
        }
        if !unknown.is_empty() {
            self.db.announce(&unknown).await?;
        }
        Ok(())
    }
}

fn log_settled(storage: &str, s: &Summary) {
    let mut outcomes: Vec<_> = s.outcomes.iter().map(|(o, n)| format!("{} {n}", o.word())).collect();
    outcomes.extend((s.empty > 0).then(|| format!("empty {}", s.empty)));
    let claimed = s.settled() + s.waiting + s.failed;
    tracing::info!(storage, claimed, bytes = s.bytes, waiting = s.waiting, failed = s.failed, "{}", outcomes.join(", "));
    for (note, name) in &s.notes {
        tracing::warn!(storage, name, "{note}");
    }
}
