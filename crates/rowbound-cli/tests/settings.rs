//! Odd settings of servers, databases and roles: under each of them files follow rows, and nothing else is deleted.
//!
//! Sixty and more of each server, one by one, take a while (`soak_..`). `make test` sets all of a server's at once.

use std::time::Duration;

use rowbound::{Binding, StoragePlan, Trash};
use rowbound_testkit::{App, Backend, OwnServer, Rowbound, TestDb, World};

const BINARY: &str = env!("CARGO_BIN_EXE_rowbound");
const HOUR: Duration = Duration::from_secs(3600);

/// A setting, with its value.
#[derive(Debug, Clone, Copy)]
struct Odd {
    set: &'static str,
    /// The application writes by sessions that began before it was set: under it, it could not write as it does.
    before: bool,
}

const fn odd(set: &'static str) -> Odd {
    Odd { set, before: false }
}

const fn before(set: &'static str) -> Odd {
    Odd { set, before: true }
}

/// `ALTER DATABASE .. SET`, and `ALTER ROLE .. IN DATABASE .. SET` for every second one.
const POSTGRES: &[Odd] = &[
    before("search_path = evil, pg_catalog, public"),
    odd("search_path = \"$user\", public, evil"),
    odd("row_security = off"),
    odd("gin_fuzzy_search_limit = 1"),
    odd("enable_seqscan = off"),
    odd("enable_indexscan = off"),
    odd("default_transaction_isolation = 'serializable'"),
    odd("default_transaction_isolation = 'repeatable read'"),
    odd("default_transaction_deferrable = on"),
    odd("statement_timeout = '10s'"),
    odd("lock_timeout = '10ms'"),
    odd("idle_session_timeout = '20s'"),
    odd("idle_in_transaction_session_timeout = '20s'"),
    odd("synchronous_commit = off"),
    odd("synchronous_commit = remote_apply"),
    odd("standard_conforming_strings = off"),
    odd("backslash_quote = on"),
    odd("escape_string_warning = off"),
    odd("bytea_output = 'escape'"),
    odd("datestyle = 'German, DMY'"),
    odd("intervalstyle = 'iso_8601'"),
    odd("timezone = 'Pacific/Kiritimati'"),
    odd("extra_float_digits = -15"),
    odd("quote_all_identifiers = on"),
    odd("array_nulls = off"),
    odd("transform_null_equals = on"),
    odd("client_encoding = 'latin1'"),
    odd("lc_messages = 'C'"),
    odd("client_min_messages = 'error'"),
    odd("session_replication_role = replica"),
    odd("zero_damaged_pages = on"),
    odd("ignore_checksum_failure = on"),
    odd("track_activities = off"),
    odd("constraint_exclusion = on"),
    odd("plan_cache_mode = force_generic_plan"),
    odd("jit = on"),
    odd("force_parallel_mode = on"),
    odd("work_mem = '64kB'"),
    odd("join_collapse_limit = 1"),
    odd("check_function_bodies = off"),
    odd("stats_fetch_consistency = snapshot"),
    odd("xmlbinary = hex"),
    odd("xmloption = document"),
    odd("enable_bitmapscan = off"),
    odd("enable_hashjoin = off"),
    odd("enable_mergejoin = off"),
    odd("enable_nestloop = off"),
    odd("enable_hashagg = off"),
    odd("enable_sort = off"),
    odd("enable_material = off"),
    odd("enable_partition_pruning = off"),
    odd("random_page_cost = 1000"),
    odd("cpu_tuple_cost = 100"),
    odd("from_collapse_limit = 1"),
    odd("geqo_threshold = 2"),
    odd("parallel_setup_cost = 0"),
    odd("min_parallel_table_scan_size = 0"),
    odd("default_statistics_target = 1"),
    odd("synchronize_seqscans = off"),
    odd("cursor_tuple_fraction = 0.01"),
    odd("default_text_search_config = 'pg_catalog.german'"),
    odd("default_toast_compression = 'pglz'"),
    odd("vacuum_cost_delay = 100"),
];

