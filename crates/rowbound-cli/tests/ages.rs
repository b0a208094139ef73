//! Honest ages. A new file with an old modification time is new; one that only its change time makes new, or that has a time ahead, waits for `min_age` after it
//! was seen first, and no longer.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use rowbound::Trash;
use rowbound_testkit::{Backend, Rowbound, World};

const BINARY: &str = env!("CARGO_BIN_EXE_rowbound");
const HOUR: Duration = Duration::from_secs(3600);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// With a minimal age of an hour, attached.
async fn world(backend: Backend) -> (World, Rowbound) {
    let world = World::new(backend).await.with_docs().await.storage(|s| s.trash(Trash::Keep(24 * HOUR)).min_age(HOUR));
    let rowbound = Rowbound::new(BINARY, &world);
    rowbound.run(&["attach"]).await.expect(0);
    (world, rowbound)
}

/// How a file with an old modification time comes to its name, after the name was released.
const ARRIVALS: [&str; 5] = ["cp -p", "cp -p over", "mv", "rsync -t", "ln"];

fn arrives(world: &World, how: &str) {
    let (name, aside) = (world.media().join("a.jpg"), world.folder().join("aside.jpg"));
    fs::write(&aside, "the next one").expect("a file");
    let old = SystemTime::now() - YEAR;
    let stamp = |path: &std::path::Path| fs::File::options().write(true).open(path).and_then(|f| f.set_modified(old)).expect("a time");
    stamp(&aside);
    match how {
        "cp -p over" => {
            fs::write(&name, "the next one").expect("a file");
            stamp(&name);
        }
        "cp -p" => {
            fs::remove_file(&name).expect("the last one");
            fs::copy(&aside, &name).expect("a copy");
            stamp(&name);
        }
        "mv" => fs::rename(&aside, &name).expect("a move"),
        "rsync -t" => {
            let beside = world.media().join(".a.jpg.Xy12");
            fs::copy(&aside, &beside).expect("a copy");
            stamp(&beside);
            fs::rename(&beside, &name).expect("a move");
        }
        "ln" => {
            fs::remove_file(&name).expect("the last one");
            fs::hard_link(&aside, &name).expect("a link");
        }
        _ => unreachable!("{how}"),
    }
}

async fn a_new_file_with_an_old_time(backend: Backend) {
    for how in ARRIVALS {
        let (world, rowbound) = world(backend).await;
        world.put_doc("a.jpg").await;
        world.db.exec("delete from doc").await;
        arrives(&world, how);
        let said = rowbound.run(&["collect"]).await;
        assert!(world.is_there("a.jpg"), "{backend}, {how}: {}", said.stdout);
        said.expect(1);
        // Its row comes: it stays.
        world.db.exec("insert into doc (file) values ('a.jpg')").await;
        world.pretend(HOUR).await;
        rowbound.run(&["collect"]).await.expect(0);
        assert!(world.is_there("a.jpg"), "{backend}, {how}");
        assert_eq!(world.outcomes("a.jpg").await, ["kept"], "{backend}, {how}");
    }
}

/// Something touches the file again and again, and its content stays the same.
async fn a_file_that_is_touched(backend: Backend) {
    let (world, rowbound) = world(backend).await;
    world.put_doc("a.jpg").await;
    world.db.exec("delete from doc").await;
    world.age("a.jpg", YEAR);
    let said = rowbound.run(&["collect"]).await.expect(1).stdout;
    let note = "its change time (ctime) is new, its content is not: waits until it was seen unchanged for min_age";
    assert!(said.contains(&format!("a.jpg: {note}")), "{said}");
    let explained = rowbound.run(&["explain", "a.jpg"]).await.expect(0).stdout;
    assert!(explained.starts_with(&format!("a.jpg on default: it waits to be collected: {note}")), "{explained}");
    assert!(explained.contains(", changed 20"), "{explained}");
    let doctor = rowbound.run(&["doctor"]).await.stdout;
    let finding = "default: 1 of the first 1 that wait do so because the change time of their files (ctime) is new and the content is not";
    assert!(doctor.contains(finding), "{doctor}");
    // Half an hour later it was touched once more: the time that it was seen first still counts.
    world.pretend(HOUR / 2).await;
    chmod(&world);
    let said = rowbound.run(&["collect"]).await.expect(1).stdout;
    assert!(said.contains("1 waiting: 0 due, 0 failing"), "{said}");
    // Another content is seen for the first time.
    world.put_file("a.jpg", b"another");
    world.age("a.jpg", YEAR);
    world.pretend(HOUR).await;
    rowbound.run(&["collect"]).await.expect(1);
    world.pretend(HOUR / 2).await;
    rowbound.run(&["collect"]).await.expect(1);
    world.pretend(HOUR / 2).await;
    chmod(&world);
    rowbound.run(&["collect"]).await.expect(0);
    assert!(!world.is_there("a.jpg"));
    assert_eq!(world.outcomes("a.jpg").await, ["trashed"]);
}

