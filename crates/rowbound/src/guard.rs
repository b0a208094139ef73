//! The guard: may this process delete?
//!
//! In: a plan's bindings, and what stands in the database. Out: the installation record, if the database is the one that was attached, with these bindings,
//! and capture is whole. Promise: on any doubt the answer is an error, and nothing is deleted.

use std::sync::{Arc, Mutex};

use jiff::Timestamp;

use crate::{
    attach::{copied, drop_flag, last_whole, number, own_places},
    capture::{Bound, Drift, Gap, Installation, VERSION},
    database::{Database, Dialect, drifted},
    error::{Error, Kind, Result},
    plan::Plan,
};

/// Stands before every deletion of one plan.
#[derive(Debug)]
pub(crate) struct Guard {
    db: Arc<dyn Database>,
    bound: Vec<Bound>,
    /// When capture was last seen whole.
    whole: Mutex<Timestamp>,
}

impl Guard {
    /// For a plan that is attached, and the record that says so.
    ///
    /// # Errors
    /// Those of [`same_bindings`].
    pub(crate) fn new(plan: &Plan, db: Arc<dyn Database>, record: &Installation) -> Result<Self> {
        let whole = Mutex::new(last_whole(record).max(record.attached_at));
        Ok(Guard { bound: same_bindings(plan, record)?, db, whole })
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
        let record = installed(self.db.as_ref()).await?;
        if record.active.len() != self.bound.len() || self.bound.iter().any(|b| !record.active.contains(&b.id)) {
            return Err(Error::new(Kind::Drift, "another set of bindings was attached meanwhile")
                .hint("start rowbound again with that rowbound.toml"));
        }
        Ok(record)
    }

    /// The installation record, if capture is whole. Where only triggers are missing (a table was rebuilt, a partition was attached) they
    /// are put back and the gap is recorded.
    ///
    /// # Errors
    /// [`Kind::Drift`] when a person has to look: a bound column is gone or another one.
    pub(crate) async fn verify(&self) -> Result<Installation> {
        let record = self.record().await?;
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
        repaired.gaps.push(Gap { since, until: Some(now), why: why.clone() });
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
    if record.version != VERSION {
        return Err(Error::new(Kind::NotAttached, "an older rowbound attached to this database")
            .with("its version", record.version)
            .with("this version", VERSION)
            .hint("rowbound attach"));
    }
    let identity = db.identity().await?;
    if identity != record.identity {
        return Err(copied(&record.identity, &identity));
    }
    Ok(record)
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
                    "put it back into rowbound.toml; or, if no file is named there any more: rowbound attach {}",
                    drop_flag(key)
                )));
        }
    }
    Ok(bound)
}
