//! A folder of a local or mounted file system.
//!
//! In: checked names. Out: what became of each. Promise: nothing outside the root is ever looked at or touched, whatever links anybody puts
//! there while we work; nothing is concluded from a root that did not show its marker in the same operation.
//!
//! The root is opened anew by every operation, so that a file system that was unmounted or mounted is noticed, and everything else is reached
//! from that one handle. The root itself may be a symbolic link; nothing beneath it is followed.
//!
//! A file system that is mounted further down proves nothing: unmounted, its files are missing, as they are to the application. Make it a
//! storage of its own.
//!
//! The trash lies in `.rowbound/`, which only the user that runs Rowbound may enter. A web server that runs as the same user and serves the
//! folder as a whole must be told to leave `.rowbound/` out.
//!
//! With the trash off, a file is looked at again and then unlinked; no system call does both. An application that replaces a file under the
//! same name in just these microseconds loses the new one, which is why the trash is on by default: there a file is looked at again after
//! it was moved, and comes back if it is another. Nothing is forced to the disk for each file: after a power cut a removed file may be back.

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{self, Mode, OFlags},
    io::Errno,
};

use super::{
    Backend, Capabilities, Conditional, Described, Eraser, Expired, Fetched, FileVersion, Listed, Marker, Pages, PerName, Proving,
    PutOptions, Removed, Restored, Signer, SkipReason, Stat, TrashKind, Trashed, Upload, Whereabouts, proving, whereabouts,
};
use crate::{
    error::{Error, Kind, Result, Retry},
    name::{FileName, RESERVED, Refused},
};

mod above; // the folders above the root, and storages that lie above or below it
mod batch; // a batch, folder by folder, on several threads
mod marker; // the proof that the root is there
mod prune; // folders that a removal left empty
mod remove; // files that go, into the trash or for good
mod resolve; // paths beneath a handle, through no link
mod trash; // where files wait
mod upload; // files that come in and go out
mod walk; // every entry, in order

use above::Ours;
use batch::by_folder;
use resolve::{FileStat, Syscalls, again, refusal, stat};
use walk::{Entry, Walk};

/// A storage in a folder.
pub type Folder = Proving<FolderBackend>;

/// Proof that the root carries the right marker; it holds the root open.
type Proof = super::Proof<FolderBackend>;

/// What a folder does by itself.
#[derive(Debug, Clone)]
pub struct FolderBackend {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    path: PathBuf,
    retention: Option<Duration>,
    prune: bool,
    sys: Syscalls,
    own: prune::Own,
    /// What a killed process left of its uploads was looked for.
    tidied: AtomicBool,
    /// What an earlier version made as root was given to the trash's owner.
    given_back: AtomicBool,
    /// This process' part of the trash where files cannot be moved atomically.
    private: u32,
}

/// The root, held open for one operation.
#[derive(Debug)]
pub struct Root(OwnedFd);

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Proving<FolderBackend> {
    /// The storage `name` in the folder `root`. Does no IO.
    ///
    /// `retention` is how long collected files wait in the trash, `None` erases them at once; at most a quarter of it, and at most an hour, is
    /// added. `prune` removes the folders that a removal leaves empty, except those that somebody else changed in the last two seconds
    /// (these are tried again by a later operation).
    pub fn new(name: &str, root: &Path, retention: Option<Duration>, prune: bool) -> Self {
        Self::with_syscalls(name, root, retention, prune, Syscalls::new(true))
    }

    /// The same with none but the oldest system calls, as on kernels before Linux 5.6, behind strict seccomp filters and on NFS; `Folder::new`
    /// finds out by itself. Slower, no less safe.
    pub fn with_old_calls(name: &str, root: &Path, retention: Option<Duration>, prune: bool) -> Self {
        Self::with_syscalls(name, root, retention, prune, Syscalls::new(false))
    }

    fn with_syscalls(name: &str, root: &Path, retention: Option<Duration>, prune: bool, sys: Syscalls) -> Self {
        let inner = Inner {
            name: name.to_owned(),
            path: root.to_owned(),
            retention,
            prune,
            sys,
            own: prune::Own::default(),
            tidied: AtomicBool::new(false),
            given_back: AtomicBool::new(false),
            private: rand::random_range(1 << 16..u32::MAX),
        };
        Proving::over(name, FolderBackend { inner: Arc::new(inner) })
    }
}

impl FolderBackend {
    /// Runs `work` where it may block: what goes on after an operation, or before its proof.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Inner) -> Result<T> + Send + 'static) -> Result<T> {
        let inner = self.inner.clone();
        proving::blocking(&self.inner.name, move || work(&inner)).await
    }
}

#[async_trait]
impl Backend for FolderBackend {
    type Held = Root;

    const BLOCKS: bool = true;

    const REMOTE: bool = false;

    const PATHS_ONLY: bool = true;

    fn described(&self) -> Described {
        Described {
            noun: "folder",
            at: vec![("folder", self.inner.path.display().to_string())],
            unmarked: ": is it mounted?",
            hint: format!(
                "mount the right file system there, or, if this is the storage, run `rowbound attach --adopt-storage {}`",
                self.inner.name
            ),
        }
    }

