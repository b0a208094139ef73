//! What a process does, step by step, as lines that `rowbound-model` replays (its module `replay` has the format).
//!
//! Built only with the feature `trace`, which the tests switch on, and silent unless `ROWBOUND_TRACE` names a file to append to. A line stands before the crash
//! point of its step, so that a process that is killed there has said what it did.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::File,
    io::Write,
    sync::{Arc, LazyLock, Mutex},
};

use serde_json::{Map, Value, json};

/// Facts by name or file.
pub(crate) type Facts = BTreeMap<String, Value>;

/// Where the lines go; `None`: nobody listens.
fn sink() -> Option<&'static Mutex<File>> {
    static SINK: LazyLock<Option<Mutex<File>>> = LazyLock::new(|| {
        let path = std::env::var_os("ROWBOUND_TRACE").filter(|_| cfg!(feature = "trace"))?;
        Some(Mutex::new(File::options().create(true).append(true).open(path).ok()?))
    });
    if cfg!(feature = "trace") { SINK.as_ref() } else { None }
}

/// This moment, by the clock that all processes of a machine share, in nanoseconds; 0 if nobody listens.
pub(crate) fn now() -> u64 {
    if listens() { clock() } else { 0 }
}

/// Whether anybody hears what is said.
pub(crate) fn listens() -> bool {
    sink().is_some()
}

