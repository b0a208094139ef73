//! What has waited long enough is erased.
//!
//! In: a storage's trash, a page at a time. Out: files erased, and what could not be, with the reason. Promise: the transactions that were open when the files
//! became due have ended, no row references them, and what is erased is exactly what was moved; whatever is killed, the ledger says so in the end. One file, or
//! one folder, that cannot be erased keeps none of the others.

use std::{collections::HashSet, time::Duration};

use jiff::Timestamp;
use serde_json::json;

use super::{
    Keeper, MARKER_AGE, TurnResult, WINDOW,
    recheck::{Returned, newest},
    trace_facts,
};
use crate::{
    binding::Resolved,
    clock, crash,
    database::{Database, OpenTransaction},
    error::{Error, Kind, Result},
    ledger::{Clearing, Erasing, Filter},
    name::FileName,
    plan::Trash,
    queue::Outcome,
    references::{self, CheckDepth, References},
    shadow::Shadow,
    storage::{Stat, Trashed},
    trace,
};

/// With a longer retention a batch is settled, or its candidates are put back, long before its files are due.
const LONG: Duration = Duration::from_secs(3600);

/// Files of one page.
const PAGE: usize = 1_000;

/// Where an emptying stands.
#[derive(Debug, Default)]
pub(super) struct Progress {
    under_way: bool,
    /// Where the next page begins.
    after: Option<String>,
    /// What could not be erased so far: how many, and the first.
    failures: u64,
    first: Option<Error>,
    /// The verdict of the last emptying.
    last: Option<Error>,
}

impl Progress {
    /// Whether an emptying has begun and not ended.
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way
    }

    /// What the last emptying could not erase.
    pub(super) fn failed(&self) -> Option<Error> {
        self.last.clone()
    }

    fn note(&mut self, e: Error) {
        self.failures += 1;
        self.first.get_or_insert(e);
    }

    fn end(&mut self) -> Option<Error> {
        let verdict = self.first.take().map(|first| {
            let e = Error::new(Kind::Storage, "files stay in the trash, because they could not be erased").with("errors", self.failures);
            let hint = first.hint_text().map_or_else(|| "look at the first of them with `ls -la`".to_owned(), str::to_owned);
            e.because(first.full()).hint(hint)
        });
        *self = Progress { last: verdict.clone(), ..Progress::default() };
        verdict
    }
}

/// Files with their places, as a trace says it.
fn places(files: &[Trashed]) -> trace::Facts {
    trace::places(files.iter().map(|t| (t.name.as_str(), t.place.as_str())))
}

/// What became of each place.
fn purged(files: &[Trashed], done: &[Result<bool>]) -> trace::Facts {
    let mut facts = trace::Facts::new();
    for (file, one) in files.iter().zip(done) {
        let fact = match one {
            Ok(true) => "erased",
            Ok(false) => "missing",
            Err(_) => "failed",
        };
        facts.entry(file.name.to_string()).or_insert_with(|| json!({}))[&file.place] = fact.into();
    }
    facts
}

/// Those of `files` that the ledger says this database moved to the trash. In a storage that several databases share, the others' files are theirs to
/// erase: their retention may be longer, and their references are not seen here.
async fn moved_by_us(db: &dyn Database, storage_name: &str, files: Vec<Trashed>) -> Result<Vec<Trashed>> {
    let mut ours = Vec::new();
    for file in files {
        let filter = Filter { storage: Some(storage_name.to_owned()), name: Some(file.name.to_string()), ..Filter::default() };
        if db.history(&filter).await?.iter().any(|entry| entry.place.as_ref() == Some(&file.place)) {
            ours.push(file);
        }
    }
    Ok(ours)
}

