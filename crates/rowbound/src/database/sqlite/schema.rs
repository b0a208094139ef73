//! Attach and detach, one transaction each, and what stands.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::{AssertSqlSafe, SqliteConnection};

use super::{
    Sqlite,
    fault::failed,
    identity,
    rows::json,
    tables::{has_column, missing_table, standing_triggers, table},
    triggers::{ident, wanted},
};
use crate::{
    binding::{Column, Reading},
    capture::{Blind, Bound, Inspection, Installation, Snapshot, ValuesSeen},
    crash,
    database::{
        Schema, as_table, by_table, deepened, over, query_items, read_record, shaded, unchanged, unchanged_or_none, unusable_query,
    },
    error::{Error, Kind, Result},
};

const TABLES: &str = include_str!("tables.sql");

#[async_trait]
impl Schema for Sqlite {
    async fn identity(&self) -> Result<String> {
        identity::read(&self.path)
    }

    /// The file beside it, which no copy shares, is the one that it had, and nothing is left at its old path.
    async fn has_moved(&self, was: &str) -> Result<bool> {
        Ok(identity::moved(was, &identity::read(&self.path)?))
    }

    async fn installation(&self) -> Result<Option<Installation>> {
        let record = standing_if_any(&mut *self.acquire().await?).await?;
        record.map(|r| read_record(&r)).transpose()
    }

