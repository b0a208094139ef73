//! What a row of ours holds, and what a statement takes.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::{Row, sqlite::SqliteRow};

use crate::{
    database::read_outcome,
    error::{Error, Kind, Result},
    ledger::Entry,
    queue::{Waiting, shortened},
};

/// Now, by the clock that fills `released_at`.
pub(super) const NOW: &str = "CAST((julianday('now') - 2440587.5) * 86400000.0 AS INTEGER)";

/// Milliseconds, at most a hundred years, as elsewhere: what lies beyond is no moment any more.
pub(super) fn millis(d: Duration) -> i64 {
    const CENTURY: i64 = 100 * 366 * 86_400 * 1_000;
    i64::try_from(d.as_millis()).unwrap_or(CENTURY).min(CENTURY)
}

/// What is no moment counts as the first of all, because a file may go only if it is older than its release.
pub(super) fn time(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MIN)
}

pub(super) fn opt_time(ms: Option<i64>) -> Option<Timestamp> {
    ms.map(time)
}

/// A batch as the JSON that a statement reads it from.
pub(super) fn json(values: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(values).map_err(|e| Error::new(Kind::Database, "a batch cannot be written as JSON").because(e))
}

/// Bytes out of hexadecimal digits; `None`: they are none.
pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: &u8| char::from(*b).to_digit(16).map(|d| d as u8);
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| if let [a, b] = pair { Some(digit(a)? << 4 | digit(b)?) } else { None }).collect()
}

/// The columns that [`waiting_row`] reads.
pub(super) const WAITING: &str =
    "SELECT id, binding, CAST(value AS BLOB), key, event, released_at, due_at, attempts, note FROM rowbound_candidate";

pub(super) fn waiting_row(r: &SqliteRow) -> Waiting {
    Waiting {
        id: r.get(0),
        binding: r.get(1),
        value: shortened(&r.get::<Vec<u8>, _>(2)),
        key: r.get(3),
        event: r.get(4),
        released_at: time(r.get(5)),
        due_at: opt_time(r.get(6)),
        attempts: r.get(7),
        note: r.get(8),
        claimed: false,
    }
}

/// An entry whose columns stand from `at` on, in the order of `history`.
pub(super) fn entry_row(r: &SqliteRow, at: usize) -> Result<Entry> {
    Ok(Entry {
        id: r.get(at),
        at: time(r.get(at + 1)),
        storage: r.get(at + 2),
        binding: r.get(at + 3),
        name: String::from_utf8_lossy(&r.get::<Vec<u8>, _>(at + 4)).into_owned(),
        key: r.get(at + 5),
        event: r.get(at + 6),
        released_at: opt_time(r.get(at + 7)),
        outcome: read_outcome(&r.get::<String, _>(at + 8))?,
        size: r.get::<Option<i64>, _>(at + 9).map(i64::unsigned_abs),
        place: r.get(at + 10),
        note: r.get(at + 11),
    })
}
