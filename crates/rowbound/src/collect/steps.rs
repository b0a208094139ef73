//! The steps of a batch, as types.
//!
//! `Claimed -> Clear -> Looked -> Checked -> Moved -> Rechecked -> Settled`: each is made by the step before alone, and consumed by the next. What the order is
//! for stands in ARCHITECTURE.md. In: claimed candidates. Out: what was decided of each, to be written in one transaction. Promise: a file is moved only
//! by [`Checked::take_away`], and is settled as deleted only by [`Moved::check_again`], or where a lock has kept every writer out since the check.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Claimant, Collector, StorageState,
    age::{self, Ages},
    derived, narrow,
    pace::{CHUNK_TIME, Chunk, LOCK_LIMIT},
    verdict::{Decided, Verdict},
};
use crate::{
    binding::is_elsewhere,
    capture::Installation,
    crash,
    database::{Dialect, LockGuard, OpenTransaction},
    error::{Error, Result},
    name::FileName,
    originals::Origin,
    plan::Trash,
    queue::{Candidate, Outcome, Waits},
    references::{self, CheckDepth, References},
    shadow::Shadow,
    storage::{FileVersion, PerName, Removed, Stat, Trashed, clocks::Skew, unmovable},
    trace,
};

mod away; // one chunk of files: moved, or erased where they lie
mod moved; // files in the trash, until their candidates are settled
mod values; // a candidate's value -> its names

use away::{erase_in_place, fate_of, keep_referenced, take_chunk, taken_by_others, trace_fate};
use moved::MovedFile;
pub(super) use moved::{Moved, Settled};
use values::{many, open_up, resolve};

/// The candidates of each name, the latest release first. Equal names of a batch share one fate. Sorted by name, so that a batch reads in the ledger as a
/// listing does.
pub(super) type Groups = BTreeMap<FileName, Vec<Candidate>>;

/// A lock that keeps every writer out, and since when.
pub(super) type HeldLock = (LockGuard, Instant);

/// Step 1 is done: candidates under a lease, and the names that they stand for.
#[derive(Debug)]
pub(super) struct Claimed {
    record: Installation,
    groups: Groups,
    decided: Decided,
}

impl Claimed {
    /// Resolves the values of claimed candidates. Apart: the ends of values with many names, which become candidates of their own.
    pub(super) fn new(
        c: &Collector,
        state: &StorageState,
        record: Installation,
        candidates: Vec<Candidate>,
        claimant: &Claimant,
    ) -> (Self, Decided) {
        let mut decided = Decided::new(claimant, &state.plan.name);
        let mut opened = decided.part();
        let mut groups = Groups::new();
        for candidate in candidates {
            if let Some(bound) = many(c.guard.bound(), &candidate) {
                open_up(bound, &candidate, &mut opened);
                continue;
            }
            match resolve(c.guard.bound(), state, &candidate) {
                Ok(name) => groups.entry(name).or_default().push(candidate),
                Err(verdict) => decided.one(&candidate, None, verdict),
            }
        }
        for group in groups.values_mut() {
            group.sort_by_key(|c| std::cmp::Reverse((c.released_at, c.id)));
            // Nearly every name has one: room for three more would be most of what a moved file takes in memory while it waits.
            group.shrink_to_fit();
        }
        claimant.traced.claimed(claimant.began, || {
            groups.iter().map(|(name, group)| (name.to_string(), group.iter().map(|c| c.id).collect())).collect()
        });
        (Claimed { record, groups, decided }, opened)
    }

