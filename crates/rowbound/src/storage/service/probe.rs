//! What a service honours, found out by doing it with files of our own.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use opendal::ErrorKind;

use super::{
    Inner, Trash, TrashKind,
    stat::{PathStat, Version, alike},
    wire::Failure,
};
use crate::{
    clock,
    error::{Error, Result},
    name::FileName,
    storage::{Capabilities, Conditional, FileVersion},
};

/// How far the service's clock may be off: the collector's own margin for clocks is 2 s.
const CLOCK: SignedDuration = SignedDuration::from_secs(60);

/// The file of a probe, and names that some service takes for the same: its case, its accents, a dot or a blank at an end, another separator,
/// an encoding, or only its beginning.
const NAME: &str = "sub/\u{e9}.x";
const OTHERS: [(&str, &str); 8] = [
    ("sub/\u{c9}.X", "differ only in case"),
    ("SUB/\u{e9}.x", "differ only in case"),
    ("sub/e\u{301}.x", "differ only in how accents are written"),
    ("sub/\u{e9}.x.", "differ only in a dot at the end"),
    ("sub /\u{e9}.x", "differ only in a blank at the end of a folder"),
    ("sub\\\u{e9}.x", "differ only in `/` and `\\`"),
    ("sub/\u{e9}%2Ex", "differ only in their encoding"),
    ("sub/\u{e9}.", "begin alike"),
];

/// What a file is renamed and copied to: characters that mean something in a URL or a header, but for those that are refused anyway.
const TO: &str = "to %41+&=\u{e9}.x";
const TO_MORE: &str = "to %41+&=;?#\u{e9}.x";

/// What no file has.
const WRONG: &str = "\"0123456789abcdef0123456789abcdef\"";

impl Inner {
    /// Tries what the service honours and leaves nothing behind. `thorough` waits until the clock has moved on, to see whether a rename
    /// keeps a file's time.
    pub(super) async fn probe(&self, thorough: bool) -> Result<Capabilities> {
        let folder = self.own(&format!("probe-{:08x}/", rand::random::<u32>()));
        let tried = self.probe_in(&folder, thorough).await;
        // Whatever was found, nothing of it stays.
        let cleaned = self.clean(&folder).await;
        let proved = tried?;
        cleaned.map_err(|e| self.broke(&e, "cannot delete"))?;
        Ok(proved)
    }

    /// The service's clock: the time of a file that is written and erased. Where it tells times less exactly than they are, they
    /// are read as the latest possible; this is the one of the possible that is nearest to our own.
    pub(super) async fn now(&self) -> Result<Timestamp> {
        let path = self.own(&format!("clock-{:08x}", rand::random::<u32>()));
        let seen = self.write(&path, "probe\n").await;
        self.erase(&path).await.map_err(|e| self.broke(&e, "cannot delete"))?;
        let (told, now, behind) = (seen?.modified, Timestamp::now(), self.kind.behind);
        Ok(if told < now { told } else { now.max(clock::before(told, behind)) })
    }

    /// Where a file is renamed and copied to.
    fn target(&self, folder: &str) -> String {
        format!("{folder}{}", if self.kind.strips { TO } else { TO_MORE })
    }

    /// Erases whatever lies in the folder of a probe, also under names that the service made up.
    async fn clean(&self, folder: &str) -> Result<(), Failure> {
        for (path, mode) in self.entries(folder).await? {
            if mode.is_dir() {
                Box::pin(self.clean(&path)).await?;
            } else {
                self.erase(&path).await?;
            }
        }
        self.prune(folder).await.map(drop)
    }

    async fn write(&self, path: &str, bytes: &'static str) -> Result<FileVersion> {
        self.wire.call(|| self.wire.op.write(path, bytes)).await.map_err(|e| self.broke(&e, "cannot write"))?;
        match self.stat(path).await.map_err(|e| self.broke(&e, "cannot look at a file"))? {
            PathStat::File(seen) if seen.size == bytes.len() as u64 => Ok(seen),
            other => {
                Err(self.refuse("the service does not show a file as it was written", NOT_USABLE).with("seen", format_args!("{other:?}")))
            }
        }
    }

    async fn probe_in(&self, folder: &str, thorough: bool) -> Result<Capabilities> {
        let can = &self.wire.can;
        if !(can.stat && can.read && can.write && can.delete && can.list) {
            return Err(self.refuse("the service cannot do all of: look, read, write, delete, list", NOT_USABLE));
        }
        let path = format!("{folder}{NAME}");
        let before = Timestamp::now();
        let seen = self.write(&path, "probe\n").await?;
        let (earliest, latest) = (before - CLOCK - SignedDuration::try_from(self.kind.behind).expect("minutes"), Timestamp::now() + CLOCK);
        if seen.modified < earliest || seen.modified > clock::after(latest, self.kind.behind) {
            return Err(self
                .refuse(
                    "the service's modification times are off: an upload would look older or newer than it is",
                    "set the service's clock, and its time zone to UTC",
                )
                .with("written at", before)
                .with("modified", seen.modified));
        }
        self.try_names(folder, &path).await?;
        let create = self.honours_create(&path).await?;
        let moves = can.rename && self.try_rename(folder, &path, thorough).await?;
        let delete = match moves || self.honours_delete(&path).await? {
            true => Conditional::OneByOne,
            false => Conditional::No,
        };
        let trash = match self.trash {
            Trash::Off | Trash::IfVersioned(_) => TrashKind::No,
            Trash::Keep(_) if moves => TrashKind::Moved,
            Trash::Keep(_) if can.copy => self.try_copy(folder, &path).await?,
            Trash::Keep(_) => {
                return Err(self.refuse(
                    "the service can neither rename nor copy a file, so that `trash` cannot be had",
                    "set trash = \"off\" to erase files at once",
                ));
            }
        };
        Ok(Capabilities { at: Timestamp::now(), delete, create, trash, exact: false, access: None })
    }

