//! Candidates and deliveries.
//!
//! No lease of a candidate is written: the one worker holds a file lock. A claim counts in the rows only where that is asked for.

use std::{borrow::Cow, collections::HashSet, time::Duration};

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Row, SqliteConnection};

use super::{
    Sqlite,
    fault::failed,
    rows::{NOW, WAITING, entry_row, json, millis, time, unhex, waiting_row},
    schema, settle,
};
use crate::{
    capture::Reliance,
    database::{LockGuard, Queue, read_outcome, read_record, read_waits, relied_on},
    delivery::{Acknowledgement, DeliveryClaim, Failing, Pending, Registered, words},
    error::{Error, Kind, Result},
    queue::{Announce, Backlog, CLAIM_BYTES, Candidate, Claim, Outcome, SWEEP, Settlement, Waiting, Waits},
};

#[async_trait]
impl Queue for Sqlite {
    async fn announce(&self, items: &[Announce]) -> Result<()> {
        announced(self, items, None).await
    }

    async fn announce_relying(&self, items: &[Announce], on: &Reliance) -> Result<()> {
        announced(self, items, Some(on)).await
    }

    // A note is what a row has that was put back; an announced upload has none, and its time is not ours to shorten.
    async fn claim(&self, claim: &Claim) -> Result<Vec<Candidate>> {
        let mut connection = self.acquire().await?;
        // One row for all: a row of its own for each would be handed over from the connection's thread with a wake-up of ours, which takes
        // longer than everything else here. In hex, because a value may be anything.
        let due = format!(
            "FROM rowbound_candidate WHERE storage = ?1 \
             AND CASE WHEN due_at IS NULL THEN released_at + ?2 <= {NOW} ELSE due_at <= {NOW} OR (?3 AND note IS NOT NULL) END ORDER BY id LIMIT ?4"
        );
        // A running sum would be most of the statement's time (10 of 16 ms for 4,000 candidates), and says something only where values are large.
        let sql = format!(
            "SELECT json_group_array(json_array(id, binding, hex(value), iif(key IS NULL, NULL, hex(key)), event, released_at, attempts, opened, \
             iif(waits IS NULL, NULL, hex(waits)))) FROM (SELECT * {due}) \
             WHERE CASE WHEN (SELECT sum(length(value)) FROM (SELECT value {due})) < {CLAIM_BYTES} THEN 1 ELSE id IN (SELECT id FROM (SELECT id, \
             sum(length(value)) OVER (ORDER BY id) - length(value) AS before FROM (SELECT id, value {due})) WHERE before < {CLAIM_BYTES}) END"
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
        drop(connection);
        if claim.counted && !rows.is_empty() {
            let ids: Vec<i64> = rows.iter().map(|row| row.0).collect();
            let mut lock = self.write_lock().await?;
            let counted = "UPDATE rowbound_candidate SET attempts = attempts + 1 WHERE id IN (SELECT value FROM json_each(?1))";
            sqlx::query(counted).bind(json(&ids)?).execute(lock.connection()).await.map_err(failed("claim"))?;
            lock.end("COMMIT").await?;
        }
        rows.into_iter()
            .map(|(id, binding, value, key, event, released_at, attempts, opened, waits)| {
                let text = |hex: &str| unhex(hex).ok_or_else(broken).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
                Ok(Candidate {
                    id,
                    binding,
                    value: unhex(value).ok_or_else(broken)?,
                    key: key.map(text).transpose()?,
                    event: event.into_owned(),
                    released_at: time(released_at),
                    attempts,
                    opened: opened != 0,
                    waits: read_waits(id, waits.map(text).transpose()?.as_deref())?,
                })
            })
            .collect()
    }

    async fn confirm(&self, _owner: &str, ids: &[i64], _lease: Duration) -> Result<HashSet<i64>> {
        Ok(ids.iter().copied().collect())
    }

    // Where something is due, the first such row answers. Else all that was released and not yet looked at is read, which then is no more than a `grace`
    // long. Ids say nothing of times: a clock that was ahead has put a late time on an early row.
    async fn next_due(&self, claim: &Claim) -> Result<Option<Duration>> {
        let mut connection = self.acquire().await?;
        let fresh = "FROM rowbound_candidate WHERE storage = ?1 AND due_at IS NULL";
        let sql = format!(
            "SELECT CASE WHEN EXISTS (SELECT 1 {fresh} AND released_at + ?2 <= {NOW}) THEN 0 ELSE (SELECT min(due) - {NOW} FROM (\
               SELECT min(released_at) + ?2 AS due {fresh} \
               UNION ALL SELECT min(due_at) FROM rowbound_candidate WHERE storage = ?1 AND due_at IS NOT NULL)) END"
        );
        let wait: Option<i64> = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(&claim.storage)
            .bind(millis(claim.grace))
            .fetch_one(&mut *connection)
            .await
            .map_err(failed("poll"))?;
        Ok(wait.map(|ms| Duration::from_millis(ms.max(0).unsigned_abs())))
    }

    async fn settle(&self, settlement: &Settlement, lock: Option<LockGuard>) -> Result<u64> {
        settle::settle(self, settlement, lock).await
    }

    async fn backlog(&self, claim: &Claim) -> Result<Backlog> {
        let mut connection = self.acquire().await?;
        let sql = format!(
            "SELECT count(*), count(*) FILTER (WHERE ifnull(due_at, released_at + ?2) <= {NOW}), count(*) FILTER (WHERE attempts > (note IS NULL)), \
             count(*) FILTER (WHERE event IN ('stage', 'direct', 'return') AND due_at > {NOW} AND note IS NULL), \
             ({NOW} - min(released_at) FILTER (WHERE event NOT IN ('stage', 'direct') OR due_at <= {NOW})) / 1000, \
             ({NOW} - min(ifnull(due_at, released_at + ?2))) / 1000 FROM rowbound_candidate WHERE storage = ?1"
        );
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(&claim.storage)
            .bind(millis(claim.grace))
            .fetch_one(&mut *connection)
            .await
            .map_err(failed("status"))?;
        let count = |i: usize| row.get::<i64, _>(i).unsigned_abs();
        let sample =
            sqlx::query(AssertSqlSafe(format!("{WAITING} WHERE storage = ?1 AND note IS NOT NULL ORDER BY attempts = 0, id LIMIT 10")))
                .bind(&claim.storage)
                .fetch_all(&mut *connection)
                .await
                .map_err(failed("status"))?;
        Ok(Backlog {
            total: count(0),
            due: count(1),
            failing: count(2),
            staged: count(3),
            oldest_seconds: row.get::<Option<i64>, _>(4).map(|s| s.max(0).unsigned_abs()),
            due_seconds: row.get::<Option<i64>, _>(5).and_then(|s| u64::try_from(s).ok()),
            sample: sample.iter().map(waiting_row).collect(),
        })
    }

    async fn waits(&self, _claim: &Claim) -> Result<Vec<(Option<Waits>, u64)>> {
        Ok(Vec::new())
    }

    async fn waiting(&self, values: &[String]) -> Result<Vec<Waiting>> {
        let mut connection = self.acquire().await?;
        let sql = format!("{WAITING} WHERE CAST(value AS BLOB) IN (SELECT CAST(value AS BLOB) FROM json_each(?1)) ORDER BY id");
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(json(&values)?).fetch_all(&mut *connection).await.map_err(failed("explain"))?;
        Ok(rows.iter().map(waiting_row).collect())
    }

    async fn follow(&self, name: &str, outcomes: &[Outcome]) -> Result<()> {
        let words = words(outcomes);
        let mut connection = self.acquire().await?;
        let stands: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM rowbound_follower WHERE name = ?1 AND outcomes = ?2)")
            .bind(name)
            .bind(&words)
            .fetch_one(&mut *connection)
            .await
            .map_err(failed("follow"))?;
        drop(connection);
        if stands {
            return Ok(());
        }
        let mut lock = self.write_lock().await?;
        let sql = format!(
            "INSERT INTO rowbound_follower (name, since, outcomes) VALUES (?1, {NOW}, ?2) ON CONFLICT (name) DO UPDATE SET outcomes = excluded.outcomes"
        );
        sqlx::query(AssertSqlSafe(sql)).bind(name).bind(&words).execute(lock.connection()).await.map_err(failed("follow"))?;
        lock.end("COMMIT").await.map(drop)
    }

