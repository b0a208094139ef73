//! The application's columns: which rows reference a file.
//!
//! In: columns, and what to look for in them. Out: values, and the rows that hold them. Promise: what cannot be read is an error, never "nothing there"; and but for
//! [`Columns::assign`] no row of the application is changed.

use async_trait::async_trait;
use serde::Serialize;

use super::{
    ColumnScan, LockGuard, Values,
    survey::{Sample, TextColumn},
};
use crate::{
    binding::{Binding, Column, Search},
    capture::{Bound, Snapshot},
    error::Result,
    name::FileName,
};

/// A search in one bound column.
#[derive(Debug, Clone)]
pub struct ColumnSearch {
    /// The binding's number.
    pub binding: i32,
    /// The column.
    pub column: Column,
    /// What to look for.
    pub search: Search,
    /// The SELECT whose one column is searched, instead of a table's column.
    pub query: Option<String>,
}

impl ColumnSearch {
    /// The search for `names` in what `bound` binds.
    pub fn of<'a>(bound: &Bound, names: impl IntoIterator<Item = &'a FileName>) -> Self {
        Self::in_column(bound, bound.binding.search(names))
    }

    /// Any search in what `bound` binds.
    pub fn in_column(bound: &Bound, search: Search) -> Self {
        let Binding { column, query, .. } = &bound.binding;
        ColumnSearch { binding: bound.id, column: column.clone(), search, query: query.clone() }
    }

    /// The same for what `bound` reads only, without what its values merely mention: for who reports references, never for a check.
    pub fn of_read<'a>(bound: &Bound, names: impl IntoIterator<Item = &'a FileName>) -> Self {
        Self::in_column(bound, bound.binding.search_read(names))
    }
}

/// Values found in a bound column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundValue {
    /// The binding's number.
    pub binding: i32,
    /// The value as it stands in the row. Found by the database's own equality, so it may differ from what was asked for. Found by a
    /// [`Scan`](crate::binding::Scan): the name.
    pub value: Vec<u8>,
}

/// What a check found, and the lock under which it stays true.
#[derive(Debug)]
pub struct CheckResult {
    /// Every value that matches a search, at least once.
    pub found: Vec<FoundValue>,
    /// `Some` where the database can keep all writers out until the batch is settled (SQLite): pass it to
    /// [`Queue::settle`](super::Queue::settle), or drop it to let them in.
    pub lock: Option<LockGuard>,
}

/// A row that references a file, as `explain` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Holder {
    /// The binding's number.
    pub binding: i32,
    /// The row's key, as capture writes it.
    pub key: Option<String>,
    /// The value; where it may hold many names, the name.
    pub value: String,
    /// Whether the value only mentions the name, outside of what its binding reads.
    pub mentioned: bool,
}

/// What stands in the application's columns. Names are compared by the caller, byte for byte: a search finds too much rather than too little.
#[async_trait]
pub trait Columns: Send + Sync {
    /// Looks for references, one statement per column. Whatever was committed before the call began is seen. Compares the
    /// snapshot within the same transaction.
    ///
    /// # Errors
    /// [`Kind::Drift`](crate::Kind::Drift) when the snapshot is not `snapshot`; a missing table or column is an error too, never "not found".
    async fn check(&self, bound: &[Bound], snapshot: &Snapshot, searches: &[ColumnSearch]) -> Result<CheckResult>;

    /// Rows whose column matches the search, with their keys, at most `limit` per column.
    async fn holders(&self, searches: &[ColumnSearch], limit: u32) -> Result<Vec<Holder>>;

    /// Reads a column from one end to the other, without keeping a writer waiting. What is committed meanwhile may be seen or not.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::Kind::Schema) when table or column do not exist; later ones come with the pages.
    async fn scan(&self, scan: &ColumnScan) -> Result<Values>;

    /// Every column of the application in whose values names could stand. Changes nothing.
    async fn text_columns(&self) -> Result<Vec<TextColumn>>;

    /// The right without which the database may not even show some tables, so that [`Columns::text_columns`] lacks them: as a GRANT names it. `None` where it shows
    /// all.
    async fn hides_tables(&self) -> Result<Option<String>>;

    /// Up to `limit` distinct values of a column, from places all over the table. Cheap on a table of any size: bounded in rows and in time
    /// ([`survey::PATIENCE`](super::survey::PATIENCE)), waits for no lock for long and holds none that keeps an application from working.
    ///
    /// # Errors
    /// When the values cannot be seen: [`Kind::Permission`](crate::Kind::Permission), [`Kind::Busy`](crate::Kind::Busy). Never an empty sample instead.
    async fn sample(&self, column: &TextColumn, limit: usize) -> Result<Sample>;

    /// Reads a column of [`Columns::text_columns`] from one end to the other, whatever its type, in no order and without keeping a writer waiting: texts as UTF-8,
    /// JSON and lists as their text, BLOBs as they are. A value that is longer than [`survey::PIECE`](super::survey::PIECE) comes in pieces, of which each begins with the last
    /// [`survey::OVERLAP`](super::survey::OVERLAP) bytes of the one before.
    ///
    /// # Errors
    /// When the values cannot be seen or not be read: never fewer values, or less of one, instead. Later ones come with the pages.
    async fn values(&self, column: &TextColumn) -> Result<Values>;

    /// Up to `limit` distinct texts that the column `other` has in those rows of the table in which `column` has one of `values`. Bounded in time as a sample is.
    ///
    /// # Errors
    /// As [`Columns::sample`].
    async fn beside(&self, column: &TextColumn, other: &Column, values: &[String], limit: usize) -> Result<Vec<String>>;

    /// Whether there is a row with the primary key `key` (as text) in the column's table.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::Kind::Schema) where the table has no primary key of one column; the database's, where `key` can be none.
    async fn has_row(&self, column: &Column, key: &str) -> Result<bool>;

    /// Sets a column of the row whose primary key is `key` (as text) to `name`, in a transaction of its own, as an application would: capture releases
    /// what stood there. `false`: there is no such row.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::Kind::Schema) where the table has no primary key of one column; the database's, where it does not take the value.
    async fn assign(&self, column: &Column, key: &str, name: &FileName) -> Result<bool>;
}
