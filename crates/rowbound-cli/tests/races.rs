//! What could go wrong between an application and a collector that work at the same moment.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rowbound::{Binding, Trash};
use rowbound_testkit::{Backend, Rowbound, Teller, World, Writer, wait_until};

const BINARY: &str = env!("CARGO_BIN_EXE_rowbound");
const DEADLINE: Duration = Duration::from_secs(120);

/// The usual one.
const LEASE: Duration = Duration::from_secs(60);

/// Traces with one line changed, which the model must refuse.
const MUTANTS: u64 = 5;

/// A world that is attached.
async fn attached(backend: Backend, change: impl FnOnce(World) -> World) -> World {
    let world = change(World::new(backend).await.with_docs().await);
    Rowbound::new(BINARY, &world).run(&["attach"]).await.expect(0);
    world
}

/// `collect` until nothing is left.
async fn collect(world: &World) {
    Rowbound::new(BINARY, world).run(&["collect", "--wait", "90s"]).await.expect(0);
}

/// Names are released and at once used again for new bytes, while the daemon runs.
async fn reuse(backend: Backend, rounds: usize) {
    let keep = |s: rowbound::StoragePlan| s.min_age(Duration::from_secs(5)).trash(Trash::Keep(Duration::from_secs(3600)));
    let world = attached(backend, |w| w.storage(keep).traced(LEASE)).await;
    let tell = Teller::new(world.trace.as_ref(), "application");
    let mut references: BTreeMap<String, String> = BTreeMap::new();
    let daemon = Rowbound::new(BINARY, &world).spawn(&["run", "--poll", "20ms"]);
    daemon.wait_for_line("collecting", DEADLINE).await;
    let mut app = world.db.app().await;
    let mut expected = BTreeMap::new();
    for round in 0..rounds {
        let name = format!("{}/photo{}.jpg", round % 3, round % 50);
        let began = tell.now();
        app.exec(&format!("delete from doc where file = '{name}'")).await;
        tell.statement(began, references.remove(&name).as_slice(), &[], false);
        let content = format!("round {round}");
        let began = tell.now();
        // The row's folder may be pruned between making it and writing into it; an application makes it again.
        while std::fs::create_dir_all(world.media().join((round % 3).to_string()))
            .and_then(|()| std::fs::write(world.media().join(&name), &content))
            .is_err()
        {}
        tell.put(began, &name);
        let began = tell.now();
        app.exec(&format!("insert into doc (file) values ('{name}')")).await;
        references.insert(name.clone(), tell.statement(began, &[], &[&name], false).remove(0));
        expected.insert(name, content);
        // Every tenth name stays released.
        if round % 10 == 9 {
            let name = format!("{}/photo{}.jpg", (round - 5) % 3, (round - 5) % 50);
            let began = tell.now();
            app.exec(&format!("delete from doc where file = '{name}'")).await;
            tell.statement(began, references.remove(&name).as_slice(), &[], false);
            expected.remove(&name);
        }
    }
    daemon.terminate();
    daemon.wait(DEADLINE).await.expect(0);
    collect(&world).await;
    for (name, content) in &expected {
        assert_eq!(std::fs::read_to_string(world.media().join(name)).ok().as_ref(), Some(content), "{name} was lost");
    }
    world.assert_files_follow_rows().await;
    world.assert_trace_allowed(MUTANTS);
}

