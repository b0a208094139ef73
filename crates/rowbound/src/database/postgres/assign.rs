//! A row's column is set, for who has no application at hand.

use sqlx::{AssertSqlSafe, PgPool};

use super::{fault::failed, tables};
use crate::{binding::Column, database::no_key, error::Result, name::FileName};

/// See [`super::Database::assign`]. The key is cast to the type of its column, so that its index serves.
pub(super) async fn assign(pool: &PgPool, column: &Column, key: &str, name: &FileName) -> Result<bool> {
    let error = |e| failed("cannot set the column", e).with("column", column).with("key", key);
    let mut tx = pool.begin().await.map_err(error)?;
    let found = tables::resolve(&mut tx, &[column]).await?.pop();
    let Some((found, oid)) = found.and_then(|f| f.oid.map(|oid| (f, oid))) else { return Err(no_key(column)) };
    let [one] = found.key.as_slice() else { return Err(no_key(column)) };
    let kind: String =
        sqlx::query_scalar("select format_type(atttypid, atttypmod) from pg_attribute where attrelid = $1::int8::oid and attname = $2")
            .bind(oid)
            .bind(one)
            .fetch_one(&mut *tx)
            .await
            .map_err(error)?;
    let sql = format!(
        "update {} set {} = $1::text where {} = $2::text::{kind}",
        found.table_sql(),
        tables::ident(&column.column),
        tables::ident(one)
    );
    let set = sqlx::query(AssertSqlSafe(sql)).persistent(false).bind(name.as_str()).bind(key).execute(&mut *tx).await.map_err(error)?;
    tx.commit().await.map_err(error)?;
    Ok(set.rows_affected() > 0)
}
