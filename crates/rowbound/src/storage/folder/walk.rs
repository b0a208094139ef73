//! An ordered walk.
//!
//! In: a folder that is held open. Out: every entry beneath it, in bytewise order of full paths. Promise: links are never followed, and what
//! cannot be read is an error, never an absence. Memory: the names of the folders on the way down, each in one buffer.

use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{Dir, FileType},
    io::Errno,
};

use super::resolve::{self, Syscalls};
use crate::name::RESERVED;

/// One entry. Its path is [`Walk::path`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// A plain file.
    File,
    /// A folder in which a folder of Rowbound's own lies: another storage may be there. What is in it comes next, unless [`Walk::pass`] leaves it out.
    Marked,
    /// A folder whose name is not UTF-8: no row can reference what is in it, so it is not entered.
    Unnameable,
    /// A link, a device, a socket, ...
    Other,
}

/// Where the walk failed, lossily, and the kernel's answer.
#[derive(Debug)]
pub(super) struct Stuck(pub(super) String, pub(super) Errno);

#[derive(Debug)]
pub(super) struct Walk<'a> {
    sys: &'a Syscalls,
    root: &'a OwnedFd,
    skip_reserved: bool,
    after: Vec<u8>,
    levels: Vec<Level>,
    path: Vec<u8>,
}

#[derive(Debug)]
struct Level {
    /// Length of this folder's path with its `/`.
    prefix: usize,
    /// All names, one after the other; a folder's name ends with `/`, which is what puts `a.txt` before `a/x`.
    names: Vec<u8>,
    /// Start, end and kind of each; the next one is the last.
    rest: Vec<(u32, u32, Entry)>,
    /// Whether a folder of Rowbound's own is among them.
    marked: bool,
}

impl<'a> Walk<'a> {
    /// Begins after the path `after` (empty: at the start). `skip_reserved` leaves out what is Rowbound's own in a storage's root.
    pub(super) fn begin(sys: &'a Syscalls, root: &'a OwnedFd, skip_reserved: bool, after: Vec<u8>) -> Result<Self, Stuck> {
        let mut walk = Walk { sys, root, skip_reserved, after, levels: Vec::new(), path: Vec::new() };
        let level = walk.read(b".").map_err(|e| Stuck(".".into(), e))?;
        walk.levels.push(level);
        Ok(walk)
    }

    /// The same for the entries whose paths begin with `prefix`: folders beside the way to them are not read. `None` where no folder leads
    /// there, or a link does.
    pub(super) fn beneath(sys: &'a Syscalls, root: &'a OwnedFd, prefix: &[u8], after: Vec<u8>) -> Result<Option<Self>, Stuck> {
        let Some(slash) = prefix.iter().rposition(|b| *b == b'/') else {
            let mut walk = Self::begin(sys, root, true, after)?;
            walk.keep_beginning_with(prefix);
            return Ok(Some(walk));
        };
        let mut walk = Walk { sys, root, skip_reserved: true, after, levels: Vec::new(), path: prefix[..=slash].to_vec() };
        let level = match walk.read(&prefix[..slash]) {
            Ok(level) => level,
            Err(Errno::NOENT) => return Ok(None),
            Err(e) if resolve::refusal(e).is_some() => return Ok(None),
            Err(e) => return Err(walk.stuck(e)),
        };
        walk.levels.push(level);
        walk.keep_beginning_with(&prefix[slash + 1..]);
        Ok(Some(walk))
    }

    fn keep_beginning_with(&mut self, start: &[u8]) {
        for level in &mut self.levels {
            level.rest.retain(|(from, to, _)| level.names[*from as usize..*to as usize].starts_with(start));
        }
    }

    /// The path of the last entry, relative to the root.
    pub(super) fn path(&self) -> &[u8] {
        &self.path
    }

    /// The next entry, or `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, Stuck> {
        loop {
            let Some(level) = self.levels.last_mut() else { return Ok(None) };
            self.path.truncate(level.prefix);
            let Some((start, end, kind)) = level.rest.pop() else {
                self.levels.pop();
                continue;
            };
            let name = &level.names[start as usize..end as usize];
            self.path.extend_from_slice(name);
            if name.last() == Some(&b'/') {
                // Everything in it begins with its path: the whole folder lies before `after`, or may not.
                if *self.path <= *self.after && !self.after.starts_with(&self.path) {
                    continue;
                }
                if kind == Entry::Unnameable {
                    return Ok(Some(kind));
                }
                match self.read(&self.path[..self.path.len() - 1]) {
                    Ok(level) => {
                        let marked = self.skip_reserved && level.marked;
                        self.levels.push(level);
                        if marked {
                            return Ok(Some(Entry::Marked));
                        }
                    }
                    // It was removed after its name was read, with everything in it.
                    Err(Errno::NOENT) => {}
                    Err(e) => return Err(self.stuck(e)),
                }
            } else if self.path > self.after {
                return Ok(Some(kind));
            }
        }
    }

    /// Leaves out what is in the folder that is the last entry ([`Entry::Marked`]).
    pub(super) fn pass(&mut self) {
        self.levels.pop();
    }

    fn stuck(&self, errno: Errno) -> Stuck {
        Stuck(String::from_utf8_lossy(&self.path).into_owned(), errno)
    }

    /// Reads one folder. It is opened by its whole path from the root, so that a deep tree needs no more handles than a flat one.
    fn read(&self, folder: &[u8]) -> Result<Level, Errno> {
        let fd = self.sys.open(self.root, folder, resolve::reading())?;
        let (mut names, mut rest, mut marked) = (Vec::new(), Vec::new(), false);
        let mut dir = Dir::new(fd)?;
        while let Some(entry) = dir.read() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." || (self.skip_reserved && self.path.is_empty() && name == RESERVED.as_bytes()) {
                continue;
            }
            let mut kind = entry.file_type();
            if kind == FileType::Unknown {
                // Not every file system says it along with the name.
                kind = match resolve::stat(dir.fd()?, name) {
                    Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                    Err(Errno::NOENT) => continue,
                    Err(e) => return Err(e),
                };
            }
            let start = offset(names.len())?;
            names.extend_from_slice(name);
            let kind = match kind {
                FileType::RegularFile => Entry::File,
                FileType::Directory => {
                    marked |= name == RESERVED.as_bytes();
                    names.push(b'/');
                    if std::str::from_utf8(name).is_ok() { Entry::File } else { Entry::Unnameable }
                }
                _ => Entry::Other,
            };
            rest.push((start, offset(names.len())?, kind));
        }
        rest.sort_unstable_by(|a, b| names[b.0 as usize..b.1 as usize].cmp(&names[a.0 as usize..a.1 as usize]));
        Ok(Level { prefix: self.path.len(), names, rest, marked })
    }
}

fn offset(length: usize) -> Result<u32, Errno> {
    // Four gigabytes of names in one folder.
    u32::try_from(length).map_err(|_| Errno::OVERFLOW)
}

/// The names in one folder that are folders themselves, unordered.
pub(super) fn folders(sys: &Syscalls, at: impl AsFd) -> Result<Vec<String>, Errno> {
    let mut dir = Dir::new(sys.open(at, b".", resolve::reading())?)?;
    let mut found = Vec::new();
    while let Some(entry) = dir.read() {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        let folder = match entry.file_type() {
            FileType::Directory => true,
            FileType::Unknown => resolve::stat(dir.fd()?, name).is_ok_and(|s| FileType::from_raw_mode(s.st_mode).is_dir()),
            _ => false,
        };
        if folder && name != "." && name != ".." {
            found.push(name.to_owned());
        }
    }
    Ok(found)
}
