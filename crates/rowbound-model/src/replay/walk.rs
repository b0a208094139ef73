//! Good traces: random walks through the model, written down as real processes would.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{event::Event, random::Random};
use crate::{
    mode::{Faults, Kind, Scenario, Storage, Visibility},
    search::{Action, Class, Model, Next, Who},
    state::{D, GENS, Keep, O, ROWS, SLOTS, State, Step, bit, entry},
};

const LEASE: u64 = 1_000_000_000;

/// Instead of a count of rows: the process was killed.
const KILLED: u64 = u64::MAX;

/// A trace of `walks` random walks through the model, one after the other, each about a name and its derivative.
pub fn generate(seed: u64, walks: usize, locks: bool) -> Vec<Event> {
    let mut random = Random::new(seed);
    let mut writer = Writer::new(locks);
    writer.line("setup", "start", |e| (e.lease, e.locks, e.units) = (LEASE, locks, true));
    let works: [&[Kind]; 8] = [
        &[Kind::Delete, Kind::Reference],
        &[Kind::Delete, Kind::Undo],
        &[Kind::Delete, Kind::Reference, Kind::Reference, Kind::Delete],
        &[Kind::Delete, Kind::Upload, Kind::Delete],
        &[Kind::Delete, Kind::Replace],
        &[Kind::Delete, Kind::Restore],
        &[Kind::Delete, Kind::Undo, Kind::Delete],
        &[Kind::Touch, Kind::Delete, Kind::Reference],
    ];
    let storages = [Storage::Folder, Storage::Folder, Storage::Off, Storage::Plain];
    let mut done = 0;
    while done < walks {
        let visibility = if locks { Visibility::Deferred } else { Visibility::ALL[1 + random.below(3)] };
        let storage = storages[random.below(storages.len())];
        let work = works[random.below(works.len())];
        if storage == Storage::Plain && work.iter().any(|k| !matches!(k, Kind::Delete | Kind::Upload | Kind::Touch)) {
            continue;
        }
        let scenario = Scenario::new(visibility, storage, work, Faults { purge: false, ..Faults::any(1) });
        let model = Model::new(scenario);
        if let Some(steps) = walk(&model, &mut random) {
            writer.write(&model, done, &steps, &mut random);
            done += 1;
        }
    }
    writer.finish()
}

/// One JSON object a line.
pub fn to_lines(trace: &[Event]) -> String {
    trace.iter().map(|e| serde_json::to_string(e).unwrap_or_default() + "\n").collect()
}

/// A walk until nothing more happens: states with the steps between them.
fn walk(model: &Model, random: &mut Random) -> Option<Vec<(State, Next)>> {
    let mut state = model.start();
    let mut way = Vec::new();
    let mut steps = Vec::new();
    for at in 0..400 {
        model.steps(&state, &mut steps);
        let wild = at < 120;
        steps.retain(|n| match n.action.class {
            // Time stands still at first, so that more happens within a window.
            Class::Time => random.below(4) == 0 || !wild,
            Class::Fault => wild && random.below(6) == 0,
            Class::Begin => wild,
            _ => true,
        });
        if steps.is_empty() {
            let mut left = Vec::new();
            model.steps(&state, &mut left);
            if model.rests(&state, &left) {
                return Some(way);
            }
            continue;
        }
        let next = steps[random.below(steps.len())];
        way.push((state, next));
        state = next.state;
    }
    None
}

/// Writes walks down as events.
struct Writer {
    events: Vec<Event>,
    /// Who has said something, with the rows of an open transaction, or [`KILLED`].
    whos: BTreeMap<String, u64>,
    /// Re-checks of each loop.
    rounds: BTreeMap<String, u64>,
    now: u64,
    ids: u64,
    batches: u64,
    locks: bool,
}

/// What the writer remembers about one walk.
struct Walk {
    number: usize,
    /// A killed process is replaced by another one.
    lives: BTreeMap<String, usize>,
    ids: [u64; SLOTS],
    batch: [u64; 2],
    /// When the first of two removals or returns began.
    began: BTreeMap<String, u64>,
    noted: u64,
    checks: [u64; 2],
    rows: [String; ROWS],
    /// What became of each of the two files in the hands of a worker or a loop.
    facts: BTreeMap<String, BTreeMap<String, Value>>,
}

