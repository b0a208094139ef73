//! The counter-search: does the name of an orphan stand in a value that nobody reads for it?
//!
//! In: the orphans in the spool, and every text, JSON and BLOB column of the databases that is not under `ignore`. Out: those whose full name stands in one, or the last part
//! of it by itself, which are held, with the column; how often the last part stands there otherwise. Promise: a column that cannot be read to its end is said, and nothing is
//! deleted then. Memory is bounded: orphans go in rounds, and each round reads each column once, value by value.

use std::{
    collections::{HashMap, HashSet},
    io::{BufRead, BufReader, BufWriter, Seek, SeekFrom, Write},
    sync::{Arc, atomic::Ordering::Relaxed},
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{
    Finding, Orphan, Progress, Work,
    compare::brake,
    last::{Lasts, is_telling},
    sides::Side,
    spool::{Point, Spool},
};
use crate::{
    binding::{Binding, Column, Reading, Resolved, Scan},
    capture::Bound,
    database::survey::{Class, TextColumn},
    error::{Error, Kind, Result},
    name::FileName,
    storage::{Look, Storage},
};

/// So many orphans, and so many bytes of their names, are looked for at a time.
const ROUND: usize = 20_000;
const BYTES: usize = 1 << 20;

/// Samples of a column.
const SAMPLES: usize = 3;

/// A name without folder and suffix is a word like any other, unless it is so long.
const WORD: usize = 16;

/// So many longer names are looked up to explain away a mention; in a storage where each look is a request, fewer.
const LOOKS: usize = 20_000;
const REQUESTS: usize = 500;

/// An orphan that is held, because its name stands in a value that no binding reads so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The file.
    #[serde(flatten)]
    pub orphan: Orphan,
    /// The first column in which its name was found.
    pub column: String,
    /// A piece of the value.
    pub value: String,
}

/// A name, and the value in which it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// The file.
    pub name: FileName,
    /// The column.
    pub column: String,
    /// A piece of the value.
    pub value: String,
}

/// A column in which names of orphans stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldBy {
    /// The column, `table.column`.
    pub column: String,
    /// Of how many orphans.
    pub files: u64,
    /// Some of them.
    pub samples: Vec<Said>,
}

/// Orphans of which only the last part of the name stands in some value, and not by itself. They are not held: `logo.png` stands in many.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Similar {
    /// How many.
    pub files: u64,
    /// Some of them.
    pub samples: Vec<Said>,
}

/// A column that could not be looked through, or not to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unread {
    /// The column; of tables that the database does not show, which they may be.
    pub column: String,
    /// What `ignore` takes for its table: `page.*`. Empty where the table is not known.
    pub table: String,
    /// Why not.
    pub why: String,
    /// Whether the account lacks the right to read it.
    pub denied: bool,
}

/// What the counter-search came to.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    pub held_by: Vec<HeldBy>,
    pub similar: Similar,
    pub unread: Vec<Unread>,
}

/// A column that is searched.
struct Place<'a> {
    side: &'a Side<'a>,
    column: TextColumn,
    shown: String,
    /// What reads one name out of a value of it.
    readers: Vec<&'a Binding>,
    /// Whether a bound query, or a bound generated column of its table, makes names of it: then a last part in it is a piece of those.
    is_part: bool,
}

