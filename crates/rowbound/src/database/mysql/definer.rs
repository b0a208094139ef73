//! The account that triggers run as.
//!
//! In: our own rights, the triggers that should stand. Out: an account of their own where we may make one, the steps that make it, and a proof that triggers
//! can do their work as their definer, whoever that is. Without a right of the definer *every* write to a bound table would fail (error 1142), and
//! SHOW GRANTS does not tell for sure: rights that come through a role do not hold within a trigger on MariaDB.

use std::collections::BTreeSet;

use rand::Rng;
use sqlx::{AssertSqlSafe, MySqlConnection};

use super::{
    Flavor, Mysql,
    catalog::{Catalog, TableName},
    fault,
    fault::number,
    grants::{Account, Grants},
    install::Step,
    literal, maybe_text, quote,
    triggers::{DesiredTrigger, written},
};
use crate::error::{Error, Kind, Result};

/// The account that the triggers of a database run as, where we may make one: at `localhost`, locked, with the rights that triggers need and no
/// other. Permanent, because with a definer that was dropped every write of the application fails (error 1449).
pub(super) fn account(database: &str) -> String {
    // A user's name has at most 32 characters on MySQL.
    let readable = format!("rowbound_{database}");
    if readable.chars().count() <= 32 {
        return readable;
    }
    let hash = database.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    format!("rowbound_{hash:016x}")
}

/// A right that the definer needs: on a whole database where no table is named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Need {
    schema: String,
    table: &'static str,
    right: &'static str,
}

/// What triggers need to do their work.
///
/// On whole databases: rights on a table do not go with it when it is renamed, and without TRIGGER on its new name every write to it would fail
/// (error 1142). SELECT is for the rows of triggers, and for what those of ancestors look up.
pub(super) fn needs(db: &Mysql, catalog: &Catalog, wanted: &[DesiredTrigger]) -> BTreeSet<Need> {
    let on = |schema: &str, right| Need { schema: schema.to_owned(), table: "", right };
    // TRIGGER on ours is for the proof.
    let mut needs =
        BTreeSet::from([Need { schema: db.database.clone(), table: "rowbound_candidate", right: "INSERT" }, on(&db.database, "TRIGGER")]);
    for w in wanted {
        needs.extend([on(&w.table.schema, "SELECT"), on(&w.table.schema, "TRIGGER")]);
    }
    for key in &catalog.keys {
        needs.insert(on(&key.child.schema, "SELECT"));
        if db.flavor == Flavor::Mysql {
            // For SELECT .. FOR UPDATE; it is the least of the rights that MySQL takes for it.
            needs.insert(on(&key.child.schema, "LOCK TABLES"));
        }
    }
    needs
}

/// The account of their own for triggers that need this, if we may make it and give it all of that.
pub(super) fn own_account(db: &Mysql, grants: &Grants, needs: &BTreeSet<Need>) -> Option<String> {
    let gives = |n: &Need| grants.gives(n.right, &n.schema, n.table);
    (grants.makes_accounts() && needs.iter().all(gives)).then(|| account(&db.database))
}

/// What somebody needs who may make that account, for people.
pub(super) fn to_make_it(db: &Mysql, needs: &BTreeSet<Need>) -> String {
    let rights: BTreeSet<_> = needs.iter().map(|n| n.right).collect();
    let schemas: BTreeSet<_> = needs.iter().map(|n| format!("{}.*", quote(&n.schema))).collect();
    format!(
        "CREATE USER and {} ON *.*, and {} ON {} WITH GRANT OPTION",
        if db.flavor == Flavor::Mariadb { "SET USER" } else { "SET_ANY_DEFINER" },
        rights.into_iter().collect::<Vec<_>>().join(", "),
        schemas.into_iter().collect::<Vec<_>>().join(" and ")
    )
}

