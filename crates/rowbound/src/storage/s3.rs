//! A bucket of S3 or of a service that speaks its protocol, or what lies beneath a prefix in it.
//!
//! In: checked names. Out: what became of each. Promise: a name's key is the prefix and the name, byte for byte, and no other key is looked at
//! or deleted; absence counts only if the bucket shows its marker again afterwards; what the service was not seen to honour is not relied on.
//!
//! Services differ: some ignore a condition and report success. So [`Storage::probe`] tries everything on keys beneath `.rowbound/`, `attach`
//! writes the answers into the marker, and every operation reads the marker anyway.
//!
//! Deletions look again just before. Where they can be conditional, a file that is replaced in the moment between stays; where they
//! cannot, it is lost, unless the bucket keeps versions.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{OnceCell, mpsc};

use super::{
    About, Access, Expected, Expired, Fetched, Kept, Listing, Look, Marker, PerName, Proved, Removed, Restored, Seen, Signed, Storage,
    Trashed, Upload, Whereabouts, whereabouts,
};
use crate::{
    clock::Ahead,
    error::{Error, Kind, Result},
    name::{FileName, RESERVED},
    plan::{Bucket, Erase, StoragePlan, Trash},
};

mod apart; // keys that no path could be
mod attributes; // storage classes and access lists
mod copies; // a trash of copies
mod keys; // looks, listings and deletions by exact key
mod list; // every file, in order
mod look; // many looks at once
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
#[derive(Debug)]
pub struct S3 {
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
    expected: Expected,
    ahead: Ahead,
    /// What was seen to be honoured, where the marker does not say it.
    proved: OnceCell<Proved>,
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

impl S3 {
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
        S3 {
            inner: Arc::new(Inner {
                name: plan.name.clone(),
                at: at.clone(),
                url: plan.url(),
                trash: plan.trash,
                erase: plan.erase,
                wire: Wire::new(&plan.name, at, key),
                expected: Expected::default(),
                ahead: Ahead::default(),
                proved: OnceCell::new(),
                encodes: OnceCell::new(),
                looked_for_unfinished: Mutex::new(None),
            }),
        }
    }
}

#[async_trait]
impl Storage for S3 {
    async fn marker(&self) -> Result<Option<Marker>> {
        Ok(self.inner.read_marker().await?.map(|(marker, _)| marker))
    }

    async fn probe(&self) -> Result<Proved> {
        self.inner.probe().await
    }

    fn ahead(&self) -> &Ahead {
        &self.inner.ahead
    }

    async fn now(&self) -> Result<Timestamp> {
        self.inner.expected.may_change()?;
        self.inner.prove().await?;
        self.inner.now().await
    }

    async fn ahead_of_machine(&self) -> Option<SignedDuration> {
        if self.inner.wire.ahead().is_none() {
            // Any answer tells it, an error too.
            let _ = self.marker().await;
        }
        self.inner.wire.ahead()
    }

    async fn set_marker(&self, marker: &Marker) -> Result<()> {
        self.inner.write_marker(marker).await
    }

    async fn remove_marker(&self) -> Result<u64> {
        self.inner.remove_marker().await
    }

    fn expect(&self, storage_id: &str) {
        self.inner.expected.be(storage_id);
    }

    fn survey(&self) {
        self.inner.expected.survey();
    }

    async fn prove(&self) -> Result<()> {
        self.inner.prove().await.map(drop)
    }

    async fn whereabouts(&self) -> Result<Whereabouts> {
        self.inner.whereabouts().await
    }

    async fn marker_in(&self, folder: &FileName) -> Result<Option<Marker>> {
        self.inner.marker_of(&format!("{}{}", self.inner.at.prefix, whereabouts::marker_in(folder.as_str()))).await
    }

    fn quick(&self) -> bool {
        false
    }

    async fn look(&self, names: &[FileName]) -> Result<PerName<Look>> {
        let inner = &self.inner;
        let exact = exact(&inner.prove().await?);
        // Where nothing is changed, a column that leads to a file by whatever spelling is evidence: `attach` looks before it knows what the service keeps apart.
        let taken = |name: &FileName| inner.expected.surveyed() || takes(exact, name);
        let asked: Vec<&FileName> = names.iter().filter(|name| taken(name)).collect();
        let mut looked = inner.looked(&asked).await.into_iter();
        let one = |name: &FileName| match taken(name) {
            true => looked.next().expect("every name that is taken was looked at"),
            false => Ok(Look::Refused(NOT_EXACT.to_owned())),
        };
        let mut done: PerName<Look> = names.iter().map(one).collect();
        inner.still_there(&mut done, &Look::Missing).await;
        Ok(done)
    }

