//! What an object has besides bytes, metadata and tags: its storage class and its access list.
//!
//! S3 copies metadata and tags with an object, and neither class nor access list. So the manifest of a batch tells both of what it takes, and a file that comes
//! back is written with them. The copy in the trash has neither: it is as cheap as any and nobody else may read it.

use std::collections::HashMap;

use aws_sdk_s3::types::{Grantee, Permission};
use serde::{Deserialize, Serialize};

use super::{Inner, wire::Failure};

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

fn header(grantee: &Grantee) -> Option<String> {
    let told = [("id", grantee.id()), ("uri", grantee.uri()), ("emailAddress", grantee.email_address())];
    told.into_iter().find_map(|(key, value)| Some(format!("{key}=\"{}\"", value.filter(|v| !v.is_empty() && !v.contains('"'))?)))
}

impl Inner {
    /// Class and, if it is to be asked for, access list of an object. One that is not there has the usual ones.
    pub(super) async fn attributes(&self, key: &str, access: bool) -> Result<Attributes, Failure> {
        let client = self.client().await?;
        let head = self.wire.call(|| client.head_object().bucket(self.wire.bucket()).key(key).send());
        let class = match head.await {
            Ok(head) => head.storage_class().map(|class| class.as_str().to_owned()).filter(|class| class != "STANDARD"),
            Err(failure) if failure.no_key() => return Ok(Attributes::default()),
            Err(failure) => return Err(failure),
        };
        let grants = if access { self.grants(key).await?.unwrap_or_default() } else { Vec::new() };
        Ok(Attributes { class, grants })
    }

    /// An object's access list: empty where the owner alone has rights; `None` where it cannot be read.
    pub(super) async fn grants(&self, key: &str) -> Result<Option<Vec<Granted>>, Failure> {
        let client = self.client().await?;
        let answer = match self.wire.call(|| client.get_object_acl().bucket(self.wire.bucket()).key(key).send()).await {
            Ok(answer) => answer,
            Err(failure) if failure.no_key() => return Ok(Some(Vec::new())),
            Err(failure) if failure.transient() && !failure.unknown() => return Err(failure),
            Err(_) => return Ok(None), // denied, or not known here
        };
        let granted = |grant: &aws_sdk_s3::types::Grant| {
            Some(Granted { right: grant.permission()?.as_str().to_owned(), to: header(grant.grantee()?)? })
        };
        let grants: Vec<Granted> = answer.grants().iter().filter_map(granted).collect();
        let owner = answer.owner().and_then(|owner| owner.id()).map(|id| format!("id=\"{id}\""));
        let usual = |g: &Granted| g.right == Permission::FullControl.as_str() && Some(&g.to) == owner.as_ref();
        Ok(Some(if grants.iter().all(usual) { Vec::new() } else { grants }))
    }

    /// What the manifests of these batches tell of their files. A manifest that is missing or cannot be read tells nothing.
    pub(super) async fn attributes_of(&self, batches: impl Iterator<Item = &str>) -> HashMap<(String, String), Attributes> {
        let mut told = HashMap::new();
        let batches: std::collections::BTreeSet<&str> = batches.collect();
        for batch in batches {
            for entry in self.entries_of(batch).await {
                if !entry.attributes.are_usual() {
                    told.insert((batch.to_owned(), entry.name), entry.attributes);
                }
            }
        }
        told
    }
}
