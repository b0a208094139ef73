//! A column's values as they come, page by page.
//!
//! In: values from a database. Out: pages for one reader, at most four ahead of it. Promise: a reader can tell the end from a channel that was cut off.

use std::collections::BTreeMap;

use super::survey::{PIECE, STEP};
use crate::{
    binding::{Binding, Column, Reading},
    capture::Bound,
    error::Result,
};

/// All values of a bound column, or a range of them.
#[derive(Debug, Clone)]
pub struct ColumnScan {
    /// The binding's number.
    pub binding: i32,
    /// The column.
    pub column: Column,
    /// The SELECT whose one column is read, instead of a table's column. Its values come in no order, and all of them.
    pub query: Option<String>,
    /// Only of rows whose other columns have these values, as text.
    pub only: BTreeMap<String, String>,
    /// How values are read, which says what types the column may have.
    pub reading: Reading,
    /// Whether they are wanted in bytewise order.
    pub ordered: bool,
    /// Values up to this one, itself included, may be left out.
    pub after: Option<String>,
    /// Values behind this one may be left out.
    pub until: Option<String>,
}

impl ColumnScan {
    /// All values of what `bound` binds, in any order.
    pub fn of(bound: &Bound) -> Self {
        let Binding { column, query, reading, only, .. } = bound.binding.clone();
        ColumnScan { binding: bound.id, column, query, only, reading, ordered: false, after: None, until: None }
    }
}

/// Values as they come.
#[derive(Debug)]
pub struct Values {
    /// Whether they come in bytewise order. `false` also where that was asked for, if the database could keep it only at its writers' expense.
    pub ordered: bool,
    /// The pages. The sender ends with an `Err` when it could not go on; a channel that closes before a page that says it is the last was
    /// cut off, and nothing may be concluded from it.
    pub pages: tokio::sync::mpsc::Receiver<Result<ValuePage>>,
}

/// A page of [`Values`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValuePage {
    /// Values that are not empty; the same may come several times.
    pub values: Vec<Vec<u8>>,
    /// Whether this is the last page.
    pub last: bool,
}

/// Values to a page, and about how many bytes of them: what is under way stays small, however long the values are.
const VALUES: usize = 1024;
const BYTES: usize = 1 << 20;

/// Pages under way between a database and who reads them.
const PAGES: usize = 4;

/// Fills pages and sends them.
pub(crate) struct Paging {
    to: tokio::sync::mpsc::Sender<Result<ValuePage>>,
    page: Vec<Vec<u8>>,
    bytes: usize,
}

impl Paging {
    /// The sending side, and what the reader gets.
    pub(crate) fn new(ordered: bool) -> (Self, Values) {
        let (to, pages) = tokio::sync::mpsc::channel(PAGES);
        (Paging { to, page: Vec::with_capacity(VALUES), bytes: 0 }, Values { ordered, pages })
    }

    /// Sends one value; `false`: nobody reads any more.
    pub(crate) async fn send(&mut self, value: Vec<u8>) -> bool {
        self.bytes += value.len();
        self.page.push(value);
        (self.page.len() < VALUES && self.bytes < BYTES) || self.flush(false).await
    }

    /// The same for a value that may be long: in pieces, as [`PIECE`] says.
    pub(crate) async fn send_pieces(&mut self, value: Vec<u8>) -> bool {
        if value.len() <= PIECE {
            return self.send(value).await;
        }
        let mut at = 0;
        loop {
            let end = value.len().min(at + PIECE);
            if !self.send(value[at..end].to_vec()).await {
                return false;
            }
            if end == value.len() {
                return true;
            }
            at += STEP;
        }
    }

    /// Ends when nobody reads any more: who sends little would find out late.
    pub(crate) fn gone(&self) -> impl Future<Output = ()> + use<> {
        let to = self.to.clone();
        async move { to.closed().await }
    }

    /// Sends the last page, or what went wrong.
    pub(crate) async fn end(mut self, how: Result<()>) {
        match how {
            Ok(()) => drop(self.flush(true).await),
            Err(e) => drop(self.to.send(Err(e)).await),
        }
    }

    async fn flush(&mut self, last: bool) -> bool {
        let values = std::mem::replace(&mut self.page, Vec::with_capacity(VALUES));
        self.bytes = 0;
        self.to.send(Ok(ValuePage { values, last })).await.is_ok()
    }
}
