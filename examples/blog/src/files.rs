//! The files: which columns name pictures, what is done with a picture, and where it lies. All that this blog says to Rowbound stands here.
//!
//! In: options, and tables that are there. Out: a [`Files`] for each column, and a collector. Promise: no handler deletes a file. A row that lets go
//! of one is enough.

use std::{sync::Arc, time::Duration};

use rowbound::{Trash, binding::Column, collect::Settings, storage::Storage};
use rowbound_files::{Error, Field, Files, ImageFile, Media};
use rowbound_image::{
    Format, Pipeline,
    processors::{ResizeToFit, Thumbnail},
};
use tokio::{sync::watch, task::JoinHandle};

use crate::options::Options;

/// How long a file that a row let go of waits. Production waits longer (10 s): see the page "What is on the disk".
pub const GRACE: Duration = Duration::from_secs(1);

/// How long an uploaded file waits for its row. In production: an hour.
pub const STAGE_TTL: Duration = Duration::from_secs(10);

/// The most bytes of an upload.
pub const MAX_SIZE: u64 = 20 << 20;

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

impl Pictures {
    /// Says which columns name files, and opens the storage.
    ///
    /// # Errors
    /// A database or a storage that is not there, or is not the one that was there before.
    pub async fn open(options: &Options) -> Result<Self, Error> {
        let article = Field::image("article.image")
            .upload_to("%Y/%m/%d/")
            .blank(true)
            .max_size(MAX_SIZE)
            .process(Pipeline::new().then(Thumbnail::new(300, 300)).format(Format::Jpeg).quality(90));
        let post = Field::image("post_image.image")
            .upload_to("posts/%Y/%m/%d/")
            .blank(true)
            .max_size(MAX_SIZE)
            .process(Pipeline::new().then(ResizeToFit::new(1200, 1200).upscale(false)).format(Format::Jpeg).quality(85));

        // Short times and no trash, so that one can watch. The defaults suit production.
        let storage = options.storage.clone().base_url("/media/").grace(GRACE).min_age(STAGE_TTL).trash(Trash::Off);
        let mut media = Media::builder(&options.database).storage(storage).field(&article).field(&post);
        // Here a person may mention a file. That is no reference: it keeps no file alive.
        for column in ["article.title", "post.title", "post.text"] {
            media = media.ignore(Column::parse(column)?);
        }
        let media = media.attach().await?;
        let storage = rowbound::storage::open(&media.plan().storages["default"])?;
        if let Some(record) = media.database().installation().await? {
            storage.expect(&record.storages["default"]);
        }
        Ok(Pictures { article: media.files(&article)?, post: media.files(&post)?, media, storage })
    }

    /// Collects until `stop` is true. `rowbound run` beside the application does the same.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn collect(&self, stop: watch::Receiver<bool>) -> Result<JoinHandle<()>, Error> {
        let settings = Settings { poll: Duration::from_millis(250), ..Settings::default() };
        let collector = Arc::new(self.media.collector(settings).await?);
        Ok(tokio::spawn(collector.run(stop)))
    }
}
