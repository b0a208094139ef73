//! What applications and Rowbound did, as one trace that the protocol's model replays: see `rowbound_model::replay`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use rowbound_model::replay::{self, Event, Mutation};

/// A trace that is being recorded: by the processes of Rowbound, each into a file of its own, and by the test's own applications.
#[derive(Debug, Clone)]
pub struct Trace(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    start: Event,
    lines: Mutex<Vec<Event>>,
    processes: Mutex<Vec<Process>>,
    rows: AtomicU64,
}

#[derive(Debug)]
struct Process {
    file: PathBuf,
    /// When it had ended, and whether a signal did that.
    ended: Option<(u64, bool)>,
}

/// A reference that a committed row holds. Each has its own, whatever becomes of the row otherwise.
pub type Reference = String;

impl Trace {
    /// An empty trace; files go to `folder`. `lease` is the shortest lease of all processes; `locks`: on SQLite.
    pub fn new(folder: &Path, lease: Duration, locks: bool) -> Trace {
        let lease = lease.as_nanos().try_into().expect("a lease of less than 500 years");
        let start = Event { t: rowbound::trace::clock(), who: "test".into(), step: "start".into(), lease, locks, ..Event::default() };
        Trace(Arc::new(Inner {
            folder: folder.to_owned(),
            start,
            lines: Mutex::default(),
            processes: Mutex::default(),
            rows: AtomicU64::new(0),
        }))
    }

    /// A file for the lines of a process that is about to start: `ROWBOUND_TRACE`.
    pub(crate) fn process(&self) -> PathBuf {
        let mut processes = self.0.processes.lock().expect("a test panicked");
        let file = self.0.folder.join(format!("trace-{}.jsonl", processes.len()));
        processes.push(Process { file: file.clone(), ended: None });
        file
    }

    /// The process of that file has ended.
    pub(crate) fn ended(&self, file: &Path, killed: bool) {
        let mut processes = self.0.processes.lock().expect("a test panicked");
        if let Some(process) = processes.iter_mut().find(|p| p.file == file) {
            process.ended = Some((rowbound::trace::clock(), killed));
        }
    }

    fn add(&self, event: Event) {
        self.0.lines.lock().expect("a test panicked").push(event);
    }

    /// Whether a process has said this word so far.
    pub fn says(&self, word: &str) -> bool {
        let processes = self.0.processes.lock().expect("a test panicked");
        processes.iter().any(|p| std::fs::read_to_string(&p.file).is_ok_and(|text| text.contains(&format!("\"{word}\""))))
    }

    /// All of it, in order of time, when everything has ended and nothing waits any more.
    ///
    /// # Panics
    /// When a file cannot be read.
    pub fn events(&self) -> Vec<Event> {
        let mut all = self.0.lines.lock().expect("a test panicked").clone();
        let now = rowbound::trace::clock();
        let end = |who: &str, t: u64, round: u64| Event { t, who: who.to_owned(), step: "end".into(), round, ..Event::default() };
        let writers: std::collections::BTreeSet<String> = all.iter().map(|e| e.who.clone()).collect();
        all.extend(writers.iter().map(|who| end(who, now, 0)));
        for process in self.0.processes.lock().expect("a test panicked").iter() {
            let text = match std::fs::read_to_string(&process.file) {
                Ok(text) => text,
                // It had nothing to say.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                Err(e) => panic!("{}: {e}", process.file.display()),
            };
            // A process that is killed may leave the beginning of a line.
            let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
            let lines = replay::parse(whole).unwrap_or_else(|e| panic!("{}: {e}", process.file.display()));
            let (t, killed) = process.ended.unwrap_or((now, true));
            let mut whos: BTreeMap<String, u64> = BTreeMap::new();
            for e in &lines {
                let rounds = whos.entry(e.who.clone()).or_default();
                *rounds = (*rounds).max(if e.step == "recheck-checked" { e.round } else { 0 });
            }
            all.extend(lines);
            all.extend(whos.into_iter().map(|(who, rounds)| match killed {
                true => Event { t, who, step: "killed".into(), ..Event::default() },
                false => end(&who, t, rounds),
            }));
        }
        all.push(self.0.start.clone());
        all.sort_by_key(|e| e.t);
        let quiet = Event { t: now.max(all.last().map_or(0, |e| e.t)), who: "test".into(), step: "quiet".into(), ..Event::default() };
        all.push(quiet);
        all
    }

