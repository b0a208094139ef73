//! Old entries leave the ledger.

use jiff::Timestamp;

use super::{Sqlite, fault::failed, json, upkeep::LONGEST};
use crate::{database::Forgotten, error::Result};

// Read without the write lock, which is then held for the removal alone. Nothing that happens in between makes an entry needed again.
pub(super) async fn forget_entries(db: &Sqlite, before: Timestamp, after: i64, limit: u32) -> Result<Forgotten> {
    let mut connection = db.acquire().await?;
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
        let mut lock = db.write_lock().await?;
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
