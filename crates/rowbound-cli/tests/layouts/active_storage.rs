//! Active Storage on its disk service: `active_storage_blobs.key` `abcd..` is the file `ab/cd/abcd..`; variants are
//! blobs of their own.
//! Sources (rails/rails): activestorage/db/migrate/20170806125915_create_active_storage_tables.rb,
//! activestorage/lib/active_storage/service/disk_service.rb, railties templates (`storage/.keep`).

use rowbound_testkit::Backend;

use crate::site::{Site, hex};

pub async fn site() -> Site {
    let mut site = Site::new("Active Storage", Backend::Postgres, &[("default", "storage")]).await;
    site.schema(
        "create table ar_internal_metadata (key varchar primary key, value varchar, created_at timestamp(6) not null
          default now(), updated_at timestamp(6) not null default now());
         create table active_storage_blobs (id bigserial primary key, key varchar not null, filename varchar not null,
           content_type varchar, metadata text, service_name varchar not null,
           byte_size bigint not null, checksum varchar, created_at timestamp(6) not null default now());
         create unique index index_active_storage_blobs_on_key on active_storage_blobs (key);
         create table active_storage_attachments (id bigserial primary key, name varchar not null, record_type varchar
           not null, record_id bigint not null,
           blob_id bigint not null references active_storage_blobs (id), created_at timestamp(6) not null default
           now());
         create table active_storage_variant_records (id bigserial primary key, blob_id bigint not null references
           active_storage_blobs (id), variation_digest varchar not null);
         create table action_text_rich_texts (id bigserial primary key, name varchar not null, body text, record_type
           varchar not null, record_id bigint not null);
         create table audits (id bigserial primary key, auditable_type varchar, auditable_id bigint, action varchar,
           audited_changes text);",
    );
    site.row("ar_internal_metadata", &[("key", "environment"), ("value", "production")]);
    for n in 1..=70 {
        let goes = n <= 5;
        let name = ["100% cotton.jpg", "C# notes.pdf", "photo.jpg"][n as usize % 3];
        let file = blob(&mut site, n, name);
        let variant = blob(&mut site, n + 200, "photo.webp");
        let (id, made) = (n.to_string(), (n + 200).to_string());
        site.row("active_storage_attachments", &[("name", "photo"), ("record_type", "Post"), ("record_id", &id), ("blob_id", &id)]);
        site.row("active_storage_variant_records", &[("id", &id), ("blob_id", &id), ("variation_digest", &hex(n + 900, 27))]);
        site.row(
            "active_storage_attachments",
            &[("name", "image"), ("record_type", "ActiveStorage::VariantRecord"), ("record_id", &id), ("blob_id", &made)],
        );
        for file in [file, variant] {
            match goes {
                true => site.goes(&file, "active_storage_blobs.key, deleted"),
                false => site.stays(&file, "active_storage_blobs.key"),
            }
        }
        if n % 10 == 0 {
            let body = format!(
                "<div>see <action-text-attachment sgid=\"{}\" filename=\"{name}\"
                url=\"/rails/active_storage/blobs/redirect/{}/{name}\"></action-text-attachment></div>",
                hex(n, 60),
                hex(n + 30, 60)
            );
            site.row("action_text_rich_texts", &[("name", "body"), ("body", &body), ("record_type", "Post"), ("record_id", &id)]);
        }
    }
    site.later("delete from active_storage_attachments where blob_id <= 5 or blob_id between 201 and 205");
    site.later("delete from active_storage_variant_records where blob_id <= 5");
    site.later("delete from active_storage_blobs where id <= 5 or id between 201 and 205");
    for n in 400..404 {
        let key = hex(n, 28);
        site.goes(&place(&key), "an upload that was never attached, whose blob is deleted");
    }
    // An audit says which blob it was.
    let key = hex(500, 28);
    site.row(
        "audits",
        &[
            ("auditable_type", "ActiveStorage::Blob"),
            ("auditable_id", "7"),
            ("action", "destroy"),
            ("audited_changes", &format!("---\nkey: {key}\nfilename: a.jpg\n")),
        ],
    );
    site.either(&place(&key), "a log alone mentions it");
    site.stays("storage/.keep", "it keeps the folder in the site's repository");
    site
}

fn place(key: &str) -> String {
    format!("storage/{}/{}/{key}", &key[..2], &key[2..4])
}

fn blob(site: &mut Site, id: u64, name: &str) -> String {
    let key = hex(id + 3_000, 28);
    let values = [
        ("filename", name),
        ("content_type", "image/jpeg"),
        ("metadata", "{\"identified\":true}"),
        ("service_name", "local"),
        ("byte_size", "9"),
    ];
    site.row("active_storage_blobs", &[&values[..], &[("id", &id.to_string()), ("key", &key)]].concat());
    place(&key)
}
