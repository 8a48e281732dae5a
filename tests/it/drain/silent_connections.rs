use crate::harness::{Gateway, Recorder, get};

/// Longer than any test waits.
const PATIENT: &str = "server: { header_timeout: 5m, keep_alive_timeout: 5m, drain_timeout: 5m }\n";

#[test]
fn a_connection_that_says_nothing_does_not_delay_the_end() {
    let upstream = Recorder::start();
    let mut gateway = Gateway::with(&upstream, PATIENT);
    let mut silent = gateway.connect();
    gateway.ask(&get("/")).assert_ok();
    gateway.wait_metric("turnwise_connections", &[], 1.0);
    gateway.signal("TERM");
    assert_eq!(gateway.exit_code(), 0);
    silent.assert_closed();
}
