//! Order of arrival, with the arrival of each request seen before the next one is sent.

use super::by_header;
use crate::harness::{Gateway, Recorder, get};

#[test]
fn fifty_requests_on_connections_of_their_own_run_as_they_came() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &by_header(", queue: 64"));
    let mut all = Vec::new();
    for place in 0..50 {
        all.push(gateway.begin(&get(&format!("/{place}")).session("a").making("hold")));
        match place {
            0 => upstream.wait_seen(1),
            waiting => gateway.wait_for_turn(waiting),
        }
    }
    upstream.open();
    for connection in &mut all {
        connection.response().assert_ok();
    }
    let expected: Vec<String> = (0..50).map(|place| format!("/{place}")).collect();
    assert_eq!(upstream.targets(), expected);
    assert_eq!(upstream.peak(), 1);
}

#[test]
fn a_newcomer_does_not_overtake_who_waits() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &by_header(""));
    for round in 0..30 {
        let mut first = gateway.begin(&get(&format!("/{round}/1")).session("a").making("hold"));
        upstream.wait_seen(round * 3 + 1);
        let mut second = gateway.begin(&get(&format!("/{round}/2")).session("a"));
        gateway.wait_for_turn(1);
        upstream.release();
        let mut third = gateway.begin(&get(&format!("/{round}/3")).session("a"));
        for connection in [&mut first, &mut second, &mut third] {
            connection.response().assert_ok();
        }
    }
    let targets = upstream.targets();
    for (round, three) in targets.chunks(3).enumerate() {
        assert_eq!(three, [1, 2, 3].map(|place| format!("/{round}/{place}")));
    }
}
