//! What a row holds, and what a statement asks for so that it can be read.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::{Column as _, Row, TypeInfo, mysql::MySqlRow};

use super::fault;
use crate::{
    error::{Error, Kind, Result},
    ledger::Entry,
    queue::{Outcome, Waiting, shortened},
};

/// How much of an error a note keeps, in characters.
const NOTE: usize = 4_000;

/// Bytes of a column, whatever the server calls its type (information_schema is VARBINARY here and TEXT there).
pub(super) fn bytes(row: &MySqlRow, column: usize) -> Result<Option<Vec<u8>>> {
    row.try_get_unchecked::<Option<Vec<u8>>, _>(column).map_err(fault)
}

/// Bytes of a value that is not NULL in its row. The server answers NULL all the same, with a warning that nobody sees, where a value is longer than
/// `max_allowed_packet`: never to be taken for a value that holds nothing.
pub(super) fn handed_over(row: &MySqlRow, column: usize) -> Result<Vec<u8>> {
    bytes(row, column)?.ok_or_else(|| {
        Error::new(Kind::Database, "the server does not hand over a value, because it is longer than max_allowed_packet")
            .hint("raise max_allowed_packet; or, if the column is not bound and references no files, list it in `ignore`")
    })
}

/// Text of a column that may be NULL; what is not UTF-8 is shown as U+FFFD.
pub(super) fn maybe_text(row: &MySqlRow, column: usize) -> Result<Option<String>> {
    Ok(bytes(row, column)?.map(lossy))
}

pub(super) fn lossy(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

/// Text of a column that is not NULL.
pub(super) fn text(row: &MySqlRow, column: usize) -> Result<String> {
    maybe_text(row, column)?
        .ok_or_else(|| Error::new(Kind::Database, "the server answered NULL where a value must stand").with("column", column))
}

/// An integer that is not NULL, signed or not. COALESCE and SUM make decimals of integers on some servers, which come as digits: such a query must cast.
pub(super) fn int(row: &MySqlRow, column: usize) -> Result<i64> {
    let kind = row.columns()[column].type_info().name();
    if kind == "DECIMAL" {
        return Err(Error::new(Kind::Database, "the server answered a decimal where an integer must stand").with("column", column));
    }
    row.try_get_unchecked::<i64, _>(column).map_err(fault)
}

/// A moment that a query returned as microseconds since 1970.
pub(super) fn moment(row: &MySqlRow, column: usize) -> Result<Option<Timestamp>> {
    row.try_get_unchecked::<Option<i64>, _>(column)
        .map_err(fault)?
        .map(|micros| {
            Timestamp::from_microsecond(micros)
                .map_err(|e| Error::new(Kind::Database, "the server answered a time out of range").because(e))
        })
        .transpose()
}

/// The expression that [`moment`] reads.
pub(super) fn micros(column: &str) -> String {
    format!("timestampdiff(microsecond, '1970-01-01', {column})")
}

/// A length of time as the microseconds that an `INTERVAL` takes.
pub(super) fn interval(time: Duration) -> i64 {
    // A hundred years: further ahead a datetime ends.
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX).min(3_155_760_000_000_000)
}

/// `?, ?, ?`
pub(super) fn marks(count: usize) -> String {
    vec!["?"; count].join(", ")
}

/// A query's column as bytes of UTF-8, whatever its type. Bytes that are no text become NULL on some servers: then they stay as they are.
pub(super) const QUERIED: &str = "coalesce(cast(convert(n using utf8mb4) as binary), cast(n as binary))";

/// A note, no longer than it is kept.
pub(super) fn cut(note: &str) -> String {
    note.chars().take(NOTE).collect()
}

/// The number of a binding, if there is one.
pub(super) fn binding(row: &MySqlRow, column: usize) -> Result<Option<i32>> {
    row.try_get_unchecked::<Option<i32>, _>(column).map_err(fault)
}

/// A word of the ledger.
pub(super) fn outcome(word: &str) -> Result<Outcome> {
    Outcome::from_word(word).ok_or_else(|| {
        Error::new(Kind::Database, "the ledger holds an outcome that this version does not know")
            .with("outcome", word)
            .hint("upgrade this program")
    })
}

/// A size, if it is known.
pub(super) fn size(row: &MySqlRow, column: usize) -> Result<Option<u64>> {
    row.try_get_unchecked::<Option<u64>, _>(column).map_err(fault)
}

/// When a candidate was released.
pub(super) fn released(row: &MySqlRow, column: usize) -> Result<Timestamp> {
    moment(row, column)?.ok_or_else(|| Error::new(Kind::Database, "a candidate has no time of release"))
}

/// The columns that [`waiting_row`] reads.
pub(super) fn waiting_columns() -> String {
    format!("id, binding, value, `key`, event, {}, {}, attempts, note, owner is not null", micros("released_at"), micros("due_at"))
}

pub(super) fn waiting_row(row: &MySqlRow) -> Result<Waiting> {
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

/// The columns that [`entry_row`] reads.
pub(super) fn entry_columns() -> String {
    format!("id, {}, storage, binding, name, `key`, event, {}, outcome, size, place, note", micros("at"), micros("released_at"))
}

pub(super) fn entry_row(row: &MySqlRow) -> Result<Entry> {
    Ok(Entry {
        id: int(row, 0)?,
        at: moment(row, 1)?.ok_or_else(|| Error::new(Kind::Database, "a ledger entry has no time"))?,
        storage: text(row, 2)?,
        binding: binding(row, 3)?,
        name: text(row, 4)?,
        key: maybe_text(row, 5)?,
        event: text(row, 6)?,
        released_at: moment(row, 7)?,
        outcome: outcome(&text(row, 8)?)?,
        size: size(row, 9)?,
        place: maybe_text(row, 10)?,
        note: maybe_text(row, 11)?,
    })
}
