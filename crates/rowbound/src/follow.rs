//! Follow: ledger entries -> their followers.
//!
//! In: deliveries that settlements wrote, and a handler. Out: the handler was called for each, at least once. Promise: an entry is delivered only after
//! its transaction has committed, so a rolled-back delete is never delivered; a delivery goes only after the handler has said that it was made; two entries of the
//! same storage and name are delivered in their order; one process at a time has a delivery.
//!
//! Why not a position in the ledger: numbers are given before transactions commit, so a lower one may come after a higher one was read.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use rand::Rng;
use serde::Serialize;
use tokio::sync::watch;

use crate::{
    crash,
    database::Database,
    delivery::{Acknowledgement, DEFAULT_OUTCOMES, DeliveryClaim, Pending, Redelivery, Registered, check_name},
    error::{Error, Kind, Result},
    guard::installed,
    ledger::Entry,
    queue::{Outcome, backoff},
};

/// What a handler may fail with. Its text, with that of its sources, stands in `status`.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// So many deliveries are held at once.
const CLAIMED: u32 = 200;

/// What was delivered is written down at least this often: a crash repeats no more than what was delivered meanwhile.
const FLUSH: Duration = Duration::from_secs(1);

/// After so many failures one after the other the handler is taken to be out of order, and rests.
const FAILURES: u32 = 5;

/// How much of an error is kept, in characters.
const ERROR: usize = 2_000;

/// An entry that a follower receives. As JSON it is what `rowbound history --format json` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Delivery {
    /// The entry.
    #[serde(flatten)]
    pub entry: Entry,
    /// The column whose row released the name, `[schema.]table.column`; `None` where no row did.
    pub column: Option<String>,
    /// The follower's name.
    #[serde(skip)]
    pub follower: String,
    /// How many times it was tried before, and failed.
    #[serde(skip)]
    pub attempts: u32,
}

impl Delivery {
    /// The same at each try, and no other delivery's: `cdn-1207`, the follower and the entry's number.
    pub fn id(&self) -> String {
        format!("{}-{}", self.follower, self.entry.id)
    }
}

/// An error that says when to try again: until then the follower rests.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{why}")]
pub struct Later {
    /// How long from now.
    pub after: Duration,
    /// What went wrong.
    pub why: String,
}

/// How many entries a follower has delivered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct DeliveryCounts {
    /// Entries that were delivered.
    pub delivered: u64,
    /// Tries that failed; each counts as many as it had entries.
    pub failed: u64,
}

/// A named reader of the ledger, which remembers in the database what it has yet to deliver.
///
/// ```no_run
/// # async fn example(db: std::sync::Arc<dyn rowbound::database::Database>, stop: tokio::sync::watch::Receiver<bool>) -> rowbound::Result<()> {
/// use rowbound::follow::Follower;
/// let cdn = Follower::new(db, "cdn")?;
/// cdn.register().await?; // entries from now on are delivered
/// cdn.run(stop, |deliveries| async move {
///     for d in deliveries {
///         println!("purge {}", d.entry.name);
///     }
///     Ok(())
/// })
/// .await;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Follower {
    db: Arc<dyn Database>,
    name: String,
    outcomes: Vec<Outcome>,
    batch: usize,
    lease: Duration,
    poll: Duration,
    owner: String,
    /// Rounds so far: each holds what it holds under a name of its own.
    rounds: AtomicU64,
    /// What could not be written down because the database was away.
    unwritten: Mutex<Vec<Acknowledgement>>,
}

/// The result of one round.
#[derive(Debug, Default)]
struct Round {
    taken: usize,
    counts: DeliveryCounts,
    /// The handler is out of order, or wants to be left alone for so long.
    rest: Option<Duration>,
    error: Option<String>,
}

impl Follower {
    /// A follower of this name, which receives [`DEFAULT_OUTCOMES`] unless set otherwise. Nothing is registered yet.
    ///
    /// # Errors
    /// [`Kind::Config`]: see [`check_name`].
    pub fn new(db: Arc<dyn Database>, name: &str) -> Result<Self> {
        check_name(name)?;
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Ok(Follower {
            db,
            name: name.to_owned(),
            outcomes: DEFAULT_OUTCOMES.to_vec(),
            batch: 1,
            lease: Duration::from_secs(60),
            poll: Duration::from_secs(1),
            owner: format!("{host}:{}:{:08x}", std::process::id(), rand::rng().random::<u32>()),
            rounds: AtomicU64::new(0),
            unwritten: Mutex::default(),
        })
    }

