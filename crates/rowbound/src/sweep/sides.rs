//! The databases whose rows reference a storage: ours, and those of the other installations that share it.
//!
//! In: our plan, and the plans that `--with` adds. Out: a [`Side`] for each. Promise: another configuration counts only where its database is the one that was attached,
//! with these bindings, and its installation stands in the storage's marker; its storage is known by the marker's id, whatever it is called there.

use std::sync::Arc;

use crate::{
    binding::Keep,
    capture::{Bound, Installation},
    database::{Database, drifted},
    error::{Error, Kind, Result},
    guard::{is_the_attached_one, same_bindings},
    plan::{Plan, StoragePlan},
    storage::Marker,
};

/// Another installation's configuration and database, whose references count too.
#[derive(Debug, Clone)]
pub struct Other {
    /// How messages call it: the file.
    pub label: String,
    /// Its configuration.
    pub plan: Plan,
    /// Its database.
    pub db: Arc<dyn Database>,
}

/// A database, and what it binds to the storage that is swept.
pub(super) struct Side<'a> {
    pub db: &'a dyn Database,
    pub plan: &'a Plan,
    /// What the storage is called there.
    pub storage: &'a StoragePlan,
    pub bound: Vec<Bound>,
    /// Of another installation's.
    pub label: Option<&'a str>,
    /// Its installation.
    pub id: String,
}

impl Side<'_> {
    /// What it binds to the storage.
    pub fn here(&self) -> impl Iterator<Item = &Bound> {
        self.bound.iter().filter(|b| b.binding.storage == self.storage.name)
    }

    /// A column, for a report.
    pub fn shown(&self, column: &impl std::fmt::Display) -> String {
        in_config(column, self.label)
    }

    /// What must never be deleted, and what the sweep leaves alone.
    pub fn keep(&self) -> Result<Keep> {
        Keep::with_ignored(self.plan.on_storage(&self.storage.name), &self.storage.ignore)
    }
}

/// A column, and the configuration whose database it is in, if that is not our own.
pub(super) fn in_config(column: &(impl std::fmt::Display + ?Sized), config: Option<&str>) -> String {
    match config {
        Some(config) => format!("{column} ({config})"),
        None => column.to_string(),
    }
}

/// Numbers of bindings in other databases begin so far from each other.
const APART: i32 = 1_000_000;

/// The other side that `other` is. `count` tells its bindings' numbers from those of the sides before it.
///
/// # Errors
/// [`Kind::NotAttached`], [`Kind::Identity`] and [`Kind::Drift`] as a worker there would stop for; [`Kind::Config`] where it is no other installation of this storage.
pub(super) async fn other<'a>(other: &'a Other, marker: &Marker, own: &str, count: usize) -> Result<Side<'a>> {
    let in_context = |e: Error| e.with("with", &other.label);
    let record = other
        .db
        .installation()
        .await
        .map_err(in_context)?
        .ok_or_else(|| in_context(Error::new(Kind::NotAttached, "nothing is attached to the database of this configuration")))?;
    is_the_attached_one(other.db.as_ref(), &record).await.map_err(in_context)?;
    if record.id == own {
        return Err(in_context(Error::new(Kind::Config, "this is the database that is swept already"))
            .hint(
                "--with takes the configurations of the other installations that use the storage; one with database = \"${DATABASE_URL}\" is about the database that our environment names",
            ));
    }
    let storage = of_marker(other, &record, marker).ok_or_else(|| {
        in_context(Error::new(Kind::Config, "no storage of this configuration is the one that is swept"))
            .with("installations that use it", marker.installations.join(", "))
            .hint("the installation of a configuration stands in the storage's marker after `rowbound attach --shared`")
    })?;
    let mut bound = same_bindings(&other.plan, &record).map_err(in_context)?;
    let drift = record.snapshot.drift(&other.db.snapshot(&bound).await.map_err(in_context)?);
    if !drift.is_empty() {
        return Err(in_context(drifted(&drift)));
    }
    let apart = i32::try_from(count).unwrap_or(i32::MAX).saturating_mul(APART);
    bound.iter_mut().for_each(|b| b.id = b.id.saturating_add(apart));
    Ok(Side { db: other.db.as_ref(), plan: &other.plan, storage, bound, label: Some(&other.label), id: record.id })
}

/// The storage of `other` that shows this marker, if its installation stands in it.
fn of_marker<'a>(other: &'a Other, record: &Installation, marker: &Marker) -> Option<&'a StoragePlan> {
    let (name, _) = record.storages.iter().find(|(_, id)| **id == marker.storage)?;
    other.plan.storages.get(name).filter(|_| marker.installations.contains(&record.id))
}
