//! What a person should know before anything is changed: what is missing, what no trigger sees, what will be slow.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{AssertSqlSafe, Connection};

use super::{
    Flavor, Mysql,
    cascade::Reach,
    catalog::{self, Catalog, Class, TableName},
    definer, fault,
    grants::Grants,
    install, int,
    rows::QUERIED,
    text, triggers,
};
use crate::{
    binding::Reading,
    capture::{Blind, Bound, Inspection},
    database::{as_table, unusable_query, with_tables},
    error::{Error, Kind, Result},
};

/// From so many rows on, a bound column without an index is worth a warning: a check reads the whole table (0.1 s for half a million rows).
const BIG: i64 = 500_000;

/// Engines that have their transactions in InnoDB's list, or none at all.
const SEEN: [&str; 6] = ["InnoDB", "MyISAM", "Aria", "MEMORY", "ARCHIVE", "CSV"];

/// See the module.
pub(super) async fn inspect(db: &Mysql, bound: &[Bound]) -> Result<Inspection> {
    let mut conn = db.pool().acquire().await.map_err(fault)?;
    let grants = Grants::own(&mut conn).await?;
    if !grants.everywhere("PROCESS") {
        return Err(Error::new(
            Kind::Permission,
            "the account may not see open transactions, and so cannot tell when a file is safe to delete",
        )
        .hint(format!("GRANT PROCESS ON *.* TO {}", me(&mut conn).await?)));
    }
    for (b, query) in bound.iter().filter_map(|b| Some((b, b.binding.query.as_ref()?))) {
        let mut tx = conn.begin_with("start transaction read only").await.map_err(fault)?;
        let sql = format!("{} select {QUERIED} from q limit 1", as_table(query));
        sqlx::query(AssertSqlSafe(sql)).persistent(false).fetch_all(&mut *tx).await.map_err(|e| unusable_query(b, fault(e)))?;
        tx.rollback().await.map_err(fault)?;
    }
    binary_log(db, &mut conn, &grants).await?;
    let bound = &with_tables(bound);
    let gtid_consistency = db.flavor == Flavor::Mysql && {
        let row =
            sqlx::query("select cast(@@global.enforce_gtid_consistency as char) = 'ON'").fetch_one(&mut *conn).await.map_err(fault)?;
        int(&row, 0)? != 0
    };
    let mut catalog = Catalog::load(&mut conn, &db.database, bound, &db.known).await?;
    catalog.find_indexes(&mut conn, db.flavor).await?;
    let mut found = Inspection::default();
    let mut seen = BTreeSet::new();
    for b in bound {
        let (name, table) = catalog.table_of(&b.binding.column).ok_or_else(|| catalog::missing(b, "table"))?;
        let facts = catalog::table_facts(&mut conn, name).await?.ok_or_else(|| catalog::missing(b, "table"))?;
        if facts.kind != "BASE TABLE" && facts.kind != "SYSTEM VERSIONED" {
            return Err(Error::new(Kind::Schema, "a binding's table is no table that triggers can stand on")
                .with("binding", &b.binding.column)
                .with("is", facts.kind.to_lowercase())
                .hint("bind the column of the table underneath"));
        }
        if gtid_consistency && !facts.engine.eq_ignore_ascii_case("InnoDB") {
            return Err(Error::new(Kind::Schema, "a trigger on this table would make the application's writes fail (error 1785)")
                .with("binding", &b.binding.column)
                .with("engine", &facts.engine)
                .hint(format!(
                    "with enforce_gtid_consistency MySQL lets no statement change a table without transactions and one with them, which the queue is: \
                     ALTER TABLE {name} ENGINE = InnoDB"
                )));
        }
        if !SEEN.iter().any(|engine| facts.engine.eq_ignore_ascii_case(engine)) {
            return Err(Error::new(Kind::Schema, "the server does not show who has open transactions on a table of this engine")
                .with("binding", &b.binding.column)
                .with("engine", &facts.engine)
                .hint(format!("ALTER TABLE {name} ENGINE = InnoDB; or bind the tables in which the rows are stored")));
        }
        let column = table.column(&b.binding.column.column).ok_or_else(|| catalog::missing(b, "column"))?;
        if matches!(b.binding.reading, Reading::Array { .. }) {
            return Err(Error::new(Kind::Schema, "MySQL and MariaDB have no arrays")
                .with("binding", &b.binding.column)
                .hint("a list that is stored as JSON is kind = \"json\" with path = \"$[*]\""));
        }
        let hint = match &column.class {
            Class::Json if b.binding.scans() => None,
            Class::Json => Some(("json", "write kind = \"json\" and a `path`, or kind = \"text\"")),
            Class::Other(kind) if kind == "binary" => Some((kind.as_str(), "BINARY(n) pads names with NUL bytes: make it VARBINARY(n)")),
            Class::Other(kind) => {
                Some((kind.as_str(), "a column that references files is CHAR, VARCHAR, TEXT, VARBINARY, BLOB, UUID or JSON"))
            }
            Class::Uuid if b.binding.reading != Reading::Name => Some(("uuid", "a UUID is a name as it is: kind = \"name\"")),
            Class::Text { .. } | Class::Bytes | Class::Uuid => None,
        };
        if let Some((kind, hint)) = hint {
            return Err(Error::new(Kind::Schema, "a binding's column is of a type that holds no names of this kind")
                .with("binding", &b.binding.column)
                .with("type", kind)
                .hint(hint));
        }
        if facts.rows > BIG && !b.binding.scans() && !facts.indexed.iter().any(|c| c.to_lowercase() == column.name.to_lowercase()) {
            found.warnings.push(format!(
                "{}: no index on this column; every check reads all of about {} rows. CREATE INDEX helps",
                b.binding.column, facts.rows
            ));
        }
        if seen.insert(name.clone()) {
            blind_spots(name, &facts.engine, &mut found);
        }
    }
    let wanted = triggers::wanted(&catalog, bound);
    let needs = definer::needs(db, &catalog, &wanted);
    let account = definer::own_account(db, &grants, &needs);
    rights(db, &mut conn, &catalog, &wanted, &grants, account.as_deref()).await?;
    found.broken = definer::lacking(&mut conn, &catalog, &db.database, &wanted, &needs).await?;
    let reach = Reach::of(&catalog, bound);
    let ancestors: BTreeSet<_> = reach.causes().into_iter().map(|cause| reach.effects[cause].table.to_string()).collect();
    if !ancestors.is_empty() {
        found.warnings.push(format!(
            "foreign keys delete or change bound rows without firing their triggers, so these tables get triggers too: {}",
            ancestors.into_iter().collect::<Vec<_>>().join(", ")
        ));
    }
    found.warnings.push(match &account {
        Some(account) => format!(
            "triggers run as the locked account `{account}`@`localhost`; where a dump of this database is restored, writes to bound tables fail until \
             that account exists: run `rowbound attach` there, or `rowbound detach` before the dump"
        ),
        None => format!(
            "triggers run as {}: if that account is ever dropped, every write to a bound table fails (error 1449). Attach once with an account \
             that has {} to give them an account of their own",
            me(&mut conn).await?,
            definer::to_make_it(db, &needs)
        ),
    });
    found.warnings.push(
        "RENAME TABLE .. TO another database fails for these tables (error 1435), as for every table with triggers; docs/databases.md has the steps"
            .to_owned(),
    );
    found.warnings.extend(unsafe_login(db, &mut conn).await?);
    Ok(found)
}

