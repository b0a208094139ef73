//! What the ledger keeps, for how long, and how it reads: values that are no names, edits that release nothing, one file of two columns.

use std::time::Duration;

use rowbound::{Binding, StoragePlan, Trash};
use rowbound_testkit::{Backend, Rowbound, World};

const BINARY: &str = env!("CARGO_BIN_EXE_rowbound");
const DEADLINE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// A column's type that takes any text.
fn wide(backend: Backend) -> &'static str {
    if matches!(backend, Backend::Sqlite | Backend::Postgres) { "text" } else { "longtext" }
}

/// A world with `person.picture` bound as names, and its columns as wide as they can be.
async fn people(backend: Backend) -> World {
    let world = World::new(backend).await.bind(Binding::name("person.picture", "default").expect("a binding"));
    world.db.exec(&format!("create table person (id integer primary key, picture {})", wide(backend))).await;
    world
}

async fn insert(world: &World, id: usize, picture: &str) {
    let picture = world.db.backend().literal(picture);
    world.db.exec(&format!("insert into person values ({id}, {picture})")).await;
}

/// Makes everything in the ledger two years older.
async fn age_ledger(world: &World) {
    let at = match world.db.backend() {
        Backend::Sqlite => "at - 2 * 365 * 86400000",
        Backend::Postgres => "at - interval '730 days'",
        Backend::Mariadb | Backend::Mysql => "at - interval 730 day",
    };
    world.db.exec(&format!("update {} set at = {at}", world.own_table("ledger"))).await;
}

