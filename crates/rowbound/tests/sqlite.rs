//! What a connection of ours to SQLite is, whatever the application's pool sets in its own.

use std::{collections::HashSet, sync::Arc, time::Duration};

use rowbound::{
    Binding, FileName,
    capture::{Bound, Installation},
    database::{self, Database, Options},
    evidence::values::values,
    queue::Outcome,
    references::{self, CheckDepth},
};
use rowbound_testkit::{
    Journal, TestDb, World,
    database_suite::{Attached, Fixture, fresh_record, ok, settle_all},
    sessions::{left_alone, said_by_its_session},
};
use sqlx::{
    ConnectOptions,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions},
};

/// A pragma that our connections set: its name, what the application's pool has instead, and what a connection of ours says.
type Reset = (&'static str, &'static str, &'static str);

const RESET: &[Reset] = &[
    ("busy_timeout", "1234", "5000"),
    ("count_changes", "ON", "0"),
    ("empty_result_callbacks", "ON", "0"),
    ("foreign_keys", "ON", "0"),
    ("full_column_names", "ON", "0"),
    ("ignore_check_constraints", "ON", "0"),
    ("locking_mode", "EXCLUSIVE", "normal"),
    // Of the connection that reads a column from end to end, by which the test asks. The others write.
    ("query_only", "ON", "1"),
    ("read_uncommitted", "ON", "0"),
    ("reverse_unordered_selects", "ON", "0"),
    ("short_column_names", "OFF", "1"),
    ("synchronous", "OFF", "2"),
    ("writable_schema", "ON", "0"),
];

/// A check that is given up while it waits for the write lock: it gets the lock when the writer ends, and keeps nobody out with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_that_is_given_up_locks_nobody_out() {
    let f = Fixture::new(TestDb::sqlite(Journal::Wal).await);
    f.docs(&["a.jpg"]).await;
    let attached = f.attach(&["doc.file"]).await;
    let mut writer = f.db.app().await;
    for round in 0..5 {
        writer.begin().await;
        writer.exec(&format!("insert into doc (file) values ('{round}.jpg')")).await;
        let search = attached.search(&["a.jpg"]);
        let check = attached.database.check(&attached.bound, &attached.record.snapshot, &search);
        tokio::time::timeout(Duration::from_millis(100), check).await.expect_err("a writer has the lock");
        writer.commit().await;
        // Longer than SQLite sleeps between two of its own tries, so that the lock is had and given back.
        let mut other = f.db.app().await;
        for _ in 0..20 {
            other.begin().await;
            other.exec("update doc set file = file").await;
            other.commit().await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        other.close().await;
    }
}

/// A column's collation compares for the application. What a value could mean is told by its bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_columns_collation_hides_no_value() {
    for collation in ["rtrim", "nocase"] {
        let f = Fixture::new(TestDb::sqlite(Journal::Wal).await);
        f.db.exec(&format!("create table doc (id integer primary key, file text collate {collation}, kind text collate {collation})"))
            .await;
        let attached = f.attach_bindings(vec![ok(Binding::name("doc.file", "default")).only("kind", "image")]).await;
        f.db.exec("insert into doc values (1, 'a.jpg ', 'image'), (2, 'b.jpg', 'IMAGE'), (3, 'c.jpg', 'image  ')").await;
        let names: Vec<FileName> = ["a.jpg", "b.jpg", "c.jpg"].map(World::file_name).to_vec();
        // Without the lock, under which nobody could delete rows.
        let held =
            ok(references::find(&*attached.database, &attached.bound, &attached.record, "default", &names, CheckDepth::Whole).await).held;
        assert_eq!(held, HashSet::from([World::file_name("a.jpg")]), "{collation}");
        f.db.exec("delete from doc").await;
        let claimed = ok(attached.database.claim(&attached.claim()).await);
        assert_eq!(claimed.len(), 1, "{collation}: {claimed:?}");
    }
}

/// SQLite counts a lone byte of another encoding as one character, and shows nothing behind a NUL.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_no_text_hold_what_they_mention() {
    for prefix in ["", "/media/"] {
        let f = Fixture::new(TestDb::sqlite(Journal::Wal).await);
        f.db.exec("create table doc (id integer primary key, file)").await;
        let binding = if prefix.is_empty() { Binding::name("doc.file", "default") } else { Binding::url("doc.file", "default", prefix) };
        let attached = f.attach_bindings(vec![ok(binding)]).await;
        let names = [World::file_name("a.jpg")];
        // CBOR, MessagePack, Latin-1.
        for bytes in ["x'a16466696c6565612e6a7067'", "x'81a466696c65a5612e6a7067'", "x'636166e920612e6a7067'"] {
            for value in [bytes.to_owned(), format!("cast({bytes} as text)"), format!("'{prefix}x' || char(0) || '\"a.jpg'")] {
                f.db.exec("delete from doc").await;
                f.db.exec(&format!("insert into doc values (1, {value})")).await;
                let found = references::find(&*attached.database, &attached.bound, &attached.record, "default", &names, CheckDepth::Whole);
                assert_eq!(ok(found.await).held, HashSet::from(names.clone()), "{prefix} {value}");
            }
        }
    }
}