impl Work<'_> {
    /// Marks the orphans that are held in the spool. Where the sweep stops anyhow (`doubtful`) one round says enough.
    pub(super) async fn elsewhere(
        &self,
        spool: &mut Spool,
        point: &mut Point,
        doubtful: bool,
        progress: &Progress,
        stop: &watch::Receiver<bool>,
    ) -> Result<Elsewhere> {
        let counts = &mut point.counts;
        let mut found = Elsewhere::default();
        if counts.orphans.files == 0 {
            return Ok(found);
        }
        let mut search = Search::begin(self).await?;
        found.unread.append(&mut search.hidden);
        let rows: u64 = search.places.iter().map(|p| p.column.rows).sum();
        let rounds = if doubtful { 1 } else { counts.orphans.files.div_ceil(ROUND as u64) };
        progress.to_search.store((rows * rounds).max(1), Relaxed);
        let mut held = HeldFile::new(spool)?;
        let mut orphans = spool.findings()?.filter_map(|finding| match finding {
            Ok(Finding::Orphan(orphan)) => Some(Ok(orphan)),
            Ok(Finding::Held(held)) => Some(Ok(held.orphan)),
            Ok(Finding::Dangling(_)) => None,
            Err(e) => Some(Err(e)),
        });
        loop {
            let (mut round, mut bytes) = (Vec::new(), 0);
            while round.len() < ROUND
                && bytes < BYTES
                && let Some(orphan) = orphans.next().transpose()?
            {
                bytes += orphan.name.as_str().len();
                round.push(orphan);
            }
            if round.is_empty() {
                break;
            }
            for one in search.round(round, &mut found, progress, stop).await? {
                counts.orphans.files -= 1;
                counts.orphans.bytes -= one.orphan.size;
                counts.held.add(one.orphan.size);
                held.push(&one)?;
            }
            if doubtful {
                break;
            }
        }
        drop(orphans);
        found.held_by.sort_by(|a, b| b.files.cmp(&a.files).then_with(|| a.column.cmp(&b.column)));
        let mut held = held.read()?;
        let mut next = held.next().transpose()?;
        spool.rewrite(point, |finding| {
            let orphan = match finding {
                Finding::Orphan(orphan) => orphan,
                Finding::Held(held) => held.orphan,
                dangling @ Finding::Dangling(_) => return Ok(dangling),
            };
            match next.take_if(|held| held.orphan.name == orphan.name) {
                Some(one) => {
                    next = held.next().transpose()?;
                    Ok(Finding::Held(one))
                }
                None => Ok(Finding::Orphan(orphan)),
            }
        })?;
        Ok(found)
    }
}

/// All columns, and what is known of longer names.
struct Search<'a> {
    work: &'a Work<'a>,
    places: Vec<Place<'a>>,
    /// Whether longer names are files, by storage and name.
    looked: HashMap<(String, FileName), bool>,
    storages: HashMap<String, Option<Arc<dyn Storage>>>,
    /// Tables that a database may not show.
    hidden: Vec<Unread>,
}

/// What is looked for in a round.
struct Round {
    orphans: Vec<Orphan>,
    /// By full name.
    full: HashMap<FileName, usize>,
    /// By last part: those that end so.
    last: HashMap<FileName, Vec<usize>>,
    scan: Scan,
    held: Vec<Option<(String, String)>>,
    similar: Vec<Option<(String, String)>>,
}

impl<'a> Search<'a> {
    async fn begin(work: &'a Work<'a>) -> Result<Self> {
        let (mut places, mut hidden) = (Vec::new(), Vec::new());
        for side in &work.sides {
            let failed = |e: Error| brake("the columns could not be looked up", &e, &work.storage.name);
            if let Some(right) = side.db.hides_tables().await.map_err(failed)? {
                let why = format!("the database shows only those on which the account has a right; grant {right}");
                hidden.push(Unread {
                    column: side.shown(&"tables that the account does not see"),
                    table: String::new(),
                    why,
                    denied: true,
                });
            }
            let columns = side.db.text_columns().await.map_err(failed)?;
            let makes = |b: &Bound, table: &str| match &b.binding.query {
                Some(query) => query.to_ascii_lowercase().contains(&table.to_ascii_lowercase()),
                None => {
                    b.binding.column.table.eq_ignore_ascii_case(table) && columns.iter().any(|c| c.generated && c.is(&b.binding.column))
                }
            };
            for column in &columns {
                let bound: Vec<&Binding> =
                    side.bound.iter().map(|b| &b.binding).filter(|b| b.query.is_none() && column.is(&b.column)).collect();
                // Where any mention counts, the comparison has found it; but only in the rows that `where` tells.
                let read = bound.iter().any(|b| b.storage == side.storage.name && b.reading.is_many() && b.only.is_empty());
                if !read && !side.plan.ignore.iter().any(|i| column.is(i)) {
                    let readers = bound.into_iter().filter(|b| !b.reading.is_many()).collect();
                    let is_part = side.here().any(|b| makes(b, &column.column.table));
                    places.push(Place { side, shown: side.shown(&column.column), column: column.clone(), readers, is_part });
                }
            }
        }
        Ok(Search { work, places, looked: HashMap::new(), storages: HashMap::new(), hidden })
    }

