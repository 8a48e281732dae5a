//! Only what was certainly not processed is tried again.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::{Gateway, Recorder, get, post};

#[test]
fn a_refused_connection_is_tried_at_another_server() {
    let (gone, good) = (Recorder::start(), Recorder::start());
    gone.stop_listening();
    let yaml = format!(
        "upstreams: {{ agents: {{ servers: [\"{}\", \"{}\"], balance: round_robin, eject: {{ after_failures: 1000, for: 1s }} }} }}\n",
        gone.url(),
        good.url()
    );
    let gateway = Gateway::with(&good, &yaml);
    for place in 0..10 {
        assert_eq!(gateway.ask(&post("/", format!("{place}")).making("echo")).assert_ok().text(), place.to_string());
    }
    assert_eq!(good.count(), 10);
    assert!(gateway.metric("turnwise_upstream_retries_total", &[("upstream", "agents")]) >= 4.0);
}

/// Answers with `status` the first time and `200` from then on.
fn first(status: &'static str) -> Recorder {
    let asked = AtomicUsize::new(0);
    Recorder::doing(move |exchange| {
        exchange.read_body();
        let status = if asked.fetch_add(1, Ordering::SeqCst) == 0 { status } else { "200 OK" };
        exchange.finish(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"));
    })
}

#[test]
fn a_status_is_passed_on_unless_the_policy_says_to_try_again() {
    let upstream = first("503 Busy");
    let gateway = Gateway::before(&upstream);
    assert_eq!(gateway.ask(&get("/")).status, 503);
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_503_or_429_is_tried_again_when_the_policy_says_so() {
    for (status, word) in [("503 Busy", "status_503"), ("429 Slow", "status_429")] {
        let upstream = first(status);
        let yaml = format!(
            "upstreams: {{ agents: {{ servers: [\"{{upstream}}\"], retry: {{ attempts: 2, on: [{word}] }} }} }}\n"
        );
        let gateway = Gateway::with(&upstream, &yaml);
        assert_eq!(gateway.ask(&post("/", "small").json()).status, 200, "{word}");
        assert_eq!(upstream.count(), 2);
        assert_eq!(upstream.peak(), 1);
    }
}

#[test]
fn attempts_are_bounded() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(
        &upstream,
        "upstreams: { agents: { servers: [\"{upstream}\"], retry: { attempts: 3, on: [status_503] } } }\n",
    );
    assert_eq!(gateway.ask(&get("/").making("status 503")).status, 503);
    assert_eq!(upstream.count(), 3);
}
