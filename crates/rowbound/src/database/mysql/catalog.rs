//! The schema as it is now: bound tables, everything that cascades into them, and our triggers on all of these.
//!
//! In: the bindings. Out: a [`Catalog`]. Names are spelled as the server spells them, which may differ from the plan's
//! (`lower_case_table_names`, and columns have no case).

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{AssertSqlSafe, MySqlConnection, mysql::MySqlRow};

use super::{Flavor, bytes, fault, int, literal, maybe_text, quote, text};
use crate::{
    binding::Column,
    capture::Bound,
    database::with_tables,
    error::{Error, Kind, Result},
};

/// A table, as the server spells it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct TableName {
    pub schema: String,
    pub table: String,
}

impl std::fmt::Display for TableName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

/// What a column holds, as far as names go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Class {
    /// Characters of this character set and collation.
    Text { charset: String, collation: String },
    /// Bytes.
    Bytes,
    /// A JSON document, which is a type of MySQL's. MariaDB's is a text.
    Json,
    /// MariaDB's UUID, whose text is the name.
    Uuid,
    /// Something else, by its type.
    Other(String),
}

/// A column.
#[derive(Debug, Clone)]
pub(super) struct ColumnInfo {
    pub name: String,
    pub class: Class,
}

/// A table's columns, in order, and its primary key, in the key's order.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    pub columns: Vec<ColumnInfo>,
    pub key: Vec<String>,
}

impl Table {
    pub(super) fn column(&self, name: &str) -> Option<&ColumnInfo> {
        self.columns.iter().find(|c| c.name == name).or_else(|| self.columns.iter().find(|c| c.name.to_lowercase() == name.to_lowercase()))
    }
}

/// What a foreign key does to its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Refuse,
    Cascade,
    SetNull,
}

impl Action {
    fn read(rule: &str) -> Self {
        match rule {
            "CASCADE" => Action::Cascade,
            // InnoDB knows no SET DEFAULT; should it learn it, the column's value goes as with SET NULL.
            "SET NULL" | "SET DEFAULT" => Action::SetNull,
            _ => Action::Refuse,
        }
    }
}

/// A foreign key.
#[derive(Debug, Clone)]
pub(super) struct ForeignKey {
    pub name: String,
    pub child: TableName,
    pub parent: TableName,
    /// The child's column and the parent's.
    pub columns: Vec<(String, String)>,
    pub on_delete: Action,
    pub on_update: Action,
    /// The child's index by which its rows are found: see [`Catalog::find_indexes`].
    pub index: Option<String>,
}

