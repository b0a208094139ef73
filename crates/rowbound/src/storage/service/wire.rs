//! Calls to a service: how many are under way, how long one may take, what is tried again, and what a failure means.
//!
//! In: one call. Out: its answer, after what is transient was tried again. Promise: every attempt is counted, and none takes longer than
//! [`LONGEST`].

use std::{
    future::Future,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use opendal::{Capability, ErrorKind, Operator};
use tokio::sync::Semaphore;

use crate::error::{Error, Kind, Retry};

/// A failure, in OpenDAL's words.
pub(super) type Failure = opendal::Error;

/// How often a call is made before its failure is somebody else's matter. A call without an answer is made once.
const ATTEMPTS: u32 = 3;

/// The pause before the second attempt; the third comes after four times as long.
const PAUSE: Duration = Duration::from_millis(200);

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(20);

/// How long a copy may take, or a rename where that is one: the service moves the bytes meanwhile.
const LONGEST: Duration = Duration::from_secs(300);

/// Whether a failure may pass. OpenDAL calls each failure of a copy persistent, a server's "later" too.
fn may_pass(e: &Failure) -> bool {
    e.is_temporary() || e.kind() == ErrorKind::RateLimited || (e.is_persistent() && e.kind() == ErrorKind::Unexpected)
}

#[derive(Debug)]
pub(super) struct Wire {
    pub op: Operator,
    pub can: Capability,
    slots: Semaphore,
    sent: AtomicU64,
    /// What must never stand in an error.
    secrets: Vec<String>,
}

impl Wire {
    pub(super) fn new(op: Operator, at_once: usize, secrets: Vec<String>) -> Self {
        let can = op.info().capability();
        Wire { op, can, slots: Semaphore::new(at_once), sent: AtomicU64::new(0), secrets }
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// Makes a call that may be made again without harm.
    pub(super) async fn call<T, F>(&self, call: impl Fn() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut pause = PAUSE;
        let mut attempt = 1;
        loop {
            let (answer, late) = self.within(ANSWER, call()).await;
            match answer {
                Err(e) if attempt < ATTEMPTS && !late && (e.is_temporary() || e.kind() == ErrorKind::RateLimited) => {
                    tokio::time::sleep(pause).await;
                    (attempt, pause) = (attempt + 1, pause * 4);
                }
                answer => return answer,
            }
        }
    }

    /// Makes a call once, because its second answer would not tell what the first one did; it may take long.
    pub(super) async fn once<T>(&self, call: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        self.within(LONGEST, call).await.0
    }

    /// Makes a call that moves or copies a file, and makes it again only if it failed for now and `nothing` came of it. Where two of them
    /// need the same new folder at the same moment, some servers fail one.
    pub(super) async fn carry<T, F, N>(&self, call: impl Fn() -> F, nothing: impl Fn() -> N) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
        N: Future<Output = bool>,
    {
        self.again_if(LONGEST, nothing, call).await
    }

    /// Makes a call that may change what it would answer, and makes it again only if it failed for now and things are still as they `were`.
    pub(super) async fn call_while<T, F, N>(&self, were: impl Fn() -> N, call: impl Fn() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
        N: Future<Output = bool>,
    {
        self.again_if(ANSWER, were, call).await
    }

    async fn again_if<T, F, N>(&self, limit: Duration, can: impl Fn() -> N, call: impl Fn() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
        N: Future<Output = bool>,
    {
        let mut pause = PAUSE;
        let mut attempt = 1;
        loop {
            match self.within(limit, call()).await {
                (Err(e), false) if attempt < ATTEMPTS && may_pass(&e) => {
                    tokio::time::sleep(pause).await;
                    if !can().await {
                        return Err(e);
                    }
                    (attempt, pause) = (attempt + 1, pause * 4);
                }
                (answer, _) => return answer,
            }
        }
    }

    /// The next answer of a call that has several.
    pub(super) async fn step<T>(&self, call: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        match tokio::time::timeout(ANSWER, call).await {
            Ok(answer) => answer,
            Err(_) => Err(Failure::new(ErrorKind::Unexpected, format!("no answer within {} s", ANSWER.as_secs())).set_temporary()),
        }
    }

    /// The answer, and whether it was waited for in vain.
    async fn within<T>(&self, limit: Duration, call: impl Future<Output = Result<T, Failure>>) -> (Result<T, Failure>, bool) {
        let _slot = self.slots.acquire().await;
        self.sent.fetch_add(1, Relaxed);
        match tokio::time::timeout(limit, call).await {
            Ok(answer) => (answer, false),
            Err(_) => (Err(Failure::new(ErrorKind::Unexpected, format!("no answer within {} s", limit.as_secs())).set_temporary()), true),
        }
    }

    /// What a failure means: whether trying again helps, and what a person does.
    pub(super) fn error(&self, failure: &Failure, message: &str) -> Error {
        let (kind, retry, hint) = match failure.kind() {
            ErrorKind::PermissionDenied => (Kind::Permission, Retry::Later, "give the login of `url` the right to do this, or correct it"),
            ErrorKind::ConfigInvalid => (Kind::Config, Retry::Never, "correct the storage's `url`"),
            ErrorKind::Unsupported => (Kind::Config, Retry::Never, "the service cannot do this: docs/storages.md explains what is needed"),
            _ => (Kind::Storage, Retry::Later, "it will be tried again; if it lasts, look at the service"),
        };
        Error::new(kind, message).because(self.hushed(failure)).retry(retry).hint(hint)
    }

    /// A failure's text without what could be a secret.
    pub(super) fn hushed(&self, failure: &Failure) -> String {
        let mut text = failure.to_string();
        for secret in self.secrets.iter().filter(|s| !s.is_empty()) {
            let encoded = percent_encoding::utf8_percent_encode(secret, percent_encoding::NON_ALPHANUMERIC).to_string();
            text = text.replace(secret.as_str(), "***").replace(&encoded, "***");
        }
        text
    }
}
