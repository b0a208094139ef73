//! The marker, and what must work before a storage may be attached.
//!
//! In: the root, held open. Out: the marker it carries. Promise: it is written whole or not at all, and only where files can be moved and
//! removed and where no two names are one file.

use std::{
    fs::File,
    io::{Read, Write},
};

use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{self, AtFlags, Mode, OFlags},
    io::Errno,
};

use super::{
    Inner, Root,
    resolve::{self, Syscalls, again, reading},
    trash::TRASH,
    upload::UPLOADS,
    walk::{Entry, Walk},
};
use crate::{
    error::{Error, Kind, Result},
    name::RESERVED,
    owner::{self, Owner},
    storage::{MARKER, Marker},
};

/// Far more than a marker of thousands of installations takes, in bytes.
const LIMIT: u64 = 1 << 20;

/// Begins the name of every file that [`set`] makes and removes; a killed `attach` may leave one.
const TEMPORARY: &str = "attach-";

/// Why a marker cannot be read: its kind, and what was said.
type Unreadable = (Kind, Box<dyn std::error::Error + Send + Sync>);

/// Reads the marker of the storage whose root `root` is; `None` if there is none.
pub(super) fn read(inner: &Inner, root: impl AsFd) -> Result<Option<Marker>> {
    contents(&inner.sys, root).map_err(|(kind, why)| unreadable(inner, kind, why))
}

/// The same without a word for a person.
pub(super) fn contents(sys: &Syscalls, root: impl AsFd) -> Result<Option<Marker>, Unreadable> {
    let path = format!("{RESERVED}/{MARKER}");
    let away = |e: std::io::Error| (Kind::StorageUnreachable, e.into());
    // Not blocking: somebody may have put a fifo there.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match sys.open(root, path.as_bytes(), flags) {
        Ok(fd) => File::from(fd),
        Err(Errno::NOENT) => return Ok(None),
        Err(e) => return Err((resolve::refusal(e).map_or(Kind::StorageUnreachable, |_| Kind::Storage), e.into())),
    };
    let mut text = Vec::new();
    let meta = file.metadata().map_err(away)?;
    if !meta.is_file() {
        return Err((Kind::Storage, "it is no plain file".into()));
    }
    file.take(LIMIT).read_to_end(&mut text).map_err(away)?;
    serde_json::from_slice(&text).map(Some).map_err(|e| (Kind::StorageUnreachable, e.into()))
}

/// Whether a marker stands in a folder of Rowbound's own. One that may not be looked at is taken for one.
pub(super) fn stands_in(ours: &OwnedFd) -> bool {
    !matches!(resolve::stat(ours, MARKER), Err(Errno::NOENT))
}

fn unreadable(inner: &Inner, kind: Kind, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let why = why.into();
    let denied = why.downcast_ref::<Errno>().is_some_and(|e| matches!(*e, Errno::ACCESS | Errno::PERM));
    inner
        .error(if denied { Kind::Permission } else { kind }, "the storage's marker cannot be read")
        .with("file", inner.path.join(RESERVED).join(MARKER).display())
        .because(why)
        .hint(if denied {
            format!("run rowbound as the user that ran `rowbound attach`, or give {} the folder", user())
        } else {
            format!("restore the file, or run `rowbound attach --adopt-storage {}`", inner.name)
        })
}

/// The folder of Rowbound's own, made where it is missing. Beneath the root of a site's uploads everything may be served; this folder may not be entered by
/// anybody else.
fn own_folder(inner: &Inner, root: &Root) -> Result<OwnedFd> {
    let made = inner.sys.make(root, RESERVED, &|parent, new| adopt(parent, new, Some(Mode::RWXU)));
    made.map_err(|e| failed(inner, "make the folder", e))
}

/// Does something in the folder of Rowbound's own. Another attach, which is refused, takes away an empty one that it has made: then it is made anew.
fn in_own_folder(inner: &Inner, root: &Root, mut done: impl FnMut(&OwnedFd) -> Result<()>) -> Result<()> {
    let mut left = 10;
    loop {
        let ours = own_folder(inner, root)?;
        let result = done(&ours);
        left -= 1;
        if result.is_ok() || left == 0 || !fs::fstat(&ours).is_ok_and(|stat| stat.st_nlink == 0) {
            return result;
        }
    }
}

