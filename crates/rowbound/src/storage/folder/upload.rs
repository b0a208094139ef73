//! Files that come in and go out.
//!
//! In: bytes. Out: a file under a name. Promise: the bytes lie in a file without a name (`O_TMPFILE`) until they are on the disk; then one system
//! call gives it its name, and refuses where anything has it. A process that dies leaves nothing. Where the file system knows no files
//! without a name, they lie in `.rowbound/uploads/`; what a killed process leaves there goes after a day.

use std::{
    fs::File,
    io::Write,
    path::PathBuf,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use rustix::{
    fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    fs::{self, AtFlags, Mode, OFlags},
    io::Errno,
};

use super::{
    Folder, FolderBackend, Inner, Proof, Root,
    above::Ours,
    marker::{self, adopt},
    resolve::{FileStat, again, reading, refusal, stat},
};
use crate::{
    clock, crash,
    error::{Error, Kind, Result, Retry},
    name::{FileName, RESERVED},
    storage::{Body, Fetched, PutMode, PutResult, Upload},
};

/// Where files lie that have no name yet, if they must have one.
pub(super) const UPLOADS: &str = "uploads";

/// What nobody has touched for so long was left by a process that died.
const FORGOTTEN: Duration = Duration::from_secs(86_400);

/// So many bytes are written, and read, at once.
const CHUNK: usize = 256 << 10;

/// How often a folder is made again that somebody removes because it is empty.
const TRIES: u32 = 8;

/// A file that comes in.
#[derive(Debug)]
pub(super) struct Incoming {
    folder: Folder,
    file: Arc<UnnamedFile>,
    waiting: BytesMut,
}

/// A file that is not placed yet. Dropped, it is gone.
#[derive(Debug)]
struct UnnamedFile {
    file: File,
    /// Its name in the folder of uploads, where it has one.
    named: Option<(OwnedFd, String)>,
}

impl Drop for UnnamedFile {
    fn drop(&mut self) {
        if let Some((at, name)) = &self.named {
            let _ = fs::unlinkat(at, name.as_str(), AtFlags::empty()); // or it goes after a day
        }
    }
}

impl Incoming {
    pub(super) fn begin(proof: &Proof, name: &FileName) -> Result<Self> {
        let (inner, root) = (&proof.backend().inner, proof.held());
        // In another storage it would be an orphan.
        Ours::new(inner, root).check(name.folder().unwrap_or("."))?;
        let file = again_if_pruned(|| {
            let dir = inner.folder_of(root, name)?;
            inner.nameless(root, &dir)
        });
        let file = file.map_err(|e| inner.unplaceable(e, name))?;
        Ok(Incoming { folder: proof.proving(), file: Arc::new(file), waiting: BytesMut::new() })
    }

    /// Writes what waits; `all` of the file must be on the disk then.
    async fn flush(&mut self, all: bool) -> Result<()> {
        let (file, bytes) = (self.file.clone(), self.waiting.split().freeze());
        let work = move |inner: &Inner| {
            let written = (&file.file).write_all(&bytes).and_then(|()| if all { file.file.sync_all() } else { Ok(()) });
            written.map_err(|e| inner.cannot_write(e))?;
            if all {
                crash::point("written");
            }
            Ok(())
        };
        self.folder.backend().blocking(work).await
    }
}

#[async_trait]
impl Upload for Incoming {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.waiting.extend_from_slice(&bytes);
        if self.waiting.len() >= CHUNK {
            self.flush(false).await?;
        }
        Ok(())
    }

    async fn publish(&mut self, name: &FileName, mode: PutMode) -> Result<PutResult> {
        self.flush(true).await?;
        let (file, name) = (self.file.clone(), name.clone());
        // On a proof of its own: it may have come in for hours.
        let work = move |proof: Proof| async move {
            let inner = &proof.backend().inner;
            let placed = again_if_pruned(|| {
                let dir = inner.folder_of(proof.held(), &name)?;
                inner.give_name(proof.held(), &file, &dir, name.base(), mode)
            });
            crash::point("placed");
            placed.map_err(|e| inner.unplaceable(e, &name))
        };
        self.folder.with(work).await
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        let Incoming { folder, file, .. } = *self;
        let work = move |_: &Inner| {
            drop(file);
            Ok(())
        };
        folder.backend().blocking(work).await
    }
}

