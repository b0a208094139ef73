//! Sweep: a whole storage against all references, both ways.
//!
//! In: the ordered listing of a storage, and the ordered references of every binding on it. Out: orphans (a file, no row), which become
//! candidates, and dangling references (a row, no file), which are reported. Listing and rows are read at the same time, so that both
//! findings are hints: the collector, with all its checks, is still the only deleter.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::{
    attach::{apart, copied, number, open_storages},
    binding::{Binding, Keep, Mode, Resolved, Scan as Names},
    capture::{Bound, Installation},
    clock, crash,
    database::{ColumnSearch, Database, Scan, drifted, overtaken, redact, survey::TextColumn},
    derivative::Derivatives,
    error::{Error, Kind, Result},
    guard::same_bindings,
    name::FileName,
    originals::living_originals,
    plan::{Plan, StoragePlan},
    queue::Announce,
    storage::{Listed, Look, Storage},
    trash,
};

mod groups; // orphans by folder and by age
mod join; // two ordered sides, page by page
mod range; // a part of a storage's names
mod rows; // the references of every binding, in one order
mod sorter; // a sort of any size in bounded memory
mod spool; // what was found so far, on disk

use join::{Join, Next};
use range::Range;
use rows::Rows;
use spool::{Counts, Point, Spool};
pub use spool::{Finding, Findings};

/// Files, counted and weighed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// How many.
    pub files: u64,
    /// Their bytes in all.
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, bytes: u64) {
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
}

/// Why a sweep stopped before it changed anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brake {
    /// What was found.
    pub why: String,
    /// What to look at, and which flag confirms.
    pub hint: String,
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
    /// Files that no row names, old enough to go.
    pub orphans: Amount,
    /// Files that no row names, but too young to judge.
    pub young: Amount,
    /// Files that no row names, but made from one that is there.
    pub derived: Amount,
    /// Files that no row names, but that a text, a JSON value or an array mentions outside of what its binding reads.
    pub mentioned: Amount,
    /// Files that no row names, under a `keep` or an `ignore` pattern.
    pub protected: u64,
    /// Entries that no row could name: links, names that are refused.
    pub odd: u64,
    /// Distinct names that rows hold and that have no file.
    pub dangling: u64,
    /// Of these, how many the trash still holds.
    pub in_trash: u64,
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

/// What a sweep does beside comparing. The defaults change nothing.
#[derive(Debug, Clone)]
pub struct Options {
    /// Orphans become candidates.
    pub delete: bool,
    /// Files that rows name and that the trash still holds come back.
    pub heal: bool,
    /// Only names that begin with this (bytes, not folders).
    pub prefix: String,
    /// Only names behind this one.
    pub after: Option<FileName>,
    /// Only names up to this one, which is swept too.
    pub until: Option<FileName>,
    /// How old a file must be to be an orphan; `None`: the storage's `min_age`.
    pub min_age: Option<Duration>,
    /// The share of the files, from 0 to 1, that may be orphaned without a brake. Default: 0.2.
    pub max_share: f64,
    /// Whether it is meant that no row names any file.
    pub allow_no_references: bool,
    /// The folder in which findings are kept while the sweep lasts.
    pub state: PathBuf,
    /// Whether a sweep that was cut off is forgotten instead of taken up again.
    pub restart: bool,
}

impl Options {
    /// A sweep of everything that only reports, and keeps what it finds in the folder `state`.
    pub fn new(state: impl Into<PathBuf>) -> Self {
        Options {
            delete: false,
            heal: false,
            prefix: String::new(),
            after: None,
            until: None,
            min_age: None,
            max_share: 0.2,
            allow_no_references: false,
            state: state.into(),
            restart: false,
        }
    }

    /// Whether only a part of the storage is swept.
    pub fn partial(&self) -> bool {
        !self.prefix.is_empty() || self.after.is_some() || self.until.is_some()
    }
}

/// How far a sweep is, for whoever watches it.
#[derive(Debug, Default)]
pub struct Progress {
    /// Files compared.
    pub files: AtomicU64,
    /// Distinct names that rows hold, compared.
    pub references: AtomicU64,
    /// Orphans found.
    pub orphans: AtomicU64,
    /// Dangling references found.
    pub dangling: AtomicU64,
    /// Orphans that became candidates.
    pub announced: AtomicU64,
}

