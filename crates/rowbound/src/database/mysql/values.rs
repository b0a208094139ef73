//! Rows and lists as literals: text -> SQL in which no byte of it means anything.
//!
//! For statements whose length varies. As parameters, every length would be prepared and closed again, and the server answers no close, so that
//! the next statement waits for a delayed acknowledgement (44 ms over TCP; the driver does not set TCP_NODELAY). Statements that never
//! change are prepared once per connection and take parameters.

use sqlx::{AssertSqlSafe, MySqlConnection};

use super::fault;
use crate::error::Result;

/// How long a statement of several rows may become, in bytes; far below every `max_allowed_packet` in use (16 MiB by default on MariaDB, 64 MiB on
/// MySQL).
const STATEMENT: usize = 512 * 1024;

/// Bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// Bytes as a literal.
pub(super) fn blob(bytes: &[u8]) -> String {
    format!("x'{}'", hex(bytes))
}

/// Characters as a literal.
pub(super) fn chars(text: &str) -> String {
    format!("_utf8mb4 x'{}'", hex(text.as_bytes()))
}

/// What may be absent.
pub(super) fn or_null(literal: Option<String>) -> String {
    literal.unwrap_or_else(|| "null".to_owned())
}

/// `literals`, joined by commas, in as many lists as the length of a statement and `at_once` ask for.
pub(super) fn lists(literals: impl Iterator<Item = String>, at_once: usize) -> Vec<String> {
    let mut lists: Vec<String> = Vec::new();
    let mut room = 0;
    for literal in literals {
        match lists.last_mut() {
            Some(list) if room > 0 && list.len() + literal.len() < STATEMENT => {
                list.push_str(", ");
                list.push_str(&literal);
                room -= 1;
            }
            _ => {
                lists.push(literal);
                room = at_once.saturating_sub(1);
            }
        }
    }
    lists
}

/// Inserts rows, each a list of expressions in parentheses. `into` is the table and its columns. Returns the number that the first of them was given.
pub(super) async fn insert(conn: &mut MySqlConnection, into: &str, rows: impl Iterator<Item = String>) -> Result<u64> {
    let mut first = None;
    for list in lists(rows, 1_000) {
        let sql = format!("insert into {into} values {list}");
        let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *conn).await.map_err(fault)?;
        first.get_or_insert(done.last_insert_id());
    }
    Ok(first.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_byte_of_a_text_stands_in_the_statement() {
        assert_eq!(chars("a'\\é"), "_utf8mb4 x'61275cc3a9'");
        assert_eq!(blob(b"\0'"), "x'0027'");
        assert_eq!(or_null(None), "null");
    }

    #[test]
    fn a_list_ends_at_its_count_and_at_the_length_of_a_statement() {
        let count = |literals: Vec<String>, at_once| lists(literals.into_iter(), at_once).len();
        assert_eq!(lists(["1", "2", "3"].map(str::to_owned).into_iter(), 2), ["1, 2", "3"]);
        assert_eq!(count(vec![], 2), 0);
        assert_eq!(count(vec!["a".repeat(STATEMENT); 3], 10), 3);
        assert_eq!(count(vec!["a".repeat(STATEMENT / 4); 6], 10), 2);
    }
}