    /// Step 2: the transactions that were open at the first try must end. What still waits for one goes back, with those that are left.
    ///
    /// # Errors
    /// Those of the database.
    pub(super) async fn clear(self, c: &Collector, state: &StorageState) -> Result<Clear> {
        let Claimed { record, groups, mut decided } = self;
        let began = trace::now();
        let open = c.db.open_transactions().await?;
        let keys: HashSet<String> = open.iter().map(|t| t.key.clone()).collect();
        let mut waiting: Vec<(FileName, Vec<Candidate>, HashSet<String>)> = Vec::new();
        let (mut clear, mut moved) = (Groups::new(), HashMap::new());
        // As on SQLite, where nobody is waited for.
        let free = keys.is_empty() && !groups.values().flatten().any(|c| c.waits.as_ref().is_some_and(|w| w.moved));
        let groups = if free { std::mem::replace(&mut clear, groups) } else { groups };
        for (name, group) in groups {
            // An earlier worker moved it, and has noted the second barrier.
            if group.iter().any(|c| c.waits.as_ref().is_some_and(|w| w.moved)) {
                let noted = group.iter().filter_map(|c| c.waits.as_ref()).flat_map(|w| w.transactions.iter().cloned());
                moved.insert(name.clone(), noted.filter(|key| keys.contains(key)).collect::<HashSet<_>>());
                clear.insert(name, group);
                continue;
            }
            let mut left: HashSet<String> = HashSet::new();
            for candidate in &group {
                match &candidate.waits {
                    Some(first) if !first.young => left.extend(first.transactions.iter().filter(|key| keys.contains(*key)).cloned()),
                    _ => left.extend(keys.iter().cloned()),
                }
            }
            match left.is_empty() {
                true => drop(clear.insert(name, group)),
                false => waiting.push((name, group, left)),
            }
        }
        let blockers = c.outwait(open, waiting.iter_mut().map(|(.., left)| left).collect()).await?;
        let note = waits_for(&blockers);
        for (name, group, left) in waiting {
            if left.is_empty() {
                clear.insert(name, group);
                continue;
            }
            let waits = Waits { transactions: left.into_iter().collect(), sight: age::sight(&group).cloned(), ..Waits::default() };
            decided.all(&group, &name, Verdict::Back(Duration::from_secs(1), false, note.clone(), Some(waits)));
        }
        if !blockers.is_empty() {
            *state.blockers.lock().unwrap_or_else(|e| e.into_inner()) = blockers;
        }
        if !clear.is_empty() {
            decided.traced.step("barrier-passed", began, || clear.keys().map(|name| (name, Value::Null)));
            crash::point("barrier-passed");
        }
        Ok(Clear { record, groups: clear, moved, decided })
    }
}

/// "waits for open transactions", with a few of them.
pub(super) fn waits_for(blockers: &[OpenTransaction]) -> String {
    let said: Vec<_> = blockers.iter().take(3).map(|b| b.description.clone()).collect();
    format!("waits for open transactions: {}", said.join("; "))
}

/// Step 2 is done: no transaction is open that could hold a reference from before the release.
#[derive(Debug)]
pub(super) struct Clear {
    record: Installation,
    groups: Groups,
    /// Names that an earlier worker moved, with what is left of their second barrier.
    moved: HashMap<FileName, HashSet<String>>,
    decided: Decided,
}

