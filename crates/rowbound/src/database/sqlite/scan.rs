//! A column from one end to the other.
//!
//! With a write-ahead log a reader keeps nobody waiting, so that the values stream in order. Without one it keeps every writer from
//! committing: there the table is read in slices, each over in a moment, in the order of its rows.

use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, Row, Sqlite as Driver, SqliteConnection, pool::PoolConnection};

use super::{
    Sqlite,
    fault::failed,
    tables::{Table, table},
    triggers::ident,
};
use crate::{
    database::{Paging, Scan, Values, as_table},
    error::{Error, Kind, Result},
};

/// Rows to a slice: a few milliseconds.
const SLICE: i64 = 5_000;

pub(super) async fn scan(db: &Sqlite, scan: &Scan) -> Result<Values> {
    if let Some(query) = &scan.query {
        let mut reader = db.reader().await?;
        let sql = format!("{} SELECT CAST(n AS BLOB) FROM q WHERE n IS NOT NULL", as_table(query));
        let (mut to, values) = Paging::new(false);
        let column = scan.column.clone();
        tokio::spawn(async move {
            let done = queried(&mut reader, sql, &mut to).await;
            to.end(done.map_err(|e| failed("scan")(e).with("reference", &column.column))).await;
        });
        return Ok(values);
    }
    let mut connection = db.acquire().await?;
    let missing = |what: &str| {
        Error::new(Kind::Schema, format!("the bound {what} does not exist"))
            .with("binding", &scan.column)
            .hint("correct rowbound.toml, then `rowbound attach`")
    };
    let table = table(&mut connection, &scan.column.table).await?.ok_or_else(|| missing("table"))?;
    table.column(&scan.column.column).ok_or_else(|| missing("column"))?;
    let journal: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut *connection).await.map_err(failed("scan"))?;
    let log = journal.eq_ignore_ascii_case("wal");
    let (mut to, values) = Paging::new(log && scan.ordered);
    let scan = scan.clone();
    tokio::spawn(async move {
        let done = match log {
            true => stream(connection, &table, &scan, &mut to).await,
            false => slices(connection, &table, &scan, &mut to).await,
        };
        to.end(done.map_err(|e| failed("scan")(e).with("binding", &scan.column))).await;
    });
    Ok(values)
}

/// What is wanted of the column. Numbers and blobs sort before and behind all text: no range is asked of them.
fn wanted(scan: &Scan) -> String {
    let f = format!("t.{}", ident(&scan.column.column));
    let mut sql = format!("{f} <> ''");
    for (bound, how) in [(&scan.after, "> ?1"), (&scan.until, "<= ?2")] {
        if bound.is_some() {
            sql.push_str(&format!(" AND (typeof({f}) <> 'text' OR {f} COLLATE BINARY {how})"));
        }
    }
    sql
}

async fn queried(reader: &mut SqliteConnection, sql: String, to: &mut Paging) -> sqlx::Result<()> {
    let mut rows = sqlx::query_scalar::<_, Vec<u8>>(AssertSqlSafe(sql)).fetch(reader);
    while let Some(value) = rows.try_next().await? {
        if !to.send(value).await {
            break;
        }
    }
    Ok(())
}

async fn stream(mut connection: PoolConnection<Driver>, table: &Table, scan: &Scan, to: &mut Paging) -> sqlx::Result<()> {
    let f = ident(&scan.column.column);
    let order = if scan.ordered { format!(" ORDER BY t.{f} COLLATE BINARY") } else { String::new() };
    let sql = format!("SELECT CAST(t.{f} AS BLOB) FROM {} AS t WHERE {}{order}", ident(&table.name), wanted(scan));
    let mut rows = sqlx::query_scalar::<_, Vec<u8>>(AssertSqlSafe(sql)).bind(&scan.after).bind(&scan.until).fetch(&mut *connection);
    while let Some(value) = rows.try_next().await? {
        if !to.send(value).await {
            break;
        }
    }
    Ok(())
}

async fn slices(mut connection: PoolConnection<Driver>, table: &Table, scan: &Scan, to: &mut Paging) -> sqlx::Result<()> {
    let (f, t) = (ident(&scan.column.column), ident(&table.name));
    let Some(rowid) = &table.rowid else {
        // Nothing to go on from: at once, and nobody who reads slowly holds it up.
        let sql = format!("SELECT CAST(t.{f} AS BLOB) FROM {t} AS t WHERE {}", wanted(scan));
        let all = sqlx::query_scalar::<_, Vec<u8>>(AssertSqlSafe(sql)).bind(&scan.after).bind(&scan.until).fetch_all(&mut *connection);
        for value in all.await? {
            if !to.send(value).await {
                break;
            }
        }
        return Ok(());
    };
    // Every row of the slice, so that its end is known whatever it holds.
    let sql = format!(
        "SELECT t.{rowid}, CASE WHEN {} THEN CAST(t.{f} AS BLOB) END FROM {t} AS t WHERE t.{rowid} > ?3 ORDER BY t.{rowid} LIMIT {SLICE}",
        wanted(scan)
    );
    let mut last = i64::MIN;
    loop {
        let slice = sqlx::query(AssertSqlSafe(sql.clone())).bind(&scan.after).bind(&scan.until).bind(last).fetch_all(&mut *connection);
        let slice = slice.await?;
        let full = slice.len() as i64 == SLICE;
        for row in slice {
            last = row.try_get(0)?;
            if let Some(value) = row.try_get::<Option<Vec<u8>>, _>(1)?
                && !to.send(value).await
            {
                return Ok(());
            }
        }
        if !full {
            return Ok(());
        }
    }
}
