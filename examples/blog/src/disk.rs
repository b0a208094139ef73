//! What is on the disk, beside the rows: for watching files come and go.
//!
//! In: a listing of the storage, the rows, the candidates, the ledger. Out: a page, and the part of it that changes. Promise: it only looks.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use askama::Template;
use axum::{
    extract::State,
    http::{StatusCode, Uri},
    response::Response,
};
use jiff::Timestamp;
use rowbound::{
    FileName,
    ledger::Filter,
    queue::{Outcome, Waiting},
    storage::{Listed, Stat, each},
};
use sea_orm::{EntityTrait, QueryFilter, entity::prelude::*};

use crate::{
    app::App,
    files::{GRACE, STAGE_TTL},
    models::{article, post, post_image},
    pages::{self, Failed, Flash, Frame, s},
};

/// So many files are looked at, and so many of them are shown.
const LOOKED_AT: usize = 1_000;
const SHOWN: usize = 120;

/// So many files that are gone are shown.
const GONE: u32 = 12;

/// A row that references a file.
struct Holder {
    what: String,
    url: String,
    title: String,
}

/// Why a file is there.
enum Why {
    /// Rows reference it.
    Named(Vec<Holder>),
    /// Nothing references it, and it is about to go: when, and what happened.
    Goes(String, String),
    /// Nothing references it, and nobody announced it: somebody put it there by hand.
    Unknown,
}

struct Shown {
    /// Tells it from another file of that name, for the script.
    key: String,
    name: String,
    url: String,
    size: String,
    age: String,
    why: Why,
}

struct Gone {
    id: i64,
    name: String,
    size: String,
    ago: String,
    why: &'static str,
}

/// What changes.
#[derive(Template)]
#[template(path = "disk_now.html")]
struct Now {
    summary: String,
    files: Vec<Shown>,
    /// Files that are not shown.
    more: usize,
    /// Whether all files were looked at.
    all: bool,
    gone: Vec<Gone>,
    /// Names in rows without a file: there should be none, ever.
    lost: Vec<String>,
}

#[derive(Template)]
#[template(path = "disk.html")]
struct Disk {
    frame: Frame,
    now: Now,
    paused: bool,
    place: String,
    grace: u64,
    ttl: u64,
}

pub async fn page(State(app): State<App>, flash: Flash, uri: Uri) -> Result<Response, Failed> {
    let storage = &app.pictures.media.plan().storages[app.pictures.media.storages().default()?.name()];
    let (frame, now, paused) = (Frame::new("disk", flash), look(&app).await?, uri.query() == Some("paused"));
    let disk = Disk { frame, now, paused, place: storage.url(), grace: GRACE.as_secs(), ttl: STAGE_TTL.as_secs() };
    Ok(pages::page(StatusCode::OK, &disk))
}

pub async fn fragment(State(app): State<App>) -> Result<Response, Failed> {
    Ok(pages::page(StatusCode::OK, &look(&app).await?))
}

