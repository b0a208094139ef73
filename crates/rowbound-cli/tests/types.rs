//! Column types and values: what capture reads out of a row that releases it, the check reads in another row that has the same. A property over every type of
//! every database and values at random, written by sessions whose settings are not Rowbound's.
//!
//! Each value is written into two rows. One is deleted: the name that was released must be held by the other, whatever it is. Then the other goes too: then the
//! file goes, which says that something was tested.

use std::collections::BTreeMap;

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use rowbound::{Binding, FileName};
use rowbound_testkit::{App, Backend, Rowbound, World};

const BINARY: &str = env!("CARGO_BIN_EXE_rowbound");

/// What an application's session may be set to.
fn settings(backend: Backend) -> &'static [&'static str] {
    match backend {
        Backend::Sqlite => &[],
        Backend::Postgres => &[
            "set timezone = 'Asia/Kolkata'",
            "set datestyle = 'sql, dmy'",
            "set intervalstyle = 'sql_standard'",
            "set extra_float_digits = -3",
            "set bytea_output = 'escape'",
            "set xmlbinary = 'hex'",
        ],
        Backend::Mariadb => {
            &["set time_zone = '+05:30'", "set sql_mode = 'ANSI_QUOTES,PAD_CHAR_TO_FULL_LENGTH'", "set character_set_connection = latin1"]
        }
        Backend::Mysql => &["set time_zone = '+05:30'", "set sql_mode = 'ANSI_QUOTES'"],
    }
}

/// Types that may be bound, each with the kinds of values that it is given.
fn types(backend: Backend) -> Vec<(&'static str, &'static [Of])> {
    use Of::*;
    const TEXT: &[Of] = &[Text, Number, Odd];
    match backend {
        // Any value may stand in any column, whatever its declared type.
        Backend::Sqlite => ["", "text", "varchar(60)", "integer", "real", "numeric", "blob", "boolean", "datetime", "json", "any"]
            .map(|t| (t, &[Text, Number, Real, Odd, Bytes, Time][..]))
            .into(),
        // The fourth is a domain.
        Backend::Postgres => {
            let mut all: Vec<(&str, &[Of])> = ["text", "varchar(60)", "char(30)", "label"].map(|t| (t, TEXT)).into();
            all.extend::<[(&str, &[Of]); 2]>([("bytea", &[Bytes]), ("uuid", &[Uuid])]);
            all
        }
        Backend::Mariadb | Backend::Mysql => {
            let mut all: Vec<(&str, &[Of])> = vec![
                ("varchar(60)", TEXT),
                ("varchar(60) character set latin1", TEXT),
                ("varchar(60) collate utf8mb4_bin", TEXT),
                ("varchar(60) character set ucs2", TEXT),
                ("char(30)", TEXT),
                ("text", TEXT),
                ("varbinary(60)", &[Text, Bytes, Odd]),
                ("blob", &[Text, Bytes, Odd]),
            ];
            if backend == Backend::Mariadb {
                // MariaDB's JSON is a text.
                all.extend::<[(&str, &[Of]); 3]>([("json", &[Json]), ("varchar(60) compressed", TEXT), ("uuid", &[Uuid])]);
            }
            all
        }
    }
}

/// Those that `attach` refuses: each could be read in two ways.
fn refused_types(backend: Backend) -> Vec<&'static str> {
    let mysql = [
        "bigint unsigned",
        "binary(12)",
        "bit(16)",
        "boolean",
        "date",
        "datetime(3)",
        "decimal(12, 3)",
        "double",
        "enum('a.jpg', 'B.JPG', '3')",
        "float",
        "int",
        "int(8) zerofill",
        "set('a.jpg', 'B.JPG', '3')",
        "time(2)",
        "timestamp(6) null",
        "year",
    ];
    match backend {
        Backend::Sqlite => Vec::new(),
        Backend::Postgres => [
            "bigint",
            "bit(8)",
            "boolean",
            "date",
            "double precision",
            "inet",
            "integer",
            "interval",
            "json",
            "jsonb",
            "kind", // an enum
            "money",
            "name",
            "numeric",
            "numeric(12, 3)",
            "oid",
            "real",
            "timestamp",
            "timestamptz",
            "xml",
        ]
        .into(),
        Backend::Mariadb => [&mysql[..], &["inet6"]].concat(),
        Backend::Mysql => [&mysql[..], &["json"]].concat(),
    }
}

