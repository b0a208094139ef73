//! An upload form, part by part.
//!
//! In: a `multipart/form-data` request. Out: its parts, in the order in which they come. Promise: a file is never held in memory: it goes into its field while
//! the client sends it.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use axum::{
    extract::{FromRequest, Request},
    http::header,
};
use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use rowbound_files::{Files, Upload, Value};

use crate::{
    head::Head,
    incoming::{Incoming, plain},
    limits::Limits,
    multipart::{Broken, Event, Parser},
    problem::{Kind, Problem, Result},
};

/// A `multipart/form-data` request, as an extractor of axum: the last argument of a handler.
///
/// ```no_run
/// use axum::extract::State;
/// use rowbound_files::{Files, ImageFile};
/// use rowbound_web::{Problem, UploadForm};
///
/// async fn create(State(images): State<Files<ImageFile>>, mut form: UploadForm) -> Result<String, Problem> {
///     let (mut title, mut image) = (None, None);
///     while let Some(part) = form.next().await? {
///         match part.name() {
///             "title" => title = Some(part.text().await?),
///             "image" => image = Some(part.save(&images).await?),
///             _ => {}
///         }
///     }
///     let title = title.ok_or_else(|| Problem::required("title"))?;
///     let image = image.ok_or_else(|| Problem::required("image"))?;
///     Ok(format!("{title}: {image}"))
/// }
/// ```
pub struct UploadForm {
    shared: Arc<Mutex<Reading>>,
}

/// A body that is being read; the form and its part both have it.
struct Reading {
    incoming: Incoming,
    parser: Parser,
    /// How many parts have begun. Bytes are only given to the last of them.
    parts: usize,
    /// Whether that one is not over.
    inside: bool,
    /// Bytes of texts so far.
    texts: usize,
    failed: Option<Problem>,
}

impl<S: Send + Sync> FromRequest<S> for UploadForm {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self> {
        let (parts, body) = request.into_parts();
        let limits = parts.extensions.get::<Limits>().cloned().unwrap_or_default();
        // Made first, so that a client that is refused here is let finish as well.
        let incoming = Incoming::new(body, &parts.headers, limits);
        plain(&parts.headers)?;
        let content_type = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let parser = Parser::of_type(content_type).ok_or_else(|| {
            Problem::new(Kind::NotAForm, "the request is no `multipart/form-data`").hint("send a form with enctype=\"multipart/form-data\"")
        })?;
        let parser = parser.map_err(refused)?;
        Ok(UploadForm { shared: Arc::new(Mutex::new(Reading { incoming, parser, parts: 0, inside: false, texts: 0, failed: None })) })
    }
}

impl UploadForm {
    /// Sets the limits of this form instead of those of the extension, before its first part.
    pub fn limits(self, limits: Limits) -> Self {
        self.lock().incoming.limits = limits;
        self
    }

    /// The next part; `None` after the last. What was not read of the one before is skipped.
    ///
    /// # Errors
    /// [`Kind::Malformed`], [`Kind::Cut`], [`Kind::Slow`], [`Kind::TooLarge`], [`Kind::TooMany`]: from then on always the same.
    pub async fn next(&mut self) -> Result<Option<Part>> {
        let head = poll_fn(|cx| self.lock().poll_part(cx)).await?;
        Ok(head.map(|head| Part { head, body: PartBody { number: self.lock().parts, shared: self.shared.clone(), over: false } }))
    }

    fn lock(&self) -> MutexGuard<'_, Reading> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reading {
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event>> {
        if let Some(problem) = &self.failed {
            return Poll::Ready(Err(problem.clone()));
        }
        let event = loop {
            match self.parser.next() {
                Ok(Event::More) => match ready!(self.incoming.poll_piece(cx)) {
                    Ok(Some(piece)) => self.parser.push(piece),
                    Ok(None) => self.parser.finish(),
                    Err(problem) => break Err(problem),
                },
                other => break other.map_err(refused),
            }
        };
        let event = event.and_then(|event| {
            match &event {
                Event::Part(_) if self.parts == self.incoming.limits.parts => {
                    return Err(Problem::new(Kind::TooMany, "the form has more parts than are taken").limit(self.parts as u64));
                }
                Event::Part(_) => (self.parts, self.inside) = (self.parts + 1, true),
                Event::PartEnd => self.inside = false,
                _ => {}
            }
            Ok(event)
        });
        if let Err(problem) = &event {
            self.failed = Some(problem.clone());
        }
        Poll::Ready(event)
    }

    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Head>>> {
        loop {
            match ready!(self.poll_event(cx))? {
                Event::Part(head) => return Poll::Ready(Ok(Some(head))),
                // What follows is read, so that the connection can be used again; whatever it is, the form is complete.
                Event::End => match ready!(self.incoming.poll_piece(cx)) {
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => return Poll::Ready(Ok(None)),
                },
                Event::Bytes(_) | Event::PartEnd | Event::More => {}
            }
        }
    }

