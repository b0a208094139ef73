//! The trash: collected files wait here, and come back or go for good.
//!
//! In: files that a storage holds in its trash. Out: ledger entries. Promise: nothing is erased that a row names at that moment, and
//! nothing is restored over another file.

use crate::{
    capture::{Bound, Snapshot},
    crash,
    database::Database,
    error::{Error, Kind, Result},
    ledger::NewEntry,
    name::FileName,
    queue::Outcome,
    references,
    storage::{Look, Restored, Storage, Trashed},
};

/// What left the trash.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Emptied {
    /// Files, erased or brought back.
    pub left: u64,
    /// Of those, erased.
    pub purged: u64,
    /// Bytes of the erased ones.
    pub bytes: u64,
}

/// Erases `files`, whose retention is over, unless a row names one: that one is brought back if its name is free.
///
/// # Errors
/// The check's (then nothing was erased), or the first of a single file (the others are done).
pub async fn purge(
    db: &dyn Database,
    bound: &[Bound],
    snapshot: &Snapshot,
    storage_name: &str,
    storage: &dyn Storage,
    files: &[Trashed],
) -> Result<Emptied> {
    let names: Vec<FileName> = files.iter().map(|t| t.name.clone()).collect();
    let (held, hold) = references::find(db, bound, snapshot, storage_name, &names).await?;
    drop(hold);
    let mut back = Vec::new();
    let mut gone = Vec::new();
    for (file, look) in files.iter().zip(storage.look(&names).await?) {
        match look? {
            // Referenced, and nothing lies under the name: this is the file that the row means.
            Look::Missing if held.contains(&file.name) => back.push(file.clone()),
            _ => gone.push(file.clone()),
        }
    }
    let entry = |t: &Trashed, outcome, note: Option<&str>| NewEntry {
        storage: storage_name.to_owned(),
        name: t.name.to_string(),
        outcome,
        event: "trash",
        size: Some(t.size),
        place: Some(t.place.clone()),
        note: note.map(str::to_owned),
    };
    let mut entries = Vec::new();
    let mut first = None;
    for (file, done) in back.iter().zip(storage.restore(&back).await?) {
        match done {
            Ok(Restored::Back) => entries.push(entry(file, Outcome::Restored, Some("a row names it"))),
            Ok(Restored::Occupied | Restored::Missing) => {}
            Err(e) => {
                first.get_or_insert(e);
            }
        }
    }
    for (file, done) in gone.iter().zip(storage.purge(&gone).await?) {
        match done {
            Ok(true) => entries.push(entry(file, Outcome::Purged, None)),
            Ok(false) => {}
            Err(e) => {
                first.get_or_insert(e);
            }
        }
    }
    crash::point("purging");
    if !entries.is_empty() {
        db.enter(&entries).await?;
    }
    match first {
        Some(e) => Err(e),
        None => {
            let purged = entries.iter().filter(|e| e.outcome == Outcome::Purged);
            Ok(Emptied { left: entries.len() as u64, purged: purged.clone().count() as u64, bytes: purged.filter_map(|e| e.size).sum() })
        }
    }
}

/// Brings a file back from the trash because a person asked.
///
/// # Errors
/// [`Kind::NotFound`] when the trash holds no such file, [`Kind::Storage`] when another file has the name now.
pub async fn restore(db: &dyn Database, storage_name: &str, storage: &dyn Storage, name: &FileName) -> Result<Trashed> {
    let place = |e: Error| e.with("storage", storage_name).with("name", format_args!("{name:?}"));
    let found = storage.trashed(std::slice::from_ref(name)).await?.pop().transpose().map_err(place)?.flatten();
    let Some(file) = found else {
        return Err(place(
            Error::new(Kind::NotFound, "the trash holds no such file").hint("`rowbound history --name NAME` tells what became of it"),
        ));
    };
    match storage.restore(std::slice::from_ref(&file)).await?.pop().transpose().map_err(place)? {
        Some(Restored::Back) => {}
        Some(Restored::Occupied) => {
            return Err(place(
                Error::new(Kind::Storage, "another file has this name now: nothing was moved").hint("move that one away first"),
            ));
        }
        Some(Restored::Missing) | None => return Err(place(Error::new(Kind::NotFound, "the file left the trash in this moment"))),
    }
    db.enter(&[NewEntry {
        storage: storage_name.to_owned(),
        name: name.to_string(),
        outcome: Outcome::Restored,
        event: "restore",
        size: Some(file.size),
        place: Some(file.place.clone()),
        note: None,
    }])
    .await?;
    Ok(file)
}
