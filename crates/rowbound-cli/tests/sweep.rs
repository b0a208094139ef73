//! What no trigger saw: a whole storage against all rows, both ways. Hints only: whatever is found, the collector has the last word.

use std::time::{Duration, Instant};

use rowbound::{Binding, StoragePlan, Trash, binding::Column, database, sweep};
use rowbound_testkit::{
    Ask, Backend, Fault, FaultProxy, Rowbound, Rule, TestDb, World, Writer,
    s3::{S3Kind, S3Server},
};
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_rowbound");
const DEADLINE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn rowbound(world: &World) -> Rowbound {
    Rowbound::new(BINARY, world).env("ROWBOUND_STATE", &world.folder().join("state").display().to_string())
}

async fn insert(world: &World, names: impl IntoIterator<Item = String>) {
    let literal = |n: &String| format!("({})", world.db.backend().literal(n));
    let names: Vec<String> = names.into_iter().collect();
    for batch in names.chunks(1_000) {
        let values: Vec<String> = batch.iter().map(literal).collect();
        world.db.exec(&format!("insert into doc (file) values {}", values.join(","))).await;
    }
}

/// The counts of a report's only storage.
fn counts(report: &Value, fields: &[&str]) -> Vec<u64> {
    let storage = &report["storages"][0];
    let of = |f: &&str| storage.pointer(&format!("/{}", f.replace('.', "/"))).and_then(Value::as_u64);
    fields.iter().map(|f| of(f).unwrap_or_else(|| panic!("{f} is no number: {storage}"))).collect()
}

/// The names in a report's sample.
fn sample(report: &Value, of: &str) -> Vec<String> {
    let names = report["storages"][0][of].as_array().expect("a sample");
    names.iter().map(|n| n["name"].as_str().expect("a name").to_owned()).collect()
}

/// Everything that a file or a row can be to a sweep, before anything is attached. The names are in an order that no collation would keep.
async fn finds_both_ways(backend: Backend) {
    let mut world = World::new(backend).await.with_docs().await.storage(|s| s.ignore(["others/*"]));
    world.db.exec("create table page (id integer primary key, url varchar(255))").await;
    let doc = world.bindings.remove(0).keep(["keep/*"]).derivatives(["imagekit"]);
    let mut title = Binding::name("doc.title", "default").expect("a column");
    title.column = Column::parse("doc.title").expect("a column");
    world = world.bind(doc).bind(title).bind(Binding::url("page.url", "default", "/media/").expect("a column"));
    let named = ["a", "a-b/x", "a.txt", "B/1.jpg", "b/1.jpg", "é/ü.jpg", "z", "Z", "a b", "\u{10348}.jpg", "_", "~"];
    for name in named {
        world.put_doc(name).await;
    }
    for (sql, file) in [
        ("insert into doc (title) values ('by title.jpg')", "by title.jpg"),
        ("insert into page values (1, '/media/by%20url.jpg?v=2')", "by url.jpg"),
        ("insert into page values (2, '/media/zz.jpg')", "zz.jpg"),
        ("insert into page values (3, 'https://elsewhere.example/zz.jpg')", "zzz-unnamed.jpg"),
    ] {
        world.db.exec(sql).await;
        world.put_file(file, b"1");
    }
    for file in [
        "A",
        "ab/c",
        "A.txt",
        "a-b/y",
        "éa",
        "keep/me.jpg",
        "others/theirs.jpg",
        "CACHE/images/b/1/thumb.jpg",
        "CACHE/images/gone/thumb.jpg",
    ] {
        world.put_file(file, file.as_bytes());
    }
    insert(&world, ["lost/1.jpg", "Lost/1.jpg", "../etc/passwd", "a", "a"].map(str::to_owned)).await;
    let rowbound = rowbound(&world);
    let report = rowbound.run(&["sweep", "--max-share", "1", "--format", "json"]).await.expect(1).json();
    let fields = ["files", "references", "orphans.files", "dangling", "in_trash", "young.files", "derived.files", "protected", "odd"];
    assert_eq!(counts(&report, &fields), [25, 17, 7, 2, 0, 0, 1, 2, 0], "{report:#}");
    let orphans = ["A", "A.txt", "CACHE/images/gone/thumb.jpg", "a-b/y", "ab/c", "zzz-unnamed.jpg", "éa"];
    assert_eq!(sample(&report, "orphan_sample"), orphans);
    assert_eq!(sample(&report, "dangling_sample"), ["Lost/1.jpg", "lost/1.jpg"]);
    let dangling = &report["storages"][0]["dangling_sample"][1];
    assert_eq!(dangling["column"], "doc.file");
    let id = world.db.query_strings(&format!("select cast(id as char(20)) from doc where file = {}", backend.literal("lost/1.jpg"))).await;
    assert_eq!(dangling["key"].as_str().map(str::trim), id[0].as_deref().map(str::trim), "{report:#}");
    assert_eq!(rowbound.run(&["sweep", "--max-share", "1", "--list"]).await.expect(1).stdout.lines().collect::<Vec<_>>(), orphans);

    // What is young is not judged.
    let report = rowbound.run(&["sweep", "--min-age", "1h", "--format", "json"]).await.expect(1).json();
    assert_eq!(counts(&report, &["orphans.files", "young.files"]), [0, 8]);

    // Parts of it, which come to the whole.
    let mut parts = Vec::new();
    for part in [&["--until", "a-b/x"][..], &["--after", "a-b/x", "--until", "ab/c"], &["--after", "ab/c"]] {
        parts.extend(rowbound.run(&[&["sweep", "--list", "--max-share", "1"], part].concat()).await.stdout.lines().map(str::to_owned));
    }
    assert_eq!(parts, orphans);
    for (prefix, found) in [("a", &["a-b/y", "ab/c"][..]), ("A", &["A", "A.txt"]), ("a-b/", &["a-b/y"]), ("nothing", &[])] {
        let listed = rowbound.run(&["sweep", "--list", "--max-share", "1", "--prefix", prefix]).await.stdout;
        assert_eq!(listed.lines().collect::<Vec<_>>(), found, "{prefix}");
    }
    assert_eq!(world.files().len(), 25);
}

