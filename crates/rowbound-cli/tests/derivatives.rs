//! What was made from a file goes with it: thumbnails, previews. But only while no row references them, while nothing else could have been their
//! original, and wherever the worker was killed.

use std::time::Duration;

use rowbound::{
    Binding, StoragePlan, Trash,
    binding::Mode,
    crash::ordinary,
    database::{self, Options},
    queue::{Announce, Derived, Settlement},
};
use rowbound_testkit::{Backend, Rowbound, World};

const BINARY: &str = env!("CARGO_BIN_EXE_rowbound");
const DEADLINE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// A world whose `doc.file` has derivatives, attached.
async fn world(backend: Backend, patterns: &[&str], change: impl FnOnce(Binding) -> Binding) -> World {
    let mut world = World::new(backend).await.with_docs().await;
    let binding = world.bindings.remove(0).derivatives(patterns.iter().copied());
    world.bindings.push(change(binding));
    Rowbound::new(BINARY, &world).run(&["attach"]).await.expect(0);
    world
}

fn put(world: &World, names: &[&str]) {
    for name in names {
        world.put_file(name, name.as_bytes());
    }
}

/// Deletes rows and collects until nothing waits.
async fn release(world: &World, names: &[&str]) {
    for name in names {
        world.db.exec(&format!("delete from doc where file = {}", world.db.backend().literal(name))).await;
    }
    Rowbound::new(BINARY, world).run(&["collect"]).await.expect(0);
}

async fn history(world: &World, name: &str) -> Vec<(String, String, Option<String>, Option<String>)> {
    let entries = Rowbound::new(BINARY, world).run(&["history", "--name", name, "--format", "json"]).await.json();
    let text = |v: &serde_json::Value| v.as_str().map(str::to_owned);
    let all = entries.as_array().cloned().unwrap_or_else(|| vec![entries]);
    all.iter()
        .map(|e| (text(&e["event"]).unwrap_or_default(), text(&e["outcome"]).unwrap_or_default(), text(&e["key"]), text(&e["note"])))
        .collect()
}

/// django-imagekit's layout: they go in the same run, into the trash like their original; others stay.
async fn go_with_their_original(backend: Backend) {
    let mut world = world(backend, &["imagekit"], |b| b).await;
    world = world.storage(|s| s.trash(Trash::Keep(HOUR)));
    world.put_doc("2026/p.jpg").await;
    world.put_doc("2026/q.jpg").await;
    world.put_doc("root*.jpg").await;
    let others = ["CACHE/images/2026/p/deeper/1.jpg", "CACHE/images/2026/q/1.jpg", "CACHE/images/p/1.jpg", "CACHE/images/rootx/1.jpg"];
    put(&world, &others);
    put(&world, &["CACHE/images/2026/p/1.jpg", "CACHE/images/2026/p/2.webp", "CACHE/images/root*/1.jpg"]);
    release(&world, &["2026/p.jpg", "root*.jpg"]).await;
    let explained = Rowbound::new(BINARY, &world).run(&["explain", "CACHE/images/2026/q/1.jpg"]).await;
    assert!(explained.stdout.contains("it stays: a derivative of 2026/q.jpg, which is there"), "{}", explained.stdout);
    let mut left: Vec<_> = others.to_vec();
    left.push("2026/q.jpg");
    left.sort_unstable();
    assert_eq!(world.files(), left);
    assert_eq!(world.trashed().len(), 5);
    let entry = ("derivative".to_owned(), "trashed".to_owned(), Some("2026/p.jpg".to_owned()), None);
    assert_eq!(history(&world, "CACHE/images/2026/p/2.webp").await, [entry]);
}

