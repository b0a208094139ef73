//! Status and explain: what waits, what fails, what was deleted; and who holds a name and what happened to it.
//!
//! In: the plan and the database. Out: values for people, pages and machines. Nothing is changed, and one part that cannot be read does
//! not hide the others: it is a [`Problem`].

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

pub use crate::delays::Delay;
use crate::{
    attach::{Looks, apart, copied, number, open_storages},
    binding::{Keep, Mode, Resolved, aliases},
    capture::{Bound, Gap, Installation, VERSION, ValuesSeen},
    clock,
    database::{Database, Dialect, Holder, Shadowed, drifted, redact},
    delays::delays,
    delivery::Registered,
    derivative::Derivatives,
    error::{Error, Kind, Result},
    guard::same_bindings,
    heartbeat::LastHeartbeat,
    ledger::{Entry, Filter, Rewound, Total, Upkeep},
    name::{FileName, Names},
    originals::living_originals,
    plan::{Plan, StoragePlan},
    queue::{Backlog, Claim, Outcome, Waiting},
    references,
    shadow::Shadow,
    storage::{Capabilities, Since, Stat, Storage, Trashed},
    trash,
};

mod late; // what should have been done by now

pub use late::{OVERDUE, place};

/// Something that a person should look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What it is.
    pub kind: Kind,
    /// What was found.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// Whether deletion is stopped because of it.
    pub stops: bool,
}

impl Problem {
    fn new(e: &Error, stops: bool) -> Self {
        Problem { kind: e.kind(), message: e.full(), hint: e.hint_text().map(str::to_owned), stops }
    }
}

/// A storage in [`Status`].
#[derive(Debug, Clone, Serialize)]
pub struct StorageStatus {
    /// Its name in the plan.
    pub name: String,
    /// Where it is.
    pub url: String,
    /// Whether it has just proved to be there.
    pub reachable: bool,
    /// What it was seen to honour when it was attached; `None` when it cannot be read.
    pub proved: Option<Capabilities>,
    /// What waits.
    pub backlog: Backlog,
    /// When what went to the trash lately was checked again, by the database's clock; `None` if it never was.
    pub checked: Option<Timestamp>,
    /// The same for the columns that must be read whole: they come around less often, so that checks take a twentieth of the database's time at most.
    pub read: Option<Timestamp>,
    /// Files that rows reference and that lie in the trash.
    pub stranded: u64,
    /// When the database was last seen to follow another history than before (a failover, a restored backup), and what came back from the trash then.
    pub rewound: Option<Rewound>,
}

/// A binding in [`Status`].
#[derive(Debug, Clone, Serialize)]
pub struct BindingStatus {
    /// The column.
    pub column: String,
    /// The storage.
    pub storage: String,
    /// `live` or `shadow`.
    pub mode: &'static str,
    /// Its number in candidates and ledger, once attached.
    pub number: Option<i32>,
    /// What the last attach, or `run` since, has seen of its values; `None` before it is attached.
    pub values: Option<ValuesSeen>,
    /// What shadow mode has come to; `None` for a live binding, and before it is attached.
    pub shadow: Option<ShadowStatus>,
}

/// A binding in shadow mode in [`Status`].
#[derive(Debug, Clone, Serialize)]
pub struct ShadowStatus {
    /// Since when, if a person put it there (`attach --shadow`); `None` if only the plan says so.
    pub since: Option<Timestamp>,
    /// Whether the plan says so: then `promote` cannot end it.
    pub planned: bool,
    /// What would have been deleted since, or ever.
    #[serde(flatten)]
    pub would_have: Shadowed,
}

/// A follower in [`Status`].
#[derive(Debug, Clone, Serialize)]
pub struct FollowerStatus {
    /// What waits for it.
    #[serde(flatten)]
    pub follower: Registered,
    /// Whether the plan has a hook of that name. One that an application registers, or `run --hook`, is none of those.
    pub planned: bool,
}

