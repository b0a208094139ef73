//! A storage is one place, and a place is one storage. Two names for it, or two databases on it, must not cost a file.

use std::{os::unix::fs::symlink, path::Path, time::Duration};

use rowbound::{Binding, RESERVED, StoragePlan, Trash, plan::Location};
use rowbound_testkit::{
    Backend, Rowbound, World,
    s3::{S3Kind, S3Server},
    wait_until,
};

const BINARY: &str = env!("CARGO_BIN_EXE_rowbound");

fn rowbound(world: &World) -> Rowbound {
    Rowbound::new(BINARY, world).env("ROWBOUND_STATE", &world.folder().join("state").display().to_string())
}

/// The tables of Rowbound that stand in the database.
async fn own_tables(world: &World) -> Vec<String> {
    let sql = match world.db.backend() {
        Backend::Sqlite => "select name from sqlite_schema where name like 'rowbound%'",
        Backend::Postgres => "select nspname from pg_namespace where nspname = 'rowbound'",
        _ => "select table_name from information_schema.tables where table_schema = database() and table_name like 'rowbound%'",
    };
    world.db.query_strings(sql).await.into_iter().flatten().collect()
}

/// A folder under two names: refused before anything is changed.
async fn one_folder_by_two_names(backend: Backend) {
    let world = World::new(backend).await.with_docs().await;
    let link = world.folder().join("link");
    symlink(world.media(), &link).expect("a link");
    let world = world.another(StoragePlan::folder("photo", &link).trash(Trash::Off)).await;
    // In another database this is a storage of its own; here a row of one storage references what a row of the other releases.
    world.put_doc("a.jpg").await;
    world.db.exec("insert into photo (file) values ('a.jpg')").await;

    let refused = rowbound(&world).run(&["attach"]).await.expect(2);
    for text in ["two storages are one place", "default and photo"] {
        assert!(refused.stderr.contains(text), "{text}: {}", refused.stderr);
    }
    assert_eq!(own_tables(&world).await, [""; 0], "the database is as it was");
    assert!(!world.media().join(RESERVED).exists(), "no marker was left");

    // The way out is one storage for both; nothing of the refusal is in the way.
    let mut world = world;
    world.others.clear();
    world.bindings[1] = Binding::name("photo.file", "default").expect("a column");
    rowbound(&world).run(&["attach"]).await.expect(0);
    world.db.exec("delete from doc").await;
    rowbound(&world).run(&["collect"]).await.expect(0);
    assert_eq!(world.files(), ["a.jpg"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_one_folder_by_two_names_is_refused() {
    one_folder_by_two_names(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_one_folder_by_two_names_is_refused() {
    one_folder_by_two_names(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_one_folder_by_two_names_is_refused() {
    one_folder_by_two_names(Backend::Mariadb).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_one_folder_by_two_names_is_refused() {
    one_folder_by_two_names(Backend::Mysql).await;
}

/// The second name comes later, when the place has its marker already.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_name_for_an_attached_folder_is_refused() {
    let world = World::new(Backend::Sqlite).await.with_docs().await;
    rowbound(&world).run(&["attach"]).await.expect(0);
    let marker = world.media().join(RESERVED).join(rowbound::storage::MARKER);
    let was = std::fs::read_to_string(&marker).expect("a marker");
    let link = world.folder().join("link");
    symlink(world.media(), &link).expect("a link");
    let world = world.another(StoragePlan::folder("photo", &link).trash(Trash::Off)).await;
    for command in [&["attach"][..], &["attach", "--adopt-storage", "photo"]] {
        let refused = rowbound(&world).run(command).await.expect(2);
        assert!(refused.stderr.contains("two storages are one place"), "{command:?}: {}", refused.stderr);
    }
    assert_eq!(std::fs::read_to_string(&marker).expect("a marker"), was);
}

/// What an earlier version attached so: its workers stop, and nothing is deleted.
#[tokio::test(flavor = "multi_thread")]
async fn an_installation_with_one_place_twice_stops() {
    let world = World::new(Backend::Sqlite).await.with_docs().await;
    let other = world.folder().join("other");
    std::fs::create_dir(&other).expect("a folder");
    let world = world.another(StoragePlan::folder("photo", &other).trash(Trash::Off)).await;
    rowbound(&world).run(&["attach"]).await.expect(0);
    // The second becomes a link to the first, as a changed mount would make it, and the record is that of two storages with one id.
    std::fs::remove_dir_all(&other).expect("removed");
    symlink(world.media(), &other).expect("a link");
    let sql = "update rowbound_installation set record = json_set(record, '$.storages.photo', record ->> '$.storages.default')";
    world.db.exec(sql).await;
    world.put_doc("a.jpg").await;
    world.db.exec("insert into photo (file) values ('a.jpg')").await;
    world.db.exec("delete from doc").await;
    for command in [&["collect"][..], &["run"], &["sweep", "--delete"]] {
        let stopped = rowbound(&world).run(command).await;
        assert_eq!(stopped.code, Some(2), "{command:?}: {}", stopped.stderr);
        assert!(stopped.stderr.contains("two storages are one place"), "{command:?}: {}", stopped.stderr);
    }
    assert_ne!(rowbound(&world).run(&["status"]).await.code, Some(0));
    assert_eq!(world.files(), ["a.jpg"]);
}

/// They were two places at `attach`; then a link or a mount changed. The one whose marker is right must stop as the other does: rows of the other
/// reference what lies there now.
#[tokio::test(flavor = "multi_thread")]
async fn a_storage_that_becomes_another_stops_both() {
    let world = World::new(Backend::Sqlite).await.with_docs().await;
    let other = world.folder().join("other");
    std::fs::create_dir(&other).expect("a folder");
    let world = world.another(StoragePlan::folder("photo", &other).trash(Trash::Off)).await;
    rowbound(&world).run(&["attach"]).await.expect(0);
    std::fs::remove_dir_all(&other).expect("removed");
    symlink(world.media(), &other).expect("a link");
    world.put_doc("a.jpg").await;
    world.db.exec("insert into photo (file) values ('a.jpg')").await;
    world.db.exec("delete from doc").await;
    for command in [&["collect"][..], &["sweep", "--storage", "default", "--delete", "--max-share", "1"], &["collect"]] {
        let stopped = rowbound(&world).run(command).await;
        assert!(!matches!(stopped.code, Some(0 | 1)), "{command:?}: {:?} {}", stopped.code, stopped.stderr);
    }
    let daemon = rowbound(&world).spawn(&["run", "--poll", "20ms"]);
    daemon.wait_for_line("two storages are one place", Duration::from_secs(60)).await;
    daemon.terminate();
    daemon.wait(Duration::from_secs(60)).await.expect(0);
    assert_eq!(world.files(), ["a.jpg"]);
}

/// A folder that was copied with its marker is another place: a person says which is the copy, and it gets a marker of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_copied_marker_is_renewed_when_asked() {
    let world = World::new(Backend::Sqlite).await.with_docs().await;
    rowbound(&world).run(&["attach"]).await.expect(0);
    let other = world.folder().join("other");
    let copied = std::process::Command::new("cp").arg("-a").arg(world.media()).arg(&other).status().expect("cp");
    assert!(copied.success());
    let world = world.another(StoragePlan::folder("photo", &other).trash(Trash::Off)).await;
    let refused = rowbound(&world).run(&["attach"]).await.expect(4);
    assert!(refused.stderr.contains("--adopt-storage"), "{}", refused.stderr);
    rowbound(&world).run(&["attach", "--adopt-storage", "photo"]).await.expect(0);
    world.put_doc("a.jpg").await;
    world.db.exec("delete from doc").await;
    rowbound(&world).run(&["collect"]).await.expect(0);
    assert_eq!(world.files(), [""; 0]);
}

/// Whoever was removed from the marker while it still lives stops, instead of going on unseen.
#[tokio::test(flavor = "multi_thread")]
async fn an_installation_that_was_forgotten_stops() {
    let ours = World::new(Backend::Sqlite).await.with_docs().await;
    let mut theirs = World::new(Backend::Sqlite).await.with_docs().await;
    theirs.storage = ours.storage.clone();
    rowbound(&ours).run(&["attach"]).await.expect(0);
    rowbound(&theirs).run(&["attach", "--shared"]).await.expect(0);
    let id = installations(&ours.media()).pop().expect("the one that came second");
    rowbound(&ours).run(&["attach", "--forget-installation", &id]).await.expect(0);
    ours.put_file("a.jpg", b"1");
    theirs.db.exec("insert into doc (file) values ('a.jpg')").await;
    theirs.db.exec("delete from doc").await;
    for command in ["collect", "status"] {
        let stopped = rowbound(&theirs).run(&[command]).await;
        assert_eq!(stopped.code, Some(4), "{command}: {} {}", stopped.stdout, stopped.stderr);
    }
    assert_eq!(ours.files(), ["a.jpg"]);
    rowbound(&theirs).run(&["attach", "--shared"]).await.expect(0);
    rowbound(&theirs).run(&["collect"]).await.expect(0);
}

/// Once the database has let go, nobody knows which installation to take out of a marker.
#[tokio::test(flavor = "multi_thread")]
async fn detach_changes_nothing_while_a_storage_is_away() {
    let world = World::new(Backend::Sqlite).await.with_docs().await;
    let other = world.folder().join("other");
    std::fs::create_dir(&other).expect("a folder");
    let world = world.another(StoragePlan::folder("photo", &other).trash(Trash::Off)).await;
    rowbound(&world).run(&["attach"]).await.expect(0);
    let away = world.folder().join("away");
    std::fs::rename(&other, &away).expect("moved");
    rowbound(&world).run(&["detach"]).await.expect(3);
    std::fs::rename(&away, &other).expect("moved back");
    rowbound(&world).run(&["detach"]).await.expect(0);
    assert!(!other.join(RESERVED).exists() && !world.media().join(RESERVED).exists(), "both markers are gone");
    rowbound(&world).run(&["attach"]).await.expect(0);
}

/// One bucket behind two addresses.
#[tokio::test(flavor = "multi_thread")]
async fn s3s_fs_one_bucket_behind_two_addresses_is_refused() {
    let server = S3Server::start(S3Kind::S3sFs);
    let bucket = server.bucket().await;
    let at = |host: &str| match bucket.location("media/") {
        Location::S3(mut place) => {
            place.endpoint = place.endpoint.map(|e| e.replace("127.0.0.1", host));
            Location::S3(place)
        }
        other => panic!("{other:?} is no bucket"),
    };
    let world = World::new(Backend::Sqlite).await.with_docs().await.storage(|s| StoragePlan { location: at("127.0.0.1"), ..s });
    let world = world.another(StoragePlan::at("photo", at("localhost"))).await;
    let rowbound = server.env().iter().fold(rowbound(&world), |r, (name, value)| r.env(name, value));
    let refused = rowbound.run(&["attach"]).await.expect(2);
    assert!(refused.stderr.contains("two storages are one place"), "{}", refused.stderr);
    assert_eq!(own_tables(&world).await, [""; 0]);
    assert_eq!(bucket.keys("media/.rowbound/").await, [""; 0], "no marker was left");
}

/// A folder within another storage's folder, by a path that does not tell it.
async fn nested_folders(backend: Backend) {
    let world = World::new(backend).await.with_docs().await;
    let sub = world.media().join("sub");
    std::fs::create_dir(&sub).expect("a folder");
    let (elsewhere, link, above) = (world.folder().join("elsewhere"), world.folder().join("link"), world.folder().join("above"));
    std::fs::create_dir(&elsewhere).expect("a folder");
    symlink(&sub, &link).expect("a link");
    symlink(world.media(), &above).expect("a link");
    let mut world = world.another(StoragePlan::folder("photo", &link).trash(Trash::Off)).await;
    // In another database this is a storage of its own; here a row of one storage references what a row of the other releases.
    world.put_doc("sub/a.jpg").await;
    world.db.exec("insert into photo (file) values ('a.jpg')").await;
    for path in [link, above.join("sub"), elsewhere.join("../media/sub"), elsewhere.join("..").join("above/../media/sub")] {
        world.others[0].location = Location::Folder(path.clone());
        let refused = rowbound(&world).run(&["attach"]).await.expect(2);
        for text in ["one storage lies within another", "photo within default"] {
            assert!(refused.stderr.contains(text), "{}: {text}: {}", path.display(), refused.stderr);
        }
        assert_eq!(own_tables(&world).await, [""; 0], "the database is as it was");
        assert!(!world.media().join(RESERVED).exists() && !sub.join(RESERVED).exists(), "no marker was left");
    }
    // The way out is one storage for both, with names that begin with the folder.
    world.others.clear();
    world.bindings[1] = Binding::name("photo.file", "default").expect("a column");
    world.db.exec("update photo set file = 'sub/a.jpg'").await;
    rowbound(&world).run(&["attach"]).await.expect(0);
    world.db.exec("delete from doc").await;
    rowbound(&world).run(&["collect"]).await.expect(0);
    assert_eq!(world.files(), ["sub/a.jpg"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_a_folder_within_another_storage_is_refused() {
    nested_folders(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_a_folder_within_another_storage_is_refused() {
    nested_folders(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_a_folder_within_another_storage_is_refused() {
    nested_folders(Backend::Mariadb).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_a_folder_within_another_storage_is_refused() {
    nested_folders(Backend::Mysql).await;
}

/// A backup by `cp -a` within the folder, and a snapshot: the marker is the storage's own, the folder is another. Its files are neither orphans nor deleted, also
/// those that come before the marker in a listing.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_within_the_storage_is_left_alone() {
    let world = World::new(Backend::Sqlite).await.with_docs().await;
    rowbound(&world).run(&["attach"]).await.expect(0);
    world.put_doc("kept.jpg").await;
    world.put_file("-first.jpg", b"1");
    world.put_file("orphan.jpg", b"1");
    for copy in ["backup-2025", ".snapshots/1/snapshot"] {
        let to = world.media().join(copy);
        std::fs::create_dir_all(&to).expect("a folder");
        for name in [RESERVED, "kept.jpg", "-first.jpg"] {
            let copied = std::process::Command::new("cp").arg("-a").arg(world.media().join(name)).arg(&to).status().expect("cp");
            assert!(copied.success());
        }
    }
    let attached = rowbound(&world).run(&["attach"]).await.expect(0);
    assert!(attached.stdout.contains("a copy of the storage default lies within it, in backup-2025/"), "{}", attached.stdout);
    let listed = rowbound(&world).run(&["sweep", "--list", "--max-share", "1"]).await.expect(1);
    assert_eq!(listed.stdout, "-first.jpg\norphan.jpg\n");
    for part in [["--prefix", "backup-2025/"], ["--prefix", "backup"], ["--after", "backup-2025/a"]] {
        let listed = rowbound(&world).run(&[&["sweep", "--list", "--max-share", "1", "--allow-no-references"], &part[..]].concat()).await;
        assert!(!listed.stdout.contains("backup-2025/"), "{part:?}: {} {}", listed.stdout, listed.stderr);
    }
    // A row that references a file there and releases it does not delete it.
    world.db.exec("insert into doc (file) values ('backup-2025/kept.jpg')").await;
    world.db.exec("delete from doc where file = 'backup-2025/kept.jpg'").await;
    rowbound(&world).run(&["sweep", "--delete", "--max-share", "1"]).await.expect(0);
    rowbound(&world).run(&["collect"]).await;
    assert_eq!(world.outcomes("backup-2025/kept.jpg").await.last().map(String::as_str), Some("refused"));
    for copy in ["backup-2025", ".snapshots/1/snapshot"] {
        for name in ["kept.jpg", "-first.jpg"] {
            assert!(world.media().join(copy).join(name).exists(), "{copy}/{name}");
        }
    }
    assert!(world.is_there("kept.jpg") && !world.is_there("orphan.jpg") && !world.is_there("-first.jpg"));
}

/// In a bucket a copy within the storage stops a sweep, and the message says what it is.
#[tokio::test(flavor = "multi_thread")]
async fn s3s_fs_a_copy_within_the_storage_is_named() {
    let server = S3Server::start(S3Kind::S3sFs);
    let bucket = server.bucket().await;
    let location = bucket.location("media/");
    let world = World::new(Backend::Sqlite).await.with_docs().await.storage(|s| StoragePlan { location, ..s });
    let rowbound = server.env().iter().fold(rowbound(&world), |r, (name, value)| r.env(name, value));
    rowbound.run(&["attach"]).await.expect(0);
    world.db.exec("insert into doc (file) values ('kept.jpg')").await;
    let marker = bucket.get("media/.rowbound/storage.json").await.expect("a marker");
    bucket.put("media/backup/.rowbound/storage.json", &marker).await;
    bucket.put("media/backup/kept.jpg", b"1").await;
    for command in [&["attach"][..], &["sweep", "--delete", "--max-share", "1"], &["sweep", "--prefix", "backup/"]] {
        let refused = rowbound.run(command).await.expect(2);
        for text in ["a copy of this storage lies within it", "\"backup/**\""] {
            assert!(refused.stderr.contains(text), "{command:?}: {text}: {}", refused.stderr);
        }
    }
    assert!(bucket.get("media/backup/kept.jpg").await.is_some());
}

/// The binary with a folder that is bound to another path, in a mount namespace of its own.
fn with_bind_mount(world: &World, what: &Path, at: &Path) -> Rowbound {
    let script = world.folder().join("bind-mount");
    let text = format!("#!/bin/sh\nset -e\nmount --bind '{}' '{}'\nexec '{BINARY}' \"$@\"\n", what.display(), at.display());
    std::fs::write(&script, text).expect("a script");
    Rowbound::new("unshare", world).before(&["--map-root-user", "--mount", "sh", &script.display().to_string()])
}

/// A bind mount shows one folder under two paths, neither of which leads to the other.
#[tokio::test(flavor = "multi_thread")]
async fn bind_mounts_of_one_folder_or_of_one_within_another_are_refused() {
    let world = World::new(Backend::Sqlite).await.with_docs().await;
    let (sub, mounted) = (world.media().join("deep/sub"), world.folder().join("mounted"));
    std::fs::create_dir_all(&sub).expect("a folder");
    std::fs::create_dir(&mounted).expect("a folder");
    let world = world.another(StoragePlan::folder("photo", &mounted).trash(Trash::Off)).await;
    let refused = with_bind_mount(&world, &world.media(), &mounted).run(&["attach"]).await.expect(2);
    assert!(refused.stderr.contains("two storages are one place"), "{}", refused.stderr);
    let refused = with_bind_mount(&world, &sub, &mounted).run(&["attach"]).await.expect(2);
    assert!(refused.stderr.contains("photo within default"), "{}", refused.stderr);
    assert!(!world.media().join(RESERVED).exists() && !sub.join(RESERVED).exists(), "no marker was left");

    // The folder within itself is no copy.
    let itself = World::new(Backend::Sqlite).await.with_docs().await;
    std::fs::create_dir(itself.media().join("again")).expect("a folder");
    rowbound(&itself).run(&["attach"]).await.expect(0);
    itself.put_doc("kept.jpg").await;
    let stopped =
        with_bind_mount(&itself, &itself.media(), &itself.media().join("again")).run(&["sweep", "--max-share", "1"]).await.expect(2);
    assert!(stopped.stderr.contains("another storage lies within this one"), "{}", stopped.stderr);

    // Two folders at `attach`; then one of them is mounted from within the other: both stop.
    rowbound(&world).run(&["attach"]).await.expect(0);
    let own = std::process::Command::new("cp").arg("-a").arg(mounted.join(RESERVED)).arg(&sub).status().expect("cp");
    assert!(own.success());
    world.put_doc("deep/sub/a.jpg").await;
    world.db.exec("insert into photo (file) values ('a.jpg')").await;
    world.db.exec("delete from doc").await;
    let moved = with_bind_mount(&world, &sub, &mounted);
    for command in [&["collect"][..], &["sweep", "--delete", "--max-share", "1"]] {
        let stopped = moved.run(command).await.expect(2);
        assert!(stopped.stderr.contains("photo within default"), "{command:?}: {}", stopped.stderr);
    }
    assert_eq!(moved.run(&["status"]).await.code, Some(2));
    assert!(sub.join("a.jpg").exists());
}

/// Two places at `attach`; then one is moved into the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_storage_that_is_moved_into_another_stops_both() {
    let world = World::new(Backend::Sqlite).await.with_docs().await;
    let other = world.folder().join("other");
    std::fs::create_dir(&other).expect("a folder");
    let world = world.another(StoragePlan::folder("photo", &other).trash(Trash::Off)).await;
    rowbound(&world).run(&["attach"]).await.expect(0);
    let sub = world.media().join("sub");
    std::fs::rename(&other, &sub).expect("moved");
    symlink(&sub, &other).expect("a link");
    // Each storage's rows release what the other's still reference.
    for name in ["a.jpg", "b.jpg"] {
        world.put_doc(&format!("sub/{name}")).await;
        world.db.exec(&format!("insert into photo (file) values ('{name}')")).await;
    }
    world.db.exec("delete from doc where file = 'sub/a.jpg'").await;
    world.db.exec("delete from photo where file = 'b.jpg'").await;
    for command in [&["collect"][..], &["sweep", "--storage", "default", "--delete"], &["sweep", "--storage", "photo", "--delete"]] {
        let stopped = rowbound(&world).run(command).await.expect(2);
        assert!(stopped.stderr.contains("photo within default"), "{command:?}: {}", stopped.stderr);
    }
    let daemon = rowbound(&world).spawn(&["run", "--poll", "20ms"]);
    daemon.wait_for_line("one storage lies within another", Duration::from_secs(60)).await;
    daemon.terminate();
    daemon.wait(Duration::from_secs(60)).await.expect(0);
    assert_eq!(world.files(), ["sub/.rowbound/storage.json", "sub/a.jpg", "sub/b.jpg"]);
}

/// Two databases, of which each has a folder; the one lies within the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_storage_of_another_database_above_or_below_is_refused() {
    for inner_first in [false, true] {
        let outer = World::new(Backend::Sqlite).await.with_docs().await;
        let sub = outer.media().join("sub");
        std::fs::create_dir(&sub).expect("a folder");
        let mut inner = World::new(Backend::Sqlite).await.with_docs().await;
        inner.storage.location = Location::Folder(sub.clone());
        let (first, second) = if inner_first { (&inner, &outer) } else { (&outer, &inner) };
        rowbound(first).run(&["attach"]).await.expect(0);
        for command in [&["attach"][..], &["attach", "--shared"], &["attach", "--adopt-storage", "default"]] {
            let refused = rowbound(second).run(command).await.expect(2);
            let text = if inner_first { "another storage lies within this one" } else { "this storage lies within another one" };
            assert!(refused.stderr.contains(text), "{command:?}: {}", refused.stderr);
        }
        assert_eq!(own_tables(second).await, [""; 0], "the database is as it was");
    }
}

/// The same, but it becomes so later: nothing of the inner storage goes by the outer one's rows, nor the other way round.
#[tokio::test(flavor = "multi_thread")]
async fn a_storage_of_another_database_that_comes_to_lie_within_keeps_its_files() {
    let outer = World::new(Backend::Sqlite).await.with_docs().await;
    let inner = World::new(Backend::Sqlite).await.with_docs().await;
    rowbound(&outer).run(&["attach"]).await.expect(0);
    rowbound(&inner).run(&["attach"]).await.expect(0);
    for world in [&outer, &inner] {
        world.put_doc("mine.jpg").await;
    }
    inner.put_doc("a.jpg").await;
    inner.put_doc("b.jpg").await;
    let sub = outer.media().join("sub");
    std::fs::rename(inner.media(), &sub).expect("moved");
    symlink(&sub, inner.media()).expect("a link");
    outer.db.exec("insert into doc (file) values ('sub/a.jpg')").await;
    outer.db.exec("delete from doc").await;
    inner.db.exec("delete from doc where file = 'b.jpg'").await;

    // The outer one goes on where the inner one is not.
    let collected = rowbound(&outer).run(&["collect"]).await.expect(1);
    assert!(collected.stdout.contains("another storage lies within this one"), "{}", collected.stdout);
    assert!(!outer.is_there("mine.jpg"));
    let swept = rowbound(&outer).run(&["sweep", "--delete", "--max-share", "1"]).await.expect(2);
    assert!(swept.stderr.contains("another storage lies within this one"), "{}", swept.stderr);
    for prefix in ["sub/", "sub/m"] {
        rowbound(&outer).run(&["sweep", "--delete", "--max-share", "1", "--prefix", prefix]).await.expect(2);
    }
    rowbound(&outer).run(&["sweep", "--delete", "--max-share", "1", "--after", "sub/a.jpg"]).await.expect(2);
    let stopped = rowbound(&inner).run(&["collect"]).await.expect(2);
    assert!(stopped.stderr.contains("this storage lies within another one"), "{}", stopped.stderr);
    assert_eq!(rowbound(&inner).run(&["status"]).await.code, Some(2));
    for name in ["a.jpg", "b.jpg", "mine.jpg"] {
        assert!(sub.join(name).exists(), "{name}");
    }

    // Apart again, both go on.
    std::fs::remove_file(inner.media()).expect("the link");
    std::fs::rename(&sub, inner.media()).expect("moved back");
    rowbound(&inner).run(&["collect", "--retry-now"]).await.expect(0);
    rowbound(&outer).run(&["collect", "--retry-now"]).await.expect(0);
    assert_eq!((outer.files(), inner.files()), (vec![], vec!["a.jpg".to_owned(), "mine.jpg".to_owned()]));
}

/// A prefix within another storage's prefix: behind another address, and of another database.
#[tokio::test(flavor = "multi_thread")]
async fn s3s_fs_a_prefix_within_another_storage_is_refused() {
    let server = S3Server::start(S3Kind::S3sFs);
    let bucket = server.bucket().await;
    let at = |host: &str, prefix: &str| match bucket.location(prefix) {
        Location::S3(mut place) => {
            place.endpoint = place.endpoint.map(|e| e.replace("127.0.0.1", host));
            Location::S3(place)
        }
        other => panic!("{other:?} is no bucket"),
    };
    let on_server = |world: &World| server.env().iter().fold(rowbound(world), |r, (name, value)| r.env(name, value));
    for (first, second, text) in [
        ("media/", "media/deep/sub/", "photo within default"),
        ("media/deep/sub/", "media/", "default within photo"),
        ("", "media/", "photo within default"),
    ] {
        let world = World::new(Backend::Sqlite).await.with_docs().await.storage(|s| StoragePlan { location: at("127.0.0.1", first), ..s });
        let world = world.another(StoragePlan::at("photo", at("localhost", second))).await;
        let refused = on_server(&world).run(&["attach"]).await.expect(2);
        assert!(refused.stderr.contains(text), "{first} {second}: {}", refused.stderr);
        assert_eq!(own_tables(&world).await, [""; 0]);
        assert_eq!(bucket.keys("").await, [""; 0], "no marker was left");
    }

    let of = |prefix: &'static str| {
        let location = at("127.0.0.1", prefix);
        async { World::new(Backend::Sqlite).await.with_docs().await.storage(|s| StoragePlan { location, ..s }) }
    };
    let (outer, inner) = (of("media/").await, of("media/sub/").await);
    on_server(&outer).run(&["attach"]).await.expect(0);
    let refused = on_server(&inner).run(&["attach"]).await.expect(2);
    assert!(refused.stderr.contains("this storage lies within another one"), "{}", refused.stderr);
    on_server(&outer).run(&["detach"]).await.expect(0);
    on_server(&inner).run(&["attach"]).await.expect(0);
    let refused = on_server(&outer).run(&["attach"]).await.expect(2);
    assert!(refused.stderr.contains("another storage lies within this one"), "{}", refused.stderr);

    // What an earlier version attached so stops, and no sweep takes the other's files for orphans.
    let marker = bucket.get("media/sub/.rowbound/storage.json").await.expect("a marker");
    bucket.delete("media/sub/.rowbound/storage.json").await;
    on_server(&outer).run(&["attach"]).await.expect(0);
    bucket.put("media/sub/.rowbound/storage.json", &marker).await;
    bucket.put("media/sub/a.jpg", b"1").await;
    inner.db.exec("insert into doc (file) values ('a.jpg')").await;
    let swept =
        on_server(&outer).run(&["sweep", "--delete", "--max-share", "1", "--allow-no-references", "--min-age", "0s"]).await.expect(2);
    assert!(swept.stderr.contains("another storage lies within this one"), "{}", swept.stderr);
    inner.db.exec("delete from doc").await;
    let stopped = on_server(&inner).run(&["collect"]).await.expect(2);
    assert!(stopped.stderr.contains("this storage lies within another one"), "{}", stopped.stderr);
    assert!(bucket.get("media/sub/a.jpg").await.is_some());
}

/// Two databases on one folder. Neither sees the other's references, so neither may take what it does not know for an orphan.
async fn shared(backend: Backend) {
    let ours = World::new(backend).await.with_docs().await;
    let mut theirs = World::new(backend).await.with_docs().await;
    theirs.storage = ours.storage.clone();
    rowbound(&ours).run(&["attach"]).await.expect(0);
    rowbound(&theirs).run(&["attach", "--shared"]).await.expect(0);
    ours.put_doc("ours.jpg").await;
    ours.put_file("theirs.jpg", b"1");
    theirs.db.exec("insert into doc (file) values ('theirs.jpg')").await;
    ours.put_file("nobodys.jpg", b"1");

    let delete = ["sweep", "--delete", "--max-share", "1"];
    let refused = rowbound(&ours).run(&delete).await.expect(4);
    for text in ["another database uses this storage", "--forget-installation"] {
        assert!(refused.stderr.contains(text), "{text}: {}", refused.stderr);
    }
    rowbound(&ours).run(&["collect"]).await.expect(0);
    assert_eq!(ours.files(), ["nobodys.jpg", "ours.jpg", "theirs.jpg"]);
    // A report is no harm.
    assert_eq!(rowbound(&ours).run(&["sweep", "--list", "--max-share", "1"]).await.expect(1).stdout, "nobodys.jpg\ntheirs.jpg\n");

    // Nor does one database empty the other's part of the trash: it knows neither how long the other keeps files nor what its rows reference.
    let mut keeping = ours;
    keeping.storage = keeping.storage.trash(Trash::Keep(Duration::from_secs(1)));
    let ours = keeping;
    ours.put_file(&format!("{RESERVED}/trash/20200101T000000Z/theirs2.jpg"), b"1");
    ours.put_doc("a.jpg").await;
    ours.db.exec(&format!("delete from doc where file = {}", backend.literal("a.jpg"))).await;
    wait_until(Duration::from_secs(60), "our own file leaves the trash", || async {
        rowbound(&ours).run(&["collect"]).await.expect(0);
        !ours.files().contains(&"a.jpg".to_owned()) && !ours.trashed().iter().any(|n| n.ends_with("/a.jpg"))
    })
    .await;
    assert_eq!(ours.trashed(), ["trash/20200101T000000Z/theirs2.jpg"]);
    rowbound(&ours).run(&["status"]).await.expect(0);

    // When the other database is gone for good, a person says so.
    theirs.db.exec("delete from doc").await;
    let id = installations(&ours.media()).pop().expect("the one that came second");
    rowbound(&ours).run(&["attach", "--forget-installation", "no such"]).await.expect(2);
    rowbound(&ours).run(&["attach", "--forget-installation", &id]).await.expect(0);
    assert!(!installations(&ours.media()).contains(&id));
    rowbound(&ours).run(&delete).await.expect(0);
    rowbound(&ours).run(&["collect"]).await.expect(0);
    assert_eq!(ours.files(), ["ours.jpg"]);
}

/// The installations in a folder's marker.
fn installations(media: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(media.join(RESERVED).join(rowbound::storage::MARKER)).expect("a marker");
    let marker: rowbound::storage::Marker = serde_json::from_str(&text).expect("a marker");
    marker.installations
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_a_sweep_deletes_nothing_of_a_shared_storage() {
    shared(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_a_sweep_deletes_nothing_of_a_shared_storage() {
    shared(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_a_sweep_deletes_nothing_of_a_shared_storage() {
    shared(Backend::Mariadb).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_a_sweep_deletes_nothing_of_a_shared_storage() {
    shared(Backend::Mysql).await;
}
