//! The way back: from a name to every original that it could have been made from.
//!
//! In: a name and a pattern. Out: [`Originals`]. Promise: none is left out; where there are too many, or the search takes too long, [`Originals::many`] says so.

use std::collections::BTreeSet;

use super::{
    pattern::{Part, Pattern},
    split,
};
use crate::name::FileName;

/// More originals than this for one name are not looked at: the name then counts as shared, and stays.
const MANY: usize = 64;

/// Steps after which the search for originals gives up, with the same answer.
const STEPS: u32 = 100_000;

/// From which originals a name could have been made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Originals {
    /// These names.
    pub names: BTreeSet<FileName>,
    /// Every name that is one of these, or one of these and a suffix.
    pub stems: BTreeSet<String>,
    /// Too many to tell.
    pub many: bool,
}

impl Originals {
    /// Whether there is none: the name is nobody's derivative.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.stems.is_empty() && !self.many
    }

    /// Whether `name` is one of them.
    pub fn contains(&self, name: &FileName) -> bool {
        self.many || self.names.contains(name) || self.stems.contains(split(name.as_str()).0)
    }
}

impl Pattern {
    /// Adds every original of which `name` could be a derivative.
    pub(super) fn originals(&self, name: &FileName, into: &mut Originals) {
        let mut solver = Solver { pattern: self, name, steps: 0, into };
        solver.unify(0, name.as_str(), Vars::default());
    }
}

/// What stands for the placeholders, as far as it is known.
#[derive(Debug, Clone, Copy, Default)]
struct Vars<'a> {
    dir: Option<&'a str>,
    name: Option<&'a str>,
    stem: Option<&'a str>,
    base_stem: Option<&'a str>,
    base: Option<&'a str>,
    ext: Option<&'a str>,
}

/// The search for the originals of one name by one pattern.
struct Solver<'a, 'o> {
    pattern: &'a Pattern,
    name: &'a FileName,
    steps: u32,
    into: &'o mut Originals,
}

