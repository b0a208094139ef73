//! What comes in: a name as a client gave it, and bytes as they come.

use std::{fmt, path::Path, pin::Pin};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::{
    error::{Error, Kind, Result},
    kind::HEAD,
};

/// The error of a stream of bytes.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

type Incoming = Pin<Box<dyn Stream<Item = Result<Bytes, BoxError>> + Send>>;

/// Bytes of one piece of a reader.
const PIECE: usize = 64 << 10;

/// A file that comes in.
///
/// ```
/// use rowbound_files::Upload;
/// let upload = Upload::bytes("photo.jpg", &b"\xff\xd8.."[..]);
/// assert_eq!(upload.name(), "photo.jpg");
/// ```
pub struct Upload {
    name: String,
    declared: Option<u64>,
    body: Incoming,
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload").field("name", &self.name).field("declared", &self.declared).finish_non_exhaustive()
    }
}

impl Upload {
    /// Bytes that are there. `name` is the client's.
    pub fn bytes(name: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let size = bytes.len() as u64;
        Self::stream(name, stream::iter([Ok::<_, BoxError>(bytes)])).declared(size)
    }

    /// Bytes as they come, as many as there are. Memory stays constant, except for pictures that are processed.
    pub fn stream<E: Into<BoxError>>(name: impl Into<String>, bytes: impl Stream<Item = Result<Bytes, E>> + Send + 'static) -> Self {
        Upload { name: name.into(), declared: None, body: Box::pin(bytes.map(|piece| piece.map_err(Into::into))) }
    }

    /// The same for a reader.
    pub fn reader(name: impl Into<String>, reader: impl AsyncRead + Send + Unpin + 'static) -> Self {
        let pieces = stream::try_unfold(reader, |mut reader| async move {
            let mut piece = BytesMut::with_capacity(PIECE);
            match reader.read_buf(&mut piece).await? {
                0 => Ok::<_, std::io::Error>(None),
                _ => Ok(Some((piece.freeze(), reader))),
            }
        });
        Self::stream(name, pieces)
    }

    /// A file of this machine, under its own name.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when it cannot be opened.
    pub async fn path(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let failed = |e: std::io::Error| Error::new(Kind::NotFound, "cannot open the file").with("file", path.display()).because(e);
        let file = tokio::fs::File::open(path).await.map_err(failed)?;
        let about = file.metadata().await.map_err(failed)?;
        if !about.is_file() {
            return Err(Error::new(Kind::NotFound, "this is no plain file").with("file", path.display()));
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self::reader(name, file).declared(about.len()))
    }

    /// Says how many bytes there should be, so that too many are refused before the first is read, and fewer are not taken for all.
    pub fn declared(mut self, size: u64) -> Self {
        self.declared = Some(size);
        self
    }

    /// The name, as the client gave it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Begins to read: the first bytes, by which a file's type is told, are at hand afterwards.
    pub(crate) async fn open(self) -> Result<Open> {
        let Upload { name, declared, mut body } = self;
        let mut head = BytesMut::new();
        let mut ended = false;
        while head.len() < HEAD {
            match body.next().await {
                Some(piece) => head.extend_from_slice(&piece.map_err(cut)?),
                None => {
                    ended = true;
                    break;
                }
            }
        }
        Ok(Open { name, declared, head: head.freeze(), ended, first: true, body, read: 0 })
    }
}

fn cut(e: BoxError) -> Error {
    Error::new(Kind::Cut, "the upload was cut off").because(e).hint("upload it again")
}

/// An upload that is being read.
pub(crate) struct Open {
    pub(crate) name: String,
    pub(crate) declared: Option<u64>,
    /// Its first bytes, [`HEAD`] of them or all.
    pub(crate) head: Bytes,
    ended: bool,
    first: bool,
    body: Incoming,
    read: u64,
}

impl Open {
    /// The next bytes, all from the first on; `None` at the end.
    ///
    /// # Errors
    /// [`Kind::TooLarge`] as soon as there are more than `most`; [`Kind::Cut`].
    pub(crate) async fn next(&mut self, most: u64) -> Result<Option<Bytes>> {
        if let Some(declared) = self.declared.filter(|declared| *declared > most) {
            return Err(too_large(most).with("declared", declared));
        }
        let piece = match std::mem::take(&mut self.first) {
            true if !self.head.is_empty() => Some(self.head.clone()),
            _ if self.ended => None,
            _ => self.body.next().await.transpose().map_err(cut)?,
        };
        let Some(piece) = piece else {
            self.ended = true;
            return match self.declared.filter(|declared| *declared != self.read) {
                Some(declared) => Err(Error::new(Kind::Cut, "the upload was cut off")
                    .with("bytes", format_args!("{} of {declared}", self.read))
                    .hint("upload it again")),
                None => Ok(None),
            };
        };
        self.read += piece.len() as u64;
        if self.read > most {
            return Err(too_large(most));
        }
        Ok(Some(piece))
    }

    /// All bytes.
    ///
    /// # Errors
    /// As [`Open::next`].
    pub(crate) async fn whole(&mut self, most: u64) -> Result<Bytes> {
        let mut all = BytesMut::new();
        while let Some(piece) = self.next(most).await? {
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_empty()
    }
}

pub(crate) fn too_large(most: u64) -> Error {
    Error::new(Kind::TooLarge, format!("the file is larger than {}", bytes(most))).hint("choose a smaller file")
}

/// A number of bytes for people.
fn bytes(n: u64) -> String {
    match n {
        0..1_000 => format!("{n} bytes"),
        1_000..1_000_000 => format!("{} kB", n / 1_000),
        1_000_000..1_000_000_000 => format!("{:.1} MB", n as f64 / 1e6),
        _ => format!("{:.1} GB", n as f64 / 1e9),
    }
}

/// All bytes of a file that is in a storage.
pub(crate) async fn collect(mut body: rowbound::storage::Body, most: u64) -> Result<Bytes> {
    let mut all = BytesMut::new();
    while let Some(piece) = body.next().await {
        all.extend_from_slice(&piece?);
        if all.len() as u64 > most {
            return Err(too_large(most));
        }
    }
    Ok(all.freeze())
}
