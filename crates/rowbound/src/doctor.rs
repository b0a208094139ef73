//! Doctor: what is wrong or risky, as values.
//!
//! In: the plan, the database, the storages; attached or not yet. Out: findings, each of one of [`CHECKS`]. Promise: no row and no file is changed
//! (a small file of Rowbound's own is written beneath `.rowbound/` of an attached storage, to read its clock, and removed); a check that cannot be
//! made is a finding, never a silence.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    attach::{Looks, apart, copied, number, open_storages},
    capture::{Bound, Installation, VERSION},
    collect::age,
    database::{Database, Dialect, drifted, survey::TextColumn},
    error::{Error, Result},
    evidence::{Limits, Survey, speaks_of_files, survey},
    name::FileName,
    plan::{Plan, StoragePlan},
    references,
    status::backlogs,
    storage::{Conditional, Storage, TrashKind},
};

mod values; // bound values that are no files, and who else deletes files

/// How bad a finding is. The graver is the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nothing is wrong.
    Ok,
    /// Worth knowing; nothing has to be done.
    Note,
    /// Files may be left over, or work is slower or later than it need be.
    Warning,
    /// Files may be lost, or deletion is stopped for safety.
    Danger,
}

impl State {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Note => "note",
            State::Warning => "warning",
            State::Danger => "danger",
        }
    }
}

/// A check: its name, and what it looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Check {
    /// One word.
    pub name: &'static str,
    /// For people.
    pub looks_at: &'static str,
}

const fn check(name: &'static str, looks_at: &'static str) -> Check {
    Check { name, looks_at }
}

/// Every check, in the order in which they are made.
pub const CHECKS: [Check; 14] = [
    check("attached", "whether this database is attached, and is the one that was"),
    check("capture", "whether the triggers stand on every bound table, enabled and unaltered"),
    check("bypasses", "what happens to bound tables without their triggers seeing it"),
    check("barrier", "whether deletions wait for the transactions of every session"),
    check("unbound", "whether a column that is not bound references files: sampled values are looked up in each storage"),
    check("values", "whether sampled values of bound columns are files of their storages, and if none is, why"),
    check("indexes", "how long a check of 1,000 names takes for each bound column, and without it"),
    check("storages", "whether each storage is there, is the one that was attached, and lies in no other"),
    check("guarantees", "what each storage was seen to honour when it was attached"),
    check("clocks", "how far the clocks of database, storages and this machine are apart"),
    check("lag", "how long released names have been waiting, and which fail"),
    check("hooks", "whether those who follow the ledger hear of it"),
    check("deleters", "whether files that rows release are there, or somebody else deletes them"),
    check("gaps", "whether there were times without capture"),
];

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check's name, one of [`CHECKS`].
    pub name: &'static str,
    /// How bad it is.
    pub state: State,
    /// The table, column or storage with which the finding begins; `None` where it is about none alone.
    pub about: Option<String>,
    /// What was found.
    pub finding: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// How many names a timed check asks for: about what a busy worker does.
const BATCH: usize = 1_000;
/// From which time on a check of a column without an index is worth a warning.
const SLOW: Duration = Duration::from_millis(100);
/// How far clocks may be apart: the collector leaves alone what was modified up to this long before its release.
const APART: Duration = Duration::from_secs(2);
/// How long a name may wait beyond its grace before somebody should ask whether a worker runs.
const LATE: u64 = 900;

/// The patient and what was found so far.
struct Examination<'a> {
    plan: &'a Plan,
    db: &'a dyn Database,
    record: Option<Installation>,
    bound: Vec<Bound>,
    findings: Vec<Finding>,
}

