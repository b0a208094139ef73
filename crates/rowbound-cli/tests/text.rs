//! Names inside HTML, Markdown and JSON: a picture goes with the last text that mentions it, and not before.

use std::{collections::BTreeSet, fmt::Write, time::Duration};

use rowbound::{
    Binding, StoragePlan, Trash,
    binding::{Mode, Reading},
};
use rowbound_testkit::{Backend, Rowbound, World};

const BINARY: &str = env!("CARGO_BIN_EXE_rowbound");

/// Writes `articles` in HTML (even numbers) and Markdown (odd ones), each with three pictures: one of its own, one whose name needs escapes, and one that it
/// shares with its neighbour.
fn body(i: usize, shared: bool) -> String {
    let pair = i / 2;
    let mut text = String::new();
    if i.is_multiple_of(2) {
        let _ = write!(
            text,
            "<h1>Article {i}</h1><p>Once <img alt=\"a\" src=\"/media/{folder}/own-{i}.jpg?v=2\"> and <a href='https://www.example.com/media/{folder}/caf%C3%A9%20&amp;%20{i}.png'>b</a></p>",
            folder = i % 97
        );
        if shared {
            let _ = write!(text, "<img srcset=\"/media/shared/{pair}.jpg 1x, /media/shared/{pair}.jpg 2x\">");
        }
    } else {
        let _ = write!(
            text,
            "# Article {i}\n\nOnce ![a](/media/{folder}/own-{i}.jpg \"title\") and\n[b]: </media/{folder}/caf%C3%A9%20&%20{i}.png>\n",
            folder = i % 97
        );
        if shared {
            let _ = writeln!(text, "![c](https://cdn.example.com/media/shared/{pair}.jpg#top)");
        }
    }
    let _ = write!(text, "{}", "Lorem ipsum dolor sit amet. ".repeat(i % 60));
    text
}

fn files(i: usize) -> [String; 2] {
    [format!("{}/own-{i}.jpg", i % 97), format!("{}/café & {i}.png", i % 97)]
}

