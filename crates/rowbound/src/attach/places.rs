//! The storages of a plan: which installation each belongs to, and that no two are one place.
//!
//! In: the markers that stand there, the installation record, what the person confirmed. Out: the markers that they get. Promise: a storage that is not the
//! one attached before, one that belongs to another database, and one place under two names are refused; the marker of another attach is never taken away.

use std::{collections::BTreeMap, sync::Arc};

use super::{Consent, OTHERS, random_id};
use crate::{
    capture::Installation,
    error::{Error, Kind, Result},
    plan::{Plan, StoragePlan},
    storage::{Marker, Storage},
};

/// A storage that is being attached.
pub(super) struct Place {
    pub(super) name: String,
    pub(super) storage: Arc<dyn Storage>,
    /// What tells its folder from others; `None` where it is none.
    pub(super) inode: Option<(u64, u64)>,
    /// The marker that it had.
    pub(super) was: Option<Marker>,
    /// The marker that it gets.
    pub(super) marker: Marker,
}

impl Place {
    /// Whether its marker says what it said before, whenever that was tried.
    pub(super) fn is_as_before(&self) -> bool {
        let said = |marker: &Marker| {
            let proved = marker.proved.as_ref().map(|p| (p.delete, p.create, p.trash, p.exact));
            (marker.storage.clone(), marker.installations.clone(), proved)
        };
        self.was.as_ref().is_some_and(|was| said(was) == said(&self.marker))
    }

    /// Writes the marker, unless another database has made the storage its own since it was looked at.
    pub(super) async fn mark(&self) -> Result<()> {
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
pub(super) fn renew_copied_markers(places: &mut [Place], record: &Installation, consent: &Consent) -> Result<()> {
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
pub(super) async fn stake(places: &[Place]) -> Result<Vec<(Arc<dyn Storage>, Marker)>> {
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
pub(super) async fn withdraw(staked: Vec<(Arc<dyn Storage>, Marker)>, mut why: Error) -> Error {
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
pub(super) async fn each_holds_its_own<'a>(places: impl Iterator<Item = &'a Place>) -> Result<()> {
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
pub(super) fn forgettable(places: &[Place], record: &Installation, consent: &Consent) -> Result<()> {
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

/// The marker that a storage shall have, given the one that it has.
pub(super) fn claim_marker(
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
