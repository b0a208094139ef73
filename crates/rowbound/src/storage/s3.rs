//! A bucket of S3 or of a service that speaks its protocol, or what lies beneath a prefix in it.
//!
//! In: checked names. Out: what became of each. Promise: a name's key is the prefix and the name, byte for byte, and no other key is looked at
//! or deleted; absence counts only if the bucket shows its marker again afterwards; what the service was not seen to honour is not relied on.
//!
//! Services differ: some ignore a condition and report success. So [`Storage::probe`](super::Storage::probe) tries everything on keys beneath `.rowbound/`, `attach`
//! writes the answers into the marker, and every operation reads the marker anyway.
//!
//! Deletions look again just before. Where they can be conditional, a file that is replaced in the moment between stays; where they
//! cannot, it is lost, unless the bucket keeps versions.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::OnceCell;

use super::{
    Access, Backend, Capabilities, Described, Eraser, Expired, Fetched, FileVersion, Marker, Pages, PerName, Proving, PutOptions, Removed,
    Restored, Signed, Signer, Stat, TrashKind, Trashed, Upload, Whereabouts, whereabouts,
};
use crate::{
    error::{Error, Kind, Result},
    name::{FileName, RESERVED},
    plan::{Bucket, Erase, StoragePlan, Trash},
};

mod apart; // keys that no path could be
mod attributes; // storage classes and access lists
mod copies; // a trash of copies
mod keys; // looks, listings and deletions by exact key
mod list; // every file, in order
mod stat; // many looks at once
mod marker; // the proof that the bucket is there
mod probe; // what the service honours
mod remove; // deletions by name
mod trash; // what lies in the trash since when
mod unfinished; // uploads in parts that nobody ends
mod upload; // files that come in and go out
mod versions; // a trash of versions
mod wire; // requests, again where that can help

use wire::{Failure, Wire};

/// What is said of a name that this service may take for another one.
const NOT_EXACT: &str = "is no path, and the service was not seen to keep such keys apart from others (`rowbound attach` tries it)";

/// A storage in a bucket.
pub type S3 = Proving<S3Backend>;

/// Proof that the bucket carries the right marker, and what that says of the service.
type Proof = super::Proof<S3Backend>;

/// What a bucket does by itself.
#[derive(Debug)]
pub struct S3Backend {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    at: Bucket,
    url: String,
    trash: Trash,
    erase: Erase,
    wire: Wire,
    /// Whether listings that say that they encode their keys do it.
    encodes: OnceCell<bool>,
    /// When this process last looked for uploads that another one left unfinished.
    looked_for_unfinished: Mutex<Option<Instant>>,
}

/// What becomes of files that are removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// They are erased, in a bucket that keeps no versions.
    Erase,
    /// Every version is erased.
    EraseVersions,
    /// They are hidden by a delete marker.
    Versions,
    /// They are copied, then erased.
    Copies,
}

impl Proving<S3Backend> {
    /// The storage that `plan` describes, in this bucket. Does no IO: the client is made when it is first needed.
    ///
    /// Credentials come from the usual chain: environment, profile, web identity, container, instance metadata.
    pub fn new(plan: &StoragePlan, at: &Bucket) -> Self {
        Self::made(plan, at, None)
    }

    /// The same with a key of one's own, for programs that have theirs from elsewhere.
    pub fn with_key(plan: &StoragePlan, at: &Bucket, access_key: &str, secret_key: &str) -> Self {
        Self::made(plan, at, Some(aws_sdk_s3::config::Credentials::new(access_key, secret_key, None, None, "given")))
    }

    fn made(plan: &StoragePlan, at: &Bucket, key: Option<aws_sdk_s3::config::Credentials>) -> Self {
        let inner = Inner {
            name: plan.name.clone(),
            at: at.clone(),
            url: plan.url(),
            trash: plan.trash,
            erase: plan.erase,
            wire: Wire::new(&plan.name, at, key),
            encodes: OnceCell::new(),
            looked_for_unfinished: Mutex::new(None),
        };
        Proving::over(&plan.name, S3Backend { inner: Arc::new(inner) })
    }
}

#[async_trait]
impl Backend for S3Backend {
    type Held = ();

    const BLOCKS: bool = false;

    const REMOTE: bool = true;

    const PATHS_ONLY: bool = false;