    async fn unfollow(&self, name: &str) -> Result<Option<u64>> {
        let mut lock = self.write_lock().await?;
        let gone = sqlx::query("DELETE FROM rowbound_delivery WHERE follower = (SELECT id FROM rowbound_follower WHERE name = ?1)")
            .bind(name)
            .execute(lock.connection())
            .await
            .map_err(failed("forget a follower"))?;
        let known = sqlx::query("DELETE FROM rowbound_follower WHERE name = ?1")
            .bind(name)
            .execute(lock.connection())
            .await
            .map_err(failed("forget a follower"))?;
        lock.end("COMMIT").await?;
        Ok((known.rows_affected() > 0).then(|| gone.rows_affected()))
    }

    async fn followers(&self) -> Result<Vec<Registered>> {
        let mut connection = self.acquire().await?;
        // The oldest entry is the one with the smallest number.
        let sql = format!(
            "SELECT w.id, w.name, w.outcomes, w.since, w.waiting, w.due, w.failing, ({NOW} - l.at) / 1000, ({NOW} - w.overdue) / 1000 FROM \
             (SELECT f.*, count(d.entry) AS waiting, count(*) FILTER (WHERE d.due_at <= {NOW}) AS due, \
              count(*) FILTER (WHERE d.attempts > 0) AS failing, min(d.entry) AS oldest, min(d.due_at) FILTER (WHERE d.due_at <= {NOW}) AS overdue \
              FROM rowbound_follower AS f LEFT JOIN rowbound_delivery AS d ON d.follower = f.id GROUP BY f.id) AS w \
             LEFT JOIN rowbound_ledger AS l ON l.id = w.oldest ORDER BY w.name"
        );
        let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut *connection).await.map_err(failed("status"))?;
        let mut followers = Vec::with_capacity(rows.len());
        for row in &rows {
            let count = |i: usize| row.get::<i64, _>(i).unsigned_abs();
            let seconds = |i: usize| row.get::<Option<i64>, _>(i).map(|s| s.max(0).unsigned_abs());
            let sample = match count(6) {
                0 => Vec::new(),
                _ => sqlx::query(
                    "SELECT d.entry, l.storage, CAST(l.name AS BLOB), d.due_at, d.attempts, d.note FROM rowbound_delivery AS d \
                     LEFT JOIN rowbound_ledger AS l ON l.id = d.entry WHERE d.follower = ?1 AND d.attempts > 0 ORDER BY d.entry LIMIT 10",
                )
                .bind(row.get::<i64, _>(0))
                .fetch_all(&mut *connection)
                .await
                .map_err(failed("status"))?,
            };
            followers.push(Registered {
                name: row.get(1),
                outcomes: row.get::<&str, _>(2).split(',').map(read_outcome).collect::<Result<_>>()?,
                since: time(row.get(3)),
                waiting: count(4),
                due: count(5),
                failing: count(6),
                oldest_seconds: seconds(7),
                overdue_seconds: seconds(8),
                sample: sample
                    .iter()
                    .map(|r| Failing {
                        entry: r.get(0),
                        storage: r.get(1),
                        name: r.get::<Option<Vec<u8>>, _>(2).map(|n| String::from_utf8_lossy(&n).into_owned()),
                        due_at: time(r.get(3)),
                        attempts: r.get(4),
                        note: r.get(5),
                    })
                    .collect(),
            });
        }
        Ok(followers)
    }

    async fn claim_deliveries(&self, claim: &DeliveryClaim) -> Result<Vec<Pending>> {
        let mut connection = self.acquire().await?;
        // Asked without the lock, which nobody takes for nothing.
        let any: Option<i64> = sqlx::query_scalar(AssertSqlSafe(due()))
            .bind(&claim.follower)
            .bind(1)
            .fetch_optional(&mut *connection)
            .await
            .map_err(failed("poll"))?;
        drop(connection);
        if any.is_none() {
            return Ok(Vec::new());
        }
        let mut lock = self.write_lock().await?;
        let entries: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(due()))
            .bind(&claim.follower)
            .bind(claim.limit)
            .fetch_all(lock.connection())
            .await
            .map_err(failed("take deliveries"))?;
        let entries = json(&entries)?;
        lease(lock.connection(), claim, &entries).await?;
        let mut connection = lock.end("COMMIT").await?;
        let rows = sqlx::query(
            "SELECT d.entry, d.attempts, l.id, l.at, l.storage, l.binding, CAST(l.name AS BLOB), l.key, l.event, l.released_at, l.outcome, l.size, \
             l.place, l.note FROM json_each(?1) AS j CROSS JOIN rowbound_delivery AS d ON d.entry = j.value \
             AND d.follower = (SELECT id FROM rowbound_follower WHERE name = ?2) LEFT JOIN rowbound_ledger AS l ON l.id = d.entry ORDER BY d.entry",
        )
        .bind(&entries)
        .bind(&claim.follower)
        .fetch_all(&mut *connection)
        .await
        .map_err(failed("read deliveries"))?;
        rows.iter()
            .map(|r| {
                let there = r.get::<Option<i64>, _>(2).is_some();
                Ok(Pending { id: r.get(0), attempts: r.get(1), entry: there.then(|| entry_row(r, 2)).transpose()? })
            })
            .collect()
    }

    async fn extend_lease(&self, claim: &DeliveryClaim, entries: &[i64]) -> Result<()> {
        let mut lock = self.write_lock().await?;
        let held: Vec<i64> = sqlx::query_scalar(
            "SELECT entry FROM rowbound_delivery WHERE follower = (SELECT id FROM rowbound_follower WHERE name = ?1) \
             AND entry IN (SELECT value FROM json_each(?2)) AND owner = ?3",
        )
        .bind(&claim.follower)
        .bind(json(&entries)?)
        .bind(&claim.owner)
        .fetch_all(lock.connection())
        .await
        .map_err(failed("lease deliveries"))?;
        lease(lock.connection(), claim, &json(&held)?).await?;
        lock.end("COMMIT").await.map(drop)
    }

    async fn acknowledge(&self, ack: &Acknowledgement) -> Result<u64> {
        let mut lock = self.write_lock().await?;
        let mut gone = 0;
        if !ack.delivered.is_empty() {
            gone = sqlx::query(
                "DELETE FROM rowbound_delivery WHERE follower = (SELECT id FROM rowbound_follower WHERE name = ?1) \
                 AND entry IN (SELECT value FROM json_each(?2)) AND owner = ?3",
            )
            .bind(&ack.follower)
            .bind(json(&ack.delivered)?)
            .bind(&ack.owner)
            .execute(lock.connection())
            .await
            .map_err(failed("acknowledge"))?
            .rows_affected();
        }
        if !ack.again.is_empty() {
            let rows: Vec<_> = ack.again.iter().map(|a| (a.id, millis(a.wait), a.error.is_some(), &a.error)).collect();
            let sql = format!(
                "UPDATE rowbound_delivery SET due_at = {NOW} + (j.value ->> 1), owner = NULL, attempts = attempts + (j.value ->> 2), \
                 note = ifnull(j.value ->> 3, note) FROM json_each(?1) AS j \
                 WHERE rowbound_delivery.follower = (SELECT id FROM rowbound_follower WHERE name = ?2) \
                 AND rowbound_delivery.entry = j.value ->> 0 AND rowbound_delivery.owner = ?3"
            );
            sqlx::query(AssertSqlSafe(sql))
                .bind(json(&rows)?)
                .bind(&ack.follower)
                .bind(&ack.owner)
                .execute(lock.connection())
                .await
                .map_err(failed("acknowledge"))?;
        }
        lock.end("COMMIT").await?;
        Ok(gone)
    }

    async fn retry_deliveries_now(&self, follower: &str) -> Result<u64> {
        let mut lock = self.write_lock().await?;
        let sql = format!(
            "UPDATE rowbound_delivery SET due_at = {NOW} WHERE follower = (SELECT id FROM rowbound_follower WHERE name = ?1) \
             AND owner IS NULL AND due_at > {NOW}"
        );
        let done =
            sqlx::query(AssertSqlSafe(sql)).bind(follower).execute(lock.connection()).await.map_err(failed("make deliveries due"))?;
        lock.end("COMMIT").await?;
        Ok(done.rows_affected())
    }
}

