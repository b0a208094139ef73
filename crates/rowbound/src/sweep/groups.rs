//! Orphans by folder and by age.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::{Amount, Finding, Findings, Group};
use crate::error::Result;

/// So many folders stand in the report; the rest is summed up.
const SHOWN: usize = 20;

/// More folders than these are not told apart, so that memory stays bounded.
const FOLDERS: usize = 10_000;

/// What the rest is called.
const OTHERS: &str = "(others)";

/// Ages, each up to its length.
const AGES: [(&str, i64); 6] = [
    ("up to 1 day", 1),
    ("1 to 7 days", 7),
    ("7 to 30 days", 30),
    ("30 days to 1 year", 365),
    ("1 to 5 years", 5 * 365),
    ("over 5 years", i64::MAX),
];

/// The orphans by folder (two levels of them), the heaviest first, and by age at the moment `started`, the youngest first.
pub(super) fn of(findings: Findings, started: Timestamp) -> Result<(Vec<Group>, Vec<Group>)> {
    let mut folders: BTreeMap<String, Amount> = BTreeMap::new();
    let mut ages = [Amount::default(); AGES.len()];
    for finding in findings {
        let Finding::Orphan(orphan) = finding? else { continue };
        let label = folder(orphan.name.as_str());
        let label = if folders.len() < FOLDERS || folders.contains_key(label) { label } else { OTHERS };
        folders.entry(label.to_owned()).or_default().add(orphan.size);
        let age = started.duration_since(orphan.modified);
        let at = AGES.iter().position(|(_, days)| days.checked_mul(24).is_none_or(|h| age <= SignedDuration::from_hours(h)));
        ages[at.unwrap_or(AGES.len() - 1)].add(orphan.size);
    }
    let mut others = folders.remove(OTHERS).unwrap_or_default();
    let mut by_folder: Vec<Group> = folders.into_iter().map(|(label, amount)| Group { label, amount }).collect();
    by_folder.sort_by(|a, b| b.amount.bytes.cmp(&a.amount.bytes).then_with(|| a.label.cmp(&b.label)));
    for rest in by_folder.split_off(by_folder.len().min(SHOWN)) {
        others.files += rest.amount.files;
        others.bytes += rest.amount.bytes;
    }
    if others.files > 0 {
        by_folder.push(Group { label: OTHERS.to_owned(), amount: others });
    }
    let by_age =
        AGES.iter().zip(ages).filter(|(_, a)| a.files > 0).map(|((label, _), amount)| Group { label: (*label).to_owned(), amount });
    Ok((by_folder, by_age.collect()))
}

/// The folder of a name, at most two levels of it.
fn folder(name: &str) -> &str {
    let end = name.match_indices('/').take(2).last().map_or(0, |(at, _)| at + 1);
    &name[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_at_most_two_levels() {
        for (name, wanted) in [("a.jpg", ""), ("2024/a.jpg", "2024/"), ("2024/03/a.jpg", "2024/03/"), ("2024/03/17/a.jpg", "2024/03/")] {
            assert_eq!(folder(name), wanted);
        }
    }
}
