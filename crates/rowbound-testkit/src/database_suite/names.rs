//! Values, keys and events arrive in a candidate as they stood in the row.

use jiff::{SignedDuration, Timestamp};
use rowbound::{Binding, Kind, database::Dialect};

use super::{Fixture, number, ok, value};
use crate::db::TestDb;

/// Names that something on the way could trim, fold, decode or cut.
fn odd_names() -> Vec<String> {
    let mut names: Vec<String> = [
        " ",
        "  ",
        "a ",
        " a",
        "a\t",
        "tab\there",
        "line\nbreak",
        "quote'd",
        "double\"quoted",
        "back\\slash",
        "back\\\\slash",
        "back`tick",
        "per%cent",
        "under_score",
        "percent%20encoded",
        "question?mark#hash",
        "emoji 😀.jpg",
        "\u{e9}.jpg",
        "e\u{301}.jpg",
        "ﬁ.jpg",
        "ß.jpg",
        "İstanbul.jpg",
        "日本語/ファイル.jpg",
        "\u{202e}gpj.exe",
        "{\"json\": [1]}",
        "$$dollar$$",
        ":colon ?1 @at",
        "a/b/c.jpg",
        "../outside",
        "/absolute",
        "NULL",
        "0",
        "1e5",
        "-- comment",
        "*?[x]",
    ]
    .map(str::to_owned)
    .into();
    names.push("x".repeat(1024));
    names.push("é".repeat(512));
    names.push("folder/".repeat(720) + "5kB.jpg");
    names
}

/// Nothing on the way trims, folds, decodes or cuts a name, on delete and on update.
/// Shrine, CarrierWave, Laravel Media Library or unused-media: minimal age; names that are not ASCII; rows that a default manager hides
/// still count.
pub async fn every_name_arrives_byte_for_byte(f: &Fixture) {
    f.db.exec("create table doc (id integer primary key, file text)").await;
    let attached = f.attach(&["doc.file"]).await;
    let names = odd_names();
    for (i, name) in names.iter().enumerate() {
        f.db.exec(&format!("insert into doc values ({i}, {})", f.db.backend().literal(name))).await;
    }
    f.db.exec("update doc set file = null where id % 2 = 0").await;
    f.db.exec("delete from doc").await;
    let mut sorted = names;
    sorted.sort();
    let got = attached.values().await;
    for name in &sorted {
        assert!(got.contains(name), "{name:?} did not arrive; there are {got:?}");
    }
    assert_eq!(got.len(), sorted.len());
}

/// A value that is not UTF-8 arrives as its bytes; a resolver refuses it later, with its candidate to show for it.
pub async fn bytes_that_are_no_text_arrive(f: &Fixture) {
    let insert = match f.db.dialect() {
        Dialect::Sqlite => {
            "create table doc (id integer primary key, file text); insert into doc values (1, cast(x'ff2e6a7067' as text)), (2, x'ff2e6a7068')"
        }
        Dialect::Mysql => {
            "create table doc (id integer primary key, file varbinary(100)); insert into doc values (1, x'ff2e6a7067'), (2, x'ff2e6a7068')"
        }
        Dialect::Postgres => return, // a text in PostgreSQL is always text
    };
    f.db.exec(insert).await;
    let attached = f.attach(&["doc.file"]).await;
    f.db.exec("delete from doc").await;
    let mut got: Vec<_> = attached.released().await.into_iter().map(|c| c.value).collect();
    got.sort();
    assert_eq!(got, [b"\xff.jpg".to_vec(), b"\xff.jph".to_vec()]);
}

/// `NULL` and `''` name nothing, whatever happens to them.
/// django-cleanup: `''` and `NULL` never touch the storage.
pub async fn null_and_empty_are_no_names(f: &Fixture) {
    f.docs(&["", "x", ""]).await;
    f.db.exec("update doc set file = null where id = 2").await;
    let attached = f.attach(&["doc.file"]).await;
    f.db.exec("update doc set file = 'a.jpg' where id = 1").await;
    f.db.exec("update doc set file = 'b.jpg' where id = 2").await;
    f.db.exec("update doc set file = null where id = 3").await;
    f.db.exec("update doc set file = '' where id = 3").await;
    f.db.exec("delete from doc where id = 3").await;
    assert!(attached.values().await.is_empty());
}

