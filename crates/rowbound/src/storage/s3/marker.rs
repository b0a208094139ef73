//! The marker: the object that proves that the bucket is there and which storage it is. And what else is Rowbound's own.

use aws_sdk_s3::{operation::put_object::PutObjectOutput, primitives::ByteStream};

use super::{Inner, keys::Deletion, wire::Failure};
use crate::{
    error::{Error, Kind, Result, Retry},
    name::RESERVED,
    storage::{
        Conditional, MARKER, Marker, TrashKind, Whereabouts, Written,
        whereabouts::{self, Within},
    },
};

/// On what writing an object depends.
#[derive(Debug, Clone, Copy)]
pub(super) enum WriteCondition<'a> {
    Always,
    /// Where there is none.
    IfAbsent,
    /// Where this one is.
    IfMatch(&'a str),
}

impl Inner {
    /// Reads an object of Rowbound's own, with its ETag.
    pub(super) async fn read_own(&self, key: &str) -> Result<Option<(Vec<u8>, String)>, Failure> {
        self.read(key, None).await
    }

    /// Reads an object, or at most so many of its first bytes, with its ETag.
    pub(super) async fn read(&self, key: &str, limit: Option<usize>) -> Result<Option<(Vec<u8>, String)>, Failure> {
        let client = self.client().await?;
        // Some services answer with everything all the same, and an empty object has no range.
        let mut range = limit.map(|most| format!("bytes=0-{}", most.max(1) - 1));
        let mut attempt = 1;
        loop {
            let request = || client.get_object().bucket(self.wire.bucket()).key(key).set_range(range.clone()).send();
            let answer = match self.wire.call(request).await {
                Ok(answer) => answer,
                Err(failure) if failure.is("NoSuchKey") => return Ok(None),
                Err(failure) if range.is_some() && (failure.status == Some(416) || failure.is("InvalidRange")) => {
                    range = None;
                    continue;
                }
                Err(failure) => return Err(failure),
            };
            let etag = answer.e_tag().unwrap_or_default().to_owned();
            let mut stream = answer.body;
            let body = tokio::time::timeout(std::time::Duration::from_secs(60), async {
                let mut bytes = Vec::new();
                while let Some(part) = stream.try_next().await? {
                    bytes.extend_from_slice(&part);
                    if let Some(most) = limit.filter(|most| bytes.len() >= *most) {
                        bytes.truncate(most);
                        break;
                    }
                }
                Ok::<_, aws_sdk_s3::primitives::ByteStreamError>(bytes)
            })
            .await;
            match body {
                Ok(Ok(bytes)) => return Ok(Some((bytes, etag))),
                // The connection was cut within the body.
                _ if attempt < 3 => attempt += 1,
                Ok(Err(e)) => return Err(Failure::strange(format!("an answer was cut off: {e}"))),
                Err(_) => return Err(Failure::strange("an answer did not end in time")),
            }
        }
    }

    /// Writes an object of Rowbound's own.
    pub(super) async fn write_own(&self, key: &str, bytes: &[u8], only: WriteCondition<'_>) -> Result<PutObjectOutput, Failure> {
        let client = self.client().await?;
        let (new, over) = match only {
            WriteCondition::Always => (None, None),
            WriteCondition::IfAbsent => (Some("*".to_owned()), None),
            WriteCondition::IfMatch(etag) => (None, Some(etag.to_owned())),
        };
        self.wire
            .call(|| {
                client
                    .put_object()
                    .bucket(self.wire.bucket())
                    .key(key)
                    .body(ByteStream::from(bytes.to_vec()))
                    .set_if_none_match(new.clone())
                    .set_if_match(over.clone())
                    .send()
            })
            .await
    }

    /// Removes an object of Rowbound's own, with every version if the bucket keeps them.
    pub(super) async fn erase_own(&self, key: &str, versioned: bool) -> Result<(), Failure> {
        if versioned {
            let all = self.versions_of(key).await?;
            let ids = all.ids();
            let items: Vec<_> = ids.iter().map(|id| Deletion { key, etag: None, version: Some(id) }).collect();
            self.delete(&items, Conditional::No).await.into_iter().try_for_each(|one| one.map(drop))
        } else {
            let item = Deletion { key, etag: None, version: None };
            self.delete(&[item], Conditional::No).await.remove(0).map(drop)
        }
    }

    /// The marker and its ETag.
    pub(super) async fn read_marker(&self) -> Result<Option<(Marker, String)>> {
        self.read_marker_at(&self.own(MARKER)).await
    }

