//! Derivatives: files made from another file, whose names follow from its name (thumbnails, previews).
//!
//! In: an original's name and the patterns of its binding. Out: a prefix to list and a test for what is found there; and back, the
//! originals that a name could have been made from. Promise: what stands for a placeholder is taken literally, what matches lies beneath
//! the prefix, and of the originals none is left out, so that a derivative that two originals share stays as long as one of them does.

use std::collections::BTreeSet;

use crate::{
    binding::Binding,
    error::{Error, Kind, Result},
    name::FileName,
};

/// More originals than this for one name are not looked at: the name then counts as shared, and stays.
const MANY: usize = 64;

/// Steps after which the search for originals gives up, with the same answer.
const STEPS: u32 = 100_000;

/// A word that stands for patterns, and the patterns.
pub const PRESETS: [(&str, &[&str]); 3] = [
    // django-imagekit's namer `source_name_as_path`, the default for specs.
    ("imagekit", &["CACHE/images/{stem}/*"]),
    // easy-thumbnails' namers `default` and `alias`, beside the original: photo.jpg.300x200_q85_crop.jpg
    ("easy-thumbnails", &["{name}.*.*"]),
    // Renditions are rows: the binding of their column does it, and `check` wants one.
    ("wagtail", &[]),
];

/// How the derivatives of a file are named: `CACHE/images/{stem}/*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
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

/// A name without its last suffix, and the suffix without its dot; as Python's `os.path.splitext`: leading dots begin no suffix.
fn split(name: &str) -> (&str, &str) {
    let base = name.rfind('/').map_or(0, |slash| slash + 1);
    let begin = name.len() - name[base..].trim_start_matches('.').len();
    match name[begin..].rfind('.') {
        Some(dot) => (&name[..begin + dot], &name[begin + dot + 1..]),
        None => (name, ""),
    }
}

/// A name without its last suffix.
pub fn stem(name: &str) -> &str {
    split(name).0
}

fn base(name: &str) -> &str {
    name.rsplit_once('/').map_or(name, |(_, base)| base)
}

/// The derivatives of one original by one pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Every one begins with this; never empty.
    pub prefix: String,
    /// What follows it; `None` is a `*`.
    rest: Vec<Option<char>>,
    /// Of which they are.
    pub original: FileName,
}

impl Wanted {
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
    pub fn of(&self, original: &FileName) -> Wanted {
        let all = self.expand(original);
        let fixed = all.iter().position(Option::is_none).unwrap_or(all.len());
        Wanted { prefix: all[..fixed].iter().flatten().collect(), rest: all[fixed..].to_vec(), original: original.clone() }
    }