/// A second row that references the file is inserted, but not committed, when the first one has gone and the collector comes.
async fn uncommitted(backend: Backend) {
    let world = attached(backend, |w| w.traced(LEASE)).await;
    let (told, other_told) = (Teller::new(world.trace.as_ref(), "holder"), Teller::new(world.trace.as_ref(), "other"));
    for (commit, erases) in [(true, false), (false, true)] {
        let began = other_told.now();
        world.put_doc("a.jpg").await;
        other_told.put(began, "a.jpg");
        let first = other_told.statement(other_told.now(), &[], &["a.jpg"], false);
        let (mut holder, mut other) = (world.db.app().await, world.db.app().await);
        let began = other_told.now();
        other.exec("delete from doc where file = 'a.jpg'").await;
        other_told.statement(began, &first, &[], false);
        holder.begin().await;
        holder.exec("insert into doc (file) values ('a.jpg')").await;
        let second = told.pending(told.now(), &[], &["a.jpg"], true);
        let daemon = Rowbound::new(BINARY, &world).spawn(&["run", "--poll", "20ms", "--patience", "100ms"]);
        daemon.wait_for_line("collecting", DEADLINE).await;
        if backend == Backend::Sqlite {
            // The write lock is the barrier: the daemon stands before it.
            daemon.wait_for_line("locked by another writer", DEADLINE).await;
        } else {
            daemon.wait_for_line("open transaction", DEADLINE).await;
        }
        assert_eq!(world.files(), ["a.jpg"], "it went although an open transaction names it");
        let began = told.now();
        if commit {
            holder.commit().await;
            told.commit(began, 1);
        } else {
            holder.rollback().await;
            told.rollback(began, 1);
        }
        wait_until(DEADLINE, "the candidate is settled", || async {
            world.files().is_empty() == erases && world.count(&world.own_table("candidate")).await == 0
        })
        .await;
        daemon.terminate();
        daemon.wait(DEADLINE).await.expect(0);
        world.assert_files_follow_rows().await;
        let began = other_told.now();
        other.exec("delete from doc").await;
        if commit {
            other_told.statement(began, &second, &[], false);
        }
        collect(&world).await;
        assert!(world.files().is_empty());
    }
    world.assert_trace_allowed(MUTANTS);
}

/// Two processes share thousands of candidates under a writing application.
async fn two_processes(backend: Backend, candidates: usize) -> Duration {
    let world = attached(backend, |w| w.storage(|s| s.min_age(Duration::from_secs(5))).traced(LEASE)).await;
    let tell = Teller::new(world.trace.as_ref(), "application");
    let mut references = Vec::new();
    for chunk in (0..candidates).collect::<Vec<_>>().chunks(1000) {
        let names: Vec<_> = chunk.iter().map(|n| format!("{}/{n}.jpg", n / 1000)).collect();
        names.iter().for_each(|name| world.put_file(name, b"x"));
        let rows: Vec<_> = names.iter().map(|name| format!("('{name}')")).collect();
        let began = tell.now();
        world.db.exec(&format!("insert into doc (file) values {}", rows.join(", "))).await;
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        references.extend(tell.statement(began, &[], &names, true));
    }
    // Let the files be older than the release by more than the clocks' margin.
    let newest = Instant::now();
    wait_until(DEADLINE, "the files are a little old", || async { newest.elapsed() > Duration::from_secs(3) }).await;
    let began = tell.now();
    world.db.exec("delete from doc").await;
    tell.statement(began, &references, &[], false);
    let writer = Writer::start(&world, "w", 1_000_000, Duration::from_millis(1)).await;
    let args = ["collect", "--batch", "500", "--format", "json", "--patience", "40s"];
    // Both have claimed before either goes on, however late one of them begins.
    let (one, at_one) = Rowbound::new(BINARY, &world).held_at("claimed");
    let (two, at_two) = Rowbound::new(BINARY, &world).held_at("claimed");
    let (a, b) = (one.spawn(&args), two.spawn(&args));
    at_one.reached(&a, DEADLINE).await;
    at_two.reached(&b, DEADLINE).await;
    at_one.let_go();
    at_two.let_go();
    let (a, b) = (a.wait(3 * DEADLINE).await, b.wait(3 * DEADLINE).await);
    let written = writer.stop().await;
    collect(&world).await;
    written.assert_nothing_lost(&world);
    world.assert_files_follow_rows().await;
    world.assert_trace_allowed(MUTANTS);
    let taken = |o: &rowbound_testkit::Output| o.json()["outcomes"]["trashed"].as_u64().unwrap_or(0);
    println!(
        "{backend:?}: {} and {} of {candidates} by two processes; the slowest application write took {:?}",
        taken(&a),
        taken(&b),
        written.slowest
    );
    assert!(taken(&a) > 0 && taken(&b) > 0, "both worked");
    // Each of these names was released once, so it is in the ledger once.
    let ledger = world.own_table("ledger");
    let twice = world
        .db
        .query_strings(&format!(
            "select name from {ledger} where name not like 'w/%' and outcome in ('trashed', 'missing') group by name having count(*) <> 1"
        ))
        .await;
    assert!(twice.is_empty(), "more than once: {twice:?}");
    let once = world.count(&format!("{ledger} where name not like 'w/%' and outcome = 'trashed'")).await;
    assert_eq!(once, candidates as u64);
    written.slowest
}

