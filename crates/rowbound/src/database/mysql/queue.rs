//! Candidates and deliveries.
//!
//! Every statement that takes locks runs under READ COMMITTED and in a short transaction: it locks rows of its own and no gap, so the application's
//! triggers always find room.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, MySqlConnection, Row, mysql::MySqlRow};

use super::{
    Mysql, bytes, fault, int, interval, maybe_text, micros, moment,
    rows::{binding, cut, entry_columns, entry_row, outcome, released, waiting_columns, waiting_row},
    settle, text,
    values::{blob, chars, hex, insert, lists},
};
use crate::{
    capture::Reliance,
    database::{LockGuard, Queue, Schema, YOUNG, read_waits, relied_on},
    delivery::{Acknowledgement, DeliveryClaim, Failing, Pending, Registered, words},
    error::{Error, Kind, Result, Retry},
    queue::{Announce, Backlog, CLAIM_BYTES, Candidate, Claim, Outcome, Settlement, Waiting, Waits},
};

/// Values up to so many bytes are read together with their candidates; longer ones one by one, so that no answer is too large.
const SMALL: usize = 4_096;

#[async_trait]
impl Queue for Mysql {
    async fn announce(&self, items: &[Announce]) -> Result<()> {
        let mut tx = self.pool().begin().await.map_err(fault)?;
        let rows = items.iter().map(|item| {
            format!(
                "({}, {}, {}, utc_timestamp(6), utc_timestamp(6) + interval {} microsecond)",
                chars(&item.storage),
                blob(item.name.as_str().as_bytes()),
                chars(item.event),
                interval(item.wait)
            )
        });
        insert(&mut tx, "rowbound_candidate (storage, value, event, released_at, due_at)", rows).await?;
        tx.commit().await.map_err(fault)
    }

    async fn announce_relying(&self, items: &[Announce], on: &Reliance) -> Result<()> {
        // Once more where it was attached again in between.
        for _ in 0..3 {
            match announced(self, items, on).await {
                Ok(true) => return Ok(()),
                Ok(false) => relied_on(self.installation().await?.as_ref(), on)?,
                // Its tables may be gone.
                Err(e) => {
                    if let Ok(standing) = self.installation().await {
                        relied_on(standing.as_ref(), on)?;
                    }
                    return Err(e);
                }
            }
        }
        Err(Error::new(Kind::Busy, "what is attached changes all the time").retry(Retry::Later))
    }

    async fn claim(&self, claim: &Claim) -> Result<Vec<Candidate>> {
        let mut tx = self.pool().begin().await.map_err(fault)?;
        let sql = format!(
            "select id, binding, if(length(value) <= {SMALL}, value, null), `key`, event, {}, attempts, opened, length(value), waits \
             from rowbound_candidate force index (primary) where {} and {} order by id limit {} for update skip locked",
            micros("released_at"),
            scope(claim),
            due(claim),
            claim.limit
        );
        let rows =
            sqlx::query(AssertSqlSafe(sql)).bind(&claim.storage).bind(interval(claim.grace)).fetch_all(&mut *tx).await.map_err(fault)?;
        let mut claimed = Vec::with_capacity(rows.len());
        let mut room = CLAIM_BYTES;
        for row in &rows {
            // What is left over was only locked: it is free again at the end of this transaction.
            let size = usize::try_from(int(row, 8)?).unwrap_or(0);
            if room == 0 {
                break;
            }
            room = room.saturating_sub(size);
            let value = match bytes(row, 2)? {
                Some(value) => value,
                None => {
                    let large = sqlx::query("select value from rowbound_candidate where id = ?").bind(int(row, 0)?);
                    bytes(&large.fetch_one(&mut *tx).await.map_err(fault)?, 0)?.unwrap_or_default()
                }
            };
            let id = int(row, 0)?;
            claimed.push(Candidate {
                id,
                binding: binding(row, 1)?,
                value,
                key: maybe_text(row, 3)?,
                event: text(row, 4)?,
                released_at: released(row, 5)?,
                attempts: u32::try_from(int(row, 6)?).unwrap_or(0),
                opened: int(row, 7)? != 0,
                waits: read_waits(id, maybe_text(row, 9)?.as_deref())?,
            });
        }
        if claimed.is_empty() {
            tx.rollback().await.map_err(fault)?;
            return Ok(claimed);
        }
        let ids: Vec<_> = claimed.iter().map(|c| c.id).collect();
        sqlx::query(include_str!("claim_lease.sql"))
            .bind(serde_json::json!(ids).to_string())
            .bind(interval(claim.lease))
            .bind(&claim.owner)
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
        tx.commit().await.map_err(fault)?;
        Ok(claimed)
    }

