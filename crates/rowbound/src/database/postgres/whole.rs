//! Any text column from one end to the other, whatever its type: long values in pieces that the server cuts, so that our memory does not grow with them.

use super::{Postgres, scan::copy, tables::ident};
use crate::{
    database::{
        Paging, Values,
        survey::{Class, OVERLAP, PIECE, STEP, TextColumn},
    },
    error::Result,
};

/// A value that takes no more bytes in its row is no longer than a piece: LZ4 makes at most 255 bytes of one. To ask costs nothing.
const SMALL: usize = 4_000;

pub(super) async fn values(db: &Postgres, column: &TextColumn) -> Result<Values> {
    let mut conn = db.conn().await?;
    let f = format!("t.{}", ident(&column.column.column));
    // As bytes, of which a piece is cut at once; the server's encoding is UTF8, too.
    let bytes = match column.class {
        Class::Blob => f.clone(),
        Class::Text | Class::Json | Class::Array => format!("convert_to({f}::text, 'UTF8')"),
    };
    let table = format!("{}.{}", ident(&column.schema), ident(&column.column.table));
    // OFFSET 0 and the concatenation: the value is fetched and written out once, not once for each piece.
    let sql = format!(
        "copy (select unnest(case when pg_column_size({f}) <= {SMALL} then array[{bytes}] else array( \
             select substring(v.b from p.n for {PIECE}) \
             from (select {bytes} || ''::bytea as b offset 0) v, \
                 lateral generate_series(1, greatest(octet_length(v.b) - {OVERLAP}, 1), {STEP}) as p(n)) end) \
         from {table} t where {f} is not null) to stdout (format binary)"
    );
    let (mut to, values) = Paging::new(false);
    let column = column.column.clone();
    tokio::spawn(async move {
        // A reader that stops leaves the connection in the middle of the copy.
        conn.close_on_drop();
        let done = copy(&mut conn, &sql, &mut to).await;
        to.end(done.map_err(|e| e.with("column", &column))).await;
    });
    Ok(values)
}
