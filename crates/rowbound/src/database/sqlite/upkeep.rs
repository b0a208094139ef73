//! What is known of a storage's trash. Who keeps it is not written: the one worker holds a file lock.

use super::{Sqlite, fault::failed, queue::enter_in};
use crate::{
    database::{read_upkeep, write_upkeep},
    error::Result,
    ledger::{NewEntry, Upkeep},
};

pub(super) async fn kept(db: &Sqlite, storage: &str, upkeep: &Upkeep, entries: &[NewEntry]) -> Result<bool> {
    let record = write_upkeep(storage, upkeep)?;
    let mut lock = db.write_lock().await?;
    sqlx::query(
        "INSERT INTO rowbound_upkeep (storage, record) VALUES (?1, ?2) ON CONFLICT (storage) DO UPDATE SET record = excluded.record",
    )
    .bind(storage)
    .bind(record)
    .execute(lock.connection())
    .await
    .map_err(failed("keep the trash"))?;
    if !entries.is_empty() {
        enter_in(lock.connection(), entries).await?;
    }
    lock.end("COMMIT").await?;
    Ok(true)
}

pub(super) async fn upkeep(db: &Sqlite, storage: &str) -> Result<Option<Upkeep>> {
    let mut connection = db.acquire().await?;
    let record: Option<String> = sqlx::query_scalar("SELECT record FROM rowbound_upkeep WHERE storage = ?1")
        .bind(storage)
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed("read what is known of the trash"))?;
    record.map(|text| read_upkeep(storage, &text)).transpose()
}
