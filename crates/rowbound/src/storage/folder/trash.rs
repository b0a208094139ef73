//! The trash: `.rowbound/trash/<bucket>/<name>`.
//!
//! In: files as they were seen. Out: places, and files that come back or are erased. Promise: the folders say everything; no other record is
//! needed to list, restore or purge. A bucket is named after the moment at which it closes, so that "since when, at the latest" stands in the
//! name and stays true when the retention is changed.

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{self, AtFlags},
    io::Errno,
};

use super::{
    Inner, Proof, Root,
    above::Ours,
    by_folder, marker,
    prune::{empty_folders, upward},
    resolve::{self, FileStat, again, refusal, stat},
    walk::{self, Entry, Walk},
};
use crate::{
    crash,
    error::{Error, Kind, Result, Retry},
    name::{FileName, RESERVED},
    owner::{self, Owner},
    storage::{Expired, PerName, Removed, Restored, Trashed},
};

/// The trash's folder in [`RESERVED`].
pub(super) const TRASH: &str = "trash";

/// A bucket spans at most so many seconds, and at most a quarter of the retention.
const LONGEST: u64 = 3600;

/// At most so many files of one name in one bucket.
const VERSIONS: u32 = 1000;

/// At most so many tries to move into a folder that somebody else keeps tidying away.
const TRIES: u32 = 8;

/// A folder of the trash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Bucket {
    /// When it closes, in whole seconds.
    end: Timestamp,
    /// Which one of those that close then: a second file of the same name needs a bucket of its own.
    nth: u32,
}

impl Bucket {
    /// The one that is open at a moment.
    fn at(now: Timestamp, retention: Duration) -> Self {
        let span = (retention.as_secs() / 4).clamp(1, LONGEST) as i64;
        let end = (now.as_second().div_euclid(span) + 1) * span;
        Bucket { end: Timestamp::from_second(end).unwrap_or(Timestamp::MAX), nth: 0 }
    }

    fn parse(text: &str) -> Option<Self> {
        let (time, nth) = text.split_once('.').map_or((text, Some(0)), |(time, nth)| (time, nth.parse().ok()));
        let digits = |from: usize, to: usize| time.get(from..to).and_then(|d| d.parse::<i16>().ok());
        let (month, day) = (digits(4, 6)? as i8, digits(6, 8)? as i8);
        let (hour, minute, second) = (digits(9, 11)? as i8, digits(11, 13)? as i8, digits(13, 15)? as i8);
        let civil = DateTime::new(digits(0, 4)?, month, day, hour, minute, second, 0).ok()?;
        let bucket = Bucket { end: civil.to_zoned(TimeZone::UTC).ok()?.timestamp(), nth: nth? };
        // One spelling for one bucket.
        (bucket.to_string() == text).then_some(bucket)
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = TimeZone::UTC.to_datetime(self.end);
        write!(f, "{:04}{:02}{:02}T{:02}{:02}{:02}Z", t.year(), t.month(), t.day(), t.hour(), t.minute(), t.second())?;
        if self.nth > 0 { write!(f, ".{}", self.nth) } else { Ok(()) }
    }
}

/// `<bucket>/<name>`, taken apart. Places come back out of a ledger: nothing is believed.
fn place(item: &Trashed) -> Result<&str> {
    let (bucket, name) = item.place.split_once('/').unwrap_or(("", ""));
    if Bucket::parse(bucket).is_none() || name != item.name.as_str() {
        return Err(Error::new(Kind::Storage, "this is no place in the trash of a folder")
            .with("name", &item.name)
            .with("place", format_args!("{:?}", item.place))
            .hint("nothing was touched; `rowbound restore` finds a file by its name"));
    }
    Ok(bucket)
}

/// Folder of a place within the trash.
fn folder_of(place: &str) -> &str {
    place.rsplit_once('/').map_or(".", |(folder, _)| folder)
}

/// Moves the files of one folder into the trash.
pub(super) struct Mover<'a> {
    inner: &'a Inner,
    proof: &'a Proof,
    trash: &'a OwnedFd,
    retention: Duration,
    folder: &'a str,
    /// Where the last file went.
    open: Option<(Bucket, OwnedFd)>,
    /// The first bucket of a moment in which we may work.
    first: u32,
}

