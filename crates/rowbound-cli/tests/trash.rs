//! The trash beside deletion: what cannot be erased keeps nothing else, what root leaves keeps nobody, and no moment stops a worker.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rowbound::{Trash, plan::Location};
use rowbound_testkit::{Backend, Journal, Rowbound, TestDb, World, wait_until};

const BINARY: &str = env!("CARGO_BIN_EXE_rowbound");
const DEADLINE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// `nobody`: as root nothing is forbidden.
const NOBODY: u32 = 65_534;

/// A bucket of the trash whose retention is over.
const OLD: &str = "20200101T000000Z";

/// A world with documents, attached; if we are root, by and for another user.
async fn world(backend: Backend) -> World {
    let world = World::new(backend).await.with_docs().await.storage(|s| s.trash(Trash::Keep(DAY)));
    world.put_doc("kept.jpg").await;
    rowbound(&world).run(&["attach"]).await.expect(0);
    world
}

fn is_root() -> bool {
    fs::metadata("/proc/self").expect("/proc").uid() == 0
}

/// The binary as the application's user, who owns the world from now on.
fn rowbound(world: &World) -> Rowbound {
    let rowbound = Rowbound::new(BINARY, world);
    if !is_root() {
        return rowbound;
    }
    let rowbound = rowbound.as_user(NOBODY);
    world.give_to(NOBODY);
    rowbound
}

/// The binary as root. Without root, as the only user there is: then nothing can be left behind, and the rest of the test holds.
fn as_root(world: &World) -> Rowbound {
    Rowbound::new(BINARY, world)
}

fn bucket(world: &World) -> PathBuf {
    world.media().join(".rowbound/trash").join(OLD)
}

fn put_into_trash(world: &World, name: &str) -> PathBuf {
    let path = bucket(world).join(name);
    fs::create_dir_all(path.parent().expect("a folder")).expect("cannot make a folder of the trash");
    fs::write(&path, "old").expect("cannot write into the trash");
    path
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("cannot set rights");
}

async fn release(world: &World, name: &str) {
    world.put_doc(name).await;
    if is_root() {
        world.give_to(NOBODY);
    }
    world.db.exec(&format!("delete from doc where file = '{name}'")).await;
}

