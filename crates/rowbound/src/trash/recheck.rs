//! What was moved lately is checked again: no barrier sees a transaction that looked at a file before its first statement.
//!
//! In: the ledger's entries of moves. Out: files that came back because a row references them, or entries that say which of them are referenced. Promise: only
//! the newest file of a name comes back, only within [`WINDOW`], only where nothing has the name, and only where the storage proved that it can tell.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{Keeper, RECHECK, REVIEW, WINDOW, due, give_back};
use crate::{
    capture::{Bound, Installation},
    clock, crash,
    database::Database,
    error::Result,
    ledger::{Entry, Filter},
    name::FileName,
    queue::{DERIVATIVE, Outcome},
    references,
    storage::{Look, Restored, Storage, Trashed},
};

/// Entries of the ledger that are read at a time.
const PAGE: u32 = 2_000;

/// Names of one check, where the columns have an index or are searched for all of them at once.
const NAMES: usize = 4_000;

/// Of what has lain in the trash for longer, so many entries are checked at a time.
const REVIEWED: usize = 50_000;

/// Files beyond the retention may lie there for a while: a bucket of the trash closes within an hour.
const SLACK: Duration = Duration::from_secs(2 * 3600);

/// A move that nothing has ended: no file came back, none was erased.
#[derive(Debug, Clone)]
pub(super) struct Move {
    /// The number of its entry.
    id: i64,
    name: FileName,
    place: String,
    /// What it was made from.
    original: Option<FileName>,
}

/// Reads the ledger backwards.
pub(super) struct Moves<'a> {
    db: &'a dyn Database,
    storage: &'a str,
    since: Timestamp,
    until: Timestamp,
    before: Option<i64>,
    /// Places of files that have left the trash, or were reported.
    ended: HashSet<String>,
    /// Names whose file came back, with the number of the latest entry.
    restored: HashMap<FileName, i64>,
    over: bool,
}

impl<'a> Moves<'a> {
    /// Moves of `storage` that were written from `since` on and before `until`.
    pub(super) fn new(db: &'a dyn Database, storage: &'a str, since: Timestamp, until: Timestamp) -> Self {
        Moves { db, storage, since, until, before: None, ended: HashSet::new(), restored: HashMap::new(), over: false }
    }

    /// The next ones, the latest first: about `limit`, or none.
    ///
    /// # Errors
    /// Those of the database.
    pub(super) async fn next(&mut self, limit: usize) -> Result<Vec<Move>> {
        let mut moves = Vec::new();
        while !self.over && moves.len() < limit {
            let filter = Filter { storage: Some(self.storage.to_owned()), before: self.before, limit: Some(PAGE), ..Filter::default() };
            let page = self.db.history(&filter).await?;
            self.over = page.len() < PAGE as usize || page.last().is_some_and(|e| e.at < self.since);
            self.before = page.last().map(|e| e.id);
            let since = self.since;
            for entry in page.into_iter().filter(|e| e.at >= since) {
                moves.extend(self.take(entry));
            }
        }
        Ok(moves)
    }

    fn take(&mut self, entry: Entry) -> Option<Move> {
        let place = entry.place?;
        match entry.outcome {
            Outcome::Trashed if entry.at < self.until && !self.ended.contains(&place) => Some(Move {
                id: entry.id,
                name: FileName::parse(&entry.name).ok()?,
                place,
                original: entry.key.filter(|_| entry.event == DERIVATIVE).and_then(|key| FileName::parse(&key).ok()),
            }),
            Outcome::Restored | Outcome::Dangling | Outcome::Purged | Outcome::Erased => {
                if entry.outcome == Outcome::Restored
                    && let Ok(name) = FileName::parse(&entry.name)
                {
                    self.restored.entry(name).or_insert(entry.id);
                }
                self.ended.insert(place);
                None
            }
            _ => None,
        }
    }
}

/// Those of `moves` that a row references. Not a derivative by its original: see [`with_originals`].
async fn referenced<'m>(
    db: &dyn Database,
    (bound, within): (&[Bound], &[Bound]),
    record: &Installation,
    storage: &str,
    moves: &'m [Move],
    at_once: usize,
) -> Result<Vec<&'m Move>> {
    let names: BTreeSet<&FileName> = moves.iter().map(|m| &m.name).collect();
    let names: Vec<FileName> = names.into_iter().cloned().collect();
    let mut held = HashSet::new();
    for names in names.chunks(at_once) {
        let (found, lock) = references::find_in(db, bound, within, &record.snapshot, storage, names).await?;
        drop(lock);
        held.extend(found);
    }
    Ok(moves.iter().filter(|m| held.contains(&m.name)).collect())
}

