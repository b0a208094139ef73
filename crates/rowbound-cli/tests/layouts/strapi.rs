//! Strapi: `files.url` is a path of a URL; `files.formats` is JSON with a URL for each size.
//! Sources (strapi/strapi): packages/core/upload/server/src/content-types/file.ts, services/image-manipulation.ts
//! (`thumbnail_`, `large_`, ..), packages/core/content-manager/server/src/history/models/history-version.ts,
//! examples/empty/public/uploads/.gitkeep.

use rowbound_testkit::Backend;
use serde_json::{Value, json};

use crate::site::{ODD, Site, encoded, hex};

/// More than a sample of 500 values.
const FILES: u64 = 540;

pub async fn site() -> Site {
    let mut site = Site::new("Strapi", Backend::Postgres, &[("default", "public/uploads")]).await;
    let common = "created_at timestamp(6) default now(), updated_at timestamp(6) default now(),
        published_at timestamp(6), created_by_id integer, updated_by_id integer, locale varchar(255)";
    site.schema(&format!(
        "create table files (id serial primary key, document_id varchar(255), name varchar(255), alternative_text text,
          caption text, width integer, height integer,
           formats jsonb, hash varchar(255), ext varchar(255), mime varchar(255), size numeric(10, 2), url text,
           preview_url text, provider varchar(255),
           provider_metadata jsonb, folder_path varchar(255), {common});
         create table files_related_mph (id serial primary key, file_id integer, related_id integer, related_type
           varchar(255), field varchar(255), \"order\" double precision);
         create table articles (id serial primary key, document_id varchar(255), title varchar(255), body text, blocks
           jsonb, {common});
         create table strapi_history_versions (id serial primary key, content_type varchar(255) not null,
           related_document_id varchar(255), locale varchar(255),
           status varchar(255), data jsonb, schema jsonb, created_at timestamp(6) default now(), created_by_id integer);
         create table strapi_core_store_settings (id serial primary key, key varchar(255), value text, type
           varchar(255), environment varchar(255), tag varchar(255));",
    ));
    for n in 0..FILES {
        let hash = format!("holiday_{}", hex(n, 10));
        let goes = n < 10;
        let sizes: &[&str] = if n % 2 == 0 { &["thumbnail", "small"] } else { &["thumbnail"] };
        file(&mut site, n + 1, &hash, "/uploads/", sizes);
        for name in sizes.iter().map(|size| format!("{size}_{hash}.jpg")).chain([format!("{hash}.jpg")]) {
            match goes {
                true => site.goes(&format!("public/uploads/{name}"), "files.url or files.formats, deleted"),
                false => site.stays(&format!("public/uploads/{name}"), "files.url or files.formats"),
            }
        }
        if n > 20 && n % 50 == 0 {
            let body = format!("A picture: ![holiday](/uploads/{hash}.jpg)\n\nand text.");
            let image =
                json!({"url": format!("http://localhost:1337/uploads/{hash}.jpg"), "hash": hash, "ext": ".jpg", "mime": "image/jpeg"});
            let blocks = json!([{"type": "image", "image": image, "children": [{"type": "text", "text": ""}]}]).to_string();
            site.row("articles", &[("title", "an article"), ("body", &body), ("blocks", &blocks)]);
        }
    }
    site.later("delete from files where id <= 10");
    // A size that only two rows have: the breakpoints were other ones for a day.
    for n in [700, 701] {
        let hash = format!("wide_{}", hex(n, 10));
        file(&mut site, n, &hash, "/uploads/", &["xlarge"]);
        site.stays(&format!("public/uploads/{hash}.jpg"), "files.url");
        site.stays(&format!("public/uploads/xlarge_{hash}.jpg"), "files.formats, at a key that no sample shows");
    }
    // Another host, for a while.
    for n in [710, 711] {
        let hash = format!("cdn_{}", hex(n, 10));
        file(&mut site, n, &hash, "https://media.example.org/uploads/", &["thumbnail"]);
        site.stays(&format!("public/uploads/{hash}.jpg"), "files.url, under a host that no sample shows");
        site.stays(&format!("public/uploads/thumbnail_{hash}.jpg"), "files.formats, under a host that no sample shows");
    }
    for (n, name) in ODD.iter().enumerate() {
        let (id, url) = (720 + n, format!("/uploads/{name}"));
        let values =
            [("hash", "imported"), ("ext", ".jpg"), ("name", "holiday.jpg"), ("url", &*url), ("provider", "local"), ("folder_path", "/")];
        site.row("files", &[&values[..], &[("id", &id.to_string())]].concat());
        site.stays(&format!("public/uploads/{name}"), "files.url of an import, which is not encoded");
    }
    // Deleted from the library, and shown all the same.
    for (n, hash) in [(740, "mentioned_in_body"), (741, "mentioned_in_blocks"), (742, "mentioned_in_history")] {
        file(&mut site, n, hash, "/uploads/", &[]);
        site.stays(&format!("public/uploads/{hash}.jpg"), "its file is deleted; a text, a block or a version of the history shows it");
    }
    site.later("delete from files where id in (740, 741, 742)");
    let body = format!("<img src=\"https://www.example.org/uploads/{}?updated_at=2024\">", encoded("mentioned_in_body.jpg"));
    site.row("articles", &[("title", "shows a deleted file"), ("body", &body)]);
    let card =
        json!([{"__component": "gallery", "rows": [{"cells": [{"picture": {"src": "/uploads/mentioned_in_blocks.jpg"}}]}]}]).to_string();
    site.row("articles", &[("title", "shows another"), ("blocks", &card)]);
    let data = json!({"title": "before", "cover": {"id": 742, "url": "/uploads/mentioned_in_history.jpg", "formats": null}}).to_string();
    site.row(
        "strapi_history_versions",
        &[("content_type", "api::article.article"), ("related_document_id", "abc"), ("data", &data), ("schema", "{}")],
    );
    for n in 800..805 {
        site.goes(&format!("public/uploads/stray_{}.jpg", hex(n, 10)), "an upload without a row");
    }
    site.stays("public/uploads/.gitkeep", "it keeps the folder in the site's repository");
    site
}

fn file(site: &mut Site, id: u64, hash: &str, prefix: &str, sizes: &[&str]) {
    let of = |size: &&str| {
        let (hash, url) = (format!("{size}_{hash}"), format!("{prefix}{size}_{hash}.jpg"));
        let format = json!({"ext": ".jpg", "url": url, "hash": hash, "mime": "image/jpeg",
            "name": format!("{size}_holiday.jpg"), "path": null, "size": 7.5, "width": 245});
        ((*size).to_owned(), format)
    };
    let formats = if sizes.is_empty() { Value::Null } else { Value::Object(sizes.iter().map(of).collect()) };
    let (id, url, formats) = (id.to_string(), format!("{prefix}{hash}.jpg"), formats.to_string());
    let values =
        [("name", "holiday.jpg"), ("ext", ".jpg"), ("mime", "image/jpeg"), ("size", "81.5"), ("provider", "local"), ("folder_path", "/")];
    site.row("files", &[&values[..], &[("id", &id), ("hash", hash), ("url", &url), ("formats", &formats)]].concat());
}
