//! `rowbound status`.

use rowbound::{
    Result,
    evidence::values::finding,
    heartbeat::{Job, LastHeartbeat},
    queue::{Backlog, Outcome},
    status::{FollowerStatus, ShadowStatus, Status, StorageStatus, place, status as engine_status},
};
use serde::Serialize;

use crate::{args::Args, exit, output};

pub async fn status(args: &Args) -> Result<u8> {
    let (plan, db) = super::open(args).await?;
    let status = engine_status(&plan, db.as_ref()).await?;
    let verdict = status.verdict();
    output::answer(args.format, &Answer { verdict, status: &status }, |a| text(a.status))?;
    db.close().await;
    Ok(exit_status(&status))
}

/// What `status` answers.
#[derive(Debug, Serialize)]
struct Answer<'s> {
    /// The state in one sentence.
    verdict: String,
    #[serde(flatten)]
    status: &'s Status,
}

/// That of the gravest problem; what waits in its due course is none.
fn exit_status(status: &Status) -> u8 {
    let failing = status.storages.iter().any(|s| s.backlog.failing > 0) || status.followers.iter().any(|f| f.follower.failing > 0);
    let failing = if failing { exit::LEFT } else { exit::DONE };
    status.problems.iter().map(|p| exit::of(p.kind)).fold(failing, u8::max)
}

fn text(s: &Status) -> String {
    let mut out = format!("state     {}\ndatabase  {}\n", s.verdict(), s.database);
    if let Some(at) = s.attached_at {
        out.push_str(&format!("attached  {}\n", output::moment(at)));
    }
    for d in &s.delays {
        let time = d.seconds.map_or(String::new(), |s| format!(", for {}", output::length(s)));
        let waiting = if d.waiting == 1 { "1 candidate waits".to_owned() } else { format!("{} candidates wait", d.waiting) };
        out.push_str(&format!("delayed   {waiting} for an open transaction{time}: {}\n", output::safe(&d.transaction)));
    }
    for b in &s.bindings {
        out.push_str(&format!(
            "binding   {} -> {} ({}{})\n",
            b.column,
            b.storage,
            b.mode,
            b.number.map_or(", not attached".into(), |n| format!(", number {n}"))
        ));
        if let Some(said) = b.values.as_ref().and_then(|seen| finding(&b.column, seen)) {
            out.push_str(&format!("  {}\n", output::safe(&said)));
        }
        if let Some(shadow) = &b.shadow {
            out.push_str(&in_shadow(shadow, &b.column));
        }
    }
    for st in &s.storages {
        out.push_str(&format!("storage   {} at {}: {}\n", st.name, st.url, if st.reachable { "there" } else { "NOT THERE" }));
        if let Some(proved) = &st.proved {
            out.push_str(&format!("  {proved}\n"));
        }
        out.push_str(&backlog(&st.backlog));
        out.push_str(&rechecks(st));
        out.push_str(&rewound(st));
    }
    for f in &s.followers {
        out.push_str(&follower(f));
    }
    for h in &s.workers {
        out.push_str(&worker(h));
    }
    for t in &s.open_transactions {
        out.push_str(&format!("open      {t}\n"));
    }
    for (title, totals) in [("last 24 hours", &s.last_day), ("ever", &s.ever)] {
        if totals.is_empty() {
            continue;
        }
        out.push_str(&format!("{title}\n"));
        let rows: Vec<_> = totals
            .iter()
            .map(|t| {
                let bytes =
                    if matches!(t.outcome, Outcome::Erased | Outcome::Trashed | Outcome::Purged | Outcome::Shadow | Outcome::Restored) {
                        output::bytes(t.bytes)
                    } else {
                        String::new()
                    };
                vec![t.storage.clone(), t.count.to_string(), t.outcome.word().to_owned(), bytes]
            })
            .collect();
        out.push_str(&output::table(&rows, 2));
    }
    for g in &s.gaps {
        let until = g.until.map_or("now".to_owned(), output::moment);
        out.push_str(&format!("gap       {} to {until}: {} (files released then may be left over)\n", output::moment(g.since), g.why));
    }
    for p in &s.problems {
        out.push_str(&format!("{}  {}\n", if p.stops { "STOPPED " } else { "problem " }, output::safe(&p.message)));
        if let Some(hint) = &p.hint {
            out.push_str(&format!("          hint: {}\n", output::safe(hint)));
        }
    }
    out
}

