//! Open transactions.
//!
//! `information_schema.innodb_trx` is a cache that the server fills anew only if nobody has read it for 100 ms (`trx_i_s_possibly_fetch_data_into_cache`
//! in the server's `trx0i_s.cc`): several readers keep it old for as long as they go on, and a transaction that began since is not in it. So an
//! answer counts only if it shows our own transaction, running a statement of this very look, told by a number that was never used before.
//!
//! Workers share what the server says. Each keeps its transaction open until it has its answer, and asks again at the next eighth of a second of the
//! server's clock: at the same moment as all others who wait. The first of them has the cache filled, and it shows every one's transaction. So no lock is
//! needed, which a worker that was stopped, or anybody else, could keep from all. Where the moment is missed by more than the 25 ms that an eighth leaves, quarters
//! are tried.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use sqlx::{AssertSqlSafe, Connection, MySqlConnection};

use super::{Mysql, Options, fault, int, maybe_text, session, text};
use crate::{
    database::{OpenTransaction, Who, pool},
    error::{Error, Kind, Result},
    plan::Ignored,
};

/// The server's 100 ms, and a little.
const CACHED: Duration = Duration::from_millis(103);

/// At which moments of the server's clock is asked, as microseconds between two of them: first, and after so many tries.
const MOMENTS: (u32, u32) = (125_000, 250_000);

/// So many tries at the first of [`MOMENTS`].
const TRIES: u32 = 3;

/// How a statement of a look begins.
const MARK: &str = "/* rowbound ";

/// How long a fresh answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// With more than this in one answer the server's 16 MiB for it may not have sufficed, and it does not tell.
const TOO_MANY: usize = 4_000;

/// The connection that looks, and what it must remember between looks.
#[derive(Debug, Default)]
pub(super) struct Watch {
    conn: Option<MySqlConnection>,
    /// Keys of transactions with a connection, at the last look.
    attached: BTreeSet<String>,
    /// Prepared transactions that left their connection (`XA PREPARE`), by id, with the keys under which each may have been seen before.
    detached: BTreeMap<String, BTreeSet<String>>,
    /// The last answer, and when it was asked for: of several who wait for their turn, one asks for all.
    last: Option<(Instant, Vec<OpenTransaction>)>,
    /// When the server's list was read last, so that it is not read in vain: that would keep it old.
    read: Option<Instant>,
}

impl Watch {
    pub(super) async fn close(&mut self) {
        if let Some(conn) = self.conn.take() {
            // The server frees what the connection held, whether it says goodbye or not.
            pool::goodbye(conn).await;
        }
    }
}

struct Seen {
    id: String,
    thread: i64,
    started: String,
    state: String,
    query: String,
    read_only: bool,
    who: Who,
}

impl Seen {
    /// Another worker's look. It is left out because nothing can be written in a transaction that is read only, whoever calls himself so.
    fn looks_too(&self) -> bool {
        self.read_only && self.query.trim_start().starts_with(MARK)
    }

    /// Since when it is open. The server says it in the session's time zone, which is UTC.
    fn since(&self) -> Option<Timestamp> {
        format!("{}Z", self.started.replace(' ', "T")).parse().ok()
    }
}

/// Whether a person says that this session writes no references. One of which nothing is known is none of those.
fn is_ignored(who: &Who, ignored: &[Ignored]) -> bool {
    ignored.iter().any(|i| match i {
        Ignored::Role(name) => who.role.as_ref() == Some(name),
        Ignored::Application(name) => who.application.as_ref() == Some(name),
    })
}

