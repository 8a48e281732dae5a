//! A preStop hook asks the admin port, and the kubelet sends a signal afterwards: that is asking once.

use crate::harness::{Connection, Gateway, Recorder, get, post, wait};

/// A gateway with one running request, asked by the admin port and then by a signal.
#[track_caller]
fn asked_by_both(upstream: &Recorder) -> (Gateway, Connection) {
    let mut gateway = Gateway::before(upstream);
    let running = gateway.begin(&get("/").making("hold"));
    upstream.wait_seen(1);
    let answer = gateway.admin(&post("/-/drain", ""));
    assert!((200..300).contains(&answer.status), "{}", answer.status);
    gateway.signal("TERM");
    wait::give_it_a_chance();
    assert_eq!(gateway.exit_status(), None, "a request still runs");
    (gateway, running)
}

#[test]
fn a_signal_after_the_admin_port_lets_what_runs_finish() {
    let upstream = Recorder::start();
    let (mut gateway, mut running) = asked_by_both(&upstream);
    upstream.open();
    running.response().assert_ok();
    assert_eq!(gateway.exit_code(), 0);
}

#[test]
fn a_second_signal_after_the_admin_port_ends_it_at_once() {
    let upstream = Recorder::start();
    let (mut gateway, running) = asked_by_both(&upstream);
    gateway.signal("TERM");
    assert_eq!(gateway.exit_code(), 130);
    running.leave();
    upstream.open();
}
