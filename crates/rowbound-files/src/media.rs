//! What an application opens at its start: the database, the storages, the fields.
//!
//! In: `rowbound.toml`, the environment or calls, and the application's fields. Out: [`Media`], from which each field gets its [`Files`]. Promise: what is
//! bound in the database is what the fields say; an application that is not attached, or whose storage is another one, does not start.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use rowbound::{
    Binding, Collector, Plan, StoragePlan, Worker,
    attach::{Consent, attach, is_meant, open_storages},
    binding::Column,
    capture::Reliance,
    collect::Settings,
    database::{self, Database, Options, Pool},
    plan::PlanBuilder,
};

use crate::{
    error::{Error, Kind, Result},
    field::{Field, FieldOptions},
    files::Files,
    store::{Storages, Store},
    value::Value,
};

/// The environment's variable that names the configuration.
pub const CONFIG: &str = "ROWBOUND_CONFIG";

/// An application's files: cheap to clone, for the state of a server.
#[derive(Debug, Clone)]
pub struct Media {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    plan: Plan,
    db: Arc<dyn Database>,
    storages: Storages,
    /// Column and storage of each field.
    fields: Vec<(String, String)>,
    /// The number of each binding, by its key.
    numbers: BTreeMap<String, i32>,
}

/// Gathers what [`Media`] is opened with.
#[derive(Debug, Clone)]
pub struct Builder {
    plan: PlanBuilder,
    /// The application's pool, where there is one: then the plan's URL is for people.
    pool: Option<Pool>,
    options: Options,
    /// Bindings that may be dropped.
    drop: Vec<String>,
    fields: Vec<(Arc<FieldOptions>, Binding)>,
    wrong: Option<Arc<Error>>,
}

impl Media {
    /// Begins with the database at `url`, as in `rowbound.toml`. The storages are added by [`Builder::storage`].
    pub fn builder(url: impl Into<String>) -> Builder {
        Self::with(Plan::builder(url))
    }

    /// Begins with the database on which the application has a pool of sqlx 0.9, whether it made it itself or an ORM did. Rowbound opens a few
    /// connections of its own beside it, with what the pool connects with; the pool's are not touched: see [`database::beside`].
    pub fn beside(pool: impl Into<Pool>) -> Builder {
        Self::with(Plan::builder("")).beside(pool)
    }

    fn with(plan: PlanBuilder) -> Builder {
        Builder { plan, pool: None, options: Options::default(), drop: Vec::new(), fields: Vec::new(), wrong: None }
    }

    /// Begins with what stands in a `rowbound.toml`, which needs no bindings for the columns of the application's fields. `database` overrides the
    /// file's, and so does [`Builder::beside`].
    ///
    /// # Errors
    /// [`Kind::Config`] names file, field and value.
    pub fn config(file: impl AsRef<Path>, database: Option<&str>) -> Result<Builder> {
        Ok(Self::with(PlanBuilder::load(file.as_ref(), database)?))
    }

    /// The same with the file that `ROWBOUND_CONFIG` names, or `rowbound.toml`, and the database of `DATABASE_URL` if the file names none. Without a file, the storage
    /// `default` is `ROWBOUND_STORAGE` (a storage's `url`), with `ROWBOUND_BASE_URL` as its `base_url`.
    ///
    /// # Errors
    /// As [`Media::config`].
    pub fn from_env() -> Result<Builder> {
        let var = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let database = var("DATABASE_URL");
        let file = var(CONFIG).unwrap_or_else(|| rowbound::plan::FILE.to_owned());
        match (var("ROWBOUND_STORAGE"), &database) {
            // Without a database, one is named by `Builder::beside`.
            (Some(url), database) if var(CONFIG).is_none() && (database.is_some() || !Path::new(&file).exists()) => {
                let mut storage = StoragePlan::url_at("default", &url)?;
                storage.base_url = var("ROWBOUND_BASE_URL");
                Ok(Self::builder(database.clone().unwrap_or_default()).storage(storage))
            }
            (_, Some(url)) => {
                let builder = Self::config(file, None)?;
                Ok(Builder { plan: builder.plan.database_or(url), ..builder })
            }
            (_, None) => Self::config(file, None),
        }
    }

    /// The files of a field.
    ///
    /// # Errors
    /// [`Kind::Config`] where the field was not among those with which this was opened: its column would have no capture.
    pub fn files<T: Value>(&self, field: &Field<T>) -> Result<Files<T>> {
        // With its storage: in another one nobody would look for the column's references.
        if !self.inner.fields.iter().any(|(column, storage)| *column == field.options.column && *storage == field.options.storage) {
            return Err(Error::new(Kind::Config, "the field was not among those with which this was opened")
                .with("field", field.column())
                .with("storage", &field.options.storage)
                .hint("add .field(&..) to the builder"));
        }
        let key = field.binding()?.key();
        let store = self.inner.storages.get(&field.options.storage)?;
        let store = self.inner.numbers.get(&key).map_or_else(|| store.clone(), |number| store.relying(*number));
        Ok(Files { field: field.clone(), store })
    }

    /// The storages.
    pub fn storages(&self) -> &Storages {
        &self.inner.storages
    }

    /// The plan: for workers, and to see the bindings.
    pub fn plan(&self) -> &Plan {
        &self.inner.plan
    }

    /// The database, as the engine sees it.
    pub fn database(&self) -> &Arc<dyn Database> {
        &self.inner.db
    }

