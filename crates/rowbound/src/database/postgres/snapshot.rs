//! What every batch is compared with.

use sqlx::{PgConnection, Row};

use super::{fault::failed, tables::ident};
use crate::{
    binding::{Body, Column},
    capture::{Bound, Snapshot},
    database::{by_table, query_items, with_tables},
    error::Result,
};

/// What stands there now, as `conn`'s transaction sees it.
pub(super) async fn read(conn: &mut PgConnection, bound: &[Bound]) -> Result<Snapshot> {
    let shown = |part: &str| if part.contains(['.', '"']) { ident(part) } else { part.to_owned() };
    let label = |schema: Option<&str>, table: &str| schema.into_iter().chain([table]).map(shown).collect::<Vec<_>>().join(".");
    let queries = query_items(bound);
    let bound = &with_tables(bound);
    let tables = by_table(bound);
    let mut columns: Vec<Column> = bound.iter().map(|b| b.binding.column.clone()).collect();
    columns.extend(bound.iter().flat_map(|b| b.binding.only.keys().map(|c| Column { column: c.clone(), ..b.binding.column.clone() })));
    let rows = sqlx::query(include_str!("snapshot.sql"))
        .bind(tables.keys().map(|(s, t)| label(s.as_deref(), t)).collect::<Vec<_>>())
        .bind(tables.keys().map(|(s, _)| s.clone()).collect::<Vec<_>>())
        .bind(tables.keys().map(|(_, t)| t.clone()).collect::<Vec<_>>())
        .bind(tables.values().map(|of| of.iter().all(|b| b.binding.body == Body::Fast)).collect::<Vec<_>>())
        .bind(columns.iter().map(|c| label(c.schema.as_deref(), &c.table)).collect::<Vec<_>>())
        .bind(columns.iter().map(|c| c.column.clone()).collect::<Vec<_>>())
        .bind(columns.iter().map(|c| shown(&c.column)).collect::<Vec<_>>())
        .fetch_all(conn)
        .await
        .map_err(|e| failed("cannot read what stands", e))?;
    let standing = rows.iter().map(|row| Ok((row.try_get("item")?, row.try_get("text")?)));
    let items = standing.chain(queries.map(Ok)).collect::<sqlx::Result<_>>();
    Ok(Snapshot(items.map_err(|e| failed("cannot read what stands", e))?))
}
