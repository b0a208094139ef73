//! A trash of versions: in a bucket that keeps them, a deletion only hides an object beneath a delete marker.
//!
//! In: names, and the delete markers that hide them. Out: what became of them. Promise: only versions of the exact key are touched, one by
//! one by their ids, so nothing that is put there meanwhile; what lies beneath goes first, so that nothing old comes to light.

use std::collections::HashMap;

use aws_sdk_s3::{primitives::DateTime, types::EncodingType};
use futures_util::future::join_all;
use jiff::Timestamp;

use super::{
    Inner,
    keys::{Deletion, Gone, seen},
    wire::Failure,
};
use crate::{
    error::{Kind, Result},
    name::FileName,
    storage::{Conditional, FileVersion, PerName, Removed, Restored, Trashed},
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
    pub seen: Option<FileVersion>,
    latest: bool,
}

/// The versions of one key, each kind from the newest to the oldest.
#[derive(Debug, Clone, Default)]
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
}

/// A moment of the service, which counts in whole seconds, as "not later than".
pub(super) fn at_latest(at: Option<&DateTime>) -> Timestamp {
    at.and_then(|at| Timestamp::from_second(at.secs().saturating_add(1)).ok()).unwrap_or(Timestamp::MAX)
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
            let url = page.encoding_type() == Some(&EncodingType::Url);
            let same = async |text: Option<&str>| match text {
                Some(text) => Ok(self.written(text, url).await? == key),
                None => Err(Failure::strange("the listing holds a version without a key")),
            };
            let no_id = || Failure::strange("the listing holds a version without an id");
            for v in page.versions() {
                if same(v.key()).await? {
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
                if same(m.key()).await? {
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
                (Some(true), Some(next)) if !same(Some(next)).await? => return Ok(all),
                (Some(true), Some(_)) => from = Some((key.to_owned(), page.next_version_id_marker().map(str::to_owned))),
                _ => return Err(Failure::strange("the listing of versions does not say whether there is more")),
            }
        }
    }

    /// What was hidden last under a name, whether or not there is a newer file above it.
    pub(super) async fn hidden(&self, name: &FileName) -> Result<Option<Trashed>, Failure> {
        let key = self.key(name);
        let all = self.versions_of(&key).await?;
        let Some(marker) = all.markers.first() else { return Ok(None) };
        let shown = all.top().is_some_and(|top| top.size.is_some());
        let beneath = if shown { self.versions_after(&key, Some(&marker.id)).await? } else { all.clone() };
        Ok(beneath.files.first().map(|file| Trashed {
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
            let doomed = Deletion { key: &key, etag: None, version: Some(&marker.id) };
            let gone = self.delete(&[doomed], Conditional::No).await.remove(0);
            gone.map_err(|f| self.failed(&f, "s3:DeleteObjectVersion", "cannot take the delete marker away", &item.name))?;
        }
        Ok(Restored::Back)
    }

    /// Erases delete markers, each with all that is older; each of another name.
    pub(super) async fn purge_versions(&self, items: &[(&Trashed, &str)]) -> PerName<bool> {
        let ends = join_all(items.iter().map(async |(item, id)| {
            let key = self.key(&item.name);
            let all = self.versions_of(&key).await?;
            if all.markers.iter().all(|m| m.id != *id) {
                return Ok(None);
            }
            let beneath = match all.top() {
                Some(top) if top.id == *id => all.ids(),
                _ => self.versions_after(&key, Some(id)).await?.ids(),
            };
            Ok(Some(End { key, last: (*id).to_owned(), beneath }))
        }));
        let ends = ends.await.into_iter().zip(items).map(|(end, (item, _))| {
            end.map_err(|f| self.failed(&f, "s3:ListBucketVersions", "cannot look at the file's versions", &item.name))
        });
        let erased = self.erase_ends(ends.collect()).await;
        let fail = |f: &Failure, item: &Trashed| self.failed(f, "s3:DeleteObjectVersion", "cannot erase a version", &item.name);
        let each = erased.into_iter().zip(items).map(|(one, (item, _))| match one? {
            Some(gone) => gone.map(|gone| gone != Gone::Missing).map_err(|f| fail(&f, item)),
            None => Ok(false),
        });
        each.collect()
    }

    /// Erases files with every version of them, each if it still is what was seen; each of another name.
    pub(super) async fn erase_all(&self, items: &[&(FileName, FileVersion)]) -> PerName<Removed> {
        let looked = join_all(items.iter().map(async |(name, seen)| {
            let key = self.key(name);
            let all = self.versions_of(&key).await;
            let all = all.map_err(|f| self.failed(&f, "s3:ListBucketVersions", "cannot look at the file's versions", name))?;
            Ok(match all.top().filter(|top| top.size.is_some()) {
                None => Err(Removed::Missing),
                Some(top) if top.seen.as_ref() != Some(seen) => Err(Removed::Changed),
                Some(top) => Ok(End { key, last: top.id.clone(), beneath: all.ids() }),
            })
        }));
        let looked = looked.await;
        let mut settled = Vec::with_capacity(looked.len());
        let mut ends = Vec::with_capacity(looked.len());
        for one in looked {
            match one {
                Ok(Ok(end)) => {
                    settled.push(None);
                    ends.push(Ok(Some(end)));
                }
                Ok(Err(removed)) => {
                    settled.push(Some(removed));
                    ends.push(Ok(None));
                }
                Err(e) => {
                    settled.push(None);
                    ends.push(Err(e));
                }
            }
        }
        let erased = self.erase_ends(ends).await;
        let fail = |f: &Failure, name| self.failed(f, "s3:DeleteObjectVersion", "cannot erase a version", name);
        let all = erased.into_iter().zip(settled).zip(items);
        all.map(|((one, settled), (name, _))| match (one?, settled) {
            (_, Some(removed)) => Ok(removed),
            (Some(Ok(Gone::Missing)) | None, None) => Ok(Removed::Missing),
            (Some(Ok(_)), None) => Ok(Removed::Erased),
            (Some(Err(f)), None) => Err(fail(&f, name)),
        })
        .collect()
    }

    /// Erases versions of many keys: in two goes, so that nothing old comes to light if one fails.
    async fn erase_ends(&self, ends: Vec<Result<Option<End>>>) -> PerName<Option<Result<Gone, Failure>>> {
        let mut failed: Vec<Option<Failure>> = ends.iter().map(|_| None).collect();
        let mut beneath = Vec::new();
        for (i, end) in ends.iter().enumerate() {
            let Ok(Some(end)) = end else { continue };
            let ids = end.beneath.iter().filter(|id| **id != end.last);
            beneath.extend(ids.map(|id| (i, Deletion { key: &end.key, etag: None, version: Some(id) })));
        }
        let doomed: Vec<_> = beneath.iter().map(|(_, doomed)| *doomed).collect();
        for ((i, _), gone) in beneath.iter().zip(self.delete(&doomed, Conditional::No).await) {
            if let Err(failure) = gone {
                failed[*i] = Some(failure);
            }
        }
        let free = |i: &usize| failed[*i].is_none();
        let mut last = Vec::new();
        for i in (0..ends.len()).filter(free) {
            if let Ok(Some(end)) = &ends[i] {
                last.push((i, Deletion { key: &end.key, etag: None, version: Some(&end.last) }));
            }
        }
        let doomed: Vec<_> = last.iter().map(|(_, doomed)| *doomed).collect();
        let gone = self.delete(&doomed, Conditional::No).await;
        let mut gone: HashMap<usize, _> = last.iter().map(|(i, _)| *i).zip(gone).collect();
        let one =
            |(i, end): (usize, Result<Option<End>>)| end.map(|end| end.and_then(|_| failed[i].take().map(Err).or_else(|| gone.remove(&i))));
        ends.into_iter().enumerate().map(one).collect()
    }
}

/// Versions of one key that are to go, the last when all others are gone.
#[derive(Debug)]
struct End {
    key: String,
    last: String,
    beneath: Vec<String>,
}
