//! Bound columns of which no value is a file.
//!
//! In: bindings, the database, the storages. Out: each column whose sampled names are all missing, and the likely cause: the storage begins one folder too high or
//! too deep, the values must be read in another way, the files are in another storage. Promise: as for all evidence, a sample proves that values are files; it
//! never proves that others are not.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Evidence, Limits, REMOTE, Reading, Unread, few, look, sampled, short};
use crate::{
    binding::{Binding, Reading as BindingReading, Resolved},
    clock,
    database::{
        Database,
        survey::{Class, TextColumn},
    },
    error::Result,
    name::FileName,
    plan::{Location, StoragePlan},
    storage::{Listed, Stat, Storage},
};

/// Fewer values than these, all missing, say nothing unless there is a cause.
const ENOUGH: usize = 3;

/// So many names are tried in other places.
const TRIED: usize = 20;

/// So many folders at the top of a storage are tried; where each costs a request, a third.
const FOLDERS: usize = 60;

/// So many entries of a listing are read for that, and for so long.
const ENTRIES: usize = 10_000;
const PATIENCE: Duration = Duration::from_secs(5);

/// A bound column of whose sampled values none is a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// The column, as the plan writes it.
    pub column: String,
    /// The storage.
    pub storage: String,
    /// How many values that should name something were looked at.
    pub sampled: usize,
    /// One of them, cut off if it is long.
    pub value: String,
    /// Why, as far as it can be told.
    pub cause: Cause,
}

/// Why no value of a column is a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The names begin with these folders, and the files are there without them: the storage begins too deep.
    TooDeep(String),
    /// The files lie beneath this folder of the storage, which begins too high. With the `url` that fits, where it can be told.
    TooHigh(String, Option<String>),
    /// Read so, the values are files.
    ReadSo(Box<Evidence>),
    /// Another storage of the plan has the files.
    Elsewhere(String),
    /// Nothing that was tried.
    Unknown,
}

impl Unfit {
    /// What was found, for people, without the column.
    pub fn finding(&self) -> String {
        let Unfit { sampled, storage, value, .. } = self;
        let none = if *sampled == 1 {
            "its one sampled value is no file".to_owned()
        } else {
            format!("none of {sampled} sampled values is a file")
        };
        format!("{none} of storage {storage}, such as {value:?}")
    }

    /// The likely cause, and what to do.
    pub fn hint(&self) -> String {
        let storage = &self.storage;
        match &self.cause {
            Cause::TooDeep(folders) => format!(
                "the files are there without {folders:?}, with which the names begin: storage {storage} begins too deep; in [storage.{storage}], set `url` to the folder that holds {folders:?}"
            ),
            Cause::TooHigh(folder, Some(url)) => {
                format!(
                    "the files lie in {folder:?}: storage {storage} begins one folder too high; in [storage.{storage}], write url = {url:?}"
                )
            }
            Cause::TooHigh(folder, None) => {
                format!(
                    "the files lie in {folder:?}: storage {storage} begins one folder too high; in [storage.{storage}], add {folder:?} to `url`"
                )
            }
            Cause::ReadSo(seen) => {
                let prefix = seen.prefixes.first().map_or(String::new(), |prefix| format!(", prefix = {prefix:?}"));
                let path = seen.paths.first().map_or(String::new(), |path| format!(", path = {path:?}"));
                format!(
                    "read with kind = \"{}\"{prefix}{path}, {} are files: is the binding's `kind` right?",
                    word(seen.reading),
                    seen.share()
                )
            }
            Cause::Elsewhere(other) => format!("storage {other} has such files: is `storage` of the binding right?"),
            Cause::Unknown => format!(
                "is `url` of storage {storage} the folder or bucket to which the names are relative, and does this copy of the database have its files here? What this column releases is `missing` until then"
            ),
        }
    }
}

fn word(reading: Reading) -> &'static str {
    match reading {
        Reading::Name => "name",
        Reading::Url => "url",
        Reading::Key => "active-storage-key",
        Reading::Json => "json",
        Reading::Array => "array",
        Reading::Text => "text",
    }
}

/// Looks whether sampled values of the bound columns are files. The storages must be readable; a binding whose storage is not among them is left out, and so are queries.
///
/// # Errors
/// When the schema or a storage cannot be read. A single column that cannot be is an [`Unread`].
pub async fn unfit<'a>(
    db: &dyn Database,
    bindings: impl Iterator<Item = &'a Binding>,
    storages: &BTreeMap<String, Arc<dyn Storage>>,
    plans: &BTreeMap<String, StoragePlan>,
    limits: Limits,
) -> Result<(Vec<Unfit>, Vec<Unread>)> {
    let end = clock::deadline(limits.time);
    let columns = db.text_columns().await?;
    let (mut found, mut unread) = (Vec::new(), Vec::new());
    for binding in bindings.filter(|b| b.query.is_none()) {
        // What is no text column (bytes, a number) is not sampled.
        let Some(column) = columns.iter().find(|c| c.is(&binding.column)) else { continue };
        let Some(storage) = storages.get(&binding.storage) else { continue };
        let values = match sampled(db, column, limits, end).await? {
            Ok(sample) => sample.values,
            Err(why) => {
                unread.push(Unread { column: column.clone(), why, tried: false });
                continue;
            }
        };
        let few = few(storage.as_ref(), &values);
        let (meant, names) = names_of(binding, column, few);
        let Some(value) = meant.first().map(|value| short(value)) else { continue };
        if any(storage.as_ref(), &names).await? {
            continue;
        }
        let (sampled, cause) = (meant.len(), cause(binding, column, few, &names, storages, plans).await?);
        if sampled >= ENOUGH || cause != Cause::Unknown {
            found.push(Unfit { column: binding.column.to_string(), storage: binding.storage.clone(), sampled, value, cause });
        }
    }
    Ok((found, unread))
}