/// A sweep that came to its end.
#[derive(Debug)]
pub struct Swept {
    /// What was found and done, in numbers.
    pub report: Report,
    spool: Spool,
}

impl Swept {
    /// Everything that was found, in the order of names, read from disk.
    ///
    /// # Errors
    /// [`Kind::Config`] when it cannot be read back.
    pub fn findings(&self) -> Result<Findings> {
        self.spool.findings()
    }

    /// Forgets the findings: the next sweep begins anew.
    ///
    /// # Errors
    /// [`Kind::Config`] when they cannot be removed.
    pub fn forget(self) -> Result<()> {
        self.spool.forget()
    }
}

/// A sweep that was cut off so long ago is not taken up again: too much has changed.
const STALE: SignedDuration = SignedDuration::from_hours(24 * 7);

/// Hints are looked at in batches of so many.
const BATCH: usize = 1_000;

/// Dangling hints: each batch is a scan of every column without an index.
const ROWS: usize = 5_000;

/// The longest time between two points from which a sweep can go on, where no column is read for them.
const POINT: Duration = Duration::from_secs(1);

/// Where columns are read from end to end at each point, for what their values mention, so many hints go together; and a point comes after so many times
/// as long as the last took.
const MENTIONS: usize = 20_000;
const REST: u32 = 4;

/// Rows per batch and column whose keys are looked up; a name beyond stands in the report without its row's key.
const HOLDERS: u32 = 50_000;

/// Sweeps one storage of the plan. A sweep of the same files that was cut off is taken up again.
///
/// # Errors
/// [`Kind::Brake`] when listing or rows could not be read to their end: nothing may be concluded from them; [`Kind::NotAttached`] when something is to be
/// changed, but nothing is attached; [`Kind::Drift`] and [`Kind::Identity`] as the collector stops for; [`Kind::Busy`] when `stop` became true.
pub async fn sweep(
    plan: &Plan,
    db: &dyn Database,
    storage: &str,
    options: &Options,
    progress: &Progress,
    stop: &watch::Receiver<bool>,
) -> Result<Swept> {
    let work = Work::prepare(plan, db, storage, options).await?;
    let what = work.what().await?;
    let path = options.state.join(format!("sweep-{storage}-{:016x}.jsonl", fingerprint(&what)));
    let oldest = Timestamp::now() - STALE;
    let (mut spool, point) = Spool::open(&path, &what, options.restart, oldest)?;
    let mut point = point.unwrap_or(Point { at: None, done: false, counts: Counts::default() });
    if let Some(at) = &point.at {
        tracing::info!(storage, at = %at, "going on with a sweep that was cut off; --restart begins anew");
    }
    let mut unordered = BTreeSet::new();
    while !point.done {
        match work.compare(&mut spool, &mut point, &unordered, progress, stop).await {
            Ok(()) => {}
            Err(e) => match broken_order(&e) {
                // Its values are sorted here from now on. What was found since the last point is found again.
                Some(binding) if unordered.insert(binding) => {
                    tracing::debug!(binding, "the values of a column do not come in bytewise order: they are sorted here");
                    drop(spool);
                    let (again, at) = Spool::open(&path, &what, false, oldest)?;
                    point = at.unwrap_or(Point { at: None, done: false, counts: Counts::default() });
                    spool = again;
                }
                _ => return Err(e),
            },
        }
    }
    let mut report = work.report(&spool, &point.counts)?;
    report.brake = work.brake(&point.counts);
    if report.brake.is_none() {
        if options.delete {
            report.announced = work.announce(&spool, progress).await?;
        }
        if options.heal {
            report.healed = work.heal(&spool).await?;
        }
    }
    report.ended = Timestamp::now();
    Ok(Swept { report, spool })
}