impl Walk {
    fn file(&self, name: usize) -> String {
        format!("{}{}.jpg", if name == O { "" } else { "thumbs/" }, self.number)
    }

    fn note(&mut self, who: &str, name: usize, fact: Value) {
        let file = self.file(name);
        self.facts.entry(who.to_owned()).or_default().insert(file, fact);
    }

    fn who(&self, kind: &str, i: u8) -> String {
        let key = format!("{kind}{i}");
        let life = self.lives.get(&key).copied().unwrap_or(0);
        format!("{}/{key}.{life}", self.number)
    }

    fn place(&self, s: &State, name: usize, generation: u8) -> String {
        format!("{}@{generation}.{}", self.file(name), s.place(generation) >> (4 * name) & 0xf)
    }
}

impl Writer {
    fn new(locks: bool) -> Writer {
        Writer { events: Vec::new(), whos: BTreeMap::new(), rounds: BTreeMap::new(), now: 1000, ids: 0, batches: 0, locks }
    }

    fn line(&mut self, who: &str, step: &str, fill: impl FnOnce(&mut Event)) {
        let mut e = Event { t: self.now, who: who.to_owned(), step: step.to_owned(), ..Event::default() };
        fill(&mut e);
        self.now += 10;
        // How many rows a transaction wrote and deleted so far.
        let rows = self.whos.entry(who.to_owned()).or_default();
        match step {
            "write" | "delete" => *rows += 1,
            "commit" | "rollback" => e.count = std::mem::take(rows),
            "killed" => *rows = KILLED,
            _ => {}
        }
        self.events.push(e);
    }

    fn finish(mut self) -> Vec<Event> {
        let left: Vec<String> = self.whos.iter().filter(|(_, rows)| **rows != KILLED).map(|(who, _)| who.clone()).collect();
        for who in left.iter().filter(|who| *who != "setup") {
            let round = self.rounds.get(who).copied().unwrap_or(0);
            self.line(who, "end", |e| e.round = round);
        }
        self.line("setup", "quiet", |_| {});
        self.events.sort_by_key(|e| e.t);
        self.events
    }

    fn write(&mut self, m: &Model, number: usize, steps: &[(State, Next)], random: &mut Random) {
        let mut w = Walk {
            number,
            lives: BTreeMap::new(),
            ids: [0; SLOTS],
            batch: [0; 2],
            began: BTreeMap::new(),
            noted: 0,
            checks: [0; 2],
            rows: std::array::from_fn(|r| format!("{number}.{r}")),
            facts: BTreeMap::new(),
        };
        let (name, derivative) = (w.file(O), w.file(D));
        let setup = format!("{number}/setup");
        self.line(&setup, "put", |e| e.name = derivative);
        self.line(&setup, "rollback", |_| {});
        self.line(&setup, "put", |e| e.name = name.clone());
        self.line(&setup, "write", |e| (e.name, e.row) = (name.clone(), format!("{number}.0")));
        self.line(&setup, "commit", |_| {});
        for (before, next) in steps {
            self.now += 20 + random.below(1000) as u64;
            self.step(m, &mut w, before, &next.state, next.action);
            // New candidates get their numbers when somebody claims them.
            for (slot, id) in w.ids.iter_mut().enumerate() {
                if !next.state.queue[slot].there {
                    *id = 0;
                } else if *id == 0 {
                    self.ids += 1;
                    *id = self.ids;
                }
            }
        }
    }

    fn step(&mut self, m: &Model, w: &mut Walk, before: &State, after: &State, action: Action) {
        match action.who {
            Who::App(i) => self.application(m, w, before, after, i, action.step),
            Who::Worker(i) => self.worker(w, before, after, i, action.step),
            Who::Keeper(i) => self.keeper(w, before, after, i, action.step),
            Who::Time => {
                self.now += LEASE / 10;
                if before.keepers[0].step == Keep::Idle && before.lease == 0 && !before.referenced() {
                    // A re-check that finds nothing to do.
                    self.recheck(w, 0, "free");
                }
            }
            Who::Outside => {}
        }
    }

