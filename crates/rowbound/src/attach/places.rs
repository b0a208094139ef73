//! The storages of a plan: which installation each belongs to, and the marker that each gets.
//!
//! In: the markers that stand there, the installation record, what the person confirmed. Out: the markers that they get. Promise: a storage that is not the
//! one attached before, and one that belongs to another database, are refused; the marker of another attach is never taken away.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;

use super::{
    Consent,
    apart::{Place, one_place},
    random_id,
    refused::{self, Adopted},
};
use crate::{
    capture::{Installation, Unfinished},
    crash,
    error::{Error, Kind, Result},
    storage::{Attachment, Marker, Origin, Storage, Whereabouts},
};

impl Place {
    /// Whether its marker says what it said before, whenever that was tried.
    pub(super) fn is_as_before(&self) -> bool {
        let said = |marker: &Marker| {
            let proved = marker.proved.as_ref().map(|p| (p.delete, p.create, p.trash, p.exact, p.access));
            (marker.storage.clone(), marker.installations.clone(), proved)
        };
        self.was.as_ref().is_some_and(|was| said(was) == said(&self.marker))
    }

    /// Whether another database has made the storage its own, or uses it too, since its marker was looked at: this is the marker now.
    fn is_taken(&self, now: &Marker) -> bool {
        let was = self.was.as_ref();
        let known = |id: &String| self.marker.installations.contains(id) || was.is_some_and(|was| was.installations.contains(id));
        let replaced = now.storage != self.marker.storage && !now.installations.is_empty();
        Some(now) != was && (replaced || !now.installations.iter().all(known))
    }

    /// Writes the marker, unless another attach came before.
    pub(super) async fn mark(&self) -> Result<()> {
        if self.storage.marker().await?.is_some_and(|now| self.is_taken(&now)) {
            return Err(taken(&self.name));
        }
        crash::point("attach-step");
        let written = self.storage.whereabouts().await?.written;
        self.storage.set_marker(&Marker { written: Some(written), ..self.marker.clone() }).await
    }

    /// What an attach that is killed before it has written the marker leaves to the next one.
    pub(super) fn unfinished(&self, record: &Installation, consent: &Consent) -> Unfinished {
        let was = self.was.as_ref();
        Unfinished {
            replaces: was.map(|was| was.storage.clone()).filter(|id| *id != self.marker.storage),
            leave: was
                .map(|was| was.installations.iter().filter(|id| !self.marker.installations.contains(id)).cloned().collect())
                .unwrap_or_default(),
            shared: consent.shared || record.unfinished.get(&self.name).is_some_and(|left| left.shared),
        }
    }
}

/// Another attach is at work on the same storage.
#[derive(Debug, thiserror::Error)]
#[error("its marker is not the one that this attach has read or written")]
struct Taken;

/// Whether this is the error of [`taken`].
pub(super) fn is_taken(e: &Error) -> bool {
    std::error::Error::source(e).is_some_and(|why| why.is::<Taken>())
}

/// The error for a storage that another attach took at the same moment.
fn taken(storage: &str) -> Error {
    Error::new(Kind::Identity, "another attach has just made this storage its own")
        .with("storage", storage)
        .because(Taken)
        .hint("run `rowbound attach` again")
}

/// Gives a marker of its own to a folder that was copied together with its marker, where the person accepts it (`--adopt-storage`).
pub(super) fn renew_copied_markers(places: &mut [Place], record: &Installation, consent: &Consent) -> Result<()> {
    for i in 0..places.len() {
        let inode = |j: usize| places[j].at.inode;
        let copied = |j: &usize| places[*j].marker.storage == places[i].marker.storage && inode(*j) != inode(i);
        let Some(j) = (0..i).find(|j| copied(j) && inode(*j).is_some() && inode(i).is_some()) else { continue };
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
        places[k].marker.databases.retain(|id, _| *id == record.id);
    }
    Ok(())
}

