//! Originals: whose derivative could a file be, and does that file live?
//!
//! In: names that may be derivatives. Out: for each, the files that it could have been made from, and one of them that lies in the storage. Promise: what could
//! not be looked at is an error of the name that it was for, never an absence.

use std::collections::{BTreeSet, HashMap, HashSet};

use futures_util::{StreamExt, stream};

use crate::{
    derivative::{Derivatives, Originals, stem},
    error::{Error, Result},
    name::FileName,
    storage::{Listed, Stat, Storage, each},
};

/// Listings under way at a time.
const LISTINGS: usize = 16;

/// Whose derivative a file could be.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origin {
    /// Originals whose references are to be looked for.
    pub(crate) names: BTreeSet<FileName>,
    /// Originals that lie in the storage but may go themselves: they count unless they do.
    pub(crate) going: BTreeSet<FileName>,
    /// One that lies in the storage.
    pub(crate) there: Option<There>,
}

/// What is there of a file's originals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum There {
    /// This one.
    File(String),
    /// Too many files could be its original to look at them all.
    TooMany,
}

impl Origin {
    /// Why the derivative stays: one of its originals is there, or a row references one.
    pub(crate) fn lives(&self, held: &HashSet<FileName>) -> Option<String> {
        if let Some(original) = self.names.iter().find(|n| held.contains(*n)) {
            return Some(format!("a derivative of {original}, which a row references"));
        }
        self.there.as_ref().map(|there| match there {
            There::File(original) => format!("a derivative of {original}, which is there"),
            There::TooMany => "too many files could be its original".to_owned(),
        })
    }
}

/// Files that differ in their suffix only.
#[derive(Debug, Default)]
struct Siblings {
    there: BTreeSet<String>,
    going: BTreeSet<FileName>,
}

/// Looks for the originals of `names`, each with those that are known beside what the patterns say. `may_go` tells which files may go together with their
/// derivatives: two derivatives that go together do not keep each other.
///
/// # Errors
/// Those of the storage as a whole; what concerns one name stands with it.
pub(crate) async fn origins(
    derivatives: &Derivatives,
    storage: &dyn Storage,
    names: impl IntoIterator<Item = (FileName, Vec<FileName>)>,
    may_go: impl Fn(&FileName) -> bool,
) -> Result<HashMap<FileName, Result<Origin>>> {
    let mut all: HashMap<FileName, Originals> = HashMap::new();
    for (name, known) in names {
        let mut originals = derivatives.originals(&name);
        originals.names.extend(known.into_iter().filter(|o| *o != name));
        originals.names.extend(originals.stems.iter().filter_map(|s| FileName::key(s).ok()).filter(|o| *o != name));
        if !originals.is_empty() {
            all.insert(name, originals);
        }
    }
    if all.is_empty() {
        return Ok(HashMap::new());
    }

    let exact: Vec<FileName> = all.values().flat_map(|o| &o.names).collect::<BTreeSet<_>>().into_iter().cloned().collect();
    let looks = storage.stat(&exact).await?;
    let mut there: HashMap<&FileName, Result<bool>> = HashMap::new();
    for (name, look) in exact.iter().zip(looks) {
        // A folder is no original, and a link counts if a row references it.
        there.insert(name, look.map(|l| matches!(l, Stat::File(_))));
    }

    let stems: BTreeSet<String> = all.values().flat_map(|o| &o.stems).cloned().collect();
    let may_go = &may_go;
    let siblings: HashMap<String, Result<Siblings>> = stream::iter(stems.into_iter().map(|s| async move {
        let mut found = Siblings::default();
        let done = each(storage, &format!("{s}."), |entry| {
            match entry {
                Listed::File(name) if stem(name.as_str()) != s => {}
                Listed::File(name) if may_go(&name) => drop(found.going.insert(name)),
                Listed::File(name) => drop(found.there.insert(name.to_string())),
                // What is linked may be an original.
                Listed::Skipped(name, _) if stem(&name) == s => drop(found.there.insert(name)),
                Listed::Skipped(..) => {}
            }
            // One may be the derivative itself: two are enough.
            found.there.len() < 2
        })
        .await;
        (s, done.map(|()| found))
    }))
    .buffer_unordered(LISTINGS)
    .collect()
    .await;

    let unknown = |e: &Error| Err(Error::new(e.kind(), format!("its originals cannot be looked for: {}", e.full())));
    let settled = all.iter().map(|(name, originals)| {
        let mut origin = Origin { names: originals.names.clone(), ..Origin::default() };
        if originals.many {
            origin.there = Some(There::TooMany);
        }
        for original in &originals.names {
            match &there[original] {
                Ok(true) if may_go(original) => drop(origin.going.insert(original.clone())),
                Ok(true) => origin.there = Some(There::File(original.to_string())),
                Ok(false) => {}
                Err(e) => return (name.clone(), unknown(e)),
            }
        }
        for s in &originals.stems {
            match &siblings[s.as_str()] {
                Ok(found) => {
                    origin.going.extend(found.going.iter().filter(|n| *n != name).cloned());
                    if let Some(original) = found.there.iter().find(|n| *n != name.as_str()) {
                        origin.there = Some(There::File(original.clone()));
                    }
                }
                Err(e) => return (name.clone(), unknown(e)),
            }
        }
        (name.clone(), Ok(origin))
    });
    Ok(settled.collect())
}

/// Of those `names` that could be derivatives: a file that lies in the storage and of which it could be one.
///
/// # Errors
/// The storage's.
pub(crate) async fn living_originals(
    derivatives: &Derivatives,
    storage: &dyn Storage,
    names: &[FileName],
) -> Result<HashMap<FileName, String>> {
    let found = origins(derivatives, storage, names.iter().map(|n| (n.clone(), Vec::new())), |_| false).await?;
    let mut living = HashMap::new();
    for (name, origin) in found {
        match origin?.there {
            Some(There::File(original)) => drop(living.insert(name, original)),
            Some(There::TooMany) => drop(living.insert(name, "one of too many files to tell".to_owned())),
            None => {}
        }
    }
    Ok(living)
}
