//! The ledger, who keeps a storage's trash, and what is known of it.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::{PgConnection, PgPool};

use super::{
    Postgres,
    fault::{failed, standing_by},
    rows::{decode, entry_row, micros, storable, time, whole},
};
use crate::{
    database::{Forgotten, Ledger, Schema, Shadowed, read_outcome, read_upkeep, write_upkeep},
    error::Result,
    ledger::{Entry, Filter, NewEntry, Timeline, Total, Upkeep},
    name::FileName,
    queue::{CAME_BACK, Outcome},
};

#[async_trait]
impl Ledger for Postgres {
    async fn enter(&self, entries: &[NewEntry]) -> Result<()> {
        let mut conn = self.pool().acquire().await.map_err(|e| failed("cannot connect", e))?;
        enter_in(&mut conn, entries).await
    }

    async fn history(&self, filter: &Filter) -> Result<Vec<Entry>> {
        let error = |e| failed("cannot read the ledger", e);
        if filter.name.as_ref().is_some_and(|n| n.contains('\0')) {
            return Ok(Vec::new());
        }
        let outcomes: Vec<_> = filter.outcomes.iter().map(|o| o.word()).collect();
        let rows = sqlx::query(include_str!("history.sql"))
            .persistent(false)
            .bind(&filter.storage)
            .bind(&filter.name)
            .bind((!outcomes.is_empty()).then_some(outcomes))
            .bind(filter.since.map(Timestamp::as_microsecond))
            .bind(filter.limit.map(i64::from))
            .bind(filter.before)
            .fetch_all(self.pool())
            .await
            .map_err(error)?;
        rows.iter().map(entry_row).collect::<sqlx::Result<_>>().map_err(error)
    }

    async fn totals(&self, since: Option<Timestamp>) -> Result<Vec<Total>> {
        let error = |e| failed("cannot read the ledger", e);
        let rows: Vec<(String, String, i64, i64)> = sqlx::query_as(
            "select storage, outcome, count(*), coalesce(sum(size), 0)::int8 from rowbound.ledger
         where $1::int8 is null or at >= timestamptz 'epoch' + $1 * interval '1 microsecond'
         group by storage, outcome order by storage, outcome",
        )
        .persistent(false)
        .bind(since.map(Timestamp::as_microsecond))
        .fetch_all(self.pool())
        .await
        .map_err(error)?;
        let total = |(storage, word, count, bytes): (String, String, i64, i64)| {
            Ok(Total { storage, outcome: read_outcome(&word).map_err(decode)?, count: count.unsigned_abs(), bytes: bytes.unsigned_abs() })
        };
        rows.into_iter().map(total).collect::<sqlx::Result<_>>().map_err(error)
    }

    async fn shadowed(&self, binding: i32, since: Option<Timestamp>) -> Result<Shadowed> {
        let error = |e| failed("cannot read the ledger", e);
        let (files, bytes, oldest): (i64, i64, Option<i64>) = sqlx::query_as(
            "select count(*), coalesce(sum(size), 0)::int8, (extract(epoch from min(first)) * 1000000)::int8
         from (select distinct on (storage, name) size, min(at) over (partition by storage, name) as first
               from rowbound.ledger
               where binding = $1 and outcome = 'shadow'
                 and ($2::int8 is null or at >= timestamptz 'epoch' + $2 * interval '1 microsecond')
               order by storage, name, id desc) as files",
        )
        .persistent(false)
        .bind(binding)
        .bind(since.map(Timestamp::as_microsecond))
        .fetch_one(self.pool())
        .await
        .map_err(error)?;
        let oldest = oldest.map(time).transpose().map_err(error)?;
        Ok(Shadowed { files: files.unsigned_abs(), bytes: bytes.unsigned_abs(), oldest })
    }

    async fn in_places(&self, storage: &str, names: &[FileName], since: Timestamp) -> Result<Vec<(String, Outcome)>> {
        let error = |e| failed("cannot read the ledger", e);
        let rows: Vec<(String, String)> = sqlx::query_as(
            "select place, outcome from rowbound.ledger
         where storage = $1 and name = any ($2::text[]) and at >= timestamptz 'epoch' + $3::int8 * interval '1 microsecond'
             and place is not null and outcome <> 'duplicate'
         order by id",
        )
        .persistent(false)
        .bind(storage)
        .bind(names.iter().map(FileName::as_str).collect::<Vec<_>>())
        .bind(since.as_microsecond())
        .fetch_all(self.pool())
        .await
        .map_err(error)?;
        rows.into_iter().map(|(place, word)| Ok((place, read_outcome(&word).map_err(decode)?))).collect::<sqlx::Result<_>>().map_err(error)
    }

