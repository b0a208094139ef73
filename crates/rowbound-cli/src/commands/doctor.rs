//! `rowbound doctor`.

use rowbound::{
    Result,
    doctor::{Finding, State, examine},
};

use crate::{args::Args, exit, output};

pub async fn doctor(args: &Args) -> Result<u8> {
    let (plan, db) = super::open(args).await?;
    let findings = examine(&plan, db.as_ref()).await?;
    output::answer(args.format, &findings, |all| text(all))?;
    db.close().await;
    Ok(match findings.iter().map(|f| f.state).max() {
        Some(State::Danger) => exit::STOPPED,
        Some(State::Warning) => exit::LEFT,
        _ => exit::DONE,
    })
}

fn text(findings: &[Finding]) -> String {
    let mut out = String::new();
    for f in findings {
        // What has to be read stands out without colours too.
        let state = if f.state == State::Danger { "DANGER" } else { f.state.word() };
        out.push_str(&format!("{state:<8}{:<11} {}\n", f.name, output::safe(&f.finding)));
        if let Some(hint) = f.hint.as_deref().filter(|_| f.state != State::Ok) {
            out.push_str(&format!("{:20}{}\n", "", output::safe(hint)));
        }
    }
    let count = |state| findings.iter().filter(|f| f.state == state).count();
    out.push_str(&format!("{} danger(s), {} warning(s), {} note(s)\n", count(State::Danger), count(State::Warning), count(State::Note)));
    out
}
