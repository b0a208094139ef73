//! One pattern, and what it makes of an original's name.
//!
//! In: `CACHE/images/{stem}/*`, and a name. Out: a prefix to list, and a test for what is found there. Promise: what stands for a placeholder is taken
//! literally, a `*` stays within its folder, and a pattern that could reach further than one original's derivatives is refused.

use super::{base, split};
use crate::{
    error::{Error, Kind, Result},
    name::FileName,
};

/// How the derivatives of a file are named: `CACHE/images/{stem}/*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    pub(super) parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Text(String),
    /// `{dir}/`: with its slash, because both go where the name has no folder.
    Dir,
    Name,
    /// `{stem}` without a `{dir}` in the pattern.
    Stem,
    /// `{stem}` with one.
    BaseStem,
    Base,
    Ext,
    Star,
}

/// The derivatives of one original by one pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DerivativeGlob {
    /// Every one begins with this; never empty.
    pub prefix: String,
    /// What follows it; `None` is a `*`.
    rest: Vec<Option<char>>,
    /// Of which they are.
    pub original: FileName,
}

impl DerivativeGlob {
    /// Whether `name` is one of them.
    pub fn matches(&self, name: &FileName) -> bool {
        *name != self.original && name.as_str().strip_prefix(&*self.prefix).is_some_and(|rest| glob(&self.rest, rest))
    }
}