    async fn confirm(&self, owner: &str, ids: &[i64], lease: Duration) -> Result<HashSet<i64>> {
        let list = serde_json::json!(ids).to_string();
        let held = |rows: &[MySqlRow]| rows.iter().map(|row| Ok((int(row, 0)?, int(row, 1)? != 0))).collect::<Result<Vec<_>>>();
        let ask = || sqlx::query(include_str!("confirm.sql")).bind(interval(lease / 2)).bind(&list).bind(owner);
        let now = held(&ask().fetch_all(self.pool()).await.map_err(fault)?)?;
        if !now.iter().any(|(_, short)| *short) {
            return Ok(now.into_iter().map(|(id, _)| id).collect());
        }
        let mut tx = self.pool().begin().await.map_err(fault)?;
        sqlx::query(include_str!("confirm_renew.sql"))
            .bind(&list)
            .bind(interval(lease))
            .bind(owner)
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
        // What was renewed is locked until the end of this transaction. Nothing else of the list is held: its lease had run out.
        let renewed = held(&ask().fetch_all(&mut *tx).await.map_err(fault)?)?;
        tx.commit().await.map_err(fault)?;
        Ok(renewed.into_iter().map(|(id, _)| id).collect())
    }

    /// Where something is due the first such row answers; else the whole queue is looked through, which then is what
    /// waits.
    async fn next_due(&self, claim: &Claim) -> Result<Option<Duration>> {
        let sql = format!("select 1 from rowbound_candidate where {} and {} limit 1", scope(claim), due(claim));
        let now = sqlx::query(AssertSqlSafe(sql))
            .bind(&claim.storage)
            .bind(interval(claim.grace))
            .fetch_optional(self.pool())
            .await
            .map_err(fault)?;
        if now.is_some() {
            return Ok(Some(Duration::ZERO));
        }
        let sql = format!(
            "select timestampdiff(microsecond, utc_timestamp(6), min(coalesce(due_at, released_at + interval ? microsecond))) \
             from rowbound_candidate where {}",
            scope(claim)
        );
        let row =
            sqlx::query(AssertSqlSafe(sql)).bind(interval(claim.grace)).bind(&claim.storage).fetch_one(self.pool()).await.map_err(fault)?;
        let wait = row.try_get_unchecked::<Option<i64>, _>(0).map_err(fault)?;
        Ok(wait.map(|micros| Duration::from_micros(u64::try_from(micros).unwrap_or(0))))
    }

    async fn settle(&self, settlement: &Settlement, lock: Option<LockGuard>) -> Result<u64> {
        drop(lock);
        settle::settle(self, settlement).await
    }

    async fn backlog(&self, claim: &Claim) -> Result<Backlog> {
        // Due is what waits for no more than a worker, whatever this claim would take early.
        let plain = Claim { not_due_too: false, ..claim.clone() };
        let sql = format!(
            "select count(*), cast(coalesce(sum({}), 0) as signed), cast(coalesce(sum(attempts > (owner is not null and due_at > utc_timestamp(6))), 0) as signed), \
                    cast(coalesce(sum(event in ('stage', 'direct', 'return') and due_at > utc_timestamp(6) and owner is null and note is null), 0) as signed), \
                    timestampdiff(second, min(if(event not in ('stage', 'direct') or due_at <= utc_timestamp(6), released_at, null)), utc_timestamp(6)), \
                    timestampdiff(second, min(coalesce(due_at, released_at + interval ? microsecond)), utc_timestamp(6)) \
             from rowbound_candidate where {}",
            due(&plain),
            scope(claim)
        );
        let grace = interval(claim.grace);
        let row =
            sqlx::query(AssertSqlSafe(sql)).bind(grace).bind(grace).bind(&claim.storage).fetch_one(self.pool()).await.map_err(fault)?;
        let seconds = |column| row.try_get_unchecked::<Option<i64>, _>(column).map_err(fault);
        let (oldest, longest) = (seconds(4)?, seconds(5)?);
        let sql = format!(
            "select {} from rowbound_candidate where {} and note is not null order by attempts = 0, id limit 10",
            waiting_columns(),
            scope(claim)
        );
        let sample = sqlx::query(AssertSqlSafe(sql)).bind(&claim.storage).fetch_all(self.pool()).await.map_err(fault)?;
        let count = |column| int(&row, column).map(|n| u64::try_from(n).unwrap_or(0));
        Ok(Backlog {
            total: count(0)?,
            due: count(1)?,
            failing: count(2)?,
            staged: count(3)?,
            oldest_seconds: oldest.map(|s| u64::try_from(s).unwrap_or(0)),
            due_seconds: longest.and_then(|s| u64::try_from(s).ok()),
            sample: sample.iter().map(waiting_row).collect::<Result<_>>()?,
        })
    }

