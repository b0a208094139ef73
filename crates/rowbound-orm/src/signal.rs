//! Signals: who listens to what.
//!
//! In: receivers, of `#[receiver]` at the program's start or connected while it runs. Out: calls, in a defined order. Promise: a receiver's error ends the
//! statement, and what it wrote is part of the statement's transaction.
//!
//! The order: by `order`, then by name (module and function; what is connected without a name comes last, in the order of connecting).

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Once, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use sea_orm::{DbErr, EntityTrait};

use crate::{conn::Conn, error::BoxError};

/// What a receiver answers.
pub type Received = Result<(), BoxError>;

/// What a receiver returns, boxed: `Box::pin(async move { .. })`.
pub type Boxed<'a> = Pin<Box<dyn Future<Output = Received> + Send + 'a>>;

/// A signal: when it is sent, and how a receiver of it is called.
pub trait Signal: sealed::Sealed + 'static {
    /// Its name.
    const NAME: &'static str;

    /// A receiver for the rows of `E`.
    type Receiver<E: EntityTrait>: ?Sized + Send + Sync + 'static;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! signal {
    ($(#[$doc:meta])* $name:ident, $receiver:ty) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub struct $name;

        impl sealed::Sealed for $name {}

        impl Signal for $name {
            const NAME: &'static str = stringify!($name);
            type Receiver<E: EntityTrait> = $receiver;
        }
    };
}

signal! {
    /// Before a row is inserted or updated: the receiver may change it. `created` tells an insert.
    PreSave, dyn for<'a> Fn(&'a mut E::ActiveModel, &'a Conn<'a>, bool) -> Boxed<'a> + Send + Sync
}

signal! {
    /// After a row was inserted or updated, as it stands in the database. `created` tells an insert.
    PostSave, dyn for<'a> Fn(&'a E::Model, &'a Conn<'a>, bool) -> Boxed<'a> + Send + Sync
}

signal! {
    /// Before a row is deleted, as it stands in the database; what goes with it is still there.
    PreDelete, dyn for<'a> Fn(&'a E::Model, &'a Conn<'a>) -> Boxed<'a> + Send + Sync
}

signal! {
    /// After a row was deleted, as it stood in the database.
    PostDelete, dyn for<'a> Fn(&'a E::Model, &'a Conn<'a>) -> Boxed<'a> + Send + Sync
}

impl PreSave {
    /// Connects a receiver while the program runs.
    pub fn connect<E: EntityTrait>(
        receiver: impl for<'a> Fn(&'a mut E::ActiveModel, &'a Conn<'a>, bool) -> Boxed<'a> + Send + Sync + 'static,
    ) -> Connection {
        connect_last::<PreSave, E>(Arc::new(receiver))
    }
}

impl PostSave {
    /// Connects a receiver while the program runs.
    pub fn connect<E: EntityTrait>(
        receiver: impl for<'a> Fn(&'a E::Model, &'a Conn<'a>, bool) -> Boxed<'a> + Send + Sync + 'static,
    ) -> Connection {
        connect_last::<PostSave, E>(Arc::new(receiver))
    }
}

impl PreDelete {
    /// Connects a receiver while the program runs.
    ///
    /// ```
    /// # use rowbound_orm::PreDelete;
    /// # mod article { use sea_orm::entity::prelude::*; #[sea_orm::model] #[derive(Clone, Debug, DeriveEntityModel)]
    /// # #[sea_orm(table_name = "article")] pub struct Model { #[sea_orm(primary_key)] pub id: i32 } impl ActiveModelBehavior for ActiveModel {} }
    /// let connection = PreDelete::connect::<article::Entity>(|row, _db| {
    ///     Box::pin(async move {
    ///         println!("article {} goes", row.id);
    ///         Ok(())
    ///     })
    /// });
    /// connection.disconnect();
    /// ```
    pub fn connect<E: EntityTrait>(
        receiver: impl for<'a> Fn(&'a E::Model, &'a Conn<'a>) -> Boxed<'a> + Send + Sync + 'static,
    ) -> Connection {
        connect_last::<PreDelete, E>(Arc::new(receiver))
    }
}

impl PostDelete {
    /// Connects a receiver while the program runs.
    pub fn connect<E: EntityTrait>(
        receiver: impl for<'a> Fn(&'a E::Model, &'a Conn<'a>) -> Boxed<'a> + Send + Sync + 'static,
    ) -> Connection {
        connect_last::<PostDelete, E>(Arc::new(receiver))
    }
}

/// One receiver that is connected.
struct Slot {
    order: i32,
    /// Empty for one that was connected without a name; then its number orders it.
    name: &'static str,
    number: u64,
    /// An `Arc<S::Receiver<E>>`.
    receiver: Box<dyn Any + Send + Sync>,
}

impl Slot {
    fn place(&self) -> (i32, bool, &'static str, u64) {
        (self.order, self.name.is_empty(), self.name, self.number)
    }
}

type Key = (TypeId, TypeId);

static RECEIVERS: RwLock<Option<HashMap<Key, Vec<Slot>>>> = RwLock::new(None);
static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// What `#[receiver]` leaves for the program's start.
#[doc(hidden)]
#[derive(Debug)]
pub struct Receiver {
    pub module: &'static str,
    pub name: &'static str,
    pub connect: fn(),
}

inventory::collect!(Receiver);

/// Connects what `#[receiver]` has left, when signals are first asked for.
pub(crate) fn started() {
    static STARTED: Once = Once::new();
    // `connect_named`, which a receiver's `connect` calls, does not come here again.
    STARTED.call_once(|| {
        for receiver in inventory::iter::<Receiver>() {
            (receiver.connect)();
        }
    });
}