/// Tries what a marker and deleting need, and leaves nothing behind.
pub(super) fn try_out(inner: &Inner, root: &Root) -> Result<()> {
    let new = matches!(resolve::stat(root, RESERVED), Err(Errno::NOENT));
    let tried = in_own_folder(inner, root, |ours| probe(inner, ours));
    if new {
        // Not if another attach has put its marker there meanwhile.
        remove_if_empty(root, RESERVED).map_err(|e| failed(inner, "remove", e))?;
    }
    tried
}

/// Writes the marker after trying what deleting needs.
pub(super) fn set(inner: &Inner, root: &Root, marker: &Marker) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(marker).map_err(|e| inner.error(Kind::Storage, "cannot write the marker").because(e))?;
    text.push(b'\n');
    in_own_folder(inner, root, |ours| probe(inner, ours).and_then(|()| write(inner, root, ours, &text)))
}

fn write(inner: &Inner, root: &Root, ours: &OwnedFd, text: &[u8]) -> Result<()> {
    let temporary = format!("{TEMPORARY}{:016x}", rand::random::<u64>());
    let written = (|| {
        let mut file = File::from(create(ours, &temporary)?);
        adopt(ours.as_fd(), file.as_fd(), None)?;
        let io = |e: std::io::Error| Errno::from_io_error(&e).unwrap_or(Errno::IO);
        file.write_all(text).and_then(|()| file.sync_all()).map_err(io)?;
        again(|| fs::renameat(ours, &*temporary, ours, MARKER))?;
        // The names too must survive a power cut: the marker's in our folder, and our folder's in the root.
        for folder in [ours.as_fd(), root.as_fd()] {
            again(|| fs::fsync(inner.sys.open(folder, b".", reading())?))?;
        }
        Ok(())
    })();
    written.map_err(|e| {
        let _ = fs::unlinkat(ours, &*temporary, AtFlags::empty());
        failed(inner, "write the marker in", e)
    })
}

/// Tries to create, rename and remove, and whether this file system keeps names apart that differ.
fn probe(inner: &Inner, ours: &OwnedFd) -> Result<()> {
    let step = |step: &'static str| move |e: Errno| failed(inner, step, e);
    // Accent composed, mixed case: an alias of any kind is found under one of the spellings below.
    let stem = format!("{TEMPORARY}{:016x}-Prob", rand::random::<u64>());
    let (first, second) = (format!("{stem}\u{e9}"), format!("{stem}\u{e9}.renamed"));
    drop(create(ours, &first).map_err(step("create a file in"))?);
    let aliases = [format!("{}\u{e9}", stem.to_lowercase()), format!("{stem}e\u{301}"), format!("{first} "), format!("{first}.")];
    let alias = aliases.iter().find(|alias| resolve::stat(ours, alias.as_str()).is_ok());
    let removed = again(|| fs::renameat(ours, &*first, ours, &*second))
        .map_err(step("rename a file in"))
        .and_then(|()| again(|| fs::unlinkat(ours, &*second, AtFlags::empty())).map_err(step("remove a file from")));
    if let Some(alias) = alias {
        let _ = fs::unlinkat(ours, &*first, AtFlags::empty());
        return Err(inner
            .error(Kind::Config, "this file system takes names that differ for one file")
            .with("names", format_args!("{first:?} and {alias:?}"))
            .hint("use a file system that distinguishes case, accents and trailing blanks: rows reference files byte for byte"));
    }
    removed
}

