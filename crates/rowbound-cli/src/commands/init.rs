//! `rowbound init`.

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
};

use rowbound::{
    Error, Kind, Result, StoragePlan,
    database::{self, Options, redact},
    init::{Proposal, Proposed, propose},
    plan::{Location, canonical, sqlite_file},
    storage,
};
use serde::Serialize;

use crate::{
    args::{Args, InitArgs},
    exit, output,
};

/// What `init` answers.
#[derive(Debug, Serialize)]
struct Answer {
    #[serde(flatten)]
    proposal: Proposal,
    /// Where the proposal was written; `None` for stdout.
    written: Option<PathBuf>,
    /// Its text.
    toml: String,
}

pub async fn init(args: &Args, a: &InitArgs) -> Result<u8> {
    let to = a.output.clone().unwrap_or_else(|| args.config.clone());
    let to = (to != Path::new("-")).then_some(to);
    // Before the database is asked for minutes.
    if let Some(to) = to.as_ref().filter(|to| to.exists() && !a.force) {
        return Err(taken(to));
    }
    let url = canonical(&super::named::url(args)?)?;
    let beside = to.as_ref().and_then(|to| to.parent()).is_none_or(|folder| folder.as_os_str().is_empty() || folder == Path::new("."));
    let (mut storages, mut plans, mut written) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    for given in &a.storage {
        let (name, at) = named(given);
        let plan = StoragePlan::url_at(name, at)?;
        let open = storage::open(&plan)?;
        open.set_read_only();
        open.verify_marker().await.map_err(|e| e.with("storage", name))?;
        // What is relative in the file is relative to the file.
        let text = match (&plan.location, beside) {
            (Location::Folder(path), false) => format!("folder:{}", absolute(path)?.display()),
            _ => at.to_owned(),
        };
        if storages.insert(name.to_owned(), open).is_some() {
            return Err(Error::new(Kind::Config, "two storages have the same name")
                .with("storage", name)
                .hint("name them: --storage default=folder:media --storage other=folder:files"));
        }
        plans.insert(name.to_owned(), plan);
        written.push((name.to_owned(), text));
    }
    let db = database::open(&url, &Options::default()).await?;
    let _ = args.opened.set(()); // once
    let proposal = propose(db.as_ref(), &storages, &plans).await?;
    db.close().await;
    let toml = proposal.toml("[database]", &written);
    let toml = toml.replacen("\"[database]\"", &database_line(&url, beside)?, 1);
    if let Some(to) = &to {
        write(to, &toml, a.force)?;
    }
    let undecided = proposal.is_undecided();
    let answer = Answer { proposal, written: to, toml };
    match answer.written {
        Some(_) => output::answer(args.format, &answer, text)?,
        // The file itself.
        None => output::verbatim(args.format, &answer, |a| a.toml.clone())?,
    }
    Ok(if undecided { exit::LEFT } else { exit::DONE })
}

/// `name=url`, or the url of `default`.
fn named(given: &str) -> (&str, &str) {
    match given.split_once('=') {
        Some((name, url)) if !name.contains([':', '/', '?']) => (name, url),
        _ => ("default", given),
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|e| Error::new(Kind::Config, "the working directory cannot be read").because(e))
}

/// The database as it may stand in a file: without its password, and not relative to another folder.
fn database_line(url: &str, beside: bool) -> Result<String> {
    if redact(url) != url {
        // The whole from the environment: who reads the file learns nothing.
        return Ok("\"${DATABASE_URL}\" # it holds a password, which does not belong into a file".to_owned());
    }
    let url = match url.starts_with("sqlite:").then(|| sqlite_file(url, Path::new(""))).transpose()? {
        Some(Ok(path)) if beside => format!("sqlite:{}", path.display()),
        Some(Ok(path)) => format!("sqlite:{}", absolute(&path)?.display()),
        Some(Err(_)) | None => url.to_owned(),
    };
    Ok(serde_json::Value::from(url.replace("${", "$${")).to_string()) // a JSON string is a TOML string
}

fn taken(to: &Path) -> Error {
    Error::new(Kind::Config, "the file is there already, and is left as it is")
        .with("file", to.display())
        .hint("add --force to overwrite it, --output FILE to write another, or --output - to see the proposal only")
}

