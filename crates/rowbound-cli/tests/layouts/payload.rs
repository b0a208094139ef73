//! Payload: `media.filename` is the name, `media.url` the same encoded; each size has columns of its own.
//! Sources (payloadcms/payload): templates/vercel-postgres/src/migrations/20240412_190632_media.ts,
//! packages/payload/src/uploads (file names of sizes), packages/richtext-lexical (nodes); tables of versions `_posts_v`
//! as packages/drizzle makes them.

use rowbound_testkit::Backend;
use serde_json::json;

use crate::site::{ODD, Site, encoded};

pub async fn site() -> Site {
    let mut site = Site::new("Payload", Backend::Postgres, &[("default", "media")]).await;
    let times =
        "updated_at timestamp(3) with time zone default now() not null, created_at timestamp(3) with time zone default now() not null";
    let size = |name: &str| {
        let of = |column: &str, kind: &str| format!("sizes_{name}_{column} {kind}");
        let columns = [
            ("url", "varchar"),
            ("width", "numeric"),
            ("height", "numeric"),
            ("mime_type", "varchar"),
            ("filesize", "numeric"),
            ("filename", "varchar"),
        ];
        columns.map(|(column, kind)| of(column, kind)).join(", ")
    };
    site.schema(&format!(
        "create table media (id serial primary key not null, alt varchar, {times}, url varchar, thumbnail_u_r_l varchar,
          filename varchar, mime_type varchar,
           filesize numeric, width numeric, height numeric, focal_x numeric, focal_y numeric, {}, {});
         create unique index media_filename_idx on media using btree (filename);
         create index media_sizes_thumbnail_sizes_thumbnail_filename_idx on media using btree (sizes_thumbnail_filename);
         create table posts (id serial primary key not null, title varchar, slug varchar, featured_image_id integer
           references media (id) on delete set null, content jsonb, {times});
         create table _posts_v (id serial primary key not null, parent_id integer, version_title varchar,
           version_content jsonb, latest boolean, {times});
         create table redirects (id serial primary key not null, \"from\" varchar not null, to_type varchar, to_url
           varchar, {times});
         create table payload_preferences (id serial primary key not null, key varchar, value jsonb, {times});",
        size("thumbnail"),
        size("card"),
    ));
    for n in 0..90 {
        let name = match n {
            10..18 => ODD[n - 10].to_owned(),
            _ => format!("photo-{n}.jpg"),
        };
        let goes = n < 6;
        media(&mut site, n + 1, &name);
        match goes {
            true => site.goes(&format!("media/{name}"), "media.filename, deleted"),
            false => site.stays(&format!("media/{name}"), "media.filename"),
        }
        for (size, columns) in [("400x300", true), ("768x1024", n % 3 == 0)] {
            let sized = sized(&name, size);
            match (columns, goes) {
                (false, _) => continue,
                (true, true) => site.goes(&format!("media/{sized}"), "media.sizes_*_filename, deleted"),
                (true, false) => site.stays(&format!("media/{sized}"), "media.sizes_*_filename"),
            }
        }
        if n >= 20 && n % 7 == 0 {
            let content =
                json!({"root": {"type": "root", "children": [{"type": "upload", "relationTo": "media", "value": n + 1, "fields": null}]}})
                    .to_string();
            site.row(
                "posts",
                &[("title", "a post"), ("slug", "a-post"), ("featured_image_id", &(n + 1).to_string()), ("content", &content)],
            );
        }
    }
    site.later("delete from media where id <= 6");
    // Replaced: the row stays, its names are others.
    media(&mut site, 100, "brochure.pdf.jpg");
    site.goes("media/brochure.pdf.jpg", "media.filename, replaced");
    site.goes("media/brochure.pdf-400x300.jpg", "media.sizes_thumbnail_filename, replaced");
    site.later(
        "update media set filename = 'brochure-2.jpg', url = '/api/media/file/brochure-2.jpg', thumbnail_u_r_l = null,
            sizes_thumbnail_url = null, \
         sizes_thumbnail_filename = null where id = 100",
    );
    site.stays("media/brochure-2.jpg", "what a file was replaced with");

    // Deleted from the library, and linked all the same.
    for (n, name) in [(110, "terms of use.pdf"), (111, "only a version.pdf")] {
        media(&mut site, n, name);
        let link =
            json!({"type": "link", "fields": {"linkType": "custom", "url": format!("/api/media/file/{}", encoded(name))}, "children": []});
        let content = json!({"root": {"type": "root", "children": [{"type": "paragraph", "children": [link]}]}}).to_string();
        match n {
            110 => site.row("posts", &[("title", "terms"), ("slug", "terms"), ("content", &content)]),
            _ => site.row("_posts_v", &[("parent_id", "1"), ("version_title", "terms"), ("version_content", &content)]),
        }
        site.later(&format!("delete from media where id = {n}"));
        site.stays(&format!("media/{name}"), "its row is deleted; a post or a version of it links to it, encoded");
        let made = sized(name, "400x300");
        site.either(&format!("media/{made}"), "made of a file that only a link mentions");
    }
    for n in 0..10 {
        let to = if n == 0 { "/media/old-flyer.pdf".to_owned() } else { format!("/page-{n}") };
        site.row("redirects", &[("from", &format!("/go-{n}")), ("to_type", "custom"), ("to_url", &to)]);
    }
    site.stays("media/old-flyer.pdf", "one of 10 values of redirects.to_url");
    for n in 0..4 {
        site.goes(&format!("media/stray-{n}.jpg"), "an upload without a row");
    }
    site.stays("media/.gitkeep", "it keeps the folder in the site's repository");
    site
}

fn sized(name: &str, size: &str) -> String {
    let (stem, end) = name.rsplit_once('.').expect("a suffix");
    format!("{stem}-{size}.{end}")
}

fn media(site: &mut Site, id: usize, name: &str) {
    let (thumbnail, card) = (sized(name, "400x300"), sized(name, "768x1024"));
    let url = |name: &str| format!("/api/media/file/{}", encoded(name));
    let (url, thumbnail_url, card_url) = (url(name), url(&thumbnail), url(&card));
    let id_text = id.to_string();
    let mut values =
        vec![("id", &*id_text), ("alt", "a photo"), ("url", &url), ("filename", name), ("mime_type", "image/jpeg"), ("filesize", "100")];
    values.extend([
        ("sizes_thumbnail_url", &*thumbnail_url),
        ("sizes_thumbnail_filename", &thumbnail),
        ("thumbnail_u_r_l", &thumbnail_url),
    ]);
    if id <= 90 && (id - 1).is_multiple_of(3) {
        values.extend([("sizes_card_url", &*card_url), ("sizes_card_filename", &card)]);
    }
    site.row("media", &values);
}
