//! Init: a database and its storages -> a proposed `rowbound.toml`.
//!
//! In: a database that nobody has described, and storages that are only looked at. Out: bindings, each with the evidence for it, and what a person
//! has to decide. Promise: nothing is changed, nothing is attached. A proposal is read by a person before it is used; where a sample leaves a
//! doubt, it says so instead of guessing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde::Serialize;

use crate::{
    database::{Database, survey::TextColumn},
    derivative::stem,
    error::Result,
    evidence::{Evidence, Limits, Reading, Survey, speaks_of_files, survey},
    storage::{Listed, Storage, each},
};

/// A framework, known by a table.
struct Framework {
    name: &'static str,
    table: &'static str,
    /// What a person should know of how it keeps files.
    says: &'static str,
}

const FRAMEWORKS: [Framework; 6] = [
    Framework {
        name: "Django",
        table: "django_migrations",
        says: "a FileField or ImageField is a varchar (of 100 characters, if its model says nothing else) that holds the name within MEDIA_ROOT or the bucket",
    },
    Framework { name: "Rails", table: "ar_internal_metadata", says: "migrations keep nothing of files; Active Storage and CarrierWave do" },
    Framework {
        name: "Active Storage",
        table: "active_storage_blobs",
        says: "`key` is the object's name in a bucket; the Disk service keeps it as `ab/cd/abcd..` instead, which no column holds",
    },
    Framework {
        name: "Laravel Media Library",
        table: "media",
        says: "files lie under `{id}/{file_name}`, which no single column holds: see docs/bindings.md",
    },
    Framework {
        name: "Wagtail",
        table: "wagtailcore_page",
        says: "renditions are rows of their own: bind their column, and no `derivatives` are needed. It deletes files itself, which makes releases `missing`: docs/operations.md#who-else-deletes-files",
    },
    Framework {
        name: "Oscar",
        table: "catalogue_productimage",
        says: "it deletes the files of product images and categories itself, which makes releases `missing`: set OSCAR_DELETE_IMAGE_FILES = False",
    },
];

/// Tables that repeat names without needing the files.
const COPIES: [(&str, &str); 6] = [
    ("django_admin_log", "what administrators did: labels, no references"),
    ("django_session", "sessions: what a visitor looked at, no references"),
    ("easy_thumbnails_source", "a cache of easy-thumbnails: it would keep every original for ever"),
    ("easy_thumbnails_thumbnail", "a cache of easy-thumbnails: `derivatives` takes thumbnails along"),
    ("easy_thumbnails_thumbnaildimensions", "a cache of easy-thumbnails"),
    ("thumbnail_kvstore", "a cache of sorl-thumbnail: it would keep every original for ever"),
];

/// A binding that is proposed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Proposed {
    /// What was seen.
    pub evidence: Evidence,
    /// Presets of derivatives that were seen beside its files.
    pub derivatives: Vec<&'static str>,
    /// Why a person has to decide; empty where the evidence speaks for itself.
    pub doubts: Vec<String>,
}

/// A column that is proposed to be ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ignored {
    /// The column.
    pub column: String,
    /// Why.
    pub why: String,
}

/// What `rowbound init` answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Proposal {
    /// Frameworks that were recognised, and what follows from it.
    pub frameworks: Vec<(&'static str, &'static str)>,
    /// Bindings that are certain enough.
    pub bindings: Vec<Proposed>,
    /// Columns that name files, but of which a person has to say how, or whether.
    pub unsure: Vec<Proposed>,
    /// Columns that name files, but are known to be no references.
    pub ignore: Vec<Ignored>,
    /// Columns that look as if they named files, of which no storage has one; with one of their values.
    pub elsewhere: Vec<(String, String)>,
    /// Columns without a value whose names speak of files.
    pub empty: Vec<String>,
    /// Columns that were not looked at, and why.
    pub unread: Vec<(String, String)>,
    /// How many columns had values that were looked at.
    pub looked: usize,
}

/// How many distinct values of each column are looked up.
const VALUES: usize = 500;
const TIME: Duration = Duration::from_secs(300);

