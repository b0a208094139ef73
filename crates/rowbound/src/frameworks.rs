//! What is known of frameworks, by their tables: how they keep files, which tables repeat names, and who deletes files besides Rowbound.
//!
//! In: the columns of a database. Out: what `init` and `doctor` say of it. Promise: a framework is known by a table **and** columns of it: many applications have a
//! table `media`.

use crate::database::survey::TextColumn;

/// A framework.
#[derive(Debug)]
pub(crate) struct Framework {
    /// Its name.
    pub name: &'static str,
    /// A table that it makes, and columns of it that hold text.
    table: (&'static str, &'static [&'static str]),
    /// What a person should know of how it keeps files.
    pub says: &'static str,
    /// Whether it deletes files itself, and how that is switched off.
    pub deletes: Option<&'static str>,
    /// Files that it needs although no row references them, as patterns.
    pub needs: &'static [&'static str],
}

/// All that are known.
const FRAMEWORKS: [Framework; 8] = [
    Framework {
        name: "Django",
        table: ("django_migrations", &["app", "name"]),
        says: "a FileField or ImageField is a varchar (of 100 characters, if its model says nothing else) that holds the name within MEDIA_ROOT or the bucket",
        deletes: Some("django-cleanup deletes the files of every model; take `django_cleanup` out of INSTALLED_APPS"),
        needs: &[],
    },
    Framework {
        name: "Rails",
        table: ("ar_internal_metadata", &["key", "value"]),
        says: "migrations keep nothing of files; Active Storage and CarrierWave do",
        deletes: None,
        needs: &[],
    },
    Framework {
        name: "Active Storage",
        table: ("active_storage_blobs", &["key", "filename"]),
        says: "`key` is the object's name in a bucket; the Disk service keeps the file `abcd..` as `ab/cd/abcd..`: kind = \"active-storage-key\"",
        deletes: Some(
            "Active Storage deletes the files of blobs that it purges (`purge_later`); Rowbound collects those whose rows went another way",
        ),
        needs: &[],
    },
    Framework {
        name: "Laravel Media Library",
        table: ("media", &["collection_name", "file_name", "model_type"]),
        says: "files lie under `{id}/{file_name}`, which no single column holds: see docs/bindings.md",
        deletes: Some(
            "Laravel Media Library deletes the files of models that it sees go; Rowbound collects those whose rows went another way",
        ),
        needs: &[],
    },
    Framework {
        name: "Wagtail",
        table: ("wagtailcore_page", &["title"]),
        says: "renditions are rows of their own: bind their column, and no `derivatives` are needed",
        deletes: Some(
            "Wagtail deletes the files of images, renditions and documents itself; disconnect its receivers `post_delete_file_cleanup`",
        ),
        needs: &[],
    },
    Framework {
        name: "Oscar",
        table: ("catalogue_productimage", &["original"]),
        says: "the pictures of products are in `catalogue_productimage.original`",
        deletes: Some("Oscar deletes the files of product images and categories itself; set OSCAR_DELETE_IMAGE_FILES = False"),
        needs: &["image_not_found.jpg"],
    },
    Framework {
        name: "sorl-thumbnail",
        table: ("thumbnail_kvstore", &["key", "value"]),
        says: "preset `sorl`: its table is bound (`$.name`), so that a thumbnail lives as long as its row. The table references originals too: run `thumbnail cleanup` from time to \
               time, or it keeps them",
        deletes: None,
        needs: &[],
    },
    Framework {
        name: "django-reversion",
        table: ("reversion_version", &["serialized_data"]),
        says: "its table keeps every file that an old version of a row references, and it should: a version that is restored needs its files",
        deletes: None,
        needs: &[],
    },
];

/// The frameworks that made some of these columns.
pub(crate) fn known(columns: &[TextColumn]) -> impl Iterator<Item = &'static Framework> {
    FRAMEWORKS.iter().filter(move |f| {
        let (table, wanted) = f.table;
        wanted.iter().all(|column| columns.iter().any(|c| c.column.table == table && c.column.column == *column))
    })
}

