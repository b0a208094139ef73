//! The configurations that docs/bindings.md gives for frameworks, as they stand there, on the frameworks' own tables.
//! And fifteen applications in their own layouts, taken over with what `init` proposes, unedited: `cargo nextest run
//! --test layouts --no-capture taken_over` prints the table.

use std::path::Path;

use rowbound::Plan;
use rowbound_testkit::{Backend, Rowbound, World};

#[path = "layouts/site.rs"]
mod site;
#[path = "layouts/discourse.rs"]
mod discourse;
#[path = "layouts/odoo.rs"]
mod odoo;
#[path = "layouts/frappe.rs"]
mod frappe;
#[path = "layouts/directus.rs"]
mod directus;
#[path = "layouts/strapi.rs"]
mod strapi;
#[path = "layouts/payload.rs"]
mod payload;
#[path = "layouts/ghost.rs"]
mod ghost;
#[path = "layouts/drupal.rs"]
mod drupal;
#[path = "layouts/zulip.rs"]
mod zulip;
#[path = "layouts/wagtail.rs"]
mod wagtail;
#[path = "layouts/oscar.rs"]
mod oscar;
#[path = "layouts/active_storage.rs"]
mod active_storage;
#[path = "layouts/reversion.rs"]
mod reversion;
#[path = "layouts/simple_history.rs"]
mod simple_history;
#[path = "layouts/wordpress.rs"]
mod wordpress;

const BINARY: &str = env!("CARGO_BIN_EXE_rowbound");

/// The `n`th TOML block below the heading `section`, for this world's database and folder.
fn documented(world: &World, section: &str, n: usize) -> Plan {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/bindings.md");
    let text = std::fs::read_to_string(&file).expect("docs/bindings.md is there");
    let part = text.split("\n## ").find(|p| p.starts_with(section)).unwrap_or_else(|| panic!("docs/bindings.md has no section {section}"));
    let block = part.split("```toml\n").nth(n + 1).and_then(|b| b.split("```").next()).expect("the section has a TOML block");
    let block = match world.db.backend() {
        // As the text beside the block says.
        Backend::Postgres => block.replace("from media", "from public.media"),
        Backend::Sqlite => block.replace("concat(id, '/', file_name)", "id || '/' || file_name"),
        _ => block.to_owned(),
    };
    let all = format!("database = \"{}\"\n[storage.default]\nurl = \"folder:/tmp\"\n{block}", world.db.url());
    Plan::parse(&all, Path::new("/"), None, &|_| None).unwrap_or_else(|e| panic!("{}", e.full()))
}

/// Active Storage's tables, as `rails active_storage:install` makes them
/// (<https://github.com/rails/rails/blob/main/activestorage/db/migrate/20170806125915_create_active_storage_tables.rb>).
fn active_storage(backend: Backend) -> Vec<String> {
    let (id, big, time) = match backend {
        Backend::Sqlite => ("integer primary key autoincrement not null", "bigint", "datetime(6)"),
        Backend::Postgres => ("bigserial primary key", "bigint", "timestamp(6)"),
        _ => ("bigint auto_increment primary key", "bigint", "datetime(6)"),
    };
    vec![
        format!(
            "create table active_storage_blobs (id {id}, \"key\" varchar(255) not null, filename varchar(255) not null, content_type varchar(255), \
             metadata text, service_name varchar(255) not null, byte_size {big} not null, checksum varchar(255), created_at {time} not null)"
        ),
        "create unique index index_active_storage_blobs_on_key on active_storage_blobs (\"key\")".to_owned(),
        format!(
            "create table active_storage_attachments (id {id}, name varchar(255) not null, record_type varchar(255) not null, \
             record_id {big} not null, blob_id {big} not null, created_at {time} not null, \
             constraint fk_rails_c3b3935057 foreign key (blob_id) references active_storage_blobs (id))"
        ),
        format!(
            "create table active_storage_variant_records (id {id}, blob_id {big} not null, variation_digest varchar(255) not null, \
             constraint fk_rails_993965df05 foreign key (blob_id) references active_storage_blobs (id))"
        ),
    ]
    .into_iter()
    .map(|sql| if matches!(backend, Backend::Sqlite | Backend::Postgres) { sql } else { sql.replace('"', "`") })
    .collect()
}

