//! A session of ours: which server answers, and what the session is.
//!
//! In: what we connect with. Out: sessions whose variables are ours alone, and what the server is. Promise: a server that only looks like MySQL or MariaDB,
//! one of several primaries, a replica, and one that reads on over damaged pages are refused by name.

use std::{collections::BTreeMap, time::Duration};

use sqlx::{
    AssertSqlSafe, ConnectOptions, MySqlConnection,
    mysql::{MySqlConnectOptions, MySqlRow},
};

use super::{Flavor, fault, int, maybe_text, text};
use crate::{
    database::{Options, kin, pool},
    error::{Error, Kind, Result},
};

/// For how long a connection that holds something for others may be silent. Its process was stopped, and the server frees what it held.
const SILENT: Duration = Duration::from_secs(60);

/// What our connections have in common.
pub(super) fn ours(connect: MySqlConnectOptions) -> MySqlConnectOptions {
    // A statement that looks for names holds all of them: nothing for a log. `prepare` names the character set, without the collation that an
    // application may have named for another one.
    let connect = connect.disable_statement_logging().charset("utf8mb4").set_names(false);
    connect.timezone(Some("+00:00".to_owned())).pipes_as_concat(false).no_engine_substitution(false)
}

/// A connection that belongs to no pool.
///
/// # Errors
/// [`Kind::DatabaseUnreachable`] when nobody answers in time; what the server says.
pub(super) async fn open(connect: &MySqlConnectOptions, options: &Options) -> Result<MySqlConnection> {
    let opened = tokio::time::timeout(options.connect_timeout, async {
        let mut conn = connect.connect().await?;
        prepare(&mut conn).await?;
        Ok::<_, sqlx::Error>(conn)
    });
    opened.await.map_err(|_| late(options))?.map_err(fault)
}

fn late(options: &Options) -> Error {
    Error::new(Kind::DatabaseUnreachable, "the database did not answer in time")
        .with("connect_timeout", format_args!("{:?}", options.connect_timeout))
}

/// Lets the server end the session when it has been silent for [`SILENT`].
pub(super) async fn never_silent(conn: &mut MySqlConnection) -> Result<()> {
    let sql = format!("set session wait_timeout = {}", SILENT.as_secs());
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(conn).await.map_err(fault)?;
    Ok(())
}

/// What every session of ours is, whatever the server's defaults and `init_connect` say: it runs after both. Every variable is set that decides
/// which rows or values come, or how a statement ends, and that an ordinary account may set.
///
/// Named values, because `DEFAULT` is the server-wide setting here, which is just what is to be undone. `tests/mysql/sessions.rs` compares every variable
/// of a session with what it should be.
pub(super) async fn prepare(conn: &mut MySqlConnection) -> sqlx::Result<()> {
    sqlx::raw_sql(include_str!("session.sql")).execute(conn).await?;
    Ok(())
}

/// What the server is.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) flavor: Flavor,
    /// The database of the URL, as the server spells it.
    pub(super) database: String,
}

/// Looks who answers. Nothing is set before it is known to be a server that we know.
///
/// # Errors
/// [`Kind::Config`] with the name of what only looks like MySQL, of a cluster or a proxy; for a server that is too old, and one that reads on over damaged
/// pages. [`Kind::DatabaseUnreachable`] for a replica.
pub(super) async fn look(connect: &MySqlConnectOptions, options: &Options) -> Result<Server> {
    let connected = tokio::time::timeout(options.connect_timeout, connect.connect()).await.map_err(|_| late(options))?;
    let mut conn = connected.map_err(fault)?;
    let row = ask(&mut conn, "select version(), @@version_comment, database()").await?;
    let row = row.first().ok_or_else(|| Error::new(Kind::Database, "the server does not say which version it is"))?;
    let (version, comment, database) = (text(row, 0)?, maybe_text(row, 1)?.unwrap_or_default(), text(row, 2)?);
    let flavor = if kin::is_mariadb(&version, &comment)? { Flavor::Mariadb } else { Flavor::Mysql };
    // JSON_TABLE settles a batch; MariaDB has it since 10.6, MySQL since 8.0.
    let number: Vec<u32> = version.split(['.', '-']).map_while(|part| part.parse().ok()).collect();
    let least: &[u32] = if flavor == Flavor::Mariadb { &[10, 6] } else { &[8, 0] };
    if number.len() < 2 || number[..2] < *least {
        return Err(Error::new(Kind::Config, "this server is too old")
            .with("version", version)
            .hint("Rowbound needs MariaDB 10.6 or MySQL 8.0, or later"));
    }
    // A limit on rows would hide the thread by which a replica is known.
    prepare(&mut conn).await.map_err(fault)?;
    takes_the_writes_alone(&mut conn).await?;
    super::watch::can_ignore(&mut conn, options).await?;
    pool::goodbye(conn).await;
    Ok(Server { flavor, database })
}

async fn ask(conn: &mut MySqlConnection, sql: &'static str) -> Result<Vec<MySqlRow>> {
    sqlx::raw_sql(sql).fetch_all(conn).await.map_err(fault)
}

