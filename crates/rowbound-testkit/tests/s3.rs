//! The storage in a bucket, on every S3 server that can be started here, in every mode.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use rowbound::{
    FileName,
    plan::{Erase, Location, StoragePlan, Trash},
    storage::{Storage, s3::S3},
};
use rowbound_testkit::{
    s3::{S3Bucket, S3Kind, S3Server},
    storage_suite::{CHECKS, Place},
};

const PREFIX: &str = "media files/";

/// How files leave the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// No versions, no trash.
    Erase,
    /// No versions, a trash of copies.
    Copies,
    /// Versions are the trash.
    Versions,
    /// Every version is erased.
    AllVersions,
}

impl Way {
    fn versioned(self) -> bool {
        matches!(self, Way::Versions | Way::AllVersions)
    }

    fn plan(self, location: Location, trash: bool) -> StoragePlan {
        let plan = StoragePlan::at("s3", location);
        match (self, trash) {
            (Way::Copies, true) => plan.trash(Trash::Keep(Duration::from_secs(86_400))),
            (Way::Copies | Way::Erase, _) => plan.trash(Trash::Off),
            (Way::Versions, true) => plan,
            (Way::Versions | Way::AllVersions, _) => plan.erase(Erase::AllVersions),
        }
    }
}

struct InBucket {
    server: Arc<S3Server>,
    bucket: S3Bucket,
    way: Way,
}

fn opened(server: &S3Server, plan: &StoragePlan) -> Arc<dyn Storage> {
    let Location::S3(at) = &plan.location else { panic!("no bucket") };
    Arc::new(S3::with_key(plan, at, server.access_key(), server.secret_key()))
}

#[async_trait]
impl Place for InBucket {
    fn open(&self, trash: bool) -> Arc<dyn Storage> {
        opened(&self.server, &self.way.plan(self.bucket.location(PREFIX), trash))
    }

    fn has_trash(&self) -> bool {
        matches!(self.way, Way::Copies | Way::Versions)
    }

    async fn put(&self, name: &FileName, bytes: &[u8]) {
        self.bucket.put(&format!("{PREFIX}{name}"), bytes).await;
    }

    async fn get(&self, name: &FileName) -> Option<Vec<u8>> {
        self.bucket.get(&format!("{PREFIX}{name}")).await
    }
}

async fn place(server: &Arc<S3Server>, way: Way) -> InBucket {
    let bucket = if way.versioned() { server.versioned_bucket().await } else { server.bucket().await };
    InBucket { server: server.clone(), bucket, way }
}

/// Servers hold fewer names than the suite has.
const NAMES: &str = "keeps names apart that differ in any byte";

async fn suite(kind: S3Kind, way: Way, without: &[&str]) {
    let without = [&[NAMES], without].concat();
    let server = Arc::new(S3Server::start(kind));
    for (promise, check) in CHECKS {
        if without.contains(&promise) {
            continue;
        }
        eprintln!("storage suite on {kind}, {way:?}: {promise}");
        check(&place(&server, way).await).await;
    }
}

#[tokio::test]
async fn moto_erasing_passes_the_suite() {
    suite(S3Kind::Moto, Way::Erase, &[]).await;
}

#[tokio::test]
async fn moto_with_copies_passes_the_suite() {
    suite(S3Kind::Moto, Way::Copies, &[]).await;
}

#[tokio::test]
async fn moto_with_versions_passes_the_suite() {
    // That one erases only the latest, and every version goes here.
    suite(S3Kind::Moto, Way::Versions, &["keeps every version, and finds the latest"]).await;
}

#[tokio::test]
async fn moto_erasing_versions_passes_the_suite() {
    suite(S3Kind::Moto, Way::AllVersions, &[]).await;
}

#[tokio::test]
async fn s3s_fs_erasing_passes_the_suite() {
    suite(S3Kind::S3sFs, Way::Erase, &[]).await;
}

#[tokio::test]
async fn s3s_fs_with_copies_passes_the_suite() {
    suite(S3Kind::S3sFs, Way::Copies, &[]).await;
}
