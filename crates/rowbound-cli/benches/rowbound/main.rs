//! The benchmarks: `cargo bench -p rowbound-cli --bench rowbound -- [FILTER] [--rows N] [--rounds N] [--only DATABASE]`.
//!
//! Every figure stands beside its peer's or its floor's, measured in the same run in alternation, as a ratio. Nothing is asserted about
//! time: a busy machine is no bug. docs/performance.md says what the figures were and why.
//!
//! PostgreSQL and MariaDB come from `ROWBOUND_TEST_POSTGRES` and `ROWBOUND_TEST_MARIADB` (`make bench` does it); those servers do not wait
//! for the disk, so where a commit's own time counts, servers with the defaults are started beside them.

use std::{path::Path, process::ExitCode};

use rowbound_testkit::Backend;

mod check; // looking for references in a million rows
mod django; // the same deletes under django-cleanup
mod elsewhere; // orphans looked for in a million rows of text
mod floor; // what the kernel asks for the same files
mod idle; // a daemon without work
mod measure;
mod rows;
mod s3; // objects in a bucket, beside boto3
mod settle; // files of deleted rows, until they are gone
mod survey; // what attach and a running collector look at
mod sweep; // a whole storage against all rows
mod writes; // what capture costs the application

/// What was asked for.
#[derive(Debug)]
pub struct Options {
    filter: String,
    /// Rows and files of a bulk operation.
    pub rows: u64,
    /// How often each side is measured, in alternation.
    pub rounds: usize,
    /// On which databases.
    pub backends: Vec<Backend>,
}

fn main() -> ExitCode {
    let mut options =
        Options { filter: String::new(), rows: 100_000, rounds: 3, backends: vec![Backend::Sqlite, Backend::Postgres, Backend::Mariadb] };
    let mut wanted = false;
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().unwrap_or_default();
        match arg.as_str() {
            "--bench" => wanted = true,
            // Ourselves as a child, see floor.rs.
            "--floor" => {
                let root = value();
                floor::unlink(Path::new(&root), 2, args.next().as_deref().map(Path::new));
                return ExitCode::SUCCESS;
            }
            // Ourselves as a child, see sweep.rs.
            "--walk" | "--query" => {
                let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("cannot start");
                let url = value();
                if arg == "--walk" {
                    runtime.block_on(sweep::walk(&url));
                } else {
                    runtime.block_on(sweep::query(&url));
                }
                return ExitCode::SUCCESS;
            }
            "--rows" => options.rows = value().parse().expect("--rows takes a number"),
            "--rounds" => options.rounds = value().parse().expect("--rounds takes a number"),
            "--only" => {
                let word = value().to_lowercase();
                options.backends.retain(|b| b.to_string().to_lowercase() == word);
                assert!(!options.backends.is_empty(), "--only takes sqlite, postgresql or mariadb");
            }
            word if !word.starts_with('-') => options.filter = word.to_owned(),
            other => panic!("no such option: {other}"),
        }
    }
    if !wanted {
        println!("the benchmarks run by `cargo bench`");
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("cannot start");
    runtime.block_on(async {
        println!("{}", machine());
        for name in ["settle", "delete", "bulk", "update", "django", "s3", "sweep", "elsewhere", "survey", "idle", "check"] {
            if !name.contains(&options.filter) {
                continue;
            }
            match name {
                "settle" => settle::settle(&options).await,
                "delete" => writes::delete(&options).await,
                "bulk" => writes::bulk(&options).await,
                "update" => writes::update(&options).await,
                "django" => django::django(&options).await,
                "s3" => s3::s3(&options).await,
                "sweep" => sweep::sweep(&options).await,
                "elsewhere" => elsewhere::elsewhere(&options).await,
                "survey" => survey::survey(&options).await,
                "idle" => idle::idle(&options).await,
                _ => check::check(&options).await,
            }
        }
    });
    ExitCode::SUCCESS
}

/// What the figures were measured on.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = read("/proc/meminfo").split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) / 1024 / 1024;
    let temp = std::env::temp_dir();
    let mounts = read("/proc/self/mounts");
    let fields = |line: &'_ str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let mount = mounts.lines().map(fields).filter(|m| m.len() > 3 && temp.starts_with(&m[1])).max_by_key(|m| m[1].len());
    let load = read("/proc/loadavg");
    format!(
        "{cores} cores, {memory} GiB, Linux {}, {} on {}, load {}",
        read("/proc/sys/kernel/osrelease").split('-').next().unwrap_or_default().trim(),
        temp.display(),
        mount.map_or_else(
            || "?".to_owned(),
            |m| if m[3].split(',').any(|o| o == "discard") { format!("{} (discard)", m[2]) } else { m[2].clone() }
        ),
        load.split(' ').next().unwrap_or("?"),
    )
}