impl Examination<'_> {
    fn find(&mut self, name: &'static str, state: State, finding: impl Into<String>, hint: Option<&str>) {
        debug_assert!(CHECKS.iter().any(|c| c.name == name), "{name}");
        self.findings.push(Finding { name, state, about: None, finding: finding.into(), hint: hint.map(str::to_owned) });
    }

    /// The same of one table, column or storage: what is equal of several is shown once.
    fn find_about(&mut self, name: &'static str, state: State, about: &str, finding: &str, hint: Option<&str>) {
        self.find(name, state, format!("{about}: {finding}"), hint);
        if let Some(last) = self.findings.last_mut() {
            last.about = Some(about.to_owned());
        }
    }

    fn error(&mut self, name: &'static str, state: State, e: &Error) {
        self.findings.push(Finding { name, state, about: None, finding: e.full(), hint: e.hint_text().map(str::to_owned) });
    }
}

/// Makes every check.
///
/// # Errors
/// When the database cannot be asked at all. Anything else that goes wrong is a finding.
pub async fn examine(plan: &Plan, db: &dyn Database) -> Result<Vec<Finding>> {
    let record = db.installation().await?;
    let bound = number(plan, &record.as_ref().map(|r| r.bindings.clone()).unwrap_or_default());
    let mut x = Examination { plan, db, record, bound, findings: Vec::new() };
    attached(&mut x).await?;
    capture(&mut x).await?;
    bypasses(&mut x).await;
    barrier(&mut x);
    let columns = db.text_columns().await?;
    let there = storages(&mut x).await?;
    unbound(&mut x, &there).await;
    let misplaced = values::values(&mut x, &there).await;
    indexes(&mut x, &columns).await;
    clocks(&mut x, &there).await;
    lag(&mut x).await;
    hooks(&mut x).await;
    values::deleters(&mut x, &columns, &misplaced).await;
    gaps(&mut x);
    let order = |f: &Finding| CHECKS.iter().position(|c| c.name == f.name);
    x.findings.sort_by_key(order);
    Ok(x.findings)
}

async fn attached(x: &mut Examination<'_>) -> Result<()> {
    let Some(record) = x.record.clone() else {
        x.find("attached", State::Note, "nothing is attached yet: no file is deleted", Some("rowbound attach"));
        return Ok(());
    };
    let identity = x.db.identity().await?;
    if identity != record.identity {
        x.error("attached", State::Danger, &copied(&record.identity, &identity));
    } else if record.version != VERSION {
        x.find("attached", State::Danger, "another version of rowbound attached to this database", Some("rowbound attach"));
    } else {
        x.find("attached", State::Ok, format!("since {}", record.attached_at), None);
    }
    Ok(())
}

async fn capture(x: &mut Examination<'_>) -> Result<()> {
    let Some(record) = x.record.clone() else { return Ok(()) };
    // The very bindings that stand there, or what is missing would count as drift.
    if let Err(e) = crate::guard::same_bindings(x.plan, &record) {
        x.error("capture", State::Danger, &e);
        return Ok(());
    }
    let drift = record.snapshot.drift(&x.db.snapshot(&x.bound).await?);
    if drift.is_empty() {
        let columns = x.bound.len();
        x.find("capture", State::Ok, format!("complete and enabled on {columns} column(s)"), None);
    } else {
        x.error("capture", State::Danger, &drifted(&drift));
    }
    Ok(())
}

async fn bypasses(x: &mut Examination<'_>) {
    let seen = match x.db.inspect(&x.bound).await {
        Ok(seen) => seen,
        // `attach` would refuse; what is attached already goes on.
        Err(e) => return x.error("bypasses", State::Warning, &e),
    };
    for broken in &seen.broken {
        x.find("capture", State::Danger, broken.clone(), Some("`rowbound attach` mends it"));
    }
    for blind in &seen.blind {
        x.find_about("bypasses", State::Note, &blind.table, &format!("no trigger sees {}", blind.event), Some(&blind.advice));
    }
    // What is missing an index is timed below.
    for warning in seen.warnings.iter().filter(|w| !w.contains("no index")) {
        match warning.split_once(": ").filter(|(about, _)| !about.contains(' ')) {
            Some((about, warning)) => x.find_about("bypasses", State::Note, about, warning, None),
            None => x.find("bypasses", State::Note, warning.clone(), None),
        }
    }
    if seen.blind.is_empty() && seen.warnings.is_empty() {
        x.find("bypasses", State::Ok, "none is known", None);
    }
}

