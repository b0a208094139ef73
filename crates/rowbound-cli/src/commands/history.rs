//! `rowbound history`.

use std::collections::BTreeMap;

use rowbound::{
    Result,
    database::Database,
    ledger::{Entry, Filter},
};
use serde::Serialize;

use crate::{
    args::{Args, HistoryArgs},
    exit, output,
};

/// An entry with its binding in words.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    entry: &'a Entry,
    /// The column whose row released the name; `null` where no row did, or the installation is a later one.
    column: Option<&'a str>,
}

pub async fn history(args: &Args, a: &HistoryArgs) -> Result<u8> {
    let (plan, db) = super::open(args).await?;
    if let Some(name) = &a.storage {
        super::storage(&plan, Some(name))?;
    }
    let filter = Filter {
        storage: a.storage.clone(),
        name: a.name.clone(),
        outcomes: a.outcome.clone(),
        since: a.since,
        before: None,
        limit: Some(a.limit),
    };
    let entries = db.history(&filter).await?;
    let columns = columns(db.as_ref()).await?;
    let answers: Vec<_> =
        entries.iter().map(|entry| Answer { entry, column: entry.binding.and_then(|n| columns.get(&n)).map(String::as_str) }).collect();
    output::answer(args.format, &answers, |_| table(&entries, &columns, 0))?;
    db.close().await;
    Ok(exit::DONE)
}

/// Which column each binding's number stands for, also of bindings that have left the plan.
pub async fn columns(db: &dyn Database) -> Result<BTreeMap<i32, String>> {
    let record = db.installation().await?;
    Ok(record.map(|r| r.columns()).unwrap_or_default())
}

/// Entries as a table. On a terminal that is too narrow for it, why an entry was made stands beneath it.
pub fn table(entries: &[Entry], columns: &BTreeMap<i32, String>, indent: usize) -> String {
    if entries.is_empty() {
        return format!("{:indent$}the ledger has no such entry\n", "");
    }
    let rows: Vec<_> = entries
        .iter()
        .map(|e| {
            let mut why = e.event.clone();
            if let Some(key) = &e.key {
                // A derivative's key is its original's name.
                let row = if e.binding.is_some() { "row " } else { "" };
                why.push_str(&format!(" of {row}{}", output::name(key)));
            }
            if let Some(column) = e.binding.and_then(|n| columns.get(&n)) {
                why.push_str(&format!(" in {}", output::safe(column)));
            }
            if let Some(note) = &e.note {
                why.push_str(&format!("; {}", output::safe(note)));
            }
            vec![
                output::moment(e.at),
                e.outcome.word().to_owned(),
                e.size.map(output::bytes).unwrap_or_default(),
                output::name(&e.name),
                why,
            ]
        })
        .collect();
    output::table_in(output::columns(), rows, indent)
}
