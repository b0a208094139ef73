//! The guards: which step may follow which, for one name of one batch. Each step consumes the one before it, so that a step that is
//! left out, doubled or swapped is refused even where doing it twice would be harmless.

use serde_json::Value;

/// What a worker has done about one name of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// `claimed`.
    Claimed,
    /// `barrier-passed`.
    Clear,
    /// `looked`.
    Looked(Seen),
    /// `listed`; `again`: a missing original with derivatives was not looked at a second time yet.
    Listed {
        /// What was seen.
        seen: Seen,
        /// Whether the second look is still to come.
        again: bool,
    },
    /// `checked`: held.
    Held(Seen),
    /// `checked`: free.
    Free(Seen),
    /// `confirmed`.
    Confirmed(Seen),
    /// `removed`.
    Removed(Taken),
    /// `rested`.
    Rested,
    /// `second-barrier-passed`.
    Passed,
    /// `checked-again`: free, for good.
    Settled,
    /// `checked-again`: held, it is to come back.
    Due,
    /// `returned`.
    Returned,
    /// Checked once more after the return: held, or free.
    After {
        /// Whether it is referenced.
        held: bool,
    },
    /// The batch is done with it.
    Done,
}

/// What a look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A file.
    There,
    /// No file, but one in the trash.
    InTrash,
    /// Nothing.
    Missing,
}

/// What became of the original of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It lies in the trash.
    Moved,
    /// It is erased.
    Erased,
    /// It was not taken: changed, missing, or the storage failed.
    Not,
    /// There was nothing of it to take, only of its derivatives.
    Nothing,
}

/// How a process works.
#[derive(Clone, Copy, Debug, Default)]
pub struct How {
    /// SQLite, where no lease is confirmed and nothing is checked a second time.
    pub locks: bool,
    /// Whether an original and its derivatives are one unit of a batch.
    pub units: bool,
}

/// Whether a fact is `held`.
pub(super) fn held(fact: &Value) -> Result<bool, String> {
    match fact.as_str() {
        Some("held") => Ok(true),
        Some("free") => Ok(false),
        _ => Err(format!("`{fact}` is neither held nor free")),
    }
}

/// The place of a fact such as `{"moved": "PLACE"}`.
pub(super) fn place<'a>(fact: &'a Value, key: &str) -> Option<&'a str> {
    fact.get(key).and_then(Value::as_str)
}

impl Stage {
    /// The stage after `step` with its fact.
    ///
    /// # Errors
    /// The model does not allow the step here.
    pub fn next(&self, step: &str, fact: &Value, how: How) -> Result<Stage, String> {
        use Stage::*;
        let How { locks, units } = how;
        let next = match (self, step) {
            (Claimed, "barrier-passed") => Clear,
            (Clear, "looked") => Looked(seen(fact)?),
            (Looked(seen), "listed") => {
                let some = fact.as_array().is_some_and(|d| !d.is_empty());
                Listed { seen: *seen, again: some && *seen != Seen::There && units }
            }
            (Listed { seen: first, again: true }, "looked") if seen(fact)? != Seen::There => Listed { seen: *first, again: false },
            (Listed { again: true, .. }, "looked") => Held(Seen::Missing),
            (Listed { seen, again: false }, "checked") => match held(fact)? {
                true => Held(*seen),
                false => Free(*seen),
            },
            (Free(seen), "confirmed") => Confirmed(*seen),
            (Confirmed(Seen::InTrash | Seen::Missing), "removed") if fact.is_null() => Removed(Taken::Nothing),
            (Confirmed(_), "removed") => Removed(removed(fact)?),
            (Free(Seen::InTrash) | Removed(Taken::Moved | Taken::Nothing), "rested") if !locks => Rested,
            // What lies in the trash already is checked behind a barrier of its own.
            (Listed { seen: Seen::InTrash, again: false }, "rested" | "resumed") if !locks && !units => Rested,
            (Held(Seen::InTrash), "returned") => Returned,
            (Rested, "second-barrier-passed") => Passed,
            (Rested, "interim-check") => match held(fact)? {
                true => Due,
                // Not final: a transaction is open still.
                false => Rested,
            },
            (Passed, "checked-again") => match held(fact)? {
                true => Due,
                false => Settled,
            },
            (Due, "returned") => Returned,
            (Returned, "checked-again") => After { held: held(fact)? },
            (stage, "settled") => return stage.settled(fact, how),
            _ => return Err(format!("`{step}` does not follow {self:?}")),
        };
        Ok(next)
    }

