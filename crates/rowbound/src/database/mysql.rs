//! MySQL (8.0 and later) and MariaDB (10.6 and later).
//!
//! In: a URL that names a database. The tables of Rowbound lie in that database, its triggers beside the tables that they stand on.
//!
//! What differs from the other databases, and why (each was measured):
//!
//! - Foreign-key actions fire no triggers. So every *ancestor*, a table whose deletes or updates reach a bound column through
//!   `CASCADE` or `SET NULL`, has BEFORE triggers that record the names of the rows which the action is about to take
//!   (see `cascade`). They record too much at worst; the check clears it.
//! - `TRUNCATE`, `DROP`, and table swaps fire nothing at all: [`Schema::inspect`](super::Schema::inspect) lists them, the sweep covers them.
//! - Every session of ours runs under READ COMMITTED: a claim under REPEATABLE READ that reaches the end of the queue locks the gap behind it and
//!   with that every delete of the application.
//! - No statement in a trigger is `INSERT .. SELECT`: with `innodb_autoinc_lock_mode = 1` (MariaDB's default) it would hold the queue's AUTO-INC
//!   lock until the application's whole statement ends, and every other delete would wait. Cursors and `INSERT .. VALUES` do not.
//! - DDL is not transactional: `install` is a list of steps, each of which leaves the application working.
//!
//! A physical copy of the whole server (a volume snapshot, a replica) keeps the identity, as it does on every database; a dump does not.

mod alone; // one attach or detach at a time
mod cascade; // foreign keys -> what a delete or update of an ancestor reaches
mod catalog; // information_schema -> tables, columns, keys, triggers, as they are now
mod columns; // the role: references and who holds them
mod definer; // the account that triggers run as, and a proof that they can
mod deliver; // deliveries to followers, with each entry
mod durable; // the log is on disk
mod fault; // a server's error -> Error
mod grants; // SHOW GRANTS -> what an account may do
mod inspect; // what a person should know before anything is changed
mod install; // the steps from what stands there to what should, and back
mod ledger; // the role: entries, and who keeps each trash
mod queue; // the role: candidates and deliveries
mod rows; // what a row holds
mod scan; // a column from one end to the other
mod schema; // the role: attach and detach
mod session; // who answers, and what our sessions are
mod settle; // entries in, candidates out
mod snapshot; // catalog -> what every batch is compared with
mod survey; // text columns and samples
mod triggers; // bindings and ancestors -> trigger bodies
mod whole; // any text column, from one end to the other
mod values; // rows and lists as literals, for statements whose length varies
mod watch; // open transactions

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::{
    AssertSqlSafe, MySqlConnection, MySqlPool,
    mysql::{MySqlConnectOptions, MySqlPoolOptions},
};

use super::{
    Database, Dialect, LockGuard, OpenTransaction, Options, Pool, heartbeat_text,
    pool::{self, PoolWatch},
    read_heartbeat,
};
use crate::{
    error::{Error, Kind, Result},
    heartbeat::{Heartbeat, LastHeartbeat},
};
use fault::fault;
use rows::{bytes, handed_over, int, interval, lossy, marks, maybe_text, micros, moment, text};

/// Which of the two it is; they differ in DDL and in how long an `IN` list may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flavor {
    Mysql,
    Mariadb,
}

impl Flavor {
    /// How many literals one `IN` may hold. MariaDB turns 1,000 and more into a subquery that reads the table once for each
    /// (6 s instead of 0.1 s for half a million rows), unless told not to; then one scan for 4,000 costs what one for 900 does. MySQL was
    /// measured with up to 1,000.
    fn in_list(self) -> usize {
        match self {
            Flavor::Mysql => 900,
            Flavor::Mariadb => 4_000,
        }
    }
}

/// A MySQL or MariaDB database.
#[derive(Debug)]
pub struct Mysql {
    pool: MySqlPool,
    /// The application's pool, where there is one.
    pool_watch: Option<PoolWatch<sqlx::MySql>>,
    options: Options,
    flavor: Flavor,
    /// The database of the URL, as the server spells it.
    database: String,
    known: catalog::Known,
    /// Looks at open transactions, one at a time and on a connection of its own: whatever a look that is cut short has open goes with it.
    watch: tokio::sync::Mutex<watch::Watch>,
}

impl Mysql {
    /// Connects, and looks who answers.
    ///
    /// # Errors
    /// [`Kind::Config`] for a URL that does not parse or names no database, [`Kind::DatabaseUnreachable`], [`Kind::Permission`].
    pub async fn open(url: &str, options: &Options) -> Result<Self> {
        let rewritten = url.strip_prefix("mariadb:").map_or_else(|| url.to_owned(), |rest| format!("mysql:{rest}"));
        let shown = super::redact(url);
        let connect: MySqlConnectOptions = rewritten.parse().map_err(|e: sqlx::Error| {
            Error::new(Kind::Config, "`database` does not parse")
                .with("database", &shown)
                .because(e)
                .hint("write mysql://user:password@host:3306/name; percent-encode what is not a letter or digit in the password")
        })?;
        if connect.get_database().is_none_or(str::is_empty) {
            return Err(Error::new(Kind::Config, "`database` names no database on the server")
                .with("database", &shown)
                .hint("write mysql://user:password@host:3306/name"));
        }
        Self::with(connect, None, options).await.map_err(|e| e.with("database", &shown))
    }

