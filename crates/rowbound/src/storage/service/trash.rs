//! Where files wait: `.rowbound/trash/MOMENT-RANDOM/NAME`, a folder for each batch, so that folders are in the order of time.

use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;

use super::{
    Inner, Proof,
    stat::{PathStat, alike, exact},
    wire::Failure,
};
use crate::{
    clock,
    error::{Error, Kind, Result},
    name::FileName,
    storage::{Expired, PerName, Restored, Trashed},
};

/// The folder of the trash.
const FOLDER: &str = "trash/";

/// An empty folder of a batch is left to the batch for so long.
const BATCH_TIME: Duration = Duration::from_secs(15 * 60);

/// A new batch's id: its moment in milliseconds, so that ids are in the order of time, and something random.
pub(super) fn batch_id(now: Timestamp) -> String {
    format!("{:013}-{:08x}", now.as_millisecond(), rand::random::<u32>())
}

/// The moment of a batch.
fn moment(batch: &str) -> Option<Timestamp> {
    let (millis, random) = batch.split_once('-')?;
    if millis.len() != 13 || random.len() != 8 {
        return None;
    }
    Timestamp::from_millisecond(millis.parse().ok()?).ok()
}

/// A batch that lies in the trash.
struct TrashBatch {
    id: String,
    at: Timestamp,
}

impl Inner {
    /// Where a file goes, in the trash and as a path.
    pub(super) fn trash_key(&self, batch: &str, name: &FileName) -> (String, String) {
        let place = format!("{batch}/{name}");
        let path = self.own(&format!("{FOLDER}{place}"));
        (place, path)
    }

    /// The path of a file in the trash.
    fn path_of(&self, item: &Trashed) -> Result<String> {
        let batch = item.place.split('/').next().unwrap_or_default();
        let (place, path) = self.trash_key(batch, &item.name);
        if moment(batch).is_none() || place != item.place || self.refusal(&item.name).is_some() {
            return Err(self
                .error(Kind::NotFound, "this is no place in the trash of a service")
                .with("name", &item.name)
                .with("place", format_args!("{:?}", item.place))
                .hint("`rowbound history --name NAME` shows where it went"));
        }
        Ok(path)
    }

    /// The batches in the trash, oldest first.
    async fn batches(&self) -> Result<Vec<TrashBatch>> {
        let folder = self.own(FOLDER);
        let entries = self.entries(&folder).await.map_err(|e| self.broke(&e, "cannot list the trash"))?;
        let batch = |(path, _): (String, _)| {
            let id = path.strip_prefix(&folder)?.strip_suffix('/')?.to_owned();
            moment(&id).map(|at| TrashBatch { id, at }) // what has no moment is not ours
        };
        Ok(entries.into_iter().filter_map(batch).collect())
    }

    /// The latest of each name: the names are looked for in every batch, from the latest on, until they are found.
    pub(super) async fn trashed(&self, names: &[FileName]) -> Result<PerName<Option<Trashed>>> {
        let mut done: PerName<Option<Trashed>> = names.iter().map(|_| Ok(None)).collect();
        let mut left: Vec<usize> = (0..names.len()).filter(|i| self.refusal(&names[*i]).is_none()).collect();
        for batch in self.batches().await?.iter().rev() {
            if left.is_empty() {
                break;
            }
            let found = join_all(left.iter().map(|i| async {
                let (place, path) = self.trash_key(&batch.id, &names[*i]);
                (*i, place, self.stat(&path).await)
            }));
            for (i, place, found) in found.await {
                done[i] = match found {
                    Ok(PathStat::File(seen)) => Ok(Some(Trashed { name: names[i].clone(), place, at: batch.at, size: seen.size })),
                    Ok(PathStat::Missing | PathStat::Other(_)) => continue,
                    Err(e) => Err(self.failed(&e, "cannot look for the file in the trash", &names[i])),
                };
                left.retain(|other| *other != i);
            }
        }
        Ok(done)
    }

    /// A page of the files that lie in the trash since before `before`; `after` is the place of the last one of an earlier page. A batch of which
    /// nothing is left goes.
    pub(super) async fn expired(&self, proof: &Proof, before: Timestamp, after: Option<&str>, limit: usize) -> Result<Expired> {
        let mut page = Expired::default();
        let after = after.and_then(|place| place.split_once('/'));
        for batch in self.batches().await? {
            if page.files.len() >= limit || batch.at >= before {
                break;
            }
            if after.is_some_and(|(last, _)| *batch.id < *last) {
                continue;
            }
            let mut files = match self.files_of(&batch).await {
                Ok(files) => files,
                Err(e) => {
                    // A service that is away has answered nothing; one that is there has other folders.
                    if e.kind() == Kind::StorageUnreachable {
                        proof.again().await?;
                    }
                    page.cannot(e.with("folder", self.own(&format!("{FOLDER}{}/", batch.id))));
                    continue;
                }
            };
            if files.is_empty() && clock::passed(batch.at, BATCH_TIME, Timestamp::now()) && self.has_folders() {
                let folder = self.own(&format!("{FOLDER}{}/", batch.id));
                if let Err(e) = self.prune(&folder).await {
                    page.cannot(self.broke(&e, "cannot remove an empty folder of the trash").with("folder", &folder));
                }
            }
            if let Some((_, last)) = after.filter(|(last, _)| *last == batch.id) {
                files.retain(|(name, _)| name.as_str() > last);
            }
            for (name, place) in files {
                if page.files.len() >= limit {
                    break;
                }
                let (_, path) = self.trash_key(&batch.id, &name);
                match self.stat(&path).await {
                    Ok(PathStat::File(seen)) => page.files.push(Trashed { name, place, at: batch.at, size: seen.size }),
                    Ok(PathStat::Missing | PathStat::Other(_)) => {}
                    Err(e) => page.cannot(self.failed(&e, "cannot look at a file of the trash", &name)),
                }
            }
        }
        if page.files.len() >= limit {
            page.next = page.files.last().map(|last| last.place.clone());
        }
        Ok(page)
    }

