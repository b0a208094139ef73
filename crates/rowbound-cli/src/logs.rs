//! Messages on stderr, and a line of progress where stderr is a terminal.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal, Write},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rowbound::{
    Collector, Error, Kind, Result,
    collect::{CollectorHealth, Summary},
    queue::Outcome,
    sweep,
};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use crate::{
    args::{Args, LogFormat},
    output,
};

/// The progress line; hidden when stderr is no terminal.
#[derive(Clone)]
pub struct Progress(ProgressBar);

impl Progress {
    /// A line that shows a summary and runs until [`Progress::end`].
    pub fn new() -> Self {
        let bar = ProgressBar::with_draw_target(
            None,
            if io::stderr().is_terminal() { ProgressDrawTarget::stderr_with_hz(8) } else { ProgressDrawTarget::hidden() },
        );
        bar.set_style(ProgressStyle::with_template("{spinner} {elapsed} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
        Progress(bar)
    }

    /// Whether anybody sees it: standard error is a terminal.
    pub fn seen(&self) -> bool {
        !self.0.is_hidden()
    }

    /// Shows the collector's counts until the returned task is aborted.
    pub fn follow(&self, collector: &Arc<Collector>) -> tokio::task::JoinHandle<()> {
        let (bar, collector) = (self.0.clone(), collector.clone());
        tokio::spawn(async move {
            if bar.is_hidden() {
                return;
            }
            loop {
                bar.set_message(format!("{}{}", line(&collector.summary()), kept(&collector.health())));
                bar.tick();
                tokio::time::sleep(Duration::from_millis(125)).await;
            }
        })
    }

    /// Shows how far a sweep is until the returned task is aborted. `expected` is about how many references there are, if anybody
    /// knows.
    pub fn follow_sweep(&self, storage: &str, sweep: &Arc<sweep::Progress>, expected: Option<u64>) -> tokio::task::JoinHandle<()> {
        let (bar, sweep, storage) = (self.0.clone(), sweep.clone(), storage.to_owned());
        tokio::spawn(async move {
            if bar.is_hidden() {
                return;
            }
            // What an interrupted sweep had done already is no speed of this one.
            let mut start = None;
            loop {
                let (files, rows) = (sweep.files.load(Relaxed), sweep.references.load(Relaxed));
                if start.is_none() && files + rows > 0 {
                    start = Some((Instant::now(), files, rows));
                }
                let per_second = |n: u64, from: fn((Instant, u64, u64)) -> u64| {
                    start.map_or(0.0, |s| n.saturating_sub(from(s)) as f64 / s.0.elapsed().as_secs_f64().max(0.001))
                };
                let (rate, rows_rate) = (per_second(files, |s| s.1), per_second(rows, |s| s.2));
                // A storage is not counted before it is listed; the rows are, about.
                let left = expected.and_then(|all| all.checked_sub(rows)).filter(|_| rows_rate > 0.0).map(|left| left as f64 / rows_rate);
                let eta = left.map(|s| format!(", about {} left", output::length(s as u64))).unwrap_or_default();
                let (searched, all) = (sweep.searched.load(Relaxed), sweep.to_search.load(Relaxed));
                if all > 0 && sweep.announced.load(Relaxed) == 0 {
                    bar.set_message(format!(
                        "{storage}: {} orphans are looked for in all columns: {searched} of about {all} values",
                        sweep.orphans.load(Relaxed)
                    ));
                    bar.tick();
                    tokio::time::sleep(Duration::from_millis(125)).await;
                    continue;
                }
                bar.set_message(format!(
                    "{storage}: {files} files compared ({rate:.0}/s{eta}), {} orphans, {} dangling",
                    sweep.orphans.load(Relaxed),
                    sweep.dangling.load(Relaxed),
                ));
                bar.tick();
                tokio::time::sleep(Duration::from_millis(125)).await;
            }
        })
    }

    /// Shows how many of something are done.
    pub fn done(&self, done: usize, all: usize, what: &str) {
        self.0.set_length(all as u64);
        self.0.set_position(done as u64);
        let style = ProgressStyle::with_template(&format!("{{elapsed}} {{wide_bar}} {{pos}} of {{len}} {what}, {{per_sec}}, {{eta}} left"));
        self.0.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    }

    /// Removes the line.
    pub fn end(&self) {
        self.0.finish_and_clear();
    }
}

/// A summary on one line.
pub fn line(s: &Summary) -> String {
    let taken = s.count(Outcome::Erased) + s.count(Outcome::Trashed);
    let mut text = format!("{taken} deleted ({}), {} kept", output::bytes(s.bytes), s.count(Outcome::Kept));
    let others = s.settled() - taken - s.count(Outcome::Kept);
    for (n, word) in [(others, "other"), (s.waiting, "waiting"), (s.failed, "failed")] {
        if n > 0 {
            text.push_str(&format!(", {n} {word}"));
        }
    }
    text
}

/// What keeps the collector from its work, for the end of its line; nothing if nothing does.
fn kept(health: &BTreeMap<String, CollectorHealth>) -> String {
    let mut said: Vec<String> = Vec::new();
    for (storage, health) in health {
        match &health.error {
            Some(t) if t.kind == Kind::DatabaseUnreachable => said.push("waits for the database".to_owned()),
            Some(t) if t.kind == Kind::StorageUnreachable => said.push(format!("waits for storage {storage}")),
            Some(t) if t.is_stop() => said.push(format!("{storage} has stopped: see above")),
            Some(_) => said.push(format!("{storage} has an error: see above")),
            None if health.transactions.is_empty() => {}
            None => said.push(format!("{storage} waits for open transactions")),
        }
    }
    said.dedup();
    said.iter().map(|said| format!("; {said}")).collect()
}

/// Writes log lines above the progress line.
#[derive(Clone)]
struct Above(Progress);

impl Write for Above {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.0.suspend(|| io::stderr().write(buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl<'a> MakeWriter<'a> for Above {
    type Writer = Above;

    fn make_writer(&'a self) -> Above {
        self.clone()
    }
}

/// Starts logging for the commands that work in the background of a terminal or of a service manager.
pub fn start(args: &Args) -> Result<Progress> {
    let progress = Progress::new();
    let filter = EnvFilter::try_new(&args.log).map_err(|e| {
        Error::new(Kind::Config, "`--log` is no filter")
            .with("log", &args.log)
            .because(e)
            .hint("write error, warn, info, debug or rowbound=debug")
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Above(progress.clone())).with_target(false);
    match args.log_format {
        LogFormat::Json => builder.json().flatten_event(true).init(),
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()).init(),
    }
    Ok(progress)
}
