//! What keeps a collector from its work.
//!
//! In: the errors of its loops, and that there is none any more. Out: the one that a person should hear of.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::error::{Error, Kind};

/// Why something is not done now. It is tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// Since when.
    pub since: Timestamp,
    /// What kind of trouble it is.
    pub kind: Kind,
    /// The whole story of the error.
    pub message: String,
    /// What a person does next, if known.
    pub hint: Option<String>,
}

impl Trouble {
    pub(crate) fn of(e: &Error) -> Self {
        Trouble { since: Timestamp::now(), kind: e.kind(), message: e.full(), hint: e.hint_text().map(str::to_owned) }
    }

    /// Whether it stays until a person has looked: the database is not as attached, or is another one. Nothing is deleted until then.
    pub fn is_stop(&self) -> bool {
        matches!(self.kind, Kind::Drift | Kind::Identity | Kind::NotAttached | Kind::Schema | Kind::Config)
    }
}

/// How a storage fares in a collector that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Faring {
    /// What keeps its workers from their work; `None`: nothing.
    pub trouble: Option<Trouble>,
    /// Since when that is so.
    pub since: Timestamp,
    /// When a batch was settled last, by this collector.
    pub last_batch: Option<Timestamp>,
    /// Open transactions that its candidates wait for.
    pub transactions: Vec<String>,
}

/// Who has a trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Whose {
    /// One of the storage's workers.
    Worker(usize),
    /// Who keeps its trash.
    Trash,
    /// Who looks whether everything is as it was attached.
    Verifier,
}

/// The troubles of a storage's loops.
#[derive(Debug)]
pub(super) struct Troubles {
    by: BTreeMap<Whose, Trouble>,
    /// Since when there is none, if there is none.
    pub none_since: Timestamp,
}

impl Default for Troubles {
    fn default() -> Self {
        Troubles { by: BTreeMap::new(), none_since: Timestamp::now() }
    }
}

impl Troubles {
    /// Somebody met `e`. A trouble that goes on keeps its beginning.
    pub fn has(&mut self, whose: Whose, e: &Error) {
        let mut new = Trouble::of(e);
        if let Some(old) = self.by.get(&whose).filter(|old| old.kind == new.kind) {
            new.since = old.since;
        }
        self.by.insert(whose, new);
    }

    /// It works.
    pub fn has_none(&mut self, whose: Whose) {
        if self.by.remove(&whose).is_some() && self.by.is_empty() {
            self.none_since = Timestamp::now();
        }
    }

    /// One that only a person can end before others, then the oldest.
    pub fn worst(&self) -> Option<&Trouble> {
        self.by.values().min_by_key(|t| (!t.is_stop(), t.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_a_person_can_end_is_told_first() {
        let mut troubles = Troubles::default();
        assert_eq!(troubles.worst(), None);
        troubles.has(Whose::Worker(0), &Error::new(Kind::StorageUnreachable, "the folder is away"));
        troubles.has(Whose::Worker(1), &Error::new(Kind::Drift, "a column is gone"));
        let since = troubles.worst().unwrap().since;
        assert_eq!(troubles.worst().unwrap().kind, Kind::Drift);
        troubles.has(Whose::Worker(1), &Error::new(Kind::Drift, "two columns are gone"));
        assert_eq!((troubles.worst().unwrap().since, troubles.worst().unwrap().message.as_str()), (since, "two columns are gone"));
        troubles.has_none(Whose::Worker(1));
        assert_eq!(troubles.worst().unwrap().kind, Kind::StorageUnreachable);
        troubles.has_none(Whose::Worker(0));
        assert_eq!(troubles.worst(), None);
        assert!(troubles.none_since >= since);
        // That of the trash is the storage's too, and no worker that works ends it.
        troubles.has(Whose::Trash, &Error::new(Kind::Storage, "files stay in the trash"));
        troubles.has_none(Whose::Worker(0));
        assert_eq!(troubles.worst().unwrap().kind, Kind::Storage);
        troubles.has_none(Whose::Trash);
        assert_eq!(troubles.worst(), None);
    }
}