/// Everything that `rowbound status` shows.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// The database's URL without its password.
    pub database: String,
    /// Its dialect.
    pub dialect: Dialect,
    /// The installation's id; `None` when nothing is attached.
    pub installation: Option<String>,
    /// When it was attached first.
    pub attached_at: Option<Timestamp>,
    /// The bindings of the plan.
    pub bindings: Vec<BindingStatus>,
    /// The storages of the plan.
    pub storages: Vec<StorageStatus>,
    /// Who follows the ledger, by name.
    pub followers: Vec<FollowerStatus>,
    /// Who works, or did within 30 days, the latest heartbeat first.
    pub workers: Vec<LastHeartbeat>,
    /// Sessions whose open transactions delay deletions, the longest first.
    pub delays: Vec<Delay>,
    /// Transactions open now: what they could commit delays deletions.
    pub open_transactions: Vec<String>,
    /// Times in which capture was not whole: the sweep's.
    pub gaps: Vec<Gap>,
    /// The ledger of the last 24 hours.
    pub last_day: Vec<Total>,
    /// The whole ledger.
    pub ever: Vec<Total>,
    /// What a person should look at.
    pub problems: Vec<Problem>,
}

impl Status {
    /// The state in one sentence: the problem to look at first, or what fails, or that all is well.
    pub fn verdict(&self) -> String {
        let first = |stops: bool| self.problems.iter().find(|p| p.stops == stops);
        if let Some(p) = first(true) {
            return format!("stopped: {}", p.message);
        }
        if let Some(p) = first(false) {
            return format!("attention: {}", p.message);
        }
        if let Some(s) = self.storages.iter().find(|s| s.backlog.failing > 0) {
            let failing = late::names(s.backlog.failing, "could not be collected, and is", "could not be collected, and are");
            return format!("attention: {failing} tried again (storage: {})", s.name);
        }
        if let Some(f) = self.followers.iter().find(|f| f.follower.failing > 0) {
            return format!("attention: failed deliveries to hook {} are tried again: {} failing", f.follower.name, f.follower.failing);
        }
        "well".to_owned()
    }

    /// Whether deletion is stopped for safety.
    pub fn stopped(&self) -> bool {
        self.problems.iter().any(|p| p.stops)
    }
}

fn claim_of(plan: &Plan, record: Option<&Installation>, storage: &str) -> Claim {
    let bound = number(plan, &record.map(|r| r.bindings.clone()).unwrap_or_default());
    Claim {
        storage: storage.to_owned(),
        bindings: bound.iter().filter(|b| b.binding.storage == storage).map(|b| b.id).collect(),
        grace: plan.storages[storage].grace,
        limit: 1,
        owner: String::new(),
        lease: std::time::Duration::ZERO,
        not_due_too: false,
        counted: false,
    }
}

/// What waits on each storage of the plan.
///
/// # Errors
/// Those of the database.
pub async fn backlogs(plan: &Plan, db: &dyn Database) -> Result<std::collections::BTreeMap<String, Backlog>> {
    let record = db.installation().await?;
    let mut left = std::collections::BTreeMap::new();
    for name in plan.storages.keys() {
        left.insert(name.clone(), db.backlog(&claim_of(plan, record.as_ref(), name)).await?);
    }
    Ok(left)
}

