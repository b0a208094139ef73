//! A row is looked for by its key, and its column is set, for who has no application at hand.

use sqlx::{AssertSqlSafe, MySqlConnection, Row};

use super::{Mysql, fault::fault, quote};
use crate::{binding::Column, database::no_key, error::Result, name::FileName};

/// See [`super::Database::has_row`].
pub(super) async fn has_row(db: &Mysql, column: &Column, key: &str) -> Result<bool> {
    let error = |e| fault(e).with("column", column).with("key", key);
    let mut connection = db.pool().acquire().await.map_err(error)?;
    let (table, find) = by_key(&mut connection, column, key).await?;
    let there = sqlx::query(AssertSqlSafe(format!("select 1 from {table} where {find}")));
    Ok(there.bind(key).bind(key).fetch_optional(&mut *connection).await.map_err(error)?.is_some())
}

/// See [`super::Database::assign`].
pub(super) async fn assign(db: &Mysql, column: &Column, key: &str, name: &FileName) -> Result<bool> {
    let error = |e| fault(e).with("column", column).with("key", key);
    let mut tx = db.pool().begin().await.map_err(error)?;
    let (table, find) = by_key(&mut tx, column, key).await?;
    let there = sqlx::query(AssertSqlSafe(format!("select 1 from {table} where {find} for update")));
    let there = there.bind(key).bind(key).fetch_optional(&mut *tx).await.map_err(error)?.is_some();
    let set = sqlx::query(AssertSqlSafe(format!("update {table} set {} = ? where {find}", quote(&column.column))));
    set.bind(name.as_str()).bind(key).bind(key).execute(&mut *tx).await.map_err(error)?;
    tx.commit().await.map_err(error)?;
    // Not what the update says: it counts only rows that have another value now.
    Ok(there)
}

/// The column's table, and the condition that its key is `?`, twice: as a number `1x` would be 1.
async fn by_key(connection: &mut MySqlConnection, column: &Column, key: &str) -> Result<(String, String)> {
    let error = |e| fault(e).with("column", column).with("key", key);
    let keys = sqlx::query(
        "select cast(column_name as binary) from information_schema.key_column_usage \
         where table_schema = coalesce(?, database()) and table_name = ? and constraint_name = 'PRIMARY' order by ordinal_position",
    )
    .bind(&column.schema)
    .bind(&column.table)
    .fetch_all(connection)
    .await
    .map_err(error)?;
    let keys: Vec<Vec<u8>> = keys.iter().map(|row| row.try_get_unchecked(0)).collect::<sqlx::Result<_>>().map_err(error)?;
    let [one] = keys.as_slice() else { return Err(no_key(column)) };
    let table: Vec<_> = column.schema.iter().chain([&column.table]).map(|part| quote(part)).collect();
    let key = quote(&String::from_utf8_lossy(one));
    Ok((table.join("."), format!("{key} = ? and cast({key} as char) = ?")))
}
