//! A storage: where the files are.
//!
//! In: checked names. Out: what lies there, and what became of it, name by name. Promise: an operation touches exactly the files it was
//! asked for, and absence is answered only after the storage has proved, in the same operation, to be the one that was attached.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    clock::Ahead,
    error::{Error, Kind, Result},
    name::{FileName, Refused},
    plan::{Location, StoragePlan},
};

mod backend; // what a kind of storage does by itself
pub(crate) mod capabilities;
pub(crate) mod clocks;
mod pages; // of a listing
mod proving; // what every storage promises, whatever lies behind it
pub mod folder;
pub mod memory;
#[cfg(feature = "s3")]
pub mod s3;
#[cfg(feature = "service")]
pub mod service;
// The table is the same in every build; what only a service reads of it stands idle without one.
#[cfg_attr(not(feature = "service"), allow(dead_code))]
pub mod services;
mod upload; // files that come in and go out
pub mod whereabouts;

pub use backend::{Backend, Described, Eraser, Signer};
pub use pages::Pages;
pub use proving::{Proof, Proving};
pub use upload::{Access, Body, Fetched, LONGEST_SIGNED, PutMode, PutOptions, PutResult, Signed, Upload};
pub use whereabouts::{Origin, Whereabouts, Written};

/// The file in [`crate::name::RESERVED`] that proves that a storage is there and which one it is.
pub const MARKER: &str = "storage.json";

/// What stands in a storage's marker.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// Random; the storage's own id.
    pub storage: String,
    /// Ids of the installations (databases) whose rows reference files here.
    pub installations: Vec<String>,
    /// The database of each installation, for people. Those of an installation that an earlier version attached are missing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub databases: BTreeMap<String, Attachment>,
    /// Where it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<Written>,
    /// What the storage was seen to honour when it was attached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proved: Option<Capabilities>,
}

/// The database that an installation in a marker stands for, as it was when it attached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Which it is: its kind and its name. Everybody who may read the files may read the marker, so host, user and path are not in it.
    pub database: String,
    /// When it attached last.
    pub at: Timestamp,
}

impl Marker {
    /// The marker of a storage with this id, which these installations use.
    pub fn new(storage: impl Into<String>, installations: impl IntoIterator<Item = String>) -> Self {
        Marker { storage: storage.into(), installations: installations.into_iter().collect(), ..Marker::default() }
    }

    /// Takes an installation out.
    pub fn forget(&mut self, id: &str) {
        self.installations.retain(|other| other != id);
        self.databases.remove(id);
    }

    /// What it tells of its own place, which says `here` of itself.
    pub fn origin(&self, here: &Written) -> Origin {
        self.written.as_ref().map_or(Origin::Unknown, |written| written.origin(here))
    }

    /// An installation as a message shows it: its id, and its database where that is known.
    pub fn shown(&self, id: &str) -> String {
        self.databases.get(id).map_or_else(|| id.to_owned(), |attached| format!("{id} ({})", attached.database))
    }

    /// The installations that use the storage besides `id`.
    pub fn others(&self, id: &str) -> impl Iterator<Item = &str> {
        self.installations.iter().map(String::as_str).filter(move |other| *other != id)
    }

    /// Whether another installation than `id` uses the storage too.
    pub fn is_shared(&self, id: &str) -> bool {
        self.others(id).next().is_some()
    }
}

/// What a storage was seen to honour, by doing it with files of Rowbound's own: some services ignore a condition and report success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// When it was tried.
    pub at: Timestamp,
    /// Whether a deletion can demand that the file is still the one that was looked at.
    pub delete: Conditional,
    /// Whether a file can be written only where there is none.
    pub create: bool,
    /// Where collected files can wait.
    pub trash: TrashKind,
    /// Whether names that are no paths (`a//b`, `./a`, `/a`) are kept apart from others, everywhere: on S3 only.
    #[serde(default)]
    pub exact: bool,
    /// Whether access lists can be read and written, so that a file which comes back out of a trash of copies has its own again. `None`: it was not tried, or
    /// needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<bool>,
}

/// How far a deletion can be conditional.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Conditional {
    /// Each deletion of a batch has its own condition.
    InBulk,
    /// Only one deletion per request can have one.
    OneByOne,
    /// It can't: what was looked at is deleted even if it was replaced a moment ago.
    No,
}

/// Where collected files can wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrashKind {
    /// They are moved, within the storage.
    Moved,
    /// They are copied to another place of the storage, then deleted.
    Copied,
    /// The storage keeps versions: they become invisible.
    Versions,
    /// They can't wait.
    No,
}

