use super::in_force;
use crate::harness::{Gateway, Recorder, eventually, get};

#[test]
fn what_needs_a_restart_is_a_warning_and_the_rest_applies() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    gateway.reload(&upstream, "listen: 127.0.0.1:1\nserver: { workers: 7 }\nlimits: { concurrency: 9 }\n");
    in_force(&gateway, 9);
    gateway.ask(&get("/")).assert_ok();
    for key in ["listen", "server.workers"] {
        eventually(key, || gateway.log().lines().any(|line| line.contains("WARN") && line.contains(key)));
    }
}
