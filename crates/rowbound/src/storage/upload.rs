//! Files that come in and go out: what an application puts into a storage and reads from it.
//!
//! In: bytes as they come, of which nobody may know how many. Out: a file under a name, whole, or none. Promise: nobody ever sees a part of
//! it; a file that is there is never replaced unless that was asked for; a file that was placed survives a power cut.

use std::{collections::BTreeMap, pin::Pin, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};

use super::FileVersion;
use crate::{
    error::{Error, Kind, Result, Retry},
    name::FileName,
};

/// What is known of a file before its first byte.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PutOptions {
    /// Its media type, for storages that keep one with the file (S3, most services): `image/jpeg`.
    pub content_type: Option<String>,
    /// How browsers may keep it, for the same storages: `public, max-age=31536000, immutable`.
    pub cache_control: Option<String>,
}

/// Whether a file may take the place of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutMode {
    /// It is placed only where nothing is.
    Create,
    /// A file that is there is replaced, in one step.
    Overwrite,
}

/// What became of a file that was to be placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutResult {
    /// It is there, whole and durable.
    Stored,
    /// Something else has the name: nothing was changed.
    Occupied,
}

/// A file that comes in: its bytes lie where no name leads to them. Dropped before it is placed, it leaves nothing; so does a process that
/// dies, on a folder at once (or after a day, on file systems without `O_TMPFILE`), on S3 after a day, when another process works with the bucket.
#[async_trait]
pub trait Upload: Send + std::fmt::Debug {
    /// Takes the next bytes. Memory stays constant, however many there are.
    async fn write(&mut self, bytes: Bytes) -> Result<()>;

    /// Makes the file visible under `name`, in one step, and durable. After [`PutResult::Occupied`] it may be placed under another name.
    ///
    /// # Errors
    /// [`Kind::Busy`]: where the name had to be known from the beginning (large files on S3, services that cannot rename), another one than that of
    /// [`super::Storage::begin`]. [`Kind::Storage`] for a name that this storage cannot hold.
    async fn publish(&mut self, name: &FileName, mode: PutMode) -> Result<PutResult>;

    /// Gives it up, and waits until nothing of it is left.
    async fn abort(self: Box<Self>) -> Result<()>;
}

/// Bytes of a file, in order. It ends with an `Err` where the file could not be read to its end.
pub type Body = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;

/// A file that goes out.
pub struct Fetched {
    /// What it was when it was opened.
    pub seen: FileVersion,
    /// Its media type, where the storage keeps one.
    pub content_type: Option<String>,
    /// Exactly `seen.size` bytes, or an error.
    pub body: Body,
}

impl std::fmt::Debug for Fetched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetched").field("seen", &self.seen).field("content_type", &self.content_type).finish_non_exhaustive()
    }
}

/// What a signed URL allows its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// To read the file.
    Get,
    /// To write the file, once, where nothing is (as far as the storage was seen to honour that): exactly so many bytes of this type.
    Put {
        /// Bytes.
        size: u64,
        /// The media type.
        content_type: String,
    },
}

/// A URL that lets its holder do one thing for a while, without an account of its own.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Signed {
    /// `GET` or `PUT`.
    pub method: String,
    /// Where to.
    pub url: String,
    /// Headers that the request must carry as they are: they are part of the signature.
    pub headers: BTreeMap<String, String>,
}

/// The longest time for which S3 signs: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-presigned-url.html>.
pub const LONGEST_SIGNED: Duration = Duration::from_secs(7 * 86_400);

/// The error of a storage whose files cannot be reached by a signed URL.
pub(crate) fn cannot_sign(storage: &str) -> Error {
    Error::new(Kind::Config, "this storage has no signed URLs")
        .with("storage", storage)
        .hint("serve the file through the application, or keep it on S3")
}

/// The error of an upload that cannot change its name any more.
#[cfg_attr(not(any(feature = "s3", feature = "service")), allow(dead_code))]
pub(crate) fn name_is_fixed(storage: &str, name: &FileName) -> Error {
    Error::new(Kind::Busy, "the name was taken while the file came in, and this storage cannot give a large file another one")
        .with("storage", storage)
        .with("name", name)
        .retry(Retry::Later)
        .hint("upload it again")
}

/// `body`, which ends with an error unless it has exactly `size` bytes.
pub(crate) fn whole(storage: &str, name: &FileName, size: u64, body: Body) -> Body {
    let short = {
        let (storage, name) = (storage.to_owned(), name.clone());
        move |got: u64| {
            Error::new(Kind::Storage, "the file was cut off while it was read")
                .with("storage", &storage)
                .with("name", &name)
                .with("bytes", format_args!("{got} of {size}"))
                .retry(Retry::Later)
        }
    };
    let state = (body, 0_u64, false, short);
    Box::pin(futures_util::stream::unfold(state, move |(mut body, mut got, ended, short)| async move {
        if ended {
            return None;
        }
        match body.next().await {
            Some(Ok(bytes)) => {
                got += bytes.len() as u64;
                match got > size {
                    true => Some((Err(short(got)), (body, got, true, short))),
                    false => Some((Ok(bytes), (body, got, false, short))),
                }
            }
            Some(Err(e)) => Some((Err(e), (body, got, true, short))),
            None if got == size => None,
            None => Some((Err(short(got)), (body, got, true, short))),
        }
    }))
}
