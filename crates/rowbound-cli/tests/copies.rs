//! A copy of a database (a restored dump, a copied file) knows the original's candidates and names the original's storage. It must not
//! delete the original's files.

use std::time::Duration;

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

/// What the original's hook has yet to hear is not told by a copy, unless it is no copy: the database has moved.
async fn deliveries(backend: Backend) {
    for moved in [false, true] {
        let mut original = World::new(backend).await.with_docs().await;
        original.hooks = vec![Hook { name: "cdn".into(), ..Hook::new(Call::Command("exit 1".into())) }];
        Rowbound::new(BINARY, &original).run(&["attach"]).await.expect(0);
        original.put_doc("a.jpg").await;
        original.db.exec("delete from doc").await;
        Rowbound::new(BINARY, &original).run(&["collect"]).await.expect(1);
        assert!(original.files().is_empty());

        let mut copy = World::with(original.db.copy().await);
        copy.bindings = original.bindings.clone();
        copy.storage = StoragePlan::folder("default", copy.media()).grace(Duration::ZERO).min_age(Duration::ZERO);
        let heard = copy.folder().join("heard");
        let call = Call::Command(format!("echo $ROWBOUND_NAME >> {}", heard.display()));
        copy.hooks = vec![Hook { name: "cdn".into(), ..Hook::new(call) }];
        let rowbound = Rowbound::new(BINARY, &copy);
        let refused = rowbound.run(&["attach", "--adopt"]).await.expect(4);
        for text in ["cdn: 1 waiting", "rowbound forget --give-up cdn", "--keep-deliveries"] {
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