fn barrier(x: &mut Examination<'_>) {
    let ignored: Vec<_> = x.plan.ignored_sessions.iter().map(ToString::to_string).collect();
    if ignored.is_empty() {
        return x.find("barrier", State::Ok, "every session's transactions are waited for", None);
    }
    let said = format!("deletions do not wait for transactions of {} (as the plan says)", ignored.join(", "));
    let hint = "nobody checks that they write no references: if one does, and commits after the retention of a file that it references, the file is lost: docs/configuration.md";
    x.find("barrier", State::Note, said, Some(hint));
}

/// Which storages can be read, opened for reading only.
async fn storages(x: &mut Examination<'_>) -> Result<BTreeMap<String, Arc<dyn Storage>>> {
    let mut there = BTreeMap::new();
    let (all, looks) = (open_storages(x.plan)?, Looks::default());
    for (name, storage) in all.clone() {
        let known = x.record.as_ref().and_then(|r| r.storages.get(&name)).cloned();
        let marker = storage.marker().await;
        match (&marker, known) {
            (Err(e), _) => {
                x.error("storages", State::Warning, &Error::new(e.kind(), e.full()).with("storage", &name));
                continue;
            }
            (Ok(_), None) => x.find("storages", State::Note, format!("{name} is there, and not attached yet"), Some("rowbound attach")),
            (Ok(_), Some(id)) => {
                storage.expect(&id);
                let mut proved = storage.verify_marker().await;
                if let (Ok(()), Some(record)) = (&proved, &x.record) {
                    let places: Vec<_> = all.iter().map(|(name, storage)| (&x.plan.storages[name], storage)).collect();
                    proved = apart(record, &name, places.into_iter(), &looks).await;
                }
                match proved {
                    Ok(()) => x.find("storages", State::Ok, format!("{name} is there, and the one that was attached"), None),
                    Err(e) => x.error("storages", State::Danger, &e),
                }
            }
        }
        if let Ok(Some(marker)) = marker {
            let others = marker.others(x.record.as_ref().map_or("", |r| &r.id)).count();
            if others > 0 {
                let shared = format!(
                    "{name} is used by {others} other installation(s): its orphans are not deleted, and no file may be referenced by two"
                );
                x.find(
                    "storages",
                    State::Note,
                    shared,
                    Some("`rowbound installations` shows them; if one no longer exists: rowbound installations --remove ID"),
                );
            }
            guarantees(x, &name, marker.proved.as_ref());
        }
        storage.set_read_only();
        there.insert(name, storage);
    }
    Ok(there)
}

fn guarantees(x: &mut Examination<'_>, name: &str, proved: Option<&crate::storage::Capabilities>) {
    let Some(proved) = proved else {
        return x.find("guarantees", State::Warning, format!("{name}: not known what it honours"), Some("rowbound attach"));
    };
    let state = match (proved.delete, proved.trash) {
        (Conditional::No, TrashKind::No) => State::Warning,
        (Conditional::No, _) | (_, TrashKind::No) => State::Note,
        _ => State::Ok,
    };
    let hint = match state {
        State::Ok => None,
        _ if proved.trash == TrashKind::No => {
            Some("switch versions on for the bucket, or set `trash`: what is deleted by mistake can then come back")
        }
        _ => Some("write each upload under a name of its own: a file that replaces another between look and deletion would go with it"),
    };
    x.find("guarantees", state, format!("{name} {proved}"), hint);
}

