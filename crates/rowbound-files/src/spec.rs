//! Forms in which pictures are wanted: a name, what makes them, and their format.
//!
//! In: calls. Out: a [`Spec`], and the name of the picture that it makes of another. Promise: that name depends on the original, the form's id, its format and what
//! makes it, so that a changed form never finds what an earlier one made. Does no IO.

use std::{fmt, sync::Arc};

use rowbound::{FileName, derivative::stem};

use crate::{
    error::{Error, Kind, Result},
    kind::picture_extensions,
    process::Process,
};

/// A form in which pictures are wanted: a name, what makes it, and its format.
#[derive(Clone)]
pub struct Spec {
    pub(crate) id: String,
    pub(crate) media_type: String,
    pub(crate) width: Option<u32>,
    pub(crate) process: Arc<dyn Process>,
}

impl Spec {
    /// Where they lie, as a pattern of the binding's `derivatives`; django-imagekit's are named so too.
    pub const PATTERN: &'static str = "CACHE/images/{stem}/*";

    /// A form called `id` (letters, digits, `-`), of this format (`image/webp`), made by `process`. The name of what is made holds all three, so that after a
    /// change it is made anew.
    ///
    /// # Errors
    /// [`Kind::Config`] for a format that is none of pictures, or an id with other characters.
    pub fn new(id: &str, media_type: &str, process: impl Process + 'static) -> Result<Self> {
        if id.is_empty() || !id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            return Err(Error::new(Kind::Config, "a spec's id is made of letters, digits and `-`").with("spec", format_args!("{id:?}")));
        }
        if picture_extensions(media_type).is_none() {
            return Err(Error::new(Kind::Config, "this is no format of pictures").with("spec", id).with("format", media_type));
        }
        Ok(Spec { id: id.to_owned(), media_type: media_type.to_owned(), width: None, process: Arc::new(process) })
    }

    /// How many pixels it is wide, for [`crate::Files::srcset`].
    pub fn width(mut self, pixels: u32) -> Self {
        self.width = Some(pixels);
        self
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The name of the picture that is made of `original`.
    pub(crate) fn name(&self, original: &FileName) -> Result<FileName> {
        let (extension, _) = picture_extensions(&self.media_type).expect("checked when it was made");
        // Two originals of one stem (a.jpg, a.png) share a folder, not a name.
        let told = fnv(&[original.as_str(), &self.media_type, &self.process.fingerprint()]);
        let name = format!("CACHE/images/{}/{}-{told:016x}.{extension}", stem(original.as_str()), self.id);
        FileName::parse(&name).map_err(|why| Error::new(Kind::Name, format!("the name {why}")).with("name", name))
    }
}

/// FNV-1a, 64 bits: http://www.isthe.com/chongo/tech/comp/fnv/. It tells names apart, and keeps no secret.
fn fnv(parts: &[&str]) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    parts.iter().flat_map(|part| part.bytes().chain([0])).fold(0xcbf2_9ce4_8422_2325, step)
}

impl fmt::Debug for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spec")
            .field("id", &self.id)
            .field("media_type", &self.media_type)
            .field("width", &self.width)
            .finish_non_exhaustive()
    }
}
