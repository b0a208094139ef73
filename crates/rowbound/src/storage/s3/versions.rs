//! A trash of versions: in a bucket that keeps them, a deletion only hides an object beneath a delete marker.
//!
//! In: names, and the delete markers that hide them. Out: what became of them. Promise: only versions of the exact key are touched, one by
//! one by their ids, so nothing that is put there meanwhile; what lies beneath goes first, so that nothing old comes to light.

use aws_sdk_s3::{primitives::DateTime, types::EncodingType};
use jiff::Timestamp;

use super::{
    Inner,
    keys::{Doomed, Gone, decoded, seen},
    wire::Failure,
};
use crate::{
    error::{Kind, Result},
    name::FileName,
    storage::{Conditional, Removed, Restored, Seen, Trashed},
};

/// What a place in the trash begins with if it is a delete marker; its version id follows.
pub(super) const PLACE: &str = "version:";

/// Versions of one page: one key seldom has more.
const PAGE: i32 = 100;

/// A version of an object, or a delete marker.
#[derive(Debug, Clone)]
pub(super) struct Version {
    pub id: String,
    /// Since when, at the latest.
    pub at: Timestamp,
    /// Bytes; `None` for a delete marker.
    pub size: Option<u64>,
    pub seen: Option<Seen>,
    latest: bool,
}

/// The versions of one key, each kind from the newest to the oldest.
#[derive(Debug, Default)]
pub(super) struct Versions {
    pub files: Vec<Version>,
    pub markers: Vec<Version>,
}

impl Versions {
    pub(super) fn ids(&self) -> Vec<String> {
        self.files.iter().chain(&self.markers).map(|v| v.id.clone()).collect()
    }

    /// What the key shows now.
    pub(super) fn top(&self) -> Option<&Version> {
        self.files.iter().chain(&self.markers).find(|v| v.latest)
    }

    /// Where the key shows a delete marker: it, and the newest file that it hides.
    pub(super) fn hidden(&self) -> Option<(&Version, &Version)> {
        let top = self.top().filter(|top| top.size.is_none())?;
        Some((top, self.files.first()?))
    }
}

/// A moment of the service, which counts in whole seconds, as "not later than".
pub(super) fn at_latest(at: Option<&DateTime>) -> Timestamp {
    at.and_then(|at| Timestamp::from_second(at.secs() + 1).ok()).unwrap_or(Timestamp::MAX)
}

impl Inner {
    /// Every version of the exact key.
    pub(super) async fn versions_of(&self, key: &str) -> Result<Versions, Failure> {
        self.versions_after(key, None).await
    }

    /// Those that are older than the one with this id, if one is given: the answer does not tell the order between files and delete markers, its
    /// beginning does.
    pub(super) async fn versions_after(&self, key: &str, id: Option<&str>) -> Result<Versions, Failure> {
        let client = self.client().await?;
        let mut all = Versions::default();
        let mut from = id.map(|id| (key.to_owned(), Some(id.to_owned())));
        loop {
            let (key_from, id_from) = from.clone().unzip();
            let page = self
                .wire
                .call(|| {
                    client
                        .list_object_versions()
                        .bucket(self.wire.bucket())
                        .prefix(key)
                        .set_key_marker(key_from.clone())
                        .set_version_id_marker(id_from.clone().flatten())
                        .encoding_type(EncodingType::Url)
                        .max_keys(PAGE)
                        .send()
                })
                .await?;
            let encoded = page.encoding_type() == Some(&EncodingType::Url);
            let same = |text: Option<&str>| match text {
                Some(text) if encoded => decoded(text).map(|text| text == key),
                Some(text) => Ok(text == key),
                None => Err(Failure::strange("the listing holds a version without a key")),
            };
            let no_id = || Failure::strange("the listing holds a version without an id");
            for v in page.versions() {
                if same(v.key())? {
                    all.files.push(Version {
                        id: v.version_id().ok_or_else(no_id)?.to_owned(),
                        at: at_latest(v.last_modified()),
                        size: Some(v.size().and_then(|s| u64::try_from(s).ok()).unwrap_or_default()),
                        seen: seen(v.size(), v.last_modified(), v.e_tag()),
                        latest: v.is_latest() == Some(true),
                    });
                }
            }
            for m in page.delete_markers() {
                if same(m.key())? {
                    all.markers.push(Version {
                        id: m.version_id().ok_or_else(no_id)?.to_owned(),
                        at: at_latest(m.last_modified()),
                        size: None,
                        seen: None,
                        latest: m.is_latest() == Some(true),
                    });
                }
            }
            match (page.is_truncated(), page.next_key_marker()) {
                (Some(false), _) => return Ok(all),
                // The exact key comes first of all that begin with it.
                (Some(true), Some(next)) if !same(Some(next))? => return Ok(all),
                (Some(true), Some(_)) => from = Some((key.to_owned(), page.next_version_id_marker().map(str::to_owned))),
                _ => return Err(Failure::strange("the listing of versions does not say whether there is more")),
            }
        }
    }

