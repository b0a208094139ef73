#![doc = include_str!("../README.md")]
//! # The map
//!
//! Modules stand in the order in which an upload travels; each imports only those above it.

mod error; // what went wrong, and whose fault it is
pub mod names; // what a client calls a file -> what it is called here
mod kind; // first bytes -> media type
mod process; // a picture -> another
mod upload; // bytes as they come
mod store; // a storage, as an application uses it
mod value; // what stands in a row
mod spec; // forms in which pictures are wanted
mod field; // what a column's files may be; the binding
mod files; // saved, read, let go
mod direct; // clients that write to S3 themselves
mod variant; // derived pictures
mod media; // opened at the start: database, storages, fields

pub use direct::Ticket;
pub use error::{Error, Kind, Result};
pub use field::{Arrival, Field, MAX_LENGTH, MAX_PICTURE, MAX_SIZE};
pub use files::Files;
pub use kind::media_type;
pub use media::{Builder, CONFIG, Media};
pub use process::{Process, Processed};
pub use rowbound::{
    FileName,
    collect::Settings,
    database::Pool,
    worker::{Health, Worker},
};
pub use spec::Spec;
pub use store::{Fetched, Signed, Storages, Store};
pub use upload::{BoxError, Upload};
#[cfg(feature = "serde")]
pub use value::trusted;
pub use value::{File, ImageFile, Value};
pub use variant::Variant;
