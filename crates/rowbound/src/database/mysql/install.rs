//! The steps from what stands there to what should, and back.
//!
//! In: the catalog, the wanted triggers, our rights. Out: steps; none when nothing is to be changed, so that a repeated `attach` waits for no
//! lock. DDL commits by itself here, so the order is the promise: tables before the triggers that write into them, triggers gone before their
//! tables, and no moment at which a trigger that is being replaced is missing.

use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, MySqlConnection};

use super::{
    Flavor, Mysql, Options,
    catalog::{self, Catalog, Trigger},
    definer::{self, PROOF, Proof},
    fault,
    fault::{is_lock_wait, number},
    grants::Grants,
    literal, pool, quote, text,
    triggers::{self, DesiredTrigger},
};
use crate::{
    capture::Bound,
    clock, crash,
    database::{knows_outcomes, outcomes, with_tables},
    error::{Error, Kind, Result},
};

/// Statements that belong together.
#[derive(Debug)]
pub(super) struct Step {
    pub sql: Vec<String>,
    /// The table that is waited for, as messages show it. Only such a step is tried again and again.
    pub locks: Option<String>,
}

impl Step {
    pub(super) fn free(sql: impl Into<String>) -> Step {
        Step { sql: vec![sql.into()], locks: None }
    }
}

/// What `install` does, in this order.
#[derive(Debug, Default)]
struct Steps {
    /// Our tables and the account.
    ground: Vec<Step>,
    /// That the triggers which follow can do their work. `None` where none is made.
    proof: Option<Proof>,
    triggers: Vec<Step>,
}

/// What `install` would run now.
pub(super) async fn script(db: &Mysql, bound: &[Bound]) -> Result<Vec<String>> {
    let mut conn = db.pool().acquire().await.map_err(fault)?;
    let steps = install_steps(db, &mut conn, bound).await?;
    Ok(steps.ground.into_iter().chain(steps.triggers).flat_map(|s| s.sql).collect())
}

/// Puts tables and triggers in place.
pub(super) async fn install(db: &Mysql, bound: &[Bound]) -> Result<()> {
    let mut conn = db.pool().acquire().await.map_err(fault)?;
    let Steps { ground, proof, triggers } = install_steps(db, &mut conn, bound).await?;
    drop(conn);
    run(db, ground).await?;
    if let Some(proof) = proof {
        prove(db, &proof).await?;
    }
    run(db, triggers).await
}

/// Proves that triggers can do their work, while none stands that could fail a write of the application.
async fn prove(db: &Mysql, proof: &Proof) -> Result<()> {
    // Before the trigger: without a connection it would be left behind.
    let mut conn = db.own_connection().await?;
    run(db, vec![proof.trigger()]).await?;
    let proved = proof.fire(&mut conn).await;
    pool::goodbye(conn).await;
    // First what was found out: it is the cause of whatever follows.
    proved.and(run(db, vec![Proof::end()]).await)
}

/// What `remove` would run now.
pub(super) async fn remove_script(db: &Mysql) -> Result<Vec<String>> {
    let mut conn = db.pool().acquire().await.map_err(fault)?;
    Ok(remove_steps(db, &mut conn).await?.into_iter().flat_map(|s| s.sql).collect())
}

/// Takes triggers, account and tables away.
pub(super) async fn remove(db: &Mysql) -> Result<()> {
    let mut conn = db.pool().acquire().await.map_err(fault)?;
    let steps = remove_steps(db, &mut conn).await?;
    drop(conn);
    run(db, steps).await
}

/// The statements of tables.sql, by the table that each makes.
fn tables() -> Vec<(String, String)> {
    include_str!("tables.sql")
        .replace("{outcomes}", &outcomes())
        .split(";;\n")
        .filter_map(|statement| {
            let sql = statement.lines().filter(|l| !l.starts_with("--")).collect::<Vec<_>>().join("\n").trim().to_owned();
            let name = sql.strip_prefix("create table if not exists ")?.split_whitespace().next()?.to_owned();
            Some((name, sql))
        })
        .collect()
}

