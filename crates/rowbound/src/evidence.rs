//! Evidence: which columns seem to reference files of a storage, and how that is known.
//!
//! In: a database whose columns nobody has declared, and storages. Out: for each column the sampled values that stand for files that exist, and
//! how they have to be read for that: as names, as URLs, inside JSON or inside text. Promise: nothing is changed, and what could not be looked
//! at is said. A sample proves that a column references files; it never proves that it does not.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{
    binding::{Binding, Column, is_elsewhere},
    clock,
    database::{
        Database,
        survey::{Class, Sample, TextColumn},
    },
    error::{Kind, Result},
    name::FileName,
    storage::{Stat, Storage},
};

mod bound; // bound columns of which no value is a file
mod mentions; // a value -> everything that it could reference
pub mod values; // all values of a bound column: how deep a check must look

pub use bound::{Cause, Unfit, unfit};
pub(crate) use bound::{above, within};
use mentions::{Mention, mentions};

/// How a column's values have to be read to become names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reading {
    /// The value is the name.
    Name,
    /// A prefix, then the name.
    Url,
    /// Names or URLs at paths within JSON.
    Json,
    /// A key, whose file lies at `ab/cd/abcd..`: Active Storage's on a disk.
    Key,
    /// A list of names (PostgreSQL).
    Array,
    /// Names or URLs within text, HTML or Markdown.
    Text,
}

/// What was seen of a column that references files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// The column.
    #[serde(flatten)]
    pub column: TextColumn,
    /// The storage that has the files.
    pub storage: String,
    /// How most of the values have to be read.
    pub reading: Reading,
    /// What stands before the names (`/media/`), the most frequent first; empty where nothing does.
    pub prefixes: Vec<String>,
    /// Where in the JSON they stand (`$[*].image`), the most frequent first.
    pub paths: Vec<String>,
    /// Distinct values that were looked at.
    pub sampled: usize,
    /// Those of them that reference at least one file that exists.
    pub found: usize,
    /// Whether the table has rows that were not looked at.
    pub partial: bool,
    /// One of the values, cut off if it is long.
    pub value: String,
    /// The file that it references.
    pub name: FileName,
    /// All files that sampled values reference, each once.
    #[serde(skip)]
    pub names: Vec<FileName>,
    /// Whether names that no URL could hold as they are (`%`, `#`, `?`, a blank) fit as they stand, and none fits decoded.
    pub raw: bool,
    /// Values that look like a name or a URL, but out of which this reading reads none.
    #[serde(skip)]
    pub unexplained: Vec<String>,
    /// A file that many rows share, and how many of how many: the field's default, probably.
    pub shared: Option<(FileName, usize, usize)>,
}

impl Evidence {
    /// One of the values, and the file that it references: `"a.jpg"`, or `"/media/a.jpg" (a.jpg)`.
    pub fn example(&self) -> String {
        match self.value == self.name.as_str() {
            true => format!("{:?}", self.value),
            false => format!("{:?} ({})", self.value, self.name),
        }
    }

    /// `98 % of 412 sampled values`.
    pub fn share(&self) -> String {
        match self.found {
            found if found == self.sampled => format!("all {found} sampled values"),
            // Rounded down, and never to nothing: 99.9 % is not all.
            found => format!("{} of {} sampled values ({} %)", found, self.sampled, (found * 100 / self.sampled.max(1)).max(1)),
        }
    }
}

/// A column whose values look like names of files that no storage has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Alike {
    /// The column.
    #[serde(flatten)]
    pub column: TextColumn,
    /// One of its values.
    pub value: String,
}

/// A column that was not looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unread {
    /// The column.
    #[serde(flatten)]
    pub column: TextColumn,
    /// Why not.
    pub why: String,
    /// Whether a part of it was looked at, as large as there is time for.
    #[serde(skip)]
    pub tried: bool,
}

/// What a look at all columns came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Survey {
    /// Columns that reference files, one item for each storage that has some.
    pub evidence: Vec<Evidence>,
    /// Columns that look like it, but whose files are nowhere.
    pub alike: Vec<Alike>,
    /// Columns that were not looked at.
    pub unread: Vec<Unread>,
    /// Columns without any value.
    pub empty: Vec<TextColumn>,
    /// Columns with values that were looked at.
    #[serde(skip)]
    pub filled: Vec<Column>,
    /// How many columns were looked at.
    pub looked: usize,
}

