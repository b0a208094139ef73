//! Attach and detach: from a plan to capture in the database and a marker in each storage, and back.
//!
//! In: the plan, the database, the storages. Out: an [`Installation`], or an error before anything changed. Promise:
//! idempotent; a copy of a database, a storage that is not the one attached before, and a storage that belongs to another
//! database are refused unless the person says that it is meant.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use rand::Rng;
use serde::Serialize;

use crate::{
    binding::{Column, Mode},
    capture::{Bound, Drift, FOLLOWERS, Gap, Inspection, Installation, Snapshot, VERSION},
    database::{Database, Dialect, Shadowed, overtaken},
    error::{Error, Kind, Result},
    evidence::{Limits, survey},
    plan::{Plan, StoragePlan},
    storage::{self, Marker, Proved, Storage},
};

/// What the person confirmed. Everything is off by default.
#[derive(Debug, Clone, Default)]
pub struct Consent {
    /// This database is a copy (or has moved) and becomes an installation of its own.
    pub adopt: bool,
    /// What followers have yet to hear in an adopted database is this one's to deliver: it has moved. On a copy the original delivers it.
    pub keep_deliveries: bool,
    /// These storages are not the ones attached before under their names, and are meant.
    pub adopt_storages: Vec<String>,
    /// A bound column is another one than before under its name (renamed or rebuilt meanwhile), and is meant.
    pub adopt_columns: bool,
    /// Rows of another database name files of the same storages, and neither database releases the other's files.
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
    pub proved: BTreeMap<String, Proved>,
    /// Bindings that had capture before and have none now.
    pub removed: Vec<String>,
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
        .hint("on a copy, give it storages of its own, then `rowbound attach --adopt`; after a move, the same command")
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
    let inspection = db.inspect(&bound).await?;
    Ok((inspection, db.script(&bound).await?))
}

