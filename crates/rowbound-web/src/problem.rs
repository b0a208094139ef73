//! What went wrong, as an answer.
//!
//! In: a request that is not as it should be, or an error of `rowbound-files`. Out: a [`Problem`], which answers as `application/problem+json`
//! ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)). Promise: a client learns what it can do better, and nothing of what is inside; that is logged.

use std::{error::Error as StdError, fmt, sync::Arc};

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use rowbound_files as files;

/// A result whose error is a [`Problem`].
pub type Result<T, E = Problem> = std::result::Result<T, E>;

/// How long a client waits before it tries again when database or storage are away: as long as the collector waits after a first failure.
const RETRY_AFTER: u64 = 5;

/// Where the types are explained: `type` is this and the kind's slug.
const TYPES: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/axum.md#");

macro_rules! problems {
    ($($(#[$doc:meta])* $kind:ident $slug:literal $status:literal $title:literal,)*) => {
        /// What a [`Problem`] is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
        }

        /// Every kind of problem: the end of its `type`, its status, its `title`.
        pub const PROBLEMS: &[(Kind, &str, u16, &str)] = &[$((Kind::$kind, $slug, $status, $title),)*];
    };
}

problems! {
    /// The body is no multipart as [RFC 7578](https://www.rfc-editor.org/rfc/rfc7578) has it, or a text is no UTF-8.
    Malformed "malformed" 400 "The form cannot be read",
    /// The body ended before its end.
    Cut "cut-off" 400 "The upload was cut off",
    /// The form lacks a field, or a file.
    Required "required" 400 "A field is missing",
    /// The file has no bytes.
    Empty "empty" 400 "The file is empty",
    /// The file's name cannot be one.
    Name "name" 400 "The file's name cannot be used",
    /// There is no such file.
    NotFound "not-found" 404 "There is no such file",
    /// No byte came for [`crate::Limits::idle`].
    Slow "too-slow" 408 "The upload was too slow",
    /// A file that the client says it has written was not announced, or is not there.
    Unconfirmed "unconfirmed" 409 "The upload cannot be confirmed",
    /// A file, a text, or the whole request has more bytes than are taken.
    TooLarge "too-large" 413 "The upload is too large",
    /// The form has more parts than are taken.
    TooMany "too-many-parts" 413 "The form has too many parts",
    /// The request is no `multipart/form-data`.
    NotAForm "not-a-form" 415 "The request is no upload form",
    /// The file is of a type that is not taken.
    Type "type" 415 "Files of this type are not taken",
    /// The picture cannot be read, or is larger than is safe to read.
    Picture "picture" 422 "The picture cannot be read",
    /// A value is not as it should be: the application says how.
    Invalid "invalid" 422 "A field has an invalid value",
    /// The application's fault, or that of its configuration.
    Internal "internal" 500 "The server failed",
    /// Database or storage are away for now.
    Unavailable "unavailable" 503 "The upload cannot be kept now",
}

impl Kind {
    fn row(self) -> &'static (Kind, &'static str, u16, &'static str) {
        PROBLEMS.iter().find(|(kind, ..)| *kind == self).expect("the table has every kind")
    }
}

/// A request that was refused, or that failed.
///
/// ```
/// use axum::{http::StatusCode, response::IntoResponse};
/// use rowbound_web::Problem;
/// let problem = Problem::required("image");
/// assert_eq!(problem.status(), StatusCode::BAD_REQUEST);
/// assert_eq!(problem.into_response().headers()["content-type"], "application/problem+json");
/// ```
#[derive(Debug, Clone)]
pub struct Problem {
    kind: Kind,
    detail: String,
    field: Option<String>,
    hint: Option<String>,
    limit: Option<u64>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Problem {
    /// A new problem. `detail` is a lower-case sentence without a full stop, for the client's eyes.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Problem { kind, detail: detail.into(), field: None, hint: None, limit: None, source: None }
    }

    /// The form has no such field.
    pub fn required(field: impl Into<String>) -> Self {
        Problem::new(Kind::Required, "this field is required").field(field)
    }

    /// The field's value will not do. `why` is for the client's eyes.
    pub fn invalid(field: impl Into<String>, why: impl Into<String>) -> Self {
        Problem::new(Kind::Invalid, why).field(field)
    }

    /// The application failed: `e` is logged when this answers, and the client does not see it.
    pub fn internal(e: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Problem::new(Kind::Internal, "the server could not do this").because(e)
    }

    /// Names the form's field.
    pub fn field(mut self, name: impl Into<String>) -> Self {
        self.field = Some(name.into());
        self
    }

