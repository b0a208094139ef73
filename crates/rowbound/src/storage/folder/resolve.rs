//! Paths beneath a folder that is held open.
//!
//! In: a handle and a checked path. Out: a handle, or the kernel's answer. Promise: no symbolic link is followed on the way, not even one
//! that is put there while we look, so whatever a handle reaches lies beneath the folder it was asked of.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use jiff::Timestamp;
use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{self, AtFlags, FileType, Mode, OFlags},
    io::Errno,
};

use crate::storage::{Content, FileVersion, Since};

/// The longest stretch of a path given to the kernel at once, in bytes. Linux takes 4095; a folder may lie deeper.
const STRETCH: usize = 3500;

/// System calls, and which of them the kernel and the file system have: found out by trying.
#[derive(Debug)]
pub(super) struct Syscalls {
    /// `openat2`: Linux 5.6, and no seccomp filter that refuses it.
    beneath: AtomicBool,
    /// `RENAME_NOREPLACE`: most local file systems, not NFS.
    noreplace: AtomicBool,
    /// `O_TMPFILE`, and a `/proc` through which such a file gets its name: most local file systems, not NFS.
    nameless: AtomicBool,
    /// Held between looking whether a place is free and moving a file there, where one call cannot do both.
    placing: Mutex<()>,
}

impl Syscalls {
    pub(super) fn new(all: bool) -> Self {
        Syscalls {
            beneath: AtomicBool::new(all && cfg!(target_os = "linux")),
            noreplace: AtomicBool::new(all),
            nameless: AtomicBool::new(all && std::path::Path::new("/proc/self/fd").exists()),
            placing: Mutex::new(()),
        }
    }

    /// Whether a file can be without a name.
    #[cfg(target_os = "linux")]
    pub(super) fn nameless(&self) -> bool {
        self.nameless.load(Relaxed)
    }

    /// It turned out that it cannot.
    #[cfg(target_os = "linux")]
    pub(super) fn no_nameless(&self) {
        self.nameless.store(false, Relaxed);
    }

    /// Whether a rename can refuse to replace; while this holds, [`Syscalls::move_into_trash`] is atomic.
    pub(super) fn noreplace(&self) -> bool {
        self.noreplace.load(Relaxed)
    }

    /// A handle on a folder, good for reaching what is in it. `.` is `at` itself.
    pub(super) fn folder(&self, at: impl AsFd, path: &str) -> Result<OwnedFd, Errno> {
        self.open(at, path.as_bytes(), handle())
    }

    /// Opens what lies at `path` beneath `at`. [`Errno::LOOP`]: a part of the path is a symbolic link; [`Errno::NOTDIR`]: a part that must
    /// be a folder is something else.
    pub(super) fn open(&self, at: impl AsFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let (mut held, mut rest): (Option<OwnedFd>, _) = (None, path);
        while rest.len() > STRETCH {
            let cut = rest[..STRETCH].iter().rposition(|b| *b == b'/').ok_or(Errno::NAMETOOLONG)?;
            held = Some(self.once(held.as_ref().map_or(at.as_fd(), AsFd::as_fd), &rest[..cut], handle())?);
            rest = &rest[cut + 1..];
        }
        self.once(held.as_ref().map_or(at.as_fd(), AsFd::as_fd), rest, flags)
    }

    fn once(&self, at: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        #[cfg(target_os = "linux")]
        if self.beneath.load(Relaxed) {
            use fs::ResolveFlags as R;
            match again(|| fs::openat2(at, path, flags, Mode::empty(), R::BENEATH | R::NO_SYMLINKS | R::NO_MAGICLINKS)) {
                Err(Errno::NOSYS) => self.beneath.store(false, Relaxed),
                // PERM: a seccomp filter that does not know the call, or a true refusal. NOTDIR: a file, or a link at the end. The slow way tells.
                Err(Errno::PERM | Errno::NOTDIR) => {}
                done => return done,
            }
        }
        step_by_step(at, path, flags)
    }

