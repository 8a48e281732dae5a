//! A turn is over when the answer is, not when its head is.

use super::by_header;
use crate::harness::{Exchange, Gateway, Recorder, get};

fn stream_on_hold(exchange: &mut Exchange) {
    exchange.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    exchange.hold();
    exchange.finish("0\r\n\r\n");
}

#[test]
fn a_streaming_answer_holds_its_turn() {
    let upstream = Recorder::doing(stream_on_hold);
    let gateway = Gateway::with(&upstream, &by_header(""));
    let mut first = gateway.begin(&get("/1").session("a"));
    assert_eq!(first.head().word(1), "200");
    first.until("hello");
    let mut second = gateway.begin(&get("/2").session("a"));
    gateway.wait_for_turn(1);
    assert_eq!(upstream.count(), 1);
    upstream.open();
    first.until("0\r\n\r\n");
    second.response().assert_ok();
    assert_eq!(upstream.peak(), 1);
}

#[test]
fn a_streaming_answer_holds_its_place() {
    let upstream = Recorder::doing(stream_on_hold);
    let gateway = Gateway::with(&upstream, "limits: { concurrency: 1 }\n");
    let mut first = gateway.begin(&get("/1"));
    first.until("hello");
    let mut second = gateway.begin(&get("/2"));
    gateway.wait_for_place(1);
    upstream.open();
    first.until("0\r\n\r\n");
    second.response().assert_ok();
    assert_eq!(upstream.peak(), 1);
}