/// How far a survey goes.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Distinct values of each column.
    pub values: usize,
    /// The time for all of them. Columns whose turn does not come are [`Survey::unread`].
    pub time: Duration,
}

/// Where each look costs a request, a column gets no more than this many values and names.
const REMOTE: (usize, usize) = (30, 150);

/// Looks at every text column for which `skip` says no, those first whose names speak of files. The storages must be readable
/// ([`Storage::set_read_only`] where they are not attached).
///
/// # Errors
/// When the schema or a storage cannot be read. A single column that cannot be is not an error but [`Survey::unread`].
pub async fn survey(
    db: &dyn Database,
    storages: &BTreeMap<String, Arc<dyn Storage>>,
    limits: Limits,
    skip: impl Fn(&TextColumn) -> bool,
) -> Result<Survey> {
    let end = clock::deadline(limits.time);
    let mut columns = db.text_columns().await?;
    // What refers to another table repeats values that are looked at there.
    columns.retain(|c| !c.foreign_key && !skip(c));
    // UUIDs last: most of them are keys of rows.
    columns.sort_by_key(|c| (!speaks_of_files(&c.column.column), c.data_type.eq_ignore_ascii_case("uuid")));
    let mut survey = Survey::default();
    for column in columns {
        let sample = match sampled(db, &column, limits, end).await? {
            Ok(sample) => sample,
            Err(why) => {
                survey.unread.push(Unread { column, why, tried: false });
                continue;
            }
        };
        survey.looked += 1;
        if sample.values.is_empty() {
            // Nothing was found in the part that was read: that is not nothing.
            match sample.partial {
                true => survey.unread.push(Unread {
                    column,
                    why: "no value was found in the part of the table that was read".into(),
                    tried: true,
                }),
                false => survey.empty.push(column),
            }
            continue;
        }
        survey.filled.push(Column { schema: Some(column.schema.clone()), ..column.column.clone() });
        let before = survey.evidence.len();
        for (name, storage) in storages {
            let few = few(storage.as_ref(), &sample.values);
            if let Some(mut seen) = look(storage.as_ref(), &column, few).await? {
                seen.storage.clone_from(name);
                seen.shared = shared(&seen, &sample);
                seen.partial = sample.partial || few.len() < sample.values.len();
                survey.evidence.push(seen);
            }
        }
        if survey.evidence.len() == before
            && let Some(value) = looks_like_names(&sample.values)
            // A title may well be the name that a file had where it came from.
            && (value.contains('/') || speaks_of_files(&column.column.column))
        {
            survey.alike.push(Alike { column, value: short(&value) });
        }
    }
    Ok(survey)
}

/// A sample of a column, if there is time until `end`; or why there is none.
///
/// # Errors
/// [`Kind::DatabaseUnreachable`]: no other column can be read either.
async fn sampled(db: &dyn Database, column: &TextColumn, limits: Limits, end: Instant) -> Result<std::result::Result<Sample, String>> {
    if Instant::now() > end {
        return Ok(Err(format!("the {:?} for looking at columns were over", limits.time)));
    }
    match db.sample(column, limits.values).await {
        Err(e) if e.kind() == Kind::DatabaseUnreachable => Err(e),
        sample => Ok(sample.map_err(|e| e.full())),
    }
}

/// The values of a sample that are looked up in a storage: where each look costs a request, not all.
fn few<'v>(storage: &dyn Storage, values: &'v [String]) -> &'v [String] {
    if storage.quick() { values } else { &values[..values.len().min(REMOTE.0)] }
}

/// Whether `binding` makes names out of columns of `table`: a query in which it is a word, or a generated column of it.
pub(crate) fn makes_names(binding: &Binding, table: &str, columns: &[TextColumn]) -> bool {
    let is_generated = || binding.column.table.eq_ignore_ascii_case(table) && columns.iter().any(|c| c.generated && c.is(&binding.column));
    binding.queries(table) || binding.query.is_none() && is_generated()
}