/// Puts capture in place for the plan's bindings and a marker into each of its storages.
///
/// # Errors
/// [`Kind::Drift`] where a binding that is attached is neither in the plan nor in [`Consent::drop`]: another program's, perhaps. [`Kind::Schema`], [`Kind::Permission`] of a binding; [`Kind::Identity`] on a copied database or somebody else's
/// storage; [`Kind::Unbound`] where a column that is neither bound nor ignored names files; [`Kind::StorageUnreachable`] for a storage that is
/// not there or lost its marker; [`Kind::Busy`] when the locks were not had. In each case capture and markers are as they were; shadow mode, if
/// it was asked for, may stand already.
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
        if overtaken(&e) || until.is_none() && (other || no_marker && now.is_some()) {
            until = Some(Instant::now() + OTHERS);
        }
        let under_way = overtaken(&e) || no_marker || e.kind() == Kind::Identity;
        if !under_way || until.is_none_or(|until| Instant::now() > until) {
            return Err(e);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

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
        Some(record) if !consent.adopt => return Err(copied(&record.identity, &identity)),
        // The copy's numbers stay, because its candidates carry them; its storages are looked at as if for the first time.
        Some(record) => Installation { id: random_id(), identity: identity.clone(), storages: BTreeMap::new(), ..record.clone() },
        None => Installation {
            id: random_id(),
            version: VERSION,
            identity: identity.clone(),
            attached_at: now,
            bindings: BTreeMap::new(),
            active: Vec::new(),
            storages: BTreeMap::new(),
            snapshot: Default::default(),
            gaps: Vec::new(),
            shadow: BTreeMap::new(),
        },
    };
    if before.is_some() {
        carry_renamed(plan, db, &mut record).await?;
    }
    let bound = number(plan, &record.bindings);
    let removed = leaving(before.as_ref(), before.as_ref().map(|_| &record), &bound, &consent.drop)?;
    let mut inspection = db.inspect(&bound).await?;

    // All storages are asked before anything is written.
    let (mut places, mut proved) = (Vec::new(), BTreeMap::new());
    for (name, storage) in open_storages(plan)? {
        let was = storage.marker().await?;
        let adopted_from = before.as_ref().filter(|b| b.id != record.id).map(|b| b.id.as_str());
        let mut marker = claim_marker(&name, was.clone(), &record, adopted_from, consent)?;
        let seen = storage.probe().await.map_err(|e| e.with("storage", &name))?;
        proved.insert(name.clone(), seen.clone());
        marker.proved = Some(seen);
        places.push(Place { inode: storage.inode().await?, name, storage, was, marker });
    }
    renew_copied_markers(&mut places, &record, consent)?;
    record.storages.extend(places.iter().map(|p| (p.name.clone(), p.marker.storage.clone())));
    own_places(plan, &record.storages)?;
    forgettable(&places, &record, consent)?;

    if let Some(before) = &before {
        let mut drift = before.snapshot.drift(&db.snapshot(&bound_as_before(&bound, before)).await?);
        // What belongs to a binding that left the plan was not looked at, so its absence says nothing.
        drift.retain(|d| removed.is_empty() || d.is.is_some() || d.item.starts_with("trigger"));
        if !consent.adopt_columns
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
    all_bound(plan, db, &mut inspection).await?;
    record.version = VERSION;
    record.bindings.extend(bound.iter().map(|b| (b.binding.key(), b.id)));
    record.active = bound.iter().map(|b| b.id).collect();
    let staked = stake(&places).await?;
    let (installation, statements) = match put_in_place(&bound, record, db, before.as_ref(), consent).await {
        Ok(done) => done,
        // Who was faster may have made them his own.
        Err(e) if overtaken(&e) => return Err(e),
        Err(e) => return Err(withdraw(staked, e).await),
    };
    for place in &places {
        place.mark().await?;
    }
    each_holds_its_own(places.iter()).await?;
    Ok(Attached { installation, inspection, statements, proved, removed })
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

/// A storage that is being attached.
struct Place {
    name: String,
    storage: Arc<dyn Storage>,
    /// What tells its folder from others; `None` where it is none.
    inode: Option<(u64, u64)>,
    /// The marker that it had.
    was: Option<Marker>,
    /// The marker that it gets.
    marker: Marker,
}

impl Place {
    /// Writes the marker, unless another database has made the storage its own since it was looked at.
    async fn mark(&self) -> Result<()> {
        if let Some(now) = self.storage.marker().await?
            && Some(&now) != self.was.as_ref()
            && now.storage != self.marker.storage
            && !now.installations.is_empty()
        {
            return Err(taken(&self.name));
        }
        self.storage.set_marker(&self.marker).await
    }
}

/// The error for a storage that another attach took at the same moment.
fn taken(storage: &str) -> Error {
    Error::new(Kind::Identity, "another attach has just made this storage its own")
        .with("storage", storage)
        .hint("run `rowbound attach` again")
}

/// Gives a marker of its own to a folder that was copied together with its marker, where the person says that it is meant (`--adopt-storage`).
fn renew_copied_markers(places: &mut [Place], record: &Installation, consent: &Consent) -> Result<()> {
    for i in 0..places.len() {
        let copied = |j: &usize| places[*j].marker.storage == places[i].marker.storage && places[*j].inode != places[i].inode;
        let Some(j) = (0..i).find(|j| copied(j) && places[*j].inode.is_some() && places[i].inode.is_some()) else { continue };
        let meant = |k: &usize| consent.adopt_storages.contains(&places[*k].name);
        let Some(k) = [i, j].into_iter().find(meant) else {
            let (first, second) = (&places[j].name, &places[i].name);
            return Err(Error::new(Kind::Identity, "two folders carry the same marker: one was copied from the other")
                .with("storages", format_args!("{first} and {second}"))
                .hint(format!(
                    "rowbound attach --adopt-storage with the name of the copy ({first} or {second}) gives it a marker of its own"
                )));
        };
        places[k].marker.storage = random_id();
        places[k].marker.installations = vec![record.id.clone()];
    }
    Ok(())
}

/// The error for a storage whose marker does not hold this installation any more.
pub(crate) fn forgotten(marker: &Marker, record: &Installation, storage: &str) -> Option<Error> {
    (!marker.installations.contains(&record.id)).then(|| {
        Error::new(Kind::Identity, "the storage's marker does not hold this installation any more: another database has removed it")
            .with("storage", storage)
            .with("installation", &record.id)
            .hint(
                "if both databases use the storage, and no file is referenced by both: rowbound attach --shared; else give this one a storage of its own",
            )
    })
}

/// Insists, before anything of a storage is changed, that its marker still holds this installation, and that no other storage of the plan
/// shows the same marker now: a mount or a link may have changed since `attach`. `places` are all storages of the plan; one that cannot be
/// read says nothing.
///
/// # Errors
/// [`Kind::Identity`] where another database has removed this installation; [`Kind::Config`] for two storages that are one place.
pub(crate) async fn apart<'a>(
    record: &Installation,
    name: &str,
    places: impl Iterator<Item = (&'a StoragePlan, &'a Arc<dyn Storage>)>,
) -> Result<()> {
    let places: Vec<_> = places.collect();
    let Some((own, storage)) = places.iter().find(|(plan, _)| plan.name == name) else { return Ok(()) };
    let Some(marker) = storage.marker().await? else { return Ok(()) }; // its operations say so themselves
    if let Some(e) = forgotten(&marker, record, name) {
        return Err(e);
    }
    let alike = |other: &StoragePlan| std::mem::discriminant(&other.location) == std::mem::discriminant(&own.location);
    for (other, storage) in places.iter().filter(|(other, _)| other.name != name && alike(other)) {
        let read = tokio::time::timeout(OTHERS, storage.marker()).await;
        if let Ok(Ok(Some(found))) = read
            && found.storage == marker.storage
        {
            return Err(one_place(name, &other.name));
        }
    }
    Ok(())
}

