//! Columns that could hold names, and samples of them.

use std::time::Duration;

use rowbound::database::{
    Dialect,
    survey::{Class, OVERLAP, PIECE, TextColumn},
};

use super::{Fixture, ok};
use crate::Backend;

async fn columns(f: &Fixture) -> Vec<TextColumn> {
    ok(f.open().await.text_columns().await)
}

async fn column(f: &Fixture, name: &str) -> TextColumn {
    let all = columns(f).await;
    all.iter().find(|c| c.column.to_string() == name).unwrap_or_else(|| panic!("{name} is not among {all:?}")).clone()
}

/// Every column in which text can stand, and nothing of Rowbound's.
pub async fn text_columns_are_those_that_can_hold_names(f: &Fixture) {
    f.db.exec("create table kind (code varchar(20) primary key)").await;
    f.db.exec(
        "create table doc (id integer primary key, file varchar(255), body text, kind varchar(20), n integer, at timestamp, \
         foreign key (kind) references kind (code)); create index doc_file on doc (file)",
    )
    .await;
    f.db.exec("create view seen as select file from doc").await;
    if f.db.dialect() == Dialect::Postgres {
        f.db.exec(
            "create type address as (street text, plan text); \
             create table many (id int, tags text[], data jsonb, nums int[], own uuid, owned uuid[], place address, files bytea[]); \
             create table part (id int, f text) partition by range (id)",
        )
        .await;
        f.db.exec(
            "create table part_1 partition of part for values from (0) to (10); create schema other; create table other.doc (file text)",
        )
        .await;
    }
    let has_uuids = f.db.backend() != Backend::Mysql;
    if has_uuids {
        f.db.exec("create table unit (id integer primary key, u uuid)").await;
    }
    f.attach(&["doc.file"]).await;
    let named: Vec<_> = columns(f).await.iter().map(|c| c.column.to_string()).collect();
    let mut want = vec!["doc.file", "doc.body", "doc.kind", "kind.code"];
    if f.db.dialect() == Dialect::Postgres {
        want.extend(["many.tags", "many.data", "many.own", "many.owned", "many.place", "part.f", "other.doc.file"]);
        assert_eq!(column(f, "many.tags").await.class, Class::Array);
        assert_eq!(column(f, "many.data").await.class, Class::Json);
    }
    if has_uuids {
        want.push("unit.u");
        assert_eq!(column(f, "unit.u").await.class, Class::Text);
    }
    let sorted = |mut v: Vec<String>| {
        v.sort();
        v
    };
    assert_eq!(sorted(named), sorted(want.into_iter().map(str::to_owned).collect()));
    let (file, body, kind, code) =
        (column(f, "doc.file").await, column(f, "doc.body").await, column(f, "doc.kind").await, column(f, "kind.code").await);
    assert!(file.indexed && !body.indexed && kind.foreign_key && !file.foreign_key && code.key && !file.key);
}

/// Everything that [`rowbound::database::Columns::values`] reads of a column.
async fn whole(f: &Fixture, name: &str) -> Vec<Vec<u8>> {
    let column = column(f, name).await;
    let mut values = ok(f.open().await.values(&column).await);
    let mut all = Vec::new();
    loop {
        let page = ok(values.pages.recv().await.expect("it ends with a last page"));
        all.extend(page.values.into_iter().filter(|value| !value.is_empty()));
        if page.last {
            all.sort();
            return all;
        }
    }
}