async fn unbound(x: &mut Examination<'_>, there: &BTreeMap<String, Arc<dyn Storage>>) {
    let (plan, db) = (x.plan, x.db);
    let limits = Limits { values: 500, time: Duration::from_secs(120) };
    let seen = match survey(db, there, limits, |c| plan.bindings.iter().any(|b| c.is(&b.column))).await {
        Ok(seen) => seen,
        Err(e) => return x.error("unbound", State::Warning, &e),
    };
    let Survey { evidence, alike, unread, looked, empty, .. } = seen;
    let (mut named, mut missed) = (false, false);
    for e in &evidence {
        let column = e.column.column.to_string();
        let said = format!("{column} is not bound, but {} reference files of {}, such as {}", e.share(), e.storage, e.example());
        if plan.ignore.iter().any(|i| e.column.is(i)) {
            x.find("unbound", State::Note, format!("{said} (ignored, as the plan says)"), None);
            continue;
        }
        named = true;
        let hint = format!(
            "those files are deleted although rows reference them. Bind it ([[binding]] with column = {column:?}), or, if its rows need no files, write ignore = [{column:?}]"
        );
        x.find("unbound", State::Danger, said, Some(&hint));
    }
    for a in alike.iter().filter(|a| !plan.ignore.iter().any(|i| a.column.is(i))) {
        let said = format!(
            "{} looks as if it referenced files, but none of its values is in a storage of the plan: {:?}",
            a.column.column, a.value
        );
        x.find("unbound", State::Note, said, Some("if they are in another storage, nothing here touches them"));
    }
    for u in unread.iter().filter(|u| !plan.ignore.iter().any(|i| u.column.is(i))) {
        missed = true;
        let said = format!("{} was not looked at: {}", u.column.column, u.why);
        x.find("unbound", State::Warning, said, Some("it may reference files: let Rowbound's account read it (GRANT SELECT), or list it in `ignore`; until then `sweep --delete` deletes nothing"));
    }
    // Who cannot say so has said why above.
    if let Ok(Some(right)) = db.hides_tables().await {
        missed = true;
        let said = "the database shows this account only tables on which it has a right: others may reference files";
        x.find("unbound", State::Warning, said, Some(&format!("GRANT {right}: until then `sweep --delete` deletes nothing")));
    }
    for e in empty.iter().filter(|e| speaks_of_files(&e.column.column) && !plan.ignore.iter().any(|i| e.is(i))) {
        let column = e.column.to_string();
        let hint = format!(
            "bind it now ([[binding]] with column = {column:?}), or write ignore = [{column:?}]: deletion stops when files are referenced there"
        );
        x.find("unbound", State::Note, format!("{column} is empty, is not bound, and its name speaks of files"), Some(&hint));
    }
    if !named && !missed {
        x.find("unbound", State::Ok, format!("{looked} other text column(s) with values, and no value of a sample is a file"), None);
    }
}

