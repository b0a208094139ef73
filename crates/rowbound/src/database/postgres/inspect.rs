//! What `attach` says before it changes anything.

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqlSafeStr, Statement};

use super::{
    fault::failed,
    tables::{self, Member, Table, ident, indexes_are_stale},
};
use crate::{
    capture::{Blind, Bound, Inspection},
    database::{as_table, unusable_query, with_tables},
    error::{Error, Kind, Result},
};

pub(super) async fn inspect(conn: &mut PgConnection, bound: &[Bound]) -> Result<Inspection> {
    let (role, database, creatable, owner, owned): (String, String, bool, Option<String>, bool) = sqlx::query_as(
        "select current_user::text, d.datname::text,
             has_database_privilege(d.oid, 'create'), pg_get_userbyid(n.nspowner)::text, coalesce(pg_has_role(n.nspowner, 'usage'), false)
         from pg_database d left join pg_namespace n on n.nspname = 'rowbound' where d.datname = current_database()",
    )
    .fetch_one(&mut *conn)
    .await
    .map_err(|e| failed("cannot look at the database", e))?;
    let mut inspection = Inspection::default();
    for (b, query) in bound.iter().filter_map(|b| Some((b, b.binding.query.as_ref()?))) {
        let mut tx = conn.begin_with("begin read only").await.map_err(|e| failed("cannot begin a transaction", e))?;
        let sql = format!("{} select n::text from q limit 1", as_table(query));
        let error = |e| unusable_query(b, failed("it cannot be run", e));
        // A list of names for fewer columns than there are is fine with PostgreSQL.
        let whole = format!("select * from (\n{query}\n) as q");
        let columns = tx.prepare(AssertSqlSafe(whole).into_sql_str()).await.map_err(error)?.columns().len();
        if columns != 1 {
            return Err(unusable_query(b, Error::new(Kind::Schema, format!("it has {columns} columns"))));
        }
        sqlx::query(AssertSqlSafe(sql)).persistent(false).fetch_all(&mut *tx).await.map_err(error)?;
    }
    let bound = &with_tables(bound);
    let columns: Vec<_> = bound.iter().map(|b| &b.binding.column).collect();
    let resolved = tables::resolve(&mut *conn, &columns).await?;
    for (b, r) in bound.iter().zip(&resolved) {
        let column = &b.binding.column;
        tables::usable(column, r, &b.binding.reading)?;
        tables::readable(column, r, &role)?;
        if !r.indexed && r.rows > 100_000.0 && !b.binding.scans() {
            inspection.warnings.push(format!(
                "{column} has no index and about {:.0} rows: each batch reads the whole table; \
                 `create index concurrently on {} using hash ({})` helps",
                r.rows,
                r.table_sql(),
                ident(&column.column)
            ));
        }
    }
    let oids: Vec<i64> = resolved.iter().filter_map(|r| r.oid).collect();
    if indexes_are_stale(&mut *conn, &oids).await? {
        inspection.warnings.push(format!(
            "the system's collations changed since the indexes were built, and lookups by them miss rows: checks read whole tables until \
             `reindex database {0}` and `alter database {0} refresh collation version` (and `alter collation .. refresh version`)",
            ident(&database)
        ));
    }
    let published: Vec<String> = sqlx::query_scalar("select pubname::text from pg_publication where puballtables order by 1")
        .fetch_all(&mut *conn)
        .await
        .map_err(|e| failed("cannot look at the publications", e))?;
    if !published.is_empty() {
        inspection.warnings.push(format!(
            "{} publishes every table of this database, and so Rowbound's. A subscriber that has no schema rowbound stops at its first row, and goes \
             on once it has one: docs/databases.md#logical-replication",
            published.iter().map(|name| format!("publication {}", ident(name))).collect::<Vec<_>>().join(", ")
        ));
    }
    for table in tables::tables(conn, bound).await? {
        for m in &table.members {
            for (has, right) in [(m.can_select, "SELECT"), (m.can_trigger, "TRIGGER")] {
                if !has {
                    return Err(Error::new(Kind::Permission, format!("the right {right} on a bound table is missing"))
                        .with("table", m.sql())
                        .hint(format!("GRANT SELECT, TRIGGER ON {} TO {}", m.sql(), ident(&role))));
                }
            }
        }
        let unlogged = resolved.iter().any(|r| r.oid == Some(table.oid) && r.unlogged);
        not_seen(&table, unlogged, &role, &mut inspection);
    }
    match owner {
        None if !creatable => Err(Error::new(Kind::Permission, "schema rowbound may not be created").with("role", &role).hint(format!(
            "GRANT CREATE ON DATABASE {} TO {}",
            ident(&database),
            ident(&role)
        ))),
        Some(owner) if !owned => Err(Error::new(Kind::Permission, "schema rowbound belongs to another role")
            .with("owner", &owner)
            .hint(format!("connect as {owner}, or GRANT {} TO {}", ident(&owner), ident(&role)))),
        _ => Ok(inspection),
    }
}

/// What no trigger of ours can see on a table.
fn not_seen(table: &Table, unlogged: bool, role: &str, inspection: &mut Inspection) {
    let name = table.members.first().map(Member::sql).unwrap_or_default();
    let mut blind = |event: &str, advice: &str| {
        inspection.blind.push(Blind { table: name.clone(), event: event.to_owned(), advice: advice.to_owned() });
    };
    blind("DROP TABLE", "DELETE or TRUNCATE the rows first, else their files stay behind");
    blind("ALTER TABLE .. DROP COLUMN", "set the column to NULL first, else its files stay behind");
    blind(
        "ALTER TABLE .. DISABLE TRIGGER",
        "`rowbound run` or `rowbound attach` enables them again; files that were released in between stay behind",
    );
    blind("TRUNCATE in a REPEATABLE READ transaction", "rows committed after its snapshot are not seen: their files stay behind");
    if table.members.len() > 1 {
        blind(
            "DETACH PARTITION, NO INHERIT",
            "rows of a table that no longer lies below the bound one stop counting as references: bind it first",
        );
    }
    if unlogged {
        blind("a crash of the server empties an UNLOGGED table", "its files stay behind");
    }
    for m in table.members.iter().filter(|m| !m.owned) {
        inspection.blind.push(Blind {
            table: m.sql(),
            event: "session_replication_role = replica".to_owned(),
            advice: format!("attach as the table's owner, who can set its triggers to ENABLE ALWAYS: GRANT <owner> TO {}", ident(role)),
        });
        inspection.warnings.push(format!(
            "{} does not own {}: its triggers do not fire for sessions in replica role, nor for logical replication",
            ident(role),
            m.sql()
        ));
    }
}
