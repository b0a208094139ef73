//! What the catalogs say of the bound tables and columns.
//!
//! In: bound bindings. Out: [`Table`]s with everything that triggers and checks need to know, each name written so that no
//! `search_path` matters. Changes nothing and takes no lock on a table of the application.

use std::collections::BTreeMap;

use sqlx::{PgConnection, Row, postgres::PgRow};

use super::fault::failed;
use crate::{
    binding::{Body, Column, Reading},
    capture::Bound,
    error::{Error, Kind, Result},
};

/// A column as the catalogs know it; what is missing is `None`.
#[derive(Debug)]
pub(super) struct Resolved {
    pub oid: Option<i64>,
    pub schema: String,
    pub name: String,
    /// `r` table, `p` partitioned table, `v` view, `m` materialized view, `f` foreign table.
    pub kind: String,
    pub temporary: bool,
    pub unlogged: bool,
    pub attnum: Option<i32>,
    pub type_name: String,
    /// The type beneath all domains: schema and name.
    pub base: (String, String),
    pub generated: bool,
    /// Generated when read (PostgreSQL 18: <https://www.postgresql.org/docs/18/trigger-definition.html>).
    pub virtual_: bool,
    /// Row security hides rows from us.
    pub filtered: bool,
    /// We may use the schema.
    pub usable: bool,
    pub rows: f64,
    pub indexed: bool,
    pub subscribed: bool,
    pub has_parent: bool,
    pub key: Vec<String>,
}

impl Resolved {
    /// `"schema"."table"`.
    pub fn table_sql(&self) -> String {
        format!("{}.{}", ident(&self.schema), ident(&self.name))
    }

    /// Whether values of the type are text that a name can be compared with.
    pub fn is_text(&self) -> bool {
        matches!((&*self.base.0, &*self.base.1), ("pg_catalog", "text" | "varchar" | "bpchar")) || self.base.1 == "citext"
    }

    /// Whether it is `uuid`, whose text is the name.
    pub fn is_uuid(&self) -> bool {
        (&*self.base.0, &*self.base.1) == ("pg_catalog", "uuid")
    }

    /// Whether it is `bytea`, whose bytes are the name as UTF-8.
    pub fn is_bytes(&self) -> bool {
        (&*self.base.0, &*self.base.1) == ("pg_catalog", "bytea")
    }

    /// The value of the column `f` as something whose bytes are the name's: a text, or bytes.
    pub fn value_sql(&self, f: &str) -> String {
        if self.is_bytes() { f.to_owned() } else { format!("{f}::text") }
    }

    /// Whether it is `json` or `jsonb`.
    pub fn is_json(&self) -> bool {
        matches!((&*self.base.0, &*self.base.1), ("pg_catalog", "json" | "jsonb"))
    }

    /// Whether it is an array of text.
    pub fn is_array(&self) -> bool {
        matches!((&*self.base.0, &*self.base.1), ("pg_catalog", "_text" | "_varchar" | "_bpchar")) || self.base.1 == "_citext"
    }

    /// The type's own equality, and the array to put on its right side, so that an index on the column is of use. Our
    /// `search_path` does not hold the schema of an extension's operator, hence `operator()`.
    pub fn equals_any(&self, param: &str) -> String {
        if self.is_bytes() {
            return format!("= any (array(select convert_to(v, 'UTF8') from unnest({param}::text[]) as v))");
        }
        let (schema, name) = (&self.base.0, if self.base.1 == "varchar" { "text" } else { &self.base.1 });
        format!("operator({s}.=) any ({param}::text[]::{s}.{}[])", ident(name), s = ident(schema))
    }
}

/// A table in which rows of a bound table live.
#[derive(Debug)]
pub(super) struct Member {
    pub root: i64,
    pub oid: i64,
    pub schema: String,
    pub name: String,
    pub kind: String,
    pub owned: bool,
    pub can_trigger: bool,
    pub can_select: bool,
    pub meddled: bool,
}

impl Member {
    /// `"schema"."table"`.
    pub fn sql(&self) -> String {
        format!("{}.{}", ident(&self.schema), ident(&self.name))
    }
}

