//! SQLite: triggers and candidates in the application's own file, one collector at a time.
//!
//! SQLite has one writer, so the barrier is its write lock: a check that ends inside `BEGIN IMMEDIATE` sees every
//! reference there is, and none can come until the batch is settled in that same transaction. The lock is taken as late and
//! kept as short as can be, because an application that begins its transactions as deferred (Django's default) fails with
//! "database is locked", without waiting, whenever somebody writes between its read and its write.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Mutex,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures_util::TryStreamExt;
use jiff::Timestamp;
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Row, Sqlite as Driver,
    pool::PoolConnection,
    sqlite::{SqliteConnectOptions, SqliteConnection, SqlitePool, SqlitePoolOptions},
};

use super::{Checked, ColumnSearch, Database, Dialect, Found, Hold, Holder, OpenTransaction, Options, by_table};
use crate::{
    capture::{Blind, Bound, Inspection, Installation, Snapshot},
    error::{Error, Kind, Result, Retry},
    ledger::{Entry, Filter, NewEntry, Total},
    queue::{Announce, Backlog, Candidate, Claim, Settlement, Waiting},
};

mod triggers;
use triggers::{ident, wanted};

const TABLES: &str = include_str!("sqlite/tables.sql");

/// A SQLite database file.
#[derive(Debug)]
pub struct Sqlite {
    path: PathBuf,
    options: Options,
    open: Mutex<Open>,
}

/// The pool, and which file it has open: a file that is replaced under our feet must not be read on, because its rows are no longer
/// the application's.
#[derive(Debug, Clone)]
struct Open {
    pool: SqlitePool,
    file: (u64, u64),
    /// The last snapshot, which holds as long as `PRAGMA schema_version` says so.
    seen: Option<(i64, String, Snapshot)>,
}

/// A table as the triggers need it.
#[derive(Debug, Clone, Default)]
struct Table {
    /// As the schema spells it.
    name: String,
    columns: Vec<TableColumn>,
    /// The primary key's columns, in order; empty if there is none.
    key: Vec<String>,
    /// A name for the rowid, if the table has one and a column does not hide it.
    rowid: Option<String>,
    /// Every key whose conflict REPLACE resolves by deleting: columns and their collations.
    unique: Vec<Vec<(String, String)>>,
    /// Unique indexes on expressions, which the triggers cannot follow.
    unique_expressions: Vec<String>,
}

#[derive(Debug, Clone)]
struct TableColumn {
    name: String,
    declared: String,
    generated: bool,
}

impl Table {
    fn column(&self, name: &str) -> Option<&TableColumn> {
        self.columns.iter().find(|c| c.name.eq_ignore_ascii_case(name))
    }
}

/// The write lock: an open `BEGIN IMMEDIATE`. Dropped without a commit, its connection is closed, which rolls back.
struct WriteLock(Option<PoolConnection<Driver>>);

impl Drop for WriteLock {
    fn drop(&mut self) {
        if let Some(connection) = &mut self.0 {
            connection.close_on_drop();
        }
    }
}

impl WriteLock {
    async fn take(mut connection: PoolConnection<Driver>) -> Result<Self> {
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await.map_err(failed("begin"))?;
        Ok(WriteLock(Some(connection)))
    }

    fn connection(&mut self) -> &mut SqliteConnection {
        self.0.as_mut().expect("the lock has its connection until it ends")
    }

    async fn end(mut self, how: &'static str) -> Result<PoolConnection<Driver>> {
        sqlx::query(how).execute(self.connection()).await.map_err(failed("commit"))?;
        Ok(self.0.take().expect("the lock has its connection until it ends"))
    }
}

/// Maps an error of sqlx; `step` says what was being done.
fn failed(step: &'static str) -> impl Fn(sqlx::Error) -> Error {
    move |e| {
        let error = match &e {
            sqlx::Error::Database(db) => {
                let code: i64 = db.code().and_then(|c| c.parse().ok()).unwrap_or(0);
                let message = db.message().to_owned();
                match code & 0xff {
                    5 | 6 => Error::new(Kind::Busy, "the SQLite database is locked by another writer")
                        .hint("try again; if it goes on, some process holds a write transaction open"),
                    8 => Error::new(Kind::Permission, "the SQLite database cannot be written")
                        .hint("the user that runs rowbound needs write access to the file and to its folder"),
                    10 | 14 => Error::new(Kind::DatabaseUnreachable, "the SQLite database cannot be read or opened")
                        .hint("is its file system mounted, and may the user that runs rowbound read and write the file and its folder?"),
                    13 => Error::new(Kind::Database, "the disk of the SQLite database is full").retry(Retry::Later),
                    26 => Error::new(Kind::Config, "the file is no SQLite database")
                        .hint("name the application's database file in `database`"),
                    1 if message.starts_with("no such table: rowbound_") || message.starts_with("no such table: main.rowbound_") => {
                        Error::new(Kind::NotAttached, "Rowbound is not attached to this database").hint("rowbound attach")
                    }
                    1 if message.contains("no such column") || message.contains("no such table") => {
                        Error::new(Kind::Schema, message.clone())
                    }
                    _ => Error::new(Kind::Database, message.clone()),
                }
            }
            sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
                Error::new(Kind::DatabaseUnreachable, "the SQLite database cannot be reached")
            }
            _ => Error::new(Kind::Database, "a SQLite statement failed"),
        };
        error.with("step", step).because(e)
    }
}

