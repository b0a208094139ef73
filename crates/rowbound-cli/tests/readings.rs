//! Values that a binding reads as less than they say, and columns that came after `attach`: files that rows reference stay. Each story is one that was seen with an
//! application.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rowbound::{
    Binding, FileName, Trash,
    binding::{Depth, Reading},
    capture::Bound,
    collect::{Collector, Settings},
    database::{self, Options},
    evidence::values::values,
};
use rowbound_testkit::{
    Backend, Rowbound, World,
    services::{ServicePlace, ServiceServer, ServiceServerKind},
    storage_suite::Place,
    wait_until,
};
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_rowbound");
const DEADLINE: Duration = Duration::from_secs(60);

fn rowbound(world: &World) -> Rowbound {
    Rowbound::new(BINARY, world)
}

/// A world whose column is bound with `reading`, with a file of each name and a row of each value.
async fn world(backend: Backend, reading: Reading, files: &[&str], values: &[&str]) -> World {
    let world = World::new(backend).await;
    let id = backend.id_column();
    world.db.exec(&format!("create table doc (id {id}, file varchar(300), title varchar(50))")).await;
    let world = world.bind(Binding::name("doc.file", "default").expect("a binding").reading(reading));
    for file in files {
        world.put_file(file, b"x");
        world.age(file, Duration::from_secs(86_400));
    }
    for value in values {
        world.db.exec(&format!("insert into doc (file) values ({})", backend.literal(value))).await;
    }
    world
}

async fn swept(world: &World) -> Value {
    let swept = rowbound(world).run(&["sweep", "--delete", "--max-share", "100%", "--format", "json"]).await;
    let report = swept.json()["storages"][0].clone();
    rowbound(world).run(&["collect", "--retry-now"]).await;
    report
}

/// Prefixes before names that are not percent-encoded. A sweep took them, and ended with 0.
async fn raw_names_behind_a_prefix(backend: Backend) {
    let files = ["100% cotton.jpg", "C# notes.pdf", "what?.png", "a%20b.png", "orphan.png"];
    let values = ["/files/100% cotton.jpg", "/files/C# notes.pdf", "/files/what?.png", "/files/a%20b.png", "/files/plain.jpg"];
    let reading = Reading::Url { prefixes: vec!["/files/".into()] };
    let world = world(backend, reading, &files, &values).await;
    world.put_file("plain.jpg", b"x");
    rowbound(&world).run(&["attach"]).await.expect(0);
    let report = swept(&world).await;
    assert_eq!(world.files(), ["100% cotton.jpg", "C# notes.pdf", "a%20b.png", "plain.jpg", "what?.png"], "{report:#}");
    assert_eq!(report["otherwise"]["files"], 4, "{report:#}");
    assert_eq!(report["otherwise_in"]["doc.file"]["count"], 4, "{report:#}");
}

/// A host that the sample did not show.
async fn a_host_that_the_plan_does_not_have(backend: Backend) {
    let files = ["d/a.jpg", "d/b.jpg", "d/orphan.jpg"];
    let values = ["https://cdn.example.org/m/d/a.jpg", "//old.example.org/uploads/d/b.jpg"];
    let reading = Reading::Url { prefixes: vec!["https://cdn.example.org/m/".into()] };
    let world = world(backend, reading, &files, &values).await;
    let attached = rowbound(&world).run(&["attach"]).await.expect(0);
    assert!(format!("{}{}", attached.stdout, attached.stderr).contains("//old.example.org/uploads/d/b.jpg"), "{}", attached.stdout);
    let report = swept(&world).await;
    assert_eq!(world.files(), ["d/a.jpg", "d/b.jpg"], "{report:#}");
    assert_eq!(report["unexplained"]["doc.file"]["samples"][0], "//old.example.org/uploads/d/b.jpg", "{report:#}");
    let status = rowbound(&world).run(&["status", "--format", "json"]).await.json();
    assert_eq!(status["bindings"][0]["values"]["unexplained"], 1, "{status:#}");
    let doctor = rowbound(&world).run(&["doctor"]).await;
    assert!(doctor.stdout.contains("//old.example.org/uploads/d/b.jpg"), "{}", doctor.stdout);
}

