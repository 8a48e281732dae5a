//! A failure after the head is never disguised as a complete body.

use crate::harness::{Gateway, Recorder, get};

#[track_caller]
fn cut(said: &'static str, reset: bool) {
    let upstream = Recorder::doing(move |exchange| {
        exchange.read_body();
        exchange.write(said);
        if reset {
            // It would take with it what has not been read.
            exchange.hold();
            return exchange.reset();
        }
        exchange.close();
    });
    let gateway = Gateway::before(&upstream);
    let mut connection = gateway.begin(&get("/"));
    assert_eq!(connection.head().word(1), "200");
    connection.until("hello");
    upstream.open();
    let rest = connection.rest();
    assert!(!rest.ends_with(b"0\r\n\r\n") && rest.len() < 10, "a cut body looked whole: {}", rest.escape_ascii());
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
