//! The protocol with one rule taken out, and what goes wrong then.
//!
//! Some rules cover for each other: a re-check repairs what a missing fence breaks. Such a rule is taken out *beside* the rule that covers
//! for it, in a scenario in which the design holds without the covering rule. Three rules change nothing that a verdict could see; the
//! table says why they are kept.

use crate::{
    mode::{Assumptions, Faults, Kind, Scenario, Storage, Visibility},
    protocol::{RULES, Rule},
    search::{Found, Model},
    verdict::Verdict,
};

/// A mutant.
#[derive(Clone, Copy, Debug)]
pub struct Mutant {
    /// The rule that is taken out.
    pub rule: &'static str,
    /// Rules that cover for it, and are taken out too.
    pub beside: &'static [&'static str],
    /// When transactions can be seen.
    pub visibility: Visibility,
    /// What the storage can do.
    pub storage: Storage,
    /// What applications do.
    pub workload: &'static [Kind],
    /// Which faults happen.
    pub faults: Faults,
    /// What is assumed beyond the design, or not.
    pub assume: fn(&mut Assumptions),
    /// What catches it; nothing for a rule that no verdict can see.
    pub verdict: Option<Verdict>,
    /// In words.
    pub why: &'static str,
}

use Kind::{Delete, Dump, Reader, Reference, Replace, Restore, Touch, Undo, Upload};
use Storage::{Folder, Off, Plain, Versioned};
use Visibility::{Autocommit, Deferred, DriverBegin};

const NO_FAULTS: Faults = Faults::NONE;
const KILL: Faults = Faults { budget: 1, kill: true, ..Faults::NONE };
const LAPSE: Faults = Faults { budget: 1, lapse: true, ..Faults::NONE };
const LAPSE_AND_KILL: Faults = Faults { budget: 2, kill: true, lapse: true, ..Faults::NONE };
const STORAGE: Faults = Faults { budget: 1, storage: true, ..Faults::NONE };

fn design(_: &mut Assumptions) {}
fn visible(a: &mut Assumptions) {
    a.lookers_are_visible = true;
}
fn visible_without_hold(a: &mut Assumptions) {
    a.lookers_are_visible = true;
    a.hold_outlives_lookers = false;
}
fn short_chunks(a: &mut Assumptions) {
    a.chunk_within_lease = true;
}
fn undisturbed(a: &mut Assumptions) {
    a.chunk_undisturbed = true;
}

const fn mutant(rule: &'static str, visibility: Visibility, storage: Storage, workload: &'static [Kind]) -> Mutant {
    Mutant { rule, beside: &[], visibility, storage, workload, faults: NO_FAULTS, assume: design, verdict: None, why: "" }
}

impl Mutant {
    const fn beside(self, beside: &'static [&'static str]) -> Mutant {
        Mutant { beside, ..self }
    }

    const fn faults(self, faults: Faults) -> Mutant {
        Mutant { faults, ..self }
    }

    const fn assume(self, assume: fn(&mut Assumptions)) -> Mutant {
        Mutant { assume, ..self }
    }

    const fn caught(self, verdict: Verdict, why: &'static str) -> Mutant {
        Mutant { verdict: Some(verdict), why, ..self }
    }

    const fn redundant(self, why: &'static str) -> Mutant {
        Mutant { why, ..self }
    }

    /// What the rule says.
    pub fn says(&self) -> &'static str {
        rule(self.rule).says.trim()
    }

    /// Whether the scenario differs from a mode of the design in more than the rule.
    pub fn is_special(&self) -> bool {
        let mut assume = Scenario::new(self.visibility, self.storage, self.workload, self.faults).assume;
        let usual = assume;
        (self.assume)(&mut assume);
        !self.beside.is_empty() || assume != usual
    }

    /// The scenario: with the rule, or without it.
    pub fn scenario(&self, mutated: bool) -> Scenario {
        let mut scenario = Scenario::new(self.visibility, self.storage, self.workload, self.faults);
        (self.assume)(&mut scenario.assume);
        for other in self.beside {
            (rule(other).without)(&mut scenario.protocol);
        }
        if mutated {
            (rule(self.rule).without)(&mut scenario.protocol);
        }
        scenario
    }

    /// Searches the mutant, or the protocol beside it that still has the rule.
    pub fn search(&self, mutated: bool) -> Found {
        Model::new(self.scenario(mutated)).search(usize::MAX)
    }
}

