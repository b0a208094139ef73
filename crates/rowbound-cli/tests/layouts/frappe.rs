//! Frappe: `tabFile.file_url` is a path that is not encoded, in two folders; other documents hold such paths in fields
//! of their own.
//! Sources (frappe/frappe): frappe/core/doctype/file/file.json and file.py (`/files/`, `/private/files/`),
//! version/version.json, deleted_document/deleted_document.json, frappe/database/mariadb/framework_mariadb.sql
//! (`tabSingles`).

use rowbound_testkit::Backend;
use serde_json::json;

use crate::site::{ODD, Site, hex};

const PUBLIC: &str = "sites/example.org/public/files";
const PRIVATE: &str = "sites/example.org/private/files";

pub async fn site() -> Site {
    let mut site = Site::new("Frappe", Backend::Mariadb, &[("default", PUBLIC), ("private", PRIVATE)]).await;
    let document = "`name` varchar(140) not null primary key, `creation` datetime(6), `modified` datetime(6),
        `modified_by` varchar(140), `owner` varchar(140), \
                    `docstatus` tinyint not null default 0, `idx` int not null default 0";
    for (table, fields) in [
        (
            "tabFile",
            "`file_name` varchar(140), `is_private` tinyint not null default 0, `file_size` bigint not null default 0,
                `file_url` longtext, `thumbnail_url` text, \
             `folder` varchar(255), `is_folder` tinyint not null default 0, `attached_to_doctype` varchar(140),
                 `attached_to_name` varchar(140), \
             `attached_to_field` varchar(140), `content_hash` varchar(140), `file_type` varchar(140)",
        ),
        ("tabItem", "`item_name` varchar(140), `image` text, `description` longtext"),
        ("tabUser", "`email` varchar(140), `user_image` text, `banner_image` text"),
        ("tabVersion", "`ref_doctype` varchar(140), `docname` varchar(140), `data` longtext"),
        ("tabComment", "`comment_type` varchar(140), `content` longtext, `reference_doctype` varchar(140)"),
        (
            "tabDeleted Document",
            "`deleted_name` varchar(140), `deleted_doctype` varchar(140), `restored` tinyint not null default 0, `data` longtext",
        ),
        ("tabWeb Page", "`title` varchar(140), `main_section_html` longtext"),
    ] {
        site.schema(&format!(
            "create table `{table}` ({document},
            {fields}) engine=InnoDB row_format=dynamic character set utf8mb4 collate utf8mb4_unicode_ci;\n"
        ));
    }
    site.schema(
        "create table `tabSingles` (`doctype` varchar(255), `field` varchar(255), `value` longtext,
            key `singles_doctype_field_index` (`doctype`, `field`)) \
         engine=InnoDB row_format=dynamic character set utf8mb4 collate utf8mb4_unicode_ci;",
    );
    for n in 0..50 {
        let name = format!("photo{n}.jpg");
        file(&mut site, &format!("f{n:09}"), &format!("/files/{name}"), false);
        match n {
            0..5 => site.goes(&format!("{PUBLIC}/{name}"), "tabFile.file_url, deleted"),
            _ => site.stays(&format!("{PUBLIC}/{name}"), "tabFile.file_url"),
        }
        if n >= 10 && n % 3 == 0 {
            let image = format!("/files/{name}");
            site.row("tabItem", &[("name", &format!("ITEM-{n}")), ("item_name", "a thing"), ("image", &image)]);
        }
    }
    for n in 0..50 {
        let name = format!("invoice{n}.pdf");
        file(&mut site, &format!("p{n:09}"), &format!("/private/files/{name}"), true);
        match n {
            0..3 => site.goes(&format!("{PRIVATE}/{name}"), "tabFile.file_url, deleted"),
            _ => site.stays(&format!("{PRIVATE}/{name}"), "tabFile.file_url"),
        }
    }
    site.later("delete from tabFile where name < 'f000000005' or (name like 'p%' and name < 'p000000003')");
    // Frappe keeps what it deletes, as JSON, in a table that may be empty until then.
    let data = json!({"doctype": "File", "name": "fold", "file_url": "/files/archived.jpg", "is_private": 0}).to_string();
    file(&mut site, "fold", "/files/archived.jpg", false);
    site.later("delete from tabFile where name = 'fold'");
    site.later_row("tabDeleted Document", &[("name", "d1"), ("deleted_name", "fold"), ("deleted_doctype", "File"), ("data", &data)]);
    site.stays(&format!("{PUBLIC}/archived.jpg"), "tabDeleted Document.data, which was empty at `attach`, and from which it is restored");

    for (n, name) in ODD.iter().enumerate() {
        // Renamed on the disk: `file_name` is what the upload was called.
        renamed(&mut site, &format!("odd{n}"), &format!("/files/{name}"), "scan.jpg", false);
        site.stays(&format!("{PUBLIC}/{name}"), "tabFile.file_url, which is not encoded");
        renamed(&mut site, &format!("oddp{n}"), &format!("/private/files/{name}"), "scan.pdf", true);
        site.stays(&format!("{PRIVATE}/{name}"), "tabFile.file_url, which is not encoded");
    }
    site.row("tabItem", &[("name", "ITEM-A"), ("item_name", "no File"), ("image", "/files/only in item.jpg")]);
    site.stays(&format!("{PUBLIC}/only in item.jpg"), "tabItem.image alone");
    site.row("tabItem", &[("name", "ITEM-B"), ("item_name", "imported"), ("image", "https://old.example.org/files/imported.jpg")]);
    site.stays(&format!("{PUBLIC}/imported.jpg"), "tabItem.image, under a host that one value has");
    for n in 0..12 {
        site.row("tabSingles", &[("doctype", "System Settings"), ("field", &format!("field_{n}")), ("value", "1")]);
    }
    site.row("tabSingles", &[("doctype", "Website Settings"), ("field", "app_logo"), ("value", "/files/logo.png")]);
    site.stays(&format!("{PUBLIC}/logo.png"), "one of 13 values of tabSingles");
    site.row("tabUser", &[("name", "a@example.org"), ("email", "a@example.org"), ("user_image", "/files/me.jpg")]);
    site.stays(&format!("{PUBLIC}/me.jpg"), "tabUser.user_image");
    for n in 0..20 {
        let data = json!({"changed": [["item_name", "a", "b"]], "added": [], "removed": [], "row_changed": []});
        site.row("tabVersion", &[("name", &format!("v{n}")), ("ref_doctype", "Item"), ("docname", "ITEM-9"), ("data", &data.to_string())]);
    }
    let data = json!({"changed": [["image", "/files/before.jpg", "/files/photo12.jpg"]], "added": [], "removed": [], "row_changed": []});
    site.row("tabVersion", &[("name", "v99"), ("ref_doctype", "Item"), ("docname", "ITEM-12"), ("data", &data.to_string())]);
    site.stays(&format!("{PUBLIC}/before.jpg"), "tabVersion.data alone");
    let content = "<p>as <a href=\"/private/files/offer%20A.pdf?fid=1a2b3c\">attached</a></p>";
    site.row("tabComment", &[("name", "c1"), ("comment_type", "Attachment"), ("content", content)]);
    site.stays(&format!("{PRIVATE}/offer A.pdf"), "tabComment.content alone, encoded, with a query");
    let html = "<section style=\"background: url('/files/hero.jpg')\">welcome</section>";
    site.row("tabWeb Page", &[("name", "home"), ("title", "home"), ("main_section_html", html)]);
    site.stays(&format!("{PUBLIC}/hero.jpg"), "tabWeb Page.main_section_html alone");
    for n in 0..4 {
        site.goes(&format!("{PUBLIC}/stray{n}.jpg"), "an upload without a row");
    }
    site.stays(&format!("{PUBLIC}/.htaccess"), "of the server");
    site
}

fn file(site: &mut Site, name: &str, url: &str, private: bool) {
    renamed(site, name, url, url.rsplit('/').next().unwrap_or(url), private);
}

fn renamed(site: &mut Site, name: &str, url: &str, was: &str, private: bool) {
    let private = if private { "1" } else { "0" };
    let values = [("name", name), ("file_name", was), ("file_url", url), ("is_private", private), ("folder", "Home")];
    site.row("tabFile", &[&values[..], &[("content_hash", &hex(url.len() as u64, 32))]].concat());
}