/// A change is a change of bytes, whatever the column's collation thinks of it; and no other change is one.
pub async fn only_a_change_of_bytes_lets_go(f: &Fixture) {
    f.docs(&["a.jpg"]).await;
    let attached = f.attach(&["doc.file"]).await;
    for (to, from) in [("A.jpg", "a.jpg"), ("Á.jpg", "A.jpg"), ("Á.jpg ", "Á.jpg"), ("Á.jpg", "Á.jpg ")] {
        f.db.exec(&format!("update doc set file = {}", f.db.backend().literal(to))).await;
        assert_eq!(attached.values().await, [from], "when it became {to:?}");
        f.db.exec(&format!("update doc set file = {}, title = 'y'", f.db.backend().literal(to))).await;
        assert!(attached.values().await.is_empty());
    }
}

/// Each bound column of a table has its own candidates, with its own binding's number.
pub async fn several_columns_of_one_table_are_told_apart(f: &Fixture) {
    f.db.exec("create table doc (id integer primary key, image varchar(255), pdf varchar(255), note varchar(255))").await;
    f.db.exec("insert into doc values (1, 'a.jpg', 'a.pdf', 'n'), (2, 'same', 'same', 'n'), (3, null, 'c.pdf', 'n')").await;
    let attached = f.attach(&["doc.image", "doc.pdf"]).await;
    let take = async || {
        let mut got: Vec<_> = attached.released().await.iter().map(|c| (c.binding, value(c))).collect();
        got.sort();
        got
    };
    f.db.exec("update doc set pdf = 'b.pdf' where id = 1").await;
    assert_eq!(take().await, [(Some(2), "a.pdf".into())]);
    f.db.exec("update doc set image = 'b.jpg', pdf = 'c.pdf' where id = 1").await;
    assert_eq!(take().await, [(Some(1), "a.jpg".into()), (Some(2), "b.pdf".into())]);
    f.db.exec("delete from doc where id > 1").await;
    assert_eq!(take().await, [(Some(1), "same".into()), (Some(2), "c.pdf".into()), (Some(2), "same".into())]);
}

/// One column may reference files of two storages (two URL prefixes): each storage gets its candidate.
/// Shrine, CarrierWave, Laravel Media Library or unused-media: only the given disk.
pub async fn two_storages_may_share_a_column(f: &Fixture) {
    f.docs(&["https://one.example.com/a.jpg"]).await;
    let attached = f
        .attach_bindings(vec![
            ok(Binding::url("doc.file", "default", "https://one.example.com/")),
            ok(Binding::url("doc.file", "two", "https://two.example.com/")),
        ])
        .await;
    f.db.exec("delete from doc").await;
    let first = attached.released().await;
    assert_eq!(first.iter().map(|c| (c.binding, value(c))).collect::<Vec<_>>(), [(Some(1), "https://one.example.com/a.jpg".into())]);
    let mut claim = attached.claim();
    (claim.storage, claim.bindings) = ("two".into(), vec![2]);
    let second = ok(attached.database.claim(&claim).await);
    assert_eq!(second.iter().map(|c| (c.binding, value(c))).collect::<Vec<_>>(), [(Some(2), "https://one.example.com/a.jpg".into())]);
}

/// A candidate says which row released the name, how and when, by the database's clock.
pub async fn the_candidate_tells_the_row_and_the_event(f: &Fixture) {
    f.docs(&["a.jpg", "b.jpg"]).await;
    let attached = f.attach(&["doc.file"]).await;
    f.db.exec("update doc set file = 'z.jpg' where id = 1").await;
    f.db.exec("delete from doc where id = 2").await;
    let got = attached.released().await;
    let told: Vec<_> = got.iter().map(|c| (value(c), c.key.as_deref(), c.event.as_str(), c.binding, c.attempts)).collect();
    assert_eq!(told, [("a.jpg".into(), Some("1"), "update", Some(1), 0), ("b.jpg".into(), Some("2"), "delete", Some(1), 0)]);
    for candidate in &got {
        let age = Timestamp::now().duration_since(candidate.released_at);
        assert!(age > SignedDuration::from_secs(-5) && age < SignedDuration::from_secs(60), "released {age:#} ago");
    }
}

