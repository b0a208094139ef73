//! The state: everything that the protocol's safety depends on, in about a hundred bytes.
//!
//! Small numbers stand for everything. A generation is 1, 2 or 3 (0: none); a set of generations or of transactions is a bit
//! mask; a candidate is a slot. Two names exist: the original (index 0) and its derivative (index 1).

/// Generations of the file that a run can see.
pub const GENS: usize = 3;
/// Application transactions of a scenario, at most. Their index is also their bit in a barrier's set.
pub const TXNS: usize = 4;
/// Rows: the one that exists at the start, and one for each transaction.
pub const ROWS: usize = 1 + TXNS;
/// Candidates at the same time, at most.
pub const SLOTS: usize = 4;
/// Collector workers.
pub const WORKERS: usize = 2;
/// Processes that check again and erase.
pub const KEEPERS: usize = 2;

/// The original's index.
pub const O: usize = 0;
/// The derivative's index.
pub const D: usize = 1;

/// Where an application's transaction stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub enum At {
    /// Not begun.
    #[default]
    Idle,
    /// An upload that is announced; its file is not there yet.
    Staged,
    /// A restore by hand: the files are back, the ledger does not know.
    Restored,
    /// It knows a generation (looked, uploaded, restored), and no barrier can see it.
    Looked,
    /// Visible to a barrier; it looked at nothing yet.
    Open,
    /// Visible, and it knows a generation.
    OpenLooked,
    /// Visible, its write is pending. On SQLite it holds the write lock.
    Written,
    /// Committed, rolled back or gone.
    Ended,
}

/// An application's transaction.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Txn {
    /// Where it stands.
    pub at: At,
    /// The generation that it knows.
    pub knows: u8,
    /// The row that it deletes, plus one.
    pub row: u8,
    /// A restore by hand: the place that it emptied.
    pub place: u8,
    /// A restore by hand: which of the two files it brought back.
    pub came: u8,
}

impl Txn {
    /// Begun and not ended.
    pub fn pending(&self) -> bool {
        !matches!(self.at, At::Idle | At::Ended)
    }
}

/// Nobody has noted a set yet.
pub const UNNOTED: u8 = 0xff;

/// A candidate: a row of the queue for the unit of original and derivative.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Candidate {
    /// Whether the slot is in use.
    pub there: bool,
    /// Who holds the lease: 0, a worker plus one, a keeper plus [`KEEPER_OWNER`], or [`HAND_OWNER`].
    pub owner: u8,
    /// The first barrier, as it was noted at the first try.
    pub barrier: u8,
    /// The newest generation at the time of the release.
    pub since: u8,
    /// The upload that announced it and has not placed its file, plus one: not due before that.
    pub staged: u8,
    /// What a worker was about to erase for it, by name: written down before.
    pub erasing: [u8; 2],
}

/// Where a worker stands: each is the crash point that it has passed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub enum Step {
    /// No batch.
    #[default]
    Idle,
    /// The lease is committed, the first barrier is noted.
    Claimed,
    /// The original was seen, or is missing.
    Looked,
    /// The derivative was seen, or is missing.
    Listed,
    /// The original was missing, and is missing still after its derivative was listed.
    Relooked,
    /// Not referenced. On SQLite the write lock is held from here.
    Checked,
    /// The lease still holds. On a plain bucket the chunk was checked too.
    Confirmed,
    /// One of the two files was moved.
    RemoveOne,
    /// Both were.
    Removed,
    /// The second barrier is noted.
    Rested,
    /// Referenced after the move: it is to come back.
    CheckedAgain,
    /// One of the two came back.
    ReturnOne,
    /// Both did.
    Returned,
    /// About to settle as kept.
    SettlingKept,
    /// About to settle as moved.
    SettlingTrashed,
    /// About to settle as erased.
    SettlingErased,
    /// About to settle as missing.
    SettlingMissing,
}

/// A collector's worker and its memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Worker {
    /// Where it stands.
    pub step: Step,
    /// The slots that it believes to hold.
    pub mask: u8,
    /// Transactions that it waits for: the first barrier, later the second.
    pub waits: u8,
    /// The newest generation at the latest release of its candidates.
    pub since: u8,
    /// Generations that it saw under the names.
    pub seen: [u8; 2],
    /// The generation of the original that it found in the trash instead.
    pub found: u8,
    /// Generations in the trash that the ledger does not know, when it looked.
    pub unknown: [u8; 2],
    /// Generations that it moved (or found moved).
    pub moved: [u8; 2],
    /// The place of what it moved or found.
    pub place: u8,
    /// The generation that it brings back, and which of the two came back by its hand.
    pub back: u8,
    /// Bit mask over the two names.
    pub came: u8,
    /// What an early check said, in the variant that checks before it looks.
    pub early: bool,
}