/// Refuses what this server cannot tell, and an account that must not be ignored.
///
/// # Errors
/// [`Kind::Config`].
pub(super) async fn can_ignore(conn: &mut MySqlConnection, options: &Options) -> Result<()> {
    if options.ignored.is_empty() {
        return Ok(());
    }
    // What stands before the last `@`: a name may hold one.
    let row = sqlx::query("select left(user(), char_length(user()) - char_length(substring_index(user(), '@', -1)) - 1)");
    let user = text(&row.fetch_one(&mut *conn).await.map_err(fault)?, 0)?;
    options.ignores_no_other_than(&user)?;
    let Some(first) = Ignored::applications(&options.ignored).first().copied() else { return Ok(()) };
    let unknown = |e: Error| {
        e.with("in", "barrier")
            .with("ignore", format_args!("{:?}", format!("application:{first}")))
            .hint("write role:USER, or start the server with performance_schema = ON and grant SELECT on performance_schema.session_connect_attrs")
    };
    let row = sqlx::query("select cast(@@performance_schema as signed)").fetch_one(&mut *conn).await.map_err(fault)?;
    if int(&row, 0)? == 0 {
        return Err(unknown(Error::new(
            Kind::Config,
            "this server does not tell how its sessions' applications are called: its performance schema is off",
        )));
    }
    match sqlx::query("select 1 from performance_schema.session_connect_attrs limit 1").fetch_optional(conn).await {
        Ok(_) => Ok(()),
        Err(e) => Err(unknown(
            Error::new(Kind::Config, "how its sessions' applications are called cannot be read on this server").because(fault(e)),
        )),
    }
}

/// Finds out whose these are, and that nobody else's changes come here.
///
/// # Errors
/// When the server does not show its sessions: it could be a replica by now. Who may not see those of others (without PROCESS) sees his own, which is no error.
async fn name(conn: &mut MySqlConnection, seen: &mut [Seen], ignored: &[Ignored]) -> Result<()> {
    let all = session::threads(conn).await?;
    for t in seen.iter_mut() {
        if let Some(thread) = all.iter().find(|thread| thread.id == t.thread) {
            (t.who.role, t.who.address) = (Some(thread.user.clone()), Some(thread.host.clone()));
        }
    }
    if !Ignored::applications(ignored).is_empty() {
        // The 0 of a prepared transaction is no connection, and keeps the list from being empty.
        let threads: Vec<String> = seen.iter().map(|t| t.thread).chain([0]).map(|thread| thread.to_string()).collect();
        let threads = threads.join(", ");
        let sql = format!(
            "select cast(processlist_id as signed), attr_value from performance_schema.session_connect_attrs \
             where attr_name = 'program_name' and processlist_id in ({threads})"
        );
        for row in sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut *conn).await.map_err(fault)? {
            let thread = int(&row, 0)?;
            for t in seen.iter_mut().filter(|t| t.thread == thread) {
                t.who.application = maybe_text(&row, 1)?;
            }
        }
    }
    session::alone_among(conn, &all).await
}

/// See [`super::Database::open_transactions`].
pub(super) async fn open_transactions(db: &Mysql) -> Result<Vec<OpenTransaction>> {
    let wanted = Instant::now();
    let mut watch = db.watch.lock().await;
    if let Some((asked, open)) = &watch.last
        && *asked >= wanted
    {
        return Ok(open.clone());
    }
    let asked = Instant::now();
    // Taken out, so that a look that fails or is cut short takes its locks and its transaction with it.
    let mut conn = match watch.conn.take() {
        Some(mut conn) => {
            if conn.ping().await.is_ok() {
                conn
            } else {
                connect(db).await?
            }
        }
        None => connect(db).await?,
    };
    let mut seen = fresh(&mut conn, &mut watch.read).await?;
    // Afterwards: a connection that changes its user ends its transaction first, so that what is seen of it now is at most too much.
    name(&mut conn, &mut seen, &db.options.ignored).await?;
    watch.conn = Some(conn);
    if seen.len() > TOO_MANY {
        return Err(Error::new(Kind::Busy, "more transactions are open than the server can list for sure").with("open", seen.len()));
    }
    // What is prepared has left its connection, or will have: nothing is known of who commits it.
    seen.retain(|t| t.thread == 0 || !is_ignored(&t.who, &db.options.ignored));
    let open = remember(&mut watch, seen);
    watch.last = Some((asked, open.clone()));
    Ok(open)
}

