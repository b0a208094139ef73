//! The wrapper that proves: what every storage promises, whatever lies behind it.
//!
//! In: a backend. Out: a [`Storage`]. Promise: nothing is asked of a backend before its place has shown the marker that is expected; absence counts only if the place
//! shows it again afterwards; what changes anything is refused where the storage is only surveyed; a batch never asks for a name twice at once.
//!
//! Only this file makes a [`Proof`], and without one no operation of a [`Backend`] can be called.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use tokio::{runtime::Handle, sync::OnceCell};

use super::{
    Access, Backend, Capabilities, Expired, Fetched, FileVersion, Listing, Marker, Pages, PerName, PutOptions, Removed, Restored, Signed,
    Stat, Storage, Trashed, Upload, Whereabouts,
    upload::{cannot_sign, whole},
};
use crate::{
    clock::Ahead,
    error::{Error, Kind, Result, Retry},
    name::FileName,
};

/// A storage of a [`Backend`].
#[derive(Debug)]
pub struct Proving<B: Backend> {
    of: Arc<Shared<B>>,
}

impl<B: Backend> Clone for Proving<B> {
    /// The same storage: what it must be is set for both.
    fn clone(&self) -> Self {
        Proving { of: self.of.clone() }
    }
}

/// What a storage and its proofs share.
#[derive(Debug)]
struct Shared<B> {
    name: String,
    backend: B,
    expected: Expected,
    ahead: Ahead,
    /// What was seen to be honoured, where the marker does not say it.
    honoured: OnceCell<Capabilities>,
}

/// Proof that, a moment ago, the place of a storage was the one that is expected. Only [`Proving`] makes one.
#[derive(Debug)]
pub struct Proof<B: Backend> {
    of: Arc<Shared<B>>,
    held: B::Held,
    marker: Option<Marker>,
    /// Which storage it is; `None` where it is only surveyed.
    id: Option<String>,
}

/// What is done with a batch, or with a part of it.
type Work<B, I, T> = for<'a> fn(&'a Proof<B>, &'a [I]) -> BoxFuture<'a, Result<PerName<T>>>;

impl<B: Backend> Proving<B> {
    /// The storage `name` over this backend. Does no IO.
    pub fn over(name: &str, backend: B) -> Self {
        let of =
            Shared { name: name.to_owned(), backend, expected: Expected::default(), ahead: Ahead::default(), honoured: OnceCell::new() };
        Proving { of: Arc::new(of) }
    }

    /// What it is made of.
    pub fn backend(&self) -> &B {
        &self.of.backend
    }

    /// Proves that the place is the one that is expected.
    ///
    /// # Errors
    /// [`Kind::NotAttached`] when nobody said what is expected; [`Kind::StorageUnreachable`] when it is not there, or another one.
    pub async fn proof(&self) -> Result<Proof<B>> {
        self.with(|proof| async move { Ok(proof) }).await
    }

    /// Does `work`, on a thread that may be blocked if the backend blocks.
    async fn run<T, F>(&self, work: impl FnOnce(Arc<Shared<B>>) -> F + Send + 'static) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let of = self.of.clone();
        match B::BLOCKS {
            false => work(of).await,
            true => {
                let runtime = Handle::current();
                blocking(&self.of.name, move || runtime.block_on(work(of))).await
            }
        }
    }

    /// Proves the place, and does `work` with the proof.
    pub(super) async fn with<T, F>(&self, work: impl FnOnce(Proof<B>) -> F + Send + 'static) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        self.run(|of| async move { work(of.proof().await?).await }).await
    }

