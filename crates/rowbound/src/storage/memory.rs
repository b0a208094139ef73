//! The memory of this process, for tests of programs that use Rowbound.
//!
//! In: checked names. Out: what became of each. Promise: everything that a folder promises; storages of one place share their files
//! within the process, and nothing outlives it. Every operation is one step under one lock.
//!
//! ```
//! use rowbound::{FileName, StoragePlan, storage::{self, Look, memory::Memory}};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // The program under test opens `memory:uploads`; the test puts files there and looks what became of them.
//! let files = Memory::at("uploads");
//! let name = FileName::parse("2026/photo.jpg")?;
//! files.put(&name, b"bytes");
//!
//! let storage = storage::open(&StoragePlan::url_at("default", "memory:uploads")?)?;
//! # storage.set_marker(&storage::Marker::new("id", [])).await?;
//! # storage.expect("id");
//! assert!(matches!(storage.look(&[name.clone()]).await?[0], Ok(Look::Seen(_))));
//! assert_eq!(files.get(&name).as_deref(), Some(&b"bytes"[..]));
//! assert_eq!(files.names(), [name]);
//! # Ok(())
//! # }
//! ```

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::mpsc;

use bytes::{Bytes, BytesMut};

use super::{
    About, Access, Expired, Fetched, Over, Placed, Signed, Upload, moves_all,
    upload::{cannot_sign, whole},
};
use super::{
    Conditional, Expected, Kept, Listed, Listing, Look, Marker, Page, PerName, Proved, Removed, Restored, Seen, Storage, Trashed,
    Whereabouts,
};
use crate::{
    clock::Ahead,
    error::{Error, Kind, Result},
    name::FileName,
};

/// Entries of one page of a listing.
const PAGE: usize = 1000;

/// Bytes of one piece of a file that is read.
const CHUNK: usize = 64 << 10;

/// Every place of this process.
static PLACES: Mutex<BTreeMap<String, Arc<Mutex<Place>>>> = Mutex::new(BTreeMap::new());

/// A storage in memory.
#[derive(Debug)]
pub struct Memory {
    name: String,
    retention: Option<Duration>,
    expected: Expected,
    ahead: Ahead,
    place: Arc<Mutex<Place>>,
}

#[derive(Debug, Default)]
struct Place {
    marker: Option<Marker>,
    files: BTreeMap<FileName, File>,
    /// By the number of the removal: the latest comes last.
    trash: BTreeMap<u64, (FileName, File, Timestamp)>,
    /// Counts whatever is written, restored or removed.
    changes: u64,
}

#[derive(Debug)]
struct File {
    bytes: Vec<u8>,
    modified: Timestamp,
    version: u64,
    content_type: Option<String>,
}

/// A file that comes in.
#[derive(Debug)]
struct Incoming {
    at: Memory,
    bytes: BytesMut,
    content_type: Option<String>,
}

#[async_trait]
impl Upload for Incoming {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    async fn place(&mut self, name: &FileName, over: Over) -> Result<Placed> {
        let mut place = self.at.proved()?;
        if over == Over::Nothing && place.files.contains_key(name) {
            return Ok(Placed::Occupied);
        }
        let version = place.next();
        let bytes = std::mem::take(&mut self.bytes).to_vec();
        place.files.insert(name.clone(), File { bytes, modified: Timestamp::now(), version, content_type: self.content_type.clone() });
        Ok(Placed::There)
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

impl Place {
    fn next(&mut self) -> u64 {
        self.changes += 1;
        self.changes
    }

    fn in_trash(&self, item: &Trashed) -> Option<u64> {
        let number = item.place.split('/').next()?.parse().ok()?;
        self.trash.get(&number).is_some_and(|(name, ..)| *name == item.name && place_of(number, name) == item.place).then_some(number)
    }
}

fn place_of(number: u64, name: &FileName) -> String {
    format!("{number}/{name}")
}

fn trashed(number: u64, name: &FileName, file: &File, at: Timestamp) -> Trashed {
    Trashed { name: name.clone(), place: place_of(number, name), at, size: file.bytes.len() as u64 }
}

impl Memory {
    /// The storage `name` at `place`; `retention` is how long collected files wait in the trash, `None` erases them at once.
    pub fn new(name: &str, place: &str, retention: Option<Duration>) -> Self {
        let place = PLACES.lock().unwrap_or_else(PoisonError::into_inner).entry(place.to_owned()).or_default().clone();
        Memory { name: name.to_owned(), retention, expected: Expected::default(), ahead: Ahead::default(), place }
    }

