//! A copy of a database (a restored dump, a copied file) knows the original's candidates and names the original's storage. It must not
//! delete the original's files.

use std::{path::Path, time::Duration};

use rowbound::{
    StoragePlan,
    plan::{Call, Hook},
};
use rowbound_testkit::{Backend, Rowbound, World};

const BINARY: &str = env!("CARGO_BIN_EXE_rowbound");
const DEADLINE: Duration = Duration::from_secs(60);

async fn copied(backend: Backend) {
    let original = World::new(backend).await.with_docs().await;
    Rowbound::new(BINARY, &original).run(&["attach"]).await.expect(0);
    original.put_doc("a.jpg").await;
    original.put_doc("b.jpg").await;
    original.db.exec("delete from doc where file = 'b.jpg'").await;

    // The copy carries the candidate for b.jpg, its configuration still names the original's media folder, and in it a.jpg goes as well.
    let mut copy = World::with(original.db.copy().await);
    copy.bindings = original.bindings.clone();
    copy.storage = original.storage.clone();
    copy.db.exec("delete from doc").await;
    let rowbound = Rowbound::new(BINARY, &copy);
    for command in [vec!["collect"], vec!["run"], vec!["attach"]] {
        let refused = rowbound.run(&command).await;
        assert_eq!(refused.code, Some(4), "{command:?}: {}", refused.stderr);
        assert!(refused.stderr.contains("--adopt"), "{command:?} names the command that adopts: {}", refused.stderr);
    }
    assert_eq!(rowbound.run(&["status"]).await.code, Some(4));
    assert_eq!(original.files(), ["a.jpg", "b.jpg"]);

    // Adopting the copy is not enough as long as it names the original's storage.
    let refused = rowbound.run(&["attach", "--adopt"]).await;
    assert_eq!(refused.code, Some(4), "{}", refused.stderr);
    assert_eq!(rowbound.run(&["collect"]).await.code, Some(4));
    assert_eq!(original.files(), ["a.jpg", "b.jpg"]);

    // Nor does it take the original's marker along when it is cleaned.
    let marker = original.media().join(rowbound::RESERVED).join(rowbound::storage::MARKER);
    let was = std::fs::read_to_string(&marker).expect("the original's marker");
    let refused = rowbound.run(&["detach"]).await.expect(4);
    assert!(refused.stderr.contains("detach --copy"), "{}", refused.stderr);
    Rowbound::new(BINARY, &original).run(&["detach", "--copy"]).await.expect(2);
    assert_eq!(std::fs::read_to_string(&marker).expect("the original's marker"), was);

    // With a storage of its own it works, on its own files.
    copy.storage = StoragePlan { name: "default".into(), ..StoragePlan::folder("default", copy.media()) }
        .grace(Duration::ZERO)
        .min_age(Duration::ZERO);
    copy.put_file("b.jpg", b"staging");
    let rowbound = Rowbound::new(BINARY, &copy);
    rowbound.run(&["attach", "--adopt"]).await.expect(0);
    rowbound.run(&["collect", "--wait", "20s"]).await.expect(0);
    assert!(copy.files().is_empty());
    assert_eq!(original.files(), ["a.jpg", "b.jpg"]);

    // And the original goes on as if nothing had happened.
    let rowbound = Rowbound::new(BINARY, &original);
    let daemon = rowbound.spawn(&["run", "--poll", "20ms"]);
    daemon.until(DEADLINE, "the original collects", || async { original.files() == ["a.jpg"] }).await;
    daemon.terminate();
    daemon.wait(DEADLINE).await.expect(0);
}

