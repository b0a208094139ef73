//! Files in the trash whose candidates are not settled yet: steps 6 and 7.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{Groups, Held, waits_for};
use crate::{
    clock,
    collect::{
        Collector, Lane,
        verdict::{Decided, Verdict},
    },
    crash,
    database::OpenTransaction,
    error::{Error, Result},
    name::FileName,
    queue::{Candidate, Outcome, Waits},
    references,
    storage::{Restored, Trashed},
    trash::{WINDOW, give_back},
};

/// The sentence of a file that came back.
const CAME_BACK: &str = "a row referenced it meanwhile: it came back from the trash";

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
    pub(super) lock: Option<Held>,
    /// When the last of them was moved.
    pub(in crate::collect) at: Instant,
    /// The second barrier: what is left of it; `None`: not noted yet.
    pub(in crate::collect) barrier: Option<HashSet<String>>,
    /// When the lease was last seen to hold, and when the files were last checked.
    pub(in crate::collect) confirmed: Instant,
    pub(in crate::collect) checked: Instant,
}

impl Moved {
    pub(super) fn new(c: &Collector, lane: &Lane, held: HashSet<FileName>, lock: Option<Held>) -> Self {
        let (decided, now) = (Decided::new(&c.owner, &lane.plan.name), Instant::now());
        Moved { groups: Groups::new(), files: BTreeMap::new(), decided, held, lock, at: now, barrier: None, confirmed: now, checked: now }
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

    /// How many files wait.
    pub(in crate::collect) fn len(&self) -> usize {
        self.files.len()
    }

    /// The candidates' numbers.
    pub(in crate::collect) fn ids(&self) -> Vec<i64> {
        self.groups.values().flatten().map(|c| c.id).collect()
    }

    /// Whether some of them were moved now, so that the second barrier is yet to be noted.
    pub(in crate::collect) fn note_barrier(&mut self, open: impl Iterator<Item = String>) {
        crash::point("rested");
        self.barrier = Some(open.collect());
    }

    /// Whether the lock has kept every writer out since the check: then nothing is to be waited for.
    pub(in crate::collect) fn is_locked(&self) -> bool {
        self.lock.is_some()
    }

    /// Steps 6 and 7 under the lock: the check of step 4 still holds.
    pub(in crate::collect) async fn conclude(mut self, c: &Collector, lane: &Lane) -> Result<(Settled, Option<Held>)> {
        let lock = self.lock.take();
        let held = std::mem::take(&mut self.held);
        let wanted = self.wanted(&held);
        let again = Rechecked { moved: self, wanted, locked: true };
        Ok((again.bring_back(c, lane).await?, lock))
    }

    /// Step 6, when the second barrier has passed: checks again. On an error everything goes back to the queue, and stays in the trash.
    pub(in crate::collect) async fn check_again(self, c: &Collector, lane: &Lane) -> Result<Rechecked, (Error, Settled)> {
        crash::point("second-barrier-passed");
        match self.referenced(c, lane).await {
            Ok(held) => {
                crash::point("checked-again");
                let wanted = self.wanted(&held);
                Ok(Rechecked { moved: self, wanted, locked: false })
            }
            Err(e) => {
                let waits = Waits { moved: true, transactions: Vec::new() };
                let parked = self.put_back(&e.full(), Duration::from_secs(5), true, waits);
                Err((e, parked))
            }
        }
    }

    /// The same before it has passed: what is referenced comes back now; what is not may be referenced later, and waits on.
    ///
    /// # Errors
    /// The check's: nothing has changed.
    pub(in crate::collect) async fn look_after(mut self, c: &Collector, lane: &Lane) -> Result<(Settled, Self), (Error, Box<Self>)> {
        self.checked = Instant::now();
        let held = match self.referenced(c, lane).await {
            Ok(held) => held,
            Err(e) => return Err((e, Box::new(self))),
        };
        let wanted = self.wanted(&held);
        let mut back = Moved::new(c, lane, HashSet::new(), None);
        for name in &wanted {
            if let (Some(group), Some(file)) = (self.groups.remove(name), self.files.remove(name)) {
                back.derived_of([name], &mut self.decided);
                back.push(name.clone(), group, file);
            }
        }
        match (Rechecked { moved: back, wanted, locked: false }).bring_back(c, lane).await {
            Ok(settled) => Ok((settled, self)),
            Err(e) => Err((e, Box::new(self))),
        }
    }

    /// Puts everything back into the queue, marked as moved, with what is left of the second barrier.
    pub(in crate::collect) fn park(self, wait: Duration, open: &[OpenTransaction]) -> Settled {
        let transactions = match &self.barrier {
            Some(left) => left.iter().cloned().collect(),
            None => open.iter().map(|t| t.key.clone()).collect(),
        };
        let blockers: Vec<_> = open.iter().filter(|t| self.barrier.as_ref().is_none_or(|left| left.contains(&t.key))).cloned().collect();
        let note = match blockers.is_empty() {
            true => "it lies in the trash, and is checked once more".to_owned(),
            false => format!("it lies in the trash, and {}", waits_for(&blockers)),
        };
        let settled = self.put_back(&note, wait, false, Waits { moved: true, transactions });
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

    async fn referenced(&self, c: &Collector, lane: &Lane) -> Result<HashSet<FileName>> {
        let record = c.guard.verify().await?;
        let asked: Vec<FileName> = self.files.keys().cloned().collect();
        let began = Instant::now();
        let (held, lock) = references::find(c.db.as_ref(), c.guard.bound(), &record.snapshot, &lane.plan.name, &asked).await?;
        drop(lock);
        lane.has_read(began.elapsed());
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
    /// A lock keeps every writer out: no row can let go of a file while that comes back.
    locked: bool,
}

impl Rechecked {
    /// Step 6, its second half: brings back what is referenced, never over another file, and only where the storage proved that it can tell.
    ///
    /// # Errors
    /// The storage's, as a whole. What was moved stays in the trash.
    pub(in crate::collect) async fn bring_back(self, c: &Collector, lane: &Lane) -> Result<Settled> {
        let Rechecked { mut moved, wanted, locked } = self;
        let mut back: HashMap<FileName, Result<Restored>> = HashMap::new();
        let returns = wanted.is_empty() || lane.returns().await?;
        let lately = clock::before(Timestamp::now(), WINDOW);
        if !wanted.is_empty() && returns {
            let items: Vec<Trashed> = (moved.files.iter())
                .filter(|(name, file)| wanted.contains(*name) && file.at >= lately)
                .map(|(name, file)| Trashed { name: name.clone(), place: file.place.clone(), at: file.at, size: file.size })
                .collect();
            let restored = match locked {
                true => lane.storage.restore(&items).await?,
                false => give_back(c.db.as_ref(), &lane.plan.name, lane.storage.as_ref(), &items).await?,
            };
            for (item, one) in items.iter().zip(restored) {
                back.insert(item.name.clone(), one);
            }
            crash::point("returned");
        }
        for (name, file) in std::mem::take(&mut moved.files) {
            let Some(group) = moved.groups.remove(&name) else { continue };
            let place = Some(file.place);
            let verdict = match (wanted.contains(&name), back.remove(&name)) {
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
                        Verdict::Back(wait, failed, note, Some(Waits { moved: true, transactions: Vec::new() }))
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
