//! Who keeps a storage's trash, and what is known of it. Who works.

use std::time::Duration;

use sqlx::PgPool;

use super::{
    fault::{failed, standing_by},
    queue::{enter_in, micros},
};
use crate::{
    database::{read_upkeep, write_upkeep},
    error::Result,
    ledger::{NewEntry, Timeline, Upkeep},
};

pub(super) async fn keep(pool: &PgPool, storage: &str, owner: &str, lease: Duration) -> Result<Option<Upkeep>> {
    let record: Option<String> = match lease.is_zero() {
        true => {
            sqlx::query_scalar(
                "update rowbound.upkeep set owner = null, until = clock_timestamp() where storage = $1 and owner = $2 returning record",
            )
            .bind(storage)
            .bind(owner)
            .fetch_optional(pool)
            .await
        }
        false => {
            sqlx::query_scalar(include_str!("keep.sql"))
                .bind(storage)
                .bind(owner)
                .bind(micros(lease))
                .bind(write_upkeep(storage, &Upkeep::default())?)
                .fetch_optional(pool)
                .await
        }
    }
    .map_err(|e| failed("cannot take the right to keep a trash", e))?;
    record.map(|text| read_upkeep(storage, &text)).transpose()
}

pub(super) async fn kept(pool: &PgPool, storage: &str, owner: &str, upkeep: &Upkeep, entries: &[NewEntry]) -> Result<bool> {
    let error = |e| failed("cannot write what is known of a trash", e);
    let mut tx = pool.begin_with("begin isolation level read committed").await.map_err(error)?;
    // The row stays locked until the transaction's end: nobody else takes it before the entries are in.
    let done = sqlx::query("update rowbound.upkeep set record = $3 where storage = $1 and owner = $2 and until > clock_timestamp()")
        .bind(storage)
        .bind(owner)
        .bind(write_upkeep(storage, upkeep)?)
        .execute(&mut *tx)
        .await
        .map_err(error)?;
    if done.rows_affected() == 0 {
        tx.rollback().await.map_err(error)?;
        return Ok(false);
    }
    if !entries.is_empty() {
        enter_in(&mut tx, entries).await?;
    }
    tx.commit().await.map_err(error)?;
    Ok(true)
}

pub(super) async fn beat(pool: &PgPool, worker: &str, record: &str) -> Result<()> {
    let error = |e| failed("cannot write a sign of life", e);
    sqlx::query(
        "insert into rowbound.worker (worker, seen, record) values ($1, clock_timestamp(), $2)
         on conflict (worker) do update set seen = excluded.seen, record = excluded.record",
    )
    .bind(worker)
    .bind(record)
    .execute(pool)
    .await
    .map_err(error)?;
    sqlx::query("delete from rowbound.worker where seen < now() - interval '30 days'").execute(pool).await.map(drop).map_err(error)
}

pub(super) async fn beats(pool: &PgPool) -> Result<Vec<(i64, String)>> {
    sqlx::query_as("select extract(epoch from clock_timestamp() - seen)::int8, record from rowbound.worker order by seen desc")
        .fetch_all(pool)
        .await
        .map_err(|e| failed("cannot read the signs of life", e))
}

pub(super) async fn upkeep(pool: &PgPool, storage: &str) -> Result<Option<Upkeep>> {
    let record: Option<String> = sqlx::query_scalar("select record from rowbound.upkeep where storage = $1")
        .bind(storage)
        .fetch_optional(pool)
        .await
        .map_err(|e| failed("cannot read what is known of a trash", e))?;
    record.map(|text| read_upkeep(storage, &text)).transpose()
}

/// The server begins a timeline when a standby is promoted and when a recovery has ended at an earlier moment; each file of the write-ahead log is named after
/// its own (<https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-TIMELINES>). After a crash the log may be shorter than it was seen.
pub(super) async fn timeline(pool: &PgPool) -> Result<Timeline> {
    // Before anything is asked: that nobody lets us in says nothing of the log.
    let mut conn = pool.acquire().await.map_err(|e| failed("cannot connect", e))?;
    let told: sqlx::Result<Option<(String, i64)>> = sqlx::query_as(
        "select 'timeline ' || left(pg_walfile_name(w.at), 8), pg_wal_lsn_diff(w.at, '0/0')::int8
         from (select case when not pg_is_in_recovery() then pg_current_wal_insert_lsn() end as at) w where w.at is not null",
    )
    .fetch_optional(&mut *conn)
    .await;
    let told = match told {
        // A service whose storage is its own has no such log, and each says so in its own way (Aurora: 55000, below wal_level = logical). Then nothing is
        // noticed, and nothing else is kept from its work.
        Err(sqlx::Error::Database(e)) if !is_for_a_moment(e.code().as_deref().unwrap_or_default()) => {
            tracing::debug!(error = %e, "the server does not tell its timeline");
            return Ok(Timeline { id: "no timeline".to_owned(), position: 0 });
        }
        told => told.map_err(|e| failed("cannot read the server's timeline", e))?,
    };
    let (id, position) = told.ok_or_else(standing_by)?;
    Ok(Timeline { id, position: u64::try_from(position).unwrap_or(0) })
}

/// Whether a code says that the connection was lost, the server is going down, or it has no room just now: nothing of what it has and what it has not.
fn is_for_a_moment(code: &str) -> bool {
    ["08", "53", "57"].iter().any(|class| code.starts_with(class))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_connection_that_is_lost_says_nothing_of_the_log() {
        for lost in ["57P01", "57014", "08006", "53300"] {
            assert!(is_for_a_moment(lost), "{lost}");
        }
        for has_none in ["55000", "0A000", "42883", "42501", "XX000", ""] {
            assert!(!is_for_a_moment(has_none), "{has_none}");
        }
    }
}
