//! The model and the engine have one list of steps: a step that one of them lacks is a hole in the proof.

use rowbound::crash::{ERASURE_POINTS, POINTS, RECHECK_POINTS};

#[test]
fn the_models_steps_are_the_engines_crash_points() {
    // A worker that stops in good order is no step of the protocol: its batch waits in the queue as it waited in memory.
    let batch = POINTS.into_iter().filter(|point| *point != "moved-batch-stopped");
    let engine: Vec<&str> = batch.chain(RECHECK_POINTS).chain(ERASURE_POINTS).collect();
    assert_eq!(engine, rowbound_model::STEPS);
}
