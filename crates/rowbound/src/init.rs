//! Init: a database and its storages -> a proposed `rowbound.toml`.
//!
//! In: a database that nobody has described, and storages that are only looked at. Out: bindings, each with the evidence for it, and what a person
//! has to decide. Promise: nothing is changed, nothing is attached. A proposal is read by a person before it is used; where a sample leaves a
//! doubt, it says so instead of guessing.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{
    binding::{Column, JsonPath, is_elsewhere},
    clock,
    database::{Database, survey::TextColumn},
    derivative::stem,
    error::{Kind, Result},
    evidence::{Evidence, Limits, Reading, Survey, above, speaks_of_files, survey, within},
    frameworks::{self, HOUSEKEEPING, THUMBNAILS},
    name::FileName,
    plan::StoragePlan,
    storage::{Listed, Storage, each},
};

mod text; // a proposal -> the text of rowbound.toml

/// A binding that is proposed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Proposed {
    /// What was seen.
    pub evidence: Evidence,
    /// Presets of derivatives that were seen beside its files.
    pub derivatives: Vec<&'static str>,
    /// The JSONPath that reads its values, for JSON.
    pub path: Option<String>,
    /// Files that many rows share, as patterns: the field's default.
    pub keep: Vec<String>,
    /// How many values look like files, but are read as nothing; with one of them.
    pub unexplained: Option<(usize, String)>,
    /// The column that says of which kind a row is, and its values in the sampled rows that reference files. Only a hint: other rows may reference some, too.
    pub only: Option<(String, Vec<String>)>,
    /// Why a person has to decide; empty where the evidence speaks for itself.
    pub doubts: Vec<String>,
    /// What a person should know, although nothing is lost if the proposal stays as it is.
    pub notes: Vec<String>,
}

/// A column that is proposed to be ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ignored {
    /// The column.
    pub column: String,
    /// Why.
    pub why: String,
}

/// Columns whose files lie in a folder of the storage, which begins too high.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Misplaced {
    /// The column.
    pub column: String,
    /// The storage.
    pub storage: String,
    /// The folder in it.
    pub folder: String,
    /// The storage's `url` that fits, where it can be told.
    pub url: Option<String>,
}

/// A column that holds only the last part of its files' names: the application puts the rest before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Composed {
    /// The column.
    pub column: String,
    /// The storage.
    pub storage: String,
    /// One of its values.
    pub value: String,
    /// A file whose name ends with it.
    pub file: String,
}

/// What `rowbound init` answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Proposal {
    /// Frameworks that were recognised, and what follows from it.
    pub frameworks: Vec<(&'static str, String)>,
    /// Bindings that are certain enough.
    pub bindings: Vec<Proposed>,
    /// Columns that reference files, but of which a person has to say how, or whether.
    pub unsure: Vec<Proposed>,
    /// Columns that reference files, but are known to be no references.
    pub ignore: Vec<Ignored>,
    /// Columns that look as if they referenced files, of which no storage has one; with one of their values.
    pub elsewhere: Vec<(String, String)>,
    /// Columns of whose values the storage has files in folders that the values do not name.
    pub composed: Vec<Composed>,
    /// Columns without a value whose names speak of files.
    pub empty: Vec<String>,
    /// Columns that were not looked at, and why.
    pub unread: Vec<(String, String)>,
    /// Storages of which no column references a file.
    pub bare: Vec<String>,
    /// Columns whose files are there, but one folder further down.
    pub misplaced: Vec<Misplaced>,
    /// Files in each storage that servers, editors and repositories leave there, as patterns for its `ignore`.
    pub housekeeping: BTreeMap<String, Vec<String>>,
    /// How many columns had values that were looked at.
    pub looked: usize,
}

impl Proposal {
    /// Whether anything is left for a person to decide.
    pub fn is_undecided(&self) -> bool {
        // What a file was called where it came from, and a picture of another site, are nobody's files here.
        let is_path = |value: &String| value.contains('/') && !is_elsewhere(value.as_bytes());
        let none = [
            self.unsure.is_empty(),
            self.unread.is_empty(),
            self.bare.is_empty(),
            self.misplaced.is_empty(),
            self.composed.is_empty(),
            !self.bindings.is_empty(),
        ];
        none.contains(&false)
            || self.elsewhere.iter().any(|(_, value)| is_path(value))
            || self.bindings.iter().any(|p| p.unexplained.is_some())
    }
}

