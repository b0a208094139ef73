//! `rowbound collect`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rowbound::{Collector, Result, collect::Summary, delivery::Registered, queue::Backlog, queue::Outcome, status};
use serde::Serialize;

use crate::{
    args::{Args, CollectArgs},
    exit,
    hooks::Hooks,
    logs, output,
};

/// What `collect` answers.
#[derive(Debug, Serialize)]
struct Answer {
    /// What was done.
    #[serde(flatten)]
    summary: Summary,
    /// What is left, by storage.
    left: std::collections::BTreeMap<String, Backlog>,
    /// The followers, and what each has not received yet.
    hooks: Vec<Registered>,
}

pub async fn collect(args: &Args, a: &CollectArgs) -> Result<u8> {
    let progress = logs::start(args)?;
    let stop = super::stop_signal()?;
    let (plan, db) = super::open(args).await?;
    let settings = rowbound::collect::Settings { retry_now: a.retry_now, ..super::run::settings(&a.work) };
    let collector = Arc::new(Collector::new(&plan, db.clone(), settings).await?);
    let hooks = Hooks::register(&plan, &db, &a.hooks, a.work.lease, Duration::from_secs(1)).await?;
    if a.retry_now {
        hooks.retry_now().await?;
    }
    let line = progress.follow(&collector);
    let deadline = a.wait.map(rowbound::clock::deadline);
    let mut pause = Duration::from_millis(20);
    let (summary, held, left, told) = loop {
        let before = collector.summary().held;
        let summary = collector.drain_with_tasks(&stop).await?;
        // Each drain counts anew what waits for the same transactions.
        let held = summary.held - before;
        hooks.deliver(&stop).await?;
        let left = status::backlogs(&plan, db.as_ref()).await?;
        let told = hooks.waiting(db.as_ref()).await?;
        let empty = left.values().all(|b| b.total == b.staged) && told.iter().all(|f| f.waiting == 0);
        // Without a trash a file is held for a moment only, and `--wait` waits until it is erased.
        let empty = empty && (a.wait.is_none() || collector.holds_nothing().await?);
        if empty || *stop.borrow() || deadline.is_none_or(|d| Instant::now() >= d) {
            break (summary, held, left, told);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(500));
    };
    line.abort();
    progress.end();
    // What was moved and waits for a transaction is out of the way: whoever collects next settles it.
    let rest = left.values().map(|b| b.total - b.staged).sum::<u64>();
    let rest = rest.saturating_sub(if summary.failed == 0 { held } else { 0 }) + told.iter().map(|f| f.waiting).sum::<u64>();
    let refused = summary.count(Outcome::Refused);
    let stuck = !summary.trash.is_empty() || summary.history.is_some();
    output::answer(args.format, &Answer { summary, left, hooks: told }, text)?;
    db.close().await;
    Ok(if rest == 0 && refused == 0 && !stuck { exit::DONE } else { exit::LEFT })
}

fn text(a: &Answer) -> String {
    let mut out = format!("{}\n", logs::line(&a.summary));
    let mut rows: Vec<_> = Outcome::ALL
        .iter()
        .filter(|(o, _)| a.summary.count(*o) > 0)
        .map(|(o, means)| vec![a.summary.count(*o).to_string(), o.word().to_owned(), (*means).to_owned()])
        .collect();
    if a.summary.empty > 0 {
        let means = "its value could hold many names and held none: not in the ledger";
        rows.push(vec![a.summary.empty.to_string(), "empty".to_owned(), means.to_owned()]);
    }
    out.push_str(&output::table(&rows, 2));
    for (note, name) in &a.summary.notes {
        out.push_str(&format!("{}: {}\n", output::name(name), output::safe(note)));
    }
    for (storage, until) in &a.summary.until {
        let until = output::moment(*until);
        out.push_str(&format!(
            "{storage}: files deleted now are held until {until}; the first `collect` or `run` after that erases them\n"
        ));
    }
    for (storage, why) in &a.summary.trash {
        out.push_str(&format!("left in the trash of {storage}: {}\n", output::safe(&why.message)));
        if let Some(hint) = &why.hint {
            out.push_str(&format!("  hint: {}\n", output::safe(hint)));
        }
    }
    if let Some(why) = &a.summary.history {
        out.push_str(&format!("old entries are left in the ledger: {}\n", output::safe(&why.message)));
    }
    for (storage, left) in a.left.iter().filter(|(_, b)| b.total > b.staged) {
        out.push_str(&format!("left on {storage}: {} waiting: {} due, {} failing\n", left.total - left.staged, left.due, left.failing));
    }
    for f in a.hooks.iter().filter(|f| f.waiting > 0) {
        out.push_str(&format!("left for hook {}: {} waiting: {} due, {} failing\n", f.name, f.waiting, f.due, f.failing));
        for failing in f.sample.iter().take(1) {
            out.push_str(&format!("  {}\n", output::safe(failing.note.as_deref().unwrap_or(""))));
        }
    }
    let staged: u64 = a.left.values().map(|b| b.staged).sum();
    if staged > 0 {
        out.push_str(&format!("{staged} wait for their rows: uploads, and files that came back from the trash\n"));
    }
    out
}
