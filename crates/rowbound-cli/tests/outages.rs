//! What is not there for a while: the folder, the database, the server. Nothing is lost meanwhile, nothing is believed to be gone, and
//! everything is done afterwards.

use std::time::{Duration, Instant};

use rowbound::Trash;
use rowbound_testkit::{Backend, OwnServer, Rowbound, TestDb, World, Writer, wait_until};
use tokio::io::AsyncReadExt;

const BINARY: &str = env!("CARGO_BIN_EXE_rowbound");
const DEADLINE: Duration = Duration::from_secs(60);

async fn attached(world: World) -> World {
    Rowbound::new(BINARY, &world).run(&["attach"]).await.expect(0);
    world
}

/// How a media folder goes and comes back.
enum Gone {
    /// The folder is missing.
    Missing,
    /// An empty folder stands there, as under a mount that is not mounted.
    Unmounted,
}

async fn folder(gone: Gone, trash: Trash) {
    let world = attached(World::new(Backend::Sqlite).await.with_docs().await.storage(|s| s.trash(trash))).await;
    for name in ["a/1.jpg", "a/2.jpg", "b/3.jpg", "keep.jpg"] {
        world.put_doc(name).await;
    }
    let daemon = Rowbound::new(BINARY, &world).spawn(&["run", "--poll", "20ms"]);
    daemon.wait_for_line("collecting", DEADLINE).await;
    let away = world.folder().join("away");
    std::fs::rename(world.media(), &away).expect("cannot move the folder away");
    if matches!(gone, Gone::Unmounted) {
        std::fs::create_dir(world.media()).expect("cannot make the empty folder");
    }
    world.db.exec("delete from doc where file <> 'keep.jpg'").await;
    daemon.wait_for_line("storage", DEADLINE).await;
    daemon
        .until(DEADLINE, "the daemon says that it waits for the storage", || async { daemon.said().contains("it waits for the storage") })
        .await;

    let rowbound = Rowbound::new(BINARY, &world);
    let status = rowbound.run(&["status", "--format", "json"]).await;
    assert_eq!(status.json()["storages"][0]["reachable"], false);
    assert_eq!(status.json()["storages"][0]["backlog"]["total"], 3, "no candidate is believed to be missing");
    // Nobody may make the empty place the storage by mistake.
    let attach = rowbound.run(&["attach"]).await;
    assert_eq!(attach.code, Some(3), "{}", attach.stderr);

    if matches!(gone, Gone::Unmounted) {
        std::fs::remove_dir(world.media()).expect("the empty folder is still empty");
    }
    std::fs::rename(&away, world.media()).expect("cannot move the folder back");
    daemon.until(DEADLINE, "everything is done after the folder is back", || async { world.files() == ["keep.jpg"] }).await;
    daemon.terminate();
    daemon.wait(DEADLINE).await.expect(0);
    rowbound.run(&["collect", "--wait", "10s"]).await.expect(0);
    world.assert_files_follow_rows().await;
}

