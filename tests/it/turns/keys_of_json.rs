//! What counts as a key in a JSON body, and what passes untouched because it has none.

use super::sessions;
use crate::harness::{Gateway, Recorder, post};

#[test]
fn null_empty_objects_and_lists_count_as_absent() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &sessions("key: [{ json: /id }], anonymous: reject"));
    for body in ["{\"id\":null}", "{\"id\":\"\"}", "{\"id\":{}}", "{\"id\":[1]}", "{}", "[]", "{\"x\":{\"id\":\"a\"}}"]
    {
        gateway.ask(&post("/", body).json()).assert_problem(400, "session_required");
    }
    for body in ["{\"id\":\"a\"}", "{\"id\":7}", "{\"id\":true}", " {\n\"id\" : \"\\u0061\" } "] {
        gateway.ask(&post("/", body).json()).assert_ok();
    }
    assert_eq!(upstream.count(), 4);
}

#[test]
fn an_absent_key_lets_the_next_source_be_tried() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &sessions("key: [{ json: /id }, { json: /other }], anonymous: reject"));
    gateway.ask(&post("/", "{\"id\":null,\"other\":\"b\"}").json()).assert_ok();
}

#[test]
fn a_body_that_does_not_parse_passes_untouched() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &sessions("key: [{ json: /id }]"));
    for body in ["{\"id\":", "no json", "{\"id\":\"a\"", "\u{feff}{}", "{\"id\":\"\\ud800\"}"] {
        let answer = gateway.ask(&post("/", body).json().making("echo"));
        assert_eq!(answer.assert_ok().text(), body);
    }
}

#[test]
fn a_body_that_was_read_for_its_key_reaches_the_upstream_byte_for_byte() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &sessions("key: [{ json: /id }]"));
    let body = format!("{{ \"id\" :\t\"a\",\"n\":1.0e0, \"text\":\"{}\" }}\n", "\u{e4}\\u00e4".repeat(30_000));
    assert!(gateway.ask(&post("/", &body).json().making("echo")).assert_ok().text() == body);
    let chunked = crate::harness::request("POST", "/").json().chunked(&["{\"id\"", ":\"a\"}"], &[]).making("echo");
    assert_eq!(gateway.ask(&chunked).assert_ok().text(), "{\"id\":\"a\"}");
}

#[test]
fn order_of_arrival_is_the_order_in_which_bodies_are_complete() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &sessions("key: [{ json: /id }]"));
    let mut running = gateway.begin(&post("/running", "{\"id\":\"a\"}").json().making("hold"));
    upstream.wait_seen(1);
    let bytes = post("/slow", "{\"id\":\"a\"}").json().bytes();
    let mut slow = gateway.say(&bytes[..bytes.len() - 3]);
    let mut fast = gateway.begin(&post("/fast", "{\"id\":\"a\"}").json());
    gateway.wait_for_turn(1);
    slow.send(&bytes[bytes.len() - 3..]);
    gateway.wait_for_turn(2);
    upstream.open();
    for connection in [&mut running, &mut fast, &mut slow] {
        connection.response().assert_ok();
    }
    assert_eq!(upstream.targets(), ["/running", "/fast", "/slow"]);
}
