use super::policy;
use crate::harness::{Gateway, Recorder, get};

#[test]
fn a_head_that_does_not_come_in_time_is_a_504() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy("response: 300ms"));
    gateway.ask(&get("/").making("hold")).assert_problem(504, "upstream_timeout");
    upstream.open();
    gateway.ask(&get("/next")).assert_ok();
    assert!(gateway.metric("turnwise_upstream_errors_total", &[("upstream", "agents")]) >= 1.0);
    gateway.wait_metric("turnwise_requests_total", &[("code", "504")], 1.0);
}

#[test]
fn half_a_head_is_no_head() {
    let upstream = Recorder::doing(|exchange| {
        exchange.write("HTTP/1.1 200 OK\r\nContent-Le");
        exchange.hold();
        exchange.close();
    });
    let gateway = Gateway::with(&upstream, &policy("response: 300ms"));
    gateway.ask(&get("/")).assert_problem(504, "upstream_timeout");
    upstream.open();
}
