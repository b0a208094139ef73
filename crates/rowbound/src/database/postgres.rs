//! PostgreSQL 14 and later.
//!
//! In: a URL and the plan's bindings. Out: the contract of [`Database`]. Everything of ours stands in schema `rowbound`; capture
//! writes there as its owner, so the application's roles need no right. A claim is a visibility timeout in the candidate's row,
//! the barrier reads who is open from `pg_locks`, and a check reads every column in one snapshot.

use std::str::FromStr;

use sqlx::{
    PgConnection, PgPool, Row,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use self::{
    fault::failed,
    install::Job,
    session::{Line, Manner, Since, Work},
    tables::ident,
};
use super::{
    pool::{self, Lead},
    survey::{Sample, TextColumn},
    *,
};
use crate::{
    binding::{Body, Column},
    name::FileName,
};

mod assign; // a row is found, its column is set
mod check; // references: found, never overlooked
mod deliver; // followers and what they have yet to hear
mod fault; // what a failure means
mod forget; // old entries leave the ledger
mod inspect; // what is said before anything changes
mod install; // the transaction of attach and detach
mod queue; // candidates and the ledger
mod scan; // a column from one end to the other
mod session; // who answers, and what our sessions are
mod survey; // text columns and samples
mod tables; // what the catalogs say
mod triggers; // what must stand, and the statements that get there
mod upkeep; // who keeps a storage's trash
mod whole; // any text column, from one end to the other

/// A PostgreSQL database.
#[derive(Debug)]
pub struct Postgres {
    pool: PgPool,
    /// For rows of the application.
    theirs: PgPool,
    /// The application's pool, where there is one.
    lead: Option<Lead<sqlx::Postgres>>,
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
        let place = |e: Error| e.with("database", redact(url));
        let connect =
            PgConnectOptions::from_str(url).map_err(|e| place(Error::new(Kind::Config, "`database` is no PostgreSQL URL").because(e)))?;
        let connect = session::ours(connect);
        let line = session::look(&connect, options).await.map_err(place)?;
        Ok(Self::with(connect, line, None, None, options))
    }

    /// Opens the database of an application's pool: see [`beside`].
    ///
    /// # Errors
    /// [`Kind::Config`] for a pool that is closed; else as [`Postgres::open`].
    pub async fn beside(pool: &PgPool, options: &Options) -> Result<Self> {
        pool::open(pool)?;
        let url = Pool::from(pool).url();
        let place = |e: Error| e.with("database", &url);
        let (lead, connect) = Lead::of(pool);
        let connect = session::ours(connect);
        let line = session::look(&connect, options).await.map_err(place)?;
        let manner = async {
            let mut conn = pool::alike(pool, options.connect_timeout).await?;
            let (role, search_path) =
                sqlx::query_as("select current_setting('role'), current_setting('search_path')").fetch_one(&mut conn).await?;
            pool::goodbye(conn).await;
            Ok(Manner { role, search_path })
        };
        let manner = manner.await.map_err(|e| place(failed("cannot connect as the application's pool does", e)))?;
        Ok(Self::with(connect, line, Some(manner), Some(lead), options))
    }

    fn with(connect: PgConnectOptions, line: Line, manner: Option<Manner>, lead: Option<Lead<sqlx::Postgres>>, options: &Options) -> Self {
        let attached = Since::default();
        let since = attached.clone();
        let sessions = |work, at_most| {
            let manner = manner.clone();
            PgPoolOptions::new()
                .max_connections(at_most)
                .acquire_timeout(options.connect_timeout)
                // A role's settings, its search_path among them, are read when a connection begins.
                .max_lifetime(Duration::from_secs(1800))
                .after_connect(move |conn, _| {
                    let manner = manner.clone();
                    Box::pin(async move { session::prepare(conn, manner.as_ref(), work).await })
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
            lead,
            attached,
            options: options.clone(),
        }
    }

    /// The pool, which connects as the application does now.
    fn pool(&self) -> &PgPool {
        if let Some(connect) = self.lead.as_ref().and_then(Lead::changed) {
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

/// Stores `record` over what stands, in the caller's transaction, and returns it as it stands now.
async fn store(conn: &mut PgConnection, record: &Installation, expect: impl FnOnce(Option<&str>) -> Result<()>) -> Result<Installation> {
    let standing = standing(conn).await?;
    expect(standing.as_deref())?;
    let record = over(standing.as_deref(), record)?;
    write(conn, &record).await?;
    Ok(record)
}

/// The record as it stands, locked until the transaction's end.
async fn standing(conn: &mut PgConnection) -> Result<Option<String>> {
    sqlx::query_scalar("select record::text from rowbound.installation where id = 1 for update")
        .fetch_optional(conn)
        .await
        .map_err(|e| failed("cannot read the installation's record", e))
}

async fn write(conn: &mut PgConnection, record: &Installation) -> Result<()> {
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
    let queries = query_items(bound);
    let bound = &with_tables(bound);
    let tables = by_table(bound);
    let mut columns: Vec<Column> = bound.iter().map(|b| b.binding.column.clone()).collect();
    columns.extend(bound.iter().flat_map(|b| b.binding.only.keys().map(|c| Column { column: c.clone(), ..b.binding.column.clone() })));
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
    let standing = rows.iter().map(|row| Ok((row.try_get("item")?, row.try_get("text")?)));
    let items = standing.chain(queries.map(Ok)).collect::<sqlx::Result<_>>();
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
        // Without the right to the identifier a copy could look like the original: then this is an error.
        sqlx::query_scalar(
            "select concat_ws(' ', 'postgresql', (select system_identifier from pg_control_system()), oid, datname)
             from pg_database where datname = current_database()",
        )
        .fetch_one(self.pool())
        .await
        .map_err(|e| failed("cannot read the database's identity", e))
    }

    /// Nothing tells for certain: a physical copy of the server has the same system identifier, and the original lives on.
    async fn has_moved(&self, _: &str) -> Result<bool> {
        Ok(false)
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
        inspect::inspect(&mut *self.conn().await?, bound).await
    }

    async fn script(&self, bound: &[Bound]) -> Result<Vec<String>> {
        let mut tx = self.begin("begin isolation level repeatable read, read only").await?;
        let ours = triggers::ours(&mut tx).await?;
        let tables = tables::tables(&mut tx, bound).await?;
        Ok(triggers::install_steps(&tables, &ours).into_iter().map(|s| s.sql).collect())
    }

    async fn install(&self, bound: &[Bound], record: &Installation) -> Result<Installation> {
        let installed = install::patiently(self.pool(), &self.options, Job::Install(bound, record, None)).await?;
        self.attached.now();
        installed.ok_or_else(|| Error::new(Kind::Database, "attach left no record"))
    }

    async fn install_after(&self, before: Option<&Installation>, bound: &[Bound], record: &Installation) -> Result<Installation> {
        let installed = install::patiently(self.pool(), &self.options, Job::Install(bound, record, Some(before))).await?;
        if before.is_none_or(|before| before.id != record.id) {
            self.attached.now();
        }
        installed.ok_or_else(|| Error::new(Kind::Database, "attach left no record"))
    }

    async fn record(&self, record: &Installation) -> Result<()> {
        let mut tx = self.begin("begin isolation level read committed").await?;
        store(&mut tx, record, |standing| unchanged_or_none(standing, record)).await?;
        tx.commit().await.map_err(|e| failed("cannot commit", e))
    }

    async fn set_shadow(&self, bindings: &[i32], since: Option<Timestamp>) -> Result<()> {
        let mut tx = self.begin("begin isolation level read committed").await?;
        let record = shaded(standing(&mut tx).await?.as_deref(), bindings, since)?;
        write(&mut tx, &record).await?;
        tx.commit().await.map_err(|e| failed("cannot commit", e))
    }

    async fn note_values(&self, seen: &[(i32, ValuesSeen)]) -> Result<()> {
        let mut tx = self.begin("begin isolation level read committed").await?;
        let record = deepened(standing(&mut tx).await?.as_deref(), seen)?;
        write(&mut tx, &record).await?;
        tx.commit().await.map_err(|e| failed("cannot commit", e))
    }

    async fn shadowed(&self, binding: i32, since: Option<Timestamp>) -> Result<Shadowed> {
        queue::shadowed(self.pool(), binding, since).await
    }

    async fn remove(&self) -> Result<()> {
        install::patiently(self.pool(), &self.options, Job::Remove).await.map(drop)
    }

    async fn remove_script(&self) -> Result<Vec<String>> {
        let ours = triggers::ours(&mut *self.conn().await?).await?;
        Ok(triggers::remove_steps(&ours).into_iter().map(|s| s.sql).collect())
    }

    async fn snapshot(&self, bound: &[Bound]) -> Result<Snapshot> {
        snapshot_of(&mut *self.conn().await?, bound).await
    }

    async fn claim(&self, claim: &Claim) -> Result<Vec<Candidate>> {
        queue::claim(self.pool(), claim).await
    }

    async fn confirm(&self, owner: &str, ids: &[i64], lease: Duration) -> Result<HashSet<i64>> {
        queue::confirm(self.pool(), owner, ids, lease).await
    }

    async fn next_due(&self, claim: &Claim) -> Result<Option<Duration>> {
        queue::next_due(self.pool(), claim).await
    }

    async fn open_transactions(&self) -> Result<Vec<OpenTransaction>> {
        queue::open_transactions(self.pool(), &self.options.ignored).await
    }

    async fn check(&self, bound: &[Bound], snapshot: &Snapshot, searches: &[ColumnSearch]) -> Result<Checked> {
        check::check(self.pool(), bound, snapshot, searches).await
    }

    /// A check ends with a commit of its own, which takes everything before it to the disk.
    async fn flushed(&self) -> Result<()> {
        Ok(())
    }

    async fn settle(&self, settlement: &Settlement, _hold: Option<Hold>) -> Result<u64> {
        queue::settle(self.pool(), settlement).await
    }

    async fn announce(&self, items: &[Announce]) -> Result<()> {
        queue::announce(self.pool(), items).await
    }

    async fn announce_relying(&self, items: &[Announce], on: &Reliance) -> Result<()> {
        // Once more where it was attached again in between.
        for _ in 0..3 {
            match queue::announce_relying(self.pool(), items, on).await {
                Ok(true) => return Ok(()),
                Ok(false) => relied_on(self.installation().await?.as_ref(), on)?,
                // Its tables are gone.
                Err(e) if e.kind() == Kind::Schema => {
                    relied_on(self.installation().await?.as_ref(), on)?;
                    return Err(e);
                }
                Err(e) => return Err(e),
            }
        }
        Err(Error::new(Kind::Busy, "what is attached changes all the time").retry(crate::error::Retry::Later))
    }

    async fn keep(&self, storage: &str, owner: &str, lease: Duration) -> Result<Option<Upkeep>> {
        upkeep::keep(self.pool(), storage, owner, lease).await
    }

    async fn kept(&self, storage: &str, owner: &str, upkeep: &Upkeep, entries: &[NewEntry]) -> Result<bool> {
        upkeep::kept(self.pool(), storage, owner, upkeep, entries).await
    }

    async fn upkeep(&self, storage: &str) -> Result<Option<Upkeep>> {
        upkeep::upkeep(self.pool(), storage).await
    }

    async fn beat(&self, beat: &Beat) -> Result<()> {
        upkeep::beat(self.pool(), &beat.key(), &beaten(beat)?).await
    }

    async fn beats(&self) -> Result<Vec<Heard>> {
        upkeep::beats(self.pool()).await?.into_iter().map(heard).collect()
    }

    async fn enter(&self, entries: &[NewEntry]) -> Result<()> {
        queue::enter(self.pool(), entries).await
    }

    async fn lock_worker(&self) -> Result<Option<Hold>> {
        Ok(None)
    }

    async fn backlog(&self, claim: &Claim) -> Result<Backlog> {
        queue::backlog(self.pool(), claim).await
    }

    async fn waits(&self, claim: &Claim) -> Result<Vec<(Option<Waits>, u64)>> {
        queue::waits(self.pool(), claim).await
    }

    async fn waiting(&self, values: &[String]) -> Result<Vec<Waiting>> {
        queue::waiting(self.pool(), values).await
    }

    async fn history(&self, filter: &Filter) -> Result<Vec<Entry>> {
        queue::history(self.pool(), filter).await
    }

    async fn came_back(&self, storage: &str, names: &[FileName], since: Timestamp) -> Result<Vec<(String, Timestamp)>> {
        queue::came_back(self.pool(), storage, names, since).await
    }

    async fn in_places(&self, storage: &str, names: &[FileName], since: Timestamp) -> Result<Vec<(String, Outcome)>> {
        queue::in_places(self.pool(), storage, names, since).await
    }

    async fn forget_entries(&self, before: Timestamp, after: i64, limit: u32) -> Result<Forgotten> {
        forget::forget_entries(self.pool(), before, after, limit).await
    }

    async fn totals(&self, since: Option<Timestamp>) -> Result<Vec<Total>> {
        queue::totals(self.pool(), since).await
    }

    async fn follow(&self, name: &str, outcomes: &[Outcome]) -> Result<()> {
        deliver::follow(&self.pool, name, outcomes).await
    }

    async fn unfollow(&self, name: &str) -> Result<Option<u64>> {
        deliver::unfollow(&self.pool, name).await
    }

    async fn followers(&self) -> Result<Vec<Registered>> {
        deliver::followers(&self.pool).await
    }

    async fn take_turn(&self, turn: &Turn) -> Result<Vec<Pending>> {
        deliver::take_turn(&self.pool, turn).await
    }

    async fn prolong(&self, turn: &Turn, entries: &[i64]) -> Result<()> {
        deliver::prolong(&self.pool, turn, entries).await
    }

    async fn acknowledge(&self, receipt: &Receipt) -> Result<u64> {
        deliver::acknowledge(&self.pool, receipt).await
    }

    async fn hasten(&self, follower: &str) -> Result<u64> {
        deliver::hasten(&self.pool, follower).await
    }

    async fn holders(&self, searches: &[ColumnSearch], limit: u32) -> Result<Vec<Holder>> {
        check::holders(self.pool(), searches, limit).await
    }

    async fn text_columns(&self) -> Result<Vec<TextColumn>> {
        survey::text_columns(self).await
    }

    async fn hides_tables(&self) -> Result<Option<String>> {
        // Its catalogs show every table to everybody.
        Ok(None)
    }

    async fn sample(&self, column: &TextColumn, limit: usize) -> Result<Sample> {
        survey::sample(self, column, limit).await
    }

    async fn timeline(&self) -> Result<Timeline> {
        Ok(upkeep::timeline(self.pool()).await?.of(&self.identity().await?))
    }

    async fn now(&self) -> Result<Timestamp> {
        survey::now(self).await
    }

    async fn has_row(&self, column: &Column, key: &str) -> Result<bool> {
        assign::has_row(self.theirs(), column, key).await
    }

    async fn assign(&self, column: &Column, key: &str, name: &FileName) -> Result<bool> {
        assign::assign(self.theirs(), column, key, name).await
    }

    async fn scan(&self, scan: &Scan) -> Result<Values> {
        scan::scan(self.pool(), scan).await
    }

    async fn values(&self, column: &TextColumn) -> Result<Values> {
        whole::values(self, column).await
    }

    async fn beside(&self, column: &TextColumn, other: &Column, values: &[String], limit: usize) -> Result<Vec<String>> {
        whole::beside(self, column, other, values, limit).await
    }

    async fn close(&self) {
        self.theirs.close().await;
        self.pool.close().await;
    }
}
