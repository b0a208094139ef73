//! Candidates and deliveries.
//!
//! Each call is one statement or one short transaction, arrays in, rows out.

use std::{collections::HashSet, time::Duration};

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, PgPool, Row, postgres::PgRow};

use super::{
    Postgres,
    fault::failed,
    rows::{WAITING, count, entry_row, failing_row, micros, storable, time, waiting_row, without_nul},
    settle,
};
use crate::{
    capture::Reliance,
    database::{LockGuard, Queue, Schema, YOUNG, read_outcome, read_waits, relied_on},
    delivery::{Acknowledgement, DeliveryClaim, Pending, Registered},
    error::{Error, Kind, Result, Retry},
    queue::{Announce, Backlog, CLAIM_BYTES, Candidate, Claim, Outcome, Settlement, Waiting, Waits},
};

#[async_trait]
impl Queue for Postgres {
    async fn announce(&self, items: &[Announce]) -> Result<()> {
        announced(self.pool(), items, None).await.map(drop)
    }

    async fn announce_relying(&self, items: &[Announce], on: &Reliance) -> Result<()> {
        // Once more where it was attached again in between.
        for _ in 0..3 {
            match announced(self.pool(), items, Some(on)).await {
                Ok(written) if written == items.len() as u64 => return Ok(()),
                Ok(_) => relied_on(self.installation().await?.as_ref(), on)?,
                // Its tables are gone.
                Err(e) if e.kind() == Kind::Schema => {
                    relied_on(self.installation().await?.as_ref(), on)?;
                    return Err(e);
                }
                Err(e) => return Err(e),
            }
        }
        Err(Error::new(Kind::Busy, "what is attached changes all the time").retry(Retry::Later))
    }

    async fn claim(&self, claim: &Claim) -> Result<Vec<Candidate>> {
        // Not prepared once for all: a plan made while the queue was empty would be kept for a full one.
        let rows = sqlx::query(include_str!("claim.sql"))
            .persistent(false)
            .bind(&claim.storage)
            .bind(micros(claim.grace))
            .bind(i64::from(claim.limit))
            .bind(&claim.owner)
            .bind(micros(claim.lease))
            .bind(claim.not_due_too)
            .bind(CLAIM_BYTES as i64)
            .fetch_all(self.pool())
            .await
            .map_err(|e| failed("cannot claim candidates", e))?;
        let candidate = |row: &PgRow| -> sqlx::Result<(Candidate, Option<String>)> {
            let candidate = Candidate {
                id: row.try_get("id")?,
                binding: row.try_get("binding")?,
                value: row.try_get::<String, _>("value")?.into_bytes(),
                key: row.try_get("key")?,
                event: row.try_get("event")?,
                released_at: time(row.try_get("released_at")?)?,
                attempts: count(row.try_get("attempts")?)?,
                opened: row.try_get("opened")?,
                waits: None,
            };
            Ok((candidate, row.try_get("waits")?))
        };
        let mut candidates = Vec::with_capacity(rows.len());
        for row in &rows {
            let (mut candidate, waits) = candidate(row).map_err(|e| failed("cannot read the candidates", e))?;
            candidate.waits = read_waits(candidate.id, waits.as_deref())?;
            candidates.push(candidate);
        }
        candidates.sort_by_key(|c| (c.released_at, c.id));
        Ok(candidates)
    }

    async fn confirm(&self, owner: &str, ids: &[i64], lease: Duration) -> Result<HashSet<i64>> {
        let pool = self.pool();
        let error = |e| failed("cannot confirm a lease", e);
        let held: Vec<(i64, bool)> = sqlx::query_as(include_str!("confirm.sql"))
            .persistent(false)
            .bind(owner)
            .bind(ids)
            .bind(micros(lease / 2))
            .fetch_all(pool)
            .await
            .map_err(error)?;
        if !held.iter().any(|(_, short)| *short) {
            return Ok(held.into_iter().map(|(id, _)| id).collect());
        }
        let renewed: Vec<i64> = sqlx::query_scalar(include_str!("confirm_renew.sql"))
            .persistent(false)
            .bind(owner)
            .bind(ids)
            .bind(micros(lease))
            .fetch_all(pool)
            .await
            .map_err(error)?;
        Ok(renewed.into_iter().collect())
    }

