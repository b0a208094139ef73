//! Derivatives: files made from another file, whose names follow from its name (thumbnails, previews).
//!
//! In: an original's name and the patterns of its binding. Out: a prefix to list and a test for what is found there; and back, the
//! originals that a name could have been made from. Promise: what stands for a placeholder is taken literally, what matches lies beneath
//! the prefix, and of the originals none is left out, so that a derivative that two originals share stays as long as one of them does.

use crate::{
    binding::Binding,
    error::{Error, Kind, Result},
    name::FileName,
};

mod originals; // a name -> every original that it could have been made from
mod pattern; // one pattern, and what it makes of a name

pub use originals::Originals;
pub use pattern::{DerivativeGlob, Pattern};

/// A word that stands for patterns, and the patterns.
pub const PRESETS: [(&str, &[&str]); 4] = [
    // django-imagekit's namer `source_name_as_path`, the default for specs.
    ("imagekit", &["CACHE/images/{stem}/*"]),
    // easy-thumbnails' namers `default` and `alias`, beside the original: photo.jpg.300x200_q85_crop.jpg
    ("easy-thumbnails", &["{name}.*.*"]),
    // Renditions are rows: the binding of their column does it, and `check` wants one.
    ("wagtail", &[]),
    // So are sorl's thumbnails, as JSON: `$.name` of `thumbnail_kvstore.value`.
    ("sorl", &[]),
];

/// Presets whose files are rows of another table, a word of that table, and what to bind.
const ROWS: [(&str, &str, &str); 2] = [
    ("wagtail", "rendition", "add [[binding]] column = \"wagtailimages_rendition.file\", or the column of your own rendition model"),
    ("sorl", "thumbnail_kvstore", "add [[binding]] column = \"thumbnail_kvstore.value\" with kind = \"json\" and path = \"$.name\""),
];

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
    /// As [`Derivatives::new`]; [`Kind::Config`] for `wagtail` and `sorl` where the column that has their files is not bound.
    pub fn check(bindings: &[&Binding]) -> Result<Self> {
        for (b, (preset, table, hint)) in bindings.iter().flat_map(|b| ROWS.iter().map(move |row| (b, row))) {
            let is_bound = |other: &&Binding| other.column.table.to_ascii_lowercase().contains(table);
            if b.derivatives.iter().any(|d| d == preset) && !bindings.iter().any(is_bound) {
                return Err(Error::new(
                    Kind::Config,
                    format!("`derivatives = \"{preset}\"` needs another column bound: the files are rows of their own"),
                )
                .with("binding", &b.column)
                .with("storage", &b.storage)
                .hint(*hint));
            }
        }
        Self::new(bindings.iter().copied())
    }

    /// Whether there is no pattern.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is to be listed for `original`. Nothing is made from a key that ends with a slash: without a name of its own, a pattern would take what others made.
    pub fn of(&self, original: &FileName) -> Vec<DerivativeGlob> {
        match original.base() {
            "" => Vec::new(),
            _ => self.0.iter().map(|p| p.of(original)).collect(),
        }
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
    let known: Vec<_> = PRESETS.iter().map(|(word, _)| *word).collect();
    Err(bad("`derivatives` has no such preset".into())
        .hint(format!("known are {}; or write patterns: [\"CACHE/images/{{stem}}/*\"]", known.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_ends_with_a_slash_has_no_derivatives() {
        let derivatives = Derivatives::new([&Binding::name("t.f", "default").unwrap().derivatives(["{dir}/{base}_*"])]).unwrap();
        assert!(derivatives.of(&FileName::key("uploads/").unwrap()).is_empty());
        assert_eq!(derivatives.of(&FileName::key("uploads//a.jpg").unwrap())[0].prefix, "uploads//a.jpg_");
    }

    #[test]
    fn presets_are_known_and_the_others_are_explained() {
        let bound = |what: &str| Binding::name("t.f", "default").unwrap().derivatives([what]);
        for (word, patterns) in PRESETS {
            assert_eq!(Derivatives::new([&bound(word)]).unwrap().0.len(), patterns.len());
        }
        let sorl = Derivatives::check(&[&bound("sorl")]).unwrap_err();
        assert!(sorl.full().contains("t.f") && sorl.hint_text().unwrap().contains("thumbnail_kvstore.value"), "{}", sorl.full());
        assert!(Derivatives::new([&bound("imagekitt")]).unwrap_err().hint_text().unwrap().contains("imagekit"));
        assert!(Derivatives::check(&[&bound("wagtail")]).unwrap_err().hint_text().unwrap().contains("wagtailimages_rendition.file"));
        let renditions = Binding::name("wagtailimages_rendition.file", "default").unwrap();
        assert!(Derivatives::check(&[&bound("wagtail"), &renditions]).unwrap().is_empty());
    }
}
