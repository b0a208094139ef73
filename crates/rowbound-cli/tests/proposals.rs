//! What `init` proposes for layouts in which it once gave wrong advice, or none: each is made here as an application makes it.

use std::path::{Path, PathBuf};

use rowbound::{Binding, Plan};
use rowbound_testkit::{Backend, Rowbound, World};
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_rowbound");

/// What `init` said: its status, the file, the answer.
struct Said {
    code: i32,
    text: String,
    answer: Value,
}

impl Said {
    fn columns(&self, of: &str) -> Vec<String> {
        self.answer[of].as_array().expect("a list").iter().map(|b| b["evidence"]["column"].as_str().expect("a column").to_owned()).collect()
    }

    fn has(&self, text: &str) {
        assert!(self.text.contains(text), "{text:?} is not in\n{}", self.text);
    }

    fn has_not(&self, text: &str) {
        assert!(!self.text.contains(text), "{text:?} is in\n{}", self.text);
    }
}

async fn world(tables: &[&str]) -> World {
    // Its own configuration needs a binding to be one; `init` does not read it.
    let world = World::new(Backend::Sqlite).await.bind(Binding::name("t.f", "default").expect("a column"));
    for table in tables {
        world.db.exec(table).await;
    }
    world
}

/// Runs `init` on these storages, and reads its proposal, which must be a configuration.
async fn init(world: &World, storages: &[(&str, PathBuf)]) -> (Said, Plan) {
    let storages: Vec<String> = storages.iter().map(|(name, at)| format!("{name}=folder:{}", at.display())).collect();
    let url = world.db.url().to_owned();
    let mut args = vec!["init", "--database", &url, "--output", "-", "--format", "json"];
    args.extend(storages.iter().flat_map(|s| ["--storage", s.as_str()]));
    let output = Rowbound::new(BINARY, world).run(&args).await;
    let answer = output.json();
    let text = answer["toml"].as_str().expect("the file").to_owned();
    let plan = rowbound::plan::PlanBuilder::parse(&text, Path::new("/"), None, &|_| Some(url.clone()))
        .unwrap_or_else(|e| panic!("{}\n{text}", e.full()));
    let plan = match answer["bindings"].as_array().is_some_and(Vec::is_empty) {
        true => plan.binding(Binding::name("t.f", "default").expect("a column")),
        false => plan,
    };
    let plan = plan.build().unwrap_or_else(|e| panic!("{}\n{text}", e.full()));
    (Said { code: output.code.expect("a status"), text, answer }, plan)
}

async fn at_media(world: &World) -> (Said, Plan) {
    init(world, &[("default", world.media())]).await
}

/// Puts files and rows that hold them, behind `prefix`.
async fn fill(world: &World, table: &str, prefix: &str, names: impl IntoIterator<Item = String>) {
    for (n, name) in names.into_iter().enumerate() {
        world.put_file(&name, b"1");
        let value = Backend::Sqlite.literal(&format!("{prefix}{name}"));
        world.db.exec(&format!("insert into {table} values ({n}, {value})")).await;
    }
}

fn names(folder: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{folder}/{n}.jpg")).collect()
}

/// 1: nothing found, a storage without a binding, and values that stay unexplained leave something to decide.
#[tokio::test(flavor = "multi_thread")]
async fn the_status_says_whether_anything_is_left_to_decide() {
    let world = world(&["create table page (id integer primary key, image varchar(100))"]).await;
    world.put_file("nobody.jpg", b"1");
    let (said, _) = at_media(&world).await;
    assert_eq!(said.code, 1, "nothing was found");
    assert_eq!(said.answer["bare"], json!(["default"]));
    said.has("No column references a file of it");

    fill(&world, "page", "", names("2026", 5)).await;
    let (said, _) = at_media(&world).await;
    assert_eq!((said.code, said.columns("bindings")), (0, vec!["page.image".to_owned()]), "{}", said.text);

    let other = world.folder().join("other");
    std::fs::create_dir(&other).expect("a folder");
    let (said, _) = init(&world, &[("default", world.media()), ("other", other)]).await;
    assert_eq!((said.code, &said.answer["bare"]), (1, &json!(["other"])), "a storage without a binding");

    world.db.exec("insert into page values (90, '/srv/old/gone.jpg'), (91, '//old.example.org/gone.jpg')").await;
    let (said, _) = at_media(&world).await;
    assert_eq!(said.code, 1, "{}", said.text);
    said.has("2 of 7 sampled values look like files, but are read as nothing");
}

