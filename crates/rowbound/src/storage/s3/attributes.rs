//! What an object has besides bytes, metadata and tags: its storage class and its access list.
//!
//! S3 copies metadata and tags with an object, and neither class nor access list. So the manifest of a batch tells both of what it takes, and a file that comes
//! back is written with them. The copy in the trash has neither: it is as cheap as any and nobody else may read it.

use std::collections::{BTreeSet, HashMap};

use aws_sdk_s3::types::{Grant, Grantee, Permission};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

use super::{Inner, copies, wire::Failure};
use crate::{error::Result, storage::Trashed};

/// Manifests that are read at once.
const MANIFESTS: usize = 16;

/// What manifests tell of files, by the batch that took them and their names.
pub(super) type AttributesByFile = HashMap<(String, String), Attributes>;

/// A storage class and an access list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Attributes {
    /// The storage class; `None` is the service's usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Who may do what; empty where it is the owner alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<Granted>,
}

/// A right of somebody's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Granted {
    /// The right, as S3 calls it: `READ`, `FULL_CONTROL`, ..
    pub right: String,
    /// Whose, as the headers of a request say it: `uri="http://.."`, `id=".."`.
    pub to: String,
}

impl Attributes {
    /// Whether there is nothing to be told.
    pub(super) fn are_usual(&self) -> bool {
        *self == Attributes::default()
    }

    /// The header of everybody who has a right.
    pub(super) fn with(&self, right: &Permission) -> Option<String> {
        let of: Vec<&str> = self.grants.iter().filter(|g| g.right == right.as_str()).map(|g| g.to.as_str()).collect();
        (!of.is_empty()).then(|| of.join(", "))
    }
}

/// A storage class as it is kept: `None` is the usual one.
pub(super) fn class(told: Option<&str>) -> Option<String> {
    told.filter(|class| !class.is_empty() && *class != "STANDARD").map(str::to_owned)
}

/// A grantee as the headers of a request say it.
fn header(grantee: &Grantee) -> Option<String> {
    let told = [("id", grantee.id()), ("uri", grantee.uri()), ("emailAddress", grantee.email_address())];
    told.into_iter().find_map(|(key, value)| Some(format!("{key}=\"{}\"", value.filter(|v| !v.is_empty() && !v.contains('"'))?)))
}

impl Inner {
    /// An object's access list: empty where the owner alone has rights; `None` where it cannot be read.
    pub(super) async fn grants(&self, key: &str) -> Result<Option<Vec<Granted>>, Failure> {
        let client = self.client().await?;
        let answer = match self.wire.call(|| client.get_object_acl().bucket(self.wire.bucket()).key(key).send()).await {
            Ok(answer) => answer,
            Err(failure) if failure.no_key() => return Ok(Some(Vec::new())),
            Err(failure) if failure.transient() && !failure.unknown() => return Err(failure),
            Err(_) => return Ok(None), // denied, or not known here
        };
        let granted = |grant: &Grant| Some(Granted { right: grant.permission()?.as_str().to_owned(), to: header(grant.grantee()?)? });
        let grants: Vec<Granted> = answer.grants().iter().filter_map(granted).collect();
        let owner = answer.owner().and_then(|owner| owner.id()).map(|id| format!("id=\"{id}\""));
        let usual = |g: &Granted| g.right == Permission::FullControl.as_str() && Some(&g.to) == owner.as_ref();
        Ok(Some(if grants.iter().all(usual) { Vec::new() } else { grants }))
    }

    /// What the manifests of the batches tell of files that they copied to the trash. A manifest that is gone tells nothing.
    ///
    /// # Errors
    /// That of a manifest that cannot be read now: what it tells would be lost for good.
    pub(super) async fn attributes_of(&self, items: &[Trashed]) -> Result<AttributesByFile> {
        let batches: BTreeSet<&str> = items.iter().filter_map(|item| copies::batch_of(&item.place)).collect();
        let batches: Vec<&str> = batches.into_iter().collect();
        let mut told = AttributesByFile::new();
        for some in batches.chunks(MANIFESTS) {
            let read = join_all(some.iter().map(|batch| self.entries_of(batch))).await;
            for (batch, entries) in some.iter().zip(read) {
                let entries = entries?.into_iter().filter(|entry| !entry.attributes.are_usual());
                told.extend(entries.map(|entry| (((*batch).to_owned(), entry.name), entry.attributes)));
            }
        }
        Ok(told)
    }
}
