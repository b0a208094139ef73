//! An HTTP service on a loopback port, on a thread and runtime of its own, so that it answers whatever the test's runtime does.

use std::{
    net::{Ipv4Addr, TcpListener},
    thread::JoinHandle,
};

use hyper::{Request, Response, body::Body, body::Incoming, service::Service};
use hyper_util::rt::TokioIo;
use tokio::sync::watch;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Listens on a loopback port; 0 takes a free one.
pub(crate) fn listen(port: u16) -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap_or_else(|e| panic!("cannot listen on port {port}: {e}"))
}

/// The port of a socket.
pub(crate) fn port(of: &TcpListener) -> u16 {
    of.local_addr().expect("a bound socket has an address").port()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Serve,
    Finish,
    Drop,
}

/// A service that answers. Dropped, it breaks every connection at once, and nobody listens any more.
#[derive(Debug)]
pub(crate) struct Serving {
    order: watch::Sender<Order>,
    thread: Option<JoinHandle<()>>,
}

impl Serving {
    pub(crate) fn start<S, B>(listener: TcpListener, service: S) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<Cause>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Cause>,
    {
        let (order, orders) = watch::channel(Order::Serve);
        let thread = std::thread::Builder::new().name("loopback".to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("cannot make a runtime");
            runtime.block_on(accept(listener, service, orders));
            // A file operation may still be under way: a killed server leaves it alone.
            runtime.shutdown_background();
        });
        Serving { order, thread: Some(thread.expect("cannot start a thread")) }
    }

    /// Answers the requests under way and ends.
    pub(crate) fn finish(mut self) {
        self.end(Order::Finish);
    }

    fn end(&mut self, how: Order) {
        if let Some(thread) = self.thread.take() {
            self.order.send_replace(how);
            if thread.join().is_err() && !std::thread::panicking() {
                panic!("a server's thread panicked");
            }
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.end(Order::Drop);
    }
}

async fn accept<S, B>(listener: TcpListener, service: S, orders: watch::Receiver<Order>)
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<Cause>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Cause>,
{
    listener.set_nonblocking(true).expect("cannot make a socket non-blocking");
    let listener = tokio::net::TcpListener::from_std(listener).expect("cannot listen");
    let mut connections = tokio::task::JoinSet::new();
    let mut wait = orders.clone();
    let order = loop {
        let socket = tokio::select! {
            socket = listener.accept() => socket,
            changed = wait.changed() => break if changed.is_ok() { *wait.borrow() } else { Order::Drop },
        };
        let Ok((socket, _)) = socket else { continue }; // the client has gone again
        let _ = socket.set_nodelay(true); // only speed
        let (service, mut orders) = (service.clone(), orders.clone());
        connections.spawn(async move {
            let mut connection = std::pin::pin!(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service));
            tokio::select! {
                _ = connection.as_mut() => {} // however it ended, the client knows
                _ = orders.changed() => {
                    connection.as_mut().graceful_shutdown(); // ends with this task when everything is dropped
                    let _ = connection.await;
                }
            }
        });
        while connections.try_join_next().is_some() {}
    };
    drop(listener);
    if order == Order::Finish {
        while connections.join_next().await.is_some() {}
    }
}

/// One request to a server of this machine: its status and its body.
///
/// # Panics
/// When there is no answer.
pub async fn request(method: &str, url: &str, headers: &std::collections::BTreeMap<String, String>, body: &[u8]) -> (u16, bytes::Bytes) {
    use http_body_util::{BodyExt, Full};
    let rest = url.strip_prefix("http://").expect("a server of this machine speaks plain HTTP");
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let stream = tokio::net::TcpStream::connect(host).await.expect("the server listens");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("a connection");
    let driver = tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(format!("/{path}"));
    if !headers.keys().any(|key| key.eq_ignore_ascii_case("host")) {
        request = request.header("host", host);
    }
    for (key, value) in headers {
        request = request.header(key, value);
    }
    let request = request.body(Full::new(bytes::Bytes::copy_from_slice(body))).expect("a request");
    let answer = sender.send_request(request).await.expect("an answer");
    let status = answer.status().as_u16();
    let bytes = answer.into_body().collect().await.expect("a whole body").to_bytes();
    driver.abort();
    (status, bytes)
}
