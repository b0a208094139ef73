//! WordPress: names stand in `wp_postmeta` (plain, and in serialized PHP as names without their folder), URLs in posts
//! and options.
//! Sources (WordPress/WordPress): wp-admin/includes/schema.php, wp-admin/includes/image.php (`-scaled`,
//! `original_image`, sizes), wp-admin/includes/image-edit.php (`_wp_attachment_backup_sizes`), wp-includes/post.php
//! (`_wp_attached_file`, guid).

use rowbound_testkit::Backend;
use serde_json::{Map, Value, json};

use crate::site::{Site, encoded, php};

const UPLOADS: &str = "wp-content/uploads";
const URL: &str = "https://example.org/wp-content/uploads";

pub async fn site() -> Site {
    let mut site = Site::new("WordPress", Backend::Mariadb, &[("default", UPLOADS)]).await;
    let how = "engine=InnoDB default character set utf8mb4 collate utf8mb4_unicode_520_ci";
    site.schema(&format!(
        "create table wp_posts (ID bigint unsigned not null auto_increment primary key, post_author bigint unsigned not
          null default 0, post_content longtext not null, post_title text not null,
           post_excerpt text not null default '', post_status varchar(20) not null default 'publish', post_name
           varchar(200) not null default '', post_parent bigint unsigned not null default 0,
           guid varchar(255) not null default '', post_type varchar(20) not null default 'post', post_mime_type
           varchar(100) not null default '') {how};
         create table wp_postmeta (meta_id bigint unsigned not null auto_increment primary key, post_id bigint unsigned
           not null default 0, meta_key varchar(255), meta_value longtext,
           key post_id (post_id), key meta_key (meta_key(191))) {how};
         create table wp_options (option_id bigint unsigned not null auto_increment primary key, option_name
           varchar(191) not null default '', option_value longtext not null,
           autoload varchar(20) not null default 'yes', unique key option_name (option_name)) {how};
         create table wp_usermeta (umeta_id bigint unsigned not null auto_increment primary key, user_id bigint unsigned
           not null default 0, meta_key varchar(255), meta_value longtext) {how};",
    ));
    for n in 1..=210 {
        let goes = n <= 6;
        // Most are papers. Of the pictures every second was larger than 2560 pixels.
        let (stem, picture, scaled) = (format!("photo-{n}"), n % 30 == 1 || n % 30 == 3, n % 30 == 3);
        let files = match picture {
            true => attachment(&mut site, n, &stem, scaled, &["300x200", "150x150"]),
            false => paper(&mut site, n),
        };
        for file in files {
            match goes {
                true => site.goes(&format!("{UPLOADS}/{file}"), "an attachment that is deleted"),
                false => site.stays(&format!("{UPLOADS}/{file}"), "_wp_attached_file or _wp_attachment_metadata of an attachment"),
            }
        }
        if n > 20 && n % 10 == 1 {
            let url = if picture { format!("{URL}/2024/05/{stem}-300x200.jpg") } else { format!("{URL}/2024/05/paper-{n}.pdf") };
            let content = format!(
                "<!-- wp:image {{\"id\":{n},\"sizeSlug\":\"medium\"}} -->\n\
                 <figure class=\"wp-block-image\"><img src=\"{url}\" class=\"wp-image-{n}\"/></figure>\n<!-- /wp:image -->"
            );
            post(&mut site, 1_000 + n, "post", &content);
            post(&mut site, 2_000 + n, "revision", &content);
            meta(&mut site, 1_000 + n, "_thumbnail_id", &n.to_string());
            meta(&mut site, 1_000 + n, "_edit_lock", "1714000000:1");
        }
    }
    site.later("delete from wp_posts where ID <= 6");
    site.later("delete from wp_postmeta where post_id <= 6");
    // Edited: what was there before can be restored.
    let backup = json!({"full-orig": {"width": 800, "height": 600, "file": "edited.jpg"},
        "thumbnail-orig": {"width": 150, "height": 150, "file": "edited-150x150.jpg"}});
    meta(&mut site, 300, "_wp_attachment_backup_sizes", &php(&backup));
    for file in attachment(&mut site, 300, "edited-e1512439419400", false, &["150x150"]) {
        site.stays(&format!("{UPLOADS}/{file}"), "_wp_attached_file or _wp_attachment_metadata of an attachment");
    }
    for name in ["edited.jpg", "edited-150x150.jpg"] {
        site.stays(&format!("{UPLOADS}/2024/05/{name}"), "_wp_attachment_backup_sizes alone");
    }
    // Imported, with names that the upload would have changed; a Mac decomposes what is not ASCII.
    for (n, stem) in ["Mu\u{308}ller", "caf\u{e9} au lait", "one+one", "100% cotton", "C# notes"].iter().enumerate() {
        for file in attachment(&mut site, 310 + n, stem, false, &["150x150"]) {
            site.stays(&format!("{UPLOADS}/{file}"), "_wp_attached_file or _wp_attachment_metadata of an import, not encoded");
        }
    }
    // Deleted, and shown all the same: in a post under the former host, in a revision, in an option.
    for (id, stem) in [(320, "still in a post"), (321, "still in a revision"), (322, "still in an option")] {
        let sized = format!("2024/05/{stem}-300x200.jpg");
        for file in attachment(&mut site, id, stem, false, &["300x200"]) {
            match file == sized {
                true => site.stays(&format!("{UPLOADS}/{file}"), "its attachment is deleted; a post, a revision or an option shows it"),
                false => site.goes(&format!("{UPLOADS}/{file}"), "an attachment that is deleted"),
            }
        }
        let url = encoded(&sized);
        match id {
            320 => post(&mut site, 3_320, "post", &format!("<p><img src=\"http://old.example.org/wp-content/uploads/{url}?w=300\"></p>")),
            321 => post(&mut site, 3_321, "revision", &format!("<p><img srcset=\"{URL}/{url} 300w\"></p>")),
            _ => {
                let widget = json!({"2": {"title": "", "text": format!("<img src=\"/{UPLOADS}/{url}\">")}, "_multiwidget": 1});
                option(&mut site, "widget_text", &php(&widget));
            }
        }
        site.later(&format!("delete from wp_posts where ID = {id}"));
        site.later(&format!("delete from wp_postmeta where post_id = {id}"));
    }
    // A gallery of a page builder: JSON in a meta value, slashes escaped.
    let builder =
        json!([{"elType": "section", "elements": [{"settings": {"image": {"id": "", "url": format!("{URL}/2024/05/builder.jpg")}}}]}])
            .to_string()
            .replace('/', "\\/");
    meta(&mut site, 1_021, "_elementor_data", &builder);
    site.stays(&format!("{UPLOADS}/2024/05/builder.jpg"), "_elementor_data alone, JSON with escaped slashes");
    for n in 0..40 {
        option(&mut site, &format!("option_{n}"), "1");
    }
    option(
        &mut site,
        "theme_mods_twentytwenty",
        &php(&json!({"background_image": format!("{URL}/2024/05/background.png"), "custom_logo": 22})),
    );
    site.stays(&format!("{UPLOADS}/2024/05/background.png"), "one of some 40 values of wp_options, serialized PHP");
    // Empty until then.
    site.later_row("wp_usermeta", &[("user_id", "1"), ("meta_key", "profile_picture"), ("meta_value", "2024/05/me.jpg")]);
    site.stays(&format!("{UPLOADS}/2024/05/me.jpg"), "wp_usermeta.meta_value, which was empty at `attach`");
    for n in 0..5 {
        site.goes(&format!("{UPLOADS}/2024/06/stray-{n}.jpg"), "an upload without a row");
    }
    for name in ["woocommerce_uploads/.htaccess", "woocommerce_uploads/index.html", "wpforms/index.php"] {
        site.stays(&format!("{UPLOADS}/{name}"), "it keeps what was uploaded from being listed");
    }
    site
}

