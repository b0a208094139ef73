//! Capture: what stands in the database for a binding, and whether it still does.
//!
//! In: the bindings of the plan. Out: [`Bound`] bindings with their numbers, the [`Installation`] record that `attach`
//! leaves, and the [`Snapshot`] of tables, columns and triggers that every batch is compared with. The triggers
//! themselves are written by each database's module; this one holds what they have in common.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::binding::{Binding, Depth, Mode};

/// The version of the tables and triggers that this build installs. `attach` upgrades what is older.
pub const VERSION: u32 = 3;

/// The first version whose tables know followers.
pub const FOLLOWERS: u32 = 2;

/// A binding with the number that its triggers write into candidates.
#[derive(Debug, Clone)]
pub struct Bound {
    /// Unique in the installation, never reused.
    pub id: i32,
    /// The binding.
    pub binding: Binding,
}

/// The definitions that capture depends on, item by item: what a table's bound columns are, which triggers stand on it
/// and what they say, which tables cascade into it. Items and texts are the database module's own; equality is all that counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot(pub BTreeMap<String, String>);

/// One difference between two snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Drift {
    /// The item, in words: `column blog_article.image`, `trigger rowbound_delete on blog_article`.
    pub item: String,
    /// What `attach` left; `None` if there was none.
    pub was: Option<String>,
    /// What stands there now; `None` if it is gone.
    pub is: Option<String>,
}

impl std::fmt::Display for Drift {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.was, &self.is) {
            (Some(_), None) => write!(f, "{} is gone", self.item),
            (None, _) => write!(f, "{} is new", self.item),
            (Some(_), Some(_)) => write!(f, "{} was altered", self.item),
        }
    }
}

impl Snapshot {
    /// What differs between `self` (as attached) and `now`.
    pub fn drift(&self, now: &Snapshot) -> Vec<Drift> {
        let items: std::collections::BTreeSet<_> = self.0.keys().chain(now.0.keys()).collect();
        items
            .into_iter()
            .filter(|item| self.0.get(*item) != now.0.get(*item))
            .map(|item| Drift { item: item.clone(), was: self.0.get(item).cloned(), is: now.0.get(item).cloned() })
            .collect()
    }
}

/// A time in which capture may have missed releases; the sweep covers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// From: the last moment at which capture was seen whole.
    pub since: Timestamp,
    /// To: when it was put back; `None` while it is not.
    pub until: Option<Timestamp>,
    /// What was found.
    pub why: String,
}

/// What `attach` leaves in the database beside the triggers: one record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installation {
    /// Random; stands in every storage's marker too.
    pub id: String,
    /// [`VERSION`] of the build that attached last.
    pub version: u32,
    /// What the database said of itself then (see `Schema::identity`).
    pub identity: String,
    /// When it was attached first.
    pub attached_at: Timestamp,
    /// Binding key to number. Keys of bindings that left the plan stay, so that a number is never reused.
    pub bindings: BTreeMap<String, i32>,
    /// Numbers of the bindings that have triggers now.
    pub active: Vec<i32>,
    /// Storage name to the id in its marker.
    pub storages: BTreeMap<String, String>,
    /// As attached.
    pub snapshot: Snapshot,
    /// Times in which capture was not whole, the latest last.
    pub gaps: Vec<Gap>,
    /// Bindings that a person put into shadow mode, whatever the plan says, by number, and since when. Only
    /// `Schema::set_shadow` changes it in a record that stands.
    #[serde(default)]
    pub shadow: BTreeMap<i32, Timestamp>,
    /// What `attach` has yet to do in the storages' markers, by storage: empty, unless it did not come to its end. The next attach does it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unfinished: BTreeMap<String, Unfinished>,
    /// What was seen of the values of bound columns, by number. A column that was not looked through is not in it.
    #[serde(default)]
    pub values: BTreeMap<i32, ValuesSeen>,
    /// The text, JSON and BLOB columns that the last attach has seen with values in them, each as a hash; `None`: an earlier build attached.
    #[serde(default)]
    pub seen: Option<BTreeSet<String>>,
    /// How the values of each active binding are read, and of which rows: its [`Binding::mark`], by number. Empty: an earlier build attached.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub readings: BTreeMap<i32, String>,
}