/// 2: Active Storage's disk service, and Moodle's, which is laid out alike.
#[tokio::test(flavor = "multi_thread")]
async fn active_storage_on_disk_is_bound() {
    let world = world(&[
        "create table active_storage_blobs (id integer primary key, \"key\" varchar not null, filename varchar not null)",
        "create table mdl_files (id integer primary key, contenthash varchar(40))",
    ])
    .await;
    for n in 0..4 {
        let key = format!("xtapjjcjiudrlk3tmwyjgpuobab{n}");
        world.put_file(&format!("xt/ap/{key}"), b"1");
        world.db.exec(&format!("insert into active_storage_blobs values ({n}, '{key}', 'photo.jpg')")).await;
        let hash = format!("{n}f86d081884c7d659a2feaa0c55ad015a3bf4f1b");
        world.put_file(&format!("{}/{}/{hash}", &hash[..2], &hash[2..4]), b"1");
        world.db.exec(&format!("insert into mdl_files values ({n}, '{hash}')")).await;
    }
    let (said, plan) = at_media(&world).await;
    assert_eq!((said.code, said.columns("bindings")), (0, vec!["active_storage_blobs.key".to_owned(), "mdl_files.contenthash".to_owned()]));
    assert!(plan.bindings.iter().all(|b| b.reading.word() == "active-storage-key"), "{}", said.text);
    let mut world = world;
    world.bindings = plan.bindings;
    let rowbound = Rowbound::new(BINARY, &world);
    rowbound.run(&["attach"]).await.expect(0);
    world.db.exec("delete from active_storage_blobs where id = 0").await;
    rowbound.run(&["collect"]).await.expect(0);
    assert_eq!(world.files().len(), 7);
}

/// Spatie's media library beside a column that is bound: `1/cat.jpg` for `cat.jpg`, which stands in no row. Such a proposal seemed to be whole.
#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_put_together_are_said() {
    let world = world(&[
        "create table media (id integer primary key, name varchar(100), file_name varchar(100))",
        "create table users (id integer primary key, avatar varchar(100))",
        "create table doc (id integer primary key, file varchar(100), original_name varchar(100))",
    ])
    .await;
    fill(&world, "users", "", names("avatars", 5)).await;
    for n in 0..4 {
        world.put_file(&format!("{n}/cat{n}.jpg"), b"1");
        world.put_file(&format!("{n}/conversions/cat{n}-thumb.jpg"), b"1");
        world.db.exec(&format!("insert into media values ({n}, 'cat', 'cat{n}.jpg')")).await;
        // What a file was called where it came from stands beside its name.
        world.put_file(&format!("docs/plan{n}.pdf"), b"1");
        world.db.exec(&format!("insert into doc values ({n}, 'docs/plan{n}.pdf', 'plan{n}.pdf')")).await;
    }
    let (said, _) = at_media(&world).await;
    assert_eq!((said.code, said.columns("bindings")), (1, vec!["doc.file".to_owned(), "users.avatar".to_owned()]), "{}", said.text);
    let composed = said.answer["composed"].as_array().expect("a list");
    assert_eq!(composed.len(), 1, "{composed:?}");
    assert_eq!((&composed[0]["column"], &composed[0]["storage"]), (&json!("media.file_name"), &json!("default")));
    said.has("the application puts the rest of their names before it");
}

