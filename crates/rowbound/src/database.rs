//! A database: where the rows, the candidates and the ledger are.
//!
//! One trait, one module and its SQL per database. In: the plan's bindings. Out: claimed candidates, open transactions,
//! found references, settled batches. Each method's sentences are the contract; `rowbound-testkit` has a suite that every
//! implementation passes.

use std::{collections::HashSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    binding::{Binding, Column, Search},
    capture::{Bound, Inspection, Installation, Reliance, Snapshot, ValuesSeen},
    delivery::{Pending, Receipt, Registered, Turn},
    error::{Error, Kind, Result},
    heartbeat::{Beat, Heard},
    ledger::{Entry, Filter, NewEntry, Timeline, Total, Upkeep},
    name::FileName,
    plan::{Ignored, Plan},
    queue::{Announce, Backlog, Candidate, Claim, Outcome, Settlement, Waiting, Waits},
};
use survey::{Sample, TextColumn};

mod bound; // bindings as tables, columns and queries
mod kin; // which server answers, and which only look like it
pub mod mysql;
mod pages; // a column's values as they come
mod pool; // a pool that the application has already
pub mod postgres;
mod record; // the installation record, as it is stored
pub mod sqlite;
pub mod survey; // text columns, and samples of them
mod words; // what our own rows hold as words or JSON

pub use crate::plan::redact;
pub(crate) use bound::{SWAPPED, as_table, by_table, drifted, is_uuid, no_key, query_items, unusable_query, with_tables};
pub(crate) use pages::Paging;
pub use pages::{Scan, ValuePage, Values};
pub use pool::Pool;
pub(crate) use record::{deepened, over, overtaken, read_record, relied_on, shaded, unchanged, unchanged_or_none};
pub(crate) use words::{YOUNG, beaten, by_waits, heard, knows_outcomes, outcomes, read_outcome, read_upkeep, read_waits, write_upkeep};

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

/// A search in one bound column.
#[derive(Debug, Clone)]
pub struct ColumnSearch {
    /// The binding's number.
    pub binding: i32,
    /// The column.
    pub column: Column,
    /// What to look for.
    pub search: Search,
    /// The SELECT whose one column is searched, instead of a table's column.
    pub query: Option<String>,
}

impl ColumnSearch {
    /// The search for `names` in what `bound` binds.
    pub fn of<'a>(bound: &Bound, names: impl IntoIterator<Item = &'a FileName>) -> Self {
        Self::in_column(bound, bound.binding.search(names))
    }

    /// Any search in what `bound` binds.
    pub fn in_column(bound: &Bound, search: Search) -> Self {
        let Binding { column, query, .. } = &bound.binding;
        ColumnSearch { binding: bound.id, column: column.clone(), search, query: query.clone() }
    }

    /// The same for what `bound` reads only, without what its values merely mention: for who reports references, never for a check.
    pub fn of_read<'a>(bound: &Bound, names: impl IntoIterator<Item = &'a FileName>) -> Self {
        Self::in_column(bound, bound.binding.search_read(names))
    }
}

/// Values found in a bound column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The binding's number.
    pub binding: i32,
    /// The value as it stands in the row. Found by the database's own equality, so it may differ from what was asked for. Found by a
    /// [`Scan`](crate::binding::Scan): the name.
    pub value: Vec<u8>,
}

/// What a check found, and the lock under which it stays true.
#[derive(Debug)]
pub struct Checked {
    /// Every value that matches a search, at least once.
    pub found: Vec<Found>,
    /// `Some` where the database can keep all writers out until the batch is settled (SQLite): pass it to
    /// [`Database::settle`], or drop it to let them in.
    pub hold: Option<Hold>,
}

/// A lock that keeps every writer out, from check to settlement. Dropping it releases it.
pub struct Hold(pub(crate) Box<dyn std::any::Any + Send + Sync>);

impl std::fmt::Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hold")
    }
}

/// A row that names a file, as `explain` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Holder {
    /// The binding's number.
    pub binding: i32,
    /// The row's key, as capture writes it.
    pub key: Option<String>,
    /// The value; where it may hold many names, the name.
    pub value: String,
    /// Whether the value only mentions the name, outside of what its binding reads.
    pub mentioned: bool,
}

/// What would have been deleted by a binding that is in shadow mode.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Shadowed {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When the first of them would have gone.
    pub oldest: Option<Timestamp>,
}

