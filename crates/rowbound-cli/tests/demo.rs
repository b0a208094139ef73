//! `rowbound demo` as a newcomer runs it.

use std::{
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant},
};

fn rowbound(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rowbound")).args(args).env_remove("DATABASE_URL").env_remove("ROWBOUND_CONFIG").output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The demo, again when the machine was too busy for its kill in the middle: that is what it says then.
fn demo(args: &[&str]) -> Output {
    let mut tries = 1;
    loop {
        let output = rowbound(&[&["demo"], args].concat());
        if tries == 3 || !text(&output.stderr).contains("run the demo again") {
            return output;
        }
        tries += 1;
    }
}

/// The command must have ended well.
fn good(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn the_demo_ends_well_and_says_how_to_bind_ones_own_database() {
    let began = Instant::now();
    let said = good(&demo(&[]));
    assert!(began.elapsed() < Duration::from_secs(120), "{:?}", began.elapsed());
    assert_eq!(said.matches("     as expected\n").count(), 20);
    assert!(said.contains("\n20 steps as expected in ") && said.contains(" files uploaded, none lost, none left over.\n"), "{said}");
    assert!(said.contains(" files had gone, "), "the collector was not killed in the middle: {said}");
    assert!(!said.contains('\x1b'), "colours without a terminal");
    let last: Vec<&str> = said.lines().rev().take(3).map(str::trim_start).collect();
    assert!(last[0].starts_with("rowbound status"), "{last:?}");
    assert!(last[1].starts_with("rowbound run"), "{last:?}");
    assert!(last[2].starts_with("rowbound attach"), "{last:?}");
}

#[test]
fn as_json_the_steps_are_one_array_and_each_found_what_it_expected() {
    let steps: Vec<serde_json::Value> = serde_json::from_str(&good(&demo(&["--format", "json"]))).unwrap();
    assert_eq!(steps.len(), 20);
    for (i, step) in steps.iter().enumerate() {
        assert_eq!(step["step"], i + 1);
        assert!(!step["done"].as_array().unwrap().is_empty());
        assert_eq!(step["expected"], step["found"], "{step}");
    }
}

#[test]
fn what_is_kept_can_be_looked_at_and_is_never_overwritten() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("kept");
    let kept = folder.to_str().unwrap();
    let said = good(&rowbound(&["demo", "--keep", kept]));
    let config = Path::new(kept).join("rowbound.toml");
    let config = config.to_str().unwrap();
    assert!(said.contains(&format!("    rowbound status -c {config}\n    rowbound history -c {config} --limit 20\n")), "{said}");

    let status = good(&rowbound(&["status", "-c", config]));
    assert!(status.contains("nothing waits"), "{status}");
    let history: Vec<serde_json::Value> =
        serde_json::from_str(&good(&rowbound(&["history", "-c", config, "--limit", "10000", "--format", "json"]))).unwrap();
    let rush = |outcome: &str| {
        let entries = history.iter().filter(|e| e["outcome"] == outcome && e["name"].as_str().unwrap().starts_with("2026/11/22/"));
        entries.map(|e| e["name"].as_str().unwrap()).collect::<std::collections::BTreeSet<_>>().len()
    };
    assert_eq!((rush("trashed"), rush("kept")), (598, 2), "each of the 600 files is in the ledger, in spite of the kill");

    let before = std::fs::metadata(config).unwrap().modified().unwrap();
    let again = rowbound(&["demo", "--keep", kept]);
    assert_eq!(again.status.code(), Some(2));
    assert!(text(&again.stderr).contains("the folder is not empty"), "{}", text(&again.stderr));
    assert_eq!(std::fs::metadata(config).unwrap().modified().unwrap(), before);
}
