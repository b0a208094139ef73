//! Candidates: names that may have become unreferenced, and what becomes of them.
//!
//! In: rows that capture, stage or sweep wrote. Out: a [`Settlement`], which removes what is decided and puts back
//! what is not. Promise: a candidate leaves the queue only through a settlement that says why, or that found no name in its value.

use std::time::Duration;

use jiff::Timestamp;
use rand::Rng;
use serde::{Deserialize, Serialize};

/// The event of a candidate whose file was made from another one, which went.
pub const DERIVATIVE: &str = "derivative";

/// The event of a candidate whose file comes back from the trash, or was found there.
pub const RETURN: &str = "return";

/// The ledger's note of a file that was moved to the trash and came back before its candidate was settled.
pub(crate) const CAME_BACK: &str = "a row referenced it meanwhile: it came back from the trash";

/// The event of a candidate whose file a sweep found without a row: no release, so that its file must be as old as the storage says.
pub const SWEEP: &str = "sweep";

/// A due candidate, claimed by one worker until its lease runs out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its number in this database.
    pub id: i64,
    /// The binding whose column released it; `None` when a stage or a sweep announced it or its original went, then `value` is a name.
    pub binding: Option<i32>,
    /// The column's old value, as it stood in the row. Bytes, because a database may hold what is not UTF-8.
    pub value: Vec<u8>,
    /// The row that released it: its primary key as text, a JSON array where the key has several columns. Of a derivative: its original's name.
    pub key: Option<String>,
    /// What happened to the row: `delete`, `update`, `truncate`, `cascade`, `replace`; `stage`: it was about to be
    /// written; `direct`: a client was allowed to write it; `release`: the application released it; `sweep`: no row referenced it; `derivative`: its original went, or it was about to be
    /// made of one; `return`: it came back from the trash, or was found there.
    pub event: String,
    /// When the row released it, by the database's clock. At the latest the true moment, perhaps earlier (the start of
    /// the transaction).
    pub released_at: Timestamp,
    /// How many times it was tried before without being decided or put back as too early: each claim counts, and one whose worker died stays counted.
    pub attempts: u32,
    /// Whether its value is a name that was opened up out of a value with many names.
    pub opened: bool,
    /// The transactions that it waits for, remembered when it was put back.
    pub waits: Option<Waits>,
}

impl Candidate {
    /// How many tries had no end, as far as anybody saw: their workers died, perhaps of this candidate.
    pub(crate) fn unended(&self) -> u32 {
        self.attempts.saturating_sub(self.waits.as_ref().map_or(0, |w| w.ended))
    }

    /// One that nobody has tried, for tests.
    #[cfg(test)]
    pub(crate) fn sample(id: i64) -> Self {
        Candidate {
            id,
            binding: None,
            value: id.to_string().into_bytes(),
            key: None,
            event: "delete".to_owned(),
            released_at: Timestamp::UNIX_EPOCH,
            attempts: 0,
            opened: false,
            waits: None,
        }
    }
}

/// The transactions whose end a candidate waits for: those that were open at one moment. They are remembered with the candidate and never noted anew, so
/// that transactions which overlap for ever delay a deletion but do not prevent it.
///
/// A candidate whose file was too young is remembered too, with how the file looked: `young` comes first in the text, so that a database can tell those that
/// wait for no transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waits {
    /// Whether no transactions were noted: its file was too young, and the first barrier is noted when it comes due.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub young: bool,
    /// Whether its file was moved to the trash before they were noted: then they are the second barrier, else the first.
    pub moved: bool,
    /// Their keys, which tell a transaction from all others that ever were on this server.
    pub transactions: Vec<String>,
    /// How its file looked when it was first found too young.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sight: Option<Observation>,
    /// Of how many of its failed tries the end was seen. One that had no end may have ended its worker.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ended: u32,
    /// How many tries there had been when it was last set apart because of that; 0: it was not.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub apart: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// What a file looked like. One that is still the same after `min_age` is old, whatever its times say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// When, by the database's clock.
    pub at: Timestamp,
    /// Tells its content from any other.
    pub content: String,
}

/// Which candidates a worker asks for.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The storage's name.
    pub storage: String,
    /// Numbers of the bindings on that storage.
    pub bindings: Vec<i32>,
    /// How long a released name waits before it is looked at.
    pub grace: Duration,
    /// At most so many.
    pub limit: u32,
    /// Who claims: unique per worker and process.
    pub owner: String,
    /// How long the claim holds. After that another worker may take it.
    pub lease: Duration,
    /// Whether candidates that wait for another try are taken before they are due (`collect --retry-now`).
    pub not_due_too: bool,
    /// SQLite, where no lease is written: whether the try is counted in the candidates' rows. Elsewhere it always is.
    pub counted: bool,
}

