//! The probe: what the service honours, seen by doing it with keys of our own.

use aws_sdk_s3::{
    primitives::ByteStream,
    types::{BucketVersioningStatus, ObjectCannedAcl},
};
use jiff::Timestamp;

use super::{
    Inner,
    attributes::Attributes,
    keys::{Deletion, Gone},
    marker::WriteCondition,
    wire::Failure,
};
use crate::{
    error::{Error, Kind, Result},
    plan::{Erase, Trash},
    storage::{Capabilities, Conditional, TrashKind},
};

/// Whether a bucket keeps versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Versioning {
    Off,
    On,
    /// It did, and does no more for new objects.
    Suspended,
}

/// An ETag that no object has.
const WRONG: &str = "\"00000000000000000000000000000000\"";

impl Inner {
    /// A key of our own that every layer that likes to rewrite names would rewrite.
    pub(super) fn probe_key(&self) -> String {
        self.own(&format!("probe-{:08x} +%2B&\u{e9}\u{1f600}", rand::random::<u32>()))
    }

    fn tried(&self, action: &'static str, message: &'static str) -> impl Fn(Failure) -> Error {
        move |failure| self.wire.error(&failure, action, message)
    }

    /// Writes and deletes.
    pub(super) async fn try_deleting(&self) -> Result<()> {
        let key = self.probe_key();
        let written = self.write_own(&key, b"probe\n", WriteCondition::Always).await;
        let versioned = self.told_versioning(&key, written.map_err(self.tried("s3:PutObject", "cannot write"))?.version_id()).await;
        let erased = self.erase_own(&key, versioned != Versioning::Off).await;
        erased.map_err(self.tried("s3:DeleteObject", "cannot delete"))
    }

    /// Whether the bucket keeps versions.
    pub(super) async fn versioning(&self) -> Result<Versioning> {
        let key = self.probe_key();
        let written = self.write_own(&key, b"probe\n", WriteCondition::Always).await;
        let told = self.told_versioning(&key, written.map_err(self.tried("s3:PutObject", "cannot write"))?.version_id()).await;
        self.erase_own(&key, told != Versioning::Off).await.map_err(self.tried("s3:DeleteObject", "cannot delete"))?;
        Ok(told)
    }

    /// What the bucket says of itself, or, if it does not say, what it did with an object that was just written under `key`.
    async fn told_versioning(&self, key: &str, version: Option<&str>) -> Versioning {
        let by_doing = match version {
            None | Some("") => Versioning::Off,
            Some("null") => Versioning::Suspended,
            Some(_) => Versioning::On,
        };
        let Ok(client) = self.client().await else { return by_doing };
        let told = match self.wire.call(|| client.get_bucket_versioning().bucket(self.wire.bucket()).send()).await {
            Ok(answer) => match answer.status() {
                Some(BucketVersioningStatus::Enabled) => return Versioning::On,
                Some(BucketVersioningStatus::Suspended) => return Versioning::Suspended,
                // Some services keep versions whatever they say.
                _ if by_doing == Versioning::On => by_doing,
                _ => Versioning::Off,
            },
            Err(_) => by_doing, // denied, or not known here
        };
        // Garage gives every object a version, and keeps none: who cannot list versions has no use for them.
        match told == Versioning::On && self.versions_of(key).await.is_err_and(|failure| failure.unknown()) {
            true => Versioning::Off,
            false => told,
        }
    }

    /// The service's clock: the time of an object that is written and erased.
    pub(super) async fn now(&self) -> Result<Timestamp> {
        let key = self.probe_key();
        let written = self.write_own(&key, b"probe\n", WriteCondition::Always).await;
        let versioning = self.told_versioning(&key, written.map_err(self.tried("s3:PutObject", "cannot write"))?.version_id()).await;
        let seen = self.head(&key).await;
        self.erase_own(&key, versioning != Versioning::Off).await.map_err(self.tried("s3:DeleteObject", "cannot delete"))?;
        match seen.map_err(self.tried("s3:GetObject", "cannot look at an object"))? {
            Some(seen) => Ok(seen.modified),
            None => Err(self.error(Kind::Storage, "an object that was just written is not there")),
        }
    }

