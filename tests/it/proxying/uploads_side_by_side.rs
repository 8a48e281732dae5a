use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;

use crate::harness::wait::soon;
use crate::harness::{Gateway, Recorder, get, http2};

/// More than a client may send ahead on one stream.
const UPLOAD: usize = 600_000;

fn upload(session: &str) -> Request<Full<Bytes>> {
    let request = Request::post("http://agents.example/").header("x-session-id", session);
    request.body(Full::new(Bytes::from(vec![b'x'; UPLOAD]))).expect("a request")
}

#[test]
fn uploads_that_wait_do_not_keep_back_the_one_that_has_its_turn() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(
        &upstream,
        "routes:
  - { name: runs, match: { path_prefix: / }, upstream: agents, session: { key: [{ header: X-Session-Id }] }, timeouts: { request: 5s } }
",
    );
    let mut running = gateway.begin(&get("/running").session("a").making("hold"));
    upstream.wait_seen(1);
    http2::run(async {
        let mut sender = http2::connect(gateway.address).await;
        let waiting: Vec<_> = (0..8).map(|_| tokio::spawn(sender.send_request(upload("a")))).collect();
        soon("all 8 wait", || gateway.json("/status")["sessions"]["waiting"] == 8).await;
        tokio::time::sleep(Duration::from_millis(300)).await; // they send what they may
        let other = sender.send_request(upload("b")).await.expect("an answer");
        assert_eq!(http2::whole(other).await.0.as_u16(), 200);
        assert_eq!(upstream.count(), 2, "the others still wait");
        upstream.open();
        for waiting in waiting {
            let answer = waiting.await.expect("a task").expect("an answer");
            assert_eq!(http2::whole(answer).await.0.as_u16(), 200);
        }
    });
    running.response().assert_ok();
    let seen = upstream.seen();
    assert_eq!(seen.len(), 10);
    assert!(seen[1..].iter().all(|seen| seen.body.whole && seen.body.bytes.len() == UPLOAD));
}
