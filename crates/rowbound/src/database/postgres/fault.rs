//! What a failure of the driver or the server means.

use crate::error::{Error, Kind, Retry};

pub(super) fn standing_by() -> Error {
    Error::new(Kind::DatabaseUnreachable, "this server is a standby: its rows may be older than the files")
        .hint("name the primary's host in `database`")
}

/// Rows on a damaged page would be missing without an error, and the files that they reference would be deleted.
pub(super) fn hides_rows() -> Error {
    Error::new(Kind::Config, "this server reads on over damaged pages: rows may be missing without an error")
        .hint("switch zero_damaged_pages and ignore_checksum_failure off, for the server, the database and the role")
}

/// Whether something that was to be made was made by somebody else meanwhile.
pub(super) fn is_there_already(e: &sqlx::Error) -> bool {
    matches!(e, sqlx::Error::Database(d) if matches!(d.code().as_deref(), Some("23505" | "42P06")))
}

/// What a failure of `sqlx` means.
pub(super) fn failed(what: &str, e: sqlx::Error) -> Error {
    let code = match &e {
        sqlx::Error::Database(d) => d.code().map(|c| c.into_owned()).unwrap_or_default(),
        _ => String::new(),
    };
    let make = |kind| Error::new(kind, what);
    let error = match &e {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
            make(Kind::DatabaseUnreachable).hint("check host and port, and that the server is running")
        }
        sqlx::Error::Protocol(_) => make(Kind::DatabaseUnreachable),
        sqlx::Error::Database(_) => match code.as_str() {
            "25006" => make(Kind::DatabaseUnreachable)
                .hint("the server takes no writes: connect to the primary, or switch default_transaction_read_only off"),
            "3D000" => make(Kind::Config).hint("create the database, or correct its name in `database`"),
            "55P03" | "40P01" | "40001" => make(Kind::Busy),
            "42501" if e.as_database_error().is_some_and(|d| d.message().contains("set parameter")) => make(Kind::Permission)
                .hint("only a superuser may change it back: ALTER ROLE .. RESET, ALTER DATABASE .. RESET, or the server's configuration"),
            "42501" => make(Kind::Permission)
                .hint("GRANT the connecting role what the message names: SELECT, TRIGGER on bound tables, USAGE on their schemas, CREATE on the database"),
            "42P01" | "42703" | "3F000" => make(Kind::Schema).hint("run `rowbound attach` after a migration"),
            // A publication of all tables, and a queue that an earlier version made.
            "55000" if e.to_string().contains("replica identity") => make(Kind::Database).hint("run `rowbound attach`: it gives the table one"),
            // statement_timeout, disk full, out of memory
            "57014" | "53100" | "53200" => make(Kind::Database).retry(Retry::Later),
            c if c.starts_with("28") => make(Kind::Permission).hint("check user and password in `database`, and the server's pg_hba.conf; or GRANT CONNECT ON DATABASE"),
            c if c.starts_with("57P") || c.starts_with("08") || c == "53300" => make(Kind::DatabaseUnreachable),
            _ => make(Kind::Database),
        },
        _ => make(Kind::Database),
    };
    error.because(e)
}
