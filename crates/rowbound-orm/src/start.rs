//! Rowbound within the application: the files of its entities, the collector, the receivers after the commit.
//!
//! In: the application's connection. Out: [`Rowbound`], which collects until it is dropped. Promise: every column with `#[file]` is bound; an application that is not
//! attached, or whose storage is another one, does not start.

use std::{
    path::Path,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use rowbound::{Binding, Health, StoragePlan, Worker, binding::Column, collect::Settings, database::Pool};
use rowbound_files::{Builder as MediaBuilder, Error, Files, Kind, Media, Result, Value};
use sea_orm::{DatabaseConnection, DbBackend, EntityTrait};
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    commit,
    field::{AnyField, FileColumn},
    registry, running,
};

/// What an application keeps as long as it runs. Dropping it stops the collector: what is under way is finished.
#[derive(Debug)]
pub struct Rowbound {
    number: u64,
    media: Media,
    worker: Option<Worker>,
    stop: watch::Sender<bool>,
    followers: Vec<JoinHandle<()>>,
}

/// Says how [`Rowbound`] is started.
#[derive(Debug)]
pub struct Builder {
    media: MediaBuilder,
    modules: Option<String>,
    attach: bool,
    collect: Option<Settings>,
    receive: bool,
}

impl Rowbound {
    /// Starts with the storages of `rowbound.toml` (or of `ROWBOUND_CONFIG`, or of `ROWBOUND_STORAGE` and `ROWBOUND_BASE_URL`) on the database that `db` is connected to, which
    /// `rowbound attach` was run on. [`Rowbound::builder`] says it otherwise.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let db = sea_orm::Database::connect("sqlite:blog.sqlite3").await?;
    /// let _rowbound = rowbound_orm::Rowbound::start(&db).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Builder::start`].
    pub async fn start(db: &DatabaseConnection) -> Result<Rowbound> {
        Self::configured(db)?.start().await
    }

    /// The same, for what is to be said otherwise.
    ///
    /// # Errors
    /// [`Kind::Config`] names file, field and value.
    pub fn configured(db: &DatabaseConnection) -> Result<Builder> {
        Ok(Self::with(Media::from_env()?.beside(pool(db)?)))
    }

    /// Begins without any configuration: the storages are added by [`Builder::storage`].
    ///
    /// # Errors
    /// [`Kind::Config`] for a connection that has no pool of sqlx.
    pub fn builder(db: &DatabaseConnection) -> Result<Builder> {
        Ok(Self::with(Media::beside(pool(db)?)))
    }

    /// Begins with a `rowbound.toml`.
    ///
    /// # Errors
    /// As [`Rowbound::configured`].
    pub fn config(db: &DatabaseConnection, file: impl AsRef<Path>) -> Result<Builder> {
        // Its own database is overridden: it need not name one.
        let pool = pool(db)?;
        Ok(Self::with(Media::config(file, Some(&pool.url()))?.beside(pool)))
    }

    fn with(media: MediaBuilder) -> Builder {
        Builder { media, modules: None, attach: false, collect: Some(Settings::default()), receive: true }
    }

    /// The fields' storages and database.
    pub fn media(&self) -> &Media {
        &self.media
    }

    /// The files of a column, for an application that has started several.
    ///
    /// # Errors
    /// [`Kind::Config`] where this one does not have the column.
    pub fn files<E: EntityTrait, T: Value>(&self, column: &FileColumn<E, T>) -> Result<Files<T>> {
        self.media.files(&column.field())
    }

    /// The collector's health: for the application's own endpoint. `None` if it does not collect.
    pub async fn health(&self) -> Option<Health> {
        match &self.worker {
            Some(worker) => Some(worker.health().await),
            None => None,
        }
    }

    /// Stops: the batch and the deliveries that are under way are finished when this returns.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        if let Some(worker) = &self.worker {
            worker.stop().await;
        }
        for follower in self.followers.drain(..) {
            if let Err(e) = follower.await {
                tracing::error!(error = %e, "a receiver's follower panicked; its deliveries go on after the next start");
            }
        }
    }
}

