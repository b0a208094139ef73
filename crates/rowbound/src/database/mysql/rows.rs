//! What a row holds, and what a statement asks for so that it can be read.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::{Column as _, Row, TypeInfo, mysql::MySqlRow};

use super::fault;
use crate::error::{Error, Kind, Result};

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
