use super::by_header;
use crate::harness::{Gateway, Recorder, get};

#[test]
fn one_session_that_asks_too_much_is_told_so_and_others_are_not() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &by_header(", queue: 2"));
    let mut running = gateway.begin(&get("/").session("a").making("hold"));
    upstream.wait_seen(1);
    let mut waiting: Vec<_> = (1..=2)
        .map(|count| {
            let connection = gateway.begin(&get("/").session("a"));
            gateway.wait_for_turn(count);
            connection
        })
        .collect();
    gateway.ask(&get("/").session("a")).assert_problem(429, "session_queue_full");
    gateway.ask(&get("/").session("b")).assert_ok();
    assert_eq!(gateway.metric("turnwise_rejected_total", &[("route", "runs"), ("reason", "session_queue_full")]), 1.0);
    upstream.open();
    running.response().assert_ok();
    for connection in &mut waiting {
        connection.response().assert_ok();
    }
    gateway.ask(&get("/").session("a")).assert_ok();
}
