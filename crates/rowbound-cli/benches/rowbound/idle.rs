//! What a daemon without work takes.

use std::{
    collections::HashMap,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rowbound_testkit::{TestDb, World};

use crate::{
    Options,
    measure::{Table, mib, peak_memory, threads, time},
    rows,
    settle::rowbound,
};

/// How long it is watched.
const WATCH: Duration = Duration::from_secs(20);

/// `rowbound run` on an attached database with rows, files and nothing to do.
pub async fn idle(options: &Options) {
    let table =
        Table::begin(&format!("idle: `rowbound run` without work, over {} s", WATCH.as_secs()), &["", "CPU", "of a core", "peak RSS"]);
    for backend in &options.backends {
        let world = World::with(TestDb::new(*backend).await).with_docs().await;
        rows::fill(&world.db, "doc", 1000).await;
        let config = world.write_config();
        rowbound(&["attach"], &config);
        let mut child = Command::new(env!("CARGO_BIN_EXE_rowbound"))
            .args(["run", "--log", "warn", "--config"])
            .arg(&config)
            .env_remove("DATABASE_URL")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("cannot start rowbound");
        let pid = child.id();
        // Its start is over when its pauses have grown to the longest.
        tokio::time::sleep(Duration::from_secs(4)).await;
        let before: HashMap<u32, u64> = threads(pid).into_iter().collect();
        let started = Instant::now();
        // In nanoseconds by thread, because the process' own clock counts in steps of 10 ms. A thread that ends keeps its last figure.
        let mut now = before.clone();
        while started.elapsed() < WATCH {
            tokio::time::sleep(Duration::from_millis(100)).await;
            now.extend(threads(pid));
        }
        let watched = started.elapsed();
        let spent = Duration::from_nanos(now.iter().map(|(tid, ns)| ns - before.get(tid).copied().unwrap_or(0)).sum());
        let rss = peak_memory(pid);
        let running = child.try_wait().expect("cannot wait for our child").is_none();
        assert!(running, "rowbound run ended");
        child.kill().and_then(|()| child.wait()).expect("cannot stop our child");
        let share = 100.0 * spent.as_secs_f64() / watched.as_secs_f64();
        table.row(&[backend.to_string(), time(spent), format!("{share:.3} %"), mib(rss)]);
    }
    println!("  goal: 0.1 % of a core");
}
