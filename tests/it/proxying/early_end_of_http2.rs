use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::harness::{Gateway, eventually, get, wait};

/// An HTTP/2 upstream whose answers end at once, and which counts what it is sent all the same.
fn early() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("for tokio");
    let address = listener.local_addr().expect("bound");
    let octets = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&octets);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            while let Ok((stream, _)) = listener.accept().await {
                let counting = Arc::clone(&counting);
                let answer = service_fn(move |request| {
                    tokio::spawn(count(request, Arc::clone(&counting)));
                    async { Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())) }
                });
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(server.serve_connection(TokioIo::new(stream), answer));
            }
        });
    });
    (address, octets)
}

async fn count(mut request: Request<Incoming>, octets: Arc<AtomicUsize>) {
    while let Some(Ok(frame)) = request.body_mut().frame().await {
        octets.fetch_add(frame.data_ref().map_or(0, Bytes::len), Ordering::SeqCst);
    }
}

#[test]
fn nothing_of_an_upload_reaches_the_server_after_an_early_answer_has_given_its_place_back() {
    let (address, octets) = early();
    let gateway = Gateway::start(
        &format!("http://{address}"),
        "limits: { concurrency: 1 }\nupstreams: { agents: { servers: [\"{upstream}\"], http2: true } }\n",
    );
    let mut uploading = gateway.say("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nabc");
    assert_eq!(uploading.head().word(1), "200");
    eventually("the place is free", || gateway.json("/status")["limits"]["in_flight"] == 0);
    uploading.send("y".repeat(500));
    gateway.ask(&get("/next")).assert_ok();
    wait::give_it_a_chance();
    assert!(octets.load(Ordering::SeqCst) <= 3, "more than was sent before the answer");
}