/// A trigger of ours.
#[derive(Debug, Clone)]
pub(super) struct Trigger {
    pub schema: String,
    pub name: String,
    pub table: TableName,
    /// `before delete`, `after update`, ..
    pub event: String,
    pub definer: String,
    pub body: String,
    /// SHA-256 of the body, by the server.
    pub digest: String,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Catalog {
    /// The database of the URL.
    pub database: String,
    pub tables: BTreeMap<TableName, Table>,
    pub keys: Vec<ForeignKey>,
    pub triggers: Vec<Trigger>,
    /// Which tables of ours are there.
    pub ours: BTreeSet<String>,
}

/// Tables that were part of a catalog before.
#[derive(Debug, Default)]
pub(super) struct Known(std::sync::Mutex<BTreeSet<TableName>>);

impl Known {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<TableName>> {
        // It is only a hint: one that a panic left behind is as good as any.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A statement without parameters: one round trip instead of the three that preparing takes.
async fn ask(conn: &mut MySqlConnection, sql: String) -> Result<Vec<MySqlRow>> {
    sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(conn).await.map_err(fault)
}

/// `(a = 'x' and b in ('y', 'z')) or ..`: information_schema is quick only for constant names.
pub(super) fn among(schema_column: &str, table_column: &str, tables: &BTreeSet<TableName>) -> String {
    let mut schemas: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for t in tables {
        schemas.entry(&t.schema).or_default().push(literal(&t.table));
    }
    let parts: Vec<_> = schemas
        .iter()
        .map(|(s, names)| format!("({schema_column} = {} and {table_column} in ({}))", literal(s), names.join(", ")))
        .collect();
    parts.join(" or ")
}

impl Catalog {
    /// Reads it. Takes no lock that an application's statement could wait for. `known` are tables that were part of it the last time: they are asked
    /// for at once instead of a generation at a time.
    pub(super) async fn load(conn: &mut MySqlConnection, database: &str, bound: &[Bound], known: &Known) -> Result<Catalog> {
        let bound = &with_tables(bound);
        let mut catalog = Catalog {
            database: database.to_owned(),
            tables: BTreeMap::new(),
            keys: Vec::new(),
            triggers: Vec::new(),
            ours: BTreeSet::new(),
        };
        let first: BTreeSet<TableName> = bound
            .iter()
            .map(|b| TableName {
                schema: b.binding.column.schema.clone().unwrap_or_else(|| database.to_owned()),
                table: b.binding.column.table.clone(),
            })
            .collect();
        let mut asked = BTreeSet::new();
        let mut next = first;
        next.extend(known.lock().clone());
        // From children to parents, along every key that does more than refuse.
        while !next.is_empty() {
            asked.extend(next.iter().cloned());
            let found = catalog.load_tables(conn, &next).await?;
            let parents = catalog.load_keys(conn, &found).await?;
            next = parents.difference(&asked).cloned().collect();
        }
        catalog.prune(bound);
        known.lock().extend(catalog.tables.keys().cloned());
        catalog.load_triggers(conn).await?;
        let sql = format!(
            "select table_name from information_schema.tables where table_schema = {} \
             and table_name in ('rowbound_installation', 'rowbound_candidate', 'rowbound_ledger', 'rowbound_follower', 'rowbound_delivery', \
                                'rowbound_upkeep', 'rowbound_worker')",
            literal(database)
        );
        for row in ask(conn, sql).await? {
            catalog.ours.insert(text(&row, 0)?);
        }
        Ok(catalog)
    }

    /// Forgets tables that no bound table leads to (any more).
    fn prune(&mut self, bound: &[Bound]) {
        let mut reached: BTreeSet<TableName> = BTreeSet::new();
        let mut open: Vec<TableName> =
            bound.iter().filter_map(|b| self.table_of(&b.binding.column)).map(|(name, _)| name.clone()).collect();
        while let Some(table) = open.pop() {
            if reached.insert(table.clone()) {
                open.extend(self.keys.iter().filter(|k| k.child == table).map(|k| k.parent.clone()));
            }
        }
        self.tables.retain(|name, _| reached.contains(name));
        self.keys.retain(|k| reached.contains(&k.child));
    }

    async fn load_tables(&mut self, conn: &mut MySqlConnection, names: &BTreeSet<TableName>) -> Result<BTreeSet<TableName>> {
        let sql = format!(
            "select table_schema, table_name, column_name, data_type, character_set_name, collation_name \
             from information_schema.columns where {} order by table_schema, table_name, ordinal_position",
            among("table_schema", "table_name", names)
        );
        let mut found = BTreeSet::new();
        for row in ask(conn, sql).await? {
            let table = TableName { schema: text(&row, 0)?, table: text(&row, 1)? };
            let data_type = text(&row, 3)?.to_ascii_lowercase();
            let class = match (data_type.as_str(), maybe_text(&row, 4)?, maybe_text(&row, 5)?) {
                ("char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext", Some(charset), Some(collation)) => {
                    Class::Text { charset, collation }
                }
                // `binary(n)` is none: it pads names with NUL bytes, and a padded name is another.
                ("varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob", ..) => Class::Bytes,
                ("json", ..) => Class::Json,
                ("uuid", ..) => Class::Uuid,
                _ => Class::Other(data_type),
            };
            let info = ColumnInfo { name: text(&row, 2)?, class };
            found.insert(table.clone());
            self.tables.entry(table).or_default().columns.push(info);
        }
        Ok(found)
    }

