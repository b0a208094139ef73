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
//! | `noted` | when an erasure noted its barrier |
//!
//! Other fields are ignored. A trace begins with `start`, each `who` ends with `end` (a loop says in `round` how many re-checks it
//! made), or with `killed` if it was killed; a trace may end
//! with `quiet`: then all work was done, and rows and files are compared.
//!
//! | step | facts |
//! | --- | --- |
//! | `start` | `lease`: nanoseconds; `locks`: true on SQLite |
//! | `claimed` | the candidates' ids: `[12, 13]` |
//! | `barrier-passed`, `confirmed`, `rested`, `second-barrier-passed` | `null` |
//! | `looked` | the version, a string; `{"trash": "PLACE"}` if it is missing but lies in the trash; `null` if missing. A missing name with derivatives is looked at twice |
//! | `listed` | the derivatives' names |
//! | `checked`, `checked-again`, `recheck-checked`, `erasure-checked` | `"held"` or `"free"` |
//! | `erasure-checked` | also `"queued"` for a name that has a candidate: it is not erased |
//! | `removed` | by file, derivatives too: `{"moved": "PLACE"}`, `"erased"`, `"changed"`, `"missing"`, `"failed"` |
//! | `returned`, `recheck-returned` | by file: `{"back": "PLACE"}`, `"occupied"`, `"missing"`, `"older"`, `"failed"` |
//! | `settled` | `"kept"`, `"trashed"`, `"erased"`, `"missing"`, any other outcome of a batch's first steps, `{"back": "why"}` for what goes back to the queue, `"lost"` if the worker held no candidate of it any more. `entered`: file -> `{"trashed": "PLACE"}`, `{"restored": "PLACE"}`, `{"purged": null}` |
//! | `recheck-entered`, `erasure-barrier-passed`, `erasure-noted`, `purged`, `gone` | by file: the place |
//! | `purging` | by file: `"erased"`, `"missing"`, `"failed"` |
//! | `look` | `found` |
//! | `write`, `delete` | `row`; `blind` for a write without a look (an undo) |
//! | `commit`, `rollback` | `count`: rows that the transaction wrote and deleted. `t0` is the moment before it was sent |
//! | `open`, `stage`, `place`, `put` | none |
//! | `restore` | `names`: file -> place; the ledger's entry is part of it |
//!
//! The crash points `remove-one`, `settling` and `purge-one` say nothing that the next line does not, and are ignored.
//!
//! # What is tolerated, and what is not
//!
//! Events of one `who` are in their order. Two events of different processes may be in either order only where their intervals overlap.
//! A check may say `held` or `free` only if that was true at some moment of its interval; the same holds for looks and moves. A killed
//! process may have done the next thing that it was about to do.

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
