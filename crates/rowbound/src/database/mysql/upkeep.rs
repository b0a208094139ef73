//! Who keeps a storage's trash, and what is known of it.

use std::{collections::BTreeMap, time::Duration};

use sqlx::MySqlConnection;

use super::{Mysql, fault, int, interval, record::enter_in, text};
use crate::{
    database::{read_upkeep, write_upkeep},
    error::Result,
    ledger::{NewEntry, Timeline, Upkeep},
};

/// See [`super::Database::keep`].
pub(super) async fn keep(db: &Mysql, storage: &str, owner: &str, lease: Duration) -> Result<Option<Upkeep>> {
    let mut tx = db.pool().begin().await.map_err(fault)?;
    let done = match lease.is_zero() {
        true => {
            sqlx::query("update rowbound_upkeep set owner = null, `until` = utc_timestamp(6) where storage = ? and owner = ?")
                .bind(storage)
                .bind(owner)
                .execute(&mut *tx)
                .await
        }
        false => {
            sqlx::query(
                "update rowbound_upkeep set owner = ?, `until` = utc_timestamp(6) + interval ? microsecond \
                 where storage = ? and (owner is null or owner = ? or `until` <= utc_timestamp(6))",
            )
            .bind(owner)
            .bind(interval(lease))
            .bind(storage)
            .bind(owner)
            .execute(&mut *tx)
            .await
        }
    };
    if done.map_err(fault)?.rows_affected() > 0 {
        let upkeep = read(&mut tx, storage).await?;
        tx.commit().await.map_err(fault)?;
        return Ok(upkeep);
    }
    tx.rollback().await.map_err(fault)?;
    if lease.is_zero() {
        return Ok(None);
    }
    // Another's, or nobody's yet. After the UPDATE and not before it: two that had found the row there would both hold a lock on it, and wait for
    // each other.
    let nothing = Upkeep::default();
    let made = sqlx::query(
        "insert ignore into rowbound_upkeep (storage, owner, `until`, record) values (?, ?, utc_timestamp(6) + interval ? microsecond, ?)",
    )
    .bind(storage)
    .bind(owner)
    .bind(interval(lease))
    .bind(write_upkeep(storage, &nothing)?)
    .execute(db.pool())
    .await
    .map_err(fault)?;
    Ok((made.rows_affected() > 0).then_some(nothing))
}

/// See [`super::Database::kept`].
pub(super) async fn kept(db: &Mysql, storage: &str, owner: &str, upkeep: &Upkeep, entries: &[NewEntry]) -> Result<bool> {
    let mut tx = db.pool().begin().await.map_err(fault)?;
    // The row stays locked until the transaction's end: nobody else takes it before the entries are in.
    let done = sqlx::query("update rowbound_upkeep set record = ? where storage = ? and owner = ? and `until` > utc_timestamp(6)")
        .bind(write_upkeep(storage, upkeep)?)
        .bind(storage)
        .bind(owner)
        .execute(&mut *tx)
        .await
        .map_err(fault)?;
    if done.rows_affected() == 0 {
        tx.rollback().await.map_err(fault)?;
        return Ok(false);
    }
    if !entries.is_empty() {
        enter_in(&mut tx, entries).await?;
    }
    tx.commit().await.map_err(fault)?;
    Ok(true)
}

/// See [`super::Database::beat`].
pub(super) async fn beat(db: &Mysql, worker: &str, record: &str) -> Result<()> {
    sqlx::query(
        "insert into rowbound_worker (worker, seen, record) values (?, utc_timestamp(6), ?) \
         on duplicate key update seen = values(seen), record = values(record)",
    )
    .bind(worker)
    .bind(record)
    .execute(db.pool())
    .await
    .map_err(fault)?;
    let old = sqlx::query("delete from rowbound_worker where seen < utc_timestamp(6) - interval 30 day");
    old.execute(db.pool()).await.map(drop).map_err(fault)
}

/// See [`super::Database::beats`].
pub(super) async fn beats(db: &Mysql) -> Result<Vec<(i64, String)>> {
    let sql = "select timestampdiff(second, seen, utc_timestamp(6)), record from rowbound_worker order by seen desc";
    let rows = sqlx::query(sql).fetch_all(db.pool()).await.map_err(fault)?;
    rows.iter().map(|row| Ok((int(row, 0)?, text(row, 1)?))).collect()
}

/// See [`super::Database::upkeep`].
pub(super) async fn upkeep(db: &Mysql, storage: &str) -> Result<Option<Upkeep>> {
    read(&mut *db.pool().acquire().await.map_err(fault)?, storage).await
}

async fn read(conn: &mut MySqlConnection, storage: &str) -> Result<Option<Upkeep>> {
    let row =
        sqlx::query("select record from rowbound_upkeep where storage = ?").bind(storage).fetch_optional(conn).await.map_err(fault)?;
    row.map(|row| read_upkeep(storage, &text(&row, 0)?)).transpose()
}

/// Which server it is, and how long its redo log has become. A failover leads to another server; a server that was set back has a shorter log, which a process
/// that was there before notices. `server_uuid` is MySQL's. MariaDB's `server_uid`, since 10.6.16, is made of a network card's address and the port, which
/// containers may have in common; servers that copy from each other have different numbers.
pub(super) async fn timeline(db: &Mysql) -> Result<Timeline> {
    let mut conn = db.pool().acquire().await.map_err(fault)?;
    let ask = "show global variables where variable_name in ('server_uuid', 'server_uid', 'server_id', 'hostname', 'port')";
    let rows = sqlx::raw_sql(ask).fetch_all(&mut *conn).await.map_err(fault)?;
    let told = rows.iter().map(|row| Ok((text(row, 0)?.to_lowercase(), text(row, 1)?))).collect::<Result<BTreeMap<_, _>>>()?;
    let names: &[&str] = match ["server_uuid", "server_uid"].iter().find(|name| told.get(**name).is_some_and(|id| !id.is_empty())) {
        Some(&"server_uuid") => &["server_uuid"],
        Some(_) => &["server_uid", "server_id"],
        None => &["server_id", "hostname", "port"],
    };
    let id = names.iter().map(|name| told.get(*name).map_or("", String::as_str)).collect::<Vec<_>>().join(" ");
    let ask = "show global status where variable_name in ('Innodb_lsn_current', 'Innodb_redo_log_current_lsn')";
    let rows = sqlx::raw_sql(ask).fetch_all(&mut *conn).await.map_err(fault)?;
    let position = rows.first().map(|row| text(row, 1)).transpose()?;
    Ok(Timeline { id: format!("server {id}"), position: position.and_then(|lsn| lsn.parse().ok()).unwrap_or(0) })
}
