//! The queue: what is released, and what followers have not received yet.
//!
//! In: candidates, which triggers and uploads write, and what is decided of them. Out: candidates and deliveries, each under a lease. Promise: what is written here
//! stays until it is settled or acknowledged, or its follower is forgotten.

use std::{collections::HashSet, time::Duration};

use async_trait::async_trait;

use super::LockGuard;
use crate::{
    capture::Reliance,
    delivery::{Acknowledgement, DeliveryClaim, Pending, Registered},
    error::Result,
    queue::{Announce, Backlog, Candidate, Claim, Outcome, Settlement, Waiting, Waits},
};

/// Candidates, and deliveries to followers. Each is with one worker at a time, and due again when that one has not finished with it by the end of its lease.
#[async_trait]
pub trait Queue: Send + Sync {
    /// Writes candidates, in one transaction on a connection of its own, committed and durable when this returns: whatever transaction the application
    /// has open, and whatever becomes of it, they stay.
    ///
    /// # Errors
    /// [`Kind::Busy`](crate::Kind::Busy) on SQLite when the write lock was not had within 10 s: perhaps the application itself holds it.
    async fn announce(&self, items: &[Announce]) -> Result<()>;

    /// The same, if the installation still is the one that is relied on and has these bindings, which is told in the transaction that writes: no attach
    /// comes in between.
    ///
    /// # Errors
    /// [`Kind::NotAttached`](crate::Kind::NotAttached) when it is not: nothing is written. As [`Queue::announce`].
    async fn announce_relying(&self, items: &[Announce], on: &Reliance) -> Result<()>;

    /// Takes up to `limit` due candidates under a lease, oldest first, in a short transaction of its own. No two claims
    /// hold the same candidate at once. On SQLite nothing is written: one worker at a time is a promise of the caller
    /// (see [`Database::lock_worker`](super::Database::lock_worker)).
    async fn claim(&self, claim: &Claim) -> Result<Vec<Candidate>>;

    /// Which of the candidates `ids` `owner` still holds, by the database's clock at this moment. Where less than half of `lease` is left of one, the leases of
    /// all that it holds begin anew. On SQLite, where no claim is written, all of them. Nothing is moved without this.
    async fn confirm(&self, owner: &str, ids: &[i64], lease: Duration) -> Result<HashSet<i64>>;

    /// How long until the next candidate of `claim` would be due; `None` if there is none. Costs far less than a claim.
    async fn next_due(&self, claim: &Claim) -> Result<Option<Duration>>;

    /// Ledger entries in, candidates out, put-backs updated, derivatives announced, and a delivery for each follower of an entry's outcome: all in
    /// one transaction, under `lock` if there is one. A candidate that `owner` no longer holds is left alone. Returns how many were settled; those that left without
    /// an entry do not count.
    async fn settle(&self, settlement: &Settlement, lock: Option<LockGuard>) -> Result<u64>;

    /// What waits.
    async fn backlog(&self, claim: &Claim) -> Result<Backlog>;

    /// How many candidates wait for which transactions, as they were put back. `None`: those that were not yet, and are due or claimed. Empty where nobody is
    /// waited for.
    async fn waits(&self, claim: &Claim) -> Result<Vec<(Option<Waits>, u64)>>;

    /// Candidates whose value is one of `values`.
    async fn waiting(&self, values: &[String]) -> Result<Vec<Waiting>>;

    /// Registers a follower, or gives one that is registered other outcomes; what waits for it stays. It receives every entry that is written by a
    /// transaction which begins after this has returned. Idempotent, and without a write where nothing changes.
    async fn follow(&self, name: &str, outcomes: &[Outcome]) -> Result<()>;

    /// Forgets a follower and what waits for it, which is how many; `None`: there is none of that name.
    async fn unfollow(&self, name: &str) -> Result<Option<u64>>;

    /// Every follower, by name, and what waits for it.
    async fn followers(&self) -> Result<Vec<Registered>>;

    /// Takes deliveries of a follower that are due, under a lease, the longest due first, in a transaction of its own. No two turns hold the same
    /// delivery at once, nor two of the same storage and name: the earlier entry is delivered before the later one can be taken. Where nothing is due nothing is
    /// written. A follower that is not registered has no deliveries.
    async fn claim_deliveries(&self, claim: &DeliveryClaim) -> Result<Vec<Pending>>;

    /// Lets the lease of these deliveries, as far as `claim.owner` holds them, begin anew.
    async fn extend_lease(&self, claim: &DeliveryClaim, entries: &[i64]) -> Result<()>;

    /// What was delivered goes, what was not is due again later, in one transaction. Returns how many went.
    async fn acknowledge(&self, ack: &Acknowledgement) -> Result<u64>;

    /// Makes every delivery of a follower due that waits for another try. Returns how many.
    async fn retry_deliveries_now(&self, follower: &str) -> Result<u64>;
}
