//! Deletions by name: another look, then a request for up to 1,000 of them.

use std::collections::HashMap;

use futures_util::future::join_all;

use super::{
    Inner, Mode, Proof,
    attributes::Attributes,
    copies,
    keys::{Deletion, Gone, PAGE, unanswered},
    trash::Entry,
    versions,
    wire::Failure,
};
use crate::{
    error::Result,
    name::FileName,
    storage::{Capabilities, Conditional, FileVersion, PerName, Removed, Stat},
};

impl Inner {
    /// Takes each item away if it still is what was seen.
    pub(super) async fn remove(&self, proof: &Proof, proved: &Capabilities, items: &[(FileName, FileVersion)]) -> Result<PerName<Removed>> {
        let mode = self.mode(proved)?;
        let mut now: Vec<usize> = (0..items.len()).collect();
        let (mut done, mut attributes) = (Vec::new(), HashMap::new());
        if mode == Mode::Copies {
            (done, attributes) = self.attributes_of_same(proved, items, &now).await;
            now.retain(|i| attributes.contains_key(i));
        }
        if !now.is_empty() {
            done.extend(self.take(mode, proof, proved, items, &now, &attributes).await?);
        }
        done.sort_unstable_by_key(|(i, _)| *i);
        Ok(done.into_iter().map(|(_, one)| one).collect())
    }

    /// Takes those of the items whose numbers are `now`, of each of which `attributes` tells what a copy does not keep.
    async fn take(
        &self,
        mode: Mode,
        proof: &Proof,
        proved: &Capabilities,
        items: &[(FileName, FileVersion)],
        now: &[usize],
        attributes: &HashMap<usize, Attributes>,
    ) -> Result<Vec<(usize, Result<Removed>)>> {
        let entry = |i: &usize, place: Option<String>| {
            let (name, seen) = &items[*i];
            let attributes = attributes.get(i).cloned().unwrap_or_default();
            Entry { name: name.as_str().to_owned(), size: seen.size, etag: seen.version.clone(), place, attributes }
        };
        let batch = match mode {
            Mode::Erase | Mode::EraseVersions => None,
            Mode::Versions | Mode::Copies => {
                let id = super::trash::batch_id(proof.stamp());
                let places = |i: &usize| (mode == Mode::Copies).then(|| copies::place(&items[*i].0, &id));
                let entries = now.iter().map(|i| entry(i, places(i))).collect();
                Some(self.announce(id, entries, mode == Mode::Versions).await?)
            }
        };
        let id = batch.as_ref().map_or("", |batch| batch.id.as_str());
        let chunks = now.chunks(PAGE).map(|chunk| self.remove_chunk(mode, proved, items, chunk, id));
        let taken: Vec<_> = join_all(chunks).await.into_iter().flatten().collect();
        if let Some(batch) = batch {
            let entries = taken.iter().filter_map(|(i, one)| match one {
                Ok(Removed::Trashed(place)) => Some(entry(i, Some(place.clone()))),
                // It may have gone to the trash, for all we know.
                Err(_) => Some(entry(i, (mode == Mode::Copies).then(|| copies::place(&items[*i].0, &batch.id)))),
                Ok(Removed::Erased | Removed::Changed | Removed::Missing) => None,
            });
            let entries = entries.collect();
            // The first writing of the manifest leads to the same files, in a longer way.
            let _ = self.settle(&batch, entries).await;
        }
        Ok(taken)
    }

