//! Where the storages of this workspace are proved: a [`Place`] for each kind.
//!
//! In: a kind of storage, and a server where it needs one. Out: fresh, empty places for [`crate::storage_suite::run`].

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use rowbound::{
    FileName, RESERVED, StoragePlan, Trash,
    plan::{Erase, Location},
    storage::{Storage, folder::Folder, memory::Memory, s3::S3},
};

use crate::{
    s3::{S3Bucket, S3Kind, S3Server},
    storage_suite::{Abilities, Place, Raced},
};

const DAY: Duration = Duration::from_secs(86_400);

/// What stands before every name in the bucket of a [`BucketPlace`]: its blank shows whether keys are encoded.
pub const PREFIX: &str = "media files/";

/// A folder of its own.
#[derive(Debug)]
pub struct FolderPlace {
    dir: tempfile::TempDir,
    old_calls: bool,
}

impl FolderPlace {
    /// What a folder can do.
    pub const CAN: Abilities = Abilities {
        nests: false,
        // 255 bytes a segment and 4,095 a path, less the trash's own.
        refuses_longer: false,
        raced: Raced::StaysWithTrash,
        ..Abilities::ALL
    };

    /// A fresh one, used with the newest system calls or with none but the oldest.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn new(old_calls: bool) -> Self {
        let dir = tempfile::Builder::new().prefix("rowbound-place.").tempdir().expect("cannot make a temporary folder");
        let place = FolderPlace { dir, old_calls };
        std::fs::create_dir(place.root()).expect("cannot make the media folder");
        place
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("media")
    }
}

#[async_trait]
impl Place for FolderPlace {
    fn open(&self, trash: bool) -> Arc<dyn Storage> {
        let open = if self.old_calls { Folder::with_old_calls } else { Folder::new };
        Arc::new(open("default", &self.root(), trash.then_some(DAY), true))
    }

    fn abilities(&self) -> Abilities {
        Self::CAN
    }

    async fn put(&self, name: &FileName, bytes: &[u8]) {
        let path = self.root().join(name.as_str());
        let folder = path.parent().expect("a file has a folder");
        loop {
            std::fs::create_dir_all(folder).unwrap_or_else(|e| panic!("{name:?}: {e}"));
            match std::fs::write(&path, bytes) {
                Ok(()) => return,
                // A removal has pruned the folder meanwhile.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => panic!("{name:?}: {e}"),
            }
        }
    }

    async fn get(&self, name: &FileName) -> Option<Vec<u8>> {
        match std::fs::read(self.root().join(name.as_str())) {
            Ok(bytes) => Some(bytes),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => panic!("{name:?}: {e}"),
        }
    }

    async fn own(&self) -> Vec<String> {
        crate::world::files_below(&self.root().join(RESERVED))
    }
}

/// A part of this process' memory.
#[derive(Debug)]
pub struct MemoryPlace {
    place: String,
    files: Memory,
}

impl MemoryPlace {
    /// What the memory can do.
    pub const CAN: Abilities = Abilities { refuses_longer: false, ..Abilities::ALL };

    /// A fresh one.
    #[allow(clippy::new_without_default)] // two of them are never the same
    pub fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let place = format!("place-{}", COUNT.fetch_add(1, Relaxed));
        MemoryPlace { files: Memory::at(&place), place }
    }
}

#[async_trait]
impl Place for MemoryPlace {
    fn open(&self, trash: bool) -> Arc<dyn Storage> {
        Arc::new(Memory::new("default", &self.place, trash.then_some(DAY)))
    }

    fn abilities(&self) -> Abilities {
        Self::CAN
    }

    async fn put(&self, name: &FileName, bytes: &[u8]) {
        self.files.put(name, bytes);
    }

    async fn get(&self, name: &FileName) -> Option<Vec<u8>> {
        self.files.get(name)
    }

    async fn own(&self) -> Vec<String> {
        Vec::new() // nothing of its own lies among files
    }
}

