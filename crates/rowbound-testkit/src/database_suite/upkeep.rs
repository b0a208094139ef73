//! Who keeps a storage's trash, and what is known of it.

use std::time::Duration;

use jiff::Timestamp;
use rowbound::{
    Kind,
    database::Dialect,
    delivery::{DEFAULT_OUTCOMES, DeliveryClaim},
    ledger::{Erasing, Filter, NewEntry, Upkeep},
    queue::Outcome,
};

use super::{Attached, DEADLINE, Fixture, ok, refused};
use crate::world::{World, wait_until};

const HOUR: Duration = Duration::from_secs(3600);

async fn attached(f: &Fixture) -> Attached {
    f.docs(&[]).await;
    f.attach(&["doc.file"]).await
}

/// Where only one process works at all, nothing is written down of who it is.
fn one_worker(f: &Fixture) -> bool {
    f.db.dialect() == Dialect::Sqlite
}

fn entry(name: &str, outcome: Outcome) -> NewEntry {
    NewEntry { storage: "default".into(), name: name.into(), outcome, event: "trash", size: Some(5), place: None, note: None }
}

fn erasing(name: &str) -> Erasing {
    Erasing { name: World::file_name(name), place: format!("1/{name}"), size: u64::MAX }
}

/// One at a time keeps a storage's trash; it may take it again, and give it back. Another storage's is another's matter.
pub async fn a_trash_is_kept_by_one(f: &Fixture) {
    let a = attached(f).await;
    let db = &a.database;
    assert_eq!(ok(db.upkeep("default").await), None, "nobody has kept it");
    let given_back = ok(db.keep("default", "one", Duration::ZERO).await);
    assert_eq!(given_back.is_some(), one_worker(f), "what nobody has cannot be given back");
    assert_eq!(ok(db.keep("default", "one", HOUR).await), Some(Upkeep::default()));
    assert_eq!(ok(db.keep("default", "one", HOUR).await), Some(Upkeep::default()), "once more");
    assert_eq!(ok(db.keep("two", "another", HOUR).await), Some(Upkeep::default()));
    if one_worker(f) {
        return;
    }
    assert_eq!(ok(db.upkeep("default").await), Some(Upkeep::default()));
    let other = f.open().await;
    assert_eq!(ok(other.keep("default", "another", HOUR).await), None, "one has it");
    assert_eq!(ok(other.keep("default", "another", Duration::ZERO).await), None, "nor can another give it back");
    assert_eq!(ok(db.keep("two", "one", HOUR).await), None);
    assert_eq!(ok(db.keep("default", "one", HOUR).await), Some(Upkeep::default()), "it is still the first one's");

    let known = Upkeep { took: 7, ..Upkeep::default() };
    assert!(ok(db.kept("default", "one", &known, &[]).await));
    assert_eq!(ok(db.keep("default", "one", Duration::ZERO).await), Some(known.clone()), "given back with what is known");
    assert_eq!(ok(db.keep("default", "one", Duration::ZERO).await), None, "it has it no more");
    assert!(!ok(db.kept("default", "one", &Upkeep::default(), &[]).await));
    assert_eq!(ok(other.keep("default", "another", HOUR).await), Some(known), "the next one knows it too");
    assert_eq!(ok(db.keep("default", "one", HOUR).await), None);
}

/// Of several that ask at once for what nobody has kept yet, one gets it; and so it is with what was given back.
pub async fn of_several_that_ask_at_once_one_keeps(f: &Fixture) {
    if one_worker(f) {
        return;
    }
    let a = attached(f).await;
    for round in 0..6 {
        // Twice in a row for the same storage: first there is no row, then one that is free.
        let storage = format!("storage {}", round / 2);
        let asking = (0..6).map(|n| {
            let (db, storage) = (a.database.clone(), storage.clone());
            tokio::spawn(async move {
                let owner = format!("owner {n}");
                ok(db.keep(&storage, &owner, HOUR).await).map(|_| owner)
            })
        });
        let mut got = Vec::new();
        for asked in asking.collect::<Vec<_>>() {
            got.extend(asked.await.expect("a task panicked"));
        }
        assert_eq!(got.len(), 1, "{storage}: {got:?}");
        assert!(ok(a.database.keep(&storage, &got[0], Duration::ZERO).await).is_some());
    }
}