/// How many distinct values of each column are looked up.
const VALUES: usize = 500;
const TIME: Duration = Duration::from_secs(300);

/// Entries of a storage's listing that are read, and for how long, to see what is left there besides uploads.
const ENTRIES: usize = 20_000;
const PATIENCE: Duration = Duration::from_secs(5);

/// Columns whose files are nowhere, of which it is tried whether the storage begins too high; and values of each.
const TRIED: usize = 5;
const NAMES: usize = 20;

/// Looks at every text column and proposes bindings. The storages may be attached or not; `plans` says where they are.
///
/// # Errors
/// Of the database or a storage.
pub async fn propose(
    db: &dyn Database,
    storages: &BTreeMap<String, Arc<dyn Storage>>,
    plans: &BTreeMap<String, StoragePlan>,
) -> Result<Proposal> {
    let columns = db.text_columns().await?;
    let seen = survey(db, storages, Limits { values: VALUES, time: TIME }, |_| false).await?;
    let Survey { mut evidence, alike, unread, empty, looked, .. } = seen;
    let shown = |c: &TextColumn| c.column.to_string();
    let mut proposal = Proposal {
        frameworks: frameworks::known(&columns).map(|f| (f.name, says(f))).collect(),
        elsewhere: alike.iter().map(|a| (shown(&a.column), a.value.clone())).collect(),
        empty: empty.iter().filter(|c| speaks_of_files(&c.column.column)).map(shown).collect(),
        unread: unread.iter().map(|u| (shown(&u.column), u.why.clone())).collect(),
        looked,
        ..Proposal::default()
    };
    evidence.sort_by(|a, b| (&a.column.schema, &a.column.column, &a.storage).cmp(&(&b.column.schema, &b.column.column, &b.storage)));
    for seen in &evidence {
        let column = shown(&seen.column);
        if let Some(why) = frameworks::copies(&seen.column, &columns)
            && (seen.column.column.table != THUMBNAILS || is_followed(seen, &evidence, &columns))
        {
            if !proposal.ignore.iter().any(|i| i.column == column) {
                proposal.ignore.push(Ignored { column, why: why.to_owned() });
            }
            continue;
        }
        let Some(storage) = storages.get(&seen.storage) else { continue };
        let one_name = matches!(seen.reading, Reading::Name | Reading::Url);
        let only = if one_name { only(db, seen, &columns).await? } else { None };
        let mut notes = notes(seen, &evidence);
        let proposed = Proposed {
            doubts: doubts(seen, &evidence, only.is_some()),
            unexplained: unexplained(seen, &evidence),
            derivatives: if one_name { derivatives(storage.as_ref(), seen, &evidence).await? } else { Vec::new() },
            path: if seen.reading == Reading::Json { Some(json_path(db, seen, &mut notes).await?) } else { None },
            notes,
            keep: seen.shared.iter().map(|(name, ..)| escaped(name)).collect(),
            only,
            evidence: seen.clone(),
        };
        if proposed.doubts.is_empty() { proposal.bindings.push(proposed) } else { proposal.unsure.push(proposed) }
    }
    let mut parts = Parts::default();
    for a in alike.iter().take(TRIED) {
        let values = match db.sample(&a.column, NAMES).await {
            Err(e) if e.kind() == Kind::DatabaseUnreachable => return Err(e),
            // It was read a moment ago.
            Err(e) => {
                proposal.unread.push((shown(&a.column), e.full()));
                continue;
            }
            Ok(sample) => sample.values,
        };
        let is_beside = |e: &Evidence| e.column.schema == a.column.schema && e.column.column.table == a.column.column.table;
        // What a file was called where it came from stands beside its name.
        if !evidence.iter().any(is_beside) {
            parts.extend(values.iter().filter(|value| !value.contains('/')).map(|value| (value.clone(), shown(&a.column))));
        }
        let names: Vec<FileName> = values.iter().filter_map(|value| FileName::parse(value.trim_start_matches('/')).ok()).collect();
        for (name, storage) in storages {
            if let Some(folder) = above(storage.as_ref(), &names).await? {
                let url = plans.get(name).and_then(|plan| within(&plan.location, &folder));
                proposal.elsewhere.retain(|(column, _)| *column != shown(&a.column));
                proposal.misplaced.push(Misplaced { column: shown(&a.column), storage: name.clone(), folder, url });
                break;
            }
        }
    }
    let needed: Vec<&str> = frameworks::known(&columns).flat_map(|f| f.needs).copied().collect();
    for (name, storage) in storages {
        let known: HashSet<&FileName> = evidence.iter().filter(|e| e.storage == *name).flat_map(|e| &e.names).collect();
        let (found, composed) = lying_about(storage.as_ref(), &needed, &parts, &known).await?;
        if !found.is_empty() {
            proposal.housekeeping.insert(name.clone(), found);
        }
        for (column, (value, file)) in composed {
            proposal.elsewhere.retain(|(other, _)| *other != column);
            proposal.composed.push(Composed { column, storage: name.clone(), value, file });
        }
        let is_named = |p: &Proposed| p.evidence.storage == *name;
        if !proposal.bindings.iter().any(is_named) && !proposal.unsure.iter().any(is_named) {
            proposal.bare.push(name.clone());
        }
    }
    Ok(proposal)
}

