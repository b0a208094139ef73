//! The trace checker accepts what the model does, and refuses traces in which one step was left out, doubled or swapped.

use rowbound_model::replay::{blur, check, generate, mutate, parse, to_lines};

#[test]
fn what_the_model_does_is_accepted() {
    for seed in 0..60 {
        let trace = generate(seed, 10, seed % 3 == 0);
        if let Err(refusal) = check(&trace) {
            panic!("seed {seed}: {refusal}\n{}", to_lines(&trace[..refusal.line]));
        }
    }
}

#[test]
fn a_wrong_trace_is_refused() {
    for seed in 0..100 {
        let trace = generate(seed % 20, 10, seed % 3 == 0);
        let (wrong, mutation) = mutate(&trace, seed);
        assert!(check(&wrong).is_err(), "seed {seed}: {mutation:?}");
    }
}

#[test]
fn lines_are_read_back() {
    let trace = generate(1, 5, false);
    assert_eq!(parse(&to_lines(&trace)).unwrap(), trace);
    let refusal = parse("{\"t\":1,\"who\":\"a\",\"step\":\"start\"}\n\nnonsense").unwrap_err();
    assert_eq!(refusal.line, 3);
}

#[test]
fn a_long_trace_is_checked_in_seconds() {
    let trace = generate(7, 4_000, false);
    assert!(trace.len() > 100_000, "{}", trace.len());
    let text = to_lines(&trace);
    let began = std::time::Instant::now();
    check(&parse(&text).unwrap()).unwrap();
    println!("{} lines in {:?}", trace.len(), began.elapsed());
}

/// Intervals that overlap may stand in either order; one process is in order with itself.
#[test]
fn what_clocks_may_blur_is_accepted() {
    for seed in 0..60 {
        let trace = blur(&generate(seed, 10, seed % 3 == 0), seed);
        if let Err(refusal) = check(&trace) {
            panic!("seed {seed}: {refusal}\n{}", to_lines(&trace[..refusal.line]));
        }
        let (wrong, mutation) = mutate(&trace, seed);
        assert!(check(&wrong).is_err(), "seed {seed}: {mutation:?}");
    }
}
