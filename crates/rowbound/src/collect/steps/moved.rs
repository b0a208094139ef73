//! Files in the trash whose candidates are not settled yet: steps 6 and 7.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde_json::Value;

use super::{Groups, HeldLock, waits_for};
use crate::{
    capture::Installation,
    clock,
    collect::{
        Collector, StorageState,
        moved_twice::{MOVED_BY_ANOTHER, Mover},
        verdict::{Decided, Verdict},
    },
    crash,
    database::OpenTransaction,
    error::{Error, Kind, Result},
    name::FileName,
    queue::{CAME_BACK, Candidate, Outcome, Waits},
    references::{self, CheckDepth, References},
    storage::{Restored, Trashed},
    trace,
    trash::{WINDOW, come_back, give_back},
};

/// A file in the trash whose candidates are not settled yet.
#[derive(Debug)]
pub(super) struct MovedFile {
    pub(super) size: u64,
    pub(super) place: String,
    /// When it was moved, at the latest.
    pub(super) at: Timestamp,
    /// It lay there already: an earlier worker has moved it.
    pub(super) found: bool,
}

/// Step 5 is done: files lie in the trash, and their candidates wait for the second barrier.
#[derive(Debug)]
pub(in crate::collect) struct Moved {
    groups: Groups,
    files: BTreeMap<FileName, MovedFile>,
    decided: Decided,
    held: HashSet<FileName>,
    pub(super) lock: Option<HeldLock>,
    /// When the last of them was moved.
    pub(in crate::collect) at: Instant,
    /// The second barrier: what is left of it; `None`: not noted yet.
    pub(in crate::collect) barrier: Option<HashSet<String>>,
    /// When the lease was last seen to hold, and when the files were last checked.
    pub(in crate::collect) confirmed: Instant,
    pub(in crate::collect) checked: Instant,
    /// How often that was.
    checks: u64,
}

impl Moved {
    pub(super) fn new(of: &Decided, held: HashSet<FileName>, lock: Option<HeldLock>) -> Self {
        let (decided, now) = (of.part(), Instant::now());
        let (groups, files) = (Groups::new(), BTreeMap::new());
        Moved { groups, files, decided, held, lock, at: now, barrier: None, confirmed: now, checked: now, checks: 0 }
    }

    pub(super) fn push(&mut self, name: FileName, group: Vec<Candidate>, file: MovedFile) {
        self.at = Instant::now();
        self.groups.insert(name.clone(), group);
        self.files.insert(name, file);
    }