impl<'a> Mover<'a> {
    pub(super) fn new(inner: &'a Inner, proof: &'a Proof, trash: &'a OwnedFd, retention: Duration, folder: &'a str) -> Self {
        Mover { inner, proof, trash, retention, folder, open: None, first: 0 }
    }

    /// Moves `name`, which lies in `dir` and was found to be `seen` a moment ago.
    pub(super) fn take(&mut self, dir: &OwnedFd, name: &FileName, seen: &FileStat) -> Result<Removed> {
        let inner = self.inner;
        let fail = |e: Errno| inner.failure(e, "cannot move the file to the trash").with("name", name);
        let (mut nth, mut tries) = (self.first, 0);
        loop {
            let bucket = match self.open_bucket(nth) {
                Ok(bucket) => bucket,
                Err(Errno::ACCESS | Errno::PERM) if nth < VERSIONS && self.shut(nth) => {
                    nth += 1; // another user's bucket
                    self.first = nth;
                    continue;
                }
                Err(Errno::NOTDIR | Errno::LOOP | Errno::EXIST) if nth < VERSIONS => {
                    nth += 1; // a file of the trash has the name of one of our folders
                    continue;
                }
                Err(e) => return Err(fail(e)),
            };
            let Some((_, to)) = &self.open else { return Err(fail(Errno::BADF)) };
            match inner.sys.move_into_trash(dir, name.base(), to) {
                Ok(()) => return self.verify(dir, name, seen, bucket, to),
                Err(Errno::EXIST) if nth < VERSIONS => nth += 1,
                Err(Errno::ACCESS | Errno::PERM) if nth < VERSIONS && self.shut(nth) => {
                    nth += 1;
                    self.first = nth;
                }
                Err(Errno::INVAL) if tries < TRIES => tries += 1, // the next try goes another way
                Err(Errno::NOENT) => match stat(dir, name.base()) {
                    Err(Errno::NOENT) => return Ok(Removed::Missing),
                    Err(e) => return Err(fail(e)),
                    Ok(_) if tries < TRIES => {
                        tries += 1; // our folder in the trash was empty and was tidied away
                        self.open = None;
                    }
                    Ok(_) => return Err(fail(Errno::NOENT).retry(Retry::Later)),
                },
                Err(Errno::EXIST) => {
                    return Err(inner
                        .error(Kind::Storage, "too many files of this name are in the trash")
                        .with("name", name)
                        .retry(Retry::Later));
                }
                Err(Errno::ISDIR) => return Ok(Removed::Changed),
                Err(e) => return Err(fail(e)),
            }
        }
    }

    /// What was moved must be what was seen; anything else goes back at once.
    fn verify(&self, dir: &OwnedFd, name: &FileName, seen: &FileStat, bucket: Bucket, to: &OwnedFd) -> Result<Removed> {
        let place = format!("{bucket}/{name}");
        let moved = stat(to, name.base()).map(|s| FileStat::of(&s));
        if moved.as_ref().is_ok_and(|moved| moved.is(seen)) {
            return Ok(Removed::Trashed(place));
        }
        let back = match self.inner.sys.move_out_of_trash(to, name.base(), dir) {
            // The folder it lay in is gone: make it again.
            Err(Errno::NOENT) => folder_for(self.inner, self.proof.held(), self.folder)
                .and_then(|dir| self.inner.sys.move_out_of_trash(to, name.base(), &dir)),
            done => done,
        };
        match back {
            Ok(()) => Ok(Removed::Changed),
            Err(e) => Err(self
                .inner
                .failure(e, "the file was replaced while it was moved, and could not be put back")
                .with("name", name)
                .with("now at", self.inner.path.join(RESERVED).join(TRASH).join(&place).display())
                .hint(format!("look at both files, then run `rowbound restore {name}` or leave the one in the trash"))),
        }
    }

    /// The nth bucket of this moment.
    fn bucket(&self, nth: u32) -> Bucket {
        let mut bucket = Bucket::at(self.proof.stamp(), self.retention);
        // Where a rename could replace, this process has buckets that no other process uses.
        bucket.nth = if self.inner.sys.noreplace() { nth } else { self.inner.private.saturating_add(nth) };
        bucket
    }

