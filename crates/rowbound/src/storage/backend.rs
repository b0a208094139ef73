//! The contract of a backend: what a kind of storage does by itself.
//!
//! In: a proof that the place is the one that was attached, and checked names. Out: what lies there, and what became of it, name by name. Promise: everything that
//! holds of every storage (proofs, absence, batches that ask for a name twice, surveys) is [`Proving`](super::Proving)'s; a backend has only what its own files need.
//!
//! An operation takes a [`Proof`], which only [`Proving`](super::Proving) makes: none can be called unproved. Those on the marker take what
//! [`Backend::reach`] made, because they come before a proof.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use super::{
    About, Access, Expired, Fetched, Look, Marker, Pages, PerName, Proof, Proved, Removed, Restored, Seen, Signed, Trashed, Upload,
    Whereabouts,
};
use crate::{error::Result, name::FileName};

/// How messages speak of the place of a storage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Described {
    /// What it is: `folder`, `bucket`.
    pub noun: &'static str,
    /// What tells it from others, in the words of the configuration: `url` and its value.
    pub at: Vec<(&'static str, String)>,
    /// What is asked where there is no marker: `: is it mounted?`, or nothing.
    pub unmarked: &'static str,
    /// What a person does where the marker is missing, or another storage's.
    pub hint: String,
}