impl std::fmt::Display for Capabilities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.delete {
            Conditional::InBulk => "deletes only what was looked at",
            Conditional::OneByOne => "deletes only what was looked at, one by one",
            Conditional::No => "cannot make a deletion depend on what was looked at",
        })?;
        f.write_str(match self.trash {
            TrashKind::Moved => "; the trash is a folder",
            TrashKind::Copied => "; the trash holds copies",
            TrashKind::Versions => "; the trash is the bucket's versions",
            TrashKind::No => "; has no trash",
        })
    }
}

/// What a look at a name saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stat {
    /// There is no such file.
    Missing,
    /// A plain file.
    File(FileVersion),
    /// Something that must not be deleted: a folder, a link, a name that this storage cannot hold. The text says what.
    Refused(String),
}

/// A file as it was seen; what is deleted later must still be this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileVersion {
    /// Bytes.
    pub size: u64,
    /// Last modification, by the storage's clock.
    pub modified: Timestamp,
    /// Since when it is what it is, by the storage's clock.
    pub since: Since,
    /// Tells this content from any other under the same name: inode and times, an ETag, a version.
    pub version: String,
    /// What tells only this content.
    pub content: Content,
}

/// What tells a file's content from any other, whoever touches it or writes the same bytes once more. A description, because hardly any file needs the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// [`FileVersion::version`] does.
    Version,
    /// That and [`FileVersion::modified`] do: an ETag, which the same bytes have again.
    VersionAt,
    /// So many bytes of the version, from its beginning; the rest changes when somebody touches the file, such as a folder's change time.
    Begin(usize),
}

/// Since when a file is what it is, as far as its storage tells. An upload may be older than its modification time says: `cp -p`, `rsync -t` and `unzip` give a
/// new file an old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// Not later than this. The later of a folder's modification and change time.
    At(Timestamp),
    /// It does not tell, and this is why: "S3 tells when an upload in parts began, not when it ended".
    Unknown(&'static str),
}

impl FileVersion {
    /// Of a storage whose modification time cannot be set from outside.
    pub fn new(size: u64, modified: Timestamp, version: String) -> Self {
        FileVersion { size, modified, since: Since::At(modified), version, content: Content::Version }
    }

    /// What tells its content from any other.
    pub fn content(&self) -> Cow<'_, str> {
        match self.content {
            Content::Version => Cow::Borrowed(&self.version),
            Content::VersionAt => Cow::Owned(format!("{} {}", self.version, self.modified.as_second())),
            Content::Begin(bytes) => Cow::Borrowed(self.version.get(..bytes).unwrap_or(&self.version)),
        }
    }
}

/// What became of a file that was to be taken away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// It is gone for good.
    Erased,
    /// It lies in the trash, at this place.
    Trashed(String),
    /// It is no longer what was seen, and is untouched.
    Changed,
    /// It was not there any more.
    Missing,
}

/// A file in the trash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trashed {
    /// The name it had.
    pub name: FileName,
    /// Where in the trash it lies; names exactly one file of the trash.
    pub place: String,
    /// Since when, at the latest.
    pub at: Timestamp,
    /// Bytes.
    pub size: u64,
}

/// A page of the files that have waited in the trash long enough.
#[derive(Debug, Default)]
pub struct Expired {
    /// Files, those that were moved there first in front.
    pub files: Vec<Trashed>,
    /// What could not be read, each with its place. The files there stay, and do not keep the others.
    pub errors: Vec<Error>,
    /// Where the next page begins, in the storage's own words; `None` on the last one.
    pub next: Option<String>,
}

/// A page of the trash names at most so many places that could not be read.
pub(crate) const ERRORS: usize = 100;

impl Expired {
    /// Notes what could not be read.
    pub(crate) fn cannot(&mut self, e: Error) {
        if self.errors.len() < ERRORS {
            self.errors.push(e);
        }
    }
}

/// What came of bringing a file back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restored {
    /// It is back under its name.
    Back,
    /// Another file has the name now: nothing was moved.
    Occupied,
    /// It is not in the trash (any more).
    Missing,
}

/// One entry of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listed {
    /// A plain file under a legal name.
    File(FileName),
    /// Something else: its name as it stands (lossily), and why it is no file that a row could reference.
    Skipped(String, SkipReason),
}

/// Why a listed entry is no file that a row could reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SkipReason {
    /// Its name is refused.
    Name(Refused),
    /// It is a link, a device, a socket, ...
    NotAFile,
    /// It is a folder in which a copy of this storage lies: a backup or a snapshot, marker and all. What is in it is not listed.
    Copy,
}