    pub(super) fn derived_of<'n>(&mut self, names: impl IntoIterator<Item = &'n FileName>, from: &mut Decided) {
        for name in names {
            if let Some(found) = from.derived.remove(name) {
                self.decided.derived.insert(name.clone(), found);
            }
        }
    }

    /// It is this batch that has moved a file, and that tells it.
    pub(super) fn moves(&mut self, mover: Mover) {
        self.decided.movers.push(mover);
    }

    /// How many files wait.
    pub(in crate::collect) fn len(&self) -> usize {
        self.files.len()
    }

    /// The candidates' numbers.
    pub(in crate::collect) fn ids(&self) -> Vec<i64> {
        self.groups.values().flatten().map(|c| c.id).collect()
    }

    /// Whether some of them were moved now, so that the second barrier is yet to be noted.
    pub(in crate::collect) fn note_barrier(&mut self, asked: u64, open: impl Iterator<Item = String>) {
        self.decided.traced.step("rested", asked, || self.files.keys().map(|name| (name, Value::Null)));
        crash::point("rested");
        self.barrier = Some(open.collect());
    }

    /// Its second barrier was noted by an earlier worker.
    pub(super) fn resume(&self) {
        self.decided.traced.step("resumed", trace::now(), || self.files.keys().map(|name| (name, Value::Null)));
    }

    /// Its lease is seen to hold, or begins anew.
    pub(in crate::collect) async fn renew(&mut self, c: &Collector) -> Result<()> {
        let began = trace::now();
        // What is another's by now is that worker's to settle: a settlement leaves it alone.
        let ours = c.db.confirm(self.decided.owner(), &self.ids(), c.settings.lease).await?;
        let is_ours = |name: &FileName| self.groups[name].iter().all(|c| ours.contains(&c.id));
        self.decided.traced.step("renewed", began, || self.files.keys().filter(|name| is_ours(name)).map(|name| (name, Value::Null)));
        self.confirmed = Instant::now();
        Ok(())
    }

    /// Whether the lock has kept every writer out since the check: then nothing is to be waited for.
    pub(in crate::collect) fn is_locked(&self) -> bool {
        self.lock.is_some()
    }

    /// Steps 6 and 7 under the lock: the check of step 4 still holds.
    pub(in crate::collect) async fn conclude(mut self, c: &Collector, state: &StorageState) -> Result<(Settled, Option<HeldLock>)> {
        let lock = self.lock.take();
        let held = std::mem::take(&mut self.held);
        let wanted = self.wanted(&held);
        let again = Rechecked { moved: self, wanted, locked: true };
        Ok((again.bring_back(c, state).await?, lock))
    }

    /// Step 6, when the second barrier has passed: checks again. On an error everything goes back to the queue, and stays in the trash.
    pub(in crate::collect) async fn check_again(mut self, c: &Collector, state: &StorageState) -> Result<Rechecked, (Error, Settled)> {
        self.decided.traced.step("second-barrier-passed", 0, || self.files.keys().map(|name| (name, Value::Null)));
        crash::point("second-barrier-passed");
        match self.referenced(c, state, false).await {
            Ok(held) => {
                crash::point("checked-again");
                let wanted = self.wanted(&held);
                Ok(Rechecked { moved: self, wanted, locked: false })
            }
            Err(e) => {
                let waits = Waits { moved: true, ..Waits::default() };
                let parked = self.put_back(&e.full(), Duration::from_secs(5), true, waits);
                Err((e, parked))
            }
        }
    }

    /// The same before it has passed: what is referenced comes back now; what is not may be referenced later, and waits on.
    ///
    /// # Errors
    /// The check's: nothing has changed.
    pub(in crate::collect) async fn look_after(
        mut self,
        c: &Collector,
        state: &StorageState,
    ) -> Result<(Settled, Self), (Error, Box<Self>)> {
        self.checked = Instant::now();
        let held = match self.referenced(c, state, true).await {
            Ok(held) => held,
            Err(e) => return Err((e, Box::new(self))),
        };
        let wanted = self.wanted(&held);
        let mut back = Moved::new(&self.decided, HashSet::new(), None);
        for name in &wanted {
            if let (Some(group), Some(file)) = (self.groups.remove(name), self.files.remove(name)) {
                back.derived_of([name], &mut self.decided);
                back.push(name.clone(), group, file);
            }
        }
        match (Rechecked { moved: back, wanted, locked: false }).bring_back(c, state).await {
            Ok(settled) => Ok((settled, self)),
            Err(e) => Err((e, Box::new(self))),
        }
    }

    /// Puts everything back into the queue, marked as moved, with what is left of the second barrier.
    pub(in crate::collect) fn park(mut self, wait: Duration, asked: u64, open: &[OpenTransaction]) -> Settled {
        if self.barrier.is_none() {
            self.note_barrier(asked, open.iter().map(|t| t.key.clone()));
        }
        let left = self.barrier.take().unwrap_or_default();
        let blockers: Vec<_> = open.iter().filter(|t| left.contains(&t.key)).cloned().collect();
        let transactions = left.into_iter().collect();
        let note = match blockers.is_empty() {
            true => "it lies in the trash, and is checked once more".to_owned(),
            false => format!("it lies in the trash, and {}", waits_for(&blockers)),
        };
        let settled = self.put_back(&note, wait, false, Waits { moved: true, transactions, ..Waits::default() });
        crash::point("moved-batch-stopped");
        settled
    }

    fn put_back(mut self, note: &str, wait: Duration, failed: bool, waits: Waits) -> Settled {
        for (name, group) in &self.groups {
            self.decided.all(group, name, Verdict::Back(wait, failed, note.to_owned(), Some(waits.clone())));
        }
        self.decided.summary.held += self.files.len() as u64;
        Settled(self.decided)
    }

    async fn referenced(&mut self, c: &Collector, state: &StorageState, interim: bool) -> Result<HashSet<FileName>> {
        let record = c.guard.record().await?;
        let asked: Vec<FileName> = self.files.keys().cloned().collect();
        let (began, mut asked_at) = (Instant::now(), trace::now());
        let find = async |record: Installation| {
            references::find(c.db.as_ref(), c.guard.bound(), &record, &state.plan.name, &asked, CheckDepth::Surveyed).await
        };
        let References { held, lock, .. } = match find(record).await {
            // Triggers that a migration dropped are put back first.
            Err(e) if e.kind() == Kind::Drift => {
                let record = c.guard.verify().await?;
                asked_at = trace::now();
                find(record).await?
            }
            found => found?,
        }
        .looked_up(state.storage.as_ref())
        .await;
        drop(lock);
        state.has_read(began.elapsed());
        self.checks += 1;
        let facts = || asked.iter().map(|name| (name, trace::held(held.contains(name))));
        self.decided.traced.check(self.checks, interim, asked_at, facts);
        Ok(held)
    }

    /// Those that a row references. A derivative whose original is referenced by now comes back with that one, with the next re-check.
    fn wanted(&self, held: &HashSet<FileName>) -> BTreeSet<FileName> {
        self.files.keys().filter(|name| held.contains(*name)).cloned().collect()
    }
}

