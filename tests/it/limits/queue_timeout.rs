use crate::harness::{Gateway, Recorder, get};

#[test]
fn a_place_that_does_not_come_in_time_is_a_503() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, "limits: { concurrency: 1, queue_timeout: 300ms }\n");
    let mut running = gateway.begin(&get("/0").making("hold"));
    upstream.wait_seen(1);
    gateway.ask(&get("/late")).assert_problem(503, "queue_timeout");
    upstream.open();
    running.response().assert_ok();
    gateway.ask(&get("/after")).assert_ok();
    assert_eq!(upstream.targets(), ["/0", "/after"]);
}

#[test]
fn refused_requests_count_in_the_histogram_of_waiting() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, "limits: { concurrency: 1, queue_timeout: 200ms }\n");
    let mut running = gateway.begin(&get("/0").making("hold"));
    upstream.wait_seen(1);
    gateway.ask(&get("/late")).assert_problem(503, "queue_timeout");
    assert!(gateway.metric("turnwise_queue_wait_seconds_sum", &[("queue", "place")]) >= 0.2);
    upstream.open();
    running.response().assert_ok();
}