async fn indexes(x: &mut Examination<'_>, columns: &[TextColumn]) {
    let db = x.db;
    let (bound, record) = (x.bound.clone(), x.record.clone());
    let names: Vec<FileName> = (0..BATCH).filter_map(|i| FileName::parse(&format!("rowbound-doctor/no/such/file-{i}")).ok()).collect();
    let time = async |searches: &[_]| -> Result<Duration> {
        let snapshot = db.snapshot(&bound).await?;
        let began = Instant::now();
        drop(db.check(&bound, &snapshot, searches).await?);
        Ok(began.elapsed())
    };
    // Once for nothing: connections are opened, catalogs read.
    let without = match async {
        time(&[]).await?;
        time(&[]).await
    }
    .await
    {
        Ok(without) => without,
        Err(e) => return x.error("indexes", State::Note, &Error::new(e.kind(), format!("no check could be timed: {}", e.full()))),
    };
    let mut quick_ones: Vec<(Duration, String, String)> = Vec::new();
    for b in &bound {
        let column = &b.binding.column;
        let known = columns.iter().find(|c| c.is(column));
        let search = references::searches(std::slice::from_ref(b), record.as_ref(), &b.binding.storage, &names);
        let indexed = known.is_some_and(|c| c.indexed);
        let quick = |with: Duration| indexed || with.saturating_sub(without) < SLOW;
        // What seems slow is timed again: other work on the machine only adds.
        let least = async {
            let mut least = time(&search).await?;
            for _ in 0..2 {
                if quick(least) {
                    break;
                }
                least = least.min(time(&search).await?);
            }
            Ok::<_, Error>(least)
        };
        let with = match least.await {
            Ok(with) => with,
            Err(e) => {
                x.error("indexes", State::Warning, &e);
                continue;
            }
        };
        let rows = known.map_or(0, |c| c.rows);
        let said = format!(
            "a check of {BATCH} names takes {} ms, {} ms without it ({} index, about {rows} rows)",
            with.as_millis(),
            without.as_millis(),
            if indexed { "has an" } else { "no" },
        );
        if quick(with) {
            quick_ones.push((with, column.to_string(), said));
            continue;
        }
        let hint = match db.dialect() {
            Dialect::Postgres => {
                format!(
                    "create index concurrently on {} using hash ({}); SQL in lower case, names quoted where needed",
                    column.table, column.column
                )
            }
            Dialect::Mysql | Dialect::Sqlite => format!("create index {0}_{1} on {0} ({1})", column.table, column.column),
        };
        x.find_about("indexes", State::Warning, &column.to_string(), &said, Some(&hint));
    }
    // Of those that are well the slowest speaks for all.
    let count = quick_ones.len();
    if let Some((_, column, said)) = quick_ones.into_iter().max_by_key(|(with, ..)| *with) {
        match count {
            1 => x.find_about("indexes", State::Ok, &column, &said, None),
            _ => x.find("indexes", State::Ok, format!("{column}: {said}; {} other columns take no longer", count - 1), None),
        }
    }
}

async fn clocks(x: &mut Examination<'_>, there: &BTreeMap<String, Arc<dyn Storage>>) {
    // Each is asked between two looks at our own clock; what it takes to ask is no difference.
    let apart = |before: Timestamp, said: Timestamp, after: Timestamp| -> Duration {
        let outside = if said < before { before.duration_since(said) } else { said.duration_since(after) };
        Duration::try_from(outside).unwrap_or(Duration::ZERO)
    };
    let mut worst = Duration::ZERO;
    let before = Timestamp::now();
    match x.db.now().await {
        Ok(now) => {
            let off = apart(before, now, Timestamp::now());
            worst = worst.max(off);
            clock(x, "the database's clock", off);
        }
        Err(e) => x.error("clocks", State::Warning, &e),
    }
    for (name, storage) in there {
        let Some(id) = x.record.as_ref().and_then(|r| r.storages.get(name)) else { continue };
        storage.expect(id);
        let before = Timestamp::now();
        match storage.now().await {
            Ok(now) => {
                // Services tell whole seconds.
                let off = apart(before, now, Timestamp::now()).saturating_sub(Duration::from_secs(1));
                worst = worst.max(off);
                clock(x, &format!("the clock of {name}"), off);
            }
            Err(e) => x.error("clocks", State::Warning, &e),
        }
        storage.set_read_only();
    }
    if worst <= APART {
        x.find("clocks", State::Ok, "none is off by more than 2 s", None);
    }
}

fn clock(x: &mut Examination<'_>, whose: &str, off: Duration) {
    if off > APART {
        let hint = "run a time service (NTP) on both: Rowbound compares the two to see whether a file is newer than its release";
        x.find("clocks", State::Warning, format!("{whose} is {} s away from this machine's", off.as_secs()), Some(hint));
    }
}

