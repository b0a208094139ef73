//! What a person is told: which database it is and who named it, each note once, within the terminal; values that are no files, and who else deletes them.

use std::{path::Path, time::Duration};

use rowbound::{Binding, StoragePlan, Trash};
use rowbound_testkit::{Backend, Output, Rowbound, World};
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_rowbound");
const DAY: Duration = Duration::from_secs(86_400);

async fn run(world: &World, args: &[&str]) -> Output {
    Rowbound::new(BINARY, world).run(args).await
}

/// Writes the world's configuration with another line for the database; `None`: without one.
fn name_database(world: &World, url: Option<&str>) {
    let path = world.write_config();
    let text = std::fs::read_to_string(&path).expect("the configuration");
    let (first, rest) = text.split_once('\n').expect("lines");
    assert!(first.starts_with("database = "), "{first}");
    let line = url.map_or(String::new(), |url| format!("database = {:?}\n", url));
    std::fs::write(path, format!("{line}{rest}")).expect("cannot write the configuration");
}

/// Findings of a check: state, text and hint.
async fn findings(world: &World, check: &str) -> Vec<(String, String, String)> {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let output = run(world, &["doctor", "--format", "json"]).await;
    let all = output.json();
    let all = all.as_array().expect("a list").iter().filter(|f| f["name"] == check);
    all.map(|f| (text(&f["state"]), text(&f["finding"]), text(&f["hint"]))).collect()
}

/// `--database` beats the file, the file beats the environment; where two name different databases it is said, with no password.
#[tokio::test(flavor = "multi_thread")]
async fn the_option_beats_the_file_and_the_file_beats_the_environment() {
    let world = World::new(Backend::Sqlite).await.with_docs().await;
    let (own, other) = (world.db.url().to_owned(), World::new(Backend::Sqlite).await.with_docs().await);
    run(&world, &["attach"]).await.expect(0);
    let rowbound = Rowbound::new(BINARY, &world);
    let attached = |output: &Output| output.json()["installation"].is_string();

    // The file beats the environment, in which another program's database stands.
    let foreign = "postgres://shop:s3cret@db.example/shop";
    let told = rowbound.clone().env("DATABASE_URL", foreign).run(&["status"]).await.expect(0);
    assert!(told.stdout.contains(own.trim_start_matches("sqlite:")), "{}", told.stdout);
    let note = "note: DATABASE_URL names another database, postgres://shop:***@db.example/shop. It is not used: ";
    assert!(told.stderr.starts_with(note) && !told.stderr.contains("s3cret"), "{}", told.stderr);
    // As JSON the note is a line of its own, and standard output is the answer alone.
    let told = rowbound.clone().env("DATABASE_URL", foreign).run(&["status", "--format", "json"]).await.expect(0);
    assert!(attached(&told), "{}", told.stdout);
    let note: Value = serde_json::from_str(told.stderr.trim()).expect("JSON");
    assert!(note["note"]["message"].as_str().expect("a text").contains("DATABASE_URL"), "{note}");
    // A command with a log says it there.
    let told = rowbound.clone().env("DATABASE_URL", foreign).run(&["collect"]).await.expect(0);
    assert!(told.stderr.contains("WARN") && told.stderr.contains("DATABASE_URL names another database"), "{}", told.stderr);

    // The option beats both.
    let told = rowbound.clone().env("DATABASE_URL", foreign).run(&["status", "--database", other.db.url()]).await.expect(2);
    assert!(told.stdout.contains("not attached"), "{}", told.stdout);
    assert_eq!(told.stderr.matches("It is not used: --database names ").count(), 2, "{}", told.stderr);

    // The same database in another spelling is no difference.
    let same = own.replace("sqlite:/", "sqlite:////");
    let told = rowbound.clone().env("DATABASE_URL", &same).run(&["status"]).await.expect(0);
    assert_eq!(told.stderr, "", "{same}");

    // A file that names none: the environment's.
    name_database(&world, None);
    let told = rowbound.clone().env("DATABASE_URL", &own).run(&["status", "--format", "json"]).await.expect(0);
    assert!(attached(&told) && told.stderr.is_empty(), "{told:?}");
    let told = rowbound.run(&["status"]).await.expect(2);
    assert!(told.stderr.contains("`database` is missing"), "{}", told.stderr);
}