impl Keeper {
    /// One page more of an emptying.
    ///
    /// # Errors
    /// What keeps the emptying as a whole: the database's, and a storage that is away.
    pub(super) async fn empty_page(&mut self) -> Result<TurnResult> {
        if !self.upkeep.erasing.is_empty() {
            self.finish_erasure().await?;
        }
        if !self.capabilities.get(MARKER_AGE).await?.keeps {
            return Ok(TurnResult::Done(self.erasing.end()));
        }
        if let Some(e) = self.clocks.get().await?.apart(&self.plan.name) {
            self.erasing.note(e);
            return Ok(TurnResult::Done(self.erasing.end()));
        }
        let record = self.verify().await?;
        // What somebody put into shadow mode because too much had gone must not go on losing what lies in the trash.
        if Shadow::of(&record, self.guard.on(&self.plan.name)).all() {
            return Ok(TurnResult::Done(self.erasing.end()));
        }
        let Some(before) = self.barrier().await? else {
            return Ok(match self.upkeep.clearing {
                Some(_) => TurnResult::Waits,
                None => TurnResult::Done(self.erasing.end()),
            });
        };
        self.erasing.under_way = true;
        let page = match self.storage.expired(before, self.erasing.after.as_deref(), PAGE).await {
            Ok(page) => page,
            Err(e) if e.kind() == Kind::StorageUnreachable => return Err(e),
            Err(e) => {
                self.erasing.note(e);
                return self.end_emptying().await;
            }
        };
        page.errors.into_iter().for_each(|e| self.erasing.note(e));
        let mut files = page.files;
        if self.storage.marker().await?.is_some_and(|marker| marker.is_shared(&record.id)) {
            files = moved_by_us(self.db.as_ref(), &self.plan.name, files).await?;
        }
        self.leave_unsettled(&mut files).await?;
        if !files.is_empty() {
            let names: Vec<FileName> = files.iter().map(|t| t.name.clone()).collect();
            let asked = trace::now();
            // What goes here does not come back, so every value counts that could mean it.
            let References { held, lock, .. } =
                references::find(self.db.as_ref(), self.guard.bound(), &record, &self.plan.name, &names, CheckDepth::Whole)
                    .await?
                    .looked_up(self.storage.as_ref())
                    .await;
            drop(lock);
            crash::point("erasure-checked");
            let all = if trace::listens() { files.clone() } else { Vec::new() };
            let gone = self.unreferenced(files, &held, asked).await?;
            trace::turn(&self.owner, "erasure-barrier-passed", 0, || places(&all));
            trace::turn(&self.owner, "erasure-checked", asked, || {
                let going: HashSet<&FileName> = gone.iter().map(|t| &t.name).collect();
                let fact = |name: &FileName| match (going.contains(name), held.contains(name)) {
                    (true, true) => "taken",
                    (true, false) => "free",
                    (false, _) => "held",
                };
                all.iter().map(|t| (t.name.to_string(), fact(&t.name).into())).collect()
            });
            if !gone.is_empty() && !self.erase(&gone).await? {
                return Ok(TurnResult::Another);
            }
        }
        self.erasing.after = page.next;
        match self.erasing.after {
            Some(_) => Ok(TurnResult::More),
            None => self.end_emptying().await,
        }
    }

    async fn end_emptying(&mut self) -> Result<TurnResult> {
        self.upkeep.clearing = None;
        self.store(&[]).await?;
        Ok(TurnResult::Done(self.erasing.end()))
    }

    /// The moment before which what lies in the trash may go: the transactions that were open when it became due have ended. `None`: nothing is due, or they
    /// have not.
    async fn barrier(&mut self) -> Result<Option<Timestamp>> {
        let Some(Clearing { before, transactions }) = self.upkeep.clearing.clone() else {
            let before = clock::before(self.db.now().await?, self.plan.trash.hold());
            let first = match self.storage.expired(before, None, 1).await {
                Ok(page) => page,
                Err(e) if e.kind() == Kind::StorageUnreachable => return Err(e),
                Err(e) => {
                    self.erasing.note(e);
                    return Ok(None);
                }
            };
            if first.files.is_empty() {
                first.errors.into_iter().for_each(|e| self.erasing.note(e));
                return Ok(None);
            }
            let asked = trace::now();
            let Some(open) = self.open_transactions().await? else { return Ok(None) };
            trace::turn(&self.owner, "erasure-barrier", asked, trace::Facts::new);
            let transactions: Vec<String> = open.into_iter().map(|t| t.key).collect();
            let passed = transactions.is_empty();
            self.upkeep.clearing = Some(Clearing { before, transactions });
            if !passed {
                self.store(&[]).await?;
                return Ok(None);
            }
            crash::point("erasure-barrier-passed");
            return Ok(Some(before));
        };
        if transactions.is_empty() {
            return Ok(Some(before));
        }
        let Some(open) = self.open_transactions().await? else { return Ok(None) };
        let transactions: Vec<String> = transactions.into_iter().filter(|key| open.iter().any(|t| t.key == *key)).collect();
        let passed = transactions.is_empty();
        self.upkeep.clearing = Some(Clearing { before, transactions });
        if passed && !self.erasing.under_way {
            crash::point("erasure-barrier-passed");
        }
        Ok(passed.then_some(before))
    }