/// Where a process stands that checks again and erases.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub enum Keep {
    /// Between rounds.
    #[default]
    Idle,
    /// `recheck-checked`: a generation is referenced and is to come back; that is noted.
    Checked,
    /// The derivative is back.
    ReturnOne,
    /// `recheck-returned`.
    Returned,
    /// `erasure-checked`.
    EraseChecked,
    /// `erasure-noted`.
    Noted,
    /// `purge-one`.
    PurgeOne,
    /// `purging`.
    Purging,
}

/// A process that checks again and erases.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Keeper {
    /// Where it stands.
    pub step: Keep,
    /// The generation that it is about.
    pub generation: u8,
    /// The place that it saw.
    pub place: u8,
    /// Which of the two files it erased or brought back itself.
    pub did: u8,
}

/// An erasure that waits for transactions, while re-checks go on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Pending {
    /// The generation, or 0.
    pub generation: u8,
    /// The place that was seen.
    pub place: u8,
    /// Transactions that were open then.
    pub waits: u8,
}

/// What the ledger says last about a generation of a name, in its newest place of the trash: a file that is moved twice has two places,
/// and an entry about the first says nothing about the second.
pub mod entry {
    /// Nothing.
    pub const NONE: u8 = 0;
    /// It lies in the trash.
    pub const TRASHED: u8 = 1;
    /// It came back.
    pub const RESTORED: u8 = 2;
    /// It is gone.
    pub const PURGED: u8 = 3;
}

/// How much time has passed since a generation was moved.
pub mod phase {
    /// The window of the re-checks (30 minutes) is over.
    pub const CLOSED: u8 = 1;
    /// The retention is over.
    pub const EXPIRED: u8 = 2;
}

/// One state of the model.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct State {
    /// Committed rows: the generation that each means, or 0.
    pub rows: [u8; ROWS],
    /// The application's transactions.
    pub txns: [Txn; TXNS],
    /// SQLite's write lock: 0, a transaction plus one, or [`WORKER_LOCK`].
    pub lock: u8,
    /// The queue.
    pub queue: [Candidate; SLOTS],
    /// Workers.
    pub workers: [Worker; WORKERS],
    /// Processes that check again and erase.
    pub keepers: [Keeper; KEEPERS],
    /// Who holds the lease of the re-checks: 0, or a keeper plus one.
    pub lease: u8,
    /// The erasure that waits for its barrier.
    pub pending: Pending,
    /// The generation under each name, or 0.
    pub file: [u8; 2],
    /// Generations of each name in the trash.
    pub trash: [u8; 2],
    /// Time since the move, by generation.
    pub phase: [u8; GENS],
    /// How often each generation was moved (low half: the original, high half: the derivative): a place in the trash is identified by
    /// its own move.
    pub place: [u8; GENS],
    /// The newest generation so far.
    pub born: u8,
    /// The newest generation that an application wrote over its own file: whoever meant an older one means this one since.
    pub floor: u8,
    /// The ledger: two bits for each generation of a name.
    pub ledger: [u8; 2],
    /// Generations that were reported as referenced and kept in the trash.
    pub reported: u8,
    /// Generations that Rowbound erased, by name.
    pub erased: [u8; 2],
    /// Generations that somebody else erased from the trash.
    pub outside: u8,
    /// The note of an erasure, in the database: by generation the place, or 0.
    pub note: [u8; GENS],
    /// Faults that may still happen.
    pub faults: u8,
    /// Verdicts that are certain already, as bits of [`crate::verdict::Verdict`].
    pub bad: u8,
}

/// The first keeper as a candidate's owner.
pub const KEEPER_OWNER: u8 = 0x10;
/// A person's restore as a candidate's owner.
pub const HAND_OWNER: u8 = 0x20;

/// A worker holds SQLite's write lock.
pub const WORKER_LOCK: u8 = 0xff;

/// Whether two pairs of places agree about one of the files.
pub fn same_place(name: usize, a: u8, b: u8) -> bool {
    (a ^ b) >> (4 * name) & 0xf == 0
}

/// The bit of a generation.
pub fn bit(generation: u8) -> u8 {
    if generation == 0 { 0 } else { 1 << (generation - 1) }
}

/// The newest generation of a set, or 0.
pub fn newest(set: u8) -> u8 {
    8 - set.leading_zeros() as u8
}

impl State {
    /// Generations of a name in the trash that the ledger does not know.
    pub fn unknown(&self, name: usize) -> u8 {
        (1..=GENS as u8).filter(|g| self.trashed(name, *g) && self.entry(name, *g) == entry::NONE).fold(0, |set, g| set | bit(g))
    }

    /// Whether a committed row references the original.
    pub fn referenced(&self) -> bool {
        self.rows.iter().any(|r| *r != 0)
    }