/// What an `attach` has yet to do in a storage's marker.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfinished {
    /// The storage's id in the marker that it replaces, where it replaces one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
    /// Installations that leave the marker.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leave: Vec<String>,
    /// Whether other installations may stay in it.
    #[serde(default)]
    pub shared: bool,
}

/// What was seen of the values of a bound column.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValuesSeen {
    /// The binding's [`Binding::mark`] then.
    pub reading: String,
    /// How deep a check must look.
    pub depth: Depth,
    /// Values that were looked at.
    pub values: u64,
    /// Whether these were all.
    pub complete: bool,
    /// Values that could mean another name than the one that is read.
    pub spelled: u64,
    /// Values that are read as no name.
    pub unexplained: u64,
    /// A few of these, cut off if they are long.
    pub samples: Vec<String>,
}

impl Installation {
    /// The record of a database that says `identity` of itself and to which nothing is attached yet; `id` is random.
    pub fn new(id: impl Into<String>, identity: impl Into<String>) -> Self {
        Installation {
            id: id.into(),
            version: VERSION,
            identity: identity.into(),
            attached_at: Timestamp::now(),
            bindings: BTreeMap::new(),
            active: Vec::new(),
            storages: BTreeMap::new(),
            snapshot: Snapshot::default(),
            gaps: Vec::new(),
            shadow: BTreeMap::new(),
            unfinished: BTreeMap::new(),
            values: BTreeMap::new(),
            seen: None,
            readings: BTreeMap::new(),
        }
    }

    /// How a binding works: in shadow if the plan or a person says so.
    pub fn mode(&self, bound: &Bound) -> Mode {
        if self.shadow.contains_key(&bound.id) { Mode::Shadow } else { bound.binding.mode }
    }

    /// How deep a check must look into a binding's column. What was seen of its values counts for the reading that it was seen with.
    pub fn depth(&self, bound: &Bound) -> Depth {
        self.values_of(bound).filter(|seen| seen.complete).map(|seen| seen.depth).unwrap_or_default()
    }

    /// What was seen of a binding's values, if they were read as they are now.
    pub(crate) fn values_of(&self, bound: &Bound) -> Option<&ValuesSeen> {
        self.values.get(&bound.id).filter(|seen| seen.reading == bound.binding.mark())
    }

    /// The record without what was seen of values and columns, which changes as rows do.
    pub(crate) fn attached(&self) -> Installation {
        Installation { values: BTreeMap::new(), seen: None, ..self.clone() }
    }

    /// Which column each binding's number stands for, also of bindings that have left the plan.
    pub fn columns(&self) -> BTreeMap<i32, String> {
        // A key is "column -> storage".
        self.bindings.iter().map(|(key, n)| (*n, key.rsplit_once(" -> ").map_or(key.as_str(), |(column, _)| column).to_owned())).collect()
    }
}

/// What an upload relies on: without it nobody would look for the row that is to reference its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reliance {
    /// [`Installation::id`].
    pub installation: String,
    /// Numbers of bindings that must be active.
    pub bindings: Vec<i32>,
}

/// What one event does on a table, as `attach` and the docs list it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Blind {
    /// The table.
    pub table: String,
    /// The event that no trigger sees: `DROP TABLE`, `TRUNCATE`, ...
    pub event: String,
    /// What to do about it.
    pub advice: String,
}

/// What `inspect` found out about the bindings before anything is changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// Events that capture cannot see on these tables: the sweep's.
    pub blind: Vec<Blind>,
    /// What the person should know: no index on a big table, values outside the URL prefix, ...
    pub warnings: Vec<String>,
    /// What was attached and does not work any more: `attach` mends it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub broken: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drift_names_what_is_gone_new_and_altered() {
        let snap = |items: &[(&str, &str)]| Snapshot(items.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect());
        let was = snap(&[("column a.f", "text"), ("trigger t on a", "x"), ("column a.g", "text")]);
        let now = snap(&[("column a.f", "text"), ("trigger t on a", "y"), ("column a.h", "text")]);
        let said: Vec<_> = was.drift(&now).iter().map(Drift::to_string).collect();
        assert_eq!(said, ["column a.g is gone", "column a.h is new", "trigger t on a was altered"]);
        assert!(was.drift(&was).is_empty());
    }
}