/// An error about the database says which one it was, and who named it.
#[tokio::test(flavor = "multi_thread")]
async fn an_error_says_which_database_and_who_named_it() {
    let world = World::new(Backend::Sqlite).await.with_docs().await;
    let empty = World::new(Backend::Sqlite).await;
    let rowbound = Rowbound::new(BINARY, &world);
    let of = |world: &World| format!("\n  database: {}, named by ", world.db.url());
    let told = rowbound.run(&["collect"]).await.expect(2).stderr;
    assert!(told.contains(&of(&world)) && told.contains("/rowbound.toml\n"), "{told}");
    // "no such table" of another program's database.
    let told = rowbound.run(&["attach", "--database", empty.db.url()]).await.expect(2).stderr;
    assert!(told.contains(&of(&empty)) && told.contains("named by --database\n"), "{told}");
    name_database(&world, None);
    let told = rowbound.clone().env("DATABASE_URL", empty.db.url()).run(&["attach"]).await.expect(2).stderr;
    assert!(told.contains(&of(&empty)) && told.contains("named by DATABASE_URL\n"), "{told}");
    let told = rowbound.clone().env("DATABASE_URL", "sqlite:///no/such/file").run(&["attach"]).await.expect(3).stderr;
    assert!(told.contains("/no/such/file") && told.contains("or: no/such/file") && told.contains("named by DATABASE_URL\n"), "{told}");
    let told = rowbound.clone().env("DATABASE_URL", "mssql://sa:s3cret@h/db").run(&["attach"]).await.expect(2).stderr;
    assert!(told.contains("\"mssql\"") && !told.contains("s3cret"), "{told}");
}

/// Spellings of Django, Rails, Laravel and SQLAlchemy lead to the real server.
async fn spellings_lead_to_the_database(backend: Backend) {
    let world = World::new(backend).await.with_docs().await;
    run(&world, &["attach"]).await.expect(0);
    let rowbound = Rowbound::new(BINARY, &world);
    let url = world.db.url();
    let rest = url.split_once(':').expect("a scheme").1;
    let spellings: Vec<String> = match backend {
        Backend::Sqlite => {
            let path = rest.trim_start_matches('/');
            [
                "sqlite:/",
                "sqlite3:/",
                "sqlite:///",
                "sqlite:////",
                "sqlite3:///",
                "sqlite+aiosqlite:////",
                "prometheus-sqlite:////",
                "spatialite:////",
            ]
            .iter()
            .map(|begin| format!("{begin}{path}"))
            .chain([format!("sqlite:///file:/{path}?uri=true"), format!("sqlite:/{}", path.replace('.', "%2e"))])
            .collect()
        }
        Backend::Postgres => {
            let schemes =
                ["postgresql", "postgis", "psql", "pgsql", "postgresql+psycopg2", "postgresql+asyncpg", "prometheus-postgis", "POSTGRES"];
            let mut all: Vec<String> = schemes.iter().map(|scheme| format!("{scheme}:{rest}")).collect();
            let (place, name) = rest.trim_start_matches("//").split_once('/').expect("a database");
            let (user, host) = place.rsplit_once('@').expect("a user");
            all.push(format!("postgresql+psycopg://{user}@/{name}?host={host}"));
            all.push(format!("postgres:{rest}?conn_max_age=600&pool=5&prepared_statements=false&ssl=false"));
            all.push(format!("postgresql:{rest}?currentSchema=public"));
            all
        }
        Backend::Mariadb | Backend::Mysql => {
            let schemes = [
                "mysql",
                "mysql2",
                "mysqlgis",
                "trilogy",
                "mysql+pymysql",
                "mysql+mysqldb",
                "mariadb",
                "mariadb+pymysql",
                "prometheus-mysql",
            ];
            let tail = if rest.contains('?') { "&" } else { "?" };
            schemes.iter().map(|scheme| format!("{scheme}:{rest}{tail}charset=utf8mb4&reconnect=true")).collect()
        }
    };
    for spelling in spellings {
        let told = rowbound.run(&["status", "--format", "json", "--database", &spelling]).await;
        assert_eq!(told.code, Some(0), "{spelling}: {}{}", told.stdout, told.stderr);
        assert!(told.json()["installation"].is_string() && told.stderr.is_empty(), "{spelling}: {}", told.stderr);
        // As the application writes it into the file.
        name_database(&world, Some(&spelling));
        rowbound.run(&["status"]).await.expect(0);
        world.write_config();
    }
}

