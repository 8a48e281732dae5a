use super::policy;
use crate::harness::{Connection, Gateway, Recorder, get};

/// Ten clients ask and leave, one after the other, under a limit of 2; then one that stays.
#[track_caller]
fn ten_that_leave(abandoned: &str, leave: impl Fn(Connection)) {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy(abandoned, "concurrency: 2"));
    for place in 0..10 {
        let gone = gateway.begin(&get(&format!("/{place}")).making("hold"));
        if place < 2 {
            upstream.wait_seen(place + 1);
        } else {
            gateway.wait_for_place(1);
        }
        leave(gone);
        gateway.wait_for_place(0);
    }
    assert_eq!(upstream.running(), 2);
    assert_eq!(gateway.json("/status")["limits"]["in_flight"], 2, "the place stays taken");
    let mut stays = gateway.begin(&get("/stays"));
    gateway.wait_for_place(1);
    upstream.open();
    stays.response().assert_ok();
    assert_eq!(upstream.peak(), 2);
    gateway.wait_metric("turnwise_abandoned_total", &[], 2.0);
    gateway.wait_metric("turnwise_abandoned_total", &[("result", "finished")], 2.0);
}

#[test]
fn ten_clients_that_leave_do_not_exceed_a_limit_of_two() {
    ten_that_leave("abandoned: finish", Connection::leave);
}

#[test]
fn ten_clients_that_are_killed_do_not_either() {
    ten_that_leave("abandoned: finish", Connection::reset);
}

#[test]
fn it_is_the_default_before_the_head() {
    ten_that_leave("abandoned: auto", Connection::leave);
}

#[test]
fn the_next_turn_of_the_session_does_not_overlap_with_abandoned_work() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(
        &upstream,
        "routes:\n  - { name: runs, match: { path_prefix: / }, upstream: agents, session: { key: [{ header: X-Session-Id }] } }\n",
    );
    let gone = gateway.begin(&get("/gone").session("a").making("hold"));
    upstream.wait_seen(1);
    gone.leave();
    let mut next = gateway.begin(&get("/next").session("a"));
    gateway.wait_for_turn(1);
    assert_eq!(upstream.count(), 1);
    upstream.open();
    next.response().assert_ok();
    assert_eq!(upstream.peak(), 1);
}

#[test]
fn work_that_was_answered_with_504_counts_on() {
    let upstream = Recorder::start();
    let gateway =
        Gateway::with(&upstream, &policy("abandoned: finish, timeouts: { response: 200ms }", "concurrency: 1"));
    gateway.ask(&get("/slow").making("hold")).assert_problem(504, "upstream_timeout");
    let mut next = gateway.begin(&get("/next"));
    gateway.wait_for_place(1);
    assert_eq!(upstream.count(), 1);
    upstream.open();
    next.response().assert_ok();
    assert_eq!(upstream.peak(), 1);
}

#[test]
fn a_stream_whose_reader_left_is_read_to_its_end() {
    let upstream = Recorder::doing(|exchange| {
        if exchange.head.word(1) != "/stream" {
            return exchange.obey();
        }
        exchange.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        exchange.hold();
        assert!(exchange.write("5\r\nagain\r\n"));
        exchange.finish("0\r\n\r\n");
    });
    let gateway = Gateway::with(&upstream, &policy("abandoned: finish", "concurrency: 1"));
    let mut gone = gateway.begin(&get("/stream"));
    gone.until("hello");
    gone.leave();
    let mut next = gateway.begin(&get("/next"));
    gateway.wait_for_place(1);
    assert_eq!(upstream.count(), 1);
    upstream.open();
    next.response().assert_ok();
    assert_eq!(upstream.peak(), 1);
    assert!(!upstream.seen()[0].client_gone);
}
