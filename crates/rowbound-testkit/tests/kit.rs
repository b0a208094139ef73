//! The kit itself: what it promises to other tests.

use std::time::Duration;

use rowbound::{Binding, database::Dialect};
use rowbound_testkit::{
    Ask, Backend, Fault, FaultProxy, Journal, OwnServer, Rowbound, Rule, S3Bucket, S3Kind, S3Server, TestDb, World, database_suite::EVENTS,
    wait_until,
};

const DEADLINE: Duration = Duration::from_secs(30);

macro_rules! on_every_database {
    ($($name:ident)*) => {
        mod sqlite { $(#[tokio::test] async fn $name() { super::$name(rowbound_testkit::Backend::Sqlite).await })* }
        mod postgres { $(#[tokio::test] async fn $name() { super::$name(rowbound_testkit::Backend::Postgres).await })* }
        mod mariadb { $(#[tokio::test] async fn $name() { super::$name(rowbound_testkit::Backend::Mariadb).await })* }
        mod mysql { $(#[tokio::test] async fn $name() { super::$name(rowbound_testkit::Backend::Mysql).await })* }
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
async fn mysql_own_server_can_be_killed_and_restarted() {
    own_server(Backend::Mysql).await;
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
    a_fault_proxy_passes_everything_on
    a_fault_proxy_answers_and_cuts_as_it_is_told
    a_fault_proxy_takes_a_deletion_of_many_apart
    a_fault_proxy_goes_down_and_holds
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

/// The application's way to a bucket, through a proxy.
struct Through {
    server: S3Server,
    proxy: FaultProxy,
    bucket: S3Bucket,
    client: aws_sdk_s3::Client,
}

impl Through {
    async fn new(kind: S3Kind) -> Through {
        let server = S3Server::start(kind);
        let proxy = FaultProxy::to_s3(&server);
        let bucket = server.bucket().await;
        let config = bucket.client().config().to_builder().endpoint_url(proxy.endpoint()).build();
        Through { client: aws_sdk_s3::Client::from_conf(config), server, proxy, bucket }
    }

    /// The status of an answer, or `None` if there was none.
    async fn put(&self, key: &str) -> Option<u16> {
        let body = aws_sdk_s3::primitives::ByteStream::from(key.as_bytes().to_vec());
        match self.client.put_object().bucket(self.bucket.name()).key(key).body(body).send().await {
            Ok(_) => Some(200),
            Err(e) => e.raw_response().map(|r| r.status().as_u16()),
        }
    }

    /// The same for a look.
    async fn head(&self, key: &str) -> Option<u16> {
        match self.client.head_object().bucket(self.bucket.name()).key(key).send().await {
            Ok(_) => Some(200),
            Err(e) => e.raw_response().map(|r| r.status().as_u16()),
        }
    }

    async fn get(&self, key: &str) -> Result<Vec<u8>, String> {
        let found = self.client.get_object().bucket(self.bucket.name()).key(key).send().await.map_err(|e| format!("{e:?}"))?;
        found.body.collect().await.map(|b| b.to_vec()).map_err(|e| e.to_string())
    }
}

async fn a_fault_proxy_passes_everything_on(kind: S3Kind) {
    let t = Through::new(kind).await;
    assert_eq!(t.put("a/ü b+c.jpg").await, Some(200));
    assert_eq!(t.get("a/ü b+c.jpg").await.unwrap(), "a/ü b+c.jpg".as_bytes());
    let head = t.client.head_object().bucket(t.bucket.name()).key("a/ü b+c.jpg").send().await.unwrap();
    assert_eq!(head.content_length(), Some(12), "a head has no body, but a length");
    assert_eq!(t.head("none").await, Some(404));
    let copy = t.client.copy_object().bucket(t.bucket.name()).key("b").copy_source(format!("{}/a/%C3%BC%20b%2Bc.jpg", t.bucket.name()));
    copy.send().await.unwrap();
    let page = t.client.list_objects_v2().bucket(t.bucket.name()).send().await.unwrap();
    assert_eq!(page.contents().len(), 2);
    t.client.delete_object().bucket(t.bucket.name()).key("b").send().await.unwrap();
    let many = aws_sdk_s3::types::Delete::builder();
    let one = aws_sdk_s3::types::ObjectIdentifier::builder().key("a/ü b+c.jpg").build().unwrap();
    t.client.delete_objects().bucket(t.bucket.name()).delete(many.objects(one).build().unwrap()).send().await.unwrap();
    assert_eq!(t.bucket.keys("").await, [""; 0]);
    let asked = [Ask::Head, Ask::Get, Ask::Put, Ask::Copy, Ask::Delete, Ask::DeleteMany, Ask::List];
    assert_eq!(asked.map(|ask| t.proxy.count(ask)), [2, 1, 1, 1, 1, 1, 1], "{:?}", t.proxy.counts());
    t.proxy.reset_counts();
    assert!(t.proxy.counts().is_empty());
    assert_eq!(t.server.kind(), kind);
}

async fn a_fault_proxy_answers_and_cuts_as_it_is_told(kind: S3Kind) {
    let t = Through::new(kind).await;
    // Every third, twice, of those that name a folder.
    t.proxy.rule(Rule::new(Fault::Answer(503)).on([Ask::Put]).path("/a/").every(3).times(2));
    let mut answers = Vec::new();
    for i in 0..9 {
        assert_eq!(t.put(&format!("b/{i}")).await, Some(200));
        answers.push(t.put(&format!("a/{i}")).await.unwrap());
    }
    assert_eq!(answers, [200, 200, 503, 200, 200, 503, 200, 200, 200]);
    assert_eq!((t.bucket.get("a/2").await, t.bucket.keys("a/").await.len()), (None, 7), "what is refused does not arrive");
    t.proxy.clear();
    for status in [403, 429, 500] {
        t.proxy.rule(Rule::new(Fault::Answer(status)).times(1).on([Ask::Head]));
        assert_eq!(t.head("a/0").await, Some(status));
    }
    t.proxy.clear();
    for (fault, arrives) in [(Fault::CutBefore, false), (Fault::CutAmid, false), (Fault::CutAfter, true)] {
        t.proxy.rule(Rule::new(fault.clone()).times(1).skip(1));
        assert_eq!(t.put("cut").await, Some(200), "{fault:?}");
        assert_eq!(t.put("fresh").await, None, "{fault:?}");
        t.proxy.clear();
        assert_eq!(t.bucket.get("fresh").await.is_some(), arrives, "{fault:?}");
        // A request without a body can be cut too.
        t.proxy.rule(Rule::new(fault.clone()));
        assert!(t.client.delete_object().bucket(t.bucket.name()).key("cut").send().await.unwrap_err().raw_response().is_none());
        t.proxy.clear();
        assert_eq!(t.bucket.get("cut").await.is_none(), arrives, "{fault:?}");
    }
    t.proxy.rule(Rule::new(Fault::Truncate(2)).on([Ask::Get]));
    assert!(t.get("a/0").await.is_err(), "a body that breaks off is no body");
    t.proxy.clear();
    t.proxy.rule(Rule::new(Fault::Truncate(40)).on([Ask::List]));
    assert!(t.client.list_objects_v2().bucket(t.bucket.name()).send().await.is_err());
    t.proxy.clear();
    t.proxy.rule(Rule::new(Fault::Delay(Duration::from_millis(200))));
    let begun = std::time::Instant::now();
    assert_eq!(t.head("a/0").await, Some(200));
    assert!(begun.elapsed() >= Duration::from_millis(200));
}

async fn a_fault_proxy_takes_a_deletion_of_many_apart(kind: S3Kind) {
    let t = Through::new(kind).await;
    let keys = ["a&b <c>.jpg", "locked 'x\".jpg", "d/e.jpg"];
    for key in keys {
        assert_eq!(t.put(key).await, Some(200));
    }
    t.proxy.rule(Rule::new(Fault::FailKeys(vec![keys[1].to_owned()], "AccessDenied".to_owned())));
    let ids = keys.map(|key| aws_sdk_s3::types::ObjectIdentifier::builder().key(key).build().unwrap());
    let delete = aws_sdk_s3::types::Delete::builder().set_objects(Some(ids.to_vec())).build().unwrap();
    let done = t.client.delete_objects().bucket(t.bucket.name()).delete(delete).send().await.unwrap();
    let deleted: Vec<_> = done.deleted().iter().filter_map(|d| d.key()).collect();
    assert_eq!(deleted, [keys[0], keys[2]]);
    let failed: Vec<_> = done.errors().iter().map(|e| (e.key().unwrap(), e.code().unwrap())).collect();
    assert_eq!(failed, [(keys[1], "AccessDenied")]);
    assert_eq!(t.bucket.keys("").await, [keys[1]]);
}

async fn a_fault_proxy_goes_down_and_holds(kind: S3Kind) {
    let t = Through::new(kind).await;
    assert_eq!(t.put("a").await, Some(200));
    t.proxy.down();
    assert_eq!(t.put("b").await, None);
    assert_eq!(t.bucket.get("b").await, None);
    t.proxy.up();
    assert_eq!(t.head("a").await, Some(200));
    t.proxy.rule(Rule::new(Fault::Hold).on([Ask::Head]));
    let (held, ()) = tokio::join!(t.head("a"), async {
        t.proxy.held(1).await;
        t.bucket.delete("a").await;
        t.proxy.release();
    });
    assert_eq!(held, Some(404), "the request was held until the object had gone");
    assert_eq!(t.head("a").await, Some(404), "a release ends the holding");
    // The service away behind the proxy: a client sees its connection break.
    t.server.kill();
    assert_eq!(t.head("a").await, None);
}

#[tokio::test]
async fn a_dropped_proxy_breaks_what_it_holds() {
    let t = Through::new(S3Kind::S3sFs).await;
    let Through { server: _server, proxy, client, bucket } = t;
    proxy.rule(Rule::new(Fault::Hold));
    let request = client.head_object().bucket(bucket.name()).key("a").send();
    let (answer, ()) = tokio::join!(request, async {
        proxy.held(1).await;
        drop(proxy);
    });
    assert!(answer.unwrap_err().raw_response().is_none());
}
