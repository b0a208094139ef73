//! SHOW GRANTS -> what an account may do.
//!
//! In: the lines that the server prints. Out: [`Grants`]. Rights on single columns are not counted: what is asked for here is needed on
//! whole tables.

use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, MySqlConnection};

use super::{fault, fault::number, literal, text};
use crate::error::Result;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    /// `REVOKE ..`, which MySQL prints with `partial_revokes`: a database in which a right on all of them does not hold.
    revoked: bool,
    rights: BTreeSet<String>,
    /// `None`: all. May hold `%`, `_` and `\`.
    schema: Option<String>,
    /// `None`: all.
    table: Option<String>,
    may_grant: bool,
}

/// What an account may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Grants {
    lines: Vec<Line>,
    /// The server takes `%`, `_` and `\` in a database's name as they are (`partial_revokes`), and not as wildcards.
    exact: bool,
}

/// What is known of another account.
#[derive(Debug)]
pub(super) enum Account {
    Missing,
    There(Grants),
    /// We may not look: that takes SELECT on the server's own tables.
    Hidden,
}

/// Whether the server takes the name of a database in a right as it is.
async fn is_exact(conn: &mut MySqlConnection) -> Result<bool> {
    // Neither MariaDB nor MySQL before 8.0.16 has the variable.
    let row = sqlx::raw_sql("show global variables like 'partial_revokes'").fetch_optional(conn).await.map_err(fault)?;
    row.map_or(Ok(false), |row| Ok(text(&row, 1)?.eq_ignore_ascii_case("ON")))
}

impl Grants {
    fn of_lines<'l>(lines: impl IntoIterator<Item = &'l str>, exact: bool) -> Grants {
        Grants { lines: lines.into_iter().filter_map(parse).collect(), exact }
    }

    /// Our own, with those of the active roles.
    pub(super) async fn own(conn: &mut MySqlConnection) -> Result<Grants> {
        let exact = is_exact(&mut *conn).await?;
        let rows = sqlx::raw_sql("show grants").fetch_all(conn).await.map_err(fault)?;
        let lines = rows.iter().map(|r| text(r, 0)).collect::<Result<Vec<_>>>()?;
        Ok(Self::of_lines(lines.iter().map(String::as_str), exact))
    }

    /// Another account's.
    pub(super) async fn of(conn: &mut MySqlConnection, user: &str) -> Result<Account> {
        let exact = is_exact(&mut *conn).await?;
        let sql = format!("show grants for {}@'localhost'", literal(user));
        match sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(conn).await {
            Ok(rows) => {
                let lines = rows.iter().map(|r| text(r, 0)).collect::<Result<Vec<_>>>()?;
                Ok(Account::There(Self::of_lines(lines.iter().map(String::as_str), exact)))
            }
            // There is no such grant defined for the user.
            Err(e) if number(&e) == Some(1141) => Ok(Account::Missing),
            Err(e) if matches!(number(&e), Some(1044 | 1142 | 1143 | 1227)) => Ok(Account::Hidden),
            Err(e) => Err(fault(e)),
        }
    }

    /// A database's name as a right on it names it, unquoted.
    pub(super) fn named(&self, schema: &str) -> String {
        if self.exact { schema.to_owned() } else { schema.replace('\\', "\\\\").replace('_', "\\_").replace('%', "\\%") }
    }

    /// Whether it has `right` everywhere.
    pub(super) fn everywhere(&self, right: &str) -> bool {
        self.lines.iter().any(|l| !l.revoked && l.schema.is_none() && l.has(right))
    }

    /// Whether it has `right` on a table; on all tables of the database where `table` is empty.
    pub(super) fn on(&self, right: &str, schema: &str, table: &str) -> bool {
        self.any(right, schema, table, |_| true)
    }

    /// Whether it may give `right` on such a table to another account.
    pub(super) fn gives(&self, right: &str, schema: &str, table: &str) -> bool {
        self.any(right, schema, table, |l| l.may_grant)
    }

    fn any(&self, right: &str, schema: &str, table: &str, and: impl Fn(&Line) -> bool) -> bool {
        let named = |s: &str| if self.exact { s == schema } else { like(s.as_bytes(), schema.as_bytes()) };
        let revoked = || self.lines.iter().any(|l| l.revoked && l.has(right) && l.schema.as_deref().is_some_and(named));
        self.lines.iter().filter(|l| !l.revoked && l.has(right) && and(l)).any(|l| match (&l.schema, &l.table) {
            (None, _) => !revoked(),
            (Some(s), None) => named(s),
            (Some(s), Some(t)) => s.eq_ignore_ascii_case(schema) && t.eq_ignore_ascii_case(table),
        })
    }

    /// Whether it may make an account, and triggers that run as that account.
    pub(super) fn makes_accounts(&self) -> bool {
        self.everywhere("CREATE USER") && ["SET USER", "SET_USER_ID", "SET_ANY_DEFINER"].iter().any(|r| self.everywhere(r))
    }
}