fn time(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MIN)
}

fn opt_time(ms: Option<i64>) -> Option<Timestamp> {
    ms.map(time)
}

fn millis(d: Duration) -> i64 {
    i64::try_from(d.as_millis()).unwrap_or(i64::MAX / 4)
}

/// Now, by the clock that fills `released_at`.
const NOW: &str = "CAST((julianday('now') - 2440587.5) * 86400000.0 AS INTEGER)";

impl Sqlite {
    /// Opens the file that `sqlite:path` names. It must exist.
    ///
    /// # Errors
    /// [`Kind::Config`] for a URL without a path or an in-memory database; [`Kind::DatabaseUnreachable`] when there is no such file.
    pub async fn open(url: &str, options: &Options) -> Result<Self> {
        let bad = |why: &str| Error::new(Kind::Config, why.to_owned()).with("database", url).hint("write sqlite:path/to/db.sqlite3");
        let rest = url.strip_prefix("sqlite:").ok_or_else(|| bad("this is no SQLite URL"))?;
        let path = rest.strip_prefix("//").unwrap_or(rest);
        let path = path.split('?').next().unwrap_or(path);
        if path.is_empty() {
            return Err(bad("`database` names no file"));
        }
        if path.starts_with(':') {
            return Err(bad("an in-memory database cannot be shared with an application"));
        }
        let path = Path::new(path);
        let path = std::fs::canonicalize(path).map_err(|e| {
            Error::new(Kind::DatabaseUnreachable, "there is no such SQLite file")
                .with("database", path.display())
                .because(e)
                .hint("a relative path in rowbound.toml is taken from the file's own folder; in DATABASE_URL from the current one")
        })?;
        let this = Self::connect(&path, options).await?;
        Ok(Sqlite { path, options: options.clone(), open: Mutex::new(this) })
    }

    async fn connect(path: &Path, options: &Options) -> Result<Open> {
        let file = inode(path)?;
        let connect =
            SqliteConnectOptions::new().filename(path).create_if_missing(false).foreign_keys(false).busy_timeout(Duration::from_secs(5));
        // Rows come over from the connection's own thread; with the default of 50 it stops and is woken 80 times for one claim.
        // And nothing is written into the log by the library: it would write the statement, with everything in it.
        let connect = connect.row_buffer_size(1000).disable_statement_logging();
        let pool = SqlitePoolOptions::new()
            .max_connections(options.connections.max(2))
            .acquire_timeout(options.connect_timeout)
            .connect_with(connect)
            .await
            .map_err(|e| failed("open")(e).with("database", path.display()))?;
        // The first read tells a database from another file.
        sqlx::query("SELECT count(*) FROM sqlite_schema")
            .execute(&pool)
            .await
            .map_err(|e| failed("open")(e).with("database", path.display()))?;
        // In UTF-16 every name would come out as other bytes than those of the file, and no reference would be found.
        let encoding: String = sqlx::query_scalar("PRAGMA encoding").fetch_one(&pool).await.map_err(failed("open"))?;
        if encoding != "UTF-8" {
            return Err(Error::new(Kind::Config, "this SQLite database stores text in another encoding than UTF-8")
                .with("database", path.display())
                .with("encoding", encoding)
                .hint("copy it into a new file: `sqlite3 old.sqlite3 .dump | sqlite3 new.sqlite3`"));
        }
        if inode(path)? != file {
            return Err(
                Error::new(Kind::DatabaseUnreachable, "the SQLite file was replaced while it was opened").with("database", path.display())
            );
        }
        Ok(Open { pool, file, seen: None })
    }

    /// The pool on the file that has the path now.
    async fn pool(&self) -> Result<SqlitePool> {
        let now = inode(&self.path)?;
        {
            let open = self.open.lock().unwrap_or_else(|e| e.into_inner());
            if open.file == now && !open.pool.is_closed() {
                return Ok(open.pool.clone());
            }
        }
        let fresh = Self::connect(&self.path, &self.options).await?;
        let pool = fresh.pool.clone();
        let old = std::mem::replace(&mut *self.open.lock().unwrap_or_else(|e| e.into_inner()), fresh);
        old.pool.close().await;
        Ok(pool)
    }

    async fn acquire(&self) -> Result<PoolConnection<Driver>> {
        self.pool().await?.acquire().await.map_err(failed("connect"))
    }

    /// The write lock, had by asking again and again with short waits until `lock_patience`.
    async fn write_lock(&self) -> Result<WriteLock> {
        let deadline = Instant::now() + self.options.lock_patience;
        let mut pause = Duration::from_millis(10);
        loop {
            match WriteLock::take(self.acquire().await?).await {
                Err(e) if e.kind() == Kind::Busy && Instant::now() < deadline => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
                other => return other,
            }
        }
    }