/// What [`Database::forget_entries`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Entries that it removed.
    pub removed: u64,
    /// After which entry to go on; `None`: no later one is old enough.
    pub next: Option<i64>,
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

/// The contract of a database.
#[async_trait]
pub trait Database: Send + Sync + std::fmt::Debug {
    /// Which one it is.
    fn dialect(&self) -> Dialect;

    /// What the database says of itself, so that a copy (a restored dump, a copied file) says something else.
    async fn identity(&self) -> Result<String>;

    /// Whether the database that said `was` of itself is known to be this one, and was moved. `false` where that cannot be told: it may be a copy.
    async fn has_moved(&self, was: &str) -> Result<bool>;

    /// The record that `attach` left, or `None` if nothing is attached.
    async fn installation(&self) -> Result<Option<Installation>>;

    /// Looks at tables and columns without changing anything.
    ///
    /// # Errors
    /// [`Kind::Schema`] names the binding whose table or column does not exist, is of an unusable type, or is no table
    /// whose changes triggers see; [`Kind::Permission`] the right that is missing.
    async fn inspect(&self, bound: &[Bound]) -> Result<Inspection>;

    /// The statements that [`Database::install`] would run now, in order, each without its final semicolon.
    async fn script(&self, bound: &[Bound]) -> Result<Vec<String>>;

    /// Makes the tables if missing, puts capture in place for exactly `bound`, removes what stands there for other bindings, and stores
    /// `record` with the fresh snapshot, which it returns. Idempotent; in one transaction where the database allows;
    /// locks are waited for shortly and tried again. Never changes a row of the application.
    ///
    /// # Errors
    /// [`Kind::Busy`] when the locks were not had in time: nothing changed.
    async fn install(&self, bound: &[Bound], record: &Installation) -> Result<Installation>;

    /// The same, if the record that stands is `before` (`None`: none stands) in its installation and its bindings: compared under the lock under which it is
    /// replaced, so that of two attaches at once the second knows of the first.
    ///
    /// # Errors
    /// As [`Database::install`]; [`Kind::Drift`] when another attach or detach came before: nothing changed.
    async fn install_after(&self, before: Option<&Installation>, bound: &[Bound], record: &Installation) -> Result<Installation>;

    /// Stores `record` without touching capture: over a record of the same installation and the same bindings only, or where none stands. Here and in [`Database::install`] the shadow modes of a record that stands are kept as they
    /// stand: whoever stores a record that he read a moment ago must not end one.
    ///
    /// # Errors
    /// [`Kind::Drift`] when another set of bindings was attached since the record was read.
    async fn record(&self, record: &Installation) -> Result<()>;

    /// Puts bindings into shadow mode since a moment (one that is in it keeps its own), or takes them out of it (`None`), in the record that
    /// stands and in one step.
    ///
    /// # Errors
    /// [`Kind::NotAttached`] when there is no record.
    async fn set_shadow(&self, bindings: &[i32], since: Option<Timestamp>) -> Result<()>;

    /// Adds to the record that stands, in one step, what was seen of the values of bindings, by number: where they are still read that way, and nothing deeper is
    /// known.
    ///
    /// # Errors
    /// [`Kind::NotAttached`] when there is no record.
    async fn note_values(&self, seen: &[(i32, ValuesSeen)]) -> Result<()>;

    /// What the ledger says of a binding in shadow mode since a moment, or ever: each file counts once, with what was seen of it last.
    async fn shadowed(&self, binding: i32, since: Option<Timestamp>) -> Result<Shadowed>;

    /// Removes triggers, functions and tables: the schema is what it was before `attach`. Idempotent.
    async fn remove(&self) -> Result<()>;

    /// The statements that [`Database::remove`] would run now.
    async fn remove_script(&self) -> Result<Vec<String>>;

    /// What stands there now for `bound`. A missing table or column is an item that is missing, not an error.
    /// Cheap enough for every batch and every second.
    async fn snapshot(&self, bound: &[Bound]) -> Result<Snapshot>;

    /// Takes up to `limit` due candidates under a lease, oldest first, in a short transaction of its own. No two claims
    /// hold the same candidate at once. On SQLite nothing is written: one worker at a time is a promise of the caller
    /// (see [`Database::lock_worker`]).
    async fn claim(&self, claim: &Claim) -> Result<Vec<Candidate>>;

