//! What a session of ours is, whatever the server and its `init_connect` say.

use std::time::Duration;

use rowbound::{
    Binding, Kind, Retry, Trash,
    attach::{Consent, attach},
    collect::{Collector, Settings},
    database::{self, Options},
};
use rowbound_testkit::{
    App, Backend, OwnServer, TestDb, World,
    sessions::{left_alone, said_by_its_session},
    wait_until,
};

use super::url;

/// Twelve files, each referenced by two rows of `doc`, of which one of each goes; what is left after `set global ..` and a collection.
async fn left(server: &OwnServer, table: &str, set: &str, back: &str) -> Vec<String> {
    let world =
        World::with(TestDb::on(server.server()).await).bind(Binding::name("doc.file", "default").unwrap()).storage(|s| s.trash(Trash::Off));
    world.db.exec(&format!("create table doc (id int primary key, file varchar(50)) {table}")).await;
    for n in 0..12 {
        world.put_file(&format!("{n}.jpg"), b"x");
        world.db.exec(&format!("insert into doc values ({n}, '{n}.jpg'), ({}, '{n}.jpg')", n + 100)).await;
    }
    attached(&world).await;
    world.db.exec("delete from doc where id < 100").await;
    let mut root = App::at(&server.server().url).await;
    root.exec(set).await;
    collect(&world).await;
    root.exec(back).await;
    assert_eq!(world.db.query_strings("select count(*) from rowbound_candidate").await, [Some("0".to_owned())], "they were looked at");
    world.files()
}

async fn attached(world: &World) {
    let db = database::open(world.db.url(), &Options::default()).await.unwrap();
    attach(&world.plan(), &*db, &Consent::default()).await.unwrap_or_else(|e| panic!("{}", e.full()));
    db.close().await;
}

async fn collect(world: &World) {
    let db = database::open(world.db.url(), &Options::default()).await.unwrap();
    let collector = Collector::new(&world.plan(), db.clone(), Settings::default()).await.unwrap_or_else(|e| panic!("{}", e.full()));
    let (_go_on, stop) = tokio::sync::watch::channel(false);
    collector.drain(&stop).await.unwrap_or_else(|e| panic!("{}", e.full()));
    db.close().await;
}

/// A server-wide `sql_select_limit` once cut the list of references without an error: of 4,000 referenced files 2,000 were deleted.
/// So did a `system_versioning_asof` in the past with the rows of versioned tables.
async fn referenced_files_stay(backend: Backend) {
    let server = OwnServer::start(backend);
    let (set, back) = ("set global sql_select_limit = 8", "set global sql_select_limit = 18446744073709551615");
    assert_eq!(left(&server, "", set, back).await.len(), 12, "{set}");
    if backend == Backend::Mariadb {
        let (set, back) = ("set global system_versioning_asof = '2020-01-01 00:00:00'", "set global system_versioning_asof = default");
        assert_eq!(left(&server, "with system versioning", set, back).await.len(), 12, "{set}");
    }
    looks_wait_for_a_new_list(&server).await;
}