    /// A name must be listed as it was written, and no other name may lead to its file.
    async fn try_names(&self, folder: &str, path: &str) -> Result<()> {
        let inner = format!("{folder}sub/");
        for (of, wanted) in [(folder, inner.as_str()), (&inner, path)] {
            let listed = self.entries(of).await.map_err(|e| self.broke(&e, "cannot list a folder"))?;
            if !matches!(&listed[..], [(one, mode)] if one == wanted && mode.is_dir() == wanted.ends_with('/')) {
                return Err(self
                    .refuse("the service does not list a name as it was written", NOT_USABLE)
                    .with("written", format_args!("{wanted:?}"))
                    .with("listed", format_args!("{listed:?}")));
            }
        }
        for (other, differ) in OTHERS {
            // What is refused is never sent.
            if FileName::parse(other).is_ok_and(|name| self.refusal(&name).is_some()) {
                continue;
            }
            match self.stat(&format!("{folder}{other}")).await {
                Ok(PathStat::Missing) => {}
                Ok(_) => {
                    return Err(self.refuse(
                        &format!("the service takes two names for one file if they {differ}"),
                        "rows may name both, and deleting one would delete the other: this service cannot be used",
                    ));
                }
                Err(e) if e.is_temporary() => return Err(self.broke(&e, "cannot look at a file")),
                Err(_) => {} // no name there, so no file
            }
        }
        Ok(())
    }

    /// Whether writing can be made conditional.
    async fn honours_create(&self, path: &str) -> Result<bool> {
        if !self.wire.can.write_with_if_not_exists {
            return Ok(false);
        }
        let written = self.wire.once(async { self.wire.op.write_with(path, "another one\n").if_not_exists(true).await }).await;
        let now = self.stat(path).await.map_err(|e| self.broke(&e, "cannot look at a file"))?;
        Ok(written.is_err() && matches!(now, PathStat::File(now) if now.size == 6))
    }

    /// Whether a deletion can be conditional: with a wrong condition it must not delete, with the right one it must.
    async fn honours_delete(&self, path: &str) -> Result<bool> {
        if !self.conditions() {
            return Ok(false);
        }
        let seen = self.write(path, "probe\n").await?;
        let Some(right) = Version::of(&seen) else { return Ok(false) };
        let wrong = Version::wrong(&right);
        let missing =
            || async { Ok::<_, Error>(self.stat(path).await.map_err(|e| self.broke(&e, "cannot look at a file"))? == PathStat::Missing) };
        if matches!(self.delete_if(path, Some(&wrong), &seen).await, Ok(conditional) if !conditional) || missing().await? {
            self.write(path, "probe\n").await?;
            return Ok(false);
        }
        let deleted = self.delete_if(path, Some(&right), &seen).await;
        let honours = matches!(deleted, Ok(true)) && missing().await?;
        self.write(path, "probe\n").await?;
        Ok(honours)
    }

    /// Whether a rename leaves a file as it was but for its name.
    async fn try_rename(&self, folder: &str, path: &str, thorough: bool) -> Result<bool> {
        let to = self.target(folder);
        let seen = self.write(path, "probe\n").await?;
        if thorough {
            // A service that stamps a file when it is renamed shows it only in another second than that of the file.
            let next = clock::after(seen.modified, Duration::from_millis(1100));
            let wait = Duration::try_from(Timestamp::now().duration_until(next)).unwrap_or_default();
            tokio::time::sleep(wait.min(Duration::from_secs(2))).await;
        }
        let renamed = self.wire.once(self.wire.op.rename(path, &to)).await;
        let look = |e: Failure| self.broke(&e, "cannot look at a file");
        let kept = match (self.stat(&to).await.map_err(look)?, self.stat(path).await.map_err(look)?) {
            (PathStat::File(now), PathStat::Missing) => alike(&now, &seen),
            (PathStat::Missing, PathStat::File(_)) => match renamed {
                Err(e) if e.is_temporary() || e.kind() == ErrorKind::PermissionDenied => return Err(self.broke(&e, "cannot rename a file")),
                _ => false,
            },
            _ => false,
        };
        self.erase(&to).await.map_err(|e| self.broke(&e, "cannot delete"))?;
        self.write(path, "probe\n").await?;
        Ok(kept)
    }

    /// A file must be copied.
    async fn try_copy(&self, folder: &str, path: &str) -> Result<TrashKind> {
        let seen = self.write(path, "probe\n").await?;
        let to = self.target(folder);
        self.wire.once(self.wire.op.copy(path, &to)).await.map_err(|e| self.broke(&e, "cannot copy a file"))?;
        match self.stat(&to).await.map_err(|e| self.broke(&e, "cannot look at a file"))? {
            PathStat::File(copy) if copy.size == seen.size => Ok(TrashKind::Copied),
            _ => {
                Err(self
                    .refuse("the service said that it copied a file, but there is no copy", "set trash = \"off\" to erase files at once"))
            }
        }
    }
}

const NOT_USABLE: &str = "this service cannot be used: docs/storages.md explains what is needed";

impl Version {
    /// One that no file has.
    fn wrong(of: &Version) -> Version {
        let mut wrong = Version::of(&FileVersion::new(0, Timestamp::UNIX_EPOCH, serde_json::to_string(of).expect("a version is JSON")))
            .expect("a version is JSON");
        wrong.etag = wrong.etag.map(|_| WRONG.to_owned());
        wrong.version = wrong.version.map(|_| "1".to_owned());
        wrong
    }
}