/// The values that should reference something, and what they reference. Those that reference something elsewhere, or nothing, say nothing of the storage.
fn names_of<'v>(binding: &Binding, column: &TextColumn, values: &'v [String]) -> (Vec<&'v String>, Vec<FileName>) {
    let (mut meant, mut names) = (Vec::new(), Vec::new());
    for value in values {
        let mut named = false;
        let mut take = |found: Resolved| match found {
            Resolved::Name(name) => {
                named = true;
                names.push(name);
            }
            // Such as `/media/a.jpg`, where names are expected.
            Resolved::Refused(_) => named = true,
            Resolved::Nothing | Resolved::Unreadable(_) => {}
        };
        match &binding.reading {
            // A sample gives an array as JSON.
            BindingReading::Array { prefixes } if column.class == Class::Array => {
                let element = match prefixes.as_slice() {
                    [] => BindingReading::Name,
                    _ => BindingReading::Url { prefixes: prefixes.clone() },
                };
                let elements: Vec<Option<String>> = serde_json::from_str(value).unwrap_or_default();
                elements.iter().flatten().for_each(|one| element.each_name(one.as_bytes(), binding.names, &mut take));
            }
            _ => binding.each_name(value.as_bytes(), &mut take),
        }
        if named {
            meant.push(value);
        }
    }
    (meant, names)
}

/// Whether one of these is a file.
async fn any(storage: &dyn Storage, names: &[FileName]) -> Result<bool> {
    let names = if storage.quick() { names } else { &names[..names.len().min(REMOTE.1)] };
    for some in names.chunks(1_000) {
        if storage.stat(some).await?.iter().any(|one| matches!(one, Ok(Stat::File(_)))) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether at least half of these are files.
async fn most(storage: &dyn Storage, names: &[FileName]) -> Result<bool> {
    let seen = storage.stat(names).await?.iter().filter(|one| matches!(one, Ok(Stat::File(_)))).count();
    Ok(seen > 0 && seen * 2 >= names.len())
}

async fn cause(
    binding: &Binding,
    column: &TextColumn,
    values: &[String],
    names: &[FileName],
    storages: &BTreeMap<String, Arc<dyn Storage>>,
    plans: &BTreeMap<String, StoragePlan>,
) -> Result<Cause> {
    let storage = &storages[&binding.storage];
    let names = &names[..names.len().min(TRIED)];
    if let Some(seen) = look(storage.as_ref(), column, values).await?
        && seen.found * 2 >= values.len()
    {
        // `media/` is a folder; `/media/` and `https://..` begin URLs.
        let folders = seen.prefixes.first().filter(|p| !p.starts_with('/') && !p.contains("://"));
        return Ok(match folders {
            Some(folders) if binding.reading == BindingReading::Name => Cause::TooDeep(folders.clone()),
            _ => Cause::ReadSo(Box::new(seen)),
        });
    }
    if names.is_empty() {
        return Ok(Cause::Unknown);
    }
    for (name, other) in storages.iter().filter(|(name, _)| **name != binding.storage) {
        if most(other.as_ref(), names).await? {
            return Ok(Cause::Elsewhere(name.clone()));
        }
    }
    Ok(match above(storage.as_ref(), names).await? {
        Some(folder) => {
            let url = plans.get(&binding.storage).and_then(|plan| within(&plan.location, &folder));
            Cause::TooHigh(folder, url)
        }
        None => Cause::Unknown,
    })
}

/// The folder at the top of a storage beneath which most of these are files: the storage begins one folder too high for them.
pub(crate) async fn above(storage: &dyn Storage, names: &[FileName]) -> Result<Option<String>> {
    for folder in folders(storage).await? {
        let beneath: Vec<FileName> = names.iter().filter_map(|name| FileName::parse(&format!("{folder}/{name}")).ok()).collect();
        if !beneath.is_empty() && most(storage, &beneath).await? {
            return Ok(Some(folder));
        }
    }
    Ok(None)
}

/// The folders at the top of a storage, or the first of many.
async fn folders(storage: &dyn Storage) -> Result<Vec<String>> {
    let (end, most) = (clock::deadline(PATIENCE), if storage.quick() { FOLDERS } else { FOLDERS / 3 });
    let (mut folders, mut after, mut entries) = (Vec::new(), None::<FileName>, 0);
    'listing: while folders.len() < most && Instant::now() < end {
        let mut pages = storage.list("", after.take()).await?;
        while let Some(page) = pages.recv().await {
            let page = page?;
            for entry in page.entries {
                entries += 1;
                let Listed::File(name) = entry else { continue };
                if let Some((folder, _)) = name.as_str().split_once('/') {
                    // Whatever lies in a folder is passed over: on behind it.
                    after = FileName::key(&format!("{folder}/\u{10ffff}")).ok();
                    folders.push(folder.to_owned());
                    if after.is_some() {
                        continue 'listing;
                    }
                    break 'listing;
                }
            }
            if page.last || entries > ENTRIES {
                break 'listing;
            }
        }
        break;
    }
    Ok(folders)
}

/// The `url` of what lies in a folder of a storage.
pub(crate) fn within(location: &Location, folder: &str) -> Option<String> {
    match location {
        Location::Folder(path) => Some(Location::Folder(path.join(folder)).to_url()),
        Location::S3(bucket) => {
            let mut bucket = bucket.clone();
            bucket.prefix = format!("{}{folder}/", bucket.prefix);
            Some(Location::S3(bucket).to_url())
        }
        Location::Service(_) | Location::Memory(_) => None,
    }
}
