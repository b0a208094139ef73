//! Derivatives in a batch.
//!
//! In: the batch's names. Out, on one side ([`list`]): the derivatives of the originals among them, listed before anything is taken away, which
//! become candidates with the settlement. On the other side ([`origins`]): whose derivative a candidate itself could be, and whether that file lives.
//! Promise: what could not be listed or looked at is an error of the name that it was for, never an absence.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures_util::{StreamExt, stream};

use super::{StorageState, steps::Groups};
use crate::{
    derivative::DerivativeGlob,
    error::{Error, Result},
    name::FileName,
    originals::{self, Origin},
    queue::{Candidate, DERIVATIVE},
    shadow::Shadow,
    storage::{Listed, each},
};

/// Listings under way at a time.
const LISTINGS: usize = 16;

/// From so many originals on whose derivatives lie in one folder, a storage that reads whole folders reads it once for all.
const TOGETHER: usize = 4;

/// The derivatives of one original that lie in the storage now.
#[derive(Debug, Default)]
pub(super) struct FoundDerivatives {
    pub(super) names: BTreeSet<FileName>,
    /// A binding in shadow mode released the original: they are only counted.
    pub(super) shadow: bool,
}

/// Lists the derivatives of those `names` whose binding has any.
pub(super) async fn list(
    state: &StorageState,
    shadow: &Shadow,
    groups: &Groups,
    names: impl Iterator<Item = &FileName>,
) -> BTreeMap<FileName, Result<FoundDerivatives>> {
    let mut wanted: Vec<DerivativeGlob> = Vec::new();
    let mut found: BTreeMap<FileName, Result<FoundDerivatives>> = BTreeMap::new();
    for name in names {
        let before = wanted.len();
        for c in &groups[name] {
            let patterns = match c.binding {
                Some(id) => state.derivatives.get(&id),
                // An upload without a row, or an orphan: nobody knows which column it was for. A derivative has none of its own.
                None => (c.event != DERIVATIVE).then_some(&state.all_derivatives),
            };
            for w in patterns.into_iter().flat_map(|p| p.of(name)) {
                if !wanted[before..].contains(&w) {
                    wanted.push(w);
                }
            }
        }
        if wanted.len() > before {
            let shadow = groups[name].iter().any(|c| shadow.holds(c.binding, &c.event));
            found.insert(name.clone(), Ok(FoundDerivatives { names: BTreeSet::new(), shadow }));
        }
    }

    let mut listings = stream::iter(together(wanted, state.storage.quick()).into_iter().map(|(prefix, wanted)| async move {
        let mut out = Vec::new();
        let done = each(state.storage.as_ref(), &prefix, |entry| {
            // A link or an odd name is nobody's derivative.
            if let Listed::File(name) = entry {
                let beginnings = wanted.lengths.iter().filter_map(|length| name.as_str().get(..*length));
                for w in beginnings.filter_map(|b| wanted.by_prefix.get(b)).flatten() {
                    if w.matches(&name) {
                        out.push((w.original.clone(), name.clone()));
                    }
                }
            }
            true
        })
        .await;
        (prefix, wanted, done.map(|()| out))
    }))
    .buffer_unordered(LISTINGS);
    while let Some((prefix, wanted, done)) = listings.next().await {
        match done {
            Ok(pairs) => {
                for (original, name) in pairs {
                    if let Some(Ok(f)) = found.get_mut(&original) {
                        f.names.insert(name);
                    }
                }
            }
            Err(e) => {
                for w in wanted.by_prefix.into_values().flatten() {
                    let e = Error::new(e.kind(), format!("its derivatives cannot be listed: {}", e.full())).with("prefix", &prefix);
                    found.insert(w.original, Err(e));
                }
            }
        }
    }
    found
}

/// What one listing is for.
#[derive(Debug, Default)]
struct Shared {
    by_prefix: HashMap<String, Vec<DerivativeGlob>>,
    /// The lengths of those prefixes, in bytes.
    lengths: BTreeSet<usize>,
}

