//! `rowbound promote`.

use rowbound::{
    Result,
    attach::{Promoted, Promotion, promote as engine_promote},
    binding::Column,
};

use crate::{
    args::{Args, PromoteArgs},
    exit, output,
};

pub async fn promote(args: &Args, a: &PromoteArgs) -> Result<u8> {
    let column = a.column.as_deref().map(Column::parse).transpose()?;
    let (plan, db) = super::open(args).await?;
    let done = engine_promote(&plan, db.as_ref(), column.as_ref()).await?;
    output::answer(args.format, &done, |done| text(done))?;
    db.close().await;
    Ok(if done.iter().any(|p| p.now == Promotion::Planned) { exit::LEFT } else { exit::DONE })
}

fn text(done: &[Promoted]) -> String {
    let mut out = String::new();
    let mut left = false;
    for p in done {
        let column = output::safe(&p.column);
        out.push_str(&match p.now {
            Promotion::Live => format!("live      {column} -> {}\n", p.storage),
            Promotion::WasLive => format!("live      {column} -> {} (was live already)\n", p.storage),
            Promotion::Planned => {
                format!("shadow    {column} -> {}: rowbound.toml says mode = \"shadow\"; take that line out\n", p.storage)
            }
        });
        if p.now == Promotion::Live && p.would_have.files > 0 {
            left = true;
            let (files, bytes) = (p.would_have.files, output::bytes(p.would_have.bytes));
            out.push_str(&format!("          in shadow mode {} ({bytes}) would have gone; they stay\n", output::files(files)));
        }
    }
    if left {
        out.push_str("next: rowbound sweep finds what stayed\n");
    }
    out
}
