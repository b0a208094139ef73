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
use jiff::Timestamp;
use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{self, Mode, OFlags},
    io::Errno,
};
use tokio::sync::mpsc;

use super::{
    About, Access, Conditional, Expected, Expired, Fetched, Kept, Listed, Listing, Look, Marker, OddEntry, Page, PerName, Proved, Removed,
    Restored, Seen, Signed, Storage, Trashed, Upload, Whereabouts, only_paths, upload::cannot_sign, whereabouts,
};
use crate::{
    clock::Ahead,
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
use resolve::{Found, Ways, again, refusal, stat};
use walk::{Entry, Walk};

/// Entries of one page of a listing.
const PAGE: usize = 1000;

/// Pages that may wait for their reader.
const PAGES_AHEAD: usize = 2;

/// A storage in a folder.
#[derive(Debug, Clone)]
pub struct Folder {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    path: PathBuf,
    retention: Option<Duration>,
    prune: bool,
    expected: Expected,
    ways: Ways,
    own: prune::Own,
    /// What a killed process left of its uploads was looked for.
    tidied: AtomicBool,
    /// What an earlier version made as root was given to the trash's owner.
    given_back: AtomicBool,
    ahead: Ahead,
    /// This process' part of the trash where files cannot be moved atomically.
    private: u32,
}

/// The root, held open for one operation.
#[derive(Debug)]
struct Root(OwnedFd);

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Folder {
    /// The storage `name` in the folder `root`. Does no IO.
    ///
    /// `retention` is how long collected files wait in the trash, `None` erases them at once; at most a quarter of it, and at most an hour, is
    /// added. `prune` removes the folders that a removal leaves empty, except those that somebody else changed in the last two seconds
    /// (these are tried again by a later operation).
    pub fn new(name: &str, root: &Path, retention: Option<Duration>, prune: bool) -> Self {
        Self::with_ways(name, root, retention, prune, Ways::new(true))
    }

    /// The same with none but the oldest system calls, as on kernels before Linux 5.6, behind strict seccomp filters and on NFS; [`Folder::new`]
    /// finds out by itself. Slower, no less safe.
    pub fn with_old_calls(name: &str, root: &Path, retention: Option<Duration>, prune: bool) -> Self {
        Self::with_ways(name, root, retention, prune, Ways::new(false))
    }

    fn with_ways(name: &str, root: &Path, retention: Option<Duration>, prune: bool, ways: Ways) -> Self {
        Folder {
            inner: Arc::new(Inner {
                name: name.to_owned(),
                path: root.to_owned(),
                retention,
                prune,
                expected: Expected::default(),
                ways,
                own: prune::Own::default(),
                tidied: AtomicBool::new(false),
                given_back: AtomicBool::new(false),
                ahead: Ahead::default(),
                private: rand::random_range(1 << 16..u32::MAX),
            }),
        }
    }

    /// Runs `work` where it may block.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Inner) -> Result<T> + Send + 'static) -> Result<T> {
        let inner = self.inner.clone();
        match tokio::task::spawn_blocking(move || work(&inner)).await {
            Ok(done) => done,
            Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
            Err(e) => Err(self.inner.error(Kind::Storage, "the operation was given up").because(e).retry(Retry::Later)),
        }
    }
}

#[async_trait]
impl Storage for Folder {
    async fn marker(&self) -> Result<Option<Marker>> {
        self.blocking(|inner| marker::read(inner, &inner.open()?)).await
    }

    /// Tries what a marker and deleting need; the rest holds on every file system.
    async fn probe(&self) -> Result<Proved> {
        self.blocking(|inner| marker::try_out(inner, &inner.open()?)).await?;
        Ok(Proved { at: Timestamp::now(), delete: Conditional::InBulk, create: true, trash: Kept::Moved, exact: false, access: None })
    }

    fn ahead(&self) -> &Ahead {
        &self.inner.ahead
    }

    async fn now(&self) -> Result<Timestamp> {
        self.blocking(|inner| {
            inner.expected.may_change()?;
            marker::now(inner, &inner.proved()?)
        })
        .await
    }

    async fn set_marker(&self, marker: &Marker) -> Result<()> {
        let marker = marker.clone();
        self.blocking(move |inner| marker::set(inner, &inner.open()?, &marker)).await
    }

    async fn remove_marker(&self) -> Result<u64> {
        self.blocking(|inner| {
            let root = inner.open()?;
            if inner.expected().is_some() {
                inner.prove(&root)?;
            }
            marker::remove(inner, &root)
        })
        .await
    }

    fn expect(&self, storage_id: &str) {
        self.inner.expected.be(storage_id);
    }

    fn survey(&self) {
        self.inner.expected.survey();
    }

    async fn prove(&self) -> Result<()> {
        self.blocking(|inner| inner.proved().map(drop)).await
    }

    async fn whereabouts(&self) -> Result<Whereabouts> {
        self.blocking(|inner| inner.whereabouts(&inner.open()?)).await
    }