    async fn waits(&self, claim: &Claim) -> Result<Vec<(Option<Waits>, u64)>> {
        let plain = Claim { not_due_too: false, ..claim.clone() };
        let sql = format!(
            "select case when waits not like '{YOUNG}%' then waits end as noted, count(*) from rowbound_candidate \
             where {} and (waits not like '{YOUNG}%' or owner is not null or {}) group by noted",
            scope(claim),
            due(&plain)
        );
        let ask = sqlx::query(AssertSqlSafe(sql)).bind(&claim.storage).bind(interval(claim.grace));
        let rows = ask.fetch_all(self.pool()).await.map_err(fault)?;
        rows.iter().map(|row| Ok((read_waits(0, maybe_text(row, 0)?.as_deref())?, int(row, 1)?.unsigned_abs()))).collect()
    }

    async fn waiting(&self, values: &[String]) -> Result<Vec<Waiting>> {
        let mut out = Vec::new();
        for list in lists(values.iter().map(|v| blob(v.as_bytes())), self.flavor.in_list()) {
            let sql = format!("select {} from rowbound_candidate where value in ({list}) order by id", waiting_columns());
            for row in sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(self.pool()).await.map_err(fault)? {
                out.push(waiting_row(&row)?);
            }
        }
        Ok(out)
    }

    async fn follow(&self, name: &str, outcomes: &[Outcome]) -> Result<()> {
        let words = words(outcomes);
        let stands = sqlx::query("select 1 from rowbound_follower where name = ? and outcomes = ?")
            .bind(name)
            .bind(&words)
            .fetch_optional(self.pool())
            .await
            .map_err(fault)?;
        if stands.is_none() {
            sqlx::query(
                "insert into rowbound_follower (name, since, outcomes) values (?, utc_timestamp(6), ?) on duplicate key update outcomes = ?",
            )
            .bind(name)
            .bind(&words)
            .bind(&words)
            .execute(self.pool())
            .await
            .map_err(fault)?;
        }
        Ok(())
    }

    async fn unfollow(&self, name: &str) -> Result<Option<u64>> {
        let mut tx = self.pool().begin().await.map_err(fault)?;
        // Waits for the settlements that have locked its row; what they wrote for it is there for the last statement.
        let row = sqlx::query("select id from rowbound_follower where name = ? for update")
            .bind(name)
            .fetch_optional(&mut *tx)
            .await
            .map_err(fault)?;
        let Some(id) = row.map(|row| int(&row, 0)).transpose()? else { return Ok(None) };
        sqlx::query("delete from rowbound_follower where id = ?").bind(id).execute(&mut *tx).await.map_err(fault)?;
        let gone = sqlx::query("delete from rowbound_delivery where follower = ?").bind(id).execute(&mut *tx).await.map_err(fault)?;
        tx.commit().await.map_err(fault)?;
        Ok(Some(gone.rows_affected()))
    }

