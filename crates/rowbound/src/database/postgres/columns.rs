//! References: found, never overlooked.
//!
//! In: searches, and the snapshot that `attach` left. Out: every value that matches, of one moment.

use std::collections::HashSet;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, PgConnection, Row, postgres::PgRow};

use super::{
    Postgres,
    fault::{failed, hides_rows, standing_by},
    rows::without_nul,
    scan, snapshot, survey,
    tables::{self, ident, indexes_are_stale, literal},
    triggers, whole,
};
use crate::{
    binding::{self, Column, Held, NonPlain, ODD, Reading},
    capture::{Bound, Snapshot},
    database::{
        CheckResult, ColumnScan, ColumnSearch, Columns, FoundValue, Holder, Values, as_table, drifted, is_uuid, no_key,
        survey::{Sample, TextColumn},
        with_tables,
    },
    error::Result,
    name::FileName,
};

/// How long a check waits for a migration that holds a bound table.
const CHECK_LOCK_TIMEOUT: &str = "5s";

const NO_INDEXES: &str = "set local enable_indexscan = off; set local enable_indexonlyscan = off; set local enable_bitmapscan = off";

/// The application's own triggers run here, and look for tables where its role does.
const AS_ITS_ROLE: &str = "select set_config('search_path', current_setting('rowbound.search_path'), true)";

