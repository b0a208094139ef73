//! Bindings and ancestors -> triggers.
//!
//! In: the catalog and the bindings. Out: every trigger that should stand, with its body. What each promises:
//!
//! - It never makes the application's statement fail because a table or column was renamed or dropped (errors 1054 and 1146 are handled), and it goes on
//!   with its other columns. What it then misses shows as drift.
//! - It reads nothing but its row and, on an ancestor, the rows that the foreign keys are about to take; it writes candidates, nothing else.
//! - It records at least every name that its row lets go of. Changes are compared as bytes: to a collation `a.jpg` and `A.jpg ` may be one name.
//!
//! A body holds no comment: `mysqldump` writes triggers within `/*! */`, and the dump would not restore.
//!
//! Names within the trigger's own database are not qualified, so that a restored copy of a database writes into its own queue.

use std::{collections::BTreeMap, fmt::Write};

use super::{
    cascade::{Change, Reach, Step, Ways},
    catalog::{Catalog, Class, Table, TableName, Trigger},
    quote,
};
use crate::capture::Bound;

/// A trigger that should stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub name: String,
    pub table: TableName,
    /// `after delete`, ..
    pub event: &'static str,
    pub body: String,
}

/// The triggers for `bound`, by table.
pub(super) fn wanted(catalog: &Catalog, bound: &[Bound]) -> Vec<Wanted> {
    let reach = Reach::of(catalog, bound);
    let mut parts: BTreeMap<(TableName, &'static str), String> = BTreeMap::new();
    for b in bound {
        let Some((name, table)) = catalog.table_of(&b.binding.column) else { continue };
        let Some(column) = table.column(&b.binding.column.column) else { continue };
        let at = |event| (name.clone(), event);
        let old = format!("old.{}", quote(&column.name));
        let new = format!("new.{}", quote(&column.name));
        let key = key("old", table).unwrap_or_else(|| "null".to_owned());
        let write = |event: &str| {
            // The key is put into a variable first: should it be renamed, the name is still recorded.
            format!(
                "    set rowbound_key = null;\n    set rowbound_key = {key};\n    insert into {} (binding, value, `key`, event, released_at)\n      \
                 values ({}, {}, rowbound_key, '{event}', utc_timestamp(6));\n",
                candidates(catalog, name),
                b.id,
                value("old", &column.name, &column.class),
            )
        };
        let _ = write!(parts.entry(at("after delete")).or_default(), "  if length({old}) > 0 then\n{}  end if;\n", write("delete"));
        let _ = write!(
            parts.entry(at("after update")).or_default(),
            "  if length({old}) > 0 and not (cast({old} as binary) <=> cast({new} as binary)) then\n{}  end if;\n",
            write("update")
        );
    }
    for cause in reach.causes() {
        let effect = &reach.effects[cause];
        let mut blocks = String::new();
        for (release, place) in &reach.releases {
            if let Some(ways) = reach.ways(cause, *release) {
                blocks.push_str(&copy(catalog, &reach, cause, *release, &bound[*place], &ways));
            }
        }
        match &effect.change {
            Change::Vanish => parts.entry((effect.table.clone(), "before delete")).or_default().push_str(&blocks),
            Change::Columns(columns) => {
                let changed = columns.iter().map(|c| {
                    let c = quote(c);
                    format!("not (cast(old.{c} as binary) <=> cast(new.{c} as binary))")
                });
                let _ = write!(
                    parts.entry((effect.table.clone(), "before update")).or_default(),
                    "  if {} then\n{blocks}  end if;\n",
                    changed.collect::<Vec<_>>().join(" or ")
                );
            }
        }
    }
    parts
        .into_iter()
        .map(|((table, event), statements)| {
            let variable = if event.starts_with("after") { "  declare rowbound_key longtext default null;\n" } else { "" };
            let body = format!("begin\n{variable}  declare continue handler for 1054, 1146 begin end;\n{statements}end");
            Wanted { name: name_of(catalog, &table, event), table, event, body }
        })
        .collect()
}

/// The queue as it is written in a trigger on `table`.
pub(super) fn candidates(catalog: &Catalog, table: &TableName) -> String {
    written(&TableName { schema: catalog.database.clone(), table: "rowbound_candidate".to_owned() }, &table.schema)
}

/// Whether a trigger of that schema and body writes into the queue of `database`.
pub(super) fn is_ours(database: &str, schema: &str, body: &str) -> bool {
    let table = TableName { schema: database.to_owned(), table: "rowbound_candidate".to_owned() };
    body.contains(&format!("insert into {} (binding, value,", written(&table, schema)))
}

/// Whether a trigger writes into our queue, or did before somebody altered it: its name tells.
pub(super) fn is_or_was_ours(catalog: &Catalog, t: &Trigger) -> bool {
    is_ours(&catalog.database, &t.schema, &t.body) || t.name == name_of(catalog, &t.table, &t.event)
}

/// A table's name in a trigger that stands in `schema`.
fn written(table: &TableName, schema: &str) -> String {
    if table.schema == schema { quote(&table.table) } else { format!("{}.{}", quote(&table.schema), quote(&table.table)) }
}

/// `rowbound_` and the event's letters and a hash: unique in its schema, within 64 characters whatever the table's name is, and the same for every
/// copy of a database.
fn name_of(catalog: &Catalog, table: &TableName, event: &str) -> String {
    let letters: String = event.split(' ').filter_map(|word| word.chars().next()).collect();
    // FNV-1a, 64 bits: the standard library's hash may change with its version.
    let hash = format!("{} {}", candidates(catalog, table), table.table)
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("rowbound_{letters}_{hash:016x}")
}

/// A name's bytes: characters as UTF-8, bytes as they are.
pub(super) fn value(alias: &str, column: &str, class: &Class) -> String {
    let column = quote(column);
    match class {
        Class::Text { .. } => format!("convert({alias}.{column} using utf8mb4)"),
        _ => format!("{alias}.{column}"),
    }
}

/// The row's key as text; a JSON array where it has several columns. Bytes are shown in hexadecimal.
pub(super) fn key(alias: &str, table: &Table) -> Option<String> {
    let part = |name: &String| {
        let quoted = format!("{alias}.{}", quote(name));
        match table.column(name).map(|c| &c.class) {
            Some(Class::Text { .. }) => format!("convert({quoted} using utf8mb4)"),
            Some(Class::Bytes) => format!("hex({quoted})"),
            Some(Class::Other(kind)) if kind == "binary" || kind == "bit" => format!("hex({quoted})"),
            _ => quoted,
        }
    };
    match table.key.as_slice() {
        [] => None,
        [one] => Some(format!("cast({} as char)", part(one))),
        several => Some(format!("json_array({})", several.iter().map(part).collect::<Vec<_>>().join(", "))),
    }
}

/// A block that records the names that `cause` makes `b` let go of.
fn copy(catalog: &Catalog, reach: &Reach<'_>, cause: usize, release: usize, b: &Bound, ways: &Ways) -> String {
    let Some((name, table)) = catalog.table_of(&b.binding.column) else { return String::new() };
    let Some(column) = table.column(&b.binding.column.column) else { return String::new() };
    let schema = &reach.effects[cause].table.schema;
    let columns =
        |alias: &str| format!("{}, {}", value(alias, &column.name, &column.class), key(alias, table).unwrap_or_else(|| "null".to_owned()));
    let filled = |alias: &str| format!("length({alias}.{}) > 0", quote(&column.name));
    let selects: Vec<(String, String)> = match ways {
        Ways::Paths(paths) => paths
            .iter()
            .map(|path| {
                let mut from = String::new();
                let mut first = String::new();
                for (i, step) in path.iter().enumerate() {
                    let key = &catalog.keys[step.key];
                    let alias = format!("d{i}");
                    let table = written(&key.child, schema);
                    let on = |parent: &str| {
                        let pairs = key.columns.iter().map(|(c, p)| format!("{alias}.{} = {parent}.{}", quote(c), quote(p)));
                        pairs.collect::<Vec<_>>().join(" and ")
                    };
                    if i == 0 {
                        from = format!("{table} {alias}");
                        first = on("old");
                    } else {
                        let _ = write!(from, " join {table} {alias} on {}", on(&format!("d{}", i - 1)));
                    }
                }
                let last = format!("d{}", path.len() - 1);
                (String::new(), format!("select {} from {from} where {first} and {} lock in share mode", columns(&last), filled(&last)))
            })
            .collect(),
        Ways::Web(web) => {
            let (with, slots) = recursion(catalog, reach, cause, web, schema);
            let last = web.iter().filter(|s| s.result == release).map(|step| {
                let key = &catalog.keys[step.key];
                format!(
                    "(select {} from rowbound_web w join {} d on {} where w.effect = {} and {} lock in share mode)",
                    columns("d"),
                    written(name, schema),
                    meets(key.columns.iter(), &slots, step.cause),
                    step.cause,
                    filled("d")
                )
            });
            vec![(with, last.collect::<Vec<_>>().join("\n      union all "))]
        }
    };
    // A locking read, in every part: a plain one would show what the application's transaction saw when it began (REPEATABLE READ), and the
    // foreign key takes also what others committed since. Not FOR UPDATE: that is refused (error 1442) where the statement itself works on the
    // table, as in `DELETE up, t FROM up JOIN t` and on a table that points at itself.
    // A cursor and not INSERT .. SELECT, which would hold the queue's AUTO-INC lock to the end of the application's statement.
    selects
        .into_iter()
        .map(|(with, select)| {
            format!(
                "  begin\n    declare rowbound_value longblob;\n    declare rowbound_key longtext;\n    declare rowbound_rows cursor for\n      \
                 {with}{select};\n    declare exit handler for 1054, 1146, not found begin end;\n    open rowbound_rows;\n    loop\n      \
                 fetch rowbound_rows into rowbound_value, rowbound_key;\n      insert into {} (binding, value, `key`, event, released_at)\n        \
                 values ({}, rowbound_value, rowbound_key, 'cascade', utc_timestamp(6));\n    end loop;\n  end;\n",
                candidates(catalog, &reach.effects[cause].table),
                b.id
            )
        })
        .collect()
}

/// The column of the recursive table that holds an effect's column.
type Slots = Vec<(usize, String)>;

fn slot(slots: &Slots, effect: usize, column: &str) -> String {
    let at = slots.iter().position(|(e, c)| *e == effect && c == column).unwrap_or(usize::MAX);
    format!("c{at}")
}

fn meets<'k>(columns: impl Iterator<Item = &'k (String, String)>, slots: &Slots, cause: usize) -> String {
    columns.map(|(c, p)| format!("d.{} = w.{}", quote(c), slot(slots, cause, p))).collect::<Vec<_>>().join(" and ")
}

