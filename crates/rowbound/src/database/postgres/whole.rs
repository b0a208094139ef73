//! Any text column from one end to the other, whatever its type.

use sqlx::AssertSqlSafe;

use super::{Postgres, fault::failed, scan::copy, survey::limited, tables::ident};
use crate::{
    binding::Column,
    database::{
        Paging, Values,
        survey::{Class, TextColumn},
    },
    error::Result,
};

pub(super) async fn values(db: &Postgres, column: &TextColumn) -> Result<Values> {
    let mut conn = db.conn().await?;
    let (f, whole) = (format!("t.{}", ident(&column.column.column)), column.class.whole());
    let value = match column.class {
        Class::Blob => format!("substring({f} from 1 for {whole})"),
        // A character is a byte or more.
        Class::Text | Class::Json | Class::Array => format!("left({f}::text, {whole})"),
    };
    let table = format!("{}.{}", ident(&column.schema), ident(&column.column.table));
    let sql = format!("copy (select {value} from {table} t where {f} is not null) to stdout (format binary)");
    let (mut to, values) = Paging::new(false);
    let column = column.column.clone();
    tokio::spawn(async move {
        // Whoever stops reading leaves the connection in the middle of the copy.
        conn.close_on_drop();
        let done = copy(&mut conn, &sql, &mut to).await;
        to.end(done.map_err(|e| e.with("column", &column))).await;
    });
    Ok(values)
}

pub(super) async fn beside(db: &Postgres, column: &TextColumn, other: &Column, values: &[String], limit: usize) -> Result<Vec<String>> {
    let mut conn = db.conn().await?;
    let (f, o) = (ident(&column.column.column), ident(&other.column));
    let table = format!("{}.{}", ident(&column.schema), ident(&column.column.table));
    let sql = format!(
        "select distinct o::text from (select t.{o} as o, t.{f}::text as f from {table} t limit 100000) s where f = any ($1) and o is not null limit {limit}"
    );
    let place = |e| failed("cannot sample a column", e).with("column", &column.column);
    let mut tx = limited(&mut conn).await.map_err(place)?;
    let rows = sqlx::query_scalar(AssertSqlSafe(sql)).persistent(false).bind(values).fetch_all(&mut *tx).await.map_err(place)?;
    tx.rollback().await.map_err(place)?;
    Ok(rows)
}
