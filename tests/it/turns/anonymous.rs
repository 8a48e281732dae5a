use super::by_header;
use crate::harness::{Gateway, Recorder, get};

#[test]
fn separate_requests_without_a_key_do_not_wait_for_one_another() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &by_header(""));
    let mut both = [0, 1].map(|place| {
        let connection = gateway.begin(&get(&format!("/{place}")).making("hold"));
        upstream.wait_seen(place + 1);
        connection
    });
    upstream.open();
    for connection in &mut both {
        connection.response().assert_ok();
    }
    assert_eq!(upstream.peak(), 2);
}

#[test]
fn shared_requests_without_a_key_all_take_turns() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &by_header(", anonymous: shared"));
    let mut first = gateway.begin(&get("/1").making("hold"));
    upstream.wait_seen(1);
    let mut second = gateway.begin(&get("/2"));
    gateway.wait_for_turn(1);
    gateway.ask(&get("/3").session("named")).assert_ok();
    upstream.open();
    first.response().assert_ok();
    second.response().assert_ok();
    assert_eq!(upstream.targets(), ["/1", "/3", "/2"]);
}

#[test]
fn a_request_without_a_key_can_be_refused() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &by_header(", anonymous: reject"));
    gateway.ask(&get("/")).assert_problem(400, "session_required");
    gateway.ask(&get("/").session("")).assert_problem(400, "session_required");
    assert_eq!(upstream.count(), 0);
    gateway.ask(&get("/").session("a")).assert_ok();
    gateway.wait_metric("turnwise_rejected_total", &[("route", "runs"), ("reason", "session_required")], 2.0);
}

#[test]
fn two_keys_in_one_request_are_a_bad_request_or_one_key() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &by_header(""));
    let answer = gateway.ask(&get("/").session("a").session("b"));
    assert!(matches!(answer.status, 200 | 400), "{}", answer.head.raw);
}