fn write(to: &Path, text: &str, force: bool) -> Result<()> {
    let open = || match std::fs::OpenOptions::new().write(true).create_new(true).open(to) {
        Ok(file) => rowbound::owner::give_to_folder(&file, to).map(|()| file),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && force => {
            std::fs::OpenOptions::new().write(true).create(true).truncate(true).open(to)
        }
        // Not even one that came into being meanwhile.
        Err(e) => Err(e),
    };
    match open().and_then(|mut file| file.write_all(text.as_bytes())) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Err(taken(to)),
        Err(e) => Err(Error::new(Kind::Config, "cannot write the proposal").with("file", to.display()).because(e)),
        Ok(()) => Ok(()),
    }
}

fn text(a: &Answer) -> String {
    let Some(to) = &a.written else { return a.toml.clone() };
    let p = &a.proposal;
    let mut out = String::new();
    for (name, says) in &p.frameworks {
        out.push_str(&format!("found     {name}: {says}\n"));
    }
    let column = |b: &Proposed| b.evidence.column.column.to_string();
    for b in &p.bindings {
        out.push_str(&format!("binding   {} -> {}: {} reference files that exist\n", column(b), b.evidence.storage, b.evidence.share()));
        for note in &b.notes {
            out.push_str(&format!("          {}\n", output::safe(note)));
        }
    }
    for i in &p.ignore {
        out.push_str(&format!("ignore    {}: {}\n", i.column, i.why));
    }
    for b in &p.unsure {
        out.push_str(&format!("unsure    {} -> {}: {} reference files that exist\n", column(b), b.evidence.storage, b.evidence.share()));
        for doubt in &b.doubts {
            out.push_str(&format!("          {doubt}\n"));
        }
    }
    for name in &p.bare {
        out.push_str(&format!("bare      storage {name}: no column references a file of it, and no sweep touches it until one is bound\n"));
    }
    for m in &p.misplaced {
        let url = m.url.as_ref().map_or(String::new(), |url| format!("; write url = {url:?}"));
        out.push_str(&format!(
            "misplaced {}: its files lie in {:?}: storage {} begins one folder too high{url}\n",
            m.column, m.folder, m.storage
        ));
    }
    for (name, patterns) in &p.housekeeping {
        out.push_str(&format!("leftover  storage {name}: {} are no uploads: they are in its `ignore`\n", patterns.join(", ")));
    }
    for (column, value) in &p.elsewhere {
        out.push_str(&format!("elsewhere {column}: no storage has {}\n", output::safe(value)));
    }
    for c in &p.composed {
        out.push_str(&format!(
            "composed  {}: {} is the end of {} in storage {}; bind a query that builds the names ([[reference]], docs/bindings.md)\n",
            c.column,
            output::safe(&c.value),
            output::safe(&c.file),
            c.storage
        ));
    }
    for column in &p.empty {
        out.push_str(&format!("empty     {column}: no value yet, but its name speaks of files\n"));
    }
    for (column, why) in &p.unread {
        out.push_str(&format!("unread    {column}: {}\n", output::safe(why)));
    }
    out.push_str(&format!("looked at {} text columns; nothing was changed or attached\n", p.looked));
    out.push_str(&format!("next: read {}, complete it, then `rowbound attach`\n", to.display()));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storage_is_named_before_its_url_or_is_the_default() {
        for (given, want) in [
            ("folder:media", ("default", "folder:media")),
            ("media=folder:a=b", ("media", "folder:a=b")),
            ("s3://bucket/p?region=eu", ("default", "s3://bucket/p?region=eu")),
            ("up=s3://bucket/p?region=eu", ("up", "s3://bucket/p?region=eu")),
        ] {
            assert_eq!(named(given), want);
        }
    }

    #[test]
    fn a_password_is_not_written_into_the_file() {
        assert!(database_line("postgres://a:secret@h/d", true).unwrap().starts_with("\"${DATABASE_URL}\""));
        assert_eq!(database_line("postgres://a@h/d", false).unwrap(), "\"postgres://a@h/d\"");
        // A file that is there.
        assert_eq!(database_line("sqlite:Cargo.toml", true).unwrap(), "\"sqlite:Cargo.toml\"");
        assert_eq!(database_line("sqlite:///Cargo.toml", true).unwrap(), "\"sqlite:Cargo.toml\"");
        assert!(database_line("sqlite:Cargo.toml", false).unwrap().starts_with("\"sqlite:/"));
    }
}
