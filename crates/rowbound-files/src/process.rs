//! What is done with a picture before it is kept.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::error::{Error, Kind, Result};

/// As many pictures at once as there are cores: more would be no faster, and each may take a hundred megabytes.
static AT_ONCE: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(std::thread::available_parallelism().map_or(2, usize::from)));

/// A picture that was processed, or was looked at and left as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Processed {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its media type: `image/jpeg`.
    pub media_type: String,
}

/// Makes one picture of another. With the feature `image`, a `rowbound_image::Pipeline` is one; so is any function of that form.
pub trait Process: Send + Sync {
    /// Runs on a thread that may block.
    ///
    /// # Errors
    /// [`crate::Kind::Picture`] for what cannot be read.
    fn run(&self, bytes: &[u8]) -> Result<Processed>;

    /// What tells this processing from another, so that what is made by another one is made anew: [`crate::Spec`] puts it into names.
    fn fingerprint(&self) -> String;
}

impl<F: Fn(&[u8]) -> Result<Processed> + Send + Sync> Process for F {
    fn run(&self, bytes: &[u8]) -> Result<Processed> {
        self(bytes)
    }

    fn fingerprint(&self) -> String {
        String::new()
    }
}

/// Processes a picture where it keeps nobody waiting.
pub(crate) async fn run(process: Arc<dyn Process>, bytes: Bytes) -> Result<Processed> {
    let _turn = AT_ONCE.acquire().await.expect("it is never closed");
    match tokio::task::spawn_blocking(move || process.run(&bytes)).await {
        Ok(done) => done,
        // A processor that panics has met a picture that it was not made for.
        Err(e) => Err(Error::new(Kind::Picture, "the picture could not be processed").because(e)),
    }
}

/// Leaves a picture as it is.
pub(crate) fn look(bytes: &[u8]) -> Result<Processed> {
    #[cfg(feature = "image-any")]
    image::check(bytes)?;
    let media_type = crate::kind::media_type(bytes, "").to_owned();
    Ok(Processed { bytes: bytes.to_vec(), media_type })
}

#[cfg(feature = "image-any")]
mod image {
    use rowbound_image::{Kind as Why, Limits, Pipeline, probe};

    use super::{Process, Processed};
    use crate::error::{Error, Kind, Result};

    impl Process for Pipeline {
        fn run(&self, bytes: &[u8]) -> Result<Processed> {
            let picture = Pipeline::run(self, bytes).map_err(refused)?;
            Ok(Processed { media_type: picture.format.mime().to_owned(), bytes: picture.bytes })
        }

        /// What it does, as it shows itself.
        fn fingerprint(&self) -> String {
            format!("{self:?}")
        }
    }

    /// A picture that stays as it is must have a header that can be read, and be no larger than is safe for its later readers.
    pub(super) fn check(bytes: &[u8]) -> Result<()> {
        probe(bytes, &Limits::default()).map(drop).map_err(refused)
    }

    fn refused(e: rowbound_image::Error) -> Error {
        let kind = match e.kind() {
            Why::Processor => Kind::Config,
            _ => Kind::Picture,
        };
        let hint = e.hint_text().unwrap_or("choose another picture").to_owned();
        Error::new(kind, e.to_string()).hint(hint)
    }
}