impl Line {
    fn has(&self, right: &str) -> bool {
        self.rights.contains(right) || self.rights.contains("ALL PRIVILEGES")
    }
}

fn parse(line: &str) -> Option<Line> {
    let (revoked, rest) = match line.strip_prefix("GRANT ") {
        Some(rest) => (false, rest),
        None => (true, line.strip_prefix("REVOKE ")?),
    };
    let end_word = if revoked { " FROM " } else { " TO " };
    let (rights, rest) = rest.split_once(" ON ")?;
    let mut cut = rest.char_indices().scan(false, |quoted, (i, c)| {
        if c == '`' {
            *quoted = !*quoted;
        }
        Some((i, *quoted))
    });
    let end = cut.find(|(i, quoted)| !quoted && rest[*i..].starts_with(end_word))?.0;
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
    Some(Line { revoked, rights: names, schema, table, may_grant: rest[end..].contains(" WITH GRANT OPTION") })
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
        let lines = [
            "GRANT PROCESS, CREATE USER ON *.* TO `app`@`%` IDENTIFIED BY PASSWORD '*0' WITH GRANT OPTION",
            "GRANT SELECT, INSERT ON `my\\_app%`.* TO `app`@`%`",
            "GRANT TRIGGER, SELECT (`a`, `b`), UPDATE ON `x``y`.`t TO z` TO `app`@`%`",
            "GRANT `role` TO `app`@`%`",
            "GRANT SET_ANY_DEFINER ON *.* TO `app`@`%`",
        ];
        let grants = Grants::of_lines(lines, false);
        assert_eq!(grants.lines.len(), 4);
        assert!(grants.everywhere("PROCESS") && !grants.everywhere("SELECT"));
        assert!(grants.on("INSERT", "my_app2", "t") && !grants.on("INSERT", "myxapp", "t"));
        assert!(grants.on("TRIGGER", "x`y", "t TO z") && grants.on("UPDATE", "x`y", "t TO z"));
        assert!(!grants.on("SELECT", "x`y", "t TO z"), "columns are not the table");
        assert!(grants.makes_accounts() && grants.gives("PROCESS", "a", "") && !grants.gives("INSERT", "my_app2", ""));
        let all = Grants::of_lines(["GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION"], false);
        assert!(all.makes_accounts() && all.on("TRIGGER", "a", "b") && all.gives("TRIGGER", "a", ""));
    }

    #[test]
    fn with_partial_revokes_a_name_is_no_pattern_and_a_right_on_all_has_holes() {
        let lines =
            ["GRANT SELECT ON *.* TO `a`@`%`", "REVOKE SELECT ON `my_app`.* FROM `a`@`%`", "GRANT TRIGGER ON `my\\_app`.* TO `a`@`%`"];
        let exact = Grants::of_lines(lines, true);
        assert!(exact.on("SELECT", "other", "t") && !exact.on("SELECT", "my_app", "t") && exact.on("SELECT", "myxapp", "t"));
        assert!(!exact.on("TRIGGER", "my_app", "t") && exact.on("TRIGGER", "my\\_app", "t"));
        assert_eq!(exact.named("my_app"), "my_app");
        let patterns = Grants::of_lines(lines, false);
        assert!(patterns.on("TRIGGER", "my_app", "t"));
        assert_eq!(patterns.named("my_app"), "my\\_app");
    }
}
