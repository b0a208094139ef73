//! From shadow mode to live, because a person says so.
//!
//! In: a column, or all. Out: what each binding was, is, and would have deleted. Promise: on an error nothing has changed.

use jiff::Timestamp;
use serde::Serialize;

use super::number;
use crate::{
    binding::{Column, Mode},
    capture::Bound,
    database::{Database, Shadowed},
    error::{Error, Kind, Result},
    plan::Plan,
};

/// A binding that `promote` was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Promoted {
    /// The column.
    pub column: String,
    /// The storage.
    pub storage: String,
    /// What became of it.
    pub now: Promotion,
    /// Since when a person had it in shadow mode; `None` if nobody had.
    pub since: Option<Timestamp>,
    /// What would have been deleted meanwhile. It stays: a sweep finds it.
    pub would_have: Shadowed,
}

/// What became of a binding that `promote` was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Promotion {
    /// It was in shadow mode and is live.
    Live,
    /// It was live before.
    WasLive,
    /// It stays in shadow mode, because the plan says so.
    Planned,
}

/// Ends the shadow mode of the bindings of one column, or of all (`None`). What would have been deleted meanwhile stays.
///
/// # Errors
/// [`Kind::Config`] for a column that is not bound, or whose binding the plan itself has in shadow mode; [`Kind::NotAttached`]. In each case nothing
/// changed.
pub async fn promote(plan: &Plan, db: &dyn Database, column: Option<&Column>) -> Result<Vec<Promoted>> {
    let attach_first = |what: &str| Error::new(Kind::NotAttached, what).hint("rowbound attach");
    let record = db.installation().await?.ok_or_else(|| attach_first("Rowbound is not attached to this database"))?;
    let chosen: Vec<Bound> =
        number(plan, &record.bindings).into_iter().filter(|b| column.is_none_or(|column| b.binding.column == *column)).collect();
    if let Some(column) = column
        && chosen.is_empty()
    {
        let known: Vec<_> = plan.bindings.iter().map(|b| b.column.to_string()).collect();
        return Err(Error::new(Kind::Config, "this column is not bound")
            .with("column", column)
            .hint(format!("bound are: {}", known.join(", "))));
    }
    if let Some(new) = chosen.iter().find(|b| !record.active.contains(&b.id)) {
        return Err(attach_first("this binding is not attached yet").with("binding", &new.binding.column));
    }
    if let Some(column) = column
        && chosen.iter().any(|b| b.binding.mode == Mode::Shadow)
    {
        return Err(Error::new(Kind::Config, "the configuration has this binding in shadow mode")
            .with("binding", column)
            .hint("take `mode = \"shadow\"` out of its [[binding]], then run the same command again"));
    }
    let mut promoted = Vec::new();
    for b in &chosen {
        let since = record.shadow.get(&b.id).copied();
        let now = match (b.binding.mode, since) {
            (Mode::Shadow, _) => Promotion::Planned,
            (Mode::Live, Some(_)) => Promotion::Live,
            (Mode::Live, None) => Promotion::WasLive,
        };
        let would_have = if now == Promotion::WasLive { Shadowed::default() } else { db.shadowed(b.id, since).await? };
        promoted.push(Promoted { column: b.binding.column.to_string(), storage: b.binding.storage.clone(), now, since, would_have });
    }
    // One that the plan has in shadow mode keeps a person's word, too: it counts again when the plan's is gone.
    let live: Vec<i32> = chosen.iter().filter(|b| b.binding.mode == Mode::Live).map(|b| b.id).collect();
    db.set_shadow(&live, None).await?;
    Ok(promoted)
}
