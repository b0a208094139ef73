//! Storages for applications: what Django's `Storage` offers, with nothing left over.
//!
//! In: names and bytes. Out: files, each of which is announced as a candidate before it can be seen. Promise: a file that is there is never
//! overwritten unless that is asked for; nothing is deleted here, ever: [`Store::delete`] lets go, and the collector decides.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use rowbound::{
    FileName, StoragePlan,
    capture::Reliance,
    crash,
    database::Database,
    plan::{Location, Trash},
    queue::Announce,
    storage::{About, Access, Listing, Look, Over, Placed, Seen, Storage},
};

pub use rowbound::storage::{Fetched, Signed};

use crate::{
    error::{Error, Kind, Result},
    kind::media_type,
    names,
    upload::{Open, Upload},
};

/// How many names are tried before it is said that none is free.
const TRIES: u32 = 20;

/// A storage of the plan, opened.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) plan: Arc<StoragePlan>,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) db: Arc<dyn Database>,
    /// What must be attached still whenever something is announced.
    reliance: Arc<Reliance>,
}

/// All storages of a plan.
#[derive(Debug, Clone)]
pub struct Storages(Arc<BTreeMap<String, Store>>);

impl Storages {
    pub(crate) fn new(stores: BTreeMap<String, Store>) -> Self {
        Storages(Arc::new(stores))
    }

    /// The storage that is called `default`, or the only one.
    ///
    /// # Errors
    /// [`Kind::Config`] where there are several and none is called so.
    pub fn default(&self) -> Result<&Store> {
        match self.0.get("default") {
            Some(store) => Ok(store),
            None if self.0.len() == 1 => Ok(self.0.values().next().expect("there is one")),
            None => self.get("default"),
        }
    }

    /// The storage of this name.
    ///
    /// # Errors
    /// [`Kind::Config`] lists those that there are.
    pub fn get(&self, name: &str) -> Result<&Store> {
        self.0.get(name).ok_or_else(|| {
            let known: Vec<_> = self.0.keys().cloned().collect();
            Error::new(Kind::Config, "the plan has no such storage")
                .with("storage", format_args!("{name:?}"))
                .hint(format!("known are: {}", known.join(", ")))
        })
    }

    /// Every storage, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Store)> {
        self.0.iter().map(|(name, store)| (name.as_str(), store))
    }
}

/// What [`Store::place`] must know of a file.
pub(crate) struct Wanted<'a> {
    pub(crate) name: &'a FileName,
    pub(crate) about: About,
    pub(crate) max_size: u64,
    pub(crate) max_length: usize,
}

impl Store {
    pub(crate) fn new(plan: StoragePlan, storage: Arc<dyn Storage>, db: Arc<dyn Database>, reliance: Reliance) -> Self {
        Store { plan: Arc::new(plan), storage, db, reliance: Arc::new(reliance) }
    }

    /// The same, relying on one binding alone: that of the column whose rows name the files.
    pub(crate) fn relying(&self, binding: i32) -> Self {
        let reliance = Reliance { installation: self.reliance.installation.clone(), bindings: vec![binding] };
        Store { reliance: Arc::new(reliance), ..self.clone() }
    }

    /// Its name in the plan.
    pub fn name(&self) -> &str {
        &self.plan.name
    }

    /// Saves a file under `name`, or, where something has that name, under one with a random suffix (`photo_x3Bk9aQ.jpg`); returns the one it has. It is staged:
    /// unless a row names it within `stage_ttl`, it is collected.
    ///
    /// # Errors
    /// [`Kind::Cut`]; [`Kind::Engine`].
    pub async fn save(&self, name: &FileName, upload: Upload) -> Result<FileName> {
        let mut open = upload.open().await?;
        let about = About { content_type: Some(media_type(&open.head, name.base()).to_owned()), cache_control: None };
        let wanted = Wanted { name, about, max_size: u64::MAX, max_length: usize::MAX };
        self.place(wanted, &mut open).await
    }

