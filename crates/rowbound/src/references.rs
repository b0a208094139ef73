//! References: which of a set of names some row holds.
//!
//! In: names of one storage. Out: those that a value of a bound column could mean, and the lock (if the database has one)
//! under which that stays true. One statement per column, never one per name.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::{
    binding::{Resolved, Scan, by_alias, may_mention, same_path},
    capture::{Bound, Installation},
    database::{ColumnSearch, Database, LockGuard},
    error::Result,
    name::{FileName, Names},
    storage::{Stat, Storage},
};

/// So many keys are looked at in one request for looks.
const LOOKS: usize = 1_000;

/// How a check looks into columns of names and URLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckDepth {
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
    pub lock: Option<LockGuard>,
    /// Where names are keys: of these, the names that only values hold which are read as other keys of the same path, with those keys.
    keys: HashMap<FileName, BTreeSet<FileName>>,
}

impl References {
    /// The same with what the storage knows. Where names are keys, a value is read as some key, whatever it is. If a file lies under that key, the value references
    /// that file, and holds none that comes to the same path: `/a` and `a` are two objects, each with its rows. If nothing lies there, or that cannot be told, it may mean
    /// the other.
    pub async fn looked_up(mut self, storage: &dyn Storage) -> References {
        if self.keys.is_empty() {
            return self;
        }
        // Writers must not wait for a storage of keys, which is a slow one.
        self.lock = None;
        let asked: BTreeSet<FileName> = self.keys.values().flatten().cloned().collect();
        let asked: Vec<FileName> = asked.into_iter().collect();
        let mut there: HashSet<&FileName> = HashSet::new();
        for some in asked.chunks(LOOKS) {
            let Ok(looks) = storage.stat(some).await else { continue };
            there.extend(some.iter().zip(looks).filter(|(_, look)| matches!(look, Ok(Stat::File(_)))).map(|(key, _)| key));
        }
        for (name, keys) in std::mem::take(&mut self.keys) {
            if keys.iter().all(|key| there.contains(key)) {
                self.held.remove(&name);
                self.otherwise.remove(&name);
            }
        }
        self
    }
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
    depth: CheckDepth,
) -> Result<References> {
    find_in(db, bound, bound, record, storage, names, depth).await
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
    depth: CheckDepth,
) -> Result<References> {
    let surveyed = (depth == CheckDepth::Surveyed).then_some(record);
    let checked = db.check(bound, &record.snapshot, &searches(within, surveyed, storage, names)).await?;
    let asked: HashSet<&FileName> = names.iter().collect();
    let meant = by_alias(names);
    let mut references = References { lock: checked.lock, ..References::default() };
    let mut read = HashSet::new();
    // Names that some value means which is read as no other key.
    let mut sure: HashSet<FileName> = HashSet::new();
    let mut mentions: HashMap<i32, Scan> = HashMap::new();
    for found in checked.found {
        // The database's equality may be wider than ours (collations, padding): bytes decide.
        let Some(b) = bound.iter().find(|b| b.id == found.binding) else { continue };
        let exact = match b.binding.resolve(&found.value) {
            Resolved::Name(name) => Some(name),
            _ => None,
        };
        if let Some(name) = exact.as_ref().filter(|name| asked.contains(*name)) {
            read.insert(name.clone());
            references.held.insert(name.clone());
        }
        let key = exact.as_ref().filter(|_| b.binding.names == Names::Keys);
        // A scan has told the name, and not the value.
        if !b.binding.scans() {
            b.binding.holds(&found.value, |name| {
                let own = asked.get(&name).copied().filter(|name| exact.as_ref() != Some(*name));
                for held in own.into_iter().chain(meant.get(&name).into_iter().flatten().copied()) {
                    let said = || format!("{} may mean it by {:?}", b.binding.column, shortened(&found.value));
                    references.otherwise.entry(held.clone()).or_insert_with(said);
                    references.held.insert(held.clone());
                    match key.filter(|key| same_path(key, held)) {
                        Some(key) => drop(references.keys.entry(held.clone()).or_default().insert(key.clone())),
                        None => drop(sure.insert(held.clone())),
                    }
                }
            });
            if may_mention(&found.value) {
                let mentions = mentions.entry(b.id).or_insert_with(|| Scan::mentioned(&b.binding.reading, names));
                mentions.held(&found.value, |name, _| {
                    let said = || format!("{} mentions it in {:?}", b.binding.column, shortened(&found.value));
                    references.otherwise.entry(name.clone()).or_insert_with(said);
                    references.held.insert(name.clone());
                    sure.insert(name.clone());
                });
            }
        }
    }
    references.otherwise.retain(|name, _| !read.contains(name));
    references.keys.retain(|name, _| !read.contains(name) && !sure.contains(name));
    Ok(references)
}

/// A value as far as a note shows it.
fn shortened(value: &[u8]) -> String {
    String::from_utf8_lossy(value).chars().take(200).collect()
}
