//! Old entries leave the ledger, and what something still needs stays.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rowbound::{
    database::Database,
    delivery::{Acknowledgement, DEFAULT_OUTCOMES, DeliveryClaim},
    ledger::{Filter, NewEntry},
    queue::Outcome,
};

use super::{Attached, Fixture, ok};
use crate::{db::Backend, world::World};

async fn attached(f: &Fixture) -> Attached {
    f.docs(&[]).await;
    f.attach(&["doc.file"]).await
}

fn entry(name: &str, outcome: Outcome, place: Option<&str>) -> NewEntry {
    let place = place.map(str::to_owned);
    NewEntry { storage: "default".into(), name: name.into(), outcome, event: "trash", size: Some(5), place, note: None }
}

/// Entries that are two years old by now.
async fn enter_old(f: &Fixture, db: &dyn Database, entries: &[NewEntry]) {
    ok(db.enter(entries).await);
    let sql = match f.db.backend() {
        Backend::Sqlite => "update rowbound_ledger set at = at - 2 * 365 * 86400000",
        Backend::Postgres => "update rowbound.ledger set at = at - interval '730 days'",
        Backend::Mariadb | Backend::Mysql => "update rowbound_ledger set at = at - interval 730 day",
    };
    f.db.exec(sql).await;
}

fn year_ago() -> Timestamp {
    Timestamp::now() - SignedDuration::from_hours(365 * 24)
}

/// Pages of `limit` until there is none; how many went.
async fn forget(db: &dyn Database, limit: u32) -> u64 {
    let (mut removed, mut after) = (0, 0);
    loop {
        let done = ok(db.forget_entries(year_ago(), after, limit).await);
        removed += done.removed;
        let Some(next) = done.next else { return removed };
        assert!(next > after, "it goes on");
        after = next;
    }
}

/// What is left, the oldest first.
async fn left(db: &dyn Database) -> Vec<(String, Outcome)> {
    let mut entries = ok(db.history(&Filter::default()).await);
    entries.reverse();
    entries.into_iter().map(|e| (e.name, e.outcome)).collect()
}

/// Of any outcome without a place; younger ones stay.
pub async fn old_entries_are_forgotten(f: &Fixture) {
    let a = attached(f).await;
    let db = a.database.as_ref();
    let old: Vec<_> = Outcome::ALL.map(|(o, _)| entry(o.word(), o, None)).to_vec();
    enter_old(f, db, &old).await;
    ok(db.enter(&[entry("young.jpg", Outcome::Kept, None)]).await);
    assert_eq!(forget(db, 1_000).await, old.len() as u64);
    assert_eq!(left(db).await, [("young.jpg".to_owned(), Outcome::Kept)]);
    assert_eq!(forget(db, 1_000).await, 0, "again");
}

/// The trash and the ledger tell each other what is whose: an entry stays as long as its file lies there, and goes with the one that says that it has left.
pub async fn what_lies_in_the_trash_is_not_forgotten(f: &Fixture) {
    let a = attached(f).await;
    let db = a.database.as_ref();
    let two = NewEntry { storage: "two".into(), ..entry("purged.jpg", Outcome::Trashed, Some("1/purged.jpg")) };
    enter_old(
        f,
        db,
        &[
            entry("there.jpg", Outcome::Trashed, Some("1/there.jpg")),
            entry("purged.jpg", Outcome::Trashed, Some("1/purged.jpg")),
            entry("dangling.jpg", Outcome::Trashed, Some("1/dangling.jpg")),
            entry("again.jpg", Outcome::Trashed, Some("1/again.jpg")),
            entry("purged.jpg", Outcome::Purged, Some("1/purged.jpg")),
            entry("dangling.jpg", Outcome::Dangling, Some("1/dangling.jpg")),
            entry("again.jpg", Outcome::Restored, Some("1/again.jpg")),
            // The same place once more, and a newer file under the name.
            entry("again.jpg", Outcome::Trashed, Some("1/again.jpg")),
            entry("again.jpg", Outcome::Kept, Some("1/again.jpg")),
            // Another place, another storage, another name: others' files.
            entry("there.jpg", Outcome::Purged, Some("2/there.jpg")),
            entry("there.jpg ", Outcome::Purged, Some("1/there.jpg")),
            two,
        ],
    )
    .await;
    assert_eq!(forget(db, 1_000).await, 6);
    let word = |name: &str, outcome| (name.to_owned(), outcome);
    let kept = [
        word("there.jpg", Outcome::Trashed),
        word("dangling.jpg", Outcome::Trashed),
        word("dangling.jpg", Outcome::Dangling),
        word("again.jpg", Outcome::Trashed),
        word("again.jpg", Outcome::Kept),
        word("purged.jpg", Outcome::Trashed),
    ];
    assert_eq!(left(db).await, kept);
    // It has left now, a moment ago.
    ok(db.enter(&[entry("there.jpg", Outcome::Restored, Some("1/there.jpg"))]).await);
    assert_eq!(forget(db, 1_000).await, 1);
    assert_eq!(left(db).await.last(), Some(&word("there.jpg", Outcome::Restored)), "that one is young");
}