    /// What differs between what stands and what should: statements to run, in order.
    async fn changes(&self, connection: &mut SqliteConnection, bound: &[Bound]) -> Result<Vec<String>> {
        let mut statements: Vec<String> = TABLES.split("\n\n").filter_map(statement).collect();
        let mut standing = standing_triggers(connection).await?;
        let mut create = Vec::new();
        for ((_, name), columns) in by_table(bound) {
            let table = table(connection, &name).await?.ok_or_else(|| missing_table(columns[0]))?;
            // SQLite would take a trigger on a column that does not exist, and fail the application's next write.
            columns.iter().try_for_each(|b| has_column(&table, b))?;
            for (trigger, sql) in wanted(&table, &columns) {
                match standing.remove(&trigger) {
                    Some((_, is)) if is == sql => {}
                    Some(_) => create.extend([format!("DROP TRIGGER {}", ident(&trigger)), sql]),
                    None => create.push(sql),
                }
            }
        }
        statements.extend(standing.keys().map(|left| format!("DROP TRIGGER {}", ident(left))));
        statements.extend(create);
        Ok(statements)
    }

    async fn snapshot_on(&self, connection: &mut SqliteConnection, bound: &[Bound]) -> Result<Snapshot> {
        let version: i64 = sqlx::query_scalar("PRAGMA schema_version").fetch_one(&mut *connection).await.map_err(failed("snapshot"))?;
        let asked: String = bound.iter().map(|b| format!("{}={}\n", b.id, b.binding.key())).collect();
        if let Some((v, a, snapshot)) = &self.open.lock().unwrap_or_else(|e| e.into_inner()).seen
            && (*v, a) == (version, &asked)
        {
            return Ok(snapshot.clone());
        }
        let mut items = BTreeMap::new();
        for ((_, name), columns) in by_table(bound) {
            let Some(table) = table(connection, &name).await? else { continue };
            items.insert(format!("table {name}"), format!("{:?}", table.name));
            items.insert(format!("keys of {name}"), format!("{:?} {:?} {:?}", table.key, table.rowid, table.unique));
            for b in columns {
                if let Some(c) = table.column(&b.binding.column.column) {
                    // Without its length, which SQLite ignores: a migration that makes room for longer names is no reason to stop.
                    let declared = c.declared.split('(').next().unwrap_or_default().trim_end().to_ascii_lowercase();
                    items.insert(format!("column {}", b.binding.column), format!("{declared} {}", c.generated));
                }
            }
        }
        for (name, (table, sql)) in standing_triggers(connection).await? {
            items.insert(format!("trigger {name} on {table}"), sql);
        }
        let snapshot = Snapshot(items);
        self.open.lock().unwrap_or_else(|e| e.into_inner()).seen = Some((version, asked, snapshot.clone()));
        Ok(snapshot)
    }

    async fn find(&self, connection: &mut SqliteConnection, searches: &[ColumnSearch]) -> Result<Vec<Found>> {
        let mut found = Vec::new();
        for s in searches {
            let (t, f) = (ident(&s.column.table), ident(&s.column.column));
            let place = |e: sqlx::Error| failed("check")(e).with("binding", &s.column);
            if !s.search.values.is_empty() {
                // Qualified, because SQLite silently reads an unqualified "missing_column" as a string. As text and as blob, because
                // the two are never equal. BINARY, so that the answer does not depend on a collation only the application has.
                let sql = format!(
                    "SELECT CAST(t.{f} AS BLOB) FROM {t} AS t WHERE t.{f} COLLATE BINARY IN \
                     (SELECT value FROM json_each(?1) UNION ALL SELECT CAST(value AS BLOB) FROM json_each(?1))"
                );
                let values = json(&s.search.values)?;
                let mut rows = sqlx::query_scalar::<_, Vec<u8>>(AssertSqlSafe(sql)).bind(values).fetch(&mut *connection);
                while let Some(value) = rows.try_next().await.map_err(place)? {
                    found.push(Found { binding: s.binding, value });
                }
            }
            for prefix in &s.search.odd_under {
                let sql = format!(
                    "SELECT CAST(t.{f} AS BLOB) FROM {t} AS t WHERE substr(CAST(t.{f} AS TEXT), 1, length(?1)) = ?1 \
                     AND (instr(t.{f}, '%') OR instr(t.{f}, '?') OR instr(t.{f}, '#'))"
                );
                let mut rows = sqlx::query_scalar::<_, Vec<u8>>(AssertSqlSafe(sql)).bind(prefix).fetch(&mut *connection);
                while let Some(value) = rows.try_next().await.map_err(place)? {
                    found.push(Found { binding: s.binding, value });
                }
            }
        }
        Ok(found)
    }

    fn lock_file(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push("-rowbound.lock");
        name.into()
    }
}

fn inode(path: &Path) -> Result<(u64, u64)> {
    std::fs::metadata(path)
        .map(|m| (m.dev(), m.ino()))
        .map_err(|e| Error::new(Kind::DatabaseUnreachable, "the SQLite file is gone").with("database", path.display()).because(e))
}

/// A paragraph of a `.sql` file as one statement, without comments; `None` if nothing is left.
fn statement(paragraph: &str) -> Option<String> {
    let lines: Vec<_> = paragraph.lines().filter(|l| !l.trim_start().starts_with("--")).collect();
    let text = lines.join("\n").trim().trim_end_matches(';').to_owned();
    (!text.is_empty()).then_some(text)
}

