//! The search: breadth first over all interleavings, with the shortest trace to what went wrong.

use std::hash::{Hash, Hasher};

use rustc_hash::FxHasher;

use crate::{
    app, keeper,
    mode::Scenario,
    state::{At, D, O, State},
    verdict::{self, Verdict},
    worker,
};

/// Who takes a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    /// A transaction of the application.
    App(u8),
    /// A worker.
    Worker(u8),
    /// A process that checks again and erases.
    Keeper(u8),
    /// The clock.
    Time,
    /// Somebody outside.
    Outside,
}

/// What kind of step it is: whether an end waits for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// A transaction begins: it may, but need not.
    Begin,
    /// A transaction goes on.
    Application,
    /// A transaction of those that never rest.
    Endless,
    /// Rowbound works.
    Rowbound,
    /// Time passes.
    Time,
    /// A fault.
    Fault,
}

/// A step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Action {
    /// Who takes it.
    pub who: Who,
    /// Its name.
    pub step: &'static str,
    /// Its kind.
    pub class: Class,
}

/// A step and the state after it.
#[derive(Clone, Copy, Debug)]
pub struct Next {
    /// The step.
    pub action: Action,
    /// The state after it.
    pub state: State,
}

/// A scenario with its steps.
#[derive(Clone, Debug)]
pub struct Model {
    /// What is run.
    pub scenario: Scenario,
}

/// What a search found.
#[derive(Debug)]
pub struct Found {
    /// States that were seen.
    pub states: usize,
    /// What went wrong, if anything did, with the shortest trace to it.
    pub fault: Option<Fault>,
    /// Whether every state was seen.
    pub complete: bool,
}

/// A counterexample.
#[derive(Debug)]
pub struct Fault {
    /// What went wrong.
    pub verdict: Verdict,
    /// Steps from the start.
    pub trace: Vec<Next>,
}

impl Model {
    /// A model of a scenario.
    pub fn new(scenario: Scenario) -> Model {
        Model { scenario }
    }

    /// The start: a row, its file with its derivative, and an empty queue.
    pub fn start(&self) -> State {
        let mut s = State { file: [1; 2], born: 1, faults: self.scenario.faults.budget, ..State::default() };
        s.rows[0] = 1;
        s
    }

    /// Every step that can be taken in `s`.
    pub fn steps(&self, s: &State, out: &mut Vec<Next>) {
        out.clear();
        app::steps(self, s, out);
        for i in 0..self.scenario.workers() {
            worker::steps(self, s, i, out);
            worker::faults(self, s, i, out);
        }
        if self.scenario.storage != crate::mode::Storage::Plain {
            for i in 0..self.scenario.keepers() {
                keeper::steps(self, s, i, out);
                keeper::faults(self, s, i, out);
            }
            keeper::time(self, s, out);
        }
        out.retain(|n| n.state != *s);
    }

    /// Whether nothing more happens by itself in `s`, given its steps.
    pub(crate) fn rests(&self, s: &State, steps: &[Next]) -> bool {
        let goes_on = |n: &Next| matches!(n.action.class, Class::Application | Class::Rowbound | Class::Time);
        let pending = self.scenario.workload.iter().zip(&s.txns).any(|(k, t)| !k.endless() && t.pending());
        // While readers overlap, whatever waits for them is not at rest.
        let waits = s.queued() || s.pending.generation != 0 || s.workers.iter().any(|w| w.step != crate::state::Step::Idle);
        let overlapping = self.scenario.workload.iter().zip(&s.txns).any(|(k, t)| *k == crate::mode::Kind::Reader && t.at == At::Open);
        let starved = waits && overlapping;
        !pending && !starved && !steps.iter().any(goes_on)
    }

    /// Searches every interleaving, up to `limit` states.
    pub fn search(&self, limit: usize) -> Found {
        let mut seen = Seen::default();
        seen.insert(self.start());
        let mut parents: Vec<u32> = vec![0];
        let mut edges: Vec<(u32, u32)> = Vec::new();
        let mut rest: Vec<u32> = Vec::new();
        let mut steps = Vec::new();
        let mut at = 0;
        while at < seen.states.len() {
            if seen.states.len() > limit {
                return Found { states: seen.states.len(), fault: None, complete: false };
            }
            let s = seen.states[at];
            self.steps(&s, &mut steps);
            let mut wrong = verdict::at_once(&s);
            if wrong.is_none() && self.rests(&s, &steps) {
                rest.push(at as u32);
                wrong = verdict::at_rest(self, &s);
            }
            if let Some(verdict) = wrong {
                let trace = self.trace(&seen, &parents, at);
                return Found { states: seen.states.len(), fault: Some(Fault { verdict, trace }), complete: false };
            }
            for next in &steps {
                let (to, new) = seen.insert(next.state);
                if new {
                    parents.push(at as u32);
                }
                if !matches!(next.action.class, Class::Fault | Class::Begin) {
                    edges.push((to, at as u32));
                }
            }
            at += 1;
        }
        let fault = self.stuck(&seen, edges, rest).map(|at| Fault { verdict: Verdict::Stuck, trace: self.trace(&seen, &parents, at) });
        Found { states: seen.states.len(), complete: true, fault }
    }

