//! An upload and its row, on every database: what comes of it when the application rolls back, dawdles, panics or is killed.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use rand::Rng;
use rowbound::{Collector, Trash, collect::Settings, crash::UPLOAD_POINTS, database::Dialect, queue::Announce};
use rowbound_files::{Field, File, FileName, Files, Media, Upload};
use rowbound_testkit::{App, Backend, World, wait_until};
use tokio::sync::watch;

const DEADLINE: Duration = Duration::from_secs(60);

/// How long an upload waits for its row: long enough to begin a transaction, short enough to wait for.
const TTL: Duration = Duration::from_secs(2);

fn doc() -> Field<File> {
    Field::file("doc.file").upload_to("d")
}

async fn world(backend: Backend) -> World {
    world_for(backend, TTL).await
}

async fn world_for(backend: Backend, ttl: Duration) -> World {
    World::new(backend).await.with_docs().await.storage(|s| s.min_age(ttl).stage_ttl(ttl).trash(Trash::Off))
}

async fn open(world: &World) -> (Media, Files<File>) {
    let opened = Media::builder(world.db.url()).storage(world.storage.clone()).field(&doc()).attach().await;
    let media = opened.unwrap_or_else(|e| panic!("{}", e.full()));
    let files = media.files(&doc()).expect("its field");
    (media, files)
}

async fn save(files: &Files<File>, name: &str) -> File {
    files.save(Upload::bytes(name, name.to_owned())).await.unwrap_or_else(|e| panic!("{name}: {}", e.full()))
}

fn insert(value: &File) -> String {
    format!("insert into doc (file) values ('{value}')")
}

async fn drain(collector: &Collector) -> rowbound::Result<()> {
    let (_stop, stopped) = watch::channel(false);
    collector.drain(&stopped).await.map(drop)
}

async fn left(collector: &Collector) -> u64 {
    collector.metrics().await.expect("figures").storages.values().map(|s| s.backlog).sum()
}

/// Collects until nothing waits.
async fn collected(media: &Media) {
    let collector = media.collector(Settings { patience: Duration::from_millis(100), ..Settings::default() }).await.expect("a collector");
    wait_until(DEADLINE, "nothing waits", async || {
        drain(&collector).await.unwrap_or_else(|e| panic!("{}", e.full()));
        left(&collector).await == 0
    })
    .await;
}

/// Shrine: promotion after the commit only; nothing stays of what is not promoted.
/// CarrierWave: a failed validation keeps the old file; rollback of create and update.
async fn a_rollback(backend: Backend) {
    let world = world(backend).await;
    let (media, files) = open(&world).await;
    let (kept, lost) = (save(&files, "kept").await, save(&files, "lost").await);
    let mut app = world.db.app().await;
    for (value, end) in [(&kept, "commit"), (&lost, "rollback")] {
        app.begin().await;
        app.exec(&insert(value)).await;
        app.exec(end).await;
    }
    assert_eq!(world.files(), ["d/kept", "d/lost"], "before its time nothing goes");
    collected(&media).await;
    assert_eq!(world.files(), ["d/kept"]);
    world.assert_files_follow_rows().await;
    // Replaced in a transaction that rolls back: the old one stays, the new one goes; then the other way round.
    for end in ["rollback", "commit"] {
        let new = save(&files, "new").await;
        app.begin().await;
        app.exec(&format!("update doc set file = '{new}'")).await;
        app.exec(end).await;
        collected(&media).await;
        // The first one is held for a moment still: the second gets a name of its own.
        assert_eq!(world.files(), [if end == "commit" { new.to_string() } else { "d/kept".to_owned() }]);
        world.assert_files_follow_rows().await;
    }
}

