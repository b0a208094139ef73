//! Capture on PostgreSQL: which functions and triggers a table needs, and the statements that get there from what stands.
//!
//! In: [`Table`]s and the triggers that stand now. Out: [`Step`]s; none where everything is as it should be, so that a repeated
//! `attach` takes no lock on a table of the application.

use std::{collections::BTreeSet, fmt::Write as _};

use sqlx::{PgConnection, Row, postgres::PgRow};

use super::{
    fault::failed,
    tables::{BoundColumn, Table, ident, literal},
};
use crate::{
    database::{knows_outcomes, outcomes},
    error::Result,
};

/// One statement of `attach` or `detach`.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub sql: String,
    /// The table that it locks and that the application's statements wait for: one of its own, or one of ours.
    pub locks: Option<i64>,
}

/// A trigger that calls a function of ours.
#[derive(Debug)]
pub(super) struct Standing {
    pub oid: i64,
    pub table_sql: String,
    pub trigger: String,
    pub enabled: String,
    /// A partition's copy of its parent's trigger.
    pub clone: bool,
    pub mark: String,
    pub function: String,
    pub owned: bool,
}

/// What stands in schema `rowbound`.
#[derive(Debug, Default)]
pub(super) struct Ours {
    pub schema: bool,
    pub tables: Vec<String>,
    pub functions: Vec<Function>,
    pub triggers: Vec<Standing>,
    /// What leads from tables that an earlier version made to those of this one.
    pub upgrade: Vec<Step>,
}

/// A trigger function, as it stands or should.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Function {
    pub name: String,
    pub body: String,
    /// SECURITY DEFINER, and its settings.
    pub security: String,
}

/// Every function has these settings: nothing that the application's session can set changes what a name in it means.
const SECURITY: &str = "security definer set search_path = pg_catalog, pg_temp";
/// Reading a table further needs to fail where row security would hide rows, instead of copying some.
const SECURITY_READING: &str = "security definer set search_path = pg_catalog, pg_temp set row_security = off";

/// Reads what stands.
pub(super) async fn ours(conn: &mut PgConnection) -> Result<Ours> {
    let error = |e| failed("cannot look up what stands in schema rowbound", e);
    let rows = sqlx::query(
        "select 'schema' as kind, nspname::text as name, '' as body, '' as security from pg_namespace where nspname = 'rowbound'
         union all
         select 'table', relname::text, '', '' from pg_class
         where relkind = 'r' and relnamespace = (select oid from pg_namespace where nspname = 'rowbound')
         union all
         select 'function', proname::text, prosrc,
             case when prosecdef then 'security definer' end
                 || (select string_agg(' set ' || replace(c, '=', ' = '), '' order by n) from unnest(proconfig) with ordinality as u(c, n))
         from pg_proc
         where prorettype = 'trigger'::regtype and pronamespace = (select oid from pg_namespace where nspname = 'rowbound')
         order by 1, 2",
    )
    .fetch_all(&mut *conn)
    .await
    .map_err(error)?;
    let mut ours = Ours::default();
    for row in &rows {
        let name: String = row.try_get("name").map_err(error)?;
        match row.try_get::<&str, _>("kind").map_err(error)? {
            "schema" => ours.schema = true,
            "table" => ours.tables.push(name),
            _ => ours.functions.push(Function {
                name,
                body: row.try_get("body").map_err(error)?,
                security: row.try_get::<Option<String>, _>("security").map_err(error)?.unwrap_or_default(),
            }),
        }
    }
    let standing = |row: &PgRow| -> sqlx::Result<Standing> {
        let (schema, name): (String, String) = (row.try_get("schema")?, row.try_get("name")?);
        Ok(Standing {
            oid: row.try_get("oid")?,
            table_sql: format!("{}.{}", ident(&schema), ident(&name)),
            trigger: row.try_get("trigger")?,
            enabled: row.try_get("enabled")?,
            clone: row.try_get("clone")?,
            mark: row.try_get("mark")?,
            function: row.try_get("function")?,
            owned: row.try_get("owned")?,
        })
    };
    let rows = sqlx::query(include_str!("standing.sql")).fetch_all(&mut *conn).await.map_err(error)?;
    ours.triggers = rows.iter().map(standing).collect::<sqlx::Result<_>>().map_err(error)?;
    ours.upgrade = upgrade_steps(conn).await?;
    Ok(ours)
}

