//! HTTP/2 with prior knowledge, as client and as upstream. The frames are hyper's; nothing here needs exact bytes.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::wait::BOUND;

/// Runs a client to its end, within the bound of every wait.
#[track_caller]
pub fn run<T>(client: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(BOUND * 2, client).await.expect("no end of an HTTP/2 client") })
}

/// One connection.
pub async fn connect(to: SocketAddr) -> SendRequest<Full<Bytes>> {
    let stream = tokio::net::TcpStream::connect(to).await.expect("a connection");
    stream.set_nodelay(true).expect("no delay");
    let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .handshake(TokioIo::new(stream))
        .await
        .expect("a handshake");
    tokio::spawn(connection);
    sender
}

pub fn post(target: &str, fields: &[(&str, &str)], body: &'static str) -> Request<Full<Bytes>> {
    let mut request = Request::post(format!("http://agents.example{target}"));
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(Full::new(Bytes::from_static(body.as_bytes()))).expect("a request")
}

/// Status and whole body.
pub async fn whole(response: Response<Incoming>) -> (http::StatusCode, Bytes) {
    let status = response.status();
    let body = response.into_body().collect().await.expect("a whole body");
    (status, body.to_bytes())
}

/// An upstream that speaks HTTP/2 only; answers with what it was sent, after 20 ms.
pub struct Server {
    pub address: SocketAddr,
    pub served: Arc<AtomicUsize>,
    pub connections: Arc<AtomicUsize>,
}

impl Server {
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("for tokio");
        let address = listener.local_addr().expect("bound");
        let served = Arc::new(AtomicUsize::new(0));
        let connections = Arc::new(AtomicUsize::new(0));
        let (counting, accepted) = (Arc::clone(&served), Arc::clone(&connections));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(accept(listener, counting, accepted));
        });
        Self { address, served, connections }
    }
}

async fn accept(listener: std::net::TcpListener, served: Arc<AtomicUsize>, connections: Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
    while let Ok((stream, _)) = listener.accept().await {
        connections.fetch_add(1, Ordering::SeqCst);
        let served = Arc::clone(&served);
        let echo = service_fn(move |request: Request<Incoming>| {
            let served = Arc::clone(&served);
            async move {
                let version = format!("{:?}", request.version());
                let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                tokio::time::sleep(Duration::from_millis(20)).await;
                served.fetch_add(1, Ordering::SeqCst);
                let answer = Response::builder().header("x-spoken", version).body(Full::new(body));
                Ok::<_, Infallible>(answer.expect("a response"))
            }
        });
        tokio::spawn(
            hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), echo),
        );
    }
}
