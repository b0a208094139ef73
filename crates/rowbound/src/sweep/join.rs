//! The join: two ordered sides, page by page. Pure.
//!
//! In: pages of files and pages of rows' names, in bytewise order. Out: one [`Next`] after the other. Promise: what is not in order is an
//! error before anything is concluded from it.

use std::{collections::VecDeque, fmt};

use crate::name::FileName;

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// A file that no row references.
    File(FileName),
    /// A name that rows hold and that no file has.
    Row(FileName),
    /// A file that rows reference.
    Both(FileName),
    /// The next page of files is needed.
    MoreFiles,
    /// The next page of rows is needed.
    MoreRows,
    /// Both sides are at their end.
    End,
}

/// A side is not in bytewise order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutOfOrder {
    /// What came first.
    pub before: FileName,
    /// What came next, but sorts before it (or, among files, is the same).
    pub after: FileName,
}

impl fmt::Display for OutOfOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} came before {:?}", self.before, self.after)
    }
}

#[derive(Debug, Default)]
struct Side {
    page: VecDeque<FileName>,
    newest: Option<FileName>,
    ended: bool,
}

impl Side {
    /// Takes a page over; `strict` refuses a name that comes twice.
    fn feed(&mut self, page: Vec<FileName>, last: bool, strict: bool) -> Result<(), OutOfOrder> {
        for name in page {
            match &self.newest {
                Some(before) if *before > name || strict && *before == name => {
                    return Err(OutOfOrder { before: before.clone(), after: name });
                }
                Some(before) if *before == name => continue,
                _ => {}
            }
            self.newest = Some(name.clone());
            self.page.push_back(name);
        }
        self.ended = last;
        Ok(())
    }
}

/// Both sides, as far as they are known.
#[derive(Debug, Default)]
pub struct Join {
    files: Side,
    rows: Side,
}

impl Join {
    /// The next page of files; `last`: no other follows.
    ///
    /// # Errors
    /// When it is not in order, or a file comes twice.
    pub fn files(&mut self, page: Vec<FileName>, last: bool) -> Result<(), OutOfOrder> {
        self.files.feed(page, last, true)
    }

    /// The next page of rows' names, each as often as it likes.
    ///
    /// # Errors
    /// When it is not in order.
    pub fn rows(&mut self, page: Vec<FileName>, last: bool) -> Result<(), OutOfOrder> {
        self.rows.feed(page, last, false)
    }

    /// What comes next.
    pub fn next(&mut self) -> Next {
        let (file, row) = (self.files.page.front(), self.rows.page.front());
        match (file, row) {
            (None, _) if !self.files.ended => Next::MoreFiles,
            (_, None) if !self.rows.ended => Next::MoreRows,
            (None, None) => Next::End,
            (Some(f), Some(r)) if f == r => {
                self.rows.page.pop_front();
                self.files.page.pop_front().map_or(Next::End, Next::Both)
            }
            (Some(f), Some(r)) if f > r => self.rows.page.pop_front().map_or(Next::End, Next::Row),
            (None, Some(_)) => self.rows.page.pop_front().map_or(Next::End, Next::Row),
            (Some(_), _) => self.files.page.pop_front().map_or(Next::End, Next::File),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> FileName {
        FileName::parse(text).unwrap()
    }

    /// Cuts `names` into pages at the given places; some pages are empty.
    fn pages(names: &[FileName], cuts: &[prop::sample::Index]) -> Vec<Vec<FileName>> {
        let mut at: Vec<usize> = cuts.iter().map(|c| c.index(names.len() + 1)).collect();
        at.sort_unstable();
        let mut out = Vec::new();
        let mut from = 0;
        for to in at {
            out.push(names[from..to].to_vec());
            from = to;
        }
        out.push(names[from..].to_vec());
        out
    }

    fn run(files: Vec<Vec<FileName>>, rows: Vec<Vec<FileName>>) -> Result<Vec<Next>, OutOfOrder> {
        let (mut join, mut out) = (Join::default(), Vec::new());
        let (mut files, mut rows) = (VecDeque::from(files), VecDeque::from(rows));
        loop {
            match join.next() {
                Next::End => return Ok(out),
                Next::MoreFiles => {
                    let page = files.pop_front().expect("a page that is owed");
                    join.files(page, files.is_empty())?;
                }
                Next::MoreRows => {
                    let page = rows.pop_front().expect("a page that is owed");
                    join.rows(page, rows.is_empty())?;
                }
                found => out.push(found),
            }
        }
    }

    /// Names that are prefixes of others, that differ in a separator only, that lie at the ends of UTF-8's ranges.
    fn odd_name() -> impl Strategy<Value = String> {
        let part = prop::sample::select(vec!["a", "a.txt", "b", "A", "é", "\u{7f}", "\u{80}", "\u{ffff}", "😀", " ", "-", "0", "~"]);
        proptest::collection::vec(part, 1..4).prop_flat_map(|parts| {
            proptest::collection::vec(prop::sample::select(vec!["/", "", "."]), parts.len() - 1).prop_map(move |seps| {
                let mut text = parts[0].to_owned();
                for (sep, part) in seps.iter().zip(&parts[1..]) {
                    text.push_str(sep);
                    text.push_str(part);
                }
                text
            })
        })
    }

    fn side() -> impl Strategy<Value = Vec<FileName>> {
        proptest::collection::vec(odd_name(), 0..40)
            .prop_map(|names| names.iter().filter_map(|n| FileName::parse(n).ok()).collect::<Vec<_>>())
    }

    proptest! {
        #[test]
        fn the_join_is_the_difference_of_sets(
            files in side(),
            mut rows in side(),
            file_cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
            row_cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let files: BTreeSet<FileName> = files.into_iter().collect();
            rows.sort(); // with its duplicates
            let set: BTreeSet<FileName> = rows.iter().cloned().collect();
            let listed: Vec<FileName> = files.iter().cloned().collect();
            let found = run(pages(&listed, &file_cuts), pages(&rows, &row_cuts)).unwrap();
            let wanted: Vec<Next> = files.union(&set).map(|n| match (files.contains(n), set.contains(n)) {
                (true, true) => Next::Both(n.clone()),
                (true, false) => Next::File(n.clone()),
                _ => Next::Row(n.clone()),
            }).collect();
            prop_assert_eq!(found, wanted);
        }

        #[test]
        fn what_is_not_in_order_is_an_error(mut names in side(), cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6)) {
            names.dedup();
            let sorted = names.is_sorted();
            let strictly = names.is_sorted_by(|a, b| a < b);
            prop_assert_eq!(run(pages(&names, &cuts), vec![vec![]]).is_ok(), strictly);
            prop_assert_eq!(run(vec![vec![]], pages(&names, &cuts)).is_ok(), sorted);
        }
    }

    #[test]
    fn a_separator_sorts_by_its_byte() {
        // `.` is before `/` is before letters: what a folder-wise order gets wrong.
        let files = ["a", "a-b", "a.txt", "a/b", "aa"].map(name).to_vec();
        let rows = ["a", "a.txt", "a/b"].map(name).to_vec();
        let found = run(vec![files], vec![rows]).unwrap();
        let orphans: Vec<_> = found.into_iter().filter_map(|n| if let Next::File(f) = n { Some(f.to_string()) } else { None }).collect();
        assert_eq!(orphans, ["a-b", "aa"]);
    }
}
