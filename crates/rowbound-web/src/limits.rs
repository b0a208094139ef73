//! How much of a request is taken.

use std::time::Duration;

/// How much of a request is taken. What one file may have is said by its field ([`rowbound_files::Field::max_size`]); this is what holds for the request. All of it is
/// enforced while the request streams.
///
/// An extension sets it for all handlers beneath, [`crate::UploadForm::limits`] for one. axum's `DefaultBodyLimit` (2 MB) is for bodies that are held in memory, and is
/// not asked; tower-http's `RequestBodyLimitLayer` holds.
///
/// ```
/// use axum::{Extension, Router};
/// use rowbound_web::Limits;
/// let app: Router = Router::new().layer(Extension(Limits::default().total(100 << 20)));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The most bytes of a request's body, everything counted. Default: [`rowbound_files::MAX_SIZE`], the most of a file, and 16 MiB.
    pub total: u64,
    /// The most parts of a form. Default: 1,000, as Django's `DATA_UPLOAD_MAX_NUMBER_FIELDS`.
    pub parts: usize,
    /// The most bytes that are held in memory of a form: all its texts together. Default: 2.5 MiB, as Django's `DATA_UPLOAD_MAX_MEMORY_SIZE`.
    pub text: usize,
    /// The longest time without a byte. Default: 30 s.
    pub idle: Duration,
    /// So many bytes of a request that was refused are still read, and thrown away: a client that is still sending when its server hangs up often sees a broken connection
    /// instead of the answer. Default: 32 MiB, for 10 s at most; 0 hangs up at once.
    pub linger: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            total: rowbound_files::MAX_SIZE + (16 << 20),
            parts: 1_000,
            text: 2_621_440,
            idle: Duration::from_secs(30),
            linger: 32 << 20,
        }
    }
}

impl Limits {
    /// Sets `total`, in bytes.
    pub fn total(mut self, bytes: u64) -> Self {
        self.total = bytes;
        self
    }

    /// Sets `parts`.
    pub fn parts(mut self, parts: usize) -> Self {
        self.parts = parts;
        self
    }

    /// Sets `text`, in bytes.
    pub fn text(mut self, bytes: usize) -> Self {
        self.text = bytes;
        self
    }

    /// Sets `idle`.
    pub fn idle(mut self, time: Duration) -> Self {
        self.idle = time;
        self
    }

    /// Sets `linger`, in bytes.
    pub fn linger(mut self, bytes: u64) -> Self {
        self.linger = bytes;
        self
    }
}
