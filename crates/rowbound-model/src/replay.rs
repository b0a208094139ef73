//! The trace checker: replays what real processes printed through the protocol's own guards, and refuses what they do not allow.
//!
//! # Format
//!
//! One JSON object a line, ordered by `t`. Processes of one machine share its monotonic clock, in nanoseconds.
//!
//! | field | meaning |
//! | --- | --- |
//! | `t`, `t0` | the event took effect at one moment within `[t0, t]`; without `t0`, at `t` |
//! | `who` | who did it: one worker, one trash loop, one writer. A restarted process is another one |
//! | `step` | one of [`crate::STEPS`], [`crate::APPLICATION_STEPS`] or [`crate::TRACE_STEPS`] |
//! | `batch` | the number of a worker's batch, unique for this worker |
//! | `names` | name or file -> fact, for steps of Rowbound |
//! | `name`, `row`, `found`, `blind` | for steps of writers |
//! | `round` | counts the checks of a batch after its move, or the re-checks of a loop: 1, 2, 3 |
//! | `interim` | true for a `checked-again` while the second barrier still waits |
//! | `noted` | when an erasure noted its barrier; without it, the last `erasure-barrier` did |
//! | `partial` | true for a `settled` of which the database said that some candidates were another worker's |
//!
//! Other fields are ignored. A trace begins with `start`, each `who` ends with `end` (a loop says in `round` how many re-checks it
//! made), or with `killed` if it was killed; a trace may end
//! with `quiet`: then all work was done, and rows and files are compared.
//!
//! | step | facts |
//! | --- | --- |
//! | `start` | `lease`: nanoseconds, the shortest of all processes; `locks`: true on SQLite; `units`: true for the model, see below |
//! | `claimed` | the candidates' ids: `[12, 13]` |
//! | `barrier-passed`, `confirmed`, `rested`, `second-barrier-passed` | `null` |
//! | `resumed` | `null`: the second barrier was noted by an earlier worker, which has put the name back into the queue |
//! | `renewed` | `null`: the leases hold still |
//! | `erasure-barrier` | none: the barrier of the next erasures is noted |
//! | `looked` | the version, a string; `{"trash": "PLACE"}` if it is missing but lies in the trash; `null` if missing. A missing name with derivatives is looked at twice |
//! | `listed` | the derivatives' names |
//! | `checked`, `checked-again`, `recheck-checked`, `erasure-checked` | `"held"` or `"free"` |
//! | `erasure-checked` | also `"queued"` for a name that has a candidate: it is not erased; and `"taken"` for one that is referenced but lies under its name again: what is in the trash is another file |
//! | `removed` | by file, derivatives too: `{"moved": "PLACE"}`, `"erased"`, `"changed"`, `"missing"`, `"failed"` |
//! | `returned`, `recheck-returned` | by file: `{"back": "PLACE"}`, `"occupied"`, `"missing"`, `"older"`, `"failed"` |
//! | `settled` | `"kept"`, `"trashed"`, `"erased"`, `"missing"`, any other outcome of a batch's first steps, `{"back": "why"}` for what goes back to the queue, `"lost"` if the worker held no candidate of it any more. `entered`: file -> `{"trashed": "PLACE"}`, `{"restored": "PLACE"}`, `{"purged": null}`; `{"found": "PLACE"}` for what lay in the trash already, which another may have entered |
//! | `recheck-entered`, `erasure-barrier-passed`, `erasure-noted`, `purged`, `gone` | by file: the place, or an array of places |
//! | `purging` | by file: `"erased"`, `"missing"`, `"failed"`, or an object that says it by place |
//! | `look` | `found` |
//! | `write`, `delete` | `row`; `blind` for a write without a look (an undo) |
//! | `commit`, `rollback` | `count`: rows that the transaction wrote and deleted. `t0` is the moment before it was sent |
//! | `open`, `stage`, `place`, `put` | none |
//! | `restore` | `names`: file -> place; the ledger's entry is part of it |
//!
//! The crash points `remove-one`, `settling` and `purge-one` say nothing that the next line does not, and are ignored.
//!
//! # Model and engine
//!
//! The engine writes these lines with its feature `trace` (`rowbound::trace`). It differs from the model in four ways, which `units` tells apart:
//!
//! - An original and its derivatives are one unit of the model's batches. In the engine derivatives become candidates of their own when their original is settled,
//!   so a missing original is looked at once. Traces are recorded of runs without derivatives.
//! - A missing file is settled without a check in the engine; in the model the check is made, and changes nothing.
//! - What already lies in the trash is not checked with the others but behind its own barrier.
//! - A file that came back is not checked a third time: the engine announces it before and after, and whoever claims that looks anew.
//!
//! # What is tolerated, and what is not
//!
//! Events of one `who` are in their order. Two events of different processes may be in either order only where their intervals overlap.
//! A check may say `held` or `free` only if that was true at some moment of its interval; the same holds for looks and moves. A killed
//! process may have done the next thing that it was about to do. After a kill nobody knows which places in the trash were taken and left, and what is said of
//! places is believed from then on; what is said of rows, leases, barriers and the order of the steps is not.

mod check;
mod event;
mod guard;
mod mutate;
mod random;
mod truth;
mod turn;
mod walk;
mod writers;

pub use check::{Refusal, check};
pub use event::{Event, parse};
pub use mutate::{Mutation, blur, mutate};
pub use walk::{generate, to_lines};
