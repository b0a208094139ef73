//! `rowbound history`.

use rowbound::{
    Result,
    ledger::{Entry, Filter},
};

use crate::{
    args::{Args, HistoryArgs},
    exit, output,
};

pub async fn history(args: &Args, a: &HistoryArgs) -> Result<u8> {
    let (plan, db) = super::open(args).await?;
    if let Some(name) = &a.storage {
        super::storage(&plan, Some(name))?;
    }
    let filter =
        Filter { storage: a.storage.clone(), name: a.name.clone(), outcomes: a.outcome.clone(), since: a.since, limit: Some(a.limit) };
    let entries = db.history(&filter).await?;
    output::answer(args.format, &entries, |entries| table(entries))?;
    db.close().await;
    Ok(exit::DONE)
}

/// Entries as a table.
pub fn table(entries: &[Entry]) -> String {
    if entries.is_empty() {
        return "the ledger has no such entry\n".to_owned();
    }
    let rows: Vec<_> = entries
        .iter()
        .map(|e| {
            let mut why = match (&e.key, e.event.as_str()) {
                (Some(key), event) => format!("{event} of row {}", output::safe(key)),
                (None, event) => event.to_owned(),
            };
            if let Some(note) = &e.note {
                why.push_str(&format!("; {}", output::safe(note)));
            }
            vec![
                output::moment(e.at),
                e.outcome.word().to_owned(),
                e.size.map(output::bytes).unwrap_or_default(),
                output::safe(&e.name),
                why,
            ]
        })
        .collect();
    output::table(&rows, 0)
}
