//! What happens after a move: re-checks, returns, erasures; and time, which passes in between.

use crate::{
    app::visible,
    mode::Storage,
    search::{Action, Class, Model, Next, Who},
    state::{D, GENS, KEEPER_OWNER, Keep, Keeper, O, Pending, State, Step, bit, entry, newest, phase, same_place},
    verdict::Verdict,
    worker::bring_back,
};

/// Every step that keeper `i` can take now.
pub(crate) fn steps(m: &Model, s: &State, i: usize, out: &mut Vec<Next>) {
    let mut t = Turn { m, s, i, k: s.keepers[i], out };
    match t.k.step {
        Keep::Idle => t.begin(),
        Keep::Checked => t.give_back(true),
        Keep::ReturnOne => t.give_back(false),
        Keep::Returned => t.enter_return(),
        Keep::EraseChecked => t.note(),
        Keep::Noted => t.purge(true),
        Keep::PurgeOne => t.purge(false),
        Keep::Purging => t.enter_purge(),
    }
}

/// What a re-check has to bring back now, or 0: the newest generation of an original that is missing under its name, or a derivative
/// whose original is there, unchanged since.
pub(crate) fn due_back(s: &State) -> u8 {
    let moved = |name: usize, generation: u8| {
        let in_trash = generation != 0 && s.trashed(name, generation) && s.entry(name, generation) == entry::TRASHED;
        in_trash && s.phase(generation) & phase::CLOSED == 0
    };
    if !s.referenced() {
        return 0;
    }
    match s.file[O] {
        0 if moved(O, newest(s.trash[O])) => newest(s.trash[O]),
        there if there != 0 && s.file[D] == 0 && moved(D, there) => there,
        _ => 0,
    }
}

/// Generations whose erasure is due, whatever a check says.
fn expired(m: &Model, s: &State, generation: u8) -> bool {
    let there = |name| {
        let settled = s.entry(name, generation) == entry::TRASHED || !m.scenario.protocol.erase_settled_only;
        s.trashed(name, generation) && settled
    };
    (there(O) || there(D)) && s.phase(generation) & phase::EXPIRED != 0
}

/// One keeper's turn.
struct Turn<'a> {
    m: &'a Model,
    s: &'a State,
    i: usize,
    k: Keeper,
    out: &'a mut Vec<Next>,
}

