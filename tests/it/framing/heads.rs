//! Heads that no request was made of: too large, too slow.

use crate::harness::{Gateway, Recorder, get};

#[test]
fn a_head_that_is_too_large_is_a_431() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, "server: { max_header_bytes: 8KiB }\n");
    let mut connection = gateway.begin(&get("/").header("X-Large", &"x".repeat(9000)));
    assert_eq!(connection.response().status, 431);
    connection.assert_closed();
    gateway.ask(&get("/").header("X-Fits", &"x".repeat(6000))).assert_ok();
    assert_eq!(upstream.count(), 1);
}

#[test]
fn many_small_fields_are_too_large_as_well() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, "server: { max_header_bytes: 8KiB }\n");
    let mut asked = get("/");
    for place in 0..2000 {
        asked = asked.header(&format!("X-{place}"), "y");
    }
    let mut connection = gateway.begin(&asked);
    assert_eq!(connection.response().status, 431);
    connection.assert_closed();
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_target_that_is_too_long_is_refused() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, "server: { max_header_bytes: 8KiB }\n");
    let mut connection = gateway.begin(&get(&format!("/{}", "x".repeat(20_000))));
    assert!(matches!(connection.response().status, 414 | 431));
    connection.assert_closed();
}

#[test]
fn a_head_that_does_not_end_in_time_is_a_408() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, "server: { header_timeout: 300ms }\n");
    let mut connection = gateway.say("GET / HTTP/1.1\r\nHost: a\r\nX-Slow");
    if let Some(answer) = connection.response_to("GET") {
        assert_eq!(answer.status, 408);
        assert_eq!(answer.header("connection").map(|value| value.to_lowercase()).as_deref(), Some("close"));
    }
    connection.assert_closed();
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_connection_that_says_nothing_is_closed() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, "server: { header_timeout: 300ms, keep_alive_timeout: 300ms }\n");
    let mut connection = gateway.connect();
    let status = connection.response_to("GET").map(|answer| answer.status);
    assert!(matches!(status, Some(408) | None), "{status:?}");
}

#[test]
fn a_head_of_more_than_a_hundred_fields_is_a_431_that_says_so() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, "");
    let head = |more: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X-More: x\r\n".repeat(more));
    gateway.say(head(99)).response().assert_ok();
    let mut connection = gateway.say(head(100));
    let answer = connection.response();
    assert_eq!(answer.status, 431);
    assert!(answer.text().contains("more than 100"), "{}", answer.text());
    connection.assert_closed();
    assert_eq!(upstream.count(), 1);
}
