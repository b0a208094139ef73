//! Attach and detach: from a plan to capture in the database and a marker in each storage, and back.
//!
//! In: the plan, the database, the storages. Out: an [`Installation`], or an error before anything changed. Promise:
//! idempotent; a copy of a database, a storage that is not the one attached before, and a storage that belongs to another
//! database are refused unless the person accepts them.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use jiff::Timestamp;
use rand::Rng;
use serde::Serialize;

use crate::{
    capture::{Bound, FOLLOWERS, Gap, Inspection, Installation, VERSION},
    crash,
    database::{Database, SWAPPED, overtaken},
    error::{Error, Kind, Result},
    plan::{Location, Plan, label},
    storage::{self, Capabilities, Listed, SkipReason, Storage, services},
};

mod apart; // one place is one storage
mod columns; // which column a binding means, before and now
mod detach; // the way back
mod installations; // who uses a storage, and who does no more
mod leaving; // bindings that are not in the plan any more
mod places; // storages: which installation each belongs to
mod promote; // from shadow mode to live
mod refused; // copies: which case it is, and the next command

pub(crate) use apart::{Looks, apart, own_places};
use apart::{Place, beside_each_other, none_within_another};
use columns::{all_bound, another_column, bound_as_before, carry_renamed, looked_through};
pub(crate) use columns::{none_left_out, unseen};
pub use detach::{Detached, detach};
pub use installations::{User, forget_installation, installations};
pub(crate) use leaving::drop_flag;
pub use leaving::is_meant;
use leaving::leaving;
use places::{claim_marker, each_holds_its_own, forgettable, is_taken, renew_copied_markers, stake, untold, withdraw};
pub use promote::{Promoted, Promotion, promote};
use refused::Adopted;

/// What the person confirmed. Everything is off by default.
#[derive(Debug, Clone, Default)]
pub struct Consent {
    /// This database is a copy (or has moved) and becomes an installation of its own.
    pub adopt: bool,
    /// Deliveries that wait in an adopted database are this one's to make: it has moved. On a copy the original delivers it.
    pub keep_deliveries: bool,
    /// Accepts that these storages are not the ones attached before under their names.
    pub adopt_storages: Vec<String>,
    /// A bound column is another one than before under its name (renamed or rebuilt meanwhile): that is accepted.
    pub adopt_columns: bool,
    /// Rows of another database reference files of the same storages, and neither database releases the other's files.
    pub shared: bool,
    /// Every binding goes into shadow mode, whatever the plan says, until it is promoted.
    pub shadow: bool,
    /// These installations no longer exist: they leave the storages' markers.
    pub forget_installations: Vec<String>,
    /// These bindings are attached, are not in the plan any more, and are to go: columns, as the plan wrote them, and names of queries. Their values count no
    /// longer as references. A binding that is not listed here is never dropped.
    pub drop: Vec<String>,
}

/// What `attach` did and found.
#[derive(Debug, Clone, Serialize)]
pub struct Attached {
    /// The record as it stands now.
    pub installation: Installation,
    /// What capture cannot see, and warnings.
    pub inspection: Inspection,
    /// Statements that were run. The application's rows were not touched by any.
    pub statements: Vec<String>,
    /// What each storage was seen to honour.
    pub proved: BTreeMap<String, Capabilities>,
    /// Bindings that had capture before and have none now.
    pub removed: Vec<String>,
    /// Whether anything is another way than before: bindings, triggers, a storage's marker, the record.
    pub changed: bool,
}

/// Opens every storage of the plan.
///
/// # Errors
/// As [`storage::open`].
pub fn open_storages(plan: &Plan) -> Result<BTreeMap<String, Arc<dyn Storage>>> {
    plan.storages.iter().map(|(name, s)| Ok((name.clone(), storage::open(s)?))).collect()
}

/// Gives the plan's bindings their numbers: known ones keep theirs, new ones get numbers never used before.
pub fn number(plan: &Plan, known: &BTreeMap<String, i32>) -> Vec<Bound> {
    let mut next = known.values().max().map_or(1, |n| n + 1);
    plan.bindings
        .iter()
        .map(|binding| {
            let id = known.get(&binding.key()).copied().unwrap_or_else(|| {
                next += 1;
                next - 1
            });
            Bound { id, binding: binding.clone() }
        })
        .collect()
}

