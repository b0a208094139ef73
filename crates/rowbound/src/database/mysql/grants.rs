//! SHOW GRANTS -> what an account may do.
//!
//! In: the lines that the server prints. Out: [`Grants`]. Rights on single columns and revokes in part are not counted: what is
//! asked for here is needed on whole tables.

use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, MySqlConnection};

use super::{fault, fault::number, literal, text};
use crate::error::Result;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    rights: BTreeSet<String>,
    /// `None`: all. May hold `%`, `_` and `\`.
    schema: Option<String>,
    /// `None`: all.
    table: Option<String>,
    may_grant: bool,
}

/// What an account may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Grants(Vec<Line>);

impl Grants {
    /// Our own, with those of the active roles.
    pub(super) async fn own(conn: &mut MySqlConnection) -> Result<Grants> {
        let rows = sqlx::raw_sql("show grants").fetch_all(conn).await.map_err(fault)?;
        Ok(Grants(rows.iter().map(|r| text(r, 0)).collect::<Result<Vec<_>>>()?.iter().filter_map(|l| parse(l)).collect()))
    }

    /// Another account's; `None` if there is no such account.
    pub(super) async fn of(conn: &mut MySqlConnection, user: &str) -> Result<Option<Grants>> {
        let sql = format!("show grants for {}@'localhost'", literal(user));
        match sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(conn).await {
            Ok(rows) => {
                Ok(Some(Grants(rows.iter().map(|r| text(r, 0)).collect::<Result<Vec<_>>>()?.iter().filter_map(|l| parse(l)).collect())))
            }
            // There is no such grant defined for the user.
            Err(e) if number(&e) == Some(1141) => Ok(None),
            Err(e) => Err(fault(e)),
        }
    }

    /// Whether it has `right` everywhere.
    pub(super) fn everywhere(&self, right: &str) -> bool {
        self.0.iter().any(|l| l.schema.is_none() && l.has(right))
    }

    /// Whether it has `right` on a table.
    pub(super) fn on(&self, right: &str, schema: &str, table: &str) -> bool {
        self.0.iter().any(|l| {
            l.has(right)
                && match (&l.schema, &l.table) {
                    (None, _) => true,
                    (Some(s), None) => like(s.as_bytes(), schema.as_bytes()),
                    (Some(s), Some(t)) => s.eq_ignore_ascii_case(schema) && t.eq_ignore_ascii_case(table),
                }
        })
    }

    /// Whether it may make an account and triggers that run as that account.
    pub(super) fn makes_accounts(&self) -> bool {
        self.everywhere("CREATE USER")
            && ["SET USER", "SET_USER_ID", "SET_ANY_DEFINER"].iter().any(|r| self.everywhere(r))
            && self.0.iter().any(|l| l.schema.is_none() && l.may_grant)
    }
}

impl Line {
    fn has(&self, right: &str) -> bool {
        self.rights.contains(right) || self.rights.contains("ALL PRIVILEGES")
    }
}

fn parse(line: &str) -> Option<Line> {
    let rest = line.strip_prefix("GRANT ")?;
    let (rights, rest) = rest.split_once(" ON ")?;
    let mut cut = rest.char_indices().scan(false, |quoted, (i, c)| {
        if c == '`' {
            *quoted = !*quoted;
        }
        Some((i, *quoted))
    });
    let end = cut.find(|(i, quoted)| !quoted && rest[*i..].starts_with(" TO "))?.0;
    let (schema, table) = split_object(&rest[..end])?;
    let mut names = BTreeSet::new();
    let mut depth = 0_usize;
    let mut name = String::new();
    let mut on_columns = false;
    for c in rights.chars().chain([',']) {
        match c {
            '(' => {
                depth += 1;
                on_columns = true;
            }
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                if !on_columns {
                    names.insert(name.trim().to_ascii_uppercase());
                }
                name.clear();
                on_columns = false;
            }
            c if depth == 0 => name.push(c),
            _ => {}
        }
    }
    Some(Line { rights: names, schema, table, may_grant: rest[end..].contains(" WITH GRANT OPTION") })
}

/// `*.*`, `` `db`.* `` or `` `db`.`table` ``.
fn split_object(text: &str) -> Option<(Option<String>, Option<String>)> {
    if text == "*.*" {
        return Some((None, None));
    }
    let unquote = |part: &str| Some(part.strip_prefix('`')?.strip_suffix('`')?.replace("``", "`"));
    let (schema, table) = text
        .strip_suffix(".*")
        .map_or_else(|| text.split_once("`.`").map(|(s, t)| (format!("{s}`"), Some(format!("`{t}")))), |s| Some((s.to_owned(), None)))?;
    Some((Some(unquote(&schema)?), table.map(|t| unquote(&t)).unwrap_or_default()))
}

/// SQL's LIKE with `\` as the escape, as rights on databases use it.
fn like(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'%', rest @ ..], _) => like(rest, text) || (!text.is_empty() && like(pattern, &text[1..])),
        ([b'\\', p, pattern @ ..], [t, text @ ..]) => p == t && like(pattern, text),
        ([b'_', pattern @ ..], [_, text @ ..]) => like(pattern, text),
        ([p, pattern @ ..], [t, text @ ..]) => p.eq_ignore_ascii_case(t) && like(pattern, text),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_read_as_the_servers_print_them() {
        let grants = Grants(
            [
                "GRANT PROCESS, CREATE USER ON *.* TO `app`@`%` IDENTIFIED BY PASSWORD '*0' WITH GRANT OPTION",
                "GRANT SELECT, INSERT ON `my\\_app%`.* TO `app`@`%`",
                "GRANT TRIGGER, SELECT (`a`, `b`), UPDATE ON `x``y`.`t TO z` TO `app`@`%`",
                "GRANT `role` TO `app`@`%`",
                "GRANT SET_ANY_DEFINER ON *.* TO `app`@`%`",
            ]
            .iter()
            .filter_map(|l| parse(l))
            .collect(),
        );
        assert_eq!(grants.0.len(), 4);
        assert!(grants.everywhere("PROCESS") && !grants.everywhere("SELECT"));
        assert!(grants.on("INSERT", "my_app2", "t") && !grants.on("INSERT", "myxapp", "t"));
        assert!(grants.on("TRIGGER", "x`y", "t TO z") && grants.on("UPDATE", "x`y", "t TO z"));
        assert!(!grants.on("SELECT", "x`y", "t TO z"), "columns are not the table");
        assert!(grants.makes_accounts());
        let all = Grants(vec![parse("GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION").unwrap()]);
        assert!(all.makes_accounts() && all.on("TRIGGER", "a", "b"));
    }
}
