//! `rowbound attach`.

use rowbound::{
    Result,
    attach::{Attached, Consent, attach as engine_attach, preview},
    capture::Inspection,
    storage::TrashKind,
};

use crate::{
    args::{Args, AttachArgs},
    exit, output,
};

pub async fn attach(args: &Args, a: &AttachArgs) -> Result<u8> {
    let (plan, db) = super::open(args).await?;
    for name in &a.adopt_storage {
        super::storage(&plan, Some(name))?;
    }
    let consent = Consent {
        adopt: a.adopt,
        keep_deliveries: a.keep_deliveries,
        adopt_storages: a.adopt_storage.clone(),
        adopt_columns: a.adopt_columns,
        shared: a.shared,
        shadow: a.shadow,
        forget_installations: a.forget_installation.clone(),
        drop: a.drop.clone(),
    };
    if a.print_sql {
        let (inspection, statements) = preview(&plan, db.as_ref(), &consent).await?;
        let value = serde_json::json!({ "statements": statements, "inspection": inspection });
        output::verbatim(args.format, &value, |_| statements.iter().map(|s| format!("{s};\n")).collect())?;
        if args.format == crate::args::Format::Text {
            eprint!("{}", notes(&inspection));
        }
        db.close().await;
        return Ok(exit::DONE);
    }
    let done = engine_attach(&plan, db.as_ref(), &consent).await?;
    output::answer(args.format, &done, text)?;
    db.close().await;
    Ok(exit::DONE)
}

fn text(done: &Attached) -> String {
    let mut out = String::new();
    if !done.changed {
        let count = done.installation.active.len();
        let bindings = if count == 1 { "1 binding is attached".to_owned() } else { format!("{count} bindings are attached") };
        out.push_str(&format!("nothing changed: {bindings} as before, and capture is complete\n"));
    }
    for (key, id) in &done.installation.bindings {
        let in_shadow = done.installation.shadow.contains_key(id);
        if (done.changed || in_shadow) && done.installation.active.contains(id) {
            let shadow = if in_shadow { " (shadow mode: nothing is deleted)" } else { "" };
            out.push_str(&format!("attached  {key}{shadow}\n"));
        }
    }
    for key in &done.removed {
        out.push_str(&format!("removed   {key}: its references no longer count\n"));
    }
    for (name, proved) in &done.proved {
        out.push_str(&format!("storage   {name}: {proved}\n"));
        if proved.access == Some(false) {
            out.push_str(
                "  access lists (ACLs) cannot be kept here: a file that comes back from the trash has the bucket's default, and is not public\n",
            );
        }
        if proved.trash == TrashKind::No {
            out.push_str(
                "  a file is erased at most a second after its last check: a row that references it and commits in between loses it.\n  \
                 Two ways out: turn on the bucket's versions, or set trash = \"1d\", which keeps copies (docs/storages.md)\n",
            );
        }
    }
    out.push_str(&notes(&done.inspection));
    out.push_str("next: keep `rowbound run` going\n");
    if !done.installation.shadow.is_empty() {
        out.push_str("then: `rowbound status` counts what would have been deleted; `rowbound promote` goes live\n");
    }
    out
}

/// Warnings, and what no trigger sees. What is true of several columns or tables stands once, with all of them.
fn notes(seen: &Inspection) -> String {
    let mut out = String::new();
    let warnings = seen.warnings.iter().map(|w| about(w).map_or((w.as_str(), ""), |(subject, text)| (text, subject)));
    for (text, subjects) in output::grouped(warnings) {
        out.push_str(&match subjects.as_slice() {
            [] | [""] => format!("warning   {text}\n"),
            [one] => format!("warning   {one}: {text}\n"),
            several if several[0].is_empty() => format!("warning   {text}\n"),
            several => format!("warning   {text} ({} columns: {})\n", several.len(), output::listed(several)),
        });
    }
    if !seen.blind.is_empty() {
        out.push_str("no trigger sees (files that go this way are left over; docs/events.md):\n");
        let blind = seen.blind.iter().map(|b| ((b.event.as_str(), b.advice.as_str()), b.table.as_str()));
        for ((event, advice), tables) in output::grouped(blind) {
            out.push_str(&match tables.as_slice() {
                [one] => format!("  {one}: {event}\n"),
                several => format!("  {event} ({} tables: {})\n", several.len(), output::listed(several)),
            });
            out.push_str(&format!("    {advice}\n"));
        }
    }
    out
}

/// What a warning is about, if it begins with that: `table.column: ..`.
fn about(warning: &str) -> Option<(&str, &str)> {
    warning.split_once(": ").filter(|(subject, _)| !subject.contains(' '))
}