/// What is said of a framework.
fn says(f: &frameworks::Framework) -> String {
    match f.deletes {
        None => f.says.to_owned(),
        Some(how) => format!(
            "{}. Somebody else may delete its files: {how}. Files that are gone when Rowbound comes are `missing`, and shadow mode counts nothing: docs/operations.md#who-else-deletes-files",
            f.says
        ),
    }
}

/// The other storages whose files the same column references.
fn others<'a>(seen: &'a Evidence, all: &'a [Evidence]) -> impl Iterator<Item = &'a Evidence> {
    all.iter().filter(|o| o.column.column == seen.column.column && o.storage != seen.storage)
}

/// Whether no value means a file of both.
fn disjoint(one: &Evidence, other: &Evidence) -> bool {
    let overlap = |p: &String| other.prefixes.iter().any(|o| o.starts_with(p.as_str()) || p.starts_with(o.as_str()));
    let by_prefix = !one.prefixes.is_empty() && !other.prefixes.is_empty() && !one.prefixes.iter().any(overlap);
    by_prefix || !one.names.iter().any(|name| other.names.contains(name))
}

/// How many values look like files, but are read as nothing, for no storage; with one of them.
fn unexplained(seen: &Evidence, all: &[Evidence]) -> Option<(usize, String)> {
    let by_other = |value: &&String| {
        let is =
            |o: &Evidence| o.prefixes.iter().any(|p| value.starts_with(p.as_str())) || o.names.iter().any(|name| name.as_str() == *value);
        others(seen, all).any(is)
    };
    let left: Vec<&String> = seen.unexplained.iter().filter(|value| !by_other(value)).collect();
    left.first().map(|value| (left.len(), (*value).clone()))
}

/// What speaks against taking the evidence as it is.
fn doubts(seen: &Evidence, all: &[Evidence], only: bool) -> Vec<String> {
    let mut doubts = Vec::new();
    // Values that reference files of another storage are explained, too.
    let elsewhere: usize = others(seen, all).filter(|o| disjoint(seen, o)).map(|o| o.found).sum();
    let percent = (seen.found + elsewhere).min(seen.sampled) * 100 / seen.sampled.max(1);
    match seen.reading {
        Reading::Name | Reading::Url | Reading::Array | Reading::Key if percent < 50 && !only => {
            doubts.push(format!(
                "most of its values are no files of {}: is it another storage, or is the likeness an accident?",
                seen.storage
            ));
        }
        // Of texts and JSON many mention no file at all.
        Reading::Text | Reading::Json if seen.found < 3 && percent < 10 => {
            doubts.push("few of its values reference a file: is it an accident?".to_owned())
        }
        _ => {}
    }
    if let Some(other) = others(seen, all).find(|o| !disjoint(seen, o)) {
        doubts.push(format!("{} reference files of {} too: which one is right?", other.share(), other.storage));
    }
    let is_folder = |p: &&String| !(p.starts_with('/') || p.contains("://") || is_placeholder(p));
    if let Some(prefix) = seen.prefixes.iter().find(is_folder).filter(|_| seen.reading != Reading::Json) {
        doubts.push(format!(
            "its names begin with {prefix:?}, which the storage's do not: the storage begins one folder too deep; set `url` to the folder that holds {prefix:?}"
        ));
    }
    if seen.reading == Reading::Text && seen.prefixes.is_empty() {
        doubts.push("the names stand in its text without anything before them".to_owned());
    }
    if seen.column.generated {
        doubts.push("it is computed from other columns".to_owned());
    }
    doubts
}