async fn lag(x: &mut Examination<'_>) {
    if x.record.is_none() {
        return;
    }
    let backlogs = match backlogs(x.plan, x.db).await {
        Ok(backlogs) => backlogs,
        Err(e) => return x.error("lag", State::Warning, &e),
    };
    for (name, waits) in backlogs {
        let grace = x.plan.storages.get(&name).map_or(0, |s: &StoragePlan| s.grace.as_secs());
        let oldest = waits.oldest_seconds.unwrap_or(0);
        let said = match waits.total {
            0 => format!("{name}: nothing waits"),
            n => format!("{name}: {n} name(s) wait, the oldest for {oldest} s; {} due, {} failing", waits.due, waits.failing),
        };
        if waits.failing > 0 {
            x.find("lag", State::Warning, said, Some("`rowbound status` says why they fail"));
        } else if waits.due > 0 && oldest > grace + LATE {
            x.find("lag", State::Warning, said, Some("is `rowbound run` going?"));
        } else {
            x.find("lag", State::Ok, said, None);
        }
        for (begins, what, hint) in SEEM_NEW {
            let count = waits.sample.iter().filter(|w| w.note.as_ref().is_some_and(|note| note.starts_with(begins))).count();
            if count > 0 {
                x.find(
                    "lag",
                    State::Note,
                    format!("{name}: {count} of the first {} that wait do so because {what}", waits.sample.len()),
                    Some(hint),
                );
            }
        }
    }
}

/// Files that only seem to be new: how their notes begin, what is said of them, and what to do.
const SEEM_NEW: [(&str, &str, &str); 2] = [
    (
        age::TOUCHED,
        "the change time of their files (ctime) is new and the content is not",
        "something touches files without changing them, such as `chown -R`, `chmod` or hard links of a backup: each goes when it was seen unchanged for min_age",
    ),
    (
        age::AHEAD,
        "the times of their files lie ahead",
        "was a clock wrong when they were written? Each goes when it was seen unchanged for min_age",
    ),
];

async fn hooks(x: &mut Examination<'_>) {
    if x.record.as_ref().is_none_or(|r| r.version != VERSION) {
        return;
    }
    let followers = match x.db.followers().await {
        Ok(followers) => followers,
        Err(e) => return x.error("hooks", State::Warning, &e),
    };
    for hook in x.plan.hooks.iter().filter(|h| followers.iter().all(|f| f.name != h.name)) {
        let said = format!("{} has not begun to follow: it receives nothing that is deleted now", hook.name);
        x.find("hooks", State::Note, said, Some("`rowbound run` or `rowbound collect` registers it"));
    }
    for f in &followers {
        let said = match f.waiting {
            0 => format!("{}: nothing waits", f.name),
            n => format!(
                "{}: {n} deliveries wait, the oldest for {} s; {} due, {} failing",
                f.name,
                f.oldest_seconds.unwrap_or(0),
                f.due,
                f.failing
            ),
        };
        if f.failing > 0 {
            x.find("hooks", State::Warning, said, Some("`rowbound status` says why they fail"));
        } else if f.overdue_seconds.is_some_and(|s| s > LATE) {
            let hint = format!(
                "nobody delivers: is `rowbound run` going, with this hook? If it is not needed any more: rowbound forget {}",
                f.name
            );
            x.find("hooks", State::Warning, said, Some(&hint));
        } else {
            x.find("hooks", State::Ok, said, None);
        }
    }
}

fn gaps(x: &mut Examination<'_>) {
    let Some(record) = x.record.clone() else { return };
    for gap in &record.gaps {
        let until = gap.until.map_or("now".to_owned(), |t| t.to_string());
        let said = format!("no capture between {} and {until}: {}", gap.since, gap.why);
        x.find("gaps", State::Warning, said, Some("names released then have no candidate; `rowbound sweep` finds their files"));
    }
    if record.gaps.is_empty() {
        x.find("gaps", State::Ok, "capture was whole ever since", None);
    }
}