/// 3: a column of which a bound query, or a bound generated column, makes the whole name must not be bound beside it.
#[tokio::test(flavor = "multi_thread")]
async fn attach_takes_a_part_of_a_composed_name_for_what_it_is() {
    let tables = [
        "create table upload (id integer primary key, folder varchar(50), file varchar(50), path varchar(100) generated always as (case when folder = '' then file else folder || '/' || file end) stored)",
    ];
    let query = "select case when folder = '' then file else folder || '/' || file end from upload";
    let whole = [Binding::query("upload", "default", query), Binding::name("upload.path", "default").expect("a column")];
    for binding in whole {
        let mut world = world(&tables).await;
        world.bindings = vec![binding];
        for n in 0..4 {
            // In the root the part is the whole name.
            world.put_file(&format!("{n}.jpg"), b"1");
            world.db.exec(&format!("insert into upload (id, folder, file) values ({n}, '', '{n}.jpg')")).await;
        }
        let attached = Rowbound::new(BINARY, &world).run(&["attach"]).await.expect(0);
        if world.bindings[0].query.is_some() {
            assert!(
                attached.stdout.contains("upload.file") && attached.stdout.contains("held by what is computed from it"),
                "{}",
                attached.stdout
            );
        }
        // A file that the computed name does not hold: nobody else looks for it.
        Rowbound::new(BINARY, &world).run(&["detach"]).await.expect(0);
        world.db.exec("create table copy (id integer primary key, file varchar(50))").await;
        world.db.exec("insert into copy values (1, '1.jpg')").await;
        let refused = Rowbound::new(BINARY, &world).run(&["attach"]).await.expect(4);
        assert!(refused.stderr.contains("copy.file") && !refused.stderr.contains("upload.file:"), "{}", refused.stderr);
    }
}

/// 4: a table `media` of one's own; 13: frameworks that delete files themselves.
#[tokio::test(flavor = "multi_thread")]
async fn a_framework_is_known_by_its_columns() {
    let own = world(&["create table media (id integer primary key, file varchar(100))"]).await;
    fill(&own, "media", "", names("2026", 4)).await;
    let (said, _) = at_media(&own).await;
    assert_eq!((said.code, said.columns("bindings")), (0, vec!["media.file".to_owned()]));
    said.has_not("Laravel");

    let theirs = world(&[
        "create table media (id integer primary key, file varchar(100), collection_name varchar, file_name varchar, model_type varchar)",
        "create table wagtailcore_page (id integer primary key, title varchar)",
        "create table catalogue_productimage (id integer primary key, original varchar)",
        "create table django_migrations (id integer primary key, app varchar, name varchar)",
    ])
    .await;
    let (said, _) = at_media(&theirs).await;
    for (name, how) in [
        ("# Laravel Media Library: ", "deletes the files of models"),
        ("# Wagtail: ", "`post_delete_file_cleanup`"),
        ("# Oscar: ", "OSCAR_DELETE_IMAGE_FILES = False"),
        ("# Django: ", "`django_cleanup`"),
    ] {
        let line = said.text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} is not in\n{}", said.text));
        assert!(line.contains(how) && line.contains("shadow mode counts nothing"), "{line}");
    }
}

/// 5: what an application writes for its own address.
#[tokio::test(flavor = "multi_thread")]
async fn a_placeholder_for_a_host_is_a_prefix() {
    let world = world(&["create table posts (id integer primary key, feature_image varchar(2000))"]).await;
    fill(&world, "posts", "__GHOST_URL__/content/images/", names("2026/11", 4)).await;
    let (said, _) = at_media(&world).await;
    assert_eq!((said.code, said.columns("bindings")), (0, vec!["posts.feature_image".to_owned()]), "{}", said.text);
    said.has("kind = \"url\"\nprefix = \"__GHOST_URL__/content/images/\"");
    said.has_not("too deep");
}