fn chmod(world: &World) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(world.media().join("a.jpg"), fs::Permissions::from_mode(0o640)).expect("chmod");
}

/// A camera's clock was wrong, or a disk's.
async fn a_time_ahead(backend: Backend) {
    let (world, rowbound) = world(backend).await;
    for year in [30, 9_000] {
        world.put_doc("a.jpg").await;
        world.db.exec("delete from doc").await;
        let ahead = SystemTime::now() + YEAR * year;
        fs::File::options().write(true).open(world.media().join("a.jpg")).and_then(|f| f.set_modified(ahead)).expect("a time");
        let said = rowbound.run(&["collect"]).await.expect(1).stdout;
        assert!(said.contains("a.jpg: its time lies ahead, at "), "{year}: {said}");
        let doctor = rowbound.run(&["doctor"]).await.stdout;
        assert!(doctor.contains("the times of their files lie ahead"), "{doctor}");
        world.pretend(HOUR).await;
        rowbound.run(&["collect"]).await.expect(0);
        assert!(!world.is_there("a.jpg"), "{year}");
    }
}

/// A sweep finds them too, and they wait as others do.
async fn a_sweep(backend: Backend) {
    let (world, rowbound) = world(backend).await;
    world.put_doc("kept.jpg").await;
    for name in ["copied.jpg", "ahead.jpg", "new.jpg"] {
        world.put_file(name, b"an orphan");
    }
    world.age("copied.jpg", YEAR);
    let ahead = SystemTime::now() + 30 * YEAR;
    fs::File::options().write(true).open(world.media().join("ahead.jpg")).and_then(|f| f.set_modified(ahead)).expect("a time");
    let sweep = ["sweep", "--delete", "--max-share", "1"];
    let said = rowbound.run(&sweep).await.expect(0).stdout;
    assert!(said.contains("2  orphans"), "{said}");
    assert!(said.contains("1  files without a row, but too young to judge"), "{said}");
    rowbound.run(&["collect"]).await.expect(1);
    assert_eq!(world.files().len(), 4, "each waits");
    world.pretend(HOUR).await;
    rowbound.run(&["collect"]).await.expect(0);
    assert_eq!(world.files(), ["kept.jpg", "new.jpg"]);
    // Another age says what counts as an orphan, and hurries nothing.
    rowbound.run(&[&sweep[..], &["--min-age", "0s"]].concat()).await.expect(0);
    rowbound.run(&["collect"]).await.expect(1);
    assert_eq!(world.files(), ["kept.jpg", "new.jpg"]);
    world.pretend(HOUR).await;
    rowbound.run(&["collect"]).await.expect(0);
    assert_eq!(world.files(), ["kept.jpg"]);
}

/// What came back from the trash was renamed by us, and is no newer for it.
async fn our_own_moves(backend: Backend) {
    let (world, rowbound) = world(backend).await;
    for name in ["restored.jpg", "came-back.jpg"] {
        world.put_doc(name).await;
    }
    world.age("restored.jpg", YEAR);
    world.age("came-back.jpg", YEAR);
    world.grown().await;
    world.db.exec("delete from doc").await;
    rowbound.run(&["collect"]).await.expect(0);
    assert!(world.files().is_empty());
    // One by hand; one because a row references it again.
    world.db.exec("insert into doc (file) values ('came-back.jpg')").await;
    let run = rowbound.spawn(&["run", "--poll", "20ms"]);
    run.until(Duration::from_secs(100), "it comes back", async || world.is_there("came-back.jpg")).await;
    run.terminate();
    run.wait(Duration::from_secs(60)).await.expect(0);
    rowbound.run(&["restore", "restored.jpg"]).await.expect(0);
    world.db.exec("insert into doc (file) values ('restored.jpg')").await;
    world.db.exec("delete from doc").await;
    world.look_again_now().await;
    rowbound.run(&["collect"]).await.expect(0);
    assert!(world.files().is_empty(), "{backend}: {:?}", world.files());
}

macro_rules! on_each {
    ($($module:ident $backend:ident),*) => {$(
        mod $module {
            use super::*;

            /// Shrine, CarrierWave, Laravel Media Library or unused-media: minimal age; names that are not ASCII; rows that a default
            /// manager hides still count.
            #[tokio::test(flavor = "multi_thread")]
            async fn a_new_file_with_an_old_time_is_new() {
                a_new_file_with_an_old_time(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn a_file_that_is_touched_again_and_again_goes() {
                a_file_that_is_touched(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn a_file_with_a_time_ahead_goes() {
                a_time_ahead(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn a_sweep_waits_for_the_same_age() {
                a_sweep(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn what_came_back_is_no_newer_for_it() {
                our_own_moves(Backend::$backend).await;
            }
        }
    )*};
}

on_each!(sqlite Sqlite, postgres Postgres, mariadb Mariadb, mysql Mysql);
