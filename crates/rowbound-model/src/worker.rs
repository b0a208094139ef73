//! A collector's worker: one batch, from the claim to the settlement.

use crate::{
    app::visible,
    mode::Storage,
    search::{Action, Class, Model, Next, Who},
    state::{Candidate, D, GENS, O, State, Step, UNNOTED, WORKER_LOCK, Worker, bit, entry, newest, same_place},
};

/// Every step that worker `i` can take now.
pub(crate) fn steps(m: &Model, s: &State, i: usize, out: &mut Vec<Next>) {
    let mut t = Turn { m, s, i, w: s.workers[i], out };
    match t.w.step {
        Step::Idle => t.claim(),
        Step::Claimed => t.barrier(),
        Step::Looked => t.list(),
        Step::Listed => t.look_again(),
        Step::Relooked => t.check(),
        Step::Checked => t.confirm(),
        Step::Confirmed => t.remove(true),
        Step::RemoveOne => t.remove(false),
        Step::Removed => t.rest(),
        Step::Rested => t.check_again(),
        Step::CheckedAgain => t.give_back(true),
        Step::ReturnOne => t.give_back(false),
        Step::Returned => t.after_return(),
        Step::SettlingKept | Step::SettlingTrashed | Step::SettlingErased | Step::SettlingMissing => t.settle(),
    }
}

/// One worker's turn.
struct Turn<'a> {
    m: &'a Model,
    s: &'a State,
    i: usize,
    w: Worker,
    out: &'a mut Vec<Next>,
}

/// What came of an attempt to take a file away.
enum Taken {
    Moved(u8),
    Missing,
    Changed,
}