    /// The outcomes that it receives. Default: [`DEFAULT_OUTCOMES`].
    pub fn outcomes(mut self, outcomes: impl IntoIterator<Item = Outcome>) -> Self {
        let chosen: std::collections::BTreeSet<_> = outcomes.into_iter().collect();
        self.outcomes = chosen.into_iter().collect();
        self
    }

    /// How many entries the handler gets at once at most. One that failed comes alone the next time. Default: 1.
    pub fn batch(mut self, entries: usize) -> Self {
        self.batch = entries.max(1);
        self
    }

    /// How long a process that died keeps others from its deliveries. A handler that takes longer keeps them. Default: 60 s.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease.max(Duration::from_millis(100));
        self
    }

    /// The longest pause of [`Follower::run`] between two looks. Default: 1 s.
    pub fn poll(mut self, poll: Duration) -> Self {
        self.poll = poll;
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Registers it, if it is not, or its outcomes, if they are others: what is settled from now on waits for it until it is delivered. Idempotent.
    ///
    /// # Errors
    /// [`Kind::Config`] when it would receive nothing, [`Kind::NotAttached`], [`Kind::Identity`] on a copy, those of the database.
    pub async fn register(&self) -> Result<()> {
        if self.outcomes.is_empty() {
            return Err(Error::new(Kind::Config, "a follower without an outcome").with("follower", &self.name));
        }
        installed(self.db.as_ref()).await?;
        self.db.follow(&self.name, &self.outcomes).await
    }

    /// What waits for it; `None`: it is not registered.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn waiting(&self) -> Result<Option<Registered>> {
        Ok(self.db.followers().await?.into_iter().find(|f| f.name == self.name))
    }

    /// Forgets a follower and what waits for it, which is how many; `None`: there is none of that name.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn forget(db: &dyn Database, name: &str) -> Result<Option<u64>> {
        db.unfollow(name).await
    }

    /// Makes due what waits for another try. Returns how many.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn retry_now(&self) -> Result<u64> {
        self.db.retry_deliveries_now(&self.name).await
    }

    /// Delivers what is due, then returns. What fails is due again later; when the handler fails again and again, or says [`Later`], the rest waits, too.
    ///
    /// # Errors
    /// [`Kind::NotAttached`], [`Kind::Identity`] on a copy, those of the database. The handler's are no error: they stand in [`Follower::waiting`].
    pub async fn deliver<F, Fut>(&self, stop: &watch::Receiver<bool>, handler: F) -> Result<DeliveryCounts>
    where
        F: Fn(Vec<Delivery>) -> Fut + Send + Sync,
        Fut: Future<Output = Result<(), BoxError>> + Send,
    {
        let mut counts = DeliveryCounts::default();
        let mut failures = 0;
        while !*stop.borrow() {
            let round = self.deliver_round(stop, &handler, &mut failures).await?;
            counts.delivered += round.counts.delivered;
            counts.failed += round.counts.failed;
            if round.taken == 0 || round.rest.is_some() {
                break;
            }
        }
        Ok(counts)
    }

    /// Delivers for ever: returns when `stop` becomes true, after the call of the handler that is under way. What goes wrong is said in the log, once and not
    /// at every try, and tried again.
    pub async fn run<F, Fut>(&self, mut stop: watch::Receiver<bool>, handler: F) -> DeliveryCounts
    where
        F: Fn(Vec<Delivery>) -> Fut + Send + Sync,
        Fut: Future<Output = Result<(), BoxError>> + Send,
    {
        let mut counts = DeliveryCounts::default();
        let mut failures = 0;
        let mut last_error: Option<String> = None;
        let shortest = Duration::from_millis(20).min(self.poll);
        let mut idle = shortest;
        while !*stop.borrow() {
            let pause = match self.deliver_round(&stop, &handler, &mut failures).await {
                Ok(round) => {
                    counts.delivered += round.counts.delivered;
                    counts.failed += round.counts.failed;
                    if round.counts.delivered > 0 {
                        tracing::info!(follower = self.name, delivered = round.counts.delivered, "delivered");
                    }
                    if let Some(error) = round.error {
                        if last_error.as_ref() != Some(&error) {
                            tracing::warn!(follower = self.name, "not delivered, and tried again: {error}");
                        }
                        last_error = Some(error);
                    } else if round.taken > 0 && last_error.take().is_some() {
                        tracing::info!(follower = self.name, "delivers again");
                    }
                    idle = if round.taken > 0 { shortest } else { (idle * 2).min(self.poll) };
                    match round.rest {
                        Some(rest) => rest,
                        None if round.taken > 0 => Duration::ZERO,
                        None => idle,
                    }
                }
                Err(e) => {
                    let text = e.full();
                    if last_error.as_ref() != Some(&text) {
                        tracing::error!(follower = self.name, kind = ?e.kind(), hint = e.hint_text(), "{text}");
                    }
                    last_error = Some(text);
                    self.poll.max(Duration::from_millis(500))
                }
            };
            if !pause.is_zero() {
                tokio::select! {
                    _ = stop.changed() => {}
                    () = tokio::time::sleep(pause) => {}
                }
            }
        }
        counts
    }

    /// Takes what is due and delivers it. `failures` counts those one after the other.
    async fn deliver_round<F, Fut>(&self, stop: &watch::Receiver<bool>, handler: &F, failures: &mut u32) -> Result<Round>
    where
        F: Fn(Vec<Delivery>) -> Fut + Send + Sync,
        Fut: Future<Output = Result<(), BoxError>> + Send,
    {
        let late = std::mem::take(&mut *self.unwritten.lock().unwrap_or_else(|e| e.into_inner()));
        for ack in late {
            self.acknowledge(ack).await?;
        }
        let owner = format!("{}:{}", self.owner, self.rounds.fetch_add(1, Relaxed));
        let claim = DeliveryClaim { follower: self.name.clone(), owner, limit: CLAIMED, lease: self.lease };
        let began = Instant::now();
        let pending = self.db.claim_deliveries(&claim).await?;
        let mut round = Round { taken: pending.len(), ..Round::default() };
        if pending.is_empty() {
            return Ok(round);
        }
        crash::point("delivering");
        let mut ack = ack_of(&claim);
        // A copy of the database has the original's deliveries; they are not the copy's to make.
        let columns = match installed(self.db.as_ref()).await {
            Ok(record) => record.columns(),
            Err(e) => {
                ack.again = pending.iter().map(|p| untried(p.id)).collect();
                self.acknowledge(ack).await?;
                return Err(e);
            }
        };
        let mut held: Vec<i64> = pending.iter().map(|p| p.id).collect();
        let mut flushed = Instant::now();
        let mut groups = self.groups(pending, &columns, &mut ack).into_iter();
        let mut first = true;
        for group in groups.by_ref() {
            // Within half of the lease, so that what has not come to its turn never runs out of it. The first one comes to it in any case: a slow database
            // must not keep everything from being delivered.
            let late = !std::mem::take(&mut first) && began.elapsed() > self.lease / 2;
            if *stop.borrow() || round.rest.is_some() || late {
                ack.again.extend(group.iter().map(|d| untried(d.entry.id)));
                break;
            }
            let ids: Vec<(i64, u32)> = group.iter().map(|d| (d.entry.id, d.attempts)).collect();
            match self.call(&claim, &held, handler(group)).await {
                Ok(()) => {
                    *failures = 0;
                    round.counts.delivered += ids.len() as u64;
                    ack.delivered.extend(ids.iter().map(|(id, _)| *id));
                    crash::point("delivered");
                }
                Err(e) => {
                    *failures += 1;
                    round.counts.failed += ids.len() as u64;
                    let text = text_of(e.as_ref());
                    let least = e.downcast_ref::<Later>().map(|later| later.after.min(Duration::from_secs(86_400)));
                    ack.again.extend(ids.iter().map(|(id, attempts)| Redelivery {
                        id: *id,
                        wait: backoff(*attempts).max(least.unwrap_or_default()),
                        error: Some(text.clone()),
                    }));
                    round.error = Some(text);
                    let out_of_order = (*failures >= FAILURES).then(|| rest(*failures));
                    round.rest = least.max(out_of_order);
                }
            }
            if flushed.elapsed() >= FLUSH {
                let written = std::mem::replace(&mut ack, ack_of(&claim));
                held.retain(|id| !written.delivered.contains(id) && !written.again.iter().any(|a| a.id == *id));
                self.acknowledge(written).await?;
                flushed = Instant::now();
            }
        }
        ack.again.extend(groups.flatten().map(|d| untried(d.entry.id)));
        self.acknowledge(ack).await?;
        crash::point("acknowledged");
        Ok(round)
    }

    /// Waits for the handler, and keeps the lease of what is held meanwhile.
    async fn call(
        &self,
        claim: &DeliveryClaim,
        held: &[i64],
        call: impl Future<Output = Result<(), BoxError>> + Send,
    ) -> Result<(), BoxError> {
        let keep = async {
            loop {
                tokio::time::sleep(self.lease / 3).await;
                if let Err(e) = self.db.extend_lease(claim, held).await {
                    // At worst another process delivers the same.
                    tracing::warn!(follower = self.name, "a lease could not be extended: {}", e.full());
                }
            }
        };
        tokio::select! {
            done = call => done,
            () = keep => Ok(()),
        }
    }

    /// What the handler is called with, one after the other: first what was never tried, in batches, then what failed, each alone, so that one that cannot be
    /// delivered keeps none of the others. An entry that somebody deleted from the ledger cannot be delivered at all, which `status` shows.
    fn groups(&self, pending: Vec<Pending>, columns: &BTreeMap<i32, String>, ack: &mut Acknowledgement) -> Vec<Vec<Delivery>> {
        let (mut fresh, mut failed) = (Vec::new(), Vec::new());
        for p in pending {
            let Some(entry) = p.entry else {
                let error = Some("its entry was deleted from the ledger".to_owned());
                ack.again.push(Redelivery { id: p.id, wait: backoff(p.attempts), error });
                continue;
            };
            let column = entry.binding.and_then(|n| columns.get(&n)).cloned();
            let delivery = Delivery { entry, column, follower: self.name.clone(), attempts: p.attempts };
            if p.attempts == 0 { fresh.push(delivery) } else { failed.push(vec![delivery]) }
        }
        let mut groups: Vec<Vec<Delivery>> = fresh.chunks(self.batch).map(<[_]>::to_vec).collect();
        groups.append(&mut failed);
        groups
    }

    /// Writes down what became of deliveries; what could not be written is kept for the next round.
    async fn acknowledge(&self, ack: Acknowledgement) -> Result<()> {
        if ack.is_empty() {
            return Ok(());
        }
        if let Err(e) = self.db.acknowledge(&ack).await {
            self.unwritten.lock().unwrap_or_else(|e| e.into_inner()).push(ack);
            return Err(e);
        }
        Ok(())
    }
}