    async fn read(&self, name: &FileName, limit: usize) -> Result<Option<Vec<u8>>> {
        let inner = &self.inner;
        let marker = inner.prove().await?;
        inner.must_take(exact(&marker), name)?;
        if inner.at.prefix.len() + name.as_str().len() > keys::LONGEST_KEY {
            return Err(inner
                .error(Kind::Storage, "its key has more than 1,024 bytes")
                .with("name", name)
                .hint("no object can have this key"));
        }
        let read = inner.read(&inner.key(name), Some(limit)).await;
        match read.map_err(|failure| inner.failed(&failure, "s3:GetObject", "cannot read the object", name))? {
            Some((bytes, _)) => Ok(Some(bytes)),
            None => inner.prove().await.map(|_| None),
        }
    }

    async fn begin(&self, name: &FileName, about: &About) -> Result<Box<dyn Upload>> {
        self.inner.expected.may_change()?;
        Ok(Box::new(upload::Incoming::begin(&self.inner, name, about).await?))
    }

    async fn fetch(&self, name: &FileName) -> Result<Option<Fetched>> {
        self.inner.fetch(name).await
    }

    async fn sign(&self, name: &FileName, access: &Access, ttl: Duration) -> Result<Signed> {
        if matches!(access, Access::Put { .. }) {
            self.inner.expected.may_change()?;
        }
        self.inner.sign(name, access, ttl).await
    }

    async fn remove(&self, items: &[(FileName, Seen)]) -> Result<PerName<Removed>> {
        self.inner.expected.may_change()?;
        let inner = &self.inner;
        let marker = inner.prove().await?;
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let proved = inner.proved(marker).await?;
        items.iter().try_for_each(|(name, _)| inner.must_take(proved.exact, name))?;
        inner.look_for_unfinished();
        let mut done = inner.remove(&proved, items).await?;
        inner.still_there(&mut done, &Removed::Missing).await;
        Ok(done)
    }

    async fn erase(&self, _: &[(FileName, Seen)]) -> Result<PerName<Removed>> {
        Err(crate::storage::moves_all(&self.inner.name))
    }

    async fn trashed(&self, names: &[FileName]) -> Result<PerName<Option<Trashed>>> {
        self.inner.expected.may_change()?;
        let inner = &self.inner;
        let marker = inner.prove().await?;
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let versioned = inner.proved(marker).await?.trash == Kept::Versions;
        let found = join_all(names.iter().map(|name| async move {
            let found = if versioned { inner.hidden(name).await } else { inner.copied(name).await };
            found.map_err(|failure| {
                let action = if versioned { "s3:ListBucketVersions" } else { "s3:ListBucket" };
                inner.failed(&failure, action, "cannot look for the file in the trash", name)
            })
        }));
        let mut done = found.await;
        inner.still_there(&mut done, &None).await;
        Ok(done)
    }

    async fn expired(&self, before: Timestamp, after: Option<&str>, limit: usize) -> Result<Expired> {
        self.inner.expected.may_change()?;
        self.inner.prove().await?;
        self.inner.expired(before, after, limit).await
    }

    async fn restore(&self, items: &[Trashed]) -> Result<PerName<Restored>> {
        self.inner.expected.may_change()?;
        let inner = &self.inner;
        let marker = inner.prove().await?;
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let proved = inner.proved(marker).await?;
        let told = inner.attributes_of(items).await?;
        let mut done: Vec<Option<Result<Restored>>> = items.iter().map(|_| None).collect();
        for now in rounds(items.len(), |i| &items[i].name) {
            for (i, one) in now.iter().zip(join_all(now.iter().map(|i| inner.restore(&proved, &items[*i], &told))).await) {
                done[*i] = Some(one);
            }
        }
        let mut done: PerName<_> = done.into_iter().map(|one| one.expect("every item had its turn")).collect();
        inner.still_there(&mut done, &Restored::Missing).await;
        Ok(done)
    }

    async fn purge(&self, items: &[Trashed]) -> Result<PerName<bool>> {
        self.inner.expected.may_change()?;
        let inner = &self.inner;
        inner.prove().await?;
        let mut done: Vec<Option<Result<bool>>> = items.iter().map(|_| None).collect();
        for now in rounds(items.len(), |i| &items[i].name) {
            let asked: Vec<&Trashed> = now.iter().map(|i| &items[*i]).collect();
            for (i, one) in now.into_iter().zip(inner.purge(&asked).await) {
                done[i] = Some(one);
            }
        }
        let mut done: PerName<_> = done.into_iter().map(|one| one.expect("every item had its turn")).collect();
        inner.still_there(&mut done, &false).await;
        Ok(done)
    }

