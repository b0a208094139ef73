//! Every file, in order.
//!
//! Folder by folder: services list in any order they like, so each folder is read whole and sorted, a subfolder as if its name ended with `/`. That
//! is the order of full names. The memory that it takes is that of the largest folder and those above it.

use std::panic::AssertUnwindSafe;

use futures_util::{FutureExt, TryStreamExt};
use opendal::{EntryMode, ErrorKind};

use super::{
    Inner,
    stat::{self, PathStat},
    wire::Failure,
};
use crate::{
    error::Result,
    name::{FileName, RESERVED},
    storage::{Listed, Pages, SkipReason, whereabouts},
};

impl Inner {
    /// What lies in a folder (`""` or a path that ends with `/`), not beneath: paths from the root, those of folders end with `/`.
    pub(super) async fn entries(&self, folder: &str) -> Result<Vec<(String, EntryMode)>, Failure> {
        // OpenDAL panics where an SFTP server has a name that is not UTF-8.
        let read = AssertUnwindSafe(self.read_folder(folder)).catch_unwind().await;
        let entries = read.unwrap_or_else(|_| {
            Err(Failure::new(ErrorKind::Unexpected, "a name in the folder cannot be read (is it not UTF-8?)")
                .with_context("folder", folder))
        })?;
        let mut found = Vec::with_capacity(entries.len());
        for (path, mode) in entries {
            if path == folder || folder.is_empty() && path == "/" {
                continue; // the folder itself
            }
            // Anything else is the listing of another folder, or of a deeper one.
            let inside = path.strip_prefix(folder).is_some_and(|rest| !rest.is_empty() && !rest.trim_end_matches('/').contains('/'));
            if !inside {
                return Err(Failure::new(ErrorKind::Unexpected, "the service lists a name that does not belong into the folder")
                    .with_context("folder", folder)
                    .with_context("listed", path));
            }
            found.push((path, mode));
        }
        found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    /// Whether what begins with this path (`""`, or it ends with `/`) can have files, but for Rowbound's own.
    async fn is_folder(&self, top: &str) -> Result<bool, Failure> {
        let Some(path) = top.strip_suffix('/') else { return Ok(true) };
        if top.starts_with(&self.own("")) || stat::exact(path).is_err() {
            return Ok(false);
        }
        // Where folders are more than a part of names, the listing of a file as a folder is anything: OpenDAL may even panic.
        Ok(!self.has_folders() || matches!(self.stat(path).await?, PathStat::Other(_)))
    }

    async fn read_folder(&self, folder: &str) -> Result<Vec<(String, EntryMode)>, Failure> {
        let path = if folder.is_empty() { "/" } else { folder };
        // A folder may be long: each answer has its own time.
        let mut lister = self.wire.call(|| self.wire.op.lister(path)).await?;
        let mut found = Vec::new();
        while let Some(entry) = self.wire.step(lister.try_next()).await? {
            let (path, meta) = entry.into_parts();
            found.push((path, meta.mode()));
        }
        Ok(found)
    }

    /// Lists what begins with `prefix` and comes after `after`.
    pub(super) async fn list(&self, prefix: &str, after: Option<&FileName>, pages: &mut Pages) -> Result<()> {
        let after = after.map_or("", FileName::as_str);
        let broke = |e: Failure| self.broke(&e, "the listing could not be completed");
        let top = prefix.rfind('/').map_or("", |at| &prefix[..=at]);
        let ours = self.own("");
        let mut folders = Vec::new();
        if self.is_folder(top).await.map_err(broke)? {
            folders.push(self.entries(top).await.map_err(broke)?.into_iter());
        }
        while let Some(folder) = folders.last_mut() {
            let Some((path, mode)) = folder.next() else {
                folders.pop();
                continue;
            };
            let entry = if let Some(name) = path.strip_suffix('/') {
                let begins = path.starts_with(prefix) || prefix.starts_with(path.as_str());
                let over = path.as_str() < after && !after.starts_with(path.as_str());
                if !begins || over || path == ours {
                    continue;
                }
                // OpenDAL would list another folder in its place, perhaps this one again and again.
                match stat::exact(name).map_err(|_| SkipReason::NotAFile).and_then(|()| FileName::parse(name).map_err(SkipReason::Name)) {
                    Ok(_) => {
                        folders.push(self.entries(&path).await.map_err(broke)?.into_iter());
                        continue;
                    }
                    Err(odd) => Listed::Skipped(path, odd),
                }
            } else if whereabouts::is_marker(&path) {
                let (its, own) = (self.read_marker_at(&path).await.ok().flatten(), self.read_marker().await.ok().flatten());
                return Err(whereabouts::nested(&self.name, &path, its.as_ref(), own.as_ref()));
            } else if path.starts_with(prefix) && (after.is_empty() || path.as_str() > after) && path != RESERVED {
                match (mode, FileName::parse(&path)) {
                    (EntryMode::FILE, Ok(name)) => Listed::File(name),
                    (_, Err(why)) => Listed::Skipped(path, SkipReason::Name(why)),
                    (_, Ok(_)) => Listed::Skipped(path, SkipReason::NotAFile),
                }
            } else {
                continue;
            };
            if !pages.add(entry).await {
                return Ok(()); // nobody listens any more
            }
        }
        Ok(())
    }
}
