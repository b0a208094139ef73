//! Rows of the application, in bulk.

use rowbound::database::Dialect;
use rowbound_testkit::TestDb;

use crate::floor;

/// Fills `table(file, title)` with `count` rows, 1000 a statement.
pub async fn fill(db: &TestDb, table: &str, count: u64) {
    fill_where(db, table, count, |_| true).await;
}

/// The same, but only those that are `wanted`.
pub async fn fill_where(db: &TestDb, table: &str, count: u64, wanted: impl Fn(u64) -> bool) {
    let mut app = db.app().await;
    app.begin().await;
    let mut n = 0;
    while n < count {
        let until = (n + 1000).min(count);
        let values: Vec<String> = (n..until).filter(|n| wanted(*n)).map(|n| format!("('{}','title {n}')", floor::name(n))).collect();
        if !values.is_empty() {
            app.exec(&format!("insert into {table} (file, title) values {}", values.join(","))).await;
        }
        n = until;
    }
    app.commit().await;
    app.close().await;
}

/// Writes what waits (checkpoint, log) and gathers statistics, so that a measurement does not pay for the preparation. On every side alike.
pub async fn settle_server(db: &TestDb) {
    match db.dialect() {
        Dialect::Postgres => {
            // Not within a transaction, so one at a time.
            db.exec("vacuum analyze").await;
            db.exec("checkpoint").await;
        }
        Dialect::Sqlite => {
            db.query_strings("pragma wal_checkpoint(truncate)").await;
        }
        Dialect::Mysql => {}
    }
}
