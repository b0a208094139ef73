//! The memory of this process, for tests of programs that use Rowbound.
//!
//! In: checked names. Out: what became of each. Promise: everything that a folder promises; storages of one place share their files
//! within the process, and nothing outlives it. Every operation is one step under one lock; its proof is another one before.
//!
//! ```
//! use rowbound::{FileName, StoragePlan, storage::{self, Stat, memory::Memory}};
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
//! assert!(matches!(storage.stat(&[name.clone()]).await?[0], Ok(Stat::File(_))));
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
use bytes::{Bytes, BytesMut};
use jiff::{SignedDuration, Timestamp};

use super::{
    Backend, Capabilities, Conditional, Described, Eraser, Expired, Fetched, FileVersion, Listed, Marker, Pages, PerName, Proving, PutMode,
    PutOptions, PutResult, Removed, Restored, Signer, Stat, TrashKind, Trashed, Upload, Whereabouts,
};
use crate::{error::Result, name::FileName};

/// Bytes of one piece of a file that is read.
const CHUNK: usize = 64 << 10;

/// Every place of this process.
static PLACES: Mutex<BTreeMap<String, Arc<Mutex<Place>>>> = Mutex::new(BTreeMap::new());

/// A storage in memory.
pub type Memory = Proving<MemoryBackend>;

/// Proof that a place has the right marker.
type Proof = super::Proof<MemoryBackend>;

/// What the memory does by itself.
#[derive(Debug)]
pub struct MemoryBackend {
    retention: Option<Duration>,
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