    /// Looks for these orphans in every column; those that are held come back, in their order.
    async fn round(
        &mut self,
        orphans: Vec<Orphan>,
        found: &mut Elsewhere,
        progress: &Progress,
        stop: &watch::Receiver<bool>,
    ) -> Result<Vec<Held>> {
        let mut round = Round::new(orphans);
        for at in 0..self.places.len() {
            let place = &self.places[at];
            let mut by = HeldBy { column: place.shown.clone(), files: 0, samples: Vec::new() };
            match self.column(at, &mut round, &mut by, progress, stop).await {
                Ok(()) => {}
                Err(e) if e.kind() == Kind::Busy && *stop.borrow() => return Err(e),
                Err(e) if e.kind() == Kind::DatabaseUnreachable => {
                    return Err(brake("a column could not be looked through", &e, &self.work.storage.name));
                }
                Err(e) => {
                    let Place { shown, column, .. } = &self.places[at];
                    let table = Column { column: "*".to_owned(), ..column.column.clone() };
                    if found.unread.iter().all(|u| u.column != *shown) {
                        let denied = e.kind() == Kind::Permission;
                        found.unread.push(Unread { column: shown.clone(), table: table.to_string(), why: e.full(), denied });
                    }
                }
            }
            if by.files == 0 {
                continue;
            }
            match found.held_by.iter_mut().find(|known| known.column == by.column) {
                Some(known) => {
                    known.files += by.files;
                    by.samples.truncate(SAMPLES.saturating_sub(known.samples.len()));
                    known.samples.append(&mut by.samples);
                }
                None => found.held_by.push(by),
            }
        }
        let mut held = Vec::new();
        for ((orphan, hold), similar) in round.orphans.into_iter().zip(round.held).zip(round.similar) {
            match (hold, similar) {
                (Some((column, value)), _) => held.push(Held { orphan, column, value }),
                (None, Some((column, value))) => {
                    found.similar.files += 1;
                    if found.similar.samples.len() < SAMPLES {
                        found.similar.samples.push(Said { name: orphan.name, column, value });
                    }
                }
                (None, None) => {}
            }
        }
        Ok(held)
    }

