//! One candidate that cannot be collected keeps no other one, and says why. Kinds of poison lie among many good candidates: all good ones go, and each poison has an
//! error or an end of its own.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    time::{Duration, Instant},
};

use rowbound::{Binding, Trash};
use rowbound_testkit::{Backend, Rowbound, World, wait_until};

const BINARY: &str = env!("CARGO_BIN_EXE_rowbound");
const DEADLINE: Duration = Duration::from_secs(60);
const DAY: Trash = Trash::Keep(Duration::from_secs(86_400));

/// `nobody`: root may read and write everything.
const NOBODY: u32 = 65_534;

/// What is expected of a poison.
#[derive(Debug, Clone, Copy)]
enum Ends {
    /// Its candidate stays, and its note holds this.
    Waits(&'static str),
    /// The ledger has it with one of these outcomes.
    As(&'static [&'static str]),
}
use Ends::{As, Waits};

/// Values of rows, and what becomes of each.
fn poisons() -> Vec<(String, Ends)> {
    let long = |n: usize| "n".repeat(n);
    let mut all: Vec<(String, Ends)> = [
        // The database refuses to write it into the ledger.
        ("poison/refused-by-the-ledger.jpg", Waits("no room for this one")),
        ("poison/refused-by-the-ledger-too.jpg", Waits("no room for this one")),
        ("poison/in-a-folder-that-nobody-may-enter/a.jpg", Waits("poison/in-a-folder-that-nobody-may-enter")),
        ("poison/in-a-folder-that-nobody-may-change/a.jpg", Waits("poison/in-a-folder-that-nobody-may-change")),
        ("poison/a-folder", As(&["refused"])),
        ("poison/a-pipe", As(&["refused"])),
        ("poison/a-socket", As(&["refused"])),
        ("poison/a-link-to-a-file-elsewhere", As(&["refused"])),
        ("poison/a-link-to-itself", As(&["refused"])),
        ("poison/a-folder-that-is-a-link-to-itself/a.jpg", As(&["refused", "missing"])),
        ("poison/a-file/below-a-file.jpg", As(&["refused", "missing"])),
        ("../outside.jpg", As(&["refused"])),
        ("/etc/passwd", As(&["refused", "foreign"])),
        ("poison//empty-segment.jpg", As(&["refused"])),
        ("poison/./dot.jpg", As(&["refused"])),
        (".rowbound/storage.json", As(&["refused"])),
        ("https://example.org/a.jpg", As(&["foreign"])),
        ("poison/from-the-year-2300.jpg", As(&["trashed"])),
        ("poison/line\nbreak \u{1b}[31m\u{202e}and more.jpg", As(&["trashed"])),
        (" ", As(&["refused", "missing"])),
    ]
    .map(|(value, ends)| (value.to_owned(), ends))
    .into();
    all.push((format!("poison/{}.jpg", long(300)), As(&["refused", "missing"])));
    all.push((format!("poison/{}.jpg", vec![long(200); 30].join("/")), As(&["refused", "missing"])));
    all.push((format!("data:image/png;base64,{}", long(960_000)), As(&["foreign"])));
    all
}

/// Makes what lies under the names.
fn plant(world: &World) {
    let media = world.media();
    for name in [
        "poison/refused-by-the-ledger.jpg",
        "poison/refused-by-the-ledger-too.jpg",
        "poison/in-a-folder-that-nobody-may-enter/a.jpg",
        "poison/in-a-folder-that-nobody-may-change/a.jpg",
        "poison/a-folder/a.jpg",
        "poison/a-file",
        "poison/from-the-year-2300.jpg",
        "poison/line\nbreak \u{1b}[31m\u{202e}and more.jpg",
    ] {
        world.put_file(name, b"poison");
    }
    let at = |name: &str| media.join("poison").join(name);
    rustix::fs::mknodat(rustix::fs::CWD, at("a-pipe"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).expect("a pipe");
    drop(std::os::unix::net::UnixListener::bind(at("a-socket")).expect("a socket"));
    symlink("/etc/passwd", at("a-link-to-a-file-elsewhere")).expect("a link");
    symlink("a-link-to-itself", at("a-link-to-itself")).expect("a link");
    symlink("a-folder-that-is-a-link-to-itself", at("a-folder-that-is-a-link-to-itself")).expect("a link");
    let future = std::time::UNIX_EPOCH + Duration::from_secs(330 * 365 * 86_400);
    fs::File::options().write(true).open(at("from-the-year-2300.jpg")).and_then(|f| f.set_modified(future)).expect("a file");
    world.give_to(NOBODY);
    let closed = |name: &str, mode| fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).expect("a folder");
    closed("in-a-folder-that-nobody-may-enter", 0o000);
    closed("in-a-folder-that-nobody-may-change", 0o555);
}