    async fn marker_in(&self, folder: &FileName) -> Result<Option<Marker>> {
        let folder = folder.clone();
        self.blocking(move |inner| inner.storage_in(&inner.open()?, folder.as_str())).await
    }

    fn quick(&self) -> bool {
        true
    }

    async fn look(&self, names: &[FileName]) -> Result<PerName<Look>> {
        let names = names.to_vec();
        self.blocking(move |inner| inner.look(&names)).await
    }

    async fn read(&self, name: &FileName, limit: usize) -> Result<Option<Vec<u8>>> {
        only_paths(&self.inner.name, [name])?;
        let name = name.clone();
        self.blocking(move |inner| inner.read(&name, limit)).await
    }

    async fn begin(&self, name: &FileName, _: &About) -> Result<Box<dyn Upload>> {
        self.inner.expected.may_change()?;
        only_paths(&self.inner.name, [name])?;
        Ok(Box::new(upload::Incoming::begin(self, name).await?))
    }

    async fn fetch(&self, name: &FileName) -> Result<Option<Fetched>> {
        only_paths(&self.inner.name, [name])?;
        upload::fetch(self, name).await
    }

    async fn sign(&self, _: &FileName, _: &Access, _: Duration) -> Result<Signed> {
        Err(cannot_sign(&self.inner.name))
    }

    async fn remove(&self, items: &[(FileName, Seen)]) -> Result<PerName<Removed>> {
        self.inner.expected.may_change()?;
        only_paths(&self.inner.name, items.iter().map(|(name, _)| name))?;
        let items = items.to_vec();
        self.blocking(move |inner| inner.take_away(&items, inner.retention)).await
    }

    async fn erase(&self, items: &[(FileName, Seen)]) -> Result<PerName<Removed>> {
        self.inner.expected.may_change()?;
        only_paths(&self.inner.name, items.iter().map(|(name, _)| name))?;
        let items = items.to_vec();
        self.blocking(move |inner| inner.take_away(&items, None)).await
    }

    async fn trashed(&self, names: &[FileName]) -> Result<PerName<Option<Trashed>>> {
        self.inner.expected.may_change()?;
        only_paths(&self.inner.name, names)?;
        let names = names.to_vec();
        self.blocking(move |inner| {
            let root = inner.proved()?;
            let found = trash::trashed(inner, &root, &names)?;
            inner.prove(&root).map(|()| found)
        })
        .await
    }

    async fn expired(&self, before: Timestamp, after: Option<&str>, limit: usize) -> Result<Expired> {
        self.inner.expected.may_change()?;
        let after = after.map(str::to_owned);
        self.blocking(move |inner| {
            let root = inner.proved()?;
            inner.own.prune(&inner.ways, &root.0, Vec::new());
            trash::expired(inner, &root, before, after.as_deref(), limit)
        })
        .await
    }

    async fn restore(&self, items: &[Trashed]) -> Result<PerName<Restored>> {
        self.inner.expected.may_change()?;
        only_paths(&self.inner.name, items.iter().map(|item| &item.name))?;
        let items = items.to_vec();
        self.blocking(move |inner| {
            let root = inner.proved()?;
            let mut done = trash::restore(inner, &root, &items)?;
            inner.still_there(&root, &mut done, &Restored::Missing);
            Ok(done)
        })
        .await
    }

    async fn purge(&self, items: &[Trashed]) -> Result<PerName<bool>> {
        self.inner.expected.may_change()?;
        only_paths(&self.inner.name, items.iter().map(|item| &item.name))?;
        let items = items.to_vec();
        self.blocking(move |inner| {
            let root = inner.proved()?;
            let mut done = trash::purge(inner, &root, &items)?;
            inner.still_there(&root, &mut done, &false);
            Ok(done)
        })
        .await
    }

    async fn list(&self, prefix: &str, after: Option<FileName>) -> Result<Listing> {
        let (pages, listing) = mpsc::channel(PAGES_AHEAD);
        let (inner, prefix) = (self.inner.clone(), prefix.to_owned());
        let within = prefix.clone();
        let begun = self.blocking(move |inner| {
            let root = inner.proved()?;
            let lists = inner.lists(&root, &within)?;
            Ok((root, lists))
        });
        let (root, lists) = begun.await?;
        tokio::task::spawn_blocking(move || {
            if let Err(e) = inner.list(&root, &prefix, after, lists, &pages) {
                let _ = pages.blocking_send(Err(e)); // nobody listens any more
            }
        });
        Ok(listing)
    }

