//! MySQL (8.0 and later) and MariaDB (10.6 and later).
//!
//! In: a URL that names a database. The tables of Rowbound lie in that database, its triggers beside the tables that they stand on.
//!
//! What differs from the other databases, and why (each was measured):
//!
//! - Foreign-key actions fire no triggers. So every *ancestor*, a table whose deletes or updates reach a bound column through
//!   `CASCADE` or `SET NULL`, has BEFORE triggers that record the names of the rows which the action is about to take
//!   (see `cascade`). They record too much at worst; the check clears it.
//! - `TRUNCATE`, `DROP`, and table swaps fire nothing at all: [`Database::inspect`] lists them, the sweep covers them.
//! - Every session of ours runs under READ COMMITTED: a claim under REPEATABLE READ that reaches the end of the queue locks the gap behind it and
//!   with that every delete of the application.
//! - No statement in a trigger is `INSERT .. SELECT`: with `innodb_autoinc_lock_mode = 1` (MariaDB's default) it would hold the queue's AUTO-INC
//!   lock until the application's whole statement ends, and every other delete would wait. Cursors and `INSERT .. VALUES` do not.
//! - DDL is not transactional: `install` is a list of steps, each of which leaves the application working.
//!
//! A physical copy of the whole server (a volume snapshot, a replica) keeps the identity, as it does on every database; a dump does not.

mod alone; // one attach or detach at a time
mod assign; // a row is found, its column is set
mod cascade; // foreign keys -> what a delete or update of an ancestor reaches
mod catalog; // information_schema -> tables, columns, keys, triggers, as they are now
mod check; // references and who holds them
mod definer; // the account that triggers run as, and a proof that they can
mod deliver; // followers and what they have yet to hear
mod durable; // the log is on disk
mod fault; // a server's error -> Error
mod forget; // old entries leave the ledger
mod grants; // SHOW GRANTS -> what an account may do
mod inspect; // what a person should know before anything is changed
mod install; // the steps from what stands there to what should, and back
mod queue; // candidates: claim, settle
mod record; // the ledger
mod rows; // what a row holds
mod scan; // a column from one end to the other
mod session; // who answers, and what our sessions are
mod snapshot; // catalog -> what every batch is compared with
mod survey; // text columns and samples
mod triggers; // bindings and ancestors -> trigger bodies
mod upkeep; // who keeps a storage's trash
mod whole; // any text column, from one end to the other
mod values; // rows and lists as literals, for statements whose length varies
mod watch; // open transactions

