//! Nobody works, and somebody is told: a worker that was killed, suspended with its machine, stopped, or never started, and a `collect` whose timer is gone. What was a
//! minute ago is an hour ago when the rows that hold it say so.

use std::{fs, time::Duration};

use rowbound_testkit::{Backend, Output, Rowbound, Running, World, wait_until};

const BINARY: &str = env!("CARGO_BIN_EXE_rowbound");
const DEADLINE: Duration = Duration::from_secs(60);

/// What was released, or is due, was so `seconds` earlier.
async fn due_longer(world: &World, seconds: i64) {
    let by = match world.db.backend() {
        Backend::Sqlite => format!("{seconds}000"),
        Backend::Postgres => format!("interval '{seconds} seconds'"),
        _ => format!("interval {seconds} second"),
    };
    let candidate = world.own_table("candidate");
    world.db.exec(&format!("update {candidate} set released_at = released_at - {by}, due_at = due_at - {by}")).await;
}

/// Everything that the database and the lock file tell happened `seconds` earlier.
async fn later(world: &World, seconds: i64) {
    due_longer(world, seconds).await;
    let by = match world.db.backend() {
        Backend::Sqlite => {
            let lock = format!("{}-rowbound.lock", world.db.file().display());
            if let Ok(text) = fs::read_to_string(&lock)
                && let Some((seen, rest)) = text.strip_prefix("rowbound ").and_then(|rest| rest.split_once(' '))
            {
                let seen: i64 = seen.parse().expect("a moment");
                fs::write(&lock, format!("rowbound {} {rest}", seen - seconds)).expect("the lock file");
            }
            return;
        }
        Backend::Postgres => format!("interval '{seconds} seconds'"),
        _ => format!("interval {seconds} second"),
    };
    world.db.exec(&format!("update {} set seen = seen - {by}", world.own_table("worker"))).await;
}

async fn attached(backend: Backend) -> World {
    let world = World::new(backend).await.with_docs().await;
    for name in ["a.jpg", "b.jpg", "c.jpg"] {
        world.put_doc(name).await;
    }
    Rowbound::new(BINARY, &world).run(&["attach"]).await.expect(0);
    world
}

async fn status(world: &World) -> Output {
    Rowbound::new(BINARY, world).run(&["status"]).await
}

/// The exit status, and the first line.
async fn says(world: &World) -> (i32, String) {
    let said = status(world).await;
    (said.code.expect("an exit status"), said.stdout.lines().next().unwrap_or_default().to_owned())
}

/// What is expected after a minute, 20 minutes and 200 minutes.
async fn is_missed(world: &World, whom: &str) {
    for (more, told) in [(65, ["1 min "; 2]), (19 * 60, ["20 min ", "21 min "]), (180 * 60, ["3 h 20 min", "3 h 21 min"])] {
        later(world, more).await;
        let (code, line) = says(world).await;
        println!("{:?}: {code}: {line}", world.db.backend());
        assert_eq!(code, 1, "{line}");
        assert!(line.starts_with("state     attention: ") && line.contains("and nobody works") && line.contains(whom), "{line}");
        assert!(told.iter().any(|t| line.contains(t)), "{line}");
    }
}

async fn works(world: &World) -> Running {
    let daemon = Rowbound::new(BINARY, world).spawn(&["run", "--poll", "20ms"]);
    daemon.wait_for_line("collecting", DEADLINE).await;
    daemon.until(DEADLINE, "the worker writes a heartbeat", || async { status(world).await.stdout.contains("\nworker    ") }).await;
    assert_eq!(says(world).await, (0, "state     well".to_owned()));
    daemon
}

async fn never_started(backend: Backend) {
    let world = attached(backend).await;
    world.db.exec("delete from doc where file = 'a.jpg'").await;
    assert_eq!(says(&world).await, (0, "state     well".to_owned()), "it was just released");
    is_missed(&world, "nobody has since `attach`").await;
    let json = Rowbound::new(BINARY, &world).run(&["status", "--format", "json"]).await.json();
    assert_eq!(json["problems"][0]["kind"], "overdue");
    assert!(json["verdict"].as_str().is_some_and(|v| v.contains("nobody works")), "{json}");
}

async fn killed(backend: Backend) {
    let world = attached(backend).await;
    let daemon = works(&world).await;
    daemon.kill();
    daemon.wait(DEADLINE).await;
    world.db.exec("delete from doc where file = 'a.jpg'").await;
    is_missed(&world, "and has not ended as it should").await;
    // Somebody starts it again.
    let daemon = works_after(&world).await;
    daemon.terminate();
    daemon.wait(DEADLINE).await.expect(0);
}

/// Starts it where something waits already.
async fn works_after(world: &World) -> Running {
    let daemon = Rowbound::new(BINARY, world).spawn(&["run", "--poll", "20ms"]);
    daemon.until(DEADLINE, "it collects", || async { !world.is_there("a.jpg") }).await;
    daemon.until(DEADLINE, "all is well again", || async { says(world).await == (0, "state     well".to_owned()) }).await;
    daemon
}

