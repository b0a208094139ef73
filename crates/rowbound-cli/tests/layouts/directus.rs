//! Directus: `directus_files.filename_disk` is the name; pictures made on request lie beside it as `id__hash.webp`.
//! Sources (directus/directus): api/src/database/seeds/07-files.yaml and 11-revisions.yaml with their migrations,
//! api/src/services/assets.ts and files.ts (`filename_disk`, variants beneath the same prefix).

use rowbound_testkit::Backend;
use serde_json::json;

use crate::site::{ODD, Site, hex, uuid};

pub async fn site() -> Site {
    let mut site = Site::new("Directus", Backend::Postgres, &[("default", "uploads")]).await;
    site.schema(
        "create table directus_files (id uuid primary key, storage varchar(255) not null, filename_disk varchar(255),
          filename_download varchar(255) not null,
           title varchar(255), type varchar(255), folder uuid, uploaded_by uuid, created_on timestamptz not null default
           now(), modified_by uuid,
           modified_on timestamptz not null default now(), charset varchar(50), filesize bigint, width integer, height
           integer, duration integer, embed varchar(200),
           description text, location text, tags text, metadata json, focal_point_x integer, focal_point_y integer,
           tus_id varchar(64), tus_data json,
           uploaded_on timestamptz);
         create table directus_activity (id serial primary key, action varchar(45) not null, \"user\" uuid, collection
           varchar(64) not null, item varchar(255) not null);
         create table directus_revisions (id serial primary key, activity integer not null references directus_activity
           (id), collection varchar(64) not null,
           item varchar(255) not null, data json, delta json, parent integer, version uuid);
         create table directus_settings (id serial primary key, project_name varchar(100) not null, project_logo uuid
           references directus_files (id),
           public_note text, custom_css text);
         create table articles (id serial primary key, status varchar(255) not null, title varchar(255), body text,
           cover uuid references directus_files (id), blocks json);",
    );
    site.row("directus_activity", &[("action", "create"), ("collection", "directus_files"), ("item", "x")]);
    for n in 0..90 {
        let id = uuid(n);
        let name = format!("{id}.jpg");
        file(&mut site, &id, &name);
        let goes = n < 6;
        let variants = if n % 18 == 0 { 2 } else { 0 };
        for v in 0..variants {
            let variant = format!("uploads/{id}__{}.{}", hex(n * 10 + v, 40), if v == 0 { "webp" } else { "jpg" });
            match goes {
                true => site.goes(&variant, "made of a file that is deleted"),
                false => site.made(&variant, "made of a file that a row references"),
            }
        }
        match goes {
            true => site.goes(&format!("uploads/{name}"), "directus_files.filename_disk, deleted"),
            false => site.stays(&format!("uploads/{name}"), "directus_files.filename_disk"),
        }
        if n >= 6 && n % 5 == 0 {
            let body = format!("<p><img src=\"https://cms.example.org/assets/{id}?width=800\"></p>");
            let blocks = json!([{"type": "image", "data": {"file": id, "caption": "a caption"}}]).to_string();
            site.row("articles", &[("status", "published"), ("title", "an article"), ("body", &body), ("cover", &id), ("blocks", &blocks)]);
        }
    }
    for n in 0..6 {
        site.later(&format!("delete from directus_files where id = '{}'", uuid(n)));
    }
    for (n, name) in ODD.iter().enumerate() {
        file(&mut site, &uuid(200 + n as u64), name);
        site.stays(&format!("uploads/{name}"), "directus_files.filename_disk of an import");
    }
    // A revision can be reverted to.
    let (id, name) = (uuid(300), "before the edit.jpg");
    let (old, new) = (
        json!({"id": id, "filename_disk": name, "title": "a"}).to_string(),
        json!({"filename_disk": format!("{}.png", uuid(301))}).to_string(),
    );
    let values = [("activity", "1"), ("collection", "directus_files"), ("item", &*id)];
    site.row("directus_revisions", &[&values[..], &[("data", &old), ("delta", &new)]].concat());
    file(&mut site, &id, name);
    site.later(&format!("update directus_files set filename_disk = '{}.png' where id = '{id}'", uuid(301)));
    site.stays(&format!("uploads/{name}"), "directus_revisions.data alone");
    site.stays(&format!("uploads/{}.png", uuid(301)), "what a file was replaced with");

    // What is shown by its name, with a query.
    let body = "<p><a href=\"/assets/terms%20of%20use.pdf?download\">terms</a></p>";
    site.row("articles", &[("status", "published"), ("title", "terms"), ("body", body)]);
    site.stays("uploads/terms of use.pdf", "articles.body alone, encoded, with a query");
    site.row("directus_settings", &[("project_name", "a project"), ("custom_css", "#app { background: url(/assets/background.svg); }")]);
    site.stays("uploads/background.svg", "directus_settings.custom_css alone");
    for n in 400..404 {
        site.goes(&format!("uploads/{}.jpg", uuid(n)), "an upload without a row");
    }
    site.stays("uploads/.gitkeep", "it keeps the folder in the site's repository");
    site
}

fn file(site: &mut Site, id: &str, name: &str) {
    site.row(
        "directus_files",
        &[("id", id), ("storage", "local"), ("filename_disk", name), ("filename_download", "holiday.jpg"), ("type", "image/jpeg")],
    );
}