    /// Whether its batch has yet to find out what becomes of it before it is moved.
    pub fn is_undecided(&self) -> bool {
        use Stage::*;
        matches!(self, Clear | Looked(_) | Listed { seen: Seen::There, .. } | Confirmed(_))
    }

    /// Whether a process that was killed now may have written down its end just before. `decided`: its batch knew what becomes of all that is not moved.
    pub fn may_have_ended(&self, decided: bool, locks: bool) -> bool {
        use Stage::*;
        match self {
            Settled | Returned | After { .. } => true,
            Removed(Taken::Moved) => decided && locks,
            Claimed | Listed { .. } | Held(_) | Free(_) | Removed(Taken::Not | Taken::Erased | Taken::Nothing) => decided,
            _ => false,
        }
    }

    /// Which outcome may end a name here.
    fn settled(&self, fact: &Value, How { locks, units }: How) -> Result<Stage, String> {
        use Stage::*;
        if let Some(why) = fact.get("back").and_then(Value::as_str) {
            return self.back(why, units);
        }
        let allowed = match (self, fact.as_str().unwrap_or_default()) {
            // Names that are refused, protected or of another storage need no look.
            (Claimed | Clear, outcome) => !matches!(outcome, "kept" | "trashed" | "erased" | "missing" | "lost"),
            (Held(Seen::There) | Settled | After { held: true }, "lost") => true,
            (Removed(_) | Held(_) | Free(_), "lost") => true,
            (Held(Seen::There) | After { held: true }, "kept") => true,
            // The engine announces what comes back, before and after: whoever claims that looks anew.
            (Returned, "kept") => locks || !units,
            (Due | Returned, "dangling") => !units,
            (Listed { seen: Seen::Missing, again: false }, "missing") => !units,
            (Held(Seen::Missing) | Free(Seen::Missing), "missing") => true,
            (Settled, "trashed") => true,
            (Removed(Taken::Moved | Taken::Nothing) | Free(Seen::InTrash), "trashed") => locks,
            (Removed(Taken::Erased | Taken::Nothing), "erased") => true,
            (Free(Seen::There), outcome) => matches!(outcome, "shadow" | "protected"),
            _ => false,
        };
        if allowed { Ok(Done) } else { Err(format!("settling as {fact} does not follow {self:?}")) }
    }

    /// Why a name may go back to the queue here.
    fn back(&self, why: &str, units: bool) -> Result<Stage, String> {
        use Stage::*;
        let allowed = match self {
            // An error, of the batch or of the file; or it is due later for another reason than a transaction.
            Claimed | Looked(_) | Confirmed(_) if !units && why == "failed" => true,
            Looked(_) | Listed { .. } | Free(_) | Removed(Taken::Not) if !units && why == "later" => true,
            Claimed => why == "barrier",
            Clear => why == "failed",
            Looked(_) => why == "failed",
            Listed { .. } => why == "failed",
            Held(_) => matches!(why, "there" | "failed" | "commit"),
            Free(_) => matches!(why, "young" | "lease" | "referenced" | "failed" | "commit"),
            Confirmed(_) => why == "lease",
            Removed(_) => matches!(why, "missing" | "changed" | "failed" | "commit" | "nothing"),
            Rested => why == "stopped",
            Passed | Due => why == "failed",
            Settled => why == "commit",
            Returned => matches!(why, "failed" | "commit"),
            After { held } => (!held && why == "released") || why == "commit",
            Done => false,
        };
        if allowed { Ok(Done) } else { Err(format!("going back because of `{why}` does not follow {self:?}")) }
    }
}

fn seen(fact: &Value) -> Result<Seen, String> {
    match fact {
        Value::Null => Ok(Seen::Missing),
        Value::String(_) => Ok(Seen::There),
        other if place(other, "trash").is_some() => Ok(Seen::InTrash),
        other => Err(format!("`{other}` is no look")),
    }
}

fn removed(fact: &Value) -> Result<Taken, String> {
    match fact {
        Value::String(s) if s == "erased" => Ok(Taken::Erased),
        Value::String(s) if matches!(s.as_str(), "changed" | "missing" | "failed") => Ok(Taken::Not),
        other if place(other, "moved").is_some() => Ok(Taken::Moved),
        other => Err(format!("`{other}` is no removal")),
    }
}
