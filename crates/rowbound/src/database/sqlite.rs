//! SQLite: triggers and candidates in the application's own file, one collector at a time.
//!
//! SQLite has one writer, so the barrier is its write lock: a check that ends inside `BEGIN IMMEDIATE` sees every
//! reference there is, and none can come until the batch is settled in that same transaction. The lock is taken as late and
//! kept as short as can be, because an application that begins its transactions as deferred (Django's default) fails with
//! "database is locked", without waiting, whenever somebody writes between its read and its write.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Mutex,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use jiff::Timestamp;
use rustix::fs::OFlags;
use sqlx::{
    ConnectOptions as _, Connection as _, Sqlite as Driver,
    pool::PoolConnection,
    sqlite::{SqliteConnectOptions, SqliteConnection, SqlitePool, SqlitePoolOptions},
};

use super::{Database, Dialect, LockGuard, OpenTransaction, Options, Pool, pool};
use crate::{
    capture::Snapshot,
    clock,
    error::{Error, Kind, Result},
    heartbeat::{Heartbeat, LastHeartbeat},
    owner::{self, Owner},
    plan::sqlite_file,
};

mod columns; // the role: references are found, never overlooked
mod deliver; // deliveries to followers, with each entry
mod fault; // what a failure means
mod heartbeat; // the worker's heartbeat
mod identity; // what tells a file from its copies
mod ledger; // the role: entries, and what is known of each trash
mod queue; // the role: candidates and deliveries
mod rows; // what a row holds
mod scan; // a column from one end to the other
mod schema; // the role: attach and detach
mod session; // what our connections are
mod settle; // entries in, candidates out
mod survey; // text columns and samples
mod tables; // what the schema says
mod triggers; // what must stand
mod whole; // any text column, from one end to the other

use fault::failed;

/// A SQLite database file.
pub struct Sqlite {
    path: PathBuf,
    /// What a connection is opened with.
    connect: SqliteConnectOptions,
    options: Options,
    open: Mutex<Open>,
}

impl std::fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Sqlite").field(&self.path).finish() // what it connects with may hold a key
    }
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
    async fn take(connection: PoolConnection<Driver>) -> Result<Self> {
        // Before the statement: it goes on in the connection's own thread if this future is dropped. A connection that went back to the pool would then get the lock,
        // and keep every writer out.
        let mut lock = WriteLock(Some(connection));
        if let Err(e) = sqlx::query("BEGIN IMMEDIATE").execute(lock.connection()).await {
            lock.0 = None;
            return Err(failed("begin")(e));
        }
        Ok(lock)
    }

    fn connection(&mut self) -> &mut SqliteConnection {
        self.0.as_mut().expect("the lock has its connection until it ends")
    }

    async fn end(mut self, how: &'static str) -> Result<PoolConnection<Driver>> {
        sqlx::query(how).execute(self.connection()).await.map_err(failed("commit"))?;
        Ok(self.0.take().expect("the lock has its connection until it ends"))
    }
}

impl Sqlite {
    /// Opens the file that `sqlite:path` names. It must exist.
    ///
    /// # Errors
    /// [`Kind::Config`] for a URL without a path or an in-memory database; [`Kind::DatabaseUnreachable`] when there is no such file.
    pub async fn open(url: &str, options: &Options) -> Result<Self> {
        let none = |place: &Path, e: io::Error| {
            Error::new(Kind::DatabaseUnreachable, "there is no such SQLite file").with("database", place.display()).because(e).hint(
                "a relative path in rowbound.toml is taken from the file's own folder; in --database and DATABASE_URL from the current one",
            )
        };
        let path = match sqlite_file(url, Path::new(""))? {
            Ok(path) => std::fs::canonicalize(&path).map_err(|e| none(&path, e))?,
            Err(tried) => {
                let e = |e: Error, other: &PathBuf| e.with("or", other.display());
                let first = tried.first().map_or(Path::new(url), PathBuf::as_path);
                let why = std::fs::canonicalize(first).err().unwrap_or_else(|| io::ErrorKind::NotFound.into());
                return Err(tried.iter().skip(1).fold(none(first, why), e));
            }
        };
        let connect = SqliteConnectOptions::new().filename(&path).create_if_missing(false);
        Self::with(path, connect, options).await
    }