/// A staging copy is cleaned with `detach`, and the original works on.
async fn cleaned(backend: Backend) {
    let original = World::new(backend).await.with_docs().await;
    Rowbound::new(BINARY, &original).run(&["attach"]).await.expect(0);
    original.put_doc("a.jpg").await;
    original.put_doc("b.jpg").await;
    let mut copy = World::with(original.db.copy().await);
    copy.bindings = original.bindings.clone();
    copy.storage = original.storage.clone();
    let rowbound = Rowbound::new(BINARY, &copy);
    rowbound.run(&["detach"]).await;
    rowbound.run(&["detach", "--copy"]).await;
    original.db.exec("delete from doc where file = 'b.jpg'").await;
    let collected = Rowbound::new(BINARY, &original).run(&["collect"]).await;
    assert_eq!(collected.code, Some(0), "the original's storage is still its own: {}", collected.stderr);
    assert_eq!(original.files(), ["a.jpg"]);
    assert_eq!(rowbound.run(&["status"]).await.code, Some(2), "the copy is not attached any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_a_copy_that_is_cleaned_leaves_the_original_its_marker() {
    cleaned(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_a_copy_that_is_cleaned_leaves_the_original_its_marker() {
    cleaned(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_a_copy_that_is_cleaned_leaves_the_original_its_marker() {
    cleaned(Backend::Mariadb).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_a_copy_that_is_cleaned_leaves_the_original_its_marker() {
    cleaned(Backend::Mysql).await;
}

/// Another path leads to the original itself: cleaning it as a copy would take its capture and its queue.
#[tokio::test(flavor = "multi_thread")]
async fn sqlite_an_original_under_another_path_is_no_copy() {
    let world = World::new(Backend::Sqlite).await.with_docs().await;
    let rowbound = Rowbound::new(BINARY, &world);
    rowbound.run(&["attach"]).await.expect(0);
    world.db.close_app().await;
    let (file, linked) = (world.db.file(), world.db.file().with_file_name("linked"));
    std::fs::create_dir(&linked).expect("a folder");
    for suffix in ["", "-rowbound.id"] {
        let of = |path: &Path| std::path::PathBuf::from(format!("{}{suffix}", path.display()));
        std::fs::hard_link(of(&file), of(&linked.join("app.sqlite3"))).expect("a link");
    }
    let database = format!("sqlite:{}", linked.join("app.sqlite3").display());
    let refused = rowbound.run(&["detach", "--copy", "--database", &database]).await.expect(2);
    assert!(refused.stderr.contains("seen under another path"), "{}", refused.stderr);
    std::fs::remove_dir_all(&linked).expect("removed");
    rowbound.run(&["collect"]).await.expect(0);
}

/// Two containers on one machine: the same path, and the same machine id, or none. One holds the original, the other a copy of its whole folder.
async fn containers(machine_id: &str) {
    let original = World::new(Backend::Sqlite).await.with_docs().await;
    let folder = original.db.file().parent().expect("a folder").to_owned();
    let id = original.folder().join("machine-id");
    std::fs::write(&id, machine_id).expect("a file");
    let within = |world: &World, mounts: &[(&Path, &Path)]| {
        // A machine without the file is one without an id as it is.
        let mount = |(what, at): &(&Path, &Path)| {
            format!("if [ -e '{at}' ]; then mount --bind '{}' '{at}'; fi\n", what.display(), at = at.display())
        };
        let mounts: Vec<String> = mounts.iter().map(mount).collect();
        let script = world.folder().join(format!("container-{}", mounts.len()));
        std::fs::write(&script, format!("#!/bin/sh\nset -e\n{}exec '{BINARY}' \"$@\"\n", mounts.concat())).expect("a script");
        Rowbound::new("unshare", world).before(&["--map-root-user", "--mount", "sh", &script.display().to_string()])
    };
    let machine = Path::new("/etc/machine-id");
    let rowbound = within(&original, &[(&id, machine)]);
    rowbound.run(&["attach"]).await.expect(0);
    original.put_doc("a.jpg").await;
    original.db.close_app().await;
    rowbound.run(&["collect"]).await.expect(0);

    let copied = original.folder().join("copied");
    let copying = std::process::Command::new("cp").arg("-a").arg(&folder).arg(&copied).status().expect("cp");
    assert!(copying.success());
    // In the copy the row goes, and its candidate with the original's name stands there.
    let sql = "delete from doc";
    let deleted = std::process::Command::new("sqlite3").arg(copied.join("app.sqlite3")).arg(sql).status().expect("sqlite3");
    assert!(deleted.success());
    let copy = within(&original, &[(&id, machine), (&copied, &folder)]);
    let stopped = copy.run(&["collect"]).await;
    assert_eq!(original.files(), ["a.jpg"], "{} {}", stopped.stdout, stopped.stderr);
    assert_eq!(stopped.code, Some(4), "{}", stopped.stderr);
    assert!(stopped.stderr.contains("--adopt"), "{}", stopped.stderr);
    // The original is what it was.
    rowbound.run(&["collect"]).await.expect(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_copies_are_told_apart_where_the_machine_has_no_id() {
    containers("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_copies_are_told_apart_where_machines_share_an_id() {
    containers("0123456789abcdef0123456789abcdef\n").await;
}

/// What the original's hook has yet to hear is not told by a copy, unless it is no copy: the database has moved.
async fn deliveries(backend: Backend) {
    for moved in [false, true] {
        let mut original = World::new(backend).await.with_docs().await;
        original.hooks = vec![Hook { name: "cdn".into(), ..Hook::new(Call::Command("exit 1".into())) }];
        Rowbound::new(BINARY, &original).run(&["attach"]).await.expect(0);
        original.put_doc("a.jpg").await;
        original.db.exec("delete from doc").await;
        // Its erasure would be told as well.
        Rowbound::new(BINARY, &original).env("ROWBOUND_HOLD", "600000").run(&["collect"]).await.expect(1);
        assert!(original.files().is_empty());

        let mut copy = World::with(original.db.copy().await);
        copy.bindings = original.bindings.clone();
        copy.storage = StoragePlan::folder("default", copy.media()).grace(Duration::ZERO).min_age(Duration::ZERO);
        let heard = copy.folder().join("heard");
        let call = Call::Command(format!("echo $ROWBOUND_NAME >> {}", heard.display()));
        copy.hooks = vec![Hook { name: "cdn".into(), ..Hook::new(call) }];
        let rowbound = Rowbound::new(BINARY, &copy);
        let refused = rowbound.run(&["attach", "--adopt"]).await.expect(4);
        for text in ["cdn: ", " waiting", "rowbound forget --give-up cdn", "--keep-deliveries"] {
            assert!(refused.stderr.contains(text), "{text}: {}", refused.stderr);
        }
        // Nothing was adopted.
        rowbound.run(&["collect"]).await.expect(4);
        if moved {
            rowbound.run(&["attach", "--adopt", "--keep-deliveries"]).await.expect(0);
        } else {
            rowbound.run(&["forget", "--give-up", "cdn"]).await.expect(0);
            rowbound.run(&["attach", "--adopt"]).await.expect(0);
        }
        copy.put_doc("b.jpg").await;
        copy.db.exec("delete from doc").await;
        rowbound.run(&["collect", "--retry-now"]).await.expect(0);
        let told = std::fs::read_to_string(&heard).unwrap_or_default();
        let mut told: Vec<_> = told.lines().collect();
        told.sort_unstable();
        assert_eq!(told, if moved { vec!["a.jpg", "b.jpg"] } else { vec!["b.jpg"] });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_copies_do_not_tell_the_originals_hooks() {
    deliveries(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_copies_do_not_tell_the_originals_hooks() {
    deliveries(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_copies_do_not_tell_the_originals_hooks() {
    deliveries(Backend::Mariadb).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_copies_do_not_tell_the_originals_hooks() {
    deliveries(Backend::Mysql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_copies_do_not_delete_the_originals_files() {
    copied(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_copies_do_not_delete_the_originals_files() {
    copied(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_copies_do_not_delete_the_originals_files() {
    copied(Backend::Mariadb).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_copies_do_not_delete_the_originals_files() {
    copied(Backend::Mysql).await;
}
