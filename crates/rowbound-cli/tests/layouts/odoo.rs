//! Odoo: `ir_attachment.store_fname` is the name, shared by attachments of one content.
//! Source (odoo/odoo): odoo/addons/base/models/ir_attachment.py (`_get_path`, `_mark_for_gc`: `ab/abcd..` of the SHA-1,
//! empty files in `checklist/`).

use rowbound_testkit::Backend;

use crate::site::{ODD, Site, hex};

pub async fn site() -> Site {
    let mut site = Site::new("Odoo", Backend::Postgres, &[("default", "filestore/prod")]).await;
    site.schema(
        "create table ir_attachment (id serial primary key, name varchar not null, description text, res_model varchar,
          res_field varchar, res_id integer,
           company_id integer, type varchar not null, url varchar(1024), public boolean, access_token varchar, db_datas
           bytea, store_fname varchar,
           file_size integer, checksum varchar(40), mimetype varchar, index_content text, original_id integer references
           ir_attachment (id) on delete set null);
         create index ir_attachment__store_fname_index on ir_attachment (store_fname);
         create index ir_attachment__checksum_index on ir_attachment (checksum);
         create table mail_message (id serial primary key, subject varchar, body text, model varchar, res_id integer);
         create table ir_logging (id serial primary key, name varchar not null, level varchar, message text not null,
           path varchar not null, func varchar not null);",
    );
    for n in 0..80 {
        let name = ODD[n as usize % ODD.len()];
        let (sha, fname) = attachment(&mut site, n + 1, n, name);
        let file = format!("filestore/prod/{fname}");
        match n {
            // A content that two attachments have: one of them goes.
            0..4 => {
                attachment(&mut site, n + 500, n, "copy.jpg");
                site.stays(&file, "another attachment has the same content");
            }
            4..10 => site.goes(&file, "ir_attachment.store_fname, deleted"),
            10..13 => site.goes(&file, "ir_attachment.store_fname, replaced"),
            _ => site.stays(&file, "ir_attachment.store_fname"),
        }
        if n % 9 == 0 {
            let body = format!("<p>see <img src=\"/web/image/{}/{sha}.jpg\"></p>", n + 1);
            site.row("mail_message", &[("subject", "a picture"), ("body", if n < 13 { "<p>gone</p>" } else { &body }), ("res_id", "1")]);
        }
    }
    site.later("delete from ir_attachment where id <= 10");
    for n in 10..13 {
        let sha = hex(n + 600, 40);
        let fname = format!("{}/{sha}", &sha[..2]);
        site.later(&format!("update ir_attachment set store_fname = '{fname}', checksum = '{sha}' where id = {}", n + 1));
        site.stays(&format!("filestore/prod/{fname}"), "what an attachment was replaced with");
    }
    for n in 700..703 {
        let sha = hex(n, 40);
        site.goes(&format!("filestore/prod/{}/{sha}", &sha[..2]), "a transaction that was rolled back");
        let mark = hex(n + 10, 40);
        site.either(&format!("filestore/prod/checklist/{}/{mark}", &mark[..2]), "a mark of Odoo's own collector");
    }
    // What is only told of.
    let sha = hex(720, 40);
    let message = format!("_read_file reading /var/lib/odoo/filestore/prod/{}/{sha}", &sha[..2]);
    site.row(
        "ir_logging",
        &[("name", "odoo"), ("level", "INFO"), ("message", &message), ("path", "ir_attachment.py"), ("func", "_file_read")],
    );
    site.either(&format!("filestore/prod/{}/{sha}", &sha[..2]), "a log alone mentions it");
    site
}

fn attachment(site: &mut Site, id: u64, content: u64, name: &str) -> (String, String) {
    let sha = hex(content, 40);
    let fname = format!("{}/{sha}", &sha[..2]);
    let values = [("name", name), ("res_model", "res.partner"), ("type", "binary"), ("mimetype", "image/jpeg")];
    let id = id.to_string();
    site.row("ir_attachment", &[&values[..], &[("id", &id), ("store_fname", &fname), ("checksum", &sha)]].concat());
    (sha, fname)
}