    async fn load_keys(&mut self, conn: &mut MySqlConnection, names: &BTreeSet<TableName>) -> Result<BTreeSet<TableName>> {
        let mut parents = BTreeSet::new();
        if names.is_empty() {
            return Ok(parents);
        }
        let sql = format!(
            "select table_schema, table_name, constraint_name, column_name, referenced_table_schema, referenced_table_name, \
                    referenced_column_name \
             from information_schema.key_column_usage where ({}) and (constraint_name = 'PRIMARY' or referenced_table_name is not null) \
             order by table_schema, table_name, constraint_name, ordinal_position",
            among("table_schema", "table_name", names)
        );
        let usage = ask(conn, sql).await?;
        let sql = format!(
            "select constraint_schema, table_name, constraint_name, delete_rule, update_rule \
             from information_schema.referential_constraints where {}",
            among("constraint_schema", "table_name", names)
        );
        let mut rules = BTreeMap::new();
        for row in ask(conn, sql).await? {
            let actions = (Action::read(&text(&row, 3)?), Action::read(&text(&row, 4)?));
            rules.insert((text(&row, 0)?, text(&row, 1)?, text(&row, 2)?), actions);
        }
        let mut keys: BTreeMap<(TableName, String), ForeignKey> = BTreeMap::new();
        for row in usage {
            let child = TableName { schema: text(&row, 0)?, table: text(&row, 1)? };
            let (name, column) = (text(&row, 2)?, text(&row, 3)?);
            let Some(parent) = maybe_text(&row, 5)? else {
                if let Some(table) = self.tables.get_mut(&child) {
                    table.key.push(column);
                }
                continue;
            };
            let parent = TableName { schema: text(&row, 4)?, table: parent };
            // A key whose rules are not shown is taken for the worst.
            let (on_delete, on_update) = rules
                .get(&(child.schema.clone(), child.table.clone(), name.clone()))
                .copied()
                .unwrap_or((Action::Cascade, Action::Cascade));
            if (on_delete, on_update) == (Action::Refuse, Action::Refuse) {
                continue;
            }
            parents.insert(parent.clone());
            keys.entry((child.clone(), name.clone()))
                .or_insert_with(|| ForeignKey { name, child, parent, columns: Vec::new(), on_delete, on_update, index: None })
                .columns
                .push((column, text(&row, 6)?));
        }
        self.keys.extend(keys.into_values());
        Ok(parents)
    }

    async fn load_triggers(&mut self, conn: &mut MySqlConnection) -> Result<()> {
        let names: BTreeSet<_> = self.tables.keys().cloned().collect();
        if names.is_empty() {
            return Ok(());
        }
        let filter = among("event_object_schema", "event_object_table", &names);
        self.triggers = read_triggers(conn, &filter).await?;
        Ok(())
    }

    /// Finds each key's index, which a trigger's body names. For those who make triggers: a batch does not ask.
    pub(super) async fn find_indexes(&mut self, conn: &mut MySqlConnection, flavor: Flavor) -> Result<()> {
        let children: BTreeSet<_> = self.keys.iter().map(|k| k.child.clone()).collect();
        if children.is_empty() {
            return Ok(());
        }
        let used = match flavor {
            Flavor::Mysql => "is_visible = 'YES'",
            Flavor::Mariadb => "ignored = 'NO'",
        };
        let sql = format!(
            "select table_schema, table_name, index_name, column_name, sub_part is null from information_schema.statistics \
             where ({}) and index_type = 'BTREE' and {used} order by table_schema, table_name, index_name, seq_in_index",
            among("table_schema", "table_name", &children)
        );
        let mut indexes: BTreeMap<(TableName, String), Vec<Option<String>>> = BTreeMap::new();
        for row in ask(conn, sql).await? {
            let table = TableName { schema: text(&row, 0)?, table: text(&row, 1)? };
            // Neither an expression nor a part of a column is of use to a foreign key.
            let column = maybe_text(&row, 3)?.filter(|_| int(&row, 4).is_ok_and(|whole| whole != 0));
            indexes.entry((table, text(&row, 2)?)).or_default().push(column);
        }
        for key in &mut self.keys {
            let leads = |columns: &[Option<String>]| {
                columns.len() >= key.columns.len() && key.columns.iter().zip(columns).all(|((wanted, _), is)| is.as_ref() == Some(wanted))
            };
            let fit = indexes.iter().filter(|((table, _), columns)| *table == key.child && leads(columns)).map(|((_, name), _)| name);
            // InnoDB goes through a table's indexes and takes the first that fits. The clustered one is the first; then the key's own, which was made for it.
            key.index = fit.min_by_key(|name| (*name != "PRIMARY", **name != key.name, *name)).cloned();
        }
        Ok(())
    }

