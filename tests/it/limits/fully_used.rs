use crate::harness::{Gateway, Recorder, get};

const TWO_ROUTES: &str = "limits: { concurrency: 3 }
routes:
  - { name: narrow, match: { path_prefix: /narrow }, upstream: agents, concurrency: 1 }
  - { name: wide, match: { path_prefix: /wide }, upstream: agents }
";

#[test]
fn who_waits_for_his_route_holds_no_place_that_others_could_use() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, TWO_ROUTES);
    let mut narrow: Vec<_> = (0..10).map(|_| gateway.begin(&get("/narrow").making("hold"))).collect();
    gateway.wait_for_place(9);
    let mut wide: Vec<_> = (0..2).map(|_| gateway.begin(&get("/wide").making("hold"))).collect();
    upstream.wait_running(3);
    assert_eq!(gateway.json("/status")["limits"]["in_flight"], 3);
    upstream.open();
    for connection in narrow.iter_mut().chain(&mut wide) {
        connection.response().assert_ok();
    }
    assert_eq!(upstream.peak_of(|seen| seen.target() == "/narrow"), 1);
}

#[test]
fn every_place_that_becomes_free_is_taken_while_anybody_waits() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, "limits: { concurrency: 5 }\n");
    let mut all: Vec<_> = (0..30).map(|_| gateway.begin(&get("/").making("hold"))).collect();
    gateway.wait_for_place(25);
    for released in 1..=25 {
        upstream.release();
        upstream.wait_seen(5 + released);
        upstream.wait_running(5);
    }
    upstream.open();
    for connection in &mut all {
        connection.response().assert_ok();
    }
}

#[test]
fn first_come_first_served_for_a_place() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, "limits: { concurrency: 1 }\n");
    let mut running = gateway.begin(&get("/0").making("hold"));
    upstream.wait_seen(1);
    let requests: Vec<_> = (1..=20).map(|place| get(&format!("/{place}"))).collect();
    let mut line = super::in_line(&gateway, 0, &requests);
    upstream.open();
    running.response().assert_ok();
    for connection in &mut line {
        connection.response().assert_ok();
    }
    let expected: Vec<String> = (0..=20).map(|place| format!("/{place}")).collect();
    assert_eq!(upstream.targets(), expected);
}
