//! Files in a map: a storage for Rowbound, and the proof that it keeps the contract.

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Unbounded},
    sync::{Arc, Mutex, MutexGuard},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;
use jiff::{SignedDuration, Timestamp};
use lies::Lie; // a lie
use rowbound::{
    FileName, Result,
    storage::{
        Backend, Capabilities, Conditional, Described, Eraser, Expired, Fetched, FileVersion, Listed, Marker, Pages, PerName, Proof,
        Proving, PutMode, PutOptions, PutResult, Removed, Restored, Signer, Stat, Storage, TrashKind, Trashed, Upload, Whereabouts,
    },
};
use rowbound_testkit::storage_suite::{self, Abilities, Place};
mod lies; // a lie

#[derive(Debug, Clone, Default)]
struct MapBackend {
    /// One lock for everything: each operation is one step.
    files: Arc<Mutex<Files>>,
    /// Whether files that are removed wait in the trash.
    keeps: bool,
}

#[derive(Debug, Default)]
struct Files {
    marker: Option<Marker>,
    live: BTreeMap<FileName, File>,
    /// By place, the oldest first.
    trash: BTreeMap<String, (FileName, File, Timestamp)>,
    /// Counts changes: each file has a version of its own, and each removal a place.
    changes: u64,
    lie: Option<Lie>, // a lie
}

#[derive(Debug, Clone)]
struct File {
    bytes: Bytes,
    modified: Timestamp,
    version: u64,
}

impl File {
    fn seen(&self) -> FileVersion {
        FileVersion::new(self.bytes.len() as u64, self.modified, self.version.to_string())
    }
}

impl Files {
    fn next(&mut self) -> u64 {
        self.changes += 1;
        self.changes
    }

    fn put(&mut self, name: &FileName, bytes: Bytes) {
        let version = self.next();
        let version = if self.lie == Some(Lie::KeepsTheVersion) { 1 } else { version }; // a lie
        self.live.insert(name.clone(), File { bytes, modified: Timestamp::now(), version });
    }

    fn trashed(&self, place: &str) -> Option<Trashed> {
        let (name, file, at) = self.trash.get(place)?;
        Some(Trashed { name: name.clone(), place: place.to_owned(), at: *at, size: file.bytes.len() as u64 })
    }

    fn bring_back(&mut self, place: &str) -> Restored {
        let Some((name, file, _)) = self.trash.remove(place) else { return Restored::Missing };
        let version = self.next();
        self.live.insert(name, File { version, ..file });
        Restored::Back
    }
}

impl MapBackend {
    fn lock(&self) -> MutexGuard<'_, Files> {
        self.files.lock().expect("nothing panics under the lock")
    }
}

#[async_trait]
impl Backend for MapBackend {
    type Held = ();
    const BLOCKS: bool = false;
    const REMOTE: bool = false;
    const PATHS_ONLY: bool = false;

    fn described(&self) -> Described {
        Described { noun: "map", hint: "attach it in the process that uses it".to_owned(), ..Described::default() }
    }

    // What a map has not.
    fn requests(&self) -> u64 {
        0
    }
    async fn ahead_of_machine(&self) -> Option<SignedDuration> {
        None
    }
    async fn whereabouts(&self, (): &()) -> Result<Whereabouts> {
        Ok(Whereabouts::default())
    }
    async fn marker_in(&self, (): &(), _: &FileName) -> Result<Option<Marker>> {
        Ok(None)
    }
    async fn listable(&self, _: &Proof<Self>, _: &str, _: Option<&FileName>) -> Result<bool> {
        Ok(true)
    }
    fn signer(&self) -> Option<&dyn Signer<Self>> {
        None
    }
    fn eraser(&self) -> Option<&dyn Eraser<Self>> {
        None
    }

