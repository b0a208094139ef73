//! Folders that a removal left empty.
//!
//! In: folders from which files were taken. Out: those that are empty are gone, upward, never the root. Promise: only an empty folder can go
//! (the kernel refuses any other), reached through no link.
//!
//! What no file system offers is to remove a folder only if nobody is about to use it: an application that finds its folder there
//! (`mkdir -p`) and creates a file in it a moment later gets "no such file or directory" if the folder went in between. So a folder that
//! anybody else changed a moment ago is in use, and stays for now; `prune_folders = false` rules it out altogether.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Mutex,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{self, AtFlags},
    io::Errno,
};

use super::{
    resolve::{FileStat, Syscalls, again, stat},
    walk,
};
use crate::name::RESERVED;

/// A folder that somebody else changed within this time is in use.
const FRESH: Duration = Duration::from_secs(2);

/// At most so many folders are remembered; beyond that an empty folder may stay.
const MEMORY: usize = 4096;

/// At most so many that waited are tried in one go, so that a batch stays short.
const AT_ONCE: usize = 256;

/// A moment of the file system's clock, in nanoseconds since 1970.
type Moment = i128;

/// A folder from which files were taken: when somebody else last changed it, and its time after our change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change {
    pub(super) before: Moment,
    pub(super) after: Moment,
}

/// Which folders' last change was our own: without it, the second batch from a folder would take the first for somebody's use.
#[derive(Debug, Default)]
pub(super) struct Own(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    changes: HashMap<String, Change>,
    waiting: BTreeSet<String>,
}

/// When the folder behind `fd` was last changed.
pub(super) fn changed_at(fd: impl AsFd) -> Result<Moment, Errno> {
    fs::fstat(fd).map(|s| moment(&FileStat::of(&s)))
}

fn moment(found: &FileStat) -> Moment {
    Moment::from(found.mtime.0) * 1_000_000_000 + Moment::from(found.mtime.1)
}

fn fresh(moment: Moment) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(FRESH);
    moment > now.as_nanos() as Moment
}

impl Own {
    /// Keeps a change of ours, and counts it together with the one before if nobody came between.
    fn note(&self, folder: &str, mut change: Change) {
        let mut memory = self.lock();
        if let Some(last) = memory.changes.get(folder)
            && last.after == change.before
        {
            change.before = last.before;
        }
        if memory.changes.len() >= MEMORY {
            let Memory { changes, waiting } = &mut *memory;
            changes.retain(|name, change| fresh(change.after) || waiting.contains(name));
            if changes.len() >= MEMORY {
                changes.clear();
                waiting.clear();
            }
        }
        memory.changes.insert(folder.to_owned(), change);
    }

    /// When somebody else last changed the folder, whose time is `now`.
    fn others(&self, folder: &str, now: Moment) -> Moment {
        self.lock().changes.get(folder).filter(|c| c.after == now).map_or(now, |c| c.before)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Removes the folders of `changed` that are empty, and those upward; also those that had to wait and need not any more.
    pub(super) fn prune(&self, sys: &Syscalls, root: &OwnedFd, changed: Vec<(String, Change)>) {
        let mut folders: BTreeSet<String> = BTreeSet::new();
        for (folder, change) in changed {
            self.note(&folder, change);
            folders.insert(folder);
        }
        {
            let memory = self.lock();
            let due = |f: &&String| memory.changes.get(*f).is_none_or(|c| !fresh(c.before));
            folders.extend(memory.waiting.iter().filter(due).take(AT_ONCE).cloned());
        }
        // From the end, so that a folder comes after everything in it.
        for folder in folders.iter().rev() {
            self.climb(sys, root, folder);
        }
    }

    fn climb(&self, sys: &Syscalls, root: &OwnedFd, folder: &str) {
        let mut path = folder;
        while path != "." && path != RESERVED {
            let (above, base) = path.rsplit_once('/').unwrap_or((".", path));
            self.lock().waiting.remove(path);
            // Whatever cannot be reached or removed stays: an empty folder too many is no harm.
            let Ok(parent) = sys.folder(root, above) else { return };
            match stat(&parent, base) {
                Ok(now) if fresh(self.others(path, moment(&FileStat::of(&now)))) => {
                    self.lock().waiting.insert(path.to_owned());
                    return;
                }
                Ok(_) | Err(Errno::NOENT) => {}
                Err(_) => return,
            }
            let Ok(before) = changed_at(&parent) else { return };
            match again(|| fs::unlinkat(&parent, base, AtFlags::REMOVEDIR)) {
                Ok(()) => {
                    self.lock().changes.remove(path);
                    if let Ok(after) = changed_at(&parent) {
                        self.note(above, Change { before, after });
                    }
                }
                // Somebody was quicker; the one above may be empty for it.
                Err(Errno::NOENT) => {}
                Err(_) => return,
            }
            path = above;
        }
    }
}

/// Removes the folder at `path` and those above it as long as they are empty, but not `at`. Nobody else's, so nothing is waited for.
pub(super) fn upward(sys: &Syscalls, at: &OwnedFd, path: &str) {
    let mut path = path;
    while path != "." {
        let (above, base) = path.rsplit_once('/').unwrap_or((".", path));
        let Ok(parent) = sys.folder(at, above) else { return };
        match again(|| fs::unlinkat(&parent, base, AtFlags::REMOVEDIR)) {
            Ok(()) | Err(Errno::NOENT) => path = above,
            Err(_) => return,
        }
    }
}

/// Removes every folder beneath `at` that holds nothing, or only such folders. Leaves what it may not remove.
pub(super) fn empty_folders(sys: &Syscalls, at: &OwnedFd) -> Result<(), Errno> {
    let mut open = vec![String::from(".")];
    let mut all = Vec::new();
    while let Some(folder) = open.pop() {
        let fd = match sys.folder(at, &folder) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => continue,
            Err(e) => return Err(e),
        };
        for name in walk::folders(sys, &fd)? {
            open.push(if folder == "." { name } else { format!("{folder}/{name}") });
        }
        all.push(folder);
    }
    all.sort_unstable();
    // From the end, so that a folder comes after everything in it. Upward from each would ask the same again.
    for folder in all.iter().rev().filter(|f| *f != ".") {
        let (above, base) = folder.rsplit_once('/').unwrap_or((".", folder));
        if let Ok(parent) = sys.folder(at, above) {
            let _ = again(|| fs::unlinkat(&parent, base, AtFlags::REMOVEDIR));
        }
    }
    Ok(())
}
