use super::policy;
use crate::harness::{Gateway, Recorder, eventually, get};

/// Works until its client hangs up.
fn until_hang_up() -> Recorder {
    Recorder::doing(|exchange| {
        if exchange.head.word(1) != "/gone" {
            return exchange.obey();
        }
        exchange.client_leaves();
        exchange.close();
    })
}

#[test]
fn the_upstream_sees_its_connection_close_and_the_place_comes_back() {
    let upstream = until_hang_up();
    let gateway = Gateway::with(&upstream, &policy("abandoned: cancel", "concurrency: 1"));
    let gone = gateway.begin(&get("/gone"));
    upstream.wait_seen(1);
    gone.leave();
    gateway.ask(&get("/next")).assert_ok();
    eventually("its connection is closed", || upstream.seen()[0].client_gone);
    gateway.wait_metric("turnwise_abandoned_total", &[("result", "cancelled")], 1.0);
}

#[test]
fn a_timeout_cancels_as_well() {
    let upstream = until_hang_up();
    let gateway =
        Gateway::with(&upstream, &policy("abandoned: cancel, timeouts: { response: 200ms }", "concurrency: 1"));
    gateway.ask(&get("/gone")).assert_problem(504, "upstream_timeout");
    gateway.ask(&get("/next")).assert_ok();
    eventually("its connection is closed", || upstream.seen()[0].client_gone);
}