/// What an application does within one transaction, and what must be left of `a.jpg` and `b.jpg`.
const STORIES: &[(&str, &[&str], &[&str])] = &[
    // Shrine, CarrierWave, Laravel Media Library or unused-media: rollback of create, update and destroy.
    ("rollback of a delete", &["begin", "delete from doc where id = 1", "rollback"], &["a.jpg", "b.jpg"]),
    // Active Storage: a failed save keeps the old file.
    // Shrine, CarrierWave, Laravel Media Library or unused-media: rollback of create, update and destroy.
    ("rollback of a replacement", &["begin", "update doc set file = 'b.jpg' where id = 1", "rollback"], &["a.jpg", "b.jpg"]),
    (
        "a savepoint that is rolled back",
        &["begin", "savepoint s", "delete from doc where id = 1", "rollback to savepoint s", "commit"],
        &["a.jpg", "b.jpg"],
    ),
    ("a savepoint that is kept", &["begin", "savepoint s", "delete from doc where id = 1", "release savepoint s", "commit"], &["b.jpg"]),
    // Active Storage: attached: purge does nothing; a shared blob survives.
    (
        "shared by two rows, one goes",
        &["insert into doc (id, file) values (3, 'a.jpg')", "delete from doc where id = 1"],
        &["a.jpg", "b.jpg"],
    ),
    ("shared by two rows, both go", &["insert into doc (id, file) values (3, 'a.jpg')", "delete from doc where id in (1, 3)"], &["b.jpg"]),
    ("shared by two tables", &["insert into other (id, one) values (1, 'a.jpg')", "delete from doc where id = 1"], &["a.jpg", "b.jpg"]),
    (
        "shared by two columns of a row",
        &["insert into other (id, one, two) values (1, 'a.jpg', 'a.jpg')", "delete from doc where id = 1", "update other set one = null"],
        &["a.jpg", "b.jpg"],
    ),
    (
        "two columns of a row, both cleared",
        &[
            "insert into other (id, one, two) values (1, 'a.jpg', 'a.jpg')",
            "delete from doc where id = 1",
            "update other set one = null, two = ''",
        ],
        &["b.jpg"],
    ),
    (
        "moved to another row",
        &["begin", "update doc set file = null where id = 1", "insert into doc (id, file) values (3, 'a.jpg')", "commit"],
        &["a.jpg", "b.jpg"],
    ),
    (
        "moved to another table",
        &["begin", "insert into other (id, one) values (1, 'a.jpg')", "delete from doc where id = 1", "commit"],
        &["a.jpg", "b.jpg"],
    ),
    (
        "moved to another column of the row",
        &["insert into other (id, one) values (1, 'a.jpg')", "delete from doc where id = 1", "update other set two = one, one = null"],
        &["a.jpg", "b.jpg"],
    ),
    (
        "swapped in one statement",
        &["update doc set file = case id when 1 then 'b.jpg' else 'a.jpg' end where id in (1, 2)"],
        &["a.jpg", "b.jpg"],
    ),
    ("primary key changed", &["update doc set id = 99 where id = 1"], &["a.jpg", "b.jpg"]),
    ("primary key and file changed", &["update doc set id = 99, file = 'b.jpg' where id = 1"], &["b.jpg"]),
    // Active Storage: a duplicate shares, and outlives the original.
    (
        "row copied, then deleted",
        &["insert into doc (id, file) select 3, file from doc where id = 1", "delete from doc where id = 1"],
        &["a.jpg", "b.jpg"],
    ),
    (
        "released and named again in one transaction",
        &["begin", "delete from doc where id = 1", "insert into doc (id, file) values (1, 'a.jpg')", "commit"],
        &["a.jpg", "b.jpg"],
    ),
    (
        "A to B to A in one transaction",
        &["begin", "update doc set file = 'x.jpg' where id = 1", "update doc set file = 'a.jpg' where id = 1", "commit"],
        &["a.jpg", "b.jpg"],
    ),
    // Active Storage: replaced with itself survives.
    ("replaced with itself", &["update doc set file = file"], &["a.jpg", "b.jpg"]),
    ("set to what differs only in case", &["update doc set file = 'A.jpg' where id = 1"], &["b.jpg"]),
    ("replaced", &["update doc set file = 'b.jpg' where id = 1"], &["b.jpg"]),
    ("cleared to NULL and to ''", &["update doc set file = null where id = 1", "update doc set file = '' where id = 2"], &[]),
    // Active Storage: record already gone: the job is quiet.
    ("deleted twice", &["delete from doc where id = 1", "delete from doc where id = 1"], &["b.jpg"]),
    ("no row at all any more", &["delete from doc"], &[]),
    // django-cleanup: a missing file is no error.
    (
        "never saved files are nobody's candidates",
        &["insert into doc (id, file) values (3, 'never-was.jpg')", "delete from doc where id = 3"],
        &["a.jpg", "b.jpg"],
    ),
];

