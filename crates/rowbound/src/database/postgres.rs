//! PostgreSQL 14 and later.
//!
//! In: a URL and the plan's bindings. Out: the contract of [`Database`]. Everything of ours stands in schema `rowbound`; capture
//! writes there as its owner, so the application's roles need no right. A claim is a visibility timeout in the candidate's row,
//! the barrier reads who is open from `pg_locks`, and a check reads every column in one snapshot.

use std::{collections::HashSet, fmt::Display, str::FromStr, time::Instant};

use sqlx::{
    AssertSqlSafe, Connection as _, Executor as _, PgConnection, PgPool, Row,
    postgres::{PgConnectOptions, PgPoolOptions, PgRow},
};

use self::{
    tables::{Member, Table, ident},
    triggers::Step,
};
use super::*;
use crate::{binding::Body, capture::Blind, error::Retry};

mod tables;
mod triggers;

/// What every session of ours is called in `pg_stat_activity`.
const APPLICATION: &str = "rowbound";

/// "rowbound" in ASCII: the advisory lock that lets one attach or detach work at a time.
const INSTALL_LOCK: i64 = 0x726f_7762_6f75_6e64;

/// The oldest server whose `CREATE OR REPLACE TRIGGER` we can use.
const OLDEST: i32 = 140_000;

/// Settings of a session, whatever the role's own are.
///
/// `synchronous_commit`: what a claim or a check saw must be on disk before a file goes. Another session may commit without waiting
/// for that, and after a crash its row would be back; our own commit, which comes later, takes everything before it to the disk.
/// The role's `search_path` is kept for unqualified tables and then closed, so that no function or operator of ours means another's.
const SESSION: &str = "
    select set_config('rowbound.schemas', current_schemas(false)::text, false);
    select set_config('search_path', 'pg_catalog, pg_temp', false),
        set_config('synchronous_commit', case current_setting('synchronous_commit') when 'remote_apply' then 'remote_apply' else 'on' end, false),
        set_config('default_transaction_isolation', 'read committed', false),
        set_config('standard_conforming_strings', 'on', false),
        set_config('jit', 'off', false)";

/// How long a check waits for a migration that holds a bound table.
const CHECK_LOCK_TIMEOUT: &str = "5s";

/// A PostgreSQL database.
#[derive(Debug)]
pub struct Postgres {
    pool: PgPool,
    options: Options,
}

/// What is done under the install lock.
#[derive(Clone, Copy)]
enum Job<'a> {
    Install(&'a [Bound], &'a Installation),
    Remove,
}

impl Postgres {
    /// Opens it.
    ///
    /// # Errors
    /// [`Kind::Config`] for a URL that does not parse, a database that does not exist or a server that is too old,
    /// [`Kind::DatabaseUnreachable`] when nobody answers within [`Options::connect_timeout`] or the server is a standby,
    /// [`Kind::Permission`] when it does not let us in, [`Kind::Schema`] when it does not store UTF-8.
    pub async fn open(url: &str, options: &Options) -> Result<Self> {
        let place = |e: Error| e.with("database", redact(url));
        let connect = PgConnectOptions::from_str(url)
            .map_err(|e| place(Error::new(Kind::Config, "`database` is no PostgreSQL URL").because(e)))?
            .application_name(APPLICATION);
        // The pool would hide why a connection fails; the first one is made without it.
        let first = async {
            let mut conn = PgConnection::connect_with(&connect).await?;
            let row: (bool, i32, String, String) = sqlx::query_as(
                "select pg_is_in_recovery(), current_setting('server_version_num')::int4, current_setting('server_version'),
                     current_setting('server_encoding')",
            )
            .fetch_one(&mut conn)
            .await?;
            conn.close().await?;
            Ok(row)
        };
        let (standby, version, shown, encoding) = match tokio::time::timeout(options.connect_timeout, first).await {
            Ok(Ok(row)) => row,
            Ok(Err(e)) => return Err(place(failed("cannot connect", e))),
            Err(_) => {
                return Err(place(
                    Error::new(Kind::DatabaseUnreachable, format!("no connection within {:?}", options.connect_timeout))
                        .hint("check host and port, and that the server is running"),
                ));
            }
        };
        if version < OLDEST {
            return Err(place(
                Error::new(Kind::Config, "this PostgreSQL is too old").with("version", shown).hint("PostgreSQL 14 or later is needed"),
            ));
        }
        if standby {
            return Err(place(standing_by()));
        }
        if encoding != "UTF8" {
            return Err(place(
                Error::new(Kind::Schema, "the database's encoding is not UTF8: a row could not hold every file's name, byte for byte")
                    .with("encoding", encoding)
                    .hint("dump it and restore it into a database with encoding UTF8"),
            ));
        }
        let pool = PgPoolOptions::new()
            .max_connections(options.connections.max(2))
            .acquire_timeout(options.connect_timeout)
            // A role's settings, its search_path among them, are read when a connection begins.
            .max_lifetime(Duration::from_secs(1800))
            .after_connect(|conn, _| Box::pin(async move { conn.execute(SESSION).await.map(drop) }))
            .connect_lazy_with(connect);
        Ok(Postgres { pool, options: options.clone() })
    }