fn reading() -> RwLockReadGuard<'static, Option<HashMap<Key, Vec<Slot>>>> {
    RECEIVERS.read().unwrap_or_else(PoisonError::into_inner)
}

fn writing() -> RwLockWriteGuard<'static, Option<HashMap<Key, Vec<Slot>>>> {
    RECEIVERS.write().unwrap_or_else(PoisonError::into_inner)
}

fn key<S: Signal, E: EntityTrait>() -> Key {
    (TypeId::of::<S>(), TypeId::of::<E>())
}

/// A receiver's connection. Dropping it leaves the receiver connected.
#[derive(Debug)]
pub struct Connection {
    key: Key,
    number: u64,
}

impl Connection {
    /// Disconnects the receiver; whether it was still connected. A signal that is being sent may still reach it.
    pub fn disconnect(self) -> bool {
        remove(self.key, |slot| slot.number == self.number)
    }
}

fn remove(key: Key, which: impl Fn(&Slot) -> bool) -> bool {
    let mut receivers = writing();
    let Some(slots) = receivers.get_or_insert_default().get_mut(&key) else { return false };
    let before = slots.len();
    slots.retain(|slot| !which(slot));
    slots.len() < before
}

fn connect<S: Signal, E: EntityTrait>(order: i32, name: &'static str, receiver: Arc<S::Receiver<E>>) -> Connection {
    let key = key::<S, E>();
    let mut receivers = writing();
    let slots = receivers.get_or_insert_default().entry(key).or_default();
    if let Some(known) = slots.iter().find(|slot| !name.is_empty() && slot.name == name) {
        return Connection { key, number: known.number };
    }
    let number = NUMBERS.fetch_add(1, Relaxed);
    slots.push(Slot { order, name, number, receiver: Box::new(receiver) });
    slots.sort_by_key(Slot::place);
    Connection { key, number }
}

fn connect_last<S: Signal, E: EntityTrait>(receiver: Arc<S::Receiver<E>>) -> Connection {
    started();
    connect::<S, E>(0, "", receiver)
}

/// Connects a receiver under a name; one that is connected already stays as it is. `#[receiver]` calls this.
#[doc(hidden)]
pub fn connect_named<S: Signal, E: EntityTrait>(order: i32, name: &'static str, receiver: Arc<S::Receiver<E>>) -> Connection {
    connect::<S, E>(order, name, receiver)
}

/// Disconnects what [`connect_named`] has connected.
#[doc(hidden)]
pub fn disconnect_named<S: Signal, E: EntityTrait>(name: &'static str) -> bool {
    started();
    remove(key::<S, E>(), |slot| slot.name == name)
}

/// Whether anybody listens to `S` of `E`.
pub fn has_receivers<S: Signal, E: EntityTrait>() -> bool {
    started();
    reading().as_ref().and_then(|receivers| receivers.get(&key::<S, E>())).is_some_and(|slots| !slots.is_empty())
}

/// The receivers of `S` of `E`, in order, with their names.
pub(crate) fn receivers<S: Signal, E: EntityTrait>() -> Vec<(&'static str, Arc<S::Receiver<E>>)> {
    started();
    let receivers = reading();
    let slots = receivers.as_ref().and_then(|receivers| receivers.get(&key::<S, E>()));
    let typed = |slot: &Slot| slot.receiver.downcast_ref::<Arc<S::Receiver<E>>>().map(|receiver| (slot.name, receiver.clone()));
    slots.into_iter().flatten().filter_map(typed).collect()
}

/// A receiver's refusal, as SeaORM hands it on.
fn refused<S: Signal, E: EntityTrait>(name: &str, e: BoxError) -> DbErr {
    let name = if name.is_empty() { "a receiver" } else { name };
    DbErr::Custom(format!("{name} refused {} of {}: {e}", S::NAME, E::default().table_name()))
}

pub(crate) async fn pre_save<E: EntityTrait>(row: &mut E::ActiveModel, db: &Conn<'_>, created: bool) -> Result<(), DbErr>
where
    E::ActiveModel: Send,
{
    for (name, receiver) in receivers::<PreSave, E>() {
        receiver(row, db, created).await.map_err(|e| refused::<PreSave, E>(name, e))?;
    }
    Ok(())
}

pub(crate) async fn post_save<E: EntityTrait>(row: &E::Model, db: &Conn<'_>, created: bool) -> Result<(), DbErr>
where
    E::Model: Sync,
{
    for (name, receiver) in receivers::<PostSave, E>() {
        receiver(row, db, created).await.map_err(|e| refused::<PostSave, E>(name, e))?;
    }
    Ok(())
}

pub(crate) async fn pre_delete<E: EntityTrait>(row: &E::Model, db: &Conn<'_>) -> Result<(), DbErr>
where
    E::Model: Sync,
{
    for (name, receiver) in receivers::<PreDelete, E>() {
        receiver(row, db).await.map_err(|e| refused::<PreDelete, E>(name, e))?;
    }
    Ok(())
}

pub(crate) async fn post_delete<E: EntityTrait>(row: &E::Model, db: &Conn<'_>) -> Result<(), DbErr>
where
    E::Model: Sync,
{
    for (name, receiver) in receivers::<PostDelete, E>() {
        receiver(row, db).await.map_err(|e| refused::<PostDelete, E>(name, e))?;
    }
    Ok(())
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("order", &self.order).field("name", &self.name).finish_non_exhaustive()
    }
}