/// About how many references a whole sweep of a storage compares, so that whoever watches it can be told when it ends; `None` where nobody can
/// know: a part of a storage, values that hold many names, a table that the database has not counted yet.
///
/// # Errors
/// Those of the database.
pub async fn expected(plan: &Plan, db: &dyn Database, storage: &str, options: &Options) -> Result<Option<u64>> {
    if options.partial() || plan.on_storage(storage).any(|b| b.reading.is_many()) {
        return Ok(None);
    }
    let columns = db.text_columns().await?;
    let mut sum = 0;
    for binding in plan.on_storage(storage) {
        let is = |c: &&TextColumn| {
            let (there, ours) = (&c.column, &binding.column);
            let schema = ours.schema.is_none() && there.schema.is_none() || ours.schema.as_ref() == Some(&c.schema);
            schema && there.table == ours.table && there.column == ours.column
        };
        match columns.iter().find(is) {
            Some(c) if c.rows > 0 => sum += c.rows,
            _ => return Ok(None),
        }
    }
    Ok(Some(sum))
}

/// Every storage of the plan was swept, and its orphans became candidates: what capture missed before `since` is no longer missing.
///
/// # Errors
/// Those of the database.
pub async fn close_gaps(db: &dyn Database, since: Timestamp) -> Result<usize> {
    let Some(mut record) = db.installation().await? else { return Ok(0) };
    let before = record.gaps.len();
    record.gaps.retain(|gap| gap.until.is_none_or(|until| until >= since));
    let closed = before - record.gaps.len();
    if closed > 0 {
        match db.record(&record).await {
            // Somebody attached meanwhile: the next sweep closes them.
            Err(e) if overtaken(&e) => return Ok(0),
            stored => stored?,
        }
    }
    Ok(closed)
}

/// The column whose order is broken, if that is what `e` says.
fn broken_order(e: &Error) -> Option<i32> {
    let source = std::error::Error::source(e)?;
    source.downcast_ref::<rows::Unordered>().map(|u| u.binding)
}

/// FNV-1a: names a file, nothing else.
fn fingerprint(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn brake(what: &str, e: &Error, storage: &str) -> Error {
    Error::new(Kind::Brake, format!("{what}: nothing can be concluded, and nothing was deleted"))
        .with("storage", storage)
        .because(e.full())
        .retry(e.retry_status())
        .hint(format!(
            "{}the same command goes on where it stopped, with --restart it begins anew",
            e.hint_text().map(|h| format!("{h}; then ")).unwrap_or_default()
        ))
}

/// Insists that no other database uses the storage: its references are not seen here, and its files would all be orphans.
async fn sole_owner(plan: &StoragePlan, storage: &dyn Storage, record: &Installation) -> Result<()> {
    let Some(marker) = storage.marker().await? else { return Ok(()) }; // it was proved just now: its operations say so
    let others: Vec<&str> = marker.others(&record.id).collect();
    let Some(first) = others.first() else { return Ok(()) };
    Err(Error::new(Kind::Identity, "another database uses this storage, and a sweep here does not see its references: nothing was deleted")
        .with("storage", &plan.name)
        .with("attached to", others.join(", "))
        .hint(format!(
            "sweep without --delete reports what this database does not reference; if that database is gone: rowbound attach --forget-installation {first}"
        )))
}

/// Everything that stays the same for the whole sweep.
struct Work<'a> {
    plan: &'a Plan,
    db: &'a dyn Database,
    storage: &'a StoragePlan,
    place: Arc<dyn Storage>,
    /// The storage is attached.
    attached: bool,
    bound: Vec<Bound>,
    options: &'a Options,
    range: Range,
    keep: Keep,
    derivatives: Derivatives,
    min_age: Duration,
}

