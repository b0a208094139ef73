//! What root makes belongs to the owner of the folder in which it lies, whatever the command; and nobody else reads what tells the names of files.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use rowbound::{RESERVED, Trash};
use rowbound_testkit::{Backend, Rowbound, World};

const BINARY: &str = env!("CARGO_BIN_EXE_rowbound");

/// `nobody`.
const NOBODY: u32 = 65_534;

fn below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(below(&path));
        }
        found.push(path);
    }
    found
}

fn meta(path: &Path) -> std::fs::Metadata {
    std::fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_root_makes_belongs_to_the_owner_of_its_folder() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("without root there is one owner only, and nothing to tell");
        return;
    }
    let world = World::new(Backend::Sqlite)
        .await
        .with_docs()
        .await
        .storage(|s| s.trash(Trash::Keep(Duration::from_secs(86_400))).min_age(Duration::from_millis(1)));
    let folder = |name: &str| world.folder().join(name);
    let text = |name: &str| folder(name).display().to_string();
    world.put_doc("a/b/gone.jpg").await;
    world.put_doc("kept.jpg").await;
    for i in 0..2_500 {
        world.put_file(&format!("orphans/{i}.jpg"), b"1");
    }
    std::fs::write(folder("upload.jpg"), "1").expect("a file");
    for there in ["man-there", "demo-there"] {
        std::fs::create_dir(folder(there)).expect("a folder");
    }
    let rowbound = Rowbound::new(BINARY, &world).env("ROWBOUND_STATE", &text("state/deep"));
    let killed = rowbound.clone().env("ROWBOUND_CRASH_AT", "compared");
    world.db.close_app().await;
    world.give_to(NOBODY);
    rowbound.run(&["attach"]).await.expect(0);
    world.db.exec("delete from doc where file = 'a/b/gone.jpg'").await;
    world.db.close_app().await;
    rowbound.run(&["collect"]).await.expect(0);
    rowbound.run(&["restore", "a/b/gone.jpg"]).await.expect(0);
    rowbound.run(&["put", "doc.file", "2", &text("upload.jpg"), "--upload-to", "new/folder"]).await.expect(0);
    // A sweep that is killed leaves its spool.
    assert_eq!(killed.run(&["sweep", "--max-share", "1"]).await.code, None);
    let report = text("report.html");
    rowbound.run(&["sweep", "--restart", "--max-share", "1", "--report", &report]).await.expect(1);
    assert_eq!(killed.run(&["sweep", "--max-share", "1"]).await.code, None);
    for command in [&["man", "--out"][..], &["demo", "--keep"]] {
        for name in [format!("{}-new", command[0]), format!("{}-there", command[0])] {
            rowbound.run(&[command, &[&text(&name)]].concat()).await.expect(0);
        }
    }
    let url = format!("folder:{}", world.media().display());
    let proposed = rowbound.run(&["init", "--storage", &url, "--database", world.db.url(), "--output", &text("proposed.toml")]).await;
    assert!(matches!(proposed.code, Some(0 | 1)) && folder("proposed.toml").exists(), "{:?} {}", proposed.code, proposed.stderr);

    for place in [world.folder(), world.db.file().parent().expect("a folder")] {
        for path in below(place) {
            assert_eq!((meta(&path).uid(), meta(&path).gid()), (NOBODY, NOBODY), "{}", path.display());
        }
    }
    let mode = |path: &Path| meta(path).mode() & 0o777;
    for path in below(&folder("state")) {
        assert_eq!(mode(&path), if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
    }
    assert!(below(&folder("state")).iter().any(|path| path.is_file()), "the spool is there");
    assert_eq!(mode(&world.media().join(RESERVED)), 0o700);
    // And the application's user goes on with all of it.
    let user = Rowbound::new(BINARY, &world).as_user(NOBODY);
    world.give_to(NOBODY);
    let user = user.env("ROWBOUND_STATE", &text("state/deep"));
    user.run(&["collect"]).await.expect(0);
    user.run(&["sweep", "--delete", "--max-share", "1"]).await.expect(0);
    user.run(&["collect", "--retry-now"]).await.expect(0);
}