    async fn column(
        &mut self,
        at: usize,
        round: &mut Round,
        by: &mut HeldBy,
        progress: &Progress,
        stop: &watch::Receiver<bool>,
    ) -> Result<()> {
        let place = &self.places[at];
        let column = place.column.clone();
        // The elements of a list, as the database writes them, stand between these.
        let between: &[u8] = if column.class == Class::Array { b"{,}" } else { b"" };
        let is_part = place.is_part;
        let mut values = place.side.db.values(&column).await?;
        let mut seen = vec![false; round.orphans.len()];
        // Last parts of which it is known for this column.
        let mut done: HashSet<(FileName, bool)> = HashSet::new();
        loop {
            let ended = || Error::new(Kind::Database, "a column's values ended before their last page").with("column", &column.column);
            let page = values.pages.recv().await.ok_or_else(ended).flatten()?;
            let mut doubtful = Vec::new();
            for value in &page.values {
                let (mut hits, mut lasts) = (Vec::new(), Lasts::default());
                round.scan.held(value, |name, _| {
                    if let Some(i) = round.full.get(name)
                        && !seen[*i]
                        && is_meant(value, name, between)
                    {
                        hits.push(*i);
                    }
                    if round.last.contains_key(name) {
                        lasts.add(name);
                    }
                });
                for (base, alone) in lasts.of(value) {
                    let last = (base, alone && !is_part);
                    if done.contains(&last) {
                        continue;
                    }
                    let is_explained = match self.places[at].other(&last.0, value) {
                        // What a binding reads as a name with a folder means that file.
                        Some((_, read)) if read.folder().is_some() => true,
                        Some(read) => self.is_file(at, read).await?,
                        None => false,
                    };
                    if !is_explained {
                        round.hold_last(&last, &mut seen, by, value);
                        done.insert(last);
                    }
                }
                for i in hits {
                    match self.places[at].longer(&round.orphans[i].name, value, &self.work.storage.name) {
                        Some(longer) => doubtful.push((i, longer, value.as_slice())),
                        None => round.hold(i, &mut seen, by, value),
                    }
                }
            }
            for (i, longer, value) in doubtful {
                if !seen[i] && !self.is_file(at, longer).await? {
                    round.hold(i, &mut seen, by, value);
                }
            }
            progress.searched.fetch_add(page.values.len() as u64, Relaxed);
            if *stop.borrow() {
                return Err(Error::new(Kind::Busy, "the sweep was stopped").hint("the same command goes on where it stopped"));
            }
            if page.last {
                break;
            }
            // Pages that wait already would keep everything else on this thread waiting.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Whether a longer name, which a binding reads out of a value, is a file: then the value means that one.
    async fn is_file(&mut self, at: usize, (storage, name): (String, FileName)) -> Result<bool> {
        let side = self.places[at].side;
        let place = match side.storage.name == storage {
            true => Some(self.work.place.clone()),
            false => {
                let key = side.shown(&storage);
                self.storages
                    .entry(key)
                    .or_insert_with(|| {
                        let place = side.plan.storages.get(&storage).and_then(|plan| crate::storage::open(plan).ok());
                        place.inspect(|place| place.survey())
                    })
                    .clone()
            }
        };
        let Some(place) = place else { return Ok(false) };
        let key = (side.shown(&storage), name);
        if let Some(known) = self.looked.get(&key) {
            return Ok(*known);
        }
        if self.looked.len() >= if place.quick() { LOOKS } else { REQUESTS } {
            return Ok(false);
        }
        // A storage that cannot be asked explains nothing.
        let looks = place.look(std::slice::from_ref(&key.1)).await.unwrap_or_default();
        let is = matches!(looks.first(), Some(Ok(Look::Seen(_))));
        self.looked.insert(key, is);
        Ok(is)
    }
}

impl Place<'_> {
    /// What a binding reads out of `value` that ends like the last part `base` of an orphan's name.
    fn other(&self, base: &FileName, value: &[u8]) -> Option<(String, FileName)> {
        self.readers.iter().find_map(|b| match b.resolve(value) {
            Resolved::Name(read) if read.base() == base.as_str() => Some((b.storage.clone(), read)),
            _ => None,
        })
    }

    /// The longer name, or the name in another storage, that a binding reads out of `value` where `name` stands in it: `2024/a.jpg` is no mention of `a.jpg`.
    fn longer(&self, name: &FileName, value: &[u8], own: &str) -> Option<(String, FileName)> {
        self.readers.iter().find_map(|b| {
            let Resolved::Name(read) = b.resolve(value) else { return None };
            let is_end = read.as_str().strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('/'));
            let here = self.side.label.is_none() && b.storage == own || b.storage == self.side.storage.name;
            (is_end || read == *name && !here).then(|| (b.storage.clone(), read))
        })
    }
}