/// 6: rows that outlive what they tell of, and texts that only repeat names.
#[tokio::test(flavor = "multi_thread")]
async fn histories_and_copies_are_said() {
    let world = world(&[
        "create table article (id integer primary key, image varchar(100))",
        "create table article_history (id integer primary key, image varchar(100))",
        "create table article_rendered (id integer primary key, body text)",
        "create table outbox_messages (id integer primary key, body text)",
    ])
    .await;
    fill(&world, "article", "", names("2026", 6)).await;
    world.db.exec("insert into article_history select * from article").await;
    world.db.exec("insert into article_rendered select id, '<p>here: <img src=\"/media/' || image || '\"></p>' from article").await;
    world.db.exec("insert into outbox_messages select * from article_rendered").await;
    let (said, _) = at_media(&world).await;
    assert_eq!(said.code, 0, "nothing is lost if it stays as it is: {}", said.text);
    said.has("# note: a history keeps these files: each stays as long as a row of it references it");
    said.has("# note: a table of messages keeps these files");
    said.has("# note: every file that its sampled values reference is referenced by article.image, too");
    said.has("write ignore = [\"article_history.image\"]");
}

/// 7: one column, two storages, told by their prefixes.
#[tokio::test(flavor = "multi_thread")]
async fn one_column_names_files_of_two_storages() {
    let world = world(&["create table file_managed (id integer primary key, uri varchar(255))"]).await;
    let private = world.folder().join("private");
    std::fs::create_dir_all(private.join("p")).expect("a folder");
    for n in 0..10 {
        let (scheme, name) = if n % 2 == 0 { ("public", format!("a/{n}.jpg")) } else { ("private", format!("p/{n}.pdf")) };
        match n % 2 {
            0 => world.put_file(&name, b"1"),
            _ => std::fs::write(private.join(&name), b"1").expect("a file"),
        }
        world.db.exec(&format!("insert into file_managed values ({n}, '{scheme}://{name}')")).await;
    }
    world.db.exec("insert into file_managed values (90, 'public://a/gone.jpg')").await;
    let (said, plan) = init(&world, &[("default", world.media()), ("private", private)]).await;
    assert_eq!(said.columns("unsure"), [""; 0], "{}", said.text);
    let bound: Vec<(String, String)> = plan.bindings.iter().map(|b| (b.column.to_string(), b.storage.clone())).collect();
    let wanted = ["default", "private"].map(|storage| ("file_managed.uri".to_owned(), storage.to_owned()));
    assert_eq!(bound, wanted, "{}", said.text);
    said.has("prefix = \"public://\"");
    said.has("prefix = \"private://\"");
}

/// 8: names at many places of a JSON value: a path that can be read.
#[tokio::test(flavor = "multi_thread")]
async fn many_places_in_json_become_a_path_that_can_be_read() {
    let mut world =
        world(&["create table entry (id integer primary key, data text)", "create table slides (id integer primary key, data text)"]).await;
    for n in 0..6 {
        let file = |what: &str| {
            let name = format!("{what}/{n}.jpg");
            world.put_file(&name, b"1");
            name
        };
        let data = json!({
            "id": n, "width": 100, "formats": { "small": { "url": file("small"), "size": 1.5 }, "large": { "url": file("large"), "size": null } },
            "blocks": [{ "image": { "url": file("block"), "hash": "x" } }], "url": file("own"),
        });
        world.db.exec(&format!("insert into entry values ({n}, {})", Backend::Sqlite.literal(&data.to_string()))).await;
        let data = json!({ "cover": file("cover"), "body": [{ "src": file("src"), "id": 1 }] });
        world.db.exec(&format!("insert into slides values ({n}, {})", Backend::Sqlite.literal(&data.to_string()))).await;
    }
    let (said, plan) = at_media(&world).await;
    assert_eq!(said.code, 0, "{}", said.text);
    said.has("path = \"$..url\"");
    said.has("path = \"$..['cover','src']\"");
    said.has_not("$..*");
    world.bindings = plan.bindings;
    let rowbound = Rowbound::new(BINARY, &world);
    rowbound.run(&["attach"]).await.expect(0);
    world.db.exec("delete from entry where id = 1").await;
    world.db.exec("delete from slides where id = 2").await;
    rowbound.run(&["collect"]).await.expect(0);
    assert_eq!(world.files().len(), 36 - 6, "{:?}", world.files());
}

