//! Who uses a storage: the installations in its marker, and how one leaves it that no longer exists.
//!
//! In: the plan, the markers. Out: a line for each installation; markers without the one that is gone. Promise: this database's own installation is left by
//! `detach` only, and nothing but the marker is changed.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::{open_storages, places::no_such_installation};
use crate::{
    database::Database,
    error::{Error, Kind, Result},
    plan::Plan,
    storage::Marker,
};

/// An installation that uses a storage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct User {
    /// The storage's name in the plan.
    pub storage: String,
    /// The installation's id.
    pub installation: String,
    /// Its database (kind and name); `None` where an earlier version attached it.
    pub database: Option<String>,
    /// When it attached last; `None` as above.
    pub attached_at: Option<Timestamp>,
    /// Whether it is the installation of this plan's database.
    pub own: bool,
}

/// Every installation that uses a storage of the plan.
///
/// # Errors
/// Those of the database and the storages.
pub async fn installations(plan: &Plan, db: &dyn Database) -> Result<Vec<User>> {
    let own = own(db).await?;
    let mut users = Vec::new();
    for (name, storage) in open_storages(plan)? {
        let marker = storage.marker().await.map_err(|e| e.with("storage", &name))?.unwrap_or_default();
        users.extend(marker.installations.iter().map(|id| {
            let of = marker.databases.get(id);
            User {
                storage: name.clone(),
                installation: id.clone(),
                database: of.map(|of| of.database.clone()),
                attached_at: of.map(|of| of.at),
                own: own.as_ref() == Some(id),
            }
        }));
    }
    Ok(users)
}

/// Takes an installation that no longer exists out of the markers of the plan's storages, or of one of them. Returns the storages whose markers held it.
///
/// # Errors
/// [`Kind::Config`] for an installation that no marker holds, and for this database's own. Those of the database and the storages: markers that were written
/// before stay so, and the same call does the rest.
pub async fn forget_installation(plan: &Plan, db: &dyn Database, id: &str, storage: Option<&str>) -> Result<Vec<String>> {
    let own = own(db).await?;
    if own.as_deref() == Some(id) {
        return Err(Error::new(Kind::Config, "this is the installation of this database itself")
            .with("installation", id)
            .hint("rowbound detach removes it; on a copy of the database: rowbound detach --copy"));
    }
    let storages = open_storages(plan)?;
    let mut markers: BTreeMap<&String, Marker> = BTreeMap::new();
    for (name, storage) in storages.iter().filter(|(name, _)| storage.is_none_or(|only| only == name.as_str())) {
        markers.extend(storage.marker().await.map_err(|e| e.with("storage", name))?.map(|marker| (name, marker)));
    }
    let holds = |marker: &Marker| marker.installations.iter().any(|other| other == id);
    if !markers.values().any(holds) {
        return Err(no_such_installation(id, &markers.values().collect::<Vec<_>>(), own.as_deref().unwrap_or_default()));
    }
    let mut left = Vec::new();
    for (name, _) in markers.into_iter().filter(|(_, marker)| holds(marker)) {
        let in_context = |e: Error| e.with("storage", name);
        // As it stands now: an attach may have written it meanwhile.
        let Some(mut marker) = storages[name].marker().await.map_err(in_context)?.filter(holds) else { continue };
        marker.forget(id);
        storages[name].set_marker(&marker).await.map_err(in_context)?;
        left.push(name.clone());
    }
    Ok(left)
}

/// This database's installation. A copy's record tells of the original's.
async fn own(db: &dyn Database) -> Result<Option<String>> {
    let Some(record) = db.installation().await? else { return Ok(None) };
    Ok((record.identity == db.identity().await?).then_some(record.id))
}