    /// Says what a person does next.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The most that is taken, in bytes or parts.
    pub(crate) fn limit(mut self, limit: u64) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Keeps the underlying error, for the log.
    pub fn because(mut self, e: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(Arc::from(e.into()));
        self
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The status with which it answers.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.kind.row().2).expect("the table has statuses")
    }

    /// The form's field, where there is one at fault.
    pub fn field_name(&self) -> Option<&str> {
        self.field.as_deref()
    }

    /// What is wrong.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The answer's body.
    pub fn json(&self) -> serde_json::Value {
        let (_, slug, status, title) = self.kind.row();
        let mut json = serde_json::json!({ "type": format!("{TYPES}{slug}"), "title": title, "status": status, "detail": self.detail });
        if let Some(field) = &self.field {
            json["field"] = field.as_str().into();
        }
        if let Some(hint) = &self.hint {
            json["hint"] = hint.as_str().into();
        }
        if let Some(limit) = self.limit {
            json["limit"] = limit.into();
        }
        json
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)?;
        match &self.field {
            Some(field) => write!(f, " (field: {field})"),
            None => Ok(()),
        }
    }
}

impl StdError for Problem {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}

impl From<files::Error> for Problem {
    fn from(e: files::Error) -> Self {
        // A body that broke, was too slow or too large passed through an upload on its way here: it is still the same problem.
        let mut under: Option<&(dyn StdError + 'static)> = e.source();
        while let Some(cause) = under {
            if let Some(problem) = cause.downcast_ref::<Problem>() {
                return problem.clone();
            }
            under = cause.source();
        }
        let kind = match e.kind() {
            files::Kind::Required => Kind::Required,
            files::Kind::Empty => Kind::Empty,
            files::Kind::TooLarge => Kind::TooLarge,
            files::Kind::Type => Kind::Type,
            files::Kind::Picture => Kind::Picture,
            files::Kind::Name => Kind::Name,
            files::Kind::Cut => Kind::Cut,
            files::Kind::Unconfirmed => Kind::Unconfirmed,
            files::Kind::NotFound => Kind::NotFound,
            _ if e.status() == 503 => Kind::Unavailable,
            _ => Kind::Internal,
        };
        match kind {
            Kind::Unavailable => Problem::new(kind, "the file cannot be kept now").hint("try again in a few seconds").because(e),
            Kind::Internal => Problem::internal(e),
            _ => {
                let problem = Problem::new(kind, e.message());
                match e.hint_text() {
                    Some(hint) => problem.hint(hint.to_owned()),
                    None => problem,
                }
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        if status.is_server_error() {
            let mut whole = self.to_string();
            let mut under = self.source();
            while let Some(e) = under {
                whole.push_str(": ");
                whole.push_str(&e.to_string());
                under = e.source();
            }
            tracing::error!(status = status.as_u16(), error = %whole, "an upload failed");
        }
        let mut response = Response::new(Body::from(self.json().to_string()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.kind == Kind::Unavailable {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER.into());
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_those_of_rowbound_files() {
        for kind in [
            files::Kind::Required,
            files::Kind::Empty,
            files::Kind::TooLarge,
            files::Kind::Type,
            files::Kind::Picture,
            files::Kind::Name,
            files::Kind::Cut,
            files::Kind::Unconfirmed,
            files::Kind::NotFound,
            files::Kind::Config,
            files::Kind::Engine(rowbound::Kind::Busy),
            files::Kind::Engine(rowbound::Kind::StorageUnreachable),
            files::Kind::Engine(rowbound::Kind::Config),
        ] {
            let e = files::Error::new(kind, "so it is");
            assert_eq!(e.status(), Problem::from(e).status().as_u16(), "{kind:?}");
        }
    }

    #[test]
    fn what_is_inside_stays_inside() {
        let e = files::Error::new(files::Kind::Config, "the secret folder /srv is missing").with("field", "post.image");
        let problem = Problem::from(e);
        assert_eq!(problem.json()["detail"], "the server could not do this");
        assert!(!problem.json().to_string().contains("post.image"));
        assert!(problem.source().unwrap().to_string().contains("post.image"));
        let e = files::Error::new(files::Kind::Type, "no").with("field", "post.image").hint("choose a picture");
        let problem = Problem::from(e).field("image");
        assert_eq!(problem.json()["field"], "image");
        assert_eq!(problem.json()["hint"], "choose a picture");
    }

    #[test]
    fn only_what_passes_says_when_to_come_back() {
        let away = Problem::new(Kind::Unavailable, "the file cannot be kept now").into_response();
        assert_eq!((away.status().as_u16(), away.headers()[header::RETRY_AFTER].to_str().unwrap()), (503, "5"));
        assert!(!Problem::internal("x").into_response().headers().contains_key(header::RETRY_AFTER));
    }

    #[test]
    fn the_document_explains_every_type() {
        let docs = include_str!("../../../docs/axum.md");
        for (_, slug, status, title) in PROBLEMS {
            let row = format!("| <a id=\"{slug}\"></a>`{slug}` | {status} | {title} |");
            assert!(docs.contains(&row), "docs/axum.md lacks {row}");
        }
    }
}
