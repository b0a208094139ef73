//! Verdicts: what must never be, in any state or in a state in which nothing more happens.

use crate::{
    mode::Kind,
    search::Model,
    state::{At, D, GENS, Keep, O, ROWS, State, Step, bit, entry, newest},
};

/// What went wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Verdict {
    /// A committed row, and its file is nowhere.
    Lost,
    /// A committed row, its file lies in the trash, and the next re-check has passed without bringing it back.
    Away,
    /// No row, a file (or an unknown file in the trash), and nothing in the queue.
    Leak,
    /// No way to an end: something waits for ever.
    Stuck,
    /// An original under its name without its derivative.
    Half,
    /// A row that means one generation of the file gets another.
    Wrong,
    /// A file was put over another one.
    Over,
    /// The ledger does not say what happened.
    Ledger,
    /// Not a verdict about the protocol: the model has too few slots for the scenario.
    Overflow,
}

impl Verdict {
    /// All that a run can end with.
    pub const ALL: [Verdict; 9] = [
        Verdict::Lost,
        Verdict::Away,
        Verdict::Leak,
        Verdict::Stuck,
        Verdict::Half,
        Verdict::Wrong,
        Verdict::Over,
        Verdict::Ledger,
        Verdict::Overflow,
    ];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Lost => "LOST",
            Verdict::Away => "AWAY",
            Verdict::Leak => "LEAK",
            Verdict::Stuck => "STUCK",
            Verdict::Half => "HALF",
            Verdict::Wrong => "WRONG",
            Verdict::Over => "OVER",
            Verdict::Ledger => "LEDGER",
            Verdict::Overflow => "OVERFLOW",
        }
    }

    /// Its bit in [`State::bad`]; the last one shares the bit of STUCK, which no single state can have.
    pub fn bit(self) -> u8 {
        1 << if self == Verdict::Overflow { Verdict::Stuck as u8 } else { self as u8 }
    }

    fn of_bits(bits: u8) -> Option<Verdict> {
        let all =
            [Verdict::Lost, Verdict::Away, Verdict::Leak, Verdict::Overflow, Verdict::Half, Verdict::Wrong, Verdict::Over, Verdict::Ledger];
        all.into_iter().find(|v| bits & v.bit() != 0)
    }
}

/// What is wrong with a state, whatever comes next.
pub fn at_once(s: &State) -> Option<Verdict> {
    if s.bad != 0 {
        return Verdict::of_bits(s.bad);
    }
    for row in 0..ROWS {
        let means = s.rows[row];
        if means == 0 || s.file[O] == means {
            continue;
        }
        if s.file[O] != 0 {
            return Some(Verdict::Wrong);
        }
        if !s.trashed(O, means) {
            return Some(Verdict::Lost);
        }
    }
    for name in [O, D] {
        for generation in 1..=GENS as u8 {
            let there = s.trashed(name, generation) || s.file[name] == generation;
            if there && s.entry(name, generation) == entry::PURGED {
                return Some(Verdict::Ledger);
            }
        }
    }
    None
}

/// What is wrong with a state in which nothing more happens: no transaction is pending, and Rowbound has nothing left to do.
pub fn at_rest(m: &Model, s: &State) -> Option<Verdict> {
    let dump = m.scenario.workload.iter().zip(&s.txns).any(|(k, t)| *k == Kind::Dump && t.at == At::Open);
    let referenced = s.referenced();
    if referenced && s.file[O] == 0 && s.reported & bit(newest(s.trash[O])) == 0 {
        return Some(Verdict::Away);
    }
    if referenced && s.file[O] != 0 && s.file[D] != s.file[O] && (s.outside | s.reported) & bit(s.file[O]) == 0 {
        return Some(Verdict::Half);
    }
    let busy =
        s.workers.iter().any(|w| w.step != Step::Idle) || s.keepers.iter().any(|k| k.step != Keep::Idle) || s.pending.generation != 0;
    if busy || s.queued() || s.lock != 0 {
        // A dump that never ends may keep a deletion waiting.
        return if dump { None } else { Some(Verdict::Stuck) };
    }
    if !referenced && s.file != [0; 2] {
        return Some(Verdict::Leak);
    }
    for name in [O, D] {
        for generation in 1..=GENS as u8 {
            if s.outside & bit(generation) != 0 {
                continue;
            }
            let said = s.entry(name, generation);
            if s.trashed(name, generation) && said == entry::NONE {
                return Some(Verdict::Leak);
            }
            let right = if s.trashed(name, generation) {
                said == entry::TRASHED
            } else if s.file[name] == generation {
                matches!(said, entry::NONE | entry::RESTORED)
            } else if s.erased[name] & bit(generation) != 0 {
                said == entry::PURGED
            } else {
                // Written over by the application, or never there.
                said != entry::PURGED && said != entry::TRASHED
            };
            if !right {
                return Some(Verdict::Ledger);
            }
        }
    }
    None
}