/// A follower hears of everything, however late; nor does what follows on it go before.
pub async fn what_is_yet_to_be_heard_is_not_forgotten(f: &Fixture) {
    let a = attached(f).await;
    let db = a.database.as_ref();
    ok(db.follow("cdn", &DEFAULT_OUTCOMES).await);
    enter_old(
        f,
        db,
        &[
            entry("a.jpg", Outcome::Trashed, Some("1/a.jpg")),
            entry("a.jpg", Outcome::Purged, Some("1/a.jpg")),
            entry("b.jpg", Outcome::Kept, None),
            entry("c.jpg", Outcome::Missing, None),
        ],
    )
    .await;
    assert_eq!(forget(db, 1_000).await, 1, "what it does not hear of");
    let claim = DeliveryClaim { follower: "cdn".into(), owner: "suite".into(), limit: 10, lease: Duration::from_secs(60) };
    let pending = ok(db.claim_deliveries(&claim).await);
    assert_eq!(pending.len(), 2);
    assert!(pending.iter().all(|p| p.entry.is_some()), "{pending:?}");
    assert_eq!(forget(db, 1_000).await, 0, "while it is told");
    let delivered = pending.iter().map(|p| p.id).collect();
    ok(db.acknowledge(&Acknowledgement { follower: claim.follower, owner: claim.owner, delivered, ..Acknowledgement::default() }).await);
    assert_eq!(forget(db, 1_000).await, 3);
}

/// However small a page is, everything goes, and each statement is bounded.
pub async fn entries_are_forgotten_page_by_page(f: &Fixture) {
    let a = attached(f).await;
    let db = a.database.as_ref();
    let mut old = Vec::new();
    for i in 0..40 {
        let place = format!("1/{i}");
        old.push(entry(&i.to_string(), Outcome::Trashed, Some(&place)));
        if i % 2 == 0 {
            old.push(entry(&i.to_string(), Outcome::Purged, Some(&place)));
        }
    }
    enter_old(f, db, &old).await;
    ok(db.enter(&[entry("young", Outcome::Kept, None)]).await);
    let first = ok(db.forget_entries(year_ago(), 0, 7).await);
    assert!(first.removed <= 7 && first.next.is_some(), "{first:?}");
    let (one, other) = tokio::join!(forget(db, 7), forget(db, 3));
    assert_eq!(first.removed + one + other, 40, "two at once remove each entry once");
    assert_eq!(left(db).await.len(), 20 + 1);
}

/// What happened in the places of files, the oldest first: not before a moment, not elsewhere, and nothing of a candidate that another stood for.
pub async fn what_happened_in_a_place_is_told(f: &Fixture) {
    let a = attached(f).await;
    let db = a.database.as_ref();
    enter_old(f, db, &[entry("a.jpg", Outcome::Trashed, Some("0/a.jpg"))]).await;
    ok(db
        .enter(&[
            entry("a.jpg", Outcome::Trashed, Some("1/a.jpg")),
            entry("a.jpg", Outcome::Duplicate, Some("1/a.jpg")),
            entry("a.jpg", Outcome::Kept, None),
            entry("A.jpg", Outcome::Trashed, Some("1/A.jpg")),
            entry("a.jpg", Outcome::Restored, Some("1/a.jpg")),
            entry("c.jpg", Outcome::Trashed, Some("1/c.jpg")),
            NewEntry { storage: "two".into(), ..entry("a.jpg", Outcome::Trashed, Some("2/a.jpg")) },
        ])
        .await);
    let mut names: Vec<_> = ["a.jpg", "b.jpg"].map(World::file_name).to_vec();
    let want = [("1/a.jpg".to_owned(), Outcome::Trashed), ("1/a.jpg".to_owned(), Outcome::Restored)];
    assert_eq!(ok(db.in_places("default", &names, year_ago()).await), want);
    let (moments, note) = (ok(db.now().await), Some("a row referenced it meanwhile: it came back from the trash".to_owned()));
    ok(db.enter(&[NewEntry { note, ..entry("b.jpg", Outcome::Kept, None) }, entry("c.jpg", Outcome::Kept, None)]).await);
    names.push(World::file_name("c.jpg"));
    let mut back = ok(db.came_back("default", &names, year_ago()).await);
    back.sort();
    assert_eq!(back.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["a.jpg", "b.jpg"]);
    assert!(back.iter().all(|(_, at)| at.duration_since(moments).as_secs().abs() < 60), "{back:?}");
    assert!(ok(db.came_back("two", &names, year_ago()).await).is_empty());
    assert!(ok(db.came_back("default", &names, moments + std::time::Duration::from_secs(60)).await).is_empty());
    names.pop();
    names.extend((0..4_000).map(|i| World::file_name(&format!("{i}.jpg"))));
    assert_eq!(ok(db.in_places("default", &names, year_ago()).await), want, "of thousands at once");
    assert!(ok(db.in_places("default", &[], year_ago()).await).is_empty());
}
