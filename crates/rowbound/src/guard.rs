//! The guard: may this process delete?
//!
//! In: a plan's bindings, and what stands in the database. Out: the installation record, if the database is the one that was attached, with these bindings,
//! and capture is whole. Promise: on any doubt the answer is an error, and nothing is deleted.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use jiff::Timestamp;

use crate::{
    attach::{copied, drop_flag, last_whole, number, own_places, unseen},
    binding::Column,
    capture::{Bound, Drift, Gap, Installation, VERSION},
    database::{Database, Dialect, drifted},
    error::{Error, Kind, Result},
    evidence::{Limits, values::deeper},
    plan::Plan,
    storage::Storage,
};

/// Stands before every deletion of one plan.
#[derive(Debug)]
pub(crate) struct Guard {
    db: Arc<dyn Database>,
    bound: Vec<Bound>,
    /// How values were read, and of which rows, by the attach before this process began: [`Installation::readings`].
    readings: BTreeMap<i32, String>,
    /// Columns that hold names of files but no references.
    ignored: Vec<Column>,
    /// When capture was last seen whole.
    whole: Mutex<Timestamp>,
    /// What came to the database since it was attached.
    new: Mutex<New>,
}

/// For so long a new column whose values were no files is not looked at again: its first values may say little.
const HARMLESS: Duration = Duration::from_secs(3600);

/// Columns that came since the last attach, or were empty then.
#[derive(Debug, Default)]
struct New {
    /// What that attach had seen.
    seen: Option<BTreeSet<String>>,
    /// Those whose values are no files, and when that was seen.
    harmless: BTreeMap<String, Instant>,
    /// One that references files stops deletion.
    stops: Option<Error>,
    /// All that do.
    stopping: BTreeSet<String>,
}

impl Guard {
    /// For a plan that is attached, and the record that says so.
    ///
    /// # Errors
    /// Those of [`same_bindings`].
    pub(crate) fn new(plan: &Plan, db: Arc<dyn Database>, record: &Installation) -> Result<Self> {
        let whole = Mutex::new(last_whole(record).max(record.attached_at));
        let (bound, readings) = (same_bindings(plan, record)?, record.readings.clone());
        Ok(Guard { bound, readings, db, ignored: plan.ignore.clone(), whole, new: Mutex::default() })
    }

    /// The bindings, with their numbers.
    pub(crate) fn bound(&self) -> &[Bound] {
        &self.bound
    }

    /// Those of one storage.
    pub(crate) fn on<'a>(&'a self, storage: &'a str) -> impl Iterator<Item = &'a Bound> {
        self.bound.iter().filter(move |b| b.binding.storage == storage)
    }

    /// The installation record, if the database is the one that was attached, with these bindings. Whether capture is whole is not looked at: a check that is made
    /// with the record's snapshot does, and fails with [`Kind::Drift`] otherwise.
    ///
    /// # Errors
    /// [`Kind::NotAttached`], [`Kind::Identity`], [`Kind::Drift`] with other bindings.
    pub(crate) async fn record(&self) -> Result<Installation> {
        let record = self.as_attached().await?;
        let new = self.new.lock().unwrap_or_else(|e| e.into_inner());
        // An attach since then has seen them.
        match new.stops.clone().filter(|_| new.seen == record.seen) {
            Some(stops) => Err(stops),
            None => Ok(record),
        }
    }

    /// The same, whether or not a new column stops deletion.
    async fn as_attached(&self) -> Result<Installation> {
        let record = installed(self.db.as_ref()).await?;
        // With another prefix or other rows a binding keeps its number, and what is released since then would be looked for in the old way.
        let is_another = |b: &Bound| {
            !record.active.contains(&b.id) || self.readings.get(&b.id).is_some_and(|reading| record.readings.get(&b.id) != Some(reading))
        };
        if record.active.len() != self.bound.len() || self.bound.iter().any(is_another) {
            return Err(Error::new(Kind::Drift, "another set of bindings was attached meanwhile")
                .hint("start rowbound again with that rowbound.toml"));
        }
        Ok(record)
    }

    /// Whether a new column stops deletion, as far as the last look knows.
    pub(crate) fn is_stopped(&self) -> bool {
        self.new.lock().unwrap_or_else(|e| e.into_inner()).stops.is_some()
    }

    /// Looks whether columns that the last attach has not seen reference files: then deletion stops until it has. Within so much time.
    ///
    /// # Errors
    /// When the schema or a storage cannot be read.
    pub(crate) async fn look_for_new(&self, storages: &BTreeMap<String, Arc<dyn Storage>>, limits: Limits) -> Result<()> {
        let record = installed(self.db.as_ref()).await?;
        let known: BTreeSet<String> = {
            let mut new = self.new.lock().unwrap_or_else(|e| e.into_inner());
            if new.seen != record.seen {
                *new = New { seen: record.seen.clone(), ..New::default() };
            }
            new.harmless.retain(|_, at| at.elapsed() < HARMLESS);
            new.harmless.keys().cloned().collect()
        };
        let found = unseen(self.db.as_ref(), &self.bound, &self.ignored, &record, &known, storages, limits).await?;
        let mut new = self.new.lock().unwrap_or_else(|e| e.into_inner());
        let now = Instant::now();
        // What stops is looked at every time.
        let harmless: Vec<String> = found.harmless.into_iter().filter(|column| !new.stopping.contains(column)).collect();
        new.harmless.extend(harmless.into_iter().map(|column| (column, now)));
        // What stops is not over because there was no time to look, or somebody held a lock.
        if found.stops.is_some() || new.stopping.is_disjoint(&found.unread) {
            (new.stops, new.stopping) = (found.stops, found.stopping);
        }
        Ok(())
    }