/// One that only the application knows: no statement of ours compares in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collation_that_only_the_application_knows_is_not_asked_for() {
    let f = Fixture::new(TestDb::sqlite(Journal::Wal).await);
    let connect: SqliteConnectOptions = f.db.url().parse().expect("a URL");
    let mut app = connect.collation("unicase", |a, b| a.to_lowercase().cmp(&b.to_lowercase())).connect().await.expect("a connection");
    sqlx::raw_sql("create table doc (id integer primary key, file text collate unicase, kind text collate unicase)")
        .execute(&mut app)
        .await
        .expect("a table");
    let attached = f.attach_bindings(vec![ok(Binding::name("doc.file", "default")).only("kind", "image")]).await;
    sqlx::raw_sql(
        "insert into doc values (1, 'a.jpg', 'image'), (2, '/b.jpg', 'image'), (3, 'c.jpg', 'image'); delete from doc where id = 3",
    )
    .execute(&mut app)
    .await
    .expect("rows");
    let names: Vec<FileName> = ["a.jpg", "b.jpg", "c.jpg"].map(World::file_name).to_vec();
    let find = async |record: &Installation| {
        ok(references::find(&*attached.database, &attached.bound, record, "default", &names, CheckDepth::Surveyed).await).held
    };
    let held: HashSet<FileName> = ["a.jpg", "b.jpg"].map(World::file_name).into();
    assert_eq!(find(&attached.record).await, held);
    let seen = ok(values(&*attached.database, &attached.bound[0], Duration::from_secs(20)).await);
    assert!(seen.complete && seen.values == 2, "{seen:?}");
    assert_eq!(ok(attached.database.claim(&attached.claim()).await).len(), 1);
}

/// A pool that connects with every odd pragma that [`RESET`] has.
async fn odd_pool(db: &TestDb) -> sqlx::SqlitePool {
    let connect: SqliteConnectOptions =
        ok(db.url().parse().map_err(|e: sqlx::Error| rowbound::Error::new(rowbound::Kind::Config, e.to_string())));
    // One connection that locks the file for itself would keep everybody out, us too.
    let connect = RESET.iter().filter(|(name, ..)| *name != "locking_mode").fold(connect, |c, (name, odd, _)| c.pragma(*name, *odd));
    SqlitePoolOptions::new().max_connections(2).connect_with(connect).await.expect("a pool")
}

/// A pragma that no list knows makes this fail, and somebody has to look at it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_pragma_is_known() {
    let f = Fixture::new(TestDb::sqlite(Journal::Wal).await);
    f.docs(&["a.jpg", "b.jpg"]).await;
    let pool = odd_pool(&f.db).await;
    let each: Vec<_> = RESET.iter().map(|(name, ..)| format!("select '{name}=' || (select * from pragma_{name}) as n")).collect();
    for database in [ok(database::open(f.db.url(), &Options::default()).await), ok(database::beside(&pool, &Options::default()).await)] {
        let found = said_by_its_session(&*database, &each.join(" union all ")).await;
        let wrong: Vec<_> = RESET
            .iter()
            .filter(|(name, _, ours)| found.get(*name).is_none_or(|is| is != ours))
            .map(|(name, ..)| (name, found.get(*name)))
            .collect();
        assert!(wrong.is_empty(), "of a connection of ours: {wrong:?}");
        let all = said_by_its_session(&*database, "select name || '=' from pragma_pragma_list").await;
        let known: Vec<_> =
            RESET.iter().map(|(name, ..)| (*name).to_owned()).chain(left_alone(include_str!("sqlite/pragmas.txt"), "sqlite")).collect();
        let new: Vec<_> = all.keys().filter(|name| !known.contains(name)).collect();
        assert!(
            all.len() > 50 && new.is_empty(),
            "pragmas that nobody has looked at: {new:?}. One that changes which rows come is set in sqlite/session.rs, any other is listed in sqlite/pragmas.txt"
        );
        database.close().await;
    }
}

/// Nothing of it is in our way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_with_odd_pragmas_is_as_good_as_any() {
    let f = Fixture::new(TestDb::sqlite(Journal::Wal).await);
    f.docs(&["a.jpg", "b.jpg", "a.jpg"]).await;
    let pool = odd_pool(&f.db).await;
    let database: Arc<dyn Database> = ok(database::beside(&pool, &Options::default()).await);
    let bound = vec![Bound { id: 1, binding: ok(Binding::name("doc.file", "default")) }];
    let record = ok(database.install(&bound, &fresh_record(&*database, &bound).await).await);
    let a = Attached { record, database, bound };
    f.db.exec("delete from doc where id < 3").await;
    let claimed = ok(a.database.claim(&a.claim()).await);
    assert_eq!(claimed.len(), 2);
    assert_eq!(a.found(&["a.jpg", "b.jpg"]).await, ["a.jpg"]);
    assert_eq!(ok(a.database.settle(&settle_all(&claimed, Outcome::Kept), None).await), 2);
    a.database.close().await;
    pool.close().await;
}