    fn application(&mut self, m: &Model, w: &mut Walk, before: &State, after: &State, i: u8, step: &str) {
        let who = w.who("a", i);
        let name = w.file(O);
        let kind = m.scenario.workload[i as usize];
        let row = format!("{}.{}", w.number, i + 1);
        let touched = format!("{row}+");
        match step {
            "open" | "commit" | "rollback" => {
                if step == "commit" && kind == Kind::Touch {
                    w.rows[before.txns[i as usize].row as usize - 1] = touched;
                } else if step == "commit" && kind != Kind::Delete {
                    w.rows[1 + i as usize] = row;
                }
                self.line(&who, step, |_| {});
            }
            "die" => self.line(&who, "rollback", |_| {}),
            "look" | "begin immediate, look" => self.line(&who, "look", |e| (e.name, e.found) = (name.clone(), Some(true))),
            "stage" => self.line(&who, "stage", |e| e.name = name.clone()),
            "place" | "put" => {
                // The derivative's writer is another one, and has no row.
                let derivative = w.file(D);
                let other = format!("{who}d");
                self.line(&other, "put", |e| e.name = derivative);
                self.line(&other, "rollback", |_| {});
                self.line(&who, step, |e| e.name = name.clone());
                for at in self.events.len() - 3..self.events.len() {
                    // Both files come at the same moment in the model.
                    self.events[at].t0 = self.events[self.events.len() - 3].t;
                }
            }
            "restore" => {
                let files: Vec<usize> = [O, D].into_iter().filter(|n| before.trash[*n] != after.trash[*n]).collect();
                let generation = after.txns[i as usize].knows;
                let places: BTreeMap<String, Value> = files.iter().map(|n| (w.file(*n), json!(w.place(before, *n, generation)))).collect();
                self.line(&who, "restore", |e| (e.name, e.names) = (name.clone(), places));
            }
            "enter" => {}
            "write" | "insert again" => {
                let blind = step == "insert again";
                self.line(&who, "write", |e| (e.name, e.row, e.blind) = (name.clone(), row.clone(), blind));
            }
            "write, commit" | "insert again, commit" => {
                let blind = step == "insert again, commit";
                self.line(&who, "write", |e| (e.name, e.row, e.blind) = (name.clone(), row.clone(), blind));
                w.rows[1 + i as usize] = row;
                self.line(&who, "commit", |_| {});
            }
            "delete" | "delete, commit" => {
                // Which row it is shows in the transaction, or in what is left; one that is inserted again may be any.
                let left = (0..ROWS).find(|r| before.rows[*r] != 0 && after.rows[*r] == 0);
                let any = (0..ROWS).find(|r| before.rows[*r] != 0).unwrap_or(0);
                let gone = match after.txns[i as usize].row {
                    0 => left.unwrap_or(any),
                    row => row as usize - 1,
                };
                let old = w.rows[gone].clone();
                self.line(&who, "delete", |e| (e.name, e.row) = (name.clone(), old));
                if kind == Kind::Touch {
                    self.line(&who, "write", |e| (e.name, e.row, e.blind) = (name.clone(), touched.clone(), true));
                }
                if step == "delete, commit" {
                    if kind == Kind::Touch {
                        w.rows[gone] = touched;
                    }
                    self.line(&who, "commit", |_| {});
                }
            }
            _ => {}
        }
    }

