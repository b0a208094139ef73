//! A column that references files but is not bound is the one way to lose them: `attach` refuses, `doctor` is loud, `init` proposes.

use std::path::Path;

use rowbound::{Plan, doctor::CHECKS};
use rowbound_testkit::{Backend, Output, Rowbound, World};
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_rowbound");

/// A world with rows whose files are there, some of them named by columns that are not bound.
async fn world(backend: Backend) -> World {
    let world = World::new(backend).await.with_docs().await;
    for n in 0..5 {
        world.put_doc(&format!("2026/{n}.jpg")).await;
    }
    world
}

async fn run(world: &World, args: &[&str]) -> Output {
    Rowbound::new(BINARY, world).run(args).await
}

/// The findings of a check: state, text and hint.
fn findings(output: &Output, name: &str) -> Vec<(String, String, String)> {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let all = output.json();
    let all = all.as_array().expect("a list");
    assert!(all.iter().all(|f| CHECKS.iter().any(|c| f["name"] == c.name)), "{}", output.stdout);
    all.iter().filter(|f| f["name"] == name).map(|f| (text(&f["state"]), text(&f["finding"]), text(&f["hint"]))).collect()
}

async fn doctor(world: &World, status: i32) -> Output {
    run(world, &["doctor", "--format", "json"]).await.expect(status)
}

