//! The trash: collected files wait here, are checked again, and come back or go for good.
//!
//! In: what the ledger says was moved, and files that a storage holds in its trash. Out: ledger entries. Promise: nothing is erased that a row references at
//! that moment, or that an open transaction could reference; nothing is restored over another file. Its loop is its own: what fails here keeps no candidate.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{
    attach::{Looks, apart},
    capture::Installation,
    clock,
    database::Database,
    error::{Error, Kind, Result},
    guard::Guard,
    ledger::{NewEntry, Timeline, Upkeep},
    name::FileName,
    plan::StoragePlan,
    queue::{Announce, Outcome, RETURN},
    storage::{PerName, Restored, Storage, Trashed, capabilities::CapabilityCache, clocks::Clocks},
    trace,
};

mod erase; // what has waited long enough goes for good
mod history; // the database's history went back
mod recheck; // what was moved lately is checked again
mod restore; // files come back because a person asks

pub(crate) use recheck::{reported, stranded};
pub use restore::{TrashContents, TrashFilter, find, restore, restore_all};

/// So long after its move a file comes back by itself if a row references it. Later its name may mean another file.
pub const WINDOW: Duration = Duration::from_secs(30 * 60);

/// What was moved within [`WINDOW`] is checked again so often.
const RECHECK: Duration = Duration::from_secs(60);

/// What has lain in the trash for longer is checked so often, to be reported.
const REVIEW: Duration = Duration::from_secs(30 * 60);

/// After a check the next one waits for at least so many times as long as it took: checks take a twentieth of the database's time at most.
const BUDGET: u32 = 19;

/// Between two turns at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// What the marker says is read anew after so long: an idle bucket is asked seldom.
const MARKER_AGE: Duration = Duration::from_secs(600);

/// While transactions are waited for.
const BARRIER_POLL: Duration = Duration::from_millis(200);

/// What a keeper did.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Files erased, and their bytes.
    pub(crate) purged: u64,
    pub(crate) bytes: u64,
}

/// Keeps the trash of one storage. Of several processes one does.
#[derive(Debug)]
pub(crate) struct Keeper {
    db: Arc<dyn Database>,
    guard: Arc<Guard>,
    plan: StoragePlan,
    storage: Arc<dyn Storage>,
    /// All storages of the plan.
    places: Vec<(StoragePlan, Arc<dyn Storage>)>,
    looks: Looks,
    owner: String,
    /// The right to keep a trash is had for so long, and renewed at each turn.
    lease: Duration,
    upkeep: Upkeep,
    /// What is stored, and when checks were made that were not worth a write.
    stored: Upkeep,
    lately: Upkeep,
    /// The history that the database followed at the last turn.
    timeline: Option<Timeline>,
    /// A comparison with the rows of another history that is still to be made.
    behind: Option<history::Behind>,
    erasing: erase::Progress,
    /// Entries of the ledger from this one on are not checked again.
    before: Option<i64>,
    /// What the last re-check could not bring back.
    stuck: Option<Error>,
    counts: Counts,
    /// When the next emptying begins.
    empty_at: Instant,
    capabilities: Arc<CapabilityCache>,
    clocks: Arc<Clocks>,
}

/// What a turn came to.
#[derive(Debug)]
enum TurnResult {
    /// There is more to do now.
    More,
    /// Transactions are waited for.
    Waits,
    /// Nothing more for now. What could not be erased, or could not come back, as one error.
    Done(Option<Error>),
    /// Another process keeps this trash.
    Another,
}

