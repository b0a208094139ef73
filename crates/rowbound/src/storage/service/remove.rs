//! Removals: out of its place, looked at, gone.

use opendal::ErrorKind;

use super::{
    Inner, Trash, TrashKind,
    stat::{PathStat, Version, alike},
    wire::Failure,
};
use crate::{
    crash,
    error::{Kind, Result, Retry},
    name::FileName,
    storage::{Capabilities, Conditional, FileVersion, Removed},
};

/// What became of a deletion.
enum Gone {
    Deleted,
    Changed,
    Missing,
}

impl Inner {
    /// Takes a file away if it still is what was seen.
    pub(super) async fn remove(&self, proved: &Capabilities, name: &FileName, seen: &FileVersion, batch: &str) -> Result<Removed> {
        if self.refusal(name).is_some() {
            return Ok(Removed::Changed); // it can't have been seen
        }
        let failed = |e: Failure| self.failed(&e, "cannot remove the file", name);
        match self.stat(name.as_str()).await.map_err(failed)? {
            PathStat::Missing => return Ok(Removed::Missing),
            PathStat::File(now) if now == *seen => {}
            PathStat::File(_) | PathStat::Other(_) => return Ok(Removed::Changed),
        }
        let keep = matches!(self.trash, Trash::Keep(_));
        match (self.moves(proved), keep) {
            (true, _) => self.move_away(name, seen, batch, keep).await,
            (false, true) => self.copy_away(proved, name, seen, batch).await,
            (false, false) => Ok(match self.delete(proved, name, seen).await.map_err(failed)? {
                Gone::Deleted => Removed::Erased,
                Gone::Changed => Removed::Changed,
                Gone::Missing => Removed::Missing,
            }),
        }
    }

    /// Whether files leave their place by a rename that was seen to keep size and time.
    fn moves(&self, proved: &Capabilities) -> bool {
        self.wire.can.rename && (proved.trash == TrashKind::Moved || proved.delete == Conditional::OneByOne && !self.conditions())
    }

    /// Whether OpenDAL has a condition for this service's deletions.
    pub(super) fn conditions(&self) -> bool {
        self.wire.can.delete_with_if_match || self.wire.can.delete_with_if_version_match
    }

    /// Moves the file into the trash and looks at what it took there.
    async fn move_away(&self, name: &FileName, seen: &FileVersion, batch: &str, keep: bool) -> Result<Removed> {
        let (place, to) = self.trash_key(batch, name);
        let unmoved = || async {
            matches!((self.stat(&to).await, self.stat(name.as_str()).await), (Ok(PathStat::Missing), Ok(PathStat::File(now))) if now == *seen)
        };
        let moved = self.wire.carry(|| self.wire.op.rename(name.as_str(), &to), unmoved).await;
        // Whatever the answer: the first one may have been lost on its way.
        let failed = |e: Failure| self.failed(&e, "cannot move the file to the trash", name);
        match self.stat(&to).await.map_err(failed)? {
            PathStat::File(taken) if alike(&taken, seen) => {
                crash::point("moved");
                if keep {
                    return Ok(Removed::Trashed(place));
                }
                self.erase(&to).await.map_err(|e| self.failed(&e, "cannot erase the file, which lies in the trash now", name))?;
                Ok(Removed::Erased)
            }
            PathStat::Missing => match (self.stat(name.as_str()).await.map_err(failed)?, moved) {
                (PathStat::Missing, Ok(())) => {
                    // A link that leads nowhere from the trash looks like nothing: it goes back.
                    let back = self.wire.once(self.wire.op.rename(&to, name.as_str())).await;
                    Err(self
                        .lied("the file cannot be seen where it was moved to: is it a link?", name)
                        .with("place", &place)
                        .with("back", if back.is_ok() { "yes" } else { "no" }))
                }
                (PathStat::Missing, Err(e)) if e.kind() == ErrorKind::NotFound => Ok(Removed::Missing),
                (PathStat::Missing, Err(e)) => Err(failed(e)),
                (PathStat::File(now), _) if now != *seen => Ok(Removed::Changed),
                (PathStat::Other(_), _) => Ok(Removed::Changed),
                (PathStat::File(_), Err(e)) => Err(failed(e)),
                (PathStat::File(_), Ok(())) => Err(self.lied("the service said that it moved the file, but it is where it was", name)),
            },
            PathStat::File(_) | PathStat::Other(_) => {
                // Another file, which was put there after the last look: back with it. If yet another has the name, both stay.
                self.bring_back(&to, name).await.map_err(|e| self.stranded(&e, name, &place))?;
                Ok(Removed::Changed)
            }
        }
    }

