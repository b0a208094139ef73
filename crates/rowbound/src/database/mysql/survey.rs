//! Text columns and samples of them. There is no TABLESAMPLE: a big table is read at places along its integer key.

use sqlx::{AssertSqlSafe, MySqlConnection, mysql::MySqlRow};

use super::{Flavor, Mysql, bytes, fault, fault::is_lock_wait, int, quote, text};
use crate::{
    binding::Column,
    database::survey::{Class, LONGEST, PATIENCE, SMALL, Sample, TextColumn, windows},
    error::Result,
};

/// In how many places a big table is read, and how many rows at each.
const WINDOWS: i64 = 25;
const WINDOW: i64 = 400;

const COLUMNS: &str = "select c.table_name, c.column_name, cast(c.column_type as char), cast(coalesce(t.table_rows, 0) as signed), \
        c.column_key = 'PRI', lower(c.extra) like '%generated%' and lower(c.extra) not like '%default_generated%', \
        exists (select 1 from information_schema.key_column_usage k where k.table_schema = c.table_schema and k.table_name = c.table_name \
            and k.column_name = c.column_name and k.referenced_table_name is not null), \
        exists (select 1 from information_schema.statistics s where s.table_schema = c.table_schema and s.table_name = c.table_name \
            and s.column_name = c.column_name and s.seq_in_index = 1) \
    from information_schema.columns c \
    join information_schema.tables t on t.table_schema = c.table_schema and t.table_name = c.table_name \
    where c.table_schema = ? and t.table_type in ('BASE TABLE', 'SYSTEM VERSIONED') and c.table_name not like 'rowbound\\_%' \
        and c.data_type in ('char', 'varchar', 'tinytext', 'text', 'mediumtext', 'longtext', 'varbinary', 'json', \
            'binary', 'tinyblob', 'blob', 'mediumblob', 'longblob', 'uuid') \
    order by c.table_name, c.ordinal_position";

pub(super) async fn text_columns(db: &Mysql) -> Result<Vec<TextColumn>> {
    let rows = sqlx::query(COLUMNS).bind(&db.database).fetch_all(db.pool()).await.map_err(fault)?;
    rows.iter()
        .map(|row| {
            let data_type = text(row, 2)?;
            Ok(TextColumn {
                column: Column { schema: None, table: text(row, 0)?, column: text(row, 1)? },
                schema: db.database.clone(),
                class: class(&data_type),
                data_type,
                rows: u64::try_from(int(row, 3)?).unwrap_or(0),
                key: int(row, 4)? != 0,
                generated: int(row, 5)? != 0,
                foreign_key: int(row, 6)? != 0,
                indexed: int(row, 7)? != 0,
            })
        })
        .collect()
}

fn class(data_type: &str) -> Class {
    match data_type.to_ascii_lowercase() {
        kind if kind == "json" => Class::Json,
        kind if kind.contains("blob") || kind.starts_with("binary") => Class::Blob,
        _ => Class::Text,
    }
}

pub(super) async fn sample(db: &Mysql, column: &TextColumn, limit: usize) -> Result<Sample> {
    let in_context = |e: sqlx::Error| fault(e).with("column", &column.column);
    let (t, f) = (format!("{}.{}", quote(&column.schema), quote(&column.column.table)), format!("t.{}", quote(&column.column.column)));
    let is_bytes = column.class == Class::Blob || column.data_type.starts_with("varbinary");
    // Bytes may be pictures: few of them.
    let most = if column.class == Class::Blob { u64::try_from(limit).unwrap_or(SMALL) } else { SMALL };
    let value = match is_bytes {
        true => format!("left(v, {LONGEST})"),
        false => format!("left(convert(v using utf8mb4), {LONGEST})"),
    };
    let holds = "v is not null and length(v) > 0";
    let mut conn = db.pool().acquire().await.map_err(fault)?;
    let key = if column.rows > SMALL { integer_key(db, &mut conn, &column.column.table).await? } else { None };
    let Some(key) = key else {
        let sql = format!("{value} from (select {f} as v from {t} t where {f} is not null limit {most}) s where {holds}");
        let rows = bounded(db, &mut conn, &sql).await.map_err(in_context)?;
        return Ok(Sample::of(values(&rows)?, limit, column.rows >= SMALL));
    };
    let k = format!("t.{}", quote(&key));
    let ends =
        bounded(db, &mut conn, &format!("cast(min({k}) as signed), cast(max({k}) as signed) from {t} t")).await.map_err(in_context)?;
    let (first, last) = match ends.first() {
        Some(row) => (int(row, 0).unwrap_or(0), int(row, 1).unwrap_or(0)),
        None => (0, 0),
    };
    let mut sample = Sample { partial: true, ..Sample::default() };
    let share = i64::try_from(limit).unwrap_or(i64::MAX) / WINDOWS + 1;
    for from in windows(first, last, WINDOWS) {
        let sql = format!(
            "{value} from (select {f} as v from {t} t where {k} >= {from} order by {k} limit {WINDOW}) s where {holds} limit {}",
            share.max(4)
        );
        let rows = bounded(db, &mut conn, &sql).await.map_err(in_context)?;
        sample.add(values(&rows)?, limit);
    }
    if sample.values.len() < limit {
        // Few rows have a value. A look for them reads on for as long as it may. A UUID is never empty, and is compared with nothing else.
        let some = if column.data_type == "uuid" { "is not null" } else { "> ''" };
        let sql = format!("{value} from (select {f} as v from {t} t where {f} {some} limit {limit}) s where {holds}");
        match bounded(db, &mut conn, &sql).await {
            Ok(rows) => sample.add(values(&rows)?, limit),
            Err(e) if super::fault::number(&e).is_some_and(is_lock_wait) => {}
            Err(e) => return Err(in_context(e)),
        }
    }
    Ok(sample)
}

fn values(rows: &[MySqlRow]) -> Result<Vec<Vec<u8>>> {
    rows.iter().filter_map(|row| bytes(row, 0).transpose()).collect()
}

/// The primary key, if it is one integer column: what a big table can be entered by.
async fn integer_key(db: &Mysql, conn: &mut MySqlConnection, table: &str) -> Result<Option<String>> {
    let rows = sqlx::query(
        "select c.column_name, lower(cast(c.data_type as char)) like '%int' from information_schema.columns c \
         where c.table_schema = ? and c.table_name = ? and c.column_key = 'PRI'",
    )
    .bind(&db.database)
    .bind(table)
    .fetch_all(conn)
    .await
    .map_err(fault)?;
    match rows.as_slice() {
        [one] if int(one, 1)? != 0 => text(one, 0).map(Some),
        _ => Ok(None),
    }
}

/// Runs `select ..` under a limit on its time, which each of the two writes differently.
pub(super) async fn bounded(db: &Mysql, conn: &mut MySqlConnection, query: &str) -> sqlx::Result<Vec<MySqlRow>> {
    let sql = match db.flavor {
        Flavor::Mariadb => {
            format!("set statement max_statement_time = {}, lock_wait_timeout = 1 for select {query}", PATIENCE.as_secs_f64())
        }
        Flavor::Mysql => format!("select /*+ max_execution_time({}) */ {query}", PATIENCE.as_millis()),
    };
    sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(conn).await
}