fn json(values: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(values).map_err(|e| Error::new(Kind::Database, "a batch cannot be written as JSON").because(e))
}

/// A candidate as a claim reads it: id, binding, value and key in hex, event, release, attempts.
type ClaimedRow<'a> = (i64, Option<i32>, &'a str, Option<&'a str>, Cow<'a, str>, i64, u32);

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: &u8| char::from(*b).to_digit(16).map(|d| d as u8);
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| if let [a, b] = pair { Some(digit(a)? << 4 | digit(b)?) } else { None }).collect()
}

fn missing_table(b: &Bound) -> Error {
    Error::new(Kind::Schema, "the bound table does not exist").with("binding", &b.binding.column).hint("correct `column` in rowbound.toml")
}

fn has_column(table: &Table, b: &Bound) -> Result<()> {
    if table.column(&b.binding.column.column).is_some() {
        return Ok(());
    }
    let known: Vec<_> = table.columns.iter().map(|c| c.name.as_str()).collect();
    Err(Error::new(Kind::Schema, "the bound column does not exist").with("binding", &b.binding.column).hint(format!(
        "{} has: {}",
        table.name,
        known.join(", ")
    )))
}

/// Our triggers: name -> (table, statement).
async fn standing_triggers(connection: &mut SqliteConnection) -> Result<BTreeMap<String, (String, String)>> {
    let rows = sqlx::query("SELECT name, tbl_name, sql FROM sqlite_schema WHERE type = 'trigger' AND name GLOB 'rowbound_[0-9]*'")
        .fetch_all(connection)
        .await
        .map_err(failed("read triggers"))?;
    Ok(rows.into_iter().map(|r| (r.get(0), (r.get(1), r.get(2)))).collect())
}

/// What the schema says of a table; `None` if there is none. A view or virtual table is an error.
async fn table(connection: &mut SqliteConnection, name: &str) -> Result<Option<Table>> {
    let row = sqlx::query("SELECT name, type, sql FROM sqlite_schema WHERE type IN ('table', 'view') AND name = ?1 COLLATE NOCASE")
        .bind(name)
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed("read schema"))?;
    let Some(row) = row else { return Ok(None) };
    let (name, kind, sql): (String, String, String) = (row.get(0), row.get(1), row.get(2));
    if kind == "view" || sql.get(..14).is_some_and(|s| s.eq_ignore_ascii_case("CREATE VIRTUAL")) {
        return Err(Error::new(Kind::Schema, "the bound table is a view or a virtual table, whose changes no trigger sees")
            .with("table", name)
            .hint("bind the column of the table beneath it"));
    }
    let mut table = Table { name: name.clone(), ..Table::default() };
    let rows = sqlx::query("SELECT name, type, pk, hidden FROM pragma_table_xinfo(?1)")
        .bind(&name)
        .fetch_all(&mut *connection)
        .await
        .map_err(failed("read columns"))?;
    let mut key = BTreeMap::new();
    for r in rows {
        let column: String = r.get(0);
        if r.get::<i64, _>(2) > 0 {
            key.insert(r.get::<i64, _>(2), column.clone());
        }
        table.columns.push(TableColumn { name: column, declared: r.get(1), generated: r.get::<i64, _>(3) >= 2 });
    }
    table.key = key.into_values().collect();
    let without_rowid: bool = sqlx::query_scalar("SELECT wr FROM pragma_table_list WHERE schema = 'main' AND name = ?1")
        .bind(&name)
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed("read table"))?
        .unwrap_or(false);
    if !without_rowid {
        table.rowid = ["rowid", "_rowid_", "oid"].into_iter().find(|r| table.column(r).is_none()).map(str::to_owned);
        // An INTEGER PRIMARY KEY is the rowid itself and has no index.
        if let [one] = table.key.as_slice()
            && table.column(one).is_some_and(|c| c.declared.eq_ignore_ascii_case("integer"))
        {
            table.unique.push(vec![(one.clone(), "BINARY".to_owned())]);
        }
    }
    let indexes = sqlx::query("SELECT name FROM pragma_index_list(?1) WHERE \"unique\" = 1 ORDER BY name")
        .bind(&name)
        .fetch_all(&mut *connection)
        .await
        .map_err(failed("read indexes"))?;
    for index in indexes {
        let index: String = index.get(0);
        let columns = sqlx::query("SELECT name, coll FROM pragma_index_xinfo(?1) WHERE key = 1 ORDER BY seqno")
            .bind(&index)
            .fetch_all(&mut *connection)
            .await
            .map_err(failed("read index"))?;
        let columns: Vec<(Option<String>, String)> = columns.into_iter().map(|r| (r.get(0), r.get(1))).collect();
        if columns.iter().any(|(name, _)| name.is_none()) {
            table.unique_expressions.push(index);
        } else {
            table.unique.push(columns.into_iter().filter_map(|(name, coll)| Some((name?, coll))).collect());
        }
    }
    table.unique.sort();
    table.unique.dedup();
    Ok(Some(table))
}

