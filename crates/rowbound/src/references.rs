//! References: which of a set of names some row holds.
//!
//! In: names of one storage. Out: those that a bound column names, compared byte for byte, and the lock (if the database has one)
//! under which that stays true. One statement per column, never one per name.

use std::collections::HashSet;

use crate::{
    binding::Resolved,
    capture::{Bound, Snapshot},
    database::{ColumnSearch, Database, Hold},
    error::Result,
    name::FileName,
};

/// The searches for `names` in every column bound to `storage`.
pub fn searches<'a>(bound: &[Bound], storage: &str, names: impl IntoIterator<Item = &'a FileName> + Clone) -> Vec<ColumnSearch> {
    bound.iter().filter(|b| b.binding.storage == storage).map(|b| ColumnSearch::of(b, names.clone())).collect()
}

/// Which of `names` are referenced.
///
/// # Errors
/// Any error of the database; then nothing is known, and nothing may be deleted.
pub async fn find(
    db: &dyn Database,
    bound: &[Bound],
    snapshot: &Snapshot,
    storage: &str,
    names: &[FileName],
) -> Result<(HashSet<FileName>, Option<Hold>)> {
    find_in(db, bound, bound, snapshot, storage, names).await
}

/// The same in some of the bindings, `within`, only.
///
/// # Errors
/// As [`find`].
pub(crate) async fn find_in(
    db: &dyn Database,
    bound: &[Bound],
    within: &[Bound],
    snapshot: &Snapshot,
    storage: &str,
    names: &[FileName],
) -> Result<(HashSet<FileName>, Option<Hold>)> {
    let checked = db.check(bound, snapshot, &searches(within, storage, names)).await?;
    let asked: HashSet<&FileName> = names.iter().collect();
    let mut held = HashSet::new();
    for found in checked.found {
        // The database's equality may be wider than ours (collations, padding): bytes decide.
        let Some(b) = bound.iter().find(|b| b.id == found.binding) else { continue };
        if let Resolved::Name(name) = b.binding.resolve(&found.value)
            && asked.contains(&name)
        {
            held.insert(name);
        }
    }
    Ok((held, checked.hold))
}