/// A bound column of a [`Table`].
#[derive(Debug)]
pub(super) struct BoundColumn {
    pub id: i32,
    pub storage: String,
    pub column: String,
    pub generated: bool,
    /// `bytea`: bytes that may be no text.
    pub bytes: bool,
    /// Only rows whose other columns have these values count.
    pub only: BTreeMap<String, String>,
}

/// The condition that a row is one of those that `only` tells, to follow others; empty where all are.
pub(super) fn only_sql(row: &str, only: &BTreeMap<String, String>) -> String {
    only.iter().map(|(column, value)| format!(" and {row}.{}::text collate \"C\" = {}", ident(column), literal(value))).collect()
}

impl BoundColumn {
    /// The value in `row` as text; null in a row that does not count.
    pub fn value(&self, row: &str) -> String {
        let f = format!("{row}.{}", ident(&self.column));
        let value = if self.bytes { format!("convert_from({f}, 'UTF8')") } else { format!("{f}::text") };
        match only_sql(row, &self.only).strip_prefix(" and ") {
            Some(only) => format!("case when {only} then {value} end"),
            None => value,
        }
    }

    /// The columns that it depends on.
    pub fn columns(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.column).chain(self.only.keys())
    }
}

/// A bound table with all its bound columns.
#[derive(Debug)]
pub(super) struct Table {
    pub oid: i64,
    /// `p`: partitioned.
    pub partitioned: bool,
    pub has_parent: bool,
    pub subscribed: bool,
    /// The primary key's columns, in order; may be empty.
    pub key: Vec<String>,
    /// By the binding's number.
    pub columns: Vec<BoundColumn>,
    /// All its columns are bound with [`Body::Fast`].
    pub fast: bool,
    /// Itself first, then what lies below it.
    pub members: Vec<Member>,
}

impl Table {
    /// Names its functions: the lowest number bound to it.
    pub fn number(&self) -> i32 {
        self.columns[0].id
    }

    /// Whether one trigger per DELETE statement sees every deleted row: rows of no other table are reached through this one,
    /// none of its own through another, and no subscription applies changes row by row.
    pub fn whole_statements(&self) -> bool {
        // Bytes that are no text would fail the statement for all its rows.
        let bytes = self.columns.iter().any(|c| c.bytes);
        !self.partitioned && self.members.len() == 1 && !self.has_parent && !self.subscribed && !bytes
    }
}

/// Looks up every binding's column, in order.
pub(super) async fn resolve(conn: &mut PgConnection, columns: &[&Column]) -> Result<Vec<Resolved>> {
    let rows = sqlx::query(include_str!("resolve.sql"))
        .bind(columns.iter().map(|c| c.schema.clone()).collect::<Vec<_>>())
        .bind(columns.iter().map(|c| c.table.clone()).collect::<Vec<_>>())
        .bind(columns.iter().map(|c| c.column.clone()).collect::<Vec<_>>())
        .fetch_all(conn)
        .await
        .map_err(|e| failed("cannot look up the bound columns", e))?;
    rows.iter().map(resolved).collect::<sqlx::Result<_>>().map_err(|e| failed("cannot read the catalogs", e))
}

fn resolved(row: &PgRow) -> sqlx::Result<Resolved> {
    let text = |name: &str| row.try_get::<Option<String>, _>(name).map(Option::unwrap_or_default);
    let persistence = text("persistence")?;
    Ok(Resolved {
        oid: row.try_get("oid")?,
        schema: text("schema")?,
        name: text("name")?,
        kind: text("kind")?,
        temporary: persistence == "t",
        unlogged: persistence == "u",
        attnum: row.try_get("attnum")?,
        type_name: text("type")?,
        base: (text("base_schema")?, text("base_name")?),
        generated: row.try_get("generated")?,
        virtual_: row.try_get("virtual")?,
        filtered: row.try_get("filtered")?,
        usable: row.try_get("usable")?,
        rows: row.try_get("rows")?,
        indexed: row.try_get("indexed")?,
        subscribed: row.try_get("subscribed")?,
        has_parent: row.try_get("has_parent")?,
        key: row.try_get("key")?,
    })
}

