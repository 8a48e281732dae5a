//! What a client is told about its rate.

use super::limited;
use crate::harness::{Gateway, Recorder, get};

#[test]
fn answers_that_pass_and_refusals_tell_policy_and_rest() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &limited("{ name: calls, per: route, rate: 10/min, burst: 3 }"));
    for left in [2, 1, 0] {
        let answer = gateway.ask(&get("/"));
        assert_eq!(answer.assert_ok().header("ratelimit-policy").as_deref(), Some("\"calls\";q=3;w=18"));
        let rest = answer.header("ratelimit").expect("RateLimit");
        assert!(rest.starts_with(&format!("\"calls\";r={left};t=")), "{rest}");
    }
    let refused = gateway.ask(&get("/"));
    refused.assert_problem(429, "rate_limited");
    assert_eq!(refused.header("ratelimit-policy").as_deref(), Some("\"calls\";q=3;w=18"));
    let rest = refused.header("ratelimit").expect("RateLimit");
    let seconds: u64 =
        rest.strip_prefix("\"calls\";r=0;t=").and_then(|t| t.parse().ok()).unwrap_or_else(|| panic!("{rest}"));
    assert!((1..=6).contains(&seconds), "a token comes every 6 s: {rest}");
    let retry_after: u64 = refused.header("retry-after").and_then(|value| value.parse().ok()).expect("Retry-After");
    assert!((1..=6).contains(&retry_after), "{retry_after}");
    let violated = refused.json()["violated-policies"].clone();
    assert!(violated.to_string().contains("calls"), "{violated}");
    assert_eq!(upstream.count(), 3);
    assert_eq!(gateway.metric("turnwise_rejected_total", &[("route", "runs"), ("reason", "rate_limited")]), 1.0);
}

#[test]
fn the_name_is_what_it_is_per_when_none_is_given() {
    let upstream = Recorder::start();
    for (per, name) in [("client_ip", "client_ip"), ("route", "route"), ("{ header: X-Api-Key }", "x-api-key")] {
        let gateway = Gateway::with(&upstream, &limited(&format!("{{ per: {per}, rate: 5/s, burst: 10 }}")));
        let policy = gateway.ask(&get("/")).assert_ok().header("ratelimit-policy");
        assert_eq!(policy, Some(format!("\"{name}\";q=10;w=2")));
    }
}

#[test]
fn the_tightest_limit_is_told() {
    let upstream = Recorder::start();
    let limits =
        "{ name: wide, per: route, rate: 100/h, burst: 50 }, { name: tight, per: client_ip, rate: 100/h, burst: 2 }";
    let gateway = Gateway::with(&upstream, &limited(limits));
    let rest = gateway.ask(&get("/")).assert_ok().header("ratelimit").expect("RateLimit");
    assert!(rest.starts_with("\"tight\";r=1;"), "{rest}");
}