/// A transaction that is open when the candidate comes due counts.
async fn a_late_commit(backend: Backend) {
    let world = world(backend).await;
    let (media, files) = open(&world).await;
    let value = save(&files, "late").await;
    let mut app = world.db.app().await;
    app.begin().await;
    app.exec(&insert(&value)).await;
    let settings = Settings { patience: Duration::from_millis(100), ..Settings::default() };
    let collector = media.collector(settings).await.expect("a collector");
    let due = Instant::now() + TTL * 2;
    if world.db.dialect() == Dialect::Sqlite {
        // The lock that it holds is the barrier: the collector waits for it.
        let draining = tokio::spawn(async move {
            wait_until(DEADLINE, "the candidate is decided", async || {
                let _ = drain(&collector).await; // busy as long as the application writes
                left(&collector).await == 0
            })
            .await;
        });
        wait_until(DEADLINE, "it is due", async || Instant::now() > due).await;
        assert_eq!(world.files(), ["d/late"]);
        app.commit().await;
        draining.await.unwrap();
    } else {
        wait_until(DEADLINE, "it waits for the transaction", async || {
            drain(&collector).await.unwrap_or_else(|e| panic!("{}", e.full()));
            let waits = media.database().waiting(&[value.as_str().to_owned()]).await.unwrap();
            Instant::now() > due && waits.iter().any(|w| w.note.as_ref().is_some_and(|n| n.contains("open transactions")))
        })
        .await;
        assert_eq!(world.files(), ["d/late"]);
        app.commit().await;
        drop(collector);
        collected(&media).await;
    }
    assert_eq!(world.files(), ["d/late"]);
    world.assert_files_follow_rows().await;
}

/// A name that was released before, and whose candidate comes due just after it was used again.
/// CarrierWave: a new file of the same name gets another one, the old is removed; dynamic paths.
async fn a_name_used_again(backend: Backend) {
    let world = world_for(backend, 4 * TTL).await;
    let (media, files) = open(&world).await;
    let old = save(&files, "again").await;
    world.db.exec(&insert(&old)).await;
    collected(&media).await;
    // Somebody removes the file by hand, and the row: its name is free, and its candidate waits.
    std::fs::remove_file(world.media().join(old.as_str())).unwrap();
    world.db.exec("delete from doc").await;
    let new = save(&files, "again").await;
    assert_eq!(old, new);
    let collector = media.collector(Settings::default()).await.expect("a collector");
    // What was released is due at once.
    drain(&collector).await.unwrap_or_else(|e| panic!("{}", e.full()));
    assert_eq!(world.files(), ["d/again"], "the new file is not what was let go of");
    world.db.exec(&insert(&new)).await;
    drop(collector);
    collected(&media).await;
    world.assert_files_follow_rows().await;
    assert_eq!(world.files(), ["d/again"]);
}

/// A candidate whose file never came is no error, and no reason to take a later one.
/// unused-media: minimum age.
async fn an_upload_that_never_came(backend: Backend) {
    let world = world_for(backend, 4 * TTL).await;
    let (media, files) = open(&world).await;
    let name = FileName::parse("d/never").unwrap();
    let item = Announce { storage: "default".into(), name, event: "stage", wait: Duration::ZERO };
    media.database().announce(&[item]).await.unwrap();
    let value = save(&files, "never").await;
    let collector = media.collector(Settings::default()).await.expect("a collector");
    drain(&collector).await.unwrap_or_else(|e| panic!("{}", e.full()));
    assert_eq!(world.files(), ["d/never"], "the earlier announcement took the later file");
    world.db.exec(&insert(&value)).await;
    drop(collector);
    collected(&media).await;
    world.assert_files_follow_rows().await;
}

