//! What a session of ours is, whatever the server, the database, the role and the URL say; and what stands between us and the server.

use rowbound_testkit::{
    App, PoolMode, Pooler, Server,
    sessions::{left_alone, said_by_its_session},
};

use super::*;

/// A setting that our sessions set: its name, what database and role have instead, and what a session of ours has.
type Reset = (&'static str, &'static str, &'static str);

const RESET: &[Reset] = &[
    ("search_path", "evil, public", "pg_catalog, pg_temp"),
    ("synchronous_commit", "off", "on"),
    ("gin_fuzzy_search_limit", "1", "0"),
    ("row_security", "on", "off"),
    ("datestyle", "'SQL, DMY'", "ISO, MDY"),
    ("timezone", "'Asia/Tokyo'", "UTC"),
    ("intervalstyle", "'sql_standard'", "postgres"),
    ("extra_float_digits", "'-3'", "1"),
    ("bytea_output", "'escape'", "hex"),
    ("quote_all_identifiers", "on", "off"),
    ("standard_conforming_strings", "off", "on"),
    ("array_nulls", "off", "on"),
    ("statement_timeout", "'30s'", "0"),
    ("transaction_timeout", "'30s'", "0"),
    ("idle_session_timeout", "'30s'", "0"),
    // The session's is 20 s; the transaction in which a column is read waits for 5.
    ("lock_timeout", "'1s'", "5000"),
    // As well: 60 s, and 15 minutes for who reads a column.
    ("idle_in_transaction_session_timeout", "'1s'", "900000"),
    ("default_transaction_isolation", "'serializable'", "read committed"),
    ("default_transaction_deferrable", "on", "off"),
    ("default_table_access_method", "'odd'", "heap"),
    ("jit", "on", "off"),
];

/// Settings that only a superuser may change.
const PRIVILEGED: &[Reset] =
    &[("zero_damaged_pages", "on", "off"), ("ignore_checksum_failure", "on", "off"), ("session_replication_role", "replica", "origin")];

/// Name and value of every setting, and of which kind it is.
const SETTINGS: &str = "select lower(name) || '=' || context || ' ' || coalesce(setting, '') from pg_settings";

/// Where a setting can differ from session to session. All others are the server's.
const A_SESSIONS: [&str; 4] = ["user", "superuser", "backend", "superuser-backend"];

/// Sets each in the database and in the role. What this version of the server does not know is left out.
async fn set_odd<'r>(f: &Fixture, role: &str, all: impl IntoIterator<Item = &'r Reset>) {
    for (name, odd, _) in all {
        if f.db.query_strings(&format!("select 1 from pg_settings where lower(name) = '{name}'")).await.is_empty() {
            continue;
        }
        for whose in [format!("database {}", f.db.name()), format!("role {role}")] {
            f.db.exec(&format!("alter {whose} set {name} = {odd}")).await;
        }
    }
}

/// `gin_fuzzy_search_limit` was overlooked once. So a setting that no list knows makes this fail, and somebody has to look at it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_setting_is_known() {
    let f = fixture(
        "create schema evil; create function evil.set_config(text, text, boolean) returns text language sql as $$ select 'evil' $$",
    )
    .await;
    f.db.exec("create access method odd type table handler heap_tableam_handler").await;
    let role = Role::new(&f, &[&format!("grant create on database {}", f.db.name())]).await;
    set_odd(&f, &role.name, RESET).await;
    for (who, db) in [("superuser", f.open().await), ("plain", Arc::new(role.open().await))] {
        let found = said_by_its_session(&*db, SETTINGS).await;
        let is = |name: &str| found.get(name).map(|is| is.split_once(' ').expect("context and value").1);
        let wrong: Vec<_> =
            RESET.iter().filter(|(name, _, ours)| is(name).is_some_and(|is| is != *ours)).map(|(name, ..)| (name, is(name))).collect();
        assert!(wrong.is_empty(), "of a session of ours ({who}): {wrong:?}");
        let set: Vec<&str> = RESET.iter().chain(PRIVILEGED).map(|(name, ..)| *name).collect();
        let known = left_alone(include_str!("session_settings.txt"), "postgres");
        let new: Vec<_> = found
            .iter()
            .filter(|(_, is)| A_SESSIONS.contains(&is.split_once(' ').expect("context and value").0))
            .map(|(name, _)| name)
            // An extension's own setting.
            .filter(|name| !name.contains('.') && !set.contains(&name.as_str()) && !known.contains(name))
            .collect();
        assert!(
            new.is_empty(),
            "settings that nobody has looked at: {new:?}. One that changes which rows come is set in postgres/session.sql, any other is listed in \
             session_settings.txt"
        );
        db.close().await;
    }
    role.drop(&f).await;
}

