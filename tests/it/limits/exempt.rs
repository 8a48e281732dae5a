use crate::harness::{Gateway, Recorder, get};

#[test]
fn an_exempt_route_takes_no_place_and_no_turn() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(
        &upstream,
        "limits: { concurrency: 1 }
routes:
  - { name: health, match: { path: /health }, upstream: agents, exempt: true }
  - { name: runs, match: { path_prefix: / }, upstream: agents, session: { key: [{ header: X-Session-Id }] } }
",
    );
    let mut running = gateway.begin(&get("/run").session("a").making("hold"));
    upstream.wait_seen(1);
    let mut waiting = gateway.begin(&get("/run").session("b"));
    gateway.wait_for_place(1);
    for _ in 0..5 {
        gateway.ask(&get("/health").session("a")).assert_ok();
    }
    let mut probes: Vec<_> = (0..3).map(|_| gateway.begin(&get("/health").making("hold"))).collect();
    upstream.wait_running(4);
    upstream.open();
    for connection in probes.iter_mut().chain([&mut running, &mut waiting]) {
        connection.response().assert_ok();
    }
    assert_eq!(upstream.peak_of(|seen| seen.target() == "/run"), 1);
}
