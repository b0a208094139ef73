//! Followers and what they have yet to hear.

use sqlx::{AssertSqlSafe, Row, SqliteConnection};

use super::{
    Sqlite,
    fault::failed,
    json,
    queue::{NOW, entry_row, millis, time},
};
use crate::{
    database::read_outcome,
    delivery::{Failing, Pending, Receipt, Registered, Turn, words},
    error::Result,
    queue::Outcome,
};

/// The last entry in the ledger, if anybody follows. Under the write lock: what comes behind it is ours.
pub(super) async fn last_entry(connection: &mut SqliteConnection) -> Result<Option<i64>> {
    sqlx::query_scalar("SELECT (SELECT ifnull(max(id), 0) FROM rowbound_ledger) FROM rowbound_follower LIMIT 1")
        .fetch_optional(connection)
        .await
        .map_err(failed("look for followers"))
}

/// Writes the deliveries of what entered the ledger behind `last`. A number whose entry was deleted by hand may come again: then what waited for that one is
/// of this one.
pub(super) async fn tell(connection: &mut SqliteConnection, last: i64) -> Result<()> {
    let sql = format!(
        "INSERT INTO rowbound_delivery (follower, entry, lane, due_at) \
         SELECT f.id, l.id, CAST(l.storage || '/' || l.name AS BLOB), {NOW} FROM rowbound_ledger AS l CROSS JOIN rowbound_follower AS f \
         WHERE l.id > ?1 AND instr(',' || f.outcomes || ',', ',' || l.outcome || ',') \
         ON CONFLICT (follower, entry) DO UPDATE SET lane = excluded.lane, due_at = excluded.due_at, owner = NULL, attempts = 0, note = NULL"
    );
    sqlx::query(AssertSqlSafe(sql)).bind(last).execute(connection).await.map_err(failed("tell followers"))?;
    Ok(())
}

pub(super) async fn follow(db: &Sqlite, name: &str, outcomes: &[Outcome]) -> Result<()> {
    let words = words(outcomes);
    let mut connection = db.acquire().await?;
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
    let mut lock = db.write_lock().await?;
    let sql = format!(
        "INSERT INTO rowbound_follower (name, since, outcomes) VALUES (?1, {NOW}, ?2) ON CONFLICT (name) DO UPDATE SET outcomes = excluded.outcomes"
    );
    sqlx::query(AssertSqlSafe(sql)).bind(name).bind(&words).execute(lock.connection()).await.map_err(failed("follow"))?;
    lock.end("COMMIT").await.map(drop)
}

