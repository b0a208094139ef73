//! Bindings that are attached, and not in the plan any more.
//!
//! In: the record, the plan's bindings, the words of `--drop`. Out: the bindings that go, or an error with the flags that drop them. Promise: a
//! binding goes only if the person has listed it.

use crate::{
    binding::Column,
    capture::{Bound, Installation},
    error::{Error, Kind, Result},
};

/// The bindings that are attached and not in the plan, each of which must be among `drop`: nobody drops what is another program's without knowing it. `record` is `before` with
/// what was renamed under its new name.
pub(super) fn leaving(
    before: Option<&Installation>,
    record: Option<&Installation>,
    bound: &[Bound],
    drop: &[String],
) -> Result<Vec<String>> {
    let ever: Vec<String> = before.iter().flat_map(|r| r.bindings.keys().cloned()).collect();
    let active = |r: &Installation, id: &i32| r.active.contains(id);
    let attached: Vec<String> =
        record.iter().flat_map(|r| r.bindings.iter().filter(|(_, id)| active(r, id)).map(|(key, _)| key.clone())).collect();
    let leaving: Vec<String> = attached.iter().filter(|key| bound.iter().all(|b| b.binding.key() != **key)).cloned().collect();
    for word in drop {
        let meant = |keys: &[String]| keys.iter().any(|key| is_meant(key, word));
        // What was dropped before is gone already, and what was renamed need not go.
        if meant(&leaving) || meant(&ever) && !meant(&attached) {
            continue;
        }
        return Err(match meant(&attached) {
            true => Error::new(Kind::Config, "this binding is to be dropped, but is in the plan")
                .with("drop", word)
                .hint("take it out of rowbound.toml (or out of the program) first"),
            false => Error::new(Kind::Config, "no such binding is attached").with("drop", word).hint(match &attached[..] {
                [] => "nothing is attached to this database: leave it out".to_owned(),
                attached => format!("attached are: {}", attached.join(", ")),
            }),
        });
    }
    let kept: Vec<&String> = leaving.iter().filter(|key| !drop.iter().any(|word| is_meant(key, word))).collect();
    if kept.is_empty() {
        return Ok(leaving);
    }
    let mut error = Error::new(Kind::Drift, "this binding is attached, but not in the plan: its references would no longer count");
    for key in &kept {
        error = error.with("binding", key);
    }
    let flags: Vec<String> = kept.iter().map(|key| drop_flag(key)).collect();
    Err(error.hint(format!(
        "put it back (into rowbound.toml, or among the fields of this program, if it is another program's); or, if its column or table is gone or no file is \
         named there any more: rowbound attach {}",
        flags.join(" ")
    )))
}

/// Whether `word` means the binding of this key: its column, its query's name, or the key itself.
pub fn is_meant(key: &str, word: &str) -> bool {
    let what = key.rsplit_once(" -> ").map_or(key, |(what, _)| what);
    let column = || Column::parse(word).is_ok_and(|column| column.to_string() == what);
    key == word || what == word || what.strip_prefix("query ") == Some(word) || column()
}

/// What to type to have the binding of this key dropped.
pub(crate) fn drop_flag(key: &str) -> String {
    let what = key.rsplit_once(" -> ").map_or(key, |(what, _)| what);
    let word = what.strip_prefix("query ").unwrap_or(what);
    match word.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-')) {
        true => format!("--drop {word}"),
        false => format!("--drop '{}'", word.replace('\'', "'\\''")),
    }
}