/// A transaction's key is its connection and its start: its id changes when it writes for the first time. A prepared one that has left its
/// connection is known by its id, and, when it is seen like that for the first time, by every key that went away since the last look: one of them
/// is its own.
fn remember(watch: &mut Watch, seen: Vec<Seen>) -> Vec<OpenTransaction> {
    let mut open = Vec::new();
    let mut attached = BTreeSet::new();
    for t in seen.iter().filter(|t| t.thread != 0) {
        let key = format!("connection {} since {}", t.thread, t.started);
        let query = if t.query.is_empty() { String::new() } else { format!(": {}", t.query) };
        let Who { role, application, address, .. } = &t.who;
        let who = [("user", role), ("application", application), ("from", address)];
        let who: String = who.iter().filter_map(|(word, name)| Some(format!(", {word} {}", name.as_ref()?))).collect();
        open.push(OpenTransaction {
            description: format!("connection {}{who}, open since {} UTC, {}{query}", t.thread, t.started, t.state.to_lowercase()),
            key: key.clone(),
            since: t.since(),
            who: Who { session: Some(t.thread), ..t.who.clone() },
        });
        attached.insert(key);
    }
    let gone: BTreeSet<String> = watch.attached.difference(&attached).cloned().collect();
    let mut detached = BTreeMap::new();
    for t in seen.iter().filter(|t| t.thread == 0) {
        let keys = watch.detached.remove(&t.id).unwrap_or_else(|| gone.clone());
        let description = format!("prepared (XA) transaction {}, open since {} UTC: XA RECOVER lists it", t.id, t.started);
        let prepared = |key: String| OpenTransaction { key, description: description.clone(), since: t.since(), who: Who::default() };
        open.push(prepared(format!("prepared {}", t.id)));
        open.extend(keys.iter().cloned().map(prepared));
        detached.insert(t.id.clone(), keys);
    }
    watch.attached = attached;
    watch.detached = detached;
    open
}

/// A connection that looks. The transaction of a worker that was stopped in the middle of a look would be waited for by all others.
async fn connect(db: &Mysql) -> Result<MySqlConnection> {
    let mut conn = db.own_connection().await?;
    session::never_silent(&mut conn).await?;
    Ok(conn)
}

/// Waits for the next of the moments `apart` (microseconds) that is `rest` away at least.
fn rest_until(apart: u32, rest: Duration) -> String {
    let left = format!("({apart} - mod(microsecond(sysdate(6)), {apart}))");
    // A division of whole numbers has as many digits as `div_precision_increment` says; with 0 this would not wait at all, and keep the list old.
    format!("do sleep(({left} + if({left} < {}, {apart}, 0)) * 1e-6)", rest.as_micros())
}

/// Asks until the answer is fresh. `read`: when the list was read last.
async fn fresh(conn: &mut MySqlConnection, read: &mut Option<Instant>) -> Result<Vec<Seen>> {
    let until = Instant::now() + PATIENCE;
    let row = sqlx::raw_sql("select cast(connection_id() as signed)").fetch_one(&mut *conn).await.map_err(fault)?;
    let me = int(&row, 0)?;
    let nonce = format!("{MARK}{:032x} */", rand::random::<u128>());
    // WITH CONSISTENT SNAPSHOT begins a transaction of ours at once, but only under REPEATABLE READ.
    let begin = "set transaction isolation level repeatable read; start transaction with consistent snapshot, read only";
    sqlx::raw_sql(begin).execute(&mut *conn).await.map_err(fault)?;
    let look = format!("{nonce} {}", include_str!("transactions.sql"));
    for nth in 0_u32.. {
        let rest = read.map_or(Duration::ZERO, |read| CACHED.saturating_sub(read.elapsed()));
        let sql = match rest.is_zero() {
            true => look.clone(),
            // In one go with the look, so that our transaction is never without a statement when all who wait ask at once.
            false => format!("{nonce} {}; {look}", rest_until(if nth < TRIES { MOMENTS.0 } else { MOMENTS.1 }, rest)),
        };
        let found = ask(conn, me, &nonce, sql).await;
        *read = Some(Instant::now());
        if let Some(found) = found? {
            sqlx::raw_sql("rollback").execute(conn).await.map_err(fault)?;
            return Ok(found);
        }
        if Instant::now() > until {
            break;
        }
    }
    Err(Error::new(Kind::Busy, "the server's list of open transactions stayed out of date, or could not be read").hint(
        "something reads information_schema.innodb_trx more than nine times a second: let it ask less often. Or, on MySQL, a transaction runs a long statement with an \
         emoji in it: the list cannot be read before that ends",
    ))
}