async fn rich_text(backend: Backend, articles: usize) {
    let world = World::new(backend).await.bind(Binding::text("article.body", "default", ["/media/"]).expect("a binding"));
    let rowbound = Rowbound::new(BINARY, &world);
    let wide = if matches!(backend, Backend::Sqlite | Backend::Postgres) { "text" } else { "longtext" };
    world.db.exec(&format!("create table article (id integer primary key, title varchar(50), body {wide})")).await;
    let ids: Vec<usize> = (0..articles).collect();
    for some in ids.chunks(250) {
        let rows: Vec<_> = some.iter().map(|i| format!("({i}, 'x', {})", backend.literal(&body(*i, true)))).collect();
        world.db.exec(&format!("insert into article values {}", rows.join(", "))).await;
    }
    let mut live = BTreeSet::new();
    for i in 0..articles {
        live.extend(files(i));
        live.insert(format!("shared/{}.jpg", i / 2));
    }
    for name in &live {
        world.put_file(name, b"x");
    }
    rowbound.run(&["attach"]).await.expect(0);

    // A text that changes without letting go of a picture costs none.
    world.db.exec("update article set body = replace(body, 'Once', 'Twice'), title = 'y' where id % 4 = 3").await;
    rowbound.run(&["collect"]).await.expect(0);
    assert_eq!(world.files().len(), live.len(), "every picture is still mentioned");

    // One of two goes: its own pictures go with it, the shared one stays.
    world.db.exec("delete from article where id % 4 = 0").await;
    let said = rowbound.run(&["collect", "--format", "json"]).await.expect(0).json();
    for i in (0..articles).step_by(4) {
        for file in files(i) {
            live.remove(&file);
        }
    }
    assert_eq!(world.files(), live.iter().cloned().collect::<Vec<_>>());
    assert_eq!(said["outcomes"]["opened"], articles.div_ceil(4), "{said}");
    assert_eq!(said["outcomes"]["kept"], articles.div_ceil(4), "{said}");

    // The last mention goes, out of a text that stays.
    for i in (1..articles.min(4_000)).step_by(4) {
        let body = backend.literal(&body(i, false));
        world.db.exec(&format!("update article set body = {body} where id = {i}")).await;
        live.remove(&format!("shared/{}.jpg", i / 2));
    }
    rowbound.run(&["collect"]).await.expect(0);
    assert_eq!(world.files(), live.iter().cloned().collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pictures_go_with_the_last_text_that_mentions_them_on_sqlite() {
    rich_text(Backend::Sqlite, 2_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pictures_go_with_the_last_text_that_mentions_them_on_postgres() {
    rich_text(Backend::Postgres, 2_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pictures_go_with_the_last_text_that_mentions_them_on_mariadb() {
    rich_text(Backend::Mariadb, 2_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pictures_go_with_the_last_text_that_mentions_them_on_mysql() {
    rich_text(Backend::Mysql, 2_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "50,000 articles: run it with --run-ignored all"]
async fn soak_rich_text() {
    for backend in Backend::all() {
        rich_text(backend, 50_000).await;
    }
}

/// What a value that cannot be read may have named stays, and somebody hears of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_json_is_refused_with_its_row_and_keeps_what_it_mentions() {
    for backend in Backend::all() {
        let world = World::new(backend).await.bind(Binding::json("post.pictures", "default", "$[*].image").expect("a binding"));
        world.db.exec("create table post (id integer primary key, pictures text)").await;
        let rows = "(1, '[{\"image\": \"a.jpg\"}, {\"image\"'), (2, '[{\"image\": \"a.jpg\"}, {\"image\": \"b.jpg\"}]'), (3, '[{\"image\": \"c.jpg\"')";
        world.db.exec(&format!("insert into post values {rows}")).await;
        for name in ["a.jpg", "b.jpg", "c.jpg"] {
            world.put_file(name, b"x");
        }
        let rowbound = Rowbound::new(BINARY, &world);
        rowbound.run(&["attach"]).await.expect(0);
        world.db.exec("delete from post where id in (2, 3)").await;
        let said = rowbound.run(&["collect"]).await.expect(1);
        assert!(said.stdout.contains("the value of row 3 in post.pictures is no JSON"), "{}", said.stdout);
        assert_eq!(world.files(), ["a.jpg", "c.jpg"], "a row mentions a.jpg, and nobody could read c.jpg");
        let explained = rowbound.run(&["explain", "a.jpg"]).await.expect(0);
        assert!(explained.stdout.contains("it stays: 1 row(s) reference it"), "{}", explained.stdout);
        // Mended, it counts as what it says.
        world.db.exec("update post set pictures = '[]' where id = 1").await;
        rowbound.run(&["collect"]).await.expect(1);
        assert_eq!(world.files(), ["a.jpg", "c.jpg"], "its broken value is no news of a.jpg: the sweep's");
    }
}

/// What would have gone is said, name by name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shadow_holds_for_each_name_of_a_text() {
    let binding = Binding::text("article.body", "default", ["/media/"]).expect("a binding").mode(Mode::Shadow);
    let world = World::new(Backend::Sqlite).await.bind(binding);
    world.db.exec("create table article (id integer primary key, body text)").await;
    world.db.exec("insert into article values (1, '<img src=\"/media/a.jpg\"><img src=\"/media/b.jpg\">')").await;
    world.put_file("a.jpg", b"x");
    let rowbound = Rowbound::new(BINARY, &world);
    rowbound.run(&["attach"]).await.expect(0);
    world.db.exec("delete from article").await;
    let said = rowbound.run(&["collect", "--format", "json"]).await.expect(0).json();
    assert_eq!((&said["outcomes"]["opened"], &said["outcomes"]["shadow"], &said["outcomes"]["missing"]), (&1.into(), &1.into(), &1.into()));
    assert_eq!(world.files(), ["a.jpg"]);
}

/// Megabytes of text are one candidate, and the ledger does not repeat them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_of_megabytes_is_opened_up() {
    for backend in Backend::all() {
        let world = World::new(backend)
            .await
            .bind(Binding::text("article.body", "default", ["/media/"]).expect("a binding"))
            .storage(|s: StoragePlan| s.trash(Trash::Keep(Duration::from_secs(3600))));
        let wide = if matches!(backend, Backend::Sqlite | Backend::Postgres) { "text" } else { "longtext" };
        world.db.exec(&format!("create table article (id integer primary key, body {wide})")).await;
        let filler = "<p>Lorem ipsum dolor sit amet.</p>".repeat(150_000);
        let text = format!("{filler}<img src=\"/media/a.jpg\">{filler}<img src=\"/media/b.jpg\">");
        assert!(text.len() > 10_000_000);
        world.db.exec(&format!("insert into article values (1, {}), (2, '![](/media/b.jpg)')", backend.literal(&text))).await;
        world.put_file("a.jpg", b"x");
        world.put_file("b.jpg", b"x");
        let rowbound = Rowbound::new(BINARY, &world);
        rowbound.run(&["attach"]).await.expect(0);
        world.db.exec("delete from article where id = 1").await;
        rowbound.run(&["collect"]).await.expect(0);
        assert_eq!(world.files(), ["b.jpg"]);
        let history = rowbound.run(&["history", "--format", "json"]).await.expect(0).stdout;
        assert!(history.len() < 10_000 && history.contains("opened"), "{} bytes", history.len());
    }
}

/// A value with so many names that no server takes them in one statement: MariaDB's limit is 16 MiB by default, and one of 130,000 names failed at each try.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_with_more_names_than_a_statement_holds_is_opened_up() {
    for backend in [Backend::Mariadb, Backend::Sqlite] {
        let world = World::new(backend)
            .await
            .bind(Binding::json("post.pictures", "default", "$[*]").expect("a binding"))
            .storage(|s: StoragePlan| s.trash(Trash::Keep(Duration::from_secs(3600))));
        let wide = if backend == Backend::Sqlite { "text" } else { "longtext" };
        world.db.exec(&format!("create table post (id integer primary key, pictures {wide})")).await;
        // Long names, so that they need not be so many. Together they are more than a statement holds where each is written in hexadecimal.
        let folders = vec!["x".repeat(200); 10].join("/");
        let names: Vec<String> = (0..5_000).map(|n| format!("\"{n}/{folders}/{n}.jpg\"")).chain(["\"a.jpg\"".to_owned()]).collect();
        let value = format!("[{}]", names.join(","));
        assert!(value.len() > 9_000_000 && value.len() < 15_000_000, "{}", value.len());
        world.db.exec(&format!("insert into post values (1, '{value}')")).await;
        world.put_file("a.jpg", b"x");
        let rowbound = Rowbound::new(BINARY, &world);
        rowbound.run(&["attach"]).await.expect(0);
        world.db.exec("delete from post").await;
        let said = rowbound.run(&["collect", "--format", "json"]).await.expect(0).json();
        assert_eq!(said["outcomes"], serde_json::json!({ "opened": 1, "missing": 5_000, "trashed": 1 }), "{backend}");
        assert!(world.files().is_empty());
    }
}

/// Rich content in JSON, as page builders write it: pictures stand where the one path that a sample showed does not lead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_holds_what_it_mentions_outside_of_its_path() {
    for backend in Backend::all() {
        let path = "$.root.children[*].src";
        let world = World::new(backend).await.bind(Binding::json("page.content", "default", path).expect("a binding"));
        let id = "id integer primary key";
        let wide = if backend == Backend::Sqlite { "text" } else { "json" };
        world.db.exec(&format!("create table page ({id}, content {wide}); create table revision ({id}, content {wide})")).await;
        let world = world.bind(Binding::json("revision.content", "default", path).expect("a binding"));
        // The name, and how a revision that nobody looks into spells it.
        let mentions = [
            ("2026/gallery.jpg", r#"{"root":{"children":[{"type":"gallery","images":[{"src":"2026/gallery.jpg"}]}]}}"#),
            ("2026/file.jpg", r#"[{"model":"x.y","fields":{"file":"2026\/file.jpg"}}]"#),
            ("2026/key é.jpg", r#"{"captions":{"2026/key \u00e9.jpg":"a picture"}}"#),
            ("2026/url b.jpg", r#"{"root":{"children":[{"href":"https://old.example.org/media/2026/url%20b.jpg?w=3"}]}}"#),
            ("2026/html.jpg", r#"{"html":"<img srcset=\"/media/2026/html.jpg 1x, /media/x.jpg 2x\">"}"#),
            ("2026/twice ü.jpg", r#"{"data":"{\"src\":\"2026\\\/twice \\u00fc.jpg\"}"}"#),
            ("2026/a%20b 😀.jpg", r#"{"other":"2026\/a%20b \ud83d\ude00.jpg"}"#),
        ];
        for (i, (name, value)) in mentions.iter().enumerate() {
            world.put_file(name, b"x");
            let names = serde_json::json!({ "root": { "children": [{ "src": name }] } }).to_string();
            let (names, value) = (backend.literal(&names), backend.literal(value));
            world.db.exec(&format!("insert into page values ({i}, {names}); insert into revision values ({i}, {value})")).await;
        }
        let all = world.files();
        let rowbound = Rowbound::new(BINARY, &world);
        rowbound.run(&["attach"]).await.expect(0);
        world.db.exec("delete from page").await;
        rowbound.run(&["collect"]).await.expect(0);
        assert_eq!(world.files(), all, "{backend}: a revision shows it");

        // Nor are they orphans, whatever share of the storage; and a mention that leads to no file is nobody's broken reference.
        world.db.exec(&format!("insert into revision values (100, {})", backend.literal(r#"{"old":"2026/gone.jpg"}"#))).await;
        let swept =
            rowbound.run(&["sweep", "--delete", "--max-share", "1", "--allow-no-references", "--format", "json"]).await.expect(0).json();
        assert_eq!((&swept["storages"][0]["orphans"]["files"], &swept["storages"][0]["dangling"]), (&0.into(), &0.into()), "{swept}");
        assert_eq!(swept["storages"][0]["mentioned"]["files"], mentions.len(), "{swept}");
        rowbound.run(&["collect"]).await.expect(0);
        assert_eq!(world.files(), all, "{backend}: swept");
        let told = rowbound.run(&["explain", "2026/gallery.jpg"]).await.expect(0).stdout;
        assert!(
            told.contains("it stays: 1 row(s) reference it")
                && told.contains("revision.content of row 0, a mention outside of what its binding reads"),
            "{told}"
        );

        // With the last mention it is an orphan.
        world.db.exec("delete from revision where id = 0").await;
        rowbound.run(&["collect"]).await.expect(0);
        assert_eq!(world.files(), all, "{backend}: a path that leads nowhere releases nothing");
        rowbound.run(&["sweep", "--delete", "--allow-no-references"]).await.expect(0);
        rowbound.run(&["collect"]).await.expect(0);
        assert!(!world.files().contains(&"2026/gallery.jpg".to_owned()) && world.files().len() == all.len() - 1, "{:?}", world.files());
    }
}

/// A reference that ends while another place of the value still mentions its name is no broken one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_text_mentions_elsewhere_is_no_orphan() {
    for backend in Backend::all() {
        let world = World::new(backend).await.bind(Binding::text("article.body", "default", ["/media/"]).expect("a binding"));
        world.db.exec("create table article (id integer primary key, body text)").await;
        let body = r#"<img src="https://old.example.org/files/2026/a.jpg"><img src="/media/2026/b.jpg">"#;
        world.db.exec(&format!("insert into article values (1, {})", backend.literal(body))).await;
        for name in ["2026/a.jpg", "2026/b.jpg"] {
            world.put_file(name, b"x");
        }
        let rowbound = Rowbound::new(BINARY, &world);
        rowbound.run(&["attach"]).await.expect(0);
        let swept = rowbound.run(&["sweep", "--format", "json"]).await;
        assert_eq!(swept.json()["storages"][0]["orphans"]["files"], 0, "{backend}: {}", swept.stdout);
    }
}

/// A query whose values are JSON counts mentions as a column does; so does an array.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_and_arrays_hold_what_they_mention() {
    for backend in Backend::all() {
        let json = Binding::json("t.c", "default", "$.src").expect("a binding").reading;
        let from = if backend == Backend::Postgres { "public.note" } else { "note" };
        let query = Binding::query("notes", "default", &format!("select data from {from}")).reading(json);
        let mut world = World::new(backend).await.with_docs().await.bind(query).ignore(&["note.data"]);
        world.db.exec("create table note (id integer primary key, data text)").await;
        world.db.exec(&format!("insert into note values (1, {})", backend.literal(r#"{"other":{"file":"2026\/noted.jpg"}}"#))).await;
        world.put_doc("2026/noted.jpg").await;
        if backend == Backend::Postgres {
            let reading = Reading::Array { prefixes: vec!["/media/".to_owned()] };
            world = world.bind(Binding::name("list.files", "default").expect("a binding").reading(reading));
            world.db.exec("create table list (id integer primary key, files text[])").await;
            world.db.exec(r#"insert into list values (1, array['https://old.example.org/media/2026/listed%20b.jpg'])"#).await;
            world.put_doc("2026/listed b.jpg").await;
        }
        let all = world.files();
        let rowbound = Rowbound::new(BINARY, &world);
        rowbound.run(&["attach"]).await.expect(0);
        world.db.exec("delete from doc").await;
        rowbound.run(&["collect"]).await.expect(0);
        assert_eq!(world.files(), all, "{backend}");
        rowbound.run(&["sweep", "--delete", "--max-share", "1", "--allow-no-references"]).await.expect(0);
        rowbound.run(&["collect"]).await.expect(0);
        assert_eq!(world.files(), all, "{backend}: swept");
    }
}
