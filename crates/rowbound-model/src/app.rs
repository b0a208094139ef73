//! What applications do: their transactions, step by step.

use crate::{
    mode::Kind,
    search::{Action, Class, Model, Next, Who},
    state::{At, D, GENS, HAND_OWNER, O, State, Step, Txn, Worker, bit, entry, newest, phase},
    verdict::Verdict,
};

/// Every step that a transaction can take now.
pub(crate) fn steps(m: &Model, s: &State, out: &mut Vec<Next>) {
    let in_chunk = |w: &Worker| matches!(w.step, Step::Confirmed | Step::RemoveOne);
    if m.scenario.assume.chunk_undisturbed && s.workers.iter().any(in_chunk) {
        return;
    }
    for (i, kind) in m.scenario.workload.iter().enumerate() {
        let begun = s.txns[i].at != At::Idle;
        let class = match kind {
            Kind::Reader | Kind::Dump => Class::Endless,
            _ if begun => Class::Application,
            _ => Class::Begin,
        };
        let mut t = Turn { m, s, i, class, out };
        match kind {
            Kind::Delete | Kind::Touch => t.delete(*kind == Kind::Touch),
            Kind::Reference => t.reference(),
            Kind::Upload => t.upload(),
            Kind::Replace => t.replace(),
            Kind::Undo => t.undo(),
            Kind::Restore => t.restore(),
            Kind::Reader => t.reader(),
            Kind::Dump => t.dump(),
        }
    }
}

/// The transactions that a barrier sees now.
pub(crate) fn visible(m: &Model, s: &State) -> u8 {
    if m.scenario.visibility.locks() {
        return 0;
    }
    let seen = |t: &Txn| matches!(t.at, At::Open | At::OpenLooked | At::Written);
    s.txns.iter().enumerate().filter(|(_, t)| seen(t)).fold(0, |set, (i, _)| set | 1 << i)
}

/// One transaction's turn.
struct Turn<'a> {
    m: &'a Model,
    s: &'a State,
    i: usize,
    class: Class,
    out: &'a mut Vec<Next>,
}