    /// The table of a bound column, as the server spells it, if it is there.
    pub(super) fn table_of(&self, column: &Column) -> Option<(&TableName, &Table)> {
        let schema = column.schema.as_deref().unwrap_or(&self.database);
        let exact = TableName { schema: schema.to_owned(), table: column.table.clone() };
        self.tables.get_key_value(&exact).or_else(|| {
            // With lower_case_table_names the server finds `Blog` as `blog`.
            self.tables
                .iter()
                .find(|(name, _)| name.schema.eq_ignore_ascii_case(schema) && name.table.to_lowercase() == column.table.to_lowercase())
        })
    }
}

/// The triggers of ours that `filter` lets through.
pub(super) async fn read_triggers(conn: &mut MySqlConnection, filter: &str) -> Result<Vec<Trigger>> {
    let sql = format!(
        "select trigger_schema, trigger_name, event_object_schema, event_object_table, \
                lower(concat(action_timing, ' ', event_manipulation)), definer, action_statement, sha2(action_statement, 256) \
         from information_schema.triggers where ({filter}) and trigger_name like 'rowbound|_%' escape '|' \
         order by trigger_schema, trigger_name"
    );
    let mut triggers = Vec::new();
    for row in ask(conn, sql).await? {
        // To a session that began before TRIGGER was granted to it, MariaDB shows a trigger without what it does.
        let (Some(definer), Some(body), Some(digest)) = (maybe_text(&row, 5)?, maybe_text(&row, 6)?, maybe_text(&row, 7)?) else {
            return Err(Error::new(Kind::Permission, "the database does not show what a trigger does")
                .with("trigger", format_args!("{}.{}", text(&row, 0)?, text(&row, 1)?))
                .hint(format!("GRANT TRIGGER ON {}.* to the account of `database`, then start again", quote(&text(&row, 0)?))));
        };
        triggers.push(Trigger {
            schema: text(&row, 0)?,
            name: text(&row, 1)?,
            table: TableName { schema: text(&row, 2)?, table: text(&row, 3)? },
            event: text(&row, 4)?,
            definer,
            body,
            digest,
        });
    }
    Ok(triggers)
}

/// Facts about bound tables that only `inspect` asks for: they cost more.
#[derive(Debug, Clone)]
pub(super) struct TableFacts {
    /// `BASE TABLE`, `VIEW`, ..
    pub kind: String,
    pub engine: String,
    /// As the server estimates.
    pub rows: i64,
    /// Columns that lead an index.
    pub indexed: BTreeSet<String>,
}

/// Reads them.
pub(super) async fn table_facts(conn: &mut MySqlConnection, name: &TableName) -> Result<Option<TableFacts>> {
    let row = sqlx::query(
        "select table_type, coalesce(engine, ''), cast(coalesce(table_rows, 0) as signed) from information_schema.tables \
         where table_schema = ? and table_name = ?",
    )
    .bind(&name.schema)
    .bind(&name.table)
    .fetch_optional(&mut *conn)
    .await
    .map_err(fault)?;
    let Some(row) = row else { return Ok(None) };
    let leading =
        sqlx::query("select column_name from information_schema.statistics where table_schema = ? and table_name = ? and seq_in_index = 1")
            .bind(&name.schema)
            .bind(&name.table)
            .fetch_all(&mut *conn)
            .await
            .map_err(fault)?;
    let indexed = leading.iter().map(|r| bytes(r, 0).map(|b| b.map(super::lossy).unwrap_or_default())).collect::<Result<_>>()?;
    Ok(Some(TableFacts { kind: text(&row, 0)?, engine: text(&row, 1)?, rows: int(&row, 2)?, indexed }))
}

/// The error for a bound column that is not there.
pub(super) fn missing(b: &Bound, what: &str) -> Error {
    Error::new(Kind::Schema, format!("the {what} of a binding does not exist"))
        .with("binding", &b.binding.column)
        .hint("correct `column` in rowbound.toml; a dropped column's binding is removed from it")
}