/// Orphans go by way of the collector, which may know better.
async fn deletes_by_way_of_the_collector(backend: Backend) {
    let world = World::new(backend).await.with_docs().await.storage(|s| s.trash(Trash::Keep(HOUR)));
    for name in ["a.jpg", "b.jpg", "c.jpg"] {
        world.put_doc(name).await;
    }
    for name in ["orphan/1.jpg", "orphan/2.jpg", "orphan/adopted.jpg"] {
        world.put_file(name, b"1");
    }
    let rowbound = rowbound(&world);
    let refused = rowbound.run(&["sweep", "--delete", "--max-share", "1"]).await.expect(2);
    assert!(refused.stderr.contains("rowbound attach"), "{}", refused.stderr);
    rowbound.run(&["attach"]).await.expect(0);
    let report = rowbound.run(&["sweep", "--delete", "--max-share", "1", "--format", "json"]).await.expect(0).json();
    assert_eq!(counts(&report, &["orphans.files", "announced"]), [3, 3]);
    assert_eq!(world.files().len(), 6, "a sweep deletes nothing");
    world.db.exec("insert into doc (file) values ('orphan/adopted.jpg')").await;
    rowbound.run(&["collect"]).await.expect(0);
    world.assert_files_follow_rows().await;
    assert_eq!(world.trashed().len(), 2);
    let report = rowbound.run(&["sweep", "--format", "json"]).await.expect(0).json();
    assert_eq!(counts(&report, &["files", "references", "orphans.files", "dangling"]), [4, 4, 0, 0]);
}

/// A row that names what lies in the trash gets it back.
async fn heals_from_the_trash(backend: Backend) {
    let world = World::new(backend).await.with_docs().await.storage(|s| s.trash(Trash::Keep(HOUR)));
    world.put_doc("stays.jpg").await;
    world.put_doc("back.jpg").await;
    let rowbound = rowbound(&world);
    rowbound.run(&["attach"]).await.expect(0);
    world.db.exec("delete from doc where file = 'back.jpg'").await;
    rowbound.run(&["collect"]).await.expect(0);
    insert(&world, ["back.jpg", "never.jpg"].map(str::to_owned)).await;
    let report = rowbound.run(&["sweep", "--format", "json"]).await.expect(1).json();
    assert_eq!(counts(&report, &["dangling", "in_trash", "healed"]), [2, 1, 0]);
    let report = rowbound.run(&["sweep", "--heal", "--format", "json"]).await.expect(1).json();
    assert_eq!(counts(&report, &["dangling", "in_trash", "healed"]), [2, 1, 1]);
    assert_eq!(world.files(), ["back.jpg", "stays.jpg"]);
    let explained = rowbound.run(&["history", "--name", "back.jpg"]).await.stdout;
    assert!(explained.contains("restored"), "{explained}");
}