    async fn conn(&self) -> Result<sqlx::pool::PoolConnection<sqlx::Postgres>> {
        self.pool.acquire().await.map_err(|e| failed("cannot connect", e))
    }

    async fn begin(&self, how: &'static str) -> Result<sqlx::Transaction<'static, sqlx::Postgres>> {
        self.pool.begin_with(how).await.map_err(|e| failed("cannot begin a transaction", e))
    }

    /// Runs `job` until its locks are had. Between two tries everything is released, so that whoever queued behind us passes.
    async fn patiently(&self, job: Job<'_>) -> Result<Option<Installation>> {
        let until = Instant::now() + self.options.lock_patience;
        let mut pause = Duration::from_millis(50);
        loop {
            let mut touched = Vec::new();
            let error = match self.attempt(job, &mut touched).await {
                Err(e) if e.kind() == Kind::Busy => e,
                other => return other,
            };
            if Instant::now() + pause >= until {
                return Err(match self.blockers(&touched).await? {
                    blockers if blockers.is_empty() => error,
                    blockers => error.with("held by", blockers.join("; ")),
                }
                .hint("nothing was changed; wait for that session, end it, or try again at a quieter time"));
            }
            tokio::time::sleep(pause.mul_f64(0.5 + 0.5 * rand::random::<f64>())).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }

    async fn attempt(&self, job: Job<'_>, touched: &mut Vec<i64>) -> Result<Option<Installation>> {
        let mut tx = self.begin("begin isolation level read committed").await?;
        let (alone,): (bool,) = sqlx::query_as("select pg_try_advisory_xact_lock($1)")
            .bind(INSTALL_LOCK)
            .fetch_one(&mut *tx)
            .await
            .map_err(|e| failed("cannot take the install lock", e))?;
        if !alone {
            return Err(Error::new(Kind::Busy, "another attach or detach is at work on this database"));
        }
        let ours = triggers::ours(&mut tx).await?;
        let steps = match job {
            Job::Install(bound, _) => triggers::install_steps(&tables::tables(&mut tx, bound).await?, &ours),
            Job::Remove => triggers::remove_steps(&ours),
        };
        *touched = steps.iter().filter_map(|s| s.locks).collect();
        run_steps(&mut tx, &steps, self.options.lock_timeout).await?;
        let record = match job {
            Job::Install(bound, record) => {
                let record = Installation { snapshot: snapshot_of(&mut tx, bound).await?, ..record.clone() };
                store(&mut tx, &record).await?;
                Some(record)
            }
            Job::Remove => None,
        };
        tx.commit().await.map_err(|e| failed("cannot commit", e))?;
        Ok(record)
    }

    /// Who holds locks on these tables, as far as we may see it.
    async fn blockers(&self, touched: &[i64]) -> Result<Vec<String>> {
        sqlx::query_scalar(
            "with recursive family(oid) as (
                 select t::oid from unnest($1::int8[]) as t union select i.inhrelid from family f join pg_inherits i on i.inhparent = f.oid
             )
             select distinct concat_ws(', ', 'pid ' || l.pid, 'role ' || a.usename, a.state, 'query ' || left(a.query, 200),
                 (select 'prepared transaction ' || p.gid from pg_prepared_xacts p where l.virtualtransaction = '-1/' || p.transaction limit 1))
             from pg_locks l
             join family f on f.oid = l.relation
             left join pg_stat_activity a on a.pid = l.pid
             where l.locktype = 'relation' and l.granted and l.mode <> 'AccessShareLock' and l.pid is distinct from pg_backend_pid()
                 and l.database = (select oid from pg_database where datname = current_database())
             limit 3",
        )
        .bind(touched)
        .fetch_all(&self.pool)
        .await
        .map_err(|e| failed("cannot see who holds the tables", e))
    }
}

/// Runs statements. From the first lock on a table of the application to the last, waiting takes at most `budget` in all:
/// whoever queues behind us waits no longer.
async fn run_steps(tx: &mut PgConnection, steps: &[Step], budget: Duration) -> Result<()> {
    let mut began: Option<Instant> = None;
    for step in steps {
        let wait = match step.locks {
            Some(_) => budget.saturating_sub(began.get_or_insert_with(Instant::now).elapsed()),
            None => budget,
        };
        // Zero would mean for ever.
        let sql = format!("set local lock_timeout = {}; {}", wait.as_millis().clamp(1, 1 << 30), step.sql);
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut *tx)
            .await
            .map_err(|e| failed("a statement failed", e).with("statement", &step.sql))?;
    }
    Ok(())
}