/// Whether a column's name speaks of files.
pub fn speaks_of_files(column: &str) -> bool {
    const WORDS: [&str; 22] = [
        "file",
        "image",
        "img",
        "photo",
        "picture",
        "avatar",
        "attachment",
        "document",
        "upload",
        "media",
        "logo",
        "icon",
        "thumb",
        "cover",
        "banner",
        "poster",
        "video",
        "audio",
        "path",
        "url",
        "src",
        "blob",
    ];
    let column = column.to_ascii_lowercase();
    !column.ends_with("hash") && WORDS.iter().any(|w| column.contains(w))
}

/// Whether a value ends like a file that people upload.
fn ends_like_a_file(value: &str) -> bool {
    const ENDS: [&str; 34] = [
        "jpg", "jpeg", "png", "gif", "webp", "avif", "svg", "heic", "bmp", "tif", "tiff", "ico", "pdf", "doc", "docx", "xls", "xlsx",
        "ppt", "pptx", "odt", "ods", "csv", "zip", "gz", "mp3", "mp4", "mov", "avi", "webm", "mkv", "wav", "ogg", "m4a", "psd",
    ];
    let path = value.split(['?', '#']).next().unwrap_or(value);
    let end = path.rsplit_once('.').map(|(_, end)| end.to_ascii_lowercase());
    value.len() <= 1024 && !value.contains('\n') && end.is_some_and(|end| ENDS.contains(&&*end))
}

/// One of the values, if at least four of five end like files that people upload.
fn looks_like_names(values: &[String]) -> Option<String> {
    let count = values.iter().filter(|v| ends_like_a_file(v)).count();
    if count * 5 >= values.len() * 4 { values.iter().find(|v| ends_like_a_file(v)).cloned() } else { None }
}

/// Texts, and how often each was seen.
type Counted<'a> = BTreeMap<&'a str, usize>;

/// Looks up what the values could name.
async fn look(storage: &dyn Storage, column: &TextColumn, values: &[String]) -> Result<Option<Evidence>> {
    let read: Vec<Vec<Mention>> = values.iter().map(|v| mentions(v, column.class)).collect();
    let mut asked: BTreeSet<FileName> = BTreeSet::new();
    for m in read.iter().flatten() {
        if storage.quick() || (asked.len() < REMOTE.1 && worth_a_request(m.name.as_str())) {
            asked.insert(m.name.clone());
        }
    }
    let mut there: HashMap<FileName, bool> = HashMap::new();
    let asked: Vec<FileName> = asked.into_iter().collect();
    for names in asked.chunks(1_000) {
        for (name, look) in names.iter().zip(storage.stat(names).await?) {
            // What one name cannot be looked at for (a loop of links, a folder without rights) says nothing about the column.
            there.insert(name.clone(), matches!(look, Ok(Stat::File(_))));
        }
    }
    let exists = |m: &&Mention| there.get(&m.name).copied().unwrap_or(false);

    // By reading: how many values, and of these the prefixes and paths.
    let mut found: BTreeMap<Reading, (usize, Counted, Counted)> = BTreeMap::new();
    let mut example: BTreeMap<Reading, (usize, &FileName)> = BTreeMap::new();
    for (i, all) in read.iter().enumerate() {
        let mut readings = BTreeSet::new();
        for m in all.iter().filter(exists) {
            let (count, prefixes, paths) = found.entry(m.reading).or_default();
            if readings.insert(m.reading) {
                *count += 1;
            }
            if !m.prefix.is_empty() {
                *prefixes.entry(&m.prefix).or_default() += 1;
            }
            if !m.path.is_empty() {
                *paths.entry(&m.path).or_default() += 1;
            }
            example.entry(m.reading).or_insert((i, &m.name));
        }
    }
    let Some((reading, (count, prefixes, paths))) = found.into_iter().rev().max_by_key(|(_, (count, ..))| *count) else { return Ok(None) };
    let (i, name) = example[&reading];
    let named: BTreeSet<&FileName> = read.iter().flatten().filter(exists).filter(|m| m.reading == reading).map(|m| &m.name).collect();
    let names = named.into_iter().cloned().collect();
    let by_frequency = |of: BTreeMap<&str, usize>| {
        let mut all: Vec<_> = of.into_iter().collect();
        all.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        all.into_iter().map(|(text, _)| text.to_owned()).collect()
    };
    // Values that fit in one of the two ways only.
    let only = |raw: bool| {
        let fits = |all: &[Mention], raw: bool| all.iter().filter(exists).any(|m| m.reading == Reading::Url && m.raw == raw);
        read.iter().filter(|all| fits(all, raw) && !fits(all, !raw) && !plain(all)).count()
    };
    let raw = reading == Reading::Url && only(true) > 0 && only(false) == 0;
    let prefixes: Vec<String> = by_frequency(prefixes);
    let is_missed = |(v, all): &(&String, &Vec<Mention>)| !all.iter().any(|m| exists(&m)) && is_unexplained(v, reading, &prefixes);
    let unexplained = values.iter().zip(&read).filter(is_missed).map(|(value, _)| short(value)).collect();
    Ok(Some(Evidence {
        column: column.clone(),
        storage: String::new(),
        reading: if column.class == Class::Array { Reading::Array } else { reading },
        prefixes,
        paths: by_frequency(paths),
        sampled: values.len(),
        found: count,
        partial: false,
        value: short(&values[i]),
        name: name.clone(),
        names,
        raw,
        unexplained,
        shared: None,
    }))
}

