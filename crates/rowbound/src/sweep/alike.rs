//! What orphans look like: to a person who has to decide about many of them, a number says little.
//!
//! In: the orphans in the spool, and the storage. Out: sentences on a sample of them, and how many look as if they were made of a file that is there: derivatives that no
//! binding knows, most likely. Promise: it stops a sweep at most, and keeps none from stopping; where the storage does not answer, the sweep stops.

use std::collections::{BTreeMap, HashSet};

use super::{Finding, Work, brake::inconclusive, spool::Spool};
use crate::{
    error::{Error, Result},
    name::FileName,
    storage::Stat,
};

/// So many orphans are looked at, from all over; where each look costs a request, fewer.
const SAMPLE: usize = 400;
const REMOTE: usize = 20;

/// Suffixes of originals that are tried beside the orphan's own; where each look costs a request, the first two.
const SUFFIXES: [&str; 10] = ["jpg", "png", "jpeg", "gif", "webp", "pdf", "mp4", "svg", "heic", "JPG"];

/// Fewer of a kind than a quarter say nothing.
const PART: usize = 4;

/// What a sample of the orphans looks like.
#[derive(Debug, Default)]
pub(super) struct Likeness {
    /// In sentences, the most frequent first.
    pub said: Vec<String>,
    /// Of those that are not held: how many were looked at, and how many of these look as if they were made of a file that is there.
    pub of: usize,
    pub made: usize,
    /// One of these, and the file that it seems to be made of.
    pub example: Option<(FileName, FileName)>,
}

/// A way in which an orphan may have come from another file.
struct Way {
    /// How that is said.
    how: String,
    /// Whether it is how derivatives are made, rather than how a second upload of the same name is called.
    made: bool,
    /// The files that it may have come from.
    originals: Vec<FileName>,
}

impl Work<'_> {
    /// What the orphans look like.
    ///
    /// # Errors
    /// [`crate::Kind::Brake`] when the storage does not tell which files are there: then nobody knows how many orphans are made of them.
    pub(super) async fn alike(&self, spool: &Spool) -> Result<Likeness> {
        let (most, suffixes) = if self.place.quick() { (SAMPLE, &SUFFIXES[..]) } else { (REMOTE, &SUFFIXES[..2]) };
        let sampled = sample(spool, most)?;
        let all: Vec<Vec<Way>> = sampled.iter().map(|(name, _)| ways(name, suffixes)).collect();
        let asked: HashSet<&FileName> = all.iter().flatten().flat_map(|way| &way.originals).collect();
        let asked: Vec<FileName> = asked.into_iter().cloned().collect();
        let failed =
            |e: Error| inconclusive("it could not be asked whether orphans are made of files that are there", &e, &self.storage.name);
        let mut there: HashSet<&FileName> = HashSet::new();
        for some in asked.chunks(1_000) {
            for (name, look) in some.iter().zip(self.place.stat(some).await.map_err(failed)?) {
                if matches!(look.map_err(failed)?, Stat::File(_)) {
                    there.insert(name);
                }
            }
        }
        let mut likeness = Likeness::default();
        let mut counted: BTreeMap<String, usize> = BTreeMap::new();
        for ((name, held), ways) in sampled.iter().zip(&all) {
            let living = |way: &Way| way.originals.iter().find(|original| *original != name && there.contains(*original)).cloned();
            // The nearest original says how it was made.
            let nearest = ways.iter().find_map(|way| Some((way, living(way)?)));
            if let Some((way, _)) = &nearest {
                *counted.entry(way.how.clone()).or_default() += 1;
            } else if let Some((folder, _)) = name.as_str().split_once('/') {
                *counted.entry(format!("lie in {folder:?}")).or_default() += 1;
            }
            if !held {
                likeness.of += 1;
                if let Some((_, original)) = nearest.filter(|(way, _)| way.made) {
                    likeness.made += 1;
                    likeness.example.get_or_insert((name.clone(), original));
                }
            }
        }
        let mut said: Vec<(String, usize)> = counted.into_iter().filter(|(_, n)| n * PART >= sampled.len()).collect();
        said.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        likeness.said = said.into_iter().map(|(how, n)| format!("{n} of {} {how}", sampled.len())).collect();
        Ok(likeness)
    }
}

