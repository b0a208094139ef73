//! What a value could mean holds a file, whatever it is read as; and which rows count. Each case is a loss that was seen with an application.

use std::{
    collections::{BTreeSet, HashSet},
    time::Duration,
};

use rowbound::{
    Binding, FileName, Names,
    binding::{Depth, JsonPath, Reading},
    capture::Installation,
    database::{ColumnScan, Dialect},
    evidence::values::values,
    references::{self, CheckDepth},
    storage::memory::Memory,
};

use super::{Attached, Fixture, ok, value};
use crate::World;

/// Which of `names` a check holds, at every value, and as deep as the column was seen to need.
async fn held(attached: &Attached, names: &[&str]) -> (BTreeSet<String>, Depth) {
    let names: Vec<FileName> = names.iter().map(|n| World::file_name(n)).collect();
    let mut record: Installation = attached.record.clone();
    for b in &attached.bound {
        record.values.insert(b.id, ok(values(&*attached.database, b, Duration::from_secs(60)).await));
    }
    let mut all = Vec::new();
    for depth in [CheckDepth::Whole, CheckDepth::Surveyed] {
        let found = ok(references::find(&*attached.database, &attached.bound, &record, "default", &names, depth).await);
        all.push(found.held.iter().map(ToString::to_string).collect::<BTreeSet<_>>());
    }
    assert_eq!(all[0], all[1], "a check that is as deep as the column needs finds the same");
    let depth = attached.bound.iter().map(|b| record.depth(b)).max().unwrap_or_default();
    (all.remove(0), depth)
}

/// Insists that each of `values` alone keeps the file of which it speaks, and no other one.
async fn each_holds(f: &Fixture, binding: &Binding, depth: Depth, values: &[(&str, &str)]) {
    f.docs(&[]).await;
    f.db.exec("create index doc_file on doc (file)").await;
    let attached = f.attach_bindings(vec![binding.clone()]).await;
    for (stands, name) in values {
        f.db.exec("delete from doc").await;
        f.db.exec(&format!("insert into doc values (1, {}, 'x'), (2, 'plain.jpg', 'x')", f.db.backend().literal(stands))).await;
        let (found, seen) = held(&attached, &[name, "other.jpg", "other/other.jpg"]).await;
        assert_eq!(found, BTreeSet::from([(*name).to_owned()]), "{stands:?} may mean {name:?} ({:?})", binding.reading);
        if binding.reading == Reading::Name {
            assert_eq!(seen, depth, "{stands:?}");
        }
    }
    f.db.exec("drop table doc").await;
    ok(attached.database.remove().await);
}

/// A URL's prefix before names that are not percent-encoded, and the other way round.
pub async fn a_url_holds_the_raw_and_the_decoded_name(f: &Fixture) {
    let values = [
        ("/files/100% cotton.jpg", "100% cotton.jpg"),
        ("/files/C# notes.pdf", "C# notes.pdf"),
        ("/files/what?.png", "what?.png"),
        ("/files/a%20b.png", "a%20b.png"),
        ("/files/a%20b.png", "a b.png"),
        ("/files/a%20b.png?v=1#x", "a b.png"),
        ("/files//d/x.jpg", "d/x.jpg"),
        ("/files/d//x.jpg", "d/x.jpg"),
        ("/files/a+b.png", "a b.png"),
        ("/files/a+b.png", "a+b.png"),
        ("/files/a%2Bb+c.png", "a+b c.png"),
        ("/files/plain.png", "plain.png"),
    ];
    each_holds(f, &ok(Binding::url("doc.file", "default", "/files/")), Depth::Whole, &values).await;
    let strip = |prefix: &str, bare| Reading::Raw { strip: vec![prefix.into()], prefixes: Vec::new(), bare };
    let raw = ok(Binding::name("doc.file", "default")).reading(strip("public://", false));
    for (stands, name) in [("public://a%20b.png", "a%20b.png"), ("public://C# notes.pdf", "C# notes.pdf"), ("public://d/x.png", "d/x.png")]
    {
        assert_eq!(raw.resolve(stands.as_bytes()), rowbound::binding::Resolved::Name(World::file_name(name)));
        each_holds(f, &raw, Depth::Whole, &[(stands, name)]).await;
    }
}

