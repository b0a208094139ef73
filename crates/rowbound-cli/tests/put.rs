//! `rowbound put` on every database: rows get their files, what they named before goes.

use std::time::Duration;

use rowbound_testkit::{Backend, Rowbound, World, wait_until};

const BINARY: &str = env!("CARGO_BIN_EXE_rowbound");

async fn puts(backend: Backend) {
    let minute = Duration::from_secs(60);
    let world = World::new(backend).await.with_docs().await.storage(|s| s.min_age(minute));
    world.put_file("old.txt", b"old");
    world.db.exec("insert into doc (file) values ('old.txt'); insert into doc (file) values (null)").await;
    let rowbound = Rowbound::new(BINARY, &world);
    rowbound.run(&["attach"]).await.expect(0);
    let (one, two) = (world.folder().join("My Photo.txt"), world.folder().join("two.txt"));
    std::fs::write(&one, "one").unwrap();
    std::fs::write(&two, "two, longer").unwrap();
    let (one, two) = (one.to_str().unwrap(), two.to_str().unwrap());
    // So that it goes at once when it is released.
    world.grown().await;

    let output = rowbound.run(&["put", "doc.file", "1", one, "2", two, "--upload-to", "d"]).await.expect(0);
    assert_eq!(output.stdout, "1: d/My_Photo.txt (3 B)\n2: d/two.txt (11 B)\n");
    assert_eq!(world.refs().await, ["d/My_Photo.txt", "d/two.txt"]);
    rowbound.run(&["collect"]).await.expect(0);
    assert_eq!(world.files(), ["d/My_Photo.txt", "d/two.txt"], "what the row named before goes");
    world.assert_files_follow_rows().await;

    // A row that is not there, and a file that is not: the others are put, and what was written for nothing is released.
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
    // `two.txt` took the place of the other; nothing was stored for the row that is not there.
    assert_eq!(world.files(), ["d/My_Photo.txt", "d/two.txt", "two.txt"]);

    for (args, status) in [
        (&["put", "doc.title", "1", one][..], 2),
        (&["put", "doc.file", "1", one, "2"], 2),
        (&["put", "doc.file", "1"], 2),
        (&["put", "doc.file", "1", one, "--upload-to", "../x"], 2),
        (&["put", "doc.file", "1", one, "1", two], 2),
        (&["put", "doc.file"], 2),
        (&["put", "doc.file", "--list", "nowhere.csv"], 2),
        (&["put", "doc.file", "1", one, "--anchor", "t"], 2),
    ] {
        rowbound.run(args).await.expect(status);
    }
}

/// Hundreds of rows out of a list, and a signal in the middle of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn put_takes_a_list_and_ends_between_two_files() {
    const ROWS: usize = 3_000;
    let world = World::new(Backend::Sqlite).await.with_docs().await.storage(|s| s.min_age(Duration::from_secs(60)));
    let rows: Vec<_> = (0..ROWS).map(|_| "(null)").collect();
    world.db.exec(&format!("insert into doc (file) values {}", rows.join(", "))).await;
    let rowbound = Rowbound::new(BINARY, &world);
    rowbound.run(&["attach"]).await.expect(0);
    let file = world.folder().join("a, \"b\".txt");
    std::fs::write(&file, "x").unwrap();
    let quoted = file.to_str().unwrap().replace('"', "\"\"");
    let list = world.folder().join("list.csv");
    let lines: Vec<_> = (1..=ROWS).map(|key| format!("{key},\"{quoted}\"")).collect();
    std::fs::write(&list, lines.join("\r\n")).unwrap();
    let args = ["put", "doc.file", "--list", list.to_str().unwrap(), "--upload-to", "d", "--jobs", "2", "--format", "json"];

    let running = rowbound.spawn(&args);
    wait_until(Duration::from_secs(60), "the first row is put", async || !world.refs().await.is_empty()).await;
    running.terminate();
    let answer = running.wait(Duration::from_secs(60)).await.expect(1).json();
    let count = |what: &str| answer[what].as_array().unwrap().len();
    assert!(count("put") > 0 && count("left") > 0 && count("failed") == 0, "{} put, {} left", count("put"), count("left"));
    assert_eq!(count("put") + count("left"), ROWS);
    assert_eq!(answer["left"][0].as_object().unwrap().keys().collect::<Vec<_>>(), ["file", "key"]);
    // No half of anything: each file has its row.
    world.assert_files_follow_rows().await;
    assert_eq!(world.refs().await.len(), count("put"));

    // A mistake anywhere in a list, and none of it is used.
    let before = world.refs().await;
    std::fs::write(&list, format!("{}\r\n{}\r\n", lines.join("\r\n"), ROWS + 1)).unwrap();
    let output = rowbound.run(&args[..8]).await.expect(2);
    assert!(output.stderr.contains(&format!("line: {}", ROWS + 1)), "{}", output.stderr);
    assert_eq!(world.refs().await, before);
}

