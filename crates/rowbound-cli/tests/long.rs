//! What only time shows, with the real binary and its defaults beside an application: rows that reference a file again long after it was collected, readers that
//! overlap for minutes, a dump, and what the re-checks cost. Each test prints its figures. The minutes are what is tested here, so nothing shortens them; most
//! tests have a short form that runs with all others.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    ops::Deref,
    path::Path,
    time::{Duration, Instant},
};

use rowbound::StoragePlan;
use rowbound_testkit::{App, Backend, Output, OwnServer, Rowbound, Running, TestDb, World, wait_until};

const BINARY: &str = env!("CARGO_BIN_EXE_rowbound");
const DEADLINE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A re-check comes every minute, and some seconds are the machine's.
const RECHECKED: Duration = Duration::from_secs(70);

const OLD: &str = "the first file of this name";
const NEW: &str = "another upload under this name";

/// A world, and its database's server if that is its own.
#[derive(Debug)]
struct Alone {
    world: World,
    /// Dropped last.
    _server: Option<OwnServer>,
}

impl Deref for Alone {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

/// A world with documents and derivatives, and the settings that a configuration without any has. On MariaDB the barriers wait for the transactions of all of a
/// server's databases: no test may wait for another one's dump.
async fn world(backend: Backend) -> Alone {
    let server = (backend == Backend::Mariadb).then(|| OwnServer::start(backend));
    let world = match &server {
        Some(own) => World::with(TestDb::on(own.server()).await),
        None => World::new(backend).await,
    };
    let defaults = StoragePlan::folder("default", "/");
    let mut world = world.with_docs().await.storage(|s| s.grace(defaults.grace).min_age(defaults.min_age).trash(defaults.trash));
    let binding = world.bindings.remove(0).derivatives(["imagekit"]);
    world.bindings.push(binding);
    rowbound(&world).run(&["attach"]).await.expect(0);
    Alone { world, _server: server }
}

fn rowbound(world: &World) -> Rowbound {
    Rowbound::new(BINARY, world)
}

/// Files that the ledger says went to the trash.
async fn settled(world: &World) -> u64 {
    world.count(&format!("{} where outcome = 'trashed'", world.own_table("ledger"))).await
}

/// Files that came back from the trash, settled or not.
async fn moved_back(world: &World) -> u64 {
    world.count(&format!("{} where outcome = 'restored' or note like '%came back%'", world.own_table("ledger"))).await
}

/// What waits to be collected.
async fn pending(world: &World) -> u64 {
    world.count(&format!("{} where event <> 'return'", world.own_table("candidate"))).await
}

async fn insert(world: &World, name: &str) {
    world.db.exec(&format!("insert into doc (file) values ('{name}')")).await;
}

async fn stop(daemon: Running) {
    daemon.terminate();
    daemon.wait(DEADLINE).await.expect(0);
}

async fn at(moment: Instant) {
    tokio::time::sleep_until(moment.into()).await;
}

// ---- a row that is inserted again ---------------------------------------------------------------------------------------------------

fn derivative(name: &str) -> String {
    format!("CACHE/images/{}/1.jpg", name.trim_end_matches(".jpg"))
}

/// A file of two hours ago, what was made from it, and its row.
async fn put_old(world: &World, name: &str) {
    for name in [name.to_owned(), derivative(name)] {
        world.put_file(&name, OLD.as_bytes());
        world.age(&name, 120 * MINUTE);
    }
    insert(world, name).await;
}

/// Another upload under the name of a file that was collected: new bytes, then a new row.
async fn upload_again(world: &World, name: &str) {
    let draft = world.folder().join(format!("draft-{:016x}", rand::random::<u64>()));
    fs::write(&draft, NEW).expect("cannot write");
    fs::rename(&draft, world.media().join(name)).expect("cannot rename");
    insert(world, name).await;
}

async fn release(world: &World, names: &[String]) {
    for name in names {
        world.db.exec(&format!("delete from doc where file = '{name}'")).await;
    }
}

/// Whether the ledger says of each name, and of what was made from it, that it went to the trash.
async fn all_settled(world: &World, names: &[String]) -> bool {
    for name in names {
        if world.outcomes(name).await.is_empty() || world.outcomes(&derivative(name)).await.is_empty() {
            return false;
        }
    }
    true
}

/// What `status` says while a row has no file: its exit status and its problems, and how many files it counts.
fn of_status(status: &Output) -> (Option<i32>, u64, String) {
    let json = status.json();
    let problems = json["problems"].as_array().expect("problems");
    let said: Vec<&str> = problems.iter().filter_map(|p| p["message"].as_str()).collect();
    (status.code, json["storages"][0]["stranded"].as_u64().expect("a number"), said.join(" / "))
}

/// Inserts a row for a file in the trash beside the daemon, and waits for the file.
async fn comes_back(world: &World, daemon: &Running, name: &str, after: Duration) {
    insert(world, name).await;
    let inserted = Instant::now();
    let status = rowbound(world).run(&["status", "--format", "json"]).await;
    // It may have been looked at in that very second.
    let during = (!world.is_there(name)).then(|| of_status(&status));
    let back = || async { world.is_there(name) };
    daemon.until(RECHECKED, &format!("{name} did not come back"), back).await;
    let took = inserted.elapsed();
    let with = world.is_there(&derivative(name));
    let backend = world.db.backend();
    println!("{backend}: {name}: row inserted {} s after the file was collected", after.as_secs());
    println!(
        "{backend}: {name}: back after {:.1} s, what was made from it: {}",
        took.as_secs_f64(),
        if with { "back" } else { "NOT BACK" }
    );
    println!("{backend}: {name}: status said meanwhile: {during:?}");
    assert!(with, "what was made from {name} did not come back with it");
    assert_eq!(world.holds(name), OLD);
    if let Some((code, stranded, problems)) = during {
        assert_eq!((code, stranded), (Some(1), 1), "{problems}");
        assert!(problems.contains(name), "{problems}");
    }
    let healed = || async { rowbound(world).run(&["status"]).await.code == Some(0) };
    wait_until(DEADLINE, "status is content again", healed).await;
}

/// Rows are inserted again so long after their files were collected. Beside each, another upload takes the name of a file that was collected at the same time.
async fn inserted_again(backend: Backend, moments: &[Duration], late: Option<Duration>) {
    let world = world(backend).await;
    let (name, other) = (|n: usize| format!("row-{n}.jpg"), |n: usize| format!("upload-{n}.jpg"));
    let (late_row, late_upload) = ("late-row.jpg".to_owned(), "late-upload.jpg".to_owned());
    let lot: Vec<String> = (0..moments.len()).flat_map(|n| [name(n), other(n)]).collect();
    let lates = [late_row.clone(), late_upload.clone()];
    for name in lot.iter().chain(if late.is_some() { &lates[..] } else { &[] }) {
        put_old(&world, name).await;
    }
    world.grown().await;
    let collected_early = Instant::now();
    if let Some(late) = late {
        // What has lain in the trash for longer is checked every half hour. So that the test sees that check soon after the row, the file is collected by
        // `collect` some minutes before `run` begins.
        release(&world, &lates).await;
        rowbound(&world).run(&["collect", "--wait", "30s"]).await.expect(0);
        assert!(all_settled(&world, &lates).await);
        at(collected_early + late - Duration::from_secs(29 * 60 + 20)).await;
    }
    let daemon = rowbound(&world).spawn(&["run"]);
    daemon.wait_for_line("collecting", DEADLINE).await;
    let began = Instant::now();
    release(&world, &lot).await;
    daemon.until(DEADLINE, "they are not settled", || async { all_settled(&world, &lot).await }).await;
    let collected = Instant::now();
    assert!(world.files().is_empty(), "{:?}", world.files());

    for (n, after) in moments.iter().enumerate() {
        at(collected + *after).await;
        upload_again(&world, &other(n)).await;
        comes_back(&world, &daemon, &name(n), *after).await;
    }
    if let Some(late) = late {
        at(collected_early + late).await;
        upload_again(&world, &late_upload).await;
        insert(&world, &late_row).await;
        let inserted = Instant::now();
        let before = of_status(&rowbound(&world).run(&["status", "--format", "json"]).await);
        let told = || async { world.outcomes(&late_row).await.last().is_some_and(|last| last == "dangling") };
        daemon.until(3 * MINUTE, "it is not reported", told).await;
        println!("{backend}: {late_row}: row inserted {} s after the file was collected, status at once: {before:?}", late.as_secs());
        println!(
            "{backend}: {late_row}: reported {:.1} s later, {:.0} s after `run` began",
            inserted.elapsed().as_secs_f64(),
            began.elapsed().as_secs_f64()
        );
        let status = rowbound(&world).run(&["status", "--format", "json"]).await;
        let (code, stranded, problems) = of_status(&status);
        println!("{backend}: {late_row}: status says: {:?}", (code, stranded, &problems));
        assert_eq!((code, stranded), (Some(1), 1), "{problems}");
        assert!(problems.contains(&late_row), "{problems}");
        assert!(!world.is_there(&late_row) && world.trashed().iter().any(|place| place.ends_with(&late_row)), "it is kept in the trash");
        assert_eq!(world.outcomes(&late_row).await, ["trashed", "dangling"]);
        rowbound(&world).run(&["restore", &late_row]).await.expect(0);
        rowbound(&world).run(&["status"]).await.expect(0);
        assert_eq!(world.holds(&late_row), OLD);
    }
    if late.is_some() {
        // One more re-check: nothing else comes back.
        let last = Instant::now();
        daemon.until(2 * RECHECKED, "time passes", || async { last.elapsed() > RECHECKED }).await;
    }
    stop(daemon).await;
    let uploads = (0..moments.len()).map(other).chain(late.map(|_| late_upload));
    for upload in uploads {
        assert_eq!(world.holds(&upload), NEW, "{upload} was replaced by the old file of its name");
        assert!(!world.is_there(&derivative(&upload)), "{upload} got what was made from the old file of its name");
        assert_eq!(world.outcomes(&upload).await, ["trashed"]);
        println!("{backend}: {upload}: another upload of the name, still its own bytes");
    }
    let mut files = world.files();
    files.retain(|name| !name.starts_with("CACHE/"));
    assert_eq!(files, world.refs().await, "files and rows agree");
}

// ---- others' transactions -----------------------------------------------------------------------------------------------------------

/// What `status` said, asked again and again.
#[derive(Debug, Default)]
struct Said {
    codes: BTreeMap<Option<i32>, usize>,
    problems: BTreeSet<String>,
    notes: BTreeSet<String>,
    most_waiting: u64,
    oldest_seconds: u64,
    most_open: usize,
}

impl Said {
    async fn ask(&mut self, world: &World) {
        let status = rowbound(world).run(&["status", "--format", "json"]).await;
        let json = status.json();
        *self.codes.entry(status.code).or_default() += 1;
        let texts = |of: &serde_json::Value, field: &str| -> Vec<String> {
            let all = of.as_array().cloned().unwrap_or_default();
            all.iter().filter_map(|one| one[field].as_str().map(without_numbers)).collect()
        };
        self.problems.extend(texts(&json["problems"], "message"));
        let backlog = &json["storages"][0]["backlog"];
        self.notes.extend(texts(&backlog["sample"], "note"));
        self.most_waiting = self.most_waiting.max(backlog["total"].as_u64().unwrap_or(0));
        self.oldest_seconds = self.oldest_seconds.max(backlog["oldest_seconds"].as_u64().unwrap_or(0));
        self.most_open = self.most_open.max(json["open_transactions"].as_array().map_or(0, Vec::len));
    }
}

/// Messages that differ in process numbers and times are one.
fn without_numbers(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_ascii_digit() { '#' } else { c }).collect();
    let mut short = String::new();
    text.chars().for_each(|c| {
        if !(c == '#' && short.ends_with('#')) {
            short.push(c)
        }
    });
    short
}

