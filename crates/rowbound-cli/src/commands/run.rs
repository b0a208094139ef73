//! `rowbound run`.

use std::sync::Arc;

use rowbound::{
    Collector, Result,
    collect::{Settings, StorageMetrics},
};

use crate::{
    args::{Args, Format, RunArgs, WorkArgs},
    exit,
    hooks::Hooks,
    logs, output,
};

pub async fn run(args: &Args, a: &RunArgs) -> Result<u8> {
    let progress = logs::start(args)?;
    let stop = super::stop_signal()?;
    let (plan, db) = super::open(args).await?;
    let settings = Settings { poll: a.poll, ..settings(&a.work) };
    let collector = Arc::new(Collector::new(&plan, db.clone(), settings).await?);
    // What cannot work now is said now; the workers go on trying, because a database that restarts is no reason to end.
    collector.verify().await?;
    let hooks = Hooks::register(&plan, &db, &a.hooks, a.work.lease, a.poll).await?;
    tracing::info!(
        database = rowbound::database::redact(&plan.database),
        storages = plan.storages.len(),
        bindings = plan.bindings.len(),
        "collecting"
    );
    let line = progress.follow(&collector);
    // Beside the collector: no deletion waits for a hook.
    let mut deliveries = hooks.run(&stop);
    collector.clone().run(stop).await;
    while let Some(ended) = deliveries.join_next().await {
        match ended {
            Ok(told) if told.delivered + told.failed > 0 => {
                tracing::info!(delivered = told.delivered, failed = told.failed, "a hook ended")
            }
            Ok(_) => {}
            Err(e) => tracing::error!(error = %e, "a hook ended unexpectedly"),
        }
    }
    line.abort();
    progress.end();
    let summary = collector.summary();
    tracing::info!("ended: {}", logs::line(&summary));
    match collector.metrics().await {
        Ok(m) => {
            let waits = |of: fn(&StorageMetrics) -> u64| m.storages.values().map(of).sum::<u64>();
            // Other names than those of a batch's line: whoever sums those up must not meet the sums.
            tracing::info!(
                claimed_total = m.claimed,
                released_total = m.released,
                kept_total = m.kept,
                deleted_total = m.deleted,
                failed_total = m.failed,
                waiting_total = m.waiting,
                purged_total = m.purged,
                trashed_bytes_total = m.bytes_trashed,
                freed_bytes_total = m.bytes_freed,
                requests_total = waits(|s| s.requests),
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
