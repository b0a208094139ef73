//! The trash: collected files wait here, and come back or go for good.
//!
//! In: files that a storage holds in its trash. Out: ledger entries. Promise: nothing is erased that a row names at that moment, and
//! nothing is restored over another file.

use crate::{
    capture::{Bound, Snapshot},
    crash,
    database::Database,
    error::{Error, Kind, Result},
    ledger::{Filter, NewEntry},
    name::FileName,
    queue::Outcome,
    references,
    storage::{Look, Restored, Storage, Trashed},
};

/// What left the trash, and what could not.
#[derive(Debug, Default)]
pub struct Emptied {
    /// Files, erased or brought back.
    pub left: u64,
    /// Of those, erased.
    pub purged: u64,
    /// Bytes of the erased ones.
    pub bytes: u64,
    /// Files that stay, because something failed: each with its error.
    pub failed: Vec<Error>,
}

/// Those of `files` that the ledger says this database moved to the trash. In a storage that several databases share, the others' files are theirs to
/// erase: their retention may be longer, and their references are not seen here.
///
/// # Errors
/// Those of the database.
pub(crate) async fn moved_by_us(db: &dyn Database, storage_name: &str, files: Vec<Trashed>) -> Result<Vec<Trashed>> {
    let mut ours = Vec::new();
    for file in files {
        let filter = Filter { storage: Some(storage_name.to_owned()), name: Some(file.name.to_string()), ..Filter::default() };
        if db.history(&filter).await?.iter().any(|entry| entry.place.as_ref() == Some(&file.place)) {
            ours.push(file);
        }
    }
    Ok(ours)
}

/// Erases `files`, whose retention is over, unless a row references one: that one is brought back if its name is free. An error of one file is that
/// file's: the others are done.
///
/// # Errors
/// The check's (then nothing was erased), the ledger's, and [`Kind::StorageUnreachable`] of a storage that went away meanwhile.
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
    let mut done = Emptied::default();
    let (wanted, mut gone): (Vec<Trashed>, Vec<Trashed>) = files.iter().cloned().partition(|file| held.contains(&file.name));
    let mut back = Vec::new();
    let names: Vec<FileName> = wanted.iter().map(|t| t.name.clone()).collect();
    let looks = if names.is_empty() { Vec::new() } else { storage.look(&names).await? };
    for (file, look) in wanted.into_iter().zip(looks) {
        match look {
            // Referenced, and nothing lies under the name: this is the file that the row means.
            Ok(Look::Missing) => back.push(file),
            Ok(_) => gone.push(file),
            Err(e) => done.failed.push(e.with("place", &file.place)),
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
    // What fails as a whole comes last: what was done before stands in the ledger all the same.
    let mut whole = Vec::new();
    let restored = if back.is_empty() { Ok(Vec::new()) } else { storage.restore(&back).await };
    let restored = restored.unwrap_or_else(|e| {
        whole.push(e);
        Vec::new()
    });
    for (file, one) in back.iter().zip(restored) {
        match one {
            Ok(Restored::Back) => entries.push(entry(file, Outcome::Restored, Some("a row names it"))),
            Ok(Restored::Occupied | Restored::Missing) => {}
            Err(e) => done.failed.push(e),
        }
    }
    let purged = if gone.is_empty() { Ok(Vec::new()) } else { storage.purge(&gone).await };
    let purged = purged.unwrap_or_else(|e| {
        whole.push(e);
        Vec::new()
    });
    for (file, one) in gone.iter().zip(purged) {
        match one {
            Ok(true) => entries.push(entry(file, Outcome::Purged, None)),
            Ok(false) => {}
            Err(e) => done.failed.push(e),
        }
    }
    crash::point("purging");
    if !entries.is_empty() {
        db.enter(&entries).await?;
    }
    for e in whole {
        // A storage that is away will be there again: nothing is said of its files.
        if e.kind() == Kind::StorageUnreachable {
            return Err(e);
        }
        done.failed.push(e);
    }
    done.left = entries.len() as u64;
    let purged = entries.iter().filter(|e| e.outcome == Outcome::Purged);
    done.purged = purged.clone().count() as u64;
    done.bytes = purged.filter_map(|e| e.size).sum();
    Ok(done)
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