/// Inserts a row with its file every 200 ms, and deletes each five seconds later.
async fn application(world: &World, until: Instant) -> u64 {
    const AGE: u64 = 25;
    let mut app = world.db.app().await;
    let name = |n: u64| format!("{:03}/{n:06}.jpg", n / 1_000);
    let mut n = 0;
    while Instant::now() < until {
        world.put_file(&name(n), b"x");
        app.exec(&format!("insert into doc (file) values ('{}')", name(n))).await;
        if n >= AGE {
            app.exec(&format!("delete from doc where file = '{}'", name(n - AGE))).await;
        }
        n += 1;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    n.saturating_sub(AGE)
}

/// Begins a transaction that reads one state of the database until it ends.
async fn begin_reading(world: &World, app: &mut App) {
    match world.db.backend() {
        Backend::Postgres => app.exec("begin isolation level repeatable read, read only").await,
        _ => app.exec("set session transaction isolation level repeatable read; start transaction with consistent snapshot").await,
    }
    app.query_strings("select count(*) from doc where id = 0").await;
}

/// Asks `status` so often, and counts every `tick` what was settled since the last.
async fn watch(world: &World, begin: Instant, ticks: u32, tick: Duration) -> (Vec<u64>, Said) {
    let (mut each, mut said, mut before) = (Vec::new(), Said::default(), settled(world).await);
    for n in 1..=ticks {
        at(begin + tick * n - tick / 2).await;
        said.ask(world).await;
        at(begin + tick * n).await;
        let now = settled(world).await;
        each.push(now - before);
        before = now;
    }
    (each, said)
}

/// Everything that was deleted is settled in the end, nothing ever came back, and files and rows agree.
async fn all_is_settled(world: &World, daemon: Running, deleted: u64) -> Duration {
    let ended = Instant::now();
    daemon.until(2 * MINUTE, "it does not finish", || async { pending(world).await == 0 }).await;
    let took = ended.elapsed();
    stop(daemon).await;
    assert_eq!(settled(world).await, deleted);
    assert_eq!(moved_back(world).await, 0, "nothing is referenced again: nothing may come back");
    world.assert_files_follow_rows().await;
    took
}

/// Two sessions read for `long` each, by turns: one or two transactions are open at any time.
async fn overlapping_readers(backend: Backend, long: Duration, ticks: u32, tick: Duration) {
    let world = world(backend).await;
    let begin = Instant::now();
    let end = begin + tick * ticks;
    let reader = async |n: u32| {
        let mut app = world.db.app().await;
        at(begin + long / 2 * n).await;
        let mut transactions = 0;
        while Instant::now() < end {
            begin_reading(&world, &mut app).await;
            tokio::time::sleep(long).await;
            app.commit().await;
            transactions += 1;
        }
        transactions
    };
    let daemon = rowbound(&world).spawn(&["run"]);
    let (a, b, deleted, (settled, said)) = tokio::join!(reader(0), reader(1), application(&world, end), watch(&world, begin, ticks, tick));
    println!("{backend}: {} transactions of {} s, one or two open at any time", a + b, long.as_secs());
    println!("{backend}: {deleted} deleted, settled in each {} s: {settled:?}", tick.as_secs());
    println!("{backend}: {said:#?}");
    let rest = all_is_settled(&world, daemon, deleted).await;
    println!("{backend}: the rest was settled {:.1} s after the end; moved back: 0", rest.as_secs_f64());
    assert_eq!(said.codes.keys().collect::<Vec<_>>(), [&Some(0)], "{said:?}");
    // The first wait for the grace and both barriers.
    assert!(settled.iter().skip(settled.len() / 2).sum::<u64>() > 0, "deletion stands still: {settled:?}");
}

/// A dump: one transaction that reads all of the table, slowly.
async fn dump(world: &World, from: Instant, until: Instant) -> (u64, u64, u64) {
    let mut app = world.db.app().await;
    at(from).await;
    let postgres = world.db.backend() == Backend::Postgres;
    begin_reading(world, &mut app).await;
    let in_trash = |world: &World| world.trashed().len() as u64;
    let before = in_trash(world);
    if postgres {
        app.exec("declare dump no scroll cursor for select file from kept order by id").await;
    }
    let (mut read, mut rows) = (0, 0);
    while Instant::now() < until {
        let page = match postgres {
            true => "fetch 20 from dump".to_owned(),
            false => format!("select file from kept where id > {read} order by id limit 20"),
        };
        let page = app.query_strings(&page).await.len() as u64;
        read += 20;
        rows += page;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let after = in_trash(world);
    app.commit().await;
    (before, after, rows)
}

/// Deletions before, during and after a dump.
async fn beside_a_dump(backend: Backend, [before, during, after]: [u32; 3], tick: Duration) {
    let world = world(backend).await;
    world.db.exec(&format!("create table kept (id {}, file varchar(255))", backend.id_column())).await;
    let rows: Vec<String> = (0..10_000).map(|n| format!("('kept/{n}')")).collect();
    for rows in rows.chunks(2_000) {
        world.db.exec(&format!("insert into kept (file) values {}", rows.join(", "))).await;
    }
    let begin = Instant::now();
    let (from, until, end) = (begin + tick * before, begin + tick * (before + during), begin + tick * (before + during + after));
    let daemon = rowbound(&world).spawn(&["run"]);
    let text = async {
        at(until - 2 * tick).await;
        (rowbound(&world).run(&["status"]).await, pending(&world).await)
    };
    let ((trash_before, trash_after, rows), deleted, (settled, said), (text, waiting)) =
        tokio::join!(dump(&world, from, until), application(&world, end), watch(&world, begin, before + during + after, tick), text);
    let (first, rest) = settled.split_at(before as usize);
    let (second, third) = rest.split_at(during as usize);
    println!("{backend}: a dump of {} s, {rows} rows; {deleted} deleted in all", (tick * during).as_secs());
    println!("{backend}: settled in each {} s before the dump: {first:?}, during: {second:?}, after: {third:?}", tick.as_secs());
    println!("{backend}: files in the trash at its begin: {trash_before}, at its end: {trash_after}; waiting then: {waiting}");
    println!("{backend}: {said:#?}");
    println!("{backend}: status during the dump, exit {:?}:\n{}", text.code, text.stdout);
    let rest = all_is_settled(&world, daemon, deleted).await;
    println!("{backend}: the rest was settled {:.1} s after the end; moved back: 0", rest.as_secs_f64());
    assert!(text.stdout.lines().any(|line| line.starts_with("open ")), "status lists the dump: {}", text.stdout);
}

// ---- what re-checks cost ------------------------------------------------------------------------------------------------------------

/// What is known of the trash, as the keeper stores it.
async fn upkeep(world: &World) -> serde_json::Value {
    let record = world.db.query_strings(&format!("select record from {}", world.own_table("upkeep"))).await;
    record.into_iter().flatten().next().map_or(serde_json::Value::Null, |text| serde_json::from_str(&text).expect("JSON"))
}

/// `files` are deleted at once, and as many rows stay; then `checks` re-checks are looked at.
async fn cost_of_rechecks(backend: Backend, files: usize, index: bool, checks: usize) {
    let world = world(backend).await;
    let what = format!("{backend}, {}", if index { "with an index" } else { "without an index" });
    if index {
        world.db.exec("create index doc_file on doc (file)").await;
    }
    let name = |n: usize| format!("{:03}/{n:06}.jpg", n / 1_000);
    for n in 0..files {
        put_tiny(&world.media(), &name(n));
    }
    let rows: Vec<String> = (0..files).flat_map(|n| [format!("('{}')", name(n)), format!("('stays/{n:06}.jpg')")]).collect();
    for rows in rows.chunks(2_000) {
        world.db.exec(&format!("insert into doc (file) values {}", rows.join(", "))).await;
    }
    // Files are older than their release by more than clocks differ.
    tokio::time::sleep(3 * SECOND).await;
    let deleted = Instant::now();
    for n in (0..files).step_by(1_000) {
        let folder = format!("{:03}/%", n / 1_000);
        world.db.exec(&format!("delete from doc where file like '{folder}'")).await;
    }
    let took = deleted.elapsed();
    let daemon = rowbound(&world).spawn(&["run"]);
    daemon.until(15 * MINUTE, "they are not moved", || async { world.count(&world.own_table("candidate")).await == 0 }).await;
    println!(
        "{what}: {files} rows deleted in {:.1} s, all moved and settled after {:.1} s",
        took.as_secs_f64(),
        deleted.elapsed().as_secs_f64()
    );
    assert_eq!(settled(&world).await, files as u64);

    let mut last: Option<jiff::Timestamp> = None;
    let (mut seen, end) = (Vec::new(), Instant::now() + 15 * MINUTE);
    while seen.len() < checks + 1 {
        assert!(Instant::now() < end, "{what}: only {} re-checks", seen.len());
        let record = upkeep(&world).await;
        let checked: Option<jiff::Timestamp> = record["checked"].as_str().map(|at| at.parse().expect("a moment"));
        if let Some(at) = checked.filter(|at| Some(*at) != last) {
            let whole = jiff::Timestamp::now().duration_since(at).as_secs_f64();
            let since = last.map(|last| at.duration_since(last).as_secs_f64());
            seen.push((record["took_quick"].as_u64().expect("milliseconds"), since, whole));
            last = Some(at);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The first that was seen may have ended before all was moved.
    for (took, since, whole) in &seen[1..] {
        let since = since.expect("an earlier one");
        println!(
            "{what}: a re-check: took {took} ms, {since:.1} s after the one before: {:.2} % of the time; with reading the ledger and the record {whole:.2} s",
            *took as f64 / 10.0 / since
        );
    }
    stop(daemon).await;
    assert_eq!(moved_back(&world).await, 0);
    for pair in seen.windows(2) {
        let (took, since) = (pair[0].0 as f64 / 1_000.0, pair[1].1.expect("an earlier one"));
        assert!(since >= took * 19.0, "{what}: {took} s, and the next one after {since} s: more than a twentieth of the time");
    }
}

fn put_tiny(media: &Path, name: &str) {
    let path = media.join(name);
    if fs::write(&path, "x").is_err() {
        fs::create_dir_all(path.parent().expect("a folder")).expect("cannot make a folder");
        fs::write(&path, "x").expect("cannot write");
    }
}

macro_rules! on {
    ($($module:ident $backend:ident),*) => { $(
        mod $module {
            use super::*;

            #[tokio::test(flavor = "multi_thread")]
            async fn a_row_inserted_again_has_its_file_within_70_seconds() {
                inserted_again(Backend::$backend, &[10 * SECOND], None).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            #[ignore = "soak"]
            async fn soak_rows_inserted_again_after_seconds_and_minutes() {
                inserted_again(Backend::$backend, &[10 * SECOND, 7 * MINUTE, 25 * MINUTE], Some(35 * MINUTE)).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            #[ignore = "soak"]
            async fn soak_cost_of_rechecks_with_an_index() {
                cost_of_rechecks(Backend::$backend, 100_000, true, 3).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            #[ignore = "soak"]
            async fn soak_cost_of_rechecks_without_an_index() {
                cost_of_rechecks(Backend::$backend, 100_000, false, 3).await;
            }
        }
    )* };
}

on!(sqlite Sqlite, postgres Postgres, mariadb Mariadb);

/// Where transactions can be seen, and readers are what deletion waits for.
macro_rules! on_servers {
    ($($module:ident $backend:ident),*) => { $(
        mod $module {
            use super::*;

            #[tokio::test(flavor = "multi_thread")]
            async fn readers_that_overlap_do_not_stop_deletion() {
                overlapping_readers(Backend::$backend, 4 * SECOND, 7, 5 * SECOND).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            #[ignore = "soak"]
            async fn soak_readers_that_overlap_for_five_minutes() {
                overlapping_readers(Backend::$backend, 8 * SECOND, 5, MINUTE).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn deletion_goes_on_after_a_dump() {
                beside_a_dump(Backend::$backend, [3, 4, 3], 5 * SECOND).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            #[ignore = "soak"]
            async fn soak_a_dump_of_ten_minutes() {
                beside_a_dump(Backend::$backend, [2, 10, 3], MINUTE).await;
            }
        }
    )* };
}

on_servers!(on_postgres Postgres, on_mariadb Mariadb);
