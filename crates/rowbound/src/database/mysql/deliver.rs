//! Deliveries to followers, written with the entries themselves.

use sqlx::MySqlConnection;

use super::fault;
use crate::error::Result;

/// A mark for the ledger rows of this transaction, if anybody follows. The followers' rows stay locked, so that none is forgotten before its end.
pub(super) async fn mark(conn: &mut MySqlConnection) -> Result<Option<String>> {
    let followers = sqlx::query("select id from rowbound_follower lock in share mode").fetch_all(conn).await.map_err(fault)?;
    Ok((!followers.is_empty()).then(|| format!("{:016x}", rand::random::<u64>())))
}

/// Writes the deliveries of what has entered the ledger under this mark, from the entry `first` on.
pub(super) async fn tell(conn: &mut MySqlConnection, mark: &str, first: u64) -> Result<()> {
    sqlx::query(include_str!("deliver_entries.sql")).bind(first).bind(mark).execute(conn).await.map_err(fault)?;
    Ok(())
}