impl Clear {
    /// Step 3: what lies under each name; the derivatives of what may go; whose derivative it could be itself.
    ///
    /// # Errors
    /// The storage's, as a whole.
    pub(super) async fn look(self, c: &Collector, state: &StorageState) -> Result<Looked> {
        let Clear { record, mut groups, mut moved, mut decided } = self;
        // By the database's clock, before anything is looked at: no file is older than it was then.
        let (now, skew) = (c.db.now().await?, state.clocks.get().await?);
        let shadow = Shadow::of(&record, c.guard.on(&state.plan.name));
        let names: Vec<FileName> = groups.keys().cloned().collect();
        crash::of(names.iter().map(FileName::as_str));
        let began = trace::now();
        let looks = state.storage.stat(&names).await?;
        crash::point("looked");
        let mut seen: BTreeMap<FileName, FileVersion> = BTreeMap::new();
        let mut missing = Vec::new();
        for (name, look) in names.into_iter().zip(looks) {
            match look {
                // Its own file lies in the trash, and this one is another's: it is looked at anew, behind a first barrier.
                Ok(Stat::File(_)) if moved.contains_key(&name) => {
                    decided.all(&groups[&name], &name, Verdict::again("another file has taken the name of the one that was moved"));
                }
                Ok(Stat::File(s)) => drop(seen.insert(name, s)),
                Ok(Stat::Missing) => missing.push(name),
                // A picture in a `data:` URI, which by its letters could be a name.
                Ok(Stat::Refused(_)) if is_elsewhere(name.as_str().as_bytes()) => {
                    decided.all(&groups[&name], &name, Verdict::plain(Outcome::Foreign));
                }
                Ok(Stat::Refused(why)) => decided.all(&groups[&name], &name, Verdict::noted(Outcome::Refused, why)),
                Err(e) => decided.all(&groups[&name], &name, Verdict::failure(&groups[&name][0], &e)),
            }
        }
        let fail = |decided: &mut Decided, name: &FileName, e: &Error| {
            decided.all(&groups[name], name, Verdict::failure(&groups[name][0], e));
        };
        let listed = trace::now();
        // Derivatives are listed before anything is moved: once their original is gone without them, nobody would look for them.
        for (name, found) in derived::list(state, &shadow, &groups, seen.keys().chain(&missing)).await {
            match found {
                Ok(found) => drop(decided.derived.insert(name, found)),
                Err(e) => {
                    fail(&mut decided, &name, &e);
                    seen.remove(&name);
                    missing.retain(|m| *m != name);
                }
            }
        }
        crash::point("listed");
        // A missing one may lie in the trash: a worker that was killed has moved it.
        let mut found = BTreeMap::new();
        let in_trash: PerName<Option<Trashed>> = if missing.is_empty() || !state.keeps().await? {
            missing.iter().map(|_| Ok(None)).collect()
        } else {
            state.storage.trashed(&missing).await?
        };
        let known = || missing.iter().zip(&in_trash).filter_map(|(name, trashed)| Some((name, trashed.as_ref().ok()?)));
        decided.traced.step("looked", began, || {
            let there = seen.iter().map(|(name, s)| (name, s.version.as_str().into()));
            there.chain(known().map(|(name, t)| (name, t.as_ref().map_or(Value::Null, |t| json!({ "trash": t.place })))))
        });
        decided.traced.step("listed", listed, || {
            let derived = |name| decided.derived.get(name).into_iter().flat_map(|found| &found.names).map(FileName::as_str);
            let names = seen.keys().chain(known().map(|(name, _)| name));
            names.map(move |name| (name, derived(name).collect::<Vec<_>>().into()))
        });
        for (name, trashed) in missing.into_iter().zip(in_trash) {
            match trashed {
                Ok(Some(t)) => drop(found.insert(name, t)),
                Ok(None) if is_elsewhere(name.as_str().as_bytes()) => {
                    decided.all(&groups[&name], &name, Verdict::plain(Outcome::Foreign));
                }
                Ok(None) => decided.all(&groups[&name], &name, Verdict::plain(Outcome::Missing)),
                Err(e) => fail(&mut decided, &name, &e),
            }
        }
        let mut origins: HashMap<FileName, Origin> = HashMap::new();
        for (name, origin) in derived::origins(state, &groups, seen.keys().chain(found.keys())).await? {
            match origin {
                Ok(origin) => drop(origins.insert(name, origin)),
                Err(e) => {
                    fail(&mut decided, &name, &e);
                    seen.remove(&name);
                    found.remove(&name);
                }
            }
        }
        moved.retain(|name, _| found.contains_key(name));
        groups.retain(|name, _| seen.contains_key(name) || found.contains_key(name));
        Ok(Looked { record, now, skew, shadow, groups, seen, found, moved, origins, decided })
    }
}

/// Step 3 is done: files that were seen, and those that lie in the trash already.
#[derive(Debug)]
pub(super) struct Looked {
    record: Installation,
    /// The database's time before the look, and how far other clocks are from it.
    now: Timestamp,
    skew: Skew,
    shadow: Shadow,
    groups: Groups,
    seen: BTreeMap<FileName, FileVersion>,
    found: BTreeMap<FileName, Trashed>,
    moved: HashMap<FileName, HashSet<String>>,
    origins: HashMap<FileName, Origin>,
    decided: Decided,
}