/// Looks at everything.
///
/// # Errors
/// Only when the database cannot be read at all.
pub async fn status(plan: &Plan, db: &dyn Database) -> Result<Status> {
    let record = db.installation().await?;
    let mut status = Status {
        database: redact(&plan.database),
        dialect: db.dialect(),
        installation: record.as_ref().map(|r| r.id.clone()),
        attached_at: record.as_ref().map(|r| r.attached_at),
        bindings: plan
            .bindings
            .iter()
            .map(|b| BindingStatus {
                column: b.column.to_string(),
                storage: b.storage.clone(),
                mode: if b.mode == Mode::Live { "live" } else { "shadow" },
                number: record.as_ref().and_then(|r| r.bindings.get(&b.key()).copied()),
                values: record.as_ref().and_then(|r| r.values.get(r.bindings.get(&b.key())?).cloned()),
                shadow: None,
            })
            .collect(),
        storages: Vec::new(),
        followers: Vec::new(),
        workers: Vec::new(),
        delays: Vec::new(),
        open_transactions: Vec::new(),
        gaps: record.as_ref().map(|r| r.gaps.clone()).unwrap_or_default(),
        last_day: Vec::new(),
        ever: Vec::new(),
        problems: Vec::new(),
    };
    let Some(record) = record else {
        let e = Error::new(Kind::NotAttached, "Rowbound is not attached to this database").hint("rowbound attach");
        status.problems.push(Problem::new(&e, true));
        return Ok(status);
    };
    for (binding, shown) in plan.bindings.iter().zip(&mut status.bindings) {
        let Some(id) = shown.number else { continue };
        let (since, planned) = (record.shadow.get(&id).copied(), binding.mode == Mode::Shadow);
        if planned || since.is_some() {
            shown.mode = "shadow";
            shown.shadow = Some(ShadowStatus { since, planned, would_have: db.shadowed(id, since).await? });
        }
    }
    if record.version != VERSION {
        let e = Error::new(Kind::NotAttached, "an older rowbound attached to this database").hint("rowbound attach");
        status.problems.push(Problem::new(&e, true));
    } else {
        let planned = |name: &str| plan.hooks.iter().any(|h| h.name == name);
        let followers = db.followers().await?.into_iter();
        status.followers = followers.map(|f| FollowerStatus { planned: planned(&f.name), follower: f }).collect();
    }
    let identity = db.identity().await?;
    if identity != record.identity {
        status.problems.push(Problem::new(&copied(&record.identity, &identity), true));
    }
    match same_bindings(plan, &record) {
        Err(e) => status.problems.push(Problem::new(&e, true)),
        Ok(bound) => match db.snapshot(&bound).await {
            Err(e) => status.problems.push(Problem::new(&e, true)),
            Ok(now) => {
                let drift = record.snapshot.drift(&now);
                if !drift.is_empty() {
                    status.problems.push(Problem::new(&drifted(&drift), true));
                }
            }
        },
    }
    let (storages, looks) = (open_storages(plan)?, Looks::default());
    for (name, storage) in storages.clone() {
        let (mut reachable, mut proved, mut stranded) = (false, None, 0);
        match record.storages.get(&name) {
            None => {
                let e = Error::new(Kind::NotAttached, "this storage is not attached yet").with("storage", &name).hint("rowbound attach");
                status.problems.push(Problem::new(&e, true));
            }
            Some(id) => {
                storage.expect(id);
                match storage.verify_marker().await {
                    Ok(()) => {
                        reachable = true;
                        let marker = storage.marker().await?;
                        let places: Vec<_> = storages.iter().map(|(name, storage)| (&plan.storages[name], storage)).collect();
                        if let Err(e) = apart(&record, &name, places.into_iter(), &looks).await {
                            status.problems.push(Problem::new(&e, true));
                        }
                        let shared = marker.as_ref().is_some_and(|m| m.is_shared(&record.id));
                        proved = marker.and_then(|m| m.proved);
                        // In a shared trash the others' files may lie longer than ours do.
                        if !shared && let Some(e) = overdue(storage.as_ref(), &plan.storages[&name]).await {
                            status.problems.push(Problem::new(&e, false));
                        }
                        if record.version == VERSION
                            && let Ok(bound) = same_bindings(plan, &record)
                        {
                            match in_trash(db, &bound, &record, &plan.storages[&name], storage.as_ref()).await {
                                Ok((files, problems)) => {
                                    stranded = files;
                                    status.problems.extend(problems.iter().map(|e| Problem::new(e, false)));
                                }
                                Err(e) => status.problems.push(Problem::new(&e, false)),
                            }
                        }
                    }
                    Err(e) => status.problems.push(Problem::new(&e, true)),
                }
            }
        }
        let upkeep = if record.version == VERSION { db.upkeep(&name).await?.unwrap_or_default() } else { Upkeep::default() };
        status.storages.push(StorageStatus {
            url: plan.storages[&name].url(),
            reachable,
            proved,
            backlog: db.backlog(&claim_of(plan, Some(&record), &name)).await?,
            checked: upkeep.checked,
            read: upkeep.read,
            stranded,
            rewound: upkeep.rewound,
            name,
        });
    }
    match db.open_transactions().await {
        Ok(open) => {
            if !open.is_empty() {
                let mut waits = Vec::new();
                for name in plan.storages.keys() {
                    waits.extend(db.waits(&claim_of(plan, Some(&record), name)).await?);
                }
                status.delays = delays(&open, &waits, db.now().await?);
            }
            status.open_transactions = open.into_iter().map(|t| t.description).collect();
        }
        Err(e) => status.problems.push(Problem::new(&e, true)),
    }
    if record.version == VERSION {
        match db.heartbeats().await {
            Ok(workers) => {
                status.workers = workers;
                let longest = status.delays.iter().filter_map(|d| d.seconds).max().unwrap_or(0);
                let late = status.storages.iter().filter_map(|s| late::late(s, &status.workers, Duration::from_secs(longest)));
                let off = |h: &LastHeartbeat| Some(Error::new(Kind::Clock, h.beat.clock.clone()?).with("worker", place(&h.beat.place)));
                let off = status.workers.iter().filter(|h| h.works()).filter_map(off);
                status.problems.extend(late.chain(off).map(|e| Problem::new(&e, false)).collect::<Vec<_>>());
            }
            Err(e) => status.problems.push(Problem::new(&e, false)),
        }
    }
    status.last_day = db.totals(Some(Timestamp::now() - std::time::Duration::from_secs(86_400))).await?;
    status.ever = db.totals(None).await?;
    Ok(status)
}