    fn worker(&mut self, w: &mut Walk, before: &State, after: &State, i: u8, step: &str) {
        let at = i as usize;
        let who = w.who("w", i);
        let batch = w.batch[at];
        let name = w.file(O);
        let is = before.workers[at];
        let now = after.workers[at];
        let one = |fact: Value| BTreeMap::from([(name.clone(), fact)]);
        let say = |this: &mut Self, step: &str, fact: Value| this.line(&who, step, |e| (e.batch, e.names) = (batch, one(fact)));
        match step {
            "claimed" => {
                self.batches += 1;
                w.batch[at] = self.batches;
                w.checks[at] = 0;
                w.facts.remove(&who);
                let ids: Vec<u64> = (0..SLOTS).filter(|s| now.mask & 1 << s != 0).map(|s| w.ids[s]).collect();
                let batch = self.batches;
                self.line(&who, "claimed", |e| (e.batch, e.names) = (batch, one(json!(ids))));
            }
            "barrier-passed, looked" => {
                say(self, "barrier-passed", Value::Null);
                let fact = match (now.seen[O], now.found) {
                    (0, 0) => Value::Null,
                    (0, found) => json!({ "trash": w.place(before, O, found) }),
                    (seen, _) => json!(format!("v{seen}")),
                };
                say(self, "looked", fact);
            }
            "listed" => {
                let found = if now.seen[D] == 0 { json!([]) } else { json!([w.file(D)]) };
                say(self, "listed", found);
            }
            "looked: missing still" => say(self, "looked", Value::Null),
            "put back: the original is there now" => {
                say(self, "looked", json!("new"));
                say(self, "settled", json!({ "back": "there" }));
            }
            "checked: held" => say(self, "checked", json!("held")),
            "checked: free" => say(self, "checked", json!("free")),
            "confirmed" => say(self, "confirmed", Value::Null),
            "rested" => say(self, "rested", Value::Null),
            "second-barrier-passed, checked-again: free" => {
                say(self, "second-barrier-passed", Value::Null);
                self.again(w, at, &who, "free");
            }
            "checked-again: held" => {
                if is.waits == 0 {
                    say(self, "second-barrier-passed", Value::Null);
                }
                self.again(w, at, &who, "held");
                if is.waits != 0 {
                    self.events.iter_mut().rev().take(1).for_each(|e| e.interim = true);
                }
            }
            "checked-again: held still" => self.again(w, at, &who, "held"),
            "put back: released again" => {
                self.again(w, at, &who, "free");
                say(self, "settled", json!({ "back": "released" }));
            }
            "put back: waits for transactions" => say(self, "settled", json!({ "back": "barrier" })),
            "put back: young" => {
                say(self, "checked", json!("free"));
                say(self, "settled", json!({ "back": "young" }));
            }
            "put back: the lease was lost" => say(self, "settled", json!({ "back": "lease" })),
            "put back: referenced meanwhile" => say(self, "settled", json!({ "back": "referenced" })),
            "put back: nothing was taken" => say(self, "settled", json!({ "back": "nothing" })),
            "settling: the COMMIT failed" => say(self, "settled", json!({ "back": "commit" })),
            "removed" => {}
            "paused past its lease" => self.now += 3 * LEASE,
            "killed" => self.kill(w, "w", i),
            step if step.starts_with("remove-one") => self.removed(w, before, after, at, &who, step),
            "returned: one of two" | "returned" => self.returned(w, before, after, at, &who, false),
            "returned: the storage failed" => {
                self.returned(w, before, after, at, &who, true);
                say(self, "settled", json!({ "back": "failed" }));
            }
            step if step.starts_with("settled") => {
                let outcome = step.trim_start_matches("settled: ");
                let held = (0..SLOTS).any(|s| is.mask & 1 << s != 0 && before.queue[s].there && before.queue[s].owner == i + 1);
                let mut entered = BTreeMap::new();
                for file in [O, D] {
                    for generation in 1..=GENS as u8 {
                        if before.entry(file, generation) == after.entry(file, generation) {
                            continue;
                        }
                        let place = w.place(after, file, generation);
                        let fact = match after.entry(file, generation) {
                            entry::TRASHED => json!({ "trashed": place }),
                            entry::RESTORED => json!({ "restored": place }),
                            _ => json!({ "purged": null }),
                        };
                        entered.insert(w.file(file), fact);
                    }
                }
                let fact = if held || self.locks { json!(outcome) } else { json!("lost") };
                self.line(&who, "settled", |e| (e.batch, e.names, e.entered) = (batch, one(fact), entered));
            }
            _ => {}
        }
    }

    fn again(&mut self, w: &mut Walk, at: usize, who: &str, fact: &str) {
        w.checks[at] += 1;
        let (batch, round, name) = (w.batch[at], w.checks[at], w.file(O));
        self.line(who, "checked-again", |e| (e.batch, e.round, e.names) = (batch, round, BTreeMap::from([(name, json!(fact))])));
    }