    /// Opens the database of an application's pool: see [`super::beside`].
    ///
    /// # Errors
    /// [`Kind::Config`] for a pool that is closed or whose connections are in no database; else as [`Mysql::open`].
    pub async fn beside(pool: &MySqlPool, options: &Options) -> Result<Self> {
        pool::open(pool)?;
        let url = Pool::from(pool).url();
        let in_context = |e: Error| e.with("database", &url);
        let (pool_watch, connect) = PoolWatch::of(pool);
        // The pool would try again for as long as it may, and then not say why.
        pool::goodbye(session::open(&session::ours(connect.clone()), options).await.map_err(in_context)?).await;
        let mut conn = pool::alike(pool, options.connect_timeout).await.map_err(|e| in_context(fault(e)))?;
        let row = sqlx::query("select database()").fetch_one(&mut conn).await.map_err(|e| in_context(fault(e)))?;
        let database = maybe_text(&row, 0)?;
        pool::goodbye(conn).await;
        let Some(database) = database.filter(|name| !name.is_empty()) else {
            return Err(in_context(
                Error::new(Kind::Config, "the application's pool is in no database").hint("name one in what the pool connects with"),
            ));
        };
        Self::with(connect.database(&database), Some(pool_watch), options).await.map_err(in_context)
    }

    async fn with(connect: MySqlConnectOptions, pool_watch: Option<PoolWatch<sqlx::MySql>>, options: &Options) -> Result<Self> {
        let connect = session::ours(connect);
        // A first connection of its own: the pool would try again for as long as it may, and then not say why.
        let session::Server { flavor, database } = session::look(&connect, options).await?;
        let pool = MySqlPoolOptions::new()
            .max_connections(options.connections.max(1))
            .acquire_timeout(options.connect_timeout)
            .after_connect(|conn, _| Box::pin(async move { session::prepare(conn).await }))
            .connect_lazy_with(connect);
        Ok(Mysql {
            pool,
            pool_watch,
            options: options.clone(),
            flavor,
            database,
            known: catalog::Known::default(),
            watch: tokio::sync::Mutex::default(),
        })
    }

    /// The pool, which connects as the application does now.
    fn pool(&self) -> &MySqlPool {
        if let Some(connect) = self.pool_watch.as_ref().and_then(PoolWatch::changed) {
            self.pool.set_connect_options(session::ours(connect.database(&self.database)));
        }
        &self.pool
    }

    /// A connection that belongs to no pool: whatever state it holds goes with it.
    async fn own_connection(&self) -> Result<MySqlConnection> {
        session::open(&self.pool().connect_options(), &self.options).await
    }
}

/// `name` as an identifier.
fn quote(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// `text` as a string literal. Only under a `sql_mode` without NO_BACKSLASH_ESCAPES, which is ours.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[async_trait]
impl Database for Mysql {
    fn dialect(&self) -> Dialect {
        Dialect::Mysql
    }

    async fn now(&self) -> Result<Timestamp> {
        let sql = format!("select {}", micros("utc_timestamp(6)"));
        let row = sqlx::query(AssertSqlSafe(sql)).fetch_one(self.pool()).await.map_err(fault)?;
        moment(&row, 0)?.ok_or_else(|| Error::new(Kind::Database, "the database's clock cannot be read"))
    }

    async fn open_transactions(&self) -> Result<Vec<OpenTransaction>> {
        watch::open_transactions(self).await
    }

    async fn flushed(&self) -> Result<()> {
        durable::flushed(self).await
    }

    async fn lock_worker(&self) -> Result<Option<LockGuard>> {
        Ok(None)
    }

    async fn heartbeat(&self, beat: &Heartbeat) -> Result<()> {
        let (worker, record) = (beat.key(), heartbeat_text(beat)?);
        sqlx::query(
            "insert into rowbound_worker (worker, seen, record) values (?, utc_timestamp(6), ?) \
             on duplicate key update seen = values(seen), record = values(record)",
        )
        .bind(worker)
        .bind(record)
        .execute(self.pool())
        .await
        .map_err(fault)?;
        let old = sqlx::query("delete from rowbound_worker where seen < utc_timestamp(6) - interval 30 day");
        old.execute(self.pool()).await.map(drop).map_err(fault)
    }

    async fn heartbeats(&self) -> Result<Vec<LastHeartbeat>> {
        let sql = "select timestampdiff(second, seen, utc_timestamp(6)), record from rowbound_worker order by seen desc";
        let rows = sqlx::query(sql).fetch_all(self.pool()).await.map_err(fault)?;
        rows.iter().map(|row| read_heartbeat((int(row, 0)?, text(row, 1)?))).collect()
    }

    async fn close(&self) {
        self.watch.lock().await.close().await;
        self.pool.close().await;
    }
}