/// An attachment with its rows. Its files, within the uploads.
fn attachment(site: &mut Site, id: usize, stem: &str, scaled: bool, sizes: &[&str]) -> Vec<String> {
    let (original, file) = (format!("{stem}.jpg"), if scaled { format!("{stem}-scaled.jpg") } else { format!("{stem}.jpg") });
    let sized: Vec<_> = sizes.iter().map(|size| format!("{stem}-{size}.jpg")).collect();
    let size = |name: &String| json!({"file": name, "width": 300, "height": 200, "mime-type": "image/jpeg", "filesize": 9});
    let all: Map<String, Value> = ["medium", "thumbnail"].iter().zip(&sized).map(|(name, file)| ((*name).to_owned(), size(file))).collect();
    let mut metadata = json!({"width": 2560, "height": 1707, "file": format!("2024/05/{file}"), "filesize": 9,
        "sizes": all, "image_meta": {"aperture": "0", "keywords": []}});
    if scaled {
        metadata["original_image"] = json!(original);
    }
    meta(site, id, "_wp_attached_file", &format!("2024/05/{file}"));
    meta(site, id, "_wp_attachment_metadata", &php(&metadata));
    let (id, guid) = (id.to_string(), format!("{URL}/2024/05/{}", encoded(&original)));
    let values = [
        ("ID", &*id),
        ("post_content", ""),
        ("post_title", "a photo"),
        ("post_status", "inherit"),
        ("post_type", "attachment"),
        ("post_mime_type", "image/jpeg"),
        ("guid", &guid),
    ];
    site.row("wp_posts", &values);
    let mut files = vec![file];
    files.extend(scaled.then_some(original));
    files.extend(sized);
    files.into_iter().map(|name| format!("2024/05/{name}")).collect()
}

/// An attachment that is no picture. Its file.
fn paper(site: &mut Site, id: usize) -> Vec<String> {
    let file = format!("2024/05/paper-{id}.pdf");
    meta(site, id, "_wp_attached_file", &file);
    let (id, guid) = (id.to_string(), format!("{URL}/{file}"));
    let values = [("ID", &*id), ("post_content", ""), ("post_title", "a paper"), ("post_type", "attachment"), ("guid", &guid)];
    site.row("wp_posts", &values);
    vec![file]
}

fn post(site: &mut Site, id: usize, kind: &str, content: &str) {
    let guid = format!("https://example.org/?p={id}");
    site.row(
        "wp_posts",
        &[("ID", &id.to_string()), ("post_content", content), ("post_title", "a post"), ("post_type", kind), ("guid", &guid)],
    );
}

fn meta(site: &mut Site, post: usize, key: &str, value: &str) {
    site.row("wp_postmeta", &[("post_id", &post.to_string()), ("meta_key", key), ("meta_value", value)]);
}

fn option(site: &mut Site, name: &str, value: &str) {
    site.row("wp_options", &[("option_name", name), ("option_value", value)]);
}
