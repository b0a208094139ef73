//! What reports keep of a sweep while it runs, and how they show names.
//!
//! In: findings, one by one, in the listing's order. Out: what a page has room for. Promise: the memory is bounded, however much is found.

use std::{
    collections::BinaryHeap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use rowbound::{
    storage::Storage,
    sweep::{Dangling, Orphan, Report},
};

/// Orphans that a page lists by name beside those that it shows.
const LISTED: usize = 5_000;

/// Rows with dangling references that a page lists.
const ROWS: usize = 1_000;

/// What a page shows of the findings in one storage.
#[derive(Debug)]
pub struct Findings {
    shown: usize,
    orphans: BinaryHeap<Drawn>,
    dangling: Vec<Dangling>,
    rows: u64,
}

/// An orphan with its lot. Those with the lowest are kept: a sample of all folders, and the same one whenever the same is found, however
/// often the sweep was interrupted.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Drawn {
    lot: u64,
    name: rowbound::FileName,
    size: u64,
    modified: jiff::Timestamp,
}

/// Findings of one storage, drawn.
#[derive(Debug)]
pub struct Sample {
    /// Orphans to show, by name.
    pub shown: Vec<Orphan>,
    /// Orphans to list, by name.
    pub listed: Vec<Orphan>,
    /// Dangling references to list, as they were found.
    pub dangling: Vec<Dangling>,
    /// Rows with dangling references that were found.
    pub rows: u64,
}

impl Findings {
    /// Nothing yet; at most `shown` orphans are shown with a picture.
    pub fn new(shown: usize) -> Self {
        Findings { shown, orphans: BinaryHeap::new(), dangling: Vec::new(), rows: 0 }
    }

    /// Takes note of an orphan.
    pub fn orphan(&mut self, orphan: &Orphan) {
        let mut hasher = DefaultHasher::new();
        orphan.name.as_str().hash(&mut hasher);
        let lot = hasher.finish();
        let full = self.orphans.len() >= self.shown.saturating_add(LISTED);
        if full && self.orphans.peek().is_some_and(|last| last.lot <= lot) {
            return;
        }
        self.orphans.push(Drawn { lot, name: orphan.name.clone(), size: orphan.size, modified: orphan.modified });
        if full {
            self.orphans.pop();
        }
    }

    /// Takes note of a row that references a file that is not there.
    pub fn dangling(&mut self, row: &Dangling) {
        self.rows += 1;
        if self.dangling.len() < ROWS {
            self.dangling.push(row.clone());
        }
    }

    /// What is shown and what is listed.
    pub fn sample(self) -> Sample {
        let orphan = |d: Drawn| Orphan { name: d.name, size: d.size, modified: d.modified };
        let mut shown: Vec<Orphan> = self.orphans.into_sorted_vec().into_iter().map(orphan).collect();
        let mut listed = shown.split_off(self.shown.min(shown.len()));
        for part in [&mut shown, &mut listed] {
            part.sort_by(|a, b| a.name.cmp(&b.name));
        }
        Sample { shown, listed, dangling: self.dangling, rows: self.rows }
    }
}

/// A storage that was swept.
#[derive(Debug)]
pub struct Section {
    /// What was found and done.
    pub report: Report,
    /// What a page shows of it.
    pub findings: Findings,
    /// Where the pictures are.
    pub storage: Arc<dyn Storage>,
}

/// A name for people: what cannot be seen, blanks at its ends too, and what would turn the direction of what follows, is escaped.
pub fn shown(name: &str) -> String {
    let (first, last) = (name.len() - name.trim_start().len(), name.trim_end().len());
    let escaped = |i: usize, c: char| unseen(c) || i < first || i >= last;
    name.char_indices().map(|(i, c)| if escaped(i, c) { c.escape_unicode().to_string() } else { c.to_string() }).collect()
}

fn unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// A number for people: `10,000`.
pub fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use rowbound::FileName;

    fn orphan(name: &str) -> Orphan {
        Orphan { name: FileName::parse(name).unwrap(), size: 1, modified: jiff::Timestamp::UNIX_EPOCH }
    }

    #[test]
    fn the_sample_is_bounded_sorted_and_the_same_in_any_order() {
        let names: Vec<String> = (0..20_000).map(|i| format!("{:02}/{i}.jpg", i % 50)).collect();
        let draw = |names: &mut dyn Iterator<Item = &String>| {
            let mut findings = Findings::new(400);
            names.for_each(|name| findings.orphan(&orphan(name)));
            findings.sample()
        };
        let sample = draw(&mut names.iter());
        assert_eq!((sample.shown.len(), sample.listed.len()), (400, LISTED));
        assert!(sample.shown.is_sorted_by(|a, b| a.name < b.name) && sample.listed.is_sorted_by(|a, b| a.name < b.name));
        let folders: std::collections::BTreeSet<_> = sample.shown.iter().map(|o| o.name.folder()).collect();
        assert!(folders.len() > 40, "a sample of all folders: {}", folders.len());
        assert_eq!(draw(&mut names.iter().rev()).shown, sample.shown);
        assert_eq!(draw(&mut names[..7].iter()).shown.len(), 7);
    }

    #[test]
    fn names_and_numbers_read_well() {
        assert_eq!(shown("a\u{202e}gpj.exe\n\u{e9}\u{1f408}"), "a\\u{202e}gpj.exe\\u{a}\u{e9}\u{1f408}");
        assert_eq!((shown(" a  b "), shown("  "), shown("")), ("\\u{20}a  b\\u{20}".into(), "\\u{20}\\u{20}".into(), String::new()));
        for (n, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(number(n), text);
        }
    }
}