impl Turn<'_> {
    fn push(&mut self, step: &'static str, next: State) {
        let action = Action { who: Who::Keeper(self.i as u8), step, class: Class::Rowbound };
        self.out.push(Next { action, state: next });
    }

    fn fault(&mut self, step: &'static str, mut next: State) {
        next.faults -= 1;
        let action = Action { who: Who::Keeper(self.i as u8), step, class: Class::Fault };
        self.out.push(Next { action, state: next });
    }

    fn leased(&self) -> bool {
        self.s.lease == self.i as u8 + 1
    }

    /// On SQLite a statement that writes waits for the write lock.
    fn may_write(&self) -> bool {
        !self.m.scenario.visibility.locks() || self.s.lock == 0
    }

    fn at(&self, step: Keep) -> State {
        let mut n = *self.s;
        n.keepers[self.i].step = step;
        n
    }

    fn idle(&self) -> State {
        let mut n = *self.s;
        release_keeper(&mut n, self.i);
        n
    }

    fn begin(&mut self) {
        let rules = self.m.scenario.protocol;
        let unknown = self.s.unknown(O) | self.s.unknown(D) != 0;
        if rules.adopt && unknown && self.may_write() && !self.s.queued() {
            let mut n = *self.s;
            n.release_once();
            self.push("adopted: an unknown place becomes a candidate", n);
        }
        if self.s.lease != 0 || !self.may_write() {
            return;
        }
        if self.recover() {
            // First things first: what a dead process has noted.
            return;
        }
        let aside = rules.erasure_waits_aside || self.s.pending.generation == 0;
        if rules.recheck && aside {
            let generation = if rules.derivative_comes_alone || self.s.file[O] == 0 { due_back(self.s) } else { 0 };
            let free = !rules.recheck_claims || !self.s.leased();
            if generation != 0 && free {
                let mut n = *self.s;
                n.lease = self.i as u8 + 1;
                if rules.recheck_claims {
                    n.take_lease(KEEPER_OWNER + self.i as u8);
                }
                let place = self.s.place(generation);
                n.keepers[self.i] = Keeper { step: Keep::Checked, generation, place, ..Keeper::default() };
                self.push("recheck-checked", n);
            }
        }
        if rules.gone_entered && !self.s.leased() {
            self.enter_gone();
        }
        for generation in 1..=GENS as u8 {
            if !expired(self.m, self.s, generation) || self.s.note[generation as usize - 1] != 0 {
                continue;
            }
            if rules.erasure_check && self.s.referenced() {
                // Only an erasure waits for transactions; a report must not wait for a dump.
                if rules.report_at_once && self.reports(generation) {
                    let mut n = *self.s;
                    n.reported |= bit(generation);
                    self.push("reported: referenced after its window", n);
                }
                if rules.report_at_once || !self.reports(generation) {
                    continue;
                }
            }
            if self.s.pending.generation != 0 || (rules.erasure_skips_queued && self.s.queued()) {
                continue;
            }
            let mut n = *self.s;
            let waits = if rules.erasure_barrier && rules.erasure_remembered { visible(self.m, self.s) } else { 0 };
            n.pending = Pending { generation, place: self.s.place(generation), waits };
            self.push("erasure begun", n);
        }
        if self.s.pending.generation != 0 {
            self.check();
        }
    }

    /// What the ledger says is in the trash, but is not, and nobody noted an erasure: it left the trash in some other way.
    fn enter_gone(&mut self) {
        let mut n = *self.s;
        for generation in 1..=GENS as u8 {
            let late = self.s.phase(generation) & phase::EXPIRED != 0 && self.s.note[generation as usize - 1] == 0;
            for name in [O, D] {
                if late && !self.s.trashed(name, generation) && self.s.entry(name, generation) == entry::TRASHED {
                    n.enter(name, generation, entry::RESTORED);
                }
            }
        }
        if n != *self.s {
            // It may lie under its name, brought back by a process that died: a candidate costs one check.
            n.release_once();
            self.push("entered as gone", n);
        }
    }

    /// Whether a referenced generation is to be reported: once, after its window.
    fn reports(&self, generation: u8) -> bool {
        let rules = self.m.scenario.protocol;
        let late = self.s.phase(generation) & phase::CLOSED != 0;
        let half = self.s.file[O] == generation && self.s.file[D] == 0 && self.s.trashed(D, generation);
        rules.report && late && (self.s.file[O] == 0 || half) && self.s.reported & bit(generation) == 0
    }

    /// What a dead process has noted: what is gone from the trash is entered, what is still there stays noted or is forgotten.
    fn recover(&mut self) -> bool {
        let rules = self.m.scenario.protocol;
        let mut n = *self.s;
        for generation in 1..=GENS as u8 {
            let place = self.s.note[generation as usize - 1];
            // What somebody has in hand may just be on its way back.
            if place == 0 || (rules.recovery_waits && self.s.leased()) {
                continue;
            }
            let mut there = false;
            for name in [O, D] {
                // A file that was moved again since has another place.
                if !same_place(name, self.s.place(generation), place) {
                    continue;
                }
                there |= self.s.trashed(name, generation);
                if !self.s.trashed(name, generation) && self.s.entry(name, generation) == entry::TRASHED {
                    n.enter(name, generation, entry::PURGED);
                }
            }
            if !there || !rules.note_stays {
                n.note[generation as usize - 1] = 0;
            }
        }
        let found = n != *self.s;
        if found {
            self.push("recovered a note", n);
        }
        found
    }

    fn give_back(&mut self, first: bool) {
        let rules = self.m.scenario.protocol;
        let name = if first == rules.derivative_returns_first { D } else { O };
        let step = if first { Keep::ReturnOne } else { Keep::Returned };
        if self.s.faults > 0 && self.m.scenario.faults.storage {
            let n = if rules.unit_fails_whole { self.idle() } else { self.at(step) };
            self.fault("recheck-returned: the storage failed", n);
        }
        let mut n = self.at(step);
        let newer = newest(self.s.trash[O]) > self.k.generation && rules.return_newest;
        if (name == O || rules.return_whole) && !newer && bring_back(self.m, &mut n, name, self.k.generation) {
            n.keepers[self.i].did |= 1 << name;
        }
        self.push(if first { "recheck-returned: one of two" } else { "recheck-returned" }, n);
    }

    fn enter_return(&mut self) {
        if !self.may_write() {
            return;
        }
        let owner = KEEPER_OWNER + self.i as u8;
        let held = self.s.queue.iter().any(|c| c.there && c.owner == owner);
        let mut n = self.idle();
        for name in [O, D] {
            if self.k.did & 1 << name != 0 {
                n.enter_place(name, self.k.generation, self.k.place, entry::RESTORED);
            }
        }
        if !held && self.k.did != 0 && self.m.scenario.protocol.recheck_claims {
            n.release_once();
        }
        self.push("recheck-entered", n);
    }

    /// The erasure's barrier has passed: its check.
    fn check(&mut self) {
        let rules = self.m.scenario.protocol;
        let Pending { generation, place, waits } = self.s.pending;
        let begun_anew = rules.erasure_barrier && !rules.erasure_remembered && visible(self.m, self.s) != 0;
        if waits != 0 || begun_anew {
            return;
        }
        let mut n = *self.s;
        n.pending = Pending::default();
        if rules.erasure_skips_queued && self.s.queued() {
            return self.push("erasure-checked: in the queue", n);
        }
        if rules.erasure_check && self.s.referenced() {
            if !rules.report_at_once && self.reports(generation) {
                n.reported |= bit(generation);
            }
            return self.push("erasure-checked: referenced", n);
        }
        n.lease = self.i as u8 + 1;
        n.keepers[self.i] = Keeper { step: Keep::EraseChecked, generation, place, did: 0 };
        self.push("erasure-barrier-passed, erasure-checked", n);
    }

    fn note(&mut self) {
        if !self.m.scenario.protocol.erasure_noted {
            let n = self.at(Keep::Noted);
            return self.push("erasure-checked: nothing noted", n);
        }
        if !self.may_write() {
            return;
        }
        if !self.leased() {
            let n = self.idle();
            return self.push("stops: the lease was lost", n);
        }
        let mut n = self.at(Keep::Noted);
        n.note[self.k.generation as usize - 1] = self.k.place;
        self.push("erasure-noted", n);
    }

    /// Erases one of the two files.
    fn purge(&mut self, first: bool) {
        let rules = self.m.scenario.protocol;
        let name = if first == rules.original_leaves_first { O } else { D };
        let step = if first { Keep::PurgeOne } else { Keep::Purging };
        if self.s.faults > 0 && self.m.scenario.faults.storage {
            // What it did erase is entered all the same.
            let n = self.at(Keep::Purging);
            self.fault("purge-one: the storage failed", n);
        }
        let mut n = self.at(step);
        let generation = self.k.generation;
        let same = same_place(name, self.s.place(generation), self.k.place) || !rules.erasure_compares;
        let settled = self.s.entry(name, generation) == entry::TRASHED || !rules.erase_settled_only;
        if self.s.trashed(name, generation) && same && settled {
            n.trash[name] &= !bit(generation);
            n.erased[name] |= bit(generation);
            n.keepers[self.i].did |= 1 << name;
        }
        self.push(if first { "purge-one" } else { "purging" }, n);
    }

    fn enter_purge(&mut self) {
        if !self.may_write() {
            return;
        }
        let leased = self.leased();
        if !leased && !self.m.scenario.protocol.facts_entered {
            let n = self.idle();
            return self.push("stops: the lease was lost", n);
        }
        let mut n = self.idle();
        let generation = self.k.generation;
        for name in [O, D] {
            let gone = !self.s.trashed(name, generation);
            let did = self.k.did & 1 << name != 0;
            if gone && did && self.s.entry(name, generation) == entry::TRASHED {
                n.enter_place(name, generation, self.k.place, entry::PURGED);
            }
        }
        if leased {
            n.note[generation as usize - 1] = 0;
        }
        self.push("purged", n);
    }
}

