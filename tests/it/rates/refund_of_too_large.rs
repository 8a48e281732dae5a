use crate::harness::{Gateway, Recorder, get, post, request};

#[test]
fn a_body_that_is_too_large_spends_nothing() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(
        &upstream,
        "routes:
  - { name: runs, match: { path_prefix: / }, upstream: agents, body_limit: 10, rate_limits: [{ per: route, rate: 1/h, burst: 1 }] }
",
    );
    let large = "x".repeat(32);
    for _ in 0..3 {
        gateway.ask(&request("POST", "/").chunked(&[&large], &[])).assert_problem(413, "body_too_large");
        gateway.ask(&post("/", &large)).assert_problem(413, "body_too_large");
    }
    gateway.ask(&get("/fits")).assert_ok();
    gateway.ask(&get("/spent")).assert_problem(429, "rate_limited");
}