fn rule(name: &str) -> &'static Rule {
    RULES.iter().find(|r| r.name == name).unwrap_or_else(|| panic!("no rule is called {name}"))
}

/// Every rule of the protocol, taken out.
pub const MUTANTS: &[Mutant] = &[
    mutant("first_barrier", DriverBegin, Folder, &[Delete, Reference])
        .redundant("the second barrier carries the safety; the first saves moves that would come back"),
    mutant("first_remembered", DriverBegin, Folder, &[Delete, Reader, Reader])
        .caught(Verdict::Stuck, "there is always a newer transaction to wait for"),
    mutant("look_before_check", DriverBegin, Folder, &[Delete, Reference])
        .redundant("the checks after the move cover for it; the first check should still be about the file that was seen"),
    mutant("missing_looked_again", Deferred, Folder, &[Touch, Replace, Delete])
        .beside(&["derivative_comes_alone"])
        .caught(Verdict::Half, "a file is put between look and listing, and its fresh derivative is collected"),
    mutant("check", Deferred, Folder, &[Touch, Delete]).caught(Verdict::Stuck, "a referenced file is moved and brought back for ever"),
    mutant("under_lock", Deferred, Folder, &[Delete, Reference])
        .beside(&["recheck"])
        .assume(visible)
        .caught(Verdict::Away, "a writer that holds the lock commits after the check"),
    mutant("fence", DriverBegin, Folder, &[Delete, Reference])
        .beside(&["adopt"])
        .faults(LAPSE_AND_KILL)
        .assume(short_chunks)
        .caught(Verdict::Away, "a paused worker moves what another one has kept, and is killed; nobody knows of the move"),
    mutant("erasing_marked", Deferred, Plain, &[Delete])
        .faults(KILL)
        .caught(Verdict::Ledger, "killed after the erasure: the next worker settles the file as missing"),
    mutant("chunk_check", Autocommit, Plain, &[Delete, Undo])
        .assume(undisturbed)
        .caught(Verdict::Lost, "a row committed after the check of the batch, before its chunk"),
    mutant("move_compares", Autocommit, Folder, &[Delete, Replace])
        .beside(&["derivative_comes_alone"])
        .caught(Verdict::Half, "the derivative of a newer file goes with the older one"),
    mutant("original_leaves_first", Deferred, Folder, &[Delete, Restore])
        .caught(Verdict::Half, "half erased, the original is restored by hand"),
    mutant("unit_fails_whole", Deferred, Folder, &[Delete])
        .faults(STORAGE)
        .caught(Verdict::Leak, "the original could not be moved, its unit was settled all the same"),
    mutant("missing_goes_back", DriverBegin, Folder, &[Delete, Reference])
        .faults(LAPSE)
        .redundant("whoever moved it enters that, or the place is adopted; going back saves the detour"),
    mutant("second_barrier", DriverBegin, Folder, &[Delete, Reference])
        .beside(&["recheck"])
        .assume(visible)
        .caught(Verdict::Away, "a transaction that looked before the move commits after the settlement"),
    mutant("second_remembered", DriverBegin, Folder, &[Delete, Reader, Reader])
        .caught(Verdict::Stuck, "there is always a newer transaction to wait for"),
    mutant("check_again", DriverBegin, Folder, &[Delete, Reference])
        .beside(&["recheck"])
        .assume(visible)
        .caught(Verdict::Away, "the row that the second barrier waited for is not looked for"),
    mutant("interim_check", Autocommit, Folder, &[Delete, Undo, Dump])
        .caught(Verdict::Away, "the batch waits for a dump, and its file is away as long"),
    mutant("found_takes_the_way", DriverBegin, Folder, &[Delete, Reference])
        .beside(&["recheck"])
        .faults(KILL)
        .assume(visible)
        .caught(Verdict::Away, "a file that a killed worker had moved is settled without a second barrier"),
    mutant("return_creates_only", Autocommit, Folder, &[Delete, Replace])
        .caught(Verdict::Over, "the old file comes back over a new upload"),
    mutant("return_newest", DriverBegin, Folder, &[Delete, Replace])
        .faults(LAPSE)
        .caught(Verdict::Wrong, "a row that means the newer file gets the older one"),
    mutant("derivative_returns_first", DriverBegin, Folder, &[Delete, Reference])
        .beside(&["derivative_comes_alone"])
        .faults(KILL)
        .caught(Verdict::Half, "killed between the two: an original without its derivative"),
    mutant("derivative_fits", DriverBegin, Versioned, &[Delete, Replace])
        .faults(LAPSE)
        .caught(Verdict::Half, "the old derivative takes the place of the new file's"),
    mutant("return_whole", Autocommit, Folder, &[Delete, Undo])
        .caught(Verdict::Stuck, "the derivative stays in the trash: the re-check is never done with it"),
    mutant("check_after_return", Autocommit, Folder, &[Delete, Undo, Delete])
        .faults(LAPSE)
        .caught(Verdict::Leak, "released again while it came back; its next candidate was settled already"),
    mutant("settle_what_is_held", DriverBegin, Plain, &[Delete, Upload])
        .faults(LAPSE)
        .caught(Verdict::Leak, "a worker settles a candidate that another one is working on"),
    mutant("facts_entered", DriverBegin, Folder, &[Delete, Reference])
        .beside(&["adopt"])
        .faults(LAPSE)
        .caught(Verdict::Away, "moved after the lease was lost, and no entry for the re-checks to find"),
    mutant("left_is_final", Autocommit, Folder, &[Delete, Undo])
        .faults(LAPSE)
        .caught(Verdict::Ledger, "settled as moved after it had come back from that very place"),
    mutant("unknown_entered", Deferred, Folder, &[Delete])
        .faults(KILL)
        .caught(Verdict::Stuck, "the derivative of a killed worker's move is adopted again and again"),
    mutant("settle_enters", Autocommit, Plain, &[Delete]).caught(Verdict::Ledger, "erased without an entry"),
    mutant("recheck", Autocommit, Folder, &[Delete, Undo]).caught(Verdict::Away, "a row that no barrier can see"),
    mutant("derivative_comes_alone", DriverBegin, Versioned, &[Delete, Replace])
        .caught(Verdict::Half, "its derivative was moved, but the original is there"),
    mutant("recheck_claims", Deferred, Folder, &[Delete, Undo, Delete])
        .caught(Verdict::Leak, "released again and settled while the re-check brings it back"),
    mutant("adopt", Autocommit, Folder, &[Delete, Replace])
        .faults(KILL)
        .caught(Verdict::Leak, "killed after the move, then a new file under the name: nobody erases the old one"),
    mutant("erasure_barrier", DriverBegin, Off, &[Delete, Reference])
        .beside(&["second_barrier"])
        .assume(visible_without_hold)
        .caught(Verdict::Lost, "a visible transaction that looked before the move outlasts the hold"),
    mutant("erasure_remembered", DriverBegin, Folder, &[Delete, Reader, Reader])
        .caught(Verdict::Stuck, "there is always a newer transaction to wait for"),
    mutant("erasure_waits_aside", DriverBegin, Folder, &[Delete, Replace, Dump])
        .faults(STORAGE)
        .caught(Verdict::Away, "an erasure waits for a dump, and with it the re-checks"),
    mutant("erasure_check", Autocommit, Folder, &[Delete, Undo])
        .caught(Verdict::Lost, "referenced after its window, erased after its retention"),
    mutant("erasure_noted", Deferred, Folder, &[Delete])
        .faults(KILL)
        .caught(Verdict::Ledger, "killed after the erasure: the ledger still says that it can be restored"),
    mutant("recovery_waits", Deferred, Folder, &[Delete, Restore])
        .faults(KILL)
        .caught(Verdict::Ledger, "noted as about to be erased, but a person is just restoring it"),
    mutant("note_stays", Deferred, Folder, &[Delete])
        .faults(LAPSE)
        .caught(Verdict::Ledger, "a paused process erases what the next one has crossed out"),
    mutant("gone_entered", DriverBegin, Folder, &[Delete, Replace, Reference])
        .faults(KILL)
        .caught(Verdict::Ledger, "killed after a return, then written over: the ledger says that it lies in the trash"),
    mutant("erasure_compares", Deferred, Folder, &[Delete, Restore])
        .caught(Verdict::Lost, "restored and collected again meanwhile: the new place is erased without its hold"),
    mutant("erasure_skips_queued", Deferred, Folder, &[Delete, Replace, Reference, Delete])
        .caught(Verdict::Half, "the derivative is erased while a worker is about to keep the original"),
    mutant("erase_settled_only", Autocommit, Off, &[Delete, Undo])
        .beside(&["erasure_skips_queued"])
        .caught(Verdict::Lost, "erased after its minute while its worker has it in hand"),
    mutant("report", Deferred, Folder, &[Delete, Undo]).caught(Verdict::Away, "referenced after the window, and nobody is told"),
    mutant("report_at_once", Autocommit, Folder, &[Delete, Undo, Dump])
        .caught(Verdict::Away, "referenced after its window, and the report waits for a dump"),
    mutant("hand_claims", Deferred, Folder, &[Delete, Restore])
        .faults(KILL)
        .caught(Verdict::Ledger, "a dead process's note says erased, but a person has just restored it"),
    mutant("upload_avoids_trash", Autocommit, Folder, &[Delete, Undo, Upload])
        .caught(Verdict::Wrong, "a row that means the old file gets the upload's content"),
    mutant("upload_avoids_queue", Deferred, Plain, &[Delete, Upload])
        .faults(KILL)
        .caught(Verdict::Ledger, "an upload takes the name of a file whose erasure was not entered yet"),
    mutant("upload_creates_only", Deferred, Folder, &[Delete, Upload]).caught(Verdict::Over, "an upload goes over a file"),
    mutant("upload_staged", Deferred, Folder, &[Delete, Upload]).caught(Verdict::Leak, "an upload whose row never comes"),
    mutant("hold", Autocommit, Off, &[Delete, Undo]).caught(Verdict::Lost, "erased at once"),
];

