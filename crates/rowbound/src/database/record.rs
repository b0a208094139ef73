//! The installation record, as every database stores it: a text.
//!
//! In: the text that stands, and the record that is to replace it. Out: the record to store, or an error. Promise: of two writers at once the second learns of
//! the first, a stored record ends no shadow mode, and a record of a newer build is not touched.

use jiff::Timestamp;

use crate::{
    capture::{Gap, Installation, Reliance, ValuesSeen},
    error::{Error, Kind, Result},
};

/// Reads the installation record; one that a newer build wrote is not touched.
pub(crate) fn read_record(text: &str) -> Result<Installation> {
    let record: Installation = serde_json::from_str(text).map_err(|e| {
        Error::new(Kind::Database, "the installation record cannot be read").because(e).hint("was it written by a newer rowbound?")
    })?;
    if record.version > crate::capture::VERSION {
        return Err(Error::new(Kind::Config, "a newer rowbound has attached to this database")
            .with("its version", record.version)
            .with("this version", crate::capture::VERSION)
            .hint("upgrade this rowbound"));
    }
    Ok(record)
}

/// `record` as it is stored over what stands (none: `None` or empty): its shadow modes are those that stand.
pub(crate) fn over(standing: Option<&str>, record: &Installation) -> Result<Installation> {
    match standing.filter(|text| !text.is_empty()) {
        Some(text) => Ok(Installation { shadow: read_record(text)?.shadow, ..record.clone() }),
        None => Ok(record.clone()),
    }
}

/// Another attach or detach was faster.
#[derive(Debug, thiserror::Error)]
#[error("what is attached has changed since it was read")]
struct Overtaken;

/// Whether [`unchanged`] made this error.
pub(crate) fn overtaken(e: &Error) -> bool {
    std::error::Error::source(e).is_some_and(|why| why.is::<Overtaken>())
}

/// Insists that what stands is `before`, as far as the installation and its bindings go.
pub(crate) fn unchanged(standing: Option<&str>, before: Option<&Installation>) -> Result<()> {
    let standing = standing.filter(|text| !text.is_empty()).map(read_record).transpose()?;
    let same = |a: &Installation, b: &Installation| a.id == b.id && a.bindings == b.bindings && a.active == b.active;
    match (&standing, before) {
        (None, None) => Ok(()),
        (Some(standing), Some(before)) if same(standing, before) => Ok(()),
        _ => Err(Error::new(Kind::Drift, "another attach or detach was at work at the same time, and nothing was changed here")
            .because(Overtaken)
            .hint("look at what is attached now, then run the same command again")),
    }
}

/// The same for a record that is stored once more: it may be the first.
pub(crate) fn unchanged_or_none(standing: Option<&str>, record: &Installation) -> Result<()> {
    match standing.filter(|text| !text.is_empty()) {
        Some(text) => unchanged(Some(text), Some(record)),
        None => Ok(()),
    }
}

/// Insists that what stands is what an upload relies on.
pub(crate) fn relied_on(standing: Option<&Installation>, on: &Reliance) -> Result<()> {
    let refused = |why: &str| Error::new(Kind::NotAttached, why.to_owned());
    let Some(standing) = standing else {
        return Err(refused("Rowbound is not attached to this database any more: no check would find the row that references this file")
            .hint("rowbound attach, then start this program again"));
    };
    if standing.id != on.installation {
        return Err(refused("this database was attached anew since this program has begun").hint("start this program again"));
    }
    let Some(missing) = on.bindings.iter().find(|id| !standing.active.contains(id)) else { return Ok(()) };
    let key = standing.bindings.iter().find(|(_, id)| *id == missing).map_or_else(|| missing.to_string(), |(key, _)| key.clone());
    Err(refused("this column is not bound any more: no check would find the row that references this file").with("binding", key).hint(
        "another program attached without it: declare the columns of all programs on this database in each of them, or in one rowbound.toml; \
         attach, and start this program again",
    ))
}

/// The record that stands, which is to be changed.
fn stands(standing: Option<&str>) -> Result<Installation> {
    let text = standing
        .filter(|text| !text.is_empty())
        .ok_or_else(|| Error::new(Kind::NotAttached, "Rowbound is not attached to this database").hint("rowbound attach"))?;
    read_record(text)
}

/// The record that stands, with what was seen of values since. What was seen in a reading that is attached no more counts for nothing, and no look makes a deeper one
/// undone.
pub(crate) fn deepened(standing: Option<&str>, seen: &[(i32, ValuesSeen)]) -> Result<Installation> {
    let mut record = stands(standing)?;
    for (id, seen) in seen {
        let is_deeper = record.values.get(id).is_none_or(|known| known.reading != seen.reading || known.depth < seen.depth);
        // What an earlier build attached does not say how values are read; what was seen counts for its own reading only, whoever looks at it.
        if is_deeper && record.readings.get(id).is_none_or(|reading| *reading == seen.reading) {
            record.values.insert(*id, seen.clone());
        }
    }
    Ok(record)
}

/// The record that stands, if it still is `before` (see [`unchanged`]), with these gaps.
pub(crate) fn gapped(standing: Option<&str>, before: &Installation, gaps: &[Gap]) -> Result<Installation> {
    unchanged(standing, Some(before))?;
    Ok(Installation { gaps: gaps.to_vec(), ..stands(standing)? })
}

/// The record that stands, with these bindings' shadow modes changed.
pub(crate) fn shaded(standing: Option<&str>, bindings: &[i32], since: Option<Timestamp>) -> Result<Installation> {
    let mut record = stands(standing)?;
    for id in bindings {
        match since {
            Some(at) => drop(record.shadow.entry(*id).or_insert(at)),
            None => drop(record.shadow.remove(id)),
        }
    }
    Ok(record)
}
