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

use super::{
    Collector, Lane, derived, outlast,
    pace::{CHUNK_TIME, Chunk, LOCK_LIMIT},
    verdict::{Decided, Verdict},
};
use crate::{
    capture::Installation,
    clock, crash,
    database::{Dialect, Hold, OpenTransaction},
    error::{Error, Kind, Result},
    name::FileName,
    originals::Origin,
    plan::Trash,
    queue::{Candidate, Outcome, Waits},
    references,
    shadow::Shadow,
    storage::{Look, Removed, Seen, Trashed, unmovable},
};

mod moved; // files in the trash, until their candidates are settled
mod values; // a candidate's value -> its names

use moved::MovedFile;
pub(super) use moved::{Moved, Settled};
use values::{many, open_up, resolve};

/// The candidates of each name, the latest release first. Equal names of a batch share one fate. Sorted by name, so that a batch reads in the ledger as a
/// listing does.
pub(super) type Groups = BTreeMap<FileName, Vec<Candidate>>;

/// Modification times and releases this close cannot be put in order: the database's clock and the storage's differ, kernels stamp files with a
/// coarse clock (up to 10 ms behind), FAT counts in 2 s.
const CLOCK_MARGIN: Duration = Duration::from_secs(2);

/// A lock that keeps every writer out, and since when.
pub(super) type Held = (Hold, Instant);

/// Step 1 is done: candidates under a lease, and the names that they stand for.
#[derive(Debug)]
pub(super) struct Claimed {
    record: Installation,
    now: Timestamp,
    groups: Groups,
    decided: Decided,
}

impl Claimed {
    /// Resolves the values of claimed candidates. Names out of values with many become candidates of their own.
    pub(super) fn new(c: &Collector, lane: &Lane, record: Installation, candidates: Vec<Candidate>) -> Self {
        let mut decided = Decided::new(&c.owner, &lane.plan.name);
        let mut groups = Groups::new();
        for candidate in candidates {
            if let Some(bound) = many(c.guard.bound(), &candidate) {
                open_up(bound, &candidate, &mut decided);
                continue;
            }
            match resolve(c.guard.bound(), lane, &candidate) {
                Ok(name) => groups.entry(name).or_default().push(candidate),
                Err(verdict) => decided.one(&candidate, None, verdict),
            }
        }
        for group in groups.values_mut() {
            group.sort_by_key(|c| std::cmp::Reverse((c.released_at, c.id)));
        }
        Claimed { record, now: Timestamp::now(), groups, decided }
    }