/// When what went to the trash lately was checked again.
fn rechecks(st: &StorageStatus) -> String {
    let Some(checked) = st.checked else { return String::new() };
    let whole = st.read.map_or(String::new(), |at| format!("; columns that are read whole: {}", output::moment(at)));
    format!("  the trash was checked again at {}{whole}\n", output::moment(checked))
}

/// What came of a failover, or of a backup that was restored in place.
fn rewound(st: &StorageStatus) -> String {
    let Some(r) = &st.rewound else { return String::new() };
    let stay = if r.stay == 0 { String::new() } else { format!("; {} that rows reference stay there: `rowbound restore`", r.stay) };
    format!(
        "  at {} the database followed another history ({}, before {}): {} came back from the trash{stay}\n",
        output::moment(r.at),
        r.is,
        r.was,
        output::files(r.came_back)
    )
}

/// Who works, or did.
fn worker(h: &LastHeartbeat) -> String {
    let (place, ago) = (place(&h.beat.place), output::length(h.seconds));
    match (h.beat.job, h.beat.ended) {
        (Job::Run, _) if h.works() => format!("worker    {place} since {}\n", output::moment(h.beat.since)),
        (Job::Run, true) => format!("worker    {place} was stopped {ago} ago\n"),
        (Job::Run, false) => format!("worker    {place} was seen {ago} ago, and is silent since\n"),
        (Job::Collect, _) if h.beat.every > 0 => {
            format!("collect   {place} {ago} ago, the one before {} earlier\n", output::length(h.beat.every))
        }
        (Job::Collect, _) => format!("collect   {place} {ago} ago\n"),
    }
}

fn follower(f: &FollowerStatus) -> String {
    let (planned, f) = (f.planned, &f.follower);
    let words: Vec<_> = f.outcomes.iter().map(|o| o.word()).collect();
    let whose = if planned { String::new() } else { format!("; not in rowbound.toml; when nobody needs it: rowbound forget {}", f.name) };
    let mut out = format!("hook      {} receives {}{whose}\n", f.name, words.join(", "));
    let age = f.oldest_seconds.map(|s| format!(", the oldest for {}", output::length(s))).unwrap_or_default();
    match f.waiting {
        0 => out.push_str("  nothing waits\n"),
        n => out.push_str(&format!("  {n} waiting: {} due, {} failing{age}\n", f.due, f.failing)),
    }
    for w in &f.sample {
        let name = w.name.as_deref().map_or_else(|| format!("entry {}", w.entry), output::name);
        let note = output::safe(w.note.as_deref().unwrap_or(""));
        out.push_str(&format!("  {name}: {note} (failed {} times, next try {})\n", w.attempts, output::moment(w.due_at)));
    }
    out
}

fn in_shadow(s: &ShadowStatus, column: &str) -> String {
    let since = s.since.map_or(String::new(), |t| format!(" since {}", output::moment(t)));
    let first = s.would_have.oldest.map_or(String::new(), |t| format!(", the first at {}", output::moment(t)));
    let next = if s.planned { "in rowbound.toml, take out mode = \"shadow\"".to_owned() } else { format!("rowbound promote {column}") };
    match s.would_have.files {
        0 => format!("  nothing would have been deleted{since}; to go live: {next}\n"),
        n => format!(
            "  {} ({}) would have been deleted{since}{first}; to go live: {next}\n",
            output::files(n),
            output::bytes(s.would_have.bytes)
        ),
    }
}

fn backlog(b: &Backlog) -> String {
    if b.total == 0 {
        return "  nothing waits\n".to_owned();
    }
    let age = b.oldest_seconds.map(|s| format!(", the oldest for {}", output::length(s))).unwrap_or_default();
    let staged = if b.staged > 0 {
        format!(", {} to be looked at later (uploads without their rows yet, files that came back)", b.staged)
    } else {
        String::new()
    };
    let mut out = format!("  {} waiting: {} due, {} failing{staged}{age}\n", b.total, b.due, b.failing);
    for w in &b.sample {
        let failed = if w.attempts == 0 { String::new() } else { format!("failed {} times, ", w.attempts) };
        let due = w.due_at.map(|t| format!(" ({failed}next try {})", output::moment(t))).unwrap_or_default();
        out.push_str(&format!("  {}: {}{due}\n", output::name(&w.value), output::safe(w.note.as_deref().unwrap_or(""))));
    }
    out
}