/// Each way in which a column can name files.
async fn attach_refuses_until_it_is_bound_or_ignored(backend: Backend) {
    for (column, value, file) in [
        ("picture varchar(200)", "b/extra.jpg", "b/extra.jpg"),
        ("link varchar(200)", "https://cdn.example.com/media/b/ex%20tra.jpg?v=1", "b/ex tra.jpg"),
        ("data text", r#"{"pictures": ["x", {"src": "b/extra.jpg"}]}"#, "b/extra.jpg"),
        ("body text", r#"<p>See <img src="/media/b/extra.jpg"> and more</p>"#, "b/extra.jpg"),
    ] {
        let mut world = world(backend).await;
        let name = column.split(' ').next().expect("a name");
        world.db.exec(&format!("create table page (id integer primary key, {column})")).await;
        world.db.exec(&format!("insert into page values (1, {})", backend.literal(value))).await;
        world.put_file(file, b"x");
        let before = world.db.schema().await;

        let refused = run(&world, &["attach"]).await.expect(4);
        let told = &refused.stderr;
        assert!(told.contains(&format!("page.{name}: all 1 sampled values reference files of default")) && told.contains(file), "{told}");
        assert!(told.contains("bind it") && told.contains(&format!("ignore = [\"page.{name}\"]")), "{told}");
        assert_eq!(world.db.schema().await, before, "attach changed something although it refused");
        assert!(!world.media().join(".rowbound").exists());

        let ill = doctor(&world, 4).await;
        let unbound = findings(&ill, "unbound");
        assert!(unbound.iter().any(|(state, found, _)| state == "danger" && found.contains(&format!("page.{name}"))), "{unbound:?}");

        world = world.ignore(&["page.*"]);
        run(&world, &["attach"]).await.expect(0);
        let unbound = findings(&doctor(&world, 0).await, "unbound");
        assert!(unbound.iter().any(|(state, found, _)| state == "note" && found.contains("ignored")), "{unbound:?}");
    }
}

/// What names no file that exists does not stand in the way; what looks like it is told.
async fn other_text_is_no_obstacle(backend: Backend) {
    let world = world(backend).await;
    world.db.exec("create table page (id integer primary key, title varchar(100), image varchar(100))").await;
    world.db.exec("insert into page values (1, 'About 2026', 'elsewhere/a.jpg'), (2, '0.jpg and 1.jpg', 'elsewhere/b.jpg')").await;
    run(&world, &["attach"]).await.expect(0);
    let unbound = findings(&doctor(&world, 0).await, "unbound");
    assert!(unbound.iter().any(|(state, found, _)| state == "note" && found.contains("page.image looks as if")), "{unbound:?}");
}

/// Attached and whole: nothing but notes. Then a trigger is dropped.
async fn the_doctor_finds_what_is_wrong(backend: Backend) {
    let world = world(backend).await;
    let unattached = doctor(&world, 0).await;
    assert_eq!(findings(&unattached, "attached")[0].0, "note");
    run(&world, &["attach"]).await.expect(0);
    let well = doctor(&world, 0).await;
    for check in ["attached", "capture", "unbound", "indexes", "storages", "guarantees", "clocks", "lag", "gaps"] {
        let found = findings(&well, check);
        assert!(!found.is_empty() && found.iter().all(|(state, ..)| state == "ok"), "{check}: {found:?}");
    }
    assert!(findings(&well, "bypasses").iter().any(|(_, found, _)| found.contains("DROP TABLE")), "{}", well.stdout);
    assert!(findings(&well, "indexes")[0].1.contains("doc.file: a check of 1000 names takes"), "{}", well.stdout);
    let files: Vec<_> = world.trashed();
    assert!(files.is_empty(), "the doctor left something: {files:?}");

    let (name, table) = world.db.triggers().await.into_iter().find(|(_, table)| table == "doc").expect("a trigger");
    world.db.drop_trigger(&name, &table).await;
    let ill = doctor(&world, 4).await;
    assert_eq!(findings(&ill, "capture")[0].0, "danger", "{}", ill.stdout);
    let text = run(&world, &["doctor"]).await.expect(4);
    assert!(text.stdout.contains("DANGER  capture"), "{}", text.stdout);
    run(&world, &["attach"]).await.expect(0);
    assert_eq!(findings(&doctor(&world, 1).await, "gaps")[0].0, "warning");
}

/// A storage that is not there is a finding; the others are still looked at.
async fn a_missing_storage_is_a_finding(backend: Backend) {
    let world = world(backend).await;
    run(&world, &["attach"]).await.expect(0);
    std::fs::rename(world.media(), world.folder().join("away")).expect("cannot move the folder");
    let ill = run(&world, &["doctor", "--format", "json"]).await.expect(1);
    assert_eq!(findings(&ill, "storages")[0].0, "warning", "{}", ill.stdout);
    assert!(!findings(&ill, "capture").is_empty() && !findings(&ill, "gaps").is_empty());
}

/// The proposal is a configuration that attaches as it is.
async fn init_proposes_what_can_be_attached(backend: Backend) {
    let mut world = world(backend).await;
    world.db.exec("create table page (id integer primary key, title varchar(100), link varchar(200), seen varchar(200))").await;
    for n in 0..4 {
        world.put_file(&format!("links/{n}.pdf"), b"x");
        let row = format!(
            "insert into page values ({n}, 'Page {n}', '/media/links/{n}.pdf', {})",
            if n == 0 { "'2026/0.jpg'" } else { "'no file'" }
        );
        world.db.exec(&row).await;
    }
    world.db.exec("insert into page values (9, 'x', null, 'none'), (10, 'x', null, 'nothing')").await;
    for n in 0..5 {
        world.put_file(&format!("CACHE/images/2026/{n}/1.jpg"), b"x");
    }
    let proposed = world.folder().join("proposed.toml");
    let (url, storage) = (world.db.url().to_owned(), format!("folder:{}", world.media().display()));
    let output = proposed.to_str().expect("UTF-8");
    let args = ["init", "--database", &url, "--storage", &storage, "--output", output, "--format", "json"];
    let answer = run(&world, &args).await.expect(1).json();
    let columns = |of: &str| -> Vec<String> {
        let list = answer[of].as_array().expect("a list").iter();
        list.map(|b| b["evidence"]["column"].as_str().expect("a column").to_owned()).collect()
    };
    assert_eq!(columns("bindings"), ["doc.file", "page.link"], "{answer:#}");
    assert_eq!(columns("unsure"), ["page.seen"], "{answer:#}");
    assert_eq!(answer["bindings"][0]["derivatives"], serde_json::json!(["imagekit"]), "{answer:#}");
    assert_eq!(answer["bindings"][1]["evidence"]["prefixes"], serde_json::json!(["/media/"]));
    let text = std::fs::read_to_string(&proposed).expect("the proposal");
    assert!(
        text.contains("# all 5 sampled values reference files of default") && text.contains("# unsure: most of its values are no files"),
        "{text}"
    );

    // Never over a file that is there.
    let again = run(&world, &args).await.expect(2);
    assert!(again.stderr.contains("--force"), "{}", again.stderr);
    assert_eq!(std::fs::read_to_string(&proposed).expect("the proposal"), text);
    let mut forced = args.to_vec();
    forced.push("--force");
    run(&world, &forced).await.expect(1);

    // Nothing was attached; and the undecided column stands in the way until it is decided.
    assert!(!world.media().join(".rowbound").exists() && world.db.triggers().await.is_empty());
    let plan = Plan::parse(&text, Path::new("/"), None, &|_| Some(url.clone())).unwrap_or_else(|e| panic!("{}\n{text}", e.full()));
    world.bindings = plan.bindings;
    let refused = run(&world, &["attach"]).await.expect(4);
    assert!(refused.stderr.contains("page.seen"), "{}", refused.stderr);
    world = world.ignore(&["page.seen"]);
    run(&world, &["attach"]).await.expect(0);
}

macro_rules! on {
    ($($module:ident $backend:ident),*) => { $(
        mod $module {
            use super::*;

            #[tokio::test(flavor = "multi_thread")]
            async fn attach_refuses_an_unbound_column_that_names_files() {
                attach_refuses_until_it_is_bound_or_ignored(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn text_that_names_no_file_is_no_obstacle() {
                other_text_is_no_obstacle(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn the_doctor_tells_well_from_ill() {
                the_doctor_finds_what_is_wrong(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn a_storage_that_is_missing_is_a_finding() {
                a_missing_storage_is_a_finding(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn init_proposes_a_configuration_that_attaches() {
                init_proposes_what_can_be_attached(Backend::$backend).await;
            }
        }
    )* };
}

on!(sqlite Sqlite, postgres Postgres, mariadb Mariadb, mysql Mysql);

#[test]
fn the_documentation_has_every_check() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/init.md");
    let text = std::fs::read_to_string(path).expect("docs/init.md");
    for check in CHECKS {
        let line = format!("| `{}` | {} |", check.name, check.looks_at);
        assert!(text.contains(&line), "docs/init.md lacks: {line}");
    }
}

/// A CMS from PyPI, its own migrations and models: exactly the columns that hold its files, and no other.
#[tokio::test(flavor = "multi_thread")]
async fn init_proposes_exactly_the_right_columns_of_wagtail() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let venv = here.join("../../.venv-wagtail");
    assert!(venv.join(".made-from").exists(), "there is no Python with Wagtail in .venv-wagtail: run `make test`, or scripts/wagtail-venv");
    let mut world = World::new(Backend::Sqlite).await;
    let made = tokio::process::Command::new(venv.join("bin/python"))
        .arg(here.join("tests/wagtail/site.py"))
        .env("WAGTAIL_DATABASE", world.db.file())
        .env("WAGTAIL_MEDIA", world.media())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .await
        .expect("cannot start Python");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    // The world's own configuration needs a binding to be one; init does not read it.
    world.bindings.push(rowbound::Binding::name("wagtailimages_image.file", "default").expect("a column"));
    let (url, storage) = (world.db.url().to_owned(), format!("folder:{}", world.media().display()));
    let output = run(&world, &["init", "--database", &url, "--storage", &storage, "--output", "-"]).await.expect(0);
    let text = output.stdout;
    let plan = Plan::parse(&text, Path::new("/"), None, &|_| None).unwrap_or_else(|e| panic!("{}\n{text}", e.full()));
    let columns: Vec<_> = plan.bindings.iter().map(|b| b.column.to_string()).collect();
    let right =
        ["wagtaildocs_document.file", "wagtailimages_image.file", "wagtailimages_rendition.file", "wagtailusers_userprofile.avatar"];
    assert_eq!(columns, right, "{text}");
    assert!(plan.ignore.is_empty() && !text.contains("unsure"), "{text}");
    for evidence in [
        "# Django: ",
        "# Wagtail: ",
        "# all 12 sampled values",
        "# all 24 sampled values",
        "# all 8 sampled values",
        "wagtailcore_uploadedfile.file",
    ] {
        assert!(text.contains(evidence), "{evidence:?} is not in\n{text}");
    }

    // One of them is left out: attach refuses. With all of them, and a doctor who is content.
    let refused = run(&world, &["attach"]).await.expect(4);
    for column in ["wagtaildocs_document.file", "wagtailimages_rendition.file", "wagtailusers_userprofile.avatar"] {
        assert!(refused.stderr.contains(column), "{}", refused.stderr);
    }
    world.bindings = plan.bindings;
    run(&world, &["attach"]).await.expect(0);
    run(&world, &["doctor"]).await.expect(0);
}
