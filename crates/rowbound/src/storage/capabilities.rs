//! What a storage was seen to honour of a trash, as its marker says it, read now and then.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{Storage, TrashKind};
use crate::{error::Result, plan::Trash};

/// What a storage was seen to honour of a trash.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TrashSupport {
    /// Files are moved to a trash: none is erased at once.
    pub(crate) moves: bool,
    /// A file may lie in a trash.
    pub(crate) keeps: bool,
    /// A file comes back only where there is none.
    pub(crate) returns: bool,
}

/// The capabilities of one storage, for all who work on it.
#[derive(Debug)]
pub(crate) struct CapabilityCache {
    storage: Arc<dyn Storage>,
    trash: Trash,
    known: Mutex<Option<(Instant, TrashSupport)>>,
}

impl CapabilityCache {
    /// Of `storage`, whose plan says `trash`. Reads nothing yet.
    pub(crate) fn new(storage: Arc<dyn Storage>, trash: Trash) -> Self {
        CapabilityCache { storage, trash, known: Mutex::default() }
    }

    /// The capabilities, as they were no longer than `age` ago.
    ///
    /// # Errors
    /// The storage's, where its marker has to be read.
    pub(crate) async fn get(&self, age: Duration) -> Result<TrashSupport> {
        let known = *self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = known.filter(|(at, _)| at.elapsed() < age) {
            return Ok(known);
        }
        let proved = self.storage.marker().await?.and_then(|marker| marker.proved);
        let known = match proved {
            Some(p) => TrashSupport { moves: p.trash != TrashKind::No, keeps: p.trash != TrashKind::No, returns: p.create },
            // A marker of an earlier version says nothing: the careful answer to each.
            None => TrashSupport { moves: false, keeps: self.storage.quick() || self.trash != Trash::Off, returns: false },
        };
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), known));
        Ok(known)
    }
}