    /// The model takes two files away one after the other; a worker says so in one line.
    fn removed(&mut self, w: &mut Walk, before: &State, after: &State, at: usize, who: &str, step: &str) {
        let first = before.workers[at].step == Step::Confirmed;
        let (is, now) = (before.workers[at], after.workers[at]);
        let batch = w.batch[at];
        let name = if first { O } else { D };
        w.began.entry(who.to_owned()).or_insert(self.now);
        let generation = before.file[name];
        let fact = match step {
            "remove-one: moved" => Some(json!({ "moved": w.place(after, name, generation) })),
            "remove-one: erased" => Some(json!("erased")),
            "remove-one: missing" => Some(json!("missing")),
            "remove-one: changed" => Some(json!("changed")),
            "remove-one: missing or changed" => Some(json!(if generation == 0 { "missing" } else { "changed" })),
            "remove-one: the storage failed" => Some(json!("failed")),
            _ => None,
        };
        if let Some(fact) = fact {
            w.note(who, name, fact);
        }
        let back = now.step == Step::Idle;
        if !first || back {
            let facts = w.facts.remove(who).unwrap_or_default();
            let began = w.began.remove(who).unwrap_or(self.now);
            if !facts.is_empty() {
                self.line(who, "removed", |e| (e.t0, e.batch, e.names) = (began, batch, facts));
            }
        }
        if back {
            let why = match step {
                "remove-one: missing" => "missing",
                "remove-one: changed" => "changed",
                _ => "failed",
            };
            let original = w.file(O);
            self.line(who, "settled", |e| (e.batch, e.names) = (batch, BTreeMap::from([(original, json!({ "back": why }))])));
        }
        let _ = is;
    }

    fn returned(&mut self, w: &mut Walk, before: &State, after: &State, at: usize, who: &str, failed: bool) {
        let (is, now) = (before.workers[at], after.workers[at]);
        let first = is.step == Step::CheckedAgain;
        let name = if first { D } else { O };
        w.began.entry(who.to_owned()).or_insert(self.now);
        let came = before.trash[name] != after.trash[name];
        let generation = if first { now.back } else { is.back };
        let fact = match came {
            true => json!({ "back": w.place(before, name, generation) }),
            false if failed => json!("failed"),
            false if before.file[name] != 0 => json!("occupied"),
            false => json!("missing"),
        };
        w.note(who, name, fact);
        if !first || failed {
            let facts = w.facts.remove(who).unwrap_or_default();
            let began = w.began.remove(who).unwrap_or(self.now);
            let batch = w.batch[at];
            self.line(who, "returned", |e| (e.t0, e.batch, e.names) = (began, batch, facts));
        }
    }

    fn kill(&mut self, w: &mut Walk, kind: &str, i: u8) {
        let who = w.who(kind, i);
        if self.whos.contains_key(&who) {
            self.line(&who, "killed", |_| {});
            *w.lives.entry(format!("{kind}{i}")).or_default() += 1;
        }
        w.began.remove(&who);
        w.facts.remove(&who);
        self.now += 3 * LEASE;
    }

    fn recheck(&mut self, w: &mut Walk, i: u8, fact: &str) {
        let who = w.who("k", i);
        let round = self.rounds.entry(who.clone()).or_default();
        *round += 1;
        let (round, name) = (*round, w.file(O));
        self.line(&who, "recheck-checked", |e| (e.round, e.names) = (round, BTreeMap::from([(name, json!(fact))])));
    }

