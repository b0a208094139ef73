//! Who hears of the ledger: registered, leased, in order, never lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use rowbound::{
    Kind,
    database::Database,
    delivery::{Acknowledgement, DEFAULT_OUTCOMES, DeliveryClaim, Pending, Redelivery, Registered},
    follow::{BoxError, Delivery, Follower, Later},
    ledger::{Filter, NewEntry},
    queue::{Decision, Outcome},
};
use tokio::sync::watch;

use super::{Attached, DEADLINE, Fixture, ok, refused, settle_all};
use crate::world::wait_until;

const HOUR: Duration = Duration::from_secs(3600);

fn turn(follower: &str, owner: &str) -> DeliveryClaim {
    DeliveryClaim { follower: follower.into(), owner: owner.into(), limit: 1000, lease: HOUR }
}

fn ack(claim: &DeliveryClaim) -> Acknowledgement {
    Acknowledgement { follower: claim.follower.clone(), owner: claim.owner.clone(), ..Acknowledgement::default() }
}

fn entry(name: &str, outcome: Outcome) -> NewEntry {
    NewEntry { storage: "default".into(), name: name.into(), outcome, event: "trash", size: Some(5), place: None, note: None }
}

async fn attached(f: &Fixture, names: &[&str]) -> Attached {
    f.docs(names).await;
    f.attach(&["doc.file"]).await
}

/// Takes everything that is due and says that it was delivered: names and outcomes.
async fn heard(db: &dyn Database, follower: &str) -> Vec<(String, Outcome)> {
    let turn = turn(follower, "suite");
    let mut all = Vec::new();
    loop {
        let pending = ok(db.claim_deliveries(&turn).await);
        if pending.is_empty() {
            return all;
        }
        let ids: Vec<i64> = pending.iter().map(|p| p.id).collect();
        all.extend(pending.into_iter().map(|p| p.entry.expect("its entry is there")).map(|e| (e.name, e.outcome)));
        let gone = ok(db.acknowledge(&Acknowledgement { delivered: ids.clone(), ..ack(&turn) }).await);
        assert_eq!(gone, ids.len() as u64);
    }
}

async fn registered(db: &dyn Database, follower: &str) -> Registered {
    ok(db.followers().await).into_iter().find(|f| f.name == follower).expect("it is registered")
}

fn ids(pending: &[Pending]) -> Vec<i64> {
    pending.iter().map(|p| p.id).collect()
}

/// A follower hears of every entry with one of its outcomes, with and without a candidate, as the ledger has it; of none from before it was registered.
pub async fn a_follower_hears_of_what_is_settled_from_then_on(f: &Fixture) {
    let a = attached(f, &["before.jpg", "gone.jpg", "kept.jpg"]).await;
    let db = &a.database;
    f.db.exec("delete from doc where id = 1").await;
    let got = ok(db.claim(&a.claim()).await);
    ok(db.settle(&settle_all(&got, Outcome::Erased), None).await);
    assert_eq!(ok(db.followers().await), []);
    assert!(ok(db.claim_deliveries(&turn("cdn", "suite")).await).is_empty(), "it is not registered");

    ok(db.follow("cdn", &DEFAULT_OUTCOMES).await);
    ok(db.follow("cdn", &DEFAULT_OUTCOMES).await);
    f.db.exec("delete from doc where id > 1").await;
    let got = ok(db.claim(&a.claim()).await);
    let mut settlement = settle_all(&got, Outcome::Kept);
    settlement.settled[0] = Decision {
        outcome: Outcome::Trashed,
        size: Some(17),
        place: Some("1/gone.jpg".into()),
        note: Some("why".into()),
        ..settlement.settled[0].clone()
    };
    ok(db.settle(&settlement, None).await);
    ok(db.enter(&[entry("x.jpg", Outcome::Purged), entry("y.jpg", Outcome::Erased), entry("z.jpg", Outcome::Restored)]).await);

    let now = registered(db.as_ref(), "cdn").await;
    assert_eq!((now.waiting, now.due, now.failing, &now.outcomes[..]), (2, 2, 0, &DEFAULT_OUTCOMES[..]));
    assert!(now.oldest_seconds.is_some_and(|s| s < 60) && now.overdue_seconds.is_some_and(|s| s < 60), "{now:?}");
    let pending = ok(db.claim_deliveries(&turn("cdn", "suite")).await);
    let mut entries: Vec<_> = pending.iter().map(|p| p.entry.clone().expect("its entry is there")).collect();
    entries.sort_by_key(|e| e.id);
    let mut ledger = ok(db.history(&Filter { outcomes: DEFAULT_OUTCOMES.to_vec(), ..Filter::default() }).await);
    ledger.sort_by_key(|e| e.id);
    assert_eq!(entries, ledger[1..], "as the ledger has them");
    assert_eq!((entries[0].name.as_str(), entries[0].key.as_deref(), entries[0].size), ("gone.jpg", Some("2"), Some(17)));
    ok(db.acknowledge(&Acknowledgement { delivered: ids(&pending), ..ack(&turn("cdn", "suite")) }).await);
    let now = registered(db.as_ref(), "cdn").await;
    assert_eq!((now.waiting, now.oldest_seconds, now.overdue_seconds), (0, None, None));
}