/// A thousand files and more that cannot be erased lie in front of three that can.
async fn what_cannot_be_erased(backend: Backend) {
    let world = world(backend).await;
    for i in 0..1_005 {
        put_into_trash(&world, &format!("a-read-only/{i:04}.jpg"));
    }
    for i in 0..3 {
        put_into_trash(&world, &format!("b/{i}.jpg"));
    }
    let dark = put_into_trash(&world, "dark/d.jpg");
    let rowbound = rowbound(&world);
    let (read_only, dark) = (bucket(&world).join("a-read-only"), dark.parent().expect("a folder").to_owned());
    mode(&read_only, 0o500);
    mode(&dark, 0o000);
    // A folder of the application's that may not be entered: nobody can say whether its file is there.
    fs::create_dir(world.media().join("shut")).expect("cannot make a folder");
    world.db.exec("insert into doc (file) values ('shut/s.jpg')").await;
    put_into_trash(&world, "shut/s.jpg");
    release(&world, "collected.jpg").await;
    mode(&read_only, 0o500);
    mode(&dark, 0o000);
    mode(&world.media().join("shut"), 0o000);

    let collect = rowbound.run(&["collect", "--format", "json"]).await;
    assert_eq!(collect.code, Some(1), "{}{}", collect.stdout, collect.stderr);
    assert_eq!(world.files_readable(), ["kept.jpg"], "the candidate was collected: {}", collect.stdout);
    assert_eq!(left(&bucket(&world).join("b")), 0, "what can be erased is: {}{}", collect.stdout, collect.stderr);
    assert_eq!(left(&read_only), 1_005, "and what cannot stays");
    assert!(bucket(&world).join("shut/s.jpg").exists(), "a row references it");
    let why = &collect.json()["trash"]["default"];
    let (message, hint) = (why["message"].as_str().unwrap_or_default(), why["hint"].as_str().unwrap_or_default());
    assert!(message.contains("a-read-only/0000.jpg") || message.contains("dark"), "it names the first: {why}");
    assert!(hint.contains("chmod") && hint.contains(OLD), "and the command that helps: {hint}");
    let text = rowbound.run(&["collect"]).await.expect(1).stdout;
    assert!(text.contains("left in the trash of default: ") && text.contains("hint: "), "{text}");

    // The daemon goes on in the same way, and says it once.
    let daemon = rowbound.spawn(&["run", "--poll", "20ms", "--log-format", "json"]);
    daemon.until(DEADLINE, "it says what it cannot erase", || async { daemon.said().contains("could not be erased") }).await;
    for i in 0..5 {
        let name = format!("later-{i}.jpg");
        release_beside(&world, &name).await;
        daemon.until(DEADLINE, "deletion goes on", || async { !world.media().join(&name).exists() }).await;
    }
    daemon.terminate();
    let said = daemon.wait(DEADLINE).await.expect(0);
    assert_eq!(said.stderr.matches("could not be erased").count(), 1, "said once:\n{}", said.stderr);

    // `status` sees it too, because the files are older than any retention.
    let status = rowbound.run(&["status"]).await;
    assert_eq!(status.code.filter(|code| *code != 0), status.code, "{}", status.stdout);
    assert!(status.stdout.contains("problem ") && status.stdout.contains(OLD), "{}", status.stdout);

    for path in [&read_only, &dark, &world.media().join("shut")] {
        mode(path, 0o700);
    }
    let collect = rowbound.run(&["collect", "--format", "json"]).await.expect(0);
    assert_eq!(collect.json()["trash"], serde_json::Value::Null);
    assert_eq!((left(&read_only), bucket(&world).join("dark").exists()), (0, false), "the hint, followed, ends it");
    // The file that a row references has lain there for too long to come back by itself: it is kept and reported until a person decides.
    assert!(bucket(&world).join("shut/s.jpg").exists());
    assert!(rowbound.run(&["status"]).await.expect(1).stdout.contains("rowbound restore shut/s.jpg"));
    rowbound.run(&["restore", "shut/s.jpg"]).await.expect(0);
    rowbound.run(&["status"]).await.expect(0);
    assert!(!bucket(&world).exists() && world.media().join("shut/s.jpg").exists());
}

/// Puts a file and a row and deletes the row, without touching the rights of anything else.
async fn release_beside(world: &World, name: &str) {
    world.put_doc(name).await;
    if is_root() {
        std::os::unix::fs::chown(world.media().join(name), Some(NOBODY), Some(NOBODY)).expect("cannot give a file away");
    }
    world.db.exec(&format!("delete from doc where file = '{name}'")).await;
}

fn left(folder: &Path) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}

trait Readable {
    fn files_readable(&self) -> Vec<String>;
}

