use std::time::Duration;

use crate::harness::{Gateway, Recorder, get};

#[test]
fn keys_whose_buckets_are_full_again_make_room_for_others() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(
        &upstream,
        "limits: { keys: 4 }
routes:
  - { name: runs, match: { path_prefix: / }, upstream: agents, rate_limits: [{ per: { header: X-Api-Key }, rate: 1000/s, burst: 10 }] }
",
    );
    for place in 0..40 {
        gateway.ask(&get("/").header("X-Api-Key", &format!("key-{place}"))).assert_ok();
        std::thread::sleep(Duration::from_millis(2)); // longer than a token takes to come back
    }
}

#[test]
fn full_buckets_of_one_limit_make_room_for_those_of_another() {
    let upstream = Recorder::start();
    let limit = |path: &str, name: &str| {
        format!(
            "  - {{ name: {name}, match: {{ path: {path} }}, upstream: agents, rate_limits: [{{ per: {{ header: X-Api-Key }}, rate: 1000/s, burst: 10 }}] }}\n"
        )
    };
    let yaml = format!("limits: {{ keys: 4 }}\nroutes:\n{}{}", limit("/one", "one"), limit("/other", "other"));
    let gateway = Gateway::with(&upstream, &yaml);
    for place in 0..4 {
        gateway.ask(&get("/one").header("X-Api-Key", &format!("key-{place}"))).assert_ok();
    }
    std::thread::sleep(Duration::from_millis(2));
    gateway.ask(&get("/other").header("X-Api-Key", "key")).assert_ok();
}

#[test]
fn buckets_that_are_full_again_make_room_for_sessions() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(
        &upstream,
        "limits: { keys: 4 }
routes:
  - { name: runs, match: { path_prefix: / }, upstream: agents, session: { key: [{ header: X-Session-Id }] }, rate_limits: [{ per: session, rate: 1000/s, burst: 10 }] }
",
    );
    for place in 0..20 {
        gateway.ask(&get("/").session(&format!("session-{place}"))).assert_ok();
        // Longer than a token takes to come back, and than room is not looked for again after it was made.
        std::thread::sleep(Duration::from_millis(15));
    }
}
