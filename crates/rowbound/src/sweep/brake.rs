//! What stops a sweep before it changes anything.
//!
//! In: counts, and what orphans look like. Out: the [`Brake`] where the counts look like a mistake, with the flag that confirms them. Promise:
//! where the listing, the rows or a column could not be read to their end, or more files would go than is likely, nothing is announced.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Elsewhere, HeldBy, Unread, Work, alike::Likeness, sides::in_config, spool::Counts};
use crate::{
    error::{Error, Kind},
    plan::FILE,
};

/// So many of the columns that hold orphans stand in a message.
const COLUMNS: usize = 3;

/// Fewer orphans that resemble what is needed are an accident.
const FEW: u64 = 3;

/// Why a sweep stopped before it changed anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brake {
    /// What was found.
    pub why: String,
    /// What to look at, and which flag confirms.
    pub hint: String,
    /// What the orphans look like: `36 of 44 begin like a file that is there, then "__"`.
    #[serde(default)]
    pub alike: Vec<String>,
}

impl Brake {
    fn new(why: String, hint: String) -> Option<Brake> {
        Some(Brake { why, hint, alike: Vec::new() })
    }
}

/// The error of a sweep that could not see everything: `what` could not be done, because of `e`.
pub(super) fn inconclusive(what: &str, e: &Error, storage: &str) -> Error {
    Error::new(Kind::Brake, format!("{what}: nothing can be concluded, and nothing was deleted"))
        .with("storage", storage)
        .because(e.full())
        .retry(e.retry_status())
        .hint(format!(
            "{}the same command goes on where it stopped, with --restart it begins anew",
            e.hint_text().map(|h| format!("{h}; then ")).unwrap_or_default()
        ))
}

/// What was not looked through may hold the name of any orphan: nothing goes before a person has given the right to read it, or has said that its rows need no files. The
/// message lists all tables at once.
fn unread(all: &[Unread]) -> Option<Brake> {
    let table = |u: &Unread| {
        let shown = if u.table.is_empty() { &u.column } else { &u.table };
        in_config(shown.trim_end_matches(".*"), u.config.as_deref())
    };
    let of = |denied: bool| -> BTreeSet<String> { all.iter().filter(|u| u.denied == denied).map(table).collect() };
    let (denied, failed) = (of(true), of(false));
    let list = |tables: BTreeSet<String>| tables.into_iter().collect::<Vec<_>>().join(", ");
    let mut why = Vec::new();
    if !denied.is_empty() {
        why.push(format!("Rowbound's account may not read {}", list(denied)));
    }
    if let Some(first) = all.iter().find(|u| !u.denied) {
        why.push(format!("{} could not be read ({}: {})", list(failed), first.shown(), first.why));
    }
    if why.is_empty() {
        return None;
    }
    let rights: Vec<&str> = all.iter().filter(|u| u.table.is_empty()).map(|u| &*u.why).collect();
    let ignored = ignore(all.iter().filter(|u| !u.table.is_empty()).map(|u| (&*u.table, u.config.as_deref())));
    let ignored = ignored.map_or(String::new(), |line| format!("; or, where their rows need no files, write {line}"));
    let grant = match rights.is_empty() {
        true => "let Rowbound's account read them (GRANT SELECT)".to_owned(),
        false => format!("let Rowbound's account read them: {}", rights.join("; ")),
    };
    Brake::new(format!("columns could not be looked through for the names of orphans: {}", why.join("; ")), format!("{grant}{ignored}"))
}

/// The line that says of columns that their rows need no files, and the file in which it belongs.
fn ignore<'a>(columns: impl Iterator<Item = (&'a str, Option<&'a str>)>) -> Option<String> {
    let mut by_file: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (column, config) in columns {
        by_file.entry(config.unwrap_or(FILE)).or_default().insert(column);
    }
    let line = |(file, columns): (&str, BTreeSet<&str>)| {
        let columns: Vec<String> = columns.iter().map(|column| format!("{column:?}")).collect();
        format!("ignore = [{}] at the top of {file}", columns.join(", "))
    };
    let lines: Vec<String> = by_file.into_iter().map(line).collect();
    (!lines.is_empty()).then(|| lines.join(" and "))
}