    /// Changes something for each item of a batch: each name's items one after the other, else all at once. `missing` is said of what was not there.
    async fn each<I, T>(&self, items: &[I], name: fn(&I) -> &FileName, missing: T, work: Work<B, I, T>) -> Result<PerName<T>>
    where
        I: Clone + Send + Sync + 'static,
        T: PartialEq + Send + Sync + 'static,
    {
        self.of.expected.may_change()?;
        self.of.may_be_asked(items.iter().map(name))?;
        let items = items.to_vec();
        self.with(move |proof| async move {
            let rounds = rounds(items.iter().map(name));
            let done = match rounds.len() {
                0 if B::REMOTE => Vec::new(),
                // A folder takes the occasion to prune what earlier removals left empty.
                0 | 1 => proof.answered(&items, work(&proof, &items).await?)?,
                _ => {
                    let mut done: Vec<Option<Result<T>>> = items.iter().map(|_| None).collect();
                    for round in rounds {
                        let part: Vec<I> = round.iter().map(|i| items[*i].clone()).collect();
                        let came = proof.answered(&part, work(&proof, &part).await?)?;
                        for (i, one) in round.into_iter().zip(came) {
                            done[i] = Some(one);
                        }
                    }
                    done.into_iter().map(|one| one.expect("every item had its turn")).collect()
                }
            };
            Ok(proof.still_there(done, &missing).await)
        })
        .await
    }
}

/// Runs `work` where it may block.
pub(super) async fn blocking<T: Send + 'static>(storage: &str, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
        Err(e) => Err(Error::new(Kind::Storage, "the operation was given up").with("storage", storage).because(e).retry(Retry::Later)),
    }
}

/// Divides what is asked for so that no name is twice in a part: many names at once, but each name's items one after the other.
fn rounds<'a>(names: impl Iterator<Item = &'a FileName>) -> Vec<Vec<usize>> {
    let mut rounds: Vec<Vec<usize>> = Vec::new();
    let mut turns: HashMap<&FileName, usize> = HashMap::new();
    for (i, name) in names.enumerate() {
        let turn = turns.entry(name).or_default();
        if *turn == rounds.len() {
            rounds.push(Vec::new());
        }
        rounds[*turn].push(i);
        *turn += 1;
    }
    rounds
}

#[async_trait]
impl<B: Backend> Storage for Proving<B> {
    async fn marker(&self) -> Result<Option<Marker>> {
        self.run(|of| async move { of.backend.marker(&of.backend.reach().await?).await }).await
    }

    async fn probe(&self) -> Result<Capabilities> {
        self.run(|of| async move { of.backend.probe(&of.backend.reach().await?, true).await }).await
    }

    fn ahead(&self) -> &Ahead {
        &self.of.ahead
    }

    async fn now(&self) -> Result<Timestamp> {
        self.of.expected.may_change()?;
        self.with(|proof| async move { proof.backend().now(&proof).await }).await
    }

    async fn ahead_of_machine(&self) -> Option<SignedDuration> {
        self.run(|of| async move { Ok(of.backend.ahead_of_machine().await) }).await.ok().flatten()
    }

    async fn set_marker(&self, marker: &Marker) -> Result<()> {
        let marker = marker.clone();
        self.run(|of| async move { of.backend.set_marker(&of.backend.reach().await?, &marker).await }).await
    }

    async fn remove_marker(&self) -> Result<u64> {
        let work = |of: Arc<Shared<B>>| async move {
            let at = of.backend.reach().await?;
            let found = of.backend.marker(&at).await?;
            if let Some(id) = of.expected.id()
                && !(B::REMOTE && found.is_none())
            {
                of.check(&id, found.as_ref())?;
            }
            of.backend.remove_marker(&at, found.as_ref()).await
        };
        self.run(work).await
    }

    fn expect(&self, storage_id: &str) {
        self.of.expected.set_id(storage_id);
    }

    fn set_read_only(&self) {
        self.of.expected.set_read_only();
    }

    async fn verify_marker(&self) -> Result<()> {
        self.with(|_| async { Ok(()) }).await
    }

    async fn whereabouts(&self) -> Result<Whereabouts> {
        self.run(|of| async move { of.backend.whereabouts(&of.backend.reach().await?).await }).await
    }

    async fn marker_in(&self, folder: &FileName) -> Result<Option<Marker>> {
        let folder = folder.clone();
        self.run(|of| async move { of.backend.marker_in(&of.backend.reach().await?, &folder).await }).await
    }

    fn quick(&self) -> bool {
        !B::REMOTE
    }