/// Looks at every text column and proposes bindings. The storages may be attached or not.
///
/// # Errors
/// Of the database or a storage.
pub async fn propose(db: &dyn Database, storages: &BTreeMap<String, Arc<dyn Storage>>) -> Result<Proposal> {
    let tables: BTreeSet<String> = db.text_columns().await?.into_iter().map(|c| c.column.table).collect();
    let seen = survey(db, storages, Limits { values: VALUES, time: TIME }, |_| false).await?;
    let Survey { mut evidence, alike, unread, empty, looked, .. } = seen;
    let shown = |c: &TextColumn| c.column.to_string();
    let mut proposal = Proposal {
        frameworks: FRAMEWORKS.iter().filter(|f| tables.contains(f.table)).map(|f| (f.name, f.says)).collect(),
        elsewhere: alike.iter().map(|a| (shown(&a.column), a.value.clone())).collect(),
        empty: empty.iter().filter(|c| speaks_of_files(&c.column.column)).map(shown).collect(),
        unread: unread.iter().map(|u| (shown(&u.column), u.why.clone())).collect(),
        looked,
        ..Proposal::default()
    };
    evidence.sort_by(|a, b| (&a.column.schema, &a.column.column, &a.storage).cmp(&(&b.column.schema, &b.column.column, &b.storage)));
    for seen in &evidence {
        let column = shown(&seen.column);
        if let Some((_, why)) = COPIES.iter().find(|(table, _)| *table == seen.column.column.table) {
            if !proposal.ignore.iter().any(|i| i.column == column) {
                proposal.ignore.push(Ignored { column, why: (*why).to_owned() });
            }
            continue;
        }
        let mut doubts = doubts(seen);
        if let Some(other) =
            evidence.iter().find(|o| o.column.column == seen.column.column && o.storage != seen.storage && o.prefixes == seen.prefixes)
        {
            doubts.push(format!("{} name files of {} too: which one is meant?", other.share(), other.storage));
        }
        let derivatives = match storages.get(&seen.storage) {
            Some(storage) if matches!(seen.reading, Reading::Name | Reading::Url) => derivatives(storage.as_ref(), seen).await?,
            _ => Vec::new(),
        };
        let sure = doubts.is_empty();
        let proposed = Proposed { evidence: seen.clone(), derivatives, doubts };
        if sure { proposal.bindings.push(proposed) } else { proposal.unsure.push(proposed) }
    }
    Ok(proposal)
}

/// What speaks against taking the evidence as it is.
fn doubts(seen: &Evidence) -> Vec<String> {
    let mut doubts = Vec::new();
    let percent = seen.found * 100 / seen.sampled.max(1);
    match seen.reading {
        Reading::Name | Reading::Url | Reading::Array if percent < 50 => {
            doubts.push(format!(
                "most of its values are no files of {}: is it another storage, or is the likeness an accident?",
                seen.storage
            ));
        }
        // Of texts and JSON many mention no file at all.
        Reading::Text | Reading::Json if seen.found < 3 && percent < 10 => {
            doubts.push("few of its values name a file: is it an accident?".to_owned())
        }
        _ => {}
    }
    let whole = |p: &&String| !(p.starts_with('/') || p.contains("://"));
    if let Some(prefix) = seen.prefixes.iter().find(whole).filter(|_| seen.reading != Reading::Json) {
        doubts.push(format!("its names begin with {prefix:?}, which the storage's do not: is the storage one folder too deep?"));
    }
    if seen.reading == Reading::Text && seen.prefixes.is_empty() {
        doubts.push("the names stand in its text without anything before them".to_owned());
    }
    if seen.column.generated {
        doubts.push("it is computed from other columns".to_owned());
    }
    doubts
}

/// Presets whose files were seen beside those of a column.
async fn derivatives(storage: &dyn Storage, seen: &Evidence) -> Result<Vec<&'static str>> {
    let (mut imagekit, mut thumbnails) = (false, false);
    for name in &seen.names {
        imagekit |= any(storage, &format!("CACHE/images/{}/", stem(name.as_str())), |_| true).await?;
        // photo.jpg.300x200_q85_crop.jpg
        let begin = format!("{name}.");
        thumbnails |= any(storage, &begin, |rest| {
            let size = rest.split(['_', '.']).next().unwrap_or_default();
            size.split_once('x').is_some_and(|(w, h)| w.parse::<u32>().is_ok() && h.parse::<u32>().is_ok()) && rest.contains("_q")
        })
        .await?;
    }
    Ok([("imagekit", imagekit), ("easy-thumbnails", thumbnails)].into_iter().filter(|(_, seen)| *seen).map(|(preset, _)| preset).collect())
}

/// Whether there is a file whose name begins with `prefix` and goes on as wanted; of many only the first are looked at.
async fn any(storage: &dyn Storage, prefix: &str, wanted: impl Fn(&str) -> bool) -> Result<bool> {
    let (mut found, mut left) = (false, 50);
    each(storage, prefix, |entry| {
        if let Listed::File(file) = entry {
            found |= file.as_str().strip_prefix(prefix).is_some_and(&wanted);
        }
        left -= 1;
        !found && left > 0
    })
    .await?;
    Ok(found)
}