/// 9: keys and values; names behind a prefix, as they are.
#[tokio::test(flavor = "multi_thread")]
async fn where_and_strip_are_proposed() {
    let world = world(&[
        "create table wp_postmeta (id integer primary key, meta_key varchar(255), meta_value text)",
        "create table attachment (id integer primary key, file_url varchar(255))",
    ])
    .await;
    for n in 0..6 {
        world.put_file(&format!("2026/{n}.jpg"), b"1");
        world.db.exec(&format!("insert into wp_postmeta values ({n}, '_wp_attached_file', '2026/{n}.jpg')")).await;
    }
    world.db.exec("insert into wp_postmeta select id + 100, '_edit_last', id + 1000 from wp_postmeta").await;
    world.db.exec("insert into wp_postmeta select id + 200, '_edit_lock', id + 2000 from wp_postmeta").await;
    let odd = ["100% cotton.jpg", "C# notes.pdf", "what?.png", "a%20b.png", "plain.png"];
    fill(&world, "attachment", "/files/", odd.map(str::to_owned)).await;
    let (said, _) = at_media(&world).await;
    assert_eq!(said.columns("unsure"), [""; 0], "{}", said.text);
    said.has("\n# where = { meta_key = \"_wp_attached_file\" }\n");
    said.has("strip = \"/files/\"");

    // Encoded values stay URLs.
    let encoded = self::world(&["create table attachment (id integer primary key, file_url varchar(255))"]).await;
    for (n, (name, value)) in [("a b.png", "/files/a%20b.png"), ("c.png", "/files/c.png?v=1")].into_iter().enumerate() {
        encoded.put_file(name, b"1");
        encoded.db.exec(&format!("insert into attachment values ({n}, '{value}')")).await;
    }
    let (said, _) = at_media(&encoded).await;
    said.has("prefix = \"/files/\"");
    said.has_not("strip");
}

/// 9: what no sample showed: a row of another key references a file. As proposed, it keeps it.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_another_key_keeps_its_file() {
    let mut world = world(&["create table wp_postmeta (id integer primary key, meta_key varchar(255), meta_value text)"]).await;
    for n in 0..6 {
        world.put_file(&format!("2026/{n}.jpg"), b"1");
        world.db.exec(&format!("insert into wp_postmeta values ({n}, '_wp_attached_file', '2026/{n}.jpg')")).await;
    }
    world.db.exec("insert into wp_postmeta select id + 100, '_edit_last', id + 1000 from wp_postmeta").await;
    let (said, plan) = at_media(&world).await;
    said.has("# where = { meta_key = \"_wp_attached_file\" }");
    assert!(plan.bindings.iter().all(|b| b.only.is_empty()), "{}", said.text);
    world.bindings = plan.bindings;
    let rowbound = Rowbound::new(BINARY, &world);
    rowbound.run(&["attach"]).await.expect(0);
    world.db.exec("insert into wp_postmeta values (900, 'profile_picture', '2026/0.jpg')").await;
    world.db.exec("delete from wp_postmeta where id < 2").await;
    rowbound.run(&["collect"]).await.expect(0);
    assert!(world.is_there("2026/0.jpg") && !world.is_there("2026/1.jpg"), "{:?}", world.files());
}

