//! Every case of the database suite on every database: `sqlite::delete_one`, `postgres::delete_one`, ..

use std::{collections::BTreeSet, path::Path};

use rowbound::database;
use rowbound_testkit::{
    Backend, Journal, TestDb, database_cases,
    database_suite::{CASES, EVENTS, Fixture, Opening, events, run},
};
use sqlx::{mysql::MySqlPoolOptions, postgres::PgPoolOptions, sqlite::SqlitePoolOptions};

macro_rules! tests {
    (($module:ident $database:expr) $($name:ident)*) => {
        tests!(($module Fixture::new; $database) $($name)*);
    };
    (($module:ident $fixture:expr; $database:expr) $($name:ident)*) => {
        mod $module {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    run(stringify!($name), &$fixture($database.await)).await;
                }
            )*
        }
    };
}

database_cases!(tests, sqlite TestDb::new(Backend::Sqlite));
database_cases!(tests, sqlite_rollback_journal TestDb::sqlite(Journal::Rollback));
database_cases!(tests, postgres TestDb::new(Backend::Postgres));
database_cases!(tests, mariadb TestDb::new(Backend::Mariadb));
database_cases!(tests, mysql TestDb::new(Backend::Mysql));

// And once more beside a pool of the application's.
database_cases!(tests, sqlite_beside_a_pool beside; TestDb::new(Backend::Sqlite));
database_cases!(tests, postgres_beside_a_pool beside; TestDb::new(Backend::Postgres));
database_cases!(tests, mariadb_beside_a_pool beside; TestDb::new(Backend::Mariadb));
database_cases!(tests, mysql_beside_a_pool beside; TestDb::new(Backend::Mysql));

/// As an application that has one connection, and never gives it back.
fn beside(db: TestDb) -> Fixture {
    fn open(url: String, options: database::Options) -> Opening {
        Box::pin(async move {
            if url.starts_with("sqlite:") {
                let pool = SqlitePoolOptions::new().max_connections(1).connect_lazy(&url).expect("a URL of SQLite");
                pool.acquire().await.map(|conn| drop(conn.leak())).ok();
                database::beside(pool, &options).await
            } else if url.starts_with("postgres:") {
                let pool = PgPoolOptions::new().max_connections(1).connect_lazy(&url).expect("a URL of PostgreSQL");
                pool.acquire().await.map(|conn| drop(conn.leak())).ok();
                database::beside(pool, &options).await
            } else {
                let pool = MySqlPoolOptions::new().max_connections(1).connect_lazy(&url).expect("a URL of MySQL");
                pool.acquire().await.map(|conn| drop(conn.leak())).ok();
                database::beside(pool, &options).await
            }
        })
    }
    Fixture::with(db, open)
}

#[test]
fn every_case_has_a_test() {
    macro_rules! names {
        ($($name:ident)*) => {
            [$(stringify!($name)),*]
        };
    }
    let tested: Vec<_> = database_cases!(names).into();
    let listed: BTreeSet<_> = EVENTS.iter().map(|e| e.name).chain(CASES.iter().map(|(name, _)| *name)).collect();
    assert_eq!(tested.iter().copied().collect::<BTreeSet<_>>(), listed);
    assert_eq!(tested.len(), listed.len(), "a name stands twice");
}

#[test]
fn events_are_documented() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/events.md");
    let text = events::document();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, &text).expect("cannot write docs/events.md");
    }
    let stands = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(stands == text, "docs/events.md is not what the table of events says: run this test with UPDATE_DOCS=1");
}
