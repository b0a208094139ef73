//! A row's column is set, for who has no application at hand.

use sqlx::{AssertSqlSafe, Row};

use super::{Mysql, fault::fault, quote};
use crate::{binding::Column, database::no_key, error::Result, name::FileName};

/// See [`super::Database::assign`].
pub(super) async fn assign(db: &Mysql, column: &Column, key: &str, name: &FileName) -> Result<bool> {
    let error = |e| fault(e).with("column", column).with("key", key);
    let mut tx = db.pool().begin().await.map_err(error)?;
    let keys = sqlx::query(
        "select cast(column_name as binary) from information_schema.key_column_usage \
         where table_schema = coalesce(?, database()) and table_name = ? and constraint_name = 'PRIMARY' order by ordinal_position",
    )
    .bind(&column.schema)
    .bind(&column.table)
    .fetch_all(&mut *tx)
    .await
    .map_err(error)?;
    let keys: Vec<Vec<u8>> = keys.iter().map(|row| row.try_get_unchecked(0)).collect::<sqlx::Result<_>>().map_err(error)?;
    let [one] = keys.as_slice() else { return Err(no_key(column)) };
    let table: Vec<_> = column.schema.iter().chain([&column.table]).map(|part| quote(part)).collect();
    let find = format!("{} = ?", quote(&String::from_utf8_lossy(one)));
    let there = sqlx::query(AssertSqlSafe(format!("select 1 from {} where {find} for update", table.join("."))));
    let there = there.bind(key).fetch_optional(&mut *tx).await.map_err(error)?.is_some();
    let set = sqlx::query(AssertSqlSafe(format!("update {} set {} = ? where {find}", table.join("."), quote(&column.column))));
    set.bind(name.as_str()).bind(key).execute(&mut *tx).await.map_err(error)?;
    tx.commit().await.map_err(error)?;
    // Not what the update says: it counts only rows that have another value now.
    Ok(there)
}
