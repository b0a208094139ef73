//! References: found, never overlooked.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, Row, SqliteConnection};

use super::{
    Sqlite, WriteLock,
    fault::failed,
    rows::json,
    scan, survey,
    tables::table,
    triggers::{self, ident},
    whole,
};
use crate::{
    binding::{self, Column, Held},
    capture::{Bound, Snapshot},
    database::{
        CheckResult, ColumnScan, ColumnSearch, Columns, FoundValue, Holder, LockGuard, Values, as_table, drifted, no_key,
        survey::{Sample, TextColumn},
    },
    error::{Error, Kind, Result},
    name::FileName,
};

#[async_trait]
impl Columns for Sqlite {
    async fn check(&self, bound: &[Bound], snapshot: &Snapshot, searches: &[ColumnSearch]) -> Result<CheckResult> {
        // A first look without the lock: if nobody commits between it and the lock, it is the truth, and a long scan of a column
        // without an index has kept no writer waiting. Only when others commit all the time is the scan repeated under the lock.
        let mut connection = self.acquire().await?;
        let version = "PRAGMA data_version";
        for last in [false, false, true] {
            let before: i64 = sqlx::query_scalar(version).fetch_one(&mut *connection).await.map_err(failed("check"))?;
            let started = Instant::now();
            let mut found = find(self, &mut connection, searches).await?;
            let took = started.elapsed();
            let mut lock = WriteLock::take(connection).await?;
            let after: i64 = sqlx::query_scalar(version).fetch_one(lock.connection()).await.map_err(failed("check"))?;
            if before != after {
                if !last && took > Duration::from_millis(20) {
                    connection = lock.end("ROLLBACK").await?;
                    continue;
                }
                found = find(self, lock.connection(), searches).await?;
            }
            let now = self.snapshot_on(lock.connection(), bound).await?;
            if now != *snapshot {
                return Err(drifted(&snapshot.drift(&now)));
            }
            return Ok(CheckResult { found, lock: Some(LockGuard(Box::new(lock))) });
        }
        unreachable!("the last round returns")
    }

    async fn holders(&self, searches: &[ColumnSearch], limit: u32) -> Result<Vec<Holder>> {
        let mut connection = self.acquire().await?;
        let mut holders = Vec::new();
        for s in searches {
            if let Some(scan) = &s.search.scan {
                read_all(self, s, scan, |name, key, how| {
                    holders.push(Holder { binding: s.binding, key, value: name.to_string(), mentioned: how == Held::Mentioned });
                    holders.len() < limit as usize
                })
                .await?;
                continue;
            }
            let Some(table) = table(&mut connection, &s.column.table).await? else {
                return Err(Error::new(Kind::Schema, "the bound table does not exist").with("binding", &s.column));
            };
            let f = ident(&s.column.column);
            let head = format!("SELECT {}, CAST(t.{f} AS BLOB) FROM {} AS t WHERE", triggers::key(&table, "t."), ident(&table.name));
            let only = triggers::only("t.", &s.search.only);
            let in_context = |e: sqlx::Error| failed("explain")(e).with("binding", &s.column);
            let holder = |key, value: &[u8]| Holder {
                binding: s.binding,
                key,
                value: String::from_utf8_lossy(value).into_owned(),
                mentioned: false,
            };
            let sql = format!(
                "{head} (t.{f} COLLATE BINARY IN \
                 (SELECT value FROM json_each(?1) UNION ALL SELECT CAST(value AS BLOB) FROM json_each(?1)) \
                 OR t.{f} COLLATE BINARY < '' AND CAST(t.{f} AS TEXT) IN (SELECT value FROM json_each(?1))){only} LIMIT ?2",
            );
            let rows = sqlx::query(AssertSqlSafe(sql))
                .bind(json(&s.search.values)?)
                .bind(limit)
                .fetch_all(&mut *connection)
                .await
                .map_err(in_context)?;
            let before = holders.len();
            let mut seen: HashSet<(Option<String>, Vec<u8>)> = HashSet::new();
            for r in rows {
                let (key, value): (Option<String>, Vec<u8>) = (r.get(0), r.get(1));
                holders.push(holder(key.clone(), &value));
                seen.insert((key, value));
            }
            if let Some(odd) = &s.search.non_plain {
                let sql = format!("{head} t.{f} COLLATE BINARY <> '' AND {}{only}", triggers::is_odd(&format!("t.{f}"), odd));
                let mut rows = sqlx::query(AssertSqlSafe(sql)).fetch(&mut *connection);
                while holders.len() - before < limit as usize
                    && let Some(r) = rows.try_next().await.map_err(in_context)?
                {
                    let value: &[u8] = r.try_get(1).map_err(in_context)?;
                    if odd.wants(value) && !seen.contains(&(r.get(0), value.to_vec())) {
                        holders.push(holder(r.get(0), value));
                    }
                }
            }
        }
        Ok(holders)
    }

