//! What the schema says.

use std::collections::BTreeMap;

use sqlx::{Row, SqliteConnection};

use super::fault::failed;
use crate::{
    capture::Bound,
    error::{Error, Kind, Result},
};

/// A table as the triggers need it.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    /// As the schema spells it.
    pub name: String,
    pub columns: Vec<TableColumn>,
    /// The primary key's columns, in order; empty if there is none.
    pub key: Vec<String>,
    /// A name for the rowid, if the table has one and a column does not hide it.
    pub rowid: Option<String>,
    /// Every key whose conflict REPLACE resolves by deleting: columns and their collations.
    pub unique: Vec<Vec<(String, String)>>,
    /// Unique indexes on expressions, which the triggers cannot follow.
    pub unique_expressions: Vec<String>,
}

#[derive(Debug, Clone)]
pub(super) struct TableColumn {
    pub name: String,
    pub declared: String,
    pub generated: bool,
}

impl Table {
    pub(super) fn column(&self, name: &str) -> Option<&TableColumn> {
        self.columns.iter().find(|c| c.name.eq_ignore_ascii_case(name))
    }
}

pub(super) fn missing_table(b: &Bound) -> Error {
    Error::new(Kind::Schema, "the bound table does not exist").with("binding", &b.binding.column).hint("correct `column` in rowbound.toml")
}

pub(super) fn has_column(table: &Table, b: &Bound) -> Result<()> {
    if table.column(&b.binding.column.column).is_some() {
        return Ok(());
    }
    let known: Vec<_> = table.columns.iter().map(|c| c.name.as_str()).collect();
    Err(Error::new(Kind::Schema, "the bound column does not exist").with("binding", &b.binding.column).hint(format!(
        "{} has: {}",
        table.name,
        known.join(", ")
    )))
}

/// Our triggers: name -> (table, statement).
pub(super) async fn standing_triggers(connection: &mut SqliteConnection) -> Result<BTreeMap<String, (String, String)>> {
    let rows = sqlx::query("SELECT name, tbl_name, sql FROM sqlite_schema WHERE type = 'trigger' AND name GLOB 'rowbound_[0-9]*'")
        .fetch_all(connection)
        .await
        .map_err(failed("read triggers"))?;
    Ok(rows.into_iter().map(|r| (r.get(0), (r.get(1), r.get(2)))).collect())
}

/// What the schema says of a table; `None` if there is none. A view or virtual table is an error.
pub(super) async fn table(connection: &mut SqliteConnection, name: &str) -> Result<Option<Table>> {
    let row = sqlx::query("SELECT name, type, sql FROM sqlite_schema WHERE type IN ('table', 'view') AND name = ?1 COLLATE NOCASE")
        .bind(name)
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed("read schema"))?;
    let Some(row) = row else { return Ok(None) };
    let (name, kind, sql): (String, String, String) = (row.get(0), row.get(1), row.get(2));
    if kind == "view" || sql.get(..14).is_some_and(|s| s.eq_ignore_ascii_case("CREATE VIRTUAL")) {
        return Err(Error::new(Kind::Schema, "the bound table is a view or a virtual table, whose changes no trigger sees")
            .with("table", name)
            .hint("bind the column of the table beneath it"));
    }
    let mut table = Table { name: name.clone(), ..Table::default() };
    let rows = sqlx::query("SELECT name, type, pk, hidden FROM pragma_table_xinfo(?1)")
        .bind(&name)
        .fetch_all(&mut *connection)
        .await
        .map_err(failed("read columns"))?;
    let mut key = BTreeMap::new();
    for r in rows {
        let column: String = r.get(0);
        if r.get::<i64, _>(2) > 0 {
            key.insert(r.get::<i64, _>(2), column.clone());
        }
        table.columns.push(TableColumn { name: column, declared: r.get(1), generated: r.get::<i64, _>(3) >= 2 });
    }
    table.key = key.into_values().collect();
    let without_rowid: bool = sqlx::query_scalar("SELECT wr FROM pragma_table_list WHERE schema = 'main' AND name = ?1")
        .bind(&name)
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed("read table"))?
        .unwrap_or(false);
    if !without_rowid {
        table.rowid = ["rowid", "_rowid_", "oid"].into_iter().find(|r| table.column(r).is_none()).map(str::to_owned);
        // An INTEGER PRIMARY KEY is the rowid itself and has no index.
        if let [one] = table.key.as_slice()
            && table.column(one).is_some_and(|c| c.declared.eq_ignore_ascii_case("integer"))
        {
            table.unique.push(vec![(one.clone(), "BINARY".to_owned())]);
        }
    }
    let indexes = sqlx::query("SELECT name FROM pragma_index_list(?1) WHERE \"unique\" = 1 ORDER BY name")
        .bind(&name)
        .fetch_all(&mut *connection)
        .await
        .map_err(failed("read indexes"))?;
    for index in indexes {
        let index: String = index.get(0);
        let columns = sqlx::query("SELECT name, coll FROM pragma_index_xinfo(?1) WHERE key = 1 ORDER BY seqno")
            .bind(&index)
            .fetch_all(&mut *connection)
            .await
            .map_err(failed("read index"))?;
        let columns: Vec<(Option<String>, String)> = columns.into_iter().map(|r| (r.get(0), r.get(1))).collect();
        if columns.iter().any(|(name, _)| name.is_none()) {
            table.unique_expressions.push(index);
        } else {
            table.unique.push(columns.into_iter().filter_map(|(name, coll)| Some((name?, coll))).collect());
        }
    }
    table.unique.sort();
    table.unique.dedup();
    Ok(Some(table))
}
