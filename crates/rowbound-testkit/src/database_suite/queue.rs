//! Claim, put back, settle; the ledger and the counts.

use std::{collections::BTreeSet, time::Duration};

use jiff::{SignedDuration, Timestamp};
use rowbound::{
    Binding, Kind,
    capture::Reliance,
    database::{Dialect, Shadowed},
    ledger::{Filter, NewEntry},
    queue::{Announce, CLAIM_BYTES, Candidate, Claim, Decision, Derived, Observation, Opened, Outcome, PutBack, Settlement, Waits},
};

use super::{Attached, DEADLINE, Fixture, ok, refused, settle_all, value};
use crate::world::{World, wait_until};

const HOUR: Duration = Duration::from_secs(3600);

fn settled(id: i64, outcome: Outcome) -> Decision {
    Decision { id, outcome, name: None, size: None, place: None, note: None }
}

/// A `doc` with `count` rows, attached and then emptied row by row: candidates `1.jpg`, `2.jpg`, ..
async fn candidates(f: &Fixture, count: usize) -> Attached {
    let names: Vec<_> = (1..=count).map(|i| format!("{i}.jpg")).collect();
    f.docs(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let attached = f.attach(&["doc.file"]).await;
    for i in 1..=count {
        f.db.exec(&format!("delete from doc where id = {i}")).await;
    }
    attached
}

/// The oldest come first, and never more than asked for.
pub async fn claims_take_the_oldest_up_to_the_limit(f: &Fixture) {
    let attached = candidates(f, 5).await;
    for want in [&["1.jpg", "2.jpg"][..], &["3.jpg", "4.jpg"], &["5.jpg"], &[]] {
        let mut claim = attached.claim();
        claim.limit = 2;
        let got = ok(attached.database.claim(&claim).await);
        assert_eq!(got.iter().map(value).collect::<Vec<_>>(), want);
        ok(attached.database.settle(&settle_all(&got, Outcome::Kept), None).await);
    }
}

/// Workers that claim at once never hold the same candidate.
pub async fn claims_are_disjoint(f: &Fixture) {
    if f.db.dialect() == Dialect::Sqlite {
        return; // one worker at a time, see `one_works_where_only_one_may`
    }
    f.db.exec("create table doc (id integer primary key, file varchar(255))").await;
    let rows: Vec<_> = (1..=400).map(|i| format!("({i}, '{i}.jpg')")).collect();
    f.db.exec(&format!("insert into doc values {}", rows.join(", "))).await;
    let attached = f.attach(&["doc.file"]).await;
    f.db.exec("delete from doc").await;
    let workers = (0..4).map(|worker| {
        let (database, mut claim) = (attached.database.clone(), attached.claim());
        (claim.owner, claim.limit) = (format!("worker {worker}"), 7);
        tokio::spawn(async move {
            let mut mine = Vec::new();
            loop {
                let got = ok(database.claim(&claim).await);
                if got.is_empty() {
                    // Nothing free: what others hold is not ours.
                    return mine;
                }
                mine.extend(got.into_iter().map(|c| c.id));
            }
        })
    });
    let mut seen = BTreeSet::new();
    let mut count = 0;
    for worker in workers.collect::<Vec<_>>() {
        let mine = worker.await.expect("a worker panicked");
        count += mine.len();
        seen.extend(mine);
    }
    assert_eq!((count, seen.len()), (400, 400), "each candidate was claimed once");
}

/// A lease that ran out frees the candidate for another worker; one that holds does not.
pub async fn an_expired_lease_is_claimed_again(f: &Fixture) {
    if f.db.dialect() == Dialect::Sqlite {
        return; // no claim is written
    }
    let attached = candidates(f, 2).await;
    let held = ok(attached.database.claim(&Claim { lease: HOUR, limit: 1, ..attached.claim() }).await)[0].id;
    let short = ok(attached.database.claim(&Claim { lease: Duration::from_millis(300), limit: 1, ..attached.claim() }).await)[0].id;
    let another = Claim { owner: "another".into(), lease: HOUR, ..attached.claim() };
    let got = std::sync::Mutex::new(Vec::new());
    wait_until(DEADLINE, "the expired lease is claimed again", async || {
        let claimed = ok(attached.database.claim(&another).await);
        let mut got = got.lock().expect("no panic");
        got.extend(claimed.iter().map(|c| (c.id, c.attempts)));
        !got.is_empty()
    })
    .await;
    let got = got.into_inner().expect("no panic");
    assert_eq!(got, [(short, 1)], "the other lease holds ({held}), and the try that had no end counts");
}

/// What was just released waits for the grace.
pub async fn a_claim_waits_for_the_grace(f: &Fixture) {
    let attached = candidates(f, 1).await;
    let mut claim = attached.claim();
    claim.grace = HOUR;
    assert!(ok(attached.database.claim(&claim).await).is_empty());
    claim.grace = Duration::from_millis(500);
    wait_until(DEADLINE, "the grace passes", async || ok(attached.database.claim(&claim).await).len() == 1).await;
}

/// A claim takes candidates of its own storage only.
/// Shrine, CarrierWave, Laravel Media Library or unused-media: only the given disk.
pub async fn a_claim_stays_in_its_storage(f: &Fixture) {
    f.db.exec(
        "create table doc (id integer primary key, one varchar(255), two varchar(255)); insert into doc values (1, 'a.jpg', 'b.jpg')",
    )
    .await;
    let attached = f.attach_bindings(vec![ok(Binding::name("doc.one", "default")), ok(Binding::name("doc.two", "two"))]).await;
    f.db.exec("delete from doc").await;
    let announce = Announce { storage: "two".into(), name: World::file_name("c.jpg"), event: "stage", wait: Duration::ZERO };
    ok(attached.database.announce(&[announce]).await);
    assert_eq!(attached.values().await, ["a.jpg"]);
    let mut claim = attached.claim();
    (claim.storage, claim.bindings) = ("two".into(), vec![2]);
    let mut got: Vec<_> = ok(attached.database.claim(&claim).await).iter().map(value).collect();
    got.sort();
    assert_eq!(got, ["b.jpg", "c.jpg"]);
}

/// The application deletes on while candidates are claimed and while the queue is found empty.
pub async fn a_claim_does_not_block_the_application(f: &Fixture) {
    let attached = candidates(f, 2).await;
    f.db.exec("insert into doc values (8, 'y.jpg', 'x'), (9, 'z.jpg', 'x')").await;
    let in_time = async |sql: &str| {
        let done = tokio::time::timeout(Duration::from_secs(40), f.db.exec(sql)).await;
        assert!(done.is_ok(), "the application waited for a claim: {sql}");
    };
    assert_eq!(ok(attached.database.claim(&attached.claim()).await).len(), 2);
    in_time("delete from doc where id = 8").await;
    assert_eq!(ok(attached.database.claim(&attached.claim()).await).iter().filter(|c| value(c) == "y.jpg").count(), 1);
    ok(attached.database.claim(&attached.claim()).await);
    in_time("delete from doc where id = 9").await;
}

/// How long until the next is due: now, later, or never.
pub async fn next_due_tells_the_wait(f: &Fixture) {
    f.docs(&["a.jpg"]).await;
    let attached = f.attach(&["doc.file"]).await;
    assert_eq!(ok(attached.database.next_due(&attached.claim()).await), None);
    f.db.exec("delete from doc").await;
    assert_eq!(ok(attached.database.next_due(&attached.claim()).await), Some(Duration::ZERO));
    let mut claim = attached.claim();
    claim.grace = HOUR;
    let wait = ok(attached.database.next_due(&claim).await).expect("a candidate waits");
    assert!(wait > HOUR - Duration::from_secs(60) && wait <= HOUR + Duration::from_secs(5), "{wait:?}");
    let got = ok(attached.database.claim(&attached.claim()).await);
    let back = PutBack { id: got[0].id, wait: HOUR * 2, attempts: got[0].attempts, note: "later".into(), waits: None };
    ok(attached.database.settle(&Settlement { back: vec![back], ..settle_all(&[], Outcome::Kept) }, None).await);
    let wait = ok(attached.database.next_due(&attached.claim()).await).expect("a candidate waits");
    assert!(wait > HOUR && wait <= HOUR * 2 + Duration::from_secs(5), "{wait:?}");
}

/// Ids say nothing of times: a clock that was ahead for a moment has put a late release on an early id, which must not keep the others waiting.
pub async fn next_due_is_the_earliest_not_the_first(f: &Fixture) {
    let attached = candidates(f, 2).await;
    let (table, late) = match f.db.dialect() {
        Dialect::Sqlite => ("rowbound_candidate", "released_at + 86400000"),
        Dialect::Postgres => ("rowbound.candidate", "released_at + interval '1 day'"),
        Dialect::Mysql => ("rowbound_candidate", "released_at + interval 1 day"),
    };
    let first = f.db.query_strings(&format!("select cast(min(id) as char(20)) from {table}")).await;
    let first = first[0].as_deref().expect("two wait").trim().to_owned();
    f.db.exec(&format!("update {table} set released_at = {late} where id = {first}")).await;
    assert_eq!(ok(attached.database.next_due(&attached.claim()).await), Some(Duration::ZERO), "the second is due");
    assert_eq!(ok(attached.database.claim(&attached.claim()).await).len(), 1);
    // And where none is due yet, it is the earlier one that says when.
    let claim = Claim { grace: HOUR, ..attached.claim() };
    let wait = ok(attached.database.next_due(&claim).await).expect("they wait");
    assert!(wait <= HOUR * 2, "{wait:?}");
}

/// A put-back candidate stays, with its reason, and is due after its wait.
pub async fn what_is_put_back_is_due_later(f: &Fixture) {
    let attached = candidates(f, 2).await;
    let got = ok(attached.database.claim(&attached.claim()).await);
    let back = vec![
        PutBack { id: got[0].id, wait: HOUR, attempts: got[0].attempts + 1, note: "the storage is down".into(), waits: None },
        PutBack { id: got[1].id, wait: Duration::ZERO, attempts: got[1].attempts, note: "younger than min_age".into(), waits: None },
    ];
    let count = ok(attached.database.settle(&Settlement { back, ..settle_all(&[], Outcome::Kept) }, None).await);
    assert_eq!(count, 0, "nothing was settled");
    let again = ok(attached.database.claim(&attached.claim()).await);
    assert_eq!(again.iter().map(|c| (value(c), c.attempts)).collect::<Vec<_>>(), [("2.jpg".into(), 0)], "the other waits");
    let waiting = ok(attached.database.waiting(&["1.jpg".into()]).await);
    assert_eq!(waiting.len(), 1);
    assert_eq!((waiting[0].attempts, waiting[0].note.as_deref()), (1, Some("the storage is down")));
    let due = waiting[0].due_at.expect("it was put back").duration_since(Timestamp::now());
    assert!(due > SignedDuration::from_mins(55) && due < SignedDuration::from_mins(65), "{due:#}");
    assert!(ok(attached.database.history(&Filter::default()).await).is_empty(), "nothing was decided");
}

/// A candidate that waits for transactions remembers them until it is put back without; what is new waits for none.
pub async fn what_a_candidate_waits_for_is_remembered(f: &Fixture) {
    let attached = candidates(f, 5).await;
    let db = &attached.database;
    let announce = Announce { storage: "default".into(), name: World::file_name("6.jpg"), event: "stage", wait: Duration::ZERO };
    ok(db.announce(&[announce]).await);
    // In whatever order they come: some of them were released, one was announced.
    let claim = async || {
        let mut got = ok(db.claim(&attached.claim()).await);
        got.sort_by_key(value);
        got
    };
    let got = claim().await;
    assert_eq!(got.iter().map(|c| c.waits.clone()).collect::<Vec<_>>(), vec![None; 6]);
    let odd = ["3/17 \u{1F622}", "it's \"one\" \\ of \u{1}", "", "%s ?1 $1 :x"];
    let waits =
        |moved, keys: &[&str]| Some(Waits { moved, transactions: keys.iter().map(|k| (*k).to_owned()).collect(), ..Waits::default() });
    // As many and as long as can be.
    let many: Vec<_> = (0..5_000).map(|n| format!("{n}/{n} {n} 1763683200.123456")).collect();
    // Of those that are too young each is remembered by itself.
    let young = |content: &str, transactions: &[&str]| {
        let sight = Some(Observation { at: Timestamp::from_second(1_800_000_000).expect("a moment"), content: content.to_owned() });
        waits(false, transactions).map(|w| Waits { young: transactions.is_empty(), sight, ..w })
    };
    let want = [
        waits(false, &odd),
        young(odd[1], &odd),
        None,
        young("fe01:1a:4:6a.1", &[]),
        waits(false, &many.iter().map(String::as_str).collect::<Vec<_>>()),
        None,
    ];
    let back = |got: &[Candidate], want: &[Option<Waits>]| {
        let back = |(c, waits): (&Candidate, &Option<Waits>)| PutBack {
            id: c.id,
            wait: Duration::ZERO,
            attempts: c.attempts + u32::from(waits.is_none()),
            note: value(c),
            waits: waits.clone(),
        };
        Settlement { back: got.iter().zip(want).map(back).collect(), ..settle_all(&[], Outcome::Kept) }
    };
    ok(db.settle(&back(&got, &want), None).await);
    let got = claim().await;
    assert_eq!(got.iter().map(|c| c.waits.clone()).collect::<Vec<_>>(), want);
    assert_eq!(got.iter().map(|c| c.attempts).collect::<Vec<_>>(), [0, 0, 1, 0, 0, 1], "each has what was said of it");
    if f.db.dialect() != Dialect::Sqlite {
        let told = ok(db.waits(&attached.claim()).await);
        let count = |of: &Option<Waits>| told.iter().filter(|(w, _)| w == of).map(|(_, n)| *n).sum::<u64>();
        assert_eq!((count(&None), count(&want[0]), count(&want[1]), told.len()), (3, 1, 1, 4), "who is too young waits for nobody");
    }
    let notes: Vec<_> = ok(db.waiting(&["1.jpg".into(), "3.jpg".into()]).await).into_iter().map(|w| w.note).collect();
    assert_eq!(notes, [Some("1.jpg".to_owned()), Some("3.jpg".to_owned())]);

    // What comes out of one that waits begins anew, and so does what is put back without.
    let (derived, opened) = (World::file_name("d.jpg"), World::file_name("o.jpg"));
    let mut settlement = back(&got[1..], &[None, waits(true, &odd), None, None, None]);
    settlement.settled = vec![settled(got[0].id, Outcome::Opened)];
    settlement.opened = vec![Opened { id: got[0].id, name: opened }];
    settlement.derived = vec![Derived { name: derived, original: World::file_name("1.jpg") }];
    ok(db.settle(&settlement, None).await);
    let got = claim().await;
    let now: Vec<_> = got.iter().map(|c| (value(c), c.waits.clone())).collect();
    let none = ["2.jpg", "4.jpg", "5.jpg", "6.jpg", "d.jpg", "o.jpg"].map(|name| (name.to_owned(), None));
    assert_eq!(now, [&none[..1], &[("3.jpg".to_owned(), waits(true, &odd))], &none[1..]].concat());
}

/// What cannot be read is not taken for "waits for nothing": then a file could go too early.
pub async fn what_a_candidate_waits_for_must_be_readable(f: &Fixture) {
    let attached = candidates(f, 1).await;
    let table = if f.db.dialect() == Dialect::Postgres { "rowbound.candidate" } else { "rowbound_candidate" };
    f.db.exec(&format!("update {table} set waits = '{{\"moved\":true}}'")).await;
    let e = refused(attached.database.claim(&attached.claim()).await, "its transactions are missing");
    let id = f.db.query_strings(&format!("select cast(id as char(20)) from {table}")).await;
    let id = id[0].as_deref().expect("it is there").trim().to_owned();
    assert!(e.kind() == Kind::Database && e.to_string().contains(&format!("candidate: {id}")), "{}", e.full());
    f.db.exec(&format!("update {table} set waits = null")).await;
    let due = async || ok(attached.database.claim(&Claim { owner: "another".into(), not_due_too: true, ..attached.claim() }).await).len();
    if f.db.dialect() == Dialect::Sqlite {
        assert_eq!(due().await, 1);
    } else {
        // Where the claim was written before it was read its lease holds.
        f.db.exec(&format!("update {table} set due_at = null, owner = null")).await;
        assert_eq!(due().await, 1);
    }
}

/// A lease is confirmed to who holds it, of what it still holds. Where one worker works without leases, everything is.
pub async fn a_lease_is_confirmed_to_who_holds_it(f: &Fixture) {
    let attached = candidates(f, 4).await;
    let db = &attached.database;
    let claim = |owner: &str, limit| Claim { owner: owner.into(), limit, ..attached.claim() };
    let confirm = async |owner: &str, ids: &[i64]| {
        let mut held: Vec<_> = ok(db.confirm(owner, ids, attached.claim().lease).await).into_iter().collect();
        held.sort_unstable();
        held
    };
    if f.db.dialect() == Dialect::Sqlite {
        assert_eq!(confirm("suite", &[3, 1]).await, [1, 3]);
        return;
    }
    let mut mine: Vec<_> = ok(db.claim(&claim("suite", 2)).await).iter().map(|c| c.id).collect();
    let mut theirs: Vec<_> = ok(db.claim(&claim("another", 1)).await).iter().map(|c| c.id).collect();
    mine.sort_unstable();
    let due = async || {
        let waiting = ok(db.waiting(&["1.jpg".into(), "2.jpg".into(), "3.jpg".into(), "4.jpg".into()]).await);
        waiting.into_iter().map(|w| (w.id, w.due_at)).collect::<Vec<_>>()
    };
    let (before, unknown) = (due().await, i64::MAX - 1);
    let free = before.iter().find(|(_, due)| due.is_none()).expect("nobody has claimed the last one").0;
    let all = [&[unknown, free], &theirs[..], &mine[..], &mine[..]].concat();
    assert_eq!(confirm("suite", &all).await, mine);
    assert_eq!(confirm("another", &all).await, theirs);
    assert_eq!(confirm("nobody", &all).await, [0; 0]);
    assert_eq!(confirm("suite", &mine[1..]).await, mine[1..], "of what is asked for");
    assert_eq!(confirm("suite", &[]).await, [0; 0]);
    assert_eq!(due().await, before, "enough is left of each lease: nothing was written");

    // What is settled or put back is not held any more.
    let back = vec![PutBack { id: mine[1], wait: HOUR, attempts: 0, note: "later".into(), waits: None }];
    ok(db.settle(&Settlement { settled: vec![settled(mine[0], Outcome::Kept)], back, ..settle_all(&[], Outcome::Kept) }, None).await);
    assert_eq!(confirm("suite", &all).await, [0; 0]);
    theirs.push(free);
    assert_eq!(ok(db.claim(&claim("another", 9)).await).len(), 1);
    theirs.sort_unstable();
    assert_eq!(confirm("another", &all).await, theirs);
}

/// A lease that has run out is not confirmed, whether another has claimed the candidate or not.
pub async fn a_lease_that_ran_out_is_not_confirmed(f: &Fixture) {
    if f.db.dialect() == Dialect::Sqlite {
        return; // no claim is written
    }
    let attached = candidates(f, 2).await;
    let db = &attached.database;
    let held = ok(db.claim(&Claim { limit: 1, ..attached.claim() }).await)[0].id;
    let short = Claim { lease: Duration::from_millis(300), limit: 1, ..attached.claim() };
    let gone = ok(db.claim(&short).await)[0].id;
    // Asked with no lease to be had: so that asking does not prolong it.
    let none = async || ok(db.confirm("suite", &[gone], Duration::ZERO).await).is_empty();
    wait_until(DEADLINE, "the lease runs out", none).await;
    assert_eq!(ok(db.confirm("suite", &[gone, held], HOUR).await), [held].into(), "it does not come back, though the other begins anew");
    let theirs = ok(db.claim(&Claim { owner: "another".into(), ..attached.claim() }).await);
    assert_eq!(theirs.iter().map(|c| c.id).collect::<Vec<_>>(), [gone]);
    assert_eq!(ok(db.confirm("suite", &[gone, held], HOUR * 3).await), [held].into());
    assert_eq!(ok(db.confirm("another", &[gone, held], HOUR).await), [gone].into());
}

/// A lease of which less than half is left begins anew with the others that are asked for, and nobody else's does.
pub async fn a_lease_that_is_half_over_begins_anew(f: &Fixture) {
    if f.db.dialect() == Dialect::Sqlite {
        return; // no claim is written
    }
    let attached = candidates(f, 4).await;
    let db = &attached.database;
    let mut ids = Vec::new();
    for (owner, lease) in [("suite", HOUR * 4), ("suite", HOUR), ("another", HOUR), ("suite", HOUR)] {
        ids.push(ok(db.claim(&Claim { owner: owner.into(), lease, limit: 1, ..attached.claim() }).await)[0].id);
    }
    let hours = async || {
        let names: Vec<_> = (1..=4).map(|n| format!("{n}.jpg")).collect();
        let mut waiting = ok(db.waiting(&names).await);
        waiting.sort_by_key(|w| w.id);
        let left = |w: &rowbound::queue::Waiting| w.due_at.expect("it is claimed").duration_since(Timestamp::now()).as_secs_f64() / 3600.0;
        waiting.iter().map(|w| left(w).round() as i64).collect::<Vec<_>>()
    };
    assert_eq!(hours().await, [4, 1, 1, 1]);
    ok(db.confirm("suite", &ids[..3], Duration::from_secs(60 * 100)).await);
    assert_eq!(hours().await, [4, 1, 1, 1], "more than half is left");
    assert_eq!(ok(db.confirm("suite", &ids[..3], HOUR * 6).await), ids[..2].iter().copied().collect());
    assert_eq!(hours().await, [6, 6, 1, 1], "what another holds, and what was not asked for, stays");
    // Another worker finds nothing that is due, now as before.
    assert!(ok(db.claim(&Claim { owner: "a third".into(), not_due_too: true, ..attached.claim() }).await).is_empty());
    // Whoever holds them still settles them.
    let settled = ids.iter().map(|id| settled(*id, Outcome::Kept)).collect();
    assert_eq!(ok(db.settle(&Settlement { settled, ..settle_all(&[], Outcome::Kept) }, None).await), 3);
}

/// A large batch is confirmed, and begins anew, as a small one does.
pub async fn ten_thousand_leases_are_confirmed_at_once(f: &Fixture) {
    f.docs(&[]).await;
    let attached = f.attach(&["doc.file"]).await;
    let db = &attached.database;
    let announce =
        |n| Announce { storage: "default".into(), name: World::file_name(&format!("{n}.jpg")), event: "sweep", wait: Duration::ZERO };
    ok(db.announce(&(0..10_000).map(announce).collect::<Vec<_>>()).await);
    let ids: Vec<_> = ok(db.claim(&attached.claim()).await).iter().map(|c| c.id).collect();
    assert_eq!(ids.len(), 10_000);
    let all: std::collections::HashSet<_> = ids.iter().copied().collect();
    for lease in [attached.claim().lease, HOUR] {
        let began = std::time::Instant::now();
        assert_eq!(ok(db.confirm("suite", &ids, lease).await), all);
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    }
}

/// `collect --retry-now` takes what waits for another try.
pub async fn not_due_too_takes_what_waits(f: &Fixture) {
    let attached = candidates(f, 1).await;
    let got = ok(attached.database.claim(&attached.claim()).await);
    let back = vec![PutBack { id: got[0].id, wait: HOUR, attempts: got[0].attempts + 1, note: "down".into(), waits: None }];
    ok(attached.database.settle(&Settlement { back, ..settle_all(&[], Outcome::Kept) }, None).await);
    assert!(ok(attached.database.claim(&attached.claim()).await).is_empty());
    let mut claim = attached.claim();
    claim.not_due_too = true;
    let got = ok(attached.database.claim(&claim).await);
    assert_eq!(got.iter().map(|c| (value(c), c.attempts)).collect::<Vec<_>>(), [("1.jpg".into(), 1)]);
    if f.db.dialect() != Dialect::Sqlite {
        claim.owner = "another".into();
        assert!(ok(attached.database.claim(&claim).await).is_empty(), "what another holds is not taken");
    }
}

/// A settled candidate leaves the queue and stands in the ledger with all that is known of it.
pub async fn what_is_settled_moves_to_the_ledger(f: &Fixture) {
    let attached = candidates(f, 2).await;
    let got = ok(attached.database.claim(&attached.claim()).await);
    let mut settlement = settle_all(&[], Outcome::Kept);
    settlement.settled = vec![
        Decision {
            id: got[0].id,
            outcome: Outcome::Trashed,
            name: Some("resolved/1.jpg".into()),
            size: Some(5_000_000_000),
            place: Some("2026-11-21/1.jpg".into()),
            note: Some("it's \"gone\" ✓".into()),
        },
        settled(got[1].id, Outcome::Missing),
    ];
    assert_eq!(ok(attached.database.settle(&settlement, None).await), 2);
    assert!(ok(attached.database.claim(&attached.claim()).await).is_empty());
    assert_eq!(ok(attached.database.backlog(&attached.claim()).await).total, 0);
    let mut entries = ok(attached.database.history(&Filter::default()).await);
    entries.sort_by_key(|e| e.id);
    assert_eq!(entries.len(), 2);
    let e = &entries[0];
    assert_eq!((e.storage.as_str(), e.binding, e.name.as_str(), e.key.as_deref()), ("default", Some(1), "resolved/1.jpg", Some("1")));
    assert_eq!((e.event.as_str(), e.outcome, e.size), ("delete", Outcome::Trashed, Some(5_000_000_000)));
    assert_eq!((e.place.as_deref(), e.note.as_deref()), (Some("2026-11-21/1.jpg"), Some("it's \"gone\" ✓")));
    assert_eq!(e.released_at, Some(got[0].released_at));
    let age = Timestamp::now().duration_since(e.at);
    assert!(age > SignedDuration::from_secs(-5) && age < SignedDuration::from_secs(60), "{age:#}");
    let e = &entries[1];
    assert_eq!((e.name.as_str(), e.outcome, e.size, &e.place, &e.note), ("2.jpg", Outcome::Missing, None, &None, &None));
}

/// A settlement that is repeated (its answer was lost) changes nothing more.
/// Active Storage: record already gone: the job is quiet.
pub async fn settling_twice_writes_one_entry(f: &Fixture) {
    let attached = candidates(f, 3).await;
    let got = ok(attached.database.claim(&attached.claim()).await);
    let settlement = settle_all(&got, Outcome::Erased);
    assert_eq!(ok(attached.database.settle(&settlement, None).await), 3);
    assert_eq!(ok(attached.database.settle(&settlement, None).await), 0);
    assert_eq!(ok(attached.database.history(&Filter::default()).await).len(), 3);
}

/// What another worker has claimed meanwhile is left alone: neither settled nor put back.
/// Shrine, CarrierWave, Laravel Media Library or unused-media: a stale job is refused when the row has moved on.
pub async fn another_owner_settles_nothing(f: &Fixture) {
    if f.db.dialect() == Dialect::Sqlite {
        return; // a claim writes nothing there: one worker at a time
    }
    let attached = candidates(f, 2).await;
    let mut claim = attached.claim();
    claim.owner = "another".into();
    let theirs = ok(attached.database.claim(&claim).await);
    let mut settlement = settle_all(&theirs[..1], Outcome::Erased);
    settlement.back =
        vec![PutBack { id: theirs[1].id, wait: HOUR, attempts: theirs[1].attempts + 1, note: "not mine".into(), waits: None }];
    assert_eq!(ok(attached.database.settle(&settlement, None).await), 0);
    assert!(ok(attached.database.history(&Filter::default()).await).is_empty());
    settlement.owner = "another".into();
    settlement.back.clear();
    settlement.settled = theirs.iter().map(|c| settled(c.id, Outcome::Erased)).collect();
    assert_eq!(ok(attached.database.settle(&settlement, None).await), 2, "the holder settles");
    assert!(ok(attached.database.history(&Filter::default()).await).iter().all(|e| e.note.is_none()));
}

/// A value that held no name is not told; what another worker holds stays.
pub async fn what_held_no_name_leaves_without_an_entry(f: &Fixture) {
    let attached = candidates(f, 3).await;
    let database = &attached.database;
    ok(database.follow("cdn", &Outcome::ALL.map(|(o, _)| o)).await);
    let claimed = ok(database.claim(&Claim { limit: 2, ..attached.claim() }).await);
    let empty: Vec<i64> = claimed.iter().map(|c| c.id).collect();
    let settlement = Settlement { empty, ..settle_all(&[], Outcome::Foreign) };
    if f.db.dialect() != Dialect::Sqlite {
        ok(database.settle(&Settlement { owner: "another".into(), ..settlement.clone() }, None).await);
        assert_eq!(ok(database.backlog(&attached.claim()).await).total, 3, "another owner's stay");
    }
    assert_eq!(ok(database.settle(&settlement, None).await), 0);
    assert_eq!(ok(database.backlog(&attached.claim()).await).total, 1);
    assert!(ok(database.history(&Filter::default()).await).is_empty());
    assert_eq!(ok(database.followers().await)[0].waiting, 0);
}

/// Derivatives become candidates in the transaction that settles their original, or not at all; twice is as good as once.
pub async fn derivatives_enter_with_the_settlement(f: &Fixture) {
    let attached = candidates(f, 1).await;
    let got = ok(attached.database.claim(&attached.claim()).await);
    let derived = ["t/1.jpg/a'\"b.jpg", "t/1.jpg/ü.jpg", "t/1.jpg/ü.jpg"]
        .map(|name| Derived { name: World::file_name(name), original: World::file_name("1.jpg") });
    let settlement = Settlement { derived: derived.to_vec(), ..settle_all(&got, Outcome::Trashed) };

    // The last step of the transaction fails: nothing of it stays.
    let (refuse, allow) = match f.db.dialect() {
        Dialect::Sqlite => (
            "create trigger no before insert on rowbound_candidate when new.event = 'derivative' begin select raise(abort, 'no'); end",
            "drop trigger no",
        ),
        Dialect::Postgres => (
            "alter table rowbound.candidate add constraint no check (event <> 'derivative')",
            "alter table rowbound.candidate drop constraint no",
        ),
        Dialect::Mysql => (
            "alter table rowbound_candidate add constraint no_derivative check (event <> 'derivative')",
            "alter table rowbound_candidate drop constraint no_derivative",
        ),
    };
    f.db.exec(refuse).await;
    refused(attached.database.settle(&settlement, None).await, "the derivatives cannot enter");
    assert_eq!(ok(attached.database.backlog(&attached.claim()).await).total, 1, "its original is not settled either");
    assert!(ok(attached.database.history(&Filter::default()).await).is_empty());
    f.db.exec(allow).await;

    assert_eq!(ok(attached.database.settle(&settlement, None).await), 1);
    let mut claim = attached.claim();
    claim.grace = HOUR; // they do not wait for it
    assert_eq!(ok(attached.database.next_due(&claim).await), Some(Duration::ZERO));
    let got = ok(attached.database.claim(&claim).await);
    let seen: Vec<_> = got.iter().map(|c| (value(c), c.binding, c.key.as_deref(), c.event.as_str())).collect();
    let want = |name: &str| (name.to_owned(), None, Some("1.jpg"), "derivative");
    assert_eq!(seen, [want("t/1.jpg/a'\"b.jpg"), want("t/1.jpg/ü.jpg"), want("t/1.jpg/ü.jpg")]);
    let age = Timestamp::now().duration_since(got[0].released_at);
    assert!(age > SignedDuration::from_secs(-5) && age < SignedDuration::from_secs(60), "{age:#}");
    assert_eq!(ok(attached.database.settle(&settle_all(&got, Outcome::Erased), None).await), 3);
    let entries = ok(attached.database.history(&Filter { name: Some("t/1.jpg/ü.jpg".into()), ..Filter::default() }).await);
    assert_eq!(entries.len(), 2);
    assert_eq!((entries[0].event.as_str(), entries[0].key.as_deref()), ("derivative", Some("1.jpg")));
}

/// What a value with many names holds becomes candidates in the transaction that settles it: same row, same event, same time, marked as names.
pub async fn names_of_a_value_become_candidates_of_their_own(f: &Fixture) {
    let attached = candidates(f, 2).await;
    let got = ok(attached.database.claim(&attached.claim()).await);
    let names = ["a'\"b.jpg", "\u{fc}.jpg"].map(World::file_name);
    let opened = names.iter().map(|n| Opened { id: got[0].id, name: n.clone() }).collect();
    let settlement = Settlement { opened, ..settle_all(&got[..1], Outcome::Opened) };
    assert_eq!(ok(attached.database.settle(&settlement, None).await), 1);
    if f.db.dialect() != Dialect::Sqlite {
        assert_eq!(ok(attached.database.settle(&settlement, None).await), 0, "who does not hold it opens nothing");
        let back = vec![PutBack { id: got[1].id, wait: Duration::ZERO, attempts: got[1].attempts, note: "later".into(), waits: None }];
        ok(attached.database.settle(&Settlement { back, ..settle_all(&[], Outcome::Kept) }, None).await);
    }
    let mut again = ok(attached.database.claim(&attached.claim()).await);
    again.sort_by_key(|c| c.id);
    let (raw, opened): (Vec<_>, Vec<_>) = again.into_iter().partition(|c| !c.opened);
    assert_eq!(raw.iter().map(|c| c.id).collect::<Vec<_>>(), [got[1].id], "others are as they were");
    assert_eq!(opened.iter().map(value).collect::<Vec<_>>(), names.each_ref().map(ToString::to_string));
    for c in &opened {
        let of = &got[0];
        assert_eq!((c.binding, &c.key, &c.event, c.released_at, c.attempts), (of.binding, &of.key, &of.event, of.released_at, 0));
    }
    let entries = ok(attached.database.history(&Filter::default()).await);
    assert_eq!(entries.iter().map(|e| e.outcome).collect::<Vec<_>>(), [Outcome::Opened]);
}

/// A batch of texts of megabytes is a batch of few.
pub async fn a_claim_is_limited_in_bytes(f: &Fixture) {
    let wide = if f.db.dialect() == Dialect::Mysql { "longtext" } else { "text" };
    f.db.exec(&format!("create table doc (id integer primary key, file {wide})")).await;
    let of = |times: &str| match f.db.dialect() {
        Dialect::Sqlite => format!("replace(hex(zeroblob({times} / 2)), '0', 'x')"),
        _ => format!("repeat('x', {times})"),
    };
    for id in 1..=5 {
        f.db.exec(&format!("insert into doc values ({id}, {})", of("6000000"))).await;
    }
    f.db.exec("insert into doc values (6, 'a.jpg')").await;
    let attached = f.attach(&["doc.file"]).await;
    f.db.exec("delete from doc").await;
    let mut sizes = Vec::new();
    loop {
        let claimed = ok(attached.database.claim(&attached.claim()).await);
        if claimed.is_empty() {
            break;
        }
        let bytes: usize = claimed.iter().map(|c| c.value.len()).sum();
        assert!(bytes <= CLAIM_BYTES + 6_000_000, "{bytes}");
        sizes.extend(claimed.iter().map(|c| c.value.len()));
        let mut settlement = settle_all(&claimed, Outcome::Kept);
        settlement.settled.iter_mut().for_each(|s| s.name = Some("a text".into()));
        ok(attached.database.settle(&settlement, None).await);
    }
    sizes.sort_unstable();
    assert_eq!(sizes, [5, 6_000_000, 6_000_000, 6_000_000, 6_000_000, 6_000_000]);
}

/// An announced name is a candidate without a binding, due after its wait.
pub async fn the_announced_is_due_after_its_wait(f: &Fixture) {
    f.docs(&[]).await;
    let attached = f.attach(&["doc.file"]).await;
    let announce = |name: &str, event, wait| Announce { storage: "default".into(), name: World::file_name(name), event, wait };
    ok(attached.database.announce(&[]).await);
    ok(attached.database.announce(&[announce("now ü'\\.jpg ", "sweep", Duration::ZERO), announce("later.jpg", "stage", HOUR)]).await);
    let got = ok(attached.database.claim(&attached.claim()).await);
    let told: Vec<_> = got.iter().map(|c| (value(c), c.binding, c.event.as_str(), c.key.as_deref())).collect();
    assert_eq!(told, [("now ü'\\.jpg ".into(), None, "sweep", None)]);
    let waiting = ok(attached.database.waiting(&["later.jpg".into()]).await);
    let due = waiting[0].due_at.expect("it waits").duration_since(Timestamp::now());
    assert!(due > SignedDuration::from_mins(55) && due < SignedDuration::from_mins(65), "{due:#}");
    assert_eq!(waiting[0].attempts, 0);
    let many: Vec<_> = (0..2500).map(|i| announce(&format!("{i}.jpg"), "sweep", Duration::ZERO)).collect();
    ok(attached.database.announce(&many).await);
    assert_eq!(ok(attached.database.backlog(&attached.claim()).await).total, 2502);
    ok(attached.database.settle(&settle_all(&got, Outcome::Erased), None).await);
    assert_eq!(attached.released().await.len(), 2500);
}

/// What is announced stays, whatever becomes of a transaction that the application has open; and nobody takes it before its time.
/// unused-media: minimum age.
pub async fn the_announced_stays_when_the_application_rolls_back(f: &Fixture) {
    f.docs(&[]).await;
    let attached = f.attach(&["doc.file"]).await;
    let upload = |event| Announce { storage: "default".into(), name: World::file_name("up.jpg"), event, wait: HOUR };
    let mut app = f.db.app().await;
    app.begin().await;
    if f.db.dialect() != Dialect::Sqlite {
        // There a transaction that has written keeps the candidate out: `announcing_under_a_lock_says_so`.
        app.exec("insert into doc values (1, 'up.jpg', 'x')").await;
    }
    ok(attached.database.announce(&[upload("stage")]).await);
    app.rollback().await;
    assert_eq!(ok(attached.database.waiting(&["up.jpg".into()]).await).len(), 1);
    let early = Claim { not_due_too: true, ..attached.claim() };
    assert!(ok(attached.database.claim(&early).await).is_empty(), "an upload's time is nobody's to shorten");
    let backlog = ok(attached.database.backlog(&attached.claim()).await);
    assert_eq!(
        (backlog.total, backlog.due, backlog.staged, backlog.oldest_seconds),
        (1, 0, 1, None),
        "an upload that waits for its row is not late"
    );
    ok(attached.database.announce(&[upload("release")]).await);
    assert!(ok(attached.database.backlog(&attached.claim()).await).oldest_seconds.is_some());
}

/// On SQLite somebody who has written and not committed keeps an upload's candidate out: that is said, soon enough for who uploads, and with what helps.
pub async fn announcing_under_a_lock_says_so(f: &Fixture) {
    f.docs(&[]).await;
    let attached = f.attach(&["doc.file"]).await;
    let upload = Announce { storage: "default".into(), name: World::file_name("up.jpg"), event: "stage", wait: HOUR };
    let mut app = f.db.app().await;
    app.begin().await;
    app.exec("insert into doc values (1, 'up.jpg', 'x')").await;
    let announced = attached.database.announce(std::slice::from_ref(&upload)).await;
    if f.db.dialect() == Dialect::Sqlite {
        let e = announced.expect_err("it has the write lock");
        assert_eq!(e.kind(), Kind::Busy, "{}", e.full());
        assert!(e.hint_text().is_some_and(|hint| hint.contains("before a transaction begins to write")), "{e:?}");
    } else {
        ok(announced);
    }
    app.commit().await;
    ok(attached.database.announce(&[upload]).await);
}

/// An upload is announced if the installation still is the one that it relies on and its binding is active; else nothing is written.
pub async fn nothing_is_announced_for_what_is_not_attached(f: &Fixture) {
    f.docs(&[]).await;
    let attached = f.attach(&["doc.file", "doc.title"]).await;
    let upload = |name: &str| Announce { storage: "default".into(), name: World::file_name(name), event: "stage", wait: HOUR };
    let on = |bindings: &[i32]| Reliance { installation: attached.record.id.clone(), bindings: bindings.to_vec() };
    let db = &attached.database;
    ok(db.announce_relying(&[upload("ü'\\.jpg"), upload("b.jpg")], &on(&[1, 2])).await);
    ok(db.announce_relying(&[upload("c.jpg")], &on(&[])).await);
    let total = async || ok(db.backlog(&attached.claim()).await).total;
    assert_eq!(total().await, 3);
    let e = refused(db.announce_relying(&[upload("d.jpg")], &on(&[1, 3])).await, "there is no third binding");
    assert_eq!(e.kind(), Kind::NotAttached, "{}", e.full());
    let other = Reliance { installation: "another".into(), bindings: vec![1] };
    assert_eq!(refused(db.announce_relying(&[upload("d.jpg")], &other).await, "another installation").kind(), Kind::NotAttached);
    // Another program attaches without the first column.
    let mut record = attached.record.clone();
    record.active = vec![2];
    ok(db.install(&attached.bound[1..], &record).await);
    let e = refused(db.announce_relying(&[upload("d.jpg")], &on(&[1])).await, "its binding is gone");
    assert!(e.kind() == Kind::NotAttached && e.full().contains("doc.file -> default"), "{}", e.full());
    ok(db.announce_relying(&[upload("e.jpg")], &on(&[2])).await);
    assert_eq!(total().await, 4, "what was refused is not there");
    ok(db.remove().await);
    assert_eq!(refused(db.announce_relying(&[upload("d.jpg")], &on(&[2])).await, "detached").kind(), Kind::NotAttached);
}

/// Entries of the trash stand in the ledger without a candidate.
pub async fn entries_without_a_candidate_are_kept(f: &Fixture) {
    f.docs(&[]).await;
    let attached = f.attach(&["doc.file"]).await;
    let entry = NewEntry {
        storage: "default".into(),
        name: "a ü'\\.jpg ".into(),
        outcome: Outcome::Restored,
        event: "restore",
        size: Some(7),
        place: Some("place".into()),
        note: None,
    };
    ok(attached.database.enter(&[]).await);
    ok(attached
        .database
        .enter(&[
            entry.clone(),
            NewEntry { outcome: Outcome::Purged, event: "trash", size: None, place: None, note: Some("n".into()), ..entry },
        ])
        .await);
    let mut got = ok(attached.database.history(&Filter::default()).await);
    got.sort_by_key(|e| e.id);
    let told: Vec<_> =
        got.iter().map(|e| (e.name.as_str(), e.outcome, e.event.as_str(), e.size, e.place.as_deref(), e.note.as_deref())).collect();
    assert_eq!(
        told,
        [
            ("a ü'\\.jpg ", Outcome::Restored, "restore", Some(7), Some("place"), None),
            ("a ü'\\.jpg ", Outcome::Purged, "trash", None, None, Some("n"))
        ]
    );
    assert!(got.iter().all(|e| e.binding.is_none() && e.key.is_none() && e.released_at.is_none()));
}

/// Every filter of `history`, alone and together; the newest entry first.
pub async fn history_filters_and_begins_with_the_newest(f: &Fixture) {
    f.docs(&[]).await;
    let attached = f.attach(&["doc.file"]).await;
    let entry = |storage: &str, name: &str, outcome| NewEntry {
        storage: storage.into(),
        name: name.into(),
        outcome,
        event: "trash",
        size: None,
        place: None,
        note: None,
    };
    for e in [
        entry("default", "a.jpg", Outcome::Trashed),
        entry("default", "A.jpg", Outcome::Erased),
        entry("default", "a.jpg ", Outcome::Erased),
        entry("two", "a.jpg", Outcome::Purged),
        entry("default", "a.jpg", Outcome::Purged),
    ] {
        ok(attached.database.enter(&[e]).await);
    }
    let ask = async |filter: Filter| -> Vec<String> {
        ok(attached.database.history(&filter).await).iter().map(|e| format!("{} {} {}", e.storage, e.name, e.outcome.word())).collect()
    };
    let every = ["default a.jpg purged", "two a.jpg purged", "default a.jpg  erased", "default A.jpg erased", "default a.jpg trashed"];
    assert_eq!(ask(Filter::default()).await, every);
    assert_eq!(ask(Filter { limit: Some(2), ..Filter::default() }).await, every[..2]);
    assert_eq!(ask(Filter { storage: Some("two".into()), ..Filter::default() }).await, [every[1]]);
    assert_eq!(ask(Filter { name: Some("a.jpg".into()), ..Filter::default() }).await, [every[0], every[1], every[4]], "names are exact");
    assert_eq!(ask(Filter { outcomes: vec![Outcome::Erased], ..Filter::default() }).await, [every[2], every[3]]);
    assert_eq!(
        ask(Filter { outcomes: vec![Outcome::Erased, Outcome::Trashed], limit: Some(3), ..Filter::default() }).await,
        [every[2], every[3], every[4]]
    );
    let later = Timestamp::now() + SignedDuration::from_hours(1);
    assert!(ask(Filter { since: Some(later), ..Filter::default() }).await.is_empty());
    let earlier = Timestamp::now() - SignedDuration::from_hours(1);
    assert_eq!(
        ask(Filter {
            since: Some(earlier),
            storage: Some("default".into()),
            name: Some("a.jpg".into()),
            outcomes: vec![Outcome::Purged],
            limit: Some(9),
            ..Filter::default()
        })
        .await,
        [every[0]]
    );
}

/// A page begins before the last entry of the one before it, whatever is entered meanwhile.
pub async fn history_goes_on_before_an_entry(f: &Fixture) {
    f.docs(&[]).await;
    let attached = f.attach(&["doc.file"]).await;
    let db = &attached.database;
    let entry = |n: usize| NewEntry {
        storage: if n.is_multiple_of(3) { "two" } else { "default" }.into(),
        name: format!("{n}"),
        outcome: if n.is_multiple_of(2) { Outcome::Purged } else { Outcome::Dangling },
        event: "trash",
        size: None,
        place: None,
        note: None,
    };
    ok(db.enter(&(0..25).map(entry).collect::<Vec<_>>()).await);
    let pages = async |filter: Filter, later: &[NewEntry]| {
        let (mut names, mut before) = (Vec::new(), None);
        loop {
            let page = ok(db.history(&Filter { before, limit: Some(4), ..filter.clone() }).await);
            assert!(page.iter().all(|e| before.is_none_or(|before| e.id < before)));
            let Some(last) = page.last() else { return names };
            before = Some(last.id);
            names.extend(page.into_iter().map(|e| e.name.parse::<usize>().expect("a number")));
            ok(db.enter(later).await);
        }
    };
    let all: Vec<_> = (0..25).rev().collect();
    assert_eq!(pages(Filter::default(), &[]).await, all);
    let of = |keep: fn(&usize) -> bool| all.iter().copied().filter(keep).collect::<Vec<_>>();
    assert_eq!(pages(Filter { storage: Some("two".into()), ..Filter::default() }, &[]).await, of(|n| n.is_multiple_of(3)));
    let dangling = Filter { outcomes: vec![Outcome::Dangling], storage: Some("default".into()), ..Filter::default() };
    assert_eq!(pages(dangling, &[]).await, of(|n| !n.is_multiple_of(2) && !n.is_multiple_of(3)));
    assert_eq!(pages(Filter { name: Some("7".into()), ..Filter::default() }, &[]).await, [7]);
    assert_eq!(pages(Filter { since: Some(Timestamp::now() - SignedDuration::from_hours(1)), ..Filter::default() }, &[]).await, all);
    // What comes between two pages is on none of them.
    assert_eq!(pages(Filter::default(), &[entry(99)]).await, all);
    let first = ok(db.history(&Filter::default()).await).last().expect("entries").id;
    for (before, count) in [(first, 0), (first + 1, 1), (i64::MIN, 0), (-1, 0)] {
        assert_eq!(ok(db.history(&Filter { before: Some(before), ..Filter::default() }).await).len(), count, "{before}");
    }
    assert_eq!(ok(db.history(&Filter { before: Some(i64::MAX), ..Filter::default() }).await).len(), 25 + 7);
}

/// The ledger takes every outcome there is.
pub async fn every_outcome_is_entered(f: &Fixture) {
    f.docs(&[]).await;
    let attached = f.attach(&["doc.file"]).await;
    ok(attached.database.enter(&Outcome::ALL.map(|(outcome, _)| entry(outcome))).await);
    let got: Vec<_> = ok(attached.database.history(&Filter::default()).await).iter().rev().map(|e| (e.name.clone(), e.outcome)).collect();
    assert_eq!(got, Outcome::ALL.map(|(outcome, _)| (outcome.word().to_owned(), outcome)));
}

/// Counts and bytes per storage and outcome.
pub async fn totals_sum_the_ledger(f: &Fixture) {
    f.docs(&[]).await;
    let attached = f.attach(&["doc.file"]).await;
    assert!(ok(attached.database.totals(None).await).is_empty());
    let entry = |storage: &str, outcome, size| NewEntry {
        storage: storage.into(),
        name: "a".into(),
        outcome,
        event: "trash",
        size,
        place: None,
        note: None,
    };
    ok(attached
        .database
        .enter(&[
            entry("default", Outcome::Erased, Some(4_000_000_000)),
            entry("default", Outcome::Erased, Some(4_000_000_000)),
            entry("default", Outcome::Kept, None),
            entry("two", Outcome::Erased, Some(1)),
        ])
        .await);
    let ask = async |since| {
        let mut got: Vec<_> =
            ok(attached.database.totals(since).await).into_iter().map(|t| (t.storage, t.outcome.word(), t.count, t.bytes)).collect();
        got.sort();
        got
    };
    let want = [("default".into(), "erased", 2, 8_000_000_000), ("default".into(), "kept", 1, 0), ("two".into(), "erased", 1, 1)];
    assert_eq!(ask(None).await, want);
    assert_eq!(ask(Some(Timestamp::now() - SignedDuration::from_hours(1))).await, want);
    assert!(ask(Some(Timestamp::now() + SignedDuration::from_hours(1))).await.is_empty());
}

/// A file that shadow mode released twice counts once, with its latest size and its first moment; others' do not count.
pub async fn shadowed_counts_each_file_once(f: &Fixture) {
    f.docs(&["a.jpg", "a.jpg", "A.jpg", "b.jpg"]).await;
    f.db.exec("create table other (id integer primary key, file varchar(255))").await;
    f.db.exec("insert into other values (1, 'c.jpg')").await;
    let attached = f.attach(&["doc.file", "other.file"]).await;
    let database = &attached.database;
    assert_eq!(ok(database.shadowed(1, None).await), Shadowed::default());
    let release = async |sql: &str, outcome, size| {
        f.db.exec(sql).await;
        let claimed = ok(database.claim(&attached.claim()).await);
        let settled = claimed.iter().map(|c| Decision { size: Some(size), ..settled(c.id, outcome) }).collect();
        ok(database.settle(&Settlement { settled, ..settle_all(&[], outcome) }, None).await);
    };
    release("delete from doc where id = 1", Outcome::Shadow, 4_000_000_000).await;
    let first = ok(database.shadowed(1, None).await);
    assert_eq!((first.files, first.bytes), (1, 4_000_000_000));
    release("delete from doc where id = 2", Outcome::Shadow, 5_000_000_000).await;
    release("delete from doc where id = 3", Outcome::Shadow, 1).await;
    release("delete from doc where id = 4", Outcome::Kept, 7).await;
    release("delete from other", Outcome::Shadow, 9).await;
    let all = ok(database.shadowed(1, None).await);
    assert_eq!((all.files, all.bytes, all.oldest), (2, 5_000_000_001, first.oldest));
    assert_eq!(ok(database.shadowed(1, first.oldest).await), all, "a moment counts itself");
    assert_eq!(ok(database.shadowed(1, Some(Timestamp::now() + SignedDuration::from_hours(1))).await), Shadowed::default());
    assert_eq!(ok(database.shadowed(2, None).await).bytes, 9);
}

/// What waits, what is due, what fails, and since when.
pub async fn the_backlog_counts(f: &Fixture) {
    let attached = candidates(f, 4).await;
    let backlog = ok(attached.database.backlog(&attached.claim()).await);
    assert_eq!((backlog.total, backlog.due, backlog.failing), (4, 4, 0));
    assert!(backlog.oldest_seconds.is_some_and(|s| s < 60), "{:?}", backlog.oldest_seconds);
    let mut patient = attached.claim();
    patient.grace = HOUR;
    let backlog = ok(attached.database.backlog(&patient).await);
    assert_eq!((backlog.total, backlog.due), (4, 0), "the grace has not passed");

    let got = ok(attached.database.claim(&attached.claim()).await);
    if f.db.dialect() != Dialect::Sqlite {
        assert_eq!(ok(attached.database.backlog(&attached.claim()).await).due, 0, "they are held");
    }
    let back = vec![
        PutBack { id: got[0].id, wait: HOUR, attempts: got[0].attempts + 1, note: "the storage is down".into(), waits: None },
        PutBack { id: got[1].id, wait: HOUR, attempts: got[1].attempts, note: "young".into(), waits: None },
        PutBack { id: got[2].id, wait: Duration::ZERO, attempts: got[2].attempts + 1, note: "again".into(), waits: None },
        PutBack { id: got[3].id, wait: Duration::ZERO, attempts: got[3].attempts, note: "again".into(), waits: None },
    ];
    ok(attached.database.settle(&Settlement { back, ..settle_all(&[], Outcome::Kept) }, None).await);
    let backlog = ok(attached.database.backlog(&attached.claim()).await);
    assert_eq!((backlog.total, backlog.due, backlog.failing), (4, 2, 2));
    let shown = backlog.sample.iter().find(|w| w.value == "1.jpg").expect("the failing one is shown");
    assert_eq!((shown.attempts, shown.note.as_deref(), shown.key.as_deref()), (1, Some("the storage is down"), Some("1")));

    let mut other = attached.claim();
    (other.storage, other.bindings) = ("two".into(), vec![]);
    let backlog = ok(attached.database.backlog(&other).await);
    assert_eq!((backlog.total, backlog.due, backlog.failing, backlog.oldest_seconds), (0, 0, 0, None));
}

/// `waiting` finds candidates by their exact value.
pub async fn waiting_finds_exact_values(f: &Fixture) {
    f.docs(&["a.jpg", "A.jpg", "a.jpg ", "it's", "a.jpg"]).await;
    let attached = f.attach(&["doc.file"]).await;
    f.db.exec("delete from doc").await;
    let ask = async |values: &[&str]| {
        let values: Vec<_> = values.iter().map(|v| (*v).to_owned()).collect();
        let mut got: Vec<_> = ok(attached.database.waiting(&values).await).into_iter().map(|w| (w.value, w.key)).collect();
        got.sort();
        got
    };
    let row = |value: &str, key: &str| (value.to_owned(), Some(key.to_owned()));
    assert_eq!(ask(&["a.jpg"]).await, [row("a.jpg", "1"), row("a.jpg", "5")]);
    assert_eq!(ask(&["a.jpg ", "it's"]).await, [row("a.jpg ", "3"), row("it's", "4")]);
    assert!(ask(&["a.JPG"]).await.is_empty());
    assert!(ask(&[]).await.is_empty());
}

/// Where only one may work, a second is refused until the first lets go; elsewhere nobody is.
pub async fn one_works_where_only_one_may(f: &Fixture) {
    f.docs(&[]).await;
    let attached = f.attach(&["doc.file"]).await;
    let other = f.open().await;
    let held = ok(attached.database.lock_worker().await);
    if f.db.dialect() == Dialect::Sqlite {
        assert!(held.is_some());
        assert_eq!(refused(other.lock_worker().await, "another holds it").kind(), Kind::Busy);
        drop(held);
        assert!(ok(other.lock_worker().await).is_some());
    } else {
        assert!(held.is_none() && ok(other.lock_worker().await).is_none());
    }
}

/// An entry with this outcome, of a name that is the outcome's word.
pub(super) fn entry(outcome: Outcome) -> NewEntry {
    NewEntry { storage: "default".into(), name: outcome.word().into(), outcome, event: "trash", size: None, place: None, note: None }
}