    async fn next_due(&self, claim: &Claim) -> Result<Option<Duration>> {
        let wait: Option<i64> = sqlx::query_scalar(include_str!("next_due.sql"))
            .bind(&claim.storage)
            .bind(micros(claim.grace))
            .bind(claim.not_due_too)
            .fetch_one(self.pool())
            .await
            .map_err(|e| failed("cannot look at the queue", e))?;
        Ok(wait.map(|us| Duration::from_micros(us.max(0).cast_unsigned())))
    }

    async fn settle(&self, settlement: &Settlement, _lock: Option<LockGuard>) -> Result<u64> {
        settle::settle(self.pool(), settlement).await
    }

    async fn backlog(&self, claim: &Claim) -> Result<Backlog> {
        let error = |e| failed("cannot look at the queue", e);
        let mut conn = self.pool().acquire().await.map_err(error)?;
        let (total, due, failing, staged, oldest, longest): (i64, i64, i64, i64, Option<i64>, Option<i64>) =
            sqlx::query_as(include_str!("backlog.sql"))
                .bind(&claim.storage)
                .bind(micros(claim.grace))
                .fetch_one(&mut *conn)
                .await
                .map_err(error)?;
        let sql = format!(
            "{WAITING} where storage = $1 and due_at is not null and note is not null order by attempts = 0, released_at, id limit 10"
        );
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(&claim.storage).fetch_all(&mut *conn).await.map_err(error)?;
        Ok(Backlog {
            total: total.unsigned_abs(),
            due: due.unsigned_abs(),
            failing: failing.unsigned_abs(),
            staged: staged.unsigned_abs(),
            oldest_seconds: oldest.map(|s| s.max(0).cast_unsigned()),
            due_seconds: longest.and_then(|s| u64::try_from(s).ok()),
            sample: rows.iter().map(waiting_row).collect::<sqlx::Result<_>>().map_err(error)?,
        })
    }

    async fn waits(&self, claim: &Claim) -> Result<Vec<(Option<Waits>, u64)>> {
        let sql = format!(
            "select case when waits not like '{YOUNG}%' then waits end as noted, count(*) from rowbound.candidate
         where storage = $1 and (waits not like '{YOUNG}%' or owner is not null or due_at <= now()
             or due_at is null and released_at <= now() - $2::int8 * interval '1 microsecond')
         group by noted"
        );
        let rows: Vec<(Option<String>, i64)> = sqlx::query_as(AssertSqlSafe(sql))
            .persistent(false)
            .bind(&claim.storage)
            .bind(micros(claim.grace))
            .fetch_all(self.pool())
            .await
            .map_err(|e| failed("cannot look at the queue", e))?;
        rows.into_iter().map(|(waits, count)| Ok((read_waits(0, waits.as_deref())?, count.unsigned_abs()))).collect()
    }

    async fn waiting(&self, values: &[String]) -> Result<Vec<Waiting>> {
        let error = |e| failed("cannot look at the queue", e);
        let sql = format!("{WAITING} where value = any ($1::text[]) order by released_at, id");
        let rows =
            sqlx::query(AssertSqlSafe(sql)).persistent(false).bind(without_nul(values)).fetch_all(self.pool()).await.map_err(error)?;
        rows.iter().map(waiting_row).collect::<sqlx::Result<_>>().map_err(error)
    }

    async fn follow(&self, name: &str, outcomes: &[Outcome]) -> Result<()> {
        let pool = &self.pool;
        let error = |e| failed("cannot register the follower", e);
        let words: Vec<_> = outcomes.iter().map(|o| o.word()).collect();
        let stands: bool = sqlx::query_scalar("select exists (select from rowbound.follower where name = $1 and outcomes = $2::text[])")
            .bind(name)
            .bind(&words)
            .fetch_one(pool)
            .await
            .map_err(error)?;
        if !stands {
            sqlx::query(
                "insert into rowbound.follower (name, outcomes) values ($1, $2::text[])
             on conflict (name) do update set outcomes = excluded.outcomes",
            )
            .bind(name)
            .bind(&words)
            .execute(pool)
            .await
            .map_err(error)?;
        }
        Ok(())
    }