/// Whether a prefix begins with what an application puts its own host for: `__GHOST_URL__/`, `{{base}}/`, `%MEDIA%/`, `@@host@@/`.
fn is_placeholder(prefix: &str) -> bool {
    let first = prefix.split('/').next().unwrap_or_default();
    [("__", "__"), ("{", "}"), ("${", "}"), ("%", "%"), ("@@", "@@"), ("[", "]"), ("<", ">"), ("$", "")]
        .iter()
        .any(|(begin, end)| first.len() > begin.len() + end.len() && first.starts_with(begin) && first.ends_with(end))
}

/// What a person should know of a binding that loses nothing as it stands.
fn notes(seen: &Evidence, all: &[Evidence]) -> Vec<String> {
    let mut notes = Vec::new();
    let column = &seen.column.column;
    let ignore = format!("if its rows need no files, take this binding out and write ignore = [{:?}]", column.to_string());
    if let Some(what) = frameworks::history(&column.table) {
        notes.push(format!("{what} keeps these files: each stays as long as a row of it references it; {ignore}"));
    }
    let holds_all = |o: &&Evidence| {
        o.storage == seen.storage
            && o.column.column != *column
            && matches!(o.reading, Reading::Name | Reading::Url | Reading::Key)
            && frameworks::history(&o.column.column.table).is_none()
            && seen.names.iter().all(|name| o.names.contains(name))
    };
    if matches!(seen.reading, Reading::Text | Reading::Json)
        && let Some(other) = all.iter().find(holds_all)
    {
        notes.push(format!(
            "every file that its sampled values reference is referenced by {}, too: perhaps it only repeats them; {ignore}",
            other.column.column
        ));
    }
    for other in others(seen, all).filter(|o| disjoint(seen, o)) {
        notes.push(format!("its other values reference files of {}: it is bound to both, which is safe", other.storage));
    }
    if seen.prefixes.iter().any(|p| is_placeholder(p)) {
        notes.push("its names stand behind a placeholder for the application's own address".to_owned());
    }
    if let Some((count, value)) = unexplained(seen, all) {
        notes.push(format!(
            "{count} of {} sampled values look like files, but are read as nothing, such as {value:?}: add what stands before their names to `prefix`, or find out what they are",
            seen.sampled
        ));
    }
    if let Some((name, times, rows)) = &seen.shared {
        notes.push(format!(
            "{times} of {rows} rows share {:?}: if it is the field's default, `keep` saves it when no row references it",
            name.as_str()
        ));
    }
    notes
}

