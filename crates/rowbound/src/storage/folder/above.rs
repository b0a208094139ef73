//! Where a root is: the folders above it, and the storages that lie above or below it.
//!
//! In: the root, held open. Out: device and inode of each folder above it, and the marker of a storage that stands in one of them or in a folder beneath the
//! root. Promise: a folder that a bind mount shows under another path is found on that path too, as far as this process sees the mount. Where `/proc` is
//! missing only the root's own path counts.

use std::{
    collections::HashSet,
    ffi::OsString,
    hash::{BuildHasher, RandomState},
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rustix::{
    fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    fs::{self, FileType, Mode, OFlags},
    io::Errno,
};

use super::{
    Inner, Root, marker,
    resolve::{self, Syscalls, again},
};
use crate::{
    error::{Error, Result},
    name::{FileName, RESERVED},
    storage::whereabouts::{self, Inode, Whereabouts, Within, Written},
};

/// File systems that keep a folder's inode number for ever, by `statfs(2)`: ext2 to ext4, XFS, tmpfs, F2FS. Network file systems, FUSE and overlays may number a
/// folder anew with each mount.
const NUMBERED: [u64; 4] = [0xef53, 0x5846_5342, 0x0102_1994, 0xf2f5_2010];

/// The same for Btrfs and ZFS. In a snapshot, which may lie beside the original, a folder has the same number and time of birth; the snapshot has an id of its own.
const WITH_SNAPSHOTS: [u64; 2] = [0x9123_683e, 0x2fc1_2fc1];

/// Which folder it is, on a file system of this kind (`statfs(2)`) and with this id; `None` where that does not last.
fn numbered(kind: u64, id: u64, inode: u64, born: Duration) -> Option<String> {
    let folder = format!("{inode} born {}.{:09}", born.as_secs(), born.subsec_nanos());
    match kind {
        kind if NUMBERED.contains(&kind) => Some(folder),
        kind if WITH_SNAPSHOTS.contains(&kind) => Some(format!("{folder} on {id:x}")),
        _ => None,
    }
}

impl Inner {
    /// Where the root is, and what lies above it.
    pub(super) fn whereabouts(&self, root: &Root) -> Result<Whereabouts> {
        let failed = |e| self.failure(e, "cannot look at the storage's folder");
        let own = inode(root).map_err(failed)?;
        let mut found = Whereabouts { inode: Some(own), written: self.written(root), ..Whereabouts::default() };
        climb(&self.sys, root.as_fd(), own, &mut found).map_err(failed)?;
        for alias in aliases(root, own) {
            climb(&self.sys, alias.as_fd(), own, &mut found).map_err(failed)?;
        }
        Ok(found)
    }

    /// What a marker in this root says of its place.
    fn written(&self, root: &Root) -> Written {
        let url = format!("folder:{}", path_of(root.as_fd()).unwrap_or_else(|| self.path.clone()).display());
        let folder = self.sys.open(root, RESERVED.as_bytes(), resolve::reading()).ok().and_then(|folder| {
            let kind = u64::try_from(fs::fstatfs(&folder).ok()?.f_type).ok()?;
            let id = fs::fstatvfs(&folder).ok()?.f_fsid;
            let meta = std::fs::File::from(folder).metadata().ok()?;
            let born = meta.created().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
            numbered(kind, id, std::os::unix::fs::MetadataExt::ino(&meta), born)
        });
        Written { url, folder, bucket: None }
    }

    /// The marker in a folder beneath the root, if another storage is there.
    pub(super) fn storage_in(&self, root: &Root, folder: &str) -> Result<Option<crate::storage::Marker>> {
        match self.sys.folder(root, folder) {
            Ok(folder) => marker::read(self, folder),
            Err(Errno::NOENT) => Ok(None),
            Err(e) if resolve::refusal(e).is_some() => Ok(None), // no file of this storage can be there
            Err(e) => Err(self.failure(e, "cannot look for another storage in a folder").with("folder", folder)),
        }
    }

    /// The error for a folder beneath the root in which a marker stands. One with the root's own id is a copy's (`cp -a`, a snapshot), unless the folder is the
    /// root itself, seen through a mount.
    pub(super) fn nested(&self, root: &Root, folder: &str) -> Option<Error> {
        let ours = format!("{folder}/{RESERVED}");
        // As a rule there is nothing, which one call tells.
        self.sys.folder(root, &ours).ok().filter(marker::stands_in)?;
        let id = |at: BorrowedFd<'_>| marker::contents(&self.sys, at).ok().flatten().map(|marker| marker.storage);
        let copy = self.sys.folder(root, folder).is_ok_and(|at| {
            let elsewhere = inode(root).is_ok_and(|own| inode(&at).is_ok_and(|it| it != own));
            elsewhere && id(at.as_fd()).is_some_and(|its| id(root.as_fd()) == Some(its))
        });
        let at = whereabouts::marker_in(folder);
        Some(if copy { whereabouts::holds_copy(&self.name, &at) } else { whereabouts::holds_another(&self.name, &at) })
    }

    /// Whether a listing of what begins with `prefix` has anything to list: in a copy of this storage nothing is.
    pub(super) fn lists(&self, root: &Root, prefix: &str) -> Result<bool> {
        // What is no name no storage can be in. The walk meets those further down.
        let mut folders = whereabouts::folders_to(prefix).filter(|folder| FileName::parse(folder).is_ok());
        match folders.find_map(|folder| self.nested(root, folder)) {
            None => Ok(true),
            Some(e) if whereabouts::is_copy(&e) => Ok(false),
            Some(e) => Err(e),
        }
    }
}

/// Folders of one operation that were seen to belong to this storage and no other.
pub(super) struct Ours<'a> {
    inner: &'a Inner,
    root: &'a Root,
    /// Their hashes: a name of many segments has as many folders, each nearly as long as itself.
    seen: Mutex<HashSet<u64>>,
    hasher: RandomState,
}

