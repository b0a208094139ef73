//! Deliveries to followers, written with the entries themselves.

use sqlx::{AssertSqlSafe, SqliteConnection};

use super::{fault::failed, rows::NOW};
use crate::error::Result;

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
