use super::policy;
use crate::harness::{Gateway, Recorder, eventually, get};

#[test]
fn once_the_body_streams_a_reader_that_leaves_ends_the_work() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy("abandoned: auto", "concurrency: 1"));
    let mut gone = gateway.begin(&get("/stream").making("stream 100000 10"));
    gone.until("piece 1\n");
    gone.leave();
    gateway.ask(&get("/next")).assert_ok();
    upstream.wait_running(0);
    eventually("a server that writes notices", || upstream.seen()[0].client_gone);
    gateway.wait_metric("turnwise_abandoned_total", &[("result", "cancelled")], 1.0);
}

#[test]
fn a_stream_between_two_pieces_is_cancelled_at_once() {
    let upstream = Recorder::doing(|exchange| {
        if exchange.head.word(1) != "/stream" {
            return exchange.obey();
        }
        exchange.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        exchange.client_leaves();
        exchange.close();
    });
    let gateway = Gateway::with(&upstream, &policy("abandoned: auto", "concurrency: 1"));
    let mut gone = gateway.begin(&get("/stream"));
    gone.until("hello");
    gone.leave();
    gateway.ask(&get("/next")).assert_ok();
    eventually("its connection is closed", || upstream.seen()[0].client_gone);
}
