//! A column from one end to the other.
//!
//! In pages, each a query of its own that is over in a moment: without a write-ahead log a reader keeps every writer from committing, and with
//! one it keeps the log from being emptied. With an index in the order of bytes, pages follow each other in that order; without one they
//! follow the table's own. A page comes as one row, because each row costs the driver more than its value.

use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, Row, SqliteConnection};

use super::{
    Sqlite,
    fault::failed,
    tables::{Table, table},
    triggers::{ident, only},
};
use crate::{
    database::{ColumnScan, Paging, Values, as_table},
    error::{Error, Kind, Result},
};

/// Rows to a page: a few milliseconds. Fewer where each may be a text of megabytes.
fn page(scan: &ColumnScan) -> i64 {
    if scan.reading.is_many() { 20 } else { 2_000 }
}

pub(super) async fn scan(db: &Sqlite, scan: &ColumnScan) -> Result<Values> {
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
    let indexed = scan.ordered && serves(&mut connection, &in_order(scan, &table)).await.map_err(failed("scan"))?;
    let (mut to, values) = Paging::new(indexed);
    let scan = scan.clone();
    tokio::spawn(async move {
        let gone = to.gone();
        let read = async {
            match (indexed, &table.rowid) {
                (true, _) => by_value(&mut connection, &table, &scan, &mut to).await,
                (false, Some(rowid)) => by_row(&mut connection, &table, rowid, &scan, &mut to).await,
                (false, None) => at_once(&mut connection, &table, &scan, &mut to).await,
            }
        };
        let done = tokio::select! {
            done = read => done,
            () = gone => return,
        };
        to.end(done.map_err(|e| failed("scan")(e).with("binding", &scan.column))).await;
    });
    Ok(values)
}

/// Whether an index gives this query its order.
async fn serves(connection: &mut SqliteConnection, sql: &str) -> sqlx::Result<bool> {
    let plan =
        sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"))).bind(Vec::new()).bind(None::<String>).fetch_all(connection).await?;
    let steps: Vec<String> = plan.iter().map(|row| row.try_get("detail")).collect::<sqlx::Result<_>>()?;
    Ok(!steps.iter().any(|step| step.contains("TEMP B-TREE")))
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

/// The next page of texts behind ?1, up to ?2, in the order of bytes: as hexadecimal numbers in one row, because a value may hold any byte.
fn in_order(scan: &ColumnScan, table: &Table) -> String {
    let f = format!("t.{}", ident(&scan.column.column));
    format!(
        "SELECT group_concat(hex(v), ',') FROM (SELECT CAST({f} AS BLOB) AS v FROM {} AS t WHERE {f} COLLATE BINARY > CAST(?1 AS TEXT) AND typeof({f}) = 'text' \
         AND (?2 IS NULL OR {f} COLLATE BINARY <= ?2){} ORDER BY {f} COLLATE BINARY LIMIT {})",
        ident(&table.name),
        only("t.", &scan.only),
        page(scan)
    )
}

async fn by_value(connection: &mut SqliteConnection, table: &Table, scan: &ColumnScan, to: &mut Paging) -> sqlx::Result<()> {
    let sql = in_order(scan, table);
    // Behind the empty text, too, which is no name. As bytes, because SQLite does not insist that a text is UTF-8.
    let mut last = scan.after.clone().unwrap_or_default().into_bytes();
    loop {
        let page = sqlx::query_scalar(AssertSqlSafe(sql.clone())).bind(&last).bind(&scan.until).fetch_one(&mut *connection).await?;
        let values = unhex(page)?;
        let Some(newest) = values.last() else { break };
        // Equal values that did not fit are left out: they are no other names.
        last.clone_from(newest);
        if !send(to, values).await {
            return Ok(());
        }
    }
    // Numbers and blobs sort before and behind all texts. Whoever gets one now sees that the order is broken, and sorts for himself.
    let f = format!("t.{}", ident(&scan.column.column));
    let sql = format!(
        "SELECT group_concat(hex(CAST({f} AS BLOB)), ',') FROM {} AS t WHERE typeof({f}) <> 'text' AND {f} COLLATE BINARY <> ''{}",
        ident(&table.name),
        only("t.", &scan.only)
    );
    let odd = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(connection).await?;
    send(to, unhex(odd)?).await;
    Ok(())
}

async fn by_row(connection: &mut SqliteConnection, table: &Table, rowid: &str, scan: &ColumnScan, to: &mut Paging) -> sqlx::Result<()> {
    // Every row of the page counts, so that its end is known whatever it holds.
    let f = format!("t.{}", ident(&scan.column.column));
    let sql = format!(
        "SELECT count(*), max(r), group_concat(hex(v), ',') FROM (SELECT t.{rowid} AS r, CASE WHEN {f} COLLATE BINARY <> ''{} THEN CAST({f} AS BLOB) END AS v \
         FROM {} AS t WHERE t.{rowid} > ?1 ORDER BY t.{rowid} LIMIT {})",
        only("t.", &scan.only),
        ident(&table.name),
        page(scan)
    );
    let mut last = i64::MIN;
    loop {
        let page = sqlx::query(AssertSqlSafe(sql.clone())).bind(last).fetch_one(&mut *connection).await?;
        last = page.try_get::<Option<i64>, _>(1)?.unwrap_or(last);
        if !send(to, unhex(page.try_get(2)?)?).await || page.try_get::<i64, _>(0)? < self::page(scan) {
            return Ok(());
        }
    }
}

/// A table without rowids, and no index to go by: everything, and nobody who reads slowly holds it up.
async fn at_once(connection: &mut SqliteConnection, table: &Table, scan: &ColumnScan, to: &mut Paging) -> sqlx::Result<()> {
    let f = format!("t.{}", ident(&scan.column.column));
    let sql = format!("SELECT CAST({f} AS BLOB) FROM {} AS t WHERE {f} COLLATE BINARY <> ''{}", ident(&table.name), only("t.", &scan.only));
    let values = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(connection).await?;
    send(to, values).await;
    Ok(())
}

/// `false`: nobody reads any more.
pub(super) async fn send(to: &mut Paging, values: Vec<Vec<u8>>) -> bool {
    for value in values {
        if !to.send(value).await {
            return false;
        }
    }
    true
}

/// The values of a page.
pub(super) fn unhex(page: Option<String>) -> sqlx::Result<Vec<Vec<u8>>> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Ok(b - b'0'),
        b'A'..=b'F' => Ok(b - b'A' + 10),
        _ => Err(sqlx::Error::Decode("no hexadecimal number".into())),
    };
    let one = |hex: &str| hex.as_bytes().chunks(2).map(|pair| Ok(digit(pair[0])? << 4 | digit(*pair.last().unwrap_or(&0))?)).collect();
    // A row without a value is an empty number.
    page.iter().flat_map(|page| page.split(',')).filter(|hex| !hex.is_empty()).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_holds_any_byte() {
        assert_eq!(unhex(None).unwrap(), Vec::<Vec<u8>>::new());
        assert_eq!(unhex(Some("612E6A7067,,00FF,E9".into())).unwrap(), [&b"a.jpg"[..], &[0, 255], &[0xe9]]);
        assert!(unhex(Some("6x".into())).is_err());
    }
}