impl Turn<'_> {
    fn push(&mut self, step: &'static str, next: State) {
        let action = Action { who: Who::Worker(self.i as u8), step, class: Class::Rowbound };
        self.out.push(Next { action, state: next });
    }

    fn fault(&mut self, step: &'static str, mut next: State) {
        next.faults -= 1;
        let action = Action { who: Who::Worker(self.i as u8), step, class: Class::Fault };
        self.out.push(Next { action, state: next });
    }

    fn at(&self, step: Step) -> State {
        let mut n = *self.s;
        n.workers[self.i].step = step;
        n
    }

    fn sqlite(&self) -> bool {
        self.m.scenario.visibility.locks()
    }

    fn plain(&self) -> bool {
        self.m.scenario.storage == Storage::Plain || (self.m.scenario.storage == Storage::Off && !self.m.scenario.protocol.hold)
    }

    fn slots(&self) -> impl Iterator<Item = usize> + use<> {
        let mask = self.w.mask;
        (0..crate::state::SLOTS).filter(move |slot| mask & 1 << slot != 0)
    }

    fn holds(&self, slot: usize) -> bool {
        self.s.queue[slot].there && self.s.queue[slot].owner == self.i as u8 + 1
    }

    /// The batch ends without a settlement: what the worker still holds waits in the queue again.
    fn put_back(&self) -> State {
        let mut n = *self.s;
        release_worker(&mut n, self.i);
        n
    }

    fn claim(&mut self) {
        let rules = self.m.scenario.protocol;
        let mut n = self.at(Step::Claimed);
        let waits = if rules.first_barrier && rules.first_remembered { visible(self.m, self.s) } else { 0 };
        let mut w = Worker { step: Step::Claimed, ..Worker::default() };
        for (slot, c) in n.queue.iter_mut().enumerate() {
            let due = c.staged == 0 || !self.m.scenario.assume.stage_outlives_placing;
            if !c.there || c.owner != 0 || !due {
                continue;
            }
            c.owner = self.i as u8 + 1;
            if c.barrier == UNNOTED {
                c.barrier = waits;
            }
            w.waits |= c.barrier;
            w.since = w.since.max(c.since);
            w.mask |= 1 << slot;
        }
        if w.mask == 0 {
            return;
        }
        n.workers[self.i] = w;
        self.push("claimed", n);
    }

    fn barrier(&mut self) {
        let rules = self.m.scenario.protocol;
        let begun_anew = rules.first_barrier && !rules.first_remembered && visible(self.m, self.s) != 0;
        if self.w.waits != 0 || begun_anew {
            let n = self.put_back();
            return self.push("put back: waits for transactions", n);
        }
        let mut n = self.at(Step::Looked);
        let w = &mut n.workers[self.i];
        w.seen[O] = self.s.file[O];
        if w.seen[O] == 0 {
            w.found = newest(self.s.trash[O]);
            w.place = if w.found == 0 { 0 } else { self.s.place(w.found) };
        }
        w.unknown = [self.s.unknown(O), self.s.unknown(D)];
        w.early = self.s.referenced();
        self.push("barrier-passed, looked", n);
    }

    fn list(&mut self) {
        let mut n = self.at(Step::Listed);
        n.workers[self.i].seen[D] = self.s.file[D];
        self.push("listed", n);
    }

    /// A file that was put between the look and the listing must not lose its derivative: what is missing is looked at once more.
    fn look_again(&mut self) {
        let w = self.w;
        if w.seen[O] != 0 || w.seen[D] == 0 || !self.m.scenario.protocol.missing_looked_again {
            return self.check();
        }
        if self.s.file[O] != 0 {
            let n = self.put_back();
            return self.push("put back: the original is there now", n);
        }
        let n = self.at(Step::Relooked);
        self.push("looked: missing still", n);
    }

    fn check(&mut self) {
        let rules = self.m.scenario.protocol;
        if self.sqlite() && rules.under_lock && self.s.lock != 0 {
            return;
        }
        let held = rules.check && if rules.look_before_check { self.s.referenced() } else { self.w.early };
        let mut n = *self.s;
        if self.sqlite() && rules.under_lock {
            n.lock = WORKER_LOCK;
        }
        let w = &mut n.workers[self.i];
        let there = w.seen != [0; 2];
        if held {
            w.step = match (w.seen[O], w.found) {
                (0, 0) => Step::SettlingMissing,
                (0, _) => Step::CheckedAgain,
                _ => Step::SettlingKept,
            };
            w.moved[O] = w.found;
        } else if there {
            if self.young() {
                let n = self.put_back();
                return self.push("put back: young", n);
            }
            w.step = Step::Checked;
            w.moved[O] = w.found;
        } else if w.found != 0 {
            w.moved[O] = w.found;
            w.step = if rules.found_takes_the_way && !self.sqlite() { Step::Removed } else { Step::SettlingTrashed };
        } else {
            w.step = Step::SettlingMissing;
        }
        self.push(if held { "checked: held" } else { "checked: free" }, n);
    }

    /// A file newer than its release, whose upload may still commit a row.
    fn young(&self) -> bool {
        let seen = self.w.seen[O];
        self.m.scenario.assume.min_age_outlives_uploads && seen > self.w.since && self.s.known_by_pending(seen)
    }

    fn confirm(&mut self) {
        let rules = self.m.scenario.protocol;
        let chunk = |s: &State| self.plain() && rules.chunk_check && s.referenced();
        if rules.fence && !self.sqlite() && self.slots().any(|slot| !self.holds(slot)) {
            let n = self.put_back();
            return self.push("put back: the lease was lost", n);
        }
        if chunk(self.s) {
            let n = self.put_back();
            return self.push("put back: referenced meanwhile", n);
        }
        let mut n = self.at(Step::Confirmed);
        if self.plain() && rules.erasing_marked {
            for slot in self.slots().filter(|slot| self.holds(*slot)) {
                for name in [O, D] {
                    if self.w.seen[name] != 0 {
                        n.queue[slot].erasing[name] = self.w.seen[name];
                    }
                }
            }
        }
        self.push("confirmed", n);
    }

    /// Takes one of the two files away.
    fn remove(&mut self, first: bool) {
        let rules = self.m.scenario.protocol;
        let name = if first == rules.original_leaves_first { O } else { D };
        let step = if first { Step::RemoveOne } else { Step::Removed };
        if self.w.seen[name] == 0 {
            let n = self.at(step);
            return self.push("remove-one: nothing was seen", n);
        }
        if self.may_fail() {
            if rules.unit_fails_whole || !first {
                let n = self.put_back();
                self.fault("remove-one: the storage failed", n);
            } else {
                let n = self.at(step);
                self.fault("remove-one: the storage failed", n);
            }
        }
        let mut n = self.at(step);
        match self.take(&mut n, name) {
            Taken::Moved(generation) => {
                if !self.plain() {
                    let half = 0xf << (4 * name);
                    n.workers[self.i].place = self.w.place & !half | n.place(generation) & half;
                }
                n.workers[self.i].moved[name] = generation;
                if self.plain() {
                    n.erased[name] |= bit(generation);
                }
                self.push(if self.plain() { "remove-one: erased" } else { "remove-one: moved" }, n);
            }
            Taken::Missing if name == O => {
                if !rules.missing_goes_back {
                    n.workers[self.i].step = Step::SettlingMissing;
                    return self.push("remove-one: missing", n);
                }
                let n = self.put_back();
                self.push("remove-one: missing", n);
            }
            Taken::Changed if name == O => {
                let n = self.put_back();
                self.push("remove-one: changed", n);
            }
            Taken::Missing | Taken::Changed => self.push("remove-one: missing or changed", n),
        }
    }

    fn take(&self, n: &mut State, name: usize) -> Taken {
        let there = self.s.file[name];
        let bucket = matches!(self.m.scenario.storage, Storage::Versioned | Storage::Plain);
        let same = there == self.w.seen[name] || (bucket && self.m.scenario.same_bytes);
        if there == 0 {
            return Taken::Missing;
        }
        if !same && self.m.scenario.protocol.move_compares {
            return Taken::Changed;
        }
        n.file[name] = 0;
        if !self.plain() {
            n.trash[name] |= bit(there);
            n.enter(name, there, entry::NONE);
            n.phase[there as usize - 1] = 0;
            n.next_place(name, there);
        }
        Taken::Moved(there)
    }

    fn rest(&mut self) {
        let rules = self.m.scenario.protocol;
        if self.w.moved == [0; 2] {
            let n = self.put_back();
            return self.push("put back: nothing was taken", n);
        }
        if self.plain() {
            let n = self.at(Step::SettlingErased);
            return self.push("removed", n);
        }
        if self.sqlite() && rules.under_lock {
            let n = self.at(Step::SettlingTrashed);
            return self.push("removed", n);
        }
        let mut n = self.at(Step::Rested);
        n.workers[self.i].waits = if rules.second_barrier && rules.second_remembered { visible(self.m, self.s) } else { 0 };
        self.push("rested", n);
    }

    fn check_again(&mut self) {
        let rules = self.m.scenario.protocol;
        let begun_anew = rules.second_barrier && !rules.second_remembered && visible(self.m, self.s) != 0;
        let waits = self.w.waits != 0 || begun_anew;
        let held = rules.check_again && self.s.referenced();
        if held && (!waits || rules.interim_check) {
            let n = self.at(Step::CheckedAgain);
            self.push("checked-again: held", n);
        } else if !waits && !held {
            let n = self.at(Step::SettlingTrashed);
            self.push("second-barrier-passed, checked-again: free", n);
        }
    }

    /// Brings one of the two files back: the derivative first, so that an original is never there without it.
    fn give_back(&mut self, first: bool) {
        let rules = self.m.scenario.protocol;
        let name = if first == rules.derivative_returns_first { D } else { O };
        let step = if first { Step::ReturnOne } else { Step::Returned };
        let mut n = self.at(step);
        let generation = if !first {
            self.w.back
        } else if rules.return_newest {
            // A derivative that was moved after its original had come back comes back alone.
            let alone = if self.s.file[O] == self.w.moved[D] { self.w.moved[D] } else { 0 };
            newest(self.s.trash[O]).max(alone)
        } else {
            self.w.moved[O]
        };
        n.workers[self.i].back = generation;
        if self.s.trashed(name, generation) {
            let half = 0xf << (4 * name);
            n.workers[self.i].place = self.w.place & !half | self.s.place(generation) & half;
        }
        if generation != 0 && self.may_fail() {
            if rules.unit_fails_whole {
                let n = self.put_back();
                self.fault("returned: the storage failed", n);
            } else {
                self.fault("returned: the storage failed", n);
            }
        }
        if name == D && !rules.return_whole {
            return self.push("returned: the derivative stays", n);
        }
        let newer = rules.return_newest && newest(self.s.trash[O]) > generation;
        if !newer && bring_back(self.m, &mut n, name, generation) {
            n.workers[self.i].came |= 1 << name;
        }
        self.push(if step == Step::Returned { "returned" } else { "returned: one of two" }, n);
    }

    fn after_return(&mut self) {
        let rules = self.m.scenario.protocol;
        if rules.check_after_return && !self.s.referenced() {
            let mut n = self.put_back();
            if !self.slots().any(|slot| self.holds(slot)) {
                // Somebody else may have settled its candidates while the file was away.
                n.release_once();
            }
            return self.push("put back: released again", n);
        }
        let n = self.at(Step::SettlingKept);
        self.push("checked-again: held still", n);
    }

    fn settle(&mut self) {
        let rules = self.m.scenario.protocol;
        let mut n = *self.s;
        let any = self.slots().any(|slot| self.holds(slot));
        for slot in self.slots() {
            if self.holds(slot) || !rules.settle_what_is_held {
                n.queue[slot] = Candidate::default();
            }
        }
        if rules.settle_enters && (any || rules.facts_entered) {
            self.enter(&mut n);
        }
        release_worker(&mut n, self.i);
        let label = match self.w.step {
            Step::SettlingKept => "settled: kept",
            Step::SettlingTrashed => "settled: trashed",
            Step::SettlingErased => "settled: erased",
            _ => "settled: missing",
        };
        self.push(label, n);
        if self.s.faults > 0 && self.m.scenario.faults.commit {
            let n = self.put_back();
            self.fault("settling: the COMMIT failed", n);
        }
    }

    /// The ledger's entries of a settlement: what the worker itself knows.
    fn enter(&self, n: &mut State) {
        let rules = self.m.scenario.protocol;
        let marks = self.slots().filter(|slot| self.holds(*slot)).flat_map(|slot| {
            let erasing = self.s.queue[slot].erasing;
            [(O, erasing[O]), (D, erasing[D])]
        });
        for (name, generation) in marks {
            // What an earlier worker was about to erase, and what is not there any more, was erased.
            if generation != 0 && self.w.seen[name] == 0 {
                n.enter(name, generation, entry::PURGED);
            }
        }
        let w = &self.w;
        for name in [O, D] {
            for generation in (1..=GENS as u8).filter(|g| rules.unknown_entered && w.unknown[name] & bit(*g) != 0) {
                if n.trashed(name, generation) {
                    n.enter(name, generation, entry::TRASHED);
                }
            }
            let moved = w.moved[name];
            let about = if w.came & 1 << name != 0 { w.back } else { moved };
            // It was moved again since, to another place.
            let again = about != 0 && w.step != Step::SettlingErased && !same_place(name, n.place(about), w.place);
            match w.step {
                _ if again => {}
                Step::SettlingErased if moved != 0 => n.enter(name, moved, entry::PURGED),
                Step::SettlingTrashed if moved != 0 => {
                    if !rules.left_is_final {
                        n.enter(name, moved, entry::NONE);
                    }
                    n.enter(name, moved, entry::TRASHED);
                }
                Step::SettlingKept => {
                    // The entry `kept` says that the file is there: a process that brought it back may have died before it could enter that.
                    if w.seen[name] != 0 && n.file[name] == w.seen[name] && n.entry(name, w.seen[name]) == entry::TRASHED {
                        n.enter(name, w.seen[name], entry::RESTORED);
                    }
                    let came = w.came & 1 << name != 0;
                    if came {
                        n.enter(name, w.back, entry::RESTORED);
                    }
                    if moved != 0 && (!came || moved != w.back) && n.entry(name, moved) == entry::NONE && moved != w.found {
                        n.enter(name, moved, entry::TRASHED);
                    }
                }
                _ => {}
            }
        }
    }

    fn may_fail(&self) -> bool {
        self.s.faults > 0 && self.m.scenario.faults.storage
    }
}