    fn described(&self) -> Described {
        let Bucket { bucket, prefix, .. } = &self.inner.at;
        Described {
            noun: "bucket",
            at: vec![("bucket", bucket.clone()), ("prefix", format!("{prefix:?}"))],
            unmarked: "",
            hint: format!("correct `url`, or, if this is the storage, run `rowbound attach --adopt-storage {}`", self.inner.name),
        }
    }

    fn requests(&self) -> u64 {
        self.inner.wire.sent()
    }

    async fn ahead_of_machine(&self) -> Option<SignedDuration> {
        if self.inner.wire.ahead().is_none() {
            // Any answer tells it, an error too.
            let _ = self.inner.read_marker().await;
        }
        self.inner.wire.ahead()
    }

    async fn reach(&self) -> Result<()> {
        Ok(())
    }

    async fn marker(&self, (): &()) -> Result<Option<Marker>> {
        Ok(self.inner.read_marker().await?.map(|(marker, _)| marker))
    }

    async fn set_marker(&self, (): &(), marker: &Marker) -> Result<()> {
        self.inner.write_marker(marker).await
    }

    async fn remove_marker(&self, (): &(), marker: Option<&Marker>) -> Result<u64> {
        self.inner.remove_marker(marker).await
    }

    async fn probe(&self, (): &(), _: bool) -> Result<Capabilities> {
        self.inner.probe().await
    }

    async fn whereabouts(&self, (): &()) -> Result<Whereabouts> {
        self.inner.whereabouts().await
    }

    async fn marker_in(&self, (): &(), folder: &FileName) -> Result<Option<Marker>> {
        self.inner.marker_of(&format!("{}{}", self.inner.at.prefix, whereabouts::marker_in(folder.as_str()))).await
    }

    async fn now(&self, _: &Proof) -> Result<Timestamp> {
        self.inner.now().await
    }

    async fn stat(&self, proof: &Proof, names: &[FileName]) -> Result<PerName<Stat>> {
        let exact = exact(proof);
        // Where nothing is changed, a column that leads to a file by whatever spelling is evidence: `attach` looks before it knows what the service keeps apart.
        let taken = |name: &FileName| proof.is_read_only() || takes(exact, name);
        let asked: Vec<&FileName> = names.iter().filter(|name| taken(name)).collect();
        let mut looked = self.inner.looked(&asked).await.into_iter();
        let one = |name: &FileName| match taken(name) {
            true => looked.next().expect("every name that is taken was looked at"),
            false => Ok(Stat::Refused(NOT_EXACT.to_owned())),
        };
        Ok(names.iter().map(one).collect())
    }

    async fn read(&self, proof: &Proof, name: &FileName, limit: usize) -> Result<Option<Vec<u8>>> {
        let inner = &self.inner;
        inner.must_take(exact(proof), name)?;
        inner.short_enough(name)?;
        let read = inner.read(&inner.key(name), Some(limit)).await;
        let read = read.map_err(|failure| inner.failed(&failure, "s3:GetObject", "cannot read the object", name))?;
        Ok(read.map(|(bytes, _)| bytes))
    }

    async fn fetch(&self, proof: &Proof, name: &FileName) -> Result<Option<Fetched>> {
        self.inner.fetch(exact(proof), name).await
    }

    async fn begin(&self, proof: &Proof, name: &FileName, options: &PutOptions) -> Result<Box<dyn Upload>> {
        Ok(Box::new(upload::Incoming::begin(&self.inner, proof, name, options).await?))
    }

    fn signer(&self) -> Option<&dyn Signer<Self>> {
        Some(self)
    }

    async fn remove(&self, proof: &Proof, items: &[(FileName, FileVersion)]) -> Result<PerName<Removed>> {
        let proved = proof.honoured().await?;
        items.iter().try_for_each(|(name, _)| self.inner.must_take(proved.exact, name))?;
        self.inner.look_for_unfinished(proved.trash == TrashKind::Versions);
        self.inner.remove(proof, proved, items).await
    }

    fn eraser(&self) -> Option<&dyn Eraser<Self>> {
        None
    }

    async fn trashed(&self, proof: &Proof, names: &[FileName]) -> Result<PerName<Option<Trashed>>> {
        let inner = &self.inner;
        let versioned = proof.honoured().await?.trash == TrashKind::Versions;
        let found = join_all(names.iter().map(|name| async move {
            let found = if versioned { inner.hidden(name).await } else { inner.copied(name).await };
            found.map_err(|failure| {
                let action = if versioned { "s3:ListBucketVersions" } else { "s3:ListBucket" };
                inner.failed(&failure, action, "cannot look for the file in the trash", name)
            })
        }));
        Ok(found.await)
    }