/// The same, whoever listens: for a test that adds lines of its own.
pub fn clock() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// Writes a line: `who` did `step` between `began` and now.
fn line(who: &str, step: &str, began: u64, facts: Facts, more: &[(&str, Value)]) {
    let Some(sink) = sink() else { return };
    let mut fields = Map::new();
    fields.insert("t0".into(), began.into());
    fields.insert("who".into(), who.into());
    fields.insert("step".into(), step.into());
    fields.insert("names".into(), Value::Object(facts.into_iter().collect()));
    fields.extend(more.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    // The moment is taken under the lock: a file's lines are in order.
    let mut file = sink.lock().unwrap_or_else(|e| e.into_inner());
    fields.insert("t".into(), clock().into());
    // A trace that cannot be written is one that the checker refuses.
    let _ = file.write_all((Value::Object(fields).to_string() + "\n").as_bytes());
}

/// A batch that tells what it does.
#[derive(Debug, Clone, Default)]
pub(crate) struct BatchTrace(Option<Arc<State>>);

#[derive(Debug)]
struct State {
    who: String,
    number: u64,
    /// Names that are not decided.
    open: Mutex<BTreeSet<String>>,
}

impl BatchTrace {
    /// The batch `number` of a worker, from 1; silent if nobody listens.
    pub(crate) fn new(who: &str, number: u64) -> Self {
        BatchTrace(listens().then(|| Arc::new(State { who: who.to_owned(), number, open: Mutex::default() })))
    }

    /// Whether anybody hears it.
    pub(crate) fn listens(&self) -> bool {
        self.0.is_some()
    }

    /// Candidates were claimed: their numbers by name.
    pub(crate) fn claimed(&self, began: u64, ids: impl FnOnce() -> Vec<(String, Vec<i64>)>) {
        let Some(state) = &self.0 else { return };
        let ids = ids();
        state.open.lock().unwrap_or_else(|e| e.into_inner()).extend(ids.iter().map(|(name, _)| name.clone()));
        self.step("claimed", began, || ids.into_iter().map(|(name, ids)| (name, json!(ids))));
    }

    /// A step, with what is a fact of each name or file. Without a name nothing is said.
    pub(crate) fn step<N: ToString, I: IntoIterator<Item = (N, Value)>>(&self, step: &str, began: u64, facts: impl FnOnce() -> I) {
        self.say(step, began, facts, &[]);
    }

    /// A check after the move; `round` counts them, and `interim` is one before the second barrier has passed.
    pub(crate) fn check<N: ToString, I: IntoIterator<Item = (N, Value)>>(
        &self,
        round: u64,
        interim: bool,
        began: u64,
        facts: impl FnOnce() -> I,
    ) {
        self.say("checked-again", began, facts, &[("round", round.into()), ("interim", interim.into())]);
    }

    /// What was decided is written down; `partial`: of some candidates another worker holds the lease.
    pub(crate) fn settled(&self, began: u64, told: SettledFacts, partial: bool) {
        let Some(state) = &self.0 else { return };
        state.open.lock().unwrap_or_else(|e| e.into_inner()).retain(|name| !told.facts.contains_key(name));
        let entered = Value::Object(told.entered.into_iter().collect());
        self.say("settled", began, || told.facts, &[("entered", entered), ("partial", partial.into())]);
    }

    /// Other workers hold these.
    pub(crate) fn lost<N: ToString>(&self, began: u64, names: impl IntoIterator<Item = N>) {
        if self.listens() {
            let facts = names.into_iter().map(|name| (name.to_string(), "lost".into())).collect();
            self.settled(began, SettledFacts { facts, ..SettledFacts::default() }, false);
        }
    }

    /// The batch failed as a whole: all that is not decided went back to the queue.
    pub(crate) fn gave_back(&self, began: u64) {
        let Some(state) = &self.0 else { return };
        let open = std::mem::take(&mut *state.open.lock().unwrap_or_else(|e| e.into_inner()));
        self.step("settled", began, || open.into_iter().map(|name| (name, json!({ "back": "failed" }))));
    }

    fn say<N: ToString, I: IntoIterator<Item = (N, Value)>>(
        &self,
        step: &str,
        began: u64,
        facts: impl FnOnce() -> I,
        more: &[(&str, Value)],
    ) {
        let Some(state) = &self.0 else { return };
        let facts: Facts = facts().into_iter().map(|(name, fact)| (name.to_string(), fact)).collect();
        if !facts.is_empty() {
            let batch = [("batch", Value::from(state.number))];
            line(&state.who, step, began, facts, &batch.iter().chain(more).cloned().collect::<Vec<_>>());
        }
    }
}

/// What is about to be settled.
#[derive(Debug, Clone, Default)]
pub(crate) struct SettledFacts {
    facts: Facts,
    entered: Facts,
}

impl SettledFacts {
    /// The end of a name, and what the ledger is told of its file.
    pub(crate) fn add(&mut self, name: &str, fact: Value, entered: Option<Value>) {
        self.facts.insert(name.to_owned(), fact);
        self.entered.extend(entered.map(|fact| (name.to_owned(), fact)));
    }

    /// Another's with these.
    pub(crate) fn extend(&mut self, other: SettledFacts) {
        self.facts.extend(other.facts);
        self.entered.extend(other.entered);
    }
}

/// `"held"` or `"free"`.
pub(crate) fn held(held: bool) -> Value {
    if held { "held".into() } else { "free".into() }
}

/// Places by file. Of one name several files may lie in the trash.
pub(crate) fn places<'f>(files: impl IntoIterator<Item = (&'f str, &'f str)>) -> Facts {
    let mut facts = Facts::new();
    for (name, place) in files {
        match facts.entry(name.to_owned()).or_insert_with(|| json!([])) {
            Value::Array(places) => places.push(place.into()),
            _ => unreachable!("only arrays were put in"),
        }
    }
    facts
}

/// A step of the loop that keeps a trash.
pub(crate) fn turn(who: &str, step: &str, began: u64, facts: impl FnOnce() -> Facts) {
    if listens() {
        line(who, step, began, facts(), &[]);
    }
}

/// A re-check of that loop. They are counted.
pub(crate) fn recheck(who: &str, began: u64, facts: impl FnOnce() -> Facts) {
    static ROUNDS: LazyLock<Mutex<HashMap<String, u64>>> = LazyLock::new(Mutex::default);
    if listens() {
        let mut rounds = ROUNDS.lock().unwrap_or_else(|e| e.into_inner());
        let round = rounds.entry(who.to_owned()).or_default();
        *round += 1;
        line(who, "recheck-checked", began, facts(), &[("round", (*round).into())]);
    }
}