    /// How many files lie in the trash.
    pub(super) async fn count_trash(&self) -> Result<u64> {
        let mut count = 0;
        for batch in self.batches().await? {
            count += self.files_of(&batch).await?.len() as u64;
        }
        Ok(count)
    }

    /// The files of a batch: their names and places.
    async fn files_of(&self, batch: &TrashBatch) -> Result<Vec<(FileName, String)>> {
        let top = self.own(&format!("{FOLDER}{}/", batch.id));
        let mut folders = vec![top.clone()];
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            for (path, mode) in self.entries(&folder).await.map_err(|e| self.broke(&e, "cannot list the trash"))? {
                let Some(name) = path.strip_prefix(&top) else { continue };
                if mode.is_dir() && exact(path.trim_end_matches('/')).is_ok() {
                    folders.push(path);
                } else if let (true, Ok(name)) = (mode.is_file(), FileName::parse(name))
                    && self.refusal(&name).is_none()
                {
                    let (place, _) = self.trash_key(&batch.id, &name);
                    files.push((name, place));
                }
            }
        }
        files.sort();
        Ok(files)
    }

    /// Brings a file back, if nothing lies under its name.
    pub(super) async fn restore(&self, item: &Trashed) -> Result<Restored> {
        let path = self.path_of(item)?;
        self.bring_back(&path, &item.name).await.map_err(|e| self.failed(&e, "cannot bring the file back", &item.name))
    }

    /// Moves what lies at `path`, in the trash, to its name. Between the look at the name and the move another file may come there only on a
    /// service that can do neither on a condition.
    pub(super) async fn bring_back(&self, path: &str, name: &FileName) -> Result<Restored, Failure> {
        let op = &self.wire.op;
        if self.stat(name.as_str()).await? != PathStat::Missing {
            // An occupied name and an empty place: there is nothing to bring back.
            return Ok(if self.stat(path).await? == PathStat::Missing { Restored::Missing } else { Restored::Occupied });
        }
        let waiting = match self.stat(path).await? {
            PathStat::File(waiting) => waiting,
            PathStat::Missing => return Ok(Restored::Missing),
            PathStat::Other(_) => {
                // A folder was put under the name of a file in the moment of its removal, and was taken along.
                self.wire.once(op.rename(path, name.as_str())).await?;
                return Ok(Restored::Back);
            }
        };
        let can = &self.wire.can;
        let absent = || async { matches!(self.stat(name.as_str()).await, Ok(PathStat::Missing)) };
        let brought = if can.rename {
            let rename = || async { op.rename_with(path, name.as_str()).if_not_exists(can.rename_with_if_not_exists).await };
            self.wire.carry(rename, absent).await
        } else {
            let copy = || async { op.copy_with(path, name.as_str()).if_not_exists(can.copy_with_if_not_exists).await.map(drop) };
            self.wire.carry(copy, absent).await
        };
        match (self.stat(name.as_str()).await?, brought) {
            (_, Err(e)) if [opendal::ErrorKind::ConditionNotMatch, opendal::ErrorKind::AlreadyExists].contains(&e.kind()) => {
                Ok(Restored::Occupied)
            }
            // The answer may have been lost on its way.
            (PathStat::File(back), brought)
                if self.wire.can.rename && alike(&back, &waiting) || brought.is_ok() && back.size == waiting.size =>
            {
                self.erase(path).await?;
                Ok(Restored::Back)
            }
            (_, Err(e)) => Err(e),
            (_, Ok(())) => {
                Err(Failure::new(opendal::ErrorKind::Unexpected, "the service said that it moved the file, but it is not there"))
            }
        }
    }

    /// Erases a file of the trash. `false` if it was not there.
    pub(super) async fn purge(&self, item: &Trashed) -> Result<bool> {
        let path = self.path_of(item)?;
        self.erase(&path).await.map_err(|e| self.failed(&e, "cannot erase the file in the trash", &item.name))
    }
}

impl Inner {
    /// The error of a file that was taken out of its place and could not be put back.
    pub(super) fn stranded(&self, failure: &Failure, name: &FileName, place: &str) -> Error {
        self.failed(failure, "the file was replaced while it was removed, and could not be put back: it lies in the trash", name)
            .with("place", place)
            .hint("rowbound restore brings it back")
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn a_batch_tells_its_moment() {
        let now = Timestamp::now();
        let at = moment(&batch_id(now)).unwrap();
        assert!(at.duration_until(now).abs() < SignedDuration::from_secs(5));
        for id in ["", "x", "123-12345678", "1700000000000", "17000000000x0-12345678", "1700000000000-1"] {
            assert_eq!(moment(id), None, "{id:?}");
        }
    }
}
