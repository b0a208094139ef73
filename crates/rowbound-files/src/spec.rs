//! Derived pictures: named forms of a stored picture, made when they are first asked for, gone with their original.
//!
//! In: a stored picture and a [`Spec`]. Out: the name of the picture that was made of it. Promise: what is made is a derivative that the binding knows,
//! so that it goes with its original; made at the same time by two, it is made twice and kept once; made while its original is collected, it goes too,
//! because it is announced before it can be seen, as an upload is.

use std::{fmt, sync::Arc};

use rowbound::{
    FileName, crash,
    derivative::stem,
    storage::{PutMode, PutOptions},
};

use crate::{
    error::{Error, Kind, Result},
    files::Files,
    kind::picture_extensions,
    process::Process,
    value::ImageFile,
};

/// The event of a candidate that was made from another file: the collector looks whether that is there.
const EVENT: &str = "derivative";

/// A form in which pictures are wanted: a name, what makes it, and its format.
#[derive(Clone)]
pub struct Spec {
    id: String,
    media_type: String,
    width: Option<u32>,
    process: Arc<dyn Process>,
}

/// A picture that was made of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// Its name in the storage of its original.
    pub name: FileName,
    /// Whether it was made now.
    pub made: bool,
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

    /// How many pixels it is wide, for [`Files::srcset`].
    pub fn width(mut self, pixels: u32) -> Self {
        self.width = Some(pixels);
        self
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The name of the picture that is made of `original`.
    fn name(&self, original: &FileName) -> Result<FileName> {
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

impl Files<ImageFile> {
    /// The picture in this form: the one that is there, or one that is made now.
    ///
    /// # Errors
    /// [`Kind::Config`] where the field does not list the spec ([`crate::Field::spec`]); [`Kind::NotFound`] without an original; [`Kind::Picture`].
    pub async fn variant(&self, value: &ImageFile, spec: &Spec) -> Result<Variant> {
        let original = self.name(value)?;
        let name = self.derived(&original, spec)?;
        if self.store.exists(&name).await? {
            return Ok(Variant { name, made: false });
        }
        let bytes =
            crate::upload::collect(self.store.open(&original).await?.body, self.field.options.max_size.max(crate::field::MAX_PICTURE))
                .await?;
        let done = crate::process::run(spec.process.clone(), bytes).await?;
        if done.media_type != spec.media_type {
            return Err(Error::new(Kind::Config, "the spec makes pictures of another format than it says")
                .with("spec", &spec.id)
                .with("says", &spec.media_type)
                .with("makes", done.media_type));
        }
        let options = PutOptions { content_type: Some(done.media_type), cache_control: self.field.options.cache_control.clone() };
        let mut incoming = self.store.storage.begin(&name, &options).await?;
        incoming.write(done.bytes.into()).await?;
        // Announced, although no row will ever name it: if the original goes while this is made, nobody else knows of it. When it comes
        // due it is kept as the derivative of a file that is there, or goes.
        self.store.announce(EVENT, &name, self.store.plan.staged_for()).await?;
        crash::point("staged");
        // Occupied: somebody else has made the same one meanwhile.
        incoming.publish(&name, PutMode::Create).await?;
        Ok(Variant { name, made: true })
    }

    /// Where the picture can be had in this form. Nothing is made, and nothing is looked at: what serves the URL makes it ([`Files::variant`]).
    ///
    /// # Errors
    /// As [`Files::url`].
    pub fn variant_url(&self, value: &ImageFile, spec: &Spec) -> Result<String> {
        self.store.url(&self.derived(&self.name(value)?, spec)?)
    }

    /// The value of an `srcset` attribute: the URL of each form and its width.
    ///
    /// # Errors
    /// [`Kind::Config`] for a spec without a width; as [`Files::url`].
    pub fn srcset<'a>(&self, value: &ImageFile, specs: impl IntoIterator<Item = &'a Spec>) -> Result<String> {
        let one = |spec: &Spec| {
            let width = spec.width.ok_or_else(|| {
                Error::new(Kind::Config, "a spec without a width cannot stand in a srcset")
                    .with("spec", &spec.id)
                    .hint("add .width(pixels)")
            })?;
            // A comma would end the candidate; everything else is encoded already.
            Ok(format!("{} {width}w", self.variant_url(value, spec)?))
        };
        Ok(specs.into_iter().map(one).collect::<Result<Vec<_>>>()?.join(", "))
    }

    fn derived(&self, original: &FileName, spec: &Spec) -> Result<FileName> {
        if !self.field.options.specs.iter().any(|known| known.id == spec.id) {
            // Its binding would not know the pattern, and what is made would stay for ever.
            return Err(Error::new(Kind::Config, "the field does not list this spec")
                .with("field", self.field.column())
                .with("spec", &spec.id)
                .hint("add .spec(&..) to the field's declaration"));
        }
        spec.name(original)
    }
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