    /// Step 2: the transactions that were open at the first try must end. What still waits for one goes back, with those that are left.
    ///
    /// # Errors
    /// Those of the database.
    pub(super) async fn clear(self, c: &Collector, lane: &Lane) -> Result<Clear> {
        let Claimed { record, now, groups, mut decided } = self;
        let open = c.db.open_transactions().await?;
        let keys: HashSet<String> = open.iter().map(|t| t.key.clone()).collect();
        let mut waiting: Vec<(FileName, Vec<Candidate>, HashSet<String>)> = Vec::new();
        let (mut clear, mut moved) = (Groups::new(), HashMap::new());
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
                    Some(first) => left.extend(first.transactions.iter().filter(|key| keys.contains(*key)).cloned()),
                    None => left.extend(keys.iter().cloned()),
                }
            }
            match left.is_empty() {
                true => drop(clear.insert(name, group)),
                false => waiting.push((name, group, left)),
            }
        }
        let blockers = c.outwait(open, waiting.iter_mut().map(|(.., left)| left).collect()).await?;
        if !blockers.is_empty() {
            let note = waits_for(&blockers);
            for (name, group, left) in waiting {
                if left.is_empty() {
                    clear.insert(name, group);
                    continue;
                }
                let waits = Waits { moved: false, transactions: left.into_iter().collect() };
                decided.all(&group, &name, Verdict::Back(Duration::from_secs(1), false, note.clone(), Some(waits)));
            }
            *lane.blockers.lock().unwrap_or_else(|e| e.into_inner()) = blockers;
        } else {
            clear.extend(waiting.into_iter().map(|(name, group, _)| (name, group)));
        }
        if !clear.is_empty() {
            crash::point("barrier-passed");
        }
        Ok(Clear { record, now, groups: clear, moved, decided })
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
    now: Timestamp,
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
    pub(super) async fn look(self, c: &Collector, lane: &Lane) -> Result<Looked> {
        let Clear { record, now, mut groups, mut moved, mut decided } = self;
        let shadow = Shadow::of(&record, c.guard.on(&lane.plan.name));
        let names: Vec<FileName> = groups.keys().cloned().collect();
        let looks = lane.storage.look(&names).await?;
        crash::point("looked");
        let mut seen: BTreeMap<FileName, Seen> = BTreeMap::new();
        let mut missing = Vec::new();
        for (name, look) in names.into_iter().zip(looks) {
            match look {
                // Its own file lies in the trash, and this one is another's: it is looked at anew, behind a first barrier.
                Ok(Look::Seen(_)) if moved.contains_key(&name) => {
                    decided.all(
                        &groups[&name],
                        &name,
                        Verdict::wait(Duration::ZERO, "another file has taken the name of the one that was moved"),
                    );
                }
                Ok(Look::Seen(s)) => drop(seen.insert(name, s)),
                Ok(Look::Missing) => missing.push(name),
                Ok(Look::Refused(why)) => decided.all(&groups[&name], &name, Verdict::noted(Outcome::Refused, why)),
                Err(e) => decided.all(&groups[&name], &name, Verdict::failure(&groups[&name][0], &e)),
            }
        }
        let fail = |decided: &mut Decided, name: &FileName, e: &Error| {
            decided.all(&groups[name], name, Verdict::failure(&groups[name][0], e));
        };
        // Derivatives are listed before anything is moved: once their original is gone without them, nobody would look for them.
        for (name, found) in derived::list(lane, &shadow, &groups, seen.keys().chain(&missing)).await {
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
        let in_trash = if missing.is_empty() || !lane.keeps().await? {
            missing.iter().map(|_| Ok(None)).collect()
        } else {
            lane.storage.trashed(&missing).await?
        };
        for (name, trashed) in missing.into_iter().zip(in_trash) {
            match trashed {
                Ok(Some(t)) => drop(found.insert(name, t)),
                Ok(None) => decided.all(&groups[&name], &name, Verdict::plain(Outcome::Missing)),
                Err(e) => fail(&mut decided, &name, &e),
            }
        }
        let mut origins: HashMap<FileName, Origin> = HashMap::new();
        for (name, origin) in derived::origins(lane, &groups, seen.keys().chain(found.keys())).await? {
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
        Ok(Looked { record, now, shadow, groups, seen, found, moved, origins, decided })
    }
}

/// Step 3 is done: files that were seen, and those that lie in the trash already.
#[derive(Debug)]
pub(super) struct Looked {
    record: Installation,
    now: Timestamp,
    shadow: Shadow,
    groups: Groups,
    seen: BTreeMap<FileName, Seen>,
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
    pub(super) async fn check(self, c: &Collector, lane: &Lane) -> Result<Checked> {
        let Looked { record, now, shadow, groups, seen, found, moved, origins, mut decided } = self;
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
        c.rest(lane).await;
        let began = Instant::now();
        let (held, lock) = references::find(c.db.as_ref(), c.guard.bound(), &checked.record.snapshot, &lane.plan.name, &asked).await?;
        lane.has_read(began.elapsed());
        checked.at = Instant::now();
        // A slow storage must not keep the application's writers out; the trash and the second check cover for the lock.
        checked.lock = lock.filter(|_| lane.storage.quick()).map(|lock| (lock, checked.at));
        crash::point("checked");
        decided = std::mem::take(&mut checked.decided);
        let mut doomed = Vec::with_capacity(seen.len());
        for (name, s) in seen {
            let group = &checked.groups[&name];
            if held.contains(&name) {
                decided.all(group, &name, Verdict::plain(Outcome::Kept));
            } else if let Some(why) = checked.origins.get(&name).and_then(|o| o.lives(&held)) {
                decided.all(group, &name, Verdict::noted(Outcome::Kept, why));
            } else if let Some(wait) = young(&s, group[0].released_at, now, lane.plan.min_age) {
                decided.all(group, &name, Verdict::wait(wait, "the file is newer than its release: waits until it is older than min_age"));
            } else if group.iter().any(|c| shadow.holds(c.binding, &c.event)) {
                decided.all(group, &name, Verdict::Settle(Outcome::Shadow, Some(s.size), None, None));
            } else {
                doomed.push((name, s));
            }
        }
        // What keeps one derivative keeps what was made from it.
        loop {
            let go: HashSet<&FileName> = doomed.iter().map(|(name, _)| name).collect();
            let stays = |name: &FileName| checked.origins.get(name).and_then(|o| o.going.iter().find(|g| !go.contains(*g)));
            let kept: HashMap<FileName, FileName> = doomed.iter().filter_map(|(n, _)| Some((n.clone(), stays(n)?.clone()))).collect();
            if kept.is_empty() {
                break;
            }
            for (name, original) in &kept {
                decided.all(
                    &checked.groups[name],
                    name,
                    Verdict::noted(Outcome::Kept, format!("a derivative of {original}, which is there")),
                );
            }
            doomed.retain(|(name, _)| !kept.contains_key(name));
        }
        checked.groups.retain(|name, _| checked.found.contains_key(name) || doomed.binary_search_by(|(n, _)| n.cmp(name)).is_ok());
        Ok(Checked { doomed, held, decided, ..checked })
    }
}

/// Step 4 is done: files that no row references.
#[derive(Debug)]
pub(super) struct Checked {
    record: Installation,
    groups: Groups,
    /// Sorted by name.
    doomed: Vec<(FileName, Seen)>,
    found: BTreeMap<FileName, Trashed>,
    moved: HashMap<FileName, HashSet<String>>,
    origins: HashMap<FileName, Origin>,
    /// What is referenced, as far as it was asked.
    held: HashSet<FileName>,
    /// When the check had ended.
    at: Instant,
    lock: Option<Held>,
    decided: Decided,
}

impl Checked {
    /// Step 5: moves what is left into the trash, in chunks of at most a second, each after the database has confirmed the lease. Where nothing can be moved,
    /// a chunk is checked again and erased.
    ///
    /// # Errors
    /// What went wrong before anything was moved. Afterwards an error is that of the files that it kept.
    pub(super) async fn take_away(self, c: &Collector, lane: &Lane) -> Result<(Vec<Moved>, Decided)> {
        let Checked { record, mut groups, doomed, found, mut moved, origins, held, at, lock, mut decided } = self;
        let mut taken = Moved::new(c, lane, held, lock);
        // Those whose second barrier was noted long ago wait for no other.
        let mut earlier = Moved::new(c, lane, HashSet::new(), None);
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
        let moves = lane.moves().await?;
        let mut checked_at = at;
        let mut rest = doomed.into_iter().peekable();
        let mut anything = false;
        let mut stopped: Option<Error> = None;
        while rest.peek().is_some() && stopped.is_none() {
            // The application's writers wait: what is left goes on in the next batch.
            if taken.lock.as_ref().is_some_and(|(_, since)| since.elapsed() > LOCK_LIMIT) {
                break;
            }
            let chunk = Chunk::begin(&lane.chunk);
            let mut items: Vec<(FileName, Seen)> = rest.by_ref().take(chunk.size()).collect();
            let step = async {
                // What another worker holds now is that worker's: it looks at the file anew.
                let ids: Vec<i64> = items.iter().flat_map(|(name, _)| &groups[name]).map(|c| c.id).collect();
                let ours = c.db.confirm(&c.owner, &ids, c.settings.lease).await?;
                items.retain(|(name, _)| groups[name].iter().all(|c| ours.contains(&c.id)));
                crash::point("confirmed");
                if !moves && checked_at.elapsed() > CHUNK_TIME {
                    checked_at = Instant::now();
                    keep_referenced(c, lane, &record, &groups, &mut items, &origins, &mut decided).await?;
                }
                take_chunk(lane, &mut taken, &mut items).await
            };
            let removed = match step.await {
                Ok(removed) => removed,
                Err(e) if !anything => return Err(e),
                Err(e) => {
                    for (name, _) in &items {
                        decided.all(&groups[name], name, Verdict::failure(&groups[name][0], &e));
                    }
                    stopped = Some(e);
                    continue;
                }
            };
            crash::point("removed");
            anything = true;
            let mut stuck = Vec::new();
            for ((name, s), fate) in items.into_iter().zip(removed) {
                let Some(group) = groups.remove(&name) else { continue };
                let verdict = match fate {
                    Ok(Removed::Trashed(place)) => {
                        taken.derived_of([&name], &mut decided);
                        taken.push(name, group, MovedFile { size: s.size, place, at: Timestamp::now(), found: false });
                        continue;
                    }
                    Err(e) if lane.plan.trash == Trash::Off && unmovable(&e) => {
                        groups.insert(name.clone(), group);
                        stuck.push((name, s));
                        continue;
                    }
                    fate => fate_of(fate, &group, &s, lane),
                };
                decided.all(&group, &name, verdict);
            }
            if !stuck.is_empty() {
                erase_in_place(c, lane, &record, &mut taken, &mut groups, stuck, &origins, &mut decided).await;
            }
            chunk.end(&lane.chunk);
        }
        for (name, _) in rest {
            let verdict = match &stopped {
                Some(e) => Verdict::failure(&groups[&name][0], e),
                None => Verdict::wait(Duration::ZERO, "the next batch moves it: this one was long enough"),
            };
            decided.all(&groups[&name], &name, verdict);
        }
        Ok(([taken, earlier].into_iter().filter(|m| m.len() > 0 || m.is_locked()).collect(), decided))
    }
}

/// What becomes of a candidate whose file could not be moved.
fn fate_of(fate: Result<Removed>, group: &[Candidate], s: &Seen, lane: &Lane) -> Verdict {
    match fate {
        Ok(Removed::Trashed(place)) => Verdict::Settle(Outcome::Trashed, Some(s.size), Some(place), None),
        Ok(Removed::Erased) => Verdict::Settle(Outcome::Erased, Some(s.size), None, None),
        // Whoever took it may have moved it to the trash: it is looked for there.
        Ok(Removed::Missing) => Verdict::wait(Duration::from_secs(1), "the file went away while it was being collected"),
        Ok(Removed::Changed) => {
            Verdict::wait(lane.plan.min_age.max(Duration::from_secs(1)), "the file was replaced while it was being collected")
        }
        Err(e) => Verdict::failure(&group[0], &e),
    }
}

/// Moves one chunk, under the lock if there is one. The lock outlasts the work, whatever becomes of the caller.
async fn take_chunk(lane: &Lane, taken: &mut Moved, items: &mut Vec<(FileName, Seen)>) -> Result<Vec<Result<Removed>>> {
    let removed = match taken.lock.take() {
        Some(lock) => {
            let (storage, mine) = (lane.storage.clone(), std::mem::take(items));
            let work = async move { (storage.remove(&mine).await, mine) };
            let ((removed, mine), lock) = outlast::outlast(lock, work).await?;
            *items = mine;
            taken.lock = Some(lock);
            removed
        }
        None => lane.storage.remove(items).await,
    };
    match removed {
        // The trash itself cannot be made: no file can be moved.
        Err(e) if lane.plan.trash == Trash::Off && unmovable(&e) => {
            let why = std::error::Error::source(&e).and_then(|why| why.downcast_ref::<rustix::io::Errno>()).copied();
            let each = || Error::new(Kind::Storage, e.full()).because(why.unwrap_or(rustix::io::Errno::NOSPC));
            Ok(items.iter().map(|_| Err(each())).collect())
        }
        removed => removed,
    }
}

/// Takes out of a chunk what is referenced by now.
async fn keep_referenced(
    c: &Collector,
    lane: &Lane,
    record: &Installation,
    groups: &Groups,
    items: &mut Vec<(FileName, Seen)>,
    origins: &HashMap<FileName, Origin>,
    decided: &mut Decided,
) -> Result<()> {
    fn originals<'o>(origins: &'o HashMap<FileName, Origin>, name: &FileName) -> impl Iterator<Item = &'o FileName> + use<'o> {
        origins.get(name).into_iter().flat_map(|o| &o.names)
    }
    let asked: BTreeSet<FileName> = items.iter().flat_map(|(name, _)| originals(origins, name).chain([name]).cloned()).collect();
    let asked: Vec<FileName> = asked.into_iter().collect();
    let began = Instant::now();
    let (held, lock) = references::find(c.db.as_ref(), c.guard.bound(), &record.snapshot, &lane.plan.name, &asked).await?;
    drop(lock);
    lane.has_read(began.elapsed());
    items.retain(|(name, _)| {
        let lives = held.contains(name) || originals(origins, name).any(|o| held.contains(o));
        if lives {
            decided.all(&groups[name], name, Verdict::plain(Outcome::Kept));
        }
        !lives
    });
    Ok(())
}

