//! A collector's health: the errors that its loops have now.
//!
//! In: errors of loops, and their ends. Out: the one that a person should see first.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::error::{Error, Kind};

/// An error that a loop has now: its work is tried again. It is gone when the loop succeeds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CurrentError {
    /// Since when.
    pub since: Timestamp,
    /// Its kind.
    pub kind: Kind,
    /// The whole story of the error.
    pub message: String,
    /// What a person does next, if known.
    pub hint: Option<String>,
}

impl CurrentError {
    pub(crate) fn of(e: &Error) -> Self {
        CurrentError { since: Timestamp::now(), kind: e.kind(), message: e.full(), hint: e.hint_text().map(str::to_owned) }
    }

    /// Whether it stays until a person has looked: the database is not as attached, or is another one. Nothing is deleted until then.
    pub fn is_stop(&self) -> bool {
        matches!(self.kind, Kind::Drift | Kind::Identity | Kind::NotAttached | Kind::Schema | Kind::Config)
    }
}

/// The health of one storage in a collector that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CollectorHealth {
    /// What keeps its workers from their work; `None`: nothing.
    #[serde(rename = "trouble")]
    pub error: Option<CurrentError>,
    /// Since when that is so.
    pub since: Timestamp,
    /// When a batch was settled last, by this collector.
    pub last_batch: Option<Timestamp>,
    /// Open transactions that its candidates wait for.
    pub transactions: Vec<String>,
}

/// The loop that has an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// One of the storage's workers.
    Worker(usize),
    /// Who keeps its trash.
    Trash,
    /// Who looks whether everything is as it was attached.
    Verifier,
}

/// The errors of a storage's loops.
#[derive(Debug)]
pub(super) struct CurrentErrors {
    by: BTreeMap<Source, CurrentError>,
    /// Since when there is none, if there is none.
    pub none_since: Timestamp,
}

impl Default for CurrentErrors {
    fn default() -> Self {
        CurrentErrors { by: BTreeMap::new(), none_since: Timestamp::now() }
    }
}

impl CurrentErrors {
    /// The loop has met `e`. An error of the same kind keeps its beginning.
    pub fn set(&mut self, source: Source, e: &Error) {
        let mut new = CurrentError::of(e);
        if let Some(old) = self.by.get(&source).filter(|old| old.kind == new.kind) {
            new.since = old.since;
        }
        self.by.insert(source, new);
    }

    /// The loop works.
    pub fn clear(&mut self, source: Source) {
        if self.by.remove(&source).is_some() && self.by.is_empty() {
            self.none_since = Timestamp::now();
        }
    }

    /// One that only a person can end before others, then the oldest.
    pub fn worst(&self) -> Option<&CurrentError> {
        self.by.values().min_by_key(|t| (!t.is_stop(), t.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Programs show it to their own monitoring.
    #[test]
    fn its_fields_keep_their_names_as_json() {
        let mut errors = CurrentErrors::default();
        errors.set(Source::Worker(0), &Error::new(Kind::StorageUnreachable, "the folder is away"));
        let health =
            CollectorHealth { error: errors.worst().cloned(), since: Timestamp::UNIX_EPOCH, last_batch: None, transactions: Vec::new() };
        let json = serde_json::to_value(health).unwrap();
        assert_eq!(json.as_object().unwrap().keys().collect::<Vec<_>>(), ["last_batch", "since", "transactions", "trouble"]);
    }

    #[test]
    fn what_only_a_person_can_end_is_told_first() {
        let mut errors = CurrentErrors::default();
        assert_eq!(errors.worst(), None);
        errors.set(Source::Worker(0), &Error::new(Kind::StorageUnreachable, "the folder is away"));
        errors.set(Source::Worker(1), &Error::new(Kind::Drift, "a column is gone"));
        let since = errors.worst().unwrap().since;
        assert_eq!(errors.worst().unwrap().kind, Kind::Drift);
        errors.set(Source::Worker(1), &Error::new(Kind::Drift, "two columns are gone"));
        assert_eq!((errors.worst().unwrap().since, errors.worst().unwrap().message.as_str()), (since, "two columns are gone"));
        errors.clear(Source::Worker(1));
        assert_eq!(errors.worst().unwrap().kind, Kind::StorageUnreachable);
        errors.clear(Source::Worker(0));
        assert_eq!(errors.worst(), None);
        assert!(errors.none_since >= since);
        // That of the trash is the storage's too, and no worker that works ends it.
        errors.set(Source::Trash, &Error::new(Kind::Storage, "files stay in the trash"));
        errors.clear(Source::Worker(0));
        assert_eq!(errors.worst().unwrap().kind, Kind::Storage);
        errors.clear(Source::Trash);
        assert_eq!(errors.worst(), None);
    }
}
