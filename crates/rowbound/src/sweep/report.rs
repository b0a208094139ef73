//! What a sweep reports.
//!
//! In: counts, and the findings on disk. Out: a [`Report`].

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Brake, Elsewhere, HeldBy, Similar, Unread, Work, groups,
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

/// A file that no row references.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orphan {
    /// Its name.
    pub name: FileName,
    /// Bytes.
    pub size: u64,
    /// Last modification, by the storage's clock.
    pub modified: Timestamp,
}

/// A row that references a file that is not there.
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
    /// The file that lies under another normal form of the name (`é` as one character or as two): probably the right one.
    #[serde(default)]
    pub file: Option<FileName>,
}

/// Values of one column that are not read as they might be meant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AmbiguousValues {
    /// How many values, or files that only such values could mean.
    pub count: u64,
    /// A few of the values, cut off if they are long.
    pub samples: Vec<String>,
    /// The files that these could mean.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileName>,
}

impl AmbiguousValues {
    pub(super) fn add(&mut self, file: Option<&FileName>, value: &[u8]) {
        self.count += 1;
        if self.samples.len() < 3 {
            let text = String::from_utf8_lossy(value);
            self.samples.push(text.chars().take(120).collect());
            self.files.extend(file.cloned());
        }
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
    /// Files that no row references, old enough to go, and whose names stand in no value.
    pub orphans: Amount,
    /// Files without a row whose names stand in a value, though no binding reads them there: they are held.
    pub held: Amount,
    /// The columns in which they stand.
    pub held_by: Vec<HeldBy>,
    /// Orphans of which only the last part of the name stands in some column.
    pub similar: Similar,
    /// Columns that could not be looked through for that.
    pub unread: Vec<Unread>,
    /// Files that no row references, but too young to judge.
    pub young: Amount,
    /// Files that no row references, but made from one that is there.
    pub derived: Amount,
    /// Files that no row references, but that a text, a JSON value or an array mentions outside of what its binding reads, or, on S3, a row may mean by another spelling.
    pub mentioned: Amount,
    /// Files that no row references as it is read, but that a value could mean: by another spelling of the name, or under a prefix that no binding has. They stay.
    pub otherwise: Amount,
    /// These, by the column of the value.
    pub otherwise_in: BTreeMap<String, AmbiguousValues>,
    /// Values that are read as no name, by column; of a sweep that was taken up again, those since then.
    pub unexplained: BTreeMap<String, AmbiguousValues>,
    /// Files that no row references, under a `keep` or an `ignore` pattern.
    pub protected: u64,
    /// Entries that no row could reference: links, names that are refused.
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