async fn store(conn: &mut PgConnection, record: &Installation) -> Result<()> {
    let text =
        serde_json::to_string(record).map_err(|e| Error::new(Kind::Database, "cannot write the installation's record").because(e))?;
    sqlx::query(
        "insert into rowbound.installation (id, record) values (1, $1::text::jsonb) on conflict (id) do update set record = excluded.record",
    )
    .bind(text)
    .execute(conn)
    .await
    .map_err(|e| failed("cannot store the installation's record", e))?;
    Ok(())
}

/// The snapshot as `conn`'s transaction sees it.
async fn snapshot_of(conn: &mut PgConnection, bound: &[Bound]) -> Result<Snapshot> {
    let shown = |part: &str| if part.contains(['.', '"']) { ident(part) } else { part.to_owned() };
    let label = |schema: Option<&str>, table: &str| schema.into_iter().chain([table]).map(shown).collect::<Vec<_>>().join(".");
    let tables = by_table(bound);
    let columns: Vec<_> = bound.iter().map(|b| &b.binding.column).collect();
    let rows = sqlx::query(include_str!("postgres/snapshot.sql"))
        .bind(tables.keys().map(|(s, t)| label(s.as_deref(), t)).collect::<Vec<_>>())
        .bind(tables.keys().map(|(s, _)| s.clone()).collect::<Vec<_>>())
        .bind(tables.keys().map(|(_, t)| t.clone()).collect::<Vec<_>>())
        .bind(tables.values().map(|of| of.iter().all(|b| b.binding.body == Body::Fast)).collect::<Vec<_>>())
        .bind(columns.iter().map(|c| label(c.schema.as_deref(), &c.table)).collect::<Vec<_>>())
        .bind(columns.iter().map(|c| c.column.clone()).collect::<Vec<_>>())
        .bind(columns.iter().map(|c| shown(&c.column)).collect::<Vec<_>>())
        .fetch_all(conn)
        .await
        .map_err(|e| failed("cannot read what stands", e))?;
    let items = rows.iter().map(|row| Ok((row.try_get("item")?, row.try_get("text")?))).collect::<sqlx::Result<_>>();
    Ok(Snapshot(items.map_err(|e| failed("cannot read what stands", e))?))
}

#[async_trait]
impl Database for Postgres {
    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    /// The server's system identifier, which a dump does not carry, and the database's own number, which a copy made by
    /// `CREATE DATABASE .. TEMPLATE` does not share. A copy of the server's files has the same.
    async fn identity(&self) -> Result<String> {
        let error = |e| failed("cannot read the database's identity", e);
        let mut conn = self.conn().await?;
        let (readable, database): (bool, String) = sqlx::query_as(
            "select has_function_privilege('pg_control_system()', 'execute'), oid || ' ' || datname from pg_database where datname = current_database()",
        )
        .fetch_one(&mut *conn)
        .await
        .map_err(error)?;
        let system: String = if readable {
            sqlx::query_scalar("select system_identifier::text from pg_control_system()").fetch_one(&mut *conn).await.map_err(error)?
        } else {
            "unreadable".to_owned()
        };
        Ok(format!("postgresql {system} {database}"))
    }

