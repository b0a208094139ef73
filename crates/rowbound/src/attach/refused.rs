//! Why a copied or moved database, or another database's storage, is not attached: which case it is, and the command for it.
//!
//! In: what stands in the markers, where they were written, whether the database has only moved. Out: an error whose hint is the next command. Promise: where
//! the cases cannot be told apart, all of them are named, and nothing is attached before a person has chosen.

use super::{OTHERS, copied, open_storages};
use crate::{
    capture::Installation,
    database::Database,
    error::{Error, Kind},
    plan::Plan,
    storage::{Marker, Origin, Whereabouts},
};

/// The installation that a copied or moved database had before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Adopted<'a> {
    pub(super) from: &'a str,
    /// Whether the database that it was is known to be this one, so that nobody else uses its storages.
    pub(super) moved: bool,
}

/// What a storage is to a database that is not the one that was attached to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Case {
    /// Nobody uses it yet.
    Own,
    /// The files were copied together with their marker.
    Copied,
    /// That cannot be told.
    Unknown,
    /// The original database's.
    Original,
}

impl Case {
    fn of(marker: &Marker, at: &Whereabouts) -> Self {
        match marker.origin(&at.written) {
            Origin::Here => Case::Original,
            Origin::Copied => Case::Copied,
            Origin::Unknown => Case::Unknown,
        }
    }

    /// What to do; `from` is the installation of the original, `storages` are those that the case is about.
    fn hint(self, from: &str, storages: &[&str]) -> String {
        let gone = format!("rowbound attach --adopt --forget-installation {from}");
        let own: String = storages.iter().map(|name| format!(" --adopt-storage {name}")).collect();
        match self {
            Case::Own => "it has storages of its own, so: rowbound attach --adopt".to_owned(),
            Case::Copied => {
                format!("if these are this database's own files: rowbound attach --adopt{own} gives them a marker of their own")
            }
            Case::Original => format!(
                "if the original database is gone, because this one was moved or restored from its dump: {gone}. On a copy: give it storages of its own in \
                 rowbound.toml, then rowbound attach --adopt"
            ),
            Case::Unknown => format!(
                "(1) these files are this database's own now, because it was moved or restored, or because the files were copied, too: {gone}. (2) the original \
                 still uses these files: give this database storages of its own in rowbound.toml, then rowbound attach --adopt"
            ),
        }
    }
}

/// The error for a database that is not the one that was attached, where nobody said `--adopt`. A storage that cannot be read says nothing.
pub(super) async fn database(plan: &Plan, db: &dyn Database, before: &Installation, identity: &str) -> Error {
    let refused = copied(&before.identity, identity);
    if db.has_moved(&before.identity).await.unwrap_or(false) {
        return Error::new(Kind::Identity, "this database has moved since it was attached")
            .with("attached", &before.identity)
            .with("now", identity)
            .hint("rowbound attach --adopt");
    }
    let Ok(storages) = open_storages(plan) else { return refused };
    let mut cases: Vec<(Case, &str)> = Vec::new();
    for (name, storage) in &storages {
        let read = async { (storage.marker().await, storage.whereabouts().await) };
        let case = match tokio::time::timeout(OTHERS, read).await {
            Ok((Ok(Some(marker)), Ok(at))) if !marker.installations.is_empty() => Case::of(&marker, &at),
            Ok((Ok(_), Ok(_))) => Case::Own,
            _ => Case::Unknown,
        };
        cases.push((case, name));
    }
    let gravest = cases.iter().map(|(case, _)| *case).max().unwrap_or(Case::Unknown);
    let concerned: Vec<&str> = cases.iter().filter(|(case, _)| *case == gravest).map(|(_, name)| *name).collect();
    let say = match gravest {
        Case::Own => "a copy with storages of its own",
        Case::Copied => "a copy, and so are the files",
        Case::Unknown => "a copy, or it has moved",
        Case::Original => "its storages are those of the original",
    };
    refused.with("it is", say).with("storages", concerned.join(", ")).hint(gravest.hint(&before.id, &concerned))
}

/// The error for a storage whose marker holds other installations. `meant`: a person said `--adopt-storage`.
pub(super) fn storage(name: &str, marker: &Marker, at: &Whereabouts, adopted: Option<Adopted<'_>>, meant: bool) -> Error {
    let case = Case::of(marker, at);
    let from = adopted.map(|a| a.from).filter(|from| marker.installations.iter().any(|id| id == from));
    let others: Vec<String> = marker.installations.iter().map(|id| marker.shown(id)).collect();
    let message = match (case, from) {
        (Case::Copied, _) => {
            "the storage was copied together with its marker, or restored from a backup: the marker holds the original's database"
        }
        (_, Some(_)) => "this is the storage of the database that this one was copied or moved from",
        (_, None) => "rows of another database reference files of this storage: each database would miss the other's references",
    };
    let mut error = Error::new(Kind::Identity, message).with("storage", name).with("attached to", others.join(", "));
    if meant && case == Case::Original {
        error = error.with("--adopt-storage", "by all that can be told the marker was written here, so these files are no copy");
    }
    if meant && case == Case::Unknown {
        error = error.with("--adopt-storage", "it cannot be told whether these files are a copy");
    }
    if let (Case::Copied, Some(written)) = (case, &marker.written) {
        error = error.with("the marker was written at", &written.url).with("and lies now at", &at.written.url);
    }
    error.hint(match (from, case) {
        (Some(from), _) => case.hint(from, &[name]),
        (None, Case::Copied) => format!("if these are this database's own files: rowbound attach --adopt-storage {name} gives them a marker of their own"),
        (None, _) => format!(
            "give this database a storage of its own; if that database is gone: rowbound attach --forget-installation {}; if both exist, and no file is ever \
             referenced by both: rowbound attach --shared",
            marker.installations.first().map_or("ID", String::as_str)
        ),
    })
}