/// The key of several columns is a JSON array, in the key's order.
pub async fn the_key_of_several_columns_is_a_json_array(f: &Fixture) {
    f.db.exec("create table doc (file varchar(255), part integer, book varchar(50), primary key (book, part))").await;
    f.db.exec(&format!("insert into doc values ('a.jpg', 7, {})", f.db.backend().literal("it's \"odd\" \\ ✓"))).await;
    let attached = f.attach(&["doc.file"]).await;
    f.db.exec("delete from doc").await;
    let got = attached.released().await;
    let key = got[0].key.as_deref().expect("a key");
    let parts: Vec<serde_json::Value> = serde_json::from_str(key).unwrap_or_else(|e| panic!("{key} is no JSON array: {e}"));
    let parts: Vec<_> = parts.iter().map(|p| p.as_str().map_or_else(|| p.to_string(), str::to_owned)).collect();
    assert_eq!(parts, ["it's \"odd\" \\ ✓", "7"]);
}

/// A table without a primary key is captured too.
pub async fn a_row_without_a_primary_key_is_captured(f: &Fixture) {
    f.db.exec("create table doc (file varchar(255)); insert into doc values ('a.jpg'), ('a.jpg'), ('b.jpg')").await;
    let attached = f.attach(&["doc.file"]).await;
    f.db.exec("delete from doc where file = 'a.jpg'").await;
    assert_eq!(attached.values().await, ["a.jpg", "a.jpg"]);
}

/// Whatever a table or a column is called: keywords, blanks, dots, quotes, capitals.
pub async fn odd_table_and_column_names_are_quoted(f: &Fixture) {
    let names =
        [("order", "select"), ("My Table", "My File"), ("with.dot", "file"), ("qu\"ote", "fi'le"), ("pro%cent", "a\\b"), ("tick`", "c`d")];
    let mut columns = Vec::new();
    for (table, column) in names {
        let (t, c) = (f.db.backend().quote(table), f.db.backend().quote(column));
        f.db.exec(&format!(
            "create table {t} (id integer primary key, {c} varchar(255)); insert into {t} values (1, 'a.jpg'), (2, 'b.jpg')"
        ))
        .await;
        columns.push(rowbound::binding::Column { schema: None, table: table.into(), column: column.into() }.to_string());
    }
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let attached = f.attach(&columns).await;
    for (i, (table, column)) in names.iter().enumerate() {
        let (t, c) = (f.db.backend().quote(table), f.db.backend().quote(column));
        f.db.exec(&format!("update {t} set {c} = 'z.jpg' where id = 1; delete from {t} where id = 2")).await;
        let got: Vec<_> = attached.released().await.iter().map(|c| (c.binding, value(c))).collect();
        let id = Some(attached.bound[i].id);
        assert_eq!(got, [(id, "a.jpg".into()), (id, "b.jpg".into())], "in {table}.{column}");
    }
    assert_eq!(attached.found(&["z.jpg", "a.jpg"]).await, ["z.jpg"]);
    assert_eq!(attached.record.snapshot, attached.snapshot().await);
}

/// `schema.table.column` names a table outside the connection's own schema.
pub async fn a_table_in_another_schema_is_captured(f: &Fixture) {
    let Some(schema) = f.db.second_schema().await else { return };
    f.docs(&["mine.jpg"]).await;
    f.db.exec(&format!(
        "create table {schema}.doc (id integer primary key, file varchar(255)); insert into {schema}.doc values (1, 'a.jpg'), (2, 'b.jpg')"
    ))
    .await;
    let before =
        f.db.query_strings(&format!("select count(*) from information_schema.triggers where event_object_schema = '{schema}'")).await;
    let bound = number(vec![ok(Binding::name(&format!("{schema}.doc.file"), "default"))]);
    let attached = f.attach_bindings(bound.into_iter().map(|b| b.binding).collect()).await;
    f.db.exec("delete from doc").await;
    f.db.exec(&format!("delete from {schema}.doc where id = 1")).await;
    assert_eq!(attached.values().await, ["a.jpg"]);
    assert_eq!(attached.found(&["a.jpg", "b.jpg"]).await, ["b.jpg"]);
    ok(attached.database.remove().await);
    let after =
        f.db.query_strings(&format!("select count(*) from information_schema.triggers where event_object_schema = '{schema}'")).await;
    assert_eq!(after, before, "remove takes the triggers of other schemas too");
}

