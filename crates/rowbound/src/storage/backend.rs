//! The contract of a backend: what a kind of storage does by itself.
//!
//! In: a proof that the place is the one that was attached, and checked names. Out: what lies there, and what became of it, name by name.
//! Promise: a backend does what its own files need, and nothing else. What holds of every storage (the proof before, absence, a name that is
//! twice in a batch, a storage that is only read) is done by [`Proving`](super::Proving).
//!
//! An operation takes a [`Proof`], which only [`Proving`](super::Proving) makes, so none can be called unproved. The methods that read and
//! write the marker come before a proof: they take what [`Backend::reach`] made.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use super::{
    Access, Capabilities, Expired, Fetched, FileVersion, Marker, Pages, PerName, Proof, PutOptions, Removed, Restored, Signed, Stat,
    Trashed, Upload, Whereabouts,
};
use crate::{error::Result, name::FileName};

/// How messages speak of the place of a storage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Described {
    /// What it is: `folder`, `bucket`.
    pub noun: &'static str,
    /// What tells it from others, in the words of the configuration: `url` and its value.
    pub at: Vec<(&'static str, String)>,
    /// What a message asks where there is no marker: `: is it mounted?`, or nothing.
    pub unmarked: &'static str,
    /// What a person does where the marker is missing, or belongs to another storage.
    pub hint: String,
}

