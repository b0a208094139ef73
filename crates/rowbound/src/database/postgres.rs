//! PostgreSQL 14 and later.
//!
//! In: a URL and the plan's bindings. Out: the contract of [`Database`]. Everything of ours stands in schema `rowbound`; capture
//! writes there as its owner, so the application's roles need no right. A claim is a visibility timeout in the candidate's row,
//! the barrier reads who is open from `pg_locks`, and a check reads every column in one snapshot.

use std::{str::FromStr, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::{
    PgPool, Row,
    postgres::{PgConnectOptions, PgPoolOptions, PgRow},
};

use super::{
    Database, Dialect, LockGuard, OpenTransaction, Options, Pool, Who, heartbeat_text,
    pool::{self, PoolWatch},
    read_heartbeat, redact,
};
use crate::{
    error::{Error, Kind, Result},
    heartbeat::{Heartbeat, LastHeartbeat},
    plan::Ignored,
};
use fault::failed;
use rows::time;
use session::{Line, SessionSettings, Since, Work};

mod columns; // the role: references are found, never overlooked
mod fault; // what a failure means
mod inspect; // what is said before anything changes
mod install; // the transaction of attach and detach
mod ledger; // the role: entries, and who keeps each trash
mod queue; // the role: candidates and deliveries
mod record; // the installation's record
mod rows; // what a row holds
mod scan; // a column from one end to the other
mod schema; // the role: attach and detach
mod session; // who answers, and what our sessions are
mod settle; // entries in, candidates out
mod snapshot; // what every batch is compared with
mod survey; // text columns and samples
mod tables; // what the catalogs say
mod triggers; // what must stand, and the statements that get there
mod whole; // any text column, from one end to the other

/// A PostgreSQL database.
#[derive(Debug)]
pub struct Postgres {
    pool: PgPool,
    /// For rows of the application.
    theirs: PgPool,
    /// The application's pool, where there is one.
    pool_watch: Option<PoolWatch<sqlx::Postgres>>,
    /// Since when what stands is attached, if that was done here.
    attached: Since,
    options: Options,
}

impl Postgres {
    /// Opens it.
    ///
    /// # Errors
    /// [`Kind::Config`] for a URL that does not parse, a database that does not exist or a server that is too old,
    /// [`Kind::DatabaseUnreachable`] when nobody answers within [`Options::connect_timeout`] or the server is a standby,
    /// [`Kind::Permission`] when it does not let us in, [`Kind::Schema`] when it does not store UTF-8.
    pub async fn open(url: &str, options: &Options) -> Result<Self> {
        let in_context = |e: Error| e.with("database", redact(url));
        let connect = PgConnectOptions::from_str(url)
            .map_err(|e| in_context(Error::new(Kind::Config, "`database` is no PostgreSQL URL").because(e)))?;
        let connect = session::ours(connect);
        let line = session::look(&connect, options).await.map_err(in_context)?;
        Ok(Self::with(connect, line, None, None, options))
    }

    /// Opens the database of an application's pool: see [`super::beside`].
    ///
    /// # Errors
    /// [`Kind::Config`] for a pool that is closed; else as [`Postgres::open`].
    pub async fn beside(pool: &PgPool, options: &Options) -> Result<Self> {
        pool::open(pool)?;
        let url = Pool::from(pool).url();
        let in_context = |e: Error| e.with("database", &url);
        let (pool_watch, connect) = PoolWatch::of(pool);
        let connect = session::ours(connect);
        let line = session::look(&connect, options).await.map_err(in_context)?;
        let session_settings = async {
            let mut conn = pool::alike(pool, options.connect_timeout).await?;
            let (role, search_path) =
                sqlx::query_as("select current_setting('role'), current_setting('search_path')").fetch_one(&mut conn).await?;
            pool::goodbye(conn).await;
            Ok(SessionSettings { role, search_path })
        };
        let session_settings =
            session_settings.await.map_err(|e| in_context(failed("cannot connect as the application's pool does", e)))?;
        Ok(Self::with(connect, line, Some(session_settings), Some(pool_watch), options))
    }

    fn with(
        connect: PgConnectOptions,
        line: Line,
        session_settings: Option<SessionSettings>,
        pool_watch: Option<PoolWatch<sqlx::Postgres>>,
        options: &Options,
    ) -> Self {
        let attached = Since::default();
        let since = attached.clone();
        let sessions = |work, at_most| {
            let session_settings = session_settings.clone();
            PgPoolOptions::new()
                .max_connections(at_most)
                .acquire_timeout(options.connect_timeout)
                // A role's settings, its search_path among them, are read when a connection begins.
                .max_lifetime(Duration::from_secs(1800))
                .after_connect(move |conn, _| {
                    let session_settings = session_settings.clone();
                    Box::pin(async move { session::prepare(conn, session_settings.as_ref(), work).await })
                })
        };
        let pool = sessions(Work::Ours(line), options.connections.max(2)).before_acquire(move |_, meta| {
            let holds = since.holds(meta.age);
            Box::pin(async move { Ok(holds) })
        });
        let theirs = sessions(Work::Applications, 2).idle_timeout(Duration::from_secs(10));
        Postgres {
            pool: pool.connect_lazy_with(connect.clone()),
            theirs: theirs.connect_lazy_with(connect),
            pool_watch,
            attached,
            options: options.clone(),
        }
    }

    /// The pool, which connects as the application does now.
    fn pool(&self) -> &PgPool {
        if let Some(connect) = self.pool_watch.as_ref().and_then(PoolWatch::changed) {
            let connect = session::ours(connect);
            self.theirs.set_connect_options(connect.clone());
            self.pool.set_connect_options(connect);
        }
        &self.pool
    }

    /// Sessions that write rows of the application: no barrier may take them for ours.
    fn theirs(&self) -> &PgPool {
        self.pool();
        &self.theirs
    }

    async fn conn(&self) -> Result<sqlx::pool::PoolConnection<sqlx::Postgres>> {
        self.pool().acquire().await.map_err(|e| failed("cannot connect", e))
    }

    async fn begin(&self, how: &'static str) -> Result<sqlx::Transaction<'static, sqlx::Postgres>> {
        self.pool().begin_with(how).await.map_err(|e| failed("cannot begin a transaction", e))
    }
}

#[async_trait]
impl Database for Postgres {
    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    async fn now(&self) -> Result<Timestamp> {
        let mut conn = self.conn().await?;
        let micros: i64 = sqlx::query_scalar("select (extract(epoch from clock_timestamp()) * 1000000)::int8")
            .fetch_one(&mut *conn)
            .await
            .map_err(|e| failed("cannot read the clock", e))?;
        Timestamp::from_microsecond(micros).map_err(|e| Error::new(Kind::Database, "the database's clock is out of range").because(e))
    }

    async fn open_transactions(&self) -> Result<Vec<OpenTransaction>> {
        let ignored = &self.options.ignored;
        let error = |e| failed("cannot see the open transactions", e);
        let rows = sqlx::query(include_str!("postgres/open_transactions.sql"))
            .bind(Ignored::roles(ignored))
            .bind(Ignored::applications(ignored))
            .fetch_all(self.pool())
            .await
            .map_err(error)?;
        let open = |row: &PgRow| -> sqlx::Result<OpenTransaction> {
            Ok(OpenTransaction {
                key: row.try_get("key")?,
                description: row.try_get("description")?,
                since: row.try_get::<Option<i64>, _>("since")?.map(time).transpose()?,
                who: Who {
                    role: row.try_get("role")?,
                    application: row.try_get("application")?,
                    address: row.try_get("address")?,
                    session: row.try_get::<Option<i32>, _>("pid")?.map(i64::from),
                },
            })
        };
        let (mut asking, mut found) = (false, Vec::new());
        for row in &rows {
            match row.try_get("asking").map_err(error)? {
                true => asking = true,
                false => found.push(open(row).map_err(error)?),
            }
        }
        match asking {
            true => Ok(found),
            false => {
                Err(Error::new(Kind::Database, "this server does not show its open transactions: not even the one that asks is among them")
                    .hint("pg_locks must list the sessions of every role, as PostgreSQL's own does"))
            }
        }
    }

    /// A check ends with a commit of its own, which takes everything before it to the disk.
    async fn flushed(&self) -> Result<()> {
        Ok(())
    }

    async fn lock_worker(&self) -> Result<Option<LockGuard>> {
        Ok(None)
    }

    async fn heartbeat(&self, beat: &Heartbeat) -> Result<()> {
        let (pool, worker, record) = (self.pool(), beat.key(), heartbeat_text(beat)?);
        let error = |e| failed("cannot write a heartbeat", e);
        sqlx::query(
            "insert into rowbound.worker (worker, seen, record) values ($1, clock_timestamp(), $2)
         on conflict (worker) do update set seen = excluded.seen, record = excluded.record",
        )
        .bind(worker)
        .bind(record)
        .execute(pool)
        .await
        .map_err(error)?;
        sqlx::query("delete from rowbound.worker where seen < now() - interval '30 days'").execute(pool).await.map(drop).map_err(error)
    }

    async fn heartbeats(&self) -> Result<Vec<LastHeartbeat>> {
        let beats: Vec<(i64, String)> =
            sqlx::query_as("select extract(epoch from clock_timestamp() - seen)::int8, record from rowbound.worker order by seen desc")
                .fetch_all(self.pool())
                .await
                .map_err(|e| failed("cannot read the heartbeats", e))?;
        beats.into_iter().map(read_heartbeat).collect()
    }

    async fn close(&self) {
        self.theirs.close().await;
        self.pool.close().await;
    }
}
