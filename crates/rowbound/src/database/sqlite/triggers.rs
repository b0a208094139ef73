//! The triggers of one SQLite table, as text.
//!
//! A trigger mentions only its own table and the candidates: one that read another table would make a rebuild of that
//! table fail half-way ("error in trigger .. no such table").

use std::collections::BTreeMap;

use super::tables::Table;
use crate::{binding::NonPlain, capture::Bound};

/// An identifier in double quotes.
pub(super) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string literal.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The condition that a row is one of those that `only` tells, to follow others; empty where all are. Bytes are compared: a CAST keeps the column's collation, under which
/// other values are equal, or which only the application knows.
pub(super) fn only(row: &str, only: &BTreeMap<String, String>) -> String {
    only.iter().map(|(column, value)| format!(" AND CAST({row}{} AS TEXT) COLLATE BINARY = {}", ident(column), literal(value))).collect()
}

/// What makes the value `f` of a row odd, as [`crate::binding::ODD`] says it: SQLite has no regular expressions.
pub(super) fn is_odd(f: &str, odd: &NonPlain) -> String {
    let text = format!("CAST({f} AS TEXT)");
    // A control character is odd at an end only; one within a name says nothing else. `GLOB '*[..]*'` for all of these would take twice as long. Bytes that are no UTF-8
    // may count as one character each, and nothing behind a NUL is in a `substr`: so there are two ways to see what is not ASCII.
    let rest = |r: &str| {
        format!(
            "(instr({r}, '%') OR instr({r}, '?') OR instr({r}, '#') OR instr({r}, '//') OR instr({r}, '/.') OR instr({r}, './') OR instr({r}, '\\') \
             OR substr({r}, 1, 1) IN ('/', '.') OR substr({r}, -1) = '.' \
             OR instr({r}, '\"') OR instr({r}, '<') OR instr({r}, ',') OR instr({r}, ';') OR instr({r}, '|') OR instr({r}, char(10)) \
             OR instr({r}, '](') OR instr({r}, '[''') OR instr({r}, 'url(') \
             OR length({text}) <> length(CAST({text} AS BLOB)) OR {r} GLOB '*[^' || char(1) || '-' || char(127) || ']*' OR trim({r}, ' ' || char(9, 10, 11, 12, 13)) COLLATE BINARY <> {r})"
        )
    };
    let mut sql = "CASE".to_owned();
    for prefix in odd.prefixes() {
        let (p, length) = (literal(prefix), prefix.chars().count());
        sql.push_str(&format!(" WHEN substr({text}, 1, {length}) = {p} THEN {}", rest(&format!("substr({text}, {})", length + 1))));
    }
    let other = if odd.bare() { rest(&text) } else { "1".to_owned() };
    if odd.prefixes().is_empty() { other } else { format!("{sql} ELSE {other} END") }
}