    async fn stat(&self, names: &[FileName]) -> Result<PerName<Stat>> {
        let names = names.to_vec();
        let work = |proof: Proof<B>| async move {
            let looked = proof.answered(&names, proof.backend().stat(&proof, &names).await?)?;
            Ok(proof.still_there(looked, &Stat::Missing).await)
        };
        self.with(work).await
    }

    async fn read(&self, name: &FileName, limit: usize) -> Result<Option<Vec<u8>>> {
        self.of.may_be_asked([name])?;
        let name = name.clone();
        self.with(move |proof| async move { proof.found(proof.backend().read(&proof, &name, limit).await?).await }).await
    }

    async fn begin(&self, name: &FileName, options: &PutOptions) -> Result<Box<dyn Upload>> {
        self.of.expected.may_change()?;
        self.of.may_be_asked([name])?;
        let (name, options) = (name.clone(), options.clone());
        self.with(|proof| async move { proof.backend().begin(&proof, &name, &options).await }).await
    }

    async fn fetch(&self, name: &FileName) -> Result<Option<Fetched>> {
        self.of.may_be_asked([name])?;
        let name = name.clone();
        let work = |proof: Proof<B>| async move {
            let Some(file) = proof.found(proof.backend().fetch(&proof, &name).await?).await? else { return Ok(None) };
            let body = whole(proof.name(), &name, file.seen.size, file.body);
            Ok(Some(Fetched { body, ..file }))
        };
        self.with(work).await
    }

    async fn sign(&self, name: &FileName, access: &Access, ttl: Duration) -> Result<Signed> {
        if self.of.backend.signer().is_none() {
            return Err(cannot_sign(&self.of.name));
        }
        if matches!(access, Access::Put { .. }) {
            self.of.expected.may_change()?;
        }
        self.of.may_be_asked([name])?;
        let (name, access) = (name.clone(), access.clone());
        let work = move |proof: Proof<B>| async move {
            match proof.backend().signer() {
                Some(signer) => signer.sign(&proof, &name, &access, ttl).await,
                None => Err(cannot_sign(proof.name())),
            }
        };
        self.with(work).await
    }

    async fn remove(&self, items: &[(FileName, FileVersion)]) -> Result<PerName<Removed>> {
        self.each(items, |(name, _)| name, Removed::Missing, |proof, items| proof.backend().remove(proof, items)).await
    }

    async fn erase(&self, items: &[(FileName, FileVersion)]) -> Result<PerName<Removed>> {
        if self.of.backend.eraser().is_none() {
            return Err(moves_all(&self.of.name));
        }
        let work: Work<B, _, _> = |proof, items| match proof.backend().eraser() {
            Some(eraser) => eraser.erase(proof, items),
            None => Box::pin(async move { Err(moves_all(proof.name())) }),
        };
        self.each(items, |(name, _)| name, Removed::Missing, work).await
    }

    async fn trashed(&self, names: &[FileName]) -> Result<PerName<Option<Trashed>>> {
        self.of.expected.may_change()?;
        self.of.may_be_asked(names)?;
        let names = names.to_vec();
        let work = |proof: Proof<B>| async move {
            if names.is_empty() {
                return Ok(Vec::new());
            }
            let found = proof.answered(&names, proof.backend().trashed(&proof, &names).await?)?;
            Ok(proof.still_there(found, &None).await)
        };
        self.with(work).await
    }

    async fn expired(&self, before: Timestamp, after: Option<&str>, limit: usize) -> Result<Expired> {
        self.of.expected.may_change()?;
        let after = after.map(str::to_owned);
        self.with(move |proof| async move { proof.backend().expired(&proof, before, after.as_deref(), limit).await }).await
    }

    async fn restore(&self, items: &[Trashed]) -> Result<PerName<Restored>> {
        self.each(items, |item| &item.name, Restored::Missing, |proof, items| proof.backend().restore(proof, items)).await
    }

    async fn purge(&self, items: &[Trashed]) -> Result<PerName<bool>> {
        self.each(items, |item| &item.name, false, |proof, items| proof.backend().purge(proof, items)).await
    }

