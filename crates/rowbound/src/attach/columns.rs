//! Which column a binding means, before and now; and whether one is left out.
//!
//! In: the snapshot of the last attach, what stands there now, a sample of all columns. Out: numbers that follow a renamed column, and what a person has to
//! say first. Promise: a binding whose column cannot be proved to be the same is not carried over.

use std::{collections::HashSet, time::Duration};

use super::{number, open_storages};
use crate::{
    binding::{Binding, Column, Resolved},
    capture::{Bound, Drift, Inspection, Installation, Snapshot},
    database::{ColumnSearch, Database, Dialect},
    error::{Error, Kind, Result},
    evidence::{Evidence, Limits, survey, unfit},
    name::FileName,
    plan::Plan,
};

/// Insists that no column is left out whose sampled values are names of files: nobody would look for references in it. A sample, so that it is
/// cheap on any database; what could not be looked at is a warning.
pub(super) async fn all_bound(plan: &Plan, db: &dyn Database, inspection: &mut Inspection) -> Result<()> {
    let storages = open_storages(plan)?;
    for storage in storages.values() {
        storage.survey();
    }
    let limits = Limits { values: 100, time: Duration::from_secs(15) };
    let mut survey =
        survey(db, &storages, limits, |c| plan.bindings.iter().any(|b| c.is(&b.column)) || plan.ignore.iter().any(|i| c.is(i))).await?;
    for unread in &survey.unread {
        inspection.warnings.push(format!("{}: it was not looked at, and may name files: {}", unread.column.column, unread.why));
    }
    let mut composed = Vec::new();
    for seen in std::mem::take(&mut survey.evidence) {
        match is_part(plan, db, &seen).await? {
            true => composed.push(seen.column.column.to_string()),
            false => survey.evidence.push(seen),
        }
    }
    for column in composed {
        inspection.warnings.push(format!("{column}: it is not bound, but every file that its sampled values name is held by what is computed from it"));
    }
    let Some(first) = survey.evidence.first() else {
        let limits = Limits { values: 500, ..limits };
        let (unfit, unread) = unfit(db, plan.bindings.iter(), &storages, &plan.storages, limits).await?;
        inspection.warnings.extend(unfit.iter().map(|u| format!("{}: {}; {}", u.column, u.finding(), u.hint())));
        inspection.warnings.extend(unread.iter().map(|u| format!("{}: its values were not looked at: {}", u.column.column, u.why)));
        return Ok(());
    };
    let mut error =
        Error::new(Kind::Unbound, "a column that is not bound names files of a storage: they would be deleted although its rows name them");
    for seen in survey.evidence.iter().take(5) {
        error = error.with(
            "column",
            format_args!("{}: {} name files of {}, such as {}", seen.column.column, seen.share(), seen.storage, seen.example()),
        );
    }
    if survey.evidence.len() > 5 {
        error = error.with("and", format_args!("{} more", survey.evidence.len() - 5));
    }
    let column = &first.column.column;
    Err(error.hint(format!(
        "bind it ([[binding]] with column = \"{column}\"; `rowbound init --output -` proposes how), or, if its rows need no files, write ignore = [\"{column}\"] \
         at the top of rowbound.toml; `rowbound doctor` shows them all"
    )))
}

/// Whether a column only is a part of what a bound query or a bound generated column of its table computes: then each of its files must be held by that, and to bind it, too,
/// would release files that the whole name does not mean.
async fn is_part(plan: &Plan, db: &dyn Database, seen: &Evidence) -> Result<bool> {
    let (table, columns) = (seen.column.column.table.to_ascii_lowercase(), db.text_columns().await?);
    let computes = |b: &&Binding| {
        let is_generated = || columns.iter().any(|c| c.generated && c.is(&b.column)) && b.column.table.eq_ignore_ascii_case(&table);
        let is_query = || b.query.as_ref().is_some_and(|query| query.to_ascii_lowercase().contains(&table));
        b.storage == seen.storage && (is_query() || is_generated())
    };
    let bound: Vec<Bound> =
        plan.bindings.iter().filter(computes).enumerate().map(|(i, b)| Bound { id: i as i32 + 1, binding: b.clone() }).collect();
    if bound.is_empty() {
        return Ok(false);
    }
    let searches: Vec<ColumnSearch> = bound.iter().map(|b| ColumnSearch::of_read(b, &seen.names)).collect();
    let held: HashSet<FileName> = db
        .holders(&searches, HOLDERS)
        .await?
        .iter()
        .filter_map(|holder| match bound.iter().find(|b| b.id == holder.binding)?.binding.resolve(holder.value.as_bytes()) {
            Resolved::Name(name) => Some(name),
            _ => None,
        })
        .collect();
    Ok(seen.names.iter().all(|name| held.contains(name)))
}

