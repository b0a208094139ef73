//! A database: where the rows, the candidates and the ledger are.
//!
//! In: the plan's bindings. Out: claimed candidates, open transactions, found references, settled batches. Four roles, each a trait ([`Queue`], [`Ledger`],
//! [`Columns`], [`Schema`]), and [`Database`], which has all of them; for each SQL a module with a file, and its SQL, for each role. Each method's sentences are the
//! contract; `rowbound-testkit` has a suite that every implementation passes. Each database is a feature of this crate.

// What the databases share is the same in every build. Where one is left out, some of it stands idle.
#![cfg_attr(not(all(feature = "sqlite", feature = "postgres", feature = "mysql")), allow(dead_code, unused_imports))]
#![cfg_attr(not(any(feature = "sqlite", feature = "postgres", feature = "mysql")), allow(unused_variables))]

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    error::{Error, Kind, Result},
    heartbeat::{Heartbeat, LastHeartbeat},
    plan::{Ignored, Plan},
};

mod built; // what a build without a database says of it
mod bound; // bindings as tables, columns and queries
mod columns; // the role: which rows reference a file
mod kin; // which server answers, and which only look like it
mod ledger; // the role: what was decided, and what is known of each trash
#[cfg(feature = "mysql")]
pub mod mysql;
mod pages; // a column's values as they come
mod pool; // a pool that the application has already
#[cfg(feature = "postgres")]
pub mod postgres;
mod queue; // the role: candidates and deliveries
mod record; // the installation record, as it is stored
mod schema; // the role: what attach leaves
#[cfg(feature = "sqlite")]
pub mod sqlite;
pub mod survey; // text columns, and samples of them
mod words; // what our own rows hold as words or JSON

pub use crate::plan::redact;
pub(crate) use bound::{SWAPPED, as_table, by_table, drifted, is_uuid, no_key, query_items, unusable_query, with_tables};
pub use columns::{CheckResult, ColumnSearch, Columns, FoundValue, Holder};
pub use ledger::{Forgotten, Ledger, Shadowed};
pub(crate) use pages::Paging;
pub use pages::{ColumnScan, ValuePage, Values};
pub use pool::Pool;
pub use queue::Queue;
pub(crate) use record::{deepened, gapped, over, overtaken, read_record, relied_on, shaded, unchanged, unchanged_or_none};
pub use schema::Schema;
pub(crate) use words::{
    YOUNG, by_waits, heartbeat_text, knows_outcomes, outcomes, read_heartbeat, read_outcome, read_upkeep, read_waits, write_upkeep,
};

/// Which SQL a database speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// SQLite.
    Sqlite,
    /// PostgreSQL.
    Postgres,
    /// MySQL and MariaDB.
    Mysql,
}

/// A transaction that is open now and could commit a reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenTransaction {
    /// Identifies this transaction among all that ever were on this server.
    pub key: String,
    /// For people: whose it is and since when.
    pub description: String,
    /// Since when it is open, by the database's clock; `None` where the database does not say (PostgreSQL, of others' sessions, without `pg_read_all_stats`).
    pub since: Option<Timestamp>,
    /// Whose it is.
    pub who: Who,
}

/// The session of a transaction, as far as the database says it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Who {
    /// The role (PostgreSQL) or user (MySQL, MariaDB) under which it logged in; of a prepared transaction on PostgreSQL, its owner.
    pub role: Option<String>,
    /// What it calls itself: `application_name` (PostgreSQL).
    pub application: Option<String>,
    /// From where it is connected; `None` for a local one on PostgreSQL.
    pub address: Option<String>,
    /// The server's process (PostgreSQL) or connection (MySQL, MariaDB); `None` for a prepared transaction that has left its connection.
    pub session: Option<i64>,
}

/// A lock that keeps every writer out, from check to settlement. Dropping it releases it.
pub struct LockGuard(pub(crate) Box<dyn std::any::Any + Send + Sync>);

impl std::fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LockGuard")
    }
}

/// What the database module needs to know beside the bindings.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long `attach` waits for one lock before it lets the application pass and tries again.
    pub lock_timeout: Duration,
    /// How long it goes on trying in all.
    pub lock_patience: Duration,
    /// How long a connection attempt may take.
    pub connect_timeout: Duration,
    /// At most so many connections.
    pub connections: u32,
    /// Sessions whose transactions [`Database::open_transactions`] leaves out. Default: none.
    pub ignored: Vec<Ignored>,
}

impl Options {
    /// The defaults, with the sessions that a plan ignores.
    pub fn of(plan: &Plan) -> Self {
        Options { ignored: plan.ignored_sessions.clone(), ..Options::default() }
    }

