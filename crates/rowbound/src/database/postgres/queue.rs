//! Candidates and the ledger.
//!
//! Each call is one statement or one short transaction, arrays in, rows out.

use std::{collections::HashSet, fmt::Display, time::Duration};

use jiff::Timestamp;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Row, postgres::PgRow};

use super::fault::failed;
use crate::{
    capture::Reliance,
    database::{OpenTransaction, Shadowed, Who, YOUNG, by_waits, read_outcome, read_waits},
    error::{Error, Kind, Result},
    ledger::{Entry, Filter, NewEntry, Total},
    name::FileName,
    plan::Ignored,
    queue::{Announce, Backlog, CAME_BACK, CLAIM_BYTES, Candidate, Claim, Outcome, Settlement, Waiting, Waits, shortened},
};

pub(super) async fn claim(pool: &PgPool, claim: &Claim) -> Result<Vec<Candidate>> {
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
        .fetch_all(pool)
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

pub(super) async fn confirm(pool: &PgPool, owner: &str, ids: &[i64], lease: Duration) -> Result<HashSet<i64>> {
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

pub(super) async fn open_transactions(pool: &PgPool, ignored: &[Ignored]) -> Result<Vec<OpenTransaction>> {
    let error = |e| failed("cannot see the open transactions", e);
    let rows = sqlx::query(include_str!("open_transactions.sql"))
        .bind(Ignored::roles(ignored))
        .bind(Ignored::applications(ignored))
        .fetch_all(pool)
        .await
        .map_err(error)?;
    let open = |row: &PgRow| -> sqlx::Result<OpenTransaction> {
        Ok(OpenTransaction {
            key: row.try_get("key")?,
            description: row.try_get("description")?,
            since: row.try_get::<Option<i64>, _>("since")?.map(time).transpose()?,
            who: Who {
                role: row.try_get("role")?,
                application: row.try_get("application")?,
                address: row.try_get("address")?,
                session: row.try_get::<Option<i32>, _>("pid")?.map(i64::from),
            },
        })
    };
    let (mut asking, mut found) = (false, Vec::new());
    for row in &rows {
        match row.try_get("asking").map_err(error)? {
            true => asking = true,
            false => found.push(open(row).map_err(error)?),
        }
    }
    match asking {
        true => Ok(found),
        false => {
            Err(Error::new(Kind::Database, "this server does not show its open transactions: not even the one that asks is among them")
                .hint("pg_locks must list the sessions of every role, as PostgreSQL's own does"))
        }
    }
}

pub(super) async fn waits(pool: &PgPool, claim: &Claim) -> Result<Vec<(Option<Waits>, u64)>> {
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
        .fetch_all(pool)
        .await
        .map_err(|e| failed("cannot look at the queue", e))?;
    rows.into_iter().map(|(waits, count)| Ok((read_waits(0, waits.as_deref())?, count.unsigned_abs()))).collect()
}

pub(super) async fn next_due(pool: &PgPool, claim: &Claim) -> Result<Option<Duration>> {
    let wait: Option<i64> = sqlx::query_scalar(include_str!("next_due.sql"))
        .bind(&claim.storage)
        .bind(micros(claim.grace))
        .bind(claim.not_due_too)
        .fetch_one(pool)
        .await
        .map_err(|e| failed("cannot look at the queue", e))?;
    Ok(wait.map(|us| Duration::from_micros(us.max(0).cast_unsigned())))
}

pub(super) async fn settle(pool: &PgPool, settlement: &Settlement) -> Result<u64> {
    let mut tx = pool.begin_with("begin isolation level read committed").await.map_err(|e| failed("cannot begin a transaction", e))?;
    let mut count = 0;
    let Settlement { owner, storage, settled, empty, back, derived, opened } = settlement;
    if !opened.is_empty() {
        sqlx::query(
            "insert into rowbound.candidate (storage, binding, value, key, event, released_at, opened)
             select c.storage, c.binding, o.name, c.key, c.event, c.released_at, true
             from unnest($2::int8[], $3::text[]) with ordinality as o(id, name, n)
             join rowbound.candidate c on c.id = o.id and case when c.due_at is null then false else true end
                 and case when c.owner = $1 then true else false end
             order by o.n",
        )
        .persistent(false)
        .bind(owner)
        .bind(opened.iter().map(|o| o.id).collect::<Vec<_>>())
        .bind(opened.iter().map(|o| o.name.as_str()).collect::<Vec<_>>())
        .execute(&mut *tx)
        .await
        .map_err(|e| failed("cannot open up candidates", e))?;
    }
    if !settled.is_empty() {
        let entered: i64 = sqlx::query_scalar(include_str!("settle.sql"))
            .persistent(false)
            .bind(owner)
            .bind(storage)
            .bind(settled.iter().map(|s| s.id).collect::<Vec<_>>())
            .bind(settled.iter().map(|s| s.outcome.word()).collect::<Vec<_>>())
            .bind(settled.iter().map(|s| s.name.as_deref().map(storable)).collect::<Vec<_>>())
            .bind(settled.iter().map(|s| s.size.map(whole)).collect::<Vec<_>>())
            .bind(settled.iter().map(|s| s.place.as_deref().map(storable)).collect::<Vec<_>>())
            .bind(settled.iter().map(|s| s.note.as_deref().map(storable)).collect::<Vec<_>>())
            .fetch_one(&mut *tx)
            .await
            .map_err(|e| failed("cannot settle candidates", e))?;
        count = entered.unsigned_abs();
    }
    if !empty.is_empty() {
        // Which index is taken, and why the owner is compared so, stands in settle.sql.
        sqlx::query(
            "delete from rowbound.candidate c using unnest($2::int8[]) as d(id)
             where c.id = d.id and case when c.due_at is null then false else true end and case when c.owner = $1 then true else false end",
        )
        .persistent(false)
        .bind(owner)
        .bind(empty)
        .execute(&mut *tx)
        .await
        .map_err(|e| failed("cannot settle candidates", e))?;
    }
    for (waits, back) in by_waits(back)? {
        sqlx::query(include_str!("put_back.sql"))
            .persistent(false)
            .bind(owner)
            .bind(back.iter().map(|(b, _)| b.id).collect::<Vec<_>>())
            .bind(back.iter().map(|(b, _)| micros(b.wait)).collect::<Vec<_>>())
            .bind(back.iter().map(|(b, _)| i32::try_from(b.attempts).unwrap_or(i32::MAX)).collect::<Vec<_>>())
            .bind(back.iter().map(|(b, _)| storable(&b.note)).collect::<Vec<_>>())
            .bind(waits)
            .bind(back.iter().map(|(_, own)| own.as_deref()).collect::<Vec<_>>())
            .execute(&mut *tx)
            .await
            .map_err(|e| failed("cannot put candidates back", e))?;
    }
    if !derived.is_empty() {
        sqlx::query(
            "insert into rowbound.candidate (storage, value, key, event, due_at)
             select $1, d.name, d.original, 'derivative', now() from unnest($2::text[], $3::text[]) as d(name, original)",
        )
        .bind(storage)
        .bind(derived.iter().map(|d| d.name.as_str()).collect::<Vec<_>>())
        .bind(derived.iter().map(|d| d.original.as_str()).collect::<Vec<_>>())
        .execute(&mut *tx)
        .await
        .map_err(|e| failed("cannot announce derivatives", e))?;
    }
    tx.commit().await.map_err(|e| failed("cannot settle candidates", e))?;
    Ok(count)
}

pub(super) async fn announce(pool: &PgPool, items: &[Announce]) -> Result<()> {
    announced(pool, items, None).await.map(drop)
}

/// The same; `false`: the installation is not the one that is relied on, and nothing was written.
pub(super) async fn announce_relying(pool: &PgPool, items: &[Announce], on: &Reliance) -> Result<bool> {
    Ok(announced(pool, items, Some(on)).await? == items.len() as u64)
}

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

pub(super) async fn enter(pool: &PgPool, entries: &[NewEntry]) -> Result<()> {
    let mut conn = pool.acquire().await.map_err(|e| failed("cannot connect", e))?;
    enter_in(&mut conn, entries).await
}

/// The same in the caller's transaction.
pub(super) async fn enter_in(conn: &mut PgConnection, entries: &[NewEntry]) -> Result<()> {
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

pub(super) async fn backlog(pool: &PgPool, claim: &Claim) -> Result<Backlog> {
    let error = |e| failed("cannot look at the queue", e);
    let mut conn = pool.acquire().await.map_err(error)?;
    let (total, due, failing, staged, oldest, longest): (i64, i64, i64, i64, Option<i64>, Option<i64>) =
        sqlx::query_as(include_str!("backlog.sql"))
            .bind(&claim.storage)
            .bind(micros(claim.grace))
            .fetch_one(&mut *conn)
            .await
            .map_err(error)?;
    let sql =
        format!("{WAITING} where storage = $1 and due_at is not null and note is not null order by attempts = 0, released_at, id limit 10");
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

pub(super) async fn waiting(pool: &PgPool, values: &[String]) -> Result<Vec<Waiting>> {
    let error = |e| failed("cannot look at the queue", e);
    let sql = format!("{WAITING} where value = any ($1::text[]) order by released_at, id");
    let rows = sqlx::query(AssertSqlSafe(sql)).persistent(false).bind(without_nul(values)).fetch_all(pool).await.map_err(error)?;
    rows.iter().map(waiting_row).collect::<sqlx::Result<_>>().map_err(error)
}

pub(super) async fn history(pool: &PgPool, filter: &Filter) -> Result<Vec<Entry>> {
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
        .fetch_all(pool)
        .await
        .map_err(error)?;
    rows.iter().map(entry_row).collect::<sqlx::Result<_>>().map_err(error)
}

/// An entry as history.sql reads it.
pub(super) fn entry_row(row: &PgRow) -> sqlx::Result<Entry> {
    Ok(Entry {
        id: row.try_get("id")?,
        at: time(row.try_get("at")?)?,
        storage: row.try_get("storage")?,
        binding: row.try_get("binding")?,
        name: row.try_get("name")?,
        key: row.try_get("key")?,
        event: row.try_get("event")?,
        released_at: row.try_get::<Option<i64>, _>("released_at")?.map(time).transpose()?,
        outcome: read_outcome(row.try_get("outcome")?).map_err(decode)?,
        size: row.try_get::<Option<i64>, _>("size")?.map(i64::unsigned_abs),
        place: row.try_get("place")?,
        note: row.try_get("note")?,
    })
}

pub(super) async fn in_places(pool: &PgPool, storage: &str, names: &[FileName], since: Timestamp) -> Result<Vec<(String, Outcome)>> {
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
    .fetch_all(pool)
    .await
    .map_err(error)?;
    rows.into_iter().map(|(place, word)| Ok((place, read_outcome(&word).map_err(decode)?))).collect::<sqlx::Result<_>>().map_err(error)
}

pub(super) async fn came_back(pool: &PgPool, storage: &str, names: &[FileName], since: Timestamp) -> Result<Vec<(String, Timestamp)>> {
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
    .fetch_all(pool)
    .await
    .map_err(error)?;
    rows.into_iter().map(|(name, at)| Ok((name, time(at)?))).collect::<sqlx::Result<_>>().map_err(error)
}

pub(super) async fn totals(pool: &PgPool, since: Option<Timestamp>) -> Result<Vec<Total>> {
    let error = |e| failed("cannot read the ledger", e);
    let rows: Vec<(String, String, i64, i64)> = sqlx::query_as(
        "select storage, outcome, count(*), coalesce(sum(size), 0)::int8 from rowbound.ledger
         where $1::int8 is null or at >= timestamptz 'epoch' + $1 * interval '1 microsecond'
         group by storage, outcome order by storage, outcome",
    )
    .persistent(false)
    .bind(since.map(Timestamp::as_microsecond))
    .fetch_all(pool)
    .await
    .map_err(error)?;
    let total = |(storage, word, count, bytes): (String, String, i64, i64)| {
        Ok(Total { storage, outcome: read_outcome(&word).map_err(decode)?, count: count.unsigned_abs(), bytes: bytes.unsigned_abs() })
    };
    rows.into_iter().map(total).collect::<sqlx::Result<_>>().map_err(error)
}

pub(super) async fn shadowed(pool: &PgPool, binding: i32, since: Option<Timestamp>) -> Result<Shadowed> {
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
    .fetch_one(pool)
    .await
    .map_err(error)?;
    let oldest = oldest.map(time).transpose().map_err(error)?;
    Ok(Shadowed { files: files.unsigned_abs(), bytes: bytes.unsigned_abs(), oldest })
}

/// The columns of [`Waiting`].
const WAITING: &str = "select id, binding, value, key, event, attempts, note, owner is not null as claimed,
    (extract(epoch from released_at) * 1000000)::int8 as released_at, (extract(epoch from due_at) * 1000000)::int8 as due_at
    from rowbound.candidate";

fn waiting_row(row: &PgRow) -> sqlx::Result<Waiting> {
    Ok(Waiting {
        id: row.try_get("id")?,
        binding: row.try_get("binding")?,
        value: shortened(row.try_get::<&str, _>("value")?.as_bytes()),
        key: row.try_get("key")?,
        event: row.try_get("event")?,
        released_at: time(row.try_get("released_at")?)?,
        due_at: row.try_get::<Option<i64>, _>("due_at")?.map(time).transpose()?,
        attempts: count(row.try_get("attempts")?)?,
        note: row.try_get("note")?,
        claimed: row.try_get("claimed")?,
    })
}

/// A text for people, with what PostgreSQL cannot hold replaced.
pub(super) fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn whole(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// Microseconds, at most a hundred years.
pub(super) fn micros(time: Duration) -> i64 {
    const CENTURY: i64 = 100 * 366 * 86_400 * 1_000_000;
    i64::try_from(time.as_micros()).unwrap_or(CENTURY).min(CENTURY)
}

fn decode(why: impl Display) -> sqlx::Error {
    sqlx::Error::Decode(why.to_string().into())
}

pub(super) fn time(micros: i64) -> sqlx::Result<Timestamp> {
    Timestamp::from_microsecond(micros).map_err(decode)
}

pub(super) fn count(n: i32) -> sqlx::Result<u32> {
    u32::try_from(n).map_err(decode)
}

/// Values that a row can hold: PostgreSQL has no NUL in text.
pub(super) fn without_nul(values: &[String]) -> Vec<String> {
    values.iter().filter(|v| !v.contains('\0')).cloned().collect()
}