/// One look; `None` if what came is older than our transaction.
async fn ask(conn: &mut MySqlConnection, me: i64, nonce: &str, sql: String) -> Result<Option<Vec<Seen>>> {
    let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut *conn).await;
    let mut ours = false;
    let mut found = Vec::new();
    let rows = match rows {
        // The statement that it cannot show is one of an open transaction, or will be over in a moment.
        Err(e) if fault::number(&e) == Some(fault::UNSHOWN) => return Ok(None),
        rows => rows.map_err(fault)?,
    };
    for row in rows {
        let t = Seen {
            id: text(&row, 0)?,
            thread: int(&row, 1)?,
            started: text(&row, 2)?,
            state: text(&row, 3)?,
            query: text(&row, 4)?,
            read_only: int(&row, 5)? != 0,
            who: Who::default(),
        };
        // It became a replica under our feet, or is to become one.
        if !matches!(&*text(&row, 6)?, "0" | "OFF") {
            return Err(fault::read_only());
        }
        if t.thread == me {
            ours |= t.query.contains(nonce);
        // The server's own reads, without a connection and without a true id (0 on MariaDB, an address above 2^48 on MySQL).
        } else if !t.looks_too() && (t.thread != 0 || !t.id.parse::<u64>().is_ok_and(|id| id == 0 || id >= 1 << 48)) {
            found.push(t);
        }
    }
    Ok(ours.then_some(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(id: &str, thread: i64, started: &str) -> Seen {
        Seen {
            id: id.into(),
            thread,
            started: started.into(),
            state: "RUNNING".into(),
            query: String::new(),
            read_only: false,
            who: Who::default(),
        }
    }

    fn keys(open: &[OpenTransaction]) -> BTreeSet<String> {
        open.iter().map(|t| t.key.clone()).collect()
    }

    #[test]
    fn only_a_session_that_is_known_is_ignored() {
        let who = |role: Option<&str>, application: Option<&str>| Who {
            role: role.map(str::to_owned),
            application: application.map(str::to_owned),
            ..Who::default()
        };
        let ignored = ["role:reporting", "application:metabase"].map(|text| Ignored::parse(text).unwrap());
        assert!(is_ignored(&who(Some("reporting"), None), &ignored) && is_ignored(&who(Some("app"), Some("metabase")), &ignored));
        for other in
            [who(None, None), who(Some("metabase"), Some("reporting")), who(Some("Reporting"), None), who(Some("reporting "), None)]
        {
            assert!(!is_ignored(&other, &ignored), "{other:?}");
        }
        assert_eq!(seen("1", 5, "2026-11-21 12:00:00").since(), "2026-11-21T12:00:00Z".parse().ok());
    }

    #[test]
    fn only_a_look_that_cannot_write_is_left_out() {
        let look = |read_only, query: &str| Seen { read_only, query: query.into(), ..seen("0", 5, "2026-11-21 12:00:00") }.looks_too();
        assert!(look(true, "/* rowbound 00ff */ select 1"));
        assert!(!look(false, "/* rowbound 00ff */ insert into doc values (1)"));
        assert!(!look(true, "select 1 /* rowbound 00ff */") && !look(true, ""));
    }

    #[test]
    fn a_transaction_keeps_its_key_when_it_writes_and_when_it_is_prepared() {
        let mut watch = Watch::default();
        let first = keys(&remember(&mut watch, vec![seen("0", 5, "12:00:00"), seen("0", 6, "12:00:00")]));
        // It wrote, was prepared and left its connection, all between two looks; the other ended.
        let second = keys(&remember(&mut watch, vec![seen("77", 0, "12:00:00")]));
        assert!(!first.is_disjoint(&second));
        let third = keys(&remember(&mut watch, vec![seen("77", 0, "12:00:00")]));
        assert_eq!(second, third);
        assert!(remember(&mut watch, vec![]).is_empty() && watch.detached.is_empty());
    }
}
