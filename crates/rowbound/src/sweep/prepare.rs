//! Whether a sweep may begin, and what stays the same while it lasts.
//!
//! In: the plan, the installation record, the storage's marker. Out: the [`Work`] of one sweep. Promise: a sweep that deletes or restores is refused where
//! the collector would stop, and one that deletes where another database uses the storage.

use std::collections::BTreeMap;

use super::{
    Options, Work,
    range::Range,
    sides::{Side, other},
};
use crate::{
    attach::{Looks, apart, copied, none_left_out, number, open_storages},
    binding::{Binding, Mode},
    capture::Bound,
    database::{Database, drifted},
    derivative::Derivatives,
    error::{Error, Kind, Result},
    guard::same_bindings,
    plan::{Plan, StoragePlan},
    storage::Storage,
};

impl<'a> Work<'a> {
    pub(super) async fn prepare(plan: &'a Plan, db: &'a dyn Database, storage: &str, options: &'a Options) -> Result<Self> {
        let storage = plan.storages.get(storage).ok_or_else(|| {
            let known: Vec<_> = plan.storages.keys().cloned().collect();
            Error::new(Kind::Config, "the plan has no such storage")
                .with("storage", storage)
                .hint(format!("known are: {}", known.join(", ")))
        })?;
        let record = db.installation().await?;
        let place = crate::storage::open(storage)?;
        let changes = options.delete || options.heal;
        let not_attached = |message: &str| {
            Error::new(Kind::NotAttached, message.to_owned())
                .with("storage", &storage.name)
                .hint("rowbound attach; without --delete and --heal a sweep needs none")
        };
        let (mut bound, mut attached) = (number(plan, &BTreeMap::new()), false);
        match &record {
            None if changes => return Err(not_attached("nothing is deleted or brought back before Rowbound is attached to this database")),
            None => place.set_read_only(),
            Some(record) => {
                let identity = db.identity().await?;
                if identity != record.identity {
                    return Err(copied(&record.identity, &identity));
                }
                match same_bindings(plan, record) {
                    Ok(same) => bound = same,
                    // A binding that is new in the plan is read as the others are.
                    Err(e) if e.kind() == Kind::NotAttached && !changes => bound = number(plan, &record.bindings),
                    Err(e) => return Err(e),
                }
                if changes {
                    let drift = record.snapshot.drift(&db.snapshot(&bound).await?);
                    if !drift.is_empty() {
                        return Err(drifted(&drift));
                    }
                }
                let shadow = |b: &&Bound| b.binding.storage == storage.name && record.mode(b) == Mode::Shadow;
                if options.delete
                    && let Some(b) = bound.iter().find(shadow)
                {
                    // An orphan may have been this column's: the collector would only say what would have gone.
                    return Err(Error::new(Kind::Config, "a binding of this storage is in shadow mode: no orphan of it can be deleted")
                        .with("binding", &b.binding.column)
                        .hint("sweep without --delete; when you trust it: rowbound promote"));
                }
                match record.storages.get(&storage.name) {
                    Some(id) => {
                        place.expect(id);
                        attached = true;
                    }
                    None if changes => return Err(not_attached("this storage is not attached yet")),
                    None => place.set_read_only(),
                }
            }
        }
        if !plan.bindings.iter().any(|b| b.storage == storage.name) {
            return Err(Error::new(Kind::Config, "no binding references files of this storage: every file would be an orphan")
                .with("storage", &storage.name)
                .hint("add a [[binding]] for each column that references its files"));
        }
        place.verify_marker().await?;
        let own = record.as_ref().map_or("", |r| r.id.as_str());
        let mut sides = vec![Side { db, plan, storage, bound, label: None, id: own.to_owned() }];
        if !options.with.is_empty() {
            let marker = place.marker().await?.ok_or_else(|| not_attached("no other installation uses a storage that is not attached"))?;
            for (count, with) in options.with.iter().enumerate() {
                let side = other(with, &marker, own, count + 1).await?;
                if let Some(twice) = sides.iter().find(|known| known.id == side.id) {
                    return Err(Error::new(Kind::Config, "two configurations are of one installation")
                        .with("with", format_args!("{} and {}", twice.label.unwrap_or_default(), with.label)));
                }
                sides.push(side);
            }
        }
        if changes && let Some(record) = &record {
            let all = open_storages(plan)?;
            apart(record, &storage.name, all.iter().map(|(name, place)| (&plan.storages[name], place)), &Looks::default()).await?;
            if options.delete {
                none_left_out(plan, db).await?;
                all_there(storage, place.as_ref(), &sides).await?;
            }
        }
        Ok(Work {
            plan,
            db,
            place,
            attached,
            options,
            range: Range {
                prefix: options.prefix.clone(),
                after: options.after.as_ref().map(ToString::to_string),
                until: options.until.as_ref().map(ToString::to_string),
            },
            keep: sides.iter().map(Side::keep).collect::<Result<_>>()?,
            derivatives: Derivatives::new(sides.iter().flat_map(|side| side.plan.on_storage(&side.storage.name)))?,
            min_age: options.min_age.unwrap_or_else(|| sides.iter().map(|side| side.storage.min_age).max().unwrap_or(storage.min_age)),
            storage,
            sides,
        })
    }

    /// What tells this sweep from any other: a spool of another one is not taken up.
    pub(super) async fn what(&self) -> Result<String> {
        let of = |side: &Side<'_>| {
            let one = |b: &Bound| {
                let Binding { reading, keep, derivatives, .. } = &b.binding;
                format!("{} {} {reading:?} {keep:?} {derivatives:?}", side.id, b.binding.key())
            };
            side.here().map(one).collect::<Vec<_>>()
        };
        let bindings: Vec<String> = self.sides.iter().flat_map(of).collect();
        let ignored: Vec<&[String]> = self.sides.iter().map(|side| &side.storage.ignore[..]).collect();
        Ok(format!(
            "4 {} {} {:?} {:?} {:?} {:?}",
            self.db.identity().await?,
            self.storage.url(),
            self.range,
            self.min_age,
            bindings,
            ignored,
        ))
    }
}

/// Insists that the references of every installation that uses the storage are seen: without them its files would all be orphans.
pub(super) async fn all_there(plan: &StoragePlan, storage: &dyn Storage, sides: &[Side<'_>]) -> Result<()> {
    let Some(marker) = storage.marker().await? else { return Ok(()) }; // it was proved just now: its operations say so
    let missing: Vec<&str> = marker.installations.iter().map(String::as_str).filter(|id| sides.iter().all(|side| side.id != *id)).collect();
    let Some(first) = missing.first() else { return Ok(()) };
    Err(Error::new(Kind::Identity, "another database uses this storage, and a sweep here does not see its references: nothing was deleted")
        .with("storage", &plan.name)
        .with("attached to", missing.join(", "))
        .hint(format!(
            "add the configuration of that installation: --with OTHER.toml. Without --delete a sweep reports what this database does not reference. If that \
             database is gone: rowbound attach --forget-installation {first}"
        )))
}