    async fn expired(&self, proof: &Proof, before: Timestamp, after: Option<&str>, limit: usize) -> Result<Expired> {
        self.inner.expired(proof, before, after, limit).await
    }

    async fn restore(&self, proof: &Proof, items: &[Trashed]) -> Result<PerName<Restored>> {
        let proved = proof.honoured().await?;
        let told = self.inner.attributes_of(items).await?;
        Ok(join_all(items.iter().map(|item| self.inner.restore(proved, item, &told))).await)
    }

    async fn purge(&self, _: &Proof, items: &[Trashed]) -> Result<PerName<bool>> {
        Ok(self.inner.purge(items).await)
    }

    async fn listable(&self, proof: &Proof, prefix: &str, after: Option<&FileName>) -> Result<bool> {
        whereabouts::listable(proof, prefix, after).await
    }

    async fn list(&self, proof: &Proof, prefix: &str, after: Option<&FileName>, pages: &mut Pages) -> Result<()> {
        self.inner.list(exact(proof), prefix, after, pages).await
    }
}

#[async_trait]
impl Signer<S3Backend> for S3Backend {
    async fn sign(&self, proof: &Proof, name: &FileName, access: &Access, ttl: Duration) -> Result<Signed> {
        self.inner.sign(proof, name, access, ttl).await
    }
}

/// Whether the service was seen to keep names that are no paths apart from others.
fn exact(proof: &Proof) -> bool {
    proof.marker().and_then(|marker| marker.proved.as_ref()).is_some_and(|proved| proved.exact)
}

/// Whether the service takes this name for itself alone.
fn takes(exact: bool, name: &FileName) -> bool {
    exact || name.as_path().is_ok()
}

impl Inner {
    /// The key of a name.
    fn key(&self, name: &FileName) -> String {
        format!("{}{name}", self.at.prefix)
    }

    /// The key of something of Rowbound's own.
    fn own(&self, rest: &str) -> String {
        format!("{}{RESERVED}/{rest}", self.at.prefix)
    }

    async fn client(&self) -> Result<&aws_sdk_s3::Client, Failure> {
        // The proof has made it before anything else is sent.
        self.wire.client().await.map_err(|e| Failure::strange(e.full()))
    }

    /// An error with this storage's name.
    fn error(&self, kind: Kind, message: &str) -> Error {
        Error::new(kind, message).with("storage", &self.name)
    }

    /// What a failure means for one name.
    fn failed(&self, failure: &Failure, action: &str, message: &str, name: &FileName) -> Error {
        self.wire.error(failure, action, message).with("name", name).with("key", format_args!("{:?}", self.key(name)))
    }

    /// # Errors
    /// [`Kind::Storage`] for a name that the service may take for another one.
    fn must_take(&self, exact: bool, name: &FileName) -> Result<()> {
        match takes(exact, name) {
            true => Ok(()),
            false => Err(self
                .error(Kind::Storage, &format!("the name {NOT_EXACT}"))
                .with("name", name)
                .hint("give the file a name without `//`, `.`, `..` and slashes at its ends")),
        }
    }

    fn mode(&self, proved: &Capabilities) -> Result<Mode> {
        Ok(match (self.erase, self.trash, proved.trash) {
            (Erase::AllVersions, _, TrashKind::Versions) => Mode::EraseVersions,
            (Erase::AfterRetention, Trash::Off, TrashKind::Versions) => return Err(self.would_reveal()),
            (Erase::AfterRetention, _, TrashKind::Versions) => Mode::Versions,
            (Erase::AfterRetention, Trash::Keep(_), _) => Mode::Copies,
            _ => Mode::Erase,
        })
    }

    fn would_reveal(&self) -> Error {
        self.error(Kind::Config, "the bucket keeps versions, so that nothing is erased by a deletion, and `trash = \"off\"` cannot be had")
            .with("bucket", &self.at.bucket)
            .hint("set erase = \"all-versions\" to erase every version at once, or leave `trash` out to erase them after a while")
    }

    /// What lies under each name, without a proof.
    async fn looked(&self, names: &[&FileName]) -> PerName<Stat> {
        let looked = self.looks(names).await;
        let fail = |failure: &Failure, name| self.failed(failure, "s3:GetObject", "cannot look at the file", name);
        looked.into_iter().zip(names).map(|(one, name)| one.map_err(|failure| fail(&failure, name))).collect()
    }
}