/// Step 6, its first half: it is known which of the moved files are referenced.
#[derive(Debug)]
pub(in crate::collect) struct Rechecked {
    moved: Moved,
    wanted: BTreeSet<FileName>,
    /// A lock keeps every writer out: no row can release a file while that comes back.
    locked: bool,
}

impl Rechecked {
    /// Step 6, its second half: brings back what is referenced, never over another file, and only where the storage proved that it can tell.
    ///
    /// # Errors
    /// The storage's, as a whole. What was moved stays in the trash.
    pub(in crate::collect) async fn bring_back(self, c: &Collector, state: &StorageState) -> Result<Settled> {
        let Rechecked { mut moved, wanted, locked } = self;
        let gone =
            |(name, file): (&FileName, &MovedFile)| (file.found && !wanted.contains(name)).then(|| (name.clone(), file.place.clone()));
        let found: Vec<_> = moved.files.iter().filter_map(gone).collect();
        let told = if found.is_empty() { HashSet::new() } else { c.recorded_elsewhere(state, &found).await? };
        let mut back: HashMap<FileName, Result<Restored>> = HashMap::new();
        let returns = wanted.is_empty() || state.returns().await?;
        if !wanted.is_empty() && returns {
            let lately = clock::before(c.db.now().await?, WINDOW);
            let items: Vec<Trashed> = (moved.files.iter())
                .filter(|(name, file)| wanted.contains(*name) && file.at >= lately)
                .map(|(name, file)| Trashed { name: name.clone(), place: file.place.clone(), at: file.at, size: file.size })
                .collect();
            let began = trace::now();
            let restored = match locked {
                true => state.storage.restore(&items).await?,
                false => give_back(c.db.as_ref(), &state.plan.name, state.storage.as_ref(), &items).await?,
            };
            for (item, one) in items.iter().zip(restored) {
                back.insert(item.name.clone(), one);
            }
            moved
                .decided
                .traced
                .step("returned", began, || back.iter().map(|(name, one)| (name, come_back(&moved.files[name].place, one))));
            crash::point("returned");
        }
        for (name, file) in std::mem::take(&mut moved.files) {
            let Some(group) = moved.groups.remove(&name) else { continue };
            let place = Some(file.place);
            let verdict = match (wanted.contains(&name), back.remove(&name)) {
                (false, _) if told.contains(&name) => Verdict::Settle(Outcome::Duplicate, None, place, Some(MOVED_BY_ANOTHER.into())),
                (false, _) => {
                    let note = "it lay in the trash already: an earlier worker was interrupted, or it was collected before";
                    Verdict::Settle(Outcome::Trashed, Some(file.size), place, file.found.then(|| note.to_owned()))
                }
                (true, Some(Ok(Restored::Back))) => Verdict::noted(Outcome::Kept, CAME_BACK),
                (true, Some(Ok(Restored::Occupied))) => {
                    let note = "a row references it, and a newer file has the name; the older one lies in the trash";
                    Verdict::Settle(Outcome::Kept, None, place, Some(note.into()))
                }
                (true, Some(Ok(Restored::Missing))) => {
                    let note = "a row referenced it meanwhile, but it is not in the trash any more";
                    Verdict::Back(Duration::from_secs(5), true, note.into(), None)
                }
                (true, Some(Err(e))) => match Verdict::failure(&group[0], &e) {
                    Verdict::Back(wait, failed, note, _) => {
                        Verdict::Back(wait, failed, note, Some(Waits { moved: true, ..Waits::default() }))
                    }
                    settle @ Verdict::Settle(..) => settle,
                },
                (true, None) => {
                    let why = match returns {
                        true => "it lies in the trash for too long to come back by itself: `rowbound restore` brings it back",
                        false => "this storage cannot bring it back without the risk of overwriting another file: `rowbound restore` does",
                    };
                    Verdict::Settle(Outcome::Dangling, Some(file.size), place, Some(why.into()))
                }
            };
            moved.decided.all(&group, &name, verdict);
        }
        Ok(Settled(moved.decided))
    }
}

/// The end of a batch, or of a part of one: to be written in one transaction.
#[derive(Debug)]
pub(in crate::collect) struct Settled(pub(in crate::collect) Decided);
