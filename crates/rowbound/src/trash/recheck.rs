//! What was moved lately is checked again: no barrier sees a transaction that looked at a file before its first statement.
//!
//! In: the ledger's entries of moves. Out: files that came back because a row references them, or entries that say which of them are referenced. Promise: only
//! the newest file of a name comes back, only within [`WINDOW`], only where nothing has the name, and only where the storage proved that it can tell.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{Keeper, MARKER_AGE, RECHECK, REVIEW, WINDOW, come_back, due, give_back, trace_facts};
use crate::{
    capture::{Bound, Installation},
    clock, crash,
    database::Database,
    error::{Error, Result},
    ledger::{Entry, Filter, NewEntry},
    name::FileName,
    queue::{DERIVATIVE, Outcome},
    references::{self, CheckDepth},
    storage::{Restored, Stat, Storage, Trashed},
    trace,
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
                name: FileName::key(&entry.name).ok()?,
                place,
                original: entry.key.filter(|_| entry.event == DERIVATIVE).and_then(|key| FileName::key(&key).ok()),
            }),
            Outcome::Restored | Outcome::Dangling | Outcome::Purged | Outcome::Erased => {
                if entry.outcome == Outcome::Restored
                    && let Ok(name) = FileName::key(&entry.name)
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
    (name, storage): (&str, &dyn Storage),
    moves: &'m [Move],
    at_once: usize,
    depth: CheckDepth,
) -> Result<Vec<&'m Move>> {
    let names: BTreeSet<&FileName> = moves.iter().map(|m| &m.name).collect();
    let names: Vec<FileName> = names.into_iter().cloned().collect();
    let mut held = HashSet::new();
    for names in names.chunks(at_once) {
        let found = references::find_in(db, bound, within, record, name, names, depth).await?;
        held.extend(found.looked_up(storage).await.held);
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
    let mut missing = HashSet::new();
    for (name, look) in names.iter().zip(storage.stat(&names).await?) {
        if look? == Stat::Missing {
            missing.insert(name);
        }
    }
    newest(storage, places.into_iter().filter(|(name, _)| missing.contains(name))).await
}

/// Those of `files`, each a name and its place in the trash, that are the newest of their names there.
pub(super) async fn newest<'f>(storage: &dyn Storage, files: impl Iterator<Item = (&'f FileName, &'f str)>) -> Result<Vec<Trashed>> {
    let places: HashSet<(&FileName, &str)> = files.collect();
    let names: BTreeSet<&FileName> = places.iter().map(|(name, _)| *name).collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<FileName> = names.into_iter().cloned().collect();
    let mut newest = Vec::new();
    for found in storage.trashed(&names).await? {
        newest.extend(found?.filter(|t| places.contains(&(&t.name, t.place.as_str()))));
    }
    Ok(newest)
}

/// What came back from the trash, as the ledger is told, and the first error.
#[derive(Debug, Default)]
pub(super) struct Returned {
    pub(super) entries: Vec<NewEntry>,
    pub(super) failed: Option<Error>,
}

impl Keeper {
    /// Checks again what is due to be checked again.
    pub(super) async fn recheck(&mut self, now: Timestamp) -> Result<()> {
        let took = Duration::from_millis(self.upkeep.took);
        let quick = due(self.upkeep.checked, Duration::from_millis(self.upkeep.took_quick), RECHECK, now);
        let whole = self.guard.on(&self.plan.name).any(|b| b.binding.scans()) && due(self.upkeep.read, took, RECHECK, now);
        let review = due(self.upkeep.reviewed, Duration::from_millis(self.upkeep.took_review), REVIEW, now);
        if quick || whole {
            self.return_moved(now, quick, whole).await?;
        }
        if review {
            self.review(now).await?;
        }
        Ok(())
    }

