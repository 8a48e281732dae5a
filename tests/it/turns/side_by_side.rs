use super::by_header;
use crate::harness::{Gateway, Recorder, get};

#[test]
fn different_sessions_run_at_once() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &by_header(""));
    let mut running: Vec<_> =
        (0..20).map(|place| gateway.begin(&get("/").session(&format!("s{place}")).making("hold"))).collect();
    upstream.wait_running(20);
    upstream.open();
    for connection in &mut running {
        connection.response().assert_ok();
    }
}

#[test]
fn requests_of_a_route_without_sessions_do_not_wait() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    let mut running: Vec<_> = (0..10).map(|_| gateway.begin(&get("/").session("same").making("hold"))).collect();
    upstream.wait_running(10);
    upstream.open();
    for connection in &mut running {
        connection.response().assert_ok();
    }
}
