//! A column from one end to the other: one statement that is read as it comes.

use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, MySqlConnection};

use super::{
    Mysql,
    catalog::Catalog,
    fault, quote,
    rows::QUERIED,
    triggers::{only, value},
    values::blob,
};
use crate::{
    binding::Binding,
    capture::Bound,
    database::{ColumnScan, Paging, Values, as_table},
    error::{Error, Kind, Result},
};

pub(super) async fn scan(db: &Mysql, scan: &ColumnScan) -> Result<Values> {
    let mut conn = db.pool().acquire().await.map_err(fault)?;
    if let Some(query) = &scan.query {
        let sql = format!("{} select {QUERIED} from q where n is not null", as_table(query));
        let (mut to, values) = Paging::new(false);
        let column = scan.column.clone();
        tokio::spawn(async move {
            conn.close_on_drop();
            let gone = to.gone();
            let done = tokio::select! {
                done = stream(&mut conn, sql, &mut to) => done,
                () = gone => return,
            };
            to.end(done.map_err(|e| e.with("reference", &column.column))).await;
        });
        return Ok(values);
    }
    // As a binding, so that the catalog is read for its table.
    let mut binding = Binding::name("t.c", "")?;
    binding.column = scan.column.clone();
    let catalog = Catalog::load(&mut conn, &db.database, &[Bound { id: scan.binding, binding }], &db.known).await?;
    let missing = |what: &str| {
        Error::new(Kind::Schema, format!("the bound {what} does not exist"))
            .with("binding", &scan.column)
            .hint("correct rowbound.toml, then `rowbound attach`")
    };
    let (name, table) = catalog.table_of(&scan.column).ok_or_else(|| missing("table"))?;
    let column = table.column(&scan.column.column).ok_or_else(|| missing("column"))?;
    // As bytes, so that no collation orders them. The first 1,024 count (`max_sort_length`): as many as a name can have.
    let bytes = format!("cast({} as binary)", value("t", &column.name, &column.class));
    let mut sql = format!(
        "select {bytes} v from {}.{} t where length(t.{}) > 0{}",
        quote(&name.schema),
        quote(&name.table),
        quote(&column.name),
        only("t", &scan.only)
    );
    for (bound, how) in [(&scan.after, ">"), (&scan.until, "<=")] {
        if let Some(bound) = bound {
            sql.push_str(&format!(" and {bytes} {how} {}", blob(bound.as_bytes())));
        }
    }
    if scan.ordered {
        sql.push_str(" order by v");
    }
    let (mut to, values) = Paging::new(scan.ordered);
    let column = scan.column.clone();
    tokio::spawn(async move {
        // A reader that stops leaves an answer in the connection.
        conn.close_on_drop();
        let gone = to.gone();
        let done = tokio::select! {
            done = stream(&mut conn, sql, &mut to) => done,
            () = gone => return,
        };
        to.end(done.map_err(|e| e.with("binding", &column))).await;
    });
    Ok(values)
}

async fn stream(conn: &mut MySqlConnection, sql: String, to: &mut Paging) -> Result<()> {
    let mut rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch(conn);
    while let Some(row) = rows.try_next().await.map_err(fault)? {
        if !to.send(super::handed_over(&row, 0)?).await {
            break;
        }
    }
    Ok(())
}
