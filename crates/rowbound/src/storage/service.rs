//! A service that is reached through OpenDAL: the long tail beyond folders and S3.
//!
//! In: checked names. Out: what became of each. Promise: a name that OpenDAL would send as another one is refused and never sent; absence
//! counts only if the service shows its marker again afterwards; what a call did is looked at, not believed.
//!
//! OpenDAL trims blanks and folds `//` on its way to every service, its services call much "not found" or "done" that is neither, and they
//! differ in what they can do. So [`Storage::probe`](super::Storage::probe) tries everything on files of its own and refuses what cannot be used safely, and every
//! removal looks at what came of it.
//!
//! Where files can be renamed, a file is taken out of its place first, then looked at: if it is another than was seen, it goes back. Elsewhere
//! it is deleted on a condition, if the service has one; where it has none, a file that is replaced in the moment after the last look is lost.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};

use super::{
    Access, Backend, Capabilities, Described, Eraser, Expired, Fetched, FileVersion, Marker, Pages, PerName, Proving, PutOptions, Removed,
    Restored, Signed, Signer, Stat, TrashKind, Trashed, Upload, Whereabouts, Written, services, whereabouts,
};
use crate::{
    error::{Error, Kind, Result},
    name::{FileName, RESERVED},
    plan::{self, StoragePlan, Trash},
};

mod list; // every file, in order
mod stat; // one path: exactly this one, or a refusal
mod marker; // the proof that the service is there
mod open; // a URL -> OpenDAL's operator
mod probe; // what the service honours
mod remove; // out of its place, looked at, gone
mod trash; // where files wait
mod upload; // files that come in and go out
mod wire; // calls, again where that can help

use stat::PathStat;
use wire::{Failure, Wire};

/// A storage on a service.
pub type Service = Proving<ServiceBackend>;

/// Proof that the service shows the right marker, and what that says of it.
type Proof = super::Proof<ServiceBackend>;

/// What a service does by itself.
#[derive(Debug)]
pub struct ServiceBackend {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    url: String,
    trash: Trash,
    kind: &'static services::ServiceKind,
    wire: Wire,
}

impl Proving<ServiceBackend> {
    /// The storage that `plan` describes, on this service. Does no IO.
    ///
    /// # Errors
    /// [`Kind::Config`]: this build has no such service, or its options are wrong.
    pub fn new(plan: &StoragePlan, at: &plan::Service) -> Result<Self> {
        let named = |e: Error| e.with("storage", &plan.name).with("url", plan.url());
        let kind = services::find(&at.scheme).map_err(named)?;
        let op = open::operator(kind, at).map_err(named)?;
        let secrets = kind.secrets.iter().filter_map(|option| at.options.get(*option).cloned()).collect();
        let inner = Inner { name: plan.name.clone(), url: plan.url(), trash: plan.trash, kind, wire: Wire::new(op, kind.at_once, secrets) };
        Ok(Proving::over(&plan.name, ServiceBackend { inner: Arc::new(inner) }))
    }
}

#[async_trait]
impl Backend for ServiceBackend {
    type Held = ();

    const BLOCKS: bool = false;

    const REMOTE: bool = true;

    const PATHS_ONLY: bool = false;

    fn described(&self) -> Described {
        Described {
            noun: "service",
            at: vec![("url", self.inner.url.clone())],
            unmarked: "",
            hint: format!("correct `url`, or, if this is the storage, run `rowbound attach --adopt-storage {}`", self.inner.name),
        }
    }

    /// Calls of OpenDAL, each attempt for itself: one call may be several requests of its service.
    fn requests(&self) -> u64 {
        self.inner.wire.sent()
    }

    async fn ahead_of_machine(&self) -> Option<SignedDuration> {
        None
    }

    async fn reach(&self) -> Result<()> {
        Ok(())
    }

    async fn marker(&self, (): &()) -> Result<Option<Marker>> {
        self.inner.read_marker().await
    }

    async fn set_marker(&self, (): &(), marker: &Marker) -> Result<()> {
        self.inner.write_marker(marker).await
    }

    async fn remove_marker(&self, (): &(), marker: Option<&Marker>) -> Result<u64> {
        self.inner.remove_marker(marker.is_some()).await
    }

    async fn probe(&self, (): &(), thorough: bool) -> Result<Capabilities> {
        self.inner.probe(thorough).await
    }

    async fn whereabouts(&self, (): &()) -> Result<Whereabouts> {
        let written = Written { url: self.inner.url.clone(), ..Written::default() };
        Ok(Whereabouts { written, ..Whereabouts::default() })
    }

    async fn marker_in(&self, (): &(), folder: &FileName) -> Result<Option<Marker>> {
        self.inner.read_marker_at(&whereabouts::marker_in(folder.as_str())).await
    }

    async fn now(&self, _: &Proof) -> Result<Timestamp> {
        self.inner.now().await
    }

    async fn stat(&self, _: &Proof, names: &[FileName]) -> Result<PerName<Stat>> {
        Ok(join_all(names.iter().map(|name| self.inner.stat_name(name))).await)
    }

