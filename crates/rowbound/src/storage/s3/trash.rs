//! What lies in the trash since when: a manifest for each batch.
//!
//! Before a batch is taken away, one small object says what it is about to take, so that no listing of a whole bucket's versions is ever
//! needed, and no delete marker that others left is ever taken for ours. After the batch it is written again, with the delete markers' ids. Where a
//! crash came between, a delete marker is ours if it was laid at that time upon the very version that the manifest names.

use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Inner, Proof,
    attributes::{Attributes, AttributesByFile},
    copies,
    marker::WriteCondition,
    versions::{self, Version},
    wire::Failure,
};
use crate::{
    clock, crash,
    error::{Error, Kind, Result, Retry},
    name::FileName,
    storage::{Capabilities, Expired, PerName, Restored, Trashed},
};

/// Where the manifests lie.
const FOLDER: &str = "trash/";

/// How long after its manifest a delete marker may be that a crashed batch laid, and how much the clocks may differ.
const BATCH_TIME: Duration = Duration::from_secs(3600);

/// How many entries of a manifest are looked at in one go.
const PIECE: usize = 500;

/// What a batch takes.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    /// Whether the batch has ended; only then is a manifest of which nothing is left of no use.
    #[serde(default)]
    done: bool,
    files: Vec<Entry>,
}

/// One file of a batch.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Entry {
    pub name: String,
    pub size: u64,
    pub etag: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    #[serde(default, skip_serializing_if = "Attributes::are_usual")]
    pub attributes: Attributes,
}

/// A batch that was announced.
#[derive(Debug)]
pub(super) struct TrashBatch {
    pub id: String,
    versioned: bool,
}

/// A new batch's id: its moment in milliseconds, so that ids are in the order of time, and something random.
pub(super) fn batch_id(now: Timestamp) -> String {
    format!("{:013}-{:08x}", now.as_millisecond(), rand::random::<u32>())
}

/// The moment of a manifest.
fn moment(file: &str) -> Option<Timestamp> {
    let (millis, _) = file.strip_suffix(".json")?.split_once('-')?;
    if millis.len() != 13 {
        return None;
    }
    Timestamp::from_millisecond(millis.parse().ok()?).ok()
}

impl Inner {
    fn manifest_key(&self, batch: &str) -> String {
        self.own(&format!("{FOLDER}{batch}.json"))
    }

    fn manifest_bytes(&self, done: bool, files: Vec<Entry>) -> Vec<u8> {
        serde_json::to_vec(&Manifest { done, files }).expect("a manifest is JSON")
    }

    /// Writes what is about to be taken.
    pub(super) async fn announce(&self, id: String, entries: Vec<Entry>, versioned: bool) -> Result<TrashBatch> {
        let batch = TrashBatch { id, versioned };
        let written = self.write_own(&self.manifest_key(&batch.id), &self.manifest_bytes(false, entries), WriteCondition::Always).await;
        let written = written.map_err(|f| self.wire.error(&f, "s3:PutObject", "cannot write down what goes to the trash"))?;
        crash::point("announced");
        if versioned && matches!(written.version_id(), None | Some("" | "null")) {
            return Err(self
                .error(Kind::Config, "the bucket no longer keeps versions: nothing was removed")
                .with("bucket", &self.at.bucket)
                .hint("turn versioning on again, or run `rowbound attach` to go on without"));
        }
        Ok(batch)
    }

    /// Writes what was taken.
    pub(super) async fn settle(&self, batch: &TrashBatch, taken: Vec<Entry>) -> Result<(), Failure> {
        let key = self.manifest_key(&batch.id);
        if taken.is_empty() {
            self.erase_own(&key, batch.versioned).await
        } else {
            self.write_own(&key, &self.manifest_bytes(true, taken), WriteCondition::Always).await.map(drop)
        }
    }

    /// A page of the files that lie in the trash since before `before`. `after` names the manifest and the number of the entry at which it begins.
    pub(super) async fn expired(&self, proof: &Proof, before: Timestamp, after: Option<&str>, limit: usize) -> Result<Expired> {
        let mut page = Expired::default();
        if limit > 0 {
            let after = after.and_then(|at| at.rsplit_once('#')).and_then(|(file, nth)| Some((file, nth.parse().ok()?)));
            self.each_entry(Some(proof), before, after, &mut page, |page, file, nth, left| {
                let full = page.files.len() >= limit;
                match left {
                    Some(_) if full => page.next = Some(format!("{file}#{nth}")),
                    Some(left) if left.at < before => page.files.push(left),
                    _ => {}
                }
                page.next.is_none()
            })
            .await?;
        }
        Ok(page)
    }