/// The error for two storages that turn out to be one place.
fn one_place(first: &str, second: &str) -> Error {
    Error::new(Kind::Config, "two storages are one place: a file that one releases may be referenced by rows of the other")
        .with("storages", format_args!("{first} and {second}"))
        .hint("bind the columns of both to one [storage], and remove the other from rowbound.toml; or give each a folder or prefix of its own")
}

/// Insists that no two storages of the plan carry the same marker: they are one place under two names (a symbolic link, a bind mount, one bucket
/// behind two addresses), whatever their URLs say.
pub(crate) fn own_places(plan: &Plan, ids: &BTreeMap<String, String>) -> Result<()> {
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, id) in ids.iter().filter(|(name, _)| plan.storages.contains_key(*name)) {
        if let Some(other) = seen.insert(id, name) {
            return Err(one_place(other, name));
        }
    }
    Ok(())
}

/// Insists that no two storages are one place, before the database is changed. Folders are told apart by their inodes. All others without a marker are
/// given one that belongs to nobody yet, and are read again: where two are one place, the second has overwritten the first. Returns the storages that were given one, for [`withdraw`]. A process that is killed here leaves markers that the
/// next `attach` takes.
///
/// # Errors
/// [`Kind::Config`] for two that are one place, or a storage's own; no marker was left.
async fn stake(places: &[Place]) -> Result<Vec<(Arc<dyn Storage>, Marker)>> {
    let mut staked = Vec::new();
    let mut inodes: BTreeMap<(u64, u64), &str> = BTreeMap::new();
    for (inode, place) in places.iter().filter_map(|p| Some((p.inode?, p))) {
        if let Some(other) = inodes.insert(inode, &place.name) {
            return Err(one_place(other, &place.name));
        }
    }
    let untold = || places.iter().filter(|p| p.inode.is_none());
    if untold().count() < 2 {
        return Ok(staked);
    }
    for place in untold().filter(|p| p.was.is_none()) {
        if place.storage.marker().await?.is_some_and(|now| !now.installations.is_empty()) {
            return Err(withdraw(staked, taken(&place.name)).await);
        }
        let nobodys = Marker { installations: Vec::new(), ..place.marker.clone() };
        staked.push((place.storage.clone(), nobodys.clone()));
        if let Err(e) = place.storage.set_marker(&nobodys).await {
            return Err(withdraw(staked, e).await);
        }
    }
    match each_holds_its_own(untold()).await {
        Ok(()) => Ok(staked),
        Err(e) => Err(withdraw(staked, e).await),
    }
}