impl<'a> Work<'a> {
    async fn prepare(plan: &'a Plan, db: &'a dyn Database, storage: &str, options: &'a Options) -> Result<Self> {
        let storage = plan.storages.get(storage).ok_or_else(|| {
            let known: Vec<_> = plan.storages.keys().cloned().collect();
            Error::new(Kind::Config, "the plan has no such storage")
                .with("storage", storage)
                .hint(format!("known are: {}", known.join(", ")))
        })?;
        let record = db.installation().await?;
        let place = crate::storage::open(storage)?;
        let changes = options.delete || options.heal;
        let not_attached = |message: &str| {
            Error::new(Kind::NotAttached, message.to_owned())
                .with("storage", &storage.name)
                .hint("rowbound attach; without --delete and --heal a sweep needs none")
        };
        let (mut bound, mut attached) = (number(plan, &BTreeMap::new()), false);
        match &record {
            None if changes => return Err(not_attached("nothing is deleted or brought back before Rowbound is attached to this database")),
            None => place.survey(),
            Some(record) => {
                let identity = db.identity().await?;
                if identity != record.identity {
                    return Err(copied(&record.identity, &identity));
                }
                match same_bindings(plan, record) {
                    Ok(same) => bound = same,
                    // A binding that is new in the plan is read as the others are.
                    Err(e) if e.kind() == Kind::NotAttached && !changes => bound = number(plan, &record.bindings),
                    Err(e) => return Err(e),
                }
                if changes {
                    let drift = record.snapshot.drift(&db.snapshot(&bound).await?);
                    if !drift.is_empty() {
                        return Err(drifted(&drift));
                    }
                }
                let shadow = |b: &&Bound| b.binding.storage == storage.name && record.mode(b) == Mode::Shadow;
                if options.delete
                    && let Some(b) = bound.iter().find(shadow)
                {
                    // An orphan may have been this column's: the collector would only say what would have gone.
                    return Err(Error::new(Kind::Config, "a binding of this storage is in shadow mode: no orphan of it can be deleted")
                        .with("binding", &b.binding.column)
                        .hint("sweep without --delete; when you trust it: rowbound promote"));
                }
                match record.storages.get(&storage.name) {
                    Some(id) => {
                        place.expect(id);
                        attached = true;
                    }
                    None if changes => return Err(not_attached("this storage is not attached yet")),
                    None => place.survey(),
                }
            }
        }
        if !plan.bindings.iter().any(|b| b.storage == storage.name) {
            return Err(Error::new(Kind::Config, "no binding names files of this storage: every file would be an orphan")
                .with("storage", &storage.name)
                .hint("add a [[binding]] for each column that names its files"));
        }
        place.prove().await?;
        if changes && let Some(record) = &record {
            let all = open_storages(plan)?;
            apart(record, &storage.name, all.iter().map(|(name, place)| (&plan.storages[name], place))).await?;
            if options.delete {
                sole_owner(storage, place.as_ref(), record).await?;
            }
        }
        Ok(Work {
            plan,
            db,
            place,
            attached,
            bound,
            options,
            range: Range {
                prefix: options.prefix.clone(),
                after: options.after.as_ref().map(ToString::to_string),
                until: options.until.as_ref().map(ToString::to_string),
            },
            keep: Keep::with_ignored(plan.on_storage(&storage.name), &storage.ignore)?,
            derivatives: Derivatives::new(plan.on_storage(&storage.name))?,
            min_age: options.min_age.unwrap_or(storage.min_age),
            storage,
        })
    }

    /// What tells this sweep from any other: a spool of another one is not taken up.
    async fn what(&self) -> Result<String> {
        let bindings: Vec<String> = self.plan.on_storage(&self.storage.name).map(|b| format!("{} {:?}", b.key(), b.reading)).collect();
        Ok(format!(
            "2 {} {} {:?} {:?} {:?} {:?}",
            self.db.identity().await?,
            self.storage.url(),
            self.range,
            self.min_age,
            bindings,
            self.storage.ignore,
        ))
    }

