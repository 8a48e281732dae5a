use crate::harness::{Gateway, Recorder, eventually, get};

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