/// Takes the markers of [`stake`] away again, but none that another attach has made its own meanwhile. The error that made it necessary carries
/// along what could not be undone.
async fn withdraw(staked: Vec<(Arc<dyn Storage>, Marker)>, mut why: Error) -> Error {
    for (storage, nobodys) in staked {
        let removed = match storage.marker().await {
            Ok(Some(marker)) if marker.storage == nobodys.storage && marker.installations.is_empty() => {
                storage.remove_marker().await.map(drop)
            }
            Ok(_) => Ok(()),
            Err(e) => Err(e),
        };
        if let Err(e) = removed {
            why = why.with("and a marker stays", e.full());
        }
    }
    why
}

/// Reads every marker again: each storage must hold its own.
async fn each_holds_its_own<'a>(places: impl Iterator<Item = &'a Place>) -> Result<()> {
    let places: Vec<&Place> = places.collect();
    for place in &places {
        let found = place.storage.marker().await?.map(|marker| marker.storage);
        if found.as_ref() == Some(&place.marker.storage) {
            continue;
        }
        return Err(match places.iter().find(|p| Some(&p.marker.storage) == found.as_ref()) {
            Some(other) => one_place(&place.name, &other.name),
            None => taken(&place.name),
        });
    }
    Ok(())
}

/// Insists that the installations to forget are in a marker, and none of them is this one.
fn forgettable(places: &[Place], record: &Installation, consent: &Consent) -> Result<()> {
    let known: Vec<&str> = places
        .iter()
        .filter_map(|p| p.was.as_ref())
        .flat_map(|m| &m.installations)
        .map(String::as_str)
        .filter(|id| *id != record.id)
        .collect();
    match consent.forget_installations.iter().find(|id| !known.contains(&id.as_str())) {
        None => Ok(()),
        Some(id) => Err(Error::new(Kind::Config, "no other installation with this id uses a storage of the plan")
            .with("installation", id)
            .hint(match known.is_empty() {
                true => "no other installation uses any of them: leave --forget-installation out".to_owned(),
                false => format!("others are: {}", known.join(", ")),
            })),
    }
}

/// The bindings that are attached and not in the plan, each of which must be among `drop`: nobody drops what is another program's without knowing it. `record` is `before` with
/// what was renamed under its new name.
fn leaving(before: Option<&Installation>, record: Option<&Installation>, bound: &[Bound], drop: &[String]) -> Result<Vec<String>> {
    let ever: Vec<String> = before.iter().flat_map(|r| r.bindings.keys().cloned()).collect();
    let active = |r: &Installation, id: &i32| r.active.contains(id);
    let attached: Vec<String> =
        record.iter().flat_map(|r| r.bindings.iter().filter(|(_, id)| active(r, id)).map(|(key, _)| key.clone())).collect();
    let leaving: Vec<String> = attached.iter().filter(|key| bound.iter().all(|b| b.binding.key() != **key)).cloned().collect();
    for word in drop {
        let meant = |keys: &[String]| keys.iter().any(|key| is_meant(key, word));
        // What was dropped before is gone already, and what was renamed need not go.
        if meant(&leaving) || meant(&ever) && !meant(&attached) {
            continue;
        }
        return Err(match meant(&attached) {
            true => Error::new(Kind::Config, "this binding is to be dropped, but is in the plan")
                .with("drop", word)
                .hint("take it out of rowbound.toml (or out of the program) first"),
            false => Error::new(Kind::Config, "no such binding is attached").with("drop", word).hint(match &attached[..] {
                [] => "nothing is attached to this database: leave it out".to_owned(),
                attached => format!("attached are: {}", attached.join(", ")),
            }),
        });
    }
    let kept: Vec<&String> = leaving.iter().filter(|key| !drop.iter().any(|word| is_meant(key, word))).collect();
    if kept.is_empty() {
        return Ok(leaving);
    }
    let mut error =
        Error::new(Kind::Drift, "this binding is attached, but not in the plan: what it names would count no longer as referenced");
    for key in &kept {
        error = error.with("binding", key);
    }
    let flags: Vec<String> = kept.iter().map(|key| drop_flag(key)).collect();
    Err(error.hint(format!(
        "put it back (into rowbound.toml, or among the fields of this program, if it is another program's); or, if its column or table is gone or no file is \
         named there any more: rowbound attach {}",
        flags.join(" ")
    )))
}

