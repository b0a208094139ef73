//! A column of files: its declaration, and what is done with its files.
//!
//! In: what `#[file(..)]` says. Out: the [`Field`] that binds the column and saves its uploads.

use std::{fmt, marker::PhantomData};

use rowbound_files::{Field, File, Files, ImageFile, Upload, Value};
use sea_orm::{EntityTrait, IdenStatic};

use crate::running;

/// A column of files of the entity `E`: `article::Model::IMAGE`, made by `#[derive(Files)]`.
pub struct FileColumn<E, T: Value> {
    declare: fn() -> Field<T>,
    entity: PhantomData<fn() -> E>,
}

impl<E: EntityTrait, T: Value> FileColumn<E, T> {
    /// Of a declaration.
    pub const fn new(declare: fn() -> Field<T>) -> Self {
        FileColumn { declare, entity: PhantomData }
    }

    /// The declaration, for `Media::builder(..).field(&..)`; [`crate::Rowbound`] does that for all entities of the program.
    pub fn field(&self) -> Field<T> {
        (self.declare)()
    }

    /// Its files, in the [`crate::Rowbound`] that this program has started.
    ///
    /// # Errors
    /// `Kind::Config` where none is started that has this column, or several: then `rowbound.files(&Model::IMAGE)` says which.
    pub fn files(&self) -> rowbound_files::Result<Files<T>> {
        let field = self.field();
        running::media(field.column())?.files(&field)
    }

    /// Saves an upload, for a row that is written next: checks it, processes it, gives it a name, stores it. Without a row it is collected after `stage_ttl`.
    ///
    /// # Errors
    /// As [`FileColumn::files`] and [`Files::save`].
    pub async fn save(&self, upload: Upload) -> rowbound_files::Result<T> {
        self.files()?.save(upload).await
    }

    /// Saves what a form sent, if it sent a file and the column may be blank.
    ///
    /// # Errors
    /// As [`FileColumn::save`].
    pub async fn save_optional(&self, upload: Option<Upload>) -> rowbound_files::Result<Option<T>> {
        self.files()?.save_optional(upload).await
    }
}

impl<E, T: Value> Clone for FileColumn<E, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E, T: Value> Copy for FileColumn<E, T> {}

impl<E, T: Value> fmt::Debug for FileColumn<E, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FileColumn").field(&(self.declare)()).finish()
    }
}

/// A field's type that a column of files can have: `File`, `ImageFile`, or an `Option` of one.
#[diagnostic::on_unimplemented(
    message = "a #[file] field is a `File` or an `ImageFile`, or an `Option` of one, not `{Self}`",
    label = "not a file"
)]
pub trait FileType {
    /// Its value.
    type Value: Value;

    /// The declaration that `#[file(..)]` goes on with.
    fn declare(column: &str) -> Field<Self::Value>;
}

impl FileType for File {
    type Value = File;

    fn declare(column: &str) -> Field<File> {
        Field::file(column)
    }
}

impl FileType for ImageFile {
    type Value = ImageFile;

    fn declare(column: &str) -> Field<ImageFile> {
        Field::image(column)
    }
}

impl<T: FileType> FileType for Option<T> {
    type Value = T::Value;

    fn declare(column: &str) -> Field<T::Value> {
        T::declare(column).blank(true)
    }
}

/// `[schema.]table`.
pub(crate) fn table_name<E: EntityTrait>() -> String {
    let entity = E::default();
    match entity.schema_name() {
        Some(schema) => format!("{schema}.{}", entity.table_name()),
        None => entity.table_name().to_owned(),
    }
}

/// `[schema.]table.column`, as bindings are written.
pub fn column_of<E: EntityTrait>(column: E::Column) -> String {
    format!("{}.{}", table_name::<E>(), IdenStatic::as_str(&column))
}

/// A declaration of either kind.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum AnyField {
    /// Of any files.
    File(Field<File>),
    /// Of pictures.
    Image(Field<ImageFile>),
}

impl AnyField {
    /// The column, as `[schema.]table.column`.
    pub fn column(&self) -> &str {
        match self {
            AnyField::File(field) => field.column(),
            AnyField::Image(field) => field.column(),
        }
    }
}

impl From<Field<File>> for AnyField {
    fn from(field: Field<File>) -> Self {
        AnyField::File(field)
    }
}

impl From<Field<ImageFile>> for AnyField {
    fn from(field: Field<ImageFile>) -> Self {
        AnyField::Image(field)
    }
}
