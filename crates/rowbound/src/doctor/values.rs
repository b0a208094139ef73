//! Bound values that are no files, and files that somebody else deletes.
//!
//! In: samples of bound columns, the ledger's sums. Out: findings with the likely cause. Promise: where a storage begins in the wrong place, nobody is accused of
//! deleting its files.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;

use super::{Examination, State};
use crate::{
    clock,
    database::survey::TextColumn,
    evidence::{Limits, unfit, values::finding},
    frameworks::deleters as deleters_known,
    queue::Outcome,
    storage::Storage,
};

/// Of so many days the ledger is read.
const DAYS: u64 = 7;

/// Fewer missing files than these may have many reasons.
const MANY: u64 = 10;

/// Looks whether values of bound columns are files. Returns the storages of which none was.
pub(super) async fn values(x: &mut Examination<'_>, there: &BTreeMap<String, Arc<dyn Storage>>) -> BTreeSet<String> {
    let limits = Limits { values: 500, time: Duration::from_secs(60) };
    let (unfit, unread) = match unfit(x.db, x.plan.bindings.iter(), there, &x.plan.storages, limits).await {
        Ok(seen) => seen,
        Err(e) => {
            x.error("values", State::Warning, &e);
            return BTreeSet::new();
        }
    };
    for u in &unfit {
        x.find_about("values", State::Warning, &u.column, &u.finding(), Some(&u.hint()));
    }
    for u in &unread {
        let column = u.column.column.to_string();
        x.find_about("values", State::Note, &column, &format!("its values were not looked at: {}", u.why), None);
    }
    // As the last attach saw them: to read all of them anew may take long. A column of which no value is a file has its finding already.
    let is_unfit = |column: &str| unfit.iter().any(|u| u.column == column);
    let columns = x.bound.iter().map(|b| (b.id, b.binding.column.to_string())).filter(|(_, column)| !is_unfit(column));
    let odd: Vec<String> = columns.filter_map(|(id, column)| finding(&column, x.record.as_ref()?.values.get(&id)?)).collect();
    for said in &odd {
        x.find(
            "values",
            State::Note,
            said.as_str(),
            Some("if they should be read as names, change `kind`, `prefix` or `strip` of the binding; then `rowbound attach`"),
        );
    }
    if unfit.is_empty() && unread.is_empty() && odd.is_empty() {
        x.find("values", State::Ok, "sampled values of bound columns are files, or there are too few to tell", None);
    }
    unfit.into_iter().map(|u| u.storage).collect()
}

/// Looks how many of the files that rows released were gone already.
pub(super) async fn deleters(x: &mut Examination<'_>, columns: &[TextColumn], misplaced: &BTreeSet<String>) {
    if x.record.is_none() {
        return;
    }
    let totals = match x.db.totals(Some(clock::before(Timestamp::now(), Duration::from_secs(DAYS * 86_400)))).await {
        Ok(totals) => totals,
        Err(e) => return x.error("deleters", State::Warning, &e),
    };
    let mut found = false;
    for storage in x.plan.storages.keys() {
        let count = |wanted: &[Outcome]| -> u64 {
            totals.iter().filter(|t| t.storage == *storage && wanted.contains(&t.outcome)).map(|t| t.count).sum()
        };
        let (missing, taken) = (count(&[Outcome::Missing]), count(&[Outcome::Erased, Outcome::Trashed, Outcome::Shadow]));
        // What was never there was deleted by nobody.
        if missing < MANY || missing <= taken || misplaced.contains(storage) {
            continue;
        }
        found = true;
        let said = format!(
            "{missing} of {} files that rows released in the last {DAYS} days were missing when Rowbound came: who else deletes them?",
            missing + taken
        );
        let known = deleters_known(columns).join(". ");
        let hint =
            format!("{known}. Such files have no trash, and shadow mode does not count them: docs/operations.md#who-else-deletes-files");
        x.find_about("deleters", State::Warning, storage, &said, Some(&hint));
    }
    if !found {
        x.find(
            "deleters",
            State::Ok,
            format!("most files that rows released in the last {DAYS} days were there, or too few were released"),
            None,
        );
    }
}