impl Round {
    fn new(orphans: Vec<Orphan>) -> Self {
        let full: HashMap<FileName, usize> = orphans.iter().enumerate().map(|(i, o)| (o.name.clone(), i)).collect();
        let mut last: HashMap<FileName, Vec<usize>> = HashMap::new();
        for (i, orphan) in orphans.iter().enumerate().filter(|(_, o)| o.name.folder().is_some() && is_telling(o.name.base())) {
            if let Ok(base) = FileName::key(orphan.name.base()) {
                last.entry(base).or_default().push(i);
            }
        }
        let only_last = last.keys().filter(|base| !full.contains_key(*base));
        // Of an array any mention counts, whatever its value is; and little is read out of it. Which names are looked for is all that a scan knows.
        let scan = Scan::new(&Reading::Array { prefixes: Vec::new() }, full.keys().chain(only_last));
        let none = vec![None; orphans.len()];
        Round { full, last, scan, held: none.clone(), similar: none, orphans }
    }

    /// What ends with this last part is held, if it stands in the value by itself; else it is only similar.
    fn hold_last(&mut self, (base, alone): &(FileName, bool), seen: &mut [bool], by: &mut HeldBy, value: &[u8]) {
        for i in self.last.get(base).cloned().unwrap_or_default() {
            match alone {
                true => self.hold(i, seen, by, value),
                false => drop(self.similar[i].get_or_insert_with(|| (by.column.clone(), excerpt(value, base)))),
            }
        }
    }

    fn hold(&mut self, i: usize, seen: &mut [bool], by: &mut HeldBy, value: &[u8]) {
        if std::mem::replace(&mut seen[i], true) {
            return;
        }
        let name = &self.orphans[i].name;
        by.files += 1;
        if by.samples.len() < SAMPLES || self.held[i].is_none() {
            let value = excerpt(value, name);
            if by.samples.len() < SAMPLES {
                by.samples.push(Said { name: name.clone(), column: by.column.clone(), value: value.clone() });
            }
            self.held[i].get_or_insert((by.column.clone(), value));
        }
    }
}

/// Whether a value that holds the bytes of `name` means it. A short word (`1`, `draft`) is meant only where it stands for itself: as the whole value, between quotes,
/// at the end of a path, or next to one of the bytes in `between`.
fn is_meant(value: &[u8], name: &FileName, between: &[u8]) -> bool {
    // A key that is no path is meant by its path, too.
    let word = if name.as_path().is_ok() { name.as_str() } else { name.as_str().trim_start_matches("./").trim_start_matches('/') };
    let word = word.as_bytes();
    if word.is_empty() || word.len() >= WORD || !word.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) {
        return true;
    }
    if value.trim_ascii() == word {
        return true;
    }
    value.windows(word.len()).enumerate().filter(|(_, w)| *w == word).any(|(at, _)| {
        // Percent-encoded, a slash, a quote and what begins a query are three characters.
        let encoded = |at: usize| {
            value
                .get(at..at + 3)
                .is_some_and(|e| [b"%2f", b"%22", b"%27", b"%3d", b"%3f", b"%23", b"%26"].iter().any(|c| e.eq_ignore_ascii_case(*c)))
        };
        let before =
            at.checked_sub(1).is_none_or(|i| matches!(value[i], b'"' | b'\'' | b'/' | b'=' | b';' | b'(') || between.contains(&value[i]))
                || at.checked_sub(3).is_some_and(encoded);
        let end = at + word.len();
        let after = value
            .get(end)
            .is_none_or(|b| matches!(b, b'"' | b'\'' | b'\\' | b'?' | b'#' | b'&' | b'<' | b'>' | b')') || between.contains(b))
            || encoded(end);
        before && after
    })
}

