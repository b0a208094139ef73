//! What orphans look like: to whoever has to decide about many of them, a number says little.
//!
//! In: the orphans in the spool, and the storage. Out: sentences on a sample of them. Promise: nothing is concluded from it.

use std::collections::{BTreeMap, HashSet};

use super::{Finding, Work, spool::Spool};
use crate::{error::Result, name::FileName, storage::Look};

/// So many orphans are looked at, from all over; where each look costs a request, fewer.
const SAMPLE: usize = 400;
const REMOTE: usize = 30;

/// Suffixes of originals that are tried beside the orphan's own.
const SUFFIXES: [&str; 10] = ["jpg", "jpeg", "png", "gif", "webp", "pdf", "mp4", "svg", "heic", "JPG"];

/// Fewer of a kind than a quarter say nothing.
const PART: usize = 4;

impl Work<'_> {
    /// What the orphans look like, the most frequent first.
    pub(super) async fn alike(&self, spool: &Spool) -> Result<Vec<String>> {
        let names = sample(spool, if self.place.quick() { SAMPLE } else { REMOTE })?;
        let mut asked: HashSet<FileName> = HashSet::new();
        let ways: Vec<Vec<(String, Vec<FileName>)>> = names.iter().map(ways).collect();
        for (_, originals) in ways.iter().flatten() {
            asked.extend(originals.iter().cloned());
        }
        let asked: Vec<FileName> = asked.into_iter().collect();
        let mut there: HashSet<&FileName> = HashSet::new();
        for some in asked.chunks(1_000) {
            // Who cannot be asked now was asked before: what is not known is not said.
            let Ok(looks) = self.place.look(some).await else { return Ok(Vec::new()) };
            there.extend(some.iter().zip(looks).filter(|(_, look)| matches!(look, Ok(Look::Seen(_)))).map(|(name, _)| name));
        }
        let mut counted: BTreeMap<String, usize> = BTreeMap::new();
        for (name, ways) in names.iter().zip(&ways) {
            let living = |originals: &[FileName]| originals.iter().any(|original| original != name && there.contains(original));
            // The nearest original says how it was made.
            if let Some((how, _)) = ways.iter().find(|(_, originals)| living(originals)) {
                *counted.entry(how.clone()).or_default() += 1;
            } else if let Some((folder, _)) = name.as_str().split_once('/') {
                *counted.entry(format!("lie in {folder:?}")).or_default() += 1;
            }
        }
        let mut said: Vec<(String, usize)> = counted.into_iter().filter(|(_, n)| n * PART >= names.len()).collect();
        said.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        Ok(said.into_iter().map(|(how, n)| format!("{n} of {} {how}", names.len())).collect())
    }
}

/// Orphans from all over, in no order: of more than `most` each has the same chance.
fn sample(spool: &Spool, most: usize) -> Result<Vec<FileName>> {
    let (mut names, mut seen) = (Vec::new(), 0_usize);
    for finding in spool.findings()? {
        let (Finding::Orphan(crate::sweep::Orphan { name, .. })
        | Finding::Held(super::Held { orphan: crate::sweep::Orphan { name, .. }, .. })) = finding?
        else {
            continue;
        };
        seen += 1;
        if names.len() < most {
            names.push(name);
        } else {
            // Two runs say the same: the place is drawn from the number.
            let at = (seen.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16) % seen;
            if at < most {
                names[at] = name;
            }
        }
    }
    Ok(names)
}

/// From what files an orphan could have been made, and how that is said.
fn ways(name: &FileName) -> Vec<(String, Vec<FileName>)> {
    let mut ways = Vec::new();
    let (folder, base) = name.as_str().rsplit_once('/').map_or(("", name.as_str()), |(folder, base)| (folder, base));
    let within = |text: &str| if folder.is_empty() { text.to_owned() } else { format!("{folder}/{text}") };
    let parse = |text: String| FileName::key(&text).ok();
    let (stem, suffix) = base.rsplit_once('.').unwrap_or((base, ""));
    // `id.jpg` -> `id__hash.jpg`, `id-300x200.jpg`, `id.jpg.300x200.jpg`: the longest first.
    let is_word = |c: char| c.is_alphanumeric();
    let mut cuts: Vec<(usize, &str)> = Vec::new();
    let mut at = 0;
    while let Some(begin) = stem[at..].find(|c| !is_word(c)).map(|i| at + i) {
        let end = stem[begin..].find(is_word).map_or(stem.len(), |i| begin + i);
        if begin > 0 {
            cuts.push((begin, &stem[begin..end]));
        }
        at = end;
    }
    for (begin, separator) in cuts.into_iter().rev().take(6) {
        let start = &stem[..begin];
        let originals = SUFFIXES.iter().copied().chain([suffix]).map(|s| within(&format!("{start}.{s}"))).chain([within(start)]);
        ways.push((format!("begin like a file that is there, then {separator:?}"), originals.filter_map(parse).collect()));
    }
    // `a.jpg` -> `thumb_a.jpg`
    for (at, _) in base.match_indices(['_', '-']).take(3) {
        let (begin, rest) = base.split_at(at + 1);
        ways.push((format!("are called like a file that is there, with {begin:?} before it"), parse(within(rest)).into_iter().collect()));
    }
    // `2024/a.jpg` -> `thumbs/300/2024/a.jpg`
    for (at, _) in name.as_str().match_indices('/').take(4) {
        let (begin, rest) = name.as_str().split_at(at + 1);
        ways.push((format!("are called like a file that is there, beneath {begin:?}"), parse(rest.to_owned()).into_iter().collect()));
    }
    // `a.jpg` -> `a/small.jpg`
    if !folder.is_empty() {
        let originals = SUFFIXES.iter().copied().chain([suffix]).map(|s| format!("{folder}.{s}")).filter_map(parse);
        ways.push(("lie in a folder that is called like a file that is there".to_owned(), originals.collect()));
    }
    ways
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_to_make_one_file_from_another() {
        for (derivative, original, said) in [
            ("a/id__hash.jpg", "a/id.jpg", "begin like a file that is there, then \"__\""),
            ("a/id__hash.webp", "a/id.png", "begin like a file that is there, then \"__\""),
            ("a/my-id-300x200.jpg", "a/my-id.jpg", "begin like a file that is there, then \"-\""),
            ("a.jpg.300x200_q85.jpg", "a.jpg", "begin like a file that is there, then \".\""),
            ("a/thumb_b.jpg", "a/b.jpg", "are called like a file that is there, with \"thumb_\" before it"),
            ("size/w300/2024/a.jpg", "2024/a.jpg", "are called like a file that is there, beneath \"size/w300/\""),
            ("2024/a/small.webp", "2024/a.jpg", "lie in a folder that is called like a file that is there"),
        ] {
            let ways = ways(&FileName::parse(derivative).unwrap());
            let original = FileName::parse(original).unwrap();
            let how: Vec<&String> = ways.iter().filter(|(_, of)| of.contains(&original)).map(|(how, _)| how).collect();
            assert_eq!(how, [said], "{derivative}");
        }
    }
}