/// In a table of keys and values: the column of the keys, and those of the rows that reference files.
async fn only(db: &dyn Database, seen: &Evidence, columns: &[TextColumn]) -> Result<Option<(String, Vec<String>)>> {
    const VALUE: [&str; 6] = ["value", "meta_value", "option_value", "setting_value", "config_value", "content"];
    const KEY: [&str; 9] = ["key", "meta_key", "option_name", "setting_key", "config_key", "name", "setting", "option_key", "code"];
    let column = &seen.column;
    if seen.found == seen.sampled || !VALUE.contains(&column.column.column.to_ascii_lowercase().as_str()) {
        return Ok(None);
    }
    let is_key = |c: &&TextColumn| {
        c.schema == column.schema && c.column.table == column.column.table && KEY.contains(&c.column.column.to_ascii_lowercase().as_str())
    };
    let Some(key) = columns.iter().find(is_key) else { return Ok(None) };
    let values: Vec<String> = match seen.reading {
        Reading::Name => seen.names.iter().map(ToString::to_string).collect(),
        _ => seen.names.iter().flat_map(|name| seen.prefixes.iter().map(move |p| format!("{p}{name}"))).collect(),
    };
    let other = Column { column: key.column.column.clone(), ..column.column.clone() };
    let keys = match db.beside(column, &other, &values[..values.len().min(200)], NAMES).await {
        Err(e) if e.kind() == Kind::DatabaseUnreachable => return Err(e),
        // It took too long: then it is not said.
        keys => keys.unwrap_or_default(),
    };
    Ok((!keys.is_empty()).then_some((key.column.column.clone(), keys)))
}

/// The path that reads most of what was seen, and of which no value leads to something else than a string: that could not be read, and would release nothing.
async fn json_path(db: &dyn Database, seen: &Evidence, notes: &mut Vec<String>) -> Result<String> {
    let first = seen.paths.first().cloned().unwrap_or_else(|| "$[*]".to_owned());
    if seen.paths.len() < 2 {
        return Ok(first);
    }
    // `$.blocks[*].image.url` -> the key `url`, and what follows it.
    let last = |path: &str| {
        let at = path.rfind('.').filter(|at| *at > 0 && !path[*at..].contains("['"))?;
        let (key, rest) = path[at + 1..].split_once('[').map_or((&path[at + 1..], ""), |(key, _)| (key, &path[at + 1 + key.len()..]));
        Some((key.to_owned(), rest.to_owned()))
    };
    let ends: Option<BTreeSet<(String, String)>> = seen.paths.iter().map(|path| last(path)).collect();
    let mut candidates = Vec::new();
    if let Some(ends) = ends {
        let keys: BTreeSet<String> = ends.iter().map(|(key, _)| format!("'{key}'")).collect();
        let rests: BTreeSet<&String> = ends.iter().map(|(_, rest)| rest).collect();
        if let (Some((key, rest)), 1) = (ends.first(), ends.len()) {
            candidates.push(format!("$..{key}{rest}"));
        } else if let (Some(rest), 1) = (rests.first(), rests.len()) {
            candidates.push(format!("$..[{}]{rest}", keys.into_iter().collect::<Vec<_>>().join(",")));
        }
    }
    let values = match db.sample(&seen.column, NAMES * 5).await {
        Err(e) if e.kind() == Kind::DatabaseUnreachable => return Err(e),
        Err(e) => {
            notes.push(format!("whether one path reads all of its names was not tried: {}", e.full().replace('\n', " ")));
            return Ok(first);
        }
        Ok(sample) => sample.values,
    };
    let reads = |path: &String| {
        let path = JsonPath::parse(path);
        path.is_ok_and(|path| {
            values.iter().filter(|v| serde_json::from_str::<serde_json::Value>(v).is_ok()).all(|v| path.strings(v.as_bytes()).is_ok())
        })
    };
    Ok(candidates.into_iter().find(reads).unwrap_or(first))
}

/// A name as a pattern that matches nothing else.
fn escaped(name: &FileName) -> String {
    name.as_str().chars().map(|c| if "*?[]{}\\".contains(c) { format!("[{c}]") } else { c.to_string() }).collect()
}

/// Values that could be the last parts of names, and their columns.
type Parts = HashMap<String, String>;

/// A value and a file whose name ends with it, by column.
type Ends = BTreeMap<String, (String, String)>;