/// The derivatives that come back with their originals: those whose original comes back now, or has come back since they were moved. Where another file has
/// the original's name by now, a derivative of the old one is of no use.
fn with_originals<'m>(moves: &'m [Move], back: &[Trashed], restored: &HashMap<FileName, i64>) -> Vec<&'m Move> {
    let back: HashSet<&FileName> = back.iter().map(|t| &t.name).collect();
    let returns = |m: &Move, original: &FileName| back.contains(original) || restored.get(original).is_some_and(|id| *id > m.id);
    moves.iter().filter(|m| m.original.as_ref().is_some_and(|o| returns(m, o))).collect()
}

/// Those of `moves` that are the newest of their names in the trash, with nothing under the name: what a row that references the name cannot have now.
async fn away(storage: &dyn Storage, moves: Vec<&Move>) -> Result<Vec<Trashed>> {
    if moves.is_empty() {
        return Ok(Vec::new());
    }
    let names: BTreeSet<FileName> = moves.iter().map(|m| m.name.clone()).collect();
    let names: Vec<FileName> = names.into_iter().collect();
    let places: HashSet<(&FileName, &str)> = moves.iter().map(|m| (&m.name, m.place.as_str())).collect();
    let mut missing = Vec::new();
    for (name, look) in names.iter().zip(storage.look(&names).await?) {
        if look? == Look::Missing {
            missing.push(name.clone());
        }
    }
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let mut newest = Vec::new();
    for found in storage.trashed(&missing).await? {
        newest.extend(found?.filter(|t| places.contains(&(&t.name, t.place.as_str()))));
    }
    Ok(newest)
}

impl Keeper {
    /// Checks again what is due to be checked again.
    pub(super) async fn recheck(&mut self, now: Timestamp) -> Result<()> {
        let took = Duration::from_millis(self.upkeep.took);
        let quick = due(self.upkeep.checked, Duration::from_millis(self.upkeep.took_quick), RECHECK, now);
        let whole = self.guard.on(&self.plan.name).any(|b| b.binding.scans()) && due(self.upkeep.read, took, RECHECK, now);
        let review = due(self.upkeep.reviewed, took, REVIEW, now);
        if quick || whole {
            self.return_moved(now, quick, whole).await?;
        }
        if review {
            self.review(now).await?;
        }
        Ok(())
    }

    async fn return_moved(&mut self, now: Timestamp, quick: bool, whole: bool) -> Result<()> {
        let (db, storage, plan) = (self.db.clone(), self.storage.clone(), self.plan.clone());
        // All of them: the memory is that of half an hour's names.
        let mut reader = Moves::new(db.as_ref(), &plan.name, clock::before(now, WINDOW), Timestamp::MAX);
        let moves = reader.next(usize::MAX).await?;
        let mut entries = Vec::new();
        if !moves.is_empty() {
            let record = self.verify().await?;
            let (read, indexed): (Vec<Bound>, Vec<Bound>) = self.guard.on(&plan.name).cloned().partition(|b| b.binding.scans());
            let mut wanted: HashMap<&str, &Move> = HashMap::new();
            for (bound, wants, at_once) in [(indexed, quick, NAMES), (read, whole, usize::MAX)] {
                if !wants || bound.is_empty() {
                    continue;
                }
                let began = Instant::now();
                let found = referenced(db.as_ref(), (self.guard.bound(), &bound), &record, &plan.name, &moves, at_once).await?;
                wanted.extend(found.into_iter().map(|m| (m.place.as_str(), m)));
                let took = began.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
                match at_once {
                    NAMES => self.upkeep.took_quick = took,
                    _ => self.upkeep.took = took,
                }
            }
            crash::point("recheck-checked");
            let mut back = away(storage.as_ref(), wanted.into_values().collect()).await?;
            let with = with_originals(&moves, &back, &reader.restored);
            let derivatives = away(storage.as_ref(), with).await?;
            // Derivatives first: the original that comes back last has them.
            back.splice(0..0, derivatives);
            let mut seen = HashSet::new();
            back.retain(|t| seen.insert(t.place.clone()));
            entries = self.bring_back(&back).await?;
        }
        if quick {
            self.upkeep.checked = Some(now);
        }
        if whole {
            self.upkeep.read = Some(now);
        }
        // An idle database is not written to.
        match moves.is_empty() {
            true => self.lately = self.upkeep.clone(),
            false => drop(self.store(&entries).await?),
        }
        if !entries.is_empty() {
            crash::point("recheck-entered");
        }
        Ok(())
    }

    /// Brings back what a row references, or says that it lies there.
    pub(super) async fn bring_back(&self, away: &[Trashed]) -> Result<Vec<crate::ledger::NewEntry>> {
        if away.is_empty() {
            return Ok(Vec::new());
        }
        let returns = self.storage.marker().await?.and_then(|m| m.proved).is_some_and(|p| p.create);
        let mut entries = Vec::new();
        if !returns {
            let why = "this storage cannot bring it back without the risk of overwriting another file: `rowbound restore` does";
            return Ok(away.iter().map(|t| self.entry(&t.name, &t.place, Some(t.size), Outcome::Dangling, Some(why))).collect());
        }
        for (t, one) in away.iter().zip(give_back(self.db.as_ref(), &self.plan.name, self.storage.as_ref(), away).await?) {
            // What fails is tried again with the next re-check, and is an error until then.
            if one? == Restored::Back {
                let why = "a row references it: it came back from the trash";
                entries.push(self.entry(&t.name, &t.place, Some(t.size), Outcome::Restored, Some(why)));
            }
        }
        crash::point("recheck-returned");
        for entry in &entries {
            tracing::warn!(storage = self.plan.name, name = entry.name, "a row references it: it came back from the trash");
        }
        Ok(entries)
    }

