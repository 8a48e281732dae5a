use crate::harness::{Connection, Gateway, Recorder, eventually, get, post};

#[test]
fn what_does_not_finish_in_time_is_cut_and_the_exit_says_so() {
    let upstream = Recorder::start();
    let mut gateway = Gateway::with(&upstream, "server: { drain_timeout: 400ms }\n");
    let mut running = gateway.begin(&get("/").making("hold"));
    upstream.wait_seen(1);
    gateway.signal("TERM");
    assert_eq!(gateway.exit_code(), 3);
    let status = running.response_to("GET").map(|answer| answer.status);
    assert!(matches!(status, None | Some(502..=504)), "{status:?}");
    upstream.open();
}

#[test]
fn who_still_waits_then_is_told_to_come_back_elsewhere() {
    let upstream = Recorder::start();
    let policy = "server: { drain_timeout: 400ms }
limits: { concurrency: 2 }
routes: [{ name: runs, session: { key: [{ header: X-Session-Id }, { json: /s }] } }]
";
    let mut gateway = Gateway::with(&upstream, policy);
    let running =
        [gateway.begin(&get("/").session("a").making("hold")), gateway.begin(&get("/").session("b").making("hold"))];
    upstream.wait_running(2);
    let waiting = [get("/").session("a"), get("/").session("c"), post("/", r#"{"s":"b"}"#).json()];
    let waiting = waiting.map(|request| gateway.begin(&request));
    gateway.wait_for_turn(2);
    gateway.wait_for_place(1);
    gateway.signal("TERM");
    for mut refused in waiting {
        refused.response().assert_problem(503, "draining");
        refused.assert_closed();
    }
    assert_eq!(gateway.exit_code(), 3);
    assert_eq!(upstream.count(), 2, "no server has seen who waited");
    running.into_iter().for_each(Connection::leave);
    upstream.open();
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let upstream = Recorder::start();
    let mut gateway = Gateway::before(&upstream);
    let running = gateway.begin(&get("/").making("hold"));
    upstream.wait_seen(1);
    gateway.signal("TERM");
    eventually("it drains", || gateway.admin(&get("/-/ready")).status == 503);
    gateway.signal("TERM");
    assert_eq!(gateway.exit_code(), 130);
    running.leave();
    upstream.open();
}