    /// The comparison, from the last point to the end.
    async fn compare(
        &self,
        spool: &mut Spool,
        point: &mut Point,
        unordered: &BTreeSet<i32>,
        progress: &Progress,
        stop: &watch::Receiver<bool>,
    ) -> Result<()> {
        let name = &self.storage.name;
        let no_rows = |e: Error| match broken_order(&e) {
            Some(_) => e,
            None => brake("the rows could not be read to their end", &e, name),
        };
        let no_files = |e: Error| brake("the listing of the storage could not be completed", &e, name);
        let mut range = self.range.clone();
        range.after = point.at.as_ref().map(ToString::to_string).or(range.after);
        let after = range.after.as_deref().and_then(|n| FileName::parse(n).ok());
        let mut rows = Rows::begin(self.db, &self.bound, name, &range, unordered, &self.options.state).await.map_err(no_rows)?;
        let mut listing = self.place.list(&range.prefix, after).await.map_err(no_files)?;
        let mut join = Join::default();
        progress.files.store(point.counts.files, Relaxed);
        progress.references.store(point.counts.references, Relaxed);
        let (mut files, mut references): (Vec<FileName>, Vec<FileName>) = Default::default();
        let mentions = self.bound.iter().any(|b| self.mentions(b));
        let batch = if mentions { MENTIONS } else { BATCH };
        let (mut since, mut rest) = (Instant::now(), POINT);
        let mut newest = None;
        loop {
            match join.next() {
                Next::Both(name) => {
                    point.counts.files += 1;
                    point.counts.references += 1;
                    newest = Some(name);
                }
                Next::File(name) => {
                    point.counts.files += 1;
                    if self.keep.protects(&name) {
                        point.counts.protected += 1;
                    } else {
                        files.push(name.clone());
                    }
                    newest = Some(name);
                }
                Next::Row(name) => {
                    point.counts.references += 1;
                    references.push(name.clone());
                    newest = Some(name);
                }
                Next::MoreRows => {
                    let (page, last) = rows.page().await.map_err(no_rows)?;
                    join.rows(page, last)
                        .map_err(|e| brake("the rows do not come in order", &Error::new(Kind::Database, e.to_string()), name))?;
                }
                Next::MoreFiles => {
                    progress.files.store(point.counts.files, Relaxed);
                    progress.references.store(point.counts.references, Relaxed);
                    if *stop.borrow() {
                        return Err(Error::new(Kind::Busy, "the sweep was stopped")
                            .with("storage", name)
                            .hint("the same command goes on where it stopped"));
                    }
                    // Between two pages: nothing is under way but what the batches hold.
                    if files.len() >= batch || references.len() >= ROWS || since.elapsed() >= rest {
                        let began = Instant::now();
                        self.settle(&mut files, &mut references, spool, &mut point.counts, progress).await?;
                        point.at = newest.take().or(point.at.take());
                        spool.point(point)?;
                        crash::point("compared");
                        if mentions {
                            rest = POINT.max(began.elapsed() * REST);
                        }
                        since = Instant::now();
                    }
                    let page = listing
                        .recv()
                        .await
                        .ok_or_else(|| Error::new(Kind::Storage, "it ended before its last page"))
                        .flatten()
                        .map_err(no_files)?;
                    let mut page_files = Vec::with_capacity(page.entries.len());
                    let mut last = page.last;
                    for entry in page.entries {
                        match entry {
                            Listed::File(file) if range.contains(file.as_str()) => page_files.push(file),
                            Listed::File(file) => last = last || range.is_behind(file.as_str()),
                            Listed::Odd(..) => point.counts.odd += 1,
                        }
                    }
                    join.files(page_files, last)
                        .map_err(|e| brake("the storage does not list in order", &Error::new(Kind::Storage, e.to_string()), name))?;
                }
                Next::End => break,
            }
        }
        self.settle(&mut files, &mut references, spool, &mut point.counts, progress).await?;
        let refused = rows.refused.load(Relaxed);
        if refused > 0 {
            tracing::warn!(storage = %name, values = refused, "values of bound columns are no names that a file of the storage could have");
        }
        point.at = newest.or(point.at.take());
        point.done = true;
        progress.files.store(point.counts.files, Relaxed);
        progress.references.store(point.counts.references, Relaxed);
        spool.point(point)
    }