/// How files leave a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The bucket keeps no versions, and there is no trash.
    Erase,
    /// The bucket keeps no versions; the trash holds copies.
    Copies,
    /// The bucket keeps versions, which are the trash.
    Versions,
    /// The bucket keeps versions, and every one is erased.
    AllVersions,
}

impl Way {
    /// Every way that a server can go.
    pub fn of(kind: S3Kind) -> &'static [Way] {
        if kind.has_versions() { &[Way::Erase, Way::Copies, Way::Versions, Way::AllVersions] } else { &[Way::Erase, Way::Copies] }
    }

    /// Whether the bucket keeps versions.
    pub fn versioned(self) -> bool {
        matches!(self, Way::Versions | Way::AllVersions)
    }

    /// What a bucket of such a server can do in this way.
    pub fn can(self, kind: S3Kind) -> Abilities {
        let can = Abilities {
            trash: matches!(self, Way::Copies | Way::Versions),
            erasing_spares_trash: !self.versioned(),
            longest: 1024 - PREFIX.len(),
            clock: Duration::from_secs(1), // of a Last-Modified header
            tells_same_bytes: false,
            // S3 takes a name in one step; the servers that stand for it here look, then write.
            creates: false,
            signs: true,
            ..Abilities::ALL
        };
        match kind {
            S3Kind::Moto => can,
            S3Kind::S3sFs => Abilities {
                nests: false,
                longest: 100,
                refuses_longer: false,
                raced: Raced::Lost, // it ignores the condition
                ..can
            },
            // LMDB holds keys of 511 bytes, and some of them are Garage's own.
            S3Kind::Garage => Abilities { longest: 400, refuses_longer: false, raced: Raced::Lost, ..can },
        }
    }
}

/// A bucket of its own, beneath a prefix.
#[derive(Debug)]
pub struct BucketPlace {
    /// The server that the bucket is on.
    pub server: Arc<S3Server>,
    /// The bucket, past the storage.
    pub bucket: S3Bucket,
    /// How files leave it.
    pub way: Way,
    /// The storage's way to the server, if it is not the straight one.
    pub endpoint: Option<String>,
}

impl BucketPlace {
    /// A fresh one.
    pub async fn new(server: &Arc<S3Server>, way: Way) -> Self {
        let bucket = if way.versioned() { server.versioned_bucket().await } else { server.bucket().await };
        BucketPlace { server: Arc::clone(server), bucket, way, endpoint: None }
    }
}

#[async_trait]
impl Place for BucketPlace {
    fn open(&self, trash: bool) -> Arc<dyn Storage> {
        let location = match &self.endpoint {
            Some(other) => self.bucket.location_at(other, PREFIX),
            None => self.bucket.location(PREFIX),
        };
        let Location::S3(at) = &location else { unreachable!("a bucket's location is S3") };
        let plan = StoragePlan::at("default", location.clone());
        let plan = match (self.way, trash) {
            (Way::Copies, true) => plan.trash(Trash::Keep(DAY)),
            (Way::Copies | Way::Erase, _) => plan.trash(Trash::Off),
            (Way::Versions, true) => plan,
            (Way::Versions | Way::AllVersions, _) => plan.erase(Erase::AllVersions),
        };
        Arc::new(S3::with_key(&plan, at, self.server.access_key(), self.server.secret_key()))
    }

    fn abilities(&self) -> Abilities {
        self.way.can(self.server.kind())
    }

    async fn put(&self, name: &FileName, bytes: &[u8]) {
        self.bucket.put(&format!("{PREFIX}{name}"), bytes).await;
    }

    async fn get(&self, name: &FileName) -> Option<Vec<u8>> {
        self.bucket.get(&format!("{PREFIX}{name}")).await
    }

    async fn own(&self) -> Vec<String> {
        let prefix = format!("{PREFIX}{RESERVED}/");
        let mut keys = self.bucket.keys(&prefix).await;
        if self.server.kind().has_versions() {
            keys.extend(self.bucket.versions(&prefix).await.into_iter().map(|v| format!("{} {}", v.key, v.id)));
        }
        keys.sort_unstable();
        keys
    }
}
