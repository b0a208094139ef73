//! Text columns and samples of them. Reads a table's blocks here and there (TABLESAMPLE), under limits on time and on waiting for locks.

use sqlx::{AssertSqlSafe, PgConnection, Row, postgres::PgRow};

use super::{Postgres, fault::failed, tables::ident};
use crate::{
    binding::Column,
    database::survey::{Class, LONGEST, PATIENCE, Sample, TextColumn},
    error::Result,
};

/// How many blocks of 8 kB are read of a big table, about.
const BLOCKS: f64 = 300.0;

pub(super) async fn text_columns(db: &Postgres) -> Result<Vec<TextColumn>> {
    let mut conn = db.conn().await?;
    let rows = sqlx::query(include_str!("text_columns.sql"))
        .fetch_all(&mut *conn)
        .await
        .map_err(|e| failed("cannot look up the text columns", e))?;
    rows.iter().map(column).collect::<sqlx::Result<_>>().map_err(|e| failed("cannot read the catalogs", e))
}

fn column(row: &PgRow) -> sqlx::Result<TextColumn> {
    let schema: String = row.try_get("schema")?;
    Ok(TextColumn {
        column: Column {
            schema: (!row.try_get::<bool, _>("unqualified")?).then(|| schema.clone()),
            table: row.try_get("table")?,
            column: row.try_get("column")?,
        },
        schema,
        data_type: row.try_get("type")?,
        class: match row.try_get::<&str, _>("class")? {
            "text" => Class::Text,
            "array" => Class::Array,
            "blob" => Class::Blob,
            _ => Class::Json,
        },
        rows: row.try_get::<f64, _>("rows")? as u64,
        key: row.try_get("key")?,
        foreign_key: row.try_get("foreign_key")?,
        generated: row.try_get("generated")?,
        indexed: row.try_get("indexed")?,
    })
}

/// How many blocks the rows of a table take, those of its partitions and children with them.
const SIZE: &str = "
    with recursive below(oid) as (
        select c.oid from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relname = $2
        union select i.inhrelid from pg_inherits i join below on i.inhparent = below.oid
    )
    select coalesce(sum(pg_relation_size(oid)), 0)::float8 / current_setting('block_size')::float8 from below";

pub(super) async fn sample(db: &Postgres, column: &TextColumn, limit: usize) -> Result<Sample> {
    let in_context = |e: sqlx::Error| failed("cannot sample a column", e).with("column", &column.column);
    let table = format!("{}.{}", ident(&column.schema), ident(&column.column.table));
    let f = ident(&column.column.column);
    // After the rows were chosen: a cast reads the whole of a long value.
    let bytes = column.class == Class::Blob;
    let value = match column.class {
        Class::Text | Class::Json => "x::text",
        Class::Array => "array_to_json(x)::text",
        Class::Blob => "x",
    };
    let mut conn = db.conn().await?;
    let blocks = size(&mut conn, column).await.map_err(in_context)?;
    // The same blocks each time, so that two runs say the same.
    let big = blocks > BLOCKS * 2.0;
    let from = match big {
        true => format!("{table} t tablesample system ({}) repeatable (1)", (BLOCKS * 100.0 / blocks).min(100.0)),
        false => format!("{table} t"),
    };
    // The blocks come in their order: the rows that are kept are mixed, or they would all be from the beginning.
    let mixed = if big { "order by hashtext(t.ctid::text)" } else { "" };
    // Bytes may be pictures: of each a beginning, and few of them.
    let (cut, holds) = match bytes {
        true => (format!("substr(v, 1, {LONGEST})"), "octet_length(v) > 0"),
        false => (format!("left(v, {LONGEST})"), "v <> ''"),
    };
    let most = if bytes { limit } else { 20_000 };
    let query = |rows: usize| {
        let rows = rows.min(most);
        format!(
            "select {cut} from (select {value} as v from (select t.{f} as x from {from} where t.{f} is not null {mixed} limit {rows}) s) z \
             where {holds}"
        )
    };
    let mut read = bounded(&mut conn, &query(if big { limit.saturating_mul(20).clamp(200, 20_000) } else { 20_000 })).await;
    let mut partial = big;
    if read.as_ref().is_err_and(timed_out) {
        // The values are long: a few of them.
        partial = true;
        read = bounded(&mut conn, &query((limit / 4).max(10))).await;
    }
    let mut sample = Sample::of(read.map_err(in_context)?, limit, partial);
    if big && sample.values.len() < limit {
        // Few rows have a value. A look for them reads on for as long as it may.
        let more = format!(
            "select {cut} from (select {value} as v from (select t.{f} as x from {table} t where t.{f} is not null) s) z where {holds} limit {limit}"
        );
        match bounded(&mut conn, &more).await {
            Ok(rows) => sample.add(rows, limit),
            Err(e) if timed_out(&e) => {}
            Err(e) => return Err(in_context(e)),
        }
    }
    Ok(sample)
}

fn timed_out(e: &sqlx::Error) -> bool {
    matches!(e, sqlx::Error::Database(d) if d.code().as_deref() == Some("57014"))
}

/// A transaction that reads, takes no long time and waits for nobody.
pub(super) async fn limited(conn: &mut PgConnection) -> sqlx::Result<sqlx::Transaction<'_, sqlx::Postgres>> {
    use sqlx::Connection as _;
    let mut tx = conn.begin_with("begin read only").await?;
    let ms = PATIENCE.as_millis();
    // An error instead of fewer rows where row security applies.
    let limits = format!("set local statement_timeout = {ms}; set local lock_timeout = 500; set local row_security = off");
    sqlx::raw_sql(AssertSqlSafe(limits)).execute(&mut *tx).await?;
    Ok(tx)
}

/// How many blocks the table takes; to ask, the server locks it as any reader does.
async fn size(conn: &mut PgConnection, column: &TextColumn) -> sqlx::Result<f64> {
    let mut tx = limited(conn).await?;
    let blocks = sqlx::query_scalar(SIZE).bind(&column.schema).bind(&column.column.table).fetch_one(&mut *tx).await?;
    tx.rollback().await?;
    Ok(blocks)
}

async fn bounded(conn: &mut PgConnection, sql: &str) -> sqlx::Result<Vec<Vec<u8>>> {
    let mut tx = limited(conn).await?;
    let rows = sqlx::query(AssertSqlSafe(sql.to_owned())).persistent(false).fetch_all(&mut *tx).await?;
    tx.rollback().await?;
    // A text or bytes, in the binary format.
    rows.iter().map(|row| Ok(row.try_get_raw(0)?.as_bytes().map_err(sqlx::Error::Decode)?.to_vec())).collect()
}
