//! The schema changes under a running daemon. The application's writes never fail, nothing is deleted on a stale picture, and capture is
//! back by itself or after `attach`.

use std::time::Duration;

use rowbound::database::Dialect;
use rowbound_testkit::{Backend, Rowbound, Running, World};

const BINARY: &str = env!("CARGO_BIN_EXE_rowbound");
const DEADLINE: Duration = Duration::from_secs(60);

/// A world with a running daemon.
async fn running(backend: Backend) -> (World, Running) {
    let world = World::new(backend).await.with_docs().await;
    Rowbound::new(BINARY, &world).run(&["attach"]).await.expect(0);
    for name in ["a.jpg", "b.jpg", "c.jpg"] {
        world.put_doc(name).await;
    }
    let daemon = Rowbound::new(BINARY, &world).spawn(&["run", "--poll", "20ms"]);
    daemon.wait_for_line("collecting", DEADLINE).await;
    (world, daemon)
}

/// Waits until the daemon has put back all of them.
async fn are_back(world: &World, daemon: &Running, triggers: &[(String, String)]) {
    let all = async || {
        let back = world.db.triggers().await;
        triggers.iter().all(|t| back.contains(t))
    };
    daemon.until(DEADLINE, "all triggers are back", all).await;
}

/// Triggers are dropped by hand: the daemon puts them back and records the gap.
async fn triggers_dropped(backend: Backend) {
    let (world, daemon) = running(backend).await;
    let triggers: Vec<_> = world.db.triggers().await.into_iter().filter(|(_, table)| table == "doc").collect();
    // At once where a transaction can: the daemon may look, and mend, between two drops.
    let at_once = backend.dialect() != Dialect::Mysql;
    if at_once {
        let mut app = world.db.app().await;
        app.begin().await;
        for (trigger, _) in &triggers {
            app.exec(&format!("drop trigger {trigger}{}", if backend == Backend::Postgres { " on doc" } else { "" })).await;
        }
        app.commit().await;
        app.close().await;
    } else {
        world.db.drop_triggers(&triggers).await;
    }
    daemon.wait_for_line("capture was incomplete and is back", DEADLINE).await;
    are_back(&world, &daemon, &triggers).await;
    world.db.exec("delete from doc where file = 'b.jpg'").await;
    daemon.until(DEADLINE, "what is released afterwards is collected", || async { world.files() == ["a.jpg", "c.jpg"] }).await;
    let status = Rowbound::new(BINARY, &world).run(&["status", "--format", "json"]).await.json();
    let gaps = status["gaps"].as_array().expect("a list of gaps");
    assert!(gaps.iter().all(|gap| gap["until"].is_string()), "a gap that does not end: {status}");
    assert!(!gaps.is_empty(), "{status}");
    if at_once {
        let why = gaps[0]["why"].as_str().expect("a reason");
        assert!(gaps.len() == 1 && triggers.iter().all(|(trigger, _)| why.contains(trigger)), "{status}");
    }
    daemon.terminate();
    daemon.wait(DEADLINE).await.expect(0);
}

/// The same while the storage is away, when nothing is claimed and no trash is kept: what is released meanwhile must not go unseen.
async fn triggers_dropped_while_the_storage_is_away(backend: Backend) {
    let world = World::new(backend).await.with_docs().await;
    Rowbound::new(BINARY, &world).run(&["attach"]).await.expect(0);
    for name in ["a.jpg", "b.jpg", "c.jpg"] {
        world.put_doc(name).await;
    }
    let away = world.folder().join("away");
    std::fs::rename(world.media(), &away).expect("cannot move the folder away");
    let daemon = Rowbound::new(BINARY, &world).spawn(&["run", "--poll", "20ms"]);
    daemon.wait_for_line("collecting", DEADLINE).await;
    let triggers: Vec<_> = world.db.triggers().await.into_iter().filter(|(_, table)| table == "doc").collect();
    world.db.drop_triggers(&triggers).await;
    are_back(&world, &daemon, &triggers).await;
    let status = Rowbound::new(BINARY, &world).run(&["status", "--format", "json"]).await.json();
    assert!(status["gaps"].as_array().is_some_and(|gaps| !gaps.is_empty()), "{status}");
    world.db.exec("delete from doc where file = 'b.jpg'").await;
    assert_eq!(world.count(&world.own_table("candidate")).await, 1);
    std::fs::rename(&away, world.media()).expect("cannot move the folder back");
    daemon.until(DEADLINE, "what was released meanwhile is collected", || async { world.files() == ["a.jpg", "c.jpg"] }).await;
    daemon.terminate();
    daemon.wait(DEADLINE).await.expect(0);
}

