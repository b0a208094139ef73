//! The test kit of Rowbound: real databases, folders and processes, and the suites that every implementation of a contract
//! passes.
//!
//! Nothing here is a mock. [`server`] finds or starts servers, [`db`] makes a fresh database on one, [`world`] adds a media
//! folder and a plan, [`process`] runs the binary. [`database_suite`] turns every sentence of
//! [`rowbound::database::Database`] into a case; a third party's implementation can run it too.
//!
//! The PostgreSQL, MariaDB and MySQL servers come from `scripts/with-test-servers`; `make test` does it all.

/// docs/storage-guide.md: its example is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/storage-guide.md")]
mod guide {}

pub mod browser; // Chromium without a window
pub mod database_suite; // the contract of a database, sentence by sentence
pub mod db; // a fresh database, and the application's side of it
pub mod faults; // an HTTP service that fails as it is told
mod loopback; // HTTP on a port of one's own
pub mod pooler; // PgBouncer in front of PostgreSQL
pub mod process; // the real binary: run, watched, killed
pub mod receiver; // a web server that webhooks call
pub mod s3; // S3 servers to stop and kill, and a plain client
pub mod places; // the storages of this workspace, as the suite wants them
pub mod server; // servers out of the environment, and servers of one's own to stop and kill
pub mod services; // WebDAV, SFTP and Azure servers
pub mod sessions; // what a session of the engine is
pub mod storage_suite; // the contract of a storage, sentence by sentence
pub mod trace; // what was done, for the checker of the protocol's model
pub mod world; // a database, a media folder, a plan
pub mod writer; // an application that never rests

pub use browser::{Browser, View};
pub use db::{App, Backend, Journal, TestDb};
pub use faults::{Ask, Fault, FaultProxy, Rule};
pub use loopback::request;
pub use pooler::{PoolMode, Pooler};
pub use process::{Output, Place, Rowbound, Running};
pub use receiver::{Received, Receiver};
pub use s3::{S3Bucket, S3Kind, S3Server};
pub use server::{OwnServer, Server};
pub use trace::{Teller, Trace};
pub use world::{World, wait_until};
pub use writer::{Writer, Written};