/// The columns that hold the most orphans, with how many and some of them.
fn holders(columns: &[HeldBy]) -> String {
    let one = |by: &HeldBy| {
        let names: Vec<String> = by.samples.iter().map(|said| format!("{:?}", said.name)).collect();
        format!("{} in {} ({})", by.files, by.shown(), names.join(", "))
    };
    let mut all: Vec<String> = columns.iter().take(COLUMNS).map(one).collect();
    if columns.len() > COLUMNS {
        all.push(format!("and more in {}", counted(columns.len() - COLUMNS, "other column")));
    }
    all.join(", ")
}

fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// What to do about the columns that hold orphans.
fn unhold(columns: &[HeldBy]) -> String {
    let (bound, unbound): (Vec<&HeldBy>, Vec<&HeldBy>) = columns.iter().take(COLUMNS).partition(|by| by.bound);
    let list = |columns: &[&HeldBy]| columns.iter().map(|by| by.shown()).collect::<Vec<_>>().join(", ");
    let mut ways = Vec::new();
    if !unbound.is_empty() {
        let line = ignore(unbound.iter().map(|by| (&*by.column, by.config.as_deref()))).unwrap_or_default();
        ways.push(format!(
            "bind {} (`rowbound init --database .. --storage .. --output -` proposes how), or, where their rows need no files, write {line}",
            list(&unbound)
        ));
    }
    if !bound.is_empty() {
        ways.push(format!("{}: bound, but the binding does not read these names; see its `path` and `where`", list(&bound)));
    }
    ways.join("; ")
}