    fn poll_bytes(&mut self, part: usize, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        if part != self.parts || !self.inside {
            let why = "a part was read after the form had gone on to the next";
            return Poll::Ready(Err(self.failed.clone().unwrap_or_else(|| Problem::internal(why))));
        }
        Poll::Ready(Ok(match ready!(self.poll_event(cx))? {
            Event::Bytes(bytes) => Some(bytes),
            _ => None,
        }))
    }
}

fn refused(why: Broken) -> Problem {
    match why {
        Broken::Malformed(what) => Problem::new(Kind::Malformed, what),
        Broken::Cut => Problem::new(Kind::Cut, "the form ends before its last boundary").hint("upload it again"),
    }
}

/// A part of a form. Dropped without being read, it is skipped.
pub struct Part {
    head: Head,
    body: PartBody,
}

impl Part {
    /// The field's name in the form.
    pub fn name(&self) -> &str {
        &self.head.name
    }

    /// The file's name, as the client gave it; `Some("")` where a browser's file input was left empty; `None` for what is no file.
    pub fn file_name(&self) -> Option<&str> {
        self.head.file_name.as_deref()
    }

    /// The media type that the client says it has. Fields do not ask it: they look at the bytes.
    pub fn content_type(&self) -> Option<&str> {
        self.head.content_type.as_deref()
    }

    /// The part as a text.
    ///
    /// # Errors
    /// [`Kind::TooLarge`] as soon as the form's texts are longer than [`Limits::text`]; [`Kind::Malformed`] for what is no UTF-8; those of [`UploadForm::next`].
    pub async fn text(self) -> Result<String> {
        let name = self.head.name.clone();
        let bytes = self.bytes().await?;
        String::from_utf8(bytes.into()).map_err(|_| Problem::new(Kind::Malformed, "this is no text in UTF-8").field(name))
    }

    /// The part's bytes, held in memory.
    ///
    /// # Errors
    /// As [`Part::text`].
    pub async fn bytes(self) -> Result<Bytes> {
        let Part { head, mut body } = self;
        let mut all = BytesMut::new();
        while let Some(piece) = poll_fn(|cx| body.poll(cx)).await.map_err(|problem| problem.field(head.name.clone()))? {
            let mut reading = body.shared.lock().unwrap_or_else(PoisonError::into_inner);
            reading.texts += piece.len();
            let most = reading.incoming.limits.text;
            if reading.texts > most {
                let problem = Problem::new(Kind::TooLarge, "the form's texts are longer than is taken").limit(most as u64).field(head.name);
                reading.failed = Some(problem.clone());
                return Err(problem);
            }
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }

    /// The part as an upload, for [`Files::save`] or [`rowbound_files::Store::save`]. Read it before the form's next part.
    pub fn upload(self) -> Upload {
        Upload::stream(self.head.file_name.unwrap_or_default(), self.body)
    }

    /// Saves the file into a field, while it comes. What went wrong with it carries this part's name.
    ///
    /// # Errors
    /// Those of [`Files::save`], and of [`UploadForm::next`].
    pub async fn save<T: Value>(self, files: &Files<T>) -> Result<T> {
        let name = self.head.name.clone();
        files.save(self.upload()).await.map_err(|e| Problem::from(e).field(name))
    }

    /// The same for a field that may be left empty: `None` for a browser's file input without a file.
    ///
    /// # Errors
    /// [`Kind::Required`] where the field is not `blank`; as [`Part::save`].
    pub async fn save_optional<T: Value>(self, files: &Files<T>) -> Result<Option<T>> {
        let name = self.head.name.clone();
        files.save_optional(Some(self.upload())).await.map_err(|e| Problem::from(e).field(name))
    }
}

/// The bytes of a part.
struct PartBody {
    shared: Arc<Mutex<Reading>>,
    number: usize,
    over: bool,
}

impl PartBody {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        if self.over {
            return Poll::Ready(Ok(None));
        }
        let shared = self.shared.clone();
        let piece = ready!(shared.lock().unwrap_or_else(PoisonError::into_inner).poll_bytes(self.number, cx));
        self.over = !matches!(piece, Ok(Some(_)));
        Poll::Ready(piece)
    }
}

impl Stream for PartBody {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll(cx).map(Result::transpose)
    }
}