/// `SET GLOBAL`, on both.
const BOTH: &[Odd] = &[
    odd("sql_select_limit = 3"),
    odd("sql_mode = ''"),
    odd("sql_mode = 'ANSI,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH'"),
    odd("sql_mode = 'TRADITIONAL,HIGH_NOT_PRECEDENCE,IGNORE_SPACE'"),
    odd("group_concat_max_len = 4"),
    odd("max_sort_length = 64"),
    odd("sql_auto_is_null = on"),
    before("sql_safe_updates = on"),
    odd("max_join_size = 2"),
    odd("sql_big_selects = off"),
    before("autocommit = off"),
    before("completion_type = 2"),
    odd("foreign_key_checks = off"),
    odd("unique_checks = off"),
    odd("time_zone = '+13:00'"),
    odd("lock_wait_timeout = 1"),
    odd("innodb_lock_wait_timeout = 1"),
    odd("character_set_results = latin1"),
    odd("collation_connection = latin1_bin"),
    odd("optimizer_search_depth = 0"),
    odd("eq_range_index_dive_limit = 1"),
    odd("low_priority_updates = on"),
    odd("big_tables = on"),
    odd("max_error_count = 0"),
    odd("sql_quote_show_create = off"),
    odd("auto_increment_increment = 7"),
    odd("auto_increment_offset = 3"),
    odd("binlog_row_image = MINIMAL"),
    odd("character_set_client = latin1"),
    odd("character_set_connection = latin1"),
    odd("character_set_server = latin1"),
    odd("collation_server = latin1_german1_ci"),
    odd("default_week_format = 3"),
    odd("div_precision_increment = 0"),
    odd("event_scheduler = on"),
    odd("explicit_defaults_for_timestamp = off"),
    odd("innodb_deadlock_detect = off"),
    odd("innodb_stats_persistent = off"),
    odd("innodb_strict_mode = off"),
    odd("innodb_table_locks = off"),
    odd("join_buffer_size = 128"),
    odd("lc_time_names = 'de_DE'"),
    odd("max_heap_table_size = 16384"),
    odd("max_seeks_for_key = 1"),
    odd("net_buffer_length = 1024"),
    odd("alter_algorithm = copy"),
    odd("optimizer_prune_level = 0"),
    odd("sort_buffer_size = 32768"),
    odd("tmp_table_size = 1024"),
    odd("updatable_views_with_limit = 'NO'"),
    odd("wait_timeout = 60"),
];

const MARIADB: &[Odd] = &[
    odd("system_versioning_asof = '2020-01-01 00:00:00'"),
    odd("max_recursive_iterations = 1"),
    odd("tx_isolation = 'SERIALIZABLE'"),
    odd("tx_isolation = 'READ-UNCOMMITTED'"),
    before("tx_read_only = on"),
    // It has words of its own, `body` among them.
    before("sql_mode = 'ORACLE'"),
    odd("in_predicate_conversion_threshold = 2"),
    odd("max_statement_time = 5"),
    odd("optimizer_switch = 'mrr=on,mrr_cost_based=off,derived_merge=off,rowid_filter=off,index_merge=off,materialization=off'"),
    odd("query_cache_type = 1"),
    odd("join_cache_level = 8"),
    odd("innodb_flush_log_at_trx_commit = 0"),
    odd("default_storage_engine = MyISAM"),
];

const MYSQL: &[Odd] = &[
    odd("transaction_isolation = 'SERIALIZABLE'"),
    odd("transaction_isolation = 'READ-UNCOMMITTED'"),
    before("transaction_read_only = on"),
    odd("show_gipk_in_create_table_and_information_schema = off"),
    odd("sql_generate_invisible_primary_key = on"),
    odd("sql_require_primary_key = on"),
    odd("cte_max_recursion_depth = 1"),
    // A deletion by key reads the whole table, and waits for whoever inserts into it.
    before("range_optimizer_max_mem_size = 1"),
    odd("information_schema_stats_expiry = 0"),
    odd("optimizer_switch = 'mrr=on,mrr_cost_based=off,derived_merge=off,index_merge=off,materialization=off,hash_join=off'"),
    odd("internal_tmp_mem_storage_engine = MEMORY"),
    // The last: a query of the test's own is ended by it, too.
    odd("max_execution_time = 1"),
];

