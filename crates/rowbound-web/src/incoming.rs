//! A request's body, within its limits.
//!
//! In: a body as it comes. Out: its pieces. Promise: no more is asked for than is taken at once, so memory stays constant and a fast client waits for a slow storage;
//! a client that stops in the middle is still answered in a way that clients see.

use std::{
    error::Error as StdError,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, BodyDataStream},
    http::{HeaderMap, header},
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::time::{Sleep, sleep, timeout};

use crate::{
    limits::Limits,
    problem::{Kind, Problem, Result},
};

/// How long a refused request is read at most.
const LINGER: Duration = Duration::from_secs(10);

/// A body.
pub(crate) struct Incoming {
    /// `None` once it was read to its end, or broke.
    body: Option<BodyDataStream>,
    /// Runs while the client is waited for; not while it waits for us.
    idle: Pin<Box<Sleep>>,
    waiting: bool,
    pub(crate) limits: Limits,
    read: u64,
    declared: Option<u64>,
    /// Whether the client sends nothing before it is told to go on.
    expects: bool,
}

impl Incoming {
    pub(crate) fn new(body: Body, headers: &HeaderMap, limits: Limits) -> Self {
        let declared = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let expects = headers.contains_key(header::EXPECT);
        Incoming {
            body: Some(body.into_data_stream()),
            idle: Box::pin(sleep(limits.idle)),
            waiting: false,
            limits,
            read: 0,
            declared,
            expects,
        }
    }

    /// How long the client says it is.
    pub(crate) fn declared(&self) -> Option<u64> {
        self.declared
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// [`Kind::TooLarge`], [`Kind::Slow`], [`Kind::Cut`].
    pub(crate) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(Ok(None)) };
        if self.read == 0 && self.declared.is_some_and(|declared| declared > self.limits.total) {
            return Poll::Ready(Err(self.too_large()));
        }
        let piece = body.poll_next_unpin(cx);
        match (piece.is_pending(), self.waiting) {
            (true, false) => {
                self.waiting = true;
                self.idle.as_mut().reset(rowbound::clock::deadline(self.limits.idle).into());
            }
            (pending, _) => self.waiting = pending,
        }
        match piece {
            Poll::Ready(Some(Ok(piece))) => {
                self.read += piece.len() as u64;
                if self.read > self.limits.total {
                    return Poll::Ready(Err(self.too_large()));
                }
                Poll::Ready(Ok(Some(piece)))
            }
            Poll::Ready(Some(Err(e))) => {
                self.body = None;
                Poll::Ready(Err(broken(e)))
            }
            Poll::Ready(None) => {
                self.body = None;
                Poll::Ready(Ok(None))
            }
            Poll::Pending => match self.idle.as_mut().poll(cx) {
                // A client that sends nothing is not waited for again.
                Poll::Ready(()) => {
                    self.body = None;
                    let waited = self.limits.idle.as_secs();
                    Poll::Ready(Err(Problem::new(Kind::Slow, format!("no byte came for {waited} s")).hint("upload it again")))
                }
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn too_large(&self) -> Problem {
        Problem::new(Kind::TooLarge, "the request is larger than is taken").limit(self.limits.total)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let most = self.limits.linger;
        // What is longer than that in any case is not worth beginning with.
        let rest = self.declared.map_or(0, |declared| declared.saturating_sub(self.read));
        if let Some(mut body) = self.body.take()
            && rest <= most
            && !(self.expects && self.read == 0)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(timeout(LINGER, async move {
                let mut read = 0;
                while let Some(Ok(piece)) = body.next().await {
                    read += piece.len() as u64;
                    if read > most {
                        break;
                    }
                }
            }));
        }
    }
}

/// The body as a stream of its own.
impl Stream for Incoming {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_piece(cx).map(Result::transpose)
    }
}

/// # Errors
/// [`Kind::Type`] for a body that is compressed: kept as it came, it would be another file than was meant.
pub(crate) fn plain(headers: &HeaderMap) -> Result<()> {
    match headers.get(header::CONTENT_ENCODING) {
        Some(coding) if !coding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            Err(Problem::new(Kind::Type, "a body with a `Content-Encoding` is not taken").hint("send it as it is"))
        }
        _ => Ok(()),
    }
}

fn broken(e: axum::Error) -> Problem {
    let mut under: Option<&(dyn StdError + 'static)> = Some(&e);
    while let Some(cause) = under {
        if cause.is::<http_body_util::LengthLimitError>() {
            return Problem::new(Kind::TooLarge, "the request is larger than is taken");
        }
        under = cause.source();
    }
    Problem::new(Kind::Cut, "the upload was cut off").hint("upload it again").because(e)
}
