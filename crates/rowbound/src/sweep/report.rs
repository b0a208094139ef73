//! What a sweep reports, and what keeps it from deleting.
//!
//! In: counts, and the findings on disk. Out: a [`Report`], and the [`Brake`] where the counts look like a mistake.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Cut, Elsewhere, HeldBy, Similar, Unread, Work, groups,
    spool::{Counts, Spool},
};
use crate::{database::redact, error::Result, name::FileName};

/// Files, counted and weighed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// How many.
    pub files: u64,
    /// Their bytes in all.
    pub bytes: u64,
}

impl Amount {
    pub(super) fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }
}

/// A part of the orphans: those of one folder, or of one age.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// The folder (`2024/03/`; empty: the storage's root) or the age (`1 to 7 days`).
    pub label: String,
    /// What is in it.
    #[serde(flatten)]
    pub amount: Amount,
}

/// A file that no row names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orphan {
    /// Its name.
    pub name: FileName,
    /// Bytes.
    pub size: u64,
    /// Last modification, by the storage's clock.
    pub modified: Timestamp,
}

/// A row that names a file that is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dangling {
    /// The name.
    pub name: FileName,
    /// The column, `table.column`.
    pub column: String,
    /// The row's key as text, a JSON array where it has several columns.
    pub key: Option<String>,
    /// Whether the trash still holds the file.
    pub in_trash: bool,
    /// The file that lies under another normal form of the name (`é` as one character or as two): probably the one that is meant.
    #[serde(default)]
    pub file: Option<FileName>,
}

/// Values of one column that are not read as they might be meant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Odd {
    /// How many values, or files that only such values could mean.
    pub count: u64,
    /// A few of the values, cut off if they are long.
    pub samples: Vec<String>,
    /// The files that these could mean.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileName>,
}

impl Odd {
    pub(super) fn add(&mut self, file: Option<&FileName>, value: &[u8]) {
        self.count += 1;
        if self.samples.len() < 3 {
            let text = String::from_utf8_lossy(value);
            self.samples.push(text.chars().take(120).collect());
            self.files.extend(file.cloned());
        }
    }
}

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

/// What a sweep of one storage found and did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The storage's name in the plan.
    pub storage: String,
    /// Where it is.
    pub url: String,
    /// The database, without its password.
    pub database: String,
    /// When the sweep began (at first, if it was interrupted and taken up again).
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// Only names that begin with this; empty: all.
    pub prefix: String,
    /// Plain files that were listed.
    pub files: u64,
    /// Distinct names that rows hold.
    pub references: u64,
    /// Files that no row names, old enough to go, and whose names stand in no column.
    pub orphans: Amount,
    /// Files that no bound column names, but whose full names stand in another column: they are held.
    pub held: Amount,
    /// The columns in which they stand.
    pub held_by: Vec<HeldBy>,
    /// Orphans of which only the last part of the name stands in some column.
    pub similar: Similar,
    /// Columns that could not be looked through for that.
    pub unread: Vec<Unread>,
    /// Columns of which some values are so long that only their beginning was looked through.
    pub cut: Vec<Cut>,
    /// Files that no row names, but too young to judge.
    pub young: Amount,
    /// Files that no row names, but made from one that is there.
    pub derived: Amount,
    /// Files that no row names, but that a text, a JSON value or an array mentions outside of what its binding reads, or, on S3, a row may mean by another spelling.
    pub mentioned: Amount,
    /// Files that no row references as it is read, but that a value could mean: by another spelling of the name, or under a prefix that no binding has. They stay.
    pub otherwise: Amount,
    /// These, by the column of the value.
    pub otherwise_in: BTreeMap<String, Odd>,
    /// Values that are read as no name, by column; of a sweep that was taken up again, those since then.
    pub unexplained: BTreeMap<String, Odd>,
    /// Files that no row names, under a `keep` or an `ignore` pattern.
    pub protected: u64,
    /// Entries that no row could name: links, names that are refused.
    pub odd: u64,
    /// Distinct names that rows hold and that have no file.
    pub dangling: u64,
    /// Of these, how many the trash still holds.
    pub in_trash: u64,
    /// Of these, how many have a file under another normal form of the name.
    pub other_form: u64,
    /// The orphans by folder, the heaviest first; at most twenty, then the others.
    pub by_folder: Vec<Group>,
    /// The orphans by age, the youngest first.
    pub by_age: Vec<Group>,
    /// Why nothing may be deleted on these findings, if it is so.
    pub brake: Option<Brake>,
    /// Orphans that became candidates.
    pub announced: u64,
    /// Files that came back from the trash.
    pub healed: u64,
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
                format!("no row names any of the {} files", counts.files),
                "is this the right database, and are all columns bound? If no file is wanted any more: --allow-no-references --max-share 1"
                    .to_owned(),
            );
        }
        let held = counts.held.files as f64 / orphans as f64;
        if held > self.options.max_held {
            let column = elsewhere.and_then(|e| e.held_by.first()).map_or(String::new(), |by| by.column.clone());
            return Brake::new(
                format!(
                    "the names of {} of {orphans} files that no binding reads stand in other columns: {:.0} %, more than {:.0} %",
                    counts.held.files,
                    held * 100.0,
                    self.options.max_held * 100.0
                ),
                format!(
                    "bind these columns (`rowbound init --output -` proposes how), or, where rows need no files, write ignore = [{column:?}] at the top of rowbound.toml. \
                     If the others are to go all the same: --max-held {:.2}",
                    (held * 100.0).ceil() / 100.0
                ),
            );
        }
        if let Some(unread) = elsewhere.and_then(|e| e.unread.first()) {
            return Brake::new(
                format!("columns could not be looked through for the names of orphans: {}: {}", unread.column, unread.why),
                format!(
                    "let Rowbound's account read them, or, where rows need no files, write ignore = [{:?}] at the top of rowbound.toml",
                    unread.column
                ),
            );
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

    pub(super) fn report(&self, spool: &Spool, counts: &Counts, elsewhere: Elsewhere) -> Result<Report> {
        let (by_folder, by_age) = groups::of(spool.findings()?, spool.started)?;
        Ok(Report {
            storage: self.storage.name.clone(),
            url: self.storage.url(),
            database: redact(&self.plan.database),
            started: spool.started,
            ended: Timestamp::now(),
            prefix: self.options.prefix.clone(),
            files: counts.files,
            references: counts.references,
            orphans: counts.orphans,
            held: counts.held,
            held_by: elsewhere.held_by,
            similar: elsewhere.similar,
            unread: elsewhere.unread,
            cut: elsewhere.cut,
            young: counts.young,
            derived: counts.derived,
            mentioned: counts.mentioned,
            otherwise: counts.otherwise,
            otherwise_in: counts.otherwise_in.clone(),
            unexplained: counts.unexplained.clone(),
            protected: counts.protected,
            odd: counts.odd,
            dangling: counts.dangling,
            in_trash: counts.in_trash,
            other_form: counts.other_form,
            by_folder,
            by_age,
            brake: None,
            announced: 0,
            healed: 0,
        })
    }
}
