//! One place is one storage.
//!
//! In: the storages of a plan, where each says that it is, and the marker that is read through each. Out: nothing, or the error that names the two. Promise:
//! two names for one place, and a storage within another one, are refused at `attach`, and stop a worker that meets them later.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;

use super::OTHERS;
use crate::{
    capture::Installation,
    error::{Error, Kind, Result},
    name::FileName,
    plan::{Location, Plan, StoragePlan},
    storage::{
        Marker, Storage, Whereabouts,
        whereabouts::{self, Within},
    },
};

/// A storage that is being attached.
pub(super) struct Place {
    pub(super) name: String,
    pub(super) location: Location,
    pub(super) storage: Arc<dyn Storage>,
    /// Where it is.
    pub(super) at: Whereabouts,
    /// The marker that it had.
    pub(super) was: Option<Marker>,
    /// The marker that it gets.
    pub(super) marker: Marker,
}

/// The error for a storage whose marker does not hold this installation any more.
fn forgotten(marker: &Marker, record: &Installation, storage: &str) -> Option<Error> {
    if marker.installations.contains(&record.id) {
        return None;
    }
    let error = match record.unfinished.is_empty() {
        true => Error::new(Kind::Identity, "the storage's marker does not hold this installation any more: another database has removed it").hint(
            "if both databases use the storage, and no file is referenced by both: rowbound attach --shared; else give this one a storage of its own",
        ),
        false => Error::new(Kind::NotAttached, "the last `rowbound attach` did not come to its end").hint("rowbound attach"),
    };
    Some(error.with("storage", storage).with("installation", &record.id))
}

/// What was seen of where a folder is counts for so long when it is compared with another: of many storages each is compared with each.
const LATELY: Duration = Duration::from_secs(1);

/// What was seen of the storages of a plan. One for all workers of a collector.
#[derive(Debug, Clone, Default)]
pub(crate) struct Looks(Arc<Mutex<BTreeMap<String, Looked>>>);

/// A storage's marker, and where it is.
type Located = (Option<Marker>, Whereabouts);

#[derive(Debug, Default)]
struct Looked {
    at: Option<(Instant, Whereabouts)>,
    /// A look that was given up. Where a file system does not answer, it holds a thread.
    late: Option<JoinHandle<Result<Located>>>,
}

impl Looks {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Looked>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn saw(&self, name: &str, when: Instant, at: &Whereabouts) {
        self.lock().entry(name.to_owned()).or_default().at = Some((when, at.clone()));
    }

    /// Where the storage was a moment ago.
    fn lately(&self, name: &str) -> Option<Whereabouts> {
        self.lock().get(name)?.at.as_ref().filter(|(when, _)| when.elapsed() < LATELY).map(|(_, at)| at.clone())
    }

    fn is_late(&self, name: &str) -> bool {
        self.lock().get(name).and_then(|looked| looked.late.as_ref()).is_some_and(|late| !late.is_finished())
    }

    /// Another storage's marker, and, of a folder, where it is; `None` where it cannot be read in time, or has not answered since it was asked before.
    async fn other(&self, plan: &StoragePlan, storage: &Arc<dyn Storage>) -> Option<Located> {
        if self.is_late(&plan.name) {
            return None;
        }
        let known = match plan.location {
            Location::Folder(_) => self.lately(&plan.name),
            // What tells them apart are the markers, and each looks for itself what lies above it.
            _ => Some(Whereabouts::default()),
        };
        let (began, fresh, storage) = (Instant::now(), known.is_none(), storage.clone());
        let mut look = tokio::spawn(async move {
            let marker = storage.marker().await?;
            let at = match known {
                Some(at) => at,
                None => storage.whereabouts().await?,
            };
            Ok::<Located, Error>((marker, at))
        });
        match tokio::time::timeout(OTHERS, &mut look).await {
            Ok(seen) => {
                let (marker, at) = seen.ok()?.ok()?;
                if fresh {
                    self.saw(&plan.name, began, &at);
                }
                Some((marker, at))
            }
            Err(_) => {
                self.lock().entry(plan.name.clone()).or_default().late = Some(look);
                None
            }
        }
    }
}

