//! Zulip: `zerver_attachment.path_id` is the name; deleted attachments are moved to an archive, from which they can be
//! restored. The names of avatars are hashes with a secret.
//! Sources (zulip/zulip): zerver/models/messages.py (Attachment, ArchivedAttachment, ImageAttachment),
//! zerver/lib/upload/local.py and base.py (`files/`, `avatars/`), zerver/lib/thumbnail.py
//! (`thumbnail/PATH_ID/840x560.webp`), zerver/lib/retention.py, zerver/lib/emoji.py (`REALM/emoji/images/`).

use rowbound_testkit::Backend;
use serde_json::json;

use crate::site::{Site, encoded, hex};

pub async fn site() -> Site {
    let mut site = Site::new("Zulip", Backend::Postgres, &[("default", "uploads/files"), ("avatars", "uploads/avatars")]).await;
    let attachment = "file_name text not null, path_id text not null unique, owner_id integer not null,
        realm_id integer not null, create_time timestamptz not null default now(),
                      size integer not null, deleted boolean not null default false, content_type text, is_realm_public
                      boolean, is_web_public boolean";
    let message = "sender_id integer not null, subject varchar(60) not null, content text not null,
        rendered_content text, edit_history text, has_attachment boolean not null default true";
    site.schema(&format!(
        "create table zerver_attachment (id serial primary key, {attachment});
         create table zerver_archivedattachment (id integer primary key, {attachment});
         create table zerver_message (id serial primary key, {message});
         create table zerver_archivedmessage (id integer primary key, {message});
         create table zerver_imageattachment (id serial primary key, realm_id integer not null, path_id text not null
           unique, content_type text,
           original_width_px integer not null, original_height_px integer not null, frames integer not null,
           thumbnail_metadata jsonb not null default '[]');
         create table zerver_draft (id serial primary key, user_profile_id integer not null, topic varchar(60) not null,
           content text not null);
         create table zerver_realmemoji (id serial primary key, name text not null, file_name text, is_animated boolean
           not null default false, deactivated boolean not null default false);
         create table zerver_userprofile (id serial primary key, full_name varchar(100) not null, avatar_source
           varchar(1) not null default 'U', avatar_version smallint not null default 1,
           avatar_hash varchar(64));",
    ));
    for n in 0..90 {
        let name = match n {
            20 => "M\u{fc}ller-Bericht.pdf".to_owned(),
            21 => "\u{6771}\u{4eac}.jpg".to_owned(),
            _ => format!("photo-{n}.jpg"),
        };
        let path = format!("2/{}/{}/{name}", hex(n, 2), &hex(n + 1_000, 24));
        let id = (n + 1).to_string();
        let values = [
            ("file_name", &*name),
            ("path_id", &path),
            ("owner_id", "1"),
            ("realm_id", "2"),
            ("size", "100"),
            ("content_type", "image/jpeg"),
        ];
        site.row("zerver_attachment", &[&values[..], &[("id", &id)]].concat());
        let link = encoded(&path);
        let content = format!("see [{name}](/user_uploads/{path})");
        let rendered = format!("<p>see <a href=\"/user_uploads/{link}\">{name}</a></p>");
        site.row(
            "zerver_message",
            &[("id", &id), ("sender_id", "1"), ("subject", "photos"), ("content", &content), ("rendered_content", &rendered)],
        );
        let file = format!("uploads/files/{path}");
        match n {
            0..5 => site.goes(&file, "zerver_attachment.path_id, deleted"),
            5..8 => site.stays(&file, "zerver_archivedattachment.path_id, which was empty at `attach`"),
            8 => site.stays(&file, "its attachment is deleted; a message shows it"),
            _ => site.stays(&file, "zerver_attachment.path_id"),
        }
        if n % 4 == 0 && n != 8 {
            let thumbnail = format!("uploads/files/thumbnail/{path}/840x560.webp");
            let metadata = json!([{"extension": "webp", "max_width": 840, "max_height": 560, "animated": false,
                "content_type": "image/webp", "byte_size": 9}])
            .to_string();
            let sizes = [("realm_id", "2"), ("original_width_px", "1"), ("original_height_px", "1"), ("frames", "1")];
            site.row("zerver_imageattachment", &[&sizes[..], &[("path_id", &path), ("thumbnail_metadata", &metadata)]].concat());
            match n {
                0..5 => site.goes(&thumbnail, "made of a file that is deleted"),
                _ => site.made(&thumbnail, "made of a file that a row references"),
            }
        }
        if n < 5 {
            site.later(&format!("delete from zerver_imageattachment where path_id = '{path}'"));
        }
    }
    // Retention: rows move to the archive. The archive's rows go a month later.
    let columns = "id, file_name, path_id, owner_id, realm_id, create_time, size, deleted, content_type, is_realm_public, is_web_public";
    site.later(&format!(
        "insert into zerver_archivedattachment ({columns}) select {columns} from zerver_attachment where id between 6 and 8"
    ));
    let columns = "id, sender_id, subject, content, rendered_content, edit_history, has_attachment";
    site.later(&format!("insert into zerver_archivedmessage ({columns}) select {columns} from zerver_message where id between 6 and 8"));
    site.later("delete from zerver_attachment where id <= 9");
    site.later("delete from zerver_message where id <= 8");
    // A draft alone.
    let path = format!("2/{}/{}/draft.jpg", hex(300, 2), hex(301, 24));
    site.row(
        "zerver_draft",
        &[("user_profile_id", "1"), ("topic", "soon"), ("content", &format!("[draft](https://chat.example.org/user_uploads/{path}?x=1)"))],
    );
    site.stays(&format!("uploads/files/{path}"), "zerver_draft.content alone, under a host");
    for n in 0..4 {
        site.goes(&format!("uploads/files/2/{}/{}/stray.jpg", hex(310 + n, 2), hex(320 + n, 24)), "an upload without a row");
    }
    // Avatars: the SHA-1 of the user's number and the server's secret.
    for n in 0..12 {
        site.row("zerver_userprofile", &[("full_name", &format!("user {n}"))]);
        for end in [".png", "-medium.png", ".original"] {
            site.stays(&format!("uploads/avatars/2/{}{end}", hex(400 + n, 40)), "an avatar, whose name no column holds");
        }
    }
    for n in 0..3 {
        site.row("zerver_realmemoji", &[("name", &format!("emoji{n}")), ("file_name", &format!("{n}.png"))]);
        site.stays(&format!("uploads/avatars/2/emoji/images/{n}.png"), "an emoji, of whose name zerver_realmemoji.file_name holds the end");
    }
    site.stays("uploads/avatars/2/realm/icon.png", "a realm's icon, whose name no column holds");
    site
}
