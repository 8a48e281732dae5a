use crate::harness::{Gateway, Recorder, eventually, get};

#[test]
fn for_a_while_it_is_not_ready_but_still_serves() {
    let upstream = Recorder::start();
    let mut gateway = Gateway::with(&upstream, "server: { drain_delay: 2s }\n");
    gateway.signal("TERM");
    eventually("readiness falls", || gateway.admin(&get("/-/ready")).status == 503);
    for _ in 0..5 {
        gateway.ask(&get("/")).assert_ok();
    }
    assert_eq!(gateway.exit_code(), 0);
    assert_eq!(upstream.count(), 5);
}
