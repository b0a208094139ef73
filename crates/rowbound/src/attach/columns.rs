//! Which column a binding means, before and now; and whether one is left out.
//!
//! In: the snapshot of the last attach, what stands there now, a sample of all columns. Out: numbers that follow a renamed column, and what a person has to
//! say first. Promise: a binding whose column cannot be proved to be the same is not carried over.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use super::{number, open_storages};
use crate::{
    binding::{Binding, Column, Resolved},
    capture::{Bound, Drift, Inspection, Installation, Snapshot, ValuesSeen},
    database::{ColumnSearch, Database, Dialect, SWAPPED, survey::TextColumn},
    error::{Error, Kind, Result},
    evidence::{Evidence, Limits, Survey, makes_names, speaks_of_files, survey, unfit, values},
    name::FileName,
    plan::Plan,
    storage::Storage,
};

/// Insists that no column is left out whose sampled values are names of files: nobody would look for references in it. A sample, so that it is
/// cheap on any database; what could not be looked at is a warning.
///
/// Returns the columns that were seen with values in them, or are bound or ignored: what [`unseen`] leaves out.
pub(super) async fn all_bound(plan: &Plan, db: &dyn Database, inspection: &mut Inspection) -> Result<BTreeSet<String>> {
    let storages = open_storages(plan)?;
    for storage in storages.values() {
        storage.set_read_only();
    }
    let limits = Limits { values: 100, time: Duration::from_secs(15) };
    let mut survey =
        survey(db, &storages, limits, |c| plan.bindings.iter().any(|b| c.is(&b.column)) || plan.ignore.iter().any(|i| c.is(i))).await?;
    for unread in &survey.unread {
        inspection.warnings.push(format!("{}: it was not looked at, and may reference files: {}", unread.column.column, unread.why));
    }
    if let Some(right) = db.hides_tables().await? {
        inspection.warnings.push(format!(
            "the database shows this account only tables on which it has a right, and others may reference files: GRANT {right}. Until then `sweep --delete` deletes nothing"
        ));
    }
    let bindings: Vec<&Binding> = plan.bindings.iter().collect();
    for column in take_parts(&bindings, db, &mut survey).await? {
        inspection.warnings.push(format!(
            "{column}: it is not bound, but every file that its sampled values reference is held by what is computed from it"
        ));
    }
    let asked: Vec<String> = survey.empty.iter().filter(|c| speaks_of_files(&c.column.column)).map(|c| c.column.to_string()).collect();
    if let Some(first) = asked.first() {
        inspection.warnings.push(format!(
            "{} empty column(s) whose names speak of files are not bound, and deletion stops when files are referenced there: {}. Bind them now ([[binding]] with \
             column = {first:?}), or write ignore = [{first:?}]",
            asked.len(),
            asked.iter().take(10).cloned().collect::<Vec<_>>().join(", ")
        ));
    }
    let Some(first) = survey.evidence.first() else {
        let limits = Limits { values: 500, ..limits };
        let (unfit, unread) = unfit(db, plan.bindings.iter(), &storages, &plan.storages, limits).await?;
        inspection.warnings.extend(unfit.iter().map(|u| format!("{}: {}; {}", u.column, u.finding(), u.hint())));
        inspection.warnings.extend(unread.iter().map(|u| format!("{}: its values were not looked at: {}", u.column.column, u.why)));
        let known = |c: &&TextColumn| plan.bindings.iter().any(|b| c.is(&b.column)) || plan.ignore.iter().any(|i| c.is(i));
        let columns = db.text_columns().await?;
        let known = columns.iter().filter(known).map(|c| Column { schema: Some(c.schema.clone()), ..c.column.clone() });
        return Ok(survey.filled.iter().cloned().chain(known).map(|c| hash(&c)).collect());
    };
    let error = Error::new(
        Kind::Unbound,
        "a column that is not bound references files of a storage: they would be deleted although its rows reference them",
    );
    let error = shown(error, &survey);
    let column = first.column.column.to_string();
    Err(error.hint(format!(
        "bind it ([[binding]] with column = {column:?}; `rowbound init --database .. --storage .. --output -` proposes how), or, if its rows need no files, write ignore = [{column:?}] \
         at the top of rowbound.toml; `rowbound doctor` shows them all"
    )))
}

