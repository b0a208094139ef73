//! A session of ours: which server answers, what stands between it and us, and what the session is.
//!
//! In: what we connect with. Out: sessions whose settings are ours alone. Promise: nothing is set, and no statement is prepared, before it is known that
//! a server we know answers, and that each connection has a session of the server to itself. A pooler that gives sessions out by transaction would
//! give ours, with our settings in it, to the application.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use sqlx::{ConnectOptions as _, Connection as _, PgConnection, Row, postgres::PgConnectOptions};

use super::fault::{failed, standing_by};
use crate::{
    database::{Options, kin, pool},
    error::{Error, Kind, Result},
};

/// What every session of ours is called in `pg_stat_activity`: for people. Nobody is told by it.
const APPLICATION: &str = "rowbound";

/// The oldest server whose `CREATE OR REPLACE TRIGGER` we can use.
const OLDEST: i32 = 140_000;

/// Some twenty questions that take no longer than their way there and back.
const SHORT: Duration = Duration::from_secs(3);

const SERVER: &str = "select pg_catalog.version()";

/// Which process of the server serves us, and for how long it has been there.
const SEAT: &str = "
    select a.pid, pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()), pg_catalog.date_part('epoch', a.backend_start)
    from pg_catalog.pg_stat_activity a where a.pid operator(pg_catalog.=) pg_catalog.pg_backend_pid()";

const DATABASE: &str = "
    select pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('server_version_num')::pg_catalog.int4,
        pg_catalog.current_setting('server_version'), pg_catalog.current_setting('server_encoding'), session_user::pg_catalog.text,
        (select pg_catalog.string_agg(e.extname::pg_catalog.text, ' ') from pg_catalog.pg_extension e)";

/// Where an application's sessions look for tables, and whose rights they have.
#[derive(Debug, Clone)]
pub(super) struct SessionSettings {
    pub(super) role: String,
    pub(super) search_path: String,
}

/// Whose work a session does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// Ours: it never writes a row of the application, and no barrier waits for it, unless a pooler stands there.
    Ours(Line),
    /// The application's: it writes a row as an application would, among those that its role may see, and barriers wait for it.
    Applications,
}

/// What stands between us and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// Nobody.
    Direct,
    /// A pooler: the client that it gives a session of ours to next has what we leave in it. It may clean what it gives out, and it may not.
    Pooled,
}

/// Since when sessions can know the installation: what is older does not say whose it is.
#[derive(Debug, Clone, Default)]
pub(super) struct Since(Arc<Mutex<Option<Instant>>>);

impl Since {
    pub(super) fn now(&self) {
        *self.0.lock().unwrap_or_else(|e| e.into_inner()) = Some(Instant::now());
    }

    /// Whether a session of this age is young enough.
    pub(super) fn holds(&self, age: Duration) -> bool {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).is_none_or(|since| age < since.elapsed())
    }
}

/// What our connections have in common.
pub(super) fn ours(connect: PgConnectOptions) -> PgConnectOptions {
    connect.application_name(APPLICATION).disable_statement_logging() // whole statements have no place in a log
}

/// Makes a session what ours are: see session.sql.
pub(super) async fn prepare(conn: &mut PgConnection, session_settings: Option<&SessionSettings>, work: Work) -> sqlx::Result<()> {
    if work == Work::Applications {
        // Behind a pooler it may have been another session before: no barrier may take it for one of ours.
        sqlx::raw_sql("select pg_catalog.pg_advisory_unlock_all()").execute(&mut *conn).await?;
    }
    if let Some(SessionSettings { role, search_path }) = session_settings {
        // In this order: "$user" in the path is the role.
        for (name, value) in [("role", role), ("search_path", search_path)] {
            sqlx::query("select pg_catalog.set_config($1, $2, false)").bind(name).bind(value).execute(&mut *conn).await?;
        }
    }
    let rows = sqlx::raw_sql(include_str!("session.sql")).fetch_all(&mut *conn).await?;
    // A pool would try for as long as it may, and then not say why.
    match sqlx::raw_sql(include_str!("session_whole.sql")).execute(&mut *conn).await {
        Err(sqlx::Error::Database(e)) if matches!(work, Work::Ours(_)) && e.code().as_deref() == Some("42501") => {
            tracing::debug!(error = %e, "a session of ours is not as it must be: the check says so");
        }
        done => {
            done?;
        }
    }
    let attached: bool = rows.last().ok_or(sqlx::Error::RowNotFound)?.try_get(0)?;
    if work == Work::Applications {
        sqlx::raw_sql("select set_config('row_security', 'on', false)").execute(&mut *conn).await?;
    } else if attached && work == Work::Ours(Line::Direct) {
        // Where the record went meanwhile, or may not be read, the session counts as anybody's: it is waited for, which costs time alone.
        if let Err(e) = sqlx::raw_sql(include_str!("mark.sql")).fetch_all(&mut *conn).await {
            match e {
                sqlx::Error::Database(e) => tracing::debug!(error = %e, "a session of ours is not marked"),
                e => return Err(e),
            }
        }
    }
    Ok(())
}