    /// Which of the candidates `ids` `owner` still holds, by the database's clock at this moment. Where less than half of `lease` is left of one, the leases of
    /// all that it holds begin anew. On SQLite, where no claim is written, all of them. Nothing is moved without this.
    async fn confirm(&self, owner: &str, ids: &[i64], lease: Duration) -> Result<HashSet<i64>>;

    /// How long until the next candidate of `claim` would be due; `None` if there is none. Costs far less than a claim.
    async fn next_due(&self, claim: &Claim) -> Result<Option<Duration>>;

    /// Every transaction open now (also prepared ones) that could commit a reference. Empty where [`Checked::hold`] does the work. Those of sessions in
    /// [`Options::ignored`] are left out, unless they are prepared; one whose session is not known is never left out.
    async fn open_transactions(&self) -> Result<Vec<OpenTransaction>>;

    /// Looks for references, one statement per column. Whatever was committed before the call began is seen. Compares the
    /// snapshot within the same transaction.
    ///
    /// # Errors
    /// [`Kind::Drift`] when the snapshot is not `snapshot`; a missing table or column is an error too, never "not found".
    async fn check(&self, bound: &[Bound], snapshot: &Snapshot, searches: &[ColumnSearch]) -> Result<Checked>;

    /// Returns when all that was committed before is on disk, as far as the server itself goes: a row that a check saw deleted is not back after a crash. At once
    /// where [`Database::check`] has seen to that.
    ///
    /// # Errors
    /// [`Kind::Busy`] when the server does not write its log for ten seconds.
    async fn flushed(&self) -> Result<()>;

    /// Ledger entries in, candidates out, put-backs updated, derivatives announced, and a delivery for each follower that hears of an entry's outcome: all in
    /// one transaction, under `hold` if there is one. A candidate that `owner` no longer holds is left alone. Returns how many were settled; those that left without
    /// an entry do not count.
    async fn settle(&self, settlement: &Settlement, hold: Option<Hold>) -> Result<u64>;

    /// Writes candidates, in one transaction on a connection of its own, committed and durable when this returns: whatever transaction the application
    /// has open, and whatever becomes of it, they stay.
    ///
    /// # Errors
    /// [`Kind::Busy`] on SQLite when the write lock was not had within 10 s: perhaps the application itself holds it.
    async fn announce(&self, items: &[Announce]) -> Result<()>;

    /// The same, if the installation still is the one that is relied on and has these bindings, which is told in the transaction that writes: no attach
    /// comes in between.
    ///
    /// # Errors
    /// [`Kind::NotAttached`] when it is not: nothing is written. As [`Database::announce`].
    async fn announce_relying(&self, items: &[Announce], on: &Reliance) -> Result<()>;

    /// Takes the right to keep a storage's trash (re-checks, erasures), or prolongs it by `lease`: one process has it at a time. `None`: another one has
    /// it. A `lease` of zero gives it back. On SQLite, where there is one worker, it is had without a write.
    async fn keep(&self, storage: &str, owner: &str, lease: Duration) -> Result<Option<Upkeep>>;

    /// Writes what is known of a storage's trash, and ledger entries as [`Database::enter`] does, in one transaction. `false`: `owner` does not have the right
    /// to keep it any more, and nothing was written.
    async fn kept(&self, storage: &str, owner: &str, upkeep: &Upkeep, entries: &[NewEntry]) -> Result<bool>;

    /// What is known of a storage's trash; `None` if nobody has kept it yet.
    async fn upkeep(&self, storage: &str) -> Result<Option<Upkeep>>;

    /// Gives a sign of life: it takes the place of the last one of its [`Beat::key`]. On SQLite it goes into the lock file, not into the
    /// database; where the file is another user's, nowhere.
    async fn beat(&self, beat: &Beat) -> Result<()>;

    /// The signs of life of those who work here, the latest first, and of those who did within 30 days. On SQLite the last one's.
    async fn beats(&self) -> Result<Vec<Heard>>;

    /// Writes ledger entries that have no candidate, and a delivery for each follower that hears of their outcomes, in one transaction.
    async fn enter(&self, entries: &[NewEntry]) -> Result<()>;

    /// Holds the right to be the only worker, where the database allows only one (SQLite: a file lock); `None` where
    /// several may work.
    ///
    /// # Errors
    /// [`Kind::Busy`] when another process holds it.
    async fn lock_worker(&self) -> Result<Option<Hold>>;