#[async_trait]
impl Columns for Postgres {
    /// One snapshot for all columns: under READ COMMITTED a row that moves a name from a column not yet read to one already
    /// read would be missed in both. The tables are locked (ACCESS SHARE) before the snapshot is taken, because DDL and TRUNCATE
    /// do not respect snapshots.
    async fn check(&self, bound: &[Bound], snapshot: &Snapshot, searches: &[ColumnSearch]) -> Result<CheckResult> {
        let pool = self.pool();
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

        let drift = snapshot.drift(&snapshot::read(&mut tx, bound).await?);
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
                found.extend(names.into_iter().map(|n| FoundValue { binding: search.binding, value: n.as_str().into() }));
                continue;
            }
            usable(search, r)?;
            let value = r.value_sql(&format!("t.{}", ident(&search.column.column)));
            let in_context = |e| failed("cannot look for references", e).with("column", &search.column);
            let mut distinct: HashSet<Vec<u8>> = HashSet::new();
            if let Some((what, values)) = equality(r, search) {
                let sql = format!("select {value} from {} t where {what}", r.table_sql());
                // Planned for these very values: a plan for any values compares an array one by one instead of hashing it.
                let mut rows = sqlx::query(AssertSqlSafe(sql)).persistent(false).bind(values).fetch(&mut *tx);
                while let Some(row) = rows.try_next().await.map_err(in_context)? {
                    distinct.insert(bytes(&row, 0).map_err(in_context)?.to_vec());
                }
            }
            if let Some(odd) = &search.search.non_plain {
                let sql = format!("select {value} from {} t where {}", r.table_sql(), is_odd(r, search, odd));
                let mut rows = sqlx::query(AssertSqlSafe(sql)).persistent(false).fetch(&mut *tx);
                while let Some(row) = rows.try_next().await.map_err(in_context)? {
                    let value = bytes(&row, 0).map_err(in_context)?;
                    if !distinct.contains(value) && odd.wants(value) {
                        distinct.insert(value.to_vec());
                    }
                }
            }
            found.extend(distinct.into_iter().map(|value| FoundValue { binding: search.binding, value }));
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
        Ok(CheckResult { found, lock: None })
    }

    async fn holders(&self, searches: &[ColumnSearch], limit: u32) -> Result<Vec<Holder>> {
        let mut tx = self
            .pool()
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
            usable(search, r)?;
            let in_context = |e| failed("cannot look for references", e).with("column", &search.column);
            let value = r.value_sql(&format!("t.{}", ident(&search.column.column)));
            let head = format!("select {value}, {} from {} t where", triggers::key_sql("t", &r.key), r.table_sql());
            let holder = |row: &PgRow| -> sqlx::Result<Holder> {
                let value = String::from_utf8_lossy(bytes(row, 0)?).into_owned();
                Ok(Holder { binding: search.binding, key: row.try_get(1)?, value, mentioned: false })
            };
            let mut some: Vec<Holder> = Vec::new();
            if let Some((what, values)) = equality(r, search) {
                let sql = format!("{head} {what} limit $2");
                let query = sqlx::query(AssertSqlSafe(sql)).persistent(false).bind(values).bind(i64::from(limit));
                some = query
                    .fetch_all(&mut *tx)
                    .await
                    .map_err(in_context)?
                    .iter()
                    .map(holder)
                    .collect::<sqlx::Result<_>>()
                    .map_err(in_context)?;
            }
            if let Some(odd) = &search.search.non_plain {
                let known: HashSet<(Option<String>, String)> = some.iter().map(|h| (h.key.clone(), h.value.clone())).collect();
                let sql = format!("{head} {}", is_odd(r, search, odd));
                let mut rows = sqlx::query(AssertSqlSafe(sql)).persistent(false).fetch(&mut *tx);
                while some.len() < limit as usize
                    && let Some(row) = rows.try_next().await.map_err(in_context)?
                {
                    if odd.wants(bytes(&row, 0).map_err(in_context)?) {
                        let one = holder(&row).map_err(in_context)?;
                        if !known.contains(&(one.key.clone(), one.value.clone())) {
                            some.push(one);
                        }
                    }
                }
            }
            holders.extend(some);
        }
        Ok(holders)
    }

    async fn scan(&self, scan: &ColumnScan) -> Result<Values> {
        scan::scan(self.pool(), scan).await
    }

    async fn text_columns(&self) -> Result<Vec<TextColumn>> {
        survey::text_columns(self).await
    }

    async fn hides_tables(&self) -> Result<Option<String>> {
        // Its catalogs show every table to everybody.
        Ok(None)
    }

    async fn sample(&self, column: &TextColumn, limit: usize) -> Result<Sample> {
        survey::sample(self, column, limit).await
    }

    async fn values(&self, column: &TextColumn) -> Result<Values> {
        whole::values(self, column).await
    }

    async fn beside(&self, column: &TextColumn, other: &Column, values: &[String], limit: usize) -> Result<Vec<String>> {
        let mut conn = self.conn().await?;
        let (f, o) = (ident(&column.column.column), ident(&other.column));
        let table = format!("{}.{}", ident(&column.schema), ident(&column.column.table));
        let sql = format!(
            "select distinct o::text from (select t.{o} as o, t.{f}::text as f from {table} t limit 100000) s where f = any ($1) and o is not null limit {limit}"
        );
        let in_context = |e| failed("cannot sample a column", e).with("column", &column.column);
        let mut tx = survey::limited(&mut conn).await.map_err(in_context)?;
        let rows = sqlx::query_scalar(AssertSqlSafe(sql)).persistent(false).bind(values).fetch_all(&mut *tx).await.map_err(in_context)?;
        tx.rollback().await.map_err(in_context)?;
        Ok(rows)
    }

    /// In a session that sees the rows which the application's role sees.
    async fn has_row(&self, column: &Column, key: &str) -> Result<bool> {
        let error = |e| failed("cannot look for the row", e).with("column", column).with("key", key);
        let mut connection = self.theirs().acquire().await.map_err(error)?;
        let (table, is) = by_key(&mut connection, column, key).await?;
        let sql = format!("select 1 from {table} where {}", is.replace("$2", "$1"));
        let found = sqlx::query(AssertSqlSafe(sql)).persistent(false).bind(key).fetch_optional(&mut *connection).await.map_err(error)?;
        Ok(found.is_some())
    }

    /// In a session that barriers wait for.
    async fn assign(&self, column: &Column, key: &str, name: &FileName) -> Result<bool> {
        let error = |e| failed("cannot set the column", e).with("column", column).with("key", key);
        let mut tx = self.theirs().begin().await.map_err(error)?;
        let (table, is) = by_key(&mut tx, column, key).await?;
        sqlx::raw_sql(AS_ITS_ROLE).execute(&mut *tx).await.map_err(error)?;
        let sql = format!("update {table} set {} = $1::text where {is}", tables::ident(&column.column));
        let set = sqlx::query(AssertSqlSafe(sql)).persistent(false).bind(name.as_str()).bind(key).execute(&mut *tx).await.map_err(error)?;
        tx.commit().await.map_err(error)?;
        Ok(set.rows_affected() > 0)
    }
}