/// A kind of storage. [`Proving`](super::Proving) makes a [`Storage`](super::Storage) of it.
///
/// Every error carries the storage's name (`storage`), and a hint where a person can do something.
#[async_trait]
pub trait Backend: Send + Sync + fmt::Debug + Sized + 'static {
    /// What an operation holds on to, from its proof to its end: the open root of a folder. `()` where each request finds its own way.
    type Held: Send + Sync + fmt::Debug + 'static;

    /// Whether its methods block the thread, as system calls do. Then each operation runs, proof and all, on a thread that may be blocked.
    const BLOCKS: bool;

    /// Whether it is reached over a network by requests, each of which may fail. Then
    ///
    /// - no lock of a database is held over its operations ([`Storage::quick`](super::Storage::quick));
    /// - nothing but its marker tells that it is there and what it honours, so that the marker is read where the storage is only surveyed, too. A folder is
    ///   there when it can be opened, and its marker may be another user's;
    /// - [`Storage::remove_marker`](super::Storage::remove_marker) goes on where the marker is gone already, and takes away what it left when it was killed. A
    ///   folder without its marker may be a mount point without its file system, and is left alone.
    const REMOTE: bool;

    /// Whether a name that is no path (`a//b`, `./a`) would lead to another name's file. Then every operation on such a name is refused before anything is
    /// proved, but [`Backend::look`], which answers [`Look::Refused`].
    const PATHS_ONLY: bool;

    /// How messages speak of its place.
    fn described(&self) -> Described;

    /// How many requests it has sent since it was made; system calls are not counted.
    fn requests(&self) -> u64;

    /// How far the storage's clock is ahead of this machine's, as its answers say it; `None` where they say nothing of it.
    async fn ahead_of_machine(&self) -> Option<SignedDuration>;

    /// Reaches the place, anew for each operation. Where that takes no request it is [`Backend::marker`] that finds out whether the place is there.
    ///
    /// # Errors
    /// [`crate::Kind::StorageUnreachable`] when it is not there.
    async fn reach(&self) -> Result<Self::Held>;

    /// Reads the marker at the place that was reached, anew each time; `None` if the place is there but has none.
    ///
    /// # Errors
    /// [`crate::Kind::StorageUnreachable`] when it is not there (any more). Never `None` for what only cannot be read.
    async fn marker(&self, at: &Self::Held) -> Result<Option<Marker>>;

    /// Writes the marker, atomically, after trying what deleting needs.
    async fn set_marker(&self, at: &Self::Held, marker: &Marker) -> Result<()>;

    /// Removes the marker, which was just read as `marker`, and everything of Rowbound's that is empty. Files in the trash stay, and are counted. Idempotent.
    async fn remove_marker(&self, at: &Self::Held, marker: Option<&Marker>) -> Result<u64>;

    /// Tries what the place honours, on names beneath `.rowbound/`, and leaves nothing behind. It may take its time if it is `thorough`: an `attach` waits for
    /// it; else it is an operation on a storage whose marker does not tell.
    ///
    /// # Errors
    /// [`crate::Kind::Config`] when the plan asks for what is not honoured.
    async fn probe(&self, at: &Self::Held, thorough: bool) -> Result<Proved>;

    /// Where the place is, and whether it lies within another storage. What it cannot tell is left out ([`Whereabouts::default`]).
    async fn whereabouts(&self, at: &Self::Held) -> Result<Whereabouts>;

    /// The marker in a folder of the place, if the root of another storage is there; `None` where no storage can lie within another.
    async fn marker_in(&self, at: &Self::Held, folder: &FileName) -> Result<Option<Marker>>;

    /// The storage's clock, by which it says when a file was modified: seen on a file that is written beneath `.rowbound/` and removed again.
    async fn now(&self, proof: &Proof<Self>) -> Result<Timestamp>;

    /// What lies under each name: one result per name, in order. A name may be there twice.
    async fn look(&self, proof: &Proof<Self>, names: &[FileName]) -> Result<PerName<Look>>;

    /// The first `limit` bytes of a file, or all of them if it has less; `None` if there is no such file.
    ///
    /// # Errors
    /// [`crate::Kind::Storage`] for what is no plain file, or a name that the place cannot hold.
    async fn read(&self, proof: &Proof<Self>, name: &FileName, limit: usize) -> Result<Option<Vec<u8>>>;

    /// A whole file as it comes, in constant memory; `None` if there is no such file. Its reader gets an error in place of an end where the body has not
    /// exactly as many bytes as were seen.
    ///
    /// # Errors
    /// As [`Backend::read`].
    async fn fetch(&self, proof: &Proof<Self>, name: &FileName) -> Result<Option<Fetched>>;

    /// Begins a file that is to be placed under `name`; nothing can be seen of it before [`Upload::place`], which is atomic. Where a proof costs no request,
    /// the file is placed on one of its own ([`Proof::proving`]): it may come in for hours.
    ///
    /// # Errors
    /// [`crate::Kind::Storage`] for a name that the place cannot hold.
    async fn begin(&self, proof: &Proof<Self>, name: &FileName, about: &About) -> Result<Box<dyn Upload>>;

    /// What signs URLs; `None` where there are none, which needs no proof.
    fn signer(&self) -> Option<&dyn Signer<Self>>;

    /// Takes each file away if it still is what was seen: into the trash if there is one (stamped with [`Proof::stamp`]), else for good. One result per item, in
    /// order; no name is there twice, and there is at least one. Idempotent: what is gone is [`Removed::Missing`].
    async fn remove(&self, proof: &Proof<Self>, items: &[(FileName, Seen)]) -> Result<PerName<Removed>>;

    /// What erases a file that it could not move to the trash ([`super::unmovable`]); `None` where every file can be moved, or none.
    fn eraser(&self) -> Option<&dyn Eraser<Self>>;

    /// The latest version of each name in the trash, if any: one result per name, in order. There is at least one.
    async fn trashed(&self, proof: &Proof<Self>, names: &[FileName]) -> Result<PerName<Option<Trashed>>>;

    /// A page of the files that have lain in the trash since before `before`: about `limit` of them, the oldest first, from `after` on ([`Expired::next`] of an
    /// earlier page). A part that cannot be read is noted in the page and hides no other; if it is because the place is away ([`Proof::again`]), that is
    /// an error of the whole.
    async fn expired(&self, proof: &Proof<Self>, before: Timestamp, after: Option<&str>, limit: usize) -> Result<Expired>;

    /// Brings files back, never over another file, each atomically. Results and items as in [`Backend::remove`].
    async fn restore(&self, proof: &Proof<Self>, items: &[Trashed]) -> Result<PerName<Restored>>;

    /// Erases files of the trash for good; `false` for one that was not there. Results and items as in [`Backend::remove`]. Idempotent.
    async fn purge(&self, proof: &Proof<Self>, items: &[Trashed]) -> Result<PerName<bool>>;

    /// Whether a listing of what begins with `prefix` and comes after `after` has anything to list, asked just before it:
    /// [`whereabouts::listable`](super::whereabouts::listable) where storages may lie within one another.
    ///
    /// # Errors
    /// Where it would pass the marker of another storage by.
    async fn listable(&self, proof: &Proof<Self>, prefix: &str, after: Option<&FileName>) -> Result<bool>;

    /// Lists, in bytewise order of full names, those that begin with `prefix` (bytes, not folders; empty: all) and come after `after`, without what is
    /// Rowbound's. It ends early where nobody listens any more ([`Pages::add`]).
    ///
    /// # Errors
    /// Where it cannot be completed: what was listed until then is a part, from which nobody concludes anything.
    async fn list(&self, proof: &Proof<Self>, prefix: &str, after: Option<&FileName>, pages: &mut Pages) -> Result<()>;
}

/// A backend that signs URLs.
#[async_trait]
pub trait Signer<B: Backend>: Send + Sync {
    /// A URL that allows its holder `access` for `ttl`. Whether there is such a file is not looked at.
    ///
    /// # Errors
    /// [`crate::Kind::Config`] for a time over [`super::LONGEST_SIGNED`], or where there is no such URL; [`crate::Kind::Storage`] for a name that it cannot hold.
    async fn sign(&self, proof: &Proof<B>, name: &FileName, access: &Access, ttl: Duration) -> Result<Signed>;
}

/// A backend that may find a file that cannot be moved to its trash.
#[async_trait]
pub trait Eraser<B: Backend>: Send + Sync {
    /// Erases each file for good if it still is what was seen. Results and items as in [`Backend::remove`]. Idempotent.
    async fn erase(&self, proof: &Proof<B>, items: &[(FileName, Seen)]) -> Result<PerName<Removed>>;
}
