//! The counter-search: does the name of an orphan stand in a value that nobody reads for it?
//!
//! In: the orphans in the spool, and every text, JSON and BLOB column of the databases, bound or not, that is not under `ignore`. Out: those whose full name stands in one, or
//! the last part of it by itself, which are held, with the column; how often the last part stands there otherwise. Promise: a column that cannot be read to its end is
//! reported, and nothing is deleted then. Memory is bounded: orphans go in rounds, and each round reads each column once, value by value.

use std::{
    collections::{HashMap, HashSet},
    io::{BufRead, BufReader, BufWriter, Seek, SeekFrom, Write},
    sync::{Arc, atomic::Ordering::Relaxed},
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{
    Finding, Orphan, Progress, Work,
    brake::inconclusive,
    last::{Lasts, is_telling},
    made::ends_of_made,
    sides::{Side, in_config},
    spool::{Point, Spool},
    words::{excerpt, is_reference},
};
use crate::{
    binding::{Column, Reading, Resolved, Scan, same_path},
    capture::Bound,
    database::survey::{Class, TextColumn},
    error::{Error, Kind, Result},
    evidence::makes_names,
    name::{FileName, Names},
    storage::{Stat, Storage},
};

/// So many orphans, and so many bytes of their names, are looked for at a time.
const ROUND: usize = 20_000;
pub(super) const BYTES: usize = 1 << 20;

/// Samples of a column.
const SAMPLES: usize = 3;

/// So many longer names are looked up to explain away a mention; in a storage where each look is a request, fewer.
const LOOKS: usize = 20_000;
const REQUESTS: usize = 500;

/// An orphan that is held, because its name stands in a value, though no binding reads it there.
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
pub struct MentionSample {
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
    /// The file of the configuration whose database it is in; `None`: our own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// Whether a binding reads it, though not for these names.
    #[serde(default)]
    pub bound: bool,
    /// Of how many orphans.
    pub files: u64,
    /// Some of them.
    pub samples: Vec<MentionSample>,
}

impl HeldBy {
    /// The column, and whose it is, for people.
    pub fn shown(&self) -> String {
        in_config(&self.column, self.config.as_deref())
    }
}

/// Orphans of which only the last part of the name stands in some value, and not by itself. They are not held: `logo.png` stands in many.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Similar {
    /// How many.
    pub files: u64,
    /// Some of them.
    pub samples: Vec<MentionSample>,
}

/// A column that could not be looked through, or not to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unread {
    /// The column; of tables that the database does not show, which they may be.
    pub column: String,
    /// The file of the configuration whose database it is in; `None`: our own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// What `ignore` takes for its table: `page.*`. Empty where the table is not known.
    pub table: String,
    /// Why not.
    pub why: String,
    /// Whether the account lacks the right to read it.
    pub denied: bool,
}

impl Unread {
    /// The column, and whose it is, for people.
    pub fn shown(&self) -> String {
        in_config(&self.column, self.config.as_deref())
    }
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
    /// What reads it.
    readers: Vec<&'a Bound>,
    /// Bound queries of its table, and bound generated columns of it: a last part may stand here as a piece of a whole name that they make.
    makers: Vec<&'a Bound>,
}

/// What a binding reads out of a value.
struct Read {
    storage: String,
    name: FileName,
    /// Whether the value has this one name and no other.
    is_all: bool,
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
        let mut search = CounterSearch::begin(self).await?;
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
struct CounterSearch<'a> {
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
    /// By the binding that makes whole names: the last parts that are ends of those.
    made: HashMap<i32, HashSet<FileName>>,
    /// Names that could be taken for an escape are looked for apart: for them each value is read many times.
    scans: Vec<Scan>,
    held: Vec<Option<(String, String)>>,
    similar: Vec<Option<(String, String)>>,
}