    /// The folder of our files in a bucket.
    fn path_in(&self, bucket: Bucket) -> String {
        if self.folder == "." { bucket.to_string() } else { format!("{bucket}/{}", self.folder) }
    }

    /// Whether the nth bucket is there, and we may not put a file into our folder in it: a process of another user has made it.
    fn shut(&self, nth: u32) -> bool {
        let bucket = self.bucket(nth);
        let work = fs::Access::WRITE_OK | fs::Access::EXEC_OK;
        let denied = || again(|| fs::accessat(self.trash, self.path_in(bucket).as_str(), work, AtFlags::EACCESS)) == Err(Errno::ACCESS);
        stat(self.trash, bucket.to_string().as_str()).is_ok() && denied()
    }

    /// Opens the folder for the nth file of a name in the bucket of this moment.
    fn open_bucket(&mut self, nth: u32) -> Result<Bucket, Errno> {
        let bucket = self.bucket(nth);
        if self.open.as_ref().is_none_or(|(open, _)| *open != bucket) {
            let path = self.path_in(bucket);
            let mut tries = 0;
            let fd = loop {
                match self.inner.sys.make(self.trash, &path, &|parent, new| marker::adopt(parent, new, None)) {
                    Err(Errno::NOENT) if tries < TRIES => tries += 1, // tidied away between two steps
                    done => break done?,
                }
            };
            self.open = Some((bucket, fd));
        }
        Ok(bucket)
    }
}

/// The trash's folder, made if missing.
pub(super) fn make(inner: &Inner, root: &Root) -> Result<OwnedFd> {
    inner
        .sys
        .make(root, &format!("{RESERVED}/{TRASH}"), &|parent, new| marker::adopt(parent, new, None))
        .map_err(|e| inner.failure(e, "cannot open the trash"))
}

/// The trash's folder, or `None` if nothing ever went there.
fn open(inner: &Inner, root: &Root) -> Result<Option<OwnedFd>> {
    match inner.sys.folder(root, &format!("{RESERVED}/{TRASH}")) {
        Ok(trash) => Ok(Some(trash)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(inner.failure(e, "cannot open the trash")),
    }
}

/// All buckets, the oldest first. What is not ours is left alone.
fn buckets(inner: &Inner, trash: &OwnedFd) -> Result<Vec<Bucket>> {
    let names = walk::folders(&inner.sys, trash).map_err(|e| inner.failure(e, "cannot read the trash"))?;
    let mut buckets: Vec<_> = names.iter().filter_map(|name| Bucket::parse(name)).collect();
    buckets.sort_unstable();
    Ok(buckets)
}

/// A folder among the application's files, made again with its parent's mode and owner if it is gone.
fn folder_for(inner: &Inner, root: &Root, folder: &str) -> Result<OwnedFd, Errno> {
    inner.sys.make(root, folder, &|parent, new| {
        let mode =
            fs::Mode::from_raw_mode(fs::fstat(parent)?.st_mode) & (fs::Mode::RWXU | fs::Mode::RWXG | fs::Mode::RWXO | fs::Mode::SGID);
        marker::adopt(parent, new, Some(mode))
    })
}

/// When it was moved, where to, and its size.
type Version = ((i64, i64), Bucket, u64);

/// The latest version of each name.
pub(super) fn trashed(inner: &Inner, root: &Root, names: &[FileName]) -> Result<PerName<Option<Trashed>>> {
    let Some(trash) = open(inner, root)? else { return Ok(names.iter().map(|_| Ok(None)).collect()) };
    let buckets = buckets(inner, &trash)?;
    let found = by_folder(
        names.len(),
        |i| names[i].folder().unwrap_or("."),
        |folder, group, out| {
            // The change time is when it was moved; buckets of another retention do not close in the order in which they were filled.
            let mut latest: Vec<Result<Option<Version>, (Errno, String)>> = group.iter().map(|_| Ok(None)).collect();
            for bucket in &buckets {
                let at = if folder == "." { bucket.to_string() } else { format!("{bucket}/{folder}") };
                let dir = match inner.sys.folder(&trash, &at) {
                    Ok(dir) => dir,
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG) => continue,
                    Err(e) => {
                        latest.fill(Err((e, at)));
                        break;
                    }
                };
                for (latest, i) in latest.iter_mut().zip(group) {
                    match stat(&dir, names[*i].base()).map(|s| FileStat::of(&s)) {
                        Ok(found) if found.oddity().is_none() => {
                            if let Ok(before) = latest
                                && before.is_none_or(|(time, ..)| time <= found.ctime)
                            {
                                *before = Some((found.ctime, *bucket, found.size));
                            }
                        }
                        Ok(_) | Err(Errno::NOENT | Errno::NAMETOOLONG) => {}
                        Err(e) => *latest = Err((e, at.clone())),
                    }
                }
            }
            for (latest, i) in latest.into_iter().zip(group) {
                let name = &names[*i];
                out(
                    *i,
                    latest.map_err(|(e, at)| denied(inner, &trash, &at, e, "cannot look into the trash").with("name", name)).map(|found| {
                        found.map(|(_, bucket, size)| Trashed {
                            name: name.clone(),
                            place: format!("{bucket}/{name}"),
                            at: bucket.end,
                            size,
                        })
                    }),
                );
            }
        },
    );
    Ok(found)
}

