use crate::harness::{Gateway, Recorder, get};

#[test]
fn a_client_that_left_first_counts_as_499() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    let running = gateway.begin(&get("/").making("hold"));
    upstream.wait_running(1);
    running.leave();
    upstream.open();
    gateway.wait_metric("turnwise_requests_total", &[("code", "499")], 1.0);
    assert_eq!(gateway.metric("turnwise_requests_total", &[]), 1.0, "and as nothing else");
}
