//! Candidates and the ledger.
//!
//! No lease is written: the one worker holds a file lock. A claim counts in the rows only where that is asked for.

use std::{borrow::Cow, time::Duration};

use jiff::Timestamp;
use sqlx::{AssertSqlSafe, Row, SqliteConnection, sqlite::SqliteRow};

use super::{Sqlite, WriteLock, deliver, fault::failed, install, json};
use crate::{
    capture::Reliance,
    database::{Hold, Shadowed, by_waits, read_outcome, read_record, read_waits, relied_on},
    error::{Error, Kind, Result},
    ledger::{Entry, Filter, NewEntry, Total},
    name::FileName,
    queue::{Announce, Backlog, CAME_BACK, CLAIM_BYTES, Candidate, Claim, Outcome, SWEEP, Settlement, Waiting, shortened},
};

// A note is what a row has that was put back; an announced upload has none, and its time is not ours to shorten.
pub(super) async fn claim(db: &Sqlite, claim: &Claim) -> Result<Vec<Candidate>> {
    let mut connection = db.acquire().await?;
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
        let mut lock = db.write_lock().await?;
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

// Where something is due, the first such row answers. Else all that was released and not yet looked at is read, which then is no more than a `grace`
// long. Ids say nothing of times: a clock that was ahead has put a late time on an early row.
pub(super) async fn next_due(db: &Sqlite, claim: &Claim) -> Result<Option<Duration>> {
    let mut connection = db.acquire().await?;
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

pub(super) async fn settle(db: &Sqlite, settlement: &Settlement, hold: Option<Hold>) -> Result<u64> {
    let mut lock = match hold.and_then(|h| h.0.downcast::<WriteLock>().ok()) {
        Some(lock) => *lock,
        None => db.write_lock().await?,
    };
    let mut count = 0;
    if !settlement.opened.is_empty() {
        let rows: Vec<_> = settlement.opened.iter().map(|o| (o.id, o.name.as_str())).collect();
        sqlx::query(
            "INSERT INTO rowbound_candidate (storage, binding, value, key, event, released_at, opened) \
             SELECT c.storage, c.binding, j.value ->> 1, c.key, c.event, c.released_at, 1 \
             FROM json_each(?1) AS j CROSS JOIN rowbound_candidate AS c ON c.id = j.value ->> 0 ORDER BY j.id",
        )
        .bind(json(&rows)?)
        .execute(lock.connection())
        .await
        .map_err(failed("open up candidates"))?;
    }
    if !settlement.settled.is_empty() {
        let rows: Vec<_> = settlement.settled.iter().map(|s| (s.id, s.outcome.word(), &s.name, s.size, &s.place, &s.note)).collect();
        let rows = json(&rows)?;
        let last = deliver::last_entry(lock.connection()).await?;
        sqlx::query(
            "INSERT INTO rowbound_ledger (storage, binding, name, key, event, released_at, outcome, size, place, note, owner) \
             SELECT c.storage, c.binding, \
             ifnull(j.value ->> 2, CASE WHEN typeof(c.value) IN ('integer', 'real') THEN CAST(c.value AS TEXT) ELSE c.value END), c.key, c.event, c.released_at, j.value ->> 1, j.value ->> 3, \
             j.value ->> 4, j.value ->> 5, ?2 FROM json_each(?1) AS j CROSS JOIN rowbound_candidate AS c ON c.id = j.value ->> 0 ORDER BY j.id",
        )
        .bind(&rows)
        .bind(&settlement.owner)
        .execute(lock.connection())
        .await
        .map_err(failed("settle"))?;
        if let Some(last) = last {
            deliver::tell(lock.connection(), last).await?;
        }
        let ids: Vec<i64> = settlement.settled.iter().map(|s| s.id).collect();
        count = drop_candidates(lock.connection(), &ids).await?;
    }
    if !settlement.empty.is_empty() {
        drop_candidates(lock.connection(), &settlement.empty).await?;
    }
    for (waits, back) in by_waits(&settlement.back)? {
        let rows: Vec<_> = back.iter().map(|(b, own)| (b.id, millis(b.wait), b.attempts, &b.note, own)).collect();
        let sql = format!(
            "UPDATE rowbound_candidate SET due_at = {NOW} + (j.value ->> 1), attempts = j.value ->> 2, note = j.value ->> 3, \
             waits = ifnull(j.value ->> 4, ?2) \
             FROM json_each(?1) AS j WHERE rowbound_candidate.id = j.value ->> 0"
        );
        let put_back = sqlx::query(AssertSqlSafe(sql)).bind(json(&rows)?).bind(waits);
        put_back.execute(lock.connection()).await.map_err(failed("put back"))?;
    }
    if !settlement.derived.is_empty() {
        let rows: Vec<_> = settlement.derived.iter().map(|d| (d.name.as_str(), d.original.as_str())).collect();
        let sql = format!(
            "INSERT INTO rowbound_candidate (storage, value, key, event, due_at) \
             SELECT ?2, j.value ->> 0, j.value ->> 1, 'derivative', {NOW} FROM json_each(?1) AS j"
        );
        let announced = sqlx::query(AssertSqlSafe(sql)).bind(json(&rows)?).bind(&settlement.storage);
        announced.execute(lock.connection()).await.map_err(failed("announce derivatives"))?;
    }
    lock.end("COMMIT").await?;
    Ok(count)
}

async fn drop_candidates(connection: &mut SqliteConnection, ids: &[i64]) -> Result<u64> {
    let gone = sqlx::query("DELETE FROM rowbound_candidate WHERE id IN (SELECT value FROM json_each(?1))").bind(json(&ids)?);
    Ok(gone.execute(connection).await.map_err(failed("settle"))?.rows_affected())
}

/// How long an upload waits for the write lock.
const UPLOAD_PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn announce(db: &Sqlite, items: &[Announce], on: Option<&Reliance>) -> Result<()> {
    let rows: Vec<_> = items.iter().map(|a| (&a.storage, a.name.as_str(), a.event, millis(a.wait))).collect();
    let rows = json(&rows)?;
    let sql = format!(
        "INSERT INTO rowbound_candidate (storage, value, event, due_at) \
         SELECT j.value ->> 0, j.value ->> 1, j.value ->> 2, {NOW} + (j.value ->> 3) FROM json_each(?1) AS j"
    );
    let uploads = items.iter().any(|a| a.event != SWEEP);
    let mut lock = match uploads {
        false => db.write_lock().await?,
        // Whoever uploads waits for it, and may be the one who holds the lock.
        true => db.write_lock_within(UPLOAD_PATIENCE.min(db.options.lock_patience)).await.map_err(|e| match e.kind() {
            Kind::Busy => e.hint(
                "is a transaction of the application's own open? On SQLite files are saved before a transaction begins to write: its lock keeps \
                 the candidate out",
            ),
            _ => e,
        })?,
    };
    if let Some(on) = on {
        let standing = install::standing_if_any(lock.connection()).await?.map(|text| read_record(&text)).transpose()?;
        relied_on(standing.as_ref(), on)?;
    }
    sqlx::query(AssertSqlSafe(sql)).bind(rows).execute(lock.connection()).await.map_err(failed("announce"))?;
    lock.end("COMMIT").await.map(drop)
}

pub(super) async fn enter(db: &Sqlite, entries: &[NewEntry]) -> Result<()> {
    let mut lock = db.write_lock().await?;
    enter_in(lock.connection(), entries).await?;
    lock.end("COMMIT").await.map(drop)
}

/// The same in the caller's transaction.
pub(super) async fn enter_in(connection: &mut SqliteConnection, entries: &[NewEntry]) -> Result<()> {
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

pub(super) async fn backlog(db: &Sqlite, claim: &Claim) -> Result<Backlog> {
    let mut connection = db.acquire().await?;
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

pub(super) async fn waiting(db: &Sqlite, values: &[String]) -> Result<Vec<Waiting>> {
    let mut connection = db.acquire().await?;
    let sql = format!("{WAITING} WHERE CAST(value AS BLOB) IN (SELECT CAST(value AS BLOB) FROM json_each(?1)) ORDER BY id");
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(json(&values)?).fetch_all(&mut *connection).await.map_err(failed("explain"))?;
    Ok(rows.iter().map(waiting_row).collect())
}

pub(super) async fn history(db: &Sqlite, filter: &Filter) -> Result<Vec<Entry>> {
    let mut connection = db.acquire().await?;
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

/// An entry whose columns stand from `at` on, in the order of [`history`].
pub(super) fn entry_row(r: &SqliteRow, at: usize) -> Result<Entry> {
    Ok(Entry {
        id: r.get(at),
        at: time(r.get(at + 1)),
        storage: r.get(at + 2),
        binding: r.get(at + 3),
        name: String::from_utf8_lossy(&r.get::<Vec<u8>, _>(at + 4)).into_owned(),
        key: r.get(at + 5),
        event: r.get(at + 6),
        released_at: opt_time(r.get(at + 7)),
        outcome: read_outcome(&r.get::<String, _>(at + 8))?,
        size: r.get::<Option<i64>, _>(at + 9).map(i64::unsigned_abs),
        place: r.get(at + 10),
        note: r.get(at + 11),
    })
}

pub(super) async fn in_places(db: &Sqlite, storage: &str, names: &[FileName], since: Timestamp) -> Result<Vec<(String, Outcome)>> {
    let mut connection = db.acquire().await?;
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

pub(super) async fn came_back(db: &Sqlite, storage: &str, names: &[FileName], since: Timestamp) -> Result<Vec<(String, Timestamp)>> {
    let mut connection = db.acquire().await?;
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

pub(super) async fn totals(db: &Sqlite, since: Option<Timestamp>) -> Result<Vec<Total>> {
    let mut connection = db.acquire().await?;
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

pub(super) async fn shadowed(db: &Sqlite, binding: i32, since: Option<Timestamp>) -> Result<Shadowed> {
    let mut connection = db.acquire().await?;
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
    Ok(Shadowed { files: row.get::<i64, _>(0).unsigned_abs(), bytes: row.get::<i64, _>(1).unsigned_abs(), oldest: opt_time(row.get(2)) })
}

/// A candidate as a claim reads it: id, binding, value and key in hex, event, release, attempts, whether it was opened up, what it waits for in hex.
type ClaimedRow<'a> = (i64, Option<i32>, &'a str, Option<&'a str>, Cow<'a, str>, i64, u32, i64, Option<&'a str>);

/// Now, by the clock that fills `released_at`.
pub(super) const NOW: &str = "CAST((julianday('now') - 2440587.5) * 86400000.0 AS INTEGER)";

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: &u8| char::from(*b).to_digit(16).map(|d| d as u8);
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| if let [a, b] = pair { Some(digit(a)? << 4 | digit(b)?) } else { None }).collect()
}

const WAITING: &str = "SELECT id, binding, CAST(value AS BLOB), key, event, released_at, due_at, attempts, note FROM rowbound_candidate";

fn waiting_row(r: &SqliteRow) -> Waiting {
    Waiting {
        id: r.get(0),
        binding: r.get(1),
        value: shortened(&r.get::<Vec<u8>, _>(2)),
        key: r.get(3),
        event: r.get(4),
        released_at: time(r.get(5)),
        due_at: opt_time(r.get(6)),
        attempts: r.get(7),
        note: r.get(8),
        claimed: false,
    }
}

fn opt_time(ms: Option<i64>) -> Option<Timestamp> {
    ms.map(time)
}

/// What is no moment counts as the first of all, because a file may go only if it is older than its release.
pub(super) fn time(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MIN)
}

/// Milliseconds, at most a hundred years, as elsewhere: what lies beyond is no moment any more.
pub(super) fn millis(d: Duration) -> i64 {
    const CENTURY: i64 = 100 * 366 * 86_400 * 1_000;
    i64::try_from(d.as_millis()).unwrap_or(CENTURY).min(CENTURY)
}
