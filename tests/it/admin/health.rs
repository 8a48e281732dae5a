use crate::harness::{Gateway, Recorder, eventually, get};

#[test]
fn it_tells_what_runs_and_what_waits() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, "limits: { concurrency: 2 }\n");
    let expected = |processing: u64, depth: u64| serde_json::json!({ "status": "healthy", "processing": processing, "queue_depth": depth });
    assert_eq!(gateway.json("/health"), expected(0, 0));
    let mut all: Vec<_> = (0..5).map(|_| gateway.begin(&get("/").making("hold"))).collect();
    eventually("two run and three wait", || gateway.json("/health") == expected(2, 3));
    upstream.open();
    for connection in &mut all {
        connection.response().assert_ok();
    }
}

#[test]
fn liveness_and_readiness_do_not_depend_on_load() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, "limits: { concurrency: 1, queue: 1 }\n");
    let mut running = gateway.begin(&get("/").making("hold"));
    upstream.wait_seen(1);
    let mut waiting = gateway.begin(&get("/"));
    gateway.wait_for_place(1);
    gateway.ask(&get("/")).assert_problem(503, "queue_full");
    assert_eq!(gateway.admin(&get("/-/healthy")).status, 200);
    assert_eq!(gateway.admin(&get("/-/ready")).status, 200);
    upstream.open();
    running.response().assert_ok();
    waiting.response().assert_ok();
}