/// Who does not come back loses it when its lease runs out, and writes nothing from then on.
pub async fn a_right_that_ran_out_is_taken_over(f: &Fixture) {
    if one_worker(f) {
        return;
    }
    let a = attached(f).await;
    let db = &a.database;
    let known = Upkeep { took: 1, erasing: vec![erasing("a.jpg")], ..Upkeep::default() };
    assert!(ok(db.keep("default", "one", HOUR).await).is_some());
    assert!(ok(db.kept("default", "one", &known, &[]).await));
    assert!(ok(db.keep("default", "one", Duration::from_millis(300)).await).is_some(), "a lease may end earlier, too");
    // Nobody else has asked yet.
    wait_until(DEADLINE, "its lease runs out", async || !ok(db.kept("default", "one", &known, &[]).await)).await;
    let taken = ok(db.keep("default", "another", HOUR).await);
    assert_eq!(taken, Some(known.clone()), "it is free, with what the first one has written");
    assert!(!ok(db.kept("default", "one", &Upkeep::default(), &[entry("a.jpg", Outcome::Purged)]).await));
    assert_eq!(ok(db.keep("default", "one", HOUR).await), None);
    assert_eq!(ok(db.keep("default", "one", Duration::ZERO).await), None);
    assert_eq!(ok(db.upkeep("default").await), Some(known.clone()));
    assert_eq!(ok(db.history(&Filter::default()).await), [], "what it would have entered is not there either");
    assert!(ok(db.kept("default", "another", &known, &[]).await));
}

/// What is known of a trash comes back as it was written, whatever names are in it, and how long it may be.
pub async fn what_is_known_of_a_trash_comes_back(f: &Fixture) {
    let a = attached(f).await;
    let db = &a.database;
    let names = ["a'\"\\b.jpg", "\u{fc}/u\u{308}.jpg", " \n\t\u{1}\u{7f}", "\u{1F622}\u{10FFFF}", "%s $1 ?2 :x", "\u{fffd}"];
    let moment = |micros| Timestamp::from_microsecond(micros).expect("a moment");
    let known = Upkeep {
        checked: Some(moment(1_763_683_200_123_456)),
        read: Some(moment(-1)),
        took: u64::from(u32::MAX),
        erasing: names.iter().map(|name| erasing(name)).collect(),
        ..Upkeep::default()
    };
    let long = "\u{1F5BC}'".repeat(200);
    let longest = Upkeep { erasing: (0..200).map(|n| erasing(&format!("{n}/{long}"))).collect(), ..Upkeep::default() };
    assert!(serde_json::to_string(&longest).expect("it is written").len() > 300_000);
    assert!(ok(db.keep("default", "suite", HOUR).await).is_some() && ok(db.keep("two", "suite", HOUR).await).is_some());
    for stored in [&known, &longest, &Upkeep::default(), &known] {
        assert!(ok(db.kept("default", "suite", stored, &[]).await));
        assert_eq!(ok(db.upkeep("default").await).as_ref(), Some(stored));
        assert_eq!(ok(db.keep("default", "suite", HOUR).await).as_ref(), Some(stored));
    }
    assert_eq!(ok(db.upkeep("two").await).unwrap_or_default(), Upkeep::default(), "another storage's is its own");
    let other = f.open().await;
    assert_eq!(ok(other.upkeep("default").await), Some(known));

    // What a person has broken is no empty record: something may be about to be erased.
    let table = if f.db.dialect() == Dialect::Postgres { "rowbound.upkeep" } else { "rowbound_upkeep" };
    f.db.exec(&format!("update {table} set record = '{{' where storage = 'default'")).await;
    for e in
        [refused(db.upkeep("default").await, "it cannot be read"), refused(db.keep("default", "suite", HOUR).await, "it cannot be read")]
    {
        assert!(e.kind() == Kind::Database && e.to_string().contains("default"), "{}", e.full());
    }
}

