use crate::harness::wait::soon;
use crate::harness::{Gateway, Recorder, eventually, get, http2, post};

#[test]
fn running_and_waiting_requests_finish_and_the_exit_is_clean() {
    let upstream = Recorder::start();
    let mut gateway = Gateway::with(&upstream, "limits: { concurrency: 1 }\n");
    let mut running = gateway.begin(&get("/running").making("hold"));
    upstream.wait_seen(1);
    let mut waiting = gateway.begin(&get("/waiting"));
    gateway.wait_for_place(1);
    gateway.signal("TERM");
    eventually("readiness falls", || gateway.admin(&get("/-/ready")).status == 503);
    assert_eq!(gateway.admin(&get("/-/healthy")).status, 200);
    assert_eq!(gateway.admin(&get("/health")).json()["status"], "draining");
    eventually("the listener closes", || std::net::TcpStream::connect(gateway.address).is_err());
    upstream.open();
    let answer = running.response();
    assert_eq!(answer.assert_ok().header("connection").as_deref(), Some("close"));
    running.assert_closed();
    waiting.response().assert_ok();
    assert_eq!(gateway.exit_code(), 0);
}

#[test]
fn a_stream_that_runs_is_not_cut() {
    let upstream = Recorder::start();
    let mut gateway = Gateway::before(&upstream);
    let mut running = gateway.begin(&get("/").making("stream 20 20"));
    assert_eq!(running.head().word(1), "200");
    gateway.signal("TERM");
    running.until("piece 19\n");
    running.until("0\r\n\r\n");
    assert_eq!(gateway.exit_code(), 0);
}

#[test]
fn with_nothing_to_do_it_ends_at_once() {
    let upstream = Recorder::start();
    for signal in ["TERM", "INT"] {
        let mut gateway = Gateway::before(&upstream);
        let mut idle = gateway.begin(&get("/"));
        idle.response().assert_ok();
        gateway.signal(signal);
        idle.assert_closed();
        assert_eq!(gateway.exit_code(), 0);
    }
}

#[test]
fn the_admin_port_can_ask_for_it() {
    let upstream = Recorder::start();
    let mut gateway = Gateway::before(&upstream);
    let answer = gateway.admin(&post("/-/drain", ""));
    assert!((200..300).contains(&answer.status), "{}", answer.status);
    assert_eq!(gateway.exit_code(), 0);
}

#[test]
fn new_requests_on_open_connections_are_refused() {
    let upstream = Recorder::start();
    let mut gateway = Gateway::before(&upstream);
    let mut running = gateway.begin(&get("/running").making("hold"));
    upstream.wait_seen(1);
    let mut idle = gateway.begin(&get("/"));
    idle.response().assert_ok();
    gateway.signal("TERM");
    eventually("readiness falls", || gateway.admin(&get("/-/ready")).status == 503);
    idle.ask(&get("/late"));
    // Closed, when the gateway was quicker than the client; an answer, when it was not.
    if let Some(answer) = idle.response_to("GET") {
        answer.assert_problem(503, "draining");
        assert_eq!(answer.header("connection").as_deref(), Some("close"));
    }
    idle.assert_closed();
    upstream.open();
    running.response().assert_ok();
    assert_eq!(gateway.exit_code(), 0);
    assert!(!upstream.targets().contains(&"/late".to_owned()));
}

#[test]
fn streams_of_http_2_finish_behind_a_goaway() {
    let upstream = Recorder::start();
    let mut gateway = Gateway::before(&upstream);
    http2::run(async {
        let mut sender = http2::connect(gateway.address).await;
        let running = tokio::spawn(sender.send_request(http2::post("/running", &[("x-do", "hold")], "")));
        soon("it runs", || upstream.count() > 0).await;
        gateway.signal("TERM");
        soon("the listener is closed", || std::net::TcpStream::connect(gateway.address).is_err()).await;
        upstream.open();
        let answer = running.await.expect("a task").expect("an answer");
        assert_eq!(http2::whole(answer).await.0.as_u16(), 200);
    });
    assert_eq!(gateway.exit_code(), 0);
}
