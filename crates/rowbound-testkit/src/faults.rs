//! A proxy in front of an HTTP service that fails as a test tells it to.
//!
//! In: [`Rule`]s, which may change at any time. Out: the service's own answers, or what the first rule that applies makes of them. Promise:
//! nothing is random; a request that no rule touches reaches the service unchanged, with its `Host`, so that signatures hold: a
//! client signs the proxy's address, and no service knows better.
//!
//! ```no_run
//! # use rowbound_testkit::{Ask, Fault, FaultProxy, Rule, S3Kind, S3Server};
//! # async fn doc() {
//! let server = S3Server::start(S3Kind::S3sFs);
//! let proxy = FaultProxy::to_s3(&server);
//! proxy.rule(Rule::new(Fault::Answer(503)).on([Ask::DeleteMany]).every(3));
//! let location = server.bucket().await.location_at(&proxy.endpoint(), "media/");
//! // .. deletions through `location`: every third fails ..
//! assert!(proxy.count(Ask::DeleteMany) > 0);
//! # }
//! ```

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use aws_sdk_s3::{
    Client,
    types::{Delete, ObjectIdentifier},
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Frame, Incoming, SizeHint},
    header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING},
    http::{request, response},
};
use hyper_util::rt::TokioIo;
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::watch};

use crate::{
    loopback::{Serving, listen, port},
    s3::S3Server,
};

/// What a request asks for, in S3's words; WebDAV has two of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ask {
    /// `HEAD`.
    Head,
    /// `GET` of an object.
    Get,
    /// `PUT` of an object.
    Put,
    /// `PUT` of an object with `x-amz-copy-source`, or Azure's `x-ms-copy-source`.
    Copy,
    /// `PUT` of an object with `x-amz-acl`.
    PutAccess,
    /// `DELETE` of one object or version.
    Delete,
    /// `POST ?delete`: many at once.
    DeleteMany,
    /// `GET` of a bucket.
    List,
    /// `GET ?versions`.
    ListVersions,
    /// `MKCOL`.
    MakeFolder,
    /// `MOVE`.
    Move,
    /// All else.
    Other,
}

impl Ask {
    fn of(head: &request::Parts) -> Ask {
        let has = |name: &str| {
            let query = head.uri.query().unwrap_or("");
            query.split('&').any(|pair| pair.split('=').next() == Some(name))
        };
        // Of a bucket only the name stands in the path.
        let object = head.uri.path().trim_start_matches('/').split_once('/').is_some_and(|(_, key)| !key.is_empty());
        match head.method {
            ref method if method == "MKCOL" => Ask::MakeFolder,
            ref method if method == "MOVE" => Ask::Move,
            Method::HEAD => Ask::Head,
            Method::GET if has("versions") => Ask::ListVersions,
            Method::GET if object && !has("uploadId") => Ask::Get,
            Method::GET if has("list-type") || head.uri.query().is_none() => Ask::List,
            Method::PUT if ["x-amz-copy-source", "x-ms-copy-source"].iter().any(|name| head.headers.contains_key(*name)) => Ask::Copy,
            Method::PUT if object && head.headers.contains_key("x-amz-acl") => Ask::PutAccess,
            Method::PUT if object => Ask::Put,
            Method::DELETE if object && !has("uploadId") => Ask::Delete,
            Method::POST if has("delete") => Ask::DeleteMany,
            _ => Ask::Other,
        }
    }
}

/// What goes wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It is answered with this status, and never reaches the service. 503, 429, 500 and 403 carry S3's own codes (`SlowDown`, ..).
    Answer(u16),
    /// It reaches the service so much later.
    Delay(Duration),
    /// It waits until [`FaultProxy::release`]; a test waits for that with [`FaultProxy::held`].
    Hold,
    /// The connection breaks; the service never hears of the request.
    CutBefore,
    /// Half of the request's body (without one, of its first line) reaches the service, then both connections break.
    CutAmid,
    /// The service does what it was asked for, but the connection breaks before the answer.
    CutAfter,
    /// The answer breaks off after so many bytes of its body.
    Truncate(usize),
    /// Of a [`Ask::DeleteMany`], these keys are answered with this error code and left alone, the others are deleted.
    FailKeys(Vec<String>, String),
}

/// Which requests a [`Fault`] befalls. Without more: all of them.
#[derive(Debug, Clone)]
pub struct Rule {
    fault: Fault,
    on: Option<Vec<Ask>>,
    path: Option<String>,
    skip: u64,
    every: u64,
    times: u64,
    seen: u64,
}

impl Rule {
    /// Every request.
    pub fn new(fault: Fault) -> Rule {
        Rule { fault, on: None, path: None, skip: 0, every: 1, times: u64::MAX, seen: 0 }
    }

