//! Discourse: `uploads.url` and `optimized_images.url` are paths of URLs, posts mention uploads in HTML.
//! Sources (discourse/discourse): app/models/upload.rb and optimized_image.rb (schema information),
//! lib/file_store/local_store.rb and base_store.rb (`original/1X/..`, `optimized/1X/.._2_WxH`, tombstone),
//! app/models/post_revision.rb (`modifications`), draft.rb, site_setting.rb.

use rowbound_testkit::Backend;
use serde_json::json;

use crate::site::{Site, hex};

/// More than a sample of 500 values: what stands in two of them is seen by nobody.
const UPLOADS: u64 = 560;

pub async fn site() -> Site {
    let mut site = Site::new("Discourse", Backend::Postgres, &[("default", "uploads")]).await;
    site.schema(
        "create table uploads (id serial primary key, user_id integer not null, original_filename varchar not null,
          filesize bigint not null default 1,
           width integer, height integer, url varchar not null, created_at timestamp not null default now(), updated_at
           timestamp not null default now(),
           sha1 varchar(40), origin varchar(1000), retain_hours integer, extension varchar(10), etag varchar, secure
           boolean not null default false,
           original_sha1 varchar, verification_status integer not null default 1, dominant_color text);
         create unique index index_uploads_on_sha1 on uploads (sha1);
         create index index_uploads_on_url on uploads (url);
         create table optimized_images (id serial primary key, sha1 varchar(40) not null, extension varchar(10) not
           null, width integer not null,
           height integer not null, upload_id integer not null, url varchar not null, filesize integer, etag varchar,
           version integer);
         create table posts (id serial primary key, user_id integer, topic_id integer not null, post_number integer not
           null, raw text not null,
           cooked text not null, created_at timestamp not null default now());
         create table post_revisions (id serial primary key, user_id integer, post_id integer, modifications text,
           number integer);
         create table drafts (id serial primary key, user_id integer not null, draft_key varchar not null, data text not
           null);
         create table site_settings (id serial primary key, name varchar not null, data_type integer not null, value
           text);
         create table upload_references (id bigserial primary key, upload_id bigint not null, target_type varchar not
           null, target_id bigint not null);",
    );
    for n in 0..UPLOADS {
        let sha = hex(n, 40);
        let path = format!("default/original/1X/{sha}.jpg");
        let id = (n + 1).to_string();
        let goes = n < 12;
        upload(&mut site, &id, &sha, &format!("/uploads/{path}"), "holiday.jpg");
        match goes {
            true => site.goes(&format!("uploads/{path}"), "uploads.url, deleted"),
            false => site.stays(&format!("uploads/{path}"), "uploads.url"),
        }
        if n % 4 == 0 {
            let path = format!("default/optimized/1X/{sha}_2_690x388.jpg");
            let values = [("extension", ".jpg"), ("width", "690"), ("height", "388"), ("upload_id", &*id)];
            let url = format!("/uploads/{path}");
            site.row("optimized_images", &[&values[..], &[("sha1", &hex(n + 10_000, 40)), ("url", &url)]].concat());
            match goes {
                true => site.goes(&format!("uploads/{path}"), "optimized_images.url, deleted"),
                false => site.stays(&format!("uploads/{path}"), "optimized_images.url"),
            }
        }
        if n % 10 == 1 && !goes {
            post(&mut site, &id, &format!("<p><img src=\"/uploads/{path}\" width=\"690\"></p>"));
        }
    }
    site.later("delete from optimized_images where upload_id <= 12");
    site.later("delete from uploads where id <= 12");

    // A site that had another host once: two of 560.
    for n in [700, 701] {
        let path = format!("default/original/2X/a/{}.png", hex(n, 40));
        upload(&mut site, &n.to_string(), &hex(n, 40), &format!("//old.example.org/uploads/{path}"), "old.png");
        site.stays(&format!("uploads/{path}"), "uploads.url, under a host that no sample shows");
    }
    // The layout before hashes, whose names people gave.
    upload(&mut site, "702", &hex(702, 40), "/uploads/default/42/100%-sure.jpg", "100%-sure.jpg");
    site.stays("uploads/default/42/100%-sure.jpg", "uploads.url, which is not encoded");

    for (id, n, table) in [("703", 703, "posts"), ("704", 704, "post_revisions"), ("705", 705, "drafts")] {
        let path = format!("default/original/1X/{}.jpeg", hex(n, 40));
        upload(&mut site, id, &hex(n, 40), &format!("/uploads/{path}"), "shown.jpeg");
        let html = format!("<p>see <img src=\"https://forum.example.org/uploads/{path}?v=2\"></p>");
        match table {
            "posts" => post(&mut site, "9000", &html),
            "drafts" => {
                let data = json!({"reply": format!("![shown|690x388](/uploads/{path})"), "action": "reply"}).to_string();
                site.row("drafts", &[("user_id", "1"), ("draft_key", "topic_7"), ("data", &data)]);
            }
            _ => {
                let yaml = format!("---\ncooked:\n- '{html}'\n- \"<p>nothing</p>\"\n");
                site.row("post_revisions", &[("user_id", "1"), ("post_id", "3"), ("number", "2"), ("modifications", &yaml)]);
            }
        }
        site.stays(&format!("uploads/{path}"), "its upload is deleted; a post, a revision or a draft shows it");
    }
    site.later("delete from uploads where id in (703, 704, 705)");

    for n in 0..20 {
        site.row("site_settings", &[("name", &format!("setting_{n}")), ("data_type", "1"), ("value", "true")]);
    }
    site.row("site_settings", &[("name", "logo_url"), ("data_type", "1"), ("value", "/uploads/default/original/1X/logo.svg")]);
    site.stays("uploads/default/original/1X/logo.svg", "one of 21 values of site_settings");

    for n in 800..806 {
        site.goes(&format!("uploads/default/original/1X/{}.jpg", hex(n, 40)), "an upload without a row");
    }
    site.either(&format!("uploads/tombstone/default/original/1X/{}.jpg", hex(810, 40)), "Discourse's own trash");
    site.stays("uploads/.gitkeep", "it keeps the folder in the repository");
    site
}

fn upload(site: &mut Site, id: &str, sha: &str, url: &str, name: &str) {
    let values = [("id", id), ("user_id", "1"), ("original_filename", name), ("url", url), ("sha1", sha), ("extension", "jpg")];
    site.row("uploads", &values);
}

fn post(site: &mut Site, id: &str, html: &str) {
    let values =
        [("id", id), ("user_id", "1"), ("topic_id", "7"), ("post_number", "1"), ("raw", "![holiday](upload://x1y2.jpg)"), ("cooked", html)];
    site.row("posts", &values);
}