use std::{collections::HashSet, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::{
    MySqlConnection, MySqlPool,
    mysql::{MySqlConnectOptions, MySqlPoolOptions},
};

use super::{
    Checked, ColumnSearch, Database, Dialect, Forgotten, Hold, Holder, OpenTransaction, Options, Pool, Scan, Shadowed, Values, beaten,
    deepened, heard, over,
    pool::{self, Lead},
    read_record, relied_on, shaded,
    survey::{Sample, TextColumn},
    unchanged, unchanged_or_none,
};
use crate::{
    binding::Column,
    capture::{Bound, Inspection, Installation, Reliance, Snapshot, ValuesSeen},
    crash,
    delivery::{Pending, Receipt, Registered, Turn},
    error::{Error, Kind, Result},
    heartbeat::{Beat, Heard},
    ledger::{Entry, Filter, NewEntry, Timeline, Total, Upkeep},
    name::FileName,
    queue::{Announce, Backlog, Candidate, Claim, Outcome, Settlement, Waiting, Waits},
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
    lead: Option<Lead<sqlx::MySql>>,
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
        let place = |e: Error| e.with("database", &url);
        let (lead, connect) = Lead::of(pool);
        // The pool would try again for as long as it may, and then not say why.
        pool::goodbye(session::open(&session::ours(connect.clone()), options).await.map_err(place)?).await;
        let mut conn = pool::alike(pool, options.connect_timeout).await.map_err(|e| place(fault(e)))?;
        let row = sqlx::query("select database()").fetch_one(&mut conn).await.map_err(|e| place(fault(e)))?;
        let database = maybe_text(&row, 0)?;
        pool::goodbye(conn).await;
        let Some(database) = database.filter(|name| !name.is_empty()) else {
            return Err(place(
                Error::new(Kind::Config, "the application's pool is in no database").hint("name one in what the pool connects with"),
            ));
        };
        Self::with(connect.database(&database), Some(lead), options).await.map_err(place)
    }

    async fn with(connect: MySqlConnectOptions, lead: Option<Lead<sqlx::MySql>>, options: &Options) -> Result<Self> {
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
            lead,
            options: options.clone(),
            flavor,
            database,
            known: catalog::Known::default(),
            watch: tokio::sync::Mutex::default(),
        })
    }

    /// The pool, which connects as the application does now.
    fn pool(&self) -> &MySqlPool {
        if let Some(connect) = self.lead.as_ref().and_then(Lead::changed) {
            self.pool.set_connect_options(session::ours(connect.database(&self.database)));
        }
        &self.pool
    }

    /// A connection that belongs to no pool: whatever state it holds goes with it.
    async fn own_connection(&self) -> Result<MySqlConnection> {
        session::open(&self.pool().connect_options(), &self.options).await
    }

    /// Whether a table of ours stands in our database.
    async fn has_table(&self, table: &str) -> Result<bool> {
        let found = sqlx::query("select 1 from information_schema.tables where table_schema = ? and table_name = ?")
            .bind(&self.database)
            .bind(table)
            .fetch_optional(self.pool())
            .await
            .map_err(fault)?;
        Ok(found.is_some())
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

impl Mysql {
    /// Stores what `change` makes of the record that stands, which is locked meanwhile, and returns it.
    async fn store(&self, change: impl FnOnce(Option<&str>) -> Result<Installation> + Send) -> Result<Installation> {
        let mut tx = self.pool().begin().await.map_err(fault)?;
        let row = sqlx::query("select record from rowbound_installation where id = 1 for update")
            .fetch_optional(&mut *tx)
            .await
            .map_err(fault)?;
        let standing = row.map(|row| text(&row, 0)).transpose()?;
        let record = change(standing.as_deref())?;
        let json = serde_json::to_string(&record)
            .map_err(|e| Error::new(Kind::Database, "the installation's record cannot be written as JSON").because(e))?;
        crash::point("attach-step");
        sqlx::query("insert into rowbound_installation (id, record) values (1, ?) on duplicate key update record = ?")
            .bind(&json)
            .bind(&json)
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
        crash::point("attach-step");
        tx.commit().await.map_err(fault)?;
        Ok(record)
    }
}

/// What stands in an identity before there is one.
const NOT_ATTACHED: &str = "not attached";

#[async_trait]
impl Database for Mysql {
    fn dialect(&self) -> Dialect {
        Dialect::Mysql
    }

    /// The database's name and the moment at which the trigger `rowbound_identity` was made. The server keeps that moment (to 10 ms) with the
    /// trigger, through restarts, upgrades, moved files and failover to a replica; a dump does not carry it, so a restored one says
    /// something else. Neither `@@hostname` (changes with every container) nor a table's creation time (a file time on
    /// MariaDB: `chown` changes it) would do; `@@server_uuid` exists on MySQL only and changes with a failover. Before `install` there is no such
    /// trigger, and the identity says so: ask again after it.
    async fn identity(&self) -> Result<String> {
        let made = sqlx::query(
            "select cast(created as char) from information_schema.triggers \
             where trigger_schema = ? and event_object_schema = ? and event_object_table = 'rowbound_installation' \
               and trigger_name = 'rowbound_identity'",
        )
        .bind(&self.database)
        .bind(&self.database)
        .fetch_optional(self.pool())
        .await
        .map_err(fault)?;
        let made = match made {
            Some(row) => maybe_text(&row, 0)?.unwrap_or_default(),
            None => NOT_ATTACHED.to_owned(),
        };
        Ok(format!("mysql:{}:{made}", self.database))
    }

    /// Nothing tells one server from another for certain: `@@server_uuid` exists on MySQL only.
    async fn has_moved(&self, _: &str) -> Result<bool> {
        Ok(false)
    }

    async fn installation(&self) -> Result<Option<Installation>> {
        if !self.has_table("rowbound_installation").await? {
            return Ok(None);
        }
        let row = sqlx::query("select record from rowbound_installation where id = 1 and record <> ''")
            .fetch_optional(self.pool())
            .await
            .map_err(fault)?;
        let Some(row) = row else { return Ok(None) };
        read_record(&text(&row, 0)?).map(Some)
    }

    async fn inspect(&self, bound: &[Bound]) -> Result<Inspection> {
        inspect::inspect(self, bound).await
    }

    async fn script(&self, bound: &[Bound]) -> Result<Vec<String>> {
        install::script(self, bound).await
    }

    async fn install(&self, bound: &[Bound], record: &Installation) -> Result<Installation> {
        let alone = alone::alone(self).await?;
        install::install(self, bound).await?;
        let record = Installation { snapshot: self.snapshot(bound).await?, ..record.clone() };
        let stored = self.store(|standing| over(standing, &record)).await;
        drop(alone);
        stored
    }

    async fn install_after(&self, before: Option<&Installation>, bound: &[Bound], record: &Installation) -> Result<Installation> {
        let alone = alone::alone(self).await?;
        let standing = self.installation().await?.map(|record| serde_json::to_string(&record).unwrap_or_default());
        unchanged(standing.as_deref(), before)?;
        install::install(self, bound).await?;
        let mut record = Installation { snapshot: self.snapshot(bound).await?, ..record.clone() };
        if record.identity.ends_with(NOT_ATTACHED) {
            // It is known only now; whoever reads the record from here on must not take this database for a copy.
            record.identity = self.identity().await?;
        }
        let stored = self
            .store(|standing| {
                unchanged(standing, before)?;
                over(standing, &record)
            })
            .await;
        drop(alone);
        stored
    }

    async fn record(&self, record: &Installation) -> Result<()> {
        let change = |standing: Option<&str>| {
            unchanged_or_none(standing, record)?;
            over(standing, record)
        };
        self.store(change).await.map(drop)
    }

    async fn set_shadow(&self, bindings: &[i32], since: Option<Timestamp>) -> Result<()> {
        self.store(|standing| shaded(standing, bindings, since)).await.map(drop)
    }

    async fn note_values(&self, seen: &[(i32, ValuesSeen)]) -> Result<()> {
        self.store(|standing| deepened(standing, seen)).await.map(drop)
    }

    async fn shadowed(&self, binding: i32, since: Option<Timestamp>) -> Result<Shadowed> {
        record::shadowed(self, binding, since).await
    }

    async fn remove(&self) -> Result<()> {
        let alone = alone::alone(self).await?;
        let removed = install::remove(self).await;
        drop(alone);
        removed
    }

    async fn remove_script(&self) -> Result<Vec<String>> {
        install::remove_script(self).await
    }

    async fn snapshot(&self, bound: &[Bound]) -> Result<Snapshot> {
        let mut conn = self.pool().acquire().await.map_err(fault)?;
        snapshot::read(&mut conn, self, bound).await
    }

    async fn claim(&self, claim: &Claim) -> Result<Vec<Candidate>> {
        queue::claim(self, claim).await
    }

    async fn confirm(&self, owner: &str, ids: &[i64], lease: Duration) -> Result<HashSet<i64>> {
        queue::confirm(self, owner, ids, lease).await
    }

    async fn next_due(&self, claim: &Claim) -> Result<Option<Duration>> {
        queue::next_due(self, claim).await
    }

    async fn open_transactions(&self) -> Result<Vec<OpenTransaction>> {
        watch::open_transactions(self).await
    }

    async fn check(&self, bound: &[Bound], snapshot: &Snapshot, searches: &[ColumnSearch]) -> Result<Checked> {
        check::check(self, bound, snapshot, searches).await
    }

    async fn flushed(&self) -> Result<()> {
        durable::flushed(self).await
    }

    async fn settle(&self, settlement: &Settlement, hold: Option<Hold>) -> Result<u64> {
        drop(hold);
        queue::settle(self, settlement).await
    }

    async fn announce(&self, items: &[Announce]) -> Result<()> {
        queue::announce(self, items).await
    }

    async fn announce_relying(&self, items: &[Announce], on: &Reliance) -> Result<()> {
        // Once more where it was attached again in between.
        for _ in 0..3 {
            match queue::announce_relying(self, items, on).await {
                Ok(true) => return Ok(()),
                Ok(false) => relied_on(self.installation().await?.as_ref(), on)?,
                // Its tables may be gone.
                Err(e) => {
                    if let Ok(standing) = self.installation().await {
                        relied_on(standing.as_ref(), on)?;
                    }
                    return Err(e);
                }
            }
        }
        Err(Error::new(Kind::Busy, "what is attached changes all the time").retry(crate::error::Retry::Later))
    }

    async fn keep(&self, storage: &str, owner: &str, lease: Duration) -> Result<Option<Upkeep>> {
        upkeep::keep(self, storage, owner, lease).await
    }

    async fn kept(&self, storage: &str, owner: &str, upkeep: &Upkeep, entries: &[NewEntry]) -> Result<bool> {
        upkeep::kept(self, storage, owner, upkeep, entries).await
    }

    async fn upkeep(&self, storage: &str) -> Result<Option<Upkeep>> {
        upkeep::upkeep(self, storage).await
    }

    async fn beat(&self, beat: &Beat) -> Result<()> {
        upkeep::beat(self, &beat.key(), &beaten(beat)?).await
    }

    async fn beats(&self) -> Result<Vec<Heard>> {
        upkeep::beats(self).await?.into_iter().map(heard).collect()
    }

    async fn enter(&self, entries: &[NewEntry]) -> Result<()> {
        record::enter(self, entries).await
    }

    async fn lock_worker(&self) -> Result<Option<Hold>> {
        Ok(None)
    }

    async fn backlog(&self, claim: &Claim) -> Result<Backlog> {
        queue::backlog(self, claim).await
    }

    async fn waits(&self, claim: &Claim) -> Result<Vec<(Option<Waits>, u64)>> {
        queue::waits(self, claim).await
    }

    async fn waiting(&self, values: &[String]) -> Result<Vec<Waiting>> {
        queue::waiting(self, values).await
    }

    async fn history(&self, filter: &Filter) -> Result<Vec<Entry>> {
        record::history(self, filter).await
    }

    async fn came_back(&self, storage: &str, names: &[FileName], since: Timestamp) -> Result<Vec<(String, Timestamp)>> {
        record::came_back(self, storage, names, since).await
    }

    async fn in_places(&self, storage: &str, names: &[FileName], since: Timestamp) -> Result<Vec<(String, Outcome)>> {
        record::in_places(self, storage, names, since).await
    }

    async fn forget_entries(&self, before: Timestamp, after: i64, limit: u32) -> Result<Forgotten> {
        forget::forget_entries(self, before, after, limit).await
    }

    async fn totals(&self, since: Option<Timestamp>) -> Result<Vec<Total>> {
        record::totals(self, since).await
    }

    async fn follow(&self, name: &str, outcomes: &[Outcome]) -> Result<()> {
        deliver::follow(self, name, outcomes).await
    }

    async fn unfollow(&self, name: &str) -> Result<Option<u64>> {
        deliver::unfollow(self, name).await
    }

    async fn followers(&self) -> Result<Vec<Registered>> {
        deliver::followers(self).await
    }

    async fn take_turn(&self, turn: &Turn) -> Result<Vec<Pending>> {
        deliver::take_turn(self, turn).await
    }

    async fn prolong(&self, turn: &Turn, entries: &[i64]) -> Result<()> {
        deliver::prolong(self, turn, entries).await
    }

    async fn acknowledge(&self, receipt: &Receipt) -> Result<u64> {
        deliver::acknowledge(self, receipt).await
    }

    async fn hasten(&self, follower: &str) -> Result<u64> {
        deliver::hasten(self, follower).await
    }

    async fn holders(&self, searches: &[ColumnSearch], limit: u32) -> Result<Vec<Holder>> {
        check::holders(self, searches, limit).await
    }

    async fn text_columns(&self) -> Result<Vec<TextColumn>> {
        survey::text_columns(self).await
    }

    async fn hides_tables(&self) -> Result<Option<String>> {
        survey::hidden(self).await
    }

    async fn sample(&self, column: &TextColumn, limit: usize) -> Result<Sample> {
        survey::sample(self, column, limit).await
    }

    async fn timeline(&self) -> Result<Timeline> {
        Ok(upkeep::timeline(self).await?.of(&self.identity().await?))
    }

    async fn now(&self) -> Result<Timestamp> {
        survey::now(self).await
    }

    async fn has_row(&self, column: &Column, key: &str) -> Result<bool> {
        assign::has_row(self, column, key).await
    }

    async fn assign(&self, column: &Column, key: &str, name: &FileName) -> Result<bool> {
        assign::assign(self, column, key, name).await
    }

    async fn scan(&self, scan: &Scan) -> Result<Values> {
        scan::scan(self, scan).await
    }

    async fn values(&self, column: &TextColumn) -> Result<Values> {
        whole::values(self, column).await
    }

    async fn beside(&self, column: &TextColumn, other: &Column, values: &[String], limit: usize) -> Result<Vec<String>> {
        whole::beside(self, column, other, values, limit).await
    }

    async fn close(&self) {
        self.watch.lock().await.close().await;
        self.pool.close().await;
    }
}
