//! Requests to S3: the client, how many are under way, what is tried again, and what a failure means.
//!
//! In: one request. Out: its answer, or a [`Failure`] after what is transient was tried again. Promise: every attempt is counted.

use std::{
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use aws_sdk_s3::{
    Client,
    config::{
        BehaviorVersion, ConfigBag, Credentials, Intercept, ProvideCredentials, Region, RequestChecksumCalculation,
        ResponseChecksumValidation, RuntimeComponents,
        interceptors::{BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef},
        retry::RetryConfig,
        timeout::TimeoutConfig,
    },
    error::{BoxError, DisplayErrorContext, ProvideErrorMetadata, SdkError},
};
use jiff::{SignedDuration, Timestamp};
use rand::Rng;
use tokio::sync::{OnceCell, Semaphore};

use crate::{
    error::{Error, Kind, Result, Retry},
    plan::Bucket,
    storage::clocks::was_set,
};

/// Requests under way at once, at most.
const IN_FLIGHT: usize = 32;

/// How often a request is sent before its failure is somebody else's matter; a server that cannot be reached, [`CONNECTS`] times.
const ATTEMPTS: u32 = 6;
const CONNECTS: u32 = 3;

/// The first pause between two attempts; each further one is twice as long, up to [`LONGEST`], and a random part of it is left out.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// What became of a request, as far as it matters here.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub status: Option<u16>,
    /// S3's own word: `AccessDenied`, `NoSuchBucket`, ..
    pub code: Option<String>,
    text: String,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// No answer: not connected, cut off, too late.
    Unreachable,
    /// The server asks for patience, or had an accident of its own.
    Slow,
    /// An answer that will be the same next time.
    Answer,
}

/// Codes that mean: later. Some services send them with other statuses than AWS.
const SLOW: [&str; 10] = [
    "SlowDown",
    "InternalError",
    "ServiceUnavailable",
    "RequestTimeout",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
    "OperationAborted",
    "ConditionalRequestConflict",
    "RequestThrottled",
];

/// Those with which a service turns a request away before it does anything.
const REFUSED: [&str; 6] = ["SlowDown", "ServiceUnavailable", "Throttling", "ThrottlingException", "TooManyRequests", "RequestThrottled"];

impl Failure {
    fn of<E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static>(e: &SdkError<E>) -> Self {
        let status = e.raw_response().map(|r| r.status().as_u16());
        let code = e.as_service_error().and_then(|e| e.code()).map(str::to_owned);
        let what = match e {
            SdkError::TimeoutError(_) => What::Unreachable,
            SdkError::DispatchFailure(d) if !d.is_user() => What::Unreachable, // also a connection that was cut off
            SdkError::ResponseError(_) if status.is_none_or(|s| !(300..500).contains(&s)) => What::Slow,
            _ if matches!(status, Some(429 | 500 | 502 | 503 | 504)) || code.as_deref().is_some_and(|c| SLOW.contains(&c)) => What::Slow,
            _ => What::Answer,
        };
        let text = match e.as_service_error() {
            Some(e) => {
                let said = [e.code(), e.message()].into_iter().flatten().collect::<Vec<_>>().join(": ");
                if said.is_empty() { status.map_or_else(String::new, |s| format!("status {s}")) } else { said }
            }
            None => DisplayErrorContext(e).to_string(),
        };
        Failure { status, code, text, what }
    }

    /// The failure of one key within an answer.
    pub(super) fn of_key(code: Option<&str>, message: Option<&str>) -> Self {
        let slow = code.is_some_and(|c| SLOW.contains(&c));
        let text = [code, message].into_iter().flatten().collect::<Vec<_>>().join(": ");
        Failure { status: None, code: code.map(str::to_owned), text, what: if slow { What::Slow } else { What::Answer } }
    }

    /// An answer that cannot be believed; another attempt may bring a better one.
    pub(super) fn strange(text: impl Into<String>) -> Self {
        Failure { status: None, code: None, text: text.into(), what: What::Slow }
    }

    /// What the service said.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn is(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }

    pub(super) fn transient(&self) -> bool {
        self.what != What::Answer
    }

    /// The service has done nothing, and asks to come back later.
    pub(super) fn refused(&self) -> bool {
        self.what == What::Slow && (matches!(self.status, Some(429 | 503)) || self.code.as_deref().is_some_and(|c| REFUSED.contains(&c)))
    }

    /// A condition did not hold.
    pub(super) fn condition(&self) -> bool {
        self.status == Some(412) || self.is("PreconditionFailed")
    }

    /// There is no such key; whether there is such a bucket, a HEAD does not say.
    pub(super) fn no_key(&self) -> bool {
        self.is("NoSuchKey") || self.is("NoSuchVersion") || (self.status == Some(404) && !self.is("NoSuchBucket"))
    }

    /// The service does not know this request, or this condition.
    pub(super) fn unknown(&self) -> bool {
        self.status == Some(501) || self.is("NotImplemented") || self.is("MethodNotAllowed") || self.is("InvalidArgument")
    }
}