    /// What `memory:PLACE` names, to put files there and to look at them as the application does.
    pub fn at(place: &str) -> Self {
        Self::new(place, place, None)
    }

    /// Writes a file, replacing one of that name.
    pub fn put(&self, name: &FileName, bytes: &[u8]) {
        let mut place = self.lock();
        let version = place.next();
        place.files.insert(name.clone(), File { bytes: bytes.to_vec(), modified: Timestamp::now(), version, content_type: None });
    }

    /// Reads a file.
    pub fn get(&self, name: &FileName) -> Option<Vec<u8>> {
        self.lock().files.get(name).map(|file| file.bytes.clone())
    }

    /// Every name, in order.
    pub fn names(&self) -> Vec<FileName> {
        self.lock().files.keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Place> {
        // Each change is complete or not begun when anything could panic.
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn expected(&self) -> Option<String> {
        self.expected.id()
    }

    /// The place, if it is the one that was attached; it stays so while the lock is held.
    fn proved(&self) -> Result<MutexGuard<'_, Place>> {
        let error = |kind, message: &str| Error::new(kind, message).with("storage", &self.name);
        if self.expected.surveyed() {
            return Ok(self.lock());
        }
        let expected = self.expected().ok_or_else(|| {
            error(Kind::NotAttached, "it is not known which storage this memory must be").hint("run `rowbound attach` first")
        })?;
        let place = self.lock();
        match &place.marker {
            Some(marker) if marker.storage == expected => Ok(place),
            found => Err(error(
                Kind::StorageUnreachable,
                if found.is_some() { "the memory carries the marker of another storage" } else { "the memory carries no marker" },
            )
            .hint("nothing in memory outlives the process: attach it in the process that uses it")),
        }
    }
}

#[async_trait]
impl Storage for Memory {
    async fn marker(&self) -> Result<Option<Marker>> {
        Ok(self.lock().marker.clone())
    }

    async fn probe(&self) -> Result<Proved> {
        Ok(Proved { at: Timestamp::now(), delete: Conditional::InBulk, create: true, trash: Kept::Moved, exact: false, access: None })
    }

    fn ahead(&self) -> &Ahead {
        &self.ahead
    }

    async fn now(&self) -> Result<Timestamp> {
        self.expected.may_change()?;
        Ok(Timestamp::now())
    }

    async fn set_marker(&self, marker: &Marker) -> Result<()> {
        self.lock().marker = Some(marker.clone());
        Ok(())
    }

    async fn remove_marker(&self) -> Result<u64> {
        let mut place = if self.expected().is_some() { self.proved()? } else { self.lock() };
        place.marker = None;
        Ok(place.trash.len() as u64)
    }

    fn expect(&self, storage_id: &str) {
        self.expected.be(storage_id);
    }

    fn survey(&self) {
        self.expected.survey();
    }

    async fn prove(&self) -> Result<()> {
        self.proved().map(drop)
    }

    async fn whereabouts(&self) -> Result<Whereabouts> {
        Ok(Whereabouts::default())
    }

    async fn marker_in(&self, _: &FileName) -> Result<Option<Marker>> {
        Ok(None)
    }

    fn quick(&self) -> bool {
        true
    }

    async fn look(&self, names: &[FileName]) -> Result<PerName<Look>> {
        let place = self.proved()?;
        let look = |name| match place.files.get(name) {
            None => Look::Missing,
            Some(file) => Look::Seen(Seen::new(file.bytes.len() as u64, file.modified, file.version.to_string())),
        };
        Ok(names.iter().map(|name| Ok(look(name))).collect())
    }

    async fn read(&self, name: &FileName, limit: usize) -> Result<Option<Vec<u8>>> {
        let place = self.proved()?;
        Ok(place.files.get(name).map(|file| file.bytes[..limit.min(file.bytes.len())].to_vec()))
    }

    async fn begin(&self, _: &FileName, about: &About) -> Result<Box<dyn Upload>> {
        self.expected.may_change()?;
        drop(self.proved()?);
        let at = Memory {
            name: self.name.clone(),
            retention: self.retention,
            expected: Expected::default(),
            ahead: Ahead::default(),
            place: self.place.clone(),
        };
        at.expected.be(&self.expected().unwrap_or_default());
        Ok(Box::new(Incoming { at, bytes: BytesMut::new(), content_type: about.content_type.clone() }))
    }

