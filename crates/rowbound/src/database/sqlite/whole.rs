//! Any text column from one end to the other, whatever its type: in pages that are bounded in bytes as well as in rows, because one row may hold megabytes.

use sqlx::{AssertSqlSafe, Row, SqliteConnection};

use super::{
    Sqlite,
    fault::failed,
    scan::{send, unhex},
    tables::{Table, table},
    triggers::ident,
};
use crate::{
    binding::Column,
    database::{Paging, Values, survey::TextColumn},
    error::{Error, Kind, Result},
};

/// Rows and bytes to a page: a few milliseconds.
const ROWS: usize = 2_000;
const BYTES: usize = 512 << 10;

pub(super) async fn values(db: &Sqlite, column: &TextColumn) -> Result<Values> {
    let mut connection = db.acquire().await?;
    let missing = || Error::new(Kind::Schema, "the table does not exist").with("column", &column.column);
    let table = table(&mut connection, &column.column.table).await?.ok_or_else(missing)?;
    let (mut to, values) = Paging::new(false);
    let column = column.clone();
    tokio::spawn(async move {
        let done = match &table.rowid {
            Some(rowid) => by_row(&mut connection, &table, rowid, &column, &mut to).await,
            None => at_once(&mut connection, &table, &column, &mut to).await,
        };
        to.end(done.map_err(|e| failed("read")(e).with("column", &column.column))).await;
    });
    Ok(values)
}

/// Texts and bytes; a number is no name that a text could mention.
fn value(column: &TextColumn) -> String {
    let f = format!("t.{}", ident(&column.column.column));
    format!("CASE WHEN typeof({f}) IN ('text', 'blob') THEN substr(CAST({f} AS BLOB), 1, {}) END", column.class.whole())
}

async fn by_row(connection: &mut SqliteConnection, table: &Table, rowid: &str, column: &TextColumn, to: &mut Paging) -> sqlx::Result<()> {
    // A table may be called as our own parts of the statement are.
    let (t, f, value, whole) = (format!("main.{}", ident(&table.name)), ident(&column.column.column), value(column), column.class.whole());
    // First how long the values are, which reads none of them; then as many as fit, at least one.
    let sql = format!(
        "WITH rowbound_next(r, bytes) AS \
             (SELECT t.{rowid}, min(coalesce(octet_length(t.{f}), 0), {whole}) FROM {t} AS t WHERE t.{rowid} > ?1 ORDER BY t.{rowid} LIMIT {ROWS}), \
         rowbound_page(r, bytes, upto) AS (SELECT r, bytes, sum(bytes) OVER (ORDER BY r) FROM rowbound_next) \
         SELECT count(*), max(r), group_concat(hex(v), ',') FROM \
             (SELECT p.r AS r, {value} AS v FROM rowbound_page AS p JOIN {t} AS t ON t.{rowid} = p.r WHERE p.upto - p.bytes < {BYTES})"
    );
    let mut last = i64::MIN;
    loop {
        let page = sqlx::query(AssertSqlSafe(sql.clone())).bind(last).fetch_one(&mut *connection).await?;
        let Some(newest) = page.try_get::<Option<i64>, _>(1)? else { return Ok(()) };
        last = newest;
        if !send(to, unhex(page.try_get(2)?)?).await {
            return Ok(());
        }
    }
}

/// A table without rowids: everything, and nobody who reads slowly holds it up.
async fn at_once(connection: &mut SqliteConnection, table: &Table, column: &TextColumn, to: &mut Paging) -> sqlx::Result<()> {
    let sql = format!("SELECT v FROM (SELECT {} AS v FROM main.{} AS t) WHERE v IS NOT NULL", value(column), ident(&table.name));
    let values = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(connection).await?;
    send(to, values).await;
    Ok(())
}

pub(super) async fn beside(db: &Sqlite, column: &TextColumn, other: &Column, values: &[String], limit: usize) -> Result<Vec<String>> {
    let mut connection = db.acquire().await?;
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