/// How long an upload waits for the write lock.
const UPLOAD_PATIENCE: Duration = Duration::from_secs(10);

/// With `on`, if that is what stands.
async fn announced(db: &Sqlite, items: &[Announce], on: Option<&Reliance>) -> Result<()> {
    let rows: Vec<_> = items.iter().map(|a| (&a.storage, a.name.as_str(), a.event, millis(a.wait))).collect();
    let rows = json(&rows)?;
    let sql = format!(
        "INSERT INTO rowbound_candidate (storage, value, event, due_at) \
         SELECT j.value ->> 0, j.value ->> 1, j.value ->> 2, {NOW} + (j.value ->> 3) FROM json_each(?1) AS j"
    );
    let uploads = items.iter().any(|a| a.event != SWEEP);
    let mut lock = match uploads {
        false => db.write_lock().await?,
        // An upload waits for it, and may be the one who holds the lock.
        true => db.write_lock_within(UPLOAD_PATIENCE.min(db.options.lock_patience)).await.map_err(|e| match e.kind() {
            Kind::Busy => e.hint(
                "is a transaction of the application's own open? On SQLite files are saved before a transaction begins to write: its lock keeps \
                 the candidate out",
            ),
            _ => e,
        })?,
    };
    if let Some(on) = on {
        let standing = schema::standing_if_any(lock.connection()).await?.map(|text| read_record(&text)).transpose()?;
        relied_on(standing.as_ref(), on)?;
    }
    sqlx::query(AssertSqlSafe(sql)).bind(rows).execute(lock.connection()).await.map_err(failed("announce"))?;
    lock.end("COMMIT").await.map(drop)
}