/// Texts, JSON and BLOBs, in tables with and without a key, NULL and the empty value left out or empty.
pub async fn any_text_column_is_read_to_its_end(f: &Fixture) {
    let (blob, json) = match f.db.dialect() {
        Dialect::Sqlite => ("blob", "text"),
        Dialect::Postgres => ("bytea", "jsonb"),
        Dialect::Mysql => ("longblob", "json"),
    };
    f.db.exec(&format!("create table note (body text, data {json}, raw {blob})")).await;
    let bytes = if f.db.dialect() == Dialect::Postgres { "'\\x00ff612e6a7067'" } else { "x'00ff612e6a7067'" };
    let row = |n: usize| {
        let body = f.db.backend().literal(&format!("it's {n} é 😀.jpg"));
        let (data, raw) = if n.is_multiple_of(100) { (format!("'{{\"n\": {n}}}'"), bytes) } else { ("null".to_owned(), "null") };
        format!("({body}, {data}, {raw})")
    };
    for from in (0..2_500).step_by(500) {
        let rows: Vec<String> = (from..from + 500).map(row).collect();
        f.db.exec(&format!("insert into note values {}", rows.join(", "))).await;
    }
    f.db.exec("insert into note values ('', null, null), (null, null, null)").await;
    let mut wanted: Vec<Vec<u8>> = (0..2_500).map(|n| format!("it's {n} é 😀.jpg").into_bytes()).collect();
    wanted.sort();
    assert_eq!(whole(f, "note.body").await, wanted);
    assert_eq!(column(f, "note.raw").await.class, Class::Blob);
    assert_eq!(whole(f, "note.raw").await, vec![[0, 255, b'a', b'.', b'j', b'p', b'g'].to_vec(); 25]);
    let data = whole(f, "note.data").await;
    assert!(data.len() == 25 && data.iter().all(|v| String::from_utf8_lossy(v).replace(' ', "").starts_with("{\"n\":")), "{data:?}");
    if f.db.dialect() == Dialect::Postgres {
        f.db.exec(
            "create type address as (street text, plan text); create table many (tags text[], place address); \
             insert into many values ('{a.jpg,\"b c.jpg\"}', row('x y', 'plans/1.jpg'))",
        )
        .await;
        assert_eq!(whole(f, "many.tags").await, [b"{a.jpg,\"b c.jpg\"}".to_vec()]);
        assert_eq!(whole(f, "many.place").await, [b"(\"x y\",plans/1.jpg)".to_vec()]);
    }
    if f.db.backend() != Backend::Mysql {
        let uuid = "0b0c1a52-6a53-4b0e-9f6c-2f6f0a4a9d11";
        f.db.exec(&format!("create table unit (id integer primary key, u uuid); insert into unit values (1, '{uuid}'), (2, null)")).await;
        assert_eq!(whole(f, "unit.u").await, [uuid.as_bytes().to_vec()]);
        assert_eq!(ok(f.open().await.sample(&column(f, "unit.u").await, 10).await).values, [uuid]);
    }
    if f.db.dialect() == Dialect::Sqlite {
        // Called as a part of a statement might be.
        f.db.exec("create table page (v text); insert into page values ('x'); create table next (v text); insert into next values ('y')")
            .await;
        assert_eq!([whole(f, "page.v").await, whole(f, "next.v").await].concat(), [b"x".to_vec(), b"y".to_vec()]);
        f.db.exec("create table keyed (k text primary key, v text) without rowid; insert into keyed values ('a', 'x'), ('b', 'y')").await;
        assert_eq!(whole(f, "keyed.v").await, [b"x".to_vec(), b"y".to_vec()]);
    }
    let gone = column(f, "note.body").await;
    f.db.exec("drop table note").await;
    let database = f.open().await;
    if let Ok(mut values) = database.values(&gone).await {
        assert!(values.pages.recv().await.expect("an error").is_err(), "a table that is gone is no empty one");
    }
}

/// Values of a megabyte: each is read, a BLOB's beginning only.
pub async fn a_column_of_long_values_is_read_to_its_end(f: &Fixture) {
    let blob = match f.db.dialect() {
        Dialect::Sqlite => "blob",
        Dialect::Postgres => "bytea",
        Dialect::Mysql => "longblob",
    };
    let text = if f.db.dialect() == Dialect::Mysql { "longtext" } else { "text" };
    f.db.exec(&format!("create table long_one (id integer primary key, body {text}, raw {blob})")).await;
    let long = |id: usize| format!("{}{id}.jpg", "x".repeat(1_000_000));
    for id in 0..4 {
        let raw = match f.db.dialect() {
            Dialect::Postgres => format!("convert_to(repeat('y', {}), 'UTF8')", 1_000_000),
            Dialect::Sqlite => "cast(replace(hex(zeroblob(500000)), '0', 'y') as blob)".to_owned(),
            Dialect::Mysql => "repeat('y', 1000000)".to_owned(),
        };
        f.db.exec(&format!("insert into long_one values ({id}, '{}', {raw})", long(id))).await;
    }
    let bodies = whole(f, "long_one.body").await;
    assert!(bodies.iter().enumerate().all(|(id, body)| *body == long(id).into_bytes()) && bodies.len() == 4);
    let raws: Vec<usize> = whole(f, "long_one.raw").await.iter().map(Vec::len).collect();
    assert_eq!(raws, [1_000_000; 4]);
}

