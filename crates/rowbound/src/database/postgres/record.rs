//! The installation's record, in the caller's transaction.

use sqlx::PgConnection;

use super::fault::failed;
use crate::{
    capture::Installation,
    database::over,
    error::{Error, Kind, Result},
};

/// Stores `record` over what stands, in the caller's transaction, and returns it as it stands now.
pub(super) async fn store(
    conn: &mut PgConnection,
    record: &Installation,
    expect: impl FnOnce(Option<&str>) -> Result<()>,
) -> Result<Installation> {
    let standing = standing(conn).await?;
    expect(standing.as_deref())?;
    let record = over(standing.as_deref(), record)?;
    write(conn, &record).await?;
    Ok(record)
}

/// The record as it stands, locked until the transaction's end.
pub(super) async fn standing(conn: &mut PgConnection) -> Result<Option<String>> {
    sqlx::query_scalar("select record::text from rowbound.installation where id = 1 for update")
        .fetch_optional(conn)
        .await
        .map_err(|e| failed("cannot read the installation's record", e))
}

/// Stores it over what stands.
pub(super) async fn write(conn: &mut PgConnection, record: &Installation) -> Result<()> {
    let text =
        serde_json::to_string(record).map_err(|e| Error::new(Kind::Database, "cannot write the installation's record").because(e))?;
    sqlx::query(
        "insert into rowbound.installation (id, record) values (1, $1::text::jsonb) on conflict (id) do update set record = excluded.record",
    )
    .bind(text)
    .execute(conn)
    .await
    .map_err(|e| failed("cannot store the installation's record", e))?;
    Ok(())
}