    /// Looks at the hints once more; what remains are findings.
    async fn settle(
        &self,
        files: &mut Vec<FileName>,
        references: &mut Vec<FileName>,
        spool: &mut Spool,
        counts: &mut Counts,
        progress: &Progress,
    ) -> Result<()> {
        let mut found = Vec::new();
        let mut orphans = Vec::new();
        for batch in files.chunks(BATCH) {
            orphans.append(&mut self.orphans(batch, spool.started, counts).await?);
        }
        let mentioned = self.mentioned(&orphans).await?;
        for orphan in orphans {
            if mentioned.contains(&orphan.name) {
                counts.mentioned.add(orphan.size);
            } else {
                counts.orphans.add(orphan.size);
                found.push(Finding::Orphan(orphan));
            }
        }
        for batch in references.chunks(ROWS) {
            self.dangling(batch, counts, &mut found).await?;
        }
        files.clear();
        references.clear();
        for finding in found {
            spool.found(finding)?;
        }
        progress.orphans.store(counts.orphans.files, Relaxed);
        progress.dangling.store(counts.dangling, Relaxed);
        Ok(())
    }

    async fn orphans(&self, names: &[FileName], started: Timestamp, counts: &mut Counts) -> Result<Vec<Orphan>> {
        let failed = |e: Error| brake("a file could not be looked at", &e, &self.storage.name);
        let mut old = Vec::new();
        for (name, look) in names.iter().zip(self.place.look(names).await.map_err(failed)?) {
            match look.map_err(failed)? {
                Look::Missing => {} // it went meanwhile
                Look::Refused(_) => counts.odd += 1,
                // As old when the sweep began, so that no upload whose row comes later is taken for an orphan.
                Look::Seen(seen) if clock::passed(seen.modified, self.min_age, started) => {
                    old.push(Orphan { name: name.clone(), size: seen.size, modified: seen.modified })
                }
                Look::Seen(seen) => counts.young.add(seen.size),
            }
        }
        let names: Vec<FileName> = old.iter().map(|o| o.name.clone()).collect();
        let living = living_originals(&self.derivatives, self.place.as_ref(), &names).await.map_err(failed)?;
        old.retain(|orphan| {
            let derived = living.contains_key(&orphan.name);
            if derived {
                counts.derived.add(orphan.size);
            }
            !derived
        });
        Ok(old)
    }

    /// Whether values of `b` count for what they mention, and not only for what is read out of them.
    fn mentions(&self, b: &Bound) -> bool {
        b.binding.storage == self.storage.name && b.binding.reading.is_many()
    }

    /// Which of these are mentioned where no binding reads them: the collector would keep them.
    async fn mentioned(&self, orphans: &[Orphan]) -> Result<HashSet<FileName>> {
        let failed = |e: Error| brake("the rows could not be read to their end", &e, &self.storage.name);
        let mut mentioned = HashSet::new();
        if orphans.is_empty() {
            return Ok(mentioned);
        }
        for b in self.bound.iter().filter(|b| self.mentions(b)) {
            let Binding { column, query, reading, .. } = b.binding.clone();
            let names = Names::new(&reading, orphans.iter().map(|o| &o.name));
            let scan = Scan { binding: b.id, column, query, reading, ordered: false, after: None, until: None };
            let mut values = self.db.scan(&scan).await.map_err(failed)?;
            let ended = || Error::new(Kind::Database, "a column's values ended before their last page").with("binding", &b.binding.column);
            loop {
                let page = values.pages.recv().await.ok_or_else(ended).flatten().map_err(failed)?;
                for value in &page.values {
                    names.held(value, |name, _| {
                        mentioned.insert(name.clone());
                    });
                }
                if page.last {
                    break;
                }
                // Pages that wait already would keep everything else on this thread waiting.
                tokio::task::yield_now().await;
            }
        }
        Ok(mentioned)
    }

