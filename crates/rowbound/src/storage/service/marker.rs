//! The marker: the file that proves that the service is there and which storage it is.

use opendal::ErrorKind;

use super::{Inner, stat::PathStat, wire::Failure};
use crate::{
    error::{Error, Kind, Result, Retry},
    name::RESERVED,
    storage::{MARKER, Marker},
};

impl Inner {
    /// The marker. A service that cannot be reached is an error, never "no marker".
    pub(super) async fn read_marker(&self) -> Result<Option<Marker>> {
        self.read_marker_at(&self.own(MARKER)).await
    }

    /// The marker at this path.
    pub(super) async fn read_marker_at(&self, path: &str) -> Result<Option<Marker>> {
        let bytes = match self.wire.call(|| self.wire.op.read(path)).await {
            Ok(bytes) => bytes.to_vec(),
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(self.unreachable(&e)),
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|e| {
            self.error(Kind::StorageUnreachable, "the storage's marker cannot be read")
                .with("path", path)
                .because(e)
                .hint("if it stays so: put the marker back from a backup, or delete it and run `rowbound attach --adopt-storage`")
        })
    }

    fn unreachable(&self, failure: &Failure) -> Error {
        match failure.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ConfigInvalid | ErrorKind::Unsupported => {
                self.broke(failure, "cannot read the storage's marker").with("url", &self.url)
            }
            _ => self
                .error(Kind::StorageUnreachable, "the service does not answer")
                .with("url", &self.url)
                .because(self.wire.hushed(failure))
                .hint("is the service up, and are the address and the login in `url` right?"),
        }
    }

    pub(super) async fn write_marker(&self, marker: &Marker) -> Result<()> {
        let path = self.own(MARKER);
        let before = self.read_marker().await?;
        if marker.proved.is_none() {
            self.try_deleting().await?;
        }
        let mut bytes = serde_json::to_vec_pretty(marker).expect("a marker is JSON");
        bytes.push(b'\n');
        let busy = || self.error(Kind::Busy, "somebody else wrote the storage's marker in this moment").hint("run the same command again");
        let new = before.is_none() && marker.proved.as_ref().is_some_and(|p| p.create);
        let written = if new {
            self.wire.once(async { self.wire.op.write_with(&path, bytes.clone()).if_not_exists(true).await }).await
        } else {
            self.wire.call(|| self.wire.op.write(&path, bytes.clone())).await
        };
        match written {
            Err(e) if matches!(e.kind(), ErrorKind::ConditionNotMatch | ErrorKind::AlreadyExists) => return Err(busy()),
            Err(e) => return Err(self.broke(&e, "cannot write the storage's marker").with("path", &path)),
            Ok(_) => {}
        }
        match self.read_marker().await? {
            Some(read) if read == *marker => Ok(()),
            _ => Err(busy()),
        }
    }

    /// Removes the marker, if it is `there`, and what has nothing in it; the rest of the trash stays and is counted.
    pub(super) async fn remove_marker(&self, there: bool) -> Result<u64> {
        let left = self.count_trash().await?;
        let path = self.own(MARKER);
        if there {
            self.erase(&path).await.map_err(|e| self.broke(&e, "cannot remove the storage's marker").with("path", &path))?;
        }
        if left == 0 && self.has_folders() {
            // A folder that is not empty stays, whoever put something into it.
            let _ = self.prune(&self.own("")).await;
        }
        Ok(left)
    }

    /// Deletes a file of Rowbound's own, and looks whether it is gone. `false` if it was not there.
    pub(super) async fn erase(&self, path: &str) -> Result<bool, Failure> {
        debug_assert!(path.starts_with(RESERVED));
        if self.stat(path).await? == PathStat::Missing {
            return Ok(false);
        }
        let deleted = self.wire.call(|| self.wire.op.delete(path)).await;
        match (self.stat(path).await?, deleted) {
            (PathStat::Missing, _) => Ok(true),
            (_, Err(e)) => Err(e),
            (_, Ok(())) => Err(Failure::new(ErrorKind::Unexpected, "the service said that it deleted the file, but it is there")),
        }
    }

    /// Removes folders of Rowbound's own that hold no file, the deepest first. `false` if there is a file.
    pub(super) async fn prune(&self, folder: &str) -> Result<bool, Failure> {
        debug_assert!(folder.starts_with(RESERVED) && folder.ends_with('/'));
        let mut empty = true;
        for (path, mode) in self.entries(folder).await? {
            empty &= mode.is_dir() && path.starts_with(folder) && Box::pin(self.prune(&path)).await?;
        }
        if empty && self.has_folders() {
            self.wire.call(|| self.wire.op.delete(folder)).await?;
        }
        Ok(empty)
    }

    /// Writes and deletes.
    pub(super) async fn try_deleting(&self) -> Result<()> {
        let folder = self.own(&format!("probe-{:08x}/", rand::random::<u32>()));
        let path = format!("{folder}probe");
        let tried = async {
            self.wire.call(|| self.wire.op.write(&path, "probe\n")).await.map_err(|e| self.broke(&e, "cannot write"))?;
            self.erase(&path).await.map_err(|e| self.broke(&e, "cannot delete"))
        };
        tried.await?;
        self.prune(&folder).await.map_err(|e| self.broke(&e, "cannot remove a folder"))?;
        Ok(())
    }

    /// The error of an operation that came to nothing for a reason that will not go away.
    pub(super) fn refuse(&self, message: &str, hint: &str) -> Error {
        self.error(Kind::Config, message).with("url", &self.url).retry(Retry::Never).hint(hint)
    }
}