    async fn read(&self, _: &Proof, name: &FileName, limit: usize) -> Result<Option<Vec<u8>>> {
        let inner = &self.inner;
        let refused = |why: &str| {
            inner
                .error(Kind::Storage, "the name is not that of a plain file")
                .with("name", name)
                .because(why.to_owned())
                .hint("look at the path with the service's own tools")
        };
        let failed = |failure: &wire::Failure| inner.failed(failure, "cannot read the file", name);
        let size = match inner.stat_name(name).await? {
            Stat::Missing => return Ok(None),
            Stat::Refused(why) => return Err(refused(&why)),
            Stat::File(seen) => seen.size,
        };
        // Asked for no more than there is: what services answer to that differs.
        let most = size.min(limit as u64);
        if most == 0 {
            return Ok(Some(Vec::new()));
        }
        let path = name.as_str();
        match inner.wire.call(|| async { inner.wire.op.read_with(path).range(0..most).await }).await {
            Ok(bytes) => Ok(Some(bytes.to_vec())),
            // It was there a moment ago.
            Err(e) if e.kind() == opendal::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed(&e)),
        }
    }

    async fn fetch(&self, _: &Proof, name: &FileName) -> Result<Option<Fetched>> {
        self.inner.fetch(name).await
    }

    async fn begin(&self, proof: &Proof, name: &FileName, options: &PutOptions) -> Result<Box<dyn Upload>> {
        Ok(Box::new(upload::Incoming::begin(&self.inner, proof, name, options).await?))
    }

    fn signer(&self) -> Option<&dyn Signer<Self>> {
        Some(self)
    }

    async fn remove(&self, proof: &Proof, items: &[(FileName, FileVersion)]) -> Result<PerName<Removed>> {
        let proved = self.inner.honoured(proof).await?;
        let batch = trash::batch_id(proof.stamp());
        Ok(join_all(items.iter().map(|(name, seen)| self.inner.remove(proved, name, seen, &batch))).await)
    }

    fn eraser(&self) -> Option<&dyn Eraser<Self>> {
        None
    }

    async fn trashed(&self, _: &Proof, names: &[FileName]) -> Result<PerName<Option<Trashed>>> {
        self.inner.trashed(names).await
    }

    async fn expired(&self, proof: &Proof, before: Timestamp, after: Option<&str>, limit: usize) -> Result<Expired> {
        self.inner.expired(proof, before, after, limit).await
    }

    async fn restore(&self, _: &Proof, items: &[Trashed]) -> Result<PerName<Restored>> {
        Ok(join_all(items.iter().map(|item| self.inner.restore(item))).await)
    }

    async fn purge(&self, _: &Proof, items: &[Trashed]) -> Result<PerName<bool>> {
        Ok(join_all(items.iter().map(|item| self.inner.purge(item))).await)
    }

    async fn listable(&self, proof: &Proof, prefix: &str, after: Option<&FileName>) -> Result<bool> {
        whereabouts::listable(proof, prefix, after).await
    }

    async fn list(&self, _: &Proof, prefix: &str, after: Option<&FileName>, pages: &mut Pages) -> Result<()> {
        self.inner.list(prefix, after, pages).await
    }
}

#[async_trait]
impl Signer<ServiceBackend> for ServiceBackend {
    async fn sign(&self, _: &Proof, name: &FileName, access: &Access, ttl: Duration) -> Result<Signed> {
        self.inner.sign(name, access, ttl).await
    }
}

impl Inner {
    /// An error with this storage's name.
    fn error(&self, kind: Kind, message: &str) -> Error {
        Error::new(kind, message).with("storage", &self.name)
    }

    /// What a failure means for this name.
    fn failed(&self, failure: &Failure, message: &str, name: &FileName) -> Error {
        self.wire.error(failure, message).with("storage", &self.name).with("name", name)
    }

    /// What a failure means where no name was asked for.
    fn broke(&self, failure: &Failure, message: &str) -> Error {
        self.wire.error(failure, message).with("storage", &self.name)
    }

    /// The path of something of Rowbound's own.
    fn own(&self, rest: &str) -> String {
        format!("{RESERVED}/{rest}")
    }

    /// Whether folders are more than a part of names. OpenDAL says that it makes folders of containers, too: by an empty object whose name ends with `/`.
    fn has_folders(&self) -> bool {
        self.wire.can.create_dir && matches!(self.kind.place, services::Place::Host(_))
    }

    /// What the service was seen to honour.
    async fn honoured<'a>(&self, proof: &'a Proof) -> Result<&'a Capabilities> {
        let proved = proof.honoured().await?;
        if matches!(self.trash, Trash::Keep(_)) && proved.trash == TrashKind::No {
            return Err(self
                .error(Kind::Config, "`trash` was not kept when the storage was attached: whether the service can is not known")
                .hint("run `rowbound attach`"));
        }
        Ok(proved)
    }

    /// Why a name must never be sent.
    fn refusal(&self, name: &FileName) -> Option<&'static str> {
        if self.kind.strips && name.as_str().contains(|c: char| c.is_control() || services::URL_MARKS.contains(&c)) {
            return Some("it holds `;`, `?`, `#` or a control character: the service may take another name for it");
        }
        let folded = |part: &str| part.ends_with('.') || part.contains(|c: char| c.is_control() || c == '\\');
        if self.kind.folds && name.as_str().split('/').any(folded) {
            return Some(
                "it holds `\\`, a dot at the end of a part or a control character: the service would take another name for it, or none",
            );
        }
        stat::exact(name.as_str()).err()
    }

    /// What lies under a name, without a proof.
    async fn stat_name(&self, name: &FileName) -> Result<Stat> {
        if let Some(why) = self.refusal(name) {
            return Ok(Stat::Refused(why.to_owned()));
        }
        match self.stat(name.as_str()).await {
            Ok(PathStat::Missing) => Ok(Stat::Missing),
            Ok(PathStat::File(seen)) => Ok(Stat::File(seen)),
            Ok(PathStat::Other(what)) => Ok(Stat::Refused(what.to_owned())),
            Err(failure) => Err(self.failed(&failure, "cannot look at the file", name)),
        }
    }
}