/// A keeper forgets what it was about; its lease is free.
pub(crate) fn release_keeper(n: &mut State, i: usize) {
    n.keepers[i] = Keeper::default();
    n.give_up_leases(KEEPER_OWNER + i as u8);
    if n.lease == i as u8 + 1 {
        n.lease = 0;
    }
}

/// Faults that befall keeper `i`.
pub(crate) fn faults(m: &Model, s: &State, i: usize, out: &mut Vec<Next>) {
    if s.faults == 0 || s.keepers[i].step == Keep::Idle {
        return;
    }
    let mut fault = |step, mut n: State| {
        n.faults -= 1;
        out.push(Next { action: Action { who: Who::Keeper(i as u8), step, class: Class::Fault }, state: n });
    };
    if m.scenario.faults.kill {
        let mut n = *s;
        release_keeper(&mut n, i);
        fault("killed", n);
    }
    if m.scenario.faults.lapse && s.lease == i as u8 + 1 {
        let mut n = *s;
        n.lease = 0;
        n.give_up_leases(KEEPER_OWNER + i as u8);
        fault("paused past its lease", n);
    }
}

/// Time passes: a window closes, a retention ends. And somebody else empties the trash, which is a fault.
pub(crate) fn time(m: &Model, s: &State, out: &mut Vec<Next>) {
    let storage = m.scenario.storage;
    for generation in 1..=GENS as u8 {
        let moved = |name: usize| s.trashed(name, generation) || s.entry(name, generation) == entry::TRASHED;
        if !moved(O) && !moved(D) {
            continue;
        }
        let now = s.phase(generation);
        let busy =
            s.keepers.iter().any(|k| k.generation == generation && matches!(k.step, Keep::Checked | Keep::ReturnOne | Keep::Returned));
        let settled = [O, D].iter().any(|name| s.entry(*name, generation) == entry::TRASHED);
        let looker = s.known_by_pending(generation);
        let due = due_back(s) == generation;
        // A worker that still has it in hand checks it more often than the window is long.
        let in_hand = s.workers.iter().any(|w| {
            w.moved.contains(&generation) && !matches!(w.step, Step::Idle | Step::Claimed | Step::Looked | Step::Listed | Step::Relooked)
        });
        let awaited = looker && m.scenario.assume.window_outlives_lookers;
        let may_close = settled && !busy && !in_hand && !awaited;
        if now & phase::CLOSED == 0 && may_close && !(due && m.scenario.protocol.recheck) {
            let mut n = *s;
            n.phase[generation as usize - 1] |= phase::CLOSED;
            if due {
                // The row was committed, the next re-check has passed, and the file is still away.
                n.bad |= Verdict::Away.bit();
            }
            out.push(Next { action: Action { who: Who::Time, step: "the window of the re-checks is over", class: Class::Time }, state: n });
        }
        let after = storage == Storage::Off || now & phase::CLOSED != 0;
        if now & phase::EXPIRED == 0 && after && !(looker && m.scenario.assume.hold_outlives_lookers) {
            let mut n = *s;
            n.phase[generation as usize - 1] |= phase::EXPIRED;
            out.push(Next { action: Action { who: Who::Time, step: "the retention is over", class: Class::Time }, state: n });
        }
        if m.scenario.faults.purge && s.faults > 0 && !s.referenced() && !looker {
            let mut n = *s;
            n.faults -= 1;
            n.outside |= bit(generation);
            for name in [O, D] {
                n.trash[name] &= !bit(generation);
            }
            out.push(Next {
                action: Action { who: Who::Outside, step: "the trash is purged by somebody else", class: Class::Fault },
                state: n,
            });
        }
    }
}
