//! Sweep: a whole storage against all references, both ways.
//!
//! In: the ordered listing of a storage, and the ordered references of every binding on it. Out: orphans (a file, no row), which become
//! candidates, and dangling references (a row, no file), which are reported. Listing and rows are read at the same time, so that both
//! findings are hints: the collector, with all its checks, is still the only deleter.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use crate::{
    binding::Keep,
    crash,
    database::{Database, overtaken, survey::TextColumn},
    derivative::Derivatives,
    error::{Error, Kind, Result},
    name::FileName,
    plan::{Plan, StoragePlan},
    queue::{Announce, SWEEP},
    storage::Storage,
    trash,
};

mod alike; // what orphans look like
mod brake; // what keeps it from deleting
mod compare; // two sides -> findings, each looked at once more
mod elsewhere; // orphans whose names stand in a value that nobody reads for them
mod groups; // orphans by folder and by age
mod join; // two ordered sides, page by page
mod last; // last parts of names that stand in a value
mod made; // whole names that queries make of pieces
mod prepare; // may it begin, and what stays the same
mod range; // a part of a storage's names
mod report; // what it reports
mod rows; // the references of every binding, in one order
mod sides; // the databases whose rows reference the storage
mod sorter; // a sort of any size in bounded memory
mod spool; // what was found so far, on disk
mod words; // names as words of a value

pub use brake::Brake;
use compare::{BATCH, MENTIONS};
use elsewhere::Elsewhere;
pub use elsewhere::{Held, HeldBy, MentionSample, Similar, Unread};
use prepare::all_there;
use range::Range;
pub use report::{AmbiguousValues, Amount, Dangling, Group, Orphan, Report};
pub use sides::Other;
use sides::Side;
use spool::{Counts, Point, Spool};
pub use spool::{Finding, Findings};

/// What a sweep does beside comparing. The defaults change nothing.
#[derive(Debug, Clone)]
pub struct Options {
    /// Orphans become candidates.
    pub delete: bool,
    /// Files that rows reference and that the trash still holds come back.
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
    /// The share of the orphans, from 0 to 1, that may be held without a brake: their names stand in values, though no binding reads them there. Default: 0.2.
    pub max_held: f64,
    /// The share of the orphans, from 0 to 1, that may resemble what is needed without a brake: of which the last part stands in some value, or which look as if they
    /// were made of a file that is there. Default: 0.2.
    pub max_alike: f64,
    /// The other installations that use the storage: their references count as ours do.
    pub with: Vec<Other>,
    /// Whether to proceed even if no row references any file.
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
            max_held: 0.2,
            max_alike: 0.2,
            with: Vec::new(),
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

/// The progress of a sweep.
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
    /// About how many values the counter-search reads; 0 until it begins.
    pub to_search: AtomicU64,
    /// Values that it has read.
    pub searched: AtomicU64,
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
    // What an interrupted sweep found held is looked for once more.
    point.counts.release_held();
    let doubtful = work.brake(&point.counts, None).is_some();
    let elsewhere = work.elsewhere(&mut spool, &mut point, doubtful, progress, stop).await?;
    let likeness = work.alike(&spool).await?;
    let mut brake = work.brake(&point.counts, Some(&elsewhere)).or_else(|| work.brake_alike(&point.counts, &elsewhere, &likeness));
    if let Some(brake) = &mut brake {
        brake.alike = likeness.said;
    }
    let mut report = work.report(&spool, &point.counts, elsewhere)?;
    report.brake = brake;
    if report.brake.is_none() {
        if options.delete {
            crash::point("searched");
            report.announced = work.announce(&spool, progress).await?;
        }
        if options.heal {
            report.healed = work.heal(&spool).await?;
        }
    }
    report.ended = Timestamp::now();
    Ok(Swept { report, spool })
}

/// About how many references a whole sweep of a storage compares, so that its end can be estimated; `None` where nobody can
/// know: a part of a storage, values that hold many names, a table that the database has not counted yet.
///
/// # Errors
/// Those of the database.
pub async fn expected(plan: &Plan, db: &dyn Database, storage: &str, options: &Options) -> Result<Option<u64>> {
    if options.partial() || plan.on_storage(storage).any(|b| b.reading.is_many()) {
        return Ok(None);
    }
    if !options.with.is_empty() {
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

/// Everything that stays the same for the whole sweep.
struct Work<'a> {
    plan: &'a Plan,
    db: &'a dyn Database,
    storage: &'a StoragePlan,
    place: Arc<dyn Storage>,
    /// The storage is attached.
    attached: bool,
    /// Ours, then the other installations'.
    sides: Vec<Side<'a>>,
    options: &'a Options,
    range: Range,
    keep: Vec<Keep>,
    derivatives: Derivatives,
    min_age: Duration,
}

impl Work<'_> {
    /// Orphans become candidates; the collector does the rest, and may find better.
    ///
    /// # Errors
    /// [`Kind::Identity`] when an installation came to use the storage whose references were not seen.
    async fn announce(&self, spool: &Spool, progress: &Progress) -> Result<u64> {
        let mut announced = 0;
        // Where the other databases are asked once more, columns may be read from end to end for each batch.
        let most = if self.sides.len() > 1 { MENTIONS } else { BATCH };
        let mut batch = Vec::new();
        let mut findings = spool.findings()?;
        loop {
            let finding = findings.next().transpose()?;
            let end = finding.is_none();
            if let Some(Finding::Orphan(orphan)) = finding {
                batch.push(orphan);
            }
            if batch.len() == most || end && !batch.is_empty() {
                for some in self.still_orphans(std::mem::take(&mut batch)).await?.chunks(BATCH) {
                    all_there(self.storage, self.place.as_ref(), &self.sides).await?;
                    let announce = |o: &Orphan| Announce {
                        storage: self.storage.name.clone(),
                        name: o.name.clone(),
                        event: SWEEP,
                        wait: Duration::ZERO,
                    };
                    self.db.announce(&some.iter().map(announce).collect::<Vec<_>>()).await?;
                    crash::point("orphans-announced");
                    announced += some.len() as u64;
                    progress.announced.store(announced, Relaxed);
                }
            }
            if end {
                return Ok(announced);
            }
        }
    }

    /// Those that no row references by now, where several databases use the storage. The collector asks only ours again; the others were asked while the sweep compared,
    /// which may be days ago if it was interrupted.
    async fn still_orphans(&self, mut orphans: Vec<Orphan>) -> Result<Vec<Orphan>> {
        if self.sides.len() < 2 {
            return Ok(orphans);
        }
        let (mentioned, meant) = (self.mentioned(&orphans).await?, self.meant(&orphans).await?);
        // What a row references exactly is among these.
        let otherwise = self.otherwise(&orphans).await?;
        let before = orphans.len();
        orphans.retain(|o| !mentioned.contains(&o.name) && !meant.contains(&o.name) && !otherwise.contains_key(&o.name));
        if orphans.len() < before {
            let (storage, files) = (&self.storage.name, before - orphans.len());
            tracing::warn!(%storage, files, "rows reference files that were orphans when the sweep compared them: these stay");
        }
        Ok(orphans)
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
