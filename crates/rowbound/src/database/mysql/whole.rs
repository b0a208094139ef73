//! Any text column from one end to the other, whatever its type: one statement that is read as it comes.

use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, MySqlConnection};

use super::{Mysql, bytes, fault, quote, survey::bounded, text, values::blob};
use crate::{
    binding::Column,
    database::{
        Paging, Values,
        survey::{Class, TextColumn},
    },
    error::{Error, Kind, Result},
};

fn is_bytes(column: &TextColumn) -> bool {
    column.class == Class::Blob || column.data_type.starts_with("varbinary")
}

pub(super) async fn values(db: &Mysql, column: &TextColumn) -> Result<Values> {
    let mut conn = db.pool().acquire().await.map_err(fault)?;
    let (f, whole) = (format!("t.{}", quote(&column.column.column)), column.class.whole());
    let value = match is_bytes(column) {
        true => format!("left({f}, {whole})"),
        // A character is a byte or more.
        false => format!("convert(left({f}, {whole}) using utf8mb4)"),
    };
    let sql =
        format!("select cast({value} as binary) from {}.{} t where length({f}) > 0", quote(&column.schema), quote(&column.column.table));
    let (mut to, values) = Paging::new(false);
    let column = column.column.clone();
    tokio::spawn(async move {
        // Whoever stops reading leaves an answer in the connection.
        conn.close_on_drop();
        let done = stream(&mut conn, sql, &mut to).await;
        to.end(done.map_err(|e| e.with("column", &column))).await;
    });
    Ok(values)
}

async fn stream(conn: &mut MySqlConnection, sql: String, to: &mut Paging) -> Result<()> {
    let mut rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch(conn);
    while let Some(row) = rows.try_next().await.map_err(fault)? {
        // The server answers NULL, with a warning that nobody sees, where a value is longer than `max_allowed_packet`.
        let value = bytes(&row, 0)?.ok_or_else(|| {
            Error::new(Kind::Database, "the server does not hand over a value, because it is longer than max_allowed_packet")
                .hint("raise max_allowed_packet, or, if the column references no files, list it in `ignore`")
        })?;
        if !to.send(value).await {
            break;
        }
    }
    Ok(())
}

pub(super) async fn beside(db: &Mysql, column: &TextColumn, other: &Column, values: &[String], limit: usize) -> Result<Vec<String>> {
    let mut conn = db.pool().acquire().await.map_err(fault)?;
    let list = values.iter().map(|v| blob(v.as_bytes())).collect::<Vec<_>>().join(", ");
    let (f, o) = (quote(&column.column.column), quote(&other.column));
    let value = if is_bytes(column) { "f".to_owned() } else { "cast(convert(f using utf8mb4) as binary)".to_owned() };
    let sql = format!(
        "distinct cast(o as char) from (select t.{o} as o, t.{f} as f from {}.{} t limit 100000) s where {value} in ({list}) and o is not null limit {limit}",
        quote(&column.schema),
        quote(&column.column.table)
    );
    let rows = bounded(db, &mut conn, &sql).await.map_err(|e| fault(e).with("column", &column.column))?;
    rows.iter().map(|row| text(row, 0)).collect()
}