    fn requests(&self) -> u64 {
        0
    }

    async fn ahead_of_machine(&self) -> Option<SignedDuration> {
        None
    }

    async fn reach(&self) -> Result<Root> {
        self.inner.open()
    }

    async fn marker(&self, root: &Root) -> Result<Option<Marker>> {
        marker::read(&self.inner, root)
    }

    async fn set_marker(&self, root: &Root, marker: &Marker) -> Result<()> {
        marker::set(&self.inner, root, marker)
    }

    async fn remove_marker(&self, root: &Root, _: Option<&Marker>) -> Result<u64> {
        marker::remove(&self.inner, root)
    }

    /// Tries what a marker and deleting need; the rest holds on every file system.
    async fn probe(&self, root: &Root, _: bool) -> Result<Capabilities> {
        marker::try_out(&self.inner, root)?;
        Ok(Capabilities {
            at: Timestamp::now(),
            delete: Conditional::InBulk,
            create: true,
            trash: TrashKind::Moved,
            exact: false,
            access: None,
        })
    }

    async fn whereabouts(&self, root: &Root) -> Result<Whereabouts> {
        self.inner.whereabouts(root)
    }

    async fn marker_in(&self, root: &Root, folder: &FileName) -> Result<Option<Marker>> {
        self.inner.storage_in(root, folder.as_str())
    }

    async fn now(&self, proof: &Proof) -> Result<Timestamp> {
        marker::now(&self.inner, proof.held())
    }

    async fn stat(&self, proof: &Proof, names: &[FileName]) -> Result<PerName<Stat>> {
        Ok(self.inner.stat(proof.held(), names))
    }

    async fn read(&self, proof: &Proof, name: &FileName, limit: usize) -> Result<Option<Vec<u8>>> {
        self.inner.read(proof.held(), name, limit)
    }

    async fn fetch(&self, proof: &Proof, name: &FileName) -> Result<Option<Fetched>> {
        upload::fetch(self, proof.held(), name)
    }

    async fn begin(&self, proof: &Proof, name: &FileName, _: &PutOptions) -> Result<Box<dyn Upload>> {
        Ok(Box::new(upload::Incoming::begin(proof, name)?))
    }

    fn signer(&self) -> Option<&dyn Signer<Self>> {
        None
    }

    async fn remove(&self, proof: &Proof, items: &[(FileName, FileVersion)]) -> Result<PerName<Removed>> {
        self.inner.take_away(proof, items, self.inner.retention)
    }

    fn eraser(&self) -> Option<&dyn Eraser<Self>> {
        Some(self)
    }

    async fn trashed(&self, proof: &Proof, names: &[FileName]) -> Result<PerName<Option<Trashed>>> {
        trash::trashed(&self.inner, proof.held(), names)
    }

    async fn expired(&self, proof: &Proof, before: Timestamp, after: Option<&str>, limit: usize) -> Result<Expired> {
        self.inner.own.prune(&self.inner.sys, &proof.held().0, Vec::new());
        trash::expired(&self.inner, proof.held(), before, after, limit)
    }

    async fn restore(&self, proof: &Proof, items: &[Trashed]) -> Result<PerName<Restored>> {
        trash::restore(&self.inner, proof.held(), items)
    }

    async fn purge(&self, proof: &Proof, items: &[Trashed]) -> Result<PerName<bool>> {
        trash::purge(&self.inner, proof.held(), items)
    }

    async fn listable(&self, proof: &Proof, prefix: &str, _: Option<&FileName>) -> Result<bool> {
        self.inner.lists(proof.held(), prefix)
    }

    async fn list(&self, proof: &Proof, prefix: &str, after: Option<&FileName>, pages: &mut Pages) -> Result<()> {
        self.inner.list(proof.held(), prefix, after, pages).await
    }
}

#[async_trait]
impl Eraser<FolderBackend> for FolderBackend {
    async fn erase(&self, proof: &Proof, items: &[(FileName, FileVersion)]) -> Result<PerName<Removed>> {
        self.inner.take_away(proof, items, None)
    }
}

impl Inner {
    /// An error with this storage's name.
    fn error(&self, kind: Kind, message: &str) -> Error {
        Error::new(kind, message).with("storage", &self.name)
    }

