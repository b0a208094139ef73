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
    /// The stage after `step` with its fact. `locks`: SQLite, where no lease is confirmed and nothing is checked a second time.
    ///
    /// # Errors
    /// The model does not allow the step here.
    pub fn next(&self, step: &str, fact: &Value, locks: bool) -> Result<Stage, String> {
        use Stage::*;
        let next = match (self, step) {
            (Claimed, "barrier-passed") => Clear,
            (Clear, "looked") => Looked(seen(fact)?),
            (Looked(seen), "listed") => {
                let some = fact.as_array().is_some_and(|d| !d.is_empty());
                Listed { seen: *seen, again: some && *seen != Seen::There }
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
            (stage, "settled") => return stage.settled(fact, locks),
            _ => return Err(format!("`{step}` does not follow {self:?}")),
        };
        Ok(next)
    }

    /// Which outcome may end a name here.
    fn settled(&self, fact: &Value, locks: bool) -> Result<Stage, String> {
        use Stage::*;
        if let Some(why) = fact.get("back").and_then(Value::as_str) {
            return self.back(why);
        }
        let allowed = match (self, fact.as_str().unwrap_or_default()) {
            // Names that are refused, protected or of another storage need no look.
            (Claimed | Clear, outcome) => !matches!(outcome, "kept" | "trashed" | "erased" | "missing" | "lost"),
            (Held(Seen::There) | Settled | After { held: true }, "lost") => true,
            (Removed(_) | Held(_) | Free(_), "lost") => true,
            (Held(Seen::There) | After { held: true }, "kept") => true,
            (Returned, "kept") => locks,
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
    fn back(&self, why: &str) -> Result<Stage, String> {
        use Stage::*;
        let allowed = match self {
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