/// Values that are longer than a piece: all of them is read, and a name that lies across the end of a piece stands whole in the next.
pub async fn long_values_come_in_pieces(f: &Fixture) {
    let blob = match f.db.dialect() {
        Dialect::Sqlite => "blob",
        Dialect::Postgres => "bytea",
        Dialect::Mysql => "longblob",
    };
    let text = if f.db.dialect() == Dialect::Mysql { "longtext" } else { "text" };
    f.db.exec(&format!("create table long_two (id integer primary key, body {text}, raw {blob})")).await;
    let name = "held/in-pieces.jpg";
    let repeated = |letter: char, count: usize| match f.db.dialect() {
        // Zeros are written in pairs.
        Dialect::Sqlite => format!("replace(hex(zeroblob({})), '0', '{letter}')", count / 2),
        _ => format!("repeat('{letter}', {count})"),
    };
    let (before, after) = (repeated('x', PIECE - 6), repeated('y', PIECE));
    let value = match f.db.dialect() {
        Dialect::Mysql => format!("concat({before}, '{name}', {after})"),
        _ => format!("{before} || '{name}' || {after}"),
    };
    let raw = match f.db.dialect() {
        Dialect::Postgres => format!("convert_to({value}, 'UTF8')"),
        Dialect::Sqlite => format!("cast({value} as blob)"),
        Dialect::Mysql => value.clone(),
    };
    f.db.exec(&format!("insert into long_two values (1, {value}, {raw}), (2, 'short', null)")).await;
    let length = 2 * PIECE - 6 + name.len();
    for column in ["long_two.body", "long_two.raw"] {
        let mut pieces = whole(f, column).await;
        pieces.retain(|piece| piece != b"short");
        assert_eq!(pieces.len(), 3, "{column}");
        assert!(pieces.iter().all(|piece| piece.len() <= PIECE), "{column}");
        assert_eq!(pieces.iter().map(Vec::len).sum::<usize>(), length + 2 * OVERLAP, "{column}");
        let names = pieces.iter().filter(|piece| piece.windows(name.len()).any(|w| w == name.as_bytes())).count();
        assert_eq!(names, 1, "{column}");
    }
}

/// In a table of keys and values: the keys of those rows that have some values.
pub async fn what_stands_beside_a_value_is_told(f: &Fixture) {
    f.db.exec("create table setting (id integer primary key, name varchar(50), value text)").await;
    f.db.exec("insert into setting values (1, 'logo', 'a.jpg'), (2, 'logo', 'b.jpg'), (3, 'title', 'Home'), (4, null, 'a.jpg'), (5, 'icon', 'c.ico')").await;
    let (value, name) = (column(f, "setting.value").await, column(f, "setting.name").await);
    let database = f.open().await;
    let of = async |values: &[&str]| {
        let values: Vec<String> = values.iter().map(|v| (*v).to_owned()).collect();
        let mut told = ok(database.beside(&value, &name.column, &values, 10).await);
        told.sort();
        told
    };
    assert_eq!(of(&["a.jpg", "b.jpg"]).await, ["logo"]);
    assert_eq!(of(&["b.jpg", "c.ico"]).await, ["icon", "logo"]);
    assert_eq!(of(&["it's none"]).await, [""; 0]);
}

