//! What tells a database file from its copies.
//!
//! In: the file's path. Out: the identity that `attach` stores and that every worker compares. It has three parts: the path, the machine's id, and a
//! small file beside the database, `NAME-rowbound.id`. Path and machine are not enough: many container images have no machine id, or one that
//! all their containers share, and two containers often have their databases under the same path.
//!
//! Promise: a copy of the database file alone does not take that file, and where it is copied along, it is another file: its inode number
//! and its time of birth belong to the identity. A block-level copy (a volume snapshot) keeps both and is not noticed.

use std::{
    fs::OpenOptions,
    io::Write,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use rustix::fs::OFlags;

use crate::{
    error::{Error, Kind, Result},
    owner::{self, Owner},
};

/// Where systemd and D-Bus keep the id of the machine: 32 hexadecimal digits (`man 5 machine-id`).
const MACHINE: &str = "/etc/machine-id";

/// File systems that may number a file anew whenever they are mounted: FUSE (0x65735546) and 9P (0x01021997), from `linux/magic.h`.
const RENUMBERED: [rustix::fs::FsWord; 2] = [0x6573_5546, 0x0102_1997];

/// The file beside the database.
pub(super) fn file(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push("-rowbound.id");
    name.into()
}

/// The identity as it is now. What was attached before there was such a file has an identity without it, until the next `attach`.
///
/// # Errors
/// [`Kind::Permission`] where the file beside the database cannot be read.
pub(super) fn read(database: &Path) -> Result<String> {
    let machine = std::fs::read_to_string(MACHINE).ok();
    let path = file(database);
    let unreadable = |e: std::io::Error| {
        Error::new(Kind::Permission, "cannot read the file that identifies this database")
            .with("file", path.display())
            .because(e)
            .hint("it must be the plain file that `rowbound attach` wrote, and the user that runs rowbound must be able to read it")
    };
    // Through no link, and not waiting for whoever writes into a fifo.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let beside = match OpenOptions::new().read(true).custom_flags(flags).open(&path) {
        Ok(mut file) => {
            if !file.metadata().map_err(unreadable)?.is_file() {
                return Err(unreadable(std::io::Error::other("it is no plain file")));
            }
            let mut id = String::new();
            std::io::Read::read_to_string(&mut file, &mut id).map_err(unreadable)?;
            Some(format!("{}{}", id.lines().next().unwrap_or_default().trim(), number(&file).map_err(unreadable)?))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => return Err(unreadable(e)),
    };
    Ok(identity(database, machine.as_deref(), beside.as_deref()))
}

/// Whether a database that said `was` of itself is the one that says `now`, moved to another path: on the same known machine, with the file beside it (inode and
/// time of birth), and nothing is left where it was. A snapshot of a whole volume has that file, too; mounted beside the original, the original is still there.
pub(super) fn moved(was: &str, now: &str) -> bool {
    let parts = |identity: &str| -> Option<[String; 3]> {
        let (rest, file) = identity.strip_prefix("sqlite ")?.rsplit_once(" by ")?;
        let (path, machine) = rest.rsplit_once(" on ")?;
        (file.contains(" inode ") && file.contains(" born ")).then(|| [path, machine, file].map(str::to_owned))
    };
    let (Some([from, machine, file]), Some([to, its_machine, its_file])) = (parts(was), parts(now)) else { return false };
    // Two containers without a machine id are two machines, for all we know.
    known(&machine) && machine == its_machine && file == its_file && from != to && std::fs::symlink_metadata(from).is_err()
}

/// Makes the file beside the database if there is none.
///
/// # Errors
/// [`Kind::Permission`] where the database's folder is not writable.
pub(super) fn make(database: &Path) -> Result<()> {
    let path = file(database);
    let in_context = |e: std::io::Error| {
        Error::new(Kind::Permission, "cannot write the file that identifies this database")
            .with("file", path.display())
            .because(e)
            .hint("rowbound needs write access to the database's folder")
    };
    // Without an id in it: a process was killed between the two steps, and no identity was stored yet.
    if std::fs::metadata(&path).is_ok_and(|m| m.len() > 0) {
        return Ok(());
    }
    // Through no link: root must not write where somebody else leads it.
    let mut how = OpenOptions::new();
    let mut file =
        how.write(true).create(true).truncate(false).custom_flags(OFlags::NOFOLLOW.bits() as i32).open(&path).map_err(in_context)?;
    // The application's user reads it, even if another one attached.
    owner::give(&file, Owner::at(database).map_err(in_context)?).map_err(|e| in_context(e.into()))?;
    let text = format!(
        "{:032x}\nRowbound tells this database from its copies by this file. Do not copy it; `rowbound detach` removes it.\n",
        rand::random::<u128>()
    );
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(in_context)
}

/// Removes the file beside the database.
///
/// # Errors
/// [`Kind::Permission`].
pub(super) fn remove(database: &Path) -> Result<()> {
    match std::fs::remove_file(file(database)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::new(Kind::Permission, "cannot remove the file that identifies this database")
                .with("file", file(database).display())
                .because(e))
        }
        _ => Ok(()),
    }
}

