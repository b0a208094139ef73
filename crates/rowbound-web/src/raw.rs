//! A body that is a file: `PUT /files/photo.jpg`, `fetch(url, {method: "PUT", body: file})`.
//!
//! In: a request. Out: an upload. Promise: as for forms; a body that says that it is too large is refused before its first byte is asked for.

use axum::{
    extract::{FromRequest, Request},
    http::header,
};
use rowbound_files::{Files, Upload, Value};

use crate::{
    head::parameters,
    incoming::{Incoming, plain},
    limits::Limits,
    problem::{Problem, Result},
};

/// A request whose body is a file, as an extractor of axum: the last argument of a handler.
///
/// ```no_run
/// use axum::extract::{Path, State};
/// use rowbound_files::{File, Files};
/// use rowbound_web::{Problem, RawUpload};
///
/// async fn put(State(files): State<Files<File>>, Path(name): Path<String>, body: RawUpload) -> Result<String, Problem> {
///     Ok(body.save(name, &files).await?.to_string())
/// }
/// ```
pub struct RawUpload {
    incoming: Incoming,
    file_name: Option<String>,
    content_type: Option<String>,
}

impl<S: Send + Sync> FromRequest<S> for RawUpload {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self> {
        let (parts, body) = request.into_parts();
        let limits = parts.extensions.get::<Limits>().cloned().unwrap_or_default();
        let incoming = Incoming::new(body, &parts.headers, limits);
        plain(&parts.headers)?;
        let said = |key| parts.headers.get(key).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let file_name = said(header::CONTENT_DISPOSITION).and_then(|value| parameters(&value)?.file_name);
        Ok(RawUpload { incoming, file_name, content_type: said(header::CONTENT_TYPE) })
    }
}

impl RawUpload {
    /// Sets the limits of this request instead of those of the extension.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.incoming.limits = limits;
        self
    }

    /// The file's name, where the request has a `Content-Disposition: attachment; filename="photo.jpg"`.
    pub fn file_name(&self) -> Option<&str> {
        self.file_name.as_deref()
    }

    /// The media type that the client says it has. Fields do not ask it: they look at the bytes.
    pub fn content_type(&self) -> Option<&str> {
        self.content_type.as_deref()
    }

    /// So many bytes the client says that there are.
    pub fn size(&self) -> Option<u64> {
        self.incoming.declared()
    }

    /// The body as an upload under a name of a client's.
    pub fn upload(self, name: impl Into<String>) -> Upload {
        let size = self.size();
        let upload = Upload::stream(name, self.incoming);
        match size {
            Some(size) => upload.declared(size),
            None => upload,
        }
    }

    /// Saves the body into a field, while it comes.
    ///
    /// # Errors
    /// Those of [`Files::save`]; [`crate::Kind::TooLarge`], [`crate::Kind::Slow`], [`crate::Kind::Cut`].
    pub async fn save<T: Value>(self, name: impl Into<String>, files: &Files<T>) -> Result<T> {
        Ok(files.save(self.upload(name)).await?)
    }
}
