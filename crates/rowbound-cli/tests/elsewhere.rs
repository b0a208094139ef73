//! The counter-search of a sweep, storages that several databases share, and what a sweep says of its orphans.

use std::{path::Path, time::Duration};

use rowbound::{
    Binding, StoragePlan, Trash,
    database::{self, Options},
};
use rowbound_testkit::{
    Ask, Backend, Fault, FaultProxy, Output, Rowbound, Rule, TestDb, World,
    s3::{S3Kind, S3Server},
};
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_rowbound");
const DEADLINE: Duration = Duration::from_secs(60);

fn rowbound(world: &World) -> Rowbound {
    Rowbound::new(BINARY, world).env("ROWBOUND_STATE", &world.folder().join("state").display().to_string())
}

/// The only storage of a sweep's answer.
fn storage(output: &Output) -> Value {
    output.json()["storages"][0].clone()
}

fn count(storage: &Value, field: &str) -> u64 {
    storage.pointer(field).and_then(Value::as_u64).unwrap_or_else(|| panic!("{field} is no number: {storage:#}"))
}

/// The columns that hold orphans, and how many.
fn held_by(storage: &Value) -> Vec<(String, u64)> {
    let columns = storage["held_by"].as_array().expect("a list");
    let mut all: Vec<_> =
        columns.iter().map(|by| (by["column"].as_str().expect("a column").to_owned(), by["files"].as_u64().expect("a number"))).collect();
    all.sort();
    all
}

/// A type for bytes.
fn blob(backend: Backend) -> &'static str {
    match backend {
        Backend::Postgres => "bytea",
        Backend::Sqlite => "blob",
        _ => "longblob",
    }
}

fn json(backend: Backend) -> &'static str {
    if backend == Backend::Sqlite { "text" } else { "json" }
}

/// Bytes as a literal.
fn bytes(backend: Backend, text: &str) -> String {
    let hex: String = text.bytes().map(|b| format!("{b:02x}")).collect();
    if backend == Backend::Postgres { format!("'\\x{hex}'") } else { format!("x'{hex}'") }
}

