//! Many agents put all nameless requests into one session of their own; a made-up key keeps them apart.

use super::sessions;
use crate::harness::{Gateway, Recorder, get, post};

#[test]
fn a_header_is_made_up_and_told() {
    let upstream = Recorder::start();
    let gateway =
        Gateway::with(&upstream, &sessions("key: [{ header: X-Session-Id }], assign: { header: X-Session-Id }"));
    let keys: Vec<String> = (0..2)
        .map(|place| {
            let key = gateway.ask(&get("/")).assert_ok().header("turnwise-session").expect("Turnwise-Session");
            assert_eq!(upstream.seen()[place].head.all("x-session-id"), [key.as_str()]);
            key
        })
        .collect();
    assert_ne!(keys[0], keys[1]);
    let named = gateway.ask(&get("/").session("mine"));
    assert_eq!(named.assert_ok().header("turnwise-session"), None, "nothing was made up");
    assert_eq!(upstream.seen()[2].session(), "mine");
}

#[test]
fn a_key_that_was_made_up_is_a_session_from_then_on() {
    let upstream = Recorder::start();
    let gateway =
        Gateway::with(&upstream, &sessions("key: [{ header: X-Session-Id }], assign: { header: X-Session-Id }"));
    let mut first = gateway.begin(&get("/1").making("hold"));
    upstream.wait_seen(1);
    let key = upstream.only().session();
    let mut second = gateway.begin(&get("/2").session(&key));
    gateway.wait_for_turn(1);
    upstream.open();
    first.response().assert_ok();
    second.response().assert_ok();
}

#[test]
fn a_body_in_which_no_key_is_looked_for_gets_none() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &sessions("key: [{ json: /session_id }], assign: { json: /session_id }"));
    for kind in ["application/octet-stream", "application/x-ndjson"] {
        let body = "{\"session_id\":\"mine\"}";
        let answer = gateway.ask(&post("/", body).header("Content-Type", kind));
        assert_eq!(answer.assert_ok().header("turnwise-session"), None);
        assert_eq!(upstream.seen().pop().expect("one").text(), body);
    }
}

#[test]
fn a_json_member_is_made_up_and_the_rest_stays() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &sessions("key: [{ json: /session_id }], assign: { json: /session_id }"));
    for body in ["{\"text\":\"hi\",\"n\":1.50}", "{}", "{\"session_id\":null,\"text\":\"hi\"}"] {
        let answer = gateway.ask(&post("/", body).json());
        let key = answer.assert_ok().header("turnwise-session").expect("Turnwise-Session");
        let seen = upstream.seen().pop().expect("one");
        assert!(seen.body.whole);
        let sent: serde_json::Value = serde_json::from_slice(&seen.body.bytes).expect("JSON");
        assert_eq!(sent["session_id"], key.as_str(), "{sent}");
        if body.contains("text") {
            assert_eq!(sent["text"], "hi");
        }
        if body.contains("1.50") {
            assert!(seen.text().contains("1.50"), "numbers stay as they were written: {}", seen.text());
        }
        assert_eq!(seen.text().matches("session_id").count(), 1, "{}", seen.text());
    }
}