/// What looks like a URL or a path and stands under no prefix holds every part of it that could be a name.
pub async fn a_host_that_nobody_named_holds_its_file(f: &Fixture) {
    let values = [
        ("//old.example.org/uploads/d/x.jpg", "d/x.jpg"),
        ("https://OTHER.example.org:443/files/d/x.jpg?w=1", "d/x.jpg"),
        ("http://cdn.example.org/files/d/a%20b.jpg", "d/a b.jpg"),
        ("HTTPS://cdn.example.org/files/x.jpg", "x.jpg"),
        ("/srv/app/media/d/x.jpg", "d/x.jpg"),
    ];
    let url = ok(Binding::url("doc.file", "default", "https://cdn.example.org/files/"));
    each_holds(f, &url, Depth::Whole, &values).await;
    // Some rows of a column of URLs have the name alone.
    each_holds(f, &url, Depth::Whole, &[("d/x.jpg", "d/x.jpg"), ("./d/x.jpg", "d/x.jpg"), ("x.jpg", "x.jpg")]).await;
    each_holds(f, &ok(Binding::name("doc.file", "default")), Depth::Whole, &values).await;
}

/// Other spellings of one path, in a column of names. Those of a finite list are found by an index.
pub async fn another_spelling_of_a_name_holds_its_file(f: &Fixture) {
    let name = ok(Binding::name("doc.file", "default"));
    let nfc = "caf\u{e9}/x.jpg";
    let nfd = "cafe\u{301}/x.jpg";
    each_holds(
        f,
        &name,
        Depth::Spelled,
        &[("./d/x.jpg", "d/x.jpg"), (" d/x.jpg", "d/x.jpg"), ("d//x.jpg", "d/x.jpg"), (nfc, nfd), (nfd, nfc)],
    )
    .await;
    each_holds(
        f,
        &name,
        Depth::Whole,
        &[("/d/x.jpg", "d/x.jpg"), ("///d/x.jpg", "d/x.jpg"), ("d/./x.jpg", "d/x.jpg"), ("d/x.jpg?v=2", "d/x.jpg")],
    )
    .await;
    each_holds(f, &name, Depth::Plain, &[("d/x.jpg", "d/x.jpg"), ("plain.jpg", "plain.jpg")]).await;
}

/// A name that is in neither normal form, and, where names are keys, a key that is no path: a row that has the other writing holds it, at every depth.
pub async fn a_name_is_held_by_what_it_comes_to(f: &Fixture) {
    let keys = Binding { names: Names::Keys, ..ok(Binding::name("doc.file", "default")) };
    let key = |name: &str| FileName::key(name).unwrap_or_else(|why| panic!("{name:?} {why}"));
    f.docs(&[]).await;
    let attached = f.attach_bindings(vec![keys]).await;
    let (mixed, composed) = ("\u{e9}/e\u{301}.jpg", "\u{e9}/\u{e9}.jpg");
    for (stands, name) in [
        ("a/b.jpg", "/a/b.jpg"),
        ("./a/b.jpg", "/a/b.jpg"),
        ("/a/b.jpg", "./a/b.jpg"),
        ("/a/b.jpg", "a/b.jpg"),
        ("a/b.jpg", "a//b.jpg"),
        (composed, mixed),
        (mixed, composed),
    ] {
        f.db.exec("delete from doc").await;
        f.db.exec(&format!("insert into doc values (1, {}, 'x')", f.db.backend().literal(stands))).await;
        let mut record = attached.record.clone();
        record.values.insert(attached.bound[0].id, ok(values(&*attached.database, &attached.bound[0], Duration::from_secs(60)).await));
        for depth in [CheckDepth::Whole, CheckDepth::Surveyed] {
            let names = [key(name), key("other.jpg"), key("/other.jpg")];
            let found = ok(references::find(&*attached.database, &attached.bound, &record, "default", &names, depth).await);
            assert_eq!(found.held, HashSet::from([key(name)]), "{stands:?} may mean {name:?} ({depth:?})");
            assert!(found.otherwise.contains_key(&key(name)));
        }
    }
}

