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

/// What is true of several tables or columns stands once, with all of them.
fn text(findings: &[Finding]) -> String {
    let mut out = String::new();
    let said = findings.iter().map(|f| {
        let about = f.about.as_deref().unwrap_or("");
        let rest = f.finding.strip_prefix(about).and_then(|rest| rest.strip_prefix(": ")).filter(|_| !about.is_empty());
        ((f.name, f.state, rest.unwrap_or(&f.finding), f.hint.as_deref()), if rest.is_some() { about } else { "" })
    });
    let groups = output::grouped(said);
    for ((name, state, finding, hint), about) in &groups {
        // What has to be read stands out without colours too.
        let word = if *state == State::Danger { "DANGER" } else { state.word() };
        let finding = output::safe(&match about.as_slice() {
            [] | [""] => (*finding).to_owned(),
            [one] => format!("{one}: {finding}"),
            several if several[0].is_empty() => format!("{finding} ({} times)", several.len()),
            several => format!("{finding} ({} in all: {})", several.len(), output::listed(several)),
        });
        out.push_str(&format!("{word:<8}{name:<11} {finding}\n"));
        if let Some(hint) = hint.filter(|_| *state != State::Ok) {
            out.push_str(&format!("{:20}{}\n", "", output::safe(hint)));
        }
    }
    let count = |wanted| groups.iter().filter(|((_, state, ..), _)| *state == wanted).count();
    out.push_str(&format!("{} danger(s), {} warning(s), {} note(s)\n", count(State::Danger), count(State::Warning), count(State::Note)));
    out
}