/// Insists that all writes come from this server's own sessions, and all rows can be read.
async fn takes_the_writes_alone(conn: &mut MySqlConnection) -> Result<()> {
    // SHOW knows no error for a variable that the server does not have.
    let rows = ask(
        conn,
        "show global variables where variable_name in
         ('wsrep_on', 'wsrep_provider', 'read_only', 'super_read_only', 'innodb_read_only', 'innodb_force_recovery')",
    )
    .await?;
    let mut has = BTreeMap::new();
    for row in rows {
        has.insert(text(&row, 0)?.to_ascii_lowercase(), text(&row, 1)?);
    }
    let is_on = |name: &str| has.get(name).is_some_and(|is| !["", "0", "OFF", "none"].iter().any(|off| is.eq_ignore_ascii_case(off)));
    // A server that was built for a cluster, but is in none, has no provider.
    if is_on("wsrep_on") && is_on("wsrep_provider") {
        return Err(kin::several_primaries("a Galera cluster"));
    }
    for read_only in ["read_only", "super_read_only", "innodb_read_only"] {
        if is_on(read_only) {
            return Err(fault::read_only().with("variable", read_only));
        }
    }
    if is_on("innodb_force_recovery") {
        return Err(Error::new(Kind::Config, "this server reads on over damaged pages: rows may be missing without an error")
            .with("variable", "innodb_force_recovery")
            .hint("repair the server, and start it without innodb_force_recovery"));
    }
    let threads = threads(conn).await?;
    alone_among(conn, &threads).await
}

/// A thread of the server, as far as we may see it: without PROCESS our own account's.
#[derive(Debug)]
pub(super) struct Thread {
    pub id: i64,
    pub user: String,
    pub host: String,
    pub database: String,
    command: String,
    state: String,
    /// The beginning of its statement.
    info: String,
}

/// The server's threads. Not out of `information_schema.processlist`: its texts are utf8mb3, and MySQL answers with an error while any session runs a statement with a
/// character outside of that, an emoji (3854, seen on 9.7).
pub(super) async fn threads(conn: &mut MySqlConnection) -> Result<Vec<Thread>> {
    let rows = ask(conn, "show processlist").await?;
    let thread = |row: &MySqlRow| {
        let text = |column| Ok::<_, Error>(maybe_text(row, column)?.unwrap_or_default());
        // Id, User, Host, db, Command, Time, State, Info.
        let (user, host, database) = (text(1)?, text(2)?, text(3)?);
        Ok(Thread { id: int(row, 0)?, user, host, database, command: text(4)?, state: text(6)?, info: text(7)? })
    };
    rows.iter().map(thread).collect()
}

/// Refuses what the server's own threads stand for.
pub(super) async fn alone_among(conn: &mut MySqlConnection, threads: &[Thread]) -> Result<()> {
    let own = threads.iter().filter(|t| t.user == "system user");
    let for_whom: Vec<_> = own.filter_map(|t| told_by(&t.command, &t.state, &t.info)).collect();
    if for_whom.contains(&Replication::Source) {
        return Err(Error::new(
            Kind::DatabaseUnreachable,
            "this server takes over what another one writes: rows that were committed there may not have arrived here yet",
        )
        .hint(
            "name the primary's host in `database`; two primaries that copy from each other cannot be used. If this is the primary, and it takes over other \
             schemas or nothing any more: Rowbound cannot tell whose rows they are. End that with STOP REPLICA; RESET REPLICA ALL, or move the other schemas to \
             a server of their own",
        ));
    }
    if for_whom.contains(&Replication::Group) {
        let modes = ask(conn, "show global variables like 'group_replication_single_primary_mode'").await?;
        if modes.first().map(|row| text(row, 1)).transpose()?.is_none_or(|mode| !mode.eq_ignore_ascii_case("ON")) {
            return Err(kin::several_primaries("a group replication group in multi-primary mode"));
        }
    }
    Ok(())
}

/// Whom a thread works for.
#[derive(Debug, PartialEq, Eq)]
enum Replication {
    /// A source (a master), whose changes come here.
    Source,
    /// The members of a group.
    Group,
}

/// What a thread of user `system user` is. The thread that reads from a source says so in its state, whatever it does just now
/// (<https://dev.mysql.com/doc/refman/8.4/en/replica-io-thread-states.html>, <https://mariadb.com/kb/en/replica-io-thread-states/>).
fn told_by(command: &str, state: &str, info: &str) -> Option<Replication> {
    let (command, state, info) = (command.to_lowercase(), state.to_lowercase(), info.to_lowercase());
    if command.starts_with("slave_io") || command.starts_with("slave_sql") || state.contains("source") || state.contains("master") {
        return Some(Replication::Source);
    }
    info.contains("group replication").then_some(Replication::Group)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `SHOW PROCESSLIST` shows them.
    #[test]
    fn threads_of_replication_are_told_apart() {
        for (command, state, info, is) in [
            ("Slave_IO", "Waiting for master to send event", "", Some(Replication::Source)), // MariaDB
            ("Slave_SQL", "Slave has read all relay log; waiting for more updates", "", Some(Replication::Source)),
            ("Connect", "Waiting for source to send event", "", Some(Replication::Source)), // MySQL 8.0.26 and later
            ("Connect", "Waiting for master to send event", "", Some(Replication::Source)),
            ("Connect", "Reconnecting after a failed source event read", "", Some(Replication::Source)),
            ("Connect", "waiting for handler commit", "Group replication applier module", Some(Replication::Group)),
            ("Query", "Replica has read all relay log; waiting for more updates", "", None), // of a group's member, too
            ("Daemon", "InnoDB purge coordinator", "", None),
            ("Sleep", "wsrep aborter idle", "", None), // of a Galera node, which is told by its variables
        ] {
            assert_eq!(told_by(command, state, info), is, "{command} {state} {info}");
        }
    }
}
