//! Every interleaving of every mode, at the depth that fits into a test.

use rowbound_model::{
    mode::{Faults, Kind, Scenario, Storage, Visibility},
    modes::{self, Depth},
    search::{Class, Model},
};

fn all_hold(visibility: Visibility) {
    for storage in Storage::ALL {
        let outcome = modes::run(visibility, storage, Depth::Test);
        println!("{}, {}: {} states, {:?}", visibility.name(), storage.name(), outcome.states, outcome.took);
        if let Some((scenario, fault)) = outcome.fault {
            panic!("{}\n{fault}", scenario.title());
        }
    }
}

#[test]
fn sqlite_holds() {
    all_hold(Visibility::Deferred);
}

#[test]
fn innodb_holds() {
    all_hold(Visibility::FirstAccess);
}

#[test]
fn a_drivers_begin_holds() {
    all_hold(Visibility::DriverBegin);
}

#[test]
fn autocommit_holds() {
    all_hold(Visibility::Autocommit);
}

/// Each assumption is needed, and a plain bucket's window is where the docs say.
#[test]
fn without_an_assumption() {
    for w in modes::without_assumptions() {
        let found = Model::new(w.scenario).search(usize::MAX);
        assert_eq!(found.fault.as_ref().map(|f| f.verdict), w.verdict, "without: {}", w.assumption);
    }
}

/// The model's steps and the list that the engine's crash points are compared with are the same: no step lacks a name, no name a step.
#[test]
fn steps_have_the_names_of_the_list() {
    // What Rowbound does besides: it gives up, or repairs what a dead process has left.
    let others = ["put back", "adopted", "erasure begun", "recovered a note", "entered as gone", "reported", "stops"];
    let mut seen = std::collections::BTreeSet::new();
    let mut steps = Vec::new();
    for visibility in [Visibility::Deferred, Visibility::DriverBegin] {
        let workload = [Kind::Delete, Kind::Replace];
        let model = Model::new(Scenario::new(visibility, Storage::Folder, &workload, Faults::any(1)));
        model.each_state(20_000, |state| {
            model.steps(state, &mut steps);
            for n in steps.iter().filter(|n| n.action.class == Class::Rowbound || n.action.step.contains(':')) {
                for part in n.action.step.split(", ") {
                    seen.insert(part.split(':').next().unwrap_or(part));
                }
            }
        });
    }
    let names: Vec<_> = seen.iter().filter(|s| !others.contains(s)).copied().collect();
    let mut list = rowbound_model::STEPS.to_vec();
    list.sort();
    assert_eq!(names, list);
}