    async fn followers(&self) -> Result<Vec<Registered>> {
        // The oldest entry is the one with the smallest number.
        let sql = format!(
            "select f.id, f.name, f.outcomes, {}, w.waiting, w.due, w.failing, timestampdiff(second, l.at, utc_timestamp(6)), \
                    timestampdiff(second, w.overdue, utc_timestamp(6)) \
             from rowbound_follower f \
             left join (select follower, count(*) as waiting, cast(sum(due_at <= utc_timestamp(6)) as signed) as due, \
                        cast(sum(attempts > 0) as signed) as failing, min(entry) as oldest, \
                        min(if(due_at <= utc_timestamp(6), due_at, null)) as overdue \
                        from rowbound_delivery group by follower) w on w.follower = f.id \
             left join rowbound_ledger l on l.id = w.oldest \
             order by f.name",
            micros("f.since")
        );
        let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(self.pool()).await.map_err(fault)?;
        let mut followers = Vec::with_capacity(rows.len());
        for row in &rows {
            let maybe = |column: usize| row.try_get_unchecked::<Option<i64>, _>(column).map_err(fault);
            let seconds = |column| Ok(maybe(column)?.map(|s| u64::try_from(s).unwrap_or(0)));
            let count = |column| Ok::<_, Error>(u64::try_from(maybe(column)?.unwrap_or(0)).unwrap_or(0));
            let failing = count(6)?;
            let sample = match failing {
                0 => Vec::new(),
                _ => {
                    let sql = format!(
                        "select d.entry, l.storage, l.name, {}, d.attempts, d.note from rowbound_delivery d \
                         left join rowbound_ledger l on l.id = d.entry where d.follower = ? and d.attempts > 0 order by d.entry limit 10",
                        micros("d.due_at")
                    );
                    sqlx::query(AssertSqlSafe(sql)).bind(int(row, 0)?).fetch_all(self.pool()).await.map_err(fault)?
                }
            };
            followers.push(Registered {
                name: text(row, 1)?,
                outcomes: text(row, 2)?.split(',').map(outcome).collect::<Result<_>>()?,
                since: moment(row, 3)?.ok_or_else(|| Error::new(Kind::Database, "a follower has no time"))?,
                waiting: count(4)?,
                due: count(5)?,
                failing,
                oldest_seconds: seconds(7)?,
                overdue_seconds: seconds(8)?,
                sample: sample
                    .iter()
                    .map(|row| {
                        Ok(Failing {
                            entry: int(row, 0)?,
                            storage: maybe_text(row, 1)?,
                            name: maybe_text(row, 2)?,
                            due_at: moment(row, 3)?.ok_or_else(|| Error::new(Kind::Database, "a delivery has no time"))?,
                            attempts: u32::try_from(int(row, 4)?).unwrap_or(0),
                            note: maybe_text(row, 5)?,
                        })
                    })
                    .collect::<Result<_>>()?,
            });
        }
        Ok(followers)
    }

    /// What is due is looked for without locks; the first worker to write its lease has it.
    async fn claim_deliveries(&self, claim: &DeliveryClaim) -> Result<Vec<Pending>> {
        let mut conn = self.pool().acquire().await.map_err(fault)?;
        let Some(follower) = number(&mut conn, &claim.follower).await? else { return Ok(Vec::new()) };
        let rows =
            sqlx::query(include_str!("deliver_due.sql")).bind(follower).bind(claim.limit).fetch_all(&mut *conn).await.map_err(fault)?;
        let due = rows.iter().map(|row| int(row, 0)).collect::<Result<Vec<_>>>()?;
        if due.is_empty() {
            return Ok(Vec::new());
        }
        let list = serde_json::json!(due).to_string();
        sqlx::query(include_str!("deliver_lease.sql"))
            .bind(&list)
            .bind(follower)
            .bind(interval(claim.lease))
            .bind(&claim.owner)
            .execute(&mut *conn)
            .await
            .map_err(fault)?;
        let due = due.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
        let sql =
            format!("select entry, attempts from rowbound_delivery where follower = ? and owner = ? and entry in ({due}) order by entry");
        let held = sqlx::query(AssertSqlSafe(sql))
            .persistent(false)
            .bind(follower)
            .bind(&claim.owner)
            .fetch_all(&mut *conn)
            .await
            .map_err(fault)?;
        let sql = format!("select {} from rowbound_ledger where id in ({due})", entry_columns());
        let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut *conn).await.map_err(fault)?;
        let mut entries: HashMap<i64, _> = rows.iter().map(|row| entry_row(row).map(|e| (e.id, e))).collect::<Result<_>>()?;
        held.iter()
            .map(|row| {
                let id = int(row, 0)?;
                Ok(Pending { id, attempts: u32::try_from(int(row, 1)?).unwrap_or(0), entry: entries.remove(&id) })
            })
            .collect()
    }

    async fn extend_lease(&self, claim: &DeliveryClaim, entries: &[i64]) -> Result<()> {
        let mut conn = self.pool().acquire().await.map_err(fault)?;
        let Some(follower) = number(&mut conn, &claim.follower).await? else { return Ok(()) };
        sqlx::query(include_str!("deliver_prolong.sql"))
            .bind(serde_json::json!(entries).to_string())
            .bind(follower)
            .bind(interval(claim.lease))
            .bind(&claim.owner)
            .execute(&mut *conn)
            .await
            .map_err(fault)?;
        Ok(())
    }

    async fn acknowledge(&self, ack: &Acknowledgement) -> Result<u64> {
        let mut tx = self.pool().begin().await.map_err(fault)?;
        let Some(follower) = number(&mut tx, &ack.follower).await? else { return Ok(0) };
        let mut gone = 0;
        if !ack.delivered.is_empty() {
            gone = sqlx::query(include_str!("deliver_gone.sql"))
                .bind(serde_json::json!(ack.delivered).to_string())
                .bind(follower)
                .bind(&ack.owner)
                .execute(&mut *tx)
                .await
                .map_err(fault)?
                .rows_affected();
        }
        if !ack.again.is_empty() {
            let again = ack.again.iter().map(|a| {
                let error = a.error.as_deref().map(|e| hex(cut(e).as_bytes()));
                serde_json::json!({ "entry": a.id, "wait": interval(a.wait), "failed": i32::from(error.is_some()), "error": error.unwrap_or_default() })
            });
            sqlx::query(include_str!("deliver_again.sql"))
                .bind(serde_json::Value::Array(again.collect()).to_string())
                .bind(follower)
                .bind(&ack.owner)
                .execute(&mut *tx)
                .await
                .map_err(fault)?;
        }
        tx.commit().await.map_err(fault)?;
        Ok(gone)
    }

    async fn retry_deliveries_now(&self, follower: &str) -> Result<u64> {
        let mut conn = self.pool().acquire().await.map_err(fault)?;
        let Some(follower) = number(&mut conn, follower).await? else { return Ok(0) };
        let done = sqlx::query(
            "update rowbound_delivery set due_at = utc_timestamp(6) where follower = ? and owner is null and due_at > utc_timestamp(6)",
        )
        .bind(follower)
        .execute(&mut *conn)
        .await
        .map_err(fault)?;
        Ok(done.rows_affected())
    }
}

