//! Patterns of names that are never deleted.

use globset::{Glob, GlobSet, GlobSetBuilder};

use super::Binding;
use crate::{
    error::{Error, Kind, Result},
    name::FileName,
};

/// The `keep` patterns of every binding on one storage, compiled.
#[derive(Debug, Clone)]
pub struct Keep(GlobSet);

impl Keep {
    /// Compiles the union of the patterns of `bindings`.
    ///
    /// # Errors
    /// [`Kind::Config`] names the pattern that does not parse.
    pub fn new<'a>(bindings: impl IntoIterator<Item = &'a Binding>) -> Result<Self> {
        Self::with_ignored(bindings, &[])
    }

    /// The same and a storage's `ignore` patterns: what a sweep leaves alone.
    ///
    /// # Errors
    /// As [`Keep::new`].
    pub fn with_ignored<'a>(bindings: impl IntoIterator<Item = &'a Binding>, ignored: &[String]) -> Result<Self> {
        let parse = |field: &'static str, pattern: &str| {
            Glob::new(pattern).map_err(|e| {
                Error::new(Kind::Config, format!("`{field}` holds a pattern that does not parse: {}", e.kind()))
                    .with(field, format_args!("{pattern:?}"))
                    .hint("`*` matches anything, `?` one character, `[a-z]` a set, `{a,b}` either")
            })
        };
        let mut set = GlobSetBuilder::new();
        for binding in bindings {
            for pattern in &binding.keep {
                set.add(parse("keep", pattern).map_err(|e| e.with("binding", &binding.column))?);
            }
        }
        for pattern in ignored {
            set.add(parse("ignore", pattern)?);
        }
        set.build().map(Keep).map_err(|e| Error::new(Kind::Config, "the `keep` patterns are too large").because(e))
    }

    /// Whether `name` must never be deleted. A key that is no path is protected with its path, too.
    pub fn protects(&self, name: &FileName) -> bool {
        let with_path = || name.as_path().is_err() && name.other_spellings().iter().any(|path| self.0.is_match(path.as_str()));
        self.0.is_match(name.as_str()) || with_path()
    }
}
