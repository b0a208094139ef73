//! Whole names that a query, or a generated column, makes of columns in which pieces of them stand.
//!
//! In: a binding, and the tables of its database. Out: whether it makes names out of a table, and with which last parts these end. Promise: only a last part with which a name
//! ends that was made counts as a piece of one; every other one in those columns is the name of a file whose folder the application knows.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{compare::each_value, sides::Side};
use crate::{binding::Resolved, capture::Bound, database::survey::TextColumn, error::Result, name::FileName};

/// Whether `b` makes names out of columns of `table`: a query that mentions it, or a generated column of it.
pub(super) fn makes_names(b: &Bound, table: &str, columns: &[TextColumn]) -> bool {
    match &b.binding.query {
        Some(query) => mentions_word(query, table),
        None => b.binding.column.table.eq_ignore_ascii_case(table) && columns.iter().any(|c| c.generated && c.is(&b.binding.column)),
    }
}

/// Whether `text` holds `word`, and not only as a piece of another one.
fn mentions_word(text: &str, word: &str) -> bool {
    let (text, word) = (text.to_ascii_lowercase(), word.to_ascii_lowercase());
    let is_letter = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '$'));
    text.match_indices(&word)
        .any(|(at, _)| !is_letter(text[..at].chars().next_back()) && !is_letter(text[at + word.len()..].chars().next()))
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_mentions_a_table_by_its_whole_name() {
        for query in ["select v from wp_postmeta where k = 'x'", "select m.v from \"WP_PostMeta\" m", "select v from app.wp_postmeta"] {
            assert!(mentions_word(query, "wp_postmeta"), "{query}");
        }
        for query in ["select v from wp_postmeta_old", "select v from my_wp_postmeta", "select file from doc"] {
            assert!(!mentions_word(query, "wp_postmeta"), "{query}");
        }
    }
}
