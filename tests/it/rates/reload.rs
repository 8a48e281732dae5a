use super::limited;
use crate::harness::{Gateway, Recorder, get};

#[test]
fn a_balance_survives_a_reload_unless_its_definition_changed() {
    let upstream = Recorder::start();
    let limit = limited("{ per: route, rate: 1/h, burst: 2 }");
    let gateway = Gateway::with(&upstream, &limit);
    gateway.ask(&get("/")).assert_ok();
    gateway.ask(&get("/")).assert_ok();
    gateway.reload(&upstream, &format!("limits: {{ concurrency: 50 }}\n{limit}"));
    gateway.ask(&get("/")).assert_problem(429, "rate_limited");
    gateway.reload(&upstream, &limited("{ per: route, rate: 1/h, burst: 3 }"));
    gateway.ask(&get("/")).assert_ok();
}
