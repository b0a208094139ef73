//! Every file, in order.

use super::{Inner, keys::HIGHEST};
use crate::{
    error::Result,
    name::{FileName, Names, RESERVED},
    storage::{Listed, Pages, SkipReason, whereabouts},
};

impl Inner {
    /// Lists what begins with `prefix` and comes after `after`. Where the service does not keep all names apart (`exact`), those that are no
    /// paths are odd entries; so is a key that ends with a slash everywhere: consoles make such objects and show them as folders.
    pub(super) async fn list(&self, exact: bool, prefix: &str, after: Option<&FileName>, pages: &mut Pages) -> Result<()> {
        let whole = format!("{}{prefix}", self.at.prefix);
        let ours = self.own("");
        let (mut from, mut token) = (after.map(|name| self.key(name)), None::<String>);
        let mut ended = prefix.strip_prefix(RESERVED).is_some_and(|rest| rest.starts_with('/'));
        while !ended {
            let slice = self.slice(&whole, from.as_deref(), token.as_deref()).await;
            let slice = slice.map_err(|f| self.wire.error(&f, "s3:ListBucket", "the listing could not be completed"))?;
            let last = slice.objects.last().map(|o| o.key.clone());
            if let (Some(first), Some(before)) = (slice.objects.first(), &from)
                && first.key <= *before
            {
                return Err(self.wire.error(
                    &super::wire::Failure::of_key(None, Some("a page begins before the last one's end")),
                    "s3:ListBucket",
                    "the listing is not in order",
                ));
            }
            let nested = |o: &&super::keys::Object| !o.key.starts_with(&ours) && whereabouts::is_marker(&o.key[self.at.prefix.len()..]);
            if let Some(marker) = slice.objects.iter().find(nested) {
                return Err(self.nested(&marker.key).await);
            }
            for object in &slice.objects {
                if object.key.starts_with(&ours) {
                    continue;
                }
                let name = &object.key[self.at.prefix.len()..];
                let names = if exact && !name.ends_with('/') { Names::Keys } else { Names::Paths };
                let entry =
                    FileName::of(names, name).map_or_else(|why| Listed::Skipped(name.to_owned(), SkipReason::Name(why)), Listed::File);
                if !pages.add(entry).await {
                    return Ok(()); // nobody listens any more
                }
            }
            if !pages.send().await {
                return Ok(()); // as above
            }
            token = slice.next;
            ended = token.is_none();
            if let Some(last) = last {
                if last.starts_with(&ours) && !ended {
                    // The trash may be long: on behind it.
                    (from, token) = (Some(format!("{ours}{HIGHEST}")), None);
                } else {
                    from = Some(last);
                }
            }
        }
        Ok(())
    }
}