/// What a progress bar may promise: as many references as the database thinks there are rows, of a whole storage only.
async fn tells_how_much_there_is(backend: Backend) {
    let world = World::new(backend).await.with_docs().await;
    insert(&world, (0..2_000).map(|n| format!("{n}.jpg"))).await;
    world.db.exec(if matches!(backend, Backend::Mariadb | Backend::Mysql) { "analyze table doc" } else { "analyze" }).await;
    let db = database::open(world.db.url(), &database::Options::default()).await.unwrap_or_else(|e| panic!("{}", e.full()));
    let options = sweep::Options::new(world.folder().join("state"));
    let plan = world.plan();
    let rows = sweep::expected(&plan, db.as_ref(), "default", &options).await.unwrap_or_else(|e| panic!("{}", e.full()));
    assert!(rows.is_some_and(|rows| (1_000..4_000).contains(&rows)), "{rows:?}");
    let part = sweep::Options { prefix: "1".to_owned(), ..options };
    let rows = sweep::expected(&plan, db.as_ref(), "default", &part).await.unwrap_or_else(|e| panic!("{}", e.full()));
    assert_eq!(rows, None, "how many rows name files of a part of the storage is not known");
    db.close().await;
}

/// Each brake: it stops, deletes nothing, exits 4, and names the flag; with it, the sweep goes through.
async fn brakes(backend: Backend) {
    let world = World::new(backend).await.with_docs().await;
    for n in 0..8 {
        world.put_doc(&format!("named/{n}.jpg")).await;
    }
    for n in 0..3 {
        world.put_file(&format!("orphan/{n}.jpg"), b"1");
    }
    let rowbound = rowbound(&world);
    rowbound.run(&["attach"]).await.expect(0);
    let waiting =
        async || rowbound.run(&["status", "--format", "json"]).await.json()["storages"][0]["backlog"]["total"].as_u64().expect("a number");

    let stopped = rowbound.run(&["sweep", "--delete"]).await.expect(4).stdout;
    assert!(stopped.contains("3 of 11 files are orphans: 27 %, more than 20 %") && stopped.contains("--max-share 0.28"), "{stopped}");
    assert!(stopped.contains("orphan/0.jpg"), "a sample: {stopped}");
    assert_eq!(waiting().await, 0);
    rowbound.run(&["sweep", "--delete", "--max-share", "0.28"]).await.expect(0);
    assert_eq!(waiting().await, 3);
    rowbound.run(&["collect"]).await.expect(0);
    world.assert_files_follow_rows().await;

    // A restored dump without its rows.
    world.db.exec("update doc set file = null").await;
    let stopped = rowbound.run(&["sweep", "--delete", "--max-share", "1"]).await.expect(4).stdout;
    assert!(stopped.contains("no row references any of the 8 files") && stopped.contains("--allow-no-references"), "{stopped}");
    assert_eq!(waiting().await, 8, "what capture has written, and nothing else");
    assert_eq!(world.files().len(), 8);

    world.db.exec("drop table doc").await;
    let stopped = rowbound.run(&["sweep", "--delete", "--allow-no-references", "--max-share", "1"]).await.expect(4);
    assert!(stopped.stderr.contains("rowbound attach"), "{}", stopped.stderr);
    assert_eq!(world.files().len(), 8);
}

/// A table that is missing before anything is attached: nothing can be concluded.
#[tokio::test]
async fn brake_on_a_missing_table() {
    let world = World::new(Backend::Sqlite).await.with_docs().await.bind(Binding::name("gone.file", "default").expect("a column"));
    world.put_file("a.jpg", b"1");
    let stopped = rowbound(&world).run(&["sweep"]).await.expect(4);
    assert!(stopped.stderr.contains("nothing can be concluded") && stopped.stderr.contains("gone.file"), "{}", stopped.stderr);
    assert!(stopped.stderr.contains("--restart"), "{}", stopped.stderr);
}

