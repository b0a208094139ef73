//! Evidence: which columns seem to name files of a storage, and how that is known.
//!
//! In: a database whose columns nobody has declared, and storages. Out: for each column the sampled values that stand for files that exist, and
//! how they have to be read for that: as names, as URLs, inside JSON or inside text. Promise: nothing is changed, and what could not be looked
//! at is said. A sample proves that a column names files; it never proves that it does not.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{
    binding::Column,
    clock,
    database::{
        Database,
        survey::{Class, Sample, TextColumn},
    },
    error::{Kind, Result},
    name::FileName,
    storage::{Look, Storage},
};

mod bound; // bound columns of which no value is a file
pub mod values; // all values of a bound column: how deep a check must look

pub use bound::{Cause, Unfit, unfit};

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
    /// A list of names (PostgreSQL).
    Array,
    /// Names or URLs within text, HTML or Markdown.
    Text,
}

/// What was seen of a column that names files.
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
    /// Those of them that name at least one file that exists.
    pub found: usize,
    /// Whether the table has rows that were not looked at.
    pub partial: bool,
    /// One of the values, cut off if it is long.
    pub value: String,
    /// The file that it names.
    pub name: FileName,
    /// A few more such files.
    #[serde(skip)]
    pub names: Vec<FileName>,
}

impl Evidence {
    /// One of the values, and the file that it names: `"a.jpg"`, or `"/media/a.jpg" (a.jpg)`.
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
}