    async fn installation(&self) -> Result<Option<Installation>> {
        let error = |e| failed("cannot read the installation's record", e);
        let mut conn = self.conn().await?;
        // Asked of the catalogs, so that a missing right is not read as a missing table.
        let (there,): (bool,) = sqlx::query_as(
            "select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
             where n.nspname = 'rowbound' and c.relname = 'installation')",
        )
        .fetch_one(&mut *conn)
        .await
        .map_err(error)?;
        if !there {
            return Ok(None);
        }
        let record: Option<String> =
            sqlx::query_scalar("select record::text from rowbound.installation").fetch_optional(&mut *conn).await.map_err(error)?;
        record.map(|text| read_record(&text)).transpose()
    }

    async fn inspect(&self, bound: &[Bound]) -> Result<Inspection> {
        let mut conn = self.conn().await?;
        let (role, database, creatable, owner, owned): (String, String, bool, Option<String>, bool) = sqlx::query_as(
            "select current_user::text, d.datname::text,
                 has_database_privilege(d.oid, 'create'), pg_get_userbyid(n.nspowner)::text, coalesce(pg_has_role(n.nspowner, 'usage'), false)
             from pg_database d left join pg_namespace n on n.nspname = 'rowbound' where d.datname = current_database()",
        )
        .fetch_one(&mut *conn)
        .await
        .map_err(|e| failed("cannot look at the database", e))?;
        let mut inspection = Inspection::default();
        let columns: Vec<_> = bound.iter().map(|b| &b.binding.column).collect();
        let resolved = tables::resolve(&mut conn, &columns).await?;
        for (b, r) in bound.iter().zip(&resolved) {
            let column = &b.binding.column;
            tables::usable(column, r)?;
            tables::readable(column, r, &role)?;
            if !r.indexed && r.rows > 100_000.0 {
                inspection.warnings.push(format!(
                    "{column} has no index and about {:.0} rows: each batch reads the whole table; \
                     `create index concurrently on {} using hash ({})` helps",
                    r.rows,
                    r.table_sql(),
                    ident(&column.column)
                ));
            }
        }
        for table in tables::tables(&mut conn, bound).await? {
            for m in &table.members {
                for (has, right) in [(m.can_select, "SELECT"), (m.can_trigger, "TRIGGER")] {
                    if !has {
                        return Err(Error::new(Kind::Permission, format!("the right {right} on a bound table is missing"))
                            .with("table", m.sql())
                            .hint(format!("GRANT SELECT, TRIGGER ON {} TO {}", m.sql(), ident(&role))));
                    }
                }
            }
            let unlogged = resolved.iter().any(|r| r.oid == Some(table.oid) && r.unlogged);
            not_seen(&table, unlogged, &role, &mut inspection);
        }
        match owner {
            None if !creatable => Err(Error::new(Kind::Permission, "schema rowbound may not be created")
                .with("role", &role)
                .hint(format!("GRANT CREATE ON DATABASE {} TO {}", ident(&database), ident(&role)))),
            Some(owner) if !owned => Err(Error::new(Kind::Permission, "schema rowbound belongs to another role")
                .with("owner", &owner)
                .hint(format!("connect as {owner}, or GRANT {} TO {}", ident(&owner), ident(&role)))),
            _ => Ok(inspection),
        }
    }

    async fn script(&self, bound: &[Bound]) -> Result<Vec<String>> {
        let mut tx = self.begin("begin isolation level repeatable read, read only").await?;
        let ours = triggers::ours(&mut tx).await?;
        let tables = tables::tables(&mut tx, bound).await?;
        Ok(triggers::install_steps(&tables, &ours).into_iter().map(|s| s.sql).collect())
    }

    async fn install(&self, bound: &[Bound], record: &Installation) -> Result<Installation> {
        let installed = self.patiently(Job::Install(bound, record)).await?;
        installed.ok_or_else(|| Error::new(Kind::Database, "attach left no record"))
    }

    async fn record(&self, record: &Installation) -> Result<()> {
        store(&mut *self.conn().await?, record).await
    }

    async fn remove(&self) -> Result<()> {
        self.patiently(Job::Remove).await.map(drop)
    }

    async fn remove_script(&self) -> Result<Vec<String>> {
        let ours = triggers::ours(&mut *self.conn().await?).await?;
        Ok(triggers::remove_steps(&ours).into_iter().map(|s| s.sql).collect())
    }

    async fn snapshot(&self, bound: &[Bound]) -> Result<Snapshot> {
        snapshot_of(&mut *self.conn().await?, bound).await
    }

    async fn claim(&self, claim: &Claim) -> Result<Vec<Candidate>> {
        // Not prepared once for all: a plan made while the queue was empty would be kept for a full one.
        let rows = sqlx::query(include_str!("postgres/claim.sql"))
            .persistent(false)
            .bind(&claim.storage)
            .bind(micros(claim.grace))
            .bind(i64::from(claim.limit))
            .bind(&claim.owner)
            .bind(micros(claim.lease))
            .bind(claim.not_due_too)
            .fetch_all(&self.pool)
            .await
            .map_err(|e| failed("cannot claim candidates", e))?;
        let candidate = |row: &PgRow| -> sqlx::Result<Candidate> {
            Ok(Candidate {
                id: row.try_get("id")?,
                binding: row.try_get("binding")?,
                value: row.try_get::<String, _>("value")?.into_bytes(),
                key: row.try_get("key")?,
                event: row.try_get("event")?,
                released_at: time(row.try_get("released_at")?)?,
                attempts: count(row.try_get("attempts")?)?,
            })
        };
        let mut candidates: Vec<_> =
            rows.iter().map(candidate).collect::<sqlx::Result<_>>().map_err(|e| failed("cannot read the candidates", e))?;
        candidates.sort_by_key(|c| (c.released_at, c.id));
        Ok(candidates)
    }

    async fn next_due(&self, claim: &Claim) -> Result<Option<Duration>> {
        let wait: Option<i64> = sqlx::query_scalar(include_str!("postgres/next_due.sql"))
            .bind(&claim.storage)
            .bind(micros(claim.grace))
            .bind(claim.not_due_too)
            .fetch_one(&self.pool)
            .await
            .map_err(|e| failed("cannot look at the queue", e))?;
        Ok(wait.map(|us| Duration::from_micros(us.max(0).cast_unsigned())))
    }

    async fn open_transactions(&self) -> Result<Vec<OpenTransaction>> {
        let rows: Vec<(String, String)> = sqlx::query_as(include_str!("postgres/open_transactions.sql"))
            .fetch_all(&self.pool)
            .await
            .map_err(|e| failed("cannot see the open transactions", e))?;
        Ok(rows.into_iter().map(|(key, description)| OpenTransaction { key, description }).collect())
    }

    /// One snapshot for all columns: under READ COMMITTED a row that moves a name from a column not yet read to one already
    /// read would be missed in both. The tables are locked (ACCESS SHARE) before the snapshot is taken, because DDL and TRUNCATE
    /// do not respect snapshots.
    async fn check(&self, bound: &[Bound], snapshot: &Snapshot, searches: &[ColumnSearch]) -> Result<Checked> {
        // Names first, outside: looking them up would take the snapshot. What changes until the lock is had, the snapshot tells.
        let mut columns: Vec<&Column> = bound.iter().map(|b| &b.binding.column).collect();
        columns.extend(searches.iter().map(|s| &s.column));
        let mut resolved = tables::resolve(&mut *self.conn().await?, &columns).await?;
        let locks: HashSet<_> = resolved.iter().filter(|r| matches!(&*r.kind, "r" | "p")).map(tables::Resolved::table_sql).collect();
        let of_searches = resolved.split_off(bound.len());

        let mut tx = self.begin("begin isolation level repeatable read").await?;
        // An error instead of fewer rows where row security applies.
        let mut sql = format!("set local row_security = off; set local lock_timeout = '{CHECK_LOCK_TIMEOUT}'");
        if !locks.is_empty() {
            sql = format!("{sql}; lock table {} in access share mode", locks.into_iter().collect::<Vec<_>>().join(", "));
        }
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *tx).await.map_err(|e| failed("cannot hold the bound tables", e))?;

        let drift = snapshot.drift(&snapshot_of(&mut tx, bound).await?);
        if !drift.is_empty() {
            return Err(drifted(&drift));
        }

        let mut found = Vec::new();
        for (search, r) in searches.iter().zip(&of_searches) {
            tables::usable(&search.column, r)?;
            for (what, values) in wheres(r, search) {
                let sql = format!("select t.{f}::text from {} t where {what}", r.table_sql(), f = ident(&search.column.column));
                // Planned for these very values: a plan for any values compares an array one by one instead of hashing it.
                let values: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql))
                    .persistent(false)
                    .bind(values)
                    .fetch_all(&mut *tx)
                    .await
                    .map_err(|e| failed("cannot look for references", e).with("column", &search.column))?;
                let distinct: HashSet<String> = values.into_iter().collect();
                found.extend(distinct.into_iter().map(|v| Found { binding: search.binding, value: v.into_bytes() }));
            }
        }
        // What this snapshot saw may have been committed without reaching the disk yet. A record of our own and a commit that waits
        // for it take it there before any file goes; see SESSION.
        let confirmed: Option<String> = sqlx::query_scalar(
            "select case when not pg_is_in_recovery() then pg_logical_emit_message(true, 'rowbound', 'checked')::text end",
        )
        .fetch_one(&mut *tx)
        .await
        .map_err(|e| failed("cannot confirm the check", e))?;
        if confirmed.is_none() {
            return Err(standing_by());
        }
        tx.commit().await.map_err(|e| failed("cannot confirm the check", e))?;
        Ok(Checked { found, hold: None })
    }

    async fn settle(&self, settlement: &Settlement, _hold: Option<Hold>) -> Result<u64> {
        let mut tx = self.begin("begin isolation level read committed").await?;
        let mut count = 0;
        let Settlement { owner, storage, settled, back } = settlement;
        if !settled.is_empty() {
            count = sqlx::query(include_str!("postgres/settle.sql"))
                .persistent(false)
                .bind(owner)
                .bind(storage)
                .bind(settled.iter().map(|s| s.id).collect::<Vec<_>>())
                .bind(settled.iter().map(|s| s.outcome.word()).collect::<Vec<_>>())
                .bind(settled.iter().map(|s| s.name.as_deref().map(storable)).collect::<Vec<_>>())
                .bind(settled.iter().map(|s| s.size.map(whole)).collect::<Vec<_>>())
                .bind(settled.iter().map(|s| s.place.as_deref().map(storable)).collect::<Vec<_>>())
                .bind(settled.iter().map(|s| s.note.as_deref().map(storable)).collect::<Vec<_>>())
                .execute(&mut *tx)
                .await
                .map_err(|e| failed("cannot settle candidates", e))?
                .rows_affected();
        }
        if !back.is_empty() {
            sqlx::query(include_str!("postgres/put_back.sql"))
                .persistent(false)
                .bind(owner)
                .bind(back.iter().map(|b| b.id).collect::<Vec<_>>())
                .bind(back.iter().map(|b| micros(b.wait)).collect::<Vec<_>>())
                .bind(back.iter().map(|b| b.failed).collect::<Vec<_>>())
                .bind(back.iter().map(|b| storable(&b.note)).collect::<Vec<_>>())
                .execute(&mut *tx)
                .await
                .map_err(|e| failed("cannot put candidates back", e))?;
        }
        tx.commit().await.map_err(|e| failed("cannot settle candidates", e))?;
        Ok(count)
    }

    async fn announce(&self, items: &[Announce]) -> Result<()> {
        sqlx::query(
            "insert into rowbound.candidate (storage, value, event, due_at)
             select a.storage, a.name, a.event, now() + a.wait * interval '1 microsecond'
             from unnest($1::text[], $2::text[], $3::text[], $4::int8[]) as a(storage, name, event, wait)",
        )
        .bind(items.iter().map(|a| &*a.storage).collect::<Vec<_>>())
        .bind(items.iter().map(|a| a.name.as_str()).collect::<Vec<_>>())
        .bind(items.iter().map(|a| a.event).collect::<Vec<_>>())
        .bind(items.iter().map(|a| micros(a.wait)).collect::<Vec<_>>())
        .execute(&self.pool)
        .await
        .map_err(|e| failed("cannot announce candidates", e))?;
        Ok(())
    }

    async fn enter(&self, entries: &[NewEntry]) -> Result<()> {
        sqlx::query(
            "insert into rowbound.ledger (storage, name, event, outcome, size, place, note)
             select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::int8[], $6::text[], $7::text[])",
        )
        .bind(entries.iter().map(|e| &*e.storage).collect::<Vec<_>>())
        .bind(entries.iter().map(|e| storable(&e.name)).collect::<Vec<_>>())
        .bind(entries.iter().map(|e| e.event).collect::<Vec<_>>())
        .bind(entries.iter().map(|e| e.outcome.word()).collect::<Vec<_>>())
        .bind(entries.iter().map(|e| e.size.map(whole)).collect::<Vec<_>>())
        .bind(entries.iter().map(|e| e.place.as_deref().map(storable)).collect::<Vec<_>>())
        .bind(entries.iter().map(|e| e.note.as_deref().map(storable)).collect::<Vec<_>>())
        .execute(&self.pool)
        .await
        .map_err(|e| failed("cannot write the ledger", e))?;
        Ok(())
    }

    async fn lock_worker(&self) -> Result<Option<Hold>> {
        Ok(None)
    }

    async fn backlog(&self, claim: &Claim) -> Result<Backlog> {
        let error = |e| failed("cannot look at the queue", e);
        let mut conn = self.conn().await?;
        let (total, due, failing, oldest): (i64, i64, i64, Option<i64>) = sqlx::query_as(include_str!("postgres/backlog.sql"))
            .bind(&claim.storage)
            .bind(micros(claim.grace))
            .fetch_one(&mut *conn)
            .await
            .map_err(error)?;
        let sql = format!("{WAITING} where storage = $1 and due_at is not null and note is not null order by released_at, id limit 10");
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(&claim.storage).fetch_all(&mut *conn).await.map_err(error)?;
        Ok(Backlog {
            total: total.unsigned_abs(),
            due: due.unsigned_abs(),
            failing: failing.unsigned_abs(),
            oldest_seconds: oldest.map(|s| s.max(0).cast_unsigned()),
            sample: rows.iter().map(waiting_row).collect::<sqlx::Result<_>>().map_err(error)?,
        })
    }

    async fn waiting(&self, values: &[String]) -> Result<Vec<Waiting>> {
        let error = |e| failed("cannot look at the queue", e);
        let sql = format!("{WAITING} where value = any ($1::text[]) order by released_at, id");
        let rows =
            sqlx::query(AssertSqlSafe(sql)).persistent(false).bind(without_nul(values)).fetch_all(&self.pool).await.map_err(error)?;
        rows.iter().map(waiting_row).collect::<sqlx::Result<_>>().map_err(error)
    }

    async fn history(&self, filter: &Filter) -> Result<Vec<Entry>> {
        let error = |e| failed("cannot read the ledger", e);
        if filter.name.as_ref().is_some_and(|n| n.contains('\0')) {
            return Ok(Vec::new());
        }
        let outcomes: Vec<_> = filter.outcomes.iter().map(|o| o.word()).collect();
        let rows = sqlx::query(include_str!("postgres/history.sql"))
            .persistent(false)
            .bind(&filter.storage)
            .bind(&filter.name)
            .bind((!outcomes.is_empty()).then_some(outcomes))
            .bind(filter.since.map(Timestamp::as_microsecond))
            .bind(filter.limit.map(i64::from))
            .fetch_all(&self.pool)
            .await
            .map_err(error)?;
        let entry = |row: &PgRow| -> sqlx::Result<Entry> {
            Ok(Entry {
                id: row.try_get("id")?,
                at: time(row.try_get("at")?)?,
                storage: row.try_get("storage")?,
                binding: row.try_get("binding")?,
                name: row.try_get("name")?,
                key: row.try_get("key")?,
                event: row.try_get("event")?,
                released_at: row.try_get::<Option<i64>, _>("released_at")?.map(time).transpose()?,
                outcome: read_outcome(row.try_get("outcome")?).map_err(decode)?,
                size: row.try_get::<Option<i64>, _>("size")?.map(i64::unsigned_abs),
                place: row.try_get("place")?,
                note: row.try_get("note")?,
            })
        };
        rows.iter().map(entry).collect::<sqlx::Result<_>>().map_err(error)
    }

    async fn totals(&self, since: Option<Timestamp>) -> Result<Vec<Total>> {
        let error = |e| failed("cannot read the ledger", e);
        let rows: Vec<(String, String, i64, i64)> = sqlx::query_as(
            "select storage, outcome, count(*), coalesce(sum(size), 0)::int8 from rowbound.ledger
             where $1::int8 is null or at >= timestamptz 'epoch' + $1 * interval '1 microsecond'
             group by storage, outcome order by storage, outcome",
        )
        .persistent(false)
        .bind(since.map(Timestamp::as_microsecond))
        .fetch_all(&self.pool)
        .await
        .map_err(error)?;
        let total = |(storage, word, count, bytes): (String, String, i64, i64)| {
            Ok(Total { storage, outcome: read_outcome(&word).map_err(decode)?, count: count.unsigned_abs(), bytes: bytes.unsigned_abs() })
        };
        rows.into_iter().map(total).collect::<sqlx::Result<_>>().map_err(error)
    }

    async fn holders(&self, searches: &[ColumnSearch], limit: u32) -> Result<Vec<Holder>> {
        let mut tx = self.begin("begin isolation level repeatable read, read only; set local row_security = off").await?;
        let columns: Vec<_> = searches.iter().map(|s| &s.column).collect();
        let resolved = tables::resolve(&mut tx, &columns).await?;
        let mut holders = Vec::new();
        for (search, r) in searches.iter().zip(&resolved) {
            tables::usable(&search.column, r)?;
            let mut left = i64::from(limit);
            for (what, values) in wheres(r, search) {
                let sql = format!(
                    "select t.{f}::text, {} from {} t where {what} limit $2",
                    triggers::key_sql("t", &r.key),
                    r.table_sql(),
                    f = ident(&search.column.column)
                );
                let rows: Vec<(String, Option<String>)> = sqlx::query_as(AssertSqlSafe(sql))
                    .persistent(false)
                    .bind(values)
                    .bind(left)
                    .fetch_all(&mut *tx)
                    .await
                    .map_err(|e| failed("cannot look for references", e).with("column", &search.column))?;
                left -= i64::try_from(rows.len()).unwrap_or(left);
                holders.extend(rows.into_iter().map(|(value, key)| Holder { binding: search.binding, key, value }));
            }
        }
        Ok(holders)
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}

