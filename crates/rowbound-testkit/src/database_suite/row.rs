//! A row by its key, for who has no application at hand.

use rowbound::{FileName, Kind, binding::Column};

use super::{Fixture, ok};

fn column(text: &str) -> Column {
    Column::parse(text).expect("a column")
}

/// Exactly the row that has it; a text that can be no key is no row, or the database says so.
pub async fn a_row_is_found_by_its_key(f: &Fixture) {
    f.docs(&["a.jpg", "b.jpg"]).await;
    f.db.exec("create table tag (code varchar(20) primary key, file varchar(50)); insert into tag values ('it''s', 'c.jpg')").await;
    f.db.exec("create table pair (a integer, b integer, file varchar(50), primary key (a, b)); insert into pair values (1, 1, 'd.jpg')")
        .await;
    let database = f.attach(&["doc.file", "tag.file", "pair.file"]).await.database;
    for (table, key, there) in [
        ("doc.file", "1", true),
        ("doc.file", "2", true),
        ("doc.file", "3", false),
        ("tag.file", "it's", true),
        ("tag.file", "it", false),
        ("tag.file", "", false),
    ] {
        assert_eq!(ok(database.has_row(&column(table), key).await), there, "{table} {key:?}");
    }
    for key in ["", "1x", "x", "1 or 1=1", "1, 2"] {
        assert!(!matches!(database.has_row(&column("doc.file"), key).await, Ok(true)), "{key:?} is no key");
        assert!(
            !matches!(database.assign(&column("doc.file"), key, &FileName::parse("x.jpg").expect("a name")).await, Ok(true)),
            "{key:?} is no key"
        );
    }
    assert_eq!(f.db.query_strings("select file from doc order by id").await, [Some("a.jpg".into()), Some("b.jpg".into())]);
    for table in ["pair.file", "none.file"] {
        assert_eq!(database.has_row(&column(table), "1").await.expect_err("no key of one column").kind(), Kind::Schema);
    }
}

/// As an application's update would.
pub async fn a_row_that_is_set_releases_what_it_named(f: &Fixture) {
    f.docs(&["a.jpg", "b.jpg"]).await;
    let database = f.attach(&["doc.file"]).await.database;
    let new = FileName::parse("c.jpg").expect("a name");
    assert!(ok(database.assign(&column("doc.file"), "2", &new).await));
    assert!(ok(database.assign(&column("doc.file"), "2", &new).await), "the row is there, whatever it names");
    assert!(!ok(database.assign(&column("doc.file"), "3", &new).await));
    assert_eq!(f.db.query_strings("select file from doc order by id").await, [Some("a.jpg".into()), Some("c.jpg".into())]);
    let waiting = ok(database.waiting(&["a.jpg".into(), "b.jpg".into(), "c.jpg".into()]).await);
    assert_eq!(waiting.iter().map(|w| (&*w.value, &*w.event)).collect::<Vec<_>>(), [("b.jpg", "update")]);
}
