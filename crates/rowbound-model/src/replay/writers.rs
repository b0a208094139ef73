//! The first pass: writers' lines through their own guards, and everything that they and Rowbound say about rows and files.

use rustc_hash::FxHashMap as Map;
use serde_json::Value;

use super::{
    check::Refusal,
    event::Event,
    guard::place,
    truth::{Change, Reference, Truth, Visible},
};

/// A writer's open transaction.
#[derive(Debug, Default)]
struct Txn {
    /// The name that it looked at or brought a file to, and whether a file is there for it.
    has: Option<(String, bool)>,
    staged: Option<String>,
    /// Row and name of pending writes and deletes.
    writes: Vec<(String, String)>,
    deletes: Vec<String>,
    visible: Option<u64>,
}

#[derive(Debug, Default)]
struct Learner {
    truth: Truth,
    open: Map<String, Txn>,
    /// Row -> its name, and when it came.
    rows: Map<String, (String, (u64, u64))>,
    /// Row -> when it went, and in which line. It may stand before the line in which the row comes, where the two overlap.
    gone: Map<String, ((u64, u64), usize)>,
    /// What a worker or a loop is about to do to which files, if it is killed now: taken away, or brought back.
    about: Map<(String, u64), (u64, Vec<String>, bool)>,
    derivatives: Map<String, Vec<String>>,
}

/// Learns what was true when.
///
/// # Errors
/// The first writer's line that does not follow the one before it.
pub(super) fn learn(events: &[Event]) -> Result<Truth, Refusal> {
    let mut learner = Learner::default();
    for (at, e) in events.iter().enumerate() {
        learner.step(at, e).map_err(|why| Refusal { line: at + 1, why })?;
    }
    if let Some(who) = learner.open.keys().next() {
        return Err(Refusal { line: events.len(), why: format!("a transaction of {who} never ended") });
    }
    learner.finish()
}

impl Learner {
    fn step(&mut self, at: usize, e: &Event) -> Result<(), String> {
        match e.step.as_str() {
            "open" | "look" | "stage" | "place" | "put" | "restore" | "write" | "delete" | "commit" | "rollback" => self.writer(at, e),
            "end" if self.open.contains_key(&e.who) => Err(format!("{} ends in a transaction", e.who)),
            "killed" => {
                self.open.remove(&e.who);
                let keys: Vec<_> = self.about.keys().filter(|(who, _)| *who == e.who).cloned().collect();
                for key in keys {
                    if let Some((since, files, put)) = self.about.remove(&key) {
                        for file in files {
                            self.change(&file, Change { event: at, t0: since, t: e.t, put, maybe: true });
                        }
                    }
                }
                Ok(())
            }
            _ => {
                self.rowbound(at, e);
                Ok(())
            }
        }
    }

    fn change(&mut self, file: &str, change: Change) {
        self.truth.changes.entry(file.to_owned()).or_default().push(change);
    }

    fn writer(&mut self, at: usize, e: &Event) -> Result<(), String> {
        let refuse = |what: &str| Err(format!("{}: {what}", e.who));
        let open = self.open.remove(&e.who);
        let begun = open.is_some();
        let mut txn = open.unwrap_or_default();
        let put = Change { event: at, t0: e.begin(), t: e.t, put: true, maybe: false };
        match e.step.as_str() {
            "open" if begun => return refuse("opens a transaction in a transaction"),
            "open" => txn.visible = Some(e.t),
            "look" if txn.has.is_some() || txn.staged.is_some() || !txn.writes.is_empty() => return refuse("looks twice in a transaction"),
            "look" => txn.has = Some((e.name.clone(), e.found == Some(true))),
            "stage" if begun && txn.has.as_ref().is_none_or(|h| h.1) => return refuse("announces an upload in the middle of something"),
            "stage" => (txn.staged, txn.has) = (Some(e.name.clone()), None),
            "place" if txn.staged.as_ref() != Some(&e.name) => return refuse("places a file that it did not announce"),
            "place" => {
                (txn.staged, txn.has) = (None, Some((e.name.clone(), true)));
                self.change(&e.name, put);
            }
            "put" if begun && txn.has.as_ref().is_none_or(|h| h.1) => return refuse("puts a file in the middle of something"),
            "put" => {
                txn.has = Some((e.name.clone(), true));
                self.change(&e.name, put);
            }
            "restore" if begun => return refuse("restores in a transaction"),
            "restore" => {
                for file in e.names.keys() {
                    self.change(file, put);
                }
                txn.has = Some((e.name.clone(), true));
            }
            "write" if !e.blind && txn.has != Some((e.name.clone(), true)) => return refuse("references a file that it did not find"),
            "write" if txn.writes.iter().any(|w| w.0 == e.row) || self.rows.contains_key(&e.row) => return refuse("writes a row twice"),
            "write" => {
                txn.has = None;
                txn.visible.get_or_insert(e.t);
                txn.writes.push((e.row.clone(), e.name.clone()));
            }
            "delete" if txn.deletes.contains(&e.row) || self.gone.get(&e.row).is_some_and(|g| g.0.1 < e.begin()) => {
                return refuse("deletes a row that is not there");
            }
            "delete" => {
                txn.visible.get_or_insert(e.t);
                txn.deletes.push(e.row.clone());
            }
            "commit" if txn.writes.is_empty() && txn.deletes.is_empty() => return refuse("commits nothing"),
            "rollback" if !begun => return refuse("rolls back nothing"),
            // A commit, or a rollback.
            step => {
                let rows = (txn.writes.len() + txn.deletes.len()) as u64;
                if e.count != rows {
                    return Err(format!("{} ends with {} rows, but wrote and deleted {rows}", e.who, e.count));
                }
                if step == "commit" {
                    self.commit(at, e, &txn)?;
                }
                if let Some(from) = txn.visible {
                    self.truth.visible.push(Visible { from, open_until: e.begin() });
                }
                return Ok(());
            }
        }
        self.open.insert(e.who.clone(), txn);
        Ok(())
    }

