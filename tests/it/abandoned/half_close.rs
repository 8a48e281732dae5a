//! A client that has said everything may close its side and still wait for the answer.

use crate::harness::{Gateway, Recorder, get, post};

#[test]
fn it_gets_its_answer_while_it_runs() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    let mut connection = gateway.begin(&post("/", "x").making("hold"));
    connection.finish_sending();
    upstream.wait_seen(1);
    crate::harness::wait::give_it_a_chance();
    upstream.open();
    connection.response().assert_ok();
    connection.assert_closed();
    assert_eq!(gateway.metric("turnwise_requests_total", &[("code", "499")]), 0.0);
}

#[test]
fn it_gets_its_answer_after_it_has_waited() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, "limits: { concurrency: 1 }\n");
    let mut running = gateway.begin(&get("/0").making("hold"));
    upstream.wait_seen(1);
    let mut waiting = gateway.begin(&get("/1"));
    waiting.finish_sending();
    gateway.wait_for_place(1);
    crate::harness::wait::give_it_a_chance();
    gateway.wait_for_place(1);
    upstream.open();
    running.response().assert_ok();
    waiting.response().assert_ok();
}

#[test]
fn a_stream_reaches_it_whole() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    let mut connection = gateway.begin(&get("/").making("stream 20 10"));
    connection.finish_sending();
    assert!(connection.response().assert_ok().text().ends_with("piece 19\n"));
}