    /// Opens the file of an application's pool: see [`super::beside`]. Extensions, collations and an encryption key among what it connects with are ours
    /// too; what its `after_connect` does is not.
    ///
    /// # Errors
    /// [`Kind::Config`] for a pool that is closed or in memory; else as [`Sqlite::open`].
    pub async fn beside(pool: &SqlitePool, options: &Options) -> Result<Self> {
        pool::open(pool)?;
        let url = Pool::from(pool).url();
        let in_context = |e: Error| e.with("database", &url);
        // SQLite itself says which file it is: a path may be relative, or a `file:` URI.
        let mut conn = pool::alike(pool, options.connect_timeout).await.map_err(|e| in_context(failed("open")(e)))?;
        let file: Option<String> = sqlx::query_scalar("SELECT file FROM pragma_database_list WHERE name = 'main'")
            .fetch_one(&mut conn)
            .await
            .map_err(|e| in_context(failed("open")(e)))?;
        conn.close().await.map_err(|e| in_context(failed("open")(e)))?;
        let Some(file) = file.filter(|path| !path.is_empty()) else {
            return Err(in_context(
                Error::new(Kind::Config, "an in-memory database cannot be shared with its application")
                    .hint("keep it in a file: sqlite:app.db"),
            ));
        };
        let path = std::fs::canonicalize(&file).map_err(|e| {
            in_context(Error::new(Kind::DatabaseUnreachable, "there is no such SQLite file").with("file", &file).because(e))
        })?;
        let connect = (*pool.connect_options()).clone().filename(&path).in_memory(false).shared_cache(false).create_if_missing(false);
        let connect = connect.read_only(false).immutable(false);
        // Only a journal of the file's own can roll back. No mode has the name given, so that SQLite changes nothing.
        let connect = connect.pragma("journal_mode", "unchanged");
        Self::with(path, connect.optimize_on_close(false, None), options).await
    }

    async fn with(path: PathBuf, connect: SqliteConnectOptions, options: &Options) -> Result<Self> {
        if let Some(first) = options.ignored.first() {
            return Err(Error::new(
                Kind::Config,
                "on SQLite no session can be ignored: its write lock is the barrier, and nobody is waited for",
            )
            .with("ignore", format_args!("{:?}", first.to_string())));
        }
        // Nothing is written into the log by the library: it would write the statement, with everything in it.
        let connect = session::ours(connect).disable_statement_logging();
        let open = Self::connect(&path, &connect, options).await?;
        Ok(Sqlite { path, connect, options: options.clone(), open: Mutex::new(open) })
    }

