use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::harness::wait::soon;
use crate::harness::{Gateway, Recorder, http2};

const SHORT: &str = "server: { keep_alive_timeout: 400ms }\ndefaults: { timeouts: { idle: 400ms } }\n";

/// A client that takes not one octet of any answer's body.
async fn connect(to: std::net::SocketAddr) -> SendRequest<Full<Bytes>> {
    let stream = tokio::net::TcpStream::connect(to).await.expect("a connection");
    let builder = Builder::new(TokioExecutor::new()).initial_stream_window_size(0).to_owned();
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.expect("a handshake");
    tokio::spawn(connection);
    sender
}

#[test]
fn a_client_that_takes_no_answer_does_not_keep_its_connection() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, SHORT);
    http2::run(async {
        let mut sender = connect(gateway.address).await;
        let answer = sender.send_request(http2::post("/", &[], "")).await.expect("a head");
        assert_eq!(answer.status().as_u16(), 200);
        soon("no connection is left", || gateway.metric("turnwise_connections", &[]) == 0.0).await;
        drop((sender, answer));
    });
}
