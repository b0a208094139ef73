//! What our own rows hold as words or JSON, the same in every database.
//!
//! In: a row's text. Out: its value. Promise: a text that cannot be read is an error, never "nothing".

use std::collections::BTreeMap;

use crate::{
    error::{Error, Kind, Result},
    heartbeat::{Heartbeat, LastHeartbeat},
    ledger::Upkeep,
    queue::{Outcome, PutBack, Waits},
};

/// The transactions that a candidate waits for, as its row says it.
pub(crate) fn read_waits(candidate: i64, text: Option<&str>) -> Result<Option<Waits>> {
    let Some(text) = text else { return Ok(None) };
    // Not read as "waits for nothing": then its file could go before their end.
    serde_json::from_str(text).map(Some).map_err(|e| {
        Error::new(Kind::Database, "what a candidate waits for cannot be read")
            .with("candidate", candidate)
            .because(e)
            .hint("was it written by a newer rowbound, or by hand? With NULL in its column `waits` it waits anew")
    })
}

/// How the text of a candidate begins that waits for no transaction.
pub(crate) const YOUNG: &str = r#"{"young":true"#;

/// A put-back, with what it waits for where that is its own.
pub(crate) type Back<'a> = (&'a PutBack, Option<String>);

/// Put-backs by what they wait for, as it is stored: one list for many candidates, which may be long. Apart: what
/// stands for one candidate alone.
pub(crate) fn by_waits(back: &[PutBack]) -> Result<BTreeMap<Option<String>, Vec<Back<'_>>>> {
    let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for b in back {
        let text = b.waits.as_ref().map(serde_json::to_string).transpose();
        let text = text.map_err(|e| Error::new(Kind::Database, "what a candidate waits for cannot be written").because(e))?;
        match b.waits.as_ref().is_some_and(|w| w.sight.is_some() || w.ended > 0 || w.apart > 0) {
            true => groups.entry(None).or_default().push((b, text)),
            false => groups.entry(text).or_default().push((b, None)),
        }
    }
    Ok(groups)
}

/// A heartbeat as it is stored.
pub(crate) fn heartbeat_text(beat: &Heartbeat) -> Result<String> {
    serde_json::to_string(beat).map_err(|e| Error::new(Kind::Bug, "a heartbeat cannot be written").because(e))
}

/// A heartbeat of so many seconds ago.
pub(crate) fn read_heartbeat((seconds, record): (i64, String)) -> Result<LastHeartbeat> {
    let beat = serde_json::from_str(&record)
        .map_err(|e| Error::new(Kind::Database, "a heartbeat cannot be read: was it a newer rowbound's?").because(e))?;
    Ok(LastHeartbeat { beat, seconds: u64::try_from(seconds).unwrap_or(0) })
}

/// What is known of a storage's trash, as its row says it.
pub(crate) fn read_upkeep(storage: &str, text: &str) -> Result<Upkeep> {
    serde_json::from_str(text).map_err(|e| {
        Error::new(Kind::Database, "what is known of a storage's trash cannot be read")
            .with("storage", storage)
            .because(e)
            .hint("was it written by a newer rowbound, or by hand?")
    })
}

/// The same, as it is stored.
pub(crate) fn write_upkeep(storage: &str, upkeep: &Upkeep) -> Result<String> {
    serde_json::to_string(upkeep)
        .map_err(|e| Error::new(Kind::Database, "what is known of a storage's trash cannot be written").with("storage", storage).because(e))
}

/// The words of all outcomes, as literals. None needs an escape.
pub(crate) fn outcomes() -> String {
    Outcome::ALL.map(|(o, _)| format!("'{}'", o.word())).join(", ")
}

/// Whether a constraint lets every outcome in.
pub(crate) fn knows_outcomes(check: &str) -> bool {
    Outcome::ALL.iter().all(|(o, _)| check.contains(&format!("'{}'", o.word())))
}

/// Reads a word of the ledger.
pub(crate) fn read_outcome(word: &str) -> Result<Outcome> {
    Outcome::from_word(word)
        .ok_or_else(|| Error::new(Kind::Database, "the ledger holds an outcome that this version does not know").with("outcome", word))
}