/// What leads from tables that an earlier version made to those of tables.sql.
async fn upgrade_steps(db: &Mysql, conn: &mut MySqlConnection, catalog: &Catalog) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    if catalog.ours.contains("rowbound_ledger") {
        // The only place where every server says what a constraint is.
        let sql = format!("show create table {}.rowbound_ledger", quote(&db.database));
        let row = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_one(&mut *conn).await.map_err(fault)?;
        let older = older_checks(&text(&row, 1)?);
        if !older.is_empty() {
            let word = if db.flavor == Flavor::Mysql { "check" } else { "constraint" };
            let drop: Vec<_> = older.iter().map(|name| format!("drop {word} {}", quote(name))).collect();
            // It copies the table, for which collectors wait, and no application.
            steps.push(Step::free(format!(
                "alter table rowbound_ledger {}, add constraint rowbound_outcome check (outcome in ({}))",
                drop.join(", "),
                outcomes()
            )));
        }
    }
    if catalog.ours.contains("rowbound_candidate") {
        let waits = "select 1 from information_schema.columns where table_schema = ? and table_name = 'rowbound_candidate' and column_name = 'waits'";
        if sqlx::query(waits).bind(&db.database).fetch_optional(conn).await.map_err(fault)?.is_none() {
            // At once, whatever its size; but it waits for every transaction that has written into the queue, and behind it waits the application.
            let sql = vec!["alter table rowbound_candidate add column waits longtext null".to_owned()];
            steps.push(Step { sql, locks: Some("rowbound_candidate".to_owned()) });
        }
    }
    Ok(steps)
}

/// Whether an earlier version made the tables that stand.
pub(super) async fn is_older(db: &Mysql, conn: &mut MySqlConnection, catalog: &Catalog) -> Result<bool> {
    Ok(!upgrade_steps(db, conn, catalog).await?.is_empty())
}

/// The names of a table's constraints, out of its definition, that do not let every outcome in.
fn older_checks(definition: &str) -> Vec<String> {
    let check = |line: &str| {
        let (name, check) = line.trim().strip_prefix("CONSTRAINT `")?.split_once("` CHECK ")?;
        (check.contains("`outcome`") && !knows_outcomes(check)).then(|| name.replace("``", "`"))
    };
    definition.lines().filter_map(check).collect()
}

/// Every trigger on the server that writes into our queue or has the name of one that should stand.
async fn standing(db: &Mysql, conn: &mut MySqlConnection, wanted: &[DesiredTrigger]) -> Result<Vec<Trigger>> {
    let all = catalog::read_triggers(conn, "trigger_schema not in ('mysql', 'sys', 'information_schema', 'performance_schema')").await?;
    let named = |t: &Trigger| wanted.iter().any(|w| w.table.schema == t.schema && w.name == t.name);
    Ok(all.into_iter().filter(|t| t.name != PROOF && (named(t) || triggers::is_ours(&db.database, &t.schema, &t.body))).collect())
}

/// Whether a trigger stands where it should, whatever it does there.
fn same_place(t: &Trigger, w: &DesiredTrigger) -> bool {
    t.schema == w.table.schema && t.name == w.name && t.table == w.table && t.event == w.event
}

/// Whether it does what it should, as whom it should.
fn is_fine(t: &Trigger, w: &DesiredTrigger, definer: Option<&str>) -> bool {
    t.body == w.body && definer.is_none_or(|account| t.definer == format!("{account}@localhost"))
}

/// The tables whose triggers stand and are to be replaced. MySQL asks for LOCK TABLES there.
pub(super) async fn replaced<'w>(
    db: &Mysql,
    conn: &mut MySqlConnection,
    wanted: &'w [DesiredTrigger],
    definer: Option<&str>,
) -> Result<Vec<&'w catalog::TableName>> {
    let standing = standing(db, conn, wanted).await?;
    let replaced = |w: &&DesiredTrigger| standing.iter().any(|t| same_place(t, w) && !is_fine(t, w, definer));
    Ok(wanted.iter().filter(replaced).map(|w| &w.table).collect())
}