    async fn fetch(&self, name: &FileName) -> Result<Option<Fetched>> {
        let place = self.proved()?;
        let Some(file) = place.files.get(name) else { return Ok(None) };
        let seen = Seen::new(file.bytes.len() as u64, file.modified, file.version.to_string());
        let chunks: Vec<_> = file.bytes.chunks(CHUNK).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        let body = whole(&self.name, name, seen.size, Box::pin(futures_util::stream::iter(chunks)));
        Ok(Some(Fetched { seen, content_type: file.content_type.clone(), body }))
    }

    async fn sign(&self, _: &FileName, _: &Access, _: Duration) -> Result<Signed> {
        Err(cannot_sign(&self.name))
    }

    async fn remove(&self, items: &[(FileName, Seen)]) -> Result<PerName<Removed>> {
        self.expected.may_change()?;
        let mut place = self.proved()?;
        let mut remove = |name: &FileName, seen: &Seen| match place.files.get(name) {
            None => Removed::Missing,
            Some(file) if file.version.to_string() != seen.version => Removed::Changed,
            Some(_) => {
                let number = place.next();
                match (self.retention, place.files.remove(name)) {
                    (Some(_), Some(file)) => {
                        place.trash.insert(number, (name.clone(), file, self.ahead.now()));
                        Removed::Trashed(place_of(number, name))
                    }
                    _ => Removed::Erased,
                }
            }
        };
        Ok(items.iter().map(|(name, seen)| Ok(remove(name, seen))).collect())
    }

    async fn erase(&self, _: &[(FileName, Seen)]) -> Result<PerName<Removed>> {
        Err(moves_all(&self.name))
    }

    async fn trashed(&self, names: &[FileName]) -> Result<PerName<Option<Trashed>>> {
        self.expected.may_change()?;
        let place = self.proved()?;
        let latest = |name: &FileName| place.trash.iter().rev().find(|(_, (n, ..))| n == name);
        Ok(names.iter().map(|name| Ok(latest(name).map(|(number, (name, file, at))| trashed(*number, name, file, *at)))).collect())
    }

    async fn expired(&self, before: Timestamp, after: Option<&str>, limit: usize) -> Result<Expired> {
        self.expected.may_change()?;
        let place = self.proved()?;
        let from = after.and_then(|last| last.parse::<u64>().ok()).map_or(Bound::Unbounded, Bound::Excluded);
        let mut old = place.trash.range((from, Bound::Unbounded)).filter(|(_, (.., at))| *at < before);
        let mut last = None;
        let mut page = Expired::default();
        for (number, (name, file, at)) in old.by_ref().take(limit) {
            page.files.push(trashed(*number, name, file, *at));
            last = Some(number.to_string());
        }
        page.next = last.filter(|_| old.next().is_some());
        Ok(page)
    }

    async fn restore(&self, items: &[Trashed]) -> Result<PerName<Restored>> {
        self.expected.may_change()?;
        let mut place = self.proved()?;
        let mut restore = |item: &Trashed| match place.in_trash(item) {
            None => Restored::Missing,
            Some(_) if place.files.contains_key(&item.name) => Restored::Occupied,
            Some(number) => {
                // Another version: what was seen before the removal must not remove it again.
                let version = place.next();
                if let Some((name, file, _)) = place.trash.remove(&number) {
                    place.files.insert(name, File { version, ..file });
                }
                Restored::Back
            }
        };
        Ok(items.iter().map(|item| Ok(restore(item))).collect())
    }

    async fn purge(&self, items: &[Trashed]) -> Result<PerName<bool>> {
        self.expected.may_change()?;
        let mut place = self.proved()?;
        let mut purge = |item: &Trashed| place.in_trash(item).is_some_and(|number| place.trash.remove(&number).is_some());
        Ok(items.iter().map(|item| Ok(purge(item))).collect())
    }

    async fn list(&self, prefix: &str, after: Option<FileName>) -> Result<Listing> {
        let place = self.proved()?;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let found = place.files.range((from, Bound::Unbounded)).map(|(name, _)| name).filter(|name| name.as_str().starts_with(prefix));
        let found: Vec<Listed> = found.cloned().map(Listed::File).collect();
        let count = found.len().div_ceil(PAGE).max(1);
        // Room for all, so nobody has to wait for the reader.
        let (pages, listing) = mpsc::channel(count);
        let mut rest = found.into_iter();
        for nth in 1..=count {
            let page = Page { entries: rest.by_ref().take(PAGE).collect(), last: nth == count };
            let _ = pages.try_send(Ok(page)); // there is room, and the reader is in our hands
        }
        Ok(listing)
    }

    fn requests(&self) -> u64 {
        0
    }
}