    /// Only those that ask for one of these.
    pub fn on(mut self, asks: impl IntoIterator<Item = Ask>) -> Rule {
        self.on = Some(asks.into_iter().collect());
        self
    }

    /// Only those whose path and query, as they stand in the request, hold this.
    pub fn path(mut self, text: &str) -> Rule {
        self.path = Some(text.to_owned());
        self
    }

    /// Not the first so many of them.
    pub fn skip(mut self, count: u64) -> Rule {
        self.skip = count;
        self
    }

    /// Then only every `n`-th: with 3 the third, the sixth, ...
    ///
    /// # Panics
    /// When `n` is 0.
    pub fn every(mut self, n: u64) -> Rule {
        assert!(n > 0, "every 0th request is none");
        self.every = n;
        self
    }

    /// At most so often.
    pub fn times(mut self, times: u64) -> Rule {
        self.times = times;
        self
    }

    fn applies(&mut self, ask: Ask, path: &str) -> bool {
        if self.on.as_ref().is_some_and(|on| !on.contains(&ask)) || self.path.as_ref().is_some_and(|text| !path.contains(text.as_str())) {
            return false;
        }
        self.seen += 1;
        let counted = self.seen.saturating_sub(self.skip);
        counted > 0 && counted.is_multiple_of(self.every) && counted / self.every <= self.times
    }
}

/// The proxy. It lives on a thread of its own; dropped, it breaks its connections and nobody listens any more.
#[derive(Debug)]
pub struct FaultProxy {
    port: u16,
    inner: Arc<Inner>,
    serving: Mutex<Option<Serving>>,
}

#[derive(Debug)]
struct Inner {
    server: SocketAddr,
    /// Deletes what is left of a request that was taken apart: its signature is gone.
    client: Option<Client>,
    state: Mutex<State>,
    released: watch::Sender<u64>,
    held: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    rules: Vec<Rule>,
    counts: BTreeMap<Ask, u64>,
}

/// A connection that is to break, on purpose or because the service does not answer.
#[derive(Debug)]
struct Cut(String);

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Cut {}

impl FaultProxy {
    /// A proxy before any HTTP service.
    pub fn to(server: SocketAddr) -> FaultProxy {
        Self::before(server, None)
    }

    /// A proxy before an S3 server; it can take deletions of many keys apart ([`Fault::FailKeys`]).
    pub fn to_s3(server: &S3Server) -> FaultProxy {
        Self::before(server.address(), Some(server.client()))
    }

    fn before(server: SocketAddr, client: Option<Client>) -> FaultProxy {
        let inner = Inner { server, client, state: Mutex::default(), released: watch::Sender::new(0), held: watch::Sender::new(0) };
        let listener = listen(0);
        let proxy = FaultProxy { port: port(&listener), inner: Arc::new(inner), serving: Mutex::new(None) };
        *proxy.serving() = Some(proxy.serve(listener));
        proxy
    }

    fn serve(&self, listener: std::net::TcpListener) -> Serving {
        let inner = Arc::clone(&self.inner);
        Serving::start(listener, hyper::service::service_fn(move |request| Arc::clone(&inner).answer(request)))
    }