    async fn unfollow(&self, name: &str) -> Result<Option<u64>> {
        let error = |e| failed("cannot forget the follower", e);
        let mut tx = self.pool.begin_with("begin isolation level read committed").await.map_err(error)?;
        // Waits for the settlements that have locked its row; what they wrote for it is there for the next statement.
        let id: Option<i32> = sqlx::query_scalar("delete from rowbound.follower where name = $1 returning id")
            .bind(name)
            .fetch_optional(&mut *tx)
            .await
            .map_err(error)?;
        let Some(id) = id else { return Ok(None) };
        let gone = sqlx::query("delete from rowbound.delivery where follower = $1").bind(id).execute(&mut *tx).await.map_err(error)?;
        tx.commit().await.map_err(error)?;
        Ok(Some(gone.rows_affected()))
    }

    async fn followers(&self) -> Result<Vec<Registered>> {
        let error = |e| failed("cannot look at the followers", e);
        let mut conn = self.pool.acquire().await.map_err(error)?;
        let rows = sqlx::query(include_str!("followers.sql")).fetch_all(&mut *conn).await.map_err(error)?;
        let mut followers = Vec::with_capacity(rows.len());
        for row in &rows {
            let words: Vec<String> = row.try_get("outcomes").map_err(error)?;
            let number = |column| row.try_get::<i64, _>(column).map(i64::unsigned_abs).map_err(error);
            let seconds = |column| Ok(row.try_get::<Option<i64>, _>(column).map_err(error)?.map(|s| s.max(0).unsigned_abs()));
            let failing = number("failing")?;
            let sample = match failing {
                0 => Vec::new(),
                _ => sqlx::query(
                    "select d.entry, l.storage, l.name, d.attempts, d.note, (extract(epoch from d.due_at) * 1000000)::int8 as due_at
                 from rowbound.delivery d left join rowbound.ledger l on l.id = d.entry
                 where d.follower = $1 and d.attempts > 0 order by d.entry limit 10",
                )
                .bind(row.try_get::<i32, _>("id").map_err(error)?)
                .fetch_all(&mut *conn)
                .await
                .map_err(error)?,
            };
            followers.push(Registered {
                name: row.try_get("name").map_err(error)?,
                since: row.try_get("since").and_then(time).map_err(error)?,
                outcomes: words.iter().map(|w| read_outcome(w)).collect::<Result<_>>()?,
                waiting: number("waiting")?,
                due: number("due")?,
                failing,
                oldest_seconds: seconds("oldest_seconds")?,
                overdue_seconds: seconds("overdue_seconds")?,
                sample: sample.iter().map(failing_row).collect::<sqlx::Result<_>>().map_err(error)?,
            });
        }
        Ok(followers)
    }

    async fn claim_deliveries(&self, claim: &DeliveryClaim) -> Result<Vec<Pending>> {
        let error = |e| failed("cannot take deliveries", e);
        // Not prepared once for all, as a claim is not.
        let rows = sqlx::query(include_str!("claim_deliveries.sql"))
            .persistent(false)
            .bind(&claim.follower)
            .bind(i64::from(claim.limit))
            .bind(&claim.owner)
            .bind(micros(claim.lease))
            .fetch_all(&self.pool)
            .await
            .map_err(error)?;
        let pending = |row: &PgRow| -> sqlx::Result<Pending> {
            let there = row.try_get::<Option<i64>, _>("id")?.is_some();
            Ok(Pending {
                id: row.try_get("entry")?,
                attempts: count(row.try_get("attempts")?)?,
                entry: there.then(|| entry_row(row)).transpose()?,
            })
        };
        rows.iter().map(pending).collect::<sqlx::Result<_>>().map_err(error)
    }