    /// Calls `visit` with each state that can be reached, up to `limit` of them.
    pub fn each_state(&self, limit: usize, mut visit: impl FnMut(&State)) {
        let mut seen = Seen::default();
        seen.insert(self.start());
        let mut steps = Vec::new();
        let mut at = 0;
        while at < seen.states.len() && at < limit {
            let s = seen.states[at];
            visit(&s);
            self.steps(&s, &mut steps);
            for n in &steps {
                seen.insert(n.state);
            }
            at += 1;
        }
    }

    /// The first state from which no way leads to a state at rest.
    fn stuck(&self, seen: &Seen, mut edges: Vec<(u32, u32)>, rest: Vec<u32>) -> Option<usize> {
        edges.sort_unstable();
        let mut ends = vec![false; seen.states.len()];
        let mut open = rest;
        open.iter().for_each(|s| ends[*s as usize] = true);
        while let Some(to) = open.pop() {
            let first = edges.partition_point(|e| e.0 < to);
            for (_, from) in edges[first..].iter().take_while(|e| e.0 == to) {
                if !ends[*from as usize] {
                    ends[*from as usize] = true;
                    open.push(*from);
                }
            }
        }
        let dump = |s: &State| self.scenario.workload.iter().zip(&s.txns).any(|(k, t)| *k == crate::mode::Kind::Dump && t.at == At::Open);
        (0..ends.len()).find(|at| !ends[*at] && !dump(&seen.states[*at]))
    }

    fn trace(&self, seen: &Seen, parents: &[u32], end: usize) -> Vec<Next> {
        let mut way = vec![end];
        let mut at = end;
        while at != 0 {
            at = parents[at] as usize;
            way.push(at);
        }
        way.reverse();
        let mut steps = Vec::new();
        let mut trace = Vec::new();
        for pair in way.windows(2) {
            self.steps(&seen.states[pair[0]], &mut steps);
            trace.extend(steps.iter().find(|n| n.state == seen.states[pair[1]]));
        }
        trace
    }
}

/// The states that were seen, in order, with a table of their places. One copy of each.
#[derive(Default)]
struct Seen {
    states: Vec<State>,
    table: Vec<u32>,
}

const FREE: u32 = u32::MAX;

impl Seen {
    /// The state's number, and whether it is new.
    fn insert(&mut self, state: State) -> (u32, bool) {
        if self.table.len() < self.states.len() * 2 + 16 {
            self.grow();
        }
        let mask = self.table.len() - 1;
        let mut slot = hash(&state) as usize & mask;
        while self.table[slot] != FREE {
            let at = self.table[slot];
            if self.states[at as usize] == state {
                return (at, false);
            }
            slot = (slot + 1) & mask;
        }
        let at = self.states.len() as u32;
        self.table[slot] = at;
        self.states.push(state);
        (at, true)
    }

    fn grow(&mut self) {
        let size = (self.states.len() * 4).next_power_of_two().max(1024);
        self.table = vec![FREE; size];
        for (at, state) in self.states.iter().enumerate() {
            let mut slot = hash(state) as usize & (size - 1);
            while self.table[slot] != FREE {
                slot = (slot + 1) & (size - 1);
            }
            self.table[slot] = at as u32;
        }
    }
}

fn hash(state: &State) -> u64 {
    let mut hasher = FxHasher::default();
    state.hash(&mut hasher);
    hasher.finish().rotate_left(20)
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.verdict.name())?;
        for (i, n) in self.trace.iter().enumerate() {
            writeln!(f, "{:3}. {:<14} {:<48} {}", i + 1, n.action.who.to_string(), n.action.step, world(&n.state))?;
        }
        Ok(())
    }
}

impl Who {
    /// A letter and a number.
    pub fn short(self) -> String {
        match self {
            Who::App(i) => format!("T{i}"),
            Who::Worker(i) => format!("W{i}"),
            Who::Keeper(i) => format!("K{i}"),
            Who::Time => "time:".to_owned(),
            Who::Outside => "outside:".to_owned(),
        }
    }
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Who::App(i) => write!(f, "transaction {i}"),
            Who::Worker(i) => write!(f, "worker {i}"),
            Who::Keeper(i) => write!(f, "keeper {i}"),
            Who::Time => write!(f, "time"),
            Who::Outside => write!(f, "outside"),
        }
    }
}

/// The world in a few words: rows, files, trash, queue, ledger.
pub fn world(s: &State) -> String {
    let rows: Vec<_> = s.rows.iter().filter(|r| **r != 0).map(|r| r.to_string()).collect();
    let name = |n: usize| if s.file[n] == 0 { "-".to_owned() } else { s.file[n].to_string() };
    let trash = |n: usize| (1..=3).filter(|g| s.trashed(n, *g)).map(|g| g.to_string()).collect::<String>();
    let ledger = |n: usize| (1..=3).map(|g| ["-", "t", "r", "p"][s.entry(n, g) as usize]).collect::<String>();
    let queue: String = s.queue.iter().filter(|c| c.there).map(|c| if c.owner == 0 { "w".into() } else { c.owner.to_string() }).collect();
    format!(
        "rows [{}] file {}{} trash [{}/{}] queue [{queue}] ledger {}/{}",
        rows.join(","),
        name(O),
        name(D),
        trash(O),
        trash(D),
        ledger(O),
        ledger(D)
    )
}
