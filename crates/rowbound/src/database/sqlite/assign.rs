//! A row is looked for by its key, and its column is set, for who has no application at hand.

use sqlx::AssertSqlSafe;

use super::{Sqlite, fault::failed, tables::table, triggers::ident};
use crate::{binding::Column, database::no_key, error::Result, name::FileName};

/// See [`super::Database::has_row`].
pub(super) async fn has_row(db: &Sqlite, column: &Column, key: &str) -> Result<bool> {
    let mut connection = db.acquire().await?;
    let Some(table) = table(&mut connection, &column.table).await? else { return Err(no_key(column)) };
    let [one] = table.key.as_slice() else { return Err(no_key(column)) };
    let sql = format!("SELECT 1 FROM {} WHERE {} = ?1", ident(&table.name), ident(one));
    let found = sqlx::query(AssertSqlSafe(sql)).bind(key).fetch_optional(&mut *connection).await;
    let found = found.map_err(|e| failed("look for the row")(e).with("column", column).with("key", key))?;
    Ok(found.is_some())
}

/// See [`super::Database::assign`]. A key is bound as text: the column's affinity makes a number of it, so that its index serves.
pub(super) async fn assign(db: &Sqlite, column: &Column, key: &str, name: &FileName) -> Result<bool> {
    let mut lock = db.write_lock().await?;
    let Some(table) = table(lock.connection(), &column.table).await? else { return Err(no_key(column)) };
    let [one] = table.key.as_slice() else { return Err(no_key(column)) };
    let sql = format!("UPDATE {} SET {} = ?1 WHERE {} = ?2", ident(&table.name), ident(&column.column), ident(one));
    let set = sqlx::query(AssertSqlSafe(sql)).bind(name.as_str()).bind(key).execute(lock.connection()).await;
    let set = set.map_err(|e| failed("set the column")(e).with("column", column).with("key", key))?;
    lock.end("COMMIT").await?;
    Ok(set.rows_affected() > 0)
}