fn random_id() -> String {
    format!("{:032x}", rand::rng().random::<u128>())
}

/// The error that stops a worker on a copy.
pub(crate) fn copied(was: &str, is: &str) -> Error {
    Error::new(Kind::Identity, "this database is not the one that was attached: it is a copy, or it has moved")
        .with("attached", was)
        .with("now", is)
        .hint("`rowbound attach` reports which it is, and the command; on a copy with storages of its own, and after a move, it is `rowbound attach --adopt`")
}

/// What `attach` would do now, as SQL, and what it would say. Nothing is changed.
///
/// # Errors
/// As [`attach`].
pub async fn preview(plan: &Plan, db: &dyn Database, consent: &Consent) -> Result<(Inspection, Vec<String>)> {
    let before = db.installation().await?;
    let mut record = before.clone();
    if let Some(record) = &mut record {
        carry_renamed(plan, db, record).await?;
    }
    let bound = number(plan, &record.as_ref().map(|r| r.bindings.clone()).unwrap_or_default());
    leaving(before.as_ref(), record.as_ref(), &bound, &consent.drop)?;
    let mut inspection = db.inspect(&bound).await?;
    inspection.warnings.extend(experimental(plan));
    Ok((inspection, db.script(&bound).await?))
}

/// Puts capture in place for the plan's bindings and a marker into each of its storages. Where the process is killed meanwhile, the next `attach` does the rest.
///
/// # Errors
/// In each case capture and markers are as they were; shadow mode, if it was asked for, may stand already.
///
/// - [`Kind::Drift`] where a binding that is attached is neither in the plan nor in [`Consent::drop`]: another program's, perhaps
/// - [`Kind::Schema`], [`Kind::Permission`] of a binding or a storage
/// - [`Kind::Identity`] on a copied database, or somebody else's storage
/// - [`Kind::Unbound`] where a column that is neither bound nor ignored references files
/// - [`Kind::Config`] for two storages that are one place, and for one within another
/// - [`Kind::StorageUnreachable`] for a storage that is not there or lost its marker
/// - [`Kind::Busy`] when the locks were not had
pub async fn attach(plan: &Plan, db: &dyn Database, consent: &Consent) -> Result<Attached> {
    let mut until: Option<Instant> = None;
    loop {
        let seen = db.installation().await?.map(|record| record.id);
        let e = match attach_once(plan, db, consent).await {
            Err(e) => e,
            done => return done,
        };
        // Another was faster, perhaps with the same plan: everything is looked at again. Until it has ended its markers may be missing.
        let no_marker = e.kind() == Kind::StorageUnreachable;
        let now = db.installation().await.ok().flatten();
        let other = now.as_ref().is_some_and(|now| seen.as_ref() != Some(&now.id));
        // It may have no record yet, and be as far as its first marker.
        if overtaken(&e) || until.is_none() && (other || is_taken(&e) || no_marker && now.is_some()) {
            until = Some(Instant::now() + OTHERS);
        }
        let under_way = overtaken(&e) || no_marker || e.kind() == Kind::Identity;
        if !under_way || until.is_none_or(|until| Instant::now() > until) {
            return Err(e);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// How long each storage is searched for other ones within it.
const WITHIN: Duration = Duration::from_secs(2);

/// How long another attach may take from its record to its markers.
const OTHERS: Duration = Duration::from_secs(2);

async fn attach_once(plan: &Plan, db: &dyn Database, consent: &Consent) -> Result<Attached> {
    let before = db.installation().await?;
    let identity = db.identity().await?;
    let now = Timestamp::now();
    if let Some(record) = &before
        && record.identity != identity
        && consent.adopt
        && !consent.keep_deliveries
    {
        none_waiting(db, record).await?;
    }
    let mut record = match &before {
        Some(record) if record.identity == identity => record.clone(),
        Some(record) if !consent.adopt => return Err(refused::database(plan, db, record, &identity).await),
        // The copy's numbers stay, because its candidates carry them; its storages are looked at as if for the first time.
        Some(record) => Installation {
            id: random_id(),
            identity: identity.clone(),
            storages: BTreeMap::new(),
            unfinished: BTreeMap::new(),
            ..record.clone()
        },
        None => Installation { attached_at: now, ..Installation::new(random_id(), &identity) },
    };
    if before.is_some() {
        carry_renamed(plan, db, &mut record).await?;
    }
    let bound = number(plan, &record.bindings);
    let removed = leaving(before.as_ref(), before.as_ref().map(|_| &record), &bound, &consent.drop)?;
    let mut inspection = db.inspect(&bound).await?;

    // All storages are asked, and tried, before anything is written.
    let adopted = match before.as_ref().filter(|b| b.id != record.id) {
        Some(b) => Some(Adopted { from: &b.id, moved: db.has_moved(&b.identity).await? }),
        None => None,
    };
    let database = label(&plan.database);
    let (mut places, mut proved) = (Vec::new(), BTreeMap::new());
    for (name, storage) in open_storages(plan)? {
        let (was, at) = (storage.marker().await?, storage.whereabouts().await?);
        let mut marker = claim_marker(&name, &database, was.clone(), &at, &record, adopted, consent)?;
        let seen = storage.probe().await.map_err(|e| e.with("storage", &name))?;
        proved.insert(name.clone(), seen.clone());
        marker.proved = Some(seen);
        places.push(Place { location: plan.storages[&name].location.clone(), name, storage, at, was, marker });
    }
    renew_copied_markers(&mut places, &record, consent)?;
    record.storages.extend(places.iter().map(|p| (p.name.clone(), p.marker.storage.clone())));
    own_places(plan, &record.storages)?;
    beside_each_other(&places, &record)?;
    forgettable(&places, &record, consent)?;
    // From here on until the markers are written, the next attach finishes this one.
    record.unfinished = places.iter().map(|p| (p.name.clone(), p.unfinished(&record, consent))).collect();

    if let Some(before) = &before {
        let mut drift = before.snapshot.drift(&db.snapshot(&bound_as_before(&bound, before)).await?);
        // A column that only a new `where` mentions is one more, and no gap.
        drift.retain(|d| d.was.is_some() || !d.item.starts_with("column ") || d.item.ends_with(SWAPPED));
        // What belongs to a binding that left the plan was not looked at, so its absence says nothing.
        drift.retain(|d| removed.is_empty() || d.is.is_some() || d.item.starts_with("trigger"));
        // Tables and columns of a dump that was restored have numbers of their own. What it could hide, the survey of all columns finds.
        if !consent.adopt_columns
            && before.identity == identity
            && let Some(changed) = drift.iter().find(|d| another_column(d, db.dialect(), &bound_as_before(&bound, before)))
        {
            // The old column may live on under another name, full of names in which nobody would look.
            return Err(Error::new(
                Kind::Drift,
                "a bound column is not the one that was attached: it was renamed, dropped or rebuilt, and another has its name now",
            )
            .with("item", &changed.item)
            .hint("if the old column lives on under another name, bind that one too; then `rowbound attach --adopt-columns`"));
        }
        if !drift.is_empty() {
            let why: Vec<_> = drift.iter().map(ToString::to_string).collect();
            record.gaps.push(Gap { since: last_whole(before), until: Some(now), why: why.join("; ") });
        }
    }
    // After what a person has to say of the columns that are bound, and before anything is changed.
    record.seen = Some(all_bound(plan, db, &mut inspection).await?);
    record.values = looked_through(db, &bound, &record, &mut inspection).await?;
    record.version = VERSION;
    record.bindings.extend(bound.iter().map(|b| (b.binding.key(), b.id)));
    record.active = bound.iter().map(|b| b.id).collect();
    record.readings = bound.iter().map(|b| (b.id, b.binding.mark())).collect();
    inspection.warnings.extend(nothing_within(plan).await?);
    inspection.warnings.extend(experimental(plan));
    let staked = stake(&places).await?;
    if let Err(e) = none_within_another(&places).await {
        return Err(withdraw(staked, e).await);
    }
    let (mut installation, statements) = match put_in_place(&bound, record, db, before.as_ref(), consent).await {
        Ok(done) => done,
        // Who was faster may have made them his own.
        Err(e) if overtaken(&e) => return Err(e),
        Err(e) => {
            let stored = db.installation().await.map(|record| record.map(|record| record.storages).unwrap_or_default());
            return Err(withdraw(untold(stored, staked), e).await);
        }
    };
    for place in &places {
        place.mark().await?;
    }
    each_holds_its_own(places.iter(), Some(&installation.id)).await?;
    installation.unfinished.clear();
    crash::point("attach-step");
    db.record(&installation).await?;
    let changed = before.map(|before| before.attached()) != Some(installation.attached()) || !places.iter().all(Place::is_as_before);
    Ok(Attached { installation, inspection, statements, proved, removed, changed })
}

/// Insists that no other storage lies within one of the plan, as far as a listing of a few seconds tells. Later ones are met by the collector and the sweep.
/// Returns what is to be said of copies that lie within theirs.
async fn nothing_within(plan: &Plan) -> Result<Vec<String>> {
    let storages = open_storages(plan)?;
    // All at once: programs attach as they start.
    let found = join_all(storages.iter().map(|(name, storage)| copies_within(name, storage.as_ref()))).await;
    let found: Vec<Vec<String>> = found.into_iter().collect::<Result<_>>()?;
    Ok(found.concat())
}

/// The same for one of them.
async fn copies_within(name: &str, storage: &dyn Storage) -> Result<Vec<String>> {
    storage.set_read_only();
    let (mut copies, until) = (Vec::new(), Instant::now() + WITHIN);
    let read = storage::each(storage, "", |entry| {
        if let Listed::Skipped(folder, SkipReason::Copy) = &entry {
            copies.push(format!(
                "a copy of the storage {name} lies within it, in {folder}: its files are neither deleted nor taken for orphans"
            ));
        }
        Instant::now() < until
    });
    // Whatever else cannot be listed is no reason not to attach.
    match tokio::time::timeout(WITHIN, read).await {
        Ok(Err(e)) if storage::whereabouts::is_nested(&e) => Err(e.with("storage", name)),
        _ => Ok(copies),
    }
}

/// What is to be said of storages on services that no test runs against.
fn experimental(plan: &Plan) -> impl Iterator<Item = String> {
    plan.storages.values().filter_map(|storage| match &storage.location {
        Location::Service(at) => services::known(&at.scheme)?.warning(&storage.name),
        Location::Folder(_) | Location::Memory(_) | Location::S3(_) => None,
    })
}

/// Changes the database: capture, the record, and shadow mode where it was asked for.
async fn put_in_place(
    bound: &[Bound],
    mut record: Installation,
    db: &dyn Database,
    before: Option<&Installation>,
    consent: &Consent,
) -> Result<(Installation, Vec<String>)> {
    let now = Timestamp::now();
    if consent.shadow {
        // Before capture stands: from its first candidate on nothing goes.
        for b in bound {
            record.shadow.entry(b.id).or_insert(now);
        }
        if before.is_some() {
            db.set_shadow(&record.active, Some(now)).await?;
        }
    }
    let statements = db.script(bound).await?;
    let mut installation = db.install_after(before, bound, &record).await?;
    // Where the identity depends on our own tables (MariaDB), it is known only now.
    let settled_identity = db.identity().await?;
    if settled_identity != installation.identity {
        installation.identity = settled_identity;
        db.record(&installation).await?;
    }
    Ok((installation, statements))
}

/// Insists that no delivery of the original's waits: it would be made twice.
async fn none_waiting(db: &dyn Database, record: &Installation) -> Result<()> {
    // What an earlier build attached has no followers, nor tables of them.
    let followers = if record.version < FOLLOWERS { Vec::new() } else { db.followers().await? };
    let waiting: Vec<_> = followers.iter().filter(|f| f.waiting > 0).collect();
    let Some(first) = waiting.first() else { return Ok(()) };
    let mut error = Error::new(
        Kind::Identity,
        "hooks have not received all deletions yet: on a copy the original delivers them, and they would arrive twice",
    );
    for follower in &waiting {
        error = error.with("hook", format_args!("{}: {} waiting", follower.name, follower.waiting));
    }
    Err(error.hint(format!(
        "on a copy: `rowbound forget --give-up {}` for each, then `rowbound attach --adopt`; after a move: rowbound attach --adopt --keep-deliveries",
        first.name
    )))
}

/// The last moment at which capture is known to have been whole.
pub(crate) fn last_whole(record: &Installation) -> Timestamp {
    record.gaps.last().and_then(|g| g.until).unwrap_or(record.attached_at)
}