    /// The folder at `path`, made where it is missing. `new` is asked for every folder that was made: parent, then folder.
    pub(super) fn make(
        &self,
        at: impl AsFd,
        path: &str,
        new: &dyn Fn(BorrowedFd<'_>, BorrowedFd<'_>) -> Result<(), Errno>,
    ) -> Result<OwnedFd, Errno> {
        match self.folder(&at, path) {
            Err(Errno::NOENT) => {}
            done => return done,
        }
        let mut held: Option<OwnedFd> = None;
        for part in path.split('/') {
            let parent = held.as_ref().map_or(at.as_fd(), AsFd::as_fd);
            let made = match again(|| fs::mkdirat(parent, part, Mode::RWXU)) {
                Ok(()) => true,
                Err(Errno::EXIST) => false,
                Err(e) => return Err(e),
            };
            let next = if made {
                // Readable, unlike a mere handle: owner and mode can be set through it.
                let next = self.open(parent, part.as_bytes(), reading())?;
                new(parent, next.as_fd())?;
                next
            } else {
                self.folder(parent, part)?
            };
            held = Some(next);
        }
        held.ok_or(Errno::INVAL)
    }

    /// Moves a file to where nothing is. [`Errno::EXIST`] if something is; [`Errno::INVAL`] if the file system turned out not to know how:
    /// then the next call goes a way that is only safe in a folder that no other process uses, see [`Syscalls::noreplace`].
    pub(super) fn move_into_trash(&self, from: impl AsFd, name: &str, to: impl AsFd) -> Result<(), Errno> {
        if self.noreplace() {
            return match rename_noreplace(from, name, to) {
                Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                    self.noreplace.store(false, Relaxed);
                    Err(Errno::INVAL)
                }
                done => done,
            };
        }
        let _placing = self.placing.lock().unwrap_or_else(PoisonError::into_inner);
        match stat(&to, name) {
            Ok(_) => Err(Errno::EXIST),
            Err(Errno::NOENT) => again(|| fs::renameat(&from, name, &to, name)),
            Err(e) => Err(e),
        }
    }

    /// Moves a file out of the trash to where nothing is; [`Errno::EXIST`] if something is. Never replaces, whatever the file system.
    pub(super) fn move_out_of_trash(&self, from: impl AsFd, name: &str, to: impl AsFd) -> Result<(), Errno> {
        if self.noreplace() {
            match rename_noreplace(&from, name, &to) {
                Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => self.noreplace.store(false, Relaxed),
                done => return done,
            }
        }
        // A hard link is refused where anything is. Killed after it, the file has two names, and the next try removes the one in the trash.
        match again(|| fs::linkat(&from, name, &to, name, AtFlags::empty())) {
            Err(Errno::EXIST) if FileStat::of(&stat(&from, name)?).is(&FileStat::of(&stat(&to, name)?)) => {}
            done => done?,
        }
        again(|| fs::unlinkat(&from, name, AtFlags::empty()))
    }
}

fn rename_noreplace(from: impl AsFd, name: &str, to: impl AsFd) -> Result<(), Errno> {
    again(|| fs::renameat_with(&from, name, &to, name, fs::RenameFlags::NOREPLACE))
}

/// How a folder is opened to reach what is in it.
pub(super) fn handle() -> OFlags {
    #[cfg(target_os = "linux")]
    return OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    #[cfg(not(target_os = "linux"))]
    reading()
}

/// How a folder is opened to be read or made durable.
pub(super) fn reading() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

/// The way without `openat2`: every part is opened for itself, none through a link.
fn step_by_step(at: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let mut held: Option<OwnedFd> = None;
    let mut parts = path.split(|b| *b == b'/').peekable();
    while let Some(part) = parts.next() {
        let parent = held.as_ref().map_or(at, AsFd::as_fd);
        let flags = if parts.peek().is_some() { handle() } else { flags | OFlags::NOFOLLOW };
        held = Some(again(|| fs::openat(parent, part, flags, Mode::empty())).map_err(|e| {
            // With O_DIRECTORY a link answers ENOTDIR: say what it is.
            let link = e == Errno::NOTDIR && stat(parent, part).is_ok_and(|s| FileType::from_raw_mode(s.st_mode).is_symlink());
            if link { Errno::LOOP } else { e }
        })?);
    }
    held.ok_or(Errno::NOENT)
}

