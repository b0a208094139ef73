//! Objects that come in and go out.
//!
//! In: bytes. Out: an object. Promise: an object appears whole or not at all; where the service was seen to honour it, never in place of another one. Small
//! files go in one request, larger ones in parts, of which one is held in memory. A process that dies leaves an unfinished upload, which nobody
//! sees but who pays for the bucket: a record of it was written before its first part (`unfinished.rs`), by which another process ends it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use aws_sdk_s3::{
    presigning::PresigningConfig,
    primitives::ByteStream,
    types::{CompletedMultipartUpload, CompletedPart},
};
use bytes::{Bytes, BytesMut};

use super::{
    Inner, Proof, exact,
    keys::{LONGEST_KEY, seen},
    unfinished::ALIVE,
    wire::Failure,
};
use crate::{
    crash,
    error::{Error, Kind, Result},
    name::FileName,
    storage::{Access, Body, Fetched, LONGEST_SIGNED, PutMode, PutOptions, PutResult, Signed, TrashKind, Upload, upload::name_is_fixed},
};

/// Bytes of the first parts. S3 takes 5 MiB or more, and at most 10,000 parts of an object, of 5 TiB:
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>.
const PART: usize = 5 << 20;

/// After so many parts they are twice as large: the first thousand hold 5 GiB, the next 10, .. and all ten thousand 5 TiB.
const PARTS: usize = 1_000;

/// A file that comes in.
#[derive(Debug)]
pub(super) struct Incoming {
    inner: Arc<Inner>,
    options: PutOptions,
    /// Whether the service was seen to write only where nothing is.
    create: bool,
    /// Whether it was seen to keep names that are no paths apart from others.
    exact: bool,
    waiting: BytesMut,
    /// Begun when there are too many bytes for one request.
    parts: Parts,
}

/// An upload in parts, whose key cannot be changed any more.
#[derive(Debug)]
struct Parts {
    name: FileName,
    key: String,
    id: String,
    done: Vec<CompletedPart>,
    /// What tells others of it, and when that was written last.
    record: String,
    recorded: Instant,
    /// Whether the bucket keeps versions of the record.
    versioned: bool,
    inner: Arc<Inner>,
    /// Whether the service knows of it.
    open: bool,
}

impl Drop for Parts {
    fn drop(&mut self) {
        // Without a runtime (at the end of a process) its record ends it.
        if self.open
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (inner, key, id) = (self.inner.clone(), std::mem::take(&mut self.key), std::mem::take(&mut self.id));
            let (record, versioned) = (std::mem::take(&mut self.record), self.versioned);
            runtime.spawn(async move {
                let _ = inner.give_up(&key, &id, &record, versioned).await; // as above
            });
        }
    }
}

impl Incoming {
    pub(super) async fn begin(inner: &Arc<Inner>, proof: &Proof, name: &FileName, options: &PutOptions) -> Result<Self> {
        inner.short_enough(name)?;
        let proved = proof.honoured().await?;
        inner.must_take(proved.exact, name)?;
        let (create, exact) = (proved.create, proved.exact);
        let parts = Parts {
            name: name.clone(),
            key: inner.key(name),
            id: String::new(),
            done: Vec::new(),
            record: inner.record_key(),
            recorded: Instant::now(),
            versioned: proved.trash == TrashKind::Versions,
            inner: inner.clone(),
            open: false,
        };
        Ok(Incoming { inner: inner.clone(), options: options.clone(), create, exact, waiting: BytesMut::new(), parts })
    }

    fn part_size(&self) -> usize {
        let done = self.parts.done.len();
        PART << (done / PARTS).min(9)
    }

    /// Sends what waits as a part.
    async fn send_part(&mut self) -> Result<()> {
        let inner = self.inner.clone();
        let parts = &mut self.parts;
        let failed = |failure: &Failure| inner.failed(failure, "s3:PutObject", "cannot write the file", &parts.name);
        let client = inner.client().await.map_err(|f| failed(&f))?;
        if !parts.open {
            let options = &self.options;
            let begin = || {
                client
                    .create_multipart_upload()
                    .bucket(inner.wire.bucket())
                    .key(&parts.key)
                    .set_content_type(options.content_type.clone())
                    .set_cache_control(options.cache_control.clone())
                    .send()
            };
            let begun = inner.wire.call(begin).await.map_err(|f| failed(&f))?;
            parts.id = begun.upload_id().ok_or_else(|| failed(&Failure::strange("the upload has no id")))?.to_owned();
            parts.open = true;
            inner.look_for_unfinished(parts.versioned);
        }
        if parts.done.is_empty() || parts.recorded.elapsed() > ALIVE {
            inner.record_upload(&parts.record, &parts.key, &parts.id).await.map_err(|f| failed(&f))?;
            parts.recorded = Instant::now();
        }
        let bytes = self.waiting.split().freeze();
        let number = i32::try_from(parts.done.len() + 1).expect("10,000 parts at most");
        let send = || {
            client
                .upload_part()
                .bucket(inner.wire.bucket())
                .key(&parts.key)
                .upload_id(&parts.id)
                .part_number(number)
                .body(ByteStream::from(bytes.clone()))
                .send()
        };
        let sent = inner.wire.call(send).await.map_err(|f| failed(&f))?;
        parts.done.push(CompletedPart::builder().part_number(number).set_e_tag(sent.e_tag().map(str::to_owned)).build());
        Ok(())
    }