    fn commit(&mut self, at: usize, e: &Event, txn: &Txn) -> Result<(), String> {
        for row in &txn.deletes {
            if self.gone.insert(row.clone(), ((e.begin(), e.t), at)).is_some() {
                return Err(format!("row {row} was deleted by another"));
            }
        }
        for (row, name) in &txn.writes {
            if self.rows.insert(row.clone(), (name.clone(), (e.begin(), e.t))).is_some() {
                return Err(format!("row {row} was written by another"));
            }
        }
        Ok(())
    }

    /// Puts rows together: when each came and went.
    fn finish(mut self) -> Result<Truth, Refusal> {
        for (row, (name, came)) in &self.rows {
            let went = self.gone.remove(row);
            if let Some(((_, t), at)) = went
                && t < came.0
            {
                return Err(Refusal { line: at + 1, why: format!("row {row} goes before it comes") });
            }
            let reference = Reference { came: *came, went: went.map(|w| w.0) };
            self.truth.references.entry(name.clone()).or_default().push(reference);
        }
        if let Some((row, (_, at))) = self.gone.iter().min_by_key(|(_, (_, at))| *at) {
            return Err(Refusal { line: at + 1, why: format!("row {row} goes, but never came") });
        }
        self.truth.sort();
        Ok(self.truth)
    }

    /// What Rowbound's lines say about files.
    fn rowbound(&mut self, at: usize, e: &Event) {
        let key = (e.who.clone(), e.batch);
        let change = |put| Change { event: at, t0: e.begin(), t: e.t, put, maybe: false };
        match e.step.as_str() {
            "listed" => {
                for (name, fact) in &e.names {
                    let found = fact.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
                    // Those of earlier batches may be in the trash now.
                    let all = self.derivatives.entry(name.clone()).or_default();
                    found.for_each(|file| {
                        if !all.contains(&file) {
                            all.push(file);
                        }
                    });
                }
            }
            "confirmed" => self.prepare(key, e, false, |_| true),
            "checked" | "checked-again" | "recheck-checked" => self.prepare(key, e, true, |fact| fact == "held"),
            "erasure-noted" => {}
            "removed" | "returned" | "recheck-returned" => {
                for (file, fact) in &e.names {
                    if place(fact, "moved").is_some() || fact == "erased" {
                        self.change(file, change(false));
                    } else if place(fact, "back").is_some() {
                        self.change(file, change(true));
                    }
                }
                self.about.remove(&key);
            }
            "settled" | "recheck-entered" | "stopped" => drop(self.about.remove(&key)),
            _ => {}
        }
    }

    /// Remembers what a process does next, in case it is killed before it can say so.
    fn prepare(&mut self, key: (String, u64), e: &Event, put: bool, about: impl Fn(&Value) -> bool) {
        let names = e.names.iter().filter(|(_, fact)| about(fact)).map(|(name, _)| name);
        let files = names.flat_map(|n| std::iter::once(n.clone()).chain(self.derivatives.get(n).into_iter().flatten().cloned()));
        let files: Vec<String> = files.collect();
        if !files.is_empty() {
            self.about.insert(key, (e.begin(), files, put));
        }
    }
}