    async fn publish(&mut self, name: &FileName, mode: PutMode) -> Result<PutResult> {
        self.at.proof().await?;
        let mut place = self.at.backend().lock();
        if mode == PutMode::Create && place.files.contains_key(name) {
            return Ok(PutResult::Occupied);
        }
        let version = place.next();
        let bytes = std::mem::take(&mut self.bytes).to_vec();
        place.files.insert(name.clone(), File { bytes, modified: Timestamp::now(), version, content_type: self.content_type.clone() });
        Ok(PutResult::Stored)
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

impl Proving<MemoryBackend> {
    /// The storage `name` at `place`; `retention` is how long collected files wait in the trash, `None` erases them at once.
    pub fn new(name: &str, place: &str, retention: Option<Duration>) -> Self {
        let place = PLACES.lock().unwrap_or_else(PoisonError::into_inner).entry(place.to_owned()).or_default().clone();
        Proving::over(name, MemoryBackend { retention, place })
    }

    /// What `memory:PLACE` names, to put files there and to look at them as the application does.
    pub fn at(place: &str) -> Self {
        Self::new(place, place, None)
    }

    /// Writes a file, replacing one of that name.
    pub fn put(&self, name: &FileName, bytes: &[u8]) {
        let mut place = self.backend().lock();
        let version = place.next();
        place.files.insert(name.clone(), File { bytes: bytes.to_vec(), modified: Timestamp::now(), version, content_type: None });
    }

    /// Reads a file.
    pub fn get(&self, name: &FileName) -> Option<Vec<u8>> {
        self.backend().lock().files.get(name).map(|file| file.bytes.clone())
    }

    /// Every name, in order.
    pub fn names(&self) -> Vec<FileName> {
        self.backend().lock().files.keys().cloned().collect()
    }
}

impl MemoryBackend {
    fn lock(&self) -> MutexGuard<'_, Place> {
        // Each change is complete or not begun when anything could panic.
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Backend for MemoryBackend {
    type Held = ();

    const BLOCKS: bool = false;

    const REMOTE: bool = false;

    const PATHS_ONLY: bool = false;

    fn described(&self) -> Described {
        let hint = "nothing in memory outlives the process: attach it in the process that uses it".to_owned();
        Described { noun: "memory", at: Vec::new(), unmarked: "", hint }
    }

    fn requests(&self) -> u64 {
        0
    }

    async fn ahead_of_machine(&self) -> Option<SignedDuration> {
        None
    }

    async fn reach(&self) -> Result<()> {
        Ok(())
    }

    async fn marker(&self, (): &()) -> Result<Option<Marker>> {
        Ok(self.lock().marker.clone())
    }

    async fn set_marker(&self, (): &(), marker: &Marker) -> Result<()> {
        self.lock().marker = Some(marker.clone());
        Ok(())
    }

    async fn remove_marker(&self, (): &(), _: Option<&Marker>) -> Result<u64> {
        let mut place = self.lock();
        place.marker = None;
        Ok(place.trash.len() as u64)
    }

    async fn probe(&self, (): &(), _: bool) -> Result<Capabilities> {
        Ok(Capabilities {
            at: Timestamp::now(),
            delete: Conditional::InBulk,
            create: true,
            trash: TrashKind::Moved,
            exact: false,
            access: None,
        })
    }

    async fn whereabouts(&self, (): &()) -> Result<Whereabouts> {
        Ok(Whereabouts::default())
    }

    async fn marker_in(&self, (): &(), _: &FileName) -> Result<Option<Marker>> {
        Ok(None)
    }

    async fn now(&self, _: &Proof) -> Result<Timestamp> {
        Ok(Timestamp::now())
    }

    async fn stat(&self, _: &Proof, names: &[FileName]) -> Result<PerName<Stat>> {
        let place = self.lock();
        let look = |name| match place.files.get(name) {
            None => Stat::Missing,
            Some(file) => Stat::File(FileVersion::new(file.bytes.len() as u64, file.modified, file.version.to_string())),
        };
        Ok(names.iter().map(|name| Ok(look(name))).collect())
    }

    async fn read(&self, _: &Proof, name: &FileName, limit: usize) -> Result<Option<Vec<u8>>> {
        let place = self.lock();
        Ok(place.files.get(name).map(|file| file.bytes[..limit.min(file.bytes.len())].to_vec()))
    }

    async fn fetch(&self, _: &Proof, name: &FileName) -> Result<Option<Fetched>> {
        let place = self.lock();
        let Some(file) = place.files.get(name) else { return Ok(None) };
        let seen = FileVersion::new(file.bytes.len() as u64, file.modified, file.version.to_string());
        let chunks: Vec<_> = file.bytes.chunks(CHUNK).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        Ok(Some(Fetched { seen, content_type: file.content_type.clone(), body: Box::pin(futures_util::stream::iter(chunks)) }))
    }

    async fn begin(&self, proof: &Proof, _: &FileName, options: &PutOptions) -> Result<Box<dyn Upload>> {
        Ok(Box::new(Incoming { at: proof.proving(), bytes: BytesMut::new(), content_type: options.content_type.clone() }))
    }

    fn signer(&self) -> Option<&dyn Signer<Self>> {
        None
    }

    async fn remove(&self, proof: &Proof, items: &[(FileName, FileVersion)]) -> Result<PerName<Removed>> {
        let mut place = self.lock();
        let mut remove = |name: &FileName, seen: &FileVersion| match place.files.get(name) {
            None => Removed::Missing,
            Some(file) if file.version.to_string() != seen.version => Removed::Changed,
            Some(_) => {
                let number = place.next();
                match (self.retention, place.files.remove(name)) {
                    (Some(_), Some(file)) => {
                        place.trash.insert(number, (name.clone(), file, proof.stamp()));
                        Removed::Trashed(place_of(number, name))
                    }
                    _ => Removed::Erased,
                }
            }
        };
        Ok(items.iter().map(|(name, seen)| Ok(remove(name, seen))).collect())
    }

    fn eraser(&self) -> Option<&dyn Eraser<Self>> {
        None
    }

    async fn trashed(&self, _: &Proof, names: &[FileName]) -> Result<PerName<Option<Trashed>>> {
        let place = self.lock();
        let latest = |name: &FileName| place.trash.iter().rev().find(|(_, (n, ..))| n == name);
        Ok(names.iter().map(|name| Ok(latest(name).map(|(number, (name, file, at))| trashed(*number, name, file, *at)))).collect())
    }

    async fn expired(&self, _: &Proof, before: Timestamp, after: Option<&str>, limit: usize) -> Result<Expired> {
        let place = self.lock();
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

    async fn restore(&self, _: &Proof, items: &[Trashed]) -> Result<PerName<Restored>> {
        let mut place = self.lock();
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

    async fn purge(&self, _: &Proof, items: &[Trashed]) -> Result<PerName<bool>> {
        let mut place = self.lock();
        let mut purge = |item: &Trashed| place.in_trash(item).is_some_and(|number| place.trash.remove(&number).is_some());
        Ok(items.iter().map(|item| Ok(purge(item))).collect())
    }

    async fn listable(&self, _: &Proof, _: &str, _: Option<&FileName>) -> Result<bool> {
        Ok(true)
    }

    async fn list(&self, _: &Proof, prefix: &str, after: Option<&FileName>, pages: &mut Pages) -> Result<()> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let found: Vec<FileName> = {
            let place = self.lock();
            let names = place.files.range::<FileName, _>((from, Bound::Unbounded)).map(|(name, _)| name);
            names.filter(|name| name.as_str().starts_with(prefix)).cloned().collect()
        };
        for name in found {
            if !pages.add(Listed::File(name)).await {
                break; // nobody listens any more
            }
        }
        Ok(())
    }
}
