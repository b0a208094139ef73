//! The example of docs/storage-guide.md with one promise broken at a time: the conformance suite must notice each. A line of the example that
//! ends with `// a lie` is not in the guide. And that the guide is complete.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

use super::*;

const GUIDE: &str = include_str!("../../../../docs/storage-guide.md");

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lie {
    KeepsTheVersion,
    AnswersInAnyOrder,
    ErasesNothing,
    LosesTheThousandth,
    RestoresOver,
    CreatesOver,
}

/// Each lie, as the guide says it, and a promise of which the suite finds that it is broken.
const LIES: [(Lie, &str, &str); 6] = [
    (Lie::KeepsTheVersion, "a file that was replaced keeps its version", "leaves a file that was replaced"),
    (Lie::AnswersInAnyOrder, "a batch is answered in another order than it was asked", "looks in order"),
    (Lie::ErasesNothing, "`remove` says `Erased` of a file that is still there", "removes exactly what was asked for"),
    (Lie::LosesTheThousandth, "a listing loses the last name of its first page", "lists everything in order, from anywhere"),
    (Lie::RestoresOver, "`restore` replaces a newer file", "never restores over another file"),
    (Lie::CreatesOver, "`publish` with `PutMode::Create` replaces a file", "places no file over another, unless asked to"),
];

pub(super) fn in_any_order(lie: Option<Lie>, names: &[FileName]) -> Vec<FileName> {
    let mut names = names.to_vec();
    if lie == Some(Lie::AnswersInAnyOrder) {
        names.reverse();
    }
    names
}

pub(super) fn without_the_thousandth(lie: Option<Lie>, mut names: Vec<FileName>) -> Vec<FileName> {
    if lie == Some(Lie::LosesTheThousandth) && names.len() >= 1000 {
        names.remove(999);
    }
    names
}

/// The promises that the suite finds broken.
async fn broken(lie: Option<Lie>) -> Vec<&'static str> {
    let mut broken = Vec::new();
    for check in storage_suite::CHECKS {
        let place = MapBackend::default();
        place.lock().lie = lie;
        if AssertUnwindSafe((check.prove)(&place)).catch_unwind().await.is_err() {
            broken.push(check.promise);
        }
    }
    broken
}

#[test]
fn the_example_passes_the_suite() {
    main();
}

#[tokio::test]
async fn the_suite_notices_each_broken_promise() {
    assert!(broken(None).await.is_empty());
    for (lie, what, promise) in LIES {
        let broken = broken(Some(lie)).await;
        eprintln!("{lie:?}: {broken:?}");
        assert!(broken.contains(&promise), "{lie:?}: the suite finds only this: {broken:?}");
        assert!(GUIDE.contains(&format!("\n| {what} | {promise} |\n")), "docs/storage-guide.md does not say of {lie:?}: {what}, {promise}");
    }
}

#[test]
fn the_example_is_documented() {
    let example: String =
        include_str!("../guide.rs").lines().filter(|line| !line.ends_with("// a lie")).map(|line| format!("{line}\n")).collect();
    let (before, rest) = GUIDE.split_once("```rust\n").expect("the guide has an example");
    let (shown, after) = rest.split_once("```").expect("the example ends");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/storage-guide.md");
        std::fs::write(path, format!("{before}```rust\n{example}```{after}")).expect("cannot write the guide");
        return;
    }
    assert!(shown == example, "the example in docs/storage-guide.md is not tests/guide.rs: run this test with UPDATE_DOCS=1");
}

#[test]
fn the_guide_explains_each_method() {
    let source = include_str!("../../../rowbound/src/storage/backend.rs");
    let (_, contract) = source.split_once("pub trait Backend").expect("the contract");
    let (contract, _) = contract.split_once("\n}\n").expect("the contract ends");
    let named = |l: &str| {
        let item = ["fn ", "async fn ", "type ", "const "].iter().find_map(|word| l.strip_prefix("    ")?.strip_prefix(word))?;
        Some(item.split(|c: char| !c.is_alphanumeric() && c != '_').next()?.to_owned())
    };
    let items: Vec<String> = contract.lines().filter_map(named).collect();
    for item in &items {
        assert!(GUIDE.contains(&format!("\n| `{item}` | ")), "docs/storage-guide.md does not explain `{item}`");
    }
    let methods = items.iter().filter(|item| item.starts_with(|c: char| c.is_lowercase())).count();
    for said in [format!("{methods} methods"), format!("{methods} answers"), format!("{} checks", storage_suite::CHECKS.len())] {
        assert!(GUIDE.contains(&said), "docs/storage-guide.md does not say: {said}");
    }
}
