//! What is done with a picture before it is kept.

use crate::error::Result;

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

/// Leaves a picture as it is.
pub(crate) fn look(bytes: &[u8]) -> Result<Processed> {
    let media_type = crate::kind::media_type(bytes, "").to_owned();
    Ok(Processed { bytes: bytes.to_vec(), media_type })
}
