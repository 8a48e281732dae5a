use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::{Gateway, Recorder, get};

#[test]
fn a_server_that_fails_its_check_gets_nothing_until_it_passes_again() {
    let well = Arc::new(AtomicBool::new(true));
    let answering = Arc::clone(&well);
    let upstream = Recorder::doing(move |exchange| {
        if exchange.head.word(1) == "/health" && !answering.load(Ordering::SeqCst) {
            return exchange.finish("HTTP/1.1 500 Ill\r\nContent-Length: 0\r\n\r\n");
        }
        exchange.obey();
    });
    let gateway = Gateway::with(
        &upstream,
        "upstreams: { agents: { servers: [\"{upstream}\"], health: { path: /health, interval: 100ms, timeout: 1s, unhealthy_after: 2 } } }\n",
    );
    let healthy = [("upstream", "agents")];
    gateway.wait_metric("turnwise_upstream_healthy", &healthy, 1.0);
    gateway.ask(&get("/")).assert_ok();
    assert_eq!(gateway.json("/health")["status"], "healthy");

    well.store(false, Ordering::SeqCst);
    gateway.wait_metric("turnwise_upstream_healthy", &healthy, 0.0);
    gateway.ask(&get("/refused")).assert_problem(503, "upstream_unavailable");
    assert_eq!(gateway.admin(&get("/health")).json()["status"], "degraded");
    assert_eq!(gateway.admin(&get("/-/healthy")).status, 200);

    well.store(true, Ordering::SeqCst);
    gateway.wait_metric("turnwise_upstream_healthy", &healthy, 1.0);
    gateway.ask(&get("/again")).assert_ok();
    assert!(!upstream.targets().contains(&"/refused".to_owned()));
}

#[test]
fn an_ill_server_is_left_out_and_the_others_serve() {
    let ill = Recorder::doing(|exchange| match exchange.head.word(1) {
        "/health" => exchange.finish("HTTP/1.1 500 Ill\r\nContent-Length: 0\r\n\r\n"),
        _ => exchange.obey(),
    });
    let well = Recorder::start();
    let yaml = format!(
        "upstreams: {{ agents: {{ servers: [\"{}\", \"{}\"], health: {{ path: /health, interval: 100ms, unhealthy_after: 1 }} }} }}\n",
        ill.url(),
        well.url()
    );
    let gateway = Gateway::with(&well, &yaml);
    gateway.wait_metric("turnwise_upstream_healthy", &[("upstream", "agents")], 1.0);
    for _ in 0..10 {
        gateway.ask(&get("/work")).assert_ok();
    }
    assert!(!ill.targets().contains(&"/work".to_owned()));
}

#[test]
fn checks_take_no_place_and_are_no_requests() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(
        &upstream,
        "limits: { concurrency: 1 }\nupstreams: { agents: { servers: [\"{upstream}\"], health: { path: /health, interval: 50ms } } }\n",
    );
    let mut running = gateway.begin(&get("/run").making("hold"));
    upstream.wait_seen(8);
    upstream.open();
    running.response().assert_ok();
    gateway.wait_metric("turnwise_requests_total", &[], 1.0);
}