pub(super) async fn unfollow(db: &Sqlite, name: &str) -> Result<Option<u64>> {
    let mut lock = db.write_lock().await?;
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

pub(super) async fn followers(db: &Sqlite) -> Result<Vec<Registered>> {
    let mut connection = db.acquire().await?;
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

/// What is due, the longest due first; of one storage and name only the earliest entry. Parameters: the follower's name, the limit.
fn due() -> String {
    format!(
        "SELECT d.entry FROM rowbound_delivery AS d WHERE d.follower = (SELECT id FROM rowbound_follower WHERE name = ?1) AND d.due_at <= {NOW} \
         AND d.entry = (SELECT min(e.entry) FROM rowbound_delivery AS e WHERE e.follower = d.follower AND e.lane = d.lane) \
         ORDER BY d.due_at, d.entry LIMIT ?2"
    )
}

pub(super) async fn take_turn(db: &Sqlite, turn: &Turn) -> Result<Vec<Pending>> {
    let mut connection = db.acquire().await?;
    // Asked without the lock, which nobody takes for nothing.
    let any: Option<i64> = sqlx::query_scalar(AssertSqlSafe(due()))
        .bind(&turn.follower)
        .bind(1)
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed("poll"))?;
    drop(connection);
    if any.is_none() {
        return Ok(Vec::new());
    }
    let mut lock = db.write_lock().await?;
    let entries: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(due()))
        .bind(&turn.follower)
        .bind(turn.limit)
        .fetch_all(lock.connection())
        .await
        .map_err(failed("take deliveries"))?;
    let entries = json(&entries)?;
    lease(lock.connection(), turn, &entries).await?;
    let mut connection = lock.end("COMMIT").await?;
    let rows = sqlx::query(
        "SELECT d.entry, d.attempts, l.id, l.at, l.storage, l.binding, CAST(l.name AS BLOB), l.key, l.event, l.released_at, l.outcome, l.size, \
         l.place, l.note FROM json_each(?1) AS j CROSS JOIN rowbound_delivery AS d ON d.entry = j.value \
         AND d.follower = (SELECT id FROM rowbound_follower WHERE name = ?2) LEFT JOIN rowbound_ledger AS l ON l.id = d.entry ORDER BY d.entry",
    )
    .bind(&entries)
    .bind(&turn.follower)
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

/// A lease on `entries`, a JSON array.
async fn lease(connection: &mut SqliteConnection, turn: &Turn, entries: &str) -> Result<()> {
    let sql = format!(
        "UPDATE rowbound_delivery SET due_at = {NOW} + ?3, owner = ?4 \
         WHERE follower = (SELECT id FROM rowbound_follower WHERE name = ?1) AND entry IN (SELECT value FROM json_each(?2))"
    );
    sqlx::query(AssertSqlSafe(sql))
        .bind(&turn.follower)
        .bind(entries)
        .bind(millis(turn.lease))
        .bind(&turn.owner)
        .execute(connection)
        .await
        .map_err(failed("lease deliveries"))?;
    Ok(())
}

pub(super) async fn prolong(db: &Sqlite, turn: &Turn, entries: &[i64]) -> Result<()> {
    let mut lock = db.write_lock().await?;
    let held: Vec<i64> = sqlx::query_scalar(
        "SELECT entry FROM rowbound_delivery WHERE follower = (SELECT id FROM rowbound_follower WHERE name = ?1) \
         AND entry IN (SELECT value FROM json_each(?2)) AND owner = ?3",
    )
    .bind(&turn.follower)
    .bind(json(&entries)?)
    .bind(&turn.owner)
    .fetch_all(lock.connection())
    .await
    .map_err(failed("lease deliveries"))?;
    lease(lock.connection(), turn, &json(&held)?).await?;
    lock.end("COMMIT").await.map(drop)
}

pub(super) async fn acknowledge(db: &Sqlite, receipt: &Receipt) -> Result<u64> {
    let mut lock = db.write_lock().await?;
    let mut gone = 0;
    if !receipt.delivered.is_empty() {
        gone = sqlx::query(
            "DELETE FROM rowbound_delivery WHERE follower = (SELECT id FROM rowbound_follower WHERE name = ?1) \
             AND entry IN (SELECT value FROM json_each(?2)) AND owner = ?3",
        )
        .bind(&receipt.follower)
        .bind(json(&receipt.delivered)?)
        .bind(&receipt.owner)
        .execute(lock.connection())
        .await
        .map_err(failed("acknowledge"))?
        .rows_affected();
    }
    if !receipt.again.is_empty() {
        let rows: Vec<_> = receipt.again.iter().map(|a| (a.id, millis(a.wait), a.error.is_some(), &a.error)).collect();
        let sql = format!(
            "UPDATE rowbound_delivery SET due_at = {NOW} + (j.value ->> 1), owner = NULL, attempts = attempts + (j.value ->> 2), \
             note = ifnull(j.value ->> 3, note) FROM json_each(?1) AS j \
             WHERE rowbound_delivery.follower = (SELECT id FROM rowbound_follower WHERE name = ?2) \
             AND rowbound_delivery.entry = j.value ->> 0 AND rowbound_delivery.owner = ?3"
        );
        sqlx::query(AssertSqlSafe(sql))
            .bind(json(&rows)?)
            .bind(&receipt.follower)
            .bind(&receipt.owner)
            .execute(lock.connection())
            .await
            .map_err(failed("acknowledge"))?;
    }
    lock.end("COMMIT").await?;
    Ok(gone)
}

pub(super) async fn hasten(db: &Sqlite, follower: &str) -> Result<u64> {
    let mut lock = db.write_lock().await?;
    let sql = format!(
        "UPDATE rowbound_delivery SET due_at = {NOW} WHERE follower = (SELECT id FROM rowbound_follower WHERE name = ?1) \
         AND owner IS NULL AND due_at > {NOW}"
    );
    let done = sqlx::query(AssertSqlSafe(sql)).bind(follower).execute(lock.connection()).await.map_err(failed("hasten deliveries"))?;
    lock.end("COMMIT").await?;
    Ok(done.rows_affected())
}