    /// How many files lie in the trash.
    pub(super) async fn count_trash(&self) -> Result<u64> {
        let mut count = 0;
        let mut page = Expired::default();
        self.each_entry(None, Timestamp::MAX, None, &mut page, |_, _, _, left| {
            count += u64::from(left.is_some());
            true
        })
        .await?;
        match page.errors.into_iter().next() {
            Some(e) => Err(e),
            None => Ok(count),
        }
    }

    /// Tells what is left of every entry of the manifests that were written before `before`, oldest first, with the manifest's file and the entry's
    /// number, until the answer is `false`. `after` says where to begin. What cannot be read is noted in `page`, unless the `proof` does not hold any more. A
    /// manifest of which nothing is left goes.
    async fn each_entry(
        &self,
        proof: Option<&Proof>,
        before: Timestamp,
        after: Option<(&str, usize)>,
        page: &mut Expired,
        mut tell: impl FnMut(&mut Expired, &str, usize, Option<Trashed>) -> bool + Send,
    ) -> Result<()> {
        let folder = self.own(FOLDER);
        let mut token = None::<String>;
        loop {
            let slice = self.slice(&folder, None, token.as_deref()).await;
            let slice = slice.map_err(|f| self.wire.error(&f, "s3:ListBucket", "cannot list the trash"))?;
            for object in &slice.objects {
                let file = &object.key[folder.len()..];
                let Some(at) = moment(file) else { continue }; // not ours
                if at >= before {
                    return Ok(());
                }
                let from = match after {
                    Some((first, _)) if file < first => continue,
                    Some((first, nth)) if file == first => nth,
                    _ => 0,
                };
                let manifest = match self.manifest(&object.key).await {
                    Ok(Some(manifest)) => manifest,
                    Ok(None) => continue,
                    Err(e) => {
                        still_there(proof, &e).await?;
                        page.cannot(e.with("key", &object.key));
                        continue;
                    }
                };
                // Of what was passed over nothing is known.
                let (mut versioned, mut any, mut nth) = (false, from > 0, from);
                for piece in manifest.files.get(from..).unwrap_or_default().chunks(PIECE) {
                    let found = join_all(piece.iter().map(|entry| self.entry_now(entry, at))).await;
                    versioned |= piece.iter().any(|e| !e.place.as_deref().is_some_and(|p| p.starts_with(copies::PLACE)));
                    for found in found {
                        let left = match found {
                            Ok(left) => left,
                            Err(e) => {
                                still_there(proof, &e).await?;
                                any = true;
                                page.cannot(e);
                                None
                            }
                        };
                        any |= left.is_some();
                        if !tell(page, file, nth, left) {
                            return Ok(());
                        }
                        nth += 1;
                    }
                }
                // A batch that is under way may have taken nothing yet.
                if !any && (manifest.done || clock::passed(at, BATCH_TIME, Timestamp::now())) {
                    let erased = self.erase_own(&object.key, versioned).await;
                    if let Err(f) = erased {
                        page.cannot(
                            self.wire.error(&f, "s3:DeleteObject", "cannot delete a manifest of the trash").with("key", &object.key),
                        );
                    }
                }
            }
            token = slice.next;
            if token.is_none() {
                return Ok(());
            }
        }
    }