    async fn complete(&mut self, name: &FileName, mode: PutMode) -> Result<PutResult> {
        if !self.waiting.is_empty() {
            self.send_part().await?;
        }
        let inner = self.inner.clone();
        let create = self.create;
        let parts = &mut self.parts;
        if parts.name != *name {
            return Err(name_is_fixed(&inner.name, name));
        }
        if mode == PutMode::Create && inner.occupied(name).await? {
            return Ok(PutResult::Occupied);
        }
        let failed = |failure: &Failure| inner.failed(failure, "s3:PutObject", "cannot write the file", name);
        let client = inner.client().await.map_err(|f| failed(&f))?;
        let all = CompletedMultipartUpload::builder().set_parts(Some(parts.done.clone())).build();
        let attempts = AtomicU32::new(0);
        let complete = || {
            attempts.fetch_add(1, Relaxed);
            client
                .complete_multipart_upload()
                .bucket(inner.wire.bucket())
                .key(&parts.key)
                .upload_id(&parts.id)
                .multipart_upload(all.clone())
                .set_if_none_match((create && mode == PutMode::Create).then(|| "*".to_owned()))
                .send()
        };
        let done = inner.wire.call(complete).await;
        crash::point("placed");
        match done {
            Ok(_) => parts.open = false,
            Err(failure) if failure.condition() => return Ok(PutResult::Occupied),
            // Completed by an attempt whose answer was lost. The first one says so of an upload that somebody has given up.
            Err(failure) if failure.is("NoSuchUpload") && attempts.into_inner() > 1 && inner.occupied(name).await? => parts.open = false,
            Err(failure) => return Err(failed(&failure)),
        }
        // The file is there. A record that stays names an upload that is none any more: it goes after a day.
        if let Err(failure) = inner.erase_own(&parts.record, parts.versioned).await {
            tracing::debug!(key = parts.record, ?failure, "the record of an upload that is complete stays");
        }
        Ok(PutResult::Stored)
    }
}

#[async_trait]
impl Upload for Incoming {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let mut bytes = bytes;
        loop {
            let size = self.part_size();
            let room = size - self.waiting.len();
            // Kept until there is more than one part, so that what fits into one request goes in one.
            if bytes.len() <= room {
                self.waiting.extend_from_slice(&bytes);
                return Ok(());
            }
            self.waiting.extend_from_slice(&bytes.split_to(room));
            self.send_part().await?;
        }
    }

    async fn publish(&mut self, name: &FileName, mode: PutMode) -> Result<PutResult> {
        if self.parts.open {
            return self.complete(name, mode).await;
        }
        let inner = self.inner.clone();
        inner.must_take(self.exact, name)?;
        inner.short_enough(name)?;
        let failed = |failure: &Failure| inner.failed(failure, "s3:PutObject", "cannot write the file", name);
        // Asked first even where a condition is honoured: it spares sending the bytes in vain.
        if mode == PutMode::Create && inner.occupied(name).await? {
            return Ok(PutResult::Occupied);
        }
        crash::point("written");
        let client = inner.client().await.map_err(|f| failed(&f))?;
        let (key, bytes) = (inner.key(name), Bytes::copy_from_slice(&self.waiting));
        let put = || {
            client
                .put_object()
                .bucket(inner.wire.bucket())
                .key(&key)
                .set_content_type(self.options.content_type.clone())
                .set_cache_control(self.options.cache_control.clone())
                .set_if_none_match((self.create && mode == PutMode::Create).then(|| "*".to_owned()))
                .body(ByteStream::from(bytes.clone()))
                .send()
        };
        let done = inner.wire.call(put).await;
        crash::point("placed");
        match done {
            Ok(_) => Ok(PutResult::Stored),
            // Perhaps by an attempt of ours whose answer was lost: then that file is staged, and goes when no row references it.
            Err(failure) if failure.condition() => Ok(PutResult::Occupied),
            Err(failure) => Err(failed(&failure)),
        }
    }

    async fn abort(mut self: Box<Self>) -> Result<()> {
        let inner = self.inner.clone();
        if !std::mem::take(&mut self.parts.open) {
            return Ok(());
        }
        let parts = &self.parts;
        let aborted = inner.give_up(&parts.key, &parts.id, &parts.record, parts.versioned).await;
        aborted.map_err(|f| inner.failed(&f, "s3:AbortMultipartUpload", "cannot give the upload up", &self.parts.name))
    }
}

