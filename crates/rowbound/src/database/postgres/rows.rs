//! What a row of ours holds, and what a statement takes.

use std::{fmt::Display, time::Duration};

use jiff::Timestamp;
use sqlx::{Row, postgres::PgRow};

use crate::{
    database::read_outcome,
    delivery::Failing,
    ledger::Entry,
    queue::{Waiting, shortened},
};

/// Microseconds, at most a hundred years.
pub(super) fn micros(time: Duration) -> i64 {
    const CENTURY: i64 = 100 * 366 * 86_400 * 1_000_000;
    i64::try_from(time.as_micros()).unwrap_or(CENTURY).min(CENTURY)
}

pub(super) fn time(micros: i64) -> sqlx::Result<Timestamp> {
    Timestamp::from_microsecond(micros).map_err(decode)
}

pub(super) fn count(n: i32) -> sqlx::Result<u32> {
    u32::try_from(n).map_err(decode)
}

/// A size as its column holds it.
pub(super) fn whole(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// A text for people, with what PostgreSQL cannot hold replaced.
pub(super) fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Values that a row can hold: PostgreSQL has no NUL in text.
pub(super) fn without_nul(values: &[String]) -> Vec<String> {
    values.iter().filter(|v| !v.contains('\0')).cloned().collect()
}

pub(super) fn decode(why: impl Display) -> sqlx::Error {
    sqlx::Error::Decode(why.to_string().into())
}

/// The columns that [`waiting_row`] reads.
pub(super) const WAITING: &str = "select id, binding, value, key, event, attempts, note, owner is not null as claimed,
    (extract(epoch from released_at) * 1000000)::int8 as released_at, (extract(epoch from due_at) * 1000000)::int8 as due_at
    from rowbound.candidate";

pub(super) fn waiting_row(row: &PgRow) -> sqlx::Result<Waiting> {
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

pub(super) fn failing_row(row: &PgRow) -> sqlx::Result<Failing> {
    Ok(Failing {
        entry: row.try_get("entry")?,
        storage: row.try_get("storage")?,
        name: row.try_get("name")?,
        due_at: time(row.try_get("due_at")?)?,
        attempts: count(row.try_get("attempts")?)?,
        note: row.try_get("note")?,
    })
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