/// Every reason to stay.
async fn stay_on_any_doubt(backend: Backend) {
    // A row references it, in whatever column; a `keep` pattern protects it.
    let world = world(backend, &["{name}.*"], |b| b.keep(["*.keep.jpg"])).await;
    world.put_doc("a/p.jpg").await;
    world.put_doc("a/p.jpg.named.jpg").await;
    put(&world, &["a/p.jpg.1.jpg", "a/p.jpg.keep.jpg", "a/p.jpg2", "a/p.jpg.d/1.jpg"]);
    release(&world, &["a/p.jpg"]).await;
    assert_eq!(world.files(), ["a/p.jpg.d/1.jpg", "a/p.jpg.keep.jpg", "a/p.jpg.named.jpg", "a/p.jpg2"]);

    // Another original could have it too: `b/p` would take what belongs to `b/p.jpg`.
    world.put_doc("b/p").await;
    world.put_doc("b/p.jpg").await;
    put(&world, &["b/p.1", "b/p.jpg.1"]);
    release(&world, &["b/p"]).await;
    assert_eq!(world.files()[4..], ["b/p.jpg", "b/p.jpg.1"]);
    assert_eq!(history(&world, "b/p.jpg.1").await[0].1, "kept");
    release(&world, &["b/p.jpg"]).await;
    assert_eq!(world.files().len(), 4, "{:?}", world.files());

    // So does an original that nothing but a row knows any more.
    world.put_doc("c/p").await;
    put(&world, &["c/p.jpg.1"]);
    world.db.exec("insert into doc (file) values ('c/p.jpg')").await;
    release(&world, &["c/p"]).await;
    assert_eq!(world.files()[4..], ["c/p.jpg.1"]);
    release(&world, &["c/p.jpg"]).await;
    assert_eq!(world.files().len(), 4, "the original was removed by hand: its derivatives go all the same");
}

/// photo.jpg and photo.png have the same stem.
async fn shared_until_the_last_sibling_goes(backend: Backend) {
    let world = world(backend, &["CACHE/{dir}/{stem}/*"], |b| b).await;
    for name in ["a/photo.jpg", "a/photo.png", "a/photo", "a/photo.b.jpg", "photo.jpg"] {
        world.put_doc(name).await;
    }
    put(&world, &["CACHE/a/photo/1.jpg", "CACHE/photo/1.jpg"]);
    for gone in ["a/photo.jpg", "a/photo.png"] {
        release(&world, &[gone]).await;
        assert!(world.files().contains(&"CACHE/a/photo/1.jpg".to_owned()), "{gone}: {:?}", world.files());
    }
    release(&world, &["a/photo"]).await;
    assert_eq!(world.files(), ["CACHE/photo/1.jpg", "a/photo.b.jpg", "photo.jpg"]);
    release(&world, &["photo.jpg", "a/photo.b.jpg"]).await;
    assert!(world.files().is_empty());
}

/// The last two originals go in one batch, and nothing was told which of them the derivative is of.
async fn shared_by_two_that_go_together(backend: Backend) {
    let world = world(backend, &["CACHE/{stem}/*", "{stem}.*", "{name}.*"], |b| b).await;
    world.put_doc("a/photo.jpg").await;
    world.put_doc("a/photo.png").await;
    put(&world, &["CACHE/a/photo/1.jpg", "CACHE/a/photo/2.jpg", "a/photo.5ff3.jpg", "a/photo.webp", "a/photo.avif"]);
    // A thumbnail of a thumbnail.
    put(&world, &["a/photo.jpg.t.jpg", "a/photo.jpg.t.jpg.u.jpg"]);
    release(&world, &["a/photo.jpg", "a/photo.png"]).await;
    assert!(world.files().is_empty(), "{:?}", world.files());
}

/// A pattern that takes originals for derivatives too: the one that a row references stays, and what could be made from it.
async fn an_original_among_the_derivatives_keeps_the_others(backend: Backend) {
    let world = world(backend, &["{stem}.*"], |b| b).await;
    world.put_doc("a/photo.jpg").await;
    world.put_doc("a/photo.png").await;
    put(&world, &["a/photo.5ff3.jpg", "a/photo.77.webp"]);
    release(&world, &["a/photo.jpg"]).await;
    assert_eq!(world.files(), ["a/photo.5ff3.jpg", "a/photo.77.webp", "a/photo.png"]);
    release(&world, &["a/photo.png"]).await;
    assert!(world.files().is_empty(), "{:?}", world.files());
}

