//! Fields: what a column's files may be, where they lie and what they are called; said once.
//!
//! In: calls. Out: a declaration, from which both the saving of uploads and the engine's binding are made. Does no IO.

use std::{fmt, marker::PhantomData, sync::Arc};

use jiff::{Timestamp, tz::TimeZone};
use rowbound::{Binding, FileName};

use crate::{
    error::{Error, Kind, Result},
    kind::accepts,
    names,
    process::Process,
    spec::Spec,
    value::{File, ImageFile, Value},
};

/// The most bytes of a file that a field takes unless it says otherwise.
pub const MAX_SIZE: u64 = 1 << 30;

/// The same for pictures, which are held in memory while they are looked at.
pub const MAX_PICTURE: u64 = 50 << 20;

/// The most characters of a name, as of Django's `FileField`.
pub const MAX_LENGTH: usize = 100;

/// What an upload is, for a function that gives it its name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Arrival {
    /// Its name, made safe by [`names::clean`], with the suffix that it will have.
    pub name: String,
    /// Its media type, by its bytes.
    pub media_type: String,
    /// Now.
    pub at: Timestamp,
}

/// Where files go.
#[derive(Clone)]
enum UploadTo {
    /// A folder, with `%Y/%m/%d` and the like.
    Folder(String),
    /// The whole name.
    Name(Arc<dyn Fn(&Arrival) -> String + Send + Sync>),
}

/// The declaration of a column whose values name files. `T` is what a row holds: [`File`] or [`ImageFile`].
///
/// ```
/// use rowbound_files::{Field, ImageFile};
/// let image: Field<ImageFile> = Field::image("article.image").upload_to("%Y/%m/%d").max_size(10 << 20);
/// assert_eq!(image.binding()?.column.to_string(), "article.image");
/// # Ok::<(), rowbound_files::Error>(())
/// ```
pub struct Field<T = File> {
    pub(crate) said: Arc<Said>,
    value: PhantomData<fn() -> T>,
}

#[derive(Clone)]
pub(crate) struct Said {
    pub(crate) column: String,
    pub(crate) storage: String,
    upload_to: UploadTo,
    pub(crate) blank: bool,
    pub(crate) allow_empty: bool,
    pub(crate) max_size: u64,
    pub(crate) max_length: usize,
    accept: Vec<String>,
    pub(crate) cache_control: Option<String>,
    keep: Vec<String>,
    derivatives: Vec<String>,
    pub(crate) process: Option<Arc<dyn Process>>,
    pub(crate) specs: Vec<Spec>,
}

impl Field<File> {
    /// A column `[schema.]table.column` that holds any file.
    pub fn file(column: &str) -> Self {
        Self::new(column, MAX_SIZE)
    }
}

impl Field<ImageFile> {
    /// A column `[schema.]table.column` that holds a picture: what is none is refused, by its bytes; its suffix is that of its format.
    pub fn image(column: &str) -> Self {
        Self::new(column, MAX_PICTURE)
    }

    /// What is done with every picture before it is kept: with the feature `image` a `rowbound_image::Pipeline`, or a function of one's own. The
    /// suffix of the name follows the format that comes out.
    pub fn process(self, process: impl Process + 'static) -> Self {
        self.say(|said| said.process = Some(Arc::new(process)))
    }

    /// Adds a picture that can be made of each: see [`Spec`]. It goes with its original.
    pub fn spec(self, spec: &Spec) -> Self {
        self.say(|said| said.specs.push(spec.clone()))
    }
}

impl<T: Value> Field<T> {
    fn new(column: &str, max_size: u64) -> Self {
        Field {
            said: Arc::new(Said {
                column: column.to_owned(),
                storage: "default".to_owned(),
                upload_to: UploadTo::Folder(String::new()),
                blank: false,
                allow_empty: false,
                max_size,
                max_length: MAX_LENGTH,
                accept: Vec::new(),
                cache_control: None,
                keep: Vec::new(),
                derivatives: Vec::new(),
                process: None,
                specs: Vec::new(),
            }),
            value: PhantomData,
        }
    }

    fn say(mut self, what: impl FnOnce(&mut Said)) -> Self {
        what(Arc::make_mut(&mut self.said));
        self
    }

    /// The folder for files, in which `%Y`, `%m`, `%d` and the like stand for the moment of the upload, in UTC. Default: the storage's root.
    pub fn upload_to(self, folder: &str) -> Self {
        self.say(|said| said.upload_to = UploadTo::Folder(folder.trim_end_matches('/').to_owned()))
    }

    /// A function that gives each file its whole name. What is no legal name is refused when a file is saved.
    pub fn upload_by(self, name: impl Fn(&Arrival) -> String + Send + Sync + 'static) -> Self {
        self.say(|said| said.upload_to = UploadTo::Name(Arc::new(name)))
    }

    /// The storage's name in the plan. Default: `default`.
    pub fn storage(self, name: &str) -> Self {
        self.say(|said| said.storage = name.to_owned())
    }

    /// Whether a form may come without a file: [`crate::Files::save_optional`]. Default: no.
    pub fn blank(self, may: bool) -> Self {
        self.say(|said| said.blank = may)
    }

    /// Whether a file may have no bytes. Default: no.
    pub fn allow_empty(self, may: bool) -> Self {
        self.say(|said| said.allow_empty = may)
    }

    /// The most bytes of a file. Default: [`MAX_SIZE`], for pictures [`MAX_PICTURE`].
    pub fn max_size(self, bytes: u64) -> Self {
        self.say(|said| said.max_size = bytes)
    }

