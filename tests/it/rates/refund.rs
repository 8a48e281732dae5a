//! A refused request spends nothing.

use super::limited;
use crate::harness::{Gateway, Recorder, get};

#[test]
fn refused_by_one_limit_it_spends_nothing_of_another() {
    let upstream = Recorder::start();
    let limits = "{ name: all, per: route, rate: 1/h, burst: 3 }, { name: key, per: { header: X-Api-Key }, rate: 1/h, burst: 1 }";
    let gateway = Gateway::with(&upstream, &limited(limits));
    let of = |key: &str| get("/").header("X-Api-Key", key);
    gateway.ask(&of("one")).assert_ok();
    for _ in 0..5 {
        gateway.ask(&of("one")).assert_problem(429, "rate_limited");
    }
    gateway.ask(&of("two")).assert_ok();
    gateway.ask(&of("three")).assert_ok();
    gateway.ask(&of("four")).assert_problem(429, "rate_limited");
}

#[test]
fn refused_by_a_full_queue_it_gets_its_token_back() {
    let upstream = Recorder::start();
    let yaml = format!("limits: {{ concurrency: 1, queue: 1 }}\n{}", limited("{ per: route, rate: 1/h, burst: 3 }"));
    let gateway = Gateway::with(&upstream, &yaml);
    let mut running = gateway.begin(&get("/0").making("hold"));
    upstream.wait_seen(1);
    let mut waiting = gateway.begin(&get("/1"));
    gateway.wait_for_place(1);
    for _ in 0..5 {
        gateway.ask(&get("/full")).assert_problem(503, "queue_full");
    }
    upstream.open();
    running.response().assert_ok();
    waiting.response().assert_ok();
    gateway.ask(&get("/2")).assert_ok();
    gateway.ask(&get("/3")).assert_problem(429, "rate_limited");
}

#[test]
fn refused_by_its_session_it_gets_its_token_back() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(
        &upstream,
        "routes:\n  - { name: runs, match: { path_prefix: / }, upstream: agents, session: { key: [{ header: X-Session-Id }], queue_timeout: 150ms }, rate_limits: [{ per: route, rate: 1/h, burst: 2 }] }\n",
    );
    let mut running = gateway.begin(&get("/0").session("a").making("hold"));
    upstream.wait_seen(1);
    for _ in 0..3 {
        gateway.ask(&get("/late").session("a")).assert_problem(429, "session_queue_timeout");
    }
    upstream.open();
    running.response().assert_ok();
    gateway.ask(&get("/1").session("a")).assert_ok();
    gateway.ask(&get("/2").session("a")).assert_problem(429, "rate_limited");
}

#[test]
fn who_leaves_has_spent_its_token() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &limited("{ per: route, rate: 1/h, burst: 1 }"));
    let gone = gateway.begin(&get("/").making("hold"));
    upstream.wait_seen(1);
    gone.leave();
    upstream.open();
    gateway.assert_all_gauges_zero();
    gateway.ask(&get("/")).assert_problem(429, "rate_limited");
}
