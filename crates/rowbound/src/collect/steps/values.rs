//! A candidate's value -> the names that it stands for.

use std::collections::BTreeSet;

use crate::{
    binding::Resolved,
    capture::Bound,
    collect::{
        StorageState,
        verdict::{Decided, Verdict},
    },
    name::{FileName, Refused},
    queue::{Candidate, Opened, Outcome},
};

/// The binding of a candidate that is to be opened up: its value may hold many names.
pub(super) fn many<'b>(bound: &'b [Bound], c: &Candidate) -> Option<&'b Bound> {
    bound.iter().find(|b| !c.opened && Some(b.id) == c.binding && b.binding.reading.is_many())
}

/// Names out of a value with many become candidates of their own, which then take the way of all others.
pub(super) fn open_up(b: &Bound, c: &Candidate, decided: &mut Decided) {
    let mut names = BTreeSet::new();
    let (mut refused, mut unreadable, mut foreign) = (None, None, false);
    b.binding.each_name(&c.value, |found| match found {
        Resolved::Name(name) => drop(names.insert(name)),
        Resolved::Nothing => foreign = true,
        Resolved::Refused(why) => refused = Some(why),
        Resolved::Unreadable(why) => unreadable = Some(why),
    });
    let row = c.key.as_ref().map_or_else(String::new, |key| format!(" of row {key}"));
    let verdict = match (unreadable, refused, names.len()) {
        (Some(why), ..) => {
            Verdict::noted(Outcome::Refused, format!("the value{row} in {} {why}: the files that it referenced stay", b.binding.column))
        }
        (None, Some(why), 0) => Verdict::noted(Outcome::Refused, format!("the value{row} in {} holds a name that {why}", b.binding.column)),
        (None, None, 0) if foreign => Verdict::plain(Outcome::Foreign),
        // An edit of a text without pictures.
        (None, None, 0) => return decided.empty(c),
        (None, refused, n) => {
            let also = refused.map_or_else(String::new, |why| format!("; another {why} and is left alone"));
            Verdict::noted(Outcome::Opened, format!("{n} names{also}"))
        }
    };
    if matches!(verdict, Verdict::Settle(Outcome::Opened, ..)) {
        decided.settlement.opened.extend(names.into_iter().map(|name| Opened { id: c.id, name }));
    }
    decided.one(c, None, verdict);
}

/// The name that a candidate stands for, or what becomes of it without a look at the storage.
pub(super) fn resolve(bound: &[Bound], state: &StorageState, c: &Candidate) -> Result<FileName, Verdict> {
    let resolved = match c.binding {
        None => {
            match std::str::from_utf8(&c.value).map_err(|_| Refused::NotUtf8).and_then(|n| FileName::of(state.plan.location.names(), n)) {
                Ok(name) => Resolved::Name(name),
                Err(why) => Resolved::Refused(why),
            }
        }
        Some(id) => match bound.iter().find(|b| b.id == id) {
            Some(b) => b.binding.resolve(&c.value),
            None => return Err(Verdict::plain(Outcome::Unbound)),
        },
    };
    match resolved {
        Resolved::Name(name) if state.keep.protects(&name) => Err(Verdict::plain(Outcome::Protected)),
        Resolved::Name(name) => Ok(name),
        Resolved::Nothing => Err(Verdict::plain(Outcome::Foreign)),
        Resolved::Refused(why) => Err(Verdict::noted(Outcome::Refused, format!("the name {why}"))),
        Resolved::Unreadable(why) => Err(Verdict::noted(Outcome::Refused, format!("the value {why}"))),
    }
}
