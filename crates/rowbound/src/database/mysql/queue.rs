//! Candidates: claim, put back, settle.
//!
//! Every statement that takes locks runs under READ COMMITTED and in a short transaction: it locks rows of its own and no gap, so the application's
//! triggers always find room.

use std::{collections::HashSet, time::Duration};

use sqlx::AssertSqlSafe;

use super::{
    Mysql, bytes, deliver, fault, int, interval, maybe_text, micros, moment, text,
    values::{blob, chars, hex, insert, lists},
};
use crate::{
    capture::Reliance,
    database::{YOUNG, by_waits, read_waits},
    error::{Error, Kind, Result},
    queue::{Announce, Backlog, CLAIM_BYTES, Candidate, Claim, Settlement, Waiting, Waits, shortened},
};

/// How much of an error a note keeps, in characters.
const NOTE: usize = 4_000;

/// Values up to so many bytes are read together with their candidates; longer ones one by one, so that no answer is too large.
const SMALL: usize = 4_096;

pub(super) fn cut(note: &str) -> String {
    note.chars().take(NOTE).collect()
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

/// See [`super::Database::claim`].
pub(super) async fn claim(db: &Mysql, claim: &Claim) -> Result<Vec<Candidate>> {
    let mut tx = db.pool().begin().await.map_err(fault)?;
    let sql = format!(
        "select id, binding, if(length(value) <= {SMALL}, value, null), `key`, event, {}, attempts, opened, length(value), waits \
         from rowbound_candidate force index (primary) where {} and {} order by id limit {} for update skip locked",
        micros("released_at"),
        scope(claim),
        due(claim),
        claim.limit
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(&claim.storage).bind(interval(claim.grace)).fetch_all(&mut *tx).await.map_err(fault)?;
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

/// See [`super::Database::confirm`].
pub(super) async fn confirm(db: &Mysql, owner: &str, ids: &[i64], lease: Duration) -> Result<HashSet<i64>> {
    let list = serde_json::json!(ids).to_string();
    let held = |rows: &[sqlx::mysql::MySqlRow]| rows.iter().map(|row| Ok((int(row, 0)?, int(row, 1)? != 0))).collect::<Result<Vec<_>>>();
    let ask = || sqlx::query(include_str!("confirm.sql")).bind(interval(lease / 2)).bind(&list).bind(owner);
    let now = held(&ask().fetch_all(db.pool()).await.map_err(fault)?)?;
    if !now.iter().any(|(_, short)| *short) {
        return Ok(now.into_iter().map(|(id, _)| id).collect());
    }
    let mut tx = db.pool().begin().await.map_err(fault)?;
    sqlx::query(include_str!("confirm_renew.sql")).bind(&list).bind(interval(lease)).bind(owner).execute(&mut *tx).await.map_err(fault)?;
    // What was renewed is locked until the end of this transaction. Nothing else of the list is held: its lease had run out.
    let renewed = held(&ask().fetch_all(&mut *tx).await.map_err(fault)?)?;
    tx.commit().await.map_err(fault)?;
    Ok(renewed.into_iter().map(|(id, _)| id).collect())
}

pub(super) fn binding(row: &sqlx::mysql::MySqlRow, column: usize) -> Result<Option<i32>> {
    use sqlx::Row;
    row.try_get_unchecked::<Option<i32>, _>(column).map_err(fault)
}

fn released(row: &sqlx::mysql::MySqlRow, column: usize) -> Result<jiff::Timestamp> {
    moment(row, column)?.ok_or_else(|| Error::new(Kind::Database, "a candidate has no time of release"))
}

/// See [`super::Database::next_due`]. Where something is due the first such row answers; else the whole queue is looked through, which then is what
/// waits.
pub(super) async fn next_due(db: &Mysql, claim: &Claim) -> Result<Option<Duration>> {
    let sql = format!("select 1 from rowbound_candidate where {} and {} limit 1", scope(claim), due(claim));
    let now =
        sqlx::query(AssertSqlSafe(sql)).bind(&claim.storage).bind(interval(claim.grace)).fetch_optional(db.pool()).await.map_err(fault)?;
    if now.is_some() {
        return Ok(Some(Duration::ZERO));
    }
    let sql = format!(
        "select timestampdiff(microsecond, utc_timestamp(6), min(coalesce(due_at, released_at + interval ? microsecond))) \
         from rowbound_candidate where {}",
        scope(claim)
    );
    let row = sqlx::query(AssertSqlSafe(sql)).bind(interval(claim.grace)).bind(&claim.storage).fetch_one(db.pool()).await.map_err(fault)?;
    use sqlx::Row;
    let wait = row.try_get_unchecked::<Option<i64>, _>(0).map_err(fault)?;
    Ok(wait.map(|micros| Duration::from_micros(u64::try_from(micros).unwrap_or(0))))
}

/// See [`super::Database::settle`].
pub(super) async fn settle(db: &Mysql, settlement: &Settlement) -> Result<u64> {
    let mut tx = db.pool().begin().await.map_err(fault)?;
    let mut count = 0;
    if !settlement.opened.is_empty() {
        let names = settlement.opened.iter().map(|o| serde_json::json!({ "id": o.id, "name": hex(o.name.as_str().as_bytes()) }));
        sqlx::query(include_str!("settle_open.sql"))
            .bind(serde_json::Value::Array(names.collect()).to_string())
            .bind(&settlement.owner)
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
    }
    if !settlement.settled.is_empty() {
        let settled: Vec<_> = settlement
            .settled
            .iter()
            .map(|s| {
                let mut item = serde_json::Map::new();
                item.insert("id".into(), s.id.into());
                item.insert("outcome".into(), s.outcome.word().into());
                let texts = [("name", s.name.clone()), ("place", s.place.clone()), ("note", s.note.as_deref().map(cut))];
                for (field, text) in texts {
                    if let Some(text) = text {
                        item.insert(field.into(), hex(text.as_bytes()).into());
                    }
                }
                if let Some(size) = s.size {
                    item.insert("size".into(), size.into());
                }
                serde_json::Value::Object(item)
            })
            .collect();
        let settled = serde_json::Value::Array(settled).to_string();
        let mark = deliver::mark(&mut tx).await?.map(|mark| {
            let owner: String = settlement.owner.chars().take(170).collect();
            format!("{owner} {mark}")
        });
        let done = sqlx::query(include_str!("settle_ledger.sql"))
            .bind(&settlement.storage)
            .bind(&mark)
            .bind(&settled)
            .bind(&settlement.owner)
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
        let entered = done.rows_affected();
        if let Some(mark) = mark.filter(|_| entered > 0) {
            deliver::tell(&mut tx, &mark, done.last_insert_id()).await?;
        }
        count = sqlx::query(include_str!("settle_delete.sql"))
            .bind(&settled)
            .bind(&settlement.owner)
            .execute(&mut *tx)
            .await
            .map_err(fault)?
            .rows_affected();
        if entered != count {
            return Err(Error::new(Kind::Database, "the ledger and the queue do not agree: nothing was settled")
                .with("entered", entered)
                .with("removed", count));
        }
    }
    if !settlement.empty.is_empty() {
        let empty: Vec<_> = settlement.empty.iter().map(|id| serde_json::json!({ "id": id })).collect();
        sqlx::query(include_str!("settle_delete.sql"))
            .bind(serde_json::Value::Array(empty).to_string())
            .bind(&settlement.owner)
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
    }
    for (waits, back) in by_waits(&settlement.back)? {
        let back: Vec<_> = back
            .iter()
            .map(|(b, own)| {
                let mut row = serde_json::json!({
                    "id": b.id, "wait": interval(b.wait), "attempts": i32::try_from(b.attempts).unwrap_or(i32::MAX), "note": hex(cut(&b.note).as_bytes()),
                });
                if let Some(own) = own {
                    row["waits"] = hex(own.as_bytes()).into();
                }
                row
            })
            .collect();
        sqlx::query(include_str!("settle_back.sql"))
            .bind(serde_json::Value::Array(back).to_string())
            .bind(waits)
            .bind(&settlement.owner)
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
    }
    let storage = chars(&settlement.storage);
    let derived = settlement.derived.iter().map(|d| {
        let (name, original) = (blob(d.name.as_str().as_bytes()), chars(d.original.as_str()));
        format!("({storage}, {name}, {original}, 'derivative', utc_timestamp(6), utc_timestamp(6))")
    });
    insert(&mut tx, "rowbound_candidate (storage, value, `key`, event, released_at, due_at)", derived).await?;
    tx.commit().await.map_err(fault)?;
    Ok(count)
}

/// See [`super::Database::announce`].
pub(super) async fn announce(db: &Mysql, items: &[Announce]) -> Result<()> {
    let mut tx = db.pool().begin().await.map_err(fault)?;
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

/// The same if the installation is the one that is relied on; `false`: it is not, and nothing was written.
pub(super) async fn announce_relying(db: &Mysql, items: &[Announce], on: &Reliance) -> Result<bool> {
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

/// The columns that [`read_waiting`] reads.
fn waiting_columns() -> String {
    format!("id, binding, value, `key`, event, {}, {}, attempts, note, owner is not null", micros("released_at"), micros("due_at"))
}

fn read_waiting(row: &sqlx::mysql::MySqlRow) -> Result<Waiting> {
    Ok(Waiting {
        id: int(row, 0)?,
        binding: binding(row, 1)?,
        value: shortened(&bytes(row, 2)?.unwrap_or_default()),
        key: maybe_text(row, 3)?,
        event: text(row, 4)?,
        released_at: released(row, 5)?,
        due_at: moment(row, 6)?,
        attempts: u32::try_from(int(row, 7)?).unwrap_or(0),
        note: maybe_text(row, 8)?,
        claimed: int(row, 9)? != 0,
    })
}

/// See [`super::Database::backlog`].
pub(super) async fn backlog(db: &Mysql, claim: &Claim) -> Result<Backlog> {
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
    let row = sqlx::query(AssertSqlSafe(sql)).bind(grace).bind(grace).bind(&claim.storage).fetch_one(db.pool()).await.map_err(fault)?;
    use sqlx::Row;
    let seconds = |column| row.try_get_unchecked::<Option<i64>, _>(column).map_err(fault);
    let (oldest, longest) = (seconds(4)?, seconds(5)?);
    let sql = format!(
        "select {} from rowbound_candidate where {} and note is not null order by attempts = 0, id limit 10",
        waiting_columns(),
        scope(claim)
    );
    let sample = sqlx::query(AssertSqlSafe(sql)).bind(&claim.storage).fetch_all(db.pool()).await.map_err(fault)?;
    let count = |column| int(&row, column).map(|n| u64::try_from(n).unwrap_or(0));
    Ok(Backlog {
        total: count(0)?,
        due: count(1)?,
        failing: count(2)?,
        staged: count(3)?,
        oldest_seconds: oldest.map(|s| u64::try_from(s).unwrap_or(0)),
        due_seconds: longest.and_then(|s| u64::try_from(s).ok()),
        sample: sample.iter().map(read_waiting).collect::<Result<_>>()?,
    })
}

/// See [`super::Database::waits`].
pub(super) async fn waits(db: &Mysql, claim: &Claim) -> Result<Vec<(Option<Waits>, u64)>> {
    let plain = Claim { not_due_too: false, ..claim.clone() };
    let sql = format!(
        "select case when waits not like '{YOUNG}%' then waits end as noted, count(*) from rowbound_candidate \
         where {} and (waits not like '{YOUNG}%' or owner is not null or {}) group by noted",
        scope(claim),
        due(&plain)
    );
    let ask = sqlx::query(AssertSqlSafe(sql)).bind(&claim.storage).bind(interval(claim.grace));
    let rows = ask.fetch_all(db.pool()).await.map_err(fault)?;
    rows.iter().map(|row| Ok((read_waits(0, maybe_text(row, 0)?.as_deref())?, int(row, 1)?.unsigned_abs()))).collect()
}

/// See [`super::Database::waiting`].
pub(super) async fn waiting(db: &Mysql, values: &[String]) -> Result<Vec<Waiting>> {
    let mut out = Vec::new();
    for list in lists(values.iter().map(|v| blob(v.as_bytes())), db.flavor.in_list()) {
        let sql = format!("select {} from rowbound_candidate where value in ({list}) order by id", waiting_columns());
        for row in sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(db.pool()).await.map_err(fault)? {
            out.push(read_waiting(&row)?);
        }
    }
    Ok(out)
}
