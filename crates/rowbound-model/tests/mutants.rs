//! The protocol as it was fails with the traces that were seen; each rule that is taken out is caught.

use rowbound_model::{
    mutants::{KNOWN, MUTANTS},
    protocol::RULES,
    search::Model,
};

#[test]
fn the_protocol_as_it_was_fails() {
    for known in KNOWN {
        let found = Model::new(known.scenario()).search(usize::MAX);
        assert_eq!(found.fault.map(|f| f.verdict), Some(known.verdict), "{}", known.why);
    }
}

#[test]
fn each_mutant_is_caught() {
    for m in MUTANTS {
        let found = m.search(true);
        let verdict = found.fault.as_ref().map(|f| f.verdict);
        assert_eq!(verdict, m.verdict, "without `{}`: {}", m.rule, m.why);
    }
}

/// A mutant says something about its rule only if the protocol holds with it, beside the same other rules and under the same assumptions.
/// Where nothing else differs, that is what the modes show.
#[test]
fn beside_the_same_rules_the_protocol_holds() {
    for m in MUTANTS.iter().filter(|m| m.is_special()) {
        let found = m.search(false);
        assert!(found.fault.is_none(), "beside `{}`:\n{}", m.rule, found.fault.map(|f| f.to_string()).unwrap_or_default());
    }
}

#[test]
fn each_rule_has_its_mutant() {
    let rules: Vec<_> = RULES.iter().map(|r| r.name).collect();
    let mutants: Vec<_> = MUTANTS.iter().map(|m| m.rule).collect();
    assert_eq!(rules, mutants);
    // What no verdict can see is said to be redundant, and why.
    assert!(MUTANTS.iter().all(|m| !m.why.is_empty()));
    assert!(MUTANTS.iter().filter(|m| m.verdict.is_none()).count() <= 3);
}