async fn insert(world: &World, values: &[String]) {
    for some in values.chunks(500) {
        let rows: Vec<_> = some.iter().map(|v| format!("({})", world.db.backend().literal(v))).collect();
        world.db.exec(&format!("insert into item (file) values {}", rows.join(", "))).await;
    }
}

/// `good` candidates with the poisons among them, all released at once.
async fn poison_among(backend: Backend, good: usize, trash: Trash) {
    let world = World::new(backend).await.storage(|s| s.trash(trash).prune_folders(false));
    let text = if matches!(backend, Backend::Mariadb | Backend::Mysql) { "longtext" } else { "text" };
    world.db.exec(&format!("create table item (id {}, file {text})", backend.id_column())).await;
    let world = world.bind(Binding::name("item.file", "default").expect("a column"));
    let poisons = poisons();
    let mut values: Vec<String> = (0..good).map(|n| format!("good/{}/{n:05}.jpg", n % 100)).collect();
    values.iter().for_each(|name| world.put_file(name, b"good"));
    let apart = good / poisons.len();
    for (n, (value, _)) in poisons.iter().enumerate() {
        values.insert(n * (apart + 1) + apart / 2, value.clone());
    }
    // Two side by side as well: what is halved has both in one half for long.
    insert(&world, &values).await;
    plant(&world);
    let rowbound = Rowbound::new(BINARY, &world).as_user(NOBODY);
    world.give_to(NOBODY);
    fs::set_permissions(world.media().join("poison/in-a-folder-that-nobody-may-enter"), fs::Permissions::from_mode(0o000))
        .expect("a folder");
    rowbound.run(&["attach"]).await.expect(0);
    world.ledger_refuses("poison/refused-by%").await;
    world.db.exec("delete from item").await;

    let daemon = rowbound.spawn(&["run", "--poll", "20ms"]);
    let began = Instant::now();
    let left = || {
        fs::read_dir(world.media().join("good"))
            .into_iter()
            .flatten()
            .flatten()
            .flat_map(|d| fs::read_dir(d.path()).into_iter().flatten())
            .count()
    };
    daemon.until(DEADLINE, "all good files are gone", || async { left() == 0 }).await;
    let took = began.elapsed();
    println!("{backend:?}, {trash:?}: {good} good files among {} poisons were gone after {took:.1?}", poisons.len());

    let (candidates, ledger) = (world.own_table("candidate"), world.own_table("ledger"));
    for (value, ends) in &poisons {
        let name: String = value.chars().take(100).collect();
        // Servers count characters of a text and bytes of a blob: in what is compared they are the same.
        let begin: String = value.chars().take_while(char::is_ascii).take(80).collect();
        let begins = |column: &str| format!("substr({column}, 1, {}) = {}", begin.len(), backend.literal(&begin));
        match ends {
            Waits(why) => {
                let sql = format!("select note from {candidates} where {}", begins("value"));
                let said = || async { world.db.query_strings(&sql).await };
                wait_until(DEADLINE, &format!("{name:?} says {why:?}"), || async {
                    said().await.iter().flatten().any(|note| note.contains(why))
                })
                .await;
            }
            As(outcomes) => {
                let sql = format!("select outcome from {ledger} where {}", begins("name"));
                let said = || async { world.db.query_strings(&sql).await };
                wait_until(DEADLINE, &format!("{name:?} ends as {outcomes:?}"), || async {
                    said().await.iter().flatten().any(|o| outcomes.contains(&o.as_str()))
                })
                .await;
            }
        }
    }
    let settled = async || world.count(&format!("{ledger} where outcome = 'trashed' and name like 'good/%'")).await;
    wait_until(DEADLINE, "each good file is in the ledger", async || settled().await >= good as u64).await;
    assert_eq!(settled().await, good as u64, "each good file is in the ledger once");
    let status = rowbound.run(&["status"]).await;
    assert_eq!(status.code, Some(1), "{}", status.stdout);
    assert!(status.stdout.contains("4 failing"), "{}", status.stdout);
    assert_eq!(fs::read(world.media().join("poison/a-folder/a.jpg")).expect("untouched"), b"poison");
    assert!(fs::symlink_metadata("/etc/passwd").is_ok());
    daemon.terminate();
    daemon.wait(DEADLINE).await.expect(0);
}

