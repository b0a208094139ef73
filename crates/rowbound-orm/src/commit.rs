//! After the commit: receivers that hear of files that are gone.
//!
//! In: entries of the ledger, written when a file was collected. Out: calls of who listens, at least once each. Promise: nothing of a transaction that was rolled back is ever
//! heard; what fails is tried again, also by the next process, until it does not.
//!
//! A signal within the transaction is too early for what cannot be taken back: an e-mail, a CDN's cache. Each receiver is a follower of the ledger of its own
//! ([`rowbound::follow`]), so that one that fails keeps no other waiting.

use std::{
    fmt,
    marker::PhantomData,
    ops::Deref,
    sync::{Arc, PoisonError, RwLock},
};

use rowbound::{
    delivery,
    follow::{Delivery, Follower},
    ledger::Entry,
};
use rowbound_files::Media;
use sea_orm::EntityTrait;
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    field::table_name,
    signal::{self, Boxed},
};

/// A file that is gone, because a row of `E` released it: the ledger's entry, which it dereferences to.
pub struct Gone<E> {
    delivery: Delivery,
    entity: PhantomData<fn() -> E>,
}

impl<E> Gone<E> {
    /// The column that referenced it, `[schema.]table.column`.
    pub fn column(&self) -> &str {
        self.delivery.column.as_deref().unwrap_or_default()
    }

    /// The same at each try, and no other's: for receivers that must do a thing once.
    pub fn id(&self) -> String {
        self.delivery.id()
    }

    /// How many times this receiver has failed with it.
    pub fn attempts(&self) -> u32 {
        self.delivery.attempts
    }
}

impl<E> Deref for Gone<E> {
    type Target = Entry;

    fn deref(&self) -> &Entry {
        &self.delivery.entry
    }
}

impl<E> fmt::Debug for Gone<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Gone").field(&self.delivery).finish()
    }
}

/// After the commit, when a file is no longer under its name: into the trash, or erased. Received at least once, and by one process at a time.
#[derive(Debug, Clone, Copy)]
pub struct OnCommit;

type Handler = Arc<dyn Fn(Delivery) -> Boxed<'static> + Send + Sync>;

/// A receiver, the table of its entity, and the name under which the database keeps its pending deliveries.
#[derive(Clone)]
struct Listener {
    name: String,
    table: String,
    handler: Handler,
}

static LISTENERS: RwLock<Vec<Listener>> = RwLock::new(Vec::new());

impl OnCommit {
    /// Connects a receiver of files that rows of `E` released, before [`crate::Rowbound`] is started. The database keeps its pending deliveries under `name`: letters, digits,
    /// `.`, `_` and `-`; one that is connected under the same name is replaced.
    pub fn connect<E: EntityTrait>(name: &str, receiver: impl for<'a> Fn(&'a Gone<E>) -> Boxed<'a> + Send + Sync + 'static) {
        let receiver = Arc::new(receiver);
        let handler: Handler = Arc::new(move |delivery: Delivery| {
            let receiver = receiver.clone();
            Box::pin(async move {
                // The follower receives entries of all tables.
                if delivery.column.as_deref().and_then(table_of) != Some(&*table_name::<E>()) {
                    return Ok(());
                }
                let gone = Gone::<E> { delivery, entity: PhantomData };
                receiver(&gone).await
            })
        });
        let listener = Listener { name: name.to_owned(), table: table_name::<E>(), handler };
        let mut listeners = LISTENERS.write().unwrap_or_else(PoisonError::into_inner);
        match listeners.iter_mut().find(|known| known.name == name) {
            Some(known) => *known = listener,
            None => listeners.push(listener),
        }
    }

    /// Disconnects a receiver; whether there was one. Deliveries that it has not received wait, and `rowbound status` shows it, until a receiver has that name again or
    /// the follower is dropped.
    pub fn disconnect(name: &str) -> bool {
        let mut listeners = LISTENERS.write().unwrap_or_else(PoisonError::into_inner);
        let before = listeners.len();
        listeners.retain(|known| known.name != name);
        listeners.len() < before
    }
}

/// `app::images::purge` -> `app.images.purge`; what `#[receiver(OnCommit)]` calls its follower.
#[doc(hidden)]
pub fn follower_name(path: &str) -> String {
    let name = path.replace("::", ".");
    // The end tells it from others.
    let from = name.char_indices().rev().nth(delivery::NAME - 1).map_or(0, |(at, _)| at);
    name[from..].to_owned()
}

/// `[schema.]table.column` -> `[schema.]table`.
fn table_of(column: &str) -> Option<&str> {
    column.rsplit_once('.').map(|(table, _)| table)
}

/// Starts a follower for every receiver of an entity whose files are of this media: a program may have several, and each database is asked for its own only. They end when `stop`
/// becomes true.
pub(crate) async fn follow(media: &Media, stop: &watch::Receiver<bool>) -> rowbound::Result<Vec<JoinHandle<()>>> {
    signal::started();
    let mut listeners = LISTENERS.read().unwrap_or_else(PoisonError::into_inner).clone();
    listeners.retain(|listener| media.plan().bindings.iter().any(|b| table_of(&b.column.to_string()) == Some(&*listener.table)));
    let mut followers = Vec::with_capacity(listeners.len());
    for Listener { name, handler, .. } in listeners {
        let follower = Follower::new(media.database().clone(), &name)?;
        follower.register().await?;
        followers.push((follower, handler));
    }
    // All are registered before the first receives anything: none is started where one cannot be.
    Ok(followers
        .into_iter()
        .map(|(follower, handler)| {
            let stop = stop.clone();
            tokio::spawn(async move {
                let each = |deliveries: Vec<Delivery>| {
                    let handler = handler.clone();
                    async move {
                        for delivery in deliveries {
                            handler(delivery).await?;
                        }
                        Ok(())
                    }
                };
                follower.run(stop, each).await;
            })
        })
        .collect())
}
