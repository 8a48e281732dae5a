//! Work whose client has left is work: a drain gives it its time.

use crate::harness::{Gateway, Recorder, get, wait};

#[test]
fn a_drain_waits_for_work_whose_client_has_left() {
    let upstream = Recorder::start();
    let mut gateway = Gateway::before(&upstream);
    let running = gateway.begin(&get("/").making("hold"));
    upstream.wait_seen(1);
    running.leave();
    gateway.wait_metric("turnwise_requests_total", &[("code", "499")], 1.0);
    gateway.signal("TERM");
    wait::give_it_a_chance();
    assert_eq!(gateway.exit_status(), None, "the upstream still works");
    upstream.open();
    assert_eq!(gateway.exit_code(), 0);
}