    /// What waits.
    async fn backlog(&self, claim: &Claim) -> Result<Backlog>;

    /// How many candidates wait for which transactions, as they were put back. `None`: those that were not yet, and are due or claimed. Empty where nobody is
    /// waited for.
    async fn waits(&self, claim: &Claim) -> Result<Vec<(Option<Waits>, u64)>>;

    /// Candidates whose value is one of `values`.
    async fn waiting(&self, values: &[String]) -> Result<Vec<Waiting>>;

    /// Ledger entries, the newest first.
    async fn history(&self, filter: &Filter) -> Result<Vec<Entry>>;

    /// Of these files: what happened at their places in the trash since `since`, as the ledger says, the oldest first. Entries without a place, and those of a
    /// candidate that another one stood for ([`Outcome::Duplicate`]), are left out.
    async fn in_places(&self, storage: &str, names: &[FileName], since: Timestamp) -> Result<Vec<(String, Outcome)>>;

    /// Of these files: those that came back from the trash since `since`, as the ledger says, and when that was entered last.
    async fn came_back(&self, storage: &str, names: &[FileName], since: Timestamp) -> Result<Vec<(String, Timestamp)>>;

    /// Removes entries that were written before `before`, of the `limit` that follow the one with the number `after`. One that is still needed stays:
    ///
    /// - with a place in the trash, unless a later one says that the file has left it (purged, erased, restored);
    /// - that says so, while an earlier one of the same place is there;
    /// - that a follower has yet to hear of.
    ///
    /// What it removes is committed when it returns. Several at once do not disturb each other.
    async fn forget_entries(&self, before: Timestamp, after: i64, limit: u32) -> Result<Forgotten>;

    /// Sums over the ledger since `since` (or ever).
    async fn totals(&self, since: Option<Timestamp>) -> Result<Vec<Total>>;

    /// Registers a follower, or gives one that is registered other outcomes; what waits for it stays. It hears of every entry that is written by a
    /// transaction which begins after this has returned. Idempotent, and without a write where nothing changes.
    async fn follow(&self, name: &str, outcomes: &[Outcome]) -> Result<()>;

    /// Forgets a follower and what waits for it, which is how many; `None`: there is none of that name.
    async fn unfollow(&self, name: &str) -> Result<Option<u64>>;

    /// Every follower, by name, and what waits for it.
    async fn followers(&self) -> Result<Vec<Registered>>;

    /// Takes deliveries of a follower that are due, under a lease, the longest due first, in a transaction of its own. No two turns hold the same
    /// delivery at once, nor two of the same storage and name: the earlier entry is delivered before the later one can be taken. Where nothing is due nothing is
    /// written. A follower that is not registered has no deliveries.
    async fn take_turn(&self, turn: &Turn) -> Result<Vec<Pending>>;

    /// Lets the lease of these deliveries, as far as `turn.owner` holds them, begin anew.
    async fn prolong(&self, turn: &Turn, entries: &[i64]) -> Result<()>;

    /// What was delivered goes, what was not is due again later, in one transaction. Returns how many went.
    async fn acknowledge(&self, receipt: &Receipt) -> Result<u64>;

    /// Makes every delivery of a follower due that waits for another try. Returns how many.
    async fn hasten(&self, follower: &str) -> Result<u64>;

    /// Rows whose column matches the search, with their keys, at most `limit` per column.
    async fn holders(&self, searches: &[ColumnSearch], limit: u32) -> Result<Vec<Holder>>;

    /// Every column of the application in whose values names could stand. Changes nothing.
    async fn text_columns(&self) -> Result<Vec<TextColumn>>;

    /// The right without which the database may not even show some tables, so that [`Database::text_columns`] lacks them: as a GRANT names it. `None` where it shows
    /// all.
    async fn hides_tables(&self) -> Result<Option<String>>;

    /// Up to `limit` distinct values of a column, from places all over the table. Cheap on a table of any size: bounded in rows and in time
    /// ([`survey::PATIENCE`]), waits for no lock for long and holds none that keeps an application from working.
    ///
    /// # Errors
    /// When the values cannot be seen: [`Kind::Permission`], [`Kind::Busy`]. Never an empty sample instead.
    async fn sample(&self, column: &TextColumn, limit: usize) -> Result<Sample>;