/// Between the original's end and the derivative's, the original came back under its name.
async fn an_original_that_comes_back_keeps_them(backend: Backend) {
    let world = world(backend, &["imagekit"], |b| b).await;
    put(&world, &["CACHE/images/p/1.jpg", "CACHE/images/q/1.jpg", "CACHE/images/r/1.jpg", "q.jpg"]);
    world.db.exec("insert into doc (file) values ('p.jpg')").await;
    let db = database::open(world.db.url(), &Options::default()).await.unwrap_or_else(|e| panic!("{}", e.full()));
    let name = World::file_name;
    let derived =
        ["p", "q", "r"].map(|n| Derived { name: name(&format!("CACHE/images/{n}/1.jpg")), original: name(&format!("{n}.jpg")) }).to_vec();
    let settlement = Settlement { storage: "default".into(), derived, ..Settlement::default() };
    db.settle(&settlement, None).await.unwrap_or_else(|e| panic!("{}", e.full()));
    // An orphan that looks like a derivative of a living file is one.
    let sweep = Announce { storage: "default".into(), name: name("CACHE/images/q/1.jpg"), event: "sweep", wait: Duration::ZERO };
    db.announce(&[sweep]).await.unwrap_or_else(|e| panic!("{}", e.full()));
    db.close().await;
    Rowbound::new(BINARY, &world).run(&["collect"]).await.expect(0);
    assert_eq!(world.files(), ["CACHE/images/p/1.jpg", "CACHE/images/q/1.jpg", "q.jpg"]);
    let why = |name: &'static str| async { history(&world, name).await.remove(0).3.unwrap_or_default() };
    assert_eq!(why("CACHE/images/p/1.jpg").await, "a derivative of p.jpg, which a row references");
}

/// In shadow mode they are counted and stay, even when their original is missing.
async fn shadow_only_counts_them(backend: Backend) {
    let world = world(backend, &["imagekit"], |b| b.mode(Mode::Shadow)).await;
    world.put_doc("p.jpg").await;
    world.db.exec("insert into doc (file) values ('missing.jpg')").await;
    let all = ["CACHE/images/missing/1.jpg", "CACHE/images/p/1.jpg", "CACHE/images/p/2.jpg", "p.jpg"];
    put(&world, &all);
    release(&world, &["p.jpg", "missing.jpg"]).await;
    assert_eq!(world.files(), all);
    let entry = ("delete".into(), "shadow".into(), Some("1".into()), Some("and 2 derivatives with it".into()));
    assert_eq!(history(&world, "p.jpg").await, [entry]);
}

/// One that is newer than its original's end waits for `min_age`, as any file does.
async fn a_young_one_waits(backend: Backend) {
    let mut world = world(backend, &["imagekit"], |b| b).await;
    world = world.storage(|s: StoragePlan| s.min_age(HOUR));
    put(&world, &["CACHE/images/p/1.jpg"]);
    world.db.exec("insert into doc (file) values ('p.jpg')").await;
    world.db.exec("delete from doc").await;
    // The original's end is where its settlement stands. Nobody takes what is announced there while this one waits.
    let (held, place) = Rowbound::new(BINARY, &world).held_at("settled");
    let collect = held.spawn(&["collect", "--format", "json", "--patience", "40s"]);
    place.reached(&collect, DEADLINE).await;
    put(&world, &["CACHE/images/p/1.jpg"]);
    place.let_go();
    let left = collect.wait(DEADLINE).await;
    assert_eq!(left.code, Some(1), "{}", left.stderr);
    assert_eq!(left.json()["left"]["default"]["total"], 1, "{}", left.stdout);
    assert_eq!(world.files(), ["CACHE/images/p/1.jpg"]);
}