/// Two rows spell one path in two ways; the first is deleted.
async fn a_row_that_spells_it_otherwise(backend: Backend) {
    for other in ["/d/x.jpg", "//d/x.jpg", "./d/x.jpg", " d/x.jpg", "d/x.jpg?v=1"] {
        let world = world(backend, Reading::Name, &["d/x.jpg"], &["d/x.jpg", other]).await;
        rowbound(&world).run(&["attach"]).await.expect(0);
        world.db.exec("delete from doc where file = 'd/x.jpg'").await;
        rowbound(&world).run(&["collect", "--retry-now"]).await.expect(0);
        assert_eq!(world.files(), ["d/x.jpg"], "{other:?} means it");
        assert_eq!(world.outcomes("d/x.jpg").await, ["kept"], "{other:?}");
        let told = rowbound(&world).run(&["explain", "d/x.jpg"]).await;
        assert!(told.stdout.contains("doc.file"), "{}", told.stdout);
    }
}

/// A spelling that came after `attach` had looked: the file may be moved, and is not erased.
async fn a_spelling_that_nobody_has_seen_yet(backend: Backend) {
    let both = ["d/x.jpg", "d/y.jpg"];
    let world = world(backend, Reading::Name, &both, &both).await.storage(|s| s.trash(Trash::Keep(Duration::from_millis(1))));
    rowbound(&world).run(&["attach"]).await.expect(0);
    world.db.exec("insert into doc (file) values ('/d/x.jpg')").await;
    world.db.exec("delete from doc where file in ('d/x.jpg', 'd/y.jpg')").await;
    // The other one shows that there was an erasure.
    wait_until(DEADLINE, "the other file was erased", || async {
        rowbound(&world).run(&["collect", "--retry-now"]).await;
        world.outcomes("d/y.jpg").await.iter().any(|o| o == "purged" || o == "erased")
    })
    .await;
    assert!(world.is_there("d/x.jpg") || world.trashed().iter().any(|t| t.ends_with("d/x.jpg")), "it was erased");
    assert!(!world.outcomes("d/x.jpg").await.iter().any(|o| o == "purged" || o == "erased"));
    // The next attach has seen it.
    rowbound(&world).run(&["restore", "d/x.jpg"]).await;
    rowbound(&world).run(&["attach"]).await.expect(0);
    rowbound(&world).run(&["collect", "--retry-now"]).await;
    assert_eq!(world.files(), ["d/x.jpg"]);
}

/// A column that did not exist, or was empty, at `attach`.
async fn a_column_that_came_later(backend: Backend) {
    let id = backend.id_column();
    for ddl in ["alter table doc add column cover varchar(300)", &format!("create table gone_doc (id {id}, was varchar(300))")] {
        let world = World::new(backend).await.with_docs().await;
        for name in ["a.jpg", "b.jpg"] {
            world.put_doc(name).await;
        }
        rowbound(&world).run(&["attach"]).await.expect(0);
        world.db.exec(ddl).await;
        rowbound(&world).run(&["collect"]).await.expect(0);
        let (fill, column) = match ddl.starts_with("alter") {
            true => ("update doc set cover = 'b.jpg' where file = 'a.jpg'", "doc.cover"),
            false => ("insert into gone_doc (was) values ('b.jpg')", "gone_doc.was"),
        };
        world.db.exec(fill).await;
        world.db.exec("delete from doc where file = 'b.jpg'").await;
        let stopped = rowbound(&world).run(&["collect", "--retry-now"]).await.expect(4);
        assert!(stopped.stderr.contains(column) && stopped.stderr.contains("b.jpg"), "{}", stopped.stderr);
        assert_eq!(world.files(), ["a.jpg", "b.jpg"]);
        let daemon = rowbound(&world).spawn(&["run", "--poll", "20ms"]);
        daemon.wait_for_line(column, DEADLINE).await;
        assert_eq!(world.files(), ["a.jpg", "b.jpg"]);
        // A person says that its rows need no files. Whoever runs reads the record again, and goes on.
        let world = world.ignore(&[column]);
        world.write_config();
        rowbound(&world).run(&["attach"]).await.expect(0);
        wait_until(DEADLINE, "the daemon goes on after an attach", || async { world.files() == ["a.jpg"] }).await;
        daemon.terminate();
        daemon.wait(DEADLINE).await;
    }
}