/// A page of the files of buckets that closed before `before`, the oldest bucket first; `after` is the place of the last one of an earlier page.
pub(super) fn expired(inner: &Inner, root: &Root, before: Timestamp, after: Option<&str>, limit: usize) -> Result<Expired> {
    let mut page = Expired::default();
    let Some(trash) = open(inner, root)? else { return Ok(page) };
    let all = buckets(inner, &trash)?;
    give_back(inner, &trash, &all, &mut page);
    let after = after.and_then(|place| place.split_once('/')).and_then(|(bucket, name)| Some((Bucket::parse(bucket)?, name)));
    for bucket in all.into_iter().filter(|b| b.end < before && after.is_none_or(|(last, _)| *b >= last)) {
        if page.files.len() >= limit {
            break;
        }
        let from = after.filter(|(last, _)| *last == bucket).map_or("", |(_, name)| name);
        of_bucket(inner, &trash, bucket, from, limit, &mut page);
    }
    if page.files.len() >= limit {
        page.next = page.files.last().map(|last| last.place.clone());
    }
    Ok(page)
}

/// The files of a bucket from the name `after` on.
fn of_bucket(inner: &Inner, trash: &OwnedFd, bucket: Bucket, after: &str, limit: usize, page: &mut Expired) {
    let fail = |e: Errno, path: &str| {
        let at = if path.is_empty() { bucket.to_string() } else { format!("{bucket}/{path}") };
        denied(inner, trash, &at, e, "cannot read a part of the trash")
    };
    let fd = match inner.sys.folder(trash, &bucket.to_string()) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return,
        Err(e) => return page.cannot(fail(e, "")),
    };
    let mut walk = match Walk::begin(&inner.sys, &fd, false, after.as_bytes().to_vec()) {
        Ok(walk) => walk,
        Err(walk::Stuck(_, Errno::NOENT)) => return,
        Err(walk::Stuck(_, e)) => return page.cannot(fail(e, "")),
    };
    let (mut any, mut open): (bool, Option<(String, OwnedFd)>) = (false, None);
    loop {
        let entry = match walk.next() {
            Ok(Some(entry)) => entry,
            Ok(None) => break,
            // The walk goes on beside the folder that it could not read.
            Err(walk::Stuck(path, e)) => {
                any = true;
                page.cannot(fail(e, path.trim_end_matches('/')));
                continue;
            }
        };
        any = true;
        // Nothing but plain files comes here by us; what somebody else put here is not ours to erase.
        let (Entry::File, Ok(name)) = (entry, FileName::from_bytes(walk.path())) else { continue };
        if page.files.len() >= limit {
            return;
        }
        let folder = name.folder().unwrap_or(".");
        if open.as_ref().is_none_or(|(path, _)| path != folder) {
            open = match inner.sys.folder(&fd, folder) {
                Ok(dir) => Some((folder.to_owned(), dir)),
                Err(Errno::NOENT) => continue, // restored or purged by somebody else meanwhile
                Err(e) => {
                    page.cannot(fail(e, folder));
                    continue;
                }
            };
        }
        let Some((_, dir)) = &open else { continue };
        match stat(dir, name.base()) {
            Ok(stat) => {
                let size = FileStat::of(&stat).size;
                page.files.push(Trashed { place: format!("{bucket}/{name}"), name, at: bucket.end, size });
            }
            Err(Errno::NOENT) => {}
            // Its folder may be read, but not entered.
            Err(e) => page.cannot(fail(e, folder).with("name", &name)),
        }
    }
    if !any {
        // A purge that was killed left the folders.
        if let Err(e) = empty_folders(&inner.sys, &fd) {
            page.cannot(fail(e, ""));
        }
        upward(&inner.sys, trash, &bucket.to_string());
    }
}

