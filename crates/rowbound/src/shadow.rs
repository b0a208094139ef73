//! Shadow mode: whose candidates only say what would have gone.
//!
//! In: the installation record, a storage's bindings. Out: whether a candidate is one of theirs. Promise: on any doubt nothing goes.

use std::collections::HashSet;

use crate::{
    binding::Mode,
    capture::{Bound, Installation},
    queue::DERIVATIVE,
};

/// Which bindings of one storage are in shadow mode, as the record says at the batch's beginning.
#[derive(Debug)]
pub(crate) struct Shadow {
    bindings: HashSet<i32>,
    all: bool,
}

impl Shadow {
    /// Of the bindings of a storage.
    pub(crate) fn of<'a>(record: &Installation, bound: impl Iterator<Item = &'a Bound>) -> Self {
        let mut shadow = Shadow { bindings: HashSet::new(), all: true };
        for b in bound {
            match record.mode(b) {
                Mode::Shadow => drop(shadow.bindings.insert(b.id)),
                Mode::Live => shadow.all = false,
            }
        }
        shadow
    }

    /// Whether nothing of the storage may go.
    pub(crate) fn all(&self) -> bool {
        self.all
    }

    /// Whether a candidate only says what would have gone. No column released an orphan or an upload without a row: it may have been that of
    /// any binding, so that one in shadow mode is enough. A derivative goes because its original went, which was live then: it stays only if
    /// nothing of the storage may go.
    pub(crate) fn holds(&self, binding: Option<i32>, event: &str) -> bool {
        match binding {
            Some(id) => self.bindings.contains(&id),
            None if event == DERIVATIVE => self.all,
            None => !self.bindings.is_empty(),
        }
    }
}