/// A page of the listing fails: nothing can be concluded; afterwards it goes on.
#[tokio::test(flavor = "multi_thread")]
async fn brake_on_a_listing_that_breaks_off() {
    let server = S3Server::start(S3Kind::S3sFs);
    let proxy = FaultProxy::to_s3(&server);
    let bucket = server.bucket().await;
    let location = bucket.location_at(&proxy.endpoint(), "media/");
    let world = World::with(TestDb::new(Backend::Sqlite).await).with_docs().await.storage(|s| StoragePlan { location, ..s });
    for n in 0..1_200 {
        bucket.put(&format!("media/{n:04}.jpg"), b"1").await;
    }
    insert(&world, (0..1_190).map(|n| format!("{n:04}.jpg"))).await;
    let mut rowbound = rowbound(&world);
    for (name, value) in server.env() {
        rowbound = rowbound.env(&name, &value);
    }
    rowbound.run(&["attach"]).await.expect(0);
    proxy.rule(Rule::new(Fault::Answer(403)).on([Ask::List]).path("media%2F").skip(1));
    let stopped = rowbound.run(&["sweep", "--delete"]).await.expect(4);
    assert!(stopped.stderr.contains("the listing of the storage could not be completed"), "{}", stopped.stderr);
    assert!(stopped.stderr.contains("goes on where it stopped, with --restart"), "{}", stopped.stderr);
    proxy.clear();
    let report = rowbound.run(&["sweep", "--delete", "--format", "json"]).await.expect(0).json();
    assert_eq!(counts(&report, &["files", "references", "orphans.files", "announced"]), [1_200, 1_190, 10, 10]);
}

/// Killed again and again, and taken up again: the same result as without.
async fn killed_and_taken_up_again(backend: Backend, files: usize, times: u32) {
    let world = World::new(backend).await.with_docs().await;
    for n in 0..files {
        world.put_file(&format!("{:02}/{n:05}.jpg", n % 50), b"1");
    }
    let odd: Vec<String> = (0..files).filter(|n| n % 10 == 0).map(|n| format!("{:02}/{n:05}.jpg", n % 50)).collect();
    insert(&world, odd.into_iter().chain((0..500).map(|n| format!("{:02}/lost{n}.jpg", n % 50)))).await;
    let whole = rowbound(&world).run(&["sweep", "--max-share", "1", "--list"]).await.expect(1).stdout;
    assert_eq!(whole.lines().count(), files - files / 10);

    let mut kills = 0;
    for _ in 0..times {
        let output = rowbound(&world).env("ROWBOUND_CRASH_AT", "compared").run(&["sweep", "--max-share", "1"]).await;
        assert_eq!(output.signal, Some(9), "{}", output.stderr);
        kills += 1;
    }
    let rowbound = rowbound(&world);
    let output = rowbound.run(&["sweep", "--max-share", "1", "--list"]).await.expect(1);
    assert!(output.stderr.contains("going on with a sweep that was cut off"), "{}", output.stderr);
    assert_eq!(output.stdout, whole, "after {kills} kills");
    let report = rowbound.run(&["sweep", "--max-share", "1", "--format", "json"]).await.expect(1).json();
    assert_eq!(counts(&report, &["files", "orphans.files", "dangling"]), [files as u64, whole.lines().count() as u64, 500]);

    // Between two batches of candidates, too.
    rowbound.run(&["attach"]).await.expect(0);
    let delete = ["sweep", "--max-share", "1", "--delete"];
    let killed = self::rowbound(&world).env("ROWBOUND_CRASH_AT", "orphans-announced:3").run(&delete).await;
    assert_eq!(killed.signal, Some(9), "{}", killed.stderr);
    rowbound.run(&delete).await.expect(1); // the dangling ones
    rowbound.run(&["collect", "--wait", "60s"]).await.expect(0);
    assert_eq!(world.files().len(), files / 10);
}

