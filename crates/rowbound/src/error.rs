//! The one error type of the engine.
//!
//! In: whatever went wrong underneath. Out: an [`Error`] that says what it is ([`Kind`]), whether trying
//! again can help ([`Retry`]), where it happened, and what a person does next (the hint).

use std::{fmt, sync::Arc};

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What an [`Error`] is. The command line maps kinds to exit statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Kind {
    /// The configuration or an argument is wrong: nothing was done.
    Config,
    /// The database cannot be reached, or went away.
    DatabaseUnreachable,
    /// The storage cannot be reached, or did not prove that it is the one that was attached.
    StorageUnreachable,
    /// A right is missing in the database or on the storage.
    Permission,
    /// A bound table or column does not exist or has an unusable type.
    Schema,
    /// The schema or the triggers are no longer what `attach` left: deletion stops.
    Drift,
    /// The database is not the one that was attached (a copy): deletion stops.
    Identity,
    /// A column that is not bound references files: they would be deleted under its rows.
    Unbound,
    /// Nothing is attached to this database yet.
    NotAttached,
    /// Another worker holds what this one needs, or a lock was not had in time.
    Busy,
    /// A statement failed in the database.
    Database,
    /// An operation failed in a storage.
    Storage,
    /// Something waits for longer than it should.
    Overdue,
    /// A clock is too far from the database's.
    Clock,
    /// What was asked for does not exist.
    NotFound,
    /// What a sweep found is too doubtful to act on.
    Brake,
    /// The program itself failed.
    Bug,
}

/// Whether trying the same again can succeed without anybody changing anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// It may work later: a lock, a timeout, a server that restarts, a full disk.
    Later,
    /// It will fail in the same way until a person changes something.
    Never,
}

/// An error with its kind, retry status, context and hint.
///
/// ```
/// use rowbound::{Error, Kind};
/// let e = Error::new(Kind::Config, "no such storage")
///     .with("binding", "blog_article.image")
///     .hint("add [storage.default] to rowbound.toml");
/// assert_eq!(e.to_string(), "no such storage (binding: blog_article.image)");
/// assert_eq!(e.hint_text(), Some("add [storage.default] to rowbound.toml"));
/// ```
#[derive(Debug, Clone)]
pub struct Error {
    kind: Kind,
    retry: Retry,
    message: String,
    context: Vec<(&'static str, String)>,
    hint: Option<String>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// A new error that will not go away by itself. `message` is a lower-case sentence without a full stop.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        let retry = match kind {
            Kind::DatabaseUnreachable | Kind::StorageUnreachable | Kind::Busy => Retry::Later,
            _ => Retry::Never,
        };
        Error { kind, retry, message: message.into(), context: Vec::new(), hint: None, source: None }
    }

    /// Adds a place or value: `key` names it in the words of the configuration.
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        let value = value.to_string();
        // What a lower layer has said already is not said twice.
        if !self.context.iter().any(|(k, v)| *k == key && *v == value) {
            self.context.push((key, value));
        }
        self
    }

    /// Says what a person does next; names a command where there is one.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Keeps the underlying error.
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// Overrides the retry status that the kind implies.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether trying again may help.
    pub fn retry_status(&self) -> Retry {
        self.retry
    }

    /// What a person does next, if known.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The whole story on one line: message, context and every source beneath.
    pub fn full(&self) -> String {
        let mut text = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(e) = next {
            let more = e.to_string();
            if !text.contains(&more) {
                text.push_str(": ");
                text.push_str(&more);
            }
            next = e.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for (i, (key, value)) in self.context.iter().enumerate() {
            write!(f, "{}{key}: {value}", if i == 0 { " (" } else { ", " })?;
        }
        if !self.context.is_empty() {
            f.write_str(")")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}