/// `trash = "off"`, and no room to hold a file for a moment: it is erased where it lies, after a check of its own.
#[allow(clippy::too_many_arguments)]
async fn erase_in_place(
    c: &Collector,
    lane: &Lane,
    record: &Installation,
    taken: &mut Moved,
    groups: &mut Groups,
    mut stuck: Vec<(FileName, Seen)>,
    origins: &HashMap<FileName, Origin>,
    decided: &mut Decided,
) {
    let all: Vec<FileName> = stuck.iter().map(|(name, _)| name.clone()).collect();
    let done = async {
        if taken.lock.is_none() {
            keep_referenced(c, lane, record, groups, &mut stuck, origins, decided).await?;
        }
        lane.storage.erase(&stuck).await
    };
    match done.await {
        Ok(done) => {
            for ((name, s), fate) in stuck.into_iter().zip(done) {
                let erased = matches!(fate, Ok(Removed::Erased));
                let verdict = match fate_of(fate, &groups[&name], &s, lane) {
                    Verdict::Settle(outcome, size, place, None) if erased => {
                        Verdict::Settle(outcome, size, place, Some("it could not be held for a moment: it was erased where it lay".into()))
                    }
                    verdict => verdict,
                };
                decided.all(&groups[&name], &name, verdict);
            }
        }
        Err(e) => stuck.iter().for_each(|(name, _)| decided.all(&groups[name], name, Verdict::failure(&groups[name][0], &e))),
    }
    all.iter().for_each(|name| drop(groups.remove(name)));
}