/// The steps that make the account and give it what it lacks. `changes`: some trigger is going to be made.
pub(super) async fn steps(
    db: &Mysql,
    conn: &mut MySqlConnection,
    catalog: &Catalog,
    grants: &Grants,
    account: &str,
    needs: &BTreeSet<Need>,
    changes: bool,
) -> Result<Vec<Step>> {
    let who = format!("{}@'localhost'", literal(account));
    let recorded = recorded(db, conn, catalog).await?.is_some_and(|recorded| recorded == account);
    let (create, has) = match Grants::of(conn, account).await? {
        Account::There(has) => (false, Some(has)),
        Account::Missing => (true, Some(Grants::default())),
        // What an earlier attach has made is there, or a trigger could not stand.
        Account::Hidden if recorded && !changes => return Ok(Vec::new()),
        Account::Hidden => (true, None),
    };
    let mut steps = Vec::new();
    if create {
        steps.push(Step::free(format!("create user if not exists {who} identified by {} account lock", literal(&secret()))));
    }
    for n in needs {
        if has.as_ref().is_some_and(|has| has.on(n.right, &n.schema, n.table)) {
            continue;
        }
        let place = match n.table {
            "" => format!("{}.*", quote(&grants.named(&n.schema))),
            table => format!("{}.{table}", quote(&n.schema)),
        };
        steps.push(Step::free(format!("grant {} on {place} to {who}", n.right.to_lowercase())));
    }
    if !recorded {
        let name = literal(account);
        steps.push(Step::free(format!(
            "insert into rowbound_installation (id, account, record) values (1, {name}, '') on duplicate key update account = {name}"
        )));
    }
    Ok(steps)
}

/// A password that nobody knows, for an account that is locked. It is as long as the servers take, and has every class of characters many times, but no two
/// letters in a row: so that it passes whatever `validate_password` and MariaDB's `simple_password_check` and `cracklib` ask for, a dictionary among it.
fn secret() -> String {
    const PARTS: [&[u8]; 4] = [b"abcdefghijkmnpqrstuvwxyz", b"23456789", b"ABCDEFGHJKLMNPQRSTUVWXYZ", b"!#%+,-.:=?@^_~"];
    let mut random = rand::rng();
    (0..128).map(|i| PARTS[i % PARTS.len()]).map(|part| char::from(part[random.random_range(0..part.len())])).collect()
}

/// The account that an earlier `attach` made.
pub(super) async fn recorded(db: &Mysql, conn: &mut MySqlConnection, catalog: &Catalog) -> Result<Option<String>> {
    if !catalog.ours.contains("rowbound_installation") {
        return Ok(None);
    }
    let sql = format!("select account from {}.rowbound_installation where id = 1", quote(&db.database));
    let row = sqlx::query(AssertSqlSafe(sql)).fetch_optional(conn).await.map_err(fault)?;
    row.map_or(Ok(None), |row| maybe_text(&row, 0))
}

/// What the definer of standing triggers is known to lack.
pub(super) async fn lacking(
    conn: &mut MySqlConnection,
    catalog: &Catalog,
    home: &str,
    wanted: &[DesiredTrigger],
    needs: &BTreeSet<Need>,
) -> Result<Vec<String>> {
    // TRIGGER on our own database is for the proof alone where none of the application's tables lies in it.
    let fails = |n: &Need| n.right != "TRIGGER" || wanted.iter().any(|w| w.table.schema == n.schema);
    let account = account(home);
    let definer = format!("{account}@localhost");
    if !catalog.triggers.iter().any(|t| t.definer == definer && super::triggers::is_or_was_ours(catalog, t)) {
        return Ok(Vec::new());
    }
    Ok(match Grants::of(conn, &account).await? {
        Account::Hidden => Vec::new(),
        Account::Missing => {
            vec![format!("the account {definer} is gone, as which the triggers run: every write to a bound table fails (error 1449)")]
        }
        Account::There(has) => needs
            .iter()
            .filter(|n| fails(n) && !has.on(n.right, &n.schema, n.table))
            .map(|n| {
                let place = if n.table.is_empty() { "*" } else { n.table };
                format!(
                    "the account {definer}, as which the triggers run, lacks {} on {}.{place}: writes to bound tables fail (error 1142)",
                    n.right,
                    quote(&n.schema)
                )
            })
            .collect(),
    })
}

/// The trigger of the proof. It stands for a moment, on a table of ours into which only `attach` inserts.
pub(super) const PROOF: &str = "rowbound_proof";

/// A trigger that does all that the others do, on no row, and the statement that fires it.
#[derive(Debug)]
pub(super) struct Proof {
    definer: Option<String>,
    create: String,
    /// Whether a trigger that runs as ourselves keeps our session's role, and in another's session has none.
    drops_role: bool,
}

