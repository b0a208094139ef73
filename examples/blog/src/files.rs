//! The files: where they lie, and for how long. With `#[file(..)]` in `models.rs` this is all that the blog says to Rowbound.
//!
//! In: options, a database with its tables. Out: a collector that runs, and the [`Files`] of each column. Promise: no handler deletes a file. A row that lets go
//! of one is enough.

use std::{sync::Arc, time::Duration};

use rowbound::{Trash, binding::Column, collect::Settings, storage::Storage};
use rowbound_files::{Error, Files, ImageFile, Media};
use rowbound_orm::{BoxError, Gone, Rowbound, receiver};
use sea_orm::DatabaseConnection;

use crate::{
    models::{article, post_image},
    options::Options,
};

/// How long a file that a row released waits. Production waits longer (10 s): see the page "What is on the disk".
pub const GRACE: Duration = Duration::from_secs(1);

/// How long an uploaded file waits for its row. In production: an hour.
pub const STAGE_TTL: Duration = Duration::from_secs(20);

/// The pictures of both tables.
#[derive(Debug, Clone)]
pub struct Pictures {
    pub media: Media,
    /// `article.image`.
    pub article: Files<ImageFile>,
    /// `post_image.image`.
    pub post: Files<ImageFile>,
    /// The storage itself, for whoever wants to look at many files at once.
    pub storage: Arc<dyn Storage>,
}

/// Opens the storage, and collects from now on. `rowbound run` beside the application does the same.
///
/// # Errors
/// A database or a storage that is not there, or is not the one that was there before.
pub async fn start(options: &Options, db: &DatabaseConnection) -> Result<Rowbound, Error> {
    // Short times and no trash, so that one can watch. The defaults suit production.
    let storage = options.storage.clone().base_url("/media/").grace(GRACE).min_age(STAGE_TTL).trash(Trash::Off);
    let mut rowbound =
        Rowbound::builder(db)?.storage(storage).attach(true).collect(Settings { poll: Duration::from_millis(250), ..Settings::default() });
    // Here a person may mention a file. That is no reference: it keeps no file alive.
    for column in ["article.title", "post.title", "post.text"] {
        rowbound = rowbound.ignore(Column::parse(column)?);
    }
    rowbound.start().await
}

impl Pictures {
    /// What handlers need of it.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn of(rowbound: &Rowbound) -> Result<Self, Error> {
        let media = rowbound.media().clone();
        let storage = rowbound::storage::open(&media.plan().storages["default"])?;
        if let Some(record) = media.database().installation().await? {
            storage.expect(&record.storages["default"]);
        }
        Ok(Pictures { article: rowbound.files(&article::Model::IMAGE)?, post: rowbound.files(&post_image::Model::IMAGE)?, media, storage })
    }
}

/// Heard when the picture of an article is gone, after the commit, at least once: the place to purge a cache. `RUST_LOG=rowbound_blog=info` shows it.
#[receiver(OnCommit, name = "blog.articles")]
async fn article_picture_gone(gone: &Gone<article::Entity>) -> Result<(), BoxError> {
    tracing::info!(name = gone.name, row = gone.key, event = gone.event, "the picture of an article is gone");
    Ok(())
}