    /// Looks whether values came that need a deeper look than the record says, and writes it down.
    ///
    /// # Errors
    /// Those of the database.
    pub(crate) async fn look_deeper(&self, time: Duration) -> Result<()> {
        let deeper = deeper(self.db.as_ref(), &self.bound, &installed(self.db.as_ref()).await?, time).await?;
        if deeper.is_empty() { Ok(()) } else { self.db.note_values(&deeper).await }
    }

    /// The installation record, if capture is whole. Where only triggers are missing (a table was rebuilt, a partition was attached) they
    /// are put back and the gap is recorded.
    ///
    /// # Errors
    /// [`Kind::Drift`] when a person has to look: a bound column is gone or another one.
    pub(crate) async fn verify(&self) -> Result<Installation> {
        let record = self.record().await?;
        self.put_back(record).await
    }

    /// The same, whether or not a new column stops deletion: for who looks for new columns, and must go on to see that they stop nothing any more, and for who brings
    /// files back. Nothing may be deleted on its answer.
    ///
    /// # Errors
    /// As [`Guard::verify`].
    pub(crate) async fn verify_attached(&self) -> Result<Installation> {
        let record = self.as_attached().await?;
        self.put_back(record).await
    }

    async fn put_back(&self, record: Installation) -> Result<Installation> {
        let drift = record.snapshot.drift(&self.db.snapshot(&self.bound).await?);
        let now = Timestamp::now();
        if drift.is_empty() {
            *self.whole.lock().unwrap_or_else(|e| e.into_inner()) = now;
            return Ok(record);
        }
        if !self.repairable(&drift) {
            return Err(drifted(&drift));
        }
        let why: Vec<_> = drift.iter().map(Drift::to_string).collect();
        let why = why.join("; ");
        let since = *self.whole.lock().unwrap_or_else(|e| e.into_inner());
        let mut repaired = record.clone();
        let gap = Gap { since, until: Some(now), why: why.clone() };
        match repaired.gaps.last_mut().filter(|last| last.since == since) {
            // An earlier try recorded it, and did not get to the triggers.
            Some(last) => *last = gap,
            None => repaired.gaps.push(gap),
        }
        let repaired = self.db.install_after(Some(&record), &self.bound, &repaired).await?;
        tracing::warn!(%why, since = %since, "capture was incomplete and is back; files that were released in between may be left over");
        Ok(repaired)
    }

    /// Whether capture can be put back without asking: every bound column is still the one it was.
    fn repairable(&self, drift: &[Drift]) -> bool {
        drift.iter().all(|d| {
            if d.item.starts_with("column ") || d.item.starts_with("query ") {
                return false;
            }
            // SQLite rewrites a trigger when its column or table is renamed: then the name in the plan may mean another column now.
            !(self.db.dialect() == Dialect::Sqlite && d.item.starts_with("trigger ") && d.is.is_some())
        })
    }
}

/// The record of an attached database.
pub(crate) async fn installed(db: &dyn Database) -> Result<Installation> {
    let record = db
        .installation()
        .await?
        .ok_or_else(|| Error::new(Kind::NotAttached, "Rowbound is not attached to this database").hint("rowbound attach"))?;
    is_the_attached_one(db, &record).await?;
    Ok(record)
}

/// Insists that the record is of this version, and of the database that it stands in.
pub(crate) async fn is_the_attached_one(db: &dyn Database, record: &Installation) -> Result<()> {
    if record.version != VERSION {
        return Err(Error::new(Kind::NotAttached, "an older rowbound attached to this database")
            .with("its version", record.version)
            .with("this version", VERSION)
            .hint("rowbound attach"));
    }
    let identity = db.identity().await?;
    if identity == record.identity { Ok(()) } else { Err(copied(&record.identity, &identity)) }
}

/// The record of a database to which exactly this plan is attached.
///
/// # Errors
/// [`Kind::NotAttached`], [`Kind::Identity`] on a copy, [`Kind::Drift`] where another set of bindings is attached.
pub async fn attached(plan: &Plan, db: &dyn Database) -> Result<Installation> {
    let record = installed(db).await?;
    same_bindings(plan, &record)?;
    Ok(record)
}

/// The plan's bindings with their numbers, if they are exactly those that are attached: a column that is bound but not in the plan would
/// hold references that nobody looks for.
pub(crate) fn same_bindings(plan: &Plan, record: &Installation) -> Result<Vec<Bound>> {
    own_places(plan, &record.storages)?;
    let bound = number(plan, &record.bindings);
    for b in &bound {
        if !record.active.contains(&b.id) {
            return Err(Error::new(Kind::NotAttached, "this binding is not attached yet")
                .with("binding", b.binding.key())
                .hint("rowbound attach"));
        }
    }
    for (key, id) in &record.bindings {
        if record.active.contains(id) && bound.iter().all(|b| b.id != *id) {
            return Err(Error::new(Kind::Drift, "this binding is attached, but not in the plan: its references would not be looked for")
                .with("binding", key)
                .hint(format!(
                    "put it back into rowbound.toml; or, if no row references a file there any more: rowbound attach {}",
                    drop_flag(key)
                )));
        }
    }
    Ok(bound)
}
