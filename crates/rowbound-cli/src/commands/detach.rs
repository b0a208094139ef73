//! `rowbound detach`.

use std::collections::BTreeMap;

use rowbound::{
    Result,
    attach::{Detached, detach as engine_detach},
    capture::{FOLLOWERS, VERSION},
    status,
};
use serde::Serialize;

use crate::{
    args::{Args, DetachArgs},
    exit, output,
};

/// What `detach` answers.
#[derive(Debug, Serialize)]
struct Answer {
    /// What was left behind.
    #[serde(flatten)]
    left: Detached,
    /// Names that waited to be collected, by storage: nobody will.
    forgotten: BTreeMap<String, u64>,
    /// Deliveries that were still to be made, by hook: nobody makes them.
    undelivered: BTreeMap<String, u64>,
}

pub async fn detach(args: &Args, a: &DetachArgs) -> Result<u8> {
    let (plan, db) = super::open(args).await?;
    if a.print_sql {
        let statements = db.remove_script().await?;
        output::verbatim(args.format, &serde_json::json!({ "statements": statements }), |_| {
            statements.iter().map(|s| format!("{s};\n")).collect()
        })?;
    } else {
        let record = db.installation().await?;
        let waiting = match &record {
            Some(_) => status::backlogs(&plan, db.as_ref()).await?,
            None => BTreeMap::new(),
        };
        let followers = match record.filter(|r| (FOLLOWERS..=VERSION).contains(&r.version)) {
            Some(_) => db.followers().await?,
            None => Vec::new(),
        };
        let undelivered = followers.into_iter().map(|f| (f.name, f.waiting)).collect();
        let forgotten = waiting.into_iter().map(|(storage, b)| (storage, b.total)).collect();
        let left = engine_detach(&plan, db.as_ref(), a.copy).await?;
        output::answer(args.format, &Answer { left, forgotten, undelivered }, text)?;
    }
    db.close().await;
    Ok(exit::DONE)
}

fn text(a: &Answer) -> String {
    let mut out = "detached: triggers, candidates and ledger are gone\n".to_owned();
    for (name, n) in a.forgotten.iter().filter(|(_, n)| **n > 0) {
        out.push_str(&format!(
            "storage   {name}: {n} waiting name(s) were forgotten; their files stay, though no row may reference them\n"
        ));
    }
    for (name, n) in a.undelivered.iter().filter(|(_, n)| **n > 0) {
        out.push_str(&format!("hook      {name}: {n} deliveries were given up\n"));
    }
    for (name, n) in a.left.in_trash.iter().filter(|(_, n)| **n > 0) {
        out.push_str(&format!("storage   {name}: {n} file(s) stay in its trash (.rowbound/trash)\n"));
    }
    out
}