/// How long a file must wait because it is newer than its release and younger than `min_age`; `None` if it need not.
fn young(seen: &Seen, released: Timestamp, now: Timestamp, min_age: Duration) -> Option<Duration> {
    if clock::passed(seen.modified, CLOCK_MARGIN, released) {
        return None;
    }
    // A time to come is no age.
    let age = clock::age(seen.modified, now);
    (age < min_age).then(|| (min_age - age).max(Duration::from_millis(50)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    #[test]
    fn a_file_newer_than_its_release_waits_for_min_age() {
        let seen = |s| Seen { size: 1, modified: at(s), version: String::new() };
        let hour = Duration::from_secs(3600);
        // Written long before its release: at once.
        assert_eq!(young(&seen(0), at(100), at(110), hour), None);
        // Written after it: somebody's new upload.
        assert_eq!(young(&seen(105), at(100), at(110), hour), Some(hour - Duration::from_secs(5)));
        assert_eq!(young(&seen(105), at(100), at(105 + 3600), hour), None);
        // Within the clocks' margin counts as after.
        assert!(young(&seen(99), at(100), at(110), hour).is_some());
        // A clock that runs ahead never makes a file older.
        assert_eq!(young(&seen(500), at(100), at(110), hour), Some(hour));
        assert_eq!(young(&seen(105), at(100), at(110), Duration::ZERO), None);
    }

    #[test]
    fn a_file_from_beyond_the_calendar_is_young() {
        // File systems with 64 bits for seconds tell such times: `touch -d @300000000000`.
        let seen = |modified| Seen { size: 1, modified, version: String::new() };
        let hour = Duration::from_secs(3600);
        for released in [at(100), Timestamp::MAX, Timestamp::MIN] {
            assert_eq!(young(&seen(Timestamp::MAX), released, at(110), hour), Some(hour), "{released}");
        }
        assert_eq!(young(&seen(Timestamp::MIN), at(100), at(110), hour), None);
        assert_eq!(young(&seen(Timestamp::MIN), Timestamp::MIN, at(110), hour), None, "old, if not older than its release");
        assert_eq!(young(&seen(at(105)), at(100), at(110), Duration::MAX), Some(Duration::MAX - Duration::from_secs(5)));
    }
}
