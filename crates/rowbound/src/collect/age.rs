//! How old a file is, and whether that is old enough.
//!
//! In: what a storage and the database say of a file and its release. Out: why it waits, and for how long. Promise: a file goes only when it was there before its
//! release, or when it has been what it is for `min_age`; and whatever its times say, it waits no longer than that after it was seen first, if it stays the same.
//!
//! A modification time alone is no age: `cp -p`, `rsync -t` and `unzip` give a new file an old one, and cameras a time to come. On folders the change time counts
//! too, which nobody can set; but `chown`, hard links and renames make that new, and the file is no newer for it.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use jiff::Timestamp;

use super::{Collector, StorageState, steps::Groups, verdict::Verdict};
use crate::{
    clock,
    error::Result,
    name::FileName,
    queue::{Candidate, Observation, RETURN, SWEEP, Waits},
    storage::{FileVersion, Since, clocks::Skew},
};

/// Modification times and releases this close cannot be put in order: the database's clock and the storage's differ, kernels stamp files with a
/// coarse clock (up to 10 ms behind), FAT counts in 2 s.
const CLOCK_MARGIN: Duration = Duration::from_secs(2);

/// A return is entered in the ledger not later than this after the file was renamed: a batch's files come back one by one, and are entered together.
const ENTERED: Duration = Duration::from_secs(10);

/// How the notes begin of files that only seem to be new.
pub(crate) const TOUCHED: &str = "its change time (ctime) is new, its content is not";
pub(crate) const AHEAD: &str = "its time lies ahead";

/// What they wait for.
const UNCHANGED: &str = "waits until it was seen unchanged for min_age";

/// Whether a time is one to come, by more than clocks differ.
pub(crate) fn lies_ahead(at: Timestamp, now: Timestamp) -> bool {
    at > clock::after(now, CLOCK_MARGIN)
}

/// What is remembered of how a name's file looked.
fn sights(group: &[Candidate]) -> impl Iterator<Item = &Observation> {
    group.iter().filter_map(|c| c.waits.as_ref()?.sight.as_ref())
}

/// The earliest of that.
pub(super) fn sight(group: &[Candidate]) -> Option<&Observation> {
    sights(group).min_by_key(|s| s.at)
}

/// When a row released a name, at the latest. That a sweep found no row says nothing of when there was one, nor does a return from the trash.
fn released(group: &[Candidate]) -> Option<Timestamp> {
    group.iter().filter(|c| c.event != SWEEP && c.event != RETURN).map(|c| c.released_at).max()
}

/// The ages of a batch's files.
#[derive(Debug)]
pub(super) struct Ages {
    /// The database's time before they were looked at.
    now: Timestamp,
    skew: Skew,
    min_age: Duration,
    /// Files whose change time may be new because they came back from the trash, and when that was entered in the ledger.
    back: HashMap<String, Timestamp>,
}

/// Why a file is not old enough.
enum Young {
    /// It is new, or may be.
    New,
    /// Only its change time is.
    Touched,
    /// Its time lies ahead.
    Ahead(Timestamp),
    /// Its storage does not tell.
    Untold(&'static str),
}

impl Ages {
    /// Of the files that were seen, with their candidates.
    ///
    /// # Errors
    /// The database's.
    pub(super) async fn new(
        c: &Collector,
        state: &StorageState,
        now: Timestamp,
        skew: Skew,
        seen: &BTreeMap<FileName, FileVersion>,
        groups: &Groups,
    ) -> Result<Self> {
        let mut ages = Ages { now, skew, min_age: state.plan.min_age, back: HashMap::new() };
        let touched = |(name, s): (&FileName, &FileVersion)| {
            let released = released(groups.get(name)?);
            matches!(ages.young(s, released, None), Some((Young::Touched, _))).then(|| name.clone())
        };
        let touched: Vec<FileName> = seen.iter().filter_map(touched).collect();
        if !touched.is_empty() {
            let since = clock::before(now, state.plan.min_age.saturating_add(ENTERED));
            ages.back = c.db.came_back(&state.plan.name, &touched, since).await?.into_iter().collect();
        }
        Ok(ages)
    }