/// A tenant's schema, cloned after `attach`: a table like a bound one, without triggers, whose rows reference files.
#[tokio::test(flavor = "multi_thread")]
async fn postgres_a_cloned_schema_stops_deletion() {
    let world = World::new(Backend::Postgres).await.with_docs().await;
    for name in ["a.jpg", "b.jpg"] {
        world.put_doc(name).await;
    }
    rowbound(&world).run(&["attach"]).await.expect(0);
    world.db.exec("create schema t2; create table t2.doc (like doc including all); insert into t2.doc select * from doc").await;
    world.db.exec("delete from doc where file = 'b.jpg'").await;
    let stopped = rowbound(&world).run(&["collect", "--retry-now"]).await.expect(4);
    assert!(stopped.stderr.contains("t2.doc.file"), "{}", stopped.stderr);
    let daemon = rowbound(&world).spawn(&["run", "--poll", "20ms"]);
    daemon.wait_for_line("t2.doc.file", DEADLINE).await;
    daemon.terminate();
    daemon.wait(DEADLINE).await;
    assert_eq!(world.files(), ["a.jpg", "b.jpg"]);
}

/// A sweep looks for such columns, too: what no trigger told of is an orphan to it.
async fn a_column_that_came_before_a_sweep(backend: Backend) {
    let world = World::new(backend).await.with_docs().await;
    for name in ["a.jpg", "b.jpg"] {
        world.put_doc(name).await;
    }
    rowbound(&world).run(&["attach"]).await.expect(0);
    world.put_file("cover.jpg", b"x");
    world.db.exec("alter table doc add column cover varchar(300)").await;
    world.db.exec("update doc set cover = 'cover.jpg' where file = 'a.jpg'").await;
    let stopped = rowbound(&world).run(&["sweep", "--delete", "--max-share", "100%", "--max-held", "100%"]).await.expect(4);
    assert!(stopped.stderr.contains("doc.cover") && stopped.stderr.contains("cover.jpg"), "{}", stopped.stderr);
    rowbound(&world).run(&["collect", "--retry-now"]).await;
    assert_eq!(world.files(), ["a.jpg", "b.jpg", "cover.jpg"]);
}

/// What stopped deletion is over when its column references nothing any more, without an attach.
#[tokio::test(flavor = "multi_thread")]
async fn sqlite_a_stop_ends_when_the_column_is_gone() {
    let world = World::new(Backend::Sqlite).await.with_docs().await;
    for name in ["a.jpg", "b.jpg"] {
        world.put_doc(name).await;
    }
    rowbound(&world).run(&["attach"]).await.expect(0);
    world.db.exec("alter table doc add column cover varchar(300)").await;
    world.db.exec("update doc set cover = 'b.jpg' where file = 'a.jpg'").await;
    world.db.exec("delete from doc where file = 'b.jpg'").await;
    let daemon = rowbound(&world).spawn(&["run", "--poll", "20ms"]);
    daemon.wait_for_line("doc.cover", DEADLINE).await;
    assert_eq!(world.files(), ["a.jpg", "b.jpg"]);
    world.db.exec("update doc set cover = null").await;
    // It looks once a minute.
    wait_until(DEADLINE * 3, "the daemon goes on", || async { world.files() == ["a.jpg"] }).await;
    daemon.terminate();
    daemon.wait(DEADLINE).await;
}