    async fn scan(&self, scan: &ColumnScan) -> Result<Values> {
        scan::scan(self, scan).await
    }

    async fn text_columns(&self) -> Result<Vec<TextColumn>> {
        survey::text_columns(self).await
    }

    async fn hides_tables(&self) -> Result<Option<String>> {
        Ok(None)
    }

    async fn sample(&self, column: &TextColumn, limit: usize) -> Result<Sample> {
        survey::sample(self, column, limit).await
    }

    async fn values(&self, column: &TextColumn) -> Result<Values> {
        whole::values(self, column).await
    }

    async fn beside(&self, column: &TextColumn, other: &Column, values: &[String], limit: usize) -> Result<Vec<String>> {
        let mut connection = self.acquire().await?;
        let marks = vec!["?"; values.len()].join(", ");
        let (t, f, o) = (ident(&column.column.table), ident(&column.column.column), ident(&other.column));
        let sql = format!(
            "SELECT DISTINCT CAST(o AS TEXT) FROM (SELECT t.{o} AS o, t.{f} AS f FROM {t} AS t LIMIT 100000) WHERE f IN ({marks}) AND o IS NOT NULL LIMIT {limit}"
        );
        let mut query = sqlx::query_scalar::<_, String>(AssertSqlSafe(sql));
        for value in values {
            query = query.bind(value);
        }
        query.fetch_all(&mut *connection).await.map_err(|e| failed("sample")(e).with("column", &column.column))
    }

    async fn has_row(&self, column: &Column, key: &str) -> Result<bool> {
        let mut connection = self.acquire().await?;
        let Some(table) = table(&mut connection, &column.table).await? else { return Err(no_key(column)) };
        let [one] = table.key.as_slice() else { return Err(no_key(column)) };
        let sql = format!("SELECT 1 FROM {} WHERE {} = ?1", ident(&table.name), ident(one));
        let found = sqlx::query(AssertSqlSafe(sql)).bind(key).fetch_optional(&mut *connection).await;
        let found = found.map_err(|e| failed("look for the row")(e).with("column", column).with("key", key))?;
        Ok(found.is_some())
    }

    /// A key is bound as text: the column's affinity makes a number of it, so that its index serves.
    async fn assign(&self, column: &Column, key: &str, name: &FileName) -> Result<bool> {
        let mut lock = self.write_lock().await?;
        let Some(table) = table(lock.connection(), &column.table).await? else { return Err(no_key(column)) };
        let [one] = table.key.as_slice() else { return Err(no_key(column)) };
        let sql = format!("UPDATE {} SET {} = ?1 WHERE {} = ?2", ident(&table.name), ident(&column.column), ident(one));
        let set = sqlx::query(AssertSqlSafe(sql)).bind(name.as_str()).bind(key).execute(lock.connection()).await;
        let set = set.map_err(|e| failed("set the column")(e).with("column", column).with("key", key))?;
        lock.end("COMMIT").await?;
        Ok(set.rows_affected() > 0)
    }
}

