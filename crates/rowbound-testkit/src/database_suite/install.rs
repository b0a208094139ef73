//! Attach, repair, notice drift, detach; and the application's writes never fail because of it.

use std::time::Duration;

use rowbound::{
    Binding, Kind,
    binding::Depth,
    capture::{Bound, Gap, Installation, Snapshot, VERSION, ValuesSeen},
    database::{Dialect, Options},
    delivery::DeliveryClaim,
    ledger::{Filter, Upkeep},
    queue::{Claim, Outcome, PutBack, Settlement, Waits},
};

use super::{Attached, DEADLINE, Fixture, fresh_record, number, ok, queue::entry, refused, settle_all, value};

fn bound(columns: &[&str]) -> Vec<Bound> {
    number(columns.iter().map(|c| ok(Binding::name(c, "default"))).collect())
}

/// Before `attach` there is no record, and looking for it is no error.
pub async fn before_attach_there_is_no_record(f: &Fixture) {
    f.docs(&["a.jpg"]).await;
    let database = f.open().await;
    assert_eq!(ok(database.installation().await), None);
    ok(database.snapshot(&bound(&["doc.file"])).await);
    ok(database.remove().await);
    assert_eq!(ok(database.installation().await), None);
}

/// The record comes back as it was stored, by this and by any other connection.
pub async fn the_record_comes_back_as_stored(f: &Fixture) {
    f.docs(&["a.jpg"]).await;
    let attached = f.attach(&["doc.file"]).await;
    assert_eq!(ok(attached.database.installation().await).as_ref(), Some(&attached.record));
    assert_eq!(attached.record.snapshot, attached.snapshot().await);
    assert!(!attached.record.snapshot.0.is_empty());
    let mut record = attached.record.clone();
    record.gaps.push(Gap { since: record.attached_at, until: None, why: "a trigger's \"name\" \\ ✓ was gone".into() });
    ok(attached.database.record(&record).await);
    let other = f.open().await;
    assert_eq!(ok(other.installation().await), Some(record));
    other.close().await;
}

/// Shadow modes stand in the record, and whoever stores a record that he read before they were set does not end them.
pub async fn a_stored_record_ends_no_shadow_mode(f: &Fixture) {
    f.docs(&["a.jpg"]).await;
    let database = f.open().await;
    let (noon, one) = ("2026-11-21T12:00:00Z".parse().expect("a moment"), "2026-11-21T13:00:00Z".parse().expect("a moment"));
    let attached = f.attach(&["doc.file", "doc.title"]).await;
    let stale = attached.record.clone();
    let stands = async || ok(database.installation().await).expect("a record").shadow.into_iter().collect::<Vec<_>>();
    ok(database.set_shadow(&[1, 2], Some(noon)).await);
    ok(database.set_shadow(&[2], Some(one)).await);
    assert_eq!(stands().await, [(1, noon), (2, noon)], "one that is in it keeps its moment");
    ok(database.record(&stale).await);
    assert_eq!(stands().await, [(1, noon), (2, noon)]);
    let returned = ok(database.install(&attached.bound, &stale).await);
    assert_eq!(returned.shadow.len(), 2);
    assert_eq!(Some(returned.clone()), ok(database.installation().await));
    ok(database.set_shadow(&[1], None).await);
    ok(database.record(&returned).await);
    assert_eq!(stands().await, [(2, noon)], "nor does he begin one");
    ok(database.remove().await);
    refused(database.set_shadow(&[1], Some(noon)).await, "nothing is attached");
}

/// What was seen of values is added to the record that stands, whatever else was stored there meanwhile, and never to a binding that is read otherwise by then.
pub async fn values_that_were_seen_are_added_to_what_stands(f: &Fixture) {
    f.docs(&["a.jpg"]).await;
    let database = f.open().await;
    let attached = f.attach(&["doc.file", "doc.title"]).await;
    let stands = async || ok(database.installation().await).expect("a record");
    let mut record = attached.record.clone();
    record.readings = attached.bound.iter().map(|b| (b.id, b.binding.mark())).collect();
    record.values.clear();
    ok(database.record(&record).await);
    let seen = |n: usize, depth| {
        let b = &attached.bound[n];
        (b.id, ValuesSeen { reading: b.binding.mark(), depth, ..ValuesSeen::default() })
    };
    let other = |n: usize, depth| (attached.bound[n].id, ValuesSeen { reading: "another".into(), depth, ..ValuesSeen::default() });
    record.gaps.push(Gap { since: record.attached_at, until: None, why: "meanwhile".into() });
    ok(database.record(&record).await);
    ok(database.note_values(&[seen(0, Depth::Spelled), other(1, Depth::Whole)]).await);
    record.values = [seen(0, Depth::Spelled)].into();
    assert_eq!(stands().await, record);
    ok(database.note_values(&[seen(0, Depth::Plain), seen(1, Depth::Whole)]).await);
    record.values.extend([seen(1, Depth::Whole)]);
    assert_eq!(stands().await, record, "no look takes a deeper one back");
    // The reading is another one by now.
    record.readings.insert(attached.bound[0].id, "another".into());
    ok(database.record(&record).await);
    ok(database.note_values(&[seen(0, Depth::Whole)]).await);
    assert_eq!(stands().await, record);
    // An earlier build attached: it does not say how values are read.
    record.readings.clear();
    ok(database.record(&record).await);
    ok(database.note_values(&[seen(0, Depth::Whole)]).await);
    record.values.extend([seen(0, Depth::Whole)]);
    assert_eq!(stands().await, record);
    ok(database.remove().await);
    refused(database.note_values(&[seen(0, Depth::Whole)]).await, "nothing is attached");
}

