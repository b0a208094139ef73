//! The memory as a storage.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use rowbound::{
    FileName, StoragePlan, Trash,
    plan::Location,
    storage::{self, Storage, memory::Memory},
};
use rowbound_testkit::storage_suite::{self as suite, Place};

struct InMemory {
    place: String,
    files: Memory,
}

impl InMemory {
    fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let place = format!("suite-{}", COUNT.fetch_add(1, Relaxed));
        InMemory { files: Memory::at(&place), place }
    }
}

#[async_trait]
impl Place for InMemory {
    fn open(&self, trash: bool) -> Arc<dyn Storage> {
        let trash = if trash { Trash::Keep(Duration::from_secs(86_400)) } else { Trash::Off };
        storage::open(&StoragePlan::at("default", Location::Memory(self.place.clone())).trash(trash)).unwrap()
    }

    fn has_trash(&self) -> bool {
        true
    }

    async fn put(&self, name: &FileName, bytes: &[u8]) {
        self.files.put(name, bytes);
    }

    async fn get(&self, name: &FileName) -> Option<Vec<u8>> {
        self.files.get(name)
    }
}

#[tokio::test]
async fn memory_passes_the_suite() {
    suite::run(async || Box::new(InMemory::new()) as Box<dyn Place>).await;
}

#[tokio::test]
async fn memories_of_one_name_share_their_files_and_others_do_not() {
    let name = suite::name("a");
    Memory::at("shared").put(&name, b"1");
    assert_eq!(Memory::at("shared").get(&name).as_deref(), Some(&b"1"[..]));
    assert_eq!(Memory::at("other").get(&name), None);
}