    async fn extend_lease(&self, claim: &DeliveryClaim, entries: &[i64]) -> Result<()> {
        sqlx::query(
            "update rowbound.delivery set due_at = now() + $4::int8 * interval '1 microsecond'
         where follower = (select id from rowbound.follower where name = $1) and entry = any ($2::int8[]) and owner = $3",
        )
        .persistent(false)
        .bind(&claim.follower)
        .bind(entries)
        .bind(&claim.owner)
        .bind(micros(claim.lease))
        .execute(&self.pool)
        .await
        .map_err(|e| failed("cannot extend a lease", e))?;
        Ok(())
    }

    async fn acknowledge(&self, ack: &Acknowledgement) -> Result<u64> {
        let error = |e| failed("cannot acknowledge deliveries", e);
        let mut tx = self.pool.begin_with("begin isolation level read committed").await.map_err(error)?;
        let mut gone = 0;
        if !ack.delivered.is_empty() {
            gone = sqlx::query(
                "delete from rowbound.delivery
             where follower = (select id from rowbound.follower where name = $1) and entry = any ($2::int8[]) and owner = $3",
            )
            .persistent(false)
            .bind(&ack.follower)
            .bind(&ack.delivered)
            .bind(&ack.owner)
            .execute(&mut *tx)
            .await
            .map_err(error)?
            .rows_affected();
        }
        if !ack.again.is_empty() {
            sqlx::query(include_str!("acknowledge_again.sql"))
                .persistent(false)
                .bind(&ack.follower)
                .bind(&ack.owner)
                .bind(ack.again.iter().map(|a| a.id).collect::<Vec<_>>())
                .bind(ack.again.iter().map(|a| micros(a.wait)).collect::<Vec<_>>())
                .bind(ack.again.iter().map(|a| a.error.as_deref().map(storable)).collect::<Vec<_>>())
                .execute(&mut *tx)
                .await
                .map_err(error)?;
        }
        tx.commit().await.map_err(error)?;
        Ok(gone)
    }

    async fn retry_deliveries_now(&self, follower: &str) -> Result<u64> {
        let done = sqlx::query(
            "update rowbound.delivery set due_at = now()
         where follower = (select id from rowbound.follower where name = $1) and owner is null and due_at > now()",
        )
        .persistent(false)
        .bind(follower)
        .execute(&self.pool)
        .await
        .map_err(|e| failed("cannot make deliveries due", e))?;
        Ok(done.rows_affected())
    }
}

/// How many were written; with `on`, if the installation is the one that is relied on.
async fn announced(pool: &PgPool, items: &[Announce], on: Option<&Reliance>) -> Result<u64> {
    let error = |e| failed("cannot announce candidates", e);
    let mut tx = pool.begin_with("begin isolation level read committed").await.map_err(error)?;
    // Bytes follow that are on the disk when they can be seen: a server that loses its last transactions in a crash would lose what collects them.
    sqlx::query("set local synchronous_commit = on").execute(&mut *tx).await.map_err(error)?;
    // One statement: what it sees of the installation is what its rows are written under.
    let done = sqlx::query(
        "insert into rowbound.candidate (storage, value, event, due_at)
         select a.storage, a.name, a.event, now() + a.wait * interval '1 microsecond'
         from unnest($1::text[], $2::text[], $3::text[], $4::int8[]) as a(storage, name, event, wait)
         where $5::text is null
             or exists (select from rowbound.installation i where i.record ->> 'id' = $5 and i.record -> 'active' @> to_jsonb($6::int4[]))",
    )
    .bind(items.iter().map(|a| &*a.storage).collect::<Vec<_>>())
    .bind(items.iter().map(|a| a.name.as_str()).collect::<Vec<_>>())
    .bind(items.iter().map(|a| a.event).collect::<Vec<_>>())
    .bind(items.iter().map(|a| micros(a.wait)).collect::<Vec<_>>())
    .bind(on.map(|on| &*on.installation))
    .bind(on.map_or(&[][..], |on| &on.bindings))
    .execute(&mut *tx)
    .await
    .map_err(error)?;
    tx.commit().await.map_err(error)?;
    Ok(done.rows_affected())
}
