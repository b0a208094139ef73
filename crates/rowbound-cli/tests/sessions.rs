//! Sessions whose open transactions delay deletions: those that a person declares harmless do not, and all others are named.

use std::time::Duration;

use rowbound::{StoragePlan, Trash, plan::Ignored};
use rowbound_testkit::{Backend, Rowbound, World, db::App};

const BINARY: &str = env!("CARGO_BIN_EXE_rowbound");
const DEADLINE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// Three files whose rows are gone, and a session of another role that began before and looks on.
async fn delayed(backend: Backend) -> (World, App, String) {
    let world = World::new(backend).await.with_docs().await.storage(|s: StoragePlan| s.trash(Trash::Keep(DAY)));
    for name in ["a.jpg", "b.jpg", "c.jpg"] {
        world.put_doc(name).await;
    }
    Rowbound::new(BINARY, &world).run(&["attach"]).await.expect(0);
    let mut reporting = world.db.app_with(&["grant select on doc"]).await.expect("a server with roles");
    let name = if backend == Backend::Postgres { "select session_user::text" } else { "select substring_index(user(), '@', 1)" };
    let role = reporting.query_strings(name).await.remove(0).expect("a name");
    reporting.begin().await;
    reporting.query_strings("select file from doc").await;
    world.db.exec("delete from doc").await;
    (world, reporting, role)
}

