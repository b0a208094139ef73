//! A batch is settled: entries in, candidates out, in the transaction that holds the write lock.

use sqlx::{AssertSqlSafe, SqliteConnection};

use super::{
    Sqlite, WriteLock, deliver,
    fault::failed,
    rows::{NOW, json, millis},
};
use crate::{
    database::{LockGuard, by_waits},
    error::Result,
    queue::Settlement,
};

pub(super) async fn settle(db: &Sqlite, settlement: &Settlement, lock: Option<LockGuard>) -> Result<u64> {
    let mut lock = match lock.and_then(|h| h.0.downcast::<WriteLock>().ok()) {
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
