use crate::harness::{Gateway, Recorder, get};

/// Milliseconds of one metric.
fn duration(timing: &str, name: &str) -> f64 {
    let metric = timing.split(',').find(|metric| metric.trim().split(';').next() == Some(name));
    let metric = metric.unwrap_or_else(|| panic!("no {name} in {timing:?}"));
    let value = metric.split(';').find_map(|part| part.trim().strip_prefix("dur="));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no dur of {name} in {timing:?}"))
}

#[test]
fn the_upstreams_own_is_kept_beside_it() {
    let upstream = Recorder::saying("HTTP/1.1 200 OK\r\nServer-Timing: model;dur=7\r\nContent-Length: 0\r\n\r\n");
    let gateway = Gateway::before(&upstream);
    let timing = gateway.ask(&get("/")).assert_ok().header("server-timing").expect("Server-Timing");
    assert!((duration(&timing, "model") - 7.0).abs() < 0.01, "{timing}");
    duration(&timing, "queue");
    duration(&timing, "upstream");
}
