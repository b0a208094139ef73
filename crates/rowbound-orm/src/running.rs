//! The storages that the program has started.
//!
//! In: what [`crate::Rowbound`] opens. Out: the [`Media`] of a column, for `Model::IMAGE.save(..)`. Promise: where two could be meant, neither is taken.

use std::sync::{PoisonError, RwLock};

use rowbound_files::{Error, Kind, Media};

static STARTED: RwLock<Vec<(u64, Media)>> = RwLock::new(Vec::new());

/// Makes a media's columns those of `Model::IMAGE.save(..)`; [`ended`] with the same number ends it.
pub(crate) fn started(number: u64, media: Media) {
    STARTED.write().unwrap_or_else(PoisonError::into_inner).push((number, media));
}

pub(crate) fn ended(number: u64) {
    STARTED.write().unwrap_or_else(PoisonError::into_inner).retain(|(known, _)| *known != number);
}

/// The media that has a column.
pub(crate) fn media(column: &str) -> rowbound_files::Result<Media> {
    let started = STARTED.read().unwrap_or_else(PoisonError::into_inner);
    let bound = |media: &Media| media.plan().bindings.iter().any(|b| b.column.to_string() == column);
    let mut having = started.iter().filter(|(_, media)| bound(media));
    match (having.next(), having.next()) {
        (Some((_, media)), None) => Ok(media.clone()),
        (None, _) => Err(Error::new(Kind::Config, "no Rowbound is started that has this column")
            .with("column", column)
            .hint("Rowbound::start(&db) at the program's start, and keep what it returns")),
        (Some(_), Some(_)) => Err(Error::new(Kind::Config, "several Rowbounds are started that have this column")
            .with("column", column)
            .hint("say which: rowbound.files(&Model::..)?.save(..)")),
    }
}
