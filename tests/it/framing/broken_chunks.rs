//! What a client does wrong is no fault of the upstream.

use crate::harness::{Gateway, Recorder, eventually, get};

const HEAD: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";

#[test]
fn a_broken_chunk_of_a_client_is_a_400_and_counts_against_no_server() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(
        &upstream,
        "upstreams: { agents: { servers: [\"{upstream}\"], eject: { after_failures: 1, for: 60s } } }\n",
    );
    for broken in ["zz\r\n", "-1\r\n", "5 5\r\nhello\r\n", "5\r\nhelloX\r\n", "fffffffffffffffff\r\nx", "\r\n0\r\n\r\n"]
    {
        let mut connection = gateway.say(format!("{HEAD}{broken}"));
        let status = connection.response_to("POST").map(|answer| answer.status);
        assert!(matches!(status, Some(400) | None), "{broken:?} got {status:?}");
        connection.assert_closed();
    }
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("turnwise_upstream_errors_total", &[]).unwrap_or(0.0), 0.0, "{}", metrics.text);
    assert_eq!(metrics.sum("turnwise_upstream_healthy", &[]), Some(1.0));
    assert_eq!(metrics.sum("turnwise_requests_total", &[("code", "502")]).unwrap_or(0.0), 0.0);
    gateway.ask(&get("/")).assert_ok();
}

#[test]
fn an_upload_that_its_client_cuts_is_not_whole_at_the_upstream() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    gateway.say(HEAD).leave();
    gateway.say("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhello").leave();
    eventually("both are over", || upstream.running() == 0);
    for seen in upstream.seen() {
        assert!(!seen.body.whole, "a cut body looked whole");
    }
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("turnwise_upstream_errors_total", &[]).unwrap_or(0.0), 0.0, "{}", metrics.text);
}

#[test]
fn extensions_of_chunks_do_not_disturb() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    let answer = gateway
        .say(
            "POST / HTTP/1.1\r\nHost: a\r\nX-Do: echo\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n",
        )
        .response();
    assert_eq!(answer.assert_ok().text(), "hello");
}
