//! The ledger, and what is known of a storage's trash. Who keeps a trash is not written: the one worker holds a file lock.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::{Row, SqliteConnection};

use super::{
    Sqlite, deliver,
    fault::failed,
    identity,
    rows::{entry_row, json, opt_time, time},
};
use crate::{
    database::{Forgotten, Ledger, Shadowed, read_outcome, read_upkeep, write_upkeep},
    error::{Error, Kind, Result},
    ledger::{Entry, Filter, NewEntry, Timeline, Total, Upkeep},
    name::FileName,
    queue::{CAME_BACK, Outcome},
};

/// Under this name, which no storage has, stands the ledger's highest number from before old entries left it.
const LONGEST: &str = "";

#[async_trait]
impl Ledger for Sqlite {
    async fn enter(&self, entries: &[NewEntry]) -> Result<()> {
        let mut lock = self.write_lock().await?;
        enter_in(lock.connection(), entries).await?;
        lock.end("COMMIT").await.map(drop)
    }

    async fn history(&self, filter: &Filter) -> Result<Vec<Entry>> {
        let mut connection = self.acquire().await?;
        let outcomes: Vec<_> = filter.outcomes.iter().map(|o| o.word()).collect();
        let rows = sqlx::query(
            "SELECT id, at, storage, binding, CAST(name AS BLOB), key, event, released_at, outcome, size, place, note FROM rowbound_ledger \
             WHERE (?1 IS NULL OR storage = ?1) AND (?2 IS NULL OR name IN (?2, CAST(?2 AS BLOB))) \
             AND (?3 = '[]' OR outcome IN (SELECT value FROM json_each(?3))) AND (?4 IS NULL OR at >= ?4) AND id <= ?6 \
             ORDER BY id DESC LIMIT ?5",
        )
        .bind(&filter.storage)
        .bind(&filter.name)
        .bind(json(&outcomes)?)
        .bind(filter.since.map(|t| t.as_millisecond()))
        .bind(filter.limit.map_or(-1, i64::from))
        // Always a bound, so that it is one for the search by key.
        .bind(filter.before.map_or(i64::MAX, |id| id.saturating_sub(1)))
        .fetch_all(&mut *connection)
        .await
        .map_err(failed("history"))?;
        rows.iter().map(|r| entry_row(r, 0)).collect()
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
                    outcome: read_outcome(&r.get::<String, _>(1))?,
                    count: r.get::<i64, _>(2).unsigned_abs(),
                    bytes: r.get::<i64, _>(3).unsigned_abs(),
                })
            })
            .collect()
    }

    async fn shadowed(&self, binding: i32, since: Option<Timestamp>) -> Result<Shadowed> {
        let mut connection = self.acquire().await?;
        let row = sqlx::query(
            "SELECT count(*), ifnull(sum(l.size), 0), min(f.first) FROM (SELECT max(id) AS latest, min(at) AS first FROM rowbound_ledger \
             WHERE binding = ?1 AND outcome = 'shadow' AND (?2 IS NULL OR at >= ?2) GROUP BY storage, name) f \
             JOIN rowbound_ledger l ON l.id = f.latest",
        )
        .bind(binding)
        .bind(since.map(|t| t.as_millisecond()))
        .fetch_one(&mut *connection)
        .await
        .map_err(failed("status"))?;
        Ok(Shadowed {
            files: row.get::<i64, _>(0).unsigned_abs(),
            bytes: row.get::<i64, _>(1).unsigned_abs(),
            oldest: opt_time(row.get(2)),
        })
    }

    async fn in_places(&self, storage: &str, names: &[FileName], since: Timestamp) -> Result<Vec<(String, Outcome)>> {
        let mut connection = self.acquire().await?;
        let names: Vec<&str> = names.iter().map(FileName::as_str).collect();
        // A name stands there as a text or as a blob, as its row had it.
        let rows: Vec<(String, String)> = sqlx::query_as(
            "SELECT place, outcome FROM rowbound_ledger \
             WHERE storage = ?1 AND name IN (SELECT value FROM json_each(?2) UNION ALL SELECT CAST(value AS BLOB) FROM json_each(?2)) \
             AND at >= ?3 AND place IS NOT NULL AND outcome <> 'duplicate' ORDER BY id",
        )
        .bind(storage)
        .bind(json(&names)?)
        .bind(since.as_millisecond())
        .fetch_all(&mut *connection)
        .await
        .map_err(failed("history"))?;
        rows.into_iter().map(|(place, word)| Ok((place, read_outcome(&word)?))).collect()
    }

    async fn came_back(&self, storage: &str, names: &[FileName], since: Timestamp) -> Result<Vec<(String, Timestamp)>> {
        let mut connection = self.acquire().await?;
        let names: Vec<&str> = names.iter().map(FileName::as_str).collect();
        let rows: Vec<(Vec<u8>, i64)> = sqlx::query_as(
            "SELECT CAST(name AS BLOB), max(at) FROM rowbound_ledger \
             WHERE storage = ?1 AND name IN (SELECT value FROM json_each(?2) UNION ALL SELECT CAST(value AS BLOB) FROM json_each(?2)) \
             AND at >= ?3 AND (outcome = 'restored' OR outcome = 'kept' AND note = ?4) GROUP BY 1",
        )
        .bind(storage)
        .bind(json(&names)?)
        .bind(since.as_millisecond())
        .bind(CAME_BACK)
        .fetch_all(&mut *connection)
        .await
        .map_err(failed("history"))?;
        Ok(rows.into_iter().map(|(name, at)| (String::from_utf8_lossy(&name).into_owned(), time(at))).collect())
    }

    // Read without the write lock, which is then held for the removal alone. Nothing that happens in between makes an entry needed again.
    async fn forget_entries(&self, before: Timestamp, after: i64, limit: u32) -> Result<Forgotten> {
        let mut connection = self.acquire().await?;
        let page: Vec<(i64, bool, bool)> = sqlx::query_as(
            "SELECT p.id, p.at < ?1, p.at < ?1 \
               AND NOT EXISTS (SELECT 1 FROM rowbound_follower AS f JOIN rowbound_delivery AS d ON d.follower = f.id AND d.entry = p.id) \
               AND CASE WHEN p.place IS NULL THEN 1 \
                 WHEN p.outcome IN ('purged', 'erased', 'restored') THEN NOT EXISTS (SELECT 1 FROM rowbound_ledger AS e \
                   WHERE e.name = p.name AND e.storage = p.storage AND e.place = p.place AND e.id < p.id AND (e.at >= ?1 \
                     OR EXISTS (SELECT 1 FROM rowbound_follower AS f JOIN rowbound_delivery AS d ON d.follower = f.id AND d.entry = e.id))) \
                 ELSE EXISTS (SELECT 1 FROM rowbound_ledger AS e WHERE e.name = p.name AND e.storage = p.storage AND e.place = p.place \
                   AND e.id > p.id AND e.outcome IN ('purged', 'erased', 'restored')) END \
             FROM (SELECT * FROM rowbound_ledger WHERE id > ?2 ORDER BY id LIMIT ?3) AS p ORDER BY p.id",
        )
        .bind(before.as_millisecond())
        .bind(after)
        .bind(limit)
        .fetch_all(&mut *connection)
        .await
        .map_err(failed("look at old entries of the ledger"))?;
        drop(connection);
        let gone: Vec<i64> = page.iter().filter(|(_, _, goes)| *goes).map(|(id, ..)| *id).collect();
        let mut removed = 0;
        if !gone.is_empty() {
            let mut lock = self.write_lock().await?;
            // The ledger ends earlier afterwards, and is not to be taken for one that was set back.
            sqlx::query(
                "INSERT INTO rowbound_upkeep (storage, record) SELECT ?1, coalesce(max(id), 0) FROM rowbound_ledger WHERE true \
                 ON CONFLICT (storage) DO UPDATE SET record = max(CAST(record AS INTEGER), CAST(excluded.record AS INTEGER))",
            )
            .bind(LONGEST)
            .execute(lock.connection())
            .await
            .map_err(failed("remember how long the ledger was"))?;
            let done = sqlx::query("DELETE FROM rowbound_ledger WHERE id IN (SELECT value FROM json_each(?1))").bind(json(&gone)?);
            removed = done.execute(lock.connection()).await.map_err(failed("remove old entries of the ledger"))?.rows_affected();
            lock.end("COMMIT").await?;
        }
        let more = page.len() == limit as usize && page.iter().any(|(_, old, _)| *old);
        Ok(Forgotten { removed, next: page.last().map(|(id, ..)| *id).filter(|_| more) })
    }

    async fn keep(&self, storage: &str, _owner: &str, _lease: Duration) -> Result<Option<Upkeep>> {
        Ok(Some(self.upkeep(storage).await?.unwrap_or_default()))
    }

    async fn kept(&self, storage: &str, _owner: &str, upkeep: &Upkeep, entries: &[NewEntry]) -> Result<bool> {
        let record = write_upkeep(storage, upkeep)?;
        let mut lock = self.write_lock().await?;
        sqlx::query(
            "INSERT INTO rowbound_upkeep (storage, record) VALUES (?1, ?2) ON CONFLICT (storage) DO UPDATE SET record = excluded.record",
        )
        .bind(storage)
        .bind(record)
        .execute(lock.connection())
        .await
        .map_err(failed("keep the trash"))?;
        if !entries.is_empty() {
            enter_in(lock.connection(), entries).await?;
        }
        lock.end("COMMIT").await?;
        Ok(true)
    }

    async fn upkeep(&self, storage: &str) -> Result<Option<Upkeep>> {
        let mut connection = self.acquire().await?;
        let record: Option<String> = sqlx::query_scalar("SELECT record FROM rowbound_upkeep WHERE storage = ?1")
            .bind(storage)
            .fetch_optional(&mut *connection)
            .await
            .map_err(failed("read what is known of the trash"))?;
        record.map(|text| read_upkeep(storage, &text)).transpose()
    }

    /// A backup that was put in the file's place is another file, though it may have got the old one's inode number; or its ledger is shorter than it was.
    async fn timeline(&self) -> Result<Timeline> {
        let mut connection = self.acquire().await?;
        let file = identity::number_at(&self.path).map_err(|e| {
            Error::new(Kind::DatabaseUnreachable, "the SQLite file is gone").with("database", self.path.display()).because(e)
        })?;
        let last: i64 = sqlx::query_scalar(
            "SELECT max(coalesce((SELECT max(id) FROM rowbound_ledger), 0), \
               coalesce((SELECT CAST(record AS INTEGER) FROM rowbound_upkeep WHERE storage = ?1), 0))",
        )
        .bind(LONGEST)
        .fetch_one(&mut *connection)
        .await
        .map_err(failed("read the end of the ledger"))?;
        Ok(Timeline { id: format!("file{file}"), position: u64::try_from(last).unwrap_or(0) })
    }
}

/// Writes entries in the caller's transaction.
async fn enter_in(connection: &mut SqliteConnection, entries: &[NewEntry]) -> Result<()> {
    let rows: Vec<_> = entries.iter().map(|e| (&e.storage, &e.name, e.outcome.word(), e.event, e.size, &e.place, &e.note)).collect();
    let last = deliver::last_entry(connection).await?;
    sqlx::query(
        "INSERT INTO rowbound_ledger (storage, name, outcome, event, size, place, note) SELECT j.value ->> 0, j.value ->> 1, j.value ->> 2, \
         j.value ->> 3, j.value ->> 4, j.value ->> 5, j.value ->> 6 FROM json_each(?1) AS j ORDER BY j.id",
    )
    .bind(json(&rows)?)
    .execute(&mut *connection)
    .await
    .map_err(failed("enter"))?;
    if let Some(last) = last {
        deliver::tell(connection, last).await?;
    }
    Ok(())
}