async fn suspended(backend: Backend) {
    let world = attached(backend).await;
    let daemon = works(&world).await;
    daemon.pause();
    world.db.exec("delete from doc where file = 'a.jpg'").await;
    is_missed(&world, "and has not ended as it should").await;
    daemon.resume();
    daemon.until(DEADLINE, "it goes on where it was", || async { !world.is_there("a.jpg") }).await;
    daemon.until(DEADLINE, "all is well again", || async { says(&world).await == (0, "state     well".to_owned()) }).await;
    daemon.terminate();
    daemon.wait(DEADLINE).await.expect(0);
    assert!(world.is_there("b.jpg"));
}

async fn stopped(backend: Backend) {
    let world = attached(backend).await;
    let daemon = works(&world).await;
    daemon.terminate();
    daemon.wait(DEADLINE).await.expect(0);
    world.db.exec("delete from doc where file = 'a.jpg'").await;
    is_missed(&world, "was stopped").await;
}

async fn by_a_timer(backend: Backend) {
    let world = attached(backend).await;
    let collect = || async { Rowbound::new(BINARY, &world).run(&["collect", "--wait", "20s"]).await.expect(0) };
    collect().await;
    later(&world, 3_600).await;
    collect().await;
    world.db.exec("delete from doc where file = 'a.jpg'").await;
    later(&world, 3_000).await;
    assert_eq!(says(&world).await, (0, "state     well".to_owned()), "the next one is to come");
    later(&world, 6_000).await;
    let (code, line) = says(&world).await;
    assert!(code == 1 && line.contains("and came every 1 h"), "{code} {line}");
    collect().await;
    assert_eq!(says(&world).await, (0, "state     well".to_owned()));
}

/// Somebody works, and something waits all the same.
async fn overdue(backend: Backend) {
    let world = attached(backend).await;
    let daemon = works(&world).await;
    daemon.pause();
    world.db.exec("delete from doc where file = 'a.jpg'").await;
    due_longer(&world, 16 * 60).await;
    let (code, line) = says(&world).await;
    assert!(code == 1 && line.contains("1 name is due, the first for 16 min") && line.contains("although somebody works"), "{code} {line}");
    daemon.resume();
    daemon.terminate();
    daemon.wait(DEADLINE).await.expect(0);
}

/// Every batch fails, and somebody works all the same.
async fn failing(backend: Backend) {
    let world = attached(backend).await;
    let daemon = works(&world).await;
    world.ledger_refuses("%").await;
    world.db.exec("delete from doc where file = 'a.jpg'").await;
    let line = "state     attention: 1 name could not be collected, and is tried again (storage: default)";
    daemon.until(DEADLINE, "it is said", || async { says(&world).await == (1, line.to_owned()) }).await;
    world.ledger_takes_all().await;
    daemon.until(DEADLINE, "all is well again", || async { says(&world).await == (0, "state     well".to_owned()) }).await;
    assert!(!world.is_there("a.jpg"));
    daemon.terminate();
    daemon.wait(DEADLINE).await.expect(0);
}

/// The lock file of SQLite holds the heartbeat, and is the worker's lock still: it is not the database that is written.
#[tokio::test(flavor = "multi_thread")]
async fn a_sign_of_life_is_no_write_to_a_sqlite_database() {
    let world = attached(Backend::Sqlite).await;
    let daemon = works(&world).await;
    let version = || async { world.db.query_strings("select cast(data_version as text) from pragma_data_version").await };
    let before = version().await;
    let lock = format!("{}-rowbound.lock", world.db.file().display());
    let first = fs::read_to_string(&lock).expect("the lock file");
    wait_until(DEADLINE, "the next heartbeat", || async { fs::read_to_string(&lock).expect("the lock file") != first }).await;
    assert_eq!(version().await, before);
    let second = Rowbound::new(BINARY, &world).run(&["collect"]).await;
    assert_eq!(second.code, Some(1), "one worker: {}", second.stderr);
    daemon.terminate();
    daemon.wait(DEADLINE).await.expect(0);
}

/// A file that holds no heartbeat of ours is not overwritten: a lock file may be a link to something else.
#[tokio::test(flavor = "multi_thread")]
async fn another_s_file_under_the_lock_s_name_is_left_alone() {
    let world = attached(Backend::Sqlite).await;
    let (lock, other) = (format!("{}-rowbound.lock", world.db.file().display()), world.folder().join("other"));
    fs::remove_file(&lock).ok();
    fs::write(&other, "somebody's").expect("a file");
    fs::hard_link(&other, &lock).expect("a link");
    Rowbound::new(BINARY, &world).run(&["collect"]).await.expect(0);
    assert_eq!(fs::read_to_string(&other).expect("the file"), "somebody's");
}

macro_rules! on_each {
    ($($module:ident $backend:ident),*) => {$(
        mod $module {
            use super::*;

            #[tokio::test(flavor = "multi_thread")]
            async fn a_worker_that_was_never_started_is_missed() {
                never_started(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn a_worker_that_was_killed_is_missed() {
                killed(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn a_worker_that_was_suspended_is_missed_and_goes_on() {
                suspended(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn a_worker_that_was_stopped_is_missed() {
                stopped(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn a_collect_that_a_timer_starts_has_the_timer_s_interval() {
                by_a_timer(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn what_waits_beside_a_worker_is_overdue_after_a_quarter_of_an_hour() {
                overdue(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn what_fails_beside_a_worker_is_said() {
                failing(Backend::$backend).await;
            }
        }
    )*};
}

on_each!(sqlite Sqlite, postgres Postgres, mariadb Mariadb, mysql Mysql);
