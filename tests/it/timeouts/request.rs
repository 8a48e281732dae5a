use crate::harness::{Gateway, Recorder, get};

use super::policy;

const HALF: &str =
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"id\":";

#[test]
fn an_upload_that_does_not_end_in_time_is_a_408() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy("request: 300ms"));
    let mut connection = gateway.say(HALF);
    connection.response().assert_problem(408, "request_timeout");
    connection.assert_closed();
    gateway.ask(&get("/next")).assert_ok();
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("turnwise_upstream_errors_total", &[]).unwrap_or(0.0), 0.0, "no fault of the upstream");
}

#[test]
fn a_body_that_is_read_for_its_key_has_the_same_time() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(
        &upstream,
        "defaults: { timeouts: { request: 300ms } }
routes:
  - { name: runs, match: { path_prefix: / }, upstream: agents, session: { key: [{ json: /id }] } }
",
    );
    let mut connection = gateway.say(HALF);
    connection.response().assert_problem(408, "request_timeout");
    connection.assert_closed();
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_slow_client_holds_no_place_while_its_body_is_read_for_its_key() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(
        &upstream,
        "limits: { concurrency: 1 }
routes:
  - { name: runs, match: { path_prefix: / }, upstream: agents, session: { key: [{ json: /id }] } }
",
    );
    let slow = gateway.say(HALF);
    gateway.ask(&get("/next")).assert_ok();
    slow.leave();
}