/// A fault of ours in the middle of a batch ends no worker: the candidate that is alone carries it as its error and is tried again, many are halved and go.
async fn a_panic(backend: Backend) {
    for count in [1, 100] {
        let world = World::new(backend).await.with_docs().await.storage(|s| s.trash(DAY));
        for n in 0..count {
            world.put_doc(&format!("{n}.jpg")).await;
        }
        let rowbound = Rowbound::new(BINARY, &world);
        rowbound.run(&["attach"]).await.expect(0);
        world.db.exec("delete from doc").await;
        let panics = rowbound.clone().env("ROWBOUND_PANIC_AT", "looked");
        let said = panics.run(&["collect", "--workers", "1"]).await.expect(i32::from(count == 1));
        assert!(said.stderr.contains("panicked"), "{backend}: it is said where: {}", said.stderr);
        if count == 1 {
            assert!(said.stdout.contains("a panic: a test wants one at looked"), "{backend}: {}", said.stdout);
            let status = rowbound.run(&["status"]).await.expect(1).stdout;
            assert!(
                status.contains("1 failing") && status.contains("a panic: ") && status.contains("failed 1 times"),
                "{backend}: {status}"
            );
            rowbound.run(&["collect", "--retry-now"]).await.expect(0);
        }
        assert!(world.files().is_empty(), "{backend}: {:?}", world.files());
    }
}

/// What kills its worker has no end that could say so: a try counts from its claim. On SQLite no claim is written.
async fn kills_its_worker(backend: Backend) {
    let world = World::new(backend).await.with_docs().await.storage(|s| s.trash(DAY));
    world.put_doc("a.jpg").await;
    let rowbound = Rowbound::new(BINARY, &world);
    rowbound.run(&["attach"]).await.expect(0);
    world.db.exec("delete from doc").await;
    for n in 1..=2 {
        let run = ["run", "--poll", "20ms", "--lease", "1s"];
        let killed = rowbound.clone().env("ROWBOUND_CRASH_AT", "claimed").spawn(&run).wait(DEADLINE).await;
        assert_eq!(killed.signal, Some(9), "{backend}: {}", killed.stderr);
        let attempts = format!("select cast(attempts as char(20)) from {}", world.own_table("candidate"));
        let attempts = world.db.query_strings(&attempts).await.remove(0).expect("a number");
        assert_eq!(attempts.trim(), n.to_string(), "{backend}");
    }
    let status = rowbound.run(&["status"]).await.expect(1).stdout;
    assert!(status.starts_with("state     attention: 1 name could not be collected, and is tried again (storage: default)\n"), "{status}");
    assert!(status.contains("1 failing"), "{status}");
    rowbound.run(&["collect", "--wait", "60s"]).await.expect(0);
    assert!(world.files().is_empty());
}

/// On SQLite a claim counts in the rows only where a worker may have died: what a batch then gives back because too much of it failed was not tried.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_back_on_sqlite_was_not_tried() {
    let world = World::new(Backend::Sqlite).await.with_docs().await.storage(|s| s.trash(DAY));
    for n in 0..100 {
        world.put_doc(&format!("{n}.jpg")).await;
    }
    let rowbound = Rowbound::new(BINARY, &world);
    rowbound.run(&["attach"]).await.expect(0);
    world.db.exec("delete from doc").await;
    world.ledger_refuses("%").await;
    for _ in 0..2 {
        rowbound.run(&["collect", "--retry-now", "--workers", "1"]).await.expect(1);
    }
    let tried = world.count(&format!("{} where attempts > 0", world.own_table("candidate"))).await;
    assert!((1..=40).contains(&tried), "{tried} of 100 count as tried, and few were alone when the ledger refused them");
    world.ledger_takes_all().await;
    rowbound.run(&["collect", "--retry-now"]).await.expect(0);
    assert!(world.files().is_empty(), "{:?}", world.files());
}