impl Proof {
    /// For triggers that run as `definer`, or as ourselves.
    pub(super) fn of(db: &Mysql, catalog: &Catalog, wanted: &[DesiredTrigger], definer: Option<&str>) -> Proof {
        let locked: BTreeSet<&TableName> = catalog.keys.iter().map(|k| &k.child).collect();
        let read: BTreeSet<&TableName> = wanted.iter().map(|w| &w.table).chain(locked.iter().copied()).collect();
        let reads = read.into_iter().map(|table| {
            let lock = if locked.contains(table) { " for update" } else { "" };
            format!("  select 1 into rowbound_value from {} where false limit 1{lock};\n", written(table, &db.database))
        });
        let by = definer.map_or_else(String::new, |account| format!("definer = {}@'localhost' ", literal(account)));
        let create = format!(
            "create {by}trigger {PROOF} before insert on rowbound_installation for each row\nbegin\n  declare rowbound_value int;\n{}  insert into \
             rowbound_candidate (storage, value, event, released_at) select '', '', '', utc_timestamp(6) from dual where false;\nend",
            reads.collect::<String>()
        );
        Proof { definer: definer.map(str::to_owned), create, drops_role: definer.is_none() && db.flavor == Flavor::Mariadb }
    }

    /// What makes the trigger.
    pub(super) fn trigger(&self) -> Step {
        Step { sql: vec![self.create.clone()], locks: Some("rowbound_installation".to_owned()) }
    }

    /// What removes it.
    pub(super) fn end() -> Step {
        Step { sql: vec![format!("drop trigger if exists {PROOF}")], locks: Some("rowbound_installation".to_owned()) }
    }

    /// Fires it.
    ///
    /// # Errors
    /// [`Kind::Permission`] says what every write to a bound table would fail with.
    pub(super) async fn fire(&self, conn: &mut MySqlConnection) -> Result<()> {
        let fire = "insert into rowbound_installation (id, record) values (1, '') on duplicate key update record = record";
        let role = match self.drops_role {
            true => maybe_text(&sqlx::query("select current_role()").fetch_one(&mut *conn).await.map_err(fault)?, 0)?,
            false => None,
        };
        if role.is_some() {
            sqlx::raw_sql("set role none").execute(&mut *conn).await.map_err(fault)?;
        }
        sqlx::raw_sql("start transaction").execute(&mut *conn).await.map_err(fault)?;
        let fired = sqlx::raw_sql(fire).execute(&mut *conn).await;
        sqlx::raw_sql("rollback").execute(&mut *conn).await.map_err(fault)?;
        if let Some(role) = role {
            sqlx::raw_sql(AssertSqlSafe(format!("set role {}", quote(&role)))).execute(conn).await.map_err(fault)?;
        }
        let Err(e) = fired else { return Ok(()) };
        if !matches!(number(&e), Some(1044 | 1142 | 1143 | 1227 | 1370 | 1449)) {
            return Err(fault(e));
        }
        let (who, hint) = match &self.definer {
            Some(account) => (format!("{account}@localhost"), "was its account changed by hand? Drop it, then run `rowbound attach` again"),
            None => (
                "the account of `database`".to_owned(),
                "GRANT what the message names to the account itself: a right that it has through a role may not hold within a trigger",
            ),
        };
        Err(Error::new(Kind::Permission, "the triggers could not do their work, so that every write to a bound table would fail")
            .with("as", who)
            .because(fault(e))
            .hint(hint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_has_room_for_its_name() {
        assert_eq!(account("shop"), "rowbound_shop");
        assert!(account(&"x".repeat(64)).len() <= 32);
    }

    #[test]
    fn a_secret_has_every_class_and_no_word() {
        let secret = secret();
        assert_eq!(secret.len(), 128);
        let count = |class: fn(&char) -> bool| secret.chars().filter(class).count();
        assert_eq!(count(char::is_ascii_lowercase), 32);
        assert_eq!(count(char::is_ascii_uppercase), 32);
        assert_eq!(count(char::is_ascii_digit), 32);
        assert!(!secret.as_bytes().windows(2).any(|two| two.iter().all(u8::is_ascii_alphabetic)));
    }
}