    /// Insists that the role under which we connect is not ignored: it is the application's own, as a rule, and then nothing would be waited for.
    fn ignores_no_other_than(&self, role: &str) -> Result<()> {
        match Ignored::roles(&self.ignored).contains(&role) {
            false => Ok(()),
            true => Err(Error::new(Kind::Config, "`ignore` holds the role under which Rowbound itself connects")
                .with("in", "barrier")
                .with("ignore", format_args!("{:?}", format!("role:{role}")))
                .hint("where the application uses it too, no barrier would wait for the application; ignore roles that write no references only")),
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Options {
            lock_timeout: Duration::from_millis(200),
            lock_patience: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(10),
            connections: 6,
            ignored: Vec::new(),
        }
    }
}

/// The contract of a database: the four roles, and what belongs to the server itself and to those who work on it.
#[async_trait]
pub trait Database: Queue + Ledger + Columns + Schema + std::fmt::Debug {
    /// Which one it is.
    fn dialect(&self) -> Dialect;

    /// The database's clock, by which it says when a name was released.
    async fn now(&self) -> Result<Timestamp>;

    /// Every transaction open now (also prepared ones) that could commit a reference. Empty where [`CheckResult::lock`] does the work. Those of sessions in
    /// [`Options::ignored`] are left out, unless they are prepared; one whose session is not known is never left out.
    async fn open_transactions(&self) -> Result<Vec<OpenTransaction>>;

    /// Returns when all that was committed before is on disk, as far as the server itself goes: a row that a check saw deleted is not back after a crash. At once
    /// where [`Columns::check`] has seen to that.
    ///
    /// # Errors
    /// [`Kind::Busy`] when the server does not write its log for ten seconds.
    async fn flushed(&self) -> Result<()>;

    /// Holds the right to be the only worker, where the database allows only one (SQLite: a file lock); `None` where
    /// several may work.
    ///
    /// # Errors
    /// [`Kind::Busy`] when another process holds it.
    async fn lock_worker(&self) -> Result<Option<LockGuard>>;

    /// Writes a heartbeat: it takes the place of the last one of its [`Heartbeat::key`]. On SQLite it goes into the lock file, not into the
    /// database; where the file is another user's, nowhere.
    async fn heartbeat(&self, beat: &Heartbeat) -> Result<()>;

    /// The heartbeats of those who work here, the latest first, and of those who did within 30 days. On SQLite the last one's.
    async fn heartbeats(&self) -> Result<Vec<LastHeartbeat>>;

    /// Closes the connections.
    async fn close(&self);
}

/// Opens the database that `url` names, in any spelling that [`canonical`](crate::plan::canonical) knows: `sqlite:path`, `postgres://..`, `mysql://..`,
/// `mariadb://..`, and those of Django, Rails, Laravel and SQLAlchemy.
///
/// # Errors
/// [`Kind::Config`] for another scheme, and for a database whose feature is off, with the feature's name.
/// [`Kind::DatabaseUnreachable`] or [`Kind::Permission`] when it does not let us in.
pub async fn open(url: &str, options: &Options) -> Result<Arc<dyn Database>> {
    let url = &crate::plan::canonical(url)?;
    match url.split_once(':').map_or("", |(scheme, _)| scheme) {
        #[cfg(feature = "sqlite")]
        "sqlite" => Ok(Arc::new(sqlite::Sqlite::open(url, options).await?)),
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => Ok(Arc::new(postgres::Postgres::open(url, options).await?)),
        #[cfg(feature = "mysql")]
        "mysql" | "mariadb" => Ok(Arc::new(mysql::Mysql::open(url, options).await?)),
        scheme => Err(built::missing(scheme, url)),
    }
}

/// Opens the database on which an application has a pool, with connections of our own beside it, made of what the pool connects with (also when
/// `set_connect_options` changes that): at most [`Options::connections`], on MySQL and MariaDB one more, and on PostgreSQL two more while
/// [`Columns::assign`] writes rows. The pool's own are not touched, because a
/// session of ours has its own isolation level, search path, time zone and locks.
///
/// What the pool's `after_connect` says about where tables are and whose rights hold is taken over: the role and the `search_path` (PostgreSQL), the
/// database (MySQL, MariaDB).
///
/// # Errors
/// [`Kind::Config`] for a closed pool or an in-memory database, which no second connection can share; else as [`open`].
pub async fn beside(pool: impl Into<Pool>, options: &Options) -> Result<Arc<dyn Database>> {
    match pool.into() {
        #[cfg(feature = "sqlite")]
        Pool::Sqlite(pool) => Ok(Arc::new(sqlite::Sqlite::beside(&pool, options).await?)),
        #[cfg(feature = "postgres")]
        Pool::Postgres(pool) => Ok(Arc::new(postgres::Postgres::beside(&pool, options).await?)),
        #[cfg(feature = "mysql")]
        Pool::Mysql(pool) => Ok(Arc::new(mysql::Mysql::beside(&pool, options).await?)),
    }
}
