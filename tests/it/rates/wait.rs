use std::time::{Duration, Instant};

use super::limited;
use crate::harness::{Gateway, Recorder, get};

#[test]
fn who_may_wait_is_spaced_out_and_nobody_is_refused() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &limited("{ per: route, rate: 10/s, burst: 1, when_exceeded: wait }"));
    let started = Instant::now();
    let mut all: Vec<_> = (0..6).map(|place| gateway.begin(&get(&format!("/{place}")))).collect();
    for connection in &mut all {
        connection.response().assert_ok();
    }
    assert!(started.elapsed() >= Duration::from_millis(490), "five tokens take half a second");
    let seen = upstream.seen();
    for pair in seen.windows(2) {
        let gap = pair[1].started_at - pair[0].started_at;
        assert!(gap >= Duration::from_millis(40), "two at once: {gap:?}");
    }
}

#[test]
fn a_full_queue_and_a_long_wait_are_rate_limited() {
    let upstream = Recorder::start();
    let limit = "{ per: route, rate: 1/h, burst: 1, when_exceeded: wait, queue: 1, queue_timeout: 700ms }";
    let gateway = Gateway::with(&upstream, &limited(limit));
    gateway.ask(&get("/0")).assert_ok();
    let mut waiting = gateway.begin(&get("/waits"));
    gateway.wait_metric("turnwise_waiting_requests", &[("queue", "rate")], 1.0);
    gateway.ask(&get("/too-many")).assert_problem(429, "rate_limited");
    waiting.response().assert_problem(429, "rate_limited");
    assert_eq!(upstream.targets(), ["/0"]);
}

#[test]
fn who_leaves_while_waiting_for_a_token_is_forgotten() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &limited("{ per: route, rate: 1/h, burst: 1, when_exceeded: wait }"));
    gateway.ask(&get("/0")).assert_ok();
    let waiting = gateway.begin(&get("/gone"));
    gateway.wait_metric("turnwise_waiting_requests", &[("queue", "rate")], 1.0);
    waiting.leave();
    gateway.wait_metric("turnwise_waiting_requests", &[("queue", "rate")], 0.0);
}
