#![doc = include_str!("../README.md")]
//! # The map
//!
//! Modules stand in the order in which a row travels; each imports only those above it.

mod error; // what went wrong, and what helps
mod conn; // a connection, whatever its type
pub mod signal; // who listens to what
pub mod behavior; // what SeaORM calls -> signals
mod running; // the storages that the program has started
mod field; // a column of files, and its declaration
mod entity; // an entity without its type: table, key, relations, signals
mod registry; // what the program's start finds
mod relation; // which rows go with a row
mod delete; // a query's rows and all that goes with them
pub mod commit; // after the commit: receivers of files that are gone
mod start; // the collector within the application

pub use commit::{Gone, OnCommit};
pub use conn::Conn;
pub use delete::{Deleted, QueryDelete, RowDelete};
pub use entity::{Rule, Tracked};
pub use error::{BoxError, Error, Result};
pub use field::{AnyField, FileColumn, FileType, column_of};
pub use rowbound_files::{File, ImageFile, Upload};
pub use rowbound_macros::{Files, Signals, receiver};
pub use signal::{Connection, PostDelete, PostSave, PreDelete, PreSave};
pub use start::{Builder, Rowbound};

/// What the macros write calls. No part of the interface.
#[doc(hidden)]
pub mod __private {
    pub use async_trait::async_trait;
    pub use inventory;
    #[cfg(feature = "image-any")]
    pub use rowbound_image;
    pub use sea_orm;

    pub use crate::{commit::follower_name, registry::Registered, signal::Receiver};

    /// The entity of a receiver's first argument.
    pub trait OfEntity {
        type Entity: sea_orm::EntityTrait;
    }

    impl<E: sea_orm::EntityTrait> OfEntity for crate::Gone<E> {
        type Entity = E;
    }
}
