//! A failure before the response head is a 502 with its reason.

use crate::harness::{Exchange, Gateway, Recorder, get, post};

#[track_caller]
fn broken(behaviour: impl Fn(&mut Exchange) + Send + Sync + 'static) {
    let upstream = Recorder::doing(behaviour);
    let gateway = Gateway::before(&upstream);
    let answer = gateway.ask(&post("/", "once"));
    answer.assert_problem(502, "upstream_broken");
    assert_eq!(upstream.count(), 1, "what may have been processed is not tried again");
    assert!(gateway.metric("turnwise_upstream_errors_total", &[("upstream", "agents")]) >= 1.0);
    assert_eq!(gateway.metric("turnwise_upstream_retries_total", &[]), 0.0);
    gateway.wait_metric("turnwise_requests_total", &[("code", "502")], 1.0);
}

#[test]
fn a_refused_connection() {
    let upstream = Recorder::start();
    upstream.stop_listening();
    let gateway = Gateway::before(&upstream);
    let answer = gateway.ask(&get("/"));
    answer.assert_problem(502, "upstream_connect");
    assert!(answer.header("proxy-status").unwrap_or_default().contains("error=connection_refused"));
}

#[test]
fn a_reset_before_the_head() {
    broken(|exchange| {
        exchange.read_body();
        exchange.reset();
    });
}

#[test]
fn a_close_before_the_head() {
    broken(|exchange| {
        exchange.read_body();
        exchange.close();
    });
}

#[test]
fn a_close_within_the_head() {
    broken(|exchange| {
        exchange.read_body();
        exchange.write("HTTP/1.1 200 OK\r\nContent-");
        exchange.close();
    });
}

#[test]
fn nonsense() {
    broken(|exchange| {
        exchange.read_body();
        exchange.write("220 mail.example ESMTP\r\n\r\n");
        exchange.close();
    });
}

#[test]
fn a_head_that_never_ends() {
    broken(|exchange| {
        exchange.read_body();
        exchange.write("HTTP/1.1 200 OK\r\n");
        for place in 0..200_000 {
            if !exchange.write(format!("X-{place}: {}\r\n", "y".repeat(100))) {
                break;
            }
        }
        exchange.close();
    });
}