/// What the process does that [`killed`] kills: uploads for ever, each ended in another way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "is run by the tests that kill it"]
async fn child() {
    let Ok(database) = std::env::var("UPLOADS_DATABASE") else { return };
    let media = std::env::var("UPLOADS_MEDIA").expect("a folder");
    let storage = rowbound::StoragePlan::folder("default", media).grace(Duration::ZERO).min_age(TTL).stage_ttl(TTL).trash(Trash::Off);
    let media = Media::builder(&database).storage(storage).field(&doc()).open().await.unwrap_or_else(|e| panic!("{}", e.full()));
    let files = media.files(&doc()).unwrap();
    let mut app = App::at(&database).await;
    loop {
        let size = rand::rng().random_range(1..300_000);
        let value = match files.save(Upload::bytes("photo.jpg", vec![b'x'; size])).await {
            Ok(value) => value,
            // SQLite's one lock, held by the test's collector.
            Err(e) if e.status() == 503 => continue,
            Err(e) => panic!("{}", e.full()),
        };
        println!("saved {value}");
        match rand::rng().random_range(0..5) {
            0 => {
                app.begin().await;
                app.exec(&insert(&value)).await;
                app.rollback().await;
            }
            1 => {
                // The request's task panics.
                let panicked = tokio::spawn(async move { panic!("after {value}, before its row") }).await;
                assert!(panicked.is_err());
            }
            2 => drop(value), // a form that nobody sends
            3 if rand::rng().random_bool(0.5) => {
                app.exec("delete from doc where id in (select id from (select min(id) as id from doc) as d)").await
            }
            _ => app.exec(&insert(&value)).await,
        }
        println!("ended");
    }
}

/// Kills uploading processes at every point and at random moments, and looks what is left when their time is over.
async fn killed(backend: Backend, kills: usize) {
    let world = world(backend).await;
    let (media, _files) = open(&world).await;
    for round in 0..kills {
        let mut command = tokio::process::Command::new(std::env::current_exe().expect("this test"));
        command
            .args(["--exact", "child", "--ignored", "--nocapture"])
            .env("UPLOADS_DATABASE", world.db.url())
            .env("UPLOADS_MEDIA", world.media());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null()).kill_on_drop(true);
        let random = round % 4 == 3;
        if !random {
            command.env("ROWBOUND_CRASH_AT", format!("{}:{}", UPLOAD_POINTS[round % 4], 1 + rand::rng().random_range(0..4)));
        }
        let mut child = command.spawn().expect("this test runs again");
        if random {
            use tokio::io::{AsyncBufReadExt, BufReader};
            let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
            let wanted = if round % 8 == 3 { "saved" } else { "ended" };
            while let Some(line) = lines.next_line().await.expect("its output") {
                if line.contains(wanted) {
                    break;
                }
            }
            child.start_kill().expect("it runs");
        }
        let ended = tokio::time::timeout(DEADLINE, child.wait_with_output()).await.expect("it passes the point").expect("it ends");
        let signal = std::os::unix::process::ExitStatusExt::signal(&ended.status);
        assert_eq!(signal, Some(9), "{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    }
    collected(&media).await;
    world.assert_files_follow_rows().await;
    // Nothing of what was never placed is left either: neither a name nor a file without one that the folder knows of.
    let unnamed: Vec<_> = world.trashed().into_iter().filter(|path| !path.starts_with("trash/")).collect();
    assert_eq!(unnamed, [""; 0]);
    println!("{backend}: {kills} kills, {} files stayed with their rows", world.files().len());
}

macro_rules! on {
    ($($module:ident $backend:ident),*) => { $(
        mod $module {
            use super::*;

            macro_rules! one {
                ($name:ident $work:ident) => {
                    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                    async fn $name() {
                        $work(Backend::$backend).await;
                    }
                };
            }

            one!(a_rollback_leaves_nothing a_rollback);
            one!(a_transaction_that_is_open_when_it_comes_due_keeps_its_file a_late_commit);
            one!(a_name_that_was_released_before_is_safe_when_used_again a_name_used_again);
            one!(an_upload_that_never_came_takes_no_later_one an_upload_that_never_came);

            /// Shrine, Active Storage: a row that is gone while it is processed.
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn killed_between_stage_bytes_and_row_nothing_is_left_or_lost() {
                killed(Backend::$backend, 15).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[ignore = "soak"]
            async fn soak_uploads_killed() {
                killed(Backend::$backend, 500).await;
            }
        }
    )* };
}

on!(sqlite Sqlite, postgres Postgres, mariadb Mariadb, mysql Mysql);
