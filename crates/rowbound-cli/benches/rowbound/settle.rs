//! How long the files of 100,000 deleted rows take to go: `rowbound collect` as a process, from its start to its end, beside plain unlinks
//! of the same tree on two threads.

use std::{path::Path, process::Command, time::Duration};

use rowbound::Trash;
use rowbound_testkit::{Backend, TestDb, World};

use crate::{
    Options, floor,
    measure::{Cost, Table, mib, middle, rate, ratio, run, time},
    rows,
};

/// `rowbound collect` on files whose rows were deleted in one statement.
async fn collect(options: &Options, backend: Backend, trash: Trash) -> Cost {
    let world = World::with(TestDb::new(backend).await).with_docs().await.storage(|s| s.trash(trash));
    floor::fill(&world.media(), options.rows);
    rows::fill(&world.db, "doc", options.rows).await;
    let config = world.write_config();
    rowbound(&["attach"], &config);
    world.db.exec("delete from doc").await;
    rows::settle_server(&world.db).await;
    settle_disk();
    let (cost, said) = run(&mut collect_command(&config), &[0]);
    assert!(world.files().is_empty(), "files are left\n{said}");
    cost
}

/// The same files, unlinked (or moved) without a thought.
fn plain(options: &Options, into_trash: bool) -> Cost {
    let folder = tempfile::Builder::new().prefix("rowbound-floor.").tempdir().expect("cannot make a temporary folder");
    let media = folder.path().join("media");
    floor::fill(&media, options.rows);
    settle_disk();
    let mut command = Command::new(std::env::current_exe().expect("our own path"));
    command.args(["--floor"]).arg(&media);
    if into_trash {
        command.arg(media.join(".rowbound/trash"));
    }
    run(&mut command, &[0]).0
}

/// `rowbound collect`.
pub fn collect_command(config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rowbound"));
    command.args(["collect", "--log", "warn", "--config"]).arg(config).env_remove("DATABASE_URL");
    command
}

/// Lets the kernel write what the preparation left, so that no measurement pays for another's journal.
pub fn settle_disk() {
    rustix::fs::sync();
}

/// Runs another command to its end.
pub fn rowbound(args: &[&str], config: &Path) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rowbound"));
    run(command.args(args).arg("--config").arg(config).env_remove("DATABASE_URL"), &[0]);
}

/// Prints the table.
pub async fn settle(options: &Options) {
    let table = Table::begin(
        &format!("settle: {} released files, from the start of `rowbound collect` to its end", options.rows),
        &["", "wall", "files/s", "x floor", "CPU", "x floor", "peak RSS"],
    );
    let ways: Vec<(Backend, Trash)> = [Trash::Off, Trash::Keep(Duration::from_secs(86_400))]
        .into_iter()
        .flat_map(|trash| options.backends.iter().map(move |b| (*b, trash)))
        .collect();
    let mut unlinks = Vec::new();
    let mut renames = Vec::new();
    let mut ours: Vec<Vec<Cost>> = vec![Vec::new(); ways.len()];
    for _ in 0..options.rounds {
        for (i, (backend, trash)) in ways.iter().enumerate() {
            if i.is_multiple_of(3) {
                unlinks.push(plain(options, false));
            }
            ours[i].push(collect(options, *backend, *trash).await);
        }
        renames.push(plain(options, true));
    }
    let floor = middle(&unlinks);
    let row = |what: &str, c: Cost| {
        table.row(&[
            what.to_owned(),
            time(c.wall),
            rate(options.rows, c.wall),
            ratio(c.wall, floor.wall),
            time(c.cpu),
            ratio(c.cpu, floor.cpu),
            mib(c.rss),
        ]);
    };
    row("floor: unlink, 2 threads", floor);
    row("floor: rename into a trash, 2 threads", middle(&renames));
    for ((backend, trash), costs) in ways.iter().zip(&ours) {
        row(&format!("{backend}, trash {}", if *trash == Trash::Off { "off" } else { "1d" }), middle(costs));
    }
    println!("  goal on PostgreSQL and SQLite: 30000 files/s, 2.5x the floor's CPU, 64 MiB");
}