    fn expand(&self, original: &FileName) -> Vec<Option<char>> {
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

    /// Adds every original of which `name` could be a derivative.
    fn originals(&self, name: &FileName, into: &mut Originals) {
        let mut search = Search { pattern: self, name, steps: 0, into };
        search.unify(0, name.as_str(), Vars::default());
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

struct Search<'a, 'o> {
    pattern: &'a Pattern,
    name: &'a FileName,
    steps: u32,
    into: &'o mut Originals,
}

impl<'a> Search<'a, '_> {
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
                        .filter_map(|sample| FileName::parse(sample).ok())
                        .any(|sample| split(sample.as_str()).0 == stem && self.makes(&sample))
                {
                    self.into.stems.insert(stem);
                }
                Vec::new()
            }
        };
        for name in exact.iter().filter_map(|n| FileName::parse(n).ok()) {
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

/// The patterns of some bindings, compiled.
#[derive(Debug, Clone, Default)]
pub struct Derivatives(Vec<Pattern>);

impl Derivatives {
    /// Compiles the patterns and presets of `bindings`.
    ///
    /// # Errors
    /// [`Kind::Config`] names the binding and the pattern or preset.
    pub fn new<'a>(bindings: impl IntoIterator<Item = &'a Binding>) -> Result<Self> {
        let mut all: Vec<Pattern> = Vec::new();
        for binding in bindings {
            for text in &binding.derivatives {
                let patterns = match text.contains(['{', '*', '/']) {
                    true => &[text.as_str()][..],
                    false => preset(text).map_err(|e| e.with("binding", &binding.column))?,
                };
                for pattern in patterns {
                    let pattern = Pattern::parse(pattern).map_err(|e| e.with("binding", &binding.column))?;
                    if !all.contains(&pattern) {
                        all.push(pattern);
                    }
                }
            }
        }
        Ok(Derivatives(all))
    }

    /// The same, and whether the presets find what they need among `bindings`, which are all of one storage.
    ///
    /// # Errors
    /// As [`Derivatives::new`]; [`Kind::Config`] for `wagtail` where no column of renditions is bound.
    pub fn check(bindings: &[&Binding]) -> Result<Self> {
        let renditions = |b: &&Binding| b.column.table.to_ascii_lowercase().contains("rendition");
        for b in bindings {
            if b.derivatives.iter().any(|d| d == "wagtail") && !bindings.iter().any(renditions) {
                return Err(Error::new(Kind::Config, "`derivatives = \"wagtail\"` needs the renditions bound: they are rows of their own")
                    .with("binding", &b.column)
                    .with("storage", &b.storage)
                    .hint("add [[binding]] column = \"wagtailimages_rendition.file\", or the column of your own rendition model"));
            }
        }
        Self::new(bindings.iter().copied())
    }

    /// Whether there is no pattern.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is to be listed for `original`.
    pub fn of(&self, original: &FileName) -> Vec<Wanted> {
        self.0.iter().map(|p| p.of(original)).collect()
    }

    /// Every original of which `name` could be a derivative by one of the patterns. None is left out.
    pub fn originals(&self, name: &FileName) -> Originals {
        let mut all = Originals::default();
        for pattern in &self.0 {
            pattern.originals(name, &mut all);
        }
        all
    }
}

fn preset(word: &str) -> Result<&'static [&'static str]> {
    if let Some((_, patterns)) = PRESETS.iter().find(|(known, _)| *known == word) {
        return Ok(patterns);
    }
    let bad = |why: String| Error::new(Kind::Config, why).with("derivatives", format_args!("{word:?}"));
    if word == "sorl" {
        return Err(bad("`derivatives` cannot follow sorl-thumbnail: only its key-value table knows which thumbnail is whose".into())
            .hint("leave it out and call sorl.thumbnail.delete() as its manual says; docs/derivatives.md"));
    }
    let known: Vec<_> = PRESETS.iter().map(|(word, _)| *word).collect();
    Err(bad("`derivatives` has no such preset".into())
        .hint(format!("known are {}; or write patterns: [\"CACHE/images/{{stem}}/*\"]", known.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> FileName {
        FileName::parse(text).unwrap()
    }

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

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

    #[test]
    fn presets_are_known_and_the_others_are_explained() {
        let bound = |what: &str| Binding::name("t.f", "default").unwrap().derivatives([what]);
        for (word, patterns) in PRESETS {
            assert_eq!(Derivatives::new([&bound(word)]).unwrap().0.len(), patterns.len());
        }
        let sorl = Derivatives::new([&bound("sorl")]).unwrap_err();
        assert!(sorl.full().contains("key-value table") && sorl.full().contains("t.f"), "{}", sorl.full());
        assert!(Derivatives::new([&bound("imagekitt")]).unwrap_err().hint_text().unwrap().contains("imagekit"));
        assert!(Derivatives::check(&[&bound("wagtail")]).unwrap_err().hint_text().unwrap().contains("wagtailimages_rendition.file"));
        let renditions = Binding::name("wagtailimages_rendition.file", "default").unwrap();
        assert!(Derivatives::check(&[&bound("wagtail"), &renditions]).unwrap().is_empty());
    }

    const PATTERNS: [&str; 9] = [
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

        /// The way back finds the original again, whatever was put for the stars; so nothing that is shared looks like one's own.
        #[test]
        fn the_original_is_among_the_originals(n in 0..PATTERNS.len(), original in "[a*._/\\[{]{1,8}", star in "[a._\\[*]{0,4}") {
            let Ok(original) = FileName::parse(&original) else { return Ok(()) };
            let pattern = pattern(PATTERNS[n]);
            let made: String = pattern.expand(&original).into_iter().map(|c| c.map_or(star.clone(), String::from)).collect();
            let Ok(made) = FileName::parse(&made) else { return Ok(()) };
            if made == original {
                return Ok(());
            }
            prop_assert!(pattern.of(&original).matches(&made));
            let mut all = Originals::default();
            pattern.originals(&made, &mut all);
            prop_assert!(all.contains(&original), "{made:?} {all:?}");
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
