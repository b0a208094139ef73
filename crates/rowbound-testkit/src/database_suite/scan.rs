//! A column from one end to the other: the sweep's side of a database.

use std::time::Duration;

use rowbound::{
    Kind,
    binding::{Column, Reading},
    database::{ColumnScan, Database},
};

use super::{Fixture, ok, refused};

/// Everything that a scan reads, and whether it says that it is in order.
pub(super) async fn all(database: &dyn Database, scan: &ColumnScan) -> (Vec<Vec<u8>>, bool) {
    let mut values = ok(database.scan(scan).await);
    let mut out = Vec::new();
    loop {
        let page = ok(values.pages.recv().await.expect("a scan ends with a last page"));
        out.extend(page.values);
        if page.last {
            return (out, values.ordered);
        }
    }
}

fn scan(column: &str, ordered: bool) -> ColumnScan {
    ColumnScan {
        binding: 1,
        column: ok(Column::parse(column)),
        query: None,
        only: Default::default(),
        reading: Reading::Name,
        ordered,
        after: None,
        until: None,
    }
}

/// In the order of bytes, whatever the column's collation, with an index and without; empty values and NULL are left out.
pub async fn scan_reads_every_value_in_the_order_of_bytes(f: &Fixture) {
    let names = ["b", "B", "a", "a/b", "a.txt", "a b", "é", "e", "z", "Z", "_", "~", "😀", "\u{ffff}", "ss", "ß", "it's \\", "a", "b "];
    f.docs(&names).await;
    f.db.exec("insert into doc values (100, null, 'x'); insert into doc values (101, '', 'x')").await;
    let database = f.open().await;
    let mut wanted: Vec<Vec<u8>> = names.iter().map(|n| n.as_bytes().to_vec()).collect();
    wanted.sort();
    wanted.dedup();
    for indexed in [false, true] {
        if indexed {
            f.db.exec("create index doc_file on doc (file)").await;
        }
        for asked in [true, false] {
            let (mut values, ordered) = all(&*database, &scan("doc.file", asked)).await;
            if !(asked && ordered) {
                values.sort(); // it may say that it is not in order
            }
            values.dedup();
            assert_eq!(values, wanted, "indexed: {indexed}, asked for order: {asked}");
        }
    }
}

/// A range may leave out what is not in it, and nothing else.
pub async fn scan_of_a_range_leaves_out_nothing_of_it(f: &Fixture) {
    let names: Vec<String> = (0..3_000).map(|n| format!("{:04}'s \\ ß.jpg", n * 7 % 3_000)).collect();
    f.docs(&[]).await;
    for batch in names.chunks(500).enumerate().map(|(b, names)| {
        let row = |(i, n): (usize, &String)| format!("({}, {}, 'x')", b * 500 + i, f.db.backend().literal(n));
        names.iter().enumerate().map(row).collect::<Vec<_>>().join(", ")
    }) {
        f.db.exec(&format!("insert into doc values {batch}")).await;
    }
    let database = f.open().await;
    let (after, until) = ("0099's \\ ß.jpg".to_owned(), "2500's \\ ß.jpg".to_owned());
    for ordered in [true, false] {
        let part = ColumnScan { after: Some(after.clone()), until: Some(until.clone()), ..scan("doc.file", ordered) };
        let (mut values, _) = all(&*database, &part).await;
        values.retain(|v| v.as_slice() > after.as_bytes() && v.as_slice() <= until.as_bytes());
        values.sort();
        let mut wanted: Vec<Vec<u8>> = names.iter().filter(|n| **n > after && **n <= until).map(|n| n.as_bytes().to_vec()).collect();
        wanted.sort();
        assert_eq!(values, wanted);
    }
}

/// What is not there is an error, at once or instead of a last page.
pub async fn scan_of_what_is_not_there_is_an_error(f: &Fixture) {
    f.docs(&["a"]).await;
    let database = f.open().await;
    for missing in ["doc.gone", "gone.file"] {
        assert_eq!(refused(database.scan(&scan(missing, true)).await, missing).kind(), Kind::Schema);
    }
}

/// Who stops reading in the middle leaves a database that works on, and an application that was not kept waiting.
pub async fn scan_that_is_dropped_keeps_nobody(f: &Fixture) {
    f.docs(&[]).await;
    for batch in 0..6 {
        let rows: Vec<String> = (0..1_000).map(|n| format!("({}, '{n:04}.jpg', 'x')", batch * 1_000 + n)).collect();
        f.db.exec(&format!("insert into doc values {}", rows.join(", "))).await;
    }
    let database = f.open().await;
    for _ in 0..12 {
        let mut values = ok(database.scan(&scan("doc.file", true)).await);
        assert!(!ok(values.pages.recv().await.expect("a page")).last);
        // The application writes while nobody reads on.
        let write = f.db.exec("update doc set title = 'y' where id = 1");
        tokio::time::timeout(Duration::from_secs(20), write).await.expect("a scan keeps no writer waiting");
    }
    assert_eq!(all(&*database, &scan("doc.file", true)).await.0.len(), 6_000);
    f.db.exec("drop table doc").await;
}
