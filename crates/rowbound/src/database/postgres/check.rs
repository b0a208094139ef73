//! References: found, never overlooked.
//!
//! In: searches, and the snapshot that `attach` left. Out: every value that matches, of one moment.

use std::collections::HashSet;

use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Row};

use super::{
    fault::{failed, hides_rows, standing_by},
    queue::without_nul,
    snapshot_of,
    tables::{self, ident},
    triggers,
};
use crate::{
    binding::{Column, Held, Reading, Scan},
    capture::{Bound, Snapshot},
    database::{Checked, ColumnSearch, Found, Holder, as_table, drifted, with_tables},
    error::Result,
    name::FileName,
};

/// How long a check waits for a migration that holds a bound table.
const CHECK_LOCK_TIMEOUT: &str = "5s";

/// Whether a collation of a column of the tables $1 sorts otherwise than when indexes were
/// built: after an upgrade of the C library or of ICU a btree on text misses rows (<https://wiki.postgresql.org/wiki/Locale_data_changes>).
/// Whatever has a collation version and does not match counts. To ask the library for a version takes its time (20 ms for all eight hundred of them): only
/// those in use are asked for.
const COLLATIONS: &str = "with used as materialized (select oid, collversion from pg_collation where collversion is not null
        and oid in (select attcollation from pg_attribute where attrelid = any ($1::int8[]::oid[])))
    select exists (select from used where collversion is distinct from pg_collation_actual_version(oid))";

/// The same for the database's own collation; PostgreSQL 14 does not keep its version.
const DATABASE_COLLATION: &str =
    "select datcollversion is not null and datcollversion is distinct from pg_database_collation_actual_version(oid)
    from pg_database where datname = current_database()";

const NO_INDEXES: &str = "set local enable_indexscan = off; set local enable_indexonlyscan = off; set local enable_bitmapscan = off";

/// Whether indexes on text cannot be trusted.
pub(super) async fn indexes_are_stale(conn: &mut PgConnection, tables: &[i64]) -> Result<bool> {
    let error = |e| failed("cannot compare the versions of collations", e);
    if sqlx::query_scalar(COLLATIONS).bind(tables).fetch_one(&mut *conn).await.map_err(error)? {
        return Ok(true);
    }
    if conn.server_version_num().is_none_or(|v| v < 150_000) {
        return Ok(false);
    }
    sqlx::query_scalar(DATABASE_COLLATION).fetch_one(conn).await.map_err(error)
}

/// One snapshot for all columns: under READ COMMITTED a row that moves a name from a column not yet read to one already
/// read would be missed in both. The tables are locked (ACCESS SHARE) before the snapshot is taken, because DDL and TRUNCATE
/// do not respect snapshots.
pub(super) async fn check(pool: &PgPool, bound: &[Bound], snapshot: &Snapshot, searches: &[ColumnSearch]) -> Result<Checked> {
    // Names first, outside: looking them up would take the snapshot. What changes until the lock is had, the snapshot tells.
    let tables = with_tables(bound);
    let mut columns: Vec<&Column> = tables.iter().map(|b| &b.binding.column).collect();
    columns.extend(searches.iter().map(|s| &s.column));
    let mut conn = pool.acquire().await.map_err(|e| failed("cannot connect", e))?;
    let mut resolved = tables::resolve(&mut conn, &columns).await?;
    let oids: Vec<i64> = resolved.iter().filter_map(|r| r.oid).collect();
    let stale = indexes_are_stale(&mut conn, &oids).await?;
    drop(conn);
    let locks: HashSet<_> = resolved.iter().filter(|r| matches!(&*r.kind, "r" | "p")).map(tables::Resolved::table_sql).collect();
    let of_searches = resolved.split_off(tables.len());

    let mut tx = pool.begin_with("begin isolation level repeatable read").await.map_err(|e| failed("cannot begin a transaction", e))?;
    // An error instead of fewer rows where row security applies.
    let mut sql = format!("set local row_security = off; set local lock_timeout = '{CHECK_LOCK_TIMEOUT}'");
    if stale {
        sql = format!("{sql}; {NO_INDEXES}");
    }
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
        if let Some(scan) = search.search.scan.as_ref().filter(|s| !s.is_empty()) {
            let mut names = HashSet::new();
            read_all(&mut tx, r, search, scan, |name, _, _| {
                names.insert(name.clone());
                true
            })
            .await?;
            found.extend(names.into_iter().map(|n| Found { binding: search.binding, value: n.as_str().into() }));
            continue;
        }
        tables::usable(&search.column, r, &Reading::Name)?;
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
    // for it take it there before any file goes; see session.sql.
    let (confirmed, damaged): (Option<String>, bool) = sqlx::query_as(
        "select case when not pg_is_in_recovery() then pg_logical_emit_message(true, 'rowbound', 'checked')::text end,
            'off' <> any (array[coalesce(current_setting('zero_damaged_pages', true), 'off'),
                coalesce(current_setting('ignore_checksum_failure', true), 'off')])",
    )
    .fetch_one(&mut *tx)
    .await
    .map_err(|e| failed("cannot confirm the check", e))?;
    if confirmed.is_none() {
        return Err(standing_by());
    }
    // The configuration was read anew since this session began.
    if damaged {
        return Err(hides_rows());
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
    let oids: Vec<i64> = resolved.iter().filter_map(|r| r.oid).collect();
    if indexes_are_stale(&mut tx, &oids).await? {
        sqlx::raw_sql(NO_INDEXES).execute(&mut *tx).await.map_err(|e| failed("cannot look for references", e))?;
    }
    let mut holders = Vec::new();
    for (search, r) in searches.iter().zip(&resolved) {
        if let Some(scan) = &search.search.scan {
            let mut some = Vec::new();
            read_all(&mut tx, r, search, scan, |name, key, how| {
                some.push(Holder { binding: search.binding, key, value: name.to_string(), mentioned: how == Held::Mentioned });
                some.len() < limit as usize
            })
            .await?;
            holders.extend(some);
            continue;
        }
        tables::usable(&search.column, r, &Reading::Name)?;
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
            holders.extend(rows.into_iter().map(|(value, key)| Holder { binding: search.binding, key, value, mentioned: false }));
        }
    }
    Ok(holders)
}

/// Reads every value of what is searched, one after another, and hands over each name that it holds with the row's key, until `take` says no.
async fn read_all(
    tx: &mut PgConnection,
    r: &tables::Resolved,
    search: &ColumnSearch,
    scan: &Scan,
    mut take: impl FnMut(&FileName, Option<String>, Held) -> bool + Send,
) -> Result<()> {
    let place = |e| failed("cannot look for references", e).with("column", &search.column);
    let sql = match &search.query {
        Some(query) => format!("{} select n::text, null::text from q where n is not null", as_table(query)),
        None => {
            tables::usable(&search.column, r, scan.reading())?;
            let f = ident(&search.column.column);
            format!("select t.{f}::text, {} from {} t where t.{f} is not null", triggers::key_sql("t", &r.key), r.table_sql())
        }
    };
    let mut rows = sqlx::query(AssertSqlSafe(sql)).persistent(false).fetch(tx);
    let mut go_on = true;
    while let Some(row) = rows.try_next().await.map_err(place)? {
        let value: &str = row.try_get(0).map_err(place)?;
        let mut seen = HashSet::new();
        scan.held(value.as_bytes(), |name, how| {
            if go_on && seen.insert(name.clone()) {
                go_on = take(name, row.try_get(1).ok().flatten(), how);
            }
        });
        if !go_on {
            break;
        }
    }
    Ok(())
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