    pub(super) async fn probe(&self) -> Result<Capabilities> {
        self.wire.client().await?;
        let key = self.probe_key();
        let first = self.write_own(&key, b"probe\n", WriteCondition::Always).await;
        let first = first.map_err(self.tried("s3:PutObject", "cannot write"))?;
        let versioning = self.told_versioning(&key, first.version_id()).await;
        let tried = self.probe_with(&key, versioning).await;
        // Whatever was found, nothing of it stays.
        let copy = format!("{key}.copy");
        for key in [&key, &copy] {
            let erased = self.erase_own(key, versioning != Versioning::Off).await;
            if tried.is_ok() {
                erased.map_err(self.tried("s3:DeleteObject", "cannot delete"))?;
            }
        }
        tried
    }

    async fn probe_with(&self, key: &str, versioning: Versioning) -> Result<Capabilities> {
        let trash = match (self.erase, self.trash, versioning) {
            (Erase::AllVersions, Trash::Keep(_), _) => {
                return Err(self
                    .error(Kind::Config, "`erase = \"all-versions\"` erases at once, `trash` keeps for a while")
                    .hint("leave one of them out"));
            }
            (Erase::AllVersions, _, Versioning::On | Versioning::Suspended) => TrashKind::Versions,
            (Erase::AfterRetention, _, Versioning::Suspended) => {
                return Err(self
                    .error(Kind::Config, "the bucket's versioning is suspended: deletions would erase some files and hide others")
                    .with("bucket", &self.at.bucket)
                    .hint("turn versioning on again, or set erase = \"all-versions\""));
            }
            (Erase::AfterRetention, Trash::Off, Versioning::On) => return Err(self.would_reveal()),
            (Erase::AfterRetention, _, Versioning::On) => TrashKind::Versions,
            (Erase::AfterRetention, Trash::Keep(_), Versioning::Off) => TrashKind::Copied,
            (_, _, Versioning::Off) => TrashKind::No,
        };
        let listed = self.slice(key, None, None).await.map_err(self.tried("s3:ListBucket", "cannot list the bucket"))?;
        if !matches!(&listed.objects[..], [one] if one.key == key) {
            let shown: Vec<_> = listed.objects.iter().map(|o| o.key.as_str()).collect();
            return Err(self
                .error(Kind::Config, "the service does not list a key as it was written: names would be mistaken for others")
                .with("written", format_args!("{key:?}"))
                .with("listed", format_args!("{shown:?}"))
                .hint("this service cannot be used"));
        }
        let create = self.honours_create(key).await?;
        let delete = self.honours_delete(key).await?;
        let exact = self.keeps_apart(key, versioning).await;
        let mut access = None;
        match trash {
            TrashKind::Versions => self.try_versions(key).await?,
            TrashKind::Copied => access = Some(self.try_copy(key).await?),
            TrashKind::Moved | TrashKind::No => {}
        }
        Ok(Capabilities { at: Timestamp::now(), delete, create, trash, exact, access })
    }

