//! Files come back because a person asks.
//!
//! In: names, a prefix, a moment. Out: what lies in the trash of it, and, if that is what is wanted, what came back. Promise: nothing is restored over another
//! file, and no row is changed; a file that comes back stays, whether a row references it or not.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::{
    database::Database,
    error::{Error, Kind, Result},
    guard::installed,
    ledger::NewEntry,
    name::FileName,
    queue::Outcome,
    storage::{PerName, Restored, Stat, Storage, Trashed},
};

/// Files that are asked for at once.
const PAGE: usize = 1_000;

/// Which files of a trash.
#[derive(Debug, Clone, Default)]
pub struct TrashFilter {
    /// Only those that were moved there since this moment.
    pub since: Option<Timestamp>,
    /// Only those whose names begin with this.
    pub prefix: String,
    /// Only these names.
    pub names: Option<BTreeSet<FileName>>,
    /// Only what this database has moved, as its ledger says: another one uses the storage, too.
    pub own: bool,
}

/// What lies in a trash.
#[derive(Debug, Default)]
pub struct TrashContents {
    /// The latest version of each name, sorted by name, and whether another file has the name now.
    pub files: Vec<(Trashed, bool)>,
    /// Of the names that were asked for, those that are not in the trash.
    pub missing: Vec<FileName>,
    /// Parts of the trash that could not be read.
    pub errors: Vec<Error>,
}

/// Looks for files in the trash. Nothing is changed. A file was moved when the ledger says so; where the ledger knows nothing of it, because it belongs to a
/// database that was lost, the trash itself tells, which is at most an hour or a quarter of the retention too late.
///
/// # Errors
/// [`Kind::Identity`] on a copied database: what its ledger tells is the original's. Those of the storage as a whole, and of the database.
pub async fn find(db: &dyn Database, storage_name: &str, storage: &dyn Storage, wanted: &TrashFilter) -> Result<TrashContents> {
    installed(db).await?;
    let mut found = TrashContents::default();
    let names = match &wanted.names {
        Some(names) => names.iter().filter(|name| name.as_str().starts_with(&wanted.prefix)).cloned().collect(),
        None => all_names(storage, &wanted.prefix, &mut found.errors).await?,
    };
    let names: Vec<FileName> = names.into_iter().collect();
    for some in names.chunks(PAGE) {
        let mut files = Vec::with_capacity(some.len());
        for (name, latest) in some.iter().zip(storage.trashed(some).await?) {
            match latest {
                Ok(Some(file)) => files.push(file),
                Ok(None) => found.missing.push(name.clone()),
                Err(e) => found.errors.push(e.with("name", format_args!("{name:?}"))),
            }
        }
        if wanted.since.is_some() || wanted.own {
            files = moved(db, storage_name, files, wanted).await?;
        }
        let names: Vec<FileName> = files.iter().map(|file| file.name.clone()).collect();
        let looked = storage.stat(&names).await?;
        // What cannot be looked at is tried all the same: nothing is ever replaced.
        found.files.extend(files.into_iter().zip(looked).map(|(file, look)| (file, matches!(look, Ok(Stat::File(_) | Stat::Refused(_))))));
    }
    if wanted.names.is_none() {
        found.missing.clear(); // it left the trash in this moment
    }
    Ok(found)
}

/// Every name of which a version lies in the trash.
async fn all_names(storage: &dyn Storage, prefix: &str, errors: &mut Vec<Error>) -> Result<BTreeSet<FileName>> {
    let mut names = BTreeSet::new();
    let mut after = None;
    loop {
        let page = storage.expired(Timestamp::MAX, after.as_deref(), PAGE).await?;
        names.extend(page.files.into_iter().map(|file| file.name).filter(|name| name.as_str().starts_with(prefix)));
        errors.extend(page.errors);
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(names),
        }
    }
}

/// Those of the files that were moved as `wanted` says.
async fn moved(db: &dyn Database, storage_name: &str, files: Vec<Trashed>, wanted: &TrashFilter) -> Result<Vec<Trashed>> {
    let names: Vec<FileName> = files.iter().map(|file| file.name.clone()).collect();
    let ever = moves(db, storage_name, &names, Timestamp::UNIX_EPOCH).await?;
    let lately = match wanted.since {
        Some(since) => moves(db, storage_name, &names, since).await?,
        None => ever.clone(),
    };
    let meant = |file: &Trashed| match ever.contains(&file.place) {
        true => lately.contains(&file.place),
        false => !wanted.own && wanted.since.is_none_or(|since| file.at >= since),
    };
    Ok(files.into_iter().filter(meant).collect())
}

/// The places to which files were moved since a moment, as the ledger says.
async fn moves(db: &dyn Database, storage_name: &str, names: &[FileName], since: Timestamp) -> Result<BTreeSet<String>> {
    let entries = db.in_places(storage_name, names, since).await?;
    Ok(entries.into_iter().filter(|(_, outcome)| *outcome == Outcome::Trashed).map(|(place, _)| place).collect())
}

/// Brings files back, never over another, and enters each in the ledger.
///
/// # Errors
/// Those of the storage as a whole, and of the database. What came back by then stays.
pub async fn restore_all(db: &dyn Database, storage_name: &str, storage: &dyn Storage, files: &[Trashed]) -> Result<PerName<Restored>> {
    let mut done = Vec::with_capacity(files.len());
    for some in files.chunks(PAGE) {
        let restored = storage.restore(some).await?;
        let back = some.iter().zip(&restored).filter(|(_, one)| matches!(one, Ok(Restored::Back)));
        let entries: Vec<NewEntry> = back
            .map(|(file, _)| NewEntry {
                storage: storage_name.to_owned(),
                name: file.name.to_string(),
                outcome: Outcome::Restored,
                event: "restore",
                size: Some(file.size),
                place: Some(file.place.clone()),
                note: None,
            })
            .collect();
        if !entries.is_empty() {
            db.enter(&entries).await?;
        }
        done.extend(restored);
    }
    Ok(done)
}

/// Brings one file back.
///
/// # Errors
/// [`Kind::NotFound`] when the trash holds no such file, [`Kind::Storage`] when another file has the name now.
pub async fn restore(db: &dyn Database, storage_name: &str, storage: &dyn Storage, name: &FileName) -> Result<Trashed> {
    let in_context = |e: Error| e.with("storage", storage_name).with("name", format_args!("{name:?}"));
    let found = storage.trashed(std::slice::from_ref(name)).await?.pop().transpose().map_err(in_context)?.flatten();
    let Some(file) = found else {
        return Err(in_context(
            Error::new(Kind::NotFound, "the trash holds no such file").hint("`rowbound history --name NAME` shows what became of it"),
        ));
    };
    match restore_all(db, storage_name, storage, std::slice::from_ref(&file)).await?.pop().transpose().map_err(in_context)? {
        Some(Restored::Back) => Ok(file),
        Some(Restored::Occupied) => {
            Err(in_context(Error::new(Kind::Storage, "another file has this name now: nothing was moved").hint("move that one away first")))
        }
        Some(Restored::Missing) | None => Err(in_context(Error::new(Kind::NotFound, "the file left the trash in this moment"))),
    }
}