/// `doc.file`, `other.one` and `other.two` name files of one storage.
async fn three_columns(backend: Backend) -> World {
    let mut world = World::new(backend).await.with_docs().await;
    world.db.exec("create table other (id int primary key, one varchar(255), two varchar(255))").await;
    for column in ["other.one", "other.two"] {
        world = world.bind(Binding::name(column, "default").expect("a column"));
    }
    Rowbound::new(BINARY, &world).run(&["attach"]).await.expect(0);
    world
}

async fn stories(backend: Backend) {
    let world = three_columns(backend).await;
    for (story, statements, left) in STORIES {
        world.db.exec("delete from doc").await;
        world.db.exec("delete from other").await;
        // What is moved is gone from where it lay: nobody waits for its erasure.
        Rowbound::new(BINARY, &world).run(&["collect"]).await.expect(0);
        assert!(world.files().is_empty(), "{story}: the table was emptied");
        for (id, name) in [(1, "a.jpg"), (2, "b.jpg")] {
            world.put_file(name, name.as_bytes());
            world.db.exec(&format!("insert into doc (id, file) values ({id}, '{name}')")).await;
        }
        let mut app = world.db.app().await;
        for sql in *statements {
            app.exec(sql).await;
        }
        app.close().await;
        Rowbound::new(BINARY, &world).run(&["collect"]).await.expect(0);
        assert_eq!(world.files(), *left, "{story}: {statements:?}");
    }
}

/// The trash is no hole: a file that a row references again while it lies there comes back before the trash is emptied.
async fn named_again_in_the_trash(backend: Backend) {
    // Long enough that nothing is erased before the row comes. What is moved within a quarter of it lies together, and goes when that is over.
    let world = attached(backend, |w| w.storage(|s| s.trash(Trash::Keep(Duration::from_secs(60))))).await;
    world.put_doc("a.jpg").await;
    world.put_doc("b.jpg").await;
    world.db.exec("delete from doc").await;
    collect(&world).await;
    assert!(world.files().is_empty());
    assert_eq!(world.trashed().len(), 2);
    let world = world.storage(|s| s.trash(Trash::Keep(Duration::from_secs(2))));
    world.db.exec("insert into doc (file) values ('a.jpg')").await;
    let daemon = Rowbound::new(BINARY, &world).spawn(&["run", "--poll", "50ms"]);
    daemon.until(DEADLINE, "the trash is emptied", || async { world.trashed().is_empty() }).await;
    daemon.terminate();
    daemon.wait(DEADLINE).await.expect(0);
    assert_eq!(world.files(), ["a.jpg"]);
    world.assert_files_follow_rows().await;
}