/// `attach` asks about empty columns whose names speak of files, and a new one without files stops nothing.
async fn an_empty_column_is_asked_about(backend: Backend) {
    let world = World::new(backend).await.with_docs().await;
    world.put_doc("a.jpg").await;
    world.db.exec("alter table doc add column cover varchar(300)").await;
    let attached = rowbound(&world).run(&["attach"]).await.expect(0);
    assert!(format!("{}{}", attached.stdout, attached.stderr).contains("doc.cover"), "{}{}", attached.stdout, attached.stderr);
    world.db.exec("update doc set cover = 'blue'").await;
    rowbound(&world).run(&["collect"]).await.expect(0);
}

/// A name in bytes.
async fn bytes_are_surveyed(backend: Backend) {
    let world = World::new(backend).await.with_docs().await;
    world.put_doc("a.jpg").await;
    world.put_file("logo/x.png", b"x");
    let (bytes, value) = match backend {
        Backend::Postgres => ("bytea", "'\\x7b226c6f676f223a20226c6f676f2f782e706e67227d'::bytea"),
        Backend::Sqlite => ("blob", "x'7b226c6f676f223a20226c6f676f2f782e706e67227d'"),
        _ => ("longblob", "x'7b226c6f676f223a20226c6f676f2f782e706e67227d'"),
    };
    let id = backend.id_column();
    world.db.exec(&format!("create table config (id {id}, data {bytes})")).await;
    world.db.exec(&format!("insert into config (data) values ({value})")).await;
    let refused = rowbound(&world).run(&["attach"]).await;
    assert_ne!(refused.code, Some(0), "{}", refused.stdout);
    assert!(refused.stderr.contains("config.data") && refused.stderr.contains("logo/x.png"), "{}", refused.stderr);
}

/// Another `where` is the same binding: what waits from before is looked at, and no time without capture is written down.
async fn another_where(backend: Backend) {
    let mut world = World::new(backend).await.with_docs().await;
    for name in ["a.jpg", "b.jpg"] {
        world.put_doc(name).await;
    }
    world.db.exec("update doc set title = 'x'").await;
    rowbound(&world).run(&["attach"]).await.expect(0);
    world.db.exec("delete from doc where file = 'a.jpg'").await;
    for title in ["x", "y", "x"] {
        world.bindings = vec![Binding::name("doc.file", "default").expect("a column").only("title", title)];
        let attached = rowbound(&world).run(&["attach", "--format", "json"]).await.expect(0).json();
        assert_eq!(attached["installation"]["gaps"], serde_json::json!([]), "{attached:#}");
        assert_eq!(attached["removed"], serde_json::json!([]), "{attached:#}");
    }
    rowbound(&world).run(&["collect", "--retry-now"]).await.expect(0);
    assert_eq!(world.files(), ["b.jpg"]);
    assert!(!world.outcomes("a.jpg").await.contains(&"unbound".to_owned()));
}

/// An attach changes a binding beside a running process: what is released since then would be looked for in the old way.
async fn another_binding_beside_a_running_process(backend: Backend) {
    let rows = |title: &str| Binding::name("doc.file", "default").expect("a column").only("title", title);
    let read =
        |prefix: &str| Binding::name("doc.file", "default").expect("a column").reading(Reading::Url { prefixes: vec![prefix.into()] });
    for (before, after, value) in [(rows("x"), rows("y"), "a.jpg"), (read("/x/"), read("/y/"), "/y/a.jpg")] {
        let mut world = World::new(backend).await.with_docs().await;
        world.put_file("a.jpg", b"x");
        world.bindings = vec![before];
        rowbound(&world).run(&["attach"]).await.expect(0);
        let daemon = rowbound(&world).spawn(&["run", "--poll", "20ms"]);
        daemon.wait_for_line("collecting", DEADLINE).await;
        world.bindings = vec![after];
        rowbound(&world).run(&["attach"]).await.expect(0);
        world.db.exec(&format!("insert into doc (file, title) values ('{value}', 'y'), ('{value}', 'y')")).await;
        world.db.exec("delete from doc where id = (select n from (select min(id) as n from doc) as first_of_all)").await;
        daemon.wait_for_line("another set of bindings", DEADLINE).await;
        assert_eq!(world.files(), ["a.jpg"]);
        daemon.terminate();
        daemon.wait(DEADLINE).await;
    }
}

