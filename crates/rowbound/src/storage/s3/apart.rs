//! Keys that no path could be (`a//b`, `./a`, `a/`): whether they are objects of their own.
//!
//! In: a key of our own. Out: whether the service keeps it apart from every other key for which a file system, a proxy or a client takes it, in everything that is done by key:
//! written, looked at, read, listed, copied from and to, deleted with others and alone, and in the versions of each. Promise: what was not seen in all of these does not
//! hold, for whatever reason; nothing is tried but beneath `.rowbound/`, and nothing of it stays.

use std::collections::BTreeMap;

use super::{
    Inner,
    attributes::Attributes,
    keys::{Deletion, Gone},
    marker::WriteCondition,
    probe::Versioning,
    wire::Failure,
};
use crate::storage::Conditional;

/// How long each of the objects is.
type Sizes = BTreeMap<String, u64>;

/// Keys that a service may take for one: the first is a path.
struct Trial {
    keys: Vec<String>,
    /// Where copies go.
    copy: String,
    /// What all but the copy begin with; those with a slash before it, with that slash.
    below: String,
    versioning: Versioning,
}

impl Inner {
    /// Whether keys that no path could be are kept apart from others.
    pub(super) async fn keeps_apart(&self, key: &str, versioning: Versioning) -> bool {
        let below = format!("{key}.odd/");
        // The milder ones first: a service that stores files in folders takes the second for the first, and nothing further is tried.
        let mut keys: Vec<String> = ["a", "/a", "./a", "x/../a", "a/", "a/."].iter().map(|odd| format!("{below}{odd}")).collect();
        if self.at.prefix.is_empty() {
            keys.push(format!("/{below}a"));
        }
        let trial = Trial { keys, copy: format!("{key}.odd-copy"), below, versioning };
        let mut tried = Vec::new();
        let apart = self.try_apart(&trial, &mut tried).await;
        for key in &tried {
            if let Err(failure) = self.erase_own(key, versioning != Versioning::Off).await {
                tracing::debug!(key, ?failure, storage = self.name, "a key of a trial stays");
            }
        }
        apart.unwrap_or_else(|failure| {
            tracing::debug!(?failure, storage = self.name, "keys that are no paths are not taken");
            false
        })
    }

    async fn try_apart(&self, trial: &Trial, tried: &mut Vec<String>) -> Result<bool, Failure> {
        let Trial { keys, copy, versioning, .. } = trial;
        let (plain, odd) = (&keys[0], &keys[1..]);
        // Each of a length of its own, so that every answer tells whose it is.
        let mut there = Sizes::new();
        for (key, size) in keys.iter().zip(1_u64..) {
            tried.push(key.clone());
            self.write_own(key, &bytes(size), WriteCondition::Always).await?;
            there.insert(key.clone(), size);
            if self.size(plain).await? != Some(1) {
                return Ok(false);
            }
        }
        for (key, size) in &there {
            let read = self.read_own(key).await?;
            if self.size(key).await? != Some(*size) || read.is_none_or(|(read, _)| read != bytes(*size)) {
                return Ok(false);
            }
        }
        if self.shown(trial).await? != there {
            return Ok(false);
        }
        tried.push(copy.clone());
        for key in odd {
            self.copy(key, copy, None, false, &Attributes::default()).await?;
            if self.size(copy).await? != there.get(key).copied() {
                return Ok(false);
            }
        }
        for key in odd {
            self.copy(plain, key, None, false, &Attributes::default()).await?;
            there.insert(key.clone(), 1);
            if self.shown(trial).await? != there {
                return Ok(false);
            }
        }
        let doomed: Vec<Deletion> = odd.iter().map(|key| Deletion { key, etag: None, version: None }).collect();
        for gone in self.delete(&doomed, Conditional::No).await {
            if !matches!(gone?, Gone::Deleted(_)) {
                return Ok(false);
            }
        }
        there.retain(|key, _| key == plain);
        if self.shown(trial).await? != there {
            return Ok(false);
        }
        for key in odd {
            if self.size(key).await?.is_some() {
                return Ok(false);
            }
            self.write_own(key, &bytes(1), WriteCondition::Always).await?;
            there.insert(key.clone(), 1);
        }
        // The path goes first: no other goes with it.
        for key in keys {
            self.delete_one(&Deletion { key, etag: None, version: None }, Conditional::No).await?;
            there.remove(key);
            if self.shown(trial).await? != there {
                return Ok(false);
            }
        }
        if *versioning == Versioning::On {
            for key in odd {
                let all = self.versions_of(key).await?;
                // Written, copied to, written again.
                if all.files.len() != 3 || all.top().is_none_or(|top| top.size.is_some()) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// How long the object is; `None` where there is none.
    async fn size(&self, key: &str) -> Result<Option<u64>, Failure> {
        Ok(self.head(key).await?.map(|seen| seen.size))
    }

    /// What listings show of the trial's keys.
    async fn shown(&self, trial: &Trial) -> Result<Sizes, Failure> {
        let below = &trial.below;
        let outside = trial.keys.iter().any(|key| !key.starts_with(below)).then(|| format!("/{below}"));
        let mut shown = Sizes::new();
        for prefix in [Some(below.clone()), outside].into_iter().flatten() {
            for object in self.slice(&prefix, None, None).await?.objects {
                let size = match object.seen {
                    Some(seen) => seen.size,
                    None => self.size(&object.key).await?.unwrap_or_default(),
                };
                shown.insert(object.key, size);
            }
        }
        Ok(shown)
    }
}

/// An object's bytes, so many.
fn bytes(size: u64) -> Vec<u8> {
    (0..size).map(|_| b'x').collect()
}
