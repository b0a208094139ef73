//! Bindings as every database sees them: tables with their columns, and queries; and the errors of those that cannot be used.

use std::collections::BTreeMap;

use crate::{
    binding::Column,
    capture::{Bound, Drift},
    error::{Error, Kind},
};

/// The error that stops deletion when tables or triggers are not as attached.
pub(crate) fn drifted(drift: &[Drift]) -> Error {
    let mut said: Vec<String> = drift.iter().take(5).map(Drift::to_string).collect();
    if drift.len() > 5 {
        said.push(format!("and {} more", drift.len() - 5));
    }
    Error::new(Kind::Drift, format!("the database is not as attached: {}", said.join("; ")))
        .hint("if a column or table was renamed, write its new name into rowbound.toml first; then `rowbound attach`")
}

/// How the item of a bound column ends whose table lives on under another name, while another table has taken its name.
pub(crate) const SWAPPED: &str = ", to which its table was renamed";

/// The bindings that have a table, and with it capture.
pub(crate) fn with_tables(bound: &[Bound]) -> Vec<Bound> {
    bound.iter().filter(|b| b.binding.query.is_none()).cloned().collect()
}

/// The queries among `bound`, as items of a snapshot: one that was changed has to be looked at by a person.
pub(crate) fn query_items(bound: &[Bound]) -> impl Iterator<Item = (String, String)> {
    bound.iter().filter_map(|b| Some((format!("query {}", b.binding.column.column), b.binding.query.clone()?)))
}

/// A query as a table `q` with one column `n`; another number of columns is an error of the database.
pub(crate) fn as_table(query: &str) -> String {
    format!("with q(n) as (\n{query}\n)")
}

/// The error of a query that cannot be used.
pub(crate) fn unusable_query(b: &Bound, e: Error) -> Error {
    Error::new(Kind::Schema, format!("a reference's query cannot be used: {}", e.full())).with("reference", &b.binding.column.column).hint(
        "`query` is a SELECT of one column, the file's name, that the connecting account may run and that changes nothing; on PostgreSQL \
             write tables with their schema (public.media)",
    )
}

/// The error of a table whose rows cannot be told by one text.
pub(crate) fn no_key(column: &Column) -> Error {
    Error::new(Kind::Schema, "the table has no primary key of one column, or is not there")
        .with("column", column)
        .hint("set the column with SQL")
}

/// Groups bound bindings by table, in the order of their numbers: one table has one set of triggers for all its columns.
pub(crate) fn by_table(bound: &[Bound]) -> BTreeMap<(Option<String>, String), Vec<&Bound>> {
    let mut tables: BTreeMap<(Option<String>, String), Vec<&Bound>> = BTreeMap::new();
    for b in bound.iter().filter(|b| b.binding.query.is_none()) {
        tables.entry((b.binding.column.schema.clone(), b.binding.column.table.clone())).or_default().push(b);
    }
    for columns in tables.values_mut() {
        columns.sort_by_key(|b| b.id);
    }
    tables
}

/// Whether a text is a UUID as servers write one.
pub(crate) fn is_uuid(text: &str) -> bool {
    let digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    text.len() == 36 && text.bytes().enumerate().all(|(at, b)| if matches!(at, 8 | 13 | 18 | 23) { b == b'-' } else { digit(b) })
}
