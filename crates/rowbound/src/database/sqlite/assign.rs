//! A row's column is set, for who has no application at hand.

use sqlx::AssertSqlSafe;

use super::{Sqlite, fault::failed, tables::table, triggers::ident};
use crate::{binding::Column, database::no_key, error::Result, name::FileName};

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