/// The columns of [`Waiting`].
const WAITING: &str = "select id, binding, value, key, event, attempts, note,
    (extract(epoch from released_at) * 1000000)::int8 as released_at, (extract(epoch from due_at) * 1000000)::int8 as due_at
    from rowbound.candidate";

fn waiting_row(row: &PgRow) -> sqlx::Result<Waiting> {
    Ok(Waiting {
        id: row.try_get("id")?,
        binding: row.try_get("binding")?,
        value: row.try_get("value")?,
        key: row.try_get("key")?,
        event: row.try_get("event")?,
        released_at: time(row.try_get("released_at")?)?,
        due_at: row.try_get::<Option<i64>, _>("due_at")?.map(time).transpose()?,
        attempts: count(row.try_get("attempts")?)?,
        note: row.try_get("note")?,
    })
}

/// The conditions that a search comes to, each with the array for its `$1`. Rows of partitions and children count: no ONLY.
fn wheres(r: &tables::Resolved, search: &ColumnSearch) -> Vec<(String, Vec<String>)> {
    let f = format!("t.{}", ident(&search.column.column));
    let mut all = Vec::new();
    let values = without_nul(&search.search.values);
    if !values.is_empty() {
        all.push((format!("{f} {}", r.equals_any("$1")), values));
    }
    let prefixes = without_nul(&search.search.odd_under);
    if !prefixes.is_empty() {
        // Collation "C": a pattern does not work under a nondeterministic one.
        let odd = format!(
            "{f}::text collate \"C\" ~ '[%?#]' and exists (select from unnest($1::text[]) as p where starts_with({f}::text collate \"C\", p collate \"C\"))"
        );
        all.push((odd, prefixes));
    }
    all
}