/// Looks at the files first, then at the rows and the candidates: what appeared in between has its row already.
async fn look(app: &App) -> Result<Now, Failed> {
    let store = app.pictures.media.storages().default()?;
    let database = app.pictures.media.database();
    let (mut names, mut all) = (Vec::new(), true);
    each(app.pictures.storage.as_ref(), "", |listed| {
        if let Listed::File(name) = listed {
            all = names.len() < LOOKED_AT;
            names.extend(all.then_some(name));
        }
        all
    })
    .await?;
    let looks = app.pictures.storage.stat(&names).await?;
    let mut seen = Vec::new();
    for (name, look) in names.into_iter().zip(looks) {
        if let Stat::File(file) = look? {
            seen.push((name, file));
        }
    }
    seen.sort_by(|(a, x), (b, y)| y.modified.cmp(&x.modified).then_with(|| a.cmp(b)));
    let total = seen.len();
    let there: HashSet<String> = seen.iter().map(|(name, _)| name.to_string()).collect();

    let mut holders = holders(app).await?;
    let texts: Vec<String> = seen.iter().map(|(name, _)| name.to_string()).collect();
    let waiting = database.waiting(&texts).await?;
    let now = database.now().await?;
    let mut lost = Vec::new();
    for name in holders.keys().filter(|name| all && !there.contains(*name)) {
        // It may have come after the listing.
        let is_there = match FileName::parse(name) {
            Ok(name) => store.exists(&name).await?,
            Err(_) => false,
        };
        lost.extend((!is_there).then(|| name.clone()));
    }
    let (mut files, mut named, mut going) = (Vec::new(), 0, 0);
    for (name, file) in seen {
        let why = match holders.remove(name.as_str()) {
            Some(rows) => Why::Named(rows),
            None => match waiting.iter().filter(|one| one.value == name.as_str()).min_by_key(|one| due(one)) {
                Some(candidate) => {
                    // What was written just before it was released could be another upload of that name: it waits until that cannot be.
                    let new = if candidate.note.is_some() { "; it was so new that it waits" } else { "" };
                    Why::Goes(until(due(candidate), now), format!("{}{new}", told(&candidate.event)))
                }
                // Its candidate was settled while this looked: it is gone.
                None if !store.exists(&name).await? => continue,
                None => Why::Unknown,
            },
        };
        match why {
            Why::Named(_) => named += 1,
            Why::Goes(..) => going += 1,
            Why::Unknown => {}
        }
        if files.len() < SHOWN {
            let mut key = DefaultHasher::new();
            (&name, &file.version).hash(&mut key);
            files.push(Shown {
                key: format!("f{:x}", key.finish()),
                url: store.url(&name)?,
                size: bytes(file.size),
                age: span((now - file.modified).get_seconds()),
                name: name.to_string(),
                why,
            });
        }
    }
    let outcomes = vec![Outcome::Erased, Outcome::Trashed];
    let filter = Filter { storage: Some(store.name().to_owned()), outcomes, limit: Some(GONE), ..Filter::default() };
    let gone = database.history(&filter).await?.into_iter().map(|entry| Gone {
        id: entry.id,
        size: entry.size.map(bytes).unwrap_or_default(),
        ago: span((now - entry.at).get_seconds()),
        why: told(&entry.event),
        name: entry.name,
    });
    let summary = match (total, going) {
        (0, _) => "There is no file.".to_owned(),
        (n, 0) if n == named => format!("{n} file{}, each referenced by a row.", s(n)),
        (n, _) => format!("{n} file{}: {named} referenced by rows, {going} about to go.", s(n)),
    };
    Ok(Now { summary, more: total.saturating_sub(SHOWN), all, gone: gone.collect(), files, lost })
}

/// Which rows reference which file.
async fn holders(app: &App) -> Result<HashMap<String, Vec<Holder>>, Failed> {
    let mut holders: HashMap<String, Vec<Holder>> = HashMap::new();
    for row in article::Entity::find().filter(article::Column::Image.is_not_null()).all(&app.db).await? {
        if let Some(image) = row.image {
            let holder = Holder { what: format!("article {}", row.id), url: format!("/articles/{}", row.id), title: row.title };
            holders.entry(image.into()).or_default().push(holder);
        }
    }
    for (row, post) in post_image::Entity::find().find_also_related(post::Entity).all(&app.db).await? {
        let title = post.map(|post| post.title).unwrap_or_default();
        let holder = Holder { what: format!("post {}", row.post_id), url: format!("/posts/{}", row.post_id), title };
        holders.entry(row.image.into()).or_default().push(holder);
    }
    Ok(holders)
}

/// When a candidate is looked at: when it was let go and some grace, unless a moment was set.
fn due(candidate: &Waiting) -> Timestamp {
    candidate.due_at.unwrap_or(candidate.released_at + GRACE)
}

/// What happened to the row, for people.
fn told(event: &str) -> &'static str {
    match event {
        "stage" => "uploaded, and no row references it",
        "update" => "its row references another picture, or none",
        "delete" | "cascade" | "truncate" => "its row was deleted",
        _ => "no row referenced it",
    }
}

fn until(due: Timestamp, now: Timestamp) -> String {
    // Rounded up: who reads "1 s" has that long.
    match (due - now).total(jiff::Unit::Second) {
        Ok(left) if left > 0.0 => format!("goes in {} s", left.ceil()),
        _ => "goes now".to_owned(),
    }
}

fn span(seconds: i64) -> String {
    match seconds.max(0) {
        n @ 0..120 => format!("{n} s"),
        n @ 120..7_200 => format!("{} min", n / 60),
        n @ 7_200..172_800 => format!("{} h", n / 3_600),
        n => format!("{} days", n / 86_400),
    }
}

fn bytes(n: u64) -> String {
    match n {
        0..1_000 => format!("{n} B"),
        1_000..1_000_000 => format!("{:.1} kB", n as f64 / 1e3),
        _ => format!("{:.1} MB", n as f64 / 1e6),
    }
}