/// Whether `word` means the binding of this key: its column, its query's name, or the key itself.
pub fn is_meant(key: &str, word: &str) -> bool {
    let what = key.rsplit_once(" -> ").map_or(key, |(what, _)| what);
    let column = || Column::parse(word).is_ok_and(|column| column.to_string() == what);
    key == word || what == word || what.strip_prefix("query ") == Some(word) || column()
}

/// What to type to have the binding of this key dropped.
pub(crate) fn drop_flag(key: &str) -> String {
    let what = key.rsplit_once(" -> ").map_or(key, |(what, _)| what);
    let word = what.strip_prefix("query ").unwrap_or(what);
    match word.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-')) {
        true => format!("--drop {word}"),
        false => format!("--drop '{}'", word.replace('\'', "'\\''")),
    }
}

/// Insists that no follower has yet to hear of the original's deletions, which would be told twice.
async fn none_waiting(db: &dyn Database, record: &Installation) -> Result<()> {
    // What an earlier build attached has no followers, nor tables of them.
    let followers = if record.version < FOLLOWERS { Vec::new() } else { db.followers().await? };
    let waiting: Vec<_> = followers.iter().filter(|f| f.waiting > 0).collect();
    let Some(first) = waiting.first() else { return Ok(()) };
    let mut error =
        Error::new(Kind::Identity, "hooks have yet to hear of deletions: on a copy the original tells them, and they would hear twice");
    for follower in &waiting {
        error = error.with("hook", format_args!("{}: {} waiting", follower.name, follower.waiting));
    }
    Err(error.hint(format!(
        "on a copy: `rowbound forget --give-up {}` for each, then `rowbound attach --adopt`; after a move: rowbound attach --adopt --keep-deliveries",
        first.name
    )))
}

/// Insists that no column is left out whose sampled values are names of files: nobody would look for references in it. A sample, so that it is
/// cheap on any database; what could not be looked at is a warning.
async fn all_bound(plan: &Plan, db: &dyn Database, inspection: &mut Inspection) -> Result<()> {
    let storages = open_storages(plan)?;
    for storage in storages.values() {
        storage.survey();
    }
    let limits = Limits { values: 100, time: std::time::Duration::from_secs(15) };
    let survey =
        survey(db, &storages, limits, |c| plan.bindings.iter().any(|b| c.is(&b.column)) || plan.ignore.iter().any(|i| c.is(i))).await?;
    for unread in &survey.unread {
        inspection.warnings.push(format!("{} was not looked at, and may name files: {}", unread.column.column, unread.why));
    }
    let Some(first) = survey.evidence.first() else { return Ok(()) };
    let mut error =
        Error::new(Kind::Unbound, "a column that is not bound names files of a storage: they would be deleted although its rows name them");
    for seen in survey.evidence.iter().take(5) {
        error = error.with(
            "column",
            format_args!("{}: {} name files of {}, such as {}", seen.column.column, seen.share(), seen.storage, seen.example()),
        );
    }
    if survey.evidence.len() > 5 {
        error = error.with("and", format_args!("{} more", survey.evidence.len() - 5));
    }
    let column = &first.column.column;
    Err(error.hint(format!(
        "bind it ([[binding]] with column = \"{column}\"; `rowbound init --output -` proposes how), or, if its rows need no files, write ignore = [\"{column}\"] \
         at the top of rowbound.toml; `rowbound doctor` shows them all"
    )))
}

