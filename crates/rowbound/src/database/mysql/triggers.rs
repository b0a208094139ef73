//! Bindings and ancestors -> triggers.
//!
//! In: the catalog and the bindings. Out: every trigger that should stand, with its body. What each promises:
//!
//! - It never makes the application's statement fail because a table or column was renamed or dropped (errors 1054 and 1146 are handled), and it goes on
//!   with its other columns. What it then misses shows as drift.
//! - It reads nothing but its row and, on an ancestor, the rows that the foreign keys are about to take; it writes candidates, nothing else.
//! - It records at least every name that its row releases. Changes are compared as bytes: to a collation `a.jpg` and `A.jpg ` may be one name.
//!
//! A body holds no comment: `mysqldump` writes triggers within `/*! */`, and the dump would not restore.
//!
//! Names within the trigger's own database are not qualified, so that a restored copy of a database writes into its own queue.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use super::{
    cascade::{Change, Reach, Routes, Step},
    catalog::{Catalog, Class, ForeignKey, Table, TableName, Trigger},
    quote,
    values::blob,
};
use crate::capture::Bound;

/// A trigger that should stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DesiredTrigger {
    pub name: String,
    pub table: TableName,
    /// `after delete`, ..
    pub event: &'static str,
    pub body: String,
}

/// The triggers for `bound`, by table.
pub(super) fn wanted(catalog: &Catalog, bound: &[Bound]) -> Vec<DesiredTrigger> {
    let reach = Reach::of(catalog, bound);
    let mut parts: BTreeMap<(TableName, &'static str), String> = BTreeMap::new();
    for b in bound {
        let Some((name, table)) = catalog.table_of(&b.binding.column) else { continue };
        let Some(column) = table.column(&b.binding.column.column) else { continue };
        let at = |event| (name.clone(), event);
        // A row that does not count has no value.
        let of = |row: &str| {
            let f = format!("{row}.{}", quote(&column.name));
            only(row, &b.binding.only).strip_prefix(" and ").map_or(f.clone(), |only| format!("if({only}, {f}, null)"))
        };
        let (old, new) = (of("old"), of("new"));
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
        let mut blocks = Vec::new();
        for (release, place) in &reach.releases {
            if let Some(routes) = reach.routes(cause, *release) {
                blocks.extend(copy(catalog, &reach, cause, *release, &bound[*place], &routes));
            }
        }
        // InnoDB goes through a parent's foreign keys in this order.
        blocks.sort_by(|(a, _), (b, _)| a.cmp(b));
        let blocks: String = blocks.into_iter().map(|(_, block)| block).collect();
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
            DesiredTrigger { name: name_of(catalog, &table, event), table, event, body }
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
pub(super) fn written(table: &TableName, schema: &str) -> String {
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
        Class::Text { .. } | Class::Json | Class::Uuid => format!("convert({alias}.{column} using utf8mb4)"),
        _ => format!("{alias}.{column}"),
    }
}

/// The condition that a row is one of those that `only` tells, to follow others; empty where all are.
pub(super) fn only(alias: &str, only: &BTreeMap<String, String>) -> String {
    let one = |(column, value): (&String, &String)| {
        format!(" and cast(convert({alias}.{} using utf8mb4) as binary) = {}", quote(column), blob(value.as_bytes()))
    };
    only.iter().map(one).collect()
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

/// Blocks that record the names that `cause` makes `b` release, each with the database and name of the foreign key that comes first.
fn copy(catalog: &Catalog, reach: &Reach<'_>, cause: usize, release: usize, b: &Bound, routes: &Routes) -> Vec<((String, String), String)> {
    let read = |lock| rows(catalog, reach, cause, release, b, routes, lock);
    let queue = candidates(catalog, &reach.effects[cause].table);
    let record = |cursor: &str| {
        format!(
            "open {cursor};\n    loop\n      fetch {cursor} into rowbound_value, rowbound_key;\n      insert into {queue} (binding, value, `key`, \
             event, released_at)\n        values ({}, rowbound_value, rowbound_key, 'cascade', utc_timestamp(6));\n    end loop;\n",
            b.id
        )
    };
    // A cursor and not INSERT .. SELECT, which would hold the queue's AUTO-INC lock to the end of the application's statement.
    let block = |(exclusive, shared): (String, String)| {
        let end = "declare exit handler for 1054, 1146, not found begin end;";
        format!(
            "  begin\n    declare rowbound_value longblob;\n    declare rowbound_key longtext;\n    declare rowbound_rows cursor for\n      \
             {exclusive};\n    {end}\n    declare exit handler for 1176, 1442 begin\n    declare rowbound_shared cursor for\n      {shared};\n    \
             {end}\n    {}    end;\n    {}  end;\n",
            record("rowbound_shared"),
            record("rowbound_rows")
        )
    };
    let named = |step: &Step| (catalog.keys[step.key].child.schema.clone(), catalog.keys[step.key].name.clone());
    let firsts: Vec<_> = match routes {
        Routes::Paths(paths) => paths.iter().map(|path| path.first().map(named).unwrap_or_default()).collect(),
        Routes::Web(web) => vec![web.iter().filter(|s| s.cause == cause).map(named).min().unwrap_or_default()],
    };
    firsts.into_iter().zip(read(Lock::OfCascade).into_iter().zip(read(Lock::Shared)).map(block)).collect()
}

/// How a trigger reads the rows that a foreign key is about to take. Always with a lock: a plain read would show what the application's transaction
/// saw when it began (REPEATABLE READ), and the foreign key takes also what others committed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lock {
    /// The lock that the foreign key takes next, on the same rows in the same order: by its index, and from the parent to the child. A shared lock would have
    /// to become an exclusive one, and with a writer that waits in between that is a deadlock. Rows of the trigger's own table are read with a
    /// shared lock all the same: the server refuses any other (error 1442).
    ///
    /// It is not the best for everybody. On MariaDB, under READ COMMITTED, three sessions that delete parents and insert them again beside three that update the
    /// children *by the foreign key's index* had 1,537 deadlocks; 713 without triggers, 746 with a shared lock. There a locking read passes entries of deleted rows
    /// that are not purged yet, and the foreign key's own check takes a shared lock on them. So, it seems, a session that has waited for a row until it was deleted,
    /// keeps the lock on it and waits for the row that came after it, which the trigger has locked; and the foreign key waits for that session. No lock
    /// that a trigger can take under READ COMMITTED is in the way of that. A shared lock is no better choice there: updates by the child's own key, which are the
    /// usual ones, would probably have deadlocks that are not there without triggers. `soak_deadlocks_with_a_shared_lock_on_mariadb` measures both.
    OfCascade,
    /// A shared lock, by whatever index. For an index that has gone (error 1176), and for a statement that itself works on a table that is read
    /// here (error 1442), such as `DELETE up, t FROM up JOIN t`.
    Shared,
}

impl Lock {
    /// What begins a SELECT.
    fn select(self) -> &'static str {
        if self == Lock::OfCascade { "select straight_join" } else { "select" }
    }

    /// A table and its alias, read by the key's index.
    fn table(self, table: &TableName, schema: &str, alias: &str, key: &ForeignKey) -> String {
        let index = key.index.as_ref().filter(|_| self == Lock::OfCascade);
        format!("{} {alias}{}", written(table, schema), index.map(|i| format!(" force index ({})", quote(i))).unwrap_or_default())
    }

    /// What ends a SELECT from these tables, in a trigger on `own`.
    fn clause<'t>(self, mut tables: impl Iterator<Item = &'t TableName>, own: &TableName) -> &'static str {
        if self == Lock::OfCascade && tables.all(|t| t != own) { "for update" } else { "lock in share mode" }
    }
}

