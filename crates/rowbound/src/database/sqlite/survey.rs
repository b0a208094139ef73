//! Text columns and samples of them. SQLite has no limit on a statement's time: every read is bounded in rows instead.

use sqlx::{AssertSqlSafe, Row};

use super::{Sqlite, fault::failed, triggers::ident};
use crate::{
    binding::Column,
    database::survey::{Class, LONGEST, SMALL, Sample, TextColumn, windows},
    error::{Kind, Result},
};

/// In how many places a big table is read, and how many rows at each.
const WINDOWS: i64 = 25;
const WINDOW: i64 = 400;

/// Plain tables: virtual ones and their shadows hold copies.
const COLUMNS: &str = "SELECT t.name, c.name, c.type, c.pk > 0, c.hidden >= 2, t.wr,
        EXISTS (SELECT 1 FROM pragma_foreign_key_list(t.name) AS f WHERE f.\"from\" = c.name COLLATE NOCASE),
        EXISTS (SELECT 1 FROM pragma_index_list(t.name) AS i JOIN pragma_index_info(i.name) AS k WHERE k.seqno = 0 AND k.name = c.name)
    FROM pragma_table_list AS t JOIN pragma_table_xinfo(t.name) AS c
    WHERE t.schema = 'main' AND t.type = 'table' AND t.name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND t.name NOT LIKE 'rowbound\\_%' ESCAPE '\\'
        AND c.hidden <> 1
    ORDER BY t.name, c.cid";

pub(super) async fn text_columns(db: &Sqlite) -> Result<Vec<TextColumn>> {
    let mut connection = db.acquire().await?;
    let rows = sqlx::query(COLUMNS).fetch_all(&mut *connection).await.map_err(failed("read the schema"))?;
    let mut columns: Vec<TextColumn> = Vec::new();
    for r in rows {
        let (table, column, declared): (String, String, String) = (r.get(0), r.get(1), r.get(2));
        let Some(class) = class(&declared) else { continue };
        let rows = match columns.last() {
            Some(last) if last.column.table == table => last.rows,
            _ => {
                // The largest rowid is found at once; a count would read the table.
                let count = match r.get::<bool, _>(5) {
                    true => format!("SELECT count(*) FROM (SELECT 1 FROM {} LIMIT 100000)", ident(&table)),
                    false => format!("SELECT coalesce(max(rowid), 0) FROM {}", ident(&table)),
                };
                let count: i64 =
                    sqlx::query_scalar(AssertSqlSafe(count)).fetch_one(&mut *connection).await.map_err(failed("count rows"))?;
                u64::try_from(count).unwrap_or(0)
            }
        };
        columns.push(TextColumn {
            column: Column { schema: None, table, column },
            schema: String::new(),
            class,
            data_type: declared,
            rows,
            key: r.get(3),
            foreign_key: r.get(6),
            generated: r.get(4),
            indexed: r.get(7),
        });
    }
    Ok(columns)
}

/// SQLite lets any column hold text: only what says that it is something else is left out.
fn class(declared: &str) -> Option<Class> {
    let declared = declared.to_ascii_uppercase();
    let says = |types: &[&str]| types.iter().any(|t| declared.contains(t));
    match () {
        () if says(&["JSON"]) => Some(Class::Json),
        () if says(&["CHAR", "TEXT"]) => Some(Class::Text),
        () if says(&["BLOB", "BINARY"]) => Some(Class::Blob),
        () if says(&["INT", "REAL", "FLOA", "DOUB", "NUM", "DEC", "BOOL", "DATE", "TIME"]) => None,
        () => Some(Class::Text),
    }
}

pub(super) async fn sample(db: &Sqlite, column: &TextColumn, limit: usize) -> Result<Sample> {
    let (t, f) = (ident(&column.column.table), ident(&column.column.column));
    let in_context = |e: sqlx::Error| failed("sample")(e).with("column", &column.column);
    let value = format!("CAST(substr(v, 1, {LONGEST}) AS BLOB)");
    let holds = "typeof(v) IN ('text', 'blob') AND length(v) > 0";
    // Bytes may be pictures: few of them.
    let most = if column.class == Class::Blob { limit as u64 } else { SMALL };
    let mut connection = db.acquire().await?;
    let ends: Option<(Option<i64>, Option<i64>)> = if column.rows > SMALL {
        // A table WITHOUT ROWID has no such column, and is read from its beginning.
        let sql = format!("SELECT (SELECT min(rowid) FROM {t}), (SELECT max(rowid) FROM {t})");
        match sqlx::query_as(AssertSqlSafe(sql)).fetch_one(&mut *connection).await {
            Ok(ends) => Some(ends),
            Err(e) => match failed("sample")(e) {
                e if e.kind() == Kind::Schema => None,
                e => return Err(e.with("column", &column.column)),
            },
        }
    } else {
        None
    };
    let Some((Some(first), Some(last))) = ends else {
        let sql = format!("SELECT {value} FROM (SELECT t.{f} AS v FROM {t} AS t WHERE t.{f} IS NOT NULL LIMIT {most}) WHERE {holds}");
        let rows: Vec<Vec<u8>> = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&mut *connection).await.map_err(in_context)?;
        return Ok(Sample::of(rows, limit, column.rows >= SMALL));
    };
    let mut sample = Sample { partial: true, ..Sample::default() };
    let sql = format!(
        "SELECT {value} FROM (SELECT t.{f} AS v FROM {t} AS t WHERE t.rowid >= ?1 ORDER BY t.rowid LIMIT {WINDOW}) WHERE {holds} LIMIT ?2"
    );
    // Of each place the same share, or the first would be all.
    let share = i64::try_from(limit).unwrap_or(i64::MAX) / WINDOWS + 1;
    for from in windows(first, last, WINDOWS) {
        let rows: Vec<Vec<u8>> = sqlx::query_scalar(AssertSqlSafe(sql.clone()))
            .bind(from)
            .bind(share.max(4))
            .fetch_all(&mut *connection)
            .await
            .map_err(in_context)?;
        sample.add(rows, limit);
    }
    if sample.values.len() < limit && column.indexed {
        // Few rows have a value: the index knows which.
        let sql = format!("SELECT {value} FROM (SELECT t.{f} AS v FROM {t} AS t WHERE t.{f} > '' LIMIT {SMALL}) WHERE {holds}");
        let rows: Vec<Vec<u8>> = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&mut *connection).await.map_err(in_context)?;
        sample.add(rows, limit);
    }
    Ok(sample)
}
