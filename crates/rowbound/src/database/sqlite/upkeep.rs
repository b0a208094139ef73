//! What is known of a storage's trash. Who keeps it is not written: the one worker holds a file lock.

use super::{Sqlite, fault::failed, identity, queue::enter_in};
use crate::{
    database::{read_upkeep, write_upkeep},
    error::{Error, Kind, Result},
    ledger::{NewEntry, Timeline, Upkeep},
};

/// Under this name, which no storage has, stands the ledger's highest number from before old entries left it.
pub(super) const LONGEST: &str = "";

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

/// A backup that was put in the file's place is another file, though it may have got the old one's inode number; or its ledger is shorter than it was.
pub(super) async fn timeline(db: &Sqlite) -> Result<Timeline> {
    let mut connection = db.acquire().await?;
    let file = identity::number_at(&db.path)
        .map_err(|e| Error::new(Kind::DatabaseUnreachable, "the SQLite file is gone").with("database", db.path.display()).because(e))?;
    let last: i64 = sqlx::query_scalar(
        "SELECT max(coalesce((SELECT max(id) FROM rowbound_ledger), 0), \
           coalesce((SELECT CAST(record AS INTEGER) FROM rowbound_upkeep WHERE storage = ?1), 0))",
    )
    .bind(LONGEST)
    .fetch_one(&mut *connection)
    .await
    .map_err(failed("read the end of the ledger"))?;
    Ok(Timeline { id: format!("file{file}"), position: u64::try_from(last).unwrap_or(0) })
}