/// Under `div_precision_increment = 0` 0.117 was 0: looks did not wait for the list to be made anew, which kept it old, and a collection that took more than one look ended with an error.
async fn looks_wait_for_a_new_list(server: &OwnServer) {
    let world = World::with(TestDb::on(server.server()).await).with_docs().await;
    world.db.exec("set global div_precision_increment = 0").await;
    let db = database::open(world.db.url(), &Options::default()).await.unwrap();
    for nth in 0..3 {
        db.open_transactions().await.unwrap_or_else(|e| panic!("look {nth}: {}", e.full()));
    }
    db.close().await;
    world.db.exec("set global div_precision_increment = 4").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_own_server_cuts_answers_and_referenced_files_stay() {
    referenced_files_stay(Backend::Mariadb).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_own_server_cuts_answers_and_referenced_files_stay() {
    referenced_files_stay(Backend::Mysql).await;
}

/// MariaDB ends a recursion after `max_recursive_iterations` (1,000 by default) with a warning, and what came until then is the answer. MySQL
/// ends the statement with an error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_a_recursive_query_is_read_to_its_end() {
    let query = "with recursive n (i) as (select 1 union all select i + 1 from n where i < 1500) select concat(i, '.jpg') from n";
    let world = World::new(Backend::Mariadb).await.with_docs().await.bind(Binding::query("numbers", "default", query));
    for name in ["900.jpg", "1400.jpg", "1600.jpg"] {
        world.put_doc(name).await;
    }
    attached(&world).await;
    world.db.exec("delete from doc").await;
    collect(&world).await;
    assert_eq!(world.files(), ["1400.jpg", "900.jpg"]);
}

/// MySQL's tables of sessions and of transactions cannot show an emoji, and answer with an error while any session runs a statement with one: attach failed, and so did
/// each look at open transactions, with an error that was not tried again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_a_statement_with_an_emoji_is_waited_for() {
    let world = World::new(Backend::Mysql).await.with_docs().await;
    let lock = format!("emoji.{:016x}", rand::random::<u64>());
    let mut holder = world.db.app().await;
    holder.exec(&format!("do get_lock('{lock}', 0)")).await;
    let mut app = world.db.app().await;
    let waits = tokio::spawn(async move {
        app.begin().await;
        app.exec("insert into doc (file) values ('a.jpg')").await;
        app.exec(&format!("do concat('\u{1f600}', get_lock('{lock}', 600))")).await;
        app
    });
    let db = database::open(world.db.url(), &Options::default()).await.unwrap_or_else(|e| panic!("{}", e.full()));
    // Its statement runs: its transaction is open, and cannot be shown.
    wait_until(Duration::from_secs(60), "the list cannot be read", || async {
        match db.open_transactions().await {
            Ok(_) => false,
            Err(e) => {
                assert_eq!((e.kind(), e.retry_status()), (Kind::Busy, Retry::Later), "{}", e.full());
                assert!(e.hint_text().is_some_and(|hint| hint.contains("emoji")), "{:?}", e.hint_text());
                true
            }
        }
    })
    .await;
    database::open(world.db.url(), &Options::default()).await.unwrap_or_else(|e| panic!("{}", e.full())).close().await;
    holder.close().await;
    let mut app = waits.await.unwrap();
    let open = db.open_transactions().await.unwrap_or_else(|e| panic!("{}", e.full()));
    assert!(!open.is_empty(), "it is open still");
    app.commit().await;
    app.close().await;
    db.close().await;
}

