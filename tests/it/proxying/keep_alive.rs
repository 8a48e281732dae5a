use crate::harness::{Gateway, Recorder, eventually, get, post};

#[test]
fn many_requests_share_a_connection_on_both_sides() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, "server: { workers: 1 }\n");
    let mut connection = gateway.connect();
    for place in 0..50 {
        connection.ask(&post(&format!("/{place}"), "x")).response().assert_ok();
    }
    assert_eq!(upstream.count(), 50);
    assert!(upstream.connections() <= 3, "{} connections for 50 requests in a row", upstream.connections());
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    let requests: Vec<u8> = (0..10).flat_map(|place| post("/", format!("{place}")).making("echo").bytes()).collect();
    let mut connection = gateway.say(requests);
    for place in 0..10 {
        assert_eq!(connection.response().assert_ok().text(), place.to_string());
    }
}

#[test]
fn connection_close_is_obeyed() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    let mut connection = gateway.begin(&get("/").header("Connection", "close"));
    connection.response().assert_ok();
    connection.assert_closed();
}

#[test]
fn an_idle_connection_is_closed_after_its_time() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, "server: { keep_alive_timeout: 300ms }\n");
    let mut connection = gateway.begin(&get("/"));
    connection.response().assert_ok();
    connection.assert_closed();
}

#[test]
fn an_upstream_that_closes_idle_connections_costs_no_request() {
    let upstream = Recorder::doing(|exchange| {
        exchange.read_body();
        exchange.finish("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        exchange.close();
    });
    let gateway = Gateway::before(&upstream);
    let mut connection = gateway.connect();
    for place in 0..40 {
        connection.ask(&get(&format!("/{place}"))).response().assert_ok();
        eventually("its end is seen", || gateway.metric("turnwise_upstream_connections", &[("state", "idle")]) == 0.0);
    }
    assert_eq!(upstream.count(), 40, "each exactly once");
}