/// What hides rows, or switches triggers off, and may be set by a superuser alone: a superuser's session of ours sets it back, any other is refused, at
/// once and in the middle of its work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_a_superuser_may_set_is_set_back_or_refused() {
    for reset in PRIVILEGED {
        let f = fixture(DOC).await;
        let role = Role::new(&f, &["grant usage on schema public"]).await;
        set_odd(&f, &role.name, [reset]).await;
        let db = f.open().await;
        let found = said_by_its_session(&*db, SETTINGS).await;
        assert!(found[reset.0].ends_with(&format!(" {}", reset.2)), "{}: {}", reset.0, found[reset.0]);
        db.close().await;
        let e = refused(Postgres::open(&role.url, &Options::default()).await, reset.0);
        assert!(e.full().contains(reset.0) && e.kind() == Kind::Permission, "{}", e.full());
        assert!(e.hint_text().is_some_and(|hint| hint.contains("RESET")), "{}", e.full());
        role.drop(&f).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_server_that_begins_to_read_over_damaged_pages_is_refused() {
    let own = OwnServer::start(Backend::Postgres);
    let f = Fixture::new(TestDb::on(own.server()).await);
    f.db.exec(DOC).await;
    let role = Role::new(
        &f,
        &[
            &format!("grant create on database {}", f.db.name()),
            "grant select, trigger on doc",
            "grant execute on function pg_control_system()",
        ],
    )
    .await;
    let database: Arc<dyn Database> = Arc::new(role.open().await);
    let a = Attached {
        record: ok(database.install(&bound(&["doc.file"]), &fresh_record(&*database, &bound(&["doc.file"])).await).await),
        database,
        bound: bound(&["doc.file"]),
    };
    assert_eq!(a.found(&["a.jpg"]).await, ["a.jpg"]);
    f.db.exec("alter system set zero_damaged_pages = on").await;
    f.db.exec("select pg_reload_conf()").await;
    // The sessions that are open already learn of it, too.
    wait_until(DEADLINE, "a check is refused", async || {
        match a.database.check(&a.bound, &a.record.snapshot, &a.search(&["a.jpg"])).await {
            Ok(_) => false,
            Err(e) => {
                assert!(e.full().contains("damaged pages"), "{}", e.full());
                true
            }
        }
    })
    .await;
    a.database.close().await;
}

/// A GIN index on text (extension btree_gin) can be asked for equality. With `gin_fuzzy_search_limit` the server leaves rows out at random, without an error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_on_what_an_index_finds_hides_no_reference() {
    let f = fixture(
        "create extension btree_gin; create table doc (id int primary key, file text);
         insert into doc select n, 'f' || n % 40 || '.jpg' from generate_series(1, 12000) n;
         create index doc_file on doc using gin (file) with (fastupdate = off); analyze doc",
    )
    .await;
    for odd in ["gin_fuzzy_search_limit = 1", "enable_seqscan = off"] {
        f.db.exec(&format!("alter database {} set {odd}", f.db.name())).await;
    }
    let names: Vec<String> = (0..40).map(|n| format!("f{n}.jpg")).collect();
    let mut app = f.db.app().await;
    let list = names.iter().map(|n| format!("'{n}'")).collect::<Vec<_>>().join(", ");
    let shorter = app.query_strings(&format!("select distinct file from doc where file in ({list})")).await;
    assert!(shorter.len() < 40, "this test is only worth something if the server leaves rows out");
    let a = f.attach(&["doc.file"]).await;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(a.found(&names).await.len(), 40);
    assert_eq!(ok(a.database.holders(&a.search(&["f7.jpg"]), 1000).await).len(), 300);
}

/// What a session of the pooler's says of itself that is not as the server has it.
async fn left_behind(pooler: &Pooler, f: &Fixture) -> Vec<String> {
    // As many at once as the pooler has sessions.
    let mut apps = Vec::new();
    let mut found = Vec::new();
    for _ in 0..8 {
        let mut app = App::at(&pooler.url(f.db.url())).await;
        app.exec("begin").await;
        let said = app
            .query_strings(
                "select name || '=' || setting from pg_settings where name in ('search_path', 'row_security', 'jit', 'lock_timeout', 'statement_timeout')
                     and setting is distinct from boot_val
                 union all select 'rowbound=' || current_setting('rowbound.schemas', true) where current_setting('rowbound.schemas', true) <> ''
                 union all select 'prepared ' || statement from pg_prepared_statements
                 union all select 'locked' from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()",
            )
            .await;
        found.extend(said.into_iter().flatten());
        // The application's own statement, which names no schema.
        app.exec("select file from doc").await;
        apps.push(app);
    }
    for mut app in apps {
        app.commit().await;
        app.close().await;
    }
    found
}