/// Three slashes before a path that is relative to the file, as Django writes it.
#[tokio::test(flavor = "multi_thread")]
async fn three_slashes_are_relative_to_the_file() {
    let world = World::new(Backend::Sqlite).await.with_docs().await;
    run(&world, &["attach"]).await.expect(0);
    let rowbound = Rowbound::new(BINARY, &world);
    std::os::unix::fs::symlink(world.db.file(), world.folder().join("app.sqlite3")).expect("a link");
    for spelling in ["sqlite:///app.sqlite3", "sqlite:app.sqlite3", "sqlite3:app.sqlite3", "sqlite:///app%2esqlite3"] {
        name_database(&world, Some(spelling));
        let told = rowbound.run(&["status", "--format", "json"]).await.expect(0);
        assert!(told.json()["installation"].is_string(), "{spelling}: {}", told.stdout);
    }
}

/// A search path in the URL decides which table a bare name means, in each client's own word for it.
#[tokio::test(flavor = "multi_thread")]
async fn the_search_path_of_a_url_is_kept() {
    let world = World::new(Backend::Postgres).await.with_docs().await;
    for sql in ["create schema tenant", "create table tenant.picture (id bigint primary key, image varchar(100))"] {
        world.db.exec(sql).await;
    }
    let world = world.bind(Binding::name("picture.image", "default").expect("a column"));
    let rowbound = Rowbound::new(BINARY, &world);
    rowbound.run(&["attach"]).await.expect(2);
    for option in [
        "currentSchema=tenant,public",
        "search_path=tenant%2C%20public",
        "schema_search_path=tenant,public",
        "options=-c%20search_path%3Dtenant,public",
    ] {
        let url = format!("{}?{option}", world.db.url());
        let told = rowbound.run(&["attach", "--print-sql", "--database", &url]).await.expect(0).stdout;
        assert!(told.contains("tenant"), "{option}: {told}");
    }
}

/// A project of thirty file fields: fifteen tables with two each, rows, files and a ledger.
async fn thirty_fields() -> World {
    let mut world = World::new(Backend::Sqlite).await.storage(|s: StoragePlan| s.trash(Trash::Keep(DAY)));
    for n in 0..15 {
        let table = format!("shop_catalogue_productcategory{n:02}");
        world
            .db
            .exec(&format!("create table {table} (id integer primary key, cover_image varchar(100), attachment_file varchar(100))"))
            .await;
        for column in ["cover_image", "attachment_file"] {
            world = world.bind(Binding::name(&format!("{table}.{column}"), "default").expect("a column"));
        }
        for row in 0..3 {
            let name = |what: &str| format!("catalogue/categories/{n:02}/2026/11/21/{what}-with-a-rather-long-name-of-its-own-{row}.jpeg");
            for what in ["cover", "attachment"] {
                world.put_file(&name(what), b"x");
            }
            world.db.exec(&format!("insert into {table} values ({row}, '{}', '{}')", name("cover"), name("attachment"))).await;
        }
    }
    world
}

