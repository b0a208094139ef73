//! A service that is reached through OpenDAL: the long tail beyond folders and S3.
//!
//! In: checked names. Out: what became of each. Promise: a name that OpenDAL would send as another one is refused and never sent; absence
//! counts only if the service shows its marker again afterwards; what a call did is looked at, not believed.
//!
//! OpenDAL trims blanks and folds `//` on its way to every service, its services call much "not found" or "done" that is neither, and they
//! differ in what they can do. So [`Storage::probe`] tries everything on files of its own and refuses what cannot be used safely, and every
//! removal looks at what came of it.
//!
//! Where files can be renamed, a file is taken out of its place first, then looked at: if it is another than was seen, it goes back. Elsewhere
//! it is deleted on a condition, if the service has one; where it has none, a file that is replaced in the moment after the last look is lost.

use std::{collections::HashSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::sync::{OnceCell, mpsc};

use super::{
    About, Access, Expected, Expired, Fetched, Kept, Listing, Look, Marker, PerName, Proved, Removed, Restored, Seen, Signed, Storage,
    Trashed, Upload, Whereabouts, Written, services, whereabouts,
};
use crate::{
    clock::Ahead,
    error::{Error, Kind, Result, Retry},
    name::{FileName, RESERVED},
    plan::{self, StoragePlan, Trash},
};

mod list; // every file, in order
mod look; // one path: exactly this one, or a refusal
mod marker; // the proof that the service is there
mod open; // a URL -> OpenDAL's operator
mod probe; // what the service honours
mod remove; // out of its place, looked at, gone
mod trash; // where files wait
mod upload; // files that come in and go out
mod wire; // calls, again where that can help

use look::Stat;
use wire::{Failure, Wire};

/// A storage on a service.
#[derive(Debug, Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    url: String,
    trash: Trash,
    kind: &'static services::ServiceKind,
    wire: Wire,
    expected: Expected,
    ahead: Ahead,
    /// What was seen to be honoured, where the marker does not say it.
    proved: OnceCell<Proved>,
}

impl Service {
    /// The storage that `plan` describes, on this service. Does no IO.
    ///
    /// # Errors
    /// [`Kind::Config`]: this build has no such service, or its options are wrong.
    pub fn new(plan: &StoragePlan, at: &plan::Service) -> Result<Self> {
        let named = |e: Error| e.with("storage", &plan.name).with("url", plan.url());
        let kind = services::find(&at.scheme).map_err(named)?;
        let op = open::operator(kind, at).map_err(named)?;
        let secrets = kind.secrets.iter().filter_map(|option| at.options.get(*option).cloned()).collect();
        Ok(Service {
            inner: Arc::new(Inner {
                name: plan.name.clone(),
                url: plan.url(),
                trash: plan.trash,
                kind,
                wire: Wire::new(op, kind.at_once, secrets),
                expected: Expected::default(),
                ahead: Ahead::default(),
                proved: OnceCell::new(),
            }),
        })
    }
}

#[async_trait]
impl Storage for Service {
    async fn marker(&self) -> Result<Option<Marker>> {
        self.inner.read_marker().await
    }

    async fn probe(&self) -> Result<Proved> {
        self.inner.probe(true).await
    }

    fn ahead(&self) -> &Ahead {
        &self.inner.ahead
    }

    async fn now(&self) -> Result<Timestamp> {
        self.inner.expected.may_change()?;
        self.inner.prove().await?;
        self.inner.now().await
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
        let written = Written { url: self.inner.url.clone(), ..Written::default() };
        Ok(Whereabouts { written, ..Whereabouts::default() })
    }

    async fn marker_in(&self, folder: &FileName) -> Result<Option<Marker>> {
        self.inner.read_marker_at(&whereabouts::marker_in(folder.as_str())).await
    }

    fn quick(&self) -> bool {
        false
    }

    async fn look(&self, names: &[FileName]) -> Result<PerName<Look>> {
        let inner = &self.inner;
        inner.prove().await?;
        let mut done = join_all(names.iter().map(|name| inner.look(name))).await;
        inner.still_there(&mut done, &Look::Missing).await;
        Ok(done)
    }