/// Refuses a binary log with which triggers or our own sessions do not work.
async fn binary_log(db: &Mysql, conn: &mut sqlx::MySqlConnection, grants: &Grants) -> Result<()> {
    // Asked by name: the format is to go in a later MySQL.
    let mut on = BTreeMap::new();
    let asked = "show global variables where variable_name in ('log_bin', 'binlog_format', 'log_bin_trust_function_creators')";
    for row in sqlx::raw_sql(asked).fetch_all(conn).await.map_err(fault)? {
        on.insert(text(&row, 0)?.to_ascii_lowercase(), text(&row, 1)?.to_ascii_uppercase());
    }
    let is = |name: &str, value: &str| on.get(name).is_some_and(|v| v == value);
    if !is("log_bin", "ON") {
        return Ok(());
    }
    if is("binlog_format", "STATEMENT") {
        return Err(Error::new(Kind::Config, "the server writes its binary log as statements (binlog_format = STATEMENT)").hint(format!(
            "Rowbound works under READ COMMITTED, where InnoDB refuses to write then (error 1665), and a replica that runs the application's statements \
             gives its candidates other numbers. SET GLOBAL binlog_format = {}, also in the server's configuration, and let the application connect anew",
            if db.flavor == Flavor::Mariadb { "MIXED (or ROW)" } else { "ROW" }
        )));
    }
    if is("log_bin_trust_function_creators", "OFF") && !grants.everywhere("SUPER") {
        return Err(Error::new(Kind::Permission, "with the binary log on, this account may not make triggers")
            .hint("SET GLOBAL log_bin_trust_function_creators = 1, or attach with an account that has SUPER"));
    }
    Ok(())
}

/// A login that works only while the server remembers it. On a socket the server is content with a password in the clear, but sqlx sends none there.
async fn unsafe_login(db: &Mysql, conn: &mut sqlx::MySqlConnection) -> Result<Option<String>> {
    if db.flavor == Flavor::Mariadb {
        return Ok(None);
    }
    let row = sqlx::raw_sql("show session status like 'Ssl_cipher'").fetch_optional(&mut *conn).await.map_err(fault)?;
    if row.is_some_and(|row| text(&row, 1).is_ok_and(|cipher| !cipher.is_empty())) {
        return Ok(None);
    }
    // Everybody may ask this of himself. A server that answers no: then there is no warning, and nothing is refused for that.
    let row = match sqlx::raw_sql("show create user current_user()").fetch_one(conn).await {
        Err(sqlx::Error::Database(_)) => return Ok(None),
        row => row.map_err(fault)?,
    };
    let plugins = ["caching_sha2_password", "sha256_password"];
    let definition = text(&row, 0)?;
    Ok(plugins.into_iter().find(|plugin| definition.contains(&format!("'{plugin}'"))).map(|plugin| {
        format!(
            "the connection has no TLS, and the account logs in by {plugin}: that works only as long as the server remembers an earlier login, not after its \
             restart or FLUSH PRIVILEGES. Take `ssl-mode=disabled` out of `database`"
        )
    }))
}