/// How to stop others from deleting files: those whose tables are there, or all that are known.
pub(crate) fn deleters(columns: &[TextColumn]) -> Vec<&'static str> {
    let known: Vec<&str> = known(columns).filter_map(|f| f.deletes).collect();
    let all = if known.is_empty() { FRAMEWORKS.iter().filter_map(|f| f.deletes).collect() } else { known };
    // What is built on another comes first: it is the likelier one.
    all.into_iter().rev().collect()
}

/// Tables that repeat names without needing the files, and columns of theirs that hold text.
const COPIES: [(&str, &[&str], &str); 4] = [
    ("django_admin_log", &["object_repr", "change_message"], "what administrators did: labels, no references"),
    ("django_session", &["session_key", "session_data"], "sessions: what a visitor looked at, no references"),
    ("easy_thumbnails_source", &["storage_hash", "name"], "a cache of easy-thumbnails: it would keep every original for ever"),
    (THUMBNAILS, &["storage_hash", "name"], "a cache of easy-thumbnails: `derivatives` takes thumbnails along"),
];

/// The table in which easy-thumbnails remembers what it made.
pub(crate) const THUMBNAILS: &str = "easy_thumbnails_thumbnail";

/// Why the rows of a table need no files, if it is a table of a framework of which that is known.
pub(crate) fn copies(table: &TextColumn, columns: &[TextColumn]) -> Option<&'static str> {
    let has = |column: &&str| {
        columns.iter().any(|c| c.schema == table.schema && c.column.table == table.column.table && c.column.column == **column)
    };
    COPIES.iter().find(|(known, wanted, _)| *known == table.column.table && wanted.iter().all(has)).map(|(.., why)| *why)
}

/// Words of tables whose rows outlive what they tell of, and what they are.
const HISTORIES: [(&[&str], &str); 6] = [
    (&["revision", "version", "history", "historical", "archive", "audit", "changelog"], "a history"),
    (&["session", "sessions"], "a table of sessions"),
    (&["cache", "caches"], "a cache"),
    (&["log", "logs", "event", "events", "activity", "activities"], "a log"),
    (&["message", "messages", "notification", "notifications", "outbox", "email", "emails"], "a table of messages"),
    (&["job", "jobs", "queue", "task", "tasks"], "a queue"),
];

/// What a table is, by a word of its name, if its rows tell of other rows: each file stays as long as such a row does.
pub(crate) fn history(table: &str) -> Option<&'static str> {
    let table = table.to_ascii_lowercase();
    let mut words: Vec<&str> = table.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    // `historicalarticle`, `pagerevisions`
    let singular: Vec<&str> = words.iter().filter_map(|w| w.strip_suffix('s')).collect();
    words.extend(singular);
    HISTORIES
        .iter()
        .find(|(known, _)| {
            words.iter().any(|w| known.contains(w) || known.iter().any(|k| k.len() > 7 && (w.starts_with(k) || w.ends_with(k))))
        })
        .map(|(_, what)| *what)
}

/// Names that servers, editors and repositories leave in a folder of files, and patterns for the sweep's `ignore`.
pub(crate) const HOUSEKEEPING: [&str; 11] = [
    ".htaccess",
    "web.config",
    "index.html",
    "index.php",
    ".gitkeep",
    ".keep",
    ".gitignore",
    ".DS_Store",
    "Thumbs.db",
    "desktop.ini",
    ".nfs*",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histories_are_known_by_a_word_of_their_name() {
        for (table, what) in [
            ("reversion_version", Some("a history")),
            ("blog_historicalarticle", Some("a history")),
            ("wagtailcore_pagerevision", Some("a history")),
            ("order_history", Some("a history")),
            ("user_sessions", Some("a table of sessions")),
            ("cache", Some("a cache")),
            ("audit_log", Some("a history")),
            ("activity_log", Some("a log")),
            ("mail_messages", Some("a table of messages")),
            ("blog_article", None),
            ("catalogue", None),
            ("dialog", None),
            ("conversions", None),
        ] {
            assert_eq!(history(table), what, "{table}");
        }
    }
}