/// The application's user needs no right on anything of Rowbound's.
pub async fn an_application_user_needs_no_right(f: &Fixture) {
    f.docs(&["a.jpg", "b.jpg", "c.jpg"]).await;
    let attached = f.attach(&["doc.file"]).await;
    let Some(mut user) = f.db.app_with(&["grant select, insert, update, delete on doc"]).await else { return };
    user.exec("delete from doc where id = 1").await;
    user.exec("update doc set file = null where id = 2").await;
    assert_eq!(attached.values().await, ["a.jpg", "b.jpg"]);
    user.close().await;
}

/// Names arrive as UTF-8 and are found whatever the database stores them in; or the database is refused before anything is done.
pub async fn another_encoding_is_read_right(f: &Fixture) {
    let f = f.beside(TestDb::in_another_encoding(f.db.backend()).await);
    f.db.exec("create table doc (id integer primary key, file varchar(255)); insert into doc values (1, 'é ü.jpg'), (2, 'ß.jpg')").await;
    let bound = number(vec![ok(Binding::name("doc.file", "default"))]);
    let refused = match f.try_open().await {
        Err(e) => Some(e),
        Ok(database) => database.inspect(&bound).await.err(),
    };
    if let Some(e) = refused {
        assert!(matches!(e.kind(), Kind::Config | Kind::Schema), "{:?}: {}", e.kind(), e.full());
        assert!(e.hint_text().is_some(), "a refusal says what to do: {}", e.full());
        return;
    }
    let attached = f.attach(&["doc.file"]).await;
    assert_eq!(attached.found(&["é ü.jpg", "ß.jpg", "a.jpg"]).await, ["ß.jpg", "é ü.jpg"]);
    f.db.exec("delete from doc").await;
    assert_eq!(attached.values().await, ["ß.jpg", "é ü.jpg"]);
    assert!(attached.found(&["é ü.jpg"]).await.is_empty());
}

/// Whatever the application has set in its session: capture writes the same, and its clock is the database's.
pub async fn the_settings_of_a_session_do_not_matter(f: &Fixture) {
    f.docs(&["é ' \\ \".jpg", "b.jpg", "c.jpg"]).await;
    let attached = f.attach(&["doc.file"]).await;
    let mut app = f.db.app().await;
    let table = match f.db.dialect() {
        Dialect::Sqlite => {
            app.exec("pragma recursive_triggers = on; pragma foreign_keys = off; pragma case_sensitive_like = on; pragma reverse_unordered_selects = on").await;
            "doc"
        }
        Dialect::Postgres => {
            app.exec(
                "create schema evil; create table evil.candidate (id int); create table evil.rowbound_candidate (id int);
                 set search_path = evil; set timezone = 'Pacific/Auckland'; set datestyle = 'SQL, DMY'; set client_encoding = 'LATIN1';
                 set standard_conforming_strings = off; set backslash_quote = on; set default_transaction_isolation = 'serializable'",
            )
            .await;
            "public.doc"
        }
        Dialect::Mysql => {
            app.exec(
                "set names latin1; set time_zone = '+13:00'; set autocommit = 0; set foreign_key_checks = 0; set sql_safe_updates = 1;
                 set sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT,STRICT_ALL_TABLES,NO_ZERO_DATE,NO_AUTO_VALUE_ON_ZERO'",
            )
            .await;
            "doc"
        }
    };
    app.exec(&format!("update {table} set file = 'z.jpg' where id = 1; delete from {table} where id = 2")).await;
    if f.db.dialect() == Dialect::Mysql {
        app.exec("set sql_mode = ''; commit; delete from doc where id = 3; commit").await;
    } else {
        app.exec(&format!("delete from {table} where id = 3")).await;
    }
    app.close().await;
    let got = attached.released().await;
    let told: Vec<_> = got.iter().map(|c| (value(c), c.key.as_deref())).collect();
    assert_eq!(told, [("é ' \\ \".jpg".into(), Some("1")), ("b.jpg".into(), Some("2")), ("c.jpg".into(), Some("3"))]);
    for candidate in &got {
        let age = Timestamp::now().duration_since(candidate.released_at);
        assert!(age > SignedDuration::from_secs(-5) && age < SignedDuration::from_secs(60), "released {age:#} ago");
    }
}