/// An application that uploads, inserts, replaces and deletes, a collector and sweeps that delete, all at once.
async fn under_a_running_writer(backend: Backend, time: Duration) {
    let age = Duration::from_secs(5);
    let world = World::new(backend).await.with_docs().await.storage(|s| s.trash(Trash::Keep(HOUR)).min_age(age));
    let rowbound = rowbound(&world);
    rowbound.run(&["attach"]).await.expect(0);
    let planted: Vec<String> = (0..200).map(|n| format!("planted/{n}.jpg")).collect();
    for name in &planted {
        world.put_file(name, b"1");
    }
    let writer = Writer::start(&world, "w", 0, Duration::from_millis(2)).await;
    let daemon = rowbound.spawn(&["run", "--poll", "50ms"]);
    let end = Instant::now() + time;
    let mut sweeps = 0;
    while Instant::now() < end {
        let output = rowbound.run(&["sweep", "--delete", "--heal", "--max-share", "1", "--allow-no-references"]).await;
        assert!(matches!(output.code, Some(0 | 1)), "{:?}\n{}\n{}", output.code, output.stdout, output.stderr);
        sweeps += 1;
    }
    let written = writer.stop().await;
    let gone = || planted.iter().all(|name| !world.media().join(name).exists());
    daemon
        .until(DEADLINE, "every planted orphan is gone", async || {
            rowbound.run(&["sweep", "--delete", "--max-share", "1", "--allow-no-references"]).await;
            gone()
        })
        .await;
    daemon.terminate();
    daemon.wait(DEADLINE).await.expect(0);
    rowbound.run(&["collect", "--wait", "40s"]).await.expect(0);
    written.assert_nothing_lost(&world);
    world.assert_files_follow_rows().await;
    println!("{backend:?}: {sweeps} sweeps beside {} operations, {} names released", written.operations, written.released);
}

