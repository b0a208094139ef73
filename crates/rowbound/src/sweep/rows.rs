//! The references of every binding on a storage, in one order.
//!
//! In: the values of each column, in bytewise order where the database keeps it. Out: pages of names, merged. What a database cannot order, or what
//! holds more than one name, is sorted here. Promise: a value that is no legal name is counted; a column that ends early is an error.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::sync::mpsc;

use super::{AmbiguousValues, range::Range, sides::in_config, sorter::Sorter};
use crate::{
    binding::{Reading, Resolved},
    capture::Bound,
    database::{ColumnScan, Database, Values},
    error::{Error, Kind, Result},
    name::FileName,
};

/// Names to a page.
const PAGE: usize = 1024;

/// A page of names, and whether it is the last.
type Names = (Vec<FileName>, bool);

/// Values that are read as no name, by column.
type Unexplained = Arc<Mutex<BTreeMap<String, AmbiguousValues>>>;

/// What all columns have in common.
#[derive(Default)]
pub(super) struct Rows {
    sources: Vec<Source>,
    refused: Vec<Arc<AtomicU64>>,
    unexplained: Vec<(Option<String>, Unexplained)>,
}

#[derive(Debug)]
struct Source {
    pages: mpsc::Receiver<Result<Names>>,
    names: std::iter::Peekable<std::vec::IntoIter<FileName>>,
    ended: bool,
}

impl Rows {
    /// Begins to read every column of `bound` on `storage`. Those in `unordered` are known not to come in order.
    ///
    /// # Errors
    /// Those of [`Columns::scan`](crate::database::Columns::scan).
    pub(super) async fn begin(
        db: &dyn Database,
        bound: &[Bound],
        storage: &str,
        range: &Range,
        unordered: &BTreeSet<i32>,
        folder: &Path,
    ) -> Result<Self> {
        let refused = Arc::new(AtomicU64::new(0));
        let unexplained = Unexplained::default();
        let mut sources = Vec::new();
        for b in bound.iter().filter(|b| b.binding.storage == storage) {
            // Only where the value is the name do values and names have the same order, and the same range.
            let plain = b.binding.reading == Reading::Name && b.binding.query.is_none();
            let (after, until) = if plain { range.bounds() } else { (None, None) };
            let ordered = plain && !unordered.contains(&b.id);
            let scan = ColumnScan { ordered, after, until, ..ColumnScan::of(b) };
            let values = db.scan(&scan).await?;
            let (to, pages) = mpsc::channel(2);
            let column = Column { bound: b.clone(), range: range.clone(), refused: refused.clone(), unexplained: unexplained.clone(), to };
            if values.ordered {
                tokio::spawn(column.pass(values));
            } else {
                tokio::spawn(column.sort(values, folder.to_owned()));
            }
            sources.push(Source { pages, names: Vec::new().into_iter().peekable(), ended: false });
        }
        Ok(Rows { sources, refused: vec![refused], unexplained: vec![(None, unexplained)] })
    }

    /// The same with the columns of another database, which messages call `label`.
    pub(super) fn and(mut self, mut other: Rows, label: Option<&str>) -> Self {
        self.sources.append(&mut other.sources);
        self.refused.append(&mut other.refused);
        self.unexplained.extend(other.unexplained.into_iter().map(|(_, found)| (label.map(str::to_owned), found)));
        self
    }

    /// Values that are no name that may reach a storage.
    pub(super) fn refused(&self) -> u64 {
        self.refused.iter().map(|refused| refused.load(Relaxed)).sum()
    }

    /// Values that are read as no name, by column.
    pub(super) fn unexplained(&self) -> BTreeMap<String, AmbiguousValues> {
        let mut all = BTreeMap::new();
        for (label, found) in &self.unexplained {
            for (column, odd) in std::mem::take(&mut *found.lock().unwrap_or_else(|e| e.into_inner())) {
                all.insert(in_config(&column, label.as_deref()), odd);
            }
        }
        all
    }

    /// The next page of names of all columns, in order.
    ///
    /// # Errors
    /// Those of the columns; [`Unordered`] stands in the error when one of them broke the order it was to keep.
    pub(super) async fn page(&mut self) -> Result<Names> {
        let mut page = Vec::with_capacity(PAGE);
        while page.len() < PAGE {
            for source in &mut self.sources {
                source.fill().await?;
            }
            let heads = self.sources.iter_mut().enumerate().filter_map(|(i, s)| s.names.peek().map(|n| (n, i)));
            let Some((_, least)) = heads.min() else { return Ok((page, true)) };
            // As long as nobody else has a smaller one, it is this source's turn.
            let others =
                self.sources.iter_mut().enumerate().filter(|(i, _)| *i != least).filter_map(|(_, s)| s.names.peek()).min().cloned();
            let source = &mut self.sources[least];
            while page.len() < PAGE
                && let Some(name) = source.names.next_if(|n| others.as_ref().is_none_or(|o| n <= o))
            {
                page.push(name);
            }
        }
        Ok((page, false))
    }
}