    async fn read(&self, name: &FileName, limit: usize) -> Result<Option<Vec<u8>>> {
        let inner = &self.inner;
        inner.prove().await?;
        let refused = |why: &str| {
            inner
                .error(Kind::Storage, "the name is not that of a plain file")
                .with("name", name)
                .because(why.to_owned())
                .hint("look at the path with the service's own tools")
        };
        let failed = |failure: &wire::Failure| inner.failed(failure, "cannot read the file", name);
        let size = match inner.look(name).await? {
            Look::Missing => return inner.prove().await.map(|_| None),
            Look::Refused(why) => return Err(refused(&why)),
            Look::Seen(seen) => seen.size,
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
            Err(e) if e.kind() == opendal::ErrorKind::NotFound => inner.prove().await.map(|_| None),
            Err(e) => Err(failed(&e)),
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
        let batch = trash::batch_id(inner.ahead.now());
        let mut done = each(items, |(name, _)| name, |(name, seen)| inner.remove(&proved, name, seen, &batch)).await;
        inner.still_there(&mut done, &Removed::Missing).await;
        Ok(done)
    }

    async fn erase(&self, _: &[(FileName, Seen)]) -> Result<PerName<Removed>> {
        Err(crate::storage::moves_all(&self.inner.name))
    }

    async fn trashed(&self, names: &[FileName]) -> Result<PerName<Option<Trashed>>> {
        self.inner.expected.may_change()?;
        let inner = &self.inner;
        inner.prove().await?;
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let mut done = inner.trashed(names).await?;
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
        inner.prove().await?;
        let mut done = each(items, |item| &item.name, |item| inner.restore(item)).await;
        inner.still_there(&mut done, &Restored::Missing).await;
        Ok(done)
    }

    async fn purge(&self, items: &[Trashed]) -> Result<PerName<bool>> {
        self.inner.expected.may_change()?;
        let inner = &self.inner;
        inner.prove().await?;
        let mut done = each(items, |item| &item.name, |item| inner.purge(item)).await;
        inner.still_there(&mut done, &false).await;
        Ok(done)
    }

    async fn list(&self, prefix: &str, after: Option<FileName>) -> Result<Listing> {
        self.inner.prove().await?;
        whereabouts::listable(self, &self.inner.name, prefix, after.as_ref()).await?;
        let (pages, listing) = mpsc::channel(list::PAGES_AHEAD);
        let (inner, prefix) = (self.inner.clone(), prefix.to_owned());
        tokio::spawn(async move {
            if let Err(e) = inner.list(&prefix, after, &pages).await {
                let _ = pages.send(Err(e)).await; // nobody listens any more
            }
        });
        Ok(listing)
    }

    /// Calls of OpenDAL, each attempt for itself: one call may be several requests of its service.
    fn requests(&self) -> u64 {
        self.inner.wire.sent()
    }
}

/// Does `work` for every item: many at once, but the items of one name one after the other.
async fn each<'a, I, T, F>(items: &'a [I], name: impl Fn(&I) -> &FileName, work: impl Fn(&'a I) -> F) -> PerName<T>
where
    F: Future<Output = Result<T>>,
{
    let mut done: Vec<Option<Result<T>>> = items.iter().map(|_| None).collect();
    let mut left: Vec<usize> = (0..items.len()).collect();
    while !left.is_empty() {
        let mut names = HashSet::new();
        let (now, later): (Vec<usize>, Vec<usize>) = left.into_iter().partition(|i| names.insert(name(&items[*i])));
        let came = join_all(now.iter().map(|i| work(&items[*i]))).await;
        for (i, one) in now.into_iter().zip(came) {
            done[i] = Some(one);
        }
        left = later;
    }
    done.into_iter().map(|one| one.expect("every item had its turn")).collect()
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

    fn expected(&self) -> Option<String> {
        self.expected.id()
    }

    /// The path of something of Rowbound's own.
    fn own(&self, rest: &str) -> String {
        format!("{RESERVED}/{rest}")
    }

    async fn prove(&self) -> Result<Marker> {
        if self.expected.surveyed() {
            let nobodys = Marker::default();
            return Ok(self.read_marker().await?.unwrap_or(nobodys));
        }
        let expected = self.expected().ok_or_else(|| {
            self.error(Kind::NotAttached, "it is not known which storage this service must be").hint("run `rowbound attach` first")
        })?;
        let unproved = |message: &str| {
            self.error(Kind::StorageUnreachable, message)
                .with("url", &self.url)
                .hint(format!("correct `url`, or, if this is the storage, run `rowbound attach --adopt-storage {}`", self.name))
        };
        match self.read_marker().await? {
            Some(marker) if marker.storage == expected => Ok(marker),
            Some(_) => Err(unproved("the service carries the marker of another storage")),
            None => Err(unproved("the service carries no marker")),
        }
    }

    /// What the service was seen to honour: when it was attached, else now.
    async fn proved(&self, marker: Marker) -> Result<Proved> {
        let proved = match marker.proved {
            Some(proved) => proved,
            None => self.proved.get_or_try_init(|| self.probe(false)).await?.clone(),
        };
        if matches!(self.trash, Trash::Keep(_)) && proved.trash == Kept::No {
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
        look::exact(name.as_str()).err()
    }

    /// What lies under a name, without a proof.
    async fn look(&self, name: &FileName) -> Result<Look> {
        if let Some(why) = self.refusal(name) {
            return Ok(Look::Refused(why.to_owned()));
        }
        match self.stat(name.as_str()).await {
            Ok(Stat::Missing) => Ok(Look::Missing),
            Ok(Stat::File(seen)) => Ok(Look::Seen(seen)),
            Ok(Stat::Other(what)) => Ok(Look::Refused(what.to_owned())),
            Err(failure) => Err(self.failed(&failure, "cannot look at the file", name)),
        }
    }

    /// Absence counts only if the service still proves itself afterwards: it may have gone while we looked.
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
                    .retry(Retry::Later)
                    .hint(e.hint_text().unwrap_or_default()));
            }
        }
    }
}
