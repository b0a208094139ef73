//! An `attach` that fails leaves nothing. One that is killed, at whatever statement, marker or commit, is finished by the next one, or taken away by `detach`; the
//! application goes on all the while.

use std::{os::unix::fs::PermissionsExt, path::Path, time::Duration};

use rowbound::{Binding, RESERVED, StoragePlan, Trash, plan::Location, storage::Marker};
use rowbound_testkit::{
    Backend, Output, Rowbound, World,
    faults::{Ask, Fault, FaultProxy, Rule},
    s3::{S3Kind, S3Server},
};

const BINARY: &str = env!("CARGO_BIN_EXE_rowbound");

/// `nobody`: as root nothing is forbidden.
const NOBODY: u32 = 65_534;

/// More steps than any attach has.
const MANY: u64 = 200;

const DEADLINE: Duration = Duration::from_secs(60);

fn rowbound(world: &World) -> Rowbound {
    Rowbound::new(BINARY, world)
}

fn marker(media: &Path) -> Option<Marker> {
    let text = std::fs::read_to_string(media.join(RESERVED).join(rowbound::storage::MARKER)).ok()?;
    Some(serde_json::from_str(&text).expect("a marker"))
}

/// Two storages, and a table whose rows go by a cascade: on MySQL and MariaDB their parents have triggers, too.
async fn world(backend: Backend) -> World {
    let world = World::new(backend).await.with_docs().await;
    let id = backend.id_column();
    world.db.exec(&format!("create table parent (id {id})")).await;
    let own = "parent bigint, foreign key (parent) references parent (id) on delete cascade";
    world.db.exec(&format!("create table child (id {id}, file varchar(255), {own})")).await;
    let other = world.folder().join("other");
    std::fs::create_dir(&other).expect("a folder");
    let world = world.bind(Binding::name("child.file", "default").expect("a column"));
    world.another(StoragePlan::folder("photo", &other).trash(Trash::Off)).await
}

/// What the application does at any time.
async fn application(world: &World) {
    world.put_doc("kept.jpg").await;
    world.put_doc("old.jpg").await;
    world.db.exec("update doc set file = 'new.jpg' where file = 'old.jpg'").await;
    world.db.exec("delete from doc where file = 'new.jpg'").await;
    world.db.exec("insert into parent (id) values (1)").await;
    world.db.exec("insert into child (file, parent) values ('child.jpg', 1)").await;
    world.db.exec("delete from parent").await;
    world.db.exec("delete from child").await;
    world.db.exec("insert into photo (file) values ('p.jpg')").await;
    world.db.exec("delete from photo").await;
}

fn was_killed(output: &Output) -> bool {
    assert!(output.code.is_none() || output.code == Some(0), "{:?} {}", output.code, output.stderr);
    output.code.is_none()
}

/// Kills an attach at its nth step; `false` where it has no such step.
async fn killed(world: &World, nth: u64, command: &[&str]) -> bool {
    assert!(nth < MANY, "an attach without end");
    was_killed(&rowbound(world).env("ROWBOUND_CRASH_AT", &format!("attach-step:{nth}")).run(command).await)
}

/// What stands in the database that is Rowbound's, and the storages' markers.
async fn left(world: &World) -> (Vec<(String, String)>, bool) {
    let marked =
        world.media().join(RESERVED).join(rowbound::storage::MARKER).exists() || world.folder().join("other").join(RESERVED).exists();
    (world.db.triggers().await, marked)
}

/// Calls `at` with steps of an attach, which answers whether there is such a step: all of them, or, not as a `whole`, farther and farther apart, and then those
/// towards the last one.
async fn steps(whole: bool, mut at: impl AsyncFnMut(u64) -> bool) {
    let mut last = 0;
    while whole && at(last + 1).await {
        last += 1;
    }
    if !whole {
        let (mut stride, mut none) = (1, MANY);
        while none - last > 1 {
            let next = if none == MANY { last + stride } else { (last + none) / 2 };
            if at(next).await { (last, stride) = (next, stride * 2) } else { none = next }
        }
    }
    assert!(last > 2, "an attach has more than {last} steps");
}