/// Installing again changes nothing and captures nothing twice.
pub async fn install_twice_changes_nothing(f: &Fixture) {
    f.docs(&["a.jpg"]).await;
    let attached = f.attach(&["doc.file"]).await;
    let schema = f.db.schema().await;
    let again = ok(attached.database.install(&attached.bound, &attached.record).await);
    assert_eq!(again, attached.record);
    assert_eq!(f.db.schema().await, schema);
    f.db.exec("delete from doc").await;
    assert_eq!(attached.values().await, ["a.jpg"]);
}

/// What was dropped by hand is put back, and what waits is kept.
pub async fn install_repairs_a_dropped_trigger(f: &Fixture) {
    f.docs(&["a.jpg", "b.jpg", "c.jpg"]).await;
    let attached = f.attach(&["doc.file"]).await;
    let schema = f.db.schema().await;
    f.db.exec("delete from doc where id = 1").await;
    let triggers = super::capture_triggers(f).await;
    f.db.drop_triggers(&triggers).await;
    let repaired = ok(attached.database.install(&attached.bound, &attached.record).await);
    assert_eq!(repaired.snapshot, attached.record.snapshot);
    assert_eq!(f.db.schema().await, schema);
    f.db.exec("update doc set file = null where id = 2; delete from doc where id = 3").await;
    assert_eq!(attached.values().await, ["a.jpg", "b.jpg", "c.jpg"]);
}

/// Of two attaches at once the second is told that the first was faster, and changes neither capture nor the record.
pub async fn an_attach_that_was_overtaken_changes_nothing(f: &Fixture) {
    f.docs(&["a.jpg"]).await;
    let database = f.open().await;
    let (file, title) = (bound(&["doc.file"]), bound(&["doc.title"]));
    let record = fresh_record(&*database, &file).await;
    let first = ok(database.install_after(None, &file, &record).await);
    let schema = f.db.schema().await;
    let late = fresh_record(&*database, &title).await;
    let e = refused(database.install_after(None, &title, &late).await, "another attached first");
    assert_eq!(e.kind(), Kind::Drift, "{}", e.full());
    assert_eq!((ok(database.installation().await).as_ref(), f.db.schema().await), (Some(&first), schema.clone()));
    // Who knows of the first may go on; a record of what stood before the second is not stored any more.
    let mut both = first.clone();
    both.bindings.insert("doc.title -> default".into(), 2);
    both.active = vec![1, 2];
    let wanted = number(["doc.file", "doc.title"].iter().map(|c| ok(Binding::name(c, "default"))).collect());
    let second = ok(database.install_after(Some(&first), &wanted, &both).await);
    refused(database.install_after(Some(&first), &file, &first).await, "it would take the second's binding away");
    refused(database.record(&first).await, "so would this");
    assert_eq!(ok(database.installation().await), Some(second));
    ok(database.remove().await);
    refused(database.install_after(Some(&first), &file, &first).await, "it was detached meanwhile");
    assert_eq!(ok(database.installation().await), None);
}

/// Capture stands for exactly the bindings given.
pub async fn install_removes_what_left_the_plan(f: &Fixture) {
    f.docs(&["a.jpg"]).await;
    f.db.exec(
        "create table ext (id integer primary key, file varchar(255), raw varchar(255)); insert into ext values (1, 'e.jpg', 'e.raw')",
    )
    .await;
    let attached = f.attach(&["doc.file", "ext.file", "ext.raw"]).await;
    let one = vec![attached.bound[2].clone()];
    let record = ok(attached.database.install(&one, &attached.record).await);
    assert_eq!(record.snapshot, ok(attached.database.snapshot(&one).await));
    assert!(f.db.triggers().await.iter().all(|(_, table)| table != "doc"), "no trigger is left on a table without a binding");
    f.db.exec("delete from doc; delete from ext").await;
    assert_eq!(attached.values().await, ["e.raw"]);
    ok(attached.database.install(&attached.bound, &attached.record).await);
    f.db.exec("insert into doc values (2, 'b.jpg', 'x')").await;
    f.db.exec("delete from doc").await;
    assert_eq!(attached.values().await, ["b.jpg"]);
}

