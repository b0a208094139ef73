//! References: found where they are, and never overlooked.

use std::time::Duration;

use rowbound::{
    Binding, Kind,
    binding::{JsonPath, Reading},
    database::{ColumnScan, ColumnSearch, Dialect, OpenTransaction, Options},
    plan::Ignored,
    queue::{Claim, Outcome, PutBack, Settlement, Waits},
};

use super::{Attached, DEADLINE, Fixture, equal, ok, refused, settle_all, value};
use crate::{
    db::{App, TestDb},
    world::wait_until,
};

/// What is found holds every exact value; what else a collation finds can be told apart by its bytes.
pub async fn check_finds_values_byte_for_byte(f: &Fixture) {
    f.docs(&["a.jpg", "B.jpg", "c.jpg ", "é.jpg", "it's \\ odd.jpg", "😀", "d.jpg"]).await;
    let attached = f.attach(&["doc.file"]).await;
    for there in ["a.jpg", "B.jpg", "c.jpg ", "é.jpg", "it's \\ odd.jpg", "😀"] {
        let found = attached.found(&[there]).await;
        assert!(found.contains(&there.to_owned()), "{there:?} stands in a row; found was {found:?}");
    }
    for absent in ["A.jpg", "b.jpg", "c.jpg", "e.jpg", "e\u{301}.jpg", "_.jpg", "%.jpg", "a", "nothing.jpg"] {
        assert!(!attached.found(&[absent]).await.contains(&absent.to_owned()), "{absent:?} stands in no row");
    }
    assert_eq!(attached.found(&["a.jpg", "😀", "absent"]).await, ["a.jpg", "😀"]);
    assert!(attached.found(&[]).await.is_empty());
}