    /// Copies what was seen into the trash, then deletes it.
    async fn copy_away(&self, proved: &Capabilities, name: &FileName, seen: &FileVersion, batch: &str) -> Result<Removed> {
        let (place, to) = self.trash_key(batch, name);
        let failed = |e: Failure| self.failed(&e, "cannot copy the file to the trash", name);
        let uncopied = || async { matches!(self.stat(&to).await, Ok(PathStat::Missing)) };
        let copied = self.wire.carry(|| self.wire.op.copy(name.as_str(), &to), uncopied).await;
        match (self.stat(&to).await.map_err(failed)?, copied) {
            (PathStat::File(copy), Ok(_)) if copy.size == seen.size => {}
            (PathStat::Missing, Err(e)) if e.kind() == ErrorKind::NotFound => {
                return match self.stat(name.as_str()).await.map_err(failed)? {
                    PathStat::Missing => Ok(Removed::Missing),
                    PathStat::File(_) | PathStat::Other(_) => Err(failed(e)),
                };
            }
            (_, copied) => {
                self.erase(&to).await.map_err(failed)?;
                return match copied {
                    Ok(_) => Ok(Removed::Changed),
                    Err(e) => Err(failed(e)),
                };
            }
        }
        crash::point("copied");
        // The copy is of what was seen only if that is there still.
        let gone = match self.stat(name.as_str()).await.map_err(failed)? {
            PathStat::File(now) if now == *seen => self.delete(proved, name, seen).await.map_err(failed)?,
            PathStat::Missing => Gone::Missing,
            PathStat::File(_) | PathStat::Other(_) => Gone::Changed,
        };
        match gone {
            // Whoever deleted it in this moment: what was seen is in the trash.
            Gone::Deleted => Ok(Removed::Trashed(place)),
            Gone::Changed | Gone::Missing => {
                self.erase(&to).await.map_err(failed)?;
                Ok(if matches!(gone, Gone::Changed) { Removed::Changed } else { Removed::Missing })
            }
        }
    }

    /// Deletes what was seen, on a condition if the service honours one.
    async fn delete(&self, proved: &Capabilities, name: &FileName, seen: &FileVersion) -> Result<Gone, Failure> {
        let path = name.as_str();
        let condition = (proved.delete == Conditional::OneByOne).then(|| Version::of(seen)).flatten();
        let deleted = self.delete_if(path, condition.as_ref(), seen).await;
        if let Ok(true) = deleted {
            return Ok(Gone::Deleted);
        }
        // What was not conditional is looked at: some services say "done" of what they did not do.
        match (self.stat(path).await?, deleted) {
            // Deleted by an attempt that was not answered, or by somebody in this moment.
            (PathStat::Missing, _) => Ok(Gone::Deleted),
            (_, Err(e)) if e.kind() == ErrorKind::ConditionNotMatch => Ok(Gone::Changed),
            (PathStat::File(now), Ok(_)) if now == *seen => {
                Err(Failure::new(ErrorKind::Unexpected, "the service said that it deleted the file, but it is there"))
            }
            // Whose place the other one took cannot be told, so a copy stays.
            (_, Err(e)) => Err(e),
            (_, Ok(_)) => Ok(Gone::Deleted), // and another has its name already
        }
    }

    /// Deletes a path, under which this was `seen`; `true` if that was on a condition.
    pub(super) async fn delete_if(&self, path: &str, condition: Option<&Version>, seen: &FileVersion) -> Result<bool, Failure> {
        let (op, can) = (&self.wire.op, &self.wire.can);
        // Where the answer was lost and the file is gone, a second attempt would say that the condition does not hold, as if another had deleted it. Without a condition it
        // would delete what was put there since.
        let there = || async { matches!(self.stat(path).await, Ok(PathStat::File(now)) if now == *seen) };
        match condition {
            Some(Version { version: Some(version), .. }) if can.delete_with_if_version_match => {
                let delete = || async { op.delete_with(path).if_version_match(version).await };
                self.wire.call_while(there, delete).await.map(|()| true)
            }
            Some(Version { etag: Some(etag), .. }) if can.delete_with_if_match => {
                self.wire.call_while(there, || async { op.delete_with(path).if_match(etag).await }).await.map(|()| true)
            }
            _ => self.wire.call_while(there, || op.delete(path)).await.map(|()| false),
        }
    }

    fn lied(&self, message: &str, name: &FileName) -> crate::Error {
        self.error(Kind::Storage, message)
            .with("name", name)
            .retry(Retry::Later)
            .hint("it will be tried again; if it lasts, look at the service")
    }
}