/// 10: the field's default file. 11: what servers and repositories leave.
#[tokio::test(flavor = "multi_thread")]
async fn defaults_are_kept_and_leftovers_ignored() {
    let mut world = world(&["create table profile (id integer primary key, avatar varchar(100))"]).await;
    fill(&world, "profile", "", names("avatars", 12)).await;
    world.put_file("defaults/avatar[1].png", b"1");
    for n in 100..110 {
        world.db.exec(&format!("insert into profile values ({n}, 'defaults/avatar[1].png')")).await;
    }
    for name in [
        ".htaccess",
        ".keep",
        "avatars/index.php",
        "avatars/.gitkeep",
        "avatars/Thumbs.db",
        "avatars/.nfs0000000012",
        "index.html",
        "web.config",
    ] {
        world.put_file(name, b"1");
    }
    let (said, plan) = at_media(&world).await;
    assert_eq!(said.code, 0, "{}", said.text);
    said.has("keep = \"defaults/avatar[[]1[]].png\"");
    said.has("10 of 22 rows share \"defaults/avatar[1].png\"");
    let ignored = &plan.storages["default"].ignore;
    for pattern in [".htaccess", ".keep", "*/index.php", "*/.gitkeep", "*/Thumbs.db", "*/.nfs*", "index.html", "web.config"] {
        assert!(ignored.iter().any(|p| p == pattern), "{pattern}: {ignored:?}");
    }
    // As it stands nothing of it goes.
    world.bindings = plan.bindings;
    world.storage.ignore = ignored.clone();
    let rowbound = Rowbound::new(BINARY, &world);
    rowbound.run(&["attach"]).await.expect(0);
    world.db.exec("delete from profile where id > 99").await;
    rowbound.run(&["collect"]).await.expect(0);
    rowbound.run(&["sweep", "--delete"]).await.expect(0);
    rowbound.run(&["collect"]).await.expect(0);
    assert_eq!(world.files().len(), 12 + 1 + 8);
}

/// Thumbnails that easy-thumbnails remembers go with their originals, wherever a sample shows them; those of another namer, or in a folder of their own
/// (THUMBNAIL_SUBDIR), are kept by their rows.
#[tokio::test(flavor = "multi_thread")]
async fn thumbnails_that_a_table_remembers_are_taken_along_or_bound() {
    for (thumbnail, is_known) in [("N.jpg.300x200_q85.jpg", true), ("N.jpg-small.jpg", false), ("thumbs/N.jpg.300x200_q85.jpg", false)] {
        let mut world = world(&[
            "create table article (id integer primary key, image varchar(100))",
            "create table easy_thumbnails_thumbnail (id integer primary key, storage_hash varchar(40), name varchar(255))",
        ])
        .await;
        fill(&world, "article", "", names("2026", 40)).await;
        // Of the last ones alone.
        for n in 37..40 {
            let name = format!("2026/{}", thumbnail.replace('N', &n.to_string()));
            world.put_file(&name, b"1");
            let hash = "f9bde26a1556cd667f742bd34ec7c55e";
            world.db.exec(&format!("insert into easy_thumbnails_thumbnail values ({n}, '{hash}', '{name}')")).await;
        }
        let (said, plan) = at_media(&world).await;
        assert_eq!(plan.ignore.len(), usize::from(is_known), "{}", said.text);
        world.bindings = plan.bindings;
        world.ignore = plan.ignore;
        let rowbound = Rowbound::new(BINARY, &world);
        rowbound.run(&["attach"]).await.expect(0);
        rowbound.run(&["sweep", "--delete"]).await.expect(0);
        rowbound.run(&["collect"]).await.expect(0);
        assert_eq!(world.files().len(), 43, "{}", said.text);
    }
}

/// 12: a storage that begins in the wrong place.
#[tokio::test(flavor = "multi_thread")]
async fn a_storage_one_level_off_is_said() {
    let world = world(&["create table doc (id integer primary key, file varchar(100))"]).await;
    fill(&world, "doc", "", names("uploads/2026", 5)).await;
    world.db.exec("update doc set file = substr(file, 9)").await;
    let (said, _) = at_media(&world).await;
    assert_eq!(said.code, 1);
    said.has("The files of doc.file lie in its folder \"uploads\": the storage begins one folder too high: url = \"folder:");
    assert_eq!(said.answer["misplaced"][0]["folder"], "uploads");

    world.db.exec("update doc set file = 'media/uploads/' || file").await;
    let (said, _) = at_media(&world).await;
    assert_eq!((said.code, said.columns("unsure")), (1, vec!["doc.file".to_owned()]));
    said.has("the storage begins one folder too deep; set `url` to the folder that holds \"media/\"");
}