#[async_trait]
impl Database for Sqlite {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    /// Path and machine: a copied file has another path, or lies on another machine.
    async fn identity(&self) -> Result<String> {
        let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
        Ok(format!("sqlite {} on {}", self.path.display(), machine.trim()))
    }

    async fn installation(&self) -> Result<Option<Installation>> {
        let mut connection = self.acquire().await?;
        let there: bool =
            sqlx::query_scalar("SELECT count(*) > 0 FROM sqlite_schema WHERE type = 'table' AND name = 'rowbound_installation'")
                .fetch_one(&mut *connection)
                .await
                .map_err(failed("read installation"))?;
        if !there {
            return Ok(None);
        }
        let record: Option<String> = sqlx::query_scalar("SELECT record FROM rowbound_installation WHERE id = 1")
            .fetch_optional(&mut *connection)
            .await
            .map_err(failed("read installation"))?;
        record.map(|r| super::read_record(&r)).transpose()
    }

    async fn inspect(&self, bound: &[Bound]) -> Result<Inspection> {
        let mut connection = self.acquire().await?;
        let mut seen = Inspection::default();
        for ((schema, name), columns) in by_table(bound) {
            let b = columns[0];
            if schema.as_deref().is_some_and(|s| !s.eq_ignore_ascii_case("main")) {
                return Err(Error::new(Kind::Schema, "a SQLite table has no schema but `main`").with("binding", &b.binding.column));
            }
            let table =
                table(&mut connection, &name).await.map_err(|e| e.with("binding", &b.binding.column))?.ok_or_else(|| missing_table(b))?;
            for b in &columns {
                has_column(&table, b)?;
            }
            seen.blind.push(Blind {
                table: table.name.clone(),
                event: "DROP TABLE".into(),
                advice: "DELETE the rows first, else their files stay behind".into(),
            });
            seen.blind.push(Blind {
                table: table.name.clone(),
                event: "a rebuild that drops the triggers (migrations), until `run` or `attach` puts them back".into(),
                advice: "keep `rowbound run` going, or run `rowbound attach` after each migration".into(),
            });
            for index in &table.unique_expressions {
                seen.blind.push(Blind {
                    table: table.name.clone(),
                    event: format!("REPLACE that conflicts in {index}, a unique index on an expression"),
                    advice: "set PRAGMA recursive_triggers = ON in the application's connections".into(),
                });
            }
            for b in &columns {
                seen.warnings.push(format!(
                    "{}: ALTER TABLE .. DROP COLUMN of this column fails while it is bound (SQLite checks triggers): take the binding out and attach first",
                    b.binding.column
                ));
            }
        }
        Ok(seen)
    }

    async fn script(&self, bound: &[Bound]) -> Result<Vec<String>> {
        let mut connection = self.acquire().await?;
        self.changes(&mut connection, bound).await
    }

    async fn install(&self, bound: &[Bound], record: &Installation) -> Result<Installation> {
        let mut lock = self.write_lock().await?;
        for sql in self.changes(lock.connection(), bound).await? {
            sqlx::query(AssertSqlSafe(sql)).execute(lock.connection()).await.map_err(failed("install"))?;
        }
        self.open.lock().unwrap_or_else(|e| e.into_inner()).seen = None;
        let snapshot = self.snapshot_on(lock.connection(), bound).await?;
        let record = Installation { snapshot, ..record.clone() };
        store(lock.connection(), &record).await?;
        lock.end("COMMIT").await?;
        Ok(record)
    }

    async fn record(&self, record: &Installation) -> Result<()> {
        let mut lock = self.write_lock().await?;
        store(lock.connection(), record).await?;
        lock.end("COMMIT").await.map(drop)
    }

