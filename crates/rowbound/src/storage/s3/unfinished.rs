//! Uploads in parts that nobody ends: what a process that died has left in the bucket.
//!
//! In: an upload's key and id. Out: a small object beneath `.rowbound/uploads/`, written before the first part and erased after the last. Promise: only an upload
//! that such a record names is ever aborted, and only when it had no heartbeat for [`FORGOTTEN`]; uploads of others are not even listed.

use std::{
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Inner, marker::WriteCondition, wire::Failure};

/// Where the records lie.
const FOLDER: &str = "uploads/";

/// What wrote no heartbeat for so long was left by a process that died.
const FORGOTTEN: SignedDuration = SignedDuration::from_hours(24);

/// How often an upload that goes on gives one.
pub(super) const ALIVE: Duration = Duration::from_secs(3600);

/// How often a process looks for what was left.
const LOOK: Duration = Duration::from_secs(3600);

/// An upload that was begun.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    key: String,
    id: String,
    /// The last heartbeat, by the uploading machine's clock.
    at: Timestamp,
}

impl Inner {
    /// The key of a new record.
    pub(super) fn record_key(&self) -> String {
        self.own(&format!("{FOLDER}{:032x}.json", rand::random::<u128>()))
    }

    /// Writes down that an upload is under way.
    pub(super) async fn record_upload(&self, record: &str, key: &str, id: &str) -> Result<(), Failure> {
        let record_of = Record { key: key.to_owned(), id: id.to_owned(), at: Timestamp::now() };
        let bytes = serde_json::to_vec(&record_of).expect("a record is JSON");
        self.write_own(record, &bytes, WriteCondition::Always).await.map(drop)
    }

    /// Looks for what was left, in the background and not more often than [`LOOK`]: uploads and removals have other work. `versioned`: whether the bucket
    /// keeps versions.
    pub(super) fn look_for_unfinished(self: &Arc<Self>, versioned: bool) {
        {
            let mut looked = self.looked_for_unfinished.lock().unwrap_or_else(PoisonError::into_inner);
            if looked.is_some_and(|at| at.elapsed() < LOOK) {
                return;
            }
            *looked = Some(Instant::now());
        }
        let inner = self.clone();
        tokio::spawn(async move {
            match inner.end_unfinished(Some(Timestamp::now() - FORGOTTEN), Some(versioned)).await {
                Ok(0) => {}
                Ok(count) => tracing::info!(storage = inner.name, count, "aborted uploads that a process had left unfinished"),
                // Tried again in an hour; nothing depends on it but the bill.
                Err(failure) => {
                    let error = inner.wire.error(&failure, "s3:AbortMultipartUpload", "cannot end uploads that were left unfinished");
                    tracing::warn!(storage = inner.name, hint = error.hint_text(), "{}", error.full());
                }
            }
        });
    }

    /// Aborts uploads without a heartbeat since `before`, or all that are recorded; returns how many. `versioned`: whether the bucket keeps versions, where that
    /// is known.
    pub(super) async fn end_unfinished(&self, before: Option<Timestamp>, mut versioned: Option<bool>) -> Result<u64, Failure> {
        let folder = self.own(FOLDER);
        let (mut count, mut first, mut token) = (0, None, None::<String>);
        loop {
            let slice = self.slice(&folder, None, token.as_deref()).await?;
            for object in &slice.objects {
                let Some((bytes, _)) = self.read_own(&object.key).await? else { continue };
                // What cannot be read, or names what is not beneath our prefix, is none of ours.
                let Ok(record) = serde_json::from_slice::<Record>(&bytes) else { continue };
                if before.is_some_and(|before| record.at >= before) || !record.key.starts_with(&self.at.prefix) {
                    continue;
                }
                let versioned = match versioned {
                    Some(known) => known,
                    None => *versioned.insert(self.keeps_versions().await?),
                };
                let ended = match self.abort(&record.key, &record.id).await {
                    Ok(()) => self.erase_own(&object.key, versioned).await,
                    Err(failure) => Err(failure),
                };
                match ended {
                    Ok(()) => count += 1,
                    // One that is stuck must not keep the others.
                    Err(failure) => drop(first.get_or_insert(failure)),
                }
            }
            token = slice.next;
            if token.is_none() {
                return first.map_or(Ok(count), Err);
            }
        }
    }

    async fn keeps_versions(&self) -> Result<bool, Failure> {
        let versioning = self.versioning().await.map_err(|e| Failure::strange(e.full()))?;
        Ok(versioning == super::probe::Versioning::On)
    }
}