/// What leads from tables that an earlier version made to those of schema.sql. The queue before the ledger, as a settlement locks them: it would wait for us,
/// and we for it. Each takes no longer for many rows than for none.
async fn upgrade_steps(conn: &mut PgConnection) -> Result<Vec<Step>> {
    let error = |e| failed("cannot look at the tables in schema rowbound", e);
    let found: Option<(Option<i64>, Option<i64>, Option<i64>)> = sqlx::query_as(
        "select
             (select oid::int8 from pg_class c where c.relname = 'candidate' and c.relnamespace = n.oid
                 and not exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'waits')),
             (select oid::int8 from pg_class c where c.relname = 'candidate' and c.relnamespace = n.oid and c.relreplident <> 'f'),
             (select oid::int8 from pg_class c where c.relname = 'ledger' and c.relnamespace = n.oid)
         from pg_namespace n where n.nspname = 'rowbound'",
    )
    .fetch_optional(&mut *conn)
    .await
    .map_err(error)?;
    let Some((queue, unidentified, ledger)) = found else { return Ok(Vec::new()) };
    let mut steps = Vec::new();
    if queue.is_some() {
        steps.push(Step { sql: "alter table rowbound.candidate add column waits text".to_owned(), locks: queue });
    }
    if unidentified.is_some() {
        steps.push(Step { sql: "alter table rowbound.candidate replica identity full".to_owned(), locks: unidentified });
    }
    let checks: Vec<(String, String)> = sqlx::query_as(
        "select conname::text, pg_get_constraintdef(oid) from pg_constraint where conrelid = $1::oid and contype = 'c' order by 1",
    )
    .bind(ledger)
    .fetch_all(conn)
    .await
    .map_err(error)?;
    let older: Vec<_> = checks.iter().filter(|(_, check)| check.contains("outcome") && !knows_outcomes(check)).collect();
    if !older.is_empty() {
        let drop: Vec<_> = older.iter().map(|(name, _)| format!("drop constraint {}", ident(name))).collect();
        // NOT VALID: what stands has earlier words, and need not be read while the table is locked.
        let sql = format!(
            "alter table rowbound.ledger {}, add constraint ledger_outcome_check check (outcome in ({})) not valid",
            drop.join(", "),
            outcomes()
        );
        steps.push(Step { sql, locks: ledger });
    }
    Ok(steps)
}

/// A trigger as it should be.
struct DesiredTrigger {
    oid: i64,
    table_sql: String,
    trigger: &'static str,
    function: String,
    /// Up to and without the function's name.
    head: String,
    /// Only the owner of a table may say ENABLE ALWAYS.
    owned: bool,
}

impl DesiredTrigger {
    /// Tells this definition from any other; stands in the trigger's argument, because what the catalogs give back of a WHEN is not
    /// what was written.
    fn mark(&self) -> String {
        format!("{:016x}", fnv(&format!("{} {}", self.head, self.function)))
    }
}

/// FNV-1a, 64 bits: the same in every build (the standard hasher promises nothing of the kind).
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The statements that make the schema's tables. `missing` names those that are.
fn schema_steps(ours: &Ours) -> Vec<String> {
    let text = include_str!("schema.sql").replace("{outcomes}", &outcomes());
    let wanted = |statement: &str| {
        // An index belongs to the table before it.
        let of = statement.split_once("rowbound.").map_or("", |(_, rest)| rest.split([' ', '(']).next().unwrap_or(""));
        if statement.contains("create schema") { !ours.schema } else { !ours.tables.iter().any(|t| t == of) }
    };
    text.split(";\n").map(str::trim).filter(|s| !s.is_empty() && wanted(s)).map(str::to_owned).collect()
}

