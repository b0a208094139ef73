//! The protocol by which Rowbound deletes files, as a model: all interleavings of applications, workers, faults and time, searched breadth
//! first; mutants that show what each rule is good for; and a checker that replays recorded runs.
//!
//! # What is modelled
//!
//! One unit of two names, an original and its derivative, with up to three generations of the file; committed rows, each of which means
//! one generation; up to four transactions of applications; the queue; two workers; up to two processes that check again and erase; the
//! trash, whose places are told apart by the move that made them; the ledger; SQLite's write lock; leases, which can be lost at any moment.
//! Rowbound's steps carry the names of the engine's crash points ([`STEPS`]).
//!
//! # Time
//!
//! There is no clock. A window closes and a retention ends at any moment that the [assumptions](mode::Assumptions) allow; a lease is lost
//! by a fault; a candidate is due as soon as it is there. So every grace, rest and backoff is covered, and the seconds of the design only
//! decide how likely something is. The rest of a second before the second barrier has no effect in the model for that reason: it makes
//! more transactions visible to the barrier and so shortens absences, which the re-checks bound.
//!
//! # What is assumed
//!
//! See [`mode::Assumptions`]; [`modes::without_assumptions`] shows what each is good for. The guarantee rests on the first: a transaction that looked
//! at a file before its move ends before the file's retention does.
//!
//! # What is not modelled
//!
//! Several names at once in a chunk, sweeps, bindings that cannot be read, clocks that disagree, storages that lie, a COMMIT whose outcome
//! stays unknown (it is one of the two outcomes that are modelled), rows that reference a derivative directly. A derivative comes and is
//! replaced together with its original.
//!
//! # Where to look
//!
//! [`protocol::RULES`] is the protocol as a list of rules. [`mutants::MUTANTS`] takes each out. `cargo run -p rowbound-model --release --
//! report` prints both, with the states of each mode. `rowbound-model check FILE..` replays traces; [`replay`] has their format.

#![forbid(unsafe_code)]

pub mod state;
pub mod protocol;
pub mod mode;
mod app;
mod worker;
mod keeper;
pub mod verdict;
pub mod search;
pub mod modes;
pub mod mutants;
pub mod replay;

/// The steps of Rowbound, in the order in which a batch, a re-check and an erasure pass them. The same names as the engine's crash points.
pub const STEPS: &[&str] = &[
    "claimed",
    "barrier-passed",
    "looked",
    "listed",
    "checked",
    "confirmed",
    "remove-one",
    "removed",
    "rested",
    "second-barrier-passed",
    "checked-again",
    "returned",
    "settling",
    "settled",
    "recheck-checked",
    "recheck-returned",
    "recheck-entered",
    "erasure-barrier-passed",
    "erasure-checked",
    "erasure-noted",
    "purge-one",
    "purging",
    "purged",
];

/// The steps of applications in a trace.
pub const APPLICATION_STEPS: &[&str] = &["open", "look", "stage", "place", "put", "restore", "write", "delete", "commit", "rollback"];

/// Lines of a trace that are no steps of the protocol: begin and end, leases that begin anew, barriers that an earlier process noted, and what the trash's loop does
/// beside its re-checks and erasures.
pub const TRACE_STEPS: &[&str] =
    &["start", "end", "killed", "quiet", "reported", "gone", "adopted", "stopped", "renewed", "resumed", "erasure-barrier"];
