use crate::harness::{Gateway, Recorder, eventually, get};

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

#[test]
fn a_client_that_sent_its_body_after_its_head_is_seen_to_leave() {
    let upstream = Recorder::doing(|exchange| {
        exchange.read_body();
        exchange.client_leaves();
        exchange.close();
    });
    let gateway = Gateway::with(&upstream, "defaults: { abandoned: cancel }");
    let mut running = gateway.say("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n");
    upstream.wait_seen(1);
    running.send("body");
    eventually("the body is there", || upstream.seen()[0].text() == "body");
    running.leave();
    eventually("its connection is closed", || upstream.seen()[0].client_gone);
    gateway.wait_metric("turnwise_requests_total", &[("code", "499")], 1.0);
}
