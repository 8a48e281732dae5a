use crate::harness::{Gateway, Recorder, get};

#[test]
fn who_waits_for_his_turn_holds_no_place() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(
        &upstream,
        "limits: { concurrency: 2 }
routes:
  - { name: runs, match: { path_prefix: / }, upstream: agents, session: { key: [{ header: X-Session-Id }] } }
",
    );
    let mut busy: Vec<_> = (0..10).map(|_| gateway.begin(&get("/busy").session("a").making("hold"))).collect();
    upstream.wait_running(1);
    gateway.wait_for_turn(9);
    let status = gateway.json("/status");
    assert_eq!((&status["limits"]["in_flight"], &status["limits"]["waiting"]), (&1.into(), &0.into()), "{status}");
    gateway.ask(&get("/other").session("b")).assert_ok();
    upstream.open();
    for connection in &mut busy {
        connection.response().assert_ok();
    }
}

#[test]
fn a_session_has_only_its_width_waiting_for_a_place() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(
        &upstream,
        "limits: { concurrency: 1, fair_by: null }
routes:
  - { name: runs, match: { path_prefix: /runs }, upstream: agents, session: { key: [{ header: X-Session-Id }] } }
  - { name: rest, match: { path_prefix: / }, upstream: agents }
",
    );
    let mut running = gateway.begin(&get("/0").making("hold"));
    upstream.wait_seen(1);
    let mut busy: Vec<_> = (0..10).map(|_| gateway.begin(&get("/runs").session("a"))).collect();
    gateway.wait_for_turn(9);
    gateway.wait_for_place(1);
    let mut other = gateway.begin(&get("/other"));
    gateway.wait_for_place(2);
    upstream.open();
    for connection in busy.iter_mut().chain([&mut running, &mut other]) {
        connection.response().assert_ok();
    }
    let place = upstream.targets().iter().position(|target| target == "/other").expect("served");
    assert!(place <= 2, "a busy session starved the others: {:?}", upstream.targets());
}