/// A candidate as a claim reads it: id, binding, value and key in hex, event, release, attempts, whether it was opened up, what it waits for in hex.
type ClaimedRow<'a> = (i64, Option<i32>, &'a str, Option<&'a str>, Cow<'a, str>, i64, u32, i64, Option<&'a str>);

/// What is due, the longest due first; of one storage and name only the earliest entry. Parameters: the follower's name, the limit.
fn due() -> String {
    format!(
        "SELECT d.entry FROM rowbound_delivery AS d WHERE d.follower = (SELECT id FROM rowbound_follower WHERE name = ?1) AND d.due_at <= {NOW} \
         AND d.entry = (SELECT min(e.entry) FROM rowbound_delivery AS e WHERE e.follower = d.follower AND e.lane = d.lane) \
         ORDER BY d.due_at, d.entry LIMIT ?2"
    )
}

/// A lease on `entries`, a JSON array.
async fn lease(connection: &mut SqliteConnection, claim: &DeliveryClaim, entries: &str) -> Result<()> {
    let sql = format!(
        "UPDATE rowbound_delivery SET due_at = {NOW} + ?3, owner = ?4 \
         WHERE follower = (SELECT id FROM rowbound_follower WHERE name = ?1) AND entry IN (SELECT value FROM json_each(?2))"
    );
    sqlx::query(AssertSqlSafe(sql))
        .bind(&claim.follower)
        .bind(entries)
        .bind(millis(claim.lease))
        .bind(&claim.owner)
        .execute(connection)
        .await
        .map_err(failed("lease deliveries"))?;
    Ok(())
}