/// Reads every value of what is searched, one after another, and hands over each name that it holds with the row's key, until `take` says no.
async fn read_all(
    db: &Sqlite,
    search: &ColumnSearch,
    scan: &binding::Scan,
    mut take: impl FnMut(&FileName, Option<String>, Held) -> bool + Send,
) -> Result<()> {
    let in_context = |e: sqlx::Error| failed("check")(e).with("binding", &search.column);
    // Not the connection that may hold the write lock: while that is held no one commits, so that every reader sees what it sees.
    let mut reader = db.reader().await?;
    let sql = match &search.query {
        Some(query) => format!("{} SELECT CAST(n AS BLOB), NULL FROM q WHERE n IS NOT NULL", as_table(query)),
        None => {
            let missing = || Error::new(Kind::Schema, "the bound table does not exist").with("binding", &search.column);
            let table = table(&mut reader, &search.column.table).await?.ok_or_else(missing)?;
            let (t, f) = (ident(&table.name), ident(&search.column.column));
            let only = triggers::only("t.", &search.search.only);
            format!("SELECT CAST(t.{f} AS BLOB), {} FROM {t} AS t WHERE t.{f} IS NOT NULL{only}", triggers::key(&table, "t."))
        }
    };
    let mut rows = sqlx::query(AssertSqlSafe(sql)).fetch(&mut reader);
    let mut go_on = true;
    while let Some(row) = rows.try_next().await.map_err(in_context)? {
        let value: &[u8] = row.try_get(0).map_err(in_context)?;
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

async fn find(db: &Sqlite, connection: &mut SqliteConnection, searches: &[ColumnSearch]) -> Result<Vec<FoundValue>> {
    let mut found = Vec::new();
    for s in searches {
        if let Some(scan) = s.search.scan.as_ref().filter(|s| !s.is_empty()) {
            let mut names = HashSet::new();
            read_all(db, s, scan, |name, _, _| {
                names.insert(name.clone());
                true
            })
            .await?;
            found.extend(names.into_iter().map(|n| FoundValue { binding: s.binding, value: n.as_str().into() }));
            continue;
        }
        let (t, f) = (ident(&s.column.table), ident(&s.column.column));
        let only = triggers::only("t.", &s.search.only);
        let in_context = |e: sqlx::Error| failed("check")(e).with("binding", &s.column);
        if !s.search.values.is_empty() {
            // Qualified, because SQLite silently reads an unqualified "missing_column" as a string. As text and as blob, because
            // the two are never equal. BINARY, so that the answer does not depend on a collation only the application has.
            let sql = format!(
                "SELECT CAST(t.{f} AS BLOB) FROM {t} AS t WHERE t.{f} COLLATE BINARY IN \
                 (SELECT value FROM json_each(?1) UNION ALL SELECT CAST(value AS BLOB) FROM json_each(?1)){only}"
            );
            let values = json(&s.search.values)?;
            let mut rows = sqlx::query_scalar::<_, Vec<u8>>(AssertSqlSafe(sql)).bind(values).fetch(&mut *connection);
            while let Some(value) = rows.try_next().await.map_err(in_context)? {
                found.push(FoundValue { binding: s.binding, value });
            }
            drop(rows);
            if may_hold_numbers(connection, s).await? {
                let sql = format!(
                    "SELECT CAST(t.{f} AS BLOB) FROM {t} AS t WHERE t.{f} COLLATE BINARY < '' AND CAST(t.{f} AS TEXT) IN (SELECT value FROM json_each(?1)){only}"
                );
                let mut rows = sqlx::query_scalar::<_, Vec<u8>>(AssertSqlSafe(sql)).bind(json(&s.search.values)?).fetch(&mut *connection);
                while let Some(value) = rows.try_next().await.map_err(in_context)? {
                    found.push(FoundValue { binding: s.binding, value });
                }
            }
        }
        if let Some(odd) = &s.search.non_plain {
            let sql = format!(
                "SELECT CAST(t.{f} AS BLOB) FROM {t} AS t WHERE t.{f} COLLATE BINARY <> '' AND {}{only}",
                triggers::is_odd(&format!("t.{f}"), odd)
            );
            let mut seen: HashSet<Vec<u8>> = HashSet::new();
            let mut rows = sqlx::query(AssertSqlSafe(sql)).fetch(&mut *connection);
            while let Some(row) = rows.try_next().await.map_err(in_context)? {
                let value: &[u8] = row.try_get(0).map_err(in_context)?;
                if !seen.contains(value) && odd.wants(value) {
                    seen.insert(value.to_vec());
                }
            }
            found.extend(seen.into_iter().map(|value| FoundValue { binding: s.binding, value }));
        }
    }
    Ok(found)
}

/// Whether numbers may stand in a column. No text equals a number, unless the column's declared type makes them comparable, and then not every text that a number
/// is written as: so these are looked at apart. A column of TEXT affinity turns each number into text when it is written
/// (<https://www.sqlite.org/datatype3.html>, 3.1). In an index numbers stand before the texts.
async fn may_hold_numbers(connection: &mut SqliteConnection, s: &ColumnSearch) -> Result<bool> {
    let declared: Option<String> = sqlx::query_scalar("SELECT type FROM pragma_table_xinfo(?1) WHERE name = ?2 COLLATE NOCASE")
        .bind(&s.column.table)
        .bind(&s.column.column)
        .fetch_optional(connection)
        .await
        .map_err(|e| failed("check")(e).with("binding", &s.column))?;
    Ok(declared.is_none_or(|declared| !is_text(&declared)))
}

/// Whether a declared type has TEXT affinity.
fn is_text(declared: &str) -> bool {
    let declared = declared.to_ascii_uppercase();
    !declared.contains("INT") && ["CHAR", "CLOB", "TEXT"].iter().any(|word| declared.contains(word))
}

#[cfg(test)]
mod tests {
    use super::is_text;

    #[test]
    fn declared_types_have_the_affinity_that_sqlite_gives_them() {
        for text in ["TEXT", "varchar(100)", "NVARCHAR", "clob", "character varying"] {
            assert!(is_text(text), "{text}");
        }
        for other in ["", "BLOB", "INTEGER", "CHARINT", "TEXTINT", "REAL", "datetime", "STRING", "uuid", "JSON"] {
            assert!(!is_text(other), "{other}");
        }
    }
}
