//! The kit itself: what it promises to other tests.

use std::time::Duration;

use rowbound::{Binding, database::Dialect};
use rowbound_testkit::{Backend, Journal, OwnServer, Rowbound, S3Kind, S3Server, TestDb, World, database_suite::EVENTS, wait_until};

const DEADLINE: Duration = Duration::from_secs(30);

macro_rules! on_every_database {
    ($($name:ident)*) => {
        mod sqlite { $(#[tokio::test] async fn $name() { super::$name(rowbound_testkit::Backend::Sqlite).await })* }
        mod postgres { $(#[tokio::test] async fn $name() { super::$name(rowbound_testkit::Backend::Postgres).await })* }
        mod mariadb { $(#[tokio::test] async fn $name() { super::$name(rowbound_testkit::Backend::Mariadb).await })* }
    };
}

on_every_database! {
    events_run_without_capture
    a_database_is_empty_and_goes
    a_copy_holds_the_rows
    users_and_schemas_go_with_the_database
    a_transaction_stays_open
    the_schema_tells_every_change
    leaks_and_losses_are_told
}

/// So a failing event is the fault of capture and not of its SQL.
async fn events_run_without_capture(backend: Backend) {
    for event in EVENTS {
        let (schema, act) = (event.schema.get(backend.dialect()), event.act.get(backend.dialect()));
        if !schema.is_empty() && !act.is_empty() {
            let db = TestDb::new(backend).await;
            db.exec(schema).await;
            if let Err(e) = db.try_exec(act).await {
                panic!("{}: {e}\n{act}", event.name);
            }
        }
    }
}

async fn a_database_is_empty_and_goes(backend: Backend) {
    let db = TestDb::new(backend).await;
    assert!(db.triggers().await.is_empty());
    let url = db.url().to_owned();
    db.exec(&format!("create table t (id {})", backend.id_column())).await;
    drop(db);
    if backend == Backend::Sqlite {
        assert!(!std::path::Path::new(url.strip_prefix("sqlite:").unwrap()).exists());
    } else {
        let other = TestDb::new(backend).await;
        let name = url.rsplit('/').next().unwrap();
        let list = match backend.dialect() {
            Dialect::Postgres => format!("select datname from pg_database where datname = '{name}'"),
            _ => format!("select schema_name from information_schema.schemata where schema_name = '{name}'"),
        };
        assert!(other.query_strings(&list).await.is_empty());
    }
}

async fn a_copy_holds_the_rows(backend: Backend) {
    let db = TestDb::new(backend).await;
    db.exec("create table doc (id integer primary key, file varchar(50)); insert into doc values (1, 'a.jpg'), (2, null)").await;
    let copy = db.copy().await;
    assert_ne!(copy.url(), db.url());
    db.exec("delete from doc").await;
    assert_eq!(copy.query_strings("select file from doc order by id").await, [Some("a.jpg".to_owned()), None]);
}

async fn users_and_schemas_go_with_the_database(backend: Backend) {
    let db = TestDb::new(backend).await;
    db.exec("create table doc (id integer primary key); create table secret (id integer primary key)").await;
    let (user, schema) = (db.app_with(&["grant select on doc"]).await, db.second_schema().await);
    let (Some(mut user), Some(schema)) = (user, schema) else {
        assert_eq!(backend, Backend::Sqlite);
        return;
    };
    user.exec("select * from doc").await;
    assert!(user.try_exec("select * from secret").await.is_err());
    db.exec(&format!("create table {schema}.doc (id integer primary key)")).await;
    user.close().await;
    drop(db);
    let other = TestDb::new(backend).await;
    let query = format!("select schema_name from information_schema.schemata where schema_name = '{schema}'");
    assert!(other.query_strings(&query).await.is_empty());
}

async fn a_transaction_stays_open(backend: Backend) {
    let db = TestDb::new(backend).await;
    db.exec("create table doc (id integer primary key)").await;
    let mut app = db.app().await;
    app.begin().await;
    app.exec("insert into doc values (1)").await;
    assert!(db.query_strings("select id from doc").await.is_empty());
    app.commit().await;
    assert_eq!(db.query_strings("select id from doc").await, [Some("1".to_owned())]);
    app.begin().await;
    app.exec("delete from doc").await;
    app.rollback().await;
    assert_eq!(db.query_strings("select id from doc").await.len(), 1);
}

async fn the_schema_tells_every_change(backend: Backend) {
    let db = TestDb::new(backend).await;
    let mut before = db.schema().await;
    let trigger = match backend.dialect() {
        Dialect::Sqlite => "create trigger x after delete on doc begin select 1; end",
        Dialect::Postgres => {
            "create function x() returns trigger language plpgsql as 'begin return null; end';
             create trigger x after delete on doc for each row execute function x()"
        }
        Dialect::Mysql => "create trigger x after delete on doc for each row set @x = 1",
    };
    for ddl in [
        "create table doc (id integer primary key)",
        "alter table doc add column file varchar(50)",
        "create index i on doc (file)",
        trigger,
    ] {
        db.exec(ddl).await;
        let now = db.schema().await;
        assert_ne!(now, before, "{ddl}");
        before = now;
    }
    assert_eq!(db.triggers().await, [("x".to_owned(), "doc".to_owned())]);
    db.drop_trigger("x", "doc").await;
    assert!(db.triggers().await.is_empty());
}

async fn leaks_and_losses_are_told(backend: Backend) {
    let world = World::new(backend).await.with_docs().await;
    world.put_doc("a/ü'\\.jpg").await;
    world.assert_files_follow_rows().await;
    world.put_file(".rowbound/storage.json", b"{}");
    world.put_file(".rowbound/trash/x", b"");
    assert_eq!(world.files(), ["a/ü'\\.jpg"]);
    assert_eq!(world.trashed(), ["trash/x"]);
    world.put_file("leaked.jpg", b"");
    world.db.exec("insert into doc (file) values ('lost.jpg')").await;
    let told = tokio::spawn(async move { world.assert_files_follow_rows().await }).await.unwrap_err().into_panic();
    let told = told.downcast::<String>().unwrap();
    assert!(told.contains("leaked.jpg") && told.contains("lost.jpg") && !told.contains("a/"), "{told}");
}

#[tokio::test]
async fn sqlite_has_the_journal_asked_for() {
    for (journal, mode) in [(Journal::Wal, "wal"), (Journal::Rollback, "delete")] {
        let db = TestDb::sqlite(journal).await;
        assert_eq!(db.query_strings("pragma journal_mode").await, [Some(mode.to_owned())]);
    }
}

async fn own_server(backend: Backend) {
    let server = OwnServer::start(backend);
    let db = TestDb::on(server.server()).await;
    db.exec("create table doc (id integer primary key); insert into doc values (1)").await;
    server.kill();
    assert!(db.try_exec("select 1").await.is_err(), "a killed server answers nobody");
    server.start_again();
    assert_eq!(db.app().await.query_strings("select id from doc").await, [Some("1".to_owned())]);
    server.restart();
    assert_eq!(db.app().await.query_strings("select id from doc").await, [Some("1".to_owned())]);
}

#[tokio::test]
async fn postgres_own_server_can_be_killed_and_restarted() {
    own_server(Backend::Postgres).await;
}

#[tokio::test]
async fn mariadb_own_server_can_be_killed_and_restarted() {
    own_server(Backend::Mariadb).await;
}

#[tokio::test]
async fn a_process_is_watched_and_killed() {
    let world = World::new(Backend::Sqlite).await.bind(Binding::name("doc.file", "default").unwrap());
    let shell = Rowbound::new("/bin/sh", &world).env("GREETING", "ready");
    let out = shell.run(&["-c", "cat \"$1\"; echo talk >&2; exit 4"]).await.expect(4);
    assert!(out.stdout.contains("column = \"doc.file\"") && out.stderr == "talk\n", "{out:?}");

    let running = shell.spawn(&["-c", "echo $GREETING; exec sleep 600"]);
    running.wait_for_line("ready", DEADLINE).await;
    running.kill();
    assert_eq!(running.wait(DEADLINE).await.signal, Some(9));

    let running = shell.spawn(&["-c", "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done"]);
    running.wait_for_line("ready", DEADLINE).await;
    running.terminate();
    assert_eq!(running.wait(DEADLINE).await.expect(0).stdout, "ready\nbye\n");
}

#[tokio::test]
#[should_panic(expected = "in vain: pigs fly")]
async fn waiting_ends() {
    wait_until(Duration::from_millis(30), "pigs fly", async || false).await;
}

macro_rules! on_every_s3 {
    ($($name:ident)*) => {
        mod s3s_fs { $(#[tokio::test] async fn $name() { super::$name(rowbound_testkit::S3Kind::S3sFs).await })* }
        mod moto { $(#[tokio::test] async fn $name() { super::$name(rowbound_testkit::S3Kind::Moto).await })* }
        mod garage { $(#[tokio::test] async fn $name() { super::$name(rowbound_testkit::S3Kind::Garage).await })* }
    };
}

on_every_s3! {
    a_bucket_is_empty_and_keeps_its_objects
    an_s3_server_can_be_killed_and_restarted
}

async fn a_bucket_is_empty_and_keeps_its_objects(kind: S3Kind) {
    let server = S3Server::start(kind);
    let (bucket, other) = (server.bucket().await, server.bucket().await);
    assert_eq!(bucket.keys("").await, [""; 0]);
    bucket.put("a/1 b.jpg", b"one").await;
    bucket.put("a/2", b"").await;
    assert_eq!(bucket.get("a/1 b.jpg").await.as_deref(), Some(&b"one"[..]));
    assert_eq!((bucket.get("a/2").await, bucket.get("a/3").await), (Some(Vec::new()), None));
    assert_eq!(bucket.keys("a/1").await, ["a/1 b.jpg"]);
    assert_eq!(other.keys("").await, [""; 0]);
    bucket.delete("a/2").await;
    bucket.delete("a/3").await;
    assert_eq!(bucket.keys("").await, ["a/1 b.jpg"]);
    let url = bucket.url("media/");
    assert_eq!(rowbound::plan::Location::parse(&url, std::path::Path::new("")).unwrap(), bucket.location("media/"));
}

async fn an_s3_server_can_be_killed_and_restarted(kind: S3Kind) {
    let server = S3Server::start(kind);
    let bucket = server.bucket().await;
    bucket.put("a", b"one").await;
    for end in [S3Server::kill, S3Server::stop] {
        end(&server);
        let refused = bucket.client().head_object().bucket(bucket.name()).key("a").send().await;
        assert!(refused.unwrap_err().raw_response().is_none(), "somebody answered");
        server.start_again();
        if kind.keeps_data() {
            assert_eq!(bucket.get("a").await.as_deref(), Some(&b"one"[..]));
        } else {
            assert_eq!(bucket.get("a").await, None);
        }
    }
}

#[tokio::test]
async fn moto_keeps_versions() {
    let server = S3Server::start(S3Kind::Moto);
    let bucket = server.versioned_bucket().await;
    for (key, bytes) in [("a", b"1"), ("a", b"2"), ("b", b"3")] {
        bucket.put(key, bytes).await;
    }
    bucket.delete("a").await;
    let versions = bucket.versions("").await;
    let short: Vec<_> = versions.iter().map(|v| (v.key.as_str(), v.latest, v.marker)).collect();
    assert_eq!(short, [("a", true, true), ("a", false, false), ("a", false, false), ("b", true, false)]);
    assert_eq!((bucket.get("a").await, bucket.keys("").await), (None, vec!["b".to_owned()]));
}

#[tokio::test]
async fn s3s_fs_checks_signatures() {
    let server = S3Server::start(S3Kind::S3sFs);
    let bucket = server.bucket().await;
    let wrong = aws_sdk_s3::config::Credentials::new(server.access_key(), "another secret", None, None, "test");
    let config = bucket.client().config().to_builder().credentials_provider(wrong).build();
    let refused = aws_sdk_s3::Client::from_conf(config).list_objects_v2().bucket(bucket.name()).send().await.unwrap_err();
    assert_eq!(refused.raw_response().map(|r| r.status().as_u16()), Some(403));
}
