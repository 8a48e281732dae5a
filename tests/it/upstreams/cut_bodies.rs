//! A failure after the head is never disguised as a complete body.

use crate::harness::{Gateway, Recorder, get};

#[track_caller]
fn cut(said: &'static str, reset: bool) {
    let upstream = Recorder::doing(move |exchange| {
        exchange.read_body();
        exchange.write(said);
        if reset {
            exchange.sleep(50);
            return exchange.reset();
        }
        exchange.close();
    });
    let gateway = Gateway::before(&upstream);
    let answer = gateway.ask(&get("/"));
    assert_eq!(answer.status, 200);
    assert!(!answer.body.whole, "a cut body looked whole: {}", answer.text());
    assert_eq!(answer.text(), "hello");
    assert!(gateway.metric("turnwise_upstream_errors_total", &[("upstream", "agents")]) >= 1.0);
}

#[test]
fn a_close_between_chunks() {
    cut("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", false);
}

#[test]
fn a_reset_between_chunks() {
    cut("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", true);
}

#[test]
fn nonsense_instead_of_a_chunk() {
    cut("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n", false);
}

#[test]
fn fewer_bytes_than_announced() {
    cut("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello", false);
}
