#![doc = include_str!("../README.md")]
//! # The map
//!
//! Modules stand in the order in which a file name travels; each imports only those above it.

pub mod crash; // places at which a test kills the process, or lets it wait
pub mod trace; // what a process did, for the checker of the protocol's model
mod error; // what went wrong, whether trying again helps, what to do next
pub mod clock; // sums of moments and lengths of time that end with the calendar
pub mod owner; // what root makes belongs to whose folder it lies in
mod name; // bytes -> FileName: the only string that can reach a storage
pub mod binding; // a column's value -> names, and how to find them again
pub mod derivative; // an original's name -> its derivatives' names, and back
pub mod queue; // candidates, and what is decided of them
pub mod ledger; // what was decided, when, why, and which row released it
pub mod heartbeat; // who works, and since when nobody does
pub mod delivery; // which ledger entries a follower has not received yet
pub mod plan; // rowbound.toml -> storages, bindings and hooks, checked
pub mod capture; // what stands in the database for a binding, and whether it still does
pub mod database; // claim, barrier, check, settle: SQLite, PostgreSQL, MySQL/MariaDB
pub mod storage; // look, remove, restore, list: folders, S3, services, memory

mod frameworks; // what is known of frameworks: their tables, and who deletes files
pub mod evidence; // which columns seem to reference files, and how that is known
pub mod attach; // a plan -> capture and markers, and back
pub mod references; // which of these names does some row hold?
mod guard; // installation, identity, drift: may this process delete?
mod shadow; // whose candidates only say what would have gone
mod originals; // whose derivative could a file be, and does that one live?
mod delays; // whose open transactions keep candidates waiting
pub mod trash; // where collected files wait, are checked again, come back or go for good
pub mod collect; // the only deleter: the seven steps
pub mod worker; // a collector within an application: started, watched, stopped
pub mod follow; // ledger entries -> their followers
pub mod status; // what waits, fails, was deleted; who holds a name
pub mod sweep; // a whole storage against all references
pub mod doctor; // what is wrong or risky
pub mod init; // a database and its storages -> a proposed rowbound.toml

pub use binding::Binding;
pub use collect::Collector;
pub use error::{Error, Kind, Result, Retry};
pub use name::{FileName, Names, RESERVED, Refused};
pub use plan::{Plan, StoragePlan, Trash, parse_duration};
pub use worker::{Health, Worker};
