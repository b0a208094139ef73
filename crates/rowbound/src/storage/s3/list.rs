//! Every file, in order.

use tokio::sync::mpsc;

use super::{Inner, keys::HIGHEST};
use crate::{
    error::Result,
    name::{FileName, Names, RESERVED},
    storage::{Listed, OddEntry, Page, whereabouts},
};

/// Pages that may wait for their reader.
pub(super) const PAGES_AHEAD: usize = 2;

impl Inner {
    /// Sends the pages of a listing. Where the service does not keep all names apart (`exact`), those that are no paths are odd entries; so is a key that ends with
    /// a slash everywhere: consoles make such objects and show them as folders.
    pub(super) async fn list(&self, prefix: &str, after: Option<FileName>, exact: bool, pages: &mpsc::Sender<Result<Page>>) -> Result<()> {
        let whole = format!("{}{prefix}", self.at.prefix);
        let ours = self.own("");
        let (mut from, mut token) = (after.map(|name| self.key(&name)), None::<String>);
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
            let entries: Vec<Listed> = slice
                .objects
                .into_iter()
                .filter(|o| !o.key.starts_with(&ours))
                .map(|o| {
                    let name = &o.key[self.at.prefix.len()..];
                    let names = if exact && !name.ends_with('/') { Names::Keys } else { Names::Paths };
                    FileName::of(names, name).map_or_else(|why| Listed::Odd(name.to_owned(), OddEntry::Name(why)), Listed::File)
                })
                .collect();
            if !entries.is_empty() && pages.send(Ok(Page { entries, last: false })).await.is_err() {
                return Ok(()); // nobody listens any more
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
        // Had the bucket gone meanwhile, its files would seem never to have been.
        self.prove().await?;
        let _ = pages.send(Ok(Page { entries: Vec::new(), last: true })).await; // as above
        Ok(())
    }
}
