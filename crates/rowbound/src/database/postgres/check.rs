//! References: found, never overlooked.
//!
//! In: searches, and the snapshot that `attach` left. Out: every value that matches, of one moment.

use std::collections::HashSet;

use sqlx::{AssertSqlSafe, PgPool};

use super::{
    fault::{failed, standing_by},
    queue::without_nul,
    snapshot_of,
    tables::{self, ident},
    triggers,
};
use crate::{
    binding::Column,
    capture::{Bound, Snapshot},
    database::{Checked, ColumnSearch, Found, Holder, drifted},
    error::Result,
};

/// How long a check waits for a migration that holds a bound table.
const CHECK_LOCK_TIMEOUT: &str = "5s";

/// One snapshot for all columns: under READ COMMITTED a row that moves a name from a column not yet read to one already
/// read would be missed in both. The tables are locked (ACCESS SHARE) before the snapshot is taken, because DDL and TRUNCATE
/// do not respect snapshots.
pub(super) async fn check(pool: &PgPool, bound: &[Bound], snapshot: &Snapshot, searches: &[ColumnSearch]) -> Result<Checked> {
    // Names first, outside: looking them up would take the snapshot. What changes until the lock is had, the snapshot tells.
    let mut columns: Vec<&Column> = bound.iter().map(|b| &b.binding.column).collect();
    columns.extend(searches.iter().map(|s| &s.column));
    let mut resolved = tables::resolve(&mut *pool.acquire().await.map_err(|e| failed("cannot connect", e))?, &columns).await?;
    let locks: HashSet<_> = resolved.iter().filter(|r| matches!(&*r.kind, "r" | "p")).map(tables::Resolved::table_sql).collect();
    let of_searches = resolved.split_off(bound.len());

    let mut tx = pool.begin_with("begin isolation level repeatable read").await.map_err(|e| failed("cannot begin a transaction", e))?;
    // An error instead of fewer rows where row security applies.
    let mut sql = format!("set local row_security = off; set local lock_timeout = '{CHECK_LOCK_TIMEOUT}'");
    if !locks.is_empty() {
        sql = format!("{sql}; lock table {} in access share mode", locks.into_iter().collect::<Vec<_>>().join(", "));
    }
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *tx).await.map_err(|e| failed("cannot hold the bound tables", e))?;

    let drift = snapshot.drift(&snapshot_of(&mut tx, bound).await?);
    if !drift.is_empty() {
        return Err(drifted(&drift));
    }

    let mut found = Vec::new();
    for (search, r) in searches.iter().zip(&of_searches) {
        tables::usable(&search.column, r)?;
        for (what, values) in wheres(r, search) {
            let sql = format!("select t.{f}::text from {} t where {what}", r.table_sql(), f = ident(&search.column.column));
            // Planned for these very values: a plan for any values compares an array one by one instead of hashing it.
            let values: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql))
                .persistent(false)
                .bind(values)
                .fetch_all(&mut *tx)
                .await
                .map_err(|e| failed("cannot look for references", e).with("column", &search.column))?;
            let distinct: HashSet<String> = values.into_iter().collect();
            found.extend(distinct.into_iter().map(|v| Found { binding: search.binding, value: v.into_bytes() }));
        }
    }
    // What this snapshot saw may have been committed without reaching the disk yet. A record of our own and a commit that waits
    // for it take it there before any file goes; see SESSION.
    let confirmed: Option<String> =
        sqlx::query_scalar("select case when not pg_is_in_recovery() then pg_logical_emit_message(true, 'rowbound', 'checked')::text end")
            .fetch_one(&mut *tx)
            .await
            .map_err(|e| failed("cannot confirm the check", e))?;
    if confirmed.is_none() {
        return Err(standing_by());
    }
    tx.commit().await.map_err(|e| failed("cannot confirm the check", e))?;
    Ok(Checked { found, hold: None })
}

pub(super) async fn holders(pool: &PgPool, searches: &[ColumnSearch], limit: u32) -> Result<Vec<Holder>> {
    let mut tx = pool
        .begin_with("begin isolation level repeatable read, read only; set local row_security = off")
        .await
        .map_err(|e| failed("cannot begin a transaction", e))?;
    let columns: Vec<_> = searches.iter().map(|s| &s.column).collect();
    let resolved = tables::resolve(&mut tx, &columns).await?;
    let mut holders = Vec::new();
    for (search, r) in searches.iter().zip(&resolved) {
        tables::usable(&search.column, r)?;
        let mut left = i64::from(limit);
        for (what, values) in wheres(r, search) {
            let sql = format!(
                "select t.{f}::text, {} from {} t where {what} limit $2",
                triggers::key_sql("t", &r.key),
                r.table_sql(),
                f = ident(&search.column.column)
            );
            let rows: Vec<(String, Option<String>)> = sqlx::query_as(AssertSqlSafe(sql))
                .persistent(false)
                .bind(values)
                .bind(left)
                .fetch_all(&mut *tx)
                .await
                .map_err(|e| failed("cannot look for references", e).with("column", &search.column))?;
            left -= i64::try_from(rows.len()).unwrap_or(left);
            holders.extend(rows.into_iter().map(|(value, key)| Holder { binding: search.binding, key, value }));
        }
    }
    Ok(holders)
}

/// The conditions that a search comes to, each with the array for its `$1`. Rows of partitions and children count: no ONLY.
fn wheres(r: &tables::Resolved, search: &ColumnSearch) -> Vec<(String, Vec<String>)> {
    let f = format!("t.{}", ident(&search.column.column));
    let mut all = Vec::new();
    let values = without_nul(&search.search.values);
    if !values.is_empty() {
        all.push((format!("{f} {}", r.equals_any("$1")), values));
    }
    let prefixes = without_nul(&search.search.odd_under);
    if !prefixes.is_empty() {
        // Collation "C": a pattern does not work under a nondeterministic one.
        let odd = format!(
            "{f}::text collate \"C\" ~ '[%?#]' and exists (select from unnest($1::text[]) as p where starts_with({f}::text collate \"C\", p collate \"C\"))"
        );
        all.push((odd, prefixes));
    }
    all
}