/// The same for who deletes what no row references: a column that came since the last attach counts, too.
///
/// # Errors
/// [`Kind::Unbound`] where a column is left out that references files.
pub(crate) async fn none_left_out(plan: &Plan, db: &dyn Database) -> Result<()> {
    all_bound(plan, db, &mut Inspection::default()).await.map(drop)
}

/// The error with the columns that reference files.
fn shown(mut error: Error, survey: &Survey) -> Error {
    for seen in survey.evidence.iter().take(5) {
        error = error.with(
            "column",
            format_args!("{}: {} reference files of {}, such as {}", seen.column.column, seen.share(), seen.storage, seen.example()),
        );
    }
    if survey.evidence.len() > 5 {
        error = error.with("and", format_args!("{} more", survey.evidence.len() - 5));
    }
    error
}

/// A column, by which it is known again. A hash, because there may be thousands, and the record is read often.
fn hash(column: &Column) -> String {
    // FNV-1a, 64 bits, of which 40 stay.
    let hash = column.to_string().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    format!("{:010x}", hash >> 24)
}

fn hash_of(column: &TextColumn) -> String {
    hash(&Column { schema: Some(column.schema.clone()), ..column.column.clone() })
}

/// What a look at the columns that the last attach has not seen came to.
#[derive(Debug, Default)]
pub(crate) struct Unseen {
    /// Those with values that are no files.
    pub(crate) harmless: Vec<String>,
    /// What stops deletion: a column that references files.
    pub(crate) stops: Option<Error>,
    /// All that do.
    pub(crate) stopping: BTreeSet<String>,
    /// Those that were not looked at: nothing is known of them.
    pub(crate) unread: BTreeSet<String>,
}

/// Looks at the columns that are neither bound nor ignored, and that neither the last attach nor `known` has seen with values in them: they are new, or were empty.
///
/// # Errors
/// When the schema or a storage cannot be read.
pub(crate) async fn unseen(
    db: &dyn Database,
    bound: &[Bound],
    ignored: &[Column],
    record: &Installation,
    known: &BTreeSet<String>,
    storages: &BTreeMap<String, Arc<dyn Storage>>,
    limits: Limits,
) -> Result<Unseen> {
    // What an earlier build attached is not known to have been seen; its attach looked, all the same.
    let Some(seen) = &record.seen else { return Ok(Unseen::default()) };
    let skip = |c: &TextColumn| {
        let hash = hash_of(c);
        seen.contains(&hash) || known.contains(&hash) || bound.iter().any(|b| c.is(&b.binding.column)) || ignored.iter().any(|i| c.is(i))
    };
    let mut survey = survey(db, storages, limits, skip).await?;
    take_parts(&bound.iter().map(|b| &b.binding).collect::<Vec<_>>(), db, &mut survey).await?;
    let mut unseen = Unseen {
        stopping: survey.evidence.iter().map(|seen| hash_of(&seen.column)).collect(),
        unread: survey.unread.iter().map(|unread| hash_of(&unread.column)).collect(),
        ..Unseen::default()
    };
    let Some(first) = survey.evidence.first() else {
        // One that takes long comes last next time: there are others.
        let tried = survey.unread.iter().filter(|u| u.tried).map(|u| hash_of(&u.column));
        unseen.harmless = survey.filled.iter().map(hash).chain(tried).collect();
        return Ok(unseen);
    };
    let column = first.column.column.to_string();
    let error =
        Error::new(Kind::Drift, "a column that is new, or was empty when Rowbound was attached, references files, and is not bound");
    unseen.stops = Some(shown(error, &survey).hint(format!(
        "bind it ([[binding]] with column = {column:?}), or, if its rows need no files, write ignore = [{column:?}] at the top of rowbound.toml; then `rowbound attach`"
    )));
    Ok(unseen)
}

/// How long all values of one column may be looked through.
const THROUGH: Duration = Duration::from_secs(10);

/// Of what is known from before: a program that attaches as it starts does not read every table.
const AGAIN: Duration = Duration::from_secs(1);