impl<'a> Ours<'a> {
    pub(super) fn new(inner: &'a Inner, root: &'a Root) -> Self {
        Ours { inner, root, seen: Mutex::default(), hasher: RandomState::new() }
    }

    /// Insists that no other storage, nor a copy of this one, lies in `folder` or on the way to it: its rows are not asked before a file goes.
    pub(super) fn check(&self, folder: &str) -> Result<()> {
        if folder == "." {
            return Ok(());
        }
        for end in folder.match_indices('/').map(|(at, _)| at).chain([folder.len()]) {
            let part = &folder[..end];
            let hash = self.hasher.hash_one(part);
            if self.seen.lock().unwrap_or_else(PoisonError::into_inner).contains(&hash) {
                continue;
            }
            if let Some(e) = self.inner.nested(self.root, part) {
                return Err(e);
            }
            // Where a part is missing nothing lies further down. A name that no folder can have has thousands of parts.
            if self.inner.sys.folder(self.root, part).is_err() {
                break;
            }
            self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(hash);
        }
        Ok(())
    }
}

fn inode(of: impl AsFd) -> Result<Inode, Errno> {
    let stat = fs::fstat(of)?;
    #[allow(clippy::unnecessary_cast)] // the fields' types differ between systems
    Ok((stat.st_dev as u64, stat.st_ino as u64))
}

/// Notes every folder above `from` up to `/`, and the lowest in which a marker stands.
fn climb(sys: &Syscalls, from: BorrowedFd<'_>, own: Inode, found: &mut Whereabouts) -> Result<(), Errno> {
    let mut below: Option<OwnedFd> = None;
    loop {
        let at = below.as_ref().map_or(from, AsFd::as_fd);
        let parent = match again(|| fs::openat(at, "..", above(), Mode::empty())) {
            Ok(parent) => parent,
            Err(Errno::ACCESS | Errno::PERM | Errno::NOENT) => return Ok(()), // nothing above can be seen from here
            Err(e) => return Err(e),
        };
        let here = inode(&parent)?;
        // `/` is its own parent, and two ways up meet.
        if here == own || !found.above.insert(here) {
            return Ok(());
        }
        if found.within.is_none() {
            found.within = storage_at(sys, &parent);
        }
        below = Some(parent);
    }
}