/// `attach`, `doctor`, `history` and `status` on a terminal of 80 columns: no line is wider, and what is true of thirty columns stands once.
#[tokio::test(flavor = "multi_thread")]
async fn thirty_file_fields_fit_into_eighty_columns() {
    let world = thirty_fields().await;
    let rowbound = Rowbound::new(BINARY, &world);
    // A line of progress is written over again and again.
    let width = |line: &str| line.split("\r\u{1b}[2K").map(|shown| shown.chars().count()).max().unwrap_or(0);
    let mut shown = String::new();
    let mut see = |name: &str, told: &Output| {
        let left: Vec<&str> = told.stdout.lines().filter_map(|line| line.rsplit("\r\u{1b}[2K").next()).collect();
        shown.push_str(&format!("$ rowbound {name}\n{}\n\n", left.join("\n")));
        let wide: Vec<&str> = told.stdout.lines().filter(|line| width(line) > 80).collect();
        assert!(wide.is_empty(), "{name}: wider than 80 columns: {wide:#?}");
    };
    // Before anything else: an error, too.
    let told = rowbound.run_on_terminal(&["collect"], 80).await.expect(2);
    see("collect", &told);
    assert!(told.stdout.contains("error: Rowbound is not attached"), "{}", told.stdout);

    let attached = rowbound.run_on_terminal(&["attach"], 80).await.expect(0);
    see("attach", &attached);
    assert_eq!(attached.stdout.matches("\nattached  ").count() + 1, 30, "{}", attached.stdout);
    for (note, count) in [("(15 tables:", 2), ("(30 columns:", 1), ("DROP TABLE", 1), ("DELETE the rows first", 1), ("and 12 more)", 2)] {
        assert_eq!(whole(&attached.stdout).matches(note).count(), count, "{note}: {}", attached.stdout);
    }
    assert!(attached.stdout.lines().count() < 60, "{}", attached.stdout);

    for n in 0..15 {
        world.db.exec(&format!("delete from shop_catalogue_productcategory{n:02} where id = 1")).await;
    }
    // A line of the log is a record, and stays whole: only warnings would be seen here.
    see("collect", &rowbound.run_on_terminal(&["collect", "--log", "warn"], 80).await.expect(0));
    let told = rowbound.run_on_terminal(&["doctor"], 80).await.expect(0);
    see("doctor", &told);
    assert!(told.stdout.lines().count() < 50, "{}", told.stdout);
    for (note, count) in [("(15 in all:", 2), ("(30 in all:", 1), ("29 other columns take no longer", 1), ("DELETE the rows first", 1)] {
        assert_eq!(whole(&told.stdout).matches(note).count(), count, "{note}: {}", told.stdout);
    }
    let told = rowbound.run_on_terminal(&["history"], 80).await.expect(0);
    see("history", &told);
    assert_eq!(told.stdout.matches("trashed").count(), 30, "{}", told.stdout);
    assert!(told.stdout.contains("delete of row 1 in shop_catalogue_productcategory00.cover_image"), "{}", told.stdout);
    let told = rowbound.run_on_terminal(&["status"], 80).await.expect(0);
    see("status", &told);
    assert_eq!(told.stdout.matches("\nbinding   ").count(), 30, "{}", told.stdout);
    let name = told_name();
    let told = rowbound.run_on_terminal(&["explain", &name], 80).await.expect(0);
    see("explain", &told);

    // A pipe gets whole lines, and each note once all the same.
    let piped = rowbound.run(&["doctor"]).await.expect(0);
    assert!(piped.stdout.lines().any(|line| width(line) > 80), "{}", piped.stdout);
    assert_eq!(piped.stdout.matches("(15 in all: ").count(), 2, "{}", piped.stdout);
    // JSON has them one by one.
    let bypasses = findings(&world, "bypasses").await;
    assert_eq!(bypasses.len(), 60, "{bypasses:?}");
    if let Ok(folder) = std::env::var("ROWBOUND_SCREENSHOTS") {
        std::fs::write(Path::new(&folder).join("eighty-columns.txt"), shown).expect("cannot leave what was seen");
    }
}

fn told_name() -> String {
    "catalogue/categories/00/2026/11/21/cover-with-a-rather-long-name-of-its-own-1.jpeg".to_owned()
}

