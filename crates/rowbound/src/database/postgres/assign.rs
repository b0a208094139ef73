//! A row is looked for by its key, and its column is set, for who has no application at hand.

use sqlx::{AssertSqlSafe, PgConnection, PgPool};

use super::{fault::failed, tables};
use crate::{binding::Column, database::no_key, error::Result, name::FileName};

/// See [`super::Database::has_row`]. The pools here are of sessions that see the rows which the application's role sees.
pub(super) async fn has_row(pool: &PgPool, column: &Column, key: &str) -> Result<bool> {
    let error = |e| failed("cannot look for the row", e).with("column", column).with("key", key);
    let mut connection = pool.acquire().await.map_err(error)?;
    let (table, is) = by_key(&mut connection, column, key).await?;
    let sql = format!("select 1 from {table} where {}", is.replace("$2", "$1"));
    let found = sqlx::query(AssertSqlSafe(sql)).persistent(false).bind(key).fetch_optional(&mut *connection).await.map_err(error)?;
    Ok(found.is_some())
}

/// The application's own triggers run here, and look for tables where its role does.
const AS_ITS_ROLE: &str = "select set_config('search_path', current_setting('rowbound.search_path'), true)";

/// See [`super::Database::assign`]. `pool` is that of sessions which barriers wait for.
pub(super) async fn assign(pool: &PgPool, column: &Column, key: &str, name: &FileName) -> Result<bool> {
    let error = |e| failed("cannot set the column", e).with("column", column).with("key", key);
    let mut tx = pool.begin().await.map_err(error)?;
    let (table, is) = by_key(&mut tx, column, key).await?;
    sqlx::raw_sql(AS_ITS_ROLE).execute(&mut *tx).await.map_err(error)?;
    let sql = format!("update {table} set {} = $1::text where {is}", tables::ident(&column.column));
    let set = sqlx::query(AssertSqlSafe(sql)).persistent(false).bind(name.as_str()).bind(key).execute(&mut *tx).await.map_err(error)?;
    tx.commit().await.map_err(error)?;
    Ok(set.rows_affected() > 0)
}

/// The column's table, and the condition that its key is `$2`, which is cast to the type of its column, so that the key's index serves.
async fn by_key(connection: &mut PgConnection, column: &Column, key: &str) -> Result<(String, String)> {
    let error = |e| failed("cannot look at the table's key", e).with("column", column).with("key", key);
    let found = tables::resolve(connection, &[column]).await?.pop();
    let Some((found, oid)) = found.and_then(|f| f.oid.map(|oid| (f, oid))) else { return Err(no_key(column)) };
    let [one] = found.key.as_slice() else { return Err(no_key(column)) };
    let kind: String =
        sqlx::query_scalar("select format_type(atttypid, atttypmod) from pg_attribute where attrelid = $1::int8::oid and attname = $2")
            .bind(oid)
            .bind(one)
            .fetch_one(connection)
            .await
            .map_err(error)?;
    Ok((found.table_sql(), format!("{} operator(pg_catalog.=) $2::text::{kind}", tables::ident(one))))
}