/// Pages of a listing, in order. The sender ends with an `Err` when the listing could not be completed; a channel that
/// closes after an `Ok` page is a complete listing only if that page said so.
pub type Listing = tokio::sync::mpsc::Receiver<Result<Page>>;

/// A page of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Entries, in bytewise order of their full names, across pages too.
    pub entries: Vec<Listed>,
    /// Whether this is the last page. A listing without a last page is partial, and nothing may be concluded from it.
    pub last: bool,
}

/// What one operation on one name came to.
pub type PerName<T> = Vec<Result<T>>;

/// The contract of a storage. Every operation proves first that the storage is there ([`Storage::verify_marker`]); if it
/// is not, the operation as a whole is an error and nothing was touched.
#[async_trait]
pub trait Storage: Send + Sync + std::fmt::Debug {
    /// Reads the marker; `None` if the place is there but has none.
    ///
    /// # Errors
    /// [`crate::Kind::StorageUnreachable`] when the place itself is not there.
    async fn marker(&self) -> Result<Option<Marker>>;

    /// Tries what the storage honours, on names beneath `.rowbound/`, and leaves nothing behind. `attach` writes the answer into the marker.
    ///
    /// # Errors
    /// [`crate::Kind::Config`] when the plan asks for what the storage was seen not to honour; the storage's own.
    async fn probe(&self) -> Result<Capabilities>;

    /// The storage's clock, by which it says when a file was modified: seen on a file that is written beneath `.rowbound/` and removed again.
    async fn now(&self) -> Result<Timestamp>;

    /// How far the storage's clock is ahead of this machine's, as its answers say it; `None` if there was none, or they say nothing of it.
    async fn ahead_of_machine(&self) -> Option<SignedDuration> {
        None
    }

    /// How far this machine's clock is ahead of the database's, as far as it was measured: what goes to the trash is stamped accordingly.
    fn ahead(&self) -> &Ahead;

    /// Writes the marker, atomically, and tries what deleting needs (write, rename, delete beneath `.rowbound/`).
    ///
    /// # Errors
    /// [`crate::Kind::Permission`] or [`crate::Kind::Storage`] name the step that failed.
    async fn set_marker(&self, marker: &Marker) -> Result<()>;

    /// Removes the marker and everything of Rowbound's that is empty. Files in the trash stay, and are counted in the result.
    async fn remove_marker(&self) -> Result<u64>;

    /// From now on, every operation demands that the marker holds this storage id.
    fn expect(&self, storage_id: &str);

    /// From now on, what only reads needs no marker (the place itself must be there), and what changes anything is refused: for a storage that is
    /// not attached yet. Its trash counts as something to change. [`Storage::expect`] ends it.
    fn set_read_only(&self);

    /// Proves that the storage is there: its marker is read and is the expected one.
    async fn verify_marker(&self) -> Result<()>;

    /// Where the storage is: what tells it from another one, whatever their URLs say, and whether it lies within another one.
    ///
    /// # Errors
    /// [`crate::Kind::StorageUnreachable`] when the place itself is not there.
    async fn whereabouts(&self) -> Result<Whereabouts>;

    /// The marker in a folder of this storage, if the root of another storage is there.
    async fn marker_in(&self, folder: &FileName) -> Result<Option<Marker>>;

    /// Whether its operations are as quick as a system call, so that a database lock may be held over them.
    fn quick(&self) -> bool;

    /// What lies under each name. One result per name, in order.
    async fn stat(&self, names: &[FileName]) -> Result<PerName<Stat>>;

    /// The first `limit` bytes of a file, or all of them if it has less; `None` if there is no such file. A file that is replaced meanwhile
    /// may answer with the old bytes or the new ones.
    ///
    /// # Errors
    /// [`Kind::Storage`] for what is no plain file or a name that this storage cannot hold, as [`Stat::Refused`] would say.
    async fn read(&self, name: &FileName, limit: usize) -> Result<Option<Vec<u8>>>;

    /// Begins a file that is to be placed under `name` by [`Upload::publish`]; until then nothing can be seen of it.
    ///
    /// # Errors
    /// [`Kind::Storage`] for a name that this storage cannot hold; [`Kind::Permission`].
    async fn begin(&self, name: &FileName, options: &PutOptions) -> Result<Box<dyn Upload>>;

    /// A whole file as it comes, in constant memory; `None` if there is no such file. What is replaced or removed meanwhile is read on as it was,
    /// or its body ends with an error.
    ///
    /// # Errors
    /// As [`Storage::read`].
    async fn fetch(&self, name: &FileName) -> Result<Option<Fetched>>;