/// The statements that lead from what stands to capture of exactly `tables`.
pub(super) fn install_steps(tables: &[Table], ours: &Ours) -> Vec<Step> {
    let free = |sql| Step { sql, locks: None };
    let mut steps: Vec<Step> = schema_steps(ours).into_iter().map(free).collect();

    let functions: Vec<Function> = tables.iter().flat_map(functions).collect();
    for function in &functions {
        if !ours.functions.contains(function) {
            let Function { name, body, security } = function;
            let tag = dollar_tag(body);
            steps.push(free(format!(
                "create or replace function rowbound.{name}() returns trigger language plpgsql {security} as {tag}{body}{tag}"
            )));
            steps.push(free(format!("revoke all on function rowbound.{name}() from public")));
        }
    }

    let wanted: Vec<DesiredTrigger> = tables.iter().flat_map(triggers).collect();
    for s in ours.triggers.iter().filter(|s| !s.clone && s.owned) {
        if !wanted.iter().any(|w| w.oid == s.oid && w.trigger == s.trigger) {
            steps.push(drop_trigger(s));
        }
    }
    for w in &wanted {
        let standing = ours.triggers.iter().find(|s| s.oid == w.oid && s.trigger == w.trigger);
        let mark = w.mark();
        // bytea's escape format ends each argument with an escaped NUL.
        let same = standing.is_some_and(|s| s.function == w.function && s.mark.strip_suffix("\\000") == Some(&mark));
        if !same {
            // Only what is ours is ever replaced; another's trigger of that name is an error of the statement.
            let or_replace = if standing.is_some() { "or replace " } else { "" };
            steps.push(Step {
                sql: format!("create {or_replace}{} execute function rowbound.{}('{mark}')", w.head, w.function),
                locks: Some(w.oid),
            });
        }
        if w.owned && !(same && standing.is_some_and(|s| s.enabled == "A")) {
            steps.push(Step { sql: format!("alter table {} enable always trigger {}", w.table_sql, w.trigger), locks: Some(w.oid) });
        }
    }
    // A partition's copy takes its parent's state when it is made, and may have lost it since.
    for s in ours.triggers.iter().filter(|s| s.clone && s.owned && s.enabled != "A") {
        if tables.iter().any(|t| t.members.iter().any(|m| m.oid == s.oid)) {
            steps
                .push(Step { sql: format!("alter table {} enable always trigger {}", s.table_sql, ident(&s.trigger)), locks: Some(s.oid) });
        }
    }
    for Function { name, .. } in &ours.functions {
        if !functions.iter().any(|f| f.name == *name) {
            steps.push(drop_function(name, ours));
        }
    }
    // The last: a statement of the application locks its own table first, and then the queue.
    steps.extend(ours.upgrade.iter().cloned());
    steps
}

/// The statements that leave nothing.
pub(super) fn remove_steps(ours: &Ours) -> Vec<Step> {
    let free = |sql| Step { sql, locks: None };
    let mut steps: Vec<Step> = ours.triggers.iter().filter(|s| !s.clone && s.owned).map(drop_trigger).collect();
    steps.extend(ours.functions.iter().map(|f| drop_function(&f.name, ours)));
    for table in ["upkeep", "worker", "delivery", "follower", "candidate", "ledger", "installation"] {
        if ours.tables.iter().any(|t| t == table) {
            steps.push(free(format!("drop table rowbound.{table}")));
        }
    }
    if ours.schema {
        // Without CASCADE: what somebody else put there is not ours to drop.
        steps.push(free("drop schema rowbound".to_owned()));
    }
    steps
}

fn drop_trigger(s: &Standing) -> Step {
    Step { sql: format!("drop trigger {} on {}", ident(&s.trigger), s.table_sql), locks: Some(s.oid) }
}