/// A report that runs for hours delays no deletion once somebody has said that it writes nothing. The application's own sessions do.
async fn an_ignored_session(backend: Backend) {
    let (mut world, reporting, role) = delayed(backend).await;
    let waiting = Rowbound::new(BINARY, &world).run(&["collect", "--patience", "10ms"]).await.expect(1);
    assert!(waiting.stdout.contains("waits for open transactions") && waiting.stdout.contains(&role), "{}", waiting.stdout);
    assert_eq!(world.files().len(), 3);

    world.ignored_sessions.push(Ignored::Role(role.clone()));
    let rowbound = Rowbound::new(BINARY, &world);
    world.db.exec("insert into doc (file) values ('a.jpg')").await;
    world.db.exec("delete from doc").await;
    let mut app = world.db.app().await;
    app.begin().await;
    app.exec("insert into doc (file) values ('a.jpg')").await;
    let waiting = rowbound.run(&["collect", "--retry-now", "--patience", "10ms"]).await.expect(1);
    assert!(waiting.stdout.contains("waits for open transactions") && !waiting.stdout.contains(&role), "{}", waiting.stdout);
    app.commit().await;
    rowbound.run(&["collect", "--retry-now", "--wait", "60s"]).await.expect(0);
    assert_eq!(world.files(), ["a.jpg"], "the application's row came in time");
    let doctor = rowbound.run(&["doctor"]).await.stdout;
    assert!(doctor.contains(&format!("deletions do not wait for transactions of role:{role}")), "{doctor}");
    reporting.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ignored_session_delays_nothing_on_postgres() {
    an_ignored_session(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ignored_session_delays_nothing_on_mariadb() {
    an_ignored_session(Backend::Mariadb).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ignored_session_delays_nothing_on_mysql() {
    an_ignored_session(Backend::Mysql).await;
}

/// `status` says who delays deletions, for how long, and how many candidates wait.
async fn a_delay_in_status(backend: Backend) {
    let (world, mut reporting, role) = delayed(backend).await;
    let rowbound = Rowbound::new(BINARY, &world);
    // Those of this session: a server may have others.
    let delay = async || {
        let status = rowbound.run(&["status", "--format", "json"]).await.json();
        let all = status["delays"].as_array().expect("a list").clone();
        all.into_iter().find(|d| d["role"] == *role).unwrap_or_default()
    };
    assert!(delay().await.is_null(), "nobody has tried yet, and it is not open for long");
    rowbound.run(&["collect", "--patience", "10ms"]).await.expect(1);
    let told = delay().await;
    assert!(told["waiting"] == 3 && told["session"].is_i64(), "{told}");
    assert!(told["since"].is_string() && told["seconds"].as_u64().is_some_and(|s| s < 60), "{told}");
    // Those that are due and not tried yet wait for it, too.
    world.db.exec("insert into doc (file) values ('d.jpg')").await;
    world.db.exec("delete from doc").await;
    assert_eq!(delay().await["waiting"], 4);
    let text = rowbound.run(&["status"]).await.stdout;
    let line = text.lines().find(|line| line.starts_with("delayed") && line.contains(&role)).unwrap_or_else(|| panic!("{text}"));
    assert!(line.contains("4 candidates wait for an open transaction"), "{line}");
    assert!(text.find(line) < text.find("binding "), "before everything else: {text}");

    reporting.rollback().await;
    rowbound.run(&["collect", "--retry-now", "--wait", "60s"]).await.expect(0);
    assert!(delay().await.is_null());
    reporting.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_names_the_session_that_delays_on_postgres() {
    a_delay_in_status(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_names_the_session_that_delays_on_mariadb() {
    a_delay_in_status(Backend::Mariadb).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_names_the_session_that_delays_on_mysql() {
    a_delay_in_status(Backend::Mysql).await;
}

/// So does the log of `run`, once, after a minute.
async fn a_delay_in_the_log(backend: Backend) {
    let (world, mut reporting, role) = delayed(backend).await;
    let run = Rowbound::new(BINARY, &world).spawn(&["run"]);
    run.wait_for_line("an open transaction delays deletions", Duration::from_secs(120)).await;
    let said = run.said();
    let line = said.lines().find(|line| line.contains("delays deletions") && line.contains(&role)).unwrap_or_else(|| panic!("{said}"));
    assert!(line.contains("waiting=3"), "{line}");
    reporting.rollback().await;
    run.until(DEADLINE, "the deletion", async || world.files().is_empty()).await;
    run.terminate();
    let said = run.wait(DEADLINE).await.expect(0).stderr;
    let lines = said.lines().filter(|line| line.contains("delays deletions") && line.contains(&role));
    assert_eq!(lines.count(), 1, "{said}");
    reporting.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a delay is said after a minute: run it with --run-ignored all"]
async fn soak_the_log_names_the_session_that_delays_on_postgres() {
    a_delay_in_the_log(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a delay is said after a minute: run it with --run-ignored all"]
async fn soak_the_log_names_the_session_that_delays_on_mariadb() {
    a_delay_in_the_log(Backend::Mariadb).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a delay is said after a minute: run it with --run-ignored all"]
async fn soak_the_log_names_the_session_that_delays_on_mysql() {
    a_delay_in_the_log(Backend::Mysql).await;
}

/// What `put` writes is the application's: its transaction is waited for, although the session is one of Rowbound's.
async fn a_put_is_waited_for(backend: Backend) {
    let world =
        World::new(backend).await.with_docs().await.storage(|s: StoragePlan| s.trash(Trash::Keep(DAY)).min_age(Duration::from_secs(1)));
    world.put_doc("a.jpg").await;
    world.db.exec("insert into doc (file) values (null)").await;
    let rowbound = Rowbound::new(BINARY, &world);
    rowbound.run(&["attach"]).await.expect(0);
    // A trigger of the application that waits at a gate. It is found by the role's own search_path.
    let gate = format!("gate {}", world.db.name());
    let (shut, open) = match backend {
        Backend::Postgres => {
            world.db.exec("create table gate (n int)").await;
            world
                .db
                .exec("create function pass() returns trigger language plpgsql as $$ begin perform from gate; perform pg_advisory_xact_lock(77); return new; end $$")
                .await;
            world.db.exec("create trigger pass before update on doc for each row execute function pass()").await;
            ("select pg_advisory_lock(77)".to_owned(), "select pg_advisory_unlock(77)".to_owned())
        }
        _ => {
            world.db.exec(&format!("create trigger pass before update on doc for each row do get_lock('{gate}', 60)")).await;
            (format!("select get_lock('{gate}', 0)"), format!("select release_lock('{gate}')"))
        }
    };
    let mut keeper = world.db.app().await;
    keeper.query_strings(&shut).await;
    let file = world.folder().join("new.txt");
    std::fs::write(&file, "new").expect("a file");
    let key = world.db.query_strings("select cast(id as char(20)) from doc where file is null").await.remove(0).expect("a key");
    let other = world.db.query_strings("select cast(id as char(20)) from doc where file is not null").await.remove(0).expect("a key");
    let put = rowbound.spawn(&["put", "doc.file", key.trim(), file.to_str().expect("a path")]);
    let waits = match backend {
        Backend::Postgres => "select 1 from pg_locks where locktype = 'advisory' and objid = 77 and not granted".to_owned(),
        _ => "select 1 from information_schema.processlist where state = 'User lock' and db = database()".to_owned(),
    };
    put.until(DEADLINE, "put waits in the middle of its transaction", async || !world.db.query_strings(&waits).await.is_empty()).await;
    // By its key: a look at every row would wait for that of `put`.
    world.db.exec(&format!("delete from doc where id = {}", other.trim())).await;
    let waiting = rowbound.run(&["collect", "--patience", "10ms"]).await.expect(1);
    assert!(waiting.stdout.contains("waits for open transactions"), "{}", waiting.stdout);
    assert!(world.is_there("a.jpg"));
    keeper.query_strings(&open).await;
    put.wait(DEADLINE).await.expect(0);
    keeper.close().await;
    rowbound.run(&["collect", "--retry-now", "--wait", "60s"]).await.expect(0);
    assert_eq!(world.files(), world.refs().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_put_writes_is_waited_for_on_postgres() {
    a_put_is_waited_for(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_put_writes_is_waited_for_on_mariadb() {
    a_put_is_waited_for(Backend::Mariadb).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_put_writes_is_waited_for_on_mysql() {
    a_put_is_waited_for(Backend::Mysql).await;
}

/// A session that calls itself as ours do, under our role, is anybody's: `PGAPPNAME=rowbound psql`, for example.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_calls_himself_rowbound_is_waited_for() {
    let world = World::new(Backend::Postgres).await.with_docs().await.storage(|s: StoragePlan| s.trash(Trash::Keep(DAY)));
    world.put_doc("a.jpg").await;
    let rowbound = Rowbound::new(BINARY, &world);
    rowbound.run(&["attach"]).await.expect(0);
    let mut app = App::at(&format!("{}?application_name=rowbound", world.db.url())).await;
    app.begin().await;
    app.exec("insert into doc (file) values ('a.jpg')").await;
    world.db.exec("delete from doc").await;
    let waiting = rowbound.run(&["collect", "--patience", "10ms"]).await.expect(1);
    assert!(waiting.stdout.contains("waits for open transactions"), "{}", waiting.stdout);
    app.commit().await;
    rowbound.run(&["collect", "--retry-now", "--wait", "60s"]).await.expect(0);
    assert_eq!(world.files(), ["a.jpg"]);
    app.close().await;
}

/// Several workers and a sweep do not wait for each other: each knows the sessions of all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_of_another_process_delays_nothing_on_postgres() {
    let world = World::new(Backend::Postgres).await.with_docs().await.storage(|s: StoragePlan| s.trash(Trash::Keep(DAY)));
    world.put_doc("a.jpg").await;
    let rowbound = Rowbound::new(BINARY, &world);
    rowbound.run(&["attach"]).await.expect(0);
    // Another process, in the middle of reading a column: more of it than lines have room for.
    world.db.exec("insert into doc (file) select repeat('x', 200) || n from generate_series(1, 100000) n").await;
    let other =
        rowbound::database::open(world.db.url(), &rowbound::database::Options::default()).await.unwrap_or_else(|e| panic!("{}", e.full()));
    let scan = rowbound::database::ColumnScan {
        binding: 1,
        column: rowbound::binding::Column::parse("doc.file").expect("a column"),
        query: None,
        only: Default::default(),
        reading: rowbound::binding::Reading::Name,
        ordered: false,
        after: None,
        until: None,
    };
    let mut values = other.scan(&scan).await.unwrap_or_else(|e| panic!("{}", e.full()));
    values.pages.recv().await.expect("a page").unwrap_or_else(|e| panic!("{}", e.full()));
    world.db.exec("delete from doc where file = 'a.jpg'").await;
    let reads = "select 1 from pg_stat_activity where datname = current_database() and state = 'active' and query like 'copy %'";
    assert_eq!(world.db.query_strings(reads).await.len(), 1, "this test is only worth something while the column is read");
    rowbound.run(&["collect", "--wait", "60s"]).await.expect(0);
    assert!(!world.is_there("a.jpg"));
    assert_eq!(world.db.query_strings(reads).await.len(), 1, "it is still read");
    drop(values);
    other.close().await;
}

/// What cannot be read, or cannot be had, is said before anything is done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_means_nothing_is_refused() {
    let world = World::new(Backend::Sqlite).await.with_docs().await;
    let rowbound = Rowbound::new(BINARY, &world);
    rowbound.run(&["attach"]).await.expect(0);
    let path = world.write_config();
    let config = std::fs::read_to_string(&path).expect("the configuration");
    let says = async |barrier: &str, text: &str| {
        std::fs::write(&path, format!("{config}\n[barrier]\n{barrier}\n")).expect("the configuration");
        let refused = rowbound.run(&["status"]).await.expect(2);
        assert!(refused.stderr.contains(text), "{barrier}: {}", refused.stderr);
    };
    says("ignore = [\"reporting\"]", "in: barrier, ignore: \"reporting\"").await;
    says("ignore = \"role:\"", "in: barrier, ignore: \"role:\"").await;
    says("ignore = [\"role:a\", \"\"]", "in: barrier, ignore: \"\"").await;
    says("ignored = []", "unknown field `ignored`").await;
    says("", "missing field `ignore`").await;
    says("ignore = [\"role:reporting\"]", "its write lock is the barrier").await;
}