/// A piece of a value around the last part of a name.
fn excerpt(value: &[u8], name: &FileName) -> String {
    const BEFORE: usize = 60;
    const ALL: usize = 160;
    let base = name.base().as_bytes();
    let at = value.windows(base.len()).position(|w| w == base).unwrap_or(0);
    let start = at.saturating_sub(BEFORE);
    let end = value.len().min(start + ALL.max(at - start + base.len()));
    let mut text = String::from_utf8_lossy(&value[start..end]).into_owned();
    // A character that was cut in two is none.
    text = text.trim_matches('\u{fffd}').to_owned();
    format!("{}{text}{}", if start > 0 { ".." } else { "" }, if end < value.len() { ".." } else { "" })
}

/// What is held, on disk until all rounds are over: without a name, so that it goes with the process.
struct HeldFile {
    file: BufWriter<std::fs::File>,
    place: std::path::PathBuf,
}

impl HeldFile {
    fn new(spool: &Spool) -> Result<Self> {
        let place = spool.folder().to_owned();
        let file = tempfile::tempfile_in(&place).map_err(|e| unkept(&place, e))?;
        Ok(HeldFile { file: BufWriter::new(file), place })
    }

    fn push(&mut self, held: &Held) -> Result<()> {
        let mut line = serde_json::to_vec(held).map_err(|e| unkept(&self.place, e.into()))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(|e| unkept(&self.place, e))
    }

    fn read(self) -> Result<impl Iterator<Item = Result<Held>>> {
        let place = self.place;
        let mut file = self.file.into_inner().map_err(|e| unkept(&place, e.into_error()))?;
        file.seek(SeekFrom::Start(0)).map_err(|e| unkept(&place, e))?;
        let lines = BufReader::new(file).lines();
        Ok(lines.map(move |line| {
            let line = line.map_err(|e| unkept(&place, e))?;
            serde_json::from_str(&line).map_err(|e| unkept(&place, e.into()))
        }))
    }
}

fn unkept(folder: &std::path::Path, e: std::io::Error) -> Error {
    Error::new(Kind::Config, "cannot keep what the sweep holds")
        .with("folder", folder.display())
        .because(e)
        .hint("make room or give the right to write there, or name another folder with --state")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_word_is_meant_only_where_it_stands_for_itself() {
        let meant = |value: &str, name: &str| is_meant(value.as_bytes(), &FileName::parse(name).unwrap(), b"");
        for value in ["draft", " draft ", "\"draft\"", "{\"src\":\"/m/draft\"}", "<img src=/m/draft>", "https://h.example/draft?v=1"] {
            assert!(meant(value, "draft"), "{value}");
        }
        for value in ["a draft of it", "draft, final", "status: draft"] {
            assert!(!meant(value, "draft"), "{value}");
        }
        assert!(meant("https://h.example/?u=%2Fm%2fdraft%3Fv=1", "draft"));
        let listed = |value: &str| is_meant(value.as_bytes(), &FileName::parse("draft").unwrap(), b"{,}");
        assert!(listed("{draft,b}") && listed("{a,draft}") && !listed("{\"a draft of it\"}"));
        assert!(meant("see a/draft here", "a/draft") && meant("see draft.txt here", "draft.txt"));
        assert!(meant("see xtapjjcjiudrlk3tmwyjgpuobabd here", "xtapjjcjiudrlk3tmwyjgpuobabd"));
    }

    #[test]
    fn an_excerpt_shows_the_name() {
        let name = FileName::parse("2024/é.jpg").unwrap();
        assert_eq!(excerpt("/m/2024/é.jpg".as_bytes(), &name), "/m/2024/é.jpg");
        let long = format!("{}é.jpg{}", "é".repeat(500), "ü".repeat(500));
        let cut = excerpt(long.as_bytes(), &name);
        assert!(cut.contains("é.jpg") && cut.starts_with("..") && cut.ends_with("..") && cut.len() < 200, "{cut}");
        assert_eq!(excerpt(b"elsewhere", &name), "elsewhere");
    }
}
