//! stub
#![allow(unused)]
use super::*;
use async_trait::async_trait;
use jiff::Timestamp;
use std::time::Duration;

/// The database.
#[derive(Debug)]
pub struct Mysql;

impl Mysql {
    /// Opens it.
    pub async fn open(url: &str, options: &Options) -> Result<Self> {
        unimplemented!()
    }
}

#[async_trait]
impl Database for Mysql {
    fn dialect(&self) -> Dialect {
        unimplemented!()
    }
    async fn identity(&self) -> Result<String> {
        unimplemented!()
    }
    async fn installation(&self) -> Result<Option<Installation>> {
        unimplemented!()
    }
    async fn inspect(&self, bound: &[Bound]) -> Result<Inspection> {
        unimplemented!()
    }
    async fn script(&self, bound: &[Bound]) -> Result<Vec<String>> {
        unimplemented!()
    }
    async fn install(&self, bound: &[Bound], record: &Installation) -> Result<Installation> {
        unimplemented!()
    }
    async fn record(&self, record: &Installation) -> Result<()> {
        unimplemented!()
    }
    async fn remove(&self) -> Result<()> {
        unimplemented!()
    }
    async fn remove_script(&self) -> Result<Vec<String>> {
        unimplemented!()
    }
    async fn snapshot(&self, bound: &[Bound]) -> Result<Snapshot> {
        unimplemented!()
    }
    async fn claim(&self, claim: &Claim) -> Result<Vec<Candidate>> {
        unimplemented!()
    }
    async fn next_due(&self, claim: &Claim) -> Result<Option<Duration>> {
        unimplemented!()
    }
    async fn open_transactions(&self) -> Result<Vec<OpenTransaction>> {
        unimplemented!()
    }
    async fn check(&self, bound: &[Bound], snapshot: &Snapshot, searches: &[ColumnSearch]) -> Result<Checked> {
        unimplemented!()
    }
    async fn settle(&self, settlement: &Settlement, hold: Option<Hold>) -> Result<u64> {
        unimplemented!()
    }
    async fn announce(&self, items: &[Announce]) -> Result<()> {
        unimplemented!()
    }
    async fn enter(&self, entries: &[NewEntry]) -> Result<()> {
        unimplemented!()
    }
    async fn lock_worker(&self) -> Result<Option<Hold>> {
        unimplemented!()
    }
    async fn backlog(&self, claim: &Claim) -> Result<Backlog> {
        unimplemented!()
    }
    async fn waiting(&self, values: &[String]) -> Result<Vec<Waiting>> {
        unimplemented!()
    }
    async fn history(&self, filter: &Filter) -> Result<Vec<Entry>> {
        unimplemented!()
    }
    async fn totals(&self, since: Option<Timestamp>) -> Result<Vec<Total>> {
        unimplemented!()
    }
    async fn holders(&self, searches: &[ColumnSearch], limit: u32) -> Result<Vec<Holder>> {
        unimplemented!()
    }
    async fn close(&self) {
        unimplemented!()
    }
}