/// One of two storages that are compared.
struct Side<'a> {
    name: &'a str,
    location: &'a Location,
    storage: &'a Arc<dyn Storage>,
    marker: Option<&'a Marker>,
    at: &'a Whereabouts,
}

impl Side<'_> {
    /// Insists that they are two places, as far as their folders tell.
    fn beside(&self, other: &Side<'_>) -> Result<()> {
        if self.at.inode.is_some() && self.at.inode == other.at.inode {
            return Err(one_place(self.name, other.name));
        }
        for (inner, outer) in [(self, other), (other, self)] {
            if outer.at.inode.is_some_and(|outer| inner.at.above.contains(&outer)) {
                return Err(whereabouts::one_within(inner.name, outer.name));
            }
        }
        Ok(())
    }

    /// Whether the other one lies in a folder of this one: its marker is read there.
    async fn holds(&self, other: &Side<'_>) -> Result<bool> {
        let Some(marker) = other.marker else { return Ok(false) };
        let folder = other.location.folder_in(self.location).and_then(|folder| FileName::parse(&folder).ok());
        let Some(folder) = folder else { return Ok(false) };
        Ok(self.storage.marker_in(&folder).await?.is_some_and(|found| found.storage == marker.storage))
    }
}

/// Insists, before anything of a storage is changed, that its marker still holds this installation, that it lies in no other storage, and that no other storage
/// of the plan is the same place or lies within it: a mount or a link may have changed since `attach`. `places` are all storages of the plan; another one that
/// cannot be read says nothing. `looks` keeps where the others' folders were a moment ago.
///
/// # Errors
/// [`Kind::Identity`] where another database has removed this installation; [`Kind::Config`] for two storages that are one place, or one within another;
/// [`Kind::NotAttached`] where the last attach did not come to its end; the storage's own.
pub(crate) async fn apart<'a>(
    record: &Installation,
    name: &str,
    places: impl Iterator<Item = (&'a StoragePlan, &'a Arc<dyn Storage>)>,
    looks: &Looks,
) -> Result<()> {
    let places: Vec<_> = places.collect();
    let Some((own, storage)) = places.iter().find(|(plan, _)| plan.name == name) else { return Ok(()) };
    let Some(marker) = storage.marker().await? else { return Ok(()) }; // its operations say so themselves
    if let Some(e) = forgotten(&marker, record, name) {
        return Err(e);
    }
    let began = Instant::now();
    let at = storage.whereabouts().await?;
    looks.saw(name, began, &at);
    let here = Side { name, location: &own.location, storage, marker: Some(&marker), at: &at };
    let alike = |other: &StoragePlan| std::mem::discriminant(&other.location) == std::mem::discriminant(&own.location);
    for (other, storage) in places.iter().filter(|(other, _)| other.name != name && alike(other)) {
        let Some((found, at)) = looks.other(other, storage).await else { continue };
        let there = Side { name: &other.name, location: &other.location, storage, marker: found.as_ref(), at: &at };
        if found.as_ref().is_some_and(|found| found.storage == marker.storage) {
            return Err(one_place(name, &other.name));
        }
        here.beside(&there)?;
        if here.holds(&there).await? {
            return Err(whereabouts::one_within(&other.name, name));
        }
        if let Ok(Ok(true)) = tokio::time::timeout(OTHERS, there.holds(&here)).await {
            return Err(whereabouts::one_within(name, &other.name));
        }
    }
    at.within.filter(|other| !is_left(other, record)).map_or(Ok(()), |other| Err(whereabouts::within(name, &other)))
}

