//! The counter-search of a sweep: the names of all orphans in a table of texts that nobody bound, beside a sweep that ignores the table.

use std::{path::Path, process::Command};

use rowbound::{StoragePlan, plan::Location};
use rowbound_testkit::{Backend, TestDb, World};

use crate::{
    Options, floor,
    measure::{Cost, Table, mib, middle, run, time},
    rows,
};

/// How many files have no row.
const ORPHANS: [u64; 2] = [1_000, 20_000];

/// Prints the table.
pub async fn elsewhere(options: &Options) {
    let count = options.rows * 10;
    let folder = tempfile::Builder::new().prefix("rowbound-elsewhere.").tempdir().expect("cannot make a temporary folder");
    floor::fill(folder.path(), ORPHANS[1] * 2);
    let table = Table::begin(
        &format!("counter-search: {count} rows of text, about 400 bytes each"),
        &["", "ignored", "looked through", "peak RSS", "per million rows"],
    );
    for backend in &options.backends {
        for orphans in ORPHANS {
            let world = World::with(TestDb::new(*backend).await).with_docs().await.storage(|s| {
                let place = Location::parse(&format!("folder:{}", folder.path().display()), Path::new("")).expect("a folder");
                StoragePlan { location: place, ..s }
            });
            rows::fill_where(&world.db, "doc", ORPHANS[1] * 2, |n| n >= orphans).await;
            texts(&world.db, count).await;
            rows::settle_server(&world.db).await;
            let with = world.write_config();
            let without = world.folder().join("ignored.toml");
            let text = std::fs::read_to_string(&with).expect("the configuration");
            std::fs::write(&without, format!("ignore = [\"note.*\"]\n{text}")).expect("a configuration");
            let (mut ignored, mut looked) = (Vec::new(), Vec::new());
            for _ in 0..options.rounds {
                ignored.push(swept(&world, &without, orphans));
                looked.push(swept(&world, &with, orphans));
            }
            let (ignored, looked) = (middle(&ignored), middle(&looked));
            let million = (looked.wall.saturating_sub(ignored.wall)).mul_f64(1e6 / count as f64);
            table.row(&[format!("{backend}, {orphans} orphans"), time(ignored.wall), time(looked.wall), mib(looked.rss), time(million)]);
        }
    }
}

/// Fills a table that no binding knows: HTML in which other pictures stand.
pub async fn texts(db: &TestDb, count: u64) {
    let text = if db.backend() == Backend::Sqlite { "text" } else { "varchar(2000)" };
    db.exec(&format!("create table note (id integer primary key, body {text})")).await;
    let words =
        "Lorem ipsum dolor sit amet, consetetur sadipscing elitr, sed diam nonumy eirmod tempor invidunt ut labore et dolore magna. "
            .repeat(2);
    let mut app = db.app().await;
    app.begin().await;
    for from in (0..count).step_by(1_000) {
        let row = |n: u64| {
            format!(
                "({n}, '<p>{words}<img src=\"/media/pictures/{n}.jpg\" alt=\"{n}\"> and <a href=\"/page/{n}?a=1&amp;b=2\">more</a></p>')"
            )
        };
        let values: Vec<String> = (from..(from + 1_000).min(count)).map(row).collect();
        app.exec(&format!("insert into note values {}", values.join(","))).await;
    }
    app.commit().await;
    app.close().await;
}

fn swept(world: &World, config: &Path, orphans: u64) -> Cost {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rowbound"));
    command.args(["sweep", "--list", "--max-share", "1", "--log", "warn", "--config"]).arg(config).arg("--state").arg(world.folder());
    let (cost, said) = run(command.env_remove("DATABASE_URL"), &[1]);
    assert_eq!(said.lines().count() as u64, orphans, "exactly the orphans");
    cost
}
