//! References: which of a set of names some row holds.
//!
//! In: names of one storage. Out: those that a value of a bound column could mean, and the lock (if the database has one)
//! under which that stays true. One statement per column, never one per name.

use std::collections::{HashMap, HashSet};

use crate::{
    binding::Resolved,
    capture::{Bound, Installation},
    database::{ColumnSearch, Database, Hold},
    error::Result,
    name::FileName,
};

/// How a check looks into columns of names and URLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// As deep as each column needs by what was seen of its values last. A spelling that came since is missed: the file is moved, and comes back.
    Surveyed,
    /// At every value that could mean a name. For whatever is not to come back.
    Whole,
}

/// What was found.
#[derive(Debug, Default)]
pub struct References {
    /// The names that some row could mean.
    pub held: HashSet<FileName>,
    /// Of these, the names that no row references as it is read: with the column and the value that could mean it.
    pub otherwise: HashMap<FileName, String>,
    /// The lock under which that stays true.
    pub hold: Option<Hold>,
}

/// The searches for `names` in every column bound to `storage`.
pub fn searches<'a>(
    bound: &[Bound],
    record: Option<&Installation>,
    storage: &str,
    names: impl IntoIterator<Item = &'a FileName> + Clone,
) -> Vec<ColumnSearch> {
    let depth = |b: &Bound| record.map(|record| record.depth(b)).unwrap_or_default();
    let on_storage = bound.iter().filter(|b| b.binding.storage == storage);
    on_storage.map(|b| ColumnSearch::in_column(b, b.binding.search_at(names.clone(), depth(b)))).collect()
}

/// Which of `names` are referenced.
///
/// # Errors
/// Any error of the database; then nothing is known, and nothing may be deleted.
pub async fn find(
    db: &dyn Database,
    bound: &[Bound],
    record: &Installation,
    storage: &str,
    names: &[FileName],
    sight: Sight,
) -> Result<References> {
    find_in(db, bound, bound, record, storage, names, sight).await
}

/// The same in some of the bindings, `within`, only.
///
/// # Errors
/// As [`find`].
pub(crate) async fn find_in(
    db: &dyn Database,
    bound: &[Bound],
    within: &[Bound],
    record: &Installation,
    storage: &str,
    names: &[FileName],
    sight: Sight,
) -> Result<References> {
    let surveyed = (sight == Sight::Surveyed).then_some(record);
    let checked = db.check(bound, &record.snapshot, &searches(within, surveyed, storage, names)).await?;
    let asked: HashSet<&FileName> = names.iter().collect();
    let mut references = References { hold: checked.hold, ..References::default() };
    let mut read = HashSet::new();
    for found in checked.found {
        // The database's equality may be wider than ours (collations, padding): bytes decide.
        let Some(b) = bound.iter().find(|b| b.id == found.binding) else { continue };
        let mut exact = None;
        if let Resolved::Name(name) = b.binding.resolve(&found.value)
            && asked.contains(&name)
        {
            read.insert(name.clone());
            references.held.insert(name.clone());
            exact = Some(name);
        }
        // A scan has told the name, and not the value.
        if !b.binding.scans() {
            b.binding.holds(&found.value, |name| {
                if exact.as_ref() != Some(&name) && asked.contains(&name) {
                    let said = || format!("{} may mean it by {:?}", b.binding.column, String::from_utf8_lossy(&found.value));
                    references.otherwise.entry(name.clone()).or_insert_with(said);
                    references.held.insert(name);
                }
            });
        }
    }
    references.otherwise.retain(|name, _| !read.contains(name));
    Ok(references)
}