    /// The most characters that the column takes: longer names are cut. Default: [`MAX_LENGTH`].
    pub fn max_length(self, characters: usize) -> Self {
        self.say(|said| said.max_length = characters)
    }

    /// The media types that are taken, told by the bytes: `application/pdf`, `image/*`. Default: all; for pictures those that can be read.
    pub fn accept<S: Into<String>>(self, types: impl IntoIterator<Item = S>) -> Self {
        self.say(|said| said.accept = types.into_iter().map(Into::into).collect())
    }

    /// How browsers may keep the files, for storages that say it (S3): `public, max-age=31536000, immutable`.
    pub fn cache_control(self, value: &str) -> Self {
        self.say(|said| said.cache_control = Some(value.to_owned()))
    }

    /// Names that are never deleted, as `keep` of a binding: `defaults/*`.
    pub fn keep<S: Into<String>>(self, patterns: impl IntoIterator<Item = S>) -> Self {
        self.say(|said| said.keep.extend(patterns.into_iter().map(Into::into)))
    }

    /// Files that other programs make of these, as `derivatives` of a binding: `{name}.*.*`.
    pub fn derivatives<S: Into<String>>(self, patterns: impl IntoIterator<Item = S>) -> Self {
        self.say(|said| said.derivatives.extend(patterns.into_iter().map(Into::into)))
    }

    /// The column, as it was written.
    pub fn column(&self) -> &str {
        &self.said.column
    }

    /// The most bytes of a file: whoever receives one may stop there.
    pub fn limit(&self) -> u64 {
        self.said.max_size
    }

    /// The engine's binding of this column.
    ///
    /// # Errors
    /// [`Kind::Config`] for what is no column.
    pub fn binding(&self) -> Result<Binding> {
        let mut derivatives = self.said.derivatives.clone();
        if !self.said.specs.is_empty() {
            derivatives.push(Spec::PATTERN.to_owned());
        }
        Ok(Binding::name(&self.said.column, &self.said.storage)?.keep(self.said.keep.clone()).derivatives(derivatives))
    }
}

impl Said {
    /// # Errors
    /// [`Kind::Type`] for a type that is not taken.
    pub(crate) fn check_type(&self, media_type: &str, image: bool) -> Result<()> {
        let taken = match (&self.accept[..], image) {
            ([], false) => true,
            ([], true) => crate::kind::picture_extensions(media_type).is_some(),
            (some, _) => accepts(some, media_type),
        };
        match (taken, image) {
            (true, _) => Ok(()),
            (false, true) => {
                let what = if self.accept.is_empty() { "a JPEG, PNG, WebP, GIF, TIFF or BMP".to_owned() } else { self.accept.join(", ") };
                Err(Error::new(Kind::Type, "this is no picture of a kind that is taken")
                    .with("type", media_type)
                    .hint(format!("choose {what}")))
            }
            (false, false) => Err(Error::new(Kind::Type, "a file of this type is not taken")
                .with("type", media_type)
                .hint(format!("taken are: {}", self.accept.join(", ")))),
        }
    }

    /// The name that a file should have; `extension` is that of the format and what may stay.
    pub(crate) fn name(&self, given: &str, media_type: &str, extension: Option<(&str, &[&str])>) -> Result<FileName> {
        let mut base = names::clean(given);
        if let Some((extension, keep)) = extension {
            base = names::with_extension(&base, keep, extension);
        }
        let at = Timestamp::now();
        let whole = match &self.upload_to {
            UploadTo::Folder(folder) if folder.is_empty() => base,
            UploadTo::Folder(folder) => format!("{}/{base}", dated(folder, at)?),
            UploadTo::Name(name) => name(&Arrival { name: base, media_type: media_type.to_owned(), at }),
        };
        let name = FileName::parse(&whole).map_err(|why| {
            Error::new(Kind::Name, format!("the name {why}")).with("name", format_args!("{whole:?}")).with("field", &self.column)
        })?;
        names::fitted(&name, self.max_length, false)
    }

    /// # Errors
    /// [`Kind::Config`] for what can never be saved.
    pub(crate) fn check(&self) -> Result<()> {
        if let UploadTo::Folder(folder) = &self.upload_to {
            let dated = dated(folder, Timestamp::UNIX_EPOCH).map_err(|e| e.with("field", &self.column))?;
            if !dated.is_empty() {
                FileName::parse(&dated).map_err(|why| {
                    Error::new(Kind::Config, format!("`upload_to` {why}")).with("field", &self.column).with("upload_to", folder)
                })?;
            }
        }
        Ok(())
    }
}

fn dated(folder: &str, at: Timestamp) -> Result<String> {
    if !folder.contains('%') {
        return Ok(folder.to_owned());
    }
    jiff::fmt::strtime::format(folder, &at.to_zoned(TimeZone::UTC)).map_err(|e| {
        Error::new(Kind::Config, "`upload_to` holds a `%` that stands for nothing")
            .with("upload_to", folder)
            .because(e)
            .hint("write %Y/%m/%d; %% stands for a percent sign")
    })
}

impl<T> Clone for Field<T> {
    fn clone(&self) -> Self {
        Field { said: self.said.clone(), value: PhantomData }
    }
}

impl<T> fmt::Debug for Field<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Field").field("column", &self.said.column).field("storage", &self.said.storage).finish_non_exhaustive()
    }
}

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.column)
    }
}
