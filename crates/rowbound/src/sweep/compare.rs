//! The comparison: two ordered sides become findings.
//!
//! In: the storage's listing and the rows' names, read at the same time. Out: findings in the spool, each looked at once more, and a point from which a
//! sweep that is cut off goes on. Promise: a side that breaks off, or does not come in order, is an error, and nothing is concluded from it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::sync::watch;
use unicode_normalization::UnicodeNormalization;

use super::{
    Dangling, Finding, Orphan, Progress, Work,
    brake::inconclusive,
    broken_order,
    elsewhere::BYTES,
    join::{Join, Next},
    rows::Rows,
    sides::Side,
    spool::{Counts, Point, Spool},
};
use crate::{
    binding::{Resolved, Scan, aliases, by_alias, same_path},
    capture::Bound,
    clock,
    collect::age,
    crash,
    database::{ColumnScan, ColumnSearch},
    error::{Error, Kind, Result},
    name::{FileName, Names as Allowed},
    originals::living_originals,
    storage::{FileVersion, Listed, SkipReason, Stat, whereabouts},
};

/// Hints are looked at in batches of so many.
pub(super) const BATCH: usize = 1_000;

/// Dangling hints: each batch is a scan of every column without an index.
const ROWS: usize = 5_000;

/// The longest time between two points from which a sweep can go on, where no column is read for them.
const POINT: Duration = Duration::from_secs(1);

/// Where columns are read from end to end at each point, for what their values mention, so many hints go together; and a point comes after so many times
/// as long as the last took.
pub(super) const MENTIONS: usize = 20_000;
const REST: u32 = 4;

/// So many bytes of a value that could mean an orphan are remembered.
const SHOWN: usize = 1_000;

/// Rows per batch and column whose keys are looked up; a name beyond stands in the report without its row's key.
const HOLDERS: u32 = 50_000;