/// An empty acknowledgement of a claim.
fn ack_of(claim: &DeliveryClaim) -> Acknowledgement {
    Acknowledgement { follower: claim.follower.clone(), owner: claim.owner.clone(), ..Acknowledgement::default() }
}

/// Given back as it was.
fn untried(id: i64) -> Redelivery {
    Redelivery { id, wait: Duration::ZERO, error: None }
}

/// 1 s after the fifth failure in a row, then twice as long each time, up to 30 s.
fn rest(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.saturating_sub(FAILURES).min(5)).min(Duration::from_secs(30))
}

/// An error and its sources in one text.
fn text_of(e: &(dyn std::error::Error + Send + Sync + 'static)) -> String {
    let mut text = e.to_string();
    let mut source = e.source();
    while let Some(e) = source {
        let said = e.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        source = e.source();
    }
    match text.char_indices().nth(ERROR) {
        Some((at, _)) => format!("{}..", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handler_that_is_out_of_order_rests_longer_and_longer() {
        assert_eq!([5, 6, 9, 10, 1000].map(|n| rest(n).as_secs()), [1, 2, 16, 30, 30]);
    }

    #[test]
    fn an_error_says_why_and_ends() {
        let e: BoxError = Box::new(std::io::Error::other("connection refused"));
        assert_eq!(text_of(e.as_ref()), "connection refused");
        let long: BoxError = "é".repeat(ERROR + 1).into();
        assert_eq!(text_of(long.as_ref()).chars().count(), ERROR + 2);
    }
}