    async fn list(&self, prefix: &str, after: Option<FileName>) -> Result<Listing> {
        let (prefix, within) = (prefix.to_owned(), (prefix.to_owned(), after.clone()));
        let begin = |proof: Proof<B>| async move {
            let lists = proof.backend().listable(&proof, &within.0, within.1.as_ref()).await?;
            Ok((proof, lists))
        };
        let (proof, lists) = self.with(begin).await?;
        let (mut pages, listing) = Pages::new();
        let work = async move {
            let mut listed = match lists {
                true => proof.backend().list(&proof, &prefix, after.as_ref(), &mut pages).await,
                false => Ok(()),
            };
            if listed.is_ok() && pages.are_wanted() {
                // Had the place gone meanwhile, its files would seem never to have been.
                listed = proof.again().await;
            }
            pages.end(listed).await;
        };
        if B::BLOCKS {
            let runtime = Handle::current();
            tokio::task::spawn_blocking(move || runtime.block_on(work));
        } else {
            tokio::spawn(work);
        }
        Ok(listing)
    }

    fn requests(&self) -> u64 {
        self.of.backend.requests()
    }
}

/// The answer of a storage whose files can always be moved, or never, to who asks it to erase what it could not move.
fn moves_all(storage: &str) -> Error {
    Error::new(Kind::Bug, "this storage moves every file, or erases it by itself").with("storage", storage).hint("report it")
}

impl<B: Backend> Shared<B> {
    async fn proof(self: Arc<Self>) -> Result<Proof<B>> {
        let held = self.backend.reach().await?;
        let (id, marker) = match self.expected.get() {
            Expectation::Unknown => {
                let message = format!("it is not known which storage this {} must be", self.backend.described().noun);
                return Err(self.error(Kind::NotAttached, message).hint("run `rowbound attach` first"));
            }
            Expectation::ReadOnly if B::REMOTE => (None, self.backend.marker(&held).await?),
            Expectation::ReadOnly => (None, None),
            Expectation::Id(id) => {
                let found = self.backend.marker(&held).await?;
                self.check(&id, found.as_ref())?;
                (Some(id), found)
            }
        };
        Ok(Proof { of: self, held, marker, id })
    }

    /// Insists that this is the marker of the storage with this id.
    fn check(&self, id: &str, found: Option<&Marker>) -> Result<()> {
        if found.is_some_and(|marker| marker.storage == id) {
            return Ok(());
        }
        let here = self.backend.described();
        let message = match found {
            Some(_) => format!("the {} carries the marker of another storage", here.noun),
            None => format!("the {} carries no marker{}", here.noun, here.unmarked),
        };
        let error = self.error(Kind::StorageUnreachable, message).hint(here.hint);
        Err(here.at.into_iter().fold(error, |error, (key, value)| error.with(key, value)))
    }

    /// Insists that a backend of paths is asked for paths only.
    fn may_be_asked<'a>(&self, names: impl IntoIterator<Item = &'a FileName>) -> Result<()> {
        if !B::PATHS_ONLY {
            return Ok(());
        }
        for name in names {
            name.as_path()
                .map_err(|why| self.error(Kind::Storage, format!("this storage cannot hold the name: it {why}")).with("name", name))?;
        }
        Ok(())
    }

    /// An error with this storage's name.
    fn error(&self, kind: Kind, message: impl Into<String>) -> Error {
        Error::new(kind, message).with("storage", &self.name)
    }
}

impl<B: Backend> Proof<B> {
    /// What [`Backend::reach`] made for this operation.
    pub fn held(&self) -> &B::Held {
        &self.held
    }

    /// The backend that is asked.
    pub fn backend(&self) -> &B {
        &self.of.backend
    }

    /// The storage's name.
    pub fn name(&self) -> &str {
        &self.of.name
    }

    /// The marker that was read. `None` where the storage is only surveyed, and has none or need not show it.
    pub fn marker(&self) -> Option<&Marker> {
        self.marker.as_ref()
    }

    /// Whether the storage is only read, because it is not attached yet.
    pub fn is_read_only(&self) -> bool {
        self.id.is_none()
    }

    /// What the place was seen to honour: when it was attached, else it is tried now, once.
    ///
    /// # Errors
    /// [`Backend::probe`]'s.
    pub async fn honoured(&self) -> Result<&Capabilities> {
        match self.marker().and_then(|marker| marker.proved.as_ref()) {
            Some(proved) => Ok(proved),
            None => self.of.honoured.get_or_try_init(|| self.of.backend.probe(&self.held, false)).await,
        }
    }

