//! `rowbound explain`.

use std::{collections::BTreeMap, time::Duration};

use rowbound::{
    Result,
    status::{Explanation, explain as engine_explain},
};

use crate::{
    args::{Args, NameArgs},
    exit, output,
};

pub async fn explain(args: &Args, a: &NameArgs) -> Result<u8> {
    let (plan, db) = super::open(args).await?;
    let storage = super::storage(&plan, a.storage.as_deref())?;
    let name = super::name(&a.name, plan.storages[storage].location.names())?;
    let explanation = engine_explain(&plan, db.as_ref(), storage, &name).await?;
    let columns = super::history::columns(db.as_ref()).await?;
    let (grace, retention) = (plan.storages[storage].grace, plan.storages[storage].trash.retention());
    output::answer(args.format, &explanation, |e| text(e, &columns, grace, retention))?;
    db.close().await;
    Ok(explanation.problem.map_or(exit::DONE, |p| exit::of(p.kind)))
}

fn text(e: &Explanation, columns: &BTreeMap<i32, String>, grace: Duration, retention: Option<Duration>) -> String {
    let mut out = format!("{} on {}: {}\n", output::safe(&e.name), e.storage, e.verdict);
    if let Some(problem) = &e.problem {
        out.push_str(&format!("problem   {}\n", problem.message));
        if let Some(hint) = &problem.hint {
            out.push_str(&format!("          hint: {hint}\n"));
        }
    }
    if let (Some(size), Some(modified)) = (e.size, e.modified) {
        // A file that is written and then gets its name has changed a moment later.
        let changed = e
            .since
            .filter(|since| since.duration_since(modified).as_secs() > 1)
            .map(|since| format!(", changed {}", output::moment(since)));
        out.push_str(&format!("file      {}, modified {}{}\n", output::bytes(size), output::moment(modified), changed.unwrap_or_default()));
    }
    for h in e.holders.iter().take(20) {
        let how = if h.mentioned { ", a mention outside of what its binding reads" } else { "" };
        out.push_str(&format!("row       {} of row {}{how}\n", h.column, h.key.as_deref().map_or("?".into(), output::safe)));
    }
    if e.holders.len() > 20 {
        out.push_str(&format!("          and {} more rows\n", e.holders.len() - 20));
    }
    for w in &e.waiting {
        let row = w.key.as_deref().map(|key| format!(" of {}{}", if w.binding.is_some() { "row " } else { "" }, output::safe(key)));
        let column = w.binding.and_then(|n| columns.get(&n)).map(|column| format!(" in {}", output::safe(column)));
        // Before its first try it waits for its grace.
        let due = w.due_at.or_else(|| w.released_at.checked_add(grace).ok());
        let tried = match w.attempts {
            0 => String::new(),
            1 => ", failed once".to_owned(),
            n => format!(", failed {n} times"),
        };
        out.push_str(&format!(
            "waits     released by {}{}{} at {}{tried}{}{}\n",
            w.event,
            row.unwrap_or_default(),
            column.unwrap_or_default(),
            output::moment(w.released_at),
            due.map(|t| format!(", due {}", output::moment(t))).unwrap_or_default(),
            w.note.as_deref().map(|n| format!(": {}", output::safe(n))).unwrap_or_default(),
        ));
    }
    if let Some(t) = &e.trash {
        // `at` is when its part of the trash closes: nothing for people.
        let until = retention.and_then(|r| t.at.checked_add(r).ok()).map(|end| format!(", erased after {}", output::moment(end)));
        out.push_str(&format!("trash     {}, {}{}\n", output::safe(&t.place), output::bytes(t.size), until.unwrap_or_default()));
    }
    if !e.history.is_empty() {
        out.push_str("history\n");
        out.push_str(&super::history::table(&e.history, columns, 2));
    }
    out
}