async fn killed_at_steps(backend: Backend, whole: bool) {
    let world = world(backend).await;
    let schema = world.db.schema().await;
    rowbound(&world).run(&["attach"]).await.expect(0);
    let attached = world.db.schema().await;
    rowbound(&world).run(&["detach"]).await.expect(0);
    let (world, schema, attached, mut turn) = (&world, &schema, &attached, 0);
    let killed_at = async |nth: u64| {
        let found = killed(world, nth, &["attach"]).await;
        if !found {
            rowbound(world).run(&["detach"]).await.expect(0);
        }
        found
    };
    steps(whole, async |nth| {
        if !killed_at(nth).await {
            return false;
        }
        turn += 1;
        if whole || turn % 2 == 1 {
            application(world).await;
            // Whatever stands: who is not attached to the end deletes nothing that is referenced.
            let collected = rowbound(world).run(&["collect"]).await;
            assert!(world.is_there("kept.jpg"), "step {nth}");

            let done = rowbound(world).run(&["attach"]).await.expect(0);
            told(backend, &format!("attach killed at step {nth}"), &[("collect", &collected), ("attach", &done)]);
            assert_eq!(&world.db.schema().await, attached, "step {nth}");
            for media in [world.media(), world.folder().join("other")] {
                assert_eq!(marker(&media).expect("a marker").installations.len(), 1, "step {nth}: {}", media.display());
            }
            world.put_doc("gone.jpg").await;
            world.db.exec("delete from doc where file = 'gone.jpg'").await;
            rowbound(world).run(&["collect"]).await.expect(0);
            assert!(!world.is_there("gone.jpg") && world.is_there("kept.jpg"), "step {nth}");
            rowbound(world).run(&["status"]).await.expect(0);
            rowbound(world).run(&["detach"]).await.expect(0);
            if !whole {
                return true;
            }
            assert!(killed_at(nth).await, "step {nth}");
        }
        // Or it is taken away.
        rowbound(world).run(&["detach"]).await.expect(0);
        assert_eq!((left(world).await, &world.db.schema().await), ((vec![], false), schema), "step {nth}");
        application(world).await;
        world.db.exec("delete from doc").await;
        true
    })
    .await;
}