/// What a look at all columns came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Survey {
    /// Columns that name files, one item for each storage that has some.
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
/// ([`Storage::survey`] where they are not attached).
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
    columns.sort_by_key(|c| !speaks_of_files(&c.column.column));
    let mut survey = Survey::default();
    for column in columns {
        let sample = match sampled(db, &column, limits, end).await? {
            Ok(sample) => sample,
            Err(why) => {
                survey.unread.push(Unread { column, why });
                continue;
            }
        };
        survey.looked += 1;
        if sample.values.is_empty() {
            // Nothing was found in the part that was read: that is not nothing.
            match sample.partial {
                true => survey.unread.push(Unread { column, why: "no value was found in the part of the table that was read".into() }),
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

/// One of the values, if at least four of five end like files that people upload.
fn looks_like_names(values: &[String]) -> Option<String> {
    const ENDS: [&str; 34] = [
        "jpg", "jpeg", "png", "gif", "webp", "avif", "svg", "heic", "bmp", "tif", "tiff", "ico", "pdf", "doc", "docx", "xls", "xlsx",
        "ppt", "pptx", "odt", "ods", "csv", "zip", "gz", "mp3", "mp4", "mov", "avi", "webm", "mkv", "wav", "ogg", "m4a", "psd",
    ];
    let alike = |v: &String| {
        let path = v.split(['?', '#']).next().unwrap_or(v);
        let end = path.rsplit_once('.').map(|(_, end)| end.to_ascii_lowercase());
        v.len() <= 1024 && !v.contains('\n') && end.is_some_and(|end| ENDS.contains(&&*end))
    };
    let count = values.iter().filter(|v| alike(v)).count();
    if count * 5 >= values.len() * 4 { values.iter().find(|v| alike(v)).cloned() } else { None }
}

/// A way to read a name out of a value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Mention {
    reading: Reading,
    prefix: String,
    path: String,
    name: FileName,
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
        for (name, look) in names.iter().zip(storage.look(names).await?) {
            // What one name cannot be looked at for (a loop of links, a folder without rights) says nothing about the column.
            there.insert(name.clone(), matches!(look, Ok(Look::Seen(_))));
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
    let names = read.iter().flatten().filter(exists).filter(|m| m.reading == reading).map(|m| m.name.clone()).take(10).collect();
    let by_frequency = |of: BTreeMap<&str, usize>| {
        let mut all: Vec<_> = of.into_iter().collect();
        all.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        all.into_iter().map(|(text, _)| text.to_owned()).collect()
    };
    Ok(Some(Evidence {
        column: column.clone(),
        storage: String::new(),
        reading: if column.class == Class::Array { Reading::Array } else { reading },
        prefixes: by_frequency(prefixes),
        paths: by_frequency(paths),
        sampled: values.len(),
        found: count,
        partial: false,
        value: short(&values[i]),
        name: name.clone(),
        names,
    }))
}

/// Whether a name is worth a request: it has a folder or a suffix, or is long as a random key is.
fn worth_a_request(name: &str) -> bool {
    let suffix =
        name.rsplit_once('.').is_some_and(|(_, end)| (1..=5).contains(&end.len()) && end.bytes().all(|b| b.is_ascii_alphanumeric()));
    !name.contains(['\n', '@']) && (suffix || name.contains('/') || (name.len() >= 20 && !name.contains(' ')))
}

/// Strings of one value that are read, and pieces of one text.
const PIECES: usize = 400;

/// Everything that a value could name, each with the way to read it so.
fn mentions(value: &str, class: Class) -> Vec<Mention> {
    let mut all = Vec::new();
    if class == Class::Text {
        for (prefix, name) in spellings(value) {
            let reading = if prefix.is_empty() { Reading::Name } else { Reading::Url };
            all.push(Mention { reading, prefix, path: String::new(), name });
        }
    }
    let begins = value.trim_start();
    if (class != Class::Text || begins.starts_with(['[', '{', '"']))
        && let Ok(json) = serde_json::from_str::<serde_json::Value>(value)
    {
        let mut left = PIECES;
        strings(&json, &mut "$".to_owned(), &mut left, &mut |path, text| {
            for (prefix, name) in spellings(text) {
                all.push(Mention { reading: Reading::Json, prefix, path: path.to_owned(), name });
            }
            in_text(text, &mut all);
        });
        return all;
    }
    in_text(value, &mut all);
    all
}

/// Calls `take` with every string of `json` and its path.
fn strings(json: &serde_json::Value, path: &mut String, left: &mut usize, take: &mut impl FnMut(&str, &str)) {
    let length = path.len();
    match json {
        serde_json::Value::String(text) if *left > 0 => {
            *left -= 1;
            take(path, text);
        }
        serde_json::Value::Array(items) => {
            path.push_str("[*]");
            items.iter().for_each(|item| strings(item, path, left, take));
        }
        serde_json::Value::Object(fields) => {
            for (key, field) in fields {
                path.truncate(length);
                if !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !key.as_bytes()[0].is_ascii_digit() {
                    path.push_str(&format!(".{key}"));
                } else {
                    path.push_str(&format!("['{}']", key.replace('\\', "\\\\").replace('\'', "\\'")));
                }
                strings(field, path, left, take);
            }
        }
        _ => {}
    }
    path.truncate(length);
}

/// What text, HTML or Markdown mentions.
fn in_text(text: &str, all: &mut Vec<Mention>) {
    if !text.contains('/') || !text.contains([' ', '\n', '"', '\'', '(', '<', '=']) {
        return;
    }
    let bare =
        text.split(|c: char| c.is_whitespace() || "\"'()<>`\\=".contains(c)).map(|piece| piece.trim_end_matches([',', ';', ':', '!', '.']));
    // A name with a blank or a bracket stands whole between quotes only.
    let quoted = ['"', '\''].into_iter().flat_map(|q| text.split(q).skip(1)).filter(|p| p.contains([' ', '(', ')', '=']) && p.len() <= 512);
    for piece in bare.chain(quoted).filter(|p| p.contains('/') && p.len() > 2).take(PIECES) {
        // HTML writes `&` so.
        let piece = piece.replace("&amp;", "&");
        for (prefix, name) in spellings(&piece) {
            all.push(Mention { reading: Reading::Text, prefix, path: String::new(), name });
        }
    }
}

/// What `text` could name: itself; and as a URL, what follows each of its slashes, the longest first.
fn spellings(text: &str) -> Vec<(String, FileName)> {
    if text.len() > 2_048 || text.chars().any(char::is_control) {
        return Vec::new();
    }
    let (mut all, mut odd) = (Vec::new(), Vec::new());
    // What is no path only S3 takes for a name; all others refuse to look at it.
    let mut take = |prefix: &str, name: FileName| match name.as_path().is_ok() {
        true => all.push((prefix.to_owned(), name)),
        // The second slash of `https://` begins no name.
        false if prefix.ends_with(":/") => {}
        false => odd.push((prefix.to_owned(), name)),
    };
    if let Ok(name) = FileName::key(text) {
        take("", name);
    }
    let path = text.split(['?', '#']).next().unwrap_or(text);
    for (at, _) in path.match_indices('/').take(16) {
        let (prefix, rest) = path.split_at(at + 1);
        // What a URL would have encoded: this is text in which a name stands.
        if prefix.contains(|c: char| c.is_whitespace() || "%<>\"'()".contains(c)) {
            break;
        }
        let decoded = percent_encoding::percent_decode_str(rest).decode_utf8();
        if let Some(name) = decoded.ok().and_then(|name| FileName::key(&name).ok()) {
            take(prefix, name);
        }
    }
    all.append(&mut odd);
    all
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

    fn read(value: &str, class: Class) -> Vec<(Reading, String, String, String)> {
        mentions(value, class).into_iter().map(|m| (m.reading, m.prefix, m.path, m.name.to_string())).collect()
    }

    fn has(value: &str, class: Class, reading: Reading, prefix: &str, path: &str, name: &str) {
        let all = read(value, class);
        assert!(all.contains(&(reading, prefix.into(), path.into(), name.into())), "{value}: {all:?}");
    }

    #[test]
    fn a_value_is_read_in_every_way_that_a_binding_could_read_it() {
        use Reading::{Json, Name, Text, Url};
        has("a/b c.jpg", Class::Text, Name, "", "", "a/b c.jpg");
        has("/media/a%20b.jpg?v=1", Class::Text, Url, "/media/", "", "a b.jpg");
        has("https://cdn.example.com/m/a/b.jpg#x", Class::Text, Url, "https://cdn.example.com/m/", "", "a/b.jpg");
        has(r#"["a.jpg", "b/c.jpg"]"#, Class::Text, Json, "", "$[*]", "b/c.jpg");
        has(r#"{"pictures": [{"src": "/media/a.jpg"}]}"#, Class::Json, Json, "/media/", "$.pictures[*].src", "a.jpg");
        has(r#"{"a b": "x.jpg"}"#, Class::Json, Json, "", "$['a b']", "x.jpg");
        has(r#"<p><img src="/media/a.jpg?x=1&amp;y=2"></p>"#, Class::Text, Text, "/media/", "", "a.jpg");
        has("see ![x](/media/a.jpg) and /media/b.jpg.", Class::Text, Text, "/media/", "", "b.jpg");
        assert!(read("See /media/b.jpg", Class::Text).iter().all(|(reading, prefix, ..)| *reading != Url || prefix.is_empty()));
        has(r#"<img src="/media/a (1).jpg">"#, Class::Text, Text, "/media/", "", "a (1).jpg");
        has(r#"{"body": "<img src=\"/media/a.jpg\">"}"#, Class::Json, Text, "/media/", "", "a.jpg");
        has("/media/a//b.jpg", Class::Text, Url, "/media/", "", "a//b.jpg");
        has("/a.jpg", Class::Text, Name, "", "", "/a.jpg");
        assert!(read("https://h.example/a.jpg", Class::Text).iter().all(|(.., name)| !name.starts_with('/')));
        assert!(read("just words, and more", Class::Text).iter().all(|(reading, ..)| *reading == Name));
    }

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