/// A column that was renamed keeps its number under its new name, so that what still waits from before is not settled as unbound.
async fn carry_renamed(plan: &Plan, db: &dyn Database, record: &mut Installation) -> Result<()> {
    let new: Vec<Bound> = number(plan, &record.bindings).into_iter().filter(|b| !record.bindings.contains_key(&b.binding.key())).collect();
    if new.is_empty() {
        return Ok(());
    }
    let now = db.snapshot(&new).await?;
    for b in new {
        let storage = format!(" -> {}", b.binding.storage);
        let renamed = record.bindings.iter().find(|(key, id)| {
            record.active.contains(id)
                && plan.bindings.iter().all(|b| b.key() != **key)
                && key
                    .strip_suffix(&storage)
                    .is_some_and(|column| still_the_column(db.dialect(), **id, &record.snapshot, column, &now, &b.binding.column))
        });
        if let Some((key, id)) = renamed.map(|(key, id)| (key.clone(), *id)) {
            record.bindings.remove(&key);
            record.bindings.insert(b.binding.key(), id);
        }
    }
    Ok(())
}

/// The parts of a column's item by which PostgreSQL knows it: its table's and its own number.
fn numbers(text: &str) -> Vec<&str> {
    text.split(", ").take(2).collect()
}

/// Whether `now` proves that the column bound as `id` is `column` today.
fn still_the_column(dialect: Dialect, id: i32, was: &Snapshot, old: &str, now: &Snapshot, column: &Column) -> bool {
    match dialect {
        Dialect::Postgres => {
            let (was, now) = (was.0.get(&format!("column {old}")), now.0.get(&format!("column {column}")));
            was.zip(now).is_some_and(|(was, now)| numbers(was) == numbers(now))
        }
        // SQLite rewrites the triggers of a column that is renamed: its number stands beside its new name.
        Dialect::Sqlite => {
            let released = format!(" {id}, old.\"{}\",", column.column.replace('"', "\"\""));
            let table = format!(" on {}", column.table);
            now.0.iter().any(|(item, text)| item.starts_with("trigger ") && item.ends_with(&table) && text.contains(&released))
        }
        Dialect::Mysql => false,
    }
}

/// Only bindings that stood there before can have drifted.
fn bound_as_before(bound: &[Bound], before: &Installation) -> Vec<Bound> {
    bound.iter().filter(|b| before.active.contains(&b.id)).cloned().collect()
}

/// Whether a bound column's name means another column now. PostgreSQL numbers columns: table and number come first in the item. SQLite has no
/// numbers, but rewrites the triggers of a column that is renamed. MySQL has neither, so there it cannot be told.
fn another_column(d: &Drift, dialect: Dialect, bound: &[Bound]) -> bool {
    let (Some(was), Some(is)) = (&d.was, &d.is) else { return false };
    match dialect {
        Dialect::Postgres => d.item.starts_with("column ") && numbers(was) != numbers(is),
        Dialect::Sqlite => bound.iter().any(|b| {
            let column = format!("old.\"{}\"", b.binding.column.column.replace('"', "\"\""));
            let on_its_table = d.item.starts_with("trigger ") && d.item.ends_with(&format!(" on {}", b.binding.column.table));
            on_its_table && was.contains(&column) && !is.contains(&column)
        }),
        Dialect::Mysql => false,
    }
}

/// The last moment at which capture is known to have been whole.
pub(crate) fn last_whole(record: &Installation) -> Timestamp {
    record.gaps.last().and_then(|g| g.until).unwrap_or(record.attached_at)
}

