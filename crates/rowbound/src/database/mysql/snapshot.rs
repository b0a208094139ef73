//! Catalog -> [`Snapshot`]: what every batch is compared with.
//!
//! The length of a column and the order of columns are none of it; its character set is, because the check asks in it. Nor is a table's creation
//! time: an `ALTER` of another column changes it. So a `TRUNCATE` is not seen here, nor a column dropped and added again between two looks:
//! both are the sweep's. A table that takes another's name, as `RENAME TABLE t TO t_2026, t_new TO t` does, is told by the triggers, which stay with the
//! table on which they were made.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::MySqlConnection;

use super::{
    Mysql,
    cascade::Reach,
    catalog::{self, Catalog, Class, TableName},
    triggers,
};
use crate::{
    binding::Column,
    capture::{Bound, Snapshot},
    database::{SWAPPED, query_items, with_tables},
    error::Result,
};

/// What stands there now.
pub(super) async fn read(conn: &mut MySqlConnection, db: &Mysql, bound: &[Bound]) -> Result<Snapshot> {
    let catalog = Catalog::load(conn, &db.database, bound, &db.known).await?;
    let mut snapshot = of(&catalog, bound);
    for item in swapped(conn, db, &catalog, &with_tables(bound)).await? {
        snapshot.0.insert(item, "its triggers are there".to_owned());
    }
    Ok(snapshot)
}

/// Bound columns whose table has another name now: triggers that are missing on the bound table stand on that one. Its rows may reference files, and nobody
/// looks there. Triggers are looked for everywhere only when some are missing, because that takes time.
async fn swapped(conn: &mut MySqlConnection, db: &Mysql, catalog: &Catalog, bound: &[Bound]) -> Result<Vec<String>> {
    if !catalog.ours.contains("rowbound_candidate") {
        return Ok(Vec::new());
    }
    let mut missing = triggers::wanted(catalog, bound);
    missing.retain(|w| catalog.triggers.iter().all(|t| (&t.schema, &t.name, &t.table) != (&w.table.schema, &w.name, &w.table)));
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let names: BTreeSet<_> = missing.iter().map(|w| TableName { schema: w.table.schema.clone(), table: w.name.clone() }).collect();
    let mut items = Vec::new();
    for t in catalog::read_triggers(conn, &catalog::among("trigger_schema", "trigger_name", &names)).await? {
        let elsewhere = missing.iter().find(|w| (&w.table.schema, &w.name) == (&t.schema, &t.name) && w.table != t.table);
        let Some(w) = elsewhere.filter(|_| triggers::is_ours(&db.database, &t.schema, &t.body)) else { continue };
        let of_table = bound.iter().filter(|b| catalog.table_of(&b.binding.column).is_some_and(|(name, _)| *name == w.table));
        items.extend(of_table.map(|b| format!("{} in {}{SWAPPED}", item(&b.binding.column), t.table)));
    }
    Ok(items)
}

/// Item by item.
pub(super) fn of(catalog: &Catalog, bound: &[Bound]) -> Snapshot {
    let mut items: BTreeMap<_, _> = query_items(bound).collect();
    let bound = &with_tables(bound);
    for table in &catalog.ours {
        items.insert(format!("table {table}"), "there".to_owned());
    }
    for b in bound {
        let Some((name, table)) = catalog.table_of(&b.binding.column) else { continue };
        if let Some(column) = table.column(&b.binding.column.column) {
            items.insert(item(&b.binding.column), describe(&column.class));
        }
        for column in b.binding.only.keys().filter_map(|c| table.column(c)) {
            let item = item(&Column { column: column.name.clone(), ..b.binding.column.clone() });
            items.entry(item).or_insert_with(|| describe(&column.class));
        }
        // As earlier builds wrote it, so that what they attached has not drifted.
        let of = |class: &Class| if *class == Class::Uuid { "other uuid".to_owned() } else { describe(class) };
        let key = table.key.iter().map(|k| table.column(k).map_or_else(|| k.clone(), |c| format!("{k} {}", of(&c.class))));
        items.insert(format!("primary key of {name}"), key.collect::<Vec<_>>().join(", "));
    }
    for key in Reach::of(catalog, bound).keys() {
        let columns: Vec<_> = key.columns.iter().map(|(child, parent)| format!("{child} -> {parent}")).collect();
        items.insert(
            format!("foreign key {} of {}", key.name, key.child),
            format!("{}: {} on delete {:?} on update {:?}", key.parent, columns.join(", "), key.on_delete, key.on_update),
        );
    }
    // Another database's installation may have triggers on the same tables.
    for t in catalog.triggers.iter().filter(|t| triggers::is_or_was_ours(catalog, t)) {
        items.insert(format!("trigger {} on {}", t.name, t.table), format!("{} by {}: {}", t.event, t.definer, t.digest));
    }
    Snapshot(items)
}

/// The item of a bound column.
fn item(column: &Column) -> String {
    format!("column {column}")
}

fn describe(class: &Class) -> String {
    match class {
        Class::Text { charset, collation } => format!("text {charset} {collation}"),
        Class::Bytes => "bytes".to_owned(),
        Class::Json => "json".to_owned(),
        Class::Uuid => "uuid".to_owned(),
        Class::Other(what) => format!("other {what}"),
    }
}

/// What `snapshot` says of a bound column; `None` if it was not there.
pub(super) fn class(snapshot: &Snapshot, column: &Column) -> Option<Class> {
    let text = snapshot.0.get(&item(column))?;
    let mut words = text.splitn(3, ' ');
    Some(match (words.next(), words.next(), words.next()) {
        (Some("text"), Some(charset), Some(collation)) => Class::Text { charset: charset.to_owned(), collation: collation.to_owned() },
        (Some("bytes"), ..) => Class::Bytes,
        (Some("json"), ..) => Class::Json,
        (Some("uuid"), ..) => Class::Uuid,
        _ => Class::Other(text.clone()),
    })
}
