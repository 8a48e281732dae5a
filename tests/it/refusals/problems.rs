use crate::harness::{Gateway, Recorder, get, request};

#[test]
fn no_route_is_a_404_with_everything_that_a_problem_says() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, "routes: [{ name: a, match: { path: /a }, upstream: agents }]\n");
    let mut connection = gateway.connect();
    for _ in 0..2 {
        connection.ask(&get("/b")).response().assert_problem(404, "no_route");
    }
    connection.ask(&get("/a")).response().assert_ok();
    gateway.wait_metric("turnwise_rejected_total", &[("reason", "no_route")], 2.0);
}

#[test]
fn a_refused_head_request_has_no_body() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, "routes: [{ name: a, match: { path: /a }, upstream: agents }]\n");
    let mut connection = gateway.connect();
    let refused = connection.ask(&request("HEAD", "/b")).response_to("HEAD").expect("an answer");
    assert_eq!(refused.status, 404);
    connection.ask(&get("/a")).response().assert_ok();
}

#[test]
fn text_of_inner_errors_stays_inside() {
    let upstream = Recorder::start();
    let address = upstream.address().to_string();
    upstream.stop_listening();
    let gateway = Gateway::with(&upstream, "");
    let answer = gateway.ask(&get("/"));
    let said = answer.assert_problem(502, "upstream_connect").text();
    for inner in [address.as_str(), "os error", "hyper", "Connection refused"] {
        assert!(!said.contains(inner), "{said}");
    }
}
