//! Clients that leave before all of their request has come.

use super::policy;
use crate::harness::{Connection, Exchange, Gateway, Recorder, get};

const HALF: &str = "POST /half HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\nhello";
const HALF_CHUNKED: &str = "POST /half HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";

/// Works from the head on, and neither reads the rest nor notices that nobody is there.
fn works_at_once(exchange: &mut Exchange) {
    exchange.hold();
    exchange.finish("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
}

/// Ten leave amid their uploads, one after the other, under a limit of 2; then one that stays.
#[track_caller]
fn ten_that_leave(abandoned: &str, begun: &str, leave: impl Fn(Connection)) {
    let upstream = Recorder::doing(works_at_once);
    let gateway = Gateway::with(&upstream, &policy(abandoned, "concurrency: 2"));
    for place in 0..10 {
        let gone = gateway.say(begun);
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
}

#[test]
fn they_do_not_exceed_a_limit_of_two() {
    ten_that_leave("abandoned: finish", HALF, Connection::leave);
}

#[test]
fn they_do_not_exceed_it_when_they_are_killed() {
    ten_that_leave("abandoned: finish", HALF, Connection::reset);
}

#[test]
fn they_do_not_exceed_it_with_chunks() {
    ten_that_leave("abandoned: finish", HALF_CHUNKED, Connection::leave);
}

#[test]
fn they_do_not_exceed_it_by_default() {
    ten_that_leave("abandoned: auto", HALF, Connection::leave);
}

/// Reads on, and stops working when there is nothing more to read.
fn reads_to_the_end(exchange: &mut Exchange) {
    if exchange.head.word(1) != "/half" {
        return exchange.obey();
    }
    while !exchange.hear().is_empty() {}
    exchange.finish("");
    exchange.close();
}

#[test]
fn an_upstream_that_reads_the_body_notices_and_is_released() {
    for abandoned in ["abandoned: finish", "abandoned: auto"] {
        let upstream = Recorder::doing(reads_to_the_end);
        let gateway = Gateway::with(&upstream, &policy(abandoned, "concurrency: 1"));
        for (place, begun) in [HALF, HALF_CHUNKED].into_iter().enumerate() {
            let gone = gateway.say(begun);
            upstream.wait_seen(2 * place + 1);
            gone.leave();
            gateway.ask(&get("/next")).assert_ok();
        }
        assert_eq!(upstream.peak(), 1);
    }
}
