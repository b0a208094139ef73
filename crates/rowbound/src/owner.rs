//! Who owns what is made.
//!
//! In: a file or folder that was just made, and whose it should be. Out: it is. Promise: only what root owns changes hands, and only through a
//! handle, so that nobody can put something else under its name meanwhile. Root often runs one command (`sudo rowbound collect`) where the
//! application's user runs all others, and that user must be able to go on.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::Path,
};

use rustix::{
    fd::{AsFd, BorrowedFd},
    fs::{self, Dir, FileType, Mode, OFlags},
    io::Errno,
    path::Arg,
};

/// A user and a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    uid: u32,
    gid: u32,
}

impl Owner {
    /// Whether it is root.
    pub(crate) fn is_root(self) -> bool {
        self.uid == 0
    }

    /// Whose the file or folder behind a handle is.
    ///
    /// # Errors
    /// The kernel's.
    pub fn of(handle: impl AsFd) -> Result<Self, Errno> {
        fs::fstat(handle).map(|s| Owner { uid: s.st_uid, gid: s.st_gid })
    }

    /// Whose the file or folder at a path is; links are followed. Opens nothing: a second handle of a SQLite database would release its locks.
    ///
    /// # Errors
    /// The kernel's.
    pub fn at(path: &Path) -> io::Result<Self> {
        std::fs::metadata(path).map(|m| Owner { uid: m.uid(), gid: m.gid() })
    }
}

/// Gives `new` to `like`, if we are root and `new` is root's. Where a file system has no owners, or a container does not know this one, it stays as
/// it is.
///
/// # Errors
/// The kernel's.
pub fn give(new: impl AsFd, like: Owner) -> Result<(), Errno> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let own = Owner::of(&new)?;
    if own == like || own.uid != 0 {
        return Ok(());
    }
    match fs::fchown(&new, Some(fs::Uid::from_raw(like.uid)), Some(fs::Gid::from_raw(like.gid))) {
        Ok(()) | Err(Errno::PERM | Errno::INVAL | Errno::NOTSUP) => Ok(()),
        Err(e) => Err(e),
    }
}

/// Gives a file that was just made to the owner of the folder in which it lies.
///
/// # Errors
/// The kernel's.
pub fn give_to_folder(new: impl AsFd, path: &Path) -> io::Result<()> {
    give(new, Owner::at(folder_of(path))?).map_err(io::Error::from)
}

/// Gives what was just made, a folder with everything in it, to the owner of the folder in which it lies. Links are not followed. Everything is reached through a
/// handle on the folder in which it lies, and a folder changes hands after what is in it: whoever gets it cannot lead us elsewhere.
///
/// # Errors
/// The kernel's.
pub fn give_all_to_folder(path: &Path) -> io::Result<()> {
    let Some(name) = path.file_name() else { return Ok(()) }; // `..` and `/` were not just made
    let folder = fs::open(folder_of(path), OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    give_all(folder.as_fd(), name, Owner::of(&folder)?).map_err(io::Error::from)
}

fn give_all(folder: BorrowedFd<'_>, name: impl Arg, like: Owner) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let new = match fs::openat(folder, name, flags, Mode::empty()) {
        Err(Errno::LOOP) => return Ok(()), // a link
        opened => opened?,
    };
    if FileType::from_raw_mode(fs::fstat(&new)?.st_mode).is_dir() {
        for entry in Dir::read_from(&new)? {
            let entry = entry?;
            if ![&b"."[..], b".."].contains(&entry.file_name().to_bytes()) {
                give_all(new.as_fd(), entry.file_name(), like)?;
            }
        }
    }
    give(&new, like)
}

/// Opens a file to be read and written that nobody else may read: it tells names of files. One that is made belongs to the owner of its folder.
pub(crate) fn open_or_make(path: &Path) -> io::Result<File> {
    let mut how = OpenOptions::new();
    how.read(true).write(true).mode(0o600);
    loop {
        match how.clone().create_new(true).open(path) {
            Ok(file) => return give_to_folder(&file, path).map(|()| file),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
        match how.open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {} // it went meanwhile
            done => return done,
        }
    }
}

/// Makes a folder and those above it that nobody else may enter, each with the owner of the one above.
pub(crate) fn make_folders(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    make_folders(folder_of(path))?;
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        Err(_) if path.is_dir() => return Ok(()),
        Err(e) => return Err(e),
    }
    let flags = (OFlags::NOFOLLOW | OFlags::DIRECTORY).bits();
    give_to_folder(OpenOptions::new().read(true).custom_flags(flags as i32).open(path)?, path)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_belongs_to_the_owner_of_its_folder() {
        let place = tempfile::tempdir().unwrap();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(place.path(), Some(4242), Some(4343)).unwrap();
        }
        let owner = Owner::at(place.path()).unwrap();
        let deep = place.path().join("a/b/c");
        make_folders(&deep).unwrap();
        make_folders(&deep).unwrap();
        let file = open_or_make(&deep.join("file")).unwrap();
        assert_eq!(Owner::of(&file).unwrap(), owner);
        for (made, mode) in [("a", 0o700), ("a/b", 0o700), ("a/b/c", 0o700), ("a/b/c/file", 0o600)] {
            let made = place.path().join(made);
            assert_eq!(Owner::at(&made).unwrap(), owner, "{}", made.display());
            assert_eq!(std::fs::metadata(&made).unwrap().mode() & 0o777, mode, "{}", made.display());
        }
        // What others made is given with everything in it, and no link leads out of it.
        let tree = place.path().join("tree");
        std::fs::create_dir_all(tree.join("deep")).unwrap();
        std::fs::write(tree.join("deep/file"), "1").unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), tree.join("link")).unwrap();
        give_all_to_folder(&tree).unwrap();
        for made in ["tree", "tree/deep", "tree/deep/file"] {
            assert_eq!(Owner::at(&place.path().join(made)).unwrap(), owner, "{made}");
        }
        assert_eq!(
            Owner::at(outside.path()).unwrap(),
            Owner { uid: rustix::process::geteuid().as_raw(), gid: Owner::at(outside.path()).unwrap().gid }
        );
        // By the handle: whatever has taken the name of its folder meanwhile.
        let (was, away) = (place.path().join("was"), place.path().join("away"));
        for folder in [&was, &outside.path().join("tree")] {
            std::fs::create_dir_all(folder.join("tree")).unwrap();
        }
        let handle = fs::open(&was, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        std::fs::rename(&was, &away).unwrap();
        std::os::unix::fs::symlink(outside.path().join("tree"), &was).unwrap();
        let root = Owner::at(&outside.path().join("tree/tree")).unwrap();
        give_all(handle.as_fd(), "tree", owner).unwrap();
        assert_eq!(Owner::at(&away.join("tree")).unwrap(), owner);
        assert_eq!(Owner::at(&outside.path().join("tree/tree")).unwrap(), root);
        // What was there, and is another's, stays his.
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(deep.join("file"), Some(7), Some(7)).unwrap();
            drop(open_or_make(&deep.join("file")).unwrap());
            assert_eq!(Owner::at(&deep.join("file")).unwrap(), Owner { uid: 7, gid: 7 });
        }
    }
}
