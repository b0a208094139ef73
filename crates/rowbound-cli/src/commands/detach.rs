//! `rowbound detach`.

use rowbound::{Result, attach::detach as engine_detach};

use crate::{
    args::{Args, DetachArgs},
    exit, output,
};

pub async fn detach(args: &Args, a: &DetachArgs) -> Result<u8> {
    let (plan, db) = super::open(args).await?;
    if a.print_sql {
        let statements = db.remove_script().await?;
        output::answer(args.format, &serde_json::json!({ "statements": statements }), |_| {
            statements.iter().map(|s| format!("{s};\n")).collect()
        })?;
    } else {
        let left = engine_detach(&plan, db.as_ref()).await?;
        output::answer(args.format, &left, |left| {
            let mut out = "detached: triggers, candidates and ledger are gone\n".to_owned();
            for (name, n) in left.in_trash.iter().filter(|(_, n)| **n > 0) {
                out.push_str(&format!("storage {name}: {n} file(s) stay in its trash (.rowbound/trash)\n"));
            }
            out
        })?;
    }
    db.close().await;
    Ok(exit::DONE)
}