    async fn came_back(&self, storage: &str, names: &[FileName], since: Timestamp) -> Result<Vec<(String, Timestamp)>> {
        let error = |e| failed("cannot read the ledger", e);
        let rows: Vec<(String, i64)> = sqlx::query_as(
            "select name, (extract(epoch from max(at)) * 1000000)::int8 from rowbound.ledger
         where storage = $1 and name = any ($2::text[]) and at >= timestamptz 'epoch' + $3::int8 * interval '1 microsecond'
             and (outcome = 'restored' or outcome = 'kept' and note = $4)
         group by name",
        )
        .persistent(false)
        .bind(storage)
        .bind(names.iter().map(FileName::as_str).collect::<Vec<_>>())
        .bind(since.as_microsecond())
        .bind(CAME_BACK)
        .fetch_all(self.pool())
        .await
        .map_err(error)?;
        rows.into_iter().map(|(name, at)| Ok((name, time(at)?))).collect::<sqlx::Result<_>>().map_err(error)
    }

    async fn forget_entries(&self, before: Timestamp, after: i64, limit: u32) -> Result<Forgotten> {
        let (removed, last, more): (i64, Option<i64>, bool) = sqlx::query_as(include_str!("forget.sql"))
            .persistent(false)
            .bind(before.as_microsecond())
            .bind(after)
            .bind(i64::from(limit))
            .fetch_one(self.pool())
            .await
            .map_err(|e| failed("cannot remove old entries of the ledger", e))?;
        Ok(Forgotten { removed: removed.unsigned_abs(), next: last.filter(|_| more) })
    }

    async fn keep(&self, storage: &str, owner: &str, lease: Duration) -> Result<Option<Upkeep>> {
        let pool = self.pool();
        let taken: sqlx::Result<Option<String>> =
            match lease.is_zero() {
                true => sqlx::query_scalar(
                    "update rowbound.upkeep set owner = null, until = clock_timestamp() where storage = $1 and owner = $2 returning record",
                )
                .bind(storage)
                .bind(owner)
                .fetch_optional(pool)
                .await,
                false => {
                    sqlx::query_scalar(include_str!("keep.sql"))
                        .bind(storage)
                        .bind(owner)
                        .bind(micros(lease))
                        .bind(write_upkeep(storage, &Upkeep::default())?)
                        .fetch_optional(pool)
                        .await
                }
            };
        let record = taken.map_err(|e| failed("cannot take the right to keep a trash", e))?;
        record.map(|text| read_upkeep(storage, &text)).transpose()
    }

    async fn kept(&self, storage: &str, owner: &str, upkeep: &Upkeep, entries: &[NewEntry]) -> Result<bool> {
        let error = |e| failed("cannot write what is known of a trash", e);
        let mut tx = self.pool().begin_with("begin isolation level read committed").await.map_err(error)?;
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

    async fn upkeep(&self, storage: &str) -> Result<Option<Upkeep>> {
        let record: Option<String> = sqlx::query_scalar("select record from rowbound.upkeep where storage = $1")
            .bind(storage)
            .fetch_optional(self.pool())
            .await
            .map_err(|e| failed("cannot read what is known of a trash", e))?;
        record.map(|text| read_upkeep(storage, &text)).transpose()
    }

    async fn timeline(&self) -> Result<Timeline> {
        Ok(timeline(self.pool()).await?.of(&self.identity().await?))
    }
}

/// Writes entries in the caller's transaction.
async fn enter_in(conn: &mut PgConnection, entries: &[NewEntry]) -> Result<()> {
    sqlx::query(include_str!("enter.sql"))
        .bind(entries.iter().map(|e| &*e.storage).collect::<Vec<_>>())
        .bind(entries.iter().map(|e| storable(&e.name)).collect::<Vec<_>>())
        .bind(entries.iter().map(|e| e.event).collect::<Vec<_>>())
        .bind(entries.iter().map(|e| e.outcome.word()).collect::<Vec<_>>())
        .bind(entries.iter().map(|e| e.size.map(whole)).collect::<Vec<_>>())
        .bind(entries.iter().map(|e| e.place.as_deref().map(storable)).collect::<Vec<_>>())
        .bind(entries.iter().map(|e| e.note.as_deref().map(storable)).collect::<Vec<_>>())
        .execute(conn)
        .await
        .map_err(|e| failed("cannot write the ledger", e))?;
    Ok(())
}

/// The server begins a timeline when a standby is promoted and when a recovery has ended at an earlier moment; each file of the write-ahead log is named after
/// its own (<https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-TIMELINES>). After a crash the log may be shorter than it was seen.
async fn timeline(pool: &PgPool) -> Result<Timeline> {
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
