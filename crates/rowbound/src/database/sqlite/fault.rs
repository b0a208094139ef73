//! What a failure means.

use crate::error::{Error, Kind, Retry};

/// Maps an error of sqlx; `step` says what was being done.
pub(super) fn failed(step: &'static str) -> impl Fn(sqlx::Error) -> Error {
    move |e| {
        let error = match &e {
            sqlx::Error::Database(db) => {
                let code: i64 = db.code().and_then(|c| c.parse().ok()).unwrap_or(0);
                let message = db.message().to_owned();
                match code & 0xff {
                    5 | 6 => Error::new(Kind::Busy, "the SQLite database is locked by another writer")
                        .hint("try again; if it goes on, some process holds a write transaction open"),
                    8 => Error::new(Kind::Permission, "the SQLite database cannot be written")
                        .hint("the user that runs rowbound needs write access to the file and to its folder"),
                    10 | 14 => Error::new(Kind::DatabaseUnreachable, "the SQLite database cannot be read or opened")
                        .hint("is its file system mounted, and may the user that runs rowbound read and write the file and its folder?"),
                    13 => Error::new(Kind::Database, "the disk of the SQLite database is full").retry(Retry::Later),
                    26 => Error::new(Kind::Config, "the file is no SQLite database")
                        .hint("name the application's database file in `database`"),
                    1 if message.starts_with("no such table: rowbound_") || message.starts_with("no such table: main.rowbound_") => {
                        Error::new(Kind::NotAttached, "Rowbound is not attached to this database").hint("rowbound attach")
                    }
                    1 if message.contains("no such column") || message.contains("no such table") => {
                        Error::new(Kind::Schema, message.clone())
                    }
                    _ => Error::new(Kind::Database, message.clone()),
                }
            }
            sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
                Error::new(Kind::DatabaseUnreachable, "the SQLite database cannot be reached")
            }
            _ => Error::new(Kind::Database, "a SQLite statement failed"),
        };
        error.with("step", step).because(e)
    }
}
