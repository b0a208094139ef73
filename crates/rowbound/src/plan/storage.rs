//! A storage of the plan: where its files lie, and how long each waits for what.
//!
//! In: a name, a place, and fields that differ from the defaults. Out: a [`StoragePlan`]. Promise: an upload waits for its row no longer than `min_age`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::location::{self, Location};
use crate::error::{Error, Kind, Result};

/// How long an upload waits for its row, by default.
pub const STAGE_TTL: Duration = Duration::from_secs(3600);

/// With `trash = "off"`, collected files are held so long before they are erased.
pub const HOLD: Duration = Duration::from_secs(60);

/// Whether collected files wait before they are erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trash {
    /// They are held for a moment ([`HOLD`]), then erased. Where they cannot be held they are erased at once.
    Off,
    /// They wait so long.
    Keep(Duration),
    /// They wait so long in a bucket that keeps versions; elsewhere they are erased at once.
    IfVersioned(Duration),
}

impl Trash {
    /// How long files wait, or `None` if they are only held for a moment.
    pub fn retention(self) -> Option<Duration> {
        match self {
            Trash::Off => None,
            Trash::Keep(time) | Trash::IfVersioned(time) => Some(time),
        }
    }

    /// How long a collected file can come back: its retention, or without a trash a minute ([`HOLD`]), because no barrier sees a transaction that looked
    /// at the file before its first statement.
    pub fn hold(self) -> Duration {
        self.retention().unwrap_or_else(|| crate::crash::hold(HOLD))
    }
}

/// What is erased in a bucket that keeps versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Erase {
    /// Nothing at once: a deletion leaves a marker, and the versions beneath go after the retention.
    #[default]
    AfterRetention,
    /// Every version, at once: what a right to erasure asks for.
    AllVersions,
}

/// A storage of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoragePlan {
    /// Its name in the plan.
    pub name: String,
    /// Where it is.
    pub location: Location,
    /// How long a released name waits before it is looked at. Default: 10 s.
    pub grace: Duration,
    /// A file younger than this and newer than its release is left alone. Default: 1 h.
    pub min_age: Duration,
    /// Default: kept for 1 day; on S3 and services, only where the bucket keeps versions.
    pub trash: Trash,
    /// What is erased of a file whose bucket keeps versions.
    pub erase: Erase,
    /// Whether folders that a deletion leaves empty are removed (never the root). Default: yes.
    pub prune_folders: bool,
    /// How long an upload waits for its row: [`StoragePlan::staged_for`].
    pub stage_ttl: Option<Duration>,
    /// Under which URL the files can be had, if they can: it ends with `/`, and a name follows, percent-encoded.
    pub base_url: Option<String>,
    /// Files that the sweep leaves alone, because they are somebody else's; `*` also matches `/`.
    pub ignore: Vec<String>,
}

impl StoragePlan {
    /// A folder with the defaults.
    pub fn folder(name: &str, root: impl Into<PathBuf>) -> Self {
        Self::at(name, Location::Folder(root.into()))
    }

    /// Any place with the defaults.
    pub fn at(name: &str, location: Location) -> Self {
        let day = Duration::from_secs(86_400);
        StoragePlan {
            name: name.to_owned(),
            trash: match location {
                Location::Folder(_) | Location::Memory(_) => Trash::Keep(day),
                Location::S3(_) | Location::Service(_) => Trash::IfVersioned(day),
            },
            location,
            grace: Duration::from_secs(10),
            min_age: Duration::from_secs(3600),
            erase: Erase::AfterRetention,
            prune_folders: true,
            stage_ttl: None,
            base_url: None,
            ignore: Vec::new(),
        }
    }

    /// The place that `url` names, with the defaults. A relative folder is taken from the working directory.
    ///
    /// # Errors
    /// As [`Location::parse`].
    pub fn url_at(name: &str, url: &str) -> Result<Self> {
        Ok(Self::at(name, Location::parse(url, Path::new("")).map_err(|e| e.with("storage", name))?))
    }