/// Files that servers, editors and repositories leave in a storage, and those of `needed` that are there, as patterns; where the listing is too long to be read to its end, all
/// that could be. And of each column that has a value in `parts` one file whose name ends with such a value, if it is not `known`.
async fn lying_about(storage: &dyn Storage, needed: &[&str], parts: &Parts, known: &HashSet<&FileName>) -> Result<(Vec<String>, Ends)> {
    let (end, mut left) = (clock::deadline(PATIENCE), ENTRIES);
    let (mut found, mut ends) = (BTreeSet::new(), Ends::new());
    each(storage, "", |entry| {
        if let Listed::File(file) = entry {
            if let Some(column) = parts.get(file.base()).filter(|_| file.folder().is_some() && !known.contains(&file)) {
                ends.entry(column.clone()).or_insert_with(|| (file.base().to_owned(), file.to_string()));
            }
            let is_left = |pattern: &&&str| match pattern.strip_suffix('*') {
                Some(begin) => file.base().starts_with(begin),
                None => file.base() == **pattern,
            };
            if let Some(pattern) = HOUSEKEEPING.iter().find(is_left) {
                found.insert(if file.folder().is_some() { format!("*/{pattern}") } else { (*pattern).to_owned() });
            }
            found.extend(needed.iter().filter(|name| **name == file.as_str()).map(|name| (*name).to_owned()));
        }
        left = left.saturating_sub(1);
        left > 0 && Instant::now() < end
    })
    .await?;
    if left == 0 || Instant::now() >= end {
        found.extend(HOUSEKEEPING.iter().flat_map(|pattern| [(*pattern).to_owned(), format!("*/{pattern}")]));
        found.extend(needed.iter().map(|name| (*name).to_owned()));
    }
    Ok((found.into_iter().collect(), ends))
}

/// Whether what follows an original's name is a thumbnail's: photo.jpg`.300x200_q85_crop.jpg`
fn is_size(rest: &str) -> bool {
    let size = rest.split(['_', '.']).next().unwrap_or_default();
    size.split_once('x').is_some_and(|(w, h)| w.parse::<u32>().is_ok() && h.parse::<u32>().is_ok()) && rest.contains("_q")
}

/// Whether the preset explains every thumbnail of the table that remembers them: each is an original's name and a size, and `derivatives` of the original's column takes it
/// along. With a folder or a prefix of their own (THUMBNAIL_SUBDIR), or another namer, they are kept by their rows.
fn is_followed(seen: &Evidence, all: &[Evidence], columns: &[TextColumn]) -> bool {
    let has_originals = |o: &&Evidence| {
        o.storage == seen.storage && matches!(o.reading, Reading::Name | Reading::Url) && frameworks::copies(&o.column, columns).is_none()
    };
    let originals: HashSet<&str> = all.iter().filter(has_originals).flat_map(|o| o.names.iter().map(FileName::as_str)).collect();
    let is_made = |name: &FileName| {
        let name = name.as_str();
        name.match_indices('.').any(|(at, _)| is_size(&name[at + 1..]) && originals.contains(&name[..at]))
    };
    !seen.partial && seen.names.iter().all(is_made)
}

/// Presets whose files were seen beside those of a column, or in the table that remembers them.
async fn derivatives(storage: &dyn Storage, seen: &Evidence, all: &[Evidence]) -> Result<Vec<&'static str>> {
    let is_remembered = |o: &Evidence| {
        o.column.column.table == THUMBNAILS && o.storage == seen.storage && o.column.column.table != seen.column.column.table
    };
    let (mut imagekit, mut thumbnails) = (false, all.iter().any(is_remembered));
    for name in seen.names.iter().take(10) {
        imagekit |= any(storage, &format!("CACHE/images/{}/", stem(name.as_str())), |_| true).await?;
        thumbnails |= any(storage, &format!("{name}."), is_size).await?;
    }
    Ok([("imagekit", imagekit), ("easy-thumbnails", thumbnails)].into_iter().filter(|(_, seen)| *seen).map(|(preset, _)| preset).collect())
}

/// Whether there is a file whose name begins with `prefix` and goes on as wanted; of many only the first are looked at.
async fn any(storage: &dyn Storage, prefix: &str, wanted: impl Fn(&str) -> bool) -> Result<bool> {
    let (mut found, mut left) = (false, 50);
    each(storage, prefix, |entry| {
        if let Listed::File(file) = entry {
            found |= file.as_str().strip_prefix(prefix).is_some_and(&wanted);
        }
        left -= 1;
        !found && left > 0
    })
    .await?;
    Ok(found)
}
