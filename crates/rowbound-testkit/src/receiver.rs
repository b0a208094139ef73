//! A web server that webhooks call: it keeps what it is sent, and answers as it is told.

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, StatusCode, body::Incoming, header::HeaderName, service::service_fn};

use crate::loopback::{Serving, listen, port};

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// `POST`, ..
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Headers; names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Received {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }
}

/// What is answered: a status, headers and a text.
pub type Answer = (u16, Vec<(&'static str, String)>, &'static str);

#[derive(Debug, Default)]
struct State {
    received: Vec<Received>,
    answers: VecDeque<Answer>,
}

/// The server, on a port of its own until it is dropped.
#[derive(Debug)]
pub struct Receiver {
    port: u16,
    state: Arc<Mutex<State>>,
    _serving: Serving,
}

impl Receiver {
    /// One that answers 200 until told otherwise.
    ///
    /// # Panics
    /// When no port can be had.
    pub fn start() -> Self {
        let listener = listen(0);
        let port = port(&listener);
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let state = shared.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.map(|b| b.to_bytes().to_vec()).unwrap_or_default();
                let headers =
                    head.headers.iter().map(|(n, v)| (n.to_string(), String::from_utf8_lossy(v.as_bytes()).into_owned())).collect();
                let path = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
                let mut state = state.lock().unwrap_or_else(|e| e.into_inner());
                state.received.push(Received { method: head.method.to_string(), path, headers, body });
                let (status, headers, text) = state.answers.pop_front().unwrap_or((200, Vec::new(), ""));
                let mut answer = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
                *answer.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
                for (name, value) in headers {
                    if let Ok(value) = value.parse() {
                        answer.headers_mut().insert(HeaderName::from_static(name), value);
                    }
                }
                Ok::<_, Infallible>(answer)
            }
        });
        Receiver { port, state, _serving: Serving::start(listener, service) }
    }

    /// A URL of it.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// The next requests are answered with these, one each.
    pub fn answer(&self, answers: impl IntoIterator<Item = Answer>) {
        self.state.lock().unwrap_or_else(|e| e.into_inner()).answers.extend(answers);
    }

    /// What came so far.
    pub fn received(&self) -> Vec<Received> {
        self.state.lock().unwrap_or_else(|e| e.into_inner()).received.clone()
    }
}