/// What no trigger of ours can see on a table.
fn not_seen(table: &Table, unlogged: bool, role: &str, inspection: &mut Inspection) {
    let name = table.members.first().map(Member::sql).unwrap_or_default();
    let mut blind = |event: &str, advice: &str| {
        inspection.blind.push(Blind { table: name.clone(), event: event.to_owned(), advice: advice.to_owned() });
    };
    blind("DROP TABLE", "DELETE or TRUNCATE the rows first, else their files stay behind");
    blind("ALTER TABLE .. DROP COLUMN", "set the column to NULL first, else its files stay behind");
    blind(
        "ALTER TABLE .. DISABLE TRIGGER",
        "`rowbound run` or `rowbound attach` enables them again; files that were released in between stay behind",
    );
    blind("TRUNCATE in a REPEATABLE READ transaction", "rows committed after its snapshot are not seen: their files stay behind");
    if table.members.len() > 1 {
        blind(
            "DETACH PARTITION, NO INHERIT",
            "rows of a table that no longer lies below the bound one stop counting as references: bind it first",
        );
    }
    if unlogged {
        blind("a crash of the server empties an UNLOGGED table", "its files stay behind");
    }
    for m in table.members.iter().filter(|m| !m.owned) {
        inspection.blind.push(Blind {
            table: m.sql(),
            event: "session_replication_role = replica".to_owned(),
            advice: format!("attach as the table's owner, who can set its triggers to ENABLE ALWAYS: GRANT <owner> TO {}", ident(role)),
        });
        inspection.warnings.push(format!(
            "{} does not own {}: its triggers do not fire for sessions in replica role, nor for logical replication",
            ident(role),
            m.sql()
        ));
    }
}

