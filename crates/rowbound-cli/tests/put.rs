//! `rowbound put` on every database: rows get their files, what they named before goes.

use std::time::Duration;

use rowbound_testkit::{Backend, Rowbound, World};

const BINARY: &str = env!("CARGO_BIN_EXE_rowbound");

async fn puts(backend: Backend) {
    if !backend.available() {
        return;
    }
    let minute = Duration::from_secs(60);
    let world = World::new(backend).await.with_docs().await.storage(|s| s.min_age(minute));
    world.put_file("old.txt", b"old");
    // Older than the clocks' margin, so that it goes at once when it is let go of.
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
    std::fs::File::open(world.media().join("old.txt")).and_then(|f| f.set_modified(long_ago)).expect("the file's time");
    world.db.exec("insert into doc (file) values ('old.txt'); insert into doc (file) values (null)").await;
    let rowbound = Rowbound::new(BINARY, &world);
    rowbound.run(&["attach"]).await.expect(0);
    let (one, two) = (world.folder().join("My Photo.txt"), world.folder().join("two.txt"));
    std::fs::write(&one, "one").unwrap();
    std::fs::write(&two, "two, longer").unwrap();
    let (one, two) = (one.to_str().unwrap(), two.to_str().unwrap());

    let output = rowbound.run(&["put", "doc.file", "1", one, "2", two, "--upload-to", "d"]).await.expect(0);
    assert_eq!(output.stdout, "1: d/My_Photo.txt (3 B)\n2: d/two.txt (11 B)\n");
    assert_eq!(world.refs().await, ["d/My_Photo.txt", "d/two.txt"]);
    rowbound.run(&["collect"]).await.expect(0);
    assert_eq!(world.files(), ["d/My_Photo.txt", "d/two.txt"], "what the row named before goes");
    world.assert_files_follow_rows().await;

    // A row that is not there, and a file that is not: the others are put, and what was written for nothing is let go of.
    let missing = world.folder().join("none");
    let args = ["put", "doc.file", "1", two, "7", one, "2", missing.to_str().unwrap(), "--format", "json"];
    let answer = rowbound.run(&args).await.expect(1).json();
    assert_eq!(answer["put"].as_array().unwrap().len(), 1, "{answer}");
    assert_eq!(
        (&answer["put"][0]["key"], &answer["put"][0]["name"], &answer["put"][0]["size"]),
        (&"1".into(), &"two.txt".into(), &11.into())
    );
    assert_eq!(answer["failed"].as_array().unwrap().len(), 2, "{answer}");
    assert!(answer["failed"][0]["error"].as_str().unwrap().contains("no row"), "{answer}");
    assert_eq!(world.refs().await, ["d/two.txt", "two.txt"]);

    for (args, status) in [
        (&["put", "doc.title", "1", one][..], 2),
        (&["put", "doc.file", "1", one, "2"], 2),
        (&["put", "doc.file", "1"], 2),
        (&["put", "doc.file", "1", one, "--upload-to", "../x"], 2),
    ] {
        rowbound.run(args).await.expect(status);
    }
}

macro_rules! on {
    ($($module:ident $backend:ident),*) => { $(
        mod $module {
            use super::*;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn put_lets_rows_name_their_files() {
                puts(Backend::$backend).await;
            }
        }
    )* };
}

on!(sqlite Sqlite, postgres Postgres, mariadb Mariadb, mysql Mysql);
