//! A whole storage against all rows: `rowbound sweep` beside the ordered walk and the ordered query that it is made of, and beside a sweep that
//! holds both sides in memory.

use std::{path::Path, process::Command};

use futures_util::StreamExt;
use rowbound::{
    StoragePlan,
    binding::Column,
    database::{self, ColumnScan, Dialect, Options as Connect},
    storage::{self, Listed},
};
use rowbound_testkit::{
    Backend, TestDb, World,
    s3::{S3Kind, S3Server},
};

use crate::{
    Options,
    django::venv,
    floor,
    measure::{Cost, Table, mib, middle, ratio, run, time},
    rows,
};

/// One file of so many has no row.
const ORPHANS: u64 = 100;

/// Ourselves as a child: lists a storage in order and counts its files.
pub async fn walk(url: &str) {
    let place = StoragePlan::url_at("default", url).and_then(|plan| storage::open(&plan)).unwrap_or_else(fail);
    place.set_read_only();
    let mut files = 0_u64;
    storage::each(place.as_ref(), "", |entry| {
        files += u64::from(matches!(entry, Listed::File(_)));
        true
    })
    .await
    .unwrap_or_else(fail);
    println!("{files}");
}

fn fail<T>(e: rowbound::Error) -> T {
    panic!("{}", e.full())
}

/// Ourselves as a child: reads a column in order and counts its values.
pub async fn query(url: &str) {
    let db = database::open(url, &Connect::default()).await.unwrap_or_else(fail);
    let column = Column::parse("doc.file").expect("a column");
    let scan = ColumnScan {
        binding: 1,
        column,
        query: None,
        only: Default::default(),
        reading: rowbound::binding::Reading::Name,
        ordered: true,
        after: None,
        until: None,
    };
    let mut values = db.scan(&scan).await.unwrap_or_else(fail);
    let mut count = 0;
    while let Some(page) = values.pages.recv().await {
        count += page.unwrap_or_else(fail).values.len();
    }
    println!("{count}");
}

/// Prints the tables.
pub async fn sweep(options: &Options) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let count = options.rows * 10;
    let folder = tempfile::Builder::new().prefix("rowbound-sweep.").tempdir().expect("cannot make a temporary folder");
    floor::fill(folder.path(), count);
    let url = format!("folder:{}", folder.path().display());
    let table = Table::begin(
        &format!("sweep: {count} files, {} rows, {} orphans", count - count / ORPHANS, count / ORPHANS),
        &["", "wall", "x walk + query", "CPU", "x walk + query", "peak RSS"],
    );
    for backend in &options.backends {
        let world = World::with(TestDb::new(*backend).await).with_docs().await.storage(|s| {
            let place = rowbound::plan::Location::parse(&url, Path::new("")).expect("a folder");
            StoragePlan { location: place, ..s }
        });
        rows::fill_where(&world.db, "doc", count, |n| n % ORPHANS != ORPHANS - 1).await;
        rows::settle_server(&world.db).await;
        for index in [false, true] {
            if index {
                // The order of bytes; the others' default is one already, or is of no use.
                let collation = if backend.dialect() == Dialect::Postgres { " collate \"C\"" } else { "" };
                world.db.exec(&format!("create index doc_file on doc (file{collation})")).await;
                rows::settle_server(&world.db).await;
            }
            let (mut walks, mut queries, mut sweeps, mut peers) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
            for round in 0..options.rounds {
                walks.push(ourselves("--walk", &url, count));
                queries.push(ourselves("--query", world.db.url(), count - count / ORPHANS));
                sweeps.push(swept(&world, &[], count / ORPHANS));
                if round == 0 && *backend == Backend::Sqlite && !index {
                    peers.extend(unused(here, &world, folder.path(), count / ORPHANS));
                }
            }
            let (walk, query) = (middle(&walks), middle(&queries));
            let both = Cost { wall: walk.wall + query.wall, cpu: walk.cpu + query.cpu, rss: 0 };
            let with = if index { "with an index" } else { "no index" };
            let row = |what: &str, cost: Cost| {
                let (wall, cpu) = (ratio(cost.wall, both.wall), ratio(cost.cpu, both.cpu));
                table.row(&[what.to_owned(), time(cost.wall), wall, time(cost.cpu), cpu, mib(cost.rss)]);
            };
            row("ordered walk alone", walk);
            row(&format!("{backend}, {with}: query alone"), query);
            row(&format!("{backend}, {with}: rowbound sweep"), middle(&sweeps));
            for peer in peers {
                row("django-unused-media", peer);
            }
        }
    }
    println!(
        "  goal: 1.15 of walk and query one after the other, 24 MiB; 1/15 of the peer's time with 1/30 of its memory. CPU without the server's."
    );
    s3(options).await;
}