    /// The moment with which what goes to the trash is stamped: the database's time, as far as it was measured.
    pub fn stamp(&self) -> Timestamp {
        self.of.ahead.now()
    }

    /// Proves the place once more, through what is held.
    ///
    /// # Errors
    /// Where it is not there any more, or became another one.
    pub async fn again(&self) -> Result<()> {
        match &self.id {
            Some(id) => self.of.check(id, self.of.backend.marker(&self.held).await?.as_ref()),
            None if B::REMOTE => self.of.backend.marker(&self.held).await.map(drop),
            None => Ok(()),
        }
    }

    /// The storage, for what goes on after the operation and needs proofs of its own: a file that comes in.
    pub fn proving(&self) -> Proving<B> {
        Proving { of: self.of.clone() }
    }

    /// What was found; that it is absent counts only if the place proves itself once more.
    async fn found<T>(&self, found: Option<T>) -> Result<Option<T>> {
        if found.is_none() {
            self.again().await?;
        }
        Ok(found)
    }

    /// The same for the answers to a batch: the place may have gone while it was looked at.
    async fn still_there<T: PartialEq>(&self, mut done: PerName<T>, missing: &T) -> PerName<T> {
        let absent = |one: &Result<T>| one.as_ref().is_ok_and(|one| one == missing);
        if done.iter().any(absent)
            && let Err(e) = self.again().await
        {
            let gone = self.of.error(e.kind(), "the file is not there, and neither is the proof that this is the storage");
            let gone = gone.because(e.full()).hint(e.hint_text().unwrap_or_default());
            for one in &mut done {
                if absent(one) {
                    *one = Err(gone.clone());
                }
            }
        }
        done
    }

    /// Insists on one answer per item: a backend that leaves one out would have the others taken for its neighbours'.
    fn answered<I, T>(&self, items: &[I], answers: PerName<T>) -> Result<PerName<T>> {
        match answers.len() == items.len() {
            true => Ok(answers),
            false => Err(self
                .of
                .error(Kind::Bug, "a storage did not answer for each name that it was asked for")
                .with("names", items.len())
                .with("answers", answers.len())
                .hint("report it to who wrote this kind of storage")),
        }
    }
}

/// What the marker must say.
#[derive(Debug, Default)]
struct Expected(RwLock<Expectation>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Expectation {
    #[default]
    Unknown,
    /// Any: it is only read.
    ReadOnly,
    Id(String),
}

impl Expected {
    fn get(&self) -> Expectation {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, expectation: Expectation) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = expectation;
    }

    /// Its marker must hold this id.
    fn set_id(&self, storage_id: &str) {
        self.set(Expectation::Id(storage_id.to_owned()));
    }

    /// It is only read from now on.
    fn set_read_only(&self) {
        self.set(Expectation::ReadOnly);
    }

    /// The id that its marker must hold.
    fn id(&self) -> Option<String> {
        match self.get() {
            Expectation::Id(id) => Some(id),
            Expectation::Unknown | Expectation::ReadOnly => None,
        }
    }

    /// # Errors
    /// [`Kind::NotAttached`] where it is only read.
    fn may_change(&self) -> Result<()> {
        match self.get() {
            Expectation::Unknown | Expectation::Id(_) => Ok(()),
            Expectation::ReadOnly => {
                Err(Error::new(Kind::NotAttached, "the storage is only looked at: nothing in it is changed").hint("rowbound attach"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_of_a_batch_asks_for_a_name_twice() {
        let of = |names: &[&str]| {
            let names: Vec<FileName> = names.iter().map(|name| FileName::parse(name).unwrap()).collect();
            rounds(names.iter())
        };
        assert_eq!(of(&[]), [[0_usize; 0]; 0]);
        assert_eq!(of(&["a", "b"]), [[0, 1]]);
        assert_eq!(of(&["a", "b", "a", "c", "a", "b"]), [vec![0, 1, 3], vec![2, 5], vec![4]]);
    }
}
