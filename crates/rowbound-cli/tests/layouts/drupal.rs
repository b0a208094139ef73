//! Drupal: `file_managed.uri` is `public://` and a name that is not encoded; configuration is serialized PHP in a
//! longblob.
//! Sources (drupal/drupal): core/modules/file (file_managed, file_usage),
//! core/lib/Drupal/Core/Config/DatabaseStorage.php (`config.data`), core/modules/image/src/Entity/ImageStyle.php
//! (`styles/NAME/public/..`), core/lib/Drupal/Component/FileSecurity (`.htaccess`), core/modules/editor (inline
//! images).

use rowbound_testkit::Backend;
use serde_json::json;

use crate::site::{ODD, Site, encoded, php, uuid};

const PUBLIC: &str = "sites/default/files";

pub async fn site() -> Site {
    let mut site = Site::new("Drupal", Backend::Mariadb, &[("default", PUBLIC), ("private", "private")]).await;
    let field = "bundle varchar(128) not null default '', deleted tinyint not null default 0,
        entity_id int unsigned not null, revision_id int unsigned not null,
                 langcode varchar(32) not null default '', delta int unsigned not null default 0";
    site.schema(&format!(
        "create table file_managed (fid int unsigned not null auto_increment primary key, uuid varchar(128) character
          set ascii not null, langcode varchar(12) character set ascii not null,
           uid int unsigned, filename varchar(255), uri varchar(255) character set utf8mb4 collate utf8mb4_bin not null,
           filemime varchar(255) character set ascii, filesize bigint unsigned,
           status tinyint not null, created int, changed int not null default 0, key file_field__uri (uri(191)))
           character set utf8mb4;
         create table file_usage (fid int unsigned not null, module varchar(50) character set ascii not null default '',
           type varchar(64) character set ascii not null default '',
           id varchar(64) character set ascii not null default '0', count int unsigned not null default 0, primary key
           (fid, type, id, module));
         create table node__body ({field}, body_value longtext not null, body_summary longtext, body_format varchar(255)
           character set ascii);
         create table node_revision__body ({field}, body_value longtext not null, body_summary longtext, body_format
           varchar(255) character set ascii);
         create table node__field_image ({field}, field_image_target_id int unsigned not null, field_image_alt
           varchar(512), field_image_title varchar(1024));
         create table config (collection varchar(255) character set ascii not null default '', name varchar(255)
           character set ascii not null default '', data longblob,
           primary key (collection, name));
         create table cache_entity (cid varchar(255) character set ascii not null primary key, data longblob, expire
           bigint not null default 0, serialized smallint not null default 1);
         create table key_value (collection varchar(128) character set ascii not null default '', name varchar(128)
           character set ascii not null default '', value longblob not null,
           primary key (collection, name));",
    ));
    // More than a sample of 500 values.
    for n in 1..=540 {
        let name = format!("2024-05/photo_{n}.jpg");
        let goes = n <= 8;
        file(&mut site, n, &format!("public://{name}"));
        let id = n.to_string();
        let usage = [("fid", &*id), ("module", "file"), ("type", "node"), ("id", &id), ("count", "1")];
        site.row("file_usage", &usage);
        site.row(
            "node__field_image",
            &[
                ("bundle", "article"),
                ("entity_id", &id),
                ("revision_id", &id),
                ("field_image_target_id", &id),
                ("field_image_alt", "a photo"),
            ],
        );
        match goes {
            true => site.goes(&format!("{PUBLIC}/{name}"), "file_managed.uri, deleted"),
            false => site.stays(&format!("{PUBLIC}/{name}"), "file_managed.uri"),
        }
        if n % 8 == 0 {
            let styled = format!("{PUBLIC}/styles/large/public/{name}.webp");
            match goes {
                true => site.goes(&styled, "made of a file that is deleted"),
                false => site.made(&styled, "made of a file that a row references"),
            }
        }
    }
    for table in ["file_managed", "file_usage"] {
        site.later(&format!("delete from {table} where fid <= 8"));
    }
    site.later("delete from node__field_image where field_image_target_id <= 8");
    for (n, name) in ODD.iter().enumerate() {
        file(&mut site, 600 + n, &format!("public://2023-11/{name}"));
        site.stays(&format!("{PUBLIC}/2023-11/{name}"), "file_managed.uri, which is not encoded");
    }
    for n in 0..12 {
        let name = format!("contracts/contract {n}.pdf");
        file(&mut site, 620 + n, &format!("private://{name}"));
        match n {
            0 => site.goes(&format!("private/{name}"), "file_managed.uri, deleted"),
            _ => site.stays(&format!("private/{name}"), "file_managed.uri, of the other storage"),
        }
    }
    site.later("delete from file_managed where fid = 620");
    // Inline images: one is in a body, the other in a revision alone, and both rows are deleted.
    for (fid, table) in [(640, "node__body"), (641, "node_revision__body")] {
        let name = format!("inline-images/shown in {fid}.jpg");
        file(&mut site, fid, &format!("public://{name}"));
        let html = format!("<p><img data-entity-type=\"file\" src=\"/{PUBLIC}/{}?itok=a1B2c3\" alt=\"\"></p>", encoded(&name));
        site.row(
            table,
            &[
                ("bundle", "page"),
                ("entity_id", "9"),
                ("revision_id", &fid.to_string()),
                ("body_value", &html),
                ("body_format", "full_html"),
            ],
        );
        site.stays(&format!("{PUBLIC}/{name}"), "its row is deleted; a body or a revision of it shows it, encoded, with a query");
    }
    site.later("delete from file_managed where fid in (640, 641)");
    for n in 0..20 {
        let html = format!("<p><img src=\"/{PUBLIC}/2024-05/photo_{}.jpg\"></p>", n + 100);
        site.row("node__body", &[("bundle", "page"), ("entity_id", &(n + 100).to_string()), ("revision_id", "1"), ("body_value", &html)]);
        site.row(
            "node_revision__body",
            &[("bundle", "page"), ("entity_id", &(n + 100).to_string()), ("revision_id", "1"), ("body_value", &html)],
        );
    }
    // Configuration.
    for n in 0..20 {
        site.row("config", &[("name", &format!("views.view.number_{n}")), ("data", &php(&json!({"langcode": "en", "status": true})))]);
    }
    let theme = json!({"features": {"favicon": true}, "logo": {"use_default": false, "path": "public://logo.png"},
        "favicon": {"path": format!("{PUBLIC}/favicon.ico")}});
    site.row("config", &[("name", "olivero.settings"), ("data", &php(&theme))]);
    site.stays(&format!("{PUBLIC}/logo.png"), "config.data, a longblob, alone");
    site.stays(&format!("{PUBLIC}/favicon.ico"), "config.data, a longblob, alone");
    let picture = json!({"settings": {"default_image": {"uuid": uuid(5), "alt": ""}, "uri": "public://default_images/nobody.png"}});
    site.row("config", &[("name", "field.storage.node.field_image"), ("data", &php(&picture))]);
    site.stays(&format!("{PUBLIC}/default_images/nobody.png"), "a field's default file, in config.data");
    site.row("cache_entity", &[("cid", "values:file:9"), ("data", &php(&json!({"uri": "public://2024-05/cached.jpg"})))]);
    site.either(&format!("{PUBLIC}/2024-05/cached.jpg"), "a cache alone mentions it");
    let css = json!({"a1": "public://css/css_x7.css"});
    site.row("key_value", &[("collection", "state"), ("name", "drupal_css_cache_files"), ("value", &php(&css))]);
    site.either(&format!("{PUBLIC}/css/css_x7.css"), "an aggregate, which is made again");
    for n in 0..5 {
        site.goes(&format!("{PUBLIC}/2024-06/stray_{n}.jpg"), "an upload without a row");
    }
    for name in [
        format!("{PUBLIC}/.htaccess"),
        "private/.htaccess".to_owned(),
        format!("{PUBLIC}/inline-images/index.html"),
        format!("{PUBLIC}/web.config"),
    ] {
        site.stays(&name, "it keeps what was uploaded from being run or listed");
    }
    site
}

fn file(site: &mut Site, fid: usize, uri: &str) {
    let (id, name) = (fid.to_string(), uri.rsplit('/').next().unwrap_or(uri));
    let values = [("langcode", "en"), ("uid", "1"), ("filename", name), ("uri", uri), ("filemime", "image/jpeg"), ("status", "1")];
    site.row("file_managed", &[&values[..], &[("fid", &id), ("uuid", &uuid(fid as u64))]].concat());
}
