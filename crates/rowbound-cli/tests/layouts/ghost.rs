//! Ghost: URLs begin with `__GHOST_URL__`, in columns, HTML and the JSON of cards; sizes lie in `size/w600/..` and
//! untouched originals beside as `.._o.jpg`.
//! Sources (TryGhost/Ghost): ghost/core/core/server/data/schema/schema.js, ghost/core/core/server/adapters/storage,
//! core/frontend/web/middleware/handle-image-sizes.js (`size/`, `_o`), packages/kg-default-nodes of TryGhost/Koenig (cards).

use rowbound_testkit::Backend;
use serde_json::json;

use crate::site::{Site, encoded, hex};

pub async fn site() -> Site {
    let storages = [("default", "content/images"), ("media", "content/media"), ("files", "content/files")];
    let mut site = Site::new("Ghost", Backend::Mysql, &storages).await;
    site.schema(
        "create table posts (id varchar(24) not null primary key, uuid varchar(36) not null, title varchar(2000) not
          null, slug varchar(191) not null,
           mobiledoc longtext, lexical longtext, html longtext, comment_id varchar(50), plaintext longtext,
           feature_image varchar(2000), featured tinyint(1) not null default 0,
           type varchar(50) not null default 'post', status varchar(50) not null default 'draft', codeinjection_head
           text, codeinjection_foot text, canonical_url text);
         create table posts_meta (id varchar(24) not null primary key, post_id varchar(24) not null, og_image
           varchar(2000), twitter_image varchar(2000), foreign key (post_id) references posts (id));
         create table post_revisions (id varchar(24) not null primary key, post_id varchar(24) not null, lexical
           longtext, created_at_ts bigint not null default 0, title varchar(2000),
           feature_image varchar(2000), reason varchar(50), key post_revisions_post_id (post_id));
         create table users (id varchar(24) not null primary key, name varchar(191) not null, slug varchar(191) not
           null, email varchar(191) not null,
           profile_image varchar(2000), cover_image varchar(2000), bio text);
         create table tags (id varchar(24) not null primary key, name varchar(191) not null, slug varchar(191) not null,
           description text, feature_image varchar(2000),
           og_image varchar(2000), twitter_image varchar(2000));
         create table settings (id varchar(24) not null primary key, `group` varchar(50) not null default 'core', `key`
           varchar(50) not null, value text, type varchar(50) not null);",
    );
    let url = |path: &str| format!("__GHOST_URL__/content/{path}");
    for n in 0..80 {
        let (feature, inline) = (format!("images/2024/05/feature-{n}.jpg"), format!("images/2024/06/inline-{n}.jpg"));
        let goes = n < 4;
        let id = hex(n, 24);
        let card = json!({"type": "image", "version": 1, "src": url(&inline), "width": 1200, "height": 800, "caption": "a caption"});
        post(&mut site, &id, &url(&feature), card, &format!("<p><img src=\"{}\" class=\"kg-image\"></p>", url(&inline)));
        for file in [&feature, &inline] {
            match goes {
                true => site.goes(&format!("content/{file}"), "a post that is deleted"),
                false => site.stays(&format!("content/{file}"), "posts.feature_image, or the cards of a post"),
            }
            if n % 20 == 0 {
                let name = file.strip_prefix("images/").expect("an image");
                let sized = format!("content/images/size/w600/{name}");
                let original = format!("content/{}_o.jpg", file.strip_suffix(".jpg").expect("a suffix"));
                match goes {
                    true => site.goes(&sized, "made of a picture of a deleted post"),
                    false => site.made(&sized, "made of a picture that a row references"),
                }
                match goes {
                    true => site.goes(&original, "the untouched original of a picture of a deleted post"),
                    false => site.made(&original, "the untouched original of a picture that a row references"),
                }
            }
        }
    }
    for n in 0..4 {
        site.later(&format!("delete from posts where id = '{}'", hex(n, 24)));
    }
    // Imported from elsewhere: names that the upload would have changed, encoded.
    for (n, name) in ["caf\u{e9} au lait.jpg", "100% cotton.jpg", "one+one.jpg", "Mu\u{308}ller.jpg", "C# in depth.png"].iter().enumerate()
    {
        let file = format!("images/2019/01/{name}");
        post(&mut site, &hex(200 + n as u64, 24), &url(&encoded(&file)), json!({"type": "paragraph"}), "<p>imported</p>");
        site.stays(&format!("content/{file}"), "posts.feature_image, encoded");
    }
    post(&mut site, &hex(210, 24), &url("images/2019/01/50% off.jpg"), json!({"type": "paragraph"}), "<p>imported</p>");
    site.stays("content/images/2019/01/50% off.jpg", "posts.feature_image, not encoded, then tags.og_image, which was empty at `attach`");
    post(
        &mut site,
        &hex(211, 24),
        "https://old.example.org/content/images/2018/02/old.jpg",
        json!({"type": "paragraph"}),
        "<p>imported</p>",
    );
    site.stays("content/images/2018/02/old.jpg", "posts.feature_image, under a host that one value has");
    // Cards of other kinds.
    let gallery = json!({"type": "gallery", "images": [{"row": 0, "fileName": "g1.jpg",
        "src": url("images/2024/07/g1.jpg")}, {"row": 0, "src": url("images/2024/07/g2.jpg")}]});
    post(&mut site, &hex(220, 24), &url("images/2024/05/feature-50.jpg"), gallery, "<p>a gallery, not rendered yet</p>");
    for file in ["images/2024/07/g1.jpg", "images/2024/07/g2.jpg"] {
        site.stays(&format!("content/{file}"), "a gallery's card in posts.lexical alone");
    }
    for n in 0..6 {
        let (clip, thumb, paper) =
            (format!("media/2024/05/clip-{n}.mp4"), format!("media/2024/05/clip-{n}_thumb.jpg"), format!("files/2024/05/paper-{n}.pdf"));
        let cards = json!({"type": "video", "src": url(&clip), "thumbnailSrc": url(&thumb)});
        post(
            &mut site,
            &hex(230 + n, 24),
            "",
            cards,
            &format!("<a href=\"{}\">paper</a><video src=\"{}\" poster=\"{}\"></video>", url(&paper), url(&clip), url(&thumb)),
        );
        for file in [clip, thumb, paper] {
            match n {
                0 => site.goes(&format!("content/{file}"), "a post that is deleted"),
                _ => site.stays(&format!("content/{file}"), "the cards and the HTML of a post"),
            }
        }
    }
    site.later(&format!("delete from posts where id = '{}'", hex(230, 24)));
    // A revision can be restored.
    for n in 0..20 {
        let lexical = json!({"root": {"children": [{"type": "image",
            "src": url(&format!("images/2024/06/inline-{}.jpg", n + 20))}], "type": "root"}})
        .to_string();
        let values =
            [("post_id", hex(n + 20, 24)), ("lexical", lexical), ("feature_image", url(&format!("images/2024/05/feature-{}.jpg", n + 20)))];
        let values: Vec<_> = values.iter().map(|(column, value)| (*column, &**value)).collect();
        site.row("post_revisions", &[&values[..], &[("id", &hex(300 + n, 24)), ("title", "before")]].concat());
    }
    let lexical =
        json!({"root": {"children": [{"type": "gallery", "images": [{"src": url("images/2024/07/before.jpg")}]}], "type": "root"}})
            .to_string();
    site.row("post_revisions", &[("id", &hex(330, 24)), ("post_id", &hex(40, 24)), ("lexical", &lexical), ("title", "before")]);
    site.stays("content/images/2024/07/before.jpg", "a gallery's card in post_revisions.lexical alone");
    site.row("posts_meta", &[("id", &hex(340, 24)), ("post_id", &hex(40, 24)), ("og_image", &url("images/2024/05/og.png"))]);
    site.stays("content/images/2024/05/og.png", "posts_meta.og_image");
    site.row(
        "users",
        &[("id", "1"), ("name", "a"), ("slug", "a"), ("email", "a@example.org"), ("profile_image", &url("images/2024/05/me.jpg"))],
    );
    site.goes("content/images/2024/05/me.jpg", "users.profile_image, replaced");
    site.row("tags", &[("id", "1"), ("name", "a"), ("slug", "a"), ("feature_image", &url("images/2024/05/tag.jpg"))]);
    site.stays("content/images/2024/05/tag.jpg", "tags.feature_image");
    for n in 0..30 {
        site.row("settings", &[("id", &hex(400 + n, 24)), ("key", &format!("key_{n}")), ("value", "true"), ("type", "boolean")]);
    }
    site.row("settings", &[("id", &hex(440, 24)), ("key", "logo"), ("value", &url("images/2024/05/logo.png")), ("type", "string")]);
    site.stays("content/images/2024/05/logo.png", "one of 31 values of settings");
    site.later(&format!("update users set profile_image = '{}' where id = '1'", url("images/2024/08/me-2.jpg")));
    site.stays("content/images/2024/08/me-2.jpg", "what a picture was replaced with");
    // The column is empty until then.
    site.later(&format!("update users set cover_image = '{}' where id = '1'", url("images/2024/08/cover.jpg")));
    site.later(&format!("update posts set feature_image = null where id = '{}'", hex(210, 24)));
    site.later(&format!("update tags set og_image = '{}' where id = '1'", url("images/2019/01/50% off.jpg")));
    site.stays("content/images/2024/08/cover.jpg", "users.cover_image, which was empty at `attach`");
    for n in 0..4 {
        site.goes(&format!("content/images/2024/09/stray-{n}.jpg"), "an upload that no post shows");
    }
    site
}

fn post(site: &mut Site, id: &str, feature: &str, card: serde_json::Value, html: &str) {
    let lexical =
        json!({"root": {"children": [card], "direction": null, "format": "", "indent": 0, "type": "root", "version": 1}}).to_string();
    let mut values =
        vec![("id", id), ("uuid", id), ("title", "a post"), ("slug", id), ("lexical", &*lexical), ("html", html), ("status", "published")];
    values.extend((!feature.is_empty()).then_some(("feature_image", feature)));
    site.row("posts", &values);
}