    /// `None`: the list could not be had in time.
    async fn open_transactions(&self) -> Result<Option<Vec<OpenTransaction>>> {
        match self.db.open_transactions().await {
            Err(e) if e.kind() == Kind::Busy => Ok(None),
            open => open.map(Some),
        }
    }

    /// Leaves out files whose candidates still wait: their worker has yet to check them again, and to enter that they were moved.
    async fn leave_unsettled(&self, files: &mut Vec<Trashed>) -> Result<()> {
        if files.is_empty() || self.plan.trash.hold() >= LONG {
            return Ok(());
        }
        let names: Vec<FileName> = files.iter().map(|t| t.name.clone()).collect();
        let mut values: HashSet<String> = names.iter().map(ToString::to_string).collect();
        for bound in self.guard.on(&self.plan.name) {
            values.extend(bound.binding.search(&names).values);
        }
        let waiting = self.db.waiting(&values.into_iter().collect::<Vec<_>>()).await?;
        let mut wait: HashSet<FileName> = HashSet::new();
        for w in waiting {
            let bound = self.guard.bound().iter().find(|b| Some(b.id) == w.binding);
            match bound {
                Some(b) if b.binding.storage != self.plan.name => {}
                Some(b) => {
                    if let Resolved::Name(name) = b.binding.resolve(w.value.as_bytes()) {
                        wait.insert(name);
                    }
                }
                None => wait.extend(FileName::key(&w.value)),
            }
        }
        files.retain(|t| !wait.contains(&t.name));
        Ok(())
    }

    /// Those of `files` that no row references. The others stay, and are reported once; where another file has the name by now, a row means that one.
    async fn unreferenced(&mut self, files: Vec<Trashed>, held: &HashSet<FileName>, asked: u64) -> Result<Vec<Trashed>> {
        let (wanted, mut gone): (Vec<Trashed>, Vec<Trashed>) = files.into_iter().partition(|file| held.contains(&file.name));
        if wanted.is_empty() {
            return Ok(gone);
        }
        let names: Vec<FileName> = wanted.iter().map(|t| t.name.clone()).collect();
        let lately = clock::before(self.db.now().await?, WINDOW);
        let (mut entries, mut back) = (Vec::new(), Vec::new());
        for (file, look) in wanted.into_iter().zip(self.storage.stat(&names).await?) {
            match look {
                Ok(Stat::Missing) if file.at >= lately => back.push(file),
                Ok(Stat::Missing) => {
                    let told = self.entries_of(&file.name, &file.place).await?;
                    if !told.contains(&Outcome::Dangling) {
                        entries.push(self.dangling(&file));
                    }
                }
                Ok(_) => gone.push(file),
                Err(e) => self.erasing.note(e.with("place", &file.place)),
            }
        }
        let newest = newest(self.storage.as_ref(), back.iter().map(|t| (&t.name, t.place.as_str()))).await?;
        let returned = !newest.is_empty();
        if returned {
            trace::recheck(&self.owner, asked, || newest.iter().map(|t| (t.name.to_string(), trace::held(true))).collect());
        }
        let Returned { entries: back, failed } = self.bring_back(&newest).await?;
        // What cannot come back stays, and keeps nothing else.
        failed.into_iter().for_each(|e| self.erasing.note(e));
        entries.extend(back);
        let stored = entries.is_empty() || self.store(&entries).await?;
        if returned {
            self.tell_returned(&entries, stored);
        }
        Ok(gone)
    }

