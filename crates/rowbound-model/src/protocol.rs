//! The protocol's rules as switches: the design has all of them, a mutant lacks one.

/// Makes the struct, the design and the list out of one table.
macro_rules! rules {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Rules. The design has all of them.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub struct Protocol {
            $($(#[doc = $doc])+ pub $name: bool,)+
        }

        impl Protocol {
            /// The protocol as designed.
            pub const DESIGN: Protocol = Protocol { $($name: true,)+ };
        }

        /// Every rule.
        pub const RULES: &[Rule] = &[$(Rule {
            name: stringify!($name),
            says: concat!($($doc),+),
            without: |p| p.$name = false,
        },)+];
    };
}

/// One rule of the protocol.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Its name.
    pub name: &'static str,
    /// What it says.
    pub says: &'static str,
    /// Takes it out of a protocol.
    pub without: fn(&mut Protocol),
}

rules! {
    /// Wait for the transactions that were open at the first try.
    first_barrier,
    /// The first barrier's set is remembered; otherwise each try begins anew and needs a moment without any transaction.
    first_remembered,
    /// Look before the check.
    look_before_check,
    /// An original that is missing while its derivative is there is looked at once more after the listing.
    missing_looked_again,
    /// Check for references before anything is taken away.
    check,
    /// SQLite: check, move and settle under the write lock.
    under_lock,
    /// The lease is confirmed before a chunk is taken away.
    fence,
    /// Where a file is erased without a move, the confirmation writes down what is about to be erased.
    erasing_marked,
    /// Plain bucket: the chunk is checked once more, after its lease was confirmed.
    chunk_check,
    /// What is moved is what was seen.
    move_compares,
    /// The original is moved (and erased) before its derivative.
    original_leaves_first,
    /// When one file of a unit fails, the unit goes back to the queue.
    unit_fails_whole,
    /// A file that is missing when it is to be moved goes back to the queue; otherwise it settles as missing.
    missing_goes_back,
    /// After the move, wait for the transactions that were open then.
    second_barrier,
    /// The second barrier's set is remembered.
    second_remembered,
    /// Check again before the settlement.
    check_again,
    /// Check also while the second barrier waits.
    interim_check,
    /// What is found in the trash takes the way from `rested` on; otherwise it settles after a check.
    found_takes_the_way,
    /// A return never goes over another file.
    return_creates_only,
    /// Only the newest generation comes back.
    return_newest,
    /// The derivative comes back before its original.
    derivative_returns_first,
    /// A derivative comes back only if no other generation of its original is there.
    derivative_fits,
    /// The derivative comes back with its original.
    return_whole,
    /// What came back is checked once more; if nothing references it by then, its candidate goes back to the queue.
    check_after_return,
    /// A settlement writes only what the worker still holds.
    settle_what_is_held,
    /// What a process did to a file is entered whether or not it still holds its lease; only candidates need that.
    facts_entered,
    /// That a file left its place (restored, purged) is final: an entry `trashed` about the same place says nothing after it.
    left_is_final,
    /// A settlement enters every place of its name that the ledger does not know, not only the newest.
    unknown_entered,
    /// A settlement writes the ledger.
    settle_enters,
    /// What was moved is checked again every minute within the window.
    recheck,
    /// A re-check brings a derivative back whose original is there, unchanged since the derivative was moved.
    derivative_comes_alone,
    /// A re-check holds a candidate of the name under a lease while it brings a file back; afterwards that waits in the queue.
    recheck_claims,
    /// A place of the trash that neither the ledger nor a candidate knows becomes a candidate.
    adopt,
    /// An erasure waits for the transactions that were open when it began.
    erasure_barrier,
    /// The erasure's set is remembered.
    erasure_remembered,
    /// Re-checks go on while an erasure waits for its transactions.
    erasure_waits_aside,
    /// An erasure checks for references.
    erasure_check,
    /// An erasure is written down before it happens.
    erasure_noted,
    /// What a dead process has noted is not entered while somebody holds the name: it may just be on its way back.
    recovery_waits,
    /// A note stays until its places are gone.
    note_stays,
    /// What the ledger says is in the trash, but is not there when its retention is over, is entered as gone.
    gone_entered,
    /// An erasure erases exactly the place that it saw: the same move of the same file.
    erasure_compares,
    /// What has a candidate in the queue is not erased: its worker decides first.
    erasure_skips_queued,
    /// Only what the ledger says was moved is erased.
    erase_settled_only,
    /// What is referenced after its window is reported.
    report,
    /// A report does not wait for the erasure's barrier.
    report_at_once,
    /// A restore by hand holds a candidate of the name under a lease until the ledger has it.
    hand_claims,
    /// An upload never takes a name that lies in the trash.
    upload_avoids_trash,
    /// An upload never takes a name that waits in the queue.
    upload_avoids_queue,
    /// An upload never goes over another file.
    upload_creates_only,
    /// An upload is announced before its file is placed.
    upload_staged,
    /// There is a hold before erasure; otherwise a storage without a trash erases at once.
    hold,
}

impl Protocol {
    /// The protocol as it was before: a barrier that each try begins anew, a move without a fence, a second check at once and then the
    /// settlement; no re-checks; `trash = "off"` erases at once.
    pub const AS_IT_WAS: Protocol = Protocol {
        first_remembered: false,
        missing_looked_again: false,
        fence: false,
        erasing_marked: false,
        chunk_check: false,
        missing_goes_back: false,
        facts_entered: false,
        second_barrier: false,
        second_remembered: false,
        interim_check: false,
        found_takes_the_way: false,
        check_after_return: false,
        recheck: false,
        recheck_claims: false,
        adopt: false,
        erasure_barrier: false,
        erasure_noted: false,
        report: false,
        upload_avoids_trash: false,
        upload_avoids_queue: false,
        hold: false,
        ..Protocol::DESIGN
    };
}