/// The file system's clock: the time of a file that is made and removed.
pub(super) fn now(inner: &Inner, root: &Root) -> Result<jiff::Timestamp> {
    let step = |step: &'static str| move |e: Errno| failed(inner, step, e);
    let ours = inner.sys.open(root, RESERVED.as_bytes(), reading()).map_err(step("open"))?;
    let name = format!("{TEMPORARY}{:016x}", rand::random::<u64>());
    let seen = File::from(create(&ours, &name).map_err(step("create a file in"))?).metadata().and_then(|m| m.modified());
    again(|| fs::unlinkat(&ours, &*name, AtFlags::empty())).map_err(step("remove a file from"))?;
    let time = |e: Box<dyn std::error::Error + Send + Sync>| inner.error(Kind::Storage, "cannot read the time of a file").because(e);
    seen.map_err(|e| time(e.into())).and_then(|t| jiff::Timestamp::try_from(t).map_err(|e| time(e.into())))
}

fn create(at: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    again(|| fs::openat(at, name, flags, Mode::RUSR | Mode::WUSR))
}

/// Gives what was made the mode asked for (`None`: as it is) and, if root made it, its parent's owner: the application's user must be able to
/// work in it.
pub(super) fn adopt(parent: impl AsFd, new: impl AsFd, mode: Option<Mode>) -> Result<(), Errno> {
    owner::give(&new, Owner::of(parent)?)?;
    // After the owner, because changing that clears the set-group-id bit.
    mode.map_or(Ok(()), |mode| fs::fchmod(&new, mode))
}

/// Removes the marker and what is empty; counts the files of the trash, which stay.
pub(super) fn remove(inner: &Inner, root: &Root) -> Result<u64> {
    let step = |step: &'static str| move |e: Errno| failed(inner, step, e);
    let ours = match inner.sys.open(root, RESERVED.as_bytes(), reading()) {
        Ok(ours) => ours,
        Err(Errno::NOENT) => return Ok(0),
        Err(e) => return Err(failed(inner, "open", e)),
    };
    let (mut kept, mut mine, mut unfinished) = (0, Vec::new(), Vec::new());
    {
        let stuck = |s: super::walk::Stuck| failed(inner, "read", s.1).with("at", s.0);
        let mut walk = Walk::begin(&inner.sys, &ours, false, Vec::new()).map_err(stuck)?;
        let (in_trash, uploading) = (format!("{TRASH}/"), format!("{UPLOADS}/"));
        while let Some(entry) = walk.next().map_err(stuck)? {
            let path = String::from_utf8_lossy(walk.path());
            if path.starts_with(&in_trash) {
                kept += u64::from(entry == Entry::File);
            } else if let Some(name) = path.strip_prefix(&uploading) {
                unfinished.push(name.to_owned());
            } else if entry == Entry::File && !path.contains('/') && (path == MARKER || path.starts_with(TEMPORARY)) {
                mine.push(path.into_owned());
            }
        }
    }
    for name in mine {
        ignore_absence(again(|| fs::unlinkat(&ours, &*name, AtFlags::empty()))).map_err(step("remove a file from"))?;
    }
    if let Ok(uploads) = inner.sys.folder(&ours, UPLOADS) {
        // What never got a name; an upload that is under way fails.
        for name in unfinished {
            ignore_absence(again(|| fs::unlinkat(&uploads, &*name, AtFlags::empty()))).map_err(step("remove a file from"))?;
        }
        remove_if_empty(&ours, UPLOADS).map_err(step("tidy"))?;
    }
    if let Ok(trash) = inner.sys.folder(&ours, TRASH) {
        super::prune::empty_folders(&inner.sys, &trash).map_err(step("tidy"))?;
        remove_if_empty(&ours, TRASH).map_err(step("tidy"))?;
    }
    remove_if_empty(root, RESERVED).map_err(step("remove"))?;
    Ok(kept)
}

fn remove_if_empty(at: impl AsFd, name: &str) -> Result<(), Errno> {
    match again(|| fs::unlinkat(&at, name, AtFlags::REMOVEDIR)) {
        Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT) => Ok(()),
        done => done,
    }
}

fn ignore_absence(done: Result<(), Errno>) -> Result<(), Errno> {
    if done == Err(Errno::NOENT) { Ok(()) } else { done }
}

fn failed(inner: &Inner, step: &str, errno: Errno) -> Error {
    inner.failure(errno, &format!("cannot {step} {}", inner.path.join(RESERVED).display())).with("user", user())
}

fn user() -> String {
    format!("uid {}", rustix::process::geteuid().as_raw())
}