    /// Those of `files` that are the newest of their names in the trash.
    pub(super) async fn newest(&self, files: Vec<Trashed>) -> Result<Vec<Trashed>> {
        let names: Vec<FileName> = files.iter().map(|t| t.name.clone()).collect();
        let mut newest = Vec::new();
        let found = if names.is_empty() { Vec::new() } else { self.storage.trashed(&names).await? };
        for (file, latest) in files.into_iter().zip(found) {
            if latest?.is_some_and(|latest| latest.place == file.place) {
                newest.push(file);
            }
        }
        Ok(newest)
    }

    /// Looks through what has lain in the trash for longer, and reports what is referenced.
    async fn review(&mut self, now: Timestamp) -> Result<()> {
        let (db, storage, plan) = (self.db.clone(), self.storage.clone(), self.plan.clone());
        let since = clock::before(now, plan.trash.hold().saturating_add(SLACK));
        let mut moves = Moves::new(db.as_ref(), &plan.name, since, clock::before(now, WINDOW));
        let mut entries = Vec::new();
        let (began, mut any) = (Instant::now(), false);
        loop {
            let page = moves.next(REVIEWED).await?;
            if page.is_empty() {
                break;
            }
            any = true;
            let record = self.verify().await?;
            let wanted = referenced(db.as_ref(), (self.guard.bound(), self.guard.bound()), &record, &plan.name, &page, usize::MAX).await?;
            let away = away(storage.as_ref(), wanted).await?;
            entries.extend(away.iter().map(|t| self.dangling(t)));
        }
        self.upkeep.took = self.upkeep.took.max(began.elapsed().as_millis().try_into().unwrap_or(u64::MAX));
        self.upkeep.reviewed = Some(now);
        match any {
            true => drop(self.store(&entries).await?),
            false => self.lately = self.upkeep.clone(),
        }
        Ok(())
    }

    /// The entry of a file that is referenced, and lies in the trash for too long to come back by itself.
    pub(super) fn dangling(&self, t: &Trashed) -> crate::ledger::NewEntry {
        tracing::warn!(storage = self.plan.name, name = %t.name, hint = "rowbound restore", "a row references it, but it lies in the trash");
        let why = "it has lain in the trash for too long to come back by itself, and is not erased: `rowbound restore` brings it back";
        self.entry(&t.name, &t.place, Some(t.size), Outcome::Dangling, Some(why))
    }
}

/// Of what was moved within `since` at most `limit`, the latest first: files that a row references now, with nothing under their names. Columns that must be
/// read whole are left out. For who reports them.
///
/// # Errors
/// Those of the database and the storage.
pub(crate) async fn stranded(
    db: &dyn Database,
    bound: &[Bound],
    record: &Installation,
    storage_name: &str,
    storage: &dyn Storage,
    since: Timestamp,
    limit: usize,
) -> Result<Vec<Trashed>> {
    let moves = Moves::new(db, storage_name, since, Timestamp::MAX).next(limit).await?;
    let indexed: Vec<Bound> = bound.iter().filter(|b| !b.binding.scans()).cloned().collect();
    let wanted = referenced(db, (bound, &indexed), record, storage_name, &moves, NAMES).await?;
    away(storage, wanted).await
}

/// Files of which the ledger says that a row references them and that they lie in the trash, as far as that is still so.
///
/// # Errors
/// Those of the database and the storage.
pub(crate) async fn reported(
    db: &dyn Database,
    bound: &[Bound],
    record: &Installation,
    storage_name: &str,
    storage: &dyn Storage,
) -> Result<Vec<Trashed>> {
    let filter =
        Filter { storage: Some(storage_name.to_owned()), outcomes: vec![Outcome::Dangling], limit: Some(PAGE), ..Filter::default() };
    let mut moves: Vec<Move> = Vec::new();
    for entry in db.history(&filter).await? {
        let (Some(place), Ok(name)) = (entry.place, FileName::parse(&entry.name)) else { continue };
        if moves.iter().all(|m| m.place != place) {
            moves.push(Move { id: entry.id, name, place, original: None });
        }
    }
    // A column that must be read whole is not read for a report: then what was said counts.
    let wanted = match bound.iter().any(|b| b.binding.storage == storage_name && b.binding.scans()) {
        true => moves.iter().collect(),
        false => referenced(db, (bound, bound), record, storage_name, &moves, NAMES).await?,
    };
    away(storage, wanted).await
}
