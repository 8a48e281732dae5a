//! Requests that wait keep their place and are subject to the new limits.

use super::limit;
use crate::harness::{Gateway, Recorder, get};

#[test]
fn a_raised_limit_admits_at_once_and_in_order() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &limit(1));
    let mut all = Vec::new();
    for place in 0..6 {
        all.push(gateway.begin(&get(&format!("/{place}")).making("hold")));
        match place {
            0 => upstream.wait_seen(1),
            waiting => gateway.wait_for_place(waiting),
        }
    }
    gateway.reload(&upstream, &limit(2));
    upstream.wait_running(2);
    gateway.reload(&upstream, &limit(3));
    upstream.wait_running(3);
    gateway.wait_for_place(3);
    upstream.open();
    for connection in &mut all {
        connection.response().assert_ok();
    }
    assert_eq!(upstream.targets()[..3], ["/0", "/1", "/2"]);
    assert_eq!(upstream.peak(), 3);
}

#[test]
fn a_lowered_limit_drains() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &limit(4));
    let mut all: Vec<_> = (0..10).map(|_| gateway.begin(&get("/").making("hold"))).collect();
    gateway.wait_for_place(6);
    gateway.reload(&upstream, &limit(1));
    for running in [3, 2, 1] {
        upstream.release();
        upstream.wait_running(running);
        crate::harness::wait::give_it_a_chance();
        assert_eq!(upstream.count(), 4, "nobody begins while more run than allowed");
    }
    for done in 1..=6 {
        upstream.release();
        upstream.wait_seen(4 + done);
        assert!(upstream.running() <= 1);
    }
    upstream.open();
    for connection in &mut all {
        connection.response().assert_ok();
    }
}

#[test]
fn turns_keep_their_order_through_reloads() {
    let upstream = Recorder::start();
    let policy = |more: &str| {
        format!(
            "routes:\n  - {{ name: runs, match: {{ path_prefix: / }}, upstream: agents, session: {{ key: [{{ header: X-Session-Id }}]{more} }} }}\n"
        )
    };
    let gateway = Gateway::with(&upstream, &policy(""));
    let mut all = vec![gateway.begin(&get("/0").session("a").making("hold"))];
    upstream.wait_seen(1);
    for place in 1..=6 {
        all.push(gateway.begin(&get(&format!("/{place}")).session("a").making("hold")));
        gateway.wait_for_turn(place);
        gateway.reload(&upstream, &policy(&format!(", queue: {}", 10 + place)));
    }
    assert_eq!(upstream.count(), 1, "a reload is no turn");
    upstream.open();
    for connection in &mut all {
        connection.response().assert_ok();
    }
    let expected: Vec<String> = (0..=6).map(|place| format!("/{place}")).collect();
    assert_eq!(upstream.targets(), expected);
    assert_eq!(upstream.peak(), 1);
}

#[test]
fn a_route_that_is_removed_still_serves_what_waits_in_it() {
    let upstream = Recorder::start();
    let route = |name: &str| {
        format!(
            "limits: {{ concurrency: 1 }}\nroutes:\n  - {{ name: {name}, match: {{ path_prefix: /{name} }}, upstream: agents }}\n"
        )
    };
    let gateway = Gateway::with(&upstream, &route("old"));
    let mut running = gateway.begin(&get("/old/0").making("hold"));
    upstream.wait_seen(1);
    let mut waiting = gateway.begin(&get("/old/1"));
    gateway.wait_for_place(1);
    gateway.reload(&upstream, &route("new"));
    gateway.ask(&get("/old/2")).assert_problem(404, "no_route");
    upstream.open();
    running.response().assert_ok();
    waiting.response().assert_ok();
    gateway.ask(&get("/new/3")).assert_ok();
}

#[test]
fn an_upstream_that_is_replaced_finishes_what_it_runs() {
    let (old, new) = (Recorder::start(), Recorder::start());
    let gateway = Gateway::with(&old, "");
    let mut running = gateway.begin(&get("/old").making("hold"));
    old.wait_seen(1);
    gateway.reload(&new, "");
    gateway.ask(&get("/new")).assert_ok();
    old.open();
    running.response().assert_ok();
    assert_eq!((old.targets(), new.targets()), (vec!["/old".to_owned()], vec!["/new".to_owned()]));
}
