//! Old entries leave the ledger.

use jiff::Timestamp;
use sqlx::PgPool;

use super::fault::failed;
use crate::{database::Forgotten, error::Result};

pub(super) async fn forget_entries(pool: &PgPool, before: Timestamp, after: i64, limit: u32) -> Result<Forgotten> {
    let (removed, last, more): (i64, Option<i64>, bool) = sqlx::query_as(include_str!("forget.sql"))
        .persistent(false)
        .bind(before.as_microsecond())
        .bind(after)
        .bind(i64::from(limit))
        .fetch_one(pool)
        .await
        .map_err(|e| failed("cannot remove old entries of the ledger", e))?;
    Ok(Forgotten { removed: removed.unsigned_abs(), next: last.filter(|_| more) })
}
