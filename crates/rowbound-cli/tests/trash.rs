//! The trash beside deletion: no moment and no length of time stops a worker.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use rowbound::{Trash, plan::Location};
use rowbound_testkit::{Backend, Rowbound, World, wait_until};

const BINARY: &str = env!("CARGO_BIN_EXE_rowbound");
const DEADLINE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// A bucket of the trash whose retention is over.
const OLD: &str = "20200101T000000Z";

fn bucket(world: &World) -> PathBuf {
    world.media().join(".rowbound/trash").join(OLD)
}

fn put_into_trash(world: &World, name: &str) -> PathBuf {
    let path = bucket(world).join(name);
    fs::create_dir_all(path.parent().expect("a folder")).expect("cannot make a folder of the trash");
    fs::write(&path, "old").expect("cannot write into the trash");
    path
}

/// A folder whose file system holds times beyond the year 9999, as tmpfs does.
fn timeless() -> tempfile::TempDir {
    let folder = tempfile::tempdir_in("/dev/shm").expect("/dev/shm");
    let probe = folder.path().join("probe");
    fs::write(&probe, "").expect("cannot write");
    stamp(&probe, 300_000_000_000);
    assert_eq!(fs::metadata(&probe).expect("the file").mtime(), 300_000_000_000, "/dev/shm is no tmpfs: this test needs one");
    fs::remove_file(&probe).expect("cannot remove");
    folder
}

fn stamp(path: &Path, seconds: i64) {
    let touched = std::process::Command::new("touch").arg("-d").arg(format!("@{seconds}")).arg(path).status();
    assert!(touched.expect("touch").success(), "touch -d @{seconds}");
}

#[tokio::test(flavor = "multi_thread")]
async fn times_beyond_the_calendar_stop_no_worker() {
    let place = timeless();
    for (min_age, trash) in [(Duration::ZERO, Trash::Off), (DAY / 24, Trash::Keep(DAY))] {
        let media = place.path().join(format!("{}", min_age.as_secs()));
        fs::create_dir(&media).expect("cannot make a folder");
        let world = World::new(Backend::Sqlite).await.with_docs().await.storage(|s| {
            let mut s = s.min_age(min_age).trash(trash);
            s.location = Location::Folder(media.clone());
            s
        });
        let rowbound = Rowbound::new(BINARY, &world);
        rowbound.run(&["attach"]).await.expect(0);
        for (name, seconds) in [("future.jpg", 300_000_000_000), ("past.jpg", -400_000_000_000), ("plain.jpg", 1_000_000_000)] {
            fs::write(media.join(name), name).expect("cannot write");
            stamp(&media.join(name), seconds);
            world.db.exec(&format!("insert into doc (file) values ('{name}')")).await;
        }
        fs::write(media.join("orphan.jpg"), "").expect("cannot write");
        stamp(&media.join("orphan.jpg"), 300_000_000_000);
        world.db.exec("delete from doc").await;

        let daemon = rowbound.spawn(&["run", "--poll", "20ms"]);
        daemon
            .until(DEADLINE, "the others are collected", || async { !media.join("plain.jpg").exists() && !media.join("past.jpg").exists() })
            .await;
        daemon.terminate();
        let said = daemon.wait(DEADLINE).await.expect(0);
        assert!(!said.stderr.contains("panicked"), "{}", said.stderr);
        // What has no age yet waits for it, and says so.
        assert_eq!(media.join("future.jpg").exists(), !min_age.is_zero());
        let collect = rowbound.run(&["collect"]).await.expect(if min_age.is_zero() { 0 } else { 1 });
        assert!(!collect.stderr.contains("panicked"), "{}", collect.stderr);
        let explain = rowbound.run(&["explain", "future.jpg"]).await;
        assert!(min_age.is_zero() || explain.stdout.contains("newer than its release"), "{}", explain.stdout);
        let sweep = rowbound.run(&["sweep", "--format", "json"]).await;
        assert!(!sweep.stderr.contains("panicked") && sweep.code.is_some_and(|code| code < 2), "{:?} {}", sweep.code, sweep.stderr);
    }
}

/// Every length of time of the configuration and the command line may be longer than the calendar.
async fn endless(backend: Backend) {
    const ENDLESS: &str = "5000000d";
    let length = rowbound::parse_duration(ENDLESS).expect("a length of time");
    let world = World::new(backend).await.with_docs().await;
    let world = world.storage(|s| s.trash(Trash::Keep(length)).min_age(length).stage_ttl(length));
    let rowbound = Rowbound::new(BINARY, &world);
    rowbound.run(&["attach"]).await.expect(0);
    put_into_trash(&world, "old.jpg");
    world.put_doc("a.jpg").await;
    fs::File::open(world.media().join("a.jpg")).expect("the file").set_modified(UNIX_EPOCH).expect("cannot set the time");
    world.db.exec("delete from doc").await;
    let collect = rowbound.run(&["collect", "--lease", ENDLESS, "--patience", ENDLESS, "--wait", ENDLESS]).await.expect(0);
    assert!(!collect.stderr.contains("panicked"), "{}", collect.stderr);
    assert_eq!(world.files(), Vec::<String>::new());
    assert_eq!(world.trashed().len(), 2, "nothing expires: {:?}", world.trashed());
    for command in [&["status"][..], &["history", "--since", ENDLESS], &["sweep", "--min-age", ENDLESS], &["explain", "a.jpg"]] {
        let done = rowbound.run(command).await.expect(0);
        assert!(!done.stderr.contains("panicked"), "{command:?}: {}", done.stderr);
    }
    let text = rowbound.run(&["history", "--since", ENDLESS]).await.expect(0).stdout;
    assert!(text.contains("a.jpg"), "{text}");

    // A grace that never ends: the name waits, and every command says so.
    let world = world.storage(|s| s.grace(length));
    let rowbound = Rowbound::new(BINARY, &world);
    world.put_doc("b.jpg").await;
    world.db.exec("delete from doc").await;
    for command in [&["collect"][..], &["status"], &["explain", "b.jpg"], &["doctor"]] {
        let done = rowbound.run(command).await;
        assert!(
            !done.stderr.contains("panicked") && done.code.is_some_and(|code| code < 3),
            "{command:?}: {:?} {}",
            done.code,
            done.stderr
        );
    }
    let daemon = rowbound.spawn(&["run", "--poll", ENDLESS, "--lease", ENDLESS]);
    daemon.wait_for_line("collecting", DEADLINE).await;
    let history = || async { rowbound.run(&["status"]).await.code == Some(0) };
    wait_until(DEADLINE, "status answers beside it", history).await;
    daemon.terminate();
    let said = daemon.wait(DEADLINE).await.expect(0);
    assert!(!said.stderr.contains("panicked"), "{}", said.stderr);
    assert_eq!(world.files(), ["b.jpg"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn lengths_of_time_without_end_work_on_sqlite() {
    endless(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lengths_of_time_without_end_work_on_postgres() {
    endless(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lengths_of_time_without_end_work_on_mariadb() {
    endless(Backend::Mariadb).await;
}
