//! `rowbound-model report` prints what the model says; `rowbound-model check FILE..` replays traces of real runs;
//! `rowbound-model example` prints a trace that it allows.

use std::process::ExitCode;

use rowbound_model::{
    mode::{Storage, Visibility},
    modes::{self, Depth},
    mutants::{KNOWN, MUTANTS},
    replay,
    search::{Fault, Model},
};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.split_first() {
        Some((&"report", rest)) => report(!rest.contains(&"--short"), rest.contains(&"--traces")),
        Some((&"check", files)) if !files.is_empty() => check(files),
        Some((&"example", [])) => {
            print!("{}", replay::to_lines(&replay::generate(1, 3, false)));
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!(
                "usage: rowbound-model report [--short] [--traces]\n       rowbound-model check FILE..\n       rowbound-model example"
            );
            ExitCode::from(2)
        }
    }
}

/// Replays traces. Status 1 names the first line of each file that the model does not allow.
fn check(files: &[&str]) -> ExitCode {
    let mut status = ExitCode::SUCCESS;
    for file in files {
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(e) => {
                eprintln!("{file}: {e}");
                return ExitCode::from(2);
            }
        };
        match replay::parse(&text).and_then(|trace| replay::check(&trace).map(|()| trace.len())) {
            Ok(lines) => println!("{file}: {lines} lines, all of which the model allows"),
            Err(refusal) => {
                println!("{file}: {refusal}");
                if let Some(line) = text.lines().filter(|l| !l.trim().is_empty()).nth(refusal.line - 1) {
                    println!("    {line}");
                }
                status = ExitCode::FAILURE;
            }
        }
    }
    status
}

/// Prints modes, assumptions, the protocol as it was, and mutants.
fn report(full: bool, traces: bool) -> ExitCode {
    let depth = if full { Depth::Full } else { Depth::Test };
    let mut status = ExitCode::SUCCESS;
    println!("Modes: every interleaving of the workloads, with every fault\n");
    println!("{:<24} {:<18} {:>9} {:>11} {:>8}  verdict", "visibility", "storage", "scenarios", "states", "seconds");
    for visibility in Visibility::ALL {
        for storage in Storage::ALL {
            let outcome = modes::run(visibility, storage, depth);
            let verdict = outcome.fault.as_ref().map_or("all hold", |(_, f)| f.verdict.name());
            let seconds = outcome.took.as_secs_f64();
            let (v, s) = (visibility.name(), storage.name());
            println!("{v:<24} {s:<18} {:>9} {:>11} {seconds:>8.1}  {verdict}", outcome.scenarios, outcome.states);
            if let Some((scenario, fault)) = outcome.fault {
                println!("{}\n{fault}", scenario.title());
                status = ExitCode::FAILURE;
            }
        }
    }

    println!("\nWithout an assumption, and a plain bucket's window\n");
    for w in modes::without_assumptions() {
        let found = Model::new(w.scenario).search(usize::MAX);
        let verdict = found.fault.as_ref().map(|f| f.verdict);
        println!("{:<7} without: {}", verdict.map_or("holds", |v| v.name()), w.assumption);
        if verdict != w.verdict {
            status = ExitCode::FAILURE;
        }
    }

    println!("\nThe protocol as it was\n");
    for known in KNOWN {
        let found = Model::new(known.scenario()).search(usize::MAX);
        let mode = format!("{}, {}", known.visibility.name(), known.storage.name());
        match found.fault {
            Some(fault) if fault.verdict == known.verdict => {
                println!("{:<7} {mode}: {} ({} steps)", fault.verdict.name(), known.why, fault.trace.len());
                print_trace(&fault, traces);
            }
            other => {
                println!("{mode}: {} was not found, but {other:?}", known.verdict.name());
                status = ExitCode::FAILURE;
            }
        }
    }

    println!("\nMutants: the design without one rule\n");
    for m in MUTANTS {
        let found = m.search(true);
        let verdict = found.fault.as_ref().map(|f| f.verdict);
        println!("{:<7} without `{}`: {}", verdict.map_or("-", |v| v.name()), m.rule, m.says());
        let beside = if m.beside.is_empty() { String::new() } else { format!("; beside it without {}", m.beside.join(", ")) };
        println!("        {}; {} states{beside}\n        {}", m.scenario(true).title(), found.states, m.why);
        if let Some(fault) = &found.fault {
            print_short(fault);
            print_trace(fault, traces);
        }
        if verdict != m.verdict {
            println!("        expected {:?}", m.verdict);
            status = ExitCode::FAILURE;
        }
    }
    status
}

fn print_trace(fault: &Fault, wanted: bool) {
    if wanted {
        println!("{fault}");
    }
}

/// The steps' names on a few lines.
fn print_short(fault: &Fault) {
    let mut line = String::from("       ");
    for n in &fault.trace {
        let step = format!(" {} {};", n.action.who.short(), n.action.step);
        if line.len() + step.len() > 120 {
            println!("{line}");
            line = String::from("       ");
        }
        line += &step;
    }
    println!("{}", line.trim_end_matches(';'));
}