impl Keeper {
    /// For a storage of an attached plan; `owner` is unique for this process and collector; `lease` is how long another process waits for one that died.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn new(
        db: Arc<dyn Database>,
        guard: Arc<Guard>,
        plan: StoragePlan,
        storage: Arc<dyn Storage>,
        capabilities: Arc<CapabilityCache>,
        clocks: Arc<Clocks>,
        places: Vec<(StoragePlan, Arc<dyn Storage>)>,
        looks: Looks,
        owner: &str,
        lease: Duration,
    ) -> Self {
        Keeper {
            db,
            guard,
            plan,
            storage,
            places,
            looks,
            owner: format!("{owner}:trash"),
            lease,
            upkeep: Upkeep::default(),
            stored: Upkeep::default(),
            lately: Upkeep::default(),
            timeline: None,
            behind: None,
            erasing: erase::Progress::default(),
            before: None,
            stuck: None,
            counts: Counts::default(),
            empty_at: Instant::now(),
            capabilities,
            clocks,
        }
    }

    /// What was done since it was asked last.
    pub(crate) fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    /// Everything that is due now, once; of re-checks, those of entries of the ledger before the one with the number `before`. Transactions are waited for as long as `patience` lasts. Returns what could not be erased.
    ///
    /// # Errors
    /// What keeps the trash as a whole: the database's, and a storage that is away.
    pub(crate) async fn once(&mut self, before: i64, patience: Duration, stop: &watch::Receiver<bool>) -> Result<Option<Error>> {
        self.before = Some(before);
        let until = clock::deadline(patience);
        let done = loop {
            match self.turn().await {
                Ok(TurnResult::More) if !*stop.borrow() => {}
                Ok(TurnResult::Waits) if !*stop.borrow() && Instant::now() < until => tokio::time::sleep(BARRIER_POLL).await,
                Ok(TurnResult::Done(failed)) => break Ok(failed),
                Ok(_) => break Ok(None),
                Err(e) => break Err(e),
            }
        };
        let given_back = self.db.keep(&self.plan.name, &self.owner, Duration::ZERO).await;
        let done = done?;
        given_back.map(|_| done)
    }

    /// For ever, until `stop` becomes true; `report` hears after each round what was done, and what is wrong now, if anything.
    pub(crate) async fn keep(&mut self, mut stop: watch::Receiver<bool>, mut report: impl FnMut(&Counts, Option<&Error>) + Send) {
        while !*stop.borrow() {
            let mut turn = self.turn().await;
            // Triggers that a migration dropped meanwhile are put back.
            if turn.as_ref().is_err_and(|e| e.kind() == Kind::Drift) && self.guard.verify().await.is_ok() {
                turn = self.turn().await;
            }
            if matches!(turn, Ok(TurnResult::More)) {
                continue;
            }
            let counts = self.take_counts();
            let pause = match turn {
                Ok(TurnResult::More | TurnResult::Waits) => BARRIER_POLL * 5,
                Ok(TurnResult::Another) => LONGEST_PAUSE.min(self.lease),
                Ok(TurnResult::Done(failed)) => {
                    report(&counts, failed.as_ref());
                    self.pause()
                }
                Err(e) => {
                    report(&counts, Some(&e));
                    self.interval().min(Duration::from_secs(5))
                }
            };
            tokio::select! {
                // Who could say stop is gone: nobody will.
                changed = stop.changed() => if changed.is_err() { break },
                () = tokio::time::sleep(pause) => {}
            }
        }
        if let Err(e) = self.db.keep(&self.plan.name, &self.owner, Duration::ZERO).await {
            // Its lease runs out.
            tracing::warn!(storage = self.plan.name, kind = ?e.kind(), "{}", e.full());
        }
    }

    fn pause(&self) -> Duration {
        self.empty_at
            .saturating_duration_since(Instant::now())
            .clamp(Duration::from_millis(50), LONGEST_PAUSE.min(self.lease / 3).max(Duration::from_millis(50)))
    }

    /// The right is taken, or renewed; then what is due: a re-check, or a page of the emptying.
    async fn turn(&mut self) -> Result<TurnResult> {
        let turn = self.go_on().await;
        if turn.is_err() {
            trace::turn(&self.owner, "stopped", 0, trace::Facts::new);
        }
        turn
    }

    async fn go_on(&mut self) -> Result<TurnResult> {
        let Some(upkeep) = self.db.keep(&self.plan.name, &self.owner, self.lease).await? else { return Ok(TurnResult::Another) };
        self.stored = upkeep.clone();
        self.upkeep = upkeep;
        self.upkeep.checked = self.upkeep.checked.max(self.lately.checked);
        self.upkeep.read = self.upkeep.read.max(self.lately.read);
        self.upkeep.reviewed = self.upkeep.reviewed.max(self.lately.reviewed);
        let now = self.db.now().await?;
        if !self.follow_history(now).await? {
            return Ok(TurnResult::Another);
        }
        match self.recheck(now).await {
            Ok(()) if self.upkeep.checked == Some(now) || self.upkeep.read == Some(now) => self.stuck = None,
            Ok(()) => {}
            // What cannot come back is tried again with the next re-check. It keeps nothing else in the trash: what is erased may make the room that it needs.
            Err(e) if matches!(e.kind(), Kind::Storage | Kind::Permission) => {
                (self.lately.checked, self.lately.read) = (Some(now), Some(now));
                self.stuck = Some(e);
                trace::turn(&self.owner, "stopped", 0, trace::Facts::new);
            }
            Err(e) => return Err(e),
        }
        match self.empty().await? {
            TurnResult::Done(failed) => Ok(TurnResult::Done(
                failed.or_else(|| self.stuck.clone()).or_else(|| self.behind.as_ref().and_then(history::Behind::error)),
            )),
            turn => Ok(turn),
        }
    }

    /// A page of the emptying, if it is under way or due.
    async fn empty(&mut self) -> Result<TurnResult> {
        if !self.upkeep.erasing.is_empty() || self.erasing.is_under_way() || self.empty_at <= Instant::now() {
            match self.empty_page().await? {
                TurnResult::Done(failed) => {
                    self.empty_at = clock::deadline(self.interval());
                    return Ok(TurnResult::Done(failed));
                }
                turn => return Ok(turn),
            }
        }
        Ok(TurnResult::Done(self.erasing.failed()))
    }

    /// How often the trash is emptied. Where it costs requests, no more than once a minute.
    fn interval(&self) -> Duration {
        let shortest = if self.storage.quick() { Duration::from_secs(1) } else { Duration::from_secs(60) };
        (self.plan.trash.hold() / 10).clamp(shortest, Duration::from_secs(60))
    }

    /// Insists that the database is as attached and the storage is still ours.
    async fn verify(&self) -> Result<Installation> {
        self.is_apart(self.guard.verify().await?).await
    }

    /// The same for what deletes nothing: a new column that stops deletion keeps no file in the trash that a row references.
    async fn verify_to_return(&self) -> Result<Installation> {
        self.is_apart(self.guard.verify_attached().await?).await
    }

    async fn is_apart(&self, record: Installation) -> Result<Installation> {
        apart(&record, &self.plan.name, self.places.iter().map(|(plan, storage)| (plan, storage)), &self.looks).await?;
        Ok(record)
    }

    /// Stores what is known, with ledger entries. `false`: another process keeps this trash by now.
    async fn store(&mut self, entries: &[NewEntry]) -> Result<bool> {
        if entries.is_empty() && self.upkeep == self.stored {
            return Ok(true);
        }
        self.upkeep.timeline = self.timeline.clone().or(self.upkeep.timeline.take());
        let mut stored = self.db.kept(&self.plan.name, &self.owner, &self.upkeep, entries).await?;
        // What took longer than the lease goes on if nobody has taken over meanwhile.
        if !stored && self.db.keep(&self.plan.name, &self.owner, self.lease).await?.is_some_and(|now| now == self.stored) {
            stored = self.db.kept(&self.plan.name, &self.owner, &self.upkeep, entries).await?;
        }
        if !stored {
            return Ok(false);
        }
        self.stored = self.upkeep.clone();
        Ok(true)
    }

    fn entry(&self, name: &FileName, place: &str, size: Option<u64>, outcome: Outcome, note: Option<&str>) -> NewEntry {
        NewEntry {
            storage: self.plan.name.clone(),
            name: name.to_string(),
            outcome,
            event: "trash",
            size,
            place: Some(place.to_owned()),
            note: note.map(str::to_owned),
        }
    }
}