/// A kind of values, as SQL literals.
#[derive(Debug, Clone, Copy)]
enum Of {
    Text,
    Odd,
    Number,
    Real,
    Bytes,
    Time,
    Json,
    Uuid,
}

fn value(of: Of, backend: Backend, rng: &mut StdRng) -> String {
    let pick = |rng: &mut StdRng, all: &[&str]| (*all.choose(rng).expect("some")).to_owned();
    let text = |rng: &mut StdRng, from: &[char], most: usize| {
        (0..rng.random_range(1..=most)).map(|_| *from.choose(rng).expect("some")).collect::<String>()
    };
    let hex = |bytes: &[u8]| {
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        if backend == Backend::Postgres { format!("'\\x{hex}'::bytea") } else { format!("x'{hex}'") }
    };
    match of {
        Of::Text => {
            let chars: Vec<char> = "aA.b/ _-é'\"%".chars().collect();
            backend.literal(&format!("{}{}", text(rng, &chars, 8), pick(rng, &["", ".jpg", " ", "  ", ".", "\u{301}"])))
        }
        Of::Odd => {
            let chars: Vec<char> = "aß\\ \t\n\u{1}\u{7f}ÅÅ\u{65e5}\u{fffd}".chars().collect();
            backend.literal(&text(rng, &chars, 8))
        }
        Of::Number => {
            let special = [
                "0",
                "-1",
                "42",
                "7",
                "2000",
                "'042'",
                "' 42'",
                "'42 '",
                "9007199254740993",
                "-9223372036854775808",
                "'4e2'",
                "'+5'",
                "'12:30'",
            ];
            if rng.random_bool(0.4) { pick(rng, &special) } else { rng.random_range(-40_000_i64..3_000_000).to_string() }
        }
        Of::Real => {
            let special =
                ["1.0", "0.1", "-0.0", "1e300", "1.5e-7", "123456789.125", "4.10", "1e15", "1e16", "0.30000000000000004", "3.4028235e38"];
            if rng.random_bool(0.5) { pick(rng, &special) } else { format!("{}", rng.random_range(-1e6..1e6) / 3.0_f64) }
        }
        Of::Bytes => {
            let bytes: Vec<u8> =
                (0..rng.random_range(1..12)).map(|_| if rng.random_bool(0.7) { rng.random_range(32..127) } else { rng.random() }).collect();
            hex(&bytes)
        }
        Of::Time => pick(
            rng,
            &[
                "'2026-11-29'",
                "'2026-03-04 05:06:07'",
                "'2026-03-04 05:06:07.891'",
                "'0001-02-03'",
                "'11:22:33'",
                "'2026-03-04 05:06:07+02'",
                "'1 day'",
                "'2026-10-25 02:30:00'",
            ],
        ),
        Of::Uuid => {
            let uuid = format!("{:032x}", rng.random::<u128>());
            let uuid = [&uuid[..8], &uuid[8..12], &uuid[12..16], &uuid[16..20], &uuid[20..]].join("-");
            backend.literal(&if rng.random_bool(0.3) { uuid.to_uppercase() } else { uuid })
        }
        Of::Json => pick(rng, &[r#"'"a.jpg"'"#, r#"'{"b": 1.0, "a": "x.jpg"}'"#, "'3'", r#"'"\u00e9.jpg"'"#, r#"'[ "x.jpg" ]'"#]),
    }
}

/// The names that wait in the queue, as the database has them.
async fn released(world: &World) -> Vec<FileName> {
    let hex = match world.db.backend() {
        Backend::Postgres => "encode(convert_to(value, 'UTF8'), 'hex')",
        _ => "hex(value)",
    };
    let rows = world.db.query_strings(&format!("select {hex} from {}", world.own_table("candidate"))).await;
    let bytes = |hex: String| (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("hex")).collect::<Vec<_>>();
    let mut names: Vec<_> =
        rows.into_iter().flatten().filter_map(|hex| FileName::parse(&String::from_utf8(bytes(hex)).ok()?).ok()).collect();
    names.sort();
    names.dedup();
    names
}

async fn every_type(backend: Backend, seed: u64, rounds: usize) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = World::new(backend).await;
    if backend == Backend::Postgres {
        world.db.exec("create domain label as varchar(60); create type kind as enum ('a.jpg', 'B.JPG', '3')").await;
    }
    let (types, refused) = (types(backend), refused_types(backend));
    for (n, kind) in types.iter().map(|(kind, _)| kind).chain(&refused).enumerate() {
        world.db.exec(&format!("create table t{n} (id integer primary key, v {kind})")).await;
    }
    let bind = |n: usize| Binding::name(&format!("t{n}.v"), "default").expect("a column");
    world.bindings.extend((0..types.len()).map(bind));
    // Always the same: once is enough.
    for (n, kind) in refused.iter().enumerate().filter(|_| seed == 1) {
        world.bindings.push(bind(types.len() + n));
        let said = Rowbound::new(BINARY, &world).run(&["attach"]).await.expect(2).stderr;
        assert!(said.contains(&format!("binding: t{}.v", types.len() + n)), "{kind}: {said}");
        world.bindings.pop();
    }
    let rowbound = Rowbound::new(BINARY, &world);
    rowbound.run(&["attach"]).await.expect(0);
    let mut app: App = world.db.app().await;
    for set in settings(backend) {
        app.exec(set).await;
    }
    // What was written, by its table and row.
    let mut written: BTreeMap<(usize, usize), String> = BTreeMap::new();
    for (n, (_, kinds)) in types.iter().enumerate() {
        for id in (0..2 * rounds).step_by(2) {
            let literal = value(*kinds.choose(&mut rng).expect("some"), backend, &mut rng);
            let both = format!("insert into t{n} values ({id}, {literal}), ({}, {literal})", id + 1);
            // What a type does not take says nothing.
            if app.try_exec(&both).await.is_ok() {
                written.insert((n, id), literal);
            }
        }
    }
    let tables: std::collections::BTreeSet<usize> = written.keys().map(|(n, _)| *n).collect();
    assert_eq!(tables.len(), types.len(), "seed {seed}: some type took no value: {tables:?}");
    let let_go = async |app: &mut App, last: bool| {
        for (i, (n, id)) in written.keys().enumerate() {
            let id = id + usize::from(last);
            let sql =
                if i % 2 == 0 { format!("delete from t{n} where id = {id}") } else { format!("update t{n} set v = null where id = {id}") };
            app.exec(&sql).await;
        }
    };
    let_go(&mut app, false).await;
    let names = released(&world).await;
    assert!(names.len() > tables.len() / 2, "seed {seed}: {names:?}");
    let mut put = Vec::new();
    for name in &names {
        // Some stand in each other's way: `a` and `a/b`.
        let path = world.media().join(name.as_str());
        if path.parent().is_some_and(|p| std::fs::create_dir_all(p).is_ok()) && std::fs::write(&path, "x").is_ok() {
            put.push(name.clone());
        }
    }
    let said = rowbound.run(&["collect"]).await;
    let lost: Vec<_> = put.iter().filter(|name| !world.media().join(name.as_str()).is_file()).collect();
    assert!(lost.is_empty(), "{backend}, seed {seed}: rows hold these names, and their files are gone: {lost:?}\nvalues: {written:?}");
    // What is no name is refused, and said.
    assert!(matches!(said.code, Some(0 | 1)), "{}{}", said.stdout, said.stderr);
    let_go(&mut app, true).await;
    rowbound.run(&["collect"]).await;
    let left: Vec<_> = put.iter().filter(|name| world.media().join(name.as_str()).is_file()).collect();
    assert!(left.is_empty(), "{backend}, seed {seed}: no row holds these names, and their files are there: {left:?}\nvalues: {written:?}");
}

macro_rules! on_each {
    ($($module:ident $backend:ident),*) => {$(
        mod $module {
            use super::*;

            #[tokio::test(flavor = "multi_thread")]
            async fn what_capture_reads_the_check_reads_too() {
                for seed in [1, rand::rng().random()] {
                    every_type(Backend::$backend, seed, 12).await;
                }
            }

            #[tokio::test(flavor = "multi_thread")]
            #[ignore = "soak"]
            async fn soak_what_capture_reads_the_check_reads_too() {
                for _ in 0..100 {
                    every_type(Backend::$backend, rand::rng().random(), 30).await;
                }
            }
        }
    )*};
}

on_each!(sqlite Sqlite, postgres Postgres, mariadb Mariadb, mysql Mysql);