    /// What the ledger says of the file at a place: the entries since it was moved there. The same place may have been another file's before.
    async fn entries_of(&self, name: &FileName, place: &str) -> Result<Vec<Outcome>> {
        let filter = Filter { storage: Some(self.plan.name.clone()), name: Some(name.to_string()), ..Filter::default() };
        let newest_first = self.db.history(&filter).await?.into_iter().filter(|e| e.place.as_deref() == Some(place)).map(|e| e.outcome);
        Ok(newest_first.take_while(|outcome| *outcome != Outcome::Trashed).collect())
    }

    /// Erases `files`: they are written down first, so that the process that goes on after a kill knows what went. `false`: another process keeps this trash by now.
    async fn erase(&mut self, files: &[Trashed]) -> Result<bool> {
        let noted = files.iter().map(|t| Erasing { name: t.name.clone(), place: t.place.clone(), size: t.size });
        self.upkeep.erasing = noted.collect();
        if !self.store(&[]).await? {
            return Ok(false);
        }
        trace::turn(&self.owner, "erasure-noted", 0, || places(files));
        crash::point("erasure-noted");
        let began = trace::now();
        let done = self.storage.purge(files).await;
        if let Ok(done) = &done {
            trace::turn(&self.owner, "purging", began, || purged(files, done));
        }
        crash::point("purging");
        let mut entries = Vec::new();
        // After an error as a whole the note stays: which of them went is found out with the next turn.
        for (file, one) in files.iter().zip(done?) {
            match one {
                Ok(true) => {
                    self.counts.purged += 1;
                    self.counts.bytes += file.size;
                    entries.push(self.entry(&file.name, &file.place, Some(file.size), self.erased(), None));
                }
                Ok(false) => {}
                Err(e) => self.erasing.note(e),
            }
        }
        self.upkeep.erasing.clear();
        let stored = self.store(&entries).await?;
        trace::turn(&self.owner, if stored { "purged" } else { "stopped" }, 0, || trace_facts(&entries));
        crash::point("purged");
        Ok(stored)
    }

    fn erased(&self) -> Outcome {
        if self.plan.trash == Trash::Off { Outcome::Erased } else { Outcome::Purged }
    }

    /// What a process that was killed, or cut off, had written down before it erased: what of it is gone and has not left the trash otherwise went then.
    async fn finish_erasure(&mut self) -> Result<()> {
        let noted = std::mem::take(&mut self.upkeep.erasing);
        let names: HashSet<&FileName> = noted.iter().map(|e| &e.name).collect();
        let names: Vec<FileName> = names.into_iter().cloned().collect();
        let mut there: HashSet<String> = HashSet::new();
        let (mut after, mut unread): (Option<String>, bool) = (None, false);
        // The newest of a name is told by the name; where several lie there, all are looked through.
        for found in self.storage.trashed(&names).await? {
            there.extend(found?.map(|t| t.place));
        }
        if noted.iter().any(|e| !there.contains(&e.place)) {
            loop {
                let page = self.storage.expired(Timestamp::MAX, after.as_deref(), PAGE).await?;
                // What cannot be read may be there.
                unread |= !page.errors.is_empty();
                there.extend(page.files.into_iter().map(|t| t.place).filter(|place| noted.iter().any(|e| e.place == *place)));
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        let mut entries = Vec::new();
        for e in noted.iter().filter(|e| !unread && !there.contains(&e.place)) {
            let told = self.entries_of(&e.name, &e.place).await?;
            if !told.iter().any(|o| matches!(o, Outcome::Restored | Outcome::Purged | Outcome::Erased)) {
                self.counts.purged += 1;
                self.counts.bytes += e.size;
                entries.push(self.entry(&e.name, &e.place, Some(e.size), self.erased(), Some("found out after an interruption")));
            }
        }
        if self.store(&entries).await? && !entries.is_empty() {
            trace::turn(&self.owner, "purged", 0, || trace_facts(&entries));
        }
        Ok(())
    }
}