/// Of the files that were moved lately, so many are looked up by `status`, the latest first.
const LOOKED_UP: usize = 10_000;

/// Files that rows reference and that lie in the trash: how many, and what to say of them.
async fn in_trash(
    db: &dyn Database,
    bound: &[Bound],
    record: &Installation,
    plan: &StoragePlan,
    storage: &dyn Storage,
) -> Result<(u64, Vec<Error>)> {
    let mut problems = Vec::new();
    let since = clock::before(db.now().await?, trash::WINDOW);
    let lately = trash::stranded(db, bound, record, &plan.name, storage, since, LOOKED_UP).await?;
    let older = trash::reported(db, bound, record, &plan.name, storage).await?;
    let older: Vec<_> = older.into_iter().filter(|t| lately.iter().all(|l| l.place != t.place)).collect();
    let several = |what: &str, files: &[Trashed]| {
        let e = Error::new(Kind::Storage, what).with("storage", &plan.name).with("files", files.len());
        e.with("name", &files[0].name)
    };
    if !lately.is_empty() {
        let e = several("rows reference files that lie in the trash since a short while: they come back by themselves", &lately);
        problems.push(e.hint("`rowbound run` brings them back within a minute, `rowbound collect` at once"));
    }
    if !older.is_empty() {
        let e = several("rows reference files that lie in the trash, and that do not come back by themselves", &older);
        problems.push(e.hint(format!("look at each, then: rowbound restore {}; they are kept until then", older[0].name)));
    }
    Ok(((lately.len() + older.len()) as u64, problems))
}

/// What keeps files in a trash: a part of it that cannot be read, or files that lie there a day after their retention.
async fn overdue(storage: &dyn Storage, plan: &StoragePlan) -> Option<Error> {
    // One `collect` a day is not late.
    const LATE: Duration = Duration::from_secs(86_400);
    let before = clock::before(Timestamp::now(), plan.trash.hold().saturating_add(LATE));
    let page = match storage.expired(before, None, 1).await {
        Ok(page) => page,
        Err(e) => return Some(e),
    };
    if let Some(e) = page.errors.into_iter().next() {
        return Some(e);
    }
    let first = page.files.into_iter().next()?;
    let e = Error::new(Kind::Storage, "files lie in the trash a day after their retention").with("storage", &plan.name);
    let e = e.with("name", &first.name).with("place", &first.place);
    Some(e.hint("`rowbound collect` erases them, or says why it cannot"))
}