impl Turn<'_> {
    fn now(&self) -> Txn {
        self.s.txns[self.i]
    }

    fn push(&mut self, step: &'static str, next: State) {
        self.out.push(Next { action: Action { who: Who::App(self.i as u8), step, class: self.class }, state: next });
    }

    fn moved(&self, at: At) -> State {
        let mut n = *self.s;
        n.txns[self.i].at = at;
        n
    }

    /// The state after this transaction has ended, with the lock free and all barriers told.
    fn ended(&self) -> State {
        let mut n = *self.s;
        n.txns[self.i] = Txn { at: At::Ended, ..Txn::default() };
        if n.lock == self.i as u8 + 1 {
            n.lock = 0;
        }
        n.forget(self.i);
        n
    }

    /// Whether a statement that writes can run now: on SQLite somebody else may hold the write lock.
    fn may_write(&self) -> bool {
        !self.m.scenario.visibility.locks() || self.s.lock == 0 || self.s.lock == self.i as u8 + 1
    }

    fn autocommit(&self) -> bool {
        self.m.scenario.visibility == crate::mode::Visibility::Autocommit
    }

    /// From knowing a generation to a pending write; with autocommit the row is committed at once.
    fn write(&mut self) {
        if !self.may_write() {
            return;
        }
        if self.autocommit() {
            return self.commit_row("write, commit");
        }
        let mut n = self.moved(At::Written);
        if self.m.scenario.visibility.locks() {
            n.lock = self.i as u8 + 1;
        }
        self.push("write", n);
    }

    /// The row is committed; it means the generation that the transaction knows.
    fn commit_row(&mut self, step: &'static str) {
        let mut n = self.ended();
        n.rows[1 + self.i] = self.now().knows;
        self.push(step, n);
    }

    fn give_up(&mut self) {
        let n = self.ended();
        self.push("rollback", n);
    }

    /// Deletes a row, and with `again` inserts it again at once.
    fn delete(&mut self, again: bool) {
        let t = self.now();
        let done = |turn: &Self, row: u8| {
            let mut n = turn.ended();
            if !again {
                n.rows[row as usize - 1] = 0;
            }
            n.release(0);
            n
        };
        match t.at {
            At::Idle if self.may_write() => {
                for row in 1..=self.s.rows.len() as u8 {
                    let taken = self.s.txns.iter().any(|o| o.row == row);
                    if self.s.rows[row as usize - 1] == 0 || taken {
                        continue;
                    }
                    if self.autocommit() {
                        let n = done(self, row);
                        self.push("delete, commit", n);
                        continue;
                    }
                    let mut n = self.moved(At::Written);
                    n.txns[self.i].row = row;
                    if self.m.scenario.visibility.locks() {
                        n.lock = self.i as u8 + 1;
                    }
                    self.push("delete", n);
                }
            }
            At::Written => {
                let n = done(self, t.row);
                self.push("commit", n);
                self.give_up();
            }
            _ => {}
        }
    }

    fn reference(&mut self) {
        let there = self.s.file[O];
        match self.now().at {
            At::Idle => {
                let visible = self.m.scenario.assume.lookers_are_visible;
                if visible && self.m.scenario.visibility.locks() && self.s.lock == 0 && there != 0 {
                    let mut n = self.moved(At::OpenLooked);
                    n.txns[self.i].knows = there;
                    n.lock = self.i as u8 + 1;
                    self.push("begin immediate, look", n);
                }
                if there != 0 && !visible {
                    let mut n = self.moved(At::Looked);
                    n.txns[self.i].knows = there;
                    self.push("look", n);
                }
                if self.m.scenario.visibility.opens() {
                    let n = self.moved(At::Open);
                    self.push("open", n);
                }
            }
            At::Open => {
                if there != 0 {
                    let mut n = self.moved(At::OpenLooked);
                    n.txns[self.i].knows = there;
                    self.push("look", n);
                }
                self.give_up();
            }
            At::Looked | At::OpenLooked => {
                self.write();
                self.give_up();
            }
            At::Written => {
                self.commit_row("commit");
                self.give_up();
            }
            _ => {}
        }
    }

    fn upload(&mut self) {
        let rules = self.m.scenario.protocol;
        match self.now().at {
            At::Idle if self.may_write() && (self.s.file[O] == 0 || !rules.upload_creates_only) => {
                let trash = rules.upload_avoids_trash && self.s.trash[O] | self.s.trash[D] != 0;
                let queue = rules.upload_avoids_queue && self.s.queued();
                if trash || queue || self.s.born as usize == GENS {
                    // It takes another name.
                    return;
                }
                let mut n = self.moved(At::Staged);
                if rules.upload_staged {
                    n.release(self.i as u8 + 1);
                }
                self.push("stage", n);
            }
            At::Staged => {
                let placed = |n: &mut State, i: usize| {
                    n.queue.iter_mut().filter(|c| c.staged == i as u8 + 1).for_each(|c| c.staged = 0);
                };
                if self.s.file[O] == 0 || !rules.upload_creates_only {
                    let mut n = self.moved(At::Looked);
                    if n.file[O] != 0 {
                        n.bad |= Verdict::Over.bit();
                    }
                    n.born += 1;
                    n.file = [n.born; 2];
                    n.txns[self.i].knows = n.born;
                    placed(&mut n, self.i);
                    self.push("place", n);
                }
                let mut n = self.ended();
                placed(&mut n, self.i);
                self.push("die", n);
            }
            At::Looked => {
                self.write();
                self.give_up();
            }
            At::Written => {
                self.commit_row("commit");
                self.give_up();
            }
            _ => {}
        }
    }

    fn replace(&mut self) {
        match self.now().at {
            At::Idle if (self.s.born as usize) < GENS => {
                let mut n = self.moved(At::Looked);
                n.born += 1;
                let newer = n.born;
                n.file = [newer; 2];
                // The application writes over its own file: whoever meant the older content gets the newer one, with or without Rowbound.
                n.rows.iter_mut().filter(|r| **r != 0).for_each(|r| *r = newer);
                n.txns.iter_mut().filter(|t| t.knows != 0).for_each(|t| t.knows = newer);
                n.txns[self.i].knows = newer;
                n.floor = newer;
                self.push("put", n);
            }
            At::Looked => self.write(),
            At::Written => self.commit_row("commit"),
            _ => {}
        }
    }

    fn undo(&mut self) {
        match self.now().at {
            At::Idle if self.s.rows[0] == 0 && self.may_write() => {
                let means = self.s.floor.max(1);
                let held = self.s.trashed(O, means) && self.s.phase(means) & phase::EXPIRED == 0;
                if self.s.file[O] != means && !held {
                    return;
                }
                let mut n = self.moved(At::Written);
                n.txns[self.i].knows = means;
                if self.autocommit() {
                    n.txns[self.i].at = At::Ended;
                    n.txns[self.i].knows = 0;
                    n.rows[1 + self.i] = means;
                    return self.push("insert again, commit", n);
                }
                if self.m.scenario.visibility.locks() {
                    n.lock = self.i as u8 + 1;
                }
                self.push("insert again", n);
            }
            At::Written => {
                self.commit_row("commit");
                self.give_up();
            }
            _ => {}
        }
    }

    fn restore(&mut self) {
        let rules = self.m.scenario.protocol;
        let t = self.now();
        match t.at {
            At::Idle => {
                let generation = newest(self.s.trash[O]);
                let free = self.s.file[O] == 0 && self.s.file[D] == 0;
                let lease = !rules.hand_claims || !self.s.leased();
                if generation == 0 || !free || !lease {
                    return;
                }
                let mut n = self.moved(At::Restored);
                n.txns[self.i].knows = generation;
                n.txns[self.i].place = self.s.place(generation);
                for name in [O, D] {
                    if n.trashed(name, generation) {
                        n.trash[name] &= !bit(generation);
                        n.file[name] = generation;
                        n.txns[self.i].came |= 1 << name;
                    }
                }
                if rules.hand_claims {
                    n.take_lease(HAND_OWNER);
                }
                self.push("restore", n);
            }
            At::Restored if self.may_write() => {
                let mut n = self.moved(At::Looked);
                for name in [O, D] {
                    if t.came & 1 << name != 0 {
                        n.enter_place(name, t.knows, t.place, entry::RESTORED);
                    }
                }
                n.txns[self.i].came = 0;
                n.txns[self.i].place = 0;
                n.give_up_leases(HAND_OWNER);
                self.push("enter", n);
            }
            At::Looked => self.write(),
            At::Written => self.commit_row("commit"),
            _ => {}
        }
    }

    fn reader(&mut self) {
        let others = self.m.scenario.workload.iter().enumerate();
        let other = others.filter(|(j, k)| **k == Kind::Reader && *j != self.i).any(|(j, _)| self.s.txns[j].at == At::Open);
        match self.now().at {
            At::Idle => {
                let n = self.moved(At::Open);
                self.push("open", n);
            }
            At::Open if other => {
                let mut n = *self.s;
                n.txns[self.i].at = At::Idle;
                n.forget(self.i);
                self.push("end", n);
            }
            _ => {}
        }
    }

    fn dump(&mut self) {
        if self.now().at == At::Idle {
            let n = self.moved(At::Open);
            self.push("open", n);
        }
    }
}