fn all(backend: Backend) -> Vec<Odd> {
    match backend {
        Backend::Postgres => POSTGRES.to_vec(),
        Backend::Mariadb => [BOTH, MARIADB].concat(),
        _ => [BOTH, MYSQL].concat(),
    }
}

/// A server's settings, and how they are changed.
struct Place {
    world: World,
    /// MariaDB and MySQL: theirs hold for the whole server. The session that sets them is as the server was at first, because it must be able to set them back.
    own: Option<(App, OwnServer)>,
    changed: Vec<String>,
}

impl Place {
    async fn new(backend: Backend) -> Place {
        let own = match backend {
            Backend::Postgres => None,
            Backend::Mariadb => Some(OwnServer::mariadb_with("--query-cache-type=1")),
            _ => Some(OwnServer::start(backend)),
        };
        let own = match own {
            Some(own) => Some((App::at(&own.server().url).await, own)),
            None => None,
        };
        let db = match &own {
            Some((_, own)) => TestDb::on(own.server()).await,
            None => TestDb::new(backend).await,
        };
        let world = World::with(db).with_docs().await.storage(|s: StoragePlan| s.trash(Trash::Keep(HOUR)));
        let id = backend.id_column();
        world.db.exec(&format!("create table post (id {id}, body text)")).await;
        if backend == Backend::Postgres {
            // The same operators and functions, which mean something else.
            world
                .db
                .exec(
                    "create schema evil;
                     create function evil.never(text, text) returns boolean language sql as 'select false';
                     create operator evil.= (leftarg = text, rightarg = text, function = evil.never);
                     create function evil.length(text) returns int language sql as 'select 0';
                     create function evil.now() returns timestamptz language sql as $$ select timestamptz '2001-01-01' $$",
                )
                .await;
            world.db.exec("create extension btree_gin; create index doc_file on doc using gin (file)").await;
        } else {
            world.db.exec("create index doc_file on doc (file)").await;
        }
        let world = world.bind(Binding::text("post.body", "default", ["/media/"]).expect("a binding"));
        Rowbound::new(BINARY, &world).run(&["attach"]).await.expect(0);
        Place { world, own, changed: Vec::new() }
    }

    /// Sets it, unless this version of the server does not know it.
    async fn set(&mut self, set: &str, number: usize) {
        let name = set.split(' ').next().expect("a name");
        match &mut self.own {
            None => {
                if self.world.db.query_strings(&format!("select 1 from pg_settings where lower(name) = '{name}'")).await.is_empty() {
                    return println!("{name} is not known here");
                }
                let whose = match number % 2 {
                    0 => format!("database {}", self.world.db.name()),
                    _ => format!("role current_user in database {}", self.world.db.name()),
                };
                self.world.db.exec(&format!("alter {whose} set {set}")).await;
                self.changed.push(format!("alter {whose} reset all"));
            }
            Some((root, _)) => {
                if root.query_strings(&format!("show global variables like '{name}'")).await.is_empty() {
                    return println!("{name} is not known here");
                }
                let was = root.query_strings(&format!("select cast(@@global.{name} as char)")).await.remove(0);
                let was = was.map_or_else(|| "null".to_owned(), |was| if was.parse::<f64>().is_ok() { was } else { format!("'{was}'") });
                let was = if name == "system_versioning_asof" { "default".to_owned() } else { was };
                root.exec(&format!("set global {set}")).await;
                self.changed.push(format!("set global {name} = {was}"));
            }
        }
    }

    async fn reset(&mut self) {
        for sql in std::mem::take(&mut self.changed).into_iter().rev() {
            match &mut self.own {
                None => self.world.db.exec(&sql).await,
                Some((root, _)) => root.exec(&sql).await,
            }
        }
    }
}