/// What is known of a trash and what is entered of it are written together, with what followers hear of it.
pub async fn what_is_kept_is_entered_with_it(f: &Fixture) {
    let a = attached(f).await;
    let db = &a.database;
    ok(db.follow("cdn", &DEFAULT_OUTCOMES).await);
    assert!(ok(db.keep("default", "suite", HOUR).await).is_some());
    let before = Upkeep { erasing: vec![erasing("a.jpg")], ..Upkeep::default() };
    assert!(ok(db.kept("default", "suite", &before, &[]).await));
    assert_eq!(ok(db.history(&Filter::default()).await), []);
    if !one_worker(f) {
        assert!(!ok(db.kept("default", "another", &Upkeep::default(), &[entry("b.jpg", Outcome::Trashed)]).await));
        assert!(!ok(db.kept("two", "suite", &Upkeep::default(), &[entry("b.jpg", Outcome::Trashed)]).await));
    }

    // The ledger refuses one of the entries: nothing of it all stays.
    let (refuse, allow) = match f.db.dialect() {
        Dialect::Sqlite => (
            "create trigger no before insert on rowbound_ledger when new.outcome = 'restored' begin select raise(abort, 'no'); end",
            "drop trigger no",
        ),
        Dialect::Postgres => (
            "alter table rowbound.ledger add constraint no check (outcome <> 'restored')",
            "alter table rowbound.ledger drop constraint no",
        ),
        Dialect::Mysql => (
            "alter table rowbound_ledger add constraint not_restored check (outcome <> 'restored')",
            "alter table rowbound_ledger drop constraint not_restored",
        ),
    };
    let entries = [entry("a.jpg", Outcome::Purged), entry("b.jpg", Outcome::Trashed), entry("c.jpg", Outcome::Restored)];
    f.db.exec(refuse).await;
    refused(db.kept("default", "suite", &Upkeep::default(), &entries).await, "an entry is refused");
    assert_eq!(ok(db.upkeep("default").await), Some(before));
    assert_eq!(ok(db.history(&Filter::default()).await), []);
    assert_eq!(ok(db.followers().await)[0].waiting, 0);
    f.db.exec(allow).await;

    let after = Upkeep { took: 3, ..Upkeep::default() };
    assert!(ok(db.kept("default", "suite", &after, &entries).await));
    assert_eq!(ok(db.upkeep("default").await), Some(after));
    let entered: Vec<_> = ok(db.history(&Filter::default()).await).into_iter().map(|e| (e.name, e.outcome)).collect();
    let all = [("c.jpg", Outcome::Restored), ("b.jpg", Outcome::Trashed), ("a.jpg", Outcome::Purged)];
    assert_eq!(entered, all.map(|(name, outcome)| (name.to_owned(), outcome)));
    let turn = DeliveryClaim { follower: "cdn".into(), owner: "suite".into(), limit: 10, lease: HOUR };
    let heard: Vec<_> = ok(db.claim_deliveries(&turn).await).into_iter().filter_map(|p| p.entry).map(|e| e.name).collect();
    assert_eq!(heard, ["b.jpg"], "of the outcomes that it hears of");
}

/// A database that goes on as databases do follows one history, whoever asks; what is written makes it longer, and nothing makes it shorter.
pub async fn a_history_goes_on(f: &Fixture) {
    let a = attached(f).await;
    // SQLite's is as long as its ledger, and of an empty one nothing lies in a trash.
    ok(a.database.enter(&[entry("before.jpg", Outcome::Purged)]).await);
    let first = ok(a.database.timeline().await);
    assert!(!first.id.is_empty());
    let mut last = first.clone();
    for n in 0..3 {
        ok(a.database.enter(&[entry(&format!("{n}.jpg"), Outcome::Purged)]).await);
        let next = ok(f.open().await.timeline().await);
        assert!(!next.has_left(&last) && next.position > last.position, "{last} then {next}");
        last = next;
    }
    assert!(first.has_left(&last), "going back is noticed");
    assert!(!ok(a.database.timeline().await).has_left(&last));
}