/// A process is killed while it puts triggers back, at its first steps and at its last: there, where each statement commits, the triggers are all back by then. Whoever
/// finishes it, the gap is told.
async fn killed_while_triggers_come_back(backend: Backend) {
    let world = World::new(backend).await.with_docs().await;
    Rowbound::new(BINARY, &world).run(&["attach"]).await.expect(0);
    let mut told = 0;
    let mut killed_at = async |nth: usize| {
        let triggers: Vec<_> = world.db.triggers().await.into_iter().filter(|(_, table)| table == "doc").collect();
        world.db.drop_triggers(&triggers).await;
        let killed = Rowbound::new(BINARY, &world).env("ROWBOUND_CRASH_AT", &format!("attach-step:{nth}")).run(&["collect"]).await;
        Rowbound::new(BINARY, &world).run(&["collect"]).await.expect(0);
        let back = world.db.triggers().await;
        assert!(triggers.iter().all(|t| back.contains(t)), "step {nth}: {back:?}");
        let status = Rowbound::new(BINARY, &world).run(&["status", "--format", "json"]).await.json();
        let gaps = status["gaps"].as_array().expect("a list of gaps").len();
        assert!(gaps > told, "step {nth}: nobody hears of the gap: {status}");
        told = gaps;
        killed.signal == Some(9)
    };
    let (mut last, mut none) = (1, 2);
    assert!(killed_at(last).await, "it has a first step");
    while killed_at(none).await {
        (last, none) = (none, 2 * none);
    }
    while none - last > 1 {
        let middle = last.midpoint(none);
        if killed_at(middle).await { last = middle } else { none = middle }
    }
    for nth in (1..=last).rev().take(3) {
        assert!(killed_at(nth).await, "step {nth} of {last}");
    }
}

