//! Whether a plan can be carried out, as far as that is known without IO.
//!
//! In: a [`Plan`] as it was read or built. Out: nothing, or the first complaint, with the field and the value. Promise: a plan that passes names only storages that it
//! has, and no file lies in two of its storages.

use std::{collections::BTreeSet, time::Duration};

use super::{Plan, hook::check_hooks};
use crate::{
    binding::{Binding, Keep, QUERY, Reading},
    derivative::Derivatives,
    error::{Error, Kind, Result},
};

/// The ledger is kept for so long at least.
const SHORTEST_HISTORY: Duration = Duration::from_secs(86_400);

impl Plan {
    pub(super) fn validate(&self) -> Result<()> {
        if self.storages.is_empty() {
            return Err(Error::new(Kind::Config, "the plan has no storage").hint("add [storage.default] with a `url`"));
        }
        if self.bindings.is_empty() {
            return Err(Error::new(Kind::Config, "the plan has no binding").hint("add a [[binding]] with a `column`"));
        }
        let mut seen = BTreeSet::new();
        for b in &self.bindings {
            if !self.storages.contains_key(&b.storage) {
                let known: Vec<_> = self.storages.keys().cloned().collect();
                return Err(Error::new(Kind::Config, "`storage` names no storage of the plan")
                    .with("binding", &b.column)
                    .with("storage", format_args!("{:?}", b.storage))
                    .hint(format!("known are: {}", known.join(", "))));
            }
            if !seen.insert(b.key()) {
                return Err(Error::new(Kind::Config, "two bindings have the same column and storage").with("binding", b.key()));
            }
            check_binding(b)?;
        }
        check_hooks(&self.hooks)?;
        self.check_settings()?;
        self.check_storages()
    }

    /// What belongs to no storage and no binding.
    fn check_settings(&self) -> Result<()> {
        if let Some(first) = self.ignored_sessions.first().filter(|_| self.database.starts_with("sqlite:")) {
            return Err(Error::new(
                Kind::Config,
                "on SQLite no session can be ignored: its write lock is the barrier, and nobody is waited for",
            )
            .with("in", "barrier")
            .with("ignore", format_args!("{:?}", first.to_string()))
            .hint("take [barrier] out"));
        }
        // `status` counts the last 24 hours, and what was moved within half an hour is checked again because the ledger says so.
        if let Some(short) = self.keep_history.filter(|time| *time < SHORTEST_HISTORY) {
            return Err(Error::new(Kind::Config, "`keep_history` is shorter than a day")
                .with("keep_history", format_args!("{short:?}"))
                .hint("write 1d, 90d or 1y; leave the line out to keep the ledger for ever"));
        }
        if let Some(both) = self.ignore.iter().find(|i| self.bindings.iter().any(|b| b.column == **i)) {
            return Err(Error::new(Kind::Config, "`ignore` names a column that is bound")
                .with("ignore", both)
                .hint("take it out of one of the two"));
        }
        Ok(())
    }

    fn check_storages(&self) -> Result<()> {
        for (i, a) in self.storages.values().enumerate() {
            Keep::new(self.on_storage(&a.name))?;
            Keep::with_ignored([], &a.ignore).map_err(|e| e.with("storage", &a.name))?;
            Derivatives::check(&self.on_storage(&a.name).collect::<Vec<_>>())?;
            a.check_uploads()?;
            for b in self.storages.values().skip(i + 1) {
                if a.location.overlaps(&b.location) {
                    // Two views of one file would each ignore the other's references.
                    return Err(Error::new(
                        Kind::Config,
                        "two storages overlap: a file would be in both, and each would miss the other's references",
                    )
                    .with("storage", format_args!("{} ({})", a.name, a.url()))
                    .with("storage", format_args!("{} ({})", b.name, b.url()))
                    .hint("bind the columns to one storage at the upper folder"));
                }
            }
        }
        Ok(())
    }
}

/// One binding by itself.
fn check_binding(b: &Binding) -> Result<()> {
    if b.query.is_none() && b.column.schema.is_none() && b.column.table == QUERY {
        // Else its messages could not be told from a query's.
        return Err(Error::new(Kind::Config, "a table of this name is written with its schema").with("binding", &b.column));
    }
    if let Some(query) = &b.query
        && query.is_empty()
    {
        return Err(Error::new(Kind::Config, "`query` is empty").with("reference", &b.column.column));
    }
    if matches!(&b.reading, Reading::Url { prefixes } if prefixes.is_empty()) {
        return Err(Error::new(Kind::Config, "`prefix` is missing for kind = \"url\"").with("binding", &b.column));
    }
    if let Reading::Raw { strip, prefixes, .. } = &b.reading
        && (strip.iter().any(String::is_empty) || strip.is_empty() && prefixes.is_empty())
    {
        return Err(Error::new(Kind::Config, "`strip` holds an empty text, or nothing").with("binding", &b.column));
    }
    if b.query.is_some()
        && let Some((column, value)) = b.only.iter().next()
    {
        return Err(Error::new(Kind::Config, "`where` goes with a column: a query says itself which rows count")
            .with("reference", &b.column.column)
            .with("where", format_args!("{column} = {value:?}"))
            .hint("write the condition into the query"));
    }
    if let Some(both) = b.only.keys().find(|c| **c == b.column.column || c.is_empty()) {
        return Err(Error::new(Kind::Config, "`where` names the bound column itself, or none")
            .with("binding", &b.column)
            .with("where", both)
            .hint("write where = { kind = \"image\" }, with another column of the same table"));
    }
    check_prefixes(b)
}

fn check_prefixes(b: &Binding) -> Result<()> {
    let (prefixes, hint): (&[String], _) = match &b.reading {
        Reading::Url { prefixes } | Reading::Json { prefixes, .. } | Reading::Array { prefixes } | Reading::Raw { prefixes, .. } => {
            (prefixes, "write what stands before the file's name in the column, for example \"https://cdn.example.com/media/\"")
        }
        Reading::Text(finder) => (
            finder.prefixes(),
            "write what stands before the file's name in a URL: \"/media/\" also finds https://www.example.com/media/..",
        ),
        Reading::Name | Reading::Key => return Ok(()),
    };
    match prefixes.iter().find(|prefix| !prefix.ends_with('/') || prefix.contains(['%', '?', '#'])) {
        None => Ok(()),
        Some(prefix) => Err(Error::new(Kind::Config, "`prefix` must end with `/` and hold no `%`, `?` or `#`")
            .with("binding", &b.column)
            .with("prefix", format_args!("{prefix:?}"))
            .hint(hint)),
    }
}
