//! A column from one end to the other: COPY, which streams without a cursor.

use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, Executor, PgConnection, PgPool};

use super::{
    fault::failed,
    tables::{self, ident, literal},
};
use crate::{
    database::{ColumnScan, Paging, Values, as_table},
    error::{Error, Kind, Result},
};

pub(super) async fn scan(pool: &PgPool, scan: &ColumnScan) -> Result<Values> {
    let mut conn = pool.acquire().await.map_err(|e| failed("cannot connect", e))?;
    let sql = match &scan.query {
        Some(query) => {
            format!("copy ({} select n::text from q where n::text collate \"C\" <> '') to stdout (format binary)", as_table(query))
        }
        None => of_column(&mut conn, scan).await?,
    };
    let (mut to, values) = Paging::new(scan.ordered && scan.query.is_none());
    let column = scan.column.clone();
    tokio::spawn(async move {
        // A reader that stops leaves the connection in the middle of the copy.
        conn.close_on_drop();
        let gone = to.gone();
        let done = tokio::select! {
            done = copy(&mut conn, &sql, &mut to) => done,
            () = gone => return,
        };
        to.end(done.map_err(|e| e.with("binding", &column))).await;
    });
    Ok(values)
}

async fn of_column(conn: &mut PgConnection, scan: &ColumnScan) -> Result<String> {
    let resolved = tables::resolve(conn, &[&scan.column]).await?;
    tables::usable(&scan.column, &resolved[0], &scan.reading)?;
    // Collation "C" compares the bytes of UTF-8, whatever the column's own.
    let column = format!("t.{}", ident(&scan.column.column));
    let only = tables::only_sql("t", &scan.only);
    if resolved[0].is_bytes() {
        // Bytes sort as they are.
        let order = if scan.ordered { format!(" order by {column}") } else { String::new() };
        return Ok(format!(
            "copy (select {column} from {} t where octet_length({column}) > 0{only}{order}) to stdout (format binary)",
            resolved[0].table_sql()
        ));
    }
    let f = format!("{column}::text");
    let mut sql = format!("copy (select {f} from {} t where {f} collate \"C\" <> ''{only}", resolved[0].table_sql());
    for (bound, how) in [(&scan.after, ">"), (&scan.until, "<=")] {
        // No value holds a NUL, and no literal can.
        if let Some(bound) = bound.as_ref().filter(|b| !b.contains('\0')) {
            sql.push_str(&format!(" and {f} collate \"C\" {how} {}", literal(bound)));
        }
    }
    if scan.ordered {
        sql.push_str(&format!(" order by {f} collate \"C\""));
    }
    sql.push_str(") to stdout (format binary)");
    Ok(sql)
}

pub(super) async fn copy(conn: &mut PgConnection, sql: &str, to: &mut Paging) -> Result<()> {
    let error = |e| failed("cannot read the column", e);
    // An error instead of fewer rows where row security applies; and a migration that waits for its lock is not waited for. Whoever takes the values may be
    // slow, and the last of them are with us when the server is done. A server that has nothing to send looks now and then whether somebody still reads (since PostgreSQL 14).
    let begin = "begin isolation level repeatable read, read only; set local row_security = off; set local lock_timeout = '5s';
        set local idle_in_transaction_session_timeout = '15min';
        select set_config(name, '10s', true) from pg_settings where name = 'client_connection_check_interval'";
    conn.execute(sqlx::raw_sql(AssertSqlSafe(begin))).await.map_err(error)?;
    let mut rows = Rows::default();
    {
        let mut stream = conn.copy_out_raw(sql).await.map_err(error)?;
        while let Some(bytes) = stream.try_next().await.map_err(error)? {
            rows.buffer.extend_from_slice(&bytes);
            while let Some(value) = rows.next()? {
                if !to.send(value).await {
                    return Ok(());
                }
            }
        }
    }
    if !rows.ended {
        return Err(Error::new(Kind::Database, "the server ended its answer before its end"));
    }
    conn.execute(sqlx::raw_sql("commit")).await.map_err(error)?;
    Ok(())
}

/// Rows of one column in the binary format (<https://www.postgresql.org/docs/current/sql-copy.html>).
#[derive(Debug, Default)]
struct Rows {
    buffer: Vec<u8>,
    read: usize,
    begun: bool,
    ended: bool,
}

impl Rows {
    /// The next value, if all of it has arrived.
    fn next(&mut self) -> Result<Option<Vec<u8>>> {
        let strange = || Error::new(Kind::Database, "the server's answer is no copy of one column");
        loop {
            // What was read goes once it is the larger part.
            if self.read > 64 * 1024 || self.read == self.buffer.len() {
                self.buffer.drain(..self.read);
                self.read = 0;
            }
            let rest = &self.buffer[self.read..];
            let int = |at: usize| rest.get(at..at + 4).map(|b| i32::from_be_bytes([b[0], b[1], b[2], b[3]]));
            if !self.begun {
                // A signature of 11 bytes, flags, and an extension with its length.
                let Some(more) = int(15) else { return Ok(None) };
                let length = 19 + usize::try_from(more).map_err(|_| strange())?;
                if !rest.starts_with(b"PGCOPY\n\xff\r\n\0") {
                    return Err(strange());
                }
                if rest.len() < length {
                    return Ok(None);
                }
                (self.begun, self.read) = (true, self.read + length);
                continue;
            }
            let Some(fields) = rest.get(..2) else { return Ok(None) };
            match i16::from_be_bytes([fields[0], fields[1]]) {
                -1 => {
                    self.ended = true;
                    return Ok(None);
                }
                1 => {}
                _ => return Err(strange()),
            }
            let Some(length) = int(2) else { return Ok(None) };
            let length = usize::try_from(length).map_err(|_| strange())?;
            let Some(value) = rest.get(6..6 + length) else { return Ok(None) };
            let value = value.to_vec();
            self.read += 6 + length;
            return Ok(Some(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_however_they_are_cut() {
        let mut bytes = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
        for value in ["a", "", "p/ö.jpg"] {
            bytes.extend([0, 1]);
            bytes.extend((value.len() as i32).to_be_bytes());
            bytes.extend(value.as_bytes());
        }
        bytes.extend([0xff, 0xff]);
        for piece in [1, 2, 3, 7, 1000] {
            let (mut rows, mut out) = (Rows::default(), Vec::new());
            for part in bytes.chunks(piece) {
                rows.buffer.extend_from_slice(part);
                while let Some(value) = rows.next().unwrap() {
                    out.push(String::from_utf8(value).unwrap());
                }
            }
            assert_eq!((out, rows.ended), (vec!["a".to_owned(), String::new(), "p/ö.jpg".to_owned()], true), "{piece}");
        }
        let mut strange = Rows { buffer: vec![b'x'; 40], ..Rows::default() };
        assert!(strange.next().is_err());
    }
}
