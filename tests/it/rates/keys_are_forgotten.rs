use super::limited;
use crate::harness::{Gateway, Recorder, get};

#[test]
fn a_key_whose_balance_is_full_again_is_forgotten() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &limited("{ per: { header: X-Api-Key }, rate: 50/s, burst: 1 }"));
    let mut connection = gateway.connect();
    for key in 0..50 {
        connection.ask(&get("/").header("X-Api-Key", &key.to_string())).response().assert_ok();
    }
    gateway.wait_metric("turnwise_rate_limit_keys", &[], 0.0);
}

#[test]
fn a_key_that_is_limited_is_not_forgotten_when_others_come() {
    let upstream = Recorder::start();
    let yaml = format!("limits: {{ keys: 10 }}\n{}", limited("{ per: { header: X-Api-Key }, rate: 1/h, burst: 1 }"));
    let gateway = Gateway::with(&upstream, &yaml);
    let mut connection = gateway.connect();
    let of = |key: usize| get("/").header("X-Api-Key", &key.to_string());
    for key in 0..10 {
        connection.ask(&of(key)).response().assert_ok();
    }
    for key in 10..30 {
        connection.ask(&of(key)).response().assert_problem(503, "key_table_full");
    }
    connection.ask(&of(0)).response().assert_problem(429, "rate_limited");
    assert_eq!(gateway.metric("turnwise_rate_limit_keys", &[]), 10.0);
}