/// Whether `text` is `pattern`, whose `None` stands for anything but a `/`. The last `*` alone needs to be tried again: one before a `/` has ended there.
fn glob(pattern: &[Option<char>], text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() || p < pattern.len() {
        match pattern.get(p) {
            Some(None) => {
                star = Some((p, t));
                p += 1;
            }
            Some(Some(c)) if text.get(t) == Some(c) => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, upto)) if upto < text.len() && text[upto] != '/' => {
                    star = Some((at, upto + 1));
                    (p, t) = (at + 1, upto + 1);
                }
                _ => return false,
            },
        }
    }
    true
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`Kind::Config`] when it could reach further than the derivatives of one original.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |why: &str, hint: &str| {
            Err(Error::new(Kind::Config, format!("`derivatives` holds a pattern that {why}"))
                .with("derivatives", format_args!("{text:?}"))
                .hint(hint.to_owned()))
        };
        if text.contains("**") {
            return bad("holds `**`", "`*` stands for anything within one folder; write `*/*` for two levels");
        }
        if text.contains(['?', '[', ']', '\\']) {
            return bad("holds a wildcard that is not known", "only `*` is one, and it stays within one folder");
        }
        let folder = text.contains("{dir}");
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}', '*']) {
            if at > 0 {
                parts.push(Part::Text(rest[..at].to_owned()));
            }
            rest = &rest[at..];
            if let Some(after) = rest.strip_prefix('*') {
                if !matches!(parts.last(), Some(Part::Text(_) | Part::Dir)) {
                    return bad(
                        "has a `*` at its beginning or right after a placeholder",
                        "put something between them, or `{stem}*` would take photo2.jpg along with photo.jpg: write `{stem}_*`",
                    );
                }
                parts.push(Part::Star);
                rest = after;
                continue;
            }
            let Some((word, after)) = rest.strip_prefix('{').and_then(|r| r.split_once('}')) else {
                return bad("has a brace without its other half", "placeholders are {name}, {dir}, {stem}, {base} and {ext}");
            };
            rest = after;
            parts.push(match word {
                "name" => Part::Name,
                "stem" if folder => Part::BaseStem,
                "stem" => Part::Stem,
                "base" => Part::Base,
                "ext" => Part::Ext,
                "dir" => {
                    let begins = parts.is_empty() || matches!(parts.last(), Some(Part::Text(t)) if t.ends_with('/'));
                    let Some(after) = rest.strip_prefix('/').filter(|_| begins) else {
                        return bad("has a `{dir}` that is no folder of its own", "write it as `{dir}/..` or `../{dir}/..`");
                    };
                    rest = after;
                    Part::Dir
                }
                _ => return bad("has a placeholder that is not known", "known are {name}, {dir}, {stem}, {base} and {ext}"),
            });
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        let fixed = parts.split(|p| *p == Part::Star).next().unwrap_or_default();
        if !fixed.iter().any(|p| matches!(p, Part::Name | Part::Stem | Part::BaseStem | Part::Base)) {
            return bad(
                "does not name its original before the first `*`",
                "it would take the derivatives of other files too: write {name}, {stem} or {dir}/{base} before the `*`",
            );
        }
        if !folder && !parts.iter().any(|p| matches!(p, Part::Name | Part::Stem)) {
            return bad(
                "does not name its original's folder",
                "files of one name in two folders would share it: write {dir}/.. too, or {name}, or {stem}",
            );
        }
        let pattern = Pattern { parts };
        for sample in ["d/e/s.x", "s.x"] {
            let Ok(original) = FileName::parse(sample) else { continue };
            let made: String = pattern.expand(&original).into_iter().map(|c| c.unwrap_or('w')).collect();
            if let Err(why) = FileName::parse(&made) {
                return bad(&format!("makes a name that {why}"), "it is relative to the storage, as the names in the column are");
            }
            if made == sample {
                return bad("is the file itself", "its derivatives have other names");
            }
        }
        Ok(pattern)
    }

    /// What is to be found for `original`.
    pub fn of(&self, original: &FileName) -> DerivativeGlob {
        let all = self.expand(original);
        let fixed = all.iter().position(Option::is_none).unwrap_or(all.len());
        DerivativeGlob { prefix: all[..fixed].iter().flatten().collect(), rest: all[fixed..].to_vec(), original: original.clone() }
    }

    pub(super) fn expand(&self, original: &FileName) -> Vec<Option<char>> {
        let name = original.as_str();
        let (stem, ext) = split(name);
        let mut out = Vec::new();
        for part in &self.parts {
            let text = match part {
                Part::Star => {
                    out.push(None);
                    continue;
                }
                Part::Text(text) => text,
                Part::Dir => &name[..name.len() - original.base().len()],
                Part::Name => name,
                Part::Stem => stem,
                Part::BaseStem => base(stem),
                Part::Base => original.base(),
                Part::Ext => ext,
            };
            out.extend(text.chars().map(Some));
        }
        out
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in crate::derivative) fn name(text: &str) -> FileName {
        FileName::parse(text).unwrap()
    }

    pub(in crate::derivative) fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    pub(in crate::derivative) const PATTERNS: [&str; 9] = [
        "CACHE/images/{stem}/*",
        "CACHE/{dir}/{stem}/*",
        "{name}.*.*",
        "{name}.*",
        "{stem}_*",
        "{dir}/thumbs/{base}_*_*",
        "{stem}_small.{ext}",
        "t/{dir}/{stem}_*{ext}",
        "t/{name}",
    ];

    #[test]
    fn patterns_find_what_the_peers_write() {
        for (text, original, prefix, yes, no) in [
            (
                "CACHE/images/{stem}/*",
                "2026/11/p.jpg",
                "CACHE/images/2026/11/p/",
                "CACHE/images/2026/11/p/5ff3.jpg",
                "CACHE/images/p/5ff3.jpg",
            ),
            (
                "CACHE/images/{dir}/{stem}/*",
                "2026/11/p.jpg",
                "CACHE/images/2026/11/p/",
                "CACHE/images/2026/11/p/5ff3.jpg",
                "CACHE/images/2026/11/p/x/5.jpg",
            ),
            ("CACHE/images/{dir}/{stem}/*", "p.jpg", "CACHE/images/p/", "CACHE/images/p/5ff3.jpg", "CACHE/images/q/5ff3.jpg"),
            ("{name}.*.*", "a/p.jpg", "a/p.jpg.", "a/p.jpg.100x100_q85.jpg", "a/p.jpg.txt"),
            ("{dir}/thumbs/{base}.*.*", "a/p.jpg", "a/thumbs/p.jpg.", "a/thumbs/p.jpg.9x9_q85.jpg", "a/p.jpg.9x9_q85.jpg"),
            ("{dir}/thumbs/{base}.*.*", "p.jpg", "thumbs/p.jpg.", "thumbs/p.jpg.9x9_q85.jpg", "p.jpg.9x9_q85.jpg"),
            ("{stem}_small.{ext}", "a/p.q.jpg", "a/p.q_small.jpg", "a/p.q_small.jpg", "a/p.q_small.jpgx"),
            ("{dir}/{stem}_*.webp", "a/p.jpg", "a/p_", "a/p_300.webp", "a/p_300.jpg"),
            ("t/{name}", "a/.hidden", "t/a/.hidden", "t/a/.hidden", "t/a/.hidden2"),
            ("t/{name}_*", "a/*[x]{y}.jpg", "t/a/*[x]{y}.jpg_", "t/a/*[x]{y}.jpg_1", "t/a/bx{y}.jpg_1"),
        ] {
            let wanted = pattern(text).of(&name(original));
            assert_eq!(wanted.prefix, prefix, "{text}");
            assert!(wanted.matches(&name(yes)), "{text}: {yes}");
            assert!(!wanted.matches(&name(no)), "{text}: {no}");
        }
    }

    #[test]
    fn a_pattern_that_reaches_too_far_is_refused() {
        for (text, why) in [
            ("", "does not name its original"),
            ("CACHE/*", "does not name its original"),
            ("*/{name}", "has a `*` at its beginning"),
            ("thumbs/*/{name}", "does not name its original"),
            ("**/{name}", "holds `**`"),
            ("{name}/**", "holds `**`"),
            ("{stem}*", "right after a placeholder"),
            ("{name}.**", "holds `**`"),
            ("CACHE/{dir}/*", "does not name its original"),
            ("thumbs/{base}", "does not name its original's folder"),
            ("thumbs/{base}_*", "does not name its original's folder"),
            ("{ext}/{dir}/*", "does not name its original"),
            ("x{dir}/{base}", "no folder of its own"),
            ("{name}/{dir}", "no folder of its own"),
            ("{name}", "is the file itself"),
            ("{dir}/{base}", "is the file itself"),
            ("{stem}.{ext}", "is the file itself"),
            ("{dir}/{stem}.{ext}", "is the file itself"),
            ("/thumbs/{name}", "is absolute"),
            ("../{name}", "`.` or `..` segment"),
            ("{dir}/../{base}", "`.` or `..` segment"),
            ("t//{name}", "an empty segment"),
            ("{name}/", "an empty segment"),
            (".rowbound/{name}", "`.rowbound/`"),
            ("{name}_[ab]", "a wildcard that is not known"),
            ("{name}_?", "a wildcard that is not known"),
            ("{photo}_*", "a placeholder that is not known"),
            ("{name_*", "a brace"),
            ("name}_*", "a brace"),
        ] {
            let e = Pattern::parse(text).unwrap_err();
            assert_eq!(e.kind(), Kind::Config);
            assert!(e.full().contains(why) && e.full().contains(&format!("{text:?}")), "{text}: {}", e.full());
        }
    }

    proptest! {
        #[test]
        fn a_match_never_leaves_the_prefix(n in 0..PATTERNS.len(), original in "[a*._/\\[{]{1,8}", other in "[at*._/\\[{]{1,16}") {
            let (Ok(original), Ok(other)) = (FileName::parse(&original), FileName::parse(&other)) else { return Ok(()) };
            let wanted = pattern(PATTERNS[n]).of(&original);
            prop_assert!(!wanted.prefix.is_empty());
            if wanted.matches(&other) {
                prop_assert!(other.as_str().starts_with(&wanted.prefix));
                prop_assert_ne!(&other, &original);
                // Nor does a star leave its folder.
                let slashes = |text: &str| text.matches('/').count();
                let fixed: String = wanted.rest.iter().flatten().collect();
                prop_assert_eq!(slashes(other.as_str()), slashes(&wanted.prefix) + slashes(&fixed));
            }
        }

        /// With the whole name in it, a pattern gives two originals the same derivative only where one's name begins with the other's.
        #[test]
        fn unrelated_originals_share_nothing(n in 2..4usize, one in "[ab.]{1,4}", two in "[ab.]{1,4}", derivative in "[ab.]{1,12}") {
            let (Ok(one), Ok(two), Ok(derivative)) = (FileName::parse(&one), FileName::parse(&two), FileName::parse(&derivative)) else { return Ok(()) };
            let pattern = pattern(PATTERNS[n]);
            if pattern.of(&one).matches(&derivative) && pattern.of(&two).matches(&derivative) {
                prop_assert!(one.as_str().starts_with(two.as_str()) || two.as_str().starts_with(one.as_str()));
            }
        }

        #[test]
        fn wildcards_in_a_name_match_only_themselves(original in "[a*?\\[\\]]{1,6}", other in "[a*?\\[\\]]{1,6}") {
            let wanted = pattern("t/{name}_*").of(&name(&original));
            prop_assert_eq!(wanted.matches(&name(&format!("t/{other}_1"))), original == other);
        }
    }
}