/// Orphans from all over, in no order, and whether each is held: of more than `most` each has the same chance.
fn sample(spool: &Spool, most: usize) -> Result<Vec<(FileName, bool)>> {
    let (mut names, mut seen) = (Vec::new(), 0_usize);
    for finding in spool.findings()? {
        let one = match finding? {
            Finding::Orphan(orphan) => (orphan.name, false),
            Finding::Held(held) => (held.orphan.name, true),
            Finding::Dangling(_) => continue,
        };
        seen += 1;
        if names.len() < most {
            names.push(one);
        } else {
            // Two runs say the same: the place is drawn from the number.
            let at = (seen.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16) % seen;
            if at < most {
                names[at] = one;
            }
        }
    }
    Ok(names)
}

/// From what files an orphan could have been made, the nearest first.
fn ways(name: &FileName, suffixes: &[&str]) -> Vec<Way> {
    let mut ways = Vec::new();
    // Another spelling of a path is no derivative of what lies there.
    if name.as_path().is_err() {
        return ways;
    }
    let (folder, base) = name.as_str().rsplit_once('/').map_or(("", name.as_str()), |(folder, base)| (folder, base));
    let within = |text: &str| if folder.is_empty() { text.to_owned() } else { format!("{folder}/{text}") };
    let parse = |text: String| FileName::key(&text).ok();
    let (stem, suffix) = base.rsplit_once('.').unwrap_or((base, ""));
    let with_suffixes = |start: &str| -> Vec<FileName> {
        let all = suffixes.iter().copied().chain([suffix]).map(|s| format!("{start}.{s}")).chain([start.to_owned()]);
        all.filter_map(parse).collect()
    };
    // `id.jpg` -> `id__hash.jpg`, `id-300x200.jpg`, `id.jpg.300x200.jpg`: the longest first.
    let is_word = |c: char| c.is_alphanumeric();
    let mut cuts: Vec<(usize, &str, &str)> = Vec::new();
    let mut at = 0;
    while let Some(begin) = stem[at..].find(|c| !is_word(c)).map(|i| at + i) {
        let end = stem[begin..].find(is_word).map_or(stem.len(), |i| begin + i);
        if begin > 0 {
            cuts.push((begin, &stem[begin..end], &stem[end..]));
        }
        at = end;
    }
    for (begin, separator, rest) in cuts.iter().copied().rev().take(6) {
        let how = format!("begin like a file that is there, then {separator:?}");
        ways.push(Way { how, made: !is_counter(rest), originals: with_suffixes(&within(&stem[..begin])) });
    }
    // `a.jpg` -> `thumb_a.jpg`
    for (at, _) in base.match_indices(['_', '-']).take(3) {
        let (begin, rest) = base.split_at(at + 1);
        let how = format!("are called like a file that is there, with {begin:?} before it");
        ways.push(Way { how, made: true, originals: parse(within(rest)).into_iter().collect() });
    }
    // `2024/a.jpg` -> `thumbs/300/2024/a.jpg`, `styles/large/2024/a.jpg.webp`, `thumbs/2024/a.jpg/300.webp`
    for (at, _) in name.as_str().match_indices('/').take(4) {
        let (begin, rest) = name.as_str().split_at(at + 1);
        let shorter = rest.rsplit_once('.').map(|(rest, _)| rest).filter(|rest| rest.contains('.'));
        let above = rest.rsplit_once('/').map(|(folder, _)| folder).filter(|folder| folder.contains('.'));
        let originals = [Some(rest), shorter, above].into_iter().flatten().map(str::to_owned).filter_map(parse).collect();
        ways.push(Way { how: format!("are called like a file that is there, beneath {begin:?}"), made: true, originals });
    }
    // `1/a.jpg` -> `1/conversions/a-thumb.jpg`; `2024/05/a.jpg` -> `2024/thumbs/05/a.jpg`
    let parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for left_out in (1..parts.len()).rev().take(3) {
        let above: String = parts.iter().enumerate().filter(|(at, _)| *at != left_out).map(|(_, part)| format!("{part}/")).collect();
        let mut originals: Vec<FileName> = parse(format!("{above}{base}")).into_iter().collect();
        if left_out + 1 == parts.len() {
            originals.extend(cuts.iter().rev().take(3).flat_map(|(begin, ..)| with_suffixes(&format!("{above}{}", &stem[..*begin]))));
        }
        let how = format!("are called like a file that is there, with the folder {:?} between", parts[left_out]);
        ways.push(Way { how, made: true, originals });
    }
    // `a.jpg` -> `a/small.jpg`, `a.jpg/small.jpg`
    if !folder.is_empty() {
        let how = "lie in a folder that is called like a file that is there".to_owned();
        ways.push(Way { how, made: true, originals: with_suffixes(folder) });
    }
    ways
}