    /// Whether writing can be made conditional. A service that ignores a condition overwrites.
    async fn honours_create(&self, key: &str) -> Result<bool> {
        for only in [WriteCondition::IfAbsent, WriteCondition::IfMatch(WRONG)] {
            match self.write_own(key, b"another\n", only).await {
                Ok(_) => return Ok(false),
                Err(failure) if failure.condition() => {}
                Err(failure) if failure.transient() || failure.status == Some(403) => {
                    return Err(self.wire.error(&failure, "s3:PutObject", "cannot write"));
                }
                Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }

    /// How far a deletion can be conditional: with a wrong condition it must not delete, with the right one it must.
    async fn honours_delete(&self, key: &str) -> Result<Conditional> {
        'how: for how in [Conditional::InBulk, Conditional::OneByOne] {
            let written = self.write_own(key, b"probe\n", WriteCondition::Always).await;
            let written = written.map_err(self.tried("s3:PutObject", "cannot write"))?;
            let Some(right) = written.e_tag() else { return Ok(Conditional::No) };
            for (etag, goes) in [(WRONG, false), (right, true)] {
                let item = Deletion { key, etag: Some(etag), version: None };
                let gone = self.delete(&[item], how).await.remove(0);
                if let Err(failure) = &gone
                    && (failure.transient() && !failure.unknown() || failure.status == Some(403) || failure.is("AccessDenied"))
                {
                    return Err(self.wire.error(failure, "s3:DeleteObject", "cannot delete"));
                }
                let there = self.head(key).await.map_err(self.tried("s3:GetObject", "cannot look at an object"))?.is_some();
                if there == goes || matches!(gone, Ok(Gone::Deleted(_))) != goes {
                    continue 'how;
                }
            }
            return Ok(how);
        }
        Ok(Conditional::No)
    }

    /// Versions must be listed and erased one by one.
    async fn try_versions(&self, key: &str) -> Result<()> {
        let listed = |failure| self.wire.error(&failure, "s3:ListBucketVersions", "cannot list versions");
        self.write_own(key, b"probe\n", WriteCondition::Always).await.map_err(self.tried("s3:PutObject", "cannot write"))?;
        let item = Deletion { key, etag: None, version: None };
        let gone = self.delete(&[item], Conditional::No).await.remove(0);
        gone.map_err(self.tried("s3:DeleteObject", "cannot delete"))?;
        let all = self.versions_of(key).await.map_err(listed)?;
        if all.files.is_empty() || all.top().is_none_or(|top| top.size.is_some()) {
            return Err(self
                .error(Kind::Config, "the bucket keeps versions, but a deletion did not hide the object beneath a delete marker")
                .hint("set trash = \"off\" and turn versioning off for this bucket"));
        }
        self.erase_own(key, true).await.map_err(self.tried("s3:DeleteObjectVersion", "cannot erase a version"))?;
        if !self.versions_of(key).await.map_err(listed)?.ids().is_empty() {
            return Err(self
                .error(Kind::Config, "the service does not erase versions")
                .hint("an object lock with a default retention forbids it: use another bucket"));
        }
        Ok(())
    }

    /// An object must be copied within the bucket. Whether its access list can be read and written.
    async fn try_copy(&self, key: &str) -> Result<bool> {
        let written = self.write_own(key, b"probe\n", WriteCondition::Always).await;
        let etag = written.map_err(self.tried("s3:PutObject", "cannot write"))?.e_tag().unwrap_or_default().to_owned();
        let copied = self.copy(key, &format!("{key}.copy"), Some(&etag), false, &Attributes::default()).await;
        copied.map_err(self.tried("s3:PutObject", "cannot copy an object within the bucket"))?;
        match self.grants(key).await {
            Ok(None) => return Ok(false),
            Ok(Some(_)) => {}
            // A service that knows no access lists may answer with something else, the object perhaps.
            Err(failure) if failure.status == Some(200) => return Ok(false),
            Err(failure) => return Err(self.wire.error(&failure, "s3:GetObjectAcl", "cannot read an access list")),
        }
        // Where the bucket's access lists are turned off (`BucketOwnerEnforced`) each can be read, and none written.
        let client = self.wire.client().await?;
        let put = || {
            client
                .put_object()
                .bucket(self.wire.bucket())
                .key(key)
                .acl(ObjectCannedAcl::Private)
                .body(ByteStream::from_static(b"probe\n"))
                .send()
        };
        match self.wire.call(put).await {
            Ok(_) => Ok(true),
            Err(failure) if failure.transient() && !failure.unknown() => Err(self.wire.error(&failure, "s3:PutObject", "cannot write")),
            Err(_) => Ok(false),
        }
    }
}