impl Drop for Rowbound {
    fn drop(&mut self) {
        running::ended(self.number);
        // They end after what they are at; the worker's own drop does the same.
        self.stop.send_replace(true);
    }
}

impl Builder {
    /// Adds a storage.
    pub fn storage(mut self, storage: StoragePlan) -> Self {
        self.media = self.media.storage(storage);
        self
    }

    /// Adds a binding of a column that is no field of an entity.
    pub fn binding(mut self, binding: Binding) -> Self {
        self.media = self.media.binding(binding);
        self
    }

    /// Says that names of files may stand in a column and are no references there: a title, a text in which a person mentions one.
    pub fn ignore(mut self, column: Column) -> Self {
        self.media = self.media.ignore(column);
        self
    }

    /// Takes the entities of this module and of those beneath it only: `my_app::blog`. Default: all of the program.
    pub fn modules(mut self, path: &str) -> Self {
        self.modules = Some(path.to_owned());
        self
    }

    /// Says that the binding of a column that was attached before goes when this attaches: see `Media`'s builder.
    pub fn drop_binding(mut self, column: impl Into<String>) -> Self {
        self.media = self.media.drop_binding(column);
        self
    }

    /// Attaches first, as `rowbound attach` does. Default: no.
    pub fn attach(mut self, attach: bool) -> Self {
        self.attach = attach;
        self
    }

    /// How it collects; `None`: not at all, because `rowbound run` works beside it. Default: with the default settings.
    pub fn collect(mut self, settings: impl Into<Option<Settings>>) -> Self {
        self.collect = settings.into();
        self
    }

    /// Whether receivers of `OnCommit` hear in this process. Default: yes.
    pub fn receive(mut self, receive: bool) -> Self {
        self.receive = receive;
        self
    }

    /// How many connections of its own it opens at most, beside the application's: see `Media`'s builder.
    pub fn connections(mut self, count: u32) -> Self {
        self.media = self.media.connections(count);
        self
    }

    /// Opens, and starts the collector on the current runtime.
    ///
    /// # Errors
    /// [`Kind::Config`] names field and value, also where no entity has a file; [`Kind::Engine`]: `NotAttached` names the command that helps.
    pub async fn start(self) -> Result<Rowbound> {
        let fields = registry::fields(self.modules.as_deref());
        if fields.is_empty() {
            return Err(Error::new(Kind::Config, "no entity has a #[file] field")
                .with("modules", self.modules.as_deref().unwrap_or("all"))
                .hint("derive Files on a Model; a crate of entities must be used by the program, or it is not linked"));
        }
        let media = fields.iter().fold(self.media, |media, field| match field {
            AnyField::File(field) => media.field(field),
            AnyField::Image(field) => media.field(field),
        });
        let media = if self.attach { media.attach().await? } else { media.open().await? };
        let (stop, stopped) = watch::channel(false);
        let followers = if self.receive { commit::follow(&media, &stopped).await? } else { Vec::new() };
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let number = NUMBERS.fetch_add(1, Relaxed);
        running::started(number, media.clone());
        let worker = self.collect.map(|settings| media.start(settings));
        Ok(Rowbound { number, media, worker, stop, followers })
    }
}

/// The pool beneath a connection of SeaORM.
fn pool(db: &DatabaseConnection) -> Result<Pool> {
    match db.get_database_backend() {
        #[cfg(feature = "sqlite")]
        DbBackend::Sqlite => Ok(db.get_sqlite_connection_pool().into()),
        #[cfg(feature = "postgres")]
        DbBackend::Postgres => Ok(db.get_postgres_connection_pool().into()),
        #[cfg(feature = "mysql")]
        DbBackend::MySql => Ok(db.get_mysql_connection_pool().into()),
        #[allow(unreachable_patterns, reason = "with all features there is no other")]
        other => Err(Error::new(Kind::Config, "rowbound-orm was built without this database")
            .with("database", format_args!("{other:?}"))
            .hint("turn on its feature: sqlite, postgres or mysql")),
    }
}