    /// Insists that the model allows the trace, and that it refuses `mutants` of it, in each of which one line is left out, doubled, or has changed places
    /// with the next one of its process.
    ///
    /// # Panics
    /// When it does not. The trace is kept then: `rowbound-model check FILE` refuses it, too.
    pub fn assert_allowed(&self, mutants: u64) {
        let events = self.events();
        let keep = |events: &[Event], why: String| -> ! {
            let file = std::env::temp_dir().join(format!("rowbound-trace-{:016x}.jsonl", rand::random::<u64>()));
            std::fs::write(&file, replay::to_lines(events)).expect("cannot keep the trace");
            panic!("{why}\nthe trace: {}", file.display());
        };
        if let Err(refusal) = replay::check(&events) {
            let line = replay::to_lines(&events[refusal.line - 1..refusal.line]);
            keep(&events, format!("the model does not allow what was done: {refusal}\n{}", line.chars().take(2_000).collect::<String>()));
        }
        let mut refused: BTreeMap<&str, u64> = BTreeMap::new();
        for seed in 0..mutants {
            let (wrong, mutation) = replay::mutate(&events, seed);
            let (kind, at) = match mutation {
                Mutation::Dropped(at) => ("left out", at),
                Mutation::Doubled(at) => ("doubled", at),
                Mutation::Swapped(at, _) => ("swapped", at),
            };
            if replay::check(&wrong).is_ok() {
                let line = replay::to_lines(&events[at..=at]);
                keep(&wrong, format!("mutant {seed}: a line {kind} is not seen: {}", line.chars().take(2_000).collect::<String>()));
            }
            *refused.entry(kind).or_default() += 1;
        }
        let steps = events.iter().filter(|e| e.batch > 0 || e.who.ends_with(":trash")).count();
        println!("trace: {} lines, {steps} of Rowbound's, all of which the model allows; mutants refused: {refused:?}", events.len());
    }
}

/// What one application says of itself; nothing if there is no trace.
#[derive(Debug, Clone)]
pub struct Teller {
    trace: Option<Trace>,
    who: String,
}

impl Teller {
    /// `who` is one connection: its statements follow each other.
    pub fn new(trace: Option<&Trace>, who: &str) -> Teller {
        Teller { trace: trace.cloned(), who: who.to_owned() }
    }

    /// This moment.
    pub fn now(&self) -> u64 {
        rowbound::trace::clock()
    }

    fn say(&self, t0: u64, t: u64, step: &str, fill: impl FnOnce(&mut Event)) {
        if let Some(trace) = &self.trace {
            let mut event = Event { t0, t, who: self.who.clone(), step: step.to_owned(), ..Event::default() };
            fill(&mut event);
            trace.add(event);
        }
    }

    /// It has written a file, since `began`.
    pub fn put(&self, began: u64, name: &str) {
        self.say(began, self.now(), "put", |e| e.name = name.to_owned());
    }

    /// One statement without a transaction, sent at `began`: references that went, and names that are referenced now. `blind`: not because a file was
    /// written before. Returns the new references.
    pub fn statement(&self, began: u64, gone: &[Reference], come: &[&str], blind: bool) -> Vec<Reference> {
        let new = self.pending(began, gone, come, blind);
        self.commit(began, gone.len() + new.len());
        new
    }

    /// The same within a transaction, when the statement has ended at `t`.
    pub fn pending(&self, t: u64, gone: &[Reference], come: &[&str], blind: bool) -> Vec<Reference> {
        let row = || self.trace.as_ref().map_or_else(String::new, |t| format!("r{}", t.0.rows.fetch_add(1, Relaxed)));
        for reference in gone {
            self.say(0, t, "delete", |e| e.row.clone_from(reference));
        }
        let mut new = Vec::new();
        for name in come {
            let reference = row();
            self.say(0, t, "write", |e| {
                (e.row, e.name, e.blind) = (reference.clone(), (*name).to_owned(), blind);
            });
            new.push(reference);
        }
        new
    }

    /// The transaction, or the statement, has committed since `began`, with so many references gone and come.
    pub fn commit(&self, began: u64, count: usize) {
        self.end("commit", began, count);
    }

    /// It was rolled back.
    pub fn rollback(&self, began: u64, count: usize) {
        self.end("rollback", began, count);
    }

    fn end(&self, step: &str, began: u64, count: usize) {
        if count > 0 {
            self.say(began, self.now(), step, |e| e.count = count as u64);
        }
    }
}