/// The worker is killed at every point: all of them go in the end, and nothing else.
async fn crash_between_original_and_derivatives(backend: Backend) {
    let mut world = world(backend, &["imagekit", "{name}.*.*"], |b| b).await;
    world = world.storage(|s| s.trash(Trash::Keep(Duration::from_secs(1))));
    world.put_doc("stays.jpg").await;
    put(&world, &["CACHE/images/stays/1.jpg", "stays.jpg.1.jpg"]);
    // The second passage is the one in which the derivatives are decided, at most points.
    for (point, round) in ordinary(backend == Backend::Sqlite).zip([1, 2].into_iter().cycle()) {
        for n in 0..3 {
            let original = format!("{point}{round}/{n}.jpg");
            world.put_doc(&original).await;
            put(&world, &[&format!("CACHE/images/{point}{round}/{n}/1.jpg"), &format!("{original}.9x9.jpg")]);
        }
        world.db.exec("delete from doc where file <> 'stays.jpg'").await;
        let at = format!("{point}:{round}");
        let run = Rowbound::new(BINARY, &world).env("ROWBOUND_CRASH_AT", &at).spawn(&["run", "--lease", "1s", "--poll", "20ms"]);
        let output = run.wait(DEADLINE).await;
        assert_eq!(output.signal, Some(9), "{at} was never passed: {}", output.stderr);
        Rowbound::new(BINARY, &world).run(&["collect", "--wait", "90s", "--lease", "20s"]).await.expect(0);
        assert_eq!(world.files(), ["CACHE/images/stays/1.jpg", "stays.jpg", "stays.jpg.1.jpg"], "{at}");
    }
}

macro_rules! on {
    ($($module:ident $backend:ident),*) => { $(
        mod $module {
            use super::*;

            #[tokio::test(flavor = "multi_thread")]
            async fn derivatives_go_with_their_original() {
                go_with_their_original(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn derivatives_stay_on_any_doubt() {
                stay_on_any_doubt(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn derivatives_that_siblings_share_stay_until_the_last_goes() {
                shared_until_the_last_sibling_goes(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn derivatives_of_two_originals_that_go_together_go() {
                shared_by_two_that_go_together(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn an_original_that_looks_like_a_derivative_keeps_its_own() {
                an_original_among_the_derivatives_keeps_the_others(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn an_original_that_comes_back_keeps_its_derivatives() {
                an_original_that_comes_back_keeps_them(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn shadow_mode_only_counts_derivatives() {
                shadow_only_counts_them(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn a_young_derivative_waits() {
                a_young_one_waits(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn crash_between_an_original_and_its_derivatives() {
                crash_between_original_and_derivatives(Backend::$backend).await;
            }
        }
    )* };
}

on!(sqlite Sqlite, postgres Postgres, mariadb Mariadb, mysql Mysql);

/// A mistake names binding, field and value, and says what to write.
#[tokio::test]
async fn a_wrong_pattern_or_preset_is_a_mistake_in_the_configuration() {
    let world = World::new(Backend::Sqlite).await.with_docs().await;
    let config = |derivatives: &str| format!("{}derivatives = {derivatives}\n", rowbound_testkit::world::config(&world.plan()));
    let rowbound = Rowbound::new(BINARY, &world);
    for (derivatives, said) in [
        ("\"imagekit\"", None),
        ("[\"easy-thumbnails\", \"CACHE/images/{stem}/*\"]", None),
        ("\"imagekt\"", Some("no such preset (derivatives: \"imagekt\", binding: doc.file")),
        ("\"sorl\"", Some("thumbnail_kvstore.value")),
        ("\"wagtail\"", Some("wagtailimages_rendition.file")),
        ("[\"thumbs/*\"]", Some("does not name its original before the first `*` (derivatives: \"thumbs/*\", binding: doc.file")),
        ("[\"{stem}*\"]", Some("photo2.jpg")),
    ] {
        std::fs::write(world.write_config(), config(derivatives)).expect("cannot write the configuration");
        let output = rowbound.run(&["attach"]).await;
        match said {
            None => drop(output.expect(0)),
            Some(said) => {
                let output = output.expect(2);
                assert!(output.stderr.contains(said), "{derivatives}: {}", output.stderr);
            }
        }
    }
}