/// The marker that a storage shall have, given the one that it has.
fn claim_marker(
    name: &str,
    marker: Option<Marker>,
    record: &Installation,
    adopted_from: Option<&str>,
    consent: &Consent,
) -> Result<Marker> {
    let adopted = consent.adopt_storages.iter().any(|s| s == name);
    let known = record.storages.get(name);
    match (marker, known) {
        (None, Some(_)) if !adopted => Err(Error::new(Kind::StorageUnreachable, "the storage was attached before, but its marker is gone")
            .with("storage", name)
            .hint(format!("is it mounted? If it is the right place after all: rowbound attach --adopt-storage {name}"))),
        (None, _) => Ok(Marker { storage: random_id(), installations: vec![record.id.clone()], proved: None }),
        (Some(marker), Some(known)) if marker.storage != *known && !adopted => {
            Err(Error::new(Kind::StorageUnreachable, "this is another storage than the one attached before")
                .with("storage", name)
                .hint(format!("is the right one mounted? If it is meant: rowbound attach --adopt-storage {name}")))
        }
        (Some(mut marker), _) => {
            marker.installations.retain(|id| !consent.forget_installations.contains(id));
            if !marker.installations.contains(&record.id) {
                if let Some(other) = marker.installations.first()
                    && !consent.shared
                {
                    return Err(Error::new(
                        Kind::Identity,
                        "rows of another database reference files of this storage: each database would miss the other's references",
                    )
                    .with("storage", name)
                    .with("attached to", marker.installations.join(", "))
                    .hint(match adopted_from.filter(|from| marker.installations.iter().any(|id| id == from)) {
                        Some(from) => format!(
                            "this is the storage of the database that this one was copied or moved from. On a copy: give it a storage of its own. If the \
                             original is gone: rowbound attach --adopt --forget-installation {from}"
                        ),
                        None => format!(
                            "give this database a storage of its own; if that database is gone: rowbound attach --forget-installation {other}; if both \
                             exist, and no file is ever referenced by both: rowbound attach --shared"
                        ),
                    }));
                }
                marker.installations.push(record.id.clone());
            }
            Ok(marker)
        }
    }
}

/// A binding that `promote` was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Promoted {
    /// The column.
    pub column: String,
    /// The storage.
    pub storage: String,
    /// What became of it.
    pub now: Promotion,
    /// Since when a person had it in shadow mode; `None` if nobody had.
    pub since: Option<Timestamp>,
    /// What would have been deleted meanwhile. It stays: a sweep finds it.
    pub would_have: Shadowed,
}

/// What became of a binding that `promote` was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Promotion {
    /// It was in shadow mode and is live.
    Live,
    /// It was live before.
    WasLive,
    /// It stays in shadow mode, because the plan says so.
    Planned,
}

/// Ends the shadow mode of the bindings of one column, or of all (`None`). What would have been deleted meanwhile stays.
///
/// # Errors
/// [`Kind::Config`] for a column that is not bound, or whose binding the plan itself has in shadow mode; [`Kind::NotAttached`]. In each case nothing
/// changed.
pub async fn promote(plan: &Plan, db: &dyn Database, column: Option<&Column>) -> Result<Vec<Promoted>> {
    let attach_first = |what: &str| Error::new(Kind::NotAttached, what).hint("rowbound attach");
    let record = db.installation().await?.ok_or_else(|| attach_first("Rowbound is not attached to this database"))?;
    let chosen: Vec<Bound> =
        number(plan, &record.bindings).into_iter().filter(|b| column.is_none_or(|column| b.binding.column == *column)).collect();
    if let Some(column) = column
        && chosen.is_empty()
    {
        let known: Vec<_> = plan.bindings.iter().map(|b| b.column.to_string()).collect();
        return Err(Error::new(Kind::Config, "this column is not bound")
            .with("column", column)
            .hint(format!("bound are: {}", known.join(", "))));
    }
    if let Some(new) = chosen.iter().find(|b| !record.active.contains(&b.id)) {
        return Err(attach_first("this binding is not attached yet").with("binding", &new.binding.column));
    }
    if let Some(column) = column
        && chosen.iter().any(|b| b.binding.mode == Mode::Shadow)
    {
        return Err(Error::new(Kind::Config, "the configuration has this binding in shadow mode")
            .with("binding", column)
            .hint("take `mode = \"shadow\"` out of its [[binding]], then run the same command again"));
    }
    let mut promoted = Vec::new();
    for b in &chosen {
        let since = record.shadow.get(&b.id).copied();
        let now = match (b.binding.mode, since) {
            (Mode::Shadow, _) => Promotion::Planned,
            (Mode::Live, Some(_)) => Promotion::Live,
            (Mode::Live, None) => Promotion::WasLive,
        };
        let would_have = if now == Promotion::WasLive { Shadowed::default() } else { db.shadowed(b.id, since).await? };
        promoted.push(Promoted { column: b.binding.column.to_string(), storage: b.binding.storage.clone(), now, since, would_have });
    }
    // One that the plan has in shadow mode keeps a person's word, too: it counts again when the plan's is gone.
    let live: Vec<i32> = chosen.iter().filter(|b| b.binding.mode == Mode::Live).map(|b| b.id).collect();
    db.set_shadow(&live, None).await?;
    Ok(promoted)
}