/// As root, gives the trash's folders that root owns to the owner of the trash, once: an earlier version, run as root, left them so.
fn give_back(inner: &Inner, trash: &OwnedFd, buckets: &[Bucket], page: &mut Expired) {
    if !rustix::process::geteuid().is_root() || inner.given_back.swap(true, Relaxed) {
        return;
    }
    let Some(owner) = Owner::of(trash).ok().filter(|owner| !owner.is_root()) else { return };
    let mut folders: Vec<String> = buckets.iter().map(Bucket::to_string).collect();
    while let Some(folder) = folders.pop() {
        let given = inner.sys.open(trash, folder.as_bytes(), resolve::reading()).and_then(|fd| {
            folders.extend(walk::folders(&inner.sys, &fd)?.into_iter().map(|name| format!("{folder}/{name}")));
            owner::give(&fd, owner)
        });
        match given {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(e) => page.cannot(denied(inner, trash, &folder, e, "cannot give a folder of the trash to the trash's owner")),
        }
    }
}

/// The error of what lies at `path` in the trash. Where another user owns it, the hint is the command that gives it to ours.
fn denied(inner: &Inner, trash: &OwnedFd, path: &str, errno: Errno, message: &str) -> Error {
    let full = inner.path.join(RESERVED).join(TRASH).join(path);
    let error = inner.failure(errno, message).with("folder", full.display());
    if !matches!(errno, Errno::ACCESS | Errno::PERM) {
        return error;
    }
    let own = rustix::process::geteuid().as_raw();
    let mut above = path;
    while !above.is_empty() {
        if let Ok(found) = stat(trash, above)
            && found.st_uid != own
        {
            let folder = inner.path.join(RESERVED).join(TRASH).join(above.split('/').next().unwrap_or(above));
            return error.hint(format!("it belongs to uid {}, rowbound runs as uid {own}: sudo chown -R {own} {folder:?}", found.st_uid));
        }
        above = above.rsplit_once('/').map_or("", |(above, _)| above);
    }
    error.hint(format!("let its owner, uid {own}, work in it: chmod -R u+rwX {full:?}"))
}

/// Brings files back, never over another.
pub(super) fn restore(inner: &Inner, root: &Root, items: &[Trashed]) -> Result<PerName<Restored>> {
    let Some(trash) = open(inner, root)? else { return Ok(items.iter().map(|_| Ok(Restored::Missing)).collect()) };
    let ours = Ours::new(inner, root);
    let one = |item: &Trashed| -> Result<Restored> {
        ours.check(item.name.folder().unwrap_or(".")).map_err(|e| e.with("name", &item.name))?;
        let fail = |e: Errno| inner.failure(e, "cannot bring the file back").with("name", &item.name).with("place", &item.place);
        place(item)?;
        let from = match inner.sys.folder(&trash, folder_of(&item.place)) {
            Ok(from) => from,
            Err(Errno::NOENT) => return Ok(Restored::Missing),
            Err(e) => return Err(fail(e)),
        };
        match plain(&from, item.name.base()) {
            Ok(true) => {}
            Ok(false) => return Ok(Restored::Missing),
            Err(e) => return Err(fail(e)),
        }
        let back = || {
            let to = folder_for(inner, root, item.name.folder().unwrap_or("."))?;
            inner.sys.move_out_of_trash(&from, item.name.base(), &to)
        };
        let mut done = back();
        if done == Err(Errno::NOENT) && plain(&from, item.name.base()) == Ok(true) {
            done = back(); // its folder was pruned between the two steps
        }
        match done {
            Ok(()) => Ok(Restored::Back),
            Err(Errno::EXIST) => Ok(Restored::Occupied),
            Err(Errno::NOENT) if plain(&from, item.name.base()) == Ok(false) => Ok(Restored::Missing),
            Err(e) => Err(match refusal(e) {
                Some(why) => fail(e).hint(format!("{why}: nothing was moved; clear the way and restore it again")),
                None => fail(e),
            }),
        }
    };
    let done = items.iter().map(one).collect();
    tidy(inner, &trash, items);
    Ok(done)
}