/// How many requests may be under way: one more after each success, half after each sign that it is too much.
#[derive(Debug)]
struct Pace {
    gate: Semaphore,
    state: Mutex<(f64, usize, Option<Instant>)>, // the limit, permits yet to be taken away, the last cut
}

impl Pace {
    fn new() -> Self {
        Pace { gate: Semaphore::new(IN_FLIGHT), state: Mutex::new((IN_FLIGHT as f64, 0, None)) }
    }

    async fn through<T>(&self, request: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let permit = self.gate.acquire().await.expect("the gate is never closed");
        let done = request.await;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (limit, debt, cut) = &mut *state;
        match &done {
            Err(failure) if failure.transient() => {
                // What was sent before the last cut says nothing about the pace after it.
                if cut.is_none_or(|at| at.elapsed() > PAUSE) {
                    let next = (*limit / 2.0).max(1.0);
                    *debt += *limit as usize - next as usize;
                    (*limit, *cut) = (next, Some(Instant::now()));
                }
            }
            _ => {
                let next = (*limit + 1.0 / *limit).min(IN_FLIGHT as f64);
                for _ in *limit as usize..next as usize {
                    if *debt > 0 { *debt -= 1 } else { self.gate.add_permits(1) }
                }
                *limit = next;
            }
        }
        if *debt > 0 {
            *debt -= 1;
            permit.forget();
        }
        done
    }
}

/// Counts what is sent.
#[derive(Debug)]
struct Count(Arc<AtomicU64>);

impl Intercept for Count {
    fn name(&self) -> &'static str {
        "Count"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.fetch_add(1, Relaxed);
        Ok(())
    }
}

/// Hears in each answer what the service's clock says.
#[derive(Debug)]
struct ClockReader(ServiceClock);

/// How far the service's clock was ahead of this machine's, and when that was.
type ServiceClock = Arc<Mutex<Option<(Instant, SystemTime, SignedDuration)>>>;

impl Intercept for ClockReader {
    fn name(&self) -> &'static str {
        "ClockReader"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let headers = context.response().headers();
        // What a cache has kept was said long ago.
        if let Some(said) =
            headers.get("date").filter(|_| headers.get("age").is_none()).and_then(|date| jiff::fmt::rfc2822::parse(date).ok())
        {
            // The way from there takes a moment: this is never more than it is, and perhaps less.
            let ahead = said.timestamp().duration_since(Timestamp::now());
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), SystemTime::now(), ahead));
        }
        Ok(())
    }
}

/// The way to one bucket.
#[derive(Debug)]
pub(super) struct Wire {
    storage: String,
    at: Bucket,
    key: Option<Credentials>,
    client: OnceCell<Client>,
    sent: Arc<AtomicU64>,
    heard: ServiceClock,
    pace: Pace,
}

impl Wire {
    pub(super) fn new(storage: &str, at: &Bucket, key: Option<Credentials>) -> Self {
        let (client, sent, heard, pace) = (OnceCell::new(), Arc::default(), Arc::default(), Pace::new());
        Wire { storage: storage.to_owned(), at: at.clone(), key, client, sent, heard, pace }
    }