/// A trigger on a table that is not ours can be dropped only with its function, which is.
fn drop_function(name: &str, ours: &Ours) -> Step {
    let foreign = ours.triggers.iter().find(|s| s.function == name && !s.clone && !s.owned);
    let cascade = if foreign.is_some() { " cascade" } else { "" };
    Step { sql: format!("drop function rowbound.{}(){cascade}", ident(name)), locks: foreign.map(|s| s.oid) }
}

fn triggers(table: &Table) -> Vec<DesiredTrigger> {
    let n = table.number();
    let mut wanted = Vec::new();
    for (i, member) in table.members.iter().enumerate() {
        let sql = member.sql();
        let mut want = |trigger: &'static str, function: String, head: String| {
            wanted.push(DesiredTrigger { oid: member.oid, table_sql: sql.clone(), trigger, function, head, owned: member.owned });
        };
        // Partitions get copies of their parent's row triggers; INHERITS children do not.
        if i == 0 || !table.partitioned {
            if table.whole_statements() {
                want(
                    "rowbound_delete",
                    format!("delete_{n}"),
                    format!("trigger rowbound_delete after delete on {sql} referencing old table as gone for each statement"),
                );
            } else {
                want("rowbound_delete", format!("capture_{n}"), format!("trigger rowbound_delete after delete on {sql} for each row"));
            }
            let (of, when) = if table.fast { narrowed(table) } else { Default::default() };
            want(
                "rowbound_update",
                format!("capture_{n}"),
                format!("trigger rowbound_update after update{of} on {sql} for each row{when}"),
            );
        }
        // Fires for each truncated table that has one, so every leaf needs its own.
        want(
            "rowbound_truncate",
            format!("truncate_{n}"),
            format!("trigger rowbound_truncate before truncate on {sql} for each statement"),
        );
    }
    wanted
}

/// `UPDATE OF` and `WHEN`: updates that leave the columns alone cost nothing.
fn narrowed(table: &Table) -> (String, String) {
    // `UPDATE OF f` misses an f that a BEFORE trigger changed, or that is computed.
    let of = if table.columns.iter().any(|c| c.generated) || table.members.iter().any(|m| m.meddled) {
        String::new()
    } else {
        format!(" of {}", table.columns.iter().flat_map(BoundColumn::columns).map(|c| ident(c)).collect::<Vec<_>>().join(", "))
    };
    let changed = |c: &BoundColumn| match c.only.is_empty() {
        true => format!("{} collate \"C\" is distinct from {} collate \"C\"", c.value("old"), c.value("new")),
        false => format!("({}) collate \"C\" is distinct from ({}) collate \"C\"", c.value("old"), c.value("new")),
    };
    let when = table.columns.iter().map(changed).collect::<Vec<_>>().join(" or ");
    (of, format!(" when ({when})"))
}

fn functions(table: &Table) -> Vec<Function> {
    let n = table.number();
    let function = |name: &str, body: String, security: &str| Function { name: format!("{name}_{n}"), body, security: security.to_owned() };
    let mut all = vec![function("capture", row_body(table), SECURITY), function("truncate", truncate_body(table), SECURITY_READING)];
    if table.whole_statements() {
        all.push(function("delete", statement_body(table), SECURITY));
    }
    all
}

/// The primary key of row `row` as text, `null` without one.
pub(super) fn key_sql(row: &str, key: &[String]) -> String {
    match key {
        [] => "null".to_owned(),
        [one] => format!("{row}.{}::text", ident(one)),
        many => {
            let parts: Vec<_> = many.iter().map(|k| format!("{row}.{}", ident(k))).collect();
            format!("json_build_array({})::text", parts.join(", "))
        }
    }
}

const INSERT: &str = "insert into rowbound.candidate (storage, binding, value, key, event)";