/// The application's two sessions.
async fn sessions(world: &World) -> (App, App) {
    (world.db.app().await, world.db.app().await)
}

/// Deletions, a text column, an open transaction, and a sweep. Returns what went wrong.
async fn story(world: &World, rowbound: &Rowbound, folder: &str, app: &mut App, other: &mut App) -> Vec<String> {
    let mut wrong = Vec::new();
    let file = |name: &str| format!("{folder}/{name}.jpg");
    let many: Vec<String> = (0..8).map(|n| format!("many{n}")).collect();
    let names: Vec<&str> = ["gone", "shared", "in-text", "of-text", "open"].into_iter().chain(many.iter().map(String::as_str)).collect();
    for name in names.iter().chain(&["orphan"]) {
        world.put_file(&file(name), name.as_bytes());
    }
    // Keys tell rows: comparing texts is what some of these settings change.
    let base: usize = folder.trim_start_matches('n').parse::<usize>().expect("a number") * 1000 + 1000;
    let mut released = Vec::new();
    let mut insert = Vec::new();
    for (n, name) in names.iter().enumerate() {
        if *name != "of-text" {
            insert.push(format!("({}, '{}')", base + n, file(name)));
            released.push(base + n);
        }
        if *name == "shared" || name.starts_with("many") {
            // Often: a limit cuts what is long.
            insert.extend((1..5).map(|m| format!("({}, '{}')", base + 100 * m + n, file(name))));
        }
    }
    app.exec(&format!("insert into doc (id, file) values {}", insert.join(", "))).await;
    app.exec(&format!(
        "insert into post (id, body) values ({base}, '<img src=\"/media/{}\"> and <img src=\"/media/{}\">')",
        file("in-text"),
        file("of-text")
    ))
    .await;

    other.begin().await;
    other.exec(&format!("insert into doc (id, file) values ({}, '{}')", base + 900, file("open"))).await;
    for id in &released {
        app.exec(&format!("delete from doc where id = {id}")).await;
    }
    app.exec(&format!("update post set body = '<img src=\"/media/{}\">' where id = {base}", file("in-text"))).await;
    rowbound.run(&["collect", "--patience", "10ms"]).await;
    other.commit().await;
    let collected = rowbound.run(&["collect", "--retry-now", "--wait", "60s"]).await;
    if collected.code != Some(0) {
        wrong.push(format!("collect ended with {:?}: {}{}", collected.code, collected.stdout, collected.stderr));
    }
    let mut stay: Vec<String> =
        ["shared", "in-text", "open", "orphan"].into_iter().chain(many.iter().map(String::as_str)).map(file).collect();
    stay.sort();
    let there = || -> Vec<String> { world.files().into_iter().filter(|name| name.starts_with(&format!("{folder}/"))).collect() };
    if there() != stay {
        wrong.push(format!("after the deletions {:?} are there, and not {stay:?}", there()));
    }
    let args = ["sweep", "--delete", "--max-share", "1", "--prefix", &format!("{folder}/"), "--format", "json"];
    let swept = rowbound.run(&args).await;
    let report: serde_json::Value = serde_json::from_str(&swept.stdout).unwrap_or_default();
    let orphans: Vec<&str> =
        report["storages"][0]["orphan_sample"].as_array().into_iter().flatten().filter_map(|o| o["name"].as_str()).collect();
    if orphans != [file("orphan")] {
        wrong.push(format!("the sweep found ({:?}) {}{}", swept.code, swept.stdout, swept.stderr));
    }
    rowbound.run(&["collect", "--retry-now", "--wait", "60s"]).await;
    stay.retain(|name| *name != file("orphan"));
    if there() != stay {
        wrong.push(format!("after the sweep {:?} are there, and not {stay:?}", there()));
    }
    wrong
}

