use crate::harness::{Gateway, Recorder, get};

#[test]
fn a_key_in_use_is_never_forgotten_to_make_room() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(
        &upstream,
        "limits: { keys: 2 }
routes:
  - { name: runs, match: { path_prefix: / }, upstream: agents, session: { key: [{ header: X-Session-Id }] } }
",
    );
    for place in 0..20 {
        gateway.ask(&get("/").session(&format!("gone-{place}"))).assert_ok();
    }
    let mut running = ["a", "b"].map(|session| gateway.begin(&get("/").session(session).making("hold")));
    upstream.wait_running(2);
    gateway.ask(&get("/").session("c")).assert_problem(503, "key_table_full");
    let mut waiting = gateway.begin(&get("/").session("a"));
    gateway.wait_for_turn(1);
    upstream.open();
    for connection in &mut running {
        connection.response().assert_ok();
    }
    waiting.response().assert_ok();
    gateway.assert_all_gauges_zero();
    gateway.ask(&get("/").session("c")).assert_ok();
}