    /// A URL that allows its holder `access` for `ttl`, at most [`LONGEST_SIGNED`]. Whether there is such a file is not looked at.
    ///
    /// # Errors
    /// [`Kind::Config`] where the storage has no such thing (folders, memory, many services).
    async fn sign(&self, name: &FileName, access: &Access, ttl: Duration) -> Result<Signed>;

    /// Takes each file away if it still is what was seen: into the trash if the storage has one, else for good.
    /// One result per item, in order. Idempotent.
    async fn remove(&self, items: &[(FileName, FileVersion)]) -> Result<PerName<Removed>>;

    /// Erases each file for good if it still is what was seen: only where [`Storage::remove`] could not move it ([`unmovable`]).
    async fn erase(&self, items: &[(FileName, FileVersion)]) -> Result<PerName<Removed>>;

    /// The latest version of each name in the trash, if any.
    async fn trashed(&self, names: &[FileName]) -> Result<PerName<Option<Trashed>>>;

    /// A page of the files that have lain in the trash since before `before`: about `limit` of them, from `after` on, which an earlier page said
    /// ([`Expired::next`]; `None`: from the beginning). A caller that goes from page to page meets each file once, whether the earlier ones are still
    /// there or not. A part of the trash that cannot be read is named and does not hide the others.
    ///
    /// # Errors
    /// When nothing of the trash can be read.
    async fn expired(&self, before: Timestamp, after: Option<&str>, limit: usize) -> Result<Expired>;

    /// Brings files back, never over another file.
    async fn restore(&self, items: &[Trashed]) -> Result<PerName<Restored>>;

    /// Erases files of the trash for good. `false` for one that was not there.
    async fn purge(&self, items: &[Trashed]) -> Result<PerName<bool>>;

    /// Lists, in bytewise order of full names, those that begin with `prefix` (bytes, not folders; empty: all) and come after `after`,
    /// without what is Rowbound's.
    async fn list(&self, prefix: &str, after: Option<FileName>) -> Result<Listing>;

    /// How many requests were sent to the storage since it was opened; system calls are not counted.
    fn requests(&self) -> u64;
}

/// Whether a file lies where it lay because it cannot be moved to the trash: the disk is full, a quota is used up, or another file system is mounted within
/// the storage.
pub fn unmovable(e: &Error) -> bool {
    use rustix::io::Errno;
    let errno = std::error::Error::source(e).and_then(|why| why.downcast_ref::<Errno>());
    errno.is_some_and(|e| matches!(*e, Errno::NOSPC | Errno::DQUOT | Errno::XDEV))
}

/// Calls `take` with every entry whose name begins with `prefix`, until it says no.
///
/// # Errors
/// The listing's; [`Kind::Storage`] when it ended before its last page.
pub async fn each(storage: &dyn Storage, prefix: &str, mut take: impl FnMut(Listed) -> bool) -> Result<()> {
    let mut pages = storage.list(prefix, None).await?;
    while let Some(page) = pages.recv().await {
        let page = page?;
        for entry in page.entries {
            if !take(entry) {
                return Ok(());
            }
        }
        if page.last {
            return Ok(());
        }
    }
    Err(Error::new(Kind::Storage, "a listing ended before its last page"))
}

/// Opens the storage that the plan describes. Does no IO: [`Storage::verify_marker`] and [`Storage::marker`] do.
///
/// # Errors
/// [`crate::Kind::Config`] when the location cannot be used on this system.
pub fn open(plan: &StoragePlan) -> Result<Arc<dyn Storage>> {
    let retention: Option<Duration> = Some(plan.trash.hold());
    match &plan.location {
        Location::Folder(root) => Ok(Arc::new(folder::Folder::new(&plan.name, root, retention, plan.prune_folders))),
        Location::Memory(place) => Ok(Arc::new(memory::Memory::new(&plan.name, place, retention))),
        #[cfg(feature = "s3")]
        Location::S3(bucket) => Ok(Arc::new(s3::S3::new(plan, bucket))),
        #[cfg(not(feature = "s3"))]
        Location::S3(_) => Err(Error::new(Kind::Config, "this build knows no S3")
            .with("storage", &plan.name)
            .with("url", plan.url())
            .hint("turn on the feature `s3` of the crate that you depend on; of the program: cargo install rowbound-cli --features s3")),
        #[cfg(feature = "service")]
        Location::Service(at) => Ok(Arc::new(service::Service::new(plan, at)?)),
        #[cfg(not(feature = "service"))]
        Location::Service(at) => match services::find(&at.scheme) {
            Err(e) => Err(e.with("storage", &plan.name).with("url", plan.url())),
            Ok(_) => unreachable!("a service that is built in enables the feature `service`"),
        },
    }
}