    /// Which history the database follows, and how far it has come: another id, or a position behind one that was seen before, says that commits may be gone.
    /// A copy, or a dump that was restored into another database, has another id.
    ///
    /// # Errors
    /// [`Kind::Database`] when it cannot be told now; those of a database that is away.
    ///
    /// Two of a row, with a commit between them, are the same history and differ in their positions.
    async fn timeline(&self) -> Result<Timeline>;

    /// The database's clock, by which it says when a name was released.
    async fn now(&self) -> Result<Timestamp>;

    /// Reads a column from one end to the other, without keeping a writer waiting. What is committed meanwhile may be seen or not.
    ///
    /// # Errors
    /// [`Kind::Schema`] when table or column do not exist; later ones come with the pages.
    async fn scan(&self, scan: &Scan) -> Result<Values>;

    /// Reads a column of [`Database::text_columns`] from one end to the other, whatever its type, in no order and without keeping a writer waiting: texts as UTF-8,
    /// JSON and lists as their text, BLOBs as they are. A value that is longer than [`survey::PIECE`] comes in pieces, of which each begins with the last
    /// [`survey::OVERLAP`] bytes of the one before.
    ///
    /// # Errors
    /// When the values cannot be seen or not be read: never fewer values, or less of one, instead. Later ones come with the pages.
    async fn values(&self, column: &TextColumn) -> Result<Values>;

    /// Up to `limit` distinct texts that the column `other` has in those rows of the table in which `column` has one of `values`. Bounded in time as a sample is.
    ///
    /// # Errors
    /// As [`Database::sample`].
    async fn beside(&self, column: &TextColumn, other: &Column, values: &[String], limit: usize) -> Result<Vec<String>>;

    /// Whether there is a row with the primary key `key` (as text) in the column's table.
    ///
    /// # Errors
    /// [`Kind::Schema`] where the table has no primary key of one column; the database's, where `key` can be none.
    async fn has_row(&self, column: &Column, key: &str) -> Result<bool>;

    /// Sets a column of the row whose primary key is `key` (as text) to `name`, in a transaction of its own, as an application would: capture releases
    /// what stood there. `false`: there is no such row.
    ///
    /// # Errors
    /// [`Kind::Schema`] where the table has no primary key of one column; the database's, where it does not take the value.
    async fn assign(&self, column: &Column, key: &str, name: &FileName) -> Result<bool>;

    /// Closes the connections.
    async fn close(&self);
}

/// Opens the database that `url` names, in any spelling that [`canonical`](crate::plan::canonical) knows: `sqlite:path`, `postgres://..`, `mysql://..`,
/// `mariadb://..`, and those of Django, Rails, Laravel and SQLAlchemy.
///
/// # Errors
/// [`Kind::Config`] for another scheme, [`Kind::DatabaseUnreachable`] or [`Kind::Permission`] when it does not let us in.
pub async fn open(url: &str, options: &Options) -> Result<Arc<dyn Database>> {
    let url = &crate::plan::canonical(url)?;
    match url.split_once(':').map_or("", |(scheme, _)| scheme) {
        "sqlite" => Ok(Arc::new(sqlite::Sqlite::open(url, options).await?)),
        "postgres" | "postgresql" => Ok(Arc::new(postgres::Postgres::open(url, options).await?)),
        _ => Ok(Arc::new(mysql::Mysql::open(url, options).await?)),
    }
}

/// Opens the database on which an application has a pool, with connections of our own beside it, made of what the pool connects with (also when
/// `set_connect_options` changes that): at most [`Options::connections`], on MySQL and MariaDB one more, and on PostgreSQL two more while
/// [`Database::assign`] writes rows. The pool's own are not touched, because a
/// session of ours has its own isolation level, search path, time zone and locks.
///
/// What the pool's `after_connect` says about where tables are and whose rights hold is taken over: the role and the `search_path` (PostgreSQL), the
/// database (MySQL, MariaDB).
///
/// # Errors
/// [`Kind::Config`] for a closed pool or an in-memory database, which no second connection can share; else as [`open`].
pub async fn beside(pool: impl Into<Pool>, options: &Options) -> Result<Arc<dyn Database>> {
    match pool.into() {
        Pool::Sqlite(pool) => Ok(Arc::new(sqlite::Sqlite::beside(&pool, options).await?)),
        Pool::Postgres(pool) => Ok(Arc::new(postgres::Postgres::beside(&pool, options).await?)),
        Pool::Mysql(pool) => Ok(Arc::new(mysql::Mysql::beside(&pool, options).await?)),
    }
}