/// What was decided of a candidate. The ledger keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The file was erased.
    Erased,
    /// The file lies in the trash.
    Trashed,
    /// The trash was emptied of the file.
    Purged,
    /// The file came back from the trash, because a row references it or a person asked.
    Restored,
    /// A row references it, but the file lies in the trash, and Rowbound does not bring it back by itself: it is kept there until a person decides.
    Dangling,
    /// A row references it: the file stays.
    Kept,
    /// A `keep` pattern protects it: the file stays.
    Protected,
    /// There was no such file.
    Missing,
    /// The value is no name that may reach a storage, or names something other than a plain file: nothing was touched.
    Refused,
    /// The value references no file of the storage (a URL of another host).
    Foreign,
    /// The binding runs in shadow mode: the file would have gone.
    Shadow,
    /// The binding is no longer in the plan: the file stays.
    Unbound,
    /// Another candidate of the same batch had the same name and its outcome.
    Duplicate,
    /// The value held many names: each became a candidate of its own.
    Opened,
}

impl Outcome {
    /// Every outcome, with the one sentence that help, docs and `history` show.
    pub const ALL: [(Outcome, &'static str); 14] = [
        (Outcome::Erased, "the file was erased"),
        (Outcome::Trashed, "the file was moved to the trash"),
        (Outcome::Purged, "the trash was emptied of the file"),
        (Outcome::Restored, "the file came back from the trash"),
        (Outcome::Dangling, "a row references it, but it lies in the trash, and is kept there: `rowbound restore NAME`"),
        (Outcome::Kept, "a row still references it: the file stays"),
        (Outcome::Protected, "a `keep` pattern protects it: the file stays"),
        (Outcome::Missing, "there was no such file"),
        (Outcome::Refused, "not a name that may be deleted: nothing was touched"),
        (Outcome::Foreign, "refers to no file of this storage"),
        (Outcome::Shadow, "shadow mode: the file would have gone"),
        (Outcome::Unbound, "its binding is no longer in the plan: the file stays"),
        (Outcome::Duplicate, "settled together with an equal candidate"),
        (Outcome::Opened, "its names became candidates of their own"),
    ];

    /// The word that stands in the ledger: the variant's name in kebab case.
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Erased => "erased",
            Outcome::Trashed => "trashed",
            Outcome::Purged => "purged",
            Outcome::Restored => "restored",
            Outcome::Dangling => "dangling",
            Outcome::Kept => "kept",
            Outcome::Protected => "protected",
            Outcome::Missing => "missing",
            Outcome::Refused => "refused",
            Outcome::Foreign => "foreign",
            Outcome::Shadow => "shadow",
            Outcome::Unbound => "unbound",
            Outcome::Duplicate => "duplicate",
            Outcome::Opened => "opened",
        }
    }

    /// The outcome that `word` stands for.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().map(|(o, _)| o).find(|o| o.word() == word)
    }
}

/// A candidate that is decided: it leaves the queue and enters the ledger.
#[derive(Debug, Clone)]
pub struct Decision {
    /// The candidate.
    pub id: i64,
    /// What was decided.
    pub outcome: Outcome,
    /// The name it resolved to, where that differs from its value.
    pub name: Option<String>,
    /// The file's size in bytes, where one was seen.
    pub size: Option<u64>,
    /// Where in the trash it lies.
    pub place: Option<String>,
    /// Why, in a few words, where the outcome does not say it all.
    pub note: Option<String>,
}

/// A candidate that is not decided: it goes back and is due again later.
#[derive(Debug, Clone)]
pub struct PutBack {
    /// The candidate.
    pub id: i64,
    /// How long until it is due again.
    pub wait: Duration,
    /// How many tries count by now, as in [`Candidate::attempts`]: one more if this one failed.
    pub attempts: u32,
    /// The error, or what it waits for.
    pub note: String,
    /// Transactions that it waits for, to be remembered; `None` forgets those that were.
    pub waits: Option<Waits>,
}

/// A file made from one that went: a candidate to be written together with the settlement, due at once, with the event `derivative`,
/// no binding and the original's name as its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Derived {
    /// Its name.
    pub name: crate::name::FileName,
    /// The file that it was made from.
    pub original: crate::name::FileName,
}