/// A variable that our sessions set: its name, what the server has instead, and what a session of ours has.
type Reset = (&'static str, &'static str, &'static str);

const BOTH: &[Reset] = &[
    ("autocommit", "off", "ON"),
    ("completion_type", "'RELEASE'", "NO_CHAIN"),
    ("foreign_key_checks", "off", "ON"),
    ("group_concat_max_len", "4", "1073741824"),
    ("innodb_lock_wait_timeout", "1", "20"),
    ("lock_wait_timeout", "1", "20"),
    ("max_join_size", "5", "18446744073709551615"),
    ("max_sort_length", "64", "1024"),
    ("sql_auto_is_null", "on", "OFF"),
    ("sql_big_selects", "off", "ON"),
    ("sql_mode", "'ANSI,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH'", "STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION"),
    ("sql_quote_show_create", "off", "ON"),
    ("sql_safe_updates", "on", "OFF"),
    ("sql_select_limit", "3", "18446744073709551615"),
    ("time_zone", "'+05:00'", "+00:00"),
    ("unique_checks", "off", "ON"),
    ("wait_timeout", "500", "900"),
    // SET NAMES.
    ("character_set_client", "latin1", "utf8mb4"),
    ("character_set_connection", "latin1", "utf8mb4"),
    ("character_set_results", "latin1", "utf8mb4"),
];

const MARIADB: &[Reset] = &[
    ("check_constraint_checks", "off", "ON"),
    ("collation_connection", "latin1_bin", "utf8mb4_general_ci"),
    ("idle_readonly_transaction_timeout", "30", "0"),
    ("idle_transaction_timeout", "30", "60"),
    ("idle_write_transaction_timeout", "30", "0"),
    ("in_predicate_conversion_threshold", "2", "0"),
    ("max_recursive_iterations", "1", "4294967295"),
    ("max_statement_time", "30", "0.000000"),
    ("query_cache_type", "on", "OFF"),
    ("system_versioning_asof", "'2020-01-01 00:00:00'", "DEFAULT"),
    ("tx_isolation", "'SERIALIZABLE'", "READ-COMMITTED"),
    ("tx_read_only", "on", "OFF"),
];

const MYSQL: &[Reset] = &[
    ("collation_connection", "latin1_bin", "utf8mb4_0900_ai_ci"),
    ("group_replication_consistency", "'EVENTUAL'", "BEFORE_ON_PRIMARY_FAILOVER"),
    ("max_execution_time", "30000", "0"),
    ("show_gipk_in_create_table_and_information_schema", "off", "ON"),
    ("transaction_isolation", "'SERIALIZABLE'", "READ-COMMITTED"),
    ("transaction_read_only", "on", "OFF"),
    ("use_secondary_engine", "on", "OFF"),
];

/// `sql_select_limit` was overlooked once. So a variable that no list knows makes this fail, and somebody has to look at it.
async fn every_variable_is_known(backend: Backend) {
    let (server, more, query) = match backend {
        Backend::Mariadb => (
            // Without this the cache cannot be switched on for a session.
            OwnServer::mariadb_with("--query-cache-type=1"),
            MARIADB,
            "select concat(lower(variable_name), '=', coalesce(session_value, '')) from information_schema.system_variables
             where variable_scope in ('SESSION', 'SESSION ONLY')",
        ),
        _ => (
            OwnServer::mysql_with("--performance-schema=ON"),
            MYSQL,
            "select concat(v.variable_name, '=', coalesce(v.variable_value, '')) from performance_schema.session_variables v
             join performance_schema.variables_metadata m using (variable_name) where m.variable_scope like 'SESSION%'",
        ),
    };
    let reset: Vec<&Reset> = BOTH.iter().chain(more).collect();
    let mut root = App::at(&server.server().url).await;
    root.exec("create user 'plain'@'127.0.0.1' identified by 'x'; grant select, process on *.* to 'plain'@'127.0.0.1'").await;
    let plain = url(&server.server().url, Some(("plain", "x")), "information_schema");
    // An account without rights, so that `init_connect` runs, and nothing is set that such an account may not set.
    let list = |scope: &str| reset.iter().map(|(name, odd, _)| format!("{scope} {name} = {odd}")).collect::<Vec<_>>().join(", ");
    root.exec(&format!("set global init_connect = \"set timestamp = 1000, {}\"", list("session"))).await;
    // It has no value for the server.
    root.exec(&format!("set {}", list("global").replace(", global use_secondary_engine = on", ""))).await;
    let db = database::open(&plain, &Options::default()).await.unwrap_or_else(|e| panic!("{}", e.full()));
    let found = said_by_its_session(&*db, query).await;
    db.close().await;
    let wrong: Vec<_> = reset
        .iter()
        .filter(|(name, _, ours)| found.get(*name).is_none_or(|is| is != ours))
        .map(|(name, ..)| (name, found.get(*name)))
        .collect();
    assert!(wrong.is_empty(), "of a session of ours: {wrong:?}");
    assert!(found["timestamp"].parse::<f64>().unwrap() > 1.7e9, "the clock stands still: {}", found["timestamp"]);
    let known: Vec<_> = reset
        .iter()
        .map(|(name, ..)| (*name).to_owned())
        .chain(left_alone(include_str!("session_variables.txt"), if backend == Backend::Mariadb { "mariadb" } else { "mysql" }))
        .collect();
    let new: Vec<_> = found.keys().filter(|name| *name != "timestamp" && !known.contains(name)).collect();
    assert!(
        new.is_empty(),
        "variables that nobody has looked at: {new:?}. One that changes which rows come is set in mysql/session.sql, any other is listed in \
         session_variables.txt"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_own_server_sets_variables_and_ours_are_known() {
    every_variable_is_known(Backend::Mariadb).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_own_server_sets_variables_and_ours_are_known() {
    every_variable_is_known(Backend::Mysql).await;
}