/// Distinct values, without NULL and the empty one, as many as asked for.
pub async fn a_sample_holds_distinct_values(f: &Fixture) {
    f.docs(&["a.jpg", "a.jpg", "", "é 😀.jpg", "it's \\ odd.jpg"]).await;
    f.db.exec("insert into doc values (9, null, 'x')").await;
    let database = f.open().await;
    let doc = column(f, "doc.file").await;
    let mut whole = ok(database.sample(&doc, 100).await);
    whole.values.sort();
    assert_eq!(whole.values, ["a.jpg", "it's \\ odd.jpg", "é 😀.jpg"]);
    assert!(!whole.partial);
    let part = ok(database.sample(&doc, 2).await);
    assert!(part.values.len() == 2 && part.partial, "{part:?}");
    if f.db.dialect() == Dialect::Postgres {
        f.db.exec("create table many (tags text[], data jsonb); insert into many values ('{a.jpg,\"b c.jpg\"}', '{\"x\": \"d.jpg\"}')")
            .await;
        assert_eq!(ok(database.sample(&column(f, "many.tags").await, 9).await).values, [r#"["a.jpg","b c.jpg"]"#]);
        assert_eq!(ok(database.sample(&column(f, "many.data").await, 9).await).values, [r#"{"x": "d.jpg"}"#]);
    }
}

/// Of a table that is too big to be read, values come from its beginning and its end, and what few rows have is found.
pub async fn a_sample_of_a_big_table_comes_from_everywhere(f: &Fixture) {
    f.db.exec("create table big (id integer primary key, file varchar(100), rare varchar(100), pad varchar(200))").await;
    f.db.exec("create index big_rare on big (rare)").await;
    for chunk in 0..30 {
        let rows: Vec<_> = (0..2000).map(|i| chunk * 2000 + i).map(|i| format!("({i}, '{i}.jpg', null, '{}')", "x".repeat(150))).collect();
        f.db.exec(&format!("insert into big values {}", rows.join(", "))).await;
    }
    f.db.exec("update big set rare = 'rare.jpg' where id = 41237").await;
    match f.db.dialect() {
        Dialect::Sqlite => {}
        Dialect::Postgres => f.db.exec("analyze big").await,
        Dialect::Mysql => drop(f.db.query_strings("analyze table big").await),
    }
    let database = f.open().await;
    let file = column(f, "big.file").await;
    assert!(file.rows > 20_000, "{}", file.rows);
    let sample = ok(database.sample(&file, 400).await);
    assert!(sample.partial && sample.values.len() > 90 && sample.values.len() <= 400, "{}", sample.values.len());
    let ids: Vec<i64> = sample.values.iter().map(|v| v.trim_end_matches(".jpg").parse().expect("a number")).collect();
    assert!(ids.iter().any(|i| *i < 20_000) && ids.iter().any(|i| *i > 40_000), "{ids:?}");
    assert_eq!(ok(database.sample(&column(f, "big.rare").await, 50).await).values, ["rare.jpg"]);
}

/// A table that somebody else holds is an error after a short while, and is not read as empty.
pub async fn a_sample_of_a_locked_table_is_an_error(f: &Fixture) {
    if f.db.dialect() == Dialect::Sqlite {
        return; // readers see what was committed last
    }
    f.docs(&["a.jpg"]).await;
    let doc = column(f, "doc.file").await;
    let database = f.open().await;
    let mut other = f.db.app().await;
    match f.db.dialect() {
        Dialect::Postgres => other.exec("begin; lock table doc in access exclusive mode").await,
        _ => other.exec("lock tables doc write").await,
    }
    let sampled = tokio::time::timeout(Duration::from_secs(15), database.sample(&doc, 9)).await.expect("it waits for the lock");
    assert!(sampled.is_err(), "{sampled:?}");
    other.close().await;
    assert_eq!(ok(database.sample(&doc, 9).await).values, ["a.jpg"]);
}

/// The clock of a database on this machine is this machine's.
pub async fn the_clock_is_read(f: &Fixture) {
    let database = f.open().await;
    let before = jiff::Timestamp::now();
    let now = ok(database.now().await);
    let (early, late) = (before - Duration::from_millis(5), jiff::Timestamp::now() + Duration::from_millis(5));
    assert!(early <= now && now <= late, "{early} {now} {late}");
}