impl Work<'_> {
    /// What must be confirmed before anything is deleted. Whatever stands in columns that nobody reads counts as an orphan here: it is none that we understand.
    pub(super) fn brake(&self, counts: &Counts, elsewhere: Option<&Elsewhere>) -> Option<Brake> {
        let orphans = counts.orphans.files + counts.held.files;
        if orphans == 0 {
            return None;
        }
        if counts.references == 0 && !self.options.allow_no_references {
            return Brake::new(
                format!("no row references any of the {} files", counts.files),
                "is this the right database, and are all columns bound? If no file is wanted any more: --allow-no-references --max-share 1"
                    .to_owned(),
            );
        }
        let held = counts.held.files as f64 / orphans as f64;
        if held > self.options.max_held {
            let columns: &[HeldBy] = elsewhere.map_or(&[][..], |e| &e.held_by[..]);
            return Brake::new(
                format!(
                    "{} of {orphans} files without a row are held, because their names stand in other values: {:.0} %, more than {:.0} %; {}",
                    counts.held.files,
                    held * 100.0,
                    self.options.max_held * 100.0,
                    holders(columns)
                ),
                format!("{}. If the others are to go all the same: --max-held {:.2}", unhold(columns), (held * 100.0).ceil() / 100.0),
            );
        }
        if let Some(brake) = elsewhere.and_then(|e| unread(&e.unread)) {
            return Some(brake);
        }
        let share = orphans as f64 / counts.files.max(1) as f64;
        if share <= self.options.max_share {
            return None;
        }
        Brake::new(
            format!(
                "{orphans} of {} files are orphans: {:.0} %, more than {:.0} %",
                counts.files,
                share * 100.0,
                self.options.max_share * 100.0
            ),
            format!(
                "look at them first (--list, --report FILE): is a column not bound? If they are to go: --max-share {:.2}",
                (share * 100.0).ceil() / 100.0
            ),
        )
    }

    /// What must be confirmed where most of the orphans are held by nothing, but resemble what is needed: names without their folders, derivatives that no binding knows.
    pub(super) fn brake_alike(&self, counts: &Counts, elsewhere: &Elsewhere, likeness: &Likeness) -> Option<Brake> {
        let most = self.options.max_alike;
        let is_large = |some: u64, all: u64| some >= FEW && some as f64 / all.max(1) as f64 > most;
        let share = |some: u64, all: u64| some as f64 / all.max(1) as f64;
        let flag = |some: u64, all: u64| format!("if they are to go: --max-alike {:.2}", (share(some, all) * 100.0).ceil() / 100.0);
        let (made, of) = (likeness.made as u64, likeness.of as u64);
        if is_large(made, of) {
            let example = likeness.example.as_ref().map_or(String::new(), |(name, of)| format!("; such as {name:?}, made of {of:?}"));
            return Brake::new(
                format!(
                    "{made} of {of} orphans that were looked at seem to be made of files that are there: {:.0} %, more than {:.0} %{example}",
                    share(made, of) * 100.0,
                    most * 100.0
                ),
                format!(
                    "write `derivatives` at the binding of the originals (docs/derivatives.md), or `ignore` at the storage; {}",
                    flag(made, of)
                ),
            );
        }
        let (similar, orphans) = (elsewhere.similar.files, counts.orphans.files);
        if is_large(similar, orphans) {
            let example = elsewhere.similar.samples.first();
            let example = example.map_or(String::new(), |said| format!("; such as {:?} in {}: {:?}", said.name, said.column, said.value));
            return Brake::new(
                format!(
                    "the last part of the names of {similar} of {orphans} orphans stands in some value: {:.0} %, more than {:.0} %{example}",
                    share(similar, orphans) * 100.0,
                    most * 100.0
                ),
                format!(
                    "does a column hold names without their folders? A query puts them together ([[reference]], docs/bindings.md); {}",
                    flag(similar, orphans)
                ),
            );
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{name::FileName, sweep::MentionSample};

    #[test]
    fn every_table_that_was_not_read_is_told_with_both_ways_out() {
        let one = |column: &str, table: &str, why: &str, denied| Unread {
            column: column.to_owned(),
            config: None,
            table: table.to_owned(),
            why: why.to_owned(),
            denied,
        };
        assert_eq!(unread(&[]), None);
        let denied =
            [one("page.intro", "page.*", "no", true), one("page.body", "page.*", "no", true), one("s.log.line", "s.log.*", "no", true)];
        let brake = unread(&denied).unwrap();
        assert!(brake.why.ends_with(": Rowbound's account may not read page, s.log"), "{}", brake.why);
        assert!(brake.hint.contains("GRANT SELECT") && brake.hint.contains(r#"ignore = ["page.*", "s.log.*"]"#), "{}", brake.hint);

        let brake = unread(&[denied[0].clone(), one("note.body", "note.*", "a lock", false)]).unwrap();
        assert!(brake.why.ends_with("may not read page; note could not be read (note.body: a lock)"), "{}", brake.why);

        let theirs = Unread { config: Some("/srv/blog/rowbound.toml".to_owned()), ..denied[0].clone() };
        let brake = unread(&[denied[2].clone(), theirs]).unwrap();
        assert!(brake.why.ends_with("may not read page (/srv/blog/rowbound.toml), s.log"), "{}", brake.why);
        let lines = r#"ignore = ["page.*"] at the top of /srv/blog/rowbound.toml and ignore = ["s.log.*"] at the top of rowbound.toml"#;
        assert!(brake.hint.contains(lines), "{}", brake.hint);

        let brake = unread(&[one("tables that the account does not see", "", "grant SELECT ON `app`.*", true)]).unwrap();
        assert!(brake.hint.contains("grant SELECT ON `app`.*") && !brake.hint.contains("ignore"), "{}", brake.hint);
    }

    #[test]
    fn who_holds_orphans_is_told_what_can_be_done_about_it() {
        let one = |column: &str, config: Option<&str>, bound| HeldBy {
            column: column.to_owned(),
            config: config.map(str::to_owned),
            bound,
            files: 2,
            samples: vec![MentionSample { name: FileName::parse("a.jpg").unwrap(), column: column.to_owned(), value: "a.jpg".to_owned() }],
        };
        let theirs = one("doc.title", Some("/srv/blog/rowbound.toml"), false);
        let all = [one("note.body", None, false), theirs, one("media.meta", None, true), one("b.c", None, false), one("d.e", None, false)];
        assert_eq!(
            holders(&all),
            r#"2 in note.body ("a.jpg"), 2 in doc.title (/srv/blog/rowbound.toml) ("a.jpg"), 2 in media.meta ("a.jpg"), and more in 2 other columns"#
        );
        let hint = unhold(&all);
        for said in [
            "bind note.body, doc.title (/srv/blog/rowbound.toml) (",
            r#"write ignore = ["doc.title"] at the top of /srv/blog/rowbound.toml and ignore = ["note.body"] at the top of rowbound.toml"#,
            "; media.meta: bound, but",
        ] {
            assert!(hint.contains(said), "{said:?} is not in {hint:?}");
        }
        assert!(!unhold(&all[2..3]).contains("ignore"), "a bound column cannot be ignored");
    }
}
