//! Errors: what went wrong with rows, and what helps.

use std::fmt;

use sea_orm::DbErr;

/// What a receiver may fail with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The result of this crate's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why rows were not deleted. In each case the transaction is rolled back: nothing was changed, no signal of it counts.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// Rows that are protected by others, as Django's `ProtectedError`: a relation with the rule [`crate::Rule::Protect`].
    Protected(Holders),
    /// Rows that others refer to which are not deleted with them, as Django's `RestrictedError`: a relation with `on_delete = "Restrict"`.
    Restricted(Holders),
    /// A relation whose rule cannot be carried out: it says which, and why.
    Relation {
        /// The table that refers to another.
        table: String,
        /// Its columns that do.
        columns: String,
        /// What is wrong.
        why: String,
        /// What to write instead.
        hint: String,
    },
    /// The database, or a receiver that refused.
    Database(DbErr),
}

/// Rows that refer to others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holders {
    /// The table whose rows were to be deleted.
    pub of: String,
    /// The table whose rows refer to them.
    pub table: String,
    /// Its columns that do.
    pub columns: String,
    /// The keys of some of these rows, as text.
    pub keys: Vec<String>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = |f: &mut fmt::Formatter<'_>, what: &str, h: &Holders| {
            write!(f, "rows of {} are {what} by rows of {} ({}): {}", h.of, h.table, h.columns, h.keys.join(", "))
        };
        match self {
            Error::Protected(holders) => held(f, "protected", holders),
            Error::Restricted(holders) => held(f, "held", holders),
            Error::Relation { table, columns, why, hint } => write!(f, "the relation {table} ({columns}) {why}; {hint}"),
            Error::Database(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Database(e) => Some(e),
            _ => None,
        }
    }
}

impl From<DbErr> for Error {
    fn from(e: DbErr) -> Self {
        Error::Database(e)
    }
}

/// For functions that answer with SeaORM's error.
impl From<Error> for DbErr {
    fn from(e: Error) -> Self {
        match e {
            Error::Database(e) => e,
            other => DbErr::Custom(other.to_string()),
        }
    }
}
