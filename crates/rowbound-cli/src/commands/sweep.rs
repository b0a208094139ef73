//! `rowbound sweep`.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use rowbound::{
    Error, FileName, Kind, Names, Plan, Result,
    capture::Installation,
    database,
    sweep::{self, AmbiguousValues, Dangling, Finding, Group, Held, Options, Orphan, Other, Progress, Report, Swept},
};
use serde::Serialize;

use crate::{
    args::{Args, Format, SweepArgs},
    exit, logs, output,
};

mod csv; // findings -> a table for programs
mod html; // findings -> a page with pictures
mod report; // what a page keeps of the findings
mod thumbnails; // files that somebody uploaded -> small pictures

/// So many findings stand in the answer; `--list` prints all.
const SAMPLE: usize = 10;

/// What `sweep` answers.
#[derive(Debug, Serialize)]
struct Answer {
    /// One for each storage.
    storages: Vec<Storage>,
    /// Storages without a binding: they were not swept.
    unbound: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Storage {
    #[serde(flatten)]
    report: Report,
    /// The first orphans.
    orphan_sample: Vec<Orphan>,
    /// The first files that are held.
    held_sample: Vec<Held>,
    /// The first dangling references.
    dangling_sample: Vec<Dangling>,
}

pub async fn sweep(args: &Args, a: &SweepArgs) -> Result<u8> {
    let progress = logs::start(args)?;
    let stop = super::stop_signal()?;
    let (plan, db) = super::open(args).await?;
    let is_bound = |name: &String| plan.on_storage(name).next().is_some();
    let (storages, unbound): (Vec<String>, Vec<String>) = match &a.storage {
        Some(name) => (vec![super::storage(&plan, Some(name))?.to_owned()], Vec::new()),
        // Where none is bound the first says so.
        None if !plan.storages.keys().any(is_bound) => (plan.storages.keys().cloned().collect(), Vec::new()),
        None => plan.storages.keys().cloned().partition(is_bound),
    };
    for name in &unbound {
        super::note(args, &format!("storage {name} was not swept: no binding references it, so that every file would be an orphan"));
    }
    let mut options = options(a)?;
    for file in &a.with {
        let plan = super::named::other(file)?;
        let db = database::open(&plan.database, &database::Options::of(&plan)).await.map_err(|e| e.with("with", file.display()))?;
        options.with.push(Other { label: file.display().to_string(), plan, db });
    }
    let page = a.report.as_deref().map(html::Target::new).transpose()?;
    let mut swept = Vec::new();
    for storage in &storages {
        let watched = Arc::new(Progress::default());
        let expected = if progress.seen() { sweep::expected(&plan, db.as_ref(), storage, &options).await? } else { None };
        let line = progress.follow_sweep(storage, &watched, expected);
        let done = sweep::sweep(&plan, db.as_ref(), storage, &options, &watched, &stop).await;
        line.abort();
        swept.push(done?);
    }
    progress.end();
    // Where nothing is bound there was no capture that could have missed anything.
    if a.delete && a.storage.is_none() && !options.partial() && swept.iter().all(|s| s.report.brake.is_none()) {
        let since = swept.iter().map(|s| s.report.started).min().unwrap_or_default();
        sweep::close_gaps(db.as_ref(), since).await?;
    }
    if let Some(page) = page {
        let record = db.installation().await?;
        page.write(swept.iter().map(|s| section(&plan, record.as_ref(), s, a.pictures)).collect::<Result<_>>()?).await?;
    }
    if a.list {
        list(&swept)?;
        swept.iter().for_each(stopped);
    } else if args.format == Format::Csv {
        table(&swept)?;
        swept.iter().for_each(stopped);
    } else {
        let storages = swept.iter().map(sampled).collect::<Result<_>>()?;
        output::answer(args.format, &Answer { storages, unbound: unbound.clone() }, text)?;
    }
    let left = if unbound.is_empty() { exit::DONE } else { exit::LEFT };
    let status = swept.iter().map(|s| status(&s.report)).chain([left]).max().unwrap_or(exit::DONE);
    for s in swept {
        s.forget()?;
    }
    for other in &options.with {
        other.db.close().await;
    }
    db.close().await;
    Ok(status)
}

fn options(a: &SweepArgs) -> Result<Options> {
    let name = |text: &Option<String>| text.as_deref().map(|text| super::name(text, Names::Keys)).transpose();
    let (after, until): (Option<FileName>, Option<FileName>) = (name(&a.after)?, name(&a.until)?);
    Ok(Options {
        delete: a.delete,
        heal: a.heal,
        prefix: a.prefix.clone(),
        after,
        until,
        min_age: a.min_age,
        max_share: a.max_share,
        max_held: a.max_held,
        max_alike: a.max_alike,
        allow_no_references: a.allow_no_references,
        restart: a.restart,
        ..Options::new(state(a)?)
    })
}

/// Where findings are kept while a sweep lasts.
fn state(a: &SweepArgs) -> Result<PathBuf> {
    let home = |var: &str, rest: &str| std::env::var_os(var).filter(|v| !v.is_empty()).map(|v| PathBuf::from(v).join(rest));
    a.state.clone().or_else(|| home("XDG_STATE_HOME", "rowbound")).or_else(|| home("HOME", ".local/state/rowbound")).ok_or_else(|| {
        Error::new(Kind::Config, "it is not known where to keep what the sweep finds: neither XDG_STATE_HOME nor HOME is set")
            .hint("add --state FOLDER")
    })
}

/// Orphans that were not announced or are held, dangling references that were not healed, or a brake.
fn status(r: &Report) -> u8 {
    match (&r.brake, r.orphans.files > r.announced || r.held.files > 0, r.dangling > r.healed) {
        (Some(_), ..) => exit::STOPPED,
        (None, false, false) => exit::DONE,
        (None, ..) => exit::LEFT,
    }
}

/// Says on stderr why a sweep stopped, where stdout has no place for it.
fn stopped(s: &Swept) {
    if let Some(brake) = &s.report.brake {
        let alike: String = brake.alike.iter().map(|said| format!("; {said}")).collect();
        tracing::error!("storage {}: stopped: {}: nothing was changed{alike}; hint: {}", s.report.storage, brake.why, brake.hint);
    }
}

/// What the page shows of a storage.
fn section(plan: &Plan, record: Option<&Installation>, s: &Swept, pictures: usize) -> Result<report::Section> {
    let mut findings = report::Findings::new(pictures);
    for finding in s.findings()? {
        match finding? {
            Finding::Orphan(orphan) => findings.orphan(&orphan),
            Finding::Dangling(row) => findings.dangling(&row),
            Finding::Held(_) => {}
        }
    }
    let storage = rowbound::storage::open(&plan.storages[&s.report.storage])?;
    match record.and_then(|r| r.storages.get(&s.report.storage)) {
        Some(id) => storage.expect(id),
        None => storage.set_read_only(),
    }
    Ok(report::Section { report: s.report.clone(), findings, storage })
}

fn table(swept: &[Swept]) -> Result<()> {
    output::raw(&csv::header())?;
    for s in swept {
        for finding in s.findings()? {
            output::raw(&match finding? {
                Finding::Orphan(orphan) => csv::orphan(&s.report.storage, &orphan),
                Finding::Held(held) => csv::held(&s.report.storage, &held),
                Finding::Dangling(row) => csv::dangling(&s.report.storage, &row),
            })?;
        }
    }
    Ok(())
}

fn list(swept: &[Swept]) -> Result<()> {
    for s in swept {
        for finding in s.findings()? {
            if let Finding::Orphan(orphan) = finding? {
                output::print(orphan.name.as_str())?;
            }
        }
    }
    Ok(())
}

fn sampled(s: &Swept) -> Result<Storage> {
    let (mut orphan_sample, mut held_sample, mut dangling_sample) = (Vec::new(), Vec::new(), Vec::new());
    for finding in s.findings()? {
        match finding? {
            Finding::Orphan(orphan) if orphan_sample.len() < SAMPLE => orphan_sample.push(orphan),
            Finding::Held(held) if held_sample.len() < SAMPLE => held_sample.push(held),
            Finding::Dangling(dangling) if dangling_sample.len() < SAMPLE => dangling_sample.push(dangling),
            _ => {}
        }
        if orphan_sample.len() == SAMPLE && dangling_sample.len() == SAMPLE && held_sample.len() == SAMPLE {
            break;
        }
    }
    Ok(Storage { report: s.report.clone(), orphan_sample, held_sample, dangling_sample })
}

fn text(a: &Answer) -> String {
    a.storages.iter().map(of_storage).collect::<Vec<_>>().join("\n")
}

fn of_storage(s: &Storage) -> String {
    let r = &s.report;
    let mut out = format!("{} ({})\n", r.storage, r.url);
    let mut rows = vec![
        vec![r.files.to_string(), "files".to_owned()],
        vec![r.references.to_string(), "names that rows hold".to_owned()],
        vec![r.orphans.files.to_string(), format!("orphans: no row references them ({})", output::bytes(r.orphans.bytes))],
        vec![r.dangling.to_string(), "dangling references: a row, but no file".to_owned()],
    ];
    for (count, what) in [
        (r.in_trash, "of these lie in the trash: --heal brings them back".to_owned()),
        (r.other_form, "of these have a file whose name is written with other characters for the same letters (below)".to_owned()),
        (r.held.files, format!("files without a row are held: their name stands in another value ({})", output::bytes(r.held.bytes))),
        (r.similar.files, "orphans share the last part of their name with a value of some column".to_owned()),
        (r.young.files, format!("files without a row, but too young to judge ({})", output::bytes(r.young.bytes))),
        (r.derived.files, format!("files without a row, made from one that is there ({})", output::bytes(r.derived.bytes))),
        (
            r.mentioned.files,
            format!("files that a value mentions outside of what its binding reads ({})", output::bytes(r.mentioned.bytes)),
        ),
        (
            r.otherwise.files,
            format!(
                "files that a value could reference in another spelling, or under another prefix: they stay ({})",
                output::bytes(r.otherwise.bytes)
            ),
        ),
        (r.protected, "files without a row under a `keep` or `ignore` pattern".to_owned()),
        (r.odd, "entries that no row could name (links, odd names)".to_owned()),
    ] {
        if count > 0 {
            rows.push(vec![count.to_string(), what]);
        }
    }
    let width = rows.iter().map(|r| r[0].len()).max().unwrap_or(0);
    for row in &mut rows {
        row[0] = format!("{:>width$}", row[0]);
    }
    out.push_str(&output::table(&rows, 2));
    for (title, odd) in [
        ("values that could reference files in another spelling, or under another prefix", &r.otherwise_in),
        ("values that are read as no name", &r.unexplained),
    ] {
        if !odd.is_empty() {
            out.push_str(&format!("{title}\n{}", odd_table(odd)));
        }
    }
    for (title, groups) in [("orphans by folder", &r.by_folder), ("orphans by age", &r.by_age)] {
        if !groups.is_empty() {
            out.push_str(&format!("{title}\n{}", group_table(groups)));
        }
    }
    out.push_str(&of_elsewhere(r));
    if !s.orphan_sample.is_empty() {
        out.push_str("the first orphans\n");
        let rows: Vec<_> = s
            .orphan_sample
            .iter()
            .map(|o| vec![output::safe(o.name.as_str()), output::bytes(o.size), output::moment(o.modified)])
            .collect();
        out.push_str(&output::table(&rows, 2));
    }
    if !s.dangling_sample.is_empty() {
        out.push_str("the first dangling references\n");
        let rows: Vec<_> = s
            .dangling_sample
            .iter()
            .map(|d| {
                let key = d.key.as_deref().map_or("?".into(), output::safe);
                let state = match (&d.file, d.in_trash) {
                    // Both look alike: the codes of the characters tell them apart.
                    (Some(file), _) => format!("the file is {}", pair(d.name.as_str(), file.as_str())),
                    (None, true) => "in the trash".to_owned(),
                    (None, false) => String::new(),
                };
                vec![output::safe(d.name.as_str()), format!("{} of row {key}", d.column), state]
            })
            .collect();
        out.push_str(&output::table(&rows, 2));
    }
    if let Some(brake) = &r.brake {
        let alike: String = brake.alike.iter().map(|said| format!("  {said}\n")).collect();
        out.push_str(&format!("stopped: {}: nothing was changed\n{alike}  hint: {}\n", brake.why, brake.hint));
        return out;
    }
    if r.announced > 0 {
        out.push_str(&format!("{} orphans are candidates now: `rowbound run` or `rowbound collect` deletes them\n", r.announced));
    } else if r.orphans.files == 0 && r.held.files > 0 {
        out.push_str(match r.held_by.iter().all(|by| by.bound) {
            true => "nothing was changed: the bindings of the columns above do not read these names (docs/sweep.md)\n",
            false => "nothing was changed: bind the columns above, or list them in `ignore`\n",
        });
    } else if r.orphans.files > 0 {
        out.push_str("nothing was changed: --list prints all orphans, --delete makes candidates of them\n");
    }
    if r.healed > 0 {
        out.push_str(&format!("{} files came back from the trash\n", r.healed));
    }
    out
}

/// What the counter-search found: the columns that hold orphans, and how sure that is.
fn of_elsewhere(r: &Report) -> String {
    let mut out = String::new();
    let said = |said: &sweep::MentionSample| {
        vec![output::safe(said.name.as_str()), said.column.clone(), format!("{:?}", output::safe(&said.value))]
    };
    if !r.held_by.is_empty() {
        out.push_str("held: their names stand in other values\n");
        for by in &r.held_by {
            let bound = if by.bound { ", which is bound, but not read for them" } else { "" };
            out.push_str(&format!("  {} of them in {}{bound}\n", by.files, by.shown()));
            out.push_str(&output::table(&by.samples.iter().map(said).collect::<Vec<_>>(), 4));
        }
    }
    if !r.similar.samples.is_empty() {
        out.push_str("the last part of an orphan's name stands in a value (which may mean another file)\n");
        out.push_str(&output::table(&r.similar.samples.iter().map(said).collect::<Vec<_>>(), 2));
    }
    for unread in &r.unread {
        out.push_str(&format!("not looked through: {}: {}\n", unread.shown(), unread.why));
    }
    out
}

/// Two spellings that look alike: the second, with the codes of those characters in which it differs.
fn pair(row: &str, file: &str) -> String {
    let shown = |text: &str, other: &str| -> String {
        text.chars().filter(|c| !c.is_ascii() && !other.contains(*c)).map(|c| format!(" U+{:04X}", u32::from(c))).collect()
    };
    format!("{} (the row has{}, the file{})", output::safe(file), shown(row, file), shown(file, row))
}

fn odd_table(odd: &BTreeMap<String, AmbiguousValues>) -> String {
    let rows: Vec<_> = odd
        .iter()
        .map(|(column, odd)| {
            let samples: Vec<_> = odd.samples.iter().map(|s| output::safe(s)).collect();
            vec![column.clone(), odd.count.to_string(), samples.join(", ")]
        })
        .collect();
    output::table(&rows, 2)
}

fn group_table(groups: &[Group]) -> String {
    let rows: Vec<_> = groups
        .iter()
        .map(|g| {
            let label = if g.label.is_empty() { "(the root)".to_owned() } else { output::safe(&g.label) };
            vec![label, g.amount.files.to_string(), output::bytes(g.amount.bytes)]
        })
        .collect();
    output::table(&rows, 2)
}
