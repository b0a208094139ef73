//! Shadow mode: everything but the deletion, until a person says so.

use std::time::Duration;

use jiff::Timestamp;
use rowbound::{
    Trash,
    binding::Mode,
    database::{self, Options},
    queue::Announce,
    storage::{Storage, folder::Folder},
};
use rowbound_testkit::{Backend, Rowbound, World, wait_until};

const BINARY: &str = env!("CARGO_BIN_EXE_rowbound");
const DEADLINE: Duration = Duration::from_secs(60);

/// A world with three files, attached in shadow mode.
async fn world(backend: Backend) -> World {
    let world = World::new(backend).await.with_docs().await;
    Rowbound::new(BINARY, &world).run(&["attach", "--shadow"]).await.expect(0);
    for name in ["a.jpg", "b.jpg", "c.jpg"] {
        world.put_doc(name).await;
    }
    world
}

/// The binding as `status` shows it.
async fn binding(world: &World) -> serde_json::Value {
    Rowbound::new(BINARY, world).run(&["status", "--format", "json"]).await.json()["bindings"][0].clone()
}

/// From `attach --shadow` to `promote`, through another `attach` and a daemon that runs all the while.
async fn attach_look_promote(backend: Backend) {
    let world = world(backend).await;
    let rowbound = Rowbound::new(BINARY, &world);
    let daemon = rowbound.spawn(&["run", "--poll", "20ms"]);
    daemon.wait_for_line("collecting", DEADLINE).await;
    world.db.exec("delete from doc where file = 'a.jpg'").await;
    world.db.exec("update doc set file = 'z.jpg' where file = 'b.jpg'").await;
    world.put_file("z.jpg", b"z");
    daemon.until(DEADLINE, "both are counted", || async { binding(&world).await["shadow"]["files"] == 2 }).await;
    assert_eq!(world.files(), ["a.jpg", "b.jpg", "c.jpg", "z.jpg"]);

    // It outlasts an `attach` that does not ask for it.
    let again = rowbound.run(&["attach"]).await.expect(0);
    assert!(again.stdout.contains("attached  doc.file -> default (shadow mode: nothing is deleted)"), "{}", again.stdout);
    let shown = binding(&world).await;
    assert_eq!((shown["mode"].as_str(), shown["shadow"]["bytes"].as_u64()), (Some("shadow"), Some(10)), "{shown}");
    assert!(shown["shadow"]["since"].is_string() && shown["shadow"]["oldest"].is_string(), "{shown}");
    assert_eq!(shown["shadow"]["planned"], false);
    let text = rowbound.run(&["status"]).await.expect(0).stdout;
    assert!(text.contains("2 files (10 B) would have been deleted since"), "{text}");
    assert!(text.contains("to go live: rowbound promote doc.file"), "{text}");

    let wrong = rowbound.run(&["promote", "doc.fil"]).await.expect(2);
    assert!(wrong.stderr.contains("bound are: doc.file"), "{}", wrong.stderr);
    let promoted = rowbound.run(&["promote", "doc.file"]).await.expect(0);
    assert!(promoted.stdout.contains("in shadow mode 2 files (10 B) would have gone; they stay"), "{}", promoted.stdout);
    assert!(rowbound.run(&["promote", "--all"]).await.expect(0).stdout.contains("was live already"));
    assert_eq!(binding(&world).await["shadow"], serde_json::Value::Null);
    world.db.exec("delete from doc where file = 'c.jpg'").await;
    daemon.until(DEADLINE, "the same daemon deletes now", || async { world.files() == ["a.jpg", "b.jpg", "z.jpg"] }).await;

    // And back: the running daemon stops deleting, and counts from here.
    rowbound.run(&["attach", "--shadow"]).await.expect(0);
    world.db.exec("delete from doc").await;
    daemon.until(DEADLINE, "counted from here", || async { binding(&world).await["shadow"]["files"] == 1 }).await;
    assert_eq!(world.files(), ["a.jpg", "b.jpg", "z.jpg"]);
    daemon.terminate();
    daemon.wait(DEADLINE).await.expect(0);
}

/// The plan's word stays the plan's: `promote` says so and changes nothing.
async fn the_plan_has_its_say(backend: Backend) {
    let mut world = world(backend).await;
    world.bindings[0].mode = Mode::Shadow;
    let refused = Rowbound::new(BINARY, &world).run(&["promote", "doc.file"]).await.expect(2);
    assert!(refused.stderr.contains("take `mode = \"shadow\"` out"), "{}", refused.stderr);
    let stays = Rowbound::new(BINARY, &world).run(&["promote", "--all", "--format", "json"]).await.expect(1);
    assert_eq!(stays.json()[0]["now"], "planned");
    assert_eq!(binding(&world).await["shadow"]["planned"], true);
    // Out of the plan, it is still what `attach --shadow` said.
    world.bindings[0].mode = Mode::Live;
    world.db.exec("delete from doc where file = 'a.jpg'").await;
    Rowbound::new(BINARY, &world).run(&["collect"]).await.expect(0);
    assert_eq!(world.files(), ["a.jpg", "b.jpg", "c.jpg"]);
    Rowbound::new(BINARY, &world).run(&["promote", "--all"]).await.expect(0);
    world.db.exec("delete from doc where file = 'b.jpg'").await;
    Rowbound::new(BINARY, &world).run(&["collect"]).await.expect(0);
    assert_eq!(world.files(), ["a.jpg", "c.jpg"]);
}