impl Readable for World {
    /// The files in the media folder itself, whoever may enter those beneath.
    fn files_readable(&self) -> Vec<String> {
        let entries = fs::read_dir(self.media()).expect("the media folder").map(|e| e.expect("an entry"));
        let files = entries.filter(|e| e.file_type().is_ok_and(|t| t.is_file()));
        let mut names: Vec<String> = files.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_erased_keeps_nothing_else_on_sqlite() {
    what_cannot_be_erased(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_erased_keeps_nothing_else_on_postgres() {
    what_cannot_be_erased(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_erased_keeps_nothing_else_on_mariadb() {
    what_cannot_be_erased(Backend::Mariadb).await;
}

/// An erasure that does not end, as on a storage that hangs, delays no deletion.
#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_that_hangs_delays_no_deletion() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let world = World::new(backend).await.with_docs().await;
        for name in ["a.jpg", "b.jpg", "c.jpg"] {
            world.put_doc(name).await;
        }
        Rowbound::new(BINARY, &world).run(&["attach"]).await.expect(0);
        let (held, place) = Rowbound::new(BINARY, &world).held_at("erasure-noted");
        let daemon = held.spawn(&["run", "--poll", "20ms", "--lease", "10m"]);
        daemon.wait_for_line("collecting", DEADLINE).await;
        world.db.exec("delete from doc where file = 'a.jpg'").await;
        place.reached(&daemon, DEADLINE).await;
        world.db.exec("delete from doc where file = 'b.jpg'").await;
        daemon.until(DEADLINE, "deletion goes on", || async { world.files() == ["c.jpg"] }).await;
        assert!(place.is_reached() && world.trashed().len() == 2, "{backend}: nothing was erased yet: {:?}", world.trashed());
        place.let_go();
        daemon.until(DEADLINE, "both are erased", || async { world.trashed().is_empty() }).await;
        daemon.terminate();
        daemon.wait(DEADLINE).await.expect(0);
    }
}

/// What one `sudo rowbound collect` makes belongs to the application's user, who goes on with it.
#[tokio::test(flavor = "multi_thread")]
async fn root_leaves_nothing_behind_that_the_applications_user_cannot_use() {
    for journal in [Journal::Wal, Journal::Rollback] {
        let world = World::with(TestDb::sqlite(journal).await).with_docs().await.storage(|s| s.trash(Trash::Keep(DAY)));
        world.put_doc("2026/11/root.jpg").await;
        let app = rowbound(&world);
        let owner = fs::metadata(world.media()).expect("the media folder").uid();
        let root = as_root(&world);
        root.run(&["attach"]).await.expect(0);
        world.db.exec("delete from doc").await;
        root.run(&["collect"]).await.expect(0);
        root.run(&["status"]).await.expect(0);
        let (report, state) = (world.folder().join("report.html"), world.folder().join("a/state"));
        let sweep = root.run(&["sweep", "--report", report.to_str().expect("UTF-8"), "--state", state.to_str().expect("UTF-8")]).await;
        assert!(report.exists() && state.exists(), "{}{}", sweep.stdout, sweep.stderr);
        let database = PathBuf::from(world.db.url().trim_start_matches("sqlite:"));
        assert!(database.with_file_name(format!("{}-rowbound.lock", name_of(&database))).exists());
        for folder in [database.parent().expect("a folder"), world.folder()] {
            // The test itself has written rowbound.toml anew.
            for path in everything_below(folder).into_iter().filter(|path| !path.ends_with(rowbound::plan::FILE)) {
                let meta = fs::symlink_metadata(&path).expect("an entry");
                assert_eq!(meta.uid(), owner, "{} belongs to another", path.display());
            }
        }

        // The application's daemon starts, deletes into the same bucket, and restores what root took.
        let daemon = app.spawn(&["run", "--poll", "20ms"]);
        daemon.wait_for_line("collecting", DEADLINE).await;
        fs::create_dir_all(world.media().join("2026/11")).expect("cannot make a folder");
        release(&world, "2026/11/app.jpg").await;
        daemon.until(DEADLINE, "it deletes", || async { !world.media().join("2026/11/app.jpg").exists() }).await;
        daemon.terminate();
        daemon.wait(DEADLINE).await.expect(0);
        app.run(&["restore", "2026/11/root.jpg"]).await.expect(0);
        assert!(world.media().join("2026/11/root.jpg").exists());
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().expect("a name").to_string_lossy().into_owned()
}

fn everything_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(everything_below(&path));
        }
        found.push(path);
    }
    found
}

/// What an earlier version left as root: the lock file, and folders of the trash with rights for root alone.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_version_left_as_root_stops_nobody_and_is_given_back() {
    let world = world(Backend::Sqlite).await;
    let database = PathBuf::from(world.db.url().trim_start_matches("sqlite:"));
    let lock = database.with_file_name(format!("{}-rowbound.lock", name_of(&database)));
    let _ = fs::remove_file(&lock);
    fs::write(&lock, "").expect("cannot write the lock file");
    let app = rowbound(&world);
    // Every bucket in which a file of now could go, and one that has expired.
    let trash = world.media().join(".rowbound/trash");
    let hours = |n: i64| {
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()).expect("seconds");
        jiff::Timestamp::from_second((now.div_euclid(3600) + n) * 3600).expect("a moment").strftime("%Y%m%dT%H%M%SZ").to_string()
    };
    put_into_trash(&world, "d/old.jpg");
    let mut roots = vec![trash.join(OLD)];
    for n in 0..3 {
        roots.push(trash.join(hours(n)));
        fs::create_dir_all(roots[n as usize + 1].join("d")).expect("cannot make a bucket");
    }
    let give = |uid: u32| {
        for path in roots.iter().flat_map(|bucket| [bucket.join("d"), bucket.clone()]).filter(|p| p.exists()) {
            mode(&path, 0o700);
            if is_root() {
                std::os::unix::fs::chown(&path, Some(uid), Some(uid)).expect("cannot give a folder away");
            }
        }
        if is_root() {
            std::os::unix::fs::chown(&lock, Some(uid), Some(uid)).expect("cannot give a file away");
        }
    };
    for name in ["a.jpg", "d/b.jpg"] {
        release(&world, name).await;
    }
    if is_root() {
        std::os::unix::fs::chown(&trash, Some(NOBODY), Some(NOBODY)).expect("cannot give a folder away");
    }
    give(0);