/// Whether both ways to read a URL come to the same.
fn plain(all: &[Mention]) -> bool {
    !all.iter().any(|m| m.raw)
}

/// Whether a value that references no file looks as if it referenced one, but `reading` reads nothing out of it.
fn is_unexplained(value: &str, reading: Reading, prefixes: &[String]) -> bool {
    match reading {
        // A URL of another host is common, and references nothing here.
        Reading::Name => {
            FileName::key(value).and_then(|name| name.as_path().map(drop)).is_err()
                && ends_like_a_file(value)
                && !is_elsewhere(value.as_bytes())
        }
        Reading::Url => !prefixes.iter().any(|p| value.starts_with(p.as_str())) && ends_like_a_file(value),
        Reading::Json => serde_json::from_str::<serde_json::Value>(value).is_err(),
        Reading::Key | Reading::Array | Reading::Text => false,
    }
}

/// The file that many rows share: a twentieth of them, and five, or two if it is called so.
fn shared(seen: &Evidence, sample: &Sample) -> Option<(FileName, usize, usize)> {
    let (value, times) = sample.most.as_ref()?;
    let called = ["default", "placeholder", "no-image", "no_image", "noimage", "blank", "fallback"];
    let is_called = called.iter().any(|word| value.to_ascii_lowercase().contains(word));
    if *times < if is_called { 2 } else { 5 } || (!is_called && times * 20 < sample.rows) {
        return None;
    }
    let name = match seen.reading {
        Reading::Name => seen.names.iter().find(|name| name.as_str() == value),
        Reading::Url => seen.names.iter().find(|name| seen.prefixes.iter().any(|p| value.strip_prefix(p.as_str()) == Some(name.as_str()))),
        _ => None,
    };
    name.map(|name| (name.clone(), *times, sample.rows))
}

/// Whether a name is worth a request: it has a folder or a suffix, or is long as a random key is.
fn worth_a_request(name: &str) -> bool {
    let suffix =
        name.rsplit_once('.').is_some_and(|(_, end)| (1..=5).contains(&end.len()) && end.bytes().all(|b| b.is_ascii_alphanumeric()));
    !name.contains(['\n', '@']) && (suffix || name.contains('/') || (name.len() >= 20 && !name.contains(' ')))
}

fn short(value: &str) -> String {
    let mut short: String = value.chars().take(120).collect();
    if short.len() < value.len() {
        short.push_str("..");
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_look_like_uploads_are_told_from_others() {
        let of = |values: &[&str]| looks_like_names(&values.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["a.jpg", "https://x/b.PNG?v=1"]).as_deref(), Some("a.jpg"));
        assert_eq!(of(&["me@example.com", "you@example.org"]), None);
        assert_eq!(of(&["home/page.html", "base.html"]), None);
    }

    #[test]
    fn only_what_could_be_a_file_is_worth_a_request() {
        for (name, worth) in [("a.jpg", true), ("a/b", true), ("xtapjjcjiudrlk3tmwyjgpuobabd", true), ("draft", false), ("a@b.com", false)]
        {
            assert_eq!(worth_a_request(name), worth, "{name}");
        }
    }
}