/// Rows that are looked at to see what holds the files of a sample.
const HOLDERS: u32 = 10_000;

/// A column that was renamed keeps its number under its new name, so that what still waits from before is not settled as unbound.
pub(super) async fn carry_renamed(plan: &Plan, db: &dyn Database, record: &mut Installation) -> Result<()> {
    let new: Vec<Bound> = number(plan, &record.bindings).into_iter().filter(|b| !record.bindings.contains_key(&b.binding.key())).collect();
    if new.is_empty() {
        return Ok(());
    }
    let now = db.snapshot(&new).await?;
    for b in new {
        let storage = format!(" -> {}", b.binding.storage);
        let renamed = record.bindings.iter().find(|(key, id)| {
            record.active.contains(id)
                && plan.bindings.iter().all(|b| b.key() != **key)
                && key
                    .strip_suffix(&storage)
                    .is_some_and(|column| still_the_column(db.dialect(), **id, &record.snapshot, column, &now, &b.binding.column))
        });
        if let Some((key, id)) = renamed.map(|(key, id)| (key.clone(), *id)) {
            record.bindings.remove(&key);
            record.bindings.insert(b.binding.key(), id);
        }
    }
    Ok(())
}

/// The parts of a column's item by which PostgreSQL knows it: its table's and its own number.
fn numbers(text: &str) -> Vec<&str> {
    text.split(", ").take(2).collect()
}

/// Whether `now` proves that the column bound as `id` is `column` today.
fn still_the_column(dialect: Dialect, id: i32, was: &Snapshot, old: &str, now: &Snapshot, column: &Column) -> bool {
    match dialect {
        Dialect::Postgres => {
            let (was, now) = (was.0.get(&format!("column {old}")), now.0.get(&format!("column {column}")));
            was.zip(now).is_some_and(|(was, now)| numbers(was) == numbers(now))
        }
        // SQLite rewrites the triggers of a column that is renamed: its number stands beside its new name.
        Dialect::Sqlite => {
            let released = format!(" {id}, old.\"{}\",", column.column.replace('"', "\"\""));
            let table = format!(" on {}", column.table);
            now.0.iter().any(|(item, text)| item.starts_with("trigger ") && item.ends_with(&table) && text.contains(&released))
        }
        Dialect::Mysql => false,
    }
}

/// Only bindings that stood there before can have drifted.
pub(super) fn bound_as_before(bound: &[Bound], before: &Installation) -> Vec<Bound> {
    bound.iter().filter(|b| before.active.contains(&b.id)).cloned().collect()
}

/// Whether a bound column's name means another column now. PostgreSQL numbers columns: table and number come first in the item. SQLite has no
/// numbers, but rewrites the triggers of a column that is renamed. MySQL has neither, so there it cannot be told.
pub(super) fn another_column(d: &Drift, dialect: Dialect, bound: &[Bound]) -> bool {
    let (Some(was), Some(is)) = (&d.was, &d.is) else { return false };
    match dialect {
        Dialect::Postgres => d.item.starts_with("column ") && numbers(was) != numbers(is),
        Dialect::Sqlite => bound.iter().any(|b| {
            let column = format!("old.\"{}\"", b.binding.column.column.replace('"', "\"\""));
            let on_its_table = d.item.starts_with("trigger ") && d.item.ends_with(&format!(" on {}", b.binding.column.table));
            on_its_table && was.contains(&column) && !is.contains(&column)
        }),
        Dialect::Mysql => false,
    }
}