    /// What the kernel's answer means: whether trying again helps, and what a person does.
    fn failure(&self, errno: Errno, message: &str) -> Error {
        let at = self.path.display();
        let (kind, retry, hint): (_, _, Cow<'static, str>) = match errno {
            Errno::ACCESS | Errno::PERM => (
                Kind::Permission,
                Retry::Never,
                "let the user that runs rowbound write to this folder and those in it (as root: see `lsattr` for immutable files)".into(),
            ),
            Errno::ROFS => (Kind::Storage, Retry::Later, "the file system is mounted read-only: mount it writable".into()),
            Errno::NOSPC | Errno::DQUOT => {
                let hint =
                    format!("the file system of {at} is full: make room, or raise the quota; even a move to the trash needs a little");
                (Kind::Storage, Retry::Later, hint.into())
            }
            Errno::XDEV => {
                let hint = format!(
                    "another file system is mounted within {at}, and files cannot be moved to the trash from there: set trash = \"off\", or \
                     make the mounted folder a storage of its own"
                );
                (Kind::Storage, Retry::Never, hint.into())
            }
            Errno::STALE | Errno::NOTCONN | Errno::NODEV | Errno::HOSTDOWN | Errno::TIMEDOUT => {
                (Kind::StorageUnreachable, Retry::Later, "the file system does not answer: see `dmesg`, or mount it again".into())
            }
            Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::AGAIN | Errno::BUSY | Errno::IO => {
                (Kind::Storage, Retry::Later, "if it goes on, see `dmesg` and the limits of the process".into())
            }
            _ => (Kind::Storage, Retry::Never, "nothing was removed; look at the path with `ls -la`".into()),
        };
        self.error(kind, message).because(errno).retry(retry).hint(hint)
    }

    /// Opens the root by its path.
    fn open(&self) -> Result<Root> {
        // Not `resolve`: the root's own path may lead through links.
        let flags = resolve::handle() - OFlags::NOFOLLOW;
        again(|| fs::open(&self.path, flags, Mode::empty())).map(Root).map_err(|e| match e {
            Errno::ACCESS | Errno::PERM => self
                .error(Kind::Permission, "the storage's folder cannot be entered")
                .with("folder", self.path.display())
                .because(e)
                .hint("let the user that runs rowbound enter it"),
            e => self
                .error(Kind::StorageUnreachable, "the storage's folder is not there")
                .with("folder", self.path.display())
                .because(e)
                .hint("mount it or make it, or correct `url`"),
        })
    }

    fn stat(&self, root: &Root, names: &[FileName]) -> PerName<Stat> {
        let ours = Ours::new(self, root);
        by_folder(
            names.len(),
            |i| names[i].as_path().ok().and_then(|_| names[i].folder()).unwrap_or("."),
            |folder, group, out| {
                if let Err(e) = ours.check(folder) {
                    let copy = whereabouts::is_copy(&e).then(|| Stat::Refused(whereabouts::IN_A_COPY.to_owned()));
                    group.iter().for_each(|i| out(*i, copy.clone().ok_or_else(|| e.clone().with("name", &names[*i]))));
                    return;
                }
                let dir = self.sys.folder(root, folder);
                for i in group {
                    let name = &names[*i];
                    // `a//b` would be taken for `a/b`.
                    if let Err(why) = name.as_path() {
                        out(*i, Ok(Stat::Refused(why.to_string())));
                        continue;
                    }
                    let seen = dir.as_ref().map_err(|e| *e).and_then(|dir| stat(dir, name.base()));
                    out(
                        *i,
                        match seen.map(|s| FileStat::of(&s)) {
                            Ok(found) => Ok(match found.oddity() {
                                None => Stat::File(found.seen()),
                                Some(why) => Stat::Refused(why.to_owned()),
                            }),
                            Err(Errno::NOENT) => Ok(Stat::Missing),
                            Err(e) => match refusal(e) {
                                Some(why) => Ok(Stat::Refused(why.to_owned())),
                                None => Err(self.failure(e, "cannot look at the file").with("name", name)),
                            },
                        },
                    );
                }
            },
        )
    }

    async fn list(&self, root: &Root, prefix: &str, after: Option<&FileName>, pages: &mut Pages) -> Result<()> {
        let stuck = |s: walk::Stuck| self.failure(s.1, "the listing could not be completed").with("at", s.0);
        let after = after.map_or(&b""[..], |name| name.as_str().as_bytes());
        let ours = prefix.strip_prefix(RESERVED).is_some_and(|rest| rest.starts_with('/'));
        let mut walk = match ours {
            true => None,
            false => Walk::beneath(&self.sys, &root.0, prefix.as_bytes(), after.to_vec()).map_err(stuck)?,
        };
        while let Some(walk) = &mut walk
            && let Some(entry) = walk.next().map_err(stuck)?
        {
            if entry == Entry::Marked {
                // Before anything in it is listed.
                match self.nested(root, lossy(walk.path()).trim_end_matches('/')) {
                    None => continue,
                    Some(e) if !whereabouts::is_copy(&e) => return Err(e),
                    Some(_) => walk.pass(),
                }
                if walk.path() <= after {
                    continue;
                }
            }
            let entry = match (entry, FileName::from_bytes(walk.path())) {
                (Entry::Marked, _) => Listed::Skipped(lossy(walk.path()), SkipReason::Copy),
                (Entry::File, Ok(name)) => Listed::File(name),
                (Entry::File, Err(why)) => Listed::Skipped(lossy(walk.path()), SkipReason::Name(why)),
                (Entry::Other, _) => Listed::Skipped(lossy(walk.path()), SkipReason::NotAFile),
                (Entry::Unnameable, _) => Listed::Skipped(lossy(walk.path()), SkipReason::Name(Refused::NotUtf8)),
            };
            if !pages.add(entry).await {
                return Ok(()); // nobody listens any more
            }
        }
        Ok(())
    }
}

fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