    /// What becomes of a file that is not old enough; `None` if it is.
    pub(super) fn too_young(&self, name: &FileName, s: &FileVersion, group: &[Candidate]) -> Option<Verdict> {
        let released = released(group);
        let (why, mut wait) = self.young(s, released, self.back.get(name.as_str()).copied())?;
        let known = sights(group).filter(|sight| sight.content == s.content()).min_by_key(|sight| sight.at);
        let sight = known.cloned().unwrap_or_else(|| Observation { at: self.now, content: s.content().into_owned() });
        if clock::passed(sight.at, self.min_age, self.now) {
            return None;
        }
        wait = wait.min(self.min_age.saturating_sub(clock::age(sight.at, self.now)));
        let note = match (why, released) {
            (Young::New, Some(_)) => "the file is newer than its release: waits until it is older than min_age".to_owned(),
            (Young::New, None) => "the file is newer than min_age: waits until it is older".to_owned(),
            (Young::Touched, _) => format!("{TOUCHED}: {UNCHANGED}"),
            (Young::Ahead(at), _) => format!("{AHEAD}, at {}: {UNCHANGED}", date(at)),
            (Young::Untold(why), _) => format!("{why}: {UNCHANGED}"),
        };
        let waits = Waits { young: true, sight: Some(sight), ..Waits::default() };
        Some(Verdict::Back(wait.max(Duration::from_millis(50)), false, note, Some(waits)))
    }

    /// Why a file is not old enough by its times, and how long it must wait because of them.
    fn young(&self, s: &FileVersion, released: Option<Timestamp>, back: Option<Timestamp>) -> Option<(Young, Duration)> {
        let modified = self.skew.told(s.modified);
        let since = match s.since {
            Since::At(at) => self.skew.told(at),
            Since::Unknown(_) if self.min_age.is_zero() => return None,
            Since::Unknown(why) => return Some((Young::Untold(why), self.min_age)),
        };
        let wait = self.wait(since, released)?;
        if lies_ahead(since, self.now) {
            return Some((Young::Ahead(since), self.min_age));
        }
        if since <= modified || self.wait(modified, released).is_some() {
            return Some((Young::New, wait));
        }
        // A rename of ours is no change.
        let ours = |at: Timestamp| since <= clock::after(at, CLOCK_MARGIN) && at <= clock::after(since, ENTERED);
        (!back.is_some_and(ours)).then_some((Young::Touched, wait))
    }