async fn install_steps(db: &Mysql, conn: &mut MySqlConnection, bound: &[Bound]) -> Result<Steps> {
    let bound = &with_tables(bound);
    let mut catalog = Catalog::load(conn, &db.database, bound, &db.known).await?;
    catalog.find_indexes(conn, db.flavor).await?;
    for b in bound {
        let (_, table) = catalog.table_of(&b.binding.column).ok_or_else(|| catalog::missing(b, "table"))?;
        table.column(&b.binding.column.column).ok_or_else(|| catalog::missing(b, "column"))?;
    }
    let mut steps = Steps::default();
    for (name, sql) in tables() {
        if !catalog.ours.contains(&name) {
            steps.ground.push(Step::free(sql));
        }
    }
    steps.ground.extend(upgrade_steps(db, conn, &catalog).await?);
    let ours = "trigger_schema = database() and event_object_schema = database() and event_object_table = 'rowbound_installation'";
    let ours = catalog::read_triggers(conn, ours).await?;
    if ours.iter().any(|t| t.name == PROOF) {
        // Left by an attach that was killed.
        steps.ground.push(Proof::end());
    }
    if !ours.iter().any(|t| t.name == "rowbound_identity") {
        // It does nothing; the time at which it was made tells this database from a restored dump.
        steps.ground.push(Step::free("create trigger rowbound_identity before delete on rowbound_installation for each row begin end"));
    }
    let wanted = triggers::wanted(&catalog, bound);
    let needs = definer::needs(db, &catalog, &wanted);
    let grants = Grants::own(conn).await?;
    let account = definer::own_account(db, &grants, &needs);
    let standing = standing(db, conn, &wanted).await?;
    for t in &standing {
        if !wanted.iter().any(|w| same_place(t, w)) {
            steps.triggers.push(drop_trigger(t));
        }
    }
    for w in &wanted {
        let now = standing.iter().find(|t| same_place(t, w));
        if !now.is_some_and(|t| is_fine(t, w, account.as_deref())) {
            steps.triggers.push(create_trigger(db.flavor, &db.database, w, account.as_deref(), now.is_some()));
            steps.proof.get_or_insert_with(|| Proof::of(db, &catalog, &wanted, account.as_deref()));
        }
    }
    if let Some(account) = &account {
        steps.ground.extend(definer::steps(db, conn, &catalog, &grants, account, &needs, steps.proof.is_some()).await?);
    }
    Ok(steps)
}

fn drop_trigger(t: &Trigger) -> Step {
    Step { sql: vec![format!("drop trigger if exists {}.{}", quote(&t.schema), quote(&t.name))], locks: Some(t.table.to_string()) }
}

fn create_trigger(flavor: Flavor, home: &str, w: &DesiredTrigger, definer: Option<&str>, replace: bool) -> Step {
    // Unqualified: MariaDB keeps the statement as it was, and a dump that names the database would put the triggers of a copy onto the original's table.
    let table = quote(&w.table.table);
    let definer = definer.map_or_else(String::new, |account| format!("definer = {}@'localhost' ", literal(account)));
    let or_replace = if flavor == Flavor::Mariadb && replace { "or replace " } else { "" };
    let name = quote(&w.name);
    let create = format!("create {or_replace}{definer}trigger {name} {} on {table} for each row\n{}", w.event, w.body);
    let sql = if flavor == Flavor::Mysql && replace {
        // No write may slip through between the two.
        vec![format!("lock tables {table} write"), format!("drop trigger if exists {name}"), create, "unlock tables".to_owned()]
    } else {
        vec![create]
    };
    // The table of another database: there, and back to ours, in which all other statements are meant.
    let sql = match w.table.schema == home {
        true => sql,
        false => [vec![format!("use {}", quote(&w.table.schema))], sql, vec![format!("use {}", quote(home))]].concat(),
    };
    Step { sql, locks: Some(w.table.to_string()) }
}

async fn remove_steps(db: &Mysql, conn: &mut MySqlConnection) -> Result<Vec<Step>> {
    let catalog = Catalog::load(conn, &db.database, &[], &db.known).await?;
    let mut steps: Vec<Step> = standing(db, conn, &[]).await?.iter().map(drop_trigger).collect();
    let drop_table = |table: &str| Step { sql: vec![format!("drop table if exists {table}")], locks: Some(table.to_owned()) };
    for table in ["rowbound_candidate", "rowbound_delivery", "rowbound_follower", "rowbound_ledger", "rowbound_upkeep", "rowbound_worker"] {
        if catalog.ours.contains(table) {
            steps.push(drop_table(table));
        }
    }
    // A copy on the same server carries the record of the original's account, as which the original's triggers go on running.
    if let Some(account) = definer::recorded(db, conn, &catalog).await?.filter(|recorded| *recorded == definer::account(&db.database)) {
        steps.push(Step::free(format!("drop user if exists {}@'localhost'", literal(&account))));
    }
    // The last: it knows of the account.
    if catalog.ours.contains("rowbound_installation") {
        steps.push(drop_table("rowbound_installation"));
    }
    Ok(steps)
}

/// Runs steps on a connection of its own.
async fn run(db: &Mysql, steps: Vec<Step>) -> Result<()> {
    if steps.is_empty() {
        return Ok(());
    }
    let mut conn = db.own_connection().await?;
    // A trigger keeps the sql_mode under which it was made. Not strict: a value that does not fit must not fail the application's statement.
    execute(&mut conn, "set session sql_mode = 'NO_ENGINE_SUBSTITUTION'").await?;
    let patience = clock::deadline(db.options.lock_patience);
    for step in steps {
        match &step.locks {
            None => all(&mut conn, &step.sql).await?,
            Some(table) => {
                limit(db.flavor, &mut conn, Some(&db.options)).await?;
                patiently(&mut conn, &step.sql, table, &db.options, patience).await?;
                limit(db.flavor, &mut conn, None).await?;
            }
        }
    }
    pool::goodbye(conn).await;
    Ok(())
}