/// Whether this is what an upload adds to a name that is taken: `photo_AbC12xY.jpg` (Django), `photo-1.jpg`, `photo (2).jpg`.
fn is_counter(rest: &str) -> bool {
    let rest = rest.trim_end_matches(')');
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let is_size = rest.split_once('x').is_some_and(|(width, height)| is_digits(width) && is_digits(height));
    let is_random = rest.len() == 7 && !is_size && rest.bytes().all(|b| b.is_ascii_alphanumeric());
    rest.len() <= 3 && is_digits(rest) || is_random || rest.eq_ignore_ascii_case("copy")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<'w>(ways: &'w [Way], original: &str) -> Vec<&'w Way> {
        let original = FileName::parse(original).unwrap();
        ways.iter().filter(|way| way.originals.contains(&original)).collect()
    }

    #[test]
    fn ways_to_make_one_file_from_another() {
        for (derivative, original, said) in [
            ("a/id__hash.jpg", "a/id.jpg", "begin like a file that is there, then \"__\""),
            ("a/id__hash.webp", "a/id.png", "begin like a file that is there, then \"__\""),
            ("a/my-id-300x200.jpg", "a/my-id.jpg", "begin like a file that is there, then \"-\""),
            ("a.jpg.300x200_q85.jpg", "a.jpg", "begin like a file that is there, then \".\""),
            ("a/thumb_b.jpg", "a/b.jpg", "are called like a file that is there, with \"thumb_\" before it"),
            ("size/w300/2024/a.jpg", "2024/a.jpg", "are called like a file that is there, beneath \"size/w300/\""),
            ("styles/large/public/2024/a.jpg.webp", "2024/a.jpg", "are called like a file that is there, beneath \"styles/large/public/\""),
            ("thumbnail/2/ab/a.jpg/840x560.webp", "2/ab/a.jpg", "are called like a file that is there, beneath \"thumbnail/\""),
            ("1/conversions/a-b-thumb.webp", "1/a-b.jpg", "are called like a file that is there, with the folder \"conversions\" between"),
            ("1/responsive/a.jpg", "1/a.jpg", "are called like a file that is there, with the folder \"responsive\" between"),
            ("2024/thumbs/05/a.jpg", "2024/05/a.jpg", "are called like a file that is there, with the folder \"thumbs\" between"),
            ("2024/a/small.webp", "2024/a.jpg", "lie in a folder that is called like a file that is there"),
            ("2024/a.jpg/small.webp", "2024/a.jpg", "lie in a folder that is called like a file that is there"),
        ] {
            let ways = ways(&FileName::parse(derivative).unwrap(), &SUFFIXES);
            let of = of(&ways, original);
            let nearest = of.first().unwrap_or_else(|| panic!("{derivative} comes from nowhere"));
            assert_eq!((nearest.how.as_str(), nearest.made), (said, true), "{derivative}");
        }
    }

    #[test]
    fn a_second_upload_of_a_name_is_not_made_of_the_first() {
        for (second, made) in [
            ("a/photo_AbC12xY.jpg", false),
            ("a/photo-1.jpg", false),
            ("a/photo (2).jpg", false),
            ("a/photo copy.jpg", false),
            ("a/photo-300x200.jpg", true),
            ("a/photo-60x1080.jpg", true),
            ("a/photo_o.jpg", true),
            ("a/photo__1f.jpg", true),
        ] {
            let ways = ways(&FileName::parse(second).unwrap(), &SUFFIXES);
            assert!(of(&ways, "a/photo.jpg").iter().all(|way| way.made == made), "{second}");
        }
    }
}