impl<'a> CounterSearch<'a> {
    async fn begin(work: &'a Work<'a>) -> Result<Self> {
        let (mut places, mut hidden) = (Vec::new(), Vec::new());
        for side in &work.sides {
            let failed = |e: Error| inconclusive("the columns could not be looked up", &e, &work.storage.name);
            if let Some(right) = side.db.hides_tables().await.map_err(failed)? {
                let why = format!("the database shows only those on which the account has a right; grant {right}");
                hidden.push(Unread {
                    column: "tables that the account does not see".to_owned(),
                    config: side.label.map(str::to_owned),
                    table: String::new(),
                    why,
                    denied: true,
                });
            }
            let columns = side.db.text_columns().await.map_err(failed)?;
            for column in columns.iter().filter(|column| !side.plan.ignore.iter().any(|i| column.is(i))) {
                let readers = side.bound.iter().filter(|b| b.binding.query.is_none() && column.is(&b.binding.column)).collect();
                let makers = side.here().filter(|b| makes_names(&b.binding, &column.column.table, &columns)).collect();
                places.push(Place { side, column: column.clone(), readers, makers });
            }
        }
        Ok(CounterSearch { work, places, looked: HashMap::new(), storages: HashMap::new(), hidden })
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
        let makers = self.places.iter().flat_map(|place| place.makers.iter().map(move |b| (place.side, *b)));
        round.made = ends_of_made(makers, |base| round.last.contains_key(base))
            .await
            .map_err(|e| inconclusive("the rows could not be read to their end", &e, &self.work.storage.name))?;
        for at in 0..self.places.len() {
            let place = &self.places[at];
            let mut by = HeldBy {
                column: place.column.column.to_string(),
                config: place.side.label.map(str::to_owned),
                bound: !place.readers.is_empty(),
                files: 0,
                samples: Vec::new(),
            };
            match self.column(at, &mut round, &mut by, progress, stop).await {
                Ok(()) => {}
                Err(e) if e.kind() == Kind::Busy && *stop.borrow() => return Err(e),
                Err(e) if e.kind() == Kind::DatabaseUnreachable => {
                    return Err(inconclusive("a column could not be looked through", &e, &self.work.storage.name));
                }
                Err(e) => {
                    if found.unread.iter().all(|u| (&u.column, &u.config) != (&by.column, &by.config)) {
                        let table = Column { column: "*".to_owned(), ..self.places[at].column.column.clone() }.to_string();
                        let denied = e.kind() == Kind::Permission;
                        let (column, config) = (by.column.clone(), by.config.clone());
                        found.unread.push(Unread { column, config, table, why: e.full(), denied });
                    }
                }
            }
            if by.files == 0 {
                continue;
            }
            match found.held_by.iter_mut().find(|known| (&known.column, &known.config) == (&by.column, &by.config)) {
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
                        found.similar.samples.push(MentionSample { name: orphan.name, column, value });
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
        let makers: Vec<i32> = place.makers.iter().map(|b| b.id).collect();
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
                let mut looked_at = HashSet::new();
                for scan in &round.scans {
                    scan.held(value, |name, _| {
                        if let Some(i) = round.full.get(name)
                            && !seen[*i]
                            && looked_at.insert(*i)
                            && is_reference(value, name, between)
                        {
                            hits.push(*i);
                        }
                        if round.last.contains_key(name) {
                            lasts.add(name);
                        }
                    });
                }
                let reads = if lasts.is_empty() { HashMap::new() } else { self.places[at].reads(value) };
                for (base, alone) in lasts.of(value) {
                    let is_piece = makers.iter().any(|id| round.made.get(id).is_some_and(|ends| ends.contains(&base)));
                    let last = (base, alone && !is_piece);
                    if done.contains(&last) {
                        continue;
                    }
                    let is_explained = match reads.get(last.0.as_str()) {
                        // Beside the names that it reads, it may hold this last part by itself.
                        Some(read) if !read.is_all && alone => false,
                        // What a binding reads as a name with a folder means that file.
                        Some(read) if read.name.folder().is_some() => true,
                        Some(read) => self.is_file(at, (read.storage.clone(), read.name.clone())).await?,
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
                        place.inspect(|place| place.set_read_only())
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
        let looks = place.stat(std::slice::from_ref(&key.1)).await.unwrap_or_default();
        let is = matches!(looks.first(), Some(Ok(Stat::File(_))));
        self.looked.insert(key, is);
        Ok(is)
    }
}

impl Place<'_> {
    /// What the bindings read out of `value`, by the last parts of the names.
    fn reads(&self, value: &[u8]) -> HashMap<String, Read> {
        let mut reads = HashMap::new();
        for b in &self.readers {
            let is_all = !b.binding.reading.is_many();
            b.binding.each_name(value, |read| {
                if let Resolved::Name(name) = read {
                    let storage = b.binding.storage.clone();
                    reads.entry(name.base().to_owned()).or_insert(Read { storage, name, is_all });
                }
            });
        }
        reads
    }

    /// The longer name, or the name in another storage, that a binding reads out of `value` where `name` stands in it: `2024/a.jpg` is no mention of `a.jpg`.
    fn longer(&self, name: &FileName, value: &[u8], own: &str) -> Option<(String, FileName)> {
        self.readers.iter().map(|b| &b.binding).filter(|b| !b.reading.is_many()).find_map(|b| {
            let Resolved::Name(read) = b.resolve(value) else { return None };
            let is_end = read.as_str().strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('/'));
            let here = self.side.label.is_none() && b.storage == own || b.storage == self.side.storage.name;
            // `a//b.jpg` is another object than `a/b.jpg`, if that is there.
            let is_other_key = b.names == Names::Keys && read != *name && same_path(&read, name);
            (is_end || is_other_key || read == *name && !here).then(|| (b.storage.clone(), read))
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
        let is_odd = |name: &&FileName| name.as_str().chars().any(|c| matches!(c, '%' | '&' | '\\') || c.is_control());
        let (odd, plain): (Vec<&FileName>, Vec<&FileName>) = full.keys().chain(only_last).partition(is_odd);
        // Of an array any mention counts, whatever its value is; and little is read out of it. Which names are looked for is all that a scan knows.
        let scan = |names| Scan::new(&Reading::Array { prefixes: Vec::new() }, names);
        let scans: Vec<Scan> = [plain, odd].into_iter().filter(|names| !names.is_empty()).map(scan).collect();
        let none = vec![None; orphans.len()];
        Round { full, last, made: HashMap::new(), scans, held: none.clone(), similar: none, orphans }
    }

    /// What ends with this last part is held, if it stands in the value by itself; else it is only similar.
    fn hold_last(&mut self, (base, alone): &(FileName, bool), seen: &mut [bool], by: &mut HeldBy, value: &[u8]) {
        for i in self.last.get(base).cloned().unwrap_or_default() {
            match alone {
                true => self.hold(i, seen, by, value),
                false => drop(self.similar[i].get_or_insert_with(|| (by.shown(), excerpt(value, base)))),
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
                by.samples.push(MentionSample { name: name.clone(), column: by.shown(), value: value.clone() });
            }
            self.held[i].get_or_insert((by.shown(), value));
        }
    }
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
