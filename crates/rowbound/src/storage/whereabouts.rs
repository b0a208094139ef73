//! Where a storage is: what tells two places apart, and what lies in another.
//!
//! In: what a storage knows of its own place, and the markers that it meets. Out: [`Whereabouts`], and the errors for a storage that lies within another.
//! Promise: on a doubt here everything stops. Rows of the one storage would release files that rows of the other still reference.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Backend, MARKER, Marker, Proof};
use crate::{
    error::{Error, Kind, Result},
    name::{FileName, RESERVED},
};

/// Device and inode of a folder.
pub type Inode = (u64, u64);

/// Where a storage is, as far as it can tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Whereabouts {
    /// What tells its folder from any other, whatever the paths say; `None` where a storage is no folder.
    pub inode: Option<Inode>,
    /// The folders above it, by every path on which this process can reach it.
    pub above: BTreeSet<Inode>,
    /// The storage in which this one lies, if the marker of one was found above it.
    pub within: Option<Within>,
    /// What a marker that is written here says of its place.
    pub written: Written,
}

/// A storage that was found above another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Within {
    /// Where its marker is.
    pub at: String,
    /// Its marker; `None` where it cannot be read.
    pub marker: Option<Marker>,
}

/// Where a marker was written, as it says itself: a marker that was copied together with the files says what the original's said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// The storage's URL without what could be a secret, for people.
    pub url: String,
    /// Which folder it lies in (its inode and time of birth, and its file system where snapshots keep both), where a file system keeps these for ever. Hardly any
    /// copy has the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// Which bucket and prefix it lies in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,
}

/// What a marker tells of its own place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It lies where it was written.
    Here,
    /// It was copied here, or restored from a backup, together with the files.
    Copied,
    /// That cannot be told.
    Unknown,
}

impl Written {
    /// What a marker that says `self` is at a place that says `here`.
    pub fn origin(&self, here: &Written) -> Origin {
        let same = |a: &Option<String>, b: &Option<String>| a.as_ref().zip(b.as_ref()).map(|(a, b)| a == b);
        match (same(&self.folder, &here.folder), same(&self.bucket, &here.bucket)) {
            (Some(true), _) => Origin::Here,
            // One path is another folder on another machine, where it is a copy; and on the same one, if the files came back from a backup.
            (Some(false), _) if self.url == here.url => Origin::Unknown,
            (Some(false), _) | (_, Some(false)) => Origin::Copied,
            // One name may stand for two buckets, at two services; and one path for two folders, on two machines.
            _ if self.url == here.url && !self.url.is_empty() && !self.url.starts_with("folder:") => Origin::Here,
            _ => Origin::Unknown,
        }
    }
}

/// A storage lies within another one.
#[derive(Debug, thiserror::Error)]
#[error("a file there would have two names, and rows of the one storage are not asked before the other deletes it")]
struct Nested;

/// A copy of a storage lies within it.
#[derive(Debug, thiserror::Error)]
#[error("a file there is part of a backup or a snapshot, and no row references it there")]
struct Copied;

/// Whether this error says that a storage, or a copy of this one, lies within another one.
pub(crate) fn is_nested(e: &Error) -> bool {
    std::error::Error::source(e).is_some_and(|why| why.is::<Nested>() || why.is::<Copied>())
}

/// Whether this error says that a copy of the storage lies within it.
pub(crate) fn is_copy(e: &Error) -> bool {
    std::error::Error::source(e).is_some_and(|why| why.is::<Copied>())
}

/// What a file there is refused for.
pub(crate) const IN_A_COPY: &str = "lies in a copy of this storage within it (a backup, a snapshot)";

/// The error for a storage in which a copy of itself lies, whose marker is `at`.
pub(crate) fn holds_copy(storage: &str, at: &str) -> Error {
    let folder = at.strip_suffix(MARKER).and_then(|at| at.strip_suffix(&format!("{RESERVED}/"))).unwrap_or(at);
    Error::new(Kind::Config, "a copy of this storage lies within it").with("storage", storage).with("marker of the copy", at).because(Copied).hint(format!(
        "move the copy to a place outside of this storage; or delete its marker and add \"{folder}**\" to the storage's `ignore`, without which a sweep takes its \
         files for orphans"
    ))
}

const A_PLACE_EACH: &str = "give each storage a place that does not lie within the other's. If the other one is not used any more: `rowbound detach` there, or delete its marker";

/// The error for a storage that lies within another one.
pub(crate) fn within(storage: &str, other: &Within) -> Error {
    let message = match other.marker {
        Some(_) => "this storage lies within another one",
        None => "this storage lies within another one, or within a folder whose `.rowbound` cannot be looked into",
    };
    Error::new(Kind::Config, message).with("storage", storage).with("marker of the other", &other.at).because(Nested).hint(A_PLACE_EACH)
}

/// The error for a storage in which another one lies, whose marker is `at`.
pub(crate) fn holds_another(storage: &str, at: &str) -> Error {
    Error::new(Kind::Config, "another storage lies within this one")
        .with("storage", storage)
        .with("marker of the other", at)
        .because(Nested)
        .hint(A_PLACE_EACH)
}

/// The error for a storage in which the marker `its` stands: another one's, or that of a copy of itself, whose own marker is `own`.
pub(crate) fn nested(storage: &str, at: &str, its: Option<&Marker>, own: Option<&Marker>) -> Error {
    match its.zip(own).is_some_and(|(its, own)| its.storage == own.storage) {
        true => holds_copy(storage, at),
        false => holds_another(storage, at),
    }
}