/// The tables below `roots`, each root's own first.
pub(super) async fn members(conn: &mut PgConnection, roots: &[i64]) -> Result<Vec<Member>> {
    let rows = sqlx::query(include_str!("members.sql"))
        .bind(roots)
        .fetch_all(conn)
        .await
        .map_err(|e| failed("cannot look up partitions and children", e))?;
    let member = |row: &PgRow| -> sqlx::Result<Member> {
        Ok(Member {
            root: row.try_get("root")?,
            oid: row.try_get("oid")?,
            schema: row.try_get("schema")?,
            name: row.try_get("name")?,
            kind: row.try_get("kind")?,
            owned: row.try_get("owned")?,
            can_trigger: row.try_get("can_trigger")?,
            can_select: row.try_get("can_select")?,
            meddled: row.try_get("meddled")?,
        })
    };
    rows.iter().map(member).collect::<sqlx::Result<_>>().map_err(|e| failed("cannot read the catalogs", e))
}

/// Looks up everything that triggers need to know. Two spellings of one table are one table.
///
/// # Errors
/// [`Kind::Schema`] for a column that capture cannot be put on.
pub(super) async fn tables(conn: &mut PgConnection, bound: &[Bound]) -> Result<Vec<Table>> {
    let mut bound: Vec<&Bound> = bound.iter().filter(|b| b.binding.query.is_none()).collect();
    bound.sort_by_key(|b| b.id);
    let columns: Vec<&Column> = bound.iter().map(|b| &b.binding.column).collect();
    let resolved = resolve(conn, &columns).await?;
    let mut tables: BTreeMap<i64, Table> = BTreeMap::new();
    let role: String =
        sqlx::query_scalar("select current_user::text").fetch_one(&mut *conn).await.map_err(|e| failed("cannot read the role", e))?;
    for (b, r) in bound.iter().zip(resolved) {
        let oid = usable(&b.binding.column, &r, &b.binding.reading)?;
        readable(&b.binding.column, &r, &role)?;
        let fast = b.binding.body == Body::Fast && !r.is_bytes();
        let bytes = r.is_bytes();
        let table = tables.entry(oid).or_insert_with(|| Table {
            oid,
            partitioned: r.kind == "p",
            has_parent: r.has_parent,
            subscribed: r.subscribed,
            key: r.key,
            columns: Vec::new(),
            fast,
            members: Vec::new(),
        });
        table.fast &= fast;
        table.columns.push(BoundColumn {
            id: b.id,
            storage: b.binding.storage.clone(),
            column: b.binding.column.column.clone(),
            generated: r.generated,
            bytes,
            only: b.binding.only.clone(),
        });
    }
    let roots: Vec<i64> = tables.keys().copied().collect();
    for member in members(conn, &roots).await? {
        if member.oid != member.root && tables.contains_key(&member.oid) {
            return Err(Error::new(Kind::Schema, "two bound tables hold the same rows: one lies below the other")
                .with("table", member.sql())
                .hint("bind only the upper one; its binding covers its partitions and children"));
        }
        if member.kind == "f" {
            return Err(Error::new(Kind::Schema, "a foreign table lies below a bound table: its changes are not seen here")
                .with("table", member.sql())
                .hint("bind the table on its own server, or detach it"));
        }
        if let Some(table) = tables.get_mut(&member.root) {
            table.members.push(member);
        }
    }
    Ok(tables.into_values().collect())
}

