//! Any text column from one end to the other, whatever its type: one statement that is read as it comes. Where values are long, the server cuts them in pieces: our memory
//! does not grow with a value, nothing is longer than the server hands over, and all pieces of a value are of one moment.

use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, MySqlConnection};

use super::{Mysql, fault, handed_over, int, maybe_text, quote};
use crate::{
    database::{
        Paging, Values,
        survey::{Class, OVERLAP, PIECE, STEP, TextColumn},
    },
    error::Result,
};

/// Whether its values are bytes.
pub(super) fn is_bytes(column: &TextColumn) -> bool {
    column.class == Class::Blob || column.data_type.starts_with("varbinary")
}

pub(super) async fn values(db: &Mysql, column: &TextColumn) -> Result<Values> {
    let mut conn = db.pool().acquire().await.map_err(fault)?;
    let f = format!("t.{}", quote(&column.column.column));
    let value = if is_bytes(column) { f.clone() } else { format!("cast(convert({f} using utf8mb4) as binary)") };
    let from = format!("from {}.{} t", quote(&column.schema), quote(&column.column.table));
    let may_be_long = ["mediumtext", "longtext", "mediumblob", "longblob", "json"].iter().any(|t| column.data_type.starts_with(t));
    let (mut to, values) = Paging::new(false);
    let column = column.column.clone();
    tokio::spawn(async move {
        // A reader that stops leaves an answer in the connection.
        conn.close_on_drop();
        let done = stream(&mut conn, (&f, &value), &from, may_be_long, &mut to).await;
        to.end(done.map_err(|e| e.with("column", &column))).await;
    });
    Ok(values)
}

/// In how many pieces a value of so many bytes comes.
fn pieces(length: usize) -> usize {
    1 + length.saturating_sub(OVERLAP + 1) / STEP
}

/// The statement that reads every value in up to so many pieces.
fn select((f, value): (&str, &str), from: &str, parts: usize) -> String {
    let length = format!("cast(length({value}) as signed)");
    if parts == 1 {
        return format!("select substr({value}, 1, {PIECE}), {length} {from} where length({f}) > 0");
    }
    let begins: Vec<String> = (0..parts).map(|nth| format!("select {} as n", nth * STEP)).collect();
    // The table first, and without a join buffer, through which its values would go: so it is read once. A character of any set has four bytes at most in UTF-8: most rows
    // are told by a length that costs nothing.
    format!(
        "select /*+ no_bnl() */ straight_join substr({value}, p.n + 1, {PIECE}), {length} {from} join ({}) p \
         on p.n = 0 or (length({f}) * 4 > p.n and length({value}) > p.n + {OVERLAP}) where length({f}) > 0",
        begins.join(" union all ")
    )
}

async fn stream(conn: &mut MySqlConnection, value: (&str, &str), from: &str, may_be_long: bool, to: &mut Paging) -> Result<()> {
    let mut longest = 0;
    if may_be_long {
        let sql = format!("select cast(max(length({})) as char) {from}", value.1);
        let row = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_one(&mut *conn).await.map_err(fault)?;
        longest = maybe_text(&row, 0)?.and_then(|digits| digits.parse().ok()).unwrap_or(0);
    }
    loop {
        let parts = pieces(longest);
        let mut rows = sqlx::raw_sql(AssertSqlSafe(select(value, from, parts))).fetch(&mut *conn);
        while let Some(row) = rows.try_next().await.map_err(fault)? {
            longest = longest.max(usize::try_from(int(&row, 1)?).unwrap_or(0));
            if !to.send(handed_over(&row, 0)?).await {
                return Ok(());
            }
        }
        // A longer one came meanwhile: once more.
        if pieces(longest) <= parts {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_of_a_value_reach_to_its_end() {
        for length in [0, 1, OVERLAP, OVERLAP + 1, PIECE - 1, PIECE, PIECE + 1, PIECE + STEP, PIECE + STEP + 1, 100 << 20] {
            let last = (pieces(length) - 1) * STEP;
            assert!(last + PIECE >= length, "{length}");
            assert!(last == 0 || last + OVERLAP < length, "{length}: the last piece would hold nothing new");
        }
    }
}
