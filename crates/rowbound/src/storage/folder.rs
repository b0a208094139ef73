//! stub
#![allow(unused)]
use super::*;
use async_trait::async_trait;
use jiff::Timestamp;
use std::{path::Path, time::Duration};

/// A folder.
#[derive(Debug)]
pub struct Folder;

impl Folder {
    /// Opens it.
    pub fn new(name: &str, root: &Path, retention: Option<Duration>, prune: bool) -> Self {
        unimplemented!()
    }
}

#[async_trait]
impl Storage for Folder {
    async fn marker(&self) -> Result<Option<Marker>> {
        unimplemented!()
    }
    async fn set_marker(&self, marker: &Marker) -> Result<()> {
        unimplemented!()
    }
    async fn remove_marker(&self) -> Result<u64> {
        unimplemented!()
    }
    fn expect(&self, storage_id: &str) {
        unimplemented!()
    }
    async fn prove(&self) -> Result<()> {
        unimplemented!()
    }
    fn quick(&self) -> bool {
        unimplemented!()
    }
    async fn look(&self, names: &[FileName]) -> Result<PerName<Look>> {
        unimplemented!()
    }
    async fn remove(&self, items: &[(FileName, Seen)]) -> Result<PerName<Removed>> {
        unimplemented!()
    }
    async fn trashed(&self, names: &[FileName]) -> Result<PerName<Option<Trashed>>> {
        unimplemented!()
    }
    async fn expired(&self, before: Timestamp, limit: usize) -> Result<Vec<Trashed>> {
        unimplemented!()
    }
    async fn restore(&self, items: &[Trashed]) -> Result<PerName<Restored>> {
        unimplemented!()
    }
    async fn purge(&self, items: &[Trashed]) -> Result<PerName<bool>> {
        unimplemented!()
    }
    async fn list(&self, after: Option<FileName>) -> Result<Listing> {
        unimplemented!()
    }
}
