//! Old entries leave the ledger.

use jiff::Timestamp;

use super::{Mysql, fault, int};
use crate::{database::Forgotten, error::Result};

/// See [`super::Database::forget_entries`]. Nothing that happens between the two statements makes an entry needed again, and the second locks no gap.
pub(super) async fn forget_entries(db: &Mysql, before: Timestamp, after: i64, limit: u32) -> Result<Forgotten> {
    let page = sqlx::query(include_str!("forget.sql"))
        .persistent(false)
        .bind(before.as_microsecond())
        .bind(before.as_microsecond())
        .bind(after)
        .bind(limit)
        .fetch_all(db.pool())
        .await
        .map_err(fault)?;
    let (mut gone, mut old, mut last) = (Vec::new(), false, None);
    for row in &page {
        let id = int(row, 0)?;
        old |= int(row, 1)? != 0;
        if int(row, 2)? != 0 {
            gone.push(id);
        }
        last = Some(id);
    }
    let mut removed = 0;
    if !gone.is_empty() {
        removed = sqlx::query(
            "delete l from json_table(?, '$[*]' columns (id bigint path '$')) j \
             straight_join rowbound_ledger l force index (primary) on l.id = j.id",
        )
        .bind(serde_json::json!(gone).to_string())
        .execute(db.pool())
        .await
        .map_err(fault)?
        .rows_affected();
    }
    Ok(Forgotten { removed, next: last.filter(|_| old && page.len() == limit as usize) })
}