    async fn return_moved(&mut self, now: Timestamp, quick: bool, whole: bool) -> Result<()> {
        let began = Instant::now();
        let (db, storage, plan) = (self.db.clone(), self.storage.clone(), self.plan.clone());
        // All of them: the memory is that of half an hour's names.
        let mut reader = Moves::new(db.as_ref(), &plan.name, clock::before(now, WINDOW), Timestamp::MAX);
        reader.before = self.before;
        let moves = reader.next(usize::MAX).await?;
        let (mut back, mut given) = (Vec::new(), Returned::default());
        let mut searched = [Duration::ZERO; 2];
        if !moves.is_empty() {
            let record = self.verify_to_return().await?;
            let (read, indexed): (Vec<Bound>, Vec<Bound>) = self.guard.on(&plan.name).cloned().partition(|b| b.binding.scans());
            let mut wanted: HashMap<&str, &Move> = HashMap::new();
            let whole_check = (quick || indexed.is_empty()) && (whole || read.is_empty());
            let asked = trace::now();
            // Who drains has not looked what came to the columns since they were attached.
            let depth = if self.before.is_some() { CheckDepth::Whole } else { CheckDepth::Surveyed };
            for (within, wants, at_once, took) in [(indexed, quick, NAMES, 0), (read, whole, usize::MAX, 1)] {
                if wants && !within.is_empty() {
                    let began = Instant::now();
                    let (within, place) = ((self.guard.bound(), &within[..]), (&*plan.name, storage.as_ref()));
                    let found = referenced(db.as_ref(), within, &record, place, &moves, at_once, depth).await?;
                    wanted.extend(found.into_iter().map(|m| (m.place.as_str(), m)));
                    searched[took] = began.elapsed();
                }
            }
            trace::recheck(&self.owner, asked, || {
                let names = moves.iter().map(|m| (m.name.to_string(), trace::held(wanted.contains_key(&*m.place))));
                // What was not searched for everywhere is not said to be free. Of several files of a name one is enough.
                let mut facts = trace::Facts::new();
                for (name, fact) in names.filter(|(_, fact)| whole_check || fact == "held") {
                    facts.entry(name).or_insert(fact);
                }
                facts
            });
            let held = !wanted.is_empty();
            crash::point("recheck-checked");
            back = away(storage.as_ref(), wanted.into_values().collect()).await?;
            let with = with_originals(&moves, &back, &reader.restored);
            let derivatives = away(storage.as_ref(), with).await?;
            // Derivatives first: the original that comes back last has them.
            back.splice(0..0, derivatives);
            let mut seen = HashSet::new();
            back.retain(|t| seen.insert(t.place.clone()));
            given = self.bring_back(&back).await?;
            if held && back.is_empty() {
                trace::turn(&self.owner, "stopped", 0, trace::Facts::new);
            }
        }
        // What both have to do counts for each: to read the ledger, to look at files.
        let both = began.elapsed().saturating_sub(searched[0] + searched[1]);
        if quick {
            (self.upkeep.checked, self.upkeep.took_quick) = (Some(now), millis(searched[0] + both));
        }
        if whole {
            (self.upkeep.read, self.upkeep.took) = (Some(now), millis(searched[1] + both));
        }
        // An idle database is not written to.
        match moves.is_empty() {
            true => self.lately = self.upkeep.clone(),
            false => {
                let stored = self.store(&given.entries).await?;
                if !back.is_empty() {
                    self.tell_returned(&given.entries, stored);
                }
            }
        }
        if !given.entries.is_empty() {
            crash::point("recheck-entered");
        }
        given.failed.map_or(Ok(()), Err)
    }

    /// Brings back what a row references, or says that it lies there.
    pub(super) async fn bring_back(&self, away: &[Trashed]) -> Result<Returned> {
        let mut given = Returned::default();
        if away.is_empty() {
            return Ok(given);
        }
        let returns = self.capabilities.get(MARKER_AGE).await?.returns;
        if !returns {
            trace::turn(&self.owner, "recheck-returned", 0, || away.iter().map(|t| (t.name.to_string(), "failed".into())).collect());
            let why = "this storage cannot bring it back without the risk of overwriting another file: `rowbound restore` does";
            given.entries = away.iter().map(|t| self.entry(&t.name, &t.place, Some(t.size), Outcome::Dangling, Some(why))).collect();
            return Ok(given);
        }
        let began = trace::now();
        let done = give_back(self.db.as_ref(), &self.plan.name, self.storage.as_ref(), away).await?;
        trace::turn(&self.owner, "recheck-returned", began, || {
            away.iter().zip(&done).map(|(t, one)| (t.name.to_string(), come_back(&t.place, one))).collect()
        });
        for (t, one) in away.iter().zip(done) {
            match one {
                Ok(Restored::Back) => {
                    let why = "a row references it: it came back from the trash";
                    given.entries.push(self.entry(&t.name, &t.place, Some(t.size), Outcome::Restored, Some(why)));
                }
                Ok(_) => {}
                // It is tried again with the next re-check, and is an error until then.
                Err(e) => drop(given.failed.get_or_insert(e)),
            }
        }
        crash::point("recheck-returned");
        for entry in &given.entries {
            tracing::warn!(storage = self.plan.name, name = entry.name, "a row references it: it came back from the trash");
        }
        Ok(given)
    }