    /// Sets `erase`.
    pub fn erase(mut self, erase: Erase) -> Self {
        self.erase = erase;
        self
    }

    /// Sets `grace`.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Sets `min_age`.
    pub fn min_age(mut self, min_age: Duration) -> Self {
        self.min_age = min_age;
        self
    }

    /// Sets `trash`.
    pub fn trash(mut self, trash: Trash) -> Self {
        self.trash = trash;
        self
    }

    /// Sets `prune_folders`.
    pub fn prune_folders(mut self, prune: bool) -> Self {
        self.prune_folders = prune;
        self
    }

    /// Sets `stage_ttl`.
    pub fn stage_ttl(mut self, ttl: Duration) -> Self {
        self.stage_ttl = Some(ttl);
        self
    }

    /// Sets `base_url`: `https://cdn.example.com/media/` or `/media/`.
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = Some(url.into());
        self
    }

    /// How long an upload waits for its row before it is collected. Default: 1 h, or `min_age` where that is less. It cannot be more than `min_age`: an
    /// older release of the same name may be collected as soon as the new file has that age, whatever was announced for the new one.
    pub fn staged_for(&self) -> Duration {
        self.stage_ttl.unwrap_or(STAGE_TTL.min(self.min_age))
    }

    /// Adds patterns of files that the sweep leaves alone.
    pub fn ignore<S: Into<String>>(mut self, patterns: impl IntoIterator<Item = S>) -> Self {
        self.ignore.extend(patterns.into_iter().map(Into::into));
        self
    }

    pub(super) fn check_uploads(&self) -> Result<()> {
        if let Some(ttl) = self.stage_ttl.filter(|ttl| *ttl > self.min_age || ttl.is_zero()) {
            return Err(Error::new(Kind::Config, "`stage_ttl` must be more than nothing and at most `min_age`")
                .with("storage", &self.name)
                .with("stage_ttl", format_args!("{ttl:?}"))
                .with("min_age", format_args!("{:?}", self.min_age))
                .hint("raise min_age: where a name is used again, a new file is safe from what was released under it only for min_age"));
        }
        if let Some(url) = self.base_url.as_ref().filter(|url| !url.ends_with('/') || url.contains(['?', '#'])) {
            return Err(Error::new(Kind::Config, "`base_url` must end with `/` and hold no `?` or `#`")
                .with("storage", &self.name)
                .with("base_url", format_args!("{url:?}"))
                .hint("write what stands before a file's name: \"/media/\" or \"https://cdn.example.com/media/\""));
        }
        Ok(())
    }

    /// The location as it would stand in `url`, without what could be a secret.
    pub fn url(&self) -> String {
        location::shown(&self.location.to_url())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;

    fn plan(storage: &str) -> Result<Plan> {
        let text = format!("database = \"sqlite:x\"\n[storage.default]\nurl = \"folder:m\"\n{storage}\n[[binding]]\ncolumn = \"t.f\"");
        Plan::parse(&text, Path::new("/"), None, &|_| None)
    }

    #[test]
    fn an_upload_waits_an_hour_but_never_longer_than_min_age() {
        for (storage, seconds) in [
            ("", 3600),
            ("min_age = \"2h\"", 3600),
            ("min_age = \"5m\"", 300),
            ("min_age = \"0\"", 0),
            ("stage_ttl = \"10m\"", 600),
            ("stage_ttl = \"1d\"\nmin_age = \"1d\"", 86_400),
        ] {
            assert_eq!(plan(storage).unwrap().storages["default"].staged_for(), Duration::from_secs(seconds), "{storage}");
        }
        for storage in [
            "stage_ttl = \"2h\"",
            "stage_ttl = \"0\"",
            "stage_ttl = \"10m\"\nmin_age = \"5m\"",
            "base_url = \"/media\"",
            "base_url = \"/m/?a=/\"",
        ] {
            assert_eq!(plan(storage).unwrap_err().kind(), Kind::Config, "{storage}");
        }
    }
}