/// A name moves from one bound column to another and back, in one statement each, while it is checked again and again. A check that reads the
/// columns one after the other, each as it is at that moment, would miss it in both.
async fn moving(backend: Backend, moves: usize) {
    let world = three_columns(backend).await;
    world.put_file("a.jpg", b"a");
    world.db.exec("insert into other values (1, 'a.jpg', null)").await;
    let daemon = Rowbound::new(BINARY, &world).spawn(&["run", "--poll", "5ms"]);
    daemon.wait_for_line("collecting", DEADLINE).await;
    let mut app = world.db.app().await;
    let mut n = 0;
    // Until the daemon has looked often, too: on a slow machine the moves alone prove little.
    while n < moves || !daemon.said().contains("kept") {
        let (from, to) = if n % 2 == 0 { ("one", "two") } else { ("two", "one") };
        app.begin().await;
        app.exec(&format!("update other set {to} = 'a.jpg', {from} = null")).await;
        app.commit().await;
        n += 1;
        assert!(n < 1_000_000, "the daemon never looked");
    }
    daemon.terminate();
    daemon.wait(DEADLINE).await.expect(0);
    collect(&world).await;
    assert_eq!(world.files(), ["a.jpg"]);
}

macro_rules! on {
    ($($module:ident $backend:ident),*) => { $(
        mod $module {
            use super::*;

            /// Shrine, CarrierWave, Laravel Media Library or unused-media: a stale job is refused when the row has moved on.
            #[tokio::test(flavor = "multi_thread")]
            async fn race_of_released_names_used_again() {
                reuse(Backend::$backend, 3_000).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            #[ignore = "soak"]
            async fn soak_released_names_used_again() {
                reuse(Backend::$backend, 10_000).await;
            }

            /// Shrine, CarrierWave, Laravel Media Library or unused-media: nothing before the commit.
            #[tokio::test(flavor = "multi_thread")]
            async fn race_with_an_uncommitted_reference() {
                uncommitted(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn race_of_a_name_that_moves_between_columns() {
                moving(Backend::$backend, 2_000).await;
            }

            #[tokio::test]
            async fn nothing_is_lost_or_left_in_any_story() {
                stories(Backend::$backend).await;
            }

            #[tokio::test]
            async fn race_with_a_row_that_names_a_file_in_the_trash() {
                named_again_in_the_trash(Backend::$backend).await;
            }
        }
    )* };
}

on!(sqlite Sqlite, postgres Postgres, mariadb Mariadb, mysql Mysql);

/// Active Storage: several attached and detached in one transaction, exact count.
#[tokio::test(flavor = "multi_thread")]
async fn race_of_two_processes_on_postgres() {
    two_processes(Backend::Postgres, 5_000).await;
}

/// Shrine, CarrierWave, Laravel Media Library or unused-media: deleted once, not twice.
#[tokio::test(flavor = "multi_thread")]
async fn race_of_two_processes_on_mariadb() {
    two_processes(Backend::Mariadb, 5_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn race_of_two_processes_on_mysql() {
    two_processes(Backend::Mysql, 5_000).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "soak"]
async fn soak_two_processes() {
    two_processes(Backend::Postgres, 20_000).await;
    two_processes(Backend::Mariadb, 20_000).await;
}

#[tokio::test]
async fn a_second_worker_on_sqlite_is_refused() {
    let world = attached(Backend::Sqlite, |w| w).await;
    let daemon = Rowbound::new(BINARY, &world).spawn(&["run"]);
    daemon.wait_for_line("collecting", DEADLINE).await;
    let second = Rowbound::new(BINARY, &world).run(&["collect"]).await;
    assert_eq!(second.code, Some(1));
    assert!(second.stderr.contains("another rowbound works on this SQLite database"), "{}", second.stderr);
    daemon.terminate();
    daemon.wait(DEADLINE).await.expect(0);
}