/// A name out of a candidate whose value holds many: a candidate to be written together with the settlement, with that candidate's binding, key, event and
/// time of release, due as a fresh one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The candidate, which this settlement settles as [`Outcome::Opened`].
    pub id: i64,
    /// The name.
    pub name: crate::name::FileName,
}

/// So many bytes of values a claim takes at most, but at least one candidate: a value may be a text of megabytes.
pub const CLAIM_BYTES: usize = 16 << 20;

/// The end of a batch: written in one transaction.
#[derive(Debug, Clone, Default)]
pub struct Settlement {
    /// The claimant, as in [`Claim::owner`]: what another worker has claimed meanwhile is left alone.
    pub owner: String,
    /// The storage's name.
    pub storage: String,
    /// Leave the queue.
    pub settled: Vec<Decision>,
    /// Leave it without an entry in the ledger: values with many names that held none, of which nothing is to be told.
    pub empty: Vec<i64>,
    /// Stay in it.
    pub back: Vec<PutBack>,
    /// Enter it. One that is there already enters again: it is settled as a duplicate.
    pub derived: Vec<Derived>,
    /// Enter it, if the claimant still holds the candidate.
    pub opened: Vec<Opened>,
}

/// 5 s, 10 s, 20 s, .. up to 1 h, a quarter more or less, so that what failed together does not come back together.
pub(crate) fn backoff(attempts: u32) -> Duration {
    let base = Duration::from_secs(5).saturating_mul(1 << attempts.min(10)).min(Duration::from_secs(3600));
    base.mul_f64(rand::rng().random_range(0.75..1.25))
}

/// A value as lists show it: what is a text of megabytes ends after some hundred characters.
pub(crate) fn shortened(value: &[u8]) -> String {
    const SHOWN: usize = 1_100;
    if value.len() <= SHOWN {
        return String::from_utf8_lossy(value).into_owned();
    }
    let begin: String = String::from_utf8_lossy(&value[..400]).chars().take(80).collect();
    format!("{begin}.. ({} bytes)", value.len())
}

/// A candidate to be written by an upload or a sweep.
#[derive(Debug, Clone)]
pub struct Announce {
    /// The storage's name.
    pub storage: String,
    /// The file's name.
    pub name: crate::name::FileName,
    /// `stage`, `direct`, `derivative`, `release`, `return` or `sweep`.
    pub event: &'static str,
    /// How long from now until it is due.
    pub wait: Duration,
}

/// What waits in the queue of one storage.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Backlog {
    /// Candidates in all.
    pub total: u64,
    /// Those whose grace has passed and that nobody holds.
    pub due: u64,
    /// Those that wait for another try after at least one failure.
    pub failing: u64,
    /// Uploads that wait for their rows, and files that came back and are looked at once more: nothing is left undone about them.
    pub staged: u64,
    /// The age of the oldest, in seconds, without uploads that wait for their rows.
    pub oldest_seconds: Option<u64>,
    /// For how many seconds the one that is due for longest has been due; `None` if nothing is.
    pub due_seconds: Option<u64>,
    /// A few of those that fail or wait: first those that fail, the oldest first.
    pub sample: Vec<Waiting>,
}

/// One candidate as `status` and `explain` show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// Its number.
    pub id: i64,
    /// The binding that released it.
    pub binding: Option<i32>,
    /// Its value; bytes that are not UTF-8 are shown as U+FFFD.
    pub value: String,
    /// The row's key.
    pub key: Option<String>,
    /// What happened to the row.
    pub event: String,
    /// When.
    pub released_at: Timestamp,
    /// When it is due (again), if it was announced, put back or is claimed.
    pub due_at: Option<Timestamp>,
    /// Whether a worker has claimed it; never on SQLite, where no claim is written.
    #[serde(skip)]
    pub claimed: bool,
    /// Failed attempts.
    pub attempts: u32,
    /// The last error, or what it waits for.
    pub note: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_its_word() {
        for (outcome, _) in Outcome::ALL {
            assert_eq!(Outcome::from_word(outcome.word()), Some(outcome));
            assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.word());
        }
        assert_eq!(Outcome::from_word("gone"), None);
    }

    #[test]
    fn backoff_grows_to_an_hour_and_never_overflows() {
        for n in [0, 1, 5, 10, 1000, u32::MAX] {
            let b = backoff(n);
            assert!(b >= Duration::from_secs(3) && b <= Duration::from_secs(4500), "{n}: {b:?}");
        }
        assert!(backoff(12) > Duration::from_secs(2000));
    }
}