/// The rows of `b` that `cause` reaches, as one SELECT for each way.
fn rows(catalog: &Catalog, reach: &Reach<'_>, cause: usize, release: usize, b: &Bound, routes: &Routes, lock: Lock) -> Vec<String> {
    let Some((name, table)) = catalog.table_of(&b.binding.column) else { return Vec::new() };
    let Some(column) = table.column(&b.binding.column.column) else { return Vec::new() };
    let own = &reach.effects[cause].table;
    let schema = &own.schema;
    let columns =
        |alias: &str| format!("{}, {}", value(alias, &column.name, &column.class), key(alias, table).unwrap_or_else(|| "null".to_owned()));
    let filled = |alias: &str| format!("length({alias}.{}) > 0{}", quote(&column.name), only(alias, &b.binding.only));
    let select = lock.select();
    match routes {
        Routes::Paths(paths) => {
            let along = |path: &Vec<Step>| {
                let mut from = String::new();
                let mut first = String::new();
                for (i, step) in path.iter().enumerate() {
                    let key = &catalog.keys[step.key];
                    let alias = format!("d{i}");
                    let table = lock.table(&key.child, schema, &alias, key);
                    let on = |parent: &str| {
                        let pairs = key.columns.iter().map(|(c, p)| format!("{alias}.{} = {parent}.{}", quote(c), quote(p)));
                        pairs.collect::<Vec<_>>().join(" and ")
                    };
                    if i == 0 {
                        from = table;
                        first = on("old");
                    } else {
                        let _ = write!(from, " join {table} on {}", on(&format!("d{}", i - 1)));
                    }
                }
                let last = format!("d{}", path.len() - 1);
                let clause = lock.clause(path.iter().map(|s| &catalog.keys[s.key].child), own);
                format!("{select} {} from {from} where {first} and {} {clause}", columns(&last), filled(&last))
            };
            paths.iter().map(along).collect()
        }
        Routes::Web(web) => {
            let (with, slots) = recursion(catalog, reach, cause, web, lock);
            let last = web.iter().filter(|s| s.result == release).map(|step| {
                let key = &catalog.keys[step.key];
                format!(
                    "({select} {} from rowbound_web w join {} on {} where w.effect = {} and {} {})",
                    columns("d"),
                    lock.table(name, schema, "d", key),
                    meets(key.columns.iter(), &slots, step.cause),
                    step.cause,
                    filled("d"),
                    lock.clause(std::iter::once(name), own)
                )
            });
            vec![with + &last.collect::<Vec<_>>().join("\n      union all ")]
        }
    }
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
fn recursion(catalog: &Catalog, reach: &Reach<'_>, cause: usize, web: &BTreeSet<Step>, lock: Lock) -> (String, Slots) {
    let own = &reach.effects[cause].table;
    let schema = &own.schema;
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
            "\n        union ({} {}, {} from rowbound_web w join {} on {} where w.effect = {} {})",
            lock.select(),
            step.result,
            values.collect::<Vec<_>>().join(", "),
            lock.table(&key.child, schema, "d", key),
            meets(key.columns.iter(), &slots, step.cause),
            step.cause,
            lock.clause(std::iter::once(&key.child), own)
        );
    }
    with.push_str(")\n      ");
    (with, slots)
}