impl Looked {
    /// Step 4: which of the names does some row reference? On SQLite the write lock is held from here on.
    ///
    /// # Errors
    /// Those of the database: then nothing is known, and nothing goes.
    pub(super) async fn check(self, c: &Collector, state: &StorageState) -> Result<Checked> {
        let Looked { record, now, skew, shadow, groups, seen, found, moved, origins, decided } = self;
        let mut checked = Checked {
            record,
            groups,
            doomed: Vec::new(),
            found,
            moved,
            origins,
            held: HashSet::new(),
            at: Instant::now(),
            lock: None,
            decided,
        };
        // What lies in the trash is checked with the others where a lock makes that final; elsewhere after a barrier of its own.
        let sqlite = c.db.dialect() == Dialect::Sqlite;
        let names: Vec<&FileName> = seen.keys().chain(checked.found.keys().filter(|_| sqlite)).collect();
        if names.is_empty() {
            return Ok(checked);
        }
        let asked: BTreeSet<&FileName> = names.iter().copied().chain(checked.origins.values().flat_map(|o| &o.names)).collect();
        let asked: Vec<FileName> = asked.into_iter().cloned().collect();
        c.rest(state).await;
        let (began, asked_at) = (Instant::now(), trace::now());
        // Where nothing can be moved, or not back, what is taken away now does not return.
        let depth = if state.moves().await? && state.returns().await? { CheckDepth::Surveyed } else { CheckDepth::Whole };
        let References { held, otherwise, lock, .. } =
            references::find(c.db.as_ref(), c.guard.bound(), &checked.record, &state.plan.name, &asked, depth)
                .await?
                .looked_up(state.storage.as_ref())
                .await;
        state.has_read(began.elapsed());
        checked.at = Instant::now();
        // A slow storage must not keep the application's writers out; the trash and the second check cover for the lock.
        checked.lock = lock.filter(|_| state.storage.quick()).map(|lock| (lock, checked.at));
        checked.decided.traced.step("checked", asked_at, || names.iter().map(|name| (name, trace::held(held.contains(*name)))));
        crash::point("checked");
        let Checked { groups, found, origins, decided, .. } = &mut checked;
        let ages = Ages::new(c, state, now, skew, &seen, groups).await?;
        let mut doomed = Vec::with_capacity(seen.len());
        for (name, s) in seen {
            let group = &groups[&name];
            if held.contains(&name) {
                decided.all(group, &name, kept(otherwise.get(&name)));
            } else if let Some(why) = origins.get(&name).and_then(|o| o.lives(&held)) {
                decided.all(group, &name, Verdict::noted(Outcome::Kept, why));
            } else if let Some(verdict) = ages.too_young(&name, &s, group) {
                decided.all(group, &name, verdict);
            } else if group.iter().any(|c| shadow.holds(c.binding, &c.event)) {
                decided.all(group, &name, Verdict::Settle(Outcome::Shadow, Some(s.size), None, None));
            } else {
                doomed.push((name, s));
            }
        }
        // What keeps one derivative keeps what was made from it.
        while !origins.is_empty() {
            let go: HashSet<&FileName> = doomed.iter().map(|(name, _)| name).collect();
            let stays = |name: &FileName| origins.get(name).and_then(|o| o.going.iter().find(|g| !go.contains(*g)));
            let kept: HashMap<FileName, FileName> = doomed.iter().filter_map(|(n, _)| Some((n.clone(), stays(n)?.clone()))).collect();
            if kept.is_empty() {
                break;
            }
            for (name, original) in &kept {
                decided.all(&groups[name], name, Verdict::noted(Outcome::Kept, format!("a derivative of {original}, which is there")));
            }
            doomed.retain(|(name, _)| !kept.contains_key(name));
        }
        groups.retain(|name, _| found.contains_key(name) || doomed.binary_search_by(|(n, _)| n.cmp(name)).is_ok());
        Ok(Checked { doomed, held, ..checked })
    }
}

/// Step 4 is done: files that no row references.
#[derive(Debug)]
pub(super) struct Checked {
    record: Installation,
    groups: Groups,
    /// Sorted by name.
    doomed: Vec<(FileName, FileVersion)>,
    found: BTreeMap<FileName, Trashed>,
    moved: HashMap<FileName, HashSet<String>>,
    origins: HashMap<FileName, Origin>,
    /// What is referenced, as far as it was asked.
    held: HashSet<FileName>,
    /// When the check had ended.
    at: Instant,
    lock: Option<HeldLock>,
    decided: Decided,
}