/// Repeats what a signal interrupted.
pub(super) fn again<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            done => return done,
        }
    }
}

/// What lies under `name`, a link itself and not what it points to.
pub(super) fn stat<P: rustix::path::Arg + Copy>(at: impl AsFd, name: P) -> Result<fs::Stat, Errno> {
    again(|| fs::statat(&at, name, AtFlags::SYMLINK_NOFOLLOW))
}

/// What tells one file's content from another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileStat {
    pub(super) kind: FileType,
    pub(super) dev: u64,
    pub(super) ino: u64,
    pub(super) size: u64,
    /// Seconds and nanoseconds.
    pub(super) mtime: (i64, i64),
    pub(super) ctime: (i64, i64),
}

impl FileStat {
    #[allow(clippy::unnecessary_cast)] // the fields' types differ between systems
    pub(super) fn of(s: &fs::Stat) -> Self {
        FileStat {
            kind: FileType::from_raw_mode(s.st_mode),
            dev: s.st_dev as u64,
            ino: s.st_ino as u64,
            size: s.st_size as u64,
            mtime: (s.st_mtime as i64, s.st_mtime_nsec as i64),
            ctime: (s.st_ctime as i64, s.st_ctime_nsec as i64),
        }
    }

    /// Whether both are the same file with the same content. Without the change time, which a rename sets.
    pub(super) fn is(&self, other: &FileStat) -> bool {
        (self.kind, self.dev, self.ino, self.size, self.mtime) == (other.kind, other.dev, other.ino, other.size, other.mtime)
    }

    /// What stands in [`crate::storage::FileVersion::version`]. With the change time: a file that replaces another of the same size, with its times
    /// copied (`cp -p`, `rsync -t`) and the freed inode's number, differs in nothing else. It comes last: see [`FileStat::seen`].
    pub(super) fn version(&self) -> String {
        let FileStat { dev, ino, size, mtime, ctime, .. } = self;
        format!("{dev:x}:{ino:x}:{size:x}:{:x}.{:x}:{:x}.{:x}", mtime.0, mtime.1, ctime.0, ctime.1)
    }

    /// The modification time.
    pub(super) fn modified(&self) -> Timestamp {
        moment(self.mtime)
    }

    /// The later of the modification and the change time. Nobody can set the change time; a rename, a link, `chown` and `chmod` make it new.
    pub(super) fn since(&self) -> Timestamp {
        moment(self.mtime).max(moment(self.ctime))
    }

    /// The file, as a look tells it.
    pub(super) fn seen(&self) -> FileVersion {
        let (modified, since, version) = (self.modified(), Since::At(self.since()), self.version());
        let content = Content::Begin(version.rfind(':').unwrap_or(version.len()));
        FileVersion { size: self.size, modified, since, version, content }
    }

    /// What it is, if it is no plain file.
    pub(super) fn oddity(&self) -> Option<&'static str> {
        match self.kind {
            FileType::RegularFile => None,
            FileType::Symlink => Some("is a symbolic link"),
            FileType::Directory => Some("is a folder"),
            FileType::Fifo => Some("is a fifo"),
            FileType::Socket => Some("is a socket"),
            FileType::BlockDevice | FileType::CharacterDevice => Some("is a device"),
            _ => Some("is no plain file"),
        }
    }
}

/// What a file system tells. What lies beyond the calendar is its first or last moment: a file from the future is young.
fn moment((seconds, nanos): (i64, i64)) -> Timestamp {
    let nanos = i32::try_from(nanos).unwrap_or(0);
    Timestamp::new(seconds, nanos).unwrap_or(if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

/// Whether `errno` says that a name cannot lead to a file of this storage, and why. [`Errno::NOENT`] is not among them.
pub(super) fn refusal(errno: Errno) -> Option<&'static str> {
    match errno {
        Errno::LOOP => Some("one of its folders is a symbolic link"),
        Errno::NOTDIR => Some("one of its folders is a file"),
        Errno::NAMETOOLONG => Some("has a segment that is longer than this file system can hold"),
        Errno::ILSEQ => Some("is a name that this file system cannot hold"),
        _ => None,
    }
}