/// What `rowbound explain NAME` shows for one storage.
#[derive(Debug, Clone, Serialize)]
pub struct Explanation {
    /// The storage's name.
    pub storage: String,
    /// The file's name.
    pub name: String,
    /// One sentence: the name's state.
    pub verdict: String,
    /// What lies under the name: `file`, `nothing`, or why it would be refused; `unknown` where the storage cannot be asked.
    pub file: String,
    /// Its size in bytes.
    pub size: Option<u64>,
    /// Its modification time.
    pub modified: Option<Timestamp>,
    /// Since when it is what it is, as far as the storage tells: on folders the later of the modification and the change time.
    pub since: Option<Timestamp>,
    /// Whether a `keep` pattern protects it.
    pub protected: bool,
    /// Rows that reference it.
    pub holders: Vec<Held>,
    /// Candidates that stand for it.
    pub waiting: Vec<Waiting>,
    /// Where it lies in the trash.
    pub trash: Option<Trashed>,
    /// What the ledger says, the newest first.
    pub history: Vec<Entry>,
    /// Why the storage cannot be asked.
    pub problem: Option<Problem>,
}

/// A row that references the file.
#[derive(Debug, Clone, Serialize)]
pub struct Held {
    /// The column.
    pub column: String,
    /// The row's key.
    pub key: Option<String>,
    /// The value.
    pub value: String,
    /// Whether the value only mentions the name, outside of what its binding reads: it counts, and nothing is released with it.
    pub mentioned: bool,
}