impl Proposal {
    /// The proposal as the text of `rowbound.toml`. `database` and the storages' URLs stand in it as they are.
    pub fn toml(&self, database: &str, storages: &[(String, String)]) -> String {
        let mut out = String::from(
            "# Proposed by `rowbound init`: a proposal from samples. Read it, complete it, then `rowbound attach`; until then nothing is changed.\n",
        );
        out += &format!("# {} text columns have values; a column counts where sampled values are files of a storage.\n", self.looked);
        for (name, says) in &self.frameworks {
            out += &format!("# {name}: {says}.\n");
        }
        out += &format!("\ndatabase = {}\n", text(database));
        if !self.ignore.is_empty() {
            out += "# Columns that repeat names without needing the files.\nignore = [\n";
            for i in &self.ignore {
                out += &format!("    {}, # {}\n", text(&i.column), i.why);
            }
            out += "]\n";
        }
        for (name, url) in storages {
            out += &format!("\n[storage.{}]\nurl = {}\n", key(name), text(url));
        }
        for p in &self.bindings {
            out += "\n";
            out += &p.toml("");
        }
        if !self.unsure.is_empty() {
            out += "\n# Undecided. `rowbound attach` refuses until each of these is bound (uncomment it) or listed in `ignore` above.\n";
            for p in &self.unsure {
                out += "\n";
                out += &p.toml("# ");
            }
        }
        let mut list = |title: &str, items: Vec<String>| {
            if !items.is_empty() {
                out += &format!("\n# {title}\n");
                for item in &items {
                    out += &format!("#   {item}\n");
                }
            }
        };
        list(
            "These look as if they named files, but no storage above has one of them. Are they elsewhere? Then nothing here touches them.",
            self.elsewhere.iter().map(|(column, value)| format!("{column}: {value:?}")).collect(),
        );
        list("These have no value yet, but their names speak of files. Bind those that will name some.", self.empty.clone());
        list(
            "These were not looked at.",
            self.unread.iter().map(|(column, why)| format!("{column}: {}", why.replace('\n', " "))).collect(),
        );
        if self.bindings.is_empty() && self.unsure.is_empty() {
            out += "\n# No column names a file of these storages. Is it the right database, and are the storages' urls the folders\n\
                    # that the names are relative to? A binding looks like this:\n# [[binding]]\n# column = \"table.column\"\n";
        }
        out
    }
}

impl Proposed {
    fn toml(&self, mark: &str) -> String {
        let e = &self.evidence;
        let mut lines = vec![format!(
            "# {}{} name files of {}, such as {}",
            e.share(),
            if e.partial { ", of a table that was not read whole," } else { "" },
            e.storage,
            e.example(),
        )];
        lines.extend(self.doubts.iter().map(|d| format!("# unsure: {d}")));
        let mut fields = vec!["[[binding]]".to_owned(), format!("column = {}", text(&e.column.column.to_string()))];
        if e.storage != "default" {
            fields.push(format!("storage = {}", text(&e.storage)));
        }
        let list = |items: Vec<&str>| match items.as_slice() {
            [one] => text(one),
            many => format!("[{}]", many.iter().map(|i| text(i)).collect::<Vec<_>>().join(", ")),
        };
        let prefixes = || list(e.prefixes.iter().map(String::as_str).collect());
        match e.reading {
            Reading::Name => {}
            Reading::Url => fields.extend(["kind = \"url\"".to_owned(), format!("prefix = {}", prefixes())]),
            Reading::Json => {
                fields.push("kind = \"json\"".to_owned());
                // Every string of the value, where one path does not lead to all names: what is no name keeps nothing and lets go of nothing.
                match e.paths.as_slice() {
                    [one] => fields.push(format!("path = {}", text(one))),
                    several => {
                        lines.push(format!("# the names stand at {}", several.join(", ")));
                        fields.push("path = \"$..*\"".to_owned());
                    }
                }
                if !e.prefixes.is_empty() {
                    fields.push(format!("prefix = {}", prefixes()));
                }
            }
            Reading::Array => fields.push("kind = \"array\"".to_owned()),
            Reading::Text => {
                fields.push("kind = \"text\"".to_owned());
                if !e.prefixes.is_empty() {
                    fields.push(format!("prefix = {}", prefixes()));
                }
            }
        }
        if !self.derivatives.is_empty() {
            fields.push(format!("derivatives = {}", list(self.derivatives.clone())));
        }
        let fields = fields.into_iter().map(|f| format!("{mark}{f}"));
        lines.into_iter().chain(fields).map(|l| l + "\n").collect()
    }
}

/// A string of TOML in which `${` means itself.
fn text(value: &str) -> String {
    toml::Value::from(value.replace("${", "$${")).to_string()
}

fn key(name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if bare { name.to_owned() } else { text(name) }
}