/// The table's oid, if capture can be put on it and the column holds text.
pub(super) fn usable(column: &Column, r: &Resolved, reading: &Reading) -> Result<i64> {
    let in_context = |e: Error| e.with("binding", column);
    let Some(oid) = r.oid else {
        return Err(in_context(
            Error::new(Kind::Schema, "no such table")
                .hint("write schema.table.column if the table is not in the connecting role's search_path; names are case-sensitive"),
        ));
    };
    let what = match &*r.kind {
        "r" | "p" => None,
        "v" => Some("a view"),
        "m" => Some("a materialized view"),
        "f" => Some("a foreign table"),
        _ => Some("no table"),
    };
    if let Some(what) = what {
        return Err(in_context(
            Error::new(Kind::Schema, format!("this is {what}, on which triggers do not see the rows change"))
                .hint("bind the base table in which the rows are stored"),
        ));
    }
    if r.temporary {
        return Err(in_context(Error::new(Kind::Schema, "this is a temporary table")));
    }
    if r.attnum.is_none() {
        return Err(in_context(Error::new(Kind::Schema, "the table has no such column").with("table", r.table_sql())));
    }
    if r.virtual_ {
        return Err(in_context(
            Error::new(Kind::Schema, "the column is generated when it is read: triggers do not see its value")
                .hint("make it a stored generated column"),
        ));
    }
    let hint = match reading {
        Reading::Array { .. } if r.is_array() => None,
        Reading::Array { .. } => Some("kind = \"array\" goes with text[] and varchar[]"),
        Reading::Json { .. } | Reading::Text(_) if r.is_json() => None,
        _ if r.is_text() => None,
        Reading::Name if r.is_uuid() => None,
        Reading::Name | Reading::Url { .. } | Reading::Raw { .. } if r.is_bytes() => None,
        _ if r.is_array() => Some("a list of names is kind = \"array\""),
        _ if r.is_json() => Some("write kind = \"json\" and a `path`"),
        _ => Some("bind a column of type text, varchar, char, citext, uuid, bytea or a domain over one of them"),
    };
    if let Some(hint) = hint {
        return Err(in_context(Error::new(Kind::Schema, "the column's type holds no names").with("type", &r.type_name).hint(hint)));
    }
    Ok(oid)
}

/// Whether we see every row of the table.
///
/// # Errors
/// [`Kind::Permission`] names the right that is missing.
pub(super) fn readable(column: &Column, r: &Resolved, role: &str) -> Result<()> {
    if !r.usable {
        return Err(Error::new(Kind::Permission, "the table's schema may not be used").with("binding", column).hint(format!(
            "GRANT USAGE ON SCHEMA {} TO {}",
            ident(&r.schema),
            ident(role)
        )));
    }
    if r.filtered {
        return Err(Error::new(Kind::Permission, "row security may hide rows of this table, and with them references to files")
            .with("binding", column)
            .hint(format!(
                "ALTER ROLE {} BYPASSRLS, or connect as the owner of the table where it has no FORCE ROW LEVEL SECURITY",
                ident(role)
            )));
    }
    Ok(())
}

/// Whether a collation of a column of the tables $1 sorts otherwise than when indexes were
/// built: after an upgrade of the C library or of ICU a btree on text misses rows (<https://wiki.postgresql.org/wiki/Locale_data_changes>).
/// Whatever has a collation version and does not match counts. To ask the library for a version takes its time (20 ms for all eight hundred of them): only
/// those in use are asked for.
const COLLATIONS: &str = "with used as materialized (select oid, collversion from pg_collation where collversion is not null
        and oid in (select attcollation from pg_attribute where attrelid = any ($1::int8[]::oid[])))
    select exists (select from used where collversion is distinct from pg_collation_actual_version(oid))";

/// The same for the database's own collation; PostgreSQL 14 does not keep its version.
const DATABASE_COLLATION: &str =
    "select datcollversion is not null and datcollversion is distinct from pg_database_collation_actual_version(oid)
    from pg_database where datname = current_database()";

/// Whether indexes on text cannot be trusted.
pub(super) async fn indexes_are_stale(conn: &mut PgConnection, tables: &[i64]) -> Result<bool> {
    let error = |e| failed("cannot compare the versions of collations", e);
    if sqlx::query_scalar(COLLATIONS).bind(tables).fetch_one(&mut *conn).await.map_err(error)? {
        return Ok(true);
    }
    if conn.server_version_num().is_none_or(|v| v < 150_000) {
        return Ok(false);
    }
    sqlx::query_scalar(DATABASE_COLLATION).fetch_one(conn).await.map_err(error)
}

/// An identifier that is taken as it is.
pub(super) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string literal that means the same under every `standard_conforming_strings`.
pub(super) fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}