    /// Whether a file of that generation lies in the trash.
    pub fn trashed(&self, name: usize, generation: u8) -> bool {
        self.trash[name] & bit(generation) != 0
    }

    /// The ledger's last word.
    pub fn entry(&self, name: usize, generation: u8) -> u8 {
        if generation == 0 { entry::NONE } else { self.ledger[name] >> (2 * (generation - 1)) & 3 }
    }

    /// Writes an entry. That a place is left (restored, purged) is final, whichever entry was written first.
    pub fn enter(&mut self, name: usize, generation: u8, what: u8) {
        if what == entry::TRASHED && self.entry(name, generation) != entry::NONE {
            return;
        }
        let at = 2 * (generation - 1);
        self.ledger[name] = self.ledger[name] & !(3 << at) | what << at;
    }

    /// Time since the move.
    pub fn phase(&self, generation: u8) -> u8 {
        self.phase[generation as usize - 1]
    }

    /// The newest places of a generation in the trash, of both files.
    pub fn place(&self, generation: u8) -> u8 {
        self.place[generation as usize - 1]
    }

    /// A file was moved: it has another place now. Counts around, so that a protocol that moves for ever has an end of states.
    pub fn next_place(&mut self, name: usize, generation: u8) {
        let place = &mut self.place[generation as usize - 1];
        let half = 0xf << (4 * name);
        let next = ((*place >> (4 * name)) & 0xf) % 8 + 1;
        *place = *place & !half | next << (4 * name);
    }

    /// Whether some transaction that knows this generation has not ended.
    pub fn known_by_pending(&self, generation: u8) -> bool {
        self.txns.iter().any(|t| t.pending() && t.knows == generation)
    }

    /// Takes an ended transaction out of every set that somebody noted.
    pub fn forget(&mut self, txn: usize) {
        let keep = !(1u8 << txn);
        for c in self.queue.iter_mut().filter(|c| c.there && c.barrier != UNNOTED) {
            c.barrier &= keep;
        }
        self.workers.iter_mut().for_each(|w| w.waits &= keep);
        self.pending.waits &= keep;
    }

    /// Puts a candidate into the queue. One that waits and that nobody has tried yet takes it in: equal names share one fate.
    pub fn release(&mut self, staged: u8) {
        let since = self.born;
        let fresh = |c: &Candidate| c.there && c.owner == 0 && c.barrier == UNNOTED && c.staged == 0;
        if staged == 0
            && let Some(c) = self.queue.iter_mut().find(|c| fresh(c))
        {
            c.since = since;
            return;
        }
        if let Some(c) = self.queue.iter_mut().find(|c| !c.there) {
            *c = Candidate { there: true, owner: 0, barrier: UNNOTED, since, staged, erasing: [0; 2] };
            return;
        }
        // All slots are taken: an old candidate is tried anew, which delays it and loses nothing.
        if let Some(c) = self.queue.iter_mut().find(|c| c.owner == 0) {
            *c = Candidate { there: true, owner: 0, barrier: UNNOTED, since, staged: 0, erasing: [0; 2] };
        } else {
            self.bad |= crate::verdict::Verdict::Overflow.bit();
        }
    }

    /// Writes an entry about a place, unless the file was moved again since: then the place is not the newest one.
    pub fn enter_place(&mut self, name: usize, generation: u8, place: u8, what: u8) {
        if same_place(name, self.place(generation), place) {
            self.enter(name, generation, what);
        }
    }

    /// Puts a candidate into the queue, unless one waits there already that nobody holds.
    pub fn release_once(&mut self) {
        if !self.queue.iter().any(|c| c.there && c.owner == 0 && c.staged == 0) {
            self.release(0);
        }
    }

    /// Whether somebody holds a candidate under a lease.
    pub fn leased(&self) -> bool {
        self.queue.iter().any(|c| c.there && c.owner != 0)
    }

    /// Takes the lease of the name: of a candidate that waits, or of a new one.
    pub fn take_lease(&mut self, owner: u8) {
        let waiting = self.queue.iter().position(|c| c.there && c.owner == 0 && c.staged == 0);
        let Some(slot) = waiting.or_else(|| self.queue.iter().position(|c| !c.there)) else {
            self.bad |= crate::verdict::Verdict::Overflow.bit();
            return;
        };
        if !self.queue[slot].there {
            self.queue[slot] = Candidate { there: true, owner, barrier: UNNOTED, since: self.born, staged: 0, erasing: [0; 2] };
        }
        self.queue[slot].owner = owner;
    }

    /// Gives up the leases of `owner`: its candidates wait.
    pub fn give_up_leases(&mut self, owner: u8) {
        self.queue.iter_mut().filter(|c| c.there && c.owner == owner).for_each(|c| c.owner = 0);
    }

    /// Whether any candidate is in the queue.
    pub fn queued(&self) -> bool {
        self.queue.iter().any(|c| c.there)
    }
}