/// Every trigger that `table` needs for `bound`: name and statement. SQLite stores the statement as it is written here, so
/// comparing texts tells whether it still stands.
pub(super) fn wanted(table: &Table, bound: &[&Bound]) -> Vec<(String, String)> {
    let n = bound[0].id;
    let t = ident(&table.name);
    let mut out = Vec::new();
    let mut push = |suffix: &str, timing: &str, body: String| {
        let name = format!("rowbound_{n}_{suffix}");
        out.push((name.clone(), format!("CREATE TRIGGER {} {timing} ON {t} FOR EACH ROW BEGIN{body} END", ident(&name))));
    };

    let row = |event: &str, changed: bool| -> String {
        bound.iter().map(|b| release(table, b, "old.", "", event, if changed { Some("new.") } else { None })).collect()
    };
    push("delete", "AFTER DELETE", row("delete", false));

    // UPDATE OF costs other updates nothing. It does not fire for a generated column, whose change is another column's.
    let computed = |column: &String| table.column(column).is_some_and(|c| c.generated);
    let generated = bound.iter().any(|b| b.binding.only.keys().chain([&b.binding.column.column]).any(computed));
    let watched = bound.iter().map(|b| &b.binding.column.column).chain(bound.iter().flat_map(|b| b.binding.only.keys()));
    let of: Vec<_> = watched.map(|c| ident(c)).collect();
    let timing = if generated { "AFTER UPDATE".to_owned() } else { format!("AFTER UPDATE OF {}", of.join(", ")) };
    push("update", &timing, row("update", true));

    // REPLACE deletes conflicting rows without firing their DELETE triggers, unless the application's connection has
    // recursive_triggers on. So their names are read just before, by every key that can conflict.
    let conflict: Vec<String> = table
        .unique
        .iter()
        .map(|key| {
            let same: Vec<_> = key.iter().map(|(c, coll)| format!("r.{0} = new.{0} COLLATE {1}", ident(c), ident(coll))).collect();
            format!("({})", same.join(" AND "))
        })
        .collect();
    if !conflict.is_empty() {
        let conflict = conflict.join(" OR ");
        let replaced = |other: &str| -> String {
            bound
                .iter()
                .map(|b| release(table, b, "r.", &format!(" FROM {t} AS r WHERE ({conflict}){other} AND"), "replace", None))
                .collect()
        };
        push("replace", "BEFORE INSERT", replaced(""));
        // The row itself is no conflict; it is told by its rowid, or by its key where it has none.
        let itself = if table.rowid.is_some() {
            table.rowid.clone().map(|r| format!(" AND r.{r} <> old.{r}")).unwrap_or_default()
        } else {
            let same: Vec<_> = table.key.iter().map(|c| format!("r.{0} IS old.{0}", ident(c))).collect();
            format!(" AND NOT ({})", same.join(" AND "))
        };
        let mut of: Vec<_> = table.unique.iter().flatten().map(|(c, _)| ident(c)).collect();
        of.sort();
        of.dedup();
        push("update_replace", &format!("BEFORE UPDATE OF {}", of.join(", ")), replaced(&itself));
    }
    out
}

/// One INSERT .. SELECT that releases one bound column's value in `row` (`old.` or a table alias).
fn release(table: &Table, b: &Bound, row: &str, from: &str, event: &str, new: Option<&str>) -> String {
    let f = ident(&b.binding.column.column);
    let from = if from.is_empty() { " WHERE".to_owned() } else { from.to_owned() };
    // BINARY, because a NOCASE column would call a.jpg -> A.jpg no change.
    let wanted = only(row, &b.binding.only);
    let changed = new
        .map(|new| {
            let changed = format!("{row}{f} COLLATE BINARY IS NOT {new}{f}");
            let left = b
                .binding
                .only
                .iter()
                .map(|(c, value)| format!(" OR CAST({new}{} AS TEXT) COLLATE BINARY IS NOT {}", ident(c), literal(value)));
            let left: String = left.collect();
            if left.is_empty() { format!(" AND {changed}") } else { format!(" AND ({changed}{left})") }
        })
        .unwrap_or_default();
    format!(
        " INSERT INTO rowbound_candidate (storage, binding, value, key, event) SELECT {}, {}, {row}{f}, {}, {}{from} {row}{f} <> ''{wanted}{changed};",
        literal(&b.binding.storage),
        b.id,
        key(table, row),
        literal(event),
    )
}

/// The row's key as text; a JSON array where it has several columns. Without JSON functions, since the application's own
/// SQLite library runs this and may lack them.
pub(super) fn key(table: &Table, row: &str) -> String {
    let text = |c: &str| {
        let c = format!("{row}{}", ident(c));
        format!("CASE typeof({c}) WHEN 'blob' THEN hex({c}) ELSE CAST({c} AS TEXT) END")
    };
    match (table.key.as_slice(), &table.rowid) {
        ([], Some(rowid)) => format!("CAST({row}{rowid} AS TEXT)"),
        ([], None) => "NULL".to_owned(),
        ([one], _) => text(one),
        (many, _) => {
            let quoted: Vec<_> = many
                .iter()
                .map(|c| format!("'\"' || replace(replace(ifnull({}, ''), '\\', '\\\\'), '\"', '\\\"') || '\"'", text(c)))
                .collect();
            format!("'[' || {} || ']'", quoted.join(" || ',' || "))
        }
    }
}
