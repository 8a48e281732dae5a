use super::by_header;
use crate::harness::{Gateway, Recorder, get};

#[test]
fn a_turn_that_does_not_come_in_time_is_a_429_and_the_order_of_the_rest_stays() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &by_header(", queue_timeout: 400ms"));
    let mut running = gateway.begin(&get("/running").session("a").making("hold"));
    upstream.wait_seen(1);
    let refused = gateway.ask(&get("/late").session("a"));
    refused.assert_problem(429, "session_queue_timeout");
    let mut next = gateway.begin(&get("/next").session("a"));
    gateway.wait_for_turn(1);
    upstream.open();
    running.response().assert_ok();
    next.response().assert_ok();
    assert_eq!(upstream.targets(), ["/running", "/next"]);
    assert_eq!(gateway.metric("turnwise_rejected_total", &[("reason", "session_queue_timeout")]), 1.0);
}