    async fn remove_chunk(
        &self,
        mode: Mode,
        proved: &Capabilities,
        items: &[(FileName, FileVersion)],
        chunk: &[usize],
        batch: &str,
    ) -> Vec<(usize, Result<Removed>)> {
        if mode == Mode::EraseVersions {
            let asked: Vec<_> = chunk.iter().map(|i| &items[*i]).collect();
            return chunk.iter().copied().zip(self.erase_all(&asked).await).collect();
        }
        if mode == Mode::Copies {
            // They were looked at, and a copy has a condition and is followed by another look.
            let moved = chunk.iter().map(|i| async {
                let (name, seen) = &items[*i];
                (*i, self.move_to_copy(proved, name, seen, batch).await)
            });
            return join_all(moved).await;
        }
        let names: Vec<&FileName> = chunk.iter().map(|i| &items[*i].0).collect();
        let looked = self.looked(&names).await;
        let mut done = Vec::with_capacity(chunk.len());
        let mut same = Vec::with_capacity(chunk.len());
        for (i, look) in chunk.iter().copied().zip(looked) {
            match look {
                Ok(Stat::File(seen)) if seen == items[i].1 => same.push(i),
                Ok(Stat::File(_) | Stat::Refused(_)) => done.push((i, Ok(Removed::Changed))),
                Ok(Stat::Missing) => done.push((i, Ok(Removed::Missing))),
                Err(e) => done.push((i, Err(e))),
            }
        }
        done.extend(self.delete_same(proved.delete, items, &same).await);
        done
    }

    /// Of files that are to be copied: what a copy does not keep of those that are what was seen, and what is to be said of the others. The look that tells the
    /// storage class takes the place of the one before a deletion.
    async fn attributes_of_same(
        &self,
        proved: &Capabilities,
        items: &[(FileName, FileVersion)],
        now: &[usize],
    ) -> (Vec<(usize, Result<Removed>)>, HashMap<usize, Attributes>) {
        let names: Vec<&FileName> = now.iter().map(|i| &items[*i].0).collect();
        let failed = |i: usize, f: &Failure, action| self.failed(f, action, "cannot look at the file", &items[i].0);
        let (mut done, mut same) = (Vec::new(), Vec::new());
        for (i, (look, class)) in now.iter().copied().zip(self.looks_and_classes(&names).await) {
            match look {
                Ok(Stat::File(seen)) if seen == items[i].1 => same.push((i, class)),
                Ok(Stat::File(_) | Stat::Refused(_)) => done.push((i, Ok(Removed::Changed))),
                Ok(Stat::Missing) => done.push((i, Ok(Removed::Missing))),
                Err(f) => done.push((i, Err(failed(i, &f, "s3:GetObject")))),
            }
        }
        // What an earlier version attached asks no more than it did, until `attach` has tried whether access lists can be kept.
        let access = proved.access.unwrap_or(false);
        let grants = join_all(same.iter().map(|(i, _)| async {
            match access {
                true => self.grants(&self.key(&items[*i].0)).await,
                false => Ok(None),
            }
        }));
        let mut attributes = HashMap::new();
        for ((i, class), grants) in same.iter().zip(grants.await) {
            match grants {
                Ok(grants) => drop(attributes.insert(*i, Attributes { class: class.clone(), grants: grants.unwrap_or_default() })),
                // Without its access list it could not come back as it was.
                Err(f) => done.push((*i, Err(failed(*i, &f, "s3:GetObjectAcl")))),
            }
        }
        (done, attributes)
    }

    async fn delete_same(&self, how: Conditional, items: &[(FileName, FileVersion)], same: &[usize]) -> Vec<(usize, Result<Removed>)> {
        let keys: Vec<String> = same.iter().map(|i| self.key(&items[*i].0)).collect();
        let doomed: Vec<_> =
            same.iter().zip(&keys).map(|(i, key)| Deletion { key, etag: Some(&items[*i].1.version), version: None }).collect();
        let gone = self.delete(&doomed, how).await;
        same.iter()
            .copied()
            .zip(gone)
            .map(|(i, gone)| {
                let removed = match gone {
                    // Also where the bucket keeps versions since a moment ago: it is there still.
                    Ok(Gone::Deleted(Some(marker))) if marker != "null" => Ok(Removed::Trashed(format!("{}{marker}", versions::PLACE))),
                    Ok(Gone::Deleted(_)) => Ok(Removed::Erased),
                    Ok(Gone::Changed) => Ok(Removed::Changed),
                    // If a version of it is in the trash, its entry leads there.
                    Ok(Gone::Unsure) => Err(self.failed(&unanswered(), "s3:DeleteObject", "cannot delete the file", &items[i].0)),
                    Ok(Gone::Missing) => Ok(Removed::Missing),
                    Err(f) => Err(self.failed(&f, "s3:DeleteObject", "cannot delete the file", &items[i].0)),
                };
                (i, removed)
            })
            .collect()
    }
}