#[cfg(not(feature = "images"))]
#[tokio::test(flavor = "multi_thread")]
async fn put_without_the_feature_says_how_to_process_pictures() {
    let world = World::new(Backend::Sqlite).await.with_docs().await;
    let output = Rowbound::new(BINARY, &world).run(&["put", "doc.file", "1", "a.png", "--size", "30x30"]).await.expect(2);
    assert!(output.stderr.contains("cargo install rowbound-cli --features images"), "{}", output.stderr);
}

/// `Article.image`, as the command line has it: 300x300, JPEG, quality 90, by the date.
#[cfg(feature = "images")]
async fn processes(backend: Backend) {
    use image::{ImageFormat, Rgb, RgbImage};
    let minute = Duration::from_secs(60);
    let world = World::new(backend).await.with_docs().await.storage(|s| s.min_age(minute));
    world.put_file("2025/01/02/old.jpg", b"old");
    world.grown().await;
    world.db.exec("insert into doc (file) values ('2025/01/02/old.jpg'); insert into doc (file) values (null), (null)").await;
    let rowbound = Rowbound::new(BINARY, &world);
    rowbound.run(&["attach"]).await.expect(0);
    let at = |name: &str| world.folder().join(name).to_str().expect("UTF-8").to_owned();
    let (photo, wide, text) = (at("photo.png"), at("wide.jpeg"), at("text.png"));
    RgbImage::from_fn(640, 480, |x, y| Rgb([(x / 3) as u8, (y / 2) as u8, 90])).save(&photo).unwrap();
    RgbImage::from_fn(900, 100, |x, y| Rgb([(x / 4) as u8, y as u8, 9])).save(&wide).unwrap();
    std::fs::write(&text, "no picture").unwrap();

    let options = ["--size", "300x300", "--as", "jpeg", "--quality", "90", "--upload-to", "%Y", "--format", "json"];
    let args = [&["put", "doc.file", "1", &photo, "2", &wide, "3", &text], &options[..]].concat();
    let answer = rowbound.run(&args).await.expect(1).json();
    assert_eq!(answer["put"].as_array().unwrap().len(), 2, "{answer}");
    let failed = answer["failed"][0].as_object().unwrap();
    assert!(failed["key"] == "3" && failed["error"].as_str().unwrap().contains("picture") && failed["hint"].is_string(), "{answer}");
    let refs = world.refs().await;
    assert!(refs.len() == 2 && refs[0].ends_with("/photo.jpg") && refs[1].ends_with("/wide.jpeg"), "{refs:?}");
    let size = |name: &str| {
        let bytes = std::fs::read(world.media().join(name)).expect("a file");
        assert_eq!(image::guess_format(&bytes).expect("a picture"), ImageFormat::Jpeg);
        let picture = image::load_from_memory(&bytes).expect("a picture");
        (picture.width(), picture.height(), bytes.len() as u64)
    };
    let (width, height, bytes) = size(&refs[0]);
    assert_eq!((width, height), (300, 300));
    assert_eq!(answer["put"][0]["size"], bytes, "the size is that of what was stored");
    assert_eq!(size(&refs[1]).1, 100, "a thumbnail never enlarges");
    rowbound.run(&["collect"]).await.expect(0);
    assert_eq!(world.files(), refs, "what the row named before goes");

    // Only another format; then a lower quality, over what was just put.
    rowbound.run(&["put", "doc.file", "3", &wide, "--as", "png"]).await.expect(0);
    assert!(std::fs::read(world.media().join("wide.png")).expect("a file").starts_with(b"\x89PNG"));
    let output = rowbound.run(&["put", "doc.file", "2", &photo, "--size", "x60", "--quality", "10"]).await.expect(0);
    assert!(output.stdout.starts_with("2: photo.png ("), "a picture keeps its format: {}", output.stdout);
    let picture = image::open(world.media().join("photo.png")).expect("a picture");
    assert_eq!((picture.width(), picture.height()), (80, 60));

    // Without an option it is stored as it is, whatever it is.
    rowbound.run(&["put", "doc.file", "3", &text]).await.expect(0);
    assert_eq!(std::fs::read(world.media().join("text.png")).expect("a file"), b"no picture");
    for (options, said) in [
        (&["--size", "300x", "--processor", "resize"][..], "resize needs both"),
        (&["--as", "gifs"], "known are: jpeg"),
        (&["--processor", "crop"], "--size"),
    ] {
        let output = rowbound.run(&[&["put", "doc.file", "1", &photo], options].concat()).await.expect(2);
        assert!(output.stderr.contains(said), "{options:?}: {}", output.stderr);
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

            #[cfg(feature = "images")]
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn put_processes_pictures() {
                processes(Backend::$backend).await;
            }
        }
    )* };
}

on!(sqlite Sqlite, postgres Postgres, mariadb Mariadb, mysql Mysql);