/// Sets some, tells the story, sets them back, and tells it again.
async fn under(place: &mut Place, settings: &[Odd], number: usize) -> Vec<String> {
    let early = sessions(&place.world).await;
    let before = settings.iter().any(|s| s.before);
    for (n, odd) in settings.iter().enumerate() {
        place.set(odd.set, number + n).await;
    }
    let world = &place.world;
    let rowbound = Rowbound::new(BINARY, world).env("ROWBOUND_STATE", &world.folder().join("state").display().to_string());
    let (mut app, mut other) = if before { early } else { sessions(world).await };
    // What `attach` leaves under a setting is what it leaves without it.
    let attached = rowbound.run(&["attach"]).await;
    let mut wrong = Vec::new();
    if attached.code != Some(0) {
        wrong.push(format!("attach ended with {:?}: {}", attached.code, attached.stderr));
    }
    wrong.extend(story(world, &rowbound, &format!("n{}", number * 2), &mut app, &mut other).await);
    app.close().await;
    other.close().await;
    place.reset().await;
    let (world, (mut app, mut other)) = (&place.world, sessions(&place.world).await);
    wrong.extend(
        story(world, &rowbound, &format!("n{}", number * 2 + 1), &mut app, &mut other).await.into_iter().map(|w| format!("set back: {w}")),
    );
    app.close().await;
    other.close().await;
    wrong
}

async fn all_at_once(backend: Backend) {
    let mut place = Place::new(backend).await;
    // Those under which the application could not write as it does, apart: all others hold for its sessions, too. The later of two values of one setting is the
    // one that holds.
    let (apart, others): (Vec<Odd>, Vec<Odd>) = all(backend).into_iter().partition(|odd| odd.before);
    let mut wrong = under(&mut place, &others, 0).await;
    wrong.extend(under(&mut place, &apart, 1).await.into_iter().map(|w| format!("those set afterwards: {w}")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

async fn one_by_one(backend: Backend) {
    let mut place = Place::new(backend).await;
    let mut all_wrong = Vec::new();
    for (n, odd) in all(backend).into_iter().enumerate() {
        let wrong = under(&mut place, &[odd], n).await;
        println!("{backend}: {}: {} wrong", odd.set, wrong.len());
        all_wrong.extend(wrong.into_iter().map(|w| format!("{}: {w}", odd.set)));
    }
    assert!(all_wrong.is_empty(), "{}", all_wrong.join("\n"));
}

/// Somebody lets a database take no writes while its application moves to another server: then nothing is deleted, and it is said why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_takes_no_writes_stops_collection_on_postgres() {
    let place = Place::new(Backend::Postgres).await;
    let world = &place.world;
    let rowbound = Rowbound::new(BINARY, world);
    world.put_doc("a.jpg").await;
    world.db.exec("delete from doc").await;
    // By a session that began before, and can set it back.
    let database = world.db.name();
    world.db.exec(&format!("alter database {database} set default_transaction_read_only = on")).await;
    let refused = rowbound.run(&["collect"]).await;
    let said = format!("{}{}", refused.stdout, refused.stderr);
    assert!(refused.code != Some(0) && said.contains("switch default_transaction_read_only off"), "{said}");
    assert!(world.is_there("a.jpg"));
    world.db.exec(&format!("alter database {database} reset default_transaction_read_only")).await;
    rowbound.run(&["collect", "--wait", "60s"]).await.expect(0);
    assert!(!world.is_there("a.jpg"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_settings_all_at_once_on_postgres() {
    all_at_once(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_settings_all_at_once_on_mariadb_own_server() {
    all_at_once(Backend::Mariadb).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_settings_all_at_once_on_mysql_own_server() {
    all_at_once(Backend::Mysql).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: run it with --run-ignored all"]
async fn soak_odd_settings_one_by_one_on_postgres() {
    one_by_one(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: run it with --run-ignored all"]
async fn soak_odd_settings_one_by_one_on_mariadb_own_server() {
    one_by_one(Backend::Mariadb).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: run it with --run-ignored all"]
async fn soak_odd_settings_one_by_one_on_mysql_own_server() {
    one_by_one(Backend::Mysql).await;
}