/// Values that a row can hold: PostgreSQL has no NUL in text.
fn without_nul(values: &[String]) -> Vec<String> {
    values.iter().filter(|v| !v.contains('\0')).cloned().collect()
}

/// A text for people, with what PostgreSQL cannot hold replaced.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn whole(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// Microseconds, at most a hundred years.
fn micros(time: Duration) -> i64 {
    const CENTURY: i64 = 100 * 366 * 86_400 * 1_000_000;
    i64::try_from(time.as_micros()).unwrap_or(CENTURY).min(CENTURY)
}

fn decode(why: impl Display) -> sqlx::Error {
    sqlx::Error::Decode(why.to_string().into())
}

fn time(micros: i64) -> sqlx::Result<Timestamp> {
    Timestamp::from_microsecond(micros).map_err(decode)
}

fn count(n: i32) -> sqlx::Result<u32> {
    u32::try_from(n).map_err(decode)
}

fn standing_by() -> Error {
    Error::new(Kind::DatabaseUnreachable, "this server is a standby: its rows may be older than the files")
        .hint("connect to the primary (`target_session_attrs` is not known; name its host)")
}

/// What a failure of `sqlx` means.
fn failed(what: &str, e: sqlx::Error) -> Error {
    let code = match &e {
        sqlx::Error::Database(d) => d.code().map(|c| c.into_owned()).unwrap_or_default(),
        _ => String::new(),
    };
    let make = |kind| Error::new(kind, what);
    let error = match &e {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
            make(Kind::DatabaseUnreachable).hint("check host and port, and that the server is running")
        }
        sqlx::Error::Protocol(_) => make(Kind::DatabaseUnreachable),
        sqlx::Error::Database(_) => match code.as_str() {
            "25006" => return standing_by().because(e),
            "3D000" => make(Kind::Config).hint("create the database, or correct its name in `database`"),
            "55P03" | "40P01" | "40001" => make(Kind::Busy),
            "42501" => make(Kind::Permission)
                .hint("GRANT the connecting role what the message names: SELECT, TRIGGER on bound tables, USAGE on their schemas, CREATE on the database"),
            "42P01" | "42703" | "3F000" => make(Kind::Schema).hint("run `rowbound attach` after a migration"),
            // statement_timeout, disk full, out of memory
            "57014" | "53100" | "53200" => make(Kind::Database).retry(Retry::Later),
            c if c.starts_with("28") => make(Kind::Permission).hint("check user and password in `database`, and the server's pg_hba.conf; or GRANT CONNECT ON DATABASE"),
            c if c.starts_with("57P") || c.starts_with("08") || c == "53300" => make(Kind::DatabaseUnreachable),
            _ => make(Kind::Database),
        },
        _ => make(Kind::Database),
    };
    error.because(e)
}