    async fn remove(&self) -> Result<()> {
        let mut lock = self.write_lock().await?;
        for sql in removal(lock.connection()).await? {
            sqlx::query(AssertSqlSafe(sql)).execute(lock.connection()).await.map_err(failed("remove"))?;
        }
        lock.end("COMMIT").await?;
        match std::fs::remove_file(self.lock_file()) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::new(Kind::Permission, "cannot remove the lock file").with("file", self.lock_file().display()).because(e))
            }
            _ => Ok(()),
        }
    }

    async fn remove_script(&self) -> Result<Vec<String>> {
        let mut connection = self.acquire().await?;
        removal(&mut connection).await
    }

    async fn snapshot(&self, bound: &[Bound]) -> Result<Snapshot> {
        let mut connection = self.acquire().await?;
        self.snapshot_on(&mut connection, bound).await
    }

    async fn claim(&self, claim: &Claim) -> Result<Vec<Candidate>> {
        let mut connection = self.acquire().await?;
        // One row for all: a row of its own for each would be handed over from the connection's thread with a wake-up of ours, which takes
        // longer than everything else here. In hex, because a value may be anything.
        let sql = format!(
            "SELECT json_group_array(json_array(id, binding, hex(value), iif(key IS NULL, NULL, hex(key)), event, released_at, attempts)) FROM \
             (SELECT * FROM rowbound_candidate \
             WHERE storage = ?1 AND CASE WHEN due_at IS NULL THEN released_at + ?2 <= {NOW} ELSE ?3 OR due_at <= {NOW} END ORDER BY id LIMIT ?4)"
        );
        let all: String = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(&claim.storage)
            .bind(millis(claim.grace))
            .bind(claim.not_due_too)
            .bind(claim.limit)
            .fetch_one(&mut *connection)
            .await
            .map_err(failed("claim"))?;
        let broken = || Error::new(Kind::Database, "the claimed candidates cannot be read");
        let rows: Vec<ClaimedRow<'_>> = serde_json::from_str(&all).map_err(|e| broken().because(e))?;
        rows.into_iter()
            .map(|(id, binding, value, key, event, released_at, attempts)| {
                Ok(Candidate {
                    id,
                    binding,
                    value: unhex(value).ok_or_else(broken)?,
                    key: key.map(|k| unhex(k).ok_or_else(broken)).transpose()?.map(|k| String::from_utf8_lossy(&k).into_owned()),
                    event: event.into_owned(),
                    released_at: time(released_at),
                    attempts,
                })
            })
            .collect()
    }

    async fn next_due(&self, claim: &Claim) -> Result<Option<Duration>> {
        let mut connection = self.acquire().await?;
        let sql = format!(
            "SELECT min(due) - {NOW} FROM (\
               SELECT * FROM (SELECT released_at + ?2 AS due FROM rowbound_candidate WHERE storage = ?1 AND due_at IS NULL ORDER BY id LIMIT 1) \
               UNION ALL SELECT min(due_at) FROM rowbound_candidate WHERE storage = ?1 AND due_at IS NOT NULL)"
        );
        let wait: Option<i64> = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(&claim.storage)
            .bind(millis(claim.grace))
            .fetch_one(&mut *connection)
            .await
            .map_err(failed("poll"))?;
        Ok(wait.map(|ms| Duration::from_millis(ms.max(0).unsigned_abs())))
    }

    async fn open_transactions(&self) -> Result<Vec<OpenTransaction>> {
        Ok(Vec::new())
    }

    async fn check(&self, bound: &[Bound], snapshot: &Snapshot, searches: &[ColumnSearch]) -> Result<Checked> {
        // A first look without the lock: if nobody commits between it and the lock, it is the truth, and a long scan of a column
        // without an index has kept no writer waiting. Only when others commit all the time is the scan repeated under the lock.
        let mut connection = self.acquire().await?;
        let version = "PRAGMA data_version";
        for last in [false, false, true] {
            let before: i64 = sqlx::query_scalar(version).fetch_one(&mut *connection).await.map_err(failed("check"))?;
            let started = Instant::now();
            let mut found = self.find(&mut connection, searches).await?;
            let took = started.elapsed();
            let mut lock = WriteLock::take(connection).await?;
            let after: i64 = sqlx::query_scalar(version).fetch_one(lock.connection()).await.map_err(failed("check"))?;
            if before != after {
                if !last && took > Duration::from_millis(20) {
                    connection = lock.end("ROLLBACK").await?;
                    continue;
                }
                found = self.find(lock.connection(), searches).await?;
            }
            let now = self.snapshot_on(lock.connection(), bound).await?;
            if now != *snapshot {
                return Err(super::drifted(&snapshot.drift(&now)));
            }
            return Ok(Checked { found, hold: Some(Hold(Box::new(lock))) });
        }
        unreachable!("the last round returns")
    }

    async fn settle(&self, settlement: &Settlement, hold: Option<Hold>) -> Result<u64> {
        let mut lock = match hold.and_then(|h| h.0.downcast::<WriteLock>().ok()) {
            Some(lock) => *lock,
            None => self.write_lock().await?,
        };
        let mut count = 0;
        if !settlement.settled.is_empty() {
            let rows: Vec<_> = settlement.settled.iter().map(|s| (s.id, s.outcome.word(), &s.name, s.size, &s.place, &s.note)).collect();
            let rows = json(&rows)?;
            sqlx::query(
                "INSERT INTO rowbound_ledger (storage, binding, name, key, event, released_at, outcome, size, place, note, owner) \
                 SELECT c.storage, c.binding, ifnull(j.value ->> 2, c.value), c.key, c.event, c.released_at, j.value ->> 1, j.value ->> 3, \
                 j.value ->> 4, j.value ->> 5, ?2 FROM json_each(?1) AS j CROSS JOIN rowbound_candidate AS c ON c.id = j.value ->> 0 ORDER BY j.id",
            )
            .bind(&rows)
            .bind(&settlement.owner)
            .execute(lock.connection())
            .await
            .map_err(failed("settle"))?;
            let ids: Vec<i64> = settlement.settled.iter().map(|s| s.id).collect();
            count = sqlx::query("DELETE FROM rowbound_candidate WHERE id IN (SELECT value FROM json_each(?1))")
                .bind(json(&ids)?)
                .execute(lock.connection())
                .await
                .map_err(failed("settle"))?
                .rows_affected();
        }
        if !settlement.back.is_empty() {
            let rows: Vec<_> = settlement.back.iter().map(|b| (b.id, millis(b.wait), b.failed, &b.note)).collect();
            let sql = format!(
                "UPDATE rowbound_candidate SET due_at = {NOW} + (j.value ->> 1), attempts = attempts + (j.value ->> 2), note = j.value ->> 3 \
                 FROM json_each(?1) AS j WHERE rowbound_candidate.id = j.value ->> 0"
            );
            sqlx::query(AssertSqlSafe(sql)).bind(json(&rows)?).execute(lock.connection()).await.map_err(failed("put back"))?;
        }
        lock.end("COMMIT").await?;
        Ok(count)
    }

    async fn announce(&self, items: &[Announce]) -> Result<()> {
        let rows: Vec<_> = items.iter().map(|a| (&a.storage, a.name.as_str(), a.event, millis(a.wait))).collect();
        let rows = json(&rows)?;
        let sql = format!(
            "INSERT INTO rowbound_candidate (storage, value, event, due_at) \
             SELECT j.value ->> 0, j.value ->> 1, j.value ->> 2, {NOW} + (j.value ->> 3) FROM json_each(?1) AS j"
        );
        let mut lock = self.write_lock().await?;
        sqlx::query(AssertSqlSafe(sql)).bind(rows).execute(lock.connection()).await.map_err(failed("announce"))?;
        lock.end("COMMIT").await.map(drop)
    }

    async fn enter(&self, entries: &[NewEntry]) -> Result<()> {
        let rows: Vec<_> = entries.iter().map(|e| (&e.storage, &e.name, e.outcome.word(), e.event, e.size, &e.place, &e.note)).collect();
        let rows = json(&rows)?;
        let mut lock = self.write_lock().await?;
        sqlx::query(
            "INSERT INTO rowbound_ledger (storage, name, outcome, event, size, place, note) SELECT j.value ->> 0, j.value ->> 1, j.value ->> 2, \
             j.value ->> 3, j.value ->> 4, j.value ->> 5, j.value ->> 6 FROM json_each(?1) AS j ORDER BY j.id",
        )
        .bind(rows)
        .execute(lock.connection())
        .await
        .map_err(failed("enter"))?;
        lock.end("COMMIT").await.map(drop)
    }

    /// `flock` on a file beside the database: SQLite's own locks are too short, and a second descriptor of the database
    /// file itself would release them when closed.
    async fn lock_worker(&self) -> Result<Option<Hold>> {
        let path = self.lock_file();
        let place = |e: Error| e.with("file", path.display());
        let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(|e| {
            place(
                Error::new(Kind::Permission, "cannot open the lock file")
                    .because(e)
                    .hint("rowbound needs write access to the database's folder"),
            )
        })?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Hold(Box::new(file)))),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(place(
                Error::new(Kind::Busy, "another rowbound works on this SQLite database")
                    .hint("SQLite takes one worker: stop the other `rowbound run` or `collect`"),
            )),
            Err(e) => Err(place(Error::new(Kind::Permission, "cannot lock the lock file").because(e))),
        }
    }

    async fn backlog(&self, claim: &Claim) -> Result<Backlog> {
        let mut connection = self.acquire().await?;
        let sql = format!(
            "SELECT count(*), count(*) FILTER (WHERE ifnull(due_at, released_at + ?2) <= {NOW}), count(*) FILTER (WHERE attempts > 0), \
             ({NOW} - min(released_at)) / 1000 FROM rowbound_candidate WHERE storage = ?1"
        );
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(&claim.storage)
            .bind(millis(claim.grace))
            .fetch_one(&mut *connection)
            .await
            .map_err(failed("status"))?;
        let count = |i: usize| row.get::<i64, _>(i).unsigned_abs();
        let sample = sqlx::query(AssertSqlSafe(format!("{WAITING} WHERE storage = ?1 AND note IS NOT NULL ORDER BY id LIMIT 10")))
            .bind(&claim.storage)
            .fetch_all(&mut *connection)
            .await
            .map_err(failed("status"))?;
        Ok(Backlog {
            total: count(0),
            due: count(1),
            failing: count(2),
            oldest_seconds: row.get::<Option<i64>, _>(3).map(|s| s.max(0).unsigned_abs()),
            sample: sample.iter().map(waiting).collect(),
        })
    }

    async fn waiting(&self, values: &[String]) -> Result<Vec<Waiting>> {
        let mut connection = self.acquire().await?;
        let sql = format!("{WAITING} WHERE CAST(value AS BLOB) IN (SELECT CAST(value AS BLOB) FROM json_each(?1)) ORDER BY id");
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(json(&values)?).fetch_all(&mut *connection).await.map_err(failed("explain"))?;
        Ok(rows.iter().map(waiting).collect())
    }

    async fn history(&self, filter: &Filter) -> Result<Vec<Entry>> {
        let mut connection = self.acquire().await?;
        let outcomes: Vec<_> = filter.outcomes.iter().map(|o| o.word()).collect();
        let rows = sqlx::query(
            "SELECT id, at, storage, binding, CAST(name AS BLOB), key, event, released_at, outcome, size, place, note FROM rowbound_ledger \
             WHERE (?1 IS NULL OR storage = ?1) AND (?2 IS NULL OR name IN (?2, CAST(?2 AS BLOB))) \
             AND (?3 = '[]' OR outcome IN (SELECT value FROM json_each(?3))) AND (?4 IS NULL OR at >= ?4) ORDER BY id DESC LIMIT ?5",
        )
        .bind(&filter.storage)
        .bind(&filter.name)
        .bind(json(&outcomes)?)
        .bind(filter.since.map(|t| t.as_millisecond()))
        .bind(filter.limit.map_or(-1, i64::from))
        .fetch_all(&mut *connection)
        .await
        .map_err(failed("history"))?;
        rows.into_iter()
            .map(|r| {
                Ok(Entry {
                    id: r.get(0),
                    at: time(r.get(1)),
                    storage: r.get(2),
                    binding: r.get(3),
                    name: String::from_utf8_lossy(&r.get::<Vec<u8>, _>(4)).into_owned(),
                    key: r.get(5),
                    event: r.get(6),
                    released_at: opt_time(r.get(7)),
                    outcome: super::read_outcome(&r.get::<String, _>(8))?,
                    size: r.get::<Option<i64>, _>(9).map(i64::unsigned_abs),
                    place: r.get(10),
                    note: r.get(11),
                })
            })
            .collect()
    }

    async fn totals(&self, since: Option<Timestamp>) -> Result<Vec<Total>> {
        let mut connection = self.acquire().await?;
        let rows = sqlx::query(
            "SELECT storage, outcome, count(*), ifnull(sum(size), 0) FROM rowbound_ledger WHERE ?1 IS NULL OR at >= ?1 GROUP BY 1, 2 ORDER BY 1, 2",
        )
        .bind(since.map(|t| t.as_millisecond()))
        .fetch_all(&mut *connection)
        .await
        .map_err(failed("status"))?;
        rows.into_iter()
            .map(|r| {
                Ok(Total {
                    storage: r.get(0),
                    outcome: super::read_outcome(&r.get::<String, _>(1))?,
                    count: r.get::<i64, _>(2).unsigned_abs(),
                    bytes: r.get::<i64, _>(3).unsigned_abs(),
                })
            })
            .collect()
    }

    async fn holders(&self, searches: &[ColumnSearch], limit: u32) -> Result<Vec<Holder>> {
        let mut connection = self.acquire().await?;
        let mut holders = Vec::new();
        for s in searches {
            let Some(table) = table(&mut connection, &s.column.table).await? else {
                return Err(Error::new(Kind::Schema, "the bound table does not exist").with("binding", &s.column));
            };
            let f = ident(&s.column.column);
            let sql = format!(
                "SELECT {}, CAST(t.{f} AS BLOB) FROM {} AS t WHERE t.{f} COLLATE BINARY IN \
                 (SELECT value FROM json_each(?1) UNION ALL SELECT CAST(value AS BLOB) FROM json_each(?1)) \
                 OR EXISTS (SELECT 1 FROM json_each(?2) AS p WHERE substr(CAST(t.{f} AS TEXT), 1, length(p.value)) = p.value \
                 AND (instr(t.{f}, '%') OR instr(t.{f}, '?') OR instr(t.{f}, '#'))) LIMIT ?3",
                triggers::key(&table, "t."),
                ident(&table.name),
            );
            let rows = sqlx::query(AssertSqlSafe(sql))
                .bind(json(&s.search.values)?)
                .bind(json(&s.search.odd_under)?)
                .bind(limit)
                .fetch_all(&mut *connection)
                .await
                .map_err(|e| failed("explain")(e).with("binding", &s.column))?;
            holders.extend(rows.into_iter().map(|r| Holder {
                binding: s.binding,
                key: r.get(0),
                value: String::from_utf8_lossy(&r.get::<Vec<u8>, _>(1)).into_owned(),
            }));
        }
        Ok(holders)
    }

    async fn close(&self) {
        let pool = self.open.lock().unwrap_or_else(|e| e.into_inner()).pool.clone();
        pool.close().await;
    }
}

