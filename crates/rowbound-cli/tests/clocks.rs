//! Clocks that are wrong, by hours and days, in both directions: that of the machine on which a worker runs, that of a database's server, that of an S3 service. No file
//! goes too early, none is erased while clocks disagree, nothing stays for ever, and somebody is told. libfaketime sets the clocks; files have the kernel's.

use std::{path::Path, time::Duration};

use rowbound::{StoragePlan, Trash};
use rowbound_testkit::{Backend, OwnServer, Rowbound, TestDb, World, s3::S3Server};

const BINARY: &str = env!("CARGO_BIN_EXE_rowbound");
const DEADLINE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// By how much a worker's clock is wrong.
const WRONG: [&str; 6] = ["+2h", "-2h", "+3d", "-3d", "+400d", "-400d"];

fn library() -> &'static str {
    let all = ["/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1", "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1"];
    all.into_iter().find(|path| Path::new(path).exists()).expect("libfaketime is missing: apt-get install libfaketime (scripts/faketime)")
}

/// The environment of a process whose clock is off by `by`.
fn clock(by: &str) -> [(&str, &str); 4] {
    [("LD_PRELOAD", library()), ("FAKETIME", by), ("FAKETIME_DONT_FAKE_MONOTONIC", "1"), ("NO_FAKE_STAT", "1")]
}

/// The command on a machine whose clock is off by `by`.
fn on_a_machine(world: &World, by: &str) -> Rowbound {
    clock(by).iter().fold(Rowbound::new(BINARY, world), |rowbound, (name, value)| rowbound.env(name, value))
}

async fn world(backend: Backend, min_age: Duration) -> World {
    let world = World::new(backend).await.with_docs().await.storage(|s| s.trash(Trash::Keep(24 * HOUR)).min_age(min_age));
    Rowbound::new(BINARY, &world).run(&["attach"]).await.expect(0);
    world
}

/// A new upload has the name of a release: it is younger than `min_age`, whatever the worker's clock says.
async fn a_fresh_upload_stays(backend: Backend) {
    for wrong in WRONG {
        let world = world(backend, HOUR).await;
        world.put_doc("a.jpg").await;
        world.db.exec("delete from doc").await;
        world.put_file("a.jpg", b"the new one, whose row is on its way");
        let said = on_a_machine(&world, wrong).run(&["collect"]).await;
        assert!(world.is_there("a.jpg"), "{backend:?}, {wrong}: {}{}", said.stdout, said.stderr);
        assert_eq!(said.code, Some(1), "{backend:?}, {wrong}: it waits: {}", said.stdout);
        // It is not forgotten: on a machine whose clock is right it goes when it is old enough.
        world.pretend(HOUR).await;
        Rowbound::new(BINARY, &world).run(&["collect", "--retry-now", "--wait", "20s"]).await.expect(0);
        assert!(!world.is_there("a.jpg"), "{backend:?}, {wrong}");
    }
}

/// What a worker with a wrong clock moves, a worker with the right one keeps for its retention; and what a right one moved, a wrong one does not erase.
async fn nothing_is_erased_too_early(backend: Backend) {
    for wrong in WRONG {
        let world = world(backend, Duration::ZERO).await;
        for name in ["by-wrong.jpg", "by-right.jpg"] {
            world.put_doc(name).await;
        }
        world.db.exec("delete from doc where file = 'by-right.jpg'").await;
        Rowbound::new(BINARY, &world).run(&["collect", "--wait", "20s"]).await.expect(0);
        world.db.exec("delete from doc where file = 'by-wrong.jpg'").await;
        let (erring, right) = (on_a_machine(&world, wrong), Rowbound::new(BINARY, &world));
        let said = erring.run(&["collect", "--retry-now"]).await;
        assert!(
            said.code == Some(1) && said.stdout.contains("nothing is erased"),
            "{backend:?}, {wrong}: it is said: {}{}",
            said.stdout,
            said.stderr
        );
        for _ in 0..2 {
            right.run(&["collect", "--retry-now"]).await;
            erring.run(&["collect", "--retry-now"]).await;
        }
        assert_eq!(world.trashed().len(), 2, "{backend:?}, {wrong}: {:?}", world.trashed());
        for name in ["by-wrong.jpg", "by-right.jpg"] {
            right.run(&["restore", name]).await.expect(0);
            assert!(world.is_there(name), "{backend:?}, {wrong}");
        }
    }
}

/// A daemon whose clock is wrong collects all the same, and `status` elsewhere says that it erases nothing.
async fn a_daemon_says_so(backend: Backend) {
    let world = world(backend, Duration::ZERO).await;
    world.put_doc("a.jpg").await;
    let daemon = on_a_machine(&world, "+2h").spawn(&["run", "--poll", "20ms"]);
    daemon.wait_for_line("collecting", DEADLINE).await;
    world.db.exec("delete from doc").await;
    daemon.until(DEADLINE, "it collects", || async { !world.is_there("a.jpg") }).await;
    daemon.wait_for_line("nothing is erased", DEADLINE).await;
    let told = || async {
        let status = Rowbound::new(BINARY, &world).run(&["status"]).await;
        status.code == Some(1) && status.stdout.lines().next().is_some_and(|line| line.contains("clock is 2 h ahead of the database's"))
    };
    daemon.until(DEADLINE, "status says whose clock is wrong", told).await;
    daemon.terminate();
    daemon.wait(DEADLINE).await.expect(0);
}