/// For each row of DELETE and UPDATE.
///
/// The tolerant body reads the columns in a block of its own: a renamed or dropped column then captures nothing, which the snapshot
/// tells, but never fails the application's statement. The INSERT stays outside of it, because a write inside would cost the
/// application a transaction id per row.
fn row_body(table: &Table) -> String {
    let mut sql = String::from("\ndeclare\n    keyed text;\n");
    let columns = || table.columns.iter().enumerate().map(|(i, c)| (i + 1, c));
    for (i, ..) in columns() {
        let _ = writeln!(sql, "    was{i} text;\n    now{i} text;");
    }
    sql.push_str("begin\n");
    let pad = if table.fast { "    " } else { "        " };
    if !table.fast {
        sql.push_str("    begin\n");
    }
    for (i, c) in columns() {
        let _ = writeln!(sql, "{pad}was{i} := {};", c.value("old"));
    }
    let _ = writeln!(sql, "{pad}if tg_op = 'UPDATE' then");
    for (i, c) in columns() {
        let _ = writeln!(sql, "{pad}    now{i} := {};", c.value("new"));
    }
    let _ = writeln!(sql, "{pad}end if;");
    if !table.fast {
        // The second case: the column's type changed while this session kept the old plan.
        // So is the third: bytes that are no text, of one of several columns.
        let no_text = no_text(table);
        let _ = writeln!(sql, "    exception when undefined_column or datatype_mismatch{no_text} then");
        for (i, c) in columns() {
            let read = |row: &str| {
                format!(
                    "execute {} into {} using {row}",
                    literal(&format!("select {}", c.value("($1)"))),
                    if row == "old" { format!("was{i}") } else { format!("now{i}") }
                )
            };
            let _ = writeln!(
                sql,
                "        was{i} := null;\n        now{i} := null;\n        begin\n            {};\n            if tg_op = 'UPDATE' then\n                {};\n            end if;\n        exception when undefined_column{no_text} then\n            was{i} := null;\n        end;",
                read("old"),
                read("new"),
            );
        }
        sql.push_str("    end;\n");
    }
    for (i, c) in columns() {
        let _ =
            writeln!(sql, "    if octet_length(was{i}) > 0 and (tg_op = 'DELETE' or was{i} collate \"C\" is distinct from now{i}) then");
        if !table.key.is_empty() {
            let key = key_sql("old", &table.key);
            if table.fast {
                let _ = writeln!(sql, "        keyed := {key};");
            } else {
                let again = literal(&format!("select {}", key_sql("($1)", &table.key)));
                let _ = writeln!(
                    sql,
                    "        begin\n            keyed := {key};\n        exception when undefined_column or datatype_mismatch then\n            begin\n                execute {again} into keyed using old;\n            exception when undefined_column then\n                keyed := null;\n            end;\n        end;",
                );
            }
        }
        let _ = writeln!(
            sql,
            "        {INSERT}\n        values ({}, {}, was{i}, keyed, lower(tg_op));\n    end if;",
            literal(&c.storage),
            c.id
        );
    }
    sql.push_str("    return null;\nend\n");
    sql
}

