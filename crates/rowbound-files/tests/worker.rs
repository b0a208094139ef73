//! A worker within an application, on what the application's own pool connects with.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use rowbound::{
    Kind,
    database::{self, Dialect, Options},
    worker::State,
};
use rowbound_files::{Field, File, Health, Media, Pool, Settings, Upload, Worker};
use rowbound_testkit::{Backend, Journal, OwnServer, TestDb, World, wait_until};
use sqlx::{
    Executor as _, MySqlPool, PgPool, SqlitePool,
    mysql::{MySqlConnectOptions, MySqlPoolOptions},
    postgres::PgPoolOptions,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteSynchronous},
};

const DEADLINE: Duration = Duration::from_secs(60);

fn doc() -> Field<File> {
    Field::file("doc.file").upload_to("d")
}

fn settings() -> Settings {
    Settings { poll: Duration::from_millis(20), verify: Duration::from_millis(50), ..Settings::default() }
}

async fn world(backend: Backend) -> World {
    young(World::new(backend).await.with_docs().await)
}

/// An upload waits for its row long enough, and a file that was just written is soon old.
fn young(world: World) -> World {
    world.storage(|s| s.min_age(Duration::from_secs(2)))
}

/// A pool of `connections` as an application makes it.
async fn pool(db: &TestDb, connections: u32) -> Pool {
    match db.dialect() {
        Dialect::Sqlite => SqlitePoolOptions::new().max_connections(connections).connect(db.url()).await.expect("a pool").into(),
        Dialect::Postgres => PgPoolOptions::new().max_connections(connections).connect(db.url()).await.expect("a pool").into(),
        Dialect::Mysql => MySqlPoolOptions::new().max_connections(connections).connect(db.url()).await.expect("a pool").into(),
    }
}

async fn media(world: &World, pool: impl Into<Pool>) -> Media {
    let opened = Media::beside(pool).storage(world.storage.clone()).field(&doc()).attach().await;
    opened.unwrap_or_else(|e| panic!("{}", e.full()))
}

/// Waits until its health is as wanted, and returns it.
async fn until(worker: &Worker, what: &str, wanted: impl Fn(&Health) -> bool) -> Health {
    wait_until(DEADLINE, what, async || wanted(&worker.health().await)).await;
    worker.health().await
}

async fn collected(world: &World) {
    wait_until(DEADLINE, "files follow rows", async || world.files() == world.refs().await).await;
}

/// Some work: uploads, rows that go, files that go after them.
async fn work(world: &World, media: &Media) {
    let files = media.files(&doc()).expect("its field");
    for i in 0..20 {
        let name = files.save(Upload::bytes(format!("{i}.txt"), format!("{i}"))).await.unwrap_or_else(|e| panic!("{}", e.full()));
        world.db.exec(&format!("insert into doc (file) values ('{name}')")).await;
    }
    world.db.exec("delete from doc where file like '%1%'").await;
    collected(world).await;
}

// What a session is, as far as we change ours.
const POSTGRES: &str = "select concat_ws(' | ', current_setting('search_path'), current_setting('role'), current_setting('timezone'),
    current_setting('default_transaction_isolation'), current_setting('application_name'), current_setting('synchronous_commit'),
    current_setting('jit'), current_setting('standard_conforming_strings'))";
const MYSQL: &str = "select concat_ws(' | ', @@session.sql_mode, @@session.time_zone,
    /*M! @@session.tx_isolation, */ /*!80000 @@session.transaction_isolation, */ @@session.sql_select_limit, @@session.autocommit,
    @@session.innodb_lock_wait_timeout, @@session.lock_wait_timeout, @@session.character_set_client, @@session.collation_connection, database())";
const SQLITE: &str =
    "select (select foreign_keys from pragma_foreign_keys) || ' | ' || (select journal_mode from pragma_journal_mode) || ' | '
    || (select synchronous from pragma_synchronous) || ' | ' || (select timeout from pragma_busy_timeout) || ' | '
    || (select query_only from pragma_query_only)";

