//! The way back: capture, candidates and ledger leave the database, the installation leaves the markers.
//!
//! In: the plan, and whether the database is a copy. Out: what the storages still hold in their trash. Promise: the database comes first, so that nothing can
//! be deleted any more when the markers change.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{copied, open_storages};
use crate::{
    database::Database,
    error::{Error, Kind, Result},
    plan::Plan,
};

/// What `detach` left behind.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Detached {
    /// Files that lie in each storage's trash still.
    pub in_trash: BTreeMap<String, u64>,
}

/// Whether two identities of a SQLite database speak of one file: the file beside it is the same, down to its inode.
fn same_file(one: &str, other: &str) -> bool {
    let beside = |identity: &str| identity.split_once(" by ").map(|(_, file)| file.to_owned()).filter(|file| file.contains(" inode "));
    beside(one).is_some() && beside(one) == beside(other)
}

/// Removes capture, candidates and ledger from the database and this installation from the storages' markers. `copy`: this database is a copy of the
/// one that was attached, and the storages stay as they are, because they are the original's.
///
/// # Errors
/// [`Kind::Identity`] on a copy, unless `copy` says so: its markers are the original's; [`Kind::Config`] for `copy` on the original. Else those of the
/// database or a storage; nothing was changed where a storage cannot be read. Then the database comes first: once it is detached, nothing can be deleted any more.
pub async fn detach(plan: &Plan, db: &dyn Database, copy: bool) -> Result<Detached> {
    let record = db.installation().await?;
    if let Some(record) = &record {
        let identity = db.identity().await?;
        match (record.identity == identity, copy) {
            (false, false) => {
                return Err(copied(&record.identity, &identity).hint(
                    "on a copy: `rowbound detach --copy` cleans the database and leaves every storage to the original; after a move: \
                     `rowbound attach --adopt`, then `rowbound detach`",
                ));
            }
            (true, true) => {
                return Err(Error::new(Kind::Config, "this is the database that was attached, and no copy of it")
                    .with("identity", identity)
                    .hint("run `rowbound detach` without --copy"));
            }
            (false, true) if same_file(&record.identity, &identity) => {
                return Err(Error::new(Kind::Config, "this is the database that was attached, seen under another path, and no copy of it")
                    .with("attached", &record.identity)
                    .with("now", identity)
                    .hint("run `rowbound detach` where it was attached"));
            }
            _ => {}
        }
    }
    let mut left = Detached::default();
    let mut marked = Vec::new();
    if !copy {
        // All are read before anything is changed: once the database is detached, nobody knows which installation to take out of a marker.
        for (name, storage) in open_storages(plan)? {
            let marker = storage.marker().await.map_err(|e| {
                e.hint(format!(
                    "nothing was changed: bring the storage back and detach again; if it is gone for good, remove storage {name} and its bindings from \
                     rowbound.toml"
                ))
            })?;
            marked.extend(marker.map(|_| (name, storage)));
        }
    }
    db.remove().await?;
    for (name, storage) in marked {
        // As it stands now: another database may have attached meanwhile.
        let Some(mut marker) = storage.marker().await? else { continue };
        let before = marker.installations.len();
        if let Some(record) = &record {
            marker.forget(&record.id);
        }
        if marker.installations.is_empty() {
            left.in_trash.insert(name, storage.remove_marker().await?);
        } else if marker.installations.len() < before {
            storage.set_marker(&marker).await?;
        }
    }
    Ok(left)
}
