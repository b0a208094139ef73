//! `rowbound run`.

use std::sync::Arc;

use rowbound::{
    Collector, Result,
    collect::{Settings, StorageMetrics},
};

use crate::{
    args::{Args, Format, RunArgs, WorkArgs},
    exit, logs, output,
};

pub async fn run(args: &Args, a: &RunArgs) -> Result<u8> {
    let progress = logs::start(args)?;
    let stop = super::stop_signal()?;
    let (plan, db) = super::open(args).await?;
    let settings = Settings { poll: a.poll, ..settings(&a.work) };
    let collector = Arc::new(Collector::new(&plan, db.clone(), settings).await?);
    // What cannot work now is said now; the workers go on trying, because a database that restarts is no reason to end.
    collector.verify().await?;
    tracing::info!(
        database = rowbound::database::redact(&plan.database),
        storages = plan.storages.len(),
        bindings = plan.bindings.len(),
        "collecting"
    );
    let line = progress.follow(&collector);
    collector.clone().run(stop).await;
    line.abort();
    progress.end();
    let summary = collector.summary();
    tracing::info!("ended: {}", logs::line(&summary));
    match collector.metrics().await {
        Ok(m) => {
            let waits = |of: fn(&StorageMetrics) -> u64| m.storages.values().map(of).sum::<u64>();
            tracing::info!(
                claimed = m.claimed,
                released = m.released,
                kept = m.kept,
                deleted = m.deleted,
                failed = m.failed,
                waiting = m.waiting,
                purged = m.purged,
                bytes_trashed = m.bytes_trashed,
                bytes_freed = m.bytes_freed,
                requests = waits(|s| s.requests),
                backlog = waits(|s| s.backlog),
                oldest_seconds = m.storages.values().filter_map(|s| s.oldest_seconds).max(),
                "figures"
            );
        }
        // Everything is settled: a database that went away meanwhile is no failure of this run.
        Err(e) => tracing::warn!("the last figures cannot be had: {}", e.full()),
    }
    // For people the log has said it.
    if args.format == Format::Json {
        output::answer(args.format, &summary, |_| String::new())?;
    }
    db.close().await;
    Ok(exit::DONE)
}

pub fn settings(work: &WorkArgs) -> Settings {
    Settings { workers: work.workers.into(), batch: work.batch, lease: work.lease, patience: work.patience, ..Settings::default() }
}