/// What each of the pool's connections says of its session.
async fn sessions(pool: &Pool) -> Vec<String> {
    async fn all<DB: sqlx::Database>(pool: &sqlx::Pool<DB>, sql: &'static str) -> Vec<String>
    where
        for<'c> &'c mut DB::Connection: sqlx::Executor<'c, Database = DB>,
        (String,): for<'r> sqlx::FromRow<'r, DB::Row>,
        DB::Arguments: sqlx::IntoArguments<DB>,
    {
        let mut held = Vec::new();
        let mut said = Vec::new();
        for _ in 0..pool.options().get_max_connections() {
            let mut conn = pool.acquire().await.expect("a connection");
            said.push(sqlx::query_as::<_, (String,)>(sql).fetch_one(&mut *conn).await.expect("its session").0);
            held.push(conn);
        }
        said
    }
    match pool {
        Pool::Sqlite(pool) => all(pool, SQLITE).await,
        Pool::Postgres(pool) => all(pool, POSTGRES).await,
        Pool::Mysql(pool) => all(pool, MYSQL).await,
        _ => unreachable!("there are three databases"),
    }
}

/// A pool of three connections whose sessions are unlike ours in every way.
async fn peculiar(db: &TestDb) -> Pool {
    match db.dialect() {
        Dialect::Sqlite => {
            let connect: SqliteConnectOptions = db.url().parse().expect("a URL");
            let connect = connect.foreign_keys(true).synchronous(SqliteSynchronous::Off).busy_timeout(Duration::from_millis(1234));
            SqlitePoolOptions::new().max_connections(3).connect_with(connect).await.expect("a pool").into()
        }
        Dialect::Postgres => {
            let set = "set timezone = 'Asia/Tokyo'; set default_transaction_isolation = 'serializable'; set synchronous_commit = off;
                set jit = on; set application_name = 'app'";
            let options = PgPoolOptions::new().max_connections(3);
            let options = options.after_connect(move |conn, _| Box::pin(async move { conn.execute(set).await.map(drop) }));
            options.connect(db.url()).await.expect("a pool").into()
        }
        Dialect::Mysql => {
            let set =
                "set session sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES', session time_zone = '+09:00', session lock_wait_timeout = 7,
                session sql_select_limit = 5000, session innodb_lock_wait_timeout = 8, session transaction isolation level serializable";
            let (set, isolation) = set.split_at(set.rfind(", session transaction").expect("it stands there"));
            let isolation = isolation.trim_start_matches(", ");
            let connect: MySqlConnectOptions = db.url().parse().expect("a URL");
            let options = MySqlPoolOptions::new().max_connections(3).after_connect(move |conn, _| {
                Box::pin(async move {
                    conn.execute(set).await?;
                    conn.execute(sqlx::AssertSqlSafe(format!("set {isolation}"))).await.map(drop)
                })
            });
            options.connect_with(connect.charset("latin1").collation("latin1_german1_ci")).await.expect("a pool").into()
        }
    }
}

async fn keeps_the_applications_sessions(backend: Backend) {
    let world = world(backend).await;
    let pool = peculiar(&world.db).await;
    let before = sessions(&pool).await;
    let media = media(&world, pool.clone()).await;
    let worker = media.start(settings());
    work(&world, &media).await;
    assert_eq!(sessions(&pool).await, before);
    worker.stop().await;
    assert_eq!(sessions(&pool).await, before);
    media.database().close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_keeps_the_applications_sessions() {
    keeps_the_applications_sessions(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_keeps_the_applications_sessions() {
    keeps_the_applications_sessions(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_keeps_the_applications_sessions() {
    keeps_the_applications_sessions(Backend::Mariadb).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_keeps_the_applications_sessions() {
    keeps_the_applications_sessions(Backend::Mysql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_journal_stays_one() {
    let world = young(World::with(TestDb::sqlite(Journal::Rollback).await).with_docs().await);
    // This mode cannot roll back: it must not become ours.
    let connect: SqliteConnectOptions = world.db.url().parse().expect("a URL");
    let pool = SqlitePoolOptions::new().connect_with(connect.pragma("journal_mode", "off")).await.expect("a pool");
    let media = media(&world, &pool).await;
    let worker = media.start(settings());
    work(&world, &media).await;
    worker.stop().await;
    assert_eq!(world.db.query_strings("pragma journal_mode").await, [Some("delete".to_owned())]);
}

async fn a_pool_of_one_connection(backend: Backend) {
    let world = world(backend).await;
    let pool = pool(&world.db, 1).await;
    // The application has it, and keeps it.
    let held: Box<dyn std::any::Any> = match &pool {
        Pool::Sqlite(pool) => Box::new(pool.acquire().await.expect("the connection")),
        Pool::Postgres(pool) => Box::new(pool.acquire().await.expect("the connection")),
        Pool::Mysql(pool) => Box::new(pool.acquire().await.expect("the connection")),
        _ => unreachable!("there are three databases"),
    };
    let media = media(&world, pool).await;
    let worker = media.start(settings());
    work(&world, &media).await;
    worker.stop().await;
    media.database().close().await;
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_a_pool_of_one_connection() {
    a_pool_of_one_connection(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_a_pool_of_one_connection() {
    a_pool_of_one_connection(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_a_pool_of_one_connection() {
    a_pool_of_one_connection(Backend::Mariadb).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_a_pool_of_one_connection() {
    a_pool_of_one_connection(Backend::Mysql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_tables_are_where_the_application_looks_for_them() {
    let world = young(World::new(Backend::Postgres).await);
    world.db.exec("create schema shop").await;
    world.db.exec("create table shop.doc (id bigint generated by default as identity primary key, file varchar(255))").await;
    world.db.exec("create table doc (id integer primary key, other text)").await;
    let role = format!("rb_{:08x}", rand::random::<u32>());
    for sql in [
        format!("create role {role} superuser"),
        format!("grant all on all tables in schema shop to {role}"),
        format!("create schema {role}"),
    ] {
        world.db.exec(&sql).await;
    }
    let set = format!("set role {role}; set search_path = \"$user\", shop, public");
    let options = PgPoolOptions::new().max_connections(2).after_connect(move |conn, _| {
        let set = set.clone();
        Box::pin(async move { conn.execute(sqlx::AssertSqlSafe(set)).await.map(drop) })
    });
    let pool = options.connect(world.db.url()).await.expect("a pool");
    let media = media(&world, &pool).await;
    let owner = "select distinct tgrelid::regclass::text from pg_trigger where not tgisinternal and tgname like '%rowbound%'";
    assert_eq!(world.db.query_strings(owner).await, [Some("shop.doc".to_owned())]);
    let ours = "select pg_get_userbyid(nspowner) from pg_namespace where nspname = 'rowbound'";
    assert_eq!(world.db.query_strings(ours).await, [Some(role.clone())]);
    let worker = media.start(settings());
    let value = media.files(&doc()).unwrap().save(Upload::bytes("a.txt", "a")).await.unwrap();
    sqlx::query("insert into doc (file) values ($1)").bind(value.as_str()).execute(&pool).await.unwrap();
    sqlx::query("delete from doc").execute(&pool).await.unwrap();
    wait_until(DEADLINE, "the file goes", async || world.files().is_empty()).await;
    worker.stop().await;
    media.database().close().await;
    pool.close().await;
    world.db.exec(&format!("drop owned by {role} cascade")).await;
    world.db.exec(&format!("drop role {role}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_the_database_may_be_chosen_after_connecting() {
    let world = world(Backend::Mariadb).await;
    let name = world.db.name();
    let url = world.db.url().replace(&format!("/{name}"), "/");
    let bare = MySqlPool::connect(&url).await.expect("a pool");
    let e = database::beside(&bare, &Options::default()).await.expect_err("it is in no database");
    assert_eq!(e.kind(), Kind::Config, "{}", e.full());
    let options = MySqlPoolOptions::new().max_connections(1).after_connect(move |conn, _| {
        let sql = format!("use {name}");
        Box::pin(async move { conn.execute(sqlx::AssertSqlSafe(sql)).await.map(drop) })
    });
    let media = media(&world, options.connect(&url).await.expect("a pool")).await;
    let worker = media.start(settings());
    work(&world, &media).await;
    worker.stop().await;
    media.database().close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_a_new_password_of_the_pool_is_ours_too() {
    let world = world(Backend::Mariadb).await;
    let user = format!("rb_{:08x}", rand::random::<u32>());
    world.db.exec(&format!("create user '{user}'@'%' identified by 'one'")).await;
    world.db.exec(&format!("grant all on *.* to '{user}'@'%' with grant option")).await;
    let connect: MySqlConnectOptions = world.db.url().parse().expect("a URL");
    let pool = MySqlPool::connect_with(connect.username(&user).password("one")).await.expect("a pool");
    let db = database::beside(&pool, &Options { connect_timeout: Duration::from_secs(2), ..Options::default() }).await.expect("it opens");
    db.now().await.expect("it answers");
    world.db.exec(&format!("set password for '{user}'@'%' = password('two')")).await;
    world.db.exec(&format!("kill connection user '{user}'@'%'")).await;
    let e = db.now().await.expect_err("the old password");
    assert_eq!(e.kind(), Kind::Permission, "{}", e.full());
    pool.set_connect_options((*pool.connect_options()).clone().password("two"));
    db.now().await.unwrap_or_else(|e| panic!("{}", e.full()));
    db.open_transactions().await.unwrap_or_else(|e| panic!("{}", e.full()));
    db.close().await;
    pool.close().await;
    world.db.exec(&format!("drop user '{user}'@'%'")).await;
}

#[tokio::test]
async fn a_pool_that_cannot_be_shared_is_refused() {
    let refused = async |pool: SqlitePool| {
        let e = database::beside(pool, &Options::default()).await.expect_err("it is refused");
        assert_eq!(e.kind(), Kind::Config, "{}", e.full());
        assert!(e.hint_text().is_some());
        e.full()
    };
    for url in ["sqlite::memory:", "sqlite:file:shared?mode=memory&cache=shared"] {
        let said = refused(SqlitePool::connect(url).await.expect("a pool")).await;
        assert!(said.contains("in-memory"), "{said}");
    }
    let db = TestDb::sqlite(Journal::Wal).await;
    let pool = SqlitePool::connect(db.url()).await.expect("a pool");
    pool.close().await;
    assert!(refused(pool).await.contains("closed"));
}

#[tokio::test]
async fn a_server_that_is_away_is_told_at_once() {
    let pool = PgPool::connect_lazy("postgres://app:s3cret@127.0.0.1:1/app").expect("a URL");
    let e = database::beside(pool, &Options::default()).await.expect_err("nobody listens");
    assert_eq!(e.kind(), Kind::DatabaseUnreachable);
    assert!(e.full().contains("postgres://app@127.0.0.1:1/app") && !e.full().contains("s3cret"), "{}", e.full());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_needs_no_database_beside_a_pool() {
    let world = world(Backend::Sqlite).await;
    let config = world.folder().join("rowbound.toml");
    std::fs::write(&config, "[storage.default]\nurl = \"folder:media\"\n").unwrap();
    let e = Media::config(&config, None).unwrap().field(&doc()).open().await.expect_err("no database is named");
    assert!(e.full().contains("`database` is missing"), "{}", e.full());
    let pool = SqlitePool::connect(world.db.url()).await.expect("a pool");
    let media = Media::config(&config, None).unwrap().field(&doc()).beside(&pool).attach().await.unwrap_or_else(|e| panic!("{}", e.full()));
    assert_eq!(media.plan().database, world.db.url());
}

// --- the worker

#[tokio::test(flavor = "multi_thread")]
async fn health_tells_what_waits_and_when_it_worked_last() {
    let world = world(Backend::Sqlite).await.storage(|s| s.grace(Duration::from_secs(3600)));
    let pool = SqlitePool::connect(world.db.url()).await.expect("a pool");
    let media = media(&world, &pool).await;
    world.put_doc("a.jpg").await;
    let worker = media.start(settings());
    let health = until(&worker, "it runs", |h| h.state == State::Running).await;
    assert_eq!((health.why, health.last_batch), (None, None));
    world.db.exec("delete from doc").await;
    let health = until(&worker, "the backlog is seen", |h| h.backlog == Some(1)).await;
    assert_eq!((health.due, health.failing), (Some(0), Some(0)));
    assert!(health.is_well() && health.oldest_seconds.is_some());
    let json = serde_json::to_value(&health).unwrap();
    assert_eq!(json["state"], "running");
    assert_eq!(json["storages"]["default"]["backlog"], 1);
    worker.stop().await;
    let health = worker.health().await;
    assert_eq!((health.state, &health.why, health.is_well()), (State::Ended, &None, false));
    // Twice does no harm.
    worker.stop().await;
}

#[tokio::test]
async fn a_worker_runs_on_a_runtime_of_one_thread() {
    let world = world(Backend::Sqlite).await;
    let pool = SqlitePool::connect(world.db.url()).await.expect("a pool");
    let media = media(&world, &pool).await;
    let worker = media.start(settings());
    work(&world, &media).await;
    let health = worker.health().await;
    assert!(health.last_batch.is_some(), "{health:?}");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_worker_ends() {
    let world = world(Backend::Sqlite).await;
    let pool = SqlitePool::connect(world.db.url()).await.expect("a pool");
    let media = media(&world, &pool).await;
    let worker = media.start(settings());
    until(&worker, "it runs", Health::is_well).await;
    assert_eq!(media.database().lock_worker().await.expect_err("it holds the lock").kind(), Kind::Busy);
    drop(worker);
    wait_until(DEADLINE, "the lock is free", async || media.database().lock_worker().await.is_ok()).await;
}

#[test]
fn a_worker_may_be_dropped_outside_of_its_runtime_and_after_it() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (world, media, worker) = runtime.block_on(async {
        let world = world(Backend::Sqlite).await;
        let pool = SqlitePool::connect(world.db.url()).await.expect("a pool");
        let media = media(&world, &pool).await;
        let worker = media.start(settings());
        until(&worker, "it runs", Health::is_well).await;
        (world, media, worker)
    });
    drop(runtime);
    // Its runtime has ended without asking: it says so.
    let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let health = other.block_on(worker.health());
    assert_eq!(health.state, State::Ended);
    assert!(health.why.is_some());
    other.block_on(worker.stop());
    drop(other);
    drop(worker);
    drop((media, world));
}

#[tokio::test(flavor = "multi_thread")]
async fn on_sqlite_one_collects_and_another_stands_by() {
    let world = world(Backend::Sqlite).await;
    let pool = SqlitePool::connect(world.db.url()).await.expect("a pool");
    let (here, there) = (media(&world, &pool).await, media(&world, &pool).await);
    let first = here.start(settings());
    until(&first, "the first runs", |h| h.state == State::Running).await;
    let second = there.start(settings());
    let health = until(&second, "the second stands by", |h| h.state == State::Standby).await;
    assert!(health.is_well());
    let why = health.why.expect("it says why");
    assert_eq!((why.kind, why.hint), (Kind::Busy, None), "{}", why.message);
    work(&world, &here).await;
    assert!(second.health().await.last_batch.is_none());
    first.stop().await;
    until(&second, "the second takes over", |h| h.state == State::Running).await;
    work(&world, &there).await;
    assert!(second.health().await.last_batch.is_some());
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn elsewhere_several_collect() {
    let world = world(Backend::Postgres).await;
    let pool = PgPool::connect(world.db.url()).await.expect("a pool");
    let (here, there) = (media(&world, &pool).await, media(&world, &pool).await);
    let workers = [here.start(settings()), there.start(settings())];
    for worker in &workers {
        until(worker, "both run", |h| h.state == State::Running).await;
    }
    work(&world, &here).await;
    for worker in &workers {
        worker.stop().await;
    }
    here.database().close().await;
    there.database().close().await;
}

async fn drift_stops_it_until_a_person_has_acted(backend: Backend) {
    let world = world(backend).await;
    let media = media(&world, pool(&world.db, 2).await).await;
    world.put_doc("a.jpg").await;
    let worker = media.start(settings());
    until(&worker, "it runs", |h| h.state == State::Running).await;
    world.db.exec("alter table doc rename column file to picture").await;
    let health = until(&worker, "it stops", |h| h.state == State::Stopped).await;
    let why = health.why.clone().expect("it says why");
    assert_eq!(why.kind, Kind::Drift, "{why:?}");
    assert!(why.hint.is_some() && !health.is_well());
    let since = health.since;
    world.db.exec("delete from doc").await;
    wait_until(DEADLINE, "it has looked again", async || worker.health().await.storages["default"].why.is_some()).await;
    assert_eq!(world.files(), ["a.jpg"], "nothing is deleted meanwhile");
    assert_eq!(worker.health().await.since, since, "the stop is one");
    worker.stop().await;
    // One that starts now is stopped as well, and goes on when the database is as attached again.
    let worker = media.start(settings());
    until(&worker, "it stops", |h| h.state == State::Stopped).await;
    world.db.exec("alter table doc rename column picture to file").await;
    let attached = Media::builder(world.db.url()).storage(world.storage.clone()).field(&doc()).attach().await;
    attached.unwrap_or_else(|e| panic!("{}", e.full())).database().close().await;
    until(&worker, "it runs again", |h| h.state == State::Running).await;
    world.put_doc("b.jpg").await;
    world.db.exec("delete from doc where file = 'b.jpg'").await;
    wait_until(DEADLINE, "it collects again", async || !world.files().contains(&"b.jpg".to_owned())).await;
    worker.stop().await;
    media.database().close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_drift_stops_it_until_a_person_has_acted() {
    drift_stops_it_until_a_person_has_acted(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_drift_stops_it_until_a_person_has_acted() {
    drift_stops_it_until_a_person_has_acted(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_started_before_attach_waits_for_it() {
    let world = world(Backend::Sqlite).await;
    let pool = SqlitePool::connect(world.db.url()).await.expect("a pool");
    let db = database::beside(&pool, &Options::default()).await.expect("it opens");
    let worker = Worker::start(world.plan(), db, settings());
    let health = until(&worker, "it is stopped", |h| h.state == State::Stopped).await;
    assert_eq!(health.why.map(|t| t.kind), Some(Kind::NotAttached));
    let media = media(&world, &pool).await;
    until(&worker, "it runs", |h| h.state == State::Running).await;
    work(&world, &media).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storage_that_is_away_is_waited_for() {
    let world = world(Backend::Sqlite).await;
    let pool = SqlitePool::connect(world.db.url()).await.expect("a pool");
    let media = media(&world, &pool).await;
    world.put_doc("a.jpg").await;
    let worker = media.start(settings());
    until(&worker, "it runs", |h| h.state == State::Running).await;
    let away = world.folder().join("away");
    std::fs::rename(world.media(), &away).unwrap();
    world.db.exec("delete from doc").await;
    let health = until(&worker, "it waits", |h| h.state == State::Waiting).await;
    assert_eq!(health.why.map(|t| t.kind), Some(Kind::StorageUnreachable));
    until(&worker, "the backlog is told all the same", |h| h.backlog == Some(1)).await;
    std::fs::rename(&away, world.media()).unwrap();
    until(&worker, "it runs again", |h| h.state == State::Running && h.last_batch.is_some()).await;
    collected(&world).await;
    worker.stop().await;
}

/// The server restarts under a worker, and is away when another starts.
async fn the_server_restarts(backend: Backend) {
    let own = OwnServer::start(backend);
    let world = young(World::with(TestDb::on(own.server()).await).with_docs().await);
    let media = media(&world, pool(&world.db, 2).await).await;
    let worker = media.start(settings());
    until(&worker, "it runs", |h| h.state == State::Running).await;
    work(&world, &media).await;
    world.db.close_app().await;
    own.stop();
    let health = until(&worker, "it waits", |h| h.state == State::Waiting).await;
    assert!(health.why.is_some() && health.backlog.is_none(), "{health:?}");
    let late = media.start(settings());
    until(&late, "the other waits too", |h| h.state == State::Waiting).await;
    own.start_again();
    for worker in [&worker, &late] {
        until(worker, "it runs again", |h| h.state == State::Running).await;
    }
    work(&world, &media).await;
    worker.stop().await;
    late.stop().await;
    media.database().close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_restarts_own_server() {
    the_server_restarts(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_restarts_own_server() {
    the_server_restarts(Backend::Mariadb).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_restarts_own_server() {
    the_server_restarts(Backend::Mysql).await;
}

/// An application that needs every connection of its pool, all the time, beside a worker with much to do.
async fn a_busy_application_has_its_connections(backend: Backend) {
    const FILES: usize = 1_500;
    let world = world(backend).await;
    let pool = pool(&world.db, 2).await;
    let media = media(&world, pool.clone()).await;
    for i in 0..FILES {
        world.put_file(&format!("{}/{i}.jpg", i % 20), b"x");
    }
    let rows: Vec<String> = (0..FILES).map(|i| format!("('{}/{i}.jpg')", i % 20)).collect();
    world.db.exec(&format!("insert into doc (file) values {}", rows.join(", "))).await;
    world.db.exec("delete from doc").await;

    let (done, queries) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let users: Vec<_> = (0..8)
        .map(|_| {
            let (pool, done, queries) = (pool.clone(), done.clone(), queries.clone());
            tokio::spawn(async move {
                while !done.load(SeqCst) {
                    let answered = match &pool {
                        Pool::Sqlite(pool) => sqlx::query("select count(*) from doc").execute(pool).await.map(drop),
                        Pool::Postgres(pool) => sqlx::query("select count(*) from doc").execute(pool).await.map(drop),
                        Pool::Mysql(pool) => sqlx::query("select count(*) from doc").execute(pool).await.map(drop),
                        _ => unreachable!("there are three databases"),
                    };
                    answered.expect("the application's query");
                    queries.fetch_add(1, SeqCst);
                }
            })
        })
        .collect();
    let worker = media.start(settings());
    let most = Mutex::new(BTreeSet::new());
    wait_until(DEADLINE, "everything is collected beside a busy application", async || {
        if backend == Backend::Postgres {
            let ours = "select count(*)::text from pg_stat_activity where application_name = 'rowbound' and datname = current_database()";
            let count = world.db.query_strings(ours).await.into_iter().flatten().map(|n| n.parse::<u32>().expect("a number"));
            most.lock().expect("no panic").extend(count);
        }
        world.files().is_empty()
    })
    .await;
    done.store(true, SeqCst);
    for user in users {
        user.await.expect("no query failed or waited too long");
    }
    assert!(queries.load(SeqCst) > 100, "{} queries", queries.load(SeqCst));
    let most = most.into_inner().expect("no panic");
    assert!(most.last().is_none_or(|n| *n <= 6), "{most:?} connections of ours");
    eprintln!("{backend}: {} queries of the application, connections of ours: {most:?}", queries.load(SeqCst));
    worker.stop().await;
    media.database().close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_a_busy_application_has_its_connections() {
    a_busy_application_has_its_connections(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_a_busy_application_has_its_connections() {
    a_busy_application_has_its_connections(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_a_busy_application_has_its_connections() {
    a_busy_application_has_its_connections(Backend::Mariadb).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_a_busy_application_has_its_connections() {
    a_busy_application_has_its_connections(Backend::Mysql).await;
}