/// Avatars of other hosts and pictures within the row reference no file: nothing is wrong with them, and the ledger does not repeat them.
async fn what_names_no_file(backend: Backend) {
    let world = people(backend).await;
    // A picture of 960 kB; base64 of that length holds `//` somewhere.
    let picture = |last: char| format!("data:image/png;base64,iVBORw0KGgo//{}{last}", "A".repeat(983_000));
    let values = [
        "https://avatars.example.com/u/1?s=80".to_owned(),
        "HTTP://example.com/a.jpg".to_owned(),
        picture('1'),
        picture('1'),
        picture('2'),
        // By their letters these could be names: nothing lies under them.
        "data:image/svg+xml;utf8,<svg/>".to_owned(),
        format!("data:image/gif;base64,{}", "R".repeat(3_000)),
    ];
    for (id, value) in values.iter().enumerate() {
        insert(&world, id, value).await;
    }
    let rowbound = Rowbound::new(BINARY, &world);
    rowbound.run(&["attach"]).await.expect(0);
    world.db.exec("delete from person").await;
    let said = rowbound.run(&["collect", "--format", "json"]).await.expect(0).json();
    assert_eq!(said["outcomes"], serde_json::json!({ "foreign": values.len() }), "{said}");

    let history = rowbound.run(&["history", "--format", "json"]).await.expect(0).json();
    let mut names: Vec<_> = history.as_array().expect("entries").iter().map(|e| e["name"].as_str().expect("a name").to_owned()).collect();
    names.sort();
    assert!(names.iter().all(|name| name.len() < 1_200), "{:?}", names.iter().map(String::len).max());
    let long: Vec<_> = names.iter().filter(|name| name.contains(&format!("..[{} bytes, sha256:", values[2].len()))).collect();
    assert_eq!(long.len(), 3);
    assert!(long[0] != long[2] && (long[0] == long[1] || long[1] == long[2]), "equal values are equal, others are not: {long:?}");
    assert!(names.contains(&values[0]) && names.contains(&values[5]), "short ones are whole");

    let text = rowbound.run(&["history"]).await.expect(0).stdout;
    let widest = text.lines().map(|line| line.chars().count()).max().expect("lines");
    assert!(widest < 200, "a long name pads no line: {widest}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_names_no_file_is_foreign_and_short_on_sqlite() {
    what_names_no_file(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_names_no_file_is_foreign_and_short_on_postgres() {
    what_names_no_file(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_names_no_file_is_foreign_and_short_on_mariadb() {
    what_names_no_file(Backend::Mariadb).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_names_no_file_is_foreign_and_short_on_mysql() {
    what_names_no_file(Backend::Mysql).await;
}

/// A value that can be a name is one, however much it looks like something else: a row holds its file, and the last row takes it along.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_may_be_called_like_a_data_uri() {
    for backend in Backend::all() {
        let world = people(backend).await.with_docs().await;
        let name = "data:image/png;base64,iVBORw0KGgo=";
        world.put_doc(name).await;
        insert(&world, 1, name).await;
        // What is refused otherwise still is, and a person hears of it.
        insert(&world, 2, "/etc/passwd").await;
        insert(&world, 3, "ftp://example.com/a.jpg").await;
        let rowbound = Rowbound::new(BINARY, &world);
        rowbound.run(&["attach"]).await.expect(0);
        world.db.exec("delete from doc").await;
        rowbound.run(&["collect"]).await.expect(0);
        assert!(world.is_there(name), "{backend}: a row references it");
        world.db.exec("delete from person where id = 1").await;
        rowbound.run(&["collect"]).await.expect(0);
        assert!(!world.is_there(name), "{backend}");
        world.db.exec("delete from person").await;
        let said = rowbound.run(&["collect", "--format", "json"]).await.expect(1).json();
        assert_eq!(said["outcomes"]["refused"], 2, "{backend}: {said}");
    }
}

/// An edit of a text without pictures is not told; one that mentions a picture, and JSON with a URL of another host, are.
async fn edits_without_names(backend: Backend) {
    let world = World::new(backend)
        .await
        .bind(Binding::text("article.body", "default", ["/media/"]).expect("a binding"))
        .bind(Binding::json("article.gallery", "default", "$[*]").expect("a binding"));
    let wide = wide(backend);
    world.db.exec(&format!("create table article (id integer primary key, body {wide}, gallery {wide})")).await;
    for i in 0..20 {
        world.db.exec(&format!("insert into article values ({i}, '<p>Lorem ipsum {i}</p>', '[]')")).await;
    }
    world.db.exec("insert into article values (20, '<img src=\"/media/a.jpg\">', '[\"https://example.com/a.jpg\"]')").await;
    world.put_file("a.jpg", b"x");
    let rowbound = Rowbound::new(BINARY, &world);
    rowbound.run(&["attach"]).await.expect(0);
    world.db.exec("update article set body = '<p>Edited</p>', gallery = '[ ]'").await;
    let said = rowbound.run(&["collect", "--format", "json"]).await.expect(0).json();
    assert_eq!(said["outcomes"], serde_json::json!({ "foreign": 1, "opened": 1, "trashed": 1 }), "{said}");
    assert_eq!(said["empty"], 40, "{said}");
    assert!(world.files().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_without_pictures_is_not_told_on_sqlite() {
    edits_without_names(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_without_pictures_is_not_told_on_postgres() {
    edits_without_names(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_without_pictures_is_not_told_on_mariadb() {
    edits_without_names(Backend::Mariadb).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_without_pictures_is_not_told_on_mysql() {
    edits_without_names(Backend::Mysql).await;
}

/// One file, named by a plain column and by a JSON one, both of which release it.
async fn two_columns(backend: Backend, files: usize) -> (World, Rowbound) {
    let world = World::new(backend)
        .await
        .bind(Binding::name("post.cover", "default").expect("a binding"))
        .bind(Binding::json("post.pictures", "default", "$[*]").expect("a binding"))
        .storage(|s: StoragePlan| s.trash(Trash::Keep(DAY)));
    world.db.exec(&format!("create table post (id integer primary key, cover varchar(255), pictures {})", wide(backend))).await;
    let rows: Vec<_> = (0..files).map(|i| format!("({i}, '{i}.jpg', '[\"{i}.jpg\"]')")).collect();
    world.db.exec(&format!("insert into post values {}", rows.join(", "))).await;
    for i in 0..files {
        world.put_file(&format!("{i}.jpg"), b"four");
    }
    let rowbound = Rowbound::new(BINARY, &world);
    rowbound.run(&["attach"]).await.expect(0);
    (world, rowbound)
}

async fn one_file_of_two_columns(backend: Backend) {
    let (world, rowbound) = two_columns(backend, 1).await;
    world.db.exec("delete from post").await;
    let said = rowbound.run(&["collect"]).await.expect(0).stdout;
    assert!(said.starts_with("1 deleted (4 B), 0 kept"), "{said}");
    let history = rowbound.run(&["history", "--name", "0.jpg", "--format", "json"]).await.expect(0).json();
    let mut told: Vec<_> = history.as_array().expect("entries").iter().map(|e| (e["outcome"].as_str(), e["note"].as_str())).collect();
    // Which of the two comes first, nobody promises.
    told.sort();
    let another = "another candidate had the same file, and has moved it";
    assert_eq!(told, [(Some("duplicate"), Some(another)), (Some("trashed"), None)]);
    assert_eq!(world.trashed().len(), 1);
    // It comes back as ever.
    rowbound.run(&["restore", "0.jpg"]).await.expect(0);
    assert_eq!(world.files(), ["0.jpg"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_file_of_two_columns_is_told_once_on_sqlite() {
    one_file_of_two_columns(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_file_of_two_columns_is_told_once_on_postgres() {
    one_file_of_two_columns(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_file_of_two_columns_is_told_once_on_mariadb() {
    one_file_of_two_columns(Backend::Mariadb).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_file_of_two_columns_is_told_once_on_mysql() {
    one_file_of_two_columns(Backend::Mysql).await;
}

/// The same when one worker has looked at the file, and another moves it before the first can: the first finds it in the trash, and ends as if it had
/// looked a moment later.
async fn another_is_faster(backend: Backend) {
    let (world, rowbound) = two_columns(backend, 1).await;
    world.db.exec("delete from post").await;
    let (held, place) = Rowbound::new(BINARY, &world).held_at("looked");
    let slow = held.spawn(&["collect", "--batch", "1", "--workers", "1"]);
    place.reached(&slow, DEADLINE).await;
    // What the first holds is still in the queue.
    rowbound.run(&["collect"]).await.expect(1);
    assert!(world.files().is_empty());
    place.let_go();
    slow.wait(DEADLINE).await.expect(0);
    let mut told = world.outcomes("0.jpg").await;
    told.sort();
    assert_eq!(told, ["duplicate", "trashed"]);
    assert_eq!(world.trashed().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_faster_worker_has_the_same_file_on_postgres() {
    another_is_faster(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_faster_worker_has_the_same_file_on_mariadb() {
    another_is_faster(Backend::Mariadb).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_faster_worker_has_the_same_file_on_mysql() {
    another_is_faster(Backend::Mysql).await;
}

/// The same for many files, by workers that find in the trash what others have just moved.
async fn several_workers(backend: Backend) {
    const FILES: usize = 600;
    let (world, rowbound) = two_columns(backend, FILES).await;
    let run = rowbound.spawn(&["run", "--workers", "4", "--batch", "50"]);
    world.db.exec("delete from post").await;
    let candidates = world.own_table("candidate");
    run.until(DEADLINE, "an empty queue", async || world.count(&candidates).await == 0).await;
    run.terminate();
    run.wait(DEADLINE).await.expect(0);
    let ledger = world.own_table("ledger");
    for (outcome, count) in [("opened", FILES), ("trashed", FILES), ("duplicate", FILES)] {
        let n = world.count(&format!("{ledger} where outcome = '{outcome}'")).await;
        assert_eq!(n, count as u64, "{backend}: {outcome}");
    }
    let names = world.db.query_strings(&format!("select name from {ledger} where outcome = 'trashed' group by name")).await;
    assert_eq!(names.len(), FILES, "{backend}: each once");
    assert!(world.files().is_empty());
}

macro_rules! several {
    ($($test:ident $backend:ident),*) => { $(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            several_workers(Backend::$backend).await;
        }
    )* };
}

several!(
    files_of_two_columns_are_told_once_by_several_workers_on_sqlite Sqlite,
    files_of_two_columns_are_told_once_by_several_workers_on_postgres Postgres,
    files_of_two_columns_are_told_once_by_several_workers_on_mariadb Mariadb,
    files_of_two_columns_are_told_once_by_several_workers_on_mysql Mysql
);

/// `keep_history`: by `collect` at its end, and by `run`.
async fn history_is_kept_for_a_year(backend: Backend) {
    let mut world = World::new(backend).await.with_docs().await.storage(|s: StoragePlan| s.trash(Trash::Keep(DAY * 3650)));
    world.keep_history = Some(DAY * 365);
    for name in ["a.jpg", "b.jpg", "shared.jpg", "shared.jpg"] {
        world.put_doc(name).await;
    }
    let rowbound = Rowbound::new(BINARY, &world);
    rowbound.run(&["attach"]).await.expect(0);
    let release = async |name: &str| {
        world
            .db
            .exec(&format!("delete from doc where id in (select id from (select min(id) as id from doc where file = '{name}') as d)"))
            .await;
        rowbound.run(&["collect"]).await.expect(0);
    };
    release("a.jpg").await;
    release("b.jpg").await;
    release("shared.jpg").await;
    rowbound.run(&["restore", "b.jpg"]).await.expect(0);
    let ledger = world.own_table("ledger");
    assert_eq!(world.count(&ledger).await, 4);

    rowbound.run(&["collect"]).await.expect(0);
    assert_eq!(world.count(&ledger).await, 4, "nothing is old");
    age_ledger(&world).await;
    rowbound.run(&["collect"]).await.expect(0);
    assert_eq!(world.outcomes("a.jpg").await, ["trashed"], "it lies in the trash still");
    assert_eq!(world.count(&ledger).await, 1, "what was kept, and what came back, is forgotten");

    release("shared.jpg").await;
    rowbound.run(&["restore", "shared.jpg"]).await.expect(0);
    age_ledger(&world).await;
    let run = rowbound.spawn(&["run"]);
    run.until(DEADLINE, "only what is needed", async || world.count(&ledger).await == 1).await;
    run.wait_for_line("old entries left the ledger", DEADLINE).await;
    run.terminate();
    run.wait(DEADLINE).await.expect(0);
    rowbound.run(&["restore", "a.jpg"]).await.expect(0);
    assert!(world.is_there("a.jpg"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_is_kept_as_long_as_it_is_told_on_sqlite() {
    history_is_kept_for_a_year(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_is_kept_as_long_as_it_is_told_on_postgres() {
    history_is_kept_for_a_year(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_is_kept_as_long_as_it_is_told_on_mariadb() {
    history_is_kept_for_a_year(Backend::Mariadb).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_is_kept_as_long_as_it_is_told_on_mysql() {
    history_is_kept_for_a_year(Backend::Mysql).await;
}

/// A copy's ledger is the original's: a database that is not ours loses none of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledger_of_a_copy_is_left_alone() {
    let mut world = World::new(Backend::Sqlite).await.with_docs().await;
    world.keep_history = Some(DAY * 365);
    world.put_doc("a.jpg").await;
    world.put_doc("a.jpg").await;
    let rowbound = Rowbound::new(BINARY, &world);
    rowbound.run(&["attach"]).await.expect(0);
    world.db.exec("delete from doc where id = 1").await;
    rowbound.run(&["collect"]).await.expect(0);
    age_ledger(&world).await;
    let copy = world.db.copy().await;
    rowbound.run(&["collect", "--database", copy.url()]).await.expect(4);
    let left = copy.query_strings("select outcome from rowbound_ledger").await;
    assert_eq!(left, [Some("kept".to_owned())]);
}

/// What cannot be forgotten is said, and ends `collect` with 1 after everything else was done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_cannot_be_shortened_delays_nothing() {
    let mut world = World::new(Backend::Postgres).await.with_docs().await;
    world.keep_history = Some(DAY * 365);
    for name in ["a.jpg", "a.jpg", "b.jpg"] {
        world.put_doc(name).await;
    }
    let rowbound = Rowbound::new(BINARY, &world);
    rowbound.run(&["attach"]).await.expect(0);
    world.db.exec("delete from doc where id = 1").await;
    rowbound.run(&["collect"]).await.expect(0);
    age_ledger(&world).await;
    world.db.exec("create function no() returns trigger language plpgsql as 'begin raise exception ''never''; end'").await;
    world.db.exec("create trigger no before delete on rowbound.ledger for each row execute function no()").await;
    world.db.exec("delete from doc where file = 'b.jpg'").await;
    let said = rowbound.run(&["collect"]).await.expect(1);
    assert!(said.stdout.contains("old entries are left in the ledger: ") && said.stdout.contains("never"), "{}", said.stdout);
    assert!(!world.is_there("b.jpg"));
    let run = rowbound.spawn(&["run"]);
    run.wait_for_line("old entries stay in the ledger", DEADLINE).await;
    world.db.exec("delete from doc where file = 'a.jpg'").await;
    run.until(DEADLINE, "the deletion", async || !world.is_there("a.jpg")).await;
    run.terminate();
    run.wait(DEADLINE).await.expect(0);
}