    /// How long a file must wait that is what it is since a moment; `None` if it need not.
    fn wait(&self, since: Timestamp, released: Option<Timestamp>) -> Option<Duration> {
        if released.is_some_and(|released| clock::passed(since, CLOCK_MARGIN, released)) {
            return None;
        }
        // A time to come is no age.
        let age = clock::age(since, self.now);
        (age < self.min_age).then(|| self.min_age - age)
    }
}

fn date(at: Timestamp) -> String {
    match at == Timestamp::MAX {
        true => "the end of the calendar".to_owned(),
        false => at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::storage::Content;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn ages(now: Timestamp, min_age: Duration) -> Ages {
        Ages { now, skew: Skew::default(), min_age, back: HashMap::new() }
    }

    fn young(modified: Timestamp, released: Timestamp, now: Timestamp, min_age: Duration) -> Option<Duration> {
        let seen = FileVersion::new(1, modified, "1".to_owned());
        ages(now, min_age).young(&seen, Some(released), None).map(|(_, wait)| wait)
    }

    /// Shrine, CarrierWave, Laravel Media Library or unused-media: minimal age; names that are not ASCII; rows that a default manager
    /// hides still count.
    #[test]
    fn a_file_newer_than_its_release_waits_for_min_age() {
        // Written long before its release: at once.
        assert_eq!(young(at(0), at(100), at(110), HOUR), None);
        // Written after it: somebody's new upload.
        assert_eq!(young(at(105), at(100), at(110), HOUR), Some(HOUR - Duration::from_secs(5)));
        assert_eq!(young(at(105), at(100), at(105 + 3600), HOUR), None);
        // Within the clocks' margin counts as after.
        assert!(young(at(99), at(100), at(110), HOUR).is_some());
        // A clock that runs ahead never makes a file older.
        assert_eq!(young(at(500), at(100), at(110), HOUR), Some(HOUR));
        assert_eq!(young(at(105), at(100), at(110), Duration::ZERO), None);
    }

    #[test]
    fn a_file_from_beyond_the_calendar_is_young() {
        // File systems with 64 bits for seconds tell such times: `touch -d @300000000000`.
        for released in [at(100), Timestamp::MAX, Timestamp::MIN] {
            assert_eq!(young(Timestamp::MAX, released, at(110), HOUR), Some(HOUR), "{released}");
        }
        assert_eq!(young(Timestamp::MIN, at(100), at(110), HOUR), None);
        assert_eq!(young(Timestamp::MIN, Timestamp::MIN, at(110), HOUR), None, "old, if not older than its release");
        assert_eq!(young(at(105), at(100), at(110), Duration::MAX), Some(Duration::MAX - Duration::from_secs(5)));
    }

    fn candidate(event: &str, released: Timestamp, sight: Option<Observation>) -> Candidate {
        Candidate {
            value: b"a.jpg".to_vec(),
            event: event.to_owned(),
            released_at: released,
            waits: sight.map(|sight| Waits { young: true, sight: Some(sight), ..Waits::default() }),
            ..Candidate::sample(1)
        }
    }

    fn said(ages: &Ages, s: &FileVersion, group: &[Candidate]) -> Option<(u64, String, Observation)> {
        match ages.too_young(&FileName::parse("a.jpg").unwrap(), s, group)? {
            Verdict::Back(wait, false, note, Some(Waits { young: true, sight: Some(sight), .. })) => Some((wait.as_secs(), note, sight)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_file_that_stays_the_same_is_old_after_min_age() {
        let year = 365 * 86_400;
        let old = FileVersion { content: Content::Begin(5), ..FileVersion::new(1, at(-year), "inode:ctime".to_owned()) };
        // Put there after its release, with an old modification time.
        let copied = FileVersion { since: Since::At(at(60)), ..old.clone() };
        let (wait, note, sight) = said(&ages(at(100), HOUR), &copied, &[candidate("delete", at(0), None)]).unwrap();
        assert_eq!((wait, sight.at, &*sight.content), (3560, at(100), "inode"));
        assert!(note.starts_with("its change time (ctime) is new"), "{note}");
        // Touched again and again: it waits for `min_age` since it was seen first.
        let touched = FileVersion { since: Since::At(at(1700)), version: "inode:later".to_owned(), ..old.clone() };
        let remembered = [candidate("delete", at(0), Some(sight.clone()))];
        assert_eq!(said(&ages(at(1800), HOUR), &touched, &remembered).unwrap().0, 1900);
        assert_eq!(said(&ages(at(3700), HOUR), &touched, &remembered), None);
        // Another file has the name: it is seen for the first time.
        let another = FileVersion { version: "other:later".to_owned(), ..touched };
        let (wait, _, sight) = said(&ages(at(3700), HOUR), &another, &remembered).unwrap();
        assert_eq!((wait, sight.at), (1600, at(3700)));
    }

    #[test]
    fn a_time_ahead_is_no_age_and_no_reason_to_wait_for_ever() {
        let ahead = FileVersion::new(1, "2099-01-01T00:00:00Z".parse().unwrap(), "1".to_owned());
        let (wait, note, sight) = said(&ages(at(100), HOUR), &ahead, &[candidate("delete", at(0), None)]).unwrap();
        assert_eq!((wait, sight.at), (3600, at(100)));
        assert!(note.starts_with("its time lies ahead, at 2099-01-01 00:00:00Z"), "{note}");
        assert_eq!(said(&ages(at(3700), HOUR), &ahead, &[candidate("delete", at(0), Some(sight))]), None);
        // A second ahead is what clocks differ by.
        let (wait, note, _) =
            said(&ages(at(100), HOUR), &FileVersion::new(1, at(101), "1".to_owned()), &[candidate("delete", at(0), None)]).unwrap();
        assert_eq!(wait, 3600);
        assert!(note.starts_with("the file is newer than its release"), "{note}");
    }

    #[test]
    fn what_a_storage_does_not_tell_is_waited_for() {
        let parts =
            FileVersion { since: Since::Unknown("it was uploaded in parts"), ..FileVersion::new(1, at(-900), "\"x-3\"".to_owned()) };
        let (wait, note, sight) = said(&ages(at(100), HOUR), &parts, &[candidate("delete", at(0), None)]).unwrap();
        assert_eq!(wait, 3600);
        assert!(note.starts_with("it was uploaded in parts: "), "{note}");
        assert_eq!(said(&ages(at(3700), HOUR), &parts, &[candidate("delete", at(0), Some(sight))]), None);
        assert_eq!(said(&ages(at(100), Duration::ZERO), &parts, &[candidate("delete", at(0), None)]), None);
    }

    #[test]
    fn a_sweep_releases_nothing() {
        let file = FileVersion::new(1, at(-1000), "1".to_owned());
        assert_eq!(said(&ages(at(100), HOUR), &file, &[candidate("delete", at(0), None)]), None);
        assert_eq!(said(&ages(at(100), HOUR), &file, &[candidate(SWEEP, at(0), None)]).unwrap().0, 2500);
        // Nor does a return from the trash.
        assert_eq!(said(&ages(at(100), HOUR), &file, &[candidate(RETURN, at(0), None)]).unwrap().0, 2500);
        // Beside a release, that one counts.
        let both = [candidate(SWEEP, at(90), None), candidate("delete", at(-2000), None)];
        assert_eq!(said(&ages(at(100), HOUR), &file, &both).unwrap().0, 2500);
        assert_eq!(said(&ages(at(2600), HOUR), &file, &both), None);
    }

    #[test]
    fn our_own_moves_make_nothing_young() {
        let name = FileName::parse("a.jpg").unwrap();
        let back = |entered: i64| Ages { back: HashMap::from([("a.jpg".to_owned(), at(entered))]), ..ages(at(100), HOUR) };
        let file = |ctime: i64| FileVersion { since: Since::At(at(ctime)), ..FileVersion::new(1, at(-86_400), "1".to_owned()) };
        let group = [candidate("delete", at(60), None)];
        assert!(back(61).too_young(&name, &file(60), &group).is_none());
        assert!(back(59).too_young(&name, &file(60), &group).is_none(), "within the clocks' margin");
        assert!(back(50).too_young(&name, &file(60), &group).is_some(), "changed after it came back");
        assert!(back(80).too_young(&name, &file(60), &group).is_some());
        let fresh = FileVersion { since: Since::At(at(60)), ..FileVersion::new(1, at(60), "1".to_owned()) };
        assert!(back(61).too_young(&name, &fresh, &group).is_some(), "it was written then");
    }

    #[test]
    fn a_storages_clock_is_put_right() {
        let ahead = Skew { storage: SignedDuration::from_hours(2), ..Skew::default() };
        let ages = Ages { skew: ahead, ..ages(at(100), HOUR) };
        let file = FileVersion::new(1, at(7200 + 50), "1".to_owned());
        assert_eq!(said(&ages, &file, &[candidate("delete", at(60), None)]), None);
        assert_eq!(said(&ages, &file, &[candidate("delete", at(40), None)]).unwrap().0, 3550);
    }
}