async fn me(conn: &mut sqlx::MySqlConnection) -> Result<String> {
    let row = sqlx::query("select current_user()").fetch_one(conn).await.map_err(fault)?;
    let me = text(&row, 0)?;
    let (user, host) = me.rsplit_once('@').unwrap_or((&me, "%"));
    Ok(format!("'{user}'@'{host}'"))
}

/// Events that no trigger sees.
fn blind_spots(name: &TableName, engine: &str, found: &mut Inspection) {
    let mut blind = |event: &str, advice: &str| {
        found.blind.push(Blind { table: name.to_string(), event: event.to_owned(), advice: advice.to_owned() });
    };
    let left = "the files stay behind";
    blind("TRUNCATE", "use DELETE, else the files stay behind; an account without DROP cannot truncate");
    blind("DROP TABLE", "DELETE the rows first, else the files stay behind; then remove its bindings");
    blind("ALTER TABLE .. DROP COLUMN", "set the column to NULL first, else the files stay behind; then remove its binding");
    blind("ALTER TABLE .. DROP, TRUNCATE or EXCHANGE PARTITION", "DELETE the rows first, else the files stay behind");
    blind(
        "RENAME TABLE as a swap (gh-ost, pt-online-schema-change)",
        "the new table has no triggers: run `rowbound attach`; the files of rows that went in between stay behind",
    );
    if !engine.eq_ignore_ascii_case("InnoDB") {
        blind(
            "ROLLBACK after a delete",
            &format!("{engine} keeps the delete and InnoDB forgets the candidate: convert the table to InnoDB, else {left}"),
        );
        found.warnings.push(format!("{name} is {engine}, which has no transactions: a reference is visible before its transaction ends"));
    }
}

/// Names every right that is missing, in one error.
async fn rights(
    db: &Mysql,
    conn: &mut sqlx::MySqlConnection,
    catalog: &Catalog,
    wanted: &[triggers::DesiredTrigger],
    grants: &Grants,
    account: Option<&str>,
) -> Result<()> {
    let mut missing: BTreeSet<String> = BTreeSet::new();
    let ours = |right: &str| grants.on(right, &db.database, "rowbound_candidate");
    let mut needed = vec!["SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "TRIGGER"];
    if ours("SELECT") && install::is_older(db, &mut *conn, catalog).await? {
        needed.push("ALTER");
    }
    let lacking: Vec<_> = needed.into_iter().filter(|r| !ours(r)).collect();
    if !lacking.is_empty() {
        missing.insert(format!("{} ON {}.*", lacking.join(", "), super::quote(&db.database)));
    }
    let mut needs: BTreeSet<(&TableName, &str)> = BTreeSet::new();
    for w in wanted {
        needs.extend([(&w.table, "SELECT"), (&w.table, "TRIGGER")]);
    }
    needs.extend(catalog.keys.iter().map(|k| (&k.child, "SELECT")));
    for (table, right) in needs {
        if !grants.on(right, &table.schema, &table.table) {
            missing.insert(format!("{right} ON {}.{}", super::quote(&table.schema), super::quote(&table.table)));
        }
    }
    let lock = |table: &TableName| format!("LOCK TABLES ON {}.*", super::quote(&table.schema));
    // The rows that an ancestor's trigger reads with a lock, which MySQL lets only these do.
    for table in catalog.keys.iter().map(|k| &k.child).filter(|_| db.flavor == Flavor::Mysql) {
        if !["UPDATE", "DELETE", "LOCK TABLES"].iter().any(|right| grants.on(right, &table.schema, &table.table)) {
            missing.insert(lock(table));
        }
    }
    if db.flavor == Flavor::Mysql && missing.is_empty() {
        // MySQL has no CREATE OR REPLACE TRIGGER: a trigger is replaced while the table is locked.
        for table in install::replaced(db, &mut *conn, wanted, account).await? {
            if !grants.on("LOCK TABLES", &table.schema, &table.table) {
                missing.insert(lock(table));
            }
        }
    }
    if !missing.is_empty() {
        let me = me(conn).await?;
        let grants: Vec<_> = missing.iter().map(|m| format!("GRANT {m} TO {me}")).collect();
        return Err(Error::new(Kind::Permission, "the account lacks rights that capture needs").hint(grants.join("; ")));
    }
    Ok(())
}