/// More names than any database takes in one list, and names that stand in many rows.
/// Shrine, CarrierWave, Laravel Media Library or unused-media: minimal age; names that are not ASCII; rows that a default manager hides
/// still count.
pub async fn check_finds_each_of_many_names(f: &Fixture) {
    f.db.exec("create table doc (id integer primary key, file varchar(255)); create index doc_file on doc (file)").await;
    let rows: Vec<_> = (0..3000).map(|i| format!("({i}, '{}.jpg')", i / 2)).collect();
    f.db.exec(&format!("insert into doc values {}", rows.join(", "))).await;
    let attached = f.attach(&["doc.file"]).await;
    let names: Vec<_> = (0..3000).map(|i| format!("{i}.jpg")).collect();
    let found = attached.found(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut want: Vec<_> = names[..1500].to_vec();
    want.sort();
    assert_eq!(found, want);
}

/// A URL with escapes, a query or a fragment references the same file and is found too.
pub async fn check_finds_every_spelling_of_a_url(f: &Fixture) {
    const PREFIX: &str = "https://cdn.example.com/media_1/";
    let urls = ["a.jpg", "%61.jpg", "a.jpg?v=1", "a.jpg#x", "a%2Ejpg?q", "b.jpg", "b%20c.jpg"].map(|u| format!("{PREFIX}{u}"));
    let mut rows: Vec<&str> = urls.iter().map(String::as_str).collect();
    rows.extend(["https://cdn.example.com/mediaX1/a.jpg?v=1", "https://other.example.com/%61.jpg", ""]);
    f.docs(&rows).await;
    let attached = f.attach_bindings(vec![ok(Binding::url("doc.file", "default", PREFIX))]).await;
    let naming_a: Vec<_> = attached
        .found(&["a.jpg"])
        .await
        .into_iter()
        .filter(|v| attached.bound[0].binding.resolve(v.as_bytes()) == rowbound::binding::Resolved::Name(crate::World::file_name("a.jpg")))
        .collect();
    let mut want = urls[..5].to_vec();
    want.sort();
    assert_eq!(naming_a, want);
}

/// All bound columns are searched, each under its own number.
pub async fn check_looks_into_every_column(f: &Fixture) {
    f.db.exec("create table doc (id integer primary key, image varchar(255), pdf varchar(255)); create table ext (id integer primary key, file varchar(255))").await;
    f.db.exec("insert into doc values (1, 'a', 'b'); insert into ext values (1, 'c')").await;
    let attached = f.attach(&["doc.image", "doc.pdf", "ext.file"]).await;
    let checked = ok(attached.database.check(&attached.bound, &attached.record.snapshot, &attached.search(&["a", "b", "c", "d"])).await);
    let mut found: Vec<_> = checked.found.iter().map(|f| (f.binding, f.value.clone())).collect();
    found.sort();
    assert_eq!(found, [(1, b"a".to_vec()), (2, b"b".to_vec()), (3, b"c".to_vec())]);
}

/// Whatever was committed before the call began is seen.
pub async fn check_sees_what_was_committed_just_before(f: &Fixture) {
    f.docs(&[]).await;
    let attached = f.attach(&["doc.file"]).await;
    for i in 0..20 {
        let name = format!("{i}.jpg");
        assert!(attached.found(&[&name]).await.is_empty());
        f.db.exec(&format!("insert into doc values ({i}, '{name}', 'x')")).await;
        assert_eq!(attached.found(&[&name]).await, [name]);
    }
}

/// A table that is gone is an error, under the old snapshot and under a new one.
pub async fn check_fails_on_a_missing_table(f: &Fixture) {
    f.docs(&["a.jpg"]).await;
    let attached = f.attach(&["doc.file"]).await;
    f.db.exec("drop table doc").await;
    never_unreferenced(&attached).await;
}

/// So is a column.
pub async fn check_fails_on_a_missing_column(f: &Fixture) {
    f.docs(&["a.jpg"]).await;
    let attached = f.attach(&["doc.file"]).await;
    f.db.exec("alter table doc rename column file to picture").await;
    never_unreferenced(&attached).await;
}

async fn never_unreferenced(attached: &Attached) {
    let search = attached.search(&["a.jpg"]);
    let e = refused(attached.database.check(&attached.bound, &attached.record.snapshot, &search).await, "the schema is not as attached");
    assert!(matches!(e.kind(), Kind::Drift | Kind::Schema), "{:?}: {}", e.kind(), e.full());
    let now = attached.snapshot().await;
    let e = refused(attached.database.check(&attached.bound, &now, &search).await, "what cannot be looked for was not found to be absent");
    assert!(matches!(e.kind(), Kind::Drift | Kind::Schema | Kind::Database), "{:?}: {}", e.kind(), e.full());
}

/// A trigger that is gone stops the check, whatever it would have found.
pub async fn check_fails_on_a_dropped_trigger(f: &Fixture) {
    f.docs(&["a.jpg"]).await;
    let attached = f.attach(&["doc.file"]).await;
    for (trigger, table) in super::capture_triggers(f).await {
        f.db.drop_trigger(&trigger, &table).await;
        let e = refused(
            attached.database.check(&attached.bound, &attached.record.snapshot, &attached.search(&["b.jpg"])).await,
            "a trigger is gone",
        );
        assert_eq!(e.kind(), Kind::Drift, "without {trigger}: {}", e.full());
        ok(attached.database.install(&attached.bound, &attached.record).await);
    }
}

fn keys(open: &[OpenTransaction]) -> Vec<String> {
    open.iter().map(|t| t.key.clone()).collect()
}

/// Insists that a reference to `name` that `writer` has not yet committed is not overlooked: either its transaction is listed until it
/// ends, or nobody gets an answer before it ends.
async fn not_overlooked(attached: &Attached, name: &str, commit: impl Future<Output = ()>) {
    let before = keys(&ok(attached.database.open_transactions().await));
    if before.is_empty() {
        // Then the check itself has to wait or to refuse.
        let search = attached.search(&[name]);
        let check = attached.database.check(&attached.bound, &attached.record.snapshot, &search);
        match tokio::time::timeout(Duration::from_millis(300), check).await {
            Err(_waits) => {}
            Ok(Err(e)) => assert_eq!(e.kind(), Kind::Busy, "{}", e.full()),
            Ok(Ok(checked)) => panic!(
                "a check was answered ({} found) while a reference was uncommitted, and no open transaction is listed",
                checked.found.len()
            ),
        }
        commit.await;
    } else {
        assert!(ok(attached.database.open_transactions().await).iter().all(|t| !t.description.is_empty()));
        commit.await;
        // On a busy server others come and go; ours must be gone for good.
        wait_until(DEADLINE, "the transactions of before have ended", async || {
            let now = keys(&ok(attached.database.open_transactions().await));
            before.iter().all(|key| !now.contains(key))
        })
        .await;
    }
    // On SQLite the check that was given up may have the lock for a while yet.
    wait_until(DEADLINE, "a check can be made", async || {
        let again = attached.database.check(&attached.bound, &attached.record.snapshot, &attached.search(&[name])).await;
        !again.is_err_and(|e| e.kind() == Kind::Busy)
    })
    .await;
    assert_eq!(attached.found(&[name]).await, [name]);
}

/// A row that is inserted but not yet committed must count.
pub async fn an_uncommitted_reference_is_not_overlooked(f: &Fixture) {
    f.docs(&["a.jpg"]).await;
    let attached = f.attach(&["doc.file"]).await;
    let mut writer = f.db.app().await;
    writer.begin().await;
    writer.exec("insert into doc values (7, 'n.jpg', 'x')").await;
    let mine = transactions_of(&attached, f, &mut writer).await;
    not_overlooked(&attached, "n.jpg", async { writer.commit().await }).await;
    if let Some(mine) = mine {
        assert!(!keys(&ok(attached.database.open_transactions().await)).contains(&mine));
    }
}

/// The key under which the writer's transaction is listed: the one that was not there before it and stays while it is open.
async fn transactions_of(attached: &Attached, f: &Fixture, writer: &mut App) -> Option<String> {
    if f.db.dialect() == Dialect::Sqlite {
        return None;
    }
    // End it, look, and begin again: what is new is ours or a neighbour's that came meanwhile.
    writer.rollback().await;
    wait_until(DEADLINE, "no transaction on this database is open", async || {
        f.db.dialect() == Dialect::Mysql || ok(attached.database.open_transactions().await).is_empty()
    })
    .await;
    let before = keys(&ok(attached.database.open_transactions().await));
    writer.begin().await;
    writer.exec("insert into doc values (7, 'n.jpg', 'x')").await;
    let after = keys(&ok(attached.database.open_transactions().await));
    let new: Vec<_> = after.into_iter().filter(|key| !before.contains(key)).collect();
    assert!(!new.is_empty(), "the writer's transaction is not listed");
    // A neighbour's may have slipped in on a shared server: only one of a database of our own is surely ours.
    (new.len() == 1).then(|| new[0].clone())
}

/// A transaction that began to read before a name was released may still copy it into another row.
pub async fn a_reader_with_an_old_snapshot_is_waited_for(f: &Fixture) {
    f.docs(&["a.jpg"]).await;
    let attached = f.attach(&["doc.file"]).await;
    let mut reader = f.db.app().await;
    match f.db.dialect() {
        Dialect::Sqlite => return, // a reader that is behind cannot write there (SQLITE_BUSY_SNAPSHOT)
        Dialect::Postgres => reader.exec("begin isolation level repeatable read").await,
        Dialect::Mysql => reader.exec("start transaction").await, // REPEATABLE READ is the default
    }
    assert_eq!(reader.query_strings("select file from doc").await, [Some("a.jpg".to_owned())]);
    f.db.exec("delete from doc").await;
    not_overlooked(&attached, "a.jpg", async {
        reader.exec("insert into doc values (9, 'a.jpg', 'x')").await;
        reader.commit().await;
    })
    .await;
}

/// A prepared transaction has no connection and may commit at any time.
pub async fn a_prepared_transaction_is_waited_for(f: &Fixture) {
    let id = format!("rowbound_{:08x}", rand::random::<u32>());
    let (begin, prepare, commit) = match f.db.dialect() {
        Dialect::Sqlite => return, // there are none
        Dialect::Postgres => ("begin".to_owned(), format!("prepare transaction '{id}'"), format!("commit prepared '{id}'")),
        Dialect::Mysql => (format!("xa start '{id}'"), format!("xa end '{id}'; xa prepare '{id}'"), format!("xa commit '{id}'")),
    };
    f.docs(&["a.jpg"]).await;
    let attached = f.attach(&["doc.file"]).await;
    let mut writer = f.db.app().await;
    writer.exec(&begin).await;
    writer.exec("insert into doc values (7, 'n.jpg', 'x')").await;
    writer.exec(&prepare).await;
    writer.close().await;
    let before = ok(attached.database.open_transactions().await);
    assert!(!before.is_empty(), "a prepared transaction is listed");
    let mut other = f.db.app().await;
    let committed = tokio::time::timeout(DEADLINE, async {
        // MariaDB frees it when the connection is truly gone.
        while other.try_exec(&commit).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    committed.await.expect("the prepared transaction could not be committed");
    wait_until(DEADLINE, "the transactions of before have ended", async || {
        let now = keys(&ok(attached.database.open_transactions().await));
        keys(&before).iter().all(|key| !now.contains(key))
    })
    .await;
    assert_eq!(attached.found(&["n.jpg"]).await, ["n.jpg"]);
}

/// What a session is called: its role or user.
async fn name_of(f: &Fixture, app: &mut App) -> String {
    let sql = if f.db.dialect() == Dialect::Postgres { "select session_user::text" } else { "select substring_index(user(), '@', 1)" };
    app.query_strings(sql).await.remove(0).expect("a name")
}

fn whose(open: &[OpenTransaction]) -> Vec<&str> {
    open.iter().filter_map(|t| t.who.role.as_deref()).collect()
}

/// Sessions of which somebody says that they write no references are not listed; all others are, and what an ignored one has prepared.
pub async fn an_ignored_session_is_not_waited_for(f: &Fixture) {
    f.docs(&["a.jpg"]).await;
    let ignoring = |sessions: Ignored| Options { ignored: vec![sessions], ..Options::default() };
    if f.db.dialect() == Dialect::Sqlite {
        let e = refused((f.open)(f.db.url().to_owned(), ignoring(Ignored::Role("x".into()))).await, "its lock is the barrier");
        assert_eq!(e.kind(), Kind::Config);
        return;
    }
    let attached = f.attach(&["doc.file"]).await;
    let mut reporting = f.db.app_with(&["grant select, insert on doc"]).await.expect("a user");
    let mut app = f.db.app().await;
    let (role, own) = (name_of(f, &mut reporting).await, name_of(f, &mut app).await);
    let database = f.open_with(ignoring(Ignored::Role(role.clone()))).await;
    let id = format!("rowbound_{:08x}", rand::random::<u32>());
    let (begin, prepare, rollback) = match f.db.dialect() {
        Dialect::Postgres => ("begin".to_owned(), format!("prepare transaction '{id}'"), format!("rollback prepared '{id}'")),
        _ => (format!("xa start '{id}'"), format!("xa end '{id}'; xa prepare '{id}'"), format!("xa rollback '{id}'")),
    };
    reporting.exec(&begin).await;
    reporting.exec("insert into doc values (7, 'm.jpg', 'x')").await;
    app.begin().await;
    app.exec("insert into doc values (8, 'n.jpg', 'x')").await;
    let all = ok(attached.database.open_transactions().await);
    assert!(whose(&all).contains(&&*role) && whose(&all).contains(&&*own), "{all:?}");
    // Those of other tests may have been prepared, and have no session.
    let mut ours = all.iter().filter(|t| t.who.role.as_deref().is_some_and(|r| r == role || r == own));
    assert!(ours.all(|t| t.since.is_some() && t.who.session.is_some()), "who and since when: {all:?}");
    let listed = ok(database.open_transactions().await);
    assert!(!whose(&listed).contains(&&*role) && whose(&listed).contains(&&*own), "{listed:?}");
    app.rollback().await;
    app.close().await;

    reporting.exec(&prepare).await;
    reporting.close().await;
    wait_until(DEADLINE, "a prepared transaction is listed, whoever prepared it", async || {
        ok(database.open_transactions().await).iter().any(|t| t.description.contains("prepared"))
    })
    .await;
    let mut admin = f.db.app().await;
    let ended = tokio::time::timeout(DEADLINE, async {
        // MariaDB frees it when the connection is truly gone.
        while admin.try_exec(&rollback).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    ended.await.expect("the prepared transaction could not be rolled back");

    let e = refused((f.open)(f.db.url().to_owned(), ignoring(Ignored::Role(own))).await, "it is the application's own");
    assert_eq!(e.kind(), Kind::Config);
}

/// The same by what an application calls itself, where the database tells it; elsewhere that is refused.
pub async fn an_ignored_application_is_not_waited_for(f: &Fixture) {
    f.docs(&["a.jpg"]).await;
    let options = Options { ignored: vec![Ignored::Application("metabase".into())], ..Options::default() };
    if f.db.dialect() != Dialect::Postgres {
        let tells = match f.db.dialect() {
            Dialect::Mysql => f.db.query_strings("select cast(@@performance_schema as char)").await[0].as_deref() == Some("1"),
            _ => false,
        };
        let opened = (f.open)(f.db.url().to_owned(), options).await;
        match tells {
            true => drop(ok(opened)),
            false => assert_eq!(refused(opened, "nobody tells").kind(), Kind::Config),
        }
        return;
    }
    let database = f.open_with(options).await;
    let between = if f.db.url().contains('?') { '&' } else { '?' };
    let app = async |id: u32, name: &str| {
        let mut app = App::at(&format!("{}{between}application_name={name}", f.db.url())).await;
        app.begin().await;
        app.exec(&format!("insert into doc values ({id}, 'm.jpg', 'x')")).await;
        app
    };
    let (metabase, other) = (app(7, "metabase").await, app(8, "metabase2").await);
    let listed = ok(database.open_transactions().await);
    let names: Vec<_> = listed.iter().filter_map(|t| t.who.application.as_deref()).collect();
    assert!(!names.contains(&"metabase") && names.contains(&"metabase2"), "{listed:?}");
    metabase.close().await;
    other.close().await;
}

/// Who waits for what: put back because of a transaction, or not tried yet.
pub async fn it_is_told_how_many_wait_for_a_transaction(f: &Fixture) {
    f.docs(&["a.jpg", "b.jpg", "c.jpg", "d.jpg"]).await;
    let attached = f.attach(&["doc.file"]).await;
    let database = &attached.database;
    f.db.exec("delete from doc").await;
    if f.db.dialect() == Dialect::Sqlite {
        assert_eq!(ok(database.waits(&attached.claim()).await), []);
        return;
    }
    assert_eq!(ok(database.waits(&attached.claim()).await), [(None, 4)]);
    let young = Claim { grace: Duration::from_secs(3600), ..attached.claim() };
    assert_eq!(ok(database.waits(&young).await), [], "what is not due waits for its time");
    let claimed = ok(database.claim(&Claim { limit: 3, ..attached.claim() }).await);
    let waits = Waits { transactions: vec!["one".into(), "two".into()], ..Waits::default() };
    let back = claimed[..2].iter().map(|c| PutBack {
        id: c.id,
        wait: Duration::from_secs(3600),
        attempts: c.attempts,
        note: "it waits".into(),
        waits: Some(waits.clone()),
    });
    ok(database.settle(&Settlement { back: back.collect(), ..settle_all(&[], Outcome::Kept) }, None).await);
    let mut told = ok(database.waits(&attached.claim()).await);
    told.sort_by_key(|(waits, _)| waits.is_some());
    assert_eq!(told, [(None, 2), (Some(waits), 2)], "one is claimed, one is due");
    assert_eq!(ok(database.waits(&Claim { storage: "other".into(), bindings: vec![99], ..attached.claim() }).await), []);
}

/// The engine's own connections are no transactions to wait for: else no barrier would ever pass.
pub async fn the_engine_does_not_wait_for_itself(f: &Fixture) {
    f.docs(&["a.jpg"]).await;
    let attached = f.attach(&["doc.file"]).await;
    f.db.exec("delete from doc").await;
    let got = ok(attached.database.claim(&attached.claim()).await);
    assert_eq!(got.len(), 1);
    let first = keys(&ok(attached.database.open_transactions().await));
    wait_until(DEADLINE, "every transaction of before has ended", async || {
        let now = keys(&ok(attached.database.open_transactions().await));
        first.iter().all(|key| !now.contains(key))
    })
    .await;
    if f.db.dialect() == Dialect::Postgres {
        // A database of our own: nobody else can be there.
        wait_until(DEADLINE, "nobody is there", async || ok(attached.database.open_transactions().await).is_empty()).await;
    }
    assert!(attached.found(&["a.jpg"]).await.is_empty());
}

/// Where a check ends under a lock, no reference can come before the settlement; dropping the lock lets writers in.
pub async fn a_hold_keeps_writers_out_until_settled(f: &Fixture) {
    f.docs(&["a.jpg", "b.jpg"]).await;
    let attached = f.attach(&["doc.file"]).await;
    f.db.exec("delete from doc where id = 1").await;
    let got = ok(attached.database.claim(&attached.claim()).await);
    let check = async || ok(attached.database.check(&attached.bound, &attached.record.snapshot, &attached.search(&["a.jpg"])).await);
    let first = check().await;
    if first.lock.is_none() {
        assert_ne!(f.db.dialect(), Dialect::Sqlite, "one writer at a time: a check can hold the others off");
        return;
    }
    let mut writer = f.db.app().await;
    writer.exec("pragma busy_timeout = 50").await;
    let insert = "insert into doc values (9, 'a.jpg', 'x')";
    assert!(writer.try_exec(insert).await.is_err(), "a writer came in under the hold");
    drop(first);
    wait_until(DEADLINE, "a dropped hold lets writers in", async || f.db.try_exec(insert).await.is_ok()).await;

    f.db.exec("delete from doc where id = 9").await;
    let second = check().await;
    assert!(writer.try_exec(insert).await.is_err());
    assert_eq!(ok(attached.database.settle(&settle_all(&got, Outcome::Erased), second.lock).await), 1);
    writer.exec(insert).await;
    assert_eq!(attached.released().await.iter().map(value).collect::<Vec<_>>(), ["a.jpg"], "the delete of row 9");
}

/// `explain` sees which rows reference a file, with the keys that capture would write.
pub async fn holders_name_the_rows(f: &Fixture) {
    f.docs(&["a.jpg", "b.jpg", "a.jpg"]).await;
    f.db.exec("create table page (book varchar(20), nr integer, file varchar(255), primary key (book, nr)); insert into page values ('x', 3, 'a.jpg')").await;
    let attached = f.attach(&["doc.file", "page.file"]).await;
    let holders = ok(attached.database.holders(&attached.search(&["a.jpg", "absent"]), 10).await);
    let mut told: Vec<_> = holders.iter().map(|h| (h.binding, h.key.clone(), h.value.as_str())).collect();
    told.sort();
    f.db.exec("delete from doc where id = 1; delete from page").await;
    let released = attached.released().await;
    let key = |binding| released.iter().find(|c| c.binding == Some(binding)).expect("it was let go of").key.clone();
    assert_eq!(told, [(1, key(1), "a.jpg"), (1, Some("3".into()), "a.jpg"), (2, key(2), "a.jpg")]);
}

/// At most so many per column.
pub async fn holders_are_limited(f: &Fixture) {
    f.docs(&["a.jpg", "a.jpg", "a.jpg"]).await;
    let attached = f.attach(&["doc.file"]).await;
    assert_eq!(ok(attached.database.holders(&[equal(&attached.bound[0], &["a.jpg"])], 2).await).len(), 2);
}

/// A name that the database's encoding cannot hold stands in no row; asking for it spoils no batch.
pub async fn a_name_that_no_row_can_hold_is_absent(f: &Fixture) {
    let f = f.beside(TestDb::in_another_encoding(f.db.backend()).await);
    f.db.exec("create table doc (id integer primary key, file varchar(255)); insert into doc values (1, 'é.jpg')").await;
    if f.try_open().await.is_err() {
        return; // refused, see `another_encoding_is_read_right`
    }
    let attached = f.attach(&["doc.file"]).await;
    let found = attached.found(&["é.jpg", "日本語.jpg", "😀.jpg"]).await;
    assert!(found.contains(&"é.jpg".to_owned()) && !found.iter().any(|v| v.contains(['日', '😀'])), "{found:?}");
}

/// HTML or Markdown in a text column, JSON in another: one look for all names, and only names come back.
pub async fn check_reads_the_names_in_texts_and_json(f: &Fixture) {
    f.db.exec("create table post (id integer primary key, body text, pictures text)").await;
    for (id, body, pictures) in [
        (1, "'<p><img src=\"/media/2024/a%20b.jpg\"> and ![](https://www.example.com/media/c.jpg)'", "'[{\"image\": \"d.jpg\"}]'"),
        (2, "'caf\u{e9} <img srcset=\"/media/caf%C3%A9.jpg 2x\">'", "'[]'"),
        (3, "null", "null"),
        (4, "''", "''"),
    ] {
        f.db.exec(&format!("insert into post values ({id}, {body}, {pictures})")).await;
    }
    let bindings =
        vec![ok(Binding::text("post.body", "default", ["/media/"])), ok(Binding::json("post.pictures", "default", "$[*].image"))];
    let attached = f.attach_bindings(bindings).await;
    let all = ["2024/a b.jpg", "c.jpg", "d.jpg", "caf\u{e9}.jpg", "absent.jpg", "024/a b.jpg"];
    assert_eq!(attached.found(&all).await, ["2024/a b.jpg", "c.jpg", "caf\u{e9}.jpg", "d.jpg"]);
    assert!(attached.found(&["absent.jpg"]).await.is_empty());
    assert!(attached.found(&[]).await.is_empty());
    let holders = ok(attached.database.holders(&attached.search(&["d.jpg", "2024/a b.jpg"]), 10).await);
    let mut seen: Vec<_> = holders.iter().map(|h| (h.binding, h.key.as_deref(), h.value.as_str(), h.mentioned)).collect();
    seen.sort_unstable();
    assert_eq!(seen, [(1, Some("1"), "2024/a b.jpg", false), (2, Some("1"), "d.jpg", false)]);

    // What was released arrives as it stood, and the resolver reads the same names out of it.
    f.db.exec("update post set body = 'nothing', pictures = '[]' where id = 1").await;
    let mut names = Vec::new();
    for candidate in attached.released().await {
        let bound = attached.bound.iter().find(|b| Some(b.id) == candidate.binding).expect("it tells its binding");
        bound.binding.each_name(&candidate.value, |r| names.push(format!("{r:?}")));
    }
    names.sort();
    assert_eq!(names, ["Name(\"2024/a b.jpg\")", "Name(\"c.jpg\")", "Name(\"d.jpg\")"]);
}

/// Broken JSON is never read as a list without names, and JSON to which the path does not lead holds what it mentions as well.
pub async fn an_unreadable_value_holds_what_it_mentions(f: &Fixture) {
    f.db.exec("create table post (id integer primary key, pictures text)").await;
    f.db.exec("insert into post values (1, '[{\"image\": \"a.jpg\"}, {\"image\": \"b.jp'), (2, '{\"image\": \"c.jpg\"}')").await;
    let attached = f.attach_bindings(vec![ok(Binding::json("post.pictures", "default", "$[*].image"))]).await;
    assert_eq!(attached.found(&["a.jpg", "b.jpg", "c.jpg", "d.jpg"]).await, ["a.jpg", "c.jpg"]);
    let holders = ok(attached.database.holders(&attached.search(&["c.jpg"]), 10).await);
    assert_eq!(holders.iter().map(|h| (h.key.as_deref(), h.mentioned)).collect::<Vec<_>>(), [(Some("2"), true)]);
    let read: Vec<_> = attached.bound.iter().map(|b| ColumnSearch::of_read(b, &[crate::World::file_name("c.jpg")])).collect();
    assert!(ok(attached.database.holders(&read, 10).await).is_empty(), "it is mentioned, not read");
}

/// A list column: JSON everywhere, an array where there are arrays.
pub async fn lists_of_names_are_captured_and_checked(f: &Fixture) {
    let (kind, value, reading) = match f.db.dialect() {
        Dialect::Postgres => ("text[]", "'{a.jpg,\"b c.jpg\",NULL}'", Reading::Array { prefixes: Vec::new() }),
        _ => ("text", "'[\"a.jpg\", \"b c.jpg\", null]'", Reading::Json { path: ok(JsonPath::parse("$[*]")), prefixes: Vec::new() }),
    };
    f.db.exec(&format!("create table album (id integer primary key, pictures {kind})")).await;
    f.db.exec(&format!("insert into album values (1, {value})")).await;
    let array = ok(Binding::array("album.pictures", "default"));
    if f.db.dialect() != Dialect::Postgres {
        let bound = super::number(vec![array.clone()]);
        let e = refused(f.open().await.inspect(&bound).await, "it has no arrays");
        assert!(e.hint_text().unwrap_or_default().contains("$[*]"), "{e:?}");
    }
    let attached = f.attach_bindings(vec![array.reading(reading)]).await;
    assert_eq!(attached.found(&["a.jpg", "b c.jpg", "a", "b.jpg"]).await, ["a", "a.jpg", "b c.jpg"], "`a` stands in it as a word");
    f.db.exec("delete from album").await;
    let released = attached.released().await;
    assert_eq!(released.len(), 1);
    let mut names = Vec::new();
    attached.bound[0].binding.each_name(&released[0].value, |r| names.push(format!("{r:?}")));
    assert_eq!(names, ["Name(\"a.jpg\")", "Name(\"b c.jpg\")"]);
}

/// Two tables, one name: as Spatie's media library builds it.
fn media_query(f: &Fixture) -> Binding {
    let (table, name) = match f.db.dialect() {
        Dialect::Postgres => ("public.media", "id || '/' || file_name"),
        Dialect::Sqlite => ("media", "id || '/' || file_name"),
        Dialect::Mysql => ("media", "concat(id, '/', file_name)"),
    };
    Binding::query("media", "default", &format!("select {name} from {table} -- by id\n"))
}

/// A query is a source of references like a column, and has no capture.
pub async fn check_reads_a_query(f: &Fixture) {
    f.docs(&["x.jpg"]).await;
    f.db.exec("create table media (id integer primary key, file_name varchar(100))").await;
    f.db.exec("insert into media values (1, 'a.jpg'), (2, 'b c.jpg'), (3, null)").await;
    let attached = f.attach_bindings(vec![ok(Binding::name("doc.file", "default")), media_query(f)]).await;
    assert_eq!(
        attached.found(&["1/a.jpg", "2/b c.jpg", "a.jpg", "x.jpg", "3"]).await,
        ["1/a.jpg", "2/b c.jpg", "x.jpg"].map(str::to_owned)
    );
    let holders = ok(attached.database.holders(&attached.search(&["1/a.jpg"]), 10).await);
    assert_eq!(holders.iter().map(|h| (h.binding, h.value.as_str())).collect::<Vec<_>>(), [(2, "1/a.jpg")]);
    let Binding { column, query, reading, .. } = attached.bound[1].binding.clone();
    let scan = ColumnScan { binding: 2, column, query, only: Default::default(), reading, ordered: true, after: None, until: None };
    let (mut values, ordered) = super::scan::all(&*attached.database, &scan).await;
    values.sort();
    assert_eq!((values, ordered), (vec![b"1/a.jpg".to_vec(), b"2/b c.jpg".to_vec()], false), "the sweep reads it, too");
    f.db.exec("delete from media").await;
    assert!(attached.values().await.is_empty(), "nothing is captured");
    assert!(attached.found(&["1/a.jpg"]).await.is_empty());
    assert_eq!(attached.snapshot().await, attached.record.snapshot);

    // Another query under the same name is a drift.
    let mut bound = attached.bound.clone();
    bound[1].binding = Binding::query("media", "default", "select 'y.jpg'");
    let now = ok(attached.database.snapshot(&bound).await);
    let drift: Vec<_> = attached.record.snapshot.drift(&now).iter().map(ToString::to_string).collect();
    assert_eq!(drift, ["query media was altered"]);
}

/// Before anything is changed.
pub async fn a_query_that_cannot_be_used_is_refused(f: &Fixture) {
    f.docs(&["x.jpg"]).await;
    let database = f.open().await;
    let table = if f.db.dialect() == Dialect::Postgres { "public.doc" } else { "doc" };
    for (query, why) in [
        ("select 1, 2".to_owned(), "two columns"),
        ("select file from nowhere".to_owned(), "no such table"),
        (format!("delete from {table}"), "no SELECT"),
        (format!("select file from {table}) select n from q; delete from {table}; with q(n) as (select 1"), "more than one statement"),
        ("selct".to_owned(), "no SQL"),
    ] {
        let bound = super::number(vec![Binding::query("media", "default", &query)]);
        let e = refused(database.inspect(&bound).await, why);
        assert_eq!(e.kind(), Kind::Schema, "{why}: {e:?}");
        assert!(e.full().contains("media"), "{why}: {}", e.full());
    }
    let rows = f.db.query_strings("select file from doc").await;
    assert_eq!(rows, [Some("x.jpg".to_owned())]);
}

/// A query that worked at attach and fails now is an error, never "no references".
pub async fn a_query_that_fails_stops_the_check(f: &Fixture) {
    f.docs(&["x.jpg"]).await;
    f.db.exec("create table media (id integer primary key, file_name varchar(100))").await;
    let attached = f.attach_bindings(vec![ok(Binding::name("doc.file", "default")), media_query(f)]).await;
    f.db.exec("drop table media").await;
    refused(attached.database.check(&attached.bound, &attached.record.snapshot, &attached.search(&["x.jpg"])).await, "the query fails");
}
