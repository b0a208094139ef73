//! The contract of a storage, on every kind of storage there is; and what docs/storages.md says of it.

use std::{path::Path, sync::Arc};

use rowbound::storage::memory::Memory;
use rowbound_testkit::{
    S3Kind, S3Server,
    places::{BucketPlace, FolderPlace, MemoryPlace, Way},
    services::{ServicePlace, ServiceServer, ServiceServerKind},
    storage_suite::{self as suite, Abilities, Place},
};

async fn on(kind: S3Kind, way: Way) {
    let server = Arc::new(S3Server::start(kind));
    suite::run(async || Box::new(BucketPlace::new(&server, way).await) as Box<dyn Place>).await;
}

/// Active Storage: deleting a missing file.
#[tokio::test]
async fn a_folder_passes_the_suite_with_the_newest_calls() {
    suite::run(async || Box::new(FolderPlace::new(false)) as Box<dyn Place>).await;
}

#[tokio::test]
async fn a_folder_passes_the_suite_with_the_oldest_calls() {
    suite::run(async || Box::new(FolderPlace::new(true)) as Box<dyn Place>).await;
}

#[tokio::test]
async fn memory_passes_the_suite() {
    suite::run(async || Box::new(MemoryPlace::new()) as Box<dyn Place>).await;
}

#[tokio::test]
async fn memories_of_one_name_share_their_files_and_others_do_not() {
    let name = suite::name("a");
    Memory::at("shared").put(&name, b"1");
    assert_eq!(Memory::at("shared").get(&name).as_deref(), Some(&b"1"[..]));
    assert_eq!(Memory::at("other").get(&name), None);
}

mod s3s_fs {
    use super::*;

    #[tokio::test]
    async fn a_bucket_passes_the_suite_erasing() {
        on(S3Kind::S3sFs, Way::Erase).await;
    }

    #[tokio::test]
    async fn a_bucket_passes_the_suite_with_copies() {
        on(S3Kind::S3sFs, Way::Copies).await;
    }
}

mod moto {
    use super::*;

    #[tokio::test]
    async fn a_bucket_passes_the_suite_erasing() {
        on(S3Kind::Moto, Way::Erase).await;
    }

    #[tokio::test]
    async fn a_bucket_passes_the_suite_with_copies() {
        on(S3Kind::Moto, Way::Copies).await;
    }

    #[tokio::test]
    async fn a_bucket_passes_the_suite_with_versions() {
        on(S3Kind::Moto, Way::Versions).await;
    }

    #[tokio::test]
    async fn a_bucket_passes_the_suite_erasing_every_version() {
        on(S3Kind::Moto, Way::AllVersions).await;
    }
}

mod garage {
    use super::*;

    #[tokio::test]
    async fn a_bucket_passes_the_suite_erasing() {
        on(S3Kind::Garage, Way::Erase).await;
    }

    #[tokio::test]
    async fn a_bucket_passes_the_suite_with_copies() {
        on(S3Kind::Garage, Way::Copies).await;
    }
}

async fn on_service(kind: ServiceServerKind) {
    let server = Arc::new(ServiceServer::start(kind));
    suite::run(async || Box::new(ServicePlace::new(&server)) as Box<dyn Place>).await;
}

#[tokio::test]
async fn webdav_passes_the_suite() {
    on_service(ServiceServerKind::Webdav).await;
}

#[tokio::test]
async fn sftp_passes_the_suite() {
    on_service(ServiceServerKind::Sftp).await;
}

#[tokio::test]
async fn azblob_passes_the_suite() {
    on_service(ServiceServerKind::Azblob).await;
}

/// The columns of the table in docs/storages.md; each is proved by a test above.
fn columns() -> Vec<(&'static str, Abilities)> {
    vec![
        ("folder", FolderPlace::CAN),
        ("memory", MemoryPlace::CAN),
        ("S3 (moto): versions", Way::Versions.can(S3Kind::Moto)),
        ("all versions erased", Way::AllVersions.can(S3Kind::Moto)),
        ("copies", Way::Copies.can(S3Kind::Moto)),
        ("no trash", Way::Erase.can(S3Kind::Moto)),
        ("S3 (s3s-fs): copies", Way::Copies.can(S3Kind::S3sFs)),
        ("no trash", Way::Erase.can(S3Kind::S3sFs)),
        ("WebDAV (WsgiDAV)", ServicePlace::can(ServiceServerKind::Webdav)),
        ("SFTP (OpenSSH)", ServicePlace::can(ServiceServerKind::Sftp)),
        ("Azure (Azurite)", ServicePlace::can(ServiceServerKind::Azblob)),
    ]
}

#[test]
fn storages_are_documented() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/storages.md");
    let stands = std::fs::read_to_string(&path).expect("docs/storages.md");
    let (begin, end) = ("<!-- storage suite -->\n", "<!-- end of storage suite -->");
    let (before, rest) = stands.split_once(begin).expect("docs/storages.md has no mark where the table begins");
    let (_, after) = rest.split_once(end).expect("docs/storages.md has no mark where the table ends");
    let wanted = format!("{before}{begin}\n{}\n{end}{after}", suite::table(&columns()));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &wanted).expect("cannot write docs/storages.md");
        return;
    }
    assert!(stands == wanted, "the table in docs/storages.md is not what the suite says: run this test with UPDATE_DOCS=1");
}