/// The storage whose root this folder is.
fn storage_at(sys: &Syscalls, folder: &OwnedFd) -> Option<Within> {
    let is_folder = |s: fs::Stat| FileType::from_raw_mode(s.st_mode).is_dir();
    if !resolve::stat(folder, RESERVED).is_ok_and(is_folder) {
        return None;
    }
    let marker = match marker::contents(sys, folder) {
        Ok(None) => return None,
        Ok(Some(marker)) => Some(marker),
        Err(_) => None, // it is another user's, or not whole
    };
    let at = path_of(folder.as_fd()).unwrap_or_else(|| PathBuf::from(".."));
    Some(Within { at: at.join(RESERVED).join(crate::storage::MARKER).display().to_string(), marker })
}

fn above() -> OFlags {
    resolve::handle() - OFlags::NOFOLLOW
}

/// The path of what is held open, as this process sees it.
fn path_of(fd: BorrowedFd<'_>) -> Option<PathBuf> {
    let path = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok()?;
    path.is_absolute().then_some(path)
}

/// The root once more, by each other path that a mount of the same file system gives it.
fn aliases(root: &Root, own: Inode) -> Vec<OwnedFd> {
    let found = || {
        let fd = root.as_fd();
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
        let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().to_owned();
        Some(other_paths(&std::fs::read("/proc/self/mountinfo").ok()?, &id, &path_of(fd)?))
    };
    let paths = found().unwrap_or_default();
    let open = |path: PathBuf| again(|| fs::open(&path, above(), Mode::empty())).ok();
    // Another mount may cover what lies there.
    paths.into_iter().filter_map(open).filter(|fd| inode(fd) == Ok(own)).collect()
}

/// The paths of what lies at `path` on the mount `id`, on all other mounts of its file system: `man 5 proc_pid_mountinfo`.
fn other_paths(mountinfo: &[u8], id: &str, path: &Path) -> Vec<PathBuf> {
    struct Mount<'a> {
        id: &'a [u8],
        device: &'a [u8],
        root: PathBuf,
        at: PathBuf,
    }
    let mounts: Vec<Mount<'_>> = mountinfo
        .split(|b| *b == b'\n')
        .filter_map(|line| {
            let mut fields = line.split(|b| *b == b' ');
            let (id, _, device) = (fields.next()?, fields.next()?, fields.next()?);
            Some(Mount { id, device, root: unescaped(fields.next()?), at: unescaped(fields.next()?) })
        })
        .collect();
    let Some(own) = mounts.iter().find(|m| m.id == id.as_bytes()) else { return Vec::new() };
    let Ok(rest) = path.strip_prefix(&own.at) else { return Vec::new() };
    let within = own.root.join(rest);
    let others = mounts.iter().filter(|m| m.device == own.device && m.id != own.id);
    others.filter_map(|m| Some(m.at.join(within.strip_prefix(&m.root).ok()?))).collect()
}