/// All rows that the cause reaches, as a recursive table: which effect, and the columns by which the next are found. UNION drops what was
/// seen before, so that rows that point at each other come to an end.
fn recursion(catalog: &Catalog, reach: &Reach<'_>, cause: usize, web: &std::collections::BTreeSet<Step>, schema: &str) -> (String, Slots) {
    let mut slots: Slots = Vec::new();
    for step in web {
        for (_, parent) in &catalog.keys[step.key].columns {
            if !slots.contains(&(step.cause, parent.clone())) {
                slots.push((step.cause, parent.clone()));
            }
        }
    }
    let names: Vec<_> = (0..slots.len()).map(|i| format!("c{i}")).collect();
    // The first row gives the columns their types, so those that it has no value for are NULLs of the right type.
    let first = slots.iter().map(|(effect, column)| {
        if *effect == cause {
            format!("old.{}", quote(column))
        } else {
            format!("(select x.{} from {} x limit 0)", quote(column), written(&reach.effects[*effect].table, schema))
        }
    });
    let mut with = format!(
        "with recursive rowbound_web (effect, {}) as (\n        select {cause}, {}",
        names.join(", "),
        first.collect::<Vec<_>>().join(", ")
    );
    for step in web.iter().filter(|s| slots.iter().any(|(effect, _)| *effect == s.result)) {
        let key = &catalog.keys[step.key];
        let values =
            slots.iter().map(|(effect, column)| if *effect == step.result { format!("d.{}", quote(column)) } else { "null".to_owned() });
        let _ = write!(
            with,
            "\n        union (select {}, {} from rowbound_web w join {} d on {} where w.effect = {} lock in share mode)",
            step.result,
            values.collect::<Vec<_>>().join(", "),
            written(&key.child, schema),
            meets(key.columns.iter(), &slots, step.cause),
            step.cause
        );
    }
    with.push_str(")\n      ");
    (with, slots)
}