    fn requests(&self) -> u64 {
        0
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

    fn expected(&self) -> Option<String> {
        self.expected.id()
    }

    /// Opens the root and proves that it is the one that was attached.
    fn proved(&self) -> Result<Root> {
        let root = self.open()?;
        self.prove(&root).map(|()| root)
    }

    fn prove(&self, root: &Root) -> Result<()> {
        if self.expected.surveyed() {
            return Ok(());
        }
        let expected = self.expected().ok_or_else(|| {
            self.error(Kind::NotAttached, "it is not known which storage this folder must be").hint("run `rowbound attach` first")
        })?;
        let unproved = |message: &str| {
            self.error(Kind::StorageUnreachable, message).with("folder", self.path.display()).hint(format!(
                "mount the right file system there, or, if this is the storage, run `rowbound attach --adopt-storage {}`",
                self.name
            ))
        };
        match marker::read(self, root)? {
            Some(marker) if marker.storage == expected => Ok(()),
            Some(_) => Err(unproved("the folder carries the marker of another storage")),
            None => Err(unproved("the folder carries no marker: is it mounted?")),
        }
    }

    /// Absence counts only if the root still proves itself afterwards: it may have been emptied or removed while we looked.
    fn still_there<T: PartialEq>(&self, root: &Root, done: &mut PerName<T>, missing: &T) {
        let absent = |one: &&mut Result<T>| one.as_ref().is_ok_and(|one| one == missing);
        if done.iter_mut().any(|one| absent(&one))
            && let Err(e) = self.prove(root)
        {
            let why = e.full();
            for one in done.iter_mut().filter(absent) {
                *one = Err(self
                    .error(e.kind(), "the file is not there, and neither is the proof that this is the storage")
                    .because(why.clone())
                    .hint(e.hint_text().unwrap_or_default()));
            }
        }
    }

    fn look(&self, names: &[FileName]) -> Result<PerName<Look>> {
        let root = self.proved()?;
        let ours = Ours::new(self, &root);
        let mut found = by_folder(
            names.len(),
            |i| names[i].as_path().ok().and_then(|_| names[i].folder()).unwrap_or("."),
            |folder, group, out| {
                if let Err(e) = ours.check(folder) {
                    let copy = whereabouts::is_copy(&e).then(|| Look::Refused(whereabouts::IN_A_COPY.to_owned()));
                    group.iter().for_each(|i| out(*i, copy.clone().ok_or_else(|| e.clone().with("name", &names[*i]))));
                    return;
                }
                let dir = self.ways.folder(&root, folder);
                for i in group {
                    let name = &names[*i];
                    // `a//b` would be taken for `a/b`.
                    if let Err(why) = name.as_path() {
                        out(*i, Ok(Look::Refused(why.to_string())));
                        continue;
                    }
                    let seen = dir.as_ref().map_err(|e| *e).and_then(|dir| stat(dir, name.base()));
                    out(
                        *i,
                        match seen.map(|s| Found::of(&s)) {
                            Ok(found) => Ok(match found.oddity() {
                                None => Look::Seen(found.seen()),
                                Some(why) => Look::Refused(why.to_owned()),
                            }),
                            Err(Errno::NOENT) => Ok(Look::Missing),
                            Err(e) => match refusal(e) {
                                Some(why) => Ok(Look::Refused(why.to_owned())),
                                None => Err(self.failure(e, "cannot look at the file").with("name", name)),
                            },
                        },
                    );
                }
            },
        );
        self.still_there(&root, &mut found, &Look::Missing);
        Ok(found)
    }

    fn list(&self, root: &Root, prefix: &str, after: Option<FileName>, lists: bool, pages: &mpsc::Sender<Result<Page>>) -> Result<()> {
        let stuck = |s: walk::Stuck| self.failure(s.1, "the listing could not be completed").with("at", s.0);
        let after = after.map_or_else(Vec::new, |name| name.as_str().as_bytes().to_vec());
        let ours = prefix.strip_prefix(RESERVED).is_some_and(|rest| rest.starts_with('/'));
        let mut walk = match ours || !lists {
            true => None,
            false => Walk::beneath(&self.ways, &root.0, prefix.as_bytes(), after.clone()).map_err(stuck)?,
        };
        let mut entries = Vec::with_capacity(PAGE);
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
                if walk.path() <= &after[..] {
                    continue;
                }
            }
            entries.push(match (entry, FileName::from_bytes(walk.path())) {
                (Entry::Marked, _) => Listed::Odd(lossy(walk.path()), OddEntry::Copy),
                (Entry::File, Ok(name)) => Listed::File(name),
                (Entry::File, Err(why)) => Listed::Odd(lossy(walk.path()), OddEntry::Name(why)),
                (Entry::Other, _) => Listed::Odd(lossy(walk.path()), OddEntry::NotAFile),
                (Entry::Unnameable, _) => Listed::Odd(lossy(walk.path()), OddEntry::Name(Refused::NotUtf8)),
            });
            if entries.len() == PAGE {
                let page = Page { entries: std::mem::replace(&mut entries, Vec::with_capacity(PAGE)), last: false };
                if pages.blocking_send(Ok(page)).is_err() {
                    return Ok(()); // nobody listens any more
                }
            }
        }
        // Had the root been emptied or removed meanwhile, its files would seem never to have been.
        self.prove(root)?;
        let _ = pages.blocking_send(Ok(Page { entries, last: true })); // as above
        Ok(())
    }
}

fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