impl Source {
    /// Makes sure that a name stands at the head, or that there is none left.
    async fn fill(&mut self) -> Result<()> {
        while self.names.peek().is_none() && !self.ended {
            let (names, last) = self
                .pages
                .recv()
                .await
                .unwrap_or_else(|| Err(Error::new(Kind::Database, "a column's values ended before their last page")))?;
            self.names = names.into_iter().peekable();
            self.ended = last;
        }
        Ok(())
    }
}

/// A column that came out of the order that it was to keep: a blob in a column of text, a collation that is no order of bytes.
#[derive(Debug, thiserror::Error)]
#[error("the values of binding {binding} do not come in bytewise order: {before:?} came before {after:?}")]
pub(super) struct Unordered {
    pub binding: i32,
    before: FileName,
    after: FileName,
}

struct Column {
    bound: Bound,
    range: Range,
    refused: Arc<AtomicU64>,
    unexplained: Unexplained,
    to: mpsc::Sender<Result<Names>>,
}

impl Column {
    /// The names of one page of values, within the range.
    fn names(&self, values: &[Vec<u8>], mut take: impl FnMut(FileName)) {
        for value in values {
            let (mut named, mut not) = (false, !self.bound.binding.reading.is_many());
            self.bound.binding.each_name(value, |resolved| match resolved {
                Resolved::Name(name) => {
                    named = true;
                    if self.range.contains(name.as_str()) {
                        take(name);
                    }
                }
                Resolved::Nothing => {}
                // What an unreadable value references is not known. The collector takes every name that it mentions for one.
                Resolved::Refused(_) | Resolved::Unreadable(_) => {
                    not = true;
                    self.refused.fetch_add(1, Relaxed);
                }
            });
            if not && !named {
                let mut unexplained = self.unexplained.lock().unwrap_or_else(|e| e.into_inner());
                unexplained.entry(self.bound.binding.column.to_string()).or_default().add(None, value);
            }
        }
    }

    /// Values in order, one name each.
    async fn pass(self, mut values: Values) {
        let mut newest: Option<FileName> = None;
        while let Some(page) = values.pages.recv().await {
            let page = match page {
                Ok(page) => page,
                Err(e) => return drop(self.to.send(Err(e)).await),
            };
            let mut names = Vec::with_capacity(page.values.len());
            self.names(&page.values, |name| names.push(name));
            let broken = newest.iter().chain(&names).zip(newest.iter().chain(&names).skip(1)).find(|(a, b)| a > b);
            if let Some((before, after)) = broken {
                let why = Unordered { binding: self.bound.id, before: before.clone(), after: after.clone() };
                return drop(
                    self.to.send(Err(Error::new(Kind::Database, "the order of a column is not that of bytes").because(why))).await,
                );
            }
            newest = names.last().cloned().or(newest);
            if self.to.send(Ok((names, page.last))).await.is_err() || page.last {
                return;
            }
        }
    }

    /// Values in any order, any number of names each.
    async fn sort(self, values: Values, folder: PathBuf) {
        let to = self.to.clone();
        if let Err(e) = tokio::task::spawn_blocking(move || self.sort_here(values, &folder))
            .await
            .unwrap_or_else(|e| Err(Error::new(Kind::Database, "the names of a column could not be sorted").because(e)))
        {
            drop(to.send(Err(e)).await);
        }
    }

    fn sort_here(self, mut values: Values, folder: &Path) -> Result<()> {
        let in_context = |e: std::io::Error| {
            Error::new(Kind::Config, "cannot sort the names of a column")
                .with("binding", &self.bound.binding.column)
                .with("folder", folder.display())
                .because(e)
                .hint("names are sorted in files there: make room, or name another folder with --state")
        };
        let mut sorter = Sorter::new(folder);
        let mut whole = false;
        while let Some(page) = values.pages.blocking_recv() {
            let page = page?;
            let mut failed = None;
            self.names(&page.values, |name| {
                if failed.is_none() {
                    failed = sorter.push(name.as_str()).err();
                }
            });
            if let Some(e) = failed {
                return Err(in_context(e));
            }
            whole = page.last;
        }
        if !whole {
            return Err(
                Error::new(Kind::Database, "a column's values ended before their last page").with("binding", &self.bound.binding.column)
            );
        }
        let mut page = Vec::with_capacity(PAGE);
        for name in sorter.finish().map_err(in_context)? {
            let name = name.map_err(in_context)?;
            page.push(FileName::key(&name).map_err(|why| in_context(std::io::Error::other(format!("{name:?} {why}"))))?);
            if page.len() == PAGE && self.to.blocking_send(Ok((std::mem::replace(&mut page, Vec::with_capacity(PAGE)), false))).is_err() {
                return Ok(()); // nobody reads any more
            }
        }
        let _ = self.to.blocking_send(Ok((page, true)));
        Ok(())
    }
}
