use crate::harness::{Gateway, Recorder, get};

#[test]
fn a_full_queue_is_a_503_and_nobody_in_it_suffers() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, "limits: { concurrency: 1, queue: 2 }\n");
    let mut running = gateway.begin(&get("/0").making("hold"));
    upstream.wait_seen(1);
    let mut line = super::in_line(&gateway, 0, &[get("/1"), get("/2")]);
    for _ in 0..3 {
        gateway.ask(&get("/refused")).assert_problem(503, "queue_full");
    }
    assert_eq!(gateway.metric("turnwise_rejected_total", &[("route", "default"), ("reason", "queue_full")]), 3.0);
    assert_eq!(gateway.metric("turnwise_waiting_requests", &[("queue", "place")]), 2.0);
    upstream.open();
    running.response().assert_ok();
    for connection in &mut line {
        connection.response().assert_ok();
    }
    assert_eq!(upstream.targets(), ["/0", "/1", "/2"]);
}