impl<'a> Solver<'a, '_> {
    fn unify(&mut self, part: usize, text: &'a str, vars: Vars<'a>) {
        self.steps += 1;
        if self.steps > STEPS {
            self.into.many = true;
        }
        if self.into.many {
            return;
        }
        let Some(one) = self.pattern.parts.get(part) else {
            if text.is_empty() {
                self.found(&vars);
            }
            return;
        };
        let known = match one {
            Part::Text(literal) => Some(literal.as_str()),
            Part::Dir => vars.dir,
            Part::Name => vars.name,
            Part::Stem => vars.stem,
            Part::BaseStem => vars.base_stem,
            Part::Base => vars.base,
            Part::Ext => vars.ext,
            Part::Star => None,
        };
        if let Some(known) = known {
            if let Some(rest) = text.strip_prefix(known) {
                self.unify(part + 1, rest, vars);
            }
            return;
        }
        // Nothing behind it decides any more: the rest is matched, not searched.
        if *one == Part::Star && !self.pattern.parts[part..].iter().any(|p| !matches!(p, Part::Star | Part::Text(_))) {
            self.found(&vars);
            return;
        }
        for end in text.char_indices().map(|(i, _)| i).chain([text.len()]) {
            let (taken, rest) = text.split_at(end);
            let mut vars = vars;
            match one {
                Part::Dir if taken.is_empty() || taken.ends_with('/') => vars.dir = Some(taken),
                Part::Name if !taken.is_empty() => vars.name = Some(taken),
                Part::Stem if !taken.is_empty() => vars.stem = Some(taken),
                Part::BaseStem if !taken.is_empty() => vars.base_stem = Some(taken),
                Part::Base if !taken.is_empty() => vars.base = Some(taken),
                Part::Ext | Part::Star => vars.ext = if *one == Part::Ext { Some(taken) } else { vars.ext },
                _ => continue,
            }
            if taken.contains('/') && matches!(one, Part::BaseStem | Part::Base | Part::Ext | Part::Star) {
                break;
            }
            self.unify(part + 1, rest, vars);
        }
    }

    /// The placeholders make one name, or the stem of several.
    fn found(&mut self, vars: &Vars<'a>) {
        let dir = vars.dir.unwrap_or_default();
        let exact = vars.name.map(str::to_owned).or_else(|| vars.base.map(|base| format!("{dir}{base}")));
        let stem = || vars.stem.map(str::to_owned).or_else(|| vars.base_stem.map(|base| format!("{dir}{base}")));
        let exact: Vec<String> = match (exact, vars.ext) {
            (Some(name), _) => vec![name],
            (None, Some("")) => stem().into_iter().flat_map(|s| [format!("{s}."), s]).collect(),
            (None, Some(ext)) => stem().into_iter().map(|s| format!("{s}.{ext}")).collect(),
            (None, None) => {
                // Whatever the suffix, the pattern makes the same of it. A name of dots alone has none.
                if let Some(stem) = stem()
                    && [format!("{stem}.x"), stem.clone()]
                        .iter()
                        .filter_map(|sample| FileName::key(sample).ok())
                        .any(|sample| split(sample.as_str()).0 == stem && self.makes(&sample))
                {
                    self.into.stems.insert(stem);
                }
                Vec::new()
            }
        };
        for name in exact.iter().filter_map(|n| FileName::key(n).ok()) {
            if name != *self.name && self.makes(&name) {
                self.into.names.insert(name);
            }
        }
        self.into.many |= self.into.names.len() + self.into.stems.len() > MANY;
    }

    fn makes(&self, original: &FileName) -> bool {
        self.pattern.of(original).matches(self.name) || *original == *self.name
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::derivative::pattern::tests::{PATTERNS, name, pattern};

    #[test]
    fn every_original_that_could_share_a_derivative_is_known() {
        let originals = |text: &str, derivative: &str| {
            let mut all = Originals::default();
            pattern(text).originals(&name(derivative), &mut all);
            let stems = all.stems.iter().map(|s| format!("{s}[.*]"));
            (all.names.iter().map(ToString::to_string).chain(stems).collect::<Vec<_>>(), all.many)
        };
        for (text, derivative, want) in [
            ("CACHE/images/{stem}/*", "CACHE/images/a/p/5.jpg", &["a/p[.*]"][..]),
            ("CACHE/images/{dir}/{stem}/*", "CACHE/images/a/p/5.jpg", &["a/p[.*]"]),
            ("CACHE/images/{stem}/*", "media/a/p/5.jpg", &[]),
            ("{name}.*", "a/p.jpg.9x9.jpg", &["a/p", "a/p.jpg", "a/p.jpg.9x9"]),
            ("{name}.*.*", "a/p.jpg.9x9.jpg", &["a/p", "a/p.jpg"]),
            ("{stem}_*", "a/p_1_small.jpg", &["a/p[.*]", "a/p_1[.*]"]),
            ("{stem}_small.{ext}", "a/p_small.jpg", &["a/p.jpg"]),
            ("{stem}_small{ext}", "a/p_small", &["a/p", "a/p."]),
            ("t/{name}", "t/a/p.jpg", &["a/p.jpg"]),
            ("{dir}/thumbs/{base}.*", "thumbs/p.jpg.9", &["p", "p.jpg"]),
        ] {
            assert_eq!(originals(text, derivative), (want.iter().map(|s| (*s).to_owned()).collect(), false), "{text} {derivative}");
        }
        assert!(originals("{name}.*", &format!("a{}", ".b".repeat(200))).1, "too many to tell");
    }

    proptest! {
        /// The way back finds the original again, whatever was put for the stars; so nothing that is shared looks like one's own.
        #[test]
        fn the_original_is_among_the_originals(n in 0..PATTERNS.len(), original in "[a*._/\\[{]{1,8}", star in "[a._\\[*]{0,4}") {
            // Keys of S3, paths among them.
            let Ok(original) = FileName::key(&original) else { return Ok(()) };
            let pattern = pattern(PATTERNS[n]);
            let made: String = pattern.expand(&original).into_iter().map(|c| c.map_or(star.clone(), String::from)).collect();
            let Ok(made) = FileName::key(&made) else { return Ok(()) };
            // Nothing is made from what ends with a slash.
            if made == original || original.base().is_empty() {
                return Ok(());
            }
            prop_assert!(pattern.of(&original).matches(&made));
            let mut all = Originals::default();
            pattern.originals(&made, &mut all);
            prop_assert!(all.contains(&original), "{made:?} {all:?}");
        }
    }
}