/// A file that comes back is looked at once more after so long.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Files of one return.
const RETURNS: usize = 500;

/// Brings files back, never over another, with what each came to.
///
/// They are announced first: each is a candidate that is due in a while. A row that releases one in this moment has its candidate settled while the file still
/// lies in the trash, and nobody would look for it afterwards. They are announced once more afterwards, because a process that was paused for long may have had
/// its candidates decided while half of the files lay in the trash. The first is for a process that is killed, the second for one that is paused.
///
/// # Errors
/// Those of the database, and the storage's as a whole. What came back by then is announced.
pub(crate) async fn give_back(
    db: &dyn Database,
    storage_name: &str,
    storage: &dyn Storage,
    files: &[Trashed],
) -> Result<PerName<Restored>> {
    let item = |t: &Trashed| Announce { storage: storage_name.to_owned(), name: t.name.clone(), event: RETURN, wait: LOOK_AGAIN };
    let mut done = Vec::with_capacity(files.len());
    for some in files.chunks(RETURNS) {
        db.announce(&some.iter().map(item).collect::<Vec<_>>()).await?;
        let restored = storage.restore(some).await;
        // Whatever the storage says: what it says of none may be true of some.
        let back: Vec<Announce> = match &restored {
            Ok(each) => some.iter().zip(each).filter(|(_, one)| !matches!(one, Ok(Restored::Occupied))).map(|(t, _)| item(t)).collect(),
            Err(_) => some.iter().map(item).collect(),
        };
        if !back.is_empty() {
            db.announce(&back).await?;
        }
        done.extend(restored?);
    }
    Ok(done)
}

/// The files of entries with their places, as a trace says it.
fn trace_facts<'e>(entries: impl IntoIterator<Item = &'e NewEntry>) -> trace::Facts {
    trace::places(entries.into_iter().map(|e| (e.name.as_str(), e.place.as_deref().unwrap_or_default())))
}

/// What a return came to, as a trace says it.
pub(crate) fn come_back(place: &str, one: &Result<Restored>) -> Value {
    match one {
        Ok(Restored::Back) => json!({ "back": place }),
        Ok(Restored::Occupied) => "occupied".into(),
        Ok(Restored::Missing) => "missing".into(),
        Err(_) => "failed".into(),
    }
}

/// How long after `last` a check that took `took` is due again, by the database's clock.
fn due(last: Option<Timestamp>, took: Duration, every: Duration, now: Timestamp) -> bool {
    // A time to come was written under another clock: it keeps nothing.
    last.is_none_or(|last| last > now || clock::passed(last, every.max(took.saturating_mul(BUDGET)), now))
}