    /// Writes a file under exactly this name, replacing one that is there, in one step. Nothing is staged: for files that no row names, in a
    /// storage, or under names, that no sweep takes for orphans.
    ///
    /// # Errors
    /// As [`Store::save`].
    pub async fn replace(&self, name: &FileName, upload: Upload) -> Result<()> {
        let mut open = upload.open().await?;
        let about = About { content_type: Some(media_type(&open.head, name.base()).to_owned()), cache_control: None };
        let mut incoming = self.storage.begin(name, &about).await?;
        while let Some(piece) = open.next(u64::MAX).await? {
            incoming.write(piece).await?;
        }
        incoming.place(name, Over::Whatever).await?;
        Ok(())
    }

    /// The four steps of every upload: bytes to where nobody sees them, a free name, the candidate, the name.
    pub(crate) async fn place(&self, wanted: Wanted<'_>, open: &mut Open) -> Result<FileName> {
        let ttl = self.ttl()?;
        let mut name = self.free(wanted.name, wanted.max_length).await?;
        let mut incoming = self.storage.begin(&name, &wanted.about).await?;
        while let Some(piece) = open.next(wanted.max_size).await? {
            incoming.write(piece).await?;
        }
        for _ in 0..TRIES {
            self.announce("stage", &name, ttl).await?;
            let announced = Instant::now();
            crash::point("staged");
            if incoming.place(&name, Over::Nothing).await? == Placed::There {
                // Whoever was stopped for so long may have been taken for one that died: what came due found no file.
                if announced.elapsed() > ttl / 2 {
                    self.announce("stage", &name, ttl).await?;
                }
                return Ok(name);
            }
            name = self.free(&names::fitted(wanted.name, wanted.max_length, true)?, wanted.max_length).await?;
        }
        Err(no_name(wanted.name))
    }

    /// How long a file waits for its row.
    fn ttl(&self) -> Result<Duration> {
        let ttl = self.plan.staged_for();
        match ttl.is_zero() {
            false => Ok(ttl),
            true => Err(Error::new(Kind::Config, "`min_age` is nothing: an upload could be collected before its row is committed")
                .with("storage", self.name())
                .hint("set min_age, and with it stage_ttl, to the time that a form takes at most: 1h")),
        }
    }

    pub(crate) async fn announce(&self, event: &'static str, name: &FileName, wait: Duration) -> Result<()> {
        let item = Announce { storage: self.plan.name.clone(), name: name.clone(), event, wait };
        self.db.announce_relying(&[item], &self.reliance).await.map_err(|e| match e.kind() {
            // Whoever reads no more than the first sentence shall know it.
            rowbound::Kind::NotAttached => {
                let hint = e.hint_text().unwrap_or("rowbound attach").to_owned();
                Error::new(Kind::Engine(e.kind()), e.to_string()).hint(hint).because(e)
            }
            _ => e.into(),
        })
    }

    /// `name`, or one with a random suffix, under which nothing lies now: Django's `get_available_name`.
    ///
    /// # Errors
    /// [`Kind::Name`] where none is short enough; [`Kind::Engine`].
    pub async fn available_name(&self, name: &FileName, max_length: usize) -> Result<FileName> {
        self.free(name, max_length).await
    }

    async fn free(&self, wanted: &FileName, max_length: usize) -> Result<FileName> {
        let mut name = names::fitted(wanted, max_length, false)?;
        for _ in 0..TRIES {
            if self.look(&name).await? == Look::Missing && !self.in_trash(&name).await? {
                return Ok(name);
            }
            name = names::fitted(wanted, max_length, true)?;
        }
        Err(no_name(wanted))
    }