    async fn dangling(&self, names: &[FileName], counts: &mut Counts, found: &mut Vec<Finding>) -> Result<()> {
        let failed = |e: Error| brake("a reference could not be looked up once more", &e, &self.storage.name);
        // The file may have come since the listing passed its name.
        let looks = self.place.look(names).await.map_err(failed)?;
        let mut absent = Vec::new();
        for (name, look) in names.iter().zip(looks) {
            if look.map_err(failed)? == Look::Missing {
                absent.push(name.clone());
            }
        }
        if absent.is_empty() {
            return Ok(());
        }
        // The row may have gone; and it has a key.
        let searches: Vec<_> =
            self.bound.iter().filter(|b| b.binding.storage == self.storage.name).map(|b| ColumnSearch::of_read(b, &absent)).collect();
        let mut held: BTreeMap<FileName, (String, Option<String>)> = BTreeMap::new();
        for holder in self.db.holders(&searches, HOLDERS).await.map_err(failed)? {
            let Some(b) = self.bound.iter().find(|b| b.id == holder.binding) else { continue };
            if let Resolved::Name(name) = b.binding.resolve(holder.value.as_bytes()) {
                held.entry(name).or_insert_with(|| (b.binding.column.to_string(), holder.key.clone()));
            }
        }
        let mut trashed: Vec<bool> = vec![false; absent.len()];
        if self.attached {
            for (t, one) in trashed.iter_mut().zip(self.place.trashed(&absent).await.map_err(failed)?) {
                *t = one.map_err(failed)?.is_some();
            }
        }
        for (name, in_trash) in absent.into_iter().zip(trashed) {
            let Some((column, key)) = held.remove(&name) else { continue };
            counts.dangling += 1;
            counts.in_trash += u64::from(in_trash);
            found.push(Finding::Dangling(Dangling { name, column, key, in_trash }));
        }
        Ok(())
    }

    /// What must be confirmed before anything is deleted.
    fn brake(&self, counts: &Counts) -> Option<Brake> {
        if counts.orphans.files == 0 {
            return None;
        }
        if counts.references == 0 && !self.options.allow_no_references {
            return Some(Brake {
                why: format!("no row names any of the {} files", counts.files),
                hint: "is this the right database, and are all columns bound? If no file is wanted any more: --allow-no-references --max-share 1".to_owned(),
            });
        }
        let share = counts.orphans.files as f64 / counts.files.max(1) as f64;
        (share > self.options.max_share).then(|| Brake {
            why: format!(
                "{} of {} files are orphans: {:.0} %, more than {:.0} %",
                counts.orphans.files,
                counts.files,
                share * 100.0,
                self.options.max_share * 100.0
            ),
            hint: format!(
                "look at them first (--list, --report FILE): is a column not bound? If they are to go: --max-share {:.2}",
                (share * 100.0).ceil() / 100.0
            ),
        })
    }

    fn report(&self, spool: &Spool, counts: &Counts) -> Result<Report> {
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
            young: counts.young,
            derived: counts.derived,
            mentioned: counts.mentioned,
            protected: counts.protected,
            odd: counts.odd,
            dangling: counts.dangling,
            in_trash: counts.in_trash,
            by_folder,
            by_age,
            brake: None,
            announced: 0,
            healed: 0,
        })
    }

    /// Orphans become candidates; the collector does the rest, and may find better.
    async fn announce(&self, spool: &Spool, progress: &Progress) -> Result<u64> {
        let mut announced = 0;
        let mut batch = Vec::with_capacity(BATCH);
        let mut findings = spool.findings()?;
        loop {
            let finding = findings.next().transpose()?;
            let end = finding.is_none();
            if let Some(Finding::Orphan(orphan)) = finding {
                batch.push(Announce { storage: self.storage.name.clone(), name: orphan.name, event: "sweep", wait: Duration::ZERO });
            }
            if batch.len() == BATCH || end && !batch.is_empty() {
                self.db.announce(&batch).await?;
                crash::point("orphans-announced");
                announced += batch.len() as u64;
                progress.announced.store(announced, Relaxed);
                batch.clear();
            }
            if end {
                return Ok(announced);
            }
        }
    }

    async fn heal(&self, spool: &Spool) -> Result<u64> {
        let mut healed = 0;
        for finding in spool.findings()? {
            if let Finding::Dangling(d) = finding?
                && d.in_trash
            {
                match trash::restore(self.db, &self.storage.name, self.place.as_ref(), &d.name).await {
                    Ok(_) => healed += 1,
                    // It left the trash, or came back, since it was seen.
                    Err(e) if e.kind() == Kind::NotFound => {}
                    Err(e) => return Err(e),
                }
            }
        }
        Ok(healed)
    }
}