/// The server's clock is wrong, and so are the times of releases, leases and retentions. Nobody else's is.
async fn a_wrong_server(backend: Backend, by: &str) {
    let own = OwnServer::with_clock(backend, by);
    let world = World::with(TestDb::on(own.server()).await).with_docs().await.storage(|s| s.trash(Trash::Keep(24 * HOUR)).min_age(HOUR));
    let rowbound = Rowbound::new(BINARY, &world);
    rowbound.run(&["attach"]).await.expect(0);
    for name in ["old.jpg", "again.jpg", "back.jpg"] {
        world.put_doc(name).await;
    }
    // By more than the clocks' difference is measured too large on a busy machine.
    for _ in 0..3 {
        world.grown().await;
    }
    world.db.exec("delete from doc").await;
    world.put_file("again.jpg", b"the new one, whose row is on its way");
    let run = rowbound.spawn(&["run", "--poll", "20ms", "--lease", "2s"]);
    run.until(DEADLINE, "the old ones are collected", || async { world.files() == ["again.jpg"] }).await;
    run.wait_for_line("nothing is erased", DEADLINE).await;
    run.terminate();
    run.wait(DEADLINE).await.expect(0);
    // What is referenced again comes back: the window of the re-checks is a time between two moments of one clock. The first one begins with the daemon.
    world.db.exec("insert into doc (file) values ('back.jpg')").await;
    let run = rowbound.spawn(&["run", "--poll", "20ms", "--lease", "2s"]);
    run.until(2 * DEADLINE, "it comes back", || async { world.is_there("back.jpg") }).await;
    run.terminate();
    run.wait(DEADLINE).await.expect(0);
    // A sweep takes no new file for an orphan, and an old one for no new one.
    world.put_file("orphan.jpg", b"");
    let sweep = ["sweep", "--delete", "--max-share", "1"];
    let said = rowbound.run(&sweep).await.stdout;
    assert!(said.contains("0  orphans"), "{backend}, {by}: {said}");
    rowbound.run(&["collect"]).await.expect(1);
    assert_eq!(world.files(), ["again.jpg", "back.jpg", "orphan.jpg"], "{backend}, {by}");
    world.pretend(HOUR).await;
    rowbound.run(&["collect"]).await.expect(1);
    assert_eq!(world.files(), ["back.jpg", "orphan.jpg"], "{backend}, {by}: nothing stays for ever");
    assert_eq!(world.trashed().len(), 2, "{backend}, {by}: {:?}", world.trashed());
    let status = rowbound.run(&["status"]).await.expect(1);
    assert!(status.stdout.contains("nothing is erased"), "{backend}, {by}: {}", status.stdout);
}

/// A service whose clock is wrong says of a new object that it is old, or that it is yet to come.
async fn a_wrong_service(by: &str) {
    let server = S3Server::moto_with(&clock(by));
    let bucket = server.versioned_bucket().await;
    let location = bucket.location("media/");
    let plan = |s: StoragePlan| StoragePlan { location, ..s }.min_age(HOUR).trash(Trash::Keep(24 * HOUR));
    let world = World::new(Backend::Postgres).await.with_docs().await.storage(plan);
    let rowbound = server.env().iter().fold(Rowbound::new(BINARY, &world), |rowbound, (name, value)| rowbound.env(name, value));
    rowbound.run(&["attach"]).await.expect(0);
    world.db.exec("insert into doc (file) values ('a.jpg')").await;
    world.db.exec("delete from doc").await;
    let client = bucket.client();
    let body = aws_sdk_s3::primitives::ByteStream::from_static(b"the new one, whose row is on its way");
    client.put_object().bucket(bucket.name()).key("media/a.jpg").body(body).send().await.expect("an upload");
    let there = async || client.head_object().bucket(bucket.name()).key("media/a.jpg").send().await.is_ok();
    let said = rowbound.run(&["collect"]).await;
    assert!(there().await, "{by}: {}", said.stdout);
    let said = said.expect(1).stdout;
    assert!(said.contains("the file is newer than its release"), "{by}: {said}");
    world.pretend(HOUR).await;
    rowbound.run(&["collect"]).await;
    assert!(!there().await, "{by}: nothing stays for ever");
    let said = rowbound.run(&["collect"]).await.expect(1).stdout;
    assert!(said.contains("the clock of storage default is") && said.contains("nothing is erased"), "{by}: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_upload_stays_whatever_the_service_s_clock_says_on_moto() {
    for by in ["-3d", "+2h"] {
        a_wrong_service(by).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "soak"]
async fn soak_a_fresh_upload_stays_whatever_the_service_s_clock_says() {
    for by in ["-2h", "+2h", "-3d", "+3d"] {
        a_wrong_service(by).await;
    }
}

macro_rules! on_each {
    ($($module:ident $backend:ident),*) => {$(
        mod $module {
            use super::*;

            #[tokio::test(flavor = "multi_thread")]
            async fn a_fresh_upload_stays_whatever_the_worker_s_clock_says() {
                a_fresh_upload_stays(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn nothing_is_erased_while_clocks_disagree() {
                nothing_is_erased_too_early(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn a_daemon_whose_clock_is_wrong_says_so() {
                a_daemon_says_so(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn a_server_that_is_ahead_loses_and_keeps_nothing() {
                a_wrong_server(Backend::$backend, "+3d").await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn a_server_that_is_behind_loses_and_keeps_nothing() {
                a_wrong_server(Backend::$backend, "-3d").await;
            }
        }
    )*};
}

on_each!(postgres Postgres, mariadb Mariadb, mysql Mysql);