/// A row of the table of ways back: what was typed, what was said.
fn told(backend: Backend, way: &str, typed: &[(&str, &Output)]) {
    let said = |output: &Output| {
        let text = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
        format!("{:?} {}", output.code, text.lines().next().unwrap_or_default())
    };
    let steps: Vec<String> = typed.iter().map(|(command, output)| format!("`{command}`: {}", said(output))).collect();
    println!("| {way} | {backend} | {} | lost: nothing |", steps.join("; "));
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_an_attach_that_is_killed_is_finished_by_the_next() {
    killed_at_steps(Backend::Sqlite, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_an_attach_that_is_killed_is_finished_by_the_next() {
    killed_at_steps(Backend::Postgres, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_an_attach_that_is_killed_is_finished_by_the_next() {
    killed_at_steps(Backend::Mariadb, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_an_attach_that_is_killed_is_finished_by_the_next() {
    killed_at_steps(Backend::Mysql, false).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "soak"]
async fn soak_an_attach_that_is_killed_at_each_step_on_sqlite() {
    killed_at_steps(Backend::Sqlite, true).await;
    adoption_killed_at_steps(Backend::Sqlite, true).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "soak"]
async fn soak_an_attach_that_is_killed_at_each_step_on_postgres() {
    killed_at_steps(Backend::Postgres, true).await;
    adoption_killed_at_steps(Backend::Postgres, true).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "soak"]
async fn soak_an_attach_that_is_killed_at_each_step_on_mariadb() {
    killed_at_steps(Backend::Mariadb, true).await;
    adoption_killed_at_steps(Backend::Mariadb, true).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "soak"]
async fn soak_an_attach_that_is_killed_at_each_step_on_mysql() {
    killed_at_steps(Backend::Mysql, true).await;
    adoption_killed_at_steps(Backend::Mysql, true).await;
}

/// A copy takes the place of its original, which is gone, and is killed meanwhile: the same command, or a plain `attach`, finishes it.
async fn adoption_killed_at_steps(backend: Backend, whole: bool) {
    let original = World::new(backend).await.with_docs().await;
    rowbound(&original).run(&["attach"]).await.expect(0);
    let id = marker(&original.media()).expect("a marker").installations.pop().expect("an installation");
    let was = marker(&original.media());
    let (original, id, was) = (&original, &id, &was);
    steps(whole, async |nth| {
        let mut copy = World::with(original.db.copy().await);
        copy.bindings = original.bindings.clone();
        copy.storage = original.storage.clone();
        let command = ["attach", "--adopt", "--forget-installation", id.as_str()];
        let more = killed(&copy, nth, &command).await;
        if more {
            original.put_file("kept.jpg", b"1");
            copy.db.exec("insert into doc (file) values ('kept.jpg')").await;
            rowbound(&copy).run(&["collect"]).await;
            assert!(original.is_there("kept.jpg"), "step {nth}");
            // Before the database has changed it is a copy still. From then on a plain attach knows what is left to do.
            let plain = rowbound(&copy).run(&["attach"]).await;
            if plain.code != Some(0) {
                assert_eq!(plain.code, Some(4), "step {nth}: {}", plain.stderr);
                rowbound(&copy).run(&command).await.expect(0);
            }
            told(backend, &format!("attach --adopt killed at step {nth}"), &[("attach", &plain)]);
        }
        let installations = marker(&original.media()).expect("a marker").installations;
        assert!(installations.len() == 1 && installations[0] != *id, "step {nth}: {installations:?}");
        rowbound(&copy).run(&["attach"]).await.expect(0);
        rowbound(&copy).run(&["collect"]).await.expect(0);
        rowbound(&copy).run(&["status"]).await.expect(0);
        // For the next copy the storage is the original's again.
        let path = original.media().join(RESERVED).join(rowbound::storage::MARKER);
        std::fs::write(path, serde_json::to_string(was).expect("JSON")).expect("the marker");
        more
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_an_adoption_that_is_killed_is_finished_by_the_next() {
    adoption_killed_at_steps(Backend::Sqlite, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_an_adoption_that_is_killed_is_finished_by_the_next() {
    adoption_killed_at_steps(Backend::Postgres, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_an_adoption_that_is_killed_is_finished_by_the_next() {
    adoption_killed_at_steps(Backend::Mariadb, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_an_adoption_that_is_killed_is_finished_by_the_next() {
    adoption_killed_at_steps(Backend::Mysql, false).await;
}

/// Who may not write into the folder changes nothing in the database, and is not in the way of a later attach.
async fn without_the_right_to_write(backend: Backend) {
    let world = World::new(backend).await.with_docs().await;
    let schema = world.db.schema().await;
    let rowbound = if rustix::process::geteuid().is_root() {
        let rowbound = rowbound(&world).as_user(NOBODY);
        world.give_to(NOBODY);
        rowbound
    } else {
        rowbound(&world)
    };
    let mode = |mode| std::fs::set_permissions(world.media(), std::fs::Permissions::from_mode(mode)).expect("rights");
    mode(0o555);
    let refused = rowbound.run(&["attach"]).await.expect(2);
    assert!(refused.stderr.contains("cannot make the folder"), "{}", refused.stderr);
    assert_eq!(world.db.schema().await, schema, "the database is as it was");
    mode(0o755);
    rowbound.run(&["attach"]).await.expect(0);
    // The same where the storage was attached before, and more is bound.
    rowbound.run(&["detach"]).await.expect(0);
    assert_eq!(world.db.schema().await, schema);
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_a_folder_that_may_not_be_written_leaves_the_database_as_it_was() {
    without_the_right_to_write(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_a_folder_that_may_not_be_written_leaves_the_database_as_it_was() {
    without_the_right_to_write(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_a_folder_that_may_not_be_written_leaves_the_database_as_it_was() {
    without_the_right_to_write(Backend::Mariadb).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_a_folder_that_may_not_be_written_leaves_the_database_as_it_was() {
    without_the_right_to_write(Backend::Mysql).await;
}

/// A bucket that takes everything but the marker; and one that takes it no more when the database has changed.
#[tokio::test(flavor = "multi_thread")]
async fn s3s_fs_a_marker_that_cannot_be_written_is_written_by_the_next_attach() {
    let server = S3Server::start(S3Kind::S3sFs);
    let proxy = FaultProxy::to_s3(&server);
    for (refused, schema_stays) in [(0, true), (1, false)] {
        let bucket = server.bucket().await;
        let location: Location = bucket.location_at(&proxy.endpoint(), "media/");
        let world = World::new(Backend::Sqlite).await.with_docs().await.storage(|s| StoragePlan { location, ..s });
        let schema = world.db.schema().await;
        let rowbound = server.env().iter().fold(rowbound(&world), |r, (name, value)| r.env(name, value));
        proxy.rule(Rule::new(Fault::Answer(403)).on([Ask::Put]).path("storage.json").skip(refused));
        let failed = rowbound.run(&["attach"]).await.expect(2);
        assert!(failed.stderr.contains("cannot write the storage's marker"), "{}", failed.stderr);
        assert_eq!(world.db.schema().await == schema, schema_stays);
        assert_ne!(rowbound.run(&["collect"]).await.code, Some(0));
        proxy.clear();
        rowbound.run(&["attach"]).await.expect(0);
        rowbound.run(&["collect"]).await.expect(0);
    }
}

/// Two databases join a storage at the same moment: the marker has both, whoever writes it last.
#[tokio::test(flavor = "multi_thread")]
async fn two_databases_that_attach_to_one_storage_at_once_both_stand_in_its_marker() {
    let first = World::new(Backend::Sqlite).await.with_docs().await;
    let mut join = Vec::new();
    for _ in 0..2 {
        let mut world = World::new(Backend::Sqlite).await.with_docs().await;
        world.storage = first.storage.clone();
        join.push(world);
    }
    rowbound(&first).run(&["attach"]).await.expect(0);
    // It has read the marker and not written it.
    let (held, place) = rowbound(&join[0]).held_at("attach-step");
    let held = held.spawn(&["attach", "--shared"]);
    place.reached(&held, DEADLINE).await;
    rowbound(&join[1]).run(&["attach", "--shared"]).await.expect(0);
    place.let_go();
    held.wait(DEADLINE).await.expect(0);
    assert_eq!(marker(&first.media()).expect("a marker").installations.len(), 3);
    for world in [&first, &join[0], &join[1]] {
        rowbound(world).run(&["collect"]).await.expect(0);
    }
}

/// The same where each would be the only one: an attach that was killed has left a marker that belongs to nobody.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_databases_that_attach_to_one_storage_at_once_one_is_refused() {
    let first = World::new(Backend::Sqlite).await.with_docs().await;
    let mut second = World::new(Backend::Sqlite).await.with_docs().await;
    second.storage = first.storage.clone();
    assert!(killed(&first, 2, &["attach"]).await);
    assert_eq!(marker(&first.media()).expect("a marker").installations, [""; 0]);
    let (held, place) = rowbound(&first).held_at("attach-step");
    let held = held.spawn(&["attach"]);
    place.reached(&held, DEADLINE).await;
    rowbound(&second).run(&["attach"]).await.expect(0);
    let taken = marker(&first.media());
    place.let_go();
    held.wait(DEADLINE).await.expect(4);
    assert_eq!(marker(&first.media()), taken);
    rowbound(&second).run(&["collect"]).await.expect(0);
    assert_ne!(rowbound(&first).run(&["collect"]).await.code, Some(0));
}

/// No server of these runs in the tests, so `attach` itself cannot: what it would say is the same, before it asks a storage.
#[tokio::test(flavor = "multi_thread")]
async fn a_storage_that_no_test_runs_against_is_called_experimental() {
    for (url, what) in [
        ("swift://media?endpoint=https://127.0.0.1:9/v1/a&token=t", Some("swift")),
        ("ftp://127.0.0.1:9/media?user=u", Some("ftp")),
        ("azblob://media?endpoint=https://127.0.0.1:9", None),
        ("webdav://127.0.0.1:9/media", None),
    ] {
        let mut world = World::new(Backend::Sqlite).await.with_docs().await;
        let location = Location::parse(url, Path::new("/")).expect("a URL");
        world.storage = StoragePlan::at("default", location);
        let json = rowbound(&world).run(&["attach", "--print-sql", "--format", "json"]).await.expect(0).json();
        let warnings: Vec<_> = json["inspection"]["warnings"].as_array().expect("warnings").iter().filter_map(|w| w.as_str()).collect();
        let said: Vec<_> = warnings.iter().filter(|w| w.contains("experimental")).collect();
        assert_eq!(said.len(), usize::from(what.is_some()), "{warnings:?}");
        let text = rowbound(&world).run(&["attach", "--print-sql"]).await.expect(0);
        match what {
            Some(scheme) => {
                let begin = format!("storage default: {scheme} is experimental: ");
                assert!(said[0].starts_with(&begin) && said[0].contains("rowbound attach --shadow"), "{said:?}");
                assert!(text.stderr.contains(&format!("warning   {begin}")), "{}", text.stderr);
            }
            None => assert!(!text.stderr.contains("experimental"), "{}", text.stderr),
        }
    }
}
