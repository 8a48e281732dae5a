//! Bodies that are held for requests that wait are bounded in bytes.

use crate::harness::{Gateway, Recorder, post};

#[test]
fn more_bytes_than_allowed_are_a_503() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(
        &upstream,
        "limits: { queue_bytes: 64KiB }
routes:
  - { name: runs, match: { path_prefix: / }, upstream: agents, session: { key: [{ json: /id }] } }
",
    );
    let body = format!("{{\"id\":\"a\",\"text\":\"{}\"}}", "x".repeat(40_000));
    let mut running = gateway.begin(&post("/0", &body).json().making("hold"));
    upstream.wait_seen(1);
    let mut waiting = gateway.begin(&post("/1", &body).json());
    gateway.wait_for_turn(1);
    let held = gateway.metric("turnwise_queue_bytes", &[]);
    assert!((40_000.0..=65_536.0).contains(&held), "{held}");
    gateway.ask(&post("/2", &body).json()).assert_problem(503, "queue_full");
    upstream.open();
    running.response().assert_ok();
    waiting.response().assert_ok();
    assert_eq!(upstream.targets(), ["/0", "/1"]);
}
