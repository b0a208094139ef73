//! A trash of copies, for a bucket that keeps no versions.
//!
//! A copy lies in `.rowbound/copies/HASH/BATCH`: the hash is the name's, because a key has an end and a name may be as long; the batch begins
//! with the moment, so that the last of a hash is the latest. The names stand in the batch's manifest.

use aws_sdk_s3::types::{Permission, StorageClass};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};

use super::{
    Inner,
    attributes::Attributes,
    keys::{Deletion, Gone, unanswered},
    versions::at_latest,
    wire::{Failure, pause},
};
use crate::{
    crash,
    error::{Kind, Result},
    name::FileName,
    storage::{Capabilities, Conditional, FileVersion, Removed, Restored, Stat, Trashed},
};

/// What a place in the trash begins with if it is a copy; `HASH/BATCH` follows.
pub(super) const PLACE: &str = "copy:";

/// How often a deletion without a condition is asked for, each time after a look.
const ATTEMPTS: u32 = 3;

/// The longest object that S3 copies in one request.
const LONGEST_COPY: u64 = 5 << 30;

const SOURCE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// What stands for a name in a copy's key.
fn hash(name: &FileName) -> String {
    Sha256::digest(name.as_str()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where the copy of a name lies that a batch made.
pub(super) fn place(name: &FileName, batch: &str) -> String {
    format!("{PLACE}{}/{batch}", hash(name))
}

/// The batch that made the copy at a place of the trash; `None` if it is no copy.
pub(super) fn batch_of(place: &str) -> Option<&str> {
    place.strip_prefix(PLACE)?.rsplit_once('/').map(|(_, batch)| batch)
}

impl Inner {
    fn copy_key(&self, place: &str) -> String {
        self.own(&format!("copies/{place}"))
    }

    /// Copies an object, with its metadata and its tags: only if it has this ETag, only where there is none. The copy has these attributes. Returns its ETag.
    pub(super) async fn copy(
        &self,
        from: &str,
        to: &str,
        etag: Option<&str>,
        new: bool,
        attributes: &Attributes,
    ) -> Result<Option<String>, Failure> {
        let client = self.client().await?;
        let source = format!("{}/{}", self.wire.bucket(), utf8_percent_encode(from, SOURCE));
        let copied = self
            .wire
            .call(|| {
                client
                    .copy_object()
                    .bucket(self.wire.bucket())
                    .key(to)
                    .copy_source(&source)
                    .set_copy_source_if_match(etag.map(str::to_owned))
                    .set_if_none_match(new.then(|| "*".to_owned()))
                    .set_storage_class(attributes.class.as_deref().map(StorageClass::from))
                    .set_grant_full_control(attributes.with(&Permission::FullControl))
                    .set_grant_read(attributes.with(&Permission::Read))
                    .set_grant_read_acp(attributes.with(&Permission::ReadAcp))
                    .set_grant_write_acp(attributes.with(&Permission::WriteAcp))
                    .send()
            })
            .await?;
        Ok(copied.copy_object_result().and_then(|r| r.e_tag()).map(str::to_owned))
    }

    async fn drop_copy(&self, key: &str) -> Result<Gone, Failure> {
        self.delete(&[Deletion { key, etag: None, version: None }], Conditional::No).await.remove(0)
    }

    async fn looked_at(&self, name: &FileName) -> Result<Stat> {
        let now = self.looks(&[name]).await.remove(0);
        now.map_err(|f| self.failed(&f, "s3:GetObject", "cannot look at the file", name))
    }

    /// Copies what was seen, then deletes it.
    pub(super) async fn move_to_copy(&self, proved: &Capabilities, name: &FileName, seen: &FileVersion, batch: &str) -> Result<Removed> {
        if seen.size > LONGEST_COPY {
            return Err(self
                .error(Kind::Storage, "the file is longer than 5 GiB, the most that S3 copies at once: it cannot go to the trash")
                .with("name", name)
                .hint("turn versioning on for this bucket, or set trash = \"off\""));
        }
        let (key, place) = (self.key(name), place(name, batch));
        let to = self.copy_key(&place[PLACE.len()..]);
        match self.copy(&key, &to, Some(&seen.version), false, &Attributes::default()).await {
            Ok(_) => {}
            Err(f) if f.condition() => return Ok(Removed::Changed),
            Err(f) if f.no_key() => return Ok(Removed::Missing),
            Err(f) => return Err(self.failed(&f, "s3:PutObject", "cannot copy the file to the trash", name)),
        }
        crash::point("copied");
        let mut attempt = 1;
        let left = loop {
            // What was copied is what was seen only if it is there still: not every service honours the condition of a copy.
            match (self.looked_at(name).await?, attempt) {
                (Stat::File(now), _) if now == *seen => {}
                (Stat::Missing, 1) => break Removed::Missing,
                (_, 1) => break Removed::Changed,
                // By the attempt that was not answered.
                (Stat::Missing, _) => return Ok(Removed::Trashed(place)),
                // Whose place the other file took cannot be told, so the copy stays.
                _ => return Err(self.failed(&unanswered(), "s3:DeleteObject", "cannot delete the file", name)),
            }
            let doomed = Deletion { key: &key, etag: Some(&seen.version), version: None };
            let gone = match self.delete(&[doomed], proved.delete).await.remove(0) {
                Ok(Gone::Deleted(_)) => return Ok(Removed::Trashed(place)),
                Ok(gone) => gone,
                // Without a condition it is sent again only after another look.
                Err(f) if proved.delete == Conditional::No && f.transient() && attempt < ATTEMPTS => {
                    pause(attempt).await;
                    attempt += 1;
                    continue;
                }
                // It may have been deleted all the same, so the copy stays.
                Err(f) => return Err(self.failed(&f, "s3:DeleteObject", "cannot delete the file", name)),
            };
            match (self.looked_at(name).await?, gone) {
                // Deleted by us, without an answer that reached us, or by whoever sent our request on a second time; else by somebody in this moment. What was seen is in
                // the trash.
                (Stat::Missing, _) => return Ok(Removed::Trashed(place)),
                (_, Gone::Unsure) => return Err(self.failed(&unanswered(), "s3:DeleteObject", "cannot delete the file", name)),
                _ => break Removed::Changed,
            }
        };
        let dropped = self.drop_copy(&to).await;
        dropped.map_err(|f| self.failed(&f, "s3:DeleteObject", "cannot delete a copy that is of no use", name))?;
        Ok(left)
    }

    /// The latest copy of a name.
    pub(super) async fn copied(&self, name: &FileName) -> Result<Option<Trashed>, Failure> {
        let prefix = self.copy_key(&format!("{}/", hash(name)));
        let (mut latest, mut token) = (None, None::<String>);
        loop {
            let slice = self.slice(&prefix, None, token.as_deref()).await?;
            latest = slice.objects.into_iter().next_back().or(latest);
            token = slice.next;
            if token.is_none() {
                break;
            }
        }
        let Some(object) = latest else { return Ok(None) };
        let place = format!("{PLACE}{}/{}", hash(name), &object.key[prefix.len()..]);
        match object.seen {
            Some(seen) => Ok(Some(trashed(name, place, &seen))),
            None => self.copy_at(name, &place).await,
        }
    }

    /// The copy at this place.
    pub(super) async fn copy_at(&self, name: &FileName, place: &str) -> Result<Option<Trashed>, Failure> {
        let rest = place.strip_prefix(PLACE).unwrap_or(place);
        Ok(self.head(&self.copy_key(rest)).await?.map(|seen| trashed(name, place.to_owned(), &seen)))
    }

    /// Copies a copy back, never over a file, with what the file had, and drops it.
    pub(super) async fn copy_back(&self, proved: &Capabilities, item: &Trashed, place: &str, attributes: &Attributes) -> Result<Restored> {
        let name = &item.name;
        let (key, from) = (self.key(name), self.copy_key(place));
        let looking = |f: Failure| self.failed(&f, "s3:GetObject", "cannot look at the file", name);
        let Some(copy) = self.head(&from).await.map_err(looking)? else { return Ok(Restored::Missing) };
        if self.head(&key).await.map_err(looking)?.is_some() {
            return Ok(Restored::Occupied);
        }
        match self.copy_with(proved, &from, &key, &copy.version, attributes).await {
            Ok(_) => {}
            Err(f) if f.condition() => return Ok(Restored::Occupied),
            Err(f) if f.no_key() => return Ok(Restored::Missing),
            Err(f) => return Err(self.failed(&f, "s3:PutObject", "cannot copy the file back", name)),
        }
        let dropped = self.drop_copy(&from).await;
        dropped.map_err(|f| self.failed(&f, "s3:DeleteObject", "the file is back, but its copy cannot be deleted", name))?;
        Ok(Restored::Back)
    }

    /// Copies to where nothing is, with as many of the attributes as the service takes: the right to write access lists may be missing, and a bucket may know
    /// none any more. A file that is there without them is worth more than one in the trash.
    async fn copy_with(
        &self,
        proved: &Capabilities,
        from: &str,
        to: &str,
        etag: &str,
        attributes: &Attributes,
    ) -> Result<Option<String>, Failure> {
        let without_access = Attributes { class: attributes.class.clone(), grants: Vec::new() };
        let usual = Attributes::default();
        let mut ways = vec![attributes, &without_access, &usual];
        ways.dedup();
        let mut refused = None;
        for way in ways {
            let mut copied = self.copy(from, to, Some(etag), proved.create, way).await;
            if proved.create && copied.as_ref().is_err_and(Failure::unknown) {
                // Writing only where there is nothing is known, copying so is not.
                copied = self.copy(from, to, Some(etag), false, way).await;
            }
            match copied {
                Err(f) if !(f.condition() || f.no_key() || f.transient() && !f.unknown()) => refused = Some(f),
                done => {
                    if let (Ok(_), Some(f)) = (&done, &refused) {
                        tracing::warn!(
                            storage = self.name,
                            key = to,
                            "it came back without its access list or storage class: {}",
                            f.text()
                        );
                    }
                    return done;
                }
            }
        }
        Err(refused.unwrap_or_else(|| Failure::strange("nothing was copied")))
    }

    /// Erases a copy.
    pub(super) async fn purge_copy(&self, item: &Trashed, place: &str) -> Result<bool> {
        let key = self.copy_key(place);
        let there = self.head(&key).await;
        if there.map_err(|f| self.failed(&f, "s3:GetObject", "cannot look at the copy", &item.name))?.is_none() {
            return Ok(false);
        }
        let gone = self.drop_copy(&key).await;
        gone.map_err(|f| self.failed(&f, "s3:DeleteObject", "cannot erase the copy", &item.name))?;
        Ok(true)
    }
}

fn trashed(name: &FileName, place: String, seen: &FileVersion) -> Trashed {
    let second = aws_sdk_s3::primitives::DateTime::from_secs(seen.modified.as_second());
    Trashed { name: name.clone(), place, at: at_latest(Some(&second)), size: seen.size }
}