/// A delete that the application rolls back leaves no candidate, so nothing to be heard.
pub async fn what_is_rolled_back_is_never_heard(f: &Fixture) {
    let a = attached(f, &["a.jpg", "b.jpg"]).await;
    ok(a.database.follow("cdn", &Outcome::ALL.map(|(o, _)| o)).await);
    let mut app = f.db.app().await;
    app.begin().await;
    app.exec("delete from doc").await;
    app.rollback().await;
    app.close().await;
    assert!(a.released().await.is_empty());
    assert!(heard(a.database.as_ref(), "cdn").await.is_empty());
    f.db.exec("delete from doc where id = 2").await;
    a.released().await;
    assert_eq!(heard(a.database.as_ref(), "cdn").await, [("b.jpg".to_owned(), Outcome::Kept)]);
}

/// What one follower has heard the other has yet to hear.
pub async fn followers_hear_each_for_themselves(f: &Fixture) {
    let a = attached(f, &[]).await;
    let db = a.database.as_ref();
    ok(db.follow("cdn", &DEFAULT_OUTCOMES).await);
    ok(db.follow("search", &[Outcome::Erased, Outcome::Purged]).await);
    ok(db.enter(&[entry("a", Outcome::Trashed), entry("b", Outcome::Erased), entry("c", Outcome::Purged)]).await);
    assert_eq!(heard(db, "cdn").await.into_iter().map(|h| h.0).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(ok(db.followers().await).iter().map(|f| (&*f.name, f.waiting)).collect::<Vec<_>>(), [("cdn", 0), ("search", 2)]);
    assert_eq!(heard(db, "search").await.into_iter().map(|h| h.0).collect::<Vec<_>>(), ["b", "c"]);
    assert!(heard(db, "cdn").await.is_empty());
}

/// Other outcomes count for what comes; what waits already stays.
pub async fn other_outcomes_count_from_then_on(f: &Fixture) {
    let a = attached(f, &[]).await;
    let db = a.database.as_ref();
    ok(db.follow("cdn", &[Outcome::Erased]).await);
    let since = registered(db, "cdn").await.since;
    ok(db.enter(&[entry("a", Outcome::Erased), entry("b", Outcome::Restored)]).await);
    ok(db.follow("cdn", &[Outcome::Restored]).await);
    ok(db.enter(&[entry("c", Outcome::Erased), entry("d", Outcome::Restored)]).await);
    assert_eq!(registered(db, "cdn").await.since, since);
    assert_eq!(heard(db, "cdn").await, [("a".to_owned(), Outcome::Erased), ("d".to_owned(), Outcome::Restored)]);
}

/// Who is forgotten hears nothing more, of what waited either, and begins anew when it comes back.
pub async fn a_forgotten_follower_hears_nothing(f: &Fixture) {
    let a = attached(f, &[]).await;
    let db = a.database.as_ref();
    ok(db.follow("cdn", &DEFAULT_OUTCOMES).await);
    ok(db.follow("search", &DEFAULT_OUTCOMES).await);
    ok(db.enter(&[entry("a", Outcome::Erased), entry("b", Outcome::Erased)]).await);
    assert_eq!(ok(db.unfollow("cdn").await), Some(2));
    assert_eq!(ok(db.unfollow("cdn").await), None);
    ok(db.enter(&[entry("c", Outcome::Erased)]).await);
    ok(db.follow("cdn", &DEFAULT_OUTCOMES).await);
    assert!(heard(db, "cdn").await.is_empty());
    ok(db.enter(&[entry("d", Outcome::Erased)]).await);
    assert_eq!(heard(db, "cdn").await, [("d".to_owned(), Outcome::Erased)]);
    assert_eq!(heard(db, "search").await.len(), 4);
}

/// A failed delivery keeps its error and comes back after its wait; one that was only given back stands as before. `retry_deliveries_now` makes both due.
pub async fn what_was_not_delivered_is_due_again(f: &Fixture) {
    let a = attached(f, &[]).await;
    let db = a.database.as_ref();
    ok(db.follow("cdn", &DEFAULT_OUTCOMES).await);
    ok(db.enter(&["a", "b", "c"].map(|n| entry(n, Outcome::Erased))).await);
    let one = turn("cdn", "one");
    let got = ids(&ok(db.claim_deliveries(&one).await));
    assert_eq!((got.len(), registered(db, "cdn").await.due), (3, 0));
    assert_eq!(ok(db.retry_deliveries_now("cdn").await), 0, "what is held is not made due");
    let again = vec![
        Redelivery { id: got[0], wait: HOUR, error: Some("503 \u{1F622}".into()) },
        Redelivery { id: got[1], wait: HOUR, error: None },
        Redelivery { id: got[2], wait: Duration::ZERO, error: Some("x".repeat(10_000)) },
    ];
    assert_eq!(ok(db.acknowledge(&Acknowledgement { again, ..ack(&one) }).await), 0);
    let now = registered(db, "cdn").await;
    assert_eq!((now.waiting, now.due, now.failing), (3, 1, 2));
    let shown = &now.sample[0];
    assert_eq!((shown.entry, shown.attempts, shown.note.as_deref()), (got[0], 1, Some("503 \u{1F622}")));
    assert_eq!((shown.storage.as_deref(), shown.name.as_deref()), (Some("default"), Some("a")));
    let due = ok(db.claim_deliveries(&one).await);
    assert_eq!(due.iter().map(|p| (p.id, p.attempts)).collect::<Vec<_>>(), [(got[2], 1)]);
    assert_eq!(ok(db.retry_deliveries_now("cdn").await), 2);
    let due = ok(db.claim_deliveries(&one).await);
    assert_eq!(due.iter().map(|p| (p.id, p.attempts)).collect::<Vec<_>>(), [(got[0], 1), (got[1], 0)]);
}

/// Those who ask at once never hold the same delivery, and leave none.
pub async fn each_delivery_is_held_by_one(f: &Fixture) {
    let a = attached(f, &[]).await;
    ok(a.database.follow("cdn", &DEFAULT_OUTCOMES).await);
    ok(a.database.enter(&(0..400).map(|i| entry(&format!("{i}"), Outcome::Erased)).collect::<Vec<_>>()).await);
    let takers = (0..4).map(|n| {
        let (db, turn) = (a.database.clone(), DeliveryClaim { limit: 7, ..turn("cdn", &format!("taker {n}")) });
        tokio::spawn(async move {
            let mut mine = Vec::new();
            let until = Instant::now() + DEADLINE;
            loop {
                let got = ok(db.claim_deliveries(&turn).await);
                // An empty answer may mean that others were faster this time.
                if got.is_empty() && ok(db.followers().await)[0].due == 0 {
                    return mine;
                }
                assert!(Instant::now() < until, "what is due is taken in the end");
                mine.extend(ids(&got));
            }
        })
    });
    let (mut count, mut seen) = (0, BTreeSet::new());
    for taker in takers.collect::<Vec<_>>() {
        let mine = taker.await.expect("a taker panicked");
        count += mine.len();
        seen.extend(mine);
    }
    assert_eq!((count, seen.len()), (400, 400));
}

/// What a lease that ran out held is another's; who comes late with it changes nothing. A lease that is extended holds.
pub async fn an_expired_turn_is_taken_over(f: &Fixture) {
    let a = attached(f, &[]).await;
    let db = a.database.as_ref();
    ok(db.follow("cdn", &DEFAULT_OUTCOMES).await);
    ok(db.enter(&[entry("a", Outcome::Erased), entry("b", Outcome::Erased)]).await);
    let first = DeliveryClaim { lease: Duration::from_millis(1), ..turn("cdn", "first") };
    let got = ids(&ok(db.claim_deliveries(&first).await));
    ok(db.extend_lease(&turn("cdn", "first"), &got[..1]).await);
    let second = turn("cdn", "second");
    wait_until(DEADLINE, "the lease runs out", || async { registered(db, "cdn").await.due == 1 }).await;
    assert_eq!(ids(&ok(db.claim_deliveries(&second).await)), [got[1]]);
    ok(db.extend_lease(&first, &got).await);
    let late = Acknowledgement {
        delivered: vec![got[1]],
        again: vec![Redelivery { id: got[1], wait: Duration::ZERO, error: Some("late".into()) }],
        ..ack(&first)
    };
    assert_eq!(ok(db.acknowledge(&late).await), 0);
    assert_eq!(registered(db, "cdn").await.failing, 0);
    assert_eq!(ok(db.acknowledge(&Acknowledgement { delivered: got.clone(), ..ack(&second) }).await), 1, "what it holds, and no more");
    assert_eq!(registered(db, "cdn").await.waiting, 1);
}

/// Of one storage and name the earlier entry is heard before the later one is taken, whatever fails; other names go on.
pub async fn entries_of_one_name_are_heard_in_order(f: &Fixture) {
    let a = attached(f, &[]).await;
    let db = a.database.as_ref();
    ok(db.follow("cdn", &[Outcome::Trashed, Outcome::Restored, Outcome::Purged]).await);
    let elsewhere = NewEntry { storage: "other".into(), ..entry("a", Outcome::Restored) };
    ok(db.enter(&[entry("a", Outcome::Trashed), entry("b", Outcome::Trashed)]).await);
    ok(db.enter(&[entry("a", Outcome::Restored), elsewhere]).await);
    ok(db.enter(&[entry("a", Outcome::Trashed), entry("a ", Outcome::Trashed)]).await);
    let one = turn("cdn", "one");
    let got = ok(db.claim_deliveries(&one).await);
    let names = |got: &[Pending]| -> Vec<(String, String)> {
        got.iter().filter_map(|p| p.entry.as_ref()).map(|e| (format!("{}/{}", e.storage, e.name), e.outcome.word().to_owned())).collect()
    };
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    let want = [pair("default/a", "trashed"), pair("default/b", "trashed"), pair("other/a", "restored"), pair("default/a ", "trashed")];
    assert_eq!(names(&got), want);
    assert!(ok(db.claim_deliveries(&turn("cdn", "two")).await).is_empty(), "the earlier one is held");
    // It fails: the later ones wait for it.
    let again = vec![Redelivery { id: got[0].id, wait: HOUR, error: Some("no".into()) }];
    ok(db.acknowledge(&Acknowledgement { delivered: ids(&got[1..]), again, ..ack(&one) }).await);
    assert!(ok(db.claim_deliveries(&one).await).is_empty());
    ok(db.retry_deliveries_now("cdn").await);
    for outcome in ["trashed", "restored", "trashed"] {
        let got = ok(db.claim_deliveries(&one).await);
        assert_eq!(names(&got), [pair("default/a", outcome)]);
        ok(db.acknowledge(&Acknowledgement { delivered: ids(&got), ..ack(&one) }).await);
    }
    assert_eq!(registered(db, "cdn").await.waiting, 0);
}

/// Names that are long, quoted, in any script or no text at all arrive as the ledger has them.
pub async fn every_name_is_heard_byte_for_byte(f: &Fixture) {
    let long = "n".repeat(5000);
    let names = ["it's", "a\"b\\c", "a ", " a", "A", "a", "Ä", "A\u{308}", "日本/写真.jpg", "%_", "a,b", &long];
    let a = attached(f, &[]).await;
    let db = a.database.as_ref();
    ok(db.follow("cdn", &DEFAULT_OUTCOMES).await);
    ok(db.enter(&names.map(|n| entry(n, Outcome::Erased))).await);
    assert_eq!(heard(db, "cdn").await.into_iter().map(|h| h.0).collect::<Vec<_>>(), names);
}

/// Several workers settle at once while a follower hears: each entry is heard, and none twice.
pub async fn several_that_settle_at_once_skip_no_follower(f: &Fixture) {
    const ROWS: usize = 600;
    f.db.exec("create table doc (id integer primary key, file varchar(255))").await;
    let rows: Vec<_> = (1..=ROWS).map(|i| format!("({i}, '{i}.jpg')")).collect();
    f.db.exec(&format!("insert into doc values {}", rows.join(", "))).await;
    let a = f.attach(&["doc.file"]).await;
    ok(a.database.follow("cdn", &DEFAULT_OUTCOMES).await);
    f.db.exec("delete from doc").await;
    let workers = if f.db.dialect() == rowbound::database::Dialect::Sqlite { 1 } else { 4 };
    let running: Vec<_> = (0..workers)
        .map(|_| {
            let (db, mut claim) = (a.database.clone(), a.claim());
            // One owner for all, as the workers of one process have: their entries must be told from each other all the same.
            claim.limit = 13;
            tokio::spawn(async move {
                loop {
                    let got = ok(db.claim(&claim).await);
                    if got.is_empty() {
                        return;
                    }
                    ok(db.settle(&settle_all(&got, Outcome::Erased), None).await);
                    ok(db.enter(&[entry(&format!("purged {}", got[0].id), Outcome::Trashed)]).await);
                }
            })
        })
        .collect();
    let mut names = BTreeMap::<String, u32>::new();
    let mut busy = true;
    while busy {
        busy = running.iter().any(|w| !w.is_finished());
        for (name, _) in heard(a.database.as_ref(), "cdn").await {
            *names.entry(name).or_default() += 1;
        }
    }
    for worker in running {
        worker.await.expect("a worker panicked");
    }
    for (name, _) in heard(a.database.as_ref(), "cdn").await {
        *names.entry(name).or_default() += 1;
    }
    let ledger = ok(a.database.history(&Filter { outcomes: DEFAULT_OUTCOMES.to_vec(), ..Filter::default() }).await);
    assert_eq!(names.len(), ledger.len());
    assert_eq!(names.keys().filter(|n| n.ends_with(".jpg")).count(), ROWS);
    assert!(names.values().all(|n| *n == 1), "each once: {names:?}");
}

/// A delivery whose entry somebody deleted from the ledger stands, and is shown.
pub async fn an_entry_that_was_deleted_is_not_lost(f: &Fixture) {
    let a = attached(f, &[]).await;
    let db = a.database.clone();
    let cdn = ok(Follower::new(db.clone(), "cdn"));
    ok(cdn.register().await);
    ok(db.enter(&[entry("a", Outcome::Erased), entry("b", Outcome::Erased)]).await);
    let ledger = if f.db.dialect() == rowbound::database::Dialect::Postgres { "rowbound.ledger" } else { "rowbound_ledger" };
    f.db.exec(&format!("delete from {ledger} where id = (select n from (select min(id) as n from {ledger}) as first)")).await;
    let (_stop, running) = watch::channel(false);
    let told = ok(cdn.deliver(&running, |_| async { Ok(()) }).await);
    assert_eq!((told.delivered, told.failed), (1, 0));
    let now = ok(cdn.waiting().await).expect("it is registered");
    assert_eq!((now.waiting, now.failing, now.oldest_seconds), (1, 1, None));
    assert_eq!(now.sample[0].name, None);
    assert!(now.sample[0].note.as_ref().is_some_and(|n| n.contains("deleted from the ledger")));
}

/// What a handler was called with.
#[derive(Default)]
struct Calls(Mutex<Vec<Vec<Delivery>>>);

impl Calls {
    fn add(&self, deliveries: Vec<Delivery>) {
        self.0.lock().expect("no panic").push(deliveries);
    }

    fn names(&self) -> Vec<Vec<String>> {
        self.0.lock().expect("no panic").iter().map(|c| c.iter().map(|d| d.entry.name.clone()).collect()).collect()
    }
}

/// The handler hears with the column and the row; an error stands in `waiting` until the next try makes it good.
pub async fn a_handler_hears_once_and_again_after_an_error(f: &Fixture) {
    let a = attached(f, &["a.jpg", "b.jpg"]).await;
    let db = a.database.clone();
    assert_eq!(refused(Follower::new(db.clone(), "no name"), "a blank").kind(), Kind::Config);
    assert_eq!(refused(ok(Follower::new(db.clone(), "x")).outcomes([]).register().await, "it would hear nothing").kind(), Kind::Config);
    let cdn = ok(Follower::new(db.clone(), "cdn")).outcomes([Outcome::Kept]);
    ok(cdn.register().await);
    f.db.exec("delete from doc").await;
    a.released().await;
    let (_stop, running) = watch::channel(false);
    let (calls, broken) = (Calls::default(), AtomicBool::new(true));
    let handler = |deliveries: Vec<Delivery>| {
        let first = deliveries[0].entry.name == "a.jpg" && broken.load(Relaxed);
        calls.add(deliveries);
        async move { if first { Err::<(), BoxError>("the CDN is down".into()) } else { Ok(()) } }
    };
    let told = ok(cdn.deliver(&running, handler).await);
    assert_eq!((told.delivered, told.failed), (1, 1));
    assert_eq!(calls.names(), [["a.jpg"], ["b.jpg"]]);
    {
        let seen = calls.0.lock().expect("no panic");
        let d = &seen[1][0];
        assert_eq!((d.column.as_deref(), d.entry.key.as_deref(), &*d.entry.event), (Some("doc.file"), Some("2"), "delete"));
        assert_eq!(d.id(), format!("cdn-{}", d.entry.id));
        let json = serde_json::to_value(d).expect("it is JSON");
        assert_eq!((json["name"].as_str(), json["column"].as_str(), json.get("follower")), (Some("b.jpg"), Some("doc.file"), None));
    }
    let now = ok(cdn.waiting().await).expect("it is registered");
    assert_eq!((now.waiting, now.failing, now.sample[0].note.as_deref()), (1, 1, Some("the CDN is down")));
    assert_eq!(ok(cdn.deliver(&running, handler).await).failed, 0, "it is not due yet");
    broken.store(false, Relaxed);
    assert_eq!(ok(cdn.retry_now().await), 1);
    assert_eq!(ok(cdn.deliver(&running, handler).await).delivered, 1);
    assert_eq!(calls.names(), [["a.jpg"], ["b.jpg"], ["a.jpg"]]);
    assert_eq!(calls.0.lock().expect("no panic")[2][0].attempts, 1);
    assert_eq!(ok(Follower::forget(db.as_ref(), "cdn").await), Some(0));
    assert_eq!(ok(cdn.waiting().await), None);
}

/// Batches are no larger than asked for; what failed comes alone, so that one that cannot be delivered keeps none of the others.
pub async fn a_handler_gets_batches_and_what_failed_alone(f: &Fixture) {
    let a = attached(f, &[]).await;
    let cdn = ok(Follower::new(a.database.clone(), "cdn")).batch(3);
    ok(cdn.register().await);
    ok(a.database.enter(&["a", "b", "c", "poison", "d"].map(|n| entry(n, Outcome::Erased))).await);
    let (_stop, running) = watch::channel(false);
    let calls = Calls::default();
    let handler = |deliveries: Vec<Delivery>| {
        let bad = deliveries.iter().any(|d| d.entry.name == "poison");
        calls.add(deliveries);
        async move { if bad { Err::<(), BoxError>("no".into()) } else { Ok(()) } }
    };
    ok(cdn.deliver(&running, handler).await);
    assert_eq!(calls.names(), [vec!["a", "b", "c"], vec!["poison", "d"]]);
    ok(cdn.retry_now().await);
    ok(cdn.deliver(&running, handler).await);
    assert_eq!(calls.names()[2..], [vec!["poison"], vec!["d"]]);
    assert_eq!(ok(cdn.waiting().await).expect("it is registered").waiting, 1);
}

/// Whoever answers that it wants time is not called again before it, and what was held meanwhile is free, untried. So is one that fails again and again.
pub async fn a_handler_that_asks_for_time_is_left_alone(f: &Fixture) {
    let a = attached(f, &[]).await;
    let cdn = ok(Follower::new(a.database.clone(), "cdn"));
    ok(cdn.register().await);
    ok(a.database.enter(&(0..20).map(|i| entry(&format!("{i}"), Outcome::Erased)).collect::<Vec<_>>()).await);
    let (_stop, running) = watch::channel(false);
    let later = |_| async { Err::<(), BoxError>(Box::new(Later { after: HOUR * 5, why: "429".into() })) };
    assert_eq!(ok(cdn.deliver(&running, later).await).failed, 1);
    let now = ok(cdn.waiting().await).expect("it is registered");
    assert_eq!((now.waiting, now.due, now.failing), (20, 19, 1));
    let wait = now.sample[0].due_at.duration_since(ok(a.database.now().await)).as_secs();
    assert!((HOUR * 4).as_secs() < wait.unsigned_abs(), "{wait}");
    let calls = AtomicU64::new(0);
    let broken = |_| {
        calls.fetch_add(1, Relaxed);
        async { Err::<(), BoxError>("no".into()) }
    };
    assert_eq!(ok(cdn.deliver(&running, broken).await).failed, 5);
    assert_eq!(calls.load(Relaxed), 5);
    let now = ok(cdn.waiting().await).expect("it is registered");
    assert_eq!((now.waiting, now.due, now.failing), (20, 14, 6));
}

/// A call that takes longer than the lease: nobody else gets what it holds.
pub async fn a_handler_that_takes_long_keeps_its_deliveries(f: &Fixture) {
    let a = attached(f, &[]).await;
    let lease = Duration::from_secs(4);
    let cdn = ok(Follower::new(a.database.clone(), "cdn")).lease(lease);
    ok(cdn.register().await);
    ok(a.database.enter(&[entry("a", Outcome::Erased), entry("b", Outcome::Erased)]).await);
    let (_stop, running) = watch::channel(false);
    let other = f.open().await;
    let handler = |_| {
        let other = other.clone();
        async move {
            let until = Instant::now() + lease * 2;
            while Instant::now() < until {
                let stolen = ok(other.claim_deliveries(&turn("cdn", "other")).await);
                assert!(stolen.is_empty(), "{stolen:?}");
                tokio::task::yield_now().await;
            }
            Ok(())
        }
    };
    let told = ok(cdn.deliver(&running, handler).await);
    assert_eq!((told.delivered, told.failed), (2, 0));
    assert_eq!(ok(cdn.waiting().await).expect("it is registered").waiting, 0);
}

/// After `stop` no call begins, and what was not called is free at once.
pub async fn a_handler_is_stopped_between_two_calls(f: &Fixture) {
    let a = attached(f, &[]).await;
    let cdn = ok(Follower::new(a.database.clone(), "cdn"));
    ok(cdn.register().await);
    ok(a.database.enter(&["a", "b", "c"].map(|n| entry(n, Outcome::Erased))).await);
    let (stop, running) = watch::channel(false);
    let told = cdn
        .run(running, |_| {
            let _ = stop.send(true);
            async { Ok(()) }
        })
        .await;
    assert_eq!((told.delivered, told.failed), (1, 0));
    let now = ok(cdn.waiting().await).expect("it is registered");
    assert_eq!((now.waiting, now.due), (2, 2));
}

/// Two processes that follow under one name: each entry is heard by one of them, once.
pub async fn two_processes_of_one_name_share_the_work(f: &Fixture) {
    const ENTRIES: usize = 450;
    let a = attached(f, &[]).await;
    let heard = Arc::new(Mutex::new(BTreeMap::<String, u32>::new()));
    let (stop, running) = watch::channel(false);
    let mut processes = Vec::new();
    for _ in 0..2 {
        let db = f.open().await;
        let cdn = ok(Follower::new(db, "cdn")).batch(10).poll(Duration::from_millis(20));
        ok(cdn.register().await);
        let (heard, running) = (heard.clone(), running.clone());
        processes.push(tokio::spawn(async move {
            let told = cdn
                .run(running, |deliveries| {
                    let heard = heard.clone();
                    async move {
                        for d in deliveries {
                            *heard.lock().expect("no panic").entry(d.entry.name).or_default() += 1;
                        }
                        Ok(())
                    }
                })
                .await;
            told.delivered
        }));
    }
    for i in 0..ENTRIES / 50 {
        let entries: Vec<_> = (0..50).map(|n| entry(&format!("{}", i * 50 + n), Outcome::Erased)).collect();
        ok(a.database.enter(&entries).await);
    }
    wait_until(DEADLINE, "everything is delivered", || async { registered(a.database.as_ref(), "cdn").await.waiting == 0 }).await;
    stop.send(true).expect("they run");
    let mut count = 0;
    for process in processes {
        count += process.await.expect("it did not panic");
    }
    assert_eq!(count, ENTRIES as u64);
    let heard = heard.lock().expect("no panic");
    assert!(heard.len() == ENTRIES && heard.values().all(|n| *n == 1), "{heard:?}");
}

/// The deliveries of a copy are the original's: a copy refuses to make them.
pub async fn a_copy_delivers_nothing(f: &Fixture) {
    let a = attached(f, &[]).await;
    let cdn = ok(Follower::new(a.database.clone(), "cdn"));
    ok(cdn.register().await);
    ok(a.database.enter(&[entry("a", Outcome::Erased)]).await);
    drop(cdn);
    // PostgreSQL copies no database that somebody uses.
    a.database.close().await;
    let copy = f.beside(f.db.copy().await);
    let there = copy.open().await;
    let cdn = ok(Follower::new(there.clone(), "cdn"));
    assert_eq!(refused(cdn.register().await, "a copy").kind(), Kind::Identity);
    let (_stop, running) = watch::channel(false);
    let called = AtomicBool::new(false);
    let done = cdn.deliver(&running, |_| {
        called.store(true, Relaxed);
        async { Ok(()) }
    });
    assert_eq!(refused(done.await, "a copy").kind(), Kind::Identity);
    assert!(!called.load(Relaxed));
    let now = registered(there.as_ref(), "cdn").await;
    assert_eq!((now.waiting, now.due, now.failing), (1, 1, 0));
}
