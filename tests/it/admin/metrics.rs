//! Names of metrics are part of the product.

use crate::harness::{Gateway, Recorder, get};

const NAMES: [&str; 27] = [
    "turnwise_requests_total",
    "turnwise_request_duration_seconds",
    "turnwise_queue_wait_seconds",
    "turnwise_upstream_duration_seconds",
    "turnwise_in_flight_requests",
    "turnwise_waiting_requests",
    "turnwise_queue_bytes",
    "turnwise_oldest_wait_seconds",
    "turnwise_oldest_in_flight_seconds",
    "turnwise_concurrency_limit",
    "turnwise_rejected_total",
    "turnwise_abandoned_total",
    "turnwise_sessions_active",
    "turnwise_rate_limit_keys",
    "turnwise_upstream_healthy",
    "turnwise_upstream_ejections_total",
    "turnwise_upstream_connections",
    "turnwise_upstream_errors_total",
    "turnwise_upstream_retries_total",
    "turnwise_connections",
    "turnwise_config_last_reload_successful",
    "turnwise_config_last_reload_success_timestamp_seconds",
    "turnwise_config_reloads_total",
    "turnwise_config_generation",
    "turnwise_build_info",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
];

#[test]
fn every_name_is_there_once_each_has_had_a_reason() {
    let (gone, upstream) = (Recorder::start(), Recorder::start());
    gone.stop_listening();
    let yaml = format!(
        "limits: {{ concurrency: 1, queue_timeout: 150ms }}
defaults: {{ body_limit: 1MiB }}
upstreams:
  agents: {{ servers: [\"{}\", \"{}\"], balance: round_robin, eject: {{ after_failures: 1, for: 60s }} }}
",
        gone.url(),
        upstream.url()
    );
    let gateway = Gateway::with(&upstream, &yaml);
    for _ in 0..4 {
        gateway.ask(&get("/")).assert_ok();
    }
    let left = gateway.begin(&get("/").making("hold"));
    upstream.wait_running(1);
    gateway.ask(&get("/")).assert_problem(503, "queue_timeout");
    left.leave();
    upstream.open();
    gateway.assert_all_gauges_zero();
    gateway.reload(&upstream, &yaml);
    let metrics = gateway.metrics();
    let families = metrics.families();
    let missing: Vec<_> = NAMES.iter().filter(|name| !families.contains(name)).collect();
    assert!(missing.is_empty(), "{missing:?} are missing in\n{}", metrics.text);
    for (name, label) in [
        ("turnwise_requests_total", "method=\"GET\""),
        ("turnwise_requests_total", "code=\"499\""),
        ("turnwise_rejected_total", "reason=\"queue_timeout\""),
        ("turnwise_concurrency_limit", "scope=\"global\""),
        ("turnwise_upstream_connections", "state=\"idle\""),
        ("turnwise_build_info", concat!("version=\"", env!("CARGO_PKG_VERSION"), "\"")),
    ] {
        assert!(metrics.series(name).iter().any(|(labels, _)| labels.contains(label)), "{name} has no {label}");
    }
}

#[test]
fn no_label_ever_carries_what_a_client_made_up() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(
        &upstream,
        "routes:\n  - { name: runs, match: { path_prefix: / }, upstream: agents, session: { key: [{ header: X-Session-Id }] } }\n",
    );
    let mut connection = gateway.connect();
    for place in 0..30 {
        let asked = crate::harness::request(&format!("MADEUP{place}"), &format!("/madeup{place}"));
        connection.ask(&asked.session(&format!("madeup{place}"))).response().assert_ok();
    }
    let text = gateway.metrics().text.to_lowercase();
    assert!(!text.contains("madeup"), "{text}");
}

#[test]
fn gauges_are_true_while_something_goes_on() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(
        &upstream,
        "routes:\n  - { name: runs, match: { path_prefix: / }, upstream: agents, session: { key: [{ header: X-Session-Id }] } }\n",
    );
    let mut running = gateway.begin(&get("/").session("a").making("hold"));
    upstream.wait_seen(1);
    let mut waiting = gateway.begin(&get("/").session("a"));
    gateway.wait_for_turn(1);
    let runs = [("route", "runs")];
    assert_eq!(gateway.metric("turnwise_in_flight_requests", &runs), 1.0);
    assert_eq!(gateway.metric("turnwise_waiting_requests", &[("route", "runs"), ("queue", "turn")]), 1.0);
    assert_eq!(gateway.metric("turnwise_sessions_active", &[]), 1.0);
    assert!(gateway.metric("turnwise_oldest_wait_seconds", &[]) > 0.0);
    assert!(gateway.metric("turnwise_oldest_in_flight_seconds", &[]) > 0.0);
    assert_eq!(gateway.metric("turnwise_upstream_connections", &[("state", "active")]), 1.0);
    assert!(gateway.metric("turnwise_connections", &[]) >= 2.0);
    upstream.open();
    running.response().assert_ok();
    waiting.response().assert_ok();
    gateway.wait_metric("turnwise_requests_total", &[("route", "runs"), ("method", "GET"), ("code", "200")], 2.0);
    assert_eq!(gateway.metric("turnwise_request_duration_seconds_count", &runs), 2.0);
    assert!(gateway.metric("turnwise_queue_wait_seconds_sum", &[("route", "runs"), ("queue", "turn")]) > 0.0);
    assert_eq!(gateway.metric("turnwise_upstream_duration_seconds_count", &[("upstream", "agents")]), 2.0);
}