/// A row means a file in the trash by a value that nobody has looked through: what the ledger says of it stands.
async fn a_file_in_the_trash_that_a_row_spells_otherwise(backend: Backend) {
    let world = world(backend, Reading::Name, &["d/x.jpg"], &["d/x.jpg"]).await;
    rowbound(&world).run(&["attach"]).await.expect(0);
    world.db.exec("insert into doc (file) values ('/d/x.jpg')").await;
    world.db.exec("delete from doc where file = 'd/x.jpg'").await;
    rowbound(&world).run(&["collect", "--retry-now"]).await;
    assert_eq!(world.outcomes("d/x.jpg").await, ["trashed"]);
    // As the erasure says it that finds the row after half an hour.
    world.db.exec(&format!("update {} set outcome = 'dangling'", world.own_table("ledger"))).await;
    let status = rowbound(&world).run(&["status"]).await.expect(1);
    assert!(status.stdout.contains("d/x.jpg") && status.stdout.contains("restore"), "{}", status.stdout);
}

/// What an earlier build attached is looked through by whoever runs; and a look ends in time, however few values there are.
async fn values_are_looked_through_beside_a_running_process(backend: Backend) {
    let world = world(backend, Reading::Name, &["a.jpg"], &["a.jpg"]).await;
    rowbound(&world).run(&["attach"]).await.expect(0);
    let db = database::open(world.db.url(), &Options::default()).await.expect("a database");
    let mut record = db.installation().await.expect("a record").expect("it is attached");
    let known = std::mem::take(&mut record.values);
    assert!(known.values().all(|seen| seen.depth == Depth::Plain && seen.complete), "{known:?}");
    db.record(&record).await.expect("written");
    let settings = Settings { survey: Duration::from_millis(100), ..Settings::default() };
    let collector = Arc::new(Collector::new(&world.plan(), db.clone(), settings).await.expect("a collector"));
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let running = tokio::spawn(collector.run(stopped));
    wait_until(DEADLINE, "its values were looked through", || async {
        db.installation().await.expect("a record").expect("it is attached").values == known
    })
    .await;
    stop.send(true).expect("it runs");
    running.await.expect("it ends");

    let slow = match backend {
        Backend::Postgres => "select file from public.doc, pg_sleep(30)",
        Backend::Mariadb | Backend::Mysql => "select file from doc where sleep(30) = 0",
        _ => return,
    };
    let bound = Bound { id: 9, binding: Binding::query("slow", "default", slow) };
    let began = Instant::now();
    let seen = values(&*db, &bound, Duration::from_millis(200)).await.expect("a look");
    assert!(!seen.complete && seen.depth == Depth::Whole, "{seen:?}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    db.close().await;
}

/// WebDAV cannot create without overwriting, so what was moved there does not come back: a check that comes before looks at every value. Such a file went to the trash,
/// and its row showed nothing until a person restored it.
#[tokio::test(flavor = "multi_thread")]
async fn postgres_a_file_that_could_not_come_back_is_not_moved() {
    let place = ServicePlace::new(&Arc::new(ServiceServer::start(ServiceServerKind::Webdav)));
    let mut world = world(Backend::Postgres, Reading::Name, &[], &["d/x.jpg", "d/y.jpg"]).await;
    world.storage = place.plan(Trash::Keep(Duration::from_secs(3600))).grace(Duration::ZERO).min_age(Duration::ZERO);
    for name in ["d/x.jpg", "d/y.jpg"] {
        place.put(&FileName::parse(name).expect("a name"), b"1").await;
    }
    rowbound(&world).run(&["attach"]).await.expect(0);
    world.db.exec("insert into doc (file) values ('/d/x.jpg')").await;
    world.db.exec("delete from doc where file in ('d/x.jpg', 'd/y.jpg')").await;
    rowbound(&world).run(&["collect", "--retry-now"]).await.expect(0);
    assert_eq!([world.outcomes("d/x.jpg").await, world.outcomes("d/y.jpg").await], [["kept"], ["trashed"]]);
}

/// A whole life on Azure, where `\` is `/` and dots at the end are none: a file goes with its last row, a row that spells it so holds it, and a sweep takes what no
/// row references.
#[tokio::test(flavor = "multi_thread")]
async fn sqlite_files_in_azblob_follow_their_rows() {
    let place = ServicePlace::new(&Arc::new(ServiceServer::start(ServiceServerKind::Azblob)));
    let files = ["d/gone.jpg", "d/kept.jpg", "d/orphan \u{e9}&.jpg", "d/windows.jpg", "e/windows.jpg", "f/Acme Inc/logo.png"];
    let rows = ["d/gone.jpg", "d/kept.jpg", "d/windows.jpg", "d\\windows.jpg", "e\\windows.jpg", "f/Acme Inc./logo.png."];
    let mut world = world(Backend::Sqlite, Reading::Name, &[], &rows).await;
    world.storage = place.plan(Trash::Keep(Duration::from_secs(3600))).grace(Duration::ZERO).min_age(Duration::ZERO);
    for name in files {
        place.put(&FileName::parse(name).expect("a name"), name.as_bytes()).await;
    }
    let there = async || {
        let mut there = Vec::new();
        for name in files {
            let bytes = place.get(&FileName::parse(name).expect("a name")).await;
            assert!(bytes.as_deref().is_none_or(|bytes| bytes == name.as_bytes()), "{name} is another");
            there.extend(bytes.map(|_| name));
        }
        there
    };
    let attached = rowbound(&world).run(&["attach"]).await.expect(0);
    assert!(!attached.stdout.contains("experimental"), "{}", attached.stdout);
    world.grown().await;

    world.db.exec("delete from doc where file in ('d/gone.jpg', 'd/windows.jpg')").await;
    rowbound(&world).run(&["collect", "--retry-now"]).await.expect(0);
    assert_eq!([world.outcomes("d/gone.jpg").await, world.outcomes("d/windows.jpg").await], [["trashed"], ["kept"]]);
    assert_eq!(there().await, files[1..]);

    let report = swept(&world).await;
    let kept = ["d/kept.jpg", "d/windows.jpg", "e/windows.jpg", "f/Acme Inc/logo.png"];
    assert_eq!(there().await, kept, "{report:#}");
    assert_eq!(report["otherwise"]["files"], 3, "{report:#}");
    assert_eq!(world.outcomes(files[2]).await, ["trashed"]);
    rowbound(&world).run(&["restore", "d/gone.jpg"]).await.expect(0);
    assert_eq!(there().await, [&["d/gone.jpg"], &kept[..]].concat());

    // The last row of a spelling that is no name here: its file is the sweep's.
    world.db.exec("delete from doc where file like '%windows.jpg'").await;
    rowbound(&world).run(&["collect", "--retry-now"]).await.expect(1);
    assert_eq!(world.outcomes("d\\windows.jpg").await, ["refused"]);
    rowbound(&world).run(&["detach"]).await.expect(0);
}

/// Deletion is stopped by a new column: what a row references comes back from the trash all the same.
#[tokio::test(flavor = "multi_thread")]
async fn sqlite_files_come_back_while_deletion_is_stopped() {
    let world = World::new(Backend::Sqlite).await.with_docs().await.storage(|s| s.trash(Trash::Keep(Duration::from_secs(3600))));
    for name in ["a.jpg", "b.jpg"] {
        world.put_doc(name).await;
    }
    rowbound(&world).run(&["attach"]).await.expect(0);
    world.db.exec("delete from doc where file = 'b.jpg'").await;
    rowbound(&world).run(&["collect"]).await.expect(0);
    assert_eq!(world.files(), ["a.jpg"]);
    world.db.exec("alter table doc add column cover varchar(300)").await;
    world.db.exec("update doc set cover = 'a.jpg'").await;
    let daemon = rowbound(&world).spawn(&["run", "--poll", "20ms"]);
    daemon.wait_for_line("doc.cover", DEADLINE).await;
    world.db.exec("insert into doc (file) values ('b.jpg')").await;
    wait_until(DEADLINE * 3, "the file is back", || async { world.files() == ["a.jpg", "b.jpg"] }).await;
    daemon.terminate();
    daemon.wait(DEADLINE).await;
}

macro_rules! on {
    ($($module:ident: $backend:ident;)*) => {
        $(
            mod $module {
                use super::*;

                #[tokio::test(flavor = "multi_thread")]
                async fn raw_names_behind_a_prefix_stay() {
                    raw_names_behind_a_prefix(Backend::$backend).await;
                }

                #[tokio::test(flavor = "multi_thread")]
                async fn files_of_a_host_that_the_plan_does_not_have_stay() {
                    a_host_that_the_plan_does_not_have(Backend::$backend).await;
                }

                #[tokio::test(flavor = "multi_thread")]
                async fn a_file_stays_while_a_row_spells_it_otherwise() {
                    a_row_that_spells_it_otherwise(Backend::$backend).await;
                }

                #[tokio::test(flavor = "multi_thread")]
                async fn a_new_spelling_costs_no_file() {
                    a_spelling_that_nobody_has_seen_yet(Backend::$backend).await;
                }

                #[tokio::test(flavor = "multi_thread")]
                async fn a_new_column_that_references_files_stops_deletion() {
                    a_column_that_came_later(Backend::$backend).await;
                }

                #[tokio::test(flavor = "multi_thread")]
                async fn a_new_column_that_references_files_stops_a_sweep() {
                    a_column_that_came_before_a_sweep(Backend::$backend).await;
                }

                #[tokio::test(flavor = "multi_thread")]
                async fn attach_asks_about_empty_columns() {
                    an_empty_column_is_asked_about(Backend::$backend).await;
                }

                #[tokio::test(flavor = "multi_thread")]
                async fn another_where_is_the_same_binding() {
                    another_where(Backend::$backend).await;
                }

                #[tokio::test(flavor = "multi_thread")]
                async fn a_binding_that_changed_stops_who_runs() {
                    another_binding_beside_a_running_process(Backend::$backend).await;
                }

                #[tokio::test(flavor = "multi_thread")]
                async fn what_lies_in_the_trash_is_said_however_a_row_spells_it() {
                    a_file_in_the_trash_that_a_row_spells_otherwise(Backend::$backend).await;
                }

                #[tokio::test(flavor = "multi_thread")]
                async fn who_runs_looks_through_what_an_earlier_build_attached() {
                    values_are_looked_through_beside_a_running_process(Backend::$backend).await;
                }

                #[tokio::test(flavor = "multi_thread")]
                async fn columns_of_bytes_are_surveyed() {
                    bytes_are_surveyed(Backend::$backend).await;
                }
            }
        )*
    };
}

on! {
    sqlite: Sqlite;
    postgres: Postgres;
    mariadb: Mariadb;
    mysql: Mysql;
}