/// The media table of Spatie's laravel-medialibrary 11
/// (<https://github.com/spatie/laravel-medialibrary/blob/main/database/migrations/create_media_table.php.stub>).
fn spatie(backend: Backend) -> String {
    let (id, big, json) = match backend {
        Backend::Sqlite => ("integer primary key autoincrement not null", "integer", "text"),
        Backend::Postgres => ("bigserial primary key", "bigint", "json"),
        _ => ("bigint unsigned auto_increment primary key", "bigint unsigned", "json"),
    };
    format!(
        "create table media (id {id}, model_type varchar(255) not null, model_id {big} not null, uuid char(36), collection_name varchar(255) not null, \
         name varchar(255) not null, file_name varchar(255) not null, mime_type varchar(255), disk varchar(255) not null, \
         conversions_disk varchar(255), size {big} not null, manipulations {json} not null, custom_properties {json} not null, \
         generated_conversions {json} not null, responsive_images {json} not null, order_column integer, created_at timestamp null, updated_at timestamp null)"
    )
}

async fn rails(backend: Backend) {
    // On a bucket the key is the file's name; on the disk service it lies in two folders.
    for block in [0, 1] {
        let place = |key: &str| if block == 0 { key.to_owned() } else { format!("{}/{}/{key}", &key[..2], &key[2..4]) };
        let mut world = World::new(backend).await;
        world.bindings = documented(&world, "Rails: Active Storage", block).bindings;
        for sql in active_storage(backend) {
            world.db.exec(&sql).await;
        }
        let quote = |name: &str| backend.quote(name);
        for key in ["xtapjjcjiudrlk3tmwyjgpuobabd", "1mc2jhgu4rjmyq0iaoxwnyuvbkd9"] {
            let columns = format!("{}, filename, service_name, byte_size, created_at", quote("key"));
            world
                .db
                .exec(&format!("insert into active_storage_blobs ({columns}) values ('{key}', 'a.jpg', 'local', 3, '2026-01-01 00:00:00')"))
                .await;
            world.put_file(&place(key), b"x");
        }
        let rowbound = Rowbound::new(BINARY, &world);
        rowbound.run(&["attach"]).await.expect(0);
        world.db.exec(&format!("delete from active_storage_blobs where {} = 'xtapjjcjiudrlk3tmwyjgpuobabd'", quote("key"))).await;
        rowbound.run(&["collect"]).await.expect(0);
        assert_eq!(world.files(), [place("1mc2jhgu4rjmyq0iaoxwnyuvbkd9")]);
        let held = rowbound.run(&["explain", &place("1mc2jhgu4rjmyq0iaoxwnyuvbkd9")]).await.expect(0);
        assert!(held.stdout.contains("it stays: 1 row(s) reference it"), "{}", held.stdout);
    }
}

async fn laravel(backend: Backend) {
    let mut world = World::new(backend).await;
    world.bindings = documented(&world, "Laravel: Spatie medialibrary", 0).bindings;
    world.db.exec(&spatie(backend)).await;
    for id in [1, 2] {
        world
            .db
            .exec(&format!(
                "insert into media (id, model_type, model_id, collection_name, name, file_name, disk, size, manipulations, custom_properties, \
                 generated_conversions, responsive_images) values ({id}, 'App\\Models\\Post', 1, 'images', 'cat', 'cat.jpg', 'public', 3, '[]', '[]', \
                 '{{\"thumb\": true}}', '[]')"
            ))
            .await;
        for name in ["cat.jpg", "conversions/cat-thumb.jpg", "responsive-images/cat___media_library_original_1_1.jpg"] {
            world.put_file(&format!("{id}/{name}"), b"x");
        }
    }
    let rowbound = Rowbound::new(BINARY, &world);
    rowbound.run(&["attach"]).await.expect(0);
    world.db.exec("delete from media where id = 1").await;
    // No trigger stands on such a table: what a sweep finds are the files. What a row references, or was made from what a
    // row names, stays all the same.
    assert_eq!(world.files().len(), 6);
    let said = rowbound.run(&["sweep", "--delete", "--max-share", "0.9"]).await;
    rowbound.run(&["collect"]).await.expect(0);
    assert_eq!(rowbound.run(&["sweep", "--max-share", "0.9"]).await.code, Some(0), "{}{}", said.stdout, said.stderr);
    assert_eq!(
        world.files(),
        ["2/cat.jpg", "2/conversions/cat-thumb.jpg", "2/responsive-images/cat___media_library_original_1_1.jpg"].map(str::to_owned)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn active_storage_on_its_own_tables() {
    for backend in Backend::all() {
        rails(backend).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spatie_medialibrary_on_its_own_table() {
    for backend in Backend::all() {
        laravel(backend).await;
    }
}

/// A test for each application: rows that reference a file keep it, in whatever column they do.
mod taken_over {
    macro_rules! applications {
        ($($application:ident)*) => {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $application() {
                    super::$application::site().await.taken_over().await;
                }
            )*
        };
    }

    applications! {
        discourse
        odoo
        frappe
        directus
        strapi
        payload
        ghost
        drupal
        zulip
        wagtail
        oscar
        active_storage
        reversion
        simple_history
        wordpress
    }
}