/// What a copy of the file would not have: its inode number, and its time of birth where the file system keeps one. Not the device: its number may be another
/// one after each mount (overlayfs, btrfs, NFS).
fn number(file: &std::fs::File) -> std::io::Result<String> {
    Ok(numbers(&file.metadata()?, rustix::fs::fstatfs(file).ok()))
}

/// The same of the file at a path, which is not opened: closing it would end SQLite's own locks on it (<https://www.sqlite.org/howtocorrupt.html>, 2.2).
pub(super) fn number_at(path: &Path) -> std::io::Result<String> {
    Ok(numbers(&std::fs::metadata(path)?, rustix::fs::statfs(path).ok()))
}

fn numbers(meta: &std::fs::Metadata, fs: Option<rustix::fs::StatFs>) -> String {
    if fs.is_some_and(|fs| RENUMBERED.contains(&fs.f_type)) {
        return String::new();
    }
    let born = meta.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
    let born = born.map_or_else(String::new, |born| format!(" born {}.{:09}", born.as_secs(), born.subsec_nanos()));
    format!(" inode {}{born}", meta.ino())
}

fn identity(database: &Path, machine: Option<&str>, beside: Option<&str>) -> String {
    let machine = machine.map(str::trim).filter(|id| known(id)).unwrap_or("no known machine");
    let beside = beside.map_or_else(String::new, |id| format!(" by {id}"));
    format!("sqlite {} on {machine}{beside}", database.display())
}

/// Whether this is the id of one machine. An image that was never started has an empty file or `uninitialized`.
fn known(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()) && id.bytes().any(|b| b != b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3d1219c7c4c5404aaa1f6d2a48adfda4";

    #[test]
    fn a_machine_without_an_id_of_its_own_is_not_known() {
        let path = Path::new("/app/db.sqlite3");
        for none in [None, Some(""), Some("\n"), Some("uninitialized\n"), Some("00000000000000000000000000000000\n"), Some("container")] {
            assert_eq!(identity(path, none, None), "sqlite /app/db.sqlite3 on no known machine", "{none:?}");
        }
        // What earlier versions stored stays true where the machine is known, and is true nowhere else.
        assert_eq!(identity(path, Some(&format!("{ID}\n")), None), format!("sqlite /app/db.sqlite3 on {ID}"));
        assert_ne!(identity(path, Some(""), None), "sqlite /app/db.sqlite3 on ");
    }

    #[test]
    fn a_moved_database_is_known_again_where_nothing_is_left_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let gone = folder.path().join("gone on by.sqlite3");
        let of =
            |path: &Path, machine: &str, inode: u32| identity(path, Some(machine), Some(&format!("{ID} inode {inode} born 1.000000002")));
        let was = of(&gone, ID, 7);
        let new = folder.path().join("new.sqlite3");
        assert!(moved(&was, &of(&new, ID, 7)));
        assert!(!moved(&was, &of(&new, ID, 8)), "another file lies beside it");
        assert!(!moved(&was, &of(&new, &ID.replace('3', "4"), 7)), "a copy of the whole disk on another machine");
        assert!(!moved(&was, &identity(&new, Some(ID), Some(ID))), "nothing tells the file beside it from a copy");
        assert!(!moved(&was, &was));
        let nowhere = |path: &Path| identity(path, None, Some(&format!("{ID} inode 7 born 1.000000002")));
        assert!(!moved(&nowhere(&gone), &nowhere(&new)), "a clone of the volume in another container");
        std::fs::write(&gone, "").unwrap();
        assert!(!moved(&was, &of(&new, ID, 7)), "the original is still there");
    }

    #[test]
    fn a_copied_id_file_is_another_one() {
        let folder = tempfile::tempdir().unwrap();
        let (original, copy) = (folder.path().join("db.sqlite3"), folder.path().join("copy.sqlite3"));
        std::fs::write(&original, "").unwrap();
        let by = |database: &Path| read(database).unwrap().split_once(" by ").unwrap().1.to_owned();
        make(&original).unwrap();
        let was = by(&original);
        make(&original).unwrap();
        assert_eq!(by(&original), was, "it is made once");
        std::fs::copy(file(&original), file(&copy)).unwrap();
        assert_ne!(by(&copy), was);
        remove(&original).unwrap();
        remove(&original).unwrap();
        assert!(!read(&original).unwrap().contains(" by "));
    }
}