/// The listings to make. A folder is read as a whole whatever the prefix, so that many prefixes in one are one listing of what they have in common.
fn together(wanted: Vec<DerivativeGlob>, whole_folders: bool) -> Vec<(String, Shared)> {
    let folder = |prefix: &str| prefix.rfind('/').map_or(0, |slash| slash + 1);
    let mut by_folder: BTreeMap<String, Vec<DerivativeGlob>> = BTreeMap::new();
    for w in wanted {
        let key = if whole_folders { w.prefix[..folder(&w.prefix)].to_owned() } else { w.prefix.clone() };
        by_folder.entry(key).or_default().push(w);
    }
    let mut listings = Vec::new();
    for (_, group) in by_folder {
        let common = group.iter().skip(1).fold(group[0].prefix.as_str(), |a, w| {
            let same = a.bytes().zip(w.prefix.bytes()).take_while(|(a, b)| a == b).count();
            &a[..(0..=same).rev().find(|i| a.is_char_boundary(*i)).unwrap_or(0)]
        });
        // Nothing in common means the whole storage.
        let groups = match group.len() < TOGETHER || common.is_empty() {
            false => vec![(common.to_owned(), group)],
            true => group.into_iter().map(|w| (w.prefix.clone(), vec![w])).collect(),
        };
        for (prefix, group) in groups {
            let mut shared = Shared::default();
            for w in group {
                shared.lengths.insert(w.prefix.len());
                shared.by_prefix.entry(w.prefix.clone()).or_default().push(w);
            }
            listings.push((prefix, shared));
        }
    }
    listings
}

/// Whether a candidate stands for a derivative, or for an orphan, which may be one. What a row released, or was uploaded, is a file of its own.
fn derivable(group: &[Candidate]) -> bool {
    group.iter().all(|c| c.binding.is_none() && !matches!(&*c.event, "stage" | "direct"))
}

/// Looks for the originals of those `names` that may be derivatives.
///
/// # Errors
/// Those of the storage as a whole; what concerns one name stands with it.
pub(super) async fn origins(
    state: &StorageState,
    groups: &Groups,
    names: impl Iterator<Item = &FileName>,
) -> Result<HashMap<FileName, Result<Origin>>> {
    // Also the one that it was listed for, whatever the patterns are now.
    let known = |name: &FileName| groups[name].iter().filter_map(|c| FileName::key(c.key.as_deref()?).ok()).collect();
    let names: Vec<_> = names.filter(|n| derivable(&groups[*n])).map(|n| (n.clone(), known(n))).collect();
    // Two derivatives that go together do not keep each other: see [`Origin::going`].
    let may_go = |name: &FileName| groups.get(name).is_some_and(|g| g.iter().all(|c| c.binding.is_none() && c.event == DERIVATIVE));
    originals::origins(&state.all_derivatives, state.storage.as_ref(), names, may_go).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::derivative::Pattern;

    #[test]
    fn originals_of_one_folder_are_listed_together_where_folders_are_read_whole() {
        let pattern = Pattern::parse("{name}.*").unwrap();
        let wanted = |names: &[&str]| names.iter().map(|n| pattern.of(&FileName::parse(n).unwrap())).collect::<Vec<_>>();
        let prefixes = |names: &[&str], whole| together(wanted(names), whole).into_iter().map(|(p, _)| p).collect::<Vec<_>>();
        let four = ["a/p1.jpg", "a/p2.jpg", "a/pé.jpg", "a/pè.jpg"];
        assert_eq!(prefixes(&four, true), ["a/p"]);
        assert_eq!(prefixes(&four, false).len(), 4);
        assert_eq!(prefixes(&four[2..], true).len(), 2, "not worth it");
        assert_eq!(prefixes(&["1", "2", "3", "4"], true).len(), 4, "never the whole storage");
        let shared = together(wanted(&four), true).remove(0).1;
        assert_eq!((shared.by_prefix.len(), shared.lengths.into_iter().collect::<Vec<_>>()), (4, vec![9, 10]));
    }
}