/// Gives every storage without a marker one that belongs to nobody yet, before the database is changed, and reads each again: of two that are one place the
/// second has overwritten the first. Whatever happens to this process from here on, the database never tells of a storage whose marker is missing.
/// Returns the storages that were given one, for [`withdraw`]. A process that is killed here leaves markers that the next `attach` takes.
///
/// # Errors
/// [`Kind::Config`] for two that are one place, or a storage's own; no marker was left.
pub(super) async fn stake(places: &[Place]) -> Result<Vec<(Arc<dyn Storage>, Marker)>> {
    let mut staked = Vec::new();
    for place in places.iter().filter(|p| p.was.is_none()) {
        if place.storage.marker().await?.is_some_and(|now| !now.installations.is_empty()) {
            return Err(withdraw(staked, taken(&place.name)).await);
        }
        crash::point("attach-step");
        let nobodys = Marker { installations: Vec::new(), databases: BTreeMap::new(), ..place.marker.clone() };
        staked.push((place.storage.clone(), nobodys.clone()));
        if let Err(e) = place.storage.set_marker(&nobodys).await {
            return Err(withdraw(staked, e).await);
        }
    }
    if staked.is_empty() {
        return Ok(staked);
    }
    let of_staked = places.iter().filter(|p| p.was.is_none() || p.at.inode.is_none());
    match each_holds_its_own(of_staked, None).await {
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

/// Those of the storages that [`stake`] gave a marker of whose markers the database does not tell. `stored` are the storages of its record as it stands after
/// an attach that failed: an error after the COMMIT leaves a record that tells of them. Where it cannot be read, no marker is taken away.
pub(super) fn untold(stored: Result<BTreeMap<String, String>>, staked: Vec<(Arc<dyn Storage>, Marker)>) -> Vec<(Arc<dyn Storage>, Marker)> {
    let Ok(stored) = stored else { return Vec::new() };
    staked.into_iter().filter(|(_, marker)| stored.values().all(|id| *id != marker.storage)).collect()
}

/// Reads every marker again: each storage must hold its own, and in it the installation `id`. Before the markers are written (`None`) one that had a marker may
/// hold that still.
pub(super) async fn each_holds_its_own<'a>(places: impl Iterator<Item = &'a Place>, id: Option<&String>) -> Result<()> {
    let places: Vec<&Place> = places.collect();
    for place in &places {
        let marker = place.storage.marker().await?;
        let held = marker.as_ref().is_some_and(|marker| id.is_none_or(|id| marker.installations.contains(id)));
        let found = marker.map(|marker| marker.storage);
        let was = place.was.as_ref().filter(|_| id.is_none()).map(|was| &was.storage);
        if held && (found.as_ref() == Some(&place.marker.storage) || found.as_ref() == was) {
            continue;
        }
        return Err(match places.iter().find(|p| p.name != place.name && Some(&p.marker.storage) == found.as_ref()) {
            Some(other) => one_place(&place.name, &other.name),
            None => taken(&place.name),
        });
    }
    Ok(())
}

/// Insists that the installations to forget are in a marker, and none of them is this one.
pub(super) fn forgettable(places: &[Place], record: &Installation, consent: &Consent) -> Result<()> {
    let markers: Vec<&Marker> = places.iter().filter_map(|p| p.was.as_ref()).collect();
    let in_a_marker = |id: &str| markers.iter().any(|m| m.others(&record.id).any(|other| other == id));
    // The last attach, which did not come to its end, may have taken it out.
    let left = |id: &String| record.unfinished.values().any(|u| u.leave.contains(id));
    let none = consent.forget_installations.iter().find(|id| !in_a_marker(id) && !left(id));
    none.map_or(Ok(()), |id| Err(no_such_installation(id, &markers, &record.id)))
}

/// The error for an installation that is in none of these markers; `own` is this database's.
pub(super) fn no_such_installation(id: &str, markers: &[&Marker], own: &str) -> Error {
    let known: Vec<String> = markers.iter().flat_map(|m| m.others(own).map(|other| m.shown(other))).collect();
    Error::new(Kind::Config, "no other installation with this id uses a storage of the plan").with("installation", id).hint(
        match known.is_empty() {
            true => "no other installation uses any of them: leave the option out".to_owned(),
            false => format!("others are: {}", known.join(", ")),
        },
    )
}

/// The marker that a storage shall have, given the one that it has.
pub(super) fn claim_marker(
    name: &str,
    database: &str,
    marker: Option<Marker>,
    at: &Whereabouts,
    record: &Installation,
    adopted: Option<Adopted<'_>>,
    consent: &Consent,
) -> Result<Marker> {
    let meant = consent.adopt_storages.iter().any(|s| s == name);
    let known = record.storages.get(name);
    let left = record.unfinished.get(name).cloned().unwrap_or_default();
    let mut claimed = match (marker, known) {
        (None, Some(_)) if !meant => {
            return Err(Error::new(Kind::StorageUnreachable, "the storage was attached before, but its marker is gone")
                .with("storage", name)
                .hint(format!("is it mounted? If it is the right place after all: rowbound attach --adopt-storage {name}")));
        }
        (None, _) => Marker::new(random_id(), []),
        // An attach did not come to its end. The original's own marker is never what it was to replace.
        (Some(marker), Some(known)) if left.replaces.as_ref() == Some(&marker.storage) && marker.origin(&at.written) != Origin::Here => {
            Marker::new(known.clone(), [])
        }
        (Some(marker), Some(known)) if marker.storage != *known && !meant => {
            return Err(Error::new(Kind::StorageUnreachable, "this is another storage than the one attached before")
                .with("storage", name)
                .hint(format!("is the right one mounted? To accept this one: rowbound attach --adopt-storage {name}")));
        }
        (Some(mut marker), _) => {
            let gone = adopted.filter(|a| a.moved).map(|a| a.from);
            let used = !marker.installations.is_empty();
            for id in consent.forget_installations.iter().chain(&left.leave).map(String::as_str).chain(gone) {
                marker.forget(id);
            }
            let left_it = used && marker.installations.is_empty();
            let others = !marker.installations.is_empty() && !marker.installations.contains(&record.id);
            match marker.origin(&at.written) {
                // A copy of files belongs to whose copy it is.
                Origin::Copied if others && meant => Marker::new(random_id(), []),
                _ if others && !consent.shared && !left.shared => return Err(refused::storage(name, &marker, at, adopted, meant)),
                // It may be a copy, and those that its marker held may use the original: a person says that they do not use this one.
                Origin::Unknown if left_it && meant => Marker::new(random_id(), []),
                _ => marker,
            }
        }
    };
    if !claimed.installations.contains(&record.id) {
        claimed.installations.push(record.id.clone());
    }
    claimed.databases.insert(record.id.clone(), Attachment { database: database.to_owned(), at: Timestamp::now() });
    claimed.written = None;
    Ok(claimed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        plan::Location,
        storage::{Written, memory::Memory},
    };

    fn ids(of: &[&str]) -> Vec<String> {
        of.iter().map(|id| (*id).to_owned()).collect()
    }

    fn place(was: Option<Marker>, marker: Marker) -> Place {
        let storage: Arc<dyn Storage> = Arc::new(Memory::new("default", &format!("place-{}", random_id()), None));
        let location = Location::Memory("place".into());
        Place { name: "default".into(), location, storage, at: Whereabouts::default(), was, marker }
    }

    fn record() -> Installation {
        Installation::new("new", "database")
    }

    #[tokio::test]
    async fn a_marker_that_another_attach_joined_is_not_overwritten() {
        let nobodys = Marker::new("s", []);
        for (was, mine, now, taken) in [
            (nobodys.clone(), &["me"][..], &[] as &[&str], false),
            (nobodys.clone(), &["me"][..], &["me"][..], false),
            (nobodys.clone(), &["me"][..], &["other"][..], true),
            (Marker::new("s", ids(&["first"])), &["first", "me"][..], &["first"][..], false),
            (Marker::new("s", ids(&["first"])), &["first", "me"][..], &["first", "other"][..], true),
            // The one that leaves is still in it.
            (Marker::new("s", ids(&["gone"])), &["me"][..], &["gone"][..], false),
        ] {
            let place = place(Some(was), Marker::new("s", ids(mine)));
            let now = Marker::new("s", ids(now));
            place.storage.set_marker(&now).await.unwrap();
            assert_eq!(place.mark().await.is_err(), taken, "{mine:?} {now:?}");
            assert_eq!(place.storage.marker().await.unwrap().unwrap().installations, if taken { now.installations } else { ids(mine) });
        }
    }

    #[tokio::test]
    async fn a_marker_without_this_installation_is_another_ones() {
        let place = place(None, Marker::new("s", ids(&["me"])));
        place.storage.set_marker(&Marker::new("s", ids(&["other"]))).await.unwrap();
        let me = "me".to_owned();
        assert!(each_holds_its_own([&place].into_iter(), None).await.is_ok());
        let taken = each_holds_its_own([&place].into_iter(), Some(&me)).await.unwrap_err();
        assert!(taken.full().contains("another attach"), "{}", taken.full());
    }

    #[tokio::test]
    async fn a_marker_of_which_the_database_tells_is_not_withdrawn() {
        for (stored, stays) in [(Ok(Some("s")), true), (Ok(Some("other")), false), (Ok(None), false), (Err("away"), true)] {
            let place = place(None, Marker::new("s", ids(&["me"])));
            let staked = stake(std::slice::from_ref(&place)).await.unwrap();
            let storages =
                |id: Option<&str>| -> BTreeMap<String, String> { id.map(|id| ("default".into(), id.to_owned())).into_iter().collect() };
            let stored = stored.map(storages).map_err(|why: &str| Error::new(Kind::DatabaseUnreachable, why.to_owned()));
            let what = format!("{stored:?}");
            withdraw(untold(stored, staked), Error::new(Kind::Database, "after the COMMIT")).await;
            assert_eq!(place.storage.marker().await.unwrap().is_some(), stays, "{what}");
        }
    }

    #[test]
    fn a_storage_that_may_be_a_copy_is_not_taken_from_those_that_it_holds() {
        let at = |url: &str| Whereabouts { written: Written { url: url.into(), ..Written::default() }, ..Whereabouts::default() };
        let marker = Marker { written: Some(at("folder:/a").written), ..Marker::new("s", ids(&["original"])) };
        let adopted = Some(Adopted { from: "original", moved: false });
        let claim = |consent: &Consent| claim_marker("default", "db", Some(marker.clone()), &at("folder:/a"), &record(), adopted, consent);
        let storages = vec!["default".to_owned()];
        let forget_installations = ids(&["original"]);
        for adopt_storages in [vec![], storages.clone()] {
            let refused = claim(&Consent { adopt: true, adopt_storages, ..Consent::default() }).unwrap_err();
            assert_eq!(refused.kind(), Kind::Identity);
        }
        let own = claim(&Consent { adopt: true, forget_installations: forget_installations.clone(), ..Consent::default() }).unwrap();
        assert_eq!((own.storage.as_str(), own.installations), ("s", ids(&["new"])));
        let new = claim(&Consent { adopt: true, forget_installations, adopt_storages: storages, ..Consent::default() }).unwrap();
        assert!(new.storage != "s" && new.installations == ids(&["new"]), "{new:?}");
        let both = claim(&Consent { adopt: true, shared: true, ..Consent::default() }).unwrap();
        assert_eq!(both.installations, ids(&["original", "new"]));
    }
}
