//! What was true when: committed references, files under their names, transactions that a barrier can see.

use rustc_hash::FxHashMap as Map;

/// A committed reference: when it came, and when it went.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reference {
    pub came: (u64, u64),
    pub went: Option<(u64, u64)>,
}

/// A change of what lies under a name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    /// The event that reports it.
    pub event: usize,
    pub t0: u64,
    pub t: u64,
    /// Something was put there; otherwise it was taken away.
    pub put: bool,
    /// It may not have happened: its process was killed.
    pub maybe: bool,
}

/// A transaction that a barrier can see.
#[derive(Clone, Copy, Debug)]
pub(super) struct Visible {
    /// Visible for certain from here on.
    pub from: u64,
    /// Ended for certain only after this moment.
    pub open_until: u64,
}

/// What the writers' and Rowbound's own lines say about the world.
#[derive(Debug, Default)]
pub(super) struct Truth {
    pub references: Map<String, Vec<Reference>>,
    pub changes: Map<String, Vec<Change>>,
    /// Sorted by `from`.
    pub visible: Vec<Visible>,
    /// The greatest `open_until` of all up to each: a barrier asks often.
    longest: Vec<u64>,
}

impl Truth {
    /// Whether a name may have been referenced at some moment of `[from, to]`.
    pub fn may_be_held(&self, name: &str, from: u64, to: u64) -> bool {
        self.of(name).iter().any(|r| r.came.0 <= to && r.went.is_none_or(|w| w.1 >= from))
    }

    /// Whether it may have been unreferenced at some moment of `[from, to]`.
    pub fn may_be_free(&self, name: &str, from: u64, to: u64) -> bool {
        !self.of(name).iter().any(|r| r.came.1 < from && r.went.is_none_or(|w| w.0 > to))
    }

    fn of(&self, name: &str) -> &[Reference] {
        self.references.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether something, and whether nothing may have been under a name at some moment of `[from, to]`, leaving out what `event` itself
    /// reports.
    pub fn may_be(&self, file: &str, from: u64, to: u64, event: usize) -> (bool, bool) {
        let changes = self.changes.get(file).map_or(&[][..], Vec::as_slice);
        let before = |c: &&Change| c.event != event && c.t < from;
        let last = changes.iter().filter(before).filter(|c| !c.maybe).max_by_key(|c| c.t);
        let Some(last) = last else {
            // Nobody knows what was there at the start.
            return (true, true);
        };
        let mut may = (last.put, !last.put);
        for c in changes.iter().filter(|c| c.event != event && c.t >= last.t0 && c.t0 <= to) {
            may.0 |= c.put;
            may.1 |= !c.put;
        }
        may
    }

    /// A transaction that was visible before `noted` and open still after `passed`, which a barrier should have waited for.
    pub fn missed(&self, noted: u64, passed: u64) -> Option<Visible> {
        let end = self.visible.partition_point(|v| v.from < noted);
        if end == 0 || self.longest[end - 1] <= passed {
            return None;
        }
        self.visible[..end].iter().find(|v| v.open_until > passed).copied()
    }

    /// Puts everything in order, once all of it is known.
    pub fn sort(&mut self) {
        self.visible.sort_by_key(|v| v.from);
        let mut longest = 0;
        self.longest = self
            .visible
            .iter()
            .map(|v| {
                longest = v.open_until.max(longest);
                longest
            })
            .collect();
    }
}
