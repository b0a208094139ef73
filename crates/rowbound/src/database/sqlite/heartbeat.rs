//! The heartbeat of the one worker of a SQLite database, in its lock file: a write to the database itself would wake every cache, backup and replica of it.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::Path,
};

use jiff::Timestamp;
use rustix::fs::OFlags;

use crate::{
    database::{heartbeat_text, read_heartbeat},
    error::{Error, Kind, Result},
    heartbeat::{Heartbeat, LastHeartbeat},
};

/// How the file begins. What begins otherwise is not ours to write.
const HEAD: &str = "rowbound ";

/// No heartbeat is longer.
const LONGEST: u64 = 4096;

/// Whether a lock file is the one that we made: empty, or with a heartbeat, and under no other name.
pub(super) fn is_ours(file: &File) -> io::Result<bool> {
    let meta = file.metadata()?;
    if !meta.is_file() || meta.nlink() != 1 {
        return Ok(false);
    }
    let mut head = [0; HEAD.len()];
    Ok(meta.len() == 0 || meta.len() <= LONGEST && file.read_exact_at(&mut head, 0).is_ok() && head == *HEAD.as_bytes())
}

/// Writes it, unless the file is another user's, or is none of ours.
pub(super) fn beat(path: &Path, beat: &Heartbeat) -> Result<()> {
    let text = format!("{HEAD}{} {}\n", Timestamp::now().as_second(), heartbeat_text(beat)?);
    let written = || -> io::Result<()> {
        let mut file = match OpenOptions::new().read(true).write(true).custom_flags(OFlags::NOFOLLOW.bits() as i32).open(path) {
            Ok(file) => file,
            Err(e) if matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound) => return Ok(()),
            Err(e) => return Err(e),
        };
        if !is_ours(&file)? {
            return Ok(());
        }
        file.write_all(text.as_bytes())?;
        file.set_len(text.len() as u64)
    };
    written().map_err(|e| Error::new(Kind::Permission, "cannot write into the lock file").with("file", path.display()).because(e))
}

/// Reads it. `None`: nobody has written one.
pub(super) fn last(path: &Path) -> Result<Option<LastHeartbeat>> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(LONGEST).read_to_string(&mut text));
    match read {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => {
            let e = Error::new(Kind::Permission, "cannot read the lock file, which says who works").with("file", path.display()).because(e);
            return Err(e.hint("run it as the user that runs rowbound"));
        }
        Ok(_) => {}
    }
    let Some((seen, record)) = text.strip_prefix(HEAD).and_then(|rest| rest.trim_end().split_once(' ')) else { return Ok(None) };
    let Ok(seen) = seen.parse::<i64>() else { return Ok(None) };
    read_heartbeat((Timestamp::now().as_second().saturating_sub(seen), record.to_owned())).map(Some)
}