    let collect = app.run(&["collect", "--format", "json"]).await;
    assert_eq!(world.files(), ["kept.jpg"], "{}{}", collect.stdout, collect.stderr);
    if is_root() {
        assert_eq!(collect.code, Some(1), "{}{}", collect.stdout, collect.stderr);
        let why = &collect.json()["trash"]["default"];
        let hint = why["hint"].as_str().unwrap_or_default();
        assert!(hint.contains("sudo chown -R 65534 ") && hint.contains(OLD), "{why}");
        // Root, run once more, gives it back and erases what is due.
        as_root(&world).run(&["collect"]).await.expect(0);
        for path in everything_below(&trash).into_iter().chain([lock.clone()]) {
            let meta = fs::symlink_metadata(&path).expect("an entry");
            assert_eq!(meta.uid(), NOBODY, "{}", path.display());
        }
    }
    assert!(!trash.join(OLD).exists());
    app.run(&["restore", "d/b.jpg"]).await.expect(0);
    app.run(&["collect"]).await.expect(0);
}

/// A lock file that may not even be read is an error with the command that helps.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_file_of_another_user_is_an_error_that_helps() {
    let world = world(Backend::Sqlite).await;
    let database = PathBuf::from(world.db.url().trim_start_matches("sqlite:"));
    let lock = database.with_file_name(format!("{}-rowbound.lock", name_of(&database)));
    fs::write(&lock, "").expect("cannot write the lock file");
    let app = rowbound(&world);
    if is_root() {
        std::os::unix::fs::chown(&lock, Some(0), Some(0)).expect("cannot give a file away");
    }
    mode(&lock, 0o000);
    let collect = app.run(&["collect"]).await.expect(2);
    assert!(collect.stderr.contains("-rowbound.lock") && collect.stderr.contains("sudo chown "), "{}", collect.stderr);
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
        world.grown().await;
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
        assert!(min_age.is_zero() || explain.stdout.contains("its time lies ahead, at the end of the calendar"), "{}", explain.stdout);
        let sweep = rowbound.run(&["sweep", "--max-share", "1", "--allow-no-references", "--format", "json"]).await;
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
    world.grown().await;
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