macro_rules! on {
    ($($module:ident $backend:ident),*) => { $(
        mod $module {
            use super::*;

            #[tokio::test(flavor = "multi_thread")]
            async fn sweep_finds_both_ways() {
                finds_both_ways(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn sweep_deletes_by_way_of_the_collector() {
                deletes_by_way_of_the_collector(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn sweep_heals_from_the_trash() {
                heals_from_the_trash(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn sweep_tells_how_much_there_is() {
                tells_how_much_there_is(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn sweep_brakes() {
                brakes(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn crash_of_a_sweep_again_and_again() {
                killed_and_taken_up_again(Backend::$backend, 12_000, 5).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            #[ignore = "soak"]
            async fn soak_sweeps_killed() {
                killed_and_taken_up_again(Backend::$backend, 24_000, 10).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn race_of_sweeps_with_a_writer() {
                under_a_running_writer(Backend::$backend, Duration::from_secs(8)).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            #[ignore = "takes five minutes: make soak"]
            async fn soak_sweeps_beside_a_writer() {
                under_a_running_writer(Backend::$backend, Duration::from_secs(300)).await;
            }
        }
    )* };
}

on!(sqlite Sqlite, postgres Postgres, mariadb Mariadb, mysql Mysql);

/// In a bucket with versions a file that anybody deleted is only hidden: where a row still references it, it comes back.
#[tokio::test(flavor = "multi_thread")]
async fn sweep_heals_what_others_hid_in_a_versioned_bucket_on_moto() {
    let server = S3Server::start(S3Kind::Moto);
    let bucket = server.versioned_bucket().await;
    let world = World::new(Backend::Sqlite).await.with_docs().await;
    let world = world.storage(|s| StoragePlan { location: bucket.location("media/"), trash: Trash::Keep(HOUR), ..s });
    insert(&world, ["hidden.jpg", "never.jpg", "stays.jpg"].map(str::to_owned)).await;
    for name in ["hidden.jpg", "stays.jpg"] {
        bucket.put(&format!("media/{name}"), name.as_bytes()).await;
    }
    let rowbound = server.env().iter().fold(rowbound(&world), |rowbound, (name, value)| rowbound.env(name, value));
    rowbound.run(&["attach"]).await.expect(0);
    bucket.delete("media/hidden.jpg").await;
    assert_eq!(bucket.get("media/hidden.jpg").await, None);
    let report = rowbound.run(&["sweep", "--heal", "--format", "json"]).await.expect(1).json();
    assert_eq!(counts(&report, &["files", "dangling", "in_trash", "healed"]), [1, 2, 1, 1]);
    assert_eq!(bucket.get("media/hidden.jpg").await.as_deref(), Some(&b"hidden.jpg"[..]));
}

/// A blob among texts sorts behind all of them: the column is sorted here then.
#[tokio::test]
async fn a_blob_among_texts_is_a_name_like_any_other() {
    let world = World::new(Backend::Sqlite).await.with_docs().await;
    for name in ["a.jpg", "b.jpg", "c.jpg", "1.jpg"] {
        world.put_doc(name).await;
    }
    world.put_file("7", b"1");
    world.put_file("orphan.jpg", b"1");
    for sql in
        ["update doc set file = cast('b.jpg' as blob) where file = 'b.jpg'", "create table n (file)", "insert into n values (7), ('c.jpg')"]
    {
        world.db.exec(sql).await;
    }
    let world = world.bind(Binding::name("n.file", "default").expect("a column"));
    let listed = rowbound(&world).run(&["sweep", "--list", "--max-share", "1"]).await.expect(1);
    assert_eq!(listed.stdout, "orphan.jpg\n", "{}", listed.stderr);
}

/// Without a write-ahead log a long read would keep the application from committing.
#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_keeps_no_writer_waiting_under_a_rollback_journal() {
    let world = World::with(TestDb::sqlite(rowbound_testkit::Journal::Rollback).await).with_docs().await;
    insert(&world, (0..12_000).map(|n| format!("{n:05}.jpg"))).await;
    for n in 0..6_001 {
        world.put_file(&format!("{n:05}.jpg"), b"1");
    }
    world.put_file("orphan.jpg", b"1");
    let report = rowbound(&world).run(&["sweep", "--format", "json"]).await.expect(1).json();
    assert_eq!(counts(&report, &["files", "references", "orphans.files", "dangling"]), [6_002, 12_000, 1, 5_999]);
}

/// The same findings as a page and as a table. Nothing is attached, and nothing changes.
#[tokio::test(flavor = "multi_thread")]
async fn findings_become_a_page_and_a_table() {
    let world = World::new(Backend::Sqlite).await.with_docs().await;
    world.put_doc("named.jpg").await;
    insert(&world, ["lost.jpg".to_owned()]).await;
    let mut png = std::io::Cursor::new(Vec::new());
    image::RgbImage::from_pixel(300, 200, image::Rgb([200, 30, 30])).write_to(&mut png, image::ImageFormat::Png).expect("a picture");
    world.put_file("2019/red.png", png.get_ref());
    world.put_file("2019/=1+1, \"x\".txt", b"text");
    let rowbound = rowbound(&world);
    let page = world.folder().join("out.html");
    let place = page.display().to_string();
    rowbound.run(&["sweep", "--max-share", "1", "--report", &place]).await.expect(1);
    let text = std::fs::read_to_string(&page).expect("a page");
    assert_eq!(text.matches("<img src=\"data:image/jpeg;base64,").count(), 1);
    for said in ["2 orphans of default", "<bdi>red.png</bdi>", "=1+1, &#34;x&#34;.txt", "<bdi>lost.jpg</bdi>", "doc.file"] {
        assert!(text.contains(said), "{said}");
    }
    let none = world.folder().join("no/such/out.html").display().to_string();
    let refused = rowbound.run(&["sweep", "--max-share", "1", "--report", &none]).await.expect(2);
    assert!(refused.stderr.contains("cannot write the report"), "{}", refused.stderr);

    let table = rowbound.run(&["sweep", "--max-share", "1", "--format", "csv"]).await.expect(1).stdout;
    let lines: Vec<&str> = table.split("\r\n").collect();
    assert_eq!(lines[0], "finding,storage,name,size,modified,column,key,in_trash");
    assert!(lines[1].starts_with("orphan,default,\"2019/=1+1, \"\"x\"\".txt\",4,"), "{table}");
    assert_eq!(lines[3], "dangling,default,lost.jpg,,,doc.file,2,false");
    assert_eq!((lines.len(), lines[4]), (5, ""));
    rowbound.run(&["status", "--format", "csv"]).await.expect(2);

    // In shadow mode no orphan can be deleted, and that is said at once.
    rowbound.run(&["attach", "--shadow"]).await.expect(0);
    let refused = rowbound.run(&["sweep", "--delete", "--max-share", "1"]).await.expect(2);
    assert!(refused.stderr.contains("shadow mode") && refused.stderr.contains("rowbound promote"), "{}", refused.stderr);
    rowbound.run(&["promote", "--all"]).await.expect(0);
    rowbound.run(&["sweep", "--delete", "--max-share", "1"]).await.expect(1);
}