impl Work<'_> {
    /// The comparison, from the last point to the end.
    pub(super) async fn compare(
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
            None => inconclusive("the rows could not be read to their end", &e, name),
        };
        let no_files = |e: Error| match whereabouts::is_nested(&e) {
            true => e,
            false => inconclusive("the listing of the storage could not be completed", &e, name),
        };
        let mut range = self.range.clone();
        range.after = point.at.as_ref().map(ToString::to_string).or(range.after);
        let after = range.after.as_deref().and_then(|n| FileName::key(n).ok());
        let mut rows = Rows::default();
        for side in &self.sides {
            let more = Rows::begin(side.db, &side.bound, &side.storage.name, &range, unordered, &self.options.state).await;
            rows = rows.and(more.map_err(no_rows)?, side.label);
        }
        let mut listing = self.place.list(&range.prefix, after).await.map_err(no_files)?;
        let mut join = Join::default();
        progress.files.store(point.counts.files, Relaxed);
        progress.references.store(point.counts.references, Relaxed);
        let (mut files, mut references): (Vec<FileName>, Vec<FileName>) = Default::default();
        let mentions = self.sides.iter().any(|side| side.here().any(mentions));
        let mut batch = if mentions { MENTIONS } else { BATCH };
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
                    if self.keep.iter().any(|keep| keep.protects(&name)) {
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
                        .map_err(|e| inconclusive("the rows do not come in order", &Error::new(Kind::Database, e.to_string()), name))?;
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
                        // Columns without an index are read for each point, too.
                        if mentions || began.elapsed() > POINT / 4 {
                            batch = MENTIONS;
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
                            Listed::Skipped(folder, why) => {
                                point.counts.odd += 1;
                                if why == SkipReason::Copy {
                                    tracing::warn!(storage = %name, %folder, "a copy of this storage lies within it: its files are left out");
                                }
                            }
                        }
                    }
                    join.files(page_files, last)
                        .map_err(|e| inconclusive("the storage does not list in order", &Error::new(Kind::Storage, e.to_string()), name))?;
                }
                Next::End => break,
            }
        }
        self.settle(&mut files, &mut references, spool, &mut point.counts, progress).await?;
        point.counts.unexplained = rows.unexplained();
        let refused = rows.refused();
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
        let (mentioned, meant) = (self.mentioned(&orphans).await?, self.meant(&orphans).await?);
        let otherwise = self.otherwise(&orphans).await?;
        for orphan in orphans {
            if mentioned.contains(&orphan.name) || meant.contains(&orphan.name) {
                counts.mentioned.add(orphan.size);
            } else if let Some((column, value)) = otherwise.get(&orphan.name) {
                counts.otherwise.add(orphan.size);
                counts.otherwise_in.entry(column.clone()).or_default().add(Some(&orphan.name), value);
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
        let failed = |e: Error| inconclusive("a file could not be looked at", &e, &self.storage.name);
        let mut old = Vec::new();
        for (name, look) in names.iter().zip(self.place.stat(names).await.map_err(failed)?) {
            match look.map_err(failed)? {
                Stat::Missing => {} // it went meanwhile
                Stat::Refused(_) => counts.odd += 1,
                // As old when the sweep began, so that no upload whose row comes later is taken for an orphan.
                Stat::File(seen) if self.is_old(&seen, started) => {
                    old.push(Orphan { name: name.clone(), size: seen.size, modified: seen.modified })
                }
                Stat::File(seen) => counts.young.add(seen.size),
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

    /// Whether a file is old enough, by its modification time. One that lies ahead says nothing: the collector waits until such a file, and one that was copied with
    /// an old time, has stayed the same for the storage's `min_age`.
    fn is_old(&self, seen: &FileVersion, started: Timestamp) -> bool {
        clock::passed(seen.modified, self.min_age, started) || age::lies_ahead(seen.modified, started)
    }

    /// Which of these a text, a JSON value or an array mentions, where a binding reads them or elsewhere in it: the collector would keep them.
    pub(super) async fn mentioned(&self, orphans: &[Orphan]) -> Result<HashSet<FileName>> {
        let failed = |e: Error| inconclusive("the rows could not be read to their end", &e, &self.storage.name);
        let mut mentioned = HashSet::new();
        for (side, b) in self.sides.iter().flat_map(|side| side.here().filter(|b| mentions(b)).map(move |b| (side, b))) {
            for some in parts(orphans) {
                let names = Scan::new(&b.binding.reading, some.iter().map(|o| &o.name));
                each_value(side, b, |value| {
                    names.held(value, |name, _| {
                        mentioned.insert(name.clone());
                    });
                })
                .await
                .map_err(failed)?;
            }
        }
        Ok(mentioned)
    }

    /// Those that a value of a column of names or URLs could mean, though it is not read so: with the column and the value.
    pub(super) async fn otherwise(&self, orphans: &[Orphan]) -> Result<BTreeMap<FileName, (String, Vec<u8>)>> {
        let failed = |e: Error| inconclusive("the rows could not be read to their end", &e, &self.storage.name);
        let mut meant = BTreeMap::new();
        // Where names are keys, a value is read as some key, whatever it is. If that one is there, it is meant.
        let mut read: BTreeMap<FileName, BTreeMap<FileName, (String, Vec<u8>)>> = BTreeMap::new();
        // A value may be long, and stand in many rows: of each name one is remembered, as far as it is shown.
        let shown = |column: &String, value: &[u8]| (column.clone(), value[..value.len().min(SHOWN)].to_vec());
        let keys = self.storage.location.names() == Allowed::Keys;
        let names: HashSet<&FileName> = orphans.iter().map(|o| &o.name).collect();
        if names.is_empty() {
            return Ok(meant);
        }
        let means = by_alias(names.iter().copied());
        let one_name = |b: &&Bound| !b.binding.reading.is_many();
        for (side, b) in self.sides.iter().flat_map(|side| side.here().filter(one_name).map(move |b| (side, b))) {
            let column = side.shown(&b.binding.column);
            let mut look = |value: &[u8]| {
                let exact = match b.binding.reading.resolve(value, b.binding.names) {
                    Resolved::Name(name) if keys && !names.contains(&name) => Some(name),
                    _ => None,
                };
                b.binding.holds(value, |name| {
                    let all = names.get(&name).into_iter().chain(means.get(&name).into_iter().flatten());
                    all.map(|name| (*name).clone()).for_each(|name| match exact.as_ref().filter(|exact| same_path(exact, &name)) {
                        Some(exact) => drop(read.entry(exact.clone()).or_default().entry(name).or_insert_with(|| shown(&column, value))),
                        None => drop(meant.entry(name).or_insert_with(|| shown(&column, value))),
                    });
                });
            };
            if b.binding.query.is_some() {
                each_value(side, b, look).await.map_err(failed)?;
                continue;
            }
            let search = ColumnSearch::in_column(b, b.binding.search(names.iter().copied()));
            let found = side.db.holders(&[search], HOLDERS).await.map_err(failed)?;
            match found.len() >= HOLDERS as usize {
                // There are more.
                true => each_value(side, b, look).await.map_err(failed)?,
                false => found.iter().for_each(|h| look(h.value.as_bytes())),
            }
        }
        let exact: Vec<FileName> = read.keys().cloned().collect();
        for some in exact.chunks(BATCH) {
            for (name, look) in some.iter().zip(self.place.stat(some).await.map_err(failed)?) {
                if !matches!(look.map_err(failed)?, Stat::File(_)) {
                    meant.extend(read.remove(name).into_iter().flatten());
                }
            }
        }
        Ok(meant)
    }

    /// Those that a row may mean all the same, where keys need not be paths: it references another spelling, and nothing lies under that. A library of the application
    /// may take `/a/b.jpg` and `a//b.jpg` for `a/b.jpg`, or have made one of them.
    pub(super) async fn meant(&self, orphans: &[Orphan]) -> Result<HashSet<FileName>> {
        let failed = |e: Error| inconclusive("another spelling of an orphan's name could not be looked for", &e, &self.storage.name);
        let mut meant = HashSet::new();
        if self.storage.location.names() == Allowed::Paths {
            return Ok(meant);
        }
        let mut spelled: BTreeMap<FileName, Vec<&FileName>> = BTreeMap::new();
        for orphan in orphans {
            for other in orphan.name.other_spellings() {
                spelled.entry(other).or_default().push(&orphan.name);
            }
        }
        let others: Vec<FileName> = spelled.keys().cloned().collect();
        for (side, some) in self.sides.iter().flat_map(|side| others.chunks(ROWS).map(move |some| (side, some))) {
            let found = side.db.holders(&searches(side, some), HOLDERS).await.map_err(failed)?;
            // A column with more rows than were asked for does not tell all that it references.
            let cut = side.bound.iter().any(|b| found.iter().filter(|h| h.binding == b.id).count() >= HOLDERS as usize);
            let held = found.iter().filter_map(|h| {
                let b = side.bound.iter().find(|b| b.id == h.binding)?;
                match b.binding.resolve(h.value.as_bytes()) {
                    Resolved::Name(name) if spelled.contains_key(&name) => Some(name),
                    _ => None,
                }
            });
            let held: BTreeSet<FileName> = if cut { some.iter().cloned().collect() } else { held.collect() };
            let held: Vec<FileName> = held.into_iter().collect();
            if held.is_empty() {
                continue;
            }
            for (name, look) in held.iter().zip(self.place.stat(&held).await.map_err(failed)?) {
                if !matches!(look.map_err(failed)?, Stat::File(_)) {
                    meant.extend(spelled[name].iter().map(|orphan| (*orphan).clone()));
                }
            }
        }
        Ok(meant)
    }

    async fn dangling(&self, names: &[FileName], counts: &mut Counts, found: &mut Vec<Finding>) -> Result<()> {
        let failed = |e: Error| inconclusive("a reference could not be looked up once more", &e, &self.storage.name);
        // The file may have come since the listing passed its name.
        let looks = self.place.stat(names).await.map_err(failed)?;
        let (mut absent, mut refused) = (Vec::new(), 0);
        for (name, look) in names.iter().zip(looks) {
            match look.map_err(failed)? {
                Stat::Missing => absent.push(name.clone()),
                Stat::Refused(_) if name.as_path().is_err() => refused += 1,
                Stat::Refused(_) | Stat::File(_) => {}
            }
        }
        if refused > 0 {
            let storage = &self.storage.name;
            tracing::warn!(%storage, names = refused, "rows reference keys that the service was not seen to keep apart from others");
        }
        if absent.is_empty() {
            return Ok(());
        }
        // The row may have gone; and it has a key.
        let mut held: BTreeMap<FileName, (String, Option<String>)> = BTreeMap::new();
        for side in &self.sides {
            for holder in side.db.holders(&searches(side, &absent), HOLDERS).await.map_err(failed)? {
                let Some(b) = side.bound.iter().find(|b| b.id == holder.binding) else { continue };
                if let Resolved::Name(name) = b.binding.resolve(holder.value.as_bytes()) {
                    held.entry(name).or_insert_with(|| (side.shown(&b.binding.column), holder.key.clone()));
                }
            }
        }
        let other_forms = self.other_forms(&absent).await.map_err(failed)?;
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
            let file = other_forms.get(&name).cloned();
            counts.other_form += u64::from(file.is_some());
            found.push(Finding::Dangling(Dangling { name, column, key, in_trash, file }));
        }
        Ok(())
    }

    /// Files that lie under another normal form of these names: `é` as one character, or as `e` and an accent. A Mac writes one, and rows hold the other.
    async fn other_forms(&self, names: &[FileName]) -> Result<HashMap<FileName, FileName>> {
        let forms: Vec<(&FileName, FileName)> = names.iter().flat_map(|name| normal_forms(name).map(move |form| (name, form))).collect();
        let asked: Vec<FileName> = forms.iter().map(|(_, form)| form.clone()).collect();
        let mut found = HashMap::new();
        for (form, look) in forms.into_iter().zip(self.place.stat(&asked).await?) {
            if matches!(look?, Stat::File(_)) {
                found.insert(form.0.clone(), form.1);
            }
        }
        Ok(found)
    }
}

/// The other normal forms of a name: composed, and decomposed.
fn normal_forms(name: &FileName) -> impl Iterator<Item = FileName> {
    // An alias may be another path, too.
    aliases(name).into_iter().filter(move |alias| alias.as_str().nfc().eq(name.as_str().nfc()))
}

/// Orphans in groups whose names are looked for at a time: memory grows with the bytes of these.
fn parts(orphans: &[Orphan]) -> Vec<&[Orphan]> {
    let (mut parts, mut from, mut bytes) = (Vec::new(), 0, 0);
    for (at, orphan) in orphans.iter().enumerate() {
        if bytes >= BYTES {
            parts.push(&orphans[from..at]);
            (from, bytes) = (at, 0);
        }
        bytes += orphan.name.as_str().len();
    }
    if from < orphans.len() {
        parts.push(&orphans[from..]);
    }
    parts
}

/// Reads every value of what `b` binds.
pub(super) async fn each_value(side: &Side<'_>, b: &Bound, mut take: impl FnMut(&[u8])) -> Result<()> {
    let mut values = side.db.scan(&ColumnScan::of(b)).await?;
    let ended = || Error::new(Kind::Database, "a column's values ended before their last page").with("binding", &b.binding.column);
    loop {
        let page = values.pages.recv().await.ok_or_else(ended).flatten()?;
        page.values.iter().for_each(|value| take(value));
        if page.last {
            return Ok(());
        }
        // Pages that wait already would keep everything else on this thread waiting.
        tokio::task::yield_now().await;
    }
}

/// Whether values of `b` count for what they mention, and not only for what is read out of them.
fn mentions(b: &Bound) -> bool {
    b.binding.reading.is_many()
}

/// What to look for to find the rows that reference these names.
fn searches(side: &Side<'_>, names: &[FileName]) -> Vec<ColumnSearch> {
    side.here().map(|b| ColumnSearch::of_read(b, names)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_for_in_groups_of_bounded_size() {
        let orphan = |n: usize| Orphan {
            name: FileName::parse(&format!("{n:04}{}", "x".repeat(200))).unwrap(),
            size: 1,
            modified: Timestamp::UNIX_EPOCH,
        };
        let orphans: Vec<Orphan> = (0..2 * BYTES / 200).map(orphan).collect();
        let groups = parts(&orphans);
        assert!(groups.len() >= 2 && groups.iter().all(|some| some.len() <= BYTES / 204 + 1), "{}", groups.len());
        assert_eq!(groups.concat(), orphans);
        assert!(parts(&[]).is_empty());
    }

    #[test]
    fn a_path_is_no_normal_form_of_a_key() {
        let forms = |name: &str| normal_forms(&FileName::key(name).unwrap()).map(|form| form.to_string()).collect::<Vec<_>>();
        assert_eq!(forms("caf\u{e9}.jpg"), ["cafe\u{301}.jpg"]);
        assert_eq!(forms("/a//b.jpg"), [""; 0]);
        assert_eq!(forms("a.jpg"), [""; 0]);
    }
}