/// Brings a file back from the trash, if its name is free and it is there. `true` if it came back.
pub(crate) fn bring_back(m: &Model, n: &mut State, name: usize, generation: u8) -> bool {
    if !n.trashed(name, generation) {
        return false;
    }
    let fits = name == O || n.file[O] == 0 || n.file[O] == generation;
    if !fits && m.scenario.protocol.derivative_fits {
        return false;
    }
    if n.file[name] != 0 {
        if m.scenario.protocol.return_creates_only {
            return false;
        }
        n.bad |= crate::verdict::Verdict::Over.bit();
    }
    n.trash[name] &= !bit(generation);
    n.file[name] = generation;
    true
}

/// A worker forgets its batch; what it still holds waits in the queue again.
pub(crate) fn release_worker(n: &mut State, i: usize) {
    for c in n.queue.iter_mut().filter(|c| c.there && c.owner == i as u8 + 1) {
        c.owner = 0;
    }
    n.workers[i] = Worker::default();
    if n.lock == WORKER_LOCK {
        n.lock = 0;
    }
}

/// Faults that befall worker `i`.
pub(crate) fn faults(m: &Model, s: &State, i: usize, out: &mut Vec<Next>) {
    let w = s.workers[i];
    if s.faults == 0 || w.step == Step::Idle {
        return;
    }
    let mut fault = |step, mut n: State| {
        n.faults -= 1;
        out.push(Next { action: Action { who: Who::Worker(i as u8), step, class: Class::Fault }, state: n });
    };
    if m.scenario.faults.kill {
        let mut n = *s;
        release_worker(&mut n, i);
        fault("killed", n);
    }
    let within = matches!(w.step, Step::Confirmed | Step::RemoveOne);
    let owns = s.queue.iter().any(|c| c.there && c.owner == i as u8 + 1);
    if m.scenario.faults.lapse && !m.scenario.visibility.locks() && owns && !(within && m.scenario.assume.chunk_within_lease) {
        let mut n = *s;
        for c in n.queue.iter_mut().filter(|c| c.there && c.owner == i as u8 + 1) {
            c.owner = 0;
        }
        fault("paused past its lease", n);
    }
}