/// Looks through the values of each bound column. One that cannot be read, or not in time, is a warning, and is looked into as deep as can be. What `before` knows of
/// a column stays if there is no time to look through it again.
pub(super) async fn looked_through(
    db: &dyn Database,
    bound: &[Bound],
    before: &Installation,
    inspection: &mut Inspection,
) -> Result<BTreeMap<i32, ValuesSeen>> {
    let mut all = BTreeMap::new();
    for b in bound {
        let name = b.binding.column.to_string();
        // Where values hold many names each is read by every check anyway.
        let time = if b.binding.scans() { THROUGH / 5 } else { THROUGH };
        let known = before.values_of(b).filter(|known| known.complete);
        let time = if known.is_some() { AGAIN } else { time };
        match values::values(db, b, time).await {
            Err(e) if e.kind() == Kind::DatabaseUnreachable => return Err(e),
            Err(e) => inspection.warnings.push(format!("{name}: its values were not looked through: {}", e.full())),
            Ok(seen) => {
                if seen.complete && seen.values == 0 && !b.binding.only.is_empty() {
                    inspection
                        .warnings
                        .push(format!("{name}: no row has a value that its `where` tells: is it spelled as the rows have it?"));
                }
                let seen = known.filter(|_| !seen.complete).cloned().unwrap_or(seen);
                inspection.warnings.extend(values::finding(&name, &seen));
                all.insert(b.id, seen);
            }
        }
    }
    Ok(all)
}

/// Takes the columns out of the evidence that only are parts of composed names.
async fn take_parts(bindings: &[&Binding], db: &dyn Database, survey: &mut Survey) -> Result<Vec<String>> {
    let mut parts = Vec::new();
    if survey.evidence.is_empty() {
        return Ok(parts);
    }
    let columns = db.text_columns().await?;
    for seen in std::mem::take(&mut survey.evidence) {
        match is_part(bindings, db, &columns, &seen).await? {
            true => parts.push(seen.column.column.to_string()),
            false => survey.evidence.push(seen),
        }
    }
    Ok(parts)
}

/// Whether a column only is a part of what a bound query or a bound generated column of its table computes: then each of its files must be held by that, and to bind it, too,
/// would release files that the whole name does not mean.
async fn is_part(bindings: &[&Binding], db: &dyn Database, columns: &[TextColumn], seen: &Evidence) -> Result<bool> {
    let computes = |b: &&Binding| b.storage == seen.storage && makes_names(b, &seen.column.column.table, columns);
    let computing = bindings.iter().copied().filter(computes).zip(1..);
    let bound: Vec<Bound> = computing.map(|(binding, id)| Bound { id, binding: binding.clone() }).collect();
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

/// A column that was renamed, or is bound with another `where`, keeps its number under its new key, so that what still waits from before is not settled as unbound.
pub(super) async fn carry_renamed(plan: &Plan, db: &dyn Database, record: &mut Installation) -> Result<()> {
    let new: Vec<Bound> = number(plan, &record.bindings).into_iter().filter(|b| !record.bindings.contains_key(&b.binding.key())).collect();
    if new.is_empty() {
        return Ok(());
    }
    let now = db.snapshot(&new).await?;
    for b in new {
        let (key, column, storage) = (b.binding.key(), b.binding.column.to_string(), format!(" -> {}", b.binding.storage));
        let left = record.bindings.iter().filter(|(key, id)| {
            record.active.contains(id)
                && plan.bindings.iter().all(|b| b.key() != **key)
                && key.strip_suffix(&storage).is_some_and(|old| {
                    let old = old.split_once(" where ").map_or(old, |(column, _)| column);
                    old == column || still_the_column(db.dialect(), **id, &record.snapshot, old, &now, &b.binding.column)
                })
        });
        // Of several with other rows of one column, the one with the same rows first.
        let rows = key.strip_prefix(&column).unwrap_or(&storage);
        let renamed = left.min_by_key(|(key, _)| !key.ends_with(rows));
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
/// numbers, but rewrites the triggers of a column that is renamed. MySQL has neither: there a table is told that has taken another's name, and no column.
pub(super) fn another_column(d: &Drift, dialect: Dialect, bound: &[Bound]) -> bool {
    if dialect == Dialect::Mysql {
        return d.was.is_none() && d.item.ends_with(SWAPPED);
    }
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
