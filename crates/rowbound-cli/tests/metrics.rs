//! What a collector counts, for export and for the log.

use std::time::Duration;

use rowbound::{
    Collector, Trash,
    collect::Settings,
    database::{self, Options},
    queue::Outcome,
};
use rowbound_testkit::{Backend, Rowbound, World, wait_until};

const BINARY: &str = env!("CARGO_BIN_EXE_rowbound");
const DEADLINE: Duration = Duration::from_secs(60);

async fn counted(backend: Backend) {
    let mut world = World::new(backend).await.with_docs().await;
    world.storage = world.storage.trash(Trash::Keep(Duration::from_secs(8))).min_age(Duration::from_secs(3600));
    world.bindings[0] = world.bindings[0].clone().keep(["keep/*"]);
    Rowbound::new(BINARY, &world).run(&["attach"]).await.expect(0);
    for name in ["12345", "1234567", "shared", "keep/k"] {
        world.put_doc(name).await;
    }
    world.grown().await;
    world.put_doc("young").await;
    world.db.exec("insert into doc (file) values ('shared')").await;
    world.db.exec("delete from doc where file in ('12345', '1234567', 'keep/k', 'young') or id = 3").await;
    world.put_file("young", b"young");

    let db = database::open(world.db.url(), &Options::default()).await.unwrap_or_else(|e| panic!("{}", e.full()));
    // On a server that other tests use.
    let settings = Settings { patience: Duration::from_secs(40), ..Settings::default() };
    let collector = Collector::new(&world.plan(), db.clone(), settings).await.unwrap_or_else(|e| panic!("{}", e.full()));
    let metrics = async || collector.metrics().await.unwrap_or_else(|e| panic!("{}", e.full()));
    let m = metrics().await;
    assert_eq!((m.claimed, m.released, m.deleted, m.bytes_freed), (0, 0, 0, 0));
    let waits = &m.storages["default"];
    assert_eq!((waits.backlog, waits.due, waits.failing, waits.requests), (5, 5, 0, 0));
    assert!(waits.oldest_seconds.is_some_and(|s| s < 60), "{waits:?}");

    let (_stop, never) = tokio::sync::watch::channel(false);
    collector.drain(&never).await.unwrap_or_else(|e| panic!("{}", e.full()));
    let m = metrics().await;
    assert_eq!((m.claimed, m.released, m.kept, m.deleted, m.failed, m.waiting), (5, 4, 2, 2, 0, 1));
    assert_eq!((m.bytes_trashed, m.bytes_freed, m.purged), (12, 0, 0), "the trash still has them");
    assert_eq!(m.outcomes[&Outcome::Protected], 1);
    assert_eq!((m.storages["default"].backlog, m.storages["default"].due), (1, 0));

    wait_until(DEADLINE, "the trash is emptied", async || {
        collector.drain(&never).await.unwrap_or_else(|e| panic!("{}", e.full()));
        metrics().await.purged == 2
    })
    .await;
    let m = metrics().await;
    assert_eq!((m.bytes_trashed, m.bytes_freed), (12, 12));
    assert!(m.since <= jiff::Timestamp::now(), "{}", m.since);
    let json = serde_json::to_value(&m).expect("it serializes");
    assert_eq!(json["outcomes"]["kept"], 1);
    drop(collector);
    db.close().await;

    // A daemon writes its figures into the log when it ends.
    let daemon = Rowbound::new(BINARY, &world).spawn(&["run", "--poll", "20ms"]);
    daemon.wait_for_line("collecting", DEADLINE).await;
    daemon.terminate();
    let output = daemon.wait(DEADLINE).await;
    assert!(output.stderr.contains("figures") && output.stderr.contains("freed_bytes_total=0"), "{}", output.stderr);
    output.expect(0);
}

macro_rules! on {
    ($($module:ident $backend:ident),*) => { $(
        mod $module {
            use super::*;

            #[tokio::test(flavor = "multi_thread")]
            async fn a_collector_counts_what_it_did_and_what_waits() {
                counted(Backend::$backend).await;
            }
        }
    )* };
}

on!(sqlite Sqlite, postgres Postgres, mariadb Mariadb, mysql Mysql);