/// Whether a process of ours has ended, and was not waited for yet.
fn is_dead(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_none_or(|(_, after)| after.trim_start().starts_with('Z'))
}

/// A candidate among `good` others that ends every worker which looks at it.
async fn one_that_ends_its_worker(backend: Backend, good: usize) {
    let world = World::new(backend).await.with_docs().await.storage(|s| s.trash(DAY));
    let names: Vec<String> = (0..=good).map(|n| if n == good / 2 { "ends-it.jpg".into() } else { format!("good/{n:05}.jpg") }).collect();
    names.iter().for_each(|name| world.put_file(name, b"file"));
    for some in names.chunks(500) {
        let rows: Vec<_> = some.iter().map(|v| format!("({})", backend.literal(v))).collect();
        world.db.exec(&format!("insert into doc (file) values {}", rows.join(", "))).await;
    }
    let rowbound = Rowbound::new(BINARY, &world);
    rowbound.run(&["attach"]).await.expect(0);
    world.db.exec("delete from doc").await;
    let deadly = rowbound.clone().env("ROWBOUND_CRASH_OF", "ends-it.jpg");
    let note = format!("select note from {} where note like 'its worker came to no end the last%'", world.own_table("candidate"));
    let left = || world.files().iter().filter(|f| f.starts_with("good/")).count();
    let is_apart = || async { left() == 0 && !world.db.query_strings(&note).await.is_empty() };
    let mut deaths = 0;
    while !is_apart().await {
        let daemon = deadly.spawn(&["run", "--lease", "1s", "--poll", "20ms"]);
        let pid = daemon.id();
        daemon.until(DEADLINE, "it has died, or has set apart what ends it", || async { is_dead(pid) || is_apart().await }).await;
        deaths += u32::from(is_dead(pid));
        daemon.kill();
        drop(daemon.wait(DEADLINE).await);
        assert!(deaths <= 12, "{} are left", left());
    }
    println!("{backend:?}: {good} good files were gone after {deaths} deaths");
    assert_eq!(world.files(), ["ends-it.jpg"]);
    let status = rowbound.run(&["status"]).await;
    assert_eq!(status.code, Some(1), "{}", status.stdout);
    assert!(status.stdout.contains("its worker came to no end the last"), "{}", status.stdout);
    // With the fault mended, whoever asks does not wait.
    wait_until(DEADLINE, "the last one is gone", async || {
        rowbound.run(&["collect", "--retry-now"]).await;
        world.files().is_empty()
    })
    .await;
}

macro_rules! on_each {
    ($($module:ident $backend:ident),*) => {$(
        mod $module {
            use super::*;

            #[tokio::test(flavor = "multi_thread")]
            async fn each_poison_is_alone_and_all_others_are_collected() {
                poison_among(Backend::$backend, 1_000, DAY).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn a_panic_counts_like_an_error() {
                a_panic(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn one_that_ends_its_worker_is_set_apart_and_all_others_are_collected() {
                one_that_ends_its_worker(Backend::$backend, 1_000).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            #[ignore = "soak"]
            async fn soak_twenty_poisons_among_ten_thousand() {
                poison_among(Backend::$backend, 10_000, DAY).await;
            }
        }
    )*};
}

on_each!(sqlite Sqlite, postgres Postgres, mariadb Mariadb, mysql Mysql);

#[tokio::test(flavor = "multi_thread")]
async fn what_kills_its_worker_is_counted_on_postgres() {
    kills_its_worker(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kills_its_worker_is_counted_on_mariadb() {
    kills_its_worker(Backend::Mariadb).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kills_its_worker_is_counted_on_mysql() {
    kills_its_worker(Backend::Mysql).await;
}