/// Full names in text, JSON and BLOB columns hold their files, in whatever way they are written there; a last part alone holds nothing.
async fn names_elsewhere_are_held(backend: Backend) {
    let mut world = World::new(backend).await.with_docs().await.storage(|s| s.trash(Trash::Off));
    for n in 0..20 {
        world.put_doc(&format!("docs/{n}.jpg")).await;
    }
    let (blob, json) = (blob(backend), json(backend));
    let text = if matches!(backend, Backend::Mariadb | Backend::Mysql) { "longtext" } else { "text" };
    world.db.exec(&format!("create table note (id integer primary key, body {text}, data {json}, raw {blob}, link {text})")).await;
    rowbound(&world).run(&["attach"]).await.expect(0);
    // So far into a value that no sample shows it.
    let far = "x ".repeat(40_000);
    let literal = |text: &str| backend.literal(text);
    for (id, column, value, file) in [
        (
            1,
            "body",
            literal(&format!("{far}<p>See <img src=\"https://old.example.org/files/held/in%20text.jpg?w=1\"></p>")),
            "held/in text.jpg",
        ),
        (2, "data", literal(&format!(r#"{{"cards": [{{"text": "{far}"}}, {{"src": "held\/in-json.jpg"}}]}}"#)), "held/in-json.jpg"),
        (3, "raw", bytes(backend, &format!("{far}a:1:{{s:4:\"logo\";s:16:\"held/in-blob.jpg\";}}")), "held/in-blob.jpg"),
        (4, "link", literal(&format!("{far} /files/held/what?.png")), "held/what?.png"),
    ] {
        world.db.exec(&format!("insert into note (id, {column}) values ({id}, {value})")).await;
        world.put_file(file, b"1");
    }
    world.db.exec(&format!("insert into note (id, body) values (5, {})", literal("The new one is at elsewhere/the-logo.png"))).await;
    let orphans = (0..19).map(|n| format!("orphan/{n:02}.jpg")).chain(["orphan/the-logo.png".to_owned()]);
    orphans.for_each(|name| world.put_file(&name, b"1"));

    let looked = rowbound(&world).run(&["sweep", "--max-share", "1"]).await.expect(1).stdout;
    for said in ["   4  files without a row are held", "1 of them in note.body", "held/in text.jpg", "   1  orphans share the last part"] {
        assert!(looked.contains(said), "{said:?} is not in\n{looked}");
    }
    let list = rowbound(&world).run(&["sweep", "--max-share", "1", "--list"]).await.expect(1).stdout;
    assert_eq!(list.lines().count(), 20, "what is held does not go, and is not listed:\n{list}");
    let stopped = rowbound(&world).run(&["sweep", "--delete", "--max-share", "1", "--max-held", "0.1"]).await.expect(4).stdout;
    assert!(stopped.contains("4 of 24 files without a row are held, because their names stand in other values: 17 %, more"), "{stopped}");
    for said in
        ["--max-held 0.17", "1 in note.body (\"held/in text.jpg\")", "ignore = [\"note.body\", \"note.data\", \"note.link\"] at the top of"]
    {
        assert!(stopped.contains(said), "{said:?} is not in\n{stopped}");
    }
    // Where stdout is data, stderr says why it stopped.
    for data in [&["--list"][..], &["--format", "csv"]] {
        let stopped = rowbound(&world).run(&[&["sweep", "--max-share", "1", "--max-held", "0.1"][..], data].concat()).await.expect(4);
        assert!(stopped.stderr.contains("stopped: 4 of 24") && stopped.stderr.contains("--max-held 0.17"), "{}", stopped.stderr);
    }

    let swept = rowbound(&world).run(&["sweep", "--delete", "--max-share", "1", "--format", "json"]).await.expect(1);
    let report = storage(&swept);
    assert_eq!([count(&report, "/orphans/files"), count(&report, "/held/files"), count(&report, "/announced")], [20, 4, 20], "{report:#}");
    let each = ["note.body", "note.data", "note.link", "note.raw"].map(|column| (column.to_owned(), 1));
    assert_eq!(held_by(&report), each);
    assert_eq!(count(&report, "/similar/files"), 1);
    assert_eq!(report["similar"]["samples"][0]["name"], "orphan/the-logo.png", "{report:#}");
    rowbound(&world).run(&["collect"]).await.expect(0);
    let left = world.files();
    assert_eq!(left.len(), 24, "{left:?}");
    assert!(left.iter().all(|name| name.starts_with("docs/") || name.starts_with("held/")), "{left:?}");

    // What is ignored needs no files.
    world = world.ignore(&["note.*"]);
    let report = storage(&rowbound(&world).run(&["sweep", "--delete", "--format", "json"]).await.expect(0));
    assert_eq!([count(&report, "/held/files"), count(&report, "/announced")], [0, 4], "{report:#}");
    rowbound(&world).run(&["collect"]).await.expect(0);
    world.assert_files_follow_rows().await;
}

/// A column that cannot be looked through may hold any name: nothing is deleted.
#[tokio::test(flavor = "multi_thread")]
async fn postgres_a_column_that_cannot_be_looked_through_stops_the_sweep() {
    let world = World::new(Backend::Postgres).await.with_docs().await;
    for n in 0..9 {
        world.put_doc(&format!("{n}.jpg")).await;
    }
    world.db.exec("create table note (id integer primary key, body text)").await;
    rowbound(&world).run(&["attach"]).await.expect(0);
    world.put_file("orphan.jpg", b"1");
    let mut other = world.db.app().await;
    other.exec("begin; lock table note in access exclusive mode").await;
    let stopped = rowbound(&world).run(&["sweep", "--delete"]).await.expect(4).stdout;
    assert!(stopped.contains("columns could not be looked through") && stopped.contains("note.body"), "{stopped}");
    other.close().await;
    rowbound(&world).run(&["sweep", "--delete"]).await.expect(0);
}

/// A binding of some rows says nothing of the others: what these mention is looked for.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_a_binding_leaves_out_are_searched() {
    let world = World::new(Backend::Sqlite).await.with_docs().await;
    world.db.exec("create table meta (id integer primary key, kind text, data text)").await;
    let world = world.bind(Binding::json("meta.data", "default", "$.file").expect("a binding").only("kind", "file"));
    for n in 0..6 {
        world.put_doc(&format!("{n}.jpg")).await;
    }
    world.db.exec(r#"insert into meta (kind, data) values ('file', '{"file": "read.jpg"}'), ('note', '{"see": "left-out.jpg"}')"#).await;
    ["read.jpg", "left-out.jpg", "orphan.jpg"].iter().for_each(|name| world.put_file(name, b"1"));
    rowbound(&world).run(&["attach"]).await.expect(0);
    let report = storage(&rowbound(&world).run(&["sweep", "--max-share", "1", "--max-held", "1", "--format", "json"]).await.expect(1));
    assert_eq!([count(&report, "/orphans/files"), count(&report, "/held/files")], [1, 1], "{report:#}");
    assert_eq!(held_by(&report), [("meta.data".to_owned(), 1)]);
}

/// A binding reads one name of a JSON value; the application knows the folder of the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_bound_json_column_holds_last_parts() {
    let world = World::new(Backend::Sqlite).await.with_docs().await;
    world.db.exec("create table media (id integer primary key, meta text)").await;
    let world = world.bind(Binding::json("media.meta", "default", "$.file").expect("a binding"));
    for n in 0..9 {
        world.put_doc(&format!("docs/{n}.jpg")).await;
    }
    world.db.exec(r#"insert into media values (1, '{"file":"2024/a.jpg","sizes":[{"file":"a-1.jpg"}]}')"#).await;
    ["2024/a.jpg", "2024/a-1.jpg", "old/a.jpg"].iter().for_each(|name| world.put_file(name, b"1"));
    rowbound(&world).run(&["attach"]).await.expect(0);
    let sweep = ["sweep", "--delete", "--max-share", "1", "--max-held", "1", "--max-alike", "1", "--format", "json"];
    let report = storage(&rowbound(&world).run(&sweep).await.expect(1));
    assert_eq!(["/orphans/files", "/held/files", "/announced"].map(|f| count(&report, f)), [1, 1, 1], "{report:#}");
    assert_eq!(held_by(&report), [("media.meta".to_owned(), 1)]);
    assert_eq!(report["held_by"][0]["bound"], true, "{report:#}");
    assert_eq!(count(&report, "/similar/files"), 0, "what the binding reads with its folder is that file: {report:#}");
    rowbound(&world).run(&["collect"]).await.expect(0);
    assert!(world.is_there("2024/a-1.jpg") && world.is_there("2024/a.jpg") && !world.is_there("old/a.jpg"), "{:?}", world.files());
}

/// Pieces of whole names that a query makes are no names of other files; all else in the same columns is.
#[tokio::test(flavor = "multi_thread")]
async fn a_piece_of_a_name_that_a_query_makes_holds_nothing() {
    let world = World::new(Backend::Sqlite).await.with_docs().await;
    world.db.exec("create table part (id integer primary key, dir text, base text, size text)").await;
    let world = world.bind(Binding::query("parts", "default", "select dir || '/' || base from part"));
    for n in 0..9 {
        world.put_doc(&format!("docs/{n}.jpg")).await;
    }
    world.db.exec("insert into part values (1, 'new', 'picture.jpg', 'picture-1.jpg')").await;
    ["new/picture.jpg", "new/picture-1.jpg", "old/picture.jpg"].iter().for_each(|name| world.put_file(name, b"1"));
    let report = storage(&rowbound(&world).run(&["sweep", "--max-share", "1", "--max-held", "1", "--format", "json"]).await.expect(1));
    assert_eq!(["/orphans/files", "/held/files"].map(|f| count(&report, f)), [1, 1], "{report:#}");
    assert_eq!(held_by(&report), [("part.size".to_owned(), 1)]);
    assert_eq!(report["orphan_sample"][0]["name"], "old/picture.jpg", "{report:#}");
}

/// A storage that does not answer says nothing of which orphans are made of files that are there.
#[tokio::test(flavor = "multi_thread")]
async fn a_storage_that_cannot_be_asked_stops_the_sweep() {
    let server = S3Server::start(S3Kind::Moto);
    let proxy = FaultProxy::to_s3(&server);
    let bucket = server.bucket().await;
    let location = bucket.location_at(&proxy.endpoint(), "media/");
    let world = World::with(TestDb::new(Backend::Sqlite).await).with_docs().await.storage(|s| StoragePlan { location, ..s });
    for n in 0..12 {
        bucket.put(&format!("media/2026/p{n}.jpg"), b"1").await;
        world.db.exec(&format!("insert into doc (file) values ('2026/p{n}.jpg')")).await;
    }
    bucket.put("media/2026/p0__a.webp", b"1").await;
    let mut rowbound = rowbound(&world);
    for (name, value) in server.env() {
        rowbound = rowbound.env(&name, &value);
    }
    rowbound.run(&["attach"]).await.expect(0);
    proxy.rule(Rule::new(Fault::Answer(403)).on([Ask::Head]).path(".png"));
    let stopped = rowbound.run(&["sweep", "--delete"]).await.expect(4);
    assert!(stopped.stderr.contains("whether orphans are made of files that are there"), "{}", stopped.stderr);
    proxy.clear();
    let report = storage(&rowbound.run(&["sweep", "--delete", "--format", "json"]).await.expect(0));
    assert_eq!(count(&report, "/announced"), 1, "{report:#}");
}

/// `2024/a.jpg` is no mention of `a.jpg`, as long as that file is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_longer_name_that_is_read_is_no_mention() {
    let world = World::new(Backend::Sqlite).await.with_docs().await;
    for name in ["2024/a.jpg", "2025/b.jpg", "2025/c.jpg", "2025/d.jpg", "2025/e.jpg", "2025/f.jpg"] {
        world.put_doc(name).await;
    }
    world.db.exec("insert into doc (file) values ('2024/lost.jpg')").await;
    world.put_file("a.jpg", b"1");
    world.put_file("lost.jpg", b"1");
    let report = storage(&rowbound(&world).run(&["sweep", "--max-share", "1", "--max-held", "1", "--format", "json"]).await.expect(1));
    assert_eq!([count(&report, "/orphans/files"), count(&report, "/held/files")], [1, 1], "{report:#}");
    assert_eq!(report["held_sample"][0]["name"], "lost.jpg", "{report:#}");
}

/// L8: derivatives that no preset knows. The brake says what they look like.
#[tokio::test(flavor = "multi_thread")]
async fn the_brake_says_what_orphans_look_like() {
    let world = World::new(Backend::Sqlite).await.with_docs().await;
    for n in 0..12 {
        world.put_doc(&format!("2026/picture-{n}.jpg")).await;
        for size in ["3a", "b1", "ff"] {
            world.put_file(&format!("2026/picture-{n}__{size}.webp"), b"1");
        }
    }
    (0..8).for_each(|n| world.put_file(&format!("old/{n}.tmp"), b"1"));
    let stopped = rowbound(&world).run(&["sweep"]).await.expect(4).stdout;
    assert!(stopped.contains("44 of 56 files are orphans: 79 %, more than 20 %"), "{stopped}");
    assert!(stopped.contains("36 of 44 begin like a file that is there, then \"__\""), "{stopped}");
    let report = storage(&rowbound(&world).run(&["sweep", "--format", "json"]).await.expect(4));
    assert_eq!(report["brake"]["alike"][0], "36 of 44 begin like a file that is there, then \"__\"", "{report:#}");
}

/// Names that stand without their folder, in rows that `meta` leaves out; and full names there, in JSON too.
const ELSEWHERE: [&str; 5] = ["2026/builder.jpg", "2026/cover.jpg", "2026/p0-300x200.jpg", "galleries/7/g1.jpg", "galleries/7/g2.jpg"];

/// A table as WordPress' wp_postmeta, of which `meta` reads the rows of one kind, and ten orphans.
async fn with_meta(meta: Binding) -> World {
    let note = Binding::json("note.data", "default", "$.src").expect("a column").only("kind", "card");
    let world = World::new(Backend::Sqlite).await.with_docs().await.bind(meta).bind(note);
    world.db.exec("create table meta (id integer primary key, k varchar(50), v text)").await;
    world.db.exec("create table note (id integer primary key, kind varchar(50), data text)").await;
    for n in 0..20 {
        world.put_doc(&format!("2026/p{n}.jpg")).await;
    }
    let php = r#"a:2:{s:4:"file";s:11:"2026/p0.jpg";s:5:"sizes";a:1:{s:6:"medium";a:1:{s:4:"file";s:14:"p0-300x200.jpg";}}}"#;
    for (id, key, value) in [
        (1, "_wp_attached_file", "2026/p0.jpg"),
        (2, "_wp_attachment_metadata", php),
        (3, "_elementor_data", r#"[{"url":"https:\/\/example.org\/m\/2026\/builder.jpg"}]"#),
        (4, "gallery", "g1.jpg, g2.jpg"),
    ] {
        world.db.exec(&format!("insert into meta values ({id}, '{key}', {})", Backend::Sqlite.literal(value))).await;
    }
    world.db.exec(r#"insert into note values (1, 'slide', '{"cover": "2026/cover.jpg"}')"#).await;
    ELSEWHERE.iter().for_each(|name| world.put_file(name, b"1"));
    (0..10).for_each(|n| world.put_file(&format!("orphan/{n:02}.jpg"), b"1"));
    world
}

/// L6: sizes that WordPress' metadata holds without their folder, in rows that `where` leaves out.
#[tokio::test(flavor = "multi_thread")]
async fn names_without_folders_and_rows_that_where_leaves_out_hold_files() {
    let world = with_meta(Binding::name("meta.v", "default").expect("a column").only("k", "_wp_attached_file")).await;
    rowbound(&world).run(&["attach"]).await.expect(0);
    let sweep = ["sweep", "--delete", "--max-share", "1", "--max-held", "1", "--format", "json"];
    let report = storage(&rowbound(&world).run(&sweep).await.expect(1));
    assert_eq!(["/orphans/files", "/held/files", "/announced"].map(|f| count(&report, f)), [10, 5, 10], "{report:#}");
    assert_eq!(held_by(&report), [("meta.v".to_owned(), 4), ("note.data".to_owned(), 1)]);
    rowbound(&world).run(&["collect"]).await.expect(0);
    assert!(ELSEWHERE.iter().all(|name| world.is_there(name)), "{:?}", world.files());
    assert_eq!(world.files().len(), 25);
}

/// The same in the table of a query, which makes names of some rows, and none of the sizes in the others.
#[tokio::test(flavor = "multi_thread")]
async fn names_without_folders_hold_files_in_the_table_of_a_query() {
    let world = with_meta(Binding::query("attached", "default", "select v from meta where k = '_wp_attached_file'")).await;
    let report = storage(&rowbound(&world).run(&["sweep", "--max-share", "1", "--max-held", "1", "--format", "json"]).await.expect(1));
    assert_eq!(["/orphans/files", "/held/files"].map(|f| count(&report, f)), [10, 5], "{report:#}");
    assert_eq!(held_by(&report), [("meta.v".to_owned(), 4), ("note.data".to_owned(), 1)]);
}

/// Derivatives that no binding knows, of too small a share of the storage to stop a sweep by their number. Second uploads of one name are none.
#[tokio::test(flavor = "multi_thread")]
async fn orphans_that_look_like_derivatives_stop_the_sweep() {
    let world = World::new(Backend::Sqlite).await.with_docs().await;
    for n in 0..60 {
        world.put_doc(&format!("2026/p{n}.jpg")).await;
    }
    for n in 0..5 {
        world.put_file(&format!("2026/p{n}_AbC12x{n}.jpg"), b"1");
    }
    rowbound(&world).run(&["attach"]).await.expect(0);
    let report = storage(&rowbound(&world).run(&["sweep", "--format", "json"]).await.expect(1));
    assert_eq!((count(&report, "/orphans/files"), &report["brake"]), (5, &Value::Null), "{report:#}");
    for n in 0..4 {
        world.put_file(&format!("styles/large/public/2026/p{n}.jpg.webp"), b"1");
    }
    let stopped = rowbound(&world).run(&["sweep", "--delete"]).await.expect(4).stdout;
    assert!(stopped.contains("4 of 9 orphans that were looked at seem to be made of files that are there: 44 %"), "{stopped}");
    assert!(stopped.contains("--max-alike 0.45") && stopped.contains("beneath \"styles/large/public/\""), "{stopped}");
    assert!(stopped.contains("such as \"styles/large/public/2026/p0.jpg.webp\", made of \"2026/p0.jpg\""), "{stopped}");
    rowbound(&world).run(&["sweep", "--delete", "--max-alike", "0.45"]).await.expect(0);
}

/// L10: two databases, one folder. Each alone takes the other's files for orphans.
async fn a_shared_storage_is_swept_with_all_references(backend: Backend) {
    let ours = World::new(backend).await.with_docs().await;
    let mut theirs = World::new(backend).await.with_docs().await;
    theirs.storage = ours.storage.clone();
    rowbound(&ours).run(&["attach"]).await.expect(0);
    rowbound(&theirs).run(&["attach", "--shared"]).await.expect(0);
    for n in 0..6 {
        ours.put_doc(&format!("ours/{n}.jpg")).await;
        ours.put_file(&format!("theirs/{n}.jpg"), b"1");
        theirs.db.exec(&format!("insert into doc (file) values ('theirs/{n}.jpg')")).await;
    }
    theirs.db.exec("insert into doc (file) values ('theirs/lost.jpg')").await;
    theirs.db.exec("insert into doc (title) values ('see theirs/mentioned.jpg')").await;
    for name in ["theirs/mentioned.jpg", "orphan/1.jpg", "orphan/2.jpg"] {
        ours.put_file(name, b"1");
    }
    let refused = rowbound(&ours).run(&["sweep", "--delete", "--max-share", "1"]).await.expect(4);
    assert!(
        refused.stderr.contains("another database uses this storage") && refused.stderr.contains("--with OTHER.toml"),
        "{}",
        refused.stderr
    );

    let with = theirs.write_config().display().to_string();
    let sweep = ["sweep", "--delete", "--max-share", "1", "--max-held", "1", "--with", &with, "--format", "json"];
    let report = storage(&rowbound(&ours).run(&sweep).await.expect(1));
    assert_eq!(
        ["/files", "/orphans/files", "/held/files", "/dangling", "/announced"].map(|f| count(&report, f)),
        [15, 2, 1, 1, 2],
        "{report:#}"
    );
    assert_eq!(held_by(&report), [("doc.title".to_owned(), 1)]);
    assert_eq!(report["held_by"][0]["config"], with.as_str(), "{report:#}");
    assert_eq!(report["dangling_sample"][0]["column"], format!("doc.file ({with})"));
    rowbound(&ours).run(&["collect"]).await.expect(0);
    assert!(ours.files().iter().all(|name| !name.starts_with("orphan/")), "{:?}", ours.files());
    assert_eq!(ours.files().len(), 13);

    ours.put_file("orphan/3.jpg", b"1");
    let stopped = rowbound(&ours).run(&["sweep", "--max-share", "1", "--max-held", "0", "--with", &with]).await.expect(4).stdout;
    assert!(stopped.contains(&format!("ignore = [\"doc.title\"] at the top of {with}")), "{stopped}");

    let twice = rowbound(&ours).run(&["sweep", "--delete", "--with", &with, "--with", &with]).await.expect(2);
    assert!(twice.stderr.contains("two configurations are of one installation"), "{}", twice.stderr);

    // A configuration that proves nothing: our own, one of another storage, and one that is not attached.
    let own = ours.write_config().display().to_string();
    let stranger = World::new(backend).await.with_docs().await;
    let strange = stranger.write_config().display().to_string();
    for (with, said) in [(&own, "is swept already"), (&strange, "nothing is attached")] {
        let refused = rowbound(&ours).run(&["sweep", "--delete", "--with", with]).await.expect(2);
        assert!(refused.stderr.contains(said) && refused.stderr.contains(with.as_str()), "{}", refused.stderr);
    }
    rowbound(&stranger).run(&["attach"]).await.expect(0);
    let refused = rowbound(&ours).run(&["sweep", "--delete", "--with", &strange]).await.expect(2);
    assert!(refused.stderr.contains("no storage of this configuration is the one"), "{}", refused.stderr);

    // What an earlier build attached may be read otherwise than this one reads it.
    let db = database::open(theirs.db.url(), &Options::default()).await.expect("a database");
    let mut record = db.installation().await.expect("a record").expect("it is attached");
    record.version -= 1;
    db.record(&record).await.expect("written");
    db.close().await;
    let refused = rowbound(&ours).run(&["sweep", "--delete", "--max-share", "1", "--with", &with]).await.expect(2);
    assert!(refused.stderr.contains("an older rowbound attached") && refused.stderr.contains(&with), "{}", refused.stderr);
}

/// Two attached databases with one folder, each with rows, and two orphans in it; the configuration of the second.
async fn shared() -> (World, World, String) {
    let ours = World::new(Backend::Sqlite).await.with_docs().await;
    let mut theirs = World::new(Backend::Sqlite).await.with_docs().await;
    theirs.storage = ours.storage.clone();
    rowbound(&ours).run(&["attach"]).await.expect(0);
    rowbound(&theirs).run(&["attach", "--shared"]).await.expect(0);
    for n in 0..6 {
        ours.put_doc(&format!("ours/{n}.jpg")).await;
    }
    ["orphan/1.jpg", "orphan/2.jpg"].iter().for_each(|name| ours.put_file(name, b"1"));
    let with = theirs.write_config().display().to_string();
    (ours, theirs, with)
}

/// What a sweep found before it was killed is asked of every database again; and what their configurations say by then counts.
#[tokio::test(flavor = "multi_thread")]
async fn a_shared_sweep_that_was_killed_asks_the_others_again() {
    let (ours, mut theirs, with) = shared().await;
    let sweep = ["sweep", "--delete", "--max-share", "1", "--max-held", "1", "--with", &with, "--format", "json"];
    let killed = || rowbound(&ours).env("ROWBOUND_CRASH_AT", "searched");
    assert_eq!(killed().run(&sweep).await.signal, Some(9));
    theirs.db.exec("insert into doc (file) values ('orphan/1.jpg')").await;
    let taken_up = rowbound(&ours).run(&sweep).await.expect(1);
    assert!(taken_up.stderr.contains("going on with a sweep that was cut off"), "{}", taken_up.stderr);
    let report = storage(&taken_up);
    assert_eq!(["/orphans/files", "/held/files", "/announced"].map(|f| count(&report, f)), [1, 1, 1], "{report:#}");
    rowbound(&ours).run(&["collect"]).await.expect(0);
    assert!(ours.is_there("orphan/1.jpg") && !ours.is_there("orphan/2.jpg"), "{:?}", ours.files());

    ours.put_file("late/3.jpg", b"1");
    assert_eq!(killed().run(&sweep).await.signal, Some(9));
    let doc = theirs.bindings.remove(0).keep(["late/*"]);
    theirs.bindings.push(doc);
    theirs.write_config();
    let anew = rowbound(&ours).run(&sweep).await.expect(0);
    assert!(!anew.stderr.contains("going on with a sweep that was cut off"), "{}", anew.stderr);
    let report = storage(&anew);
    assert_eq!(["/orphans/files", "/protected"].map(|f| count(&report, f)), [0, 1], "{report:#}");
}

/// A row of another database that comes after the counter-search, and before the announcement.
#[tokio::test(flavor = "multi_thread")]
async fn a_shared_sweep_asks_the_others_before_it_announces() {
    let (ours, theirs, with) = shared().await;
    let (held, place) = rowbound(&ours).held_at("searched");
    let running = held.spawn(&["sweep", "--delete", "--max-share", "1", "--with", &with, "--format", "json"]);
    place.reached(&running, DEADLINE).await;
    theirs.db.exec("insert into doc (file) values ('orphan/1.jpg')").await;
    place.let_go();
    let report = storage(&running.wait(DEADLINE).await.expect(1));
    assert_eq!(["/orphans/files", "/announced"].map(|f| count(&report, f)), [2, 1], "{report:#}");
    rowbound(&ours).run(&["collect"]).await.expect(0);
    assert!(ours.is_there("orphan/1.jpg") && !ours.is_there("orphan/2.jpg"), "{:?}", ours.files());
}

/// A database that is attached while a sweep is under way.
#[tokio::test(flavor = "multi_thread")]
async fn a_shared_sweep_notices_an_installation_that_came() {
    let (ours, _theirs, with) = shared().await;
    let mut third = World::new(Backend::Sqlite).await.with_docs().await;
    third.storage = ours.storage.clone();
    third.db.exec("insert into doc (file) values ('orphan/1.jpg')").await;
    let (held, place) = rowbound(&ours).held_at("searched");
    let running = held.spawn(&["sweep", "--delete", "--max-share", "1", "--with", &with]);
    place.reached(&running, DEADLINE).await;
    rowbound(&third).run(&["attach", "--shared"]).await.expect(0);
    place.let_go();
    let stopped = running.wait(DEADLINE).await.expect(4);
    assert!(stopped.stderr.contains("another database uses this storage"), "{}", stopped.stderr);
    rowbound(&ours).run(&["collect"]).await.expect(0);
    assert!(ours.is_there("orphan/1.jpg") && ours.is_there("orphan/2.jpg"), "{:?}", ours.files());
}

/// L11: sorl's table is bound, so that its thumbnails live as long as their rows. The proposal is attached as it is.
#[tokio::test(flavor = "multi_thread")]
async fn sorls_thumbnails_live_as_long_as_their_rows() {
    let mut world = World::new(Backend::Sqlite).await;
    world.db.exec("create table product (id integer primary key, image varchar(100))").await;
    // <https://github.com/jazzband/sorl-thumbnail/blob/master/sorl/thumbnail/models.py>
    world.db.exec("create table thumbnail_kvstore (\"key\" varchar(200) primary key, value text not null)").await;
    for n in 0..10 {
        let (original, thumbnail) = (format!("products/{n}.jpg"), format!("cache/{n}a/{n}b/{n}abc.jpg"));
        world.put_file(&original, b"1");
        world.put_file(&thumbnail, b"1");
        world.db.exec(&format!("insert into product values ({n}, '{original}')")).await;
        for (key, name) in [(format!("o{n}"), &original), (format!("t{n}"), &thumbnail)] {
            let value = format!(r#"{{"name": "{name}", "storage": "django.core.files.storage.FileSystemStorage", "size": [100, 100]}}"#);
            world.db.exec(&format!("insert into thumbnail_kvstore values ('sorl-thumbnail||image||{key}', '{value}')")).await;
        }
        world.db.exec(&format!("insert into thumbnail_kvstore values ('sorl-thumbnail||thumbnails||o{n}', '[\"t{n}\"]')")).await;
    }
    let text = init(&mut world, 0).await;
    assert!(text.contains("column = \"thumbnail_kvstore.value\"\nkind = \"json\"\npath = \"$.name\""), "{text}");
    assert!(text.contains("preset `sorl`"), "{text}");
    rowbound(&world).run(&["attach"]).await.expect(0);
    rowbound(&world).run(&["sweep", "--delete"]).await.expect(0);
    world.db.exec("delete from thumbnail_kvstore where \"key\" like '%||t1' or \"key\" like '%||o1'").await;
    world.db.exec("delete from product where id = 1").await;
    rowbound(&world).run(&["collect"]).await.expect(0);
    rowbound(&world).run(&["sweep", "--delete"]).await.expect(0);
    rowbound(&world).run(&["collect"]).await.expect(0);
    assert_eq!(world.files().len(), 18, "{:?}", world.files());
    world.assert_files_follow_rows().await;
}

/// Runs `init`, and takes its proposal over as it stands.
async fn init(world: &mut World, status: i32) -> String {
    // The world's own configuration needs a binding to be one; init does not read it.
    world.bindings = vec![Binding::name("product.image", "default").expect("a column")];
    let (url, storage) = (world.db.url().to_owned(), format!("folder:{}", world.media().display()));
    let text = rowbound(world).run(&["init", "--database", &url, "--storage", &storage, "--output", "-"]).await.expect(status).stdout;
    let plan =
        rowbound::Plan::parse(&text, Path::new("/"), None, &|_| Some(url.clone())).unwrap_or_else(|e| panic!("{}\n{text}", e.full()));
    world.bindings = plan.bindings;
    world.ignore = plan.ignore;
    text
}

/// A Mac wrote the file, a browser the row: both show `é`.
#[tokio::test(flavor = "multi_thread")]
async fn two_normal_forms_of_one_name_are_shown_as_a_pair() {
    let world = World::new(Backend::Sqlite).await.with_docs().await;
    for n in 0..9 {
        world.put_doc(&format!("{n}.jpg")).await;
    }
    let (composed, decomposed) = ("caf\u{e9}.jpg", "cafe\u{301}.jpg");
    world.put_file(decomposed, b"1");
    world.db.exec(&format!("insert into doc (file) values ('{composed}')")).await;
    let said = rowbound(&world).run(&["sweep"]).await.expect(1).stdout;
    assert!(said.contains("(the row has U+00E9, the file U+0301)"), "{said}");
    let report = storage(&rowbound(&world).run(&["sweep", "--format", "json"]).await.expect(1));
    assert_eq!(count(&report, "/other_form"), 1, "{report:#}");
    assert_eq!(report["dangling_sample"][0]["file"], decomposed, "{report:#}");
}

/// A storage without a binding is left alone, and keeps no other one from its sweep.
#[tokio::test(flavor = "multi_thread")]
async fn a_storage_without_a_binding_ends_no_other_sweep() {
    let mut world = World::new(Backend::Sqlite).await.with_docs().await;
    let other = world.folder().join("other");
    std::fs::create_dir(&other).expect("a folder");
    world.others.push(StoragePlan::folder("another", &other));
    for n in 0..9 {
        world.put_doc(&format!("{n}.jpg")).await;
    }
    world.put_file("orphan.jpg", b"1");
    std::fs::write(other.join("a.jpg"), b"1").expect("a file");
    rowbound(&world).run(&["attach"]).await.expect(0);
    let swept = rowbound(&world).run(&["sweep", "--delete", "--format", "json"]).await.expect(1);
    assert_eq!(swept.json()["unbound"], serde_json::json!(["another"]));
    assert_eq!(count(&storage(&swept), "/announced"), 1);
    assert!(swept.stderr.contains("storage another was not swept"), "{}", swept.stderr);
    let refused = rowbound(&world).run(&["sweep", "--storage", "another"]).await.expect(2);
    assert!(refused.stderr.contains("every file would be an orphan"), "{}", refused.stderr);
}

macro_rules! on {
    ($($module:ident $backend:ident),*) => { $(
        mod $module {
            use super::*;

            #[tokio::test(flavor = "multi_thread")]
            async fn orphans_whose_names_stand_elsewhere_are_held() {
                names_elsewhere_are_held(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn a_shared_storage_is_swept_with_every_installation() {
                a_shared_storage_is_swept_with_all_references(Backend::$backend).await;
            }
        }
    )* };
}

on!(sqlite Sqlite, postgres Postgres, mariadb Mariadb, mysql Mysql);