/// The bound column is renamed: deletion stops, the application goes on, and a new binding gets everything going again.
async fn column_renamed(backend: Backend) {
    let (mut world, daemon) = running(backend).await;
    world.db.exec("alter table doc rename column file to photo").await;
    for sql in [
        "update doc set title = 'x'",
        "delete from doc where photo = 'b.jpg'",
        "insert into doc (photo) values ('d.jpg')",
        "update doc set photo = 'e.jpg' where photo = 'd.jpg'",
    ] {
        world.db.try_exec(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    }
    daemon.wait_for_line("ERROR", DEADLINE).await;
    let rowbound = Rowbound::new(BINARY, &world);
    if backend != Backend::Sqlite {
        // On SQLite the daemon is the one worker.
        assert_eq!(rowbound.run(&["collect"]).await.code, Some(4));
    }
    assert_eq!(rowbound.run(&["status"]).await.code, Some(4));
    assert_eq!(world.files(), ["a.jpg", "b.jpg", "c.jpg"], "something was deleted on a stale picture");
    // `attach` with the old name changes nothing and says why.
    let wrong = rowbound.run(&["attach"]).await;
    assert_eq!(wrong.code, Some(2), "{}", wrong.stderr);
    daemon.terminate();
    daemon.wait(DEADLINE).await.expect(0);
    assert_eq!(rowbound.run(&["collect"]).await.code, Some(4));

    world.bindings = vec![rowbound::Binding::name("doc.photo", "default").expect("a column")];
    let rowbound = Rowbound::new(BINARY, &world);
    if world.db.dialect() == Dialect::Mysql {
        // Nothing tells there that it is the same column.
        let said = rowbound.run(&["attach"]).await.expect(4).stderr;
        assert!(said.contains("rowbound attach --drop doc.file"), "{said}");
        rowbound.run(&["attach", "--drop", "doc.file"]).await.expect(0);
    } else {
        rowbound.run(&["attach"]).await.expect(0);
    }
    world.db.exec("delete from doc where photo = 'c.jpg'").await;
    let end = rowbound.run(&["collect", "--wait", "20s"]).await;
    assert!(world.files().contains(&"a.jpg".to_owned()) && !world.files().contains(&"c.jpg".to_owned()), "{}{}", end.stdout, end.stderr);
}

/// Another table takes the bound one's name, which lives on under a name of its own and references files: an archive by year, an online migration.
async fn table_swapped(backend: Backend) {
    let mut world = World::new(backend).await.with_docs().await;
    let rowbound = Rowbound::new(BINARY, &world);
    rowbound.run(&["attach"]).await.expect(0);
    for name in ["a.jpg", "a.jpg", "b.jpg", "c.jpg"] {
        world.put_doc(name).await;
    }
    world.db.exec("delete from doc where id = 1").await;
    match backend {
        Backend::Mariadb | Backend::Mysql => {
            world.db.exec("create table doc_new like doc; rename table doc to doc_2026, doc_new to doc").await;
        }
        Backend::Postgres => {
            world
                .db
                .exec(
                    "create table doc_new (like doc including all); alter table doc rename to doc_2026; alter table doc_new rename to doc",
                )
                .await
        }
        Backend::Sqlite => {
            let id = backend.id_column();
            world
                .db
                .exec(&format!("alter table doc rename to doc_2026; create table doc (id {id}, file varchar(255), title varchar(255))"))
                .await;
        }
    }
    for args in [&["collect"][..], &["sweep", "--delete", "--max-share", "1"]] {
        rowbound.run(args).await.expect(4);
    }
    assert_eq!(world.files(), ["a.jpg", "b.jpg", "c.jpg"], "rows of the old table reference them");
    let said = rowbound.run(&["attach"]).await;
    assert_eq!((said.code, said.stderr.contains("doc")), (Some(4), true), "{}{}", said.stdout, said.stderr);
    // A person binds both.
    world.bindings.push(rowbound::Binding::name("doc_2026.file", "default").expect("a column"));
    let rowbound = Rowbound::new(BINARY, &world);
    rowbound.run(&["attach", "--adopt-columns"]).await.expect(0);
    world.db.exec("delete from doc_2026 where file = 'c.jpg'").await;
    rowbound.run(&["collect", "--wait", "60s"]).await.expect(0);
    assert_eq!(world.files(), ["a.jpg", "b.jpg"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swapped_table_stops_deletion_on_sqlite() {
    table_swapped(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swapped_table_stops_deletion_on_postgres() {
    table_swapped(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swapped_table_stops_deletion_on_mariadb() {
    table_swapped(Backend::Mariadb).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swapped_table_stops_deletion_on_mysql() {
    table_swapped(Backend::Mysql).await;
}

/// The bound column is dropped (SQLite refuses that while it is bound), and its type is altered.
async fn column_altered_and_dropped(backend: Backend) {
    let (world, daemon) = running(backend).await;
    let alter = match backend {
        Backend::Postgres => "alter table doc alter column file type varchar(500)",
        Backend::Sqlite => "alter table doc rename to doc2",
        _ => "alter table doc modify file varchar(500)",
    };
    world.db.exec(alter).await;
    if backend == Backend::Sqlite {
        world.db.exec("alter table doc2 rename to doc").await;
    }
    world.db.exec("update doc set title = 'y'").await;
    world.db.exec("delete from doc where file = 'b.jpg'").await;
    let rowbound = Rowbound::new(BINARY, &world);
    rowbound.run(&["attach"]).await.expect(0);
    daemon.until(DEADLINE, "it works on after `attach`", || async { world.files() == ["a.jpg", "c.jpg"] }).await;

    if backend == Backend::Sqlite {
        assert!(world.db.try_exec("alter table doc drop column file").await.is_err(), "SQLite can drop it: take it out of the docs");
        world.db.exec("delete from doc where file = 'c.jpg'").await;
        daemon.until(DEADLINE, "nothing has happened", || async { world.files() == ["a.jpg"] }).await;
    } else {
        world.db.exec("alter table doc drop column file").await;
        for sql in ["update doc set title = 'z'", "insert into doc (title) values ('n')", "delete from doc"] {
            world.db.try_exec(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        }
        daemon.wait_for_line("ERROR", DEADLINE).await;
        assert_eq!(rowbound.run(&["status"]).await.code, Some(4));
        assert_eq!(world.files(), ["a.jpg", "c.jpg"]);
    }
    daemon.terminate();
    daemon.wait(DEADLINE).await.expect(0);
}

/// The table is rebuilt, as migrations on SQLite and online schema changes do.
async fn table_rebuilt(backend: Backend) {
    let (world, daemon) = running(backend).await;
    let id = backend.id_column();
    let mut app = world.db.app().await;
    if backend == Backend::Mariadb || backend == Backend::Mysql {
        app.exec(&format!("create table doc_new (id {id}, file varchar(255), title varchar(300))")).await;
        app.exec("insert into doc_new select * from doc").await;
        app.exec("rename table doc to doc_old, doc_new to doc").await;
        app.exec("drop table doc_old").await;
    } else {
        app.begin().await;
        app.exec(&format!("create table doc_new (id {id}, file varchar(255), title varchar(300))")).await;
        app.exec("insert into doc_new select * from doc").await;
        app.exec("drop table doc").await;
        app.exec("alter table doc_new rename to doc").await;
        app.commit().await;
    }
    app.exec("update doc set title = 'x'").await;
    // By the daemon alone where every column is surely the same, else after a person has looked.
    if backend == Backend::Sqlite {
        daemon.wait_for_line("capture was incomplete and is back", DEADLINE).await;
    } else {
        if backend == Backend::Postgres {
            assert_eq!(Rowbound::new(BINARY, &world).run(&["attach"]).await.code, Some(4), "another table has the name now");
        }
        Rowbound::new(BINARY, &world).run(&["attach", "--adopt-columns"]).await.expect(0);
    }
    app.exec("delete from doc where file = 'b.jpg'").await;
    daemon.until(DEADLINE, "capture is back", || async { world.files() == ["a.jpg", "c.jpg"] }).await;
    daemon.terminate();
    daemon.wait(DEADLINE).await.expect(0);
    world.assert_files_follow_rows().await;
}

/// The bound column is renamed and a new one gets its name: references in the old one must not stop counting without a person's word.
async fn name_taken_by_another_column(backend: Backend) {
    let (mut world, daemon) = running(backend).await;
    world.db.exec("alter table doc rename column file to photo").await;
    world.db.exec("alter table doc add column file varchar(255)").await;
    daemon.wait_for_line("ERROR", DEADLINE).await;
    daemon.terminate();
    daemon.wait(DEADLINE).await.expect(0);
    let rowbound = Rowbound::new(BINARY, &world);
    let refused = rowbound.run(&["attach"]).await;
    assert_eq!(refused.code, Some(4), "{}", refused.stdout);
    assert!(refused.stderr.contains("--adopt-columns"), "{}", refused.stderr);
    assert_eq!(rowbound.run(&["collect"]).await.code, Some(4));
    // The old column names files still: that needs a word of its own.
    let refused = rowbound.run(&["attach", "--adopt-columns"]).await.expect(4);
    assert!(refused.stderr.contains("doc.photo"), "{}", refused.stderr);
    world = world.ignore(&["doc.photo"]);
    let rowbound = Rowbound::new(BINARY, &world);
    rowbound.run(&["attach", "--adopt-columns"]).await.expect(0);
    rowbound.run(&["collect"]).await.expect(0);
    assert_eq!(world.files(), ["a.jpg", "b.jpg", "c.jpg"]);
}

/// What was released before a column was renamed is collected once its new name is bound: the database tells that it is the same column.
async fn renamed_while_candidates_wait(backend: Backend) {
    let mut world = World::new(backend).await.with_docs().await;
    Rowbound::new(BINARY, &world).run(&["attach"]).await.expect(0);
    for name in ["a.jpg", "b.jpg", "c.jpg"] {
        world.put_doc(name).await;
    }
    world.db.exec("delete from doc where file = 'b.jpg'").await;
    world.db.exec("alter table doc rename column file to photo").await;
    world.bindings = vec![rowbound::Binding::name("doc.photo", "default").expect("a column")];
    let rowbound = Rowbound::new(BINARY, &world);
    rowbound.run(&["attach"]).await.expect(0);
    rowbound.run(&["collect"]).await.expect(0);
    assert_eq!(world.files(), ["a.jpg", "c.jpg"]);
    world.db.exec("delete from doc where photo = 'c.jpg'").await;
    rowbound.run(&["collect"]).await.expect(0);
    assert_eq!(world.files(), ["a.jpg"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_survives_a_renamed_column_on_postgres() {
    renamed_while_candidates_wait(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_survives_a_renamed_column_on_sqlite() {
    renamed_while_candidates_wait(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_taken_by_another_column_needs_a_word_on_postgres() {
    name_taken_by_another_column(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_taken_by_another_column_needs_a_word_on_sqlite() {
    name_taken_by_another_column(Backend::Sqlite).await;
}

/// A table goes to another database, by the steps of docs/databases.md. The server refuses it as long as a trigger stands on the table.
async fn table_goes_to_another_database(backend: Backend) {
    let (mut world, daemon) = running(backend).await;
    let said = Rowbound::new(BINARY, &world).run(&["attach"]).await.expect(0);
    assert!((said.stdout + &said.stderr).contains("1435"), "`attach` says it beforehand");
    let other = world.db.second_schema().await.expect("a database beside it");
    let rename = format!("rename table doc to {other}.doc");
    let refused = world.db.try_exec(&rename).await.unwrap_err();
    assert!(refused.to_string().contains("1435"), "{refused}");

    daemon.terminate();
    daemon.wait(DEADLINE).await.expect(0);
    let show = "select trigger_name from information_schema.triggers where event_object_schema = database() and event_object_table = 'doc' \
                and trigger_name like 'rowbound%'";
    for trigger in world.db.query_strings(show).await.into_iter().flatten() {
        world.db.exec(&format!("drop trigger {trigger}")).await;
    }
    world.db.exec(&rename).await;
    world.bindings = vec![rowbound::Binding::name(&format!("{other}.doc.file"), "default").expect("a column")];
    let rowbound = Rowbound::new(BINARY, &world);
    // What was attached would count as references no longer: that is to be said.
    assert_eq!(rowbound.run(&["attach"]).await.code, Some(4));
    rowbound.run(&["attach", "--drop", "doc.file"]).await.expect(0);

    world.db.exec(&format!("delete from {other}.doc where file = 'b.jpg'")).await;
    rowbound.run(&["collect"]).await.expect(0);
    assert_eq!(world.files(), ["a.jpg", "c.jpg"]);
    rowbound.run(&["detach"]).await.expect(0);
    world.db.exec(&format!("rename table {other}.doc to doc")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_a_table_goes_to_another_database() {
    table_goes_to_another_database(Backend::Mariadb).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_a_table_goes_to_another_database() {
    table_goes_to_another_database(Backend::Mysql).await;
}

macro_rules! on {
    ($($module:ident $backend:ident),*) => { $(
        mod $module {
            use super::*;

            #[tokio::test(flavor = "multi_thread")]
            async fn dropped_triggers_come_back() {
                triggers_dropped(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn dropped_triggers_come_back_while_the_storage_is_away() {
                triggers_dropped_while_the_storage_is_away(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn killed_while_dropped_triggers_come_back_the_gap_is_told() {
                killed_while_triggers_come_back(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn a_renamed_column_stops_deletion_and_no_write() {
                column_renamed(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn an_altered_or_dropped_column_fails_no_write() {
                column_altered_and_dropped(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn a_rebuilt_table_is_captured_again() {
                table_rebuilt(Backend::$backend).await;
            }
        }
    )* };
}

on!(sqlite Sqlite, postgres Postgres, mariadb Mariadb, mysql Mysql);
