//! What a database could hold names in: its text, JSON and BLOB columns, and a few values of each.
//!
//! In: a database that may be huge and in use, and whose schema nobody has declared. Out: columns, and samples that are bounded in rows, in time and
//! in bytes. Promise: nothing is changed, and no lock is held that an application would wait for.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::binding::Column;

/// A sample never reads further into one value, in characters.
pub const LONGEST: usize = 65_536;

/// How long one statement of a sample may take. What it has not found by then counts as not looked at.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// From how many rows on a table is not read from its beginning but here and there.
pub const SMALL: u64 = 10_000;

/// What the values of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Text, or bytes that may be text.
    Text,
    /// JSON, by the column's type.
    Json,
    /// A list of texts (PostgreSQL); a sample gives it as JSON.
    Array,
    /// Bytes without a character set.
    Blob,
}

/// [`Columns::values`](super::Columns::values) hands over a value that is longer than this, in bytes, in pieces: memory does not grow with a value.
pub const PIECE: usize = 1 << 20;

/// Each piece begins with so many bytes of the end of the one before. A name may have 4,096 bytes (`PATH_MAX` of Linux; a key of S3 has 1,024 at most), and each of them may
/// be written as 18: percent-encoded, and each of those three as `\u0025` is. So every name stands whole in some piece, with as much before it as it is long: the
/// backslashes of an escape that was cut in two are told apart by then.
pub const OVERLAP: usize = 160 << 10;

/// From the beginning of a piece to that of the next.
pub(super) const STEP: usize = PIECE - OVERLAP;

/// A column of the application in whose values names could stand.
///
/// Tables of the system, of extensions and of Rowbound are left out; so are views (their rows stand in tables) and partitions and children
/// (their rows count with the table above them).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TextColumn {
    /// As a binding would name it: without the schema where the connection finds the table without it.
    #[serde(serialize_with = "shown")]
    pub column: Column,
    /// The schema (PostgreSQL) or database (MySQL) that the table is in; empty on SQLite.
    pub schema: String,
    /// The type as the database writes it.
    pub data_type: String,
    /// What its values are.
    pub class: Class,
    /// About how many rows the table has; 0 also where the database has not counted them yet.
    pub rows: u64,
    /// Whether it belongs to the primary key.
    pub key: bool,
    /// Whether it refers to a column of another table, whose values it repeats.
    pub foreign_key: bool,
    /// Whether it is computed from other columns.
    pub generated: bool,
    /// Whether an index begins with it.
    pub indexed: bool,
}

/// Distinct values of a column.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sample {
    /// Neither NULL nor empty nor other than UTF-8; cut off after [`LONGEST`] characters.
    pub values: Vec<String>,
    /// Whether there may be rows with values that were not looked at.
    pub partial: bool,
    /// The value that came most often, and how often, if one came twice.
    pub most: Option<(String, usize)>,
    /// How many values were looked at, equal ones as often as they came.
    pub rows: usize,
}

impl Sample {
    /// Keeps the first `limit` distinct values.
    pub(super) fn of(values: impl IntoIterator<Item = Vec<u8>>, limit: usize, partial: bool) -> Sample {
        let mut sample = Sample { partial, ..Sample::default() };
        sample.add(values, limit);
        sample
    }

    /// Adds values that are not in it yet, up to `limit` in all.
    pub(super) fn add(&mut self, values: impl IntoIterator<Item = Vec<u8>>, limit: usize) {
        let mut seen: std::collections::HashMap<String, usize> = self.values.iter().map(|value| (value.clone(), 1)).collect();
        for value in values {
            let text = match String::from_utf8(value) {
                Ok(text) => text,
                // Bytes that were cut off within a character.
                Err(e) if e.utf8_error().error_len().is_none() => {
                    String::from_utf8_lossy(&e.as_bytes()[..e.utf8_error().valid_up_to()]).into_owned()
                }
                Err(_) => continue,
            };
            if text.is_empty() {
                continue;
            }
            if let Some(times) = seen.get_mut(&text) {
                *times += 1;
                self.rows += 1;
                if self.most.as_ref().is_none_or(|(_, most)| *times > *most) {
                    self.most = Some((text, *times));
                }
                continue;
            }
            if self.values.len() == limit {
                self.partial = true;
                return;
            }
            self.rows += 1;
            seen.insert(text.clone(), 1);
            self.values.push(text);
        }
    }
}

impl TextColumn {
    /// Whether `other`, as a plan writes it, means this column. `*` as the column means every column of the table.
    pub fn is(&self, other: &Column) -> bool {
        // SQLite folds case everywhere, MySQL in columns; a database in which two differ only in case is not worth a mistake.
        let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
        let schema = match &other.schema {
            None => self.column.schema.is_none(),
            Some(schema) => same(schema, if self.schema.is_empty() { "main" } else { &self.schema }),
        };
        schema && same(&self.column.table, &other.table) && (other.column == "*" || same(&self.column.column, &other.column))
    }
}

/// Where to read in a table whose keys go from `first` to `last`: so many windows, evenly, each from its key on.
pub(super) fn windows(first: i64, last: i64, count: i64) -> Vec<i64> {
    let span = i128::from(last) - i128::from(first);
    (0..count).map(|i| i64::try_from(i128::from(first) + span * i128::from(i) / i128::from(count)).unwrap_or(first)).collect()
}

fn shown<S: Serializer>(column: &Column, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(column)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(schema: Option<&str>, inside: &str) -> TextColumn {
        TextColumn {
            column: Column { schema: schema.map(str::to_owned), table: "doc".into(), column: "file".into() },
            schema: inside.into(),
            data_type: "text".into(),
            class: Class::Text,
            rows: 0,
            key: false,
            foreign_key: false,
            generated: false,
            indexed: false,
        }
    }

    #[test]
    fn a_column_is_known_by_every_way_to_write_it() {
        let is = |c: &TextColumn, text: &str| c.is(&Column::parse(text).unwrap());
        let own = column(None, "public");
        assert!(is(&own, "doc.file") && is(&own, "public.doc.file") && is(&own, "doc.*") && is(&own, "DOC.File"));
        assert!(!is(&own, "other.doc.file") && !is(&own, "doc.title") && !is(&own, "docs.file"));
        let other = column(Some("other"), "other");
        assert!(is(&other, "other.doc.file") && !is(&other, "doc.file"));
        assert!(is(&column(None, ""), "main.doc.file"));
    }

    #[test]
    fn windows_lie_evenly_whatever_the_keys_are() {
        assert_eq!(windows(1, 101, 4), [1, 26, 51, 76]);
        assert_eq!(windows(i64::MIN, i64::MAX, 2), [i64::MIN, -1]);
        assert_eq!(windows(5, 5, 2), [5, 5]);
    }

    #[test]
    fn a_sample_holds_each_value_once_and_says_what_it_left_out() {
        let values = ["a", "", "a", "b"].map(|v| v.as_bytes().to_vec());
        let whole = Sample::of(values.clone().into_iter().chain([vec![0xff]]), 2, false);
        let values_of = vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(whole, Sample { values: values_of, partial: false, most: Some(("a".to_owned(), 2)), rows: 3 });
        assert!(Sample::of(values, 1, false).partial);
    }
}