    /// What lies hidden under a name.
    pub(super) async fn hidden(&self, name: &FileName) -> Result<Option<Trashed>, Failure> {
        let all = self.versions_of(&self.key(name)).await?;
        Ok(all.hidden().map(|(marker, file)| Trashed {
            name: name.clone(),
            place: format!("{PLACE}{}", marker.id),
            at: marker.at,
            size: file.size.unwrap_or_default(),
        }))
    }

    /// Takes the delete marker away, and those beneath it, up to the file.
    pub(super) async fn uncover(&self, item: &Trashed, id: &str) -> Result<Restored> {
        let key = self.key(&item.name);
        let listing = |f: Failure| self.failed(&f, "s3:ListBucketVersions", "cannot look at the file's versions", &item.name);
        let all = self.versions_of(&key).await.map_err(listing)?;
        if all.markers.iter().all(|m| m.id != id) {
            return Ok(Restored::Missing);
        }
        if all.top().is_none_or(|top| top.size.is_some()) {
            return Ok(Restored::Occupied);
        }
        let Some(file) = all.files.first() else { return Ok(Restored::Missing) };
        let older = self.versions_after(&key, Some(id)).await.map_err(listing)?;
        if older.files.first().map(|f| &f.id) != Some(&file.id) {
            return Err(self
                .error(Kind::Storage, "a later file of this name lies in the trash above this one: nothing was changed")
                .with("name", &item.name)
                .hint("restore that one, or erase it, first"));
        }
        // The uppermost last: until then nothing is seen of it.
        let beneath = self.versions_after(&key, Some(&file.id)).await.map_err(listing)?;
        let above = all.markers.iter().filter(|m| beneath.markers.iter().all(|b| b.id != m.id));
        for marker in above.rev() {
            let doomed = Doomed { key: &key, etag: None, version: Some(&marker.id) };
            let gone = self.delete(&[doomed], Conditional::No).await.remove(0);
            gone.map_err(|f| self.failed(&f, "s3:DeleteObjectVersion", "cannot take the delete marker away", &item.name))?;
        }
        Ok(Restored::Back)
    }

    /// Erases the delete marker and all that is older.
    pub(super) async fn purge_versions(&self, item: &Trashed, id: &str) -> Result<bool> {
        let key = self.key(&item.name);
        let listing = |f: Failure| self.failed(&f, "s3:ListBucketVersions", "cannot look at the file's versions", &item.name);
        let all = self.versions_of(&key).await.map_err(listing)?;
        if all.markers.iter().all(|m| m.id != id) {
            return Ok(false);
        }
        let older = self.versions_after(&key, Some(id)).await.map_err(listing)?;
        let all: Vec<String> = all.ids();
        let beneath: Vec<String> = older.ids().into_iter().filter(|older| all.contains(older)).collect();
        self.erase_versions(&key, &beneath, id)
            .await
            .map_err(|f| self.failed(&f, "s3:DeleteObjectVersion", "cannot erase a version", &item.name))?;
        Ok(true)
    }

    /// Erases versions of one key; `last` when all others are gone.
    async fn erase_versions(&self, key: &str, beneath: &[String], last: &str) -> Result<Gone, Failure> {
        let doomed: Vec<_> = beneath.iter().map(|id| Doomed { key, etag: None, version: Some(id) }).collect();
        for gone in self.delete(&doomed, Conditional::No).await {
            gone?;
        }
        self.delete(&[Doomed { key, etag: None, version: Some(last) }], Conditional::No).await.remove(0)
    }

    /// Erases a file with every version of it, if it still is what was seen.
    pub(super) async fn erase_all(&self, name: &FileName, seen: &Seen) -> Result<Removed> {
        let key = self.key(name);
        let all = self.versions_of(&key).await;
        let all = all.map_err(|f| self.failed(&f, "s3:ListBucketVersions", "cannot look at the file's versions", name))?;
        let Some(top) = all.top().filter(|top| top.size.is_some()) else { return Ok(Removed::Missing) };
        if top.seen.as_ref() != Some(seen) {
            return Ok(Removed::Changed);
        }
        let beneath: Vec<String> = all.ids().into_iter().filter(|id| *id != top.id).collect();
        match self.erase_versions(&key, &beneath, &top.id).await {
            Ok(Gone::Missing) => Ok(Removed::Missing),
            Ok(_) => Ok(Removed::Erased),
            Err(f) => Err(self.failed(&f, "s3:DeleteObjectVersion", "cannot erase a version", name)),
        }
    }
}