/// Explains `name` on one storage of the plan.
///
/// # Errors
/// [`Kind::Config`] for a storage that the plan does not have; those of the database. Those of the storage are a [`Problem`].
pub async fn explain(plan: &Plan, db: &dyn Database, storage: &str, name: &FileName) -> Result<Explanation> {
    let storage_plan = plan.storages.get(storage).ok_or_else(|| {
        let known: Vec<_> = plan.storages.keys().cloned().collect();
        Error::new(Kind::Config, "the plan has no such storage").with("storage", storage).hint(format!("known are: {}", known.join(", ")))
    })?;
    let record = db
        .installation()
        .await?
        .ok_or_else(|| Error::new(Kind::NotAttached, "Rowbound is not attached to this database").hint("rowbound attach"))?;
    let bound = number(plan, &record.bindings);
    let searches = references::searches(&bound, None, storage, std::slice::from_ref(name));
    let column = |id: i32| bound.iter().find(|b| b.id == id);
    let reads_it = |h: &Holder| column(h.binding).is_some_and(|b| b.binding.resolve(h.value.as_bytes()) == Resolved::Name(name.clone()));
    // Of a key that a row may mean by another one the storage is asked, too: the ledger's note says it.
    let others = if storage_plan.location.names() == Names::Paths { aliases(name) } else { Vec::new() };
    let means_it = |h: &Holder| {
        let mut means = reads_it(h);
        if let Some(b) = column(h.binding).filter(|b| !means && !b.binding.scans()) {
            b.binding.holds(h.value.as_bytes(), |one| means |= one == *name || others.contains(&one));
        }
        means
    };
    let holders: Vec<Held> = db
        .holders(&searches, 10_000)
        .await?
        .into_iter()
        .filter(means_it)
        .map(|h| Held {
            mentioned: h.mentioned || !reads_it(&h),
            column: column(h.binding).map(|b| b.binding.column.to_string()).unwrap_or_default(),
            key: h.key,
            value: h.value,
        })
        .collect();
    let mut values: Vec<String> = searches.iter().flat_map(|s| s.search.values.clone()).collect();
    values.push(name.to_string());
    values.sort();
    values.dedup();
    let waiting = db.waiting(&values).await?;
    let filter = Filter { storage: Some(storage.to_owned()), name: Some(name.to_string()), limit: Some(50), ..Filter::default() };
    let history = db.history(&filter).await?;
    let place = crate::storage::open(storage_plan)?;
    if let Some(id) = record.storages.get(storage) {
        place.expect(id);
    }
    let asked = async {
        let look = place.stat(std::slice::from_ref(name)).await?.pop().transpose()?.unwrap_or(Stat::Missing);
        let trash = place.trashed(std::slice::from_ref(name)).await?.pop().transpose()?.flatten();
        let original = match &look {
            Stat::File(_) if holders.is_empty() && waiting.is_empty() => {
                let derivatives = Derivatives::new(plan.on_storage(storage))?;
                living_originals(&derivatives, place.as_ref(), std::slice::from_ref(name)).await?.remove(name)
            }
            _ => None,
        };
        Ok::<_, Error>((look, trash, original))
    };
    let protected = Keep::new(plan.on_storage(storage))?.protects(name);
    let told = Explanation {
        storage: storage.to_owned(),
        name: name.to_string(),
        verdict: String::new(),
        file: String::new(),
        size: None,
        modified: None,
        since: None,
        protected,
        holders: Vec::new(),
        waiting: Vec::new(),
        trash: None,
        history: Vec::new(),
        problem: None,
    };
    let (look, trash, original) = match asked.await {
        Ok(seen) => seen,
        // What the database knows is worth the more.
        Err(e) => {
            let verdict = match (holders.len(), waiting.first()) {
                (0, None) => "the storage cannot be asked; no row references it, and nothing waits".to_owned(),
                (0, Some(_)) => "the storage cannot be asked; it waits to be collected".to_owned(),
                (n, _) => format!("the storage cannot be asked; {n} row(s) reference it"),
            };
            let problem = Some(Problem::new(&e, false));
            return Ok(Explanation { verdict, file: "unknown".to_owned(), holders, waiting, history, problem, ..told });
        }
    };
    let (file, seen) = match &look {
        Stat::Missing => ("nothing".to_owned(), None),
        Stat::File(s) => ("file".to_owned(), Some(s)),
        Stat::Refused(why) => (why.clone(), None),
    };
    let (size, modified) = (seen.map(|s| s.size), seen.map(|s| s.modified));
    let since = seen.and_then(|s| match s.since {
        Since::At(at) => Some(at),
        Since::Unknown(_) => None,
    });
    let shadow = Shadow::of(&record, bound.iter().filter(|b| b.binding.storage == storage));
    let decided = history.iter().find(|e| e.outcome != Outcome::Duplicate).map(|e| (e.outcome, e.at.strftime("%Y-%m-%d %H:%M:%SZ")));
    let verdict = match (&look, holders.len(), waiting.first(), &trash) {
        (Stat::Refused(why), ..) => format!("never deleted: it {why}"),
        (Stat::Missing, n @ 1.., _, Some(_)) => {
            format!("{n} row(s) reference it, but the file is missing; the trash holds it: rowbound restore")
        }
        (Stat::Missing, n @ 1.., ..) => format!("{n} row(s) reference it, but there is no file"),
        (Stat::Missing, 0, _, Some(_)) => "collected: it waits in the trash".to_owned(),
        (Stat::Missing, 0, ..) => match decided {
            Some((Outcome::Erased, at)) => format!("deleted: it was erased at {at}"),
            Some((Outcome::Purged, at)) => format!("deleted: the trash was emptied of it at {at}"),
            Some((Outcome::Trashed, at)) => format!("deleted: it went to the trash at {at}, and is not there any more"),
            _ => "there is no such file, and no row references it".to_owned(),
        },
        (Stat::File(_), 1.., ..) => format!("it stays: {} row(s) reference it", holders.len()),
        (Stat::File(_), 0, ..) if protected => "it stays: a `keep` pattern protects it".to_owned(),
        (Stat::File(_), 0, Some(w), _) if shadow.holds(w.binding, &w.event) => "it waits, and will stay: shadow mode".to_owned(),
        (Stat::File(_), 0, Some(w), _) => match &w.note {
            Some(note) => format!("it waits to be collected: {note}"),
            None => "it waits to be collected".to_owned(),
        },
        (Stat::File(_), 0, None, _) if original.is_some() => {
            format!("it stays: a derivative of {}, which is there", original.unwrap_or_default())
        }
        (Stat::File(_), 0, None, _) => match decided {
            Some((Outcome::Shadow, at)) => format!("it stays: shadow mode; it would have gone at {at}"),
            Some((Outcome::Unbound, at)) => format!("it stays: at {at} its binding was no longer in the plan; a sweep finds it"),
            _ => "an orphan: no row references it and no candidate stands for it, so nothing will collect it before a sweep finds it"
                .to_owned(),
        },
    };
    Ok(Explanation { verdict, file, size, modified, since, holders, waiting, trash, history, ..told })
}