/// Runs this benchmark's own binary.
fn ourselves(what: &str, url: &str, expected: u64) -> Cost {
    let (cost, said) = run(Command::new(std::env::current_exe().expect("our own path")).args([what, url]), &[0]);
    assert_eq!(said.trim(), expected.to_string(), "{what} {url}");
    cost
}

fn swept(world: &World, env: &[(String, String)], orphans: u64) -> Cost {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rowbound"));
    command.args(["sweep", "--list", "--log", "warn", "--config"]).arg(world.write_config()).arg("--state").arg(world.folder());
    let (cost, said) = run(command.env_remove("DATABASE_URL").envs(env.iter().cloned()), &[1]);
    assert_eq!(said.lines().count() as u64, orphans, "exactly the orphans");
    cost
}

/// django-unused-media; `None` where it cannot be installed.
fn unused(here: &Path, world: &World, media: &Path, orphans: u64) -> Option<Cost> {
    let python = venv(here)?;
    let mut command = Command::new(python);
    let (mut cost, said) = run(command.arg(here.join("benches/rowbound/sweep/unused.py")).arg(world.db.url()).arg(media), &[0]);
    let said: Vec<u64> = said.split_whitespace().map(|n| n.parse().expect("unused.py prints numbers")).collect();
    assert_eq!(said[0], orphans, "the peer finds the same");
    cost.rss = said[1] * 1024;
    Some(cost)
}

async fn s3(options: &Options) {
    for kind in S3Kind::here().into_iter().filter(|kind| *kind != S3Kind::Moto) {
        // s3s-fs reads the whole tree for each page: its time grows with the square of the objects.
        let count = if kind == S3Kind::S3sFs { options.rows / 10 } else { options.rows * 2 };
        let server = S3Server::start(kind);
        let bucket = server.bucket().await;
        let location = bucket.location("");
        let world = World::with(TestDb::new(Backend::Sqlite).await).with_docs().await.storage(|s| StoragePlan { location, ..s });
        let names: Vec<String> = (0..count).map(floor::name).collect();
        futures_util::stream::iter(&names).for_each_concurrent(32, |name| bucket.put(name, b"tiny")).await;
        rows::fill_where(&world.db, "doc", count, |n| n % ORPHANS != ORPHANS - 1).await;
        let url = world.plan().storages["default"].location.to_url();
        let table =
            Table::begin(&format!("sweep: {count} objects on {kind}, {} orphans", count / ORPHANS), &["", "wall", "x listing", "peak RSS"]);
        let (mut lists, mut sweeps) = (Vec::new(), Vec::new());
        for _ in 0..options.rounds {
            let mut command = Command::new(std::env::current_exe().expect("our own path"));
            lists.push(run(command.args(["--walk", &url]).envs(server.env()), &[0]).0);
            sweeps.push(swept(&world, &server.env(), count / ORPHANS));
        }
        let (list, sweep) = (middle(&lists), middle(&sweeps));
        for (what, cost) in [("listing alone", list), ("rowbound sweep", sweep)] {
            table.row(&[what.to_owned(), time(cost.wall), ratio(cost.wall, list.wall), mib(cost.rss)]);
        }
    }
    println!("  goal: 1.1 of the listing alone, for 200,000 objects. Garage is measured where GARAGE names its binary.");
}
