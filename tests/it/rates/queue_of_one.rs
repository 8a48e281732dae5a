use super::limited;
use crate::harness::{Gateway, Recorder, get};

#[test]
fn a_queue_of_one_lets_exactly_one_wait() {
    let upstream = Recorder::start();
    let limit = "{ per: route, rate: 1/h, burst: 1, when_exceeded: wait, queue: 1, queue_timeout: 5m }";
    let gateway = Gateway::with(&upstream, &limited(limit));
    gateway.ask(&get("/0")).assert_ok();
    let all: Vec<_> = (1..=5).map(|place| gateway.begin(&get(&format!("/{place}")))).collect();
    gateway.wait_metric("turnwise_rejected_total", &[("reason", "rate_limited")], 4.0);
    assert_eq!(gateway.metric("turnwise_waiting_requests", &[("queue", "rate")]), 1.0);
    all.into_iter().for_each(|connection| connection.leave());
    gateway.wait_metric("turnwise_waiting_requests", &[("queue", "rate")], 0.0);
    let next = gateway.begin(&get("/next"));
    gateway.wait_metric("turnwise_waiting_requests", &[("queue", "rate")], 1.0);
    next.leave();
    assert_eq!(upstream.targets(), ["/0"]);
}