    /// Whether an earlier file of this name lies in the trash. A transaction that found that file may commit a row which references the name: it must not get
    /// another file's content, and the earlier file must be able to come back.
    async fn in_trash(&self, name: &FileName) -> Result<bool> {
        if self.plan.trash == Trash::Off && !self.storage.quick() {
            return Ok(false);
        }
        Ok(self.storage.trashed(std::slice::from_ref(name)).await?.remove(0)?.is_some())
    }

    async fn look(&self, name: &FileName) -> Result<Look> {
        Ok(self.storage.look(std::slice::from_ref(name)).await?.remove(0)?)
    }

    async fn seen(&self, name: &FileName) -> Result<Seen> {
        match self.look(name).await? {
            Look::Seen(seen) => Ok(seen),
            Look::Missing => Err(missing(name)),
            Look::Refused(why) => Err(missing(name).because(why)),
        }
    }

    /// The file's bytes as they come, in constant memory.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; [`Kind::Engine`].
    pub async fn open(&self, name: &FileName) -> Result<Fetched> {
        self.storage.fetch(name).await?.ok_or_else(|| missing(name))
    }

    /// Whether there is such a file.
    ///
    /// # Errors
    /// [`Kind::Engine`] when that could not be told: never a "no" instead.
    pub async fn exists(&self, name: &FileName) -> Result<bool> {
        Ok(matches!(self.look(name).await?, Look::Seen(_)))
    }

    /// Lets go of a file: it becomes a candidate, which the collector deletes if, and only if, no row names it. A file younger than `min_age` waits until
    /// it has that age.
    ///
    /// # Errors
    /// [`Kind::Engine`].
    pub async fn delete(&self, name: &FileName) -> Result<()> {
        self.announce("release", name, self.plan.grace).await
    }

    /// Its size in bytes.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn size(&self, name: &FileName) -> Result<u64> {
        Ok(self.seen(name).await?.size)
    }

    /// When it was written, by the storage's clock.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn modified(&self, name: &FileName) -> Result<jiff::Timestamp> {
        Ok(self.seen(name).await?.modified)
    }

    /// Where it can be had: `base_url` and the name, percent-encoded.
    ///
    /// # Errors
    /// [`Kind::Config`] where the storage has no `base_url`.
    pub fn url(&self, name: &FileName) -> Result<String> {
        match &self.plan.base_url {
            Some(base) => Ok(format!("{base}{}", name.url_path())),
            None => Err(Error::new(Kind::Config, "the storage has no `base_url`")
                .with("storage", self.name())
                .hint("set base_url = \"/media/\" and serve the files there; or, on S3, ask for a presigned URL")),
        }
    }

    /// A URL that lets its holder read the file for `ttl`.
    ///
    /// # Errors
    /// [`Kind::Config`] where the storage has none (folders).
    pub async fn presigned_url(&self, name: &FileName, ttl: Duration) -> Result<String> {
        Ok(self.storage.sign(name, &Access::Get, ttl).await?.url)
    }

    /// Files whose names begin with `prefix` (bytes, not folders), in bytewise order, as they come: [`Listing`].
    ///
    /// # Errors
    /// [`Kind::Engine`].
    pub async fn list(&self, prefix: &str) -> Result<Listing> {
        Ok(self.storage.list(prefix, None).await?)
    }

    /// Its path on this machine; folders only.
    ///
    /// # Errors
    /// [`Kind::Config`] for other storages.
    pub fn path(&self, name: &FileName) -> Result<PathBuf> {
        match &self.plan.location {
            Location::Folder(root) => Ok(root.join(name.as_str())),
            _ => Err(Error::new(Kind::Config, "files of this storage have no path on this machine")
                .with("storage", self.name())
                .hint("open the file instead")),
        }
    }
}

fn missing(name: &FileName) -> Error {
    Error::new(Kind::NotFound, "there is no such file").with("name", name)
}

fn no_name(name: &FileName) -> Error {
    Error::new(Kind::Name, "no name was free").with("name", name).hint("names come from `upload_to` and the upload: let them differ more")
}
