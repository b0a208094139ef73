//! The files of one field: saved, read, let go.

use std::{sync::Arc, time::Duration};

use rowbound::storage::About;

use crate::{
    error::{Error, Kind, Result},
    field::Field,
    kind::{media_type, picture_extensions},
    store::{Fetched, Store, Wanted},
    upload::{Open, Upload},
    value::{File, ImageFile, Value},
};

/// The files of one field. Cheap to clone; made by [`crate::Media::files`].
#[derive(Debug, Clone)]
pub struct Files<T> {
    pub(crate) field: Field<T>,
    pub(crate) store: Store,
}

impl<T: Value> Files<T> {
    /// Checks and processes the upload, stages its name, writes it, and returns what to put into the row. In this order: a rollback, a panic, a crash or
    /// a form that nobody sends leaves a candidate, and the file goes after `stage_ttl` without any sweep.
    ///
    /// On SQLite call it before the application's own transaction has written: the candidate needs the write lock for a moment.
    ///
    /// # Errors
    /// What [`Error::is_uploads_fault`] tells apart: [`Kind::Empty`], [`Kind::TooLarge`], [`Kind::Type`], [`Kind::Picture`], [`Kind::Name`], [`Kind::Cut`]: nothing
    /// is stored. [`Kind::Engine`] of database or storage.
    pub async fn save(&self, upload: Upload) -> Result<T> {
        let saved = self.save_unnamed(upload).await;
        saved.map_err(|e| e.with("field", self.field.column()))
    }

    /// The same for a form that may come without a file: `None`, or no name and no bytes.
    ///
    /// # Errors
    /// As [`Files::save`]; [`Kind::Required`] where the field is not `blank` and there is no file.
    pub async fn save_optional(&self, upload: Option<Upload>) -> Result<Option<T>> {
        let none = || match self.field.said.blank {
            true => Ok(None),
            false => Err(Error::new(Kind::Required, "there is no file").with("field", self.field.column()).hint("choose a file")),
        };
        let Some(upload) = upload else { return none() };
        let open = upload.open().await?;
        if open.is_empty() && open.name.is_empty() {
            return none();
        }
        self.save_open(open).await.map(Some).map_err(|e| e.with("field", self.field.column()))
    }

    async fn save_unnamed(&self, upload: Upload) -> Result<T> {
        // What says that it is too large is not read at all.
        let open = upload.open().await?;
        self.save_open(open).await
    }

    async fn save_open(&self, mut open: Open) -> Result<T> {
        let said = &self.field.said;
        if open.is_empty() && !said.allow_empty {
            return Err(Error::new(Kind::Empty, "the file is empty").hint("choose another file"));
        }
        let mut kind = media_type(&open.head, &open.name).to_owned();
        said.check_type(&kind, T::IMAGE)?;
        if T::IMAGE {
            let bytes = open.whole(said.max_size).await?;
            let process = said.process.clone().unwrap_or_else(|| Arc::new(crate::process::look));
            let done = crate::process::run(process, bytes).await?;
            kind = done.media_type;
            let name = std::mem::take(&mut open.name);
            open = Upload::bytes(name, done.bytes).open().await?;
        }
        let name = said.name(&open.name, &kind, if T::IMAGE { picture_extensions(&kind) } else { None })?;
        let about = About { content_type: Some(kind), cache_control: said.cache_control.clone() };
        // What was processed may be larger than what came.
        let max_size = if T::IMAGE { u64::MAX } else { said.max_size };
        let wanted = Wanted { name: &name, about, max_size, max_length: said.max_length };
        let name = self.store.place(wanted, &mut open).await?;
        Ok(T::made(name.as_str().to_owned()))
    }

    /// Where the file can be had.
    ///
    /// # Errors
    /// [`Kind::Config`] where the storage has no `base_url`; [`Kind::Name`] where the text is no name.
    pub fn url(&self, value: &T) -> Result<String> {
        self.store.url(&self.name(value)?)
    }

    /// The file's bytes as they come.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; [`Kind::Engine`].
    pub async fn open(&self, value: &T) -> Result<Fetched> {
        self.store.open(&self.name(value)?).await
    }

    /// Its size in bytes.
    ///
    /// # Errors
    /// As [`Files::open`].
    pub async fn size(&self, value: &T) -> Result<u64> {
        self.store.size(&self.name(value)?).await
    }

    /// Whether the file is there; a blank value has none.
    ///
    /// # Errors
    /// [`Kind::Engine`] when that could not be told.
    pub async fn exists(&self, value: &T) -> Result<bool> {
        match value.is_blank() {
            true => Ok(false),
            false => self.store.exists(&self.name(value)?).await,
        }
    }

    /// Lets go of the file: it is collected if, and only if, no row names it. Set the row's column to something else, or delete the row, and that alone is
    /// enough; this is for a file that was saved and is not wanted after all. A blank value has none.
    ///
    /// # Errors
    /// [`Kind::Engine`].
    pub async fn delete(&self, value: &T) -> Result<()> {
        match value.is_blank() {
            true => Ok(()),
            false => self.store.delete(&self.name(value)?).await,
        }
    }

    /// A URL that lets its holder read the file for `ttl`.
    ///
    /// # Errors
    /// [`Kind::Config`] where the storage has none (folders).
    pub async fn presigned_url(&self, value: &T, ttl: Duration) -> Result<String> {
        self.store.presigned_url(&self.name(value)?, ttl).await
    }

    /// The declaration.
    pub fn field(&self) -> &Field<T> {
        &self.field
    }

    /// The storage.
    pub fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn name(&self, value: &T) -> Result<rowbound::FileName> {
        value.name().map_err(|why| {
            Error::new(if value.is_blank() { Kind::NotFound } else { Kind::Name }, format!("the row's value {why}"))
                .with("field", self.field.column())
                .with("value", format_args!("{:?}", value.as_str()))
        })
    }
}

/// The same from the value's side: `article.image.url(&images)`.
macro_rules! of_a_value {
    ($($name:ident),*) => {
        $(impl $name {
            /// Where the file can be had: the storage's `base_url` and the name, percent-encoded.
            ///
            /// # Errors
            /// [`Kind::Config`] where the storage has no `base_url`; [`Kind::Name`] where the text is no name.
            pub fn url(&self, files: &Files<Self>) -> Result<String> {
                files.url(self)
            }

            /// The file's bytes as they come.
            ///
            /// # Errors
            /// [`Kind::NotFound`]; [`Kind::Engine`].
            pub async fn open(&self, files: &Files<Self>) -> Result<Fetched> {
                files.open(self).await
            }

            /// Its size in bytes.
            ///
            /// # Errors
            /// As [`Self::open`].
            pub async fn size(&self, files: &Files<Self>) -> Result<u64> {
                files.size(self).await
            }

            /// Whether the file is there.
            ///
            /// # Errors
            /// [`Kind::Engine`] when that could not be told.
            pub async fn exists(&self, files: &Files<Self>) -> Result<bool> {
                files.exists(self).await
            }

            /// Lets go of the file: it is collected if, and only if, no row names it. See [`Files::delete`].
            ///
            /// # Errors
            /// [`Kind::Engine`].
            pub async fn delete(&self, files: &Files<Self>) -> Result<()> {
                files.delete(self).await
            }

            /// A URL that lets its holder read the file for `ttl`.
            ///
            /// # Errors
            /// [`Kind::Config`] where the storage has none (folders).
            pub async fn presigned_url(&self, files: &Files<Self>, ttl: Duration) -> Result<String> {
                files.presigned_url(self, ttl).await
            }
        })*
    };
}

of_a_value!(File, ImageFile);
