//! Any text column from one end to the other, whatever its type: in pages that are bounded in bytes as well as in rows, because one row may hold megabytes. A longer value is
//! read by itself and handed over in pieces. SQLite holds a value whole, in our process: what would take too much memory is not read, and that is an error.

use sqlx::{AssertSqlSafe, Row, SqliteConnection};

use super::{
    Sqlite,
    fault::failed,
    scan::{send, unhex},
    tables::{Table, table},
    triggers::ident,
};
use crate::{
    database::{
        Paging, Values,
        survey::{PIECE, TextColumn},
    },
    error::{Error, Kind, Result},
};

/// Rows and bytes to a page: a few milliseconds.
const ROWS: usize = 2_000;
const BYTES: usize = 512 << 10;

/// The longest value that is read; and of a table without rowids, whose values come all at once.
const LONGEST: usize = 64 << 20;
const SHORT: usize = 16 << 20;

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
        let longest = if table.rowid.is_some() { LONGEST } else { SHORT };
        let unread = |n: u64| {
            let what = format!("{n} of its values are longer than {} MiB, and were not read", longest >> 20);
            Error::new(Kind::Database, what).hint("if the column references no files, list it in `ignore`")
        };
        let done = done.map_err(failed("read")).and_then(|n| if n == 0 { Ok(()) } else { Err(unread(n)) });
        to.end(done.map_err(|e| e.with("column", &column.column))).await;
    });
    Ok(values)
}

/// How many values were too long to be read.
async fn by_row(connection: &mut SqliteConnection, table: &Table, rowid: &str, column: &TextColumn, to: &mut Paging) -> sqlx::Result<u64> {
    // A table may be called as our own parts of the statement are.
    let (t, f) = (format!("main.{}", ident(&table.name)), ident(&column.column.column));
    // First how long the values are, which reads none of them; then as many as fit, at least one. Numbers, too: a file may be called 2024.
    let sql = format!(
        "WITH rowbound_next(r, n) AS \
             (SELECT t.{rowid}, coalesce(octet_length(t.{f}), 0) FROM {t} AS t WHERE t.{rowid} > ?1 ORDER BY t.{rowid} LIMIT {ROWS}), \
         rowbound_page(r, n, upto) AS (SELECT r, n, sum(min(n, {PIECE})) OVER (ORDER BY r) FROM rowbound_next) \
         SELECT count(*), max(r), group_concat(hex(v), ','), group_concat(CASE WHEN n > {PIECE} THEN r END, ','), \
             sum(n > {LONGEST}) FROM \
             (SELECT p.r AS r, p.n AS n, CASE WHEN p.n <= {PIECE} THEN CAST(t.{f} AS BLOB) END AS v \
              FROM rowbound_page AS p JOIN {t} AS t ON t.{rowid} = p.r WHERE p.upto - min(p.n, {PIECE}) < {BYTES})"
    );
    let long = format!("SELECT CAST(t.{f} AS BLOB) FROM {t} AS t WHERE t.{rowid} = ?1 AND octet_length(t.{f}) <= {LONGEST}");
    let (mut last, mut unread) = (i64::MIN, 0);
    loop {
        let page = sqlx::query(AssertSqlSafe(sql.clone())).bind(last).fetch_one(&mut *connection).await?;
        let Some(newest) = page.try_get::<Option<i64>, _>(1)? else { return Ok(unread) };
        last = newest;
        unread += page.try_get::<Option<i64>, _>(4)?.and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
        if !send(to, unhex(page.try_get(2)?)?).await {
            return Ok(unread);
        }
        let rows: Option<String> = page.try_get(3)?;
        for row in rows.iter().flat_map(|rows| rows.split(',')).filter_map(|row| row.parse::<i64>().ok()) {
            let value: Option<Vec<u8>> = sqlx::query_scalar(AssertSqlSafe(long.clone())).bind(row).fetch_optional(&mut *connection).await?;
            // A row that has gone holds nothing.
            if let Some(value) = value
                && !to.send_pieces(value).await
            {
                return Ok(unread);
            }
        }
    }
}

/// A table without rowids, which is made for short rows: everything at once, so that nobody who reads slowly holds it up.
async fn at_once(connection: &mut SqliteConnection, table: &Table, column: &TextColumn, to: &mut Paging) -> sqlx::Result<u64> {
    let (t, f) = (format!("main.{}", ident(&table.name)), format!("t.{}", ident(&column.column.column)));
    let sql = format!("SELECT CAST({f} AS BLOB) FROM {t} AS t WHERE octet_length({f}) <= {SHORT}");
    let values: Vec<Vec<u8>> = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&mut *connection).await?;
    for value in values {
        if !to.send_pieces(value).await {
            return Ok(0);
        }
    }
    let sql = format!("SELECT count(*) FROM {t} AS t WHERE octet_length({f}) > {SHORT}");
    let unread: i64 = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(connection).await?;
    Ok(u64::try_from(unread).unwrap_or(0))
}