/// In a column of names or URLs a value that is something else holds whatever it mentions, as in a column of texts.
pub async fn a_value_that_is_no_single_name_holds_what_it_mentions(f: &Fixture) {
    let values = [
        (r#"["d/x.jpg"]"#, "d/x.jpg"),
        ("['d/x.jpg']", "d/x.jpg"),
        ("d/y.jpg,d/x.jpg", "d/x.jpg"),
        ("d/x.jpg; d/y.jpg", "d/x.jpg"),
        ("- d/y.jpg\n- d/x.jpg", "d/x.jpg"),
        (r#"a:1:{s:1:"f";s:7:"d/x.jpg";}"#, "d/x.jpg"),
        (r#"<p><img src="/media/d/x.jpg"></p>"#, "d/x.jpg"),
        ("see ![x](/media/d/x.jpg)", "d/x.jpg"),
        ("background: url(/media/d/x.jpg)", "d/x.jpg"),
        (r#"[{"img":"https:\/\/h\/m\/d\/x.jpg"}]"#, "d/x.jpg"),
        ("https://s.example/t.php?src=d/x.jpg&w=6", "d/x.jpg"),
        ("https://s.example/_next/image?url=%2Fmedia%2Fd%2Fx.jpg&w=640&q=75", "d/x.jpg"),
    ];
    each_holds(f, &ok(Binding::name("doc.file", "default")), Depth::Whole, &values).await;
    each_holds(f, &ok(Binding::url("doc.file", "default", "/media/")), Depth::Whole, &values).await;
}

/// Where names are keys a value holds both readings, whatever lies under the other one.
pub async fn a_key_is_held_by_each_reading(f: &Fixture) {
    let keys = Binding { names: Names::Keys, ..ok(Binding::url("doc.file", "default", "/files/")) };
    let key = |name: &str| FileName::key(name).unwrap_or_else(|why| panic!("{name:?} {why}"));
    f.docs(&["/files/a%20b.png", "/files/C# notes.pdf"]).await;
    let attached = f.attach_bindings(vec![keys]).await;
    let place = format!("readings-{:016x}", rand::random::<u64>());
    let objects = ["a b.png", "a%20b.png", "C", "C# notes.pdf"].map(key);
    objects.iter().for_each(|name| Memory::at(&place).put(name, b"x"));
    let storage = Memory::new("default", &place, None);
    let found = ok(references::find(&*attached.database, &attached.bound, &attached.record, "default", &objects, CheckDepth::Whole).await);
    let held = found.looked_up(&storage).await.held;
    assert_eq!(held, HashSet::from(objects));
}

/// A path of JSON says what is released, and any mention of the name in the value holds it.
pub async fn json_holds_what_its_path_does_not_reach(f: &Fixture) {
    f.db.exec("create table doc (id integer primary key, file text)").await;
    let path = |path: &str| Reading::Json { path: ok(JsonPath::parse(path)), prefixes: Vec::new() };
    let attached = f.attach_bindings(vec![ok(Binding::name("doc.file", "default")).reading(path("$.root.children[*].src"))]).await;
    for (stands, name) in [
        (r#"{"root": {"children": [{"type": "gallery", "images": [{"src": "g/x.jpg"}]}]}}"#, "g/x.jpg"),
        (r#"[{"model": "a", "fields": {"image": "i/x.jpg"}}, {"model": "b", "fields": {"file": "f/x.jpg"}}]"#, "i/x.jpg"),
        (r#"[{"model": "a", "fields": {"image": "i/x.jpg"}}, {"model": "b", "fields": {"file": "f/x.jpg"}}]"#, "f/x.jpg"),
        (r#"{"html": "<img src=\"/media//g//x.jpg\">"}"#, "g/x.jpg"),
        ("{\"x\": \"cafe\u{301}/x.jpg\"}", "caf\u{e9}/x.jpg"),
    ] {
        f.db.exec("delete from doc").await;
        f.db.exec(&format!("insert into doc values (1, {})", f.db.backend().literal(stands))).await;
        let (found, _) = held(&attached, &[name, "other.jpg"]).await;
        assert_eq!(found, BTreeSet::from([name.to_owned()]), "{stands}");
    }
}

/// Only rows that `where` tells release and hold; one that leaves them releases.
pub async fn only_rows_that_count_release_and_hold(f: &Fixture) {
    f.db.exec("create table meta (id integer primary key, kind varchar(20), file varchar(200))").await;
    f.db.exec("insert into meta values (1, 'it''s', 'a.jpg'), (2, 'title', 'b.jpg'), (3, null, 'c.jpg'), (4, 'it''s', 'd.jpg'), (5, 'it''s', 'e.jpg')")
        .await;
    let attached = f.attach_bindings(vec![ok(Binding::name("meta.file", "default")).only("kind", "it's")]).await;
    let (found, _) = held(&attached, &["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"]).await;
    assert_eq!(found, ["a.jpg", "d.jpg", "e.jpg"].map(str::to_owned).into());
    let mut scanned = ok(attached.database.scan(&ColumnScan::of(&attached.bound[0])).await);
    let mut read = Vec::new();
    while let Some(page) = scanned.pages.recv().await {
        let page = ok(page);
        read.extend(page.values.into_iter().map(|v| String::from_utf8_lossy(&v).into_owned()));
        if page.last {
            break;
        }
    }
    read.sort();
    assert_eq!(read, ["a.jpg", "d.jpg", "e.jpg"]);
    let holders = ok(attached.database.holders(&attached.search(&["a.jpg", "b.jpg"]), 10).await);
    assert_eq!(holders.len(), 1, "{holders:?}");

    f.db.exec("update meta set file = 'x.jpg' where id = 2").await;
    assert!(attached.values().await.is_empty(), "its row does not count");
    f.db.exec("update meta set file = 'f.jpg' where id = 1").await;
    assert_eq!(attached.values().await, ["a.jpg"]);
    f.db.exec("update meta set kind = 'title' where id = 4").await;
    assert_eq!(attached.values().await, ["d.jpg"], "it left the rows that count");
    f.db.exec("update meta set kind = 'it''s' where id = 2").await;
    assert!(attached.values().await.is_empty());
    f.db.exec("delete from meta").await;
    assert_eq!(attached.values().await, ["e.jpg", "f.jpg", "x.jpg"]);
    f.db.exec("alter table meta rename column kind to sort").await;
    assert_ne!(attached.snapshot().await, attached.record.snapshot, "the other column is gone");
    f.db.exec("insert into meta values (9, 'it''s', 'z.jpg'); update meta set file = 'y.jpg'; delete from meta").await;
}

/// Serialized bytes: the length of a string stands before a name, and the tag of what follows behind it; each may be a letter or a digit.
pub async fn a_length_byte_hides_no_name(f: &Fixture) {
    let is_postgres = f.db.dialect() == Dialect::Postgres;
    f.db.exec(&format!("create table task (id integer primary key, args {})", if is_postgres { "bytea" } else { "blob" })).await;
    let name = "documents/2024/03/annual-report-final-version.pdf";
    let names = [World::file_name(name)];
    let scan = rowbound::binding::Scan::new(&Reading::Array { prefixes: Vec::new() }, &names);
    let database = f.open().await;
    let columns = ok(database.text_columns().await);
    let column = columns.iter().find(|c| c.column.to_string() == "task.args").expect("a column of bytes");
    // pickle, protobuf with the fields 2 and 6, protobuf with field 1 alone, MessagePack.
    for (before, after) in [("8004958c0466696c65948c31", "94732e"), ("1231", "320178"), ("0a31", ""), ("82a466696c65d931", "a16e31")] {
        let name: String = name.bytes().map(|b| format!("{b:02x}")).collect();
        let hex = format!("{before}{name}{after}");
        let literal = if is_postgres { format!("'\\x{hex}'::bytea") } else { format!("x'{hex}'") };
        f.db.exec(&format!("delete from task; insert into task values (1, {literal})")).await;
        let mut values = ok(database.values(column).await);
        let mut held = BTreeSet::new();
        loop {
            let page = ok(values.pages.recv().await.expect("it ends with a last page"));
            for value in &page.values {
                scan.held(value, |name, _| {
                    held.insert(name.clone());
                });
            }
            if page.last {
                break;
            }
        }
        assert_eq!(held, BTreeSet::from(names.clone()), "{before} {after}");
    }
}

/// Bytes are names as UTF-8, and a UUID is its text. Bytes that are no text never fail the application's statement.
pub async fn bytes_and_uuids_are_names(f: &Fixture) {
    let uuid = "0b0c1a52-6a53-4b0e-9f6c-2f6f0a4a9d11";
    let (bytes, id) = match f.db.dialect() {
        Dialect::Postgres => ("bytea", "uuid"),
        Dialect::Sqlite => ("blob", "uuid"),
        Dialect::Mysql => ("varbinary(100)", if f.db.backend() == crate::Backend::Mariadb { "uuid" } else { "char(36)" }),
    };
    let binary = |name: &str| {
        let hex: String = name.bytes().map(|b| format!("{b:02x}")).collect();
        if f.db.dialect() == Dialect::Postgres { format!("'\\x{hex}'::bytea") } else { format!("x'{hex}'") }
    };
    f.db.exec(&format!("create table doc (id integer primary key, b {bytes}, u {id})")).await;
    f.db.exec(&format!(
        "insert into doc values (1, {}, '{uuid}'), (2, {}, null), (3, {}, null)",
        binary("d/x.jpg"),
        binary("/d/é.jpg"),
        if f.db.dialect() == Dialect::Postgres { "'\\xff00'::bytea".to_owned() } else { "x'ff00'".to_owned() }
    ))
    .await;
    let attached = f.attach(&["doc.b", "doc.u"]).await;
    let (found, _) = held(&attached, &["d/x.jpg", "d/é.jpg", uuid, "other.jpg", "0b0c1a52"]).await;
    assert_eq!(found, ["d/x.jpg", "d/é.jpg", uuid].map(str::to_owned).into());
    f.db.exec("update doc set b = null where id = 1").await;
    assert_eq!(attached.values().await, ["d/x.jpg"]);
    f.db.exec("delete from doc").await;
    let released: Vec<String> = attached.released().await.iter().map(value).collect();
    assert!(released.contains(&"/d/é.jpg".to_owned()) && released.contains(&uuid.to_owned()), "{released:?}");
}