/// A text without the breaks that a terminal's width made.
fn whole(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `attach` twice says that nothing changed; where something did, it says so.
async fn attach_says_whether_anything_changed(backend: Backend) {
    let mut world = World::new(backend).await.with_docs().await;
    let first = run(&world, &["attach"]).await.expect(0);
    assert!(first.stdout.contains("attached  doc.file -> default") && !first.stdout.contains("nothing changed"), "{}", first.stdout);
    for _ in 0..2 {
        let again = run(&world, &["attach"]).await.expect(0);
        assert!(again.stdout.starts_with("nothing changed: 1 binding is attached as before"), "{}", again.stdout);
        assert!(!again.stdout.contains("attached  doc.file"), "{}", again.stdout);
        let json = run(&world, &["attach", "--format", "json"]).await.expect(0).json();
        assert_eq!(json["changed"], false, "{json:#}");
    }
    // A trigger is put back.
    let (name, table) = world.db.triggers().await.into_iter().find(|(_, table)| table == "doc").expect("a trigger");
    world.db.drop_trigger(&name, &table).await;
    let json = run(&world, &["attach", "--format", "json"]).await.expect(0).json();
    assert_eq!(json["changed"], true, "{json:#}");
    // A binding comes, shadow mode begins.
    world.bindings.push(Binding::name("doc.title", "default").expect("a column"));
    let told = run(&world, &["attach"]).await.expect(0);
    assert!(told.stdout.contains("attached  doc.title -> default"), "{}", told.stdout);
    let json = run(&world, &["attach", "--shadow", "--format", "json"]).await.expect(0).json();
    assert_eq!(json["changed"], true, "{json:#}");
    let told = run(&world, &["attach"]).await.expect(0);
    assert!(told.stdout.starts_with("nothing changed: 2 bindings are attached"), "{}", told.stdout);
}

/// Rows whose names are no files: the likely cause is named, by `attach` and by `doctor`.
async fn values_that_are_no_files(backend: Backend) {
    let rows = async |world: &World, begin: &str| {
        for n in 0..5 {
            let value = backend.literal(&format!("{begin}2026/{n}.jpg"));
            world.db.exec(&format!("insert into doc (file) values ({value})")).await;
        }
    };
    let warned = async |world: &World, hint: &str| {
        let told = run(world, &["attach"]).await.expect(0).stdout;
        assert!(told.contains("warning   doc.file: none of 5 sampled values is a file of storage default, such as "), "{told}");
        assert!(told.contains(hint), "{hint}: {told}");
        let found = findings(world, "values").await;
        assert!(found.len() == 1 && found[0].0 == "warning" && found[0].2.contains(hint), "{hint}: {found:?}");
    };
    // Too deep: the names begin with the storage's own folder.
    let world = World::new(backend).await.with_docs().await;
    (0..5).for_each(|n| world.put_file(&format!("2026/{n}.jpg"), b"x"));
    rows(&world, "media/").await;
    warned(&world, "the files are there without \"media/\"").await;

    // Too high: the files lie one folder further down. The line to write is right.
    let mut world = World::new(backend).await.with_docs().await;
    for n in 0..5 {
        world.put_file(&format!("uploads/2026/{n}.jpg"), b"x");
        world.put_file(&format!("another/{n}.jpg"), b"x");
    }
    world.put_file("robots.txt", b"x");
    rows(&world, "").await;
    let right = format!("folder:{}", world.media().join("uploads").display());
    warned(&world, &format!("write url = {right:?}")).await;
    world.storage = StoragePlan { location: StoragePlan::url_at("default", &right).expect("a place").location, ..world.storage.clone() };
    run(&world, &["attach", "--adopt-storage", "default"]).await.expect(0);
    let found = findings(&world, "values").await;
    assert!(found.len() == 1 && found[0].0 == "ok", "{found:?}");

    // URLs that are bound as names.
    let world = World::new(backend).await.with_docs().await;
    (0..5).for_each(|n| world.put_file(&format!("2026/{n}.jpg"), b"x"));
    rows(&world, "/media/").await;
    warned(&world, "read with kind = \"url\", prefix = \"/media/\"").await;

    // Another storage of the plan.
    let world = World::new(backend).await.with_docs().await;
    let folder = world.folder().join("others");
    std::fs::create_dir_all(folder.join("2026")).expect("a folder");
    (0..5).for_each(|n| std::fs::write(folder.join(format!("2026/{n}.jpg")), b"x").expect("a file"));
    rows(&world, "").await;
    let world = world.another(StoragePlan::folder("others", &folder)).await;
    warned(&world, "storage others has such files").await;

    // Nothing that was tried; and what is too little to tell anything.
    let world = World::new(backend).await.with_docs().await;
    rows(&world, "").await;
    warned(&world, "is `url` of storage default the folder or bucket").await;
    world.db.exec("delete from doc where file <> '2026/0.jpg'").await;
    let found = findings(&world, "values").await;
    assert!(found.len() == 1 && found[0].0 == "ok", "{found:?}");
}

/// An application that deletes its files itself: most releases are missing.
async fn files_that_somebody_else_deletes(backend: Backend) {
    let world = World::new(backend).await.with_docs().await;
    for n in 0..12 {
        world.put_doc(&format!("{n}.jpg")).await;
    }
    run(&world, &["attach"]).await.expect(0);
    let found = findings(&world, "deleters").await;
    assert!(found.len() == 1 && found[0].0 == "ok", "{found:?}");
    world.db.exec("delete from doc where file <> '0.jpg'").await;
    (1..12).for_each(|n| std::fs::remove_file(world.media().join(format!("{n}.jpg"))).expect("the application deletes it"));
    run(&world, &["collect"]).await.expect(0);
    let found = findings(&world, "deleters").await;
    assert!(found.len() == 1 && found[0].0 == "warning", "{found:?}");
    assert!(found[0].1.contains("11 of 11 files") && found[0].1.contains("who else deletes them?"), "{found:?}");
    for name in ["Wagtail", "OSCAR_DELETE_IMAGE_FILES = False", "django_cleanup"] {
        assert!(found[0].2.contains(name), "{name}: {found:?}");
    }
    // One of them is known by its table.
    world.db.exec("create table catalogue_productimage (id integer primary key, original varchar(255), caption varchar(200))").await;
    let found = findings(&world, "deleters").await;
    assert!(found[0].2.starts_with("Oscar ") && !found[0].2.contains("Wagtail"), "{found:?}");
}

/// A real Wagtail, with its own models and receivers: beside it everything is missing; with the recipe of docs/operations.md it leaves the files to Rowbound.
#[tokio::test(flavor = "multi_thread")]
async fn wagtails_own_deletion_is_named_and_can_be_switched_off() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let venv = here.join("../../.venv-wagtail");
    assert!(venv.join(".made-from").exists(), "there is no Python with Wagtail in .venv-wagtail: run `make test`, or scripts/wagtail-venv");
    let mut world = World::new(Backend::Sqlite).await.storage(|s: StoragePlan| s.trash(Trash::Keep(DAY)));
    for column in
        ["wagtailimages_image.file", "wagtailimages_rendition.file", "wagtaildocs_document.file", "wagtailusers_userprofile.avatar"]
    {
        world = world.bind(Binding::name(column, "default").expect("a column"));
    }
    let site = async |script: Option<&str>| {
        let mut command = tokio::process::Command::new(venv.join("bin/python"));
        command.arg(here.join("tests/wagtail/site.py"));
        if let Some(script) = script {
            let file = world.folder().join("script.py");
            std::fs::write(&file, script).expect("cannot write the script");
            command.arg(file);
        }
        command.env("WAGTAIL_DATABASE", world.db.file()).env("WAGTAIL_MEDIA", world.media()).env("PYTHONDONTWRITEBYTECODE", "1");
        let done = command.output().await.expect("cannot start Python");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    site(None).await;
    run(&world, &["attach"]).await.expect(0);
    let files = world.files().len();

    let recipe = std::fs::read_to_string(here.join("../../docs/operations.md")).expect("docs/operations.md");
    let part = recipe.split("\n## ").find(|part| part.starts_with("Who else deletes files")).expect("the section");
    let recipe = part.split("```python\n").nth(1).and_then(|rest| rest.split("```").next()).expect("the recipe");
    site(Some(&format!(
        "{recipe}\nFilesConfig.ready(None)\nfrom wagtail.documents.models import Document\nDocument.objects.all().delete()\n"
    )))
    .await;
    assert_eq!(world.files().len(), files, "Wagtail deleted a document although its receiver was disconnected");
    run(&world, &["collect"]).await.expect(0);
    assert_eq!((world.files().len(), world.trashed().len()), (files - 8, 8));
    assert_eq!(findings(&world, "deleters").await[0].0, "ok");

    site(Some("from wagtail.images.models import Image\nImage.objects.all().delete()\n")).await;
    run(&world, &["collect"]).await.expect(0);
    let found = findings(&world, "deleters").await;
    assert!(found[0].0 == "warning" && found[0].1.contains("36 of 44 files") && found[0].2.starts_with("Wagtail "), "{found:?}");
}

/// Where the storage begins in the wrong place nobody is accused.
#[tokio::test(flavor = "multi_thread")]
async fn a_storage_in_the_wrong_place_accuses_nobody() {
    let world = World::new(Backend::Sqlite).await.with_docs().await;
    for n in 0..20 {
        world.put_file(&format!("uploads/{n}.jpg"), b"x");
        world.db.exec(&format!("insert into doc (file) values ('{n}.jpg')")).await;
    }
    run(&world, &["attach"]).await.expect(0);
    world.db.exec("delete from doc where id > 5").await;
    run(&world, &["collect"]).await.expect(0);
    assert_eq!(findings(&world, "values").await[0].0, "warning");
    assert_eq!(findings(&world, "deleters").await[0].0, "ok");
}

macro_rules! on {
    ($($module:ident $backend:ident),*) => { $(
        mod $module {
            use super::*;

            #[tokio::test(flavor = "multi_thread")]
            async fn frameworks_spellings_lead_to_the_database() {
                spellings_lead_to_the_database(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn attach_twice_says_that_nothing_changed() {
                attach_says_whether_anything_changed(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn values_that_are_no_files_are_a_warning_with_the_cause() {
                values_that_are_no_files(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn releases_that_are_missing_ask_who_else_deletes() {
                files_that_somebody_else_deletes(Backend::$backend).await;
            }
        }
    )* };
}

on!(sqlite Sqlite, postgres Postgres, mariadb Mariadb, mysql Mysql);