    async fn inspect(&self, bound: &[Bound]) -> Result<Inspection> {
        let mut connection = self.acquire().await?;
        let mut seen = Inspection::default();
        if bound.iter().any(|b| b.binding.query.is_some()) {
            let mut reader = self.reader().await?;
            for (b, query) in bound.iter().filter_map(|b| Some((b, b.binding.query.as_ref()?))) {
                let sql = format!("{} SELECT n FROM q LIMIT 1", as_table(query));
                sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut reader).await.map_err(|e| unusable_query(b, failed("query")(e)))?;
            }
        }
        for ((schema, name), columns) in by_table(bound) {
            let b = columns[0];
            if schema.as_deref().is_some_and(|s| !s.eq_ignore_ascii_case("main")) {
                return Err(Error::new(Kind::Schema, "a SQLite table has no schema but `main`").with("binding", &b.binding.column));
            }
            let table =
                table(&mut connection, &name).await.map_err(|e| e.with("binding", &b.binding.column))?.ok_or_else(|| missing_table(b))?;
            for b in &columns {
                has_column(&table, b)?;
                if matches!(b.binding.reading, Reading::Array { .. }) {
                    return Err(Error::new(Kind::Schema, "SQLite has no arrays")
                        .with("binding", &b.binding.column)
                        .hint("a list that is stored as JSON is kind = \"json\" with path = \"$[*]\""));
                }
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
        changes(&mut connection, bound).await
    }

    async fn install(&self, bound: &[Bound], record: &Installation) -> Result<Installation> {
        install(self, None, bound, record).await
    }

    async fn install_after(&self, before: Option<&Installation>, bound: &[Bound], record: &Installation) -> Result<Installation> {
        install(self, Some(before), bound, record).await
    }

    async fn record(&self, record: &Installation) -> Result<()> {
        let mut lock = self.write_lock().await?;
        let standing = standing(lock.connection()).await?;
        unchanged_or_none(standing.as_deref(), record)?;
        let record = over(standing.as_deref(), record)?;
        store(lock.connection(), &record).await?;
        lock.end("COMMIT").await.map(drop)
    }

    async fn set_shadow(&self, bindings: &[i32], since: Option<Timestamp>) -> Result<()> {
        change(self, |standing| shaded(standing, bindings, since)).await
    }

    async fn note_values(&self, seen: &[(i32, ValuesSeen)]) -> Result<()> {
        change(self, |standing| deepened(standing, seen)).await
    }

    async fn snapshot(&self, bound: &[Bound]) -> Result<Snapshot> {
        let mut connection = self.acquire().await?;
        self.snapshot_on(&mut connection, bound).await
    }

    async fn remove(&self) -> Result<()> {
        let mut lock = self.write_lock().await?;
        for sql in removal(lock.connection()).await? {
            sqlx::query(AssertSqlSafe(sql)).execute(lock.connection()).await.map_err(failed("remove"))?;
        }
        lock.end("COMMIT").await?;
        identity::remove(&self.path)?;
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
}

impl Sqlite {
    /// What stands there now, as `connection` sees it.
    pub(super) async fn snapshot_on(&self, connection: &mut SqliteConnection, bound: &[Bound]) -> Result<Snapshot> {
        let version: i64 = sqlx::query_scalar("PRAGMA schema_version").fetch_one(&mut *connection).await.map_err(failed("snapshot"))?;
        let asked: String =
            bound.iter().map(|b| format!("{}={} {}\n", b.id, b.binding.key(), b.binding.query.as_deref().unwrap_or(""))).collect();
        if let Some((v, a, snapshot)) = &self.open.lock().unwrap_or_else(|e| e.into_inner()).seen
            && (*v, a) == (version, &asked)
        {
            return Ok(snapshot.clone());
        }
        let mut items: BTreeMap<_, _> = query_items(bound).collect();
        for ((_, name), columns) in by_table(bound) {
            let Some(table) = table(connection, &name).await? else { continue };
            items.insert(format!("table {name}"), format!("{:?}", table.name));
            items.insert(format!("keys of {name}"), format!("{:?} {:?} {:?}", table.key, table.rowid, table.unique));
            for b in columns {
                for name in b.binding.only.keys().chain([&b.binding.column.column]) {
                    let Some(c) = table.column(name) else { continue };
                    // Without its length, which SQLite ignores: a migration that makes room for longer names is no reason to stop.
                    let declared = c.declared.split('(').next().unwrap_or_default().trim_end().to_ascii_lowercase();
                    let column = Column { column: name.clone(), ..b.binding.column.clone() };
                    items.insert(format!("column {column}"), format!("{declared} {}", c.generated));
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
}

/// Installs; with `before`, if that is what stands.
async fn install(db: &Sqlite, before: Option<Option<&Installation>>, bound: &[Bound], record: &Installation) -> Result<Installation> {
    let mut lock = db.write_lock().await?;
    if let Some(before) = before {
        unchanged(standing_if_any(lock.connection()).await?.as_deref(), before)?;
    }
    for sql in changes(lock.connection(), bound).await? {
        crash::point("attach-step");
        sqlx::query(AssertSqlSafe(sql)).execute(lock.connection()).await.map_err(failed("install"))?;
    }
    db.open.lock().unwrap_or_else(|e| e.into_inner()).seen = None;
    let snapshot = db.snapshot_on(lock.connection(), bound).await?;
    let mut record = over(standing(lock.connection()).await?.as_deref(), &Installation { snapshot, ..record.clone() })?;
    if record.identity == identity::read(&db.path)? {
        // The first time, the identity changes by this. In the same transaction, so that the record always holds the one that is true.
        crash::point("attach-step");
        identity::make(&db.path)?;
        record.identity = identity::read(&db.path)?;
    }
    crash::point("attach-step");
    store(lock.connection(), &record).await?;
    crash::point("attach-step");
    lock.end("COMMIT").await?;
    Ok(record)
}

/// Changes the record that stands, in one step.
async fn change(db: &Sqlite, change: impl FnOnce(Option<&str>) -> Result<Installation>) -> Result<()> {
    let mut lock = db.write_lock().await?;
    let record = change(standing(lock.connection()).await?.as_deref())?;
    store(lock.connection(), &record).await?;
    lock.end("COMMIT").await.map(drop)
}

/// The record as it stands, where the table may not be there.
pub(super) async fn standing_if_any(connection: &mut SqliteConnection) -> Result<Option<String>> {
    let there: bool = sqlx::query_scalar("SELECT count(*) > 0 FROM sqlite_schema WHERE type = 'table' AND name = 'rowbound_installation'")
        .fetch_one(&mut *connection)
        .await
        .map_err(failed("read installation"))?;
    if there { standing(connection).await } else { Ok(None) }
}

/// The record as it stands, read under the write lock.
async fn standing(connection: &mut SqliteConnection) -> Result<Option<String>> {
    sqlx::query_scalar("SELECT record FROM rowbound_installation WHERE id = 1")
        .fetch_optional(connection)
        .await
        .map_err(failed("read installation"))
}

/// What differs between what stands and what should: statements to run, in order.
async fn changes(connection: &mut SqliteConnection, bound: &[Bound]) -> Result<Vec<String>> {
    let mut statements: Vec<String> = TABLES.split("\n\n").filter_map(statement).collect();
    // A queue that an earlier version made.
    if table(connection, "rowbound_candidate").await?.is_some_and(|queue| queue.column("waits").is_none()) {
        statements.push("ALTER TABLE rowbound_candidate ADD COLUMN waits TEXT".to_owned());
    }
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

/// A paragraph of a `.sql` file as one statement, without comments; `None` if nothing is left.
fn statement(paragraph: &str) -> Option<String> {
    let lines: Vec<_> = paragraph.lines().filter(|l| !l.trim_start().starts_with("--")).collect();
    let text = lines.join("\n").trim().trim_end_matches(';').to_owned();
    (!text.is_empty()).then_some(text)
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
    for table in
        ["rowbound_upkeep", "rowbound_delivery", "rowbound_follower", "rowbound_ledger", "rowbound_candidate", "rowbound_installation"]
    {
        statements.push(format!("DROP TABLE IF EXISTS {table}"));
    }
    Ok(statements)
}
