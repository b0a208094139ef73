//! Derived pictures: named forms of a stored picture, made when they are first asked for, gone with their original.
//!
//! In: a stored picture and a [`Spec`]. Out: the name of the picture that was made of it. Promise: what is made is a derivative that the binding knows,
//! so that it goes with its original; made at the same time by two, it is made twice and kept once; made while its original is collected, it goes too,
//! because it is announced before it can be seen, as an upload is.

use rowbound::{
    FileName, crash,
    storage::{About, Over},
};

use crate::{
    error::{Error, Kind, Result},
    field::MAX_PICTURE,
    files::Files,
    spec::Spec,
    value::ImageFile,
};

/// The event of a candidate that was made from another file: the collector looks whether that is there.
const EVENT: &str = "derivative";

/// A picture that was made of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// Its name in the storage of its original.
    pub name: FileName,
    /// Whether it was made now.
    pub made: bool,
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
        let bytes = crate::upload::collect(self.store.open(&original).await?.body, self.field.said.max_size.max(MAX_PICTURE)).await?;
        let done = crate::process::run(spec.process.clone(), bytes).await?;
        if done.media_type != spec.media_type {
            return Err(Error::new(Kind::Config, "the spec makes pictures of another format than it says")
                .with("spec", &spec.id)
                .with("says", &spec.media_type)
                .with("makes", done.media_type));
        }
        let about = About { content_type: Some(done.media_type), cache_control: self.field.said.cache_control.clone() };
        let mut incoming = self.store.storage.begin(&name, &about).await?;
        incoming.write(done.bytes.into()).await?;
        // Announced, although no row will ever name it: if the original goes while this is made, nobody else knows of it. When it comes
        // due it is kept as the derivative of a file that is there, or goes.
        self.store.announce(EVENT, &name, self.store.plan.staged_for()).await?;
        crash::point("staged");
        // Occupied: somebody else has made the same one meanwhile.
        incoming.place(&name, Over::Nothing).await?;
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
        if !self.field.said.specs.iter().any(|known| known.id == spec.id) {
            // Its binding would not know the pattern, and what is made would stay for ever.
            return Err(Error::new(Kind::Config, "the field does not list this spec")
                .with("field", self.field.column())
                .with("spec", &spec.id)
                .hint("add .spec(&..) to the field's declaration"));
        }
        spec.name(original)
    }
}
