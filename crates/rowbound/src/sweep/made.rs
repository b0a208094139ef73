//! Whole names that a query, or a generated column, makes of columns in which pieces of them stand.
//!
//! In: bindings that make names. Out: with which last parts these end. Promise: only a last part with which a name ends that was made counts as a piece of one; every other
//! one in those columns is the name of a file whose folder the application knows.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{compare::each_value, sides::Side};
use crate::{binding::Resolved, capture::Bound, error::Result, name::FileName};

/// By the number of each of these bindings: the last parts, of those that are wanted, with which names end that it makes. A name without a folder is no longer than its last
/// part: nothing was put together.
///
/// # Errors
/// Those of the database.
pub(super) async fn ends_of_made<'a>(
    makers: impl Iterator<Item = (&'a Side<'a>, &'a Bound)>,
    is_wanted: impl Fn(&FileName) -> bool,
) -> Result<HashMap<i32, HashSet<FileName>>> {
    let makers: BTreeMap<i32, (&Side<'_>, &Bound)> = makers.map(|(side, b)| (b.id, (side, b))).collect();
    let mut made = HashMap::new();
    for (id, (side, b)) in makers {
        let mut ends = HashSet::new();
        each_value(side, b, |value| {
            b.binding.each_name(value, |read| {
                if let Resolved::Name(name) = read
                    && name.folder().is_some()
                    && let Ok(base) = FileName::key(name.base())
                    && is_wanted(&base)
                {
                    ends.insert(base);
                }
            });
        })
        .await?;
        made.insert(id, ends);
    }
    Ok(made)
}
