//! What every page has: the frame, a message from the page before, style and script; and errors, which are pages too.
//!
//! In: a template, or what went wrong. Out: an answer. Promise: a visitor learns what to do next, and nothing of what is inside; that is logged.

use std::{convert::Infallible, error::Error as StdError};

use askama::Template;
use axum::{
    extract::{FromRequestParts, Path},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use rowbound_web::Problem;

/// What the frame around a page needs to know.
pub struct Frame {
    /// Which part of the blog this is: `articles`, `posts`, `disk` or none.
    pub here: &'static str,
    /// What the page before has to say.
    pub flash: Option<String>,
}

impl Frame {
    pub fn new(here: &'static str, Flash(flash): Flash) -> Self {
        Frame { here, flash }
    }

    /// ` aria-current` of a link in the navigation.
    pub fn current(&self, part: &str) -> &'static str {
        if self.here == part { "page" } else { "false" }
    }
}

/// A page.
pub fn page(status: StatusCode, template: &impl Template) -> Response {
    match template.render() {
        Ok(html) => {
            // A message is shown once. Pages show rows, so nobody keeps them.
            let headers = [
                (header::CONTENT_TYPE, "text/html; charset=utf-8"),
                (header::CACHE_CONTROL, "no-store"),
                (header::SET_COOKIE, "flash=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"),
            ];
            (status, headers, html).into_response()
        }
        Err(e) => {
            tracing::error!(error = %e, "a template failed");
            (StatusCode::INTERNAL_SERVER_ERROR, "The server failed.").into_response()
        }
    }
}

/// On to another page after a form, so that going back or loading again sends nothing twice; `message` is shown there.
pub fn go(to: &str, message: &str) -> Response {
    let cookie = format!("flash={}; Path=/; Max-Age=60; HttpOnly; SameSite=Lax", utf8_percent_encode(message, NON_ALPHANUMERIC));
    (StatusCode::SEE_OTHER, [(header::LOCATION, to.to_owned()), (header::SET_COOKIE, cookie)]).into_response()
}

/// The message of the page before, if it left one.
pub struct Flash(Option<String>);

impl<S: Sync> FromRequestParts<S> for Flash {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let cookies = parts.headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let flash = cookies.flat_map(|line| line.split("; ")).find_map(|cookie| cookie.strip_prefix("flash="));
        let text = flash.map(|text| percent_decode_str(text).decode_utf8_lossy().into_owned());
        Ok(Flash(text.filter(|text| !text.is_empty())))
    }
}

/// The number of a row, out of the path. What is none names no page.
pub struct Id(pub i32);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failed> {
        Path::from_request_parts(parts, state).await.map(|Path(id)| Id(id)).map_err(|_| Failed::NotFound)
    }
}

/// Why there is no such answer as was wanted.
#[derive(Debug)]
pub enum Failed {
    /// There is no such page, row or file.
    NotFound,
    /// The page takes no such request.
    NotAllowed,
    /// The form comes from another site.
    Foreign,
    /// The request itself is at fault: its status, and a sentence.
    Refused(StatusCode, String),
    /// Database or storage are away for now.
    Away(String),
    /// The server's fault.
    Internal(String),
}

#[derive(Template)]
#[template(path = "failed.html")]
struct FailedPage {
    frame: Frame,
    title: &'static str,
    text: String,
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let (status, title, text) = match self {
            Failed::NotFound => (StatusCode::NOT_FOUND, "There is no such page", "It may have been deleted.".to_owned()),
            Failed::NotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "That cannot be done here", "Go back and try another way.".to_owned()),
            Failed::Foreign => (
                StatusCode::FORBIDDEN,
                "This form comes from another site",
                "Nothing was changed. Open the page here, and send its own form.".to_owned(),
            ),
            Failed::Refused(status, why) => (status, "The request cannot be read", why),
            Failed::Away(why) => {
                tracing::error!(error = %why, "database or storage are away");
                let text = "The database or the storage does not answer. Nothing is lost: try again in a few seconds.";
                (StatusCode::SERVICE_UNAVAILABLE, "Not now", text.to_owned())
            }
            Failed::Internal(why) => {
                tracing::error!(error = %why, "a request failed");
                (StatusCode::INTERNAL_SERVER_ERROR, "The server failed", "It was not your fault, and it is in the log.".to_owned())
            }
        };
        let mut response = page(status, &FailedPage { frame: Frame { here: "", flash: None }, title, text });
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}

/// An error and all that is beneath it.
fn whole(e: &dyn StdError) -> String {
    let mut text = e.to_string();
    let mut under = e.source();
    while let Some(e) = under {
        text.push_str(": ");
        text.push_str(&e.to_string());
        under = e.source();
    }
    text
}

impl From<sea_orm::DbErr> for Failed {
    fn from(e: sea_orm::DbErr) -> Self {
        match e {
            sea_orm::DbErr::ConnectionAcquire(_) | sea_orm::DbErr::Conn(_) => Failed::Away(whole(&e)),
            _ => Failed::Internal(whole(&e)),
        }
    }
}

impl From<rowbound_files::Error> for Failed {
    fn from(e: rowbound_files::Error) -> Self {
        match e.status() {
            404 => Failed::NotFound,
            503 => Failed::Away(e.full()),
            _ => Failed::Internal(e.full()),
        }
    }
}

impl From<rowbound::Error> for Failed {
    fn from(e: rowbound::Error) -> Self {
        rowbound_files::Error::from(e).into()
    }
}

impl From<Problem> for Failed {
    fn from(problem: Problem) -> Self {
        match problem.status() {
            StatusCode::SERVICE_UNAVAILABLE => Failed::Away(whole(&problem)),
            status if status.is_client_error() => Failed::Refused(status, sentence(problem.detail())),
            _ => Failed::Internal(whole(&problem)),
        }
    }
}

/// A lower-case message as a sentence.
pub fn sentence(message: &str) -> String {
    let mut letters = message.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str().trim_end_matches('.'))
}

/// `s` of a plural.
pub fn s(n: usize) -> &'static str {
    if n == 1 { "" } else { "s" }
}

pub async fn not_found() -> Failed {
    Failed::NotFound
}

pub async fn not_allowed() -> Failed {
    Failed::NotAllowed
}

/// Style and script are in the program.
pub async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Result<Response, Failed> {
    let (kind, text) = match name.as_str() {
        "blog.css" => ("text/css; charset=utf-8", include_str!("../static/blog.css")),
        "live.js" => ("text/javascript; charset=utf-8", include_str!("../static/live.js")),
        "icon.svg" => ("image/svg+xml", include_str!("../static/icon.svg")),
        _ => return Err(Failed::NotFound),
    };
    // Another version of the program has other ones under the same name.
    let tag = format!("\"{}-{}\"", env!("CARGO_PKG_VERSION"), text.len());
    Ok(tagged(&headers, &tag).unwrap_or_else(|| {
        let about = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache"), (header::ETAG, &tag)];
        (about.map(|(name, value)| (name, value.to_owned())), text).into_response()
    }))
}

/// The answer to a browser that has already what bears this `ETag`.
pub fn tagged(headers: &HeaderMap, tag: &str) -> Option<Response> {
    let known = headers.get(header::IF_NONE_MATCH)?.to_str().ok()?;
    let same = known.split(',').any(|one| one.trim().trim_start_matches("W/") == tag);
    same.then(|| {
        (StatusCode::NOT_MODIFIED, [(header::ETAG, tag.to_owned()), (header::CACHE_CONTROL, "no-cache".to_owned())]).into_response()
    })
}