    /// Says in a trace what the ledger was told after a return, if it was.
    pub(super) fn tell_returned(&self, entries: &[NewEntry], stored: bool) {
        let back = entries.iter().filter(|e| e.outcome == Outcome::Restored);
        match stored {
            true => trace::turn(&self.owner, "recheck-entered", 0, || trace_facts(back)),
            false => trace::turn(&self.owner, "stopped", 0, trace::Facts::new),
        }
    }

    /// Looks through what has lain in the trash for longer, and reports what is referenced.
    async fn review(&mut self, now: Timestamp) -> Result<()> {
        let (db, storage, plan) = (self.db.clone(), self.storage.clone(), self.plan.clone());
        let since = clock::before(now, plan.trash.hold().saturating_add(SLACK));
        let mut moves = Moves::new(db.as_ref(), &plan.name, since, clock::before(now, WINDOW));
        // What this drain has entered itself is too new for a review.
        moves.before = self.before;
        let mut entries = Vec::new();
        let (began, mut any) = (Instant::now(), false);
        loop {
            let page = moves.next(REVIEWED).await?;
            if page.is_empty() {
                break;
            }
            any = true;
            let record = self.verify_to_return().await?;
            let all = (self.guard.bound(), self.guard.bound());
            // What is missed here does not come back: the erasure would find it, and nobody would have said so.
            let wanted =
                referenced(db.as_ref(), all, &record, (&plan.name, storage.as_ref()), &page, usize::MAX, CheckDepth::Whole).await?;
            let away = away(storage.as_ref(), wanted).await?;
            entries.extend(away.iter().map(|t| self.dangling(t)));
        }
        self.upkeep.took_review = millis(began.elapsed());
        self.upkeep.reviewed = Some(now);
        match any {
            true => drop(self.store(&entries).await?),
            false => self.lately = self.upkeep.clone(),
        }
        Ok(())
    }

    /// The entry of a file that is referenced, and lies in the trash for too long to come back by itself.
    pub(super) fn dangling(&self, t: &Trashed) -> NewEntry {
        tracing::warn!(storage = self.plan.name, name = %t.name, hint = "rowbound restore", "a row references it, but it lies in the trash");
        let why = "it has lain in the trash for too long to come back by itself, and is not erased: `rowbound restore` brings it back";
        self.entry(&t.name, &t.place, Some(t.size), Outcome::Dangling, Some(why))
    }
}

fn millis(time: Duration) -> u64 {
    time.as_millis().try_into().unwrap_or(u64::MAX)
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
    let wanted = referenced(db, (bound, &indexed), record, (storage_name, storage), &moves, NAMES, CheckDepth::Surveyed).await?;
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
        let (Some(place), Ok(name)) = (entry.place, FileName::key(&entry.name)) else { continue };
        if moves.iter().all(|m| m.place != place) {
            moves.push(Move { id: entry.id, name, place, original: None });
        }
    }
    // A column that must be read whole is not read for a report: then what was said counts.
    let wanted = match bound.iter().any(|b| b.binding.storage == storage_name && b.binding.scans()) {
        true => moves.iter().collect(),
        // As deep as the erasure has looked that found them.
        false => referenced(db, (bound, bound), record, (storage_name, storage), &moves, NAMES, CheckDepth::Whole).await?,
    };
    away(storage, wanted).await
}