/// A kind of storage. [`Proving`](super::Proving) makes a [`Storage`](super::Storage) of it.
///
/// Each error carries the storage's name (`storage`), and a hint where a person can do something.
#[async_trait]
pub trait Backend: Send + Sync + fmt::Debug + Sized + 'static {
    /// What an operation holds from its proof to its end: the open root of a folder. `()` where each request finds the place by itself.
    type Held: Send + Sync + fmt::Debug + 'static;

    /// Whether its methods block the thread, as system calls do. If so, each operation runs as a whole, with its proofs, on a thread that may
    /// block. An [`Upload`] and a [`Body`](super::Body) must see to that by themselves.
    const BLOCKS: bool;

    /// Whether it is reached over a network, by requests that may fail. If so:
    ///
    /// - No database lock is held over its operations ([`Storage::quick`](super::Storage::quick)).
    /// - Its marker is read even where the storage is only surveyed, because nothing else tells that the place is there and what it honours.
    ///   A folder is there when it can be opened, and its marker may be another user's.
    /// - [`Storage::remove_marker`](super::Storage::remove_marker) goes on where the marker is gone already, to clean up after a process that
    ///   was killed. A folder without its marker may be a mount point without its file system, and is left alone.
    /// - An empty batch is answered without it.
    const REMOTE: bool;

    /// Whether a name that is no path (`a//b`, `./a`) would lead to the file of another name. If so, each operation on such a name is refused
    /// before anything is proved. [`Backend::stat`] alone is asked, and answers [`Stat::Refused`].
    const PATHS_ONLY: bool;

    /// How messages speak of its place.
    fn described(&self) -> Described;

    /// How many requests it has sent since it was made. System calls are not counted.
    fn requests(&self) -> u64;

    /// How far the storage's clock is ahead of this machine's, as its answers say it; `None` where they say nothing of it.
    async fn ahead_of_machine(&self) -> Option<SignedDuration>;

    /// Reaches the place, anew for each operation. It may do nothing where [`Backend::marker`] finds out whether the place is there.
    ///
    /// # Errors
    /// [`crate::Kind::StorageUnreachable`] when it is not there.
    async fn reach(&self) -> Result<Self::Held>;

    /// Reads the marker at the place that was reached, anew each time; `None` only if the place is there and has none.
    ///
    /// # Errors
    /// [`crate::Kind::StorageUnreachable`] when the place is not there (any more), or the marker cannot be read.
    async fn marker(&self, at: &Self::Held) -> Result<Option<Marker>>;

    /// Writes the marker, atomically, after trying what deleting needs.
    async fn set_marker(&self, at: &Self::Held, marker: &Marker) -> Result<()>;

    /// Removes the marker, which was just read as `marker`, and everything of Rowbound's that is empty. Files in the trash stay, and are
    /// counted. Idempotent.
    async fn remove_marker(&self, at: &Self::Held, marker: Option<&Marker>) -> Result<u64>;

    /// Tries what the place honours, on names beneath `.rowbound/`, and leaves nothing behind. A `thorough` trial is that of an `attach`, and
    /// may take seconds; the other one is part of an operation on a storage whose marker does not tell.
    ///
    /// # Errors
    /// [`crate::Kind::Config`] when the plan asks for what is not honoured.
    async fn probe(&self, at: &Self::Held, thorough: bool) -> Result<Capabilities>;

    /// Where the place is, and whether it lies within another storage. What it cannot tell is left out ([`Whereabouts::default`]).
    async fn whereabouts(&self, at: &Self::Held) -> Result<Whereabouts>;

    /// The marker in a folder of the place, if the root of another storage is there; `None` where no storage can lie within another.
    async fn marker_in(&self, at: &Self::Held, folder: &FileName) -> Result<Option<Marker>>;

    /// The storage's clock, by which it says when a file was modified: seen on a file that is written beneath `.rowbound/` and removed again.
    async fn now(&self, proof: &Proof<Self>) -> Result<Timestamp>;

    /// What lies under each name. One result per name, in order. A name may be there twice.
    async fn stat(&self, proof: &Proof<Self>, names: &[FileName]) -> Result<PerName<Stat>>;

    /// The first `limit` bytes of a file, or all of them if it has less; `None` if there is no such file.
    ///
    /// # Errors
    /// [`crate::Kind::Storage`] for what is no plain file, or a name that the place cannot hold.
    async fn read(&self, proof: &Proof<Self>, name: &FileName, limit: usize) -> Result<Option<Vec<u8>>>;

    /// A whole file as it comes, in constant memory; `None` if there is no such file. If the body has not exactly as many bytes as were seen,
    /// its reader gets an error: the backend need not count them.
    ///
    /// # Errors
    /// As [`Backend::read`].
    async fn fetch(&self, proof: &Proof<Self>, name: &FileName) -> Result<Option<Fetched>>;

    /// Begins a file that is to be placed under `name`. Nothing can be seen of it before [`Upload::publish`], which is atomic. A file may come in
    /// for hours: where a proof costs no request, `place` makes one of its own ([`Proof::proving`]).
    ///
    /// # Errors
    /// [`crate::Kind::Storage`] for a name that the place cannot hold.
    async fn begin(&self, proof: &Proof<Self>, name: &FileName, options: &PutOptions) -> Result<Box<dyn Upload>>;

    /// What signs URLs; `None` where there are none, which needs no proof.
    fn signer(&self) -> Option<&dyn Signer<Self>>;

    /// Takes each file away if it still is what was seen: into the trash if there is one, else for good. The trash tells the moment by
    /// [`Proof::stamp`]. One result per item, in order. No name is there twice; without [`Backend::REMOTE`] there may be no item: an occasion
    /// to tidy up. Idempotent: what is gone is [`Removed::Missing`].
    async fn remove(&self, proof: &Proof<Self>, items: &[(FileName, FileVersion)]) -> Result<PerName<Removed>>;

    /// What erases a file that [`Backend::remove`] could not move to the trash ([`super::unmovable`]); `None` where that cannot happen.
    fn eraser(&self) -> Option<&dyn Eraser<Self>>;

    /// The latest version of each name in the trash, if any. One result per name, in order. There is at least one name.
    async fn trashed(&self, proof: &Proof<Self>, names: &[FileName]) -> Result<PerName<Option<Trashed>>>;

    /// A page of the files that have lain in the trash since before `before`: about `limit` of them, the oldest first, from `after` on, which
    /// is [`Expired::next`] of an earlier page. A part that cannot be read is noted in the page and hides no other.
    ///
    /// # Errors
    /// When nothing can be read, or when a part cannot be read because the place is not there any more ([`Proof::again`] tells).
    async fn expired(&self, proof: &Proof<Self>, before: Timestamp, after: Option<&str>, limit: usize) -> Result<Expired>;

    /// Brings files back, each atomically, never over another file. One result per item, in order. There is at least one item, and no name is
    /// there twice.
    async fn restore(&self, proof: &Proof<Self>, items: &[Trashed]) -> Result<PerName<Restored>>;

    /// Erases files of the trash for good; `false` for one that was not there. One result per item, in order. There is at least one item, and
    /// no name is there twice. Idempotent.
    async fn purge(&self, proof: &Proof<Self>, items: &[Trashed]) -> Result<PerName<bool>>;

    /// Whether a listing of what begins with `prefix` and comes after `after` has anything to list. It is asked just before the listing. Where
    /// storages may lie within one another, [`whereabouts::listable`](super::whereabouts::listable) is the answer.
    ///
    /// # Errors
    /// Where the listing would pass by the marker of another storage.
    async fn listable(&self, proof: &Proof<Self>, prefix: &str, after: Option<&FileName>) -> Result<bool>;

    /// Lists the names that begin with `prefix` (bytes, not folders; empty: all) and come after `after`, in bytewise order, without what is
    /// Rowbound's. It ends early where nobody listens any more ([`Pages::add`]).
    ///
    /// # Errors
    /// Where it cannot be completed. What was listed until then is a part, from which nobody concludes anything.
    async fn list(&self, proof: &Proof<Self>, prefix: &str, after: Option<&FileName>, pages: &mut Pages) -> Result<()>;
}

/// A backend that signs URLs.
#[async_trait]
pub trait Signer<B: Backend>: Send + Sync {
    /// A URL that allows its holder `access` for `ttl`. Nobody looks whether there is such a file.
    ///
    /// # Errors
    /// [`crate::Kind::Config`] for a time over [`super::LONGEST_SIGNED`], or where there is no such URL; [`crate::Kind::Storage`] for a name
    /// that the place cannot hold.
    async fn sign(&self, proof: &Proof<B>, name: &FileName, access: &Access, ttl: Duration) -> Result<Signed>;
}

/// A backend that may meet a file that cannot be moved to its trash.
#[async_trait]
pub trait Eraser<B: Backend>: Send + Sync {
    /// Erases each file for good if it still is what was seen. One result per item, in order. There is at least one item, and no name is there
    /// twice. Idempotent.
    async fn erase(&self, proof: &Proof<B>, items: &[(FileName, FileVersion)]) -> Result<PerName<Removed>>;
}