    async fn connect(path: &Path, connect: &SqliteConnectOptions, options: &Options) -> Result<Open> {
        let (file, opened) = (inode(path)?, |e| failed("open")(e).with("database", path.display()));
        // Rows come over from the connection's own thread; with the default of 50 it stops and is woken 80 times for one claim.
        let connect = connect.clone().row_buffer_size(1000);
        let pool = SqlitePoolOptions::new()
            .max_connections(options.connections.max(2))
            .acquire_timeout(options.connect_timeout)
            .connect_with(connect)
            .await
            .map_err(opened)?;
        // The first read tells a database from another file.
        sqlx::query("SELECT count(*) FROM sqlite_schema").execute(&pool).await.map_err(opened)?;
        // In UTF-16 every name would come out as other bytes than those of the file, and no reference would be found.
        let encoding: String = sqlx::query_scalar("PRAGMA encoding").fetch_one(&pool).await.map_err(failed("open"))?;
        if encoding != "UTF-8" {
            return Err(Error::new(Kind::Config, "this SQLite database stores text in another encoding than UTF-8")
                .with("database", path.display())
                .with("encoding", encoding)
                .hint("copy it into a new file: `sqlite3 old.sqlite3 .dump | sqlite3 new.sqlite3`"));
        }
        if inode(path)? != file {
            let replaced = Error::new(Kind::DatabaseUnreachable, "the SQLite file was replaced while it was opened");
            return Err(replaced.with("database", path.display()));
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
        let fresh = Self::connect(&self.path, &self.connect, &self.options).await?;
        let pool = fresh.pool.clone();
        let old = std::mem::replace(&mut *self.open.lock().unwrap_or_else(|e| e.into_inner()), fresh);
        old.pool.close().await;
        Ok(pool)
    }

    async fn acquire(&self) -> Result<PoolConnection<Driver>> {
        self.pool().await?.acquire().await.map_err(failed("connect"))
    }

    /// A connection that reads and hands over few rows ahead, because each may be a text of megabytes.
    async fn reader(&self) -> Result<SqliteConnection> {
        self.pool().await?;
        let options = self.connect.clone().row_buffer_size(8).pragma("query_only", "ON");
        options.connect().await.map_err(failed("connect"))
    }

    /// The write lock, had by asking again and again with short waits until `lock_patience`.
    async fn write_lock(&self) -> Result<WriteLock> {
        self.write_lock_within(self.options.lock_patience).await
    }

    async fn write_lock_within(&self, patience: Duration) -> Result<WriteLock> {
        let deadline = clock::deadline(patience);
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

    /// Opens the lock file. Root makes it for the owner of the database, and gives back one that an earlier version left as root's.
    fn open_lock(&self, path: &Path) -> std::io::Result<File> {
        let mut how = OpenOptions::new();
        how.custom_flags(OFlags::NOFOLLOW.bits() as i32).read(true).write(true);
        let give = |file: File| Ok(owner::give(&file, Owner::at(&self.path)?).map(|()| file)?);
        loop {
            match how.clone().create_new(true).open(path) {
                Ok(file) => return give(file),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
            match how.open(path) {
                // What is not the file that we made, or has another name too, stays whose it is.
                Ok(file) => return if heartbeat::is_ours(&file)? { give(file) } else { Ok(file) },
                Err(e) if e.kind() == io::ErrorKind::NotFound => {} // it went meanwhile
                // Another user's: to lock a file, it is enough to read it.
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                    return OpenOptions::new().read(true).custom_flags(OFlags::NOFOLLOW.bits() as i32).open(path).map_err(|_| e);
                }
                Err(e) => return Err(e),
            }
        }
    }

    fn lock_file(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push("-rowbound.lock");
        name.into()
    }
}

fn inode(path: &Path) -> Result<(u64, u64)> {
    let gone = |e: io::Error| Error::new(Kind::DatabaseUnreachable, "the SQLite file is gone").with("database", path.display()).because(e);
    std::fs::metadata(path).map(|m| (m.dev(), m.ino())).map_err(gone)
}

#[async_trait]
impl Database for Sqlite {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    async fn now(&self) -> Result<Timestamp> {
        let mut connection = self.acquire().await?;
        let now: f64 = sqlx::query_scalar("SELECT (julianday('now') - 2440587.5) * 86400000.0")
            .fetch_one(&mut *connection)
            .await
            .map_err(failed("read the clock"))?;
        Timestamp::from_millisecond(now.round() as i64)
            .map_err(|e| Error::new(Kind::Database, "the database's clock is out of range").because(e))
    }

    async fn open_transactions(&self) -> Result<Vec<OpenTransaction>> {
        Ok(Vec::new())
    }

    /// What we settle is on disk, and everything before it; a lock is held until then.
    async fn flushed(&self) -> Result<()> {
        Ok(())
    }

    /// `flock` on a file beside the database: SQLite's own locks are too short, and a second descriptor of the database
    /// file itself would release them when closed.
    async fn lock_worker(&self) -> Result<Option<LockGuard>> {
        let path = self.lock_file();
        let in_context = |e: Error| e.with("file", path.display());
        let file = self.open_lock(&path).map_err(|e| {
            let hint = match path.exists() {
                true => format!("give it to the user that runs rowbound: sudo chown {} {path:?}", rustix::process::geteuid().as_raw()),
                false => "rowbound needs write access to the database's folder".to_owned(),
            };
            in_context(Error::new(Kind::Permission, "cannot open the lock file").because(e).hint(hint))
        })?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(LockGuard(Box::new(file)))),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(in_context(
                Error::new(Kind::Busy, "another rowbound works on this SQLite database")
                    .hint("SQLite takes one worker: stop the other `rowbound run` or `collect`"),
            )),
            Err(e) => Err(in_context(
                Error::new(Kind::Permission, "cannot lock the lock file")
                    .because(e)
                    .hint(format!("give it to the user that runs rowbound: sudo chown {} {path:?}", rustix::process::geteuid().as_raw())),
            )),
        }
    }

    async fn heartbeat(&self, beat: &Heartbeat) -> Result<()> {
        heartbeat::beat(&self.lock_file(), beat)
    }

    async fn heartbeats(&self) -> Result<Vec<LastHeartbeat>> {
        Ok(heartbeat::last(&self.lock_file())?.into_iter().collect())
    }

    async fn close(&self) {
        let pool = self.open.lock().unwrap_or_else(|e| e.into_inner()).pool.clone();
        pool.close().await;
    }
}