    /// Starts collecting on the current runtime, for an application that has no `rowbound run` beside it. What is away (the database, a storage, on
    /// SQLite the right to be the only one that collects) is waited for: [`Worker::health`] says how healthy it is.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(&self, settings: Settings) -> Worker {
        Worker::start(self.inner.plan.clone(), self.inner.db.clone(), settings)
    }

    /// A collector on the same plan, for who wants to drive it himself: `collector.drain(..)`, `Arc::new(collector).run(stop)`.
    ///
    /// # Errors
    /// As [`Collector::new`].
    pub async fn collector(&self, settings: Settings) -> Result<Collector> {
        Ok(Collector::new(&self.inner.plan, self.inner.db.clone(), settings).await?)
    }
}

impl Builder {
    /// Adds a storage.
    pub fn storage(mut self, storage: StoragePlan) -> Self {
        self.plan = self.plan.storage(storage);
        self
    }

    /// Adds a field, and with it the binding of its column. One that the configuration has already stays as it is there, with the field's `keep` and
    /// `derivatives` added.
    pub fn field<T: Value>(mut self, field: &Field<T>) -> Self {
        match field.options.check().and_then(|()| field.binding()) {
            Ok(binding) => self.fields.push((field.options.clone(), binding)),
            Err(e) => self.wrong = Some(self.wrong.unwrap_or_else(|| Arc::new(e))),
        }
        self
    }

    /// Adds a binding that is no field: a column of another kind, which references files too.
    pub fn binding(mut self, binding: Binding) -> Self {
        self.plan = self.plan.binding(binding);
        self
    }

    /// Takes the database of the application's pool, whatever the configuration says: see [`Media::beside`].
    pub fn beside(mut self, pool: impl Into<Pool>) -> Self {
        let pool = pool.into();
        self.plan = self.plan.database(pool.url());
        self.pool = Some(pool);
        self
    }

    /// How many connections of its own Rowbound opens at most: a worker uses up to three for each storage, an upload one for a moment. Default: 6.
    pub fn connections(mut self, count: u32) -> Self {
        self.options.connections = count;
        self
    }

    /// Says that names of files may stand in a column and are no references there: a title, a text in which a person mentions one.
    pub fn ignore(mut self, column: Column) -> Self {
        self.plan = self.plan.ignore(column);
        self
    }

    /// Says that the binding of a column (`table.column`, or the name of a query) that was attached before goes with [`Builder::attach`], which refuses to
    /// drop one otherwise: it may be that of another program on this database. Where it is gone already, or never was, this says nothing.
    pub fn drop_binding(mut self, column: impl Into<String>) -> Self {
        self.drop.push(column.into());
        self
    }

    /// The plan, checked.
    ///
    /// # Errors
    /// [`Kind::Config`] names the field and the value.
    pub fn plan(self) -> Result<Plan> {
        if let Some(e) = self.wrong {
            return Err(Error::new(e.kind(), e.to_string()).hint(e.hint_text().unwrap_or_default()));
        }
        let mut plan = self.plan;
        for (_, binding) in self.fields {
            plan = plan.bind(binding)?;
        }
        Ok(plan.build()?)
    }

    /// Opens what `rowbound attach` has attached.
    ///
    /// # Errors
    /// [`Kind::Config`]; [`Kind::Engine`]: `NotAttached` names the command that helps, `StorageUnreachable` a storage that is not the one that was attached.
    pub async fn open(self) -> Result<Media> {
        let (plan, db, fields) = self.connected().await?;
        Self::opened(plan, db, fields).await
    }

    /// Attaches, as `rowbound attach` does, then opens: for tests, examples, and applications that migrate at their start. A binding that is attached and that this
    /// does not have is never dropped unless [`Builder::drop_binding`] says so: several programs on one database each declare the columns of all.
    ///
    /// # Errors
    /// As [`Builder::open`], and those of [`attach`].
    pub async fn attach(self) -> Result<Media> {
        let mut drop = self.drop.clone();
        let (plan, db, fields) = self.connected().await?;
        if !drop.is_empty() {
            let keys: Vec<String> = db.installation().await?.map_or_else(Vec::new, |record| record.bindings.into_keys().collect());
            drop.retain(|word| keys.iter().any(|key| is_meant(key, word)));
        }
        attach(&plan, db.as_ref(), &Consent { drop, ..Consent::default() }).await?;
        Self::opened(plan, db, fields).await
    }

    async fn connected(self) -> Result<(Plan, Arc<dyn Database>, Vec<(String, String)>)> {
        let fields = self.fields.iter().map(|(options, _)| (options.column.clone(), options.storage.clone())).collect();
        let (pool, options) = (self.pool.clone(), self.options.clone());
        let plan = self.plan()?;
        let options = Options { ignored: plan.ignored_sessions.clone(), ..options };
        let db = match pool {
            Some(pool) => database::beside(pool, &options).await?,
            None => database::open(&plan.database, &options).await?,
        };
        Ok((plan, db, fields))
    }

    async fn opened(plan: Plan, db: Arc<dyn Database>, fields: Vec<(String, String)>) -> Result<Media> {
        let record = rowbound::collect::attached(&plan, db.as_ref()).await?;
        let mut stores = BTreeMap::new();
        for (name, storage) in open_storages(&plan)? {
            let id = record.storages.get(&name).ok_or_else(|| {
                rowbound::Error::new(rowbound::Kind::NotAttached, "this storage is not attached yet")
                    .with("storage", &name)
                    .hint("rowbound attach")
            })?;
            storage.expect(id);
            storage.verify_marker().await?;
            // Whose row shall name a file that is stored without a field, nobody knows: any that may.
            let bindings = plan.on_storage(&name).filter_map(|b| record.bindings.get(&b.key()).copied()).collect();
            let reliance = Reliance { installation: record.id.clone(), bindings };
            stores.insert(name.clone(), Store::new(plan.storages[&name].clone(), storage, db.clone(), reliance));
        }
        Ok(Media { inner: Arc::new(Inner { plan, db, storages: Storages::new(stores), fields, numbers: record.bindings }) })
    }
}