const WAITING: &str = "SELECT id, binding, CAST(value AS BLOB), key, event, released_at, due_at, attempts, note FROM rowbound_candidate";

fn waiting(r: &sqlx::sqlite::SqliteRow) -> Waiting {
    Waiting {
        id: r.get(0),
        binding: r.get(1),
        value: String::from_utf8_lossy(&r.get::<Vec<u8>, _>(2)).into_owned(),
        key: r.get(3),
        event: r.get(4),
        released_at: time(r.get(5)),
        due_at: opt_time(r.get(6)),
        attempts: r.get(7),
        note: r.get(8),
    }
}

async fn store(connection: &mut SqliteConnection, record: &Installation) -> Result<()> {
    sqlx::query("INSERT INTO rowbound_installation (id, record) VALUES (1, ?1) ON CONFLICT (id) DO UPDATE SET record = excluded.record")
        .bind(json(record)?)
        .execute(connection)
        .await
        .map_err(failed("store installation"))
        .map(drop)
}

async fn removal(connection: &mut SqliteConnection) -> Result<Vec<String>> {
    let mut statements: Vec<_> = standing_triggers(connection).await?.keys().map(|t| format!("DROP TRIGGER {}", ident(t))).collect();
    for table in ["rowbound_ledger", "rowbound_candidate", "rowbound_installation"] {
        statements.push(format!("DROP TABLE IF EXISTS {table}"));
    }
    Ok(statements)
}
