//! Files that come in and go out.
//!
//! In: bytes. Out: a file on the service. Promise: it appears whole. The bytes wait in a file without a name on this machine, because a service's file
//! that is being written can often be seen, and cannot be given another name. Where files can be renamed, they are written beneath `.rowbound/` first.

use std::{io::SeekFrom, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use super::{Inner, Proof, stat::PathStat, wire::Failure};
use crate::{
    crash,
    error::{Error, Kind, Result, Retry},
    name::FileName,
    storage::{Access, Body, Fetched, LONGEST_SIGNED, PutMode, PutOptions, PutResult, Signed, Stat, Upload, upload::cannot_sign},
};

/// Bytes of one piece.
const PIECE: usize = 1 << 20;

/// A file that comes in.
#[derive(Debug)]
pub(super) struct Incoming {
    inner: Arc<Inner>,
    options: PutOptions,
    create: bool,
    renames: bool,
    file: tokio::fs::File,
}

impl Incoming {
    pub(super) async fn begin(inner: &Arc<Inner>, proof: &Proof, name: &FileName, options: &PutOptions) -> Result<Self> {
        inner.sendable(name)?;
        let create = inner.honoured(proof).await?.create;
        let file = tokio::task::spawn_blocking(tempfile::tempfile).await.map_err(std::io::Error::other).and_then(|made| made);
        let file = tokio::fs::File::from_std(file.map_err(|e| inner.no_room(e))?);
        Ok(Incoming { inner: inner.clone(), options: options.clone(), create, renames: inner.wire.can.rename, file })
    }

    /// Writes all of it to `path`, and looks at what came of it.
    async fn send(&mut self, path: &str, name: &FileName, only_new: bool) -> Result<PutResult> {
        let inner = self.inner.clone();
        let failed = |failure: &Failure| inner.failed(failure, "cannot write the file", name);
        let can = &inner.wire.can;
        self.file.seek(SeekFrom::Start(0)).await.map_err(|e| inner.no_room(e))?;
        let content_type = self.options.content_type.as_deref().filter(|_| can.write_with_content_type);
        let cache_control = self.options.cache_control.as_deref().filter(|_| can.write_with_cache_control);
        let make = async {
            let mut writer = inner.wire.op.writer_with(path);
            if let Some(kind) = content_type {
                writer = writer.content_type(kind);
            }
            if let Some(control) = cache_control {
                writer = writer.cache_control(control);
            }
            if only_new {
                writer = writer.if_not_exists(true);
            }
            writer.await
        };
        let mut writer = inner.wire.once(make).await.map_err(|f| failed(&f))?;
        let mut size = 0;
        let sent: Result<(), Failure> = async {
            // What a service takes in one piece only is held in memory; there is no other way to it.
            let mut whole = Vec::new();
            loop {
                let mut piece = BytesMut::with_capacity(PIECE);
                while piece.len() < PIECE {
                    let read = self.file.read_buf(&mut piece).await;
                    if read.map_err(|e| Failure::new(opendal::ErrorKind::Unexpected, e.to_string()))? == 0 {
                        break;
                    }
                }
                if piece.is_empty() {
                    break;
                }
                size += piece.len() as u64;
                match can.write_can_multi {
                    true => inner.wire.once(writer.write(piece.freeze())).await?,
                    false => whole.push(piece.freeze()),
                }
            }
            if !can.write_can_multi {
                inner.wire.once(writer.write(opendal::Buffer::from(whole))).await?;
            }
            inner.wire.once(writer.close()).await.map(drop)
        }
        .await;
        match sent {
            Ok(()) => {}
            Err(e) if only_new && e.kind() == opendal::ErrorKind::ConditionNotMatch => return Ok(PutResult::Occupied),
            Err(e) => {
                let _ = writer.abort().await; // what is left of it is beneath `.rowbound/`, or is not there
                return Err(failed(&e));
            }
        }
        // What a call says is looked at, not believed.
        match inner.stat(path).await.map_err(|f| failed(&f))? {
            PathStat::File(seen) if seen.size == size => Ok(PutResult::Stored),
            other => Err(inner
                .error(Kind::Storage, "the service said that it wrote the file, but does not show it")
                .with("name", name)
                .with("seen", format_args!("{other:?}"))
                .retry(Retry::Later)),
        }
    }
}

#[async_trait]
impl Upload for Incoming {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.file.write_all(&bytes).await.map_err(|e| self.inner.no_room(e))
    }

    async fn publish(&mut self, name: &FileName, mode: PutMode) -> Result<PutResult> {
        self.file.flush().await.map_err(|e| self.inner.no_room(e))?;
        let inner = self.inner.clone();
        inner.sendable(name)?;
        match inner.stat_name(name).await? {
            Stat::Missing => {}
            Stat::File(_) if mode == PutMode::Overwrite => {}
            Stat::File(_) => return Ok(PutResult::Occupied),
            Stat::Refused(_) if mode == PutMode::Create => return Ok(PutResult::Occupied),
            Stat::Refused(why) => {
                return Err(inner.error(Kind::Storage, "the name is not that of a plain file").with("name", name).because(why));
            }
        }
        if !self.renames {
            let placed = self.send(name.as_str(), name, self.create && mode == PutMode::Create).await;
            crash::point("placed");
            return placed;
        }
        let failed = |failure: &Failure| inner.failed(failure, "cannot move the file to its place", name);
        let between = inner.own(&format!("uploads/{:032x}", rand::random::<u128>()));
        self.send(&between, name, false).await?;
        crash::point("written");
        let moved = async {
            if mode == PutMode::Create && inner.stat_name(name).await? != Stat::Missing {
                return Ok(PutResult::Occupied);
            }
            inner.wire.once(inner.wire.op.rename(&between, name.as_str())).await.map_err(|f| failed(&f))?;
            match inner.stat_name(name).await? {
                Stat::File(_) => Ok(PutResult::Stored),
                other => Err(inner
                    .error(Kind::Storage, "the service said that it moved the file, but does not show it")
                    .with("name", name)
                    .with("seen", format_args!("{other:?}"))
                    .retry(Retry::Later)),
            }
        }
        .await;
        crash::point("placed");
        if !matches!(moved, Ok(PutResult::Stored)) {
            let _ = inner.erase(&between).await; // beneath `.rowbound/`, where no name leads
        }
        moved
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

impl Inner {
    /// # Errors
    /// [`Kind::Storage`] for a name that must never be sent.
    fn sendable(&self, name: &FileName) -> Result<()> {
        match self.refusal(name) {
            None => Ok(()),
            Some(why) => Err(self
                .error(Kind::Storage, "no file can have this name here")
                .with("name", name)
                .because(why)
                .hint("choose another name")),
        }
    }

    fn no_room(&self, e: std::io::Error) -> Error {
        self.error(Kind::Storage, "the file cannot wait on this machine until it is complete")
            .because(e)
            .retry(Retry::Later)
            .hint("make room in the folder for temporary files (TMPDIR)")
    }

    /// A whole file as it comes.
    pub(super) async fn fetch(&self, name: &FileName) -> Result<Option<Fetched>> {
        let seen = match self.stat_name(name).await? {
            Stat::Missing => return Ok(None),
            Stat::Refused(why) => {
                return Err(self
                    .error(Kind::Storage, "the name is not that of a plain file")
                    .with("name", name)
                    .because(why)
                    .hint("look at the path with the service's own tools"));
            }
            Stat::File(seen) => seen,
        };
        let path = name.as_str();
        let body: Body = if seen.size == 0 {
            // What services answer to an empty range differs.
            Box::pin(futures_util::stream::empty())
        } else {
            let stream = async { self.wire.op.reader(path).await?.into_bytes_stream(0..seen.size).await };
            let stream = match self.wire.once(stream).await {
                Ok(stream) => stream,
                Err(e) if e.kind() == opendal::ErrorKind::NotFound => return Ok(None),
                Err(e) => return Err(self.failed(&e, "cannot read the file", name)),
            };
            let (storage, name) = (self.name.clone(), name.clone());
            Box::pin(stream.map(move |piece| {
                piece.map_err(|e| {
                    Error::new(Kind::Storage, "the file was cut off while it was read")
                        .with("storage", &storage)
                        .with("name", &name)
                        .because(e.kind().to_string())
                        .retry(Retry::Later)
                })
            }))
        };
        Ok(Some(Fetched { content_type: None, body, seen }))
    }

    pub(super) async fn sign(&self, name: &FileName, access: &Access, ttl: Duration) -> Result<Signed> {
        self.sendable(name)?;
        if ttl > LONGEST_SIGNED {
            return Err(self.error(Kind::Config, "a URL can be signed for at most 7 days").with("ttl", format_args!("{ttl:?}")));
        }
        let (path, op, can) = (name.as_str(), &self.wire.op, &self.wire.can);
        let signed = match access {
            _ if !self.kind.signs => return Err(cannot_sign(&self.name)),
            Access::Get if can.presign_read => op.presign_read(path, ttl).await,
            Access::Put { content_type, .. } if can.presign_write => op.presign_write_with(path, ttl).content_type(content_type).await,
            _ => return Err(cannot_sign(&self.name)),
        };
        let signed = signed.map_err(|f| self.failed(&f, "cannot sign a URL", name))?;
        let headers = signed.header().iter().filter_map(|(key, value)| Some((key.to_string(), value.to_str().ok()?.to_owned()))).collect();
        Ok(Signed { method: signed.method().to_string(), url: signed.uri().to_string(), headers })
    }
}
