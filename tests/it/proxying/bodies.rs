use crate::harness::{Gateway, Recorder, get, post, request};

#[test]
fn a_chunked_body_passes_both_ways() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    let asked = request("POST", "/").chunked(&["one ", "two ", "three"], &[]).making("echo");
    assert_eq!(gateway.ask(&asked).assert_ok().text(), "one two three");
    let seen = upstream.only();
    assert_eq!(seen.text(), "one two three");
    assert_eq!(seen.head.all("transfer-encoding"), ["chunked"]);
    assert_eq!(gateway.ask(&get("/").making("stream 4 5")).assert_ok().text(), "piece 0\npiece 1\npiece 2\npiece 3\n");
}

#[test]
fn an_empty_body_stays_an_empty_body() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    gateway.ask(&post("/", "")).assert_ok();
    gateway.ask(&request("POST", "/").chunked(&[], &[])).assert_ok();
    for seen in upstream.seen() {
        assert!(seen.body.whole && seen.body.bytes.is_empty());
    }
    let answer = gateway.ask(&get("/").making("body 0"));
    assert_eq!(answer.assert_ok().header("content-length").as_deref(), Some("0"));
}

#[test]
fn a_request_without_a_body_brings_none() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    gateway.ask(&get("/")).assert_ok();
    let seen = upstream.only();
    assert_eq!((seen.header("content-length"), seen.header("transfer-encoding")), (None, None));
}

#[test]
fn every_byte_value_passes() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let answer = gateway.ask(&post("/", &bytes).making("echo"));
    assert!(answer.assert_ok().body.bytes == bytes);
}