/// What `detach` left behind.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Detached {
    /// Files that lie in each storage's trash still.
    pub in_trash: BTreeMap<String, u64>,
}

/// Whether two identities of a SQLite database speak of one file: the file beside it is the same, down to its inode.
fn same_file(one: &str, other: &str) -> bool {
    let beside = |identity: &str| identity.split_once(" by ").map(|(_, file)| file.to_owned()).filter(|file| file.contains(" inode "));
    beside(one).is_some() && beside(one) == beside(other)
}

/// Removes capture, candidates and ledger from the database and this installation from the storages' markers. `copy`: this database is a copy of the
/// one that was attached, and the storages stay as they are, because they are the original's.
///
/// # Errors
/// [`Kind::Identity`] on a copy, unless `copy` says so: its markers are the original's; [`Kind::Config`] for `copy` on the original. Else those of the
/// database or a storage; nothing was changed where a storage cannot be read. Then the database comes first: once it has let go, nothing can be deleted any more.
pub async fn detach(plan: &Plan, db: &dyn Database, copy: bool) -> Result<Detached> {
    let record = db.installation().await?;
    if let Some(record) = &record {
        let identity = db.identity().await?;
        match (record.identity == identity, copy) {
            (false, false) => {
                return Err(copied(&record.identity, &identity).hint(
                    "on a copy: `rowbound detach --copy` cleans the database and leaves every storage to the original; after a move: \
                     `rowbound attach --adopt`, then `rowbound detach`",
                ));
            }
            (true, true) => {
                return Err(Error::new(Kind::Config, "this is the database that was attached, and no copy of it")
                    .with("identity", identity)
                    .hint("run `rowbound detach` without --copy"));
            }
            (false, true) if same_file(&record.identity, &identity) => {
                return Err(Error::new(Kind::Config, "this is the database that was attached, seen under another path, and no copy of it")
                    .with("attached", &record.identity)
                    .with("now", identity)
                    .hint("run `rowbound detach` where it was attached"));
            }
            _ => {}
        }
    }
    let mut left = Detached::default();
    let mut marked = Vec::new();
    if !copy {
        // All are read before anything is changed: once the database has let go, nobody knows which installation to take out of a marker.
        for (name, storage) in open_storages(plan)? {
            let marker = storage.marker().await.map_err(|e| {
                e.hint(format!(
                    "nothing was changed: bring the storage back and detach again; if it is gone for good, remove storage {name} and its bindings from \
                     rowbound.toml"
                ))
            })?;
            marked.extend(marker.map(|marker| (name, storage, marker)));
        }
    }
    db.remove().await?;
    for (name, storage, mut marker) in marked {
        let before = marker.installations.len();
        marker.installations.retain(|id| record.as_ref().is_none_or(|record| *id != record.id));
        if marker.installations.is_empty() {
            left.in_trash.insert(name, storage.remove_marker().await?);
        } else if marker.installations.len() < before {
            storage.set_marker(&marker).await?;
        }
    }
    Ok(left)
}