/// An orphan that a sweep announces may have been any column's: it stays while one of them is in shadow mode.
async fn an_orphan_stays(backend: Backend) {
    let world = world(backend).await;
    world.put_file("orphan.jpg", b"orphan");
    let announce = async || {
        let db = database::open(world.db.url(), &Options::default()).await.expect("the database opens");
        let name = World::file_name("orphan.jpg");
        db.announce(&[Announce { storage: "default".into(), name, event: "sweep", wait: Duration::ZERO }]).await.expect("announced");
        db.close().await;
        Rowbound::new(BINARY, &world).run(&["collect"]).await.expect(0);
    };
    announce().await;
    assert!(world.files().contains(&"orphan.jpg".to_owned()));
    Rowbound::new(BINARY, &world).run(&["promote", "--all"]).await.expect(0);
    announce().await;
    assert_eq!(world.files(), ["a.jpg", "b.jpg", "c.jpg"]);
}

macro_rules! on {
    ($($module:ident $backend:ident),*) => { $(
        mod $module {
            use super::*;

            #[tokio::test(flavor = "multi_thread")]
            async fn attach_in_shadow_mode_look_and_promote() {
                attach_look_promote(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn a_plan_in_shadow_mode_is_not_promoted() {
                the_plan_has_its_say(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn an_orphan_stays_while_any_binding_is_in_shadow_mode() {
                an_orphan_stays(Backend::$backend).await;
            }
        }
    )* };
}

on!(sqlite Sqlite, postgres Postgres, mariadb Mariadb, mysql Mysql);

/// Whoever goes back to shadow mode because too much has gone keeps what lies in the trash, however long.
#[tokio::test(flavor = "multi_thread")]
async fn the_trash_is_not_emptied_in_shadow_mode() {
    let retention = Duration::from_millis(500);
    let world = world(Backend::Sqlite).await;
    let world = world.storage(|s| s.trash(Trash::Keep(retention)));
    let rowbound = Rowbound::new(BINARY, &world);
    rowbound.run(&["promote", "--all"]).await.expect(0);
    world.db.exec("delete from doc where file = 'a.jpg'").await;
    rowbound.run(&["collect"]).await.expect(0);
    assert_eq!(world.trashed().len(), 1);
    rowbound.run(&["attach", "--shadow"]).await.expect(0);
    let folder = Folder::new("default", &world.media(), Some(retention), true);
    folder.expect(&folder.marker().await.expect("it can be read").expect("a marker").storage);
    let expired = async || !folder.expired(Timestamp::now() - retention, None, 10).await.expect("the trash can be read").files.is_empty();
    wait_until(DEADLINE, "its retention is over", expired).await;
    rowbound.run(&["collect"]).await.expect(0);
    assert_eq!(world.trashed().len(), 1);
    rowbound.run(&["promote", "--all"]).await.expect(0);
    rowbound.run(&["collect"]).await.expect(0);
    assert!(world.trashed().is_empty(), "{:?}", world.trashed());
}

/// `explain` tells a file's whole story: who released it, why it stays or waits, what was tried, where it lies, when it went.
#[tokio::test(flavor = "multi_thread")]
async fn explain_tells_the_story_of_a_file() {
    let world = world(Backend::Sqlite).await;
    let explain = async |world: &World, name: &str| Rowbound::new(BINARY, world).run(&["explain", name]).await.expect(0).stdout;
    let says = |text: &str, parts: &[&str]| parts.iter().for_each(|part| assert!(text.contains(part), "no {part:?} in\n{text}"));

    says(&explain(&world, "a.jpg").await, &["it stays: 1 row(s) reference it", "row       doc.file of row 1"]);
    world.db.exec("delete from doc where file = 'a.jpg'").await;
    says(
        &explain(&world, "a.jpg").await,
        &["it waits, and will stay: shadow mode", "waits     released by delete of row 1 in doc.file at ", ", due "],
    );
    Rowbound::new(BINARY, &world).run(&["collect"]).await.expect(0);
    says(
        &explain(&world, "a.jpg").await,
        &["it stays: shadow mode; it would have gone at ", "shadow  5 B  a.jpg  delete of row 1 in doc.file"],
    );
    Rowbound::new(BINARY, &world).run(&["promote", "doc.file"]).await.expect(0);

    let mut world = world.storage(|s| s.trash(Trash::Keep(Duration::from_secs(3600))));
    world.db.exec("delete from doc where file = 'b.jpg'").await;
    Rowbound::new(BINARY, &world).run(&["collect"]).await.expect(0);
    let place = world.trashed().pop().expect("one lies in the trash");
    let place = place.strip_prefix("trash/").unwrap_or(&place);
    says(&explain(&world, "b.jpg").await, &["collected: it waits in the trash", &format!("trash     {place}, 5 B, erased after ")]);

    world = world.storage(|s| s.trash(Trash::Off));
    world.db.exec("delete from doc where file = 'c.jpg'").await;
    Rowbound::new(BINARY, &world).env("ROWBOUND_HOLD", "600000").run(&["collect"]).await.expect(0);
    says(&explain(&world, "c.jpg").await, &["collected: it waits in the trash", "trashed  5 B  c.jpg  delete of row 3 in doc.file"]);
}