/// The error for two storages of one plan.
pub(crate) fn one_within(inner: &str, outer: &str) -> Error {
    Error::new(Kind::Config, "one storage lies within another: a file that one releases may be referenced by rows of the other")
        .with("storages", format_args!("{inner} within {outer}"))
        .because(Nested)
        .hint("give each storage a folder or prefix that does not lie within the other's; or bind the columns of both to the outer one")
}

/// Where the marker of a storage stands that lies in `folder` of another.
pub(crate) fn marker_in(folder: &str) -> String {
    format!("{folder}/{RESERVED}/{MARKER}")
}

/// Whether a listed name is the marker of a storage that lies within the one that is listed.
#[cfg_attr(not(any(feature = "s3", feature = "service")), allow(dead_code))]
pub(crate) fn is_marker(name: &str) -> bool {
    name.strip_suffix(MARKER)
        .and_then(|rest| rest.strip_suffix('/'))
        .and_then(|rest| rest.strip_suffix(RESERVED))
        .is_some_and(|rest| rest.ends_with('/'))
}

/// The folders that lead to what begins with `prefix`, the outermost first: `a/b/c` has `a` and `a/b`.
pub(crate) fn folders_to(prefix: &str) -> impl Iterator<Item = &str> {
    prefix.match_indices('/').map(|(at, _)| &prefix[..at]).filter(|folder| !folder.is_empty() && *folder != RESERVED)
}

/// What [`Backend::listable`] answers for a storage that is no folder: insists that a listing of what begins with `prefix` and comes after `after` passes no
/// marker by; one that stands above it would not be listed.
///
/// # Errors
/// That of a storage that holds another one, or a copy of itself; the backend's own.
pub async fn listable<B: Backend>(proof: &Proof<B>, prefix: &str, after: Option<&FileName>) -> Result<bool> {
    let (backend, at) = (proof.backend(), proof.held());
    let folders: BTreeSet<&str> = folders_to(prefix).chain(folders_to(after.map_or("", FileName::as_str))).collect();
    for folder in folders {
        let Ok(folder) = FileName::parse(folder) else { continue }; // no storage can be there
        if let Some(found) = backend.marker_in(at, &folder).await? {
            return Err(nested(proof.name(), &marker_in(folder.as_str()), Some(&found), backend.marker(at).await?.as_ref()));
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marker_of_a_storage_within_is_known_by_its_name() {
        for (name, is) in [
            ("a/.rowbound/storage.json", true),
            ("a/b/.rowbound/storage.json", true),
            (".rowbound/storage.json", false),
            ("a.rowbound/storage.json", false),
            ("a/.rowbound/storage.json.bak", false),
            ("a/.rowbound/xstorage.json", false),
            ("a/.rowbound/trash/storage.json", false),
        ] {
            assert_eq!(is_marker(name), is, "{name}");
        }
        assert_eq!(folders_to("a/b/c").collect::<Vec<_>>(), ["a", "a/b"]);
        assert_eq!(folders_to("a").count(), 0);
        assert_eq!(folders_to("").count(), 0);
        let copy = holds_copy("default", "backup/2025/.rowbound/storage.json");
        assert!(
            is_nested(&copy) && is_copy(&copy) && copy.hint_text().is_some_and(|hint| hint.contains("\"backup/2025/**\"")),
            "{}",
            copy.full()
        );
        let other = holds_another("default", "a/.rowbound/storage.json");
        assert!(is_nested(&other) && !is_copy(&other));
    }

    #[test]
    fn what_cannot_be_looked_into_is_not_said_to_be_a_storage() {
        let at = |marker| Within { at: "/srv/.rowbound/storage.json".into(), marker };
        let said = within("default", &at(Some(Marker::default()))).full();
        assert!(said.contains("this storage lies within another one") && !said.contains("cannot be looked into"), "{said}");
        let said = within("default", &at(None)).full();
        assert!(said.contains("cannot be looked into") && said.contains("/srv/.rowbound"), "{said}");
    }

    #[test]
    fn a_marker_tells_whether_it_was_copied() {
        let folder = |url: &str, folder: Option<&str>| Written { url: url.into(), folder: folder.map(str::to_owned), bucket: None };
        let bucket = |url: &str, bucket: &str| Written { url: url.into(), folder: None, bucket: Some(bucket.into()) };
        for (was, here, origin) in [
            (folder("folder:/a", Some("1")), folder("folder:/a", Some("1")), Origin::Here),
            // The folder was moved, or is seen under another path.
            (folder("folder:/a", Some("1")), folder("folder:/b", Some("1")), Origin::Here),
            (folder("folder:/a", Some("1")), folder("folder:/b", Some("2")), Origin::Copied),
            // The path is the same on two machines; or the files were restored from a backup.
            (folder("folder:/a", Some("1")), folder("folder:/a", Some("2")), Origin::Unknown),
            (folder("folder:/a", None), folder("folder:/a", Some("2")), Origin::Unknown),
            (folder("folder:/a", Some("1")), folder("folder:/a", None), Origin::Unknown),
            (bucket("s3://a", "a/"), bucket("s3://a", "a/"), Origin::Here),
            (bucket("s3://a", "a/"), bucket("s3://b", "b/"), Origin::Copied),
            // A bucket of the same name at another address: the same one, or a mirror of it.
            (bucket("s3://a?endpoint=http://x", "a/"), bucket("s3://a?endpoint=http://y", "a/"), Origin::Unknown),
            (Written::default(), bucket("s3://a", "a/"), Origin::Unknown),
            (Written::default(), Written::default(), Origin::Unknown),
            (folder("sftp://h/a", None), folder("sftp://h/a", None), Origin::Here),
            (folder("sftp://h/a", None), folder("sftp://alias/a", None), Origin::Unknown),
        ] {
            assert_eq!(was.origin(&here), origin, "{was:?} {here:?}");
        }
    }
}