/// Whether a storage that was found above another one is where that one began before this database moved its `url` deeper: no row means a file of it any more.
fn is_left(outer: &Within, record: &Installation) -> bool {
    outer
        .marker
        .as_ref()
        .is_some_and(|marker| marker.others(&record.id).next().is_none() && !record.storages.values().any(|id| *id == marker.storage))
}

/// The error for two storages that turn out to be one place.
pub(super) fn one_place(first: &str, second: &str) -> Error {
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

fn side(place: &Place) -> Side<'_> {
    Side { name: &place.name, location: &place.location, storage: &place.storage, marker: Some(&place.marker), at: &place.at }
}

fn pairs(places: &[Place]) -> Vec<(&Place, &Place)> {
    places.iter().enumerate().flat_map(|(i, place)| places[..i].iter().map(move |other| (other, place))).collect()
}

/// Insists that no storage is the place of another one or lies within one, before anything is written: folders tell that by themselves, and a marker that
/// stands above a storage tells it of others.
pub(super) fn beside_each_other(places: &[Place], record: &Installation) -> Result<()> {
    for (one, other) in pairs(places) {
        side(one).beside(&side(other))?;
    }
    for place in places {
        if let Some(found) = place.at.within.as_ref().filter(|found| !is_left(found, record)) {
            let of = |id: &str| places.iter().find(|p| p.was.as_ref().is_some_and(|was| was.storage == id));
            let outer = found.marker.as_ref().and_then(|marker| of(&marker.storage));
            return Err(
                outer.map_or_else(|| whereabouts::within(&place.name, found), |outer| whereabouts::one_within(&place.name, &outer.name))
            );
        }
    }
    Ok(())
}

/// The same where only the markers tell it: each has one by now.
pub(super) async fn none_within_another(places: &[Place]) -> Result<()> {
    for (one, other) in pairs(places) {
        for (inner, outer) in [(one, other), (other, one)] {
            if side(outer).holds(&side(inner)).await? {
                return Err(whereabouts::one_within(&inner.name, &outer.name));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::folder::Folder;

    #[tokio::test]
    async fn where_a_folder_is_is_read_once_a_moment() {
        let (looks, place) = (Looks::default(), tempfile::tempdir().unwrap());
        let (folder, link) = (place.path().join("folder"), place.path().join("link"));
        for folder in [&folder, &place.path().join("another")] {
            std::fs::create_dir(folder).unwrap();
        }
        let to = |target: &str| {
            let _ = std::fs::remove_file(&link);
            std::os::unix::fs::symlink(target, &link).unwrap();
        };
        to("folder");
        let plan = StoragePlan::folder("default", &link);
        let storage: Arc<dyn Storage> = Arc::new(Folder::new("default", &link, None, false));
        let was = looks.other(&plan, &storage).await.unwrap().1;
        assert!(was.inode.is_some());
        to("another");
        assert_eq!(looks.other(&plan, &storage).await.unwrap().1, was, "a moment later");
        looks.saw("default", Instant::now().checked_sub(LATELY).unwrap(), &was);
        assert_ne!(looks.other(&plan, &storage).await.unwrap().1.inode, was.inode);
    }

    #[tokio::test]
    async fn a_storage_that_has_not_answered_is_not_asked_again_meanwhile() {
        let (looks, place) = (Looks::default(), tempfile::tempdir().unwrap());
        let plan = StoragePlan::folder("default", place.path());
        let storage: Arc<dyn Storage> = Arc::new(Folder::new("default", place.path(), None, false));
        let (answer, answered) = tokio::sync::oneshot::channel::<()>();
        let late = tokio::spawn(async move {
            let _ = answered.await;
            Ok::<Located, Error>((None, Whereabouts::default()))
        });
        looks.lock().entry("default".into()).or_default().late = Some(late);
        assert!(looks.other(&plan, &storage).await.is_none());
        answer.send(()).unwrap();
        while looks.is_late("default") {
            tokio::task::yield_now().await;
        }
        assert!(looks.other(&plan, &storage).await.is_some());
    }
}