/// For a whole DELETE statement. A statement that names a missing column fails only when it is reached, so it is not.
///
/// Usually nothing is missing. `has_column_privilege` says so from the server's cache (whatever it answers, a missing column is an error),
/// while reading `pg_attribute` costs each statement some microseconds more.
fn statement_body(table: &Table) -> String {
    let mut sql = String::from("\ndeclare\n    whole bool;\n    have text[];\nbegin\n");
    let select = |c: &BoundColumn, key: &str| {
        let value = c.value("gone");
        format!(
            "{INSERT}\n        select {}, {}, {value}, {key}, 'delete' from gone where octet_length({value}) > 0;\n",
            literal(&c.storage),
            c.id
        )
    };
    let key = key_sql("gone", &table.key);
    if table.fast {
        for c in &table.columns {
            let _ = write!(sql, "    {}", select(c, &key));
        }
    } else {
        let names = table.columns.iter().flat_map(BoundColumn::columns).chain(&table.key).collect::<BTreeSet<_>>();
        let there = |name: &&String| format!("has_column_privilege(tg_relid, {}, 'select') is not null", literal(name));
        let _ = writeln!(
            sql,
            "    begin\n        whole := {};\n    exception when undefined_column then\n        whole := false;\n    end;\n    if whole then",
            names.iter().map(there).collect::<Vec<_>>().join(" and ")
        );
        for c in &table.columns {
            let _ = write!(sql, "        {}", select(c, &key));
        }
        sql.push_str(
            "        return null;\n    end if;\n    have := array(select attname::text from pg_attribute where attrelid = tg_relid and attnum > 0 and not attisdropped);\n",
        );
        for c in &table.columns {
            let has = all_there(c);
            let _ = writeln!(sql, "    if {has} and {} then", has_key(table));
            let _ = write!(sql, "        {}", select(c, &key));
            let _ = writeln!(sql, "    elsif {has} then");
            let _ = write!(sql, "        {}", select(c, "null"));
            sql.push_str("    end if;\n");
        }
    }
    sql.push_str("    return null;\nend\n");
    sql
}

/// Before TRUNCATE: copies the names while they are there. Leaves that came later and have no trigger yet are their parent's.
fn truncate_body(table: &Table) -> String {
    let mut sql = String::from(
        "
declare
    leaf oid;
    have text[];
    keyed text;
begin
    for leaf in
        with recursive below(oid) as (
            select tg_relid
            union
            select i.inhrelid from pg_inherits i join below b on i.inhparent = b.oid
        )
        select b.oid from below b join pg_class c on c.oid = b.oid
        where c.relkind = 'r'
            and (b.oid = tg_relid or not exists (select from pg_trigger t where t.tgrelid = b.oid and t.tgname = 'rowbound_truncate'))
    loop
        have := array(select attname::text from pg_attribute where attrelid = leaf and attnum > 0 and not attisdropped);
",
    );
    let _ = writeln!(sql, "        keyed := case when {} then {} else 'null' end;", has_key(table), literal(&key_sql("t", &table.key)));
    sql.push_str("        begin\n");
    for c in &table.columns {
        let value = c.value("t");
        let head = literal(&format!("{INSERT} select {}, {}, {value}, ", literal(&c.storage), c.id));
        let tail = literal(&format!(" t where octet_length({value}) > 0"));
        let _ = writeln!(
            sql,
            "            if {} then\n                execute {head} || keyed || ', ''truncate'' from only ' || leaf::regclass::text || {tail};\n            end if;",
            all_there(c)
        );
    }
    // A right that was taken away, or row security put on: the application goes on, and the sweep finds the files.
    let _ = write!(
        sql,
        "        exception when insufficient_privilege{} then\n            null;\n        end;\n    end loop;\n    return null;\nend\n",
        no_text(table)
    );
    sql
}

/// The errors of bytes that are no text, to follow others.
fn no_text(table: &Table) -> &'static str {
    if table.columns.iter().any(|c| c.bytes) { " or character_not_in_repertoire or untranslatable_character" } else { "" }
}

/// Whether every column that `c` depends on is among `have`.
fn all_there(c: &BoundColumn) -> String {
    c.columns().map(|name| format!("{} = any (have)", literal(name))).collect::<Vec<_>>().join(" and ")
}

/// Whether every column of the primary key is among `have`.
fn has_key(table: &Table) -> String {
    if table.key.is_empty() {
        return "true".to_owned();
    }
    let names: Vec<_> = table.key.iter().map(|k| literal(k)).collect();
    format!("have @> array[{}]", names.join(", "))
}

/// A dollar quote that does not occur in `body`.
fn dollar_tag(body: &str) -> String {
    let mut tag = "$rowbound$".to_owned();
    for n in 1.. {
        if !body.contains(&tag) {
            break;
        }
        tag = format!("$rowbound{n}$");
    }
    tag
}