impl Checked {
    /// Step 5: moves what is left into the trash, in chunks of at most a second, each after the database has confirmed the lease. Where nothing can be moved,
    /// a chunk is checked again and erased.
    ///
    /// # Errors
    /// What went wrong before anything was moved. Afterwards an error is that of the files that it kept.
    pub(super) async fn take_away(self, c: &Collector, state: &StorageState) -> Result<(Vec<Moved>, Decided)> {
        let Checked { record, mut groups, doomed, found, mut moved, origins, held, at, lock, mut decided } = self;
        let mut taken = Moved::new(&decided, held, lock);
        // Those whose second barrier was noted long ago wait for no other.
        let mut earlier = Moved::new(&decided, HashSet::new(), None);
        for (name, file) in found {
            let Some(group) = groups.remove(&name) else { continue };
            let into = match moved.remove(&name) {
                Some(noted) if !taken.is_locked() => {
                    earlier.barrier.get_or_insert_default().extend(noted);
                    &mut earlier
                }
                _ => &mut taken,
            };
            into.derived_of([&name], &mut decided);
            into.push(name, group, MovedFile { size: file.size, place: file.place, at: file.at, found: true });
        }
        earlier.resume();
        let moves = state.moves().await?;
        let mut checked_at = at;
        let mut rest = doomed.into_iter().peekable();
        let mut anything = false;
        let mut stopped: Option<Error> = None;
        if rest.peek().is_some() {
            // What the check saw must not be as before after a crash.
            c.db.flushed().await?;
        }
        while rest.peek().is_some() && stopped.is_none() {
            // The application's writers wait: what is left goes on in the next batch.
            if taken.lock.as_ref().is_some_and(|(_, since)| since.elapsed() > LOCK_LIMIT) {
                break;
            }
            let chunk = Chunk::begin(&state.chunk);
            let mut items: Vec<(FileName, FileVersion)> = rest.by_ref().take(chunk.size()).collect();
            let count = items.len();
            let step = async {
                // What another worker holds now is that worker's: it looks at the file anew.
                let ids: Vec<i64> = items.iter().flat_map(|(name, _)| &groups[name]).map(|c| c.id).collect();
                let began = trace::now();
                let ours = c.db.confirm(decided.owner(), &ids, c.settings.lease).await?;
                let is_ours = |name: &FileName| groups[name].iter().all(|c| ours.contains(&c.id));
                decided.traced.lost(began, items.iter().map(|(name, _)| name).filter(|name| !is_ours(name)));
                items.retain(|(name, _)| is_ours(name));
                decided.traced.step("confirmed", began, || items.iter().map(|(name, _)| (name, Value::Null)));
                crash::point("confirmed");
                if !moves && checked_at.elapsed() > CHUNK_TIME {
                    checked_at = Instant::now();
                    drop(keep_referenced(c, state, &record, &groups, &mut items, &origins, &mut decided).await?);
                    c.db.flushed().await?;
                }
                let began = trace::now();
                take_chunk(state, &mut taken, &mut items).await.map(|removed| (removed, began))
            };
            let (removed, began) = match step.await {
                Ok(removed) => removed,
                Err(e) if !anything => return Err(e),
                Err(e) => {
                    for (name, _) in &items {
                        decided.all(&groups[name], name, left_over(&groups[name][0], &e));
                    }
                    stopped = Some(e);
                    continue;
                }
            };
            decided.traced.step("removed", began, || items.iter().zip(&removed).map(|((name, _), fate)| (name, trace_fate(fate))));
            crash::point("removed");
            anything = true;
            // Where that cannot be told, they wait for a moment.
            let in_trash = taken_by_others(state, &items, &removed).await.unwrap_or_default();
            let (mut stuck, mut places) = (Vec::new(), Vec::new());
            for ((name, s), fate) in items.into_iter().zip(removed) {
                let Some(group) = groups.remove(&name) else { continue };
                let verdict = match fate {
                    // Under a lock the check holds still, and no other batch finds the file: that is its end.
                    Ok(Removed::Trashed(place)) if !taken.is_locked() => {
                        taken.derived_of([&name], &mut decided);
                        places.push(place.clone());
                        taken.push(name, group, MovedFile { size: s.size, place, at: state.storage.ahead().now(), found: false });
                        continue;
                    }
                    Err(e) if state.plan.trash == Trash::Off && unmovable(&e) => {
                        groups.insert(name.clone(), group);
                        stuck.push((name, s));
                        continue;
                    }
                    Ok(Removed::Missing) if in_trash.contains(&name) => {
                        Verdict::again("another batch has moved the file to the trash meanwhile")
                    }
                    fate => fate_of(fate, &group, &s, state),
                };
                decided.all(&group, &name, verdict);
            }
            if !places.is_empty() {
                taken.moves(state.unsettled.moved(places));
            }
            if !stuck.is_empty() {
                erase_in_place(c, state, &record, &mut taken, &mut groups, stuck, &origins, &mut decided).await;
            }
            chunk.end(&state.chunk, count);
        }
        for (name, _) in rest {
            let verdict = match &stopped {
                Some(e) => left_over(&groups[&name][0], e),
                None => Verdict::again("the next batch moves it: this one was long enough"),
            };
            decided.all(&groups[&name], &name, verdict);
        }
        Ok(([taken, earlier].into_iter().filter(|m| m.len() > 0 || m.is_locked()).collect(), decided))
    }
}

/// A row references the file, or could mean it by a value that is read otherwise.
fn kept(otherwise: Option<&String>) -> Verdict {
    otherwise.map_or(Verdict::plain(Outcome::Kept), |why| Verdict::noted(Outcome::Kept, why))
}

/// What becomes of a file that was in a chunk, or behind one, that failed as a whole after others were moved. The next batch begins with
/// it, and finds out whose fault that was.
fn left_over(c: &Candidate, e: &Error) -> Verdict {
    match narrow::is_everybodys(e) {
        true => Verdict::failure(c, e),
        false => Verdict::again(format!("the next batch tries again: {}", e.full())),
    }
}