fn silent(options: &Options) -> Error {
    Error::new(Kind::DatabaseUnreachable, format!("no connection within {:?}", options.connect_timeout))
        .hint("check host and port, and that the server is running")
}

/// No second session was to be had in time.
fn crowded(waited: Duration) -> Error {
    Error::new(Kind::DatabaseUnreachable, format!("no second session within {waited:?}"))
        .hint("Rowbound needs several: where a pooler stands between it and the server, let that have more of them (PgBouncer: default_pool_size), or name the server itself in `database`")
}

async fn in_time<T>(options: &Options, what: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(options.connect_timeout, what).await.unwrap_or_else(|_| Err(silent(options)))
}

/// Whether this is a server, and a database, that we can work on, and what stands between us. The pool would hide why a connection fails: these connections are
/// made without it.
///
/// # Errors
/// [`Kind::Config`] for what only looks like PostgreSQL, one of several primaries, a server that is too old, or a pooler that gives sessions out by
/// transaction; [`Kind::DatabaseUnreachable`], [`Kind::Permission`], [`Kind::Schema`].
pub(super) async fn look(connect: &PgConnectOptions, options: &Options) -> Result<Line> {
    let began = Instant::now();
    let mut one = in_time(options, greet(connect)).await?;
    let line = own_sessions(connect, &mut one, began, options).await?;
    in_time(options, fits(one, options)).await?;
    Ok(line)
}

/// Connects, if a server answers that we know. Everything until our sessions are known to be ours goes by the simple protocol: what is prepared stays in a
/// session that may be another's next.
async fn greet(connect: &PgConnectOptions) -> Result<PgConnection> {
    let error = |e| failed("cannot connect", e);
    let mut one = PgConnection::connect_with(connect).await.map_err(error)?;
    let version: String = sqlx::raw_sql(SERVER).fetch_one(&mut one).await.and_then(|row| row.try_get(0)).map_err(error)?;
    kin::is_postgres(&version)?;
    Ok(one)
}

/// Insists on a database that we can work on.
async fn fits(mut one: PgConnection, options: &Options) -> Result<()> {
    let error = |e| failed("cannot connect", e);
    let row = sqlx::raw_sql(DATABASE).fetch_one(&mut one).await.map_err(error)?;
    let read = || -> sqlx::Result<(bool, i32, String, String, String, Option<String>)> {
        Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?, row.try_get(4)?, row.try_get(5)?))
    };
    let (standby, version, shown, encoding, role, extensions) = read().map_err(error)?;
    if version < OLDEST {
        return Err(Error::new(Kind::Config, "this PostgreSQL is too old").with("version", shown).hint("PostgreSQL 14 or later is needed"));
    }
    kin::is_alone(extensions.unwrap_or_default().split(' '))?;
    if standby {
        return Err(standing_by());
    }
    if encoding != "UTF8" {
        return Err(Error::new(Kind::Schema, "the database's encoding is not UTF8: a row could not hold every file's name, byte for byte")
            .with("encoding", encoding)
            .hint("dump it and restore it into a database with encoding UTF8"));
    }
    options.ignores_no_other_than(&role)?;
    // What may not be set is said here; the pool would try again for as long as it may, and then not say why.
    prepare(&mut one, None, Work::Applications).await.map_err(error)?;
    pool::goodbye(one).await;
    Ok(())
}

/// A process of the server, and whether it was there before we came: then somebody stands between it and us.
async fn seat(conn: &mut PgConnection, began: Instant) -> sqlx::Result<(i32, bool)> {
    let row = sqlx::raw_sql(SEAT).fetch_one(conn).await?;
    let waited = began.elapsed().as_secs_f64();
    let (pid, now, start): (i32, f64, Option<f64>) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    // Under another role than it logged in as, a session may not see since when it is there.
    Ok((pid, start.is_none_or(|start| now - start > waited)))
}