    async fn manifest(&self, key: &str) -> Result<Option<Manifest>> {
        let read = self.read_own(key).await.map_err(|f| self.wire.error(&f, "s3:GetObject", "cannot read a manifest of the trash"))?;
        let Some((bytes, _)) = read else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|e| {
            self.error(Kind::Storage, "a manifest of the trash cannot be read")
                .with("key", key)
                .because(e)
                .retry(Retry::Never)
                .hint("the files that it lists stay in the trash; delete this object to go on without")
        })
    }

    /// The entries of a batch; none where its manifest is gone or no manifest any more.
    ///
    /// # Errors
    /// That of a manifest that may be read later.
    pub(super) async fn entries_of(&self, batch: &str) -> Result<Vec<Entry>> {
        match self.manifest(&self.manifest_key(batch)).await {
            Ok(manifest) => Ok(manifest.map(|m| m.files).unwrap_or_default()),
            Err(e) if e.retry_status() == Retry::Later => Err(e),
            Err(e) => {
                tracing::warn!(storage = self.name, "what comes back gets the usual storage class and access list: {}", e.full());
                Ok(Vec::new())
            }
        }
    }

    /// What is left of an entry.
    async fn entry_now(&self, entry: &Entry, at: Timestamp) -> Result<Option<Trashed>> {
        let Ok(name) = FileName::key(&entry.name) else { return Ok(None) }; // nothing that we wrote
        let action = match entry.place.as_deref() {
            Some(place) if place.starts_with(copies::PLACE) => "s3:GetObject",
            _ => "s3:ListBucketVersions",
        };
        let fail = |f: Failure| self.failed(&f, action, "cannot look for the file in the trash", &name);
        match entry.place.as_deref() {
            Some(place) if place.starts_with(copies::PLACE) => self.copy_at(&name, place).await.map_err(fail),
            Some(place) => {
                let all = self.versions_of(&self.key(&name)).await.map_err(fail)?;
                let marker = all.markers.iter().find(|m| place.strip_prefix(versions::PLACE) == Some(&m.id));
                Ok(marker.map(|marker| covered(&name, marker, entry.size)))
            }
            None => {
                let key = self.key(&name);
                let all = self.versions_of(&key).await.map_err(fail)?;
                for marker in &all.markers {
                    if marker.at < clock::before(at, BATCH_TIME) || marker.at > clock::after(at, BATCH_TIME) {
                        continue;
                    }
                    let beneath = self.versions_after(&key, Some(&marker.id)).await.map_err(fail)?;
                    let file = beneath.files.first().and_then(|f| f.seen.as_ref());
                    if file.is_some_and(|f| f.version == entry.etag && f.size == entry.size) {
                        return Ok(Some(covered(&name, marker, entry.size)));
                    }
                }
                Ok(None)
            }
        }
    }

    /// Brings a file back.
    pub(super) async fn restore(&self, proved: &Capabilities, item: &Trashed, told: &AttributesByFile) -> Result<Restored> {
        self.must_take(proved.exact, &item.name)?;
        match (item.place.strip_prefix(versions::PLACE), item.place.strip_prefix(copies::PLACE)) {
            (Some(id), _) => self.uncover(item, id).await,
            (_, Some(place)) => {
                let usual = Attributes::default();
                let batch = copies::batch_of(&item.place).unwrap_or_default();
                let attributes = told.get(&(batch.to_owned(), item.name.to_string())).unwrap_or(&usual);
                self.copy_back(proved, item, place, attributes).await
            }
            _ => Err(self.no_place(item)),
        }
    }

    /// Erases files of the trash, each of another name.
    pub(super) async fn purge(&self, items: &[Trashed]) -> PerName<bool> {
        let hidden: Vec<usize> = (0..items.len()).filter(|i| items[*i].place.starts_with(versions::PLACE)).collect();
        let covered: Vec<_> = hidden.iter().map(|i| (&items[*i], &items[*i].place[versions::PLACE.len()..])).collect();
        let erased = self.purge_versions(&covered);
        let rest = (0..items.len()).filter(|i| !items[*i].place.starts_with(versions::PLACE));
        let copies = join_all(rest.map(async |i| match items[i].place.strip_prefix(copies::PLACE) {
            Some(place) => (i, self.purge_copy(&items[i], place).await),
            None => (i, Err(self.no_place(&items[i]))),
        }));
        let (erased, copies) = futures_util::future::join(erased, copies).await;
        let mut done: Vec<_> = hidden.into_iter().zip(erased).chain(copies).collect();
        done.sort_unstable_by_key(|(i, _)| *i);
        done.into_iter().map(|(_, one)| one).collect()
    }

    fn no_place(&self, item: &Trashed) -> Error {
        self.error(Kind::NotFound, "this is no place in the trash of a bucket")
            .with("name", &item.name)
            .with("place", format_args!("{:?}", item.place))
            .hint("`rowbound history --name NAME` shows where it went")
    }
}

/// A bucket that is away has answered nothing; one that is there has other objects. Without a proof there is nothing to ask.
async fn still_there(proof: Option<&Proof>, e: &Error) -> Result<()> {
    match (e.kind(), proof) {
        (Kind::StorageUnreachable, Some(proof)) => proof.again().await,
        (Kind::StorageUnreachable, None) => Err(e.clone()),
        _ => Ok(()),
    }
}

fn covered(name: &FileName, marker: &Version, size: u64) -> Trashed {
    Trashed { name: name.clone(), place: format!("{}{}", versions::PLACE, marker.id), at: marker.at, size }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn a_manifest_tells_its_moment() {
        let now = Timestamp::now();
        let at = moment(&format!("{}.json", batch_id(now))).unwrap();
        assert!(at.duration_until(now).abs() < SignedDuration::from_secs(5));
        for file in ["x", "123-1.json", "1700000000000.json", "1700000000000-1", "17000000000x0-1.json"] {
            assert_eq!(moment(file), None, "{file}");
        }
    }
}
