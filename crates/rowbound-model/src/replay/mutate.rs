//! Wrong traces out of good ones.

use super::{event::Event, random::Random};

/// What was done to a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// An event was left out.
    Dropped(usize),
    /// An event stands twice.
    Doubled(usize),
    /// Two events that follow each other in one process have changed places; times stay in order.
    Swapped(usize, usize),
}

/// A trace with one event left out, doubled, or swapped with its neighbour in the same process.
///
/// Not every event can be missed: the last one of a killed process may be missing in any good trace, and the order of two batches of one
/// worker means nothing. Such places are not chosen.
pub fn mutate(trace: &[Event], seed: u64) -> (Vec<Event>, Mutation) {
    let mut random = Random::new(seed);
    loop {
        let at = random.below(trace.len());
        let e = &trace[at];
        if matches!(
            e.step.as_str(),
            "start" | "end" | "killed" | "quiet" | "adopted" | "gone" | "reported" | "stopped" | "renewed" | "erasure-barrier"
        ) {
            continue;
        }
        let later = |from: usize| trace[from + 1..].iter().position(|o| o.who == e.who).map(|i| from + 1 + i);
        let next = later(at);
        let mut changed = trace.to_vec();
        match random.below(3) {
            0 => {
                // `open` only says what a barrier can see: without it a trace says less, but nothing wrong. The same goes for a look of a
                // transaction that opened and then gave up.
                let before = trace[..at].iter().rev().find(|o| o.who == e.who);
                let idle =
                    e.step == "look" && before.is_some_and(|o| o.step == "open") && next.is_some_and(|n| trace[n].step == "rollback");
                // A process that was killed may have settled and not said so. Nor is the last step of a batch missed that it did not come to the end of, whatever
                // it said of another one since, or of other names: a batch goes in pieces. That its lease was renewed tells nothing of it.
                let tells =
                    |o: &Event| o.step != "renewed" && (e.names.is_empty() || e.names.keys().any(|name| o.names.contains_key(name)));
                let goes_on = e.batch == 0 || trace[at + 1..].iter().any(|o| o.who == e.who && o.batch == e.batch && tells(o));
                let killed = trace[at..].iter().any(|o| o.who == e.who && o.step == "killed");
                let unsaid = killed && (e.step == "settled" || !goes_on);
                if e.step == "open" || idle || unsaid || next.is_none_or(|n| trace[n].step == "killed") {
                    continue;
                }
                changed.remove(at);
                return (changed, Mutation::Dropped(at));
            }
            1 => {
                changed.insert(at, e.clone());
                return (changed, Mutation::Doubled(at));
            }
            _ => {
                // Two statements of one transaction may stand in either order.
                let statement = |o: &Event| matches!(o.step.as_str(), "write" | "delete");
                // A re-check that found nothing may stand before or after the loop's other turns.
                if e.step == "recheck-checked" && e.names.values().all(|fact| fact == "free") {
                    continue;
                }
                let common = |n: &Event| e.names.keys().any(|name| n.names.contains_key(name));
                let fit = |n: &Event| {
                    let same = n.batch == e.batch && (e.batch == 0 || common(n));
                    same && !matches!(n.step.as_str(), "killed" | "stopped" | "erasure-barrier") && !(statement(e) && statement(n))
                };
                let neighbour = next.filter(|n| fit(&trace[*n]));
                let Some(n) = neighbour else { continue };
                let [a, b] = [(trace[at].t0, trace[at].t), (trace[n].t0, trace[n].t)];
                changed.swap(at, n);
                (changed[at].t0, changed[at].t) = a;
                (changed[n].t0, changed[n].t) = b;
                return (changed, Mutation::Swapped(at, n));
            }
        }
    }
}

/// The same trace as clocks and scheduling could have recorded it: each event took effect within an interval, and events of different
/// processes that overlap may stand in either order.
pub fn blur(trace: &[Event], seed: u64) -> Vec<Event> {
    let mut random = Random::new(seed);
    let mut last: std::collections::BTreeMap<&str, u64> = std::collections::BTreeMap::new();
    let mut blurred = trace.to_vec();
    for (at, e) in trace.iter().enumerate() {
        // One process is in order with itself: its intervals do not overlap.
        let next = trace[at + 1..].iter().find(|o| o.who == e.who).map_or(u64::MAX, Event::begin);
        let before = last.get(e.who.as_str()).copied().unwrap_or(0);
        let still = matches!(e.step.as_str(), "start" | "end" | "killed" | "quiet");
        let wide = |random: &mut Random| if still { 0 } else { random.below(200) as u64 };
        let t = (e.t + wide(&mut random)).min(next - 1).max(e.t);
        let t0 = (e.begin() - wide(&mut random)).max(before + 1).min(e.begin());
        (blurred[at].t0, blurred[at].t) = (t0, t);
        last.insert(&e.who, t);
    }
    blurred.sort_by_key(|e| e.t);
    // Nothing comes before the start or after the end.
    let quiet = blurred.iter().map(|e| e.t).max().unwrap_or(0);
    for e in blurred.iter_mut().filter(|e| e.step == "quiet") {
        (e.t0, e.t) = (0, quiet);
    }
    blurred.sort_by_key(|e| (e.t, e.step == "quiet"));
    blurred
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_step_of_a_killed_batch_is_not_missed() {
        let step = |t: u64, step: &str, batch: u64| Event { t, who: "w".into(), step: step.into(), batch, ..Event::default() };
        let trace = [step(1, "claimed", 3), step(2, "claimed", 4), step(3, "looked", 3), step(4, "checked", 3), step(5, "killed", 0)];
        assert_eq!(dropped(&trace), [0, 2]);
    }

    #[test]
    fn nor_is_one_after_which_its_lease_was_renewed_or_other_names_went_on() {
        let step = |t: u64, step: &str, name: &str| {
            let names = [name].into_iter().filter(|name| !name.is_empty()).map(|name| (name.to_owned(), "free".into())).collect();
            Event { t, who: "w".into(), step: step.into(), batch: 3, names, ..Event::default() }
        };
        let killed = Event { t: 9, who: "w".into(), step: "killed".into(), ..Event::default() };
        let trace = [step(1, "looked", "a"), step(2, "checked", "a"), step(3, "renewed", ""), step(4, "looked", "b"), killed];
        assert_eq!(dropped(&trace), [0]);
    }

    fn dropped(trace: &[Event]) -> Vec<usize> {
        let one = |seed| match mutate(trace, seed).1 {
            Mutation::Dropped(at) => Some(at),
            _ => None,
        };
        (0..200).filter_map(one).collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    }
}