/// One more connection, and whether the server's process was there before it.
async fn another(connect: &PgConnectOptions, options: &Options) -> Result<(PgConnection, bool)> {
    let began = Instant::now();
    let made = async {
        let mut conn = PgConnection::connect_with(connect).await.map_err(|e| failed("cannot connect", e))?;
        let (_, was_there) = seat(&mut conn, began).await.map_err(refused_by_pooler)?;
        Ok((conn, was_there))
    };
    tokio::time::timeout(options.connect_timeout, made).await.unwrap_or_else(|_| Err(crowded(options.connect_timeout)))
}

/// Insists that each connection keeps its session of the server from one transaction to the next. Sets nothing. Has a time of its own: it is not the server's
/// fault if a pooler lets one of two wait for the other.
///
/// A pooler in transaction mode is found by what it does: the server's process is older than our connection, or a connection has another one than before.
/// One in session mode is older too, and keeps what it gave out.
async fn own_sessions(connect: &PgConnectOptions, one: &mut PgConnection, began: Instant, options: &Options) -> Result<Line> {
    let (pid, was_there) = in_time(options, async { seat(one, began).await.map_err(refused_by_pooler) }).await?;
    let (mut two, two_was_there) = another(connect, options).await?;
    let asked = Instant::now();
    let (again, _) = in_time(options, async { seat(one, began).await.map_err(refused_by_pooler) }).await?;
    let stands = was_there || two_was_there;
    // They take turns, and the way may be long. Where nobody seems to stand there, it is the server that takes its time.
    let patience = SHORT + asked.elapsed() * 32 + if stands { Duration::ZERO } else { options.connect_timeout };
    // One that had no session yet when we came gave each of us a new one, and may change them all the same.
    let rounds = if stands { &ROUNDS[..] } else { &ROUNDS[..3] };
    let kept = again == pid
        && match tokio::time::timeout(patience, keep_theirs(one, &mut two, rounds)).await {
            Ok(kept) => kept.map_err(refused_by_pooler)?,
            // With too few sessions for both, a pooler lets the second wait for the first.
            Err(_) if stands => false,
            Err(_) => return Err(crowded(patience)),
        };
    if !kept {
        return Err(pooled());
    }
    pool::goodbye(two).await;
    if stands {
        return Ok(Line::Pooled);
    }
    // By now it has one that nobody uses, and gives it to the next client.
    let (three, was_there) = another(connect, options).await?;
    pool::goodbye(three).await;
    Ok(if was_there { Line::Pooled } else { Line::Direct })
}

/// Who begins. A pooler gives a transaction the session that became free last, or the one that has been free for longest: in one of these orders one of the two
/// gets what the other had.
static ROUNDS: [[usize; 2]; 4] = [[0, 1], [0, 1], [1, 0], [0, 1]];

/// Lets both take turns.
async fn keep_theirs(one: &mut PgConnection, two: &mut PgConnection, rounds: &[[usize; 2]]) -> sqlx::Result<bool> {
    let mut conns = [one, two];
    let mut had: [Option<i32>; 2] = [None; 2];
    for order in rounds {
        for i in *order {
            let rows = sqlx::raw_sql("begin; select pg_catalog.pg_backend_pid()").fetch_all(&mut *conns[i]).await?;
            let pid = rows.last().ok_or(sqlx::Error::RowNotFound)?.try_get(0)?;
            if had[i].replace(pid).is_some_and(|had| had != pid) {
                return Ok(false);
            }
        }
        for conn in &mut conns {
            sqlx::raw_sql("commit").execute(&mut **conn).await?;
        }
    }
    Ok(true)
}

fn pooled() -> Error {
    Error::new(
        Kind::Config,
        "a pooler stands between Rowbound and the server, and gives the server's sessions out by transaction: \
         what Rowbound sets in its session would be the application's next",
    )
    .hint("name the server itself in `database`, or a pooler in session mode (PgBouncer: pool_mode = session)")
}

/// PgBouncer in statement mode takes no transaction.
fn refused_by_pooler(e: sqlx::Error) -> Error {
    match e.as_database_error().is_some_and(|e| e.message().contains("pooling mode")) {
        true => pooled().because(e),
        false => failed("cannot connect", e),
    }
}
