//! Followers and what they have yet to hear.

use sqlx::{PgPool, Row, postgres::PgRow};

use super::{
    fault::failed,
    queue::{count, entry_row, micros, storable, time},
};
use crate::{
    database::read_outcome,
    delivery::{Failing, Pending, Receipt, Registered, Turn},
    error::Result,
    queue::Outcome,
};

pub(super) async fn follow(pool: &PgPool, name: &str, outcomes: &[Outcome]) -> Result<()> {
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

pub(super) async fn unfollow(pool: &PgPool, name: &str) -> Result<Option<u64>> {
    let error = |e| failed("cannot forget the follower", e);
    let mut tx = pool.begin_with("begin isolation level read committed").await.map_err(error)?;
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

pub(super) async fn followers(pool: &PgPool) -> Result<Vec<Registered>> {
    let error = |e| failed("cannot look at the followers", e);
    let mut conn = pool.acquire().await.map_err(error)?;
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

fn failing_row(row: &PgRow) -> sqlx::Result<Failing> {
    Ok(Failing {
        entry: row.try_get("entry")?,
        storage: row.try_get("storage")?,
        name: row.try_get("name")?,
        due_at: time(row.try_get("due_at")?)?,
        attempts: count(row.try_get("attempts")?)?,
        note: row.try_get("note")?,
    })
}

pub(super) async fn take_turn(pool: &PgPool, turn: &Turn) -> Result<Vec<Pending>> {
    let error = |e| failed("cannot take deliveries", e);
    // Not prepared once for all, as a claim is not.
    let rows = sqlx::query(include_str!("take_turn.sql"))
        .persistent(false)
        .bind(&turn.follower)
        .bind(i64::from(turn.limit))
        .bind(&turn.owner)
        .bind(micros(turn.lease))
        .fetch_all(pool)
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

pub(super) async fn prolong(pool: &PgPool, turn: &Turn, entries: &[i64]) -> Result<()> {
    sqlx::query(
        "update rowbound.delivery set due_at = now() + $4::int8 * interval '1 microsecond'
         where follower = (select id from rowbound.follower where name = $1) and entry = any ($2::int8[]) and owner = $3",
    )
    .persistent(false)
    .bind(&turn.follower)
    .bind(entries)
    .bind(&turn.owner)
    .bind(micros(turn.lease))
    .execute(pool)
    .await
    .map_err(|e| failed("cannot prolong a lease", e))?;
    Ok(())
}

pub(super) async fn acknowledge(pool: &PgPool, receipt: &Receipt) -> Result<u64> {
    let error = |e| failed("cannot acknowledge deliveries", e);
    let mut tx = pool.begin_with("begin isolation level read committed").await.map_err(error)?;
    let mut gone = 0;
    if !receipt.delivered.is_empty() {
        gone = sqlx::query(
            "delete from rowbound.delivery
             where follower = (select id from rowbound.follower where name = $1) and entry = any ($2::int8[]) and owner = $3",
        )
        .persistent(false)
        .bind(&receipt.follower)
        .bind(&receipt.delivered)
        .bind(&receipt.owner)
        .execute(&mut *tx)
        .await
        .map_err(error)?
        .rows_affected();
    }
    if !receipt.again.is_empty() {
        sqlx::query(include_str!("acknowledge_again.sql"))
            .persistent(false)
            .bind(&receipt.follower)
            .bind(&receipt.owner)
            .bind(receipt.again.iter().map(|a| a.id).collect::<Vec<_>>())
            .bind(receipt.again.iter().map(|a| micros(a.wait)).collect::<Vec<_>>())
            .bind(receipt.again.iter().map(|a| a.error.as_deref().map(storable)).collect::<Vec<_>>())
            .execute(&mut *tx)
            .await
            .map_err(error)?;
    }
    tx.commit().await.map_err(error)?;
    Ok(gone)
}

pub(super) async fn hasten(pool: &PgPool, follower: &str) -> Result<u64> {
    let done = sqlx::query(
        "update rowbound.delivery set due_at = now()
         where follower = (select id from rowbound.follower where name = $1) and owner is null and due_at > now()",
    )
    .persistent(false)
    .bind(follower)
    .execute(pool)
    .await
    .map_err(|e| failed("cannot hasten deliveries", e))?;
    Ok(done.rows_affected())
}