/// django-cleanup: a storage that fails: the transaction stands, the failure is said once.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_folder_is_no_empty_folder() {
    folder(Gone::Missing, Trash::Off).await;
    folder(Gone::Missing, Trash::Keep(Duration::from_secs(3600))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unmounted_folder_is_no_empty_folder() {
    folder(Gone::Unmounted, Trash::Off).await;
    folder(Gone::Unmounted, Trash::Keep(Duration::from_secs(3600))).await;
}

/// A person who sits before it sees what it waits for: in the line that goes on, as long as that is so.
#[tokio::test(flavor = "multi_thread")]
async fn run_in_a_terminal_says_what_it_waits_for() {
    let world = attached(World::new(Backend::Sqlite).await.with_docs().await).await;
    world.put_doc("a.jpg").await;
    // `script` gives it a terminal of its own, and writes what stands there to its output.
    let command = format!("'{BINARY}' run --poll 20ms --config '{}'", world.write_config().display());
    let mut terminal = tokio::process::Command::new("script")
        .args(["-qefc", &command, "/dev/null"])
        .env("TERM", "xterm")
        .env("ROWBOUND_LOG", "off")
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("there is no `script` (Debian: bsdutils)");
    let mut screen = terminal.stdout.take().expect("it is piped");
    let mut until = async |wanted: &str| {
        let mut seen = String::new();
        let read = async {
            let mut bytes = [0; 4096];
            while !seen.contains(wanted) {
                let n = screen.read(&mut bytes).await.expect("cannot read the terminal");
                assert!(n > 0, "it ended: {seen}");
                seen.push_str(&String::from_utf8_lossy(&bytes[..n]));
            }
        };
        tokio::time::timeout(DEADLINE, read).await.unwrap_or_else(|_| panic!("the terminal does not say {wanted:?}"));
    };
    until("0 deleted").await;
    let away = world.folder().join("away");
    std::fs::rename(world.media(), &away).expect("cannot move the folder away");
    world.db.exec("delete from doc").await;
    until("0 deleted (0 B), 0 kept; waits for storage default").await;
    std::fs::rename(&away, world.media()).expect("cannot move the folder back");
    until("1 deleted (5 B), 0 kept").await;
    terminal.kill().await.expect("cannot end it");
}

#[tokio::test(flavor = "multi_thread")]
async fn collect_says_with_status_3_what_is_not_there() {
    let world = attached(World::new(Backend::Sqlite).await.with_docs().await).await;
    world.put_doc("a.jpg").await;
    world.db.exec("delete from doc").await;
    let rowbound = Rowbound::new(BINARY, &world);
    let away = world.folder().join("away");
    std::fs::rename(world.media(), &away).expect("cannot move the folder away");
    assert_eq!(rowbound.run(&["collect"]).await.code, Some(3));
    std::fs::rename(&away, world.media()).expect("cannot move the folder back");

    let hidden = world.folder().join("hidden.sqlite3");
    std::fs::rename(world.db.file(), &hidden).expect("cannot move the database away");
    assert_eq!(rowbound.run(&["collect"]).await.code, Some(3));
    std::fs::rename(&hidden, world.db.file()).expect("cannot move the database back");
    rowbound.run(&["collect"]).await.expect(0);
    assert!(world.files().is_empty());
}

/// A SQLite file that is replaced under a running daemon (a restored backup) is opened anew: the rows that count are those of the file that has the
/// name, not of the one that the daemon had open.
#[tokio::test(flavor = "multi_thread")]
async fn a_restored_sqlite_file_is_opened_anew() {
    let world = attached(World::with(TestDb::sqlite(rowbound_testkit::Journal::Rollback).await).with_docs().await).await;
    world.put_doc("a.jpg").await;
    world.put_doc("b.jpg").await;
    let backup = world.folder().join("backup.sqlite3");
    std::fs::copy(world.db.file(), &backup).expect("cannot copy the database");
    let daemon = Rowbound::new(BINARY, &world).spawn(&["run", "--poll", "20ms"]);
    daemon.wait_for_line("collecting", DEADLINE).await;
    // In the file that is about to be replaced both rows go; the one that comes back has them.
    let app = world.db.app().await;
    std::fs::rename(&backup, world.db.file()).expect("cannot put the backup in place");
    {
        let mut old = app;
        let _ = old.try_exec("delete from doc").await;
        old.close().await;
    }
    let mut restored = world.db.app().await;
    restored.exec("delete from doc where file = 'b.jpg'").await;
    daemon.until(DEADLINE, "the restored file's release is collected", || async { world.files() == ["a.jpg"] }).await;
    daemon.terminate();
    daemon.wait(DEADLINE).await.expect(0);
    assert_eq!(world.files(), ["a.jpg"]);
}

/// The server stops (or is killed) and comes back after `away`, under a running daemon.
async fn server(backend: Backend, away: Duration, kill: bool) {
    let own = OwnServer::start(backend);
    let world = attached(
        World::with(TestDb::on(own.server()).await)
            .with_docs()
            .await
            .storage(|s| s.min_age(Duration::from_secs(5)).trash(Trash::Keep(Duration::from_secs(3600)))),
    )
    .await;
    let daemon = Rowbound::new(BINARY, &world).spawn(&["run", "--poll", "20ms", "--lease", "2s"]);
    daemon.wait_for_line("collecting", DEADLINE).await;
    let mut contents = Vec::new();
    for round in 0..2 {
        let writer = Writer::start(&world, &format!("r{round}"), 1 + round * 100_000, Duration::from_millis(1)).await;
        wait_until(DEADLINE, "the daemon works", || async { !world.trashed().is_empty() }).await;
        contents.push(writer.stop().await);
        // Work is under way when the server goes.
        world.db.exec(&format!("delete from doc where file like 'r{round}/1/%'")).await;
        contents.last_mut().expect("just pushed").expected.retain(|name, _| !name.starts_with(&format!("r{round}/1/")));
        world.db.close_app().await;
        if kill {
            own.kill()
        } else {
            own.stop()
        }
        let gone = Instant::now();
        if !kill {
            daemon.until(DEADLINE, "it says what it waits for", || async { daemon.said().contains("it waits for the database") }).await;
        }
        wait_until(away + DEADLINE, "the time passes", || async { gone.elapsed() >= away }).await;
        own.start_again();
        let refs = world.refs().await;
        daemon.until(DEADLINE, "everything is done after the server is back", || async { world.files() == refs }).await;
    }
    daemon.terminate();
    daemon.wait(DEADLINE).await.expect(0);
    Rowbound::new(BINARY, &world).run(&["collect", "--wait", "20s"]).await.expect(0);
    for written in &contents {
        written.assert_nothing_lost(&world);
    }
    world.assert_files_follow_rows().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_restarts_own_server() {
    server(Backend::Postgres, Duration::from_secs(1), false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_is_killed_own_server() {
    server(Backend::Postgres, Duration::ZERO, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_restarts_own_server() {
    server(Backend::Mariadb, Duration::from_secs(1), false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_restarts_own_server() {
    server(Backend::Mysql, Duration::from_secs(1), false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_is_killed_own_server() {
    server(Backend::Mariadb, Duration::ZERO, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_is_killed_own_server() {
    server(Backend::Mysql, Duration::ZERO, true).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "soak"]
async fn soak_postgres_gone_for_a_minute() {
    server(Backend::Postgres, Duration::from_secs(60), false).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "soak"]
async fn soak_mariadb_gone_for_a_minute() {
    server(Backend::Mariadb, Duration::from_secs(60), false).await;
}
