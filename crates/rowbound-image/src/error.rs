//! The one error type of the crate.
//!
//! In: whatever made a picture unusable. Out: an [`Error`] that says what it is ([`Kind`]), and what a person does next (the hint).

use std::fmt;

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What an [`Error`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The bytes are no picture of a format that is read here; also no bytes at all.
    Unrecognised,
    /// The bytes end before the picture does.
    Truncated,
    /// The bytes begin as a picture and then contradict themselves.
    Damaged,
    /// The picture passes a limit of [`Limits`](crate::Limits).
    TooLarge(Limit),
    /// A picture of a known format in a variant that is not read or written here, or a format whose feature is off.
    Unsupported,
    /// A processor cannot do what it was asked to.
    Processor,
}

/// Which limit was passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Limit {
    /// [`Limits::width`](crate::Limits::width).
    Width,
    /// [`Limits::height`](crate::Limits::height).
    Height,
    /// [`Limits::pixels`](crate::Limits::pixels).
    Pixels,
    /// [`Limits::memory`](crate::Limits::memory).
    Memory,
    /// [`Limits::scans`](crate::Limits::scans) or [`Limits::scanned_pixels`](crate::Limits::scanned_pixels).
    Scans,
    /// [`Limits::metadata`](crate::Limits::metadata).
    Metadata,
}

/// Why a picture could not be read, changed or written.
///
/// ```
/// use rowbound_image::{Kind, Pipeline};
/// let error = Pipeline::new().run(b"hello").unwrap_err();
/// assert_eq!(error.kind(), Kind::Unrecognised);
/// assert_eq!(error.to_string(), "not a picture: its first bytes are those of no known format");
/// assert!(error.hint_text().unwrap().starts_with("JPEG, PNG, WebP"));
/// ```
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    hint: Option<String>,
}

impl Error {
    /// A new error. `message` is a lower-case sentence without a full stop.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into(), hint: None }
    }

    /// Says what a person does next.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What a person does next, if known.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    pub(crate) fn truncated(what: impl fmt::Display) -> Self {
        Error::new(Kind::Truncated, format!("the picture is cut off: {what}")).hint("upload it again; the file is not whole")
    }

    pub(crate) fn damaged(what: impl fmt::Display) -> Self {
        Error::new(Kind::Damaged, format!("the picture is damaged: {what}")).hint("save it again with a picture editor, then upload that")
    }

    pub(crate) fn unsupported(what: impl fmt::Display) -> Self {
        Error::new(Kind::Unsupported, what.to_string()).hint("save it as an ordinary JPEG or PNG, then upload that")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