/// Neither installing nor removing touches a row of the application.
pub async fn install_changes_no_row(f: &Fixture) {
    f.docs(&["a.jpg", "", "c.jpg "]).await;
    let concat = if f.db.dialect() == Dialect::Mysql { "concat(id, '|', file, '|', title)" } else { "id || '|' || file || '|' || title" };
    let rows = async || f.db.query_strings(&format!("select {concat} from doc order by id")).await;
    let before = rows().await;
    let attached = f.attach(&["doc.file"]).await;
    assert_eq!(rows().await, before);
    ok(attached.database.remove().await);
    assert_eq!(rows().await, before);
}

/// A lock that is held all the time is not waited for for ever, and nothing is half done.
pub async fn install_gives_up_on_a_held_lock(f: &Fixture) {
    f.docs(&["a.jpg", "b.jpg"]).await;
    let schema = application_schema(f).await;
    let mut writer = f.db.app().await;
    writer.begin().await;
    writer.exec("update doc set title = 'y' where id = 1").await;
    let hasty = f
        .open_with(Options { lock_timeout: Duration::from_millis(50), lock_patience: Duration::from_millis(300), ..Options::default() })
        .await;
    let bound = bound(&["doc.file"]);
    let record = fresh_record(&*hasty, &bound).await;
    let tried = tokio::time::timeout(DEADLINE, hasty.install(&bound, &record)).await;
    let e = refused(tried.expect("it goes on for ever"), "a writer holds the table");
    assert_eq!(e.kind(), Kind::Busy, "{}", e.full());
    writer.commit().await;
    assert_eq!(application_schema(f).await, schema, "nothing changed");
    assert_eq!(ok(hasty.installation().await), None);
    ok(hasty.install(&bound, &record).await);
    f.db.exec("delete from doc where id = 1").await;
    let attached = Attached { database: hasty, record, bound };
    assert_eq!(attached.values().await, ["a.jpg"]);
}

