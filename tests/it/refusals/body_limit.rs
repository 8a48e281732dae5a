use crate::harness::{Gateway, Recorder, get, post, request};

const LIMITED: &str = "defaults: { body_limit: 1KiB }\n";

#[test]
fn a_body_that_says_it_is_too_large_never_begins() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, LIMITED);
    gateway.ask(&post("/", "x".repeat(1025))).assert_problem(413, "body_too_large");
    assert_eq!(upstream.count(), 0);
    gateway.ask(&post("/", "x".repeat(1024))).assert_ok();
    gateway.wait_metric("turnwise_rejected_total", &[("reason", "body_too_large")], 1.0);
}

#[test]
fn a_chunked_body_that_becomes_too_large_is_never_whole_upstream() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, LIMITED);
    let piece = "x".repeat(600);
    gateway.ask(&request("POST", "/").chunked(&[&piece, &piece], &[])).assert_problem(413, "body_too_large");
    assert!(upstream.seen().iter().all(|seen| !seen.body.whole));
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("turnwise_upstream_errors_total", &[]).unwrap_or(0.0), 0.0, "{}", metrics.text);
    gateway.ask(&request("POST", "/").chunked(&[&piece], &[])).assert_ok();
}

#[test]
fn a_body_that_is_read_for_its_key_has_the_same_limit() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(
        &upstream,
        "defaults: { body_limit: 1KiB }\nroutes:\n  - { name: runs, match: { path_prefix: / }, upstream: agents, session: { key: [{ json: /id }] } }\n",
    );
    let large = format!("{{\"id\":\"a\",\"text\":\"{}\"}}", "x".repeat(2000));
    gateway.ask(&post("/", &large).json()).assert_problem(413, "body_too_large");
    gateway.ask(&request("POST", "/").json().chunked(&[&large], &[])).assert_problem(413, "body_too_large");
    assert_eq!(upstream.count(), 0);
}

#[test]
fn the_connection_is_closed_or_in_order_after_a_413() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, LIMITED);
    let mut connection = gateway.connect();
    connection.ask(&post("/", "x".repeat(100_000)));
    connection.response().assert_problem(413, "body_too_large");
    if let Some(answer) = connection.ask(&get("/next")).response_to("GET") {
        answer.assert_ok();
    }
    assert!(upstream.targets().iter().all(|target| target == "/next"));
}