    fn keeper(&mut self, w: &mut Walk, before: &State, after: &State, i: u8, step: &str) {
        let at = i as usize;
        let who = w.who("k", i);
        let (is, now) = (before.keepers[at], after.keepers[at]);
        let original = w.file(O);
        let places = |w: &Walk, names: &[usize], s: &State, generation: u8| -> BTreeMap<String, Value> {
            names.iter().map(|n| (w.file(*n), json!(w.place(s, *n, generation)))).collect()
        };
        let one = |fact: &str| BTreeMap::from([(original.clone(), json!(fact))]);
        match step {
            "recheck-checked" => {
                self.recheck(w, i, "held");
            }
            "recheck-returned: one of two" | "recheck-returned" | "recheck-returned: the storage failed" => {
                let first = is.step == Keep::Checked;
                let name = if first { D } else { O };
                w.began.entry(who.clone()).or_insert(self.now);
                if before.trash[name] != after.trash[name] {
                    let fact = json!({ "back": w.place(before, name, is.generation) });
                    w.note(&who, name, fact);
                }
                let failed = step.ends_with("failed");
                if !first || failed {
                    let facts = w.facts.remove(&who).unwrap_or_default();
                    let began = w.began.remove(&who).unwrap_or(self.now);
                    let entered: BTreeMap<String, Value> = facts.iter().map(|(f, v)| (f.clone(), v["back"].clone())).collect();
                    self.line(&who, "recheck-returned", |e| (e.t0, e.names) = (began, facts));
                    if failed {
                        // What came back is entered all the same.
                        self.line(&who, "recheck-entered", |e| e.names = entered);
                    } else {
                        w.facts.insert(who.clone(), entered);
                    }
                }
            }
            "recheck-entered" => {
                let entered = w.facts.remove(&who).unwrap_or_default();
                self.line(&who, "recheck-entered", |e| e.names = entered);
            }
            "erasure begun" => w.noted = self.now,
            "erasure-barrier-passed, erasure-checked" | "erasure-checked: referenced" | "erasure-checked: in the queue" => {
                let generation = before.pending.generation;
                let mut seen = *before;
                seen.place[generation as usize - 1] = before.pending.place;
                let places = places(w, &[O, D], &seen, generation);
                let noted = w.noted;
                self.line(&who, "erasure-barrier-passed", |e| (e.noted, e.names) = (noted, places));
                let fact = match (now.step, step) {
                    (Keep::EraseChecked, _) => "free",
                    (_, "erasure-checked: in the queue") => "queued",
                    _ => "held",
                };
                self.line(&who, "erasure-checked", |e| e.names = one(fact));
            }
            "erasure-noted" => {
                let mut seen = *before;
                seen.place[is.generation as usize - 1] = is.place;
                let places = places(w, &[O, D], &seen, is.generation);
                self.line(&who, "erasure-noted", |e| e.names = places);
            }
            "purge-one" | "purging" | "purge-one: the storage failed" => {
                let first = is.step == Keep::Noted;
                let name = if first { O } else { D };
                w.began.entry(who.clone()).or_insert(self.now);
                let fact = match before.trash[name] & bit(is.generation) != after.trash[name] & bit(is.generation) {
                    true => "erased",
                    false if step.ends_with("failed") => "failed",
                    false => "missing",
                };
                w.note(&who, name, json!(fact));
                if now.step == Keep::Purging {
                    let facts = w.facts.remove(&who).unwrap_or_default();
                    let began = w.began.remove(&who).unwrap_or(self.now);
                    let erased: Vec<usize> = [O, D].into_iter().filter(|n| facts.get(&w.file(*n)) == Some(&json!("erased"))).collect();
                    let mut seen = *before;
                    seen.place[is.generation as usize - 1] = is.place;
                    let entered = places(w, &erased, &seen, is.generation);
                    self.line(&who, "purging", |e| (e.t0, e.names) = (began, facts));
                    w.facts.insert(who.clone(), entered);
                }
            }
            "purged" => {
                let entered = w.facts.remove(&who).unwrap_or_default();
                self.line(&who, "purged", |e| e.names = entered);
            }
            "recovered a note" | "entered as gone" => {
                let mut entered = BTreeMap::new();
                for name in [O, D] {
                    for generation in 1..=GENS as u8 {
                        if before.entry(name, generation) != after.entry(name, generation) {
                            entered.insert(w.file(name), json!(w.place(before, name, generation)));
                        }
                    }
                }
                let step = if step == "entered as gone" { "gone" } else { "purged" };
                if !entered.is_empty() {
                    self.line(&who, step, |e| e.names = entered);
                }
            }
            "reported: referenced after its window" => self.line(&who, "reported", |e| e.names = one("held")),
            "stops: the lease was lost" => self.line(&who, "stopped", |_| {}),
            "paused past its lease" => self.now += 3 * LEASE,
            "killed" => self.kill(w, "k", i),
            _ => {}
        }
    }
}
