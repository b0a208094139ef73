#![doc = include_str!("../README.md")]
//! # The map
//!
//! Modules stand in the order in which a request travels; each imports only those above it.

mod problem; // what went wrong, as an answer
mod limits; // how much of a request is taken
mod head; // the lines before a part's bytes
mod multipart; // bytes -> parts, without IO
mod incoming; // a request's body, within its limits
mod form; // an upload form, part by part
mod raw; // a body that is a file
mod health; // a worker's health, as an answer

pub use form::{Part, UploadForm};
pub use health::health;
pub use limits::Limits;
pub use problem::{Kind, PROBLEMS, Problem, Result};
pub use raw::RawUpload;