/// A field of mountinfo: blanks, tabs, line ends and backslashes are written as three octal digits.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = || (*first == b'\\').then(|| u8::from_str_radix(std::str::from_utf8(after.get(..3)?).ok()?, 8).ok()).flatten();
        match octal() {
            Some(byte) => {
                out.push(byte);
                rest = &after[3..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(out))
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

    use super::*;

    #[test]
    fn a_folder_is_found_on_every_mount_that_shows_it() {
        let mounts = b"21 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
            30 21 8:1 /srv/media/sub /mnt/x rw - ext4 /dev/sda1 rw\n\
            31 21 8:1 /srv/media /with\\040blank rw - ext4 /dev/sda1 rw\n\
            32 21 8:2 /srv/media /another rw - ext4 /dev/sdb1 rw\n\
            33 21 8:1 /home /home rw - ext4 /dev/sda1 rw\n";
        let paths = |id: &str, path: &str| other_paths(mounts, id, Path::new(path));
        assert_eq!(paths("30", "/mnt/x"), [Path::new("/srv/media/sub"), Path::new("/with blank/sub")]);
        assert_eq!(paths("21", "/srv/media/sub/deep"), [Path::new("/mnt/x/deep"), Path::new("/with blank/sub/deep")]);
        assert!(paths("32", "/another").is_empty());
        assert!(paths("99", "/mnt/x").is_empty());
        assert_eq!(unescaped(b"a\\040b\\134c\\"), Path::new(OsStr::new("a b\\c\\")));
        assert_eq!(unescaped(b"\xff\\999"), Path::new(OsStr::from_bytes(b"\xff\\999")));
    }

    #[test]
    fn a_folder_is_told_from_that_of_a_snapshot() {
        let of = |kind: u64, id: u64| numbered(kind, id, 7, Duration::new(1, 2));
        let (ext4, btrfs, zfs, bcachefs, nfs) = (0xef53, 0x9123_683e, 0x2fc1_2fc1, 0xca45_1a4e, 0x6969);
        assert_eq!(of(ext4, 1).as_deref(), Some("7 born 1.000000002"));
        assert_eq!(of(ext4, 1), of(ext4, 2), "its id may be the device's, which changes with each mount");
        for kind in [btrfs, zfs] {
            assert!(of(kind, 1).is_some() && of(kind, 1) != of(kind, 2), "{kind:x}");
        }
        for kind in [bcachefs, nfs] {
            assert_eq!(of(kind, 1), None, "{kind:x}");
        }
    }

    /// A file that comes back, or is uploaded, makes the folders that are missing.
    #[test]
    fn another_storage_is_met_before_a_folder_that_is_missing() {
        let place = tempfile::tempdir().unwrap();
        let folder = super::super::Folder::new("default", place.path(), None, false);
        let ours = place.path().join("other").join(RESERVED);
        std::fs::create_dir_all(&ours).unwrap();
        std::fs::write(ours.join(crate::storage::MARKER), "{}").unwrap();
        let inner = &folder.backend().inner;
        let root = inner.open().unwrap();
        for within in ["other", "other/missing", "other/missing/deep"] {
            let e = Ours::new(inner, &root).check(within).unwrap_err();
            assert!(whereabouts::is_nested(&e), "{within}: {}", e.full());
        }
        Ours::new(inner, &root).check("missing/other").unwrap();
        // Its parts are not all looked at, nor remembered.
        let many = Ours::new(inner, &root);
        many.check(&"a/".repeat(100_000)).unwrap();
        assert!(many.seen.lock().unwrap().len() < 2);
    }

    #[test]
    fn the_folders_above_are_known_by_their_numbers() {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(place.path().join("a/b")).unwrap();
        std::os::unix::fs::symlink("a/b", place.path().join("link")).unwrap();
        let of = |path: &Path| inode(fs::open(path, above(), Mode::empty()).unwrap()).unwrap();
        for path in ["a/b", "link", "a/../a/b"] {
            let root = Root(fs::open(place.path().join(path), above(), Mode::empty()).unwrap());
            let mut found = Whereabouts::default();
            climb(&Syscalls::new(true), root.as_fd(), inode(&root).unwrap(), &mut found).unwrap();
            for above in [Path::new("/"), place.path(), &place.path().join("a")] {
                assert!(found.above.contains(&of(above)), "{path}: {}", above.display());
            }
            assert!(!found.above.contains(&of(&place.path().join("a/b"))), "{path}");
        }
    }
}
