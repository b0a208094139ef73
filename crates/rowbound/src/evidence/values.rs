//! What the values of a bound column are, one and all.
//!
//! In: a binding, the database. Out: how deep a check must look into its column, and the values that are read as no name, with samples. Promise: a column that was
//! not read to its end in time counts as one that needs the deepest look.

use std::time::{Duration, Instant};

use super::short;
use crate::{
    binding::{Depth, Resolved},
    capture::{Bound, Installation, ValuesSeen},
    database::{ColumnScan, Database},
    error::{Error, Kind, Result},
};

/// So many samples are kept.
const SAMPLES: usize = 3;

/// Reads all values of what `bound` binds, for at most so long.
///
/// # Errors
/// Those of [`Columns::scan`](crate::database::Columns::scan).
pub async fn values(db: &dyn Database, bound: &Bound, time: Duration) -> Result<ValuesSeen> {
    let (began, mut seen) = (Instant::now(), ValuesSeen { reading: bound.binding.mark(), depth: Depth::Plain, ..ValuesSeen::default() });
    let in_context = |e: Error| e.with("binding", &bound.binding.column);
    let mut values = db.scan(&ColumnScan::of(bound)).await?;
    loop {
        let ended = || Error::new(Kind::Database, "a column's values ended before their last page");
        // Where most rows have no value, or other ones are asked for, a page may take as long as the whole table.
        let Ok(page) = tokio::time::timeout(time.saturating_sub(began.elapsed()), values.pages.recv()).await else {
            seen.depth = Depth::Whole;
            return Ok(seen);
        };
        let page = page.ok_or_else(ended).flatten().map_err(in_context)?;
        for value in &page.values {
            look_at(bound, value, &mut seen);
        }
        if page.last {
            seen.complete = true;
            return Ok(seen);
        }
        if began.elapsed() > time {
            seen.depth = Depth::Whole;
            return Ok(seen);
        }
        tokio::task::yield_now().await;
    }
}

fn look_at(bound: &Bound, value: &[u8], seen: &mut ValuesSeen) {
    let (mut named, mut not) = (false, false);
    bound.binding.each_name(value, |found| match found {
        Resolved::Name(_) => named = true,
        // A text or a list without a name is none that nobody can read.
        Resolved::Nothing => not |= !bound.binding.reading.is_many(),
        Resolved::Refused(_) | Resolved::Unreadable(_) => not = true,
    });
    seen.values += 1;
    if !named && not {
        seen.unexplained += 1;
        if seen.samples.len() < SAMPLES {
            seen.samples.push(short(&String::from_utf8_lossy(value)));
        }
    }
    if !bound.binding.scans() {
        let depth = bound.binding.reading.depth(value, bound.binding.names);
        seen.spelled += u64::from(depth > Depth::Plain);
        seen.depth = seen.depth.max(depth);
    }
}

/// What to say of the values of a column; `None`: each is one plain name.
pub fn finding(column: &str, seen: &ValuesSeen) -> Option<String> {
    let of = if seen.complete { format!("of {} values", seen.values) } else { format!("of the first {} values", seen.values) };
    let samples: Vec<String> = seen.samples.iter().map(|sample| format!("{sample:?}")).collect();
    match (seen.unexplained, seen.spelled) {
        (0, 0) if seen.complete => None,
        (0, 0) => {
            Some(format!("{column}: only the first {} values could be looked through in time: each check reads all of them", seen.values))
        }
        (0, spelled) => Some(format!("{column}: {spelled} {of} could mean more than one name: files with any of these are kept")),
        (odd, _) => Some(format!(
            "{column}: {odd} {of} are read as no name of the storage, such as {}: files that they could mean are kept",
            samples.join(", ")
        )),
    }
}

/// Where the values of bound columns need a deeper look than the record says, or nobody has looked yet: what it should say. Columns that need the deepest already are not
/// read.
///
/// # Errors
/// [`Kind::DatabaseUnreachable`].
pub async fn deeper(db: &dyn Database, bound: &[Bound], record: &Installation, time: Duration) -> Result<Vec<(i32, ValuesSeen)>> {
    let mut deeper = Vec::new();
    for b in bound.iter().filter(|b| !b.binding.scans()) {
        // What an earlier build attached has not been looked through.
        let known = record.values_of(b).is_some();
        if known && record.depth(b) == Depth::Whole {
            continue;
        }
        let seen = match values(db, b, time).await {
            Err(e) if e.kind() == Kind::DatabaseUnreachable => return Err(e),
            // Somebody holds a lock: the next look is soon.
            Err(e) if e.kind() == Kind::Busy => continue,
            // One that cannot be read needs the deepest look, and keeps no other from its own.
            Err(e) => {
                tracing::warn!("{}: its values could not be looked through: {}", b.binding.column, e.full());
                ValuesSeen { reading: b.binding.mark(), depth: Depth::Whole, ..ValuesSeen::default() }
            }
            Ok(seen) => seen,
        };
        if !known || seen.depth > record.depth(b) {
            deeper.push((b.id, seen));
        }
    }
    Ok(deeper)
}