    // The place, its marker, and what it honours.
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
        let mut files = self.lock();
        files.marker = None;
        Ok(files.trash.len() as u64)
    }
    async fn probe(&self, (): &(), _: bool) -> Result<Capabilities> {
        let trash = if self.keeps { TrashKind::Moved } else { TrashKind::No };
        Ok(Capabilities { at: Timestamp::now(), delete: Conditional::InBulk, create: true, trash, exact: false, access: None })
    }
    async fn now(&self, _: &Proof<Self>) -> Result<Timestamp> {
        Ok(Timestamp::now())
    }

    // Files.
    async fn stat(&self, _: &Proof<Self>, names: &[FileName]) -> Result<PerName<Stat>> {
        let files = self.lock();
        let names = &lies::in_any_order(files.lie, names); // a lie
        Ok(names.iter().map(|name| Ok(files.live.get(name).map_or(Stat::Missing, |file| Stat::File(file.seen())))).collect())
    }
    async fn read(&self, _: &Proof<Self>, name: &FileName, limit: usize) -> Result<Option<Vec<u8>>> {
        Ok(self.lock().live.get(name).map(|file| file.bytes[..limit.min(file.bytes.len())].to_vec()))
    }
    async fn fetch(&self, _: &Proof<Self>, name: &FileName) -> Result<Option<Fetched>> {
        let file = self.lock().live.get(name).cloned();
        Ok(file.map(|file| Fetched { seen: file.seen(), content_type: None, body: Box::pin(stream::iter([Ok(file.bytes)])) }))
    }
    async fn begin(&self, proof: &Proof<Self>, _: &FileName, _: &PutOptions) -> Result<Box<dyn Upload>> {
        Ok(Box::new(Incoming { storage: proof.proving(), bytes: Vec::new() }))
    }
    async fn remove(&self, proof: &Proof<Self>, items: &[(FileName, FileVersion)]) -> Result<PerName<Removed>> {
        let mut files = self.lock();
        let mut one = |name: &FileName, seen: &FileVersion| match files.live.get(name) {
            None => Removed::Missing,
            Some(_) if files.lie == Some(Lie::ErasesNothing) => Removed::Erased, // a lie
            Some(file) if file.seen().version != seen.version => Removed::Changed,
            Some(_) => {
                let place = format!("{:020}", files.next());
                match files.live.remove(name) {
                    Some(file) if self.keeps => files.trash.insert(place.clone(), (name.clone(), file, proof.stamp())),
                    _ => return Removed::Erased,
                };
                Removed::Trashed(place)
            }
        };
        Ok(items.iter().map(|(name, seen)| Ok(one(name, seen))).collect())
    }
    async fn list(&self, _: &Proof<Self>, prefix: &str, after: Option<&FileName>, pages: &mut Pages) -> Result<()> {
        let names: Vec<FileName> = self.lock().live.keys().cloned().collect();
        let names = lies::without_the_thousandth(self.lock().lie, names); // a lie
        for name in names.into_iter().filter(|name| name.as_str().starts_with(prefix) && after.is_none_or(|after| name > after)) {
            if !pages.add(Listed::File(name)).await {
                break; // nobody listens any more
            }
        }
        Ok(())
    }

    // The trash.
    async fn trashed(&self, _: &Proof<Self>, names: &[FileName]) -> Result<PerName<Option<Trashed>>> {
        let files = self.lock();
        let latest = |name: &FileName| files.trash.iter().rev().find(|(_, (other, ..))| other == name);
        Ok(names.iter().map(|name| Ok(latest(name).and_then(|(place, _)| files.trashed(place)))).collect())
    }
    async fn expired(&self, _: &Proof<Self>, before: Timestamp, after: Option<&str>, limit: usize) -> Result<Expired> {
        let files = self.lock();
        let places = files.trash.range::<str, _>((after.map_or(Unbounded, Excluded), Unbounded));
        let mut old = places.filter(|(_, (.., at))| *at < before).filter_map(|(place, _)| files.trashed(place));
        let page: Vec<Trashed> = old.by_ref().take(limit).collect();
        let next = page.last().map(|last| last.place.clone()).filter(|_| old.next().is_some());
        Ok(Expired { files: page, errors: Vec::new(), next })
    }
    async fn restore(&self, _: &Proof<Self>, items: &[Trashed]) -> Result<PerName<Restored>> {
        let mut files = self.lock();
        let mut one = |item: &Trashed| match files.trash.get(&item.place) {
            None => Restored::Missing,
            Some(_) if files.lie == Some(Lie::RestoresOver) => files.bring_back(&item.place), // a lie
            Some(_) if files.live.contains_key(&item.name) => Restored::Occupied,
            Some(_) => files.bring_back(&item.place),
        };
        Ok(items.iter().map(|item| Ok(one(item))).collect())
    }
    async fn purge(&self, _: &Proof<Self>, items: &[Trashed]) -> Result<PerName<bool>> {
        let mut files = self.lock();
        Ok(items.iter().map(|item| Ok(files.trash.remove(&item.place).is_some())).collect())
    }
}

/// A file that comes in. A storage for more than tests would not hold it in memory.
#[derive(Debug)]
struct Incoming {
    storage: Proving<MapBackend>,
    bytes: Vec<u8>,
}

#[async_trait]
impl Upload for Incoming {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }
    async fn publish(&mut self, name: &FileName, mode: PutMode) -> Result<PutResult> {
        self.storage.proof().await?; // hours may have passed since `begin`
        let mut files = self.storage.backend().lock();
        let mode = if files.lie == Some(Lie::CreatesOver) { PutMode::Overwrite } else { mode }; // a lie
        if mode == PutMode::Create && files.live.contains_key(name) {
            return Ok(PutResult::Occupied);
        }
        files.put(name, std::mem::take(&mut self.bytes).into());
        Ok(PutResult::Stored)
    }
    async fn abort(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

/// How the suite opens the storage, and reaches the files past it, as an application does.
#[async_trait]
impl Place for MapBackend {
    fn open(&self, trash: bool) -> Arc<dyn Storage> {
        Arc::new(Proving::over("default", MapBackend { files: self.files.clone(), keeps: trash }))
    }
    fn abilities(&self) -> Abilities {
        Abilities { refuses_longer: false, ..Abilities::ALL }
    }
    async fn put(&self, name: &FileName, bytes: &[u8]) {
        self.lock().put(name, Bytes::copy_from_slice(bytes));
    }
    async fn get(&self, name: &FileName) -> Option<Vec<u8>> {
        self.lock().live.get(name).map(|file| file.bytes.to_vec())
    }
    async fn own(&self) -> Vec<String> {
        Vec::new() // nothing of its own lies among the files
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    storage_suite::run(async || Box::new(MapBackend::default()) as Box<dyn Place>).await;
}