/// Whether a plain file is there. Anything else is not ours to touch.
fn plain(at: &OwnedFd, base: &str) -> Result<bool, Errno> {
    match stat(at, base).map(|s| FileStat::of(&s)) {
        Ok(found) if found.oddity().is_none() => Ok(true),
        Ok(_) => Err(Errno::INVAL),
        Err(Errno::NOENT) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Erases files of the trash.
pub(super) fn purge(inner: &Inner, root: &Root, items: &[Trashed]) -> Result<PerName<bool>> {
    let Some(trash) = open(inner, root)? else { return Ok(items.iter().map(|_| Ok(false)).collect()) };
    let first = AtomicBool::new(true);
    let done = by_folder(
        items.len(),
        |i| folder_of(&items[i].place),
        |folder, group, out| {
            let mut dir = None;
            for i in group {
                let item = &items[*i];
                let fail = |e: Errno| {
                    denied(inner, &trash, folder, e, "cannot erase the file from the trash")
                        .with("name", &item.name)
                        .with("place", &item.place)
                };
                let mut one = || {
                    place(item)?;
                    // Not before a place of this group was found to be one.
                    let dir = match dir.get_or_insert_with(|| inner.sys.folder(&trash, folder)) {
                        Ok(dir) => dir,
                        Err(Errno::NOENT) => return Ok(false),
                        Err(e) => return Err(fail(*e)),
                    };
                    match plain(dir, item.name.base()) {
                        Ok(true) => {}
                        Ok(false) => return Ok(false),
                        Err(e) => return Err(fail(e)),
                    }
                    match again(|| fs::unlinkat(dir.as_fd(), item.name.base(), AtFlags::empty())) {
                        Ok(()) => {
                            if first.swap(false, Relaxed) {
                                crash::point("purge-one");
                            }
                            Ok(true)
                        }
                        Err(Errno::NOENT) => Ok(false),
                        Err(e) => Err(fail(e)),
                    }
                };
                out(*i, one());
            }
        },
    );
    tidy(inner, &trash, items);
    Ok(done)
}

/// Removes the folders of the trash that are empty now, buckets too.
fn tidy(inner: &Inner, trash: &OwnedFd, items: &[Trashed]) {
    let mut folders: Vec<&str> = items.iter().filter(|item| place(item).is_ok()).map(|item| folder_of(&item.place)).collect();
    folders.sort_unstable();
    folders.dedup();
    for folder in folders.into_iter().rev() {
        upward(&inner.sys, trash, folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_has_one_spelling() {
        for text in ["20261121T033000Z", "20261121T033000Z.1", "20261121T033000Z.1000", "19700101T000000Z"] {
            assert_eq!(Bucket::parse(text).map(|b| b.to_string()).as_deref(), Some(text));
        }
        for text in [
            "",
            "x",
            "20261121T033000",
            "20261121T033000Z.0",
            "20261121T033000Z.01",
            "20261121T033000Z.",
            "20261121T033000Z.-1",
            "20261321T033000Z",
            "20261121T033060Z",
            "+0261121T033000Z",
            "20261121 033000Z",
            "20261121T033000Zx",
            "..",
            "2026é121T033000Z",
        ] {
            assert_eq!(Bucket::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_bucket_closes_within_a_quarter_of_the_retention() {
        for (retention, longest) in [(1, 1), (10, 2), (86_400, 3600), (31_536_000, 3600)] {
            let before = Timestamp::now();
            let bucket = Bucket::at(before, Duration::from_secs(retention));
            let left = bucket.end.as_second() - before.as_second();
            assert!((1..=longest + 1).contains(&left), "{retention}: {left}");
            assert_eq!(Bucket::parse(&bucket.to_string()), Some(bucket));
        }
        assert!(Bucket::parse("20261121T033000Z").unwrap() < Bucket::parse("20261121T033000Z.2").unwrap());
    }
}