/// A scenario in which the protocol as it was must fail.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// When transactions can be seen.
    pub visibility: Visibility,
    /// What the storage can do.
    pub storage: Storage,
    /// What applications do.
    pub workload: &'static [Kind],
    /// Which faults happen.
    pub faults: Faults,
    /// Whether looks come after their transaction is visible.
    pub visible: bool,
    /// What goes wrong.
    pub verdict: Verdict,
    /// What was seen on the product.
    pub why: &'static str,
}

impl Known {
    /// The scenario.
    pub fn scenario(&self) -> Scenario {
        let mut scenario = Scenario::new(self.visibility, self.storage, self.workload, self.faults);
        scenario.protocol = crate::protocol::Protocol::AS_IT_WAS;
        scenario.assume.lookers_are_visible = self.visible;
        scenario
    }
}

const fn known(visibility: Visibility, storage: Storage, workload: &'static [Kind], verdict: Verdict, why: &'static str) -> Known {
    Known { visibility, storage, workload, faults: NO_FAULTS, visible: false, verdict, why }
}

/// What was found on the protocol as it was.
pub const KNOWN: &[Known] = &[
    Known {
        visible: true,
        ..known(DriverBegin, Folder, &[Delete, Reference], Verdict::Away, "a reference that commits after the second check")
    },
    known(DriverBegin, Folder, &[Delete, Reference], Verdict::Away, "a look before the first statement"),
    known(Deferred, Folder, &[Delete, Reference], Verdict::Away, "a look in a deferred transaction"),
    known(Autocommit, Folder, &[Delete, Reference], Verdict::Away, "a look outside any transaction"),
    known(DriverBegin, Folder, &[Delete, Reader, Reader], Verdict::Stuck, "overlapping transactions starve every deletion"),
    known(DriverBegin, Off, &[Delete, Reference], Verdict::Lost, "trash off"),
    known(Deferred, Off, &[Delete, Reference], Verdict::Lost, "trash off on SQLite"),
];