/// A file that goes out.
pub(super) fn fetch(folder: &FolderBackend, root: &Root, name: &FileName) -> Result<Option<Fetched>> {
    let Some((file, found)) = folder.inner.open_file(root, name)? else { return Ok(None) };
    let state = (folder.clone(), Arc::new(file), name.clone(), 0_u64);
    let body: Body = Box::pin(futures_util::stream::unfold(Some(state), |state| async move {
        let (folder, file, name, at) = state?;
        let piece = file.clone();
        let read = folder.blocking(move |inner| {
            let mut bytes = BytesMut::zeroed(CHUNK);
            let mut filled = 0;
            while filled < CHUNK {
                match again(|| rustix::io::pread(&*piece, &mut bytes[filled..], at + filled as u64)) {
                    Ok(0) => break,
                    Ok(n) => filled += n,
                    Err(e) => return Err(inner.failure(e, "cannot read the file")),
                }
            }
            bytes.truncate(filled);
            Ok(bytes.freeze())
        });
        match read.await {
            Ok(bytes) if bytes.is_empty() => None,
            Ok(bytes) => {
                let next = at + bytes.len() as u64;
                Some((Ok(bytes), Some((folder, file, name, next))))
            }
            Err(e) => Some((Err(e.with("name", &name)), None)),
        }
    }));
    Ok(Some(Fetched { seen: found.seen(), content_type: None, body }))
}

/// Does it again where a folder was removed, because it was empty, between opening it and putting a file into it.
fn again_if_pruned<T>(mut work: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    let mut tries = 0;
    loop {
        match work() {
            Err(Errno::NOENT) if tries < TRIES => tries += 1,
            done => return done,
        }
    }
}

/// As open as the folder in which it lies; the owner may always read and write. A folder hands its group on where the one above does.
fn mode_in(dir: impl AsFd, bits: u32) -> Result<Mode, Errno> {
    let parent = Mode::from_raw_mode(fs::fstat(dir)?.st_mode);
    Ok((parent & Mode::from_bits_truncate(bits)) | Mode::from_bits_truncate(bits & 0o700))
}

impl Inner {
    /// The file's folder, made where it is missing, and durable.
    fn folder_of(&self, root: &Root, name: &FileName) -> Result<OwnedFd, Errno> {
        let Some(path) = name.folder() else { return self.sys.folder(root, ".") };
        let made = std::cell::Cell::new(false);
        let adopted = |parent: BorrowedFd<'_>, new: BorrowedFd<'_>| {
            made.set(true);
            adopt(parent, new, Some(mode_in(parent, 0o2777)?))
        };
        let dir = self.sys.make(root, path, &adopted)?;
        if made.get() {
            // A new folder's name stands in the one above it.
            self.sync(root, b".")?;
            for (slash, _) in path.match_indices('/') {
                self.sync(root, &path.as_bytes()[..slash])?;
            }
        }
        Ok(dir)
    }

    fn sync(&self, at: impl AsFd, path: &[u8]) -> Result<(), Errno> {
        again(|| fs::fsync(self.sys.open(&at, path, reading())?))
    }

    /// A file without a name, or one that nobody else knows, on the file system of `dir`.
    fn nameless(&self, root: &Root, dir: &OwnedFd) -> Result<UnnamedFile, Errno> {
        #[cfg(target_os = "linux")]
        if self.sys.nameless() {
            let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
            // It needs a handle that can be read.
            match self.sys.open(dir, b".", reading()).and_then(|dir| again(|| fs::openat(&dir, ".", flags, Mode::RUSR | Mode::WUSR))) {
                Ok(fd) => {
                    adopt(dir, fd.as_fd(), Some(mode_in(dir, 0o666)?))?;
                    return Ok(UnnamedFile { file: File::from(fd), named: None });
                }
                Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => self.sys.no_nameless(),
                Err(e) => return Err(e),
            }
        }
        let at = self.uploads(root)?;
        let name = format!("{:032x}", rand::random::<u128>());
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = again(|| fs::openat(&at, &*name, flags, Mode::RUSR | Mode::WUSR))?;
        let made = UnnamedFile { file: File::from(fd), named: Some((at, name)) };
        adopt(dir, made.file.as_fd(), Some(mode_in(dir, 0o666)?))?;
        Ok(made)
    }

    /// Where files lie that have no name yet; what was forgotten there is removed.
    fn uploads(&self, root: &Root) -> Result<OwnedFd, Errno> {
        let path = format!("{RESERVED}/{UPLOADS}");
        let at = self.sys.make(root, &path, &|parent, new| adopt(parent, new, Some(Mode::RWXU)))?;
        // By the file system's own clock: this machine's may be years ahead, and another process be writing.
        let now = || marker::now(self, root).ok();
        if !self.tidied.swap(true, Relaxed)
            && let Some(now) = now()
        {
            let mut dir = fs::Dir::new(self.sys.open(&at, b".", reading())?)?;
            while let Some(entry) = dir.read() {
                let Ok(entry) = entry else { break };
                let name = entry.file_name();
                let Ok(found) = stat(&at, name) else { continue };
                let found = FileStat::of(&found);
                if found.oddity().is_none() && clock::passed(found.since(), FORGOTTEN, now) {
                    let _ = fs::unlinkat(&at, name, AtFlags::empty()); // next time
                }
            }
        }
        Ok(at)
    }