/// Announces if the installation is the one that is relied on; `false`: it is not, and nothing was written.
async fn announced(db: &Mysql, items: &[Announce], on: &Reliance) -> Result<bool> {
    let mut tx = db.pool().begin().await.map_err(fault)?;
    let field = |path: &str| format!("json_extract(nullif(record, ''), '$.{path}')");
    let mut stands = format!("id = 1 and json_unquote({}) = {}", field("id"), chars(&on.installation));
    for binding in &on.bindings {
        stands.push_str(&format!(" and json_contains({}, '{binding}')", field("active")));
    }
    for item in items {
        let sql = format!(
            "insert into rowbound_candidate (storage, value, event, released_at, due_at) \
             select {}, {}, {}, utc_timestamp(6), utc_timestamp(6) + interval {} microsecond from rowbound_installation where {stands}",
            chars(&item.storage),
            blob(item.name.as_str().as_bytes()),
            chars(item.event),
            interval(item.wait)
        );
        if sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *tx).await.map_err(fault)?.rows_affected() == 0 {
            tx.rollback().await.map_err(fault)?;
            return Ok(false);
        }
    }
    tx.commit().await.map_err(fault)?;
    Ok(true)
}

/// The candidates of a claim's storage. Its one parameter is the storage.
fn scope(claim: &Claim) -> String {
    let bindings: Vec<_> = claim.bindings.iter().map(i32::to_string).collect();
    let of_bindings = if bindings.is_empty() { String::new() } else { format!("binding in ({}) or ", bindings.join(", ")) };
    format!("({of_bindings}(binding is null and storage = ?))")
}

/// Whether a candidate is due. Its one parameter is the grace in microseconds. What was put back has a note and no owner; a live lease has an owner;
/// an announced upload has neither, and is never taken early.
fn due(claim: &Claim) -> &'static str {
    if claim.not_due_too {
        "(due_at <= utc_timestamp(6) or (due_at is null and released_at <= utc_timestamp(6) - interval ? microsecond) \
          or (owner is null and note is not null))"
    } else {
        "(due_at <= utc_timestamp(6) or (due_at is null and released_at <= utc_timestamp(6) - interval ? microsecond))"
    }
}

/// The number of a follower.
async fn number(conn: &mut MySqlConnection, follower: &str) -> Result<Option<i64>> {
    let row = sqlx::query("select id from rowbound_follower where name = ?").bind(follower).fetch_optional(conn).await.map_err(fault)?;
    row.map(|row| int(&row, 0)).transpose()
}