/// Reads every value of what is searched, one after another, and hands over each name that it holds with the row's key, until `take` says no.
async fn read_all(
    tx: &mut PgConnection,
    r: &tables::Resolved,
    search: &ColumnSearch,
    scan: &binding::Scan,
    mut take: impl FnMut(&FileName, Option<String>, Held) -> bool + Send,
) -> Result<()> {
    let in_context = |e| failed("cannot look for references", e).with("column", &search.column);
    let sql = match &search.query {
        Some(query) => format!("{} select n::text, null::text from q where n is not null", as_table(query)),
        None => {
            tables::usable(&search.column, r, scan.reading())?;
            let f = format!("t.{}", ident(&search.column.column));
            let only = tables::only_sql("t", &search.search.only);
            format!("select {}, {} from {} t where {f} is not null{only}", r.value_sql(&f), triggers::key_sql("t", &r.key), r.table_sql())
        }
    };
    let mut rows = sqlx::query(AssertSqlSafe(sql)).persistent(false).fetch(tx);
    let mut go_on = true;
    while let Some(row) = rows.try_next().await.map_err(in_context)? {
        let value = bytes(&row, 0).map_err(in_context)?;
        let mut seen = HashSet::new();
        scan.held(value, |name, how| {
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

/// A text or a `bytea`, as it was sent: both come in the binary format, a text as UTF-8.
fn bytes(row: &PgRow, at: usize) -> sqlx::Result<&[u8]> {
    row.try_get_raw(at)?.as_bytes().map_err(sqlx::Error::Decode)
}

fn usable(search: &ColumnSearch, r: &tables::Resolved) -> Result<()> {
    tables::usable(&search.column, r, &Reading::Name).map(drop)
}

/// The condition that a row has one of the values, with the array for its `$1`. Rows of partitions and children count: no ONLY.
fn equality(r: &tables::Resolved, search: &ColumnSearch) -> Option<(String, Vec<String>)> {
    let mut values = without_nul(&search.search.values);
    if r.is_uuid() {
        // What is no UUID is an error where one is wanted; the server writes each in one way.
        values.retain(|v| is_uuid(v));
    }
    let only = tables::only_sql("t", &search.search.only);
    (!values.is_empty()).then(|| (format!("t.{} {}{only}", ident(&search.column.column), r.equals_any("$1")), values))
}

/// The condition that a value is not plain. Collation "C": a pattern does not work under a nondeterministic one.
fn is_odd(r: &tables::Resolved, search: &ColumnSearch, odd: &NonPlain) -> String {
    let f = format!("t.{}", ident(&search.column.column));
    // Bytes that are no text must not be an error: each that is no letter of ASCII becomes a backslash and digits, and the backslash two, neither of which is plain.
    let text = match r.is_bytes() {
        true => format!("translate(encode({f}, 'escape'), E'\\\\', '%') collate \"C\""),
        false => format!("{f}::text collate \"C\""),
    };
    let rest = |text: &str| format!("{text} ~ {}", literal(ODD));
    let mut cases = String::new();
    for prefix in without_nul(&odd.prefixes().into_iter().map(str::to_owned).collect::<Vec<_>>()) {
        let (p, length) = (literal(&prefix), prefix.chars().count());
        let behind = rest(&format!("substr({text}, {})", length + 1));
        cases.push_str(&format!(" when starts_with({text}, {p} collate \"C\") then {behind}"));
    }
    let other = if odd.bare() { rest(&text) } else { "true".to_owned() };
    let odd = if cases.is_empty() { other } else { format!("case{cases} else {other} end") };
    format!("{f} is not null and {odd}{}", tables::only_sql("t", &search.search.only))
}

/// The column's table, and the condition that its key is `$2`, which is cast to the type of its column, so that the key's index serves.
async fn by_key(connection: &mut PgConnection, column: &Column, key: &str) -> Result<(String, String)> {
    let error = |e| failed("cannot look at the table's key", e).with("column", column).with("key", key);
    let found = tables::resolve(connection, &[column]).await?.pop();
    let Some((found, oid)) = found.and_then(|f| f.oid.map(|oid| (f, oid))) else { return Err(no_key(column)) };
    let [one] = found.key.as_slice() else { return Err(no_key(column)) };
    let kind: String =
        sqlx::query_scalar("select format_type(atttypid, atttypmod) from pg_attribute where attrelid = $1::int8::oid and attname = $2")
            .bind(oid)
            .bind(one)
            .fetch_one(connection)
            .await
            .map_err(error)?;
    Ok((found.table_sql(), format!("{} operator(pg_catalog.=) $2::text::{kind}", tables::ident(one))))
}