    async fn read_marker_at(&self, key: &str) -> Result<Option<(Marker, String)>> {
        self.wire.client().await?;
        let read = self.read_own(key).await;
        let Some((bytes, etag)) = read.map_err(|f| self.wire.error(&f, "s3:GetObject", "cannot read the storage's marker"))? else {
            return Ok(None);
        };
        let marker = serde_json::from_slice(&bytes).map_err(|e| {
            self.error(Kind::StorageUnreachable, "the storage's marker cannot be read")
                .with("key", key)
                .because(e)
                .retry(Retry::Never)
                .hint("put the marker back from a backup, or delete it and run `rowbound attach --adopt-storage`")
        })?;
        Ok(Some((marker, etag)))
    }

    /// The marker of a storage whose prefix is beneath or above this one's; `None` where it may not be read: these credentials are for this storage only.
    pub(super) async fn marker_of(&self, key: &str) -> Result<Option<Marker>> {
        match self.read_marker_at(key).await {
            Ok(read) => Ok(read.map(|(marker, _)| marker)),
            Err(e) if e.kind() == Kind::Permission => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The error for a listing that meets a marker beneath the prefix.
    pub(super) async fn nested(&self, key: &str) -> Error {
        let its = self.read_marker_at(key).await.ok().flatten().map(|(marker, _)| marker);
        let own = self.read_marker().await.ok().flatten().map(|(marker, _)| marker);
        whereabouts::nested(&self.name, &key[self.at.prefix.len()..], its.as_ref(), own.as_ref())
    }

    /// Where the storage is, and whether another one has a shorter prefix of its own.
    pub(super) async fn whereabouts(&self) -> Result<Whereabouts> {
        let bucket = Some(format!("{}/{}", self.at.bucket, self.at.prefix));
        let written = Written { url: self.url.clone(), folder: None, bucket };
        let mut found = Whereabouts { written, ..Whereabouts::default() };
        let shorter = std::iter::once(0).chain(self.at.prefix.match_indices('/').map(|(at, _)| at + 1));
        for end in shorter.filter(|end| *end < self.at.prefix.len()) {
            let at = format!("{}{RESERVED}/{MARKER}", &self.at.prefix[..end]);
            if let Some(marker) = self.marker_of(&at).await? {
                found.within = Some(Within { at: format!("s3://{}/{at}", self.at.bucket), marker: Some(marker) });
                break;
            }
        }
        Ok(found)
    }

    pub(super) async fn write_marker(&self, marker: &Marker) -> Result<()> {
        let key = self.own(MARKER);
        let before = self.read_marker().await?;
        let only = match (&marker.proved, &before) {
            (Some(proved), None) if proved.create => WriteCondition::IfAbsent,
            (Some(proved), Some((_, etag))) if proved.create => WriteCondition::IfMatch(etag),
            _ => WriteCondition::Always,
        };
        if marker.proved.is_none() {
            self.try_deleting().await?;
        }
        let mut bytes = serde_json::to_vec_pretty(marker).expect("a marker is JSON");
        bytes.push(b'\n');
        self.write_own(&key, &bytes, only).await.map_err(|failure| match failure.condition() {
            true => self.error(Kind::Busy, "somebody else wrote the storage's marker in this moment").hint("run the same command again"),
            false => self.wire.error(&failure, "s3:PutObject", "cannot write the storage's marker"),
        })?;
        Ok(())
    }

    /// Removes the marker, which was just read, and what has nothing in it, and ends uploads that are unfinished; the rest of the trash stays and is counted.
    pub(super) async fn remove_marker(&self, marker: Option<&Marker>) -> Result<u64> {
        let told = marker.and_then(|marker| marker.proved.as_ref()).map(|proved| proved.trash == TrashKind::Versions);
        let left = self.count_trash().await?;
        let ended = self.end_unfinished(None, told).await;
        ended.map_err(|f| self.wire.error(&f, "s3:AbortMultipartUpload", "cannot end unfinished uploads"))?;
        if marker.is_some() {
            let versioned = match told {
                Some(versioned) => versioned,
                None => self.versioning().await? == super::probe::Versioning::On,
            };
            let erased = self.erase_own(&self.own(MARKER), versioned).await;
            erased.map_err(|f| self.wire.error(&f, "s3:DeleteObject", "cannot remove the storage's marker"))?;
        }
        Ok(left)
    }
}