    async fn list(&self, prefix: &str, after: Option<FileName>) -> Result<Listing> {
        let exact = exact(&self.inner.prove().await?);
        whereabouts::listable(self, &self.inner.name, prefix, after.as_ref()).await?;
        let (pages, listing) = mpsc::channel(list::PAGES_AHEAD);
        let (inner, prefix) = (self.inner.clone(), prefix.to_owned());
        tokio::spawn(async move {
            if let Err(e) = inner.list(&prefix, after, exact, &pages).await {
                let _ = pages.send(Err(e)).await; // nobody listens any more
            }
        });
        Ok(listing)
    }

    fn requests(&self) -> u64 {
        self.inner.wire.sent()
    }
}

/// Whether the service was seen to keep names that are no paths apart from others.
fn exact(marker: &Marker) -> bool {
    marker.proved.as_ref().is_some_and(|proved| proved.exact)
}

/// Whether the service takes this name for itself alone.
fn takes(exact: bool, name: &FileName) -> bool {
    exact || name.as_path().is_ok()
}

/// Divides what is asked for so that no name is twice in a part: many names at once, but each name's items one after the other.
fn rounds<'a>(count: usize, name: impl Fn(usize) -> &'a FileName) -> Vec<Vec<usize>> {
    let mut rounds = Vec::new();
    let mut left: Vec<usize> = (0..count).collect();
    while !left.is_empty() {
        let mut names = HashSet::new();
        let (now, later): (Vec<usize>, Vec<usize>) = left.into_iter().partition(|i| names.insert(name(*i)));
        rounds.push(now);
        left = later;
    }
    rounds
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
        // `prove` has made it before anything else is sent.
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

    fn expected(&self) -> Option<String> {
        self.expected.id()
    }

    /// Reads the marker and proves that it is the one of the storage that was attached.
    async fn prove(&self) -> Result<Marker> {
        if self.expected.surveyed() {
            let nobodys = Marker::default();
            return Ok(self.read_marker().await?.map(|(marker, _)| marker).unwrap_or(nobodys));
        }
        let expected = self.expected().ok_or_else(|| {
            self.error(Kind::NotAttached, "it is not known which storage this bucket must be").hint("run `rowbound attach` first")
        })?;
        let unproved = |message: &str| {
            self.error(Kind::StorageUnreachable, message)
                .with("bucket", &self.at.bucket)
                .with("prefix", format_args!("{:?}", self.at.prefix))
                .hint(format!("correct `url`, or, if this is the storage, run `rowbound attach --adopt-storage {}`", self.name))
        };
        match self.read_marker().await? {
            Some((marker, _)) if marker.storage == expected => Ok(marker),
            Some(_) => Err(unproved("the bucket carries the marker of another storage")),
            None => Err(unproved("the bucket carries no marker")),
        }
    }

    /// What the service was seen to honour; tried now if the marker does not say it.
    async fn proved(&self, marker: Marker) -> Result<Proved> {
        match marker.proved {
            Some(proved) => Ok(proved),
            None => self.proved.get_or_try_init(|| self.probe()).await.cloned(),
        }
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

    fn mode(&self, proved: &Proved) -> Result<Mode> {
        Ok(match (self.erase, self.trash, proved.trash) {
            (Erase::AllVersions, _, Kept::Versions) => Mode::EraseVersions,
            (Erase::AfterRetention, Trash::Off, Kept::Versions) => return Err(self.would_reveal()),
            (Erase::AfterRetention, _, Kept::Versions) => Mode::Versions,
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
    async fn looked(&self, names: &[&FileName]) -> PerName<Look> {
        let looked = self.looks(names).await;
        let fail = |failure: &Failure, name| self.failed(failure, "s3:GetObject", "cannot look at the file", name);
        looked.into_iter().zip(names).map(|(one, name)| one.map_err(|failure| fail(&failure, name))).collect()
    }

    /// Absence counts only if the bucket still proves itself afterwards: it may have gone while we looked.
    async fn still_there<T: PartialEq>(&self, done: &mut PerName<T>, missing: &T) {
        let absent = |one: &&mut Result<T>| one.as_ref().is_ok_and(|one| one == missing);
        if done.iter_mut().any(|one| absent(&one))
            && let Err(e) = self.prove().await
        {
            let why = e.full();
            for one in done.iter_mut().filter(absent) {
                *one = Err(self
                    .error(e.kind(), "the file is not there, and neither is the proof that this is the storage")
                    .because(why.clone())
                    .hint(e.hint_text().unwrap_or_default()));
            }
        }
    }
}