impl Inner {
    /// Aborts an upload, then forgets it.
    async fn give_up(&self, key: &str, id: &str, record: &str, versioned: bool) -> Result<(), Failure> {
        self.abort(key, id).await?;
        self.erase_own(record, versioned).await
    }

    pub(super) async fn abort(&self, key: &str, id: &str) -> Result<(), Failure> {
        let client = self.client().await?;
        let abort = || client.abort_multipart_upload().bucket(self.wire.bucket()).key(key).upload_id(id).send();
        match self.wire.call(abort).await {
            Ok(_) => Ok(()),
            Err(failure) if failure.is("NoSuchUpload") => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// Whether an object has the name.
    async fn occupied(&self, name: &FileName) -> Result<bool> {
        let head = self.head(&self.key(name)).await;
        head.map(|seen| seen.is_some()).map_err(|f| self.failed(&f, "s3:GetObject", "cannot look at the file", name))
    }

    /// # Errors
    /// [`Kind::Storage`] for a key that no object can have.
    pub(super) fn short_enough(&self, name: &FileName) -> Result<()> {
        match self.at.prefix.len() + name.as_str().len() > LONGEST_KEY {
            false => Ok(()),
            true => {
                Err(self.error(Kind::Storage, "its key has more than 1,024 bytes").with("name", name).hint("no object can have this key"))
            }
        }
    }

    /// A whole object as it comes. A connection that is cut off is an error of the body, which is not begun anew: its reader has had a part of it.
    pub(super) async fn fetch(&self, exact: bool, name: &FileName) -> Result<Option<Fetched>> {
        self.must_take(exact, name)?;
        self.short_enough(name)?;
        let failed = |failure: &Failure| self.failed(failure, "s3:GetObject", "cannot read the object", name);
        let client = self.client().await.map_err(|f| failed(&f))?;
        let key = self.key(name);
        let answer = match self.wire.call(|| client.get_object().bucket(self.wire.bucket()).key(&key).send()).await {
            Ok(answer) => answer,
            Err(failure) if failure.is("NoSuchKey") => return Ok(None),
            Err(failure) => return Err(failed(&failure)),
        };
        let seen = seen(answer.content_length(), answer.last_modified(), answer.e_tag())
            .ok_or_else(|| failed(&Failure::of_key(None, Some("the service tells no ETag, size or time of the object"))))?;
        let cut = {
            let (storage, name) = (self.name.clone(), name.clone());
            move |why: String| {
                Error::new(Kind::Storage, "the file was cut off while it was read")
                    .with("storage", &storage)
                    .with("name", &name)
                    .because(why)
                    .retry(crate::error::Retry::Later)
            }
        };
        let content_type = answer.content_type().map(str::to_owned);
        let body: Body = Box::pin(futures_util::stream::unfold(Some((answer.body, cut)), |state| async move {
            let (mut body, cut) = state?;
            match tokio::time::timeout(Duration::from_secs(60), body.try_next()).await {
                Ok(Ok(Some(bytes))) => Some((Ok(bytes), Some((body, cut)))),
                Ok(Ok(None)) => None,
                Ok(Err(e)) => Some((Err(cut(e.to_string())), None)),
                Err(_) => Some((Err(cut("no bytes came for 60 s".to_owned())), None)),
            }
        }));
        Ok(Some(Fetched { content_type, body, seen }))
    }

    /// A signed URL; only the credentials are asked for, no request is sent but for the marker.
    pub(super) async fn sign(&self, proof: &Proof, name: &FileName, access: &Access, ttl: Duration) -> Result<Signed> {
        self.must_take(exact(proof), name)?;
        self.short_enough(name)?;
        if ttl.is_zero() || ttl > LONGEST_SIGNED {
            return Err(self
                .error(Kind::Config, "a URL can be signed for at most 7 days")
                .with("ttl", format_args!("{ttl:?}"))
                .hint("sign it anew when it is needed"));
        }
        let unsigned = |why: String| self.error(Kind::Config, "the URL cannot be signed").with("name", name).because(why);
        let client = self.wire.client().await?;
        let config = PresigningConfig::expires_in(ttl).map_err(|e| unsigned(e.to_string()))?;
        let key = self.key(name);
        let signed = match access {
            Access::Get => {
                client.get_object().bucket(self.wire.bucket()).key(&key).presigned(config).await.map_err(|e| unsigned(e.to_string()))
            }
            Access::Put { size, content_type } => {
                let create = proof.honoured().await?.create;
                client
                    .put_object()
                    .bucket(self.wire.bucket())
                    .key(&key)
                    .content_type(content_type)
                    .content_length(i64::try_from(*size).unwrap_or(i64::MAX))
                    .set_if_none_match(create.then(|| "*".to_owned()))
                    .presigned(config)
                    .await
                    .map_err(|e| unsigned(e.to_string()))
            }
        }?;
        let headers: BTreeMap<String, String> = signed.headers().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        Ok(Signed { method: signed.method().to_owned(), url: signed.uri().to_owned(), headers })
    }
}