    fn serving(&self) -> MutexGuard<'_, Option<Serving>> {
        self.serving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The address for clients, `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Adds a rule behind those that are there.
    pub fn rule(&self, rule: Rule) {
        self.inner.state().rules.push(rule);
    }

    /// Removes every rule.
    pub fn clear(&self) {
        self.inner.state().rules.clear();
    }

    /// From now on connections are refused, and those there are break.
    pub fn down(&self) {
        self.serving().take();
    }

    /// Listens again, on the same port.
    pub fn up(&self) {
        let mut serving = self.serving();
        if serving.is_none() {
            *serving = Some(self.serve(listen(self.port)));
        }
    }

    /// How many requests of this kind arrived, whatever became of them.
    pub fn count(&self, ask: Ask) -> u64 {
        self.counts().get(&ask).copied().unwrap_or(0)
    }

    /// How many requests of each kind arrived.
    pub fn counts(&self) -> BTreeMap<Ask, u64> {
        self.inner.state().counts.clone()
    }

    /// Forgets the counts.
    pub fn reset_counts(&self) {
        self.inner.state().counts.clear();
    }

    /// Waits until so many requests in all have been [held](Fault::Hold) since the proxy was made.
    ///
    /// # Panics
    /// When there are fewer after a minute.
    pub async fn held(&self, count: u64) {
        let mut held = self.inner.held.subscribe();
        let reached = tokio::time::timeout(Duration::from_secs(60), held.wait_for(|n| *n >= count)).await.is_ok();
        assert!(reached, "only {} requests of {count} are held after a minute", *self.inner.held.borrow());
    }

    /// Lets every held request go on, and removes the rules that hold.
    pub fn release(&self) {
        self.inner.state().rules.retain(|rule| rule.fault != Fault::Hold);
        self.inner.released.send_modify(|n| *n += 1);
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the request, and tells what goes wrong with it.
    fn fault(&self, ask: Ask, path: &str) -> Option<Fault> {
        let mut state = self.state();
        *state.counts.entry(ask).or_default() += 1;
        let rule = state.rules.iter_mut().find_map(|rule| rule.applies(ask, path).then(|| rule.fault.clone()));
        // Under the lock, so that a release cannot come between.
        if rule == Some(Fault::Hold) {
            self.held.send_modify(|n| *n += 1);
        }
        rule
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Answer>, Cut> {
        let (head, body) = request.into_parts();
        let mut released = self.released.subscribe();
        released.mark_unchanged();
        let ask = Ask::of(&head);
        let fault = self.fault(ask, &head.uri.to_string());
        let body = body.collect().await.map_err(|e| Cut(format!("the client broke off: {e}")))?.to_bytes();
        match fault {
            None => self.forward(head, body, None).await,
            Some(Fault::Answer(status)) => Ok(refusal(status, &head.method)),
            Some(Fault::Delay(time)) => {
                tokio::time::sleep(time).await;
                self.forward(head, body, None).await
            }
            Some(Fault::Hold) => {
                released.changed().await.map_err(|_| Cut("the proxy has gone".to_owned()))?;
                self.forward(head, body, None).await
            }
            Some(Fault::CutBefore) => Err(Cut("cut before".to_owned())),
            Some(Fault::CutAmid) => {
                self.half(&head, &body).await.map_err(|e| Cut(e.to_string()))?;
                Err(Cut("cut amid".to_owned()))
            }
            Some(Fault::CutAfter) => {
                self.forward(head, body, None).await?;
                Err(Cut("cut after".to_owned()))
            }
            Some(Fault::Truncate(bytes)) => self.forward(head, body, Some(bytes)).await,
            Some(Fault::FailKeys(keys, code)) if ask == Ask::DeleteMany => self.delete_others(&head, &body, &keys, &code).await,
            Some(Fault::FailKeys(..)) => self.forward(head, body, None).await,
        }
    }

    async fn forward(&self, head: request::Parts, body: Bytes, truncate: Option<usize>) -> Result<Response<Answer>, Cut> {
        let cut = |e: &dyn std::error::Error| Cut(format!("the service does not answer: {e}"));
        let stream = TcpStream::connect(self.server).await.map_err(|e| cut(&e))?;
        let _ = stream.set_nodelay(true); // only speed
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| cut(&e))?;
        tokio::spawn(connection);
        let request = Request::from_parts(head, Full::new(body));
        let (mut head, body) = sender.send_request(request).await.map_err(|e| cut(&e))?.into_parts();
        let body = body.collect().await.map_err(|e| cut(&e))?.to_bytes();
        // These are about the other connection.
        head.headers.remove(CONNECTION);
        if head.headers.remove(TRANSFER_ENCODING).is_some() {
            head.headers.insert(CONTENT_LENGTH, body.len().into());
        }
        Ok(Answer::of(head, body, truncate))
    }

    /// Half of a request: of its body if it has one, else of its first line (Python's servers take a head that breaks off for a whole one).
    async fn half(&self, head: &request::Parts, body: &[u8]) -> std::io::Result<()> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", head.method, head.uri).into_bytes();
        let first_line = bytes.len();
        for (name, value) in &head.headers {
            bytes.extend_from_slice(name.as_str().as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value.as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
        if body.is_empty() {
            bytes.truncate(first_line / 2);
        } else {
            bytes.extend_from_slice(b"\r\n");
            bytes.extend_from_slice(&body[..body.len() / 2]);
        }
        let mut stream = TcpStream::connect(self.server).await?;
        stream.write_all(&bytes).await?;
        stream.shutdown().await
    }

    async fn delete_others(&self, head: &request::Parts, body: &[u8], fail: &[String], code: &str) -> Result<Response<Answer>, Cut> {
        let client = self.client.as_ref().ok_or_else(|| Cut("FailKeys needs FaultProxy::to_s3".to_owned()))?;
        let body = String::from_utf8_lossy(body);
        let bucket = head.uri.path().trim_matches('/');
        let quiet = tag(&body, "Quiet").as_deref() == Some("true");
        let (mut deleted, mut errors) = (String::new(), String::new());
        let mut rest = Vec::new();
        for object in body.split("<Object>").skip(1) {
            let object = object.split("</Object>").next().unwrap_or_default();
            let key = tag(object, "Key").ok_or_else(|| Cut(format!("an object without a key: {object}")))?;
            let version = tag(object, "VersionId");
            if fail.contains(&key) {
                errors += &error_element(&key, version.as_deref(), code, "as the test has it");
            } else {
                let one = ObjectIdentifier::builder().key(key).set_version_id(version).set_e_tag(tag(object, "ETag"));
                rest.push(one.build().map_err(|e| Cut(e.to_string()))?);
            }
        }
        if !rest.is_empty() {
            let delete = Delete::builder().set_objects(Some(rest)).build().map_err(|e| Cut(e.to_string()))?;
            let done = client.delete_objects().bucket(bucket).delete(delete).send().await.map_err(|e| Cut(format!("{e:?}")))?;
            for one in done.deleted().iter().filter(|_| !quiet) {
                let mut inner = format!("<Key>{}</Key>", escape(one.key().unwrap_or_default()));
                if let Some(id) = one.version_id() {
                    inner += &format!("<VersionId>{id}</VersionId>");
                }
                if one.delete_marker() == Some(true) {
                    inner += &format!(
                        "<DeleteMarker>true</DeleteMarker><DeleteMarkerVersionId>{}</DeleteMarkerVersionId>",
                        one.delete_marker_version_id().unwrap_or_default()
                    );
                }
                deleted += &format!("<Deleted>{inner}</Deleted>");
            }
            for one in done.errors() {
                let text = one.message().unwrap_or_default();
                errors += &error_element(one.key().unwrap_or_default(), one.version_id(), one.code().unwrap_or_default(), text);
            }
        }
        let text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<DeleteResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{deleted}{errors}</DeleteResult>"
        );
        Ok(xml(StatusCode::OK, text))
    }
}

fn error_element(key: &str, version: Option<&str>, code: &str, message: &str) -> String {
    let version = version.map(|id| format!("<VersionId>{id}</VersionId>")).unwrap_or_default();
    format!("<Error><Key>{}</Key>{version}<Code>{code}</Code><Message>{}</Message></Error>", escape(key), escape(message))
}

/// The text of the first element of this name.
fn tag(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(unescape(text))
}

fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        out += before;
        let (entity, after) = after.split_once(';').unwrap_or((after, ""));
        let number = entity.strip_prefix('#').map(|n| match n.strip_prefix('x') {
            Some(hex) => u32::from_str_radix(hex, 16),
            None => n.parse(),
        });
        out.push(match (entity, number) {
            ("amp", _) => '&',
            ("lt", _) => '<',
            ("gt", _) => '>',
            ("quot", _) => '"',
            ("apos", _) => '\'',
            (_, Some(Ok(n))) => char::from_u32(n).unwrap_or('\u{fffd}'),
            _ => panic!("an entity that no S3 client writes: &{entity};"),
        });
        rest = after;
    }
    out + rest
}

fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            // XML reads line ends as one and the same, unless they are written so.
            '\r' | '\n' | '\t' => out += &format!("&#{};", u32::from(c)),
            c => out.push(c),
        }
    }
    out
}

fn refusal(status: u16, method: &Method) -> Response<Answer> {
    let code = match status {
        403 => "AccessDenied",
        429 => "TooManyRequests",
        503 => "SlowDown",
        _ => "InternalError",
    };
    let status = StatusCode::from_u16(status).expect("a rule with an HTTP status");
    let text =
        format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>as the test has it</Message></Error>");
    xml(status, if *method == Method::HEAD { String::new() } else { text })
}

fn xml(status: StatusCode, text: String) -> Response<Answer> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", "application/xml".parse().expect("a header"));
    response.headers_mut().insert(CONTENT_LENGTH, text.len().into());
    Answer::of(response.into_parts().0, text.into(), None)
}

/// A body that may break off.
struct Answer {
    bytes: Option<Bytes>,
    cut: Option<bool>,
}

impl Answer {
    fn of(head: response::Parts, body: Bytes, truncate: Option<usize>) -> Response<Answer> {
        let cut = truncate.filter(|at| *at < body.len());
        let bytes = cut.map_or_else(|| body.clone(), |at| body.slice(..at));
        Response::from_parts(head, Answer { bytes: Some(bytes).filter(|b| !b.is_empty()), cut: cut.map(|_| false) })
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if let Some(bytes) = self.bytes.take() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        match self.cut {
            None => Poll::Ready(None),
            // What was said so far is sent only when nothing more is ready.
            Some(false) => {
                self.cut = Some(true);
                task.waker().wake_by_ref();
                Poll::Pending
            }
            Some(true) => Poll::Ready(Some(Err(Cut("truncated".to_owned())))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none() && self.cut.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.bytes, self.cut) {
            (Some(bytes), None) => SizeHint::with_exact(bytes.len() as u64),
            (None, None) => SizeHint::with_exact(0),
            _ => SizeHint::new(),
        }
    }
}