/// Through a pooler that gives its sessions out by transaction, what we set would be the application's next: `relation "doc" does not exist`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_by_transaction_is_refused_before_anything_is_set() {
    let server = Server::from_env(Backend::Postgres);
    let f = fixture(DOC).await;
    for (mode, options) in [
        (PoolMode::Transaction, &[][..]),
        (PoolMode::Transaction, &["server_round_robin = 1"]),
        (PoolMode::Transaction, &["default_pool_size = 1"]),
        (PoolMode::Statement, &[]),
    ] {
        let pooler = Pooler::start(&server, mode, options);
        let url = pooler.url(f.db.url());
        // With sessions of the server that are there already, and without any; beside an application that is at work.
        for at_work in [false, false, true, true, true] {
            let mut apps = Vec::new();
            if at_work && mode == PoolMode::Transaction && options != ["default_pool_size = 1"] {
                for _ in 0..3 {
                    let mut app = App::at(&url).await;
                    apps.push(tokio::spawn(async move {
                        for _ in 0..60 {
                            app.exec("begin; select file from doc; commit").await;
                        }
                        app.close().await;
                    }));
                }
            }
            let e = refused(f.try_open_at(&url).await, "a pooler by transaction");
            assert_eq!(e.kind(), Kind::Config, "{mode:?} {options:?}: {}", e.full());
            assert!(e.full().contains("a pooler stands between"), "{}", e.full());
            for app in apps {
                app.await.unwrap();
            }
        }
        if mode == PoolMode::Transaction && options != ["default_pool_size = 1"] {
            assert_eq!(left_behind(&pooler, &f).await, [""; 0], "{options:?}");
        }
    }
}

/// One that gives them out for as long as a client stays is as good as the server itself, and leaves nothing behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_by_session_is_as_good_as_the_server() {
    let f = fixture(DOC).await;
    let pooler = Pooler::start(&Server::from_env(Backend::Postgres), PoolMode::Session, &["default_pool_size = 20"]);
    for _ in 0..5 {
        let database = ok(f.try_open_at(&pooler.url(f.db.url())).await);
        let bound = bound(&["doc.file"]);
        let record = ok(database.install(&bound, &fresh_record(&*database, &bound).await).await);
        let a = Attached { record, database, bound };
        assert_eq!(a.found(&["a.jpg"]).await, ["a.jpg"]);
        // Nobody is there for long: a session of another database that ends between two lists of the server may be one of ours to it.
        wait_until(DEADLINE, "nobody is there", async || ok(a.database.open_transactions().await).is_empty()).await;
        a.database.close().await;
    }
    assert_eq!(left_behind(&pooler, &f).await, [""; 0]);
}

/// One that does not clean what it gives out: the application's session has been one of ours, and is waited for all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_that_cleans_nothing_hands_our_mark_to_nobody() {
    let f = fixture(DOC).await;
    let a = f.attach(&["doc.file"]).await;
    let pooler =
        Pooler::start(&Server::from_env(Backend::Postgres), PoolMode::Session, &["default_pool_size = 20", "server_reset_query ="]);
    let url = pooler.url(f.db.url());
    let behind = ok(f.try_open_at(&url).await);
    let (one, two) = tokio::join!(behind.open_transactions(), behind.open_transactions());
    ok(one);
    ok(two);
    behind.close().await;
    let (mut apps, mut ours) = (Vec::new(), 0);
    for _ in 0..8 {
        let mut app = App::at(&url).await;
        app.begin().await;
        let said = app.query_strings("select pg_backend_pid()::text union all select current_setting('rowbound.schemas', true)").await;
        ours += usize::from(said[1].as_ref().is_some_and(|schemas| !schemas.is_empty()));
        let pid: i64 = said[0].as_ref().expect("a number").parse().expect("a number");
        apps.push((pid, app));
    }
    assert!(ours > 0, "this test is only worth something if the application has a session that was ours");
    let open: Vec<_> = ok(a.database.open_transactions().await).into_iter().filter_map(|t| t.who.session).collect();
    for (pid, app) in apps {
        assert!(open.contains(&pid), "{pid} is not among {open:?}");
        app.close().await;
    }
    a.database.close().await;
}

/// One that has a single session gives none to our second connection: that is said, and not that the server is away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_with_one_session_is_named() {
    let f = fixture(DOC).await;
    let pooler = Pooler::start(&Server::from_env(Backend::Postgres), PoolMode::Session, &["default_pool_size = 1"]);
    let options = Options { connect_timeout: Duration::from_secs(2), ..Options::default() };
    let e = refused(Postgres::open(&pooler.url(f.db.url()), &options).await, "a pooler with one session");
    assert_eq!(e.kind(), Kind::DatabaseUnreachable, "{}", e.full());
    assert!(e.hint_text().is_some_and(|hint| hint.contains("default_pool_size")), "{}", e.full());
}
