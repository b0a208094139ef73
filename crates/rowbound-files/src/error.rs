//! The one error type of this crate.
//!
//! In: whatever went wrong with an upload. Out: an [`Error`] that says whose fault it is, where it happened, and what a person does next.

use std::fmt;

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What an [`Error`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// There is no file where the field needs one.
    Required,
    /// The file has no bytes.
    Empty,
    /// The file has more bytes than the field takes.
    TooLarge,
    /// The file is of a type that the field does not take, or is not what it says that it is.
    Type,
    /// The picture cannot be read, or is larger than is safe to read.
    Picture,
    /// The name cannot be one here: too long, or made of nothing that may stand in a name.
    Name,
    /// The upload ended before its end.
    Cut,
    /// A client confirmed an upload that was not announced, is not there, or is not what was announced.
    Unconfirmed,
    /// There is no such file.
    NotFound,
    /// A declaration is wrong, or asks for what the storage has not.
    Config,
    /// The database or a storage failed: [`Error::engine`] says how.
    Engine(rowbound::Kind),
}

/// An error with its kind, context and hint.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    context: Vec<(&'static str, String)>,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// A new error. `message` is a lower-case sentence without a full stop.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into(), context: Vec::new(), hint: None, source: None }
    }

    /// Adds a place or value.
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        let value = value.to_string();
        if !self.context.iter().any(|(k, v)| *k == key && *v == value) {
            self.context.push((key, value));
        }
        self
    }

    /// Says what a person does next.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Keeps the underlying error.
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether the upload is at fault, not the application: another file may do.
    pub fn is_uploads_fault(&self) -> bool {
        use Kind as K;
        matches!(self.kind, K::Required | K::Empty | K::TooLarge | K::Type | K::Picture | K::Name | K::Cut | K::Unconfirmed)
    }

    /// The status with which an HTTP server answers it.
    pub fn status(&self) -> u16 {
        match self.kind {
            Kind::Required | Kind::Empty | Kind::Name | Kind::Cut => 400,
            Kind::NotFound => 404,
            Kind::Unconfirmed => 409,
            Kind::TooLarge => 413,
            Kind::Type => 415,
            Kind::Picture => 422,
            Kind::Engine(rowbound::Kind::Busy | rowbound::Kind::DatabaseUnreachable | rowbound::Kind::StorageUnreachable) => 503,
            Kind::Config | Kind::Engine(_) => 500,
        }
    }

    /// The message alone, without what does not concern the person who uploads.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What a person does next, if known.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The engine's error underneath, if it is one.
    pub fn engine(&self) -> Option<&rowbound::Error> {
        self.source.as_deref()?.downcast_ref()
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

impl From<rowbound::Error> for Error {
    fn from(e: rowbound::Error) -> Self {
        let kind = match e.kind() {
            rowbound::Kind::Config => Kind::Config,
            kind => Kind::Engine(kind),
        };
        let hint = e.hint_text().map(str::to_owned);
        Error { kind, message: "the database or the storage failed".to_owned(), context: Vec::new(), hint, source: Some(Box::new(e)) }
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
