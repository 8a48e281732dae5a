use super::policy;
use crate::harness::{Exchange, Gateway, Recorder, get};

/// Begins an answer with `head` and the piece `hello`, and then says nothing for ever.
fn stalls(head: &'static str) -> impl Fn(&mut Exchange) + Send + Sync {
    move |exchange| {
        if exchange.head.word(1) == "/next" {
            return exchange.obey();
        }
        exchange.write(head);
        exchange.client_leaves();
        exchange.close();
    }
}

#[test]
fn an_upstream_that_stalls_in_a_chunked_body_is_cut_visibly_and_gives_its_place_back() {
    let upstream = Recorder::doing(stalls("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"));
    let gateway = Gateway::with(&upstream, &policy("idle: 300ms"));
    let answer = gateway.ask(&get("/"));
    assert_eq!((answer.status, answer.text().as_str(), answer.body.whole), (200, "hello", false));
    gateway.ask(&get("/next")).assert_ok();
}

#[test]
fn an_upstream_that_stalls_in_a_sized_body_is_cut_visibly_too() {
    let upstream = Recorder::doing(stalls("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello"));
    let gateway = Gateway::with(&upstream, &policy("idle: 300ms"));
    let answer = gateway.ask(&get("/"));
    assert_eq!((answer.status, answer.body.whole), (200, false));
    gateway.ask(&get("/next")).assert_ok();
}

#[test]
fn a_slow_but_steady_stream_is_no_stall() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy("idle: 500ms"));
    let answer = gateway.ask(&get("/").making("stream 8 120"));
    assert!(answer.assert_ok().text().ends_with("piece 7\n"));
}
