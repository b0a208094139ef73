//! The report as a page: one file that a browser opens without network and without scripts.
//!
//! In: what was swept. Out: a file, written whole or not at all. Promise: names and pictures are somebody else's; all text is escaped, and a
//! policy within the page forbids everything but its own styles and pictures.

use std::{
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use askama::Template;
use jiff::Timestamp;
use rowbound::{
    Error, Kind, Result,
    sweep::{Amount, Dangling, Group, Orphan, Report},
};
use tempfile::NamedTempFile;

use super::{
    report::{Sample, Section, number, shown},
    thumbnails::{ALL, Picture, ending, pictures},
};
use crate::output;

#[derive(Template)]
#[template(path = "sweep.html")]
struct Page {
    title: String,
    version: &'static str,
    made: String,
    storages: Vec<Part>,
}

/// A storage on the page, in words.
struct Part {
    storage: String,
    url: String,
    database: String,
    prefix: String,
    began: String,
    took: String,
    brake: Option<(String, String)>,
    figures: Vec<Figure>,
    done: String,
    folders: Vec<Bar>,
    ages: Vec<Bar>,
    left: Vec<Left>,
    dangling: Vec<Row>,
    more_dangling: Option<String>,
    tiles: Vec<Tile>,
    tiles_note: String,
    listed: Vec<Tile>,
    more: Option<String>,
}

struct Figure {
    label: &'static str,
    number: String,
    note: String,
}

struct Bar {
    label: String,
    files: String,
    bytes: String,
    percent: u64,
}

struct Left {
    why: &'static str,
    files: String,
    bytes: String,
}

struct Row {
    name: String,
    column: String,
    key: String,
    state: String,
}

struct Tile {
    folder: String,
    base: String,
    size: String,
    modified: String,
    /// `data:` URI, width, height.
    picture: Option<(String, u32, u32)>,
    ending: String,
    why: &'static str,
}

/// Where the page is to be. Made before anything is swept, so that a place that cannot be written is known before anything is done.
#[derive(Debug)]
pub struct Target {
    path: PathBuf,
    file: NamedTempFile,
}

impl Target {
    /// A place for the page; there is nothing under `path` until it is written.
    ///
    /// # Errors
    /// [`Kind::Config`] when no file can be made there.
    pub fn new(path: &Path) -> Result<Self> {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = tempfile::Builder::new()
            .prefix(".rowbound-report.")
            // As any file that a program makes: the umask decides.
            .permissions(std::fs::Permissions::from_mode(0o666))
            .tempfile_in(folder)
            .and_then(|file| rowbound::owner::give_to_folder(file.as_file(), path).map(|()| file))
            .map_err(|e| failed(path, e))?;
        Ok(Target { path: path.to_owned(), file })
    }

    /// Makes the page and puts it there, over what was there before.
    ///
    /// # Errors
    /// [`Kind::Config`] when it cannot be written; there is no half of one then.
    pub async fn write(self, swept: Vec<Section>) -> Result<()> {
        let Target { path, mut file } = self;
        let page = page(swept).await.render().map_err(|e| Error::new(Kind::Config, "cannot make the report").because(e))?;
        file.write_all(page.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(|e| failed(&path, e))?;
        file.persist(&path).map(drop).map_err(|e| failed(&path, e.error))
    }
}

fn failed(path: &Path, why: std::io::Error) -> Error {
    Error::new(Kind::Config, "cannot write the report")
        .with("file", path.display())
        .because(why)
        .hint("is the folder there, and may it be written to?")
}

async fn page(swept: Vec<Section>) -> Page {
    let until = std::time::Instant::now() + ALL;
    let names: Vec<&str> = swept.iter().map(|s| s.report.storage.as_str()).collect();
    let orphans: u64 = swept.iter().map(|s| s.report.orphans.files).sum();
    let title = format!("{} of {}", count(orphans, "orphan"), names.join(", "));
    let made = output::moment(swept.iter().map(|s| s.report.ended).max().unwrap_or_else(Timestamp::now));
    let mut storages = Vec::new();
    for Section { report, findings, storage } in swept {
        let sample = findings.sample();
        let left = until.saturating_duration_since(std::time::Instant::now());
        let pictures = pictures(&storage, &sample.shown, left).await;
        storages.push(part(&report, &sample, pictures));
    }
    Page { title, version: env!("CARGO_PKG_VERSION"), made, storages }
}

fn part(r: &Report, sample: &Sample, pictures: Vec<Picture>) -> Part {
    let weight = |a: Amount| output::bytes(a.bytes);
    let left = [
        ("too young to judge: uploads whose row may still come", r.young.files, weight(r.young)),
        ("made from a file that is there", r.derived.files, weight(r.derived)),
        ("mentioned by a row, outside of what its binding reads", r.mentioned.files, weight(r.mentioned)),
        ("held: their names stand in other values of the database", r.held.files, weight(r.held)),
        ("referenced, perhaps, in another spelling or under another prefix", r.otherwise.files, weight(r.otherwise)),
        ("under a keep or an ignore pattern", r.protected, String::new()),
        ("links, and names that no row could hold", r.odd, String::new()),
    ];
    let known = sample.shown.len() + sample.listed.len();
    let hidden = r.orphans.files.saturating_sub(known as u64);
    let rows = sample.rows.max(sample.dangling.len() as u64) - sample.dangling.len() as u64;
    let none_shown = (0..sample.listed.len()).map(|_| Picture::Tile(""));
    Part {
        storage: shown(&r.storage),
        url: shown(&r.url),
        database: shown(&r.database),
        prefix: shown(&r.prefix),
        began: output::moment(r.started),
        took: output::length(u64::try_from(r.ended.as_second() - r.started.as_second()).unwrap_or(0)),
        brake: r.brake.as_ref().map(|b| (shown(&[std::slice::from_ref(&b.why), &b.alike].concat().join("; ")), shown(&b.hint))),
        figures: vec![
            Figure { label: "Orphans", number: number(r.orphans.files), note: format!("{}, referenced by no row", weight(r.orphans)) },
            Figure { label: "Files", number: number(r.files), note: "in the storage".into() },
            Figure { label: "References", number: number(r.references), note: "different names in rows".into() },
            Figure {
                label: "Dangling",
                number: number(r.dangling),
                note: match (r.dangling, r.in_trash) {
                    (0, _) => "every name has its file".into(),
                    (_, 0) => "names without a file".into(),
                    (_, n) => format!("names without a file; the trash holds {}", number(n)),
                },
            },
        ],
        done: done(r),
        folders: bars(&r.by_folder, r.orphans, |label| if label.is_empty() { "(the storage\u{2019}s root)".into() } else { shown(label) }),
        ages: bars(&r.by_age, r.orphans, shown),
        left: left
            .into_iter()
            .filter(|(_, files, _)| *files > 0)
            .map(|(why, files, bytes)| Left { why, files: number(files), bytes })
            .collect(),
        dangling: sample.dangling.iter().map(|d| row(d, r.healed > 0)).collect(),
        more_dangling: (rows > 0).then(|| format!("and {} more: rowbound sweep --format csv", number(rows))),
        tiles_note: match (sample.shown.len() as u64, r.orphans.files) {
            (n, all) if n >= all => count(all, "file"),
            (n, all) => format!("{} of {} files, drawn by lot from all folders", number(n), number(all)),
        },
        tiles: tiles(&sample.shown, pictures.into_iter()),
        listed: tiles(&sample.listed, none_shown),
        more: (hidden > 0).then(|| format!("and {} more: rowbound sweep --list", number(hidden))),
    }
}

fn done(r: &Report) -> String {
    if r.brake.is_some() {
        return "Nothing was changed.".to_owned();
    }
    let mut said = match (r.orphans.files, r.announced) {
        (0, _) => "Every file that is old enough to judge is referenced by a row.".to_owned(),
        (_, 0) => {
            "Nothing was deleted: this is a report. rowbound sweep --delete hands the orphans to the collector, which looks at each one \
                   again before it goes."
                .to_owned()
        }
        (_, n) => format!("{} became candidates: the collector looks at each one again before it goes.", count(n, "orphan")),
    };
    if r.healed > 0 {
        said.push_str(&format!(" {} came back from the trash.", count(r.healed, "file")));
    }
    said
}

fn bars(groups: &[Group], all: Amount, label: impl Fn(&str) -> String) -> Vec<Bar> {
    let percent = |a: Amount| a.bytes.saturating_mul(100).checked_div(all.bytes).unwrap_or(0).min(100);
    let bar = |g: &Group| Bar {
        label: label(&g.label),
        files: number(g.amount.files),
        bytes: output::bytes(g.amount.bytes),
        percent: percent(g.amount),
    };
    groups.iter().filter(|g| g.amount.files > 0).map(bar).collect()
}

fn row(d: &Dangling, healed: bool) -> Row {
    Row {
        name: shown(d.name.as_str()),
        column: shown(&d.column),
        key: d.key.as_deref().map(shown).unwrap_or_default(),
        state: match (&d.file, d.in_trash, healed) {
            (Some(file), ..) => format!("the file is {}", super::pair(d.name.as_str(), file.as_str())),
            (None, false, _) => "gone".to_owned(),
            (None, true, false) => "in the trash".to_owned(),
            (None, true, true) => "was in the trash".to_owned(),
        },
    }
}

fn tiles(orphans: &[Orphan], pictures: impl Iterator<Item = Picture>) -> Vec<Tile> {
    let tile = |(o, picture): (&Orphan, Picture)| {
        let (picture, why) = match picture {
            Picture::Thumbnail { uri, width, height } => (Some((uri, width, height)), ""),
            Picture::Tile(why) => (None, why),
        };
        Tile {
            folder: o.name.folder().map(|f| format!("{}/", shown(f))).unwrap_or_default(),
            base: shown(o.name.base()),
            size: output::bytes(o.size),
            modified: o.modified.strftime("%Y-%m-%d").to_string(),
            picture,
            ending: ending(o.name.as_str()).unwrap_or_else(|| "file".into()),
            why,
        }
    };
    orphans.iter().zip(pictures).map(tile).collect()
}

fn count(n: u64, one: &str) -> String {
    format!("{} {one}{}", number(n), if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests;
