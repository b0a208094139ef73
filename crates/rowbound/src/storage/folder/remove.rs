//! Files that go: into the trash, or for good.
//!
//! In: a proof, names, and what was seen under each. Out: what became of each. Promise: only what still is what was seen goes.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use rustix::{
    fd::OwnedFd,
    fs::{self, AtFlags},
    io::Errno,
};

use super::{
    Inner, Proof,
    above::Ours,
    batch::by_folder,
    prune::{Change, changed_at},
    resolve::{FileStat, again, refusal, stat},
    trash,
};
use crate::{
    crash,
    error::Result,
    name::FileName,
    storage::{FileVersion, PerName, Removed},
};

impl Inner {
    /// Into the trash, or without a `retention` for good.
    pub(super) fn take_away(
        &self,
        proof: &Proof,
        items: &[(FileName, FileVersion)],
        retention: Option<Duration>,
    ) -> Result<PerName<Removed>> {
        let root = proof.held();
        let trash = retention.map(|time| trash::make(self, root).map(|trash| (trash, time))).transpose()?;
        let ours = Ours::new(self, root);
        let changed: Mutex<BTreeMap<&str, Change>> = Mutex::default();
        let first = AtomicBool::new(true);
        let done = by_folder(
            items.len(),
            |i| items[i].0.folder().unwrap_or("."),
            |folder, group, out| {
                if let Err(e) = ours.check(folder) {
                    group.iter().for_each(|i| out(*i, Err(e.clone().with("name", &items[*i].0))));
                    return;
                }
                let dir = match self.sys.folder(root, folder) {
                    Ok(dir) => dir,
                    Err(e) => {
                        for i in group {
                            let fail = || self.failure(e, "cannot open the file's folder").with("name", &items[*i].0);
                            out(*i, gone_or_changed(e).ok_or_else(fail));
                        }
                        return;
                    }
                };
                let before = if self.prune { changed_at(&dir).ok() } else { None };
                let mut mover = trash.as_ref().map(|(trash, time)| trash::Mover::new(self, proof, trash, *time, folder));
                let mut any = false;
                for i in group {
                    let (name, seen) = &items[*i];
                    let removed = self.remove_one(&dir, name, seen, mover.as_mut());
                    if matches!(removed, Ok(Removed::Erased | Removed::Trashed(_))) {
                        any = true;
                        if first.swap(false, Relaxed) {
                            crash::point("remove-one");
                        }
                    }
                    out(*i, removed);
                }
                if any
                    && let Some(before) = before
                    && let Ok(after) = changed_at(&dir)
                {
                    // A folder's pieces are one change.
                    let mut changed = changed.lock().unwrap_or_else(PoisonError::into_inner);
                    let change = changed.entry(folder).or_insert(Change { before, after });
                    *change = Change { before: change.before.min(before), after: change.after.max(after) };
                }
            },
        );
        if self.prune {
            let changed = changed.into_inner().unwrap_or_else(PoisonError::into_inner);
            self.own.prune(&self.sys, &root.0, changed.into_iter().map(|(folder, change)| (folder.to_owned(), change)).collect());
        }
        Ok(done)
    }

    fn remove_one(&self, dir: &OwnedFd, name: &FileName, seen: &FileVersion, mover: Option<&mut trash::Mover<'_>>) -> Result<Removed> {
        let fail = |e: Errno| {
            let fail = || self.failure(e, "cannot remove the file").with("name", name);
            gone_or_changed(e).ok_or_else(fail)
        };
        let found = match stat(dir, name.base()) {
            Ok(stat) => FileStat::of(&stat),
            Err(e) => return fail(e),
        };
        if found.oddity().is_some() || found.size != seen.size || found.version() != seen.version {
            return Ok(Removed::Changed);
        }
        match mover {
            Some(mover) => mover.take(dir, name, &found),
            None => match again(|| fs::unlinkat(dir, name.base(), AtFlags::empty())) {
                Ok(()) => Ok(Removed::Erased),
                Err(Errno::ISDIR) => Ok(Removed::Changed),
                Err(e) => fail(e),
            },
        }
    }
}

/// What the kernel's answer says of a file that was seen under a name, if it says anything of the file.
fn gone_or_changed(errno: Errno) -> Option<Removed> {
    match errno {
        Errno::NOENT => Some(Removed::Missing),
        e => refusal(e).map(|_| Removed::Changed),
    }
}
