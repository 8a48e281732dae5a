//! Waiting for a state instead of for a time.

use std::time::{Duration, Instant};

/// How long anything may take before a test fails instead of hanging. Generous: it is no claim about speed.
pub const BOUND: Duration = Duration::from_secs(30);

/// Asks again and again until the answer is yes; fails with `what` after [`BOUND`].
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    if !within(BOUND, &mut holds) {
        panic!("not within {BOUND:?}: {what}");
    }
}

/// As [`eventually`], for tests that drive a connection meanwhile.
pub async fn soon(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < BOUND, "not within {BOUND:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// As [`eventually`], with the answer instead of a failure.
pub fn within(bound: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    let mut pause = Duration::from_millis(1);
    while !holds() {
        if started.elapsed() > bound {
            return false;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
    true
}

/// A pause in which something that must not happen gets its chance to happen. Never used to let something happen.
pub fn give_it_a_chance() {
    std::thread::sleep(Duration::from_millis(150));
}
