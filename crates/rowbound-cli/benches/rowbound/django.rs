//! The same deletes in real Django: `QuerySet.delete()` with django-cleanup's receivers, and without them but with `rowbound collect`
//! afterwards. Both until the files are gone.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rowbound::Trash;
use rowbound_testkit::{Backend, TestDb, World};

use crate::{
    Options, floor,
    measure::{Cost, Table, middle, rate, ratio, run, time},
    rows,
    settle::{collect_command, rowbound, settle_disk},
};

/// How the files go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Cleanup,
    Rowbound(Trash),
}

/// Prints the table.
pub async fn django(options: &Options) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let Some(python) = venv(here) else { return };
    let count = options.rows / 5;
    let table = Table::begin(
        &format!("django: QuerySet.delete() of {count} rows with a file each, until the files are gone"),
        &["", "wall", "files/s", "ratio", "CPU", "ratio", "request", "ratio"],
    );
    let ways = [Way::Cleanup, Way::Rowbound(Trash::Off), Way::Rowbound(Trash::Keep(Duration::from_secs(86_400)))];
    for backend in &options.backends {
        let mut whole: [Vec<Cost>; 3] = Default::default();
        let mut request: [Vec<Cost>; 3] = Default::default();
        for _ in 0..options.rounds {
            for (i, way) in ways.iter().enumerate() {
                let (r, after) = delete(here, &python, *backend, *way, count).await;
                request[i].push(r);
                whole[i].push(Cost { wall: r.wall + after.wall, cpu: r.cpu + after.cpu, rss: 0 });
            }
        }
        let (peer, peers_request) = (middle(&whole[0]), middle(&request[0]));
        for (i, way) in ways.iter().enumerate() {
            let (w, r) = (middle(&whole[i]), middle(&request[i]));
            let what = match way {
                Way::Cleanup => "django-cleanup",
                Way::Rowbound(Trash::Off) => "Rowbound, trash off",
                Way::Rowbound(_) => "Rowbound, trash 1d",
            };
            table.row(&[
                format!("{backend}, {what}"),
                time(w.wall),
                rate(count, w.wall),
                ratio(w.wall, peer.wall),
                time(w.cpu),
                ratio(w.cpu, peer.cpu),
                time(r.wall),
                ratio(r.wall, peers_request.wall),
            ]);
        }
    }
    println!("  `request` is delete() itself, for which a visitor waits. CPU is Python's and rowbound's, without the server's.");
}

/// The costs of `delete()` and of what comes after it.
async fn delete(here: &Path, python: &Path, backend: Backend, way: Way, count: u64) -> (Cost, Cost) {
    let mut world = World::with(TestDb::new(backend).await).with_docs().await;
    floor::fill(&world.media(), count);
    rows::fill(&world.db, "doc", count).await;
    if let Way::Rowbound(trash) = way {
        world = world.storage(|s| s.trash(trash));
        rowbound(&["attach"], &world.write_config());
    }
    rows::settle_server(&world.db).await;
    settle_disk();
    let mut command = Command::new(python);
    command.arg(here.join("benches/rowbound/django/delete.py")).arg(world.db.url()).arg(world.media());
    if way == Way::Cleanup {
        command.arg("cleanup");
    }
    let (_, said) = run(&mut command, &[0]);
    let mut seconds = said.split_whitespace().map(|s| Duration::from_secs_f64(s.parse().expect("delete.py prints seconds")));
    let mut next = || seconds.next().expect("delete.py prints two numbers");
    let request = Cost { wall: next(), cpu: next(), rss: 0 };
    let after = match way {
        Way::Cleanup => Cost::default(),
        Way::Rowbound(_) => run(&mut collect_command(&world.write_config()), &[0]).0,
    };
    assert!(world.files().is_empty(), "files are left");
    (request, after)
}

/// The interpreter that `scripts/django-venv` makes.
pub fn venv(here: &Path) -> Option<PathBuf> {
    let made = Command::new(here.join("../../scripts/django-venv")).stderr(std::process::Stdio::inherit()).output();
    match made {
        Ok(out) if out.status.success() => Some(PathBuf::from(String::from_utf8_lossy(&out.stdout).trim())),
        Ok(out) => {
            println!("\ndjango: left out, scripts/django-venv ended with {}", out.status);
            None
        }
        Err(e) => {
            println!("\ndjango: left out, scripts/django-venv cannot be run: {e}");
            None
        }
    }
}