/// What version 2 left: its tables, three candidates (one fresh, one put back, one claimed), an entry in the ledger of which a follower has yet to hear, and the
/// record.
async fn version_2(f: &Fixture) -> (Vec<Bound>, Installation) {
    f.docs(&["new.jpg"]).await;
    let bound = bound(&["doc.file"]);
    let (tables, (prefix, now)) = match f.db.dialect() {
        Dialect::Sqlite => {
            (include_str!("version2/sqlite.sql"), ("rowbound_", "(cast((julianday('now') - 2440587.5) * 86400000.0 as integer))"))
        }
        Dialect::Postgres => (include_str!("version2/postgres.sql"), ("rowbound.", "now()")),
        Dialect::Mysql => (include_str!("version2/mysql.sql"), ("rowbound_", "utc_timestamp(6)")),
    };
    f.db.exec(tables).await;
    let hour = match f.db.dialect() {
        Dialect::Sqlite => "3600000",
        Dialect::Postgres => "interval '1 hour'",
        Dialect::Mysql => "interval 1 hour",
    };
    let (key, owner) = if f.db.dialect() == Dialect::Mysql { ("`key`", "owner") } else { ("key", "owner") };
    let columns = format!("storage, binding, value, {key}, event, released_at, due_at, attempts, note");
    let mut rows = vec![
        format!("insert into {prefix}candidate ({columns}) values ('default', 1, 'fresh.jpg', '7', 'delete', {now} - {hour}, null, 0, null)"),
        format!("insert into {prefix}candidate ({columns}) values ('default', 1, 'back.jpg', '8', 'update', {now} - {hour}, {now} + {hour}, 2, 'down')"),
        format!("insert into {prefix}follower (name, since, outcomes) values ('cdn', {now}, {})", match f.db.dialect() {
            Dialect::Postgres => "'{erased,trashed}'",
            _ => "'erased,trashed'",
        }),
        format!("insert into {prefix}ledger (at, storage, binding, name, {key}, event, released_at, outcome, size, place, note, owner)
                 values ({now}, 'default', 1, 'old.jpg', '1', 'delete', {now} - {hour}, 'trashed', 17, '1/old.jpg', 'why', 'an older worker')"),
        format!("insert into {prefix}delivery (follower, entry, lane, due_at) select f.id, l.id, {}, {now} from {prefix}follower f, {prefix}ledger l", match f.db.dialect() {
            Dialect::Sqlite => "cast('default/old.jpg' as blob)",
            Dialect::Postgres => "1",
            Dialect::Mysql => "unhex(left(sha2('default/old.jpg', 256), 32))",
        }),
    ];
    if f.db.dialect() != Dialect::Sqlite {
        rows.push(format!(
            "insert into {prefix}candidate ({columns}, {owner}) values ('default', 1, 'held.jpg', '9', 'delete', {now} - {hour}, {now} + {hour}, 0, null, 'an older worker')"
        ));
    }
    for row in rows {
        f.db.exec(&row).await;
    }
    let database = f.open().await;
    let record = Installation { version: 2, ..fresh_record(&*database, &bound).await };
    ok(database.record(&record).await);
    database.close().await;
    (bound, record)
}

/// Everything that version 2 left is there, and what came with version 3 works.
async fn is_upgraded(f: &Fixture, attached: &Attached) {
    let db = &attached.database;
    let mut claim = attached.claim();
    let fresh = ok(db.claim(&claim).await);
    assert_eq!(fresh.iter().map(|c| (value(c), c.attempts, c.waits.clone())).collect::<Vec<_>>(), [("fresh.jpg".to_owned(), 0, None)]);
    let waits = Some(Waits { moved: true, transactions: vec!["3/17".into()], ..Waits::default() });
    let back = vec![PutBack { id: fresh[0].id, wait: Duration::ZERO, attempts: 1, note: "waits".into(), waits: waits.clone() }];
    ok(db.settle(&Settlement { back, ..settle_all(&[], Outcome::Kept) }, None).await);
    claim.not_due_too = true;
    let mut got = ok(db.claim(&claim).await);
    got.sort_by_key(value);
    let seen: Vec<_> = got.iter().map(|c| (value(c), c.key.as_deref(), c.attempts, c.waits.clone())).collect();
    assert_eq!(seen, [("back.jpg".to_owned(), Some("8"), 2, None), ("fresh.jpg".to_owned(), Some("7"), 1, waits)]);
    let ids: Vec<_> = got.iter().map(|c| c.id).collect();
    assert_eq!(ok(db.confirm("suite", &ids, claim.lease).await).len(), 2);
    if f.db.dialect() != Dialect::Sqlite {
        assert!(ok(db.waiting(&["held.jpg".into()]).await)[0].claimed, "whoever held it holds it");
    }
    ok(db.settle(&settle_all(&got, Outcome::Kept), None).await);

    let hour = Duration::from_secs(3600);
    assert_eq!(ok(db.upkeep("default").await), None);
    assert_eq!(ok(db.keep("default", "suite", hour).await), Some(Upkeep::default()));
    assert!(
        ok(db.kept("default", "suite", &Upkeep::default(), &Outcome::ALL.map(|(o, _)| entry(o))).await),
        "also what version 2 did not know"
    );
    let ledger = ok(db.history(&Filter::default()).await);
    assert_eq!(ledger.len(), 1 + 2 + Outcome::ALL.len());
    let old = ledger.last().expect("the first of all");
    assert_eq!(
        (old.name.as_str(), old.outcome, old.size, old.place.as_deref()),
        ("old.jpg", Outcome::Trashed, Some(17), Some("1/old.jpg"))
    );
    let turn = DeliveryClaim { follower: "cdn".into(), owner: "suite".into(), limit: 10, lease: hour };
    let mut heard: Vec<_> = ok(db.claim_deliveries(&turn).await).into_iter().filter_map(|p| p.entry).map(|e| e.name).collect();
    heard.sort();
    assert_eq!(heard, ["erased", "old.jpg", "trashed"]);

    f.db.exec("delete from doc").await;
    assert_eq!(attached.values().await, ["new.jpg"], "and capture stands");
}

/// What an earlier version attached becomes what this one attaches, with all that waits and all that was decided.
pub async fn an_older_version_is_upgraded(f: &Fixture) {
    let before = f.db.schema().await;
    let (bound, older) = version_2(f).await;
    let database = f.open().await;
    ok(database.inspect(&bound).await);
    let identity = ok(database.identity().await);
    let record = ok(database.install_after(Some(&older), &bound, &Installation { version: VERSION, ..older.clone() }).await);
    assert_eq!(record.version, VERSION);
    if f.db.dialect() != Dialect::Sqlite {
        assert_eq!(ok(database.identity().await), identity, "it is the same database");
    }
    let schema = f.db.schema().await;
    let again = ok(database.install_after(Some(&record), &bound, &record).await);
    assert_eq!((again, f.db.schema().await), (record.clone(), schema), "there is nothing left to do");
    let attached = Attached { database, bound, record };
    is_upgraded(f, &attached).await;
    ok(attached.database.remove().await);
    f.db.exec("drop table doc").await;
    assert_eq!(f.db.schema().await, before, "and nothing is left of either version");
}

/// The script, run by hand, upgrades too.
pub async fn the_script_upgrades_an_older_version(f: &Fixture) {
    let (bound, older) = version_2(f).await;
    let database = f.open().await;
    let script = ok(database.script(&bound).await);
    assert!(script.iter().any(|s| s.to_lowercase().contains("add column waits")), "{script:#?}");
    for statement in &script {
        f.db.exec(statement).await;
    }
    let schema = f.db.schema().await;
    assert!(!ok(database.script(&bound).await).iter().any(|s| s.to_lowercase().starts_with("alter table rowbound")));
    let record = ok(database.install_after(Some(&older), &bound, &Installation { version: VERSION, ..older.clone() }).await);
    assert_eq!(f.db.schema().await, schema, "install found nothing left to do");
    is_upgraded(f, &Attached { database, bound, record }).await;
}

/// The application writes into the queue: an upgrade waits for its transactions, but none of them waits for the upgrade for long.
pub async fn an_upgrade_gives_up_on_a_held_queue(f: &Fixture) {
    f.docs(&["a.jpg", "b.jpg"]).await;
    let attached = f.attach(&["doc.file"]).await;
    let queue = if f.db.dialect() == Dialect::Postgres { "rowbound.candidate" } else { "rowbound_candidate" };
    f.db.exec(&format!("alter table {queue} drop column waits")).await;
    let schema = f.db.schema().await;
    let mut writer = f.db.app().await;
    writer.begin().await;
    writer.exec("delete from doc where id = 1").await;
    let options = Options { lock_timeout: Duration::from_millis(50), lock_patience: Duration::from_millis(300), ..Options::default() };
    let hasty = f.open_with(options).await;
    let upgrade =
        async || tokio::time::timeout(DEADLINE, hasty.install(&attached.bound, &attached.record)).await.expect("it goes on for ever");
    let (tried, ()) = tokio::join!(upgrade(), async {
        if f.db.dialect() != Dialect::Sqlite {
            // One writer at a time is all that there is on SQLite.
            let deleted = tokio::time::timeout(Duration::from_secs(10), f.db.exec("delete from doc where id = 2")).await;
            assert!(deleted.is_ok(), "the application waited for the upgrade");
        }
    });
    assert_eq!(refused(tried, "a writer holds the queue").kind(), Kind::Busy);
    assert_eq!(f.db.schema().await, schema, "nothing changed");
    writer.commit().await;
    ok(upgrade().await);
    f.db.exec("delete from doc").await;
    let claimed = ok(hasty.claim(&Claim { owner: "suite".into(), ..attached.claim() }).await);
    assert_eq!(claimed.len(), 2, "what was released before and after");
    assert!(claimed.iter().all(|c| c.waits.is_none()));
}

/// Whoever may not let a program change the schema runs the script by hand: it does the same.
pub async fn the_script_does_what_install_does(f: &Fixture) {
    f.docs(&["a.jpg", "b.jpg"]).await;
    f.db.exec("create table child (id integer primary key, doc_id integer, file varchar(255), foreign key (doc_id) references doc (id) on delete cascade);
               insert into child values (1, 1, 'child.jpg')")
        .await;
    let database = f.open().await;
    let bound = bound(&["doc.file", "child.file"]);
    let script = ok(database.script(&bound).await);
    assert!(script.iter().all(|s| !s.trim_end().ends_with(';') || f.db.dialect() != Dialect::Postgres), "without the final semicolon");
    for statement in &script {
        f.db.exec(statement).await;
    }
    let (schema, snapshot) = (f.db.schema().await, ok(database.snapshot(&bound).await));
    let record = fresh_record(&*database, &bound).await;
    let record = ok(database.install(&bound, &record).await);
    assert_eq!(record.snapshot, snapshot);
    assert_eq!(f.db.schema().await, schema, "install found nothing left to do");
    let attached = Attached { database, bound, record };
    f.db.exec("delete from doc").await;
    assert_eq!(attached.values().await, ["a.jpg", "b.jpg", "child.jpg"]);
}

/// After `remove` the schema is what it was, whatever waits in the queue. Idempotent.
pub async fn remove_leaves_the_schema_as_before(f: &Fixture) {
    f.docs(&["a.jpg"]).await;
    f.db.exec("create table child (id integer primary key, doc_id integer, file varchar(255), foreign key (doc_id) references doc (id) on delete cascade)").await;
    let before = f.db.schema().await;
    let attached = f.attach(&["doc.file", "child.file"]).await;
    assert_ne!(f.db.schema().await, before);
    f.db.exec("delete from doc").await;
    ok(attached.database.remove().await);
    assert_eq!(f.db.schema().await, before);
    ok(attached.database.remove().await);
    assert_eq!(ok(attached.database.installation().await), None);
    f.db.exec("insert into doc values (1, 'a.jpg', 'x')").await;
    f.db.exec("delete from doc").await;
}

/// `remove` works when bound tables are gone.
/// Active Storage: owner's class or table gone.
pub async fn remove_after_the_table_is_gone(f: &Fixture) {
    f.docs(&["a.jpg"]).await;
    f.db.exec("create table ext (id integer primary key, file varchar(255))").await;
    let attached = f.attach(&["doc.file", "ext.file"]).await;
    f.db.exec("drop table doc").await;
    ok(attached.database.remove().await);
    assert!(f.db.schema().await.iter().all(|item| !item.contains("rowbound")), "{:?}", f.db.schema().await);
}

/// The script of `remove`, run by hand, does the same.
pub async fn the_remove_script_does_what_remove_does(f: &Fixture) {
    f.docs(&["a.jpg"]).await;
    let before = f.db.schema().await;
    let attached = f.attach(&["doc.file"]).await;
    for statement in ok(attached.database.remove_script().await) {
        f.db.exec(&statement).await;
    }
    assert_eq!(f.db.schema().await, before);
}

/// The database says the same of itself at every call; a copy says something else.
pub async fn identity_is_stable_and_a_copy_has_another(f: &Fixture) {
    f.docs(&["a.jpg"]).await;
    let attached = f.attach(&["doc.file"]).await;
    let identity = ok(attached.database.identity().await);
    assert_eq!(identity, attached.record.identity);
    f.db.exec("delete from doc").await;
    let other = f.open().await;
    assert_eq!(ok(other.identity().await), identity);
    other.close().await;
    attached.database.close().await;
    let copy = f.db.copy().await;
    let database = f.open_at(copy.url(), Options::default()).await;
    assert_eq!(ok(database.installation().await).map(|r| r.identity).as_ref(), Some(&identity), "the record was copied");
    assert_ne!(ok(database.identity().await), identity, "and does not fit the copy");
    database.close().await;
}

/// Looking changes nothing.
pub async fn inspect_changes_nothing(f: &Fixture) {
    f.docs(&["a.jpg"]).await;
    let schema = f.db.schema().await;
    let database = f.open().await;
    let seen = ok(database.inspect(&bound(&["doc.file"])).await);
    assert!(seen.blind.iter().all(|b| b.table.contains("doc") && !b.advice.is_empty()));
    assert_eq!(f.db.schema().await, schema);
}

/// Without Rowbound's own tables where DDL is not transactional: an `install` that gave up may leave them, empty, and the next one goes
/// on from there.
async fn application_schema(f: &Fixture) -> Vec<String> {
    let mut schema = f.db.schema().await;
    if f.db.dialect() == Dialect::Mysql {
        schema.retain(|item| !item.contains("rowbound_"));
    }
    schema
}

async fn inspect_refuses(f: &Fixture, column: &str) {
    let database = f.open().await;
    let wanted = bound(&[column]);
    let schema = f.db.schema().await;
    let e = refused(database.inspect(&wanted).await, column);
    assert_eq!(e.kind(), Kind::Schema, "{}", e.full());
    assert!(e.full().contains(column), "the complaint names the binding: {}", e.full());
    assert_eq!(f.db.schema().await, schema);
}

/// `inspect` and `install` are two calls, and a migration may run between them: a trigger that cannot work must never stand.
async fn install_refuses(f: &Fixture, column: &str) {
    let database = f.open().await;
    let wanted = bound(&[column]);
    let record = fresh_record(&*database, &wanted).await;
    let schema = application_schema(f).await;
    assert!(database.install(&wanted, &record).await.is_err(), "what `inspect` refuses, `install` refuses");
    assert_eq!(application_schema(f).await, schema, "and leaves nothing behind");
    assert_eq!(ok(database.installation().await), None);
}

/// The table must exist.
pub async fn inspect_refuses_a_missing_table(f: &Fixture) {
    f.docs(&[]).await;
    inspect_refuses(f, "nothing.file").await;
    install_refuses(f, "nothing.file").await;
}

/// The column must exist; a quoted name that SQLite would read as a string is no column.
pub async fn inspect_refuses_a_missing_column(f: &Fixture) {
    f.docs(&[]).await;
    inspect_refuses(f, "doc.picture").await;
    install_refuses(f, "doc.picture").await;
}

/// A column of numbers references no files. SQLite's columns take any value.
pub async fn inspect_refuses_an_unusable_type(f: &Fixture) {
    if f.db.dialect() != Dialect::Sqlite {
        f.docs(&[]).await;
        inspect_refuses(f, "doc.id").await;
    }
}

/// A view has no rows of its own.
pub async fn inspect_refuses_a_view(f: &Fixture) {
    f.docs(&[]).await;
    f.db.exec("create view docs as select id, file from doc").await;
    inspect_refuses(f, "docs.file").await;
    install_refuses(f, "docs.file").await;
}

/// Attaches `doc.file`, changes the schema, and insists that the application's writes go on; returns both snapshots.
async fn change(f: &Fixture, ddl: &str, writes: &[&str]) -> (Attached, Snapshot) {
    f.docs(&["a.jpg", "b.jpg", "c.jpg"]).await;
    let attached = f.attach(&["doc.file"]).await;
    f.db.exec(ddl).await;
    for sql in writes {
        if let Err(e) = f.db.try_exec(sql).await {
            panic!("after {ddl}\nthe application's own statement fails: {sql}\n{e}");
        }
    }
    let now = attached.snapshot().await;
    (attached, now)
}

async fn is_noticed(f: &Fixture, ddl: &str, writes: &[&str]) {
    let (attached, now) = change(f, ddl, writes).await;
    let drift = attached.record.snapshot.drift(&now);
    assert!(!drift.is_empty(), "the snapshot does not tell of: {ddl}");
    let e = refused(attached.database.check(&attached.bound, &attached.record.snapshot, &attached.search(&["a.jpg"])).await, ddl);
    assert!(matches!(e.kind(), Kind::Drift | Kind::Schema), "{:?}: {}", e.kind(), e.full());
}

/// Another column more concerns nobody: capture goes on.
pub async fn drift_adding_a_column_stops_nothing(f: &Fixture) {
    let writes =
        ["insert into doc (id, file) values (9, 'z.jpg')", "update doc set file = 'y.jpg' where id = 1", "delete from doc where id = 2"];
    let (attached, now) = change(f, "alter table doc add column extra varchar(50) default 'x'", &writes).await;
    assert_eq!(attached.record.snapshot.drift(&now), []);
    assert_eq!(attached.values().await, ["a.jpg", "b.jpg"]);
}

/// The file column has another name.
pub async fn drift_renaming_the_column_is_noticed(f: &Fixture) {
    is_noticed(
        f,
        "alter table doc rename column file to picture",
        &[
            "insert into doc (id, picture) values (9, 'z.jpg')",
            "update doc set picture = 'y.jpg' where id = 1",
            "update doc set title = 'y'",
            "delete from doc where id = 2",
        ],
    )
    .await;
}

/// The file column is gone. SQLite refuses to drop a column that a trigger names, and `inspect` says so beforehand.
pub async fn drift_dropping_the_column_is_noticed(f: &Fixture) {
    let writes = ["insert into doc (id, title) values (9, 'z')", "update doc set title = 'y' where id = 1", "delete from doc where id = 2"];
    if f.db.dialect() == Dialect::Sqlite {
        f.docs(&["a.jpg", "b.jpg"]).await;
        let attached = f.attach(&["doc.file"]).await;
        let warnings = ok(attached.database.inspect(&attached.bound).await).warnings;
        assert!(warnings.iter().any(|w| w.contains("DROP COLUMN")), "{warnings:?}");
        assert!(f.db.try_exec("alter table doc drop column file").await.is_err(), "SQLite has learnt it: move this case to the others");
        for sql in writes {
            f.db.exec(sql).await;
        }
        ok(attached.database.remove().await);
        f.db.exec("alter table doc drop column file").await;
    } else {
        is_noticed(f, "alter table doc drop column file", &writes).await;
    }
}

/// The column's type is another: the migration goes through, and capture goes on or its end is noticed.
pub async fn drift_altering_the_type_breaks_nothing(f: &Fixture) {
    let ddl = match f.db.dialect() {
        // SQLite has no ALTER TYPE: migrations build a new table, which silently takes the triggers along.
        Dialect::Sqlite => {
            "begin; create table new_doc (id integer primary key, file text, title varchar(50)); insert into new_doc select * from doc;
             drop table doc; alter table new_doc rename to doc; commit"
        }
        Dialect::Postgres => "alter table doc alter column file type text",
        Dialect::Mysql => "alter table doc modify file text",
    };
    let writes = ["insert into doc values (9, 'z.jpg', 'x')", "update doc set file = 'y.jpg' where id = 1", "delete from doc where id = 2"];
    let (attached, now) = change(f, ddl, &writes).await;
    let check = attached.database.check(&attached.bound, &attached.record.snapshot, &attached.search(&["z.jpg", "b.jpg"])).await;
    if attached.record.snapshot.drift(&now).is_empty() {
        assert_eq!(ok(check).found.len(), 1);
        assert_eq!(attached.values().await, ["a.jpg", "b.jpg"]);
    } else {
        assert_eq!(refused(check, ddl).kind(), Kind::Drift);
        ok(attached.database.install(&attached.bound, &attached.record).await);
        f.db.exec("delete from doc where id = 3").await;
        assert!(attached.values().await.contains(&"c.jpg".to_owned()), "repaired");
    }
}

/// The primary key has another name: the candidates' keys depend on it.
pub async fn drift_renaming_the_key_is_noticed(f: &Fixture) {
    is_noticed(
        f,
        "alter table doc rename column id to nr",
        &["insert into doc (nr, file) values (9, 'z.jpg')", "update doc set file = 'y.jpg' where nr = 1", "delete from doc where nr = 2"],
    )
    .await;
}

/// The table has another name.
pub async fn drift_renaming_the_table_is_noticed(f: &Fixture) {
    is_noticed(
        f,
        "alter table doc rename to paper",
        &[
            "insert into paper (id, file) values (9, 'z.jpg')",
            "update paper set file = 'y.jpg' where id = 1",
            "delete from paper where id = 2",
        ],
    )
    .await;
}

/// The table is gone.
/// Active Storage: owner's class or table gone.
pub async fn drift_dropping_the_table_is_noticed(f: &Fixture) {
    is_noticed(f, "drop table doc", &[]).await;
}

/// Another table has taken the name, as online schema changes do it: the triggers went with the old one.
pub async fn drift_swapping_the_table_is_noticed(f: &Fixture) {
    is_noticed(
        f,
        "create table new_doc (id integer primary key, file varchar(768), title varchar(50)); insert into new_doc select * from doc;
         alter table doc rename to old_doc; alter table new_doc rename to doc",
        &[
            "insert into doc values (9, 'z.jpg', 'x')",
            "update doc set file = 'y.jpg' where id = 1",
            "delete from doc where id = 2",
            "drop table old_doc",
        ],
    )
    .await;
}

/// Each single trigger that is gone is noticed, by a connection that knew it and by one that did not.
pub async fn drift_dropping_a_trigger_is_noticed(f: &Fixture) {
    f.docs(&["a.jpg"]).await;
    f.db.exec("create table child (id integer primary key, doc_id integer, file varchar(255), foreign key (doc_id) references doc (id) on delete cascade)").await;
    let attached = f.attach(&["doc.file", "child.file"]).await;
    for (trigger, table) in super::capture_triggers(f).await {
        f.db.drop_trigger(&trigger, &table).await;
        assert!(!attached.record.snapshot.drift(&attached.snapshot().await).is_empty(), "{trigger} on {table} is gone");
        let other = f.open().await;
        assert!(!attached.record.snapshot.drift(&ok(other.snapshot(&attached.bound).await)).is_empty(), "{trigger} on {table} is gone");
        other.close().await;
        let repaired = ok(attached.database.install(&attached.bound, &attached.record).await);
        assert_eq!(repaired.snapshot, attached.record.snapshot);
        assert_eq!(attached.snapshot().await, attached.record.snapshot);
    }
}

/// A trigger of the same name that does nothing is no capture.
pub async fn drift_replacing_a_trigger_is_noticed(f: &Fixture) {
    f.docs(&["a.jpg"]).await;
    let attached = f.attach(&["doc.file"]).await;
    let (trigger, table) = super::capture_triggers(f).await.swap_remove(0);
    f.db.drop_trigger(&trigger, &table).await;
    let name = f.db.backend().quote(&trigger);
    f.db.exec(&match f.db.dialect() {
        Dialect::Sqlite => format!("create trigger {name} after delete on {table} begin select 1; end"),
        Dialect::Postgres => format!(
            "create function nothing() returns trigger language plpgsql as 'begin return null; end';
             create trigger {name} after delete on {table} for each row execute function nothing()"
        ),
        Dialect::Mysql => format!("create trigger {name} after delete on {table} for each row set @nothing = 1"),
    })
    .await;
    assert!(!attached.record.snapshot.drift(&attached.snapshot().await).is_empty());
}

/// SQLite: REPLACE deletes by every unique key, so a new one must be known. Elsewhere capture does not depend on keys.
pub async fn drift_adding_a_unique_key_is_noticed(f: &Fixture) {
    let ddl = "create unique index doc_title on doc (title)";
    f.docs(&["a.jpg"]).await;
    let attached = f.attach(&["doc.file"]).await;
    f.db.exec(ddl).await;
    if f.db.dialect() == Dialect::Sqlite {
        assert!(!attached.record.snapshot.drift(&attached.snapshot().await).is_empty());
        ok(attached.database.install(&attached.bound, &attached.record).await);
        f.db.exec("replace into doc values (9, 'z.jpg', 'x')").await;
    } else {
        assert_eq!(attached.record.snapshot.drift(&attached.snapshot().await), []);
        f.db.exec("delete from doc").await;
    }
    assert_eq!(attached.values().await, ["a.jpg"]);
}

/// A new foreign key that cascades into a bound table, and one further up: where cascades fire no triggers, they must be known.
pub async fn drift_adding_a_cascade_is_noticed(f: &Fixture) {
    if f.db.dialect() == Dialect::Sqlite {
        return; // foreign keys come with a table, and cascades fire triggers
    }
    f.db.exec(
        "create table top (id integer primary key); create table owner (id integer primary key, top_id integer);
         create table doc (id integer primary key, owner_id integer, file varchar(255));
         insert into top values (1), (2); insert into owner values (1, 1), (2, 2); insert into doc values (1, 1, 'a.jpg'), (2, 2, 'b.jpg')",
    )
    .await;
    let attached = f.attach(&["doc.file"]).await;
    let mut record = attached.record.clone();
    for (ddl, delete, lost) in [
        (
            "alter table doc add constraint fk1 foreign key (owner_id) references owner (id) on delete cascade",
            "delete from owner where id = 1",
            "a.jpg",
        ),
        (
            "alter table owner add constraint fk2 foreign key (top_id) references top (id) on delete cascade",
            "delete from top where id = 2",
            "b.jpg",
        ),
    ] {
        f.db.exec(ddl).await;
        let drift = record.snapshot.drift(&attached.snapshot().await);
        assert!(f.db.dialect() != Dialect::Mysql || !drift.is_empty(), "the snapshot does not tell of: {ddl}");
        record = ok(attached.database.install(&attached.bound, &record).await);
        f.db.exec(delete).await;
        assert_eq!(attached.values().await, [lost]);
    }
}