    /// How far the service's clock is ahead of this machine's. What was heard before this machine's clock was set says nothing.
    pub(super) fn ahead(&self) -> Option<SignedDuration> {
        let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.filter(|(at, wall, _)| !was_set(*at, *wall)).map(|(.., ahead)| ahead)
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    pub(super) fn bucket(&self) -> &str {
        &self.at.bucket
    }

    /// The client; made when it is first needed.
    pub(super) async fn client(&self) -> Result<&Client> {
        self.client.get_or_try_init(|| self.connect()).await
    }

    async fn connect(&self) -> Result<Client> {
        use aws_smithy_http_client::{Builder, tls};
        let http = Builder::new().tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring)).build_https();
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(5))
            .read_timeout(Duration::from_secs(60))
            .operation_attempt_timeout(Duration::from_secs(120))
            .build();
        let mut load = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http)
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts);
        if let Some(profile) = &self.at.profile {
            load = load.profile_name(profile);
        }
        if let Some(region) = &self.at.region {
            load = load.region(Region::new(region.clone()));
        }
        if let Some(key) = &self.key {
            load = load.credentials_provider(key.clone());
        }
        let shared = load.load().await;
        // Asked for once here, because a request would wrap what goes wrong beyond recognition.
        let provider = shared.credentials_provider().ok_or_else(|| self.no_credentials("no provider"))?;
        provider.provide_credentials().await.map_err(|e| self.no_credentials(&DisplayErrorContext(&e).to_string()))?;
        let mut config = aws_sdk_s3::config::Builder::from(&shared)
            // Many services know neither the newer checksums nor the chunked encoding that carries them.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .interceptor(Count(self.sent.clone()))
            .interceptor(ClockReader(self.heard.clone()));
        let own = self.at.endpoint.is_some();
        if let Some(endpoint) = &self.at.endpoint {
            config = config.endpoint_url(endpoint);
        }
        config = config.force_path_style(self.at.path_style.unwrap_or(own));
        if shared.region().is_none() {
            if !own && shared.endpoint_url().is_none() {
                return Err(Error::new(Kind::Config, "the bucket's region is not known")
                    .with("storage", &self.storage)
                    .hint("write s3://bucket?region=.., or set AWS_REGION"));
            }
            config = config.region(Region::new("us-east-1"));
        }
        Ok(Client::from_conf(config.build()))
    }

    fn no_credentials(&self, why: &str) -> Error {
        Error::new(Kind::Config, "no credentials were found for S3").with("storage", &self.storage).because(why.to_owned()).hint(
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE (~/.aws/credentials), or give the machine a role \
             (web identity, container, instance metadata)",
        )
    }

    /// Sends a request, again where that can help.
    pub(super) async fn call<T, E, F>(&self, make: impl Fn() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, SdkError<E>>>,
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        self.call_if(|_| true, make).await
    }

    /// The same, again only after a failure after which it `may` be sent again.
    pub(super) async fn call_if<T, E, F>(&self, may: impl Fn(&Failure) -> bool, make: impl Fn() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, SdkError<E>>>,
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let mut attempt = 1;
        loop {
            // Boxed, because the SDK's futures are several kilobytes and nest deeply.
            let failure = match self.pace.through(async { Box::pin(make()).await.map_err(|e| Failure::of(&e)) }).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let most = match failure.what {
                What::Answer => return Err(failure),
                What::Unreachable => CONNECTS,
                What::Slow => ATTEMPTS,
            };
            if attempt >= most || !may(&failure) {
                return Err(failure);
            }
            pause(attempt).await;
            attempt += 1;
        }
    }

    /// What a failure means: whether trying again helps, and what a person does. `action` is what S3's policies call it.
    pub(super) fn error(&self, failure: &Failure, action: &str, message: &str) -> Error {
        let code = failure.code.as_deref().unwrap_or_default();
        let (kind, retry, hint) = match (failure.what, failure.status, code) {
            (What::Unreachable, ..) => {
                (Kind::StorageUnreachable, Retry::Later, "the service does not answer: are `endpoint`, network and proxy right?".to_owned())
            }
            (_, _, "NoSuchBucket") => (
                Kind::StorageUnreachable,
                Retry::Later,
                "there is no such bucket at this endpoint: correct `url`, or make the bucket".to_owned(),
            ),
            (What::Slow, ..) => (
                Kind::Storage,
                Retry::Later,
                "the service was too busy or had a fault of its own; if it goes on, see the service's status".to_owned(),
            ),
            (_, _, "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidAccessKey") => {
                (Kind::Permission, Retry::Never, "the service does not accept the credentials: check access key and secret key".to_owned())
            }
            (_, _, "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired") => {
                (Kind::Permission, Retry::Later, "the credentials' session is over: log in again".to_owned())
            }
            (_, _, "RequestTimeTooSkewed" | "RequestExpired") => {
                (Kind::Permission, Retry::Later, "this machine's clock and the service's differ too much: set the clock".to_owned())
            }
            (_, _, "AuthorizationHeaderMalformed" | "PermanentRedirect" | "IllegalLocationConstraintException")
            | (_, Some(301 | 307), _) => {
                (Kind::Config, Retry::Never, "the bucket lies in another region or at another endpoint: write ?region=..".to_owned())
            }
            (_, Some(401 | 403), _) | (_, _, "AccessDenied" | "AllAccessDisabled" | "AccountProblem") => {
                let also = match action {
                    "s3:GetObject" => " and s3:ListBucket on the bucket (without it a missing file is answered in the same way)",
                    "s3:DeleteObject" | "s3:DeleteObjectVersion" => " (an object lock or a legal hold forbids it, too)",
                    _ => "",
                };
                (Kind::Permission, Retry::Never, format!("allow {action}{also} to these credentials: docs/storages.md has the policy"))
            }
            (_, Some(501), _) | (_, _, "NotImplemented") => (Kind::Storage, Retry::Never, format!("the service does not know {action}")),
            _ => (Kind::Storage, Retry::Never, "nothing was removed; the service's answer says why".to_owned()),
        };
        let why = if failure.text.is_empty() { "the service did not say why" } else { failure.text.as_str() };
        Error::new(kind, message)
            .with("storage", &self.storage)
            .with("bucket", &self.at.bucket)
            .with("action", action)
            .retry(retry)
            .because(why.to_owned())
            .hint(hint)
    }
}

/// Waits before attempt `attempt + 1`.
pub(super) async fn pause(attempt: u32) {
    let most = (PAUSE * 2_u32.pow(attempt.min(10) - 1)).min(LONGEST);
    let share = rand::rng().random_range(0.5..1.0);
    tokio::time::sleep(most.mul_f64(share)).await;
}
