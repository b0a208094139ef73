//! The pages of a listing.
//!
//! In: entries, in order. Out: pages for who reads them. Promise: a page is the last one only if the listing was completed.

use tokio::sync::mpsc;

use super::{Listed, Listing, Page};
use crate::error::Result;

/// Entries of one page.
const PAGE: usize = 1000;

/// Pages that may wait for their reader.
const AHEAD: usize = 2;

/// The pages of a listing, on their way to who reads them.
#[derive(Debug)]
pub struct Pages {
    to: mpsc::Sender<Result<Page>>,
    waiting: Vec<Listed>,
}

impl Pages {
    /// Those of a new listing.
    pub(super) fn new() -> (Self, Listing) {
        let (to, listing) = mpsc::channel(AHEAD);
        (Pages { to, waiting: Vec::new() }, listing)
    }

    /// Adds an entry, and sends a page if it is full. `false`: nobody listens any more.
    pub async fn add(&mut self, entry: Listed) -> bool {
        if self.waiting.capacity() == 0 {
            self.waiting.reserve(PAGE);
        }
        self.waiting.push(entry);
        self.waiting.len() < PAGE || self.send().await
    }

    /// Sends what was added since the last page, if anything: before a request that takes its time. `false`: nobody listens any more.
    pub async fn send(&mut self) -> bool {
        if self.waiting.is_empty() {
            return true;
        }
        let page = Page { entries: std::mem::take(&mut self.waiting), last: false };
        self.to.send(Ok(page)).await.is_ok()
    }

    /// Whether anybody listens.
    pub(super) fn are_wanted(&self) -> bool {
        !self.to.is_closed()
    }

    /// Sends what is left as the last page, or the error that kept the listing from being completed.
    pub(super) async fn end(self, listed: Result<()>) {
        let last = listed.map(|()| Page { entries: self.waiting, last: true });
        let _ = self.to.send(last).await; // perhaps nobody listens any more
    }
}