    /// Gives the file its name, and makes that durable.
    fn give_name(&self, root: &Root, file: &UnnamedFile, dir: &OwnedFd, base: &str, mode: PutMode) -> Result<PutResult, Errno> {
        match self.link(file, dir, base) {
            Ok(()) => {}
            Err(Errno::EXIST) if mode == PutMode::Create => return Ok(PutResult::Occupied),
            Err(Errno::EXIST) => {
                // Only a plain file is replaced. What somebody puts there in this moment is none of ours either way.
                match FileStat::of(&stat(dir, base)?).oddity() {
                    None => {}
                    Some(_) => return Err(Errno::EXIST),
                }
                let at = self.uploads(root)?;
                let between = format!("{:032x}", rand::random::<u128>());
                self.link(file, &at, &between)?;
                if let Err(e) = again(|| fs::renameat(&at, &*between, dir, base)) {
                    let _ = fs::unlinkat(&at, &*between, AtFlags::empty()); // or it goes after a day
                    return Err(e);
                }
            }
            Err(e) => return Err(e),
        }
        again(|| fs::fsync(self.sys.open(dir, b".", reading())?))?;
        Ok(PutResult::Stored)
    }

    /// A second, or first, name for the file, where nothing is.
    fn link(&self, file: &UnnamedFile, dir: &OwnedFd, base: &str) -> Result<(), Errno> {
        match &file.named {
            // Not by an empty path, for which old kernels ask for a right that hardly anybody has.
            None => {
                let path = PathBuf::from(format!("/proc/self/fd/{}", file.file.as_raw_fd()));
                again(|| fs::linkat(fs::CWD, &path, dir, base, AtFlags::SYMLINK_FOLLOW))
            }
            Some((at, name)) => again(|| fs::linkat(at, name.as_str(), dir, base, AtFlags::empty())),
        }
    }

    /// Opens a plain file to be read; `None` if there is none.
    fn open_file(&self, root: &Root, name: &FileName) -> Result<Option<(File, FileStat)>> {
        let refused = |why: &str| {
            self.error(Kind::Storage, "the name is not that of a plain file")
                .with("name", name)
                .because(why.to_owned())
                .hint("look at the path with `ls -la`")
        };
        let failed = |e: Errno| match refusal(e) {
            Some(why) => refused(why),
            None => self.failure(e, "cannot read the file").with("name", name),
        };
        // Looked at before it is opened: opening a device may do something.
        let found = self.sys.folder(root, name.folder().unwrap_or(".")).and_then(|dir| stat(&dir, name.base()).map(|s| (dir, s)));
        let dir = match found.map(|(dir, s)| (dir, FileStat::of(&s).oddity())) {
            Ok((dir, None)) => dir,
            Ok((_, Some(why))) => return Err(refused(why)),
            Err(Errno::NOENT) => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        // Not blocking: somebody may have put a fifo there meanwhile.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match self.sys.open(&dir, name.base().as_bytes(), flags) {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT) => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        let found = FileStat::of(&again(|| fs::fstat(&file)).map_err(failed)?);
        match found.oddity() {
            None => Ok(Some((file, found))),
            Some(why) => Err(refused(why)),
        }
    }

    /// The first bytes of a file.
    pub(super) fn read(&self, root: &Root, name: &FileName, limit: usize) -> Result<Option<Vec<u8>>> {
        use std::io::Read;
        let Some((file, _)) = self.open_file(root, name)? else { return Ok(None) };
        let mut bytes = Vec::new();
        let failed = |e: std::io::Error| self.failure(Errno::from_io_error(&e).unwrap_or(Errno::IO), "cannot read the file");
        file.take(limit as u64).read_to_end(&mut bytes).map_err(|e| failed(e).with("name", name))?;
        Ok(Some(bytes))
    }

    fn cannot_write(&self, e: std::io::Error) -> Error {
        let errno = Errno::from_io_error(&e).unwrap_or(Errno::IO);
        match errno {
            Errno::NOSPC | Errno::DQUOT => self
                .error(Kind::Storage, "cannot write the file")
                .because(errno)
                .retry(Retry::Later)
                .hint("the file system is full, or the user's share of it"),
            Errno::FBIG => self
                .error(Kind::Storage, "cannot write the file")
                .because(errno)
                .hint("it is larger than the file system or `ulimit -f` allows"),
            e => self.failure(e, "cannot write the file"),
        }
    }

    /// What it means that a file cannot have this name.
    fn unplaceable(&self, errno: Errno, name: &FileName) -> Error {
        let error = match (refusal(errno), errno) {
            (Some(why), _) => {
                self.error(Kind::Storage, "no file can have this name here").because(why.to_owned()).hint("choose another name")
            }
            (None, Errno::EXIST) => self
                .error(Kind::Storage, "the name is not that of a plain file, which alone is replaced")
                .hint("look at the path with `ls -la`"),
            (None, Errno::XDEV) => self
                .error(Kind::Storage, "another file system is mounted within the storage, and a file cannot be moved there in one step")
                .because(errno)
                .hint("make the mounted folder a storage of its own"),
            (None, Errno::NOSPC | Errno::DQUOT) => self.cannot_write(errno.into()),
            (None, e) => self.failure(e, "cannot put the file into its folder"),
        };
        error.with("name", name)
    }
}