/// Limits how long a statement waits for a table: behind us waits every statement of the application on that table.
async fn limit(flavor: Flavor, conn: &mut MySqlConnection, options: Option<&Options>) -> Result<()> {
    let sql = match (flavor, options) {
        (Flavor::Mariadb, Some(o)) => format!("set session max_statement_time = {:.3}", o.lock_timeout.as_secs_f64().max(0.001)),
        (Flavor::Mariadb, None) => "set session max_statement_time = 0".to_owned(),
        // Whole seconds, and at least one: MySQL knows nothing finer for DDL.
        (Flavor::Mysql, Some(o)) => format!("set session lock_wait_timeout = {}", o.lock_timeout.as_secs().max(1)),
        (Flavor::Mysql, None) => "set session lock_wait_timeout = 20".to_owned(),
    };
    execute(conn, &sql).await
}

/// Tries until the table was had or `until` has come, with pauses in which the application passes.
async fn patiently(conn: &mut MySqlConnection, sql: &[String], table: &str, options: &Options, until: Instant) -> Result<()> {
    let mut pause = options.lock_timeout.max(Duration::from_millis(20));
    loop {
        let mut failed = None;
        for statement in sql {
            crash::point("attach-step");
            if let Err(e) = sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(&mut *conn).await {
                failed = Some(e);
                break;
            }
        }
        let Some(error) = failed else { return Ok(()) };
        if sql.len() > 1 {
            execute(conn, "unlock tables").await?;
        }
        if !number(&error).is_some_and(is_lock_wait) {
            return Err(fault(error).with("table", table));
        }
        if Instant::now() + pause > until {
            return Err(Error::new(Kind::Busy, "a table was in use all the time")
                .with("table", table)
                .with("lock_patience", format_args!("{:?}", options.lock_patience))
                .because(fault(error))
                .hint("SHOW PROCESSLIST shows who holds it, perhaps an idle transaction; then run the same command again"));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(2));
    }
}

async fn all(conn: &mut MySqlConnection, sql: &[String]) -> Result<()> {
    for statement in sql {
        execute(conn, statement).await?;
    }
    Ok(())
}

async fn execute(conn: &mut MySqlConnection, sql: &str) -> Result<()> {
    crash::point("attach-step");
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(conn).await.map_err(fault)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{super::catalog::TableName, *};

    #[test]
    fn every_table_has_its_statement() {
        let tables = tables();
        let names: Vec<_> = tables.iter().map(|(name, _)| name.as_str()).collect();
        let all =
            ["installation", "candidate", "ledger", "follower", "delivery", "worker", "upkeep"].map(|name| format!("rowbound_{name}"));
        assert_eq!(names, all);
        assert!(tables[2].1.contains("'erased', 'trashed'") && tables.iter().all(|(_, sql)| !sql.contains("--")));
    }

    #[test]
    fn a_check_is_known_by_what_it_lets_in() {
        let of = |words: &str| {
            format!(
                "CREATE TABLE `l` (\n  `outcome` varchar(16),\n  CONSTRAINT `a``b` CHECK ((`outcome` in ({words}))),\n  CONSTRAINT `c` CHECK (`id` > 0)\n)"
            )
        };
        assert_eq!(older_checks(&of("_utf8mb4'erased',_utf8mb4'trashed'")), ["a`b"]);
        assert_eq!(older_checks(&of(&outcomes())), [""; 0]);
    }

    #[test]
    fn on_mysql_a_trigger_is_replaced_under_a_lock() {
        let w = DesiredTrigger {
            name: "rowbound_ad_1".into(),
            table: TableName { schema: "s".into(), table: "t`".into() },
            event: "after delete",
            body: "begin end".into(),
        };
        let replaced = [
            "lock tables `t``` write",
            "drop trigger if exists `rowbound_ad_1`",
            "create trigger `rowbound_ad_1` after delete on `t``` for each row\nbegin end",
            "unlock tables",
        ];
        assert_eq!(create_trigger(Flavor::Mysql, "s", &w, None, true).sql, replaced);
        assert_eq!(create_trigger(Flavor::Mysql, "home", &w, None, true).sql, [&["use `s`"], &replaced[..], &["use `home`"]].concat());
    }
}
